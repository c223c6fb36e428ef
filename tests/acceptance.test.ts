// The acceptance scenarios of state management for agent loops that need a whole state, on every store: ids, idempotent
// execution, deadlines over a restart, read commands that never write, imports that are repeated and interrupted.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { openState } from "../src/state.ts";
import { isPawlError } from "../src/base/errors.ts";
import { eventually, place } from "./pawl.ts";
import { statePlace } from "./places.ts";
import { query } from "./postgres.ts";

/** Every file below a folder with its size and time of change; -wal and -shm are SQLite's own and change on reading. */
function snapshot(folder: string): string {
  const walk = (path: string): string[] =>
    readdirSync(path, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? walk(join(path, entry.name)) : /-(wal|shm)$/.test(entry.name) ? [] : [`${join(path, entry.name)} ${statSync(join(path, entry.name)).size} ${statSync(join(path, entry.name)).mtimeMs}`]));
  return walk(folder).sort().join("\n");
}

/** All rows of all tables of a Postgres state, in short; nothing else there counts how often it was read. */
async function contents(url: string): Promise<string> {
  const schema = new URL(url).searchParams.get("schema")!;
  const tables = (await query(url, `select table_name as name from information_schema.tables where table_schema = '${schema}' order by 1`)).map(({ name }) => String(name));
  return JSON.stringify(await query(url, tables.map((name) => `select '${name}' as name, count(*), md5(string_agg(t::text, ',' order by t::text)) from ${schema}.${name} t`).join(" union all ")));
}

async function placeOn(t: TestContext, file: string) {
  const at = place(t, file === "postgres" ? (await statePlace(t, file)).url : file);
  return { ...at, snapshot: async () => (file === "postgres" ? contents(at.state) : snapshot(at.folder)) };
}

for (const file of ["state.json", "state.db", "postgres"]) {
  test(`scenario 6, ${file}: ids never repeat, not after removing the last and not across processes`, async (t) => {
    const at = await placeOn(t, file);
    assert.equal((await at.json<{ id: number }>(["add", "one"])).id, 1);
    assert.equal((await at.json<{ id: number }>(["add", "two"])).id, 2);
    assert.equal((await at.pawl(["rm", "2"])).code, 0);
    const added = await Promise.all([at.json<{ id: number }>(["add", "three"]), at.json<{ id: number }>(["add", "four"]), at.json<{ id: number }>(["add", "five"])]);
    assert.deepEqual(added.map((task) => task.id).sort(), [3, 4, 5]);
    assert.match((await at.pawl(["history", "2"])).stdout, /removed/);
  });

  test(`scenario 8, ${file}: executed twice, in sequence and side by side, the effect happens once and all get the result`, async (t) => {
    const at = await placeOn(t, file);
    const state = await openState(at.state);
    const task = await state.tasks.add({ description: "charge the card" });
    let effects = 0;
    const charge = async () => {
      effects++;
      await new Promise((resolve) => setTimeout(resolve, 50));
      return { receipt: 42 };
    };
    assert.deepEqual(await Promise.all([state.tasks.executeOnce(task.id, charge), state.tasks.executeOnce(task.id, charge)]), [{ receipt: 42 }, { receipt: 42 }]);
    assert.deepEqual(await state.tasks.executeOnce(task.id, charge), { receipt: 42 });
    await state.close();
    const reopened = await openState(at.state);
    assert.deepEqual(await reopened.tasks.executeOnce(task.id, charge), { receipt: 42 });
    await reopened.close();
    assert.equal(effects, 1);
  });

  test(`scenario 10, ${file}: a deadline is the same instant after a restart; a hung attempt is aborted at its own limit`, async (t) => {
    const at = await placeOn(t, file);
    const state = await openState(at.state);
    const deadline_at = new Date(Date.now() + 700).toISOString();
    const task = await state.tasks.add({ description: "hangs", deadline_at });
    const quick = await state.tasks.add({ description: "hangs too", timeout_ms: 60, max_attempts: 1 });
    await state.close();
    const again = await openState(at.state);
    assert.equal((await again.tasks.get(task.id)).deadline_at, deadline_at);
    const aborted: string[] = [];
    const worker = again.work({
      concurrency: 2,
      execute: (_, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => (aborted.push((signal.reason as Error).message), reject(signal.reason as Error)))),
    });
    await worker.idle();
    const [late, hung] = [await again.tasks.get(task.id), await again.tasks.get(quick.id)];
    assert.deepEqual([late.status, late.error?.message], ["failed", "deadline exceeded"]);
    assert.deepEqual([hung.status, hung.error?.message], ["failed", "timed out after 60 ms"]);
    assert.deepEqual(aborted, ["timed out after 60 ms", "deadline exceeded"]);
    await assert.rejects(again.tasks.retry(task.id), (error) => isPawlError(error, "deadline"));
    await again.close();
  });

  test(`scenario 20, ${file}: commands that read never write; resets keep the history`, async (t) => {
    const at = await placeOn(t, file);
    await at.pawl(["add", "one"]);
    await at.pawl(["run", "--exec", "echo ok"]);
    const before = await at.snapshot();
    for (const args of [["status"], ["list"], ["show", "1"], ["history", "1"], ["why", "1"], ["inbox"], ["next"], ["export"], ["batch", "list"]]) assert.equal((await at.pawl(args)).code, 0, args.join(" "));
    assert.equal(await at.snapshot(), before);
    assert.equal((await at.pawl(["reset", "1"])).code, 0);
    assert.equal((await at.pawl(["reset", "--all"])).code, 0);
    const events = (await at.json<{ event: string }[]>(["history", "1"])).map((event) => event.event);
    assert.deepEqual(events, ["created", "claimed", "completed", "reset", "reset"]);
    const [task] = await at.json<{ status: string; attempts: number; result: unknown; started_at: unknown }[]>(["list"]);
    assert.deepEqual([task!.status, task!.attempts, task!.result, task!.started_at], ["pending", 0, null, null]);
  });

  test(`scenario 21, ${file}: imported twice, and killed in the middle of an import: each line is there once`, async (t) => {
    const at = await placeOn(t, file);
    const lines = Array.from({ length: 8000 }, (_, i) => `task number ${i}`);
    at.write("many.txt", lines.join("\n"));
    const first = at.start(["import", "many.txt"]);
    const begun = async () => (file === "postgres" ? (await contents(at.state)).includes('"item","count":"0"') : existsSync(file.endsWith(".json") ? `${at.state}.pawl/journal` : `${at.state}-wal`));
    await eventually(begun, "the import has begun");
    await new Promise((resolve) => setTimeout(resolve, 60));
    first.child.kill("SIGKILL");
    await first.ended;
    assert.equal((await at.pawl(["import", "many.txt"])).code, 0);
    assert.match((await at.pawl(["import", "many.txt"])).stdout, /0 added, 8000 known already/);
    const state = await openState(at.state, { readOnly: true });
    const tasks = await state.tasks.all();
    await state.close();
    assert.deepEqual(tasks.map((task) => task.description).sort(), [...lines].sort());
  });

  test(`the JSON view and --json say the same, ${file}`, { skip: !file.endsWith(".json") && "only JSON states have a view" }, async (t) => {
    const at = await placeOn(t, file);
    await at.pawl(["add", "Write a haiku about loops"]);
    await at.pawl(["run", "--exec", "echo Endless turning wheel"]);
    const view = JSON.parse(readFileSync(at.state, "utf8")) as { pawl: { format: number }; tasks: { id: number; description: string; status: string; result: string }[] };
    assert.equal(view.pawl.format, 1);
    assert.deepEqual(view.tasks.map(({ id, description, status, result }) => ({ id, description, status, result })), [{ id: 1, description: "Write a haiku about loops", status: "completed", result: "Endless turning wheel" }]);
  });
}

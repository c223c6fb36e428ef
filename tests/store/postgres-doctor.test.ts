// A Postgres state as a place: each fault of server, rights, tables and counts is made for real and must be named with what
// helps; a repair mends it and says so; a backup is one moment in a file, taken while others write.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { FINDINGS, type Finding, type FindingCode } from "../../src/base/finding.ts";
import { systemRandom } from "../../src/base/id.ts";
import { contentHash } from "../../src/core/copy.ts";
import { KINDS } from "../../src/core/kinds.ts";
import { openState, placeAt } from "../../src/state.ts";
import { MODEL } from "../../src/state/opening.ts";
import { diagnosePostgres } from "../../src/store/postgres/doctor.ts";
import { place } from "../pawl.ts";
import { dropSchema, inSchema, newSchema, postgresUrl, query } from "../postgres.ts";

const quiet = { actor: "ann", notice: () => undefined };
const codes = (findings: readonly Finding[]): string[] => findings.map(({ code }) => code);

type Sick = { readonly url: string; readonly schema: string; sql(...texts: string[]): Promise<Record<string, unknown>[]>; doctor(deep?: boolean): Promise<readonly Finding[]> };

/** A state with thirty tasks, five of them done with steps, in a schema of its own. */
async function sick(t: TestContext, server?: string): Promise<Sick> {
  const base = server ?? (await postgresUrl());
  const schema = newSchema();
  if (server === undefined) t.after(() => dropSchema(base, schema));
  const url = inSchema(base, schema);
  const state = await openState(url, quiet);
  await state.tasks.addAll([...Array(21)].map((_, i) => ({ description: `task ${i}` })));
  await state.tasks.addAll([...Array(9)].map((_, i) => ({ description: `behind ${i}`, depends_on: [i + 10] })));
  const worker = state.work({ concurrency: 3, maxTasks: 5, execute: (task, { step }) => step("s", () => task.id) });
  while (worker.claiming) await worker.nextEvent();
  await worker.stop();
  await state.close();
  return { url, schema, sql: (...texts) => query(base, `set search_path to ${schema}`, ...texts), doctor: async (deep = false) => (await placeAt(url, quiet).doctor({ deep })).findings };
}

test("each fault is named, with what helps, and one repair mends what can be mended", async (t) => {
  const state = await sick(t);
  assert.deepEqual(await state.doctor(true), []);
  // Made, found, and how it is taken back when a repair does not.
  const faults: [string, FindingCode, string | null][] = [
    ["drop index task_by_due", "schema_damaged", null],
    ["alter table task drop column feedback", "schema_damaged", null],
    ["drop table pawl_counts", "schema_damaged", null],
    ["update pawl_counts set n = n + 1 where value = '[\"pending\"]'", "counts_wrong", null],
    ["update pawl set value = 'another' where name = 'schema'", "schema_old", "update pawl set value = value where name = 'schema'"],
    ["grant select on task to public", "open_to_others", "revoke select on task from public"],
    ["update transition set actor = 'eve' where task_id = 4 and seq = 1", "chain_broken", "update transition set actor = 'ann' where task_id = 4 and seq = 1"],
    ["update task set status = 'completed' where id = 15", "status_unexplained", "update task set status = 'pending' where id = 15"],
    ["update task set ready = false where id = 16", "ready_wrong", null],
    ["insert into step (task_id, round, key, name, status, started_at) values (4711, 1, 's', 's', 'completed', '2026-01-01T00:00:00.000Z')", "dangling", "delete from step where task_id = 4711"],
  ];
  for (const [wrong, code, right] of faults) {
    const [kept] = code === "schema_old" ? await state.sql("select value from pawl where name = 'schema'") : [];
    await state.sql(wrong);
    const found = (await state.doctor(true)).find((one) => one.code === code);
    assert.ok(found, `${wrong}: ${code} is not among ${JSON.stringify(await state.doctor(true))}`);
    assert.equal(found.severity, FINDINGS[code]);
    assert.ok(found.message.length > 15 && (found.severity === "note" || found.next), JSON.stringify(found));
    if (kept) await state.sql(`update pawl set value = '${String(kept["value"])}' where name = 'schema'`);
    else if (right !== null) await state.sql(right);
    else assert.ok((await placeAt(state.url, quiet).repair({ deep: true })).done.length > 0, wrong);
    assert.deepEqual((await state.doctor(true)).map(({ code, message }) => `${code}: ${message}`), [], `after ${wrong}`);
  }
  assert.deepEqual((await placeAt(state.url, quiet).repair()).done, [], "a second time there is nothing to do");
});

test("a newer format, another program's table, no such place, a server that does not answer", async (t) => {
  const state = await sick(t);
  await state.sql("update pawl set value = '9' where name = 'format'");
  assert.deepEqual(codes(await state.doctor()), ["newer_format"]);
  const gone = placeAt("postgres://ann@127.0.0.1:1/nowhere", quiet);
  assert.deepEqual(codes((await gone.doctor()).findings), ["unreadable"]);
  assert.equal(await placeAt(inSchema(await postgresUrl(), newSchema()), quiet).exists(), false);
  await assert.rejects(placeAt(inSchema(await postgresUrl(), newSchema()), quiet).backup(), { code: "not_found" });
});

test("rights that are missing, a transaction that hangs, clocks that differ, a database that takes no writes", async (t) => {
  const state = await sick(t);
  const role = `r_${state.schema}`;
  t.after(() => state.sql(`drop owned by ${role}`, `drop role ${role}`));
  await state.sql(`create role ${role} login`, `grant usage on schema ${state.schema} to ${role}`);
  const url = new URL(state.url);
  url.username = role;
  const asRole = async () => (await placeAt(url.href, quiet).doctor()).findings;
  assert.deepEqual(codes(await asRole()), ["unreadable"]);
  await state.sql(`grant select on all tables in schema ${state.schema} to ${role}`);
  assert.deepEqual(codes(await asRole()), ["rights_missing"]);
  await state.sql(`grant insert, update, delete on all tables in schema ${state.schema} to ${role}`);
  assert.deepEqual(await asRole(), []);
  // A whole day of work under that role.
  const worked = await openState(url.href, quiet);
  await worked.tasks.addAll([...Array(20)].map((_, i) => ({ description: `by the role ${i}` })));
  const worker = worked.work({ concurrency: 3, execute: (task, { step }) => step("s", () => task.id) });
  await worker.idle();
  await worker.stop();
  assert.equal((await worked.tasks.count()).completed, 50);
  await worked.tasks.remove(50);
  await worked.close();
  const folder = mkdtempSync(join(tmpdir(), "pawl-role-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  await placeAt(url.href, quiet).backup(join(folder, "backup.db"));
  assert.equal((await placeAt(url.href, quiet).copyTo(join(folder, "copy.db"), { keepOpen: true })).records["task"], 49);
  await assert.rejects(placeAt(url.href, quiet).copyTo(inSchema(url.href, newSchema()), { keepOpen: true }), { code: "storage" });
  assert.deepEqual(await asRole(), []);
  await state.sql(`alter role ${role} set default_transaction_read_only = on`);
  assert.deepEqual(codes(await asRole()), ["server_read_only"]);

  const pg = (await import("pg")).default;
  const holder = new pg.Client({ connectionString: state.url, application_name: "night report" });
  await holder.connect();
  await holder.query("begin");
  await holder.query(`select from ${state.schema}.task`);
  const options = { clock: { ...systemClock, now: () => Date.now() - 3_600_000 }, random: systemRandom };
  const found = await diagnosePostgres(state.url, MODEL, options, { deep: false, lockFolder: "/none", longMs: 0 });
  await holder.end();
  assert.ok(codes(found).includes("clock_apart"));
  assert.match(found.filter(({ code }) => code === "long_transaction").map(({ message }) => message).join(), /night report/);
});

test("a server that may lose what was acknowledged, and a standby", async (t) => {
  const { startPostgres } = await import("../../scripts/postgres.ts");
  const server = await startPostgres(["fsync=off", "full_page_writes=off"]);
  t.after(() => server.stop());
  const state = await sick(t, server.url);
  assert.deepEqual(codes(await state.doctor()), ["server_setting", "server_setting"]);
  // A server that starts in recovery is read as a standby is.
  writeFileSync(join(server.data, "standby.signal"), "", { mode: 0o644 });
  await server.restart("fast");
  assert.deepEqual(codes(await state.doctor()), ["server_setting", "server_setting", "server_read_only"]);
});

test("a backup is one moment, taken while a worker runs; it opens by itself and goes back by a copy", async (t) => {
  const state = await sick(t);
  const folder = mkdtempSync(join(tmpdir(), "pawl-backup-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const live = await openState(state.url, quiet);
  await live.tasks.addAll([...Array(200)].map((_, i) => ({ description: `more ${i}` })));
  const worker = live.work({ concurrency: 4, execute: (task, { step }) => step("s", () => ({ id: task.id })) });
  for (const name of ["a.db", "b.json"]) {
    const done = (await live.tasks.count()).completed;
    const to = await placeAt(state.url, quiet).backup(join(folder, name));
    assert.deepEqual((await placeAt(to, quiet).doctor({ deep: true })).findings.filter(({ severity }) => severity === "error"), []);
    const copy = await openState(to, { ...quiet, readOnly: true });
    assert.ok((await copy.tasks.count()).completed >= done, "what was acknowledged before it began is in it");
    await copy.close();
    assert.equal(statSync(to).mode & 0o077, 0);
  }
  await worker.idle();
  await live.close();
  await assert.rejects(placeAt(state.url, quiet).backup(join(folder, "a.db")), { code: "conflict" });
  for (const to of ["x.txt", "postgres://elsewhere/db"]) await assert.rejects(placeAt(state.url, quiet).backup(to.includes(":") ? to : join(folder, to)), { code: "usage" });
  writeFileSync(join(folder, "file"), "");
  await assert.rejects(placeAt(state.url, quiet).backup(join(folder, "file/c.db")));
  mkdirSync(join(folder, "last"));
  const to = await placeAt(state.url, quiet).backup(join(folder, "last/c.db"));
  const hashOf = async (path: string) => {
    const opened = await openState(path, { ...quiet, readOnly: true });
    return contentHash(opened.committer.store, KINDS).finally(() => opened.close());
  };
  assert.equal((await hashOf(to)).hash, (await hashOf(state.url)).hash);
  const back = inSchema(await postgresUrl(), newSchema());
  t.after(() => dropSchema(back, new URL(back).searchParams.get("schema")!));
  await placeAt(to, quiet).copyTo(back, { keepOpen: true });
  assert.equal((await hashOf(back)).hash, (await hashOf(to)).hash);
  assert.deepEqual((await placeAt(back, quiet).doctor({ deep: true })).findings, []);
  const again = await openState(back, quiet);
  assert.equal((await again.tasks.add({ description: "goes on" })).id, 231);
  await again.close();
});

test("the SQL of docs/postgres.md: the queries run, and the roles can do what is said of them", async (t) => {
  const page = readFileSync(join(import.meta.dirname, "..", "..", "docs", "postgres.md"), "utf8");
  const [queries, rights] = [...page.matchAll(/```sql\n([^]*?)```/g)].map(([, text]) => text!.replaceAll(/^\s*--.*$/gm, "").split(";").map((line) => line.trim()).filter((line) => line !== ""));
  const base = await postgresUrl();
  const schema = newSchema();
  t.after(() => query(base, `drop schema if exists ${schema} cascade`, `drop owned by w_${schema}`, `drop owned by o_${schema}`, `drop role w_${schema}`, `drop role o_${schema}`));
  const named = rights!.map((line) => line.replaceAll("pawl_owner", `o_${schema}`).replaceAll("pawl_worker", `w_${schema}`).replaceAll("schema pawl", `schema ${schema}`));
  const at = (role: string) => {
    const url = new URL(inSchema(base, schema));
    url.username = role;
    return url.href;
  };
  await query(base, ...named.slice(0, 3));
  await (await openState(at(`o_${schema}`), quiet)).close();
  await query(at(`o_${schema}`).replace(/\?.*/, ""), ...named.slice(3));
  const state = await openState(at(`w_${schema}`), quiet);
  await state.tasks.add({ description: "by the worker" });
  const worker = state.work({ execute: (task, { step }) => step("s", () => task.id) });
  await worker.idle();
  await state.close();
  const counts = await query(base, ...queries!.slice(0, 2).map((line) => line.replace("to pawl", `to ${schema}`)));
  assert.deepEqual(counts, [{ status: "completed", count: "1" }]);
  for (const line of queries!.slice(1)) await query(base, `set search_path to ${schema}`, line);
  assert.ok(queries!.length > 5 && named.length === 6);
});

test("the commands: doctor, backup and status of a Postgres state", async (t) => {
  const state = await sick(t);
  const desk = place(t);
  const at = ["--state", state.url];
  assert.match((await desk.pawl(["doctor", ...at])).stdout, /Healthy\. Looked at \d+ records/);
  const made = await desk.pawl(["backup", ...at]);
  assert.equal(made.code, 0, made.stderr);
  assert.match(made.stdout, /To put it back, into a schema where there is no state:\n {2}pawl copy .*\.db 'postgres:.*' --keep-open/);
  assert.ok(readdirSync(desk.folder).some((name) => /^t_.*\.backup-.*\.db$/.test(name)));
  await state.sql("drop index task_by_due");
  assert.equal((await desk.pawl(["doctor", ...at])).code, 7);
  const repaired = await desk.pawl(["doctor", "--repair", ...at]);
  assert.deepEqual([repaired.code, /Done: Made anew/.test(repaired.stdout)], [0, true], repaired.stdout + repaired.stderr);
  assert.ok(!existsSync(desk.path(".pawl")), "nothing is made here");
});

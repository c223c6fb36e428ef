// Moving a state between places and stores: everything is there afterwards and proven so, nobody writes behind the seal, and
// a copy that fails or is killed at any moment leaves one state that can be used, and never two.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { isPawlError } from "../src/base/errors.ts";
import { contentHash } from "../src/core/copy.ts";
import type { Task } from "../src/core/records.ts";
import { openState, placeAt, type State } from "../src/state.ts";
import type { Store } from "../src/store/store.ts";
import type { TaskContext } from "../src/worker/context.ts";
import { eventually, place } from "./pawl.ts";
import { dropSchema, inSchema, newSchema, postgresUrl, query } from "./postgres.ts";

const quiet = { actor: "ann", notice: () => undefined };

const server = await postgresUrl();

/** Places of one test: paths in a folder of its own, and for a name that ends in `.pg` a schema on the Postgres of the tests. */
function folderOf(t: TestContext, folder = mkdtempSync(join(tmpdir(), "pawl-copy-"))): (name: string) => string {
  const schemas = new Map<string, string>();
  t.after(async () => {
    rmSync(folder, { recursive: true, force: true });
    for (const schema of schemas.values()) await dropSchema(server, schema);
  });
  return (name) => {
    if (!name.endsWith(".pg")) return join(folder, name);
    if (!schemas.has(name)) schemas.set(name, newSchema());
    return inSchema(server, schemas.get(name)!);
  };
}

/** Whether there is a state, or what is left of one. */
const isThere = (path: string): Promise<boolean> => placeAt(path, quiet).exists();

/** Runs `use` on an open state and closes it. */
async function on<T>(path: string, use: (state: State) => Promise<T>): Promise<T> {
  const state = await openState(path, quiet);
  return use(state).finally(() => state.close());
}

/** Tasks in every status, steps, a batch, a decision, a removed task. */
async function populate(path: string): Promise<void> {
  await on(path, async (state) => {
    await state.tasks.addAll([...Array(30)].map((_, i) => ({ description: `task ${i}`, key: `k${i}`, tags: ["a", `t${i % 3}`], input: { n: i, text: "ü\u2028" } })));
    await state.tasks.addAll([...Array(10)].map((_, i) => ({ description: `behind ${i}`, depends_on: [i + 3] })));
    const worker = state.work({
      concurrency: 4, backoff: { baseMs: 1 },
      execute: async (task: Task, { step, ask }: TaskContext) => {
        const doubled = await step("double", () => task.id * 2);
        if (task.id === 7) throw new TypeError("seven");
        if (task.id === 9) await ask("which", "which of the two?");
        return { doubled };
      },
    } as never);
    await worker.idle();
    await worker.stop();
    await (await state.batches.create(["x", "y"], { executor: { exec: "true" } as never })).summary();
    const { id } = await state.tasks.add({ description: "gone" });
    await state.tasks.remove(id);
  });
}

/** Of the records alone: a write that is refused may use up ids. */
const recordsAt = (path: string) => on(path, async ({ committer: { store } }) => (await contentHash({ list: store.list.bind(store), counters: async () => ({}) } as unknown as Store)).hash);
const hashAt = (path: string) => on(path, async (state) => (await contentHash(state.committer.store)).hash);

test("scenario 19, row 18: from each store to each other: the same records, hash and ids; every chain verifies; work goes on", async (t) => {
  const at = folderOf(t);
  await populate(at("a.json"));
  const hash = await hashAt(at("a.json"));
  const first = await placeAt(at("a.json"), quiet).copyTo(at("b.db"));
  const reports = [first];
  const way = ["b.db", "deep/er/c.json", "one.pg", "two.pg", "e.json", "f.db", "three.pg", "d.db"];
  for (const [i, to] of way.slice(1).entries()) reports.push(await placeAt(at(way[i]!), quiet).copyTo(at(to)));
  for (const report of reports) assert.equal(report.hash, hash);
  assert.ok(first.records["transition"]! > 80 && first.records["step"]! >= 30 && first.records["decision"] === 1, JSON.stringify(first.records));
  await on(at("d.db"), async (state) => {
    for (const task of await state.tasks.all()) assert.equal(await state.history.verify(task.id), null);
    assert.equal((await state.tasks.add({ description: "next" })).id, 44, "the removed 43 is not given again");
    assert.equal((await state.tasks.get("k5")).id, 6);
    assert.equal((await state.decisions.inbox()).length, 1);
    assert.deepEqual((await state.tasks.get(6)).result, { doubled: 12 });
  });
  assert.equal(await hashAt(at("d.db")) === hash, false, "another content has another hash");
});

test("the source says where it went, to every command; --keep-open leaves two states", async (t) => {
  const desk = place(t, "a.json");
  await desk.pawl(["add", "one"]);
  const kept = await desk.pawl(["copy", "a.json", "two.db", "--keep-open"]);
  assert.equal(kept.code, 0, kept.stderr);
  assert.equal((await desk.pawl(["add", "here"])).code, 0);
  assert.equal((await desk.pawl(["add", "there", "--state", desk.path("two.db")])).code, 0);
  const taken = await desk.pawl(["copy", "a.json", "two.db"]);
  assert.deepEqual([taken.code, /already/.test(taken.stderr)], [4, true], taken.stderr);
  const moved = await desk.pawl(["copy", "a.json", "b.db"]);
  assert.match(moved.stdout, /2 task/);
  for (const line of [["add", "x"], ["list"], ["status"], ["claim"], ["run", "--exec", "true"], ["copy", "a.json", "c.db"]]) {
    const ended = await desk.pawl(line);
    assert.deepEqual([ended.code, ended.stderr.includes(desk.path("b.db"))], [13, true], `${line.join(" ")}: ${ended.stderr}`);
  }
  assert.equal((await desk.json<{ findings: { code: string }[] }>(["doctor", "--state", desk.path("b.db")])).findings.length, 0);
  assert.ok(!existsSync(desk.path("c.db")));
});

test("a claim by time is waited for, then named, then taken by force", async (t) => {
  const desk = place(t, "a.json");
  await desk.pawl(["add", "one"]);
  const { token } = await desk.json<{ token: string }>(["claim"]);
  const refused = await desk.pawl(["copy", "a.json", "b.db", "--wait", "0s"]);
  assert.equal(refused.code, 6);
  assert.match(refused.stderr, /task 1 \(held by c-/);
  assert.ok(!existsSync(desk.path("b.db")));
  const waiting = desk.start(["copy", "a.json", "b.db", "--wait", "1m"]);
  await waiting.until(/Waiting for task 1/);
  const none = await desk.pawl(["claim"]);
  assert.equal(none.code, 13, "no new work begins");
  const completed = await desk.pawl(["complete", "1", "--token", token, "--result", "done"]);
  assert.equal(completed.code, 0, completed.stderr);
  assert.equal((await waiting.ended).code, 0);
  assert.equal((await desk.json<{ status: string }[]>(["list", "--state", "b.db"]))[0]!.status, "completed");

  await desk.pawl(["add", "two", "--state", "b.db"]);
  const held = await desk.json<{ token: string }>(["claim", "--state", "b.db"]);
  const forced = await desk.pawl(["copy", "b.db", "c.json", "--wait", "0s", "--force"]);
  assert.match(forced.stdout, /Taken from their owners: task 2/);
  const late = await desk.pawl(["complete", "2", "--token", held.token, "--result", "late", "--state", "c.json"]);
  assert.equal(late.code, 5, "its fence was raised");
});

for (const [from, to] of [["a.json", "b.db"], ["a.pg", "b.pg"]] as const) test(`hazard 25, ${from} to ${to}: a running worker ends its task, is told, and does nothing behind the copy`, async (t) => {
  const desk = place(t, "a.json");
  const at = folderOf(t, desk.folder);
  const here = ["--state", at(from)];
  const there = ["--state", at(to)];
  desk.write("tasks.txt", [...Array(50)].map((_, i) => `line ${i}`).join("\n"));
  const run = desk.start(["run", "tasks.txt", "--exec", "sleep 0.2", ...here]);
  const idle = desk.start(["worker", "--queue", "other", "--exec", "true", ...here]);
  await Promise.all([run.until(/Completed|✓/), idle.until(/stops it/)]);
  const copied = await desk.pawl(["copy", at(from), at(to)]);
  assert.equal(copied.code, 0, copied.stderr);
  const [ended, ended2] = await Promise.all([run.ended, idle.ended]);
  assert.deepEqual([ended.code, ended2.code], [13, 13], ended.stderr + ended2.stderr);
  assert.ok(ended.stderr.includes(at(to)), ended.stderr);
  const tasks = await desk.json<{ status: string; attempts: number }[]>(["list", "--limit", "100", ...there]);
  assert.equal(tasks.filter(({ status }) => status === "in_progress").length, 0);
  for (const task of tasks) assert.equal(task.attempts, task.status === "completed" ? 1 : 0, "nothing was begun and lost");
  assert.ok(tasks.some(({ status }) => status === "completed"));
  assert.equal((await desk.json<{ workers: unknown[] }>(["status", ...there])).workers.length, 0);
});

async function killedAt(t: TestContext, from: string, to: string, moment: string): Promise<void> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "copy-child.ts"), from, to, moment], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  assert.equal(line.toString().trim(), moment);
  if (moment === "loading") {
    const refused = await on(from, (state) => state.tasks.add({ description: "x" })).catch((error: unknown) => error);
    assert.ok(isPawlError(refused, "moved"), String(refused));
    const target = await openState(to, quiet).catch((error: unknown) => error);
    assert.ok(isPawlError(target, "moved"), String(target));
  }
  child.kill("SIGKILL");
  await once(child, "close");
}

for (const [from, to] of [["a.json", "b.db"], ["a.db", "b.json"], ["a.json", "b.pg"], ["a.pg", "b.db"]] as const) {
  test(`kill -9 of the copier while it loads: ${from} goes on, ${to} is no state`, async (t) => {
    const at = folderOf(t);
    await populate(at(from));
    const hash = await recordsAt(at(from));
    await killedAt(t, at(from), at(to), "loading");
    assert.deepEqual((await placeAt(at(from), quiet).doctor()).findings.map(({ code }) => code).filter((code) => code !== "worker_dead"), ["copy_interrupted"]);
    assert.ok((await placeAt(at(to), quiet).doctor()).findings.some(({ code }) => code === "unfinished_copy"));
    const target = await openState(at(to), quiet).catch((error: unknown) => error);
    assert.ok(isPawlError(target, "moved") && /unfinished copy/.test(target.message), String(target));
    const notices: string[] = [];
    const state = await openState(at(from), { ...quiet, notice: (line) => void notices.push(line) });
    assert.match(notices.join(), /interrupted/);
    await state.close();
    assert.equal(await recordsAt(at(from)), hash);
    await on(at(from), (again) => again.tasks.add({ description: "goes on" }));
    const again = await placeAt(at(from), quiet).copyTo(at(to));
    assert.equal(again.records["task"], 43, "the half copy was replaced");
    assert.equal(await hashAt(at(to)), again.hash);
  });
}

for (const [from, to] of [["a.json", "b.db"], ["a.json", "b.pg"], ["a.pg", "b.json"]] as const) {
  test(`kill -9 between the two last seals: ${to} is the state, ${from} is not`, async (t) => {
    const at = folderOf(t);
    await populate(at(from));
    const hash = await hashAt(at(from));
    await killedAt(t, at(from), at(to), "unsealing");
    const source = await openState(at(from), quiet).catch((error: unknown) => error);
    assert.ok(isPawlError(source, "moved"), String(source));
    const other = await on(at("other.json"), async () => placeAt(at("other.json"), quiet).copyTo(at(to))).catch((error: unknown) => error);
    assert.ok(isPawlError(other, "conflict"), "a whole copy is never replaced");
    assert.equal(await hashAt(at(to)), hash);
    await on(at(to), (state) => state.tasks.add({ description: "goes on" }));
  });
}

for (const to of ["b.json", "b.db", "b.pg"]) {
  test(`two states copied to ${to} at once: one gets there whole, the other stays where it is`, async (t) => {
    const at = folderOf(t);
    for (const name of ["x.json", "y.json"]) await on(at(name), (state) => state.tasks.addAll([...Array(1_000)].map((_, i) => ({ description: `${name} ${i}` }))));
    const copies = await Promise.allSettled(["x.json", "y.json"].map((name) => placeAt(at(name), quiet).copyTo(at(to))));
    const moved = ["x.json", "y.json"].filter((_, i) => copies[i]!.status === "fulfilled");
    assert.ok(moved.length <= 1, "both say they are the state");
    for (const name of ["x.json", "y.json"]) {
      const where = moved.includes(name) ? at(to) : at(name);
      const tasks = await on(where, (state) => state.tasks.all());
      assert.deepEqual(tasks.map(({ description }) => description), [...Array(1_000)].map((_, i) => `${name} ${i}`), `${name}, of which ${moved.join()} moved`);
    }
  });
}

test("a copier on another machine is taken to live for an hour, then the state goes on", async (t) => {
  const at = folderOf(t);
  await populate(at("a.pg"));
  const place = await openState(at("a.pg"), quiet);
  const by = { id: "w-far", host: "elsewhere", boot_id: "other", pid: 1, lock_path: null } as const;
  await place.committer.store.seal({ to: "elsewhere.db", at: new Date(Date.now() - 50 * 60_000).toISOString(), by, copy: "c" });
  await assert.rejects(on(at("a.pg"), (state) => state.tasks.add({ description: "too early" })), { code: "moved" });
  await place.committer.store.seal(null);
  await place.committer.store.seal({ to: "elsewhere.db", at: new Date(Date.now() - 70 * 60_000).toISOString(), by, copy: "c" });
  await place.close();
  assert.deepEqual((await placeAt(at("a.pg"), quiet).doctor()).findings.map(({ code }) => code), ["copy_interrupted"]);
  await on(at("a.pg"), (state) => state.tasks.add({ description: "goes on" }));
});

test("a password is in no note, no message and no file", async (t) => {
  const desk = place(t, "a.json");
  const at = folderOf(t, desk.folder);
  const secret = (name: string) => at(name).replace("//pawl@", "//pawl:s3cr%40t@");
  await on(at("a.json"), (state) => state.tasks.add({ description: "one" }));
  const said: string[] = [];
  const say = (line: unknown) => void said.push(line instanceof Error ? `${line.stack} ${JSON.stringify(line)} ${String((line.cause as Error | undefined)?.stack)}` : JSON.stringify(line));
  const noticed = { actor: "ann", notice: say };
  const copy = async (from: string, to: string) => say(await placeAt(from, noticed).copyTo(to).catch((error: unknown) => error));
  const look = async (url: string) => say(await openState(url, noticed).then(async (state) => state.status().finally(() => state.close()), (error: unknown) => error));
  await copy(at("a.json"), secret("b.pg"));
  await look(at("a.json"));
  await copy(at("a.json"), secret("c.pg"));
  await look(secret("b.pg"));
  say(await placeAt(secret("b.pg"), noticed).backup(at("copy.db")));
  say(await placeAt(secret("b.pg"), noticed).backup(secret("c.pg")).catch((error: unknown) => error));
  say(await placeAt(secret("b.pg"), noticed).doctor());
  await copy(secret("b.pg"), secret("b.pg"));
  await copy(secret("b.pg"), secret("d.pg"));
  await look(secret("b.pg"));
  await copy(at("copy.db"), secret("d.pg"));
  await copy(at("copy.db"), secret("g.pg").replace(/:\d+\//, ":1/"));
  await copy(at("copy.db"), "mysql://u:s3cr%40t@h/d");
  for (const args of [["run", "--exec", "true"], ["status"], ["doctor", "--json"]]) say(await desk.pawl([...args, "--state", secret("d.pg")]));
  assert.equal(said.length, 16);
  assert.doesNotMatch(said.join("\n"), /s3cr/);
  assert.match(said[1]!, /was moved to postgres:\/\/pawl@/);
  const files = readdirSync(desk.folder, { recursive: true, encoding: "utf8" }).map((name) => desk.path(name)).filter((path) => statSync(path).isFile());
  assert.ok(files.length > 5);
  for (const file of files) assert.ok(!readFileSync(file).includes("s3cr"), file);
  for (const name of ["b.pg", "d.pg"]) assert.doesNotMatch(JSON.stringify(await query(at(name), `select value from ${new URL(at(name)).searchParams.get("schema")}.pawl`)), /s3cr/);
});

test("a copy that fails leaves the source open and nothing at the target", async (t) => {
  const at = folderOf(t);
  await populate(at("a.json"));
  for (const to of [at("a.json"), ":memory:", "mysql://x"]) await assert.rejects(async () => placeAt(at("a.json"), quiet).copyTo(to), { code: "usage" });
  await assert.rejects(placeAt(at("a.json"), quiet).copyTo("postgres://127.0.0.1:1/x"), { code: "storage" });
  writeFileSync(at("file"), "no folder");
  await assert.rejects(placeAt(at("a.json"), quiet).copyTo(at("file/b.db")));
  await assert.rejects(placeAt(at("a.json"), quiet).copyTo(at("file/b.json")));
  await on(at("a.json"), (state) => state.tasks.add({ description: "still open" }));
  await assert.rejects(placeAt(at("none.json"), quiet).copyTo(at("b.db")), { code: "not_found" });
  await assert.rejects(placeAt(at("none.pg"), quiet).copyTo(at("b.db")), { code: "not_found" });
  assert.ok(!existsSync(at("b.db")) && !existsSync(at("none.json.pawl")) && !(await isThere(at("none.pg"))));
});

test("two copiers at once: one copies, the other is told", async (t) => {
  const at = folderOf(t);
  await populate(at("a.json"));
  const results = await Promise.allSettled([placeAt(at("a.json"), quiet).copyTo(at("b.db")), placeAt(at("a.json"), quiet).copyTo(at("c.db"))]);
  const lost = results.filter((result) => result.status === "rejected").map(({ reason }) => reason as unknown);
  assert.equal(lost.length, 1, String(lost));
  assert.ok(isPawlError(lost[0], "conflict") || isPawlError(lost[0], "moved"), String(lost[0]));
  await eventually(() => existsSync(at("b.db")) !== existsSync(at("c.db")), "one target is there");
});

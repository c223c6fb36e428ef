// A primary that is lost and a standby that takes its place, under load of real worker processes. Invariants: with a
// synchronous standby every acknowledged change is there afterwards and nothing completed runs again; effects are counted
// outside the state. Without one the last changes may be lost, and then a claim that is gone cannot be written under.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { startPostgres, type Server } from "../../scripts/postgres.ts";
import { systemClock } from "../../src/base/clock.ts";
import { isPawlError } from "../../src/base/errors.ts";
import { systemRandom } from "../../src/base/id.ts";
import { placeAt } from "../../src/index.ts";
import { openState, type State } from "../../src/state.ts";
import { addItem, commit, conformanceModel, succeeded } from "../../src/store/conformance/model.ts";
import { openPostgres } from "../../src/store/postgres/postgres.ts";
import { readPostgresUrl, serversOf, withPasswordOf } from "../../src/store/postgres/url.ts";
import { eventually } from "../pawl.ts";
import { query } from "../postgres.ts";

const FAILOVERS = Number(process.env["PAWL_FAILOVERS"] ?? 1);
const STEPS = 3;
const WORKERS = 2;
/** Tasks whose every step writes a line before and after it is recorded. */
const WORKER = `import { appendFileSync } from "node:fs";
  import { openState } from ${JSON.stringify(join(import.meta.dirname, "..", "..", "src", "state.ts"))};
  const [, url, log] = process.argv;
  const state = await openState(url, { actor: "w", notice: () => undefined });
  const say = (what, task, i) => appendFileSync(log, what + " " + task.id + " " + i + "\\n");
  state.work({ concurrency: 4, execute: async (task, { step }) => {
    say("run", task, 0);
    for (let i = 0; i < ${STEPS}; i++) {
      await step("s" + i, async () => { say("effect", task, i); await new Promise((resolve) => setTimeout(resolve, 5)); return i; });
      say("recorded", task, i);
    }
    return "done";
  } });`;

type Pair = { readonly primary: Server; readonly standby: Server; readonly url: string };

async function newPair(t: TestContext, synchronous: boolean): Promise<Pair> {
  const primary = await startPostgres();
  t.after(() => primary.stop());
  const standby = await primary.standby(synchronous);
  t.after(() => standby.stop());
  return { primary, standby, url: `postgres://pawl@127.0.0.1:${primary.port},127.0.0.1:${standby.port}/postgres?target_session_attrs=read-write` };
}

async function open(t: TestContext, url: string): Promise<State> {
  const state = await openState(url, { actor: "ann", notice: () => undefined });
  t.after(() => state.close());
  return state;
}

function startWorker(t: TestContext, url: string, log: string): void {
  const child = spawn(process.execPath, ["--input-type=module", "-e", WORKER, url, log], { stdio: ["ignore", "inherit", "inherit"] });
  let ended = false;
  t.after(() => {
    assert.equal(ended, false, "a worker ended by itself");
    child.kill("SIGKILL");
  });
  child.on("exit", () => (ended = true));
}

const linesOf = (log: string): string[] => (existsSync(log) ? readFileSync(log, "utf8").split("\n").filter((line) => line !== "") : []);

/** Adds tasks without a pause until told to stop; gives the keys and ids of those that were acknowledged. */
function producer(state: State) {
  const acknowledged = new Map<string, number>();
  let stopped = false;
  const adding = (async () => {
    for (let i = 0; !stopped; i++) {
      const { id } = await state.tasks.add({ description: `task ${i}`, key: `k${i}` });
      acknowledged.set(`k${i}`, id);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  return { acknowledged, stop: () => ((stopped = true), adding) };
}

/** No line of a step after it was recorded, and no run of a task after it was completed. */
function requireOnce(lines: readonly string[], completedBefore: ReadonlyMap<number, number>): void {
  const recorded = new Set<string>();
  lines.forEach((line, at) => {
    const [what, task, step] = line.split(" ") as [string, string, string];
    if (what === "recorded") recorded.add(`${task} ${step}`);
    if (what === "effect") assert.ok(!recorded.has(`${task} ${step}`), `step ${step} of task ${task} ran again after it was recorded`);
    assert.ok(at < (completedBefore.get(Number(task)) ?? Infinity), `task ${task} went on after it was seen completed`);
  });
}

async function failover(t: TestContext): Promise<void> {
  const { primary, standby, url } = await newPair(t, true);
  const folder = mkdtempSync(join(tmpdir(), "pawl-standby-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const log = join(folder, "log");
  const state = await open(t, url);
  const { acknowledged, stop } = producer(state);
  for (let i = 0; i < WORKERS; i++) startWorker(t, url, log);
  const moment = 20 + Math.floor(Math.random() * 100);
  await eventually(() => linesOf(log).length > moment, "the load", 30_000);

  const completed = await state.tasks.list({ status: "completed" });
  const seen = linesOf(log).length;
  const before = acknowledged.size;
  const begun = performance.now();
  await primary.kill();
  await standby.promote();
  const promoted = performance.now() - begun;
  await eventually(() => acknowledged.size > before + 1, "an acknowledgement after the failover", 40_000);
  const accepted = performance.now() - begun;
  const working = linesOf(log).length;
  await eventually(() => linesOf(log).length > working, "a worker after the failover", 40_000);
  t.diagnostic(`killed after ${moment} lines; promoted after ${Math.round(promoted)} ms, first acknowledgement after ${Math.round(accepted)} ms, workers at work after ${Math.round(performance.now() - begun)} ms`);
  await stop();

  const all = async () => (await state.tasks.count()).completed >= acknowledged.size;
  await eventually(all, "every task completed", 60_000);
  for (const [key, id] of acknowledged) {
    const task = await state.tasks.get(id);
    assert.deepEqual([task.key, task.status, task.result], [key, "completed", "done"]);
    assert.equal((await state.history.of(id)).filter(({ event }) => event === "completed" || event === "passed").length, 1, `task ${id} was completed once`);
  }
  const lines = linesOf(log);
  requireOnce(lines, new Map(completed.map(({ id }) => [id, seen])));
  for (const id of acknowledged.values()) for (let i = 0; i < STEPS; i++) assert.ok(lines.includes(`effect ${id} ${i}`));
  const { findings } = await placeAt(url).doctor({ deep: true });
  assert.deepEqual(findings.map(({ code, message }) => `${code} ${message}`), []);
}

for (let i = 0; i < FAILOVERS; i++) {
  test(`synchronous standby: the primary is killed under load, and what was acknowledged is there (${i + 1})`, { timeout: 180_000 }, failover);
}

test("asynchronous standby: the last changes may be lost, and what was claimed in them cannot be written", { timeout: 120_000 }, async (t) => {
  const { primary, standby, url } = await newPair(t, false);
  const state = await open(t, url);
  await state.tasks.add({ description: "there", key: "there" });
  // Nothing of what follows reaches the standby.
  const caughtUp = async () => (await query(standby.url, `select from information_schema.tables where table_schema = 'pawl' and table_name = 'task'`)).length > 0 && (await query(standby.url, `select from pawl.task`)).length === 1;
  await eventually(caughtUp, "the standby has the first task");
  await query(standby.url, "alter system set primary_conninfo = ''", "select pg_reload_conf()");
  await eventually(async () => (await query(primary.url, "select from pg_stat_replication")).length === 0, "the standby no longer follows");

  const claim = (await state.tasks.claim())!;
  const lost = await state.tasks.add({ description: "lost", key: "lost" });
  await primary.kill();
  await standby.promote();
  await assert.rejects(state.tasks.complete(claim.task.id, "done", { token: claim.token }), (error) => isPawlError(error, "lease_lost"));
  const [there, ...more] = await state.tasks.list();
  assert.deepEqual([there!.key, there!.status, there!.attempts, more.length], ["there", "pending", 0, 0]);
  assert.equal(await state.history.verify(there!.id), null, "a history that lost its end is a history");
  const again = await state.tasks.add({ description: "another", key: "another" });
  assert.equal(again.id, lost.id, "an id may be given twice: outside, tell tasks apart by their keys");
});

test("a commit whose wait for the standby is broken off is not acknowledged before the standby has it", { timeout: 120_000 }, async (t) => {
  const { primary, standby } = await newPair(t, true);
  const options = { clock: systemClock, random: systemRandom };
  const store = await openPostgres(primary.url, conformanceModel, options);
  const impatient = await openPostgres(primary.url, conformanceModel, options, { answer: 500, patience: 500 });
  t.after(() => Promise.all([store.close(), impatient.close()]));
  // The standby takes nothing in, and the primary goes on waiting for it.
  await query(standby.url, "alter system set primary_conninfo = ''", "select pg_reload_conf()");
  await eventually(async () => (await query(primary.url, "select from pg_stat_replication")).length === 0, "the standby no longer follows");
  const cancelled = commit(impatient, { puts: [addItem({ key: "k" })] }).catch((error: unknown) => error);
  const cancel = () => query(primary.url, "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'");
  await eventually(async () => (await cancel()).length > 0, "the commit waits");
  const error = await cancelled;
  assert.ok(isPawlError(error, "commit_unknown"), String(error));

  const waiting = commit(store, { puts: [addItem({ key: "l" })] });
  await eventually(async () => (await cancel()).length > 0, "the next commit waits");
  await query(standby.url, "alter system reset primary_conninfo", "select pg_reload_conf()");
  succeeded(await waiting);
  const keys = async (url: string) => (await query(url, "select key from pawl.item order by key")).map(({ key }) => key);
  await eventually(async () => (await keys(standby.url)).includes("l"), "the standby has it");
  assert.deepEqual(await keys(primary.url), ["k", "l"]);
});

test("of several servers the one that takes writes is used, for reads as well, and waited for; none is said to be none", { timeout: 120_000 }, async (t) => {
  const { primary, standby } = await newPair(t, true);
  const options = { clock: systemClock, random: systemRandom };
  const standbyFirst = `postgres://pawl@127.0.0.1:${standby.port},127.0.0.1:${primary.port}/postgres`;
  const store = await openPostgres(standbyFirst, conformanceModel, options);
  t.after(() => store.close());
  let told = 0;
  store.watch(() => told++);
  await eventually(() => told > 0, "the first hint");
  const before = told;
  const other = await openPostgres(`${primary.url}?schema=pawl`, conformanceModel, options);
  t.after(() => other.close());
  succeeded(await commit(other, { puts: [addItem()] }));
  // Of the primary: a standby tells nobody.
  assert.equal(await store.count("item"), 1);
  await eventually(() => told > before, "a hint of the primary");

  // For a moment nobody takes writes, as in a planned failover: that is waited for, also by who knows one server only.
  await query(primary.url, "alter system set default_transaction_read_only = on", "select pg_reload_conf()");
  await eventually(async () => (await query(primary.url, "show default_transaction_read_only"))[0]!["default_transaction_read_only"] === "on", "it is read only");
  const writing = [commit(store, { puts: [addItem()] }), commit(other, { puts: [addItem()] })];
  await query(primary.url, "set default_transaction_read_only = off", "alter system reset default_transaction_read_only", "select pg_reload_conf()");
  for (const written of await Promise.all(writing)) succeeded(written);
  assert.equal(await store.count("item"), 3);

  const alone = await openPostgres(`postgres://pawl@127.0.0.1:${standby.port}/postgres?target_session_attrs=read-write`, conformanceModel, options, { wait: 100 }).catch((error: unknown) => error);
  assert.ok(isPawlError(alone, "storage"), String(alone));
  const reading = await openPostgres(`postgres://pawl@127.0.0.1:${standby.port}/postgres`, conformanceModel, options, { wait: 100 }).catch((error: unknown) => error);
  assert.ok(isPawlError(reading, "storage"), String(reading));
  assert.match(reading.message, /takes no writes/);
  await primary.kill();
  const none = await openPostgres(standbyFirst, conformanceModel, options, { wait: 100 }).catch((error: unknown) => error);
  assert.ok(isPawlError(none, "storage"), String(none));
  assert.match(none.message, /no server takes writes/);
});

test("several servers in a URL: the location shows them, and no password", () => {
  const url = "postgres://ann:s3cret@a:5433,b,[::1]:5434/app?schema=work&target_session_attrs=primary";
  const { connection, location } = readPostgresUrl(url);
  assert.equal(location, "postgres://ann@a:5433,b,[::1]:5434/app?schema=work");
  assert.deepEqual(serversOf(connection), { urls: ["postgres://ann:s3cret@a:5433/app", "postgres://ann:s3cret@b/app", "postgres://ann:s3cret@[::1]:5434/app"], choose: true });
  assert.equal(withPasswordOf(url, location), "postgres://ann:s3cret@a:5433,b,[::1]:5434/app?schema=work");
  assert.equal(withPasswordOf(url, "postgres://ann@a:5433/app"), "postgres://ann@a:5433/app", "another place");
  assert.equal(serversOf(readPostgresUrl("postgres://h/d").connection).choose, false);
  assert.throws(() => readPostgresUrl("postgres://a,b/d?target_session_attrs=any"), { code: "usage" });
  assert.throws(() => readPostgresUrl("postgres://a:1,b:x/d"), { code: "usage" });
});

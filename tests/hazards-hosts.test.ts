// Traps of the design between hosts, each named after its number in the list they come from, with its interleaving forced:
// owners of whom only the lease is known, answers that are lost, writes of zombies, and limits that many handles share.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import pg from "pg";
import { manualClock, systemClock } from "../src/base/clock.ts";
import { isPawlError, PawlError } from "../src/base/errors.ts";
import { systemRandom } from "../src/base/id.ts";
import { claimDue } from "../src/core/claim.ts";
import { Committer } from "../src/core/committer.ts";
import { MODEL } from "../src/state/opening.ts";
import { openState, State } from "../src/state.ts";
import { openPostgres } from "../src/store/postgres/postgres.ts";
import type { Store } from "../src/store/store.ts";
import { functionExecutor } from "../src/worker/function.ts";
import { Worker } from "../src/worker/worker.ts";
import { linesOf, startHost } from "./chaos/hosts.ts";
import { eventually } from "./pawl.ts";
import { LASTING, statePlace } from "./places.ts";
import { postgresUrl } from "./postgres.ts";
import { Proxy as TcpProxy } from "./store/postgres-proxy.ts";
import { ALL_STORES } from "./stores.ts";

const LEASE_MS = 2_000;
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);

function logFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "pawl-hosts-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "effects.log");
}

/** The store with some of its calls replaced. */
function instead(store: Store, calls: Partial<Store>): Store {
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = calls[name as keyof Store] ?? target[name as keyof Store];
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function workerOn(state: State, store: Store, execute: Parameters<typeof functionExecutor>[0], leaseMs = 30_000): Worker {
  return new Worker({ committer: new Committer(store), clock: state.clock, random: state.random, lockFolder: null }, { executor: functionExecutor(execute), concurrency: 10, leaseMs });
}

test("hazard 14, all stores: a worker of another host that is killed loses its task with its lease, and soon", { timeout: 60_000 }, async (t) => {
  await Promise.all(LASTING.map(async (name) => {
    const place = await statePlace(t, name);
    const state = await place.open();
    const { id } = await state.tasks.add({ description: "hangs", input: { hang: true } });
    const log = logFor(t);
    const there = await startHost(t, { url: place.url, log, leaseMs: LEASE_MS });
    await eventually(() => linesOf(log).some((line) => line.startsWith(`effect ${id} hangs`)), "the task runs there", 30_000);
    // Its lock is free the moment it dies, but by its record that lock is another machine's.
    await state.committer.commit({ puts: [{ kind: "worker", key: there.worker, set: { boot_id: "another host" } }] });
    await there.kill();
    const before = (await state.tasks.get(id)).lease_expires_at!;
    const here = state.work({ leaseMs: LEASE_MS, execute: (task) => task.fence });
    await eventually(async () => (await state.tasks.get(id)).status === "completed", `${name}: the task is done here`, 30_000);
    await here.stop();
    const events = await state.history.of(id);
    const lost = events.find(({ event }) => event === "owner_lost")!;
    assert.ok(lost.at >= before, `${name}: taken over at ${lost.at}, held until ${before}`);
    const lateMs = Date.parse(lost.at) - Date.parse(before);
    t.diagnostic(`${name}: taken over ${lateMs} ms after the lease of ${LEASE_MS} ms had run out`);
    assert.ok(lateMs < 1_000, `${name}: ${lateMs} ms late`);
    assert.equal((await state.tasks.get(id)).takeovers, 1);
  }));
});

for (const kind of ALL_STORES) {
  test(`hazard 16, ${kind.name}: tasks of a claim whose answer was lost are given back and run, each once, no attempt counted for nothing`, async (t) => {
    const state = await kind.open(t);
    await state.tasks.addAll(upTo(10).map((i) => ({ description: `task ${i}`, max_attempts: 1 })));
    const { store } = state.committer;
    let lost = false;
    const commit: Store["commit"] = async (works) => {
      const results = await store.commit(works);
      if (lost || !works.some((work) => "claim" in work)) return results;
      lost = true;
      throw new PawlError("commit_unknown", "The connection broke during a claim.");
    };
    const runs = new Map<number, number>();
    const worker = workerOn(state, instead(store, { commit }), ({ id }) => void runs.set(id, (runs.get(id) ?? 0) + 1));
    t.after(() => worker.stop());
    await eventually(async () => (await state.tasks.count()).completed === 10, "every task is completed", 20_000);
    assert.ok(lost);
    assert.deepEqual([...runs.values()], upTo(10).map(() => 1));
    const tasks = await state.tasks.list();
    assert.ok(tasks.every((task) => task.attempts === 1 && task.takeovers === 0));
    assert.ok((await state.history.of(1)).some(({ event, reason }) => event === "released" && reason === "its claim was not answered"));
  });

  test(`hazard 24, ${kind.name}: of many claimers on one key one has the slot, and it is never lost`, async (t) => {
    const state = await kind.open(t);
    await state.tasks.addAll(upTo(12).map((i) => ({ description: `task ${i}`, concurrency_key: "one" })));
    let [running, most] = [0, 0];
    const execute = async () => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 3));
      running--;
    };
    const workers = upTo(4).map(() => workerOn(state, state.committer.store, execute));
    await eventually(async () => (await state.tasks.count()).completed === 12, "all of the line had their turn", 30_000);
    await Promise.all(workers.map((worker) => worker.stop()));
    assert.equal(most, 1);
    assert.equal((await state.committer.store.list("slot", {})).length, 0);
  });

  test(`hazard 23, ${kind.name}: a hundred who spend from one limit at once spend it to the end and no further`, async (t) => {
    const state = await kind.open(t);
    await state.committer.commit({ puts: [{ kind: "batch", record: { id: "shared", tokens: 0 } }] });
    // Each with a committer of its own, so that they meet in the store and not before it.
    const spend = () => new Committer(state.committer.store).commit({ puts: [], additions: [{ kind: "batch", key: "shared", field: "tokens", n: 1, max: 60 }] });
    const results = await Promise.all(upTo(100).map(spend));
    assert.equal(results.filter((result) => result.ok).length, 60);
    assert.equal((await state.committer.store.get("batch", ["shared"]))[0]!["tokens"], 60);
  });
}

test("hazard 2, postgres: a step of a zombie that waits behind the new owner's claim is not written", { timeout: 60_000 }, async (t) => {
  const place = await statePlace(t, "postgres");
  const state = await place.open();
  const { id } = await state.tasks.add({ description: "x" });
  const url = new URL(place.url);
  const other = new pg.Client({ connectionString: await postgresUrl() });
  await other.connect();
  t.after(() => other.end());
  const table = `"${url.searchParams.get("schema")}".task`;
  let error: unknown;
  const worker = state.work({
    trustLocks: false,
    execute: async (_, { step }) => {
      await step("late", async () => {
        await other.query("begin");
        await other.query(`select 1 from ${table} where id = ${id} for update`);
        setImmediate(() => void takeIt());
        return "from the zombie";
      }).catch((thrown: unknown) => {
        error = thrown;
        throw thrown;
      });
    },
  });
  const takeIt = async () => {
    await eventually(async () => (await state.committer.store.get("task", [id])).length === 1 && (await isBlocking(other)), "the zombie's write waits for the row", 20_000);
    await other.query(`update ${table} set fence = fence + 2, revision = revision + 2, worker = 'w-other', lease_expires_at = '2999-01-01T00:00:00.000Z' where id = ${id}`);
    await other.query("commit");
  };
  await eventually(() => error !== undefined, "the zombie is told", 20_000);
  await worker.stop();
  assert.ok(isPawlError(error, "lease_lost"), String(error));
  assert.equal((await state.committer.store.list("step", { equals: { task_id: id } })).length, 0);
  assert.equal((await state.tasks.get(id)).worker, "w-other");
});

/** Whether somebody waits for a lock that this connection holds. */
async function isBlocking(holder: pg.Client): Promise<boolean> {
  return (await holder.query("select 1 from pg_locks where pg_backend_pid() = any(pg_blocking_pids(pid)) limit 1")).rows.length > 0;
}

test("hazard 16, postgres: cut off for longer than its lease, a worker is told when it is back; what was done meanwhile stands", { timeout: 90_000 }, async (t) => {
  const proxy = await TcpProxy.start(Number(new URL(await postgresUrl()).port));
  const place = await statePlace(t, "postgres");
  const direct = await place.open();
  const away = new URL(place.url);
  away.port = String(proxy.port);
  const store = await openPostgres(away.href, MODEL, { clock: systemClock, random: systemRandom }, { answer: 500, connect: 2_000, poll: 300 });
  const far = new State(store, null, { clock: systemClock, random: systemRandom, actor: "far" });
  // In this order: without the proxy it could not sign off.
  t.after(() => far.close().then(() => proxy.stop()));
  const { id } = await direct.tasks.add({ description: "x" });
  let aborted: unknown;
  const there = far.work({
    leaseMs: 1_000, trustLocks: false,
    execute: (_, { signal }) => new Promise((resolve) => {
      proxy.fault = "silence";
      // Code that does not care for its signal, and ends with a result when all is over.
      signal.addEventListener("abort", () => (aborted = signal.reason as unknown));
      void eventually(async () => (await direct.tasks.get(id)).status === "completed", "it is done here", 30_000).then(() => {
        proxy.fault = "none";
        resolve("from the one cut off");
      });
    }),
  });
  await proxy.faulted();
  const here = direct.work({ leaseMs: 1_000, trustLocks: false, execute: () => "from here" });
  await eventually(async () => (await direct.tasks.get(id)).status === "completed", "the other takes over", 30_000);
  await eventually(() => aborted !== undefined, "the one cut off is told", 40_000);
  await here.stop();
  assert.ok(isPawlError(aborted, "lease_lost"), String(aborted));
  assert.deepEqual([(await direct.tasks.get(id)).result, (await direct.tasks.get(id)).takeovers], ["from here", 1]);
  await there.abort();
  assert.equal((await direct.tasks.get(id)).result, "from here");
});

test("hazard 14: a living owner that is silent beyond its lease costs its neighbours a look ten times a second, not a hundred", async (t) => {
  const clock = manualClock();
  const state = await openState(":memory:", { clock, notice: () => undefined });
  t.after(() => state.close());
  await state.tasks.add({ description: "held by one that lives and says nothing" });
  const silent = state.work({ queues: ["elsewhere"], execute: () => null });
  await claimDue(state.committer, { lanes: [{ queue: "default", batch_id: null }], verifier: null, limit: 1, worker: silent.id, leaseMs: 1_000 });
  await clock.advance(2_000);
  let looks = 0;
  const { store } = state.committer;
  const list: Store["list"] = (kind, asked) => {
    if (kind === "task" && asked?.index === "lease") looks++;
    return store.list(kind, asked);
  };
  const worker = workerOn(state, instead(store, { list }), () => null);
  await clock.advance(1_000);
  looks = 0;
  await clock.advance(5_000);
  assert.ok(looks >= 10 && looks <= 150, `it looked ${looks} times in five seconds`);
  await Promise.all([worker.stop(), clock.advance(100)]);
});

// What a worker promises: it claims in order and within its limits, one owner at a time, leases renewed and lost leases
// noticed, nothing written by who lost the task, drains that cost nobody an attempt. Reviews and deadlines: review.test.ts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { sleep as sleepFor } from "../../src/base/clock.ts";
import { isPawlError, PawlError } from "../../src/base/errors.ts";
import { UsageLimitError } from "../../src/worker/executor.ts";
import { functionExecutor } from "../../src/worker/function.ts";
import { gate, LEASE_MS, simulate, turns } from "../simulation.ts";
import { ALL_STORES, MEMORY } from "../stores.ts";

const HANG = new Promise<never>(() => undefined);

for (const store of ALL_STORES) {
  test(`${store.name}: four workers run fifty tasks, each once, never two of them one task`, async (t) => {
    const state = await store.open(t);
    const tasks = await state.tasks.addAll(Array.from({ length: 50 }, (_, i) => ({ description: `task ${i}` })));
    const running = new Set<number>();
    const runs = new Map<number, number>();
    const overlaps: number[] = [];
    const by = new Map<string, number>();
    const workers = Array.from({ length: 4 }, () =>
      state.work({
        concurrency: 3,
        execute: async (task, { step }) => {
          if (running.has(task.id)) overlaps.push(task.id);
          running.add(task.id);
          runs.set(task.id, (runs.get(task.id) ?? 0) + 1);
          by.set(task.worker!, (by.get(task.worker!) ?? 0) + 1);
          await step("a", () => turns(task.id % 5));
          running.delete(task.id);
          return task.id;
        },
      }),
    );
    await Promise.all(workers.map((worker) => worker.idle()));
    assert.deepEqual(overlaps, []);
    assert.deepEqual([...runs.values()], tasks.map(() => 1));
    assert.deepEqual((await state.tasks.list()).map((task) => [task.status, task.result]), tasks.map((task) => ["completed", task.id]));
    assert.ok(by.size > 1, "more than one worker had a share");
    await Promise.all(workers.map((worker) => worker.stop()));
  });

  test(`${store.name}: executeOnce, twice in sequence and five times at once: one effect, one result`, async (t) => {
    const state = await store.open(t);
    let effects = 0;
    const run = () => state.tasks.executeOnce<{ n: number }>("job", async (_, { step }) => ({ n: await step("effect", { effect: "once" }, async () => (await turns(3), ++effects)) }));
    await state.tasks.add({ description: "x", key: "job" });
    assert.deepEqual(await Promise.all(Array.from({ length: 5 }, run)), Array.from({ length: 5 }, () => ({ n: 1 })));
    assert.deepEqual(await run(), { n: 1 });
    assert.equal(effects, 1);
    assert.equal((await state.tasks.get("job")).attempts, 1);
  });

  test(`${store.name}: a worker that stopped may be stopped again, and the state closed`, async (t) => {
    const state = await store.open(t);
    const worker = state.work({ execute: () => 1 });
    await worker.idle();
    await worker.stop();
    await worker.stop();
    assert.deepEqual(await state.committer.store.list("worker"), []);
    await state.close();
  });

  test(`${store.name}: hazard 14: a zombie that lost its lease writes nothing, is told, and cannot overwrite the result`, async (t) => {
    const sim = await simulate(t, store);
    const task = await sim.state.tasks.add({ description: "x" });
    const late = gate();
    let signal: AbortSignal | undefined;
    let caught: unknown;
    const zombie = sim.start(async (_, tools) => {
      signal = tools.signal;
      try {
        await tools.step("a", () => late.promise);
        await tools.step("b", () => "from the zombie");
      } catch (error) {
        caught = error;
        throw error;
      }
      return "from the zombie";
    });
    await sim.until(task.id, "in_progress");
    await turns(30);
    zombie.freeze();
    sim.start(async (_, { step }) => step("a", () => "from the heir"));
    const done = await sim.until(task.id);
    zombie.thaw();
    late.open();
    await sim.clock.advance(5_000);
    assert.deepEqual(await sim.state.tasks.get(task.id), done);
    assert.equal(done.result, "from the heir");
    assert.deepEqual((await sim.state.tasks.steps(task.id)).map((s) => [s.key, s.output]), [["a", "from the heir"]]);
    assert.ok(isPawlError(caught, "lease_lost"), String(caught));
    assert.ok(isPawlError(signal!.reason, "lease_lost"));
    assert.equal(await sim.state.history.verify(task.id), null);
  });
}

for (const store of ALL_STORES) {
  test(`${store.name}: workers with nothing to do leave each other, and the store, alone`, async (t) => {
    const sim = await simulate(t, store);
    const { store: kept } = sim.state.committer;
    let writes = 0;
    const commit = kept.commit.bind(kept);
    kept.commit = (changes) => (writes++, commit(changes));
    const workers = [1, 2, 3].map(() => sim.start(() => 1));
    await sim.finish(Promise.all(workers.map(({ worker }) => worker.idle())));
    await sim.clock.advance(1_000);
    writes = 0;
    await sim.clock.advance(10_000);
    assert.equal(writes, 0);
  });
}

test("a worker told to end starts no code any more, whatever it was about to claim", async (t) => {
  for (let turn = 0; turn < 12; turn++) {
    const sim = await simulate(t);
    const { id } = await sim.state.tasks.add({ description: "x" });
    let ended = false;
    let late = 0;
    const one = sim.start((_, { signal }) => { if (ended) late++; return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))); });
    await turns(turn);
    ended = true;
    await sim.finish(one.worker.abort());
    assert.deepEqual([late, (await sim.state.tasks.get(id)).status], [0, "pending"], `after ${turn} turns`);
  }
});

test("a task reset while its code ignores the signal is run again by the same worker only when that code has let go", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x" });
  let running = 0;
  let most = 0;
  let runs = 0;
  sim.start(async () => {
    most = Math.max(most, ++running);
    if (++runs === 1) await sleepFor(sim.clock, 2_000);
    running--;
    return runs;
  }, { concurrency: 2 });
  await sim.until(id, "in_progress");
  await turns(20);
  await sim.state.tasks.reset(id);
  assert.deepEqual([(await sim.until(id)).result, most], [2, 1]);
});

test("tasks are claimed by priority, then by id", async (t) => {
  const sim = await simulate(t);
  for (const priority of [5, 1, 5, -3, 1]) await sim.state.tasks.add({ description: "x", priority });
  const order: number[] = [];
  await sim.finish(sim.start(({ id }) => order.push(id)).worker.idle());
  assert.deepEqual(order, [4, 2, 5, 1, 3]);
});

test("no more tasks at once than its concurrency, and as many as that", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.addAll(Array.from({ length: 20 }, () => ({ description: "x" })));
  let now = 0;
  let most = 0;
  const { worker } = sim.start(async () => { most = Math.max(most, ++now); await sleepFor(sim.clock, 50); now--; }, { concurrency: 6 });
  await sim.finish(worker.idle());
  assert.equal(most, 6);
  for (const concurrency of [0, -1, 1.5, NaN]) assert.throws(() => sim.state.work({ execute: () => 1, concurrency }), { code: "usage" });
});

test("maxTasks bounds what is started", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.addAll(Array.from({ length: 5 }, () => ({ description: "x" })));
  await sim.finish(sim.start(() => 1, { maxTasks: 3, concurrency: 2 }).worker.idle());
  const { completed, pending } = await sim.state.tasks.count();
  assert.deepEqual([completed, pending], [3, 2]);
});

test("a worker works its own queues only", async (t) => {
  const sim = await simulate(t);
  for (const queue of ["default", "mail", "other"]) await sim.state.tasks.add({ description: "x", queue });
  await sim.finish(sim.start(() => 1, { queues: ["mail", "other"] }).worker.idle());
  assert.deepEqual((await sim.state.tasks.list()).map((task) => task.status), ["pending", "completed", "completed"]);
});

test("idle: delayed, blocked and waiting tasks do not count; it can be asked again and again", async (t) => {
  const sim = await simulate(t);
  const [failing] = await sim.state.tasks.addAll([{ description: "fails", max_attempts: 1 }, { description: "later", run_at: new Date(sim.clock.now() + 60_000).toISOString() }]);
  await sim.state.tasks.add({ description: "blocked", depends_on: [failing!.id] });
  const { worker } = sim.start(async ({ id }, { ask }) => { if (id === failing!.id) throw new Error("no"); return ask("q", "?"); });
  await sim.finish(worker.idle());
  assert.deepEqual((await sim.state.tasks.list()).map((task) => task.status), ["failed", "pending", "pending"]);
  await sim.clock.advance(61_000);
  await sim.finish(worker.idle());
  assert.deepEqual((await sim.state.tasks.list()).map((task) => task.status), ["failed", "waiting", "pending"]);
});

test("idle is not said while a due task hides behind one whose deadline has just passed", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.add({ description: "late", deadline_at: new Date(sim.clock.now() + 30).toISOString() });
  const blocker = await sim.state.tasks.add({ description: "first", priority: 1 });
  await sim.state.tasks.add({ description: "due", priority: 9 });
  const runs: string[] = [];
  const { worker } = sim.start(async ({ description }) => { runs.push(description); if (description === "first") await sleepFor(sim.clock, 50); });
  await sim.finish(worker.idle());
  assert.deepEqual(runs, ["first", "due"]);
  assert.equal((await sim.state.tasks.get(blocker.id)).status, "completed");
  assert.equal((await sim.state.tasks.get(1)).error!.code, "deadline");
});

test("stop lets what runs end and claims nothing more", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.addAll([{ description: "a" }, { description: "b" }]);
  const { worker } = sim.start(async () => (await sleepFor(sim.clock, 500), "done"));
  await sim.until(1, "in_progress");
  await sim.finish(worker.stop());
  assert.deepEqual((await sim.state.tasks.list()).map((task) => [task.status, task.result]), [["completed", "done"], ["pending", null]]);
});

test("hazard 8: ten drains of one task count one attempt and leave no error", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x", max_attempts: 2 });
  for (let i = 0; i < 10; i++) {
    const one = sim.start(async (_, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))));
    await sim.until(id, "in_progress");
    await turns(20);
    await sim.finish(one.worker.abort("Ctrl-C"));
    const task = await sim.state.tasks.get(id);
    assert.deepEqual([task.status, task.attempts, task.error, task.continues, task.ready, task.worker], ["pending", 1, null, true, true, null]);
  }
  sim.start(() => "done");
  assert.deepEqual([(await sim.until(id)).attempts, (await sim.state.tasks.get(id)).takeovers], [1, 0]);
  assert.equal((await sim.state.history.of(id)).filter((event) => event.reason === "Ctrl-C").length, 10);
});

test("code that ignores its signal is left behind after five seconds, its outcome is not", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x" });
  const one = sim.start(() => HANG);
  await sim.until(id, "in_progress");
  await turns(20);
  const from = sim.clock.monotonic();
  await sim.finish(one.worker.abort());
  assert.ok(sim.clock.monotonic() - from >= 5_000 && sim.clock.monotonic() - from < 6_000);
  assert.equal((await sim.state.tasks.get(id)).status, "pending");
});

test("a heartbeat renews the lease for as long as the task runs", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x" });
  sim.start(async () => (await sleepFor(sim.clock, 20 * LEASE_MS), "slept"));
  sim.start(() => "stolen");
  await sim.until(id, "in_progress");
  await sim.clock.advance(10 * LEASE_MS);
  const { lease_expires_at, revision } = await sim.state.tasks.get(id);
  assert.ok(Date.parse(lease_expires_at!) > sim.clock.now() + LEASE_MS / 2);
  assert.equal(revision, 2, "a heartbeat raises no revision");
  const done = await sim.until(id);
  assert.deepEqual([done.result, done.attempts, done.takeovers, done.lease_expires_at], ["slept", 1, 0, null]);
});

test("no heartbeat renews the lease of a task that is no longer held", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.addAll([{ description: "ends" }, { description: "parks" }, { description: "fails" }]);
  sim.start(async ({ id }, { ask }) => { if (id === 2) await ask("q", "?"); if (id === 3) throw new Error("no"); }, { concurrency: 3, backoff: { baseMs: 60_000, jitter: false }, onEnd: () => sleepFor(sim.clock, 10 * LEASE_MS) });
  await sim.clock.advance(5 * LEASE_MS);
  assert.deepEqual((await sim.state.tasks.list()).map((task) => [task.status, task.lease_expires_at, task.takeovers]), [["completed", null, 0], ["waiting", null, 0], ["pending", null, 0]]);
});

test("hazard 15: after a jump of the clock no effect begins before the lease is confirmed", async (t) => {
  for (const taken of [true, false]) {
    const sim = await simulate(t);
    const { id } = await sim.state.tasks.add({ description: "x" });
    const lid = gate();
    const effects: string[] = [];
    const sleeper = sim.start(async (_, { step }) => {
      await step("a", () => lid.promise);
      return Promise.all(["b", "c"].map((name) => step(name, () => void effects.push(`sleeper ${name}`))));
    });
    await sim.until(id, "in_progress");
    await turns(30);
    sim.clock.jump(3_600_000);
    if (taken) {
      sim.start(async (_, { step }) => step("a", () => void effects.push("heir a")).then(() => HANG));
      for (let i = 0; i < 500 && effects.length === 0; i++) await turns(1);
      assert.deepEqual(effects, ["heir a"]);
    }
    lid.open();
    await turns(100);
    assert.deepEqual(effects, taken ? ["heir a"] : ["sleeper b", "sleeper c"]);
    if (!taken) {
      await turns(50);
      assert.equal((await sim.state.tasks.get(id)).status, "completed", "nobody took it, so it goes on as if nothing had been");
    }
    sleeper.die();
  }
});

test("a jump of the clock alone stops no task", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x" });
  const end = gate();
  sim.start(() => end.promise, { trustLocks: true });
  await sim.until(id, "in_progress");
  sim.clock.jump(3_600_000);
  await sim.clock.advance(2 * LEASE_MS);
  assert.equal((await sim.state.tasks.get(id)).status, "in_progress");
  end.open();
  assert.deepEqual([(await sim.until(id)).status, (await sim.state.tasks.get(id)).attempts], ["completed", 1]);
});

test("a lease that cannot be confirmed for two thirds of its length is given up; found to be its own still, the task is given back", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x" });
  let abortedAt = 0;
  const one = sim.start(async (_, { signal }) => {
    if ((await sim.state.tasks.get(id)).fence > 1) return "again";
    return new Promise((_, reject) => signal.addEventListener("abort", () => { abortedAt = sim.clock.monotonic(); reject(signal.reason); }));
  });
  await sim.until(id, "in_progress");
  await turns(30);
  const from = sim.clock.monotonic();
  one.unplug();
  await sim.clock.advance(LEASE_MS);
  assert.ok(abortedAt - from >= (LEASE_MS * 2) / 3 - 500 && abortedAt - from <= LEASE_MS, `aborted after ${abortedAt - from} ms`);
  one.plug();
  const done = await sim.until(id);
  assert.deepEqual([done.result, done.attempts, done.takeovers], ["again", 1, 0]);
});

test("hazard 1: a person edits a running task: its worker goes on, both changes stay", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x" });
  const go = gate();
  sim.start(async (_, { step }) => (await step("a", () => go.promise), await step("b", () => 2)));
  await sim.until(id, "in_progress");
  await sim.state.tasks.edit(id, { description: "y", priority: 1 });
  go.open();
  const done = await sim.until(id);
  assert.deepEqual([done.description, done.status, done.result, done.attempts], ["y", "completed", 2, 1]);
});

test("cancel, reset, removal by force and takeover end what runs within a second, not at the next heartbeat", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.addAll([{ description: "a" }, { description: "b" }, { description: "c" }]);
  const ended: number[] = [];
  sim.start(async ({ id, fence }, { signal }) => (fence > 1 ? HANG : new Promise((_, reject) => signal.addEventListener("abort", () => { ended.push(id); reject(signal.reason); }))), { concurrency: 3, leaseMs: 600_000 });
  for (const id of [1, 2, 3]) await sim.until(id, "in_progress");
  await turns(20);
  await sim.state.tasks.cancel(1);
  await sim.state.tasks.reset(2);
  await sim.state.tasks.release(3, { force: true });
  await sim.clock.advance(1_000);
  assert.deepEqual(ended.sort(), [1, 2, 3]);
  assert.equal((await sim.state.tasks.get(1)).status, "cancelled");
});

test("a usage limit parks the task until then, counts no attempt, and nothing else is claimed meanwhile", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.addAll([{ description: "limited", max_attempts: 1 }, { description: "next" }]);
  const notices: string[] = [];
  const runs: number[] = [];
  const resumeAt = sim.clock.now() + 60_000;
  const { worker } = sim.start(({ id }) => { runs.push(id); if (runs.length === 1) throw new UsageLimitError("limit reached, resets at 9", resumeAt); return "ok"; }, { notice: (line) => notices.push(line) });
  await sim.finish(worker.idle());
  await sim.clock.advance(55_000);
  assert.deepEqual(runs, [1]);
  const task = await sim.state.tasks.get(1);
  assert.deepEqual([task.status, task.ready, Date.parse(task.run_at!)], ["pending", false, resumeAt]);
  assert.deepEqual(notices, [`limit reached, resets at 9: usage limit until ${task.run_at}; nothing is started before, no attempt was counted`]);
  assert.equal((await sim.until(1)).attempts, 1);
  await sim.until(2);
  assert.deepEqual(runs.slice(1), [1, 2], "in their order");
});

test("a usage limit met inside a step does the same; the step is not failed and runs when the limit has ended", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x", max_attempts: 1 });
  let runs = 0;
  sim.start(async (_, { step }) => step("model call", { retry: { tries: 5 } }, () => { if (++runs === 1) throw new UsageLimitError("limit reached", sim.clock.now() + 60_000); return "answer"; }));
  await sim.clock.advance(50_000);
  assert.deepEqual([runs, (await sim.state.tasks.get(id)).status, await sim.state.tasks.steps(id)], [1, "pending", []]);
  assert.deepEqual([(await sim.until(id)).result, (await sim.state.tasks.get(id)).attempts, runs], ["answer", 1, 2]);
});

test("an executor that cannot work claims nothing, and says so to whoever asks", async (t) => {
  const state = await MEMORY.open(t);
  const task = await state.tasks.add({ description: "x" });
  const worker = state.startWorker({ executor: { ...functionExecutor(() => 1), prepare: async () => { throw new PawlError("usage", "no such program: claude"); } } });
  await turns(20); // nobody asks yet: that must not end the process
  await assert.rejects(worker.idle(), { code: "usage" });
  await assert.rejects(worker.nextEvent(), { code: "usage" });
  assert.deepEqual(await state.tasks.get(task.id), task);
  await worker.stop();
});

test("hooks that throw, at once or later, break nothing and are told", async (t) => {
  const sim = await simulate(t);
  const notices: string[] = [];
  const { id } = await sim.state.tasks.add({ description: "x", verifier: "function" });
  sim.start(() => 1, { verify: () => true, onStart: () => { throw new Error("start"); }, onReview: async () => { throw new Error("review"); }, onEnd: async () => Promise.reject(new Error("end")), notice: (line) => notices.push(line) });
  assert.equal((await sim.until(id)).status, "completed");
  assert.deepEqual(notices, ["The hook onStart failed: start", "The hook onReview failed: review", "The hook onEnd failed: end"]);
});

test("executeOnce throws what the task failed with, and what it waits for", async (t) => {
  const state = await MEMORY.open(t);
  await state.tasks.add({ description: "x", key: "fails", max_attempts: 1 });
  await assert.rejects(state.tasks.executeOnce("fails", () => { throw new Error("boom", { cause: new Error("why") }); }), (error: PawlError) => error.code === "failed" && error.message === "boom" && (error.cause as Error).message === "why");
  await assert.rejects(state.tasks.executeOnce("fails", () => 1), { code: "failed", message: "boom" });
  await state.tasks.add({ description: "x", key: "asks" });
  await assert.rejects(state.tasks.executeOnce("asks", (_, { ask }) => ask("q", "?")), { code: "waiting" });
  await state.tasks.add({ description: "x", key: "judged", verifier: "somebody" });
  await assert.rejects(state.tasks.executeOnce("judged", () => 1), { code: "waiting", message: /verifier "somebody"/ });
  assert.deepEqual((await state.history.of((await state.tasks.get("judged")).id)).map((event) => event.event), ["created", "claimed", "submitted", "released"]);
  await assert.rejects(state.tasks.executeOnce("nobody", () => 1), { code: "not_found" });
});

test("executeOnce does not hang when the state can no longer be used", async (t) => {
  const state = await MEMORY.open(t);
  await state.tasks.add({ description: "x", key: "job" });
  const { store } = state.committer;
  const commit = store.commit.bind(store);
  store.commit = async (changes) => { if (changes.some((change) => "claim" in change)) throw new PawlError("storage", "disk full"); return commit(changes); };
  await assert.rejects(state.tasks.executeOnce("job", () => 1), { code: "storage" });
});

test("idle does not hang when the very look that would answer it fails", async (t) => {
  const state = await MEMORY.open(t);
  const { store } = state.committer;
  const worker = state.work({ execute: () => 1 });
  await worker.idle();
  const commit = store.commit.bind(store);
  await state.tasks.add({ description: "x" });
  store.commit = async (changes) => { if (changes.some((change) => "claim" in change)) throw new PawlError("storage", "disk full"); return commit(changes); };
  await assert.rejects(worker.idle(), { code: "storage" });
  store.commit = commit;
});

test("a worker with nothing to do claims a task in the very flush that adds it", async (t) => {
  const state = await MEMORY.open(t);
  const { store } = state.committer;
  const flushes: number[] = [];
  const commit = store.commit.bind(store);
  store.commit = (changes) => (flushes.push(changes.length), commit(changes));
  const ran: number[] = [];
  const worker = state.work({ execute: (task) => void ran.push(task.id) });
  await worker.idle();
  flushes.length = 0;
  await state.tasks.add({ description: "x" });
  assert.deepEqual(flushes, [2], "one flush, of the task and of its claim");
  await worker.idle();
  assert.deepEqual(ran, [1]);
});

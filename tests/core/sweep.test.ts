// The sweep: what happens without anybody's call. Dead and silent owners, passed deadlines, waits whose time has come,
// delayed and blocked tasks. Several sweeps at once, and changes between its reading and its writing, do no harm.
import assert from "node:assert/strict";
import { test } from "node:test";
import { iso } from "../../src/base/clock.ts";
import { LIMITS } from "../../src/base/limits.ts";
import { askTimer } from "../../src/core/decision.ts";
import { settle } from "../../src/core/committer.ts";
import type { ProcessRecord, Wait, WorkerRecord } from "../../src/core/records.ts";
import { endStep, startStep, type StepPlan } from "../../src/core/step.ts";
import { nextInstant, sweep, type Evidence } from "../../src/core/sweep.ts";
import { heartbeat, park } from "../../src/core/task.ts";
import { claimDue } from "../../src/core/claim.ts";
import type { State } from "../../src/state.ts";
import { simulate, type Simulation } from "../simulation.ts";
import { ALL_STORES, STORES } from "../stores.ts";
import { NO_EVIDENCE } from "./samples.ts";

const SECOND = 1_000;
const LANE = { queue: "default", batch_id: null };

async function claimBy(state: State, worker: string, leaseMs = 10 * SECOND) {
  const [task] = await claimDue(state.committer, { lanes: [LANE], verifier: null, limit: 1, worker, leaseMs });
  return task!;
}

const run = (sim: Simulation, evidence: Partial<Evidence> = {}, full = false) => sweep(sim.state.committer, { ...NO_EVIDENCE, ...evidence }, "sweeper", full);

const plan: StepPlan = { key: "a", name: "a", effect: "repeat", kept: false, input: null, inputHash: null };

const workerRecord = (id: string): WorkerRecord => ({
  id, label: `label of ${id}`, host: "h", boot_id: "b", pid: 42, lock_path: null, lock_dev: null, lock_ino: null, started_at: iso(0), seen_at: iso(0),
});

for (const store of STORES) {
  test(`${store.name}: an owner of whom nothing is known loses the task when its lease has run out, not before`, async (t) => {
    const sim = await simulate(t, store);
    await sim.state.tasks.add({ description: "x" });
    const task = await claimBy(sim.state, "w1");
    await sim.clock.advance(10 * SECOND - 1);
    assert.equal(await run(sim), 0);
    await sim.clock.advance(2);
    assert.equal(await run(sim), 1);
    const after = await sim.state.tasks.get(task.id);
    assert.deepEqual([after.status, after.ready, after.fence, after.takeovers, after.worker, after.lease_expires_at], ["pending", true, 2, 1, null, null]);
    assert.equal(await run(sim), 0);
    const [lost] = (await sim.state.history.of(task.id)).slice(-1);
    assert.deepEqual([lost!.event, lost!.actor, lost!.details], ["owner_lost", "sweeper", { worker: "w1", step_recorded: false }]);
    assert.match(lost!.reason!, /its lease ran out 2026-/);
  });

  test(`${store.name}: a dead owner loses its tasks at once; what it left running is ended first; its record goes`, async (t) => {
    const sim = await simulate(t, store);
    await sim.state.tasks.addAll([{ description: "a" }, { description: "b" }, { description: "other" }]);
    await sim.state.committer.commit({ puts: [{ kind: "worker", record: workerRecord("w1") }, { kind: "worker", record: workerRecord("w2") }] });
    const tasks = [await claimBy(sim.state, "w1"), await claimBy(sim.state, "w1"), await claimBy(sim.state, "w2")];
    const process: ProcessRecord = { worker: "w1", pid: 77, task_id: tasks[0]!.id, fence: 1, boot_id: "b", start_time: "9", started_at: iso(0) };
    await sim.state.committer.commit({ puts: [{ kind: "process", record: process }] });
    const did: unknown[] = [];
    const evidence: Partial<Evidence> = {
      ownerState: (_, id) => (id === "w1" ? "dead" : "alive"),
      endProcesses: async (processes) => (did.push(["end", processes.map(({ pid }) => pid), (await sim.state.tasks.get(1)).status]), true),
      forget: (worker) => did.push(["forget", worker.id]),
    };
    assert.equal(await run(sim, evidence), 2);
    assert.deepEqual(did, [["end", [77], "in_progress"], ["forget", "w1"]]);
    assert.deepEqual((await sim.state.tasks.list()).map((task) => task.status), ["pending", "pending", "in_progress"]);
    assert.match((await sim.state.history.of(1)).at(-1)!.reason!, /worker label of w1 \(pid 42\) died/);
    const { store: kept } = sim.state.committer;
    assert.deepEqual([(await kept.list("worker")).map(({ id }) => id), await kept.list("process")], [["w2"], []]);
  });
}

for (const store of ALL_STORES) {
  test(`${store.name}: of workers that nobody has seen for long only those that own something, or are known to live, are kept`, async (t) => {
    const state = await store.open(t);
    const now = state.committer.store.clock.now();
    const before = iso(now - LIMITS.workerUnseenMs);
    const seen = (id: string, at: string) => ({ kind: "worker", record: { ...workerRecord(id), seen_at: at } });
    // More than one sweep used to look at, and the dead one behind them all.
    const gone = Array.from({ length: 600 }, (_, i) => seen(`gone${i}`, before));
    const process: ProcessRecord = { worker: "gone7", pid: 77, task_id: 1, fence: 1, boot_id: "b", start_time: "9", started_at: before };
    await state.committer.commit({ puts: [...gone, seen("owner", before), seen("living", before), seen("late", iso(now - LIMITS.workerUnseenMs + 600 * SECOND)), seen("zombie", iso(now)), { kind: "process", record: process }] });
    await state.tasks.add({ description: "x" });
    await claimBy(state, "owner", 600 * SECOND);
    const evidence: Evidence = { ...NO_EVIDENCE, ownerState: (_, id) => (id === "zombie" ? "dead" : id === "living" ? "alive" : "unknown") };
    await sweep(state.committer, evidence, "sweeper", false);
    assert.equal(await state.committer.store.count("worker"), 603);
    await sweep(state.committer, evidence, "sweeper", true);
    assert.deepEqual((await state.committer.store.list("worker")).map(({ id }) => id), ["late", "living", "owner"]);
    assert.equal(await state.committer.store.count("process"), 0);
  });

  test(`${store.name}: a worker says that it is there, and one that says so while it is being forgotten is kept`, async (t) => {
    const state = await store.open(t);
    const { store: kept } = state.committer;
    const now = kept.clock.now();
    await state.committer.commit({ puts: [{ kind: "worker", record: { ...workerRecord("w1"), seen_at: iso(now - LIMITS.workerUnseenMs) } }] });
    const seenAt = async () => (await kept.get("worker", ["w1"]))[0]?.["seen_at"];
    // The second time it is asked for, to forget it: its word is on its way before the change that removes it.
    let asked = 0;
    const says = () => state.committer.commit({ puts: [{ kind: "worker", key: "w1", set: { seen_at: iso(now - LIMITS.workerUnseenMs + 1) } }] });
    await sweep(state.committer, { ...NO_EVIDENCE, ownerState: () => (++asked === 2 && void says(), "unknown") }, "sweeper", true);
    assert.deepEqual([asked, await seenAt()], [2, iso(now - LIMITS.workerUnseenMs + 1)]);
    await sweep(state.committer, NO_EVIDENCE, "w1", false);
    const said = await seenAt();
    assert.ok(Date.parse(said as string) >= now, String(said));
    await sweep(state.committer, NO_EVIDENCE, "w1", true);
    assert.equal(await seenAt(), said, "written once an hour");
  });
}

test("hazard 12: while what a dead owner left running cannot be ended, its tasks stay where they are", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.add({ description: "x" });
  await sim.state.committer.commit({ puts: [{ kind: "worker", record: workerRecord("w1") }] });
  await claimBy(sim.state, "w1");
  assert.equal(await run(sim, { ownerState: () => "dead", endProcesses: async () => false }), 0);
  assert.equal((await sim.state.tasks.get(1)).status, "in_progress");
});

test("hazard 14: an owner that lives keeps its silent task until the task's time-out, and for ever without one", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.addAll([{ description: "patient" }, { description: "bounded", timeout_ms: 60 * SECOND }]);
  await claimBy(sim.state, "w1");
  await claimBy(sim.state, "w1");
  sim.clock.jump(60 * SECOND);
  assert.equal(await run(sim, { ownerState: () => "alive" }), 0);
  sim.clock.jump(11 * SECOND);
  assert.equal(await run(sim, { ownerState: () => "alive" }), 1);
  sim.clock.jump(86_400 * SECOND);
  assert.equal(await run(sim, { ownerState: () => "alive" }), 0);
  assert.deepEqual((await sim.state.tasks.list()).map((task) => task.status), ["in_progress", "pending"]);
});

test("a takeover counts the attempt unless a step was recorded under the lost ownership; an older one does not help", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x", max_attempts: 2 });
  const { committer } = sim.state;
  const first = await claimBy(sim.state, "w1");
  await committer.commit(endStep(first, plan, 1, sim.clock.now(), { output: 1 }, sim.clock.now()));
  await sim.clock.advance(11 * SECOND);
  await run(sim);
  assert.equal((await claimBy(sim.state, "w2")).attempts, 1);
  await sim.clock.advance(11 * SECOND);
  await run(sim);
  const third = await claimBy(sim.state, "w3");
  assert.equal(third.attempts, 2);
  await committer.commit(startStep(third, { ...plan, key: "b", effect: "once" }, 1, sim.clock.now()));
  await sim.clock.advance(11 * SECOND);
  await run(sim);
  assert.equal((await claimBy(sim.state, "w4")).attempts, 2, "a recorded start is a recorded step");
  await sim.clock.advance(11 * SECOND);
  await run(sim);
  const failed = await sim.state.tasks.get(id);
  assert.deepEqual([failed.status, failed.error!.code], ["failed", "owner_lost"]);
});

test("a task that fails by a takeover leaves no open waits behind", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.add({ description: "x", max_attempts: 1 });
  const task = await claimBy(sim.state, "w1");
  await sim.state.committer.commit(askTimer(task, { key: "nap" }, sim.clock.now() + 3_600 * SECOND, sim.clock.now()));
  await sim.clock.advance(11 * SECOND);
  await run(sim);
  assert.equal((await sim.state.tasks.get(1)).status, "failed");
  assert.deepEqual((await sim.state.committer.store.list("wait")).map((wait) => wait["status"]), ["withdrawn"]);
});

test("five sweeps at once take a task over once", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.add({ description: "x" });
  await claimBy(sim.state, "w1");
  await sim.clock.advance(11 * SECOND);
  const moved = await Promise.all(Array.from({ length: 5 }, () => run(sim)));
  assert.equal(moved.reduce((a, b) => a + b), 1);
  assert.deepEqual(await sim.events(1), ["created", "claimed", "owner_lost"]);
});

/** Runs `hook` once between the sweep's reading of late tasks and whatever it does about them. */
function whenLateIsRead(sim: Simulation, index: string, hook: () => Promise<unknown>): void {
  const { store } = sim.state.committer;
  const list = store.list.bind(store);
  store.list = async (kind, query) => {
    const found = await list(kind, query);
    if (kind === "task" && query?.index === index && found.length > 0) {
      store.list = list;
      await hook();
    }
    return found;
  };
}

test("an owner that renews between the sweep's reading and its writing keeps the task", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.add({ description: "x" });
  const task = await claimBy(sim.state, "w1");
  await sim.clock.advance(11 * SECOND);
  whenLateIsRead(sim, "lease", () => sim.state.committer.commit(heartbeat({ id: task.id, fence: task.fence, worker: "w1" }, 10 * SECOND, sim.clock.now())));
  assert.equal(await run(sim), 0);
  assert.equal((await sim.state.tasks.get(1)).worker, "w1");
});

for (const [index, make] of [
  ["lease", async (sim: Simulation) => { await sim.state.tasks.add({ description: "x" }); await claimBy(sim.state, "w1"); }],
  ["deadline", async (sim: Simulation) => sim.state.tasks.add({ description: "x", deadline_at: iso(sim.clock.now() + SECOND) })],
  ["delayed", async (sim: Simulation) => sim.state.tasks.add({ description: "x", run_at: iso(sim.clock.now() + SECOND) })],
] as const) {
  test(`a task that is removed while the sweep looks at its ${index} stops no sweep`, async (t) => {
    const sim = await simulate(t);
    await make(sim);
    await sim.state.tasks.add({ description: "other", run_at: iso(sim.clock.now() + SECOND) });
    await sim.clock.advance(11 * SECOND);
    whenLateIsRead(sim, index, async () => { if (index === "lease") await sim.state.tasks.release(1, { force: true }); await sim.state.tasks.remove(1); });
    await run(sim);
    await run(sim);
    assert.equal((await sim.state.tasks.get(2)).ready, true);
  });
}

test("a delayed task starts at its time, unless something else still holds it", async (t) => {
  const sim = await simulate(t);
  const run_at = iso(sim.clock.now() + 5 * SECOND);
  const a = await sim.state.tasks.add({ description: "a" });
  await sim.state.tasks.addAll([{ description: "free", run_at }, { description: "blocked", run_at, depends_on: [a.id] }, { description: "ends", run_at }]);
  await sim.state.tasks.complete(4, "early");
  await sim.clock.advance(5 * SECOND - 1);
  assert.equal(await run(sim), 0);
  await sim.clock.advance(1);
  await run(sim);
  assert.deepEqual((await sim.state.tasks.list()).map((task) => [task.ready, task.run_at]), [[true, null], [true, null], [false, null], [false, null]]);
  assert.deepEqual((await sim.events(4)), ["created", "completed"], "what has ended is left alone");
  await sim.state.tasks.complete(a.id, 1);
  assert.equal((await sim.state.tasks.get(3)).ready, true);
});

test("a review that somebody holds, or that a person must judge, is not made due by a time", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.add({ description: "x", verifier: "function" });
  const one = sim.start(() => 1, { verify: () => new Promise(() => undefined) });
  await sim.until(1, "review");
  await sim.state.tasks.edit(1, { run_at: iso(sim.clock.now() + SECOND) });
  await sim.clock.advance(2 * SECOND);
  await run(sim);
  const task = await sim.state.tasks.get(1);
  assert.deepEqual([task.ready, task.worker === null], [false, false]);
  one.die();
});

test("a wait whose time has come is settled and wakes its task, once; a task that runs meanwhile is told by the wait", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.addAll([{ description: "parked" }, { description: "running" }]);
  for (const [i, worker] of ["w1", "w2"].entries()) {
    const task = await claimBy(sim.state, worker, 3_600 * SECOND);
    await sim.state.committer.commit(askTimer(task, { key: "nap" }, sim.clock.now() + 5 * SECOND, sim.clock.now()));
    const [wait] = (await sim.state.committer.store.list("wait", { equals: { task_id: task.id } })) as unknown as Wait[];
    if (i === 0) await settle(sim.state.committer, task, (current, now) => park(current, [wait!], { actor: worker, now, fence: task.fence }));
  }
  await sim.clock.advance(5 * SECOND);
  await Promise.all([run(sim), run(sim)]);
  assert.deepEqual((await sim.state.tasks.list()).map((task) => [task.status, task.ready]), [["pending", true], ["in_progress", false]]);
  assert.deepEqual((await sim.state.committer.store.list("wait")).map((wait) => wait["status"]), ["settled", "settled"]);
  assert.deepEqual((await sim.events(1)).filter((event) => event === "woken"), ["woken"]);
});

test("the next instant is the soonest of leases, starts, waits and deadlines", async (t) => {
  const sim = await simulate(t);
  const from = sim.clock.now();
  const { committer } = sim.state;
  const next = async () => { const at = await nextInstant(committer); return at === null ? null : (at - from) / SECOND; };
  assert.equal(await next(), null);
  await sim.state.tasks.add({ description: "d", deadline_at: iso(from + 90 * SECOND) });
  assert.equal(await next(), 90);
  const task = await claimBy(sim.state, "w1", 80 * SECOND);
  assert.equal(await next(), 80);
  await committer.commit(askTimer(task, { key: "nap" }, from + 70 * SECOND, from));
  assert.equal(await next(), 70);
  await sim.state.tasks.add({ description: "later", run_at: iso(from + 60 * SECOND) });
  assert.equal(await next(), 60);
});

test("operation ids are forgotten after a day, not before", async (t) => {
  const sim = await simulate(t);
  const { committer } = sim.state;
  await committer.commit({ puts: [], op_id: "old" });
  await sim.clock.advance(1);
  sim.clock.jump(LIMITS.operationMs);
  await committer.commit({ puts: [], op_id: "new" });
  await run(sim, {}, true);
  assert.deepEqual((await committer.store.list("op")).map(({ id }) => id), ["new"]);
});

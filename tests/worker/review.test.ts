// Results that are judged, and the limits of time: rejections begin new rounds until no attempt is left, errors of the
// verifier are not rejections and end with a person, deadlines hold in every state, time-outs for one attempt.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LIMITS } from "../../src/base/limits.ts";
import { gate, simulate, turns } from "../simulation.ts";
import { STORES } from "../stores.ts";

const HANG = new Promise<never>(() => undefined);

for (const store of STORES) {
  test(`${store.name}: a rejection goes back with its feedback, until no attempt is left; retry puts it back and history shows every hop`, async (t) => {
    const sim = await simulate(t, store);
    const { id } = await sim.state.tasks.add({ description: "write", verifier: "function" });
    const seen: (string | null)[] = [];
    let n = 0;
    sim.start((task) => { seen.push(task.feedback); return `draft ${seen.length}`; }, { verify: () => ({ passed: ++n === 4, feedback: `no ${n}` }) });
    const failed = await sim.until(id);
    assert.deepEqual(seen, [null, "no 1", "no 2"]);
    assert.deepEqual([failed.status, failed.attempts, failed.round, failed.feedback, failed.error!.code], ["failed", 3, 3, "no 3", "rejected"]);
    assert.match(failed.error!.message, /rejected after 3 of 3 attempts: no 3/);
    await sim.state.tasks.retry(id);
    const done = await sim.until(id);
    assert.deepEqual([done.status, done.result, seen[3]], ["completed", "draft 4", "no 3"]);
    assert.deepEqual(await sim.events(id), ["created", "claimed", "submitted", "rejected", "claimed", "submitted", "rejected", "claimed", "submitted", "failed", "retried", "claimed", "submitted", "completed"]);
    assert.ok((await sim.state.history.of(id)).every((event) => /^\d{4}-.*Z$/.test(event.at)));
    assert.equal(await sim.state.history.verify(id), null);
  });

  test(`${store.name}: a crash in review judges again and does not execute again`, async (t) => {
    const sim = await simulate(t, store);
    const { id } = await sim.state.tasks.add({ description: "x", verifier: "function" });
    let runs = 0;
    const judging = gate();
    const first = sim.start(() => ++runs, { verify: () => (judging.open(), HANG) });
    await sim.finish(judging.promise);
    assert.deepEqual([(await sim.state.tasks.get(id)).status, (await sim.state.tasks.get(id)).result], ["review", 1], "the result is stored before it is judged");
    first.die();
    sim.start(() => ++runs, { verify: (task, result) => result === 1 && task.status === "review" });
    const done = await sim.until(id);
    assert.deepEqual([done.status, done.result, done.attempts, runs], ["completed", 1, 1, 1]);
  });
}

test("a worker that judges judges all it claims; a task's own verifier goes before", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.addAll([{ description: "plain" }, { description: "named", verifier: "somebody else" }]);
  const judged: number[] = [];
  await sim.finish(sim.start(() => 1, { verify: ({ id }) => judged.push(id) > 0 }).worker.idle());
  assert.deepEqual((await sim.state.tasks.list()).map((task) => [task.status, task.verifier]), [["completed", "function"], ["review", "somebody else"]]);
  assert.deepEqual(judged, [1]);
});

test("without its verifier a result stays in review, and is judged by the worker that has it", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x", verifier: "function" });
  const without = sim.start(() => "made");
  await sim.finish(without.worker.idle());
  await sim.clock.advance(60_000);
  const waiting = await sim.state.tasks.get(id);
  assert.deepEqual([waiting.status, waiting.result, waiting.worker, waiting.ready], ["review", "made", null, true]);
  assert.deepEqual(await sim.events(id), ["created", "claimed", "submitted", "released"], "said once, not again and again");
  assert.match((await sim.state.history.of(id)).at(-1)!.reason!, /needs the verifier "function"/);
  sim.start(() => assert.fail("it is not executed again"), { verify: () => true });
  assert.deepEqual([(await sim.until(id)).status, (await sim.state.tasks.get(id)).attempts], ["completed", 1]);
});

test("errors of the verifier are not rejections: tried again later, then a person judges; approving completes it and frees its dependents", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x", verifier: "function", max_attempts: 1 });
  const next = await sim.state.tasks.add({ description: "next", depends_on: [id] });
  const at: number[] = [];
  let runs = 0;
  const notices: string[] = [];
  sim.start(() => ++runs, { verify: (task) => { if (task.id === next.id) return true; at.push(sim.clock.monotonic()); throw new Error("linter crashed"); }, notice: (line) => notices.push(line) });
  await sim.untilTrue(async () => (await sim.state.decisions.inbox()).length === 1);
  assert.equal(at.length, LIMITS.reviews);
  assert.deepEqual(at.slice(1).map((ms, i) => Math.round((ms - at[i]!) / 1_000)), [1, 2, 4, 8]);
  const stuck = await sim.state.tasks.get(id);
  assert.deepEqual([stuck.status, stuck.result, stuck.attempts, stuck.round, stuck.feedback, stuck.ready, stuck.worker], ["review", 1, 1, 1, null, false, null]);
  assert.equal(notices.length, LIMITS.reviews);
  await sim.clock.advance(120_000);
  assert.equal(at.length, LIMITS.reviews, "it is left alone now");
  const [decision] = await sim.state.decisions.inbox();
  assert.deepEqual([decision!.kind, decision!.details], ["review", { result: 1, verifier: "function" }]);
  await sim.state.decisions.settle(decision!.id, { answer: "approve", actor: "bob" });
  const done = await sim.state.tasks.get(id);
  assert.deepEqual([done.status, done.result, done.error, done.waiting_for], ["completed", 1, null, null]);
  assert.equal((await sim.state.tasks.get(next.id)).ready, true);
  const judged = await sim.until(next.id);
  assert.deepEqual([judged.status, judged.verifier], ["completed", "function"], "a task that names no verifier gets the one of the worker that claims it");
});

test("a person who denies a stuck review sends it back with the reason", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x", verifier: "function" });
  let broken = true;
  sim.start((task) => task.feedback, { verify: () => { if (broken) throw new Error("down"); return true; } });
  await sim.untilTrue(async () => (await sim.state.decisions.inbox()).length === 1);
  broken = false;
  await sim.state.decisions.settle("d1", { answer: "deny", reason: "too short", actor: "bob" });
  const done = await sim.until(id);
  assert.deepEqual([done.result, done.attempts, done.round, done.reviews], ["too short", 2, 2, 0]);
});

test("a review in which the worker is stopped is neither rejected nor counted", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x", verifier: "function" });
  const one = sim.start(() => 1, { verify: () => HANG });
  await sim.until(id, "review");
  await turns(20);
  await sim.finish(one.worker.abort());
  const task = await sim.state.tasks.get(id);
  assert.deepEqual([task.status, task.reviews, task.ready, task.worker, task.result], ["review", 0, true, null, 1]);
});

test("a worker that dies in review again and again is bounded", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x", verifier: "function" });
  for (let i = 0; i < LIMITS.takeovers && (await sim.state.tasks.get(id)).status !== "failed"; i++) {
    let judging = false;
    const one = sim.start(() => 1, { verify: () => ((judging = true), HANG) });
    await sim.untilTrue(async () => judging || (await sim.state.tasks.get(id)).status === "failed");
    one.die();
  }
  sim.start(() => 1, { verify: () => HANG });
  const failed = await sim.until(id);
  assert.deepEqual([failed.status, failed.error!.code, failed.takeovers], ["failed", "owner_lost", LIMITS.takeovers]);
});

test("a crash with nothing recorded counts its attempt; the last one fails the task", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x", max_attempts: 2 });
  for (let i = 1; i <= 2; i++) {
    let began = false;
    const one = sim.start(() => ((began = true), HANG));
    await sim.untilTrue(() => began);
    assert.equal((await sim.state.tasks.get(id)).attempts, i);
    one.die();
  }
  sim.start(() => 1);
  const failed = await sim.until(id);
  assert.deepEqual([failed.status, failed.error!.code, failed.attempts], ["failed", "owner_lost", 2]);
  assert.match(failed.error!.message, /lost its worker in attempt 2 of 2/);
});

test("a time-out ends the attempt, not the task; each attempt has the whole of it", async (t) => {
  const sim = await simulate(t);
  const { id } = await sim.state.tasks.add({ description: "x", timeout_ms: 1_000 });
  const signals: AbortSignal[] = [];
  const at: number[] = [];
  sim.start((_, { signal, attempt }) => {
    at.push(sim.clock.monotonic());
    if (attempt === 3) return "in time";
    signals.push(signal);
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  });
  const done = await sim.until(id);
  assert.deepEqual([done.result, done.attempts], ["in time", 3]);
  assert.ok(signals.every((signal) => signal.aborted));
  assert.match((await sim.state.history.of(id)).find((event) => event.event === "attempt_failed")!.reason!, /timed out after 1000 ms/);
  assert.deepEqual([at[1]! - at[0]! >= 2_000, at[2]! - at[1]! >= 3_000], [true, true], "1 s of time-out and the back-off");
});

const SECONDS = 1_000;
for (const state of ["pending", "delayed", "blocked", "in_progress", "in_progress, ignoring its signal", "review", "review, nobody judging"] as const) {
  test(`a passed deadline fails a task that is ${state}`, async (t) => {
    const sim = await simulate(t);
    const deadline = sim.clock.now() + 30 * SECONDS;
    const other = await sim.state.tasks.add({ description: "other", queue: "nobody" });
    const task = await sim.state.tasks.add({
      description: "x", deadline_at: new Date(deadline).toISOString(), queue: state === "pending" ? "nobody" : "default", verifier: state.startsWith("review") ? "function" : null,
      run_at: state === "delayed" ? new Date(deadline + 60 * SECONDS).toISOString() : null, depends_on: state === "blocked" ? [other.id] : [],
    });
    let aborted: unknown;
    sim.start((_, { signal }) => {
      signal.addEventListener("abort", () => (aborted = signal.reason));
      if (state.startsWith("review")) return 1;
      return state === "in_progress" ? new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))) : HANG;
    }, state === "review" ? { verify: () => HANG } : {});
    await sim.clock.advance(29 * SECONDS);
    const before = await sim.state.tasks.get(task.id);
    assert.equal(before.status, state === "delayed" || state === "blocked" ? "pending" : state.split(",")[0]);
    const failed = await sim.until(task.id);
    assert.deepEqual(failed.error, { code: "deadline", message: "deadline exceeded", permanent: true });
    assert.deepEqual([failed.status, failed.worker, failed.ready, failed.run_at], ["failed", null, false, null]);
    assert.ok(Date.parse(failed.completed_at!) >= deadline && Date.parse(failed.completed_at!) < deadline + 7 * SECONDS, failed.completed_at!);
    if (state.startsWith("in_progress")) assert.equal((aborted as { code: string }).code, "deadline");
    await assert.rejects(sim.state.tasks.retry(task.id), { code: "deadline", message: /needs a new one/ });
    await sim.state.tasks.retry(task.id, { deadline_at: null });
    assert.equal((await sim.state.tasks.get(task.id)).deadline_at, null);
  });
}

test("the deadline is the same instant after a crash and a resume", async (t) => {
  const sim = await simulate(t);
  const deadline = sim.clock.now() + 300 * SECONDS;
  const { id } = await sim.state.tasks.add({ description: "x", deadline_at: new Date(deadline).toISOString() });
  for (let i = 0; i < 3; i++) {
    const one = sim.start(async (_, { step }) => (await step(`s${i}`, () => 1), HANG));
    await sim.untilTrue(async () => (await sim.state.tasks.steps(id)).length === i + 1);
    one.die();
    await sim.clock.advance(60 * SECONDS);
  }
  sim.start(() => HANG);
  const failed = await sim.until(id);
  assert.equal(failed.deadline_at, new Date(deadline).toISOString());
  assert.ok(Math.abs(Date.parse(failed.completed_at!) - deadline) < 6 * SECONDS);
});

test("attempts fail and come back after 1, 2, 4 s; none is left after the last; a permanent error ends at once", async (t) => {
  const sim = await simulate(t);
  const [flaky, broken] = await sim.state.tasks.addAll([{ description: "flaky", max_attempts: 4 }, { description: "broken", max_attempts: 4 }]);
  const at: number[] = [];
  sim.start(({ id }) => {
    if (id === broken!.id) throw new TypeError("x is not a function");
    at.push(sim.clock.monotonic());
    throw Object.assign(new Error("busy", { cause: new Error("the disk") }), { status: 503 });
  }, { concurrency: 2 });
  const failed = await sim.until(flaky!.id);
  assert.deepEqual(at.slice(1).map((ms, i) => Math.round((ms - at[i]!) / 500) / 2), [1, 2, 4]);
  assert.deepEqual([failed.attempts, failed.error], [4, { message: "busy", cause: "the disk" }]);
  assert.deepEqual([(await sim.until(broken!.id)).attempts, (await sim.state.tasks.get(broken!.id)).error], [1, { message: "x is not a function", code: "TypeError", permanent: true }]);
});

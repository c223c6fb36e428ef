// Effects that must happen once: the intent is durable before the effect begins, and an outcome that was never recorded is
// checked or asked about, never guessed. An answer is for one start of one step and for no other.
import assert from "node:assert/strict";
import { test } from "node:test";
import { NotDone } from "../../src/core/step.ts";
import type { CheckAnswer, StepOptions } from "../../src/worker/context.ts";
import { simulate, turns, type Simulation } from "../simulation.ts";
import { ALL_STORES } from "../stores.ts";

const HANG = new Promise<never>(() => undefined);

type Effect = { runs: number; keys: string[]; starts: number[] };

/** A task whose one step crashes its worker in the middle of the effect, `crashes` times; then it succeeds. */
async function crashInEffect(sim: Simulation, options: StepOptions = {}, crashes = 1) {
  const effect: Effect = { runs: 0, keys: [], starts: [] };
  const task = await sim.state.tasks.add({ description: "deploy" });
  const start = () => sim.start(async (_, { step }) =>
    step("deploy", { effect: "once", ...options }, async ({ idempotencyKey, start }) => {
      effect.runs++;
      effect.keys.push(idempotencyKey);
      effect.starts.push(start);
      return effect.runs <= crashes ? HANG : { run: effect.runs };
    }),
  );
  const crash = async (runs: number) => {
    const worker = start();
    await sim.untilTrue(() => effect.runs === runs, `run ${runs} of the effect`);
    worker.die();
  };
  await crash(1);
  return { task, effect, start, crash };
}

for (const store of ALL_STORES) {
  test(`${store.name}: the intent is durable before the effect begins`, async (t) => {
    const sim = await simulate(t, store);
    const task = await sim.state.tasks.add({ description: "x" });
    let seen: unknown;
    sim.start(async (_, { step }) => step("pay", { effect: "once", input: { eur: 5 } }, async () => void (seen = (await sim.state.tasks.steps(task.id)).map((s) => [s.key, s.status, s.start, s.input]))));
    await sim.until(task.id);
    assert.deepEqual(seen, [["pay", "started", 1, { eur: 5 }]]);
    assert.deepEqual((await sim.state.tasks.steps(task.id)).map((s) => s.status), ["completed"]);
  });

  test(`${store.name}: after a crash in a once effect without a check, a person is asked, and nothing runs meanwhile`, async (t) => {
    const sim = await simulate(t, store);
    const { task, effect, start } = await crashInEffect(sim);
    start();
    const waiting = await sim.until(task.id, "waiting");
    await sim.clock.advance(60_000);
    assert.equal(effect.runs, 1);
    const [decision] = await sim.state.decisions.inbox();
    assert.equal(decision!.kind, "unknown_effect");
    assert.match(decision!.question, /"deploy" of task 1/);
    assert.deepEqual(Object.keys(decision!.options as object), ["done", "again", "fail"]);
    assert.deepEqual(waiting.waiting_for, [{ kind: "decision", step: "deploy", decision_id: "d1" }]);
    await sim.state.decisions.settle("d1", { answer: "done", value: { tag: "v3" }, actor: "bob" });
    const done = await sim.until(task.id);
    assert.deepEqual([done.result, effect.runs, done.attempts], [{ tag: "v3" }, 1, 1]);
    assert.deepEqual(await sim.state.decisions.inbox(), []);
  });
}

test("the answer `again` runs it once more, as its second start, with the same idempotency key", async (t) => {
  const sim = await simulate(t);
  const { task, effect, start } = await crashInEffect(sim);
  start();
  await sim.until(task.id, "waiting");
  await sim.state.decisions.settle("d1", { answer: "again", actor: "bob" });
  assert.deepEqual((await sim.until(task.id)).result, { run: 2 });
  assert.deepEqual(effect.starts, [1, 2]);
  assert.equal(effect.keys[0], effect.keys[1]);
});

test("the answer `fail` fails the step and the task, with the reason, and is not tried again", async (t) => {
  const sim = await simulate(t);
  const { task, effect, start } = await crashInEffect(sim);
  start();
  await sim.until(task.id, "waiting");
  await sim.state.decisions.settle("d1", { answer: "fail", reason: "too risky", actor: "bob" });
  const failed = await sim.until(task.id);
  assert.equal(failed.status, "failed");
  assert.match(failed.error!.message, /too risky/);
  assert.equal(effect.runs, 1);
});

test("given up is final for the round: code that goes on and fails later does not run the effect again", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x" });
  const seen: string[] = [];
  sim.start(async (_, { step, attempt }) => {
    await step("post", { effect: "once" }, () => { seen.push("sent"); throw new Error("socket hang up"); }).catch((error: Error) => seen.push(error.message));
    if (attempt === 1) throw new Error("something else");
    return "without it";
  });
  await sim.until(task.id, "waiting");
  await sim.state.decisions.settle("d1", { answer: "fail", actor: "bob" });
  assert.deepEqual((await sim.until(task.id)).result, "without it");
  assert.deepEqual(seen, ["sent", "decision d1: given up", "decision d1: given up"]);
});

for (const [verb, rounds] of [["retry", [1, 1]], ["retry --fresh", [1, 2]], ["reset", [1, 2]]] as const) {
  test(`given up, then ${verb}: the outcome is in question again, and nothing runs before the answer`, async (t) => {
    const sim = await simulate(t);
    const { task, effect, start } = await crashInEffect(sim);
    start();
    await sim.until(task.id, "waiting");
    await sim.state.decisions.settle("d1", { answer: "fail", actor: "bob" });
    await sim.until(task.id, "failed");
    assert.deepEqual((await sim.state.why(task.id)).resume, { skip: [], check: ["deploy"], redo: [] });
    await (verb === "reset" ? sim.state.tasks.reset(task.id) : sim.state.tasks.retry(task.id, { fresh: verb === "retry --fresh" }));
    await sim.until(task.id, "waiting");
    assert.equal(effect.runs, 1);
    assert.deepEqual((await Promise.all(["d1", "d2"].map((id) => sim.state.decisions.get(id)))).map((d) => d.round), rounds);
    await sim.state.decisions.settle("d2", { answer: "again", actor: "bob" });
    assert.deepEqual((await sim.until(task.id)).result, { run: 2 });
  });
}

test("hazard 11: an answer from before a retry is no answer to a start after it", async (t) => {
  const sim = await simulate(t);
  let runs = 0;
  const task = await sim.state.tasks.add({ description: "x", max_attempts: 1 });
  sim.start(async (_, { step }) => step("post", { effect: "once" }, () => {
    runs++;
    throw runs === 2 ? new NotDone("refused") : new Error("socket hang up");
  }));
  await sim.until(task.id, "waiting");
  await sim.state.decisions.settle("d1", { answer: "again", actor: "bob" });
  await sim.until(task.id, "failed");
  await sim.state.tasks.retry(task.id);
  await sim.until(task.id, "waiting");
  assert.deepEqual([runs, (await sim.state.decisions.inbox()).map((d) => d.id)], [3, ["d2"]]);
});

test("hazard 11: `again` for the first unknown start is no answer to the second", async (t) => {
  const sim = await simulate(t);
  const { task, effect, start, crash } = await crashInEffect(sim, {}, 2);
  const asker = start();
  await sim.until(task.id, "waiting");
  asker.die();
  await sim.state.decisions.settle("d1", { answer: "again", actor: "bob" });
  await crash(2);
  start();
  await sim.until(task.id, "waiting");
  await sim.clock.advance(60_000);
  assert.equal(effect.runs, 2, "the old answer ran nothing");
  assert.deepEqual((await sim.state.decisions.inbox()).map((d) => [d.id, d.step_start]), [["d2", 2]]);
  await sim.state.decisions.settle("d2", { answer: "again", actor: "bob" });
  assert.deepEqual((await sim.until(task.id)).result, { run: 3 });
});

for (const [name, answer, expected] of [
  ["says it is done", { done: true, output: { found: 1 } }, { status: "completed", result: { found: 1 }, runs: 1 }],
  ["says it is done, without an output", { done: true }, { status: "completed", result: null, runs: 1 }],
  ["says it is not done", { done: false }, { status: "completed", result: { run: 2 }, runs: 2 }],
  ["cannot tell", undefined, { status: "waiting", result: null, runs: 1 }],
  ["throws", new Error("registry unreachable"), { status: "waiting", result: null, runs: 1 }],
] as const) {
  test(`after a crash the check ${name}`, async (t) => {
    const sim = await simulate(t);
    let asked = 0;
    const check = (): CheckAnswer => {
      asked++;
      if (answer instanceof Error) throw answer;
      return answer;
    };
    const { task, effect, start } = await crashInEffect(sim, { check });
    start();
    const after = await sim.until(task.id, "waiting", "completed");
    assert.deepEqual({ status: after.status, result: after.result, runs: effect.runs }, expected);
    assert.equal(asked, 1, "it is asked once, and never before a first start");
    if (answer instanceof Error) assert.match(JSON.stringify((await sim.state.decisions.inbox())[0]!.details), /registry unreachable/);
  });
}

test("hazard 11: a once effect that throws may have happened: nothing repeats it, a person is asked", async (t) => {
  const sim = await simulate(t);
  let sent = 0;
  const task = await sim.state.tasks.add({ description: "x" });
  sim.start(async (_, { step }) => step("post", { effect: "once", retry: { tries: 5 } }, () => { sent++; throw Object.assign(new Error("socket hang up"), { code: "ECONNRESET" }); }));
  await sim.until(task.id, "waiting");
  await sim.clock.advance(60_000);
  assert.equal(sent, 1);
  const [decision] = await sim.state.decisions.inbox();
  assert.match(JSON.stringify(decision!.details), /socket hang up/);
  await sim.state.decisions.settle("d1", { answer: "done", value: 7, actor: "bob" });
  const done = await sim.until(task.id);
  assert.deepEqual([done.result, done.attempts, sent], [7, 1, 1]);
});

test("a once effect that throws asks its check at once", async (t) => {
  const sim = await simulate(t);
  let sent = 0;
  const task = await sim.state.tasks.add({ description: "x" });
  sim.start(async (_, { step }) => step("post", { effect: "once", check: () => ({ done: sent === 2, output: "found" }) }, () => { sent++; throw new Error("timed out"); }));
  const done = await sim.until(task.id);
  assert.deepEqual([done.result, sent], ["found", 2]);
});

test("a once effect that ran into its time-out is unknown, not failed", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x" });
  sim.start(async (_, { step }) => step("post", { effect: "once", timeoutMs: 200 }, () => HANG));
  await sim.until(task.id, "waiting");
  assert.match(JSON.stringify((await sim.state.decisions.inbox())[0]!.details), /longer than 200 ms/);
});

test("a once effect whose output is not JSON did happen: a person gives the output", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x" });
  sim.start(async (_, { step }) => step("post", { effect: "once" }, () => ({ when: NaN })));
  await sim.until(task.id, "waiting");
  assert.match(JSON.stringify((await sim.state.decisions.inbox())[0]!.details), /cannot be kept/);
  await sim.state.decisions.settle("d1", { answer: "done", value: "fine", actor: "bob" });
  assert.equal((await sim.until(task.id)).result, "fine");
});

test("NotDone says the effect did not happen: it is tried again without asking, within its tries and in the next attempt", async (t) => {
  const sim = await simulate(t);
  const starts: number[] = [];
  const task = await sim.state.tasks.add({ description: "x" });
  sim.start(async (_, { step }) => step("post", { effect: "once", retry: { tries: 2, jitter: false } }, ({ start }) => {
    starts.push(start);
    if (starts.length < 4) throw new NotDone("refused before it was sent");
    return "sent";
  }));
  const done = await sim.until(task.id);
  assert.equal(done.result, "sent");
  assert.deepEqual(starts, [1, 1, 2, 2], "two tries are one start; the next attempt is the next start");
  assert.equal(done.attempts, 2);
  assert.deepEqual(await sim.state.decisions.inbox(), []);
});

test("a kept once step that failed by NotDone in another round does not fail this one", async (t) => {
  const sim = await simulate(t);
  let refuse = true;
  const { id } = await sim.state.tasks.add({ description: "x", max_attempts: 1 });
  sim.start(async (_, { step }) => step("post", { effect: "once" }, () => { if (refuse) throw new NotDone("refused"); return "sent"; }));
  assert.equal((await sim.until(id)).status, "failed");
  refuse = false;
  await sim.state.tasks.reset(id);
  assert.equal((await sim.until(id)).result, "sent");
});

test("a started once step of an earlier round is still unknown in the next", async (t) => {
  const sim = await simulate(t);
  const { task, effect, start } = await crashInEffect(sim);
  await sim.state.tasks.reset(task.id);
  start();
  await sim.until(task.id, "waiting");
  assert.equal(effect.runs, 1);
  await sim.state.decisions.settle("d1", { answer: "done", value: "it was", actor: "bob" });
  assert.equal((await sim.until(task.id)).result, "it was");
});

test("another input on a start that was never recorded asks whether it happened, not which output holds", async (t) => {
  const sim = await simulate(t);
  const { task, start } = await crashInEffect(sim, { input: "v1" });
  start().die();
  sim.start(async (_, { step }) => step("deploy", { effect: "once", input: "v2" }, () => "v2"));
  await sim.until(task.id, "waiting");
  assert.deepEqual((await sim.state.decisions.inbox()).map((d) => d.kind), ["unknown_effect"]);
});

test("a drain in the very moment between intent and effect leaves nothing unknown", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x" });
  let runs = 0;
  const execute = async (_: unknown, { step }: { step: Parameters<Parameters<Simulation["start"]>[0]>[1]["step"] }) => step("post", { effect: "once" }, () => ++runs);
  // The worker is stopped at every possible turn of the event loop; whenever no effect ran, nobody may be asked about one.
  for (let turn = 0; turn < 25 && runs === 0; turn++) {
    const first = sim.start(execute);
    await turns(turn);
    await sim.finish(first.worker.abort());
    await turns(3);
    const { status } = await sim.state.tasks.get(task.id);
    if (runs === 0) assert.deepEqual(await sim.state.tasks.steps(task.id), [], `after ${turn} turns (${status}) an effect is recorded that never began`);
  }
  assert.equal(runs, 1, "in the end it ran");
  assert.ok((await sim.state.tasks.get(task.id)).attempts <= 1, "no drain counted an attempt");
});

// Steps that run side by side: what could be mistaken for something else on a replay is refused on the first run, and what
// is accepted never swaps. Delays are real turns of the simulated clock, other ones on the replay than on the first run.
import assert from "node:assert/strict";
import { test } from "node:test";
import { sleep as sleepFor } from "../../src/base/clock.ts";
import type { StepScope } from "../../src/worker/context.ts";
import type { Execute } from "../../src/worker/function.ts";
import { gate, simulate, turns, type Simulation } from "../simulation.ts";

const HANG = new Promise<never>(() => undefined);

type Program = (tools: StepScope & { delay: (ms: number) => Promise<void>; crash: () => Promise<void> }) => Promise<unknown>;

function execute(sim: Simulation, program: Program, crash: () => Promise<void>): Execute {
  return (_, tools) => program({ ...tools, delay: (ms) => sleepFor(sim.clock, ms), crash });
}

/** Runs the program to its end on one worker. */
async function runOnce(sim: Simulation, program: Program) {
  const task = await sim.state.tasks.add({ description: "x", max_attempts: 1 });
  const one = sim.start(execute(sim, program, async () => undefined));
  const done = await sim.until(task.id);
  one.die();
  return done;
}

async function refused(sim: Simulation, program: Program, message = /comes a second time/) {
  const failed = await runOnce(sim, program);
  assert.equal(failed.status, "failed", `it passed: ${JSON.stringify(failed.result)}`);
  assert.equal(failed.error!.code, "ambiguous_step");
  assert.match(failed.error!.message, message);
  assert.equal(failed.error!.permanent, true);
}

/** Runs it until it is about to end, kills the worker, and runs it again: the second life must return what the first saw. */
async function replaysSame(sim: Simulation, program: Program) {
  const task = await sim.state.tasks.add({ description: "x", max_attempts: 1 });
  const results: unknown[] = [];
  const ended = gate();
  const first = sim.start(async (...args) => {
    results.push(await execute(sim, program, async () => undefined)(...args));
    ended.open();
    return HANG;
  });
  await sim.finish(ended.promise);
  await turns(5);
  first.die();
  const second = sim.start(async (...args) => (results.push(await execute(sim, program, async () => undefined)(...args)), null));
  const done = await sim.until(task.id);
  assert.equal(done.status, "completed", JSON.stringify(done.error));
  second.die();
  assert.deepEqual(results[0], results[1]);
  return results[0];
}

test("hazard 7: A `fetchA`, `work` beside B `fetchB`, four steps, `work` is refused on the first run", async (t) => {
  await refused(await simulate(t), async ({ step, delay }) =>
    Promise.all([
      (async () => (await step("fetchA", () => delay(50)), step("work", () => "A")))(),
      (async () => {
        await step("fetchB", () => delay(5));
        for (const name of ["m1", "m2", "m3", "m4"]) await step(name, () => delay(1));
        return step("work", () => "B");
      })(),
    ]));
});

test("hazard 7: two branches of one name each are refused on the first run, whoever comes first", async (t) => {
  for (const [a, b] of [[1, 9], [9, 1], [5, 5]] as const) {
    await refused(await simulate(t), async ({ step, delay }) => Promise.all([a, b].map((ms, i) => step("fetch", async () => (await delay(ms), i)))));
  }
});

test("hazard 7: a loop after a join needs its own scope", async (t) => {
  const program = (inScope: boolean): Program => async ({ step, scope, delay }) => {
    const parts = await Promise.all([step("a", () => delay(3)), step("b", () => delay(1))]);
    const loop = async (s: StepScope) => { const all = []; for (let i = 0; i < 3; i++) all.push(await s.step("work", () => i)); return all; };
    return [parts, inScope ? await scope("loop", loop) : await loop({ step, scope } as StepScope)];
  };
  const sim = await simulate(t);
  await refused(sim, program(false));
  assert.deepEqual(await replaysSame(sim, program(true)), [[null, null], [0, 1, 2]]);
});

test("hazard 7: the plain loop passes", async (t) => {
  const sim = await simulate(t);
  assert.deepEqual(await replaysSame(sim, async ({ step }) => { const all = []; for (let i = 0; i < 4; i++) all.push(await step("work", () => i)); return all; }), [0, 1, 2, 3]);
});

test("hazard 7: steps with keys of their own count as running side by side for those without", async (t) => {
  await refused(await simulate(t), async ({ step, delay }) =>
    Promise.all([
      (async () => (await step("fetch", { key: "a" }, () => delay(50)), step("work", () => "A")))(),
      (async () => (await step("fetch", { key: "b" }, () => delay(5)), step("work", () => "B")))(),
    ]));
});

test("hazard 7: an open scope counts as running side by side for the steps beside it", async (t) => {
  await refused(await simulate(t), async ({ step, scope, delay }) =>
    Promise.all([
      (async () => (await scope("part", async (s) => s.step("fetch", () => delay(50))), step("work", () => "A")))(),
      (async () => (await step("fetchB", () => delay(5)), step("work", () => "B")))(),
    ]));
});

test("hazard 7: a scope whose name comes again after branches ran side by side is refused", async (t) => {
  await refused(await simulate(t), async ({ step, scope, delay }) =>
    Promise.all([
      (async () => (await step("a", () => delay(50)), scope("part", async (s) => s.step("work", () => "A"))))(),
      (async () => (await step("b", () => delay(5)), scope("part", async (s) => s.step("work", () => "B"))))(),
    ]), /scope "part" comes a second time/);
});

test("hazard 7: a wait counts as running side by side", async (t) => {
  await refused(await simulate(t), async ({ step, sleep }) =>
    Promise.all([
      (async () => (await sleep("nap", 50), step("work", () => "A")))(),
      (async () => (await step("b", () => null), await step("work", () => "B"), step("work", () => "B2")))(),
    ]));
});

test("two open scopes of one name are refused, one after the other are two", async (t) => {
  const sim = await simulate(t);
  await refused(sim, async ({ scope, delay }) => Promise.all([1, 2].map((i) => scope("part", async (s) => s.step("work", async () => (await delay(i), i))))), /Two scopes called "part" are open at once/);
  assert.deepEqual(await replaysSame(sim, async ({ scope }) => { const all = []; for (let i = 0; i < 3; i++) all.push(await scope("part", async (s) => s.step("work", () => i))); return all; }), [0, 1, 2]);
});

test("a scope closes when its function throws, too", async (t) => {
  const sim = await simulate(t);
  const done = await runOnce(sim, async ({ scope }) => {
    for (let i = 0; i < 2; i++) await scope("part", async () => { throw new Error("no"); }).catch(() => undefined);
    return scope("part", async (s) => s.step("work", () => "third"));
  });
  assert.equal(done.result, "third");
  assert.deepEqual((await sim.state.tasks.steps(done.id)).map((s) => s.key), ["part#3/work"]);
});

test("the error says how to write it", async (t) => {
  const sim = await simulate(t);
  let next = "";
  await runOnce(sim, async ({ step }) => Promise.all([step("a", () => 1), step("a", () => 2)]).catch((error: { next: string }) => { next = error.next; }));
  assert.match(next, /step\("a", \{ key: … \}, fn\)/);
});

test("explicit keys and scopes of their own never swap, whatever the delays", async (t) => {
  const sim = await simulate(t);
  const urls = ["x", "y/1", "z#2", "ä@1"];
  let life = 0;
  const wait = (i: number) => (life % 2 === 0 ? i * 7 : (urls.length - i) * 11);
  assert.deepEqual(await replaysSame(sim, async ({ step, delay }) => (life++, Promise.all(urls.map((url, i) => step("fetch", { key: url }, async () => (await delay(wait(i)), url)))))), urls);
  assert.deepEqual(
    await replaysSame(sim, async ({ scope, delay }) => (life++, Promise.all(urls.map((url, i) => scope(`branch-${i}`, async (s) => (await delay(wait(i)), [await s.step("a", () => url), await s.step("a", () => `${url}!`)])))))),
    urls.map((url) => [url, `${url}!`]),
  );
});

test("one explicit key twice in one execution is refused", async (t) => {
  await refused(await simulate(t), async ({ step }) => [await step("a", { key: "k" }, () => 1), await step("a", { key: "k" }, () => 2)], /the key "k" comes twice/);
});

test("an ambiguity refuses the second comer only; what was recorded stays", async (t) => {
  const sim = await simulate(t);
  const done = await runOnce(sim, async ({ step, delay }) => Promise.allSettled([step("a", async () => (await delay(5), 1)), step("a", () => 2)]).then((all) => all.map((one) => one.status)));
  assert.deepEqual(done.result, ["fulfilled", "rejected"]);
  assert.deepEqual((await sim.state.tasks.steps(done.id)).map((s) => [s.key, s.output]), [["a", 1]]);
});

test("one branch fails: the other's done step is kept for the next attempt", async (t) => {
  const sim = await simulate(t);
  const runs: string[] = [];
  const task = await sim.state.tasks.add({ description: "x" });
  sim.start(async ({ attempts }, { step }) => Promise.all([step("slow", async () => (runs.push("slow"), await sleepFor(sim.clock, 400), "slow")), step("quick", () => { runs.push("quick"); if (attempts === 1) throw new Error("no"); return "quick"; })]));
  assert.deepEqual((await sim.until(task.id)).result, ["slow", "quick"]);
  assert.deepEqual(runs, ["slow", "quick", "quick"], "the slow branch ended before the second attempt and is not repeated");
});

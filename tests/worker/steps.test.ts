// What a step promises: recorded when done and never run again in its round, whatever the process that ran it met with;
// what its caller gets live is what a replay gets. `once` effects: once-effects.test.ts; waits: waits.test.ts; side by side: branches.test.ts.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { isPawlError, PawlError } from "../../src/base/errors.ts";
import { LIMITS } from "../../src/base/limits.ts";
import { PermanentError } from "../../src/core/retry.ts";
import type { Execute } from "../../src/worker/function.ts";
import { gate, simulate, turns, type Simulation } from "../simulation.ts";
import { ALL_STORES } from "../stores.ts";

const HANG = new Promise<never>(() => undefined);

/** Runs `execute` until it calls `crash`, kills that worker, and runs it on another to its end. */
async function crashAndResume(sim: Simulation, execute: (crash: () => Promise<never>, life: number) => Execute, fields: { description?: string } = {}) {
  const task = await sim.state.tasks.add({ description: "crashes once", ...fields });
  const reached = gate();
  const first = sim.start(execute(() => (reached.open(), HANG), 1));
  await sim.finish(reached.promise);
  await turns(5); // what was said before the crash has reached the disk
  first.die();
  sim.start(execute(() => HANG, 2));
  return sim.until(task.id);
}

for (const store of ALL_STORES) {
  test(`${store.name}: a completed step is not run again after a crash, a started one is`, async (t) => {
    const sim = await simulate(t, store);
    const runs: string[] = [];
    const done = await crashAndResume(sim, (crash, life) => async (_, { step }) => {
      const a = await step("a", () => (runs.push(`a${life}`), { n: 1 }));
      const b = await step("b", async () => (runs.push(`b${life}`), life === 1 ? crash() : a.n + 1));
      return { a, b };
    });
    assert.deepEqual(runs, ["a1", "b1", "b2"]);
    assert.deepEqual(done.result, { a: { n: 1 }, b: 2 });
    assert.equal(done.attempts, 1, "a takeover after a recorded step counts no attempt");
    assert.equal(done.takeovers, 1);
    assert.deepEqual(await sim.events(done.id), ["created", "claimed", "owner_lost", "claimed", "completed"]);
    assert.equal(await sim.state.history.verify(done.id), null);
  });

  test(`${store.name}: the idempotency key of a step is the same after a crash and different for every step, task and round`, async (t) => {
    const sim = await simulate(t, store);
    const keys: string[] = [];
    await crashAndResume(sim, (crash, life) => async (_, { step }) => {
      await step("a", ({ idempotencyKey }) => (keys.push(idempotencyKey), null));
      await step("b", ({ idempotencyKey, start }) => (keys.push(idempotencyKey), assert.equal(start, 1), life === 1 ? crash() : null));
    });
    assert.equal(keys[1], keys[2]);
    assert.equal(new Set(keys).size, 2);
    const other = await sim.state.tasks.add({ description: "another" });
    await sim.until(other.id);
    assert.equal(keys.length, 5);
    assert.equal(new Set(keys).size, 4);
    await sim.state.tasks.reset(other.id);
    await sim.until(other.id);
    assert.equal(new Set(keys).size, 6);
  });
}

test("hazard 10: what the live caller gets is what a replay gets", async (t) => {
  const sim = await simulate(t);
  class Money {
    readonly #cents = 1250;
    toJSON() { return { cents: this.#cents }; }
  }
  const values: { [name: string]: unknown } = {
    date: new Date(0), nothing: undefined, members: { a: undefined, b: [undefined, 1], when: new Date(5) }, money: new Money(), zero: -0, text: "ä\u2028", deep: { a: { b: [{}] } },
  };
  const seen: unknown[][] = [[], []];
  await crashAndResume(sim, (crash, life) => async (_, { step }) => {
    for (const name in values) seen[life - 1]!.push(await step(name, () => values[name]));
    if (life === 1) await crash();
  });
  assert.deepStrictEqual(seen[0], seen[1]);
  assert.deepStrictEqual(seen[0]!.slice(0, 3), ["1970-01-01T00:00:00.000Z", null, { b: [null, 1], when: "1970-01-01T00:00:00.005Z" }]);
  assert.ok(Object.is(seen[0]![4], 0), "-0 is 0, live and replayed");
});

test("hazard 10: a step's failure replays with the same class, message, code, cause and path", async (t) => {
  const sim = await simulate(t);
  const failures: (() => never)[] = [
    () => { throw new Error("plain"); },
    () => { throw Object.assign(new Error("reset"), { code: "ECONNRESET" }); },
    () => { throw new TypeError("fetch failed", { cause: Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" }) }); },
    () => { throw new PermanentError("never again"); },
    () => { throw new PawlError("conflict", "taken", { details: { id: 3 } }); },
    () => { throw "a string"; },
    () => { throw Object.assign(new Error("not found"), { status: 404 }); },
    () => { throw Object.assign(new Error("half \ud800 and \0"), {}); },
  ];
  const shown = (error: unknown) => {
    assert.ok(isPawlError(error));
    return { name: error.name, message: error.message, code: error.code, details: error.details, cause: error.cause instanceof Error ? [error.cause.name, error.cause.message, Object.keys(error.cause)] : error.cause };
  };
  const seen: unknown[][] = [[], []];
  const runs = [0, 0];
  const done = await crashAndResume(sim, (crash, life) => async (_, { step }) => {
    for (const [i, fail] of failures.entries()) {
      await step(`s${i}`, () => (runs[life - 1]!++, fail())).catch((error: unknown) => seen[life - 1]!.push(shown(error)));
      await step("after", () => (runs[life - 1]!++, i));
    }
    if (life === 1) await crash();
    return "caught them all";
  });
  assert.deepEqual(runs, [failures.length * 2, 0], "the second life ran nothing again");
  assert.deepStrictEqual(seen[0], seen[1]);
  assert.equal((seen[0]![2] as { cause: unknown[] }).cause[1], "connect ECONNREFUSED");
  assert.equal(done.result, "caught them all");
});

test("a recorded failure is forgotten by the next attempt, its done neighbours are not", async (t) => {
  const sim = await simulate(t);
  const runs: string[] = [];
  const task = await sim.state.tasks.add({ description: "flaky" });
  sim.start(async (_, { step, attempt }) => {
    await step("a", () => void runs.push("a"));
    return step("b", () => { runs.push("b"); if (attempt < 3) throw new Error(`try ${attempt}`); return attempt; });
  });
  const done = await sim.until(task.id);
  assert.equal(done.result, 3);
  assert.deepEqual(runs, ["a", "b", "b", "b"]);
});

test("the live error's stack is that of the step's own code", async (t) => {
  const sim = await simulate(t);
  let stack = "";
  const task = await sim.state.tasks.add({ description: "x" });
  sim.start(async (_, { step }) => step("a", function whereItBroke() { throw new Error("boom"); }).catch((error: Error) => void (stack = error.stack ?? "")));
  await sim.until(task.id);
  assert.match(stack, /whereItBroke/);
});

test("changing a returned output changes neither the record nor a replay", async (t) => {
  const sim = await simulate(t);
  const given = { list: [1, { n: 1 }] as unknown[] };
  const seen: unknown[] = [];
  const done = await crashAndResume(sim, (crash, life) => async (_, { step }) => {
    const output = await step("a", () => given);
    seen.push(structuredClone(output));
    (output.list[1] as { n: number }).n = 99;
    output.list.push("more");
    given.list.length = 0;
    const again = await step("a2", () => 1);
    if (life === 1) await crash();
    return [again, output];
  });
  assert.deepEqual(seen, [{ list: [1, { n: 1 }] }, { list: [1, { n: 1 }] }]);
  assert.deepEqual(done.result, [1, { list: [1, { n: 99 }, "more"] }]);
  assert.deepEqual((await sim.state.tasks.steps(done.id))[0]!.output, { list: [1, { n: 1 }] });
});

for (const [what, make] of [["NaN", () => NaN], ["a BigInt", () => 1n], ["a function", () => ({ f: () => 1 })], ["a Map", () => new Map([[1, 2]])], ["NUL", () => "a\0b"], ["half a surrogate pair", () => ["\ud800"]], ["a circle", () => { const o: { o?: unknown } = {}; o.o = o; return o; }]] as const) {
  test(`an output that is ${what} fails the task at once and says where`, async (t) => {
    const sim = await simulate(t);
    const task = await sim.state.tasks.add({ description: "x" });
    sim.start(async (_, { step }) => step("build", (): unknown => make()));
    const failed = await sim.until(task.id);
    assert.equal(failed.status, "failed");
    assert.equal(failed.attempts, 1, "it would fail the same way again");
    assert.match(failed.error!.message, /the output of step build.* cannot be kept/);
  });
}

test("a result larger than a state holds fails its task only, and says so", async (t) => {
  const sim = await simulate(t);
  const [large, small] = await sim.state.tasks.addAll([{ description: "large", max_attempts: 1 }, { description: "small" }]);
  sim.start((task) => (task.id === large!.id ? "x".repeat(LIMITS.valueBytes + 1) : "fine"), { concurrency: 2 });
  const [failed, completed] = [await sim.until(large!.id), await sim.until(small!.id)];
  assert.deepEqual([failed.status, completed.status, completed.result], ["failed", "completed", "fine"]);
  assert.match(failed.error!.message, /result.*longer than/);
});

test("a result that is not JSON fails the task and says so", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x" });
  sim.start(() => ({ answer: NaN }));
  const failed = await sim.until(task.id);
  assert.equal(failed.status, "failed");
  assert.match(failed.error!.message, /result\.answer cannot be kept: NaN/);
});

test("a step's name must be a plain one", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x" });
  const errors: unknown[] = [];
  sim.start(async (_, { step, scope, sleep, ask }) => {
    for (const name of ["", "a/b", "a#2", "a@b", "a\nb", "x".repeat(201), 5 as unknown as string]) {
      for (const call of [() => step(name, () => 1), () => scope(name, async () => 1), () => sleep(name, 1), () => ask(name, "?")]) await (call() as Promise<unknown>).catch((error: unknown) => errors.push(error));
    }
  });
  await sim.until(task.id);
  assert.equal(errors.length, 28);
  assert.ok(errors.every((error) => isPawlError(error, "usage")), String(errors[0]));
});

test("a plain loop of one name resumes where it stopped", async (t) => {
  const sim = await simulate(t);
  const runs: number[] = [];
  const done = await crashAndResume(sim, (crash, life) => async (_, { step }) => {
    let sum = 0;
    for (let i = 1; i <= 5; i++) {
      if (life === 1 && i === 4) await crash();
      sum += await step("add", () => (runs.push(i), i));
    }
    return sum;
  });
  assert.deepEqual(runs, [1, 2, 3, 4, 5]);
  assert.equal(done.result, 15);
  assert.deepEqual((await sim.state.tasks.steps(done.id)).map((s) => s.key), ["add", "add#2", "add#3", "add#4", "add#5"]);
});

test("a task with more steps than a list returns replays every one of them", async (t) => {
  const sim = await simulate(t);
  const N = 10_050;
  let runs = 0;
  const done = await crashAndResume(sim, (crash, life) => async (_, { step }) => {
    let last = -1;
    for (let i = 0; i < N; i++) last = await step("n", { key: String(i) }, () => (runs++, i));
    if (life === 1) await crash();
    return last;
  });
  assert.equal(done.result, N - 1);
  assert.equal(runs, N);
});

test("retry of a step: 1, 2, 4 s on the state's clock, none after the last, in one attempt", async (t) => {
  const sim = await simulate(t);
  const at: number[] = [];
  const task = await sim.state.tasks.add({ description: "x", max_attempts: 1 });
  sim.start(async (_, { step }) => step("a", { retry: { tries: 4, jitter: false } }, () => { at.push(sim.clock.monotonic()); throw new Error(`no ${at.length}`); }));
  const failed = await sim.until(task.id);
  assert.deepEqual(at.map((ms) => ms - at[0]!), [0, 1000, 3000, 7000]);
  assert.equal(sim.clock.monotonic() - at.at(-1)! < 500, true, "no wait after the last try");
  assert.match(failed.error!.message, /no 4/);
  assert.equal(failed.attempts, 1);
});

test("a permanent error of a step is not tried again, and fails the task without another attempt", async (t) => {
  const sim = await simulate(t);
  let runs = 0;
  const task = await sim.state.tasks.add({ description: "x" });
  sim.start(async (_, { step }) => step("a", { retry: { tries: 5 } }, () => { runs++; throw Object.assign(new Error("gone"), { status: 404 }); }));
  const failed = await sim.until(task.id);
  assert.deepEqual([failed.status, failed.attempts, runs], ["failed", 1, 1]);
  assert.equal(failed.error!.permanent, true);
});

test("a step has its own time-out, for each try; the signal it was handed is aborted", async (t) => {
  const sim = await simulate(t);
  const signals: AbortSignal[] = [];
  const task = await sim.state.tasks.add({ description: "x" });
  sim.start(async (_, { step }) => step("slow", { timeoutMs: 500, retry: { tries: 2, jitter: false } }, ({ signal }) => (signals.push(signal), signals.length === 2 ? "in time" : HANG)));
  const done = await sim.until(task.id);
  assert.equal(done.result, "in time");
  assert.deepEqual(signals.map((signal) => signal.aborted), [true, false]);
  assert.equal(done.attempts, 1);
});

test("a time-out of a step names the step and the limit", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x", max_attempts: 1 });
  sim.start(async (_, { step }) => step("slow", { timeoutMs: 500 }, () => HANG));
  const failed = await sim.until(task.id);
  assert.match(failed.error!.message, /"slow" took longer than 500 ms/);
});

test("step_changed: another declared input waits for a person, who sees both", async (t) => {
  for (const answer of ["keep", "again", "fail"]) {
    const sim = await simulate(t);
    const runs: unknown[] = [];
    const build = (tag: string): Execute => async (_, { step }) => step("build", { input: { tag } }, () => (runs.push(tag), `image ${tag}`));
    const task = await sim.state.tasks.add({ description: "x" });
    const first = sim.start(async (...args) => { await build("v1")(...args); return HANG; });
    await sim.untilTrue(() => runs.length === 1);
    await turns(5);
    first.die();
    sim.start(build("v2"));
    await sim.until(task.id, "waiting");
    const [decision] = await sim.state.decisions.inbox();
    assert.equal(decision!.kind, "step_changed");
    assert.deepEqual(decision!.details, { step: "build", recorded_input: { tag: "v1" }, input_now: { tag: "v2" }, recorded_output: "image v1" });
    await sim.state.decisions.settle(decision!.id, { answer, actor: "bob" });
    const done = await sim.until(task.id);
    if (answer === "fail") assert.equal(done.status, "failed");
    else assert.equal(done.result, answer === "keep" ? "image v1" : "image v2");
    assert.deepEqual(runs, answer === "again" ? ["v1", "v2"] : ["v1"]);
  }
});

test("hazard 11: an answer about one changed input says nothing about the next", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x" });
  const build = (tag: string, last = false): Execute => async (_, { step }) => {
    const output = await step("build", { input: tag }, () => `image ${tag}`);
    return last ? output : HANG;
  };
  const first = sim.start(build("v1"));
  await sim.untilTrue(async () => (await sim.state.tasks.steps(task.id)).length === 1);
  first.die();
  const second = sim.start(build("v2"));
  await sim.until(task.id, "waiting");
  await sim.state.decisions.settle("d1", { answer: "keep", actor: "bob" });
  await sim.untilTrue(async () => (await sim.state.tasks.steps(task.id))[0]!.input === "v2", "the answer to be taken in");
  second.die();
  const third = sim.start(build("v3", true));
  await sim.until(task.id, "waiting");
  assert.deepEqual((await sim.state.decisions.inbox()).map((d) => d.id), ["d2"]);
  await sim.state.decisions.settle("d2", { answer: "again", actor: "bob" });
  assert.equal((await sim.until(task.id)).result, "image v3");
  third.die();
});

test("the same input in another order of keys is the same input", async (t) => {
  const sim = await simulate(t);
  const done = await crashAndResume(sim, (crash, life) => async (_, { step }) => {
    const out = await step("a", { input: life === 1 ? { x: 1, y: [2] } : { y: [2], x: 1 } }, () => life);
    return life === 1 ? crash() : out;
  });
  assert.equal(done.result, 1);
});

function rounds(t: TestContext, verify: (n: number) => boolean, execute: Execute) {
  return simulate(t).then(async (sim) => {
    const task = await sim.state.tasks.add({ description: "write", verifier: "function", max_attempts: 5 });
    let n = 0;
    sim.start(execute, { verify: () => ({ passed: verify(++n), feedback: `not good enough (${n})` }) });
    return { sim, done: await sim.until(task.id) };
  });
}

test("hazard 5: a stepped task that was rejected gives a different second result", async (t) => {
  const results: unknown[] = [];
  const { sim, done } = await rounds(t, (n) => n === 3, async (task, { step }) => {
    const draft = await step("draft", () => `draft ${task.round}: ${task.feedback ?? "first"}`);
    results.push(draft);
    return draft;
  });
  assert.deepEqual(results, ["draft 1: first", "draft 2: not good enough (1)", "draft 3: not good enough (2)"]);
  assert.deepEqual([done.status, done.result, done.round, done.attempts], ["completed", "draft 3: not good enough (2)", 3, 3]);
  assert.deepEqual((await sim.state.tasks.steps(done.id)).map((s) => [s.round, s.output]), results.map((r, i) => [i + 1, r]));
});

test("a new round runs steps again, but not `keep` ones, nor `once` ones unless `redo`", async (t) => {
  const runs: string[] = [];
  const { done } = await rounds(t, (n) => n === 3, async (task, { step }) => {
    const run = (name: string) => () => (runs.push(`${name}${task.round}`), `${name}${task.round}`);
    return [await step("plain", run("plain")), await step("keep", { keep: true }, run("keep")), await step("once", { effect: "once" }, run("once")), await step("redo", { effect: "once", redo: true }, run("redo"))];
  });
  assert.deepEqual(runs, ["plain1", "keep1", "once1", "redo1", "plain2", "redo2", "plain3", "redo3"]);
  assert.deepEqual(done.result, ["plain3", "keep1", "once1", "redo3"]);
});

test("reset, reopen and a fresh retry begin a new round; a plain retry keeps the done steps", async (t) => {
  const sim = await simulate(t);
  const runs: string[] = [];
  const { id } = await sim.state.tasks.add({ description: "x", max_attempts: 1 });
  let fail = true;
  sim.start(async (task, { step }) => {
    await step("a", () => void runs.push(`a${task.round}`));
    await step("b", () => { runs.push(`b${task.round}`); if (fail) throw new Error("no"); });
  });
  assert.equal((await sim.until(id)).status, "failed");
  fail = false;
  await sim.state.tasks.retry(id);
  assert.equal((await sim.until(id)).status, "completed");
  assert.deepEqual(runs.splice(0), ["a1", "b1", "b1"]);
  await sim.state.tasks.reset(id);
  await sim.until(id);
  assert.deepEqual(runs.splice(0), ["a2", "b2"]);
  fail = true;
  await sim.state.tasks.reopen(id, "better");
  assert.equal((await sim.until(id)).status, "failed");
  assert.deepEqual(runs.splice(0), ["a3", "b3"]);
  fail = false;
  await sim.state.tasks.retry(id, { fresh: true });
  await sim.until(id);
  assert.deepEqual(runs, ["a4", "b4"]);
});

test("work left behind by an aborted attempt records nothing once another owns the task", async (t) => {
  const sim = await simulate(t);
  const late = gate<string>();
  const task = await sim.state.tasks.add({ description: "x" });
  const first = sim.start(async (_, { step }) => step("a", () => late.promise));
  await sim.until(task.id, "in_progress");
  await turns(50);
  await sim.finish(first.worker.abort());
  sim.start(async (_, { step }) => step("a", () => HANG));
  await sim.until(task.id, "in_progress");
  late.open("too late");
  await turns(50);
  assert.deepEqual(await sim.state.tasks.steps(task.id), []);
});

// The limit on an agent's working time while a call runs: a model or a tool that hangs is cut off at that moment, what it may
// have cost is in doubt, a person is asked for more, and the same step goes on.
import assert from "node:assert/strict";
import { test } from "node:test";
import { TimeLimit, type Timekeeper } from "../../src/agent/time.ts";
import type { AgentTool, ToolContext } from "../../src/agent/tool.ts";
import { manualClock, systemClock, type ManualClock } from "../../src/base/clock.ts";
import type { Reservation } from "../../src/core/budget.ts";
import { ALL_STORES, MEMORY, type TestStore } from "../stores.ts";
import { atWork, results } from "./agents.ts";
import { turnModel } from "./scenario.ts";

const LIMIT = { max_wall_time_ms: 400 };
const MORE = { max_wall_time_ms: 60_000 };

/** A tool that hangs the first time it is called, until it is told to stop. */
function hanging(options: Partial<AgentTool> = {}) {
  const seen = { calls: 0, aborted: 0 };
  const tool: AgentTool = {
    risk: "read_only",
    execute: ((_: unknown, { abortSignal }: ToolContext) => {
      if (++seen.calls > 1) return "at last";
      return new Promise((_, reject) => abortSignal.addEventListener("abort", () => (seen.aborted++, reject(abortSignal.reason as Error))));
    }) as never,
    ...options,
  };
  return { seen, tool };
}

for (const store of ALL_STORES) {
  test(`row 8, ${store.name}: a model that hangs is cut off when the time is used up; topped up, the same step goes on`, async (t) => {
    const work = await atWork(t, (_, __, times) => (times === 1 ? { hang: true } : { text: "done" }), { store, budget: LIMIT });
    const { id, status } = await work.run();
    assert.equal(status, "waiting");
    assert.equal(await work.server.hungUp, 1, "the request was given up");
    const [decision] = await work.state.decisions.inbox();
    assert.equal(decision!.kind, "budget");
    assert.match(decision!.question, /wall_time_ms: \d+ of 400 used/);
    const { spend } = await work.state.agents.show(id);
    assert.deepEqual([spend.steps.in_doubt, spend.steps.spent, spend.llm_tokens.reserved], [1, 0, 0]);
    assert.ok(spend.llm_tokens.in_doubt >= work.server.billed.input);
    assert.ok(spend.wall_time_ms.spent >= 400);
    await work.state.agents.addToBudget(id, MORE, { actor: "bea" });
    const task = await work.goOn(id);
    assert.deepEqual([task.result, task.attempts, work.server.asked.length], ["done", 1, 2]);
    const after = (await work.state.agents.show(id)).spend;
    assert.deepEqual([after.steps.spent, after.steps.in_doubt, after.llm_tokens.in_doubt], [1, 1, spend.llm_tokens.in_doubt], "what is in doubt stays so");
  });

  test(`row 8, ${store.name}: a tool that hangs is cut off when the time is used up; its call runs again when there is more`, async (t) => {
    const { seen, tool } = hanging();
    const work = await atWork(t, (asked, turn) => (turn === 0 ? { calls: [{ name: "slow" }] } : { text: results(asked.messages).join() }), { store, tools: { slow: tool }, budget: LIMIT });
    const { id, status } = await work.run();
    assert.equal(status, "waiting");
    assert.deepEqual(seen, { calls: 1, aborted: 1 });
    assert.equal((await work.state.decisions.inbox())[0]!.kind, "budget");
    assert.equal((await work.state.agents.show(id)).spend.tool_calls.in_doubt, 1);
    await work.state.agents.addToBudget(id, MORE, { actor: "bea" });
    const task = await work.goOn(id);
    assert.deepEqual([task.result, seen.calls, work.server.asked.length], ["at last", 2, 2], "the model is not asked again, nor told of it");
  });
}

test("a limit that is raised while a call runs lets it go on", async (t) => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const work = await atWork(t, () => ({ text: "done", before: promise }), { budget: { max_wall_time_ms: 700 } });
  const running = work.run();
  while (work.server.asked.length === 0) await new Promise((again) => setTimeout(again, 5));
  await work.state.agents.addToBudget(1, MORE, { actor: "bea" });
  setTimeout(resolve, 1_000);
  assert.deepEqual([(await running).result, work.server.asked.length], ["done", 1]);
});

test("calls that run side by side are cut off together, and one raise lets both go on", async (t) => {
  const [one, two] = [hanging(), hanging()];
  const work = await atWork(t, (asked, turn) => (turn === 0 ? { calls: [{ name: "one" }, { name: "two" }] } : { text: results(asked.messages).join() }), { tools: { one: one.tool, two: two.tool }, budget: LIMIT });
  const began = performance.now();
  const { id, status } = await work.run();
  assert.equal(status, "waiting");
  assert.deepEqual([one.seen.aborted, two.seen.aborted], [1, 1]);
  const { wall_time_ms } = (await work.state.agents.show(id)).spend;
  assert.ok(wall_time_ms.spent <= performance.now() - began + 1, `their time counts once, not ${wall_time_ms.spent} ms`);
  await work.state.agents.addToBudget(id, MORE, { actor: "bea" });
  assert.equal((await work.goOn(id)).result, "at last,at last");
});

test("a once call that was cut off is unknown: a person is asked, or its check, and it is never begun again by itself", async (t) => {
  const asking = hanging({ effect: "once" });
  const first = await atWork(t, (asked, turn) => (turn === 0 ? { calls: [{ name: "pay" }] } : { text: results(asked.messages).join() }), { tools: { pay: asking.tool }, budget: LIMIT });
  const { id } = await first.run();
  const [decision] = await first.state.decisions.inbox();
  assert.equal(decision!.kind, "unknown_effect");
  await first.state.decisions.settle(decision!.id, { answer: "done", value: "paid", actor: "bea" });
  await first.goOn(id);
  assert.equal((await first.state.decisions.inbox())[0]!.kind, "budget", "then for more time");
  await first.state.agents.addToBudget(id, MORE, { actor: "bea" });
  assert.deepEqual([(await first.goOn(id)).result, asking.seen.calls], ["paid", 1]);

  const checking = hanging({ effect: "once", check: () => ({ done: false }) });
  const second = await atWork(t, (asked, turn) => (turn === 0 ? { calls: [{ name: "pay" }] } : { text: results(asked.messages).join() }), { tools: { pay: checking.tool }, budget: LIMIT });
  const checked = await second.run();
  assert.equal((await second.state.decisions.inbox())[0]!.kind, "budget");
  await second.state.agents.addToBudget(checked.id, MORE, { actor: "bea" });
  assert.match(String((await second.goOn(checked.id)).result), /pay failed: it was not begun again: the agent's working time is used up/);
  assert.equal(checking.seen.calls, 1);
});

test("the time of calls that failed counts too", async (t) => {
  const work = await atWork(t, () => ({ hang: true }), { timeoutMs: 60, budget: { max_wall_time_ms: 150 } });
  const { id, status } = await work.run({ max_attempts: 1 });
  assert.equal(status, "waiting", "two time-outs and a part of a third are more than there was");
  assert.ok((await work.state.agents.show(id)).spend.steps.in_doubt >= work.server.asked.length);
});

/** The limit of a call that has `limitMs` from now on, on a clock that is moved by hand. */
function limited(limitMs: number) {
  const clock = manualClock();
  const began = clock.now();
  const seen = { more: 0, counted: 0 };
  const keeper: Timekeeper = {
    now: () => clock.now(), timer: (ms, fn) => clock.timer(ms, fn),
    timeLeft: async () => limitMs + seen.more - (clock.now() - began), countTime: async () => void seen.counted++,
  };
  return { clock, began, seen, limit: new TimeLimit(keeper, {} as Reservation, limitMs) };
}

const never = () => new AbortController().signal;
const fails = (clock: ManualClock, ms: number) => () => new Promise((_, reject) => clock.timer(ms, () => reject(new Error("flaky"))));

test("a further try of a call has what the earlier ones left of the time, not all of it again", async () => {
  const { clock, began, seen, limit } = limited(1_000);
  const first = assert.rejects(limit.run(never(), fails(clock, 900)), /flaky/);
  await clock.advance(900);
  await first;
  let cutAt = 0;
  const second = limit.run(never(), (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => ((cutAt = clock.now() - began), reject(signal.reason as Error)))));
  const cut = assert.rejects(second, (error) => error === limit.up);
  await clock.advance(2_000);
  await cut;
  assert.deepEqual([cutAt, seen.counted, clock.pending], [1_000, 1, 0]);
});

test("when the time is used up in the pause between two tries the next is not begun, unless there is more by then", async () => {
  for (const more of [0, 5_000]) {
    const { clock, seen, limit } = limited(1_000);
    const first = assert.rejects(limit.run(never(), fails(clock, 900)), /flaky/);
    await clock.advance(900);
    await first;
    await clock.advance(400);
    seen.more = more;
    let begun = 0;
    const second = limit.run(never(), async () => (begun++, "done")).catch((error: unknown) => error);
    assert.equal(await second, more === 0 ? limit.up : "done");
    assert.deepEqual([begun, seen.counted, limit.begun], more === 0 ? [0, 1, true] : [1, 0, true]);
  }
});

test("a call for which no time was left is not begun, and only what was begun is in doubt", async (t) => {
  const { limit } = limited(0);
  await assert.rejects(limit.run(never(), async () => "done"), (error) => error === limit.up);
  assert.equal(limit.begun, false);
  const billed = { input: 0, output: 0, calls: 0 };
  const work = await atWork(t, () => ({ text: "never" }), { store: ticking, model: turnModel(billed, [{ text: "done" }]), budget: { max_wall_time_ms: 1 } });
  const { id, status } = await work.run();
  const { steps, llm_tokens } = (await work.state.agents.show(id)).spend;
  assert.deepEqual([status, billed.calls, steps.in_doubt, llm_tokens.in_doubt], ["waiting", 0, 0, 0]);
  await work.state.agents.addToBudget(id, MORE, { actor: "bea" });
  assert.deepEqual([(await work.goOn(id)).result, billed.calls], ["done", 1]);
});

/** A store on which a millisecond goes by with every look at the clock. */
const ticking: TestStore = {
  name: "ticking",
  open: (t, options) => {
    const since = Date.now();
    let looks = 0;
    return MEMORY.open(t, { ...options, clock: { ...systemClock, now: () => since + ++looks } });
  },
};

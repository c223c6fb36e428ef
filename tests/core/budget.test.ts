// Budgets: what is reserved, settled, lost and added always adds up, with many spenders and with spenders that die; no limit
// is passed by a reservation; a top-up wakes who waits for it; waiting and resuming give nothing back.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import fc from "fast-check";
import { isPawlError } from "../../src/base/errors.ts";
import { openAgent } from "../../src/core/agents.ts";
import { costOf, lostExtra, newBudget, overOf, pressureOf, RESOURCES, settleExtra, spendOf, type Amounts, type Budget, type Reservation, type Usage } from "../../src/core/budget.ts";
import { reserve } from "../../src/core/budgets.ts";
import { askAbout, askForBudget } from "../../src/core/decision.ts";
import { settle } from "../../src/core/committer.ts";
import type { Task, Wait } from "../../src/core/records.ts";
import { fenceGuard, withExtra, type Extra } from "../../src/core/step.ts";
import { park } from "../../src/core/task.ts";
import type { State } from "../../src/state.ts";
import { statePlace } from "../places.ts";

const NAMES = (process.env["PAWL_TEST_STORES"] ?? "memory,json,sqlite,postgres").split(",");

/** A claimed task whose agent has these limits; with `parent`, below that one. */
async function spender(state: State, limits: object, parent: Task | null = null): Promise<Task> {
  const { id } = await state.tasks.add({ description: "spend" });
  if (parent) await state.committer.commit({ puts: [{ kind: "task", key: id, set: { parent_id: parent.id } }] });
  const { task } = (await state.tasks.claim())!;
  assert.equal(task.id, id);
  await openAgent(state.committer, task, { actor: "w", budget: limits });
  return task;
}

const along = (state: State, task: Task, extra: Extra) => state.committer.commit(withExtra({ guards: [fenceGuard(task)], puts: [] }, extra));

async function take(state: State, task: Task, key: string, amounts: Amounts): Promise<Reservation> {
  const reserved = await reserve(state.committer, task, key, amounts);
  assert.ok(reserved.ok);
  return reserved.reservation;
}

const NO_LIMITS = { max_steps: null, max_wall_time_ms: null, max_llm_tokens: null };

/** The next owner of a task whose owner died. */
async function takenOver(state: State, task: Task): Promise<Task> {
  await state.tasks.release(task.id, { force: true });
  const { task: taken } = (await state.tasks.claim())!;
  assert.equal(taken.id, task.id);
  await openAgent(state.committer, taken, { actor: "w" });
  return taken;
}

for (const name of NAMES) {
  test(`${name}: reserved, settled, lost, taken over: each counts once, and is shown for what it is`, async (t) => {
    const place = await statePlace(t, name);
    const state = await place.open();
    const task = await spender(state, { max_steps: 5, max_llm_tokens: 1_000 });
    const a = await take(state, task, "a", { steps: 1, llm_tokens: 300 });
    assert.deepEqual((await state.agents.budget(task.id)).spend.llm_tokens, { limit: 1_000, spent: 0, reserved: 300, in_doubt: 0, left: 700 });
    assert.ok((await along(state, task, settleExtra(a, { steps: 1, llm_tokens: 420, input_tokens: 400, output_tokens: 20, unpriced: true }))).ok);
    assert.deepEqual((await along(state, task, settleExtra(a, { steps: 1 }))).ok, false, "a reservation is settled once");
    await along(state, task, lostExtra(await take(state, task, "b", { llm_tokens: 100 })));
    await take(state, task, "c", { steps: 1, llm_tokens: 50 });
    const taken = await takenOver(state, task);
    assert.deepEqual((await along(state, task, settleExtra({ ...a, key: "c" }, {}))).ok, false, "the dead owner's answer comes too late");
    const { spend, reservations } = await (await (name === "memory" ? state : place.open())).agents.budget(task.id);
    assert.deepEqual(spend.llm_tokens, { limit: 1_000, spent: 420, reserved: 0, in_doubt: 150, left: 430 });
    assert.deepEqual(spend.steps, { limit: 5, spent: 1, reserved: 0, in_doubt: 1, left: 3 });
    assert.deepEqual([spend.input_tokens, spend.output_tokens, spend.cost, spend.unpriced_calls, reservations], [400, 20, "unknown", 1, []]);
    const over = await reserve(state.committer, taken, "d", { llm_tokens: 431 });
    assert.deepEqual(over, { ok: false, over: [{ budget_id: task.id, resource: "llm_tokens", limit: 1_000, used: 570, wanted: 431 }] });
    assert.ok((await reserve(state.committer, taken, "d", { llm_tokens: 430 })).ok);
    await assert.rejects(reserve(state.committer, task, "e", { steps: 1 }), (error) => isPawlError(error, "lease_lost"));
    await assert.rejects(reserve(state.committer, taken, "d", {}), (error) => isPawlError(error, "conflict"));
  });

  test(`row 7, ${name}: parent and children spend from one budget, all at once, and never beyond it`, async (t) => {
    const place = await statePlace(t, name);
    const states = [await place.open(), ...(name === "memory" ? [] : [await place.open()])];
    const parent = await spender(states[0]!, { ...NO_LIMITS, max_llm_tokens: 100 });
    const children = [await spender(states[0]!, { ...NO_LIMITS, max_llm_tokens: 30 }, parent), await spender(states[0]!, NO_LIMITS, parent)];
    const spenders = [parent, ...children];
    const results = await Promise.all(Array.from({ length: 60 }, (_, i) => reserve(states[i % states.length]!.committer, spenders[i % 3]!, `k${i}`, { llm_tokens: 3 }).then((reserved) => ({ reserved, of: i % 3 }))));
    const [p, a, b] = [0, 1, 2].map((of) => results.filter((result) => result.of === of && result.reserved.ok).length);
    assert.equal(p! + a! + b!, 33, "3 fits 33 times into 100");
    assert.ok(a! <= 10, "and 10 times into the 30 of the first child");
    const used = await Promise.all(spenders.map(async ({ id }) => (await states[0]!.agents.budget(id)).spend.llm_tokens.reserved));
    assert.deepEqual(used, [99, a! * 3, b! * 3]);
    assert.deepEqual((await states[0]!.agents.budget(children[0]!.id)).parent_id, parent.id);
  });

  test(`${name}: whatever spenders do and whenever they die, not a unit is lost and none goes below zero`, async (t) => {
    const runs = Number(process.env["PAWL_TEST_RUNS"] ?? (name === "postgres" ? 3 : 12));
    await fc.assert(fc.asyncProperty(fc.array(fc.array(ACTION, { minLength: 1, maxLength: 8 }), { minLength: 2, maxLength: 3 }), (scripts) => spendAtOnce(t, name, scripts)), { numRuns: runs });
  });

  test(`row 8, ${name}: more is added, the decision is approved with it and the task goes on at once`, async (t) => {
    const state = await (await statePlace(t, name)).open();
    const task = await spender(state, { max_steps: 1 });
    await take(state, task, "a", { steps: 1 });
    const over = await reserve(state.committer, task, "b", { steps: 1 });
    assert.ok(!over.ok);
    const { details, ...ask } = askForBudget(task.id, over.over);
    await state.committer.commit(askAbout(task, { key: "t2/budget" }, 1, { ...ask, details: details as never }, "w", state.clock.now()));
    await settle(state.committer, task, async (current, now) => park(current, (await state.committer.store.list("wait", { equals: { task_id: task.id } })) as unknown as Wait[], { actor: "w", now, fence: current.fence }));
    const [decision] = await state.decisions.inbox();
    assert.match(decision!.question, /steps: 1 of 1 used, 1 more wanted/);
    await assert.rejects(state.decisions.settle("d1", { answer: "approve" }), (error) => isPawlError(error, "usage") && error.next === `pawl agent budget ${task.id} --add max_steps=…`);
    for (const bad of [{ max_cost_micros: 5 }, { max_steps: -1 }, { max_step: 1 }, { max_steps: 0.5 }, {}]) await assert.rejects(state.agents.addToBudget(task.id, bad as object), (error) => isPawlError(error, "usage"));
    assert.equal((await state.tasks.get(task.id)).status, "waiting");
    const { budget, decision: settled } = await state.agents.addToBudget(task.id, { max_steps: 2, max_llm_tokens: 10 }, { reason: "almost done", actor: "bob" });
    assert.deepEqual([settled!.status, settled!.settled_by, settled!.value], ["approved", "bob", { max_steps: 2, max_llm_tokens: 10 }]);
    assert.deepEqual([budget.limits.max_steps, budget.limits.max_llm_tokens, (await state.tasks.get(task.id)).status], [3, 200_010, "pending"]);
    const event = (await state.history.of(task.id)).find((transition) => transition.event === "budget_added")!;
    assert.deepEqual([event.actor, event.reason, event.details], ["bob", "almost done", { max_llm_tokens: 10, max_steps: 2 }]);
    await state.agents.addToBudget(task.id, { max_steps: 1 });
    assert.equal((await state.agents.budget(task.id)).limits.max_steps, 4, "without a decision it is only added");
  });
}

type Action = { readonly wanted: number; readonly then: "settle" | "lose" | "leave" | "die" | "settle-more"; readonly usage: number };
const ACTION: fc.Arbitrary<Action> = fc.record({ wanted: fc.integer({ min: 0, max: 40 }), then: fc.constantFrom("settle", "lose", "leave", "die", "settle-more"), usage: fc.nat(40) });

/** Runs a script for each spender, all at once, below one parent with a limit of 200; compares with what each counted itself. */
async function spendAtOnce(t: TestContext, name: string, scripts: readonly (readonly Action[])[]): Promise<void> {
  const state = await (await statePlace(t, name)).open();
  const parent = await spender(state, { ...NO_LIMITS, max_llm_tokens: 200 });
  const tasks: Task[] = [];
  for (const _ of scripts) tasks.push(await spender(state, NO_LIMITS, parent));
  const counts = await Promise.all(scripts.map((script, i) => spend(state, tasks[i]!, script)));
  const totals = { spent: 0, reserved: 0, in_doubt: 0 };
  for (const [i, count] of counts.entries()) {
    const { limit, left, ...own } = (await state.agents.budget(tasks[i]!.id)).spend.llm_tokens;
    assert.deepEqual([own, limit, left], [count, null, null]);
    for (const field of ["spent", "reserved", "in_doubt"] as const) totals[field] += count[field];
  }
  const { limit, left, ...all } = (await state.agents.budget(parent.id)).spend.llm_tokens;
  assert.deepEqual(all, totals, "the parent counts what its children spent, to the token");
  assert.equal(left, Math.max(0, limit! - all.spent - all.reserved - all.in_doubt));
  const [record] = (await state.committer.store.get("budget", [parent.id])) as unknown as Budget[];
  for (const field of ["used", "reserved", "in_doubt"] as const) assert.ok((record![`${field}_llm_tokens`] ?? 0) >= 0);
  await state.close();
}

async function spend(state: State, first: Task, script: readonly Action[]): Promise<{ spent: number; reserved: number; in_doubt: number }> {
  const count = { spent: 0, reserved: 0, in_doubt: 0 };
  let task = first;
  for (const [i, { wanted, then, usage }] of script.entries()) {
    const reserved = await reserve(state.committer, task, `k${i}`, { llm_tokens: wanted });
    if (!reserved.ok) continue;
    const used = then === "settle-more" ? wanted + usage : Math.min(usage, wanted);
    if (then === "settle" || then === "settle-more") {
      assert.ok((await along(state, task, settleExtra(reserved.reservation, { llm_tokens: used }))).ok);
      count.spent += used;
    } else if (then === "lose") {
      assert.ok((await along(state, task, lostExtra(reserved.reservation))).ok);
      count.in_doubt += wanted;
    } else count.reserved += wanted;
    if (then !== "die") continue;
    const owned = await state.committer.commit({ guards: [fenceGuard(task)], puts: [{ kind: "task", key: task.id, set: { fence: task.fence + 1 } }] });
    assert.ok(owned.ok);
    task = { ...task, fence: task.fence + 1 };
    await openAgent(state.committer, task, { actor: "w" });
    count.in_doubt += count.reserved;
    count.reserved = 0;
  }
  return count;
}

const budget = (fields: object) => ({ ...Object.fromEntries(RESOURCES.flatMap((resource) => ["max", "used", "reserved", "in_doubt"].map((prefix) => [`${prefix}_${resource}`, null]))), ...newBudget(1, NO_LIMITS, null, 0), ...fields }) as unknown as Budget;

test("what is over, what runs low", () => {
  const rows: [object, Amounts, string[], string[]][] = [
    [{}, { steps: 1_000_000 }, [], []],
    [{ max_steps: 10, used_steps: 7 }, { steps: 3 }, [], []],
    [{ max_steps: 10, used_steps: 8 }, { steps: 2 }, [], ["steps"]],
    [{ max_steps: 10, used_steps: 8 }, { steps: 3 }, ["steps"], ["steps"]],
    [{ max_steps: 10, used_steps: 12 }, { steps: 1 }, ["steps"], ["steps"]],
    [{ max_steps: 10, used_steps: 12 }, { tool_calls: 1 }, [], ["steps"]],
    [{ max_steps: 0 }, { steps: 1 }, ["steps"], ["steps"]],
    [{ max_wall_time_ms: 100, used_wall_time_ms: 99 }, { steps: 1 }, [], ["wall_time_ms"]],
    [{ max_wall_time_ms: 100, used_wall_time_ms: 100 }, { steps: 1 }, ["wall_time_ms"], ["wall_time_ms"]],
    [{ max_llm_tokens: 10, max_cost_micros: 5, used_cost_micros: 5 }, { llm_tokens: 11, cost_micros: 1 }, ["llm_tokens", "cost_micros"], ["cost_micros"]],
  ];
  for (const [fields, amounts, over, low] of rows) {
    assert.deepEqual(overOf([budget(fields)], amounts).map(({ resource }) => resource), over, JSON.stringify(fields));
    assert.deepEqual(pressureOf(budget(fields)), low, JSON.stringify(fields));
  }
  assert.equal(spendOf(budget({ max_steps: 3, used_steps: 5 })).steps.left, 0);
});

test("a call costs what the table says; without a price it is unknown, not nothing", () => {
  const prices = { "m-1": { input: 3, output: 15 }, free: { input: 0, output: 0 } };
  assert.equal(costOf(prices, "m-1", { input_tokens: 1_000_000, output_tokens: 100_000 }), 4_500_000);
  assert.equal(costOf({ m: { input: 0.15, output: 0 } }, "m", { input_tokens: 1, output_tokens: 0 }), 1, "rounded up");
  assert.equal(costOf(prices, "free", { input_tokens: 10, output_tokens: 10 }), 0);
  for (const model of ["m-2", "constructor", "toString"]) assert.equal(costOf(prices, model, { input_tokens: 1, output_tokens: 1 }), null);
  assert.equal(costOf(undefined, "m-1", { input_tokens: 1, output_tokens: 1 }), null);
});

test("what is no limit and no usage is refused", async (t) => {
  for (const limits of [{ max_step: 1 }, { max_steps: "3" }, { max_steps: 1.5 }, { max_steps: -1 }, { max_steps: Number.NaN }, { constructor: 1 }]) assert.throws(() => newBudget(1, limits as object, null, 0), (error) => isPawlError(error, "usage"));
  const reservation: Reservation = { task_id: 1, key: "k", fence: 1, budgets: [1], amounts: {}, at: "" };
  for (const usage of [{ tokens: 1 }, { steps: -1 }, { llm_tokens: 0.5 }, { llm_tokens: Number.NaN }, { llm_tokens: null }]) assert.throws(() => settleExtra(reservation, usage as Usage), (error) => isPawlError(error, "usage"));
  const state = await (await statePlace(t, "memory")).open();
  const task = await spender(state, {});
  await assert.rejects(reserve(state.committer, task, "k", { steps: -1 }), (error) => isPawlError(error, "usage"));
});

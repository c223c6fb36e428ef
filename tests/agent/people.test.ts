// What of an agent's work waits for people: leave for an action, a question, more budget. Each is answered in another process's
// stead, after the worker that asked is gone, and the agent goes on at the same step.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { AgentTool } from "../../src/agent/tool.ts";
import type { Json } from "../../src/base/json.ts";
import { Committer } from "../../src/core/committer.ts";
import { settleDecision, type Settlement } from "../../src/core/decision.ts";
import type { Task } from "../../src/core/records.ts";
import { turns } from "../simulation.ts";
import { ALL_STORES, MEMORY, type TestStore } from "../stores.ts";
import { atWork, OPEN, results } from "./agents.ts";

const RISKY = { required_for_risk_levels: ["write_local", "external_action"] as const };

function remover(risk: AgentTool["risk"] = "write_local") {
  const removed: unknown[] = [];
  const remove: AgentTool = {
    description: "removes a file", inputSchema: { type: "object", properties: { file: { type: "string" } }, required: ["file"] }, risk: risk!,
    execute: ((input: { file: string }) => `removed ${removed.push(input.file) && input.file}`) as never,
  };
  return { removed, remove };
}

async function asked(t: TestContext, store = MEMORY, options: Parameters<typeof atWork>[2] = {}) {
  const { removed, remove } = remover();
  const work = await atWork(t, (request, turn) => (turn === 0 ? { calls: [{ id: "c-1", name: "remove", args: { file: "a.log" } }] } : { text: `so: ${results(request.messages).join()}` }), {
    store, tools: { remove }, policy: RISKY, ...options,
  });
  const task = await work.run();
  assert.equal(task.status, "waiting");
  const [decision] = await work.state.decisions.inbox();
  return { ...work, task, decision: decision!, removed };
}

for (const store of ALL_STORES) {
  test(`scenario 16, ${store.name}: an action waits for a person, shows exactly what it would do, and runs when approved`, async (t) => {
    const { state, task, decision, removed, goOn, server } = await asked(t, store);
    assert.equal(decision.kind, "action");
    const details = decision.details as { [name: string]: Json };
    assert.deepEqual({ tool: details["tool"], arguments: details["arguments"], risk: details["risk"], call_id: details["call_id"] }, { tool: "remove", arguments: { file: "a.log" }, risk: "write_local", call_id: "c-1" });
    assert.deepEqual(removed, []);
    await state.decisions.settle(decision.id, { answer: "approve", actor: "bea" });
    const done = await goOn(task.id);
    assert.equal(done.result, "so: removed a.log");
    assert.deepEqual(removed, ["a.log"]);
    assert.equal(server.asked.length, 2, "the model was not asked again for what it had said");
  });
}

test("edited arguments are what runs; the model is told what ran", async (t) => {
  const { state, task, decision, removed, goOn } = await asked(t);
  await state.decisions.settle(decision.id, { answer: "approve", edit: { file: "b.log" }, actor: "bea" });
  assert.equal((await goOn(task.id)).result, "so: removed b.log");
  assert.deepEqual(removed, ["b.log"]);
});

test("edited arguments that do not fit the tool run nothing", async (t) => {
  const { state, task, decision, removed, goOn } = await asked(t);
  await state.decisions.settle(decision.id, { answer: "approve", edit: { files: 3 }, actor: "bea" });
  assert.match(String((await goOn(task.id)).result), /as a person edited them, do not fit/);
  assert.deepEqual(removed, []);
});

test("denied is told with its reason, and nothing runs", async (t) => {
  const { state, task, decision, removed, goOn } = await asked(t);
  await state.decisions.settle(decision.id, { answer: "deny", reason: "that log is evidence", actor: "bea" });
  assert.match(String((await goOn(task.id)).result), /denied this call: that log is evidence/);
  assert.deepEqual(removed, []);
});

test("row 6: expired is not denied: the model is told that nobody answered", async (t) => {
  const { removed, remove } = remover();
  const work = await atWork(t, (request, turn) => (turn === 0 ? { calls: [{ name: "remove", args: { file: "a.log" } }] } : { text: results(request.messages).join() }), {
    tools: { remove }, policy: { ...RISKY, expires_in_ms: 1, on_expiry: "deny" },
  });
  let task = await work.run();
  while (task.status === "waiting" || task.status === "pending") task = await work.goOn(task.id);
  assert.match(String(task.result), /Nobody answered.*not a no/);
  assert.deepEqual(removed, []);
});

test("three actions of one answer are three decisions, answered in any order; each call keeps its own answer", async (t) => {
  const { removed, remove } = remover();
  const work = await atWork(t, (request, turn) => (turn === 0 ? { calls: ["a", "b", "c"].map((file) => ({ name: "remove", args: { file } })) } : { text: results(request.messages).join(" | ") }), { tools: { remove }, policy: RISKY });
  const { id } = await work.run();
  const open = await work.state.decisions.inbox();
  assert.equal(new Set(open.map((decision) => decision.id)).size, 3);
  const of = (file: string) => open.find(({ details }) => (details as { arguments: { file: string } }).arguments.file === file)!.id;
  await work.state.decisions.settle(of("c"), { answer: "approve", actor: "bea" });
  await work.goOn(id);
  await work.state.decisions.settle(of("a"), { answer: "deny", reason: "no", actor: "bea" });
  await work.goOn(id);
  await work.state.decisions.settle(of("b"), { answer: "approve", actor: "bea" });
  const task = await work.goOn(id);
  assert.equal(task.result, "A person denied this call: no | removed b | removed c");
  assert.deepEqual(removed, ["c", "b"]);
});

test("what was approved runs at once, however slow the store is, though others still wait for their answers", async (t) => {
  const { removed, remove } = remover();
  const slow: TestStore = {
    name: "slow",
    async open(t, options) {
      const state = await MEMORY.open(t, options);
      const { store } = state.committer;
      const commit = store.commit.bind(store);
      store.commit = async (changes) => (await turns(20), commit(changes));
      return state;
    },
  };
  const work = await atWork(t, (_, turn) => (turn === 0 ? { calls: ["a", "b"].map((file) => ({ name: "remove", args: { file } })) } : { text: "done" }), { store: slow, tools: { remove }, policy: RISKY });
  const { id } = await work.run();
  const [first] = await work.state.decisions.inbox();
  await work.state.decisions.settle(first!.id, { answer: "approve", actor: "bea" });
  assert.equal((await work.goOn(id)).status, "waiting");
  assert.deepEqual(removed, [(first!.details as { arguments: { file: string } }).arguments.file]);
  assert.deepEqual((await work.state.agents.show(id)).spend.tool_calls, { limit: null, spent: 1, reserved: 0, in_doubt: 0, left: null });
});

test("scenario 16: read_only passes; a rule of one's own and the SDK's needsApproval ask all the same", async (t) => {
  const look: AgentTool = { risk: "read_only", execute: () => "seen" };
  const script = (_: unknown, turn: number) => (turn === 0 ? { calls: [{ name: "look" }] } : { text: "done" });
  assert.equal((await (await atWork(t, script, { tools: { look }, policy: RISKY })).run()).status, "completed");
  assert.equal((await (await atWork(t, script, { tools: { look }, policy: OPEN, rule: ({ tool }) => tool === "look" })).run()).status, "waiting");
  assert.equal((await (await atWork(t, script, { tools: { look: { ...look, needsApproval: true } }, policy: OPEN })).run()).status, "waiting");
});

/** The store on which the first decision is settled, as by another process, in the last moment before its task would be parked. */
function answeredBeforeParking(store: TestStore, settlement: Settlement): TestStore & { readonly answered: () => boolean } {
  let answered = false;
  return {
    name: store.name,
    answered: () => answered,
    async open(t, options) {
      const state = await store.open(t, options);
      const kept = state.committer.store;
      const commit = kept.commit.bind(kept);
      kept.commit = async (changes) => {
        if (!changes.some((change) => "puts" in change && change.puts.some((put) => put.kind === "task" && "set" in put && put.set["status"] === "waiting"))) return commit(changes);
        kept.commit = commit;
        await settleDecision(new Committer(kept), "d1", settlement);
        answered = true;
        return commit(changes);
      };
      return state;
    },
  };
}

for (const store of ALL_STORES) {
  test(`${store.name}: an unknown effect that is answered while its task is being parked goes on as one answered later, and costs the same`, async (t) => {
    for (const [settlement, calls] of [[{ answer: "again", actor: "bea" }, 2], [{ answer: "done", value: "paid", actor: "bea" }, 1]] as const) {
      let paid = 0;
      const pay: AgentTool = { risk: "read_only", effect: "once", execute: () => (++paid % 2 === 1 ? Promise.reject(new Error("connection reset")) : "paid") };
      const atPay = (on: TestStore) => atWork(t, (request, turn) => (turn === 0 ? { calls: [{ name: "pay" }] } : { text: results(request.messages).join() }), { store: on, tools: { pay } });
      const end = async (work: Awaited<ReturnType<typeof atPay>>, task: Task) => [task.status, task.result, paid, (await work.state.agents.show(task.id)).spend.tool_calls];
      const racing = answeredBeforeParking(store, settlement);
      const raced = await atPay(racing);
      const soon = await end(raced, await raced.run({ max_attempts: 1 }));
      assert.ok(racing.answered());
      paid = 0;
      const parked = await atPay(store);
      const { id, status } = await parked.run({ max_attempts: 1 });
      assert.equal(status, "waiting");
      await parked.state.decisions.settle("d1", settlement);
      const later = await end(parked, await parked.goOn(id));
      assert.deepEqual(soon, ["completed", "paid", calls, { limit: null, spent: 1, reserved: 0, in_doubt: 1, left: null }]);
      assert.deepEqual(later, soon);
    }
  });
}

test("a question of the model lands in the inbox, and its answer is the result of the call", async (t) => {
  const work = await atWork(t, (request, turn) => (turn === 0 ? { calls: [{ name: "ask_person", args: { question: "Which namespace?" } }] } : { text: `into ${results(request.messages)[0]}` }));
  const { id } = await work.run();
  const [decision] = await work.state.decisions.inbox();
  assert.equal(decision!.question, "Which namespace?");
  await work.state.decisions.settle(decision!.id, { answer: "staging", actor: "bea" });
  assert.equal((await work.goOn(id)).result, "into staging");
});

for (const store of ALL_STORES) {
  test(`row 8, ${store.name}: at its limit the agent waits; topped up, it goes on at the same step; pressure is told before`, async (t) => {
    const look: AgentTool = { risk: "read_only", execute: () => "seen" };
    const work = await atWork(t, (_, turn) => (turn < 6 ? { calls: [{ name: "look" }] } : { text: "done" }), { store, tools: { look }, budget: { max_steps: 5 } });
    const { id, status } = await work.run();
    assert.equal(status, "waiting");
    assert.equal(work.server.asked.length, 5);
    assert.match(String(work.server.asked[4]!.messages[0]!.content), /budget runs low \(used steps: 4 of 5\)/);
    assert.match(String(work.server.asked[4]!.messages[0]!.content), /budget_pressure/);
    assert.doesNotMatch(String(work.server.asked[2]!.messages[0]!.content), /budget_pressure/);
    const [decision] = await work.state.decisions.inbox();
    assert.equal(decision!.kind, "budget");
    await work.state.agents.addToBudget(id, { max_steps: 10 }, { actor: "bea" } as never);
    const done = await work.goOn(id);
    assert.equal(done.result, "done");
    assert.equal(work.server.asked.length, 7);
    assert.equal((await work.state.agents.show(id)).spend.steps.spent, 7);
    assert.equal(done.attempts, 1);
  });
}

test("a budget that is denied ends the task, and says what was used up", async (t) => {
  const work = await atWork(t, () => ({ calls: [{ name: "agent_patch", args: { add_risk_flags: ["x"] } }] }), { budget: { max_tool_calls: 2 } });
  const { id } = await work.run();
  const [decision] = await work.state.decisions.inbox();
  await work.state.decisions.settle(decision!.id, { answer: "deny", reason: "enough", actor: "bea" });
  const task = await work.goOn(id);
  assert.equal(task.status, "failed");
  assert.match(task.error!.message, /budget is used up: tool_calls \(2 of 2\).*enough/);
});

test("row 7: tokens are taken out before a call: what is left bounds the answer, and no call is made that could pass the limit", async (t) => {
  const work = await atWork(t, (_, turn) => (turn === 0 ? { calls: [{ name: "agent_patch", args: { add_risk_flags: ["x"] } }] } : { text: "done" }), { budget: { max_llm_tokens: 4_000 }, maxOutputTokens: 100_000 });
  assert.equal((await work.run()).status, "completed");
  for (const asked of work.server.asked) assert.ok(asked.max_tokens! < 4_000, `max_tokens ${asked.max_tokens}`);
  const small = await atWork(t, () => ({ text: "never" }), { budget: { max_llm_tokens: 300 } });
  assert.equal((await small.run()).status, "waiting");
  assert.equal(small.server.asked.length, 0);
});

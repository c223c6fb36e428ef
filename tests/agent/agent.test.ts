// The agent's loop on every store, against a model server over real HTTP: what it asks, what it records, and what it makes of
// tools that fail, of models that talk nonsense, and of feedback.
import assert from "node:assert/strict";
import { test } from "node:test";
import { tool } from "ai";
import { z } from "zod";
import { ALL_STORES } from "../stores.ts";
import { atWork, OPEN, results, texts } from "./agents.ts";

const add = tool({ description: "adds two numbers", inputSchema: z.object({ a: z.number(), b: z.number() }), execute: async ({ a, b }) => a + b });

for (const store of ALL_STORES) {
  test(`${store.name}: tools run side by side, the state is patched, the answer is the result`, async (t) => {
    const patch = { append_known_facts: [{ key: "first", value: 3, source: "tool" }], replace_plan: ["add", "say"] };
    const { state, server, run } = await atWork(t, (asked, turn) => {
      if (turn === 0) return { text: "adding", calls: [{ name: "add", args: { a: 1, b: 2 } }, { name: "add", args: { a: 3, b: 4 } }, { name: "agent_patch", args: patch }] };
      return { text: `sums: ${results(asked.messages).slice(0, 2).join(", ")}` };
    }, { store, tools: { add }, instructions: "You add.", constraints: { service: "X" } });
    const task = await run({ description: "add things", input: { n: 1 } });
    assert.equal(task.status, "completed", JSON.stringify(task.error));
    assert.equal(task.result, "sums: 3, 7");
    assert.equal(server.asked.length, 2);
    const [system, user] = server.asked[0]!.messages;
    assert.match(String(system!.content), /^You add\.[^]*"goal": "add things"[^]*"service": "X"/);
    assert.match(String(user!.content), /^add things[^]*"n": 1/);
    assert.match(String(server.asked[1]!.messages[0]!.content), /"plan": \[\n\s+"add",\n\s+"say"/);
    assert.deepEqual(server.asked[0]!.tools!.map((one) => one.function.name).sort(), ["add", "agent_patch", "artifact_read", "ask_person"]);
    const steps = await state.tasks.steps(task.id);
    assert.deepEqual(steps.map(({ key }) => key).sort(), ["c2/call_0_0/add", "c2/call_0_1/add", "c2/call_0_2/agent_patch", "t2/model", "t6/model"]);
    const { agent, state: shown, spend } = await state.agents.show(task.id);
    assert.equal(agent.revision, 1);
    assert.deepEqual(shown.known_facts, [{ key: "first", value: 3, source: "tool" }]);
    assert.equal(spend.steps.spent, 2);
    assert.equal(spend.tool_calls.spent, 3);
    assert.equal(spend.llm_tokens.spent, server.billed.input + server.billed.output, "the provider's own counts");
    assert.equal(spend.llm_tokens.reserved + spend.llm_tokens.in_doubt, 0);
  });
}

test("what is wrong with a call is its result: no such tool, no JSON, the wrong shape, an error", async (t) => {
  const fail = { description: "fails", risk: "read_only" as const, execute: () => Promise.reject(new Error("no disk there")) };
  const { server, run } = await atWork(t, (_, turn) => {
    if (turn > 0) return { text: "understood" };
    return { calls: [{ name: "nothing", args: {} }, { name: "add", raw: '{"a": 1' }, { name: "add", args: { a: "x" } }, { name: "fail" }, { name: "agent_patch", args: { add_facts: [] } }, { name: "add", args: { a: 1, b: 1 } }] };
  }, { tools: { add, fail } });
  const task = await run();
  assert.equal(task.status, "completed");
  const told = results(server.asked[1]!.messages);
  assert.match(told[0]!, /no tool called "nothing"\. There are: .*add/);
  assert.match(told[1]!, /not JSON/);
  assert.match(told[2]!, /do not fit the schema of add: a: .*; b: /);
  assert.match(told[3]!, /fail failed: no disk there/);
  assert.match(told[4]!, /add_facts/);
  assert.equal(told[5], "2");
});

test("calls with the same id, without one and with a wild one are told apart", async (t) => {
  const ids = ["same", "same", "a/b#c@d", "ü".repeat(300)];
  const { server, run, state } = await atWork(t, (_, turn) => (turn > 1 ? { text: "done" } : { calls: ids.map((id, i) => ({ id, name: "add", args: { a: i, b: turn } })) }), { tools: { add } });
  const task = await run();
  assert.equal(task.status, "completed", JSON.stringify(task.error));
  assert.deepEqual(results(server.asked[2]!.messages), ["0", "1", "2", "3", "1", "2", "3", "4"]);
  assert.equal((await state.tasks.steps(task.id)).filter(({ name }) => name === "add").length, 8);
});

test("more calls at once than are run are told so", async (t) => {
  const { server, run } = await atWork(t, (_, turn) => (turn > 0 ? { text: "done" } : { calls: Array.from({ length: 40 }, (_, i) => ({ name: "add", args: { a: i, b: 0 } })) }), { tools: { add } });
  assert.equal((await run()).status, "completed");
  const told = results(server.asked[1]!.messages);
  assert.equal(told.filter((text) => /Too many calls at once/.test(text)).length, 8);
  assert.equal(told[31], "31");
});

test("empty answers are asked about, and end the attempt when they go on", async (t) => {
  const { server, run } = await atWork(t, (_, turn) => (turn < 2 ? { text: "" } : { text: "here it is" }));
  assert.equal((await run()).result, "here it is");
  assert.match(texts(server.asked[1]!.messages, "user")[1]!, /answer was empty/);
  const mute = await atWork(t, () => ({ text: "" }));
  const task = await mute.run({ max_attempts: 1 });
  assert.equal(task.status, "failed");
  assert.match(task.error!.message, /3 empty answers in a row/);
  assert.equal(mute.server.asked.length, 3);
});

test("an answer that was cut off goes on, and its pieces are one result", async (t) => {
  const { run } = await atWork(t, (_, turn) => (turn === 0 ? { text: "one, ", finish: "length" } : { text: "two" }));
  assert.equal((await run()).result, "one, two");
});

test("a rejected result goes on in the same conversation, with the feedback as its next message", async (t) => {
  const seen: string[] = [];
  const { state, server, run } = await atWork(t, (asked) => ({ text: texts(asked.messages, "user").length > 1 ? "better" : "bad" }), {
    work: { verify: (_, result) => (seen.push(String(result)), result === "better" ? true : { passed: false, feedback: "say it better" }) },
  });
  const task = await run();
  assert.equal(task.status, "completed");
  assert.deepEqual(seen, ["bad", "better"]);
  assert.deepEqual(server.asked[1]!.messages.slice(1).map(({ role }) => role), ["user", "assistant", "user"]);
  assert.match(texts(server.asked[1]!.messages, "user")[1]!, /not accepted: say it better/);
  assert.equal(task.round, 2);
  assert.equal((await state.agents.show(task.id)).agent.epoch, 0);
});

test("a task that is reset begins a new conversation; its budget stays spent", async (t) => {
  const { state, server, run, goOn } = await atWork(t, (_, turn) => (turn === 0 ? { calls: [{ name: "agent_patch", args: { replace_plan: ["x"] } }] } : { text: "done" }));
  const { id } = await run();
  await state.tasks.reset(id);
  assert.equal((await goOn(id)).status, "completed");
  assert.equal(server.asked.length, 4);
  assert.equal(server.asked[2]!.messages.length, 2, "the first prompt again");
  const { agent, state: shown, spend } = await state.agents.show(id);
  assert.equal(agent.epoch, 1);
  assert.deepEqual(shown.plan, ["x"]);
  assert.equal(spend.steps.spent, 4);
});

test("a final answer of a given shape is checked, and the model is told what is wrong with it", async (t) => {
  const answers = ["It is 3.", '{"sum": "3"}', '```json\n{"sum": 3}\n```'];
  const { server, run } = await atWork(t, (_, turn) => ({ text: answers[turn]! }), { output: z.object({ sum: z.number() }) });
  assert.deepEqual((await run()).result, { sum: 3 });
  assert.match(texts(server.asked[1]!.messages, "user")[1]!, /nothing but JSON/);
  assert.match(texts(server.asked[2]!.messages, "user")[2]!, /sum: /);
});

test("observe makes facts of results, apart from what the model does", async (t) => {
  const { state, server, run } = await atWork(t, (_, turn) => (turn === 0 ? { calls: [{ name: "add", args: { a: 20, b: 22 } }] } : { text: "done" }), {
    tools: { add }, observe: ({ tool: name, output }) => ({ append_known_facts: [{ key: `${name}.result`, value: output, source: "tool" }] }),
  });
  const { id } = await run();
  assert.deepEqual((await state.agents.show(id)).state.known_facts, [{ key: "add.result", value: 42, source: "tool" }]);
  assert.match(String(server.asked[1]!.messages[0]!.content), /add\.result/);
});

test("answers are streamed to a listener, and recorded whole; a listener that throws breaks nothing", async (t) => {
  const heard: string[] = [];
  const kinds: string[] = [];
  const { server, run } = await atWork(t, (_, turn) => (turn === 0 ? { text: "I will add these numbers", calls: [{ name: "add", args: { a: 1, b: 2 } }] } : { text: "The sum is three" }), {
    tools: { add },
    onEvent: (event) => {
      if (event.type === "text") heard.push(event.delta);
      else kinds.push(event.type);
      throw new Error("not now");
    },
  });
  const task = await run();
  assert.equal(task.result, "The sum is three");
  assert.equal(heard.join(""), "I will add these numbersThe sum is three");
  assert.ok(heard.length > 4, "in pieces");
  assert.deepEqual(kinds, ["answer", "call", "result", "answer"]);
  assert.equal(server.asked[0]!.stream, true);
});

test("a tool that no model could call, and a model nobody knows, are said before any task is claimed", async (t) => {
  const wild = await atWork(t, () => ({ text: "x" }), { tools: { "a b": add } });
  await assert.rejects(wild.run(), /cannot be called "a b"/);
  const named = await atWork(t, () => ({ text: "x" }), { model: "nobody/x" });
  await assert.rejects(named.run(), /no model "nobody\/x"/);
  assert.equal((await named.state.tasks.get(1)).attempts, 0);
});

test("the policy, not the prompt, decides what needs a person: a tool that says nothing is the riskiest", async (t) => {
  const { state, run } = await atWork(t, (_, turn) => (turn === 0 ? { calls: [{ name: "add", args: { a: 1, b: 2 } }] } : { text: "done" }), { tools: { add }, policy: { ...OPEN, required_for_risk_levels: ["external_action"] } });
  assert.equal((await run()).status, "waiting");
  assert.equal((await state.decisions.inbox())[0]!.kind, "action");
});

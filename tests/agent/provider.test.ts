// A provider with a bad moment: limits, errors, hangs, nonsense, broken streams. Invariants: no attempt is lost by what is not
// the task's fault; what may have been billed counts; the outcome is clear and the state intact.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import type { AgentTool } from "../../src/agent/tool.ts";
import { retryAfter } from "../../src/agent/answer.ts";
import { judge } from "../../src/agent/judge.ts";
import { parseIso } from "../../src/base/clock.ts";
import { eventually } from "../pawl.ts";
import { atWork, results } from "./agents.ts";

test("a provider that asks to wait a moment is asked again after it, and nothing is billed for the refusal", async (t) => {
  const { state, server, run } = await atWork(t, (_, __, times) => (times === 1 ? { status: 429, headers: { "retry-after": "0" } } : { text: "done" }));
  const task = await run();
  assert.equal(task.result, "done");
  assert.equal(server.asked.length, 2);
  const { spend } = await state.agents.show(task.id);
  assert.deepEqual([spend.steps.spent, spend.llm_tokens.in_doubt, spend.llm_tokens.spent], [1, 0, server.billed.input + server.billed.output]);
});

test("a provider that asks to wait for long gets the task parked until then, and no attempt is lost", async (t) => {
  const { state, run } = await atWork(t, () => ({ status: 429, headers: { "retry-after": "3600" } }));
  const before = state.clock.now();
  const task = await run({ max_attempts: 1 });
  assert.equal(task.status, "pending");
  assert.ok(parseIso(task.run_at!) >= before + 3_600_000);
  assert.equal(task.continues, true, "the next claim does not count");
  assert.equal((await state.agents.show(task.id)).spend.llm_tokens.reserved, 0);
});

test("a provider that stays overloaded gets the task parked as well; one that stays broken fails the attempt", async (t) => {
  const busy = await atWork(t, () => ({ status: 529 }));
  const parked = await busy.run({ max_attempts: 1 });
  assert.deepEqual([parked.status, busy.server.asked.length], ["pending", 3]);
  const broken = await atWork(t, () => ({ status: 500, text: "boom" }));
  const failed = await broken.run({ max_attempts: 2 });
  assert.equal(failed.status, "failed");
  assert.match(failed.error!.message, /provider failed: boom/);
  assert.equal(broken.server.asked.length, 6, "three tries in each attempt");
});

test("a request the provider refuses is not tried again", async (t) => {
  const { server, run } = await atWork(t, () => ({ status: 401, text: "bad key" }));
  const task = await run();
  assert.deepEqual([task.status, task.attempts, server.asked.length], ["failed", 1, 1]);
  assert.match(task.error!.message, /bad key/);
});

test("without a key nothing is asked, so nothing counts: not for the agent, and not for its judge however often it reviews", async (t) => {
  const key = process.env["OPENAI_API_KEY"];
  delete process.env["OPENAI_API_KEY"];
  t.after(() => void (key === undefined || (process.env["OPENAI_API_KEY"] = key)));
  const { createOpenAI } = await import("@ai-sdk/openai");
  const keyless = createOpenAI({ baseURL: "http://127.0.0.1:9" })("m");
  const alone = await atWork(t, () => ({ text: "never" }), { model: keyless });
  const failed = await alone.run();
  assert.match(failed.error!.message, /API key is missing/);
  const judged = await atWork(t, () => ({ text: "done" }), { work: { verify: judge({ model: keyless }) } });
  const { id } = await judged.run();
  await eventually(async () => (await judged.state.decisions.inbox()).length > 0, "the reviews that went wrong become a decision");
  assert.match((await judged.state.tasks.get(id)).error!.message, /API key is missing/);
  for (const [{ state, server }, task] of [[alone, failed.id], [judged, id]] as const) {
    const { llm_tokens, cost_micros } = (await state.agents.show(task)).spend;
    assert.deepEqual([llm_tokens.spent, llm_tokens.in_doubt, llm_tokens.reserved, cost_micros.in_doubt], [server.billed.input + server.billed.output, 0, 0, 0]);
  }
});

test("a provider that hangs is ended by the time-out; the lost call counts as spent in doubt", async (t) => {
  const { state, server, run } = await atWork(t, (_, __, times) => (times === 1 ? { hang: true } : { text: "done" }), { timeoutMs: 200 });
  const task = await run();
  assert.equal(task.result, "done");
  const { spend } = await state.agents.show(task.id);
  assert.equal(spend.steps.in_doubt, 1);
  assert.ok(spend.llm_tokens.in_doubt > 0);
  assert.ok(spend.llm_tokens.spent + spend.llm_tokens.in_doubt >= server.billed.input + server.billed.output);
});

test("nonsense with a good status, a stream that breaks off, and a stream of nonsense are tried again", async (t) => {
  const nonsense = await atWork(t, (_, __, times) => (times === 1 ? { bytes: "<html>hello</html>" } : { text: "done" }));
  assert.equal((await nonsense.run()).result, "done");
  for (const answer of [{ text: "this is cut off in the middle", cutAfter: 2 }, { bytes: "data: {{{\n\n" }, { bytes: "" }]) {
    const events: string[] = [];
    const work = await atWork(t, (_, __, times) => (times === 1 ? answer : { text: "done" }), { onEvent: (event) => events.push(event.type) });
    const task = await work.run();
    assert.equal(task.result, "done", JSON.stringify(answer));
    assert.ok(events.includes("retry"));
    const { spend } = await work.state.agents.show(task.id);
    assert.ok(spend.llm_tokens.spent + spend.llm_tokens.in_doubt >= work.server.billed.input + work.server.billed.output);
  }
  const always = await atWork(t, () => ({ bytes: "no" }));
  const failed = await always.run({ max_attempts: 1 });
  assert.equal(failed.status, "failed");
  assert.match(failed.error!.message, /the model's provider failed/);
});

test("a server nobody is at fails the attempt with what could not be reached", async (t) => {
  const gone = createServer();
  await new Promise<void>((resolve) => gone.listen(0, "127.0.0.1", resolve));
  const { port } = gone.address() as { port: number };
  await new Promise((resolve) => gone.close(resolve));
  const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
  const { run } = await atWork(t, () => ({ text: "x" }), { model: createOpenAICompatible({ name: "gone", baseURL: `http://127.0.0.1:${port}` })("m") });
  const task = await run({ max_attempts: 1 });
  assert.equal(task.status, "failed");
  assert.match(task.error!.message, /provider failed/);
});

test("a provider that does not count is estimated, and a model without a price costs the unknown, not nothing", async (t) => {
  const silent = await atWork(t, () => ({ text: "done", usage: null }));
  const one = await silent.run();
  const { spend } = await silent.state.agents.show(one.id);
  assert.ok(spend.llm_tokens.spent > 0);
  assert.equal(spend.cost, "unknown");
  const priced = await atWork(t, () => ({ text: "done", usage: { input: 1_000, output: 500 } }), { prices: { "test/m-1": { input: 2, output: 10 } } });
  const two = await priced.run();
  const known = (await priced.state.agents.show(two.id)).spend;
  assert.deepEqual([known.cost, known.cost_micros.spent], ["known", 1_000 * 2 + 500 * 10]);
});

test("Retry-After is read as seconds, as milliseconds and as a date", () => {
  const now = Date.UTC(2026, 0, 1);
  assert.equal(retryAfter({ "retry-after": "2" }, now), 2_000);
  assert.equal(retryAfter({ "retry-after-ms": "250", "retry-after": "9" }, now), 250);
  assert.equal(retryAfter({ "retry-after": new Date(now + 60_000).toUTCString() }, now), 60_000);
  assert.equal(retryAfter({ "retry-after": new Date(now - 60_000).toUTCString() }, now), 0);
  assert.equal(retryAfter({ "retry-after": "soon" }, now), null);
  assert.equal(retryAfter({}, now), null);
});

test("a tool's retry and time-out are its own; a tool that hangs is a result, not the end", async (t) => {
  let tries = 0;
  const flaky: AgentTool = { risk: "read_only", retry: { tries: 3, baseMs: 1 }, execute: () => (++tries < 3 ? Promise.reject(new Error("not yet")) : "at last") };
  const hangs: AgentTool = { risk: "read_only", timeoutMs: 50, execute: () => new Promise(() => undefined) };
  const { server, run } = await atWork(t, (_, turn) => (turn === 0 ? { calls: [{ name: "flaky" }, { name: "hangs" }] } : { text: "done" }), { tools: { flaky, hangs } });
  assert.equal((await run()).status, "completed");
  assert.deepEqual(results(server.asked[1]!.messages).map((text) => text.slice(0, 22)), ["at last", "hangs failed: The step"]);
});

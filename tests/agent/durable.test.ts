// A loop of one's own with a durable model, and a model as judge, over the real SDK: recorded answers come back, only the next
// call is made, generated and streamed; a judge's nonsense is no verdict.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";
import { agent } from "../../src/agent/agent.ts";
import { durable } from "../../src/agent/durable.ts";
import { judge } from "../../src/agent/judge.ts";
import type { Execute } from "../../src/worker/function.ts";
import { eventually } from "../pawl.ts";
import { ALL_STORES, MEMORY, STORES } from "../stores.ts";
import { results } from "./agents.ts";
import { modelServer, type ModelServer } from "./server.ts";

const modelAt = (server: ModelServer) => createOpenAICompatible({ name: "test", baseURL: server.url, includeUsage: true })("m");

for (const store of STORES.slice(0, 2)) {
  for (const way of ["generate", "stream"] as const) {
    test(`${store.name}: a ${way} loop of the SDK resumes after its answers`, async (t) => {
      const server = await modelServer(t, (asked, turn) => (turn < 2 ? { text: "I look", calls: [{ name: "look", args: { n: turn } }, { name: "look", args: { n: turn + 10 } }] } : { text: `saw ${results(asked.messages).join()}` }));
      const state = await store.open(t);
      let looked = 0;
      const execute: Execute = async (task, { step, attempt }) => {
        const look = tool({ inputSchema: z.object({ n: z.number() }), execute: ({ n }) => step("look", { key: String(n) }, () => (looked++, `view ${n}`)) });
        const options = { model: durable(modelAt(server), step), prompt: task.description, tools: { look }, stopWhen: isStepCount(5), maxRetries: 0 } as const;
        if (attempt === 1) {
          await generateOrStream(way, { ...options, stopWhen: isStepCount(2) });
          throw new Error("died in the middle");
        }
        return generateOrStream(way, options);
      };
      const worker = state.work({ execute, backoff: { baseMs: 1, jitter: false } });
      const { id } = await state.tasks.add({ description: "look around" });
      await worker.idle();
      const task = await state.tasks.get(id);
      assert.equal(task.result, "saw view 0,view 10,view 1,view 11", JSON.stringify(task.error));
      assert.equal(server.asked.length, 3, "each answer was paid for once");
      assert.equal(looked, 4);
    });
  }
}

type Options = Parameters<typeof generateText>[0];

async function generateOrStream(way: "generate" | "stream", options: Options): Promise<string> {
  if (way === "generate") return (await generateText(options)).text;
  let text = "";
  const stream = streamText(options as Parameters<typeof streamText>[0]);
  for await (const delta of stream.textStream) text += delta;
  assert.ok((await stream.totalUsage).inputTokens! > 0);
  return text.replaceAll("I look", "");
}

test("a stream comes live in pieces, and the same text comes back whole from the record", async (t) => {
  const server = await modelServer(t, () => ({ text: "a text that comes in several pieces" }));
  const state = await MEMORY.open(t);
  const seen: string[][] = [];
  const worker = state.work({
    backoff: { baseMs: 1, jitter: false },
    execute: async (_, { step, attempt }) => {
      const pieces: string[] = [];
      for await (const delta of streamText({ model: durable(modelAt(server), step), prompt: "go" }).textStream) pieces.push(delta);
      seen.push(pieces);
      if (attempt === 1) throw new Error("again");
    },
  });
  const { id } = await state.tasks.add({ description: "stream" });
  await worker.idle();
  // Between its attempts the task is delayed, and the worker idle.
  await eventually(async () => (await state.tasks.get(id)).status === "completed", "the second attempt ends");
  assert.equal(server.asked.length, 1);
  assert.ok(seen[0]!.length > 2);
  assert.deepEqual(seen.map((pieces) => pieces.join("")), Array(2).fill("a text that comes in several pieces"));
});

test("a model judges: passed, rejected with feedback, not sure enough, and nonsense is an error of the judge", async (t) => {
  const verdicts: { [result: string]: string } = {
    good: '{"passed": true, "confidence": 0.9, "feedback": ""}',
    bad: '```json\n{"passed": false, "confidence": 1, "feedback": "too short"}\n```',
    unsure: '{"passed": true, "confidence": 0.2, "feedback": "perhaps"}',
  };
  const server = await modelServer(t, (asked) => ({ text: verdicts[/Its result:\n(\w+)/.exec(JSON.stringify(asked.messages).replaceAll("\\n", "\n"))![1]!] ?? "Looks fine to me!" }));
  const state = await MEMORY.open(t);
  const verify = judge({ model: modelAt(server) });
  const worker = state.work({ execute: (task) => task.description, verify, backoff: { baseMs: 1, jitter: false } });
  const ids = new Map<string, number>();
  for (const result of ["good", "bad", "unsure", "odd"]) ids.set(result, (await state.tasks.add({ description: result, max_attempts: 1 })).id);
  await worker.idle();
  await eventually(async () => (await state.decisions.inbox()).length > 0, "the review that went wrong again and again becomes a decision");
  const of = async (result: string) => state.tasks.get(ids.get(result)!);
  assert.equal((await of("good")).status, "completed");
  assert.match((await of("bad")).error!.message, /too short/);
  assert.match((await of("unsure")).error!.message, /not sure \(0\.2 of 1\)\. perhaps/);
  const odd = await of("odd");
  assert.equal(odd.status, "review", "a person must judge");
  assert.equal((await state.decisions.inbox())[0]!.kind, "review");
});

for (const store of ALL_STORES) {
  test(`${store.name}: what a judge uses counts in the budget of the task's agent, also its nonsense and the call that was lost; it is never refused`, async (t) => {
    let judged = 0;
    const server = await modelServer(t, (asked) => {
      if (!JSON.stringify(asked.messages[0]).includes("You judge")) return { text: "the result", usage: { input: 100, output: 10 } };
      judged++;
      if (judged === 1) return { hang: true, usage: { input: 0, output: 0 } };
      return { text: judged === 2 ? "Looks fine to me!" : '{"passed": true, "confidence": 1, "feedback": ""}', usage: { input: 1_000, output: 20 } };
    });
    const state = await store.open(t);
    const prices = { "test/m": { input: 3, output: 15 } };
    const worker = state.work({
      execute: agent({ model: modelAt(server), prices, budget: { max_llm_tokens: 9_000, max_steps: 1 } }), verify: judge({ model: modelAt(server), prices, timeoutMs: 300 }), backoff: { baseMs: 1, jitter: false },
    });
    const { id } = await state.tasks.add({ description: "x" });
    await eventually(async () => (await worker.idle(), (await state.tasks.get(id)).status === "completed"), "the second review passes it");
    assert.equal(judged, 3);
    const { llm_tokens, cost_micros, steps, cost, input_tokens } = (await state.agents.show(id)).spend;
    assert.deepEqual([llm_tokens.spent, input_tokens, llm_tokens.reserved, steps.spent, cost], [110 + 2 * 1_020, 2_100, 0, 1, "known"]);
    assert.equal(cost_micros.spent, 2_100 * 3 + 50 * 15);
    assert.ok(llm_tokens.in_doubt > 0 && cost_micros.in_doubt > 0, "the call that was lost");
    assert.equal(llm_tokens.left, 0, "beyond its limit, and counted all the same");
  });
}

// An agent for tests that kill it: of thirteen steps (five answers of the model, eight calls of tools, some side by side), or of any
// turns a test makes up. Its tools write what they do to a log outside the state. Invariant: with that log, the model's bill and the state, everything the
// promises say can be checked.
import { agent } from "../../src/agent/agent.ts";
import type { LanguageModel } from "../../src/agent/model.ts";
import type { AgentTool } from "../../src/agent/tool.ts";
import type { AgentView } from "../../src/core/agent.ts";
import type { Decision, Step } from "../../src/core/records.ts";
import type { Executor } from "../../src/worker/executor.ts";
import type { Answer, Call } from "./server.ts";

const read = (name: string): Call => ({ name: "read", args: { name } });

/** What the model says in each turn. */
export const TURNS: readonly Answer[] = [
  { text: "First I look.", calls: [read("a"), read("b")] },
  { calls: [{ name: "write", args: { name: "c" } }, read("d")] },
  { calls: [{ name: "pay", args: { name: "rent" } }] },
  { calls: [read("e"), read("f"), read("g")] },
  { text: "All done." },
];

/** Every call of these turns, such as "read a": also the line it leaves in the world's log. */
const callsIn = (turns: readonly Answer[]): string[] => turns.flatMap(({ calls = [] }) => calls.map(({ name, args }) => `${name} ${(args as { name: string }).name}`));

/** The world outside: each line is one effect that happened. */
export type World = { append(line: string): void; lines(): readonly string[] };

export function scenarioAgent(model: LanguageModel, world: World, moment: () => unknown = () => undefined): Executor {
  const effect = (name: string) => async (input: { name: string }) => {
    await moment();
    world.append(`${name} ${input.name}`);
    await moment();
    return `${name} of ${input.name}`;
  };
  const inputSchema = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };
  const tools: { readonly [name: string]: AgentTool } = {
    read: { inputSchema, execute: effect("read") as never },
    write: {
      inputSchema, execute: effect("write") as never, effect: "once",
      check: ((input: { name: string }) => (world.lines().includes(`write ${input.name}`) ? { done: true, output: `write of ${input.name}` } : { done: false })) as never,
    },
    pay: { inputSchema, execute: effect("pay") as never, effect: "once" },
  };
  return agent({ model, tools, policy: { required_for_risk_levels: [] }, instructions: "You follow the plan.", retry: { baseMs: 1 } });
}

/** How a person who can look at the world answers what is unknown. */
export function answerFor(world: World, { details }: Pick<Decision, "details">): { answer: string; value?: string } {
  const { name } = (details as { input: { name: string } }).input;
  return world.lines().includes(`pay ${name}`) ? { answer: "done", value: `pay of ${name}` } : { answer: "again" };
}

export type End = {
  readonly result: unknown;
  readonly world: World;
  readonly before: readonly Step[];
  readonly view: AgentView;
  readonly billed: { input: number; output: number; calls: number };
  readonly deaths: number;
  readonly turns?: readonly Answer[];
};

/** What must hold when it has ended, however often it died. `before` are the steps that were recorded when it last died. */
export function violations(end: End): string[] {
  const { result, world, before, view, billed, deaths, turns = TURNS } = end;
  const found: string[] = [];
  const must = (holds: boolean, what: string) => void (holds || found.push(what));
  const times = (line: string) => world.lines().filter((one) => one === line).length;
  const calls = callsIn(turns);
  must(result === turns.at(-1)!.text, `the result is ${JSON.stringify(result)}`);
  for (const line of calls) must(times(line) >= 1 && times(line) <= (line.startsWith("read ") ? 1 + deaths : 1), `"${line}" happened ${times(line)} times`);
  for (const step of before) {
    const { name } = (step.input ?? {}) as { name?: string };
    if (step.status === "completed" && step.name === "read") must(times(`read ${name}`) === 1 || deaths > 1, `"read ${name}" was recorded and happened again`);
  }
  const { llm_tokens, steps, tool_calls } = view.spend;
  const counted = billed.input + billed.output;
  must(billed.calls <= turns.length + deaths, `the model was asked ${billed.calls} times`);
  must(llm_tokens.spent + llm_tokens.in_doubt >= counted, `${llm_tokens.spent} tokens spent and ${llm_tokens.in_doubt} in doubt, but the model billed ${counted}`);
  must(llm_tokens.spent <= counted, `${llm_tokens.spent} tokens spent, but the model billed ${counted}`);
  must(llm_tokens.in_doubt > 0 || llm_tokens.spent === counted, `nothing is in doubt, but ${llm_tokens.spent} is not ${counted}`);
  must(llm_tokens.reserved === 0 && steps.reserved === 0 && tool_calls.reserved === 0, "something is still reserved");
  must(steps.spent === turns.length, `${steps.spent} answers are recorded`);
  must(tool_calls.spent === calls.length, `${tool_calls.spent} tool calls are recorded`);
  return found;
}

/** A model in this process that says what the turn is for, and counts as the server does. */
export function turnModel(billed: { input: number; output: number; calls: number }, turns = TURNS): LanguageModel {
  return {
    specificationVersion: "v4", provider: "test", modelId: "turns",
    doGenerate: async ({ prompt }: { prompt: readonly { role: string }[] }) => {
      const turn = prompt.filter(({ role }) => role === "assistant").length;
      const { text, calls = [] } = turns[turn]!;
      const usage = { inputTokens: { total: Math.ceil(JSON.stringify(prompt).length / 4) }, outputTokens: { total: 20 } };
      billed.calls++;
      billed.input += usage.inputTokens.total;
      billed.output += usage.outputTokens.total;
      const content = [...(text === undefined ? [] : [{ type: "text", text }]), ...calls.map((call, i) => ({ type: "tool-call", toolCallId: `call_${turn}_${i}`, toolName: call.name, input: JSON.stringify(call.args) }))];
      return { content, finishReason: { unified: calls.length > 0 ? "tool-calls" : "stop" }, usage };
    },
    doStream: () => Promise.reject(new Error("not streamed")),
  };
}

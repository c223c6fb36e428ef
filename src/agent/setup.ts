// What an agent is made of: what the user says, and what is made of it once before the first task. Invariant: what can be
// wrong with it (no such model, no key, a tool that no model could call) is said before any task is claimed.
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Constraints } from "../core/agent.ts";
import { DEFAULT_POLICY, type ActionPolicy, type ActionRule } from "../core/approval.ts";
import type { GivenLimits, Prices, Resource } from "../core/budget.ts";
import type { CarryOver } from "../core/message.ts";
import type { Patch } from "../core/patch.ts";
import type { Task } from "../core/records.ts";
import type { Backoff } from "../core/retry.ts";
import { modelOf, type LanguageModel, type Usage } from "./model.ts";
import { schemaOf, type Schema, type ToolSchema } from "./schema.ts";
import { OWN_TOOLS, type OwnTool } from "./own-tools.ts";
import { readyTools, type Tools } from "./tool.ts";

/** What a tool gave, for `observe`. */
export type Observation = { readonly tool: string; readonly input: Json; readonly output: Json; readonly artifact_id: string | null };

/** What happens while an agent works, for those who watch. Nothing here is a record: the state is. */
export type AgentEvent =
  | { readonly type: "text"; readonly delta: string }
  | { readonly type: "answer"; readonly seq: number; readonly text: string; readonly calls: readonly { readonly tool: string; readonly input: Json }[]; readonly usage: Usage }
  | { readonly type: "call"; readonly tool: string; readonly call_id: string; readonly input: Json }
  | { readonly type: "result"; readonly tool: string; readonly call_id: string; readonly ok: boolean }
  | { readonly type: "retry"; readonly why: string; readonly delay_ms: number }
  | { readonly type: "pressure"; readonly resources: readonly Resource[] }
  | { readonly type: "cleared"; readonly epoch: number; readonly carry_over: CarryOver };

export type AgentOptions = {
  /** Any language model of the AI SDK, or a name: `anthropic/…`, `openai/…`, `compatible/…` (a server at OPENAI_BASE_URL). */
  readonly model: LanguageModel | string;
  readonly tools?: Tools;
  /** What the agent is and how it works; the beginning of every prompt. */
  readonly instructions?: string;
  /** The first message about a task. Default: its description and its input. */
  readonly prompt?: (task: Task) => string;
  /** Changes the default limits; null takes one away. A resumed agent keeps the budget it began with. */
  readonly budget?: GivenLimits;
  /** What a million tokens cost, by the model's name; without it the cost is unknown, which is not zero. */
  readonly prices?: Prices;
  /** Which calls need a person. Default: those of tools whose risk is `write_local` or `external_action`. */
  readonly policy?: ActionPolicy;
  /** A rule of your own, asked before the policy's levels. */
  readonly rule?: ActionRule;
  /** Shown to the model with its state. */
  readonly constraints?: { readonly [name: string]: Json };
  /** Makes facts of a tool's result, apart from what the model does next. Must not have effects: it may run twice. */
  readonly observe?: (observation: Observation) => Patch | null | undefined | Promise<Patch | null | undefined>;
  /** What the final answer must be; it is checked, and the task's result is the checked value. */
  readonly output?: ToolSchema;
  /** Gets what happens. With it answers are streamed. */
  readonly onEvent?: (event: AgentEvent) => unknown;
  /** Tokens at which the conversation is cleared. Default `LIMITS.contextTokens`. */
  readonly contextTokens?: number;
  /** In a batch: begin with what the items before came to, until the batch's own context is cleared at the same threshold. */
  readonly batchContext?: boolean;
  /** Tokens of one prompt at most: older turns are left out. Default: none. */
  readonly maxPromptTokens?: number;
  /** Tokens of one answer. Default `LIMITS.answerTokens`. */
  readonly maxOutputTokens?: number;
  readonly temperature?: number;
  /** Passed on to the provider. */
  readonly providerOptions?: Json;
  /** For one call of the model, in ms. Default `LIMITS.modelMs`. */
  readonly timeoutMs?: number;
  /** Calls for one answer when the provider fails, and the delays between them. Default `LIMITS.modelTries`. */
  readonly retry?: Backoff & { readonly tries?: number };
};

/** An agent, ready to work. */
export type Setup = Omit<AgentOptions, "model" | "tools" | "budget" | "policy" | "constraints" | "output"> & {
  readonly model: LanguageModel;
  readonly modelName: string;
  readonly tools: ReadonlyMap<string, OwnTool>;
  readonly budget: GivenLimits;
  readonly policy: ActionPolicy;
  readonly constraints: Constraints;
  readonly output: Schema | null;
  readonly contextTokens: number;
};

/** Loads and checks. Throws `usage`. */
export async function setUp(options: AgentOptions): Promise<Setup> {
  const { model: named, tools = {}, policy = DEFAULT_POLICY, constraints, output, budget, ...rest } = options;
  const model = await modelOf(named);
  const ready = await readyTools(tools);
  return {
    ...rest,
    model,
    modelName: nameOf(named),
    // A tool of the user's own wins over ours of the same name.
    tools: new Map([...OWN_TOOLS, ...ready].map((tool) => [tool.name, tool])),
    budget: budget ?? {},
    policy,
    constraints: { ...constraints, human_in_the_loop: policy },
    output: output === undefined ? null : await schemaOf(output, "the final answer"),
    contextTokens: options.contextTokens ?? LIMITS.contextTokens,
  };
}

/** How a model is called in prices and records. */
export function nameOf(model: LanguageModel | string): string {
  return typeof model === "string" ? model : `${model.provider.split(".")[0]}/${model.modelId}`;
}

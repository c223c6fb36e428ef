// A tool as the agent's loop uses it: made once from what the user gives (the AI SDK's `tool()` objects as they are, with
// risk, effect, time-out and retry beside). Invariant: a tool that says nothing of its risk is taken to be the riskiest.
import { PawlError } from "../base/errors.ts";
import { canonical, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Effect } from "../core/records.ts";
import { wellFormed, type Backoff } from "../core/retry.ts";
import type { RiskLevel } from "../core/approval.ts";
import type { CheckAnswer } from "../worker/context.ts";
import { schemaOf, type Schema, type ToolSchema } from "./schema.ts";

/** What a tool's function is handed besides its input; a superset of what the AI SDK hands over. */
export type ToolContext = {
  readonly toolCallId: string;
  /** The same for every try of this call; services that know it refuse a second effect. */
  readonly idempotencyKey: string;
  readonly abortSignal: AbortSignal;
  readonly messages: readonly never[];
  /** How often this call has been started, this time included. */
  readonly start: number;
};

// The SDK's own tool objects must fit, whatever their input: `never` accepts each of them.
export type AgentTool = {
  readonly description?: string | ((...args: never[]) => string) | undefined;
  /** A Standard Schema such as zod's, the SDK's `jsonSchema()`, or a plain JSON Schema. Without one any object is taken. */
  readonly inputSchema?: ToolSchema;
  execute?(input: never, context: never): unknown;
  /** What it may do. Default: `external_action`. */
  readonly risk?: RiskLevel;
  /** As of a step: `repeat` (default) is run again when its outcome is unknown; `once` is checked or asked about. */
  readonly effect?: Effect;
  /** For `once`: asks the outside world whether the call happened. */
  readonly check?: (input: never, context: never) => Promise<CheckAnswer> | CheckAnswer;
  /** For one try, in ms. Default `LIMITS.toolMs`. */
  readonly timeoutMs?: number;
  /** Tries within one call. Default 1. */
  readonly retry?: Backoff & { readonly tries?: number };
  /** The SDK's own wish for a person, whatever the policy says. */
  readonly needsApproval?: boolean | ((input: never, context: never) => unknown) | undefined;
  readonly toModelOutput?: ((options: never) => unknown) | undefined;
};
export type Tools = { readonly [name: string]: AgentTool };

/** A tool, ready. */
export type ReadyTool = {
  readonly name: string;
  readonly description: string;
  readonly schema: Schema;
  readonly risk: RiskLevel;
  readonly effect: Effect;
  readonly timeoutMs: number;
  readonly retry: (Backoff & { readonly tries?: number }) | null;
  execute(input: unknown, context: ToolContext): Promise<unknown>;
  readonly check: ((input: unknown, context: ToolContext) => Promise<CheckAnswer> | CheckAnswer) | null;
  /** True when a person must approve this call whatever its risk. */
  needsApproval(input: unknown, context: { readonly toolCallId: string }): Promise<boolean>;
};

const NAME = /^[A-Za-z0-9_-]{1,64}$/;

/** Checks and readies the tools. Throws `usage` for one that no model could call. */
export async function readyTools(tools: Tools): Promise<ReadyTool[]> {
  return Promise.all(Object.entries(tools).map(([name, tool]) => readyTool(name, tool)));
}

async function readyTool(name: string, tool: AgentTool): Promise<ReadyTool> {
  if (!NAME.test(name)) throw new PawlError("usage", `A tool cannot be called "${name}": providers take 1 to 64 letters, digits, - and _.`);
  const { execute, check, needsApproval, toModelOutput } = tool as { [part in keyof AgentTool]: unknown } as Loose;
  if (typeof execute !== "function") throw new PawlError("usage", `The tool "${name}" has no execute function.`, { next: "Give it one; tools that run in a browser or at the provider cannot be resumed." });
  return {
    name,
    description: typeof tool.description === "function" ? (tool.description as (options: object) => string)({}) : (tool.description ?? ""),
    schema: await schemaOf(tool.inputSchema, name),
    risk: tool.risk ?? "external_action",
    effect: tool.effect ?? "repeat",
    timeoutMs: tool.timeoutMs ?? LIMITS.toolMs,
    retry: tool.retry ?? null,
    async execute(input, context) {
      const output = await lastOf(await execute.call(tool, input, context));
      return toModelOutput ? { [FOR_MODEL]: await toModelOutput.call(tool, { toolCallId: context.toolCallId, input, output }) } : output;
    },
    check: check ? (input, context) => check.call(tool, input, context) : null,
    needsApproval: async (input, context) => (typeof needsApproval === "function" ? Boolean(await needsApproval.call(tool, input, context)) : needsApproval === true),
  };
}

type Loose = {
  execute?: (input: unknown, context: unknown) => unknown;
  check?: (input: unknown, context: unknown) => Promise<CheckAnswer> | CheckAnswer;
  needsApproval?: boolean | ((input: unknown, context: unknown) => unknown);
  toModelOutput?: (options: unknown) => unknown;
};

/** Marks an output that is in the SDK's form for models already. */
const FOR_MODEL = Symbol("for the model");

/** The SDK lets a tool give preliminary outputs; the last one counts. */
async function lastOf(output: unknown): Promise<unknown> {
  if (typeof output !== "object" || output === null || !(Symbol.asyncIterator in output)) return output;
  let last: unknown;
  for await (const value of output as AsyncIterable<unknown>) last = value;
  return last;
}

/** What a model is shown of a result: text or JSON, and the whole of it apart when it is large or binary. */
export type ToolOutput = {
  readonly output: Json;
  /** Content too large for a message; the output holds an excerpt of it. */
  readonly large?: { readonly content: Uint8Array; readonly type: "text" | "json" | "binary"; readonly excerpt: string };
};

/** A tool's output as it is recorded. What no store can hold is made text that it can; nothing is refused for its bytes. */
export function outputOf(value: unknown): ToolOutput {
  if (typeof value === "object" && value !== null && FOR_MODEL in value) return { output: canonical((value as { [FOR_MODEL]: unknown })[FOR_MODEL], "what a tool gave for the model") };
  if (value instanceof Uint8Array) return bytesOutput(value);
  if (value === undefined || value === null || value === "") return { output: { type: "text", value: "(no output)" } };
  if (typeof value === "string") return textOutput(wellFormed(value), "text");
  const json = jsonOf(value);
  if (typeof json === "string") return textOutput(json, "text");
  const text = JSON.stringify(json);
  return Buffer.byteLength(text) > LIMITS.toolOutputBytes ? textOutput(text, "json") : { output: { type: "json", value: json } };
}

function bytesOutput(bytes: Uint8Array): ToolOutput {
  const text = new TextDecoder("utf-8").decode(bytes);
  const clean = wellFormed(text);
  if (bytes.length <= LIMITS.toolOutputBytes) return { output: { type: "text", value: clean } };
  return { output: { type: "text", value: "" }, large: { content: bytes, type: text.includes("\ufffd") ? "binary" : "text", excerpt: excerptOf(clean) } };
}

function textOutput(text: string, type: "text" | "json"): ToolOutput {
  if (Buffer.byteLength(text) <= LIMITS.toolOutputBytes) return { output: { type: "text", value: text } };
  return { output: { type: "text", value: "" }, large: { content: Buffer.from(text), type, excerpt: excerptOf(text) } };
}

/** A value as JSON; what is none (a function, a cycle, a BigInt) is said as text instead of failing a call that happened. */
function jsonOf(value: unknown): Json {
  try {
    return canonical(JSON.parse(JSON.stringify(value), (_, item: unknown) => (typeof item === "string" ? wellFormed(item) : item)), "the output of a tool");
  } catch {
    return wellFormed(String(value));
  }
}

/** The beginning and the end of a long text, which is where programs say what matters. */
export function excerptOf(text: string): string {
  const half = LIMITS.excerptBytes / 2;
  const bytes = Buffer.from(text);
  if (bytes.length <= LIMITS.excerptBytes) return text;
  return `${cutBytes(text, half)}\n… (${bytes.length - 2 * half} bytes left out) …\n${bytes.subarray(bytes.length - half).toString().replace(/^\ufffd+/, "")}`;
}

/** Bytes of a text that the list of steps shows; the message has all of it. */
export const BRIEF_BYTES = 80;

/** The longest beginning of a text that has at most so many bytes of UTF-8. */
export function cutBytes(text: string, bytes: number): string {
  if (Buffer.byteLength(text) <= bytes) return text;
  const cut = Buffer.from(text).subarray(0, Math.max(0, bytes));
  // A character that was cut in two becomes a replacement mark of up to three; none of them may stay.
  let end = cut.length;
  while (end > 0 && end > cut.length - 4 && !isWhole(cut.subarray(0, end))) end--;
  return cut.subarray(0, end).toString();
}

const STRICT = new TextDecoder("utf-8", { fatal: true });

function isWhole(bytes: Uint8Array): boolean {
  try {
    STRICT.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

// One call of a language model, through the AI SDK's LanguageModel interface: any provider's model fits, and a name such as
// "openai/gpt-5" loads its provider's package on use. Invariant: what comes back is plain JSON that can go into the next
// prompt as it is, whatever the model said; a stream that breaks off is an error, never a short answer.
import { PawlError } from "../base/errors.ts";
import { canonical, type Json } from "../base/json.ts";
import { wellFormed } from "../core/retry.ts";
import { loadPeer } from "./peer.ts";

/** The part of the AI SDK's language model that is used (its specifications v2, v3 and v4). */
export type LanguageModel = {
  readonly specificationVersion: string;
  readonly provider: string;
  readonly modelId: string;
  // Methods, so that the SDK's narrower option types fit.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  doGenerate(options: any): PromiseLike<any>;
  doStream(options: any): PromiseLike<any>;
};

/** A piece of a message, as the SDK's prompts have them: `text`, `reasoning`, `tool-call`, `tool-result` and so on. */
export type Part = { readonly type: string; readonly [field: string]: Json };
export type ToolCallPart = Part & { readonly type: "tool-call"; readonly toolCallId: string; readonly toolName: string; readonly input: Json };
export type PromptMessage = { readonly role: "system"; readonly content: string } | { readonly role: "user" | "assistant" | "tool"; readonly content: readonly Part[] };

/** Tokens as the provider counted them; null where it does not say. */
export type Usage = { readonly input_tokens: number | null; readonly output_tokens: number | null; readonly cached_input_tokens?: number };

export type ModelAnswer = {
  readonly content: readonly Part[];
  /** "stop", "length", "tool-calls", "content-filter", "error" or "other". */
  readonly finish: string;
  readonly usage: Usage;
};

export type ModelCall = {
  readonly prompt: readonly PromptMessage[];
  readonly tools?: readonly { readonly type: "function"; readonly name: string; readonly description?: string; readonly inputSchema: Json }[];
  readonly maxOutputTokens?: number;
  readonly temperature?: number;
  readonly responseFormat?: { readonly type: "json"; readonly schema?: Json };
  readonly providerOptions?: Json;
  readonly abortSignal: AbortSignal;
};

/** Gets each piece of text as it comes. Without one the call is not streamed. */
export type OnText = (delta: string) => void;

/** Calls the model once. Throws what the provider throws; nothing is tried again here. */
export async function callModel(model: LanguageModel, call: ModelCall, onText?: OnText): Promise<ModelAnswer> {
  const options = { ...call, ...(call.tools?.length === 0 ? { tools: undefined } : {}) };
  if (onText) return gather((await model.doStream(options)).stream as ReadableStream<Streamed>, onText);
  const said = await model.doGenerate(options);
  return { content: partsOf(said.content as Streamed[]), finish: finishOf(said.finishReason), usage: usageOf(said.usage) };
}

/** The text of an answer. */
export function textIn(content: readonly Part[]): string {
  return content.filter((part) => part.type === "text").map((part) => part["text"] as string).join("");
}

/** Models like to put JSON into a fence. */
export function jsonIn(text: string): string {
  const fenced = /^```(?:json)?\s*\n([^]*?)\n?```\s*$/.exec(text.trim());
  return (fenced?.[1] ?? text).trim();
}

type Streamed = { readonly type: string; readonly id?: string; readonly delta?: string; readonly error?: unknown; readonly [field: string]: unknown };

/** A stream as one answer. Pieces of a text or of a reasoning are told apart by their id. */
async function gather(stream: ReadableStream<Streamed>, onText: OnText): Promise<ModelAnswer> {
  const content: Streamed[] = [];
  const open = new Map<string, { type: string; text: string; providerMetadata?: unknown }>();
  let end: Streamed | null = null;
  for await (const part of stream) {
    const [kind, what] = [part.type.replace(/-(start|delta|end)$/, ""), part.type.slice(part.type.lastIndexOf("-") + 1)];
    if (part.type === "error") throw part.error instanceof Error ? part.error : new Error(`the provider reported in its stream: ${JSON.stringify(part.error)}`);
    if (part.type === "finish") end = part;
    else if (kind === "text" || kind === "reasoning") {
      const id = `${kind}/${part.id}`;
      if (what === "start") content.push(open.set(id, { type: kind, text: "" }).get(id) as unknown as Streamed);
      const piece = open.get(id);
      if (piece && part.delta !== undefined) piece.text += part.delta;
      if (piece && part["providerMetadata"] !== undefined) piece.providerMetadata = part["providerMetadata"];
      if (kind === "text" && part.delta !== undefined) onText(part.delta);
    } else content.push(part);
  }
  if (end === null) throw new Error("the provider's stream broke off before the answer was complete");
  return { content: partsOf(content), finish: finishOf(end["finishReason"]), usage: usageOf(end["usage"]) };
}

/** What an answer says, as it goes into the next prompt. Kinds that no prompt takes (sources, warnings) are left out. */
function partsOf(content: readonly Streamed[]): Part[] {
  const parts: Part[] = [];
  for (const part of content) {
    const options = part["providerMetadata"] === undefined ? {} : { providerOptions: part["providerMetadata"] };
    if (part.type === "text" || part.type === "reasoning") {
      const text = wellFormed(String(part["text"] ?? ""));
      if (text !== "" || part["providerMetadata"] !== undefined) parts.push(plain({ type: part.type, text, ...options }));
    } else if (part.type === "tool-call") parts.push(plain({ type: "tool-call", toolCallId: String(part["toolCallId"] ?? ""), toolName: String(part["toolName"] ?? ""), ...inputOf(part["input"]), ...options }));
  }
  return parts;
}

/** Arguments as the model wrote them: parsed, or with `invalid` saying why they cannot be. */
function inputOf(input: unknown): { input: Json; invalid?: string } {
  if (typeof input !== "string") return { input: (input ?? {}) as Json };
  try {
    return { input: canonical(input.trim() === "" ? {} : JSON.parse(input), "arguments") };
  } catch (error) {
    return { input: {}, invalid: wellFormed(`${(error as Error).message}: ${input.slice(0, 500)}`) };
  }
}

function plain(value: unknown): Part {
  return canonical(mended(value), "an answer of a model") as unknown as Part;
}

/** Every text in it as a store can hold it. */
function mended(value: unknown): unknown {
  if (typeof value === "string") return wellFormed(value);
  if (Array.isArray(value)) return value.map(mended);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [wellFormed(name), mended(item)]));
}

function finishOf(reason: unknown): string {
  if (typeof reason === "string") return reason;
  return (reason as { unified?: string } | undefined)?.unified ?? "other";
}

/** Version 2 of the SDK's interface counts in plain numbers, later ones in objects with a total. */
function usageOf(usage: unknown): Usage {
  const { inputTokens, outputTokens, cachedInputTokens } = (usage ?? {}) as { [name: string]: unknown };
  const cached = countOf(cachedInputTokens) ?? countOf((inputTokens as { cacheRead?: unknown } | undefined)?.cacheRead);
  return { input_tokens: countOf(inputTokens), output_tokens: countOf(outputTokens), ...(cached === null ? {} : { cached_input_tokens: cached }) };
}

function countOf(count: unknown): number | null {
  const n = typeof count === "object" && count !== null ? (count as { total?: unknown }).total : count;
  return typeof n === "number" && Number.isFinite(n) && n >= 0 ? Math.ceil(n) : null;
}

/** How a provider is reached: its package, what makes its models, and the variable its key is in. */
const PROVIDERS: { readonly [name: string]: { readonly package: string; readonly key: string | null; readonly make: (provider: Peer, id: string, env: Env) => LanguageModel } } = {
  openai: { package: "@ai-sdk/openai", key: "OPENAI_API_KEY", make: (peer, id) => peer["openai"]!(id) as LanguageModel },
  anthropic: { package: "@ai-sdk/anthropic", key: "ANTHROPIC_API_KEY", make: (peer, id) => peer["anthropic"]!(id) as LanguageModel },
  compatible: {
    package: "@ai-sdk/openai-compatible",
    key: null,
    make: (peer, id, env) => {
      const provider = peer["createOpenAICompatible"]!({ name: "compatible", baseURL: env["OPENAI_BASE_URL"], apiKey: env["OPENAI_API_KEY"], includeUsage: true }) as (id: string) => LanguageModel;
      return provider(id);
    },
  },
};

type Peer = { readonly [name: string]: (...args: unknown[]) => unknown };
type Env = { readonly [name: string]: string | undefined };

/** The model a name means: `openai/NAME`, `anthropic/NAME`, or `compatible/NAME` (any OpenAI-compatible server, at OPENAI_BASE_URL). */
export async function modelOf(model: LanguageModel | string, env: Env = process.env): Promise<LanguageModel> {
  if (typeof model !== "string") return model;
  const [name, id] = splitModel(model);
  const provider = PROVIDERS[name]!;
  if (provider.key !== null && !env[provider.key]) {
    throw new PawlError("usage", `The model ${model} needs an API key, and ${provider.key} is not set.`, { next: `Set ${provider.key}, or name another model.` });
  }
  if (name === "compatible" && !env["OPENAI_BASE_URL"]) {
    throw new PawlError("usage", `The model ${model} is at a server of your own, and OPENAI_BASE_URL does not say where.`, { next: "Set OPENAI_BASE_URL, such as http://127.0.0.1:11434/v1." });
  }
  return provider.make((await loadPeer(provider.package, `The model ${model}`)) as Peer, id, env);
}

/** Checks a model's name and gives its two parts. */
export function splitModel(model: string): [provider: string, id: string] {
  const slash = model.indexOf("/");
  const [name, id] = [model.slice(0, slash), model.slice(slash + 1)];
  if (slash < 0 || id === "" || !Object.hasOwn(PROVIDERS, name)) {
    throw new PawlError("usage", `There is no model "${model}": a name is PROVIDER/MODEL, and the providers are ${Object.keys(PROVIDERS).join(", ")}.`, {
      next: "For example anthropic/claude-sonnet-4-5, openai/gpt-5, or compatible/llama3 with OPENAI_BASE_URL. In a program any model of the AI SDK can be given.",
    });
  }
  return [name, id];
}

// For those who keep a loop of their own: a language model whose every call is a step, named by what is asked. Invariants: what the
// caller gets live is what a replay gets, and an answer never comes back to another question; a stream ends only when its
// answer is recorded, so nobody acts on an answer that a crash could take back.
import { canonical, fingerprint, type Json } from "../base/json.ts";
import type { StepFunction } from "../worker/context.ts";
import type { LanguageModel } from "./model.ts";

export type DurableOptions = {
  /** Names the steps. Default "model". */
  readonly name?: string;
};

/**
 * The same model, each of whose calls is a step: after a crash the recorded answers come back, and only the next call is made.
 *
 * ```ts
 * execute: async (task, { step }) => (await generateText({ model: durable(openai("gpt-5"), step), prompt: task.description })).text
 * ```
 */
export function durable<M extends LanguageModel>(model: M, step: StepFunction, { name = "model" }: DurableOptions = {}): M {
  const asked = new Map<string, number>();
  // The same question twice is two calls: the first, the second.
  const keyOf = (options: unknown): string => {
    const { abortSignal: _, headers: __, ...question } = options as { readonly [name: string]: unknown };
    const key = fingerprint(recordable(question)).slice(0, 24);
    const n = (asked.get(key) ?? 0) + 1;
    asked.set(key, n);
    return n === 1 ? key : `${key}-${n}`;
  };
  const wrapped = {
    specificationVersion: model.specificationVersion,
    provider: model.provider,
    modelId: model.modelId,
    supportedUrls: (model as { supportedUrls?: unknown }).supportedUrls ?? {},
    doGenerate: (options: unknown) => step(name, { key: keyOf(options) }, async () => recordable(await model.doGenerate(options))),
    doStream: (options: unknown) => stream(model, (fn) => step(name, { key: keyOf(options) }, fn), options),
  };
  return wrapped as unknown as M;
}

type Streamed = { readonly type: string; readonly id?: string; readonly delta?: string };

/** Hands pieces on as they come and holds back the end of the answer until it is recorded. */
async function stream(model: LanguageModel, record: (fn: () => Promise<Json>) => Promise<Json>, options: unknown): Promise<{ stream: ReadableStream<Streamed> }> {
  let live!: ReadableStreamDefaultController<Streamed>;
  let wanted = true;
  const body = new ReadableStream<Streamed>({ start: (controller) => void (live = controller), cancel: () => void (wanted = false) });
  const hand = (parts: readonly Streamed[]) => {
    if (wanted) for (const part of parts) live.enqueue(part);
  };
  let last: Streamed | null = null;
  const recorded = record(async () => {
    const parts: Streamed[] = [];
    for await (const part of (await model.doStream(options)).stream as ReadableStream<Streamed>) {
      if (part.type === "error") throw (part as unknown as { error: unknown }).error;
      if (part.type === "raw") continue;
      const kept = recordable(part) as unknown as Streamed;
      parts.push(kept);
      if (part.type === "finish") last = kept;
      else hand([kept]);
    }
    if (last === null) throw new Error("the model's stream broke off before the answer was complete");
    return recordable(compact(parts));
  }) as unknown as Promise<readonly Streamed[]>;
  // Live, only the end is still to come; from the record, all of it.
  recorded.then(
    (parts) => {
      hand(last === null ? parts : [last]);
      if (wanted) live.close();
    },
    (error: unknown) => (wanted ? live.error(error) : undefined),
  );
  return { stream: body };
}

/** One piece for each text instead of one for each word of it. */
function compact(parts: readonly Streamed[]): Streamed[] {
  const kept: { type: string; id?: string; delta?: string }[] = [];
  for (const part of parts) {
    const last = kept.at(-1);
    if (part.delta !== undefined && last?.delta !== undefined && last.type === part.type && last.id === part.id) last.delta += part.delta;
    else kept.push({ ...part });
  }
  return kept;
}

/** What of a result can be recorded: no request, no raw body, bytes as base64, dates as text. */
function recordable(value: unknown): Json {
  return canonical(plain(value), "a model's answer");
}

function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "string") return value.toWellFormed().replaceAll("\0", "\u2400");
  if (typeof value !== "object" || value === null) return value;
  const { request: _, ...fields } = value as { readonly [name: string]: unknown };
  const entries = Object.entries(fields).map(([name, item]): [string, unknown] => [name, name === "response" ? identity(item) : item]);
  return Object.fromEntries(entries.filter(([, item]) => item !== undefined).map(([name, item]) => [name, plain(item)]));
}

/** Of a response its headers and body are the transport's affair. */
function identity(response: unknown): unknown {
  const { id, modelId, timestamp } = (response ?? {}) as { readonly [name: string]: unknown };
  return { id, modelId, timestamp };
}

// What a worker's module exports: a function that does a task, an object with it, or one such object for each queue. Read
// here and made into executors and verifiers; whatever else is exported is refused with its place before any task is claimed.
import { PawlError } from "../base/errors.ts";
import type { BreakerLimits } from "../core/breaker.ts";
import type { Backoff } from "../core/retry.ts";
import { functionExecutor, functionVerifier, type Execute, type Verify } from "./function.ts";
import type { Executor, Verifier } from "./executor.ts";

/** Who does the tasks of a queue, and how. */
export type QueueHandler = {
  readonly execute: Execute | Executor;
  readonly verify?: Verify | Verifier;
  /** Tasks of this queue at once in this process. Default: that of the command. Across processes: `concurrency_key`. */
  readonly concurrency?: number;
  readonly backoff?: Backoff;
  readonly breaker?: BreakerLimits;
};

export type WorkerModule = Execute | QueueHandler | { readonly queues: { readonly [queue: string]: QueueHandler | Execute } };

/** A handler, read. */
export type Handler = Omit<QueueHandler, "execute" | "verify"> & { readonly executor: Executor; readonly verifier: Verifier | null };

/**
 * Gives a module its types: `export default defineWorker({ queues: { mail: { execute: async (task) => …, concurrency: 4 } } })`.
 * Returns what it is given.
 */
export const defineWorker = <M extends WorkerModule>(module: M): M => module;

/** Which queues a module names; null when it leaves that open. */
export function queuesOf(exported: unknown): string[] | null {
  return isObject(exported) && "queues" in exported && isObject(exported["queues"]) ? Object.keys(exported["queues"]) : null;
}

/** The handler of each of the `queues` (null: all the module names), from its default export. `where` is the module, for messages. */
export function handlersOf(exported: unknown, queues: readonly string[] | null, where: string): Map<string, Handler> {
  if (!isObject(exported) || !("queues" in exported)) {
    const handler = handlerOf(exported, where, "its default export");
    return new Map((queues ?? ["default"]).map((queue) => [queue, handler]));
  }
  const named = exported["queues"];
  if (!isObject(named) || Object.keys(named).length === 0) throw refuse(where, `its "queues" must be an object with a handler for each queue, not ${isObject(named) ? "an empty one" : shown(named)}`);
  const missing = queues?.filter((queue) => !Object.hasOwn(named, queue)) ?? [];
  if (missing.length > 0) throw refuse(where, `it has no handler for the queue ${missing.map((queue) => `"${queue}"`).join(", ")}`, `It handles: ${Object.keys(named).join(", ")}.`);
  return new Map((queues ?? Object.keys(named)).map((queue) => [queue, handlerOf(named[queue], where, `queues.${queue}`)]));
}

const KNOWN: ReadonlySet<string> = new Set(["execute", "verify", "concurrency", "backoff", "breaker"]);

function handlerOf(given: unknown, where: string, place: string): Handler {
  if (typeof given === "function") return { executor: functionExecutor(given as Execute), verifier: null };
  if (!isObject(given)) throw refuse(where, `${place} must be a function that does a task, or an object with one as "execute", not ${shown(given)}`);
  const unknown = Object.keys(given).find((field) => !KNOWN.has(field));
  if (unknown !== undefined) throw refuse(where, `${place} has a field "${unknown}", which means nothing`, `It can have: ${[...KNOWN].join(", ")}. Several queues go under "queues".`);
  const { execute, verify, concurrency, ...rest } = given as Partial<QueueHandler>;
  if (concurrency !== undefined && (!Number.isSafeInteger(concurrency) || concurrency < 1)) throw refuse(where, `${place}.concurrency must be a whole number of at least 1, not ${shown(concurrency)}`);
  return {
    ...rest, ...(concurrency === undefined ? {} : { concurrency }),
    executor: typeof execute === "function" ? functionExecutor(execute) : made(execute, where, `${place}.execute`),
    verifier: verify === undefined ? null : typeof verify === "function" ? functionVerifier(verify) : (made(verify, where, `${place}.verify`) as unknown as Verifier),
  };
}

/** An executor or verifier as a program made it: a command, an agent. */
function made<T extends Executor>(given: unknown, where: string, place: string): T {
  if (isObject(given) && typeof given["name"] === "string" && typeof given["run"] === "function") return given as unknown as T;
  throw refuse(where, `${place} must be a function, or what commandExecutor() and its like return, not ${shown(given)}`);
}

function isObject(value: unknown): value is { readonly [field: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  return typeof value === "object" ? (value === null ? "null" : Array.isArray(value) ? "a list" : "an object") : `${typeof value} ${String(value).slice(0, 40)}`;
}

function refuse(where: string, why: string, next = "export default async (task, { step, signal }) => { … }   (or: { queues: { mail: { execute } } })"): PawlError {
  return new PawlError("usage", `${where} is no worker: ${why}.`, { next });
}

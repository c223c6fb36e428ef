// What a task's code is handed: step, scope, sleep, ask, approve, and what each takes. How they work is in execution.ts.
import type { Effect } from "../core/records.ts";
import type { Backoff } from "../core/retry.ts";

/** What a step's function is handed. */
export type StepContext = {
  /** The same for every try of this step in this round; services that know it refuse a second effect. */
  readonly idempotencyKey: string;
  readonly signal: AbortSignal;
  /** How often this step has been started, this time included. */
  readonly start: number;
};

/** The answer of a check: whether the effect happened, and with which output. `undefined` or throwing: cannot tell. */
export type CheckAnswer = { readonly done: boolean; readonly output?: unknown } | undefined;

export type StepOptions = {
  /** "repeat" (default): run again when its outcome is unknown. "once": check, or ask a person. */
  readonly effect?: Effect;
  /** For `once`: asks the outside world whether the effect happened. */
  readonly check?: (context: StepContext) => Promise<CheckAnswer> | CheckAnswer;
  /** Replaces scope and order as the step's identity: for steps made in a loop that runs side by side. */
  readonly key?: string;
  /** What the step works on; a replay with another input waits for a decision. */
  readonly input?: unknown;
  /** Keep its output when a rejected result begins a new round. */
  readonly keep?: boolean;
  /** For `once`: run it again in a new round. */
  readonly redo?: boolean;
  /** Tries within this attempt. Default 1. */
  readonly retry?: Backoff & { readonly tries?: number };
  /** For one try of this step, in ms. */
  readonly timeoutMs?: number;
};

export type StepFunction = {
  <T>(name: string, fn: (context: StepContext) => Promise<T> | T): Promise<T>;
  <T>(name: string, options: StepOptions, fn: (context: StepContext) => Promise<T> | T): Promise<T>;
};

/** Steps named inside a scope cannot be mistaken for those of another: one for each branch that runs side by side. */
export type StepScope = {
  readonly step: StepFunction;
  /** Opens a scope; it closes when `fn` has settled. */
  scope<T>(name: string, fn: (scope: StepScope) => Promise<T>): Promise<T>;
  /** A durable wait: the task needs no process meanwhile. */
  sleep(name: string, ms: number): Promise<void>;
  /** Asks a person; resolves with the answer. */
  ask(name: string, question: string, details?: unknown): Promise<string>;
  /** Asks a person for leave to go on. */
  approve(name: string, question: string, details?: unknown): Promise<{ approved: boolean; reason: string | null }>;
};

export type TaskContext = StepScope & {
  /** True when an earlier execution of this round left a record of the step with this key. */
  readonly recorded: (key: string) => boolean; readonly signal: AbortSignal; readonly attempt: number };

// What a task's code is handed: step, scope, sleep, ask, approve, waitFor, spawn, all, and what each takes. How they work is in
// execution.ts (steps), waits.ts and children.ts.
import type { Json } from "../base/json.ts";
import type { Ask } from "../core/decision.ts";
import type { NewTask } from "../core/new-task.ts";
import type { Decision, Effect, Failure } from "../core/records.ts";
import type { Backoff } from "../core/retry.ts";
import type { Extra } from "../core/step.ts";
import type { SqlHandle } from "../store/store.ts";

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
  /** Writes that go along with its record, in one commit: what an agent spent, its messages. Not called on a replay. */
  readonly also?: (outcome: { readonly output: Json } | { readonly error: Failure }) => Extra;
};

export type StepFunction = {
  <T>(name: string, fn: (context: StepContext) => Promise<T> | T): Promise<T>;
  <T>(name: string, options: StepOptions, fn: (context: StepContext) => Promise<T> | T): Promise<T>;
  /**
   * Runs your own SQL in the database of the state and commits it together with the record of the step: both or neither. On
   * SQLite `fn` must be a plain function; on Postgres it may run more than once before one run is committed. Elsewhere it
   * throws `unsupported`.
   */
  transaction<T, S extends SqlHandle = SqlHandle>(name: string, fn: (sql: S) => Promise<T> | T): Promise<T>;
  transaction<T, S extends SqlHandle = SqlHandle>(name: string, options: TransactionOptions, fn: (sql: S) => Promise<T> | T): Promise<T>;
};

export type TransactionOptions = Pick<StepOptions, "key" | "input" | "keep">;

export type EventWait = {
  /** The event's name, when it is not that of the wait. */
  readonly event?: string;
  /** How long it is waited for, in ms. Without it, until it comes. */
  readonly timeoutMs?: number;
  /** An event given to this wait in an earlier round holds in this one too. */
  readonly keep?: boolean;
  /** Replaces scope and order as the wait's identity, as the key of a step does. */
  readonly key?: string;
};

/** What came of waiting for an event. */
export type Arrival<T = unknown> = { readonly arrived: true; readonly value: T; readonly event_id: number } | { readonly arrived: false; readonly value?: undefined };

/** What a task says of a child. Its key and its parent come of the step; queue and batch are the parent's unless it says otherwise. */
export type ChildTask = Omit<NewTask, "key" | "parent_id" | "status" | "result">;

/** How a child ended. */
export type ChildEnd<T = unknown> =
  | { readonly id: number; readonly status: "completed"; readonly result: T }
  | { readonly id: number; readonly status: "failed" | "cancelled" | "removed"; readonly error: Failure };

export type ChildHandle<T = unknown> = {
  readonly id: number;
  /** Waits for its end. Throws when it did not complete: an error whose cause is the child's. */
  result(): Promise<T>;
  /** Waits for its end and says how it was. */
  settled(): Promise<ChildEnd<T>>;
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
  /** Asks for a decision of any kind that people settle; resolves with it, settled. Exactly these details: others are another decision. */
  decide(name: string, ask: Ask): Promise<Decision>;
  /** Asks a person for leave to go on. */
  approve(name: string, question: string, details?: unknown): Promise<{ approved: boolean; reason: string | null }>;
  /** Waits for an event: one that came earlier and nobody was given, or the next. With a time-out it may not arrive. */
  waitFor<T = unknown>(name: string, options?: EventWait): Promise<Arrival<T>>;
  /** Starts a task of its own as a child of this one: once, however often this code is run again. */
  spawn<T = unknown>(name: string, task: ChildTask): Promise<ChildHandle<T>>;
  /** Starts one child for each and waits until all have completed; gives their results in the same order. The first that does not throws. */
  all<T = unknown>(name: string, tasks: readonly ChildTask[]): Promise<T[]>;
  /** The same, but waits until all have ended and gives how each did. */
  all<T = unknown>(name: string, tasks: readonly ChildTask[], options: { readonly settle: true }): Promise<ChildEnd<T>[]>;
};

export type TaskContext = StepScope & {
  /** True when an earlier execution of this round left a record of the step with this key. */
  readonly recorded: (key: string) => boolean; readonly signal: AbortSignal; readonly attempt: number };

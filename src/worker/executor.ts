// Who does a task's work and who judges it: the two shapes a worker knows. A function, a command and a person are all
// made into these; the worker itself never asks which it has.
import type { Json } from "../base/json.ts";
import type { Usage } from "../core/breaker.ts";
import type { Committer } from "../core/committer.ts";
import type { Output, Task } from "../core/records.ts";
import type { TaskContext } from "./context.ts";

/** What an executor is handed besides the task. */
export type Attempt = {
  /** Aborted when the lease is lost, the task is cancelled, its deadline or time-out passes, or the worker stops. */
  readonly signal: AbortSignal;
  /** The same for every attempt of a round; pass it to services that can recognise a repeated request. */
  readonly idempotencyKey: string;
  /** Steps, scopes and waits. */
  readonly context: TaskContext;
  /** The state, for executors that keep records of their own; what they write carries the task's fence. */
  readonly committer: Committer;
  /** Runs what is no step: the task is not parked in the middle of it, though all other branches wait. */
  busy<T>(work: () => Promise<T>): Promise<T>;
  /** Who acts, for histories: the worker. */
  readonly actor: string;
  /** Makes a child process known to the state, durably, so that a takeover can end it. Called before its command begins. */
  recordProcess(child: { pid: number; startTime: string; bootId: string }): Promise<void>;
  forgetProcess(pid: number): Promise<void>;
  /** Reports tokens or cost used since the last report; breakers count them with the end of this execution. Throws `usage` on what is no amount. */
  spend(usage: Usage): void;
  /** Keeps what a command wrote and how it ended (`pawl show ID --output`). `part` is "execute" or "verify". */
  keepOutput(part: string, output: Omit<Output, "task_id" | "fence" | "part" | "at">): Promise<void>;
};

export type Executor = {
  /** For people and for the task's `verifier` field: "function", "command: npm test", "person". */
  readonly name: string;
  /** What a batch remembers, so that a later run needs no flags; null when only the program that made it can make it again. */
  readonly recipe: Json;
  /** It starts a process, whose own steps (`pawl step`) are known from the state only: its exit code may be that of anything. */
  readonly process?: true;
  /** Throws when it cannot work at all (its program does not exist), before any task is claimed. */
  prepare?(): Promise<void>;
  run(task: Task, attempt: Attempt): Promise<unknown>;
};

export type Verdict = { readonly passed: boolean; readonly feedback?: string };

/** Judges a stored result. Throwing is not a rejection: the review is tried again later. */
export type Verifier = {
  readonly name: string;
  readonly recipe: Json;
  prepare?(): Promise<void>;
  run(task: Task, result: Json, attempt: Attempt): Promise<Verdict>;
};

/** Thrown by an executor that may not work now (a usage limit): the task waits until `resumeAt` (ms), no attempt is counted. */
export class UsageLimitError extends Error {
  override readonly name = "UsageLimitError";
  readonly resumeAt: number;

  constructor(message: string, resumeAt: number) {
    super(message);
    this.resumeAt = resumeAt;
  }
}

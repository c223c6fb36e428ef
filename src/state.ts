// openState and the State handle: the library's front door, and with testing.ts the only file that knows the stores.
// A State owns its store and its workers; closing it drains them first.
import { existsSync, mkdirSync } from "node:fs";
import { userInfo } from "node:os";
import { dirname, extname, resolve } from "node:path";
import { systemClock, type Clock } from "./base/clock.ts";
import { PawlError } from "./base/errors.ts";
import { systemRandom, type Random } from "./base/id.ts";
import { LIMITS } from "./base/limits.ts";
import type { BatchSummary } from "./core/batch.ts";
import { BatchHandle, createBatch, getBatch, importEntries, listBatches, summaryOf, type NewBatch } from "./core/batches.ts";
import { claimDue, nextDue } from "./core/claim.ts";
import { Committer } from "./core/committer.ts";
import { inbox, getDecision, settleDecision, type Settlement } from "./core/decision.ts";
import { seal, verifyChain } from "./core/history.ts";
import { DEFAULT_QUEUE, type NewTask } from "./core/new-task.ts";
import { importFile, type ImportedList, type ImportOptions } from "./worker/import.ts";
import { sweep } from "./core/sweep.ts";
import { statusOf, type StatusReport } from "./core/status.ts";
import { listEntries } from "./core/task-list.ts";
import { KINDS, STATUSES, type Batch, type Decision, type Output, type Status, type Step, type Task, type Transition } from "./core/records.ts";
import {
  addTasks, allTasks, cancelTask, completeTask, editTask, failTask, findTask, getTask, listTasks, releaseTask, removeTask, reopenTask, resetAll, resetTask, retryFailed,
  type TaskEdit, type TaskFilter,
} from "./core/tasks.ts";
import { formatToken, parseToken, type Token } from "./core/token.ts";
import { renderView } from "./core/view.ts";
import { openJson } from "./store/json/json.ts";
import { openMemory } from "./store/memory.ts";
import { openSqlite } from "./store/sqlite.ts";
import type { Model, OpenOptions, Store } from "./store/store.ts";
import { hostEvidence } from "./worker/liveness.ts";
import { executeOnce } from "./worker/once.ts";
import { functionExecutor, functionVerifier, type Execute, type Verify } from "./worker/function.ts";
import { Worker, type WorkerOptions } from "./worker/worker.ts";

/** What Pawl hands every store: its kinds, the seal of its history, the document people read. */
export const MODEL: Model = { kinds: KINDS, seal, view: renderView };

export type StateOptions = {
  /** Who acts, for the history. Default: $PAWL_ACTOR, $USER, or the name of the account. */
  readonly actor?: string;
  /** Nothing is created, repaired or written. */
  readonly readOnly?: boolean;
  readonly clock?: Clock;
  readonly random?: Random;
  /** One line for people (a long wait for a lock, a repaired tail). Default: stderr. */
  readonly notice?: (line: string) => void;
};

/**
 * Opens the state at `url`: a path ending in `.db`, `.sqlite` or `.sqlite3` (SQLite), any other path (a JSON file), or
 * `:memory:`. It is created when it is not there, unless `readOnly`. Throws `corrupt`, `unsupported`, `busy` or `storage`.
 *
 * ```ts
 * const state = await openState("state.json");
 * await state.tasks.add({ description: "Write a haiku about loops" });
 * await state.close();
 * ```
 */
export async function openState(url: string, options: StateOptions = {}): Promise<State> {
  const clock = options.clock ?? systemClock;
  const random = options.random ?? systemRandom;
  const open: OpenOptions = { clock, random, readOnly: options.readOnly ?? false, notice: options.notice ?? ((line) => process.stderr.write(`pawl: ${line}\n`)) };
  const { store, lockFolder } = await openStore(url, open);
  const actor = options.actor ?? process.env["PAWL_ACTOR"] ?? process.env["USER"] ?? accountName();
  return new State(store, lockFolder, { ...open, actor });
}

/** The account this process runs as; containers often have no $USER, and some accounts no name. */
function accountName(): string {
  try {
    return userInfo().username;
  } catch {
    return "unknown";
  }
}

async function openStore(url: string, options: OpenOptions): Promise<{ store: Store; lockFolder: string | null }> {
  if (url === ":memory:") return { store: openMemory(MODEL, options), lockFolder: null };
  const scheme = /^([a-z][a-z0-9+.-]+):\/\//i.exec(url)?.[1];
  if (scheme !== undefined) {
    throw new PawlError("usage", `There is no store for ${scheme}:// here.`, { next: "Use a path ending in .json or .db." });
  }
  if (url.trim() === "") throw new PawlError("usage", "The state's path is empty.", { next: "Use a path ending in .json or .db." });
  const path = resolve(url);
  if (!options.readOnly && !existsSync(dirname(path))) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const store = isSqlite(path) ? await openSqlite(path, MODEL, options) : await openJson(path, MODEL, options);
  return { store, lockFolder: `${path}.pawl/workers` };
}

export function isSqlite(path: string): boolean {
  return [".db", ".sqlite", ".sqlite3"].includes(extname(path).toLowerCase());
}

const NONE = Object.fromEntries(STATUSES.map((status) => [status, 0])) as Record<Status, number>;

/** A claimed task and the token that lets its holder complete, fail or release it. */
export type Claim = { readonly task: Task; readonly token: string };

/** How a task is settled: by the holder of a claim, with its token, or by anybody else. */
export type SettleOptions = { readonly actor?: string; readonly token?: string | Token | undefined };

export type WorkOptions = Omit<WorkerOptions, "executor" | "verifier" | "lanes"> & {
  readonly execute: Execute;
  readonly verify?: Verify;
  /** Work this batch only. */
  readonly batch?: string;
};

export class State {
  readonly committer: Committer;
  readonly clock: Clock;
  readonly random: Random;
  readonly actor: string;
  /** Where it is: a path, a URL without its password, ":memory:". */
  readonly location: string;
  readonly #lockFolder: string | null;
  readonly #workers = new Set<Worker>();
  #closed: Promise<void> | null = null;

  constructor(store: Store, lockFolder: string | null, options: { clock: Clock; random: Random; actor: string }) {
    this.committer = new Committer(store);
    this.clock = options.clock;
    this.random = options.random;
    this.actor = options.actor;
    this.location = store.location;
    this.#lockFolder = lockFolder;
  }

  /** Tasks: work that must end exactly once. A task is named by its id or its key. */
  readonly tasks = {
    /** Adds one task. Adding a key again gives the task that is there. */
    add: async (task: NewTask): Promise<Task> => (await addTasks(this.committer, [task], this.actor))[0]!,
    /** Adds many in one flush. */
    addAll: (tasks: readonly NewTask[]): Promise<Task[]> => addTasks(this.committer, tasks, this.actor),
    /** Throws `not_found` when there is none. */
    get: (ref: number | string): Promise<Task> => getTask(this.committer, ref),
    find: (ref: number | string): Promise<Task | null> => findTask(this.committer, ref),
    list: (filter?: TaskFilter): Promise<Task[]> => listTasks(this.committer, filter),
    /** How many there are in each status. */
    count: async (): Promise<Record<Status, number>> => ({ ...NONE, ...(await this.committer.store.count("task", { index: "status" }, "status")) }),
    /** Claims the next due task for a caller that runs it itself; held for `leaseMs` (default an hour), null when nothing is due. */
    claim: (options: { leaseMs?: number; queue?: string; batch?: string; actor?: string } = {}): Promise<Claim | null> => this.#claim(options),
    complete: (ref: number | string, result: unknown, options: SettleOptions = {}): Promise<Task> => completeTask(this.committer, ref, result, this.#settling(options)),
    fail: (ref: number | string, reason: string, options: SettleOptions & { permanent?: boolean } = {}): Promise<Task> => failTask(this.committer, ref, reason, { ...options, ...this.#settling(options) }),
    release: (ref: number | string, options: SettleOptions & { force?: boolean; reason?: string } = {}): Promise<Task> => releaseTask(this.committer, ref, { ...options, ...this.#settling(options) }),
    /** Failed → pending, done steps kept unless `fresh`. Past its deadline it needs a new one. */
    retry: (ref: number | string, options: { fresh?: boolean; deadline_at?: string | null; reason?: string } = {}): Promise<Task> => retryFailed(this.committer, ref, { actor: this.actor, ...options }),
    reset: (ref: number | string, options: { reason?: string } = {}): Promise<Task> => resetTask(this.committer, ref, { actor: this.actor, ...options }),
    resetAll: (options: { reason?: string } = {}): Promise<number> => resetAll(this.committer, { actor: this.actor, ...options }),
    reopen: (ref: number | string, reason: string): Promise<Task> => reopenTask(this.committer, ref, { actor: this.actor, reason }),
    cancel: (ref: number | string, options: { reason?: string } = {}): Promise<Task> => cancelTask(this.committer, ref, { actor: this.actor, ...options }),
    edit: (ref: number | string, edit: TaskEdit): Promise<Task> => editTask(this.committer, ref, edit, { actor: this.actor }),
    remove: (ref: number | string, options: { reason?: string } = {}): Promise<Task> => removeTask(this.committer, ref, { actor: this.actor, ...options }),
    steps: async (ref: number | string): Promise<Step[]> =>
      (await this.committer.store.list("step", { equals: { task_id: (await getTask(this.committer, ref)).id } })) as unknown as Step[],
    outputs: async (ref: number | string): Promise<Output[]> =>
      (await this.committer.store.list("output", { equals: { task_id: (await getTask(this.committer, ref)).id } })) as unknown as Output[],
    /** The task a claim would give, or none. Takes nothing. */
    next: (queue?: string, batch?: string): Promise<Task[]> => nextDue(this.committer, { queue: queue ?? DEFAULT_QUEUE, batch_id: batch ?? null }),
    /** All tasks that fit, however many. */
    all: (filter: Omit<TaskFilter, "limit" | "after"> = {}): Promise<Task[]> => allTasks(this.committer, filter),
    /** Runs `fn` for the task unless it is completed; a concurrent caller gets the same result. Throws what the task failed with. */
    executeOnce: <T>(ref: number | string, fn: Execute): Promise<T> => executeOnce(this.#home(), ref, fn) as Promise<T>,
  };

  /** What a person must settle. */
  readonly decisions = {
    inbox: (): Promise<Decision[]> => inbox(this.committer),
    get: (id: string): Promise<Decision> => getDecision(this.committer, id),
    settle: (id: string, settlement: Omit<Settlement, "actor"> & { actor?: string }): Promise<Decision> => settleDecision(this.committer, id, { actor: this.actor, ...settlement }),
  };

  /** Every change of a task, oldest first. Works for removed tasks too. */
  readonly history = {
    of: async (id: number): Promise<Transition[]> => (await this.committer.store.list("transition", { equals: { task_id: id } })) as unknown as Transition[],
    /** The number of the first transition that does not follow from the one before, or null when the chain is whole. */
    verify: async (id: number): Promise<number | null> => verifyChain(await this.history.of(id)),
  };

  /** Lists of tasks worked as one. */
  readonly batches = {
    /** Makes a batch from descriptions or objects with a task's fields. */
    create: async (entries: readonly unknown[], fields: NewBatch = {}): Promise<BatchHandle> => {
      const batch = await createBatch(this.committer, fields);
      await importEntries(this.committer, batch, listEntries(entries), "list", {}, this.actor);
      return this.#batch(batch.id);
    },
    /** The batch with this id, to go on with; `not_found` when there is none. */
    load: async (id: string): Promise<BatchHandle> => this.#batch((await getBatch(this.committer, id)).id),
    get: (id: string): Promise<Batch> => getBatch(this.committer, id),
    list: (limit?: number): Promise<Batch[]> => listBatches(this.committer, limit),
    summary: (id: string): Promise<BatchSummary> => summaryOf(this.committer, id),
    /** Imports a list from a file ("-" is standard input): into its unfinished batch, or a new one. */
    import: (file: string, options: ImportOptions = {}): Promise<ImportedList> => importFile(this.committer, file, options, this.actor),
  };

  /** Where everything stands, for people and programs. Reads only. */
  status(): Promise<StatusReport> {
    return statusOf(this.committer, this.location);
  }

  /** Starts a worker in this process. It claims until it is stopped. */
  work(options: WorkOptions): Worker {
    const { execute, verify, batch, ...rest } = options;
    const lanes = batch === undefined ? {} : { lanes: async () => [{ queue: DEFAULT_QUEUE, batch_id: batch }] };
    return this.startWorker({ ...rest, ...lanes, executor: functionExecutor(execute), verifier: verify ? functionVerifier(verify) : null });
  }

  startWorker(options: WorkerOptions): Worker {
    const worker = new Worker(this.#home(), options);
    this.#workers.add(worker);
    return worker;
  }

  /** Calls back when something may have changed. A hint. */
  watch(listener: () => void): () => void {
    return this.committer.store.watch(listener);
  }

  /** Drains the workers, flushes and closes. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      await Promise.all([...this.#workers].map((worker) => worker.stop()));
      await this.committer.drain();
      await this.committer.store.close();
    })();
    return this.#closed;
  }

  async #claim(options: { leaseMs?: number; queue?: string; batch?: string; actor?: string }): Promise<Claim | null> {
    // Nobody else may be there to see that a worker died, a delay has passed or a wait is over.
    await sweep(this.committer, hostEvidence(this.clock), this.actor, false);
    const [task] = await claimDue(this.committer, {
      lanes: [{ queue: options.queue ?? DEFAULT_QUEUE, batch_id: options.batch ?? null }], verifier: null, limit: 1,
      worker: `c-${this.random.hex(16)}`, leaseMs: options.leaseMs ?? LIMITS.heldLeaseMs, actor: options.actor ?? this.actor,
    });
    return task ? { task, token: formatToken(task) } : null;
  }

  #settling({ actor, token }: SettleOptions): { readonly actor: string; readonly token: Token | undefined } {
    return { actor: actor ?? this.actor, token: typeof token === "string" ? parseToken(token) : token };
  }

  #batch(id: string): BatchHandle {
    return new BatchHandle(this.committer, id, this.actor);
  }

  #home() {
    return { committer: this.committer, clock: this.clock, random: this.random, lockFolder: this.#lockFolder };
  }
}

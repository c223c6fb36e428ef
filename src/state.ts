// openState and the State handle: the library's front door.
// A State owns its store and its workers; closing it drains them first.
import type { Clock } from "./base/clock.ts";
import type { Random } from "./base/id.ts";
import { adopt } from "./core/adopt.ts";
import { agentVerbs } from "./core/agents.ts";
import { artifactVerbs } from "./core/artifacts.ts";
import type { BatchSummary } from "./core/batch.ts";
import { BatchHandle, checkLinks, createBatch, getBatch, importEntries, listBatches, summaryOf, type NewBatch } from "./core/batches.ts";
import { breakerVerbs } from "./core/breakers.ts";
import { nextDue } from "./core/claim.ts";
import { Committer, listAll } from "./core/committer.ts";
import { passSeal } from "./core/copy.ts";
import { inbox, getDecision, settleDecision, type Settlement } from "./core/decision.ts";
import { eventVerbs } from "./core/events.ts";
import { verifyChain } from "./core/history.ts";
import { DEFAULT_QUEUE, type NewTask } from "./core/new-task.ts";
import { importFile, type ImportedList, type ImportOptions } from "./worker/import.ts";
import { memoryVerbs } from "./core/memories.ts";
import { pastDead } from "./core/sweep.ts";
import { explain, type Why } from "./core/why.ts";
import { acceptEdit, discardEdit, editsOf, type Edit } from "./core/edit.ts";
import { scheduleVerbs } from "./core/schedules.ts";
import { statusOf, type StatusReport } from "./core/status.ts";
import { listEntries } from "./core/task-list.ts";
import { STATUSES, type Batch, type Decision, type Output, type Status, type Step, type Task, type Transition } from "./core/records.ts";
import {
  addTasks, allTasks, cancelTask, completeTask, editTask, failTask, findTask, getTask, listTasks, releaseTask, removeTask, reopenTask, resetAll, resetTask, retryFailed,
  type TaskEdit, type TaskFilter,
} from "./core/tasks.ts";
import { parseToken, type Token } from "./core/token.ts";
import type { Store } from "./store/store.ts";
import { hostEvidence } from "./worker/liveness.ts";
import { defaultActor, isGone, MODEL, openOptions, openStore, sealAt, type StateOptions } from "./state/opening.ts";
import { placeOf, type Place } from "./state/place.ts";
import { executeOnce } from "./worker/once.ts";
import type { Executor, Verifier } from "./worker/executor.ts";
import { functionExecutor, functionVerifier, type Execute, type Verify } from "./worker/function.ts";
import { askPerson, claimHeld, heldClaims, renewHeld, type Claim, type ClaimOptions, type HeldClaim, type Question } from "./worker/held.ts";
import { watchDecisions, type DecisionHook, type Watch } from "./worker/notify.ts";
import { Worker, type WorkerOptions } from "./worker/worker.ts";

/**
 * Opens the state at `url`: a path ending in `.db`, `.sqlite` or `.sqlite3` (SQLite), any other path (a JSON file),
 * `postgres://…`, or `:memory:`. It is created when it is not there, unless `readOnly`. Throws `corrupt`, `unsupported`, `busy` or `storage`.
 *
 * ```ts
 * const state = await openState("state.json");
 * await state.tasks.add({ description: "Write a haiku about loops" });
 * await state.close();
 * ```
 */
export async function openState(url: string, options: StateOptions = {}): Promise<State> {
  const open = openOptions(options);
  const actor = options.actor ?? defaultActor();
  const { store, lockFolder } = await openStore(url, { ...MODEL, adopt: (document, from) => adopt(document, { ...from, actor }) }, open);
  try {
    await passSeal(store, { readOnly: open.readOnly, isGone: isGone(open.clock), sealAt: sealAt(open, [url]), notice: open.notice });
  } catch (error) {
    await store.close();
    throw error;
  }
  return new State(store, lockFolder, { ...open, actor });
}

export type { StateOptions } from "./state/opening.ts";
export type { Place } from "./state/place.ts";

/** Where an operation on places stands. */
export type Here = {
  readonly location: string;
  /** The place with this path; the one where it stands, when none is named. */
  place(url?: string): Place;
  /** Opens the state where it stands. */
  open(): Promise<State>;
};

/** The place at `url`: a path or URL. Nothing is opened or created. */
export const placeAt = (url: string, options: StateOptions = {}): Place => placeOf(url, options, () => openState(url, options));

/** The place at `location`, and others seen from there. */
export function hereAt(location: string, options: StateOptions): Here {
  return { location, place: (url) => placeAt(url ?? location, options), open: () => openState(location, options) };
}

const NONE = Object.fromEntries(STATUSES.map((status) => [status, 0])) as Record<Status, number>;

export type { Claim, ClaimOptions, HeldClaim, Question } from "./worker/held.ts";

/** How a task is settled: by the holder of a claim, with its token, or by anybody else. */
export type SettleOptions = { readonly actor?: string; readonly token?: string | Token | undefined };

export type WorkOptions = Omit<WorkerOptions, "executor" | "verifier" | "lanes"> & {
  /** Your function, or an executor such as an agent. */
  readonly execute: Execute | Executor;
  readonly verify?: Verify | Verifier;
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
  /** What stops a queue or a batch whose tasks keep failing, or that has used up what it may. */
  readonly breakers: ReturnType<typeof breakerVerbs>;
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
    this.schedules = scheduleVerbs(this.committer, this.actor);
    this.breakers = breakerVerbs(this.committer, this.actor);
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
    claim: (options: ClaimOptions = {}): Promise<Claim | null> => claimHeld(this, options),
    /** The claims that are held by time, of one caller when it is named, with their tokens. */
    claims: (caller?: string): Promise<HeldClaim[]> => heldClaims(this.committer, caller),
    /** Extends a claim for an hour, or `leaseMs`. Throws `lease_lost` when it is over. */
    renew: (token: string, leaseMs?: number): Promise<Task> => renewHeld(this.committer, parseToken(token), leaseMs),
    complete: (ref: number | string, result: unknown, options: SettleOptions = {}): Promise<Task> => this.#pastDead(() => completeTask(this.committer, ref, result, this.#settling(options))),
    fail: (ref: number | string, reason: string, options: SettleOptions & { permanent?: boolean } = {}): Promise<Task> => this.#pastDead(() => failTask(this.committer, ref, reason, { ...options, ...this.#settling(options) })),
    release: (ref: number | string, options: SettleOptions & { force?: boolean; reason?: string } = {}): Promise<Task> => releaseTask(this.committer, ref, { ...options, ...this.#settling(options) }),
    /** Failed → pending, done steps kept unless `fresh`. Past its deadline it needs a new one. */
    retry: (ref: number | string, options: { fresh?: boolean; deadline_at?: string | null; reason?: string } = {}): Promise<Task> => retryFailed(this.committer, ref, { actor: this.actor, ...options }),
    reset: (ref: number | string, options: { reason?: string } = {}): Promise<Task> => resetTask(this.committer, ref, { actor: this.actor, ...options }),
    resetAll: (options: { reason?: string } = {}): Promise<number> => resetAll(this.committer, { actor: this.actor, ...options }),
    reopen: (ref: number | string, reason: string): Promise<Task> => reopenTask(this.committer, ref, { actor: this.actor, reason }),
    cancel: (ref: number | string, options: { reason?: string } = {}): Promise<Task> => cancelTask(this.committer, ref, { actor: this.actor, ...options }),
    edit: (ref: number | string, edit: TaskEdit): Promise<Task> => editTask(this.committer, ref, edit, { actor: this.actor }),
    remove: (ref: number | string, options: { reason?: string } = {}): Promise<Task> => this.#pastDead(() => removeTask(this.committer, ref, { actor: this.actor, ...options })),
    steps: async (ref: number | string): Promise<Step[]> =>
      (await listAll(this.committer, "step", { equals: { task_id: (await getTask(this.committer, ref)).id } })) as unknown as Step[],
    outputs: async (ref: number | string): Promise<Output[]> =>
      (await listAll(this.committer, "output", { equals: { task_id: (await getTask(this.committer, ref)).id } })) as unknown as Output[],
    /** The task a claim would give, or none. Takes nothing. */
    next: (queue?: string, batch?: string): Promise<Task[]> => nextDue(this.committer, { queue: queue ?? DEFAULT_QUEUE, batch_id: batch ?? null }),
    /** All tasks that fit, however many. */
    all: (filter: Omit<TaskFilter, "limit" | "after"> = {}): Promise<Task[]> => allTasks(this.committer, filter),
    /** Runs `fn` for the task unless it is completed; a concurrent caller gets the same result. Throws what the task failed with. */
    executeOnce: <T>(ref: number | string, fn: Execute | Executor): Promise<T> => executeOnce(this.#home(), ref, fn) as Promise<T>,
  };

  /** What a person must settle. */
  readonly decisions = {
    inbox: (): Promise<Decision[]> => inbox(this.committer),
    get: (id: string): Promise<Decision> => getDecision(this.committer, id),
    /** Asks a person; with the token of a claim its task is set aside until the answer is there. */
    ask: (question: Question, token?: string): Promise<Decision> => askPerson(this, question, token === undefined ? undefined : parseToken(token)),
    settle: (id: string, settlement: Omit<Settlement, "actor"> & { actor?: string }): Promise<Decision> => settleDecision(this.committer, id, { actor: this.actor, ...settlement }),
    /** Calls `hook` with each decision that waits for a person, and again when it is escalated. Stop it before the state is closed. */
    watch: (hook: DecisionHook, notice?: (line: string) => void): Watch => watchDecisions(this, hook, notice),
  };

  /** Tasks added by the clock. */
  readonly schedules: ReturnType<typeof scheduleVerbs>;

  /** What people did to the state file by hand. Without such a file (SQLite, memory) there are none. */
  readonly edits = {
    /** Newest first; before them, as "file", one that is not taken in: edited this moment, or broken. */
    list: (limit?: number): Promise<Edit[]> => editsOf(this.committer, limit === undefined ? {} : { limit }),
    /** Takes over what was refused, as far as a command can; a live worker loses its task. "file" is the one that is broken. */
    accept: (id: string): Promise<Edit> => acceptEdit(this.committer, id, this.actor),
    /** Takes nothing of it over. Its copy is kept. */
    discard: (id: string): Promise<Edit> => discardEdit(this.committer, id, this.actor),
  };

  /** Every change of a task, oldest first. Works for removed tasks too. */
  readonly history = {
    of: async (id: number): Promise<Transition[]> => (await listAll(this.committer, "transition", { equals: { task_id: id } })) as unknown as Transition[],
    /** The number of the first transition that does not follow from the one before, or null when the chain is whole. */
    verify: async (id: number): Promise<number | null> => verifyChain(await this.history.of(id)),
  };

  /** Lists of tasks worked as one. */
  readonly batches = {
    /** Makes a batch from descriptions or objects with a task's fields. */
    create: async (entries: readonly unknown[], fields: NewBatch = {}): Promise<BatchHandle> => {
      const list = listEntries(entries);
      await checkLinks(this.committer, list, "list");
      const batch = await createBatch(this.committer, fields);
      await importEntries(this.committer, batch, list, "list", {}, this.actor);
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

  /** Named values that tasks wait for. */
  readonly events = eventVerbs(this);

  /** The saved states of model-driven loops, one for a task. */
  readonly agents = agentVerbs(this);

  /** Large values kept by content, out of records. */
  readonly artifacts = artifactVerbs(this, MODEL.kinds);

  /** What is remembered: entity, attribute, value, with source and confidence. */
  readonly memory = memoryVerbs(this);

  /** Where everything stands, for people and programs. Reads only. */
  status(): Promise<StatusReport> {
    return statusOf(this.committer, this.location, hostEvidence(this.clock).ownerState);
  }

  /** Why a task stands where it stands, and what moves it. Reads only. */
  async why(ref: number | string): Promise<Why> {
    return explain(this.committer, await getTask(this.committer, ref), hostEvidence(this.clock).ownerState);
  }

  /** The same state, acted on under another name; it is closed with this one. */
  as(actor: string): State {
    return new State(this.committer.store, this.#lockFolder, { clock: this.clock, random: this.random, actor });
  }

  /** The place it is at. */
  here(): Here {
    return hereAt(this.location, { actor: this.actor, clock: this.clock, random: this.random });
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
      await Promise.all([...this.#workers].map((worker) => worker.drain()));
      this.committer.store.hurry?.();
      await Promise.all([...this.#workers].map((worker) => worker.stop()));
      await this.committer.drain();
      await this.committer.store.close();
    })();
    return this.#closed;
  }

  #pastDead<T>(act: () => Promise<T>): Promise<T> {
    return pastDead(this.committer, hostEvidence(this.clock), this.actor, act);
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

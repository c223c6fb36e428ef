// Group commit: the changes of all concurrent callers go to the store in one flush, and each caller is answered only
// after it. This is where the speed comes from: on a disk whose flush takes a millisecond it is worth a factor of fifty.
// Per-caller order is kept, and the event loop gets its turn before each flush.
import { PawlError, withArticle } from "../base/errors.ts";
import { LIMITS } from "../base/limits.ts";
import type { Change, Claim, ClaimOrder, Conflict, Decide, Query, Rec, Result, Store } from "../store/store.ts";
import type { Step, Task, Wait } from "./records.ts";
import type { Outcome } from "./task.ts";

type Waiting = { readonly work: Change | Claim; readonly resolve: (result: Result) => void; readonly reject: (error: unknown) => void };

export class Committer {
  readonly store: Store;
  #waiting: Waiting[] = [];
  #scheduled = false;
  #flushing: Promise<void> | null = null;
  readonly #addListeners = new Set<() => void>();

  constructor(store: Store) {
    this.store = store;
  }

  /** Queues a change; resolves with its result after the flush that holds it. Only broken storage rejects. */
  commit(change: Change): Promise<Result> {
    const result = this.#queue(change);
    if (this.#addListeners.size > 0 && change.puts.some((put) => put.kind === "task" && "record" in put)) for (const listener of this.#addListeners) listener();
    return result;
  }

  /**
   * Calls back when the change that adds a task was queued and is not flushed yet. A worker with nothing to do puts its claim
   * behind it, so that the task starts after one flush instead of two. Returns what ends it.
   */
  onAdd(listener: () => void): () => void {
    this.#addListeners.add(listener);
    return () => this.#addListeners.delete(listener);
  }

  /** A claim in the same flush as what is queued with it; it sees what was queued before it. */
  claim(order: ClaimOrder, decide: Decide): Promise<Result> {
    return this.#queue({ claim: order, decide });
  }

  #queue(work: Change | Claim): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ work, resolve, reject });
      this.#schedule();
    });
  }

  /** Resolves when everything queued so far is flushed. */
  async drain(): Promise<void> {
    while (this.#flushing || this.#waiting.length > 0) {
      await (this.#flushing ?? new Promise((resolve) => setImmediate(resolve)));
    }
  }

  #schedule(): void {
    if (this.#scheduled || this.#flushing) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#flushing = this.#flush().finally(() => {
        this.#flushing = null;
        if (this.#waiting.length > 0) this.#schedule();
      });
    });
  }

  async #flush(): Promise<void> {
    const batch = this.#waiting.splice(0, LIMITS.flushChanges);
    try {
      const results = await this.store.commit(batch.map((waiting) => waiting.work));
      for (let i = 0; i < batch.length; i++) batch[i]!.resolve(results[i]!);
    } catch (error) {
      for (const waiting of batch) waiting.reject(error);
    }
  }
}

/** How often a decision is made again on newer records before giving up; each time someone else got in between. */
export const TRIES = 100;

/**
 * Commits what `rule` decides about a task, deciding again when the task changed in between. An owner whose fence is no
 * longer the task's gets `lease_lost`; a task that is gone, `not_found`; a conflict on another record goes to `onConflict`,
 * unless `again` says that the same task is decided about once more.
 */
export async function settle(
  committer: Committer,
  task: Task,
  rule: (task: Task, now: number) => Outcome | Promise<Outcome>,
  options: { fence?: number; onConflict?: (conflict: Conflict) => Error | null; again?: (conflict: Conflict) => boolean } = {},
): Promise<Task> {
  let current = task;
  for (let i = 0; i < TRIES; i++) {
    const outcome = await rule(current, committer.store.clock.now());
    const result = await committer.commit(outcome.change);
    if (result.ok) return outcome.task;
    if ("error" in result) throw result.error;
    if (options.again?.(result.conflict)) continue;
    current = currentTask(result.conflict, task, options);
  }
  throw new PawlError("conflict", `Task ${task.id} changes faster than this command can decide about it.`, { next: "Try again." });
}

function currentTask(conflict: Conflict, task: Task, options: { fence?: number; onConflict?: (conflict: Conflict) => Error | null }): Task {
  if (conflict.kind !== "task" || conflict.index !== 0 || conflict.on !== "guard") {
    const error = options.onConflict?.(conflict);
    if (error) throw error;
    throw new PawlError("conflict", `Another writer changed ${withArticle(conflict.kind)} that this command read.`, { next: "Try again.", details: { conflict } });
  }
  const now = conflict.record as Task | null;
  if (options.fence !== undefined && (now === null || now.fence !== options.fence || now.worker === null)) throw leaseLost(task.id, now);
  if (now === null) throw notFound(task.id);
  return now;
}

/** Resolves when the state may have changed, after `withinMs` at the latest (a hint is no promise), or when `signal` aborts. */
export function nextHint({ store }: Committer, withinMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const over = () => {
      unwatch();
      cancel();
      signal?.removeEventListener("abort", over);
      resolve();
    };
    const unwatch = store.watch(over);
    const cancel = store.clock.timer(withinMs, over);
    signal?.addEventListener("abort", over, { once: true });
  });
}

/** Every record a query matches, page by page. */
export async function listAll(committer: Committer, kind: string, query: Query): Promise<Rec[]> {
  let page = await committer.store.list(kind, query);
  const found = page;
  while (page.length === LIMITS.listRecords) {
    page = await committer.store.list(kind, { ...query, after: page.at(-1)! });
    for (const record of page) found.push(record);
  }
  return found;
}

/** The steps or waits of a task's round. */
export function ofRound(committer: Committer, kind: "step", task: { readonly id: number; readonly round: number }): Promise<Step[]>;
export function ofRound(committer: Committer, kind: "wait", task: { readonly id: number; readonly round: number }): Promise<Wait[]>;
export async function ofRound(committer: Committer, kind: "step" | "wait", { id, round }: { readonly id: number; readonly round: number }): Promise<unknown> {
  return listAll(committer, kind, { equals: { task_id: id, round } });
}

/** Someone else owns the task now, or ended it: the only conflict that means this. */
export function leaseLost(id: number, now: Rec | Task | null): PawlError {
  const task = now as Task | null;
  const state = task === null ? "it was removed" : task.worker ? `worker ${task.worker} owns it now` : `it is ${task.status} now`;
  return new PawlError("lease_lost", `Task ${id} is no longer yours: ${state}.`, {
    next: `See what happened: pawl history ${id}.`,
    details: { id, status: task?.status ?? null, fence: task?.fence ?? null },
  });
}

export function notFound(id: number | string): PawlError {
  return new PawlError("not_found", `task not found: ${id}`, { next: "See what there is: pawl list.", details: { id } });
}

/** Commits a change that must apply; a conflict becomes the error `onConflict` makes of it. */
export async function commitOrThrow(committer: Committer, change: Change, onConflict: (conflict: Conflict) => Error): Promise<Extract<Result, { ok: true }>> {
  const result = await committer.commit(change);
  if (result.ok) return result;
  throw "error" in result ? result.error : onConflict(result.conflict);
}

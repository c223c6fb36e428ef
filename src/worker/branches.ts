// The branches of a task's code in one execution: the names they have entered, how many run, what the others wait for.
// Invariants: a branch that waits never goes on here; when every branch is settled or waiting, the task is parked; nothing
// is written for a branch but under the fence.
import { PawlError } from "../base/errors.ts";
import type { CutContent } from "../core/artifact.ts";
import { commitWith } from "../core/artifacts.ts";
import { leaseLost, type Committer } from "../core/committer.ts";
import type { Task, Wait } from "../core/records.ts";
import { checkStepName, explicitKey, type Scope } from "../core/step.ts";
import type { Change, Conflict } from "../store/store.ts";

export type BranchOptions = {
  readonly committer: Committer;
  readonly actor: string;
  readonly signal: AbortSignal;
  /** Called when the store says the task is not ours any more. */
  readonly onLost: (error: PawlError) => void;
};

export class Branches {
  readonly task: Task;
  readonly options: BranchOptions;
  /** Resolves with the open waits when every branch is settled or waiting. */
  readonly parked: Promise<readonly Wait[]>;
  readonly #open: Wait[] = [];
  readonly #explicit = new Set<string>();
  #running = 0;
  #ended = false;
  #frozen = false;
  #park: (waits: readonly Wait[]) => void = () => undefined;

  constructor(task: Task, options: BranchOptions) {
    this.task = task;
    this.options = options;
    this.parked = new Promise((resolve) => (this.#park = resolve));
  }

  /** The task's code has ended, is parked, or no longer owns the task: what comes now gets `gone`. */
  get ended(): boolean {
    return this.#ended;
  }

  end(): void {
    this.#ended = true;
  }

  /** Some branch waits here. */
  get waiting(): boolean {
    return this.#open.length > 0;
  }

  /** Enters a name into its scope and counts the branch as running; `leave` must follow. Returns the step's key. */
  enter(scope: Scope, name: string, key: string | undefined): string {
    checkStepName(name);
    this.options.signal.throwIfAborted();
    if (key === undefined) {
      const id = scope.enter(name);
      this.#running++;
      return id;
    }
    const id = explicitKey(name, key);
    if (this.#explicit.has(id)) throw new PawlError("ambiguous_step", `The step "${name}" with the key "${key}" comes twice in one execution.`, { next: "Give each its own key." });
    this.#explicit.add(id);
    scope.enterKeyed();
    this.#running++;
    return id;
  }

  leave(scope: Scope): void {
    scope.leave();
    this.rest();
  }

  /** Counts a branch that enters no name as running; `rest` must follow. */
  run(): void {
    this.options.signal.throwIfAborted();
    this.#running++;
  }

  rest(): void {
    this.#running--;
    if (this.#open.length > 0) this.#parkWhenQuiet();
  }

  /** Counts as running while `work` goes on, which is no step: the task is not parked in the middle of it. Once it is parked, nothing goes on. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    if (this.#frozen) return new Promise(() => undefined);
    this.#running++;
    try {
      return await work();
    } finally {
      this.rest();
    }
  }

  /** Stays in an open wait until the task is parked or stopped. */
  stay(wait: Wait): Promise<never> {
    this.#open.push(wait);
    this.#running--;
    this.#parkWhenQuiet();
    const { signal } = this.options;
    return new Promise((_, reject) => {
      // Stopped before it could be parked: the code lets go. Parked, it stays where it is.
      const letGo = () => {
        this.#running++;
        if (!this.#frozen) reject(signal.reason as Error);
      };
      if (signal.aborted) letGo();
      else signal.addEventListener("abort", letGo, { once: true });
    });
  }

  /** What a step of code that is over gets: the reason when it was stopped, so that it lets go; else nothing, for ever. */
  gone(): Promise<never> {
    const { signal } = this.options;
    return signal.aborted && !this.#frozen ? Promise.reject(signal.reason as Error) : new Promise(() => undefined);
  }

  /** Parks when nothing has run for a few turns of the event loop: code between two steps may still be on its way. */
  #parkWhenQuiet(turns = 3): void {
    if (this.#open.length === 0 || this.#running > 0 || this.#ended) return;
    if (turns === 0) {
      this.#ended = this.#frozen = true;
      return this.#park(this.#open);
    }
    setImmediate(() => this.#parkWhenQuiet(turns - 1));
  }

  now(): number {
    return this.options.committer.store.clock.now();
  }

  /** Commits a change that is guarded on the fence, with the large `contents` it names. `whenOver` takes it back when the code was ended meanwhile. */
  async commit(change: Change, { whenOver, contents = [] }: { readonly whenOver?: Change; readonly contents?: readonly CutContent[] } = {}): Promise<void> {
    const { committer } = this.options;
    const result = await (contents.length === 0 ? committer.commit(change) : commitWith(committer, change, contents));
    if (this.#ended) {
      if (whenOver) await this.options.committer.commit(whenOver);
      return this.gone();
    }
    if (result.ok) return;
    if ("error" in result) throw result.error;
    // Named by what goes along with the change, not by the change itself: nothing is said of the owner.
    if (result.conflict.on === "put" && result.conflict.kind === "artifact") throw new PawlError("conflict", "An artifact that was to be recorded was collected meanwhile.", { next: "Put it again." });
    throw this.lost(result.conflict.record);
  }

  /** The same for a change whose further guards may fail because others were faster: false then. Guard 0 is the fence. */
  async tryCommit(change: Change): Promise<boolean> {
    return (await this.tried(change)) === null;
  }

  /** The conflict that made it fail; null when it was written. */
  async tried(change: Change): Promise<Conflict | null> {
    const result = await this.options.committer.commit(change);
    if (this.#ended) return this.gone();
    if (result.ok) return null;
    if ("error" in result) throw result.error;
    if (result.conflict.on === "guard" && result.conflict.index === 0) throw this.lost(result.conflict.record);
    return result.conflict;
  }

  /** The task is not ours any more: its worker is told. */
  lost(now: Parameters<typeof leaseLost>[1]): PawlError {
    const lost = leaseLost(this.task.id, now);
    this.options.onLost(lost);
    return lost;
  }
}

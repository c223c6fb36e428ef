// Keeps the leases of one worker's running tasks: renews each at a third of its length, gives a task up here when two thirds
// pass unconfirmed, and tells a running task that it was taken away. Invariant: what is this worker's by the state and does
// not run here, because it was aborted as lost or its claim was never answered, goes back, so that nothing stays held with nobody at work.
import type { Clock } from "../base/clock.ts";
import { isPawlError, PawlError } from "../base/errors.ts";
import { leaseLost, listAll, type Committer } from "../core/committer.ts";
import { asTask, type Task } from "../core/records.ts";
import { release } from "../core/task.ts";
import { settleIfThere } from "../core/tasks.ts";
import type { Work } from "./attempt.ts";

type Kept = {
  readonly committer: Committer;
  readonly clock: Clock;
  readonly worker: string;
  readonly leaseMs: number;
  /** What runs now, by task id. */
  readonly active: ReadonlyMap<number, Work>;
  /** True once the worker claims nothing any more: with nothing left to renew the beat ends. */
  readonly stopping: () => boolean;
};

export class Heartbeat {
  readonly #kept: Kept;
  #cancel: (() => void) | null = null;
  #doubted = false;

  constructor(kept: Kept) {
    this.#kept = kept;
  }

  /** Renews every lease at a third of its length, for as long as there is something to renew or to claim. */
  start(): void {
    const { clock, leaseMs, active, stopping } = this.#kept;
    this.#cancel = clock.timer(
      leaseMs / 3,
      () => {
        for (const work of active.values()) void this.#renew(work).catch(() => this.doubt());
        if (!stopping() || active.size > 0) this.start();
      },
      false,
    );
  }

  stop(): void {
    this.#cancel?.();
  }

  /** Something was not answered: what the state says is this worker's need not be what runs here. */
  doubt(): void {
    this.#doubted = true;
  }

  async #renew(work: Work): Promise<void> {
    const { id } = work.task;
    // Late although it was asked: the store is out of reach. Late before asking: a clock jumped, or the laptop slept.
    if (work.lease.unanswered && work.lease.late) work.abort(new PawlError("lease_lost", `The lease of task ${id} could not be renewed in time.`, { details: { id } }));
    await work.lease.renew().catch((error: unknown) => {
      // A task that has ended here meanwhile has no lease to renew.
      if (isPawlError(error, "lease_lost") && this.#kept.active.get(id) === work) work.abort(error);
      else throw error;
    });
  }

  /** Before an effect: null when the lease is fresh, else a renewal that throws when it is lost. */
  revalidate(work: Work): Promise<void> | null {
    if (!work.lease.late) return null;
    return work.lease.renew().catch((error: unknown) => {
      if (isPawlError(error, "lease_lost")) work.abort(error);
      throw error;
    });
  }

  /**
   * Tells the running tasks that were cancelled, reset, removed or taken away: not only at the next beat. In doubt it also
   * gives back what is this worker's and does not run. Never beside a claim, whose tasks would look like that.
   */
  async noticeLost(): Promise<void> {
    if (this.#doubted) {
      this.#doubted = false;
      await this.#giveBackStrays();
    }
    const works = [...this.#kept.active.values()];
    if (works.length === 0) return;
    const tasks = await this.#kept.committer.store.get("task", works.map((work) => work.task.id));
    works.forEach((work, i) => {
      if (tasks[i]?.["fence"] !== work.task.fence) work.abort(leaseLost(work.task.id, tasks[i] ?? null));
    });
  }

  async #giveBackStrays(): Promise<void> {
    const { committer, worker, active } = this.#kept;
    const owned = (await listAll(committer, "task", { index: "lease" })).map(asTask).filter((task) => task.worker === worker && !active.has(task.id));
    for (const task of owned) await this.#release(task, "its claim was not answered");
  }

  /** A task given up as lost may be ours after all, when only the confirmation stayed out: then it must not stay held with nobody at work. */
  async giveBack(work: Work): Promise<void> {
    await this.#release(work.task, "its lease was not confirmed in time");
  }

  /** Gives the task back unless somebody else has it now, or nobody. */
  async #release({ id, fence }: Task, reason: string): Promise<void> {
    const { committer, worker } = this.#kept;
    const [task] = (await committer.store.get("task", [id])) as unknown as (Task | null)[];
    if (!task || task.fence !== fence || task.worker !== worker) return;
    await settleIfThere(committer, task, worker, async (current, now) => (current.fence === fence && current.worker === worker ? release(current, { actor: worker, now, fence }, reason) : null));
  }
}

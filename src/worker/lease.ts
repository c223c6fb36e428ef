// The lease of one owned task, as its worker keeps it alive. Invariants: at most one renewal is on its way; each is a
// compare-and-set on the expiry that the last one wrote, so that of two copies of one worker (a restored snapshot of a
// container) the second to beat loses the task instead of working beside the first.
//
//   confirmed ──▶ late (two thirds of it passed, by either clock) ──▶ expired: anybody may take the task
import { iso, type Clock } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { leaseLost, type Committer } from "../core/committer.ts";
import type { Task } from "../core/records.ts";
import { heartbeat } from "../core/task.ts";

export class Lease {
  readonly #committer: Committer;
  readonly #clock: Clock;
  readonly #task: Task;
  readonly #leaseMs: number;
  /** When the store last confirmed it, on the monotonic clock and the wall clock (ms). */
  #confirmed: { monotonic: number; wall: number };
  /** The expiry the store has, as far as is known. */
  #expires: string | null;
  /** Expiries that were sent and never answered: any of them may be the store's. */
  readonly #unanswered = new Set<string>();
  #renewing: Promise<void> | null = null;

  /** `task` as it was claimed. */
  constructor(committer: Committer, clock: Clock, task: Task, leaseMs: number) {
    this.#committer = committer;
    this.#clock = clock;
    this.#task = task;
    this.#leaseMs = leaseMs;
    this.#expires = task.lease_expires_at;
    this.#confirmed = this.#instant();
  }

  /** Two thirds have passed since the last confirmation, by either clock: a suspended laptop stops only one. */
  get late(): boolean {
    const now = this.#instant();
    return Math.max(now.monotonic - this.#confirmed.monotonic, now.wall - this.#confirmed.wall) >= (this.#leaseMs * 2) / 3;
  }

  /** A renewal was sent and nothing has come back. */
  get unanswered(): boolean {
    return this.#renewing !== null || this.#unanswered.size > 0;
  }

  /** Resolves when the store has confirmed it. Throws `lease_lost` when the task has another owner, and what a broken storage throws. */
  renew(): Promise<void> {
    return (this.#renewing ??= this.#send().finally(() => (this.#renewing = null)));
  }

  async #send(): Promise<void> {
    const { id, fence, worker } = this.#task;
    for (;;) {
      const sent = this.#instant();
      const now = this.#committer.store.clock.now();
      const expires = iso(now + this.#leaseMs);
      const earlier = [...this.#unanswered];
      this.#unanswered.add(expires);
      const result = await this.#committer.commit(heartbeat({ id, fence, worker: worker! }, this.#leaseMs, now, this.#expires));
      if (!result.ok && "error" in result) throw result.error;
      if (result.ok) {
        this.#unanswered.clear();
        this.#expires = expires;
        this.#confirmed = sent;
        return;
      }
      const { record } = result.conflict;
      const stored = record && record["fence"] === fence && record["worker"] === worker ? (record["lease_expires_at"] as string | null) : null;
      if (stored === null) throw leaseLost(id, record);
      if (!earlier.includes(stored)) throw copied(id, worker!);
      // One of mine whose answer never came.
      this.#unanswered.clear();
      this.#expires = stored;
    }
  }

  #instant(): { monotonic: number; wall: number } {
    return { monotonic: this.#clock.monotonic(), wall: this.#clock.now() };
  }
}

function copied(id: number, worker: string): PawlError {
  return new PawlError("lease_lost", `Task ${id} is no longer yours: another process works under the name of worker ${worker}.`, {
    next: "Let every copy of a container or virtual machine start its workers anew.",
    details: { id, worker },
  });
}

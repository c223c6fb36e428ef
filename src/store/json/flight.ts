// Large batches are flushed beside the event loop: while one is on its way to the disk the next is applied to the tables, and
// written when the first is safe. All of it is one section under the lock, which ends when nobody has joined it, or somebody
// else wants his turn. Invariants: at any time one line at most is not flushed, so that at most the last can be torn; a caller
// is answered when his own line is on the disk; what is applied and not written yet is read by nobody.

//   batch 1   apply, write ├──── flush ────┤ answer
//   batch 2                    apply … waits write ├──── flush ────┤ answer
import type { Change, Claim, Result } from "../store.ts";

/** What a flight needs of its store. `A` is what became of a batch in the tables, `L` a line that is written and not flushed. */
export type Runway<A extends { readonly result: Result[] }, L> = {
  /** Throws when it cannot; the tables are as they were then, and also when `write` or `flush` throws. */
  apply(works: readonly (Change | Claim)[]): A;
  /** Null when there was nothing to write. */
  write(applied: A): L | null;
  flush(line: L): Promise<void>;
  /** Somebody waits for the lock. */
  wanted(): boolean;
  /** A clock that never goes back, in ms. */
  monotonic(): number;
};

/** How much one more measurement moves a mean. */
const WEIGHT = 1 / 16;
/** The event loop's time for a batch, in times that of applying it: the callers' own code comes on top. */
const WORK = 1.75;

type Works = readonly (Change | Claim)[];
type Leg<A> = { readonly applied: A; readonly written: Promise<void>; readonly write: () => void; readonly resolve: (results: Result[]) => void; readonly reject: (error: unknown) => void };

export class Flight<A extends { readonly result: Result[] }, L> {
  readonly #runway: Runway<A, L>;
  #flying = false;
  #next: Leg<A> | null = null;
  #lanes = 2;
  #applyMs = 0;
  #flushMs = 0;

  constructor(runway: Runway<A, L>) {
    this.#runway = runway;
  }

  /**
   * How many batches are worth having under way at once: two where a flush takes less time than there is to do for both. On a
   * slower disk, twice as many flushes cost more than goes on beside them.
   */
  get lanes(): number {
    return this.#lanes;
  }

  /** A line is being flushed, and the lock is held for it: nobody can have appended another. */
  get flying(): boolean {
    return this.#flying;
  }

  /** Settles when what is applied is written, or will not be; null when all of it is. */
  get unwritten(): Promise<void> | null {
    return this.#next?.written ?? null;
  }

  /** Makes a batch the next of the flight under way. Null when there is none, it has its next, or somebody waits for it to end. */
  join(works: Works): Promise<Result[]> | null {
    if (!this.#flying || this.#next || this.#runway.wanted()) return null;
    return new Promise((resolve, reject) => (this.#next = this.#leg(works, resolve, reject)));
  }

  /** The section: begins with a batch, and goes on with those that join. Never rejects. */
  async fly(works: Works, resolve: (results: Result[]) => void, reject: (error: unknown) => void): Promise<void> {
    this.#flying = true;
    for (let leg = this.#tried(works, resolve, reject); leg; leg = this.#take()) await this.#land(leg);
    this.#flying = false;
  }

  #take(): Leg<A> | null {
    const next = this.#next;
    this.#next = null;
    return next;
  }

  #tried(works: Works, resolve: (results: Result[]) => void, reject: (error: unknown) => void): Leg<A> | null {
    try {
      return this.#leg(works, resolve, reject);
    } catch (error) {
      reject(error);
      return null;
    }
  }

  #leg(works: Works, resolve: (results: Result[]) => void, reject: (error: unknown) => void): Leg<A> {
    const begun = this.#runway.monotonic();
    const applied = this.#runway.apply(works);
    this.#applyMs += (this.#runway.monotonic() - begun - this.#applyMs) * WEIGHT;
    const { promise: written, resolve: write } = Promise.withResolvers<void>();
    return { applied, written, write, resolve, reject };
  }

  async #land({ applied, write, resolve, reject }: Leg<A>): Promise<void> {
    try {
      const line = this.#runway.write(applied);
      write();
      if (line) await this.#flush(line);
      resolve(applied.result);
    } catch (error) {
      write();
      reject(error);
    }
  }

  async #flush(line: L): Promise<void> {
    const begun = this.#runway.monotonic();
    await this.#runway.flush(line);
    this.#flushMs += (this.#runway.monotonic() - begun - this.#flushMs) * WEIGHT;
    this.#lanes = this.#flushMs <= this.#applyMs * WORK * this.#lanes ? 2 : 1;
  }
}

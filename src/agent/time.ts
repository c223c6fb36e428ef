// The limit on an agent's working time while a call runs: when it is used up, the call is cut off at that moment. Invariants: a
// limit that was raised meanwhile lets the call go on; what a cut call took is counted before anybody is asked for more.
import { rejectOn } from "../base/abort.ts";
import type { Reservation } from "../core/budget.ts";
import { NotDone } from "../core/step.ts";
import { UsageLimitError } from "../worker/executor.ts";

/** What it needs of the session. */
export type Timekeeper = {
  now(): number;
  /** Calls `fn` after `ms`; the returned function cancels it. */
  timer(ms: number, fn: () => void): () => void;
  /** Working time that is left, in ms; Infinity without a limit. */
  timeLeft(reservation: Reservation): Promise<number>;
  countTime(reservation: Reservation): Promise<void>;
};

/** Bounds the call of one reservation. */
export class TimeLimit {
  /** What a call that was cut off throws. A step records nothing of it, so the same step runs again when there is more time. */
  up: UsageLimitError | null = null;
  /** Whether any try was begun: only then may something have been used. */
  begun = false;
  readonly #keeper: Timekeeper;
  readonly #reservation: Reservation;
  /** The moment (ms) the time is used up, as far as it was known when it was reserved; a further try gets what is left until then. */
  readonly #until: number;

  constructor(keeper: Timekeeper, reservation: Reservation, leftMs: number) {
    this.#keeper = keeper;
    this.#reservation = reservation;
    this.#until = keeper.now() + leftMs;
  }

  /** Runs the call until it ends or the time is used up; its signal is aborted then. A call that was cut off is not begun again. */
  async run<T>(signal: AbortSignal, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.up) throw new NotDone("it was not begun again: the agent's working time is used up");
    const cut = new AbortController();
    const end = () => cut.abort(new UsageLimitError("The agent's working time is used up.", this.#keeper.now()));
    // Used up before it, or in the pause after an earlier try: this one is not begun.
    if (this.#leftMs() <= 0 && (await this.#timeLeft()) <= 0) end();
    const either = AbortSignal.any([signal, cut.signal]);
    const cancel = this.#watch(end);
    try {
      either.throwIfAborted();
      this.begun = true;
      // Code that does not listen to its signal never ends; the timer must.
      return await Promise.race([call(either), rejectOn(either)]);
    } catch (error) {
      if (!cut.signal.aborted || signal.aborted) throw error;
      await this.#keeper.countTime(this.#reservation);
      throw (this.up = cut.signal.reason as UsageLimitError);
    } finally {
      cancel();
    }
  }

  #leftMs(): number {
    return this.#until - this.#keeper.now();
  }

  /** As the state has it now. One that cannot be read says nothing of more time. */
  #timeLeft(): Promise<number> {
    return this.#keeper.timeLeft(this.#reservation).catch(() => 0);
  }

  #watch(cut: () => void): () => void {
    let over = false;
    let cancel = () => undefined as void;
    const arm = (leftMs: number) => {
      if (!over && leftMs !== Infinity) cancel = this.#keeper.timer(Math.max(leftMs, 1), () => void look());
    };
    const look = async () => {
      const leftMs = await this.#timeLeft();
      if (over) return;
      if (leftMs <= 0) cut();
      else arm(leftMs);
    };
    arm(this.#leftMs());
    return () => {
      over = true;
      cancel();
    };
  }
}

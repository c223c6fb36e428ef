// How long the calls of a store try a server that is away. Invariant: once somebody waits for the end, all calls together wait
// for it `close` ms, from its loss or from then on; a single broken connection is still got past, however late it comes.
import type { Clock } from "../../base/clock.ts";
import type { Times } from "./driver.ts";

export class Absence {
  readonly #clock: Clock;
  readonly #times: Times;
  /** Since when somebody waits for the end. */
  #hurriedAt = Infinity;
  /** When the first try was lost of those that none got through after. */
  #lostAt = Infinity;

  constructor(clock: Clock, times: Times) {
    this.#clock = clock;
    this.#times = times;
  }

  hurry(): void {
    this.#hurriedAt = Math.min(this.#hurriedAt, this.#clock.monotonic());
  }

  /** A try got through. */
  over(): void {
    this.#lostAt = Infinity;
  }

  /** A try was lost, of a call that began at `start` (monotonic): whether it tries again. */
  triesOn(start: number): boolean {
    const now = this.#clock.monotonic();
    this.#lostAt = Math.min(this.#lostAt, now);
    return now < Math.min(start + this.#times.patience, Math.max(this.#hurriedAt, this.#lostAt) + this.#times.close);
  }
}

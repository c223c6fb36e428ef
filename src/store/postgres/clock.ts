// The server's time, told without asking: from when each answer with a server time left and came, the difference to this
// machine's monotonic clock is known within an interval. Invariant: the time never goes back, unless the server's own
// clock did by more than a moment.
import type { Clock } from "../../base/clock.ts";

/** How far two clocks may drift apart: a thousandth is more than any quartz does. */
const DRIFT = 1e-3;
/** A difference beyond this, in ms, is another server or a clock that was set; within it, time waits for the server to catch up. */
const STEP_MS = 1_000;

export class ServerClock implements Clock {
  readonly #local: Clock;
  /** The server's time minus the local monotonic time lies between these. */
  #low = -Infinity;
  #high = Infinity;
  #at = 0;
  #last = -Infinity;

  constructor(local: Clock) {
    this.#local = local;
  }

  monotonic(): number {
    return this.#local.monotonic();
  }

  timer(ms: number, fn: () => void, hold?: boolean): () => void {
    return this.#local.timer(ms, fn, hold);
  }

  /** Takes in that the server said `time` (ms) in an answer to what was sent at `sent` and came at `received` (monotonic). */
  measured(time: number, sent: number, received: number): void {
    const drift = (received - this.#at) * DRIFT;
    const low = Math.max(this.#low - drift, time - received);
    const high = Math.min(this.#high + drift, time - sent);
    // No time fits both what was known and what was said: the server's clock was set, or another server answers.
    const stepped = low > high;
    this.#low = stepped ? time - received : low;
    this.#high = stepped ? time - sent : high;
    this.#at = received;
  }

  now(): number {
    const offset = Number.isFinite(this.#low) ? (this.#low + this.#high) / 2 : 0;
    const now = Math.floor(this.#local.monotonic() + offset);
    if (now >= this.#last || this.#last - now > STEP_MS) this.#last = now;
    return this.#last;
  }
}

// Time, as something passed in. The only file that touches Date.now and timers, so the whole system can run on a
// clock that a test moves by hand.

export type Clock = {
  /** Milliseconds since 1970, by the wall. */
  now(): number;
  /** Milliseconds that never go back and do not jump; only differences mean something. */
  monotonic(): number;
  /** Calls `fn` once after `ms`. The returned function cancels it. A timer never keeps the process alive by itself unless `hold`. */
  timer(ms: number, fn: () => void, hold?: boolean): () => void;
};

/** Longest delay setTimeout takes; beyond it Node fires at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  timer(ms, fn, hold = true) {
    const handle = setTimeout(fn, Math.min(Math.max(ms, 0), TIMER_MAX_MS));
    if (!hold) handle.unref();
    return () => clearTimeout(handle);
  },
};

/** Waits `ms`; rejects with the signal's reason when it is aborted first. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const cancel = clock.timer(ms, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    const onAbort = () => {
      cancel();
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** A clock that stands still until `advance` moves it; timers fire in order of their time. */
export type ManualClock = Clock & {
  /** Moves time on by `ms`, firing every timer on the way and letting promises settle between them. */
  advance(ms: number): Promise<void>;
  /** Jumps the wall clock without firing timers, as NTP or a resumed laptop does. */
  jump(ms: number): void;
  /** How many timers wait. */
  readonly pending: number;
};

export function manualClock(startMs = Date.UTC(2026, 0, 1)): ManualClock {
  let elapsed = 0;
  let offset = startMs;
  let nextId = 0;
  const timers = new Map<number, { at: number; fn: () => void }>();
  const settle = async () => {
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  };
  return {
    now: () => offset + elapsed,
    monotonic: () => elapsed,
    timer(ms, fn) {
      const id = nextId++;
      timers.set(id, { at: elapsed + Math.max(ms, 0), fn });
      return () => void timers.delete(id);
    },
    async advance(ms) {
      const end = elapsed + ms;
      await settle();
      for (;;) {
        const due = [...timers].filter(([, t]) => t.at <= end).sort((a, b) => a[1].at - b[1].at || a[0] - b[0])[0];
        if (!due) break;
        timers.delete(due[0]);
        elapsed = Math.max(elapsed, due[1].at);
        due[1].fn();
        await settle();
      }
      elapsed = end;
      await settle();
    },
    jump(ms) {
      offset += ms;
    },
    get pending() {
      return timers.size;
    },
  };
}

/**
 * The texts of the last instants that were asked for, by their number modulo the length: a flush stamps hundreds of records
 * alike, and they share one text.
 */
const instants: { at: number; text: string }[] = Array.from({ length: 64 }, () => ({ at: NaN, text: "" }));

/** ISO 8601 UTC with `Z` and milliseconds, the only form of time in records. Throws a RangeError for what is no time. */
export function iso(ms: number): string {
  const at = Math.floor(ms);
  const instant = instants[at & 63]!;
  if (instant.at !== at) {
    instant.text = isoText(at);
    instant.at = at;
  }
  return instant.text;
}

const DAY_MS = 86_400_000;
/** The last instant that Date knows, in the first millisecond of its day. */
const LAST = 8.64e15;
let day = NaN;
let date = "";

/** Only the date is asked of `Date`, once a day: its whole text takes ten times as long as the time of day put together here. */
function isoText(at: number): string {
  const today = Math.floor(at / DAY_MS);
  if (today !== day || at > LAST) {
    date = new Date(at).toISOString().slice(0, -"00:00:00.000Z".length);
    day = today;
  }
  const ms = at - today * DAY_MS;
  const seconds = Math.floor(ms / 1_000);
  return `${date}${two(Math.floor(seconds / 3_600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}.${String(ms % 1_000).padStart(3, "0")}Z`;
}

const two = (n: number): string => (n < 10 ? `0${n}` : String(n));

/** Milliseconds of an ISO time; NaN when it is not one. */
export function parseIso(text: string): number {
  return Date.parse(text);
}

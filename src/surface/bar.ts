// The bar of a run on a terminal: done, how fast, how long still. Drawn on stderr below the lines; cleared before each.
import type { Clock } from "../base/clock.ts";
import { formatDuration } from "../base/duration.ts";
import { addPace, etaMs, percent, type Pace } from "../core/progress.ts";
import type { Io } from "./io.ts";

export type Bar = { started(id: number): void; ended(id: number, completed: boolean): void; draw(): void; clear(): void };

const WIDTH = 24;

export function bar(io: Io, clock: Clock, run: { total: number; done: number; concurrency: number }): Bar {
  const starts = new Map<number, number>();
  let pace: Pace = [];
  let done = run.done;
  return {
    started: (id) => void starts.set(id, clock.monotonic()),
    ended(id, completed) {
      const start = starts.get(id);
      starts.delete(id);
      if (!completed) return;
      done++;
      if (start !== undefined) pace = addPace(pace, clock.monotonic() - start);
    },
    draw() {
      const filled = run.total === 0 ? 0 : Math.round((done / run.total) * WIDTH);
      const eta = etaMs(pace, run.total - done, run.concurrency);
      io.err(`\r[${"█".repeat(filled)}${"░".repeat(WIDTH - filled)}] ${percent(done, run.total)}% ${done}/${run.total}${eta === null || eta === 0 ? "" : `, about ${formatDuration(eta)} left`}`);
    },
    clear: () => io.err("\r\u001b[2K"),
  };
}

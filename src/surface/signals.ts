// SIGINT, SIGTERM and SIGHUP alike, for as long as a process works: counted, handed on, and remembered for the exit code.
// Output that nobody reads any more counts as a SIGPIPE, which Node itself ignores.
import { constants } from "node:os";
import type { Io } from "./io.ts";

const SIGNALS: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];

export type Signals = { readonly received: NodeJS.Signals | null; off(): void };

/** Calls back with each signal and how many there have been. */
export function onSignals(io: Pick<Io, "unread">, listener: (signal: NodeJS.Signals, n: number) => void): Signals {
  let received: NodeJS.Signals | null = null;
  let n = 0;
  const handler = (signal: NodeJS.Signals) => {
    received ??= signal;
    listener(signal, ++n);
  };
  const unread = () => handler("SIGPIPE");
  for (const signal of SIGNALS) process.on(signal, handler);
  io.unread?.addEventListener("abort", unread);
  return {
    get received() {
      return received;
    },
    off() {
      for (const signal of SIGNALS) process.off(signal, handler);
      io.unread?.removeEventListener("abort", unread);
    },
  };
}

/** The exit code by which shells know a signal. */
export function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/** What a run says when it is told to stop while `n` tasks are in progress. */
export function stopLine(signal: NodeJS.Signals, n: number): string {
  const why = signal === "SIGPIPE" ? "Nobody reads the output any more" : signal;
  if (n === 0) return `${why}: no new tasks.`;
  const [tasks, them] = n === 1 ? ["the task", "it"] : [`${n} tasks`, "them"];
  return `${why}: no new tasks; waiting for ${tasks} in progress.${signal === "SIGPIPE" ? "" : ` Once more stops ${them} now.`}`;
}

// SIGINT, SIGTERM and SIGHUP alike, for as long as a process works: counted, handed on, and remembered for the exit code.

const SIGNALS: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];

export type Signals = { readonly received: NodeJS.Signals | null; off(): void };

/** Calls back with each signal and how many there have been. */
export function onSignals(listener: (signal: NodeJS.Signals, n: number) => void): Signals {
  let received: NodeJS.Signals | null = null;
  let n = 0;
  const handler = (signal: NodeJS.Signals) => {
    received ??= signal;
    listener(signal, ++n);
  };
  for (const signal of SIGNALS) process.on(signal, handler);
  return {
    get received() {
      return received;
    },
    off() {
      for (const signal of SIGNALS) process.off(signal, handler);
    },
  };
}

/** The exit code by which shells know a signal. */
export function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + ({ SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as Record<string, number>)[signal]!;
}

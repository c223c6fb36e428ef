// Aborts as events. Invariant: a signal that was aborted before anybody listened counts like one that is aborted later.

export function whenAborted(signal: AbortSignal, then: () => void): void {
  if (signal.aborted) then();
  else signal.addEventListener("abort", then, { once: true });
}

/** Rejects with the signal's reason once it is aborted. */
export function rejectOn(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => whenAborted(signal, () => reject(signal.reason as Error)));
}

// Changes as they happen, as server-sent events. Each event says that something changed and how much there is of everything;
// what exactly, the reader asks. Invariant: ids count up; a reader that comes back with the last one it saw is told of what
// it missed, and one whose id this process never gave is told to load everything again.
import { iso, type Clock } from "../base/clock.ts";
import { LIMITS } from "../base/limits.ts";
import type { Handles } from "./handles.ts";

/** Hints within this time become one event: a busy state would else send thousands. */
const GATHER_MS = 150;
/** How often it is looked behind the hints, which are no promise. */
const LOOK_MS = 3_000;
/** A comment so often, so that what stands between does not close the connection. */
const ALIVE_MS = 15_000;
/** A reader that has so many bytes before it is closed; it comes back and is told what it missed. */
const BEHIND_BYTES = 1 << 16;

export type Live = {
  /** The stream for a reader that last saw the event `lastId`; null when there are too many readers. `signal` ends it. */
  stream(lastId: string | null, signal: AbortSignal): ReadableStream<Uint8Array> | null;
  /** Calls back with each change, until the returned function is called. */
  watch(listener: () => void): () => void;
  close(): void;
};

type Reader = { readonly send: (text: string) => void; readonly end: () => void };

export function makeLive(handles: Pick<Handles, "reading">, clock: Clock, boot: string): Live {
  const readers = new Set<Reader>();
  const listeners = new Set<() => void>();
  let n = 0;
  let shown = "";
  let watching: (() => void) | null = null;
  const block = (event: string) => `id: ${boot}-${n}\nevent: ${event}\ndata: ${dataOf(shown, clock)}\n\n`;

  const look = async (hinted: boolean): Promise<void> => {
    const now = await countsOf(handles);
    if (watching === null || (now === shown && !hinted)) return;
    shown = now;
    n++;
    for (const listener of listeners) listener();
    for (const reader of readers) reader.send(block("change"));
  };
  const watch = (): void => {
    if (watching !== null) return;
    // Nobody looked until now: whatever was said before may have been overtaken.
    n++;
    watching = watchState(handles, clock, look, () => readers.forEach((reader) => reader.send(": alive\n\n")));
  };
  const leave = (): void => {
    if (readers.size + listeners.size > 0) return;
    watching?.();
    watching = null;
  };
  const greet = async (reader: Reader, lastId: string | null): Promise<void> => {
    const before = n;
    const counts = await countsOf(handles).catch(() => shown);
    reader.send("retry: 1000\n\n");
    const strange = lastId !== null && !lastId.startsWith(`${boot}-`);
    // A change that came meanwhile was told to this reader as well.
    if (n !== before && !strange) return;
    shown = counts;
    reader.send(lastId === `${boot}-${n}` ? ": nothing missed\n\n" : block(strange ? "reload" : "change"));
  };

  return {
    stream: (lastId, signal) => (readers.size >= LIMITS.liveReaders ? null : readerStream(readers, signal, leave, (reader) => {
      watch();
      void greet(reader, lastId);
    })),
    watch(listener) {
      listeners.add(listener);
      watch();
      return () => {
        listeners.delete(listener);
        leave();
      };
    },
    close() {
      for (const reader of [...readers]) reader.end();
      listeners.clear();
      leave();
    },
  };
}

/** A stream whose reader is one of `readers` for as long as it is read. */
function readerStream(readers: Set<Reader>, signal: AbortSignal, left: () => void, begun: (reader: Reader) => void): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let reader: Reader;
  return new ReadableStream<Uint8Array>({
    start(controller) {
      const end = () => {
        if (!readers.delete(reader)) return;
        controller.close();
        left();
      };
      const send = (text: string) => {
        if (!readers.has(reader)) return;
        controller.enqueue(encoder.encode(text));
        if ((controller.desiredSize ?? 0) < -BEHIND_BYTES) end();
      };
      reader = { send, end };
      readers.add(reader);
      signal.addEventListener("abort", end, { once: true });
      begun(reader);
    },
    cancel() {
      if (readers.delete(reader)) left();
    },
  });
}

/** Looks soon after each hint, and now and then without one; what cannot be read this time is read the next. */
function watchState(handles: Pick<Handles, "reading">, clock: Clock, look: (hinted: boolean) => Promise<void>, alive: () => void): () => void {
  let ended = false;
  let soon: (() => void) | null = null;
  let unwatch: (() => void) | null = null;
  let later = () => {};
  let aliveAt = clock.monotonic() + ALIVE_MS;
  const hint = () => {
    soon ??= clock.timer(GATHER_MS, () => {
      soon = null;
      void look(true).catch(() => undefined);
    }, false);
  };
  const listen = async () => {
    const state = await handles.reading();
    if (!ended && unwatch === null) unwatch = state.watch(hint);
  };
  const poll = () => {
    later = clock.timer(LOOK_MS, () => {
      void look(false).catch(() => undefined);
      if (unwatch === null) void listen().catch(() => undefined);
      if (clock.monotonic() >= aliveAt) {
        aliveAt = clock.monotonic() + ALIVE_MS;
        alive();
      }
      poll();
    }, false);
  };
  void listen().catch(() => undefined);
  poll();
  return () => {
    ended = true;
    soon?.();
    later();
    unwatch?.();
  };
}

/** How much there is of everything, from indexes. */
async function countsOf(handles: Pick<Handles, "reading">): Promise<string> {
  const { committer: { store } } = await handles.reading();
  const [tasks, decisions] = await Promise.all([store.count("task", { index: "status" }, "status"), store.count("decision", { index: "status", equals: { status: "open" } })]);
  return JSON.stringify({ tasks, decisions });
}

const dataOf = (counts: string, clock: Clock): string => `{"at":"${iso(clock.now())}",${counts.slice(1)}`;

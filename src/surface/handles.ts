// A state as a server holds it: one handle that reads and one that writes, each opened when it is first needed. Invariant:
// a call that only reads goes through the handle that cannot write, so readers, however many, take no lock from a writer.
import type { Call, Operation } from "../operations.ts";
import type { Here, State } from "../state.ts";
import { documentOf, type Document } from "./document.ts";
import type { Shell } from "./shell.ts";

export type Handles = {
  readonly location: string;
  reading(): Promise<State>;
  /** `create`: it may be made when it is not there. */
  writing(create: boolean): Promise<State>;
  here(): Promise<Here>;
  close(): Promise<void>;
};

export function handlesOf(shell: Pick<Shell, "location" | "exists" | "open" | "here">): Handles {
  let reader: Promise<State> | null = null;
  /** Read as empty: nothing was there when it was opened. */
  let empty: Promise<State> | null = null;
  let writer: Promise<State> | null = null;
  const forget = (state: Promise<State>): void => {
    if (reader === state) reader = null;
    if (empty === state) empty = null;
    if (writer === state) writer = null;
  };
  const opened = (open: Promise<State>): Promise<State> => {
    // What could not be opened once may open later.
    open.catch(() => forget(open));
    return open;
  };
  return {
    location: shell.location(),
    reading() {
      if (reader) return reader;
      if (!shell.exists()) return (empty ??= opened(shell.open({ readOnly: true, quiet: true })));
      void empty?.then((state) => state.close(), () => undefined);
      empty = null;
      return (reader = opened(shell.open({ readOnly: true, quiet: true })));
    },
    writing: (create) => (writer ??= opened(shell.open({ create }))),
    here: () => shell.here(),
    async close() {
      await Promise.all([reader, empty, writer].map((state) => state?.then((open) => open.close(), () => undefined)));
    },
  };
}

/** Runs an operation for a door that speaks JSON, and gives its document. */
export async function perform(handles: Handles, operation: Operation, input: { readonly [name: string]: unknown }, { actor, ...call }: Call & { readonly actor?: string } = {}): Promise<Document> {
  if (operation.at) return documentOf(operation, input, await operation.at(await handles.here(), input));
  const state = operation.effect === "read" ? await handles.reading() : await handles.writing(operation.creates === true);
  return documentOf(operation, input, await operation.run(actor === undefined ? state : state.as(actor), input, call));
}

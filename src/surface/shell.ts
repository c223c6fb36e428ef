// What every command needs from the command line around it: the global flags, the state they name, and one way to fail.
// Invariant: a command that only reads creates and writes nothing, and a state is only ever created by a command that may.
import { readFileSync } from "node:fs";
import { createColors } from "picocolors";
import { ERROR_CODES, PawlError } from "../base/errors.ts";
import type { Here, State } from "../state.ts";
import type { Ask } from "../worker/person.ts";
import { errorDocument, pawlErrorOf, type Document } from "./document.ts";
import { escapeText } from "./escape.ts";
import type { Io } from "./io.ts";
import { locate, shownUrl } from "./location.ts";

/** The flags every command takes. */
export type Globals = { readonly state?: string; readonly json: boolean; readonly actor?: string };

export type Shell = {
  readonly io: Io;
  globals(): Globals;
  /** Where the state is, or would be created; for people, without a password. */
  location(): string;
  /** The same as it was given, for what opens it. */
  url(): string;
  exists(): boolean;
  /** Opens the state. Without `create` or `readOnly` it must be there; read-only, what is not there reads as empty. */
  open(options: { create?: boolean; readOnly?: boolean; quiet?: boolean; /** Another state than the one that is meant. */ at?: string }): Promise<State>;
  /** Where operations on places stand; nothing is opened. */
  here(): Promise<Here>;
  /** Sets the exit code of the command. */
  exit(code: number): void;
  /** Prints what went wrong and returns its exit code. */
  fail(error: unknown): number;
  /** One line on stderr, also in JSON. */
  notice(line: string): void;
  /** Asks the person at the terminal; absent when there is none. */
  readonly ask?: Ask;
};

/** The version of this package. */
export function version(): string {
  return (JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string }).version;
}

export function shellOf(io: Io, globals: () => Globals, exit: (code: number) => void): Shell {
  const notice = (line: string) => {
    if (globals().json) io.err(documentText("notice", { message: line }));
    else io.err(`pawl: ${escapeText(line)}\n`);
  };
  return {
    io,
    globals,
    exit,
    notice,
    location: () => shownUrl(locate(io, globals().state).url),
    url: () => locate(io, globals().state).url,
    exists: () => locate(io, globals().state).exists,
    // What is shown is not all there was, and no script may take it for that.
    open: (options) => open(io, globals(), notice, (error) => exit(sayError(io, globals().json, error)), options),
    here: () => here(io, globals(), notice),
    fail: (error) => sayError(io, globals().json, error),
    ...(io.tty && process.stdin.isTTY ? { ask } : {}),
  };
}

async function open(io: Io, globals: Globals, notice: (line: string) => void, damaged: (error: PawlError) => void, options: { create?: boolean; readOnly?: boolean; quiet?: boolean; at?: string }): Promise<State> {
  const place = locate(io, options.at ?? globals.state);
  if (!place.exists && !options.create && !options.readOnly) throw noState(place.url);
  const { openState } = await import("../state.ts");
  const actor = globals.actor ?? io.env["PAWL_ACTOR"];
  const state = await openState(place.url, { notice, damaged, readOnly: options.readOnly === true, ...(actor ? { actor } : {}) });
  if (!place.exists && options.readOnly && !options.quiet) notice(`There is no state here yet (${place.url}). Make one: pawl add "Write a haiku", or: pawl run tasks.txt`);
  return state;
}

async function here(io: Io, globals: Globals, notice: (line: string) => void): Promise<Here> {
  const { hereAt } = await import("../state.ts");
  const actor = globals.actor ?? io.env["PAWL_ACTOR"];
  return hereAt(locate(io, globals.state).url, { notice, ...(actor ? { actor } : {}) });
}

function noState(url: string): PawlError {
  return new PawlError("not_found", `There is no state here (${url}).`, { next: 'Make one: pawl add "Write a haiku". Or name another: --state PATH, PAWL_STATE.', details: { state: url } });
}

/** One JSON document on one line. What a terminal would act on is escaped: it reads the same as JSON. */
export function documentText(kind: string, data: unknown, more: object = {}): string {
  return lineOf({ schema_version: 1, kind, data, ...more });
}

export function lineOf(document: Document): string {
  return `${escapeText(JSON.stringify(document))}\n`;
}

/** Prints what went wrong and returns its exit code. */
export function sayError(io: Io, json: boolean, thrown: unknown): number {
  const error = pawlErrorOf(thrown);
  if (json) {
    io.err(lineOf(errorDocument(error)));
  } else {
    const { red, dim } = createColors(io.errColor);
    const stack = error.code === "internal" && thrown instanceof Error && thrown.stack ? `${escapeText(thrown.stack)}\n` : "";
    io.err(`${red("error:")} ${escapeText(error.message)}\n${error.next ? `${dim("next:")} ${escapeText(error.next)}\n` : ""}${stack}`);
  }
  return ERROR_CODES[error.code].exit;
}

async function ask(question: string, signal: AbortSignal): Promise<string> {
  const { createInterface } = await import("node:readline/promises");
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  try {
    const ended = new Promise<never>((_, reject) => {
      const gone = () => reject(new PawlError("waiting", "The terminal's input ended before the question was answered.", { next: "Settle it later: pawl inbox." }));
      // A terminal that hangs up is an error of its input.
      lines.once("close", gone).once("error", gone);
    });
    return await Promise.race([lines.question(question, { signal }), ended]);
  } finally {
    lines.close();
  }
}

// What an operation is: something a person or a program can do with a state, declared once for every door. Its input is
// checked before it runs, so no door and no rule behind it meets a wrong one.
import { checkInput, type Input, type Params } from "../base/params.ts";
import type { Here, State } from "../state.ts";

/** What a door knows of the call that it passes on. */
export type Call = {
  /** Aborted when nobody waits for the answer any more. */
  readonly signal?: AbortSignal | undefined;
  /** The name under which a program that does not stay claims, when it gives none itself. */
  readonly caller?: string | undefined;
};

export type Operation = {
  /** noun_verb: the name in MCP and HTTP. */
  readonly name: string;
  /** The words of the command line, such as "add" or "batch list". */
  readonly command: string;
  readonly aliases?: readonly string[];
  readonly summary: string;
  /** "destructive" takes something away that no other operation brings back. */
  readonly effect: "read" | "write" | "destructive";
  /** A person's to do: it settles decisions or raises limits. A door that models use has it only when it was started so. */
  readonly settles?: true;
  /** May create the state when there is none. */
  readonly creates?: true;
  /** What `data` holds: names the rendering, and `kind` in JSON. */
  readonly output: string;
  readonly params: Params;
  readonly run: (state: State, input: { readonly [name: string]: unknown }, call?: Call) => Promise<unknown>;
  /** A list that is read page by page, with `limit` and `after`: how many records a page holds, and the field to go on by. */
  readonly page?: { readonly limit: number; readonly by: string };
  /** Instead of an open state it needs only the place of one, which may be damaged, or not there. A door that has one may run it so. */
  readonly at?: (here: Here, input: { readonly [name: string]: unknown }) => Promise<unknown>;
  /** The path of another state than the one that is meant, on which it works with this input; null when it is that one. A door may open it itself. */
  readonly elsewhere?: (input: { readonly [name: string]: unknown }) => string | null;
  /** What a command line prints as it stands, byte for byte, when nobody looks at it: it is redirected, and is not JSON. */
  readonly raw?: (data: unknown) => string | Uint8Array;
  /** A line for people beside what came out. */
  readonly hint?: (state: State, input: { readonly [name: string]: unknown }, data: unknown) => Promise<string | null> | null;
  /** The exit code of a command line for what came out, when it is not 0. */
  readonly exit?: (data: unknown) => number;
};

/** Declares an operation; its input is checked before `run` sees it. */
export function operation<P extends Params>(declared: Omit<Operation, "params" | "run"> & { readonly params: P; readonly run: (state: State, input: Input<P>, call: Call) => Promise<unknown> }): Operation {
  const { params, run, ...rest } = declared;
  return { ...rest, params, run: async (state, input, call = {}) => run(state, checkInput(params, input, rest.command), call) };
}

/** Declares an operation on the place of a state. Through an open state it works on that state's place. */
export function placeOperation<P extends Params>(declared: Omit<Operation, "params" | "run" | "at"> & { readonly params: P; readonly at: (here: Here, input: Input<P>) => Promise<unknown> }): Operation {
  const { params, at, ...rest } = declared;
  const checked = async (here: Here, input: { readonly [name: string]: unknown }) => at(here, checkInput(params, input, rest.command));
  return { ...rest, params, at: checked, run: (state, input) => checked(state.here(), input) };
}

/* ---------- what several operations take ---------- */

export const ID = { type: "ref", summary: "id or key of the task", required: true, arg: true } as const;
export const REASON = { type: "text", summary: "why; kept in the history" } as const;
export const TOKEN = { type: "text", summary: "token of the claim" } as const;

export function reasonOf(input: { readonly reason?: string }): { reason?: string } {
  return input.reason === undefined ? {} : { reason: input.reason };
}

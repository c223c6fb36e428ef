// What an operation is: something a person or a program can do with a state, declared once for every door. Its input is
// checked before it runs, so no door and no rule behind it meets a wrong one.
import { checkInput, type Input, type Params } from "../base/params.ts";
import type { Here, State } from "../state.ts";

export type Operation = {
  /** noun_verb: the name in MCP and HTTP. */
  readonly name: string;
  /** The words of the command line, such as "add" or "batch list". */
  readonly command: string;
  readonly aliases?: readonly string[];
  readonly summary: string;
  /** "destructive" takes something away that no other operation brings back. */
  readonly effect: "read" | "write" | "destructive";
  /** May create the state when there is none. */
  readonly creates?: true;
  /** What `data` holds: names the rendering, and `kind` in JSON. */
  readonly output: string;
  readonly params: Params;
  readonly run: (state: State, input: { readonly [name: string]: unknown }) => Promise<unknown>;
  /** Instead of an open state it needs only the place of one, which may be damaged, or not there. A door that has one may run it so. */
  readonly at?: (here: Here, input: { readonly [name: string]: unknown }) => Promise<unknown>;
  /** A line for people beside what came out. */
  readonly hint?: (state: State, input: { readonly [name: string]: unknown }, data: unknown) => Promise<string | null> | null;
  /** The exit code of a command line for what came out, when it is not 0. */
  readonly exit?: (data: unknown) => number;
};

/** Declares an operation; its input is checked before `run` sees it. */
export function operation<P extends Params>(declared: Omit<Operation, "params" | "run"> & { readonly params: P; readonly run: (state: State, input: Input<P>) => Promise<unknown> }): Operation {
  const { params, run, ...rest } = declared;
  return { ...rest, params, run: async (state, input) => run(state, checkInput(params, input, rest.command)) };
}

/** Declares an operation on the place of a state. Through an open state it works on that state's place. */
export function placeOperation<P extends Params>(declared: Omit<Operation, "params" | "run" | "at"> & { readonly params: P; readonly at: (here: Here, input: Input<P>) => Promise<unknown> }): Operation {
  const { params, at, ...rest } = declared;
  const checked = async (here: Here, input: { readonly [name: string]: unknown }) => at(here, checkInput(params, input, rest.command));
  return { ...rest, params, at: checked, run: (state, input) => checked(state.here(), input) };
}

/* ---------- what several operations take ---------- */

export const ID = { type: "text", summary: "id or key of the task", required: true, arg: true } as const;
export const REASON = { type: "text", summary: "why; kept in the history" } as const;
export const TOKEN = { type: "text", summary: "the token of the claim" } as const;

export function reasonOf(input: { readonly reason?: string }): { reason?: string } {
  return input.reason === undefined ? {} : { reason: input.reason };
}

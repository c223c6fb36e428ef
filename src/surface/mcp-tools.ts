// The operations as tools of a model: which of them are offered, what their schemas say, how a call is run. Invariant: a model
// is never offered what only a person should do, nor what destroys, unless the server was started so; and a tool that is not
// offered cannot be called.
import { isPawlError, messageOf, PawlError } from "../base/errors.ts";
import { redactText } from "../base/redact.ts";
import { inputSchema, type JsonSchema } from "../base/params-schema.ts";
import { operationOfName, OPERATIONS, type Operation } from "../operations.ts";
import { errorDocument, pawlErrorOf, type Document } from "./document.ts";
import { errorInWords, toolWords } from "./door-words.ts";

export type ToolOptions = {
  /** Every tool, not only those a coding agent needs. */
  readonly all: boolean;
  readonly allowDecisions: boolean;
  readonly allowDestructive: boolean;
};

/** What a coding agent needs; together their schemas stay small, because a client sends them with every request. */
const DEFAULT_TOOLS: readonly string[] = [
  "task_add", "task_list", "task_show", "task_claim", "task_complete", "task_fail", "task_release", "decision_ask", "why", "prime", "memory_store", "memory_search",
];

/** What people say of an operation and a model should know besides. */
const NOTES: { readonly [tool: string]: string } = {
  task_claim: "Held for an hour from your last call; a task you hold already is given back with its token.",
  task_complete: "Pass the token of your claim. The result says what was done.",
  prime: "Call it first: tasks, claims with their tokens, decisions, rules.",
};

export type Tool = { readonly name: string; readonly description: string; readonly inputSchema: JsonSchema & { readonly type: "object" }; readonly annotations: { readonly [hint: string]: boolean } };

/** The operations that are offered, in a fixed order: clients cache the list. */
export function offered(options: ToolOptions): readonly Operation[] {
  const allowed = OPERATIONS.filter((operation) => mayBeOffered(operation, options));
  if (options.all) return allowed;
  return [...DEFAULT_TOOLS.flatMap((name) => allowed.filter((operation) => operation.name === name)), ...allowed.filter((operation) => !DEFAULT_TOOLS.includes(operation.name) && (operation.settles === true || operation.effect === "destructive"))];
}

/** A place as a whole is moved, copied and mended by people: it counts as destructive here. */
function mayBeOffered({ effect, settles, at }: Operation, { allowDecisions, allowDestructive }: ToolOptions): boolean {
  if (settles && !allowDecisions) return false;
  return allowDestructive || !(effect === "destructive" || at !== undefined);
}

export function toolOf(operation: Operation): Tool {
  const { name, summary, effect, params } = operation;
  const note = NOTES[name];
  const hints = { readOnlyHint: effect === "read", ...(effect === "read" ? {} : { destructiveHint: effect === "destructive" }), openWorldHint: false };
  return { name, description: note === undefined ? summary : `${summary}. ${note}`, inputSchema: inputSchema(params, (param) => param.cliOnly === true) as Tool["inputSchema"], annotations: hints };
}

/** The operation behind a tool; throws what the caller is told when it is not offered. */
export function operationOf(name: string, options: ToolOptions): Operation {
  const operation = operationOfName(name);
  if (!operation) throw new PawlError("not_found", `There is no tool ${JSON.stringify(name.slice(0, 80))}.`, { next: "See tools/list." });
  if (mayBeOffered(operation, options) && (options.all || offered(options).includes(operation))) return operation;
  const flag = operation.settles && !options.allowDecisions ? "--allow-decisions" : mayBeOffered(operation, options) ? "--tools all" : "--allow-destructive";
  const why = flag === "--allow-decisions" ? "Only a person does this" : flag === "--tools all" ? "This tool is not offered" : "This takes something away that nothing brings back";
  throw new PawlError("usage", `${why}: ${name}.`, { next: flag === "--allow-decisions" ? "Leave it to a person: pawl inbox." : `A person can start the server with ${flag}.` });
}

/** What went wrong, as a model reads it: what, why and what next, with the tools it has. */
export function errorText(thrown: unknown, options: ToolOptions, called?: string): string {
  const operation = operationOfName(called);
  return redactText(JSON.stringify(errorDocument(errorInWords(pawlErrorOf(thrown), toolWords(offered(options)), operation)) satisfies Document));
}

export const isBug = (thrown: unknown): boolean => !isPawlError(thrown) || thrown.code === "internal" || messageOf(thrown) === "";

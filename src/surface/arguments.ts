// The words of a command line as the input of an operation: params become arguments and flags, "-" standard input, and JSON
// is read. Whether the values make sense is the operation's own check, the same for every door.
import { type Command, Option } from "commander";
import { isPawlError, PawlError } from "../base/errors.ts";
import { parseStrict } from "../base/json-text.ts";
import type { Param, Params } from "../base/params.ts";
import { decodeText } from "../core/task-list.ts";
import type { Io } from "./io.ts";

/** Declares the arguments and flags of `params` on their command. */
export function declareParams(command: Command, params: Params): void {
  for (const [name, param] of Object.entries(params)) {
    if (param.arg) command.argument(argumentName(name, param), described(param));
    else for (const option of optionsOf(name, param)) command.addOption(option);
  }
}

function argumentName(name: string, param: Param): string {
  const words = param.words ? `${name}...` : name;
  return param.required ? `<${words}>` : `[${words}]`;
}

function described(param: Param): string {
  return [param.summary, ...(param.stdin ? ["or - for standard input"] : []), ...(param.commas ? ["repeatable"] : []), ...(param.required && !param.arg ? ["required"] : [])].join("; ");
}

function optionsOf(name: string, param: Param): Option[] {
  if (param.type === "boolean") return [new Option(`--${name}`, param.summary)];
  const value = param.bare ? `[${valueName(name, param)}]` : `<${valueName(name, param)}>`;
  const option = new Option(`--${name} ${value}`, described(param));
  if (param.choices) option.choices(param.choices);
  if (param.type === "texts" || param.type === "refs") option.argParser((value: string, before: string[] | undefined) => [...(before ?? []), value]);
  return param.plain ? [option, new Option(`--${name}-json <json>`, `${param.summary}, as JSON`)] : [option];
}

function valueName(name: string, param: Param): string {
  if (param.plain) return "text";
  const names = { text: name, time: "time", integer: "n", number: "n", duration: "duration", json: "json", texts: param.commas ? "name=value" : name, ref: "id", refs: "ids", boolean: "" };
  return names[param.type];
}

/** The input of the operation, as far as it was given. */
export async function readParams(io: Io, command: Command, params: Params): Promise<{ [name: string]: unknown }> {
  const input: { [name: string]: unknown } = {};
  const words = command.processedArgs as (string | readonly string[] | undefined)[];
  const flags: { [name: string]: unknown } = Object.fromEntries(command.options.map((option) => [option.long!.slice(2), command.getOptionValue(option.attributeName())]));
  const stdin = standardInput(io);
  let position = 0;
  for (const [name, param] of Object.entries(params)) {
    const given = param.arg ? joined(words[position++]) : flags[name];
    const json = param.plain ? (flags[`${name}-json`] as string | undefined) : undefined;
    if (given !== undefined && json !== undefined) throw new PawlError("usage", `Use --${name} or --${name}-json, not both.`);
    if (json !== undefined) input[name] = parseJson(`${name}-json`, json === "-" ? await stdin() : json);
    if (given === undefined) continue;
    const value = param.bare && given === true ? "" : param.stdin && given === "-" ? await stdin() : given;
    input[name] = param.type === "json" && !param.plain ? parseJson(name, value as string) : value;
  }
  return input;
}

function joined(words: string | readonly string[] | undefined): string | undefined {
  if (typeof words === "string" || words === undefined) return words;
  return words.length === 0 ? undefined : words.join(" ");
}

/** Its text without the line end that `echo` puts behind it. It can be read only once. */
function standardInput(io: Io): () => Promise<string> {
  let read = false;
  return async () => {
    if (read) throw new PawlError("usage", "Standard input (-) can be used for one value only.");
    read = true;
    return decodeText(await io.stdin(), "stdin").replace(/(\r?\n)+$/, "");
  };
}

function parseJson(flag: string, text: string): unknown {
  try {
    return parseStrict(text, flag).value;
  } catch (error) {
    if (!isPawlError(error, "corrupt")) throw error;
    const { line, column, why } = error.details as { line: number; column: number; why: string };
    throw new PawlError("usage", `--${flag} is not JSON: ${why} (line ${line}, column ${column}).`, { next: `Write a text with its quotes: --${flag} '"a text"'.`, details: { param: flag } });
  }
}

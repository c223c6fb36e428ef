// What an operation takes, declared once: the command line makes flags and help of it, other doors their schemas, and the
// same check guards them all. Small on purpose: loading a schema library costs a short command more than all of Pawl.
import { parseDuration } from "./duration.ts";
import { PawlError } from "./errors.ts";
import { canonical, type Json } from "./json.ts";

export type ParamType = "text" | "integer" | "number" | "boolean" | "json" | "duration" | "time" | "texts" | "ref" | "refs";

export type Param = {
  readonly type: ParamType;
  readonly summary: string;
  readonly required?: true;
  readonly choices?: readonly string[];
  readonly min?: number;
  /** A positional argument of the command line. */
  readonly arg?: true;
  /** On a command line the last argument takes all words that are left. */
  readonly words?: true;
  /** On a command line its value may be left out; then it is empty. */
  readonly bare?: true;
  /** On a command line "-" is the text of standard input. */
  readonly stdin?: true;
  /** On a command line the value of this JSON is a text as it stands; `--NAME-json` takes JSON. */
  readonly plain?: true;
  /** Its items may hold commas: each is given by a flag of its own. */
  readonly commas?: true;
  /** Names a file or a state on the machine of the caller: a door to others keeps it within one folder. */
  readonly path?: true;
  /** Other doors do not offer it. */
  readonly cliOnly?: true;
};

export type Params = { readonly [name: string]: Param };

type ValueOf<P extends Param> = P["type"] extends "text" | "time" | "ref"
  ? string
  : P["type"] extends "integer" | "number" | "duration"
    ? number
    : P["type"] extends "boolean"
      ? boolean
      : P["type"] extends "texts"
        ? string[]
        : P["type"] extends "refs"
          ? (number | string)[]
          : Json;

/** The checked input of an operation with these params. Durations are ms. */
export type Input<P extends Params> = { readonly [N in keyof P as P[N] extends { required: true } ? N : never]: ValueOf<P[N]> } & {
  readonly [N in keyof P as P[N] extends { required: true } ? never : N]?: ValueOf<P[N]>;
};

/** The name of a parameter in JSON: snake_case as in records, a duration with its unit. Both names are read everywhere. */
export function wireName(name: string, param: Param): string {
  return `${name.replaceAll("-", "_")}${param.type === "duration" ? "_ms" : ""}`;
}

/** The declared name for a name as it was given; undefined when there is none. */
function declaredName(params: Params, given: string): string | undefined {
  if (Object.hasOwn(params, given)) return given;
  return Object.keys(params).find((name) => wireName(name, params[name]!) === given);
}

/** Checks and converts raw input (texts from a command line, values from JSON). Unknown names are refused. Throws `usage`. */
export function checkInput<P extends Params>(params: P, raw: { readonly [name: string]: unknown }, what: string): Input<P> {
  const result: { [name: string]: unknown } = {};
  for (const given of Object.keys(raw)) {
    if (raw[given] === undefined) continue;
    const name = declaredName(params, given);
    if (name === undefined) throw new PawlError("usage", `${what} takes no "${given}".`, { next: `It takes: ${Object.keys(params).map((known) => wireName(known, params[known]!)).join(", ") || "nothing"}.`, details: { param: given } });
    if (Object.hasOwn(result, name)) throw new PawlError("usage", `${what} was given ${name} twice.`, { next: "Give it once.", details: { param: given } });
    result[name] = convert(params[name]!, raw[given], given);
  }
  for (const name in params) {
    const given = result[name];
    if (params[name]!.required && (given === undefined || (typeof given === "string" && given.trim() === ""))) throw new PawlError("usage", `${what} needs ${params[name]!.arg ? "" : "--"}${name}: ${params[name]!.summary}.`, { next: `See: pawl ${what} --help`, details: { param: name } });
  }
  return result as Input<P>;
}

function convert(param: Param, value: unknown, name: string): unknown {
  switch (param.type) {
    case "text":
    case "time":
      return text(param, value, name);
    case "ref":
      return typeof value === "number" ? String(integer(param, value, name)) : text(param, value, name);
    case "integer":
      return integer(param, value, name);
    case "number":
      return number(param, value, name);
    case "duration":
      return typeof value === "number" ? integer(param, value, name) : parseDuration(text(param, value, name), { min: param.min ?? 1, name });
    case "boolean":
      if (typeof value !== "boolean") throw bad(name, value, "true or false");
      return value;
    case "texts":
      return many(param, value).map((item) => text(param, item, name));
    case "refs":
      return many(param, value).map((item) => (typeof item === "number" ? integer(param, item, name) : text(param, item, name)));
    case "json":
      return canonical(value, name);
  }
}

/** A list, or a text with commas between its items. */
function many(param: Param, value: unknown): unknown[] {
  const list = Array.isArray(value) ? value : [value];
  if (param.commas) return list;
  return list.flatMap((item) => (typeof item === "string" ? item.split(",").map((part) => part.trim()).filter((part) => part !== "") : [item]));
}

function text(param: Param, value: unknown, name: string): string {
  if (typeof value !== "string") throw bad(name, value, "a text");
  if (param.choices && !param.choices.includes(value)) throw bad(name, value, `one of ${param.choices.join(", ")}`);
  return value;
}

function integer(param: Param, value: unknown, name: string): number {
  const number = typeof value === "string" && /^[+-]?[0-9]{1,15}$/.test(value) ? Number(value) : value;
  if (!Number.isSafeInteger(number)) throw bad(name, value, "a whole number");
  if (param.min !== undefined && (number as number) < param.min) throw bad(name, value, `at least ${param.min}`);
  return number as number;
}

function number(param: Param, value: unknown, name: string): number {
  const read = typeof value === "string" && /^[+-]?([0-9]{1,15}(\.[0-9]{0,15})?|\.[0-9]{1,15})$/.test(value) ? Number(value) : value;
  if (typeof read !== "number" || !Number.isFinite(read)) throw bad(name, value, "a number");
  if (param.min !== undefined && read < param.min) throw bad(name, value, `at least ${param.min}`);
  return read;
}

function bad(name: string, value: unknown, wanted: string): PawlError {
  return new PawlError("usage", `${name} must be ${wanted}, not ${JSON.stringify(value)?.slice(0, 80)}.`, { details: { param: name } });
}

// What helps, in the words of another door: rules and stores say it as `pawl …` in `next`, and a model is told the tool it has
// instead, a program over HTTP the route. Both come from the operation table. Invariants: a command that the door does not have
// stays a command, and the text says that it is one; of messages, which may hold what a user wrote, only those of the checks of
// an operation's input are touched, up to what they quote.
import { NEXT, PawlError } from "../base/errors.ts";
import { wireName, type Param, type Params } from "../base/params.ts";
import { operationOfName, OPERATIONS, type Operation } from "../operations.ts";

type Input = { readonly [name: string]: unknown };

/** How a door says a call of an operation; null when it does not have it. */
export type DoorWords = (operation: Operation, input: Input) => string | null;

/** `POST /api/task_retry {"id":3}`; one that only reads as the address that a browser would open. */
export const routeWords: DoorWords = ({ name, effect }, input) => {
  if (effect !== "read") return `POST /api/${name}${jsonOf(input)}`;
  const query = Object.entries(input).map(([field, value]) => `${field}=${encodeURIComponent(String(value))}`);
  return `GET /api/${name}${query.length === 0 ? "" : `?${query.join("&")}`}`;
};

/** `task_retry {"id":3}`, for those tools that are offered; for a look that is not, one that shows the same. */
export function toolWords(offered: readonly Operation[]): DoorWords {
  return (operation, input) => {
    if (offered.includes(operation)) return `${operation.name}${jsonOf(input)}`;
    const other = offered.find(({ name }) => name === INSTEAD[operation.name]);
    return other === undefined ? null : `${other.name}${jsonOf(Object.fromEntries(Object.entries(input).filter(([field]) => Object.hasOwn(other.params, field))))}`;
  };
}

const INSTEAD: { readonly [operation: string]: string } = { history: "why", status: "prime", task_next: "task_list" };

const jsonOf = (input: Input): string => (Object.keys(input).length === 0 ? "" : ` ${JSON.stringify(input)}`);

/** An error as the door says it; `called` is the operation that failed, when one was. */
export function errorInWords(error: PawlError, words: DoorWords, called?: Operation): PawlError {
  const { code, message, next, details, cause } = error;
  const helped = called !== undefined && next === NEXT.usage && details?.["param"] !== undefined ? `See the schema of ${called.name}.` : inWords(called === undefined ? next : withFields(next, called), words);
  const inOther = new PawlError(code, called === undefined || code !== "usage" ? message : checkInWords(message, called), { next: helped, ...(details === undefined ? {} : { details }), ...(cause === undefined ? {} : { cause }) });
  if (error.stack !== undefined) inOther.stack = error.stack;
  return inOther;
}

/** Every command of pawl in the text in the words of the door. For a text that is Pawl's own alone. */
export function inWords(text: string, words: DoorWords): string {
  return text.replaceAll(COMMAND, (whole, before: string, quoted: string | undefined, plain: string | undefined) => {
    const line = quoted ?? plain!;
    const tokens = tokensOf(line);
    const operation = operationOf(tokens);
    if (operation === undefined) return isCommand(tokens[0]?.text) ? before + workedBy(tokens, words) + atTheCommandLine(line) : whole;
    if (/ --help$/.test(line)) return `${before}the schema of ${operation.name}`;
    const { input, end } = inputOf(operation, tokens);
    const said = words(operation, input);
    return before + (said ?? atTheCommandLine(line.slice(0, end))) + line.slice(end);
  });
}

/** A command line in a sentence: in backquotes, or up to where the sentence goes on. Quotes hold whatever stands in them. */
const COMMAND = /(^|[\s(:])(?:`pawl ([^`]+)`|pawl ((?:"[^"\n]*"|'[^'\n]*'|[^\s"'`.,;:()]|[.,;:](?!\s|\)|$)| (?=[^\s(]))+))/g;

/** What the command line has besides operations; a flag before the command belongs to all of them. */
const PROCESSES: ReadonlySet<string> = new Set(["run", "worker", "step", "wait", "ui", "mcp", "completion"]);
const isCommand = (word: string | undefined): boolean => word !== undefined && (PROCESSES.has(word) || word.startsWith("--"));

const atTheCommandLine = (line: string): string => `\`pawl ${line}\` on the command line`;

/** Who goes through a door works a queue or a batch by claiming from it; a list they cannot start. */
function workedBy(tokens: readonly Token[], words: DoorWords): string {
  const [command, ...rest] = tokens.map(({ text }) => text);
  if (!["run", "worker"].includes(command!) || rest[0]?.startsWith("--") !== true) return "";
  const after = (flag: string): string | undefined => rest[rest.indexOf(flag) + 1 || rest.length];
  const [queue, batch] = [after("--queue"), after("--resume")];
  const said = words(CLAIM, { ...(queue === undefined ? {} : { queue }), ...(batch === undefined ? {} : { batch }) });
  return said === null ? "" : `${said}, or `;
}

const CLAIM = operationOfName("task_claim")!;

type Token = { readonly text: string; readonly quoted: boolean; /** Behind it, in the line. */ readonly end: number };

function tokensOf(line: string): readonly Token[] {
  return [...line.matchAll(/"([^"\n]*)"|'([^'\n]*)'|\S+/g)].map((match) => ({ text: match[1] ?? match[2] ?? match[0], quoted: match[1] !== undefined || match[2] !== undefined, end: match.index + match[0].length }));
}

function operationOf(tokens: readonly Token[]): Operation | undefined {
  const [first = "", second = ""] = tokens.map(({ text }) => text);
  return OPERATIONS.find(({ command }) => command === `${first} ${second}`) ?? OPERATIONS.find(({ command, aliases }) => command === first || aliases?.includes(first));
}

/** The arguments and flags behind the command, as far as they are some, and where in the line they end. */
function inputOf({ command, params }: Operation, tokens: readonly Token[]): { readonly input: Input; readonly end: number } {
  let at = tokens.length > 1 && command === `${tokens[0]!.text} ${tokens[1]!.text}` ? 2 : 1;
  const input: { [name: string]: unknown } = {};
  const places = Object.keys(params).filter((name) => params[name]!.arg);
  for (; at < tokens.length; at++) {
    const { text, quoted } = tokens[at]!;
    if (text === "--json") continue;
    const flag = !quoted && text.startsWith("--") ? flagOf(params, text.slice(2)) : null;
    if (flag === undefined) break;
    if (flag === null) {
      const place = places[0] !== undefined && isValue(tokens, at, params[places[0]]!) ? places.shift() : undefined;
      if (place === undefined) break;
      const from = at;
      while (params[place]!.words && !quoted && at + 1 < tokens.length && !tokens[at + 1]!.text.startsWith("--")) at++;
      input[wireName(place, params[place]!)] = valueOf(params[place]!, tokens.slice(from, at + 1).map((token) => token.text).join(" "));
      continue;
    }
    const param = params[flag]!;
    const given = param.type !== "boolean" && isValue(tokens, at + 1, param) ? tokens[++at]!.text : null;
    input[nameOf(flag, param)] = param.type === "boolean" ? true : valueOf(param, given ?? (param.bare ? "" : "…"));
  }
  return { input, end: tokens[at - 1]!.end };
}

/** The parameter behind a flag. */
function flagOf(params: Params, flag: string): string | undefined {
  return [flag, flag.replace(/-json$/, "")].find((name) => Object.hasOwn(params, name) && !params[name]!.arg);
}

/** A word of the sentence around it is none: "pawl edit 3 --depends-on with the ones that are there". */
function isValue(tokens: readonly Token[], at: number, { choices }: Param): boolean {
  const [token, after] = [tokens[at], tokens[at + 1]];
  if (token === undefined || token.quoted) return token !== undefined;
  if (token.text.startsWith("--")) return false;
  if (!/^[a-z]+$/.test(token.text) || choices?.includes(token.text)) return true;
  return after === undefined || (after.text.startsWith("--") && !after.quoted && !JOINS.has(token.text));
}

/** Between two flags, they belong to the sentence. */
const JOINS: ReadonlySet<string> = new Set(["and", "or"]);

/** A duration is given as it is written, under its short name. */
const nameOf = (name: string, param: Param): string => (param.type === "duration" ? name.replaceAll("-", "_") : wireName(name, param));

function valueOf({ type }: Param, text: string): unknown {
  if (["integer", "number", "ref", "refs"].includes(type) && /^\d+(\.\d+)?$/.test(text)) return Number(text);
  return text;
}

/** What a check of its input says of an operation by its command and its flags: by its name and its fields. What it quotes was given. */
function checkInWords(message: string, called: Operation): string {
  const { name, command } = called;
  if (![" needs ", " takes ", " was given "].some((verb) => message.startsWith(command + verb))) return message;
  const own = message.slice(command.length).split(/(?=["'`])/, 1)[0]!;
  return name + withFields(own, called) + message.slice(command.length + own.length);
}

/** Flags of the operation as its fields. */
function withFields(text: string, { params }: Operation): string {
  // Behind `pawl` stands a command line, whose flags are read with it.
  return text.replaceAll(/(^|[^\w`-])--([a-z][a-z-]*)/g, (whole, before: string, flag: string, offset: number) => {
    const field = flagOf(params, flag);
    return field === undefined || /\bpawl [^.;\n]*$/.test(text.slice(0, offset)) ? whole : before + wireName(field, params[field]!);
  });
}

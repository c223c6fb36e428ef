// The command line: a loop over the operation table, plus the commands that start a process. It converts words to input,
// calls the operation and prints what comes back; it decides nothing.
import { readFileSync } from "node:fs";
import { Command, CommanderError, Option } from "commander";
import { PawlError } from "../base/errors.ts";
import type { Param } from "../base/params.ts";
import { OPERATIONS, type Operation } from "../operations.ts";
import { addCompletionCommand } from "./completion.ts";
import { processIo, type Io } from "./io.ts";
import { render } from "./render.ts";
import { addProcessCommands } from "./run.ts";
import { sayError, shellOf, type Globals, type Shell } from "./shell.ts";

/** Runs one command line; returns its exit code. Everything it prints goes through `io`. */
export async function main(argv: readonly string[], io: Io = processIo()): Promise<number> {
  let code = 0;
  const program = build(io, (exit) => (code = exit));
  try {
    await program.parseAsync([...argv], { from: "user" });
    return code;
  } catch (error) {
    return said(io, argv, error);
  }
}

function said(io: Io, argv: readonly string[], error: unknown): number {
  const json = argv.includes("--json");
  if (!(error instanceof CommanderError)) return sayError(io, json, error);
  if (error.exitCode === 0) return 0;
  const message = error.message.replace(/^error: /, "").split("\n");
  return sayError(io, json, new PawlError("usage", `${message[0]}.`.replace("..", "."), { next: message[1] ?? "See what there is: pawl --help." }));
}

export function build(io: Io, exit: (code: number) => void): Command {
  const program = new Command("pawl")
    .description("State management for AI agents and task loops: tasks that survive any crash and resume where they stopped.")
    .version(version(), "-V, --version")
    .option("--state <path>", "the state: a .json or .db path (default: $PAWL_STATE, else the nearest .pawl/state.json)")
    .option("--actor <name>", "who acts, for the history (default: $PAWL_ACTOR, else $USER)")
    .option("--json", "print one JSON document: {schema_version, kind, data}")
    .enablePositionalOptions(false)
    .showSuggestionAfterError(true)
    .configureOutput({ writeOut: (text) => io.out(text), writeErr: () => undefined })
    .exitOverride();
  const globals = (): Globals => ({ json: false, ...(program.opts() as Partial<Globals>) });
  const shell = shellOf(io, globals, exit);
  for (const operation of OPERATIONS) addOperation(program, shell, operation);
  addProcessCommands(program, shell);
  addCompletionCommand(program, io);
  return program;
}

export function version(): string {
  const path = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
}

/** "batch list" is the command list of the group batch. */
function place(program: Command, words: readonly string[]): Command {
  if (words.length === 1) return program.command(words[0]!);
  const group = program.commands.find((command) => command.name() === words[0]) ?? program.command(words[0]!).description(`Commands about a ${words[0]}`);
  return group.command(words[1]!);
}

function addOperation(program: Command, shell: Shell, operation: Operation): void {
  const command = place(program, operation.command.split(" ")).description(operation.summary);
  for (const alias of operation.aliases ?? []) command.alias(alias);
  const args = Object.entries(operation.params).filter(([, param]) => param.arg);
  args.forEach(([name, param], i) => {
    // The last text takes the rest of the line, so that a description needs no quotes.
    const rest = i === args.length - 1 && (name === "description" || name === "answer") ? "..." : "";
    command.argument(param.required ? `<${name}${rest}>` : `[${name}${rest}]`, param.summary);
  });
  for (const [name, param] of Object.entries(operation.params)) if (!param.arg) command.addOption(optionOf(name, param));
  command.action(async (...values: unknown[]) => {
    const flags = values.at(-2) as { [flag: string]: unknown };
    const input = await inputOf(shell.io, operation, args.map(([name]) => name), values, flags);
    await perform(shell, operation, input);
  });
}

function optionOf(name: string, param: Param): Option {
  const flag = param.type === "boolean" ? `--${name}` : param.type === "texts" && name === "var" ? `--${name} <${name}...>` : `--${name} <${placeholder(name, param)}>`;
  const option = new Option(flag, param.summary);
  if (param.choices) option.choices(param.choices);
  return option;
}

function placeholder(name: string, param: Param): string {
  return { text: name, integer: "n", duration: "duration", json: "value", time: "time", texts: "list", integers: "ids", boolean: "" }[param.type];
}

/** The words of the line as the operation's input: "-" is standard input, JSON values are read, the rest stays text. */
async function inputOf(io: Io, operation: Operation, names: readonly string[], values: readonly unknown[], flags: { [flag: string]: unknown }): Promise<{ [name: string]: unknown }> {
  const input: { [name: string]: unknown } = {};
  for (let i = 0; i < names.length; i++) {
    const value = values[i];
    if (value !== undefined) input[names[i]!] = Array.isArray(value) ? value.join(" ") : value;
  }
  for (const [name, param] of Object.entries(operation.params)) {
    const value = flags[name.replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase())];
    if (value !== undefined && !param.arg) input[name] = param.type === "json" ? jsonOf(name, value as string) : value;
  }
  for (const name of ["description", "result"]) if (input[name] === "-") input[name] = new TextDecoder().decode(await io.stdin()).replace(/[\r\n]+$/, "");
  return input;
}

/** `--input` and `--value` are JSON; a result is text, which is what people and commands have. */
function jsonOf(name: string, text: string): unknown {
  if (name === "result") return text;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new PawlError("usage", `--${name} is not JSON: ${text.slice(0, 80)}`, { next: `Quote a text twice: --${name} '"text"'.` });
  }
}

async function perform(shell: Shell, operation: Operation, input: { [name: string]: unknown }): Promise<void> {
  const { json } = shell.globals();
  const reads = operation.effect === "read";
  if (reads && !shell.exists() && !json) shell.io.err(`There is no state at ${shell.location()} yet. Start one: pawl add "…", or pawl run tasks.txt --exec …\n`);
  const state = await shell.open({ readOnly: reads, create: operation.creates === true });
  try {
    const data = await operation.run(state, input);
    shell.io.out(json ? `${JSON.stringify({ schema_version: 1, kind: operation.output, data: forJson(operation.output, data) })}\n` : render(operation.output, data, { io: shell.io, now: state.clock.now() }));
  } finally {
    await state.close();
  }
}

/** Lists are arrays of records in JSON, whatever else the text shows. */
function forJson(output: string, data: unknown): unknown {
  return output === "history" ? (data as { transitions: unknown }).transitions : data;
}

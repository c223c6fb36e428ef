// The command line: a loop over the operation table, plus the commands that start a process. It converts words to input,
// calls the operation and prints what comes back; it decides nothing. What a short command does not need is not loaded.
import { Command, CommanderError } from "commander";
import { systemClock } from "../base/clock.ts";
import { isPawlError, NEXT, PawlError, withArticle } from "../base/errors.ts";
import { ownToken } from "../core/token.ts";
import { OPERATIONS, type Operation } from "../operations.ts";
import type { State } from "../state.ts";
import { declareParams, readParams } from "./arguments.ts";
import { documentOf, limitOf } from "./document.ts";
import { epilogue, examplesOf } from "./examples.ts";
import { processIo, type Io } from "./io.ts";
import { lineOf, sayError, shellOf, version, type Globals, type Shell } from "./shell.ts";

/** Runs one command line; returns its exit code. Everything it prints goes through `io`. */
export async function main(argv: readonly string[], io: Io = processIo()): Promise<number> {
  const code = await runLine(argv, io);
  const lost = await io.written?.();
  return lost ? sayError(io, asksJson(argv), lost) : code;
}

async function runLine(argv: readonly string[], io: Io): Promise<number> {
  let code = 0;
  try {
    const program = await build(argv, io, (exit) => (code ||= exit));
    if (argv.length === 0) program.outputHelp();
    else await program.parseAsync([...argv], { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    return sayError(io, asksJson(argv), error instanceof CommanderError ? usageOf(error, argv) : asTyped(error, argv));
  }
}

/** Told from the words: a line that could not be read may not have come as far as its --json. */
function asksJson(argv: readonly string[]): boolean {
  return beforeDashes(argv).includes("--json");
}

/** Lines longer than this are hard to read. */
const HELP_COLUMNS = 100;

/** The whole program, or what is needed for this line of it. */
export async function build(argv: readonly string[], io: Io, exit: (code: number) => void): Promise<Command> {
  const program = new Command("pawl")
    .description("Durable state for AI agents and task loops: tasks that survive any crash and resume where they stopped.")
    .version(version(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .option("--state <path>", "the state: a .json or .db path (default: $PAWL_STATE, else the nearest .pawl/state.json)")
    .option("--json", "print one JSON document: {schema_version, kind, data}; errors too, on stderr")
    .option("--actor <name>", "who acts, for the history (default: $PAWL_ACTOR, else $USER)")
    .addHelpCommand(new Command("help").argument("[command]").description("print help for a command").helpGroup("Shell:"))
    .configureHelp({ showGlobalOptions: true, subcommandTerm: (command) => [[command.name(), ...command.aliases()].join("|"), ...command.registeredArguments.map(argumentTerm)].join(" ") })
    .configureOutput({ writeOut: (text) => io.out(text), writeErr: () => undefined, getOutHelpWidth: () => Math.min(io.columns, HELP_COLUMNS) })
    .exitOverride()
    .addHelpText("after", epilogue());
  const globals = (): Globals => ({ ...(program.opts() as Omit<Globals, "json">), json: program.opts()["json"] === true });
  const shell = shellOf(io, globals, exit);
  const operations = operationsOf(wordsOf(argv)[0]);
  const whole = operations === OPERATIONS;
  if (whole) (await import("./run.ts")).addProcessCommands(program.commandsGroup("Run:"), shell);
  for (const operation of operations) addOperation(program, shell, operation);
  if (whole) (await import("./servers.ts")).addServerCommands(program.commandsGroup("Servers:"), shell);
  if (whole) (await import("./completion.ts")).addCompletionCommand(program.commandsGroup("Shell:"), io);
  return program;
}

function beforeDashes(argv: readonly string[]): readonly string[] {
  const dashes = argv.indexOf("--");
  return dashes < 0 ? argv : argv.slice(0, dashes);
}

/** The words of the line that are no flags; the first names its command. */
function wordsOf(argv: readonly string[]): string[] {
  return beforeDashes(argv).filter((word, i) => !word.startsWith("-") && !["--state", "--actor"].includes(argv[i - 1] ?? ""));
}

/** Those whose command begins with `word`; all when there is none, for help and for finding out what was meant. */
function operationsOf(word: string | undefined): readonly Operation[] {
  const found = OPERATIONS.filter(({ command, aliases }) => word !== undefined && (command.split(" ")[0] === word || aliases?.includes(word)));
  return found.length === 0 ? OPERATIONS : found;
}

function argumentTerm(argument: { name(): string; readonly required: boolean; readonly variadic: boolean }): string {
  const words = argument.variadic ? `${argument.name()}...` : argument.name();
  return argument.required ? `<${words}>` : `[${words}]`;
}

function groupOf({ name, effect, at }: Operation): string {
  if (at) return "State:";
  const noun = name.split("_")[0]!;
  if (noun === "task") return effect === "read" ? "See:" : "Tasks:";
  if (noun === "import" || noun === "export" || noun === "batch") return "Batches:";
  if (noun === "memory") return "Memory:";
  return name === noun ? "See:" : `${noun[0]!.toUpperCase()}${noun.slice(1)}s:`;
}

function addOperation(program: Command, shell: Shell, operation: Operation): void {
  const command = commandOf(program, operation).description(operation.summary).addHelpText("after", examplesOf(operation.command));
  for (const alias of operation.aliases ?? []) command.alias(alias);
  declareParams(command, operation.params);
  command.action(async () => perform(shell, operation, await readParams(shell.io, command, operation.params)));
}

/** "batch list" is the command list of the group batch. */
function commandOf(program: Command, operation: Operation): Command {
  const [first, second] = operation.command.split(" ") as [string, string?];
  program.commandsGroup(groupOf(operation));
  if (second === undefined) return program.command(first);
  const group = program.commands.find((command) => command.name() === first) ?? program.command(first).description(`About ${withArticle(first)}: ${subcommandsOf(first).join(", ")}`);
  return group.command(second);
}

function subcommandsOf(group: string): string[] {
  return OPERATIONS.map(({ command }) => command.split(" ")).filter(([first, second]) => first === group && second !== undefined).map(([, second]) => second!);
}

async function perform(shell: Shell, operation: Operation, input: { readonly [name: string]: unknown }): Promise<void> {
  const { io } = shell;
  if (operation.at) return performAt(shell, operation, input);
  const elsewhere = operation.elsewhere?.(input) ?? null;
  const state = await shell.open({ readOnly: operation.effect === "read", create: operation.creates === true || elsewhere !== null, ...(elsewhere === null ? {} : { at: elsewhere, quiet: true }) });
  try {
    const data = await operation.run(state, await withOwnToken(state, io, operation, input));
    const hint = await operation.hint?.(state, input, data);
    if (hint) shell.notice(hint);
    const limit = operation.page ? limitOf(operation.page, input) : null;
    if (shell.globals().json) io.out(lineOf(documentOf(operation, input, data)));
    else if (operation.raw && !io.tty) io.out(operation.raw(data));
    else io.out((await import("./render.ts")).render(operation.output, data, { io, now: state.clock.now(), limit }));
    const code = operation.exit?.(data) ?? 0;
    if (code !== 0) shell.exit(code);
  } finally {
    await state.close();
  }
}

/** An operation on the place of a state, which need not be one that opens. */
async function performAt(shell: Shell, operation: Operation, input: { readonly [name: string]: unknown }): Promise<void> {
  const { io } = shell;
  const data = await operation.at!(await shell.here(), input);
  if (shell.globals().json) io.out(lineOf(documentOf(operation, input, data)));
  else io.out((await import("./render.ts")).render(operation.output, data, { io, now: systemClock.now(), limit: null }));
  const code = operation.exit?.(data) ?? 0;
  if (code !== 0) shell.exit(code);
}

/** Inside a script that a run started, its own task is settled under the claim of that run; every other task as from anywhere. */
async function withOwnToken(state: State, io: Io, { params }: Operation, input: { readonly [name: string]: unknown }): Promise<{ readonly [name: string]: unknown }> {
  const own = ownToken(io.env);
  if (own === null || !Object.hasOwn(params, "token") || input["token"] !== undefined || input["force"] === true) return input;
  const task = await state.tasks.find(String(input["id"]));
  return task?.id === own.id ? { ...input, token: own.text } : input;
}

/** A wrong request in the words of its line: a parameter is named as the flag it is, and one that does not say what would be right points to the help. */
function asTyped(error: unknown, argv: readonly string[]): unknown {
  const words = wordsOf(argv);
  if (!isPawlError(error, "usage") || words.length === 0) return error;
  const { message, details, cause } = error;
  const operation = operationNamed(words);
  const field = String(details?.["param"] ?? details?.["name"] ?? "");
  const flag = operation !== undefined && Object.hasOwn(operation.params, field) && !operation.params[field]!.arg;
  const said = flag ? message.replace(new RegExp(`^(The )?${field}(?= must be | ")`), `$1--${field}`) : message;
  const next = error.next === NEXT.usage && field !== "" ? `See pawl ${operation?.command ?? words[0]} --help.` : error.next;
  return new PawlError("usage", said, { next, ...(details ? { details } : {}), cause: cause ?? error });
}

/** What commander refuses, as an error of ours. */
function usageOf(error: CommanderError, argv: readonly string[]): PawlError {
  const words = wordsOf(argv);
  if (error.code === "commander.help" && words.length === 0) return new PawlError("usage", "pawl needs a command.", { next: "pawl --help" });
  if (error.code === "commander.help") {
    return new PawlError("usage", `pawl ${words[0]} needs one of its commands: ${subcommandsOf(words[0]!).join(", ")}.`, { next: `pawl ${words[0]} --help` });
  }
  const [message, hint] = error.message.replace(/^error: /, "").split("\n");
  const meant = /^\(Did you mean (.*)\?\)$/.exec(hint ?? "")?.[1];
  const said = `${message![0]!.toUpperCase()}${message!.slice(1)}${message!.endsWith(".") ? "" : "."}`;
  const operation = operationNamed(words);
  const takesWords = operation !== undefined && Object.values(operation.params).some((param) => param.words);
  const help = ["pawl", ...(operation ? [operation.command] : known(words[0]) ? [words[0]] : []), "--help"].join(" ");
  const dashes = error.code === "commander.unknownOption" && takesWords ? ` Words that begin with a dash go behind --: pawl ${operation.command} -- …` : "";
  return new PawlError("usage", said, { next: `${meant ? `Did you mean ${meant}? ` : ""}See ${help}.${dashes}`, details: meant ? { meant } : {} });
}

/** The operation that the words name, by its command or an alias. */
function operationNamed(words: readonly string[]): Operation | undefined {
  return OPERATIONS.find(({ command, aliases }) => command === words[0] || command === words.slice(0, 2).join(" ") || aliases?.includes(words[0] ?? ""));
}

const PROCESSES = ["run", "worker", "step", "wait", "ui", "mcp", "completion"];

/** True for the first word of a command or of a group of them. */
function known(word: string | undefined): boolean {
  return word !== undefined && (PROCESSES.includes(word) || OPERATIONS.some(({ command }) => command.split(" ")[0] === word));
}

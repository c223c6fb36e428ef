// Commands as executors and verifiers. Invariant: the words of a command are run as they stand, by no shell of ours, and
// only after their process group is recorded; when `run` settles, nothing of that group is left running.
// Input: the task as one JSON document on stdin, and in PAWL_… variables. Output: stdout is the result, stderr is kept.
// With a prompt template (`--prompt FILE`) its filled text takes the place of {prompt} in the words; when no word has
// {prompt}, it is what the command reads from stdin, instead of the JSON.
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, isAbsolute, join, resolve } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { systemClock, type Clock } from "../base/clock.ts";
import { ERROR_CODES, PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Task } from "../core/records.ts";
import { wellFormed } from "../core/retry.ts";
import { formatToken } from "../core/token.ts";
import { fillPlaceholders, fillWords, placeholders, shellOperator, shellQuote, splitWords, type Fillings } from "../core/words.ts";
import type { Attempt, Executor, Verdict, Verifier } from "./executor.ts";
import { launch } from "./gate.ts";

export type CommandOptions = {
  /** A command line, split into words without a shell; or the words. Placeholders: see core/words.ts. */
  readonly command: string | readonly string[];
  readonly cwd: string;
  /** Added to our own environment; undefined removes a variable. */
  readonly env?: { readonly [name: string]: string | undefined };
  /** For one run of the command, besides the task's own time-out. */
  readonly timeoutMs?: number;
  /** Remembered for whoever runs the command as a step: its effect must not be repeated, and this command tells whether it happened. */
  readonly once?: boolean;
  readonly check?: string;
  /** A template: see the head of this page. */
  readonly prompt?: string;
  /** Where the state is, for commands that call `pawl` themselves (PAWL_STATE). */
  readonly state?: string;
  /** Gets what the command writes to stderr, line by line, while it runs. */
  readonly onOutput?: (line: string, task: Task) => void;
  /** Between SIGTERM and SIGKILL, in ms. */
  readonly graceMs?: number;
  readonly clock?: Clock;
};

/** How a command ended. Texts are well formed; `details` says so when that took a repair. */
export type CommandResult = {
  readonly stdout: string;
  /** False when it wrote more than LIMITS.resultBytes; `stdout` is then only its beginning. */
  readonly complete: boolean;
  /** False when it wrote what is no text (not UTF-8, or with NUL); `stdout` is then what could be made of it. */
  readonly exact: boolean;
  readonly stdoutBytes: number;
  /** The last LIMITS.outputBytes. */
  readonly stderr: string;
  /** The last LIMITS.outputBytes of both, about as they came. */
  readonly output: string;
  readonly exitCode: number | null;
  readonly signal: string | null;
};

/** What differs between one use of a command and another. */
export type RunExtras = {
  /** The result under review: on stdin within the task, and as PAWL_RESULT. */
  readonly result?: Json;
  /** The text of {prompt}, ready; instead of the filled template. */
  readonly prompt?: string;
  /** Replaces what the command reads from stdin. */
  readonly stdin?: string;
  /** More to keep with the output. */
  readonly details?: (result: CommandResult) => { readonly [name: string]: Json };
};

/** The most bytes Linux takes in one word or one variable of a new process (128 KiB with its end). */
export const WORD_BYTES = (128 << 10) - 1;
const GRACE_MS = 2_000;
/** A part of an error: enough to see what went wrong, the rest is with the output. */
const TAIL_CHARS = 2_000;

export function commandExecutor(options: CommandOptions): Executor {
  const words = commandWords(options.command);
  const fixed = { ...options, command: words };
  return {
    name: commandName(words),
    recipe: recipeOf(fixed),
    process: true,
    prepare: () => prepareCommand(words, options),
    run: async (task, attempt) => resultOf(await runCommand(fixed, task, attempt, "execute")),
  };
}

/** Judges by the exit code: 0 is passed, another a rejection with the output as feedback. Not to have judged is an error. */
export function commandVerifier(options: CommandOptions): Verifier {
  const words = commandWords(options.command);
  const fixed = { ...options, command: words };
  return {
    name: commandName(words),
    recipe: recipeOf(fixed),
    prepare: () => prepareCommand(words, options),
    run: async (task, result, attempt) => verdictOf(await runCommand(fixed, task, attempt, "verify", { result })),
  };
}

function verdictOf(ended: CommandResult): Verdict {
  if (ended.exitCode === 0) return { passed: true };
  if (ended.exitCode === null || ended.exitCode === 126 || ended.exitCode === 127) throw failure(ended, "the check did not judge: it");
  const feedback = ended.output.trim();
  return { passed: false, feedback: feedback || `The check ended with exit code ${ended.exitCode} and wrote nothing.` };
}

/** The words of a command; a line that only a shell could run is refused instead of run otherwise than meant. */
export function commandWords(command: string | readonly string[]): readonly string[] {
  const words = typeof command === "string" ? splitWords(command) : command;
  const line = typeof command === "string" ? command : command.map(shellQuote).join(" ");
  if (words.length === 0 || words[0] === "") throw new PawlError("usage", "The command is empty.", { next: "Name a program, as in: --exec 'make test'." });
  if (words[0]!.startsWith("-")) throw new PawlError("usage", `A command cannot begin with the option ${words[0]}.`, { next: "Name the program first.", details: { command: line } });
  const operator = typeof command === "string" ? shellOperator(command) : null;
  if (operator !== null) {
    throw new PawlError("usage", `The command is run without a shell, so "${operator}" would be handed to ${words[0]} as text: ${line}`, {
      next: `For shell syntax: ${`sh -c ${shellQuote(line)}`}. If the text is meant, put it in quotes.`,
      details: { command: line, operator },
    });
  }
  return words;
}

function commandName(words: readonly string[]): string {
  return `command: ${words.map(shellQuote).join(" ")}`.slice(0, LIMITS.nameChars).toWellFormed();
}

// The environment is left out: it may hold secrets, and a batch is a file that people share.
function recipeOf(options: CommandOptions): Json {
  const { command, timeoutMs, once, check, prompt } = options;
  return JSON.parse(JSON.stringify({ kind: "command", command, timeout_ms: timeoutMs, once, check, prompt })) as Json;
}

/* ---------- running ---------- */

/** Runs the command once for a task: recorded, with its output kept. What its end means is for the caller to say. */
export async function runCommand(options: CommandOptions, task: Task, attempt: Attempt, part: string, extras: RunExtras = {}): Promise<CommandResult> {
  const filled = fillCommand(options, task, extras);
  const stdout = keepHead(LIMITS.resultBytes);
  const [stderr, output] = [keepTail(LIMITS.outputBytes), keepTail(LIMITS.outputBytes)];
  const lines = options.onOutput && splitLines((line) => options.onOutput!(line, task));
  const clock = options.clock ?? systemClock;
  const limit = timeLimit(options.timeoutMs, attempt.signal, clock);
  try {
    const ended = await launch({
      ...filled,
      cwd: options.cwd,
      env: environment(options, task, attempt, filled.env, extras),
      signal: limit.signal,
      clock,
      graceMs: options.graceMs ?? GRACE_MS,
      record: (group) => attempt.recordProcess(group),
      forget: (pid) => attempt.forgetProcess(pid),
      onStdout(chunk) {
        stdout.add(chunk);
        output.add(chunk);
      },
      onStderr(chunk) {
        stderr.add(chunk);
        output.add(chunk);
        lines?.add(chunk);
      },
    }).catch((error: unknown) => Promise.reject(limit.signal.aborted ? limit.signal.reason : startError(error, options)));
    lines?.end();
    const { exitCode, signal } = ended;
    const result = { stdout: stdout.text(), complete: stdout.complete(), exact: !stdout.repaired(), stdoutBytes: stdout.bytes(), stderr: stderr.text(), output: output.text(), exitCode, signal };
    const kept = {
      command: filled.words.map(shellQuote).join(" ").slice(0, TAIL_CHARS).toWellFormed(),
      stderr: result.stderr,
      // A success's stdout is its result; a failure's may hold the only trace of why.
      stdout: exitCode === 0 && part === "execute" ? null : lastChars(result.stdout, LIMITS.outputBytes),
      exit_code: exitCode,
      signal,
      details: { ...(stdout.repaired() ? { stdout_repaired: true } : {}), ...extras.details?.(result) },
    };
    if (!ended.aborted) {
      await attempt.keepOutput(part, kept);
      return result;
    }
    // Who lost the task may not write any more; who ran out of time should say what it was doing.
    await attempt.keepOutput(part, kept).catch(() => {});
    throw limit.signal.reason;
  } finally {
    limit.cancel();
  }
}

/** The command's result: its stdout without the line ends at its end, as `$(…)` has it. Throws when it failed. */
export function resultOf(ended: CommandResult): string {
  // What `pawl step` ends with when a person must decide first; the worker looks whether the task has an open wait.
  if (ended.exitCode === ERROR_CODES.waiting.exit) throw new PawlError("waiting", failure(ended, "command").message, { cause: failure(ended, "command") });
  if (ended.exitCode !== 0) throw failure(ended, "command");
  if (!ended.complete) {
    throw new PawlError("failed", `command wrote ${ended.stdoutBytes} bytes to stdout; a result has at most ${LIMITS.resultBytes}`, {
      next: "Write large output to a file and print its path.",
      details: { permanent: true, stdout_bytes: ended.stdoutBytes },
    });
  }
  if (!ended.exact) {
    throw new PawlError("failed", `command wrote ${ended.stdoutBytes} bytes to stdout that are no UTF-8 text; a result is text`, {
      next: "Write binary output to a file and print its path.",
      details: { permanent: true, stdout_bytes: ended.stdoutBytes },
    });
  }
  return ended.stdout.replace(/[\r\n]+$/, "");
}

/** Exit codes 126 and 127 mean that a program is missing or is none: trying again does not mend that. */
export function failure(ended: CommandResult, who: string): PawlError {
  const how = ended.exitCode === null ? `was ended by ${ended.signal}` : `exited with code ${ended.exitCode}`;
  const last = lastLine(ended.stderr.trimEnd() || ended.stdout.trimEnd());
  const permanent = ended.exitCode === 126 || ended.exitCode === 127;
  return new PawlError("failed", `${who} ${how}${last === "" ? "" : `: ${last.slice(0, TAIL_CHARS)}`}`, {
    details: { exit_code: ended.exitCode, ...(ended.signal ? { signal: ended.signal } : {}), stderr_tail: lastChars(ended.stderr, TAIL_CHARS), ...(permanent ? { permanent } : {}) },
  });
}

/** The last line: what most programs say at their end. `pawl` itself says what went wrong first, then what helps. */
function lastLine(text: string): string {
  const lines = stripVTControlCharacters(text).split("\n");
  let at = lines.length - 1;
  while (at > 0 && /^(next: |\s)/.test(lines[at]!)) at--;
  const ofPawl = lines[at]!.startsWith("error: ") && lines[at + 1]?.startsWith("next: ");
  return (ofPawl ? lines[at]! : text.slice(text.lastIndexOf("\n") + 1)).trim();
}

function startError(error: unknown, { cwd }: CommandOptions): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "ENOENT" || code === "ENOTDIR") return folderMissing(cwd);
  if (code !== "E2BIG") return error;
  return new PawlError("failed", "the command and its environment are longer than the system allows", { next: "Let the command read the task from stdin.", details: { permanent: true }, cause: error });
}

/** The attempt's signal, and our own time-out if there is one. */
function timeLimit(ms: number | undefined, outer: AbortSignal, clock: Clock): { signal: AbortSignal; cancel(): void } {
  if (ms === undefined) return { signal: outer, cancel() {} };
  const own = new AbortController();
  const cancel = clock.timer(ms, () => own.abort(new PawlError("timeout", `command ran longer than ${ms} ms`, { details: { timeout_ms: ms } })));
  return { signal: AbortSignal.any([outer, own.signal]), cancel };
}

/* ---------- input ---------- */

function fillCommand(options: CommandOptions, task: Task, extras: RunExtras): { words: readonly string[]; env: { readonly [name: string]: string }; stdin: string } {
  const template = commandWords(options.command);
  const prompt = extras.prompt ?? (options.prompt === undefined ? undefined : fillPlaceholders(options.prompt, task));
  const values: Fillings = prompt === undefined ? task : { ...task, prompt };
  const { words, env } = fillWords(template, values);
  for (const word of [...words, ...Object.values(env)]) {
    if (Buffer.byteLength(word) >= WORD_BYTES - 64) {
      throw new PawlError("usage", `Task ${task.id} makes a word of ${Buffer.byteLength(word)} bytes; the system takes ${WORD_BYTES} at most.`, {
        next: "Take the placeholder out of the command and read the text from stdin.",
        details: { id: task.id },
      });
    }
  }
  const onStdin = prompt !== undefined && !template.some((word) => placeholders(word).includes("prompt"));
  const document = extras.result === undefined ? task : { ...task, result: extras.result };
  return { words, env, stdin: extras.stdin ?? (onStdin ? prompt : `${JSON.stringify(document)}\n`) };
}

/** Our environment and what tells the command about its task. A text too long for a variable is left out; it is on stdin. */
function environment(options: CommandOptions, task: Task, attempt: Attempt, env: { readonly [name: string]: string }, extras: RunExtras): NodeJS.ProcessEnv {
  const { result } = extras;
  const about = {
    PAWL_TASK_ID: String(task.id),
    PAWL_DESCRIPTION: task.description,
    PAWL_FEEDBACK: task.feedback ?? "",
    PAWL_ATTEMPT: String(task.attempts),
    PAWL_IDEMPOTENCY_KEY: attempt.idempotencyKey,
    // Lets `pawl step` write as this ownership of the task, and no longer than it lasts.
    PAWL_TOKEN: task.worker === null ? undefined : formatToken(task),
    PAWL_RESULT: result === undefined ? undefined : typeof result === "string" ? result : JSON.stringify(result),
    ...(options.state === undefined ? {} : { PAWL_STATE: options.state }),
  };
  const fits = ([name, value]: [string, string | undefined]) => value === undefined || name.length + 1 + Buffer.byteLength(value) < WORD_BYTES;
  const missing = Object.fromEntries(Object.keys(about).map((name) => [name, undefined]));
  return { ...process.env, ...options.env, ...missing, ...Object.fromEntries(Object.entries(about).filter(fits)), ...env };
}

/* ---------- the program ---------- */

/** Throws `usage` when the program does not exist, so that a run stops before it claims anything. */
export async function prepareCommand(words: readonly string[], { cwd, env }: Pick<CommandOptions, "cwd" | "env">): Promise<void> {
  const name = words[0]!;
  if (!isFolder(cwd)) throw folderMissing(cwd);
  if (placeholders(name).length > 0) return; // known only with the task
  const variables: NodeJS.ProcessEnv = { ...process.env, ...env };
  const paths = name.includes("/") ? [resolve(cwd, name)] : (variables["PATH"] ?? "/usr/bin:/bin").split(delimiter).map((folder) => join(isAbsolute(folder) ? folder : resolve(cwd, folder), name));
  const files = paths.filter(isFile);
  if (files.some(isExecutable)) return;
  const [why, next] =
    files.length > 0
      ? [`${files[0]} is not executable`, `Make it so: chmod +x ${shellQuote(files[0]!)}`]
      : [`${name} ${name.includes("/") ? `does not exist in ${cwd}` : "is not on the PATH"}`, "Install it, or give its path. A shell's own commands need a shell: sh -c '…'."];
  throw new PawlError("usage", `The command cannot be run: ${why}.`, { next, details: { program: name, cwd } });
}

function folderMissing(cwd: string): PawlError {
  return new PawlError("usage", `The command cannot be run: the folder ${cwd} does not exist.`, { next: "Create it, or run from another folder.", details: { cwd } });
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/* ---------- output ---------- */

/** The first `limit` bytes of a stream; the rest is counted and dropped. */
function keepHead(limit: number) {
  const chunks: Buffer[] = [];
  let [kept, seen] = [0, 0];
  const buffer = () => Buffer.concat(chunks);
  return {
    add(chunk: Buffer): void {
      const part = chunk.subarray(0, limit - kept);
      seen += chunk.length;
      kept += part.length;
      if (part.length > 0) chunks.push(part);
    },
    text: () => decode(buffer()),
    bytes: () => seen,
    complete: () => seen <= limit,
    repaired: () => seen <= limit && !Buffer.from(decode(buffer())).equals(buffer()),
  };
}

/** The last `limit` bytes of a stream, cut between characters. */
function keepTail(limit: number) {
  let chunks: Buffer[] = [];
  let kept = 0;
  const cut = () => {
    const tail = Buffer.concat(chunks).subarray(-limit);
    [chunks, kept] = [[tail], tail.length];
    return tail;
  };
  let dropped = false;
  return {
    add(chunk: Buffer): void {
      chunks.push(chunk);
      kept += chunk.length;
      dropped ||= kept > limit;
      // Joined only now and then, so that a talkative command costs no more than it writes.
      if (kept > 2 * limit) cut();
    },
    text(): string {
      let tail = cut();
      while (dropped && tail.length > 0 && (tail[0]! & 0xc0) === 0x80) tail = tail.subarray(1);
      return decode(tail);
    },
  };
}

/** Without a line end for a megabyte it is passed on in parts: nobody waits for it for ever. */
function splitLines(take: (line: string) => void) {
  const decoder = new TextDecoder();
  let rest = "";
  const cut = (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) take(wellFormed(line.replace(/\r$/, "")));
    if (rest.length > LIMITS.resultBytes) flush();
  };
  const flush = () => {
    if (rest !== "") take(wellFormed(rest));
    rest = "";
  };
  return {
    add: (chunk: Buffer) => cut(decoder.decode(chunk, { stream: true })),
    end(): void {
      cut(decoder.decode());
      flush();
    },
  };
}

function decode(bytes: Buffer): string {
  return wellFormed(bytes.toString("utf8"));
}

function lastChars(text: string, chars: number): string {
  return text.slice(-chars).toWellFormed();
}

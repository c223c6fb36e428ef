// `pawl step NAME -- COMMAND`: a command as a memoized step of the task in PAWL_TASK_ID, so that any script resumes. Done
// before: its output is printed and nothing runs. It writes as the ownership under which the script was started (PAWL_TOKEN),
// so a script that outlived its worker cannot record anything.
import { spawn } from "node:child_process";
import type { Command } from "commander";
import { ERROR_CODES, isPawlError, NEXT, PawlError } from "../base/errors.ts";
import { iso } from "../base/clock.ts";
import { parseDuration } from "../base/duration.ts";
import { bytesOf, endIn, enterCall, goOn, leaveCall, outputOf } from "../core/call.ts";
import { leaseLost } from "../core/committer.ts";
import { stateIdOf } from "../core/identity.ts";
import type { Task } from "../core/records.ts";
import { parseToken } from "../core/token.ts";
import { splitWords } from "../core/words.ts";
import type { CheckAnswer, StepContext } from "../worker/context.ts";
import { Execution } from "../worker/execution.ts";
import type { State } from "../state.ts";
import { escapeText } from "./escape.ts";
import type { Shell } from "./shell.ts";
import { exitCodeOf } from "./signals.ts";

type Flags = { readonly once?: boolean; readonly check?: string; readonly key?: string; readonly keep?: boolean; readonly redo?: boolean; readonly input?: string; readonly timeout?: string; readonly token?: string };

export function addStepCommand(program: Command, shell: Shell): void {
  program
    .command("step <name> <command...>")
    .description("Run a command as a memoized step of the task in PAWL_TASK_ID")
    .option("--once", "its effect must not be repeated: ask when its outcome is unknown")
    .option("--check <command>", "with --once: exit code 0 says that it happened (stdout is its output), 1 that it did not")
    .option("--key <key>", "tells this step from others of its name that run side by side")
    .option("--keep", "keep its output when a rejected result begins a new round")
    .option("--redo", "with --once: run it again in a new round")
    .option("--input <text>", "what it works on; with another input a replay asks")
    .option("--timeout <duration>", "such as 90s or 5m")
    .option("--token <token>", "the token of the claim (default: PAWL_TOKEN)")
    .addHelpText("after", "\nExample (a script that resumes):\n  pawl step build -- make build\n  pawl step push --once --check 'registry has app:1' -- make push")
    .action(async (name: string, command: string[], flags: Flags) => {
      shell.exit(await step(shell, name, command, flags));
    });
}

async function step(shell: Shell, name: string, command: readonly string[], flags: Flags): Promise<number> {
  const { io } = shell;
  if (flags.check !== undefined && !flags.once) throw new PawlError("usage", "--check needs --once.");
  const state = await shell.open({});
  try {
    const task = await ownedTask(state, io.env, flags.token);
    const ordinal = flags.key === undefined ? await enterCall(state.committer, task, name) : 0;
    try {
      return await about(task, () => runStep(shell, state, task, name, command, flags, ordinal));
    } finally {
      if (ordinal > 0) await leaveCall(state.committer, task);
    }
  } finally {
    await state.close();
  }
}

/** The task this script works on, still owned by the worker that started the script. */
export async function ownedTask(state: State, env: NodeJS.ProcessEnv, given: string | undefined): Promise<Task> {
  const text = given ?? env["PAWL_TOKEN"];
  if (text === undefined || text === "") {
    const missing = env["PAWL_TASK_ID"] ? "PAWL_TOKEN is" : "PAWL_TASK_ID and PAWL_TOKEN are";
    throw new PawlError("usage", `pawl step and pawl wait work inside a task, under its claim, and ${missing} not set.`, { next: "Run the script by pawl run --exec, or pass --token from pawl claim --json." });
  }
  const token = parseToken(text);
  const task = await state.tasks.get(token.id);
  if (task.fence !== token.fence || task.worker !== token.worker) throw leaseLost(task.id, task);
  return task;
}

/** Runs what is about this task: an error that names no other is about it, so what helps names it. */
export async function about<T>(task: Task, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!isPawlError(error) || error.next !== NEXT[error.code]) throw error;
    throw new PawlError(error.code, error.message, { details: { ...error.details, id: task.id }, cause: error.cause });
  }
}

async function runStep(shell: Shell, state: State, task: Task, name: string, command: readonly string[], flags: Flags, ordinal: number): Promise<number> {
  const { io } = shell;
  const lost = new AbortController();
  const execution = await Execution.open(task, {
    committer: state.committer, random: state.random, stateId: await stateIdOf(state.committer, state.random), actor: task.worker!,
    signal: lost.signal, onLost: (error) => lost.abort(error), revalidate: () => null, always: true,
  });
  const key = flags.key ?? String(ordinal);
  const before = execution.endedIn(name, key);
  const options = {
    key,
    ...(flags.once ? { effect: "once" as const } : {}), ...(flags.keep ? { keep: true } : {}), ...(flags.redo ? { redo: true } : {}),
    ...(flags.input === undefined ? {} : { input: flags.input }), ...(flags.timeout === undefined ? {} : { timeoutMs: parseDuration(flags.timeout, { min: 1, name: "--timeout" }) }),
    ...(flags.check === undefined ? {} : { check: (context: StepContext) => check(io, flags.check!, context) }),
  };
  const done = execution.context.step(name, options, async (context) => {
    const ended = await runCommand(io, command, context);
    if (ended.code === 0) return outputOf(ended.stdout);
    throw new PawlError("failed", `step ${name}: ${command[0]} ${ended.signal ? `was ended by ${ended.signal}` : `exited with code ${ended.code}`}`, { details: { exit_code: ended.code } });
  });
  try {
    const first = await Promise.race([done.then((output) => ({ output })), execution.parked.then((waits) => ({ waits }))]);
    if ("output" in first) {
      if (before) await goOn(state.committer, task, before);
      io.out(bytesOf(first.output));
      return 0;
    }
    await endIn(state.committer, task, first.waits);
    const wait = first.waits[0]!;
    io.err(`step ${name} waits ${wait.decision_id ? `for decision ${wait.decision_id}: pawl inbox` : `until ${wait.due_at ?? iso(state.clock.now())}`}\n`);
    return ERROR_CODES.waiting.exit;
  } catch (error) {
    if (before) await goOn(state.committer, task, before);
    const code = exitOf(error);
    if (code === null) throw error;
    io.err(`${escapeText((error as Error).message)}\n`);
    return code;
  }
}

/** How the command ended, live and on a replay alike: its exit code, or that of what ended it. Null when it is not about the command. */
function exitOf(error: unknown): number | null {
  if (!isPawlError(error, "failed")) return null;
  const { exit_code, code } = (error.details ?? {}) as { exit_code?: number; code?: string };
  if (exit_code !== undefined) return exit_code;
  return code === "timeout" ? ERROR_CODES.timeout.exit : null;
}

async function check(io: Shell["io"], line: string, context: StepContext): Promise<CheckAnswer> {
  const ended = await runCommand(io, splitWords(line), context);
  if (ended.code === 0) return { done: true, output: outputOf(ended.stdout) };
  return ended.code === 1 ? { done: false } : undefined;
}

type Ended = { readonly code: number; readonly signal: NodeJS.Signals | null; readonly stdout: Buffer };

/** Runs it in the script's own process group, so that a takeover ends it with the script. stdin and stderr are the script's. */
function runCommand(io: Shell["io"], words: readonly string[], context: StepContext): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(words[0]!, words.slice(1), {
      cwd: io.cwd, stdio: ["inherit", "pipe", "inherit"], signal: context.signal, env: { ...io.env, PAWL_IDEMPOTENCY_KEY: context.idempotencyKey },
    });
    const chunks: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.on("error", (error) => reject(startError(error, words[0]!)));
    child.on("close", (code, signal) => resolve({ code: code ?? exitCodeOf(signal!), signal, stdout: Buffer.concat(chunks) }));
  });
}

/** The exit codes by which shells say that there is no such program (127), or that it is none (126). */
function startError(error: NodeJS.ErrnoException, program: string): Error {
  if (error.code === "ENOENT") return new PawlError("usage", `There is no program "${program}".`, { next: "Check its name and PATH.", details: { exit_code: 127 } });
  if (error.code === "EACCES") return new PawlError("usage", `"${program}" cannot be run: permission denied.`, { next: `chmod +x ${program}`, details: { exit_code: 126 } });
  return error;
}

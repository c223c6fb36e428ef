// The flags of `pawl run`, checked: a mistake is said before anything is read, created or started. What a flag leaves open
// comes from the batch (what it was started with), then from .pawl/config.json, then from the default.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Command } from "commander";
import { parseDuration } from "../base/duration.ts";
import { messageOf, PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { parseBreaker, type BreakerLimits } from "../core/breaker.ts";
import type { Backoff } from "../core/retry.ts";
import { readVars, type Vars } from "../worker/import.ts";
import { hookOf, type DecisionHook } from "../worker/notify.ts";
import type { Recipe } from "../worker/recipes.ts";
import { findUpward } from "./location.ts";
import type { Halt } from "./run-loop.ts";

/** The flags by which an executor and its limits are named; a worker takes them as well. */
export function addExecutorFlags(command: Command): Command {
  return command
    .option("--exec <command>", "run this command for each task (no shell; {description} {id} {attempt} {feedback} {input.FIELD})")
    .option("--with <agent>", "run a known agent for each task: claude; arguments after -- go to it")
    .option("--model <name>", "a model works each task: anthropic/NAME, openai/NAME, or compatible/NAME at OPENAI_BASE_URL")
    .option("--tools <module>", "with --model: a module whose default export is its tools, or the options of agent()")
    .option("--prompt <file>", "template of the prompt; {description}, {feedback} …")
    .option("--once", "the command's effect must not be repeated: ask when its outcome is unknown")
    .option("--check <command>", "with --once: exit code 0 says that it happened, 1 that it did not")
    .option("--verify <command>", "judge each result: exit code 0 passes, else its output is the feedback; 'ask' asks a person")
    .option("--judge <model>", "a model judges each result, instead of --verify")
    .option("--concurrency <n>", "tasks at once (default: 1)")
    .option("--backoff <range>", "delay between attempts: off, 2s, 1s..1m, 1s..1m,no-jitter (default: 1s..1m)")
    .option("--breaker <limits>", "circuit breaker: failures=5,cooldown=1m,iterations=100,time=2h,tokens=1000000,cost=5; off removes it")
    .option("--notify <command>", "tell of each new decision: a command that gets it as JSON on standard input, or an https:// address; off ends it");
}

/** As commander hands them over. */
export type RawRunFlags = {
  readonly exec?: string; readonly with?: string; readonly model?: string; readonly tools?: string; readonly judge?: string; readonly verify?: string; readonly check?: string; readonly once?: boolean; readonly prompt?: string;
  readonly concurrency?: string; readonly maxAttempts?: string; readonly backoff?: string; readonly breaker?: string; readonly notify?: string; readonly timeout?: string; readonly deadline?: string;
  readonly halt?: string; readonly maxTasks?: string; readonly var?: readonly string[]; readonly format?: string; readonly queue?: string;
  readonly new?: boolean; readonly resume?: string | boolean; readonly retryFailed?: boolean; readonly ignoreLimit?: boolean; readonly dryRun?: boolean;
};

/** What a batch remembers of a run besides executor and verifier. `paused_until`: a usage limit was met, and ends then. */
export type Limits = { readonly concurrency?: number; readonly max_attempts?: number; readonly timeout_ms?: number; readonly deadline_ms?: number; readonly backoff?: string; readonly breaker?: string; readonly notify?: string; readonly vars?: Vars; readonly paused_until?: string };

export type RunFlags = {
  readonly executor: Recipe | null;
  readonly verifier: Recipe | null;
  readonly limits: Limits;
  readonly halt: Halt | null;
  readonly maxTasks: number | undefined;
  /** Start although the batch remembers a usage limit. */
  readonly ignoreLimit: boolean;
};

export function readRunFlags(raw: RawRunFlags, args: readonly string[]): RunFlags {
  if ([raw.exec, raw.with, raw.model].filter((named) => named !== undefined).length > 1) throw usage("Use one of --exec, --with and --model, not both.");
  if (raw.tools !== undefined && raw.model === undefined) throw usage("--tools are for a model; they need --model.");
  if (raw.verify !== undefined && raw.judge !== undefined) throw usage("Use --verify or --judge, not both.");
  if (args.length > 0 && raw.with === undefined) throw usage(`A run takes one list: ${JSON.stringify(args[0])} is one argument too many.`, "What stands after -- goes to the program of --with; a command of your own has its arguments in --exec.");
  if (raw.check !== undefined && !raw.once) throw usage("--check says whether the effect of a --once command happened; it needs --once.");
  if (raw.once && raw.exec === undefined) throw usage("--once needs --exec.");
  if (raw.resume !== undefined && raw.new) throw usage("Use --resume or --new, not both.");
  return {
    executor: executorRecipe(raw, args),
    verifier: verifierRecipe(raw),
    limits: readLimits(raw),
    halt: raw.halt === undefined ? null : readHalt(raw.halt),
    maxTasks: raw.maxTasks === undefined ? undefined : whole(raw.maxTasks, "--max-tasks"),
    ignoreLimit: raw.ignoreLimit === true,
  };
}

function verifierRecipe({ verify, judge }: RawRunFlags): Recipe | null {
  if (judge !== undefined) return { kind: "model", model: judge };
  if (verify === undefined) return null;
  return verify === "ask" ? { kind: "person" } : { kind: "command", command: verify };
}

function executorRecipe(raw: RawRunFlags, args: readonly string[]): Recipe | null {
  const prompt = raw.prompt === undefined ? {} : { prompt: readPrompt(raw.prompt) };
  if (raw.exec !== undefined) return { kind: "command", command: raw.exec, ...prompt, ...(raw.once ? { once: true } : {}), ...(raw.check === undefined ? {} : { check: raw.check }) };
  if (raw.with !== undefined) return { kind: "preset", preset: raw.with, args, ...prompt };
  if (raw.model !== undefined) return { kind: "model", model: raw.model, ...prompt, ...(raw.tools === undefined ? {} : { tools: resolve(raw.tools) }) };
  if (raw.prompt !== undefined) throw usage("--prompt needs --exec, --with or --model.");
  return null;
}

function readPrompt(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw usage(`The prompt template ${file} cannot be read: ${messageOf(error)}.`);
  }
}

function readLimits(raw: RawRunFlags): Limits {
  if (raw.backoff !== undefined) readBackoff(raw.backoff);
  readBreaker(raw.breaker);
  readHook(raw.notify);
  return {
    ...(raw.concurrency === undefined ? {} : { concurrency: whole(raw.concurrency, "--concurrency") }),
    ...(raw.maxAttempts === undefined ? {} : { max_attempts: whole(raw.maxAttempts, "--max-attempts") }),
    ...(raw.timeout === undefined ? {} : { timeout_ms: parseDuration(raw.timeout, { min: 1, name: "--timeout" }) }),
    ...(raw.deadline === undefined ? {} : { deadline_ms: parseDuration(raw.deadline, { min: 1, name: "--deadline" }) }),
    ...(raw.backoff === undefined ? {} : { backoff: raw.backoff }),
    ...(raw.breaker === undefined ? {} : { breaker: raw.breaker }),
    ...(raw.notify === undefined ? {} : { notify: raw.notify }),
    ...(raw.var === undefined ? {} : { vars: readVars(raw.var) }),
  };
}

/** `off`, or BASE[..CAP] such as 1s..1m, with `,no-jitter` behind it when the delays must be exact. */
export function readBackoff(text: string): Backoff {
  const [range, ...options] = text.split(",");
  if (options.some((option) => option !== "no-jitter")) throw usage(`--backoff takes no "${options.join(",")}".`, "Use off, 2s, 1s..30s, or 1s..30s,no-jitter.");
  const jitter = options.length > 0 ? { jitter: false } : {};
  if (range === "off") return { baseMs: 0, jitter: false };
  const [base, cap] = range!.split("..");
  const baseMs = parseDuration(base!, { min: 1, name: "--backoff" });
  const capMs = cap === undefined ? undefined : parseDuration(cap, { min: 1, name: "--backoff" });
  if (capMs !== undefined && capMs < baseMs) throw usage(`--backoff ${text}: the cap is shorter than the first delay.`);
  return { baseMs, ...(capMs === undefined ? {} : { capMs }), ...jitter };
}

/** Null when nobody is told: not given, or `off`. */
export function readHook(text: string | undefined, cwd?: string): DecisionHook | null {
  return text === undefined || text === "off" ? null : hookOf(text, cwd);
}

/** Null when there is none: not given, or `off`. */
export function readBreaker(text: string | undefined): BreakerLimits | null {
  return text === undefined || text === "off" ? null : parseBreaker(text);
}

function readHalt(text: string): Halt {
  const match = /^(soon|now),fail=([1-9][0-9]*)$/.exec(text);
  if (!match) throw usage(`--halt takes soon,fail=N or now,fail=N, not "${text}".`, "soon lets running tasks end, now stops them.");
  return { when: match[1] as Halt["when"], fails: Number(match[2]) };
}

function whole(text: string, flag: string): number {
  if (!/^[0-9]{1,9}$/.test(text) || Number(text) < 1) throw usage(`${flag} takes a whole number of at least 1, not "${text}".`);
  return Number(text);
}

function usage(message: string, next = "What the flags take: pawl run --help."): PawlError {
  return new PawlError("usage", message, { next });
}

/** The flags a project always gives, from the nearest .pawl/config.json: `{"exec": "…", "concurrency": 4}`. Given flags win. */
export function withConfig(raw: RawRunFlags, cwd: string): RawRunFlags {
  const path = findUpward(cwd, ["config.json"]);
  if (path === null) return raw;
  let config: { [name: string]: Json };
  try {
    config = JSON.parse(readFileSync(path, "utf8")) as typeof config;
  } catch (error) {
    throw usage(`${path} is not JSON: ${messageOf(error)}.`, "Mend or remove it.");
  }
  const known: { [name: string]: unknown } = {};
  for (const [name, value] of Object.entries(config)) {
    const flag = name.replaceAll(/[-_](.)/g, (_, letter: string) => letter.toUpperCase());
    if (!CONFIGURABLE.has(flag)) throw usage(`${path} sets "${name}", which is not a flag of run that can be configured.`, `It can set: ${[...CONFIGURABLE].join(", ")}.`);
    known[flag] = typeof value === "boolean" ? value : String(value);
  }
  // An executor given by a flag replaces the configured one whole, whichever kind it is.
  if (raw.exec !== undefined || raw.with !== undefined || raw.model !== undefined) for (const flag of ["exec", "with", "model", "tools", "once", "check", "prompt"]) delete known[flag];
  if (raw.verify !== undefined || raw.judge !== undefined) for (const flag of ["verify", "judge"]) delete known[flag];
  return { ...known, ...raw };
}

const CONFIGURABLE = new Set(["exec", "with", "model", "tools", "verify", "judge", "check", "once", "prompt", "concurrency", "maxAttempts", "backoff", "breaker", "notify", "timeout", "deadline", "halt"]);

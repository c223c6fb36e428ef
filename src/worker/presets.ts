// Known agents by name (`--with claude`): which command each is, and how its answer is read. A new one is one entry of
// PRESETS. Invariant: what a tool says in fields decides; words of its answer decide only where it has no field, and an
// answer that merely speaks of limits is never taken for one.
import { systemClock } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import type { Usage } from "../core/breaker.ts";
import type { Task } from "../core/records.ts";
import { wellFormed } from "../core/retry.ts";
import { fillPlaceholders, placeholders } from "../core/words.ts";
import { failure, prepareCommand, resultOf, runCommand, WORD_BYTES, type CommandOptions, type CommandResult } from "./command.ts";
import { UsageLimitError, type Executor } from "./executor.ts";
import { readLimit } from "./usage.ts";

export type PresetOptions = Omit<CommandOptions, "command" | "once" | "check"> & {
  /** Handed to the program as they are (what stands after `--`). */
  readonly args?: readonly string[];
};

type Preset = {
  readonly about: string;
  /** What to do when its program is missing. */
  readonly install: string;
  /** The command; the prompt stands for `{prompt}`, and is on stdin when it is too long for a word. */
  words(onStdin: boolean, args: readonly string[]): readonly string[];
  read(ended: CommandResult, args: readonly string[]): Reading;
};

/** A tool's answer, read: the text it gives, or why it failed. `limited`: it may not work now. */
type Reading = {
  readonly text: string | null;
  readonly error?: string;
  readonly permanent?: boolean;
  readonly limited?: boolean;
  /** Kept with the output: what the tool says of itself. */
  readonly details: { readonly [name: string]: Json };
};

const CLAUDE: Preset = {
  about: "Claude Code, without its terminal: claude -p PROMPT --output-format json",
  install: "Install Claude Code (npm install -g @anthropic-ai/claude-code) and log in once, or name another command with --exec.",
  words: (onStdin, args) => ["claude", "-p", ...(onStdin ? [] : ["{prompt}"]), "--output-format", "json", ...args],
  read: readClaude,
};

export const PRESETS: { readonly [name: string]: Preset } = { claude: CLAUDE };

/** Thirty minutes would waste a short limit, a minute would knock all day. */
const UNKNOWN_LIMIT_MS = 15 * 60_000;

export function presetExecutor(name: string, options: PresetOptions): Executor {
  const preset = Object.hasOwn(PRESETS, name) ? PRESETS[name]! : undefined;
  if (!preset) {
    throw new PawlError("usage", `There is no preset "${name}".`, { next: `Known: ${Object.keys(PRESETS).join(", ")}. Any other program: --exec 'PROGRAM {description}'.` });
  }
  const { args = [], prompt: template, timeoutMs, clock = systemClock } = options;
  return {
    name: `preset: ${name}`,
    recipe: JSON.parse(JSON.stringify({ kind: "preset", preset: name, args, prompt: template, timeout_ms: timeoutMs })) as Json,
    process: true,
    async prepare() {
      try {
        await prepareCommand(preset.words(true, args), options);
      } catch (error) {
        throw error instanceof PawlError && error.details?.["program"] ? new PawlError(error.code, error.message, { next: preset.install, details: error.details }) : error;
      }
    },
    async run(task, attempt) {
      const prompt = promptFor(task, template);
      const onStdin = Buffer.byteLength(prompt) > WORD_BYTES / 2;
      const command = { ...options, prompt: undefined, command: preset.words(onStdin, args) };
      // Such tools add what they find on stdin to the prompt, so there is nothing unless it is the prompt.
      const extras = { prompt, stdin: onStdin ? prompt : "", details: (ended: CommandResult) => preset.read(ended, args).details };
      const ended = await runCommand(command, task, attempt, "execute", extras);
      const reading = preset.read(ended, args);
      attempt.spend(usageOf(reading.details));
      return answerOf(reading, ended, clock.now());
    },
  };
}

/** What breakers count of what a tool says of itself. What it read from its cache it paid for when it was written. */
function usageOf(details: Reading["details"]): Usage {
  const amount = (name: string) => (typeof details[name] === "number" && details[name] > 0 ? details[name] : 0);
  const tokens = amount("input_tokens") + amount("output_tokens") + amount("cache_creation_input_tokens");
  return { tokens: Math.round(tokens), cost: amount("cost_usd") };
}

/** What the tool is asked: the description or the filled template, then what the last review found. */
export function promptFor(task: Task, template: string | undefined): string {
  const text = template === undefined ? task.description : fillPlaceholders(template, task);
  const told = template !== undefined && placeholders(template).includes("feedback");
  const feedback = task.feedback && !told ? `\n\n## Feedback on your last attempt\n\nIt was not accepted. Take this into account:\n\n${task.feedback}` : "";
  // A task that begins with a dash would be taken for an option.
  return `${text.startsWith("-") ? "\n" : ""}${text}${feedback}`;
}

function answerOf(reading: Reading, ended: CommandResult, now: number): string {
  if (reading.limited) {
    const message = reading.error ?? "usage limit reached";
    throw new UsageLimitError(message, readLimit(message, now)?.resumeAt ?? now + UNKNOWN_LIMIT_MS);
  }
  if (reading.error !== undefined) {
    const details = { exit_code: ended.exitCode, ...(reading.permanent ? { permanent: true } : {}), ...reading.details };
    throw new PawlError("failed", reading.error, { details });
  }
  if (reading.text === null) return resultOf(ended);
  if (ended.exitCode !== 0) throw failure(ended, "command");
  return reading.text;
}

/* ---------- claude ---------- */

/** What no second try mends: the request, the login, the right, the model. */
const HOPELESS = new Set([400, 401, 403, 404]);

/**
 * `claude -p --output-format json` prints one object of type "result" (with --verbose a list that ends with it). An API
 * error has is_error and api_error_status there; its subtype still says "success", and the exit code may be 0.
 */
function readClaude(ended: CommandResult, args: readonly string[]): Reading {
  const answer = claudeAnswer(ended.stdout);
  if (answer === null) return readPlain(ended, args.some((arg) => arg.startsWith("--output-format")));
  const text = wellFormed(typeof answer["result"] === "string" ? answer["result"] : "");
  const details = claudeDetails(answer);
  const status = answer["api_error_status"];
  const subtype = typeof answer["subtype"] === "string" ? answer["subtype"] : "";
  const limited = status === 429 || readLimit(text, 0, { alone: answer["is_error"] !== true }) !== null;
  if (limited) return { text: null, error: text || "usage limit reached", limited, details };
  if (answer["is_error"] === true || subtype.startsWith("error")) {
    const why = text || (subtype.startsWith("error") ? subtype.replaceAll("_", " ") : "no reason given");
    return { text: null, error: `claude failed${typeof status === "number" ? ` (HTTP ${status})` : ""}: ${why.slice(0, 2_000)}`, permanent: HOPELESS.has(status as number), details };
  }
  return { text, details };
}

/** No JSON: it died early, or its arguments asked for text. Only a limit is read from words. */
function readPlain(ended: CommandResult, asked: boolean): Reading {
  for (const text of [ended.stdout.trim(), ended.stderr.trim()]) {
    const limit = readLimit(text, 0, { alone: ended.exitCode === 0 });
    if (limit !== null) return { text: null, error: limit.message, limited: true, details: {} };
  }
  if (asked || ended.exitCode !== 0 || !ended.complete) return { text: null, details: {} };
  // A login page or a broken installation ends with 0 as well; its words are no result.
  return { text: null, error: `claude printed no JSON answer, but: ${ended.stdout.trim().slice(0, 200) || "nothing"}`, details: {} };
}

type Fields = { readonly [name: string]: unknown };

function claudeAnswer(stdout: string): Fields | null {
  for (const text of [stdout, stdout.trimEnd().split("\n").at(-1)!]) {
    try {
      const value: unknown = JSON.parse(text);
      const result = (Array.isArray(value) ? value : [value]).findLast((item: Fields | null) => item?.["type"] === "result" || item?.["is_error"] !== undefined);
      if (result) return result as Fields;
    } catch {
      // Not JSON as a whole: the streamed form has one object a line, the answer in the last.
    }
  }
  return null;
}

function claudeDetails(answer: Fields): { [name: string]: Json } {
  const usage = (typeof answer["usage"] === "object" && answer["usage"] !== null ? answer["usage"] : {}) as Fields;
  const found: { [name: string]: unknown } = {
    session_id: answer["session_id"],
    input_tokens: usage["input_tokens"],
    output_tokens: usage["output_tokens"],
    cache_creation_input_tokens: usage["cache_creation_input_tokens"],
    cache_read_input_tokens: usage["cache_read_input_tokens"],
    cost_usd: answer["total_cost_usd"],
    turns: answer["num_turns"],
    api_error_status: answer["api_error_status"],
  };
  const plain = (value: unknown) => (typeof value === "string" ? wellFormed(value) : value);
  const known = Object.entries(found).filter(([, value]) => typeof value === "string" || (typeof value === "number" && Number.isFinite(value)));
  return Object.fromEntries(known.map(([name, value]) => [name, plain(value) as Json]));
}

// `pawl run`: works a list of tasks through an executor, and goes on where it stopped when called again. Invariant: without
// an executor, or with one that cannot work, nothing is created and nothing changes.
import type { Command } from "commander";
import { isDeepStrictEqual } from "node:util";
import { iso, parseIso, systemClock } from "../base/clock.ts";
import { ERROR_CODES, isPawlError, PawlError } from "../base/errors.ts";
import { canonical } from "../base/json.ts";
import { pausedUntil, planImport, summarizeTasks, type BatchSummary } from "../core/batch.ts";
import { batchOf, getBatch, isUnfinished, itemsOf, liftPause, listBatches, summaryOf, updateBatch } from "../core/batches.ts";
import { breakerIds, isStuck, standsLine } from "../core/breaker.ts";
import { getBreakers, removeBreaker } from "../core/breakers.ts";
import type { Lane } from "../core/claim.ts";
import { DEFAULT_QUEUE } from "../core/new-task.ts";
import { FRESH_LINE, limitLine, loadedLine } from "../core/progress.ts";
import type { ListEntry } from "../core/list-entry.ts";
import type { Batch, Task } from "../core/records.ts";
import { shellQuote } from "../core/words.ts";
import { dueElsewhere } from "../operations/looks.ts";
import type { ListFormat } from "../core/task-list.ts";
import { importFile, readList, realPath } from "../worker/import.ts";
import { asRecipe, executorOf, verifierOf, type Kitchen } from "../worker/recipes.ts";
import type { Executor, Verifier } from "../worker/executor.ts";
import type { State } from "../state.ts";
import { escapeText } from "./escape.ts";
import { MODELS } from "./models.ts";
import { addExecutorFlags, readBackoff, readBreaker, readHook, readRunFlags, withConfig, type Limits, type RawRunFlags, type RunFlags } from "./run-flags.ts";
import { runLoop, type RunEnd, type RunPlan } from "./run-loop.ts";
import { documentText, type Shell } from "./shell.ts";
import { exitCodeOf } from "./signals.ts";
import { addStepCommand } from "./step.ts";
import { addWaitCommand } from "./wait.ts";
import { addWorkerCommand } from "./worker.ts";

export function addProcessCommands(program: Command, shell: Shell): void {
  addRunCommand(program, shell);
  addWorkerCommand(program, shell);
  addStepCommand(program, shell);
  addWaitCommand(program, shell);
}

const EXAMPLES = `
Examples:
  pawl run tasks.txt --exec 'echo {description}'
  pawl run tasks.txt --with claude --verify 'npm test'
  pawl run tasks.txt --with claude --prompt prompt.md -- --model sonnet --allowedTools Edit
  pawl run tasks.txt --model anthropic/claude-sonnet-4-5 --tools tools.ts
  pawl run tasks.txt                    goes on where it stopped, as it was started
  pawl run --resume --retry-failed      the newest unfinished batch, failed tasks included
  pawl run --exec ./work.sh             works what is due outside batches`;

function addRunCommand(program: Command, shell: Shell): void {
  addExecutorFlags(program.command("run [file] [args...]").description("Work a task list, and go on where it stopped"))
    .option("--max-attempts <n>", "executions of a task at most (default: 3)")
    .option("--timeout <duration>", "time-out of one attempt, such as 90s or 5m")
    .option("--deadline <duration>", "a task fails when it has not ended so long after its creation")
    .option("--resume [id]", "go on with this batch, or the newest unfinished one")
    .option("--retry-failed", "try its failed tasks again")
    .option("--ignore-limit", "start at once although a usage limit was met that has not ended")
    .option("--new", "a new batch, even of the same list or beside an unfinished one")
    .option("--max-tasks <n>", "stop after so many tasks were started")
    .option("--halt <rule>", "soon,fail=N or now,fail=N: stop after N failed tasks")
    .option("--var <name=value...>", "value for {{NAME}} in the list")
    .option("--format <format>", "format of the list: text, markdown, json, jsonl, csv")
    .option("--queue <name>", "without a list: the queue to work (default: default)")
    .option("--dry-run", "say what would be done, and change nothing")
    .addHelpText("after", EXAMPLES)
    .action(async (file: string | undefined, args: string[], raw: RawRunFlags) => {
      shell.exit(await run(shell, file, args, raw));
    });
}

async function run(shell: Shell, file: string | undefined, args: readonly string[], raw: RawRunFlags): Promise<number> {
  const configured = withConfig(raw, shell.io.cwd);
  const flags = readRunFlags(configured, args);
  if (file !== undefined && configured.resume !== undefined) throw new PawlError("usage", "Name a list or use --resume, not both.");
  const known = shell.exists() ? await remembered(shell, file, configured) : null;
  if (configured.resume !== undefined && known === null) throw new PawlError("not_found", "There is no unfinished batch to resume.", { next: "Start one: pawl run tasks.txt --exec …" });
  const job = { file, configured, flags };
  const plan = await planFor(shell, job, known);
  return configured.dryRun ? dryRun(shell, plan.list, configured, known, plan.chosen) : start(shell, job, plan, known);
}

/** What the command line asks for. */
type Job = { readonly file: string | undefined; readonly configured: RawRunFlags; readonly flags: RunFlags };

type Chosen = { readonly executor: Executor; readonly verifier: Verifier | null; readonly limits: Limits };

/** What is worked, and how: as the flags say and, where they say nothing, as the batch remembers. */
type Plan = {
  readonly list: List | null;
  readonly chosen: Chosen;
  /** A usage limit that the batch remembers does not hold: it was met by another program, or the user knows better. */
  readonly lifts: boolean;
};

async function planFor(shell: Shell, { file, configured, flags }: Job, known: Batch | null): Promise<Plan> {
  const { executor, verifier } = choose(shell, flags, known);
  const lifts = known !== null && (flags.ignoreLimit || !isDeepStrictEqual(canonical(executor.recipe), known.executor));
  const limits = limitsOf(flags, known, lifts, systemClock.now());
  const list = file === undefined ? null : { file, entries: readList(file, { ...formatOf(configured), vars: limits.vars ?? {} }) };
  await executor.prepare?.();
  await verifier?.prepare?.();
  return { list, chosen: { executor, verifier, limits }, lifts };
}

/** A list, read: standard input gives its lines only once. */
type List = { readonly file: string; readonly entries: readonly ListEntry[] };

/** The batch this run goes on with, looked up without changing anything. */
async function remembered(shell: Shell, file: string | undefined, raw: RawRunFlags): Promise<Batch | null> {
  const state = await shell.open({ readOnly: true });
  try {
    return await rememberedIn(state, file, raw);
  } finally {
    await state.close();
  }
}

async function rememberedIn(state: State, file: string | undefined, raw: RawRunFlags): Promise<Batch | null> {
  if (typeof raw.resume === "string") return getBatch(state.committer, raw.resume);
  if (raw.resume === true) return newestUnfinished(state);
  return file === undefined || file === "-" || raw.new ? null : batchOf(state.committer, realPath(file));
}

async function newestUnfinished(state: State): Promise<Batch | null> {
  const batches = await listBatches(state.committer, 100);
  for (const batch of batches) if (await isUnfinished(state.committer, batch.id)) return batch;
  // A batch whose tasks all ended may still have failed ones to try again.
  return batches[0] ?? null;
}

function limitsOf(flags: RunFlags, known: Batch | null, lifts: boolean, now: number): Limits {
  const { paused_until: _, ...before } = (known?.limits ?? {}) as Limits;
  const vars = { ...before.vars, ...flags.limits.vars };
  const paused = known && !lifts && pausedUntil(known, now);
  return { ...before, ...(paused ? { paused_until: paused } : {}), ...flags.limits, ...(Object.keys(vars).length === 0 ? {} : { vars }) };
}

function choose(shell: Shell, flags: RunFlags, known: Batch | null): Omit<Chosen, "limits"> {
  const kitchen: Kitchen = { cwd: shell.io.cwd, state: shell.url(), ...(shell.ask ? { ask: shell.ask } : {}), models: MODELS };
  const recipe = flags.executor ?? asRecipe(known?.executor ?? null);
  if (!recipe) throw noExecutor();
  const judge = flags.verifier ?? asRecipe(known?.verifier ?? null);
  return {
    executor: executorOf(recipe, kitchen),
    verifier: judge ? verifierOf(judge, kitchen) : null,
  };
}

function noExecutor(): PawlError {
  return new PawlError("usage", "Nothing says who does the work, so nothing was changed.", {
    next: "Name an executor: --exec 'COMMAND {description}' for any program, --with claude for Claude Code, --model PROVIDER/NAME for a model, or put one into .pawl/config.json: {\"exec\": \"…\"}.",
  });
}

function formatOf(raw: RawRunFlags): { format?: ListFormat } {
  return raw.format === undefined ? {} : { format: raw.format as ListFormat };
}

async function start(shell: Shell, job: Job, plan: Plan, before: Batch | null): Promise<number> {
  const { io } = shell;
  const { configured: raw, flags } = job;
  const { json } = shell.globals();
  const say = (line: string) => (json ? undefined : io.out(`${escapeText(line)}\n`));
  const fresh = !shell.exists();
  const state = await shell.open({ create: true });
  try {
    if (fresh) say(FRESH_LINE);
    else say(loadedLine(Object.values(await state.tasks.count()).reduce((sum, n) => sum + n, 0), shell.location()));
    // What was edited by hand came in when the state was opened to write: it may be about this batch.
    const known = before && (await rememberedIn(state, job.file, raw));
    const { list, chosen, lifts } = isDeepStrictEqual(known, before) ? plan : await planFor(shell, job, known);
    const batch = list === null ? known : await importList(state, list, raw, chosen, say);
    if (known && lifts) await liftPause(state.committer, known, state.actor);
    if (batch) await updateBatch(state.committer, batch.id, { executor: chosen.executor.recipe, verifier: chosen.verifier?.recipe ?? null, limits: chosen.limits });
    const scope = scopeOf(state, batch, raw.queue ?? DEFAULT_QUEUE);
    if (raw.retryFailed) await retryAll(state, scope, say);
    if (chosen.limits.breaker === "off") await removeBreaker(state.committer, breakerIds(scope.lane).at(-1)!).catch(unlessThere);
    if (!batch) await sayElsewhere(shell, state, scope.lane.queue);
    const { paused_until } = chosen.limits;
    if (paused_until !== undefined) say(`Still a ${limitLine(parseIso(paused_until))}. To start at once: --ignore-limit`);
    const end = await runLoop(state, io, planOf(state, io.cwd, flags, chosen, batch, scope, json));
    if (json) io.out(`${JSON.stringify({ schema_version: 1, kind: "run", data: { batch: batch?.id ?? null, ...end.summary, signal: end.signal, ...(end.stuck === null ? {} : { breaker: end.stuck }) } })}\n`);
    else say(`State saved to: ${shell.location()}`);
    return codeOf(end);
  } finally {
    await state.close();
  }
}

/** A run without a list works one queue, outside of batches: when nothing is due there, it says where something is. */
async function sayElsewhere(shell: Shell, state: State, queue: string): Promise<void> {
  if ((await state.committer.store.count("task", { index: "due", equals: { queue, batch_id: null } })) > 0) return;
  const elsewhere = await dueElsewhere(state, "run", queue, "--resume");
  if (elsewhere !== null) shell.notice(`Nothing is due in queue ${queue}. ${elsewhere}`);
}

async function importList(state: State, { file, entries }: List, raw: RawRunFlags, chosen: Chosen, say: (line: string) => unknown): Promise<Batch> {
  const { limits } = chosen;
  const defaults = {
    ...(limits.max_attempts === undefined ? {} : { max_attempts: limits.max_attempts }), ...(limits.timeout_ms === undefined ? {} : { timeout_ms: limits.timeout_ms }),
    ...(limits.deadline_ms === undefined ? {} : { deadline_ms: limits.deadline_ms }), ...(chosen.verifier ? { verifier: chosen.verifier.name } : {}),
  };
  const { batch, report, created } = await importFile(state.committer, file, { vars: raw.var ?? [], entries, fresh: raw.new === true, alone: true, defaults }, state.actor);
  if (!created && report.added > 0) say(`Imported ${report.added} new ${report.added === 1 ? "task" : "tasks"} from ${file}`);
  if (report.gone > 0) say(`${report.gone} ${report.gone === 1 ? "task is" : "tasks are"} no longer in ${file}; ${report.gone === 1 ? "it stays" : "they stay"}.`);
  return batch;
}

async function retryAll(state: State, scope: Scope, say: (line: string) => unknown): Promise<void> {
  const failed = (await scope.tasks()).filter((task) => task.status === "failed");
  for (const task of failed) await state.tasks.retry(task.id, { reason: "run --retry-failed" });
  if (failed.length > 0) say(`Trying ${failed.length} failed ${failed.length === 1 ? "task" : "tasks"} again`);
}

function unlessThere(error: unknown): void {
  if (!isPawlError(error, "not_found")) throw error;
}

function planOf(state: State, cwd: string, flags: RunFlags, chosen: Chosen, batch: Batch | null, scope: Scope, quiet: boolean): RunPlan {
  const { executor, verifier, limits } = chosen;
  const breaker = readBreaker(limits.breaker);
  return {
    worker: {
      executor, verifier, concurrency: limits.concurrency ?? 1,
      ...(limits.backoff === undefined ? {} : { backoff: readBackoff(limits.backoff) }),
      ...(breaker === null ? {} : { breaker }),
      ...(flags.maxTasks === undefined ? {} : { maxTasks: flags.maxTasks }),
      ...(limits.paused_until === undefined ? {} : { pausedUntil: parseIso(limits.paused_until) }),
      // The next process of this batch must not start what this one may not.
      onPause: (until: number) => (batch ? updateBatch(state.committer, batch.id, { limits: { ...limits, paused_until: iso(until) } }) : undefined),
      lanes: async () => [scope.lane],
    },
    halt: flags.halt,
    notify: readHook(limits.notify, cwd),
    summary: scope.summary,
    heldBack: async () => {
      const now = state.clock.now();
      const breakers = await getBreakers(state.committer, breakerIds(scope.lane));
      return breakers.flatMap((one) => (one && standsLine(one, now) !== null ? [{ id: one.id, since: `${one.status} ${one.opened_at}`, line: standsLine(one, now)!, stuck: isStuck(one, now) }] : []));
    },
    decisions: async () => {
      const open = await state.decisions.inbox();
      const ours = open.length === 0 ? new Set() : new Set((await scope.tasks()).map(({ id }) => id));
      return open.filter(({ task_id }) => ours.has(task_id)).length;
    },
    onWorker: (id: string) => (batch ? updateBatch(state.committer, batch.id, { worker: id }) : Promise.resolve()),
    resume: batch?.source ? `pawl run ${shellQuote(batch.source)}` : batch ? `pawl run --resume ${batch.id}` : "pawl run --exec …",
    quiet,
  };
}

/** What a run is about: its batch, or without one what belongs to no batch. What it works and what it counts are the same tasks. */
type Scope = { readonly lane: Lane; readonly tasks: () => Promise<Task[]>; readonly summary: () => Promise<BatchSummary> };

function scopeOf(state: State, batch: Batch | null, queue: string): Scope {
  if (batch) return { lane: { queue: batch.queue, batch_id: batch.id }, tasks: () => state.tasks.all({ batch_id: batch.id }), summary: () => summaryOf(state.committer, batch.id) };
  const tasks = async () => (await state.tasks.all()).filter((task) => task.batch_id === null && task.queue === queue);
  return { lane: { queue, batch_id: null }, tasks, summary: async () => summarizeTasks(await tasks()) };
}

function codeOf({ summary, signal, halted, stuck }: RunEnd): number {
  if (signal) return exitCodeOf(signal);
  if (stuck !== null) return ERROR_CODES.waiting.exit;
  return summary.completed === summary.total && !halted ? 0 : 1;
}

async function dryRun(shell: Shell, list: List | null, raw: RawRunFlags, known: Batch | null, chosen: Chosen): Promise<number> {
  const { io } = shell;
  const state = shell.exists() ? await shell.open({ readOnly: true }) : null;
  try {
    const items = known && state ? await itemsOf(state.committer, known.id) : [];
    const add = list === null ? [] : planImport({ id: known?.id ?? "new" }, items, list.entries).add.map(({ entry }) => entry.description);
    const tasks = state && (known || list === null) ? await scopeOf(state, known, raw.queue ?? DEFAULT_QUEUE).tasks() : [];
    const run = tasks.filter(({ status }) => status === "pending" || status === "in_progress").map(({ id, description }) => ({ id, description }));
    const plan = { batch: known?.id ?? null, executor: chosen.executor.name, verifier: chosen.verifier?.name ?? null, add, run };
    io.out(shell.globals().json ? documentText("run-plan", plan) : planLines(plan));
    return 0;
  } finally {
    await state?.close();
  }
}

function planLines({ executor, verifier, add, run }: { executor: string; verifier: string | null; add: readonly string[]; run: readonly { id: number; description: string }[] }): string {
  const lines = [`Executor: ${executor}`, ...(verifier === null ? [] : [`Verifier: ${verifier}`]), ...add.map((description) => `Would add: ${description}`), ...run.map(({ id, description }) => `Would run: [Task ${id}] ${description}`)];
  return `${lines.map(escapeText).join("\n")}\nNothing was changed.\n`;
}

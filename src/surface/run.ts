// `pawl run`: works a list of tasks through an executor, and goes on where it stopped when called again. Invariant: without
// an executor, or with one that cannot work, nothing is created and nothing changes.
import type { Command } from "commander";
import { PawlError } from "../base/errors.ts";
import { planImport } from "../core/batch.ts";
import { batchOf, getBatch, isUnfinished, itemsOf, listBatches, summaryOf, updateBatch } from "../core/batches.ts";
import type { Lane } from "../core/claim.ts";
import { DEFAULT_QUEUE } from "../core/new-task.ts";
import { FRESH_LINE, loadedLine } from "../core/progress.ts";
import type { Batch } from "../core/records.ts";
import { shellQuote } from "../core/words.ts";
import type { ListFormat } from "../core/task-list.ts";
import { importFile, readList, realPath } from "../worker/import.ts";
import { asRecipe, executorOf, verifierOf, type Kitchen } from "../worker/recipes.ts";
import type { Executor, Verifier } from "../worker/executor.ts";
import type { State } from "../state.ts";
import { escapeText } from "./escape.ts";
import { addExecutorFlags, readBackoff, readRunFlags, withConfig, type Limits, type RawRunFlags, type RunFlags } from "./run-flags.ts";
import { runLoop, type RunEnd } from "./run-loop.ts";
import type { Shell } from "./shell.ts";
import { exitCodeOf } from "./signals.ts";
import { addStepCommand } from "./step.ts";
import { addWorkerCommand } from "./worker.ts";

export function addProcessCommands(program: Command, shell: Shell): void {
  addRunCommand(program, shell);
  addWorkerCommand(program, shell);
  addStepCommand(program, shell);
}

const EXAMPLES = `
Examples:
  pawl run tasks.txt --exec 'echo {description}'
  pawl run tasks.txt --with claude --verify 'npm test'
  pawl run tasks.txt --with claude --prompt prompt.md -- --model sonnet --allowedTools Edit
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
  if (file !== undefined) readList(file, listOptions(configured));
  const known = shell.exists() ? await remembered(shell, file, configured) : null;
  if (configured.resume !== undefined && known === null) throw new PawlError("not_found", "There is no unfinished batch to resume.", { next: "Start one: pawl run tasks.txt --exec …" });
  const chosen = choose(shell, flags, known);
  await chosen.executor.prepare?.();
  await chosen.verifier?.prepare?.();
  if (configured.dryRun) return dryRun(shell, file, configured, known, chosen);
  return start(shell, file, configured, flags, chosen, known);
}

type Chosen = { readonly executor: Executor; readonly verifier: Verifier | null; readonly limits: Limits };

/** The batch this run goes on with, looked up without changing anything. */
async function remembered(shell: Shell, file: string | undefined, raw: RawRunFlags): Promise<Batch | null> {
  const state = await shell.open({ readOnly: true });
  try {
    if (typeof raw.resume === "string") return await getBatch(state.committer, raw.resume);
    if (raw.resume === true) return await newestUnfinished(state);
    return file === undefined || file === "-" || raw.new ? null : await batchOf(state.committer, realPath(file));
  } finally {
    await state.close();
  }
}

async function newestUnfinished(state: State): Promise<Batch | null> {
  const batches = await listBatches(state.committer, 100);
  for (const batch of batches) if (await isUnfinished(state.committer, batch.id)) return batch;
  // A batch whose tasks all ended may still have failed ones to try again.
  return batches[0] ?? null;
}

function choose(shell: Shell, flags: RunFlags, known: Batch | null): Chosen {
  const kitchen: Kitchen = { cwd: shell.io.cwd, state: shell.location(), ...(shell.ask ? { ask: shell.ask } : {}) };
  const recipe = flags.executor ?? asRecipe(known?.executor ?? null);
  if (!recipe) throw noExecutor();
  const judge = flags.verifier ?? asRecipe(known?.verifier ?? null);
  return {
    executor: executorOf(recipe, kitchen),
    verifier: judge ? verifierOf(judge, kitchen) : null,
    limits: { ...((known?.limits ?? {}) as Limits), ...flags.limits },
  };
}

function noExecutor(): PawlError {
  return new PawlError("no_executor", "Nothing says who does the work, so nothing was changed.", {
    next: "Name an executor: --exec 'COMMAND {description}' for any program, --with claude for Claude Code, or put one into .pawl/config.json: {\"exec\": \"…\"}.",
  });
}

function listOptions(raw: RawRunFlags): { format?: ListFormat; vars?: readonly string[] } {
  return { ...(raw.format === undefined ? {} : { format: raw.format as ListFormat }), ...(raw.var === undefined ? {} : { vars: raw.var }) };
}

async function start(shell: Shell, file: string | undefined, raw: RawRunFlags, flags: RunFlags, chosen: Chosen, known: Batch | null): Promise<number> {
  const { io } = shell;
  const { json } = shell.globals();
  const say = (line: string) => (json ? undefined : io.out(`${escapeText(line)}\n`));
  const fresh = !shell.exists();
  const state = await shell.open({ create: true });
  try {
    if (fresh) say(FRESH_LINE);
    else say(loadedLine(Object.values(await state.tasks.count()).reduce((sum, n) => sum + n, 0), shell.location()));
    const batch = file === undefined ? known : await importList(state, file, raw, chosen, say);
    if (batch) await updateBatch(state.committer, batch.id, { executor: chosen.executor.recipe, verifier: chosen.verifier?.recipe ?? null, limits: chosen.limits });
    if (raw.retryFailed) await retryAll(state, batch, say);
    const end = await runLoop(state, io, planOf(state, raw, flags, chosen, batch, json));
    if (json) io.out(`${JSON.stringify({ schema_version: 1, kind: "run", data: { batch: batch?.id ?? null, ...end.summary, signal: end.signal } })}\n`);
    else say(`State saved to: ${shell.location()}`);
    return codeOf(end);
  } finally {
    await state.close();
  }
}

async function importList(state: State, file: string, raw: RawRunFlags, chosen: Chosen, say: (line: string) => unknown): Promise<Batch> {
  const { limits } = chosen;
  const defaults = {
    ...(limits.max_attempts === undefined ? {} : { max_attempts: limits.max_attempts }), ...(limits.timeout_ms === undefined ? {} : { timeout_ms: limits.timeout_ms }),
    ...(limits.deadline_ms === undefined ? {} : { deadline_ms: limits.deadline_ms }), ...(chosen.verifier ? { verifier: chosen.verifier.name } : {}),
  };
  const { batch, report, created } = await importFile(state.committer, file, { ...listOptions(raw), fresh: raw.new === true, alone: true, defaults }, state.actor);
  if (!created && report.added > 0) say(`Imported ${report.added} new ${report.added === 1 ? "task" : "tasks"} from ${file}`);
  if (report.gone > 0) say(`${report.gone} ${report.gone === 1 ? "task is" : "tasks are"} no longer in ${file}; they stay.`);
  return batch;
}

async function retryAll(state: State, batch: Batch | null, say: (line: string) => unknown): Promise<void> {
  const failed = await state.tasks.all({ status: "failed", ...(batch ? { batch_id: batch.id } : {}) });
  for (const task of failed) await state.tasks.retry(task.id, { reason: "run --retry-failed" });
  if (failed.length > 0) say(`Trying ${failed.length} failed ${failed.length === 1 ? "task" : "tasks"} again`);
}

function planOf(state: State, raw: RawRunFlags, flags: RunFlags, chosen: Chosen, batch: Batch | null, quiet: boolean) {
  const { executor, verifier, limits } = chosen;
  const queue = raw.queue ?? DEFAULT_QUEUE;
  return {
    worker: {
      executor, verifier, concurrency: limits.concurrency ?? 1,
      ...(limits.backoff === undefined ? {} : { backoff: readBackoff(limits.backoff) }),
      ...(flags.maxTasks === undefined ? {} : { maxTasks: flags.maxTasks }),
      lanes: async (): Promise<readonly Lane[]> => (batch ? [{ queue: batch.queue, batch_id: batch.id }] : lanesOutsideRuns(state, queue)),
    },
    halt: flags.halt,
    summary: () => (batch ? summaryOf(state.committer, batch.id) : state.status().then((status) => status.tasks)),
    onWorker: (id: string) => (batch ? updateBatch(state.committer, batch.id, { worker: id }) : Promise.resolve()),
    resume: batch?.source ? `pawl run ${shellQuote(batch.source)}` : batch ? `pawl run --resume ${batch.id}` : "pawl run --exec …",
    quiet,
  };
}

/** What is due outside running batches: the tasks of no batch, and those of batches nobody runs now. */
async function lanesOutsideRuns(state: State, queue: string): Promise<Lane[]> {
  const { store } = state.committer;
  const workers = new Set((await store.list("worker")).map((worker) => worker["id"]));
  const idle = (await listBatches(state.committer, 100)).filter((batch) => batch.queue === queue && !workers.has(batch.worker));
  return [{ queue, batch_id: null }, ...idle.map((batch) => ({ queue, batch_id: batch.id }))];
}

function codeOf({ summary, signal, halted }: RunEnd): number {
  if (signal) return exitCodeOf(signal);
  return summary.completed === summary.total && !halted ? 0 : 1;
}

async function dryRun(shell: Shell, file: string | undefined, raw: RawRunFlags, known: Batch | null, chosen: Chosen): Promise<number> {
  const { io } = shell;
  io.out(`Executor: ${escapeText(chosen.executor.name)}\n`);
  if (chosen.verifier) io.out(`Verifier: ${escapeText(chosen.verifier.name)}\n`);
  const existing = shell.exists();
  const state = existing ? await shell.open({ readOnly: true }) : null;
  try {
    const entries = file === undefined ? [] : readList(file, listOptions(raw));
    const items = known && state ? await itemsOf(state.committer, known.id) : [];
    const plan = planImport({ id: known?.id ?? "new" }, items, entries);
    for (const { entry } of file === undefined ? [] : plan.add) io.out(`Would add: ${escapeText(entry.description)}\n`);
    const open = state && known ? await state.tasks.all({ batch_id: known.id }) : [];
    for (const task of open.filter((t) => t.status === "pending" || t.status === "in_progress")) io.out(`Would run: [Task ${task.id}] ${escapeText(task.description)}\n`);
    io.out("Nothing was changed.\n");
    return 0;
  } finally {
    await state?.close();
  }
}

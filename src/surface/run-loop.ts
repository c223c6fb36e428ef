// One run, from its first claim to its summary: what is printed while it goes, what stops it, and when it is over. It is
// over when nothing in its lanes moves by itself any more; tasks that wait for a person or are blocked are named, not awaited.
import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import { isMoving, type Lane } from "../core/claim.ts";
import { ALL_COMPLETED_LINE, completedLine, failedLine, NOTHING_TO_DO_LINE, progressLine, remainingLine, taskLine } from "../core/progress.ts";
import type { BatchSummary } from "../core/batch.ts";
import type { Task } from "../core/records.ts";
import type { State } from "../state.ts";
import { watchDecisions, type DecisionHook } from "../worker/notify.ts";
import type { WorkerOptions } from "../worker/worker.ts";
import { escapeText } from "./escape.ts";
import { bar, type Bar } from "./bar.ts";
import type { Io } from "./io.ts";
import { onSignals, stopLine } from "./signals.ts";

export type Halt = { readonly when: "soon" | "now"; readonly fails: number };

export type RunPlan = {
  readonly worker: WorkerOptions & { readonly lanes: () => Promise<readonly Lane[]> };
  readonly halt: Halt | null;
  /** Told of each decision that waits for a person. */
  readonly notify: DecisionHook | null;
  /** Counts of what this run is about. */
  readonly summary: () => Promise<BatchSummary>;
  /** The breakers that hold its tasks back; a stuck one is closed by a person only. */
  readonly heldBack: () => Promise<readonly { readonly id: string; readonly since: string; readonly line: string; readonly stuck: boolean }[]>;
  /** How many open decisions are about its tasks. */
  readonly decisions: () => Promise<number>;
  /** Called with the worker's id before it claims. */
  readonly onWorker: (id: string) => Promise<unknown>;
  /** The command that goes on with it. */
  readonly resume: string;
  readonly quiet: boolean;
};

export type RunEnd = { readonly summary: BatchSummary; readonly signal: NodeJS.Signals | null; readonly halted: boolean; /** The breaker that ended it. */ readonly stuck: string | null };

/** Runs until nothing moves, a halt or a signal. Prints as it goes unless quiet. */
export async function runLoop(state: State, io: Io, plan: RunPlan): Promise<RunEnd> {
  const before = await plan.summary();
  const say = (line: string) => (plan.quiet ? undefined : io.out(`${line}\n`));
  const left = before.pending + before.in_progress + before.review + before.waiting;
  say(progressLine(before.completed, before.total));
  if (left === 0) {
    say(before.completed === before.total ? NOTHING_TO_DO_LINE : summaryLines(before, await plan.decisions(), plan.resume).join("\n"));
    return { summary: before, signal: null, halted: false, stuck: null };
  }
  say(remainingLine(left));
  const progress = new Progress(io, plan, before, state.clock);
  const worker = state.startWorker({ ...plan.worker, ...progress.hooks, notice: (line) => progress.note(line) });
  progress.onHalt = (when) => (when === "now" ? void worker.abort("the run was halted").catch(() => undefined) : worker.halt());
  const signals = onSignals(io, (signal, n) => {
    if (n > 1) {
      state.committer.store.hurry?.();
      return void worker.abort(`stopped by ${signal}`).catch(() => undefined);
    }
    progress.note(stopLine(signal, worker.active.length));
    worker.halt();
  });
  const watch = plan.notify ? watchDecisions(state, plan.notify, (line) => progress.note(line)) : null;
  let stuck: string | null = null;
  try {
    await plan.onWorker(worker.id);
    stuck = await untilSettled(state, worker, plan, (line) => progress.note(line));
  } finally {
    await worker.stop();
    await watch?.stop();
    signals.off();
    progress.end();
  }
  const summary = await plan.summary();
  for (const line of summaryLines(summary, await plan.decisions(), plan.resume)) say(line);
  if (stuck !== null) say(`Held back by its breaker; close it first: pawl breaker reset ${stuck}`);
  return { summary, signal: signals.received, halted: progress.halted, stuck };
}

/** Returns the breaker that let nothing more start, if that is why it ended. */
async function untilSettled(state: State, worker: ReturnType<State["startWorker"]>, plan: RunPlan, note: (line: string) => void): Promise<string | null> {
  const told = new Set<string>();
  for (;;) {
    await worker.idle();
    if (!worker.claiming) return null;
    if (!(await isMoving(state.committer, await plan.worker.lanes(), plan.worker.verifier?.name ?? null))) return null;
    const held = await plan.heldBack();
    for (const { id, since, line } of held) {
      if (!told.has(`${id} ${since}`)) note(line);
      told.add(`${id} ${since}`);
    }
    const stuck = held.find((breaker) => breaker.stuck);
    if (stuck) return stuck.id;
    await worker.nextEvent();
  }
}

/** What a run left, and how to go on. "All tasks completed!" only when that is true. */
export function summaryLines(summary: BatchSummary, decisions: number, resume: string): string[] {
  if (summary.completed === summary.total) return [ALL_COMPLETED_LINE];
  const { completed, failed, waiting, review, blocked, cancelled, pending, in_progress, total } = summary;
  const parts = [[failed, "failed"], [waiting, "waiting"], [review, "in review"], [blocked, "blocked"], [pending - blocked, "pending"], [in_progress, "in progress"], [cancelled, "cancelled"]] as const;
  const lines = [`${completed}/${total} completed${parts.filter(([n]) => n > 0).map(([n, word]) => `, ${n} ${word}`).join("")}`];
  if (decisions > 0) lines.push("Waiting for you: pawl inbox");
  else if (review > 0) lines.push("Whose turn a review is: pawl why ID");
  if (failed > 0) lines.push(`Try the failed ones again: ${resume} --retry-failed`);
  if (pending - blocked + in_progress > 0) lines.push(`Go on: ${resume}`);
  if (blocked > 0) lines.push("Why a task is blocked: pawl why ID");
  return lines;
}

/** What is printed while tasks start and end: plain lines, and on a terminal a bar below them. */
class Progress {
  readonly hooks: Pick<WorkerOptions, "onStart" | "onReview" | "onEnd">;
  onHalt: (when: Halt["when"]) => void = () => undefined;
  halted = false;
  readonly #io: Io;
  readonly #plan: RunPlan;
  readonly #bar: Bar | null;
  readonly #total: number;
  readonly #many: boolean;
  #completed: number;
  #failed = 0;

  constructor(io: Io, plan: RunPlan, before: BatchSummary, clock: Clock) {
    this.#io = io;
    this.#plan = plan;
    this.#total = before.total;
    this.#completed = before.completed;
    this.#many = (plan.worker.concurrency ?? 1) > 1;
    this.#bar = io.tty && io.errTty && !plan.quiet ? bar(io, clock, { total: before.total, done: before.completed, concurrency: plan.worker.concurrency ?? 1 }) : null;
    this.hooks = { onStart: (task) => this.#start(task), onEnd: (task) => this.#end(task), onReview: (task, verdict) => (verdict.passed ? undefined : this.#line(task, `  ↺ Rejected: ${firstLine(verdict.feedback ?? "")}`)) };
  }

  note(line: string): void {
    this.#bar?.clear();
    this.#io.err(`${escapeText(line)}\n`);
  }

  end(): void {
    this.#bar?.clear();
  }

  #line(task: Task, line: string): void {
    if (this.#plan.quiet) return;
    this.#bar?.clear();
    this.#io.out(`${this.#many ? `[Task ${task.id}]` : ""}${escapeText(line)}\n`);
    this.#bar?.draw();
  }

  #start(task: Task): void {
    this.#bar?.started(task.id);
    if (this.#plan.quiet) return;
    this.#bar?.clear();
    this.#io.out(`${escapeText(taskLine(task.id, task.description))}${task.attempts > 1 ? ` (attempt ${task.attempts} of ${task.max_attempts})` : ""}\n`);
    this.#bar?.draw();
  }

  #end(task: Task): void {
    this.#bar?.ended(task.id, task.status === "completed");
    if (task.status === "completed") return this.#line(task, completedLine(++this.#completed, this.#total));
    if (task.status === "failed") {
      this.#line(task, failedLine(task.error?.message ?? ""));
      this.#failed++;
      const { halt } = this.#plan;
      if (halt && this.#failed >= halt.fails && !this.halted) {
        this.halted = true;
        this.note(`Halted: ${this.#failed} failed.`);
        this.onHalt(halt.when);
      }
      return;
    }
    if (task.status === "waiting") return this.#line(task, "  ⏸ Waiting (pawl inbox)");
    // Given back undone (a drain, a usage limit) it goes on with its attempt: nothing failed.
    if (task.status === "pending" && task.error && !task.continues) this.#line(task, `  ↻ Attempt ${task.attempts} failed: ${firstLine(task.error.message)}${task.run_at ? `; again at ${task.run_at}` : ""}`);
  }
}

function firstLine(text: string): string {
  return messageOf(text).trim().split("\n")[0]!.slice(0, 200);
}

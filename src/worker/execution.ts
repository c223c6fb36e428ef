// How steps work: replayed, run, recorded, or settled when their outcome is in question. One Execution lives from a claim
// until the code ends, is parked or loses the task; its branches are in branches.ts, its waits in waits.ts. Invariants:
// nothing is recorded without the fence; the live caller gets exactly what a replay gets.
import { iso, parseIso, sleep as sleepFor } from "../base/clock.ts";
import { isPawlError, PawlError } from "../base/errors.ts";
import type { Random } from "../base/id.ts";
import { canonical, type Json } from "../base/json.ts";
import { largeOutput } from "../core/artifact.ts";
import { outputOf } from "../core/artifacts.ts";
import type { Child } from "../core/child.ts";
import { childrenOf, followParent } from "../core/children.ts";
import { listAll } from "../core/committer.ts";
import { askAbout, getDecision, stepChanged, unknownEffect, verdictOf } from "../core/decision.ts";
import type { Failure, Step, Task, Wait } from "../core/records.ts";
import { backoffMs, failureOf, isPermanent, thrown } from "../core/retry.ts";
import { checkStepName, endStep, explicitKey, hashInput, idempotencyKey, NotDone, recordOf, replay, Scope, startStep, withExtra, type StepPlan } from "../core/step.ts";
import type { SqlHandle } from "../store/store.ts";
import { Branches, type BranchOptions } from "./branches.ts";
import { Children } from "./children.ts";
import type { ChildTask, CheckAnswer, StepContext, StepFunction, StepOptions, StepScope, TaskContext, TransactionOptions } from "./context.ts";
import { UsageLimitError } from "./executor.ts";
import { inTransaction, requireSql } from "./transaction.ts";
import { Waits } from "./waits.ts";

export type ExecutionOptions = BranchOptions & {
  readonly random: Random;
  readonly stateId: string;
  /** Load earlier steps even at the first claim: another process of this ownership may have recorded some. */
  readonly always?: boolean;
  /** Makes sure of the lease before an effect when the process may have slept. */
  readonly revalidate: () => Promise<void> | null;
};

/** A start whose outcome is in question. */
type Started = Pick<Step, "start" | "started_at" | "input" | "effect" | "output" | "output_artifact">;

/** With `sql` the step is that, in the transaction of its record. */
type Options = StepOptions & { readonly sql?: (sql: SqlHandle) => unknown };

export class Execution {
  readonly task: Task;
  readonly context: TaskContext;
  /** Resolves with the open waits when every branch is settled or waiting. */
  readonly parked: Promise<readonly Wait[]>;
  readonly #options: ExecutionOptions;
  readonly #steps = new Map<string, Step[]>();
  readonly #branches: Branches;
  readonly #waits: Waits;
  readonly #children: Children;

  private constructor(task: Task, options: ExecutionOptions, steps: Step[], waits: readonly Wait[], children: readonly Child[]) {
    this.task = task;
    this.#options = options;
    for (const step of steps) {
      const same = this.#steps.get(step.key);
      if (same) same.push(step);
      else this.#steps.set(step.key, [step]);
    }
    this.#branches = new Branches(task, options);
    this.#waits = new Waits(this.#branches, waits);
    this.#children = new Children(this.#branches, this.#waits, options.stateId, children);
    this.parked = this.#branches.parked;
    this.context = { ...this.#scope(new Scope()), signal: options.signal, attempt: task.attempts, recorded: (key) => recordOf(this.#steps.get(key) ?? [], task.round, key) !== null || this.#waits.asked(key, true) !== null };
  }

  /** Loads what earlier ownerships recorded; a task claimed for the first time has nothing. */
  static async open(task: Task, options: ExecutionOptions): Promise<Execution> {
    if (task.fence === 1 && !options.always) return new Execution(task, options, [], [], []);
    // Another try reaches its children before the code that asks for them runs.
    if (task.children_due) await followParent(options.committer, task.id, options.actor);
    const children = task.has_children || options.always ? await childrenOf(options.committer, task.id) : [];
    const [steps, waits] = await Promise.all(["step", "wait"].map((kind) => listAll(options.committer, kind, { equals: { task_id: task.id } })));
    return new Execution(task, options, steps as unknown as Step[], waits as unknown as Wait[], children);
  }

  /** True when some of its waits may still be open. */
  get waited(): boolean {
    return this.#waits.open;
  }

  /** The wait that another process of this ownership ended in at the step with this name and key. */
  endedIn(name: string, key: string): Wait | null {
    return this.#waits.endedIn(explicitKey(name, key));
  }

  /** Steps of it were recorded before it began. */
  get resumed(): boolean {
    return this.#steps.size > 0;
  }

  /** Runs what is no step and belongs to a branch, such as a write of its own: the task is not parked before it is over. */
  busy<T>(work: () => Promise<T>): Promise<T> {
    return this.#branches.during(work);
  }

  /** No more steps: the task's code has ended, or no longer owns the task. */
  end(): void {
    this.#branches.end();
  }

  #scope(scope: Scope): StepScope {
    const step = (name: string, options: unknown, fn?: unknown) =>
      this.#step(scope, name, (typeof options === "function" ? {} : options) as StepOptions, (fn ?? options) as (context: StepContext) => unknown);
    const transaction = (name: string, options: unknown, fn?: unknown) =>
      this.#transaction(scope, name, (typeof options === "function" ? {} : options) as TransactionOptions, (fn ?? options) as (sql: SqlHandle) => unknown);
    return {
      step: Object.assign(step, { transaction }) as StepFunction,
      scope: async (name, fn) => {
        checkStepName(name);
        const child = scope.child(name);
        try {
          return await fn(this.#scope(child));
        } finally {
          scope.close(name);
        }
      },
      sleep: (name, ms) => this.#waits.sleep(scope, name, ms),
      waitFor: (name, options) => this.#waits.event(scope, name, options),
      spawn: (name, task) => this.#children.spawn(scope, name, task),
      all: ((name: string, tasks: readonly ChildTask[], options?: { settle: true }) => this.#children.all(scope, name, tasks, options?.settle === true)) as StepScope["all"],
      ask: async (name, question, details) => (await this.#waits.decide(scope, name, "question", question, details)).answer ?? "",
      decide: (name, ask) => this.#waits.ask(scope, name, ask),
      approve: async (name, question, details) => {
        const decision = await this.#waits.decide(scope, name, "approval", question, details);
        return { approved: decision.status === "approved", reason: decision.status === "expired" ? "nobody answered in time" : decision.reason };
      },
    };
  }

  /** The hot path: for a plain step that runs, two awaits, its function and the flush. */
  async #step(scope: Scope, name: string, options: Options, fn: (context: StepContext) => unknown): Promise<unknown> {
    if (this.#branches.ended) return this.#branches.gone();
    const key = this.#branches.enter(scope, name, options.key);
    try {
      const effect = options.effect ?? "repeat";
      const input = options.input === undefined ? undefined : canonical(options.input, `input of step ${name}`);
      const kept = options.keep === true || (effect === "once" && options.redo !== true);
      const plan: StepPlan = { key, name, effect, kept, input: input ?? null, inputHash: hashInput(input) };
      const recorded = this.#steps.get(key);
      const known = recorded === undefined ? null : recordOf(recorded, this.task.round, key);
      const found = replay(known, this.task, plan.inputHash);
      if (found.do === "output") return canonical(found.step.output_artifact ? await this.#outputOf(found.step) : found.step.output);
      if (found.do === "throw") throw thrown(found.error);
      const asked = known === null && effect === "once" ? this.#waits.asked(key, kept) : null;
      if (asked) return await this.#forgotten(plan, options, fn, asked.decision_id!);
      if (found.do === "run") return await this.#run(plan, options, fn, (known?.start ?? 0) + 1);
      return await this.#resolve(plan, options, fn, found.step, found.do);
    } finally {
      this.#branches.leave(scope);
    }
  }

  /** A step whose effect is SQL in the transaction of its record. */
  async #transaction(scope: Scope, name: string, { key, input, keep }: TransactionOptions, fn: (sql: SqlHandle) => unknown): Promise<unknown> {
    requireSql(this.#options.committer.store);
    return this.#step(scope, name, { ...(key === undefined ? {} : { key }), ...(input === undefined ? {} : { input }), ...(keep === undefined ? {} : { keep }), sql: fn }, () => undefined);
  }

  async #runSql(plan: StepPlan, options: Options, fn: (context: StepContext) => unknown, start: number, sql: (sql: SqlHandle) => unknown): Promise<unknown> {
    const startedAt = this.#branches.now();
    await this.#options.revalidate();
    try {
      return await inTransaction(this.#branches, plan, start, startedAt, sql);
    } catch (error) {
      return this.#failed(plan, options, fn, start, startedAt, error);
    }
  }

  /** Runs it: the intent first for `once`, then the effect, then its record. */
  async #run(plan: StepPlan, options: Options, fn: (context: StepContext) => unknown, start: number): Promise<unknown> {
    if (options.sql) return this.#runSql(plan, options, fn, start, options.sql);
    const startedAt = this.#branches.now();
    const fresh = plan.effect === "once" ? this.#intend(plan, start, startedAt) : this.#options.revalidate();
    if (fresh) await fresh;
    let output: Json;
    try {
      const plain = options.retry === undefined && options.timeoutMs === undefined;
      const value = plain ? fn(this.#stepContext(plan, start, this.#options.signal)) : this.#tries(plan, options, fn, start);
      output = canonical(isThenable(value) ? await value : value, `the output of step ${plan.key}`);
    } catch (error) {
      return this.#failed(plan, options, fn, start, startedAt, error);
    }
    await this.#end(plan, options, start, startedAt, { output });
    // The record keeps its own copy: what the caller does to this one must not reach it.
    return canonical(output);
  }

  /** Records the outcome, with what the caller wants written along with it. */
  #end(plan: StepPlan, options: StepOptions, start: number, startedAt: number, outcome: { output: Json } | { error: Failure }): Promise<void> {
    const now = this.#branches.now();
    const large = "output" in outcome ? largeOutput(outcome.output, plan.name, { actor: this.#options.actor, now }) : null;
    const ended = large && "output" in outcome ? { output: outcome.output, artifact: large.artifact.id } : outcome;
    return this.#branches.commit(withExtra(endStep(this.task, plan, start, startedAt, ended, now), options.also?.(outcome)), large ? { contents: [large] } : {});
  }

  #outputOf(step: Pick<Step, "output" | "output_artifact">): Promise<Json> {
    return outputOf(this.#options.committer, step);
  }

  /** Makes the intent durable. Stopped in that very moment, the effect certainly never began, so the intent is taken back. */
  async #intend(plan: StepPlan, start: number, startedAt: number): Promise<void> {
    const change = startStep(this.task, plan, start, startedAt);
    await this.#branches.commit(change, { whenOver: { guards: change.guards!, puts: [{ kind: "step", key: [this.task.id, this.task.round, plan.key], delete: true }] } });
  }

  async #failed(plan: StepPlan, options: Options, fn: (context: StepContext) => unknown, start: number, startedAt: number, error: unknown): Promise<unknown> {
    const happened = plan.effect === "once" && !(error instanceof NotDone);
    // Taken away or stopped: nothing is known of this effect, and it is not this worker's to say.
    if (this.#options.signal.aborted || isPawlError(error, "lease_lost")) throw error;
    // Not a failure of the step: the task is given back until the limit ends, and the step runs then.
    if (error instanceof UsageLimitError && !happened) throw error;
    if (happened) {
      const step: Started = { start, started_at: iso(startedAt), input: plan.input, effect: plan.effect, output: null };
      return this.#resolve(plan, options, fn, step, "unknown", failureOf(error).message);
    }
    const failure = failureOf(error);
    await this.#end(plan, options, start, startedAt, { error: failure });
    // Thrown as a replay will throw it, so that code that catches it takes the same path both times.
    throw thrown(failure, error);
  }

  /** One try after another. A `once` effect is repeated only when it certainly did not happen. */
  async #tries(plan: StepPlan, options: StepOptions, fn: (context: StepContext) => unknown, start: number): Promise<unknown> {
    const tries = options.retry?.tries ?? 1;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#once(plan, options, fn, start);
      } catch (error) {
        const again = attempt < tries && !this.#options.signal.aborted && !isPermanent(error) && !(error instanceof UsageLimitError) && (plan.effect === "repeat" || error instanceof NotDone);
        if (!again) throw error;
        await sleepFor(this.#options.committer.store.clock, backoffMs(attempt, options.retry ?? {}, this.#options.random.number()), this.#options.signal);
      }
    }
  }

  async #once(plan: StepPlan, options: StepOptions, fn: (context: StepContext) => unknown, start: number): Promise<unknown> {
    if (options.timeoutMs === undefined) return fn(this.#stepContext(plan, start, this.#options.signal));
    const timeout = new AbortController();
    const cancel = this.#options.committer.store.clock.timer(options.timeoutMs, () =>
      timeout.abort(new PawlError("timeout", `The step "${plan.key}" took longer than ${options.timeoutMs} ms.`)),
    );
    const signal = AbortSignal.any([this.#options.signal, timeout.signal]);
    try {
      return await Promise.race([fn(this.#stepContext(plan, start, signal)), aborted(signal)]);
    } finally {
      cancel();
    }
  }

  #stepContext(plan: StepPlan, start: number, signal: AbortSignal): StepContext {
    return new StartedStep(() => idempotencyKey(this.#options.stateId, this.task, plan.key), signal, start);
  }

  /** An outcome nobody knows, or a changed input: an earlier answer, the check, or a person settles it. */
  async #resolve(plan: StepPlan, options: Options, fn: (context: StepContext) => unknown, step: Started, what: "unknown" | "changed", why = "the process that ran it died"): Promise<unknown> {
    const answer = await this.#waits.answerFor(plan.key, step.start, what === "changed" ? "step_changed" : "unknown_effect");
    // As every decision, the one about a changed input is for exactly the input shown.
    if (answer && (what === "unknown" || hashInput((answer.details as { input_now: Json }).input_now) === plan.inputHash)) {
      const verdict = verdictOf(answer);
      if (verdict.do === "again") return this.#run(plan, options, fn, step.start + 1);
      if (verdict.do === "done") return this.#keep(plan, options, step, answer.answer === "keep" ? await this.#outputOf(step) : verdict.output);
      await this.#end(plan, options, step.start, parseIso(step.started_at), { error: verdict.error });
      throw thrown(verdict.error);
    }
    if (what === "changed") return this.#waits.write(plan.key, askAbout(this.task, plan, step.start, stepChanged(this.task, plan, step), this.#options.actor, this.#branches.now()));
    if (step.effect === "repeat") return this.#run(plan, options, fn, step.start + 1);
    let said: CheckAnswer;
    try {
      said = await options.check?.(this.#stepContext(plan, step.start, this.#options.signal));
    } catch (error) {
      why += `; its check failed: ${failureOf(error).message}`;
    }
    if (said?.done === true) return this.#keep(plan, options, step, canonical(said.output, `the output of the check of step ${plan.key}`));
    if (said?.done === false) return this.#run(plan, options, fn, step.start + 1);
    return this.#waits.write(plan.key, askAbout(this.task, plan, step.start, unknownEffect(this.task, plan, step, why), this.#options.actor, this.#branches.now()));
  }

  /**
   * A person was asked about it, and there is no record: how it ended was forgotten, so that it is tried again. Given up, it
   * may have happened all the same, so that is in question again. No earlier answer is about this start.
   */
  async #forgotten(plan: StepPlan, options: Options, fn: (context: StepContext) => unknown, id: string): Promise<unknown> {
    const asked = await getDecision(this.#options.committer, id);
    const start = asked.step_start! + 1;
    if (asked.answer !== "fail" || asked.kind === "question") return this.#run(plan, options, fn, start);
    const started_at = (asked.details as { started_at?: string } | null)?.started_at ?? asked.created_at;
    await this.#branches.commit(startStep(this.task, plan, start, parseIso(started_at)));
    return this.#resolve(plan, options, fn, { start, started_at, input: plan.input, effect: plan.effect, output: null }, "unknown", `it was given up (decision ${id}), and is tried again`);
  }

  async #keep(plan: StepPlan, options: StepOptions, step: Started, output: Json): Promise<Json> {
    await this.#end(plan, options, step.start, parseIso(step.started_at), { output });
    return canonical(output);
  }
}

/** What a step's function is handed. The idempotency key is computed when asked for: most steps never look at it. */
class StartedStep implements StepContext {
  readonly #key: () => string;
  readonly signal: AbortSignal;
  readonly start: number;

  constructor(key: () => string, signal: AbortSignal, start: number) {
    this.#key = key;
    this.signal = signal;
    this.start = start;
  }

  get idempotencyKey(): string {
    return this.#key();
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) return reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

// How step, scope, sleep, ask and approve work. One Execution lives from a claim until the code ends, is
// parked or loses the task. Invariants: nothing is recorded without the fence; the live caller gets exactly what a replay
// gets; a step that must wait never resolves here: when every branch is settled or waiting, the task is parked.
import { iso, parseIso, sleep as sleepFor } from "../base/clock.ts";
import { isPawlError, PawlError } from "../base/errors.ts";
import type { Random } from "../base/id.ts";
import { canonical, type Json } from "../base/json.ts";
import { leaseLost, listAll, type Committer } from "../core/committer.ts";
import { askAbout, askTimer, stepChanged, unknownEffect, verdictOf } from "../core/decision.ts";
import type { Decision, DecisionKind, Step, Task, Wait } from "../core/records.ts";
import { backoffMs, failureOf, isPermanent, thrown } from "../core/retry.ts";
import { checkStepName, endStep, explicitKey, hashInput, idempotencyKey, NotDone, recordOf, replay, Scope, startStep, type StepPlan } from "../core/step.ts";
import type { Change } from "../store/store.ts";
import type { CheckAnswer, StepContext, StepFunction, StepOptions, StepScope, TaskContext } from "./context.ts";
import { UsageLimitError } from "./executor.ts";

export type ExecutionOptions = {
  readonly committer: Committer;
  readonly random: Random;
  readonly stateId: string;
  readonly actor: string;
  readonly signal: AbortSignal;
  /** Called when the store says the task is not ours any more. */
  readonly onLost: (error: PawlError) => void;
  /** Load earlier steps even at the first claim: another process of this ownership may have recorded some. */
  readonly always?: boolean;
  /** Makes sure of the lease before an effect when the process may have slept. */
  readonly revalidate: () => Promise<void> | null;
};

/** A start whose outcome is in question. */
type Started = Pick<Step, "start" | "started_at" | "input" | "effect" | "output">;

export class Execution {
  readonly task: Task;
  readonly context: TaskContext;
  /** Resolves with the open waits when every branch is settled or waiting. */
  readonly parked: Promise<readonly Wait[]>;
  readonly #options: ExecutionOptions;
  readonly #steps = new Map<string, Step[]>();
  readonly #waits: Map<string, Wait>;
  readonly #open: Wait[] = [];
  readonly #explicit = new Set<string>();
  #running = 0;
  #ended = false;
  #frozen = false;
  #park: (waits: readonly Wait[]) => void = () => undefined;

  private constructor(task: Task, options: ExecutionOptions, steps: Step[], waits: readonly Wait[]) {
    this.task = task;
    this.#options = options;
    for (const step of steps) {
      const same = this.#steps.get(step.key);
      if (same) same.push(step);
      else this.#steps.set(step.key, [step]);
    }
    this.#waits = new Map(waits.filter((wait) => wait.round === task.round).map((wait) => [wait.key, wait]));
    this.parked = new Promise((resolve) => (this.#park = resolve));
    this.context = { ...this.#scope(new Scope()), signal: options.signal, attempt: task.attempts, recorded: (key) => recordOf(this.#steps.get(key) ?? [], task.round, key) !== null };
  }

  /** Loads what earlier ownerships recorded; a task claimed for the first time has nothing. */
  static async open(task: Task, options: ExecutionOptions): Promise<Execution> {
    if (task.fence === 1 && !options.always) return new Execution(task, options, [], []);
    const [steps, waits] = await Promise.all(["step", "wait"].map((kind) => listAll(options.committer, kind, { equals: { task_id: task.id } })));
    return new Execution(task, options, steps as unknown as Step[], waits as unknown as Wait[]);
  }

  /** True when some of its waits may still be open. */
  get waited(): boolean {
    return this.#open.length > 0 || [...this.#waits.values()].some((wait) => wait.status === "open");
  }

  /** No more steps: the task's code has ended, or no longer owns the task. */
  end(): void {
    this.#ended = true;
  }

  #scope(scope: Scope): StepScope {
    const step = (name: string, options: unknown, fn?: unknown) =>
      this.#step(scope, name, (typeof options === "function" ? {} : options) as StepOptions, (fn ?? options) as (context: StepContext) => unknown);
    return {
      step: step as StepFunction,
      scope: async (name, fn) => {
        checkStepName(name);
        const child = scope.child(name);
        try {
          return await fn(this.#scope(child));
        } finally {
          scope.close(name);
        }
      },
      sleep: (name, ms) => this.#sleep(scope, name, ms),
      ask: async (name, question, details) => (await this.#decide(scope, name, "question", question, details)).answer ?? "",
      approve: async (name, question, details) => {
        const decision = await this.#decide(scope, name, "approval", question, details);
        return { approved: decision.status === "approved", reason: decision.status === "expired" ? "nobody answered in time" : decision.reason };
      },
    };
  }

  /** Enters a name into its scope and counts the branch as running; `#leave` must follow. Returns the step's key. */
  #enter(scope: Scope, name: string, key: string | undefined): string {
    checkStepName(name);
    this.#options.signal.throwIfAborted();
    if (key === undefined) {
      const id = scope.enter(name);
      this.#running++;
      return id;
    }
    const id = explicitKey(name, key);
    if (this.#explicit.has(id)) throw new PawlError("ambiguous_step", `The step "${name}" with the key "${key}" comes twice in one execution.`, { next: "Give each its own key." });
    this.#explicit.add(id);
    scope.enterKeyed();
    this.#running++;
    return id;
  }

  #leave(scope: Scope): void {
    this.#running--;
    scope.leave();
    if (this.#open.length > 0) this.#parkWhenQuiet();
  }

  /** The hot path: for a plain step that runs, two awaits, its function and the flush. */
  async #step(scope: Scope, name: string, options: StepOptions, fn: (context: StepContext) => unknown): Promise<unknown> {
    if (this.#ended) return this.#gone();
    const key = this.#enter(scope, name, options.key);
    try {
      const effect = options.effect ?? "repeat";
      const input = options.input === undefined ? undefined : canonical(options.input, `input of step ${name}`);
      const kept = options.keep === true || (effect === "once" && options.redo !== true);
      const plan: StepPlan = { key, name, effect, kept, input: input ?? null, inputHash: hashInput(input) };
      const recorded = this.#steps.get(key);
      const known = recorded === undefined ? null : recordOf(recorded, this.task.round, key);
      const found = replay(known, this.task, plan.inputHash);
      if (found.do === "output") return canonical(found.output);
      if (found.do === "throw") throw thrown(found.error);
      if (found.do === "run") return await this.#run(plan, options, fn, (known?.start ?? 0) + 1);
      return await this.#resolve(plan, options, fn, found.step, found.do);
    } finally {
      this.#leave(scope);
    }
  }

  /** Runs it: the intent first for `once`, then the effect, then its record. */
  async #run(plan: StepPlan, options: StepOptions, fn: (context: StepContext) => unknown, start: number): Promise<unknown> {
    const startedAt = this.#now();
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
    await this.#commit(endStep(this.task, plan, start, startedAt, { output }, this.#now()));
    // The record keeps its own copy: what the caller does to this one must not reach it.
    return canonical(output);
  }

  /** Makes the intent durable. Stopped in that very moment, the effect certainly never began, so the intent is taken back. */
  async #intend(plan: StepPlan, start: number, startedAt: number): Promise<void> {
    const change = startStep(this.task, plan, start, startedAt);
    await this.#commit(change, { guards: change.guards!, puts: [{ kind: "step", key: [this.task.id, this.task.round, plan.key], delete: true }] });
  }

  async #failed(plan: StepPlan, options: StepOptions, fn: (context: StepContext) => unknown, start: number, startedAt: number, error: unknown): Promise<unknown> {
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
    await this.#commit(endStep(this.task, plan, start, startedAt, { error: failure }, this.#now()));
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
    return new StartedStep(() => idempotencyKey(this.#options.stateId, this.task.id, this.task.round, plan.key), signal, start);
  }

  /** An outcome nobody knows, or a changed input: an earlier answer, the check, or a person settles it. */
  async #resolve(plan: StepPlan, options: StepOptions, fn: (context: StepContext) => unknown, step: Started, what: "unknown" | "changed", why = "the process that ran it died"): Promise<unknown> {
    const answer = await this.#answerFor(plan, step.start, what === "changed" ? "step_changed" : "unknown_effect");
    // As every decision, the one about a changed input is for exactly the input shown.
    if (answer && (what === "unknown" || hashInput((answer.details as { input_now: Json }).input_now) === plan.inputHash)) {
      const verdict = verdictOf(answer);
      if (verdict.do === "again") return this.#run(plan, options, fn, step.start + 1);
      if (verdict.do === "done") return this.#keep(plan, step, answer.answer === "keep" ? step.output : verdict.output);
      await this.#commit(endStep(this.task, plan, step.start, parseIso(step.started_at), { error: verdict.error }, this.#now()));
      throw thrown(verdict.error);
    }
    if (what === "changed") return this.#wait(plan, askAbout(this.task, plan, step.start, stepChanged(this.task, plan, step), this.#options.actor, this.#now()));
    if (step.effect === "repeat") return this.#run(plan, options, fn, step.start + 1);
    let said: CheckAnswer;
    try {
      said = await options.check?.(this.#stepContext(plan, step.start, this.#options.signal));
    } catch (error) {
      why += `; its check failed: ${failureOf(error).message}`;
    }
    if (said?.done === true) return this.#keep(plan, step, canonical(said.output, `the output of the check of step ${plan.key}`));
    if (said?.done === false) return this.#run(plan, options, fn, step.start + 1);
    return this.#wait(plan, askAbout(this.task, plan, step.start, unknownEffect(this.task, plan, step, why), this.#options.actor, this.#now()));
  }

  async #keep(plan: StepPlan, step: Started, output: Json): Promise<Json> {
    await this.#commit(endStep(this.task, plan, step.start, parseIso(step.started_at), { output }, this.#now()));
    return canonical(output);
  }

  /** The settled decision of this kind about exactly this start of the step, if there is one. */
  async #answerFor(plan: { key: string }, start: number, kind: DecisionKind): Promise<Decision | null> {
    const wait = this.#waits.get(plan.key);
    if (!wait?.decision_id || wait.status === "withdrawn") return null;
    const decision = ((await this.#options.committer.store.get("decision", [wait.decision_id]))[0] ?? null) as Decision | null;
    if (!decision || decision.step_start !== start || decision.kind !== kind) return null;
    if (decision.status !== "open") return decision;
    return this.#waitFor(wait);
  }

  async #sleep(scope: Scope, name: string, ms: number): Promise<void> {
    if (!Number.isFinite(ms) || ms < 0) throw new PawlError("usage", `sleep needs a number of milliseconds of at least 0, not ${ms}.`);
    if (this.#ended) return this.#gone();
    const key = this.#enter(scope, name, undefined);
    try {
      const wait = this.#waits.get(key);
      if (wait?.status === "settled") return;
      await (wait?.status === "open" ? this.#waitFor(wait) : this.#wait({ key }, askTimer(this.task, { key }, this.#now() + ms, this.#now())));
    } finally {
      this.#leave(scope);
    }
  }

  async #decide(scope: Scope, name: string, kind: DecisionKind, question: string, details: unknown): Promise<Decision> {
    if (this.#ended) return this.#gone();
    const key = this.#enter(scope, name, undefined);
    try {
      const shown = details === undefined ? null : canonical(details, "details");
      const decision = await this.#answerFor({ key }, 1, kind);
      // A decision is for exactly the arguments shown: with others it must be taken again.
      if (decision && hashInput(decision.details) === hashInput(shown) && decision.question === question) return decision;
      return await this.#wait({ key }, askAbout(this.task, { key }, 1, { kind, question, details: shown }, this.#options.actor, this.#now()));
    } finally {
      this.#leave(scope);
    }
  }

  /** Writes a wait and stays in it. */
  async #wait(plan: { key: string }, change: Change): Promise<never> {
    await this.#commit(change);
    const [wait] = await this.#options.committer.store.get("wait", [[this.task.id, this.task.round, plan.key]]);
    return this.#waitFor(wait as unknown as Wait);
  }

  #waitFor(wait: Wait): Promise<never> {
    this.#open.push(wait);
    this.#running--;
    this.#parkWhenQuiet();
    const { signal } = this.#options;
    return new Promise((_, reject) => {
      // Stopped before it could be parked: the code lets go. Parked, it stays where it is.
      const letGo = () => {
        this.#running++;
        if (!this.#frozen) reject(signal.reason as Error);
      };
      if (signal.aborted) letGo();
      else signal.addEventListener("abort", letGo, { once: true });
    });
  }

  /** What a step of code that is over gets: the reason when it was stopped, so that it lets go; else nothing, for ever. */
  #gone(): Promise<never> {
    const { signal } = this.#options;
    return signal.aborted && !this.#frozen ? Promise.reject(signal.reason as Error) : new Promise(() => undefined);
  }

  /** Parks when nothing has run for a few turns of the event loop: code between two steps may still be on its way. */
  #parkWhenQuiet(turns = 3): void {
    if (this.#open.length === 0 || this.#running > 0 || this.#ended) return;
    if (turns === 0) {
      this.#ended = this.#frozen = true;
      return this.#park(this.#open);
    }
    setImmediate(() => this.#parkWhenQuiet(turns - 1));
  }

  #now(): number {
    return this.#options.committer.store.clock.now();
  }

  async #commit(change: Change, whenOver?: Change): Promise<void> {
    const result = await this.#options.committer.commit(change);
    if (this.#ended) {
      if (whenOver) await this.#options.committer.commit(whenOver);
      return this.#gone();
    }
    if (result.ok) return;
    if ("error" in result) throw result.error;
    const lost = leaseLost(this.task.id, result.conflict.record);
    this.#options.onLost(lost);
    throw lost;
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

// One task from its claim to what becomes of it: run, or judged, with time-outs and the deadline watched, and exactly one
// outcome written under its fence. Errors of the user's code are outcomes; only broken storage escapes.
import { rejectOn, whenAborted } from "../base/abort.ts";
import { iso, parseIso, type Clock } from "../base/clock.ts";
import { isPawlError, messageOf, PawlError } from "../base/errors.ts";
import type { Random } from "../base/id.ts";
import { canonical, type Json } from "../base/json.ts";
import { checkUsage, type Usage } from "../core/breaker.ts";
import { counting, isRecount, type KnownBreakers } from "../core/breakers.ts";
import { endedIn } from "../core/call.ts";
import { ofRound, settle, type Committer } from "../core/committer.ts";
import { followChange } from "../core/follow.ts";
import { limitLine } from "../core/progress.ts";
import type { Failure, Task, Wait } from "../core/records.ts";
import { failureOf, type Backoff } from "../core/retry.ts";
import { givenUp, idempotencyKey } from "../core/step.ts";
import { complete, expire, failAttempt, park, reject, release, reviewError, submit, type By, type Outcome } from "../core/task.ts";
import { closingOf } from "../core/wait.ts";
import { Execution, type ExecutionOptions } from "./execution.ts";
import type { Lease } from "./lease.ts";
import type { Put } from "../store/store.ts";
import { UsageLimitError, type Attempt, type Executor, type Verdict, type Verifier } from "./executor.ts";

export type Hooks = {
  readonly onStart?: (task: Task) => unknown;
  readonly onReview?: (task: Task, verdict: Verdict) => unknown;
  /** After each attempt, with the task as it stands then. */
  readonly onEnd?: (task: Task) => unknown;
  /** A usage limit was met: this worker claims nothing before `until` (ms). */
  readonly onPause?: (until: number) => unknown;
};

/** What a worker shares with its attempts. */
export type Shop = {
  readonly committer: Committer;
  readonly clock: Clock;
  readonly random: Random;
  readonly stateId: string;
  readonly workerId: string;
  readonly executor: Executor | null;
  readonly verifier: Verifier | null;
  readonly backoff: Backoff;
  readonly hooks: Hooks;
  readonly notice: (line: string) => void;
  /** What this worker knows of the breakers over what it claims. */
  readonly breakers: KnownBreakers;
  /** The first moment (ms) a usage limit allows new claims again. */
  readonly onUsageLimit: (resumeAt: number) => void;
};

/** What an attempt asks of and tells the worker that owns it. */
export type Owner = {
  /** Makes sure of the lease; null when nothing is in doubt. */
  readonly revalidate: (work: Work) => Promise<void> | null;
  /** Its code has ended well and only the writing is left: the next task may be claimed in the same flush. */
  readonly ending: (work: Work) => void;
};

/** Why an attempt is stopped from outside; `release` gives the task back uncounted. */
export class Stopped extends Error {
  override readonly name = "Stopped";
}

/** How long an aborted executor may take to let go (a command's group gets its own grace within). */
const LET_GO_MS = 5_000;

/** One owned task. `abort` ends it; `done` resolves when its outcome is written. */
export class Work {
  readonly done: Promise<Task | null>;
  readonly lease: Lease;
  /** Resolves when its worker has done with it as well. */
  over: Promise<void> = Promise.resolve();
  readonly #shop: Shop;
  readonly #aborter = new AbortController();
  readonly #owner: Owner;
  #task: Task;
  /** The breakers its ends count for, and what it has used and they have not counted yet. */
  readonly #counts: readonly string[];
  #used: Required<Usage> = { tokens: 0, cost: 0 };

  constructor(shop: Shop, task: Task, lease: Lease, owner: Owner) {
    this.#shop = shop;
    this.#task = task;
    this.lease = lease;
    this.#owner = owner;
    this.#counts = shop.breakers.over(task);
    this.done = this.#live();
  }

  get task(): Task {
    return this.#task;
  }

  abort(reason: Error): void {
    this.#aborter.abort(reason);
  }

  #by(now: number): By {
    return { actor: this.#shop.workerId, now, fence: this.#task.fence };
  }

  async #live(): Promise<Task | null> {
    const cancels = this.#watchTime();
    try {
      if (this.#task.status === "in_progress") await this.#execute();
      if (this.#task.status === "review" && this.#task.worker === this.#shop.workerId) await this.#review();
      return this.#task;
    } catch (error) {
      if (!isPawlError(error, "lease_lost")) throw error;
      return await this.#settledByScript();
    } finally {
      for (const cancel of cancels) cancel();
      const { onEnd } = this.#shop.hooks;
      if (onEnd) await this.#hook("onEnd", () => onEnd(this.#task));
    }
  }

  /** The task as its own script left it (`pawl complete` under this ownership), or null when somebody else took it. */
  async #settledByScript(): Promise<Task | null> {
    const [task] = (await this.#shop.committer.store.get("task", [this.#task.id])) as unknown as (Task | null)[];
    if (!task || task.fence !== this.#task.fence || task.worker !== null) return null;
    return (this.#task = task);
  }

  /** The attempt's time-out and the task's deadline, as aborts. */
  #watchTime(): (() => void)[] {
    const { clock } = this.#shop;
    const { timeout_ms, deadline_at, status } = this.#task;
    const cancels: (() => void)[] = [];
    if (timeout_ms !== null && status === "in_progress") {
      cancels.push(clock.timer(timeout_ms, () => this.abort(new PawlError("timeout", `timed out after ${timeout_ms} ms`)), false));
    }
    if (deadline_at !== null) {
      cancels.push(clock.timer(parseIso(deadline_at) - clock.now(), () => this.abort(new PawlError("deadline", "deadline exceeded")), false));
    }
    return cancels;
  }

  async #execute(): Promise<void> {
    const { onStart } = this.#shop.hooks;
    if (onStart) await this.#hook("onStart", () => onStart(this.#task));
    for (let again = false; ; again = true) {
      // Gone on after an answer, this very ownership has recorded steps already.
      const execution = await Execution.open(this.#task, { ...this.#executionOptions(), always: again });
      if (this.#aborter.signal.aborted) return this.#failed(this.#aborter.signal.reason);
      const ended = await this.#run(execution);
      execution.end();
      if ("waits" in ended) {
        if (await this.#parked(ended.waits)) return;
        continue; // an answer came while it was being parked: go on at once
      }
      return "error" in ended ? this.#failed(ended.error, execution) : this.#succeeded(ended.result, execution.waited);
    }
  }

  /** Runs the executor until it ends, everything waits, or it is aborted and has let go. */
  async #run(execution: Execution): Promise<{ result: unknown } | { error: unknown } | { waits: readonly Wait[] }> {
    const { signal } = this.#aborter;
    const running = (async () => this.#shop.executor!.run(this.#task, this.#attempt(execution)))().then(
      (result) => ({ result }),
      (error: unknown) => ({ error }),
    );
    // What Promise.race does, with a third of its promises: every task comes through here.
    const first = await new Promise<Awaited<typeof running> | { waits: readonly Wait[] } | "aborted">((resolve) => {
      void running.then(resolve);
      void execution.parked.then((waits) => resolve({ waits }));
      whenAborted(signal, () => resolve("aborted"));
    });
    if (first !== "aborted") return signal.aborted && "error" in first ? { error: signal.reason as unknown } : first;
    execution.end();
    // A drain gives the code time to let go; code that ignores its signal is left behind, fenced off.
    await new Promise<void>((resolve) => {
      const cancel = this.#shop.clock.timer(LET_GO_MS, resolve);
      void running.finally(() => {
        cancel();
        resolve();
      });
    });
    return { error: signal.reason as unknown };
  }

  #executionOptions(): ExecutionOptions {
    const { committer, random, stateId, workerId } = this.#shop;
    return { committer, random, stateId, actor: workerId, signal: this.#aborter.signal, onLost: (error) => this.abort(error), revalidate: () => this.#owner.revalidate(this) };
  }

  #attempt(execution: Execution): Attempt {
    const { committer, stateId, workerId, clock } = this.#shop;
    const { id, fence } = this.#task;
    const must = async (puts: Parameters<Committer["commit"]>[0]["puts"]) => {
      const result = await committer.commit({ guards: [{ kind: "task", key: id, is: { fence } }], puts });
      if (!result.ok && "error" in result) throw result.error;
      if (!result.ok) throw new PawlError("lease_lost", `Task ${id} is no longer this worker's.`);
    };
    return {
      signal: this.#aborter.signal,
      idempotencyKey: idempotencyKey(stateId, this.#task, ""),
      context: execution.context,
      committer,
      busy: (work) => execution.busy(work),
      actor: workerId,
      spend: (usage) => {
        checkUsage(usage);
        this.#used = { tokens: this.#used.tokens + (usage.tokens ?? 0), cost: this.#used.cost + (usage.cost ?? 0) };
      },
      recordProcess: ({ pid, startTime, bootId }) =>
        must([{ kind: "process", record: { worker: workerId, pid, task_id: id, fence, boot_id: bootId, start_time: startTime, started_at: iso(clock.now()) } }]),
      forgetProcess: async (pid) => void (await committer.commit({ puts: [{ kind: "process", key: [workerId, pid], delete: true }] })),
      keepOutput: async (part, output) => void (await committer.commit({ puts: [{ kind: "output", record: { ...output, task_id: id, fence, part, at: iso(clock.now()) } }] })),
    };
  }

  async #settle(rule: (task: Task, now: number) => Outcome | Promise<Outcome>): Promise<void> {
    const before = this.#task;
    const used = this.#used;
    this.#task = await settle(this.#shop.committer, before, counting(this.#shop.committer, this.#counts, used, this.#shop.workerId, rule), { fence: before.fence, again: (conflict) => isRecount(conflict) || conflict.kind === "wait" });
    this.#used = { tokens: this.#used.tokens - used.tokens, cost: Math.max(this.#used.cost - used.cost, 0) };
    await followChange(this.#shop.committer, before, this.#task, this.#shop.workerId);
  }

  /** `waited`: the code may have ended without what it once waited for, such as the slower of two; that is withdrawn. */
  async #succeeded(result: unknown, waited: boolean): Promise<void> {
    let value: Json;
    try {
      value = canonical(result, "result");
    } catch (error) {
      return this.#failed(error);
    }
    // With a verifier its review comes next; with a breaker its end decides whether another may start.
    if (this.#task.verifier === null && this.#counts.length === 0) this.#owner.ending(this);
    try {
      await this.#settle(this.#unlessItWaits(async (task, now, changed) => submit(task, value, this.#by(now), waited || changed ? await closingOf(this.#shop.committer, task.id) : [])));
    } catch (error) {
      // Larger than a state holds, say: nothing was written, and it is this task's failure, not the worker's.
      if (!isPawlError(error, "value_refused")) throw error;
      await this.#failed(error);
    }
  }

  /**
   * The end of a process, unless steps of it ended in waits: then its task waits with them, whatever a shell made of their
   * exit codes. Each of these steps has raised the task's revision, so nothing is read for a process without them.
   */
  #unlessItWaits(end: (task: Task, now: number, changed: boolean) => Outcome | Promise<Outcome>): (task: Task, now: number) => Outcome | Promise<Outcome> {
    const begun = this.#task.revision;
    return async (task, now) => {
      if (!this.#shop.executor?.process || task.revision === begun) return end(task, now, false);
      const waits = await endedIn(this.#shop.committer, task);
      const open = waits.filter((wait) => wait.status === "open");
      if (open.length > 0) return park(task, open, this.#by(now));
      return waits.some((wait) => wait.status === "settled") ? release(task, this.#by(now), "what its script waits for came as it ended") : end(task, now, true);
    };
  }

  async #failed(error: unknown, execution?: Execution): Promise<void> {
    if (isPawlError(error, "lease_lost")) throw error;
    if (error instanceof Stopped) return this.#settle((task, now) => release(task, this.#by(now), error.message));
    if (error instanceof UsageLimitError) {
      this.#shop.onUsageLimit(error.resumeAt);
      this.#shop.notice(`${error.message.replace(/\.$/, "")}: ${limitLine(error.resumeAt)}`);
      await this.#hook("onPause", () => this.#shop.hooks.onPause?.(error.resumeAt));
      return this.#settle((task, now) => release(task, this.#by(now), error.message, error.resumeAt));
    }
    if (isPawlError(error, "deadline")) return this.#settle(async (task, now) => expire(task, this.#by(now), await closingOf(this.#shop.committer, task.id)));
    if (isPawlError(error, "waiting") && (await this.#parkedByCommand())) return;
    const thrown = failureOf(isPawlError(error, "waiting") ? (error.cause ?? error) : error);
    await this.#settle(this.#unlessItWaits(async (task, now, changed) => {
      // Who gives up was asked about a start, and that is on record.
      const failure = execution?.resumed || changed ? await this.#finally(thrown) : thrown;
      return failAttempt(task, failure, this.#shop.backoff, this.#shop.random.number(), this.#by(now), await this.#closing(failure));
    }));
  }

  /** A process failed in which a step was given up: that is why, and it is final, whatever its exit code became. */
  async #finally(failure: Failure): Promise<Failure> {
    if (!this.#shop.executor?.process) return failure;
    const final = givenUp(await ofRound(this.#shop.committer, "step", this.#task));
    return final === null ? failure : { ...final, cause: failure.message };
  }

  /** Open waits are withdrawn only when the task ends; between attempts they stay. */
  async #closing(failure: Failure): Promise<Put[]> {
    return failure.permanent || this.#task.attempts >= this.#task.max_attempts ? closingOf(this.#shop.committer, this.#task.id) : [];
  }

  /** False when one of the waits was settled meanwhile: then the task must not sleep. */
  async #parked(waits: readonly Wait[]): Promise<boolean> {
    const answered = new PawlError("conflict", "answered");
    try {
      await settle(this.#shop.committer, this.#task, (task, now) => park(task, waits, this.#by(now)), { fence: this.#task.fence, onConflict: () => answered }).then((task) => (this.#task = task));
      return true;
    } catch (error) {
      if (error === answered) return false;
      throw error;
    }
  }

  /** A command that ended because one of its steps waits: the waits are in the state, and the task waits with them. */
  async #parkedByCommand(): Promise<boolean> {
    const waits = await ofRound(this.#shop.committer, "wait", this.#task);
    const open = waits.filter((wait) => wait.status === "open");
    return open.length > 0 && this.#parked(open);
  }

  async #review(): Promise<void> {
    const verifier = this.#shop.verifier;
    if (!verifier || verifier.name !== this.#task.verifier) {
      return this.#settle((task, now) => release(task, this.#by(now), `needs the verifier "${task.verifier}"`));
    }
    let verdict: Verdict;
    try {
      const execution = await Execution.open(this.#task, this.#executionOptions());
      verdict = await Promise.race([verifier.run(this.#task, this.#task.result, this.#attempt(execution)), rejectOn(this.#aborter.signal)]);
    } catch (error) {
      return this.#reviewFailed(error);
    }
    await this.#hook("onReview", () => this.#shop.hooks.onReview?.(this.#task, verdict));
    await this.#settle((task, now) => (verdict.passed ? complete(task, task.result, this.#by(now)) : reject(task, verdict.feedback ?? "", this.#by(now))));
  }

  /** An error of the verifier is not a rejection: nothing is said about the result. */
  async #reviewFailed(error: unknown): Promise<void> {
    if (isPawlError(error, "lease_lost")) throw error;
    if (error instanceof Stopped) return this.#settle((task, now) => release(task, this.#by(now), error.message));
    if (isPawlError(error, "deadline")) return this.#settle(async (task, now) => expire(task, this.#by(now), await closingOf(this.#shop.committer, task.id)));
    const failure = failureOf(error);
    this.#shop.notice(isPawlError(error, "waiting") ? `${error.message} ${error.next ?? ""}`.trimEnd() : `The verifier of task ${this.#task.id} failed: ${failure.message}`);
    await this.#settle((task, now) => reviewError(task, failure, this.#shop.backoff, this.#shop.random.number(), this.#by(now)));
  }

  /** A failing hook is reported and never breaks a run. */
  async #hook(name: string, call: () => unknown): Promise<void> {
    try {
      await call();
    } catch (error) {
      this.#shop.notice(`The hook ${name} failed: ${messageOf(error)}`);
    }
  }
}

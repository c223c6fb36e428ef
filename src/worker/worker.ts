// A worker claims due tasks, runs as many at once as it may, keeps its leases alive, and sweeps. One pump does the
// claiming; it is woken by a freed slot, a change of the state and a timer to the next instant something falls due, and
// never polls faster than it must. Invariant: a task runs here only while its lease is confirmed.
import type { Clock } from "../base/clock.ts";
import { isPawlError, PawlError } from "../base/errors.ts";
import type { Random } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { BreakerLimits } from "../core/breaker.ts";
import { KnownBreakers, setBreakersOver } from "../core/breakers.ts";
import { anyDue, claimDue, type Lane } from "../core/claim.ts";
import { leaseLost, type Committer } from "../core/committer.ts";
import { DEFAULT_QUEUE } from "../core/new-task.ts";
import type { Task } from "../core/records.ts";
import type { Backoff } from "../core/retry.ts";
import { stateIdOf } from "../core/identity.ts";
import { takeIdleSlots } from "../core/slots.ts";
import { nextInstant, sweep, type Evidence } from "../core/sweep.ts";
import { moved } from "../store/store.ts";
import { Stopped, Work, type Hooks, type Owner, type Shop } from "./attempt.ts";
import type { Executor, Verifier } from "./executor.ts";
import { Heartbeat } from "./heartbeat.ts";
import { Lease } from "./lease.ts";
import { appear, hostEvidence, signOff, type Presence } from "./liveness.ts";

export type WorkerOptions = Hooks & {
  readonly executor: Executor | null;
  readonly verifier?: Verifier | null;
  /** Tasks at once. Default 1. */
  readonly concurrency?: number;
  /** The queues to work, outside batches. Default: "default". */
  readonly queues?: readonly string[];
  /** Asked before each claim for where to look; replaces `queues`. */
  readonly lanes?: () => Promise<readonly Lane[]>;
  /** Work this task only, wherever it is. */
  readonly only?: number;
  /** Stop claiming after so many tasks have been started. */
  readonly maxTasks?: number;
  readonly leaseMs?: number;
  /** Claims nothing before this moment (ms): another process met a usage limit. */
  readonly pausedUntil?: number;
  readonly backoff?: Backoff;
  /** Limits of the breaker over each of its batches, or of its queues: set up at the start, and kept by the state. */
  readonly breaker?: BreakerLimits;
  /** A name for people; the id is random per start. */
  readonly label?: string;
  readonly notice?: (line: string) => void;
  /** False: only leases tell that a worker is gone (for tests). */
  readonly trustLocks?: boolean;
};

/** What the state lends its workers. */
export type WorkerHome = { readonly committer: Committer; readonly clock: Clock; readonly random: Random; readonly lockFolder: string | null };

/** How often a worker looks for dead neighbours: a quarter of the second a takeover may take. */
const NEIGHBOUR_MS = 250;
/** The least time between two looks at what falls due next. */
const LOOK_MS = 10;
/** The least time between two sweeps at claims. */
const SWEEP_MS = 100;

type Waiter = { readonly resolve: () => void; readonly reject: (error: unknown) => void };

export class Worker {
  readonly id: string;
  readonly #home: WorkerHome;
  readonly #options: WorkerOptions;
  readonly #presence: Presence;
  readonly #evidence: Evidence;
  #shop: Shop;
  readonly #active = new Map<number, Work>();
  /** Those of them that only write their outcome: their place is free. */
  readonly #ending = new Set<Work>();
  readonly #leaseMs: number;
  readonly #concurrency: number;
  #started = 0;
  #ended = 0;
  #starved = false;
  #pauseUntil: number;
  #sweptAt = -Infinity;
  #lookedAt = -Infinity;
  #looks = 0;
  #stopping = false;
  #aborted: Stopped | null = null;
  #pumping: Promise<void> | null = null;
  #again = false;
  #cancelTimer: (() => void) | null = null;
  readonly #heartbeat: Heartbeat;
  readonly #owner: Owner = { revalidate: (work) => this.#heartbeat.revalidate(work), ending: (work) => this.#foresee(work) };
  #unwatch: (() => void) | null = null;
  #idleWaiters: Waiter[] = [];
  #settleWaiters: Waiter[] = [];
  #failWaiters: ((error: unknown) => void)[] = [];
  #failure: unknown = null;
  readonly #ready: Promise<void>;
  #left: Promise<void> | null = null;

  constructor(home: WorkerHome, options: WorkerOptions) {
    const concurrency = options.concurrency ?? 1;
    if (!Number.isInteger(concurrency) || concurrency < 1) throw new PawlError("usage", `concurrency must be a whole number of at least 1, not ${concurrency}.`);
    this.#home = home;
    this.#options = options;
    this.#pauseUntil = options.pausedUntil ?? 0;
    this.#concurrency = concurrency;
    this.#leaseMs = options.leaseMs ?? LIMITS.leaseMs;
    this.#presence = appear(home.lockFolder, options.label, home.clock, home.random);
    this.id = this.#presence.id;
    this.#evidence = hostEvidence(home.clock, options.trustLocks ?? true);
    this.#shop = {
      ...home,
      stateId: "", // read at the start, before the first claim
      workerId: this.id,
      executor: options.executor,
      verifier: options.verifier ?? null,
      backoff: options.backoff ?? {},
      hooks: options,
      notice: options.notice ?? (() => undefined),
      breakers: new KnownBreakers(),
      onUsageLimit: (resumeAt) => void (this.#pauseUntil = Math.max(this.#pauseUntil, resumeAt)),
    };
    this.#heartbeat = new Heartbeat({ ...home, worker: this.id, leaseMs: this.#leaseMs, active: this.#active, stopping: () => this.#stopping });
    this.#ready = this.#begin();
    // Whoever asks (idle, failed, nextEvent) is told; nobody need ask.
    this.#ready.catch(() => undefined);
  }

  /** Rejects when the state can no longer be used; never resolves. */
  get failed(): Promise<never> {
    return new Promise((_, reject) => (this.#failure === null ? this.#failWaiters.push(reject) : reject(this.#failure)));
  }

  /** False once it was told to stop. */
  get claiming(): boolean {
    return !this.#stopping && this.#started < (this.#options.maxTasks ?? Infinity);
  }

  /** Tasks it is working on now. */
  get active(): readonly Task[] {
    return [...this.#active.values()].map((work) => work.task);
  }

  /** Resolves when nothing is due and nothing runs here. Delayed, waiting and blocked tasks do not count. */
  async idle(): Promise<void> {
    await this.#ready;
    if (this.#failure) throw this.#failure;
    return new Promise((resolve, reject) => {
      this.#idleWaiters.push({ resolve, reject });
      this.#wake();
    });
  }

  /** No new claims from now on; resolves when nothing runs here, and is not told to the state. */
  async drain(): Promise<void> {
    this.#stopping = true;
    while (this.#active.size > 0) await Promise.all([...this.#active.values()].map((work) => work.over));
  }

  /** No new claims from now on; what runs may end. Resolves when it has. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#ready.catch(() => undefined).then(() => this.#pumping);
    await this.drain();
    await (this.#left ??= this.#leave());
  }

  /** Ends what runs: its code is aborted, its commands are ended, its tasks go back to pending with no attempt counted. */
  async abort(reason = "the worker was stopped"): Promise<void> {
    this.#stopping = true;
    this.#aborted ??= new Stopped(reason);
    for (const work of this.#active.values()) work.abort(this.#aborted);
    await this.stop();
  }

  /** Stops claiming without waiting. */
  halt(): void {
    this.#stopping = true;
    this.#wake();
  }

  async #begin(): Promise<void> {
    try {
      await this.#options.executor?.prepare?.();
      await this.#options.verifier?.prepare?.();
      const result = await this.#home.committer.commit({ puts: [this.#presence.put] });
      if (!result.ok && "error" in result) throw result.error;
      if (this.#options.breaker) await setBreakersOver(this.#home.committer, await this.#lanes(), this.#options.breaker, this.id);
      this.#shop = { ...this.#shop, stateId: await stateIdOf(this.#home.committer, this.#home.random) };
      await sweep(this.#home.committer, this.#evidence, this.id, true);
      const watches = [this.#home.committer.store.watch(() => this.#wake()), this.#home.committer.onAdd(() => this.#expect())];
      this.#unwatch = () => watches.forEach((end) => end());
      this.#heartbeat.start();
      this.#wake();
    } catch (error) {
      this.#fail(error);
      throw error;
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    for (const reject of this.#failWaiters.splice(0)) reject(error);
    for (const waiter of this.#settleWaiters.splice(0)) waiter.reject(error);
    for (const waiter of this.#idleWaiters.splice(0)) waiter.reject(error);
  }

  /** A task is on its way into the state: the claim goes with it, without a look for something to claim before. */
  #expect(): void {
    if (!this.#mayClaim()) return;
    this.#starved = false;
    this.#wake();
  }

  /**
   * The claim for its place goes into the flush that writes its outcome: a list worked one by one saves a flush a task. Not where
   * a hook comes after the outcome: it may take long, or stop the worker, and the next would be held and not begun meanwhile.
   */
  #foresee(work: Work): void {
    if (this.#starved || this.#options.onEnd || this.#options.only !== undefined) return;
    this.#ending.add(work);
    this.#wake();
  }

  /** How many tasks have code that runs or will. */
  get #busy(): number {
    return this.#active.size - this.#ending.size;
  }

  /** Runs the pump, once more when it is running already. */
  #wake(): void {
    if (this.#pumping) {
      this.#again = true;
      return;
    }
    this.#pumping = this.#pump()
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#pumping = null;
        if (this.#again) {
          this.#again = false;
          this.#wake();
        }
      });
  }

  async #pump(): Promise<void> {
    // Tasks end together, when the flush they share is done: once they have all said so one claim fills all their places,
    // and it is still in time for the next flush.
    await Promise.resolve();
    await Promise.resolve();
    // Only those who asked before this look at the state may be told what it found.
    const asked = this.#idleWaiters.splice(0);
    await this.#look(asked).catch((error: unknown) => {
      for (const waiter of asked) waiter.reject(error);
      throw error;
    });
  }

  async #look(asked: readonly Waiter[]): Promise<void> {
    const { clock, committer } = this.#home;
    // The task that met a usage limit is due again in its old place, before those behind it.
    const resumed = this.#pauseUntil > 0 && clock.now() >= this.#pauseUntil;
    if (resumed) await sweep(committer, this.#evidence, this.id, false).then(() => void (this.#pauseUntil = 0));
    // With no hand free nothing is known of what is due, and all hands may be free before this look is over.
    let started = false;
    let ended = this.#ended;
    let empty = !this.#mayClaim() && this.#active.size < this.#concurrency;
    while (this.#mayClaim()) {
      ended = this.#ended;
      const room = Math.min(this.#concurrency - this.#busy, (this.#options.maxTasks ?? Infinity) - this.#started);
      const claimed = await this.#claim(room);
      for (const task of claimed) this.#start(task);
      started ||= claimed.length > 0;
      empty = claimed.length === 0;
      if (claimed.length < room) break;
    }
    // After the claim: what has just been added must not wait for a look at the whole state.
    if (clock.monotonic() - this.#sweptAt >= SWEEP_MS) {
      this.#sweptAt = clock.monotonic();
      await this.#refuseMoved();
      if ((await sweep(committer, this.#evidence, this.id, false)) > 0) {
        empty = false;
        this.#again = true;
      }
      await this.#heartbeat.noticeLost();
      if (empty && this.#mayClaim() && (await takeIdleSlots(committer, await this.#lanes(), this.id)) > 0) this.#again = true;
    }
    // What ended after the claim may have left something to do; its end looks again.
    empty &&= ended === this.#ended;
    // Idle is said only after a whole look: another worker may have died between a task's end and its dependents' start.
    if (this.#active.size === 0 && empty && asked.length > 0 && this.#mayClaim() && (await sweep(committer, this.#evidence, this.id, true)) > 0) {
      empty = false;
      this.#again = true;
    }
    if (this.#active.size === 0 && empty) this.#tellIdle(asked);
    else this.#idleWaiters.unshift(...asked);
    // Not waited for: a task that is added meanwhile is claimed in the flush that adds it.
    if (!this.#stopping) void this.#setTimer(this.#active.size < this.#concurrency, started).catch((error: unknown) => this.#stopping || this.#fail(error));
  }

  #mayClaim(): boolean {
    return this.claiming && this.#failure === null && this.#options.executor !== null && this.#busy < this.#concurrency && this.#home.clock.now() >= this.#pauseUntil;
  }

  /** Where it looks for tasks; nowhere when it works one task only. */
  async #lanes(): Promise<readonly Lane[]> {
    const { only, queues = [DEFAULT_QUEUE], lanes } = this.#options;
    if (only !== undefined) return [];
    return lanes ? lanes() : queues.map((queue) => ({ queue, batch_id: null }));
  }

  async #claim(limit: number): Promise<Task[]> {
    const { committer } = this.#home;
    const { only } = this.#options;
    const request = {
      verifier: this.#options.verifier?.name ?? null, limit, worker: this.id, leaseMs: this.#leaseMs, ...(only === undefined ? {} : { only }),
      lanes: await this.#lanes(), breakers: this.#shop.breakers,
    };
    // Having found nothing, it looks before it claims again: claims of workers with nothing to do would wake each other for ever.
    if ((only === undefined && request.lanes.length === 0) || (this.#starved && !(await anyDue(committer, request)))) return [];
    const claimed = await claimDue(committer, request).catch((error: unknown) => {
      if (!isPawlError(error, "commit_unknown")) throw error;
      this.#heartbeat.doubt();
      return [];
    });
    this.#starved = claimed.length === 0;
    return claimed;
  }

  #start(task: Task): void {
    const earlier = this.#active.get(task.id);
    if (earlier) {
      // Reset or released while it ran here: its code lets go first, so that the two never run side by side.
      earlier.abort(leaseLost(task.id, task));
      void earlier.over.then(() => this.#start(task));
      return;
    }
    this.#started++;
    const work = new Work(this.#shop, task, new Lease(this.#home.committer, this.#home.clock, task, this.#leaseMs), this.#owner);
    if (this.#aborted) work.abort(this.#aborted); // the claim was on its way when the worker was told to end
    this.#active.set(task.id, work);
    work.over = work.done
      .then((ended) => (ended === null ? this.#heartbeat.giveBack(work) : undefined))
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#active.delete(task.id);
        this.#ending.delete(work);
        this.#ended++;
        this.#wake();
      });
  }

  #tellIdle(asked: readonly Waiter[] = this.#idleWaiters.splice(0)): void {
    for (const waiter of asked) this.#failure ? waiter.reject(this.#failure) : waiter.resolve();
    for (const waiter of this.#settleWaiters.splice(0)) waiter.resolve();
  }

  /** A worker with nothing to do writes nothing, and would never learn that the state is going elsewhere. */
  async #refuseMoved(): Promise<void> {
    const { store } = this.#home.committer;
    const seal = await store.sealed();
    if (seal) throw moved(store.location, seal);
  }

  /** Resolves at the next change, due instant or look at the neighbours; rejects when the state can no longer be used. */
  nextEvent(): Promise<void> {
    return new Promise((resolve, reject) => (this.#failure === null ? this.#settleWaiters.push({ resolve, reject }) : reject(this.#failure)));
  }

  /** Wakes the pump when something next falls due, if there is room for it, and to look for dead neighbours. */
  async #setTimer(room: boolean, started: boolean): Promise<void> {
    const { clock, committer } = this.#home;
    const look = ++this.#looks;
    let waitMs = NEIGHBOUR_MS;
    // Under load the pump turns thousands of times a second; looking once in LOOK_MS is soon enough. And what was started a
    // moment ago must not wait for a look.
    if (room && (started || clock.monotonic() - this.#lookedAt < LOOK_MS)) waitMs = LOOK_MS;
    else if (room) {
      this.#lookedAt = clock.monotonic();
      const next = await nextInstant(committer);
      // What is due already and still there waits for the next sweep, or is held by one that lives.
      const aheadMs = next === null ? Infinity : next - clock.now();
      waitMs = Math.min(waitMs, aheadMs > 0 ? Math.max(aheadMs, 1) : Math.max(this.#sweptAt + SWEEP_MS - clock.monotonic(), 1));
    }
    if (look !== this.#looks || this.#stopping) return;
    this.#cancelTimer?.();
    this.#cancelTimer = clock.timer(waitMs, () => this.#wake());
  }

  async #leave(): Promise<void> {
    this.#cancelTimer?.();
    this.#heartbeat.stop();
    this.#unwatch?.();
    this.#tellIdle();
    // One that failed may own tasks that it could not give back: its record stays, by which others see that it is gone.
    this.#presence.leave(this.#failure === null && (await signOff(this.#home.committer, this.id, this.#shop.notice)));
  }
}

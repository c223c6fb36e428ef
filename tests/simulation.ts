// A state on a clock that a test moves by hand (on Postgres time passes by itself), with workers that can die like a
// process: from one moment on nothing they do reaches the store, none of their timers fires, and nobody is told. What they
// left behind is what a kill -9 leaves.
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { manualClock, sleep, systemClock, type Clock, type ManualClock } from "../src/base/clock.ts";
import { seededRandom } from "../src/base/id.ts";
import { Committer } from "../src/core/committer.ts";
import type { Status, Task } from "../src/core/records.ts";
import type { State } from "../src/state.ts";
import type { Store } from "../src/store/store.ts";
import { functionExecutor, functionVerifier, type Execute, type Verify } from "../src/worker/function.ts";
import { Worker, type WorkerHome, type WorkerOptions } from "../src/worker/worker.ts";
import { MEMORY, type TestStore } from "./stores.ts";

export const ENDED: readonly Status[] = ["completed", "failed", "cancelled"];
const NEVER = new Promise<never>(() => undefined);

/** A life that ends at `die()`, or at its n-th write: before it reaches the store, or after, with the answer lost. */
export type Death = { readonly write: number; readonly when: "before" | "after" };
/** `freeze` is Ctrl-Z or a laptop's lid: what the worker does waits until `thaw`. `unplug` cuts only the way to the store. */
export type Life = { readonly home: WorkerHome; die(): void; freeze(): void; thaw(): void; unplug(): void; plug(): void; readonly dead: boolean };

export function mortalHome(state: State, clock: Clock, death?: Death): Life {
  const life = { dead: false, writes: 0, frozen: null as Gate | null, unplugged: null as Gate | null };
  const held = () => (life.dead ? null : (life.frozen ?? life.unplugged));
  const alive = async <T>(call: () => Promise<T>): Promise<T> => {
    for (let wait = held(); wait; wait = held()) await wait.promise;
    if (life.dead) return NEVER;
    try {
      return await call();
    } finally {
      for (let wait = held(); wait; wait = held()) await wait.promise;
      if (life.dead) await NEVER;
    }
  };
  const write = <T>(call: () => Promise<T>): Promise<T> => {
    const last = ++life.writes === death?.write;
    if (last && death.when === "before") life.dead = true;
    return alive(() => {
      const answer = call();
      if (last) life.dead = true;
      return answer;
    });
  };
  const { store } = state.committer;
  const mortal: Store = {
    clock,
    location: store.location,
    get: (kind, keys) => alive(() => store.get(kind, keys)),
    list: (kind, query) => alive(() => store.list(kind, query)),
    count: ((...args: Parameters<Store["count"]>) => alive(() => store.count(...args) as Promise<unknown>)) as Store["count"],
    commit: (changes) => write(() => store.commit(changes)),
    claim: (order, decide) => write(() => store.claim(order, decide)),
    watch: (listener) => store.watch(() => void (life.dead || listener())),
    seal: (seal, was) => write(() => store.seal(seal, was)),
    sealed: () => alive(() => store.sealed()),
    counters: () => alive(() => store.counters()),
    load: (pieces, counters) => write(() => store.load(pieces, counters)),
    close: async () => undefined,
  };
  const mortalClock: Clock = { now: () => clock.now(), monotonic: () => clock.monotonic(), timer: (ms, fn, hold) => clock.timer(ms, () => void (life.dead || (life.frozen ? life.frozen.promise.then(() => life.dead || fn()) : fn())), hold) };
  const home = { committer: new Committer({ ...mortal, clock: mortalClock }), clock: mortalClock, random: seededRandom(nextSeed++), lockFolder: null };
  return {
    home,
    die: () => void (life.dead = true),
    freeze: () => void (life.frozen ??= gate()),
    thaw() {
      life.frozen?.open();
      life.frozen = null;
    },
    unplug: () => void (life.unplugged ??= gate()),
    plug() {
      life.unplugged?.open();
      life.unplugged = null;
    },
    get dead() {
      return life.dead;
    },
  };
}

let nextSeed = 1;

export type Started = Omit<Life, "home"> & { readonly worker: Worker };
export type StartOptions = Partial<WorkerOptions> & { readonly verify?: Verify; readonly death?: Death };

export type Simulation = {
  readonly state: State;
  readonly clock: ManualClock;
  /** Starts a worker of which nothing but its lease is known to others. */
  start(execute: Execute, options?: StartOptions): Started;
  /** Moves time on until the task has one of these statuses (any end, unless told). */
  until(id: number, ...statuses: Status[]): Promise<Task>;
  /** Moves time on until `condition` holds. */
  untilTrue(condition: () => unknown | Promise<unknown>, what?: string): Promise<void>;
  /** Moves time on until the promise settles. */
  finish<T>(promise: Promise<T>): Promise<T>;
  events(id: number): Promise<string[]>;
};

/** Leases of simulated workers: short, so that little time has to pass for a takeover. */
export const LEASE_MS = 3_000;

/** Of those on Postgres, where the server's clock counts and nobody moves it. */
const REAL_LEASE_MS = 600;

/** Time as it passes: to move it on is to wait a moment. */
function realClock(): ManualClock {
  return { ...systemClock, advance: (ms) => sleep(systemClock, Math.min(ms, 20)), jump: () => assert.fail("the server's clock cannot be moved"), pending: 0 };
}

export async function simulate(t: TestContext, store: TestStore = MEMORY): Promise<Simulation> {
  const real = store.name === "postgres";
  const clock = real ? realClock() : manualClock();
  const state = await store.open(t, { clock, random: seededRandom(7) });
  const started: Started[] = [];
  t.after(() => started.forEach((one) => one.die()));

  const untilTrue = async (condition: () => unknown | Promise<unknown>, what = "what was waited for") => {
    for (let i = 0; i < 2_000; i++) {
      if (await condition()) return;
      await clock.advance(100);
    }
    assert.fail(`${what} did not happen in 200 s`);
  };
  return {
    state,
    clock,
    untilTrue,
    start(execute, { verify, death, ...options } = {}) {
      const life = mortalHome(state, clock, death);
      const worker = new Worker(life.home, {
        executor: functionExecutor(execute), verifier: verify ? functionVerifier(verify) : null, trustLocks: false, leaseMs: real ? REAL_LEASE_MS : LEASE_MS, backoff: { jitter: false }, ...options,
      });
      worker.idle().catch(() => undefined);
      const one: Started = { ...life, worker, get dead() { return life.dead; } };
      started.push(one);
      return one;
    },
    async until(id, ...statuses) {
      const wanted = statuses.length > 0 ? statuses : ENDED;
      await untilTrue(async () => wanted.includes((await state.tasks.get(id)).status), `task ${id} to be ${wanted.join(" or ")}`).catch(async (error: Error) => {
        const task = await state.tasks.get(id);
        throw new Error(`${error.message}; it is ${task.status}, ${JSON.stringify(task.error)}`);
      });
      return state.tasks.get(id);
    },
    async finish(promise) {
      let over = false;
      promise.then(() => (over = true), () => (over = true));
      await untilTrue(() => over);
      return promise;
    },
    events: async (id) => (await state.history.of(id)).map((transition) => transition.event),
  };
}

export type Gate<T = void> = { readonly promise: Promise<T>; readonly open: (value: T) => void; readonly fail: (error: unknown) => void };

/** A promise and its two ends. */
export function gate<T = void>(): Gate<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  promise.catch(() => undefined);
  return { promise, open: resolve, fail: reject };
}

/** Resolves after `turns` turns of the event loop. */
export async function turns(n: number): Promise<void> {
  for (let i = 0; i < n; i++) await new Promise((resolve) => setImmediate(resolve));
}

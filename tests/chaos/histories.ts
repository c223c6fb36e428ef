// Many short concurrent histories: worker processes with leases shorter than their pauses work on all stores at once, are
// stopped and woken, and are swept by this process. What each saw of each task must be possible in some order.
import { spawn, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { seededRandom } from "../../src/base/id.ts";
import { sweep } from "../../src/core/sweep.ts";
import { openState, type State } from "../../src/state.ts";
import { hostEvidence } from "../../src/worker/liveness.ts";
import { drawn, linearize, type Op } from "./linear.ts";

export type Setup = { readonly stores: readonly { readonly name: string; readonly url: string }[]; readonly leaseMs: number; readonly seed: number };

/** What a worker process says: it was told, or it begins to write, and later that it was answered. */
export type Said = { readonly store: string; readonly task: number; readonly fence: number; readonly id: string; readonly at: number; readonly from?: number } & (
  | { readonly said: "claimed" | "ok" | "refused" }
  | { readonly said: "write"; readonly name: string; readonly value: string }
  | { readonly said: "replayed"; readonly name: string; readonly value: string }
  | { readonly said: "complete"; readonly value: string }
);

export type HistoryReport = { readonly histories: number; readonly operations: number; readonly unanswered: number; readonly refused: number; readonly takeovers: number; readonly completed: number; readonly stops: number; readonly violations: readonly string[]; readonly seconds: number };

const CHILD = join(import.meta.dirname, "zombie-child.ts");
const PROCESSES = 4;
const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Runs `perStore` tasks on each of the stores, in new states at these places, and checks the history of each. */
export async function runHistories(stores: Setup["stores"], perStore: number, seed: number, withinMs: number): Promise<HistoryReport> {
  const random = seededRandom(seed);
  const started = performance.now();
  const states = new Map<string, State>();
  for (const { name, url } of stores) states.set(name, await openState(url, { actor: "parent", notice: () => undefined }));
  const said: Said[] = [];
  // Half of them lose every lease they pause under, the others only those of their longer pauses.
  const children = Array.from({ length: PROCESSES }, (_, i) => start({ stores, leaseMs: i % 2 === 0 ? 15 : 60, seed: seed * PROCESSES + i }, said));
  let stops = 0;
  try {
    await Promise.all(children.map(({ ready }) => ready));
    for (const state of states.values()) await state.tasks.addAll(Array.from({ length: perStore }, (_, i) => ({ description: `history ${i}`, max_attempts: 1000 })));
    const end = performance.now() + withinMs;
    let open = true;
    const sweeps = [...states.values()].map(async (state) => {
      while (open) {
        await sweep(state.committer, hostEvidence(systemClock, false), "sweeper", false);
        await pause(5);
      }
    });
    while ((open = await anyOpen(states, perStore)) && performance.now() < end) {
      const { child } = children[Math.floor(random.number() * PROCESSES)]!;
      child.kill("SIGSTOP");
      await pause(10 + 50 * random.number());
      child.kill("SIGCONT");
      await pause(20 + 40 * random.number());
      stops++;
    }
    const unfinished = open ? [`not all tasks had ended after ${withinMs} ms`] : [];
    open = false;
    await Promise.all(sweeps);
    await Promise.all(children.map(({ over, child }) => (child.send("stop"), over)));
    return { ...(await checked(states, said, unfinished)), stops, seconds: Math.round((performance.now() - started) / 100) / 10 };
  } finally {
    for (const { child } of children) child.kill("SIGKILL");
    await Promise.all([...states.values()].map((state) => state.close()));
  }
}

async function anyOpen(states: ReadonlyMap<string, State>, perStore: number): Promise<boolean> {
  for (const state of states.values()) {
    const { completed, failed } = await state.tasks.count();
    if (completed + failed < perStore) return true;
  }
  return false;
}

type Zombie = { readonly child: ChildProcess; readonly ready: Promise<void>; readonly over: Promise<void> };

function start(setup: Setup, heard: Said[]): Zombie {
  const child = spawn(process.execPath, [CHILD, JSON.stringify(setup)], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const told = (word: string) => new Promise<void>((resolve, reject) => {
    child.on("message", (message) => void (message === word && resolve()));
    child.once("exit", (code, signal) => reject(new Error(`a worker process ended with ${code ?? signal} before it was ${word}`)));
  });
  child.on("message", (message) => void (typeof message === "object" && heard.push(message as Said)));
  const [ready, over] = [told("ready"), told("over")];
  for (const promise of [ready, over]) promise.catch(() => undefined);
  return { child, ready, over };
}

async function checked(states: ReadonlyMap<string, State>, said: readonly Said[], unfinished: readonly string[]): Promise<Omit<HistoryReport, "stops" | "seconds">> {
  const violations = [...unfinished];
  const sum = { histories: 0, operations: 0, unanswered: 0, refused: 0, takeovers: 0, completed: 0 };
  const byTask = Map.groupBy(said, ({ store, task }) => `${store} ${task}`);
  for (const [name, state] of states) {
    for (const task of await state.tasks.all()) {
      const steps = await state.committer.store.list("step", { equals: { task_id: task.id } });
      const ops = opsOf(byTask.get(`${name} ${task.id}`) ?? []);
      const last = Math.max(0, ...ops.map(({ from, to }) => (to === Infinity ? from : to)));
      ops.push({ op: "final", from: last, to: last, value: task.status === "completed" ? JSON.stringify(task.result) : null, steps: Object.fromEntries(steps.map((step) => [step["name"], step["output"]])) as Record<string, string> });
      sum.histories++;
      sum.operations += ops.length;
      sum.unanswered += ops.filter(({ to }) => to === Infinity).length;
      sum.refused += ops.filter(({ op }) => op === "refused").length;
      sum.takeovers += task.takeovers;
      if (task.status === "completed") sum.completed++;
      if (linearize(ops) === null) violations.push(`${name}, task ${task.id}: this cannot have happened in any order:\n${drawn(ops)}`);
      const broken = await state.history.verify(task.id);
      if (broken !== null) violations.push(`${name}, task ${task.id}: the chain of its history is broken`);
    }
  }
  return { ...sum, violations };
}

/** What was said of one task as operations; what was never answered stays open for ever. */
function opsOf(said: readonly Said[]): Op[] {
  const answers = new Map(said.flatMap((word) => (word.said === "ok" ? [[word.id, word.at] as const] : [])));
  return said.flatMap((word): Op[] => {
    const { fence, at, from = at, id } = word;
    if (word.said === "ok") return [];
    if (word.said === "claimed") return [{ op: "claim", fence, from: 0, to: at }];
    if (word.said === "refused") return [{ op: "refused", fence, from, to: at }];
    if (word.said === "replayed") return [{ op: "replay", name: word.name, value: word.value, from, to: at }];
    const span = { fence, from: at, to: answers.get(id) ?? Infinity };
    if (word.said === "write") return [{ op: "write", name: word.name, value: word.value, ...span }];
    return word.said === "complete" ? [{ op: "complete", value: word.value, ...span }] : [];
  });
}

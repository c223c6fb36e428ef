// The measured processes of scale.ts: node scale-child.ts ROLE STATE [N]. Each prints its figures as one line of JSON.
import { statSync } from "node:fs";
import type { Profiler } from "node:inspector";
import { Session } from "node:inspector/promises";
import { openState, type State } from "../src/state.ts";
import { figures, report, round, timerLateness } from "./floor.ts";

const [, , role, location, n] = process.argv as [string, string, string, string, string];
const N = Number(n);
const CHUNK = 1_000;

/** Works what is due, `limit` tasks of five steps, 100 in flight; a timer tells how late the event loop is at worst. */
async function work(state: State, limit: number): Promise<object> {
  const wall = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  const lateness = timerLateness();
  const worker = state.work({
    concurrency: 100,
    maxTasks: limit,
    execute: async (_, { step }) => {
      for (let i = 0; i < 5; i++) await step(`s${i}`, () => ({ i }));
      return { ok: true };
    },
  });
  const started = (await state.tasks.count()).completed;
  while ((await state.tasks.count()).completed < started + limit) await worker.nextEvent();
  return { ...figures(limit, wall, cpu), timer_late_ms: lateness() };
}

async function add(state: State, count: number, fields: object): Promise<void> {
  for (let i = 0; i < count; i += CHUNK) await state.tasks.addAll(Array.from({ length: Math.min(CHUNK, count - i) }, (_, j) => ({ description: `task ${i + j}`, input: { n: i + j }, ...fields })));
}

/** The part of a profile's time in which a function of such a file was running or had called what was. */
function shareOf(profile: Profiler.Profile, file: RegExp): number {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const parents = new Map(profile.nodes.flatMap((node) => (node.children ?? []).map((child) => [child, node.id] as const)));
  let inside = 0;
  let all = 0;
  profile.samples!.forEach((id, i) => {
    const time = profile.timeDeltas![i]!;
    all += time;
    for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) {
      if (!file.test(nodes.get(at)!.callFrame.url)) continue;
      inside += time;
      break;
    }
  });
  return inside / all;
}

const roles: { readonly [role: string]: () => Promise<void> } = {
  /** Fills a state with N finished tasks. */
  async finished() {
    const state = await openState(location);
    await add(state, N, { status: "completed", result: { ok: true } });
    await state.close();
    report({ tasks: N });
  },
  /** Fills a state with N tasks that wait for their turn. */
  async waiting() {
    const state = await openState(location);
    await add(state, N, { priority: 9 });
    await state.close();
    report({ tasks: N });
  },
  /** N tasks before all others. */
  async work() {
    const state = await openState(location);
    await add(state, N, { priority: 1 });
    report(await work(state, N));
    await state.close();
  },
  /** What the view takes of the time under load, by a sampled profile, and how far it is behind. */
  async view() {
    const state = await openState(location);
    await add(state, N, { priority: 1 });
    const lags: number[] = [];
    const look = setInterval(() => lags.push(Date.now() - statSync(location).mtimeMs), 20);
    const profiler = new Session();
    profiler.connect();
    await profiler.post("Profiler.enable");
    await profiler.post("Profiler.start");
    const result = await work(state, N);
    const { profile } = await profiler.post("Profiler.stop");
    clearInterval(look);
    report({ ...result, share: round(shareOf(profile, /\/store\/json\/view\.ts$/) * 100, 1), lag_ms: round(Math.max(...lags), 0) });
    await state.close();
  },
  /** Opens a state and counts. */
  async open() {
    const start = performance.now();
    const state = await openState(location, { notice: () => undefined });
    await state.tasks.count();
    report({ open_ms: round(performance.now() - start, 1) });
    await state.close();
  },
  /** One task of N steps of 1 KB. */
  async steps() {
    const state = await openState(location);
    await state.tasks.add({ description: "many steps" });
    const worker = state.work({
      execute: async (_, { step }) => {
        for (let i = 0; i < N; i++) await step(`s${i}`, () => "x".repeat(1024));
      },
    });
    await worker.idle();
    await state.close();
    report({ raw_bytes: N * 1024 });
  },
};
await (roles[role] ?? (() => Promise.reject(new Error(`no role ${role}`))))();

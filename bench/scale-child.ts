// The measured processes of scale.ts: node scale-child.ts ROLE STATE [N]. Each prints its figures as one line of JSON.
import { statSync } from "node:fs";
import { openJson } from "../src/store/json/json.ts";
import { MODEL, openState, State } from "../src/state.ts";
import { systemClock } from "../src/base/clock.ts";
import { systemRandom } from "../src/base/id.ts";
import { figures, report, round } from "./floor.ts";

const [, , role, location, n] = process.argv as [string, string, string, string, string];
const N = Number(n);
const CHUNK = 1_000;
const megabytes = (bytes: number) => round(bytes / 1e6, 1);

/** Works what is due, `limit` tasks of five steps, 100 in flight; a timer tells how late the event loop is at worst. */
async function work(state: State, limit: number): Promise<object> {
  const wall = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  let latest = 0;
  let expected = performance.now() + 10;
  const timer = setInterval(() => {
    const now = performance.now();
    latest = Math.max(latest, now - expected);
    expected = now + 10;
  }, 10);
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
  clearInterval(timer);
  return { ...figures(limit, wall, cpu), timer_late_ms: round(latest, 1) };
}

async function add(state: State, count: number, fields: object): Promise<void> {
  for (let i = 0; i < count; i += CHUNK) await state.tasks.addAll(Array.from({ length: Math.min(CHUNK, count - i) }, (_, j) => ({ description: `task ${i + j}`, input: { n: i + j }, ...fields })));
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
  /** The same load with a view and without: what the view takes, and how far it is behind. */
  async view() {
    const options = { clock: systemClock, random: systemRandom };
    const { view, ...viewless } = MODEL;
    const state = new State(await openJson(location, process.env["NO_VIEW"] ? viewless : { ...viewless, view: view! }, options), null, { ...options, actor: "bench" });
    await add(state, N, { priority: 1 });
    const lags: number[] = [];
    const look = setInterval(() => lags.push(Date.now() - (statSync(location, { throwIfNoEntry: false })?.mtimeMs ?? Date.now())), 20);
    const result = await work(state, N);
    clearInterval(look);
    report({ ...result, lag_ms: round(Math.max(...lags), 0) });
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
  /** A worker that has run 500 tasks: its memory, and the size of the state. */
  async memory() {
    const state = await openState(location);
    await add(state, 500, { priority: 1 });
    await work(state, 500);
    globalThis.gc?.();
    const rss = process.memoryUsage.rss();
    await state.close();
    report({ rss_mb: megabytes(rss), state_mb: megabytes(statSync(location).size) });
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

// Worker processes on one Postgres while it fails: killed, restarted, cut off, with lost answers and a clock that is hours off.
// Each fault tells how long it took until work went on; at the end nothing is lost and nothing was done twice, by a log of
// effects outside the state.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startPostgres, type Server } from "../../scripts/postgres.ts";
import { openState, type State } from "../../src/state.ts";
import { chainViolations, violationsOf } from "../crash/kills.ts";
import { query } from "../postgres.ts";
import { Proxy } from "../store/postgres-proxy.ts";
import { completedIn, linesOf, openOf, startHost, type Host } from "./hosts.ts";

const HOUR_MS = 3_600_000;
const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** `ms`: until what the fault hit went on. */
export type Recovery = { readonly fault: string; readonly ms: number };
export type FaultReport = { readonly recoveries: readonly Recovery[]; readonly tasks: number; readonly effects: number; readonly repeated: number; readonly violations: readonly string[] };

type Scene = {
  readonly server: Server;
  readonly state: State;
  readonly log: string;
  readonly proxies: readonly Proxy[];
  /** A worker behind each proxy; the second's clock is hours ahead, the third's behind. */
  readonly hosts: Host[];
  start(i: number): Promise<Host>;
};

/** What it does to the scene; resolves when it is done. With `untilAll` it is over when the tasks of this process are completed. */
type Fault = { readonly name: string; inject(scene: Scene): Promise<Hit | void> };
/** `restarted`: another process in the place of the killed one, whose start is no part of the recovery. */
type Hit = { readonly untilAll: number; readonly restarted: Promise<void> };

async function killOne(scene: Scene, i: number): Promise<Hit> {
  const { pid, kill } = scene.hosts[i]!;
  // One that is at work, so that there is something to take over.
  while (openOf(linesOf(scene.log), pid).length === 0) await pause(2);
  await kill();
  return { untilAll: pid, restarted: scene.start(i).then((host) => void (scene.hosts[i] = host)) };
}

const proxied = (fault: Proxy["fault"], times: number) => async ({ proxies }: Scene) => {
  for (let i = 0; i < times; i++) {
    const proxy = proxies[i % proxies.length]!;
    const happened = proxy.faulted();
    proxy.fault = fault;
    await happened;
  }
};

const KILL: Fault = { name: "kill -9 of a worker", inject: (scene) => killOne(scene, 0) };
const KILLS: Fault = {
  name: "kill -9 of each worker in turn",
  async inject(scene) {
    for (let i = 1; i < scene.hosts.length; i++) await (await killOne(scene, i)).restarted;
    return killOne(scene, 0);
  },
};
const FAST: Fault = { name: "restart of the server (fast)", inject: ({ server }) => server.restart("fast") };
const CRASH: Fault = { name: "crash of the server (immediate)", inject: ({ server }) => server.restart("immediate") };
const TERMINATE: Fault = {
  name: "ten times every connection ended (pg_terminate_backend)",
  async inject({ server }) {
    for (let i = 0; i < 10; i++) {
      await query(server.url, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pawl' and pid <> pg_backend_pid()");
      await pause(20);
    }
  },
};
const ANSWERS: Fault = { name: "six lost answers to a COMMIT", inject: proxied("answer", 6) };
const REQUESTS: Fault = { name: "six COMMITs that never arrived", inject: proxied("request", 6) };
/** Found out only when an answer stays out for 15 s, so this one takes long: for the soak only. */
export const HALF_OPEN: Fault = {
  name: "half-open connections of every worker",
  async inject({ proxies }) {
    for (const proxy of proxies) proxy.fault = "silence";
    await pause(17_000);
    for (const proxy of proxies) proxy.fault = "none";
  },
};
export const FAULTS: readonly Fault[] = [KILL, KILLS, FAST, CRASH, TERMINATE, ANSWERS, REQUESTS];

/** Runs the faults one after the other, each under load. */
export async function runFaults(faults: readonly Fault[], withinMs: number): Promise<FaultReport> {
  const folder = mkdtempSync(join(tmpdir(), "pawl-faults-"));
  const ends: (() => unknown)[] = [() => rmSync(folder, { recursive: true, force: true })];
  const after = { after: (end: () => unknown) => void ends.unshift(end) };
  try {
    const server = await startPostgres();
    after.after(() => server.stop());
    const proxies = await Promise.all([0, 1, 2].map(() => Proxy.start(server.port)));
    after.after(() => Promise.all(proxies.map((proxy) => proxy.stop())));
    const log = join(folder, "effects.log");
    const state = await openState(server.url, { actor: "parent", notice: () => undefined });
    after.after(() => state.close());
    const start = (i: number) => startHost(after as never, { url: server.url.replace(`:${server.port}`, `:${proxies[i]!.port}`), log, clockOffMs: [0, 7, -9][i]! * HOUR_MS });
    const scene: Scene = { server, state, log, proxies, hosts: [], start };
    scene.hosts.push(...(await Promise.all([0, 1, 2].map(start))));
    const deadline = performance.now() + withinMs;
    const recoveries: Recovery[] = [];
    for (const fault of faults) recoveries.push({ fault: fault.name, ms: await recovered(scene, fault, deadline) });
    return { recoveries, ...(await settled(scene, deadline)) };
  } finally {
    for (const end of ends) await end();
  }
}

/** How long after the fault began work went on. */
async function recovered(scene: Scene, fault: Fault, deadline: number): Promise<number> {
  const feed = { on: true };
  const feeding = feedTasks(scene.state, feed);
  const goesOn = async (from: number) => {
    while (completedIn(linesOf(scene.log)).size <= from) {
      if (performance.now() > deadline) throw new Error(`after "${fault.name}" nothing went on`);
      await pause(5);
    }
  };
  await goesOn(completedIn(linesOf(scene.log)).size + 5);
  const started = performance.now();
  const before = completedIn(linesOf(scene.log)).size;
  const hit = await fault.inject(scene);
  await goesOn(before);
  // By the state and not by the log: it may have been killed after the commit and before its line.
  const unfinished = async (id: number) => (await scene.state.tasks.get(id)).status !== "completed";
  for (const id of hit ? openOf(linesOf(scene.log), hit.untilAll) : []) while ((await unfinished(id)) && performance.now() < deadline) await pause(5);
  const ms = Math.round(performance.now() - started);
  await hit?.restarted;
  await goesOn(completedIn(linesOf(scene.log)).size);
  feed.on = false;
  await feeding;
  return ms;
}

/** Keeps some tasks due; its own connection fails with the server and is trusted to come back. */
async function feedTasks(state: State, feed: { on: boolean }): Promise<void> {
  while (feed.on) {
    if ((await state.tasks.count()).pending < 20) await state.tasks.addAll(Array.from({ length: 20 }, () => ({ description: "x", max_attempts: 1000 })));
    await pause(20);
  }
}

async function settled({ state, log }: Scene, deadline: number): Promise<Omit<FaultReport, "recoveries">> {
  const open = async () => {
    const { pending, in_progress } = await state.tasks.count();
    return pending + in_progress;
  };
  while ((await open()) > 0 && performance.now() < deadline) await pause(20);
  const tasks = await state.tasks.all();
  // The last line of a task comes after its commit.
  await pause(100);
  const lines = linesOf(log);
  const effects = lines.filter((line) => line.startsWith("effect "));
  const distinct = new Set(effects.map((line) => line.split(" ").slice(1, 3).join(" "))).size;
  return { tasks: tasks.length, effects: effects.length, repeated: effects.length - distinct, violations: [...violationsOf(lines, tasks), ...(await chainViolations(state, tasks))] };
}

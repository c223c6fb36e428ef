// kill -9 at random moments over several worker processes on one state, and what must hold afterwards: nothing acknowledged
// is lost, nothing completed runs again, every task ends. The same run serves the tests (few kills) and the soak (many).
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom } from "../../src/base/id.ts";
import { openState, type State } from "../../src/state.ts";
import type { Task } from "../../src/core/records.ts";

export type KillOptions = { readonly file: string; readonly kills: number; readonly workers: number; readonly seed: number };

export type KillReport = { readonly tasks: number; readonly kills: number; readonly effects: number; readonly acknowledged: number; readonly repeated: number; readonly takeovers: number; readonly violations: readonly string[]; readonly seconds: number };

const CHILD = join(import.meta.dirname, "worker-child.ts");

export async function killWorkers(options: KillOptions): Promise<KillReport> {
  const folder = mkdtempSync(join(tmpdir(), "pawl-kills-"));
  const location = join(folder, options.file);
  const log = join(folder, "effects.log");
  const random = seededRandom(options.seed);
  const started = Date.now();
  const state = await openState(location, { actor: "parent", notice: () => undefined });
  const children = new Set<Victim>();
  try {
    let added = await addTasks(state, 100);
    for (let i = 0; i < options.workers; i++) children.add(start(location, log));
    for (let kill = 0; kill < options.kills; kill++) {
      await pause(60 + random.number() * 240);
      // One that is still starting has nothing to lose: on a slow machine all kills would hit those.
      const victims = await atWork(children);
      const victim = victims[Math.floor(random.number() * victims.length)]!;
      children.delete(victim);
      await killed(victim);
      children.add(start(location, log));
      if ((await state.tasks.count())["pending"] < 60) added += await addTasks(state, 60);
    }
    await untilAllEnd(state, 60_000);
    const tasks = await state.tasks.all();
    const lines = existsSync(log) ? readFileSync(log, "utf8").trim().split("\n") : [];
    const violations = [...violationsOf(lines, tasks), ...(await chainViolations(state, tasks))];
    if (tasks.length !== added) violations.push(`${added} tasks were added, ${tasks.length} are there`);
    return { ...counted(lines), tasks: tasks.length, kills: options.kills, takeovers: tasks.reduce((sum, task) => sum + task.takeovers, 0), violations, seconds: (Date.now() - started) / 1000 };
  } finally {
    await Promise.all([...children].map(killed));
    await state.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function addTasks(state: State, n: number): Promise<number> {
  await state.tasks.addAll(Array.from({ length: n }, (_, i) => ({ description: `task ${i}`, max_attempts: 1000 })));
  return n;
}

type Victim = { readonly child: ChildProcess; readonly ready: Promise<unknown>; working: boolean };

function start(location: string, log: string): Victim {
  const child = spawn(process.execPath, [CHILD, location, log], { stdio: ["ignore", "pipe", "inherit"] });
  const victim: Victim = { child, working: false, ready: new Promise((resolve) => child.stdout!.once("data", resolve)).then(() => (victim.working = true)) };
  return victim;
}

async function atWork(children: ReadonlySet<Victim>): Promise<Victim[]> {
  await Promise.race([...children].map((victim) => victim.ready));
  return [...children].filter((victim) => victim.working);
}

function killed({ child }: Victim): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once("exit", () => resolve());
    child.kill("SIGKILL");
  });
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

async function untilAllEnd(state: State, withinMs: number): Promise<void> {
  const end = Date.now() + withinMs;
  for (;;) {
    const counts = await state.tasks.count();
    if (["pending", "in_progress", "review", "waiting"].every((status) => !counts[status as keyof typeof counts])) return;
    if (Date.now() > end) throw new Error(`tasks that never end: ${JSON.stringify(counts)}`);
    await pause(50);
  }
}

/** Reads the log in order: after "recorded" a step has no further effect, after "completed" a task has none. */
export function violationsOf(lines: readonly string[], tasks: readonly Task[]): string[] {
  const violations: string[] = [];
  const recorded = new Map<string, string>();
  const completed = new Set<number>();
  for (const line of lines) {
    const [what, id, name, ...rest] = line.split(" ");
    const step = `${id} ${name}`;
    if (what === "effect" && recorded.has(step)) violations.push(`step ${step} ran again after it was recorded`);
    if (what === "effect" && completed.has(Number(id))) violations.push(`task ${id} ran again after it was completed`);
    if (what === "recorded") {
      const output = rest.join(" ");
      if (recorded.has(step) && recorded.get(step) !== output) violations.push(`step ${step} gave ${recorded.get(step)}, then ${output}`);
      recorded.set(step, output);
    }
    if (what === "completed") completed.add(Number(id));
  }
  const byId = new Map(tasks.map((task) => [task.id, task]));
  for (const id of completed) if (byId.get(id)?.status !== "completed") violations.push(`task ${id} was acknowledged as completed and is ${byId.get(id)?.status ?? "gone"}`);
  for (const task of tasks) {
    if (task.status !== "completed") violations.push(`task ${task.id} ended as ${task.status}: ${task.error?.message}`);
    const outputs = ["one", "two", "three"].map((name) => recorded.get(`${task.id} ${name}`));
    const result = (task.result as unknown[] | null)?.map((output) => JSON.stringify(output)) ?? [];
    if (JSON.stringify(outputs) !== JSON.stringify(result)) violations.push(`task ${task.id} has the result ${result}, recorded was ${outputs}`);
  }
  return violations;
}

export async function chainViolations(state: State, tasks: readonly Task[]): Promise<string[]> {
  const broken = await Promise.all(tasks.map(async (task) => [task.id, await state.history.verify(task.id)] as const));
  return broken.filter(([, at]) => at !== null).map(([id, at]) => `the history of task ${id} is broken at ${at}`);
}

function counted(lines: readonly string[]): { effects: number; acknowledged: number; repeated: number } {
  const effects = lines.filter((line) => line.startsWith("effect "));
  const distinct = new Set(effects.map((line) => line.split(" ").slice(1, 3).join(" "))).size;
  return { effects: effects.length, acknowledged: lines.filter((line) => line.startsWith("recorded ")).length, repeated: effects.length - distinct };
}

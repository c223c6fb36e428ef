// A disk that fills up under a run, for real: a small tmpfs. Invariant: the run ends and says why, nothing it acknowledged is
// gone, and when there is room again the same command goes on where it stopped. Run as a program, in a mount namespace.
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openState } from "../../src/state.ts";
import { BIN } from "../pawl.ts";
import { integrityOf, scratch } from "./images-pawl.ts";
import { inNamespace, sh } from "./powercut.ts";

export type FullOptions = { readonly file: string };
export type FullReport = {
  /** How the run on the full disk ended, and what it said at the end. */
  readonly code: number | null;
  readonly said: string;
  /** Tasks that were said to be completed when the disk was full. */
  readonly acknowledged: number;
  readonly violations: readonly string[];
};

const TASKS = 60;
const RESULT = 40_000;

/** Why no disk can be filled here, or null. */
export function whyNoFullDisk(): string | null {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "a small disk needs Linux and root (a mount of its own)";
  const base = scratch();
  try {
    const tried = spawnSync("unshare", ["-m", "--propagation", "private", "mount", "-t", "tmpfs", "-o", "size=1m", "small", base], { encoding: "utf8" });
    return tried.status === 0 ? null : `a small tmpfs cannot be mounted here: ${tried.error?.message ?? tried.stderr.trim()}`;
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}

export async function fillDisk(options: FullOptions): Promise<FullReport> {
  return inNamespace(import.meta.filename, options);
}

async function run({ file }: FullOptions): Promise<FullReport> {
  const base = scratch();
  const small = join(base, "small");
  mkdirSync(small);
  sh("mount", "-t", "tmpfs", "-o", "size=3m", "small", small);
  try {
    const [state, ballast, list, effects] = [join(small, file), join(small, "ballast"), join(base, "list.txt"), join(base, "effects")];
    writeFileSync(ballast, Buffer.alloc(1 << 20));
    writeFileSync(list, Array.from({ length: TASKS }, (_, i) => `line ${i + 1}\n`).join(""));
    appendFileSync(effects, "");
    const command = `sh -c 'echo "$PAWL_TASK_ID" >> ${effects}; head -c ${RESULT} /dev/zero | tr "\\0" x'`;
    const pawl = (...args: string[]) => spawnSync(process.execPath, [BIN, "--state", state, ...args], { encoding: "utf8", env: { ...process.env, NO_COLOR: "1" }, timeout: 120_000, cwd: base });
    const full = pawl("run", list, "--exec", command);
    const acknowledged = [...full.stdout.matchAll(/\[Task (\d+)\][^[]*✓ Completed/g)].map((match) => Number(match[1]));
    const violations = (await lost(state, acknowledged)).map((what) => `while the disk is full: ${what}`);
    const { tasks, workers } = (JSON.parse(pawl("status", "--json").stdout) as { data: { tasks: { in_progress: number }; workers: unknown[] } }).data;
    if (tasks.in_progress > 0 && workers.length === 0) violations.push("nobody can see that the worker is gone: its task waits for its lease");
    rmSync(ballast);
    sh("mount", "-o", "remount,size=16m", small);
    const ran = readFileSync(effects, "utf8").split("\n").map(Number);
    const again = pawl("run", list);
    if (again.status !== 0) violations.push(`with room again the run ended with ${again.status ?? again.signal}: ${again.stdout.slice(-500)} ${again.stderr.slice(-500)}`);
    violations.push(...(await lost(state, Array.from({ length: TASKS }, (_, i) => i + 1))));
    const repeated = readFileSync(effects, "utf8").split("\n").map(Number).slice(ran.length - 1).filter((id) => acknowledged.includes(id));
    violations.push(...repeated.map((id) => `task ${id} was completed and ran again`));
    if (file.endsWith(".db")) violations.push(...integrityOf(state));
    return { code: full.status, said: `${full.stdout}\n${full.stderr}`.slice(-2_000), acknowledged: acknowledged.length, violations };
  } finally {
    sh("umount", small);
    rmSync(base, { recursive: true, force: true });
  }
}

/** What is wrong with tasks that must be completed with their whole result. */
async function lost(location: string, ids: readonly number[]): Promise<string[]> {
  const state = await openState(location, { readOnly: true, notice: () => undefined });
  try {
    const tasks = new Map((await state.tasks.all()).map((task) => [task.id, task]));
    return ids.filter((id) => tasks.get(id)?.status !== "completed" || String(tasks.get(id)!.result).length !== RESULT).map((id) => `task ${id} is ${tasks.get(id)?.status ?? "gone"}`);
  } finally {
    await state.close();
  }
}

if (process.argv[1] === import.meta.filename) process.stdout.write(JSON.stringify(await run(JSON.parse(process.argv[2]!) as FullOptions)));

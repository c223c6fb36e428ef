// Which machine and boot this is, and whether a process is really the one that was recorded: a number alone is not, it is
// given away again. Invariant: nothing is ever signalled unless it is proven to be the recorded group. The proof holds
// because a system does not reuse a group's number while one of its members lives, so one proven member proves them all.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { hostname, uptime } from "node:os";
import { sleep, type Clock } from "./clock.ts";

/** A process group as it is recorded before its command begins; `pid` is the number of its leader and of the group. */
export type ProcessGroup = { readonly pid: number; readonly startTime: string; readonly bootId: string };

/**
 * What became of a recorded group: `ended` by us, already `gone`, still `alive` after SIGKILL (another user's, or stuck in
 * the kernel), recorded by a boot of `elsewhere`, or `unproven`: something has its number, and nothing shows that it is ours.
 */
export type GroupEnd = "ended" | "gone" | "alive" | "elsewhere" | "unproven";

/** The variable every command of ours carries from its first instruction, so that it is recognised without its leader. */
export const PROCESS_MARK = "PAWL_PROCESS";

/** How long we wait for a group to vanish after SIGKILL, in ms; only a process stuck in the kernel takes longer. */
const KILL_WAIT_MS = 5_000;
const POLL_MS = 20;
const LINUX = process.platform === "linux";

let knownBootId: string | undefined;

/** The same for everything that runs on this machine until it is started again, and for nothing else. */
export function bootId(): string {
  return (knownBootId ??= readBootId());
}

function readBootId(): string {
  const linux = readText("/proc/sys/kernel/random/boot_id");
  if (linux) return linux.trim();
  for (const name of ["kern.bootsessionuuid", "kern.boottime"]) {
    const answer = spawnSync("sysctl", ["-n", name], { encoding: "utf8" });
    // kern.boottime is "{ sec = 1700000000, usec = 1 } Tue Nov …": only its first number does not depend on the locale.
    const id = name === "kern.boottime" ? /\d+/.exec(answer.stdout ?? "")?.[0] : answer.stdout?.trim();
    if (id) return id;
  }
  // To ten seconds, as the two clocks are not read at the same moment.
  return `up-since-${Math.round((Date.now() / 1000 - uptime()) / 10)}`;
}

export function hostName(): string {
  return hostname();
}

/** When the process with this number started, in a form that only makes sense compared for equality; null when there is none. */
export function processStart(pid: number): string | null {
  return statOf(pid)?.start ?? null;
}

/** The value of the mark: known from the record alone, so that whoever takes over can look for it. */
export function markOf(group: ProcessGroup): string {
  return `${group.pid}:${group.startTime}:${group.bootId}`;
}

/** True while a process of the group lives. Dead ones that nobody has collected yet do not count. */
export function groupAlive(pgid: number): boolean {
  try {
    process.kill(-pgid, 0);
  } catch (error) {
    // EPERM: it exists and belongs to another user.
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  return membersOf(pgid).length > 0;
}

export type EndOptions = {
  readonly clock: Clock;
  /** Between SIGTERM and SIGKILL, in ms. */
  readonly graceMs?: number;
  /** The caller started the group itself and has just seen its leader end: no mark is needed as proof. */
  readonly mine?: boolean;
};

/** Ends a recorded group of this host: SIGTERM, a grace, SIGKILL; resolves when it is gone. Never ends a stranger. */
export async function endGroup(group: ProcessGroup, options: EndOptions): Promise<GroupEnd> {
  if (group.bootId !== bootId()) return "elsewhere";
  const first = signalGroup(group, "SIGTERM", options.mine === true);
  if (first !== "signalled") return first;
  if (await vanishes(group.pid, options.clock, options.graceMs ?? 2_000)) return "ended";
  // It was proven above and has not been empty since, so it is still the same group.
  signalGroup(group, "SIGKILL", true);
  return (await vanishes(group.pid, options.clock, KILL_WAIT_MS)) ? "ended" : "alive";
}

function signalGroup(group: ProcessGroup, signal: NodeJS.Signals, mine: boolean): "signalled" | "gone" | "alive" | "unproven" {
  // kill(-1) and kill(0) would mean every process and our own group.
  if (!Number.isSafeInteger(group.pid) || group.pid <= 1) return "unproven";
  if (!groupAlive(group.pid)) return "gone";
  const leader = processStart(group.pid);
  // Its number belongs to another process, which is only possible once nobody of our group is left.
  if (leader !== null && leader !== group.startTime) return "gone";
  if (leader === null && !mine && !membersOf(group.pid).some((pid) => hasMark(pid, markOf(group)))) return "unproven";
  try {
    process.kill(-group.pid, signal);
    return "signalled";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH" ? "gone" : "alive";
  }
}

async function vanishes(pgid: number, clock: Clock, withinMs: number): Promise<boolean> {
  const end = clock.monotonic() + withinMs;
  while (groupAlive(pgid)) {
    if (clock.monotonic() >= end) return false;
    await sleep(clock, POLL_MS);
  }
  return true;
}

/* ---------- reading the process table ---------- */

type Stat = { readonly pgid: number; readonly start: string; readonly dead: boolean };

function statOf(pid: number): Stat | null {
  if (LINUX) return parseStat(readText(`/proc/${pid}/stat`));
  const line = listProcesses(["-p", String(pid)])[0];
  return line === undefined ? null : line;
}

/** One line of /proc/PID/stat. The name in parentheses may hold spaces and parentheses, so counting begins after the last one. */
export function parseStat(text: string | null): Stat | null {
  if (text === null) return null;
  const fields = text.slice(text.lastIndexOf(")") + 2).trimEnd().split(" ");
  const [state, pgrp, threads, start] = [fields[0], fields[2], fields[17], fields[19]];
  if (start === undefined) return null;
  // A leader whose main thread ended shows as dead while its other threads go on.
  const dead = (state === "Z" || state === "X") && Number(threads) <= 1;
  return { pgid: Number(pgrp), start, dead };
}

function membersOf(pgid: number): number[] {
  if (!LINUX) return listProcesses(["-A"]).filter((line) => line.pgid === pgid && !line.dead).map((line) => line.pid);
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number);
  return pids.filter((pid) => {
    const stat = statOf(pid);
    return stat !== null && stat.pgid === pgid && !stat.dead;
  });
}

/** The process table of a system without /proc, as ps prints it. */
function listProcesses(which: readonly string[]): (Stat & { pid: number })[] {
  const ps = spawnSync("ps", [...which, "-o", "pid=,pgid=,stat=,lstart="], { encoding: "utf8", env: { ...process.env, LC_ALL: "C", TZ: "UTC" } });
  return (ps.stdout ?? "").split("\n").flatMap((line) => {
    const match = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.+?)\s*$/.exec(line);
    return match ? [{ pid: Number(match[1]), pgid: Number(match[2]), dead: match[3]!.startsWith("Z"), start: match[4]! }] : [];
  });
}

function hasMark(pid: number, mark: string): boolean {
  const entry = `${PROCESS_MARK}=${mark}`;
  if (LINUX) return readText(`/proc/${pid}/environ`)?.split("\0").includes(entry) ?? false;
  const ps = spawnSync("ps", ["-E", "-ww", "-p", String(pid), "-o", "command="], { encoding: "utf8" });
  return (ps.stdout ?? "").split(/\s/).includes(entry);
}

/** A file of /proc, or null when the process is gone or not ours to read. */
function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

// Worker processes for tests of several hosts: started, killed, and read by what they log outside the state.
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";

export type HostSetup = { readonly url: string; readonly log: string; readonly leaseMs: number; readonly clockOffMs: number };

export type Host = { readonly child: ChildProcess; readonly pid: number; readonly worker: string; kill(): Promise<void> };

const CHILD = join(import.meta.dirname, "host-child.ts");

/** Starts a worker process; it claims at once. It is killed at the end of the test. */
export async function startHost(t: Pick<TestContext, "after">, setup: Pick<HostSetup, "url" | "log"> & Partial<HostSetup>): Promise<Host> {
  const child = spawn(process.execPath, [CHILD, JSON.stringify({ leaseMs: 30_000, clockOffMs: 0, ...setup })], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const kill = () => (child.kill("SIGKILL"), ended);
  t.after(kill);
  const worker = await new Promise<string>((resolve, reject) => {
    child.once("message", (message) => resolve((message as { worker: string }).worker));
    child.once("exit", (code, signal) => reject(new Error(`a worker process ended with ${code ?? signal}`)));
  });
  return { child, pid: child.pid!, worker, kill };
}

export const linesOf = (log: string): string[] => (existsSync(log) ? readFileSync(log, "utf8").trim().split("\n") : []);

export const completedIn = (lines: readonly string[]): Set<number> => new Set(lines.flatMap((line) => (line.startsWith("completed ") ? [Number(line.slice(10))] : [])));

/** Tasks in which a process began an effect and that have not been completed. */
export function openOf(lines: readonly string[], pid: number): number[] {
  const completed = completedIn(lines);
  return [...new Set(lines.flatMap((line) => (line.startsWith("effect ") && line.endsWith(` ${pid}`) ? [Number(line.split(" ")[1])] : [])))].filter((id) => !completed.has(id));
}

// What the benches share in printing: a row with its target, medians, a figure from a process of its own, the result file.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { round } from "./floor.ts";

export type Figure = { [name: string]: number };
type Row = { readonly what: string; readonly figure: string; readonly target: string; readonly met: boolean | null };

const rows: Row[] = [];
export const raw: { [name: string]: unknown } = {};
export const quick = process.argv.includes("--quick");
export const ROUNDS = quick ? 3 : 5;
export const folder = mkdtempSync(join(tmpdir(), "pawl-bench-"));

let files = 0;
export const fresh = (ending: string): string => join(folder, `${++files}${ending}`);

/** The last line that a script of this folder prints, as JSON. */
export function measure(script: string, args: readonly (string | number)[], env: NodeJS.ProcessEnv = {}): Figure {
  const output = execFileSync(process.execPath, [join(import.meta.dirname, script), ...args.map(String)], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...env } });
  return JSON.parse(output.trim().split("\n").at(-1)!) as Figure;
}

/** Runs `work` while a dashboard polls `state` ten times a second. */
async function whilePolled<T>(state: string, work: () => T): Promise<T> {
  const reader = spawn(process.execPath, [join(import.meta.dirname, "reader.ts"), state], { stdio: ["ignore", "pipe", "inherit"] });
  await once(reader.stdout, "data");
  try {
    return work();
  } finally {
    reader.kill("SIGTERM");
    await once(reader, "exit");
  }
}

/** What a polling dashboard costs writers: the load with one beside it, and without. */
export async function readers(name: string, place: () => string, tasks: number): Promise<void> {
  const pairs: { alone: number; polled: number }[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const alone = measure("load.ts", [place(), tasks, 100])["tasks_s"]!;
    const state = place();
    measure("load.ts", [state, 1, 1]);
    pairs.push({ alone, polled: await whilePolled(state, () => measure("load.ts", [state, tasks, 100, 1])["tasks_s"]!) });
  }
  raw[`${name} readers`] = pairs;
  const slower = round((1 - median(pairs.map(({ alone, polled }) => polled / alone))) * 100, 1);
  row(`${name}: a dashboard that polls at 10 Hz slows writers`, `${slower} %`, "at most 10 %", slower <= 10);
}

export const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;
export const spread = (values: readonly number[]): string => `${Math.min(...values)}–${Math.max(...values)}`;

export function row(what: string, figure: string, target: string, met: boolean | null): void {
  rows.push({ what, figure, target, met });
  console.log(`${met === null ? " " : met ? "✓" : "✗"} ${what.padEnd(58)} ${figure.padEnd(62)} ${target}`);
}

/** Runs the parts that were asked for (all when none), in their order, and writes what they gave to bench/out/NAME.json. */
export async function bench(name: string, parts: { readonly [part: string]: () => void | Promise<void> }): Promise<void> {
  const asked = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
  const unknown = asked.find((part) => !Object.hasOwn(parts, part));
  if (unknown !== undefined) {
    console.error(`There is no part "${unknown}". Parts: ${Object.keys(parts).join(", ")}.`);
    process.exit(2);
  }
  console.log(`Node ${process.version}, ${cpus().length} cores (${cpus()[0]?.model}), ${ROUNDS} rounds; medians, in brackets the range\n`);
  try {
    for (const [part, run] of Object.entries(parts)) if (asked.length === 0 || asked.includes(part)) await run();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  mkdirSync(join(import.meta.dirname, "out"), { recursive: true });
  writeFileSync(join(import.meta.dirname, "out", `${name}.json`), `${JSON.stringify({ at: new Date().toISOString(), node: process.version, rows, raw }, null, 2)}\n`);
  console.log(`\nWritten: bench/out/${name}.json`);
}

// `npm run bench:scale`: what a state costs when it has grown, and on a slower disk. Ratios against an empty state, against
// `node -e 0` or against a floor of the same run. Writes bench/out/scale.json. `--quick`: a tenth of the tasks.
// Parts can be named: grown view open status memory steps slow.
import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { round } from "./floor.ts";
import { bench, fresh, measure, median, quick, raw, row, ROUNDS } from "./table.ts";

const K = quick ? 100 : 1_000;
const STORES = [["SQLite", ".db"], ["JSON", ".json"]] as const;
const child = (role: string, state: string, n = 0, env: NodeJS.ProcessEnv = {}) => measure("scale-child.ts", [role, state, n], env);

function filled(ending: string, role: "finished" | "waiting", n: number): string {
  const state = fresh(ending);
  child(role, state, n);
  return state;
}

/** Everything a state is on disk: the file, what stands beside it and its folder. */
function bytesOf(state: string): number {
  const sizeOf = (path: string): number => {
    const stat = statSync(path);
    return stat.isDirectory() ? readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0) : stat.size;
  };
  const name = state.split("/").at(-1)!;
  return readdirSync(join(state, "..")).filter((file) => file.startsWith(name)).reduce((sum, file) => sum + sizeOf(join(state, "..", file)), 0);
}

function grown(): void {
  for (const [name, ending] of STORES) {
    const target = name === "SQLite" ? 1.2 : 1.5;
    const [finished, waiting] = [filled(ending, "finished", 100 * K), filled(ending, "waiting", 50 * K)];
    const rounds = Array.from({ length: ROUNDS }, () => {
      const empty = child("work", fresh(ending), 5 * K)["tasks_s"]!;
      return { finished: empty / child("work", finished, 5 * K)["tasks_s"]!, waiting: empty / child("work", waiting, 5 * K)["tasks_s"]! };
    });
    raw[`${name} grown`] = rounds;
    for (const [what, label] of [["finished", `after ${100 * K} finished ones`], ["waiting", `with ${50 * K} waiting`]] as const) {
      const ratio = round(median(rounds.map((each) => each[what])), 2);
      row(`${name}: a 5-step task ${label}`, `${ratio} times its time in an empty state`, `at most ${target}`, ratio <= target);
    }
  }
}

function view(): void {
  const rounds = Array.from({ length: ROUNDS }, () => child("view", filled(".json", "finished", 10 * K), 10 * K));
  raw["view"] = rounds;
  const share = median(rounds.map((each) => each["share"]!));
  row(`JSON: the view's share of the time, ${10 * K} to ${20 * K} tasks`, `${share} %, at most ${median(rounds.map((each) => each["lag_ms"]!))} ms behind`, "at most 5 %", share <= 5);
  const late = median(rounds.map((each) => each["timer_late_ms"]!));
  row("JSON: timer at most late meanwhile", `${late} ms`, "50 ms", late <= 50);
}

function open(): void {
  for (const [name, ending] of STORES) {
    const state = filled(ending, "finished", 100 * K);
    const ms = median(Array.from({ length: ROUNDS }, () => child("open", state)["open_ms"]!));
    raw[`${name} open`] = ms;
    const target = name === "SQLite" ? 50 : 1_500;
    row(`${name}: opening a state of ${100 * K} tasks with history`, `${ms} ms`, `under ${target} ms`, ms < target);
  }
}

/** The package as users get it: what is measured cold or by its memory must not contain Node's type stripping. */
function build(): void {
  execFileSync(process.execPath, [join(import.meta.dirname, "..", "scripts", "build.ts")]);
}

function status(): void {
  const bin = join(import.meta.dirname, "..", "dist", "surface", "bin.js");
  build();
  const timed = (args: readonly string[]) => {
    const start = performance.now();
    execFileSync(process.execPath, args, { stdio: "ignore" });
    return performance.now() - start;
  };
  for (const [name, ending] of STORES) {
    const state = filled(ending, "finished", 10 * K);
    timed([bin, "--state", state, "status"]);
    const pairs = Array.from({ length: ROUNDS * 4 }, () => ({ empty: timed(["-e", "0"]), own: timed([bin, "--state", state, "status"]) }));
    raw[`${name} status`] = pairs;
    const ratio = round(median(pairs.map(({ empty, own }) => own / empty)), 1);
    const figure = `${round(median(pairs.map(({ own }) => own)), 0)} ms, ${ratio} times node -e 0${name === "JSON" ? `; state.json ${round(statSync(state).size / 1e6, 1)} MB` : ""}`;
    row(`${name}: pawl status, ${10 * K} tasks, a new process of the build`, figure, name === "SQLite" ? "at most 3 times" : "in proportion", name === "SQLite" ? ratio <= 3 : null);
  }
}

function memory(): void {
  build();
  for (const [name, ending] of STORES) {
    const small = measure("memory.mjs", [filled(ending, "finished", 100)]);
    const large = measure("memory.mjs", [filled(ending, "finished", 100 * K)]);
    raw[`${name} memory`] = { small, large };
    const [rss, before, size] = [large["rss_mb"]!, small["rss_mb"]!, large["state_mb"]!];
    if (name === "SQLite") row(`SQLite: memory of a worker at ${100 * K} tasks`, `${rss} MB, ${round(rss / before, 2)} times that at 100 (${before} MB)`, "at most 1.3 times", rss / before <= 1.3);
    else row(`JSON: memory of a worker at ${100 * K} tasks`, `${rss} MB for a state.json of ${size} MB`, `8 times it and 60 MB: ${round(8 * size + 60, 0)} MB`, rss <= 8 * size + 60);
  }
}

function steps(): void {
  for (const [name, ending] of STORES) {
    const state = fresh(ending);
    const { raw_bytes } = child("steps", state, K) as { raw_bytes: number };
    const ratio = round(bytesOf(state) / raw_bytes, 2);
    row(`${name}: storage of one task of ${K} steps of 1 KB`, `${ratio} times the raw data`, "at most 3", ratio <= 3);
  }
}

function slow(): void {
  const shim = fresh(".so");
  const built = spawnSync("cc", ["-shared", "-fPIC", "-O2", "-o", shim, join(import.meta.dirname, "slow-flush.c"), "-ldl"]);
  if (built.status !== 0) return row("each flush 1 ms slower", "not measured: no C compiler", "half the floor", null);
  const env = { LD_PRELOAD: shim };
  for (const [name, ending, floor, floorEnding] of [["SQLite", ".db", "floor-sqlite.ts", ".floor.db"], ["JSON", ".json", "floor-journal.ts", ".jsonl"]] as const) {
    const ratios = Array.from({ length: ROUNDS }, () => {
      const low = measure(floor, [fresh(floorEnding), 10 * K, 100], env)["tasks_s"]!;
      return measure("load.ts", [fresh(ending), 10 * K, 100], env)["tasks_s"]! / low;
    });
    raw[`${name} slow`] = ratios;
    const percent = round(median(ratios) * 100, 0);
    row(`${name}: 5-step tasks with each flush 1 ms slower`, `${percent} % of the floor under the same`, "at least 50 %", percent >= 50);
  }
}

await bench("scale", { grown, view, open, status, memory, steps, slow });

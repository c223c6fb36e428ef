// `npm run bench`: every figure of the README in one go, floors and Pawl in turn so that a busy machine slows both; medians
// of ROUNDS, ratios paired by round. Prints a table and writes bench/out/results.json. `--quick`: fewer tasks and rounds.
// Parts can be named: throughput flushes latency takeover readers.
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { round } from "./floor.ts";
import { bench, fresh, measure, median, quick, raw, readers, row, ROUNDS, spread } from "./table.ts";

const TASKS = quick ? 5_000 : 20_000;
const STORES = [["SQLite", ".db"], ["JSON", ".json"]] as const;

/** 5-step tasks, 100 in flight, paired with the floor of the same round. */
function throughput(name: string, floor: string, ending: string, floorEnding: string, target: number): void {
  const pairs = Array.from({ length: ROUNDS }, () => {
    const low = measure(floor, [fresh(floorEnding), TASKS, 100]);
    const own = measure("load.ts", [fresh(ending), TASKS, 100]);
    return { low, own };
  });
  raw[name] = pairs;
  const ratio = median(pairs.map(({ low, own }) => own["tasks_s"]! / low["tasks_s"]!));
  const own = pairs.map((pair) => pair.own["tasks_s"]!);
  row(`${name}: 5-step tasks/s, 100 in flight`, `${median(own)} (${spread(own)}), floor ${median(pairs.map((p) => p.low["tasks_s"]!))}: ${round(ratio * 100, 0)} %`, `at least ${target} % of the floor`, ratio * 100 >= target);
  const cpu = pairs.map((pair) => pair.own["cpu_ms_task"]!);
  row(`${name}: processor time a task`, `${median(cpu)} ms, floor ${median(pairs.map((p) => p.low["cpu_ms_task"]!))} ms`, "", null);
  const late = pairs.map((pair) => pair.own["timer_late_ms"]!);
  row(`${name}: timer at most late under that load`, `${median(late)} ms (${spread(late)}), floor ${median(pairs.map((p) => p.low["timer_late_ms"]!))} ms`, "50 ms", median(late) <= 50);
}

function flushes(name: string, ending: string): void {
  if (spawnSync("strace", ["-V"]).error) return row(`${name}: flushes a 5-step task, one at a time`, "not counted: strace is missing", "8.5", null);
  const count = (tasks: number) => {
    const out = fresh(".strace");
    execFileSync("strace", ["-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", out, process.execPath, join(import.meta.dirname, "flushes.ts"), fresh(ending), String(tasks)]);
    return readFileSync(out, "utf8").split("\n").filter((line) => /f(data)?sync\(/.test(line)).length;
  };
  const figure = (count(200) - count(0)) / 200;
  raw[`${name} flushes`] = figure;
  row(`${name}: flushes a 5-step task, one at a time`, String(round(figure, 2)), "at most 8.5", figure <= 8.5);
}

/** In turn with the floor: what an add and a claim in one flush cost with nothing around them. */
function latency(name: string, floor: string, ending: string): void {
  const rounds = Array.from({ length: ROUNDS }, () => ({
    low: measure(floor, [fresh(`.floor${ending}`), "idle"])["p50_ms"]!,
    here: measure("latency.ts", [fresh(ending), "here"])["p50_ms"]!,
    other: measure("latency.ts", [fresh(ending), "other"])["p50_ms"]!,
  }));
  raw[`${name} latency`] = rounds;
  const [low, here, other] = (["low", "here", "other"] as const).map((which) => median(rounds.map((each) => each[which]))) as [number, number, number];
  row(`${name}: add to start on an idle worker, p50`, `${here} ms, floor ${low} ms`, "under 1 ms", here < 1);
  row(`${name}: the same from another process, p50`, `${other} ms`, "under 10 ms", other < 10);
}

function takeover(name: string, ending: string): void {
  const all = Array.from({ length: ROUNDS }, () => measure("takeover.ts", [fresh(ending)])["all_ms"]!);
  raw[`${name} takeover`] = all;
  row(`${name}: kill -9 with 1,000 in progress, until all run again`, `${median(all)} ms (${spread(all)})`, "under 1,000 ms", median(all) < 1000);
}

await bench("results", {
  throughput() {
    throughput("SQLite", "floor-sqlite.ts", ".db", ".floor.db", 50);
    throughput("JSON", "floor-journal.ts", ".json", ".jsonl", 40);
  },
  flushes: () => STORES.forEach(([name, ending]) => flushes(name, ending)),
  latency() {
    latency("SQLite", "floor-sqlite.ts", ".db");
    latency("JSON", "floor-journal.ts", ".json");
  },
  takeover: () => STORES.forEach(([name, ending]) => takeover(name, ending)),
  async readers() {
    for (const [name, ending] of STORES) await readers(name, () => fresh(ending), TASKS);
  },
});

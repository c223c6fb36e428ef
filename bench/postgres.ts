// `npm run bench:postgres`: the Postgres store on a server of its own (or PAWL_TEST_PG_URL), beside raw batched Postgres in the
// same rounds. Writes bench/out/postgres.json. `--quick`: fewer tasks and rounds. Parts: throughput workers latency commits
// waiting takeover readers.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import pg from "pg";
import { startPostgres } from "../scripts/postgres.ts";
import { openState } from "../src/state.ts";
import { round } from "./floor.ts";
import { bench, measure, median, quick, raw, readers, row, ROUNDS, spread } from "./table.ts";

const TASKS = quick ? 2_000 : 10_000;
const server = process.env["PAWL_TEST_PG_URL"] ? null : await startPostgres();
const base = process.env["PAWL_TEST_PG_URL"] ?? server!.url;

/** A schema of its own on the server. */
function place(): string {
  const url = new URL(base);
  url.searchParams.set("schema", `bench_${randomBytes(5).toString("hex")}`);
  return url.href;
}

async function query(text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: base });
  await client.connect();
  const { rows } = await client.query<Record<string, unknown>>(text);
  await client.end();
  return rows;
}

function throughput(): void {
  const pairs = Array.from({ length: ROUNDS }, () => ({ low: measure("floor-postgres.ts", [place(), TASKS, 100])["tasks_s"]!, own: measure("load.ts", [place(), TASKS, 100])["tasks_s"]! }));
  raw["throughput"] = pairs;
  const ratio = median(pairs.map(({ low, own }) => own / low));
  const own = pairs.map((pair) => pair.own);
  row("5-step tasks/s, 100 in flight, one worker process", `${median(own)} (${spread(own)}), raw batched ${median(pairs.map(({ low }) => low))}: ${round(ratio * 100, 0)} %`, "at least 40 %", ratio >= 0.4);
}

/** Tasks a second that `processes` workers finish together, all of them added before. */
async function together(processes: number): Promise<number> {
  const url = place();
  const state = await openState(url);
  for (let i = 0; i < TASKS; i += 1_000) await state.tasks.addAll(Array.from({ length: 1_000 }, (_, j) => ({ description: `task ${i + j}` })));
  const script = join(import.meta.dirname, "drain.ts");
  const workers = Array.from({ length: processes }, () => spawn(process.execPath, [script, url], { stdio: ["pipe", "pipe", "inherit"] }));
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.stdout.once("data", resolve))));
  const begun = performance.now();
  for (const worker of workers) worker.stdin.write("go\n");
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once("exit", resolve))));
  const seconds = (performance.now() - begun) / 1_000;
  const { completed } = await state.tasks.count();
  await state.close();
  if (completed !== TASKS) throw new Error(`only ${completed} of ${TASKS} tasks were completed`);
  return TASKS / seconds;
}

async function workers(): Promise<void> {
  const pairs: { one: number; two: number }[] = [];
  for (let i = 0; i < ROUNDS; i++) pairs.push({ one: await together(1), two: await together(2) });
  raw["workers"] = pairs;
  const ratio = round(median(pairs.map(({ one, two }) => two / one)), 2);
  row("two worker processes beside one", `${round(median(pairs.map(({ two }) => two)), 0)} and ${round(median(pairs.map(({ one }) => one)), 0)} tasks/s: ${ratio} times`, "at least 1.2 times", ratio >= 1.2);
}

function latency(): void {
  const here = Array.from({ length: ROUNDS }, () => measure("latency.ts", [place(), "here"])["p50_ms"]!);
  const other = Array.from({ length: ROUNDS }, () => measure("latency.ts", [place(), "other"])["p50_ms"]!);
  raw["latency"] = { here, other };
  row("add to start on an idle worker, p50", `${median(here)} ms`, "", null);
  row("the same from another process, p50", `${median(other)} ms`, "under 10 ms", median(other) < 10);
}

/** Transactions that wrote something, as the server counts them. */
async function commits(): Promise<void> {
  const wal = async () => Number((await query("select pg_current_xact_id()::text::bigint as n"))[0]!["n"]);
  const count = async (tasks: number) => {
    const before = await wal();
    measure("flushes.ts", [place(), tasks]);
    return (await wal()) - before;
  };
  const figure = ((await count(200)) - (await count(0))) / 200;
  raw["commits"] = figure;
  row("commits a 5-step task, one at a time", String(round(figure, 2)), "at most 8.5", figure <= 8.5);
}

async function waiting(): Promise<void> {
  const cost = async (tasks: number) => {
    const state = await openState(place());
    for (let i = 0; i < tasks; i += 1_000) await state.tasks.addAll(Array.from({ length: 1_000 }, (_, j) => ({ description: `task ${i + j}` })));
    await query("analyze");
    const times: number[] = [];
    for (let i = 0; i < 200; i++) {
      const begun = performance.now();
      await state.tasks.claim();
      times.push(performance.now() - begun);
    }
    await state.close();
    return median(times);
  };
  const pairs: { few: number; many: number }[] = [];
  for (let i = 0; i < (quick ? 1 : 3); i++) pairs.push({ few: await cost(1_000), many: await cost(quick ? 10_000 : 100_000) });
  raw["waiting"] = pairs;
  const ratio = round(median(pairs.map(({ few, many }) => many / few)), 2);
  row(`a claim with ${quick ? "10,000" : "100,000"} waiting tasks`, `${round(median(pairs.map(({ many }) => many)), 2)} ms, ${ratio} times that with 1,000`, "at most 1.3 times", ratio <= 1.3);
}

function takeover(): void {
  const here = Array.from({ length: ROUNDS }, () => measure("takeover.ts", [place()])["all_ms"]!);
  const other = Array.from({ length: quick ? 1 : 2 }, () => measure("takeover.ts", [place(), "measure", "5000"])["all_ms"]!);
  raw["takeover"] = { here, other };
  row("kill -9 with 1,000 in progress, until all run again, same host", `${median(here)} ms (${spread(here)})`, "under 1,000 ms", median(here) < 1_000);
  row("the same as from another host, leases of 5 s", `${median(other)} ms (${spread(other)})`, "under 6,000 ms", median(other) < 6_000);
}

await bench("postgres", { throughput, workers, latency, commits, waiting, takeover, readers: () => readers("Postgres", place, TASKS) });
await server?.stop();

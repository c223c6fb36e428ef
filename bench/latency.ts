// From `add` to the first line of the task's code, on an idle worker. Called by run.ts: node latency.ts STATE here|other
// "other": this process works, a second one adds; both read the machine's monotonic clock, which processes share.
import { spawn } from "node:child_process";
import { openState } from "../src/state.ts";
import { report, round } from "./floor.ts";

/** Enough for a worker that has been running for a while: the first dozens of tasks run code that is not compiled yet. */
const SAMPLES = 300;
const [, , location, from] = process.argv as [string, string, string, string];
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

if (from === "adder") await add();
else await measure();

async function add(): Promise<void> {
  const state = await openState(location);
  for (let i = 0; i < SAMPLES; i++) {
    await pause(10);
    await state.tasks.add({ description: "ping", input: { sent: process.hrtime.bigint().toString() } });
  }
  await state.close();
}

async function measure(): Promise<void> {
  const state = await openState(location);
  const waits: number[] = [];
  const worker = state.work({
    concurrency: 4,
    execute: (task) => {
      waits.push(Number(process.hrtime.bigint() - BigInt((task.input as { sent: string }).sent)) / 1e6);
      return null;
    },
  });
  await worker.idle();
  if (from === "here") {
    for (let i = 0; i < SAMPLES; i++) {
      await pause(10);
      await state.tasks.add({ description: "ping", input: { sent: process.hrtime.bigint().toString() } });
    }
  } else {
    await new Promise((resolve) => spawn(process.execPath, [import.meta.filename, location, "adder"], { stdio: "inherit" }).on("exit", resolve));
  }
  while (waits.length < SAMPLES) await pause(10);
  await state.close();
  waits.sort((a, b) => a - b);
  report({ samples: waits.length, p50_ms: round(waits[waits.length >> 1]!, 2), p95_ms: round(waits[Math.floor(waits.length * 0.95)]!, 2), max_ms: round(waits.at(-1)!, 2) });
}

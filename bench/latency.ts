// From `add` to the first line of the task's code, on an idle worker. Called by run.ts: node latency.ts STATE here|other
// "other": this process works, a second one adds; both read the machine's monotonic clock, which processes share.
import { spawn } from "node:child_process";
import { openState, type State } from "../src/state.ts";
import { pause, report, SAMPLES, waitsOf, WORKED } from "./floor.ts";

const [, , location, from] = process.argv as [string, string, string, string];

const ping = (sent: bigint) => ({ description: "ping", input: { sent: sent.toString() } });

if (from === "adder") await adder();
else await measure();

async function add(state: State): Promise<void> {
  for (let i = 0; i < SAMPLES; i++) {
    await pause();
    await state.tasks.add(ping(process.hrtime.bigint()));
  }
}

async function adder(): Promise<void> {
  const state = await openState(location);
  await add(state);
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
  await state.tasks.addAll(Array.from({ length: WORKED }, () => ping(0n)));
  await worker.idle();
  waits.length = 0;
  if (from === "here") await add(state);
  else await new Promise((resolve) => spawn(process.execPath, [import.meta.filename, location, "adder"], { stdio: "inherit" }).on("exit", resolve));
  while (waits.length < SAMPLES) await pause();
  await state.close();
  report(waitsOf(waits));
}

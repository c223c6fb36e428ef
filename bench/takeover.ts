// A worker is killed with kill -9 while 1,000 tasks are in progress; how long until another process runs all of them again.
// Called by run.ts: node takeover.ts STATE. With a lease (ms) as last argument only leases tell that the worker is gone, as on
// another host.
import { spawn } from "node:child_process";
import { openState } from "../src/state.ts";
import { report, round } from "./floor.ts";

const TASKS = 1000;
const [, , location, role, lease] = process.argv as [string, string, string, string | undefined, string | undefined];
const options = lease === undefined ? {} : { leaseMs: Number(lease), trustLocks: false };
if (role === "victim") await hold();
else await measure();

async function hold(): Promise<void> {
  const state = await openState(location);
  let running = 0;
  state.work({
    ...options,
    concurrency: TASKS,
    execute: async () => {
      if (++running === TASKS) process.stdout.write("all\n");
      await new Promise((resolve) => setTimeout(resolve, 600_000));
    },
  });
}

async function measure(): Promise<void> {
  const state = await openState(location);
  await state.tasks.addAll(Array.from({ length: TASKS }, (_, i) => ({ description: `task ${i}` })));
  const victim = spawn(process.execPath, [import.meta.filename, location, "victim", ...(lease === undefined ? [] : [lease])], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => victim.stdout.once("data", resolve));
  let running = 0;
  let first = 0;
  let all: (ms: number) => void;
  let killed = 0;
  const done = new Promise<number>((resolve) => (all = resolve));
  const worker = state.work({
    ...options,
    concurrency: TASKS,
    execute: () => {
      running++;
      if (running === 1) first = performance.now() - killed;
      if (running === TASKS) all(performance.now() - killed);
      return null;
    },
  });
  await worker.idle();
  killed = performance.now();
  victim.kill("SIGKILL");
  const ms = await done;
  report({ tasks: TASKS, first_ms: round(first, 0), all_ms: round(ms, 0) });
  await state.close();
}

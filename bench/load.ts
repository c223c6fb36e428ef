// Pawl under the load of the floors: 16 producers, N tasks of five steps, C in flight; a timer every 10 ms tells how late the
// event loop is at worst. Called by run.ts: node load.ts STATE TASKS IN_FLIGHT [DONE_BEFORE]
import { openState } from "../src/state.ts";
import { figures, report, timerLateness } from "./floor.ts";

const [, , location, tasks, inFlight, before = "0"] = process.argv as [string, string, string, string, string, string?];
const state = await openState(location);
const wall = process.hrtime.bigint();
const cpu = process.cpuUsage();
const lateness = timerLateness();
const worker = state.work({
  concurrency: Number(inFlight),
  execute: async (_, { step }) => {
    for (let i = 0; i < 5; i++) await step(`s${i}`, () => ({ i }));
    return { ok: true };
  },
});
let added = 0;
const producer = async () => {
  while (added < Number(tasks)) await state.tasks.add({ description: `task ${added}`, input: { n: added++ } });
};
await Promise.all(Array.from({ length: 16 }, producer));
await worker.idle();
const measured = figures(Number(tasks), wall, cpu);
const timer_late_ms = lateness();
const counts = await state.tasks.count();
if (counts.completed !== Number(tasks) + Number(before)) throw new Error(`only ${counts.completed} of ${tasks} tasks were completed`);
await state.close();
report({ ...measured, timer_late_ms });

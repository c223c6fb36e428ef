// A worker of the packed build that has run 500 tasks: its memory, and the size of the state. Plain JavaScript, so that Node's
// type stripping (45 MB of it) is not counted as Pawl's. Called by scale.ts: node memory.mjs STATE
import { statSync } from "node:fs";
import { openState } from "../dist/index.js";

const TASKS = 500;
const [, , location] = process.argv;
const megabytes = (bytes) => Math.round(bytes / 1e5) / 10;

const state = await openState(location);
await state.tasks.addAll(Array.from({ length: TASKS }, (_, n) => ({ description: `task ${n}`, input: { n }, priority: 1 })));
const before = (await state.tasks.count()).completed;
const worker = state.work({
  concurrency: 100,
  maxTasks: TASKS,
  execute: async (_, { step }) => {
    for (let i = 0; i < 5; i++) await step(`s${i}`, () => ({ i }));
    return { ok: true };
  },
});
while ((await state.tasks.count()).completed < before + TASKS) await worker.nextEvent();
const rss = process.memoryUsage.rss();
await state.close();
console.log(JSON.stringify({ rss_mb: megabytes(rss), state_mb: megabytes(statSync(location).size) }));

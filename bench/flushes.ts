// The process that is watched while it works tasks of five steps one at a time: run.ts counts its flushes (strace), postgres.ts
// the commits of its server. Each takes a run of 200 tasks less the same run of none: node flushes.ts STATE TASKS
import { openState } from "../src/state.ts";
import { report } from "./floor.ts";

const [, , location, tasks] = process.argv as [string, string, string, string];
const state = await openState(location);
const worker = state.work({
  execute: async (_, { step }) => {
    for (let i = 0; i < 5; i++) await step(`s${i}`, () => ({ i }));
    return { ok: true };
  },
});
for (let i = 0; i < Number(tasks); i++) {
  await state.tasks.add({ description: `task ${i}` });
  await worker.idle();
}
await state.close();
report({ tasks: Number(tasks) });

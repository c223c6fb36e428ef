// How often a task of five steps, worked one at a time, flushes the disk: counted by strace over a run of 200 tasks less the
// same run of none. Called by run.ts: node flushes.ts STATE TASKS (the traced process)
import { openState } from "../src/state.ts";

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

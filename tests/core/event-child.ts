// A process that emits events, works tasks that wait for one, or works trees of children; made to be killed. It says a line
// for each thing it did.
import { openState } from "../../src/state.ts";
import type { Execute } from "../../src/worker/function.ts";

const [url, role, who, count] = process.argv.slice(2);
const state = await openState(url!, { actor: `${role}-${process.pid}`, notice: () => undefined });

const receive: Execute = async (_, { waitFor }) => (await waitFor("go")).value;

/** A task of three children, each of three, and so on: the input says how deep. */
const grow: Execute = async (task, { all, step }) => {
  await step("begin", () => console.log(task.description));
  const depth = task.input as number;
  if (depth === 0) return [task.description];
  return (await all<string[]>("branches", [0, 1, 2].map((i) => ({ description: `${task.description}.${i}`, input: depth - 1, max_attempts: 50 })))).flat();
};

if (role === "emit") {
  for (let i = 0; i < Number(count); i++) {
    // Sent twice, as what calls a webhook may.
    await Promise.all([1, 2].map(() => state.events.emit("go", `${who}/${i}`, { key: `${who}/${i}` })));
    console.log(i);
  }
  await state.close();
} else {
  const worker = state.work({ concurrency: 4, execute: role === "tree" ? grow : receive });
  console.log("works");
  await worker.failed;
}

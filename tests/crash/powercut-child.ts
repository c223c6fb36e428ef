// Works until the power goes: adds tasks and runs them with two steps each. Every acknowledgement is one line in a file outside
// the file system that is cut, written after Pawl acknowledged; its words are the facts that must be found afterwards.
import { openSync, writeSync } from "node:fs";
import { openState } from "../../src/state.ts";

const [, , location, log, name] = process.argv as [string, string, string, string, string];
const fd = openSync(log, "a");
const say = (fact: string) => writeSync(fd, `${fact}\n`);
const state = await openState(location, { actor: name, notice: () => undefined });
state.work({
  concurrency: 3,
  execute: async (task, { step }) => {
    for (const part of ["fetch", "build"]) say(`step ${task.id} ${part} ${await step(part, async () => `${part} by ${process.pid}`)}`);
    return `result of ${task.id}`;
  },
  onEnd: (task) => {
    if (task.status === "completed") say(`completed ${task.id} ${JSON.stringify(task.result)}`);
  },
});
for (let i = 0; ; i++) {
  const task = await state.tasks.add({ description: `${name} ${i}`, max_attempts: 1000 });
  say(`task ${task.id} ${task.description}`);
  while ((await state.tasks.count()).pending > 20) await new Promise((resolve) => setImmediate(resolve));
}

// A worker that is made to be killed: it logs every effect, every acknowledged step and every acknowledged completion to a
// file outside the state, in one append each, so that the order of lines is the order of what happened.
import { appendFileSync } from "node:fs";
import { openState } from "../../src/state.ts";

const [, , location, log] = process.argv as [string, string, string, string];
const state = await openState(location, { actor: "child", notice: () => undefined });
const say = (line: string) => appendFileSync(log, `${line}\n`);

const worker = state.work({
  concurrency: 4,
  backoff: { baseMs: 1, jitter: false },
  execute: async (task, { step }) => {
    const outputs: unknown[] = [];
    for (const name of ["one", "two", "three"]) {
      const output = await step(name, async ({ start }) => {
        say(`effect ${task.id} ${name} ${process.pid}`);
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
        return { by: process.pid, start };
      });
      say(`recorded ${task.id} ${name} ${JSON.stringify(output)}`);
      outputs.push(output);
    }
    return outputs;
  },
  onEnd: (task) => {
    if (task.status === "completed") say(`completed ${task.id}`);
  },
});
process.stdout.write("ready\n");
process.on("SIGTERM", () => void worker.stop().then(() => state.close()).then(() => process.exit(0)));
await worker.failed;

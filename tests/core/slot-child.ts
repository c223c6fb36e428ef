// A worker that is made to be killed: it works tasks with concurrency keys and logs when each begins and ends, in one append
// to a file outside the state, so that the order of lines is the order of what happened.
import { appendFileSync } from "node:fs";
import { openState } from "../../src/state.ts";

const [url, log] = process.argv.slice(2) as [string, string];
const state = await openState(url, { actor: `child-${process.pid}`, notice: () => undefined });
const worker = state.work({
  concurrency: 4,
  backoff: { baseMs: 1, jitter: false },
  execute: async (task) => {
    appendFileSync(log, `begin ${task.concurrency_key} ${task.id} ${process.pid}\n`);
    await new Promise((resolve) => setTimeout(resolve, 5 + (task.id % 4) * 5));
    appendFileSync(log, `end ${task.concurrency_key} ${task.id} ${process.pid}\n`);
    if (task.id % 9 === 0 && task.attempts === 1) throw new Error("once more");
    return null;
  },
});
process.stdout.write("ready\n");
process.on("SIGTERM", () => void worker.stop().then(() => state.close()).then(() => process.exit(0)));
await worker.failed;

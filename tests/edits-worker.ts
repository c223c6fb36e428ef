// A worker to edit beside: it works what is due, a few ms each, and some of it fails. Ends on SIGTERM.
import { openState } from "../src/state.ts";

const [, , location] = process.argv as [string, string, string];
const state = await openState(location, { actor: "child", notice: (line) => void (line.includes("bug in Pawl") && process.stderr.write(`${line}\n`)) });
let n = 0;
const worker = state.work({
  concurrency: 2,
  backoff: { baseMs: 1, jitter: false },
  execute: async (task, { step }) => {
    await step("one", () => new Promise((resolve) => setTimeout(resolve, 5 + (task.id % 5) * 10)));
    if (n++ % 7 === 3) throw new Error(`as it goes, ${task.id}`);
    return { by: "worker", task: task.id };
  },
});
process.stdout.write("ready\n");
process.on("SIGTERM", () => void worker.stop().then(() => state.close()).then(() => process.exit(0)));
await worker.failed;

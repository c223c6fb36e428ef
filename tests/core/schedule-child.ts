// A worker that fires what is due; made to be killed. It does the tasks of the schedules and logs each in a file outside the state.
import { appendFileSync } from "node:fs";
import { openState } from "../../src/state.ts";

const [url, log] = process.argv.slice(2) as [string, string];
const state = await openState(url, { actor: `child-${process.pid}`, notice: () => undefined });
const worker = state.work({ concurrency: 4, execute: (task) => appendFileSync(log, `${task.key}\n`) });
process.stdout.write("ready\n");
process.on("SIGTERM", () => void worker.stop().then(() => state.close()).then(() => process.exit(0)));
await worker.failed;

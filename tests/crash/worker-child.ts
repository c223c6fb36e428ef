// A worker that is made to be killed.
import { openState } from "../../src/state.ts";
import { effectLog, sayCompleted, threeSteps } from "./effects.ts";

const [, , location, log] = process.argv as [string, string, string, string];
const state = await openState(location, { actor: "child", notice: () => undefined });
const say = effectLog(log);
const worker = state.work({ concurrency: 4, backoff: { baseMs: 1, jitter: false }, execute: threeSteps(say), onEnd: sayCompleted(say) });
process.stdout.write("ready\n");
process.on("SIGTERM", () => void worker.stop().then(() => state.close()).then(() => process.exit(0)));
await worker.failed;

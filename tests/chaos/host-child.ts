// A worker process as on a host of its own, made to be killed and cut off. Its wall clock may be off by any number of hours.
import { systemClock } from "../../src/base/clock.ts";
import { openState } from "../../src/state.ts";
import { effectLog, sayCompleted, threeSteps } from "../crash/effects.ts";
import type { HostSetup } from "./hosts.ts";

const { url, log, leaseMs, clockOffMs } = JSON.parse(process.argv[2]!) as HostSetup;
const state = await openState(url, { actor: "child", notice: () => undefined, clock: { ...systemClock, now: () => Date.now() + clockOffMs } });
const say = effectLog(log);
const steps = threeSteps(say);
const worker = state.work({
  concurrency: 4, leaseMs, backoff: { baseMs: 1, jitter: false },
  execute: async (task, context) => {
    if ((task.input as { hang?: boolean } | null)?.hang && task.fence === 1) {
      say(`effect ${task.id} hangs ${process.pid}`);
      await new Promise(() => undefined);
    }
    return steps(task, context);
  },
  onEnd: sayCompleted(say),
});
process.send!({ worker: worker.id });
await worker.failed;

// A worker process as on a host of its own, made to be killed and cut off. It logs every effect, acknowledged step and
// acknowledged completion to a file outside the state, one append each. Its wall clock may be off by any number of hours.
import { appendFileSync } from "node:fs";
import { systemClock } from "../../src/base/clock.ts";
import { openState } from "../../src/state.ts";
import type { HostSetup } from "./hosts.ts";

const { url, log, leaseMs, clockOffMs } = JSON.parse(process.argv[2]!) as HostSetup;
const state = await openState(url, { actor: "child", notice: () => undefined, clock: { ...systemClock, now: () => Date.now() + clockOffMs } });
const say = (line: string) => appendFileSync(log, `${line}\n`);
const worker = state.work({
  concurrency: 4, leaseMs, backoff: { baseMs: 1, jitter: false },
  execute: async (task, { step }) => {
    if ((task.input as { hang?: boolean } | null)?.hang && task.fence === 1) {
      say(`effect ${task.id} hangs ${process.pid}`);
      await new Promise(() => undefined);
    }
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
process.send!({ worker: worker.id });
await worker.failed;

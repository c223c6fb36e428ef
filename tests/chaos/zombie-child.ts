// A worker process made to lose its leases: they are shorter than its pauses, and nothing but leases counts. It says over IPC
// when it begins to write and when it was answered, by a clock all processes share, so that nothing of it is in the state.
import { leaseLost } from "../../src/core/committer.ts";
import { isPawlError } from "../../src/base/errors.ts";
import { seededRandom } from "../../src/base/id.ts";
import { openState } from "../../src/state.ts";
import type { Said, Setup } from "./histories.ts";

const { stores, leaseMs, seed } = JSON.parse(process.argv[2]!) as Setup;
const random = seededRandom(seed);
const now = () => Number(process.hrtime.bigint()) / 1e6;
const say = (said: Said) => void process.send!(said);
/** Stands still, heartbeats included, as a process does that swaps, collects garbage or waits for a disk. */
const block = (takeovers: number) => {
  if (takeovers < 6 && random.number() < 0.3) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10 + 60 * random.number());
};
const refusal = (error: unknown) => isPawlError(error, "lease_lost") && error.message.includes(REFUSED);
const REFUSED = "is no longer yours: ";
if (!leaseLost(1, null).message.includes(REFUSED)) throw new Error("the words for a lost lease have changed");

let calls = 0;
const opened = await Promise.all(stores.map(async ({ name, url }) => {
  const state = await openState(url, { actor: "zombie", notice: () => undefined });
  const ending = new Map<string, string>();
  const worker = state.work({
    concurrency: 3, leaseMs, trustLocks: false, backoff: { baseMs: 1, jitter: false },
    execute: async ({ id, fence, takeovers }, { step }) => {
      const call = () => ({ store: name, task: id, fence, id: `${process.pid}-${calls++}`, at: now() });
      say({ ...call(), said: "claimed" });
      for (const step_name of ["one", "two"]) {
        const value = `${step_name} of ${process.pid} under ${fence}`;
        let begun: ReturnType<typeof call> | null = null;
        const first = call();
        const output = await step(step_name, () => {
          block(takeovers);
          begun = call();
          say({ ...begun, said: "write", name: step_name, value });
          return value;
        }).catch((error: unknown) => {
          if (refusal(error)) say({ ...first, id: first.id, from: first.at, at: now(), said: "refused" });
          throw error;
        });
        const ran = begun as ReturnType<typeof call> | null;
        if (ran !== null && output === value) say({ ...ran, at: now(), said: "ok" });
        else say({ ...first, from: first.at, at: now(), said: "replayed", name: step_name, value: output });
      }
      block(takeovers);
      const last = call();
      const value = `${process.pid} under ${fence}`;
      ending.set(`${id} ${fence}`, last.id);
      say({ ...last, said: "complete", value: JSON.stringify(value) });
      return value;
    },
    onEnd: ({ id, fence, status, result }) => {
      const call = ending.get(`${id} ${fence}`);
      if (call !== undefined && status === "completed" && result === `${process.pid} under ${fence}`) say({ store: name, task: id, fence, id: call, at: now(), said: "ok" });
    },
  });
  return { state, worker };
}));
process.send!("ready");
process.once("message", () => {
  void Promise.all(opened.map(({ worker }) => worker.abort())).then(() => Promise.all(opened.map(({ state }) => state.close()))).then(() => process.send!("over", () => process.exit(0)));
});
await Promise.race(opened.map(({ worker }) => worker.failed));

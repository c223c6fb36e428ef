// A worker process that finishes what is there and ends. Called by postgres.ts: node drain.ts URL; it begins at the first line
// of its stdin.
import { once } from "node:events";
import { openState } from "../src/state.ts";

const state = await openState(process.argv[2]!);
process.stdout.write("ready\n");
await once(process.stdin, "data");
const worker = state.work({
  concurrency: 100,
  execute: async (_, { step }) => {
    for (let i = 0; i < 5; i++) await step(`s${i}`, () => ({ i }));
    return { ok: true };
  },
});
await worker.idle();
await state.close();
process.exit(0);

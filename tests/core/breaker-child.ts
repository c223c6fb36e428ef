// A worker that says what it used and is made to be killed.
import { openState } from "../../src/state.ts";

const state = await openState(process.argv[2]!, { actor: "child", notice: () => undefined });
const worker = state.work({
  concurrency: 4,
  execute: async (_, { spend }) => {
    spend({ tokens: 7 });
    await new Promise((resolve) => setTimeout(resolve, 5 + Math.random() * 10));
    return "OK";
  },
});
await worker.failed;

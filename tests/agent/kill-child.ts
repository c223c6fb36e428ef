// Works the scenario's task in a process of its own, and kills itself with kill -9 at the n-th moment: before and after each commit
// of the store and each effect of a tool. Prints how many moments there were when it lived to the end.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { openState } from "../../src/state.ts";
import { scenarioAgent } from "./scenario.ts";

const [url, server, log, at] = process.argv.slice(2) as [string, string, string, string];
let moments = 0;
const moment = () => {
  if (++moments === Number(at)) process.kill(process.pid, "SIGKILL");
};

const state = await openState(url, { actor: "child", notice: () => undefined });
const { store } = state.committer;
const commit = store.commit.bind(store);
store.commit = async (changes) => {
  moment();
  const results = await commit(changes);
  moment();
  return results;
};
const world = { append: (line: string) => appendFileSync(log, `${line}\n`), lines: () => (existsSync(log) ? readFileSync(log, "utf8").split("\n") : []) };
const model = createOpenAICompatible({ name: "test", baseURL: server })("m");
const worker = state.work({ execute: scenarioAgent(model, world, moment), leaseMs: 1_000, backoff: { baseMs: 1 } });
await worker.idle();
await state.close();
console.log(moments);

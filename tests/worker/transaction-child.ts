// A worker that is made to be killed: each of its tasks moves money in three transactions, and nothing but the database says so.
import { openState } from "../../src/state.ts";
import { transfer } from "./transaction-transfer.ts";

const state = await openState(process.argv[2]!, { actor: "child", notice: () => undefined });
const worker = state.work({ concurrency: 3, execute: transfer, backoff: { baseMs: 1, jitter: false } });
process.stdout.write("ready\n");
await worker.failed;

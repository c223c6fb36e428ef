// What an agent in a batch is told of the items before its own. The batch counts the tokens of its agents; at the threshold its
// context is cleared, and what came before is only counted. Invariant: bounded, however long the batch is; a crash between
// clearing and the first message clears nothing twice.
import type { ContextClear } from "../core/batch.ts";
import { shouldClearContext } from "../core/batch.ts";
import { BatchHandle, getBatch } from "../core/batches.ts";
import type { Batch, Task } from "../core/records.ts";
import type { Session } from "./session.ts";
import { cutBytes } from "./tool.ts";

/** Items told of by name and result. */
const TOLD = 20;
const RESULT_BYTES = 500;

/** The text about earlier items of the task's batch; empty when there are none. Clears the batch's context when it is full. */
export async function batchContext(session: Session): Promise<string> {
  const { task, committer, setup, attempt } = session;
  if (task.batch_id === null) return "";
  const before = await getBatch(committer, task.batch_id);
  if (shouldClearContext(before.tokens, setup.contextTokens)) await new BatchHandle(committer, task.batch_id, attempt.actor).recordContextClear(task.description);
  const batch = await getBatch(committer, task.batch_id);
  const equals = { batch_id: batch.id, status: "completed" };
  const done = (await committer.store.list("task", { index: "batch", equals, reverse: true, limit: TOLD })) as unknown as Task[];
  const all = await committer.store.count("task", { index: "batch", equals });
  return told(batch, done.reverse(), all);
}

function told(batch: Batch, done: readonly Task[], all: number): string {
  const cleared = ((batch.context_clears ?? []) as unknown as readonly ContextClear[]).at(-1)?.at ?? "";
  const since = done.filter((task) => (task.completed_at ?? "") > cleared);
  const lines = since.map((task) => `- ${cutBytes(task.description, 200)}: ${cutBytes(typeof task.result === "string" ? task.result : JSON.stringify(task.result), RESULT_BYTES)}`);
  const earlier = all - since.length;
  return [
    ...(earlier > 0 ? [`${earlier} ${earlier === 1 ? "item" : "items"} of this batch ${earlier === 1 ? "was" : "were"} done before; do not do them again.`] : []),
    ...(lines.length > 0 ? ["Done in this batch since:", ...lines] : []),
  ].join("\n");
}

// executeOnce: a task run where it is called. Completed: nothing runs and the stored result comes back, also to a caller
// that asked while it was running, in this process or another.
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { getTask } from "../core/tasks.ts";
import type { Task } from "../core/records.ts";
import type { Executor } from "./executor.ts";
import { functionExecutor, type Execute } from "./function.ts";
import { Worker, type WorkerHome } from "./worker.ts";

/** Runs the task `ref` with `execute` until it ends, with its retries, or waits for whoever is running it. */
export async function executeOnce(home: WorkerHome, ref: number | string, execute: Execute | Executor): Promise<Json> {
  const first = await getTask(home.committer, ref);
  if (first.status === "completed") return first.result;
  const worker = new Worker(home, { executor: functionExecutor(execute), only: first.id });
  try {
    for (;;) {
      const task = await getTask(home.committer, first.id);
      if (task.status === "completed") return task.result;
      if (task.status === "failed" || task.status === "cancelled" || task.status === "waiting" || (task.status === "review" && task.worker === null)) throw ended(task);
      await worker.nextEvent();
    }
  } finally {
    await worker.stop();
  }
}

function ended(task: Task): PawlError {
  if (task.status === "waiting") return new PawlError("waiting", `Task ${task.id} waits for a decision, a time, an event or a child.`, { next: `pawl why ${task.id}`, details: { id: task.id } });
  if (task.status === "review") return new PawlError("waiting", `Task ${task.id} waits for its verifier "${task.verifier}".`, { next: `pawl why ${task.id}`, details: { id: task.id } });
  const message = task.error?.message ?? task.status;
  const code = task.status === "cancelled" ? "cancelled" : task.error?.code === "deadline" ? "deadline" : "failed";
  return new PawlError(code, message, { next: `pawl why ${task.id}`, details: { id: task.id }, ...(task.error?.cause ? { cause: new Error(task.error.cause) } : {}) });
}

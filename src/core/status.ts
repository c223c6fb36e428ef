// Where everything stands: counts, unfinished batches, what waits for a person, who works. Reads only.
import { summarize, type BatchSummary } from "./batch.ts";
import { listBatches, summaryOf } from "./batches.ts";
import type { Committer } from "./committer.ts";
import type { Status, WorkerRecord } from "./records.ts";

export type StatusReport = {
  readonly state: string;
  readonly tasks: BatchSummary;
  /** Batches with tasks that have not ended, newest first. */
  readonly batches: readonly { readonly id: string; readonly source: string | null; readonly summary: BatchSummary }[];
  /** How many decisions wait for a person. */
  readonly decisions: number;
  readonly workers: readonly { readonly id: string; readonly label: string; readonly pid: number; readonly host: string; readonly started_at: string }[];
};

/** How many of the newest batches a status looks at. */
const BATCHES = 20;

export async function statusOf(committer: Committer, location: string): Promise<StatusReport> {
  const { store } = committer;
  const [counts, blocked, decisions, batches, workers] = await Promise.all([
    store.count("task", { index: "status" }, "status") as Promise<{ [status in Status]?: number }>,
    store.count("task", { index: "blocked", equals: { run_at: null } }),
    store.count("decision", { index: "status", equals: { status: "open" } }),
    listBatches(committer, BATCHES),
    store.list("worker", { limit: 1000 }) as Promise<unknown> as Promise<WorkerRecord[]>,
  ]);
  const summaries = await Promise.all(batches.map(async (batch) => ({ id: batch.id, source: batch.source, summary: await summaryOf(committer, batch.id) })));
  return {
    state: location,
    tasks: summarize(counts, blocked),
    batches: summaries.filter(({ summary }) => summary.completed + summary.failed + summary.cancelled < summary.total),
    decisions,
    workers: workers.map(({ id, label, pid, host, started_at }) => ({ id, label, pid, host, started_at })),
  };
}

// Where everything stands: counts, unfinished batches, what waits for a person, who works. Reads only.
import { pausedUntil, summarize, type BatchSummary } from "./batch.ts";
import { listBatches, summaryOf } from "./batches.ts";
import type { Breaker } from "./breaker.ts";
import { openBreakers } from "./breakers.ts";
import type { Committer } from "./committer.ts";
import { editsOf, type Edit } from "./edit.ts";
import type { Status, WorkerRecord } from "./records.ts";
import type { Evidence } from "./sweep.ts";

export type StatusReport = {
  readonly state: string;
  readonly tasks: BatchSummary;
  /** Batches with tasks that have not ended, newest first. */
  readonly batches: readonly { readonly id: string; readonly source: string | null; readonly summary: BatchSummary; readonly paused_until: string | null }[];
  /** Those that hold a queue or a batch back. */
  readonly breakers: readonly Breaker[];
  /** How many decisions wait for a person. */
  readonly decisions: number;
  /** Hand edits of the state file that wait for a person: refused, broken, or not taken in yet. */
  readonly edits: readonly Edit[];
  readonly workers: readonly { readonly id: string; readonly label: string; readonly pid: number; readonly host: string; readonly started_at: string; readonly dead: boolean }[];
};

/** How many hand edits it shows. */
const EDITS = 10;
/** How many of the newest batches a status looks at. */
const BATCHES = 20;

/** `ownerState` says what is known of a worker's process. */
export async function statusOf(committer: Committer, location: string, ownerState: Evidence["ownerState"]): Promise<StatusReport> {
  const { store } = committer;
  const [counts, blocked, decisions, batches, workers, edits, breakers] = await Promise.all([
    store.count("task", { index: "status" }, "status") as Promise<{ [status in Status]?: number }>,
    store.count("task", { index: "blocked", equals: { run_at: null } }),
    store.count("decision", { index: "status", equals: { status: "open" } }),
    listBatches(committer, BATCHES),
    store.list("worker", { limit: 1000 }) as Promise<unknown> as Promise<WorkerRecord[]>,
    editsOf(committer, { unsettled: true, limit: EDITS }),
    openBreakers(committer),
  ]);
  const summaries = await Promise.all(batches.map(async (batch) => ({ id: batch.id, source: batch.source, summary: await summaryOf(committer, batch.id), paused_until: pausedUntil(batch, store.clock.now()) })));
  return {
    state: location,
    tasks: summarize(counts, blocked),
    batches: summaries.filter(({ summary }) => summary.completed + summary.failed + summary.cancelled < summary.total),
    breakers,
    decisions,
    edits,
    workers: workers.map((worker) => ({ id: worker.id, label: worker.label, pid: worker.pid, host: worker.host, started_at: worker.started_at, dead: ownerState(worker, worker.id) === "dead" })),
  };
}

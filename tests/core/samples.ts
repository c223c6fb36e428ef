// A task record to apply rules to, and what must be true of every task at any time.
import assert from "node:assert/strict";
import { HELD, TERMINAL, type Status, type Task } from "../../src/core/records.ts";
import type { Evidence } from "../../src/core/sweep.ts";
import type { By } from "../../src/core/task.ts";

export const NOW = Date.UTC(2026, 0, 1);
export const AT = new Date(NOW).toISOString();
export const PERSON: By = { actor: "ann", now: NOW };

/** A host that can tell nothing of workers: only their leases count. */
export const NO_EVIDENCE: Evidence = { ownerState: () => "unknown", endProcesses: async () => true, forget: () => undefined };

const BASE: Task = {
  id: 1, key: null, queue: "default", description: "x", input: null, status: "pending", result: null, error: null, feedback: null, attempts: 0, max_attempts: 3,
  takeovers: 0, reviews: 0, round: 1, priority: 5, depends_on: [], parent_id: null, batch_id: null, tags: [], verifier: null, run_at: null, deadline_at: null,
  timeout_ms: null, waiting_for: null, ready: true, concurrency_key: null, concurrency_limit: null, slot: null, line: null, has_children: null, children_due: null, has_dependents: false, continues: false, fence: 0, worker: null, lease_expires_at: null, created_at: AT,
  started_at: null, completed_at: null, updated_at: AT, revision: 1,
};

const OWNED = { worker: "w", lease_expires_at: new Date(NOW + 30_000).toISOString(), ready: false, attempts: 1, fence: 1, started_at: AT } as const;
const OVER = { ready: false, attempts: 1, fence: 1, started_at: AT, completed_at: AT } as const;

const BY_STATUS: { readonly [status in Status]: Partial<Task> } = {
  pending: {},
  in_progress: { ...OWNED, verifier: "v" },
  waiting: { ready: false, attempts: 1, fence: 1, started_at: AT, continues: true, waiting_for: [{ kind: "timer" }] },
  review: { ...OWNED, result: "made", verifier: "v" },
  completed: { ...OVER, result: "made" },
  failed: { ...OVER, error: { message: "no" } },
  cancelled: OVER,
};

/** A sound task of this status; in progress and in review a worker "w" owns it under fence 1. */
export function sample(status: Status, fields: Partial<Task> = {}): Task {
  return { ...BASE, ...BY_STATUS[status], status, ...fields };
}

/** Throws unless the task is sound. It must depend on nothing. */
export function requireSound(task: Task): void {
  const { status } = task;
  const why = `not sound: ${JSON.stringify(task)}`;
  assert.equal(task.worker === null, task.lease_expires_at === null, `a lease without an owner, or the other way round; ${why}`);
  if (task.worker !== null) assert.ok(HELD.has(status), `owned while ${status}; ${why}`);
  if (status === "in_progress") assert.ok(task.worker !== null, `in progress without an owner; ${why}`);
  const stuck = status === "review" && task.waiting_for !== null;
  const claimable = task.worker === null && task.run_at === null && (status === "pending" || (status === "review" && !stuck));
  assert.equal(task.ready, claimable, `ready is ${task.ready}; ${why}`);
  assert.equal(task.completed_at !== null, TERMINAL.has(status), why);
  if (TERMINAL.has(status)) assert.deepEqual([task.run_at, task.waiting_for], [null, null], why);
  if (status === "waiting") assert.ok(Array.isArray(task.waiting_for), why);
  if (status === "failed") assert.ok(task.error, why);
  assert.ok(task.attempts <= task.max_attempts, `more attempts than allowed; ${why}`);
  if (status === "pending" && !task.continues) assert.ok(task.attempts < task.max_attempts, `pending with no attempt left; ${why}`);
}

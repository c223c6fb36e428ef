// The life of a task: every transition as a pure function (task, who, when) → the task afterwards and the change that
// makes it so. Nothing here reads or waits; nobody else changes a status.

//                claim                    result                  passed
//   pending ──────────────▶ in_progress ─────────▶ review ──────────────▶ completed
//    ▲ ▲ ▲                    │     │                │ rejected, attempts left → pending, with feedback, new round
//    │ │ └───── waiting ◀─────┘     │                └ rejected, none left     → failed
//    │ │                            ├ error, worker lost, attempts left → pending
//    │ │                            └ permanent error, none left, deadline → failed
//    │ └ retry: failed       reset: any → pending      reopen: completed, cancelled → pending
//    └── cancel: pending, in_progress, waiting, review → cancelled

// Invariants: every change raises `revision`; whatever takes the task from its worker raises `fence`; `worker` and the
// lease are set exactly while a worker owns it; `ready` is true exactly when a worker may claim it.
import { iso, parseIso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Change, Fields, Guard, Put } from "../store/store.ts";
import { record } from "./history.ts";
import { isKeyed, keepSlot } from "./line.ts";
import { HELD, TERMINAL, type Decision, type Failure, type Status, type Task, type Wait } from "./records.ts";
import { backoffMs, type Backoff } from "./retry.ts";

/** Who acts, and when (ms, by the store's clock). A worker names the fence under which it owns the task. */
export type By = { readonly actor: string; readonly now: number; readonly fence?: number };

/** What a rule decided: the task as it will be, and the change that makes it so. */
export type Outcome = { readonly task: Task; readonly change: Change };

/** From which statuses an event is legal. */
const FROM: { readonly [event: string]: readonly Status[] } = {
  claimed: ["pending"],
  review_claimed: ["review"],
  submitted: ["in_progress"],
  completed: ["pending", "in_progress", "waiting", "review", "failed"],
  rejected: ["review"],
  review_error: ["review"],
  review_stuck: ["review"],
  attempt_failed: ["in_progress"],
  failed: ["pending", "in_progress", "waiting", "review"],
  released: ["in_progress", "review"],
  parked: ["in_progress"],
  woken: ["waiting"],
  owner_lost: ["in_progress", "review"],
  cancelled: ["pending", "in_progress", "waiting", "review"],
  retried: ["failed"],
  reopened: ["completed", "cancelled"],
};

/** Throws `illegal_transition` unless `event` may happen to the task now. */
export function requireLegal(task: Task, event: string): void {
  const from = FROM[event];
  if (!from || from.includes(task.status)) return;
  throw new PawlError("illegal_transition", `Task ${task.id} is ${task.status}; ${event.replace("_", " ")} is only possible from ${from.join(", ")}.`, {
    next: adviceFor(task, event),
    details: { id: task.id, status: task.status, event },
  });
}

function adviceFor(task: Task, event: string): string {
  if (task.status === "completed" || task.status === "cancelled") return `To run it again: pawl reopen ${task.id} --reason "…".`;
  if (task.status === "failed") return `To run it again: pawl retry ${task.id}.`;
  return `See where it stands: pawl why ${task.id}${event === "retried" ? `; only failed tasks are retried` : ""}.`;
}

/** The guard of every write: the revision the decision was made on and, for an owner, the fence. */
export function guardOf(task: Task, by: By): Guard {
  return { kind: "task", key: task.id, is: by.fence === undefined ? { revision: task.revision } : { revision: task.revision, fence: by.fence } };
}

type Move = { readonly event: string; readonly set: Partial<Task>; readonly reason?: string | null; readonly details?: Json; readonly puts?: readonly Put[]; readonly guards?: readonly Guard[] };

/** The one way a task changes: guard, fields, transition, whatever goes with it, in one change. */
export function move(task: Task, by: By, { event, set, reason, details, puts = [], guards = [] }: Move): Outcome {
  requireLegal(task, event);
  const due = task.has_children ? childrenDue(task, event, set) : null;
  const fields: { [field: string]: unknown } = { revision: task.revision + 1, updated_at: iso(by.now), ...(due === null ? {} : { children_due: due }) };
  // What stays as it is need not be written: the guard says that the task still is as it was read.
  for (const field in set) if (set[field as keyof Task] !== task[field as keyof Task]) fields[field] = set[field as keyof Task];
  const placed = "slot" in set || !isKeyed(task, set) ? null : keepSlot(task, { ...task, ...fields } as Task);
  const next = { ...task, ...Object.assign(fields, placed?.set) } as Task;
  const transition = record({ task_id: task.id, event, actor: by.actor, from: task.status, to: next.status, reason, details }, by.now);
  return { task: next, change: { guards: [guardOf(task, by), ...guards], puts: [{ kind: "task", key: task.id, set: fields as Fields }, transition, ...puts, ...(placed?.puts ?? [])] } };
}

/** What of a task's change must reach its children: its end by a person or the clock and a new round, which close them; another try, which revives them. */
function childrenDue(task: Task, event: string, set: Partial<Task>): Task["children_due"] {
  if (event === "cancelled" || set.error?.code === "deadline" || (set.round ?? task.round) !== task.round) return "close";
  return event === "retried" ? "revive" : null;
}

/** Fields of a task nobody owns any more. */
const UNOWNED = { worker: null, lease_expires_at: null } as const;
/** Fields of a task that a worker may take at once. */
const DUE = { ...UNOWNED, status: "pending", ready: true, run_at: null, waiting_for: null } as const;

/** A worker takes it. Counts an attempt unless it goes on with one that a wait or a drain interrupted. */
export function claim(task: Task, worker: string, leaseMs: number, by: By, verifier: string | null = null): Outcome {
  const attempts = task.continues ? task.attempts : task.attempts + 1;
  const fence = task.fence + 1;
  return move(task, by, {
    event: "claimed",
    set: {
      status: "in_progress", ready: false, continues: false, attempts, fence, worker,
      lease_expires_at: iso(by.now + leaseMs), started_at: task.started_at ?? iso(by.now),
      // A worker that judges judges everything it does: whoever takes over must not complete it unjudged.
      verifier: task.verifier ?? verifier,
    },
    details: { attempt: attempts, fence },
  });
}

/** A worker takes it to judge the stored result. Counts no attempt. */
export function claimReview(task: Task, worker: string, leaseMs: number, by: By): Outcome {
  return move(task, by, {
    event: "review_claimed",
    set: { ready: false, fence: task.fence + 1, worker, lease_expires_at: iso(by.now + leaseMs) },
    details: { fence: task.fence + 1 },
  });
}

/** The result is there: completed, or kept for review when the task names a verifier. The owner keeps the lease for the review. */
export function submit(task: Task, result: Json, by: By, closing: readonly Put[] = []): Outcome {
  requireLegal(task, "submitted");
  if (task.verifier === null) return complete(task, result, by, closing);
  return move(task, by, { event: "submitted", set: { status: "review", result, error: null }, puts: closing });
}

/** The end it was made for. A review that passed keeps the result it judged. */
export function complete(task: Task, result: Json, by: By, closing: readonly Put[] = [], details?: Json): Outcome {
  return move(task, by, {
    event: "completed",
    set: { ...UNOWNED, status: "completed", result, error: null, waiting_for: null, ready: false, run_at: null, completed_at: iso(by.now), fence: fenceAfter(task, by) },
    puts: closing,
    ...(details === undefined ? {} : { details }),
  });
}

/** The verifier said no: back to the queue in a new round with its feedback, or failed when no attempt is left. */
export function reject(task: Task, feedback: string, by: By): Outcome {
  const reason = feedback || "rejected without feedback";
  requireLegal(task, "rejected");
  if (task.attempts >= task.max_attempts) {
    const error: Failure = { code: "rejected", message: `rejected after ${task.attempts} of ${task.max_attempts} attempts: ${reason}` };
    return fail(task, error, by, [], { feedback: reason });
  }
  return move(task, by, {
    event: "rejected",
    set: { ...DUE, result: null, feedback: reason, round: task.round + 1, reviews: 0, continues: false },
    reason,
  });
}

/** The review ended without a verdict. After LIMITS.reviews of them, or when only a person can tell, it becomes a decision. */
export function reviewError(task: Task, error: Failure, backoff: Backoff, random: number, by: By): Outcome {
  const reviews = task.reviews + 1;
  if (reviews >= LIMITS.reviews || error.code === "waiting") {
    const put = reviewDecision(task, error, by);
    return move(task, by, { event: "review_stuck", set: { ...UNOWNED, reviews, ready: false, error, waiting_for: [{ kind: "decision" }] }, reason: error.message, puts: [put] });
  }
  const run_at = iso(by.now + backoffMs(reviews, backoff, random));
  return move(task, by, { event: "review_error", set: { ...UNOWNED, reviews, ready: false, error, run_at }, reason: error.message });
}

function reviewDecision(task: Task, error: Failure, by: By): Put {
  const open: Partial<Decision> = {
    task_id: task.id, kind: "review", status: "open", question: `Is the result of task ${task.id} good? ${error.code === "waiting" ? task.description.slice(0, 200) : `Its verifier could not tell: ${error.message}`}`,
    options: { approve: "complete it with this result", deny: "send it back with your reason as feedback" },
    details: { result: task.result, verifier: task.verifier }, round: task.round, asked_by: by.actor, created_at: iso(by.now),
  };
  return { kind: "decision", record: open as Record<string, Json> };
}

/** An attempt failed: back to the queue after a back-off, or failed when the error is permanent or no attempt is left. */
export function failAttempt(task: Task, error: Failure, backoff: Backoff, random: number, by: By, closing: readonly Put[] = []): Outcome {
  if (error.permanent || task.attempts >= task.max_attempts) return fail(task, error, by, closing);
  const delayMs = backoffMs(task.attempts, backoff, random);
  return move(task, by, {
    event: "attempt_failed",
    set: { ...DUE, error, ready: delayMs <= 0, run_at: delayMs > 0 ? iso(by.now + delayMs) : null },
    reason: error.message,
    details: { attempt: task.attempts, retry_in_ms: delayMs },
  });
}

/** The end it was not made for. */
export function fail(task: Task, error: Failure, by: By, closing: readonly Put[] = [], extra: Partial<Task> = {}): Outcome {
  return move(task, by, {
    event: "failed",
    set: { ...UNOWNED, ...extra, status: "failed", error, ready: false, run_at: null, waiting_for: null, completed_at: iso(by.now), fence: fenceAfter(task, by) },
    reason: error.message,
    puts: closing,
  });
}

/** Someone other than the owner ends a task: the owner must notice. */
function fenceAfter(task: Task, by: By): number {
  return by.fence === undefined && task.worker !== null ? task.fence + 1 : task.fence;
}

/** Given back undone (a drain, Ctrl-C, a person): the attempt is not counted against it. */
export function release(task: Task, by: By, reason: string, runAt: number | null = null): Outcome {
  const waiting = runAt !== null && runAt > by.now;
  const back: Partial<Task> = task.status === "review" ? { ...UNOWNED, ready: true } : { ...DUE, continues: true, ready: !waiting, run_at: waiting ? iso(runAt) : null };
  return move(task, by, { event: "released", set: { ...back, fence: fenceAfter(task, by) }, reason });
}

/** Nothing more can be done until one of `waits` is settled. Guarded on each of them still being open: an answer that came first is never lost. */
export function park(task: Task, waits: readonly Wait[], by: By): Outcome {
  const waiting_for = waits.map((wait) => ({ kind: wait.kind, step: wait.key, ...(wait.due_at ? { due_at: wait.due_at } : {}), ...(wait.decision_id ? { decision_id: wait.decision_id } : {}), ...(wait.event ? { event: wait.event } : {}) }));
  return move(task, by, {
    event: "parked",
    set: { ...UNOWNED, status: "waiting", waiting_for, continues: true, ready: false },
    details: waiting_for,
    guards: waits.map((wait) => ({ kind: "wait", key: [wait.task_id, wait.round, wait.key], is: { status: "open" } })),
  });
}

/** What it waited for is there: due at once. The caller settles the wait in the same change. */
export function wake(task: Task, by: By, reason: string, puts: readonly Put[] = []): Outcome {
  return move(task, by, { event: "woken", set: DUE, reason, puts });
}

/**
 * Its owner is dead or silent beyond its lease. The attempt counts unless a step was recorded since the claim; a task that
 * keeps losing its workers ends as failed.
 */
export function takeOver(task: Task, stepRecorded: boolean, by: By, why: string, closing: readonly Put[] = []): Outcome {
  const takeovers = task.takeovers + 1;
  const lost: Partial<Task> = { ...UNOWNED, takeovers, fence: task.fence + 1 };
  if (takeovers >= LIMITS.takeovers) {
    return fail(task, { code: "owner_lost", message: `lost its worker ${takeovers} times; it may be what kills them` }, by, closing, lost);
  }
  if (task.status === "review") {
    return move(task, by, { event: "owner_lost", set: { ...lost, ready: true }, reason: why });
  }
  if (!stepRecorded && task.attempts >= task.max_attempts) {
    return fail(task, { code: "owner_lost", message: `lost its worker in attempt ${task.attempts} of ${task.max_attempts}: ${why}` }, by, closing, lost);
  }
  return move(task, by, { event: "owner_lost", set: { ...DUE, ...lost, continues: stepRecorded }, reason: why, details: { worker: task.worker, step_recorded: stepRecorded } });
}

/** True when the task's deadline has passed. */
export function pastDeadline(task: Task, now: number): boolean {
  return task.deadline_at !== null && !TERMINAL.has(task.status) && parseIso(task.deadline_at) <= now;
}

/** The deadline passed, in whatever state: failed, its waits withdrawn. */
export function expire(task: Task, by: By, closing: readonly Put[]): Outcome {
  return fail(task, { code: "deadline", message: "deadline exceeded", permanent: true }, by, closing, { fence: task.worker === null ? task.fence : task.fence + 1 });
}

/** A person ends it without a result. The worker, if any, loses its lease and aborts. */
export function cancel(task: Task, by: By, reason: string | null, closing: readonly Put[]): Outcome {
  return move(task, by, {
    event: "cancelled",
    set: { ...UNOWNED, status: "cancelled", ready: false, run_at: null, waiting_for: null, completed_at: iso(by.now), fence: task.fence + 1 },
    reason,
    puts: closing,
  });
}

/** A person tries a failed task again: the count starts anew, done steps stay unless `fresh`. Past its deadline it needs a new one. */
export function retryTask(task: Task, by: By, options: { fresh?: boolean; deadline_at?: string | null; ready: boolean; closing: readonly Put[]; reason?: string | null }): Outcome {
  const deadline_at = options.deadline_at === undefined ? task.deadline_at : options.deadline_at;
  if (deadline_at !== null && parseIso(deadline_at) <= by.now) {
    throw new PawlError("deadline", `Task ${task.id} is past its deadline (${deadline_at}); retrying it needs a new one.`, { next: `pawl retry ${task.id} --deadline 1h`, details: { id: task.id } });
  }
  return move(task, by, {
    event: "retried",
    set: { ...AGAIN, ready: options.ready, deadline_at, ...(options.fresh ? { round: task.round + 1 } : {}) },
    reason: options.reason ?? null,
    puts: options.closing,
    details: { fresh: options.fresh ?? false },
  });
}

/** A task that starts its count anew. */
const AGAIN = { ...DUE, error: null, attempts: 0, takeovers: 0, reviews: 0, continues: false, completed_at: null } as const;

/** As if never run: result, error, feedback, attempts, times and steps cleared; the history stays. */
export function reset(task: Task, by: By, ready: boolean, closing: readonly Put[], reason: string | null): Outcome {
  return move(task, by, {
    event: "reset",
    set: { ...AGAIN, ready, result: null, feedback: null, started_at: null, round: task.round + 1, fence: task.fence + 1 },
    reason,
    puts: closing,
  });
}

/** An ended task goes back to work; the reason is the feedback its next attempt reads. */
export function reopen(task: Task, by: By, ready: boolean, reason: string): Outcome {
  if (!reason.trim()) throw new PawlError("usage", `Reopening task ${task.id} needs a reason.`, { next: `pawl reopen ${task.id} --reason "…"` });
  return move(task, by, { event: "reopened", set: { ...AGAIN, ready, result: null, feedback: reason, round: task.round + 1 }, reason });
}

/**
 * Renews a lease. Raises no revision and leaves no history: it says only that the owner lives. The fence alone would not do:
 * a task given back or ended keeps its fence until the next claim, and a lease nobody holds would look like a dead owner.
 * With `expires` it holds only while the lease expires when the caller last saw that it would.
 */
export function heartbeat(owned: { id: number; fence: number; worker: string }, leaseMs: number, now: number, expires?: string | null): Change {
  const { id, fence, worker } = owned;
  const is = { fence, worker, ...(expires === undefined ? {} : { lease_expires_at: expires }) };
  return { guards: [{ kind: "task", key: id, is }], puts: [{ kind: "task", key: id, set: { lease_expires_at: iso(now + leaseMs) } }] };
}

/** What closes a task's open waits and decisions when it ends or starts anew. */
export function withdraw(waits: readonly Wait[], decisions: readonly Decision[], now: number): Put[] {
  const at = iso(now);
  return [
    ...waits.filter((wait) => wait.status === "open").map((wait): Put => ({ kind: "wait", key: [wait.task_id, wait.round, wait.key], set: { status: "withdrawn", settled_at: at } })),
    ...decisions.filter((d) => d.status === "open").map((d): Put => ({ kind: "decision", key: d.id, set: { status: "withdrawn", settled_at: at } })),
  ];
}

/** True while a worker owns the task. */
export function isHeld(task: Task): boolean {
  return HELD.has(task.status) && task.worker !== null;
}

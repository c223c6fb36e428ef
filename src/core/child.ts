// A child: a task that the code of another one started. Here are its record and the rules, pure; the verbs are in children.ts.

//   parent ── spawn ──▶ child (a task of its own, with its key made from the step: twice is once)
//     │ waits for its end ◀── completed, failed, cancelled, removed: the outcome is kept with the record, as the parent saw it
//     ├── cancelled, past its deadline, a new round ──▶ its open children are cancelled
//     └── retried ──▶ its children that did not complete are tried again

// Invariants: a child is made in one change with its record, under the parent's fence. A parent is there before its child and
// is never changed, so there are no circles. What must reach the children is written on the parent first (`children_due`),
// what must reach the parent is the child's own status: after either, whoever comes second looks again, and the sweep repairs.
import { parseIso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Change, Kind, Put } from "../store/store.ts";
import { addTask, type NewTask } from "./new-task.ts";
import { TERMINAL, type Failure, type Task, type Wait } from "./records.ts";
import { fenceGuard } from "./step.ts";
import { reopen, retryTask, type By, type Outcome as Moved } from "./task.ts";

/** How a child ended. */
export type ChildOutcome = { readonly status: "completed"; readonly result: Json } | { readonly status: "failed" | "cancelled" | "removed"; readonly error: Failure };

export type Child = {
  /** The parent, the round in which it was started, and the key of the step that did. */
  readonly task_id: number;
  readonly round: number;
  readonly key: string;
  readonly child_id: number;
  /** How it ended, as its parent was told; null until then. */
  readonly outcome: ChildOutcome | null;
};

export const CHILD_KIND: Kind = {
  name: "child",
  fields: { task_id: "integer", round: "integer", key: "text", child_id: "integer", outcome: "json" },
  key: ["task_id", "round", "key"],
  indexes: { child: { fields: ["child_id"] } },
};

/** The key of the i-th child of a group, so that keys go in the order of the list. */
export const memberKey = (group: string, i: number): string => `${group}/@${String(i).padStart(4, "0")}`;
/** The bounds of the keys of a group. No step's name holds / or @. */
export const membersOf = (group: string): { readonly from: string; readonly to: string } => ({ from: `${group}/@`, to: `${group}/A` });

/** What a child gets of its parent unless its own fields say otherwise: its queue, and there its batch. Its deadline is never later than the parent's. */
export function inherited(fields: NewTask, parent: Task): NewTask {
  const own = fields.deadline_at ?? null;
  const deadline_at = own !== null && (parent.deadline_at === null || parseIso(own) <= parseIso(parent.deadline_at)) ? own : parent.deadline_at;
  const queue = fields.queue ?? parent.queue;
  const batch_id = fields.batch_id === undefined && queue === parent.queue ? parent.batch_id : (fields.batch_id ?? null);
  return { ...fields, queue, batch_id, parent_id: parent.id, deadline_at };
}

/** Throws unless a task may get children: `illegal_transition` when it has ended, `usage` when it is itself too deep. */
export function checkParent(parent: Task, ancestors: number): void {
  if (TERMINAL.has(parent.status)) {
    throw new PawlError("illegal_transition", `Task ${parent.id} is ${parent.status} and gets no more children.`, { next: `See it: pawl show ${parent.id}.`, details: { id: parent.id, status: parent.status } });
  }
  if (ancestors + 1 > LIMITS.childDepth) {
    throw new PawlError("usage", `Task ${parent.id} is a child of a child, ${ancestors} deep; children go ${LIMITS.childDepth} deep at most.`, { next: "Give the work to a task of its own.", details: { id: parent.id } });
  }
}

/** The change that adds a child under the given guard; its put 0 is the task. The parent is marked the first time, which raises its revision: whoever is ending it decides again and sees the mark. */
export function addChild(fields: NewTask, parent: Task, dependencies: readonly Task[], by: By): { change: Change; task: Omit<Task, "id"> } {
  const { change, task } = addTask(inherited(fields, parent), dependencies, by);
  if (parent.has_children) return { change, task };
  const mark: Put = { kind: "task", key: parent.id, set: { has_children: true } };
  return { change: { ...change, puts: [...change.puts, mark], additions: [...(change.additions ?? []), { kind: "task", key: parent.id, field: "revision", n: 1 }] }, task };
}

/** The same by the parent's own code: guard 0 is its fence, and the record of the child goes with it. */
export function spawn(fields: NewTask, parent: Task, dependencies: readonly Task[], key: string, by: By): Change {
  const { change } = addChild(fields, parent, dependencies, by);
  const absent = { kind: "child", key: [parent.id, parent.round, key], absent: true } as const;
  const child: Put = { kind: "child", record: { task_id: parent.id, round: parent.round, key, child_id: { $new: 0 } } };
  return { ...change, guards: [fenceGuard(parent), absent, ...change.guards!], puts: [...change.puts, child] };
}

/** How the child ended; null while it has not. A task that is gone was removed. */
export function outcomeOf(id: number, child: Task | null): ChildOutcome | null {
  if (child === null) return { status: "removed", error: { code: "not_found", message: `task ${id} was removed`, permanent: true } };
  if (child.status === "completed") return { status: "completed", result: child.result };
  if (child.status === "failed") return { status: "failed", error: child.error ?? { message: "no reason was kept" } };
  if (child.status === "cancelled") return { status: "cancelled", error: { code: "cancelled", message: `task ${id} was cancelled`, permanent: true } };
  return null;
}

/** What a child that did not complete throws in its parent. Trying the parent again does not help: the child had its own attempts. */
export function childFailed(id: number, outcome: Exclude<ChildOutcome, { status: "completed" }>): PawlError {
  const { error } = outcome;
  const code = outcome.status === "cancelled" ? "cancelled" : "failed";
  const message = outcome.status === "failed" ? `task ${id}, a child, failed: ${error.message}` : `a child did not complete: ${error.message}`;
  return new PawlError(code, message, {
    next: outcome.status === "removed" ? "Start it again under another name." : `See why: pawl why ${id}. Then: pawl retry ${id}.`,
    details: { id, status: outcome.status, ...(error.code === undefined ? {} : { code: error.code }), permanent: true },
    cause: new PawlError("failed", error.message, { details: { ...(error.details as object | undefined), ...(error.code === undefined ? {} : { code: error.code }) }, ...(error.cause === undefined ? {} : { cause: new Error(error.cause) }) }),
  });
}

/** Why an open child must end with what happened to its parent; null when it may go on. `child` is the record of who started it, if code did. */
export function orphaned(task: Pick<Task, "parent_id">, parent: Task | null, child: Child | null): string | null {
  const name = `task ${task.parent_id}, its parent,`;
  if (parent === null) return `${name} was removed`;
  if (parent.status === "cancelled") return `${name} was cancelled`;
  if (parent.status === "failed" && parent.error?.code === "deadline") return `the deadline of ${name} passed`;
  if (child !== null && child.round < parent.round) return `${name} began a new round`;
  return null;
}

/** A child that did not complete, tried again because its parent is; null when there is nothing to try. A deadline that has passed becomes the parent's. */
export function revive(child: Task, parent: Task, ready: boolean, by: By, forgotten: readonly Put[]): Moved | null {
  const late = child.deadline_at !== null && parseIso(child.deadline_at) <= by.now;
  const current = late ? { ...child, deadline_at: parent.deadline_at } : child;
  const reason = `task ${parent.id}, its parent, is tried again`;
  const moved = child.status === "failed" ? retryTask(current, by, { ready, closing: forgotten, reason }) : child.status === "cancelled" ? reopen(current, by, ready, reason) : null;
  if (!moved || !late) return moved;
  return { task: moved.task, change: { ...moved.change, puts: moved.change.puts.map((put, i) => (i === 0 && "set" in put ? { ...put, set: { ...put.set, deadline_at: parent.deadline_at } } : put)) } };
}

/** True when the wait covers the child with this key. */
export function covers(wait: Pick<Wait, "kind" | "key" | "round">, child: Pick<Child, "key" | "round">): boolean {
  if (wait.round !== child.round) return false;
  const { from, to } = membersOf(wait.key);
  return wait.kind === "children" ? child.key >= from && child.key < to : child.key === wait.key;
}

// What a person's edit of one task means: three-way, field by field, against what is current. Pure. Invariants: a status
// changes only by a transition of task.ts; a task is changed as far as it was edited and legal, or not at all; bookkeeping,
// what a live worker owns and what changed since the edit began are refused with the reason, unless it is forced.
import { PawlError } from "../base/errors.ts";
import { sameJson, type Json } from "../base/json.ts";
import type { Change, Put, Query, Reads } from "../store/store.ts";
import { refuseCircle } from "./dependency.ts";
import { BOOKKEEPING, isDescription, readTime, statusNamed, type Row } from "./list-entry.ts";
import { allCompleted, markDependencies } from "./new-task.ts";
import { STATUSES, TERMINAL, type Decision, type Failure, type Status, type Step, type Task, type Transition, type Wait } from "./records.ts";
import type { Said } from "./reconcile-said.ts";
import { cancel, complete, fail, isHeld, reject, release, reopen, retryTask, wake, withdraw, type By, type Outcome } from "./task.ts";
import { checkEdit, editOutcome, EDITABLE, marked, type TaskEdit } from "./tasks.ts";
import { LIMITS } from "../base/limits.ts";
import { UNLESS_DEFAULT } from "./view.ts";

export const EDITOR = "editor";
const REASON = "edited by hand";

/** Fields that only Pawl writes. `error` is one, but says why when a person sets a task to failed. */
const KEPT: ReadonlySet<string> = new Set([...BOOKKEEPING, "id", "has_dependents", "has_children", "children_due"]);
/** Beyond what `pawl edit` changes: what a task gave, and what its next attempt reads. */
const RESULTS: ReadonlySet<string> = new Set(["result", "feedback"]);
const TIMES: ReadonlySet<string> = new Set(["run_at", "deadline_at"]);
const LISTS: ReadonlySet<string> = new Set(["depends_on", "tags"]);
/** Fields of the record a person cannot name: never shown, or bookkeeping. */
const isBookkeeping = (field: string): boolean => KEPT.has(field) && !RESULTS.has(field);

/** What is known while an edit is merged: the records, and on top of them the tasks as they will be. */
export type Merge = {
  readonly reads: Reads;
  readonly by: By;
  /** Take over what changed since, and what a live worker owns. */
  readonly force: boolean;
  /** The file had no header: what it does not say was not taken away. */
  readonly headless: boolean;
  readonly isDead: (worker: string) => boolean;
  readonly tasks: Map<number, Task | null>;
  /** Ids as the document gives them → as they are here, for added tasks. */
  readonly numbers: ReadonlyMap<number, number>;
  /** By force a task is changed as far as that is possible; what was not goes here. */
  readonly left: string[];
  readonly said: Said;
};

export function taskOf(merge: Merge, id: number): Task | null {
  return merge.tasks.has(id) ? merge.tasks.get(id)! : (merge.reads.get("task", id) as Task | null);
}

/** Every record a query matches. */
export function every(reads: Reads, kind: string, query: Query): unknown[] {
  const found = reads.list(kind, query);
  for (let page = found; page.length === LIMITS.listRecords; found.push(...page)) page = reads.list(kind, { ...query, after: page.at(-1)! });
  return found;
}

/** An entry with the names other programs use as ours: `state`, `user_input`, `running`, `done`. */
export function asOurs(entry: Row, base: Row | null): Row {
  const result: { [field: string]: Json } = { ...entry };
  const rename = (from: string, to: string) => {
    const untouched = !Object.hasOwn(entry, to) || (base !== null && sameJson(entry[to]!, base[to] ?? null));
    if (!Object.hasOwn(entry, from) || (base !== null && Object.hasOwn(base, from)) || !untouched) return;
    result[to] = entry[from]!;
    delete result[from];
  };
  rename("state", "status");
  if (isDescription("user_input")) rename("user_input", "description");
  if (typeof result["status"] === "string") result["status"] = statusNamed(result["status"]) ?? result["status"];
  return result;
}

const placeOf = (id: number, field: string): string => `task ${id}.${field}`;

/** A field's value, whether it is shown or left out. */
function valueOf(row: { readonly [field: string]: unknown }, field: string): Json {
  return (row[field] as Json | undefined) ?? UNLESS_DEFAULT[field] ?? (LISTS.has(field) ? [] : null);
}

type Edited = { readonly field: string; readonly from: Json; readonly to: Json };

/** What differs between the entry and the view it was made of. */
export function editedFields(merge: Merge, base: Row, entry: Row): Edited[] {
  return [...new Set([...Object.keys(base), ...Object.keys(entry)])].flatMap((field) => {
    const [from, to] = [valueOf(base, field), valueOf(entry, field)];
    if (field === "id" || sameJson(from, to)) return [];
    const leftOut = !Object.hasOwn(entry, field) && (merge.headless || isBookkeeping(field) || field === "description" || field === "status");
    return leftOut ? [] : [{ field, from, to }];
  });
}

/** The change that an edited entry makes of its task; null when nothing is left to do. Throws what must be refused. */
export function mergeTask(merge: Merge, id: number, base: Row, entry: Row): Change | null {
  const edited = editedFields(merge, base, entry).filter(({ field, to }) => !merge.said.again(placeOf(id, field), to) || merge.force);
  if (edited.length === 0) return null;
  const current = taskOf(merge, id);
  if (!current) throw refusal(`it was removed since`);
  const open = edited.filter(({ field, to }) => !sameJson(valueOf(current, field), to));
  if (open.length === 0) return null;
  const changed = ({ field }: Edited) => !merge.force && !isBookkeeping(field) && !merge.said.said(placeOf(id, field), valueOf(current, field));
  for (const one of open.filter(changed)) {
    requireUnchanged(current, one.field, one.from);
    if (one.field === "status") requireNoMove(merge, current, base);
  }
  return changeOf(merge, current, open, entry);
}

function requireUnchanged(current: Task, field: string, from: Json): void {
  const now = valueOf(current, field);
  if (!sameJson(now, from)) throw refusal(`its ${field} changed since, from ${shown(from)} to ${shown(now)}`);
}

/** A status that came back to what it was is not what the edit was about: saved again from the same buffer, it would act twice. */
function requireNoMove({ reads }: Merge, current: Task, base: Row): void {
  const since = base["updated_at"];
  if (typeof since !== "string" || since === current.updated_at) return;
  const moves = (every(reads, "transition", { equals: { task_id: current.id } }) as Transition[]).filter((t) => t.at > since && t.from_status !== t.to_status);
  if (moves.length > 0) throw refusal(`its status changed since: ${[moves[0]!.from_status, ...moves.map((t) => t.to_status)].join(" → ")}`);
}

function changeOf(merge: Merge, current: Task, edited: readonly Edited[], entry: Row): Change | null {
  const wish = new Map(edited.map(({ field, to }) => [field, to]));
  const status = wish.has("status") ? wantedStatus(wish.get("status")!) : null;
  const outcomes: Outcome[] = [];
  let task = current;
  const add = (outcome: Outcome | null) => {
    if (!outcome) return;
    outcomes.push(outcome);
    task = outcome.task;
  };
  add(takenFromWorker(merge, task, status));
  add(fieldsOutcome(merge, task, wish, status));
  if (status !== null && status !== task.status) add(statusOutcome(merge, task, status, wish, entry));
  for (const { field, to } of edited) {
    const settled = sameJson(valueOf(task, field), to) || (field === "error" && status === "failed");
    if (!isBookkeeping(field) || settled) continue;
    const why = `${field} is bookkeeping and cannot be edited`;
    if (!merge.force) throw refusal(why);
    merge.left.push(why);
  }
  if (outcomes.length === 0) return null;
  merge.tasks.set(task.id, task);
  return asOneChange(outcomes, task.id);
}

function wantedStatus(value: Json): Status {
  const status = typeof value === "string" ? statusNamed(value) : undefined;
  if (status === undefined) throw refusal(`${shown(value)} is not a status; use one of ${STATUSES.join(", ")}`);
  return status;
}

/** Nobody writes into what a live worker owns; by force it is fenced off first. */
function takenFromWorker(merge: Merge, task: Task, status: Status | null): Outcome | null {
  if (!isHeld(task) || merge.isDead(task.worker!)) return null;
  if (!merge.force) throw refusal(`it is being worked on by ${task.worker} until ${task.lease_expires_at}`);
  return status === null ? null : release(task, merge.by, "taken from its worker by hand");
}

/** The fields that say what the task is. The result of a completion and the feedback of a reopening go with their transition. */
function fieldsOutcome(merge: Merge, task: Task, wish: ReadonlyMap<string, Json>, status: Status | null): Outcome | null {
  const fields: { [field: string]: Json } = {};
  for (const [field, value] of wish) {
    if (field === "status" || isBookkeeping(field)) continue;
    if (field === "result" && status === "completed") continue;
    if (field === "feedback" && status === "pending" && task.status !== "waiting") continue;
    // A retry or a reopening clears these: that they are gone in the file is no wish of its own.
    if (RESULTS.has(field) && value === null && status !== null) continue;
    fields[field] = field === "depends_on" ? dependenciesNamed(merge, value) : TIMES.has(field) ? (readTime(value) ?? value) : value;
  }
  if (Object.keys(fields).length === 0) return null;
  if (fields["feedback"] !== undefined && fields["feedback"] !== null && typeof fields["feedback"] !== "string") throw refusal("its feedback must be a text");
  const known = Object.fromEntries(Object.entries(fields).filter(([field]) => Object.hasOwn(EDITABLE, field))) as TaskEdit;
  checkEdit(known);
  requireFreeKey(merge, task.id, fields["key"] ?? null);
  const dependencies = known.depends_on ? existing(merge, known.depends_on) : [];
  if (known.depends_on) refuseCircle(task.id, known.depends_on, (id) => taskOf(merge, id)?.depends_on ?? []);
  const outcome = editOutcome(task, fields as TaskEdit, merge.by);
  const marks = markDependencies(dependencies);
  noteMarks(merge, dependencies);
  return marked(outcome, marks);
}

export function requireFreeKey(merge: Merge, id: number, key: Json): void {
  if (typeof key !== "string") return;
  const taken = keyed(merge, key);
  if (taken !== null && taken !== id) throw refusal(`the key ${shown(key)} belongs to task ${taken}`);
}

/** The task that has the key, as things will be. */
function keyed(merge: Merge, key: string): number | null {
  for (const task of merge.tasks.values()) if (task?.key === key) return task.id;
  const id = merge.reads.list("task", { index: "key", equals: { key }, limit: 1 })[0]?.["id"] as number | undefined;
  return id === undefined || merge.tasks.has(id) ? null : id;
}

/** Ids (as the document gives them) and keys of tasks, as ids. */
export function dependenciesNamed(merge: Merge, value: Json): number[] {
  if (!Array.isArray(value)) throw refusal("its depends_on must be a list of ids");
  return value.map((name: Json) => {
    if (typeof name === "number") return merge.numbers.get(name) ?? name;
    const found = typeof name === "string" ? keyed(merge, name) : null;
    if (found === null) throw refusal(`it depends on ${shown(name)}, which is no task`);
    return found;
  });
}

export function existing(merge: Merge, ids: readonly number[]): Task[] {
  return ids.map((id) => {
    const task = taskOf(merge, id);
    if (!task) throw refusal(`it depends on ${id}, which does not exist`);
    return task;
  });
}

/** The tasks named by a new dependency know of it: their revision rises with the mark. */
export function noteMarks(merge: Merge, dependencies: readonly Task[]): void {
  for (const task of dependencies) if (!task.has_dependents) merge.tasks.set(task.id, { ...task, has_dependents: true, revision: task.revision + 1 });
}

function statusOutcome(merge: Merge, task: Task, status: Status, wish: ReadonlyMap<string, Json>, entry: Row): Outcome | null {
  const { by } = merge;
  const closing = closingOf(merge, task.id);
  switch (status) {
    case "completed":
      return complete(task, (entry["result"] ?? (wish.has("result") ? null : task.result)) as Json, by, closing);
    case "failed":
      return fail(task, failureOf(wish.get("error") ?? null), by, closing);
    case "cancelled":
      return cancel(task, by, REASON, closing);
    case "pending":
      return againOutcome(merge, task, wish, closing);
    default:
      throw refusal(`only a worker makes a task ${status}`);
  }
}

function failureOf(error: Json): Failure {
  const message = error !== null && typeof error === "object" && "message" in error ? error["message"] : error;
  return { message: typeof message === "string" && message.trim() !== "" ? message : "set to failed by hand", code: "reported", permanent: true };
}

/** Back to pending: the command that fits where it stands. */
function againOutcome(merge: Merge, task: Task, wish: ReadonlyMap<string, Json>, closing: readonly Put[]): Outcome | null {
  const { by, reads } = merge;
  const ready = shouldBeReady(merge, { ...task, run_at: null });
  const feedback = wish.get("feedback");
  const said = typeof feedback === "string" && feedback.trim() !== "" ? feedback : null;
  switch (task.status) {
    case "failed": {
      const steps = every(reads, "step", { equals: { task_id: task.id, round: task.round } }) as Step[];
      const forgotten = steps.filter((step) => step.status === "failed").map((step): Put => ({ kind: "step", key: [step.task_id, step.round, step.key], delete: true }));
      return retryTask(task, by, { ready, closing: forgotten, reason: REASON });
    }
    case "completed":
    case "cancelled":
      return reopen(task, by, ready, said ?? "set to pending by hand");
    case "waiting":
      return wake(task, by, REASON, closing);
    case "review":
      if (task.attempts >= task.max_attempts) throw refusal(`it is in review and has no attempt left (${task.attempts} of ${task.max_attempts}); raise max_attempts as well`);
      return reject(task, said ?? "sent back by hand", by);
    default:
      // Its worker is dead: the next sweep ends what that left running, then gives the task back.
      return null;
  }
}

function closingOf(merge: Merge, id: number): Put[] {
  const waits = every(merge.reads, "wait", { equals: { task_id: id } }) as Wait[];
  const decisions = every(merge.reads, "decision", { index: "task", equals: { task_id: id } }) as Decision[];
  return withdraw(waits, decisions, merge.by.now);
}

export function shouldBeReady(merge: Merge, task: Pick<Task, "run_at" | "depends_on">): boolean {
  const found = task.depends_on.map((id) => taskOf(merge, id));
  return task.run_at === null && found.every((dependency) => dependency !== null) && allCompleted(found as Task[]);
}

/** An entry that is gone from the document. */
export function cancelRemoved(merge: Merge, id: number, base: Row): Change | null {
  const current = taskOf(merge, id);
  if (!current || current.status === "cancelled" || (merge.said.again(`task ${id}`, null) && !merge.force)) return null;
  if (TERMINAL.has(current.status)) throw refusal(`it is ${current.status}, so it stays when its entry is taken out; remove it with: pawl rm ${id}`);
  if (!merge.force) {
    if (merge.headless) throw refusal("its entry is missing in a file without header, which may know only some tasks");
    requireUnchanged(current, "status", valueOf(base, "status"));
  }
  const taken = takenFromWorker(merge, current, "cancelled");
  const task = taken?.task ?? current;
  const outcome = cancel(task, merge.by, "taken out of the file by hand", closingOf(merge, id));
  merge.tasks.set(id, outcome.task);
  return asOneChange(taken ? [taken, outcome] : [outcome], id);
}

/** Several moves of one task as one change: only the first can be guarded, the others come of it. */
function asOneChange(outcomes: readonly Outcome[], id: number): Change {
  const guards = outcomes.flatMap(({ change }, i) => (change.guards ?? []).filter((guard) => i === 0 || guard.kind !== "task" || !("key" in guard) || guard.key !== id));
  const puts = outcomes.flatMap(({ change }) => change.puts).map(withReason);
  return { guards, puts, additions: outcomes.flatMap(({ change }) => change.additions ?? []) };
}

function withReason(put: Put): Put {
  return put.kind === "transition" && "record" in put && put.record["reason"] === undefined ? { ...put, record: { ...put.record, reason: REASON } } : put;
}

export function refusal(why: string): PawlError {
  return new PawlError("conflict", why);
}

export function shown(value: Json): string {
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60).toWellFormed()}…` : text;
}

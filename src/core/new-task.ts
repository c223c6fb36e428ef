// How a task comes into being: its fields checked, its defaults filled in, its dependencies and tags written as records of
// their own in the same change. Bad input changes nothing.
import { iso, parseIso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { canonical, checkText, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Addition, Change, Fields, Guard, NewId, Put } from "../store/store.ts";
import { record, type Event } from "./history.ts";
import { isDue, lineUp, vacancy } from "./line.ts";
import { STATUSES, TASK_FIELDS, type Status, type Task } from "./records.ts";

/** What a caller says of a new task; everything but the description has a default. Times are ISO 8601, durations ms. */
export type NewTask = {
  readonly description: string;
  readonly input?: unknown;
  /** Unique in the state: adding it again gives the task that is there. */
  readonly key?: string | null;
  readonly queue?: string;
  /** Lower runs first. Default 5. */
  readonly priority?: number;
  readonly tags?: readonly string[];
  /** Ids of tasks that must be completed first. */
  readonly depends_on?: readonly number[];
  readonly parent_id?: number | null;
  readonly batch_id?: string | null;
  readonly verifier?: string | null;
  readonly max_attempts?: number;
  /** Of all tasks with this key at most `concurrency_limit` (default 1) are in work at a time, in all processes together. */
  readonly concurrency_key?: string | null;
  readonly concurrency_limit?: number | null;
  readonly timeout_ms?: number | null;
  readonly run_at?: string | null;
  readonly deadline_at?: string | null;
  /** For tasks that come from elsewhere with a past: pending (default), completed, failed or cancelled. */
  readonly status?: Status;
  readonly result?: unknown;
};

export const DEFAULT_QUEUE = "default";
export const DEFAULT_PRIORITY = 5;

/** The change that adds a task; its put 0 is the task itself. `dependencies` are the tasks named by `depends_on`, as they stand. */
export function addTask(fields: NewTask, dependencies: readonly Task[], by: { actor: string; now: number; reason?: string }): { change: Change; task: Omit<Task, "id"> } {
  const task = newTask(fields, dependencies, by.now);
  const details = task.priority === DEFAULT_PRIORITY ? null : { priority: task.priority };
  const puts = birth(task, { $new: 0 }, { event: "created", actor: by.actor, reason: by.reason, details }, by.now);
  // Ready only if what it depends on is still completed when this is written; else they need only be there.
  const guards: Guard[] = task.depends_on.map((id) => ({ kind: "task", key: id, is: isDue(task) ? { status: "completed" as const } : ({} as { [field: string]: string }) }));
  const marks = markDependencies(dependencies);
  puts.push(...marks.puts);
  if (task.key !== null) guards.unshift({ kind: "task", unique: "key", values: { key: task.key }, absent: true });
  return { change: { guards, puts, ...(marks.additions.length > 0 ? { additions: marks.additions } : {}) }, task };
}

/** The records of a task that comes into being: put 0 is itself, then its first transition, its dependencies and its tags. */
export function birth(task: Omit<Task, "id"> & { readonly id?: number }, id: number | NewId, event: Pick<Event, "event" | "actor" | "reason" | "details">, now: number): Put[] {
  return [
    { kind: "task", record: task as unknown as Fields },
    record({ task_id: id, from: null, to: task.status, ...event }, now),
    ...task.depends_on.map((depends_on_id): Put => ({ kind: "dependency", record: { task_id: id, depends_on_id } })),
    ...task.tags.map((tag): Put => ({ kind: "tag", record: { tag, task_id: id } })),
    ...(task.line == null ? [] : [vacancy(task.line, id, task.revision)]),
  ];
}

/**
 * Tells dependencies that somebody depends on them. Their revision rises by an addition, so that many may do this at once,
 * and whoever is completing one decides again, sees the mark and follows it.
 */
export function markDependencies(dependencies: readonly Task[]): { puts: Put[]; additions: Addition[] } {
  const unmarked = dependencies.filter((task) => !task.has_dependents);
  return {
    puts: unmarked.map((task) => ({ kind: "task", key: task.id, set: { has_dependents: true } })),
    additions: unmarked.map((task) => ({ kind: "task", key: task.id, field: "revision", n: 1 })),
  };
}

/** The task that `fields` make, checked, with its defaults. */
export function newTask(fields: NewTask, dependencies: readonly Pick<Task, "status">[], now: number): Omit<Task, "id"> {
  checkNewTask(fields);
  const at = iso(now);
  const status = fields.status ?? "pending";
  const run_at = fields.run_at && parseIso(fields.run_at) > now ? fields.run_at : null;
  const task = lineUp({
    key: fields.key ?? null,
    queue: fields.queue ?? DEFAULT_QUEUE,
    description: fields.description,
    input: fields.input === undefined ? null : canonical(fields.input, "input"),
    status,
    result: fields.result === undefined ? null : canonical(fields.result, "result"),
    error: status === "failed" ? { message: "failed before it was imported", code: "imported" } : null,
    feedback: null,
    attempts: 0,
    max_attempts: fields.max_attempts ?? LIMITS.attempts,
    takeovers: 0,
    reviews: 0,
    round: 1,
    priority: fields.priority ?? DEFAULT_PRIORITY,
    concurrency_key: fields.concurrency_key ?? null,
    concurrency_limit: fields.concurrency_limit ?? null,
    slot: null,
    line: null,
    depends_on: [...new Set(fields.depends_on ?? [])],
    parent_id: fields.parent_id ?? null,
    batch_id: fields.batch_id ?? null,
    tags: [...new Set(fields.tags ?? [])],
    verifier: fields.verifier ?? null,
    run_at,
    deadline_at: fields.deadline_at ?? null,
    timeout_ms: fields.timeout_ms ?? null,
    waiting_for: null,
    has_dependents: false,
    has_children: null,
    children_due: null,
    ready: status === "pending" && run_at === null && allCompleted(dependencies),
    continues: false,
    fence: 0,
    worker: null,
    lease_expires_at: null,
    created_at: at,
    started_at: null,
    completed_at: status === "pending" ? null : at,
    updated_at: at,
    revision: 1,
  });
  const unknown = unknownFields(fields);
  return unknown ? { ...unknown, ...task } : task;
}

/** Fields that Pawl does not know are kept with the task; null when there are none. */
function unknownFields(fields: NewTask): { readonly [field: string]: Json } | null {
  let unknown: [string, Json][] | null = null;
  for (const [field, value] of Object.entries(fields)) if (value !== undefined && !Object.hasOwn(TASK_FIELDS, field)) (unknown ??= []).push([field, canonical(value, field)]);
  // Not by assignment: a field called __proto__ must come through, to be refused.
  return unknown && Object.fromEntries(unknown);
}

/** True when nothing it depends on is still to be done. */
export function allCompleted(dependencies: readonly Pick<Task, "status">[]): boolean {
  return dependencies.every((task) => task.status === "completed");
}

const IMPORTABLE: ReadonlySet<Status> = new Set(["pending", "completed", "failed", "cancelled"]);

/** Throws `usage` with the field's name when something is not as it must be. */
export function checkNewTask(fields: NewTask): NewTask {
  checkDescription(fields.description);
  checkTaskFields(fields);
  if (fields.status !== undefined && !IMPORTABLE.has(fields.status)) {
    const known = (STATUSES as readonly string[]).includes(fields.status);
    throw bad("status", known ? `a new task cannot be ${fields.status}` : `"${String(fields.status)}" is not a status`, "Use pending, completed, failed or cancelled.");
  }
  return fields;
}

/** What a program in JavaScript may hand over instead. */
export function checkIsTask(fields: unknown): void {
  if (typeof fields === "object" && fields !== null && !Array.isArray(fields)) return;
  throw new PawlError("usage", `A task is an object with a description, not ${fields === null || fields === undefined ? String(fields) : Array.isArray(fields) ? "a list" : `a ${typeof fields}`}.`, { next: 'As in: add({ description: "Write a haiku" }).' });
}

export function checkDescription(description: unknown): void {
  if (typeof description !== "string" || description.trim() === "") throw bad("description", "it must say what is to be done");
  if (description.length > LIMITS.textBytes) throw bad("description", `it is longer than ${LIMITS.textBytes} characters`, "Put long material into the task's input or a file.");
  checkText(description, "description");
}

/** The checks that adding and editing share. */
export function checkTaskFields(fields: Partial<NewTask>): void {
  for (const name of ["key", "queue", "verifier", "concurrency_key"] as const) checkName(name, fields[name]);
  for (const name of ["tags", "depends_on"] as const) if (fields[name] !== undefined && !Array.isArray(fields[name])) throw bad(name, "it must be a list");
  for (const tag of fields.tags ?? []) checkName("tags", tag);
  checkInteger("priority", fields.priority, -1_000_000_000, 1_000_000_000);
  checkInteger("max_attempts", fields.max_attempts, 1, 1_000_000);
  checkInteger("concurrency_limit", fields.concurrency_limit, 1, LIMITS.slots);
  checkInteger("timeout_ms", fields.timeout_ms, 1, 2 ** 31 - 1);
  for (const id of fields.depends_on ?? []) checkInteger("depends_on", id, 1, Number.MAX_SAFE_INTEGER);
  checkTime("run_at", fields.run_at);
  checkTime("deadline_at", fields.deadline_at);
}

function checkName(field: string, value: unknown): void {
  if (value === undefined || value === null) return;
  if (typeof value !== "string" || value.trim() === "") throw bad(field, "it must be a text that is not empty");
  if (value.length > LIMITS.nameChars) throw bad(field, `it is longer than ${LIMITS.nameChars} characters`);
  checkText(value, field);
}

function checkInteger(field: string, value: unknown, min: number, max: number): void {
  if (value === undefined || value === null) return;
  if (!Number.isSafeInteger(value) || (value as number) < min || (value as number) > max) throw bad(field, `it must be a whole number from ${min} to ${max}, not ${String(value)}`);
}

function checkTime(field: string, value: unknown): void {
  if (value === undefined || value === null) return;
  if (typeof value !== "string" || iso(Number.isNaN(parseIso(value)) ? 0 : parseIso(value)) !== value) {
    throw bad(field, `"${String(value)}" is not a time`, "Use ISO 8601 in UTC with milliseconds, such as 2026-01-31T09:00:00.000Z.");
  }
}

function bad(field: string, why: string, next?: string): PawlError {
  return new PawlError("usage", `The task's ${field} is not usable: ${why}.`, { next: next ?? "Correct it, then try again.", details: { field } as Record<string, Json> });
}

// One task of another program's file, as a task of ours with its past: times, attempts, error. Invariant: what has no place
// in a task of ours is not dropped; it goes into the details of the task's first transition.
import { iso } from "../base/clock.ts";
import type { Json } from "../base/json.ts";
import { BOOKKEEPING, readTime, type ListEntry, type Row } from "./list-entry.ts";
import { TERMINAL, type Failure, type Task } from "./records.ts";

/** One task as the file has it, and the line it begins in. */
export type ForeignRow = { readonly value: Json; readonly line: number };

export const isRow = (value: Json): value is Row => value !== null && typeof value === "object" && !Array.isArray(value);

const WITHOUT_ZONE = /^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?$/;

/** A time of the past. One without a zone is taken as UTC: what is not known cannot be asked. Go's zero time is none. */
export function readPast(value: Json): string | null {
  const time = readTime(typeof value === "string" && WITHOUT_ZONE.test(value) ? `${value}Z` : value);
  return time === null || time.startsWith("0001-") ? null : time;
}

/** The row as `draftOf` takes it: always with a status, and with the number it is called by as a number. */
export function prepared(value: Json): Json {
  if (!isRow(value)) return value;
  const row = value;
  const said = ["status", "state"].some((name) => (row[name] ?? null) !== null);
  const id = row["id"];
  return {
    ...row, ...(said ? {} : { status: row["done"] === true || row["completed"] === true ? "completed" : "pending" }),
    ...(typeof id === "string" && /^[1-9]\d{0,14}$/.test(id) ? { id: Number(id) } : {}),
  };
}

/** What the task keeps of its past: fields to set on the new task, and what is left over. */
export function pastOf(value: Json, task: Omit<Task, "id">, now: number): { fields: Partial<Task>; left: Row } {
  const row: Row = isRow(value) ? value : {};
  const ended = TERMINAL.has(task.status);
  const time = (name: string) => readPast(row[name] ?? null);
  const attempts = ended && Number.isSafeInteger(row["attempts"]) && (row["attempts"] as number) >= 0 ? (row["attempts"] as number) : null;
  const updated = time("updated_at");
  const feedback = ended ? null : (row["feedback"] ?? row["last_feedback"] ?? null);
  const error = task.status === "failed" ? (row["error"] ?? row["failure_reason"] ?? null) : null;
  const kept: { readonly [name: string]: Json } = {
    // Nothing was done before it was there.
    created_at: time("created_at") ?? time("started_at") ?? time("completed_at"), started_at: time("started_at"), updated_at: updated, completed_at: ended ? time("completed_at") : null, attempts,
    feedback: typeof feedback === "string" && feedback !== "" ? feedback : null, error: error === "" ? null : error,
  };
  const fields: Partial<Task> = {
    ...Object.fromEntries(Object.entries(kept).filter(([name, given]) => given !== null && name !== "error")),
    ...(ended ? { completed_at: (kept["completed_at"] as string | null) ?? updated ?? iso(now), run_at: null } : {}),
    ...(attempts === null ? {} : { max_attempts: Math.max(task.max_attempts, attempts) }),
    ...(kept["error"] === null ? {} : { error: failureOf(kept["error"] as Json) }),
  };
  const source: { readonly [name: string]: string } = { failure_reason: "error", last_feedback: "feedback" };
  const left = Object.entries(row).filter(([name, given]) => BOOKKEEPING.has(name) && !empty(given) && (kept[source[name] ?? name] ?? null) === null);
  return { fields, left: Object.fromEntries(left) };
}

const empty = (value: Json): boolean => value === null || value === "" || (Array.isArray(value) && value.length === 0);

function failureOf(error: Json): Failure {
  if (typeof error === "string") return { message: error, code: "adopted" };
  const message = isRow(error) ? error["message"] : undefined;
  return typeof message === "string" ? { message, code: "adopted", details: error } : { message: JSON.stringify(error), code: "adopted" };
}

/** Ids go on from the highest, so there must be room behind it. */
const MAX_ID = 2 ** 50;

/** The ids that the tasks get: the positive numbers they have, each once; the others the numbers after the highest. */
export function idsOf(entries: readonly ListEntry[]): number[] {
  const taken = new Set<number>();
  let next = 0;
  const kept = entries.map(({ ref }) => {
    if (ref === undefined || ref < 1 || ref > MAX_ID || taken.has(ref)) return null;
    taken.add(ref);
    next = Math.max(next, ref);
    return ref;
  });
  return kept.map((id) => id ?? ++next);
}

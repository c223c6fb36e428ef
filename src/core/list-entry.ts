// One entry of a task list: what a text line, or an object from JSON or CSV, says of a task. Invariants: the identity text
// leaves out how far the task is, so checking a box or writing a result into the list does not make a new task; a field
// that is no field of a task is kept, as part of `input`.
import { iso, parseIso } from "../base/clock.ts";
import { parseDuration } from "../base/duration.ts";
import { PawlError } from "../base/errors.ts";
import { canonical, checkJson, sha256, sortedText, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { checkDescription, checkTaskFields, type NewTask } from "./new-task.ts";
import { STATUSES, type Status } from "./records.ts";

export type ListEntry = {
  readonly description: string;
  readonly key?: string;
  readonly input?: Json;
  readonly queue?: string;
  readonly priority?: number;
  readonly tags?: readonly string[];
  /** As written: keys, or ids of entries of the same list; `linkDependencies` in batch.ts tells them apart. */
  readonly depends_on?: readonly (string | number)[];
  readonly max_attempts?: number;
  readonly timeout_ms?: number;
  readonly concurrency_key?: string;
  readonly concurrency_limit?: number;
  readonly verifier?: string;
  readonly run_at?: string;
  readonly deadline_at?: string;
  /** A deadline given as a duration ("2h"): counted from the import. */
  readonly deadline_ms?: number;
  /** Completed already: checked, marked [DONE], or by its status. */
  readonly done?: true;
  /** As the list says; whoever imports makes `pending` of what nobody works on here (in_progress, waiting, review). */
  readonly status?: Status;
  readonly result?: Json;
  /** The number the list calls it by; not the id it will get. */
  readonly ref?: number;
  /** Where it begins in the file, from 1. */
  readonly line: number;
  /** What it asks for, as one text: its identity. */
  readonly text: string;
  /** Counts entries of the same text, from 1. */
  readonly occurrence: number;
};

/** An entry before its place in the list is known. */
export type Draft = Omit<ListEntry, "line" | "occurrence">;
/** Takes the entry that begins in `line`; what `make` throws is given that place, null is no entry. */
export type Collect = (line: number, make: () => Draft | null) => void;

/** An object of a list: canonical JSON. */
export type Row = { readonly [field: string]: Json };

/** The name of an entry within its batch: its key, or a hash of its text and which of the equal ones it is. */
export function itemKey(entry: Pick<ListEntry, "key" | "text" | "occurrence">): string {
  return entry.key ?? `${sha256(entry.text, 32)}#${entry.occurrence}`;
}

/** A line of text as a task; an empty one is none. */
export function lineDraft(description: string, done: boolean): Draft | null {
  if (description === "") return null;
  checkDescription(description);
  return { description, text: description, ...(done ? { done: true } : {}) };
}

/** A text, or an object with the fields of a task, as it comes from JSON, CSV or a program. */
export function draftOf(value: unknown): Draft {
  const copy = canonical(value, "The entry");
  if (typeof copy === "string") {
    checkDescription(copy);
    return { description: copy.trim(), text: copy.trim() };
  }
  if (copy === null || typeof copy !== "object" || Array.isArray(copy)) throw bad(`An entry is a text or an object with a description, not ${shown(copy)}.`);
  return rowDraft(copy as Row);
}

/* ---------- the fields ---------- */

/** What says what is to be done, here and in other programs; the first that is there counts, the others are input. */
const DESCRIPTION_NAMES: readonly string[] = ["description", "user_input", "task", "title", "name"];
const INTEGERS: ReadonlySet<string> = new Set(["id", "priority", "max_attempts", "timeout_ms", "concurrency_limit"]);
/** How far the task is. */
const PROGRESS: ReadonlySet<string> = new Set(["status", "state", "done", "completed", "result"]);
const FIELDS: ReadonlySet<string> = new Set([
  ...INTEGERS, ...PROGRESS, "key", "queue", "input", "tags", "depends_on", "timeout", "verifier", "run_at", "deadline", "deadline_at", "concurrency_key", "concurrency_limit",
]);
/** Bookkeeping of a task that was exported (then it has a status): it starts anew here. In any other row these are input. */
export const BOOKKEEPING: ReadonlySet<string> = new Set([
  "attempts", "takeovers", "reviews", "round", "revision", "fence", "worker", "lease", "lease_expires_at", "ready", "slot", "line", "continues", "waiting_for", "batch_id",
  "parent_id", "has_dependents", "has_children", "children_due", "created_at", "started_at", "completed_at", "updated_at", "error", "failure_reason", "feedback", "last_feedback", "history",
]);
const STATUS_NAMES: { readonly [name: string]: Status } = {
  ...(Object.fromEntries(STATUSES.map((status) => [status, status])) as { [name: string]: Status }),
  running: "in_progress", done: "completed", canceled: "cancelled",
};

/** The status a word stands for here, also when other programs call it so; undefined when it is none. */
export const statusNamed = (word: string): Status | undefined => (Object.hasOwn(STATUS_NAMES, word.toLowerCase()) ? STATUS_NAMES[word.toLowerCase()] : undefined);

export const fieldName = (header: string): string => header.trim().toLowerCase().replaceAll(/\s+/g, "_");
export const isDescription = (name: string): boolean => DESCRIPTION_NAMES.includes(name);
/** True for names that mean something as a column; other columns are input. */
export const isKnown = (name: string): boolean => FIELDS.has(name) || isDescription(name);

function rowDraft(row: Row): Draft {
  const named = DESCRIPTION_NAMES.find((name) => given(row, name) !== undefined);
  if (named === undefined) throw bad("It does not say what is to be done.", 'Give it a "description" (task, title and name are understood too).');
  const description = row[named];
  if (typeof description !== "string") throw bad(`Its ${named} must be a text, not ${shown(description)}.`);
  checkDescription(description);
  const exported = given(row, "status") !== undefined || given(row, "state") !== undefined;
  const past = (field: string) => PROGRESS.has(field) || (exported && BOOKKEEPING.has(field));
  const others = Object.entries(row).filter(([field]) => field !== named && !FIELDS.has(field) && !past(field));
  const fields = {
    ...idOf(row), ...direct(row, ["key", "queue", "priority", "max_attempts", "verifier", "concurrency_key", "concurrency_limit"]), ...timesOf(row), ...progressOf(row), ...inputOf(row, others),
    ...optional("tags", given(row, "tags"), textsOf),
  };
  checkTaskFields(fields as Partial<NewTask>);
  const identity = Object.fromEntries(Object.entries(row).filter(([field]) => !past(field)));
  return { description, ...fields, ...optional("depends_on", given(row, "depends_on"), namesOf), text: sortedText(identity) } as Draft;
}

function given(row: Row, field: string): Json | undefined {
  return Object.hasOwn(row, field) && row[field] !== null ? row[field] : undefined;
}

function direct(row: Row, fields: readonly string[]): Row {
  return Object.fromEntries(fields.map((field) => [field, given(row, field)] as const).filter((pair): pair is [string, Json] => pair[1] !== undefined));
}

function optional<T>(field: string, value: Json | undefined, read: (value: Json, field: string) => T): { [field: string]: T } {
  return value === undefined ? {} : { [field]: read(value, field) };
}

/** A text as id is a name that lasts: the key. A number only says how this list calls it. */
function idOf(row: Row): { key?: string; ref?: number } {
  const id = given(row, "id");
  if (id === undefined) return {};
  if (typeof id === "string") return { key: id };
  if (!Number.isSafeInteger(id)) throw bad(`Its id must be a whole number or a text, not ${shown(id)}.`);
  return { ref: id as number };
}

function textsOf(value: Json, field: string): string[] {
  const list = Array.isArray(value) ? value : [value];
  for (const item of list) if (typeof item !== "string" || item.trim() === "") throw bad(`Its ${field} must be a list of texts, not ${shown(value)}.`);
  return [...new Set(list as string[])];
}

function namesOf(value: Json, field: string): (string | number)[] {
  const list = Array.isArray(value) ? value : [value];
  for (const item of list) {
    const usable = typeof item === "string" ? item.trim() !== "" : Number.isSafeInteger(item);
    if (!usable) throw bad(`Its ${field} must be a list of ids or keys, not ${shown(value)}.`);
  }
  return [...new Set(list as (string | number)[])];
}

function timesOf(row: Row): { timeout_ms?: number; run_at?: string; deadline_at?: string; deadline_ms?: number } {
  const deadline = given(row, "deadline");
  const relative = typeof deadline === "string" && !/^\d{4}-/.test(deadline);
  return {
    ...optional("timeout_ms", given(row, "timeout"), durationOf),
    ...direct(row, ["timeout_ms"]),
    ...optional("run_at", given(row, "run_at"), timeOf),
    ...optional(relative ? "deadline_ms" : "deadline_at", deadline, (value) => (relative ? durationOf(value, "deadline") : timeOf(value, "deadline"))),
    ...optional("deadline_at", given(row, "deadline_at"), timeOf),
  };
}

function durationOf(value: Json, field: string): number {
  const name = field === "timeout_ms" ? "timeout" : "deadline";
  if (typeof value !== "string" && typeof value !== "number") throw bad(`Its ${name} must be a duration such as 30s, not ${shown(value)}.`);
  return parseDuration(String(value), { name });
}

const TIME = /^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)(Z|[+-]\d{2}:?\d{2})$/;

/** A time without a zone would mean another moment on another machine: refused. */
function timeOf(value: Json, field: string): string {
  const time = readTime(value);
  if (time === null) throw bad(`Its ${field} ${shown(value)} is not a time with its zone.`, "Write it like 2026-01-31T09:00Z or 2026-01-31T09:00+01:00.");
  return time;
}

/** A time with its zone as ours: UTC, in milliseconds. Null for everything else. */
export function readTime(value: Json): string | null {
  const [, date, clock, zone] = (typeof value === "string" && TIME.exec(value)) || [];
  const ms = parseIso(`${date}T${clock}${zone?.replace(/(\d{2})(\d{2})$/, "$1:$2")}`);
  const day = parseIso(`${date}T00:00:00Z`);
  return Number.isNaN(ms) || Number.isNaN(day) || !iso(day).startsWith(date as string) ? null : iso(ms);
}

function progressOf(row: Row): { status?: Status; done?: true; result?: Json } {
  const status = given(row, "status") ?? given(row, "state");
  if (status !== undefined && (typeof status !== "string" || !Object.hasOwn(STATUS_NAMES, status.toLowerCase()))) {
    throw bad(`${shown(status)} is not a status.`, `Use ${STATUSES.join(", ")}, or leave it out.`);
  }
  for (const field of ["done", "completed"]) {
    const flag = given(row, field);
    if (flag !== undefined && typeof flag !== "boolean") throw bad(`Its ${field} must be true or false, not ${shown(flag)}.`);
  }
  const name = status === undefined ? undefined : STATUS_NAMES[(status as string).toLowerCase()];
  const done = name === undefined ? row["done"] === true || row["completed"] === true : name === "completed";
  return { ...(name === undefined ? {} : { status: name }), ...(done ? { done: true } : {}), ...direct(row, ["result"]) };
}

/** `input` as given, with every field that is no field of a task; `input` itself wins. */
function inputOf(row: Row, others: readonly [string, Json][]): { input?: Json } {
  const input = given(row, "input");
  if (others.length === 0) return input === undefined ? {} : sized(input);
  if (input !== undefined && (typeof input !== "object" || Array.isArray(input))) {
    throw bad(`Its input is not an object, so ${others.map(([field]) => field).join(", ")} cannot be added to it.`, "Make input an object, or leave the other fields out.");
  }
  return sized({ ...Object.fromEntries(others), ...(input as Row | undefined) });
}

function sized(input: Json): { input: Json } {
  if (checkJson(input, "input") <= LIMITS.valueBytes) return { input };
  throw new PawlError("value_refused", `Its input is larger than ${LIMITS.valueBytes} bytes.`, { next: "Put it into a file and name the file in the input." });
}

/** A cell of CSV, which is text, as the value its column stands for. */
export function fieldFromText(name: string, word: string): Json {
  if (INTEGERS.has(name)) return numberOr(word);
  if (name === "tags") return split(word, /;/);
  if (name === "depends_on") return split(word, /[;,]/).map(numberOr);
  if (name === "done" || name === "completed") return /^(?:true|yes|x|1)$/i.test(word) ? true : /^(?:false|no|0)$/i.test(word) ? false : word;
  if (name !== "input" || !/^[[{]/.test(word)) return word;
  try {
    return JSON.parse(word) as Json;
  } catch {
    throw bad("The cell of input begins like JSON but is none.");
  }
}

const split = (word: string, by: RegExp): string[] => word.split(by).map((part) => part.trim()).filter((part) => part !== "");
const numberOr = (word: string): string | number => (/^-?\d{1,15}$/.test(word) ? Number(word) : word);

function shown(value: Json | undefined): string {
  const text = JSON.stringify(value ?? null);
  return text.length > 60 ? `${text.slice(0, 60).toWellFormed()}…` : text;
}

function bad(message: string, next?: string): PawlError {
  return new PawlError("usage", message, next === undefined ? {} : { next });
}

// What an operation gave, as a model reads it: without what is empty, default or bookkeeping, without secrets, never longer
// than its bound. Invariant: what is left is exactly what was there; whatever was cut says so and says how to read on.
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { redact } from "../base/redact.ts";
import type { Document } from "./document.ts";
import { inWords, type DoorWords } from "./door-words.ts";

type Fields = { readonly [field: string]: Json };

/** Fields only the engine needs. */
const BOOKKEEPING: ReadonlySet<string> = new Set(["fence", "has_dependents", "has_children", "children_due", "continues", "ready", "revision", "worker", "hash", "input_hash", "step_start", "step_key", "kept", "start", "entity_key", "attribute_key"]);
/** Values that say nothing. */
const DEFAULTS: Fields = { queue: "default", priority: 5, takeovers: 0, reviews: 0, round: 1, max_attempts: LIMITS.attempts, verifications: 0, erased: false };
/** Fields that hold a user's own value: they are shown as they are. */
const VALUES: ReadonlySet<string> = new Set(["input", "result", "details", "value", "output", "answer", "options", "waiting_for", "arguments"]);
/** Computed when read: three digits say all there is to say. */
const ROUNDED: ReadonlySet<string> = new Set(["effective_confidence", "score"]);
/** What a list shows of a task; the rest by its id. */
const LISTED: ReadonlySet<string> = new Set(["id", "key", "description", "status", "attempts", "priority", "tags", "batch_id", "depends_on", "parent_id", "run_at", "deadline_at", "feedback", "error"]);
/** Characters of one text in a list, and in a single record. */
const LISTED_CHARS = 200;
const SHOWN_CHARS = 8_000;

/** The text of a tool's answer for a model; `words`: how it names the tools it has. */
export function modelText({ schema_version: _version, kind, data: plain, ...beside }: Document, words?: DoorWords): string {
  const data = words === undefined ? plain : said(kind, plain as Json, words);
  const shaped = Array.isArray(data) ? shapedList(kind, data as Json[], beside as Fields) : { ...(beside as Fields), data: shorter(redact(shapedValue(data as Json)), SHOWN_CHARS) };
  return cutText(JSON.stringify({ kind, ...shaped }));
}

/** What Pawl says to do next, of a task and of each finding, in the words of the door. What else they say may quote a user. */
function said(kind: string, data: Json, words: DoorWords): Json {
  if (kind !== "why" && kind !== "doctor") return data;
  const inIts = (field: string, value: Json): Json => {
    if (field === "findings" && Array.isArray(value)) return value.map((finding) => said(kind, finding, words));
    return field === "next" && typeof value === "string" ? inWords(value, words) : value;
  };
  return Object.fromEntries(Object.entries(data as Fields).map(([field, value]) => [field, inIts(field, value)]));
}

function shapedList(kind: string, records: readonly Json[], beside: Fields): Fields {
  const shaped = records.map((record) => shorter(redact(kind === "task-list" ? listed(record) : shapedValue(record)), LISTED_CHARS));
  const room = LIMITS.modelListBytes - 200;
  let used = 0;
  const fits = shaped.filter((record) => (used += Buffer.byteLength(JSON.stringify(record)) + 1) <= room);
  if (fits.length === records.length) return { ...beside, data: fits };
  const last = records[fits.length - 1] as Fields | undefined;
  const id = last?.["id"];
  return { data: fits, left_out: records.length - fits.length, ...(id === undefined || kind !== "task-list" ? {} : { after: id }), next: "These are the first; ask for fewer, or go on after the last." };
}

function listed(record: Json): Json {
  return Object.fromEntries(Object.entries(shapedValue(record) as Fields).filter(([field]) => LISTED.has(field)));
}

/** Without what is empty, default or bookkeeping, at every level but in a user's own values. */
function shapedValue(value: Json): Json {
  if (Array.isArray(value)) return value.map(shapedValue);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value as Fields).filter(([field, item]) => !BOOKKEEPING.has(field) && !isEmpty(item) && DEFAULTS[field] !== item);
  return Object.fromEntries(fields.map(([field, item]) => [field, VALUES.has(field) ? item : ROUNDED.has(field) && typeof item === "number" ? Math.round(item * 1000) / 1000 : shapedValue(item)]));
}

const isEmpty = (value: Json): boolean => value === null || (Array.isArray(value) && value.length === 0);

/** With every text cut to `chars`. */
function shorter(value: Json, chars: number): Json {
  if (typeof value === "string") return value.length <= chars ? value : `${value.slice(0, chars).toWellFormed()}… [${value.length - chars} more characters]`;
  if (Array.isArray(value)) return value.map((item) => shorter(item, chars));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value as Fields).map(([field, item]) => [field, shorter(item, chars)]));
}

/** What is larger than any window should take is cut as text. */
function cutText(text: string): string {
  return text.length <= LIMITS.modelChars ? text : `${text.slice(0, LIMITS.modelChars).toWellFormed()}… [cut: ${text.length - LIMITS.modelChars} more characters; ask for less]`;
}

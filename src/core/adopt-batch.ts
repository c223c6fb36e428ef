// The batch files of other programs: a list of features (or items), and beside it which of them are done, by name or by
// index. Invariant: an item counts as ended only when a list names it; how far an index cursor got proves nothing.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Foreign } from "../store/store.ts";
import { newBatchId, type ContextClear } from "./batch.ts";
import { DEFAULT_QUEUE } from "./new-task.ts";
import { isRow, readPast, type ForeignRow } from "./adopt-row.ts";
import type { Row } from "./list-entry.ts";
import type { Batch, Status } from "./records.ts";

/** Where the items stand, and what ended them: [field, status]; the first list that names an item counts. */
const ENDED: readonly (readonly [string, Status])[] = [
  ["completed", "completed"], ["completed_features", "completed"], ["completed_items", "completed"],
  ["failed", "failed"], ["failed_features", "failed"], ["failed_items", "failed"],
  ["skipped", "cancelled"], ["skipped_features", "cancelled"], ["skipped_items", "cancelled"],
];
const LISTS = ["features", "items"];
const TOKENS = ["context_token_estimate", "tokens", "token_estimate", "context_tokens"];
const CLEARS = ["auto_clear_events", "context_clears"];

/** The name of the list when the document is a batch of this kind, else undefined. */
export function batchList(document: Row): string | undefined {
  const marks = ["batch_id", "current_index", ...ENDED.map(([field]) => field)];
  return LISTS.find((name) => Array.isArray(document[name]) && marks.some((mark) => Object.hasOwn(document, mark)));
}

/** Its items as rows with the status that its lists give them, and the record of the batch itself. */
export function readBatch(document: Row, list: string, from: Foreign): { rows: ForeignRow[]; batch: Batch; notes: string[] } {
  const items = document[list] as readonly Json[];
  const ends = new Map<number, Row>();
  let twice = 0;
  for (const [field, status] of ENDED) {
    for (const mark of marksOf(document, field, from)) {
      const index = indexOf(mark, items, ends, status, () => refuse(from, document[field] ?? null, `${field} names ${JSON.stringify(mark).slice(0, 60)}, which is not among the ${list}`));
      const known = ends.get(index);
      if (known) twice += known["status"] === status ? 0 : 1;
      else ends.set(index, { status, ...whyOf(mark) });
    }
  }
  const rows = items.map((item, i): ForeignRow => {
    const value = typeof item === "string" ? { description: item } : item;
    const marked = isRow(value) ? { status: "pending", ...value, ...ends.get(i) } : value;
    return { value: marked, line: from.lineOf(isRow(item) ? item : (document[list] as Json)) };
  });
  const notes = twice === 0 ? [] : [`${twice} item${twice === 1 ? " is" : "s are"} in several of its lists: completed counts before failed, failed before skipped`];
  return { rows, batch: batchOf(document, items, from.now), notes };
}

function marksOf(document: Row, field: string, from: Foreign): readonly Json[] {
  const value = document[field] ?? [];
  if (!Array.isArray(value)) throw refuse(from, document, `its ${field} must be a list of names or indices, not ${JSON.stringify(value).slice(0, 60)}`);
  return value as readonly Json[];
}

/** Of several items with the name, the first that has not ended; when all have, one that ended the same way. */
function indexOf(mark: Json, items: readonly Json[], ends: ReadonlyMap<number, Row>, status: Status, unknown: () => PawlError): number {
  const given = isRow(mark) ? (mark["feature_index"] ?? mark["item_index"] ?? mark["index"] ?? mark["feature_name"] ?? mark["feature"] ?? mark["item"] ?? mark["name"] ?? null) : mark;
  if (typeof given === "number") {
    if (!Number.isInteger(given) || given < 0 || given >= items.length) throw unknown();
    return given;
  }
  const named = items.flatMap((item, i) => (typeof given === "string" && namesOf(item).includes(given) ? [i] : []));
  const index = named.find((i) => !ends.has(i)) ?? named.find((i) => ends.get(i)!["status"] === status) ?? named[0];
  if (index === undefined) throw unknown();
  return index;
}

function namesOf(item: Json): readonly Json[] {
  return isRow(item) ? [item["name"] ?? null, item["id"] ?? null, item["description"] ?? null] : [item];
}

/** What a mark says of the end: why it failed or was skipped, and when. */
function whyOf(mark: Json): Row {
  if (!isRow(mark)) return {};
  const why = mark["error_message"] ?? mark["error"] ?? mark["reason"] ?? null;
  const at = mark["timestamp"] ?? null;
  return { ...(why === null ? {} : { error: why }), ...(at === null ? {} : { completed_at: at }) };
}

function batchOf(document: Row, items: readonly Json[], now: number): Batch {
  const id = document["batch_id"];
  const tokens = TOKENS.map((name) => document[name]).find((value) => Number.isSafeInteger(value) && (value as number) >= 0) ?? 0;
  const clears = CLEARS.map((name) => document[name]).find((value) => Array.isArray(value)) ?? [];
  const at = iso(now);
  return {
    id: typeof id === "string" && id.trim() !== "" && id.length <= LIMITS.nameChars ? id : newBatchId(now, () => false),
    source: null, queue: DEFAULT_QUEUE, executor: null, verifier: null, limits: null, worker: null, tokens: tokens as number,
    context_clears: (clears as readonly Json[]).filter(isRow).map((clear) => clearOf(clear, items, at)) as unknown as Json,
    created_at: readPast(document["created_at"] ?? null) ?? at, updated_at: readPast(document["updated_at"] ?? document["last_updated"] ?? null) ?? at,
  };
}

function clearOf(clear: Row, items: readonly Json[], at: string): ContextClear {
  const before = clear["context_tokens_before_clear"] ?? clear["tokens_before"];
  const item = items[(clear["feature_index"] as number | undefined) ?? -1];
  return {
    at: readPast(clear["timestamp"] ?? clear["at"] ?? null) ?? at, tokens_before: typeof before === "number" ? before : 0, ...(typeof item === "string" ? { item } : {}),
  };
}


function refuse(from: Foreign, part: Json, why: string): PawlError {
  return new PawlError("usage", `${from.name}:${from.lineOf(part)}: ${why}.`, { next: "Correct it there, then try again.", details: { line: from.lineOf(part) } });
}

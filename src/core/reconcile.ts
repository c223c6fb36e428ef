// What a hand edit of the state file means: (the view it was made of, the edited document, what is current) → changes and
// refusals. Pure. Invariants: each task is merged or refused with its reason, and the rest of the edit goes on; what nobody
// touched is not written; nothing of the document is passed over in silence.

//   tasks       fields, status, added and removed entries: reconcile-task.ts
//   batches     limits, executor and verifier may be edited; the rest is what runs recorded
//   decisions   are settled by `pawl approve`, `deny` and `answer` only, so that who and why are known
import { iso } from "../base/clock.ts";
import { messageOf, PawlError } from "../base/errors.ts";
import { sameJson, type Json } from "../base/json.ts";
import type { Change, Fields, HandEdit, Put, Reads, Reconciled } from "../store/store.ts";
import { taskFields } from "./batches.ts";
import type { Edit, EditStatus, Forced, Refusal } from "./edit.ts";
import { isDue } from "./line.ts";
import { BOOKKEEPING, draftOf, isDescription, isKnown, type Row } from "./list-entry.ts";
import { birth, markDependencies, newTask } from "./new-task.ts";
import { TERMINAL, type Task } from "./records.ts";
import { type Said, saidOf } from "./reconcile-said.ts";
import { asOurs, cancelRemoved, dependenciesNamed, EDITOR, editedFields, every, existing, type Merge, mergeTask, noteMarks, refusal, requireFreeKey, shouldBeReady, taskOf } from "./reconcile-task.ts";
import { move } from "./task.ts";

/** How far above the highest id an added entry may choose its own: an id is never taken back, so one slip would leave a gap for good. */
const GAP = 10_000;
const BATCH_FIELDS: ReadonlySet<string> = new Set(["limits", "executor", "verifier"]);
const LISTS = ["tasks", "batches", "decisions"];
const isRow = (value: Json | undefined): value is Row => typeof value === "object" && value !== null && !Array.isArray(value);

/** `followers` are what comes of the changes: dependents that became ready or blocked. */
type Found = { readonly changes: { at: string; task: number | null; change: Change }[]; readonly followers: { at: string; change: Change }[]; readonly refusals: Refusal[] };

/** `isDead` says whether the owner of a task is known to be dead. */
export function reconcile(edit: HandEdit, reads: Reads, now: number, isDead: (worker: string) => boolean): Reconciled {
  const found: Found = { changes: [], followers: [], refusals: [] };
  const said = saidOf(reads, edit.revision, edit.headless, shownIn(edit));
  const forced = typeof edit.verdict === "object" && "force" in edit.verdict ? (edit.verdict.force as unknown as Forced) : null;
  if (typeof edit.verdict === "object" && "discard" in edit.verdict) return { changes: [], conclude: () => conclude(edit, null, 0, [], null, now) };
  if ("problem" in edit.base) found.refusals.push({ at: "file", task: null, reason: edit.base.problem });
  else mergeDocument(found, edit, edit.base.document, { reads, isDead, now, said, only: forced ? new Set(forced.only) : null });
  return {
    changes: [...found.changes, ...found.followers],
    conclude: (refused) => {
      const late = refused.map(({ at, reason }): Refusal => ({ at, task: found.changes.find((change) => change.at === at)?.task ?? null, reason }));
      return conclude(edit, forced, found.changes.filter(({ at }) => !late.some((refused) => refused.at === at)).length, [...found.refusals, ...late], said.list, now);
    },
  };
}

/* ---------- the document ---------- */

type Setting = { readonly reads: Reads; readonly isDead: (worker: string) => boolean; readonly now: number; readonly said: Said; readonly only: ReadonlySet<string> | null };

function mergeDocument(found: Found, edit: HandEdit, base: Json, setting: Setting): void {
  const { edited, headless } = edit;
  if (!isRow(edited) || !isRow(base)) return void found.refusals.push({ at: "file", task: null, reason: "it is not an object with a list of tasks" });
  const wanted = (at: string) => setting.only === null || setting.only.has(at);
  const refuse = (at: string, task: number | null, reason: string, value: Json = null) => {
    if (wanted(at) && (!setting.said.again(at, value) || setting.only !== null)) found.refusals.push({ at, task, reason });
  };
  const left: string[] = [];
  /** Runs one rule; what it throws is the refusal of that place. */
  const at = (place: string, task: number | null, rule: () => Change | null) => {
    if (!wanted(place)) return;
    try {
      const change = rule();
      if (change) found.changes.push({ at: place, task, change });
      for (const reason of left.splice(0)) found.refusals.push({ at: place, task, reason });
    } catch (error) {
      if (!(error instanceof PawlError)) throw error;
      found.refusals.push({ at: place, task, reason: lowered(messageOf(error)) });
    }
  };
  for (const key of Object.keys(edited)) if (key !== "pawl" && !LISTS.includes(key) && !sameJson(edited[key]!, base[key] ?? null)) refuse(key, null, "the file has no place for it; a task may have fields of its own", edited[key]!);
  if (Array.isArray(edited["tasks"])) mergeTasks(found, at, refuse, { base, edited, headless, left }, setting);
  else refuse("tasks", null, edited["tasks"] === undefined ? "the list of tasks is missing" : "it must be a list");
  mergeBatches(at, refuse, rowsOf(base["batches"]), edited, setting);
  if (!sameJson(base["decisions"] ?? [], edited["decisions"] ?? []) && !(headless && edited["decisions"] === undefined)) {
    refuse("decisions", null, "decisions are settled by: pawl approve, pawl deny, pawl answer", edited["decisions"] ?? null);
  }
}

type At = (place: string, task: number | null, rule: () => Change | null) => void;
/** `value` is what the refused place says: the same is not refused again. */
type Refuse = (place: string, task: number | null, reason: string, value?: Json) => void;

/** A view shows it with every task, and nobody writes it: an entry without it was written by a person or a script. */
const isFromView = (entry: Row): boolean => Object.hasOwn(entry, "created_at");

/** The ids of entries that come from a view: another that stands there was chosen by the person. */
function shownIn({ edited }: HandEdit): ReadonlySet<Json> {
  return new Set(isRow(edited) ? rowsOf(edited["tasks"]).filter(isFromView).map((row) => row["id"] ?? null) : []);
}

const rowsOf = (value: Json | undefined): readonly Row[] => (Array.isArray(value) ? (value.filter(isRow) as Row[]) : []);

function mergeTasks(found: Found, at: At, refuse: Refuse, { base, edited, headless, left }: { base: Row; edited: Row; headless: boolean; left: string[] }, { reads, isDead, now, said, only }: Setting): void {
  const bases = new Map(rowsOf(base["tasks"]).map((row) => [row["id"] as number, row]));
  const entries = (edited["tasks"] as readonly Json[]).map((entry, i) => ({ entry, place: `tasks[${i}]` }));
  const rows = entries.flatMap(({ entry, place }) => (isRow(entry) ? [{ entry, place }] : (refuse(place, null, "an entry must be an object", entry), [])));
  // Also one whose number a view gave to another task meanwhile is the entry that an earlier save added.
  const repeated = new Map(only ? [] : rows.filter(({ entry }) => !isFromView(entry)).flatMap((row) => {
    const id = said.addedBefore(row.entry);
    return id === undefined ? [] : [[row, id] as const];
  }));
  const known = rows.filter((row) => typeof row.entry["id"] === "number" && bases.has(row.entry["id"]) && !repeated.has(row));
  const others = rows.filter((row) => !known.includes(row) && (only === null || only.has(row.place)));
  const { added, again, twice, numbers } = sorted(others, reads, said, repeated);
  for (const { entry, place } of twice) refuse(place, null, `the id ${JSON.stringify(entry["id"])} stands more than once; leave it out of the new entries`, entry);
  const merge: Merge = { reads, by: { actor: EDITOR, now }, force: only !== null, headless, isDead, tasks: new Map(), left, said, numbers };
  addAll(at, merge, added);
  // An entry that was added by an earlier save, and changed in the same buffer since.
  for (const { entry, place, id } of again) at(place, id, () => mergeTask({ ...merge, headless: true }, id, (taskOf(merge, id) ?? {}) as unknown as Row, asOurs(entry, null)));
  const counts = new Map<Json, number>();
  for (const { entry } of known) counts.set(entry["id"]!, (counts.get(entry["id"]!) ?? 0) + 1);
  for (const { entry, place } of known) {
    const id = entry["id"] as number;
    const before = bases.get(id)!;
    const ours = asOurs(entry, before);
    at(place, id, () => {
      if (counts.get(id)! > 1 && editedFields(merge, before, ours).length > 0) throw refusal(`the id ${id} stands more than once; leave it out of the new entry`);
      return mergeTask(merge, id, before, ours);
    });
  }
  const removed = [...bases].filter(([id]) => !counts.has(id));
  const everything = removed.length > 1 && counts.size === 0 && only === null;
  for (const [id, before] of removed) {
    at(`task ${id}`, id, () => {
      if (!everything) return cancelRemoved(merge, id, before);
      if (said.again(`task ${id}`, null)) return null;
      throw refusal("every entry is gone, which is taken for a slip");
    });
  }
  followAll(found, merge);
}

/* ---------- added entries ---------- */

type Placed = { readonly entry: Row; readonly place: string };

/** Ids of added entries as written → as given here: the next free ones, unless the one it chose is free. */
function numbered(added: readonly Placed[], reads: Reads): Map<number, number> {
  const highest = reads.highest()["task"] ?? 0;
  const numbers = new Map<number, number>();
  const written = added.map(({ entry }) => entry["id"]).filter((id) => typeof id === "number" && Number.isSafeInteger(id)) as number[];
  for (const id of written) if (id > highest && id <= highest + GAP) numbers.set(id, id);
  let next = Math.max(highest, ...numbers.values());
  for (const id of written) if (!numbers.has(id)) numbers.set(id, ++next);
  return numbers;
}

/**
 * Entries that no view had: those to add, with their numbers; those that an earlier save added and that are still being
 * written, unless they are two of one number. What was added before as it stands is left out.
 */
function sorted(rows: readonly Placed[], reads: Reads, said: Said, repeated: ReadonlyMap<Placed, number | null>): { added: Placed[]; again: (Placed & { id: number })[]; twice: Placed[]; numbers: Map<number, number> } {
  const count = (written: Json | undefined) => rows.filter(({ entry }) => entry["id"] === written).length;
  const added: Placed[] = [];
  const twice: Placed[] = [];
  const again: (Placed & { id: number })[] = [];
  const before = new Map<number, number>();
  for (const row of rows) {
    const written = row.entry["id"];
    const known = repeated.get(row);
    const id = known ?? said.numbered(written);
    if (id !== undefined && typeof written === "number") before.set(written, id);
    if (known !== undefined) continue;
    if (id === undefined) added.push(row);
    else if (count(written) > 1) twice.push(row);
    else again.push({ ...row, id });
  }
  return { added, again, twice, numbers: new Map([...before, ...numbered(added, reads)]) };
}

/** Adds each entry after those it depends on; what then is left depends on itself or on what is not there. */
function addAll(at: At, merge: Merge, added: readonly Placed[]): void {
  let next = Math.max(merge.reads.highest()["task"] ?? 0, ...merge.numbers.values());
  const open = added.map(({ entry, place }) => ({ entry, place, id: typeof entry["id"] === "number" ? merge.numbers.get(entry["id"]) : ++next }));
  const coming = new Set<Json | undefined>(open.flatMap(({ entry, id }) => [id, keyOf(entry)]));
  const add = ({ entry, place, id }: (typeof open)[number]) => {
    for (const name of [id, keyOf(entry)]) coming.delete(name);
    const free = id !== undefined && !merge.tasks.has(id);
    at(place, null, () => {
      if (id === undefined) throw refusal(`its id ${JSON.stringify(entry["id"])} is not a whole number`);
      if (merge.tasks.has(id)) throw refusal(`the id ${JSON.stringify(entry["id"])} stands more than once; leave it out of the new entries`);
      return addOne(merge, entry, id);
    });
    merge.said.added(entry, free && merge.tasks.has(id!) ? id! : null);
  };
  const waits = ({ entry }: Placed) => listed(entry["depends_on"]).some((name) => coming.has(typeof name === "number" ? merge.numbers.get(name) ?? name : name));
  for (let left = open; left.length > 0; ) {
    const free = left.filter((row) => !waits(row));
    for (const row of free.length > 0 ? free : left) add(row);
    left = free.length > 0 ? left.filter((row) => !free.includes(row)) : [];
  }
}

/** A text as id is a key, as in every task list. */
const keyOf = (entry: Row): Json | undefined => (typeof entry["id"] === "string" ? entry["id"] : typeof entry["key"] === "string" ? entry["key"] : undefined);
const listed = (value: Json | undefined): readonly Json[] => (Array.isArray(value) ? value : value === undefined || value === null ? [] : [value]);

function addOne(merge: Merge, raw: Row, id: number): Change {
  const entry = asOurs(raw, null);
  const unknown = Object.entries(entry).filter(([field]) => !isKnown(field) && !BOOKKEEPING.has(field));
  const draft = draftOf(Object.fromEntries(Object.entries(entry).filter(([field, value]) => (isKnown(field) || isDescription(field)) && !(field === "id" && value === null))));
  if (draft.status !== undefined && draft.status !== "pending" && !TERMINAL.has(draft.status)) throw refusal(`a new task cannot be ${draft.status}`);
  const depends_on = dependenciesNamed(merge, (draft.depends_on ?? []) as Json);
  const dependencies = existing(merge, depends_on);
  requireFreeKey(merge, id, draft.key ?? null);
  const now = merge.by.now;
  const task = { ...newTask(taskFields(null, { ...draft, line: 1, occurrence: 1 }, depends_on, {}, now), dependencies, now), ...Object.fromEntries(unknown), id } as Task;
  const marks = markDependencies(dependencies);
  noteMarks(merge, dependencies);
  merge.tasks.set(id, task);
  const puts = birth(task, id, { event: "created", actor: EDITOR, reason: "added by hand", details: null }, now);
  return { guards: [{ kind: "task", key: id, absent: true }], puts: [...puts, ...marks.puts], additions: marks.additions };
}

/** Whether pending tasks are ready follows from what they depend on, which this edit may have changed. */
function followAll(found: Found, merge: Merge): void {
  const changed = [...merge.tasks.keys()];
  const dependents = changed.flatMap((id) => (every(merge.reads, "dependency", { index: "dependents", equals: { depends_on_id: id } }) as { task_id: number }[]).map((edge) => edge.task_id));
  for (const id of new Set([...changed, ...dependents])) {
    const task = taskOf(merge, id);
    if (!task || task.status !== "pending") continue;
    const ready = shouldBeReady(merge, task);
    if (ready === isDue(task)) continue;
    const outcome = move(task, merge.by, { event: ready ? "unblocked" : "blocked", set: { ready, line: null } });
    merge.tasks.set(id, outcome.task);
    const own = found.changes.find((change) => change.task === id);
    if (own) own.change = joined(own.change, outcome.change);
    else found.followers.push({ at: `task ${id}`, change: outcome.change });
  }
}

/** Two changes of one task: the guards of the first hold for both. */
function joined(first: Change, second: Change): Change {
  return { ...first, puts: [...first.puts, ...second.puts] };
}

/* ---------- batches ---------- */

function mergeBatches(at: At, refuse: Refuse, bases: readonly Row[], edited: Row, { reads, now, said, only }: Setting): void {
  if (edited["batches"] === undefined) return bases.length > 0 && edited["pawl"] !== undefined ? refuse("batches", null, "batches cannot be taken out") : undefined;
  if (!Array.isArray(edited["batches"])) return refuse("batches", null, "it must be a list");
  const entries = rowsOf(edited["batches"]);
  for (const [i, entry] of entries.entries()) {
    const base = bases.find((row) => row["id"] === entry["id"]);
    if (!base) refuse(`batches[${i}]`, null, "a batch is made by: pawl run FILE, pawl import FILE", entry);
    else if (!sameJson(base, entry)) at(`batches[${i}]`, null, () => (said.again(`batch ${String(entry["id"])}`, entry) && only === null ? null : mergeBatch(reads, base, entry, now, only !== null)));
  }
  for (const base of bases) if (!entries.some((entry) => entry["id"] === base["id"])) refuse(`batch ${String(base["id"])}`, null, "a batch cannot be taken out; cancel its tasks");
}

function mergeBatch(reads: Reads, base: Row, entry: Row, now: number, force: boolean): Change | null {
  const fields = [...new Set([...Object.keys(base), ...Object.keys(entry)])].filter((field) => !sameJson(base[field] ?? null, entry[field] ?? null));
  if (fields.length === 0) return null;
  const id = base["id"] as string;
  const current = reads.get("batch", id);
  if (!current) throw refusal("it was removed since");
  const set: { [field: string]: Json } = {};
  for (const field of fields) {
    const value = entry[field] ?? null;
    if (!BATCH_FIELDS.has(field)) throw refusal(`${field} cannot be edited; what can: ${[...BATCH_FIELDS].join(", ")}`);
    if (value !== null && !isRow(value)) throw refusal(`${field} must be an object`);
    if (value !== null && field !== "limits" && typeof value["kind"] !== "string") throw refusal(`${field} needs a "kind", as in {"kind": "command", "command": "…"}`);
    if (!force && !sameJson(current[field] ?? null, base[field] ?? null)) throw refusal(`its ${field} changed since`);
    set[field] = value;
  }
  return { guards: [{ kind: "batch", key: id, is: {} }], puts: [{ kind: "batch", key: id, set: { ...set, updated_at: iso(now) } as Fields }] };
}

/* ---------- the record ---------- */

function conclude(edit: HandEdit, forced: Forced | null, changes: number, refusals: readonly Refusal[], said: readonly string[] | null, now: number): ReturnType<Reconciled["conclude"]> {
  const at = iso(now);
  const line = lineOf(changes, refusals);
  if (forced) {
    const set = { status: "accepted", refusals, changes: forced.changes + changes, settled_at: at, settled_by: edit.actor } as unknown as Fields;
    return { change: { puts: [{ kind: "edit", key: forced.id, set }] }, keep: refusals.length > 0, line };
  }
  const broken = typeof edit.verdict === "object" && "discard" in edit.verdict ? edit.verdict.discard : null;
  if (!broken && changes === 0 && refusals.length === 0 && edit.repairs.length === 0) return null;
  const status: EditStatus = broken ? "discarded" : refusals.length === 0 ? (edit.actor === null ? "merged" : "accepted") : changes > 0 ? "partly" : "refused";
  const settled = status === "accepted" || status === "discarded";
  const keep = refusals.length > 0 || broken !== null || edit.repairs.length > 0;
  const record: Omit<Edit, "id"> = {
    status, at, base_revision: edit.revision, hash: edit.hash, kept: keep ? edit.copy : null, changes, refusals, said, line: broken?.line ?? null, column: broken?.column ?? null,
    reason: broken?.why ?? null, repairs: edit.repairs.length > 0 ? edit.repairs : null,
    settled_at: settled ? at : null, settled_by: settled ? edit.actor : null,
  };
  const put: Put = { kind: "edit", record: record as unknown as Fields };
  return { change: { puts: [put] }, keep, line: broken ? "discarded" : line };
}

/** What became of it, for people: `2 changes taken over; refused: task 4 (it is …)`. */
function lineOf(changes: number, refusals: readonly Refusal[]): string {
  const taken = `${changes} ${changes === 1 ? "change" : "changes"} taken over`;
  if (refusals.length === 0) return taken;
  const named = refusals.slice(0, 3).map(({ at, task, reason }) => `${task === null ? at : `task ${task}`} (${reason})`);
  return `${taken}; refused: ${named.join("; ")}${refusals.length > 3 ? ` and ${refusals.length - 3} more` : ""}`;
}

/** A message as part of a sentence. */
const lowered = (message: string): string => message.replace(/^([A-Z])(?=[a-z])/, (letter) => letter.toLowerCase()).replace(/\.$/, "");

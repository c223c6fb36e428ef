// What the state file of another program becomes: a list of tasks, a map of tasks by id, or a batch with the lists of what
// is done. Pure. Invariants: the whole document is understood or it is refused with its line; nothing that was done is to be
// done again, and nothing that was not is taken for done; what has no place here is kept in the record "adopted".
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { checkJson, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Adoption, Change, Fields, Foreign, Put } from "../store/store.ts";
import { batchList, readBatch } from "./adopt-batch.ts";
import { idsOf, isRow, pastOf, prepared, type ForeignRow } from "./adopt-row.ts";
import { linkDependencies, planImport, type Link } from "./batch.ts";
import { taskFields } from "./batches.ts";
import { draftOf, type ListEntry, type Row } from "./list-entry.ts";
import { birth, newTask } from "./new-task.ts";
import { STATUSES, type Batch, type Item, type Status, type Task } from "./records.ts";
import { collector } from "./task-list.ts";

type Found = { readonly rows: readonly ForeignRow[]; readonly rest: Row; readonly batch: Batch | null; readonly notes: readonly string[] };

/** The name of the record that says where a state came from. */
const ADOPTED = "adopted";

/** Changes that make the document's tasks in an empty state; throws `usage` or `value_refused` with file and line. */
export function adopt(document: Json, from: Foreign & { readonly actor: string }): Adoption {
  const { rows, rest, batch, notes } = recognise(document, from);
  const { entries, collect } = collector(from.name);
  for (const { value, line } of rows) collect(line, () => draftOf(prepared(value)));
  const { links, order } = linkDependencies(entries, from.name);
  const ids = idsOf(entries);
  const dependencies = links.map((found, i) => found.map((link) => indexOf(link, from.name, entries[i]!)));
  const needed = new Set(dependencies.flat());
  const items = batch ? planImport(batch, [], entries).add.map(({ item }) => item) : [];
  const tasks = new Array<Task>(entries.length);
  const changes = new Array<Change>(entries.length);
  for (const i of order) {
    const entry = entries[i]!;
    const before = dependencies[i]!.map((index) => tasks[index]!);
    const fresh = newTask(taskFields(batch, entry, before.map(({ id }) => id), {}, from.now), before, from.now);
    const { fields, left } = pastOf(rows[i]!.value, fresh, from.now);
    const task: Task = { ...fresh, ...fields, id: ids[i]!, has_dependents: needed.has(i) };
    tasks[i] = task;
    changes[i] = { puts: [...birth(task, task.id, { event: "adopted", actor: from.actor, reason: `from ${from.name}`, details: detailsOf(entry, task, left) }, from.now), ...itemPut(items[i], task.id)] };
  }
  const origin: Put[] = [{ kind: "meta", record: { name: ADOPTED, value: { file: from.name, at: iso(from.now), actor: from.actor, fields: kept(rest) } } }];
  if (batch) origin.push({ kind: "batch", record: batch as unknown as Fields });
  return { changes: [{ puts: origin }, ...changes], notes: [...notesOf(entries, tasks, rest), ...notes] };
}

/** Which of the three it is; says what it takes when it is none. */
function recognise(document: Json, from: Foreign): Found {
  if (!isRow(document)) throw unknown(from);
  const list = batchList(document);
  if (list !== undefined) return { ...readBatch(document, list, from), rest: without(document, list) };
  const tasks = document["tasks"];
  if (Array.isArray(tasks)) return { rows: tasks.map((value: Json) => ({ value, line: from.lineOf(isRow(value) ? value : tasks) })), rest: without(document, "tasks"), batch: null, notes: [] };
  const map = tasks === undefined ? document : tasks;
  if (!isRow(map) || !Object.values(map).every(isRow)) throw unknown(from);
  const rows = Object.entries(map).map(([id, task]) => ({ value: named(id, task as Row, from), line: from.lineOf(task) }));
  return { rows: rows.sort(byBirth), rest: tasks === undefined ? {} : without(document, "tasks"), batch: null, notes: [] };
}

/** The task of a map, with the id it has there. */
function named(id: string, task: Row, from: Foreign): Row {
  if ((task["id"] ?? id) === id || String(task["id"]) === id) return { ...task, id: task["id"] ?? id };
  throw new PawlError("usage", `${from.name}:${from.lineOf(task)}: The task "${id}" says that its id is ${JSON.stringify(task["id"]).slice(0, 60)}.`, { next: "Make the two the same.", details: { line: from.lineOf(task) } });
}

/** A map has no order of its own; the tasks go by the time they were made, as a queue would have given them out. */
function byBirth(a: ForeignRow, b: ForeignRow): number {
  const at = ({ value }: ForeignRow) => String((value as Row)["created_at"] ?? "");
  return at(a) < at(b) ? -1 : at(a) > at(b) ? 1 : 0;
}

function indexOf(link: Link, name: string, entry: ListEntry): number {
  if ("entry" in link) return link.entry;
  throw new PawlError("usage", `${name}:${entry.line}: It depends on ${JSON.stringify("key" in link ? link.key : link.id)}, which is no task of this file.`, { next: "Take it out of depends_on, or add the task.", details: { line: entry.line } });
}

function itemPut(item: Omit<Item, "task_id"> | undefined, task_id: number): Put[] {
  return item ? [{ kind: "item", record: { ...item, task_id } }] : [];
}

/** What the file said and the task does not: another id or status, bookkeeping of another kind. */
function detailsOf(entry: ListEntry, task: Task, left: Row): Json {
  const details: Row = {
    ...(entry.status !== undefined && entry.status !== task.status ? { status: entry.status } : {}),
    ...(entry.ref !== undefined && entry.ref !== task.id ? { id: entry.ref } : {}), ...(Object.keys(left).length > 0 ? { left } : {}),
  };
  return Object.keys(details).length > 0 ? details : null;
}

/** The other fields of the file, when a record can hold them; the original file has them in any case. */
function kept(rest: Row): Json {
  return Object.keys(rest).length > 0 && checkJson(rest, "fields") <= LIMITS.valueBytes ? rest : null;
}

function notesOf(entries: readonly ListEntry[], tasks: readonly Task[], rest: Row): string[] {
  const counts = STATUSES.map((status) => [status, tasks.filter((task) => task.status === status).length] as const).filter(([, n]) => n > 0);
  const found = counts.map(([status, n]) => `${n} ${status}`).join(", ");
  const notes = [`${many(tasks.length, "task")}${found === "" ? "" : ` (${found})`}`];
  const held = entries.filter((entry, i) => tasks[i]!.status === "pending" && entry.status !== undefined && entry.status !== "pending").map((entry) => entry.status as Status);
  if (held.length > 0) notes.push(`${many(held.length, "task")} (${[...new Set(held)].join(", ")} there) ${held.length === 1 ? "is" : "are"} pending again, because nobody works on ${held.length === 1 ? "it" : "them"} here`);
  const moved = entries.flatMap(({ ref }, i) => (ref !== undefined && ref !== tasks[i]!.id ? [`${ref} → ${tasks[i]!.id}`] : []));
  if (moved.length > 0) notes.push(`ids that were taken or not above zero have changed: ${moved.slice(0, 10).join(", ")}${moved.length > 10 ? " …" : ""}`);
  if (Object.keys(rest).length > 0) notes.push(`its other fields (${Object.keys(rest).slice(0, 10).join(", ")}) are kept in the state`);
  return notes;
}

const many = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? "" : "s"}`;
const without = (row: Row, name: string): Row => Object.fromEntries(Object.entries(row).filter(([field]) => field !== name));

function unknown(from: Foreign): PawlError {
  return new PawlError("usage", `${from.name}:1: It is no state that Pawl knows: neither {"tasks": […]}, nor tasks by their ids, nor a batch with features or items.`, {
    next: `If it is a task list, import it into a state: pawl import ${from.name}. Else name another path for the state.`,
    details: { line: 1 },
  });
}

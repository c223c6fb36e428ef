// A batch is a list of tasks worked as one. Each line of the list has one item, and the item names the task made from it,
// so a list can be imported again and again: planning compares lines with items by key and says only what is missing.
// Invariants: importing twice, or after a crash in the middle, adds exactly the missing lines, each once; a line that
// vanishes takes no task with it (its item is only marked); everything here is pure, whoever calls commits.
import { iso, parseIso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { isDue } from "./line.ts";
import { itemKey, type ListEntry } from "./list-entry.ts";
import { percent } from "./progress.ts";
import type { Batch, Item, Status, Task } from "./records.ts";

/** `batch-20251116-123456`, in UTC; `-2`, `-3` … behind it while the id is taken. */
export function newBatchId(now: number, taken: (id: string) => boolean): string {
  const id = `batch-${iso(now).slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-")}`;
  if (!taken(id)) return id;
  let n = 2;
  while (taken(`${id}-${n}`)) n++;
  return `${id}-${n}`;
}

/* ---------- import ---------- */

/** An item still to be made: its task is added and the item with the task's id, in one change. */
export type NewItem = { readonly item: Omit<Item, "task_id">; readonly entry: ListEntry };

export type ImportPlan = {
  readonly add: readonly NewItem[];
  /** Items as they should be: the line vanished, came back, or stands elsewhere now. */
  readonly gone: readonly Item[];
  readonly back: readonly Item[];
  readonly moved: readonly Item[];
};

/** What makes the items of a batch agree with its list. With nothing to do, all four are empty. */
export function planImport(batch: Pick<Batch, "id">, existing: readonly Item[], entries: readonly ListEntry[]): ImportPlan {
  const items = new Map(existing.map((item) => [item.key, item]));
  const listed = new Set<string>();
  const add: NewItem[] = [];
  const back: Item[] = [];
  const moved: Item[] = [];
  entries.forEach((entry, i) => {
    const key = itemKey(entry);
    const position = i + 1;
    if (listed.has(key)) throw new PawlError("usage", `The list has two entries with the key "${key}".`, { next: "Give each a key of its own.", details: { key } });
    listed.add(key);
    const item = items.get(key);
    if (item === undefined) add.push({ item: { batch_id: batch.id, key, name: itemName(entry), position, removed: false }, entry });
    else if (item.removed) back.push({ ...item, removed: false, position });
    else if (item.position !== position) moved.push({ ...item, position });
  });
  const gone = existing.filter((item) => !item.removed && !listed.has(item.key)).map((item) => ({ ...item, removed: true }));
  return { add, gone, back, moved };
}

/** What a person calls the item: its key, else its description. */
function itemName(entry: ListEntry): string {
  return (entry.key ?? entry.description).slice(0, LIMITS.nameChars).replace(/[\ud800-\udbff]$/, "");
}

/** What an entry depends on: another entry of the list (by index), or a task of the state by key or id. */
export type Link = { readonly entry: number } | { readonly key: string } | { readonly id: number };

/**
 * Tells apart what `depends_on` names: first an entry of the same list (a text: its key; a number: the id it has in the
 * list), else a task of the state. `order` is the order in which to add the entries so that each comes after those it
 * depends on, else as listed. A circle is refused with its lines.
 */
export function linkDependencies(entries: readonly ListEntry[], fileName: string): { links: readonly (readonly Link[])[]; order: readonly number[] } {
  const keys = new Map<string, number>();
  const refs = new Map<number, number[]>();
  entries.forEach((entry, i) => {
    if (entry.key !== undefined) keys.set(entry.key, i);
    if (entry.ref !== undefined) refs.set(entry.ref, [...(refs.get(entry.ref) ?? []), i]);
  });
  const place = (i: number) => `${fileName === "-" ? "stdin" : fileName}:${entries[i]?.line}`;
  const resolve = (name: string | number, i: number): Link => {
    const key = keys.get(String(name));
    const ref = refs.get(Number(name)) ?? [];
    if (ref.length > 1 && (typeof name === "number" || key === undefined)) {
      const lines = ref.map((index) => entries[index]?.line).join(", ");
      throw new PawlError("usage", `${place(i)}: It depends on ${name}, and several entries have this id (lines ${lines}).`, { next: "Give each entry an id of its own.", details: { ref: name } });
    }
    const index = typeof name === "number" ? (ref[0] ?? key) : (key ?? ref[0]);
    if (index !== undefined) return { entry: index };
    return typeof name === "number" ? { id: name } : { key: name };
  };
  const links = entries.map((entry, i) => (entry.depends_on ?? []).map((name) => resolve(name, i)));
  return { links, order: orderOf(links, place) };
}

/** Depth first without recursion: a list may be one chain of a million. */
function orderOf(links: readonly (readonly Link[])[], place: (index: number) => string): number[] {
  const order: number[] = [];
  const state = new Uint8Array(links.length); // 0 not seen, 1 on the path, 2 in the order
  const next = new Uint32Array(links.length);
  for (let root = 0; root < links.length; root++) {
    const path = state[root] === 0 ? [root] : [];
    for (let at = path.at(-1); at !== undefined; at = path.at(-1)) {
      state[at] = 1;
      const link = links[at]?.[next[at]++ as number];
      if (link === undefined) {
        state[at] = 2;
        order.push(at);
        path.pop();
      } else if ("entry" in link && state[link.entry] === 1) {
        throw circle([...path.slice(path.indexOf(link.entry)), link.entry].map(place));
      } else if ("entry" in link && state[link.entry] === 0) {
        path.push(link.entry);
      }
    }
  }
  return order;
}

function circle(places: readonly string[]): PawlError {
  const shown = places.length > 12 ? [...places.slice(0, 6), "…", ...places.slice(-6)] : places;
  return new PawlError("usage", `The dependencies go in a circle: ${shown.join(" → ")}.`, { next: "Leave one of these dependencies out.", details: { path: shown } });
}

/* ---------- summary ---------- */

export type BatchSummary = {
  readonly total: number;
  readonly completed: number;
  readonly failed: number;
  readonly waiting: number;
  /** Of the pending: those behind a failed or cancelled task. */
  readonly blocked: number;
  readonly cancelled: number;
  readonly pending: number;
  readonly in_progress: number;
  readonly review: number;
  readonly progress_percent: number;
};

/** The counts by status as one summary; `blocked` tasks are pending ones and counted there too. */
export function summarize(counts: { readonly [status in Status]?: number }, blocked = 0): BatchSummary {
  const { completed = 0, failed = 0, waiting = 0, cancelled = 0, pending = 0, in_progress = 0, review = 0 } = counts;
  const total = completed + failed + waiting + cancelled + pending + in_progress + review;
  return { total, completed, failed, waiting, blocked, cancelled, pending, in_progress, review, progress_percent: percent(completed, total) };
}

/** The same of tasks at hand. */
export function summarizeTasks(tasks: readonly Task[]): BatchSummary {
  const counts: { [status in Status]?: number } = {};
  for (const { status } of tasks) counts[status] = (counts[status] ?? 0) + 1;
  return summarize(counts, tasks.filter(isBlocked).length);
}

/** Pending, and neither due nor delayed: it is behind another task. */
export function isBlocked(task: Task): boolean {
  return task.status === "pending" && !isDue(task) && task.run_at === null;
}

/** True when nothing is left undone. Failed and cancelled are ends, not completions: such a batch is never all completed. */
export function allCompleted(summary: Pick<BatchSummary, "total" | "completed">): boolean {
  return summary.completed === summary.total;
}

/** Until when a usage limit keeps it from being started, when one does. */
export function pausedUntil(batch: Batch, now: number): string | null {
  const { paused_until } = (batch.limits ?? {}) as { paused_until?: string };
  return paused_until !== undefined && parseIso(paused_until) > now ? paused_until : null;
}

/* ---------- the context of the model that works on it ---------- */

export type ContextClear = { readonly at: string; readonly tokens_before: number; readonly item?: string };

export function shouldClearContext(tokens: number, threshold: number = LIMITS.contextTokens): boolean {
  if (!Number.isSafeInteger(threshold) || threshold < 1) throw new PawlError("usage", `The threshold must be a whole number of tokens of at least 1, not ${threshold}.`);
  return tokens >= threshold;
}

/** The fields to set after the context was cleared: the count starts anew, the clearing is kept. */
export function recordContextClear(batch: Pick<Batch, "tokens" | "context_clears">, now: number, item?: string): Pick<Batch, "tokens" | "context_clears" | "updated_at"> {
  const before = Array.isArray(batch.context_clears) ? (batch.context_clears as readonly Json[]) : [];
  const clear: ContextClear = { at: iso(now), tokens_before: batch.tokens, ...(item === undefined ? {} : { item }) };
  return { tokens: 0, context_clears: [...before, clear], updated_at: iso(now) };
}

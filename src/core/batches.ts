// The verbs of a batch: make it, import its list (each line once, however often and however interrupted), find the one to
// resume, count it, and the small handle a program works one with. The rules are in batch.ts.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import type { Change, Fields, Rec } from "../store/store.ts";
import { isBlocked, linkDependencies, newBatchId, pausedUntil, planImport, recordContextClear, shouldClearContext, summarize, type BatchSummary, type Link } from "./batch.ts";
import { commitUsage } from "./breakers.ts";
import { notFound, type Committer } from "./committer.ts";
import { itemKey, type ListEntry } from "./list-entry.ts";
import { addTask, allCompleted, DEFAULT_QUEUE, type NewTask } from "./new-task.ts";
import { deriveReady } from "./dependency.ts";
import { fillVacancies } from "./slots.ts";
import { TERMINAL, type Batch, type Item, type Status, type Task } from "./records.ts";
import { allTasks, cancelTask, completeTask, editTask, failTask, findByKey, findTask } from "./tasks.ts";

export type NewBatch = { readonly source?: string | null; readonly queue?: string; readonly executor?: Json; readonly verifier?: Json; readonly limits?: Json };

/** Makes an empty batch; its id says when. */
export async function createBatch(committer: Committer, fields: NewBatch): Promise<Batch> {
  const taken = new Set<string>();
  for (;;) {
    const now = committer.store.clock.now();
    const id = newBatchId(now, (candidate) => taken.has(candidate));
    const batch: Batch = {
      id, source: fields.source ?? null, queue: fields.queue ?? DEFAULT_QUEUE, executor: fields.executor ?? null, verifier: fields.verifier ?? null,
      limits: fields.limits ?? null, worker: null, tokens: 0, context_clears: null, created_at: iso(now), updated_at: iso(now),
    };
    const result = await committer.commit({ guards: [{ kind: "batch", key: id, absent: true }], puts: [{ kind: "batch", record: batch as unknown as Fields }] });
    if (result.ok) return batch;
    if ("error" in result) throw result.error;
    taken.add(id);
  }
}

export async function getBatch(committer: Committer, id: string): Promise<Batch> {
  const [batch] = await committer.store.get("batch", [id]);
  if (!batch) throw new PawlError("not_found", `batch not found: ${id}`, { next: "See what there is: pawl batch list." });
  return batch as unknown as Batch;
}

/** Batches, newest first. */
export async function listBatches(committer: Committer, limit = 1000): Promise<Batch[]> {
  return (await committer.store.list("batch", { index: "created", reverse: true, limit })) as unknown as Batch[];
}

/** The newest batch made from this list, or null. */
export async function batchOf(committer: Committer, source: string): Promise<Batch | null> {
  const [batch] = await committer.store.list("batch", { index: "source", equals: { source }, reverse: true, limit: 1 });
  return (batch ?? null) as Batch | null;
}

/** Changes what a batch remembers. */
export async function updateBatch(committer: Committer, id: string, set: Partial<Batch>): Promise<Batch> {
  const result = await committer.commit({ puts: [{ kind: "batch", key: id, set: { ...set, updated_at: iso(committer.store.clock.now()) } as Fields }] });
  if (!result.ok && "error" in result) throw result.error;
  return getBatch(committer, id);
}

/** A usage limit that the batch remembers holds no longer: the tasks that met it are due. */
export async function liftPause(committer: Committer, batch: Batch, actor: string): Promise<void> {
  const until = pausedUntil(batch, committer.store.clock.now());
  if (until === null) return;
  for (const task of await allTasks(committer, { batch_id: batch.id, status: "pending" })) if (task.run_at === until) await editTask(committer, task.id, { run_at: null }, { actor });
}

/** Counts by status. `blocked` are pending tasks that wait for others. */
export async function summaryOf(committer: Committer, batchId: string): Promise<BatchSummary> {
  const counts = (await committer.store.count("task", { index: "batch", equals: { batch_id: batchId } }, "status")) as { [status in Status]?: number };
  if (!counts.pending) return summarize(counts);
  const pending = (await committer.store.list("task", { index: "batch", equals: { batch_id: batchId, status: "pending" } })) as unknown as Task[];
  return summarize(counts, pending.filter(isBlocked).length);
}

/** True while some of its tasks have not ended. */
export async function isUnfinished(committer: Committer, batchId: string): Promise<boolean> {
  const counts = await committer.store.count("task", { index: "batch", equals: { batch_id: batchId } }, "status");
  return Object.entries(counts).some(([status, n]) => n > 0 && !TERMINAL.has(status as Status));
}

/** The newest batches of a queue that have due tasks, and how many. */
export async function dueInBatches(committer: Committer, queue: string): Promise<{ readonly batch: string; readonly due: number }[]> {
  const batches = (await listBatches(committer, 100)).filter((batch) => batch.queue === queue);
  const counted = await Promise.all(batches.map(async ({ id }) => ({ batch: id, due: await committer.store.count("task", { index: "due", equals: { queue, batch_id: id } }) })));
  return counted.filter(({ due }) => due > 0);
}

/** Queues but this one that have due tasks outside of batches, and how many. */
export async function dueInQueues(committer: Committer, but: string): Promise<{ readonly queue: string; readonly due: number }[]> {
  const queues = Object.keys(await committer.store.count("task", { index: "due" }, "queue")).filter((queue) => queue !== but);
  const counted = await Promise.all(queues.map(async (queue) => ({ queue, due: await committer.store.count("task", { index: "due", equals: { queue, batch_id: null } }) })));
  return counted.filter(({ due }) => due > 0);
}

export async function itemsOf(committer: Committer, batchId: string): Promise<Item[]> {
  const items: Item[] = [];
  let after: Rec | undefined;
  do {
    const page = await committer.store.list("item", { index: "position", equals: { batch_id: batchId }, ...(after ? { after } : {}) });
    items.push(...(page as unknown as Item[]));
    after = page.length > 0 ? page.at(-1) : undefined;
  } while (after);
  return items;
}

export type ImportReport = { readonly added: number; readonly known: number; readonly gone: number; readonly back: number };

/** What every task of a batch gets unless its line says otherwise. */
export type ItemDefaults = Pick<NewTask, "max_attempts" | "timeout_ms" | "verifier"> & { readonly deadline_ms?: number };

/** Throws what the dependencies of a list may not be, before anything is written for it: a circle, or a task that is nowhere. */
export async function checkLinks(committer: Committer, entries: readonly ListEntry[], fileName: string): Promise<void> {
  for (const [i, links] of linkDependencies(entries, fileName).links.entries()) {
    for (const link of links) {
      if ("entry" in link || (await findLinked(committer, link))) continue;
      const place = `${fileName === "-" ? "stdin" : fileName}:${entries[i]!.line}`;
      const named = JSON.stringify("key" in link ? link.key : link.id);
      throw new PawlError("not_found", `${place}: It depends on ${named}, and there is no such task in the list or in the state.`, { next: "Correct depends_on, or add the task first.", details: { line: entries[i]!.line } });
    }
  }
}

/** Makes the batch agree with its list. Every line's task and item are one change, so a crash anywhere leaves no line twice. */
export async function importEntries(committer: Committer, batch: Batch, entries: readonly ListEntry[], fileName: string, defaults: ItemDefaults, actor: string): Promise<ImportReport> {
  const existing = await itemsOf(committer, batch.id);
  const plan = planImport(batch, existing, entries);
  const { links, order } = linkDependencies(entries, fileName);
  const taskOf = new Map(existing.map((item) => [item.key, item.task_id]));
  const adding = new Map(plan.add.map((add) => [add.entry, add.item]));
  const ids = new Array<number | undefined>(entries.length);
  let flight: Promise<unknown>[] = [];
  for (const i of order) {
    const entry = entries[i]!;
    const item = adding.get(entry);
    if (!item) {
      ids[i] = taskOf.get(itemKey(entry));
      continue;
    }
    // Only a line that depends on one still on its way must wait for that one's id.
    if (links[i]!.some((link) => "entry" in link && ids[link.entry] === undefined)) {
      await Promise.all(flight);
      flight = [];
    }
    const depends_on = await Promise.all(links[i]!.map((link) => idOfLink(committer, link, ids)));
    flight.push(importOne(committer, batch, entry, item, depends_on, defaults, actor).then((id) => (ids[i] = id)));
    if (flight.length >= 1000) {
      await Promise.all(flight);
      flight = [];
    }
  }
  await Promise.all(flight);
  await fillVacancies(committer, actor);
  const changed = [...plan.gone, ...plan.back, ...plan.moved];
  await Promise.all(changed.map((item) => committer.commit({ puts: [{ kind: "item", key: [item.batch_id, item.key], set: { removed: item.removed, position: item.position } }] })));
  return { added: plan.add.length, known: entries.length - plan.add.length, gone: plan.gone.length, back: plan.back.length };
}

async function idOfLink(committer: Committer, link: Link, ids: readonly (number | undefined)[]): Promise<number> {
  if ("entry" in link) return ids[link.entry]!;
  const task = await findLinked(committer, link);
  if (!task) throw notFound("key" in link ? link.key : link.id);
  return task.id;
}

/** A task that is not in the list. A key of digits is a key here, whatever ids there are. */
function findLinked(committer: Committer, link: Exclude<Link, { entry: number }>): Promise<Task | null> {
  return "key" in link ? findByKey(committer, link.key) : findTask(committer, link.id);
}

async function importOne(committer: Committer, batch: Batch, entry: ListEntry, item: Omit<Item, "task_id">, depends_on: number[], defaults: ItemDefaults, actor: string): Promise<number> {
  const now = committer.store.clock.now();
  const found = depends_on.length === 0 ? [] : ((await committer.store.get("task", depends_on)) as unknown as Task[]);
  const { change, task } = addTask(taskFields(batch, entry, depends_on, defaults, now), found, { actor, now });
  const itemGuard = { kind: "item", key: [item.batch_id, item.key], absent: true } as const;
  const withItem: Change = { ...change, guards: [itemGuard, ...change.guards!], puts: [...change.puts, { kind: "item", record: { ...item, task_id: { $new: 0 } } }] };
  const result = await committer.commit(withItem);
  if (result.ok) {
    if (!task.ready && task.status === "pending" && !allCompleted(found)) await deriveReady(committer, [result.ids[0] as number], actor);
    return result.ids[0] as number;
  }
  if ("error" in result) throw result.error;
  // Another process imported the line first, or its key names a task that is there: both are what was wanted.
  if (result.conflict.kind === "item") return result.conflict.record!["task_id"] as number;
  const known = result.conflict.record as Task | null;
  if (!known || known.key !== entry.key || known.description !== entry.description) {
    throw new PawlError("conflict", `Line ${entry.line}: the key "${entry.key}" belongs to another task${known ? ` (${known.id})` : ""}.`, { next: "Give the line a key of its own." });
  }
  await committer.commit({ guards: [itemGuard], puts: [{ kind: "item", record: { ...item, task_id: known.id } }] });
  return known.id;
}

/** What an entry says of its task. In a batch the queue is the batch's. Nobody works on it here: it has ended, or is pending. */
export function taskFields(batch: Pick<Batch, "id" | "queue"> | null, entry: ListEntry, depends_on: number[], defaults: ItemDefaults, now: number): NewTask {
  const { key, input, priority, tags, run_at, result } = entry;
  const status = entry.done ? "completed" : entry.status && TERMINAL.has(entry.status) ? entry.status : "pending";
  const deadlineMs = entry.deadline_ms ?? (entry.deadline_at === undefined ? defaults.deadline_ms : undefined);
  return {
    description: entry.description, depends_on, status, ...(batch ? { batch_id: batch.id, queue: batch.queue } : optional("queue", entry.queue)),
    ...(key === undefined ? {} : { key }), ...(input === undefined ? {} : { input }), ...(priority === undefined ? {} : { priority }),
    ...(tags === undefined ? {} : { tags }), ...(run_at === undefined ? {} : { run_at }), ...(result === undefined ? {} : { result }),
    ...optional("max_attempts", entry.max_attempts ?? defaults.max_attempts), ...optional("timeout_ms", entry.timeout_ms ?? defaults.timeout_ms),
    ...optional("concurrency_key", entry.concurrency_key), ...optional("concurrency_limit", entry.concurrency_limit),
    ...optional("verifier", entry.verifier ?? defaults.verifier), ...optional("deadline_at", deadlineMs === undefined ? entry.deadline_at : iso(now + deadlineMs)),
  };
}

function optional<K extends string, V>(name: K, value: V | undefined): { [N in K]?: V } {
  return value === undefined ? {} : ({ [name]: value } as { [N in K]?: V });
}

/** One item of a batch and its task. */
export type BatchItem = { readonly name: string; readonly position: number; readonly task: Task };

/**
 * A batch as a program works it: item by item, each settled by name, key or task id. Every call is durable when it returns,
 * so a loop that died goes on with `load(id)` and `next()`.
 */
export class BatchHandle {
  readonly id: string;
  readonly #committer: Committer;
  readonly #actor: string;

  constructor(committer: Committer, id: string, actor: string) {
    this.#committer = committer;
    this.id = id;
    this.#actor = actor;
  }

  async items(): Promise<BatchItem[]> {
    const items = await itemsOf(this.#committer, this.id);
    const tasks = (await this.#committer.store.get("task", items.map((item) => item.task_id))) as unknown as (Task | null)[];
    return items.flatMap((item, i) => (tasks[i] ? [{ name: item.name, position: item.position, task: tasks[i] }] : []));
  }

  /** The first item that may be worked now: not ended, not behind an unfinished dependency, not delayed. Null when there is none. Reads only. */
  async next(): Promise<BatchItem | null> {
    return (await this.items()).find((item) => item.task.status === "pending" && item.task.ready) ?? null;
  }

  async complete(item: string | number, result: unknown = null): Promise<Task> {
    return completeTask(this.#committer, await this.#find(item), result, { actor: this.#actor });
  }

  async fail(item: string | number, error: string): Promise<Task> {
    return failTask(this.#committer, await this.#find(item), error, { actor: this.#actor });
  }

  async skip(item: string | number, reason: string): Promise<Task> {
    return cancelTask(this.#committer, await this.#find(item), { actor: this.#actor, reason });
  }

  /** Counts tokens a model has in its context. */
  async recordTokens(n: number): Promise<void> {
    if (!Number.isSafeInteger(n) || n < 0) throw new PawlError("usage", `Tokens must be a whole number of at least 0, not ${n}.`, { next: "Give the tokens used since the last call." });
    const change = { puts: [], additions: [{ kind: "batch", key: this.id, field: "tokens", n }] };
    const added = await commitUsage(this.#committer, `batch:${this.id}`, { tokens: n }, this.#actor, change);
    if (!added.ok) throw "error" in added ? added.error : new PawlError("not_found", `batch not found: ${this.id}`);
  }

  /** True when the context should be cleared (default: at 150,000 tokens). */
  async shouldClearContext(threshold?: number): Promise<boolean> {
    return shouldClearContext((await getBatch(this.#committer, this.id)).tokens, threshold);
  }

  /** The context was cleared: the tokens before are kept in `context_clears`, the count starts anew. */
  async recordContextClear(item?: string): Promise<void> {
    for (;;) {
      const batch = await getBatch(this.#committer, this.id);
      const set = recordContextClear(batch, this.#committer.store.clock.now(), item) as Fields;
      // Tokens counted in the meantime belong to the context that is being cleared: count them in and decide again.
      const result = await this.#committer.commit({ guards: [{ kind: "batch", key: this.id, is: { tokens: batch.tokens } }], puts: [{ kind: "batch", key: this.id, set }] });
      if (result.ok) return;
      if ("error" in result) throw result.error;
    }
  }

  summary(): Promise<BatchSummary> {
    return summaryOf(this.#committer, this.id);
  }

  async #find(item: string | number): Promise<number> {
    const items = await this.items();
    const found = items.filter((candidate) => candidate.task.id === item || candidate.name === item || candidate.task.key === item);
    if (found.length === 1) return found[0]!.task.id;
    throw new PawlError(found.length === 0 ? "not_found" : "conflict", found.length === 0 ? `item not found: ${item}` : `Several items of ${this.id} are called "${item}".`, {
      next: `Name it by its task id: ${(found.length === 0 ? items : found).slice(0, 5).map((candidate) => candidate.task.id).join(", ")}.`,
    });
  }
}

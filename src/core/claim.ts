// Which tasks a worker takes, and in what order: priority, then id, over the queues and batches it works, reviews included
// when it has their verifier. The store reads and locks; the rule here decides; claim and history are one change.
import { PawlError } from "../base/errors.ts";
import type { ClaimOrder, Query } from "../store/store.ts";
import { isRecount, KnownBreakers, type Passage } from "./breakers.ts";
import { Committer } from "./committer.ts";
import { asTask, type Task } from "./records.ts";
import { claim, claimReview, pastDeadline } from "./task.ts";
import { expireTask } from "./tasks.ts";

/** Where a worker looks: one queue of one batch, or (null) of the tasks outside batches. */
export type Lane = { readonly queue: string; readonly batch_id: string | null };

export type ClaimRequest = {
  readonly lanes: readonly Lane[];
  /** Take reviews of tasks that name this verifier; tasks that name none get it. */
  readonly verifier: string | null;
  /** This task only, wherever it is, if it is due. */
  readonly only?: number;
  readonly limit: number;
  readonly worker: string;
  readonly leaseMs: number;
  /** For history; the worker id unless a person claims. */
  readonly actor?: string;
  /** What the caller knows of the breakers over its lanes from one claim to the next. A task claimed by its id is asked for by name: no breaker holds it. */
  readonly breakers?: KnownBreakers;
};

/** How often the breakers may change under one claim before it leaves its lanes for the next. */
const TRIES = 10;

/** Claims up to `limit` tasks, those of its lanes that no breaker holds back. A due task whose deadline has passed is failed instead, and not returned. */
export async function claimDue(committer: Committer, request: ClaimRequest): Promise<Task[]> {
  if (request.only !== undefined) return claimPast(committer, request, null);
  const { breakers = new KnownBreakers(), actor = request.worker } = request;
  const claimed: Task[] = [];
  for (let i = 0; i < TRIES; i++) {
    try {
      for (const passage of await breakers.passages(committer, request.lanes, actor)) {
        const limit = Math.min(request.limit - claimed.length, passage.limit);
        if (limit > 0) claimed.push(...(await claimPast(committer, { ...request, lanes: passage.lanes, limit }, passage)));
      }
      return claimed;
    } catch (error) {
      if (error !== CHANGED) throw error;
      breakers.forget();
    }
  }
  return claimed;
}

/** A breaker is not as it was read: nothing was claimed. */
const CHANGED = new PawlError("conflict", "A breaker changed.");

async function claimPast(committer: Committer, request: ClaimRequest, passage: Passage<Lane> | null): Promise<Task[]> {
  for (;;) {
    const { claimed, late } = await claimOnce(committer, request, passage);
    for (const task of late) await expireTask(committer, task, request.actor ?? request.worker);
    if (claimed.length > 0 || late.length === 0) return claimed;
  }
}

async function claimOnce(committer: Committer, request: ClaimRequest, passage: Passage<Lane> | null): Promise<{ claimed: Task[]; late: Task[] }> {
  let claimed: Task[] = [];
  let late: Task[] = [];
  const result = await committer.claim(orderOf(request), (records, now) => {
    claimed = [];
    const due = records.map(asTask).filter((task) => claimable(task, request));
    late = due.filter((task) => pastDeadline(task, now));
    const outcomes = due.filter((task) => !pastDeadline(task, now)).map((task) => {
      const by = { actor: request.actor ?? request.worker, now };
      const outcome = task.status === "review" ? claimReview(task, request.worker, request.leaseMs, by) : claim(task, request.worker, request.leaseMs, by, request.verifier);
      claimed.push(outcome.task);
      return outcome;
    });
    if (outcomes.length === 0) return null;
    // Of the tasks no guards: they were read inside this very transaction. The breakers were read before it.
    const { guards = [], puts = [], additions = [] } = passage?.admit(outcomes, now) ?? {};
    return { guards, puts: [...outcomes.flatMap((outcome) => outcome.change.puts), ...puts], additions };
  });
  if (result === null) return { claimed: [], late };
  if (result.ok) return { claimed, late };
  if ("conflict" in result && isRecount(result.conflict)) throw CHANGED;
  // The rule saw the records inside the transaction: nothing can have changed under it.
  throw "error" in result ? result.error : new PawlError("internal", "A claim conflicted with itself.");
}

const claimable = (task: Task, request: ClaimRequest) => task.ready && (task.status !== "review" || task.verifier === request.verifier);

/** True when a claim would find something. Takes no lock and writes nothing, so a worker with nothing to do disturbs nobody. */
export async function anyDue(committer: Committer, request: ClaimRequest): Promise<boolean> {
  for (const query of orderOf(request).queries) {
    const [record] = await committer.store.list("task", { ...query, limit: 1 });
    if (record && claimable(asTask(record), request)) return true;
  }
  return false;
}

function orderOf(request: ClaimRequest): ClaimOrder {
  if (request.only !== undefined) return { kind: "task", queries: [{ equals: { id: request.only } }], order: [], limit: 1 };
  const queries = request.lanes.flatMap((lane): Query[] => {
    const due: Query = { index: "due", equals: { queue: lane.queue, batch_id: lane.batch_id } };
    if (request.verifier === null) return [due];
    return [due, { index: "review", equals: { queue: lane.queue, batch_id: lane.batch_id, verifier: request.verifier } }];
  });
  return { kind: "task", queries, order: ["priority"], limit: request.limit };
}

/** The task a claim of this lane would give first, without taking it. */
export async function nextDue(committer: Committer, lane: Lane): Promise<Task[]> {
  return (await committer.store.list("task", { index: "due", equals: { queue: lane.queue, batch_id: lane.batch_id }, limit: 1 })).map(asTask);
}

/** The tasks a claim of its lane would give before this due one, nearest first, `most` of them at the most. */
export async function dueBefore(committer: Committer, task: Task, most: number): Promise<Task[]> {
  return (await committer.store.list("task", { index: "due", equals: { queue: task.queue, batch_id: task.batch_id }, after: task, reverse: true, limit: most })).map(asTask);
}

/** True while something in these lanes will move by itself or is moving: due, delayed, worked on, sleeping. Blocked tasks and decisions do not count. */
export async function isMoving(committer: Committer, lanes: readonly Lane[], verifier: string | null): Promise<boolean> {
  const { store } = committer;
  const ours = (task: Task) => lanes.some((lane) => lane.queue === task.queue && lane.batch_id === task.batch_id);
  const some = async (query: Query, moves: (task: Task) => boolean) => (await store.list("task", query)).map(asTask).some((task) => ours(task) && moves(task));
  for (const lane of lanes) {
    if ((await nextDue(committer, lane)).length > 0) return true;
  }
  for (const { queue, batch_id } of lanes) if ((await store.list("task", { index: "in_line", equals: { queue, batch_id }, limit: 1 })).length > 0) return true;
  if (await some({ index: "lease" }, () => true)) return true;
  if (await some({ index: "delayed" }, (task) => task.status === "pending" || task.verifier === verifier)) return true;
  if (verifier !== null && (await some({ index: "status", equals: { status: "review" } }, (task) => task.ready && task.verifier === verifier))) return true;
  return some({ index: "status", equals: { status: "waiting" } }, sleeps);
}

function sleeps(task: Task): boolean {
  return Array.isArray(task.waiting_for) && (task.waiting_for as { kind?: string }[]).some((wait) => wait.kind === "timer");
}

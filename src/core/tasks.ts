// The verbs of a task: each reads what its rule needs, lets the rule decide, commits, and sees to what follows from it
// (dependents that become ready or blocked). The rules themselves are in task.ts and new-task.ts.
import { isPawlError, PawlError } from "../base/errors.ts";
import { canonical, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Addition, Conflict, Fields, Guard, Put, Query } from "../store/store.ts";
import { breakerIds } from "./breaker.ts";
import { counting, isRecount } from "./breakers.ts";
import { addChild } from "./child.ts";
import { followEnd, refuseOpenChildren, requireParent } from "./children.ts";
import { Committer, commitOrThrow, leaseLost, listAll, notFound, settle } from "./committer.ts";
import { deriveReady, dependentsOf, refuseCycle, shouldBeReady } from "./dependency.ts";
import { followChange } from "./follow.ts";
import { addTask, checkDescription, checkIsTask, checkTaskFields, markDependencies, type NewTask } from "./new-task.ts";
import { STATUSES, type Failure, type Status, type Step, type Task } from "./records.ts";
import { fillLines, fillVacancies } from "./slots.ts";
import { cancel, complete, expire, fail, failAttempt, heartbeat, isHeld, move, pastDeadline, reject, release, reopen, reset, retryTask, submit, type Outcome } from "./task.ts";
import { isHolder, type Token } from "./token.ts";
import { closingOf } from "./wait.ts";

/** A task by id (a number or its digits) or key, digits being a key only above every id so far; `not_found` when there is none. */
export async function getTask(committer: Committer, ref: number | string): Promise<Task> {
  const task = await findTask(committer, ref);
  if (!task) throw notFound(ref);
  return task;
}

export async function findTask(committer: Committer, ref: number | string): Promise<Task | null> {
  const id = typeof ref === "number" ? ref : /^[0-9]{1,15}$/.test(ref) ? Number(ref) : null;
  if (id !== null) {
    const task = (await committer.store.get("task", [id]))[0];
    if (task || typeof ref === "number") return (task ?? null) as Task | null;
    // A number that was given to a task is no other's name once that one is removed: who removes it twice means the same.
    if (id <= ((await committer.store.counters())["task"] ?? 0)) return null;
  }
  return findByKey(committer, String(ref));
}

export async function findByKey(committer: Committer, key: string): Promise<Task | null> {
  const found = await committer.store.list("task", { index: "key", equals: { key }, limit: 1 });
  return (found[0] ?? null) as Task | null;
}

export type TaskFilter = { readonly status?: Status; readonly batch_id?: string; readonly tag?: string; readonly limit?: number; readonly after?: number };

/** Tasks by id, at most `limit` (default and most: LIMITS.listRecords), after the id `after`. */
export async function listTasks(committer: Committer, filter: TaskFilter = {}): Promise<Task[]> {
  if (filter.tag !== undefined) return listTagged(committer, filter.tag, filter);
  const paged = (status: Status | null, batch_id: string | null): Query => ({
    ...(filter.after === undefined ? {} : { after: { id: filter.after, status, batch_id } }), ...(filter.limit === undefined ? {} : { limit: filter.limit }),
  });
  if (filter.batch_id !== undefined) {
    const batch_id = filter.batch_id;
    // A page of each status, merged: the index of a batch goes by status, a page of the result goes by id.
    const statuses = filter.status === undefined ? STATUSES : [filter.status];
    const pages = await Promise.all(statuses.map((status) => tasks(committer, { ...paged(status, batch_id), index: "batch", equals: { batch_id, status } })));
    return pages.flat().sort((a, b) => a.id - b.id).slice(0, filter.limit ?? LIMITS.listRecords);
  }
  const query = paged(filter.status ?? null, null);
  return tasks(committer, filter.status === undefined ? query : { ...query, index: "status", equals: { status: filter.status } });
}

/** Every task that fits, page by page. */
export async function allTasks(committer: Committer, filter: TaskFilter = {}): Promise<Task[]> {
  const found: Task[] = [];
  for (let page = await listTasks(committer, filter); page.length > 0; page = await listTasks(committer, { ...filter, after: page.at(-1)!.id })) found.push(...page);
  return found;
}

async function tasks(committer: Committer, query: Query): Promise<Task[]> {
  return (await committer.store.list("task", query)) as unknown as Task[];
}

async function listTagged(committer: Committer, tag: string, filter: TaskFilter): Promise<Task[]> {
  const edges = await committer.store.list("tag", { equals: { tag }, ...(filter.after === undefined ? {} : { after: { tag, task_id: filter.after } }) });
  const found = (await committer.store.get("task", edges.map((edge) => edge["task_id"] as number))).filter((task) => task !== null) as unknown as Task[];
  const fits = (task: Task) => (filter.status === undefined || task.status === filter.status) && (filter.batch_id === undefined || task.batch_id === filter.batch_id);
  return found.filter(fits).slice(0, filter.limit ?? LIMITS.listRecords);
}

/** Adds tasks in one flush, ids in the order of the list. A key that is taken gives the task that has it (when its description is the same). */
export async function addTasks(committer: Committer, list: readonly NewTask[], actor: string): Promise<Task[]> {
  list.forEach(checkIsTask);
  const { dependencies, parents } = list.some(isRelated) ? await relativesOf(committer, list) : NO_RELATIVES;
  const now = committer.store.clock.now();
  const adding = list.map((fields, i) => addUnder(fields, parents.get(fields.parent_id ?? 0) ?? null, dependencies[i] ?? [], { actor, now }));
  const results = await Promise.all(adding.map(({ change }) => committer.commit(change)));
  const added: Task[] = [];
  for (const [i, result] of results.entries()) {
    added.push(result.ok ? ({ id: result.ids[0] as number, ...adding[i]!.task } as Task) : (existing(result, list[i]!) ?? (await addTasks(committer, [list[i]!], actor))[0]!));
  }
  if (added.every((task) => task.ready)) return added;
  // A dependency may have been completed while this was on its way: whoever comes second looks again.
  const late = added.filter((task) => task.status === "pending" && !task.ready && task.depends_on.length > 0).map((task) => task.id);
  const moved = (await fillLines(committer, added, actor)) + (await deriveReady(committer, late, actor));
  if (moved === 0) return added;
  return (await committer.store.get("task", added.map((task) => task.id))) as unknown as Task[];
}

/** A task with a parent is added while that is still open; its revision rises, so that whoever is removing it decides again. */
function addUnder(fields: NewTask, parent: Task | null, dependencies: readonly Task[], by: { actor: string; now: number }): ReturnType<typeof addTask> {
  if (!parent) return addTask(fields, dependencies, by);
  const { change, task } = addChild(fields, parent, dependencies, by);
  const still: Guard = { kind: "task", key: parent.id, is: { status: parent.status } };
  const raised: readonly Addition[] = parent.has_children ? [{ kind: "task", key: parent.id, field: "revision", n: 1 }] : [];
  return { task, change: { ...change, guards: [...change.guards!, still], additions: [...(change.additions ?? []), ...raised] } };
}

/** What new tasks name: the dependencies of each, and the parents by id. */
type Relatives = { readonly dependencies: readonly (readonly Task[])[]; readonly parents: ReadonlyMap<number, Task> };

const NO_RELATIVES: Relatives = { dependencies: [], parents: new Map() };

const isRelated = (fields: NewTask): boolean => fields.depends_on !== undefined || fields.parent_id != null;

async function relativesOf(committer: Committer, list: readonly NewTask[]): Promise<Relatives> {
  const [dependencies, parents] = await Promise.all([dependenciesByTask(committer, list), parentsByTask(committer, list)]);
  return { dependencies, parents };
}

async function parentsByTask(committer: Committer, list: readonly NewTask[]): Promise<ReadonlyMap<number, Task>> {
  const wanted = [...new Set(list.flatMap((fields) => fields.parent_id ?? []))];
  const parents = new Map<number, Task>();
  for (const id of wanted) {
    const parent = await getTask(committer, id);
    await requireParent(committer, parent);
    parents.set(id, parent);
  }
  return parents;
}

async function dependenciesByTask(committer: Committer, list: readonly Pick<NewTask, "depends_on">[]): Promise<Task[][]> {
  for (const { depends_on } of list) if (depends_on !== undefined) checkTaskFields({ depends_on });
  const wanted = [...new Set(list.flatMap((fields) => fields.depends_on ?? []))];
  if (wanted.length === 0) return list.map(() => []);
  const found = await committer.store.get("task", wanted);
  const missing = wanted.find((_, i) => !found[i]);
  if (missing !== undefined) throw new PawlError("not_found", `Task ${missing}, named in depends_on, does not exist.`, { next: "See what there is: pawl list.", details: { id: missing } });
  const byId = new Map(wanted.map((id, i) => [id, found[i] as unknown as Task]));
  return list.map((fields) => (fields.depends_on ?? []).map((id) => byId.get(id)!));
}

/** The task that has the key already; null when only a dependency has moved since it was read: then it is decided again. */
function existing(result: { readonly conflict: Conflict } | { readonly error: PawlError }, fields: NewTask): Task | null {
  if ("error" in result) throw result.error;
  const task = result.conflict.record as Task | null;
  if (task && fields.key && task.key === fields.key && task.description === fields.description) return task;
  if (task && fields.key && task.key === fields.key) {
    throw new PawlError("conflict", `The key "${fields.key}" belongs to task ${task.id} ("${task.description.slice(0, 60)}").`, { next: "Use another key, or edit that task.", details: { id: task.id } });
  }
  if (task) return null;
  throw new PawlError("conflict", "A task named in depends_on was removed in the meantime.");
}

/** A person or a program settles a task; with the token of a claim it does so as its owner. */
export type Settling = { readonly actor: string; readonly token?: Token | undefined };

function by(settling: Settling, now: number): { actor: string; now: number; fence?: number } {
  return settling.token ? { actor: settling.actor, now, fence: settling.token.fence } : { actor: settling.actor, now };
}

/** Without the token nobody writes into what a live worker owns; with it, only while it is still the owner's. */
function requireFree(task: Task, settling: Settling): void {
  if (settling.token && (task.worker !== settling.token.worker || task.fence !== settling.token.fence)) throw leaseLost(task.id, task);
  if (settling.token || !isHeld(task)) return;
  throw new PawlError("conflict", `Task ${task.id} is being worked on by ${task.worker} until ${task.lease_expires_at}.`, {
    next: `Pass the token of its claim, or take it away first: pawl release ${task.id} --force.`,
    details: { id: task.id, worker: task.worker },
  });
}

async function settleTask(committer: Committer, ref: number | string, settling: Settling, rule: (task: Task, now: number) => Outcome | Promise<Outcome>): Promise<Task> {
  let before = await getTask(committer, ref);
  const decide = (task: Task, now: number) => {
    before = task; // the one the change was made on, which may be newer than the one read first
    return rule(task, now);
  };
  // What the owner of a claim says is the end of an execution, and counts as one; what a person says is none.
  const counted = counting(committer, settling.token ? breakerIds(before) : [], {}, settling.actor, decide);
  const done = await settle(committer, before, counted, settling.token ? { fence: settling.token.fence, again: isRecount } : {});
  await followChange(committer, before, done, settling.actor);
  return done;
}

/** The deadline passed: failed, and what it waited for withdrawn. True when this call did it. */
export async function expireTask(committer: Committer, task: Task, actor: string): Promise<boolean> {
  let expired = false;
  await settleIfThere(committer, task, actor, async (current, now) => {
    expired = pastDeadline(current, now);
    return expired ? expire(current, { actor, now }, await closingOf(committer, current.id)) : null;
  });
  return expired;
}

/** Settles a task found a moment ago, unless it was removed since or the rule (null) sees nothing left to do. */
export async function settleIfThere(committer: Committer, task: Task, actor: string, rule: (current: Task, now: number) => Promise<Outcome | null>): Promise<void> {
  let before = task;
  try {
    const after = await settle(committer, task, async (current, now) => {
      before = current;
      return (await rule(current, now)) ?? { task: current, change: { puts: [] } };
    });
    await followChange(committer, before, after, actor);
  } catch (error) {
    if (!isPawlError(error, "not_found")) throw error;
  }
}

/** Completed with this result. An owner's result still goes to the task's verifier; a person's word is final. */
export async function completeTask(committer: Committer, ref: number | string, result: unknown, settling: Settling): Promise<Task> {
  const value = canonical(result, "result");
  return settleTask(committer, ref, settling, async (task, now) => {
    requireFree(task, settling);
    if (settling.token && task.status === "in_progress") return release4review(submit(task, value, by(settling, now)), now, settling);
    return complete(task, value, by(settling, now), await closingOf(committer, task.id));
  });
}

/** A claim held by token ends with its result: what is left to do is the review, and that is anybody's. */
function release4review(outcome: Outcome, now: number, settling: Settling): Outcome {
  if (outcome.task.status !== "review") return outcome;
  const given = release(outcome.task, by(settling, now), "left for review");
  const [task, ...rest] = given.change.puts;
  const first = outcome.change.puts[0] as { set: Fields };
  const merged: Put = { kind: "task", key: outcome.task.id, set: { ...first.set, ...(task as { set: Fields }).set } };
  return { task: given.task, change: { guards: outcome.change.guards!, puts: [merged, ...outcome.change.puts.slice(1), ...rest] } };
}

/** Failed for good, or by an owner: this attempt failed (more may be left). */
export async function failTask(committer: Committer, ref: number | string, reason: string, settling: Settling & { permanent?: boolean }): Promise<Task> {
  const error: Failure = { message: reason || "failed without a reason", code: "reported", ...(settling.permanent === false ? {} : { permanent: true }) };
  return settleTask(committer, ref, settling, async (task, now) => {
    requireFree(task, settling);
    if (settling.token && task.status === "review") return reject(task, reason, by(settling, now));
    const closing = await closingOf(committer, task.id);
    if (settling.token && !error.permanent) return failAttempt(task, error, {}, 0.5, by(settling, now), closing);
    return fail(task, error, by(settling, now), closing);
  });
}

/** Extends a claim held by time. Every call that carries its token does this first; a worker renews its own. */
export async function renewClaim(committer: Committer, token: Token, leaseMs: number): Promise<void> {
  const task = await getTask(committer, token.id);
  requireFree(task, { actor: token.worker, token });
  if (!isHolder(token.worker)) return;
  await commitOrThrow(committer, heartbeat(token, leaseMs, committer.store.clock.now()), (conflict) => leaseLost(token.id, conflict.record));
}

/** Given back undone. Only its owner can, or anybody with `force`, which fences the owner off. */
export async function releaseTask(committer: Committer, ref: number | string, settling: Settling & { force?: boolean; reason?: string | undefined }): Promise<Task> {
  return settleTask(committer, ref, settling, (task, now) => {
    if (!settling.force) requireFree(task, settling);
    if (!isHeld(task)) throw new PawlError("illegal_transition", `Task ${task.id} is ${task.status}; nobody holds it.`, { details: { id: task.id, status: task.status } });
    return release(task, by(settling, now), settling.reason ?? (settling.force ? "taken from its worker" : "released"));
  });
}

export async function cancelTask(committer: Committer, ref: number | string, options: { actor: string; reason?: string | undefined }): Promise<Task> {
  return settleTask(committer, ref, options, async (task, now) => cancel(task, { actor: options.actor, now }, options.reason ?? null, await closingOf(committer, task.id)));
}

/** Failed → pending, its done steps kept unless `fresh`. A recorded failure of a step is forgotten, so that it runs again. */
export async function retryFailed(committer: Committer, ref: number | string, options: { actor: string; fresh?: boolean; deadline_at?: string | null; reason?: string | undefined }): Promise<Task> {
  checkTaskFields({ deadline_at: options.deadline_at ?? null });
  return settleTask(committer, ref, options, async (task, now) => {
    const steps = (await listAll(committer, "step", { equals: { task_id: task.id } })) as unknown as Step[];
    const forgotten = steps.filter((step) => step.status === "failed" && step.round === task.round).map((step): Put => ({ kind: "step", key: [step.task_id, step.round, step.key], delete: true }));
    return retryTask(task, { actor: options.actor, now }, {
      ...(options.fresh === undefined ? {} : { fresh: options.fresh }),
      ...(options.deadline_at === undefined ? {} : { deadline_at: options.deadline_at }),
      ready: await shouldBeReady(committer, { ...task, run_at: null }),
      closing: forgotten,
      reason: options.reason ?? null,
    });
  });
}

/** As if never run. A live worker loses it. */
export async function resetTask(committer: Committer, ref: number | string, options: { actor: string; reason?: string | undefined }): Promise<Task> {
  return settleTask(committer, ref, options, async (task, now) =>
    reset(task, { actor: options.actor, now }, await shouldBeReady(committer, { ...task, run_at: null }), await closingOf(committer, task.id), options.reason ?? null),
  );
}

/** Every task reset. Returns how many. */
export async function resetAll(committer: Committer, options: { actor: string; reason?: string | undefined }): Promise<number> {
  let n = 0;
  for (let page = await listTasks(committer, { limit: 1000 }); page.length > 0; page = await listTasks(committer, { limit: 1000, after: page.at(-1)!.id })) {
    await Promise.all(page.map((task) => resetTask(committer, task.id, options)));
    n += page.length;
  }
  return n;
}

export async function reopenTask(committer: Committer, ref: number | string, options: { actor: string; reason: string }): Promise<Task> {
  return settleTask(committer, ref, options, async (task, now) => reopen(task, { actor: options.actor, now }, await shouldBeReady(committer, { ...task, run_at: null }), options.reason));
}

export type TaskEdit = Partial<Pick<NewTask, "description" | "input" | "key" | "queue" | "priority" | "tags" | "depends_on" | "verifier" | "max_attempts" | "timeout_ms" | "run_at" | "deadline_at" | "concurrency_key" | "concurrency_limit">>;

/** Changes what a task says, not where it stands. What changed, from what to what, is in its history. */
export async function editTask(committer: Committer, ref: number | string, edit: TaskEdit, options: { actor: string }): Promise<Task> {
  checkEdit(edit);
  const target = await getTask(committer, ref);
  if (edit.depends_on) await refuseCycle(committer, target.id, edit.depends_on);
  const marks = markDependencies((await dependenciesByTask(committer, [edit]))[0]!);
  const task = await settle(committer, target, (current, now) => marked(editOutcome(current, edit, { actor: options.actor, now }), marks), {
    onConflict: (conflict) => (conflict.kind === "task" && conflict.record ? new PawlError("conflict", `The key "${edit.key}" belongs to another task.`, { details: { id: conflict.record["id"] } }) : null),
  });
  const moved = target.slot != null || task.line != null ? await fillVacancies(committer, options.actor) : 0;
  if (edit.depends_on === undefined && edit.run_at === undefined && moved === 0) return task;
  await deriveReady(committer, [task.id], options.actor);
  return getTask(committer, task.id);
}

/** What an edit may change, and whether it may be emptied. Nothing here says where a task stands. */
export const EDITABLE: { readonly [field in keyof Required<TaskEdit>]: { nullable: boolean } } = {
  description: { nullable: false }, input: { nullable: true }, key: { nullable: true }, queue: { nullable: false }, priority: { nullable: false }, tags: { nullable: false },
  depends_on: { nullable: false }, verifier: { nullable: true }, max_attempts: { nullable: false }, timeout_ms: { nullable: true }, run_at: { nullable: true }, deadline_at: { nullable: true }, concurrency_key: { nullable: true }, concurrency_limit: { nullable: true },
};

/** Throws `usage` when the edit touches what cannot be edited or holds what cannot be kept. */
export function checkEdit(edit: TaskEdit): void {
  for (const [field, value] of Object.entries(edit)) {
    if (!Object.hasOwn(EDITABLE, field)) throw new PawlError("usage", `The ${field} of a task cannot be edited.`, { next: `What can: ${Object.keys(EDITABLE).join(", ")}.`, details: { field } });
    if (value === null && !EDITABLE[field as keyof TaskEdit].nullable) throw new PawlError("usage", `The ${field} of a task cannot be empty.`, { details: { field } });
  }
  if (edit.description !== undefined) checkDescription(edit.description);
  checkTaskFields(edit);
}

export function marked(outcome: Outcome, marks: ReturnType<typeof markDependencies>): Outcome {
  return { task: outcome.task, change: { ...outcome.change, puts: [...outcome.change.puts, ...marks.puts], additions: marks.additions } };
}

export function editOutcome(task: Task, edit: TaskEdit, by: { actor: string; now: number }): Outcome {
  const wanted = Object.fromEntries(Object.entries(edit).filter(([, value]) => value !== undefined).map(([field, value]) => [field, canonical(value, field)]));
  const changed = Object.keys(wanted).filter((field) => JSON.stringify(wanted[field]) !== JSON.stringify(task[field as keyof Task]));
  if (changed.length === 0) throw new PawlError("usage", `Nothing of task ${task.id} would change.`, { next: `See it: pawl show ${task.id}.` });
  const details = Object.fromEntries(changed.map((field) => [field, { from: (task[field as keyof Task] ?? null) as Json, to: wanted[field]! }]));
  const set = Object.fromEntries(changed.map((field) => [field, wanted[field]])) as Partial<Task>;
  const delayed = set.run_at !== undefined && set.run_at !== null && task.status === "pending" ? { ready: false } : {};
  return move(task, by, { event: "edited", set: { ...set, ...delayed }, details, puts: edgePuts(task, set) });
}

/** Dependencies and tags are records of their own: the difference between old and new. */
function edgePuts(task: Task, set: Partial<Task>): Put[] {
  const puts: Put[] = [];
  for (const id of set.depends_on ? task.depends_on : []) if (!set.depends_on!.includes(id)) puts.push({ kind: "dependency", key: [task.id, id], delete: true });
  for (const id of set.depends_on ?? []) puts.push({ kind: "dependency", record: { task_id: task.id, depends_on_id: id } });
  for (const tag of set.tags ? task.tags : []) if (!set.tags!.includes(tag)) puts.push({ kind: "tag", key: [tag, task.id], delete: true });
  for (const tag of set.tags ?? []) puts.push({ kind: "tag", record: { tag, task_id: task.id } });
  return puts;
}

/** Removes a task; its id is never used again and its history stays. Refused while it is worked on or others depend on it. */
export async function removeTask(committer: Committer, ref: number | string, options: { actor: string; reason?: string | undefined }): Promise<Task> {
  const target = await getTask(committer, ref);
  const dependents = await dependentsOf(committer, target.id);
  if (dependents.length > 0) {
    throw new PawlError("conflict", `Task ${target.id} cannot be removed: ${dependents.length === 1 ? "task" : "tasks"} ${dependents.slice(0, 5).join(", ")} depend on it.`, { next: `Cancel it instead: pawl cancel ${target.id}.` });
  }
  const removed = await settle(committer, target, async (task, now) => {
    requireFree(task, options);
    if (task.has_children) await refuseOpenChildren(committer, task.id);
    const puts: Put[] = [
      ...(await closingOf(committer, task.id)),
      ...task.depends_on.map((id): Put => ({ kind: "dependency", key: [task.id, id], delete: true })),
      ...task.tags.map((tag): Put => ({ kind: "tag", key: [tag, task.id], delete: true })),
      { kind: "task", key: task.id, delete: true },
    ];
    return move(task, { actor: options.actor, now }, { event: "removed", set: { ready: false }, reason: options.reason ?? null, puts });
  });
  if (removed.parent_id !== null) await followEnd(committer, removed, options.actor);
  if (target.slot != null) await fillVacancies(committer, options.actor);
  return removed;
}

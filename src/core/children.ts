// The verbs of children: started, their end brought to the parent, the parent's end and its new tries brought to them. Each
// may run in several processes at once and be cut off anywhere: every write is guarded on what it was decided on, and what
// is left undone shows in the records (`children_due`, an open wait for a child that has ended), where the sweep finds it.
import { isPawlError, PawlError } from "../base/errors.ts";
import { LIMITS } from "../base/limits.ts";
import type { Change, Put, Rec } from "../store/store.ts";
import { checkParent, covers, membersOf, orphaned, outcomeOf, revive, type Child, type ChildOutcome } from "./child.ts";
import { listAll, ofRound, settle, type Committer } from "./committer.ts";
import { shouldBeReady } from "./dependency.ts";
import { TERMINAL, type Status, type Task, type Wait } from "./records.ts";
import { cancel } from "./task.ts";
import { closingOf, settleWait, waitKey } from "./wait.ts";

export const OPEN: readonly Status[] = ["in_progress", "review", "waiting", "pending"];
/** Children looked at together. */
const PAGE = 100;

async function taskOf(committer: Committer, id: number): Promise<Task | null> {
  return ((await committer.store.get("task", [id]))[0] ?? null) as Task | null;
}

/** Throws unless the task may get children. */
export async function requireParent(committer: Committer, parent: Task): Promise<void> {
  let ancestors = 0;
  for (let at: Task | null = parent; at?.parent_id != null && ancestors <= LIMITS.childDepth; ancestors++) at = await taskOf(committer, at.parent_id);
  checkParent(parent, ancestors);
}

/** The children a task's code started in all its rounds, in the order of their keys. */
export async function childrenOf(committer: Committer, taskId: number): Promise<Child[]> {
  return (await listAll(committer, "child", { equals: { task_id: taskId } })) as unknown as Child[];
}

/** The tasks whose parent this is, however they were added: how many in each status, and the first of them, the open ones before the others. */
export type ShownChildren = { readonly counts: { readonly [status: string]: number }; readonly first: readonly Pick<Task, "id" | "status" | "description">[] };

export const SHOWN_CHILDREN = 20;

export async function shownChildren(committer: Committer, parentId: number, statuses: readonly Status[] = [...OPEN, "failed", "cancelled", "completed"]): Promise<ShownChildren> {
  const of = { index: "children", equals: { parent_id: parentId } };
  const counts = await committer.store.count("task", of, "status");
  const first: Task[] = [];
  for (const status of statuses) {
    if (first.length === SHOWN_CHILDREN) break;
    if (counts[status]) first.push(...((await committer.store.list("task", { ...of, equals: { parent_id: parentId, status }, limit: SHOWN_CHILDREN - first.length })) as unknown as Task[]));
  }
  return { counts, first: first.map(({ id, status, description }) => ({ id, status, description })) };
}

/* ---------- up: a child's end reaches the parent ---------- */

/** After a child ended, or was removed: the waits that it ends are settled. */
export async function followEnd(committer: Committer, child: Task, actor: string): Promise<void> {
  const first = (await listAll(committer, "wait", { index: "child", equals: { child_id: child.id } })) as unknown as Wait[];
  for (const wait of first) await settleChildWait(committer, wait, actor);
  if (child.status === "completed") return;
  const started = (await listAll(committer, "child", { index: "child", equals: { child_id: child.id } })) as unknown as Child[];
  for (const one of started) {
    const waits = await ofRound(committer, "wait", { id: one.task_id, round: one.round });
    for (const wait of waits) if (wait.status === "open" && wait.fail_fast && covers(wait, one)) await settleFailed(committer, wait, one, actor);
  }
}

/** Settles an open wait for children when they have ended; else notes the first that has not, whose end will look again. True when it settled. */
export async function settleChildWait(committer: Committer, wait: Wait, actor: string): Promise<boolean> {
  for (let current: Wait | null = wait; current?.status === "open"; current = await again(committer, current)) {
    const open = await firstOpen(committer, current);
    if (open === null) {
      const ended = await membersWithOutcome(committer, current);
      if (ended && (await settleBy(committer, current, ended, actor))) return true;
      continue;
    }
    if (open.child_id === current.child_id) return false;
    const noted: Change = { guards: [openGuard(current)], puts: [{ kind: "wait", key: waitKey(current), set: { child_id: open.child_id, child_key: open.key } }] };
    const result = await committer.commit(noted);
    if (!result.ok && "error" in result) throw result.error;
  }
  return false;
}

async function again(committer: Committer, wait: Wait): Promise<Wait | null> {
  return ((await committer.store.get("wait", [waitKey(wait)]))[0] ?? null) as Wait | null;
}

const openGuard = (wait: Wait) => ({ kind: "wait", key: waitKey(wait), is: { status: "open", child_key: wait.child_key } }) as const;

/** The children a wait covers, from the given key on, a page at a time. */
async function* pagesOf(committer: Committer, wait: Wait, from: string): AsyncIterable<{ child: Child; task: Task | null }[]> {
  const { store } = committer;
  const of = { task_id: wait.task_id, round: wait.round };
  if (wait.kind === "child") {
    const [child] = (await store.get("child", [waitKey(wait)])) as unknown as (Child | null)[];
    if (child) yield [{ child, task: await taskOf(committer, child.child_id) }];
    return;
  }
  const { to } = membersOf(wait.key);
  for (let after: Rec | undefined; ; ) {
    const page = await store.list("child", { equals: of, from, to, limit: PAGE, ...(after ? { after } : {}) });
    const tasks = await store.get("task", page.map((child) => child["child_id"] as number));
    yield page.map((child, i) => ({ child: child as unknown as Child, task: (tasks[i] ?? null) as Task | null }));
    if (page.length < PAGE) return;
    after = page.at(-1);
  }
}

/** The first child it covers that has not ended, from the one last noted on. Those before it had ended when it was. */
async function firstOpen(committer: Committer, wait: Wait): Promise<Child | null> {
  for await (const page of pagesOf(committer, wait, wait.child_key!)) {
    const open = page.find(({ child, task }) => outcomeOf(child.child_id, task) === null);
    if (open) return open.child;
  }
  return null;
}

/** Every child it covers with its outcome; null when one of them was sent back to work since it was passed: then that one is noted. */
async function membersWithOutcome(committer: Committer, wait: Wait): Promise<Child[] | null> {
  const ended: Child[] = [];
  for await (const page of pagesOf(committer, wait, membersOf(wait.key).from)) {
    for (const { child, task } of page) {
      const outcome = outcomeOf(child.child_id, task);
      if (outcome === null) {
        await committer.commit({ guards: [openGuard(wait)], puts: [{ kind: "wait", key: waitKey(wait), set: { child_id: child.child_id, child_key: child.key } }] });
        return null;
      }
      ended.push({ ...child, outcome });
    }
  }
  return ended;
}

/** One child of a group did not complete, and that is enough. */
async function settleFailed(committer: Committer, wait: Wait, child: Child, actor: string): Promise<boolean> {
  const outcome = outcomeOf(child.child_id, await taskOf(committer, child.child_id));
  if (outcome === null || outcome.status === "completed") return false;
  return settleBy(committer, wait, [{ ...child, outcome }], actor);
}

/** Settles a wait with these outcomes, and wakes the parent, in one change. False when somebody else was faster. */
async function settleBy(committer: Committer, wait: Wait, ended: readonly Child[], actor: string): Promise<boolean> {
  const parent = await taskOf(committer, wait.task_id);
  const failed = ended.find(({ outcome }) => outcome!.status !== "completed");
  const reason = failed ? `child ${failed.child_id} ${failed.outcome!.status}` : ended.length === 1 ? `child ${ended[0]!.child_id} completed` : `${ended.length} children completed`;
  const told = ended.map((child): Put => ({ kind: "child", key: [child.task_id, child.round, child.key], set: { outcome: child.outcome as never } }));
  const result = await committer.commit(settleWait(wait, parent, { actor, now: committer.store.clock.now() }, reason, {}, told));
  if (!result.ok && "error" in result) throw result.error;
  return result.ok;
}

/** Open waits whose child has ended, or a child of whose group has failed: a crash came between that and its parent. Returns how many were settled. */
export async function repairChildWaits(committer: Committer, actor: string): Promise<number> {
  let settled = 0;
  for (let after: Rec | undefined; ; ) {
    const page = await committer.store.list("wait", { index: "child", limit: PAGE, ...(after ? { after } : {}) });
    for (const wait of page as unknown as Wait[]) if ((await settleChildWait(committer, wait, actor)) || (wait.fail_fast && (await settleAnyFailed(committer, wait, actor)))) settled++;
    after = page.at(-1);
    if (page.length < PAGE) return settled;
  }
}

async function settleAnyFailed(committer: Committer, wait: Wait, actor: string): Promise<boolean> {
  for (const status of ["failed", "cancelled"]) {
    for (const task of await committer.store.list("task", { index: "children", equals: { parent_id: wait.task_id, status }, limit: PAGE })) {
      const started = (await committer.store.list("child", { index: "child", equals: { child_id: task["id"] as number } })) as unknown as Child[];
      for (const one of started) if (covers(wait, one) && (await settleFailed(committer, wait, one, actor))) return true;
    }
  }
  return false;
}

/* ---------- down: what happened to the parent reaches its children ---------- */

/** After a parent was cancelled, expired, sent back or retried (`children_due`): its open children are cancelled, or tried again. Returns how many moved. */
export async function followParent(committer: Committer, id: number, actor: string): Promise<number> {
  const parent = await taskOf(committer, id);
  if (!parent?.children_due) return 0;
  const children = await childrenOf(committer, id);
  let moved = 0;
  for (const status of OPEN) {
    const open = (await listAll(committer, "task", { index: "children", equals: { parent_id: id, status } })) as unknown as Task[];
    for (const task of open) if (await closeOrphan(committer, task, parent, children.find(({ child_id }) => child_id === task.id) ?? null, actor)) moved++;
  }
  if (parent.children_due === "revive") for (const child of children) if (child.round === parent.round && (await reviveChild(committer, parent, child, actor))) moved++;
  const done: Change = { guards: [{ kind: "task", key: id, is: { revision: parent.revision } }], puts: [{ kind: "task", key: id, set: { children_due: null } }] };
  const result = await committer.commit(done);
  if (!result.ok && "error" in result) throw result.error;
  // It changed meanwhile: the next look decides again.
  return result.ok || "error" in result ? moved : moved + (await followParent(committer, id, actor));
}

async function closeOrphan(committer: Committer, task: Task, parent: Task, child: Child | null, actor: string): Promise<boolean> {
  const why = orphaned(task, parent, child);
  if (why === null) return false;
  let before = task;
  try {
    const after = await settle(committer, task, async (current, now) => {
      before = current;
      if (TERMINAL.has(current.status)) return { task: current, change: { puts: [] } };
      return cancel(current, { actor, now }, why, await closingOf(committer, current.id));
    });
    if (before.status === after.status) return false;
    if (after.children_due || after.has_children) await followParent(committer, after.id, actor);
    return true;
  } catch (error) {
    if (!isPawlError(error, "not_found")) throw error;
    return false;
  }
}

/** The child, what its parent was told of it, and the wait that told: all as if it had not ended, in one change. */
async function reviveChild(committer: Committer, parent: Task, child: Child, actor: string): Promise<boolean> {
  for (;;) {
    const task = await taskOf(committer, child.child_id);
    const told = child.outcome !== null && child.outcome.status !== "completed";
    const ended = task !== null && (task.status === "failed" || task.status === "cancelled");
    if (!told && !ended) return false;
    const now = committer.store.clock.now();
    const waits = (await ofRound(committer, "wait", parent)).filter((wait) => wait.status === "settled" && (wait.kind === "child" || wait.kind === "children") && covers(wait, child));
    const puts: Put[] = [
      { kind: "child", key: [child.task_id, child.round, child.key], set: { outcome: null } },
      ...waits.map((wait): Put => ({ kind: "wait", key: waitKey(wait), set: { status: "withdrawn" } })),
    ];
    const outcome = ended ? revive(task, parent, await shouldBeReady(committer, { ...task, run_at: null }), { actor, now }, await failedSteps(committer, task)) : null;
    const still = { kind: "task", key: parent.id, is: { round: parent.round, children_due: "revive" } } as const;
    const result = await committer.commit({ guards: [still, ...(outcome?.change.guards ?? [])], puts: [...puts, ...(outcome?.change.puts ?? [])] });
    if (result.ok) {
      if (outcome) await followParent(committer, outcome.task.id, actor);
      return outcome !== null;
    }
    if ("error" in result) throw result.error;
    if (result.conflict.on === "guard" && result.conflict.index === 0) return false;
  }
}

async function failedSteps(committer: Committer, task: Task): Promise<Put[]> {
  const steps = await ofRound(committer, "step", task);
  return steps.filter((step) => step.status === "failed").map((step): Put => ({ kind: "step", key: [step.task_id, step.round, step.key], delete: true }));
}

/** Parents whose children have not been told. Returns how many children moved. */
export async function repairChildren(committer: Committer, actor: string): Promise<number> {
  const due = await committer.store.list("task", { index: "children_due", limit: PAGE });
  let moved = 0;
  for (const parent of due) moved += await followParent(committer, parent["id"] as number, actor);
  return moved;
}

/** Open children of a task as an error that refuses its removal. */
export async function refuseOpenChildren(committer: Committer, id: number): Promise<void> {
  for (const status of OPEN) {
    const [child] = await committer.store.list("task", { index: "children", equals: { parent_id: id, status }, limit: 1 });
    if (child) throw new PawlError("conflict", `Task ${id} cannot be removed: its child, task ${String(child["id"])}, is ${status}.`, { next: `Cancel it instead: pawl cancel ${id}.`, details: { id, child: child["id"] } });
  }
}

export type { Child, ChildOutcome };

// The sweep applies, to the whole state, the rules that need nobody's call: dead owners, passed deadlines, waits whose time
// has come, tasks whose start has come or whose dependencies are done, parents and children that have not heard of each
// other. It runs at open, at claims and when idle, and is a repair as well: whatever a crash left half followed, it follows.
// Several may run at once; every write is guarded.
import { iso, parseIso } from "../base/clock.ts";
import { isPawlError } from "../base/errors.ts";
import { LIMITS } from "../base/limits.ts";
import type { Put, Query, Rec } from "../store/store.ts";
import { Committer, listAll, ofRound } from "./committer.ts";
import { settleDue } from "./decision.ts";
import { repairChildren, repairChildWaits } from "./children.ts";
import { deriveReady, shouldBeReady } from "./dependency.ts";
import { asTask, TERMINAL, type Decision, type ProcessRecord, type Status, type Task, type Wait, type WorkerRecord } from "./records.ts";
import { fireDue } from "./schedules.ts";
import { fillVacancies, repairSlots } from "./slots.ts";
import { move, takeOver } from "./task.ts";
import { expireTask, settleIfThere } from "./tasks.ts";
import { closingOf } from "./wait.ts";

/** What only this host can tell of workers, handed in so that the rules stay free of processes. */
export type Evidence = {
  /** "dead": proven by its kernel lock. "alive": its lock is held. "unknown": only its lease counts. */
  ownerState(worker: WorkerRecord | null, workerId: string): "dead" | "alive" | "unknown";
  /** Ends what a dead worker left running. False when something of it could not be ended: its tasks must not run beside it. */
  endProcesses(processes: readonly ProcessRecord[]): Promise<boolean>;
  /** Its record is gone: what it left on this host may go too. */
  forget(worker: WorkerRecord): void;
};

/** How much one sweep looks at: bounds its time; the next goes on. */
const PAGE = 500;

const OPEN: readonly Status[] = ["pending", "in_progress", "waiting", "review"];

/** Applies the rules once. `full` also looks at every blocked task and at old bookkeeping (at open and when idle). Returns how many tasks moved. */
export async function sweep(committer: Committer, evidence: Evidence, actor: string, full: boolean): Promise<number> {
  const now = committer.store.clock.now();
  const { moved: taken, buried } = await takeOverDead(committer, evidence, actor);
  const moved = [taken, await expirePast(committer, actor, now), await settleWaits(committer, actor, now), await startDelayed(committer, actor, now), await fireDue(committer, actor), await fillVacancies(committer, actor), await repairChildren(committer, actor)];
  // A dead worker may have completed a task and never come to its dependents, or its parent.
  if (full || buried > 0) moved.push(await repairBlocked(committer, actor), await repairChildWaits(committer, actor));
  if (full) moved.push(await repairSlots(committer, actor));
  if (full) await forgetUnseen(committer, evidence, now);
  if (full) await forgetOperations(committer, now);
  return sum(moved);
}

/** Does what a dead worker's ownership alone forbids: the worker is buried first. A living one keeps its task. */
export async function pastDead<T>(committer: Committer, evidence: Evidence, actor: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    const id = isPawlError(error, "conflict") ? error.details?.["worker"] : undefined;
    if (typeof id !== "string") throw error;
    const [worker] = (await committer.store.get("worker", [id])) as unknown as (WorkerRecord | null)[];
    if (evidence.ownerState(worker ?? null, id) !== "dead") throw error;
    await sweep(committer, evidence, actor, false);
    return act();
  }
}

/** When something next happens by itself (ms), or null: the moment for the next sweep. */
export async function nextInstant(committer: Committer): Promise<number | null> {
  const soonest = async (kind: string, query: Query, field: string) => {
    const [rec] = await committer.store.list(kind, { ...query, limit: 1 });
    return rec ? parseIso(rec[field] as string) : Infinity;
  };
  const instants = await Promise.all([
    soonest("task", { index: "lease" }, "lease_expires_at"),
    soonest("task", { index: "delayed" }, "run_at"),
    soonest("wait", { index: "due" }, "due_at"),
    soonest("schedule", { index: "due" }, "next_at"),
    ...OPEN.map((status) => soonest("task", { index: "deadline", equals: { status } }, "deadline_at")),
  ]);
  const next = Math.min(...instants);
  return next === Infinity ? null : next;
}

/** Tasks of workers that are dead, or silent beyond their lease with nothing to show that they live. */
async function takeOverDead(committer: Committer, evidence: Evidence, actor: string): Promise<{ moved: number; buried: number }> {
  const workers = await allWorkers(committer);
  let moved = 0;
  let buried = 0;
  for (const worker of workers) {
    if (worker.id === actor) await confirmSeen(committer, worker);
    if (evidence.ownerState(worker, worker.id) !== "dead") continue;
    const freed = await buryWorker(committer, evidence, worker, actor);
    if (freed === null) continue;
    moved += freed;
    buried++;
  }
  const late = await committer.store.list("task", { index: "lease", to: iso(committer.store.clock.now()), limit: PAGE });
  const left = late.map(asTask).filter((task) => {
    const worker = workers.find((w) => w.id === task.worker) ?? null;
    return evidence.ownerState(worker, task.worker ?? "") !== "alive" || overdue(task, committer.store.clock.now());
  });
  moved += sum(await Promise.all(left.map((task) => takeOne(committer, task, actor, `its lease ran out ${task.lease_expires_at}`))));
  return { moved, buried };
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0);

const allWorkers = async (committer: Committer): Promise<WorkerRecord[]> => (await listAll(committer, "worker", {})) as unknown as WorkerRecord[];

/** A worker says now and then that it is there: from another host nothing else of it can be seen. */
async function confirmSeen(committer: Committer, worker: WorkerRecord): Promise<void> {
  const now = committer.store.clock.now();
  if (parseIso(worker.seen_at) + LIMITS.workerSeenMs > now) return;
  await committer.commit({ puts: [{ kind: "worker", key: worker.id, set: { seen_at: iso(now) } }] });
}

/** Workers that own nothing and that no worker of their host came back to bury. */
async function forgetUnseen(committer: Committer, evidence: Evidence, now: number): Promise<void> {
  const unseen = (await allWorkers(committer)).filter((worker) => parseIso(worker.seen_at) + LIMITS.workerUnseenMs <= now && evidence.ownerState(worker, worker.id) === "unknown");
  if (unseen.length === 0) return;
  const owners = new Set((await listAll(committer, "task", { index: "lease" })).map((task) => asTask(task).worker));
  for (const { id, seen_at } of unseen) {
    if (owners.has(id)) continue;
    // One that has slept so long may say at this moment that it is there.
    await committer.commit({ guards: [{ kind: "worker", key: id, is: { seen_at } }], puts: removal(id, await processesOf(committer, id)) });
  }
}

/** A silent owner that lives keeps its task until the attempt's time-out, counted from the lease it last renewed. */
function overdue(task: Task, now: number): boolean {
  return task.timeout_ms !== null && task.lease_expires_at !== null && parseIso(task.lease_expires_at) + task.timeout_ms <= now;
}

const processesOf = async (committer: Committer, id: string): Promise<ProcessRecord[]> => (await listAll(committer, "process", { equals: { worker: id } })) as unknown as ProcessRecord[];

/** A worker's record and those of the processes it started, taken away. */
const removal = (id: string, processes: readonly ProcessRecord[]): Put[] => [{ kind: "worker", key: id, delete: true }, ...processes.map(({ pid }): Put => ({ kind: "process", key: [id, pid], delete: true }))];

/** Frees the tasks of a dead worker; null when what it left running could not be ended yet. */
async function buryWorker(committer: Committer, evidence: Evidence, worker: WorkerRecord, actor: string): Promise<number | null> {
  const processes = await processesOf(committer, worker.id);
  if (!(await evidence.endProcesses(processes))) return null;
  const owned = (await listAll(committer, "task", { index: "lease" })).map(asTask).filter((task) => task.worker === worker.id);
  const moved = await Promise.all(owned.map((task) => takeOne(committer, task, actor, `worker ${worker.label} (pid ${worker.pid}) died`)));
  await committer.commit({ puts: removal(worker.id, processes) });
  evidence.forget(worker);
  return sum(moved);
}

async function takeOne(committer: Committer, task: Task, actor: string, why: string): Promise<number> {
  const steps = await ofRound(committer, "step", task);
  const recorded = steps.some((step) => step.fence === task.fence);
  let taken = false;
  await settleIfThere(committer, task, actor, async (current, now) => {
    // Between reading and deciding it may have been taken by another sweep, renewed or ended.
    taken = current.worker !== null && current.worker === task.worker && current.fence === task.fence && current.lease_expires_at === task.lease_expires_at;
    if (!taken) return null;
    const by = { actor, now };
    const freed = takeOver(current, recorded, by, why);
    // Its waits are withdrawn only where it ends with this; a dead worker may have had a thousand tasks that do not.
    const { task: after, change } = TERMINAL.has(freed.task.status) ? takeOver(current, recorded, by, why, await closingOf(committer, current.id)) : freed;
    // A heartbeat raises no revision: one that comes before this is written leaves the task to its owner.
    const guard = { kind: "task", key: current.id, is: { revision: current.revision, lease_expires_at: current.lease_expires_at } } as const;
    return { task: after, change: { ...change, guards: [guard] } };
  });
  return taken ? 1 : 0;
}

async function expirePast(committer: Committer, actor: string, now: number): Promise<number> {
  let moved = 0;
  for (const status of OPEN) {
    const late = await committer.store.list("task", { index: "deadline", equals: { status }, to: iso(now + 1), limit: PAGE });
    moved += sum(await Promise.all(late.map(asTask).map(async (task) => ((await expireTask(committer, task, actor)) ? 1 : 0))));
  }
  return moved;
}

async function settleWaits(committer: Committer, actor: string, now: number): Promise<number> {
  const due = (await committer.store.list("wait", { index: "due", to: iso(now + 1), limit: PAGE })) as unknown as Wait[];
  const settle = async (wait: Wait) => {
    const task = ((await committer.store.get("task", [wait.task_id]))[0] ?? null) as Task | null;
    const decision = wait.decision_id === null ? null : (((await committer.store.get("decision", [wait.decision_id]))[0] ?? null) as Decision | null);
    const result = await committer.commit(settleDue(wait, task, { actor, now: committer.store.clock.now() }, decision));
    if (!result.ok && "error" in result) throw result.error;
    if (result.ok && task?.depends_on.length) await deriveReady(committer, [task.id], actor);
  };
  // Of two waits of one task the second conflicts, and is settled by the next sweep.
  await Promise.all(due.map(settle));
  return due.length;
}

/** Tasks whose start has come: their time is taken off, and they are ready unless something still blocks them. */
async function startDelayed(committer: Committer, actor: string, now: number): Promise<number> {
  const due = await committer.store.list("task", { index: "delayed", to: iso(now + 1), limit: PAGE });
  await Promise.all(
    due.map(asTask).map((task) =>
      settleIfThere(committer, task, actor, async (current, at) => {
        if (current.run_at === null || parseIso(current.run_at) > at) return null;
        const ready = (current.status === "review" && current.worker === null && current.waiting_for === null) || (current.status === "pending" && (await shouldBeReady(committer, { ...current, run_at: null })));
        return move(current, { actor, now: at }, { event: "due", set: { run_at: null, ready } });
      }),
    ),
  );
  return due.length;
}

/** Blocked tasks whose dependencies are done after all: a crash came between the two commits. */
async function repairBlocked(committer: Committer, actor: string): Promise<number> {
  let moved = 0;
  let after: Rec | undefined;
  for (;;) {
    const page = await committer.store.list("task", { index: "blocked", equals: { run_at: null }, limit: PAGE, ...(after ? { after } : {}) });
    moved += await deriveReady(committer, page.map((rec) => rec["id"] as number), actor);
    after = page.at(-1);
    if (page.length < PAGE || !after) return moved;
  }
}

async function forgetOperations(committer: Committer, now: number): Promise<void> {
  const old = await committer.store.list("op", { index: "at", to: iso(now - LIMITS.operationMs), limit: PAGE });
  if (old.length > 0) await committer.commit({ puts: old.map((op) => ({ kind: "op", key: op["id"] as string, delete: true }) as const) });
}

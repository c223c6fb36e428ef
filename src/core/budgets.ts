// The verbs of budgets: reserve before a call, find what a dead owner left, top up. Many may spend from one budget at the
// same time: a spend is an addition with a bound, never a record written anew, so nobody is refused but by a limit.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { LIMITS } from "../base/limits.ts";
import { addToLimits, checkUsage, limitsOf, lostExtra, overOf, reserveChange, spendOf, timeLeftIn, type Amounts, type Budget, type BudgetLimits, type Over, type Reservation, type Spend } from "./budget.ts";
import { leaseLost, listAll, TRIES, type Committer } from "./committer.ts";
import { settleDecision } from "./decision.ts";
import type { Decision, Task } from "./records.ts";
import { fenceGuard, withExtra, type Extra } from "./step.ts";
import { getTask } from "./tasks.ts";

export type Reserved = { readonly ok: true; readonly reservation: Reservation; /** Working time that was left, in ms. */ readonly timeLeftMs: number } | { readonly ok: false; readonly over: readonly Over[] };

/**
 * Takes what a call may use out of the budget of the task's agent and of those above it, or says which limits stand in the
 * way. Under the task's fence: throws `lease_lost` when it is somebody else's. `key` names the call (the key of its step).
 * Settle it with `settleExtra` in the commit of the step, or with `lostExtra` when no answer came.
 */
export function reserve(committer: Committer, task: Task, key: string, amounts: Amounts): Promise<Reserved> {
  return take(committer, task, key, amounts, false);
}

/**
 * The same whatever the limits, for what is done with work that is paid for already: what it uses is missing in the agent's next
 * turn. Counts first what earlier owners left. Null when the task has no agent.
 */
export async function reserveBeyond(committer: Committer, task: Task, key: string, amounts: Amounts): Promise<Reservation | null> {
  if ((await committer.store.get("budget", [task.id]))[0] === null) return null;
  await recoverReservations(committer, task, "earlier");
  const taken = await take(committer, task, key, amounts, true);
  return taken.ok ? taken.reservation : null;
}

/** Settles a reservation apart from a step, under the task's fence. Throws `lease_lost`. */
export async function settleReservation(committer: Committer, task: Task, extra: Extra): Promise<void> {
  const result = await committer.commit(withExtra({ guards: [fenceGuard(task)], puts: [] }, extra));
  if (result.ok) return;
  if ("error" in result) throw result.error;
  if (result.conflict.kind === "task") throw leaseLost(task.id, result.conflict.record);
}

async function take(committer: Committer, task: Task, key: string, amounts: Amounts, beyond: boolean): Promise<Reserved> {
  checkUsage(amounts);
  for (let i = 0; i < TRIES; i++) {
    const budgets = await chainOf(committer, task.id);
    const over = beyond ? [] : overOf(budgets, amounts);
    if (over.length > 0) return { ok: false, over };
    const reservation: Reservation = { task_id: task.id, key, fence: task.fence, budgets: budgets.map((budget) => budget.id), amounts, at: iso(committer.store.clock.now()) };
    const result = await committer.commit(reserveChange(reservation, budgets, [fenceGuard(task)], beyond));
    if (result.ok) return { ok: true, reservation, timeLeftMs: timeLeftIn(budgets) };
    if ("error" in result) throw result.error;
    const { conflict } = result;
    if (conflict.kind === "task") throw leaseLost(task.id, conflict.record);
    if (conflict.kind === "reservation") throw new PawlError("conflict", `The call "${key}" of task ${task.id} has a reservation already.`, { next: "Settle it first, or name the call otherwise." });
    // A limit was reached, or raised, since it was read: look again.
  }
  throw new PawlError("conflict", `The budget of task ${task.id} changes faster than it can be spent from.`, { next: "Try again." });
}

/** The least working time that is left in the budgets of a reservation, in ms; Infinity when none has a limit. */
export async function timeLeft(committer: Committer, { budgets }: Reservation): Promise<number> {
  return timeLeftIn(await Promise.all(budgets.map((id) => getBudget(committer, id))));
}

/** The budget of a task's agent and those above it, nearest first. */
async function chainOf(committer: Committer, id: number): Promise<Budget[]> {
  const chain: Budget[] = [];
  for (let next: number | null = id; next !== null && chain.length < LIMITS.budgetDepth; next = chain.at(-1)!.parent_id) chain.push(await getBudget(committer, next));
  return chain;
}

/** How many budgets a spend from this one is counted in. */
export async function budgetsAbove(committer: Committer, id: number): Promise<number> {
  return (await chainOf(committer, id)).length;
}

/**
 * Counts what was reserved for the task and never settled as spent in doubt: by `earlier` owners, or by `all` where this one has no
 * call open either, as at the beginning of an execution: an answer that comes while the task is being parked begins another under the
 * same fence. Returns how many calls. Throws `lease_lost`.
 */
export async function recoverReservations(committer: Committer, task: Task, whose: "earlier" | "all"): Promise<number> {
  const left = (await reservationsOf(committer, task.id)).filter((reservation) => whose === "all" || reservation.fence !== task.fence);
  const results = await Promise.all(left.map((reservation) => committer.commit(withExtra({ guards: [fenceGuard(task)], puts: [] }, lostExtra(reservation)))));
  for (const result of results) {
    if (result.ok) continue;
    if ("error" in result) throw result.error;
    if (result.conflict.kind === "task") throw leaseLost(task.id, result.conflict.record);
    // Somebody of this ownership was first.
  }
  return results.filter((result) => result.ok).length;
}

async function reservationsOf(committer: Committer, taskId: number): Promise<Reservation[]> {
  return (await listAll(committer, "reservation", { equals: { task_id: taskId } })) as unknown as Reservation[];
}

/** The budget of a task's agent; `not_found` when it has none. */
export async function getBudget(committer: Committer, id: number): Promise<Budget> {
  const [budget] = await committer.store.get("budget", [id]);
  if (!budget) throw new PawlError("not_found", `Task ${id} has no budget: no agent has worked on it.`, { next: "See which tasks have an agent: pawl agent list." });
  return budget as unknown as Budget;
}

/** A budget for people and programs: what is spent of it, and the calls that are open or were cut off. */
export type BudgetView = { readonly task_id: number; readonly parent_id: number | null; readonly limits: BudgetLimits; readonly spend: Spend; readonly reservations: readonly Reservation[] };

/**
 * Raises limits, in the history of the task. An open decision about this budget is approved with it, in the same change, so
 * that its task goes on at the same step.
 */
export async function addToBudget(committer: Committer, ref: number | string, add: BudgetLimits, actor: string, reason?: string): Promise<{ readonly budget: Budget; readonly decision: Decision | null }> {
  const { id } = await getTask(committer, ref);
  const budget = await getBudget(committer, id);
  const now = committer.store.clock.now();
  const extra = addToLimits(budget, add, { actor, reason, now });
  const [open, ...others] = await openDecisions(committer, id);
  let decision: Decision | null = null;
  if (open) {
    decision = await settleDecision(committer, open.id, { answer: "approve", value: add, actor, reason });
    // Others that wait for the same budget go on as well; what was added is added once.
    for (const other of others) await settleDecision(committer, other.id, { answer: "approve", value: {}, actor, reason });
  } else {
    const result = await committer.commit(withExtra({ puts: [] }, extra));
    if (!result.ok) throw "error" in result ? result.error : new PawlError("conflict", `The budget of task ${id} was removed meanwhile.`);
  }
  return { budget: await getBudget(committer, id), decision };
}

/** The open decisions about the budget of this task's agent: its own, and those of tasks that spend from it. */
async function openDecisions(committer: Committer, id: number): Promise<Decision[]> {
  const open = (await listAll(committer, "decision", { index: "status", equals: { status: "open" } })) as unknown as Decision[];
  return open.filter((decision) => decision.kind === "budget" && (decision.details as { budget_id?: number }).budget_id === id);
}

/** Where the budget of a task's agent stands. Reads only. */
export async function showBudget(committer: Committer, ref: number | string): Promise<BudgetView> {
  const { id } = await getTask(committer, ref);
  const [budget, reservations] = await Promise.all([getBudget(committer, id), reservationsOf(committer, id)]);
  return { task_id: id, parent_id: budget.parent_id, limits: limitsOf(budget), spend: spendOf(budget), reservations };
}

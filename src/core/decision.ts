// A decision is something a person must settle: an unknown effect, a step whose input changed, a review no verifier could
// finish, an approval, a question. It is a record, so the task that waits for it needs no live process; whoever answers
// settles the decision, closes the wait and wakes the task in one change. Expired is not denied; nobody settles what
// they asked themselves.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { canonical, sameJson, sortedText, type Json } from "../base/json.ts";
import type { Change, Fields, Put } from "../store/store.ts";
import { TRIES, type Committer } from "./committer.ts";
import { addToLimits, type Budget, type BudgetLimits, type Over } from "./budget.ts";
import { followChange } from "./follow.ts";
import { fenceGuard, GIVEN_UP, withExtra, type Extra, type StepPlan } from "./step.ts";
import type { Decision, DecisionKind, DecisionStatus, ExpiryPolicy, Failure, Step, Task, Wait } from "./records.ts";
import { complete, reject, wake, type Outcome } from "./task.ts";
import { opening, settleWait } from "./wait.ts";

/** The answers each kind of decision takes, and what they do. */
export const ANSWERS: { readonly [kind in DecisionKind]: { readonly [answer: string]: string } } = {
  unknown_effect: { done: "it happened; use the given output", again: "it did not happen, or may be repeated: run it again", fail: "give up: the step fails" },
  step_changed: { keep: "keep the recorded output", again: "run the step again with the new input", fail: "give up: the step fails" },
  review: { approve: "complete the task with this result", deny: "send it back with the reason as feedback" },
  approval: { approve: "go on", deny: "do not; the reason is passed on" },
  action: { approve: "do it, with exactly these arguments or with edited ones", deny: "do not; the reason is passed on" },
  budget: { approve: "go on; takes what is added to the limits", deny: "stop here; the reason is passed on" },
  question: {},
};

/** What is asked of a person, and what happens when nobody answers within `expires_in_ms`: "deny" ends the wait as expired. */
export type Ask = {
  readonly kind: DecisionKind;
  /** One sentence. */
  readonly question: string;
  /** Exactly what the decision is about; plain JSON. */
  readonly details?: unknown;
  readonly expires_in_ms?: number;
  readonly on_expiry?: ExpiryPolicy;
};

/** A change that asks a person about a step and makes the step wait for the answer. `start` is the start it is about. */
export function askAbout(
  task: Task,
  plan: { key: string },
  start: number,
  ask: { kind: DecisionKind; question: string; details: Json; expires_at?: string | null; on_expiry?: ExpiryPolicy },
  actor: string,
  now: number,
): Change {
  const decision: Fields = {
    task_id: task.id, kind: ask.kind, status: "open", question: ask.question, options: ANSWERS[ask.kind], details: ask.details, round: task.round,
    step_key: plan.key, step_start: start, asked_by: actor, created_at: iso(now), expires_at: ask.expires_at ?? null,
    on_expiry: ask.on_expiry ?? null,
  };
  const due_at = ask.on_expiry === "wait" ? null : (ask.expires_at ?? null);
  const wait: Fields = { task_id: task.id, round: task.round, key: plan.key, kind: "decision", status: "open", decision_id: { $new: 0 }, due_at, created_at: iso(now) };
  return { guards: [fenceGuard(task)], puts: [{ kind: "decision", record: decision }, { kind: "wait", record: wait }], additions: [opening(task)] };
}

/** A change that makes a step wait until `dueAt` (ms). */
export function askTimer(task: Task, plan: { key: string }, dueAt: number, now: number): Change {
  const wait: Fields = { task_id: task.id, round: task.round, key: plan.key, kind: "timer", status: "open", due_at: iso(dueAt), created_at: iso(now) };
  return { guards: [fenceGuard(task)], puts: [{ kind: "wait", record: wait }], additions: [opening(task)] };
}

export function unknownEffect(task: Task, plan: StepPlan, step: Pick<Step, "start" | "started_at" | "input">, why: string): { kind: DecisionKind; question: string; details: Json } {
  return {
    kind: "unknown_effect",
    question: `Did the step "${plan.key}" of task ${task.id} happen? It was started ${step.started_at} and its outcome was never recorded.`,
    details: { step: plan.key, start: step.start, started_at: step.started_at, input: step.input, why },
  };
}

export function stepChanged(task: Task, plan: StepPlan, step: Pick<Step, "input" | "output" | "output_artifact">): { kind: DecisionKind; question: string; details: Json } {
  return {
    kind: "step_changed",
    question: `The step "${plan.key}" of task ${task.id} was recorded with another input. Which holds?`,
    details: { step: plan.key, recorded_input: step.input, input_now: plan.input, recorded_output: step.output_artifact ? { artifact_id: step.output_artifact } : step.output },
  };
}

/** The decision to ask for when limits stand in the way: it is approved with what is added to them. */
export function askForBudget(taskId: number, over: readonly Over[]): Ask {
  const spent = over.map(({ resource, limit, used, wanted }) => `${resource}: ${used} of ${limit} used${wanted > 0 ? `, ${wanted} more wanted` : ""}`).join("; ");
  return { kind: "budget", question: `The budget of task ${taskId} is used up (${spent}). May it go on?`, details: { budget_id: over[0]!.budget_id, over } };
}

/** `edit`: an action is approved with these arguments in the place of those it was asked for with. */
export type Settlement = { readonly answer: "approve" | "deny" | string; readonly value?: unknown; readonly edit?: unknown; readonly reason?: string | undefined; readonly actor: string };

/** Settles decision `id`. `not_found`, `illegal_transition` when it is settled already, `usage` when the answer does not fit. */
export async function settleDecision(committer: Committer, id: string, settlement: Settlement): Promise<Decision> {
  for (let i = 0; i < TRIES; i++) {
    const decision = await getDecision(committer, id);
    requireOpen(decision, settlement);
    const task = decision.task_id === null ? null : (((await committer.store.get("task", [decision.task_id]))[0] ?? null) as Task | null);
    const now = committer.store.clock.now();
    const set = answered(decision, settlement, now);
    const extra = decision.kind === "budget" && set.status === "approved" ? await addedBy(committer, decision, settlement, now) : undefined;
    const change = withExtra(changeOf(decision, task, set, settlement, now), extra);
    const result = await committer.commit(change);
    if (result.ok) {
      const after = task && (((await committer.store.get("task", [task.id]))[0] ?? null) as Task | null);
      if (task && after) await followChange(committer, task, after, settlement.actor);
      return { ...decision, ...set };
    }
    if ("error" in result) throw result.error;
  }
  throw new PawlError("conflict", `The task of decision ${id} changes faster than it can be settled.`, { next: "Try again." });
}

export async function getDecision(committer: Committer, id: string): Promise<Decision> {
  const name = /^[0-9]+$/.test(id) ? `d${id}` : id;
  const decision = (await committer.store.get("decision", [name]))[0] as Decision | null | undefined;
  if (!decision) throw new PawlError("not_found", `decision not found: ${id}`, { next: "See what is open: pawl inbox." });
  return decision;
}

function requireOpen(decision: Decision, settlement: Settlement): void {
  if (decision.status !== "open") {
    throw new PawlError("illegal_transition", `Decision ${decision.id} was ${decision.status} ${decision.settled_at ?? ""} already.`.replace("  ", " "), { next: "See what is open: pawl inbox.", details: { id: decision.id, status: decision.status } });
  }
  if (decision.asked_by === settlement.actor) {
    throw new PawlError("illegal_transition", `${settlement.actor} asked decision ${decision.id} and cannot settle it.`, { next: "Let someone else settle it. A program that asks under your account needs a name of its own: PAWL_ACTOR." });
  }
}

/** What approving a decision about a budget adds to its limits: nothing else lets its task go on. */
async function addedBy(committer: Committer, { id, details, task_id }: Decision, { value, actor, reason }: Settlement, now: number): Promise<Extra> {
  const { budget_id, over = [] } = details as unknown as { budget_id: number; over?: readonly { resource: string }[] };
  if (value === undefined || value === null) throw new PawlError("usage", `Approving decision ${id} needs what is added to the budget.`, { next: `pawl agent budget ${task_id} --add max_${over[0]?.resource}=…` });
  if (sortedText(canonical(value, "value")) === "{}") return {}; // it was raised already
  const [budget] = (await committer.store.get("budget", [budget_id])) as unknown as (Budget | null)[];
  if (!budget) throw new PawlError("not_found", `budget not found: ${budget_id}`);
  return addToLimits(budget, canonical(value, "value") as BudgetLimits, { actor, reason, now });
}

function answered(decision: Decision, settlement: Settlement, now: number): Partial<Decision> {
  const allowed = ANSWERS[decision.kind];
  const { answer } = settlement;
  if (decision.kind === "question" ? answer === "approve" || answer === "deny" : !Object.hasOwn(allowed, answer)) {
    const fits = decision.kind === "question" ? "any text" : Object.entries(allowed).map(([name, does]) => `${name} (${does})`).join(", ");
    throw new PawlError("usage", `"${answer}" does not answer decision ${decision.id}. It takes: ${fits}.`, { next: nextAnswers(decision) });
  }
  const edited = isEdited(decision, settlement);
  const given = edited ? settlement.edit : settlement.value;
  const value = given === undefined ? null : canonical(given, edited ? "edit" : "value");
  const status: DecisionStatus = edited ? "edited" : answer === "approve" ? "approved" : answer === "deny" ? "denied" : "answered";
  return {
    status, answer, value, reason: settlement.reason ?? null,
    settled_by: settlement.actor, settled_at: iso(now),
  };
}

/** Each answer that fits, as the command that gives it; none of them is advised. */
function nextAnswers({ id, kind }: Decision): string {
  if (kind === "question") return `pawl answer ${id} "…"`;
  const lines = Object.keys(ANSWERS[kind]).map((answer) => (answer === "approve" || answer === "deny" ? `pawl ${answer} ${id}` : `pawl answer ${id} ${answer}`));
  return `One of: ${lines.join("; ")}.`;
}

/** True when it approves an action with other arguments. Throws `usage` for anything else that cannot be edited. */
function isEdited(decision: Decision, { answer, edit }: Settlement): boolean {
  if (edit === undefined) return false;
  if (decision.kind !== "action" || answer !== "approve") throw new PawlError("usage", `Decision ${decision.id} has no arguments to edit${decision.kind === "action" ? " when it is denied" : `: it is about ${decision.kind.replace("_", " ")}`}.`, { next: "Only an action that is approved takes edited arguments." });
  return !sameJson(canonical(edit, "edit"), (decision.details as { arguments: Json }).arguments);
}

/** Decision, wait and task in one change: an answer can neither be lost nor wake a task twice. */
function changeOf(decision: Decision, task: Task | null, set: Partial<Decision>, settlement: Settlement, now: number): Change {
  const guard = { kind: "decision", key: decision.id, is: { status: "open" } } as const;
  const puts: Put[] = [{ kind: "decision", key: decision.id, set: set as Fields }];
  if (decision.step_key !== null && decision.task_id !== null) {
    puts.push({ kind: "wait", key: [decision.task_id, decision.round!, decision.step_key], set: { status: "settled", settled_at: iso(now) } });
  }
  const outcome = task ? follow(decision, task, settlement, now) : null;
  if (!outcome) return { guards: task ? [guard, { kind: "task", key: task.id, is: { revision: task.revision } }] : [guard], puts };
  return { guards: [guard, ...outcome.change.guards!], puts: [...puts, ...outcome.change.puts] };
}

/** What the answer means for its task; null when the task is not parked (its worker is told by the wait). */
function follow(decision: Decision, task: Task, settlement: Settlement, now: number): Outcome | null {
  const by = { actor: settlement.actor, now };
  if (decision.kind === "review" && task.status === "review") {
    if (settlement.answer === "approve") return complete(task, task.result, by);
    return reject({ ...task }, settlement.reason ?? "", by);
  }
  return task.status === "waiting" ? wake(task, by, `decision ${decision.id}: ${settlement.answer}`) : null;
}

/** A wait whose time has come: settled, its decision (if any) expired or escalated, its task awake, in one change. */
export function settleDue(wait: Wait, task: Task | null, by: { actor: string; now: number }, decision: Decision | null = null): Change {
  const at = iso(by.now);
  const key = [wait.task_id, wait.round, wait.key] as const;
  const guard = { kind: "wait", key, is: { status: "open" } } as const;
  // Nobody answered, and the wait goes on: people are told again.
  if (decision?.on_expiry === "escalate") {
    const puts: Put[] = [{ kind: "decision", key: decision.id, set: { escalated_at: at } }, { kind: "wait", key, set: { due_at: null } }];
    return { guards: [guard, { kind: "decision", key: decision.id, is: { status: "open" } }], puts };
  }
  const puts: Put[] = wait.decision_id === null ? [] : [{ kind: "decision", key: wait.decision_id, set: { status: "expired", settled_at: at } }];
  const reason = wait.decision_id !== null ? `decision ${wait.decision_id} expired` : wait.event !== null ? `no event ${wait.event} came in time` : "its time has come";
  return settleWait(wait, task, by, reason, {}, puts);
}

/** The open decisions, oldest first. */
export async function inbox(committer: Committer, limit = 1000): Promise<Decision[]> {
  return (await committer.store.list("decision", { index: "status", equals: { status: "open" }, limit })) as unknown as Decision[];
}

/** What a settled decision about an effect says to the step that asked. */
export function verdictOf(decision: Decision): { do: "done"; output: Json } | { do: "again" } | { do: "fail"; error: Failure } {
  if (decision.answer === "again") return { do: "again" };
  if (decision.answer === "done" || decision.answer === "keep") return { do: "done", output: decision.value };
  const message = decision.status === "expired" ? `nobody answered decision ${decision.id} in time` : `decision ${decision.id}: ${decision.reason ?? "given up"}`;
  return { do: "fail", error: { message, code: decision.status === "expired" ? "expired" : GIVEN_UP, permanent: true } };
}

// A decision is something a person must settle: an unknown effect, a step whose input changed, a review no verifier could
// finish, an approval, a question. It is a record, so the task that waits for it needs no live process; whoever answers
// settles the decision, closes the wait and wakes the task in one change. Expired is not denied; nobody settles what
// they asked themselves.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { canonical, type Json } from "../base/json.ts";
import type { Change, Fields, Put } from "../store/store.ts";
import { Committer } from "./committer.ts";
import { followChange } from "./dependency.ts";
import { fenceGuard, type StepPlan } from "./step.ts";
import type { Decision, DecisionKind, DecisionStatus, Failure, Step, Task, Wait } from "./records.ts";
import { complete, reject, wake, type Outcome } from "./task.ts";

/** The answers each kind of decision takes, and what they do. */
export const ANSWERS: { readonly [kind in DecisionKind]: { readonly [answer: string]: string } } = {
  unknown_effect: { done: "it happened; use the given output", again: "it did not happen, or may be repeated: run it again", fail: "give up: the step fails" },
  step_changed: { keep: "keep the recorded output", again: "run the step again with the new input", fail: "give up: the step fails" },
  review: { approve: "complete the task with this result", deny: "send it back with the reason as feedback" },
  approval: { approve: "go on", deny: "do not; the reason is passed on" },
  question: {},
};

/** A change that asks a person about a step and makes the step wait for the answer. `start` is the start it is about. */
export function askAbout(
  task: Task,
  plan: { key: string },
  start: number,
  ask: { kind: DecisionKind; question: string; details: Json; expires_at?: string | null },
  actor: string,
  now: number,
): Change {
  const decision: Fields = {
    task_id: task.id, kind: ask.kind, status: "open", question: ask.question, options: ANSWERS[ask.kind], details: ask.details, round: task.round,
    step_key: plan.key, step_start: start, asked_by: actor, created_at: iso(now), expires_at: ask.expires_at ?? null,
  };
  const wait: Fields = { task_id: task.id, round: task.round, key: plan.key, kind: "decision", status: "open", decision_id: { $new: 0 }, due_at: ask.expires_at ?? null, created_at: iso(now) };
  return { guards: [fenceGuard(task)], puts: [{ kind: "decision", record: decision }, { kind: "wait", record: wait }] };
}

/** A change that makes a step wait until `dueAt` (ms). */
export function askTimer(task: Task, plan: { key: string }, dueAt: number, now: number): Change {
  const wait: Fields = { task_id: task.id, round: task.round, key: plan.key, kind: "timer", status: "open", due_at: iso(dueAt), created_at: iso(now) };
  return { guards: [fenceGuard(task)], puts: [{ kind: "wait", record: wait }] };
}

export function unknownEffect(task: Task, plan: StepPlan, step: Pick<Step, "start" | "started_at" | "input">, why: string): { kind: DecisionKind; question: string; details: Json } {
  return {
    kind: "unknown_effect",
    question: `Did the step "${plan.key}" of task ${task.id} happen? It was started ${step.started_at} and its outcome was never recorded.`,
    details: { step: plan.key, start: step.start, started_at: step.started_at, input: step.input, why },
  };
}

export function stepChanged(task: Task, plan: StepPlan, step: Pick<Step, "input" | "output">): { kind: DecisionKind; question: string; details: Json } {
  return {
    kind: "step_changed",
    question: `The step "${plan.key}" of task ${task.id} was recorded with another input. Which holds?`,
    details: { step: plan.key, recorded_input: step.input, input_now: plan.input, recorded_output: step.output },
  };
}

export type Settlement = { readonly answer: "approve" | "deny" | string; readonly value?: unknown; readonly reason?: string | undefined; readonly actor: string };

/** Settles decision `id`. `not_found`, `illegal_transition` when it is settled already, `usage` when the answer does not fit. */
export async function settleDecision(committer: Committer, id: string, settlement: Settlement): Promise<Decision> {
  for (let i = 0; i < 100; i++) {
    const decision = await getDecision(committer, id);
    requireOpen(decision, settlement);
    const task = decision.task_id === null ? null : (((await committer.store.get("task", [decision.task_id]))[0] ?? null) as Task | null);
    const now = committer.store.clock.now();
    const set = answered(decision, settlement, now);
    const change = changeOf(decision, task, set, settlement, now);
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
    throw new PawlError("illegal_transition", `${settlement.actor} asked decision ${decision.id} and cannot settle it.`, { next: "Let someone else settle it." });
  }
}

function answered(decision: Decision, settlement: Settlement, now: number): Partial<Decision> {
  const allowed = ANSWERS[decision.kind];
  const { answer } = settlement;
  if (decision.kind === "question" ? answer === "approve" || answer === "deny" : !Object.hasOwn(allowed, answer)) {
    const fits = decision.kind === "question" ? "any text" : Object.entries(allowed).map(([name, does]) => `${name} (${does})`).join(", ");
    throw new PawlError("usage", `"${answer}" does not answer decision ${decision.id}. It takes: ${fits}.`, { next: decision.kind === "question" ? `pawl answer ${decision.id} "…"` : `pawl answer ${decision.id} ${Object.keys(allowed)[0]}` });
  }
  const status: DecisionStatus = answer === "approve" ? "approved" : answer === "deny" ? "denied" : "answered";
  return {
    status, answer, value: settlement.value === undefined ? null : canonical(settlement.value, "value"), reason: settlement.reason ?? null,
    settled_by: settlement.actor, settled_at: iso(now),
  };
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

/** A wait whose time has come: settled, its decision (if any) expired, its task awake, in one change. */
export function settleDue(wait: Wait, task: Task | null, by: { actor: string; now: number }): Change {
  const at = iso(by.now);
  const puts: Put[] = [{ kind: "wait", key: [wait.task_id, wait.round, wait.key], set: { status: "settled", settled_at: at } }];
  if (wait.decision_id !== null) puts.push({ kind: "decision", key: wait.decision_id, set: { status: "expired", settled_at: at } });
  const guard = { kind: "wait", key: [wait.task_id, wait.round, wait.key], is: { status: "open" } } as const;
  if (task?.status !== "waiting") return { guards: task ? [guard, { kind: "task", key: task.id, is: { revision: task.revision } }] : [guard], puts };
  const outcome = wake(task, by, wait.decision_id === null ? "its time has come" : `decision ${wait.decision_id} expired`);
  return { guards: [guard, ...outcome.change.guards!], puts: [...puts, ...outcome.change.puts] };
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
  return { do: "fail", error: { message, code: decision.status === "expired" ? "expired" : "given_up", permanent: true } };
}

// Claims by callers that do not stay: commands, tools of a model, requests. A claim is held by time, renewed by whatever its
// caller does, and found again under the caller's name. Invariant: a caller has a claim of its own given back before it is
// given another task, so a program that forgot what it was doing goes on with it.
import { iso, parseIso, type Clock } from "../base/clock.ts";
import { isPawlError, PawlError } from "../base/errors.ts";
import type { Random } from "../base/id.ts";
import { canonical, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { claimDue } from "../core/claim.ts";
import { commitOrThrow, leaseLost, nextHint, type Committer } from "../core/committer.ts";
import { ANSWERS, askAbout, getDecision } from "../core/decision.ts";
import { DEFAULT_QUEUE } from "../core/new-task.ts";
import type { Decision, Task, Wait } from "../core/records.ts";
import { sweep } from "../core/sweep.ts";
import { park } from "../core/task.ts";
import { getTask, renewClaim, settleIfThere } from "../core/tasks.ts";
import { callerName, callerOf, formatToken, holderName, type Token } from "../core/token.ts";
import { hostEvidence } from "./liveness.ts";

/** A claimed task and the token that lets its holder complete, fail or release it. */
export type Claim = {
  readonly task: Task;
  readonly token: string;
  /** It was this caller's already. */
  readonly again?: true;
  /** What a person answered about it, oldest first; left out when there is nothing. */
  readonly answers?: readonly { readonly id: string; readonly question: string; readonly answer: string | null; readonly value: Json; readonly reason: string | null }[];
};

export type ClaimOptions = {
  /** How long it is held without a call that carries the token; default an hour. */
  readonly leaseMs?: number;
  readonly queue?: string;
  readonly batch?: string;
  readonly actor?: string;
  /** The name under which it is found again. */
  readonly caller?: string;
  /** How long to wait for a task to become due; at most LIMITS.claimWaitMs. */
  readonly waitMs?: number;
  /** Ends the waiting. */
  readonly signal?: AbortSignal;
};

type Desk = { readonly committer: Committer; readonly clock: Clock; readonly random: Random; readonly actor: string };

/** The claim of this caller, or the next due task; null when nothing is due, also not within `waitMs`. */
export async function claimHeld(desk: Desk, options: ClaimOptions): Promise<Claim | null> {
  const { clock } = desk;
  const leaseMs = options.leaseMs ?? LIMITS.heldLeaseMs;
  const waitMs = options.waitMs ?? 0;
  if (waitMs > LIMITS.claimWaitMs) throw new PawlError("usage", `A claim waits at most ${LIMITS.claimWaitMs} ms.`, { next: "Wait less, and claim again." });
  const own = options.caller === undefined ? undefined : (await heldClaims(desk.committer, options.caller)).find((claim) => fits(claim.task, options));
  if (own) {
    await renewClaim(desk.committer, { id: own.task.id, fence: own.task.fence, worker: own.task.worker! }, leaseMs);
    return { ...(await described(desk.committer, await getTask(desk.committer, own.task.id))), again: true };
  }
  const end = clock.monotonic() + waitMs;
  for (;;) {
    const task = await claimNext(desk, options, leaseMs);
    if (task) return described(desk.committer, task);
    const left = end - clock.monotonic();
    if (left <= 0 || options.signal?.aborted) return null;
    await nextHint(desk.committer, Math.min(left, LIMITS.claimPollMs), options.signal);
  }
}

const fits = (task: Task, { queue, batch }: ClaimOptions): boolean => (queue === undefined || task.queue === queue) && (batch === undefined || task.batch_id === batch);

async function claimNext({ committer, clock, random, actor }: Desk, options: ClaimOptions, leaseMs: number): Promise<Task | undefined> {
  // Nobody else may be there to see that a worker died, a delay has passed or a wait is over.
  await sweep(committer, hostEvidence(clock), actor, false);
  const [task] = await claimDue(committer, {
    lanes: [{ queue: options.queue ?? DEFAULT_QUEUE, batch_id: options.batch ?? null }], verifier: null, limit: 1,
    worker: holderName(random, options.caller), leaseMs, actor: options.actor ?? actor,
  });
  return task;
}

async function described(committer: Committer, task: Task): Promise<Claim> {
  const decisions = (await committer.store.list("decision", { index: "task", equals: { task_id: task.id } })) as unknown as Decision[];
  const answers = decisions.filter(({ status, round }) => status !== "open" && status !== "withdrawn" && (round === null || round === task.round));
  const told = answers.map(({ id, question, answer, value, reason }) => ({ id, question, answer, value, reason }));
  return { task, token: formatToken(task), ...(told.length === 0 ? {} : { answers: told }) };
}

export type HeldClaim = { readonly task: Task; readonly token: string; readonly caller: string | null };

/** The claims that are held by time now; of one caller, when one is named. Reads only. */
export async function heldClaims(committer: Committer, caller?: string): Promise<HeldClaim[]> {
  const owned = (await committer.store.list("task", { index: "lease" })) as unknown as Task[];
  const now = committer.store.clock.now();
  const name = caller === undefined ? undefined : callerName(caller);
  return owned
    .filter(({ worker, lease_expires_at }) => worker?.startsWith("c-") && parseIso(lease_expires_at!) > now && (name === undefined || callerOf(worker) === name))
    .sort((a, b) => a.id - b.id)
    .map((task) => ({ task, token: formatToken(task), caller: callerOf(task.worker!) }));
}

/** Extends a claim; gives the task with its new lease. */
export async function renewHeld(committer: Committer, token: Token, leaseMs: number = LIMITS.heldLeaseMs): Promise<Task> {
  await renewClaim(committer, token, leaseMs);
  return getTask(committer, token.id);
}

/** A question to a person about a task, or about nothing in particular. */
export type Question = { readonly question: string; readonly details?: unknown; readonly task?: number | string; readonly actor?: string };

/**
 * Puts a question into the inbox. With the token of a claim the task is set aside until it is answered and its claim ends;
 * it is due again then, and whoever claims it gets the answer. Gives the decision as it stands.
 */
export async function askPerson(desk: Desk, { question, details, task: ref, actor = desk.actor }: Question, token?: Token): Promise<Decision> {
  if (question.trim() === "") throw new PawlError("usage", "The question is empty.", { next: "Say what a person should decide." });
  const { committer } = desk;
  const task = ref === undefined ? null : await getTask(committer, ref);
  const shown = details === undefined ? null : canonical(details, "details");
  const now = committer.store.clock.now();
  if (token === undefined || task === null) {
    const decision = {
      task_id: task?.id ?? null, kind: "question", status: "open", question, options: ANSWERS.question, details: shown, round: task?.round ?? null, asked_by: actor, created_at: iso(now),
    };
    const result = await committer.commit({ puts: [{ kind: "decision", record: decision }] });
    if (!result.ok) throw "error" in result ? result.error : new PawlError("internal", "A question conflicted with nothing.");
    return getDecision(committer, String(result.ids[0]));
  }
  await renewClaim(committer, token, LIMITS.heldLeaseMs);
  const key = `question-${desk.random.hex(6)}`;
  await commitOrThrow(committer, askAbout(task, { key }, 1, { kind: "question", question, details: shown }, actor, now), (conflict) => leaseLost(task.id, conflict.record));
  const [wait] = (await committer.store.get("wait", [[task.id, task.round, key]])) as unknown as [Wait];
  const aside = async (current: Task, at: number) => (current.fence === token.fence && current.worker !== null && (await isOpen(committer, wait)) ? park(current, [wait], { actor, now: at, fence: token.fence }) : null);
  await settleIfThere(committer, task, actor, aside).catch((error: unknown) => {
    // Somebody answered in this very moment: then there is nothing to wait for.
    if (!isPawlError(error, "conflict")) throw error;
  });
  return getDecision(committer, wait.decision_id!);
}

async function isOpen(committer: Committer, wait: Wait): Promise<boolean> {
  const [now] = await committer.store.get("wait", [[wait.task_id, wait.round, wait.key]]);
  return now?.["status"] === "open";
}

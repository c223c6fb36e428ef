// The verbs of an agent: each reads what its rule needs, lets the rule decide, commits, and decides again when somebody else
// was faster. What the loop writes carries the fence of its task.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { canonical } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Fields, Guard } from "../store/store.ts";
import { diffOf, holdsAt, stateOf, viewOf, type Agent, type AgentDiff, type AgentState, type AgentView, type Constraints, type Entry } from "./agent.ts";
import { DEFAULT_POLICY } from "./approval.ts";
import { newBudget, type Budget, type GivenLimits, type BudgetLimits } from "./budget.ts";
import { addToBudget, budgetsAbove, getBudget, recoverReservations, showBudget, type BudgetView } from "./budgets.ts";
import { leaseLost, listAll, TRIES, type Committer } from "./committer.ts";
import { record } from "./history.ts";
import type { Message } from "./message.ts";
import { lastSeq, messagesOf, type MessageQuery } from "./messages.ts";
import { applyPatch, checkPatch, patchPuts, touchedBy, type Patch, type PatchRecord } from "./patch.ts";
import type { Decision, Task } from "./records.ts";
import { fenceGuard } from "./step.ts";
import { getTask } from "./tasks.ts";

export type OpenAgent = {
  /** Default: the task's description. */
  readonly goal?: string;
  /** Default: a person approves what writes or reaches outside. */
  readonly constraints?: Constraints;
  /** Changes the default limits. Only the first opening sets them: a resumed agent keeps its budget. */
  readonly budget?: GivenLimits;
  readonly model?: string;
  readonly actor: string;
};

/**
 * The agent of a task its caller owns: made on the first call, found again on every other. Its caller has no call open: what is
 * reserved is spend in doubt from now on. A task that was reset begins again (see agent.ts). Throws `lease_lost` when the task is someone else's.
 */
export async function openAgent(committer: Committer, task: Task, options: OpenAgent): Promise<AgentView> {
  const found = await findAgent(committer, task.id);
  if (!found) await makeAgent(committer, task, options);
  else {
    await recoverReservations(committer, task, "all");
    await takeIn(committer, task, found, options);
  }
  return showAgent(committer, task.id);
}

async function makeAgent(committer: Committer, task: Task, options: OpenAgent): Promise<void> {
  const now = committer.store.clock.now();
  const parent = task.parent_id === null ? null : (((await committer.store.get("budget", [task.parent_id]))[0] ?? null) as unknown as Budget | null);
  if (parent && (await budgetsAbove(committer, parent.id)) >= LIMITS.budgetDepth) throw new PawlError("usage", `Task ${task.id} would be the ${LIMITS.budgetDepth + 1}th agent below one another.`, { next: "Let agents start fewer agents." });
  const agent: Agent = {
    task_id: task.id, goal: options.goal ?? task.description, constraints: canonical(options.constraints ?? { human_in_the_loop: DEFAULT_POLICY }, "constraints") as Constraints,
    budget_id: task.id, revision: 0, entries: 0, round: task.round, epoch: 0, epoch_after: 0, context_tokens: 0, model: options.model ?? null, created_at: iso(now), updated_at: iso(now),
  };
  await commitOwned(committer, task, [{ kind: "agent", key: task.id, absent: true }], [
    { kind: "agent", record: agent as unknown as Fields },
    { kind: "budget", record: newBudget(task.id, options.budget ?? {}, parent?.id ?? null, now) },
    record({ task_id: task.id, event: "agent_opened", actor: options.actor, from: null, to: null, ...(agent.model === null ? {} : { details: { model: agent.model } }) }, now),
  ]);
}

/** What changed with the task since the agent saw it last. */
async function takeIn(committer: Committer, task: Task, agent: Agent, { model, actor }: OpenAgent): Promise<void> {
  const newModel = model !== undefined && model !== agent.model;
  // A round with feedback is taken in by the loop, together with the message that tells of it. One without it was reset:
  // nothing of the old one holds.
  const again = task.round !== agent.round && task.feedback === null;
  if (!again && !newModel) return;
  const now = committer.store.clock.now();
  const set: Fields = { updated_at: iso(now), ...(newModel ? { model } : {}) };
  const guards: Guard[] = [{ kind: "agent", key: task.id, is: { revision: agent.revision } }];
  if (!again) return commitOwned(committer, task, guards, [{ kind: "agent", key: task.id, set }]);
  const patch: Patch = { begin_again: true };
  const applied = applyPatch(agent, await entriesOf(committer, task.id), patch);
  const { puts } = patchPuts(agent, patch, applied, { author: actor, reason: "the task was reset", step_key: null, op_id: null, now });
  return commitOwned(committer, task, guards, [...puts, { kind: "agent", key: task.id, set: { ...set, round: task.round, epoch: agent.epoch + 1, epoch_after: await lastSeq(committer, task.id), context_tokens: 0 } }]);
}

/** Writes under the fence. Somebody who was faster has left it as it is wanted, or this call is made again. */
async function commitOwned(committer: Committer, task: Task, guards: readonly Guard[], puts: Parameters<Committer["commit"]>[0]["puts"]): Promise<void> {
  const result = await committer.commit({ guards: [fenceGuard(task), ...guards], puts });
  if (result.ok) return;
  if ("error" in result) throw result.error;
  if (result.conflict.kind === "task") throw leaseLost(task.id, result.conflict.record);
  throw new PawlError("conflict", `The agent of task ${task.id} was changed in the same moment.`, { next: "Try again." });
}

/** Null when the task has none. */
export async function findAgent(committer: Committer, taskId: number): Promise<Agent | null> {
  return ((await committer.store.get("agent", [taskId]))[0] ?? null) as unknown as Agent | null;
}

/** Throws `not_found` when the task has no agent. */
export async function getAgent(committer: Committer, ref: number | string): Promise<Agent> {
  const task = await getTask(committer, ref);
  const agent = await findAgent(committer, task.id);
  if (!agent) throw new PawlError("not_found", `Task ${task.id} has no agent.`, { next: "See which tasks have one: pawl agent list." });
  return agent;
}

/** The entries that hold now. */
async function entriesOf(committer: Committer, taskId: number): Promise<Entry[]> {
  return (await listAll(committer, "entry", { index: "current", equals: { task_id: taskId } })) as unknown as Entry[];
}

/** Record, state and spend as they are now. */
export async function showAgent(committer: Committer, ref: number | string): Promise<AgentView> {
  const agent = await getAgent(committer, ref);
  const [entries, budget] = await Promise.all([entriesOf(committer, agent.task_id), getBudget(committer, agent.budget_id)]);
  return viewOf(agent, entries, budget);
}

/** Agents, the one that changed last first. */
export async function listAgents(committer: Committer, limit = 100): Promise<Agent[]> {
  return (await committer.store.list("agent", { index: "updated", reverse: true, limit })) as unknown as Agent[];
}

export type PatchOptions = {
  /** Who patches, for the history: a person, or the loop. */
  readonly actor: string;
  /** The revision the patch was made for: with another one it is refused (`conflict`, with both). Without it, it is applied to what is there. */
  readonly revision?: number;
  /** Why; kept with the patch. */
  readonly reason?: string;
  /** The fence under which the caller owns the task: every write of a worker carries it. */
  readonly fence?: number;
  /** The step it comes from. */
  readonly step_key?: string;
  /** Applied once: with the same id again, the patch that is there is given back. For a worker that repeats a step whose record was lost. */
  readonly op_id?: string;
};

export type Patched = { readonly agent: Agent; readonly patch: PatchRecord };

/** Applies a patch. One that is not good changes nothing and says where. */
export async function patchAgent(committer: Committer, ref: number | string, raw: Patch, options: PatchOptions): Promise<Patched> {
  const patch = checkPatch(raw);
  const task = await getTask(committer, ref);
  const { step_key = null, op_id = null } = options;
  for (let i = 0; i < TRIES; i++) {
    const agent = await getAgent(committer, task.id);
    const before = op_id === null ? null : await patchOnce(committer, task.id, op_id);
    if (before) return { agent, patch: before };
    if (options.revision !== undefined && options.revision !== agent.revision) throw staleRevision(agent, options.revision);
    const lists = await Promise.all(touchedBy(patch).map(({ part, key }) => listAll(committer, "entry", { index: "current", equals: { task_id: task.id, part, key } })));
    const applied = applyPatch(agent, lists.flat() as unknown as Entry[], patch);
    const now = committer.store.clock.now();
    const { record: made, agent: after, puts } = patchPuts(agent, patch, applied, { author: options.actor, reason: options.reason ?? null, step_key, op_id, now });
    const fence: Guard[] = options.fence === undefined ? [] : [{ kind: "task", key: task.id, is: { fence: options.fence } }];
    const result = await committer.commit({ guards: [...fence, { kind: "agent", key: task.id, is: { revision: agent.revision } }], puts });
    if (result.ok) return { agent: after, patch: made };
    if ("error" in result) throw result.error;
    if (result.conflict.kind === "task") throw leaseLost(task.id, result.conflict.record);
    // Somebody patched in between: read again, and see whether it still fits.
  }
  throw new PawlError("conflict", `The agent of task ${task.id} changes faster than it can be patched.`, { next: "Try again." });
}

function staleRevision(agent: Agent, revision: number): PawlError {
  return new PawlError("conflict", `The patch was made for revision ${revision} of the agent of task ${agent.task_id}; it is at ${agent.revision} now.`, {
    next: `See ${revision < agent.revision ? `what changed: pawl agent diff ${agent.task_id} --from ${revision}` : `its revisions: pawl agent history ${agent.task_id}`}. Then patch revision ${agent.revision}.`,
    details: { task_id: agent.task_id, expected: revision, current: agent.revision },
  });
}

async function patchOnce(committer: Committer, task_id: number, op_id: string): Promise<PatchRecord | null> {
  const [found] = await committer.store.list("patch", { index: "once", equals: { task_id, op_id }, limit: 1 });
  return (found ?? null) as unknown as PatchRecord | null;
}

/** The patches of an agent, oldest first; those after revision `after`. */
export async function patchesOf(committer: Committer, ref: number | string, options: { after?: number; limit?: number } = {}): Promise<PatchRecord[]> {
  const agent = await getAgent(committer, ref);
  const found = await listAll(committer, "patch", { equals: { task_id: agent.task_id }, from: (options.after ?? 0) + 1 });
  return (options.limit === undefined ? found : found.slice(0, options.limit)) as unknown as PatchRecord[];
}

/** The state as it was at a revision. Its budget, and the flag that comes from it, are those of now. */
export async function agentAt(committer: Committer, ref: number | string, revision: number): Promise<AgentState> {
  const agent = await getAgent(committer, ref);
  checkRevision(agent, revision);
  const all = await listAll(committer, "entry", { index: "since", equals: { task_id: agent.task_id }, to: revision + 1 });
  return stateOf(agent, (all as unknown as Entry[]).filter((entry) => holdsAt(entry, revision)), await getBudget(committer, agent.budget_id));
}

/** What is different at revision `to` (default: now) from revision `from`: reads what changed in between, however long the history is. */
export async function diffAgent(committer: Committer, ref: number | string, from: number, to?: number): Promise<AgentDiff> {
  const agent = await getAgent(committer, ref);
  const until = to ?? agent.revision;
  for (const revision of [from, until]) checkRevision(agent, revision);
  const [low, high] = from <= until ? [from, until] : [until, from];
  const within = { equals: { task_id: agent.task_id }, from: low + 1, to: high + 1 };
  const [came, went] = await Promise.all(["since", "until"].map((index) => listAll(committer, "entry", { index, ...within })));
  const entries = new Map([...came!, ...went!].map((entry) => [entry["id"], entry as unknown as Entry]));
  return diffOf([...entries.values()].sort((a, b) => a.id - b.id), from, until);
}

function checkRevision(agent: Agent, revision: number): void {
  if (Number.isSafeInteger(revision) && revision >= 0 && revision <= agent.revision) return;
  throw new PawlError("usage", `There is no revision ${revision} of the agent of task ${agent.task_id}; it is at ${agent.revision}.`, { next: `See them: pawl agent history ${agent.task_id}.`, details: { revision, current: agent.revision } });
}

/** The agents of a state, for programs. An agent is named by its task: id or key. */
export type AgentVerbs = {
  /** Throws `not_found` when the task has no agent. */
  show(ref: number | string): Promise<AgentView>;
  list(limit?: number): Promise<Agent[]>;
  patch(ref: number | string, patch: Patch, options?: Partial<PatchOptions>): Promise<Patched>;
  history(ref: number | string, options?: { after?: number; limit?: number }): Promise<PatchRecord[]>;
  at(ref: number | string, revision: number): Promise<AgentState>;
  diff(ref: number | string, from: number, to?: number): Promise<AgentDiff>;
  /** Throws `not_found` for a task without an agent. */
  messages(ref: number | string, query?: MessageQuery): Promise<Message[]>;
  budget(ref: number | string): Promise<BudgetView>;
  /** Raises limits; an open decision about the budget is approved with it. */
  addToBudget(ref: number | string, add: BudgetLimits, options?: { actor?: string; reason?: string }): Promise<{ readonly budget: BudgetView; readonly decision: Decision | null }>;
};

export function agentVerbs(home: { readonly committer: Committer; readonly actor: string }): AgentVerbs {
  return {
    show: (ref) => showAgent(home.committer, ref),
    list: (limit) => listAgents(home.committer, limit),
    patch: (ref, patch, options) => patchAgent(home.committer, ref, patch, { actor: home.actor, ...options }),
    history: (ref, options) => patchesOf(home.committer, ref, options),
    at: (ref, revision) => agentAt(home.committer, ref, revision),
    diff: (ref, from, to) => diffAgent(home.committer, ref, from, to),
    messages: async (ref, query) => messagesOf(home.committer, (await getAgent(home.committer, ref)).task_id, query),
    budget: (ref) => showBudget(home.committer, ref),
    addToBudget: async (ref, add, options) => {
      const { decision } = await addToBudget(home.committer, ref, add, options?.actor ?? home.actor, options?.reason);
      return { budget: await showBudget(home.committer, ref), decision };
    },
  };
}

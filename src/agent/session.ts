// What one execution of an agent's task holds in memory: the conversation of the epoch, the agent as it was last read, the
// clock of its working time. Invariant: memory follows the state: a message is remembered only once its commit is made.
import type { Json } from "../base/json.ts";
import { PawlError } from "../base/errors.ts";
import type { AgentView } from "../core/agent.ts";
import { openAgent, patchAgent, showAgent } from "../core/agents.ts";
import { timeExtra, type Amounts, type Reservation } from "../core/budget.ts";
import { reserve, timeLeft } from "../core/budgets.ts";
import { leaseLost, type Committer } from "../core/committer.ts";
import { askForBudget } from "../core/decision.ts";
import { clearContext, lastSeq, messagesOf } from "../core/messages.ts";
import { messagePut, type CarryOver, type Message, type NewMessage } from "../core/message.ts";
import type { Patch } from "../core/patch.ts";
import type { Task } from "../core/records.ts";
import { PermanentError } from "../core/retry.ts";
import { fenceGuard } from "../core/step.ts";
import type { Put } from "../store/store.ts";
import type { StepScope } from "../worker/context.ts";
import type { Attempt } from "../worker/executor.ts";
import { callsOf } from "./render.ts";
import type { AgentEvent, Setup } from "./setup.ts";
import { TimeLimit } from "./time.ts";

export class Session {
  readonly task: Task;
  readonly attempt: Attempt;
  readonly setup: Setup;
  readonly committer: Committer;
  view: AgentView;
  /** Of this epoch, oldest first. */
  messages: Message[];
  /** The highest number a message has, or was promised to. */
  #seq: number;
  #mark: number;

  private constructor(task: Task, attempt: Attempt, setup: Setup, view: AgentView, messages: Message[], seq: number) {
    this.task = task;
    this.attempt = attempt;
    this.setup = setup;
    this.committer = attempt.committer;
    this.view = view;
    this.messages = messages;
    this.#seq = Math.max(seq, ...messages.slice(-1).map(promisedBy), ...messages.filter(({ role }) => role === "assistant").slice(-1).map(promisedBy));
    this.#mark = this.now();
  }

  /** The agent of the task as it stands: made now, or found with its conversation. */
  static async open(task: Task, attempt: Attempt, setup: Setup): Promise<Session> {
    const { committer, actor } = attempt;
    const view = await openAgent(committer, task, { constraints: setup.constraints, budget: setup.budget, model: setup.modelName, actor });
    const [messages, seq] = await Promise.all([messagesOf(committer, task.id), lastSeq(committer, task.id)]);
    return new Session(task, attempt, setup, view, messages, seq);
  }

  now(): number {
    return this.committer.store.clock.now();
  }

  get scope(): StepScope {
    return this.attempt.context;
  }

  /** The number of the next message; the `calls` after it are kept for the answers to its tool calls. */
  nextSeq(calls = 0): number {
    const seq = this.#seq + 1;
    this.#seq = seq + calls;
    return seq;
  }

  /** The number the next message will have. */
  peekSeq(): number {
    return this.#seq + 1;
  }

  /** Working time since it was last asked for, in ms. Waiting is not work: nobody asks while a task is parked. */
  takeTime(): number {
    const now = this.now();
    const ms = Math.max(0, now - this.#mark);
    this.#mark = now;
    return ms;
  }

  /** Working time that is not counted yet, in ms. */
  #uncounted(): number {
    return this.now() - this.#mark;
  }

  timer(ms: number, fn: () => void): () => void {
    return this.committer.store.clock.timer(ms, fn);
  }

  /** Working time that is left for a call, in ms; Infinity without a limit. */
  async timeLeft(reservation: Reservation): Promise<number> {
    return (await timeLeft(this.committer, reservation)) - this.#uncounted();
  }

  /** Counts the time since it was last counted. */
  async countTime(reservation: Reservation): Promise<void> {
    await this.commit([], timeExtra(reservation, this.takeTime()));
  }

  /** The write of a message, and what remembers it once it is written. */
  message(message: NewMessage): { readonly put: Put; readonly remember: () => void } {
    const { agent } = this.view;
    const put = messagePut(agent, message, this.now());
    return { put, remember: () => this.#remember((put as unknown as { record: Message }).record) };
  }

  #remember(message: Message): void {
    let at = this.messages.length;
    while (at > 0 && this.messages[at - 1]!.seq > message.seq) at--;
    this.messages.splice(at, 0, message);
    this.#seq = Math.max(this.#seq, promisedBy(message));
  }

  /** Appends messages that come from no step. `also` goes into the same commit. */
  async append(messages: readonly Pick<NewMessage, "role" | "content">[], also: readonly Put[] = []): Promise<void> {
    const made = messages.map((message) => this.message({ ...message, seq: this.nextSeq() }));
    await this.commit([...made.map(({ put }) => put), ...also]);
    for (const { remember } of made) remember();
  }

  /** Writes under the task's fence. */
  async commit(puts: readonly Put[], extra: { additions?: Parameters<Committer["commit"]>[0]["additions"]; guards?: Parameters<Committer["commit"]>[0]["guards"] } = {}): Promise<void> {
    const { guards = [], additions = [] } = extra;
    const result = await this.attempt.busy(() => this.committer.commit({ guards: [fenceGuard(this.task), ...guards], puts, additions }));
    if (result.ok) return;
    if ("error" in result) throw result.error;
    if (result.conflict.kind === "task") throw leaseLost(this.task.id, result.conflict.record);
    throw new PawlError("conflict", `A ${result.conflict.kind} of task ${this.task.id} was changed by another writer.`, { details: { conflict: result.conflict as unknown as Json } });
  }

  /** Reads the agent anew: people may have patched it, or raised its budget. */
  async refresh(): Promise<AgentView> {
    return (this.view = await this.attempt.busy(() => showAgent(this.committer, this.task.id)));
  }

  /** Patches the agent's state, once for each `stepKey` of a round. */
  async patch(patch: Patch, stepKey: string): Promise<number> {
    const { agent } = await this.attempt.busy(() => patchAgent(this.committer, this.task.id, patch, { actor: this.attempt.actor, fence: this.task.fence, step_key: stepKey }));
    return agent.revision;
  }

  /** Takes what a call may use out of the budget; waits for a person while there is not enough. `limit` bounds its time. */
  async reserve(scope: StepScope, key: string, amounts: Amounts): Promise<{ readonly reservation: Reservation; readonly limit: TimeLimit }> {
    for (;;) {
      const reserved = await this.attempt.busy(() => reserve(this.committer, this.task, key, amounts));
      if (reserved.ok) return { reservation: reserved.reservation, limit: new TimeLimit(this, reserved.reservation, reserved.timeLeftMs - this.#uncounted()) };
      const decision = await scope.decide("budget", askForBudget(this.task.id, reserved.over));
      if (decision.status === "approved") continue;
      const what = reserved.over.map(({ resource, used, limit }) => `${resource} (${used} of ${limit})`).join(", ");
      throw new PermanentError(`the budget is used up: ${what}; decision ${decision.id}: ${decision.status}${decision.reason === null ? "" : `, ${decision.reason}`}`);
    }
  }

  /** Begins the next epoch with a carry-over. */
  async clear(carryOver: CarryOver): Promise<void> {
    await clearContext(this.committer, this.task, this.view.agent.epoch, carryOver, this.attempt.actor);
    await this.refresh();
    this.messages = await messagesOf(this.committer, this.task.id);
    this.#seq = Math.max(this.#seq, await lastSeq(this.committer, this.task.id));
    this.tell({ type: "cleared", epoch: this.view.agent.epoch, carry_over: carryOver });
  }

  /** Tells the listener; what it throws is its own affair. */
  tell(event: AgentEvent): void {
    try {
      this.setup.onEvent?.(event);
    } catch {
      // A listener that fails must not end a run.
    }
  }
}

/** The last number that a message takes, those it keeps for the answers to its calls included. */
function promisedBy(message: Message): number {
  return message.seq + (message.role === "assistant" ? callsOf(message).length : 0);
}

// The verbs of messages: read a conversation with what its steps hold, and begin the next one with a carry-over.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import type { Fields } from "../store/store.ts";
import type { Agent } from "./agent.ts";
import { outputOf } from "./artifacts.ts";
import { leaseLost, listAll, TRIES, type Committer } from "./committer.ts";
import { record } from "./history.ts";
import { messagePut, type CarryOver, type Message } from "./message.ts";
import type { Step, Task } from "./records.ts";
import { fenceGuard } from "./step.ts";
import { getTask } from "./tasks.ts";

export type MessageQuery = {
  /** Default: the present one. */
  readonly epoch?: number | "all";
  /** Only those after this number. */
  readonly after?: number;
  readonly limit?: number;
};

/** The messages of an agent, oldest first, each with its content, also where a step holds it. */
export async function messagesOf(committer: Committer, ref: number | string, query: MessageQuery = {}): Promise<Message[]> {
  const { id } = await getTask(committer, ref);
  const [agent] = (await committer.store.get("agent", [id])) as unknown as (Agent | null)[];
  const epoch = query.epoch ?? agent?.epoch ?? 0;
  const after = Math.max(query.after ?? 0, epoch === agent?.epoch ? agent.epoch_after : 0);
  const found = (await listAll(committer, "message", { equals: { task_id: id }, from: after + 1 })) as unknown as Message[];
  const wanted = found.filter((message) => epoch === "all" || message.epoch === epoch).slice(0, query.limit ?? found.length);
  return filled(committer, wanted);
}

/** The messages with what their steps recorded. */
async function filled(committer: Committer, messages: readonly Message[]): Promise<Message[]> {
  const pointing = messages.filter((message) => message.step_key !== null);
  const steps = (await committer.store.get("step", pointing.map((message) => [message.task_id, message.round!, message.step_key!]))) as unknown as (Step | null)[];
  const outputs = await Promise.all(steps.map((step) => (step ? outputOf(committer, step) : null)));
  const contents = new Map(pointing.map((message, i): [number, Json] => [message.seq, outputs[i] ?? message.content]));
  return messages.map((message) => (contents.has(message.seq) ? { ...message, content: contents.get(message.seq)! } : message));
}

/** The number of the last message over all epochs; 0 when there is none. */
export async function lastSeq(committer: Committer, taskId: number): Promise<number> {
  const [last] = await committer.store.list("message", { equals: { task_id: taskId }, reverse: true, limit: 1 });
  return (last?.["seq"] as number | undefined) ?? 0;
}

/**
 * Clears the context: the next epoch begins, with the carry-over as its first message, in one change. Repeated for an epoch
 * that is over already it changes nothing, so a crash before or after it resumes in the right half. Throws `lease_lost`.
 */
export async function clearContext(committer: Committer, task: Task, epoch: number, carryOver: CarryOver | null, actor: string): Promise<Agent> {
  for (let i = 0; i < TRIES; i++) {
    const [agent] = (await committer.store.get("agent", [task.id])) as unknown as (Agent | null)[];
    if (!agent) throw new PawlError("not_found", `Task ${task.id} has no agent.`);
    if (agent.epoch > epoch) return agent;
    const now = committer.store.clock.now();
    const epoch_after = await lastSeq(committer, task.id);
    const seq = epoch_after + 1;
    const next = { ...agent, epoch: epoch + 1, epoch_after, context_tokens: 0, updated_at: iso(now) };
    const first = carryOver === null ? [] : [messagePut(next, { seq, role: "carry_over", content: carryOver as unknown as Json }, now)];
    const set: Fields = { epoch: next.epoch, epoch_after, context_tokens: 0, updated_at: next.updated_at };
    const event = record({ task_id: task.id, event: "context_cleared", actor, from: null, to: null, details: { epoch: next.epoch, tokens: agent.context_tokens, messages: epoch_after } }, now);
    const result = await committer.commit({
      guards: [fenceGuard(task), { kind: "agent", key: task.id, is: { epoch } }, { kind: "message", key: [task.id, seq], absent: true }],
      puts: [{ kind: "agent", key: task.id, set }, ...first, event],
    });
    if (result.ok) return next;
    if ("error" in result) throw result.error;
    if (result.conflict.kind === "task") throw leaseLost(task.id, result.conflict.record);
  }
  throw new PawlError("conflict", `The conversation of task ${task.id} changes faster than it can be cleared.`, { next: "Try again." });
}

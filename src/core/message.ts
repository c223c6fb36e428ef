// A message is one entry of an agent's conversation: append-only, numbered, in an epoch. Clearing the context begins the
// next epoch with a carry-over as its first message, in one change; the originals stay. A message whose content a step
// has recorded points to that step, so that nothing large is kept twice.
import { iso } from "../base/clock.ts";
import type { Json } from "../base/json.ts";
import type { Fields, Kind, Put } from "../store/store.ts";
import type { Agent } from "./agent.ts";

export type Role = "system" | "user" | "assistant" | "tool" | "carry_over";

export type Message = {
  readonly task_id: number;
  /** Counts up from 1 over all epochs. */
  readonly seq: number;
  readonly epoch: number;
  readonly role: Role;
  /** As the model's library keeps it; null when a step holds it. */
  readonly content: Json;
  /** The round of the task in which it was written. */
  readonly round: number | null;
  /** The step of that round whose output is the content. */
  readonly step_key: string | null;
  /** As the provider counted, where it did. */
  readonly tokens: number | null;
  readonly created_at: string;
};

/** What a conversation that was cleared hands to the next. */
export type CarryOver = { readonly done: readonly string[]; readonly next: readonly string[]; readonly decisions: readonly string[]; readonly do_not_repeat: readonly string[] };

export const MESSAGE_KIND: Kind = {
  name: "message",
  fields: { task_id: "integer", seq: "integer", epoch: "integer", role: "text", content: "json", round: "integer", step_key: "text", tokens: "integer", created_at: "text" },
  key: ["task_id", "seq"],
  // None: a conversation is read along its key.
  indexes: {},
};

export type NewMessage = Pick<Message, "seq" | "role"> & { readonly content?: Json; readonly step?: { readonly round: number; readonly key: string }; readonly tokens?: number };

/**
 * The write of one message; it goes along with the record of the step it comes from. `seq` is the caller's to count: the
 * owner of the task is the only one who appends, and the answers to parallel tool calls are numbered before they come.
 */
export function messagePut(agent: Pick<Agent, "task_id" | "epoch" | "round">, message: NewMessage, now: number): Put {
  const record: Fields = {
    task_id: agent.task_id, seq: message.seq, epoch: agent.epoch, role: message.role, content: message.content ?? null, round: message.step?.round ?? agent.round,
    step_key: message.step?.key ?? null, tokens: message.tokens ?? null, created_at: iso(now),
  };
  return { kind: "message", record };
}

/** What the provider counted the conversation to be, kept with the step that asked it. */
export function contextTokensPut(agent: Pick<Agent, "task_id">, tokens: number): Put {
  return { kind: "agent", key: agent.task_id, set: { context_tokens: tokens } };
}

// The history of a task: one transition for each change, sealed into a hash chain, so that nothing can be altered,
// removed from the middle or reordered without `verifyChain` seeing it. The store calls `seal` inside the commit, in the
// order in which changes are applied, so `seq` and `hash` are never a reason for a conflict.
//
//   hash(n) = sha256( hash(n-1) + text of transition n without its hash ),  hash(0) = ""
import { iso } from "../base/clock.ts";
import { sha256, type Json } from "../base/json.ts";
import type { NewId, Put, Rec } from "../store/store.ts";
import type { Status, Transition } from "./records.ts";

/** What happened, before the store seals it. */
export type Event = {
  readonly task_id: number | NewId;
  readonly event: string;
  readonly actor: string;
  readonly from: Status | null;
  readonly to: Status | null;
  readonly reason?: string | null | undefined;
  readonly details?: Json | undefined;
};

/** The write that records an event. */
export function record(event: Event, now: number): Put {
  return {
    kind: "transition",
    record: {
      task_id: event.task_id,
      at: iso(now),
      actor: event.actor,
      event: event.event,
      from_status: event.from ?? undefined,
      to_status: event.to ?? undefined,
      reason: event.reason ?? undefined,
      details: event.details ?? undefined,
    },
  };
}

/** Completes a transition from its predecessor: number and hash. */
export function seal(previous: Rec | null, transition: Rec): Rec {
  const seq = ((previous?.["seq"] as number | undefined) ?? 0) + 1;
  const sealed = { ...transition, seq, hash: "" };
  sealed.hash = hashOf((previous?.["hash"] as string | undefined) ?? "", sealed);
  return sealed;
}

function hashOf(previous: string, t: Rec): string {
  return sha256(
    previous + JSON.stringify([t["task_id"], t["seq"], t["at"], t["actor"], t["event"], t["from_status"] ?? null, t["to_status"] ?? null, t["reason"] ?? null, t["details"] ?? null]),
  );
}

/** The number of the first transition that does not follow from the one before it, or null when the chain is whole. */
export function verifyChain(transitions: readonly Transition[]): number | null {
  let previous = "";
  let seq = 0;
  for (const transition of transitions) {
    if (transition.seq !== ++seq || transition.hash !== hashOf(previous, transition as unknown as Rec)) return seq;
    previous = transition.hash;
  }
  return null;
}

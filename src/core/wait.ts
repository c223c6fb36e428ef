// A wait: what a parked task waits for, as a record, so that no process has to wait with it. Here is what all kinds of waits
// share: how one is written, settled and withdrawn.

//   (none) ── the code waits ──▶ open ── an answer, an event, its time, its children's end ──▶ settled
//                                 └── its task ended or starts anew ──▶ withdrawn ── waited for again ──▶ open

// Invariant: whoever settles a wait wakes its task in the same change, guarded on the task as it was read; parking is guarded
// on every wait being open. So whichever comes first, the task does not sleep on what is there.
import { iso } from "../base/clock.ts";
import type { Addition, Change, Fields, Put } from "../store/store.ts";
import { listAll, type Committer } from "./committer.ts";
import type { Decision, Task, Wait } from "./records.ts";
import { wake, withdraw, type By } from "./task.ts";

export const waitKey = (wait: Wait) => [wait.task_id, wait.round, wait.key] as const;

/** The write that opens a wait of the step with this key. */
export function openWait(task: Task, key: string, kind: Wait["kind"], fields: Fields, now: number): Put {
  return { kind: "wait", record: { task_id: task.id, round: task.round, key, kind, status: "open", created_at: iso(now), ...fields } };
}

/**
 * What goes with every write that opens a wait: the task's revision rises, so that whoever is ending the task at this moment
 * decides again and withdraws this wait too.
 */
export const opening = (task: Task): Addition => ({ kind: "task", key: task.id, field: "revision", n: 1 });

/** What settling a wait does to its task: woken when it is parked, else left to the worker that has it. `puts` go with it. */
export function settleWait(wait: Wait, task: Task | null, by: By, reason: string, set: Fields = {}, puts: readonly Put[] = []): Change {
  const key = waitKey(wait);
  const guard = { kind: "wait", key, is: { status: "open" } } as const;
  const settled: Put = { kind: "wait", key, set: { status: "settled", settled_at: iso(by.now), ...set } };
  if (task?.status !== "waiting") {
    const unparked = task ? [{ kind: "task", key: task.id, is: { revision: task.revision } } as const] : [];
    return { guards: [guard, ...unparked], puts: [...puts, settled] };
  }
  const outcome = wake(task, by, reason);
  return { guards: [guard, ...outcome.change.guards!], puts: [...puts, settled, ...outcome.change.puts] };
}

/** The open waits and decisions of a task as writes that withdraw them. */
export async function closingOf(committer: Committer, id: number): Promise<Put[]> {
  const waits = (await listAll(committer, "wait", { equals: { task_id: id } })) as unknown as Wait[];
  const decisions = (await listAll(committer, "decision", { index: "task", equals: { task_id: id } })) as unknown as Decision[];
  return withdraw(waits, decisions, committer.store.clock.now());
}

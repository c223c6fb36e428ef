// What a change of a task means for its slot and its place in the line of its concurrency key (slot.ts has the whole story):
// kept, freed, or lined up for. Pure, and apart from slot.ts because every change of a task comes through here.
import type { NewId, Put } from "../store/store.ts";
import type { Task } from "./records.ts";

type Placed = Pick<Task, "priority" | "concurrency_key" | "concurrency_limit" | "slot" | "line" | "ready" | "worker" | "status" | "run_at">;

/** What goes with the change from `before` to `after`; null when neither has to do with a slot. `revision` is that of `after`. */
export function keepSlot(before: Placed, after: Placed & Pick<Task, "id" | "revision">): { readonly set: Partial<Task>; readonly puts: readonly Put[] } | null {
  const key = after.concurrency_key ?? null;
  const slot = before.slot ?? null;
  const line = before.line ?? null;
  if (key === null && slot === null && line === null) return null;
  // An owner keeps its slot whatever becomes of the key; a task that is due keeps it while it is a slot of its key.
  if (slot !== null && (after.worker !== null || (after.ready && keyOfSlot(slot) === key))) return null;
  const puts: Put[] = [];
  if (slot !== null) puts.push({ kind: "slot", key: slot, delete: true }, vacancy(keyOfSlot(slot), after.id, after.revision));
  const stays = line !== null && after.line === line && !after.ready && after.status === before.status && after.run_at === null && after.worker === null;
  const due = after.ready || stays;
  // Another place in the line, or another limit, may mean its turn.
  const same = key === line && after.priority === before.priority && (after.concurrency_limit ?? null) === (before.concurrency_limit ?? null);
  if (due && key !== null && !same) puts.push(vacancy(key, after.id, after.revision));
  return { set: { slot: null, line: due ? key : null, ready: due && key === null }, puts };
}

/** Whether a change of a task can have to do with slots: most have not, and are spared the rest. */
export const isKeyed = (task: Task, set: Partial<Task>): boolean => task.concurrency_key != null || task.slot != null || task.line != null || set.concurrency_key != null;

/** A task that comes into being due stands in line first. */
export function lineUp<T extends Pick<Task, "concurrency_key" | "ready" | "line">>(task: T): T {
  return task.ready && task.concurrency_key != null ? { ...task, ready: false, line: task.concurrency_key } : task;
}

/** Somebody must look at the line of this key. */
export function vacancy(key: string, task_id: number | NewId, revision: number): Put {
  return { kind: "vacancy", record: { concurrency_key: key, task_id, revision } };
}

/** The keys whose line somebody must look at after this change of a task. */
export function linesOf(before: Placed | null, after: Placed): string[] {
  const freed = before?.slot != null && after.slot !== before.slot ? [keyOfSlot(before.slot)] : [];
  return after.line != null && after.line !== before?.line ? [...freed, after.line] : freed;
}

/** Due but for a slot, or due. */
export const isDue = (task: Pick<Task, "ready" | "line">): boolean => task.ready || task.line != null;

const keyOfSlot = (slot: string): string => slot.slice(0, slot.lastIndexOf("#"));

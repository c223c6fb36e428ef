// What is wrong with waits, children and events: something is there that a task waits for, and the task was not told. A crash
// between two commits leaves this for the next sweep, except for events, which are told in the change that emits them.
import { finding, type Finding } from "../base/finding.ts";
import { TERMINAL, type Status, type Wait } from "./records.ts";

type Known = ReadonlyMap<number, { readonly status: Status }>;

/** `kept` are the names of which an event is kept. */
export function untoldWait(wait: Wait, known: Known, kept: ReadonlySet<string>): Finding[] {
  if (wait.status !== "open" || !known.has(wait.task_id)) return [];
  const record = `wait ${wait.key} of task ${wait.task_id}`;
  if (wait.event !== null && kept.has(wait.event)) {
    return [finding("untold", "", `It waits for the event "${wait.event}", and one is kept: somebody wrote past Pawl.`, { record, next: `pawl event list --name ${wait.event}, then drop the event and emit it again` })];
  }
  if (wait.child_id === null) return [];
  const status = known.get(wait.child_id)?.status ?? "removed";
  if (status !== "removed" && !TERMINAL.has(status)) return [];
  return [finding("untold", "", `It waits for task ${wait.child_id}, a child that is ${status}: a crash came between. The next sweep tells it.`, { record, next: "pawl doctor --repair" })];
}

/** A task whose children do not know yet what happened to it. */
export function untoldChildren(task: { readonly id: number; readonly status: Status; readonly children_due?: string | null }): Finding[] {
  if (!task.children_due) return [];
  return [finding("untold", "", `It is ${task.status}, and its children have not been told: a crash came between. The next sweep tells them.`, { record: `task ${task.id}`, next: "pawl doctor --repair" })];
}

// What follows from a change of a task in other tasks: those that depend on it, the parent that waits for it, its children.
// Whoever changed a task calls this after the commit; what a crash leaves undone, the sweep does.
import { followEnd, followParent } from "./children.ts";
import type { Committer } from "./committer.ts";
import { deriveReady, followDependents } from "./dependency.ts";
import { isDue } from "./line.ts";
import { TERMINAL, type Task } from "./records.ts";
import { followLines } from "./slots.ts";

/** After any change of a task: its dependents follow when it became completed or stopped being it, and one that is due again looks at its own dependencies, which may have changed while it ran; its end reaches its parent, and what happened to it its children. */
export async function followChange(committer: Committer, before: Task, after: Task, actor: string): Promise<void> {
  if (after.has_dependents && (before.status === "completed") !== (after.status === "completed")) await followDependents(committer, after.id, actor);
  if (after.status === "pending" && isDue(after) && after.depends_on.length > 0) await deriveReady(committer, [after.id], actor);
  if (after.parent_id !== null && TERMINAL.has(after.status) && before.status !== after.status) await followEnd(committer, after, actor);
  if (after.children_due) await followParent(committer, after.id, actor);
  if (before.slot || after.line) await followLines(committer, before, after, actor);
}

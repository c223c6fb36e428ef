// Which tasks must be completed before another may start. `ready` is stored with the task and derived from the current
// state after either side commits (never counted): whoever adds the edge looks at the dependency again afterwards, whoever
// changes the dependency looks at its dependents afterwards, and the sweep repairs what a crash between left undone.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { Committer } from "./committer.ts";
import { record } from "./history.ts";
import { isDue, keepSlot } from "./line.ts";
import { allCompleted } from "./new-task.ts";
import type { Task } from "./records.ts";
import { followLines } from "./slots.ts";

type Edge = { readonly task_id: number; readonly depends_on_id: number };

/** The tasks that `task` depends on, as they stand; those that were removed are left out. */
export async function dependenciesOf(committer: Committer, task: { depends_on: readonly number[] }): Promise<Task[]> {
  if (task.depends_on.length === 0) return [];
  const found = await committer.store.get("task", task.depends_on);
  return found.filter((dependency) => dependency !== null) as unknown as Task[];
}

/** Ids of the tasks that depend on `id`. */
export async function dependentsOf(committer: Committer, id: number): Promise<number[]> {
  const edges = (await committer.store.list("dependency", { index: "dependents", equals: { depends_on_id: id } })) as unknown as Edge[];
  return edges.map((edge) => edge.task_id);
}

/** True when the task is pending, its time has come and everything it depends on is completed (and still there). */
export async function shouldBeReady(committer: Committer, task: Task): Promise<boolean> {
  if (task.run_at !== null) return false;
  const dependencies = await dependenciesOf(committer, task);
  return dependencies.length === task.depends_on.length && allCompleted(dependencies);
}

/** Makes `ready` of pending tasks agree with their dependencies. Returns how many became ready. */
export async function deriveReady(committer: Committer, ids: readonly number[], actor: string): Promise<number> {
  let unblocked = 0;
  for (const id of ids) if (await deriveOne(committer, id, actor)) unblocked++;
  return unblocked;
}

async function deriveOne(committer: Committer, id: number, actor: string): Promise<boolean> {
  for (;;) {
    const task = (await committer.store.get("task", [id]))[0] as Task | null | undefined;
    if (!task || task.status !== "pending") return false;
    const dependencies = task.run_at === null ? await dependenciesOf(committer, task) : [];
    const ready = task.run_at === null && dependencies.length === task.depends_on.length && allCompleted(dependencies);
    if (ready === isDue(task)) return false;
    // What was read must still hold when this is written: a dependency may be reset while another one completes.
    const decisive = ready ? dependencies : dependencies.filter((dependency) => dependency.status !== "completed").slice(0, 1);
    const guards = decisive.map((dependency) => ({ kind: "task", key: dependency.id, is: { status: dependency.status } }) as const);
    const now = committer.store.clock.now();
    const placed = keepSlot(task, { ...task, ready, line: null, revision: task.revision + 1 });
    const set = { ready, revision: task.revision + 1, updated_at: iso(now), ...placed?.set };
    const event = record({ task_id: id, event: ready ? "unblocked" : "blocked", actor, from: "pending", to: "pending" }, now);
    const result = await committer.commit({ guards: [{ kind: "task", key: id, is: { revision: task.revision } }, ...guards], puts: [{ kind: "task", key: id, set }, event, ...(placed?.puts ?? [])] });
    if (result.ok) {
      await followLines(committer, task, { ...task, ...set }, actor);
      return ready;
    }
    if ("error" in result) throw result.error;
  }
}

/** After a task became completed, or stopped being it: its dependents follow. */
export async function followDependents(committer: Committer, id: number, actor: string): Promise<number> {
  const ids = await dependentsOf(committer, id);
  return ids.length === 0 ? 0 : deriveReady(committer, ids, actor);
}

/** Throws `usage` with the path when making `id` depend on `dependsOn` would close a circle. A task waits for the children its code started, too. */
export async function refuseCycle(committer: Committer, id: number, dependsOn: readonly number[]): Promise<void> {
  const edges = new Map<number, readonly number[]>();
  const queue = [...dependsOn];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    if (edges.has(next) || next === id) continue;
    const of = { equals: { task_id: next } };
    const [found, children] = await Promise.all([committer.store.list("dependency", of), committer.store.list("child", of)]);
    edges.set(next, [...found.map((edge) => edge["depends_on_id"] as number), ...children.map((child) => child["child_id"] as number)]);
    queue.push(...edges.get(next)!);
  }
  refuseCircle(id, dependsOn, (next) => edges.get(next) ?? []);
}

/** The same rule on edges that are known: `edgesOf` says what a task depends on. */
export function refuseCircle(id: number, dependsOn: readonly number[], edgesOf: (id: number) => readonly number[]): void {
  const cameFrom = new Map<number, number>(dependsOn.map((next) => [next, id]));
  const queue = [...dependsOn];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    if (next === id) throw cycle(pathTo(id, cameFrom));
    for (const further of edgesOf(next)) {
      if (cameFrom.has(further)) continue;
      cameFrom.set(further, next);
      queue.push(further);
    }
  }
}

/** Walks back from the edge that closed the circle to its beginning. */
function pathTo(id: number, cameFrom: ReadonlyMap<number, number>): number[] {
  const path = [id];
  for (let at = cameFrom.get(id); at !== undefined && at !== id; at = cameFrom.get(at)) path.unshift(at);
  return [id, ...path];
}

function cycle(path: readonly number[]): PawlError {
  return new PawlError("usage", `The dependencies would go in a circle: ${path.join(" → ")}.`, { next: "Leave one of these dependencies out.", details: { path } });
}

/** What keeps a blocked task from starting: its dependencies that are not completed, with their status; removed ones too. */
export async function blockersOf(committer: Committer, task: Task): Promise<{ id: number; status: string }[]> {
  const found = await committer.store.get("task", task.depends_on);
  return task.depends_on.map((id, i) => ({ id, status: (found[i]?.["status"] as string | undefined) ?? "removed" })).filter((blocker) => blocker.status !== "completed");
}

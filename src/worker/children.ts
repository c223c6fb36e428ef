// The children of a task's code: started once under the key of their step, waited for without a process. Invariants: what a
// parent is told of a child is kept with the child's record, so that a replay is told the same; a child is started under the
// parent's fence.
import { PawlError } from "../base/errors.ts";
import { LIMITS } from "../base/limits.ts";
import { childFailed, memberKey, spawn, type Child, type ChildOutcome } from "../core/child.ts";
import { requireParent, settleChildWait } from "../core/children.ts";
import { TRIES } from "../core/committer.ts";
import { deriveReady, refuseCycle } from "../core/dependency.ts";
import { checkIsTask } from "../core/new-task.ts";
import type { Task, Wait } from "../core/records.ts";
import { fenceGuard, idempotencyKey, type Scope } from "../core/step.ts";
import { opening, openWait } from "../core/wait.ts";
import type { Key } from "../store/store.ts";
import type { Branches } from "./branches.ts";
import type { ChildEnd, ChildHandle, ChildTask } from "./context.ts";
import type { Waits } from "./waits.ts";

export class Children {
  readonly #branches: Branches;
  readonly #waits: Waits;
  readonly #stateId: string;
  readonly #recorded: Map<string, Child>;

  /** `recorded` are the children of earlier ownerships. */
  constructor(branches: Branches, waits: Waits, stateId: string, recorded: readonly Child[]) {
    this.#branches = branches;
    this.#waits = waits;
    this.#stateId = stateId;
    this.#recorded = new Map(recorded.filter((child) => child.round === branches.task.round).map((child) => [child.key, child]));
  }

  spawn<T>(scope: Scope, name: string, fields: ChildTask): Promise<ChildHandle<T>> {
    return this.#waits.as(scope, name, async (key) => {
      const child = await this.#start(key, fields);
      let end: Promise<ChildEnd<T>> | undefined;
      const settled = () => (end ??= this.#branch(async () => (await this.#ends<T>(key, "child", [child], false))[0]!));
      return { id: child.child_id, settled, result: async () => resultOf(await settled()) };
    });
  }

  async all<T>(scope: Scope, name: string, list: readonly ChildTask[], settle: boolean): Promise<readonly (T | ChildEnd<T>)[]> {
    if (list.length > LIMITS.children) throw new PawlError("usage", `all("${name}") has ${list.length} tasks; ${LIMITS.children} is the most at once.`, { next: "Start them in groups, or make a batch of them." });
    return this.#waits.as(scope, name, async (key) => {
      if (this.#recorded.has(memberKey(key, list.length)) || (this.#waits.settled(key) && !this.#recorded.has(memberKey(key, list.length - 1)) && list.length > 0)) throw resized(name, list.length);
      if (list.length === 0) return [];
      const children = await Promise.all(list.map((fields, i) => this.#start(memberKey(key, i), fields)));
      const ends = await this.#ends<T>(key, "children", children, !settle);
      if (settle) return ends;
      const failed = ends.find(({ status }) => status !== "completed");
      return failed ? [resultOf<T>(failed)] : ends.map(resultOf);
    });
  }

  /** A wait outside of any scope: its name was entered when the child was started. */
  async #branch<T>(wait: () => Promise<T>): Promise<T> {
    if (this.#branches.ended) return this.#branches.gone();
    this.#branches.run();
    try {
      return await wait();
    } finally {
      this.#branches.rest();
    }
  }

  /** The child with this key: the one that is there, or a new one. */
  async #start(key: string, fields: ChildTask): Promise<Child> {
    const known = this.#recorded.get(key);
    if (known) return known;
    const { committer, actor } = this.#branches.options;
    const { task } = this.#branches;
    check(fields);
    await requireParent(committer, task);
    if (fields.depends_on?.length) await refuseCycle(committer, task.id, fields.depends_on);
    for (let i = 0; i < TRIES; i++) {
      const dependencies = await this.#dependencies(fields);
      const change = spawn({ ...fields, key: idempotencyKey(this.#stateId, task, key) }, task, dependencies, key, { actor, now: this.#branches.now() });
      const conflict = await this.#branches.tried(change);
      if (conflict !== null && !(conflict.kind === "child" && conflict.record)) continue;
      const [child] = (await committer.store.get("child", [[task.id, task.round, key]])) as unknown as Child[];
      this.#recorded.set(key, child!);
      if (dependencies.length > 0) await deriveReady(committer, [child!.child_id], actor);
      return child!;
    }
    throw new PawlError("conflict", `What the child "${key}" depends on changes faster than it can be started.`, { next: "Try again." });
  }

  async #dependencies(fields: ChildTask): Promise<Task[]> {
    const wanted = [...new Set(fields.depends_on ?? [])];
    if (wanted.length === 0) return [];
    const found = await this.#branches.options.committer.store.get("task", wanted);
    const missing = wanted.find((_, i) => !found[i]);
    if (missing !== undefined) throw new PawlError("not_found", `Task ${missing}, named in depends_on, does not exist.`, { details: { id: missing } });
    return found as unknown as Task[];
  }

  /** How these children ended, once they have; with `failFast` those that are known when the first did not complete. */
  async #ends<T>(key: string, kind: "child" | "children", children: readonly Child[], failFast: boolean): Promise<ChildEnd<T>[]> {
    await this.#waits.pass(key, () => this.#open(key, kind, children[0]!, failFast));
    const keys = children.map((child): Key => [child.task_id, child.round, child.key]);
    const told = children.some((child) => child.outcome === null) ? ((await this.#branches.options.committer.store.get("child", keys)) as unknown as Child[]) : children;
    return told.flatMap((child) => (child.outcome === null ? [] : [endOf<T>(child.child_id, child.outcome)]));
  }

  /** Opens the wait for them and looks at once: they may have ended before it was there. */
  async #open(key: string, kind: "child" | "children", first: Child, fail_fast: boolean): Promise<boolean> {
    const { committer, actor } = this.#branches.options;
    const { task } = this.#branches;
    await this.#branches.commit({ guards: [fenceGuard(task)], puts: [openWait(task, key, kind, { child_id: first.child_id, child_key: first.key, fail_fast }, this.#branches.now())], additions: [opening(task)] });
    const [wait] = (await committer.store.get("wait", [[task.id, task.round, key]])) as unknown as Wait[];
    return settleChildWait(committer, wait!, actor);
  }
}

/** What its parent gives it. */
const GIVEN = ["key", "parent_id", "status", "result"];
/** What a child's task may say. It is written in code, so a field that is not here is a misspelled one. */
const FIELDS = {
  description: true, input: true, queue: true, priority: true, tags: true, depends_on: true, batch_id: true, verifier: true, max_attempts: true, concurrency_key: true, concurrency_limit: true, timeout_ms: true, run_at: true, deadline_at: true,
} as const satisfies { readonly [field in keyof ChildTask]-?: true };

function check(fields: ChildTask): void {
  checkIsTask(fields);
  for (const field of GIVEN) {
    if ((fields as { readonly [field: string]: unknown })[field] != null) throw new PawlError("usage", `The ${field} of a child cannot be given: it comes of its parent and the step that starts it.`, { details: { field } });
  }
  const unknown = Object.keys(fields).find((field) => !Object.hasOwn(FIELDS, field) && !GIVEN.includes(field));
  if (unknown !== undefined) throw new PawlError("usage", `A child's task has no ${JSON.stringify(unknown.slice(0, 80))}.`, { next: `It has: ${Object.keys(FIELDS).join(", ")}.`, details: { field: unknown, permanent: true } });
}

function resized(name: string, size: number): PawlError {
  return new PawlError("ambiguous_step", `all("${name}") has ${size} tasks now and had another number when it was first run.`, { next: "Make the list in a step, so that it is the same every time." });
}

function endOf<T>(id: number, outcome: ChildOutcome): ChildEnd<T> {
  return outcome.status === "completed" ? { id, status: "completed", result: structuredClone(outcome.result) as T } : { id, status: outcome.status, error: outcome.error };
}

function resultOf<T>(end: ChildEnd<T>): T {
  if (end.status === "completed") return end.result;
  throw childFailed(end.id, end);
}

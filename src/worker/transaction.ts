// step.transaction: the user's own SQL and the record of the step in one commit, where a database holds the state. Invariants:
// the record carries the fence, so SQL of a worker that lost the task is never committed; what was committed has its record,
// so it never runs again in its round.
import { canonical, type Json } from "../base/json.ts";
import { PawlError } from "../base/errors.ts";
import { endStep, type StepPlan } from "../core/step.ts";
import type { SqlHandle, Store } from "../store/store.ts";
import type { Branches } from "./branches.ts";

const isThenable = (value: unknown): value is PromiseLike<unknown> => typeof (value as { then?: unknown } | null)?.then === "function";

/** Throws `unsupported` where no database holds the records. */
export function requireSql(store: Store): void {
  if (store.transact) return;
  throw new PawlError("unsupported", `step.transaction needs a state in SQLite or Postgres, not ${store.location}.`, {
    next: "Move the state (pawl copy), or use a plain step with its idempotency key.", details: { permanent: true },
  });
}

/** Runs `fn` in the transaction that records the step; it may be run again, from scratch, before one comes through. Throws what it throws. */
export async function inTransaction(branches: Branches, plan: StepPlan, start: number, startedAt: number, fn: (sql: SqlHandle) => unknown): Promise<Json> {
  let output: Json = null;
  const end = (value: unknown) => {
    output = canonical(value, `the output of step ${plan.key}`);
    return endStep(branches.task, plan, start, startedAt, { output }, branches.now());
  };
  const result = await branches.options.committer.store.transact!((sql) => {
    const value = fn(sql);
    return isThenable(value) ? Promise.resolve(value).then(end) : end(value);
  });
  if (branches.ended) return branches.gone();
  if (result.ok) return canonical(output);
  if ("error" in result) throw result.error;
  throw branches.lost(result.conflict.record);
}

// A function as executor and as verifier: the user's own code in this process, with steps, scopes and durable waits.
import type { Json } from "../base/json.ts";
import type { Task } from "../core/records.ts";
import type { TaskContext } from "./context.ts";
import type { Executor, Verdict, Verifier } from "./executor.ts";

export type Execute = (task: Task, context: TaskContext & { readonly idempotencyKey: string }) => unknown;
export type Verify = (task: Task, result: Json, context: { readonly signal: AbortSignal }) => Verdict | boolean | Promise<Verdict | boolean>;

export function functionExecutor(execute: Execute): Executor {
  return {
    name: "function",
    recipe: null,
    run: async (task, attempt) => execute(task, { ...attempt.context, idempotencyKey: attempt.idempotencyKey }),
  };
}

export const FUNCTION_VERIFIER = "function";

export function functionVerifier(verify: Verify): Verifier {
  return {
    name: FUNCTION_VERIFIER,
    recipe: null,
    async run(task, result, attempt) {
      const verdict = await verify(task, result, { signal: attempt.signal });
      return typeof verdict === "boolean" ? { passed: verdict } : verdict;
    },
  };
}

// A function as executor and as verifier: the user's own code in this process, with steps, scopes and durable waits.
import type { Json } from "../base/json.ts";
import type { Task } from "../core/records.ts";
import type { TaskContext } from "./context.ts";
import type { Attempt, Executor, Verdict, Verifier } from "./executor.ts";

export type Execute = (task: Task, context: TaskContext & Pick<Attempt, "idempotencyKey" | "spend">) => unknown;
export type Verify = (task: Task, result: Json, context: { readonly signal: AbortSignal }) => Verdict | boolean | Promise<Verdict | boolean>;

/** What is an executor already, such as an agent, is taken as it is. */
export function functionExecutor(execute: Execute | Executor): Executor {
  if (typeof execute !== "function") return execute;
  return {
    name: "function",
    recipe: null,
    run: async (task, attempt) => execute(task, { ...attempt.context, idempotencyKey: attempt.idempotencyKey, spend: attempt.spend }),
  };
}

export const FUNCTION_VERIFIER = "function";

export function functionVerifier(verify: Verify | Verifier): Verifier {
  if (typeof verify !== "function") return verify;
  return {
    name: FUNCTION_VERIFIER,
    recipe: null,
    async run(task, result, attempt) {
      const verdict = await verify(task, result, { signal: attempt.signal });
      return typeof verdict === "boolean" ? { passed: verdict } : verdict;
    },
  };
}

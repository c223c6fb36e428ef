// The verbs of a task that change it.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { LIMITS } from "../base/limits.ts";
import type { Input, Params } from "../base/params.ts";
import { renewClaim, type TaskEdit } from "../core/tasks.ts";
import { parseToken, type Token } from "../core/token.ts";
import type { State } from "../state.ts";
import { dueElsewhere } from "./looks.ts";
import { ID, operation, REASON, reasonOf, TOKEN, type Operation } from "./operation.ts";

/** What adding a task and editing one take. */
export const FIELDS = {
  input: { type: "json", summary: "input for the executor, as JSON", stdin: true },
  key: { type: "text", summary: "unique key; adding it again gives the same task" },
  queue: { type: "text", summary: "queue (default: default)" },
  priority: { type: "integer", summary: "lower runs first (default: 5)" },
  tags: { type: "texts", summary: "tags, separated by commas" },
  "depends-on": { type: "refs", summary: "ids or keys of tasks that must be completed first" },
  verifier: { type: "text", summary: "name of the verifier that must judge its result" },
  "max-attempts": { type: "integer", summary: `executions at most (default: ${LIMITS.attempts})`, min: 1 },
  "concurrency-key": { type: "text", summary: "of all tasks with this key, so many are in work at a time" },
  "concurrency-limit": { type: "integer", summary: `how many of its concurrency key (default: 1, at most ${LIMITS.slots})`, min: 1 },
  timeout: { type: "duration", summary: "time-out of one attempt, such as 90s or 5m", min: 1 },
  deadline: { type: "duration", summary: "it fails when it has not ended so long from now", min: 1 },
  delay: { type: "duration", summary: "not before so long from now", min: 0 },
} as const satisfies Params;

/** The flags of adding and editing as fields of a task; durations become instants. */
async function fieldsOf(state: State, input: Input<typeof FIELDS>): Promise<TaskEdit> {
  const now = state.clock.now();
  return {
    ...(input.input === undefined ? {} : { input: input.input }),
    ...(input.key === undefined ? {} : { key: input.key }),
    ...(input.queue === undefined ? {} : { queue: input.queue }),
    ...(input.priority === undefined ? {} : { priority: input.priority }),
    ...(input.tags === undefined ? {} : { tags: input.tags }),
    ...(input["depends-on"] === undefined ? {} : { depends_on: await Promise.all(input["depends-on"].map(async (ref) => (await state.tasks.get(ref)).id)) }),
    ...(input.verifier === undefined ? {} : { verifier: input.verifier }),
    ...(input["max-attempts"] === undefined ? {} : { max_attempts: input["max-attempts"] }),
    ...(input["concurrency-key"] === undefined ? {} : { concurrency_key: input["concurrency-key"] }),
    ...(input["concurrency-limit"] === undefined ? {} : { concurrency_limit: input["concurrency-limit"] }),
    ...(input.timeout === undefined ? {} : { timeout_ms: input.timeout }),
    ...(input.deadline === undefined ? {} : { deadline_at: iso(now + input.deadline) }),
    ...(input.delay === undefined ? {} : { run_at: iso(now + input.delay) }),
  };
}

/** A token given with a call: read, checked against the task, and its claim renewed. */
async function ownerOf(state: State, ref: string, token: string | undefined): Promise<{ token?: Token }> {
  if (token === undefined) return {};
  const task = await state.tasks.get(ref);
  const parsed = parseToken(token, task.id);
  await renewClaim(state.committer, parsed, LIMITS.heldLeaseMs);
  return { token: parsed };
}

export const taskOperations: readonly Operation[] = [
  operation({
    name: "task_add", command: "add", summary: "Add a task", effect: "write", creates: true, output: "task",
    params: { description: { type: "text", summary: "what is to be done", required: true, arg: true, words: true, stdin: true }, ...FIELDS, parent: { type: "text", summary: "id or key of the task it is a child of: cancelled with it" } },
    run: async (state, input) => {
      const parent = input.parent === undefined ? {} : { parent_id: (await state.tasks.get(input.parent)).id };
      return state.tasks.add({ description: input.description, ...(await fieldsOf(state, input)), ...parent } as never);
    },
  }),
  operation({
    name: "task_edit", command: "edit", summary: "Change what a task says", effect: "write", output: "task",
    params: { id: ID, description: { type: "text", summary: "what is to be done", stdin: true }, ...FIELDS },
    run: async (state, input) => state.tasks.edit(input.id, { ...(input.description === undefined ? {} : { description: input.description }), ...(await fieldsOf(state, input)) }),
  }),
  operation({
    name: "task_claim", command: "claim", summary: "Take the next due task and print its token", effect: "write", output: "claim",
    params: {
      lease: { type: "duration", summary: "how long it is held without a call that carries the token (default: 1h)", min: 1000 }, queue: { type: "text", summary: "queue (default: default)" }, batch: { type: "text", summary: "id of a batch" },
      wait: { type: "duration", summary: `wait so long for a task to become due (at most ${LIMITS.claimWaitMs / 1000}s)`, min: 0 },
      caller: { type: "text", summary: "a name of yours: a claim it holds is given back, with its token" },
    },
    run: (state, input, call) => {
      const caller = input.caller ?? call.caller;
      return state.tasks.claim({
        ...(input.lease === undefined ? {} : { leaseMs: input.lease }), ...(input.queue === undefined ? {} : { queue: input.queue }), ...(input.batch === undefined ? {} : { batch: input.batch }),
        ...(input.wait === undefined ? {} : { waitMs: input.wait }), ...(caller === undefined ? {} : { caller }), ...(call.signal ? { signal: call.signal } : {}),
      });
    },
    hint: (state, input, data) => (data !== null || input["batch"] !== undefined ? null : dueElsewhere(state, "claim", input["queue"] as string | undefined)),
  }),
  operation({
    name: "task_renew", command: "renew", summary: "Hold a claimed task for longer", effect: "write", output: "task",
    params: { token: { ...TOKEN, required: true }, lease: { type: "duration", summary: "how long from now (default: 1h)", min: 1000 } },
    run: (state, input) => state.tasks.renew(input.token, input.lease),
  }),
  operation({
    name: "task_complete", command: "complete", aliases: ["done"], summary: "Complete a task with its result", effect: "write", output: "task",
    params: { id: ID, result: { type: "json", summary: "the result", plain: true, stdin: true }, token: TOKEN },
    run: async (state, input) => state.tasks.complete(input.id, input.result ?? null, await ownerOf(state, input.id, input.token)),
  }),
  operation({
    name: "task_fail", command: "fail", summary: "Fail a task", effect: "write", output: "task",
    params: { id: ID, reason: { ...REASON, required: true }, token: TOKEN, retry: { type: "boolean", summary: "with a token: only this attempt failed; try again while attempts are left" } },
    run: async (state, input) => state.tasks.fail(input.id, input.reason, { ...(await ownerOf(state, input.id, input.token)), permanent: input.retry !== true }),
  }),
  operation({
    name: "task_release", command: "release", summary: "Give a claimed task back undone", effect: "write", output: "task",
    params: { id: ID, token: TOKEN, force: { type: "boolean", summary: "take it from whoever owns it" }, reason: REASON },
    run: async (state, input) => state.tasks.release(input.id, { ...(await ownerOf(state, input.id, input.token)), force: input.force === true, ...reasonOf(input) }),
  }),
  operation({
    name: "task_retry", command: "retry", summary: "Try a failed task again, its done steps kept", effect: "write", output: "task",
    params: { id: ID, fresh: { type: "boolean", summary: "run its steps again as well" }, deadline: { type: "duration", summary: "a new deadline, so long from now", min: 1 }, reason: REASON },
    run: (state, input) =>
      state.tasks.retry(input.id, { fresh: input.fresh === true, ...(input.deadline === undefined ? {} : { deadline_at: iso(state.clock.now() + input.deadline) }), ...reasonOf(input) }),
  }),
  operation({
    name: "task_reset", command: "reset", summary: "Make a task as if it had never run (its history stays)", effect: "destructive", output: "reset",
    params: { id: { ...ID, required: undefined as never }, all: { type: "boolean", summary: "every task" }, reason: REASON },
    run: async (state, input) => {
      const { id, all } = input as { id?: string; all?: boolean };
      if ((id === undefined) !== (all === true)) throw new PawlError("usage", "reset takes the id of a task, or --all.", { next: "pawl reset 3, or: pawl reset --all" });
      if (all) return { reset: await state.tasks.resetAll(reasonOf(input)), task: null };
      return { reset: 1, task: await state.tasks.reset(id!, reasonOf(input)) };
    },
  }),
  operation({
    name: "task_reopen", command: "reopen", summary: "Send a completed or cancelled task back to work", effect: "write", output: "task",
    params: { id: ID, reason: { type: "text", summary: "why; its next attempt reads it as feedback", required: true } },
    run: (state, input) => state.tasks.reopen(input.id, input.reason),
  }),
  operation({
    name: "task_cancel", command: "cancel", summary: "End a task without a result", effect: "write", output: "task",
    params: { id: ID, reason: REASON },
    run: (state, input) => state.tasks.cancel(input.id, reasonOf(input)),
  }),
  operation({
    name: "task_remove", command: "rm", summary: "Remove a task; its id is never used again", effect: "destructive", output: "task-gone",
    params: { id: ID, reason: REASON },
    run: (state, input) => state.tasks.remove(input.id, reasonOf(input)),
  }),
];

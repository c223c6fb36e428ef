// What can be asked about tasks. Nothing here changes anything.
import type { Step, Status, Task } from "../core/records.ts";
import { STATUSES } from "../core/records.ts";
import { findAgent } from "../core/agents.ts";
import { dueInBatches, dueInQueues } from "../core/batches.ts";
import { shownChildren } from "../core/children.ts";
import { verifyChain } from "../core/history.ts";
import { DEFAULT_QUEUE } from "../core/new-task.ts";
import { shellQuote } from "../core/words.ts";
import type { State } from "../state.ts";
import { ID, operation, type Operation } from "./operation.ts";

/** What a look at one queue outside of batches does not see: "2 are due in queue mail: pawl claim --queue mail". `batchFlag` names a batch to `verb`. */
export async function dueElsewhere(state: State, verb: string, queue: string | undefined, batchFlag = "--batch"): Promise<string | null> {
  const here = queue ?? DEFAULT_QUEUE;
  const [batches, queues] = await Promise.all([dueInBatches(state.committer, here), dueInQueues(state.committer, here)]);
  const found = [
    ...batches.slice(0, 3).map(({ batch, due }) => ({ due, where: batch, flags: `${batchFlag} ${batch}` })),
    ...queues.slice(0, 3).map(({ queue: name, due }) => ({ due, where: `queue ${name}`, flags: `--queue ${shellQuote(name)}` })),
  ];
  return found.length === 0 ? null : found.map(({ due, where, flags }) => `${due} ${due === 1 ? "is" : "are"} due in ${where}: pawl ${verb} ${flags}`).join("; ");
}

export const lookOperations: readonly Operation[] = [
  operation({
    name: "task_list", command: "list", aliases: ["ls"], summary: "List tasks", effect: "read", output: "task-list", page: { limit: 100, by: "id" },
    params: {
      status: { type: "text", summary: "only those with this status", choices: STATUSES }, tag: { type: "text", summary: "only those with this tag" },
      batch: { type: "text", summary: "only those of this batch" }, limit: { type: "integer", summary: "at most so many (default: 100)", min: 1 }, after: { type: "integer", summary: "only those after this id" },
    },
    run: (state, input) =>
      state.tasks.list({
        limit: input.limit ?? 100,
        ...(input.status === undefined ? {} : { status: input.status as Status }), ...(input.tag === undefined ? {} : { tag: input.tag }),
        ...(input.batch === undefined ? {} : { batch_id: input.batch }), ...(input.after === undefined ? {} : { after: input.after }),
      }),
  }),
  operation({
    name: "task_show", command: "show", summary: "Show a task with its steps", effect: "read", output: "task-detail",
    params: { id: ID, output: { type: "boolean", summary: "what its commands wrote to stderr, and how they ended" } },
    run: async (state, input) => {
      const task = await state.tasks.get(input.id);
      const [steps, outputs, children, agent] = await Promise.all([
        state.tasks.steps(task.id), input.output ? state.tasks.outputs(task.id) : [], task.has_children ? shownChildren(state.committer, task.id) : null, findAgent(state.committer, task.id),
      ]);
      return {
        task, steps: [...steps].sort((a, b) => a.started_at.localeCompare(b.started_at)).map(shownStep), ...(children ? { children } : {}),
        ...(agent ? { agent: { revision: agent.revision, model: agent.model, updated_at: agent.updated_at } } : {}), ...(input.output ? { outputs } : {}),
      };
    },
  }),
  operation({
    name: "task_next", command: "next", summary: "Show the task that is due next (and take nothing)", effect: "read", output: "task-list",
    params: { queue: { type: "text", summary: "queue (default: default)" }, batch: { type: "text", summary: "id of a batch" } },
    run: (state, input) => state.tasks.next(input.queue, input.batch),
    hint: (state, input, data) => ((data as readonly Task[]).length > 0 || input["batch"] !== undefined ? null : dueElsewhere(state, "next", input["queue"] as string | undefined)),
  }),
  operation({
    name: "status", command: "status", summary: "Show where everything stands", effect: "read", output: "status", params: {},
    run: (state) => state.status(),
  }),
  operation({
    name: "history", command: "history", aliases: ["log"], summary: "Show every change of a task", effect: "read", output: "history",
    params: { id: ID },
    run: async (state, input) => {
      // A removed task has a history still.
      const task = /^[0-9]+$/.test(input.id) ? null : await state.tasks.get(input.id);
      const transitions = await state.history.of(task?.id ?? Number(input.id));
      if (transitions.length === 0) await state.tasks.get(input.id);
      return { transitions, broken_at: verifyChain(transitions) };
    },
  }),
  operation({
    name: "why", command: "why", summary: "Say why a task stands where it stands, and what moves it", effect: "read", output: "why", params: { id: ID },
    run: async (state, input) => state.why(input.id),
  }),
];

/** A step as it is shown: without what only the engine needs. */
function shownStep({ key, status, effect, round, attempt, start, output, output_artifact = null, error, started_at, ended_at }: Step): object {
  return { key, status, effect, round, attempt, start, output, output_artifact, error, started_at, ended_at };
}

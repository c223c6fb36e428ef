// Everything a person or a program can do with a state, once: name, summary, what it takes, what it does to the state, and
// how it runs. Command line, MCP and HTTP are loops over this table; none of them decides anything.
import { checkInput, type Input, type Params } from "./base/params.ts";
import { iso } from "./base/clock.ts";
import { ERROR_CODES, PawlError } from "./base/errors.ts";
import { dueInBatches } from "./core/batches.ts";
import { DEFAULT_QUEUE } from "./core/new-task.ts";
import { verifyChain } from "./core/history.ts";
import { STATUSES, type Status, type Step, type Task } from "./core/records.ts";
import { renewClaim, type TaskEdit } from "./core/tasks.ts";
import { LIST_FORMATS, type ListFormat } from "./core/task-list.ts";
import { parseToken, type Token } from "./core/token.ts";
import { LIMITS } from "./base/limits.ts";
import type { Health } from "./core/doctor.ts";
import { editsOf } from "./core/edit.ts";
import { noState, type Here, type State } from "./state.ts";

export type Operation = {
  /** noun_verb: the name in MCP and HTTP. */
  readonly name: string;
  /** The words of the command line, such as "add" or "batch list". */
  readonly command: string;
  readonly aliases?: readonly string[];
  readonly summary: string;
  /** "destructive" takes something away that no other operation brings back. */
  readonly effect: "read" | "write" | "destructive";
  /** May create the state when there is none. */
  readonly creates?: true;
  /** What `data` holds: names the rendering, and `kind` in JSON. */
  readonly output: string;
  readonly params: Params;
  readonly run: (state: State, input: { readonly [name: string]: unknown }) => Promise<unknown>;
  /** Instead of an open state it needs only the place of one, which may be damaged, or not there. A door that has one may run it so. */
  readonly at?: (here: Here, input: { readonly [name: string]: unknown }) => Promise<unknown>;
  /** A line for people beside what came out. */
  readonly hint?: (state: State, input: { readonly [name: string]: unknown }, data: unknown) => Promise<string | null> | null;
  /** The exit code of a command line for what came out, when it is not 0. */
  readonly exit?: (data: unknown) => number;
};


/** Declares an operation; its input is checked before `run` sees it. */
export function operation<P extends Params>(declared: Omit<Operation, "params" | "run"> & { readonly params: P; readonly run: (state: State, input: Input<P>) => Promise<unknown> }): Operation {
  const { params, run, ...rest } = declared;
  return { ...rest, params, run: async (state, input) => run(state, checkInput(params, input, rest.command)) };
}

/** Declares an operation on the place of a state. Through an open state it works on that state's place. */
function placeOperation<P extends Params>(declared: Omit<Operation, "params" | "run" | "at"> & { readonly params: P; readonly at: (here: Here, input: Input<P>) => Promise<unknown> }): Operation {
  const { params, at, ...rest } = declared;
  const checked = async (here: Here, input: { readonly [name: string]: unknown }) => at(here, checkInput(params, input, rest.command));
  return { ...rest, params, at: checked, run: (state, input) => checked(state.here(), input) };
}

const ID = { type: "text", summary: "id or key of the task", required: true, arg: true } as const;
const REASON = { type: "text", summary: "why; kept in the history" } as const;
const TOKEN = { type: "text", summary: "the token of the claim" } as const;

const FIELDS = {
  input: { type: "json", summary: "input for the executor, as JSON", stdin: true },
  key: { type: "text", summary: "unique key; adding it again gives the same task" },
  queue: { type: "text", summary: "queue (default: default)" },
  priority: { type: "integer", summary: "lower runs first (default: 5)" },
  tags: { type: "texts", summary: "tags, separated by commas" },
  "depends-on": { type: "refs", summary: "ids or keys of tasks that must be completed first" },
  verifier: { type: "text", summary: "name of the verifier that must judge its result" },
  "max-attempts": { type: "integer", summary: `executions at most (default: ${LIMITS.attempts})`, min: 1 },
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

/** What a look outside batches does not see. */
async function dueElsewhere(state: State, verb: string, queue: string | undefined): Promise<string | null> {
  const found = await dueInBatches(state.committer, queue ?? DEFAULT_QUEUE);
  return found.length === 0 ? null : found.slice(0, 3).map(({ batch, due }) => `${due} ${due === 1 ? "is" : "are"} due in ${batch}: pawl ${verb} --batch ${batch}`).join("; ");
}

const writing: Operation[] = [
  operation({
    name: "task_add", command: "add", summary: "Add a task", effect: "write", creates: true, output: "task",
    params: { description: { type: "text", summary: "what is to be done", required: true, arg: true, words: true, stdin: true }, ...FIELDS },
    run: async (state, input) => state.tasks.add({ description: input.description, ...(await fieldsOf(state, input)) } as never),
  }),
  operation({
    name: "task_edit", command: "edit", summary: "Change what a task says", effect: "write", output: "task",
    params: { id: ID, description: { type: "text", summary: "what is to be done", stdin: true }, ...FIELDS },
    run: async (state, input) => state.tasks.edit(input.id, { ...(input.description === undefined ? {} : { description: input.description }), ...(await fieldsOf(state, input)) }),
  }),
  operation({
    name: "task_claim", command: "claim", summary: "Take the next due task and print its token", effect: "write", output: "claim",
    params: { lease: { type: "duration", summary: "how long it is held without a call that carries the token (default: 1h)", min: 1000 }, queue: { type: "text", summary: "queue (default: default)" }, batch: { type: "text", summary: "id of a batch" } },
    run: (state, input) => state.tasks.claim({ ...(input.lease === undefined ? {} : { leaseMs: input.lease }), ...(input.queue === undefined ? {} : { queue: input.queue }), ...(input.batch === undefined ? {} : { batch: input.batch }) }),
    hint: (state, input, data) => (data !== null || input["batch"] !== undefined ? null : dueElsewhere(state, "claim", input["queue"] as string | undefined)),
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
    name: "task_remove", command: "rm", summary: "Remove a task; its id is never used again", effect: "destructive", output: "task",
    params: { id: ID, reason: REASON },
    run: (state, input) => state.tasks.remove(input.id, reasonOf(input)),
  }),
];

function reasonOf(input: { readonly reason?: string }): { reason?: string } {
  return input.reason === undefined ? {} : { reason: input.reason };
}

const reading: Operation[] = [
  operation({
    name: "task_list", command: "list", aliases: ["ls"], summary: "List tasks", effect: "read", output: "task-list",
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
      const [steps, outputs] = await Promise.all([state.tasks.steps(task.id), input.output ? state.tasks.outputs(task.id) : []]);
      return { task, steps: [...steps].sort((a, b) => a.started_at.localeCompare(b.started_at)).map(shownStep), ...(input.output ? { outputs } : {}) };
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
function shownStep({ key, status, effect, round, attempt, start, output, error, started_at, ended_at }: Step): object {
  return { key, status, effect, round, attempt, start, output, error, started_at, ended_at };
}

const DECISION = { type: "text", summary: "id of the decision, such as d3", required: true, arg: true } as const;

const deciding: Operation[] = [
  operation({ name: "decision_inbox", command: "inbox", summary: "List what waits for a person", effect: "read", output: "decision-list", params: {}, run: (state) => state.decisions.inbox() }),
  operation({
    name: "decision_approve", command: "approve", summary: "Say yes to a decision", effect: "write", output: "decision", params: { id: DECISION, reason: REASON },
    run: (state, input) => state.decisions.settle(input.id, { answer: "approve", ...reasonOf(input) }),
  }),
  operation({
    name: "decision_deny", command: "deny", summary: "Say no to a decision", effect: "write", output: "decision", params: { id: DECISION, reason: { ...REASON, required: true } },
    run: (state, input) => state.decisions.settle(input.id, { answer: "deny", ...reasonOf(input) }),
  }),
  operation({
    name: "decision_answer", command: "answer", summary: "Answer a decision", effect: "write", output: "decision",
    params: {
      id: DECISION, answer: { type: "text", summary: "the answer; for an unknown effect: done, again or fail; for a changed step: keep, again or fail", required: true, arg: true, words: true },
      value: { type: "json", summary: "with done: the output, as JSON", stdin: true }, reason: REASON,
    },
    run: (state, input) => state.decisions.settle(input.id, { answer: input.answer, ...(input.value === undefined ? {} : { value: input.value }), ...reasonOf(input) }),
  }),
];

const BATCH = { type: "text", summary: "id of the batch", required: true, arg: true } as const;

const batches: Operation[] = [
  operation({ name: "batch_list", command: "batch list", summary: "List batches, newest first", effect: "read", output: "batch-list", params: { limit: { type: "integer", summary: "at most so many (default: 20)", min: 1 } }, run: (state, input) => state.batches.list(input.limit ?? 20) }),
  operation({
    name: "batch_show", command: "batch show", summary: "Show a batch: what it remembers, its counts and its items", effect: "read", output: "batch", params: { id: BATCH },
    run: async (state, input) => ({ batch: await state.batches.get(input.id), summary: await state.batches.summary(input.id), items: (await (await state.batches.load(input.id)).items()).map(({ name, position, task }) => ({ position, name, task_id: task.id, status: task.status })) }),
  }),
  operation({
    name: "import", command: "import", summary: "Import a task list as a batch (each line once, however often)", effect: "write", creates: true, output: "import",
    params: {
      file: { type: "text", summary: "the list: text, Markdown checkboxes, JSON, JSONL or CSV; - for standard input", required: true, arg: true },
      format: { type: "text", summary: "its format, when the name does not say", choices: LIST_FORMATS },
      var: { type: "texts", summary: "NAME=VALUE for {{NAME}} in the list", commas: true }, new: { type: "boolean", summary: "a new batch, even of the same list" },
    },
    run: (state, input) => state.batches.import(input.file, { ...(input.format === undefined ? {} : { format: input.format as ListFormat }), ...(input.var === undefined ? {} : { vars: input.var }), fresh: input.new === true }),
  }),
  operation({
    name: "export", command: "export", summary: "Write a report of all tasks", effect: "read", output: "report",
    params: { format: { type: "text", summary: "markdown (default), json or csv", choices: ["markdown", "json", "csv"] }, batch: { type: "text", summary: "only this batch" }, status: { type: "text", summary: "only those with this status", choices: STATUSES } },
    run: async (state, input) => ({ format: input.format ?? "markdown", tasks: await state.tasks.all({ ...(input.batch === undefined ? {} : { batch_id: input.batch }), ...(input.status === undefined ? {} : { status: input.status as Status }) }) }),
  }),
];

/** Errors: something is damaged. Warnings: it works, and should be looked at. */
function exitOf(data: unknown): number {
  const { healthy, findings } = data as Health;
  return healthy ? 0 : findings.some(({ severity }) => severity === "error") ? ERROR_CODES.corrupt.exit : ERROR_CODES.failed.exit;
}

/** Settles a hand edit that waits for a person: the one named, or the only one there is. */
async function settleEdit(here: Here, id: string, how: "accept" | "discard"): Promise<string[]> {
  const state = await here.open();
  try {
    const waiting = await editsOf(state.committer, { unsettled: true });
    if (id === "" && waiting.length !== 1) {
      throw new PawlError(waiting.length === 0 ? "not_found" : "usage", waiting.length === 0 ? "No hand edit waits to be settled." : `${waiting.length} hand edits wait: ${waiting.map((edit) => edit.id).join(", ")}.`, {
        next: waiting.length === 0 ? "See what there is: pawl status." : `Name one: pawl doctor --${how}-edit ${waiting[0]!.id}`,
      });
    }
    const edit = await state.edits[how](id === "" ? waiting[0]!.id : id);
    const kept = edit.kept === null ? "" : ` The edited file is ${edit.kept}.`;
    return [`Hand edit ${edit.id} is ${edit.status}: ${edit.changes} taken over, ${edit.refusals.length} refused.${kept}`];
  } finally {
    await state.close();
  }
}

const places: Operation[] = [
  placeOperation({
    name: "doctor", command: "doctor", summary: "Say what is wrong with the state, and with --repair mend it", effect: "write", output: "doctor", exit: exitOf,
    params: {
      deep: { type: "boolean", summary: "read all of it: every page of a database, every history" },
      repair: { type: "boolean", summary: "restore the last good state; a copy of everything is kept first" },
      "accept-edit": { type: "text", summary: "take over a hand edit as far as that is possible (default: the only one there is)", bare: true },
      "discard-edit": { type: "text", summary: "take nothing over of a hand edit; its file is kept", bare: true },
    },
    at: async (here, input) => {
      const place = here.place();
      if (!place.exists()) throw noState(place.location);
      const deep = { deep: input.deep === true };
      const done: string[] = [];
      if (input["accept-edit"] !== undefined) done.push(...(await settleEdit(here, input["accept-edit"], "accept")));
      if (input["discard-edit"] !== undefined) done.push(...(await settleEdit(here, input["discard-edit"], "discard")));
      const found = input.repair ? await place.repair(deep) : { done: [], ...(await place.doctor(deep)) };
      return { ...found, done: [...done, ...found.done] };
    },
  }),
  placeOperation({
    name: "backup", command: "backup", summary: "Copy the state as it is now, while others work on", effect: "write", output: "backup",
    params: { to: { type: "text", summary: "path of the copy (default: beside the state, with the time in its name)", arg: true } },
    at: async (here, input) => {
      const from = here.place();
      return { from: from.location, to: await from.backup(input.to) };
    },
  }),
  placeOperation({
    name: "copy", command: "copy", summary: "Move a state to another place or another kind of store", effect: "write", output: "copy",
    params: {
      from: { type: "text", summary: "the state to copy", required: true, arg: true },
      to: { type: "text", summary: "where to; there must be nothing yet", required: true, arg: true },
      "keep-open": { type: "boolean", summary: "leave the source usable: two states that go their own ways" },
      wait: { type: "duration", summary: "how long tasks in progress are waited for (default: 1m)", min: 0 },
      force: { type: "boolean", summary: "then take them from their owners" },
    },
    at: (here, input) => here.place(input.from).copyTo(input.to, { keepOpen: input["keep-open"] === true, force: input.force === true, ...(input.wait === undefined ? {} : { waitMs: input.wait }) }),
  }),
];

export const OPERATIONS: readonly Operation[] = [...writing, ...reading, ...deciding, ...batches, ...places];

// Lists of tasks: imported, looked at, reported.
import { STATUSES, type Status } from "../core/records.ts";
import { LIST_FORMATS, type ListFormat } from "../core/task-list.ts";
import { operation, type Operation } from "./operation.ts";

const BATCH = { type: "text", summary: "id of the batch", required: true, arg: true } as const;

export const batchOperations: readonly Operation[] = [
  operation({ name: "batch_list", command: "batch list", summary: "List batches, newest first", effect: "read", output: "batch-list", params: { limit: { type: "integer", summary: "at most so many (default: 20)", min: 1 } }, run: (state, input) => state.batches.list(input.limit ?? 20) }),
  operation({
    name: "batch_show", command: "batch show", summary: "Show a batch: what it remembers, its counts and its items", effect: "read", output: "batch", params: { id: BATCH },
    run: async (state, input) => ({ batch: await state.batches.get(input.id), summary: await state.batches.summary(input.id), items: (await (await state.batches.load(input.id)).items()).map(({ name, position, task }) => ({ position, name, task_id: task.id, status: task.status })) }),
  }),
  operation({
    name: "import", command: "import", summary: "Import a task list as a batch (each line once, however often)", effect: "write", creates: true, output: "import",
    params: {
      file: { type: "text", summary: "the list: text, Markdown checkboxes, JSON, JSONL or CSV; - for standard input", required: true, arg: true, path: true },
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

// Named values that tasks wait for.
import { ERROR_CODES } from "../base/errors.ts";
import { operation, type Operation } from "./operation.ts";

const NAME = { type: "text", summary: "name of the event", required: true, arg: true } as const;

export const eventOperations: readonly Operation[] = [
  operation({
    name: "event_emit", command: "event emit", summary: "Emit an event: a task that waits for it gets it, or it is kept", effect: "write", output: "event",
    params: { name: NAME, value: { type: "json", summary: "its value, as JSON", stdin: true }, key: { type: "text", summary: "emitted again with the same key it is the same event" } },
    run: (state, input) => state.events.emit(input.name, input.value ?? null, input.key === undefined ? {} : { key: input.key }),
  }),
  operation({
    name: "event_take", command: "event take", summary: "Take the oldest kept event of a name, for a program that is no task", effect: "write", output: "event-taken",
    params: { name: NAME, timeout: { type: "duration", summary: "wait so long for one (default: 0s, at most 10m)", min: 0 } },
    run: (state, input, { signal }) => state.events.take(input.name, { timeoutMs: input.timeout ?? 0, ...(signal === undefined ? {} : { signal }) }),
    exit: (data) => (data === null ? ERROR_CODES.timeout.exit : 0),
  }),
  operation({
    name: "event_list", command: "event list", summary: "List the events that nobody has received yet", effect: "read", output: "event-list", page: { limit: 100, by: "id" },
    params: {
      name: { type: "text", summary: "only those with this name" }, all: { type: "boolean", summary: "delivered and dropped ones too" },
      limit: { type: "integer", summary: "at most so many (default: 100)", min: 1 }, after: { type: "integer", summary: "only those after this id" },
    },
    run: (state, input) =>
      state.events.list({
        limit: input.limit ?? 100, ...(input.name === undefined ? {} : { name: input.name }), ...(input.all === undefined ? {} : { all: input.all }),
        ...(input.after === undefined ? {} : { after: input.after }),
      }),
  }),
  operation({
    name: "event_drop", command: "event drop", summary: "Take back an event that nobody has received yet", effect: "destructive", output: "event",
    params: { id: { type: "integer", summary: "number of the event", required: true, arg: true, min: 1 } },
    run: (state, input) => state.events.drop(input.id),
  }),
];

// Schedules: tasks that are added at instants of a cron expression or an interval.
import { MISSED, OVERLAP, type Schedule, type ScheduledTask } from "../core/schedule.ts";
import { operation, type Operation } from "./operation.ts";
import { FIELDS } from "./tasks.ts";

const NAME = { type: "text", summary: "name of the schedule", required: true, arg: true } as const;
const { input, queue, priority, tags, verifier, timeout, "max-attempts": maxAttempts, "concurrency-key": concurrencyKey, "concurrency-limit": concurrencyLimit } = FIELDS;

export const scheduleOperations: readonly Operation[] = [
  operation({
    name: "schedule_add", command: "schedule add", summary: "Add tasks by the clock: each weekday at nine, every 15 minutes", effect: "write", creates: true, output: "schedule",
    params: {
      name: NAME, description: { type: "text", summary: "what each task is to do", required: true, arg: true, words: true, stdin: true },
      cron: { type: "text", summary: "when: minute, hour, day, month, weekday; a field of seconds may come first" }, every: { type: "duration", summary: "or an interval, such as 15m", min: 1 },
      "time-zone": { type: "text", summary: "whose time of day, such as Europe/Berlin (default: UTC)" },
      missed: { type: "text", summary: "instants nobody was there to fire: none, the last one, or all (default: one)", choices: MISSED },
      overlap: { type: "text", summary: "while its last task has not ended: fire anyway, or skip (default: fire)", choices: OVERLAP },
      input, queue, priority, tags, verifier, "max-attempts": maxAttempts, timeout, deadline: { type: "duration", summary: "each task fails when it has not ended so long after it was added", min: 1 },
      "concurrency-key": concurrencyKey, "concurrency-limit": concurrencyLimit,
    },
    run: (state, given) => {
      const task: { readonly [field in keyof ScheduledTask]: ScheduledTask[field] | undefined } = {
        description: given.description, input: given.input, queue: given.queue, priority: given.priority, tags: given.tags, verifier: given.verifier, max_attempts: given["max-attempts"],
        timeout_ms: given.timeout, deadline_ms: given.deadline, concurrency_key: given["concurrency-key"], concurrency_limit: given["concurrency-limit"],
      };
      return state.schedules.add({
        id: given.name, task: present(task) as ScheduledTask,
        ...present({ cron: given.cron, every_ms: given.every, time_zone: given["time-zone"], missed: given.missed as Schedule["missed"] | undefined, overlap: given.overlap as Schedule["overlap"] | undefined }),
      });
    },
  }),
  operation({ name: "schedule_list", command: "schedule list", summary: "List schedules and when each fires next", effect: "read", output: "schedule-list", params: {}, run: (state) => state.schedules.list() }),
  operation({ name: "schedule_show", command: "schedule show", summary: "Show a schedule", effect: "read", output: "schedule", params: { name: NAME }, run: (state, given) => state.schedules.get(given.name) }),
  operation({ name: "schedule_pause", command: "schedule pause", summary: "Stop a schedule for now; what it would have fired meanwhile is gone", effect: "write", output: "schedule", params: { name: NAME }, run: (state, given) => state.schedules.pause(given.name) }),
  operation({ name: "schedule_resume", command: "schedule resume", summary: "Let a paused schedule go on with its next instant", effect: "write", output: "schedule", params: { name: NAME }, run: (state, given) => state.schedules.resume(given.name) }),
  operation({ name: "schedule_run", command: "schedule run", summary: "Add one task of a schedule now", effect: "write", output: "task", params: { name: NAME }, run: (state, given) => state.schedules.run(given.name) }),
  operation({ name: "schedule_remove", command: "schedule rm", summary: "Take a schedule away; its tasks stay", effect: "destructive", output: "schedule", params: { name: NAME }, run: (state, given) => state.schedules.remove(given.name) }),
];

/** The fields that were given. */
function present<T extends { readonly [field: string]: unknown }>(fields: T): { [F in keyof T]: Exclude<T[F], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;
}

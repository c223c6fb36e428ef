// A schedule adds tasks by itself, at the instants of a cron expression or of an interval. What it does when one is due is
// decided here, of the record, the instants and the time; every decision names the instant it goes on from, and each task
// has a key made of schedule and instant, so that no instant is fired twice.

//              due: fire, or pass over (missed, overlap)
//   waiting ─────────────────────────────────────────────▶ waiting, next_at later      over: next_at is null
//      │ ▲ resume: next_at after now
//      ▼ │
//   paused
import { iso, parseIso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { canonical, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Change, Fields, Kind, Put } from "../store/store.ts";
import { addTask, checkNewTask, type NewTask } from "./new-task.ts";

export const MISSED = ["skip", "one", "all"] as const;
export const OVERLAP = ["fire", "skip"] as const;

export type Schedule = {
  /** Its name. */
  readonly id: string;
  /** Five fields, or six with seconds first; null when it goes by `every_ms`. */
  readonly cron: string | null;
  readonly every_ms: number | null;
  /** IANA name; a cron expression means the time of day there. */
  readonly time_zone: string;
  /** Instants that passed more than LIMITS.scheduleLateMs ago when somebody came to fire them: none, the last one, or all. */
  readonly missed: (typeof MISSED)[number];
  /** What to do while the task of the last firing has not ended. */
  readonly overlap: (typeof OVERLAP)[number];
  /** The fields of the tasks it adds. */
  readonly task: ScheduledTask;
  /** Null when there is no further instant. */
  readonly next_at: string | null;
  /** The last instant that made a task. */
  readonly last_at: string | null;
  readonly last_task_id: number | null;
  readonly paused: boolean;
  /** Why the last instant made no task, or why it was paused by itself. */
  readonly note: string | null;
  readonly created_at: string;
  readonly updated_at: string;
  readonly revision: number;
};

/** What each task gets. `deadline_ms` counts from the moment it is added. */
export type ScheduledTask = Omit<NewTask, "key" | "run_at" | "deadline_at" | "status" | "result" | "depends_on" | "parent_id" | "batch_id"> & { readonly deadline_ms?: number };

/** What a caller says of a new schedule: one of `cron` and `every_ms`, and the task. */
export type NewSchedule = {
  readonly id: string;
  readonly cron?: string;
  readonly every_ms?: number;
  /** Default: UTC. */
  readonly time_zone?: string;
  /** Default: one. */
  readonly missed?: Schedule["missed"];
  /** Default: fire. */
  readonly overlap?: Schedule["overlap"];
  readonly task: ScheduledTask;
};

/** The instants of a schedule (ms). `since` gives those from `from` to `to`, both included, the newest `limit` of them in order. */
export type Instants = { after(ms: number): number | null; since(from: number, to: number, limit: number): number[] };

export const SCHEDULE_KIND: Kind = {
  name: "schedule",
  fields: {
    id: "text", cron: "text", every_ms: "integer", time_zone: "text", missed: "text", overlap: "text", task: "json", next_at: "text", last_at: "text",
    last_task_id: "integer", paused: "boolean", note: "text", created_at: "text", updated_at: "text", revision: "integer",
  },
  key: ["id"],
  indexes: { due: { fields: ["next_at"], where: { paused: false }, notNull: ["next_at"] } },
};

const TASK_FIELDS: ReadonlySet<string> = new Set(["description", "input", "queue", "priority", "tags", "verifier", "max_attempts", "timeout_ms", "deadline_ms", "concurrency_key", "concurrency_limit"]);

/** The record of a new schedule, all but its first instant. Throws `usage` when something is not as it must be. */
export function newSchedule(fields: NewSchedule, now: number): Omit<Schedule, "next_at"> {
  if (typeof fields.id !== "string" || !/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(fields.id)) {
    throw bad("name", `"${String(fields.id).slice(0, 120)}" is not a name`, "Use letters, digits, dots, dashes and underscores, at most 100.");
  }
  if ((fields.cron === undefined) === (fields.every_ms === undefined)) throw bad("time", "it needs a cron expression or an interval, and not both", 'As in: --cron "0 9 * * 1-5", or: --every 15m.');
  if (fields.every_ms !== undefined && (!Number.isSafeInteger(fields.every_ms) || fields.every_ms < LIMITS.scheduleEveryMs)) throw bad("every_ms", `the interval must be at least ${LIMITS.scheduleEveryMs} ms, not ${String(fields.every_ms)}`);
  if (fields.missed !== undefined && !MISSED.includes(fields.missed)) throw bad("missed", `"${String(fields.missed)}" is none of ${MISSED.join(", ")}`);
  if (fields.overlap !== undefined && !OVERLAP.includes(fields.overlap)) throw bad("overlap", `"${String(fields.overlap)}" is none of ${OVERLAP.join(", ")}`);
  const at = iso(now);
  return {
    id: fields.id, cron: fields.cron ?? null, every_ms: fields.every_ms ?? null, time_zone: fields.time_zone ?? "UTC", missed: fields.missed ?? "one",
    overlap: fields.overlap ?? "fire", task: checkedTask(fields.task), last_at: null, last_task_id: null, paused: false, note: null, created_at: at, updated_at: at, revision: 1,
  };
}

function checkedTask(task: ScheduledTask): ScheduledTask {
  const unknown = Object.keys(task).find((field) => !TASK_FIELDS.has(field));
  if (unknown !== undefined) throw bad("task", `its tasks cannot have a ${unknown} of their own`, `They can have: ${[...TASK_FIELDS].join(", ")}.`);
  const { deadline_ms, ...fields } = task;
  if (deadline_ms !== undefined && (!Number.isSafeInteger(deadline_ms) || deadline_ms < 1)) throw bad("deadline_ms", `it must be a whole number of at least 1, not ${String(deadline_ms)}`);
  checkNewTask(fields);
  return canonical(task, "task") as unknown as ScheduledTask;
}

function bad(field: string, why: string, next?: string): PawlError {
  return new PawlError("usage", `The schedule's ${field} is not usable: ${why}.`, { next: next ?? "Correct it: pawl schedule add --help.", details: { field } });
}

/** What is to be done about a schedule that is due: an instant each with a task or (`skipped`) without, oldest first, and where it goes on. */
export type Plan = { readonly fire: readonly number[]; readonly next: number | null; readonly note: string | null };

/** `busy`: the task of the last firing has not ended. */
export function planDue(schedule: Schedule, instants: Instants, busy: boolean, now: number): Plan {
  const due = instants.since(parseIso(schedule.next_at!), now, LIMITS.scheduleMissed);
  const next = instants.after(now);
  const last = due.at(-1);
  if (last === undefined) return { fire: [], next, note: schedule.note };
  if (schedule.overlap === "skip" && busy) return { fire: [], next, note: `${iso(last)} passed over: task ${schedule.last_task_id} had not ended` };
  const late = now - last > LIMITS.scheduleLateMs;
  if (schedule.missed === "skip" && late) return { fire: [], next, note: `${iso(last)} passed over: nobody was there to fire it until ${iso(now)}` };
  return { fire: schedule.missed === "all" && schedule.overlap === "fire" ? due : [last], next, note: null };
}

/**
 * A plan as changes that follow one another: each adds the task of one instant and goes on from there, guarded on the
 * schedule as it was before. The change of an instant whose task is there already only goes on (`known` are such instants).
 */
export function planChanges(schedule: Schedule, plan: Plan, by: { actor: string; now: number }): Change[] {
  const steps = plan.fire.map((instant, i): Change => {
    const next = i + 1 < plan.fire.length ? plan.fire[i + 1]! : plan.next;
    return fired(schedule, instant, schedule.revision + i, { next_at: next === null ? null : iso(next), note: plan.note }, by);
  });
  if (steps.length > 0) return steps;
  return [{ guards: [guardOf(schedule)], puts: [setOf(schedule, schedule.revision, { next_at: plan.next === null ? null : iso(plan.next), note: plan.note }, by.now)] }];
}

/** Adds the task of one instant; its key says which, so that it is there once whatever happens. */
function fired(schedule: Schedule, instant: number, revision: number, set: Partial<Schedule>, by: { actor: string; now: number }): Change {
  const at = iso(instant);
  const { change } = addTask({ ...taskFor(schedule, by.now), key: keyOf(schedule.id, at) }, [], { ...by, reason: `schedule ${schedule.id}, ${at}` });
  return {
    guards: [{ kind: "schedule", key: schedule.id, is: { revision, paused: false } }, ...change.guards!],
    puts: [...change.puts, setOf(schedule, revision, { ...set, last_at: at, last_task_id: { $new: 0 } as never }, by.now)],
  };
}

/** One task now, by somebody's word; the instants stay as they are. */
export function runNow(schedule: Schedule, by: { actor: string; now: number }): Change {
  const { change } = addTask(taskFor(schedule, by.now), [], { ...by, reason: `schedule ${schedule.id}, by hand` });
  return { guards: [guardOf(schedule), ...change.guards!], puts: [...change.puts, setOf(schedule, schedule.revision, { last_at: iso(by.now), last_task_id: { $new: 0 } as never }, by.now)] };
}

const keyOf = (id: string, at: string): string => `schedule:${id}:${at}`;

function taskFor(schedule: Schedule, now: number): NewTask {
  const { deadline_ms, ...fields } = schedule.task;
  return { ...fields, ...(deadline_ms === undefined ? {} : { deadline_at: iso(now + deadline_ms) }) };
}

export function guardOf(schedule: Schedule): { kind: string; key: string; is: { revision: number } } {
  return { kind: "schedule", key: schedule.id, is: { revision: schedule.revision } };
}

/** Changes a schedule that stands at `revision`. */
export function setOf(schedule: Schedule, revision: number, set: Partial<Schedule>, now: number): Put {
  return { kind: "schedule", key: schedule.id, set: { ...set, revision: revision + 1, updated_at: iso(now) } as Fields };
}

/** The schedule that a task was added by, told by the reason of its first transition; null when there is none. */
export function scheduleOf(reason: string | null): string | null {
  return /^schedule (\S+), /.exec(reason ?? "")?.[1] ?? null;
}

/** The instants of an interval: those a whole number of intervals after `start`. */
export function everyInstants(every_ms: number, start: number): Instants {
  const after = (ms: number) => start + Math.max(0, Math.floor((ms - start) / every_ms) + 1) * every_ms;
  return {
    after,
    since: (from, to, limit) => {
      const found: number[] = [];
      for (let at = after(to) - every_ms; at >= from && at >= start && found.length < limit; at -= every_ms) found.unshift(at);
      return found;
    },
  };
}

/** As it is shown: with its JSON fields. */
export const asSchedule = (record: { readonly [field: string]: Json }): Schedule => record as unknown as Schedule;

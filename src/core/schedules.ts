// The verbs of a schedule: added, looked at, paused, fired. Any worker's sweep fires what is due; each firing is one change
// guarded on the schedule as it was read, so of many who come to it one fires, and a crash leaves it fired or not.
import { iso, parseIso } from "../base/clock.ts";
import { isPawlError, messageOf, PawlError } from "../base/errors.ts";
import type { Fields } from "../store/store.ts";
import type { Committer } from "./committer.ts";
import { TERMINAL, type Task } from "./records.ts";
import { asSchedule, everyInstants, guardOf, newSchedule, planChanges, planDue, runNow, setOf, type Instants, type NewSchedule, type Schedule } from "./schedule.ts";
import { getTask } from "./tasks.ts";

/** Schedules one sweep looks at; the next goes on. */
const PAGE = 100;

async function instantsOf({ cron, every_ms, time_zone }: Pick<Schedule, "cron" | "every_ms" | "time_zone">, start: number): Promise<Instants> {
  if (cron === null) return everyInstants(every_ms!, start);
  const { cronInstants } = await import("./cron.ts");
  return cronInstants(cron, time_zone);
}

/** Adds a schedule. The same again gives the one that is there; another of that name is a `conflict`. */
export async function addSchedule(committer: Committer, fields: NewSchedule): Promise<Schedule> {
  const now = committer.store.clock.now();
  const made = newSchedule(fields, now);
  const first = (await instantsOf(made, now)).after(now);
  if (first === null) throw new PawlError("usage", `"${made.cron}" never comes.`, { next: "See how it is written: pawl schedule add --help." });
  const schedule: Schedule = { ...made, next_at: iso(first) };
  const result = await committer.commit({ guards: [{ kind: "schedule", key: schedule.id, absent: true }], puts: [{ kind: "schedule", record: schedule as unknown as Fields }] });
  if (result.ok) return schedule;
  if ("error" in result) throw result.error;
  const known = asSchedule(result.conflict.record!);
  if (sameWish(known, schedule)) return known;
  throw new PawlError("conflict", `There is a schedule "${schedule.id}" already, and it says something else.`, { next: `See it: pawl schedule show ${schedule.id}. To replace it: pawl schedule rm ${schedule.id}, then add it.` });
}

function sameWish(a: Schedule, b: Schedule): boolean {
  const wish = ({ cron, every_ms, time_zone, missed, overlap, task }: Schedule) => JSON.stringify([cron, every_ms, time_zone, missed, overlap, Object.entries(task).sort()]);
  return wish(a) === wish(b);
}

export async function getSchedule(committer: Committer, id: string): Promise<Schedule> {
  const [found] = await committer.store.get("schedule", [id]);
  if (!found) throw new PawlError("not_found", `schedule not found: ${id}`, { next: "See what there is: pawl schedule list." });
  return asSchedule(found);
}

/** Schedules by name. */
export async function listSchedules(committer: Committer): Promise<Schedule[]> {
  return (await committer.store.list("schedule")).map(asSchedule);
}

/** Changes a schedule as it stands, deciding again when it changed in between. */
async function change(committer: Committer, id: string, rule: (schedule: Schedule, now: number) => Partial<Schedule> | null | Promise<Partial<Schedule> | null>): Promise<Schedule> {
  for (;;) {
    const schedule = await getSchedule(committer, id);
    const now = committer.store.clock.now();
    const set = await rule(schedule, now);
    if (set === null) return schedule;
    const result = await committer.commit({ guards: [guardOf(schedule)], puts: [setOf(schedule, schedule.revision, set, now)] });
    if (result.ok) return getSchedule(committer, id);
    if ("error" in result) throw result.error;
  }
}

/** No instant fires while it is paused; those that pass meanwhile are gone. */
export const pauseSchedule = (committer: Committer, id: string): Promise<Schedule> => change(committer, id, ({ paused }) => (paused ? null : { paused: true, note: null }));

/** It goes on with the next instant after now. */
export function resumeSchedule(committer: Committer, id: string): Promise<Schedule> {
  return change(committer, id, async (schedule, now) => {
    if (!schedule.paused) return null;
    const instants = await instantsOf(schedule, startOf(schedule));
    const next = instants.after(now);
    return { paused: false, note: null, next_at: next === null ? null : iso(next) };
  });
}

/** Takes it away; its tasks stay. */
export async function removeSchedule(committer: Committer, id: string): Promise<Schedule> {
  const schedule = await getSchedule(committer, id);
  const result = await committer.commit({ puts: [{ kind: "schedule", key: id, delete: true }] });
  if (!result.ok && "error" in result) throw result.error;
  return schedule;
}

/** Adds one task now. Its instants stay as they are, also when it is paused. */
export async function runSchedule(committer: Committer, id: string, actor: string): Promise<Task> {
  for (;;) {
    const schedule = await getSchedule(committer, id);
    const result = await committer.commit(runNow(schedule, { actor, now: committer.store.clock.now() }));
    if (result.ok) return getTask(committer, result.ids[0] as number);
    if ("error" in result) throw result.error;
  }
}

/** The instant its interval counts from. */
const startOf = (schedule: Schedule): number => parseIso(schedule.next_at ?? schedule.created_at);

/** Fires what is due. Returns how many tasks were added. */
export async function fireDue(committer: Committer, actor: string): Promise<number> {
  const due = (await committer.store.list("schedule", { index: "due", to: iso(committer.store.clock.now() + 1), limit: PAGE })).map(asSchedule);
  const fired = await Promise.all(due.map((schedule) => fireOne(committer, schedule, actor)));
  return fired.reduce((sum, n) => sum + n, 0);
}

async function fireOne(committer: Committer, schedule: Schedule, actor: string): Promise<number> {
  try {
    const instants = await instantsOf(schedule, startOf(schedule));
    const [last] = schedule.last_task_id === null ? [null] : ((await committer.store.get("task", [schedule.last_task_id])) as unknown as (Task | null)[]);
    const now = committer.store.clock.now();
    const plan = planDue(schedule, instants, last !== null && last !== undefined && !TERMINAL.has(last.status), now);
    // In one flush, each guarded on the one before: what another was faster with stops all that follow.
    const results = await Promise.all(planChanges(schedule, plan, { actor, now }).map((one) => committer.commit(one)));
    const broken = results.find((result) => !result.ok && "error" in result);
    if (broken && !broken.ok && "error" in broken) throw broken.error;
    const stopped = results.find((result) => !result.ok);
    if (stopped && !stopped.ok && "conflict" in stopped && stopped.conflict.kind === "task") await passKnown(committer, schedule.id, instants);
    return results.filter((result, i) => result.ok && i < plan.fire.length).length;
  } catch (error) {
    if (isPawlError(error) && !["usage", "value_refused"].includes(error.code)) throw error;
    // One that cannot be computed must not stop the sweep: it stands still and says why.
    await change(committer, schedule.id, ({ paused, revision }) => (paused || revision !== schedule.revision ? null : { paused: true, note: `paused: ${messageOf(error)}` }));
    return 0;
  }
}

/** The task of its next instant is there already, from a schedule of that name before: it goes on behind it. */
async function passKnown(committer: Committer, id: string, instants: Instants): Promise<void> {
  await change(committer, id, (schedule) => {
    if (schedule.next_at === null) return null;
    const next = instants.after(parseIso(schedule.next_at));
    return { next_at: next === null ? null : iso(next) };
  });
}

/** `state.schedules`. */
export function scheduleVerbs(committer: Committer, actor: string) {
  return {
    /** Adds a schedule; its first instant is the next one after now. The same again gives the one that is there; another of that name is a `conflict`. */
    add: (schedule: NewSchedule): Promise<Schedule> => addSchedule(committer, schedule),
    /** Throws `not_found` when there is none. */
    get: (name: string): Promise<Schedule> => getSchedule(committer, name),
    list: (): Promise<Schedule[]> => listSchedules(committer),
    pause: (name: string): Promise<Schedule> => pauseSchedule(committer, name),
    resume: (name: string): Promise<Schedule> => resumeSchedule(committer, name),
    remove: (name: string): Promise<Schedule> => removeSchedule(committer, name),
    /** Adds one task now; its instants stay as they are. */
    run: (name: string): Promise<Task> => runSchedule(committer, name, actor),
  };
}

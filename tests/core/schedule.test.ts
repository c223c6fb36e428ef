// Schedules: each instant is fired once, whoever comes to it and whoever dies at it; what was missed goes by the policy; and
// times of day mean what the clock on the wall says there, also on the days it is changed.
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { iso } from "../../src/base/clock.ts";
import { isPawlError } from "../../src/base/errors.ts";
import { LIMITS } from "../../src/base/limits.ts";
import { cronInstants } from "../../src/core/cron.ts";
import { everyInstants, planDue, type NewSchedule, type Schedule } from "../../src/core/schedule.ts";
import type { Task } from "../../src/core/records.ts";
import { sweep, type Evidence } from "../../src/core/sweep.ts";
import { eventually } from "../pawl.ts";
import { LASTING, statePlace } from "../places.ts";
import { mortalHome, simulate, type Death, type Simulation } from "../simulation.ts";
import { MEMORY, STORES } from "../stores.ts";

const PERIOD = 300_000;
/** For the processes, which go by the clock on the wall: none may end while they are at it. */
const HOUR = 3_600_000;
const regular = (more: Partial<NewSchedule> = {}): NewSchedule => ({ id: "regular", every_ms: PERIOD, task: { description: "look" }, ...more });
const EVIDENCE: Evidence = { ownerState: () => "unknown", endProcesses: async () => true, forget: () => undefined };
const sweepOnce = (sim: Simulation) => sweep(sim.state.committer, EVIDENCE, "sweeper", false);
const keys = async (sim: Simulation) => (await sim.state.tasks.all()).map((task) => task.key);
const keyOf = (ms: number) => `schedule:regular:${iso(ms)}`;

/* ---------- the rules ---------- */

test("what is fired of the instants that passed", () => {
  const start = Date.UTC(2026, 0, 1);
  const schedule = { next_at: iso(start), missed: "one", overlap: "fire", last_task_id: 7 } as Schedule;
  const instants = everyInstants(PERIOD, start);
  const at = (periods: number, ms = 0) => start + periods * PERIOD + ms;
  const plan = (now: number, more: Partial<Schedule> = {}, busy = false) => {
    const { fire, next, note } = planDue({ ...schedule, ...more }, instants, busy, now);
    return [fire.map((ms) => (ms - start) / PERIOD), (next! - start) / PERIOD, note === null ? null : note.replace(/^\S+ /, "")];
  };
  const soon = 200;
  assert.deepEqual(plan(at(0, soon)), [[0], 1, null]);
  assert.deepEqual(plan(at(2, soon)), [[2], 3, null], "one: the last");
  assert.deepEqual(plan(at(2, soon), { missed: "skip" }), [[2], 3, null], "the last is not late");
  assert.deepEqual(plan(at(2, LIMITS.scheduleLateMs + 1), { missed: "skip" })[0], []);
  assert.match(plan(at(2, LIMITS.scheduleLateMs + 1), { missed: "skip" })[2] as string, /^passed over: nobody was there/);
  assert.deepEqual(plan(at(3, soon), { missed: "all" }), [[0, 1, 2, 3], 4, null]);
  assert.deepEqual(plan(at(1_000, soon), { missed: "all" })[0], Array.from({ length: LIMITS.scheduleMissed }, (_, i) => 1_001 - LIMITS.scheduleMissed + i), "the newest of many");
  assert.deepEqual(plan(at(0, soon), { overlap: "skip" }, true), [[], 1, "passed over: task 7 had not ended"]);
  assert.deepEqual(plan(at(3, soon), { overlap: "skip", missed: "all" }), [[3], 4, null], "several at once would overlap");
});

test("the days on which clocks change: a time that is left out comes at the end of the gap, one that comes twice counts once", () => {
  const days = (cron: string, from: string, n: number, zone = "Europe/Berlin") => {
    const instants = cronInstants(cron, zone);
    const found: string[] = [];
    for (let at = Date.parse(from), i = 0; i < n; i++) found.push(iso((at = instants.after(at)!)).slice(5, 16));
    assert.deepEqual(instants.since(Date.parse(from) + 1, Date.parse(`2026-${found.at(-1)!}Z`), n).map((ms) => iso(ms).slice(5, 16)), found, "the same looking back");
    return found;
  };
  assert.deepEqual(days("30 2 * * *", "2026-03-27T12:00:00Z", 3), ["03-28T01:30", "03-29T01:00", "03-30T00:30"], "2:30 is left out: 3:00 summer time");
  assert.deepEqual(days("30 2 * * *", "2026-10-23T12:00:00Z", 3), ["10-24T00:30", "10-25T00:30", "10-26T01:30"], "2:30 comes twice: the first counts");
  assert.deepEqual(days("15 * * * *", "2026-10-24T23:30:00Z", 4), ["10-25T00:15", "10-25T01:15", "10-25T02:15", "10-25T03:15"], "every hour stays every hour");
  assert.deepEqual(days("15 * * * *", "2026-03-28T23:30:00Z", 3), ["03-29T00:15", "03-29T01:15", "03-29T02:15"]);
  assert.deepEqual(days("0 9 * * 1-5", "2026-03-26T12:00:00Z", 3), ["03-27T08:00", "03-30T07:00", "03-31T07:00"], "nine stays nine");
  assert.deepEqual(days("30 2 * * *", "2026-03-07T12:00:00Z", 3, "America/New_York"), ["03-08T07:00", "03-09T06:30", "03-10T06:30"]);
  assert.deepEqual(days("0 0 L * *", "2026-02-01T00:00:00Z", 2, "UTC"), ["02-28T00:00", "03-31T00:00"]);
});

test("an interval keeps to its grid", () => {
  const { after, since } = everyInstants(60, 1_000);
  assert.deepEqual([after(0), after(999), after(1_000), after(1_059), after(1_060)], [1_000, 1_000, 1_060, 1_060, 1_120]);
  assert.deepEqual([since(1_000, 999, 9), since(1_000, 1_000, 9), since(1_000, 1_185, 9), since(1_000, 1_185, 2)], [[], [1_000], [1_000, 1_060, 1_120, 1_180], [1_120, 1_180]]);
});

const BAD: readonly (readonly [string, object, RegExp])[] = [
  ["no time", { every_ms: undefined }, /cron expression or an interval/],
  ["both times", { cron: "* * * * *" }, /not both/],
  ["a minute beyond 59", { every_ms: undefined, cron: "61 * * * *" }, /minute: 61/],
  ["four fields", { every_ms: undefined, cron: "* * * *" }, /five fields/],
  ["a date", { every_ms: undefined, cron: "2026-01-01T00:00:00" }, /five fields/],
  ["the 30th of February", { every_ms: undefined, cron: "0 0 30 2 *" }, /never comes/],
  ["no such zone", { every_ms: undefined, cron: "* * * * *", time_zone: "Mars/Base" }, /"Mars\/Base" is no time zone/],
  ["an interval too short", { every_ms: 10 }, /at least 1000/],
  ["half a millisecond", { every_ms: 2_000.5 }, /at least 1000/],
  ["a name with a slash", { id: "a/b" }, /not a name/],
  ["no name", { id: "" }, /not a name/],
  ["an unknown policy", { missed: "some" }, /skip, one, all/],
  ["an unknown overlap", { overlap: "queue" }, /fire, skip/],
  ["no description", { task: { description: " " } }, /description/],
  ["a key of its own", { task: { description: "x", key: "k" } }, /key of their own/],
  ["a deadline that is a time", { task: { description: "x", deadline_at: "2026-01-01T00:00:00.000Z" } }, /deadline_at/],
];

test("a schedule that cannot be is refused with the reason, and nothing is kept", async (t) => {
  const sim = await simulate(t);
  for (const [name, more, message] of BAD) {
    await assert.rejects(sim.state.schedules.add({ ...regular(), ...more } as NewSchedule), (error) => isPawlError(error, "usage") && message.test(error.message), name);
  }
  assert.deepEqual(await sim.state.schedules.list(), []);
});

/* ---------- on every store ---------- */

for (const store of STORES) {
  test(`${store.name}: added once, fired on time, paused, resumed, run by hand, removed`, async (t) => {
    const sim = await simulate(t, store);
    const { state, clock } = sim;
    const start = clock.now();
    const made = await state.schedules.add(regular({ task: { description: "look", queue: "q", priority: 2, deadline_ms: 500, concurrency_key: "k" } }));
    assert.deepEqual([made.next_at, made.missed, made.time_zone], [iso(start + PERIOD), "one", "UTC"]);
    assert.deepEqual(await state.schedules.add(regular({ task: made.task })), made, "the same again");
    await assert.rejects(state.schedules.add(regular({ every_ms: 2 * PERIOD })), { code: "conflict" });
    await clock.advance(PERIOD - 1);
    assert.deepEqual([await sweepOnce(sim), await keys(sim)], [0, []]);
    await clock.advance(1);
    await Promise.all([sweepOnce(sim), sweepOnce(sim), sweepOnce(sim)]);
    assert.deepEqual(await keys(sim), [keyOf(start + PERIOD)], "three came to it");
    const task = await state.tasks.get(1);
    assert.deepEqual([task.queue, task.priority, task.deadline_at, task.slot], ["q", 2, iso(clock.now() + 500), "k#0"]);
    assert.match((await state.why(1)).summary, /Schedule "regular" added it\./);
    assert.equal((await state.history.of(1))[0]!.reason, `schedule regular, ${iso(start + PERIOD)}`);
    await state.schedules.pause("regular");
    await clock.advance(2 * PERIOD + 5);
    await sweepOnce(sim);
    assert.equal((await keys(sim)).length, 1);
    assert.equal((await state.schedules.resume("regular")).next_at, iso(start + 4 * PERIOD), "what it would have fired is gone");
    const byHand = await state.schedules.run("regular");
    assert.deepEqual([byHand.key, (await state.schedules.get("regular")).last_task_id], [null, byHand.id]);
    await state.schedules.remove("regular");
    await assert.rejects(state.schedules.get("regular"), { code: "not_found" });
    assert.equal((await state.tasks.list()).length, 2);
  });

  test(`${store.name}: nobody was there: the policies, and overlap`, async (t) => {
    const sim = await simulate(t, store);
    const { state, clock } = sim;
    const start = clock.now();
    for (const missed of ["skip", "one", "all"] as const) await state.schedules.add(regular({ id: missed, missed }));
    await state.schedules.add(regular({ id: "gentle", overlap: "skip" }));
    await clock.advance(5 * PERIOD + LIMITS.scheduleLateMs + 1);
    await sweepOnce(sim);
    const of = async (id: string) => (await keys(sim)).filter((key) => key!.startsWith(`schedule:${id}:`)).map((key) => (Date.parse(key!.slice(`schedule:${id}:`.length)) - start) / PERIOD);
    assert.deepEqual([await of("skip"), await of("one"), await of("all"), await of("gentle")], [[], [5], [1, 2, 3, 4, 5], [5]]);
    for (const schedule of await state.schedules.list()) assert.equal(schedule.next_at, iso(start + 6 * PERIOD), schedule.id);
    assert.match((await state.schedules.get("skip")).note!, /nobody was there/);
    await clock.advance(PERIOD);
    await sweepOnce(sim);
    assert.deepEqual([await of("gentle"), (await state.schedules.get("gentle")).note!.includes("had not ended")], [[5], true]);
    await state.tasks.cancel(`schedule:gentle:${iso(start + 5 * PERIOD)}`);
    await clock.advance(PERIOD);
    await sweepOnce(sim);
    assert.deepEqual([await of("gentle"), (await state.schedules.get("gentle")).note], [[5, 7], null]);
  });
}

test("one of that name before has fired the instant: it is not fired again, and the schedule goes on behind it", async (t) => {
  const sim = await simulate(t);
  const start = sim.clock.now();
  await sim.state.tasks.add({ description: "look", key: keyOf(start + PERIOD) });
  await sim.state.schedules.add(regular({ missed: "all" }));
  await sim.clock.advance(3 * PERIOD);
  await sweepOnce(sim);
  await sweepOnce(sim);
  assert.deepEqual(await keys(sim), [1, 2, 3].map((n) => keyOf(start + n * PERIOD)));
});

test("one that can no longer be computed stands still and says so; the others go on", async (t) => {
  const sim = await simulate(t);
  await sim.state.schedules.add(regular());
  await sim.state.schedules.add({ id: "odd", cron: "*/5 * * * *", task: { description: "x" } });
  await sim.state.committer.commit({ puts: [{ kind: "schedule", key: "odd", set: { time_zone: "Mars/Base" } }] });
  await sim.clock.advance(PERIOD + 1);
  await sweepOnce(sim);
  const odd = await sim.state.schedules.get("odd");
  assert.deepEqual([odd.paused, (await keys(sim)).length], [true, 1]);
  assert.match(odd.note!, /^paused: .*Mars\/Base/);
});

test("a worker wakes for the next instant by itself", async (t) => {
  const sim = await simulate(t);
  await sim.state.schedules.add(regular());
  sim.start(async () => "done");
  await sim.clock.advance(PERIOD + 50);
  await sim.untilTrue(async () => (await sim.state.tasks.count()).completed === 1);
  assert.ok(sim.clock.now() - Date.parse((await sim.state.tasks.get(1)).created_at) < 1_000);
});

/* ---------- deaths ---------- */

/** Fires six missed instants of two schedules with a sweep that dies at this write, then with another; false when it wrote less often. */
async function dyingAt(t: TestContext, death: Death): Promise<boolean> {
  const sim = await simulate(t, MEMORY);
  const start = sim.clock.now();
  for (const id of ["regular", "other"]) await sim.state.schedules.add(regular({ id, missed: "all" }));
  await sim.clock.advance(3 * PERIOD + 1);
  const life = mortalHome(sim.state, sim.clock, death);
  void sweep(life.home.committer, EVIDENCE, "mortal", false).catch(() => undefined);
  for (let i = 0; i < 20; i++) await sim.clock.advance(1);
  await sweepOnce(sim);
  const expected = ["regular", "other"].flatMap((id) => [1, 2, 3].map((n) => `schedule:${id}:${iso(start + n * PERIOD)}`));
  assert.deepEqual((await keys(sim)).sort(), expected.sort(), JSON.stringify(death));
  return life.dead;
}

test("a process that dies at any of its writes leaves an instant fired or not, and the next fires what is left", async (t) => {
  for (const when of ["before", "after"] as const) {
    let write = 1;
    while (await dyingAt(t, { write, when })) write++;
    assert.ok(write > 1);
  }
});

for (const name of LASTING) {
  test(`${name}: four processes, one killed, come to 50 due instants: each makes one task`, async (t) => {
    const place = await statePlace(t, name);
    const folder = mkdtempSync(join(tmpdir(), "pawl-schedule-"));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const log = join(folder, "log");
    writeFileSync(log, "");
    const state = await place.open();
    await state.schedules.add(regular({ id: "many", missed: "all", every_ms: HOUR }));
    for (let i = 0; i < 30; i++) await state.schedules.add(regular({ id: `s${i}`, every_ms: HOUR }));
    const now = Math.floor(Date.now() / HOUR) * HOUR;
    const due = (id: string, ms: number) => state.committer.commit({ puts: [{ kind: "schedule", key: id, set: { next_at: iso(ms) } }] });
    const children = [1, 2, 3, 4].map(() => spawn(process.execPath, [join(import.meta.dirname, "schedule-child.ts"), place.url, log], { stdio: ["ignore", "pipe", "inherit"] }));
    t.after(() => children.forEach((child) => child.kill("SIGKILL")));
    await Promise.all(children.map((child) => once(child.stdout!, "data")));
    await Promise.all([due("many", now - 19 * HOUR), ...Array.from({ length: 30 }, (_, i) => due(`s${i}`, now))]);
    await eventually(() => readFileSync(log, "utf8").length > 0, "something to be fired");
    children[0]!.kill("SIGKILL");
    const expected = [...Array.from({ length: 20 }, (_, i) => `schedule:many:${iso(now - i * HOUR)}`), ...Array.from({ length: 30 }, (_, i) => `schedule:s${i}:${iso(now)}`)].sort();
    const completed = async (): Promise<Task[]> => (await state.tasks.all()).filter(({ status }) => status === "completed");
    await eventually(async () => (await completed()).length >= 50, "all to be fired and done", 30_000);
    assert.deepEqual((await state.tasks.all()).map(({ key }) => key).sort(), expected);
    await Promise.all(children.map(ended));
  });
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const over = once(child, "exit");
  child.kill("SIGTERM");
  await over;
}

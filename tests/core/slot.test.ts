// Concurrency keys: of the tasks of a key never more than its limit are in work, over processes, deaths and every change of a
// task; a slot ends with what it was for; and a key that is full is in nobody's way.
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import fc from "fast-check";
import { isBlocked } from "../../src/core/batch.ts";
import { examine } from "../../src/core/doctor.ts";
import { keepSlot } from "../../src/core/line.ts";
import { TERMINAL, type Task } from "../../src/core/records.ts";
import { giftsOf, worstOf, type Slot } from "../../src/core/slot.ts";
import { sweep } from "../../src/core/sweep.ts";
import type { State } from "../../src/state.ts";
import { eventually } from "../pawl.ts";
import { LASTING, statePlace } from "../places.ts";
import { simulate, turns, type Death } from "../simulation.ts";
import { ALL_STORES, MEMORY, STORES } from "../stores.ts";
import { sample } from "./samples.ts";

const LONG = { concurrency: 8, leaseMs: 60_000 };

/** The invariants of slots, whatever happened: as many as tasks that have one, each its own, none beyond the limit. */
async function requireSound(state: State): Promise<void> {
  const slots = (await state.committer.store.list("slot")) as unknown as Slot[];
  const tasks = await state.tasks.all();
  const holders = tasks.filter((task) => task.slot !== null);
  assert.deepEqual(slots.map((slot) => [slot.id, slot.task_id]).sort(), holders.map((task) => [task.slot, task.id]).sort(), "slots and those who have them");
  for (const task of tasks) {
    if (task.slot !== null) assert.ok(task.ready || task.worker !== null, `task ${task.id} is ${task.status} with a slot`);
    if (task.concurrency_key !== null && task.ready) assert.ok(task.slot?.startsWith(`${task.concurrency_key}#`), `task ${task.id} is due without a slot`);
    if (task.line !== null) assert.deepEqual([task.ready, task.slot, task.line, task.run_at], [false, null, task.concurrency_key, null], `task ${task.id} in line`);
    const key = task.slot?.split("#")[0];
    const sharing = holders.filter((holder) => holder.slot!.startsWith(`${key}#`));
    if (key !== undefined) assert.ok(sharing.length <= Math.max(...sharing.map((holder) => holder.concurrency_limit ?? 1)), `the slots of ${key}`);
  }
}

/* ---------- the rules ---------- */

test("what a change of a task means for its slot and its place in line", () => {
  const keyed = { concurrency_key: "k" } as const;
  const due = { ...sample("pending"), ...keyed, slot: "k#0", ready: true };
  const owned = { ...sample("in_progress"), ...keyed, slot: "k#0", worker: "w", ready: false };
  const inLine = { ...sample("pending"), ...keyed, line: "k", ready: false };
  const kinds = (placed: ReturnType<typeof keepSlot>) => placed && [placed.set, placed.puts.map((put) => `${put.kind}${"delete" in put ? " gone" : ""}`)];
  const freed = ["slot gone", "vacancy"];
  const plain = sample("pending");
  assert.equal(keepSlot(plain, { ...plain, ready: false }), null, "nothing to do with slots");
  assert.equal(keepSlot(due, { ...due, ready: false, worker: "w", status: "in_progress" }), null, "claimed: kept");
  assert.equal(keepSlot(owned, { ...owned, worker: null, ready: true, status: "pending" }), null, "due again at once: kept");
  assert.equal(keepSlot(owned, { ...owned, status: "review" }), null, "in review by its owner: kept");
  assert.deepEqual(kinds(keepSlot(owned, { ...owned, worker: null, status: "completed" })), [{ slot: null, line: null, ready: false }, freed]);
  assert.deepEqual(kinds(keepSlot(owned, { ...owned, worker: null, status: "waiting" })), [{ slot: null, line: null, ready: false }, freed]);
  assert.deepEqual(kinds(keepSlot(owned, { ...owned, worker: null, status: "pending", run_at: "later" })), [{ slot: null, line: null, ready: false }, freed]);
  assert.deepEqual(kinds(keepSlot(due, { ...due, concurrency_key: "other" })), [{ slot: null, line: "other", ready: false }, [...freed, "vacancy"]]);
  assert.deepEqual(kinds(keepSlot(due, { ...due, concurrency_key: null })), [{ slot: null, line: null, ready: true }, freed]);
  assert.equal(keepSlot(owned, { ...owned, concurrency_key: "other" }), null, "its owner keeps the slot whatever its key becomes");
  assert.deepEqual(kinds(keepSlot(plain, { ...plain, ...keyed })), [{ slot: null, line: "k", ready: false }, ["vacancy"]]);
  assert.deepEqual(kinds(keepSlot(inLine, { ...inLine, revision: 9 })), [{ slot: null, line: "k", ready: false }, []]);
  assert.deepEqual(kinds(keepSlot(inLine, { ...inLine, priority: 1 })), [{ slot: null, line: "k", ready: false }, ["vacancy"]], "perhaps its turn now");
  assert.deepEqual(kinds(keepSlot(inLine, { ...inLine, concurrency_key: null })), [{ slot: null, line: null, ready: true }, []]);
  assert.deepEqual(kinds(keepSlot(inLine, { ...inLine, status: "cancelled" })), [{ slot: null, line: null, ready: false }, []]);
  assert.deepEqual(kinds(keepSlot(inLine, { ...inLine, run_at: "later" })), [{ slot: null, line: null, ready: false }, []]);
});

test("free slots go to the first of the line, each by its own limit; a holder nobody claimed gives way to a better priority", () => {
  const line = [1, 2, 3].map((id) => ({ ...sample("pending"), id, concurrency_key: "k", concurrency_limit: 2 }));
  const slot = (n: number, task_id: number): Slot => ({ id: `k#${n}`, concurrency_key: "k", task_id, at: "" });
  const gifts = (slots: Slot[], tasks: readonly Task[] = line) => giftsOf("k", slots, tasks).map((gift) => [gift.task.id, gift.slot]);
  assert.deepEqual(gifts([]), [[1, "k#0"], [2, "k#1"]]);
  assert.deepEqual(gifts([slot(0, 9)]), [[1, "k#1"]]);
  assert.deepEqual(gifts([slot(1, 9)]), [[1, "k#0"]]);
  assert.deepEqual(gifts([slot(0, 8), slot(1, 9)]), []);
  assert.deepEqual(gifts([slot(0, 9)], [{ ...line[0]!, concurrency_limit: null }, line[1]!]), [], "nobody overtakes the first");
  const holder = (id: number, priority: number, more: Partial<Task> = {}) => ({ ...sample("pending"), id, priority, slot: `k#${id}`, ready: true, ...more });
  assert.equal(worstOf([holder(8, 6), holder(9, 6)], { ...line[0]!, priority: 5 })?.id, 9);
  assert.equal(worstOf([holder(8, 6), holder(9, 6)], { ...line[0]!, priority: 5, concurrency_limit: 1 }), null, "its own limit is lower");
  assert.equal(worstOf([holder(7, 5), holder(8, 6, { ready: false, worker: "w" })], { ...line[0]!, priority: 5 }), null, "who works keeps it; equals keep their order");
});

/* ---------- on every store ---------- */

for (const store of ALL_STORES) {
  test(`${store.name}: a full key holds back nobody else, its order is kept, and a better priority comes first`, async (t) => {
    const state = await store.open(t);
    const add = (description: string, more: object = {}) => state.tasks.add({ description, ...more });
    const acme = { concurrency_key: "acme" };
    for (const name of ["a1", "a2", "a3"]) await add(name, acme);
    for (const name of ["b1", "b2"]) await add(name, { concurrency_key: "b", concurrency_limit: 2 });
    await add("plain");
    const claimed = [];
    for (let claim = await state.tasks.claim(); claim !== null; claim = await state.tasks.claim()) claimed.push(claim);
    assert.deepEqual(claimed.map(({ task }) => task.description), ["a1", "b1", "b2", "plain"]);
    assert.match((await state.why(2)).summary, /in line for a slot of its concurrency key "acme" \(1 at a time; now task 1\)/);
    assert.equal((await state.status()).tasks.blocked, 0, "in line is not blocked");
    const urgent = await add("a0", { ...acme, priority: 1 });
    await state.tasks.complete(1, null, { token: claimed[0]!.token });
    const next = (await state.tasks.claim())!;
    assert.equal(next.task.id, urgent.id);
    await state.tasks.release(next.task.id, { token: next.token });
    assert.equal((await state.tasks.get(urgent.id)).slot, "acme#0", "given back, it is due again with its slot");
    const first = await add("a-1", { ...acme, priority: 0 });
    assert.deepEqual([(await state.tasks.get(urgent.id)).line, first.slot], ["acme", "acme#0"], "nobody had claimed it");
    await state.tasks.edit(first.id, { concurrency_key: null });
    assert.deepEqual([(await state.tasks.get(first.id)).ready, (await state.tasks.get(urgent.id)).slot], [true, "acme#0"]);
    await state.tasks.cancel(urgent.id);
    assert.equal((await state.tasks.get(2)).slot, "acme#0");
    await state.tasks.remove(2);
    assert.equal((await state.tasks.get(3)).slot, "acme#0");
    const more = await add("a4", { ...acme, priority: 9 });
    await state.tasks.edit(more.id, { concurrency_limit: 2 });
    assert.equal((await state.tasks.get(more.id)).slot, "acme#1", "a higher limit counts at once");
    await requireSound(state);
  });
}

for (const store of STORES) {
  test(`${store.name}: a slot given to a queue without a worker goes on to one that has one`, async (t) => {
    const sim = await simulate(t, store);
    const idle = await sim.state.tasks.add({ description: "nobody's", queue: "deserted", concurrency_key: "k" });
    const mine = await sim.state.tasks.add({ description: "mine", concurrency_key: "k" });
    sim.start(async () => "done");
    await sim.until(mine.id);
    const { slot, status } = await sim.state.tasks.get(idle.id);
    assert.deepEqual([slot, status], ["k#0", "pending"], "and comes back when it is free again");
    await requireSound(sim.state);
  });

  test(`${store.name}: whatever is done to its tasks, a key keeps its limit and loses no slot`, async (t) => {
    const steps = fc.array(fc.record({ act: fc.nat(9), id: fc.nat(11), key: fc.constantFrom("k", "m", null), pick: fc.nat(3) }), { minLength: 3, maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        const sim = await simulate(t, store);
        const { state } = sim;
        await state.tasks.addAll(Array.from({ length: 12 }, (_, i) => ({ description: `t${i}`, concurrency_key: i % 3 === 2 ? "m" : "k", concurrency_limit: i % 3 === 2 ? 2 : 1, max_attempts: 2 })));
        const running = new Map<string, number>();
        let claim = await state.tasks.claim();
        for (const { act, id, key, pick } of list) {
          await applied(state, act, id + 1, key, pick, claim, (next) => void (claim = next)).catch(() => undefined); // refused by the rules is fine
          await requireSound(state);
        }
        for (const task of await state.tasks.list({ status: "in_progress" })) await state.tasks.release(task.id, { force: true });
        sim.start(async (task, { sleep }) => {
          const held = task.slot ?? "none";
          running.set(held, (running.get(held) ?? 0) + 1);
          assert.ok(task.slot === null || running.get(held) === 1, `two run with ${held}`);
          await turns(task.id % 4);
          running.set(held, running.get(held)! - 1);
          if (task.id % 5 === 0) await sleep("nap", 50);
        }, LONG);
        // What is left is blocked by one that failed or was cancelled.
        const open = async () => (await state.tasks.all()).filter((task) => !TERMINAL.has(task.status) && !(isBlocked(task) && task.depends_on.length > 0));
        await sim.untilTrue(async () => (await open()).length === 0, "every task to end");
        await requireSound(state);
        assert.deepEqual(await state.committer.store.list("slot"), []);
      }),
      { numRuns: Number(process.env["PAWL_SLOT_RUNS"] ?? 4), endOnFailure: true },
    );
  });
}

/** One thing somebody may do to a task. */
async function applied(state: State, act: number, id: number, key: string | null, pick: number, claim: Awaited<ReturnType<State["tasks"]["claim"]>>, claimed: (next: typeof claim) => void): Promise<unknown> {
  switch (act) {
    case 0: return state.tasks.claim().then(claimed);
    case 1: return claim && state.tasks.complete(claim.task.id, null, { token: claim.token });
    case 2: return claim && state.tasks.fail(claim.task.id, "no", { token: claim.token, permanent: pick > 1 });
    case 3: return claim && state.tasks.release(claim.task.id, { token: claim.token });
    case 4: return state.tasks.cancel(id);
    case 5: return state.tasks.reset(id);
    case 6: return state.tasks.reopen(id, "again");
    case 7: return state.tasks.edit(id, { concurrency_key: key, priority: pick });
    case 8: return state.tasks.edit(id, { run_at: new Date(state.clock.now() + pick * 100).toISOString() });
    default: return state.tasks.edit(id, { depends_on: pick + 1 < id ? [pick + 1] : [] });
  }
}

test("a slot that its task does not have is named by the doctor and freed by a sweep", async (t) => {
  const state = await MEMORY.open(t);
  const [first, second] = await state.tasks.addAll([1, 2].map((n) => ({ description: `t${n}`, concurrency_key: "k" })));
  // What somebody's own SQL may have done.
  await state.committer.commit({ puts: [{ kind: "task", key: first!.id, delete: true }] });
  const { findings } = await examine(state.committer.store, { deep: false, now: state.clock.now() });
  assert.ok(findings.some(({ code, message }) => code === "dangling" && /said to be with task 1/.test(message)), JSON.stringify(findings));
  await sweep(state.committer, { ownerState: () => "unknown", endProcesses: async () => true, forget: () => undefined }, "ann", true);
  assert.equal((await state.tasks.get(second!.id)).slot, "k#0");
});

/* ---------- deaths ---------- */

/** Works four tasks of one key with a worker that dies at this write, then with another; false when it wrote less often. */
async function dyingAt(t: TestContext, death: Death): Promise<boolean> {
  const sim = await simulate(t, MEMORY);
  let running = 0;
  const started: number[] = [];
  const execute = async (task: Task) => {
    assert.equal(++running, 1);
    started.push(task.id);
    running--;
    return task.id;
  };
  await sim.state.tasks.addAll([1, 2, 3, 4].map((n) => ({ description: `t${n}`, concurrency_key: "k" })));
  const mortal = sim.start(execute, { concurrency: 8, death });
  for (let i = 0; i < 50 && !mortal.dead; i++) await sim.clock.advance(50);
  running = 0;
  if (mortal.dead) sim.start(execute);
  else await sim.clock.advance(500);
  await sim.untilTrue(async () => (await sim.state.tasks.count()).completed === 4);
  const left = async () => [...(await sim.state.committer.store.list("slot")), ...(await sim.state.committer.store.list("vacancy"))];
  await sim.untilTrue(async () => (await left()).length === 0, `nothing to be left after ${JSON.stringify(death)}`);
  return mortal.dead;
}

test("a worker that dies at any of its writes leaves no slot behind and nobody in line for ever", async (t) => {
  for (const when of ["before", "after"] as const) {
    let write = 1;
    while (await dyingAt(t, { write, when })) write++;
    assert.ok(write > 10, `it wrote only ${write} times`);
  }
});

for (const name of LASTING) {
  test(`${name}: four processes, one killed: a key is never above its limit, and goes on at once`, async (t) => {
    const place = await statePlace(t, name);
    const folder = mkdtempSync(join(tmpdir(), "pawl-slot-"));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const log = join(folder, "log");
    writeFileSync(log, "");
    const state = await place.open();
    const keys = ["a", "b", "c"] as const;
    await state.tasks.addAll(Array.from({ length: 60 }, (_, i) => ({ description: `t${i}`, concurrency_key: keys[i % 3]!, concurrency_limit: (i % 3) + 1 })));
    const children = [1, 2, 3, 4].map(() => spawn(process.execPath, [join(import.meta.dirname, "slot-child.ts"), place.url, log], { stdio: ["ignore", "pipe", "inherit"] }));
    t.after(() => children.forEach((child) => child.kill("SIGKILL")));
    const lines = () => readFileSync(log, "utf8").split("\n").filter((line) => line !== "");
    const victim = await killed(children, lines);
    await eventually(async () => (await state.tasks.count()).completed === 60, "all to be completed", 60_000);
    assert.deepEqual(overruns(lines(), victim), []);
    await eventually(async () => (await state.committer.store.list("slot")).length === 0, "no slot to be left");
    await requireSound(state);
    await Promise.all(children.map((child) => ended(child)));
  });
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const over = once(child, "exit");
  child.kill("SIGTERM");
  await over;
}

/** Kills a child while it has a task at work, and gives its pid. */
async function killed(children: readonly ChildProcess[], lines: () => string[]): Promise<number> {
  for (;;) {
    await eventually(() => lines().length >= 20, "work to be going on", 30_000);
    const busy = children.find((child) => lines().filter((line) => line.startsWith("begin") && line.endsWith(` ${child.pid}`)).length > lines().filter((line) => line.startsWith("end") && line.endsWith(` ${child.pid}`)).length);
    if (!busy) continue;
    busy.kill("SIGKILL");
    return busy.pid!;
  }
}

/** Where the log shows more at work than the limit allows. What the killed one had at work ends where its tasks begin again. */
function overruns(lines: readonly string[], victim: number): string[] {
  const limits: { readonly [key: string]: number } = { a: 1, b: 2, c: 3 };
  const running = new Map<string, Map<string, string>>();
  const found: string[] = [];
  for (const [i, line] of lines.entries()) {
    const [word, key, id, pid] = line.split(" ") as [string, string, string, string];
    const ofKey = running.get(key) ?? running.set(key, new Map()).get(key)!;
    if (word === "end") ofKey.delete(id);
    else {
      // A begin of another process after the victim's last line: the victim was dead by then.
      if (lines.slice(i).every((later) => !later.endsWith(` ${victim}`))) for (const [task, by] of ofKey) if (by === String(victim)) ofKey.delete(task);
      ofKey.set(id, pid);
    }
    if (ofKey.size > limits[key]!) found.push(`${line}: ${ofKey.size} of ${key} at work`);
  }
  return found;
}

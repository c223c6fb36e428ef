// Durable waits: sleep, ask, approve. A waiting task needs no process; a task parks only when every branch is settled or
// waiting; an answer that comes at whatever moment is never lost and wakes the task once.
import assert from "node:assert/strict";
import { test } from "node:test";
import { sleep as sleepFor } from "../../src/base/clock.ts";
import { askAbout } from "../../src/core/decision.ts";
import type { TaskContext } from "../../src/worker/context.ts";
import { ENDED, gate, simulate, turns } from "../simulation.ts";
import { STORES } from "../stores.ts";

const HANG = new Promise<never>(() => undefined);
const HOUR = 3_600_000;

for (const store of STORES) {
  test(`${store.name}: a durable sleep ends at the same instant whatever process is alive, and counts no attempt`, async (t) => {
    const sim = await simulate(t, store);
    const task = await sim.state.tasks.add({ description: "x", timeout_ms: 60_000 });
    const woke: number[] = [];
    const program = async (_: unknown, { step, sleep }: { step: (name: string, fn: () => number) => Promise<number>; sleep: (name: string, ms: number) => Promise<void> }) => {
      const before = await step("before", () => sim.clock.now());
      await sleep("nap", HOUR);
      woke.push(sim.clock.now() - before);
      return "rested";
    };
    const first = sim.start(program);
    const parked = await sim.until(task.id, "waiting");
    assert.equal(parked.worker, null);
    first.die();
    await sim.clock.advance(HOUR / 2);
    const second = sim.start(program);
    await sim.clock.advance(1_000);
    assert.equal((await sim.state.tasks.get(task.id)).status, "waiting");
    second.die();
    sim.clock.jump(HOUR / 2 - 11_000);
    sim.start(program);
    await sim.clock.advance(8_000);
    assert.equal((await sim.state.tasks.get(task.id)).status, "waiting", "not a moment early");
    const done = await sim.until(task.id);
    assert.deepEqual([done.status, done.result, done.attempts, woke.length], ["completed", "rested", 1, 1]);
    assert.ok(woke[0]! >= HOUR && woke[0]! < HOUR + 2_000, `slept ${woke[0]} ms`);
    assert.deepEqual(await sim.events(task.id), ["created", "claimed", "parked", "woken", "claimed", "completed"]);
  });

  test(`${store.name}: a question waits for its answer over a restart; the answer comes to the code that asked`, async (t) => {
    const sim = await simulate(t, store);
    const task = await sim.state.tasks.add({ description: "x" });
    const program = async (_: unknown, { ask, approve }: { ask: (n: string, q: string, d?: unknown) => Promise<string>; approve: (n: string, q: string, d?: unknown) => Promise<{ approved: boolean; reason: string | null }> }) => [await ask("colour", "Which colour?", { of: "roof" }), await approve("paint", "Paint it?"), await approve("sell", "Sell it?")];
    sim.start(program).worker.idle();
    await sim.until(task.id, "waiting");
    const [question] = await sim.state.decisions.inbox();
    assert.deepEqual([question!.kind, question!.question, question!.details], ["question", "Which colour?", { of: "roof" }]);
    await sim.state.decisions.settle("d1", { answer: "blue", actor: "bob" });
    await sim.untilTrue(async () => (await sim.state.decisions.inbox()).some((d) => d.id === "d2"));
    await sim.state.decisions.settle("d2", { answer: "approve", actor: "bob" });
    await sim.untilTrue(async () => (await sim.state.decisions.inbox()).some((d) => d.id === "d3"));
    await sim.state.decisions.settle("d3", { answer: "deny", reason: "sentimental value", actor: "bob" });
    const done = await sim.until(task.id);
    assert.deepEqual(done.result, ["blue", { approved: true, reason: null }, { approved: false, reason: "sentimental value" }]);
    assert.equal(done.attempts, 1, "hazard 8: three waits are one attempt");
  });

  test(`${store.name}: hazard 6a: an answer that comes while another branch still runs is not lost, and done steps stay done`, async (t) => {
    const sim = await simulate(t, store);
    const task = await sim.state.tasks.add({ description: "x" });
    const busy = gate();
    const runs: string[] = [];
    sim.start(async (_, { step, ask }) => {
      await step("first", () => void runs.push("first"));
      const all = await Promise.all([ask("colour", "Which?"), step("busy", async () => (runs.push("busy"), await busy.promise, "done"))]);
      await step("last", () => void runs.push("last"));
      return all;
    });
    await sim.untilTrue(async () => (await sim.state.decisions.inbox()).length === 1);
    await sim.state.decisions.settle("d1", { answer: "blue", actor: "bob" });
    assert.equal((await sim.state.tasks.get(task.id)).status, "in_progress");
    busy.open();
    const done = await sim.until(task.id);
    assert.deepEqual(done.result, ["blue", "done"]);
    assert.deepEqual(runs, ["first", "busy", "last"]);
    assert.ok(!(await sim.events(task.id)).includes("parked"), "it went on at once");
  });
}

test("hazard 6a: an answer between the last settled branch and the parking keeps the task from sleeping", async (t) => {
  const parked: boolean[] = [];
  // The answer is given at every turn of the event loop around the parking; whichever comes first, the task ends.
  for (let turn = 0; turn < 14; turn++) {
    const sim = await simulate(t);
    const task = await sim.state.tasks.add({ description: "x" });
    const runs: string[] = [];
    sim.start(async (_, { step, ask }) => (await step("a", () => void runs.push("a")), ask("q", "?")));
    for (let i = 0; i < 500 && (await sim.state.decisions.inbox()).length === 0; i++) await turns(1);
    await turns(turn);
    await sim.state.decisions.settle("d1", { answer: `turn ${turn}`, actor: "bob" });
    const done = await sim.until(task.id);
    assert.equal(done.result, `turn ${turn}`);
    assert.deepEqual(runs, ["a"]);
    parked.push((await sim.events(task.id)).includes("parked"));
  }
  assert.deepEqual([...new Set(parked)].sort(), [false, true], "both orders were met");
});

test("hazard 6c: a task parks only when every branch is settled or waiting", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x" });
  const busy = gate();
  const runs: string[] = [];
  sim.start(async (_, { ask, scope }) =>
    Promise.all([ask("q", "?"), scope("other", async (s) => {
      for (const name of ["one", "two", "three"]) await s.step(name, async () => (runs.push(name), name === "two" ? busy.promise : undefined));
      await turns(2); // code between two steps
      await s.step("four", () => void runs.push("four"));
      return s.ask("r", "??");
    })]));
  await sim.clock.advance(5_000);
  assert.equal((await sim.state.tasks.get(task.id)).status, "in_progress", "one branch is in the middle of an effect");
  busy.open();
  const parked = await sim.until(task.id, "waiting");
  assert.deepEqual(runs, ["one", "two", "three", "four"]);
  assert.equal((parked.waiting_for as unknown[]).length, 2);
  await sim.state.decisions.settle("d2", { answer: "second", actor: "bob" });
  await sim.clock.advance(2_000);
  assert.equal((await sim.state.tasks.get(task.id)).status, "waiting", "woken by one, it waits for the other");
  await sim.state.decisions.settle("d1", { answer: "first", actor: "bob" });
  const done = await sim.until(task.id);
  assert.deepEqual(done.result, ["first", "second"]);
  assert.deepEqual(runs, ["one", "two", "three", "four"]);
  assert.equal(done.attempts, 1);
});

test("the first of several waits wakes the task; what it no longer waits for is withdrawn at its end", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x" });
  sim.start(async (_, { sleep, approve }) => Promise.race([approve("go", "Go?").then(() => "answered"), sleep("patience", 10_000).then(() => "too late")]));
  await sim.until(task.id, "waiting");
  const done = await sim.until(task.id);
  assert.equal(done.result, "too late");
  assert.deepEqual(await sim.state.decisions.inbox(), []);
  assert.equal((await sim.state.decisions.get("d1")).status, "withdrawn");
});

test("a decision is for exactly what was shown: other details or another question are asked anew", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x" });
  const pay = (eur: number, text = "Pay?") => async (_: unknown, { approve }: { approve: (n: string, q: string, d?: unknown) => Promise<{ approved: boolean }> }) => ((await approve("pay", text, { eur })).approved ? eur : "no");
  let one = sim.start(pay(5));
  await sim.until(task.id, "waiting");
  one.die();
  await sim.state.decisions.settle("d1", { answer: "approve", actor: "bob" });
  one = sim.start(pay(5000));
  await sim.untilTrue(async () => (await sim.state.decisions.inbox()).some((d) => d.id === "d2"));
  await sim.until(task.id, "waiting");
  one.die();
  await sim.state.decisions.settle("d2", { answer: "approve", actor: "bob" });
  one = sim.start(pay(5000, "Really pay?"));
  await sim.untilTrue(async () => (await sim.state.decisions.inbox()).some((d) => d.id === "d3"));
  await sim.state.decisions.settle("d3", { answer: "deny", actor: "bob" });
  assert.equal((await sim.until(task.id)).result, "no");
});

test("expired is not denied", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x" });
  const claim = (await sim.state.tasks.claim({ leaseMs: 1_000 }))!;
  const now = sim.clock.now();
  const ask = askAbout(claim.task, { key: "go" }, 1, { kind: "approval", question: "Go?", details: null, expires_at: new Date(now + 5_000).toISOString() }, "w", now);
  assert.ok((await sim.state.committer.commit(ask)).ok);
  sim.start(async (_, { approve }) => approve("go", "Go?"));
  await sim.until(task.id, "waiting");
  const done = await sim.until(task.id);
  assert.equal((await sim.state.decisions.get("d1")).status, "expired");
  assert.deepEqual(done.result, { approved: false, reason: "nobody answered in time" });
  await assert.rejects(sim.state.decisions.settle("d1", { answer: "approve", actor: "bob" }), { code: "illegal_transition", message: /was expired/ });
});

for (const [how, end] of [
  ["cancelled", (sim: Awaited<ReturnType<typeof simulate>>, id: number) => sim.state.tasks.cancel(id)],
  ["failed by a person", (sim: Awaited<ReturnType<typeof simulate>>, id: number) => sim.state.tasks.fail(id, "no")],
  ["completed by a person", (sim: Awaited<ReturnType<typeof simulate>>, id: number) => sim.state.tasks.complete(id, 1)],
  ["reset", (sim: Awaited<ReturnType<typeof simulate>>, id: number) => sim.state.tasks.reset(id)],
  ["removed", (sim: Awaited<ReturnType<typeof simulate>>, id: number) => sim.state.tasks.remove(id)],
  ["past its deadline", (sim: Awaited<ReturnType<typeof simulate>>, id: number) => sim.until(id)],
] as const) {
  test(`a task that is ${how} while waiting has its decisions and timers withdrawn`, async (t) => {
    const sim = await simulate(t);
    const task = await sim.state.tasks.add({ description: "x", deadline_at: how === "past its deadline" ? new Date(sim.clock.now() + 20_000).toISOString() : null });
    const one = sim.start(async (_, { ask, sleep }) => Promise.all([ask("q", "?"), sleep("long", HOUR)]));
    await sim.until(task.id, "waiting");
    if (how === "reset") one.die();
    await end(sim, task.id);
    assert.equal((await sim.state.decisions.get("d1")).status, "withdrawn");
    const waits = await sim.state.committer.store.list("wait", { equals: { task_id: task.id } });
    assert.deepEqual(waits.map((wait) => wait["status"]), ["withdrawn", "withdrawn"]);
    await assert.rejects(sim.state.decisions.settle("d1", { answer: "late", actor: "bob" }), { code: "illegal_transition" });
    if (how === "past its deadline") assert.deepEqual((await sim.state.tasks.get(task.id)).error, { code: "deadline", message: "deadline exceeded", permanent: true });
  });
}

test("code that waits lets go at once when the worker is stopped, and the wait goes on in the next", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x" });
  let cleaned = 0;
  const busy = gate();
  const first = sim.start(async (_, { step, ask, signal }) => Promise.all([ask("q", "?").finally(() => cleaned++), step("busy", () => Promise.race([busy.promise, new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))]))]));
  await sim.untilTrue(async () => (await sim.state.decisions.inbox()).length === 1);
  const from = sim.clock.monotonic();
  await sim.finish(first.worker.abort());
  assert.ok(sim.clock.monotonic() - from < 1_000, `it took ${sim.clock.monotonic() - from} ms to let go`);
  assert.equal(cleaned, 1);
  busy.open();
  sim.start(async (_, { step, ask }) => Promise.all([ask("q", "?"), step("busy", () => "ok")]));
  await sim.until(task.id, "waiting");
  await sim.state.decisions.settle("d1", { answer: "yes", actor: "bob" });
  const done = await sim.until(task.id);
  assert.deepEqual(done.result, ["yes", "ok"]);
  assert.deepEqual((await sim.state.decisions.inbox()).length, 0);
  assert.equal(done.attempts, 1);
});

test("a worker killed while a branch waits: the wait is taken up by the next, asked once", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x" });
  const first = sim.start(async (_, { step, ask }) => Promise.all([ask("q", "?"), step("busy", () => HANG)]));
  await sim.untilTrue(async () => (await sim.state.decisions.inbox()).length === 1);
  first.die();
  sim.start(async (_, { step, ask }) => Promise.all([ask("q", "?"), step("busy", async () => (await sleepFor(sim.clock, 10), "ok"))]));
  await sim.until(task.id, "waiting");
  assert.equal((await sim.state.decisions.inbox()).length, 1);
  await sim.state.decisions.settle("d1", { answer: "yes", actor: "bob" });
  assert.deepEqual((await sim.until(task.id)).result, ["yes", "ok"]);
});

test("sleep refuses what is no length of time", async (t) => {
  const sim = await simulate(t);
  const task = await sim.state.tasks.add({ description: "x" });
  const codes: unknown[] = [];
  sim.start(async (_, { sleep }) => { for (const ms of [-1, NaN, Infinity, "5" as unknown as number]) await sleep("s", ms).catch((error: { code: string }) => codes.push(error.code)); });
  assert.ok(ENDED.includes((await sim.until(task.id)).status));
  assert.deepEqual(codes, ["usage", "usage", "usage", "usage"]);
});

test("whoever ends a task while its code opens a wait decides again: no wait, no decision and no event is left with a task that is over", async (t) => {
  const opens: readonly [string, (context: TaskContext) => Promise<unknown>][] = [
    ["timer", ({ sleep }) => sleep("nap", HOUR)], ["decision", ({ ask }) => ask("q", "?")], ["event", ({ waitFor }) => waitFor("go")],
    ["child", async ({ spawn }) => (await spawn("one", { description: "child", queue: "nobody" })).result()], ["children", ({ all }) => all("many", [{ description: "child", queue: "nobody" }])],
  ];
  for (const [kind, open] of opens) {
    let met = 0;
    // The cancel begins at every turn of the event loop around the wait.
    for (let turn = 0; turn < 40; turn++) {
      const sim = await simulate(t);
      const task = await sim.state.tasks.add({ description: "x" });
      sim.start(async (_, context) => open(context));
      await turns(turn);
      await sim.state.tasks.cancel(task.id).catch(() => undefined);
      await sim.until(task.id);
      await sim.clock.advance(1_000);
      const waits = await sim.state.committer.store.list("wait", { equals: { task_id: task.id } });
      if (waits.length > 0) met++;
      assert.deepEqual(waits.filter((wait) => wait["status"] === "open"), [], `${kind}, turn ${turn}`);
      assert.deepEqual(await sim.state.decisions.inbox(), []);
      assert.equal((await sim.state.events.emit("go", 1)).status, "kept");
    }
    assert.ok(met > 0, `no cancel met the wait for ${kind}`);
  }
});

// What events promise: kept if early, each to one wait, oldest first, once for each key; also when emits and waits race in
// several processes and when any of them dies between any two writes.
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { LIMITS } from "../../src/base/limits.ts";
import { emit, take, type PawlEvent } from "../../src/core/event.ts";
import { emitEvent } from "../../src/core/events.ts";
import type { Wait } from "../../src/core/records.ts";
import type { State } from "../../src/state.ts";
import type { Put } from "../../src/store/store.ts";
import type { TaskContext } from "../../src/worker/context.ts";
import { LASTING, statePlace } from "../places.ts";
import { eventually } from "../pawl.ts";
import { mortalHome, simulate, turns, type Death } from "../simulation.ts";
import { ALL_STORES, MEMORY, STORES } from "../stores.ts";
import { NOW, sample } from "./samples.ts";

const channel = { name: "go", emitted: 3, waited: 2, kept: 1 };
const wait = { task_id: 1, round: 1, key: "w", kind: "event", status: "open", event: "go" } as Wait;
const by = { actor: "ann", now: NOW };
const puts = (change: { readonly puts: readonly Put[] }) => change.puts.map((put) => `${put.kind} ${String(("record" in put ? put.record : "set" in put ? put.set : {})["status"] ?? "")}`.trim());

/* ---------- the rules ---------- */

test("an emit that sees no wait keeps the event, guarded on no wait having come; one that sees a wait settles it", () => {
  const kept = emit({ name: "go", value: 1, key: null }, channel, null, by);
  assert.deepEqual([kept.guards, puts(kept)], [[{ kind: "channel", key: "go", is: { waited: 2 } }], ["event kept"]]);
  assert.deepEqual(kept.additions!.map(({ field, n }) => [field, n]), [["emitted", 1], ["kept", 1]]);
  const first = emit({ name: "go", value: 1, key: "k" }, null, null, by);
  assert.deepEqual(first.guards!.map((guard) => "absent" in guard && guard.kind), ["event", "channel"], "its key and its channel are new");
  const parked = emit({ name: "go", value: 1, key: null }, channel, { wait, task: sample("waiting") }, by);
  assert.deepEqual(puts(parked), ["event delivered", "wait settled", "task pending", "transition"]);
  assert.deepEqual(parked.guards!.map(({ kind }) => kind), ["wait", "task"]);
  const running = emit({ name: "go", value: 1, key: null }, channel, { wait, task: sample("in_progress") }, by);
  assert.deepEqual([puts(running), running.guards!.map(({ kind }) => kind)], [["event delivered", "wait settled"], ["wait", "task"]], "not parked yet: it must not be parked meanwhile either");
});

test("a wait that takes a kept event is settled from the first, under the fence", () => {
  const change = take(sample("in_progress"), "w", { id: 7, name: "go" } as PawlEvent, null, NOW);
  assert.deepEqual(change.guards!.map((guard) => "is" in guard && guard.is), [{ fence: 1 }, { status: "kept" }]);
  assert.deepEqual([puts(change), change.additions], [["event delivered", "wait settled"], [{ kind: "channel", key: "go", field: "kept", n: -1 }]]);
});

/* ---------- on every store ---------- */

for (const store of STORES) {
  test(`${store.name}: early events are kept, each goes to one wait, the oldest to the oldest`, async (t) => {
    const sim = await simulate(t, store);
    const { state } = sim;
    for (const n of [1, 2]) await state.events.emit("go", { n });
    const tasks = await state.tasks.addAll(Array.from({ length: 5 }, (_, i) => ({ description: `task ${i}` })));
    sim.start(async (_, { waitFor }) => (await waitFor<{ n: number }>("go")).value!.n, { concurrency: 1 });
    await sim.until(tasks[4]!.id, "waiting");
    for (const n of [3, 4, 5]) await state.events.emit("go", { n });
    for (const task of tasks) await sim.until(task.id);
    assert.deepEqual((await state.tasks.list()).map(({ result, attempts }) => [result, attempts]), [1, 2, 3, 4, 5].map((n) => [n, 1]));
    assert.deepEqual(await state.events.list(), []);
    assert.deepEqual((await state.events.list({ all: true, name: "go" })).map(({ id, status, task_id }) => [id, status, task_id]), tasks.map(({ id }, i) => [i + 1, "delivered", id]));
    assert.deepEqual(await sim.events(tasks[4]!.id), ["created", "claimed", "parked", "woken", "claimed", "completed"]);
  });

  test(`${store.name}: with its key an event is one event, before and after it was delivered; of another name it is another`, async (t) => {
    const sim = await simulate(t, store);
    const { state } = sim;
    const same = await Promise.all([1, 2, 3].map((n) => state.events.emit("paid", n, { key: "evt_1" })));
    assert.equal(new Set(same.map(({ id }) => id)).size, 1);
    const task = await state.tasks.add({ description: "x" });
    sim.start(async (_, { waitFor }) => [await waitFor("paid"), await waitFor("paid", { timeoutMs: 5_000 })]);
    await sim.until(task.id, "waiting");
    assert.equal((await state.events.emit("paid", 4, { key: "evt_1" })).status, "delivered");
    await state.events.emit("refunded", 5, { key: "evt_1" });
    const { result } = await sim.until(task.id);
    assert.deepEqual(result, [{ arrived: true, event_id: same[0]!.id, value: same[0]!.value }, { arrived: false }]);
    assert.deepEqual((await state.events.list()).map(({ name }) => name), ["refunded"]);
  });

  test(`${store.name}: a wait whose time is over says so, and the event that comes later is kept for the next`, async (t) => {
    const sim = await simulate(t, store);
    const { state } = sim;
    const task = await state.tasks.add({ description: "x" });
    sim.start(async (_, { waitFor }) => [await waitFor("go", { timeoutMs: 60_000 }), await waitFor("later", { event: "go" })]);
    await sim.until(task.id, "waiting");
    assert.match((await state.why(task.id)).summary, /^It waits for the event "go", or until /);
    assert.equal((await state.why(task.id)).next, "pawl event emit go --value …");
    await sim.clock.advance(59_000);
    assert.equal((await state.tasks.get(task.id)).status, "waiting", "not a moment early");
    await sim.untilTrue(async () => (await sim.events(task.id)).filter((event) => event === "parked").length === 2);
    await state.events.emit("go", "second");
    assert.deepEqual((await sim.until(task.id)).result, [{ arrived: false }, { arrived: true, event_id: 1, value: "second" }]);
  });
}

for (const store of ALL_STORES) {
  test(`${store.name}: a full name refuses more, says so, and taking one back makes room`, async (t) => {
    const state = await store.open(t);
    await state.events.emit("go", 1);
    await state.committer.commit({ puts: [{ kind: "channel", key: "go", set: { kept: LIMITS.keptEvents - 1 } }] });
    const last = await state.events.emit("go", 2);
    await assert.rejects(state.events.emit("go", 3), { code: "conflict", message: /10000 events "go" are kept already/, next: /pawl event list --name go/ });
    assert.equal((await state.events.drop(last.id)).status, "dropped");
    await assert.rejects(state.events.drop(last.id), { code: "illegal_transition", message: /was dropped already/ });
    assert.equal((await state.events.emit("go", 4)).status, "kept");
    assert.deepEqual((await state.events.list({ name: "go" })).map(({ value }) => value), [1, 4]);
    assert.deepEqual((await state.events.list({ name: "go", all: true })).map(({ value }) => value), [1, 2, 4]);
    assert.equal((await state.events.take("go"))!.value, 1);
    assert.equal(await state.events.take("nothing"), null);
    assert.deepEqual((await state.events.list({ name: "go", all: true, after: 2 })).map(({ value }) => value), [4]);
  });
}

test("a new round waits for an event of its own, unless the wait keeps the one it was given", async (t) => {
  const sim = await simulate(t, MEMORY);
  const task = await sim.state.tasks.add({ description: "x" });
  for (const n of [1, 2, 3]) await sim.state.events.emit("go", n);
  let judged = 0;
  sim.start(async (_, { waitFor }) => [(await waitFor("plain", { event: "go" })).value, (await waitFor("kept", { event: "go", keep: true })).value], { verify: () => ({ passed: ++judged === 2, feedback: "again" }) });
  assert.deepEqual((await sim.until(task.id)).result, [3, 2]);
});

test("an event that nobody reads any more is not waited for: the waits of an ended task are withdrawn", async (t) => {
  const sim = await simulate(t, MEMORY);
  const task = await sim.state.tasks.add({ description: "x" });
  sim.start(async (_, { waitFor, sleep }) => Promise.race([waitFor("go"), sleep("nap", 1_000)]));
  await sim.until(task.id);
  assert.equal((await sim.state.events.emit("go", 1)).status, "kept");
});

test("names, keys and time-outs that are none are refused", async (t) => {
  const sim = await simulate(t, MEMORY);
  for (const name of ["", " ", "x".repeat(LIMITS.nameChars + 1), 5 as unknown as string, "a\0b"]) {
    await assert.rejects(sim.state.events.emit(name, 1), (error: { code: string }) => ["usage", "value_refused"].includes(error.code), JSON.stringify(name).slice(0, 20));
    if (name !== " ") await assert.rejects(sim.state.events.emit("go", 1, { key: name }), (error: { code: string }) => ["usage", "value_refused"].includes(error.code));
  }
  await assert.rejects(sim.state.events.get(1), { code: "not_found" });
  const task = await sim.state.tasks.add({ description: "x" });
  sim.start(async (_, { waitFor }) => Promise.all([-1, NaN, Infinity].map((timeoutMs, i) => waitFor(`w${i}`, { timeoutMs }).catch((error: { code: string }) => error.code))));
  assert.deepEqual((await sim.until(task.id)).result, ["usage", "usage", "usage"]);
});

/* ---------- crashes and races ---------- */

/** A task that waits twice, and takes a step between, so that every write has a neighbour. */
const twice = async (_: unknown, { step, waitFor }: TaskContext) => {
  const first = (await waitFor<number>("first", { event: "go" })).value;
  await step("between", () => 1);
  return [first, (await waitFor<number>("second", { event: "go" })).value];
};

test("killed before or after any write, of the one who waits and of the one who emits, every event is delivered once and in order", async (t) => {
  const died = new Set<string>();
  const deaths: Death[] = [1, 2, 3, 4, 5, 6, 7, 8].flatMap((write) => [{ write, when: "before" }, { write, when: "after" }] as const);
  for (const death of deaths) {
    for (const who of ["waits", "emits"] as const) {
      const sim = await simulate(t);
      const task = await sim.state.tasks.add({ description: "x" });
      const worker = sim.start(twice, who === "waits" ? { death } : {});
      const emitter = mortalHome(sim.state, sim.clock, who === "emits" ? death : undefined);
      const emitting = async () => { for (const n of [1, 2]) await emitEvent(emitter.home.committer, "go", n, { key: `k${n}`, actor: "e" }); };
      const emitted = emitting();
      for (let i = 0; i < 40 && !(worker.dead || emitter.dead); i++) await sim.clock.advance(50);
      if (worker.dead || emitter.dead) died.add(`${who} ${death.when} ${death.write}`);
      else await emitted;
      // Whoever emits anew says the same keys; whoever works anew finds the task.
      for (const n of [1, 2]) await sim.state.events.emit("go", n, { key: `k${n}` });
      sim.start(twice);
      assert.deepEqual((await sim.until(task.id)).result, [1, 2], `${who} died ${death.when} write ${death.write}`);
      assert.deepEqual((await sim.state.events.list({ all: true })).map(({ status }) => status), ["delivered", "delivered"]);
    }
  }
  assert.ok(died.size >= 16, `only ${died.size} deaths: ${[...died].join(", ")}`);
});

test("emits and waits that meet at any moment match: no kept event stands beside an open wait, in whatever order they come", async (t) => {
  const runs = Number(process.env["PAWL_TEST_RUNS"] ?? 60);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.record({ emits: fc.boolean(), after: fc.integer({ min: 0, max: 6 }) }), { minLength: 2, maxLength: 14 }), async (plan) => {
      const sim = await simulate(t);
      const { state } = sim;
      const waits = plan.filter(({ emits }) => !emits).length;
      sim.start(async (_, { waitFor }) => (await waitFor("go")).value, { concurrency: 20 });
      const doing: Promise<unknown>[] = [];
      for (const [i, { emits, after }] of plan.entries()) {
        doing.push(emits ? state.events.emit("go", i) : state.tasks.add({ description: "x" }));
        await turns(after);
      }
      await Promise.all(doing);
      const matched = Math.min(waits, plan.length - waits);
      await sim.untilTrue(async () => (await state.tasks.count()).completed === matched && (await state.tasks.count()).waiting === waits - matched);
      const all = await state.events.list({ all: true });
      const given = all.filter(({ status }) => status === "delivered");
      assert.deepEqual(given.map(({ id }) => id), all.slice(0, matched).map(({ id }) => id), "the oldest first");
      assert.equal(new Set(given.map(({ task_id }) => task_id)).size, matched, "each to another");
      const [counted] = await state.committer.store.get("channel", ["go"]);
      assert.equal(counted?.["kept"] ?? 0, all.length - matched);
      for (let i = matched; i < waits; i++) await state.events.emit("go", "end");
      await sim.untilTrue(async () => (await state.tasks.count()).completed === waits);
    }),
    { numRuns: runs },
  );
});

for (const name of LASTING) {
  test(`${name}: emitters and workers in processes of their own, workers killed again and again: each event once`, { timeout: 60_000 }, async (t) => {
    const at = await statePlace(t, name);
    const state = await at.open();
    const [emitters, each] = [2, 30];
    const tasks = await state.tasks.addAll(Array.from({ length: emitters * each }, (_, i) => ({ description: `task ${i}`, max_attempts: 50 })));
    const children = new Set<ChildProcess>();
    const start = (...args: string[]) => {
      t.signal.throwIfAborted();
      const child = spawn(process.execPath, [join(import.meta.dirname, "event-child.ts"), at.url, ...args], { stdio: ["ignore", "pipe", "inherit"] });
      children.add(child);
      return child;
    };
    t.after(() => children.forEach((child) => child.kill("SIGKILL")));
    const emitting = Array.from({ length: emitters }, (_, i) => start("emit", String(i), String(each)));
    let worker = start("work");
    const steady = start("work");
    for (let kills = 0, ended = false; !ended; kills++) {
      await once(worker.stdout!, "data");
      const { completed } = await state.tasks.count();
      ended = completed === tasks.length || kills >= 3;
      if (ended) break;
      worker.kill("SIGKILL");
      worker = start("work");
    }
    await eventually(async () => (await state.tasks.count()).completed === tasks.length, "every task gets its event", 45_000);
    await requireEachOnce(state, emitters * each);
    const left = [...emitting, worker, steady].filter((child) => child.exitCode === null && child.signalCode === null);
    for (const child of left) child.kill("SIGKILL");
    await Promise.all(left.map((child) => once(child, "close")));
  });
}

async function requireEachOnce(state: State, total: number): Promise<void> {
  const all = await state.events.list({ all: true });
  assert.equal(all.length, total);
  assert.ok(all.every(({ status }) => status === "delivered"));
  assert.equal(new Set(all.map(({ task_id }) => task_id)).size, total);
  const results = (await state.tasks.list()).map(({ result }) => result as string);
  assert.deepEqual([...results].sort(), all.map(({ value }) => value as string).sort());
  // Of one name and one emitter they were kept, or waited for, in the order in which they came.
  const [counted] = await state.committer.store.get("channel", ["go"]);
  assert.equal(counted!["kept"], 0);
}

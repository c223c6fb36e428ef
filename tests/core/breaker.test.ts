// What a breaker promises: it opens at its limit and not before, nothing is lost or counted twice in a race, while it is open
// nothing comes through, half open exactly one task does, and all of it is so for every process that opens the state.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { isPawlError } from "../../src/base/errors.ts";
import { checkLimits, limitsText, parseBreaker, type Breaker, type BreakerLimits } from "../../src/core/breaker.ts";
import { claimDue } from "../../src/core/claim.ts";
import type { Task } from "../../src/core/records.ts";
import type { State } from "../../src/state.ts";
import { LASTING, statePlace } from "../places.ts";
import { eventually } from "../pawl.ts";
import { gate, simulate } from "../simulation.ts";
import { ALL_STORES, MEMORY, STORES } from "../stores.ts";

const QUEUE = "queue:default";
const add = (state: State, n: number, more: { readonly [field: string]: unknown } = {}) => state.tasks.addAll(Array.from({ length: n }, (_, i) => ({ description: `task ${i}`, max_attempts: 1, ...more })));
const claim = (state: State, limit = 1, queue = "default"): Promise<Task[]> =>
  claimDue(state.committer, { lanes: [{ queue, batch_id: null }], verifier: null, limit, worker: `c-test-${Math.floor(Math.random() * 1e9)}`, leaseMs: 60_000 });
const tokenOf = (task: Task) => ({ token: { id: task.id, fence: task.fence, worker: task.worker! } });
const fail = (state: State, task: Task, reason = "no") => state.tasks.fail(task.id, reason, tokenOf(task));
const complete = (state: State, task: Task, result: unknown = "OK") => state.tasks.complete(task.id, result, tokenOf(task));

/* ---------- limits as people write them ---------- */

test("limits are read, and written as they are read", () => {
  assert.deepEqual(parseBreaker("failures=5,cooldown=1m"), { failures: 5, cooldown_ms: 60_000 });
  assert.deepEqual(parseBreaker(" iterations=100, time=2h ,tokens=1000000,cost=0.5"), { iterations: 100, wall_ms: 7_200_000, tokens: 1_000_000, cost: 0.5 });
  const positive = fc.integer({ min: 1, max: 1_000_000_000 });
  const limits = fc.record({ failures: positive, iterations: positive, wall_ms: positive, tokens: positive, cost: positive.map((n) => n / 100), cooldown_ms: positive }, { requiredKeys: ["failures"] });
  fc.assert(fc.property(limits, (some) => assert.deepEqual(parseBreaker(limitsText(some)), { ...some })));
});

const BAD = ["", "failures", "failures=", "failures=0", "failures=-1", "failures=1.5", "failures=x", "failures=5,failures=6", "cooldown=1m", "time=0", "time=tomorrow", "cost=0", "cost=-1", "cost=1e9", "tokens=ten", "speed=3", "failures=5;cooldown=1m", "constructor=1", "failures=1=2,", `tokens=${"9".repeat(30)}`];

test("what is no limit is refused, with how to write one", () => {
  for (const text of BAD) assert.throws(() => parseBreaker(text), (error) => isPawlError(error, "usage") && error.next.length > 0, text);
  for (const limits of [{}, { cooldown_ms: 5 }, { failures: 0 }, { failures: NaN }, { cost: Infinity }, { tokens: 1.5 }, { fails: 3 }, { failures: "5" }]) assert.throws(() => checkLimits(limits as BreakerLimits), (error) => isPawlError(error, "usage"), JSON.stringify(limits));
});

/* ---------- on every store ---------- */

for (const store of STORES) {
  test(`${store.name}: opens after failures in a row, lets one task try after its cool-down, closes on its success`, async (t) => {
    const { state, clock } = await simulate(t, store);
    await state.breakers.set(QUEUE, { failures: 3, cooldown_ms: 60_000 });
    await add(state, 20);
    for (const end of [fail, fail, complete, fail, fail]) await end(state, (await claim(state))[0]!);
    assert.deepEqual(pick(await state.breakers.get(QUEUE)), ["closed", 2], "a success between them begins the count anew");
    const [running] = await claim(state);
    await fail(state, (await claim(state))[0]!, "no route to host");
    const open = await state.breakers.get(QUEUE);
    assert.match(open.reason!, /^3 failures in a row, the last of task 7: no route to host$/);
    assert.equal(open.status, "open");
    assert.deepEqual(await claim(state, 5), []);
    await complete(state, running!);
    assert.equal((await state.breakers.get(QUEUE)).status, "open", "what had begun before it opened may end, and says nothing");

    await clock.advance(59_000);
    assert.deepEqual(await claim(state, 5), []);
    await clock.advance(1_000);
    const probes = await claim(state, 5);
    assert.equal(probes.length, 1);
    assert.deepEqual(await claim(state, 5), [], "one probe at a time");
    await fail(state, probes[0]!);
    assert.equal(Date.parse((await state.breakers.get(QUEUE)).retry_at!) - clock.now(), 120_000, "a failed probe doubles the cool-down");
    await clock.advance(120_000);
    const [probe] = await claim(state);
    await complete(state, probe!);
    assert.deepEqual(pick(await state.breakers.get(QUEUE)), ["closed", 0]);
    assert.equal((await claim(state, 5)).length, 5);
    assert.deepEqual((await state.breakers.get(QUEUE)).log.map(({ status }) => status), ["open", "half_open", "open", "half_open", "closed"]);
  });

  test(`${store.name}: equal short answers trip nothing; the same failure again and again does`, async (t) => {
    const { state, clock } = await simulate(t, store);
    await state.breakers.set(QUEUE, { failures: 3 });
    await add(state, 10);
    for (let i = 0; i < 10; i++) await complete(state, (await claim(state))[0]!, "OK");
    assert.equal((await state.breakers.get(QUEUE)).status, "closed");
    await add(state, 1, { max_attempts: 5 });
    for (let i = 0; i < 3; i++) {
      const { task, token } = (await state.tasks.claim())!;
      await state.tasks.fail(task.id, "the same", { token, permanent: false });
      await clock.advance(10_000);
    }
    assert.equal((await state.breakers.get(QUEUE)).status, "open");
  });

}

for (const store of ALL_STORES) {
  test(`${store.name}: one queue's breaker leaves the others alone; a batch is held by its own and by its queue's`, async (t) => {
    const state = await store.open(t);
    await state.breakers.open("queue:mail", { reason: "moving" });
    await state.tasks.add({ description: "mail", queue: "mail" });
    await state.tasks.add({ description: "other" });
    const batch = await state.batches.create(["in a batch"], { queue: "mail" });
    assert.deepEqual(await claim(state, 5, "mail"), []);
    assert.equal((await claim(state, 5)).length, 1);
    const inBatch = () => state.tasks.claim({ queue: "mail", batch: batch.id });
    assert.equal(await inBatch(), null);
    await state.breakers.reset("queue:mail");
    await state.breakers.open(`batch:${batch.id}`);
    assert.equal(await inBatch(), null);
    await state.breakers.reset(`batch:${batch.id}`);
    assert.equal((await inBatch())?.task.batch_id, batch.id);
    await assert.rejects(state.breakers.open("batch:nope"), (error) => isPawlError(error, "not_found"));
    await assert.rejects(state.breakers.open("mail"), (error) => isPawlError(error, "usage"));
    await assert.rejects(state.breakers.reset("queue:nope"), (error) => isPawlError(error, "not_found"));
  });
}

const pick = ({ status, failures }: Breaker) => [status, failures];

/* ---------- totals ---------- */

test("tokens and cost are counted with the end, exactly, and what is used up stays so until a person resets it", async (t) => {
  const { state, clock, start, untilTrue } = await simulate(t);
  await add(state, 10);
  const { die } = start((_, { spend }) => (spend({ tokens: 300, cost: 0.1 }), spend({ tokens: 100 })), { breaker: { tokens: 1_000 }, concurrency: 1 });
  await untilTrue(async () => (await state.breakers.list())[0]?.status === "open");
  const [breaker] = await state.breakers.list();
  assert.deepEqual([breaker!.tokens, Math.round(breaker!.cost * 100), breaker!.reason, breaker!.retry_at], [1_200, 30, "1200 of 1000 tokens are used up", null]);
  die();
  await clock.advance(86_400_000);
  assert.deepEqual(await claim(state), []);
  await state.breakers.reset(QUEUE);
  assert.deepEqual([(await state.breakers.get(QUEUE)).tokens, (await claim(state)).length], [0, 1]);
});

test("iterations are counted at the claim: never one more, whoever claims", async (t) => {
  const { state } = await simulate(t);
  await state.breakers.set(QUEUE, { iterations: 5 });
  await add(state, 20);
  const claimed = (await Promise.all(Array.from({ length: 6 }, () => claim(state, 2)))).flat();
  assert.equal(claimed.length, 5);
  assert.deepEqual(await claim(state), []);
  assert.equal((await state.breakers.get(QUEUE)).reason, "5 of 5 iterations are used up");
  await state.breakers.set(QUEUE, { iterations: 7 });
  assert.deepEqual(await claim(state), [], "a new limit does not close it");
  await state.breakers.reset(QUEUE);
  assert.equal((await claim(state, 20)).length, 7);
});

test("time runs from the first claim; a breaker is not opened while nothing is due", async (t) => {
  const { state, clock } = await simulate(t);
  await state.breakers.set(QUEUE, { wall_ms: 60_000 });
  await clock.advance(600_000);
  await add(state, 2);
  await complete(state, (await claim(state))[0]!);
  await complete(state, (await claim(state))[0]!);
  await clock.advance(61_000);
  assert.deepEqual(await claim(state), []);
  assert.equal((await state.breakers.get(QUEUE)).status, "closed");
  const [late] = await add(state, 1);
  assert.deepEqual(await claim(state), []);
  assert.equal((await state.breakers.get(QUEUE)).status, "open");
  assert.match((await state.why(late!.id)).summary, /held back.*it has been running for 1 m 1 s of 1 m/);
});

test("a rejected result is a failure; a usage limit, a wait, a drain and a lost worker are none", async (t) => {
  const { state, clock, start, untilTrue } = await simulate(t);
  await state.breakers.set(QUEUE, { failures: 2 });
  await state.tasks.add({ description: "waits" });
  const waits = start((_, { ask }) => ask("q", "well?"));
  await untilTrue(async () => (await state.tasks.get(1)).status === "waiting");
  await waits.worker.stop();
  await state.tasks.add({ description: "hangs", max_attempts: 9 });
  for (let i = 0; i < 3; i++) {
    const lost = start(() => new Promise(() => undefined));
    await untilTrue(() => lost.worker.active.length === 1);
    lost.die();
    await clock.advance(10_000);
  }
  assert.deepEqual(pick(await state.breakers.get(QUEUE)), ["closed", 0]);
  await state.tasks.cancel(2);
  await state.tasks.add({ description: "is rejected", max_attempts: 9 });
  start(() => "poor", { verify: () => ({ passed: false, feedback: "poor" }) });
  await untilTrue(async () => (await state.breakers.get(QUEUE)).status !== "closed");
  assert.match((await state.breakers.get(QUEUE)).log[0]!.reason, /2 failures in a row, the last of task 3: poor/);
});

test("a batch's own count of tokens counts too", async (t) => {
  const state = await MEMORY.open(t);
  const batch = await state.batches.create(["a", "b"]);
  await state.breakers.set(`batch:${batch.id}`, { tokens: 100 });
  await Promise.all(Array.from({ length: 10 }, () => batch.recordTokens(9)));
  assert.deepEqual(pick(await state.breakers.get(`batch:${batch.id}`)), ["closed", 0]);
  await batch.recordTokens(10);
  const breaker = await state.breakers.get(`batch:${batch.id}`);
  assert.deepEqual([breaker.status, breaker.tokens, (await state.batches.get(batch.id)).tokens], ["open", 100, 100]);
});

/* ---------- probes ---------- */

test("a probe whose worker dies, or that waits or is given back, makes room for the next", async (t) => {
  const { state, clock, start, untilTrue } = await simulate(t);
  await add(state, 5, { max_attempts: 9 });
  await state.breakers.set(QUEUE, { failures: 1, cooldown_ms: 1_000 });
  await fail(state, (await claim(state))[0]!);
  await clock.advance(1_000);
  const hangs = start(() => new Promise(() => undefined));
  await untilTrue(() => hangs.worker.active.length === 1);
  hangs.die();
  assert.deepEqual(await claim(state), []);
  const waits = start((_, { ask }) => ask("q", "well?"));
  await untilTrue(async () => (await state.tasks.list({ status: "waiting" })).length === 4);
  assert.equal((await state.breakers.get(QUEUE)).status, "half_open", "waiting says nothing");
  await waits.worker.stop();
  await add(state, 2);
  const [probe] = await claim(state);
  await state.tasks.release(probe!.id, tokenOf(probe!));
  const [next] = await claim(state);
  assert.equal(next!.id, probe!.id);
  await complete(state, next!);
  assert.equal((await state.breakers.get(QUEUE)).status, "closed");
});

/* ---------- races ---------- */

for (const name of LASTING) {
  test(`${name}: ends that race over several handles are counted exactly, and open it exactly at the limit`, async (t) => {
    const at = await statePlace(t, name);
    const states = [await at.open(), await at.open()];
    await states[0]!.breakers.set(QUEUE, { failures: 30, tokens: 1_000_000, cooldown_ms: 1 });
    await add(states[0]!, 60);
    const tasks = await claim(states[0]!, 60);
    await Promise.all(tasks.slice(0, 29).map((task, i) => fail(states[i % 2]!, task)));
    assert.deepEqual(pick(await states[1]!.breakers.get(QUEUE)), ["closed", 29]);
    await Promise.all(tasks.slice(29).map((task, i) => fail(states[i % 2]!, task)));
    const open = await states[0]!.breakers.get(QUEUE);
    assert.deepEqual(pick(open), ["open", 30]);
    assert.equal(open.log.length, 1, "opened once");
  });

  test(`${name}: workers of two handles never both take the probe`, async (t) => {
    const at = await statePlace(t, name);
    const states = [await at.open(), await at.open()];
    await add(states[0]!, 40);
    await states[0]!.breakers.set(QUEUE, { failures: 1, cooldown_ms: 1 });
    await fail(states[0]!, (await claim(states[0]!))[0]!);
    for (let i = 0; i < 5; i++) {
      await eventually(async () => (await states[0]!.breakers.get(QUEUE)).retry_at! < new Date(states[0]!.committer.store.clock.now()).toISOString(), "the cool-down passes");
      const claimed = (await Promise.all(Array.from({ length: 8 }, (_, k) => claim(states[k % 2]!, 3)))).flat();
      assert.equal(claimed.length, 1);
      await fail(states[i % 2]!, claimed[0]!);
    }
  });

  test(`${name}: two processes work through it and are killed; what is held back stays held back`, async (t) => {
    const at = await statePlace(t, name);
    const state = await at.open();
    await add(state, 100);
    await state.breakers.set(QUEUE, { iterations: 40, failures: 1_000, tokens: 1_000_000 });
    const children = Array.from({ length: 2 }, () => spawn(process.execPath, [join(import.meta.dirname, "breaker-child.ts"), at.url], { stdio: ["ignore", "pipe", "inherit"] }));
    t.after(() => children.forEach((child) => child.kill("SIGKILL")));
    await eventually(async () => (await state.tasks.count()).completed >= 5, "they have begun", 30_000);
    children[0]!.kill("SIGKILL");
    await eventually(async () => (await state.breakers.get(QUEUE)).status === "open", "it opens", 30_000);
    const exits = children.map((child) => new Promise((resolve) => (child.exitCode === null && child.signalCode === null ? child.on("exit", resolve) : resolve(null))));
    children.forEach((child) => child.kill("SIGKILL"));
    await Promise.all(exits);
    await state.close();
    const again = await at.open();
    const breaker = await again.breakers.get(QUEUE);
    const attempts = (await again.tasks.all()).reduce((sum, task) => sum + task.attempts, 0);
    assert.deepEqual([breaker.status, breaker.iterations, breaker.reason], ["open", 40, "40 of 40 iterations are used up"]);
    assert.equal(attempts, 40, "every execution was counted, those that were killed too");
    assert.equal(breaker.tokens, (await again.tasks.count()).completed * 7, "each end was counted with it, once");
    const worker = again.work({ execute: () => "must not run" });
    await worker.idle();
    assert.equal((await again.tasks.all()).reduce((sum, task) => sum + task.attempts, 0), 40);
  });
}

test("any order of ends: closed means below the limit, and what was used is counted once", async (t) => {
  const runs = Number(process.env["PAWL_BREAKER_RUNS"] ?? 30);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.record({ ok: fc.boolean(), tokens: fc.integer({ min: 0, max: 50 }) }), { minLength: 1, maxLength: 25 }), fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 8 }), async (ends, failures, concurrency) => {
      const state = await MEMORY.open({ after: () => undefined } as never);
      await state.breakers.set(QUEUE, { failures, cooldown_ms: 1 });
      await add(state, ends.length);
      const seen: string[] = [];
      const worker = state.work({
        concurrency,
        execute: async (task, { spend }) => {
          const end = ends[task.id - 1]!;
          spend({ tokens: end.tokens });
          await new Promise((resolve) => setImmediate(resolve));
          if (!end.ok) throw new Error("no");
        },
        onEnd: async () => seen.push(...(await state.breakers.list()).filter((b) => b.status === "closed" && b.failures >= failures).map((b) => b.id)),
      });
      const over = gate();
      const look = state.watch(() => void state.tasks.count().then((counts) => counts.completed + counts.failed === ends.length && over.open()));
      await over.promise;
      look();
      await worker.stop();
      const breaker = await state.breakers.get(QUEUE);
      assert.deepEqual(seen, []);
      assert.equal(breaker.tokens, ends.reduce((sum, end) => sum + end.tokens, 0));
      await state.close();
    }),
    { numRuns: runs },
  );
  assert.ok(t);
});

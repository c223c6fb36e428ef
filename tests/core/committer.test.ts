// Group commit: a hundred callers share one flush and each gets its own answer, in the order it asked; what one caller did
// wrong is its own; and `settle` decides again when somebody came between.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { isPawlError, PawlError } from "../../src/base/errors.ts";
import { LIMITS } from "../../src/base/limits.ts";
import { Committer, commitOrThrow, listAll, settle } from "../../src/core/committer.ts";
import type { Task } from "../../src/core/records.ts";
import { cancel, move } from "../../src/core/task.ts";
import type { State } from "../../src/state.ts";
import type { Change, Put, Store } from "../../src/store/store.ts";
import { gate, turns } from "../simulation.ts";
import { MEMORY, STORES } from "../stores.ts";

const meta = (name: string, value: string | number): Put => ({ kind: "meta", record: { name, value } });

/** The state's store, counting flushes; `hold` keeps the next ones waiting. */
async function counted(t: TestContext): Promise<{ state: State; committer: Committer; flushes: number[]; hold: { until: Promise<void> | null; fail: Error | null } }> {
  const state = await MEMORY.open(t);
  const { store } = state.committer;
  const flushes: number[] = [];
  const hold: { until: Promise<void> | null; fail: Error | null } = { until: null, fail: null };
  const counting: Store = Object.create(store) as Store;
  Object.assign(counting, {
    get: store.get.bind(store), list: store.list.bind(store),
    commit: async (changes: readonly Change[]) => {
      flushes.push(changes.length);
      await hold.until;
      if (hold.fail) throw hold.fail;
      return store.commit(changes);
    },
  });
  return { state, committer: new Committer(counting), flushes, hold };
}

test("a hundred callers share one flush", async (t) => {
  const { committer, flushes } = await counted(t);
  const results = await Promise.all(Array.from({ length: 100 }, (_, i) => committer.commit({ puts: [meta(`m${i}`, i)] })));
  assert.deepEqual(flushes, [100]);
  assert.ok(results.every((result) => result.ok));
});

test("what comes during a flush goes into the next, together; one flush at a time", async (t) => {
  const { committer, flushes, hold } = await counted(t);
  const slow = gate();
  hold.until = slow.promise;
  const first = committer.commit({ puts: [meta("a", 1)] });
  await turns(3);
  const later = Array.from({ length: 40 }, (_, i) => committer.commit({ puts: [meta(`b${i}`, i)] }));
  await turns(3);
  assert.deepEqual(flushes, [1]);
  slow.open();
  await Promise.all([first, ...later]);
  assert.deepEqual(flushes, [1, 40]);
});

test("a flush holds no more than its limit", async (t) => {
  const { committer, flushes } = await counted(t);
  await Promise.all(Array.from({ length: LIMITS.flushChanges * 2 + 1 }, (_, i) => committer.commit({ puts: [meta(`m${i}`, i)] })));
  assert.deepEqual(flushes, [LIMITS.flushChanges, LIMITS.flushChanges, 1]);
});

test("a caller's changes are applied in the order it made them, and a later one sees the earlier", async (t) => {
  const { committer } = await counted(t);
  const results = await Promise.all([
    committer.commit({ guards: [{ kind: "meta", key: "a", absent: true }], puts: [meta("a", 1)] }),
    committer.commit({ guards: [{ kind: "meta", key: "a", absent: true }], puts: [meta("a", 2)] }),
    committer.commit({ puts: [{ kind: "meta", key: "a", set: { value: 3 } }] }),
  ]);
  assert.deepEqual(results.map(({ ok }) => ok), [true, false, true]);
  assert.equal((await committer.store.get("meta", ["a"]))[0]!["value"], 3);
});

test("a change with data no store can hold fails alone, as a value", async (t) => {
  const { committer, flushes } = await counted(t);
  const results = await Promise.all([committer.commit({ puts: [meta("a", 1)] }), committer.commit({ puts: [meta("b", "nul \0")] }), committer.commit({ puts: [meta("c", 1)] })]);
  assert.deepEqual(flushes, [3]);
  assert.deepEqual(results.map(({ ok }) => ok), [true, false, true]);
  assert.ok(!results[1]!.ok && "error" in results[1]! && isPawlError(results[1].error, "value_refused"));
});

test("broken storage rejects every caller of the flush, and the next flush may succeed", async (t) => {
  const { committer, hold } = await counted(t);
  hold.fail = new PawlError("storage", "disk full");
  const results = await Promise.allSettled([1, 2, 3].map((i) => committer.commit({ puts: [meta(`m${i}`, i)] })));
  assert.ok(results.every((result) => result.status === "rejected" && isPawlError(result.reason, "storage")));
  hold.fail = null;
  assert.ok((await committer.commit({ puts: [meta("a", 1)] })).ok);
});

test("the event loop gets its turn before each flush, however busy the callers are", async (t) => {
  const { committer, flushes } = await counted(t);
  let ticks = 0;
  let over = false;
  const tick = () => { ticks++; if (!over) setImmediate(tick); };
  tick();
  await Promise.all(Array.from({ length: 10 }, async (_, caller) => { for (let i = 0; i < 50; i++) await committer.commit({ puts: [meta(`m${caller}`, i)] }); }));
  over = true;
  assert.ok(ticks >= flushes.length - 1, `${ticks} turns in ${flushes.length} flushes`);
  assert.ok(flushes.length >= 50 && flushes.length < 100, `${flushes.length} flushes for 500 changes of 10 callers`);
});

test("drain waits for everything queued", async (t) => {
  const { committer } = await counted(t);
  await committer.drain();
  let done = 0;
  for (let i = 0; i < LIMITS.flushChanges + 1; i++) void committer.commit({ puts: [meta(`m${i}`, i)] }).then(() => done++);
  await committer.drain();
  assert.equal(done, LIMITS.flushChanges + 1);
});

test("a claim shares the flush of the changes around it and sees those before it", async (t) => {
  const { state, committer, flushes } = await counted(t);
  const task = await state.tasks.add({ description: "x" });
  const seen: number[] = [];
  await Promise.all([
    committer.commit({ puts: [{ kind: "task", key: task.id, set: { priority: 1 } }] }),
    committer.claim({ kind: "task", queries: [{ equals: { id: task.id } }], order: [], limit: 1 }, (records) => (seen.push(records[0]!["priority"] as number), null)),
  ]);
  assert.deepEqual([flushes, seen], [[2], [1]]);
});

const rename = (by: { fence?: number } = {}) => (task: Task, now: number) => move(task, { actor: "a", now, ...by }, { event: "edited", set: { description: `${task.description}!` } });

for (const store of STORES) {
  test(`${store.name}: settle decides again on what others wrote in between: a hundred concurrent edits are a hundred edits`, async (t) => {
    const state = await store.open(t);
    const task = await state.tasks.add({ description: "x" });
    await Promise.all(Array.from({ length: 50 }, () => settle(state.committer, task, rename())));
    const after = await state.tasks.get(task.id);
    assert.deepEqual([after.description, after.revision], [`x${"!".repeat(50)}`, 51]);
    assert.equal(await state.history.verify(task.id), null);
  });
}

test("settle: only another fence, or no owner at all, means that the lease is lost", async (t) => {
  const state = await MEMORY.open(t);
  await state.tasks.add({ description: "x" });
  const { task } = (await state.tasks.claim())!;
  await state.tasks.edit(task.id, { priority: 1 });
  const done = await settle(state.committer, task, rename({ fence: task.fence }), { fence: task.fence });
  assert.deepEqual([done.description, done.priority], ["x!", 1]);
  await settle(state.committer, done, (t2, now) => cancel(t2, { actor: "b", now }, null, []));
  await assert.rejects(settle(state.committer, done, rename({ fence: task.fence }), { fence: task.fence }), { code: "lease_lost", message: /it is cancelled now/ });
  await state.tasks.remove(task.id);
  await assert.rejects(settle(state.committer, done, rename({ fence: task.fence }), { fence: task.fence }), { code: "lease_lost", message: /removed/ });
  await assert.rejects(settle(state.committer, done, rename()), { code: "not_found" });
});

test("settle gives up when it can never come through, and passes conflicts on other records on", async (t) => {
  const state = await MEMORY.open(t);
  const task = await state.tasks.add({ description: "x" });
  let tries = 0;
  const always = settle(state.committer, task, async (current, now) => { tries++; await settle(state.committer, current, rename()); return rename()(current, now); });
  await assert.rejects(always, { code: "conflict", message: /changes faster/ });
  assert.equal(tries, 100);
  const other = (current: Task, now: number) => move(current, { actor: "a", now }, { event: "edited", set: {}, guards: [{ kind: "meta", key: "lock", is: { value: 1 } }] });
  const current = await state.tasks.get(task.id);
  await assert.rejects(settle(state.committer, current, other), { code: "conflict", message: /changed a meta/ });
  await assert.rejects(settle(state.committer, current, other, { onConflict: (conflict) => new PawlError("busy", conflict.kind) }), { code: "busy" });
});

test("commitOrThrow makes an error of a conflict and throws refused data", async (t) => {
  const { committer } = await counted(t);
  assert.ok((await commitOrThrow(committer, { puts: [meta("a", 1)] }, () => new Error("no"))).ok);
  await assert.rejects(commitOrThrow(committer, { guards: [{ kind: "meta", key: "a", absent: true }], puts: [] }, ({ record }) => new Error(`taken by ${record!["value"]}`)), /taken by 1/);
  await assert.rejects(commitOrThrow(committer, { puts: [meta("b", "\0")] }, () => new Error("no")), { code: "value_refused" });
});

test("listAll reads past one page", async (t) => {
  const { committer } = await counted(t);
  const n = LIMITS.listRecords + 3;
  await committer.commit({ puts: Array.from({ length: n }, (_, i) => meta(`m${i}`, i)) });
  const all = await listAll(committer, "meta", {});
  assert.equal(new Set(all.map((one) => one["name"])).size, n);
});

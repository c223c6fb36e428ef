// Dependencies: a task is ready exactly while all it depends on is completed, whoever came first, whatever came between and
// whoever died in the middle. Interleavings are forced: a hook runs inside the reading or before the writing of another.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { blockersOf } from "../../src/core/dependency.ts";
import { sweep } from "../../src/core/sweep.ts";
import { parseToken } from "../../src/core/token.ts";
import type { State } from "../../src/state.ts";
import { simulate } from "../simulation.ts";
import { MEMORY, STORES } from "../stores.ts";
import { NO_EVIDENCE } from "./samples.ts";

/** Runs `hook` once, after the next call of `get` or `list` that reads what `when` says has answered. */
function afterReading(state: State, when: (kind: string, keys: readonly unknown[]) => boolean, hook: () => Promise<unknown>): void {
  const { store } = state.committer;
  const get = store.get.bind(store);
  store.get = async (kind, keys) => {
    const found = await get(kind, keys);
    if (when(kind, keys)) {
      store.get = get;
      await hook();
    }
    return found;
  };
}

/** Runs `hook` once, when the next change is about to be flushed. */
function beforeWriting(state: State, hook: () => Promise<unknown>): void {
  const { store } = state.committer;
  const commit = store.commit.bind(store);
  store.commit = async (changes) => {
    store.commit = commit;
    await hookOn(state, hook);
    return commit(changes);
  };
}

/** The hook's own writes must not wait for the flush it runs in. */
async function hookOn(state: State, hook: () => Promise<unknown>): Promise<void> {
  const busy = state.committer;
  const { Committer } = await import("../../src/core/committer.ts");
  Object.defineProperty(state, "committer", { value: new Committer(busy.store), configurable: true, writable: true });
  try {
    await hook();
  } finally {
    Object.defineProperty(state, "committer", { value: busy, configurable: true, writable: true });
  }
}

const ready = async (state: State, id: number) => (await state.tasks.get(id)).ready;

for (const store of STORES) {
  test(`${store.name}: a task behind fifty starts when the last of them is completed, however they end together`, async (t) => {
    const state = await store.open(t);
    const fifty = await state.tasks.addAll(Array.from({ length: 50 }, (_, i) => ({ description: `t${i}` })));
    const last = await state.tasks.add({ description: "last", depends_on: fifty.map(({ id }) => id) });
    assert.equal(last.ready, false);
    await Promise.all(fifty.slice(1).map(({ id }) => state.tasks.complete(id, id)));
    assert.equal(await ready(state, last.id), false);
    await state.tasks.complete(fifty[0]!.id, 1);
    assert.equal(await ready(state, last.id), true);
    const events = (await state.history.of(last.id)).map(({ event }) => event);
    assert.deepEqual(events, ["created", "unblocked"]);
  });

  test(`${store.name}: reset and reopen of a dependency block what waits for it again, and completing it frees that`, async (t) => {
    const state = await store.open(t);
    const a = await state.tasks.add({ description: "a" });
    const b = await state.tasks.add({ description: "b", depends_on: [a.id] });
    for (const undo of [() => state.tasks.reset(a.id), () => state.tasks.reopen(a.id, "again")]) {
      await state.tasks.complete(a.id, 1);
      assert.equal(await ready(state, b.id), true);
      await undo();
      assert.equal(await ready(state, b.id), false);
    }
    assert.deepEqual((await state.history.of(b.id)).map(({ event }) => event), ["created", "unblocked", "blocked", "unblocked", "blocked"]);
  });
}

test("workers run a chain in order, each after the one it depends on", async (t) => {
  const sim = await simulate(t);
  const order: number[] = [];
  let before: number[] = [];
  for (let i = 0; i < 5; i++) before = [(await sim.state.tasks.add({ description: `t${i}`, depends_on: before, priority: 5 - i })).id];
  await sim.finish(sim.start(({ id }) => order.push(id), { concurrency: 5 }).worker.idle());
  assert.deepEqual(order, [1, 2, 3, 4, 5]);
});

test("a failed or cancelled dependency blocks; it is named, and retrying it revives what waits", async (t) => {
  const state = await MEMORY.open(t);
  const [a, b, c, d] = await state.tasks.addAll([{ description: "a" }, { description: "b" }, { description: "c" }, { description: "d" }]);
  const task = await state.tasks.add({ description: "x", depends_on: [a!.id, b!.id, c!.id, d!.id] });
  await state.tasks.fail(a!.id, "no");
  await state.tasks.cancel(b!.id);
  await state.tasks.complete(c!.id, 1);
  assert.deepEqual(await blockersOf(state.committer, task), [{ id: a!.id, status: "failed" }, { id: b!.id, status: "cancelled" }, { id: d!.id, status: "pending" }]);
  await state.tasks.retry(a!.id);
  await state.tasks.reopen(b!.id, "after all");
  for (const one of [a!, b!, d!]) await state.tasks.complete(one.id, 1);
  assert.equal(await ready(state, task.id), true);
  assert.deepEqual(await blockersOf(state.committer, task), []);
});

test("what does not exist, or no longer does, cannot be depended on", async (t) => {
  const state = await MEMORY.open(t);
  const [a, b] = await state.tasks.addAll([{ description: "a" }, { description: "b" }]);
  await state.tasks.remove(a!.id);
  const count = (await state.tasks.list()).length;
  await assert.rejects(state.tasks.add({ description: "x", depends_on: [a!.id] }), { code: "not_found", message: /Task 1, named in depends_on/ });
  await assert.rejects(state.tasks.addAll([{ description: "y" }, { description: "x", depends_on: [99] }]), { code: "not_found" });
  await assert.rejects(state.tasks.edit(b!.id, { depends_on: [99] }), { code: "not_found" });
  assert.equal((await state.tasks.list()).length, count, "nothing was added");
});

test("a task others depend on is not removed", async (t) => {
  const state = await MEMORY.open(t);
  const a = await state.tasks.add({ description: "a" });
  const b = await state.tasks.add({ description: "b", depends_on: [a.id] });
  await assert.rejects(state.tasks.remove(a.id), { code: "conflict", message: /task 2 depend/ });
  await state.tasks.remove(b.id);
  await state.tasks.remove(a.id);
  assert.deepEqual(await state.committer.store.list("dependency"), []);
});

test("a circle is refused with its path", async (t) => {
  const state = await MEMORY.open(t);
  const a = await state.tasks.add({ description: "a" });
  const b = await state.tasks.add({ description: "b", depends_on: [a.id] });
  const c = await state.tasks.add({ description: "c", depends_on: [b.id] });
  const side = await state.tasks.add({ description: "side", depends_on: [a.id, b.id] });
  await assert.rejects(state.tasks.edit(a.id, { depends_on: [c.id] }), { code: "usage", message: /1 → 3 → 2 → 1/ });
  await assert.rejects(state.tasks.edit(a.id, { depends_on: [a.id] }), { code: "usage", message: /1 → 1/ });
  await assert.rejects(state.tasks.edit(a.id, { depends_on: [side.id] }), { code: "usage", message: /1 → 4 → 1/ });
  assert.deepEqual((await state.tasks.get(a.id)).depends_on, []);
  await state.tasks.edit(c.id, { depends_on: [side.id, a.id] });
});

test("editing dependencies moves readiness both ways", async (t) => {
  const state = await MEMORY.open(t);
  const [a, b, x] = await state.tasks.addAll([{ description: "a" }, { description: "b", status: "completed" }, { description: "x" }]);
  await state.tasks.edit(x!.id, { depends_on: [a!.id, b!.id] });
  assert.equal(await ready(state, x!.id), false);
  await state.tasks.edit(x!.id, { depends_on: [b!.id] });
  assert.equal(await ready(state, x!.id), true);
  await state.tasks.edit(x!.id, { depends_on: [a!.id] });
  await state.tasks.complete(a!.id, 1);
  assert.equal(await ready(state, x!.id), true);
});

test("hazard 9: a dependency that is completed while its dependent is being added frees it", async (t) => {
  for (const hooked of [afterReading, (state: State, _: unknown, hook: () => Promise<unknown>) => beforeWriting(state, hook)]) {
    const state = await MEMORY.open(t);
    const a = await state.tasks.add({ description: "a" });
    hooked(state, (kind, keys) => kind === "task" && keys.includes(a.id), () => state.tasks.complete(a.id, 1));
    const c = await state.tasks.add({ description: "c", depends_on: [a.id] });
    assert.deepEqual([(await state.tasks.get(a.id)).status, c.ready, await ready(state, c.id)], ["completed", true, true]);
  }
});

test("hazard 9: a dependency that is reset while its dependent is being added blocks it", async (t) => {
  for (const hooked of [afterReading, (state: State, _: unknown, hook: () => Promise<unknown>) => beforeWriting(state, hook)]) {
    const state = await MEMORY.open(t);
    const a = await state.tasks.add({ description: "a", status: "completed" });
    hooked(state, (kind, keys) => kind === "task" && keys.includes(a.id), () => state.tasks.reset(a.id));
    const c = await state.tasks.add({ description: "c", depends_on: [a.id] });
    assert.deepEqual([c.ready, await ready(state, c.id)], [false, false]);
    await state.tasks.complete(a.id, 1);
    assert.equal(await ready(state, c.id), true);
  }
});

test("hazard 9: one dependency completes while the other is reset: the task stays blocked", async (t) => {
  const state = await MEMORY.open(t);
  const [a, b] = await state.tasks.addAll([{ description: "a" }, { description: "b" }]);
  const c = await state.tasks.add({ description: "c", depends_on: [a!.id, b!.id] });
  await state.tasks.complete(a!.id, 1);
  // b is completed; its follower reads both as completed; before it writes, a is reset and finds c not ready: nothing to do.
  afterReading(state, (kind, keys) => kind === "task" && keys.length === 2, () => state.tasks.reset(a!.id));
  await state.tasks.complete(b!.id, 1);
  assert.equal(await ready(state, c.id), false);
});

test("a dependency that is reset while its dependent runs blocks that when it comes back", async (t) => {
  const state = await MEMORY.open(t);
  const a = await state.tasks.add({ description: "a", status: "completed" });
  const b = await state.tasks.add({ description: "b", depends_on: [a.id] });
  const { token } = (await state.tasks.claim())!;
  await state.tasks.reset(a.id);
  await state.tasks.release(b.id, { token: parseToken(token) });
  assert.equal(await ready(state, b.id), false);
  await state.tasks.complete(a.id, 1);
  assert.equal(await ready(state, b.id), true);
});

test("a crash between a completion and its dependents, or between an addition and its second look, is repaired by the sweep", async (t) => {
  const state = await MEMORY.open(t);
  const { store } = state.committer;
  const a = await state.tasks.add({ description: "a" });
  const b = await state.tasks.add({ description: "b", depends_on: [a.id] });
  const list = store.list.bind(store);
  store.list = async (kind, query) => { if (kind === "dependency") throw new Error("killed"); return list(kind, query); };
  await assert.rejects(state.tasks.complete(a.id, 1), /killed/);
  store.list = list;
  assert.deepEqual([(await state.tasks.get(a.id)).status, await ready(state, b.id)], ["completed", false]);
  assert.equal(await sweep(state.committer, NO_EVIDENCE, "sweeper", true), 1);
  assert.equal(await ready(state, b.id), true);
});

test("a worker that was killed between a completion and its dependents holds nobody up", async (t) => {
  for (let write = 4; write <= 7; write++) {
    const sim = await simulate(t);
    const a = await sim.state.tasks.add({ description: "a" });
    const b = await sim.state.tasks.add({ description: "b", depends_on: [a.id] });
    const one = sim.start(() => 1, { death: { write, when: "after" } });
    await sim.untilTrue(async () => one.dead || (await sim.state.tasks.get(b.id)).status === "completed");
    await sim.finish(sim.start(() => 1).worker.idle());
    await sim.until(b.id);
  }
});

test("after any sequence of changes, readiness is what the dependencies say", async (t) => {
  const state = await MEMORY.open(t);
  const verb = fc.constantFrom("complete", "reset", "fail", "retry", "cancel", "reopen", "add", "depend");
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(verb, fc.nat({ max: 20 }), fc.nat({ max: 20 })), { minLength: 4, maxLength: 14 }), async (steps) => {
      const ids = (await state.tasks.addAll([{ description: "a" }, { description: "b" }])).map(({ id }) => id);
      // Several at once, so that they interleave in the committer.
      for (let i = 0; i < steps.length; i += 3) {
        await Promise.allSettled(steps.slice(i, i + 3).map(async ([what, x, y]) => {
          const id = ids[x % ids.length]!;
          if (what === "add") ids.push((await state.tasks.add({ description: "c", depends_on: [id, ids[y % ids.length]!] })).id);
          else if (what === "depend") await state.tasks.edit(id, { depends_on: [ids[y % ids.length]!] });
          else if (what === "complete") await state.tasks.complete(id, 1);
          else if (what === "fail") await state.tasks.fail(id, "no");
          else if (what === "reopen") await state.tasks.reopen(id, "r");
          else await state.tasks[what](id);
        }));
      }
      for (const id of ids) {
        const task = await state.tasks.get(id);
        const blockers = await blockersOf(state.committer, task);
        assert.equal(task.ready, task.status === "pending" && blockers.length === 0, `task ${id} of ${ids.join()}: ${task.status}, ready ${task.ready}, blocked by ${JSON.stringify(blockers)}`);
      }
    }),
    { numRuns: 300 },
  );
});

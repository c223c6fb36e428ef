// Traps of the design that concern the whole engine on every store, each named after its number in the list they come from:
// a claim and its history are one write, workers are told apart by their start, poisoned data fails alone.
import assert from "node:assert/strict";
import { test } from "node:test";
import { isPawlError } from "../src/base/errors.ts";
import { claimDue } from "../src/core/claim.ts";
import { Committer } from "../src/core/committer.ts";
import type { Task } from "../src/core/records.ts";
import type { Store } from "../src/store/store.ts";
import { Lease } from "../src/worker/lease.ts";
import { ALL_STORES } from "./stores.ts";

for (const store of ALL_STORES) {
  test(`hazard 3, ${store.name}: a claim, its attempt and its history are one write; a decision that throws writes nothing`, async (t) => {
    const state = await store.open(t);
    await state.tasks.addAll(Array.from({ length: 5 }, (_, i) => ({ description: `task ${i}` })));
    const { store: records } = state.committer;
    await assert.rejects(records.claim({ kind: "task", queries: [{ index: "due", equals: { queue: "default", batch_id: null } }], order: ["priority"], limit: 5 }, () => {
      throw new Error("no decision");
    }));
    assert.equal((await state.tasks.count()).pending, 5);
    const claims = await Promise.all(Array.from({ length: 7 }, () => state.tasks.claim()));
    assert.deepEqual(claims.map((claim) => claim?.task.id ?? null).sort(), [1, 2, 3, 4, 5, null, null].sort());
    for (const task of await state.tasks.list()) {
      const history = await state.history.of(task.id);
      assert.deepEqual(history.map((event) => event.event), ["created", "claimed"]);
      assert.deepEqual([history[1]!.details, task.status, task.attempts, task.fence], [{ attempt: 1, fence: 1 }, "in_progress", 1, 1]);
      assert.equal(await state.history.verify(task.id), null);
    }
  });

  test(`hazard 16, ${store.name}: a configured name is a label: two workers with one name are two owners`, async (t) => {
    const state = await store.open(t);
    await state.tasks.addAll(Array.from({ length: 20 }, (_, i) => ({ description: `task ${i}` })));
    const seen = new Map<number, number>();
    const execute = async (task: { id: number }) => {
      seen.set(task.id, (seen.get(task.id) ?? 0) + 1);
      await new Promise((resolve) => setTimeout(resolve, 5));
    };
    const [a, b] = [state.work({ label: "replica", concurrency: 3, execute }), state.work({ label: "replica", concurrency: 3, execute })];
    assert.notEqual(a.id, b.id);
    await Promise.all([a.idle(), b.idle()]);
    assert.equal(seen.size, 20);
    assert.ok([...seen.values()].every((times) => times === 1), "no task ran twice");
    assert.equal((await state.tasks.count()).completed, 20);
  });

  test(`hazard 16, ${store.name}: of two copies of one worker the second to beat loses the task; a lost answer is not a copy`, async (t) => {
    const state = await store.open(t);
    await state.tasks.add({ description: "cloned" });
    const [task] = await claimDue(state.committer, { lanes: [{ queue: "default", batch_id: null }], verifier: null, limit: 1, worker: "w-cloned", leaseMs: 60_000 });
    const lease = (committer = state.committer) => new Lease(committer, state.clock, task!, 60_000);
    const [original, copy] = [lease(), lease()];
    await new Promise((resolve) => setTimeout(resolve, 5)); // a later instant than the claim's
    await original.renew();
    await original.renew();
    await assert.rejects(copy.renew(), (error) => isPawlError(error, "lease_lost") && /another process works under the name/.test(error.message));
    await original.renew();

    // The commit is kept, its answer is not.
    let deaf = true;
    const commit: Store["commit"] = async (changes) => {
      const results = await state.committer.store.commit(changes);
      if (deaf) throw new Error("the connection broke");
      return results;
    };
    const [again] = (await state.committer.store.get("task", [task!.id])) as unknown as Task[];
    const unlucky = new Lease(new Committer({ clock: state.clock, commit } as Store), state.clock, again!, 60_000);
    await new Promise((resolve) => setTimeout(resolve, 5));
    await assert.rejects(unlucky.renew(), /connection broke/);
    deaf = false;
    await unlucky.renew();
    assert.equal(unlucky.late, false);
  });

  test(`hazard 27, ${store.name}: data no store can hold fails alone, and the ninety-nine beside it are kept`, async (t) => {
    const state = await store.open(t);
    const results = await Promise.allSettled(
      Array.from({ length: 100 }, (_, i) => state.tasks.add({ description: i === 37 ? "poison \0" : `task ${i}`, input: i === 53 ? { half: "\ud800" } : i === 71 ? { n: 2 ** 60 } : { i } })),
    );
    const refused = results.flatMap((result, i) => (result.status === "rejected" ? [i] : []));
    assert.deepEqual(refused, [37, 53, 71]);
    for (const i of refused) assert.ok(isPawlError((results[i] as PromiseRejectedResult).reason), String(i));
    assert.equal((await state.tasks.count()).pending, 97);
    // An output that cannot be kept fails its own task, and for good.
    const worker = state.work({ concurrency: 10, execute: (task) => (task.id === 5 ? { bad: Number.NaN } : task.id) });
    await worker.idle();
    assert.deepEqual([(await state.tasks.get(5)).status, (await state.tasks.get(5)).attempts, (await state.tasks.count()).completed], ["failed", 1, 96]);
  });
}

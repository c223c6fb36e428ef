// Conformance: claims (the first due records over all queries, decided upon and written with nobody in between), the
// hint of watch, and how a store closes.
import assert from "node:assert/strict";
import { addEvent, addItem, cases, commit, conflict, fill, fits, holds, idsOf, is, put, read, refused, rejects, remove, set, succeeded, until, upTo, wholeChain, write, type ConformanceCase } from "./model.ts";
import type { Change, ClaimOrder, Decide, Rec, Store } from "../store.ts";

const due = (limit: number): ClaimOrder => ({ kind: "item", queries: [{ index: "due" }], order: ["priority"], limit });
const dueIn = (limit: number, ...batches: (string | null)[]): ClaimOrder => ({ kind: "item", queries: batches.map((batch) => ({ index: "due_in", equals: { batch } })), order: ["priority"], limit });

/** Takes what it is given, for an owner, with an event each. */
const take = (owner: string): Decide => (records) =>
  records.length === 0 ? null : { puts: records.flatMap((record) => [set("item", record["id"] as number, { status: "running", owner }), addEvent(record["id"]!, "claimed")]) };

/** What a claim in this order would be given. */
async function given(store: Store, order: ClaimOrder): Promise<readonly Rec[]> {
  let seen: readonly Rec[] = [];
  assert.equal(await store.claim(order, (records) => ((seen = records), null)), null);
  return seen;
}

const ready = (priority: number | null, batch: string | null = null) => ({ status: "pending", flag: true, priority, batch });

const claim = cases("claim", {
  "gives the records by priority, then by id": async (store) => {
    await fill(store, [ready(5), ready(1), ready(5), ready(null), ready(1), ready(3)]);
    assert.deepEqual(idsOf(await given(store, due(10))), [4, 2, 5, 6, 1, 3]);
  },
  "gives at most the limit": async (store) => {
    await fill(store, upTo(10).map((i) => ready(10 - i)));
    assert.deepEqual(idsOf(await given(store, due(3))), [10, 9, 8]);
    assert.deepEqual(idsOf(await given(store, due(1))), [10]);
  },
  "puts several queries together in one order": async (store) => {
    await fill(store, [ready(3, "a"), ready(1, "b"), ready(2, "a"), ready(1, "a"), ready(2, "b"), ready(0, "c"), ready(2, "b")]);
    assert.deepEqual(idsOf(await given(store, dueIn(10, "a", "b"))), [2, 4, 3, 5, 7, 1]);
    assert.deepEqual(idsOf(await given(store, dueIn(4, "b", "a"))), [2, 4, 3, 5]);
    assert.deepEqual(idsOf(await given(store, dueIn(2, "a", null, "c"))), [6, 4]);
  },
  "gives a record that several queries find once": async (store) => {
    await fill(store, [ready(1, "a"), ready(2, "a"), ready(3, "b")]);
    assert.deepEqual(idsOf(await given(store, { kind: "item", queries: [{ index: "due" }, { index: "due_in", equals: { batch: "a" } }, { index: "due" }], order: ["priority"], limit: 3 })), [1, 2, 3]);
  },
  "passes over what is not due": async (store) => {
    await fill(store, [{ ...ready(1), flag: false }, { ...ready(2), status: "done" }, ready(3), { status: "pending" }]);
    assert.deepEqual(idsOf(await given(store, due(10))), [3]);
  },
  "may bound its queries, as by time": async (store) => {
    await fill(store, ["2026-01-03", "2026-01-01", "2026-01-02", null].map((run_at) => ({ status: "waiting", run_at })));
    assert.deepEqual(idsOf(await given(store, { kind: "item", queries: [{ index: "timed", to: "2026-01-03" }], order: ["run_at"], limit: 5 })), [2, 3]);
  },
  "gives whole records with their current values": async (store) => {
    await write(store, addItem({ id: 1, ...ready(1), data: { a: [1] }, extra: "e" }));
    await write(store, set("item", 1, { title: "new" }));
    const records = await given(store, due(1));
    fits(records[0]!, { title: "new", data: { a: [1] }, extra: "e", owner: null });
    assert.deepEqual(records, await store.get("item", [1]));
  },
  "gives the store's time": async (store, env) => {
    const times: number[] = [];
    const before = store.clock.now();
    await store.claim(due(1), (_, now) => (times.push(now), null));
    env.clock.jump(3_600_000);
    await store.claim(due(1), (_, now) => (times.push(now), null));
    const after = store.clock.now();
    assert.ok(times[0]! >= before && times[0]! <= times.at(-1)! && times.at(-1)! <= after, `${before} ${times.join(" ")} ${after}`);
  },
  "that decides on nothing writes nothing and says null": async (store) => {
    await fill(store, [ready(1)]);
    assert.equal(await store.claim(due(1), () => null), null);
    assert.deepEqual(idsOf(await given(store, due(1))), [1]);
  },
  "with nothing due is null when nothing is decided": async (store) => {
    assert.equal(await store.claim(due(5), take("w")), null);
    await fill(store, [{ status: "done" }]);
    assert.equal(await store.claim(due(5), take("w")), null);
  },
  "writes what was decided, in one piece with its event": async (store) => {
    await fill(store, [ready(1), ready(2)]);
    succeeded(await store.claim(due(2), take("w")));
    for (const id of [1, 2]) {
      await holds(store, "item", id, { status: "running", owner: "w" });
      assert.equal((await wholeChain(store, id)).length, 1);
    }
    assert.deepEqual(await given(store, due(2)), []);
  },
  "whose guard fails is a conflict and writes nothing": async (store) => {
    await fill(store, [ready(1)]);
    await write(store, put("counter", { id: "slots", n: 2 }));
    const result = await store.claim(due(1), (records) => ({ ...take("w")(records, 0)!, guards: [is("item", 1, {}), is("counter", "slots", { n: 0 })] }));
    fits(conflict(result, "guard", 1, "counter"), { n: 2 });
    await holds(store, "item", 1, { status: "pending", owner: null });
    assert.deepEqual(await store.list("event"), []);
  },
  "whose addition or put fails is a conflict and writes nothing": async (store) => {
    await fill(store, [ready(1)]);
    await write(store, put("counter", { id: "slots", n: 1 }));
    const full = await store.claim(due(1), (records) => ({ ...take("w")(records, 0)!, additions: [{ kind: "counter", key: "slots", field: "n", n: 1, max: 1 }] }));
    fits(conflict(full, "addition", 0, "counter"), { n: 1 });
    conflict(await store.claim(due(1), (records) => ({ puts: [...take("w")(records, 0)!.puts, set("item", 99, {})] })), "put", 2, "item");
    await holds(store, "item", 1, { status: "pending" });
    assert.deepEqual(await store.list("event"), []);
  },
  "sees what was written before it, deletes included": async (store) => {
    await fill(store, [ready(1), ready(2), ready(3)]);
    await write(store, remove("item", 1), set("item", 3, { priority: 0 }));
    assert.deepEqual(idsOf(await given(store, due(5))), [3, 2]);
  },
  "never gives a record to two of a hundred concurrent claims": async (store) => {
    await fill(store, upTo(60).map((i) => ready(i % 7)));
    const taken: number[] = [];
    await Promise.all(upTo(100).map(async (i) => {
      let ids: number[] = [];
      const result = await store.claim(due(1), (records, now) => ((ids = idsOf(records) as number[]), take(`w${i}`)(records, now)));
      if (result !== null) taken.push(...(succeeded(result), ids));
    }));
    assert.equal(taken.length, 60);
    assert.equal(new Set(taken).size, 60);
    for (const id of taken) assert.equal((await wholeChain(store, id)).length, 1);
  },
  "keeps to its order among concurrent claims": async (store) => {
    await fill(store, upTo(20).map((i) => ready(20 - i)));
    const results = await Promise.all(upTo(5).map((i) => store.claim(due(2), take(`w${i}`))));
    results.forEach(succeeded);
    assert.deepEqual(idsOf(await store.list("item", { index: "status", equals: { status: "running" } })), upTo(10).map((i) => 20 - i));
  },
  "and commits at the same time do not come between each other": async (store) => {
    await write(store, put("counter", { id: "c", n: 0 }));
    await fill(store, upTo(30).map(() => ready(1)));
    const spend = { puts: [], additions: [{ kind: "counter", key: "c", field: "n", n: 1 }] };
    const claims = upTo(30).map(() => store.claim(due(1), (records, now) => ({ ...spend, ...take("w")(records, now)! })));
    const results = await Promise.all([...claims, ...upTo(30).map(() => commit(store, spend))]);
    results.forEach(succeeded);
    await holds(store, "counter", "c", { n: 60 });
    assert.deepEqual(await given(store, due(1)), []);
  },
  "whose decide throws rejects, writes nothing and leaves the store usable": async (store) => {
    await fill(store, [ready(1)]);
    const error = new Error("thrown by decide");
    await assert.rejects(store.claim(due(1), () => { throw error; }), (caught) => caught === error || (caught as Error).message.includes("thrown by decide"));
    assert.deepEqual(idsOf(await given(store, due(1))), [1]);
    await write(store, addItem());
    succeeded(await store.claim(due(1), take("w")));
  },
  "may decide on records of other kinds and on none it was given": async (store) => {
    await fill(store, [ready(1)]);
    assert.deepEqual(succeeded(await store.claim(due(1), () => ({ puts: [put("note", { text: "swept" })] }))), ["n1"]);
    assert.deepEqual(idsOf(await given(store, due(1))), [1]);
  },
  "with an unknown index is refused": async (store) => {
    await rejects(store.claim({ kind: "item", queries: [{ index: "ghost" }], order: [], limit: 1 }, () => null), "internal");
  },
});

const watch = cases("watch", {
  "tells of a commit": async (store) => {
    let told = 0;
    store.watch(() => told++);
    await write(store, addItem());
    await until(() => told > 0, "the hint of a commit");
  },
  "tells of a claim": async (store) => {
    await fill(store, [ready(1)]);
    let told = 0;
    store.watch(() => told++);
    succeeded(await store.claim(due(1), take("w")));
    await until(() => told > 0, "the hint of a claim");
  },
  "tells every listener, each commit anew": async (store) => {
    const told = [0, 0];
    store.watch(() => told[0]!++);
    store.watch(() => told[1]!++);
    await write(store, addItem());
    await until(() => told[0]! > 0 && told[1]! > 0, "the first hint");
    const before = [...told];
    await write(store, addItem());
    await until(() => told[0]! > before[0]! && told[1]! > before[1]!, "the second hint");
  },
  "never tells from inside the call": async (store) => {
    let inside = false;
    let wrong = false;
    store.watch(() => (wrong ||= inside));
    const calls: Promise<unknown>[] = [];
    for (const change of [{ puts: [addItem()] }, { puts: [] }]) {
      inside = true;
      calls.push(store.commit([change]), store.claim(due(1), () => change));
      inside = false;
    }
    await Promise.all(calls);
    assert.equal(wrong, false);
  },
  "is quiet after unsubscribing, even at once after a commit": async (store) => {
    let told = 0;
    let other = 0;
    const stop = store.watch(() => told++);
    const pending = write(store, addItem());
    await pending;
    stop();
    const until_now = told;
    store.watch(() => other++);
    await write(store, addItem());
    await until(() => other > 0, "the hint to the other listener");
    assert.equal(told, until_now);
    stop();
  },
  "a listener that reads the store sees the change": async (store) => {
    const seen: unknown[] = [];
    store.watch(() => void store.count("item").then((n) => seen.push(n), () => {}));
    await write(store, addItem());
    await until(() => seen.includes(1), "a reading of the new record");
  },
});

const close = cases("close", {
  "afterwards every call is refused as closed": async (store) => {
    await write(store, addItem());
    await store.close();
    await rejects(store.commit([{ puts: [addItem()] }]), "closed");
    await rejects(store.commit([]), "closed");
    await rejects(store.get("item", [1]), "closed");
    await rejects(store.list("item"), "closed");
    await rejects(store.count("item"), "closed");
    await rejects(store.count("item", { index: "status" }, "status"), "closed");
    await rejects(store.claim(due(1), () => null), "closed");
  },
  "twice is fine, also at the same time": async (store) => {
    await Promise.all([store.close(), store.close()]);
    await store.close();
  },
  "lets pending calls settle": async (store) => {
    const pending = [...upTo(20).map(() => commit(store, { puts: [addItem()] })), store.claim(due(1), () => ({ puts: [addItem()] })), store.list("item")];
    const closing = store.close();
    const settled = await Promise.allSettled(pending);
    await closing;
    for (const outcome of settled) if (outcome.status === "rejected") await rejects(Promise.reject(outcome.reason), "closed");
  },
  "a listener is told nothing more": async (store) => {
    let told = 0;
    store.watch(() => told++);
    await write(store, addItem());
    await store.close();
    const before = told;
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(told, before);
  },
  "another place is not touched": async (store, env) => {
    const other = await env.fresh();
    await write(store, addItem({ title: "here" }));
    assert.deepEqual(await other.list("item"), []);
    await write(other, addItem({ title: "there" }));
    await store.close();
    await holds(other, "item", 1, { title: "there" });
    await write(other, addItem());
  },
  "a change refused before does not keep it from closing": async (store) => {
    refused(await commit(store, { puts: [addItem({ title: "\0" })] }));
    const change: Change = { guards: [is("item", 1, {})], puts: [] };
    conflict(await commit(store, change), "guard", 0, "item");
    await assert.rejects(store.claim(due(1), () => { throw new Error("no"); }));
    assert.equal(await read(store, "item", 1), null);
    await store.close();
  },
  "the store says where it is": async (store) => {
    assert.equal(typeof store.location, "string");
    assert.notEqual(store.location, "");
  },
});

export const claimCases: readonly ConformanceCase[] = [...claim, ...watch, ...close];

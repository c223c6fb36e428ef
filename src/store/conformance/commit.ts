// Conformance: what a change is. Several records or none of them, a later change sees the earlier, put replaces, set
// changes, delete removes, and neither the caller's objects nor the returned ones are a door into the store.
import assert from "node:assert/strict";
import { addEvent, addItem, cases, commit, conflict, fill, fits, holds, idsOf, is, put, read, refused, remove, set, succeeded, upTo, write, type ConformanceCase } from "./model.ts";
import type { Change, Put } from "../store.ts";

const batch = cases("commit", {
  "inserts a record and reads it back": async (store) => {
    const ids = await write(store, addItem({ title: "one", priority: 3 }));
    await holds(store, "item", ids[0]!, { id: ids[0]!, title: "one", priority: 3 });
  },
  "one change writes records of several kinds": async (store) => {
    await write(store, addItem({ id: 1 }), put("note", { item_id: 1, text: "a" }), put("part", { item_id: 1, name: "p" }), put("counter", { id: "c", n: 5 }));
    assert.equal((await store.list("item")).length, 1);
    assert.equal((await store.list("note")).length, 1);
    await holds(store, "part", [1, "p"], { n: null });
    await holds(store, "counter", "c", { n: 5 });
  },
  "each change of a batch has its own result, in order": async (store) => {
    const results = await store.commit([
      { puts: [addItem({ id: 7 })] },
      { puts: [set("item", 99, { title: "x" })] },
      { puts: [addItem({ title: 5 as never })] },
      { puts: [addItem({ title: "last" })] },
    ]);
    assert.equal(results.length, 4);
    assert.deepEqual(succeeded(results[0]), []);
    assert.equal(conflict(results[1], "put", 0, "item"), null);
    refused(results[2]);
    assert.equal(typeof succeeded(results[3])[0], "number");
  },
  "an empty commit gives an empty answer": async (store) => {
    assert.deepEqual(await store.commit([]), []);
  },
  "a change without puts is ok": async (store) => {
    assert.deepEqual(await store.commit([{ puts: [] }]), [{ ok: true, ids: [] }]);
  },
  "a change of guards only tells whether they hold": async (store) => {
    await write(store, addItem({ id: 1, revision: 4 }));
    succeeded(await commit(store, { guards: [is("item", 1, { revision: 4 })], puts: [] }));
    fits(conflict(await commit(store, { guards: [is("item", 1, { revision: 5 })], puts: [] }), "guard", 0, "item"), { revision: 4 });
  },
  "a later change sees what an earlier one inserted": async (store) => {
    const results = await store.commit([{ puts: [addItem({ id: 5, title: "a" })] }, { guards: [is("item", 5, { title: "a" })], puts: [set("item", 5, { title: "b" })] }]);
    results.forEach(succeeded);
    await holds(store, "item", 5, { title: "b" });
  },
  "a later change sees what an earlier one deleted": async (store) => {
    await write(store, addItem({ id: 5 }));
    const results = await store.commit([{ puts: [remove("item", 5)] }, { puts: [set("item", 5, { title: "b" })] }]);
    succeeded(results[0]);
    assert.equal(conflict(results[1], "put", 0, "item"), null);
  },
  "a later put sees the earlier ones of its change": async (store) => {
    await write(store, addItem({ id: 5, title: "a" }), set("item", 5, { status: "open" }), set("item", 5, { title: "b" }));
    await holds(store, "item", 5, { title: "b", status: "open" });
  },
  "two changes of a batch set fields of one record and both stay": async (store) => {
    await write(store, addItem({ id: 1 }));
    await store.commit([{ puts: [set("item", 1, { title: "a", priority: 1 })] }, { puts: [set("item", 1, { status: "s", priority: 2 })] }]);
    await holds(store, "item", 1, { title: "a", status: "s", priority: 2 });
  },
  "many writes of one record within a batch end with the last": async (store) => {
    await write(store, put("counter", { id: "c", n: 0 }));
    (await store.commit(upTo(50).map((i) => ({ guards: [is("counter", "c", { n: i })], puts: [set("counter", "c", { n: i + 1 })] })))).forEach(succeeded);
    await holds(store, "counter", "c", { n: 50 });
  },
  "a later change does not see what a failed one would have written": async (store) => {
    const results = await store.commit([
      { puts: [addItem({ id: 5 }), set("item", 99, {})] },
      { puts: [set("item", 5, { title: "x" })] },
    ]);
    conflict(results[0], "put", 1, "item");
    assert.equal(conflict(results[1], "put", 0, "item"), null);
  },
  "of two changes with the same guard in a batch the second loses": async (store) => {
    await write(store, addItem({ id: 1, revision: 1 }));
    const change = (title: string): Change => ({ guards: [is("item", 1, { revision: 1 })], puts: [set("item", 1, { title, revision: 2 })] });
    const results = await store.commit([change("first"), change("second")]);
    succeeded(results[0]);
    fits(conflict(results[1], "guard", 0, "item"), { title: "first", revision: 2 });
    await holds(store, "item", 1, { title: "first" });
  },
  "a hundred concurrent commits all arrive": async (store) => {
    const results = await Promise.all(upTo(100).map((i) => store.commit([{ puts: [addItem({ priority: i })] }])));
    assert.equal(new Set(results.map(([result]) => succeeded(result)[0])).size, 100);
    assert.deepEqual(new Set((await store.list("item")).map((record) => record["priority"])), new Set(upTo(100)));
  },
  "one commit with a hundred changes gives a hundred results": async (store) => {
    const ids = await fill(store, upTo(100).map((i) => ({ priority: i })));
    for (const [i, record] of (await store.get("item", ids)).entries()) fits(record, { priority: i });
  },
  "one change with three hundred puts is one change": async (store) => {
    const puts = upTo(300).map((i) => addItem({ priority: i }));
    conflict(await commit(store, { puts: [...puts, set("item", 9_999, {})] }), "put", 300, "item");
    assert.equal(await store.count("item"), 0);
    assert.equal((await write(store, ...puts)).length, 300);
  },
  "a batch of two thousand changes": async (store) => {
    const results = await store.commit(upTo(2_000).map((i) => (i % 5 === 4 ? { puts: [set("item", 999_999, {})] } : { puts: [addItem({ priority: i }), put("note", { text: String(i) })] })));
    assert.equal(results.length, 2_000);
    assert.equal(results.filter((result) => result.ok).length, 1_600);
    assert.equal(await store.count("item"), 1_600);
    assert.equal(await store.count("note"), 1_600);
  },
  "of many concurrent guarded writers exactly one wins each round": async (store) => {
    await write(store, put("counter", { id: "c", n: 0, revision: 0 }));
    for (const round of upTo(5)) {
      const change = { guards: [is("counter", "c", { revision: round })], puts: [set("counter", "c", { revision: round + 1 })] };
      const results = await Promise.all(upTo(20).map(() => commit(store, change)));
      assert.equal(results.filter((result) => result.ok).length, 1);
    }
  },
  "what was acknowledged is what the next read shows": async (store) => {
    await write(store, addItem({ id: 1 }));
    for (const i of upTo(20)) {
      await write(store, set("item", 1, { priority: i, status: `s${i}` }));
      await holds(store, "item", 1, { priority: i });
      assert.equal((await store.list("item", { index: "status", equals: { status: `s${i}` } })).length, 1);
    }
  },
});

const whole = cases("all or nothing", {
  "a conflict at the last put takes back inserts, sets and deletes": async (store) => {
    await write(store, addItem({ id: 1, title: "old" }), addItem({ id: 2 }));
    const puts = [set("item", 1, { title: "new" }), remove("item", 2), addItem({ id: 3 }), put("note", { text: "n" }), set("item", 99, {})];
    conflict(await commit(store, { puts }), "put", 4, "item");
    await holds(store, "item", 1, { title: "old" });
    assert.deepEqual(idsOf(await store.list("item")), [1, 2]);
    assert.deepEqual(await store.list("note"), []);
    assert.deepEqual(idsOf(await store.list("item", { index: "name", equals: { title: "old" } })), [1]);
  },
  "bad data at the last put takes back the others": async (store) => {
    await write(store, addItem({ id: 1, title: "old" }));
    refused(await commit(store, { puts: [set("item", 1, { title: "new" }), addItem(), put("note", { text: "a\0b" })] }));
    await holds(store, "item", 1, { title: "old" });
    assert.equal(await store.count("item"), 1);
  },
  "a failed addition takes back the puts": async (store) => {
    await write(store, put("counter", { id: "c", n: 9 }));
    conflict(await commit(store, { puts: [addItem()], additions: [{ kind: "counter", key: "c", field: "n", n: 2, max: 10 }] }), "addition", 0, "counter");
    assert.equal(await store.count("item"), 0);
  },
  "a failed guard writes nothing at all": async (store) => {
    await write(store, put("counter", { id: "c", n: 1 }));
    const change: Change = { guards: [is("counter", "c", { n: 2 })], puts: [addItem(), remove("counter", "c")], additions: [{ kind: "counter", key: "c", field: "n", n: 1 }] };
    conflict(await commit(store, change), "guard", 0, "counter");
    await holds(store, "counter", "c", { n: 1 });
    assert.equal(await store.count("item"), 0);
  },
  "a failed change in the middle leaves its neighbours alone": async (store) => {
    const results = await store.commit([{ puts: [addItem({ id: 1 })] }, { puts: [addItem({ id: 2 }), set("item", 99, {})] }, { puts: [addItem({ id: 3 })] }]);
    assert.deepEqual(results.map((result) => result.ok), [true, false, true]);
    assert.deepEqual(idsOf(await store.list("item")), [1, 3]);
  },
  "a failed change leaves the writes of an earlier change to the same record": async (store) => {
    await write(store, addItem({ id: 1, title: "a" }));
    await store.commit([{ puts: [set("item", 1, { title: "b" })] }, { puts: [set("item", 1, { title: "c" }), set("item", 99, {})] }]);
    await holds(store, "item", 1, { title: "b" });
  },
  "a record deleted by a failed change is still in every index": async (store) => {
    await write(store, addItem({ id: 1, key: "k", title: "t", status: "pending", flag: true, priority: 1 }));
    conflict(await commit(store, { puts: [remove("item", 1), set("item", 99, {})] }), "put", 1, "item");
    for (const index of ["key", "name", "status", "due", "due_in", "free"]) assert.deepEqual(idsOf(await store.list("item", { index })), [1], index);
  },
  "a change that names an unknown kind fails alone": async (store) => {
    const unknown: Put[] = [put("ghost", { id: 1 }), set("ghost", 1, {}), remove("ghost", 1)];
    const results = await store.commit([
      ...unknown.map((p) => ({ puts: [addItem(), p] })),
      { guards: [is("ghost", 1, {})], puts: [addItem()] },
      { puts: [addItem()], additions: [{ kind: "ghost", key: 1, field: "n", n: 1 }] },
      { puts: [addItem({ title: "good" })] },
    ]);
    for (const result of results.slice(0, 5)) refused(result, "internal");
    succeeded(results[5]);
    assert.equal(await store.count("item"), 1);
  },
  "a chained event and what it tells of are kept together": async (store) => {
    await write(store, addItem({ id: 1, status: "a" }), addEvent(1, "made"));
    conflict(await commit(store, { puts: [addEvent(1, "lost"), set("item", 99, {})] }), "put", 1, "item");
    assert.equal((await store.list("event")).length, 1);
  },
});

const puts = cases("put", {
  "a full put replaces: fields left out become null, unknown ones vanish": async (store) => {
    await write(store, addItem({ id: 1, title: "a", status: "s", data: { a: 1 }, extra: "e" }));
    await write(store, addItem({ id: 1, title: "b" }));
    const record = await holds(store, "item", 1, { title: "b", status: null, data: null });
    assert.ok(!("extra" in record), "the unknown field is gone");
  },
  "undefined members of a put count as left out": async (store) => {
    await write(store, addItem({ id: 1, title: undefined, extra: undefined, status: "s" }));
    const record = await holds(store, "item", 1, { title: null, status: "s" });
    assert.ok(!("extra" in record));
  },
  "undefined members of a set change nothing": async (store) => {
    await write(store, addItem({ id: 1, title: "a", extra: "e" }));
    await write(store, set("item", 1, { title: undefined, extra: undefined, status: "s" }));
    await holds(store, "item", 1, { title: "a", extra: "e", status: "s" });
  },
  "set changes only what it names": async (store) => {
    const all = { id: 1, key: "k", title: "t", status: "s", priority: 1, score: 0.5, flag: true, batch: "b", slot: 2, owner: "o", run_at: "r", data: [1], revision: 3 };
    await write(store, addItem(all));
    await write(store, set("item", 1, { status: "new" }));
    await holds(store, "item", 1, { ...all, status: "new" });
  },
  "set with null clears a field": async (store) => {
    await write(store, addItem({ id: 1, title: "t", data: { a: 1 }, flag: true }));
    await write(store, set("item", 1, { title: null, data: null, flag: null }));
    await holds(store, "item", 1, { title: null, data: null, flag: null });
  },
  "set replaces a json value whole": async (store) => {
    await write(store, addItem({ id: 1, data: { a: 1, b: { c: 2 } } }));
    await write(store, set("item", 1, { data: { b: 3 } }));
    await holds(store, "item", 1, { data: { b: 3 } });
  },
  "an empty set is ok and changes nothing": async (store) => {
    await write(store, addItem({ id: 1, title: "t" }));
    await write(store, set("item", 1, {}));
    await holds(store, "item", 1, { title: "t" });
  },
  "set on a missing record is a conflict that says so": async (store) => {
    await write(store, addItem({ id: 1 }));
    assert.equal(conflict(await commit(store, { puts: [set("item", 1, {}), set("part", [1, "x"], { n: 1 })] }), "put", 1, "part"), null);
    assert.equal(await read(store, "part", [1, "x"]), null);
  },
  "delete removes the record everywhere": async (store) => {
    const [id] = await fill(store, [{ key: "k", title: "t" }, { title: "u" }]);
    await write(store, remove("item", id!));
    assert.equal(await read(store, "item", id!), null);
    assert.equal(await store.count("item"), 1);
    assert.deepEqual(await store.list("item", { index: "key" }), []);
  },
  "deleting what is not there is fine": async (store) => {
    await write(store, remove("item", 12), remove("counter", "none"), remove("part", [1, "none"]));
    await write(store, addItem({ id: 1 }), remove("item", 1), remove("item", 1));
    assert.equal(await store.count("item"), 0);
  },
  "a record put again after its delete has nothing of the old one": async (store) => {
    await write(store, put("counter", { id: "c", n: 5, label: "old", extra: 1 }));
    await write(store, remove("counter", "c"), put("counter", { id: "c", amount: 0.5 }));
    const record = await holds(store, "counter", "c", { n: null, label: null, amount: 0.5 });
    assert.ok(!("extra" in record));
    await write(store, remove("counter", "c"));
    await write(store, put("counter", { id: "c", n: 1 }));
    await holds(store, "counter", "c", { n: 1, amount: null });
  },
  "a composite key is inserted, replaced, changed and deleted": async (store) => {
    await write(store, put("part", { item_id: 1, name: "a", n: 1 }), put("part", { item_id: 1, name: "b", n: 2 }), put("part", { item_id: 2, name: "a", n: 3 }));
    await write(store, put("part", { item_id: 1, name: "a", value: [1] }), set("part", [1, "b"], { n: 20 }), remove("part", [2, "a"]));
    await holds(store, "part", [1, "a"], { n: null, value: [1] });
    await holds(store, "part", [1, "b"], { n: 20 });
    assert.equal(await read(store, "part", [2, "a"]), null);
  },
  "parts of a composite key never run together": async (store) => {
    const keys: [string, string][] = [["a\u0001b", "c"], ["a", "b\u0001c"], ["a,b", "c"], ["a", "b,c"], ["", "ab"], ["ab", ""], ['a"', "b"], ["a", '"b'], ["a\u0001b\u0001c", ""]];
    for (const [i, [left, right]] of keys.entries()) await write(store, put("group", { left, right, order: i }));
    assert.equal(await store.count("group"), keys.length);
    for (const [i, record] of (await store.get("group", keys)).entries()) fits(record, { order: i });
  },
  "kinds and fields may be called after words of SQL": async (store) => {
    await write(store, put("group", { left: "a", right: "b", order: 2, select: true }), put("group", { left: "a", right: "c", order: 1, select: false }));
    await write(store, set("group", ["a", "b"], { order: 0, select: null }));
    const records = await store.list("group", { index: "order" });
    assert.deepEqual(records.map((record) => [record["right"], record["order"], record["select"]]), [["b", 0, null], ["c", 1, false]]);
  },
  "a record without its key is refused": async (store) => {
    const results = await store.commit([{ puts: [put("counter", { n: 1 })] }, { puts: [put("part", { item_id: 1 })] }, { puts: [put("counter", { id: null })] }, { puts: [addItem()] }]);
    for (const result of results.slice(0, 3)) refused(result);
    succeeded(results[3]);
    assert.equal(await store.count("counter"), 0);
  },
  "a set cannot change the key": async (store) => {
    await write(store, addItem({ id: 1 }), put("part", { item_id: 1, name: "a" }));
    refused(await commit(store, { puts: [set("item", 1, { id: 2 })] }));
    refused(await commit(store, { puts: [set("part", [1, "a"], { name: "b" })] }));
    await write(store, set("item", 1, { id: 1, title: "same" }));
    assert.deepEqual(idsOf(await store.list("item")), [1]);
    await holds(store, "part", [1, "a"], {});
  },
  "a key with the wrong number of parts is refused": async (store) => {
    refused(await commit(store, { puts: [set("part", 1, { n: 1 })] }), "internal");
    refused(await commit(store, { puts: [remove("item", [1, "a"])] }), "internal");
  },
});

const objects = cases("objects", {
  "the caller's change is not written to": async (store) => {
    const change: Change = { guards: [], puts: [addItem({ title: "t", data: { a: [1] } }), put("note", { item_id: { $new: 0 }, text: "x" }), addEvent({ $new: 0 }, "made")] };
    const before = JSON.stringify(change);
    succeeded(await commit(store, change));
    assert.equal(JSON.stringify(change), before);
  },
  "a frozen change is taken": async (store) => {
    const frozen = Object.freeze({ puts: Object.freeze([Object.freeze(addItem(Object.freeze({ data: Object.freeze({ a: 1 }) })))]) });
    succeeded(await commit(store, frozen as Change));
  },
  "what the caller does to its value afterwards does not reach the store": async (store) => {
    const inner = { list: [1, 2], name: "a" };
    const record: { [field: string]: never } = { id: 1, title: "t", data: { inner } } as never;
    await write(store, addItem(record));
    attempt(() => void inner.list.push(3));
    attempt(() => void (inner.name = "changed"));
    attempt(() => void (record["title"] = "changed" as never));
    await holds(store, "item", 1, { title: "t", data: { inner: { list: [1, 2], name: "a" } } });
  },
  "what the caller does to a record it was given does not reach the store": async (store) => {
    await write(store, addItem({ id: 1, title: "t", data: { list: [1] } }));
    const failed = await commit(store, { guards: [{ kind: "item", key: 1, absent: true }], puts: [] });
    const given = [await read(store, "item", 1), (await store.list("item"))[0]!, (await store.list("item", { index: "name" }))[0]!, conflict(failed, "guard", 0, "item")];
    for (const record of given as { title: string; data: { list: number[] } }[]) {
      attempt(() => void (record.title = "changed"));
      attempt(() => void record.data.list.push(2));
    }
    await holds(store, "item", 1, { title: "t", data: { list: [1] } });
    assert.equal((await store.list("item", { index: "name", equals: { title: "t" } })).length, 1);
  },
  "a record read before a write keeps its old values": async (store) => {
    await write(store, addItem({ id: 1, title: "old", data: { n: 1 } }));
    const before = await read(store, "item", 1);
    await write(store, set("item", 1, { title: "new", data: { n: 2 } }));
    fits(before, { title: "old", data: { n: 1 } });
  },
});

/** A store may have frozen the object; then the change fails, which is fine. */
function attempt(change: () => void): void {
  try {
    change();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
}

export const commitCases: readonly ConformanceCase[] = [...batch, ...whole, ...puts, ...objects];

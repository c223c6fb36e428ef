// Conformance: what settles a race. Guards, unique indexes, bounded additions and operation ids: each loser is told
// what was in the way and how it looks now, and nothing of what it wanted is written.
import assert from "node:assert/strict";
import { absent, addItem, cases, commit, conflict, fill, fits, holds, is, put, read, refused, remove, set, succeeded, upTo, write, type ConformanceCase } from "./model.ts";
import type { Addition, Change, Guard, Scalar, Store } from "../store.ts";

/** Does a guard of these fields hold on item 1? */
async function passes(store: Store, fields: { [field: string]: Scalar }): Promise<boolean> {
  const result = await commit(store, { guards: [is("item", 1, fields)], puts: [] });
  if (!result.ok) conflict(result, "guard", 0, "item");
  return result.ok;
}

const keyFree = (key: Scalar): Guard => ({ kind: "item", unique: "key", values: { key }, absent: true });

const guards = cases("guards", {
  "is compares text exactly": async (store) => {
    await write(store, addItem({ id: 1, title: "Straße é" }));
    assert.ok(await passes(store, { title: "Straße é" }));
    for (const other of ["straße é", "Straße é ", "Strasse é", "Straße e\u0301", ""]) assert.ok(!(await passes(store, { title: other })), other);
  },
  "is compares integers": async (store) => {
    await write(store, addItem({ id: 1, priority: 0, revision: Number.MAX_SAFE_INTEGER }));
    assert.ok(await passes(store, { priority: 0, revision: Number.MAX_SAFE_INTEGER }));
    assert.ok(!(await passes(store, { revision: Number.MAX_SAFE_INTEGER - 1 })));
    assert.ok(!(await passes(store, { priority: null })));
  },
  "is compares real numbers exactly": async (store) => {
    await write(store, addItem({ id: 1, score: 0.1 }));
    assert.ok(await passes(store, { score: 0.1 }));
    assert.ok(!(await passes(store, { score: 0.1 + Number.EPSILON })));
  },
  "is compares booleans": async (store) => {
    await write(store, addItem({ id: 1, flag: false }));
    assert.ok(await passes(store, { flag: false }));
    assert.ok(!(await passes(store, { flag: true })));
    assert.ok(!(await passes(store, { flag: null })));
  },
  "is null holds for an unset field only": async (store) => {
    await write(store, addItem({ id: 1, title: "", data: { a: 1 } }));
    assert.ok(await passes(store, { status: null, priority: null, flag: null, score: null }));
    assert.ok(!(await passes(store, { title: null })));
    assert.ok(!(await passes(store, { data: null })));
  },
  "is on a json field compares a scalar": async (store) => {
    await write(store, addItem({ id: 1, data: "x" }));
    assert.ok(await passes(store, { data: "x" }));
    assert.ok(!(await passes(store, { data: "y" })));
    await write(store, set("item", 1, { data: 5 }));
    assert.ok(await passes(store, { data: 5 }));
    await write(store, set("item", 1, { data: true }));
    assert.ok(await passes(store, { data: true }));
    assert.ok(!(await passes(store, { data: "true" })));
  },
  "is does not match a value of another type": async (store) => {
    await write(store, addItem({ id: 1, priority: 1, title: "1", flag: true, score: 2 }));
    const others: { [field: string]: Scalar }[] = [{ priority: "1" }, { title: 1 }, { flag: 1 }, { flag: "true" }, { score: "2" }];
    for (const fields of others) assert.ok(!(await passes(store, fields)), JSON.stringify(fields));
  },
  "is with several fields wants all of them": async (store) => {
    await write(store, addItem({ id: 1, status: "a", priority: 2 }));
    assert.ok(await passes(store, { status: "a", priority: 2, owner: null }));
    assert.ok(!(await passes(store, { status: "a", priority: 3 })));
  },
  "is without fields wants the record to exist": async (store) => {
    await write(store, addItem({ id: 1 }));
    assert.ok(await passes(store, {}));
    await write(store, remove("item", 1));
    assert.ok(!(await passes(store, {})));
  },
  "is on a missing record is a conflict without a record": async (store) => {
    assert.equal(conflict(await commit(store, { guards: [is("item", 1, { owner: null })], puts: [addItem({ id: 5 })] }), "guard", 0, "item"), null);
    assert.equal(await read(store, "item", 5), null);
  },
  "absent holds only while there is no such record": async (store) => {
    const change: Change = { guards: [absent("counter", "c")], puts: [put("counter", { id: "c", n: 1 })] };
    succeeded(await commit(store, change));
    fits(conflict(await commit(store, change), "guard", 0, "counter"), { id: "c", n: 1 });
    await write(store, remove("counter", "c"));
    succeeded(await commit(store, change));
  },
  "unique absent holds only while the values are free, and shows who has them": async (store) => {
    succeeded(await commit(store, { guards: [keyFree("k")], puts: [addItem({ id: 4, key: "k" })] }));
    fits(conflict(await commit(store, { guards: [keyFree("k")], puts: [addItem()] }), "guard", 0, "item"), { id: 4, key: "k" });
    await write(store, set("item", 4, { key: "other" }));
    succeeded(await commit(store, { guards: [keyFree("k")], puts: [] }));
  },
  "unique absent on two fields wants both to match": async (store) => {
    await write(store, addItem({ id: 1, batch: "b", slot: 1 }));
    const free = (batch: string, slot: number) => commit(store, { guards: [{ kind: "item", unique: "slot", values: { batch, slot }, absent: true }], puts: [] });
    succeeded(await free("b", 2));
    succeeded(await free("c", 1));
    fits(conflict(await free("b", 1), "guard", 0, "item"), { id: 1 });
  },
  "an unknown unique index is refused": async (store) => {
    refused(await commit(store, { guards: [{ kind: "item", unique: "ghost", values: {}, absent: true }], puts: [] }), "internal");
  },
  "a guard may be on a record the change does not write": async (store) => {
    await write(store, addItem({ id: 1, status: "open" }), put("counter", { id: "c", n: 0 }));
    const change: Change = { guards: [is("item", 1, { status: "open" })], puts: [set("counter", "c", { n: 1 })] };
    succeeded(await commit(store, change));
    await write(store, set("item", 1, { status: "shut" }));
    fits(conflict(await commit(store, change), "guard", 0, "item"), { status: "shut" });
  },
  "a guard names a record by its composite key": async (store) => {
    await write(store, put("part", { item_id: 1, name: "a", n: 1 }));
    succeeded(await commit(store, { guards: [is("part", [1, "a"], { n: 1 }), absent("part", [1, "b"])], puts: [] }));
    fits(conflict(await commit(store, { guards: [absent("part", [1, "a"])], puts: [] }), "guard", 0, "part"), { n: 1 });
  },
  "of several guards the first that fails is named": async (store) => {
    await write(store, addItem({ id: 1, title: "one" }), addItem({ id: 2, title: "two" }), put("counter", { id: "c", n: 3 }));
    const all = [is("item", 1, { title: "one" }), is("counter", "c", { n: 4 }), is("item", 2, { title: "x" })];
    fits(conflict(await commit(store, { guards: all, puts: [] }), "guard", 1, "counter"), { n: 3 });
    fits(conflict(await commit(store, { guards: [all[0]!, all[2]!, all[1]!], puts: [] }), "guard", 1, "item"), { id: 2 });
  },
  "guards are checked before the puts of their own change": async (store) => {
    await write(store, addItem({ id: 1, status: "a" }));
    succeeded(await commit(store, { guards: [is("item", 1, { status: "a" })], puts: [set("item", 1, { status: "b" })] }));
    conflict(await commit(store, { guards: [is("item", 1, { status: "c" })], puts: [set("item", 1, { status: "c" })] }), "guard", 0, "item");
    conflict(await commit(store, { guards: [is("item", 1, { status: "x" })], puts: [set("item", 99, {})] }), "guard", 0, "item");
  },
  "the record of a conflict is complete and as the batch has it by then": async (store) => {
    await write(store, addItem({ id: 1, status: "a" }));
    const results = await store.commit([{ puts: [set("item", 1, { status: "b", extra: 1 })] }, { guards: [is("item", 1, { status: "a" })], puts: [] }]);
    const record = conflict(results[1], "guard", 0, "item");
    fits(record, { id: 1, status: "b", extra: 1, key: null, flag: null, data: null });
    assert.deepEqual(record, await read(store, "item", 1));
  },
  "a guard with text no store can hold fails alone": async (store) => {
    const results = await store.commit([{ guards: [keyFree("a\0b"), is("counter", "\ud800", { label: "\0" })], puts: [addItem({ id: 1 })] }, { puts: [addItem({ id: 2 })] }]);
    assert.deepEqual(results.map((result) => result.ok), [false, true]);
    assert.equal(await read(store, "item", 1), null);
  },
});

const unique = cases("unique", {
  "a put that takes another's value is a conflict that shows it": async (store) => {
    await write(store, addItem({ id: 4, key: "k", title: "mine" }));
    fits(conflict(await commit(store, { puts: [addItem({ id: 5 }), addItem({ key: "k" })] }), "put", 1, "item"), { id: 4, key: "k", title: "mine", status: null });
    assert.equal(await read(store, "item", 5), null);
  },
  "a set that takes another's value is a conflict that shows it": async (store) => {
    await write(store, addItem({ id: 1, key: "a" }), addItem({ id: 2, key: "b" }));
    fits(conflict(await commit(store, { puts: [set("item", 2, { key: "a", title: "x" })] }), "put", 0, "item"), { id: 1 });
    await holds(store, "item", 2, { key: "b", title: null });
  },
  "two puts of one change cannot share a value": async (store) => {
    conflict(await commit(store, { puts: [addItem({ key: "k" }), addItem({ key: "k" })] }), "put", 1, "item");
    assert.equal(await store.count("item"), 0);
  },
  "of two changes of a batch the first has the value": async (store) => {
    const results = await store.commit([{ puts: [addItem({ key: "k", title: "first" })] }, { puts: [addItem({ key: "k", title: "second" })] }]);
    succeeded(results[0]);
    fits(conflict(results[1], "put", 0, "item"), { title: "first" });
  },
  "of a hundred concurrent inserts of one value one wins": async (store) => {
    const results = await Promise.all(upTo(100).map(() => commit(store, { puts: [addItem({ key: "k" })] })));
    assert.equal(results.filter((result) => result.ok).length, 1);
    const winner = succeeded(results.find((result) => result.ok))[0];
    for (const result of results) if (!result.ok) fits(conflict(result, "put", 0, "item"), { id: winner! });
    assert.equal(await store.count("item"), 1);
  },
  "a record keeps its own value through put and set": async (store) => {
    await write(store, addItem({ id: 1, key: "k" }));
    await write(store, addItem({ id: 1, key: "k", title: "again" }), set("item", 1, { key: "k", status: "s" }));
    await holds(store, "item", 1, { key: "k", title: "again", status: "s" });
  },
  "null never collides": async (store) => {
    await fill(store, [{ key: null }, { key: null }, {}, { batch: "b" }, { batch: "b" }, { slot: 1 }, { slot: 1 }]);
    assert.equal(await store.count("item"), 7);
  },
  "an empty text and zero are values and do collide": async (store) => {
    await write(store, addItem({ key: "", batch: "", slot: 0 }));
    conflict(await commit(store, { puts: [addItem({ key: "" })] }), "put", 0, "item");
    conflict(await commit(store, { puts: [addItem({ batch: "", slot: 0 })] }), "put", 0, "item");
  },
  "a value is free again after a delete": async (store) => {
    const [id] = await fill(store, [{ key: "k" }]);
    await write(store, remove("item", id!));
    await write(store, addItem({ key: "k" }));
    assert.equal(await store.count("item", { index: "key", equals: { key: "k" } }), 1);
  },
  "a value is free again after a change, a clearing and a replacement": async (store) => {
    await write(store, addItem({ id: 1, key: "a" }), addItem({ id: 2, key: "b" }), addItem({ id: 3, key: "c" }));
    await write(store, set("item", 1, { key: "z" }), set("item", 2, { key: null }), addItem({ id: 3 }));
    await fill(store, [{ key: "a" }, { key: "b" }, { key: "c" }]);
    assert.equal(await store.count("item", { index: "key" }), 4);
  },
  "a value freed earlier in a change can be taken later in it, not the other way round": async (store) => {
    await write(store, addItem({ id: 1, key: "k" }), addItem({ id: 2 }));
    fits(conflict(await commit(store, { puts: [set("item", 2, { key: "k" }), set("item", 1, { key: null })] }), "put", 0, "item"), { id: 1 });
    await write(store, set("item", 1, { key: null }), set("item", 2, { key: "k" }));
    await holds(store, "item", 2, { key: "k" });
  },
  "a value taken by a failed change is free": async (store) => {
    conflict(await commit(store, { puts: [addItem({ key: "k" }), set("item", 99, {})] }), "put", 1, "item");
    await write(store, addItem({ key: "k" }));
  },
  "a value freed by a failed change is still taken": async (store) => {
    await write(store, addItem({ id: 1, key: "k" }));
    conflict(await commit(store, { puts: [set("item", 1, { key: "z" }), set("item", 99, {})] }), "put", 1, "item");
    fits(conflict(await commit(store, { puts: [addItem({ key: "k" })] }), "put", 0, "item"), { id: 1 });
    await write(store, addItem({ key: "z" }));
  },
  "two fields collide only together": async (store) => {
    await fill(store, [{ batch: "a", slot: 1 }, { batch: "a", slot: 2 }, { batch: "b", slot: 1 }]);
    fits(conflict(await commit(store, { puts: [addItem({ batch: "a", slot: 2 })] }), "put", 0, "item"), { id: 2 });
  },
  "values are compared by code point: case, accents and spaces count": async (store) => {
    const keys = ["k", "K", "k ", " k", "é", "e\u0301", "e", "ß", "ss", "1", "01", "1.0"];
    const ids = await fill(store, keys.map((key) => ({ key })));
    for (const [i, key] of keys.entries()) {
      assert.deepEqual((await store.list("item", { index: "key", equals: { key } })).map((record) => record["id"]), [ids[i]]);
    }
  },
});

const add = (key: string, n: number, max?: number, field = "n"): Addition => ({ kind: "counter", key, field, n, ...(max === undefined ? {} : { max }) });
const adding = (...additions: Addition[]): Change => ({ puts: [], additions });

const additions = cases("additions", {
  "add to what is there": async (store) => {
    await write(store, put("counter", { id: "c", n: 5, label: "kept", extra: 1 }));
    succeeded(await commit(store, adding(add("c", 3))));
    await holds(store, "counter", "c", { n: 8, label: "kept", extra: 1 });
  },
  "null counts as zero": async (store) => {
    await write(store, put("counter", { id: "c" }));
    succeeded(await commit(store, adding(add("c", 3), add("c", 0.5, undefined, "amount"))));
    await holds(store, "counter", "c", { n: 3, amount: 0.5 });
  },
  "the bound may be reached, not passed": async (store) => {
    await write(store, put("counter", { id: "c", n: 5 }));
    succeeded(await commit(store, adding(add("c", 5, 10))));
    fits(conflict(await commit(store, adding(add("c", 1, 10))), "addition", 0, "counter"), { id: "c", n: 10 });
    await holds(store, "counter", "c", { n: 10 });
  },
  "zero may be reached, not passed": async (store) => {
    await write(store, put("counter", { id: "c", n: 5 }));
    succeeded(await commit(store, adding(add("c", -5))));
    fits(conflict(await commit(store, adding(add("c", -1))), "addition", 0, "counter"), { n: 0 });
  },
  "without a bound there is none": async (store) => {
    await write(store, put("counter", { id: "c", n: 0 }));
    succeeded(await commit(store, adding(add("c", 2 ** 50))));
    await holds(store, "counter", "c", { n: 2 ** 50 });
  },
  "to a missing record is a conflict without one": async (store) => {
    assert.equal(conflict(await commit(store, adding(add("none", 1))), "addition", 0, "counter"), null);
    assert.equal(await read(store, "counter", "none"), null);
  },
  "several in a change are applied in order and fail together": async (store) => {
    await write(store, put("counter", { id: "c", n: 0 }), put("counter", { id: "d", n: 0 }));
    succeeded(await commit(store, adding(add("c", 4, 10), add("d", 1), add("c", 6, 10), add("c", -1))));
    await holds(store, "counter", "c", { n: 9 });
    fits(conflict(await commit(store, adding(add("d", 1), add("c", 1, 10), add("c", 1, 10))), "addition", 2, "counter"), { id: "c" });
    await holds(store, "counter", "c", { n: 9 });
    await holds(store, "counter", "d", { n: 1 });
  },
  "several in a batch to one record are applied in order": async (store) => {
    await write(store, put("counter", { id: "c", n: 0 }));
    const results = await store.commit([5, 4, 3, 1, 1].map((n) => adding(add("c", n, 10))));
    assert.deepEqual(results.map((result) => result.ok), [true, true, false, true, false]);
    fits(conflict(results[2], "addition", 0, "counter"), { n: 9 });
    await holds(store, "counter", "c", { n: 10 });
  },
  "see what their own change put": async (store) => {
    succeeded(await commit(store, { puts: [put("counter", { id: "c", n: 2 }), set("counter", "c", { n: 7 })], additions: [add("c", 1, 8)] }));
    await holds(store, "counter", "c", { n: 8 });
  },
  "a hundred callers spend exactly the budget": async (store) => {
    await write(store, put("counter", { id: "c", n: 0 }));
    const results = await Promise.all(upTo(100).map((i) => commit(store, { puts: [addItem({ priority: i })], additions: [add("c", 3, 100)] })));
    assert.equal(results.filter((result) => result.ok).length, 33);
    await holds(store, "counter", "c", { n: 99 });
    assert.equal(await store.count("item"), 33);
  },
  "move the record in its indexes": async (store) => {
    await write(store, put("counter", { id: "a", n: 1 }), put("counter", { id: "b", n: 2 }));
    succeeded(await commit(store, adding(add("a", 5))));
    assert.deepEqual((await store.list("counter", { index: "n" })).map((record) => record["id"]), ["b", "a"]);
    assert.equal(await store.count("counter", { index: "n", from: 6 }), 1);
  },
  "add real numbers as JavaScript does": async (store) => {
    await write(store, put("counter", { id: "c", amount: 0.1 }));
    succeeded(await commit(store, adding(add("c", 0.2, 1, "amount"), add("c", 0.7, 2, "amount"))));
    await holds(store, "counter", "c", { amount: 0.1 + 0.2 + 0.7 });
  },
  "a sum that no field can hold is refused": async (store) => {
    await write(store, put("counter", { id: "c", n: 1 }));
    const results = await store.commit([add("c", NaN), add("c", 0.5), add("c", Number.MAX_SAFE_INTEGER), add("c", 1, undefined, "label")].map((addition) => adding(addition)).concat(adding(add("c", 1))));
    for (const result of results.slice(0, 3)) refused(result);
    assert.equal(results[3]!.ok, false, "a text field cannot be added to");
    succeeded(results[4]);
    await holds(store, "counter", "c", { n: 2, label: null });
  },
});

const once = (op_id: string, ...change: Parameters<typeof addItem>): Change => ({ op_id, puts: [addItem(...change)] });

const operations = cases("op_id", {
  "the second commit of an id says repeated and writes nothing": async (store) => {
    succeeded(await commit(store, once("o1", { title: "first" })));
    const again = await commit(store, once("o1", { title: "second" }));
    assert.ok(again.ok && again.repeated === true);
    assert.deepEqual((await store.list("item")).map((record) => record["title"]), ["first"]);
  },
  "the first commit of an id does not say repeated": async (store) => {
    const [a, b] = await store.commit([once("o1"), once("o2")]);
    assert.ok(a!.ok && a.repeated === undefined && b!.ok && b.repeated === undefined);
    assert.equal(await store.count("item"), 2);
  },
  "holds within a batch": async (store) => {
    const results = await store.commit([once("o1", { title: "a" }), once("o1", { title: "b" }), once("o2", { title: "c" })]);
    assert.deepEqual(results.map((result) => result.ok && result.repeated === true), [false, true, false]);
    assert.equal(await store.count("item"), 2);
  },
  "a failed change does not use its id up": async (store) => {
    conflict(await commit(store, { op_id: "o1", guards: [is("item", 99, {})], puts: [addItem()] }), "guard", 0, "item");
    refused(await commit(store, { op_id: "o1", puts: [addItem({ title: 5 as never })] }));
    conflict(await commit(store, { op_id: "o1", puts: [], additions: [add("none", 1)] }), "addition", 0, "counter");
    const result = await commit(store, once("o1"));
    assert.ok(result.ok && result.repeated === undefined);
  },
  "is answered before the guards, which its own first commit may have broken": async (store) => {
    const change: Change = { op_id: "o1", guards: [absent("counter", "c")], puts: [put("counter", { id: "c", n: 1 })], additions: [add("c", 1, 2)] };
    succeeded(await commit(store, change));
    const again = await commit(store, change);
    assert.ok(again.ok && again.repeated);
    await holds(store, "counter", "c", { n: 2 });
  },
  "fifty callers with one id write once": async (store) => {
    const results = await Promise.all(upTo(50).map(() => commit(store, once("o1"))));
    assert.equal(results.filter((result) => result.ok && !result.repeated).length, 1);
    assert.equal(results.filter((result) => result.ok && result.repeated).length, 49);
    assert.equal(await store.count("item"), 1);
  },
  "a change that writes nothing else is remembered too": async (store) => {
    succeeded(await commit(store, { op_id: "o1", puts: [] }));
    const again = await commit(store, once("o1"));
    assert.ok(again.ok && again.repeated);
    assert.equal(await store.count("item"), 0);
  },
  "an id that cannot be kept is refused alone": async (store) => {
    const results = await store.commit([once("a\0b"), once("o2")]);
    refused(results[0]);
    succeeded(results[1]);
    assert.equal(await store.count("item"), 1);
  },
  "holds in a claim": async (store) => {
    await fill(store, [{ status: "pending", flag: true, priority: 1 }]);
    const order = { kind: "item", queries: [{ index: "due" }], order: ["priority"], limit: 1 };
    const take = () => store.claim(order, () => ({ op_id: "o1", puts: [put("note", { text: "claimed" })] }));
    succeeded(await take());
    const again = await take();
    assert.ok(again?.ok && again.repeated);
    assert.equal(await store.count("note"), 1);
  },
});

export const raceCases: readonly ConformanceCase[] = [...guards, ...unique, ...additions, ...operations];

// Conformance: ids the store assigns (they count up, are never used twice, and `$new` names one not yet known) and the
// chains it seals (no gap, no fork, whatever else happens in the same batch).
import assert from "node:assert/strict";
import { addEvent, addItem, cases, commit, conflict, fill, fits, holds, idsOf, is, put, read, refused, remove, set, succeeded, UNSEALABLE, upTo, wholeChain, write, type ConformanceCase } from "./model.ts";

const ids = cases("ids", {
  "count up from one": async (store) => {
    assert.deepEqual(await fill(store, [{}, {}, {}]), [1, 2, 3]);
    assert.deepEqual(await write(store, addItem()), [4]);
  },
  "with a prefix count up from one": async (store) => {
    assert.deepEqual(await write(store, put("note", {}), put("note", {})), ["n1", "n2"]);
    assert.deepEqual(idsOf(await store.list("note")), ["n1", "n2"]);
  },
  "of each kind count alone": async (store) => {
    await fill(store, [{}, {}]);
    assert.deepEqual(await write(store, put("note", {}), addItem()), ["n1", 3]);
  },
  "are told at the place of their put": async (store) => {
    const told = await write(store, put("counter", { id: "c" }), addItem(), set("counter", "c", { n: 1 }), put("note", {}), put("part", { item_id: 1, name: "p" }));
    assert.equal(told[0], undefined);
    assert.equal(told[1], 1);
    assert.equal(told[2], undefined);
    assert.equal(told[3], "n1");
    assert.equal(told[4], undefined);
  },
  "are told as an empty list when none was assigned": async (store) => {
    assert.deepEqual(await write(store, put("counter", { id: "c" }), addItem({ id: 7 })), []);
  },
  "null and undefined ask for one": async (store) => {
    assert.deepEqual(await write(store, addItem({ id: null }), addItem({ id: undefined }), put("note", { id: null })), [1, 2, "n1"]);
  },
  "$new stands for an id in a later put": async (store) => {
    await fill(store, [{}, {}]);
    const told = await write(store, addItem({ title: "parent" }), put("note", { item_id: { $new: 0 }, text: "a" }), put("note", { item_id: { $new: 0 }, text: "b" }));
    assert.equal(told[0], 3);
    for (const id of ["n1", "n2"]) await holds(store, "note", id, { item_id: 3 });
  },
  "$new stands for a prefix id too": async (store) => {
    const told = await write(store, put("note", {}), put("part", { item_id: 1, name: "p", note_id: { $new: 0 } }), addItem({ owner: { $new: 0 } }));
    await holds(store, "part", [1, "p"], { note_id: "n1" });
    await holds(store, "item", told[2]!, { owner: "n1" });
  },
  "$new of several puts are kept apart": async (store) => {
    const told = await write(store, addItem(), addItem(), put("note", { item_id: { $new: 1 } }), put("note", { item_id: { $new: 0 } }), set("item", 77, { title: "x" })).catch(() => null);
    assert.equal(told, null, "the set of a missing record fails the change");
    await write(store, addItem(), addItem(), put("note", { item_id: { $new: 1 }, text: "second" }), put("note", { item_id: { $new: 0 }, text: "first" }));
    const notes = await store.list("note");
    const by = (text: string) => notes.find((note) => note["text"] === text)!["item_id"] as number;
    assert.equal(by("second"), by("first") + 1);
  },
  "$new may be part of a key, of a set and of a unique value": async (store) => {
    const told = await write(store, addItem({ id: 50 }), addItem(), put("part", { item_id: { $new: 1 }, name: "p" }), set("item", 50, { slot: { $new: 1 } }), addItem({ batch: "b", slot: { $new: 1 } }));
    assert.equal(told[1], 51);
    assert.ok(await read(store, "part", [51, "p"]));
    await holds(store, "item", 50, { slot: 51 });
    assert.equal((await store.list("item", { index: "slot", equals: { batch: "b", slot: 51 } })).length, 1);
  },
  "$new is per change, not per batch": async (store) => {
    const results = await store.commit(upTo(3).map(() => ({ puts: [addItem(), put("note", { item_id: { $new: 0 } })] })));
    const pairs = results.map((result) => succeeded(result));
    for (const [id, note] of pairs) await holds(store, "note", note!, { item_id: id! });
    assert.equal(new Set(pairs.map(([id]) => id)).size, 3);
  },
  "$new of a put that was assigned none is refused": async (store) => {
    const results = await store.commit([
      { puts: [put("counter", { id: "c" }), put("note", { item_id: { $new: 0 } })] },
      { puts: [put("note", { item_id: { $new: 5 } })] },
      { puts: [addItem()] },
    ]);
    refused(results[0], "internal");
    refused(results[1], "internal");
    succeeded(results[2]);
    assert.equal(await store.count("note"), 0);
    assert.equal(await read(store, "counter", "c"), null);
  },
  "a json value that looks like $new is a value": async (store) => {
    await write(store, addItem({ id: 5, data: { $new: 0 } as never, extra: { $new: 7 } as never }), put("part", { item_id: 1, name: "p", value: { $new: 0 } as never }));
    await holds(store, "item", 5, { data: { $new: 0 } as never, extra: { $new: 7 } as never });
    await holds(store, "part", [1, "p"], { value: { $new: 0 } as never });
  },
  "an explicit id raises the counter": async (store) => {
    await write(store, addItem({ id: 40 }), put("note", { id: "n12" }));
    assert.deepEqual(await write(store, addItem(), put("note", {})), [41, "n13"]);
  },
  "a smaller explicit id does not lower it": async (store) => {
    await write(store, addItem({ id: 40 }), addItem({ id: 3 }));
    assert.deepEqual(await write(store, addItem()), [41]);
    assert.deepEqual(idsOf(await store.list("item")), [3, 40, 41]);
  },
  "an explicit id without the prefix is kept and counts for nothing": async (store) => {
    await write(store, put("note", { id: "zebra" }), put("note", { id: "n" }));
    assert.deepEqual(await write(store, put("note", {})), ["n1"]);
    assert.deepEqual(idsOf(await store.list("note")), ["n", "n1", "zebra"]);
  },
  "are not used again after the highest was deleted": async (store) => {
    await fill(store, [{}, {}, {}]);
    await write(store, remove("item", 3), remove("item", 2));
    assert.deepEqual(await write(store, addItem()), [4]);
    await write(store, put("note", {}));
    await write(store, remove("note", "n1"));
    assert.deepEqual(await write(store, put("note", {})), ["n2"]);
  },
  "are not used again after a delete in the same change": async (store) => {
    const [id] = await fill(store, [{}]);
    const told = await write(store, remove("item", id!), addItem(), remove("item", id! + 1), addItem());
    assert.deepEqual([told[1], told[3]], [2, 3]);
  },
  "are not used twice after a failed change": async (store) => {
    await fill(store, [{}]);
    const results = await store.commit([{ puts: [addItem({ title: "x" }), set("item", 99, {})] }, { puts: [addItem()] }, { puts: [addItem({ title: "\0" })] }, { puts: [addItem()] }]);
    const [a, b] = [succeeded(results[1])[0] as number, succeeded(results[3])[0] as number];
    assert.ok(a > 1 && b > a, `${a}, ${b}`);
    assert.deepEqual(idsOf(await store.list("item")), [1, a, b]);
  },
  "of concurrent commits are all different and grow for one after the other": async (store) => {
    const told = await Promise.all(upTo(100).map(async () => [(await write(store, addItem()))[0], (await write(store, addItem()))[0]] as number[]));
    assert.equal(new Set(told.flat()).size, 200);
    for (const [first, second] of told) assert.ok(first! < second!);
  },
  "stay with a record that is replaced": async (store) => {
    await fill(store, [{ title: "a" }]);
    assert.deepEqual(await write(store, addItem({ id: 1, title: "b" })), []);
    assert.deepEqual(idsOf(await store.list("item")), [1]);
    assert.deepEqual(await write(store, addItem()), [2]);
  },
  "of records put by a claim are assigned and told too": async (store) => {
    const result = await store.claim({ kind: "item", queries: [{ index: "due" }], order: ["priority"], limit: 1 }, () => ({ puts: [addItem(), put("note", { item_id: { $new: 0 } })] }));
    assert.deepEqual(succeeded(result), [1, "n1"]);
    await holds(store, "note", "n1", { item_id: 1 });
  },
});

const chain = cases("chain", {
  "the first of a group has no predecessor, the next has it": async (store) => {
    await write(store, addEvent(1, "a"));
    await write(store, addEvent(1, "b"));
    await write(store, addEvent(1, "c"));
    assert.deepEqual((await wholeChain(store, 1)).map((event) => event["what"]), ["a", "b", "c"]);
  },
  "several events of one group in one change": async (store) => {
    await write(store, addEvent(1, "a"), addEvent(1, "b"), addEvent(1, "c"));
    assert.equal((await wholeChain(store, 1)).length, 3);
  },
  "several events of one group in one batch": async (store) => {
    (await store.commit(upTo(20).map((i) => ({ puts: [addEvent(1, `e${i}`)] })))).forEach(succeeded);
    assert.deepEqual((await wholeChain(store, 1)).map((event) => event["what"]), upTo(20).map((i) => `e${i}`));
  },
  "events of two groups in turn have chains of their own": async (store) => {
    (await store.commit(upTo(10).map((i) => ({ puts: [addEvent(1, `a${i}`), addEvent(2, `b${i}`), addEvent(1, `c${i}`)] })))).forEach(succeeded);
    assert.equal((await wholeChain(store, 1)).length, 20);
    assert.equal((await wholeChain(store, 2)).length, 10);
  },
  "an event may name a new record as its group": async (store) => {
    const told = await write(store, addItem(), addEvent({ $new: 0 }, "made"), addEvent({ $new: 0 }, "started"));
    assert.equal((await wholeChain(store, told[0] as number)).length, 2);
  },
  "a failed change leaves no gap": async (store) => {
    const lost = { puts: [addEvent(1, "lost"), addEvent(1, "lost too"), set("item", 99, {})] };
    await write(store, addEvent(1, "a"));
    const results = await store.commit([lost, { puts: [addEvent(1, "b")] }, lost, { puts: [addEvent(1, "c")] }]);
    conflict(results[0], "put", 2, "item");
    assert.deepEqual((await wholeChain(store, 1)).map((event) => event["what"]), ["a", "b", "c"]);
  },
  "a failed first event leaves the group without one": async (store) => {
    conflict(await commit(store, { puts: [addEvent(1, "lost"), set("item", 99, {})] }), "put", 1, "item");
    await write(store, addEvent(1, "a"));
    assert.equal((await wholeChain(store, 1)).length, 1);
  },
  "a hundred concurrent writers make one chain": async (store) => {
    await Promise.all(upTo(100).map((i) => write(store, addEvent(1, `e${i}`))));
    assert.equal((await wholeChain(store, 1)).length, 100);
  },
  "the head of a chain is never a reason for a conflict": async (store) => {
    await write(store, addItem({ id: 1, revision: 1 }), addEvent(1, "a"));
    const results = await Promise.all(upTo(10).map(() => commit(store, { guards: [is("item", 1, { revision: 1 })], puts: [addEvent(1, "b")] })));
    results.forEach(succeeded);
    assert.equal((await wholeChain(store, 1)).length, 11);
  },
  "is sealed in a claim as in a commit": async (store) => {
    await fill(store, [{ status: "pending", flag: true }]);
    await write(store, addEvent(1, "made"));
    succeeded(await store.claim({ kind: "item", queries: [{ index: "due" }], order: ["priority"], limit: 5 }, (found) => ({ puts: found.map((record) => addEvent(record["id"]!, "claimed")) })));
    assert.deepEqual((await wholeChain(store, 1)).map((event) => event["what"]), ["made", "claimed"]);
  },
  "keeps every field given, and reads back by its key": async (store) => {
    await write(store, put("event", { item_id: 1, what: "a", data: { b: [1, null] }, extra: "x" }));
    fits(await read(store, "event", [1, 1]), { what: "a", data: { b: [1, null] }, extra: "x" });
    assert.deepEqual(Object.keys((await read(store, "event", [1, 1]))!).sort(), ["data", "extra", "hash", "item_id", "seq", "what"]);
  },
  "bad data in an event is refused and leaves no gap": async (store) => {
    refused(await commit(store, { puts: [addEvent(1, "a\0")] }));
    await write(store, addEvent(1, "a"));
    assert.equal((await wholeChain(store, 1)).length, 1);
  },
  "a seal that throws leaves nothing half written": async (store) => {
    await write(store, addEvent(1, "a"));
    const batch = [{ puts: [addItem({ id: 1 })] }, { puts: [addItem({ id: 2 }), addEvent(1, UNSEALABLE)] }, { puts: [addItem({ id: 3 })] }];
    const results = await store.commit(batch).catch(() => null);
    assert.ok(results === null || !results[1]!.ok, "the change cannot have been kept");
    assert.deepEqual(idsOf(await store.list("item")), results === null ? [] : [1, 3]);
    await write(store, addItem(), addEvent(1, "b"));
    assert.deepEqual((await wholeChain(store, 1)).map((event) => event["what"]), ["a", "b"]);
  },
  "a long chain goes on in order": async (store) => {
    for (const round of upTo(3)) await store.commit(upTo(70).map((i) => ({ puts: [addEvent(1, `${round}-${i}`)] })));
    assert.deepEqual((await wholeChain(store, 1)).map((event) => event["seq"]), upTo(210).map((i) => i + 1));
  },
});

export const idCases: readonly ConformanceCase[] = [...ids, ...chain];

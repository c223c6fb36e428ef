// Conformance: reading. Keys in order, indexes in the one order of records, prefixes, ranges, pages that show every
// record exactly once, partial indexes that follow every write, and counts that agree with the lists.
import assert from "node:assert/strict";
import { LIMITS } from "../../base/limits.ts";
import { addItem, cases, commit, conflict, fill, fits, holds, idsOf, put, rejects, remove, set, upTo, valuesOf, write, type ConformanceCase } from "./model.ts";
import type { Query, Rec, Store } from "../store.ts";

/** In the order of their code points; by UTF-16 units the last ones would come before U+E000. */
const BY_CODE_POINT = ["", " ", "!", "0", "10", "9", "A", "Z", "a", "ab", "b", "\u007f", "é", "\uD7FF", "\uE000", "\uFFFD", "\u{10000}", "😀", "\u{10FFFF}"];

/** Deterministic disorder. */
const shuffled = <T>(values: readonly T[]): T[] => values.map((value, i) => [(i * 7919 + 13) % 101, value] as const).sort((a, b) => a[0] - b[0]).map(([, value]) => value);

const get = cases("get", {
  "answers in the order of the keys, null for what is missing": async (store) => {
    await fill(store, [{ title: "a" }, { title: "b" }, { title: "c" }]);
    const records = await store.get("item", [3, 99, 1, 100, 2]);
    assert.deepEqual(records.map((record) => record?.["title"] ?? null), ["c", null, "a", null, "b"]);
  },
  "a key asked for twice is answered twice": async (store) => {
    await fill(store, [{ title: "a" }]);
    assert.deepEqual((await store.get("item", [1, 1, 2, 1])).map((record) => record?.["id"] ?? null), [1, 1, null, 1]);
  },
  "no keys, no answers": async (store) => {
    assert.deepEqual(await store.get("item", []), []);
  },
  "two thousand keys at once": async (store) => {
    await fill(store, upTo(1_000).map((priority) => ({ priority })));
    const records = await store.get("item", upTo(2_000).map((i) => 2_000 - i));
    assert.equal(records.length, 2_000);
    for (const [i, record] of records.entries()) assert.equal(record?.["id"] ?? null, i < 1_000 ? null : 2_000 - i);
  },
  "text keys are exact": async (store) => {
    await write(store, put("counter", { id: "é", n: 1 }), put("counter", { id: "e\u0301", n: 2 }), put("counter", { id: "E", n: 3 }), put("counter", { id: "", n: 4 }), put("counter", { id: "1", n: 5 }), put("counter", { id: "01", n: 6 }));
    assert.deepEqual((await store.get("counter", ["", "e", "é", "e\u0301", "E", "1", "01", "1.0"])).map((record) => record?.["n"] ?? null), [4, null, 1, 2, 3, 5, 6, null]);
  },
  "every declared field is there": async (store) => {
    await write(store, addItem(), put("note", {}), put("part", { item_id: 1, name: "p" }), put("counter", { id: "c" }));
    const keys = async (kind: string, key: Parameters<Store["get"]>[1][number]) => Object.keys((await holds(store, kind, key, {}))).sort();
    assert.deepEqual(await keys("note", "n1"), ["id", "item_id", "text"]);
    assert.deepEqual(await keys("part", [1, "p"]), ["item_id", "n", "name", "note_id", "value"]);
    assert.deepEqual(await keys("counter", "c"), ["amount", "id", "label", "n", "revision"]);
    await holds(store, "part", [1, "p"], { n: null, value: null, note_id: null });
  },
  "composite keys": async (store) => {
    await write(store, put("part", { item_id: 1, name: "a", n: 1 }), put("part", { item_id: 1, name: "", n: 2 }), put("part", { item_id: 11, name: "a", n: 3 }));
    assert.deepEqual((await store.get("part", [[11, "a"], [1, ""], [1, "b"], [1, "a"]])).map((record) => record?.["n"] ?? null), [3, 2, null, 1]);
  },
  "an unknown kind and a wrong number of key parts are refused": async (store) => {
    await rejects(store.get("ghost", [1]), "internal");
    await rejects(store.get("part", [1]), "internal");
    await rejects(store.get("item", [[1, 2]]), "internal");
  },
});

const order = cases("order", {
  "by an integer key": async (store) => {
    await write(store, ...[10, 9, 100, 1, 2].map((id) => addItem({ id })));
    assert.deepEqual(idsOf(await store.list("item")), [1, 2, 9, 10, 100]);
  },
  "by a text key": async (store) => {
    for (const id of shuffled(BY_CODE_POINT)) await write(store, put("counter", { id }));
    assert.deepEqual(idsOf(await store.list("counter")), BY_CODE_POINT);
  },
  "by a composite key": async (store) => {
    for (const [item_id, name] of [[10, "a"], [9, "b"], [9, "a"], [10, ""], [-1, "z"]] as const) await write(store, put("part", { item_id, name }));
    assert.deepEqual((await store.list("part")).map((record) => [record["item_id"], record["name"]]), [[-1, "z"], [9, "a"], [9, "b"], [10, ""], [10, "a"]]);
  },
  "by the index, then by the primary key": async (store) => {
    await fill(store, [{ status: "b", priority: 1 }, { status: "a", priority: 2 }, { status: "a", priority: 1 }, { status: "b", priority: 1 }, { status: "a", priority: 2 }]);
    assert.deepEqual(idsOf(await store.list("item", { index: "status" })), [3, 2, 5, 1, 4]);
  },
  "null comes first": async (store) => {
    await fill(store, [{ status: "a", priority: -5 }, {}, { status: "a" }, { priority: 1 }, { status: "" }]);
    assert.deepEqual(idsOf(await store.list("item", { index: "status" })), [2, 4, 5, 3, 1]);
  },
  "text by code point, not by UTF-16 unit": async (store) => {
    await fill(store, shuffled(BY_CODE_POINT).map((title) => ({ title })));
    assert.deepEqual(valuesOf(await store.list("item", { index: "name" }), "title"), BY_CODE_POINT);
  },
  "numbers by value": async (store) => {
    const scores = [-1e308, -2.5, -1, -5e-324, 0, 5e-324, 0.1, 1, 2, 10, 2 ** 60, 1e308];
    await fill(store, shuffled(scores).map((score) => ({ score })));
    assert.deepEqual(valuesOf(await store.list("item", { index: "score" }), "score"), scores);
  },
  "false before true": async (store) => {
    await fill(store, [{ flag: true, score: 1 }, { flag: false, score: 2 }, {}, { flag: true, score: 0 }]);
    assert.deepEqual(idsOf(await store.list("item", { index: "flag" })), [3, 2, 4, 1]);
    assert.deepEqual(idsOf(await store.list("item", { index: "flag", equals: { flag: true } })), [4, 1]);
  },
  "reverse is the exact reverse, ties and nulls included": async (store) => {
    await fill(store, upTo(30).map((i) => ({ status: [null, "a", "b"][i % 3]!, priority: i % 4 === 0 ? null : i % 4 })));
    for (const index of ["status", "name", "free"]) {
      assert.deepEqual(idsOf(await store.list("item", { index, reverse: true })), idsOf(await store.list("item", { index })).reverse(), index);
    }
    assert.deepEqual(idsOf(await store.list("item", { reverse: true })), upTo(30).map((i) => 30 - i));
  },
  "follows a change of the indexed fields": async (store) => {
    await fill(store, [{ title: "a" }, { title: "b" }, { title: "c" }]);
    await write(store, set("item", 1, { title: "d" }), addItem({ id: 2 }));
    assert.deepEqual(idsOf(await store.list("item", { index: "name" })), [2, 3, 1]);
  },
});

const ranges = cases("ranges", {
  "equals on a prefix of an index": async (store) => {
    await fill(store, [{ status: "a", priority: 2 }, { status: "b", priority: 1 }, { status: "a", priority: 1 }, { status: "aa" }]);
    assert.deepEqual(idsOf(await store.list("item", { index: "status", equals: { status: "a" } })), [3, 1]);
    assert.deepEqual(idsOf(await store.list("item", { index: "status", equals: { status: "a", priority: 2 } })), [1]);
    assert.deepEqual(await store.list("item", { index: "status", equals: { status: "c" } }), []);
  },
  "equals on a prefix of the primary key": async (store) => {
    for (const [item_id, name] of [[1, "a"], [1, "b"], [11, "a"], [2, "a"]] as const) await write(store, put("part", { item_id, name }));
    assert.deepEqual(valuesOf(await store.list("part", { equals: { item_id: 1 } }), "name"), ["a", "b"]);
    assert.equal((await store.list("part", { equals: { item_id: 1, name: "b" } })).length, 1);
    assert.deepEqual(valuesOf(await store.list("part", { equals: { item_id: 1 }, from: "b" }), "name"), ["b"]);
  },
  "equals null finds the unset": async (store) => {
    await fill(store, [{ status: "a" }, { priority: 3 }, { priority: null }, { status: "" }]);
    assert.deepEqual(idsOf(await store.list("item", { index: "status", equals: { status: null } })), [3, 2]);
    assert.deepEqual(idsOf(await store.list("item", { index: "status", equals: { status: null, priority: 3 } })), [2]);
    assert.deepEqual(idsOf(await store.list("item", { index: "status", equals: { status: "a", priority: null } })), [1]);
  },
  "from is inclusive, to exclusive": async (store) => {
    await fill(store, upTo(10).map((score) => ({ score })));
    const scores = async (query: Query) => valuesOf(await store.list("item", { index: "score", ...query }), "score");
    assert.deepEqual(await scores({ from: 3, to: 6 }), [3, 4, 5]);
    assert.deepEqual(await scores({ from: 8 }), [8, 9]);
    assert.deepEqual(await scores({ to: 2 }), [0, 1]);
    assert.deepEqual(await scores({ from: 2.5, to: 3.5 }), [3]);
    assert.deepEqual(await scores({ from: 5, to: 5 }), []);
    assert.deepEqual(await scores({ from: 6, to: 5 }), []);
  },
  "null is outside any bound": async (store) => {
    await fill(store, [{ score: -1e300 }, {}, { score: 5 }]);
    assert.deepEqual(idsOf(await store.list("item", { index: "score", to: 6 })), [1, 3]);
    assert.deepEqual(idsOf(await store.list("item", { index: "score", from: -1e308 })), [1, 3]);
    assert.deepEqual(idsOf(await store.list("item", { index: "score", to: 6, reverse: true })), [3, 1]);
    assert.equal(await store.count("item", { index: "score", to: 6 }), 2);
  },
  "bounds on the field after the prefix": async (store) => {
    await fill(store, upTo(12).map((i) => ({ status: i % 2 === 0 ? "a" : "b", priority: i })).concat([{ status: "a", priority: null as never }]));
    assert.deepEqual(valuesOf(await store.list("item", { index: "status", equals: { status: "a" }, from: 3, to: 9 }), "priority"), [4, 6, 8]);
    assert.deepEqual(valuesOf(await store.list("item", { index: "status", equals: { status: "a" }, to: 3 }), "priority"), [0, 2]);
    assert.deepEqual(valuesOf(await store.list("item", { index: "status", equals: { status: "b" }, from: 9, reverse: true }), "priority"), [11, 9]);
  },
  "bounds on text go by code point": async (store) => {
    await fill(store, shuffled(BY_CODE_POINT).map((title) => ({ title })));
    assert.deepEqual(valuesOf(await store.list("item", { index: "name", from: "\uE000", to: "\u{10FFFF}" }), "title"), ["\uE000", "\uFFFD", "\u{10000}", "😀"]);
    assert.deepEqual(valuesOf(await store.list("item", { index: "name", from: "a", to: "b" }), "title"), ["a", "ab"]);
    assert.deepEqual(valuesOf(await store.list("item", { index: "name", to: "!" }), "title"), ["", " "]);
  },
  "bounds on the primary key": async (store) => {
    await fill(store, upTo(9).map(() => ({})));
    assert.deepEqual(idsOf(await store.list("item", { from: 4, to: 7 })), [4, 5, 6]);
    assert.deepEqual(idsOf(await store.list("item", { from: 8, reverse: true })), [9, 8]);
  },
  "limit takes the first in the direction of the query": async (store) => {
    await fill(store, upTo(10).map((i) => ({ score: 10 - i })));
    assert.deepEqual(idsOf(await store.list("item", { limit: 3 })), [1, 2, 3]);
    assert.deepEqual(idsOf(await store.list("item", { limit: 2, reverse: true })), [10, 9]);
    assert.deepEqual(idsOf(await store.list("item", { index: "score", limit: 2 })), [10, 9]);
    assert.deepEqual(idsOf(await store.list("item", { index: "score", from: 3, to: 6, reverse: true, limit: 2 })), [6, 7]);
    assert.equal((await store.list("item", { limit: 50 })).length, 10);
  },
  "a list has at most the documented number of records": async (store) => {
    const extra = 5;
    for (const round of upTo(11)) await write(store, ...upTo(round < 10 ? LIMITS.listRecords / 10 : extra).map(() => put("counter", { id: String(round), n: 1 })).map((p, i) => ({ ...p, record: { id: `${round}-${i}` } })));
    assert.equal((await store.list("counter")).length, LIMITS.listRecords);
    assert.equal((await store.list("counter", { limit: LIMITS.listRecords * 2 })).length, LIMITS.listRecords);
    assert.equal(await store.count("counter"), LIMITS.listRecords + extra);
  },
  "an empty store lists nothing": async (store) => {
    assert.deepEqual(await store.list("item"), []);
    assert.deepEqual(await store.list("item", { index: "due", from: 1, to: 5, reverse: true, limit: 3 }), []);
  },
  "what does not exist is refused": async (store) => {
    await rejects(store.list("ghost"), "internal");
    await rejects(store.list("item", { index: "ghost" }), "internal");
    await rejects(store.count("ghost"), "internal");
    await rejects(store.count("item", { index: "ghost" }), "internal");
    await rejects(store.list("item", { index: "status", equals: { priority: 1 } }), "internal");
    await rejects(store.claim({ kind: "ghost", queries: [], order: [], limit: 1 }, () => null), "internal");
  },
});

/** Reads a query in pages of `limit`, each after the last record of the one before. */
async function pages(store: Store, query: Query, limit: number): Promise<Rec[]> {
  const all: Rec[] = [];
  for (;;) {
    const page = await store.list("item", { ...query, limit, ...(all.length === 0 ? {} : { after: all.at(-1)! }) });
    assert.ok(page.length <= limit);
    all.push(...page);
    if (page.length < limit) return all;
    assert.ok(all.length < 1_000, "the pages do not end");
  }
}

async function showEveryRecord(store: Store, query: Query): Promise<void> {
  const whole = await store.list("item", query);
  assert.ok(whole.length > 5, "the query finds something");
  for (const limit of [1, 2, 3, 7, whole.length, 1_000]) assert.deepEqual(idsOf(await pages(store, query, limit)), idsOf(whole), `pages of ${limit}`);
}

/** Items with many ties and nulls in every index. */
const tied = (store: Store) => fill(store, upTo(40).map((i) => ({
  status: ["pending", "a", null, "pending"][i % 4]!, priority: i % 5 === 0 ? null : i % 3, score: i % 6 === 0 ? null : (i % 4) / 2, flag: [true, false, null][i % 3]!,
  title: i % 7 === 0 ? null : ["😀", "\uE000", "x"][i % 3]!, key: i % 2 === 0 ? `k${i}` : null, batch: i < 20 ? "b" : null,
})));

const paging = cases("cursors", {
  "by the primary key": async (store) => {
    await tied(store);
    await showEveryRecord(store, {});
    await showEveryRecord(store, { reverse: true });
    await showEveryRecord(store, { from: 5, to: 33 });
    await showEveryRecord(store, { from: 5, to: 33, reverse: true });
  },
  "by an index with ties and nulls": async (store) => {
    await tied(store);
    for (const index of ["status", "name", "score", "flag"]) await showEveryRecord(store, { index });
  },
  "backwards by an index with ties and nulls": async (store) => {
    await tied(store);
    for (const index of ["status", "name", "score", "flag"]) await showEveryRecord(store, { index, reverse: true });
  },
  "by partial and unique indexes": async (store) => {
    await tied(store);
    for (const reverse of [false, true]) for (const index of ["key", "due", "due_in", "free"]) await showEveryRecord(store, { index, reverse });
  },
  "within a prefix": async (store) => {
    await tied(store);
    for (const reverse of [false, true]) {
      await showEveryRecord(store, { index: "status", equals: { status: "pending" }, reverse });
      await showEveryRecord(store, { index: "status", equals: { status: null }, reverse });
      await showEveryRecord(store, { index: "flag", equals: { flag: false }, reverse });
      await showEveryRecord(store, { index: "due_in", equals: { batch: null }, reverse });
    }
  },
  "within bounds": async (store) => {
    await tied(store);
    for (const reverse of [false, true]) {
      await showEveryRecord(store, { index: "score", from: 0.5, to: 1.5, reverse });
      await showEveryRecord(store, { index: "score", to: 1, reverse });
      await showEveryRecord(store, { index: "status", equals: { status: "pending" }, from: 1, reverse });
      await showEveryRecord(store, { index: "name", from: "\uE000", reverse });
    }
  },
  "go on when the record of the cursor is gone or changed": async (store) => {
    await fill(store, upTo(9).map((i) => ({ score: i })));
    const page = await store.list("item", { index: "score", limit: 3 });
    await write(store, remove("item", 3));
    assert.deepEqual(idsOf(await store.list("item", { index: "score", after: page[2]!, limit: 2 })), [4, 5]);
    await write(store, set("item", 5, { score: 100 }));
    assert.deepEqual(idsOf(await store.list("item", { index: "score", after: page[1]! })), [4, 6, 7, 8, 9, 5]);
    await write(store, remove("item", 2));
    assert.deepEqual(idsOf(await store.list("item", { after: page[1]!, limit: 2 })), [4, 5]);
  },
  "see records inserted ahead of them, not behind": async (store) => {
    await fill(store, [{ score: 1 }, { score: 3 }, { score: 5 }]);
    const [, second] = await store.list("item", { index: "score", limit: 2 });
    await fill(store, [{ score: 2 }, { score: 4 }, { score: 3 }]);
    assert.deepEqual(valuesOf(await store.list("item", { index: "score", after: second! }), "score"), [3, 4, 5]);
  },
});

const members = async (store: Store, index: string) => idsOf(await store.list("item", { index }));

const partial = cases("partial indexes", {
  "hold what has every value of where": async (store) => {
    await fill(store, [{ status: "pending", flag: true, priority: 2 }, { status: "pending", flag: false }, { status: "x", flag: true }, { status: "pending", flag: true, priority: 1 }, { flag: true }]);
    assert.deepEqual(await members(store, "due"), [4, 1]);
  },
  "follow a set in and out": async (store) => {
    await fill(store, [{ status: "pending", priority: 1 }, { status: "pending", flag: true, priority: 2 }]);
    await write(store, set("item", 1, { flag: true }));
    assert.deepEqual(await members(store, "due"), [1, 2]);
    await write(store, set("item", 2, { status: "done" }));
    assert.deepEqual(await members(store, "due"), [1]);
    await write(store, set("item", 1, { flag: null }), set("item", 2, { status: "pending" }));
    assert.deepEqual(await members(store, "due"), [2]);
  },
  "follow a replacement and a delete": async (store) => {
    await fill(store, upTo(4).map(() => ({ status: "pending", flag: true })));
    await write(store, addItem({ id: 1 }), remove("item", 2), addItem({ id: 3, status: "pending", flag: true, priority: 9 }));
    assert.deepEqual(await members(store, "due"), [4, 3]);
  },
  "move a record within when only its order changes": async (store) => {
    await fill(store, [1, 2, 3].map((priority) => ({ status: "pending", flag: true, priority })));
    await write(store, set("item", 1, { priority: 10 }));
    assert.deepEqual(await members(store, "due"), [2, 3, 1]);
  },
  "may ask for null": async (store) => {
    await fill(store, [{ owner: "w", priority: 1 }, { priority: 2 }, { owner: "", priority: 0 }, { priority: 1 }]);
    assert.deepEqual(await members(store, "free"), [4, 2]);
    await write(store, set("item", 1, { owner: null }), set("item", 2, { owner: "w" }));
    assert.deepEqual(await members(store, "free"), [1, 4]);
  },
  "leave out what is null where that was declared": async (store) => {
    await fill(store, [{ status: "waiting", run_at: "2" }, { status: "waiting" }, { status: "x", run_at: "1" }, { status: "waiting", run_at: "1" }]);
    assert.deepEqual(await members(store, "timed"), [4, 1]);
    await write(store, set("item", 2, { run_at: "0" }), set("item", 4, { run_at: null }));
    assert.deepEqual(await members(store, "timed"), [2, 1]);
    assert.deepEqual(idsOf(await store.list("item", { index: "timed", to: "1" })), [2]);
  },
  "leave out what is null in a field that is not part of their order": async (store) => {
    await fill(store, [{ owner: "w", priority: 2 }, { priority: 1 }, { owner: "", priority: 0 }]);
    assert.deepEqual(await members(store, "owned"), [3, 1]);
    await write(store, set("item", 2, { owner: "v" }), set("item", 3, { owner: null }), set("item", 1, { owner: "v" }));
    assert.deepEqual(await members(store, "owned"), [2, 1]);
  },
  "are as before after a failed change": async (store) => {
    await fill(store, [{ status: "pending", flag: true }, { status: "x" }]);
    const puts = [set("item", 1, { status: "x" }), set("item", 2, { status: "pending", flag: true }), set("item", 99, {})];
    conflict(await commit(store, { puts }), "put", 2, "item");
    assert.deepEqual(await members(store, "due"), [1]);
  },
});

const counts = cases("count", {
  "all records, none, and after deletes": async (store) => {
    assert.equal(await store.count("item"), 0);
    await fill(store, upTo(5).map(() => ({})));
    await write(store, remove("item", 2));
    assert.equal(await store.count("item"), 4);
    assert.equal(await store.count("note"), 0);
  },
  "agrees with the list for every query": async (store) => {
    await tied(store);
    const queries: Query[] = [{}, { index: "key" }, { index: "due" }, { index: "status", equals: { status: "pending" } }, { index: "status", equals: { status: null } }, { index: "status", equals: { status: "pending", priority: 1 } },
      { index: "score", from: 0.5 }, { index: "score", to: 1 }, { index: "flag", equals: { flag: true } }, { from: 3, to: 20 }, { index: "status", equals: { status: "ghost" } }];
    for (const query of queries) assert.equal(await store.count("item", query), (await store.list("item", query)).length, JSON.stringify(query));
  },
  "by text, with null under its name": async (store) => {
    await fill(store, ["a", "b", "a", null, "null!", ""].map((status) => ({ status })));
    assert.deepEqual({ ...(await store.count("item", { index: "status" }, "status")) }, { "": 1, a: 2, b: 1, "null!": 1, null: 1 });
  },
  "by integer and by boolean": async (store) => {
    await fill(store, [{ flag: true, status: "a", priority: 1 }, { flag: false, status: "a", priority: 10 }, { flag: true, status: "a", priority: 1 }, { status: "b", priority: 2 }]);
    assert.deepEqual({ ...(await store.count("item", { index: "flag" }, "flag")) }, { true: 2, false: 1, null: 1 });
    assert.deepEqual({ ...(await store.count("item", { index: "status", equals: { status: "a" } }, "priority")) }, { 1: 2, 10: 1 });
  },
  "by a field within a partial index and a range": async (store) => {
    await fill(store, upTo(12).map((i) => ({ status: i % 2 === 0 ? "pending" : "x", flag: true, priority: i % 3, score: i })));
    assert.deepEqual({ ...(await store.count("item", { index: "due" }, "priority")) }, { 0: 2, 1: 2, 2: 2 });
    assert.deepEqual({ ...(await store.count("item", { index: "status", equals: { status: "x" }, from: 1 }, "priority")) }, { 1: 2, 2: 2 });
  },
  "by a field of an empty kind": async (store) => {
    assert.deepEqual({ ...(await store.count("item", { index: "status" }, "status")) }, {});
  },
  "follows writes at once": async (store) => {
    await fill(store, [{ status: "a" }, { status: "a" }]);
    await write(store, set("item", 1, { status: "b" }));
    assert.deepEqual({ ...(await store.count("item", { index: "status" }, "status")) }, { a: 1, b: 1 });
    fits((await store.list("item", { index: "status", equals: { status: "b" } }))[0]!, { id: 1 });
  },
});

export const readCases: readonly ConformanceCase[] = [...get, ...order, ...ranges, ...paging, ...partial, ...counts];

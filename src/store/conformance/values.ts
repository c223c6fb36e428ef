// Conformance: values. What is kept comes back exactly, byte for byte of its JSON text; what some store could not hold
// is refused by all, alone, and never spoils the changes beside it.
import assert from "node:assert/strict";
import type { Json } from "../../base/json.ts";
import { LIMITS } from "../../base/limits.ts";
import { absent, addItem, cases, commit, conflict, fits, holds, put, read, refused, remove, set, succeeded, write, type ConformanceCase } from "./model.ts";
import type { Fields, Put, Store } from "../store.ts";

/** Keeps each value in `field` of an item of its own, by insert and by set, and compares what comes back. */
async function keeps(store: Store, field: string, values: readonly Json[]): Promise<void> {
  for (const value of values) {
    const [id, other] = await write(store, addItem({ [field]: value }), addItem());
    await write(store, set("item", other!, { [field]: value }));
    await holds(store, "item", id!, { [field]: value });
    await holds(store, "item", other!, { [field]: value });
  }
}

const NESTED = { a: [1, [2, [3, { b: null }]], {}], c: { d: { e: [] } }, "": "", " ": [null, false, ""] };
const nest = (levels: number): Json => (levels === 0 ? 1 : [nest(levels - 1)]);

const kept = cases("values", {
  "text of any script": async (store) => {
    await keeps(store, "title", ["Grüße", "日本語", "עברית", "हिन्दी", "😀 👩‍👩‍👧 🏳️‍🌈", "e\u0301 é", "\u{10FFFF}\u{10000}", "\uFFFD\uE000\uFFFE\uFEFF"]);
  },
  "text with control and separator characters": async (store) => {
    await keeps(store, "title", ["\u0001\u0002\u001f\u007f\u0080", "a\tb\nc\r\nd\\e\"f'g`h", "\u2028\u2029\u200b\u00a0", " leading and trailing \n", "%s $1 ?1 :a @b --; /* */"]);
  },
  "the empty text": async (store) => {
    await keeps(store, "title", [""]);
    await keeps(store, "data", [""]);
  },
  "text that looks like something else": async (store) => {
    await keeps(store, "title", ["0", "007", "1e5", "1.0", "-0", "9007199254740993", "null", "true", "NaN", "{}", "[1]", '"x"', "undefined", "0x10", "x'00'"]);
  },
  "dates as text": async (store) => {
    await keeps(store, "run_at", ["2026-01-19T10:29:58.114Z", "2026-01-19", "not a date"]);
    await keeps(store, "data", ["2026-01-19T10:29:58.114Z", { at: "2026-01-19T10:29:58.000Z" }]);
  },
  "text of a megabyte": async (store) => {
    await keeps(store, "title", ["x".repeat(LIMITS.textBytes), `é\n"${"ü\\".repeat(300_000)}`]);
  },
  "integers up to the safe limits": async (store) => {
    await keeps(store, "priority", [0, 1, -1, 2 ** 31, -(2 ** 31) - 1, 2 ** 32, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER]);
    await write(store, addItem({ id: Number.MAX_SAFE_INTEGER - 1, title: "far" }));
    await holds(store, "item", Number.MAX_SAFE_INTEGER - 1, { title: "far" });
  },
  "real numbers to the last bit": async (store) => {
    await keeps(store, "score", [0, 0.1, 0.1 + 0.2, -1.5, 1 / 3, 3, 1e21, 1e308, 5e-324, -2.2250738585072014e-308, Number.MAX_VALUE, 2 ** 60]);
    await keeps(store, "data", [0.1, 1 / 3, 5e-324, 1.5e-300, -0.5, Number.MAX_SAFE_INTEGER]);
  },
  "a minus zero reads as zero, as JSON text has it": async (store) => {
    await keeps(store, "score", [-0]);
    await keeps(store, "priority", [-0]);
    await keeps(store, "data", [-0, [-0]]);
  },
  "booleans are booleans": async (store) => {
    await keeps(store, "flag", [true, false]);
    await keeps(store, "data", [true, false, [true, false]]);
  },
  "a json field holds any json at its top": async (store) => {
    await keeps(store, "data", [null, true, false, 0, 1, -1.5, "", "text", "null", "1", '"quoted"', [], {}, [null], [[]], [{}], { a: null }]);
  },
  "nested json": async (store) => {
    await keeps(store, "data", [NESTED, [NESTED, NESTED], { list: Array.from({ length: 500 }, (_, i) => ({ i, text: `t${i}` })) }]);
  },
  "json as deep as allowed": async (store) => {
    await keeps(store, "data", [nest(LIMITS.valueDepth)]);
  },
  "json of four megabytes": async (store) => {
    await keeps(store, "data", [{ text: "é😀".repeat(700_000), list: Array.from({ length: 20_000 }, (_, i) => i) }]);
  },
  "the order of an object's keys": async (store) => {
    await keeps(store, "data", [{ b: 1, a: 2, C: 3, aa: 4 }, { z: { y: 1, x: 2 }, a: [{ d: 1, c: 2 }] }]);
  },
  "keys that look like numbers, and odd keys": async (store) => {
    await keeps(store, "data", [{ 10: "a", 2: "b", "01": "c", "-1": "d" }, { "": 1, " ": 2, "a.b": 3, "$new ": 4, "a\"b": 5, "é": 6, "😀": 7, "\u0001": 8 }]);
  },
  "objects with members named like Object's own": async (store) => {
    await keeps(store, "data", [{ constructor: 1, toString: "x", hasOwnProperty: null, valueOf: [], length: 0, then: "t" }]);
  },
  "text in json with every escape": async (store) => {
    await keeps(store, "data", ["\b\f\n\r\t\\/\"", ["\u0001\u001f\u007f\u2028\u2029"], { "k\n\t": "\\u0041 </script>" }, "😀\u{10FFFF}"]);
  },
  "null and left out are the same in a declared field": async (store) => {
    const [id] = await write(store, addItem({ title: null }));
    const record = await holds(store, "item", id!, { title: null, data: null, flag: null });
    assert.deepEqual(Object.keys(record).sort(), ["batch", "data", "flag", "id", "key", "owner", "priority", "revision", "run_at", "score", "slot", "status", "title"]);
  },
  "null and left out differ inside json": async (store) => {
    await keeps(store, "data", [{ a: null }, {}, [null], []]);
  },
  "every reading gives the same record": async (store) => {
    await write(store, addItem({ id: 1, key: "k", title: "é", status: "pending", priority: 1, score: 2, flag: true, data: { a: [true, 1, "x"] }, extra: { b: false } }));
    const record = await read(store, "item", 1);
    for (const index of [undefined, "key", "name", "status", "score", "flag", "due", "due_in", "free"]) {
      assert.deepEqual(await store.list("item", index === undefined ? {} : { index }), [record], index);
    }
    const seen: unknown[] = [];
    await store.claim({ kind: "item", queries: [{ index: "due" }], order: ["priority"], limit: 1 }, (found) => (seen.push(...found), null));
    assert.deepEqual(seen, [record]);
  },
});

const EXTRA: Fields = { extra: "text", extra_n: 0.5, extra_i: 7, extra_b: false, extra_json: NESTED as Json, extra_list: [], extra_text: "" };

const unknown = cases("unknown fields", {
  "of every type are kept by a put": async (store) => {
    await write(store, addItem({ id: 1, ...EXTRA }), put("part", { item_id: 1, name: "p", ...EXTRA }));
    await holds(store, "item", 1, EXTRA);
    await holds(store, "part", [1, "p"], EXTRA);
  },
  "are kept by a set of other fields": async (store) => {
    await write(store, addItem({ id: 1, ...EXTRA }));
    await write(store, set("item", 1, { title: "t" }));
    await holds(store, "item", 1, { ...EXTRA, title: "t" });
  },
  "are added and changed by a set": async (store) => {
    await write(store, addItem({ id: 1, ...EXTRA }));
    await write(store, set("item", 1, { extra: ["now a list"], more: { a: 1 } }));
    await holds(store, "item", 1, { ...EXTRA, extra: ["now a list"], more: { a: 1 } });
  },
  "are kept by an addition": async (store) => {
    await write(store, put("counter", { id: "c", n: 1, ...EXTRA }));
    succeeded(await commit(store, { puts: [], additions: [{ kind: "counter", key: "c", field: "n", n: 1 }] }));
    await holds(store, "counter", "c", { ...EXTRA, n: 2 });
  },
  "that are null are kept as null": async (store) => {
    await write(store, addItem({ id: 1, extra: null }), addItem({ id: 2, extra: 1 }));
    await write(store, set("item", 2, { extra: null, other: null }));
    for (const id of [1, 2]) assert.ok("extra" in (await holds(store, "item", id, { extra: null })));
  },
  "may have any name": async (store) => {
    const fields: Fields = { "two words": 1, "a.b": 2, "ünï": 3, select: 4, "quo\"te": 5, "": 6, constructor: 7, toString: 8, "42": 9, Title: 10, rowid: 11 };
    await write(store, addItem({ id: 1, title: "t", ...fields }));
    await write(store, set("item", 1, { status: "s" }));
    await holds(store, "item", 1, { ...fields, title: "t", status: "s" });
  },
  "of one record do not show in another": async (store) => {
    await write(store, addItem({ id: 1, ...EXTRA }), addItem({ id: 2 }));
    assert.ok(!("extra" in (await read(store, "item", 2))!));
  },
});

/** Each of `records` must be refused as an item, alone: the good changes around it are kept. */
async function refuses(store: Store, ...records: { readonly [field: string]: unknown }[]): Promise<void> {
  for (const record of records) {
    const bad = addItem(record as Fields);
    const before = await store.count("item");
    const [target] = await write(store, addItem({ title: "target" }));
    const results = await store.commit([
      { puts: [addItem({ title: "before" })] },
      { puts: [bad] },
      { puts: [addItem({ title: "between" }), set("item", target!, record as Fields)] },
      { puts: [addItem({ title: "after" })] },
    ]);
    succeeded(results[0]);
    refused(results[1]);
    refused(results[2]);
    succeeded(results[3]);
    assert.equal(await store.count("item"), before + 3);
    await holds(store, "item", target!, { title: "target" });
  }
}

const loop: { self?: unknown } = {};
loop.self = loop;

const bad = cases("bad data", {
  "NUL in text": (store) => refuses(store, { title: "a\0b" }, { key: "\0" }),
  "NUL in json, as value and as key": (store) => refuses(store, { data: "a\0" }, { data: ["\0"] }, { data: { "a\0": 1 } }, { extra: { deep: ["\0"] } }),
  "half a surrogate pair in text": (store) => refuses(store, { title: "\ud800" }, { title: "a\udc00b" }, { key: "\udfff\ud800" }),
  "half a surrogate pair in json, as value and as key": (store) => refuses(store, { data: "\ud83d" }, { data: { "\ud83d": 1 } }, { extra: ["x\udc00"] }),
  "NaN and infinities": (store) => refuses(store, { score: NaN }, { score: Infinity }, { priority: -Infinity }, { data: NaN }, { data: [Infinity] }, { extra: NaN }),
  "integers that would change": (store) => refuses(store, { priority: 2 ** 53 }, { priority: -(2 ** 53) }, { data: 2 ** 53 }, { data: { n: 1e300 } }, { extra: 2 ** 60 }),
  "a fraction in an integer": (store) => refuses(store, { priority: 1.5 }, { priority: 1e-9 }),
  "another type in text": (store) => refuses(store, { title: 5 }, { title: true }, { title: {} }, { title: ["a"] }),
  "another type in an integer": (store) => refuses(store, { priority: "5" }, { priority: true }, { priority: [1] }, { priority: {} }),
  "another type in a real": (store) => refuses(store, { score: "0.5" }, { score: false }, { score: [] }),
  "another type in a boolean": (store) => refuses(store, { flag: 1 }, { flag: 0 }, { flag: "true" }, { flag: [] }),
  "what is not JSON": (store) => refuses(store, { data: 5n }, { data: [5n] }, { data: () => 1 }, { data: Symbol("s") }, { extra: 5n }),
  "what is not JSON, in a field of another type": (store) => refuses(store, { title: 5n }, { priority: 5n }, { flag: () => 1 }, { title: loop }),
  "a value that refers to itself": (store) => refuses(store, { data: loop }, { extra: [loop] }),
  "text beyond the limit": (store) => refuses(store, { title: "x".repeat(LIMITS.textBytes + 1) }),
  "json deeper than the limit": (store) => refuses(store, { data: nest(LIMITS.valueDepth + 1) }),
  "json larger than the limit": (store) => refuses(store, { data: "x".repeat(LIMITS.valueBytes) }),
  "the name of an unknown field": (store) => refuses(store, { "a\0b": 1 }, { "\ud800": 1 }),
  "the value of an unknown field named like Object's own": (store) => refuses(store, { constructor: NaN }, { toString: "\0" }),
  "a key that is not of its type": async (store) => {
    const results = await store.commit([
      { puts: [addItem({ id: "1" })] },
      { puts: [addItem({ id: 1.5 })] },
      { puts: [put("counter", { id: 1 })] },
      { puts: [put("counter", { id: "a\0" })] },
      { puts: [put("part", { item_id: "1", name: "p" })] },
      { puts: [put("counter", { id: "good" })] },
    ]);
    for (const result of results.slice(0, 5)) refused(result);
    succeeded(results[5]);
    assert.equal(await store.count("item"), 0);
  },
  "is a field named __proto__, however it comes": async (store) => {
    // Not a literal, in which it would not be a field at all.
    const own = JSON.parse('{"__proto__":{"status":"completed"}}') as Fields;
    await write(store, addItem({ id: 1, title: "kept" }));
    refused(await commit(store, { puts: [addItem(own)] }));
    refused(await commit(store, { puts: [set("item", 1, own)] }));
    refused(await commit(store, { puts: [put("event", { ...own, item_id: 1, what: "said" })] }));
    assert.equal(await store.count("item"), 1);
    await holds(store, "item", 1, { title: "kept" });
  },
  "is refused in a claim as in a commit": async (store) => {
    const order = { kind: "item", queries: [{ index: "due" }], order: ["priority"], limit: 1 };
    refused(await store.claim(order, () => ({ puts: [addItem({ id: 1 }), addItem({ title: "\0" })] })));
    assert.equal(await store.count("item"), 0);
    succeeded(await store.claim(order, () => ({ puts: [addItem({ id: 1 })] })));
  },
  "among five hundred changes fails alone": async (store) => {
    const poison = new Set([0, 99, 250, 499]);
    const results = await store.commit(Array.from({ length: 500 }, (_, i) => ({ puts: [addItem({ title: poison.has(i) ? "\ud800" : `t${i}` })] })));
    assert.deepEqual(results.flatMap((result, i) => (result.ok ? [] : [i])), [...poison]);
    assert.equal(await store.count("item"), 496);
  },
  "says in words which field it is": async (store) => {
    const error = refused(await commit(store, { puts: [addItem({ title: "a\0b" })] }));
    assert.match(error.message, /title/);
    fits(await read(store, "item", (await write(store, addItem({ title: "ok" })))[0]!), { title: "ok" });
    await write(store, remove("item", 1));
  },
});

const page = (n: number, more: Fields = {}): Put => put("page", { note_id: "a/../b", n, text: `page ${n} ü€😀\n`.repeat(5_000), ...more });
const textOf = async (store: Store, n: number) => (await read(store, "page", ["a/../b", n]))?.["text"] ?? null;

const large = cases("a large text", {
  "is read back by get and list, by this handle and another": async (store, env) => {
    await write(store, page(1), page(2), page(3, { text: "" }), page(4, { text: null }));
    for (const handle of [store, ...(env.spawn ? [await env.open()] : [])]) {
      assert.deepEqual((await handle.list("page")).map(({ n, text }) => [n, (text as string | null)?.length ?? null]), [[1, pageLength(1)], [2, pageLength(2)], [3, 0], [4, null]]);
      assert.equal(await textOf(handle, 2), `page 2 ü€😀\n`.repeat(5_000));
    }
  },
  "that was not put after all changes nothing": async (store) => {
    await write(store, page(1));
    const [lost, bad] = await store.commit([{ guards: [absent("page", ["a/../b", 1])], puts: [page(1), page(2)] }, { puts: [page(1), page(3), addItem({ title: "\0" })] }]);
    conflict(lost, "guard", 0, "page");
    refused(bad);
    assert.deepEqual([(await textOf(store, 1)) !== null, await textOf(store, 2), await textOf(store, 3)], [true, null, null]);
  },
  "is deleted, and put again, also in one commit": async (store) => {
    await write(store, page(1), page(2));
    await write(store, remove("page", ["a/../b", 1]));
    assert.equal(await read(store, "page", ["a/../b", 1]), null);
    await write(store, page(1), remove("page", ["a/../b", 2]), page(2), remove("page", ["a/../b", 1]));
    assert.deepEqual((await store.list("page")).map(({ n }) => n), [2]);
    assert.equal((await textOf(store, 2))!.toString().length, pageLength(2));
  },
});

const shared = cases("a large text", {
  "keeps what another handle put again": async (store, env) => {
    const other = await env.open();
    await write(store, page(1));
    await write(other, remove("page", ["a/../b", 1]), page(1));
    await write(store, page(1));
    await write(other, remove("page", ["a/../b", 1]));
    assert.equal(await read(store, "page", ["a/../b", 1]), null);
    await write(store, page(1));
    assert.notEqual(await textOf(other, 1), null);
  },
}, "durable");

const pageLength = (n: number): number => `page ${n} ü€😀\n`.length * 5_000;

export const valueCases: readonly ConformanceCase[] = [...kept, ...unknown, ...bad, ...large, ...shared];

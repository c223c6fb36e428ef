// The tables in memory against a naive model of them: whatever is written, refused, taken back or replayed, every read
// along every index gives what filtering and sorting all records would give.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { compareBy, compareKeys, compareScalars, keyPartsOf } from "../../src/store/compare.ts";
import { keyText } from "../../src/store/check.ts";
import { Ordered } from "../../src/store/ordered.ts";
import type { Change, Index, Kind, Model, Put, Query, Rec, Scalar } from "../../src/store/store.ts";
import { type Effect, Tables } from "../../src/store/tables.ts";

const thing: Kind = {
  name: "thing",
  fields: { id: "integer", key: "text", status: "text", n: "integer", flag: "boolean", data: "json" },
  key: ["id"],
  assign: "",
  indexes: {
    key: { fields: ["key"], notNull: ["key"], unique: true },
    status: { fields: ["status", "n"] },
    open: { fields: ["n"], where: { status: "a", flag: true } },
    timed: { fields: ["n", "flag"], notNull: ["n"] },
  },
};
const part: Kind = { name: "part", fields: { owner: "integer", name: "text", n: "integer" }, key: ["owner", "name"], indexes: { n: { fields: ["n"] } } };
const event: Kind = { name: "event", fields: { owner: "integer", seq: "integer", what: "text" }, key: ["owner", "seq"], indexes: {}, chain: { group: "owner", order: "seq" } };
const op: Kind = { name: "op", fields: { id: "text", at: "text" }, key: ["id"], indexes: {} };
const model: Model = { kinds: [thing, part, event, op], seal: (previous, record) => ({ ...record, seq: Number(previous?.["seq"] ?? 0) + 1 }) };

/* ---------- the naive model ---------- */

const rank = (value: Scalar): number => (value === null ? 0 : 1);
const points = (text: string): string => [...text].map((char) => char.codePointAt(0)!.toString(16).padStart(6, "0")).join("");

function naiveCompare(a: Scalar, b: Scalar): number {
  if (a === null || b === null) return rank(a) - rank(b);
  if (typeof a === "string" && typeof b === "string") return points(a) < points(b) ? -1 : points(a) > points(b) ? 1 : 0;
  return Number(a) - Number(b);
}

const at = (record: Rec, field: string): Scalar => (record[field] ?? null) as Scalar;

function naiveList(records: readonly Rec[], kind: Kind, query: Query): Rec[] {
  const index: Index = query.index === undefined ? { fields: kind.key } : kind.indexes[query.index]!;
  const fields = [...index.fields, ...kind.key];
  const compare = (a: Rec, b: Rec) => fields.map((field) => naiveCompare(at(a, field), at(b, field))).find((order) => order !== 0) ?? 0;
  const next = index.fields[Object.keys(query.equals ?? {}).length]!;
  const found = records
    .filter((record) => Object.entries(index.where ?? {}).every(([field, value]) => at(record, field) === value))
    .filter((record) => (index.notNull ?? []).every((field) => at(record, field) !== null))
    .filter((record) => Object.entries(query.equals ?? {}).every(([field, value]) => at(record, field) === value))
    .filter((record) => query.from === undefined || (at(record, next) !== null && naiveCompare(at(record, next), query.from) >= 0))
    .filter((record) => query.to === undefined || (at(record, next) !== null && naiveCompare(at(record, next), query.to) < 0))
    .sort((a, b) => (query.reverse ? -1 : 1) * compare(a, b))
    .filter((record) => !query.after || (query.reverse ? -1 : 1) * compare(record, query.after) > 0);
  return found.slice(0, query.limit ?? 10_000);
}

/* ---------- what is generated ---------- */

const small = fc.integer({ min: 0, max: 6 });
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: null });
const text = fc.constantFrom("", "a", "b", "aa", "é", "\uffff", "\u{1f600}", "z");
const fields = fc.record({ key: maybe(text), status: maybe(fc.constantFrom("a", "b")), n: maybe(small), flag: maybe(fc.boolean()) }, { requiredKeys: [] });
const put: fc.Arbitrary<Put> = fc.oneof(
  fields.map((record) => ({ kind: "thing", record })),
  fc.tuple(small, fields).map(([id, record]) => ({ kind: "thing", record: { id: id + 1, ...record } })),
  fc.tuple(small, fields).map(([id, set]) => ({ kind: "thing", key: id + 1, set })),
  small.map((id) => ({ kind: "thing", key: id + 1, delete: true as const })),
  fc.tuple(small, text, maybe(small)).map(([owner, name, n]) => ({ kind: "part", record: { owner, name, n } })),
  fc.tuple(small, text).map(([owner, name]) => ({ kind: "part", key: [owner, name] as const, delete: true as const })),
  small.map((owner) => ({ kind: "event", record: { owner, what: "x" } })),
  fc.constant({ kind: "thing", record: { status: "bad\0" } }),
);
const change: fc.Arbitrary<Change> = fc.record({
  puts: fc.array(put, { maxLength: 4 }),
  additions: fc.array(fc.tuple(small, fc.integer({ min: -3, max: 3 })).map(([id, n]) => ({ kind: "thing", key: id + 1, field: "n", n, max: 8 })), { maxLength: 1 }),
});
const act = fc.oneof({ weight: 4, arbitrary: fc.array(change, { maxLength: 5 }).map((changes) => ({ changes, undone: false })) }, fc.array(change, { maxLength: 5 }).map((changes) => ({ changes, undone: true })));

function queriesOf(kind: Kind, records: readonly Rec[]): Query[] {
  const queries: Query[] = [];
  for (const [name, index] of [[undefined, { fields: kind.key }], ...Object.entries(kind.indexes)] as [string | undefined, Index][]) {
    const base: Query = name === undefined ? {} : { index: name };
    const first = index.fields[0]!;
    const samples = [...new Set(records.map((record) => at(record, first)))].slice(0, 4);
    queries.push(base, { ...base, reverse: true }, { ...base, limit: 2 });
    for (const value of samples) {
      queries.push({ ...base, equals: { [first]: value } });
      if (value !== null && typeof value !== "boolean") queries.push({ ...base, from: value }, { ...base, to: value, reverse: true });
      if (index.fields.length > 1) queries.push({ ...base, equals: { [first]: value }, ...(index.fields[1] === "n" ? { from: 2, to: 5 } : {}) });
    }
    const belonging = naiveList(records, kind, base);
    for (const after of belonging.slice(0, 3)) queries.push({ ...base, after }, { ...base, after, reverse: true, limit: 2 });
  }
  return queries;
}

function agree(tables: Tables): void {
  for (const kind of model.kinds) {
    const records = tables.all(kind.name);
    assert.deepEqual(records, naiveList(records, kind, {}));
    for (const query of queriesOf(kind, records)) {
      const expected = naiveList(records, kind, query);
      assert.deepEqual(tables.list(kind.name, query), expected, `${kind.name} ${JSON.stringify(query)}`);
      if (query.limit === undefined) assert.equal(tables.count(kind.name, query), expected.length);
    }
    for (const record of records) assert.deepEqual(tables.get(kind.name, kind.key.length === 1 ? (record[kind.key[0]!] as string) : kind.key.map((field) => record[field] as string)), record);
  }
}

const snapshot = (tables: Tables) => model.kinds.map((kind) => tables.all(kind.name));

test("every read agrees with the naive model, undo takes all back, and a replay gives the same", () => {
  fc.assert(
    fc.property(fc.array(act, { maxLength: 12 }), (acts) => {
      const tables = new Tables(model);
      const replayed = new Tables(model);
      for (const { changes, undone } of acts) {
        const before = snapshot(tables);
        const effects: Effect[] = [];
        for (const each of changes) {
          const inBetween = snapshot(tables);
          const count = effects.length;
          const result = tables.apply(each, 0, effects);
          if (result.ok) continue;
          assert.deepEqual(snapshot(tables), inBetween, "a failed change left something");
          assert.equal(effects.length, count);
        }
        if (undone) {
          tables.undo();
          assert.deepEqual(snapshot(tables), before, "undo left something");
        } else {
          tables.keep();
          for (const effect of JSON.parse(JSON.stringify(effects)) as Effect[]) replayed.replay(effect);
        }
        agree(tables);
      }
      assert.deepEqual(snapshot(replayed), snapshot(tables));
      agree(replayed);
      for (const [kind, next] of Object.entries(replayed.counters())) assert.ok(next <= tables.counters()[kind]!, "ids that were undone stay used");
    }),
    { numRuns: 300 },
  );
});

test("what is given out is nobody's: a change of it changes nothing, and what is in it cannot be changed", () => {
  const tables = new Tables(model);
  tables.apply({ puts: [{ kind: "thing", record: { data: { a: 1 } } }] }, 0, []);
  const before = structuredClone(tables.list("thing"));
  const refused = tables.apply({ guards: [{ kind: "thing", key: 1, absent: true }], puts: [] }, 0, []);
  assert.ok(!refused.ok && "conflict" in refused);
  const given = [tables.list("thing")[0], tables.get("thing", 1), tables.due({ kind: "thing", queries: [{}], order: [], limit: 1 })[0], refused.conflict.record];
  for (const record of given as { [field: string]: unknown }[]) {
    record["added"] = 1;
    assert.throws(() => ((record["data"] as { a: number }).a = 2), TypeError);
  }
  assert.deepEqual(tables.list("thing"), before);
});

test("an ordered list agrees with a sorted array over thousands of inserts and removals", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 5_000 }), { minLength: 600, maxLength: 3_000 }), fc.integer({ min: 1, max: 5 }), (numbers, every) => {
      const ordered = new Ordered<number>((a, b) => a - b);
      const unique = [...new Set(numbers)];
      for (const n of unique) ordered.insert(n);
      const removed = unique.filter((_, i) => i % every === 0);
      for (const n of removed) ordered.remove(n);
      const expected = unique.filter((_, i) => i % every !== 0).sort((a, b) => a - b);
      const all = ordered.slice(() => 0, () => -1, Infinity, false);
      assert.deepEqual(all, expected);
      for (const bound of [0, 17, 2_500, 4_999, 9_999]) {
        const probe = (item: number) => item - bound;
        assert.deepEqual(ordered.slice(probe, () => -1, 40, false), expected.filter((n) => n >= bound).slice(0, 40));
        assert.deepEqual(ordered.slice(() => 0, probe, 40, true), expected.filter((n) => n < bound).reverse().slice(0, 40));
        assert.equal(ordered.count(probe, () => -1), expected.filter((n) => n >= bound).length);
      }
    }),
    { numRuns: 40 },
  );
});

test("text is ordered by code point", () => {
  const any = fc.string({ unit: "grapheme", maxLength: 4 });
  fc.assert(fc.property(any, any, (a, b) => assert.equal(Math.sign(compareScalars(a, b)), Math.sign(naiveCompare(a, b)))));
  fc.assert(fc.property(any, any, (a, b) => assert.equal(Math.sign(compareKeys(keyPartsOf([1, a]), keyPartsOf([1, b]))), Math.sign(compareBy(["x"], { x: a }, { x: b })))));
});

test("equal key texts mean equal keys", () => {
  const key = fc.array(fc.oneof(fc.integer(), fc.string({ maxLength: 3 }), fc.constantFrom("1,", "1:", ",", ":", "1", "")), { minLength: 2, maxLength: 2 });
  fc.assert(fc.property(key, key, (a, b) => assert.equal(keyText(a) === keyText(b), a[0] === b[0] && a[1] === b[1])), { numRuns: 2_000 });
});

test("names of Object's own are names like any other, but __proto__ is refused", () => {
  const tables = new Tables(model);
  const results = [{ constructor: 1, toString: [1] }, { constructor: NaN }, JSON.parse('{"__proto__": 1}') as Rec].map((record) => tables.apply({ puts: [{ kind: "thing", record }] }, 0, []));
  assert.deepEqual(results.map((result) => result.ok), [true, false, false]);
  assert.deepEqual(tables.get("thing", 1)!["toString"], [1]);
});

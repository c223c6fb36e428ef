// The SQLite store against the memory store: the same random changes, claims and queries must give the same results and
// leave the same records, whatever shapes, nulls, conflicts and failures they are made of.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { systemClock } from "../../src/base/clock.ts";
import { systemRandom } from "../../src/base/id.ts";
import { compareScalars } from "../../src/store/compare.ts";
import { conformanceModel } from "../../src/store/conformance/model.ts";
import { openMemory } from "../../src/store/memory.ts";
import { openSqlite } from "../../src/store/sqlite/sqlite.ts";
import type { Change, ClaimOrder, Guard, Kind, Put, Query, Rec, Result, Scalar, Store } from "../../src/store/store.ts";

const kinds = new Map(conformanceModel.kinds.map((kind) => [kind.name, kind]));
const item = kinds.get("item")!;

/* ---------- arbitrary changes: small domains, so that keys, unique values and guards collide often ---------- */

const orNull = <T>(arb: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(arb, { freq: 4, nil: null });
const text = fc.constantFrom("a", "b", "B", "", "é", "\u{10000}", "\uFFFD");
const small = fc.integer({ min: -1, max: 3 });
const values: Record<string, fc.Arbitrary<unknown>> = {
  title: orNull(text), status: orNull(fc.constantFrom("pending", "waiting", "done")), priority: orNull(small), score: orNull(fc.constantFrom(0, 0.5, -1.5, 2)), flag: orNull(fc.boolean()),
  key: orNull(fc.constantFrom("k1", "k2", "k3")), batch: orNull(fc.constantFrom("x", "y")), slot: orNull(fc.integer({ min: 1, max: 2 })), owner: orNull(text), run_at: orNull(text),
  data: orNull(fc.jsonValue({ maxDepth: 2 })), other: fc.jsonValue({ maxDepth: 1 }),
};
const bad = fc.constantFrom<[string, unknown]>(["title", 5], ["priority", 1.5], ["flag", "yes"], ["title", "\0"], ["data", NaN]);
const itemFields = fc
  .tuple(fc.record(values, { requiredKeys: [] }), fc.option(bad, { freq: 12, nil: undefined }))
  .map(([fields, spoilt]) => (spoilt ? { ...fields, [spoilt[0]]: spoilt[1] } : fields));

const id = fc.integer({ min: 1, max: 8 });
const partKey = fc.tuple(fc.integer({ min: 1, max: 2 }), fc.constantFrom("p", "q"));
const counterId = fc.constantFrom("c", "d", "e");
const putOf = (kind: string, record: fc.Arbitrary<object>): fc.Arbitrary<Put> => record.map((fields) => ({ kind, record: fields }) as Put);
const onAny: fc.Arbitrary<Put>[] = [
  putOf("item", itemFields),
  putOf("item", fc.tuple(itemFields, id).map(([fields, key]) => ({ ...fields, id: key }))),
  putOf("note", fc.record({ item_id: orNull(small), text: orNull(text) })),
  putOf("part", fc.tuple(partKey, small).map(([[item_id, name], n]) => ({ item_id, name, n }))),
  putOf("counter", fc.tuple(counterId, orNull(small)).map(([key, n]) => ({ id: key, n }))),
  putOf("event", fc.tuple(fc.integer({ min: 1, max: 3 }), text).map(([item_id, what]) => ({ item_id, what }))),
  putOf("event", fc.constant({ item_id: { $new: 0 }, what: "new" })),
  fc.tuple(id, itemFields).map(([key, set]) => ({ kind: "item", key, set }) as Put),
  fc.tuple(partKey, small).map(([key, n]) => ({ kind: "part", key, set: { n, more: n } }) as Put),
  fc.tuple(id, fc.constantFrom("item", "counter")).map(([key, kind]) => ({ kind, key, delete: true }) as Put),
  partKey.map((key) => ({ kind: "part", key, delete: true }) as Put),
];
const guard: fc.Arbitrary<Guard> = fc.oneof(
  fc.tuple(id, fc.record({ status: values["status"]!, priority: values["priority"]!, flag: values["flag"]!, data: fc.constantFrom(null, 1) }, { requiredKeys: [] })).map(([key, is]) => ({ kind: "item", key, is }) as Guard),
  id.map((key): Guard => ({ kind: "item", key, absent: true })),
  values["key"]!.map((key) => ({ kind: "item", unique: "key", values: { key }, absent: true }) as Guard),
  fc.tuple(fc.constantFrom("x", "y"), small).map(([batch, slot]): Guard => ({ kind: "item", unique: "slot", values: { batch, slot }, absent: true })),
);
const change: fc.Arbitrary<Change> = fc.record(
  {
    guards: fc.array(guard, { maxLength: 1 }),
    puts: fc.array(fc.oneof(...onAny), { maxLength: 4 }),
    additions: fc.array(fc.tuple(counterId, fc.integer({ min: -2, max: 3 })).map(([key, n]) => ({ kind: "counter", key, field: "n", n, max: 5 })), { maxLength: 2 }),
    op_id: fc.constantFrom("o1", "o2", "o3"),
  },
  { requiredKeys: ["puts"] },
);

/* ---------- arbitrary queries ---------- */

const valueFor = (kind: Kind, field: string): fc.Arbitrary<unknown> => (kind.name === "item" && values[field] !== undefined && field !== "id" ? values[field] : kind.fields[field] === "text" ? text : small);

const query: fc.Arbitrary<readonly [string, Query]> = fc.constantFrom(...[...kinds.values()].filter(({ name }) => name !== "op").flatMap((kind) => [undefined, ...Object.keys(kind.indexes)].map((index) => ({ kind, index })))).chain(({ kind, index }) => {
  const fields = index === undefined ? kind.key : kind.indexes[index]!.fields;
  return fc.integer({ min: 0, max: fields.length }).chain((n) => {
    const next = fields[n];
    const bound = next !== undefined && kind.fields[next] !== "boolean" ? valueFor(kind, next).map((value) => value ?? undefined) : fc.constant(undefined);
    return fc
      .record({ equals: fc.tuple(...fields.slice(0, n).map((field) => valueFor(kind, field))), from: fc.option(bound), to: fc.option(bound), reverse: fc.boolean(), limit: fc.option(fc.integer({ min: 1, max: 4 })) })
      .map(({ equals, from, to, reverse, limit }) => {
        if (from != null && to != null && compareScalars(from as Scalar, to as Scalar) > 0) [from, to] = [to, from];
        const bounds = { ...(from == null ? {} : { from }), ...(to == null ? {} : { to }) };
        const given = Object.fromEntries(fields.slice(0, n).map((field, i) => [field, equals[i]]));
        return [kind.name, { ...(index === undefined ? {} : { index }), equals: given, ...bounds, reverse, ...(limit === null ? {} : { limit }) } as Query] as const;
      });
  });
});

const order: ClaimOrder = { kind: "item", queries: [{ index: "due" }, { index: "free" }, { index: "status", equals: { status: "waiting" } }], order: ["priority"], limit: 3 };

/* ---------- the comparison ---------- */

/** Errors compare by their code: a message may name another field when several are bad. */
const plain = (result: Result | null) => (result && !result.ok && "error" in result ? { error: result.error.code } : result);

async function same(a: Store, b: Store, steps: readonly (readonly Change[] | "claim")[], queries: readonly (readonly [string, Query])[]): Promise<void> {
  for (const step of steps) {
    if (step === "claim") {
      const seen: (readonly Rec[])[] = [];
      const claim = (store: Store) => store.claim(order, (records) => (seen.push(records), records.length === 0 ? null : { puts: records.map((record) => ({ kind: "item", key: record["id"] as number, set: { status: "done", owner: "w" } })) }));
      assert.deepEqual(plain(await claim(b)), plain(await claim(a)));
      assert.deepEqual(seen[0], seen[1]);
    } else {
      const [expected, actual] = [await a.commit(step), await b.commit(step)];
      assert.deepEqual(actual.map(plain), expected.map(plain));
    }
  }
  for (const kind of kinds.keys()) {
    const records = await a.list(kind);
    assert.deepEqual(await b.list(kind), records);
    for (const index of Object.keys(kinds.get(kind)!.indexes)) assert.deepEqual(await b.list(kind, { index }), await a.list(kind, { index }), `${kind} by ${index}`);
  }
  for (const [kind, one] of queries) await sameQuery(a, b, kind, one);
}

async function sameQuery(a: Store, b: Store, kind: string, query: Query): Promise<void> {
  const records = await a.list(kind, query);
  const shown = `${kind} ${JSON.stringify(query)}`;
  assert.deepEqual(await b.list(kind, query), records, shown);
  const { limit: _, ...whole } = query;
  assert.equal(await b.count(kind, whole), await a.count(kind, whole), shown);
  const by = (query.index === undefined ? kinds.get(kind)!.key : kinds.get(kind)!.indexes[query.index]!.fields)[Object.keys(query.equals!).length];
  if (by !== undefined) assert.deepEqual(await b.count(kind, whole, by), await a.count(kind, whole, by), shown);
  // Page by page, each page after the last record of the one before.
  const all = await b.list(kind, whole);
  const pages: Rec[] = [];
  for (let page = await b.list(kind, { ...whole, limit: 2 }); page.length > 0; page = await b.list(kind, { ...whole, limit: 2, after: page.at(-1)! })) pages.push(...page);
  assert.deepEqual(pages, all, `${shown} by pages`);
}

test("random changes, claims and queries mean the same as in memory", { timeout: 300_000 }, async (t) => {
  const root = mkdtempSync(join(tmpdir(), "pawl-same-"));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  // The clock stands still, so that both stamp operation ids alike.
  const options = { clock: { ...systemClock, now: () => Date.UTC(2026, 0, 1) }, random: systemRandom };
  let run = 0;
  const step = fc.oneof({ weight: 6, arbitrary: fc.array(change, { maxLength: 5 }) }, { weight: 1, arbitrary: fc.constant("claim" as const) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), fc.array(query, { minLength: 10, maxLength: 20 }), async (steps, queries) => {
      const memory = openMemory(conformanceModel, options);
      const sqlite = await openSqlite(join(root, `${run++}.db`), conformanceModel, options);
      try {
        await same(memory, sqlite, steps, queries);
      } finally {
        await sqlite.close();
      }
    }),
    { numRuns: Number(process.env["PAWL_RUNS"] ?? 150) },
  );
  t.diagnostic(`${run} runs; kinds: ${[...kinds.keys()].join(", ")}; indexes of item: ${Object.keys(item.indexes).length}`);
});

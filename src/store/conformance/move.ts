// Conformance: a place is sealed, so that what is in it can go elsewhere, and an empty one is filled with it. No acknowledged
// write comes behind the seal, and what is loaded is what was there: ids, numbers, hashes, unknown fields, counters.
import assert from "node:assert/strict";
import { isPawlError } from "../../base/errors.ts";
import { addEvent, addItem, cases, commit, conformanceModel, fill, holds, idsOf, put, rejects, read, refused, remove, succeeded, upTo, wholeChain, write, type ConformanceCase } from "./model.ts";
import type { Counters, Piece, Rec, Seal, Store } from "../store.ts";

const AWAY: Seal = { to: "elsewhere", at: "2026-01-01T00:00:00.000Z" };
const FILLING: Seal = { ...AWAY, unfinished: true };
const due = { kind: "item", queries: [{ index: "due" }], order: ["priority"], limit: 5 } as const;

/** Everything in a store, page by page, in the order of kinds and keys. */
async function* piecesOf(store: Store, page = 7): AsyncIterable<Piece> {
  for (const { name } of conformanceModel.kinds) {
    for (let after: Rec | undefined; ; ) {
      const records = await store.list(name, { limit: page, ...(after ? { after } : {}) });
      if (records.length > 0) yield { kind: name, records };
      after = records.at(-1);
      if (records.length < page) break;
    }
  }
}

async function contentOf(store: Store): Promise<Rec[]> {
  const content: Rec[] = [];
  for await (const piece of piecesOf(store, 100)) content.push(...piece.records);
  return content;
}

/** A store in memory never waits, so whoever writes to it in a loop must let others have their turn. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

async function* none(): AsyncIterable<Piece> {}

/** A state with a bit of everything: removed records, gaps, chains, prefix ids, unknown fields. */
async function populate(store: Store): Promise<void> {
  await fill(store, upTo(30).map((i) => ({ title: `item ${i}`, status: "pending", flag: i % 2 === 0, priority: i % 3, score: i / 3, data: { b: [i, null], a: "ü" } as never, extra: { kept: i } as never })));
  await write(store, addItem({ id: 70, key: "k", batch: "b", slot: 1 }), put("note", { text: "n" }), put("note", { text: "m" }), put("counter", { id: "c", n: 5 }), put("page", { note_id: "n1", n: 1, text: "ü€😀".repeat(9_000) }));
  for (const what of ["made", "changed", "ended"]) await write(store, addEvent(1, what), addEvent(2, what));
  await write(store, remove("item", 70), remove("note", "n2"), remove("item", 4));
  succeeded(await commit(store, { puts: [put("part", { item_id: 1, name: "p", value: { $new: 0 } as never })], op_id: "once" }));
}

const sealing = cases("seal", {
  "a new place has none": async (store) => assert.equal(await store.sealed(), null),
  "says what was noted, until it is taken away": async (store) => {
    await store.seal({ ...AWAY, by: { pid: 7 }, copy: "x" });
    assert.deepEqual(await store.sealed(), { ...AWAY, by: { pid: 7 }, copy: "x" });
    await store.seal(null);
    assert.equal(await store.sealed(), null);
  },
  "every change is answered moved, as a value that names where to": async (store) => {
    await store.seal(AWAY);
    const results = await store.commit([{ puts: [addItem()] }, { puts: [addEvent(1, "a")] }]);
    for (const result of results) assert.match(refused(result, "moved").message, /elsewhere/);
    assert.equal(await store.count("item"), 0);
  },
  "every claim is answered moved, alone and in a batch": async (store) => {
    await fill(store, [{ status: "pending", flag: true }]);
    await store.seal(AWAY);
    const decide = () => assert.fail("nothing may be decided");
    refused(await store.claim(due, decide), "moved");
    refused((await store.commit([{ claim: due, decide }]))[0], "moved");
  },
  "reads go on": async (store) => {
    await fill(store, [{ title: "a" }]);
    await store.seal(AWAY);
    await holds(store, "item", 1, { title: "a" });
    assert.equal(await store.count("item"), 1);
    assert.deepEqual(idsOf(await store.list("item")), [1]);
  },
  "of claims only lets changes through": async (store) => {
    await fill(store, [{ status: "pending", flag: true }]);
    await store.seal({ ...AWAY, only: "claims" });
    const [change, claim] = await store.commit([{ puts: [addItem()] }, { claim: due, decide: () => null }]);
    succeeded(change);
    refused(claim, "moved");
    refused(await store.claim(due, () => null), "moved");
  },
  "taken away, everything goes on": async (store) => {
    await store.seal(AWAY);
    await store.seal(null);
    assert.deepEqual(await write(store, addItem()), [1]);
  },
  "is only changed by who knows it": async (store) => {
    await store.seal(AWAY, null);
    await rejects(store.seal({ ...AWAY, to: "another" }, null), "conflict");
    await rejects(store.seal(null, { ...AWAY, to: "another" }), "conflict");
    assert.deepEqual(await store.sealed(), AWAY);
    await store.seal(null, AWAY);
    assert.equal(await store.sealed(), null);
  },
  "hazard 25: no acknowledged write comes behind it": async (store) => {
    const acknowledged: number[] = [];
    const writing = upTo(60).map(async (i) => {
      for (;;) {
        const result = await commit(store, { puts: [addItem({ title: `${i}` })] });
        if (!result.ok) return refused(result, "moved");
        acknowledged.push(result.ids[0] as number);
        await turn();
      }
    });
    while (acknowledged.length < 200) await turn();
    await store.seal(AWAY);
    const atSeal = idsOf(await store.list("item"));
    await Promise.all(writing);
    assert.deepEqual(idsOf(await store.list("item")), atSeal);
    assert.deepEqual(acknowledged.sort((a, b) => a - b), atSeal);
  },
});

const sealedPlaces = cases("seal", {
  "holds for every handle, also one opened later": async (store, env) => {
    const other = await env.open();
    await write(other, addItem());
    await store.seal(AWAY);
    refused(await commit(other, { puts: [addItem()] }), "moved");
    const later = await env.open();
    refused(await commit(later, { puts: [addItem()] }), "moved");
    const reader = await env.open({ readOnly: true });
    assert.deepEqual(await reader.sealed(), AWAY);
    assert.deepEqual(idsOf(await reader.list("item")), [1]);
    await rejects(reader.seal(null), "usage");
  },
  "and what was loaded outlive the handle": async (store, env) => {
    await store.seal(FILLING);
    await store.load((async function* () { yield { kind: "item", records: [{ id: 5, title: "x" }] }; })(), { item: 9, note: 3 });
    await store.close();
    const again = await env.open();
    assert.deepEqual(await again.sealed(), FILLING);
    await again.seal(null);
    assert.deepEqual(await write(again, addItem(), put("note", {})), [10, "n4"]);
  },
  "hazard 25: no write of another process is acknowledged behind it": async (store, env) => {
    const child = env.spawn!("until_sealed", []);
    const told: (string | null)[] = [];
    for (let i = 0; i < 50; i++) told.push(await child.next());
    await store.seal(AWAY);
    const atSeal = idsOf(await store.list("item")).map(String);
    for (let line = await child.next(); line !== null; line = await child.next()) told.push(line);
    assert.equal(await child.exited, 0);
    assert.deepEqual(told, [...atSeal, "moved"]);
    assert.deepEqual(idsOf(await store.list("item")).map(String), atSeal);
  },
}, "processes");

const loading = cases("load", {
  "gives the same records, in the same order": async (store, env) => {
    await populate(store);
    const other = await env.fresh();
    await other.seal(FILLING);
    await other.load(piecesOf(store), await store.counters());
    assert.deepEqual(await contentOf(other), await contentOf(store));
    assert.deepEqual(await other.counters(), await store.counters());
    assert.deepEqual(await other.sealed(), FILLING);
  },
  "ids go on where they were, chains and operation ids too": async (store, env) => {
    await populate(store);
    const other = await env.fresh();
    await other.seal(FILLING);
    await other.load(piecesOf(store), await store.counters());
    await other.seal(null);
    for (const place of [store, other]) {
      assert.deepEqual(await write(place, addItem(), put("note", {})), [71, "n3"]);
      await write(place, addEvent(1, "after"));
      assert.equal((await wholeChain(place, 1)).length, 4);
      assert.deepEqual(await commit(place, { puts: [addItem()], op_id: "once" }), { ok: true, ids: [], repeated: true });
    }
    assert.deepEqual(await contentOf(other), await contentOf(store));
  },
  "every index finds what was loaded": async (store, env) => {
    await populate(store);
    const other = await env.fresh();
    await other.seal(FILLING);
    await other.load(piecesOf(store), await store.counters());
    for (const [name, index] of Object.entries(conformanceModel.kinds[0]!.indexes)) {
      assert.deepEqual(await other.list("item", { index: name }), await store.list("item", { index: name }), `${name} ${index.fields.join()}`);
    }
  },
  "of nothing keeps the counters": async (store) => {
    await store.seal(FILLING);
    await store.load(none(), { item: 12 } satisfies Counters);
    await store.seal(null);
    assert.deepEqual(await write(store, addItem()), [13]);
    assert.equal((await store.counters())["item"], 13);
  },
  "a place that is not sealed is refused": async (store) => rejects(store.load(none(), {}), "conflict"),
  "a place with records is refused, and stays as it is": async (store) => {
    await fill(store, [{ title: "mine" }]);
    await store.seal(FILLING);
    await rejects(store.load((async function* () { yield { kind: "item", records: [{ id: 1, title: "theirs" }] }; })(), {}), "conflict");
    await holds(store, "item", 1, { title: "mine" });
  },
  "ends when the seal is taken away meanwhile": async (store) => {
    await store.seal(FILLING);
    async function* pieces(): AsyncIterable<Piece> {
      yield { kind: "item", records: [{ id: 1 }] };
      await store.seal(null);
      yield { kind: "item", records: [{ id: 2 }] };
    }
    await rejects(store.load(pieces(), {}), "conflict");
    assert.equal(await read(store, "item", 2), null);
  },
  "throws what its source throws": async (store) => {
    await store.seal(FILLING);
    async function* pieces(): AsyncIterable<Piece> {
      yield { kind: "item", records: [{ id: 1 }] };
      throw new Error("the source is gone");
    }
    await assert.rejects(store.load(pieces(), {}), /the source is gone/);
    assert.deepEqual(await store.sealed(), FILLING);
  },
  "bad data is refused": async (store) => {
    await store.seal(FILLING);
    const error: unknown = await store.load((async function* () { yield { kind: "item", records: [{ id: 1, title: "a\0b" }] }; })(), {}).catch((thrown: unknown) => thrown);
    assert.ok(isPawlError(error, "value_refused"), String(error));
  },
});

export const moveCases: readonly ConformanceCase[] = [...sealing, ...sealedPlaces, ...loading];

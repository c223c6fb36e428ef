// Conformance: users' own SQL in the transaction of a change, for stores that have it. What it wrote and the change are there
// together or not at all, whatever the change comes to and whatever the SQL throws. Stores without a database have no say.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { addEvent, addItem, cases, conflict, is, refused, set, succeeded, upTo, write, type ConformanceCase } from "./model.ts";
import type { Change, SqlHandle, Store } from "../store.ts";

const NOTHING: Change = { puts: [] };

/** Runs statements on either kind of handle, then gives the change: without await on SQLite, where there must be none. */
function after(sql: SqlHandle, texts: readonly string[], change: () => Change): Change | Promise<Change> {
  if ("query" in sql) return texts.reduce((done, text) => done.then(() => sql.query(text)), Promise.resolve<unknown>(null)).then(change);
  for (const text of texts) sql.exec(text);
  return change();
}

type Ledger = { readonly name: string; add(n: number): string; rows(): Promise<number[]>; drop(): Promise<void> };

/** A table of the user's, with a name of its own: on a server the cases share a database. */
async function ledger(store: Store): Promise<Ledger> {
  const name = `conformance_${randomBytes(6).toString("hex")}`;
  succeeded(await store.transact!((sql) => after(sql, [`create table ${name} (n integer primary key)`], () => NOTHING)));
  return {
    name,
    add: (n) => `insert into ${name} values (${n})`,
    async rows() {
      let found: number[] = [];
      await store.transact!((sql) => {
        const keep = (rows: readonly { readonly [column: string]: unknown }[]) => ((found = rows.map(({ n }) => Number(n))), NOTHING);
        const text = `select n from ${name} order by n`;
        return "query" in sql ? sql.query(text).then(({ rows }) => keep(rows)) : keep(sql.all(text));
      });
      return found;
    },
    drop: async () => void (await store.transact!((sql) => after(sql, [`drop table ${name}`], () => NOTHING))),
  };
}

type Run = (store: Store, mine: Ledger) => Promise<void>;

function withLedger(table: { readonly [name: string]: Run }): { readonly [name: string]: (store: Store) => Promise<void> } {
  const wrapped = (run: Run) => async (store: Store) => {
    if (!store.transact) return;
    const mine = await ledger(store);
    try {
      await run(store, mine);
    } finally {
      await mine.drop();
    }
  };
  return Object.fromEntries(Object.entries(table).map(([name, run]) => [name, wrapped(run)]));
}

export const userCases: readonly ConformanceCase[] = cases(
  "user",
  withLedger({
    "rows and records are committed together, ids and chains as in any commit": async (store, mine) => {
      for (const n of upTo(3)) {
        const ids = succeeded(await store.transact!((sql) => after(sql, [mine.add(n)], () => ({ puts: [addItem({ title: `t${n}` }), addEvent({ $new: 0 }, "made")] }))));
        assert.equal(ids[0], n + 1);
      }
      assert.deepEqual(await mine.rows(), [0, 1, 2]);
      assert.equal((await store.list("event", { equals: { item_id: 3 } })).length, 1);
    },
    "a change that conflicts or is refused takes the rows back": async (store, mine) => {
      await write(store, addItem({ revision: 1 }));
      conflict(await store.transact!((sql) => after(sql, [mine.add(1)], () => ({ guards: [is("item", 1, { revision: 2 })], puts: [set("item", 1, { title: "no" })] }))), "guard", 0, "item");
      refused(await store.transact!((sql) => after(sql, [mine.add(2)], () => ({ puts: [addItem({ title: "\u0000" })] }))));
      assert.deepEqual(await mine.rows(), []);
      assert.equal(await store.count("item"), 1);
    },
    "what the body throws comes back as it is, and nothing is kept": async (store, mine) => {
      const own = new Error("no route to host: connection timeout");
      const thrown = (error: unknown) => assert.equal(error, own);
      await assert.rejects(Promise.resolve(store.transact!((sql) => after(sql, [mine.add(1)], () => { throw own; }))), (error) => (thrown(error), true));
      await assert.rejects(Promise.resolve(store.transact!((sql) => after(sql, [mine.add(1), mine.add(1)], () => NOTHING))), /unique|duplicate/i);
      await assert.rejects(Promise.resolve(store.transact!((sql) => after(sql, ["select no_such_column"], () => NOTHING))), /no_such_column/);
      assert.deepEqual(await mine.rows(), []);
    },
    "the transaction cannot be ended from within, and its handle is dead afterwards": async (store, mine) => {
      for (const text of ["commit", " /* now */ COMMIT", "-- so\nrollback", "begin", "end", "abort"]) {
        await assert.rejects(Promise.resolve(store.transact!((sql) => after(sql, [mine.add(1), text], () => NOTHING))), /takes no/, text);
      }
      succeeded(await store.transact!((sql) => after(sql, ["savepoint a", mine.add(1), "rollback to savepoint a", mine.add(2)], () => NOTHING)));
      let kept: SqlHandle | null = null;
      succeeded(await store.transact!((sql) => after((kept = sql), [mine.add(3)], () => NOTHING)));
      await assert.rejects(async () => after(kept!, [mine.add(4)], () => NOTHING), /is over/);
      assert.deepEqual(await mine.rows(), [2, 3]);
    },
    "many at once, beside other commits, are each there once": async (store, mine) => {
      await write(store, addItem({ revision: 1 }));
      await Promise.all(upTo(20).flatMap((n) => [store.transact!((sql) => after(sql, [mine.add(n)], () => ({ puts: [addEvent(1, `user ${n}`)] }))).then(succeeded), store.commit([{ puts: [addEvent(1, `plain ${n}`)] }])]));
      assert.deepEqual(await mine.rows(), upTo(20));
      assert.equal((await store.list("event", { equals: { item_id: 1 } })).length, 40);
    },
    "a sealed place refuses it": async (store, mine) => {
      await store.seal({ to: "elsewhere", at: "2026-01-01T00:00:00.000Z" });
      refused(await store.transact!((sql) => after(sql, [mine.add(1)], () => ({ puts: [addItem()] }))), "moved");
      await store.seal(null);
      assert.deepEqual(await mine.rows(), []);
    },
  }),
);

// Postgres behind a pooler in transaction mode: nothing may depend on a session. Each transaction goes to another connection
// of the server, which has forgotten all that was said on it before.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { addEvent, addItem, commit, is, put, set, succeeded, upTo, wholeChain, write } from "../../src/store/conformance/model.ts";
import { openState, placeAt } from "../../src/state.ts";
import { dropSchema, inSchema, newSchema, postgresUrl } from "../postgres.ts";
import { newPlace } from "./postgres-place.ts";
import { Pooler } from "./postgres-pooler.ts";

async function startPooler(t: TestContext, size: number): Promise<Pooler> {
  const pooler = await Pooler.start(Number(new URL(await postgresUrl()).port), size);
  t.after(() => pooler.stop());
  return pooler;
}

const NO_NOTIFY = { notify: "off" };

test("two handles with fewer connections than they want: every change is applied once, and of two that differ one", { timeout: 120_000 }, async (t) => {
  const pooler = await startPooler(t, 3);
  const place = await newPlace(t);
  const open = () => place.open({ port: pooler.port, parameters: NO_NOTIFY });
  const [a, b] = [await open(), await open()];
  await write(a, addItem({ id: 1, revision: 1 }), put("counter", { id: "c", n: 0 }));
  const change = (key: string) => ({ puts: [addItem({ key }), addEvent(1, key)], additions: [{ kind: "counter", key: "c", field: "n", n: 1 }] });
  await Promise.all([a, b].map(async (store, s) => {
    for (const i of upTo(15)) {
      const results = await Promise.all(upTo(3).map((j) => commit(store, change(`${s}-${i}-${j}`))));
      results.forEach(succeeded);
    }
  }));
  assert.equal((await b.get("counter", ["c"]))[0]!["n"], 90);
  assert.equal((await wholeChain(b, 1)).length, 90);
  assert.equal(await a.count("item"), 91);
  for (const revision of upTo(10).map((i) => i + 1)) {
    const results = await Promise.all([a, b].map((store) => commit(store, { guards: [is("item", 1, { revision })], puts: [set("item", 1, { revision: revision + 1 })] })));
    assert.equal(results.filter(({ ok }) => ok).length, 1);
  }
  assert.ok(pooler.moves > pooler.transactions / 2, `${pooler.moves} of ${pooler.transactions} transactions were on another connection than the last`);
});

test("workers behind it complete every task once, with users' own SQL in some of their steps", { timeout: 120_000 }, async (t) => {
  const pooler = await startPooler(t, 4);
  const [server, schema] = [await postgresUrl(), newSchema()];
  t.after(() => dropSchema(server, schema));
  // Made without it: a hundred tables, each in a transaction of its own, are no part of this.
  await (await openState(inSchema(server, schema))).close();
  const url = new URL(inSchema(server, schema, NO_NOTIFY));
  url.port = String(pooler.port);
  const states = await Promise.all(upTo(2).map(() => openState(url.href, { notice: () => undefined })));
  const runs: number[] = [];
  await states[0]!.tasks.addAll(upTo(30).map((i) => ({ description: `task ${i}` })));
  const workers = states.map((state) => state.work({
    concurrency: 8,
    execute: async ({ id }, { step }) => {
      await step("one", () => id);
      const sum = await step.transaction("two", async (sql) => Number((await (sql as { query(text: string, values: unknown[]): Promise<{ rows: { sum: string }[] }> }).query("select $1::bigint + 1 as sum", [id])).rows[0]!.sum));
      runs.push(id);
      return sum;
    },
  }));
  await Promise.all(workers.map((worker) => worker.idle()));
  const tasks = await states[1]!.tasks.all();
  assert.deepEqual(tasks.map(({ status, result, id }) => [status, result === id + 1]), upTo(30).map(() => ["completed", true]));
  assert.deepEqual(runs.sort((a, b) => a - b), tasks.map(({ id }) => id));
  await Promise.all(states.map((state) => state.close()));
  assert.deepEqual((await placeAt(url.href).doctor({ deep: true })).findings.map(({ code }) => code), []);
  assert.ok(pooler.moves > pooler.transactions / 2, `${pooler.moves} of ${pooler.transactions} transactions were on another connection than the last`);
});

// The Postgres store where it differs from the others: URL and schema, several versions at once, locks between processes,
// the server's clock, data that only the server can refuse.
import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { isPawlError, PawlError } from "../../src/base/errors.ts";
import { systemRandom } from "../../src/base/id.ts";
import { absent, addEvent, addItem, commit, conflict, conformanceModel, fill, holds, idsOf, is, put, refused, rejects, set, succeeded, upTo, wholeChain, write } from "../../src/store/conformance/model.ts";
import { KINDS } from "../../src/core/kinds.ts";
import { openPostgres } from "../../src/store/postgres/postgres.ts";
import { ServerClock } from "../../src/store/postgres/clock.ts";
import { TIMES } from "../../src/store/postgres/driver.ts";
import * as sql from "../../src/store/postgres/sql.ts";
import { settings } from "../../src/store/postgres/transaction.ts";
import { readPostgresUrl } from "../../src/store/postgres/url.ts";
import type { Kind, Model } from "../../src/store/store.ts";
import { postgresUrl } from "../postgres.ts";
import { newPlace, type Place } from "./postgres-place.ts";

const SECRET = "s3cr%40t";

test("a password is in no location and in no error", async () => {
  const server = new URL(await postgresUrl());
  const urls = [
    `postgres://pawl:${SECRET}@127.0.0.1:1/db`, `postgres://pawl:${SECRET}@no.such.host.invalid/db`, `postgres://nobody:${SECRET}@${server.host}/no_such_database`,
    `postgres://pawl:${SECRET}@${server.host}:port/db`, `postgres://pawl:${SECRET}@${server.host}/postgres?schema=Not-One`, `postgres://pawl@127.0.0.1:1/db?password=${SECRET}`,
  ];
  for (const url of urls) {
    const error = await openPostgres(url, conformanceModel, { clock: systemClock, random: systemRandom }, { wait: 100, connect: 1_000 }).catch((thrown: unknown) => thrown);
    assert.ok(error instanceof PawlError, String(error));
    assert.ok(error.next, error.message);
    const cause = error.cause instanceof Error ? `${error.cause.stack} ${JSON.stringify(error.cause)}` : "";
    const shown = `${error.message} ${error.next} ${error.stack} ${JSON.stringify(error.details)} ${cause}`;
    assert.doesNotMatch(shown, /s3cr/, shown);
  }
  assert.equal(readPostgresUrl(`postgresql://ann:${SECRET}@db.example:5433/app?schema=work`).location, "postgres://ann@db.example:5433/app?schema=work");
  assert.equal(readPostgresUrl(`postgres://ann@db.example/app?password=${SECRET}`).location, "postgres://ann@db.example/app");
});

test("the name of a schema is checked before it is used", () => {
  for (const schema of ["a", "pawl_2", "_x"]) assert.equal(readPostgresUrl(`postgres://h/d?schema=${schema}`).schema, schema);
  for (const schema of ["", "A", "1a", "a-b", 'a"b', "a;drop", "pg_catalog", "a".repeat(60)]) assert.throws(() => readPostgresUrl(`postgres://h/d?schema=${encodeURIComponent(schema)}`), { code: "usage" }, schema);
  assert.throws(() => readPostgresUrl("postgres://h/d?notify=maybe"), { code: "usage" });
});

test("a misspelled parameter is refused; those of the driver are passed on", () => {
  for (const name of ["shcema", "Schema", "scema", "notfy", "sslmod", "connectTimeout", "hots", "dbname"]) assert.throws(() => readPostgresUrl(`postgres://h/d?${name}=x`), (error) => isPawlError(error, "usage") && error.message.includes(name) && /It has schema and notify,.* sslmode/.test(error.next), name);
  for (const hidden of ["ann:12?s3cret@h/d", "ann:12?s3cret=x@h/d", "ann:12?s3cret&x@h/d", "h/d?s3cret!=x"]) {
    assert.throws(() => readPostgresUrl(`postgres://${hidden}`), (error) => isPawlError(error, "usage") && !/s3cret/.test(`${error.message} ${error.next}`), hidden);
  }
  const { connection } = readPostgresUrl("postgres://h/d?sslmode=require&application_name=a&connect_timeout=3&channel_binding=prefer&options=-c%20x%3Dy&schema=work");
  assert.deepEqual(Object.fromEntries(new URL(connection).searchParams), { sslmode: "require", application_name: "a", connect_timeout: "3", channel_binding: "prefer", options: "-c x=y" });
  // Of libpq alone: pg reads none of them.
  const LIBPQ = ["sslcertmode", "sslcrldir", "requirepeer", "min_protocol_version", "max_protocol_version", "gssdelegation", "gsslib", "sslcompression", "sslkeylogfile", "scram_client_key", "scram_server_key", "oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"];
  for (const name of LIBPQ) assert.equal(readPostgresUrl(`postgres://h/d?${name}=x`).notice, null, name);
});

test("parameters for poolers and frameworks are left out, and named", async (t) => {
  const others = ["pgbouncer", "connection_limit", "pool_timeout", "socket_timeout", "statement_cache_size", "supa", "sslaccept", "workaround", "search_path", "prepareThreshold", "pool_size", "x"];
  for (const name of others) assert.match(readPostgresUrl(`postgres://h/d?${name}=x`).notice ?? "", new RegExp(`: ${name}\\.$`), name);
  const { connection, schema, location } = readPostgresUrl("postgres://h/d?pgbouncer=true&sslmode=disable&supa=base-pooler.x&schema=work");
  assert.deepEqual([connection, schema, location], ["postgres://h/d?sslmode=disable", "work", "postgres://h/d?sslmode=disable&schema=work"]);
  const place = await newPlace(t);
  const notices: string[] = [];
  await (await place.open({ parameters: { pgbouncer: "true", connection_limit: "1" }, notice: (line) => void notices.push(line) })).close();
  assert.deepEqual(notices.filter((line) => line.includes("parameters")), ["These parameters of the Postgres URL mean nothing here: pgbouncer, connection_limit."]);
});

test("many handles opened at once on nothing make one state", async (t) => {
  const place = await newPlace(t);
  const stores = await Promise.all(upTo(8).map(() => place.open()));
  const ids = await Promise.all(stores.map(async (store) => (await write(store, addItem()))[0]));
  assert.deepEqual(new Set(ids), new Set(upTo(8).map((i) => i + 1)));
});

/** The model with one more field of items, and an index on it. */
const later: Model = {
  ...conformanceModel,
  kinds: conformanceModel.kinds.map((kind): Kind => (kind.name === "item" ? { ...kind, fields: { ...kind.fields, extra: "text", weight: "integer" }, indexes: { ...kind.indexes, weight: { fields: ["weight"] } } } : kind)),
};
const withWeight: Model = {
  ...conformanceModel,
  kinds: conformanceModel.kinds.map((kind): Kind => (kind.name === "item" ? { ...kind, fields: { ...kind.fields, weight: "integer" }, indexes: { ...kind.indexes, weight: { fields: ["weight"] } } } : kind)),
};

test("a newer version adds its columns while an older one goes on", async (t) => {
  const place = await newPlace(t);
  const old = await place.open();
  await write(old, addItem({ id: 1, title: "a", weight: 7 }), addItem({ id: 2, weight: "heavy" }));
  const [newer] = await Promise.all([place.open({ model: withWeight }), place.open({ model: withWeight }), write(old, addItem({ id: 3 }))]);
  await holds(newer!, "item", 1, { weight: 7 });
  assert.deepEqual(idsOf(await newer!.list("item", { index: "weight", from: 0 })), [1]);
  await write(newer!, set("item", 3, { weight: 9 }));
  await write(old, set("item", 3, { title: "by the old one" }), addItem());
  await holds(newer!, "item", 3, { weight: 9, title: "by the old one" });
  await assert.rejects(place.open({ model: later }), { code: "internal" });
});

test("an older state can be read by a newer version without being changed", async (t) => {
  const place = await newPlace(t);
  await write(await place.open(), addItem({ id: 1, title: "a" }));
  const reader = await place.open({ model: withWeight, readOnly: true });
  await holds(reader, "item", 1, { title: "a", weight: null });
  assert.deepEqual(await place.sql("select 1 from information_schema.columns where column_name = 'weight' and table_schema = current_schema()"), []);
});

test("a newer format is refused, also when it comes while a handle is open", async (t) => {
  const place = await newPlace(t);
  const store = await place.open();
  await write(store, addItem({ id: 1 }));
  await place.sql("update pawl set value = '2' where name = 'format'");
  await rejects(store.commit([{ puts: [addItem()] }]), "unsupported");
  await assert.rejects(place.open(), { code: "unsupported" });
  assert.equal((await place.sql("select from item")).length, 1);
});

test("a schema of another program is left as it is", async (t) => {
  const place = await newPlace(t);
  await place.sql(`create schema ${place.schema}`, `create table ${place.schema}.item (id int, theirs text)`);
  await assert.rejects(place.open(), { code: "unsupported" });
  assert.deepEqual((await place.sql("select table_name from information_schema.tables where table_schema = current_schema()")).length, 1);
});

test("a role with the documented rights can work, and cannot make a state", async (t) => {
  const place = await newPlace(t);
  await (await place.open()).close();
  const role = `r_${place.schema}`;
  await place.sql(`create role ${role} login`, `grant usage on schema ${place.schema} to ${role}`, `grant select, insert, update, delete on all tables in schema ${place.schema} to ${role}`);
  t.after(() => place.sql(`drop owned by ${role}`, `drop role ${role}`));
  const url = new URL(place.url);
  url.username = role;
  const open = (target: string) => openPostgres(target, conformanceModel, { clock: systemClock, random: systemRandom });
  const store = await open(url.href);
  t.after(() => store.close());
  await write(store, addItem({ status: "pending", flag: true }), addEvent(1, "made"));
  await store.seal({ to: "x", at: "y" });
  await store.seal(null);
  url.searchParams.set("schema", `${place.schema}_2`);
  const error = await open(url.href).catch((thrown: unknown) => thrown);
  assert.ok(isPawlError(error, "storage"), String(error));
});

test("hazard 2: a write under an old fence is refused, however the new owner's commit comes between", async (t) => {
  const place = await newPlace(t);
  const store = await place.open();
  await write(store, addItem({ id: 1, revision: 7 }), put("counter", { id: "c", n: 0 }));
  // The new owner has raised the fence and not committed yet, when the old one's batch comes.
  const owner = await place.hold("update item set revision = 8 where id = 1");
  const zombie = store.commit([
    { guards: [is("item", 1, { revision: 7 })], puts: [put("part", { item_id: 1, name: "zombie" }), addEvent(1, "zombie")], additions: [{ kind: "counter", key: "c", field: "n", n: 1 }] },
    { puts: [addItem({ id: 5 })] },
  ]);
  await untilWaiting(place);
  await owner.query("commit");
  const [first, second] = await zombie;
  assert.equal(conflict(first, "guard", 0, "item")!["revision"], 8);
  succeeded(second);
  assert.equal(await store.count("part"), 0);
  assert.equal(await store.count("event"), 0);
  await holds(store, "counter", "c", { n: 0 });
});

/** Until somebody waits for a lock in the schema. */
async function untilWaiting(place: Place): Promise<void> {
  const text = `select from pg_stat_activity where wait_event_type = 'Lock' and query like '%${place.schema}%'`;
  while ((await place.sql(text)).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
}

test("hazard 24: of two handles one gets the only slot, whoever comes between", async (t) => {
  const place = await newPlace(t);
  const stores = [await place.open(), await place.open()];
  await fill(stores[0]!, upTo(40).map(() => ({ status: "pending", flag: true })));
  const due = { kind: "item", queries: [{ index: "due" }], order: ["priority"], limit: 1 };
  const claims = await Promise.all(upTo(20).map((i) => stores[i % 2]!.claim(due, ([item]) => item ? ({
    guards: [absent("group", ["slot", "0"])],
    puts: [put("group", { left: "slot", right: "0", order: i }), set("item", item["id"] as number, { status: "running" })],
  }) : null)));
  assert.equal(claims.filter((result) => result?.ok).length, 1);
  assert.equal(await stores[0]!.count("item", { index: "status", equals: { status: "running" } }), 1);
});

test("a claim passes over what others hold, and waits for nobody", async (t) => {
  const place = await newPlace(t);
  const store = await place.open();
  await fill(store, upTo(4).map((i) => ({ status: "pending", flag: true, priority: i })));
  await place.hold("select * from item where id in (1, 2) for no key update");
  let seen: unknown[] = [];
  const order = { kind: "item", queries: [{ index: "due" }], order: ["priority"], limit: 2 };
  succeeded(await store.claim(order, (records) => ((seen = idsOf(records)), { puts: records.map((record) => set("item", record["id"] as number, { status: "running" })) })));
  assert.deepEqual(seen, [3, 4]);
});

test("a claim behind changes of its batch that took away what was due finds the next", async (t) => {
  const place = await newPlace(t);
  const store = await place.open();
  await fill(store, upTo(30).map((i) => ({ status: "pending", flag: true, priority: i })));
  let seen: unknown[] = [];
  const order = { kind: "item", queries: [{ index: "due" }], order: ["priority"], limit: 3 };
  const taken = upTo(10).map((i) => ({ puts: [set("item", i + 1, { status: "done" })] }));
  const results = await store.commit([...taken, { claim: order, decide: (records) => ((seen = idsOf(records)), null) }]);
  results.forEach(succeeded);
  assert.deepEqual(seen, [11, 12, 13]);
});

test("the seal waits for who is writing, and for nobody else", async (t) => {
  const place = await newPlace(t);
  const store = await place.open();
  await write(store, addItem({ id: 1 }));
  const writer = await place.hold("select value from pawl");
  let sealed = false;
  const sealing = store.seal({ to: "x", at: "y" }).then(() => (sealed = true));
  await untilWaiting(place);
  assert.equal(sealed, false);
  assert.equal(await store.count("item"), 1);
  await writer.query("update item set title = 'written' where id = 1");
  await writer.query("commit");
  await sealing;
  await holds(store, "item", 1, { title: "written" });
  refused(await commit(store, { puts: [addItem()] }), "moved");
});

test("text that is too long for a unique index fails alone", async (t) => {
  const place = await newPlace(t);
  const store = await place.open();
  // Random, so that it cannot be made short.
  const long = systemRandom.hex(10_000);
  const results = await store.commit(upTo(20).map((i) => ({ puts: [addItem(i === 13 ? { key: long } : { key: `k${i}`, title: long }), addEvent(1, `e${i}`)] })));
  assert.deepEqual(results.flatMap((result, i) => (result.ok ? [] : [i])), [13]);
  refused(results[13]);
  assert.equal(await store.count("item"), 19);
  assert.equal((await wholeChain(store, 1)).length, 19);
  assert.deepEqual((await store.list("item", { index: "name", equals: { title: long }, limit: 2 })).length, 2);
});

test("long texts that begin alike are kept apart and in order", async (t) => {
  const place = await newPlace(t);
  const store = await place.open();
  const titles = ["a", "b", "", "aa"].map((end) => "x".repeat(1_500) + end);
  await fill(store, [...titles, "x", "y"].map((title) => ({ title })));
  assert.deepEqual(idsOf(await store.list("item", { index: "name" })), [5, 3, 1, 4, 2, 6]);
  assert.deepEqual(idsOf(await store.list("item", { index: "name", reverse: true })), [6, 2, 4, 1, 3, 5]);
  assert.deepEqual(idsOf(await store.list("item", { index: "name", equals: { title: titles[0]! } })), [1]);
  assert.deepEqual(idsOf(await store.list("item", { index: "name", from: titles[0]!, to: titles[1]! })), [1, 4]);
  const [first] = await store.list("item", { index: "name", limit: 1 });
  assert.deepEqual(idsOf(await store.list("item", { index: "name", after: first! })), [3, 1, 4, 2, 6]);
});

test("the rules go by the server's clock, whatever this machine's says", async (t) => {
  const place = await newPlace(t);
  const store = await place.open({ clock: { ...systemClock, now: () => Date.UTC(2001, 0, 1) } });
  const times: number[] = [];
  await store.claim({ kind: "item", queries: [{ index: "due" }], order: [], limit: 1 }, (_, now) => (times.push(now), null));
  const [row] = await place.sql("select extract(epoch from clock_timestamp()) * 1000 as now");
  const off = Math.abs(times[0]! - Number(row!["now"]));
  assert.ok(off < 5_000, `${off} ms from the server's time`);
});

test("the server's time is known within the time of an answer, and does not go back", () => {
  let local = 0;
  const clock = new ServerClock({ ...systemClock, monotonic: () => local });
  clock.measured(1_000_000, 0, 100);
  local = 100;
  const first = clock.now();
  assert.ok(first >= 1_000_000 && first <= 1_000_100);
  // A slow answer says less than is known already; a quick one says more.
  clock.measured(1_000_150, 100, 1_100);
  local = 1_100;
  assert.ok(clock.now() >= 1_001_000 && clock.now() <= 1_001_102, String(clock.now()));
  clock.measured(1_001_050, 1_100, 1_102);
  local = 1_102;
  assert.ok(Math.abs(clock.now() - 1_001_052) <= 3, String(clock.now()));
  const before = clock.now();
  clock.measured(before - 500, 1_102, 1_103);
  assert.ok(clock.now() >= before, "a small step back is waited for");
  clock.measured(500_000, 1_103, 1_104);
  assert.ok(Math.abs(clock.now() - 500_000) < 10, "a large one is followed");
});

test("a server with fsync off is named", async (t) => {
  const { startPostgres } = await import("../../scripts/postgres.ts");
  const server = await startPostgres(["fsync=off", "synchronous_commit=off"]);
  t.after(() => server.stop());
  const place = await newPlace(t, server.url);
  const notices: string[] = [];
  await write(await place.open({ notice: (line) => notices.push(line) }), addItem());
  assert.equal(notices.length, 1);
  assert.match(notices[0]!, /fsync=off/);
});

test("no read scans a table or sorts the whole of it, not even one that was planned while the table was empty", async (t) => {
  const place = await newPlace(t);
  await (await place.open({ model: { ...conformanceModel, kinds: KINDS } })).close();
  const names = { schema: place.schema, columns: null };
  const plan = async ({ text, values }: { readonly text: string; readonly values: readonly string[] }, lock = "") => {
    const given = values.length === 0 ? "" : `(${values.map((value) => `'${value}'`).join(", ")})`;
    const lines = await place.sql("begin", "set local plan_cache_mode = force_generic_plan", settings(TIMES).text, `prepare asked as ${text}${lock}`, `explain (costs off) execute asked${given}`);
    return lines.map((line) => line["QUERY PLAN"]).join("\n");
  };
  for (const kind of KINDS) {
    for (const index of [undefined, ...Object.keys(kind.indexes)]) {
      const read = sql.readText(names, kind, { ...(index === undefined ? {} : { index }) }, "records", 100)!;
      const said = await plan(read);
      assert.match(said, /Index Scan/, `${kind.name} ${index}: ${said}`);
      assert.doesNotMatch(said, /Seq Scan|Bitmap|^\s*(->)?\s*Sort$/m, `${kind.name} ${index}: ${said}`);
    }
  }
  const task = KINDS.find(({ name }) => name === "task")!;
  const claim = await plan(sql.readText(names, task, { index: "due", equals: { queue: "default", batch_id: null } }, "records", 100)!, " for no key update of t skip locked");
  assert.match(claim, /LockRows\s+->\s+Index Scan using task_by_due/);
  assert.doesNotMatch(claim, /Sort/);
});

test("what a batch replaced unread, and what it only compared, is known whole to those who come later in it", async (t) => {
  const store = await (await newPlace(t)).open();
  await write(store, addItem({ id: 1, title: "t", revision: 1 }), put("part", { item_id: 1, name: "p", n: 1 }));
  const results = await store.commit([
    { guards: [is("item", 1, { revision: 1 })], puts: [put("part", { item_id: 1, name: "p", n: 2 })] },
    { guards: [is("item", 1, { revision: 2 })], puts: [] },
    {
      claim: { kind: "item", queries: [{ equals: { id: 1 } }], order: [], limit: 1 },
      decide: () => ({ guards: [is("part", [1, "p"], { n: 2 })], puts: [set("item", 1, { revision: 2 })] }),
    },
    { guards: [is("item", 1, { title: "t", revision: 2 })], puts: [] },
  ]);
  assert.deepEqual(results.map(({ ok }) => ok), [true, false, true, true]);
  assert.ok("conflict" in results[1]!);
  assert.equal(results[1].conflict.record!["title"], "t");
  assert.equal((await store.get("part", [[1, "p"]]))[0]!["n"], 2);
});

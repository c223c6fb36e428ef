// The Postgres store when the connection or the server fails: lost answers, half-open connections, restarts, ended backends,
// a full server, killed neighbours. Each must end in the truth: acknowledged is there once, and nothing is there twice.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test, type TestContext } from "node:test";
import pg from "pg";
import { startPostgres } from "../../scripts/postgres.ts";
import { systemClock } from "../../src/base/clock.ts";
import { isPawlError } from "../../src/base/errors.ts";
import { systemRandom } from "../../src/base/id.ts";
import { addEvent, addItem, commit, conformanceModel, is, put, set, succeeded, until, upTo, wholeChain, write } from "../../src/store/conformance/model.ts";
import { openPostgres } from "../../src/store/postgres/postgres.ts";
import type { Store } from "../../src/store/store.ts";
import { postgresUrl, query } from "../postgres.ts";
import { newPlace, type Place } from "./postgres-place.ts";
import { Proxy } from "./postgres-proxy.ts";

/** Told as the soak tells it. */
const wentOn = (t: TestContext, fault: string, since: number): void => t.diagnostic(`${fault}: went on after ${Math.round(performance.now() - since)} ms`);

const IMPATIENT = { answer: 700, connect: 2_000, poll: 300 };

async function throughProxy(t: TestContext): Promise<{ place: Place; proxy: Proxy; store: Store; direct: Store }> {
  const proxy = await Proxy.start(Number(new URL(await postgresUrl()).port));
  t.after(() => proxy.stop());
  const place = await newPlace(t);
  const store = await place.open({ port: proxy.port, times: IMPATIENT });
  const direct = await place.open();
  await write(direct, addItem({ id: 1, title: "old", revision: 1 }), put("counter", { id: "c", n: 0 }));
  return { place, proxy, store, direct };
}

/** What no retry may do twice: a raised counter, an event, an id. */
const change = (key: string) => ({ guards: [is("item", 1, {})], puts: [addItem({ key }), addEvent(1, key)], additions: [{ kind: "counter", key: "c", field: "n", n: 1 }] });

async function appliedOnce(direct: Store, times: number): Promise<void> {
  assert.equal((await direct.get("counter", ["c"]))[0]!["n"], times);
  assert.equal((await wholeChain(direct, 1)).length, times);
  assert.equal(await direct.count("item"), 1 + times);
}

test("the answer to a commit is lost: it is found to be there, and not made again", async (t) => {
  const { proxy, store, direct } = await throughProxy(t);
  for (const i of upTo(3)) {
    proxy.fault = "answer";
    succeeded(await commit(store, change(`k${i}`)));
    assert.equal(proxy.faults, i + 1);
  }
  await appliedOnce(direct, 3);
});

test("a commit that never got there is made again", async (t) => {
  const { proxy, store, direct } = await throughProxy(t);
  for (const i of upTo(3)) {
    proxy.fault = "request";
    succeeded(await commit(store, change(`k${i}`)));
    assert.equal(proxy.faults, i + 1);
  }
  await appliedOnce(direct, 3);
});

test("in a hurry a call still gets past a connection that broke, however late it comes", async (t) => {
  const { place, proxy, direct } = await throughProxy(t);
  const store = await place.open({ port: proxy.port, times: { ...IMPATIENT, close: 300 } });
  store.hurry!();
  await new Promise((resolve) => setTimeout(resolve, 600));
  proxy.fault = "request";
  succeeded(await commit(store, change("late")));
  assert.equal(proxy.faults, 1);
  await appliedOnce(direct, 1);
});

/** Until the second connection has noted that what is held back must not happen. */
const voided = async (place: Place) => {
  while ((await place.sql("select from pawl_writer where voided")).length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
};

test("hazard 17: a commit that gets there after it was given up does nothing", async (t) => {
  const { place, proxy, store, direct } = await throughProxy(t);
  proxy.fault = "hold";
  // Written on nothing that the held transaction has locked, so that the second try gets through first.
  succeeded(await commit(store, { puts: [addItem({ key: "late" }), addEvent(2, "late")] }));
  assert.equal(proxy.faults, 1);
  proxy.release();
  succeeded(await commit(store, change("after")));
  // The server reads what was held at its leisure; a client that waits behind every lock has seen it done.
  await place.sql("begin", "lock table item in access exclusive mode", "commit");
  assert.equal((await wholeChain(direct, 2)).length, 1);
  assert.equal(await direct.count("item"), 3);
});

test("hazard 17: the same while it holds the locks that the second try needs", async (t) => {
  const { place, proxy, store, direct } = await throughProxy(t);
  proxy.fault = "hold";
  const pending = commit(store, change("k"));
  await voided(place);
  // The second try waits for the rows; what was held arrives, divides by zero and gives them up.
  proxy.release();
  succeeded(await pending);
  assert.equal(proxy.faults, 1);
  await appliedOnce(direct, 1);
});

test("a half-open connection is found out, and the call goes on with another", async (t) => {
  const { proxy, store, direct } = await throughProxy(t);
  assert.equal(await store.count("item"), 1);
  proxy.fault = "silence";
  const reading = store.count("item");
  const writing = commit(store, change("k"));
  await proxy.faulted();
  proxy.fault = "none";
  assert.ok((await reading) >= 1);
  succeeded(await writing);
  await appliedOnce(direct, 1);
});

test("a server that stays away is told in words, without the password", async (t) => {
  const proxy = await Proxy.start(Number(new URL(await postgresUrl()).port));
  const place = await newPlace(t);
  const store = await place.open({ port: proxy.port, times: { ...IMPATIENT, patience: 500 } });
  await proxy.stop();
  const error = await store.commit([{ puts: [addItem()] }]).catch((thrown: unknown) => thrown);
  assert.ok(isPawlError(error, "storage"), String(error));
  assert.match(error.message, /cannot be reached/);
  assert.ok(error.next);
});

test("hints come again after the listening connection was lost", async (t) => {
  const { proxy, store, direct } = await throughProxy(t);
  let told = 0;
  store.watch(() => told++);
  await until(() => told > 0, "the first hint");
  proxy.fault = "silence";
  await proxy.faulted();
  proxy.fault = "none";
  const before = told;
  await write(direct, addItem());
  await until(() => told > before, "a hint after the connection was lost");
});

test("without notifications commits are found by looking", async (t) => {
  const place = await newPlace(t);
  const store = await place.open({ parameters: { notify: "off" }, times: { poll: 50 } });
  const other = await place.open({ parameters: { notify: "off" } });
  await write(other, addItem());
  let told = 0;
  store.watch(() => told++);
  await until(() => told > 0, "the first look");
  const before = told;
  await write(other, addItem());
  await until(() => told > before, "a later look");
});

/** Commits without a pause until told to stop; everything acknowledged is there once, and nothing else is. */
async function keepWriting(place: Place, disturb: () => Promise<void>): Promise<void> {
  const stores = [await place.open(), await place.open()];
  await write(stores[0]!, addItem({ id: 1 }), put("counter", { id: "c", n: 0 }));
  let stopped = false;
  const acknowledged: string[] = [];
  const loops = stores.flatMap((store, s) => upTo(3).map(async (l) => {
    for (let i = 0; !stopped; i++) {
      const key = `${s}-${l}-${i}`;
      succeeded(await commit(store, change(key)));
      acknowledged.push(key);
    }
  }));
  await until(() => acknowledged.length > 20, "the first commits");
  await disturb();
  const before = acknowledged.length;
  await until(() => acknowledged.length > before + 20, "commits afterwards", 40_000);
  stopped = true;
  await Promise.all(loops);
  await appliedOnce(stores[0]!, acknowledged.length);
  const items = new Set((await stores[0]!.list("item", { index: "key" })).map((record) => record["key"]));
  for (const key of acknowledged) assert.ok(items.has(key), key);
}

test("backends that are ended in mid-stream lose nothing and double nothing", { timeout: 120_000 }, async (t) => {
  const place = await newPlace(t);
  await keepWriting(place, async () => {
    let ended = 0;
    for (let i = 0; i < 10 || ended === 0; i++) {
      const { length } = await query(place.url, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pawl' and pid <> pg_backend_pid() and query like '%${place.schema}%'`);
      ended += length;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });
});

test("a server that restarts or crashes in mid-stream loses nothing and doubles nothing", { timeout: 180_000 }, async (t) => {
  const server = await startPostgres();
  t.after(() => server.stop());
  const place = await newPlace(t, server.url);
  await keepWriting(place, async () => {
    await server.restart("fast");
    await server.restart("immediate");
  });
});

test("a server without a free connection is told in words, and waited for", { timeout: 120_000 }, async (t) => {
  const server = await startPostgres(["max_connections=310"]);
  t.after(() => server.stop());
  const place = await newPlace(t, server.url);
  await (await place.open()).close();
  const idle = upTo(307).map(() => new pg.Client({ connectionString: server.url }));
  t.after(() => Promise.all(idle.map((client) => client.end())));
  for (const client of idle) client.on("error", () => undefined);
  await Promise.all(idle.map((client) => client.connect()));
  // The superuser of the tests may use the reserved ones, an ordinary role may not.
  await idle[0]!.query("create role worker login");
  const url = new URL(place.url);
  url.username = "worker";
  const error = await openPostgres(url.href, conformanceModel, { clock: systemClock, random: systemRandom }, { wait: 300 }).catch((thrown: unknown) => thrown);
  assert.ok(isPawlError(error, "busy"), String(error));
  assert.match(error.message, /no connection free/);
  const waiting = place.open();
  await Promise.all(idle.splice(1, 50).map((client) => client.end()));
  const freed = performance.now();
  assert.equal(await (await waiting).count("item"), 0);
  wentOn(t, "307 idle connections", freed);
});

test("a neighbour killed in the middle of its work is no obstacle", { timeout: 60_000 }, async (t) => {
  const place = await newPlace(t);
  const store = await place.open();
  await write(store, addItem({ id: 1, revision: 1 }));
  // A transaction that has locked the item and says nothing more, as of a process that was killed before its commit.
  const script = `import pg from "pg"; const c = new pg.Client(process.argv[1]); await c.connect();
    await c.query("begin; set local search_path to ${place.schema}; select * from item where id = 1 for no key update"); console.log("locked"); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script, await postgresUrl()], { cwd: join(import.meta.dirname, "../.."), stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  await once(createInterface({ input: child.stdout }), "line");
  const writing = commit(store, { guards: [is("item", 1, { revision: 1 })], puts: [set("item", 1, { revision: 2 })] });
  child.kill("SIGKILL");
  succeeded(await writing);
});

test("a row that somebody holds for long makes the call busy, and others go on", { timeout: 60_000 }, async (t) => {
  const place = await newPlace(t);
  const store = await place.open({ times: { lock: 100, wait: 500 } });
  const other = await place.open();
  await write(store, addItem({ id: 1, revision: 1 }), addItem({ id: 2 }));
  const holder = await place.hold("select * from item where id = 1 for update");
  const error = await commit(store, { puts: [set("item", 1, { revision: 2 })] }).catch((thrown: unknown) => thrown);
  assert.ok(isPawlError(error, "busy"), String(error));
  succeeded(await commit(other, { puts: [set("item", 2, { revision: 2 })] }));
  await holder.query("rollback");
  succeeded(await commit(store, { puts: [set("item", 1, { revision: 2 })] }));
});

test("a statement that takes too long is ended by the server, and nothing beside it", async (t) => {
  const place = await newPlace(t);
  const store = await place.open({ times: { statement: 200 } });
  // A view that is slow stands in for a table that is too large.
  await place.sql("alter table note rename to note_real", "create view note as select * from note_real where pg_sleep(1) is not null union all select 'n', 1, 'x', null from pg_sleep(1)");
  const asked = performance.now();
  // What goes in the same round trip is answered all the same.
  const beside = store.count("item");
  const error = await store.list("note").catch((thrown: unknown) => thrown);
  assert.ok(isPawlError(error, "busy"), String(error));
  assert.match(error.message, /too long/);
  assert.equal(await beside, 0);
  wentOn(t, "a statement of 1 s, with 200 ms for each", asked);
});

test("a state whose server is gone is closed without the patience of its calls", { timeout: 120_000 }, async (t) => {
  const server = await startPostgres();
  t.after(() => server.stop());
  const place = await newPlace(t, server.url);
  const notices: string[] = [];
  const store = await place.open({ notice: (line) => notices.push(line), times: { patience: 600_000 } });
  await write(store, addItem({ id: 1 }));
  await server.kill();
  const gone = performance.now();
  const calls = [commit(store, { puts: [addItem({ id: 2 })] }), commit(store, { puts: [addItem({ id: 3 })] }), store.count("item")];
  const ends = calls.map((call) => call.then(() => "answered", (error: unknown) => (isPawlError(error) ? error.code : String(error))));
  await store.close();
  wentOn(t, "a server that is gone for good, closing", gone);
  for (const end of await Promise.all(ends)) assert.ok(["storage", "commit_unknown"].includes(end), end);
  assert.match(notices.join("\n"), /could not be reached while it was closed/);
});

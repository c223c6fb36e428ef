// Conformance: what outlives a handle and a process. Acknowledged is there after reopening and after kill -9, nothing is
// half there, and several handles and processes on one place work as one.
import assert from "node:assert/strict";
import { absent, addEvent, addItem, cases, commit, conflict, fill, fits, holds, idsOf, is, put, read, remove, set, succeeded, until, upTo, wholeChain, write, type ConformanceCase, type ConformanceChild, type ConformanceEnv } from "./model.ts";
import { isPawlError } from "../../base/errors.ts";
import type { Change, Store } from "../store.ts";

async function reopen(store: Store, env: ConformanceEnv): Promise<Store> {
  await store.close();
  return env.open();
}

const durable = cases("reopen", {
  "records are as they were": async (store, env) => {
    const values = { key: "k", title: "é😀\u{10FFFF}\n\"\\", status: "pending", priority: -3, score: 0.1, flag: false, data: { b: [1, { a: null }], a: "x" }, extra: [true], extra_null: null };
    await write(store, addItem({ id: 1, ...values }), addItem({ id: 2 }), put("part", { item_id: 1, name: "", value: "null" }), put("note", { text: "" }));
    await write(store, set("item", 2, { extra: { a: 1 }, score: 5e-324 }));
    const kinds = ["item", "part", "note"];
    const before = await Promise.all(kinds.map((kind) => store.list(kind)));
    const again = await reopen(store, env);
    assert.deepEqual(await Promise.all(kinds.map((kind) => again.list(kind))), before);
    await holds(again, "item", 1, values);
  },
  "every index is as it was": async (store, env) => {
    await fill(store, upTo(30).map((i) => ({ key: `k${i}`, title: `t${i % 4}`, status: i % 2 === 0 ? "pending" : null, flag: i % 3 === 0, priority: i % 5, batch: "b", slot: i })));
    await write(store, remove("item", 3), set("item", 5, { status: "x" }), addItem({ id: 7 }));
    const indexes = ["key", "slot", "status", "name", "flag", "due", "due_in", "free"];
    const before = await Promise.all(indexes.map(async (index) => idsOf(await store.list("item", { index }))));
    const again = await reopen(store, env);
    assert.deepEqual(await Promise.all(indexes.map(async (index) => idsOf(await again.list("item", { index })))), before);
    fits(conflict(await commit(again, { puts: [addItem({ key: "k8" })] }), "put", 0, "item"), { id: 9 });
    await write(again, addItem({ key: "k2" }));
  },
  "ids go on, also after the highest was deleted": async (store, env) => {
    await fill(store, [{}, {}, {}]);
    await write(store, put("note", {}), addItem({ id: 40 }));
    await write(store, remove("item", 40), remove("note", "n1"));
    assert.deepEqual(await write(await reopen(store, env), addItem(), put("note", {})), [41, "n2"]);
  },
  "ids go on after everything was deleted and opened twice": async (store, env) => {
    await fill(store, [{}, {}]);
    await write(store, remove("item", 1), remove("item", 2));
    const again = await reopen(await reopen(store, env), env);
    assert.deepEqual(await write(again, addItem()), [3]);
  },
  "operation ids are remembered": async (store, env) => {
    succeeded(await commit(store, { op_id: "o1", puts: [addItem()] }));
    const again = await reopen(store, env);
    const result = await commit(again, { op_id: "o1", puts: [addItem()] });
    assert.ok(result.ok && result.repeated);
    assert.equal(await again.count("item"), 1);
  },
  "chains go on": async (store, env) => {
    await write(store, addEvent(1, "a"), addEvent(2, "b"), addEvent(1, "c"));
    conflict(await commit(store, { puts: [addEvent(1, "lost"), set("item", 99, {})] }), "put", 1, "item");
    const again = await reopen(store, env);
    await write(again, addEvent(1, "d"), addEvent(3, "e"));
    assert.deepEqual((await wholeChain(again, 1)).map((event) => event["what"]), ["a", "c", "d"]);
    await wholeChain(again, 2);
    await wholeChain(again, 3);
  },
  "what was deleted stays deleted, what was replaced stays replaced": async (store, env) => {
    await write(store, addItem({ id: 1, title: "a", extra: 1 }), addItem({ id: 2, title: "b" }));
    await write(store, remove("item", 2), addItem({ id: 1, status: "s" }));
    const again = await reopen(store, env);
    assert.equal(await read(again, "item", 2), null);
    assert.ok(!("extra" in (await holds(again, "item", 1, { title: null, status: "s" }))));
  },
  "nothing of failed changes is there": async (store, env) => {
    await store.commit([{ puts: [addItem({ id: 1 })] }, { puts: [addItem({ id: 2 }), set("item", 99, {})] }, { puts: [addItem({ id: 3 }), addItem({ title: "\0" })] }, { puts: [addItem({ id: 4 })] }]);
    assert.deepEqual(idsOf(await (await reopen(store, env)).list("item")), [1, 4]);
  },
  "commits pending at close are there when they were acknowledged": async (store, env) => {
    const pending = Promise.allSettled(upTo(20).map((i) => commit(store, { puts: [addItem({ key: `k${i}` })] })));
    const again = await reopen(store, env);
    for (const [i, outcome] of (await pending).entries()) {
      if (outcome.status === "fulfilled" && outcome.value.ok) assert.equal(await again.count("item", { index: "key", equals: { key: `k${i}` } }), 1);
    }
  },
  "a large batch is there whole": async (store, env) => {
    await fill(store, upTo(2_000).map((i) => ({ priority: i, data: { text: "x".repeat(200) } })));
    const again = await reopen(store, env);
    assert.equal(await again.count("item"), 2_000);
    await holds(again, "item", 2_000, { priority: 1_999 });
  },
  "many small commits are there": async (store, env) => {
    for (const i of upTo(300)) await write(store, put("counter", { id: "c", n: i }), addItem({ priority: i }));
    const again = await reopen(store, env);
    await holds(again, "counter", "c", { n: 299 });
    assert.equal(await again.count("item"), 300);
  },
}, "durable");

const handles = cases("two handles", {
  "one reads what the other was acknowledged": async (store, env) => {
    const other = await env.open();
    for (const i of upTo(10)) {
      await write(i % 2 === 0 ? store : other, put("counter", { id: "c", n: i }), addItem());
      await holds(i % 2 === 0 ? other : store, "counter", "c", { n: i });
      assert.equal(await (i % 2 === 0 ? other : store).count("item"), i + 1);
    }
  },
  "guards of one see the writes of the other": async (store, env) => {
    const other = await env.open();
    await write(store, put("counter", { id: "c", n: 1 }));
    await write(other, set("counter", "c", { n: 2 }));
    fits(conflict(await commit(store, { guards: [is("counter", "c", { n: 1 })], puts: [] }), "guard", 0, "counter"), { n: 2 });
    fits(conflict(await commit(other, { guards: [absent("counter", "c")], puts: [] }), "guard", 0, "counter"), { n: 2 });
  },
  "share ids, chains, unique values and operation ids": async (store, env) => {
    const other = await env.open();
    const change = (key: string): Change => ({ op_id: `op-${key}`, puts: [addItem({ key }), addEvent(1, key)] });
    const told = [await commit(store, change("a")), await commit(other, change("b")), await commit(store, change("c"))].map((result) => succeeded(result)[0]);
    assert.deepEqual(told, [1, 2, 3]);
    assert.equal((await wholeChain(other, 1)).length, 3);
    conflict(await commit(store, { puts: [addItem({ key: "b" })] }), "put", 0, "item");
    const again = await commit(store, change("b"));
    assert.ok(again.ok && again.repeated);
  },
  "never claim one record twice": async (store, env) => {
    const stores = [store, await env.open(), await env.open()];
    await fill(store, upTo(60).map(() => ({ status: "pending", flag: true, priority: 1 })));
    const taken: unknown[] = [];
    await Promise.all(upTo(60).map((i) => stores[i % 3]!.claim({ kind: "item", queries: [{ index: "due" }], order: ["priority"], limit: 2 }, (records) =>
      records.length === 0 ? null : { puts: records.flatMap(({ id }) => [set("item", id as number, { status: "running" }), addEvent(id!, `by ${i}`)]) })));
    for (const id of upTo(60)) taken.push(...(await wholeChain(stores[1]!, id + 1)));
    assert.equal(taken.length, 60);
  },
  "spend one budget exactly": async (store, env) => {
    const stores = [store, await env.open()];
    await write(store, put("counter", { id: "c", n: 0 }));
    const results = await Promise.all(upTo(60).map((i) => commit(stores[i % 2]!, { puts: [], additions: [{ kind: "counter", key: "c", field: "n", n: 2, max: 51 }] })));
    assert.equal(results.filter((result) => result.ok).length, 25);
    await holds(stores[1]!, "counter", "c", { n: 50 });
  },
  "each is told of the other's commit": async (store, env) => {
    const other = await env.open();
    let told = 0;
    store.watch(() => told++);
    await write(other, addItem());
    await until(() => told > 0, "the hint of the other handle's commit");
  },
  "closing one leaves the other working": async (store, env) => {
    const other = await env.open();
    await write(other, addItem());
    await other.close();
    await write(store, addItem());
    assert.equal(await store.count("item"), 2);
  },
}, "durable");

/** Every commit must be refused, as a value or by throwing, and claims too. */
async function writesNothing(store: Store): Promise<void> {
  const order = { kind: "item", queries: [{ index: "due" }], order: ["priority"], limit: 1 };
  for (const call of [() => commit(store, { puts: [addItem()] }), () => commit(store, { puts: [remove("item", 1)] }), () => store.claim(order, () => ({ puts: [addItem()] }))]) {
    const outcome = await call().catch((error: unknown) => error);
    const error = outcome !== null && typeof outcome === "object" && "ok" in outcome && outcome.ok === false && "error" in outcome ? outcome.error : outcome;
    assert.ok(isPawlError(error), `a write must be refused, not answered by ${JSON.stringify(outcome)}`);
  }
}

const readOnly = cases("read only", {
  "reads all and writes nothing": async (store, env) => {
    await write(store, addItem({ id: 1, title: "a", status: "s" }), put("note", {}));
    const before = await store.list("item");
    await store.close();
    const reader = await env.open({ readOnly: true });
    assert.deepEqual(await reader.list("item"), before);
    assert.deepEqual(await reader.get("item", [1, 2]), [before[0], null]);
    assert.deepEqual({ ...(await reader.count("item", { index: "status" }, "status")) }, { s: 1 });
    await writesNothing(reader);
    await reader.close();
    assert.deepEqual(await (await env.open()).list("item"), before);
  },
  "beside a writer sees what is acknowledged": async (store, env) => {
    await write(store, addItem());
    const reader = await env.open({ readOnly: true });
    await write(store, addItem(), put("counter", { id: "c", n: 1 }));
    assert.equal(await reader.count("item"), 2);
    await holds(reader, "counter", "c", { n: 1 });
    await writesNothing(reader);
    await write(store, addItem());
    assert.equal(await reader.count("item"), 3);
  },
  "of an empty place creates nothing": async (_, env) => {
    const opened = await env.fresh({ readOnly: true }).catch((error: unknown) => error);
    if (isPawlError(opened)) return assert.ok(["not_found", "unsupported"].includes(opened.code), opened.code);
    assert.ok(!(opened instanceof Error), String(opened));
    assert.deepEqual(await (opened as Store).list("item"), []);
    await writesNothing(opened as Store);
  },
}, "durable");

/** The lines a child prints until it ends. */
async function lines(child: ConformanceChild): Promise<string[]> {
  const all: string[] = [];
  for (let line = await child.next(); line !== null; line = await child.next()) all.push(line);
  assert.equal(await child.exited, 0, `a child failed: ${all.join(" | ")}`);
  return all;
}

const start = (env: ConformanceEnv, count: number, role: string, args: (i: number) => readonly string[]) => Promise.all(upTo(count).map((i) => lines(env.spawn!(role, args(i)))));

/** Kills a child that commits for ever after it was acknowledged `count` times; what it printed is what was acknowledged. */
async function killAfter(env: ConformanceEnv, count: number, args: readonly string[]): Promise<[string, number][]> {
  const child = env.spawn!("commit-forever", args);
  const acknowledged: [string, number][] = [];
  for (let line = await child.next(); line !== null; line = await child.next()) {
    acknowledged.push(JSON.parse(line) as [string, number]);
    if (acknowledged.length === count) child.kill();
  }
  assert.equal(await child.exited, null, "the child was killed, it did not end by itself");
  return acknowledged;
}

/** What the role "commit-forever" leaves: every change whole, every acknowledged one there. */
async function checkAfterKill(store: Store, acknowledged: readonly [string, number][]): Promise<void> {
  const items = await store.list("item");
  const byKey = new Map(items.map((record) => [record["key"], record["id"]]));
  for (const [key, id] of acknowledged) assert.equal(byKey.get(key), id, `${key} was acknowledged`);
  await holds(store, "counter", "c", { n: items.length });
  for (const record of items) assert.equal(await store.count("note", { index: "item", equals: { item_id: record["id"] as number } }), 2);
  assert.equal(await store.count("note"), 2 * items.length);
  assert.equal(await store.count("op"), items.length);
  assert.deepEqual((await wholeChain(store, 0)).map((event) => event["what"]).sort(), [...byKey.keys()].sort());
  const result = await commit(store, { op_id: acknowledged[0]![0], puts: [addItem()] });
  assert.ok(result.ok && result.repeated);
}

const killed = cases("kill -9", {
  "of a process that commits one by one": async (store, env) => {
    await write(store, put("counter", { id: "c", n: 0 }));
    await store.close();
    const acknowledged = await killAfter(env, 40, ["a", "1"]);
    await checkAfterKill(await env.open(), acknowledged);
  },
  "of a process with eight commits in flight": async (store, env) => {
    await write(store, put("counter", { id: "c", n: 0 }));
    await store.close();
    const acknowledged = await killAfter(env, 123, ["a", "8"]);
    await checkAfterKill(await env.open(), acknowledged);
  },
  "three times in a row, then work goes on": async (store, env) => {
    await write(store, put("counter", { id: "c", n: 0 }));
    await store.close();
    const acknowledged: [string, number][] = [];
    for (const [i, count] of [17, 5, 31].entries()) acknowledged.push(...(await killAfter(env, count, [`r${i}`, "4"])));
    const again = await env.open();
    await checkAfterKill(again, acknowledged);
    const [id] = await write(again, addItem());
    assert.ok((id as number) > Math.max(...acknowledged.map(([, n]) => n)));
  },
  "of a neighbour while this process goes on": async (store, env) => {
    await write(store, put("counter", { id: "c", n: 0 }));
    let done = false;
    const mine: [string, number][] = [];
    const working = (async () => {
      for (let i = 0; !done; i++) {
        const key = `mine-${i}`;
        const puts = [addItem({ key }), put("note", { item_id: { $new: 0 } }), put("note", { item_id: { $new: 0 } }), addEvent(0, key)];
        const ids = succeeded(await commit(store, { op_id: key, puts, additions: [{ kind: "counter", key: "c", field: "n", n: 1 }] }));
        mine.push([key, ids[0] as number]);
        // A store may answer without ever leaving this thread; the lines of the child need a turn as well.
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    const theirs = await killAfter(env, 30, ["theirs", "3"]).finally(() => (done = true));
    await working;
    await checkAfterKill(store, [...mine, ...theirs]);
  },
}, "processes");

const processes = cases("processes", {
  "four that increment lose nothing": async (store, env) => {
    await write(store, put("counter", { id: "c", n: 0 }));
    await start(env, 4, "increment", () => ["50"]);
    await holds(store, "counter", "c", { n: 200 });
  },
  "four that read, guard and write lose nothing": async (store, env) => {
    await write(store, put("counter", { id: "c", n: 0, revision: 0 }));
    await start(env, 4, "revise", () => ["25"]);
    await holds(store, "counter", "c", { n: 100, revision: 100 });
  },
  "four claim two hundred records, each once": async (store, env) => {
    await fill(store, upTo(200).map((i) => ({ status: "pending", flag: true, priority: i % 5 })));
    const taken = (await start(env, 4, "claim", (i) => [`w${i}`, "3"])).map((printed) => printed.flatMap((line) => JSON.parse(line) as number[]));
    assert.equal(taken.flat().length, 200);
    assert.equal(new Set(taken.flat()).size, 200);
    for (const [i, ids] of taken.entries()) for (const record of await store.get("item", ids)) fits(record, { owner: `w${i}`, status: "running" });
    for (const id of upTo(200)) assert.equal((await wholeChain(store, id + 1)).length, 1);
  },
  "four that insert get ids of their own": async (store, env) => {
    const told = (await start(env, 4, "insert", () => ["60"])).flat().flatMap((line) => JSON.parse(line) as [number, string][]);
    assert.equal(told.length, 240);
    assert.equal(new Set(told.map(([id]) => id)).size, 240);
    assert.equal(new Set(told.map(([, note]) => note)).size, 240);
    for (const [id, note] of told) await holds(store, "note", note, { item_id: id });
  },
  "one is told of another's commit": async (store, env) => {
    const child = env.spawn!("watch", []);
    assert.equal(await child.next(), "watching");
    await write(store, addItem());
    assert.equal(await child.next(), "told");
    child.kill();
    await child.exited;
  },
  "twenty with a hundred updates each make two thousand": async (store, env) => {
    await write(store, put("counter", { id: "c", n: 0 }));
    const longest = (await start(env, 20, "increment", () => ["100"])).map(([line]) => Number(line));
    await holds(store, "counter", "c", { n: 2_000 });
    env.note?.(`20 processes with 100 updates each: the longest wait of one update was ${Math.max(...longest)} ms`);
  },
}, "processes");

export const durableCases: readonly ConformanceCase[] = [...durable, ...handles, ...readOnly, ...killed, ...processes];

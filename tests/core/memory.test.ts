// Memory on every store: what supersedes what, what contradicts what, how sure it is by now, and that a search finds the
// same in the same order wherever it is kept, at a cost that does not grow.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { manualClock } from "../../src/base/clock.ts";
import { isPawlError, type ErrorCode } from "../../src/base/errors.ts";
import { LIMITS } from "../../src/base/limits.ts";
import { attributeKey, effectiveConfidence, entityKey, looksSecret } from "../../src/core/memory.ts";
import { queryWords, tokens, wordsOf } from "../../src/core/search.ts";
import type { State } from "../../src/state.ts";
import type { Store } from "../../src/store/store.ts";
import { memoryTools } from "../../src/agent/memory-tools.ts";
import { place } from "../pawl.ts";
import { LASTING, statePlace } from "../places.ts";

const PLACES = ["memory", ...LASTING];
const DAY = 86_400_000;
const values = (memories: readonly { readonly value: unknown }[]) => memories.map(({ value }) => value);

/* ---------- words ---------- */

for (const [text, words] of [
  ["Favourite colour: dark-blue!", ["favourite", "colour", "dark", "blue"]],
  ["Café CAFE\u0301 ＡＢＣ１２", ["cafe", "cafe", "abc12"]],
  ["snake_case and don't", ["snake", "case", "and", "don", "t"]],
  ["磁盘已满 x 東", ["磁盘", "盘已", "已满", "x", "東"]],
  ["v2東京へ", ["v2", "東京", "京へ"]],
  ["  \n ¡¿ 😀", []],
  ["x".repeat(100), ["x".repeat(64)]],
] as const) {
  test(`the words of ${JSON.stringify(text.slice(0, 30))}`, () => assert.deepEqual(tokens(text), words));
}

test("any text has words that every store can hold, in bounded number, and the same twice", () => {
  fc.assert(fc.property(fc.string({ unit: "binary", maxLength: 200 }), fc.jsonValue(), (text, value) => {
    for (const word of tokens(text)) assert.ok(word.isWellFormed() && !word.includes("\0") && word.length > 0 && word.length <= 128, JSON.stringify(word));
    const memory = { entity: text, attribute: "a", value: value as never, context: null };
    assert.deepEqual(wordsOf(memory), wordsOf(memory));
    assert.ok(queryWords(text).length <= LIMITS.searchWords);
  }), { numRuns: 50 });
  const many = wordsOf({ entity: "e", attribute: "a", value: Array.from({ length: 1_000 }, (_, i) => `w${i}`).join(" "), context: null });
  assert.equal(many.length, LIMITS.memoryWords);
});

test("names are compared without case, width and spacing", () => {
  assert.equal(entityKey("  Robert \t Smith".replace("\t", " ")), entityKey("ROBERT smith"));
  assert.equal(attributeKey("Favourite Colour"), attributeKey("favourite_colour"));
  assert.notEqual(entityKey("task:a:1"), entityKey("task:a:2"));
});

/* ---------- how sure ---------- */

for (const [days, wanted] of [[0, 0.8], [90, 0.4], [180, 0.2], [45, 0.8 / Math.SQRT2], [-5, 0.8]] as const) {
  test(`a confidence of 0.8 after ${days} days`, () => {
    const sure = effectiveConfidence({ confidence: 0.8, verified_at: "2026-01-01T00:00:00.000Z" }, Date.UTC(2026, 0, 1) + days * DAY);
    assert.ok(Math.abs(sure - wanted) < 1e-12, String(sure));
  });
}

test("secrets are told from words", () => {
  for (const secret of ["sk-abcdefghijklmnopqrstuvwx", "ghp_0123456789abcdefghij0123456789abcdef", "AKIAIOSFODNN7EXAMPLE", "postgres://ann:hunter2@db/x", "-----BEGIN RSA PRIVATE KEY-----", `eyJ${"a".repeat(20)}.eyJ${"b".repeat(20)}.${"c".repeat(20)}`]) {
    assert.ok(looksSecret("note", `see ${secret} there`), secret);
  }
  assert.ok(looksSecret(attributeKey("API key"), "9f8e7d6c5b4a"));
  for (const [attribute, text] of [["password_policy", "twelve characters and no birthday"], ["note", "task sk-12 is done"], ["url", "https://example.com/a@b"], ["token_count", "150000"], ["password", "it is in the vault"]] as const) assert.ok(!looksSecret(attribute, text), text);
});

/* ---------- on every store ---------- */

for (const name of PLACES) {
  test(`row 28, ${name}: a new value supersedes the old one, which stays; two sources contradict each other; a person settles it`, async (t) => {
    const state = await (await statePlace(t, name)).open();
    const { memory } = state;
    const say = (value: unknown, source: string, more = {}) => memory.store({ entity: "Bob", attribute: "employer", value, source, ...more });
    const [first, second] = [await say("Acme", "crm"), await say("Initech", "crm")];
    assert.deepEqual(second.supersedes, [first.memory.id]);
    assert.deepEqual(values(await memory.recall({ entity: "bob" })), ["Initech"]);
    const third = await say("Globex", "mail");
    assert.deepEqual([third.supersedes, third.memory.conflicts], [[], [second.memory.id]]);
    const [conflict] = await memory.conflicts();
    assert.deepEqual([conflict!.entity, values(conflict!.memories).sort()], ["Bob", ["Globex", "Initech"]]);
    const again = await say("Globex", "crm");
    assert.deepEqual([again.known, again.supersedes], [true, [second.memory.id]], "crm agrees with mail, and takes its own word back");
    assert.deepEqual(await memory.conflicts(), []);
    await say("Acme", "web");
    const settled = await say("Hooli", "user");
    assert.equal(settled.supersedes.length, 2);
    assert.deepEqual([values(await memory.recall({ entity: "bob", attribute: "Employer" })), (await memory.conflicts()).length], [["Hooli"], 0]);
    await say("Acme", "web");
    assert.equal((await memory.conflicts()).length, 1, "nothing but a person supersedes a person");
    const last = await say("Acme", "web", { supersede: true });
    assert.deepEqual(last.supersedes, [settled.memory.id]);
    const all = await memory.list({ entity: "bob", all: true });
    assert.deepEqual(all.map(({ value, status }) => [value, status]), [["Acme", "current"], ["Hooli", "superseded"], ["Acme", "superseded"], ["Globex", "superseded"], ["Initech", "superseded"], ["Acme", "superseded"]]);
    assert.equal(all.find(({ id }) => id === first.memory.id)!.superseded_by, second.memory.id);
  });

  test(`${name}: forgetting takes it out of recall and search and leaves a tombstone; erasing takes the content too`, async (t) => {
    const { memory } = await (await statePlace(t, name)).open();
    const old = (await memory.store({ entity: "bob", attribute: "street", value: "Zebra Road" })).memory;
    const now = (await memory.store({ entity: "bob", attribute: "street", value: "Giraffe Way", context: "moved" })).memory;
    await memory.store({ entity: "bob", attribute: "city", value: "Giraffeville" });
    assert.equal((await memory.search("zebra")).length, 0, "what was superseded is not found");
    const [gone] = await memory.forget({ id: now.id }, { reason: "he asked" });
    assert.deepEqual([gone!.status, gone!.reason, gone!.value], ["forgotten", "he asked", "Giraffe Way"]);
    assert.deepEqual([await memory.search("giraffe"), await memory.recall({ entity: "bob", attribute: "street" })], [[], []]);
    await assert.rejects(memory.forget({ id: now.id }), (error) => isPawlError(error, "not_found"));
    const erased = await memory.forget({ entity: "Bob" }, { erase: true });
    assert.equal(erased.length, 3);
    for (const { id } of [old, now]) assert.deepEqual(pick(await memory.get(id)), { value: null, context: null, erased: true });
    assert.equal((await memory.get(old.id)).status, "superseded");
    await assert.rejects(memory.verify(now.id), (error) => isPawlError(error, "illegal_transition"));
    assert.deepEqual(values([(await memory.store({ entity: "bob", attribute: "street", value: "Lion Lane" })).memory]), ["Lion Lane"]);
  });

  test(`${name}: of many who store at once, each sees the others`, async (t) => {
    const place = await statePlace(t, name);
    const states = name === "memory" ? [await place.open()] : [await place.open(), await place.open()];
    const at = (i: number) => states[i % states.length]!.memory;
    await Promise.all(Array.from({ length: 24 }, (_, i) => at(i).store({ entity: "e", attribute: "one source", value: i, source: "tool" })));
    const one = await at(0).list({ entity: "e", all: true });
    assert.deepEqual([one.length, one.filter(({ status }) => status === "current").length], [24, 1]);
    await Promise.all(Array.from({ length: 6 }, (_, i) => at(i).store({ entity: "e", attribute: "six sources", value: i, source: `tool ${i}` })));
    assert.deepEqual((await at(0).conflicts()).map(({ memories }) => memories.length), [6]);
    await Promise.all(Array.from({ length: 6 }, (_, i) => at(i).store({ entity: "e", attribute: "agreed", value: "same", source: `tool ${i}` })));
    const agreed = await at(1).recall({ entity: "e", attribute: "agreed" });
    assert.deepEqual(agreed.map(({ verifications }) => verifications), [5]);
    assert.equal((await at(0).search("six")).length, 6);
    await totalsAreRight(states[0]!);
  });

  test(`${name}: names, attributes, relations and limits of a recall`, async (t) => {
    const { memory } = await (await statePlace(t, name)).open();
    for (const [entity, attribute, value] of [["Bob", "age", 41], ["Robert Smith", "city", "Rome"], ["Ann", "age", 39], ["Bob", "shoe size", 44]] as const) await memory.store({ entity, attribute, value });
    assert.deepEqual(values(await memory.recall({ entity: "bob" })), [44, 41]);
    await memory.relate({ from: "bob", type: "same as", to: "robert  smith" });
    assert.deepEqual(values(await memory.recall({ entity: "BOB" })).sort(), [41, 44, "Rome"].sort());
    assert.equal((await memory.recall({ entity: "Robert Smith" })).length, 3);
    assert.deepEqual(values(await memory.recall({ attribute: "Age" })).sort(), [39, 41]);
    assert.equal((await memory.recall({ limit: 2 })).length, 2);
    await memory.relate({ from: "Bob", type: "works_at", to: "Acme" });
    await memory.relate({ from: "Bob", type: "works_at", to: "Acme" });
    assert.deepEqual((await memory.relations("acme")).map(({ from_entity, type }) => [from_entity, type]), [["Bob", "works_at"]]);
    await memory.relate({ from: "bob", type: "works_at", to: "acme", remove: true });
    assert.deepEqual(await memory.relations("Acme"), []);
    await assert.rejects(memory.relate({ from: "bob", type: "works_at", to: "acme", remove: true }), (error) => isPawlError(error, "not_found"));
    await assert.rejects(memory.relate({ from: "bob", type: "same_as", to: "BOB" }), (error) => isPawlError(error, "usage"));
  });
}

const pick = ({ value, context, erased }: { value: unknown; context: unknown; erased: boolean }) => ({ value, context, erased });

/** What is counted and indexed is what is current. */
async function totalsAreRight({ committer: { store }, memory }: State): Promise<void> {
  const current = await store.list("memory", { index: "current" });
  const [total] = await store.get("memory_total", ["all"]);
  assert.equal(total!["memories"], current.length);
  const words = new Set((await store.list("memory_word")).map((word) => word["memory_id"]));
  assert.deepEqual([...words].sort(), current.map(({ id }) => id).sort());
  assert.equal((await memory.list({ all: true, limit: 10_000 })).length, await store.count("memory"));
}

test("a memory fades with the days, and counts from the day somebody verified it", async (t) => {
  const clock = manualClock();
  const { memory } = await (await statePlace(t, "memory")).open({ clock });
  const { id } = (await memory.store({ entity: "api", attribute: "version", value: "v3", confidence: 0.8 })).memory;
  const sure = async () => Number((await memory.get(id)).effective_confidence.toFixed(6));
  await clock.advance(90 * DAY);
  assert.equal(await sure(), 0.4);
  assert.deepEqual(await memory.recall({ entity: "api", minConfidence: 0.5 }), []);
  assert.deepEqual([values(await memory.recall({ entity: "api", minConfidence: 0.5, halfLifeDays: 365 })), await memory.search("version", { minConfidence: 0.5 })], [["v3"], []]);
  await memory.verify(id);
  assert.equal(await sure(), 0.8);
  await memory.verify(id, { confidence: 0.5 });
  assert.deepEqual([await sure(), (await memory.get(id)).verifications], [0.5, 2]);
  await clock.advance(90 * DAY);
  await memory.store({ entity: "api", attribute: "version", value: "v3", source: "user" });
  assert.equal(await sure(), 1, "said again, and more surely");
});

/* ---------- search ---------- */

test("a search finds the rarer word, the name and the newer one first", async (t) => {
  const { memory } = await (await statePlace(t, "memory")).open();
  const put = async (entity: string, attribute: string, value: string) => (await memory.store({ entity, attribute, value })).memory.id;
  const notes = [await put("disk", "state", "the server is full"), await put("server", "note", "a long story of how the disk was bought and then somebody else came along with it"), await put("mail", "note", "the weather is fine")];
  const found = async (query: string) => (await memory.search(query)).map(({ id }) => id);
  assert.deepEqual(await found("disk"), [notes[0], notes[1]]);
  assert.deepEqual(await found("WEATHER the"), [notes[2], notes[0], notes[1]].filter((id) => id !== undefined));
  const [a, b] = [await put("x1", "same", "twin"), await put("x2", "same", "twin")];
  assert.deepEqual(await found("twin"), [b, a]);
  assert.deepEqual(await found("nothing like that"), []);
  assert.deepEqual(await found("!?"), []);
});

test("a search gives the same memories in the same order on every store", { timeout: 120_000 }, async (t) => {
  const states = await Promise.all(PLACES.map(async (name) => (await statePlace(t, name)).open()));
  const word = fc.constantFrom("disk", "full", "the", "server", "Server", "naïve", "naive", "磁盘", "v2", "don't", "ünï", "42", "é", "the the the");
  const text = fc.array(word, { minLength: 1, maxLength: 12 }).map((list) => list.join(" "));
  const command = fc.record({ entity: fc.constantFrom("a", "b", "C", "d e"), attribute: fc.constantFrom("x", "y", "z z"), value: fc.oneof(text, fc.jsonValue({ maxDepth: 2 })), source: fc.constantFrom("p", "q", "user"), forget: fc.integer({ min: 0, max: 5 }) });
  const all = <T>(fn: (state: State) => Promise<T>): Promise<T[]> => Promise.all(states.map(fn));
  const same = async (fn: (state: State) => Promise<unknown>) => {
    const [first, ...others] = await all(fn);
    for (const other of others) assert.deepEqual(other, first);
    return first;
  };
  const outcome = async (call: Promise<unknown>) => call.then(() => "done", (error: unknown) => (isPawlError(error) ? error.code : String(error)));
  const seed = Number(process.env["PAWL_TEST_SEED"] ?? Date.now());
  t.diagnostic(`PAWL_TEST_SEED=${seed}`);
  await fc.assert(fc.asyncProperty(fc.array(command, { minLength: 1, maxLength: 8 }), fc.array(text, { minLength: 1, maxLength: 3 }), async (commands, queries) => {
    for (const { forget, ...memory } of commands) {
      await same((state) => outcome(state.memory.store(memory)));
      if (forget === 0) await same((state) => outcome(state.memory.forget({ entity: memory.entity, attribute: memory.attribute }, { erase: true })));
    }
    for (const query of queries) await same(async (state) => (await state.memory.search(query, { limit: 50 })).map(({ id, score, conflicts }) => [id, score, conflicts]));
    await same(async (state) => (await state.memory.conflicts()).map(({ entity, memories }) => [entity, memories.map(({ id }) => id)]));
  }), { numRuns: Number(process.env["PAWL_TEST_RUNS"] ?? 12), seed });
  for (const state of states) await totalsAreRight(state);
});

test("what a search and a recall read does not grow with what is remembered", { timeout: 120_000 }, async (t) => {
  const state = await (await statePlace(t, "memory")).open();
  const { committer: { store }, memory } = state;
  const fill = (from: number, to: number) => Promise.all(Array.from({ length: to - from }, (_, i) => memory.store({ entity: `service ${from + i}`, attribute: "owner of the disk", value: `team ${(from + i) % 50}` })));
  const costs: number[] = [];
  for (const [from, to] of [[0, 1_000], [1_000, 10_000]] as const) {
    await fill(from, to);
    const read = countReads(store);
    const found = await memory.search("the disk of service 77", { limit: 5 });
    assert.equal(found[0]!.entity, "service 77");
    await memory.recall({ entity: "service 77" });
    await memory.store({ entity: "service 77", attribute: "owner of the disk", value: "team 7" });
    costs.push(read());
  }
  t.diagnostic(`records read with 1,000 and 10,000 memories: ${costs.join(", ")}`);
  assert.ok(costs[1]! <= costs[0]! * 1.2 + 50, `${costs[0]} records were read with 1,000 memories, ${costs[1]} with 10,000`);
});

/** Counts the records that a store gives out; the result ends it and says how many. */
function countReads(store: Store): () => number {
  const { get, list } = store;
  let n = 0;
  store.get = async (...args) => {
    const found = await get.apply(store, args);
    n += found.length;
    return found;
  };
  store.list = async (...args) => {
    const found = await list.apply(store, args);
    n += found.length;
    return found;
  };
  return () => {
    Object.assign(store, { get, list });
    return n;
  };
}

test("a common word is weighed for every candidate, also where it is not among its best", async (t) => {
  const { memory } = await (await statePlace(t, "memory")).open();
  await Promise.all(Array.from({ length: LIMITS.searchCandidates + 50 }, (_, i) => memory.store({ entity: `common ${i}`, attribute: "common", value: "common common" })));
  const long = "word ".repeat(60);
  const both = (await memory.store({ entity: "rare", attribute: "a", value: `${long} common` })).memory.id;
  const rare = (await memory.store({ entity: "rare", attribute: "b", value: `${long} other` })).memory.id;
  assert.deepEqual((await memory.search("rare common", { limit: 2 })).map(({ id }) => id), [both, rare]);
});

/* ---------- what is refused ---------- */

test("what cannot be remembered is refused with a reason, and nothing is written", async (t) => {
  const state = await (await statePlace(t, "memory")).open();
  const good = { entity: "e", attribute: "a", value: "v" };
  const bad: readonly (readonly [object, ErrorCode])[] = [
    [{ entity: "" }, "usage"], [{ entity: "  " }, "usage"], [{ entity: "a\nb" }, "usage"], [{ entity: "x".repeat(LIMITS.nameChars + 1) }, "usage"], [{ entity: 7 }, "usage"],
    [{ attribute: "" }, "usage"], [{ value: null }, "usage"], [{ value: undefined }, "usage"], [{ value: "x".repeat(LIMITS.memoryBytes) }, "value_refused"],
    [{ value: "a\0b" }, "value_refused"], [{ value: () => 1 }, "value_refused"], [{ context: "x".repeat(LIMITS.memoryBytes) }, "value_refused"],
    [{ confidence: 1.1 }, "usage"], [{ confidence: -0.1 }, "usage"], [{ confidence: NaN }, "usage"], [{ confidence: "1" }, "usage"], [{ source: "" }, "usage"],
    [{ value: "sk-abcdefghijklmnopqrstuvwx" }, "value_refused"], [{ attribute: "db password", value: "hunter2hunter2" }, "value_refused"],
  ];
  for (const [wrong, code] of bad) await assert.rejects(state.memory.store({ ...good, ...wrong }), (error) => isPawlError(error, code), JSON.stringify(wrong).slice(0, 60));
  for (const id of ["m1", "", "nonsense"]) for (const call of [() => state.memory.get(id), () => state.memory.verify(id), () => state.memory.forget({ id })]) await assert.rejects(call, (error) => isPawlError(error, "not_found"));
  assert.equal(await state.committer.store.count("memory"), 0);
  await state.memory.store({ ...good, attribute: "db password", value: "hunter2hunter2", allowSecret: true });
});

/* ---------- the model's tools, and the user's own memory ---------- */

test("a model remembers and finds by its tools; when memory fails it is told and goes on", async (t) => {
  const { memory } = await (await statePlace(t, "memory")).open();
  const call = async (tools: ReturnType<typeof memoryTools>, name: string, input: unknown) => (tools[name]!.execute as (input: unknown) => Promise<unknown>)(input);
  const tools = memoryTools(memory);
  await memory.store({ entity: "user", attribute: "language", value: "German", source: "user" });
  const stored = (await call(tools, "memory_store", { entity: "user", attribute: "language", value: "English" })) as { stored: { contradicted_by: string[] }; supersedes: string[] };
  assert.deepEqual([stored.stored.contradicted_by, stored.supersedes], [["m1"], []], "a model does not supersede a person");
  assert.equal(((await call(tools, "memory_recall", { entity: "user" })) as unknown[]).length, 2);
  assert.equal(((await call(tools, "memory_search", { query: "english" })) as unknown[]).length, 1);
  assert.match(JSON.stringify(await call(tools, "memory_store", { entity: "", attribute: "x", value: 1 })), /error.*Go on without it/);
  const broken = memoryTools({ store: () => Promise.reject(new Error("down")), recall: () => Promise.reject(new Error("down")), search: () => Promise.reject(new Error("down")) });
  for (const name of Object.keys(broken)) assert.match(JSON.stringify(await call(broken, name, { entity: "e", attribute: "a", value: 1, query: "q" })), /Memory cannot be used: down/);
});

test("the command line keeps the user's own memory in their config folder, and makes no state in the project", async (t) => {
  const { pawl, path, state } = place(t);
  const env = { XDG_CONFIG_HOME: path("config") };
  const run = (...args: string[]) => pawl(args, { env });
  const stored = await run("memory", "store", "user", "language", "German", "--scope", "user", "--source", "user");
  assert.deepEqual([stored.code, stored.stderr], [0, ""]);
  const recalled = await run("memory", "recall", "user", "--scope", "user");
  assert.match(recalled.stdout, /language +100 % +user +German/);
  assert.ok(existsSync(path("config/pawl/memory.json")) && !existsSync(state));
  assert.match((await run("memory", "recall", "user")).stdout, /Nothing is remembered/);
  assert.equal((await run("memory", "store", "deploy", "command", "make")).code, 0, "the first thing a project keeps may be a memory");
  assert.ok(existsSync(state));
  assert.match((await run("memory", "recall", "user")).stdout, /Nothing is remembered/);
});

test("the command line keeps bytes as they are, and reads parts", async (t) => {
  const { pawl, json } = place(t);
  await pawl(["add", "x"]);
  const put = await pawl(["artifact", "put", "-", "--json"], { input: "a\r\nb\u0000\u001b[31m" });
  const { id } = (JSON.parse(put.stdout) as { data: { id: string } }).data;
  assert.equal((await pawl(["artifact", "get", id])).stdout, "a\r\nb\u0000\u001b[31m");
  assert.equal((await pawl(["artifact", "get", id, "--bytes", "0-1"])).stdout, "a\r");
  assert.deepEqual((await json<{ content: string; encoding: string }>(["artifact", "get", id, "--max", "1"])), { artifact_id: id, type: "application/octet-stream", bytes: 10, from: 0, to: 1, truncated: true, encoding: "base64", content: "YQ==" });
  for (const args of [["get", id, "--bytes", "5"], ["get", id, "--lines", "1-2"], ["put", "."]]) assert.equal((await pawl(["artifact", ...args])).code, 2, args.join(" "));
});

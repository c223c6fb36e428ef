// Artifacts on every store: what was put is what is read, in whole and in parts; the same content is kept once; collecting
// never takes what is named, also when both happen at once.
import assert from "node:assert/strict";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import fc from "fast-check";
import { manualClock } from "../../src/base/clock.ts";
import { isPawlError } from "../../src/base/errors.ts";
import { LIMITS } from "../../src/base/limits.ts";
import { artifactId, cutContent, isLarger, largeOutput, readable } from "../../src/core/artifact.ts";
import { placeAt, type State } from "../../src/state.ts";
import type { Change } from "../../src/store/store.ts";
import { LASTING, statePlace } from "../places.ts";
import { simulate } from "../simulation.ts";
import { STORES } from "../stores.ts";

const BY = { actor: "ann", now: Date.UTC(2026, 0, 1) };
const DAY = 86_400_000;
const PLACES = ["memory", ...LASTING];

/** About a megabyte of text with characters of one to four bytes, and lines of all lengths. */
const LONG = Array.from({ length: 9_000 }, (_, i) => `${i} ${"aé€😀".repeat(i % 23)}`).join("\n");
const BINARY = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * i) % 256));

test("a content is cut between characters, and its chunks say where they begin", () => {
  const { artifact, chunks } = cutContent(LONG, {}, BY);
  const bytes = Buffer.from(LONG);
  assert.equal(artifact.bytes, bytes.length);
  assert.equal(artifact.lines, LONG.split("\n").length);
  assert.ok(chunks.length > 1);
  for (const chunk of chunks) {
    const before = bytes.subarray(0, chunk.at).toString();
    assert.equal(bytes.subarray(chunk.at, chunk.at + chunk.bytes).toString(), chunk.data);
    assert.equal(before.split("\n").length - 1, chunk.line);
    assert.ok(!chunk.data!.includes("\ufffd"));
  }
  assert.equal(chunks.map(({ data }) => data).join(""), LONG);
});

for (const [what, content, encoding, lines] of [
  ["nothing", "", "utf-8", 0], ["one line without an end", "a", "utf-8", 1], ["one line", "a\n", "utf-8", 1], ["an empty line", "\n", "utf-8", 1],
  ["NUL", "a\0b", "base64", null], ["what is not UTF-8", Buffer.from([0xc3, 0x28]), "base64", null], ["half a surrogate pair", "a\ud800", "utf-8", 1],
] as const) {
  test(`a content of ${what}`, () => {
    const { artifact } = cutContent(content, {}, BY);
    assert.deepEqual([artifact.encoding, artifact.lines], [encoding, lines]);
  });
}

test("a text that was cut anywhere is read without half characters", () => {
  fc.assert(fc.property(fc.string({ unit: "grapheme", maxLength: 20 }), fc.nat(60), fc.nat(60), (text, a, b) => {
    const bytes = Buffer.from(text);
    const part = readable(bytes.subarray(Math.min(a, b), Math.max(a, b)));
    assert.ok(text.toWellFormed().includes(part) && !part.includes("\ufffd"), JSON.stringify([text, part]));
  }));
});

test("a step's output is large when its JSON is", () => {
  fc.assert(fc.property(fc.jsonValue({ maxDepth: 4 }), fc.nat(300), (value, most) => {
    const length = JSON.stringify(value).length;
    // Only escapes and long numbers make a difference.
    if (isLarger(value as never, most)) assert.ok(length * 2 + 8 > most);
    else assert.ok(length < 6 * most + 30);
  }));
  assert.equal(largeOutput({ ok: true }, "small", BY), null);
  assert.equal(largeOutput(["x".repeat(LIMITS.stepOutputBytes)], "large", BY)!.artifact.type, "application/json");
});

for (const name of PLACES) {
  test(`${name}: what was put is what is read, in whole, by bytes and by lines`, async (t) => {
    const state = await (await statePlace(t, name)).open();
    const text = await state.artifacts.put(LONG, { type: "tool_result.logs", summary: "long" });
    const bytes = Buffer.from(LONG);
    const lines = LONG.split("\n");
    assert.equal((await state.artifacts.read(text.id)).text, LONG);
    const near = LIMITS.artifactChunkBytes;
    for (const [from, to] of [[0, 10], [near - 5, near + 5], [near, near], [2 * near - 1, 3 * near + 2], [bytes.length - 3, bytes.length + 99], [bytes.length + 5, bytes.length + 9]] as const) {
      assert.deepEqual((await state.artifacts.read(text.id, { range: { bytes: { from, to } } })).bytes, bytes.subarray(from, to), `bytes ${from} to ${to}`);
    }
    for (const chunk of cutContent(LONG, {}, BY).chunks) {
      for (const from of [chunk.line, chunk.line + 1, chunk.line + 2].filter((line) => line >= 1)) {
        const part = await state.artifacts.read(text.id, { range: { lines: { from, to: from + 2 } } });
        assert.equal(part.text!.replace(/\n$/, ""), lines.slice(from - 1, from + 2).join("\n"), `lines from ${from}`);
        assert.equal(bytes.subarray(part.from, part.to).toString(), part.text);
      }
    }
    assert.equal((await state.artifacts.read(text.id, { range: { lines: { from: lines.length + 1 } } })).text, "");
    const some = await state.artifacts.read(text.id, { range: { lines: { from: 1 } }, maxBytes: 100 });
    assert.deepEqual([some.bytes.length, some.truncated], [100, true]);
    const binary = await state.artifacts.put(BINARY);
    const read = await state.artifacts.read(binary.id, { range: { bytes: { from: near - 2, to: near + 7 } } });
    assert.deepEqual([read.text, read.bytes], [null, BINARY.subarray(near - 2, near + 7)]);
    assert.deepEqual((await state.artifacts.read(binary.id)).bytes, BINARY);
    assert.deepEqual((await state.artifacts.list()).map(({ id }) => id).sort(), [text.id, binary.id].sort());
  });

  test(`${name}: the same content is kept once, as it was first described`, async (t) => {
    const clock = manualClock();
    const state = await (await statePlace(t, name)).open({ clock });
    const first = await state.artifacts.put("same", { type: "a", summary: "first" });
    await clock.advance(1_000);
    const [second] = await Promise.all([state.artifacts.put("same", { type: "b" }), state.artifacts.put(Buffer.from("same"))]);
    assert.deepEqual({ ...second, used_at: "" }, { ...first, used_at: "" });
    if (name !== "postgres") assert.ok(second!.used_at > first.used_at);
    assert.equal(await state.committer.store.count("artifact"), 1);
    assert.equal((await state.artifacts.get(first.id.slice(0, 20))).id, first.id);
  });

  test(`${name}: collecting takes what no record names, and nothing else`, async (t) => {
    const place = await statePlace(t, name);
    const state = await place.open();
    const put = async (text: string) => (await state.artifacts.put(text)).id;
    const [inResult, inInput, inMemory, inContext, unused] = [await put("1"), await put("2"), await put("3"), await put("4"), await put("5")];
    const task = await state.tasks.add({ description: "x", input: { see: inInput } });
    await state.tasks.complete(task.id, { log: [inResult] });
    await state.memory.store({ entity: "build", attribute: "log", value: inMemory, context: { also: inContext } });
    assert.equal((await state.artifacts.gc()).removed.length, 0, "what was put today stays");
    await passed(state);
    const dry = await state.artifacts.gc({ dryRun: true, olderThanMs: 0 });
    assert.deepEqual(dry.removed.map(({ id }) => id), [unused]);
    assert.equal((await state.artifacts.list()).length, 5);
    assert.deepEqual((await state.artifacts.gc({ olderThanMs: 0 })).removed.map(({ id }) => id), [unused]);
    for (const id of [inResult, inInput, inMemory, inContext]) assert.equal((await state.artifacts.read(id)).bytes.length, 1);
    await assert.rejects(state.artifacts.read(unused), (error) => isPawlError(error, "not_found"));
    assert.equal(await state.committer.store.count("chunk"), 4);
  });

  test(`${name}: put while it is collected, it stays; collected while it is put, it is put anew`, async (t) => {
    const state = await (await statePlace(t, name)).open();
    const { id } = await state.artifacts.put("contested");
    await passed(state);
    // Just before the collector's change, which it decided on while nobody used the artifact, somebody puts it again.
    await between(state, (change) => deletes(change, id), () => state.artifacts.put("contested"), () => state.artifacts.gc({ olderThanMs: 0 }));
    assert.equal((await state.artifacts.read(id)).text, "contested");
    await passed(state);
    // Just before a put that found it there, it is collected.
    await between(state, (change) => change.puts.some((one) => "set" in one && one.key === id), () => state.artifacts.gc({ olderThanMs: 0 }), () => state.artifacts.put("contested"));
    assert.equal((await state.artifacts.read(id)).text, "contested");
  });
}

/** Waits until the store's clock has moved, so that what was put is older than nothing. */
async function passed(state: State): Promise<void> {
  const { clock } = state.committer.store;
  for (const start = clock.now(); clock.now() <= start + 1; ) await new Promise((resolve) => setTimeout(resolve, 2));
}

const deletes = (change: Change, id: string): boolean => change.puts.some((put) => "delete" in put && put.kind === "artifact" && put.key === id);

/** Runs `first` at the very moment when `then` commits a change that `is` it. */
async function between(state: State, is: (change: Change) => boolean, first: () => Promise<unknown>, then: () => Promise<unknown>): Promise<void> {
  const { committer } = state;
  const commit = committer.commit.bind(committer);
  let reached = false;
  committer.commit = async (change) => {
    if (reached || !is(change)) return commit(change);
    reached = true;
    await first();
    return commit(change);
  };
  try {
    await then();
  } finally {
    committer.commit = commit;
  }
  assert.ok(reached, "the moment never came");
}

for (const store of STORES) {
  test(`${store.name}: a large output of a step is an artifact, and a replay gives what the first run gave`, async (t) => {
    const { state, start, until } = await simulate(t, store);
    const large = { log: LONG.slice(0, 100_000).toWellFormed(), n: 1 };
    const task = await state.tasks.add({ description: "x" });
    const seen: unknown[] = [];
    const runs = { n: 0 };
    const execute = async (_: unknown, { step, attempt }: Parameters<Parameters<typeof start>[0]>[1]) => {
      seen.push(await step("large", () => (runs.n++, large)));
      if (attempt === 1) throw new Error("again");
      return (seen.at(-1) as typeof large).log.length;
    };
    start(execute);
    await until(task.id);
    assert.equal(runs.n, 1);
    assert.deepEqual(seen, [large, large]);
    const [step] = await state.tasks.steps(task.id);
    assert.deepEqual([step!.output, step!.output_artifact], [null, artifactId(JSON.stringify(large))]);
    assert.equal((await state.tasks.get(task.id)).result, 100_000);
    assert.equal((await state.artifacts.gc({ olderThanMs: 0 })).removed.length, 0);
  });
}

test("a worker that dies at any write of a step with a large output leaves no step without it", async (t) => {
  const large = "x".repeat(2 * LIMITS.stepOutputBytes);
  for (const when of ["before", "after"] as const) {
    for (let write = 1; write <= 5; write++) {
      const { state, start, until } = await simulate(t);
      const task = await state.tasks.add({ description: "x" });
      const execute = async (_: unknown, { step }: Parameters<Parameters<typeof start>[0]>[1]) => (await step("large", () => large)).length;
      start(execute, { death: { write, when } });
      start(execute);
      assert.equal((await until(task.id)).result, large.length);
      for (const { output_artifact } of await state.tasks.steps(task.id)) assert.equal(JSON.parse((await state.artifacts.read(output_artifact!)).text!), large);
    }
  }
});

test("a large put that was interrupted is not whole until it is put again, and is collected when it is not", async (t) => {
  const clock = manualClock();
  const state = await (await statePlace(t, "memory")).open({ clock });
  const content = Buffer.alloc(9 << 20, "large ");
  const id = artifactId(content);
  const { committer } = state;
  const commit = committer.commit.bind(committer);
  let left = 2; // its record, and the first piece
  committer.commit = async (change) => (left-- > 0 ? commit(change) : Promise.reject(new Error("killed")));
  await assert.rejects(state.artifacts.put(content), /killed/);
  committer.commit = commit;
  await assert.rejects(state.artifacts.read(id), (error) => isPawlError(error, "not_found"));
  await clock.advance(DAY + 1);
  assert.deepEqual((await state.artifacts.gc({ dryRun: true })).removed.map((one) => one.id), [id]);
  assert.equal((await state.artifacts.put(content)).complete, true);
  assert.ok((await state.artifacts.read(id)).bytes.equals(content));
  await clock.advance(DAY + 1);
  await state.artifacts.gc();
  assert.equal(await committer.store.count("chunk"), 0);
});

test("what cannot be put or read is refused with a reason", async (t) => {
  const state = await (await statePlace(t, "memory")).open();
  const { id } = await state.artifacts.put(BINARY);
  const refused = async (call: () => Promise<unknown>, code: "usage" | "value_refused" | "not_found") => assert.rejects(call, (error) => isPawlError(error, code));
  await refused(() => state.artifacts.put(Buffer.alloc(LIMITS.artifactBytes + 1)), "value_refused");
  await refused(() => state.artifacts.put("x", { type: " " }), "value_refused");
  await refused(() => state.artifacts.get("sha256-0000"), "not_found");
  await refused(() => state.artifacts.read(id, { range: { lines: { from: 1 } } }), "usage");
  for (const range of [{ from: -1 }, { from: 2, to: 1 }, { from: 0.5 }, { from: NaN }]) await refused(() => state.artifacts.read(id, { range: { bytes: range } }), "usage");
  await refused(() => state.artifacts.read(id, { range: { lines: { from: 0 } } }), "usage");
});

/** A JSON state with one artifact, closed; its folder of contents. */
async function jsonWith(t: TestContext, content: string): Promise<{ url: string; id: string; folder: string; open: () => Promise<State> }> {
  const place = await statePlace(t, "json");
  const state = await place.open();
  const { id } = await state.artifacts.put(content);
  await state.close();
  return { url: place.url, id, folder: join(`${place.url}.pawl`, "artifacts"), open: () => place.open() };
}

test("json: contents are in files, not in journal, checkpoint or view; they go with the artifact", async (t) => {
  const { url, id, folder, open } = await jsonWith(t, LONG);
  assert.equal(readdirSync(folder).length, cutContent(LONG, {}, BY).chunks.length);
  for (const file of [url, join(`${url}.pawl`, "journal", "000001.jsonl")]) assert.ok(readFileSync(file).length < 10_000, file);
  const state = await open();
  assert.equal((await state.artifacts.read(id)).text, LONG);
  await passed(state);
  await state.artifacts.gc({ olderThanMs: 0 });
  assert.deepEqual(readdirSync(folder), []);
});

test("json: a lost or changed content is found by doctor, said when read, and healed by putting it again", async (t) => {
  for (const harm of [(file: string) => rmSync(file), (file: string) => writeFileSync(file, "something else")]) {
    const { url, id, folder, open } = await jsonWith(t, LONG);
    harm(join(folder, readdirSync(folder)[1]!));
    assert.ok((await placeAt(url).doctor()).healthy);
    assert.deepEqual((await placeAt(url).doctor({ deep: true })).findings.map(({ code }) => code), ["artifact_damaged"]);
    const state = await open();
    await assert.rejects(state.artifacts.read(id), (error) => isPawlError(error, "corrupt"));
    assert.equal((await state.artifacts.read(id, { range: { lines: { from: 1, to: 1 } } })).text, "0 \n", "the rest can be read");
    rmSync(folder, { recursive: true });
    await state.committer.store.commit([{ puts: [{ kind: "artifact", key: id, delete: true }] }]);
    await state.artifacts.put(LONG);
    assert.equal((await state.artifacts.read(id)).text, LONG);
    await state.close();
    assert.ok((await placeAt(url).doctor({ deep: true })).healthy);
  }
});

test("a copy to another store and a backup have the contents, and are whole", async (t) => {
  const { url, id } = await jsonWith(t, LONG);
  const backup = await placeAt(url).backup(join(url, "..", "backup.json"));
  for (const [from, to] of [[url, "state.db"], [join(url, "..", "state.db"), "again.json"]] as const) await placeAt(from).copyTo(join(url, "..", to), { waitMs: 0 });
  for (const path of [backup, join(url, "..", "again.json")]) assert.ok((await placeAt(path).doctor({ deep: true })).healthy, path);
  const { openState } = await import("../../src/state.ts");
  for (const path of [backup, join(url, "..", "again.json")]) {
    const state = await openState(path, { readOnly: true });
    assert.equal((await state.artifacts.read(id)).text, LONG);
    await state.close();
  }
});

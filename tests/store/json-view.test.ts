// The view: state.json follows the journal and is exact when closed, and whatever a person does to it in whatever instant
// is kept: what Pawl did not write itself goes to quarantine and is never overwritten.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, linkSync, readdirSync, readFileSync, renameSync, rmSync, statSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { manualClock, sleep, systemClock } from "../../src/base/clock.ts";
import { sha256 } from "../../src/base/json.ts";
import { writeFileAtomic } from "../../src/base/fs.ts";
import { isPawlError } from "../../src/base/errors.ts";
import type { Model } from "../../src/store/store.ts";
import { add, type Call, document, type Place, placeFor, quarantined, segment, setCounter, systemError, titles, viewed, watchedFs } from "./json-place.ts";

const journalText = (place: Place): string => readdirSync(join(place.dir, "journal")).sort().map((name) => readFileSync(join(place.dir, "journal", name), "utf8")).join("");
const noted = (place: Place): string[] => [...journalText(place).matchAll(/"view":\{"revision":\d+,"hash":"(\w+)"/g)].map((match) => match[1]!);
const hashOfFile = (path: string): string => sha256(readFileSync(path, "utf8"), 16);
const kept = (place: Place): string[] => quarantined(place).map((name) => readFileSync(join(place.dir, "quarantine", name), "utf8"));

test("a view of a new state, then of each moment a little later, and the exact one when closed", async (t) => {
  const place = placeFor(t);
  const store = await place.open({}, viewed);
  assert.deepEqual(document(place).items, []);
  await store.commit([add("a")]);
  assert.deepEqual(document(place).items, [], "not at once");
  // A view may take a fortieth of the time: on a busy disk the next comes seconds after one.
  for (let i = 0; i < 1_500 && document(place).items.length === 0; i++) await sleep(systemClock, 20);
  assert.deepEqual(document(place).items.map((item) => item["title"]), ["a"]);
  await store.commit([add("b")]);
  await store.close();
  assert.deepEqual(document(place).items.map((item) => item["title"]), ["a", "b"]);
  assert.deepEqual(Object.keys(document(place)), ["pawl", "items", "counters"]);
  assert.match(readFileSync(place.file, "utf8"), /^\{\n  "pawl": \{\n    "format": 1,\n    "revision": \d+\n  \},\n  "items": \[\n    \{\n      "id": 1,/);
  assert.equal(readFileSync(place.file, "utf8"), `${JSON.stringify(document(place), null, 2)}\n`);
  assert.equal(noted(place).at(-1), hashOfFile(place.file));
  assert.equal(statSync(place.file).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(place.folder).sort(), ["state.json", "state.json.pawl"]);
  assert.deepEqual(readdirSync(place.dir).filter((name) => name.endsWith(".tmp")), []);
});

test("many commits make few views", async (t) => {
  const place = placeFor(t);
  const clock = manualClock();
  const store = await place.open({ clock }, viewed);
  const before = noted(place).length;
  for (let i = 0; i < 200; i++) await store.commit([add(`t${i}`)]);
  assert.equal(noted(place).length, before);
  await clock.advance(150);
  for (let i = 0; i < 100 && noted(place).length === before; i++) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(noted(place).length, before + 1);
  assert.equal(document(place).items.length, 200);
  await clock.advance(1_000);
  assert.equal(noted(place).length, before + 1, "nothing new, no new view");
  await store.close();
  assert.equal(noted(place).length, before + 1);
});

test("a view of odd shapes is printed as JSON.stringify would", async (t) => {
  const place = placeFor(t);
  const odd: Model = { ...viewed, view: (all) => ({ empty: [], none: {}, text: "a\nb", deep: { list: [1, [2]], o: {} }, mixed: [1, "x", null, [], {}], many: Array.from({ length: 1_203 }, (_, i) => ({ i, l: [i] })), items: [...all("item")] }) };
  const store = await place.open({}, odd);
  await store.commit([add("ü\u2028")]);
  await store.close();
  assert.equal(readFileSync(place.file, "utf8"), `${JSON.stringify(document(place), null, 2)}\n`);
});

test("the mode of the file is kept", async (t) => {
  const place = placeFor(t);
  await (await place.open({}, viewed)).close();
  chmodSync(place.file, 0o644);
  const store = await place.open({}, viewed);
  await store.commit([add("a")]);
  await store.close();
  assert.equal(statSync(place.file).mode & 0o777, 0o644);
  assert.deepEqual(place.notices, []);
});

test("a deleted and an older view are rebuilt with a line, an untouched one in silence", async (t) => {
  const place = placeFor(t);
  const store = await place.open({}, viewed);
  await store.close();
  const old = readFileSync(place.file);
  const again = await place.open({}, viewed);
  await again.commit([add("a")]);
  await again.close();
  const current = readFileSync(place.file);
  for (const change of [() => unlinkSync(place.file), () => writeFileSync(place.file, old), () => utimesSync(place.file, 1, 1)]) {
    change();
    await (await place.open({}, viewed)).close();
    assert.deepEqual(readFileSync(place.file), current);
  }
  assert.deepEqual(place.notices.map((line) => /(deleted|older).*pawl reset --all/.exec(line)?.[1]), ["deleted", "older"]);
  assert.deepEqual(quarantined(place), []);
});

test("any other content is kept in quarantine with one line, and the view is rebuilt", async (t) => {
  const place = placeFor(t);
  const store = await place.open({}, viewed);
  await store.commit([add("a")]);
  await store.close();
  const current = readFileSync(place.file, "utf8");
  const edits = [current.replace('"a"', '"edited"'), "", "{ broken", "[]", current.trimEnd(), '{"items": []}'];
  for (const [i, edit] of edits.entries()) {
    writeFileSync(place.file, edit);
    await (await place.open({}, viewed)).close();
    assert.equal(readFileSync(place.file, "utf8"), current);
    assert.deepEqual(kept(place).sort(), edits.slice(0, i + 1).sort());
    assert.equal(place.notices.length, i + 1);
    assert.match(place.notices[i]!, /edited-.*\.json/);
  }
});

test("an edit while running is kept when the next view replaces it", async (t) => {
  const place = placeFor(t);
  const store = await place.open({}, viewed);
  await store.commit([add("a")]);
  writeFileSync(place.file, "mine");
  await store.close();
  assert.deepEqual(kept(place), ["mine"]);
  assert.deepEqual(document(place).items.length, 1);
});

/** Runs `act` once, right before the first call that `at` accepts after arming. */
function onceBefore(at: (call: Call) => boolean, act: () => void) {
  let armed = false;
  const fs = watchedFs((call) => {
    if (!armed || !at(call)) return;
    armed = false;
    act();
  });
  return { fs, arm: () => (armed = true), fired: () => !armed };
}

const STEPS: readonly [string, (call: Call, place: Place) => boolean][] = [
  ["before the note", (call, place) => call.name === "write" && call.path === segment(place, 1)],
  ["before the old view is moved away", (call, place) => call.name === "rename" && call.args[0] === place.file],
  ["before the new view is linked", (call, place) => call.name === "link" && call.args[1] === place.file],
  ["after the new view is linked", (call) => call.name === "unlink" && call.path.includes("/view.")],
];

const EDITS: readonly [string, (place: Place) => void][] = [
  ["saved in place", (place) => writeFileSync(place.file, "mine")],
  ["moved over it", (place) => {
    writeFileSync(join(place.folder, "swap"), "mine");
    renameSync(join(place.folder, "swap"), place.file);
  }],
];

for (const [when, at] of STEPS) {
  for (const [how, edit] of EDITS) {
    test(`an edit ${how} ${when} is not lost`, async (t) => {
      const place = placeFor(t);
      const { fs, arm, fired } = onceBefore((call) => at(call, place), () => edit(place));
      const store = await place.open({ fs, clock: { ...systemClock, timer: () => () => {} } }, viewed);
      await store.commit([add("a")]);
      arm();
      await store.close();
      assert.ok(fired());
      await (await place.open({}, viewed)).close();
      assert.deepEqual(kept(place), ["mine"]);
      assert.equal(document(place).items.length, 1);
    });
  }
}

test("the hash of a view is in the journal, flushed, before the view is in place", async (t) => {
  const place = placeFor(t);
  const seen: string[] = [];
  const fs = watchedFs((call) => {
    if (call.name === "fdatasync" && call.path === segment(place, 1)) seen.push("flush");
    if (call.name === "fsync" && call.path.includes("/view.")) seen.push("view on disk");
    if (call.name !== "link") return;
    assert.equal(noted(place).at(-1), hashOfFile(String(call.args[0])));
    seen.push("link");
  });
  const store = await place.open({ fs }, viewed);
  await store.commit([add("a")]);
  await store.close();
  assert.deepEqual(seen, ["view on disk", "flush", "link", "flush", "view on disk", "flush", "link"]);
});

test("a view that another process has outrun is dropped", async (t) => {
  const place = placeFor(t);
  const script = join(import.meta.dirname, "json-child.ts");
  const { fs, arm, fired } = onceBefore((call) => call.name === "fsync" && call.path.includes("/view."), () => void execFileSync(process.execPath, [script, "once", place.file, "newer"]));
  const store = await place.open({ fs, clock: { ...systemClock, timer: () => () => {} } }, viewed);
  await store.commit([add("older")]);
  arm();
  await store.close();
  assert.ok(fired());
  assert.deepEqual(document(place).items.map((item) => item["title"]), ["older", "newer"]);
  assert.equal(noted(place).length, 3, "the empty one, and two by the other process: when it opened and when it closed");
  assert.deepEqual(place.notices, []);
});

test("an editor that still writes into a replaced view is heard when that is pruned", async (t) => {
  const place = placeFor(t);
  const clock = manualClock();
  const store = await place.open({ clock }, viewed);
  const editor = join(place.folder, "editor");
  // A second name stands for the open file of an editor.
  linkSync(place.file, editor);
  await store.commit([add("a")]);
  await settled(clock, place, 200);
  writeFileSync(editor, "written late");
  assert.equal(readdirSync(join(place.dir, "prev")).length, 1);
  await store.commit([add("b")]);
  await settled(clock, place, 61_000);
  await store.commit([add("c")]);
  await settled(clock, place, 5_000);
  assert.deepEqual(kept(place), ["written late"]);
  assert.ok(readdirSync(join(place.dir, "prev")).length <= 2);
});

async function settled(clock: ReturnType<typeof manualClock>, place: Place, ms: number): Promise<void> {
  const before = noted(place).length;
  await clock.advance(ms);
  for (let i = 0; i < 200 && noted(place).length === before; i++) await new Promise((resolve) => setImmediate(resolve));
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

test("a view that cannot be written stops nobody and is told once; it follows later", async (t) => {
  const place = placeFor(t);
  let full = false;
  const fs = watchedFs((call) => {
    if (full && call.path.includes("/view.")) throw systemError("ENOSPC");
  });
  const store = await place.open({ fs }, viewed);
  full = true;
  await store.commit([add("a")]);
  for (let i = 0; i < 500 && place.notices.length === 0; i++) await sleep(systemClock, 20);
  await store.commit([add("b")]);
  assert.deepEqual(await titles(store), ["a", "b"]);
  assert.equal(place.notices.length, 1);
  full = false;
  await store.close();
  assert.equal(document(place).items.length, 2);
  assert.equal(existsSync(place.file), true);
});

test("a crash between moving the old view away and linking the new one leaves a state that opens", async (t) => {
  const place = placeFor(t);
  const store = await place.open({}, viewed);
  await store.commit([{ puts: [setCounter("c", 1)] }]);
  await store.close();
  rmSync(place.file);
  const again = await place.open({}, viewed);
  assert.equal(document(place).counters.length, 1);
  await again.close();
});

test("writeFileAtomic replaces whole or not at all, keeps the mode and follows links", (t) => {
  const { folder } = placeFor(t);
  const file = join(folder, "a.txt");
  writeFileAtomic(file, "one");
  assert.equal(statSync(file).mode & 0o777, 0o600);
  chmodSync(file, 0o640);
  writeFileAtomic(file, "two");
  assert.equal(statSync(file).mode & 0o777, 0o640);
  for (const name of ["write", "fsync", "rename"] as const) {
    const fs = watchedFs((call) => {
      if (call.name === name) throw systemError("EIO");
    });
    assert.throws(() => writeFileAtomic(file, "three", { fs }), /EIO/);
    assert.equal(readFileSync(file, "utf8"), "two");
  }
  assert.deepEqual(readdirSync(folder), ["a.txt"]);
  assert.throws(() => writeFileAtomic(folder, "x"), (error) => isPawlError(error, "usage"));
});

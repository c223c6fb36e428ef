// The JSON store and its journal: what was acknowledged is there after reopening, a torn tail is cut and kept aside,
// damage is refused, a failing disk leaves tables and file as they were, and nothing that is not ours is touched.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type ErrorCode, isPawlError } from "../../src/base/errors.ts";
import { systemClock } from "../../src/base/clock.ts";
import { type FileSystem, nodeFs } from "../../src/base/fs.ts";
import { systemRandom } from "../../src/base/id.ts";
import type { Store } from "../../src/store/store.ts";
import { add, type Call, document, type Place, placeFor, quarantined, segment, setCounter, systemError, titles, viewed, watchedFs } from "./json-place.ts";

const fails = (code: ErrorCode, ...words: string[]) => (error: unknown) => {
  assert.ok(isPawlError(error, code), `${code} was expected, not ${String(error)}`);
  for (const word of words) assert.ok(error.message.includes(word), `"${error.message}" does not say "${word}"`);
  assert.ok(error.next, "it says what to do");
  return true;
};

/** Three commits, closed again. */
async function three(place: Place): Promise<Buffer> {
  const store = await place.open();
  for (const title of ["a", "b", "c"]) await store.commit([add(title)]);
  await store.close();
  return readFileSync(segment(place, 1));
}

const lineStarts = (bytes: Buffer): number[] => [0, ...[...bytes.entries()].filter(([, byte]) => byte === 10).map(([at]) => at + 1)];

async function everything(store: Store): Promise<unknown> {
  return [await store.list("item"), await store.list("counter"), await store.list("op")];
}

test("reopening shows what was committed, ids go on, and the folders are private", async (t) => {
  const place = placeFor(t);
  const store = await place.open();
  const results = await store.commit([add("a"), { puts: [{ kind: "item", key: 99, set: { title: "none" } }] }, add("b", { deep: [1, null, "ü"] }), { puts: [setCounter("c", 5)], op_id: "x" }]);
  assert.deepEqual(results.map((result) => result.ok), [true, false, true, true]);
  await store.commit([{ puts: [{ kind: "item", key: 2, delete: true }] }, { puts: [{ kind: "item", key: 1, set: { title: "A" } }] }]);
  const before = await everything(store);
  await store.close();
  await store.close();
  const again = await place.open();
  assert.deepEqual(await everything(again), before);
  assert.deepEqual((await again.commit([add("c")]))[0], { ok: true, ids: [3] });
  assert.deepEqual((await again.commit([{ puts: [setCounter("c", 9)], op_id: "x" }]))[0], { ok: true, ids: [], repeated: true });
  for (const name of ["", "journal", "checkpoint", "prev", "quarantine", "workers"]) assert.equal(statSync(join(place.dir, name)).mode & 0o777, 0o700, name);
  for (const name of ["lock", "gate", "journal/000001.jsonl"]) assert.equal(statSync(join(place.dir, name)).mode & 0o777, 0o600, name);
  assert.deepEqual(place.notices, []);
});

test("a closed store refuses, and a batch of nothing but conflicts writes nothing", async (t) => {
  const place = placeFor(t);
  const store = await place.open();
  const size = statSync(segment(place, 1)).size;
  await store.commit([{ puts: [{ kind: "item", key: 99, set: {} }] }]);
  assert.equal(await store.claim({ kind: "item", queries: [{}], order: [], limit: 1 }, () => null), null);
  assert.equal(statSync(segment(place, 1)).size, size);
  await store.close();
  await assert.rejects(store.list("item"), fails("closed"));
  await assert.rejects(store.commit([add("x")]), fails("closed"));
});

test("a tail torn at any byte of the last line is cut, kept aside, and the state goes on", async (t) => {
  const whole = await three(placeFor(t));
  const last = lineStarts(whole).at(-2)!;
  for (let size = last; size < whole.length; size++) {
    const place = placeFor(t);
    await three(place);
    writeFileSync(segment(place, 1), whole.subarray(0, size));
    // A reader ignores the tail and repairs nothing.
    const reader = await place.open({ readOnly: true });
    assert.deepEqual(await titles(reader), ["a", "b"]);
    assert.equal(statSync(segment(place, 1)).size, size);
    const store = await place.open();
    assert.deepEqual(await titles(store), ["a", "b"]);
    assert.deepEqual((await store.commit([add("d")]))[0], { ok: true, ids: [3] });
    assert.deepEqual(await titles(reader), ["a", "b", "d"]);
    await store.close();
    assert.deepEqual(await titles(await place.open()), ["a", "b", "d"]);
    assert.equal(quarantined(place).length, size === last ? 0 : 1);
    if (size > last) assert.deepEqual(readFileSync(join(place.dir, "quarantine", quarantined(place)[0]!)), whole.subarray(last, size));
    assert.equal(place.notices.length, size === last ? 0 : 1);
  }
});

test("a tail of zeros, of garbage, or with zeroed sectors is torn", async (t) => {
  const whole = await three(placeFor(t));
  const last = lineStarts(whole).at(-2)!;
  const zeroed = Buffer.from(whole);
  zeroed.fill(0, last + 10, last + 40);
  const tails: [Buffer, string[]][] = [
    [Buffer.concat([whole, Buffer.alloc(4_096)]), ["a", "b", "c"]],
    [Buffer.concat([whole.subarray(0, last), Buffer.alloc(whole.length - last)]), ["a", "b"]],
    [Buffer.concat([whole, Buffer.from("\n\n\n")]), ["a", "b", "c"]],
    [Buffer.concat([whole, Buffer.from("0badc0de {}\nhalf")]), ["a", "b", "c"]],
    [zeroed, ["a", "b"]],
  ];
  for (const [bytes, expected] of tails) {
    const place = placeFor(t);
    await three(place);
    writeFileSync(segment(place, 1), bytes);
    const store = await place.open();
    assert.deepEqual(await titles(store), expected);
    await store.commit([add("d")]);
    assert.deepEqual(await titles(await place.open()), [...expected, "d"]);
    assert.equal(quarantined(place).length, 1);
  }
});

test("hazard 18: a neighbour's torn tail is repaired while running, before anything is appended", async (t) => {
  const place = placeFor(t);
  const [a, b] = [await place.open(), await place.open()];
  await a.commit([add("a")]);
  appendFileSync(segment(place, 1), '12345678 {"n":3,"prev":"torn');
  assert.deepEqual(await titles(b), ["a"]);
  await b.commit([add("b")]);
  assert.deepEqual(await titles(a), ["a", "b"]);
  await a.commit([add("c")]);
  assert.deepEqual(await titles(await place.open()), ["a", "b", "c"]);
  assert.equal(quarantined(place).length, 1);
});

test("a flipped bit before the last line is refused with file and offset, and nothing is touched", async (t) => {
  const place = placeFor(t);
  const whole = await three(place);
  const starts = lineStarts(whole);
  const last = starts.at(-2)!;
  for (let at = 0; at < last; at += 7) {
    const bytes = Buffer.from(whole);
    bytes[at]! ^= 1 << at % 8;
    writeFileSync(segment(place, 1), bytes);
    const line = starts.findLast((start) => start <= at)!;
    await assert.rejects(place.open(), (error) => fails("corrupt", `000001.jsonl:${line}`)(error), `byte ${at}`);
    assert.deepEqual(readFileSync(segment(place, 1)), bytes);
    const reader = await place.open({ readOnly: true });
    assert.deepEqual(await titles(reader), ["a", "b", "c"].slice(0, Math.max(starts.indexOf(line) - 1, 0)));
    await reader.close();
  }
  assert.deepEqual(quarantined(place), []);
});

test("lines that were removed, doubled or swapped are refused", async (t) => {
  const place = placeFor(t);
  const whole = await three(place);
  const lines = whole.toString().split("\n").slice(0, -1);
  const [header, a, b, c] = lines as [string, string, string, string];
  for (const changed of [[header, b, c], [header, a, c], [header, a, a, b, c], [header, b, a, c], [a, b, c], [header, a, b, b]]) {
    writeFileSync(segment(place, 1), `${changed.join("\n")}\n`);
    await assert.rejects(place.open(), fails("corrupt"));
  }
  writeFileSync(segment(place, 1), "");
  await assert.rejects(place.open(), fails("corrupt"), "an emptied journal is not a new state");
  writeFileSync(segment(place, 1), header.slice(0, 20));
  await assert.rejects(place.open(), fails("corrupt"), "nor is one torn in its first line");
  assert.equal(readFileSync(segment(place, 1), "utf8"), header.slice(0, 20));
});

test("damage that appears while running stops writers and not readers", async (t) => {
  const place = placeFor(t);
  const [a, b] = [await place.open(), await place.open()];
  await a.commit([add("a")]);
  const lines = readFileSync(segment(place, 1), "utf8").split("\n");
  appendFileSync(segment(place, 1), `${lines[1]}\n`);
  await assert.rejects(b.commit([add("b")]), fails("corrupt"));
  await assert.rejects(b.commit([add("b")]), fails("corrupt"), "and goes on refusing");
  assert.deepEqual(await titles(b), ["a"]);
  rmSync(place.dir, { recursive: true });
  await assert.rejects(a.commit([add("b")]), (error) => isPawlError(error) && ["corrupt", "storage"].includes(error.code));
  assert.equal(existsSync(place.dir), false);
});

test("a journal shorter than what its view shows is refused", async (t) => {
  const place = placeFor(t);
  const store = await place.open({}, viewed);
  await store.commit([add("a")]);
  await store.close();
  const whole = readFileSync(segment(place, 1));
  const starts = lineStarts(whole);
  writeFileSync(segment(place, 1), whole.subarray(0, starts.at(-3)));
  const view = readFileSync(place.file);
  await assert.rejects(place.open({}, viewed), fails("corrupt", "revision"));
  assert.deepEqual(readFileSync(place.file), view);
});

test("what is not a Pawl state is refused and not touched", async (t) => {
  for (const text of ["", "{}", "[]", "hello", '{"tasks":[{"id":1}]}', '{"pawl":{"format":"1"}}']) {
    const place = placeFor(t);
    writeFileSync(place.file, text);
    for (const readOnly of [true, false]) await assert.rejects(place.open({ readOnly }), text === "" ? fails("corrupt", "is empty") : fails("unsupported", "is no Pawl state"));
    assert.equal(readFileSync(place.file, "utf8"), text);
    assert.deepEqual(readdirSync(place.folder), ["state.json"]);
  }
});

test("a view without its journal is refused, and so is a newer format", async (t) => {
  const place = placeFor(t);
  const store = await place.open({}, viewed);
  await store.commit([add("a")]);
  await store.close();
  const view = readFileSync(place.file);
  writeFileSync(place.file, view.toString().replace('"format": 1', '"format": 2'));
  await assert.rejects(place.open({}, viewed), fails("unsupported", "format 2"));
  writeFileSync(place.file, view);
  renameSync(place.dir, `${place.dir}.away`);
  for (const readOnly of [true, false]) await assert.rejects(place.open({ readOnly }, viewed), fails("corrupt", "missing"));
  assert.deepEqual(readdirSync(place.folder).sort(), ["state.json", "state.json.pawl.away"]);
  renameSync(`${place.dir}.away`, place.dir);
  const newer = await newerJournal(place);
  await assert.rejects(place.open(), fails("unsupported", "format 9"));
  assert.deepEqual(readFileSync(segment(place, 1)), newer);
});

/** The journal's header rewritten as a later version would write it, checksum and all. */
async function newerJournal(place: Place): Promise<Buffer> {
  const { LineWriter } = await import("../../src/store/json/journal.ts");
  const header = readFileSync(segment(place, 1), "utf8").split("\n")[0]!.slice(9).replace('"format":1', '"format":9');
  const { bytes } = new LineWriter().write(header);
  writeFileSync(segment(place, 1), bytes);
  return readFileSync(segment(place, 1));
}

test("a directory or a FIFO is refused; a symbolic link is followed", async (t) => {
  const place = placeFor(t);
  mkdirSync(place.file);
  await assert.rejects(place.open(), fails("usage", "directory"));
  rmSync(place.file, { recursive: true });
  execFileSync("mkfifo", [place.file]);
  await assert.rejects(place.open(), fails("usage"));
  rmSync(place.file);
  symlinkSync(join(place.folder, "nowhere.json"), place.file);
  await assert.rejects(place.open(), fails("usage", "link"));
  rmSync(place.file);
  const real = join(place.folder, "real.json");
  await three(place);
  renameSync(place.dir, `${real}.pawl`);
  writeFileSync(real, "");
  rmSync(place.file, { force: true });
  symlinkSync(real, place.file);
  assert.deepEqual(await titles(await place.open()), ["a", "b", "c"]);
  assert.equal(existsSync(place.dir), false);
});

test("read-only creates, repairs and writes nothing, and follows what others write", async (t) => {
  const place = placeFor(t);
  const reader = await place.open({ readOnly: true });
  assert.deepEqual(await everything(reader), [[], [], []]);
  assert.equal(await reader.count("item"), 0);
  await assert.rejects(reader.commit([add("x")]), fails("usage", "read-only"));
  assert.deepEqual(readdirSync(place.folder), []);
  const writer = await place.open();
  await writer.commit([add("a")]);
  assert.deepEqual(await titles(reader), ["a"]);
  await writer.commit([add("b"), { puts: [{ kind: "item", key: 1, delete: true }] }]);
  assert.deepEqual(await reader.count("item", {}, "title"), { b: 1 });
  assert.deepEqual(await reader.get("item", [1, 2]), [null, { id: 2, title: "b", data: null }]);
});

test("a folder that cannot be written gives a clear error", { skip: process.getuid?.() === 0 && "root may write anywhere" }, async (t) => {
  const place = placeFor(t);
  chmodSync(place.folder, 0o500);
  t.after(() => chmodSync(place.folder, 0o700));
  await assert.rejects(place.open(), fails("storage"));
});

test("a network file system is refused before anything is written", async (t) => {
  const place = placeFor(t);
  const fs: FileSystem = { ...nodeFs, networkName: () => "NFS" };
  await assert.rejects(place.open({ fs }), fails("unsupported", "NFS"));
  assert.deepEqual(readdirSync(place.folder), []);
});

test("missing parent folders are created, private", async (t) => {
  const place = placeFor(t);
  const inner: Place = { ...place, file: join(place.folder, "new", "folder", "state.json") };
  const { openJson } = await import("../../src/store/json/json.ts");
  const store = await openJson(inner.file, viewed, { clock: systemClock, random: systemRandom });
  await store.close();
  assert.equal(document(inner).items.length, 0);
  assert.equal(statSync(join(place.folder, "new")).mode & 0o777, 0o700);
});

/* ---------- a disk that fails ---------- */

const isJournal = ({ path }: Call): boolean => path.endsWith(".jsonl") && path.includes("/journal/");

/** A store on a disk that runs `fault` before each call once `arm` was called. */
async function onFaultyDisk(place: Place, fault: (call: Call) => void) {
  let armed = false;
  const fs = watchedFs((call) => armed && fault(call));
  const store = await place.open({ fs });
  await store.commit([add("a")]);
  return { store, arm: () => (armed = true), disarm: () => (armed = false) };
}

test("a full disk: nothing is changed, in memory or on the disk, and it goes on when there is room", async (t) => {
  const place = placeFor(t);
  const { store, arm, disarm } = await onFaultyDisk(place, (call) => {
    if (call.name === "write" && isJournal(call)) throw systemError("ENOSPC");
  });
  const size = statSync(segment(place, 1)).size;
  arm();
  await assert.rejects(store.commit([add("b"), { puts: [{ kind: "item", key: 1, set: { title: "A" } }] }]), fails("storage", "ENOSPC"));
  await assert.rejects(store.claim({ kind: "item", queries: [{}], order: [], limit: 1 }, () => add("claimed")), fails("storage"));
  assert.deepEqual(await titles(store), ["a"]);
  assert.equal(statSync(segment(place, 1)).size, size);
  disarm();
  await store.commit([add("c")]);
  assert.deepEqual(await titles(store), ["a", "c"]);
  assert.deepEqual(await titles(await place.open()), ["a", "c"]);
});

/** A disk on which journal writes come out short from call to call, and fail for good after `good` of them. */
function shortWrites(good: number): { fs: FileSystem; arm(): void; disarm(): void } {
  const real = watchedFs(() => {});
  let armed = false;
  let count = 0;
  const journals = new Set<number>();
  const open: FileSystem["open"] = (path, ...how) => {
    const fd = real.open(path, ...how);
    if (path.includes("/journal/")) journals.add(fd);
    else journals.delete(fd);
    return fd;
  };
  // Only the journal's: the view is written in between, whenever it likes.
  const write: FileSystem["write"] = (fd, bytes, offset, length) => {
    if (!armed || !journals.has(fd)) return real.write(fd, bytes, offset, length);
    if (count++ >= good) throw systemError("ENOSPC");
    return real.write(fd, bytes, offset, Math.ceil(length / 3));
  };
  return { fs: { ...real, open, write }, arm: () => (armed = true), disarm: () => (armed = false) };
}

test("short writes are gone on with; one that fails half-way is cut back", async (t) => {
  for (const good of [1, 2, 3, 100]) {
    const place = placeFor(t);
    const { fs, arm, disarm } = shortWrites(good);
    const store = await place.open({ fs });
    await store.commit([add("a")]);
    const size = statSync(segment(place, 1)).size;
    arm();
    if (good === 100) await store.commit([add("b")]);
    else {
      await assert.rejects(store.commit([add("b")]), fails("storage"));
      assert.equal(statSync(segment(place, 1)).size, size);
    }
    disarm();
    await store.commit([add("c")]);
    assert.deepEqual(await titles(await place.open()), good === 100 ? ["a", "b", "c"] : ["a", "c"]);
    assert.deepEqual(quarantined(place), []);
  }
});

test("when even cutting back fails, the next writer repairs", async (t) => {
  const place = placeFor(t);
  const { fs, arm, disarm } = shortWrites(1);
  let broken = true;
  const stuck: FileSystem = { ...fs, ftruncate: (fd, size) => {
    if (broken) throw systemError("EIO");
    fs.ftruncate(fd, size);
  } };
  const store = await place.open({ fs: stuck });
  await store.commit([add("a")]);
  arm();
  await assert.rejects(store.commit([add("b")]), fails("storage"));
  disarm();
  await assert.rejects(store.commit([add("b")]), fails("storage"));
  broken = false;
  assert.deepEqual(await titles(store), ["a"]);
  await store.commit([add("c")]);
  assert.deepEqual(await titles(await place.open()), ["a", "c"]);
});

test("a flush that fails is not tried again: the change goes into a new segment", async (t) => {
  const place = placeFor(t);
  const { store, arm, disarm } = await onFaultyDisk(place, (call) => {
    if (call.name === "fdatasync" && call.path === segment(place, 1)) throw systemError("EIO");
  });
  const neighbour = await place.open();
  arm();
  assert.deepEqual((await store.commit([add("b")]))[0], { ok: true, ids: [2] });
  disarm();
  assert.deepEqual(await titles(neighbour), ["a", "b"]);
  await neighbour.commit([add("c")]);
  await store.commit([add("d")]);
  assert.deepEqual(await titles(store), ["a", "b", "c", "d"]);
  assert.ok(existsSync(segment(place, 2)));
  assert.deepEqual(await titles(await place.open()), ["a", "b", "c", "d"]);
});

test("a neighbour that read a line whose flush then failed reads again", async (t) => {
  const place = placeFor(t);
  let neighbour: Store | undefined;
  let peeked: Promise<unknown> = Promise.resolve();
  const { store, arm, disarm } = await onFaultyDisk(place, (call) => {
    if (call.name !== "fdatasync" || call.path !== segment(place, 1)) return;
    peeked = titles(neighbour!);
    throw systemError("EIO");
  });
  neighbour = await place.open();
  arm();
  await store.commit([add("b")]);
  disarm();
  assert.deepEqual(await peeked, ["a", "b"]);
  await store.commit([add("c")]);
  assert.deepEqual(await titles(neighbour), ["a", "b", "c"]);
  await neighbour.commit([add("d")]);
  assert.deepEqual(await titles(await place.open()), ["a", "b", "c", "d"]);
});

test("when the new segment fails too the outcome is unknown, and nothing more is written until reopened", async (t) => {
  const place = placeFor(t);
  const { store, arm, disarm } = await onFaultyDisk(place, (call) => {
    if ((call.name === "fdatasync" || call.name === "fsync") && call.path.includes("/journal/")) throw systemError("EIO");
  });
  arm();
  await assert.rejects(store.commit([add("b")]), fails("commit_unknown"));
  disarm();
  await assert.rejects(store.commit([add("c")]), fails("commit_unknown"));
  assert.deepEqual(await titles(store), ["a"]);
  await store.close();
  const again = await place.open();
  assert.deepEqual((await titles(again)).slice(0, 1), ["a"]);
  await again.commit([add("d")]);
  assert.equal((await titles(again)).at(-1), "d");
});

/* ---------- checkpoints ---------- */

const big = "x".repeat(100_000);

/** Enough for a checkpoint, and some more behind it. */
async function checkpointed(place: Place): Promise<void> {
  const store = await place.open();
  await store.commit([{ puts: [setCounter("c", 1)] }, add("gone"), { puts: [{ kind: "item", key: 1, delete: true }] }]);
  for (let i = 0; i < 50; i++) await store.commit([add(`t${i}`, { big, i })]);
  await store.close();
  assert.equal(readdirSync(join(place.dir, "checkpoint")).length, 1);
  const more = await place.open();
  await more.commit([add("after"), { puts: [{ kind: "item", key: 5, set: { title: "changed" } }] }]);
  await more.close();
}

test("a state opened from a checkpoint equals the one replayed from the beginning, and ids go on", async (t) => {
  const place = placeFor(t);
  await checkpointed(place);
  assert.ok(existsSync(segment(place, 2)));
  const fromCheckpoint = await place.open({ readOnly: true });
  const expected = await everything(fromCheckpoint);
  const copy = placeFor(t);
  mkdirSync(join(copy.dir, "journal"), { recursive: true });
  for (const name of readdirSync(join(place.dir, "journal"))) copyFileSync(join(place.dir, "journal", name), join(copy.dir, "journal", name));
  const replayed = await copy.open();
  assert.deepEqual(await everything(replayed), expected);
  assert.deepEqual((await replayed.commit([add("x")]))[0], { ok: true, ids: [53] });
  assert.deepEqual((await (await place.open()).commit([add("x")]))[0], { ok: true, ids: [53] });
});

test("an old segment damaged behind a checkpoint does not matter; a damaged checkpoint is passed over", async (t) => {
  const place = placeFor(t);
  await checkpointed(place);
  const store = await place.open();
  const expected = await everything(store);
  await store.close();
  const file = join(place.dir, "checkpoint", readdirSync(join(place.dir, "checkpoint"))[0]!);
  const good = readFileSync(file);
  for (const at of [0, 100, good.length >> 1, good.length - 3]) {
    const bad = Buffer.from(good);
    bad[at]! ^= 4;
    writeFileSync(file, bad);
    const again = await place.open();
    assert.deepEqual(await everything(again), expected);
    await again.close();
    assert.match(place.notices.at(-1)!, /checkpoint/);
  }
  writeFileSync(file, good);
  const first = readFileSync(segment(place, 1));
  first[20]! ^= 1;
  writeFileSync(segment(place, 1), first);
  const again = await place.open();
  assert.deepEqual(await everything(again), expected);
});

test("a missing segment is refused", async (t) => {
  const place = placeFor(t);
  await checkpointed(place);
  rmSync(segment(place, 1));
  await assert.rejects(place.open(), fails("corrupt"));
  assert.equal(existsSync(segment(place, 1)), false);
});

test("a journal cut back behind its checkpoint is refused", async (t) => {
  const place = placeFor(t);
  await checkpointed(place);
  rmSync(segment(place, 2));
  const whole = readFileSync(segment(place, 1));
  writeFileSync(segment(place, 1), whole.subarray(0, lineStarts(whole).at(-20)));
  await assert.rejects(place.open(), fails("corrupt"));
});

test("checkpoints and views are written while a state is in use, by several handles, and agree", async (t) => {
  const place = placeFor(t);
  const stores = [await place.open({}, viewed), await place.open({}, viewed)];
  for (let i = 0; i < 120; i++) {
    await stores[i % 2]!.commit([add(`t${i}`, { big })]);
    await new Promise((resolve) => setImmediate(resolve));
  }
  const expected = await everything(stores[0]!);
  assert.deepEqual(await everything(stores[1]!), expected);
  for (const store of stores) await store.close();
  assert.ok(readdirSync(join(place.dir, "checkpoint")).length <= 2);
  assert.deepEqual(document(place).items.length, 120);
  assert.deepEqual(await everything(await place.open({}, viewed)), expected);
  assert.deepEqual(place.notices, []);
});

// States of an older format are brought up step by step, on JSON and SQLite: every step after a backup that opens by itself,
// unknown fields kept, a crash leaves the older state or the newer one, and what is newer is refused and not touched.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { isPawlError } from "../../src/base/errors.ts";
import { systemRandom } from "../../src/base/id.ts";
import { openJson } from "../../src/store/json/json.ts";
import { openSqlite } from "../../src/store/sqlite/sqlite.ts";
import type { Kind, Migration, Model, Rec, Store } from "../../src/store/store.ts";
import { CHANGING, systemError, watchedFs } from "./json-place.ts";

/* Three formats of one small model: a note had a `text` and a `done` flag; then `title`, with `done` as a status; then without its colour. */
const seal = (previous: Rec | null, record: Rec): Rec => ({ ...record, seq: Number(previous?.["seq"] ?? 0) + 1 });
const log: Kind = { name: "log", fields: { note: "integer", seq: "integer", what: "text" }, key: ["note", "seq"], indexes: {}, chain: { group: "note", order: "seq" } };
const note1: Kind = { name: "note", fields: { id: "integer", text: "text", done: "boolean", data: "json" }, key: ["id"], assign: "", indexes: { text: { fields: ["text"], unique: true, notNull: ["text"] } } };
const note2: Kind = { name: "note", fields: { id: "integer", title: "text", status: "text", data: "json", colour: "text" }, key: ["id"], assign: "", indexes: { title: { fields: ["title"], unique: true, notNull: ["title"] }, status: { fields: ["status"] } } };
const note3: Kind = { name: "note", fields: { id: "integer", title: "text", status: "integer", data: "json" }, key: ["id"], assign: "", indexes: { status: { fields: ["status"] } } };
const gone: Kind = { name: "gone", fields: { id: "text", n: "integer" }, key: ["id"], indexes: {} };

const toTwo: Migration = {
  why: "text is called title, done is a status",
  kinds: { note: { before: note1, change: ({ text, done, ...rest }) => (text === "drop me" ? null : { ...rest, title: text!, status: done === true ? "completed" : "pending" }) } },
};
const toThree: Migration = {
  why: "status is a number, colour is not kept",
  kinds: { note: { before: note2, change: ({ colour, status, ...rest }) => ({ ...rest, status: status === "completed" ? 1 : 0 }) }, gone: { before: gone, change: () => null } },
};
const view: Model["view"] = (all) => ({ notes: [...all("note")] });
const one: Model = { kinds: [note1, log, gone], seal, view };
const two: Model = { kinds: [note2, log, gone], seal, view, migrations: [toTwo] };
const three: Model = { kinds: [note3, log, gone], seal, view, migrations: [toTwo, toThree] };

type Stored = { readonly name: string; readonly file: string; open(path: string, model: Model, options?: object): Promise<Store> };
const STORES: readonly Stored[] = [
  { name: "json", file: "s.json", open: (path, model, options) => openJson(path, model, { clock: systemClock, random: systemRandom, ...options }) },
  { name: "sqlite", file: "s.db", open: (path, model, options) => openSqlite(path, model, { clock: systemClock, random: systemRandom, ...options }) },
];

/** A state of format 1 with three notes, one of them with a field nobody declared, and a log. */
async function older(t: TestContext, store: Stored): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "pawl-formats-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, store.file);
  const opened = await store.open(path, one);
  const put = (record: Rec) => ({ puts: [{ kind: "note", record }, { kind: "log", record: { note: { $new: 0 }, what: "made" } }] });
  const results = await opened.commit([put({ text: "a", done: true, data: [1], extra: { kept: "yes" } }), put({ text: "b" }), put({ text: "drop me" }), { puts: [{ kind: "gone", record: { id: "x", n: 1 } }] }]);
  assert.ok(results.every((result) => result.ok), JSON.stringify(results));
  await opened.close();
  return path;
}

const A = { id: 1, title: "a", data: [1], extra: { kept: "yes" } };
const B = { id: 2, title: "b", data: null };

for (const store of STORES) {
  const backups = (path: string) => (existsSync(join(`${path}.pawl`, "backup")) ? readdirSync(join(`${path}.pawl`, "backup")).sort() : []);
  const backupOf = (path: string, name: string) => (store.name === "json" ? join(`${path}.pawl`, "backup", name, store.file) : join(`${path}.pawl`, "backup", `${name}.db`));
  const folderOf = (path: string) => readdirSync(join(path, ".."), { recursive: true }).filter((name) => !/-(wal|shm|turn|gate)$/.test(String(name))).sort();

  test(`${store.name}: one step and two: records, unknown fields, ids, indexes, chains, and a backup of each`, async (t) => {
    const path = await older(t, store);
    const notices: string[] = [];
    const notice = (line: string) => void notices.push(line);
    const second = await store.open(path, two, { notice });
    assert.deepEqual(await second.list("note"), [{ ...A, status: "completed", colour: null }, { ...B, status: "pending", colour: null }]);
    assert.deepEqual((await second.list("note", { index: "status", equals: { status: "pending" } })).map((record) => record["id"]), [2]);
    await second.commit([{ puts: [{ kind: "note", key: 2, set: { colour: "red" } }] }]);
    await second.close();
    assert.equal(notices.length, 1);
    assert.match(notices[0]!, /from format 1 to 2 \(text is called title, done is a status\)\. A backup of format 1 is .*format-1/);
    const third = await store.open(path, three, { notice });
    assert.deepEqual(await third.list("note"), [{ ...A, status: 1 }, { ...B, status: 0 }]);
    assert.deepEqual(await third.list("gone"), []);
    const [result] = await third.commit([{ puts: [{ kind: "note", record: { title: "new", status: 0 } }, { kind: "log", record: { note: 1, what: "more" } }] }]);
    assert.deepEqual(result, { ok: true, ids: [4] }, "an id is not used twice, not even that of a record a step removed");
    assert.deepEqual((await third.list("log", { equals: { note: 1 } })).map((record) => record["seq"]), [1, 2]);
    await third.close();
    assert.equal(notices.length, 2);
    const again = await store.open(path, three, { notice });
    assert.deepEqual((await again.list("note")).map((record) => record["id"]), [1, 2, 4]);
    await again.close();
    assert.equal(notices.length, 2, "once");
    assert.deepEqual(backups(path).map((name) => name.replace(".db", "")), ["format-1", "format-2"]);
    const old = await store.open(backupOf(path, "format-1"), one, { readOnly: true });
    assert.deepEqual((await old.list("note")).map((record) => record["text"]), ["a", "b", "drop me"]);
    await old.close();
    assert.equal(statSync(backupOf(path, "format-1")).mode & 0o777, 0o600);
  });

  test(`scenario 14, ${store.name}: from the first format to the third in one opening, a backup of each, unknown fields kept`, async (t) => {
    const path = await older(t, store);
    const state = await store.open(path, three);
    assert.deepEqual(await state.list("note"), [{ ...A, status: 1 }, { ...B, status: 0 }]);
    await state.close();
    assert.equal(backups(path).length, 2);
    const middle = await store.open(backupOf(path, "format-2"), two, { readOnly: true });
    assert.deepEqual((await middle.list("note")).map((record) => record["status"]), ["completed", "pending"]);
    await middle.close();
  });

  test(`${store.name}: a reader changes nothing, and says what does`, async (t) => {
    const path = await older(t, store);
    const before = folderOf(path);
    await assert.rejects(store.open(path, two, { readOnly: true }), (error) => isPawlError(error, "unsupported") && /has format 1, and this version of Pawl keeps format 2/.test(error.message) && /backup/.test(error.next!));
    assert.deepEqual(folderOf(path), before);
    const state = await store.open(path, one);
    assert.equal((await state.list("note")).length, 3);
    await state.close();
  });

  test(`${store.name}: a newer format is refused and not touched, also by one that has it open`, async (t) => {
    const path = await older(t, store);
    const early = await store.open(path, one);
    const late = await store.open(path, two);
    await late.close();
    await assert.rejects(early.commit([{ puts: [{ kind: "note", record: { text: "late" } }] }]).then(([result]) => (result!.ok ? undefined : Promise.reject("error" in result! ? result.error : result))));
    await early.close().catch(() => undefined);
    const bytes = readFileSync(path);
    for (const readOnly of [true, false]) {
      await assert.rejects(store.open(path, one, { readOnly }), (error) => isPawlError(error, "unsupported") && /format 2/.test(error.message) && /newer Pawl|Update Pawl/.test(error.message + error.next!));
    }
    assert.deepEqual(readFileSync(path), bytes);
    const state = await store.open(path, two);
    assert.deepEqual((await state.list("note")).map((record) => record["title"]), ["a", "b"]);
    await state.close();
  });

  test(`${store.name}: a step that throws leaves the older state, and its backup`, async (t) => {
    const path = await older(t, store);
    const broken: Model = { ...two, migrations: [{ ...toTwo, kinds: { note: { before: note1, change: () => { throw new Error("not this one"); } } } }] };
    await assert.rejects(store.open(path, broken), /not this one/);
    const state = await store.open(path, one);
    assert.deepEqual((await state.list("note")).map((record) => record["text"]), ["a", "b", "drop me"]);
    assert.deepEqual(await state.commit([{ puts: [{ kind: "note", record: { text: "d" } }] }]), [{ ok: true, ids: [4] }]);
    await state.close();
    const next = await store.open(path, two);
    assert.deepEqual((await next.list("note")).map((record) => record["title"]), ["a", "b", "d"]);
    await next.close();
    assert.equal(backups(path).length, 2, "the backup that was there is not overwritten");
  });
}

test("json: a disk that fails at any call of a step leaves the older state or the newer one, whole", async (t) => {
  let points = 0;
  for (let last = 0; ; last++) {
    const path = await older(t, STORES[0]!);
    let left = last;
    const fs = watchedFs(({ name }) => {
      if (CHANGING.has(name) && --left < 0) throw systemError("EIO");
    });
    const failed = await STORES[0]!.open(path, three, { fs }).then((store) => store.close().then(() => false), () => true);
    const state = await STORES[0]!.open(path, three);
    assert.deepEqual(await state.list("note"), [{ ...A, status: 1 }, { ...B, status: 0 }], `call ${last}`);
    await state.close();
    points = last;
    if (!failed && left >= 0) break;
  }
  assert.ok(points > 30, `only ${points} calls`);
});

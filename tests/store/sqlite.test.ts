// What is SQLite's own about the SQLite store: which file it takes, how it opens and leaves one, its plans and settings,
// full disks, locks and kills. What every store promises is in conformance.test.ts; here it is compared with the memory store.
import assert from "node:assert/strict";
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, closeSync, copyFileSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, renameSync, rmSync, statSync, truncateSync, unlinkSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { test, type TestContext } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { isPawlError, type ErrorCode } from "../../src/base/errors.ts";
import { systemRandom } from "../../src/base/id.ts";
import { KINDS } from "../../src/core/kinds.ts";
import { addEvent, addItem, commit, conformanceModel, put, remove, set, succeeded, until, upTo, write } from "../../src/store/conformance/model.ts";
import { indexText, orderOf, readText, segmentsOf, tableText, type Wanted } from "../../src/store/sql.ts";
import { explain, isWalSafe, type Probes } from "../../src/store/sqlite/driver.ts";
import { openSqlite } from "../../src/store/sqlite/sqlite.ts";
import type { Index, Kind, Model, OpenOptions, Query, Rec, Store } from "../../src/store/store.ts";

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "pawl-sqlite-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function open(t: TestContext, path: string, options: Partial<OpenOptions> = {}, probes: Probes = {}, model: Model = conformanceModel): Promise<Store> {
  const store = await openSqlite(path, model, { clock: systemClock, random: systemRandom, ...options }, probes);
  t.after(() => store.close());
  return store;
}

const fails = (promise: Promise<unknown>, code: ErrorCode, text = /./) =>
  assert.rejects(promise, (error) => (isPawlError(error, code) && text.test(error.message)) || assert.fail(`expected ${code} ${text}, got ${String(error)}`));

/** A small disk of its own; undefined where that cannot be had. */
function smallDisk(t: TestContext, size: string): string | undefined {
  const path = mkdtempSync(join(tmpdir(), "pawl-disk-"));
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", path]).status === 0;
  t.after(() => {
    if (mounted) spawnSync("umount", ["-l", path]);
    rmSync(path, { recursive: true, force: true });
  });
  return mounted ? path : undefined;
}

/** A connection of another program. */
function shell(t: TestContext, path: string): DatabaseSync {
  const db = new DatabaseSync(path);
  t.after(() => db.isOpen && db.close());
  return db;
}

/** A process of the conformance suite at work on the folder's state.db; `lines` fills as it prints. */
function startChild(t: TestContext, place: string, ...role: string[]): { child: ChildProcess; lines: string[]; kill(): Promise<void> } {
  const child = spawn(process.execPath, [join(import.meta.dirname, "child.ts"), "sqlite", place, ...role], { stdio: ["ignore", "pipe", "inherit"] });
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "close");
    child.kill("SIGKILL");
    await ended;
  };
  t.after(kill);
  return { child, lines, kill };
}

/* ---------- opening ---------- */

test("a write-ahead log is used only where its reset bug is fixed", () => {
  const table: [string, boolean][] = [
    ["3.51.3", true], ["3.51.4", true], ["3.52.0", true], ["3.53.1", true], ["4.0.0", true],
    ["3.50.7", true], ["3.50.9", true], ["3.44.6", true], ["3.44.7", true],
    ["3.51.2", false], ["3.51.0", false], ["3.50.6", false], ["3.50.0", false], ["3.49.9", false], ["3.45.9", false], ["3.44.5", false], ["3.43.9", false], ["2.8.17", false],
  ];
  for (const [version, safe] of table) assert.equal(isWalSafe(version), safe, version);
  assert.equal(isWalSafe(process.versions["sqlite"]!), true, "the SQLite of this Node");
});

test("every setting is made and read back", async (t) => {
  const read = new Map<string, unknown>();
  const place = join(folder(t), "state.db");
  await open(t, place, {}, { readBack: (pragma, value) => (read.set(pragma, value), value) });
  const expected = {
    busy_timeout: 0, journal_mode: "wal", synchronous: 2, foreign_keys: 1, trusted_schema: 0, cell_size_check: 1, mmap_size: 0, journal_size_limit: 67108864, wal_autocheckpoint: 4000, temp_store: 2,
    ...(process.platform === "darwin" ? { fullfsync: 1, checkpoint_fullfsync: 1 } : {}),
  };
  assert.deepEqual(Object.fromEntries(read), expected);
  for (const pragma of read.keys()) {
    await fails(open(t, place, {}, { readBack: (name, value) => (name === pragma ? "other" : value) }), "unsupported", new RegExp(pragma));
  }
});

test("with an older SQLite the rollback journal is used, and everything works", async (t) => {
  const place = join(folder(t), "state.db");
  const store = await open(t, place, {}, { version: "3.50.4" });
  await write(store, addItem({ title: "a" }), addEvent({ $new: 0 }, "made"));
  const other = await open(t, place, {}, { version: "3.50.4" });
  await Promise.all(upTo(30).map((i) => write(i % 2 ? store : other, addItem({ priority: i }))));
  assert.equal(await store.count("item"), 31);
  assert.equal(shell(t, place).prepare("pragma journal_mode").get()!["journal_mode"] === "wal", false);
});

test("a network file system is refused before anything is created", async (t) => {
  const place = join(folder(t), "new", "state.db");
  for (const type of [0x6969, 0xff534d42, 0xfe534d42, 0xfe534d42 - 2 ** 32, 0x01021997, 0x65735546]) await fails(open(t, place, {}, { fileSystem: () => type }), "unsupported", /network file system/);
  assert.equal(existsSync(join(place, "..")), false);
  await open(t, place, {}, { fileSystem: () => 0xef53 });
});

test("files are for their owner only, whatever the umask", { skip: process.platform === "win32" && "Windows has no such modes" }, async (t) => {
  const before = process.umask(0);
  t.after(() => process.umask(before));
  const root = folder(t);
  const store = await open(t, join(root, "a", "b", "state.db"));
  await write(store, addItem());
  for (const name of ["a", "a/b"]) assert.equal(statSync(join(root, name)).mode & 0o777, 0o700, name);
  const files = readdirSync(join(root, "a", "b"));
  assert.ok(files.includes("state.db-wal"));
  for (const name of files) assert.equal(statSync(join(root, "a", "b", name)).mode & 0o777, 0o600, name);
});

test("a file that is not ours is told and left as it is", async (t) => {
  const root = folder(t);
  const foreign: [string, ErrorCode, RegExp, (path: string) => void][] = [
    ["text", "corrupt", /not a SQLite database/, (path) => writeFileSync(path, "a list of tasks\n".repeat(100))],
    ["short", "corrupt", /not a SQLite database/, (path) => writeFileSync(path, "x")],
    ["app", "unsupported", /another application/, (path) => shell(t, path).exec("create table t (a)")],
    ["app id", "unsupported", /another application/, (path) => shell(t, path).exec("pragma application_id = 5; create table t (a)")],
    ["wal app", "unsupported", /another application/, (path) => shell(t, path).exec("pragma journal_mode = wal; create table t (a)")],
    ["newer", "unsupported", /newer Pawl/, (path) => shell(t, path).exec("pragma application_id = 0x5041574c; pragma user_version = 2; create table t (a)")],
  ];
  for (const [name, code, text, make] of foreign) {
    const place = join(root, name);
    make(place);
    const before = readFileSync(place);
    for (const readOnly of [false, true]) await fails(open(t, place, { readOnly }).then(() => assert.fail(`${name} was taken`)), code, readOnly && code === "corrupt" ? /./ : text);
    assert.deepEqual(readFileSync(place), before, name);
  }
  assert.deepEqual(readdirSync(root).filter((name) => /-(turn|gate|journal)$/.test(name)), []);
});

test("a log without its file is not taken for nothing", async (t) => {
  const place = join(folder(t), "state.db");
  const { lines, kill } = startChild(t, join(place, ".."), "insert", "100000");
  await until(() => lines.length > 5, "the child inserts");
  await kill();
  rmSync(place);
  const log = readFileSync(`${place}-wal`);
  for (const readOnly of [false, true]) {
    if (readOnly) writeFileSync(place, "");
    await fails(open(t, place, { readOnly }), "corrupt", /log/);
  }
  assert.deepEqual(readFileSync(`${place}-wal`), log);
});

test("an empty file is a new state", async (t) => {
  const place = join(folder(t), "state.db");
  writeFileSync(place, "");
  assert.equal((await open(t, place, { readOnly: true })) && existsSync(`${place}-wal`), false);
  await write(await open(t, place), addItem());
});

test("a damaged file is corrupt, not empty", async (t) => {
  const place = join(folder(t), "state.db");
  const store = await open(t, place);
  await store.commit(upTo(400).map((i) => ({ puts: [addItem({ title: "x".repeat(500), priority: i })] })));
  await store.close();
  const whole = readFileSync(place);
  damage(place, Math.floor(whole.length / 2), 4096 * 10);
  const broken = await open(t, place);
  await fails(broken.list("item"), "corrupt");
  await broken.close();
  writeFileSync(place, whole);
  truncateSync(place, 4096);
  await fails(open(t, place).then((opened) => opened.list("item")), "corrupt");
});

function damage(path: string, at: number, length: number): void {
  const fd = openSync(path, "r+");
  writeSync(fd, Buffer.alloc(length, 0x5a), 0, length, Math.floor(at / 4096) * 4096);
  closeSync(fd);
}

test("the whole file is checked when the machine went down, not when a process was killed", { timeout: 60_000 }, async (t) => {
  const root = folder(t);
  const place = join(root, "state.db");
  const store = await open(t, place, {}, { bootId: "first" });
  await store.commit(upTo(400).map((i) => ({ puts: [addItem({ title: "x".repeat(500), priority: i })] })));
  await store.close();
  damage(place, statSync(place).size / 2, 4096 * 10);
  await (await open(t, place, {}, { bootId: "second" })).close(); // a clean stop before the restart: nothing to check
  const killed = spawnSync(process.execPath, ["-e", `const db = new (require("node:sqlite").DatabaseSync)(${JSON.stringify(place)}); db.exec("insert into counter (id) values ('c')"); process.kill(process.pid, "SIGKILL")`]);
  assert.equal(killed.signal, "SIGKILL");
  assert.ok(statSync(`${place}-wal`).size > 0);
  await fails(open(t, place, {}, { bootId: "third" }), "corrupt", /machine went down/);
});

test("after a kill the same boot opens without the check", { timeout: 60_000 }, async (t) => {
  const root = folder(t);
  const { lines, kill } = startChild(t, root, "insert", "100000");
  await until(() => lines.length > 20, "the child inserts");
  await kill();
  assert.ok(statSync(join(root, "state.db-wal")).size > 0);
  const started = systemClock.monotonic();
  const store = await open(t, join(root, "state.db"));
  assert.ok((await store.count("item")) >= 60);
  t.diagnostic(`opened ${Math.round(systemClock.monotonic() - started)} ms after the kill`);
});

test("one file may be open twice in one process", async (t) => {
  const place = join(folder(t), "state.db");
  const [a, b] = [await open(t, place), await open(t, place)];
  await Promise.all(upTo(40).map((i) => write(i % 2 ? a : b, addItem({ priority: i }))));
  assert.equal(await a.count("item"), 40);
  await a.close();
  await write(b, addItem());
  assert.equal(await b.count("item"), 41);
});

test("close leaves one database file without a log, and refuses what comes after", async (t) => {
  const root = folder(t);
  const store = await open(t, join(root, "state.db"));
  await write(store, addItem());
  await store.close();
  await store.close();
  assert.deepEqual(readdirSync(root).sort(), ["state.db", "state.db-gate", "state.db-turn"]);
  await fails(store.commit([]), "closed");
  await fails(store.get("item", [1]), "closed");
});

/* ---------- reading only ---------- */

test("read-only on a missing file is an empty state that creates nothing and sees the file when it comes", async (t) => {
  const root = folder(t);
  const place = join(root, "state.db");
  const reader = await open(t, place, { readOnly: true });
  assert.deepEqual([await reader.get("item", [1, 2]), await reader.list("item"), await reader.count("item"), await reader.count("item", {}, "status")], [[null, null], [], 0, {}]);
  await fails(reader.commit([{ puts: [addItem()] }]), "usage", /reading only/);
  assert.deepEqual(readdirSync(root), []);
  const writer = await open(t, place);
  for (const n of upTo(3)) {
    await write(writer, addItem());
    assert.equal(await reader.count("item"), n + 1);
  }
  await fails(reader.claim({ kind: "item", queries: [{}], order: [], limit: 1 }, () => null), "usage");
});

test("read-only works on a medium that cannot be written", { skip: process.platform !== "linux" || process.getuid?.() !== 0 ? "mounting a read-only file system needs root on Linux" : false }, async (t) => {
  const mount = smallDisk(t, "8m");
  if (mount === undefined) return t.skip("mounting is not allowed here");
  const place = join(mount, "state.db");
  const store = await open(t, place);
  await write(store, addItem({ title: "kept" }));
  await store.close();
  spawnSync("mount", ["-o", "remount,ro", mount]);
  const reader = await open(t, place, { readOnly: true });
  assert.deepEqual((await reader.list("item")).map((record) => record["title"]), ["kept"]);
  await fails(open(t, place), "storage");
  spawnSync("mount", ["-o", "remount,rw", mount]);
  await write(await open(t, place), addItem({ title: "second" }));
  assert.equal((await reader.list("item")).length, 2, "a writer that came later is seen");
});

test("a folder without the right to write can be read", { skip: process.getuid?.() === 0 || process.platform === "win32" ? "root may write anywhere" : false }, async (t) => {
  const root = folder(t);
  const store = await open(t, join(root, "state.db"));
  await write(store, addItem());
  await store.close();
  chmodSync(root, 0o500);
  t.after(() => chmodSync(root, 0o700));
  assert.equal(await (await open(t, join(root, "state.db"), { readOnly: true })).count("item"), 1);
});

/* ---------- the schema ---------- */

/** The kind as it was before these fields, and every index that needs them or is named. */
const without = (kind: Kind, fields: readonly string[], indexes: readonly string[]): Kind => ({
  ...kind,
  fields: Object.fromEntries(Object.entries(kind.fields).filter(([name]) => !fields.includes(name))),
  indexes: Object.fromEntries(
    Object.entries(kind.indexes).filter(([name, index]) => !indexes.includes(name) && ![...index.fields, ...Object.keys(index.where ?? {}), ...(index.notNull ?? [])].some((field) => fields.includes(field))),
  ),
});

/** The model as it may have been before: fewer kinds, fields and indexes. */
const older: Model = {
  ...conformanceModel,
  kinds: conformanceModel.kinds.filter(({ name }) => name !== "group").map((kind) => (kind.name === "item" ? without(kind, ["score", "flag", "owner", "data"], ["name"]) : kind)),
};

test("a file of an older model is brought up to date, and values of new fields are found", async (t) => {
  const place = join(folder(t), "state.db");
  const old = await open(t, place, {}, {}, older);
  await write(old, addItem({ id: 1, title: "a", score: 0.5, flag: true, data: { a: [1] }, more: 1 }), addItem({ id: 2, title: "b", score: "not a number" }));
  const before = await old.list("item");
  const reader = await open(t, place, { readOnly: true });
  for (const query of [{}, { index: "name", equals: { title: "a" } }, { index: "free" }, { index: "score" }] satisfies Query[]) assert.ok(Array.isArray(await reader.list("item", query)));
  assert.deepEqual((await reader.list("item", { index: "name" })).map(({ id }) => id), [1, 2]);
  assert.deepEqual([await reader.list("group"), await reader.list("group", { index: "order" }), await reader.count("item", {}, "status")], [[], [], { null: 2 }]);
  await old.close();
  const store = await open(t, place);
  assert.deepEqual(await store.get("item", [1]), [{ ...before[0], owner: null }]);
  assert.deepEqual((await store.list("item", { index: "flag", equals: { flag: true } })).map(({ id }) => id), [1]);
  await write(store, put("group", { left: "a", right: "b" }));
  await store.close();
  assert.equal((await (await open(t, place, {}, {}, older)).list("item")).length, 2, "and the older model still reads it");
});

test("an index whose declaration changed is made anew", async (t) => {
  const place = join(folder(t), "state.db");
  const changed: Model = { ...conformanceModel, kinds: conformanceModel.kinds.map((kind) => (kind.name === "item" ? { ...kind, indexes: { ...kind.indexes, name: { fields: ["title", "status"], notNull: ["title"] } } } : kind)) };
  const first = await open(t, place);
  await write(first, addItem({ title: "b" }), addItem(), addItem({ title: "a" }));
  await first.close();
  const store = await open(t, place, {}, {}, changed);
  assert.deepEqual((await store.list("item", { index: "name" })).map(({ id }) => id), [3, 1]);
});

test("tables are strict, and a person can read them", async (t) => {
  const place = join(folder(t), "state.db");
  const store = await open(t, place);
  await write(store, addItem({ key: "k", flag: true, score: 2, data: { a: 1 }, other: "x" }));
  const db = shell(t, place);
  assert.deepEqual({ ...db.prepare('select id, "key", flag, score, data, extra, title from item').get() }, { id: 1, key: "k", flag: 1, score: 2, data: '{"a":1}', extra: '{"other":"x"}', title: null });
  for (const row of db.prepare("select name, strict from pragma_table_list where schema = 'main' and name not like 'sqlite%'").all()) assert.equal(row["strict"], 1, String(row["name"]));
  assert.throws(() => db.exec("update item set priority = 'high'"));
});

test("an integer that JavaScript cannot hold is corrupt, not rounded", async (t) => {
  const place = join(folder(t), "state.db");
  const store = await open(t, place);
  await write(store, addItem());
  shell(t, place).exec("update item set priority = 9007199254740993");
  await fails(store.get("item", [1]), "corrupt", /2\^53/);
});

/* ---------- plans ---------- */

/** Every way to read along an index: no field, some or all given, a range on the next, on from a record, both directions. */
function* queriesOf(kind: Kind): Generator<Query> {
  for (const index of [undefined, ...Object.keys(kind.indexes)]) {
    const fields = index === undefined ? kind.key : kind.indexes[index]!.fields;
    const sample = (field: string) => (kind.fields[field] === "text" ? "t" : kind.fields[field] === "boolean" ? true : 5);
    const record = Object.fromEntries(Object.keys(kind.fields).map((field) => [field, sample(field)]));
    for (let n = 0; n <= fields.length; n++) {
      const equals = Object.fromEntries(fields.slice(0, n).map((field) => [field, sample(field)]));
      const range = n < fields.length && kind.fields[fields[n]!] !== "boolean" ? [{}, { from: 1 }, { from: 1, to: 9 }, { to: 9 }] : [{}];
      for (const bounds of range) {
        for (const reverse of [false, true]) {
          const next = fields[n];
          const cursors = [undefined, record, ...(next === undefined || kind.key.includes(next) ? [] : [{ ...record, [next]: null }])];
          for (const after of cursors) yield { ...(index === undefined ? {} : { index }), equals, ...bounds, reverse, ...(after ? { after } : {}) };
        }
      }
    }
  }
}

test("no read scans a table or sorts: every one walks an index that it names", (t) => {
  let n = 0;
  for (const kinds of [conformanceModel.kinds, KINDS]) {
    const db = new DatabaseSync(":memory:");
    t.after(() => db.close());
    for (const kind of kinds) for (const text of [tableText(kind), ...Object.keys(kind.indexes).map((name) => indexText(kind, name))]) db.exec(text);
    for (const kind of kinds) {
      for (const query of queriesOf(kind)) {
        const index: Index = query.index === undefined ? { fields: kind.key } : kind.indexes[query.index]!;
        const next = index.fields[Object.keys(query.equals!).length];
        const wanted: Wanted[] = ["records", "count", ...(next === undefined ? [] : [{ by: next }])];
        for (const segment of segmentsOf(kind, index, orderOf(kind, index), query)) {
          for (const want of wanted) {
            const text = readText(kind, null, query, segment, want);
            const plan = db.prepare(`explain query plan ${text}`).all().map((row) => String(row["detail"]));
            const open = segment.equals.length === 0 && segment.bounds.length === 0;
            const fine = plan.length === 1 && (plan[0]!.startsWith("SEARCH") || (open && /^SCAN \S+( USING (COVERING )?INDEX \S+)?$/.test(plan[0]!)));
            assert.ok(fine, `${text}\n${plan.join("\n")}`);
            // A field of the index's condition that is not in the index is looked up in the record, unless it equals a constant.
            const looked = Object.entries(index.where ?? {}).filter(([, value]) => value === null).map(([field]) => field).concat(index.notNull ?? []);
            if (want !== "records" && query.index !== undefined && looked.every((field) => index.fields.includes(field))) assert.match(plan[0]!, /COVERING INDEX/, text);
            n++;
          }
        }
      }
    }
  }
  t.diagnostic(`${n} plans`);
});

/* ---------- ids, kills, disks, locks ---------- */

test("ids are not used twice: after a delete, a reopening, a kill, a row put in by hand", { timeout: 60_000 }, async (t) => {
  const root = folder(t);
  const place = join(root, "state.db");
  let highest = 0;
  for (const round of upTo(4)) {
    const { lines, kill } = startChild(t, root, "insert", "100000");
    await until(() => lines.length > 5 + round * 5, "the child inserts");
    await kill();
    const told = lines.flatMap((line) => (JSON.parse(line) as [number, string][]).map(([id]) => id));
    assert.ok(Math.min(...told) > highest, "no id of an earlier round");
    const store = await open(t, place);
    const ids = (await store.list("item")).map(({ id }) => id as number);
    assert.deepEqual(told.filter((id) => !ids.includes(id)), [], "every acknowledged insert is there");
    highest = Math.max(...ids);
    await store.commit(ids.map((id) => ({ puts: [remove("item", id)] })));
    await store.close();
  }
  shell(t, place).exec(`insert into item (id) values (${highest + 1000})`);
  assert.deepEqual(await write(await open(t, place), addItem()), [highest + 1001]);
});

test("a full disk refuses the change, keeps what was there, and the store goes on when there is room", { skip: process.platform !== "linux" || process.getuid?.() !== 0 ? "a small disk needs root on Linux" : false }, async (t) => {
  const mount = smallDisk(t, "2m");
  if (mount === undefined) return t.skip("mounting is not allowed here");
  const store = await open(t, join(mount, "state.db"));
  await write(store, put("counter", { id: "c", n: 0 }));
  const filler = join(mount, "filler");
  writeFileSync(filler, Buffer.alloc(900_000));
  let kept = 0;
  const add = () => store.commit([{ puts: [addItem({ data: "x".repeat(60_000) })], additions: [{ kind: "counter", key: "c", field: "n", n: 1 }] }]);
  await fails((async () => { for (; ; kept++) succeeded((await add())[0]); })(), "storage", /full/);
  assert.ok(kept > 2);
  await fails(add(), "storage");
  assert.equal(await store.count("item"), kept);
  assert.deepEqual((await store.get("counter", ["c"]))[0]!["n"], kept);
  rmSync(filler);
  succeeded((await add())[0]);
  await store.close();
  assert.equal(await (await open(t, join(mount, "state.db"))).count("item"), kept + 1);
});

test("after a flush that failed nothing more is written until the state is opened again", async (t) => {
  const place = join(folder(t), "state.db");
  const prepare = DatabaseSync.prototype.prepare;
  t.after(() => (DatabaseSync.prototype.prepare = prepare));
  let failing = false;
  DatabaseSync.prototype.prepare = function (sql: string) {
    const statement = prepare.call(this, sql);
    if (sql === "commit") {
      const run = statement.run.bind(statement);
      statement.run = () => {
        if (failing) throw Object.assign(new Error("disk I/O error"), { code: "ERR_SQLITE_ERROR", errcode: 1034 });
        return run();
      };
    }
    return statement;
  };
  const store = await open(t, place);
  await write(store, addItem({ title: "before" }));
  failing = true;
  await fails(store.commit([{ puts: [addItem()] }]), "commit_unknown");
  failing = false;
  await fails(store.commit([{ puts: [addItem()] }]), "commit_unknown");
  await fails(store.claim({ kind: "item", queries: [{}], order: [], limit: 1 }, () => ({ puts: [addItem()] })), "commit_unknown");
  assert.equal((await store.list("item")).length, 1, "reading goes on");
  await store.close();
  await write(await open(t, place), addItem());
});

test("what SQLite's errors mean", () => {
  const codes: [number, ErrorCode][] = [[1034, "commit_unknown"], [1290, "commit_unknown"], [13, "storage"], [10, "storage"], [778, "storage"], [8, "storage"], [14, "storage"], [11, "corrupt"], [267, "corrupt"], [26, "corrupt"], [5, "busy"], [517, "busy"], [6, "busy"]];
  for (const [errcode, code] of codes) assert.ok(isPawlError(explain(Object.assign(new Error("x"), { code: "ERR_SQLITE_ERROR", errcode }), "f"), code), `${errcode} ${code}`);
  const other = new Error("x");
  assert.equal(explain(other, "f"), other);
});

test("a program that holds the lock is waited for, told of, and given up on", async (t) => {
  const place = join(folder(t), "state.db");
  const notices: string[] = [];
  // A hundred times as fast as the wall, so that ten seconds of waiting pass in a tenth.
  const clock = { ...systemClock, monotonic: () => systemClock.monotonic() * 100, timer: (ms: number, fn: () => void) => systemClock.timer(ms / 100, fn) };
  const store = await open(t, place, { clock, notice: (line) => notices.push(line) });
  const db = shell(t, place);
  db.exec("begin immediate");
  await fails(commit(store, { puts: [addItem()] }), "busy");
  assert.equal(notices.length, 1);
  assert.match(notices[0]!, /Waiting for .*state\.db/);
  const first = commit(store, { puts: [addItem({ title: "first" })] });
  const second = commit(store, { puts: [addItem({ title: "second" })] });
  assert.deepEqual(await store.list("item"), [], "readers do not wait");
  db.exec("commit");
  succeeded(await first);
  succeeded(await second);
  assert.deepEqual((await store.list("item")).map(({ title }) => title), ["first", "second"]);
});

test("the files that make waiting fair may be removed", async (t) => {
  const root = folder(t);
  const store = await open(t, join(root, "state.db"));
  await write(store, addItem());
  for (const name of ["state.db-turn", "state.db-gate"]) rmSync(join(root, name));
  for (const _ of upTo(3)) await write(store, addItem());
  assert.equal(await store.count("item"), 3 + 1);
});

test("a watcher hears own commits once and those of others, and nothing after it left", async (t) => {
  const place = join(folder(t), "state.db");
  const [store, other] = [await open(t, place), await open(t, place)];
  let told = 0;
  const stop = store.watch(() => told++);
  await write(store, addItem());
  await until(() => told === 1, "the own commit is told");
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.equal(told, 1);
  await write(other, addItem());
  await until(() => told >= 2, "the other's commit is told");
  stop();
  const before = told;
  await write(store, addItem());
  await new Promise((resolve) => setTimeout(resolve, 40));
  assert.equal(told, before);
});

test("a set replaces nothing it does not name, also with many shapes", async (t) => {
  const store = await open(t, join(folder(t), "state.db"));
  const fields = ["title", "status", "priority", "score", "owner", "run_at", "revision"];
  await write(store, addItem({ id: 1 }));
  const expected: { [field: string]: unknown } = { id: 1 };
  for (const mask of upTo(128)) {
    const named = fields.filter((_, i) => mask & (1 << i));
    const values = Object.fromEntries(named.map((field) => [field, ["priority", "score", "revision"].includes(field) ? mask : `${field} ${mask}`]));
    Object.assign(expected, values);
    await write(store, set("item", 1, values));
    const [record] = (await store.get("item", [1])) as [Rec];
    for (const field in expected) assert.equal(record[field], expected[field]);
  }
});

test("a file that is removed or replaced while it is open takes in nothing more, and its writer is told", async (t) => {
  for (const replaced of [false, true]) {
    const path = join(folder(t), "state.db");
    const store = await open(t, path);
    await write(store, addItem({ id: 1 }));
    if (replaced) {
      copyFileSync(path, `${path}.copy`);
      renameSync(`${path}.copy`, path);
    } else unlinkSync(path);
    await fails(store.commit([{ puts: [addItem({ id: 2 })] }]), "corrupt", replaced ? /was replaced while/ : /was removed while/);
    assert.equal((await store.get("item", [1]))[0]!["id"], 1, "what was read before is still shown");
  }
});

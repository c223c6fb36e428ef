// The file itself: whether it is ours, made and brought up to date. Invariant: a file that is not a Pawl state, or of a
// newer format, is never written to; and every step of making or migrating one is in a single transaction.
//
// There is no flag for a clean stop: the last connection to close removes the write-ahead log, so a log that is there
// although the machine was restarted since the last writer is exactly an unclean stop that can have hurt the file.
import { closeSync, existsSync, openSync, readFileSync, rmSync, statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { PawlError } from "../../base/errors.ts";
import { makeFolders, nodeFs } from "../../base/fs.ts";
import { sha256, type Json } from "../../base/json.ts";
import { formatOf } from "../migrations.ts";
import * as sql from "../sql.ts";
import { connect, corrupt, type Driver, needsWriting, isNotADatabase, type Probes } from "./driver.ts";
import type { Kind, Model } from "../store.ts";

/** "PAWL" as SQLite's application_id. */
export const APPLICATION_ID = 0x5041574c;

/** File systems whose locks or shared memory do not hold between machines (statfs types of Linux). */
const NETWORK: { readonly [type: number]: string } = {
  0x6969: "NFS", 0x517b: "SMB", 0xff534d42: "CIFS", 0xfe534d42: "SMB2", 0x01021997: "9p", 0x65735546: "FUSE", 0x00c36400: "Ceph", 0x5346414f: "AFS",
};

export function refuseNetwork(folder: string, probes: Probes): void {
  if (probes.fileSystem === undefined && process.platform !== "linux") return;
  let at = folder;
  while (!existsSync(at) && dirname(at) !== at) at = dirname(at);
  const name = NETWORK[(probes.fileSystem?.(at) ?? statfsSync(at).type) >>> 0];
  if (name === undefined) return;
  throw new PawlError("unsupported", `${folder} is on a network file system (${name}), where SQLite's locks cannot be trusted.`, {
    next: "Keep the state on a local disk, or use Postgres.",
    details: { folder, file_system: name },
  });
}

/** Creates the folders (0700) and an empty file (0600) that do not exist yet; SQLite gives its log files the mode of the file. */
export function createEmpty(path: string): void {
  const folder = dirname(path);
  // Left by a state that was removed: with them beside it, an empty file would be taken for what is left of that one.
  if (!existsSync(path)) for (const suffix of ["-turn", "-gate"]) rmSync(path + suffix, { force: true });
  const made = makeFolders(folder, 0o700);
  try {
    // Exclusive: an existing file must not be opened past SQLite, since closing it would drop this process's locks on it.
    closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    if ((error as { code?: unknown }).code === "EEXIST") return;
    throw new PawlError("storage", `${path} cannot be created.`, { next: "Check who owns the folder.", details: { path }, cause: error });
  }
  nodeFs.fsyncDir(folder);
  if (made === undefined) return;
  for (let at = folder; at.length >= made.length; at = dirname(at)) nodeFs.fsyncDir(dirname(at));
}

/**
 * Three states SQLite takes for a new database, so that whatever is left would be gone: a stump shorter than any page, a
 * log whose file was lost, and a file that was a state (writers took turns on it) and is empty now.
 */
export function refuseRemains(path: string): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  const size = stat?.size ?? 0;
  // With a rollback journal beside it, it is a file whose making was cut off, which SQLite undoes.
  if (size > 0 && size < 512 && (statSync(`${path}-journal`, { throwIfNoEntry: false })?.size ?? 0) === 0) throw notADatabase(path);
  if (size === 0 && (statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0) throw corrupt(path, `it is empty, but its log ${path}-wal is not`);
  if (stat && size === 0 && existsSync(`${path}-turn`)) throw corrupt(path, `it is empty, but ${path}-turn says that it was a state`);
}

function notADatabase(path: string, cause?: unknown): PawlError {
  return new PawlError("corrupt", `${path} is not a SQLite database, so it is left as it is.`, { next: "Name another file, or run: pawl doctor", details: { path }, cause });
}

/** What kind of file it is, found out without a chance of writing to it. */
export function recognise(path: string, known: number): "ours" | "empty" {
  let db: Driver | undefined;
  try {
    db = connect(path, "read");
    return belongsToPawl(db, path, known);
  } catch (error) {
    // A rollback journal is left to undo, which takes a connection that may write; it looks at the file again.
    if (needsWriting(error)) return "ours";
    if (isNotADatabase(error)) throw notADatabase(path, error);
    throw error;
  } finally {
    db?.close();
  }
}

/** Throws unless the file is ours or empty, and of a format up to `known`. */
export function belongsToPawl(db: Driver, path: string, known: number): "ours" | "empty" {
  const id = db.value("pragma application_id");
  const format = Number(db.value("pragma user_version"));
  if (id !== APPLICATION_ID) {
    if (id === 0 && format === 0 && db.value("select count(*) from sqlite_schema") === 0) return "empty";
    throw new PawlError("unsupported", `${path} is a database of another application, so it is left as it is.`, { next: "Name another file.", details: { path } });
  }
  if (format <= known) return "ours";
  throw new PawlError("unsupported", `${path} was written by a newer Pawl (format ${format}, this one knows ${known}), so it is left as it is.`, {
    next: "Install the newer Pawl.",
    details: { path, format, known },
  });
}

/** True when the machine may have gone down while the file was being written. */
export function wasCutOff(path: string): boolean {
  return ["-wal", "-journal"].some((suffix) => (statSync(path + suffix, { throwIfNoEntry: false })?.size ?? 0) > 0);
}

/** Tells one run of the machine from the next; null where that cannot be known. */
export function bootId(probes: Probes): string | null {
  if (probes.bootId !== undefined) return probes.bootId;
  if (process.platform !== "linux" || !existsSync("/proc/sys/kernel/random/boot_id")) return null;
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}

/** One whole reading of the file, after a crash of the machine only: a killed process cannot hurt it, and it takes seconds a gigabyte. */
export function quickCheck(db: Driver, path: string): void {
  const found = db.value("pragma quick_check(1)");
  if (found !== "ok") throw corrupt(path, `after the machine went down, SQLite's check says "${String(found)}"`);
}

/* ---------- tables ---------- */

export const getNote = (db: Driver, name: string): string | null => (db.value(`select value from pawl where name = '${name}'`) ?? null) as string | null;
const setNote = (db: Driver, name: string, value: string) => void db.prepare("insert into pawl values (?, ?) on conflict (name) do update set value = excluded.value").run(name, value);

/** Changes whenever the declarations do. */
export const schemaOf = (model: Model): string => sha256(JSON.stringify(model.kinds.flatMap((kind) => [sql.tableText(kind), ...Object.keys(kind.indexes).map((name) => sql.indexText(kind, name))])), 16);

/** Makes what is missing. Must run inside a transaction. */
export function migrate(db: Driver, path: string, model: Model, boot: string | null): void {
  if (belongsToPawl(db, path, formatOf(model)) === "empty") {
    db.exec("create table pawl (name text primary key, value text not null) strict, without rowid");
    db.exec(`pragma application_id = ${APPLICATION_ID}`);
    db.exec(`pragma user_version = ${formatOf(model)}`);
    setNote(db, "format", String(formatOf(model)));
  }
  if (boot !== null && getNote(db, "boot") !== boot) setNote(db, "boot", boot);
  const schema = schemaOf(model);
  if (getNote(db, "schema") === schema) return;
  for (const kind of model.kinds) migrateKind(db, path, kind);
  setNote(db, "schema", schema);
}

function migrateKind(db: Driver, path: string, kind: Kind): void {
  if (kind.name === "pawl" || kind.fields[sql.EXTRA] !== undefined) throw new PawlError("internal", `A kind cannot be called pawl, nor a field ${sql.EXTRA}.`);
  const columns = columnsIn(db, kind);
  if (columns.size === 0) db.exec(sql.tableText(kind));
  for (const [field, type] of Object.entries(kind.fields)) {
    const found = columns.get(field);
    if (columns.size === 0 || found === sql.columnType(type)) continue;
    if (found !== undefined) {
      throw new PawlError("unsupported", `The column ${kind.name}.${field} of ${path} is ${found}, where ${sql.columnType(type)} is needed.`, { next: "Run: pawl doctor", details: { path } });
    }
    db.exec(`alter table ${sql.quote(kind.name)} add column ${sql.quote(field)} ${sql.columnType(type)}`);
    adoptExtra(db, kind, field);
  }
  for (const name of Object.keys(kind.indexes)) {
    const text = sql.indexText(kind, name);
    const found = db.prepare("select sql from sqlite_schema where type = 'index' and name = ?").get(sql.indexName(kind, name))?.[0];
    if (found?.toString().toLowerCase() === text.toLowerCase()) continue;
    if (found !== undefined) db.exec(`drop index ${sql.quote(sql.indexName(kind, name))}`);
    db.exec(text);
  }
}

/** A field that was not declared until now: its values move from `extra` to the new column, those that fit its type. */
function adoptExtra(db: Driver, kind: Kind, field: string): void {
  const table = sql.quote(kind.name);
  const type = kind.fields[field]!;
  const keys = kind.key.map(sql.quote).join(", ");
  const update = db.prepare(`update ${table} set ${sql.quote(field)} = ?, ${sql.EXTRA} = ? where ${sql.keyTerms(kind)}`);
  for (const [text, ...key] of db.prepare(`select ${sql.EXTRA}, ${keys} from ${table} where ${sql.EXTRA} is not null`).all()) {
    const { [field]: value, ...rest } = JSON.parse(text as string) as { [field: string]: Json };
    if (value === undefined) continue;
    const fits = value === null || type === "json" || (type === "integer" ? Number.isSafeInteger(value) : typeof value === { text: "string", real: "number", boolean: "boolean" }[type]);
    if (!fits) continue;
    const column = value === null ? null : type === "json" ? JSON.stringify(value) : typeof value === "boolean" ? Number(value) : (value as string | number);
    update.run(column, Object.keys(rest).length > 0 ? JSON.stringify(rest) : null, ...key);
  }
}

function columnsIn(db: Driver, kind: Kind): Map<string, string> {
  const rows = db.prepare("select name, type from pragma_table_info(?)").all(kind.name);
  return new Map(rows.map(([name, type]) => [name as string, String(type).toLowerCase()]));
}

/** What an older file has of a kind, for reading it as it is; null when the kind is not there at all. */
export function presentIn(db: Driver, kind: Kind): sql.Present | null {
  const columns = columnsIn(db, kind);
  if (columns.size === 0) return null;
  const indexes = db.prepare("select name from sqlite_schema where type = 'index' and tbl_name = ?").all(kind.name);
  return { columns: new Set(columns.keys()), indexes: new Set(indexes.map(([name]) => name as string)) };
}


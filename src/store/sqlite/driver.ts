// The one door to node:sqlite: a connection with the settings durability needs, each read back, and what its errors mean.
// Invariant: a connection that this file returns flushes every commit to the disk before the commit returns.
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import { PawlError } from "../../base/errors.ts";

export type Value = string | number | null;
export type Row = readonly Value[];

/** Rows are arrays in the order of the columns: half the cost of objects. */
export type Statement = {
  run(...values: readonly Value[]): { readonly changes: number | bigint };
  get(...values: readonly Value[]): Row | undefined;
  all(...values: readonly Value[]): readonly Row[];
};

export type Driver = {
  readonly inTransaction: boolean;
  exec(sql: string): void;
  prepare(sql: string): Statement;
  /** The first column of the first row. */
  value(sql: string): Value | undefined;
  /** The connection itself, for people's own SQL. */
  readonly connection: DatabaseSync;
  close(): void;
};

/** "write" creates the file; "read" writes nothing; "frozen" is for media where not even a lock can be taken. */
export type Mode = "write" | "read" | "frozen";

/** What a test may replace. */
export type Probes = {
  readonly version?: string;
  /** What a pragma says when it is read back. */
  readonly readBack?: (pragma: string, value: Value | undefined) => Value | undefined;
  readonly fileSystem?: (folder: string) => number;
  readonly bootId?: string;
};

/** How long SQLite itself may wait for a lock while this process stands still, in ms. The rest is waited asynchronously. */
const BUSY_MS = { wal: 0, truncate: 20 };

export function connect(path: string, mode: Mode): Driver {
  const place = mode === "frozen" ? new URL(`${pathToFileURL(path).href}?immutable=1`) : path;
  const db = new DatabaseSync(place, { readOnly: mode !== "write", allowExtension: false });
  // Not in the oldest Node this runs on; a second line of defence only.
  (db as { enableDefensive?: (on: boolean) => void }).enableDefensive?.(true);
  const prepare = (sql: string) => {
    const statement: StatementSync = db.prepare(sql);
    statement.setReturnArrays(true);
    return statement as unknown as Statement;
  };
  return {
    get inTransaction() {
      return db.isTransaction;
    },
    exec: (sql) => db.exec(sql),
    prepare,
    value: (sql) => prepare(sql).get()?.[0],
    connection: db,
    close: () => db.close(),
  };
}

/**
 * Whether several connections may use a write-ahead log with this SQLite. Before 3.51.3 (and its two backports) a race
 * of a log reset with a checkpoint could damage the file; older ones use a rollback journal instead.
 */
export function isWalSafe(version: string): boolean {
  const [major = 0, minor = 0, patch = 0] = version.split(".").map(Number);
  if (major !== 3) return major > 3;
  if (minor === 44) return patch >= 6;
  if (minor === 50) return patch >= 7;
  return minor > 51 || (minor === 51 && patch >= 3);
}

/** Settings in the order they are made: name, value as set, value as read back. */
function settings(wal: boolean, platform: string): readonly (readonly [string, string, Value])[] {
  const busy = wal ? BUSY_MS.wal : BUSY_MS.truncate;
  return [
    ["busy_timeout", String(busy), busy],
    ["journal_mode", wal ? "wal" : "truncate", wal ? "wal" : "truncate"],
    ["synchronous", wal ? "full" : "extra", wal ? 2 : 3],
    ["foreign_keys", "on", 1],
    ["trusted_schema", "off", 0],
    ["cell_size_check", "on", 1],
    ["mmap_size", "0", 0],
    ["journal_size_limit", "67108864", 67108864],
    // Four times SQLite's own: a page that is written again and again goes into the file a quarter as often. 16 MB of log.
    ["wal_autocheckpoint", "4000", 4000],
    ["temp_store", "memory", 2],
    // Elsewhere a flush reaches the platters; on a Mac only this one does.
    ...(platform === "darwin" ? ([["fullfsync", "on", 1], ["checkpoint_fullfsync", "on", 1]] as const) : []),
  ];
}

/** Makes every setting and asserts that SQLite took it: a build or a driver with another mind would lose acknowledged work. */
export function configure(db: Driver, writes: boolean, probes: Probes): void {
  const version = probes.version ?? String(db.value("select sqlite_version()"));
  for (const [name, value, expected] of settings(isWalSafe(version), process.platform)) {
    if (name === "journal_mode" && !writes) continue;
    db.exec(`pragma ${name} = ${value}`);
    const read = db.value(`pragma ${name}`);
    const actual = probes.readBack ? probes.readBack(name, read) : read;
    if (actual === expected) continue;
    throw new PawlError("unsupported", `SQLite ${version} did not take the setting ${name} = ${value}: it is ${String(actual)}.`, {
      next: "Use the SQLite that comes with Node, on a local disk.",
      details: { pragma: name, wanted: expected, actual },
    });
  }
}

const PRIMARY = { busy: 5, locked: 6, nomem: 7, readonly: 8, ioerr: 10, corrupt: 11, full: 13, cantopen: 14, toobig: 18, constraint: 19, mismatch: 20, notadb: 26 };
const FLUSH_FAILED = [1034, 1290]; // IOERR_FSYNC, IOERR_DIR_FSYNC
/** A read-only connection cannot take what it needs: a journal to roll back, a shared memory file. */
const NEEDS_WRITING = [264, 520, 776, 1032, 1544, 4874]; // READONLY_RECOVERY, _CANTLOCK, _ROLLBACK, _DBMOVED, _DIRECTORY, IOERR_SHMSIZE
/** No room for the shared memory: the disk is full before a page was written. */
const NO_ROOM = 4874;

/** SQLite's extended result code, 0 when the error is not SQLite's. */
function codeOf(error: unknown): number {
  const { code, errcode } = error as { code?: unknown; errcode?: unknown };
  return code === "ERR_SQLITE_ERROR" && typeof errcode === "number" ? errcode : 0;
}

export const isBusy = (error: unknown): boolean => (codeOf(error) & 0xff) === PRIMARY.busy || (codeOf(error) & 0xff) === PRIMARY.locked;
export const needsWriting = (error: unknown): boolean => NEEDS_WRITING.includes(codeOf(error)) || (codeOf(error) & 0xff) === PRIMARY.cantopen;
export const isNotADatabase = (error: unknown): boolean => (codeOf(error) & 0xff) === PRIMARY.notadb;

/** The data of one change cannot be kept, whatever the others are. */
export function isBadData(error: unknown): boolean {
  const primary = codeOf(error) & 0xff;
  return primary === PRIMARY.constraint || primary === PRIMARY.toobig || primary === PRIMARY.mismatch;
}

/** What a thrown error means for the caller; errors that are not SQLite's are returned as they are. */
export function explain(error: unknown, path: string): unknown {
  if ((error as { code?: unknown }).code === "ERR_OUT_OF_RANGE") return corrupt(path, "it holds an integer beyond 2^53", error);
  const code = codeOf(error);
  if (code === 0) return error;
  const reason = (error as Error).message;
  const details = { path, sqlite: code };
  if (FLUSH_FAILED.includes(code)) {
    return new PawlError("commit_unknown", `The disk failed while flushing ${path}: the last changes may or may not have been kept.`, {
      next: "Check the disk, then open the state again.", details, cause: error,
    });
  }
  switch (code === NO_ROOM ? PRIMARY.full : code & 0xff) {
    case PRIMARY.corrupt:
    case PRIMARY.notadb:
      return corrupt(path, reason, error);
    case PRIMARY.busy:
    case PRIMARY.locked:
      return new PawlError("busy", `${path} is locked by another process.`, { next: "Try again.", details, cause: error });
    case PRIMARY.full:
      return new PawlError("storage", `The disk is full: nothing was written to ${path}.`, { next: "Free some space and try again.", details, cause: error });
    case PRIMARY.readonly:
    case PRIMARY.cantopen:
      return new PawlError("storage", `${path} cannot be opened for writing (${reason}).`, { next: "Check who owns it and its folder.", details, cause: error });
    default:
      return new PawlError("storage", `SQLite refused to work on ${path}: ${reason}.`, { next: "Check the permissions, the free space and the health of the disk.", details, cause: error });
  }
}

export function corrupt(path: string, why: string, cause?: unknown): PawlError {
  return new PawlError("corrupt", `${path} is damaged: ${why}.`, { next: "Run: pawl doctor", details: { path }, cause });
}

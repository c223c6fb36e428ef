// A backup of a SQLite state while others write to it: SQLite itself writes a compact copy of one moment into a new file.
// Invariant: nothing that exists is overwritten, and what has the name of a backup was checked and is on the disk.
import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { PawlError } from "../../base/errors.ts";
import { makeFolders, nodeFs } from "../../base/fs.ts";
import { belongsToPawl } from "./schema.ts";
import { connect, corrupt, explain, type Driver } from "./driver.ts";
import type { OpenOptions } from "../store.ts";

/** Copies the state at `path` to the file `to`. Throws `conflict`, `corrupt`, `storage`. */
export function backupSqlite(path: string, to: string, options: { readonly random: OpenOptions["random"] }): void {
  refuseTaken(to);
  const folder = dirname(to);
  makeFolders(folder, 0o700);
  const temp = join(folder, `.${basename(to)}.${options.random.hex(8)}.tmp`);
  try {
    // Made here, so that it has the right mode from its first byte; SQLite fills an empty file.
    closeSync(openSync(temp, "wx", 0o600));
    const head = withConnection(path, (db) => {
      if (belongsToPawl(db, path, Infinity) === "empty") throw new PawlError("not_found", `There is no state at ${path}.`);
      db.prepare("vacuum into ?").run(temp);
      return db.value("select count(*) from sqlite_schema");
    });
    withConnection(temp, (db) => verify(db, temp, head));
    flush(temp);
    refuseTaken(to);
    renameSync(temp, to);
    nodeFs.fsyncDir(folder);
  } catch (error) {
    throw explain(error, path);
  } finally {
    for (const suffix of ["", "-wal", "-shm", "-journal"]) rmSync(temp + suffix, { force: true });
  }
}

function withConnection<T>(path: string, work: (db: Driver) => T): T {
  const db = connect(path, "read");
  try {
    return work(db);
  } finally {
    db.close();
  }
}

function verify(db: Driver, path: string, objects: unknown): void {
  belongsToPawl(db, path, Infinity);
  const found = db.value("pragma integrity_check(1)");
  if (found !== "ok" || db.value("select count(*) from sqlite_schema") !== objects) throw corrupt(path, `the backup does not read back (${String(found)})`);
}

/** No connection is on the file any more, so opening it past SQLite drops nobody's locks. */
function flush(path: string): void {
  const fd = openSync(path, "r+");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function refuseTaken(to: string): void {
  if (existsSync(to)) throw new PawlError("conflict", `${to} exists, and a backup overwrites nothing.`, { next: "Name another path." });
}

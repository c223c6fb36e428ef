// Brings a SQLite state of an older format up to date. Invariant: a step is one transaction, begun only when a backup of
// exactly what it changes was read back; a crash leaves the older state, or the newer one.
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { PawlError } from "../../base/errors.ts";
import { asBefore, formatOf, kindAfter, migrated, stepFrom } from "../migrations.ts";
import * as sql from "../sql.ts";
import { backupSqlite } from "./backup.ts";
import type { Driver } from "./driver.ts";
import { listRecords, newTable } from "./table.ts";
import { writeRecord } from "./write.ts";
import type { Kind, Migration, Model, OpenOptions, Rec } from "../store.ts";

/** Records in memory at once. */
const PAGE = 1_000;

/** On a connection that writes: one step after the other, until the file has the model's format. */
export function upgrade(db: Driver, path: string, model: Model, options: OpenOptions): void {
  for (let format = formatIn(db); format < formatOf(model); format = formatIn(db)) {
    const step = stepFrom(model, format);
    const version = db.value("pragma data_version");
    const backup = freeName(path, format);
    backupSqlite(path, backup, options);
    db.exec("begin immediate");
    try {
      // Somebody wrote between the backup and the lock: a new backup then, and what it changed is looked at again.
      const stale = db.value("pragma data_version") !== version;
      if (!stale) takeStep(db, path, model, format, step);
      db.exec(stale ? "rollback" : "commit");
      if (!stale) options.notice?.(migrated(path, format, step, backup));
    } catch (error) {
      if (db.inTransaction) db.exec("rollback");
      throw error;
    }
  }
}

const formatIn = (db: Driver): number => Number(db.value("pragma user_version"));

function freeName(path: string, format: number): string {
  for (let i = 1; ; i++) {
    const name = join(`${path}.pawl`, "backup", `format-${format}${i === 1 ? "" : `-${i}`}.db`);
    if (!existsSync(name)) return name;
  }
}

function takeStep(db: Driver, path: string, model: Model, format: number, step: Migration): void {
  for (const [name, { before, change }] of Object.entries(step.kinds)) rewrite(db, path, model, before, kindAfter(model, format, name), change);
  db.exec(`pragma user_version = ${format + 1}`);
  db.prepare("update pawl set value = ? where name = 'format'").run(String(format + 1));
}

/** The table of a kind made anew, with what `change` makes of each record. Without `after` the kind is gone. */
function rewrite(db: Driver, path: string, model: Model, before: Kind, after: Kind | null, change: (record: Rec) => Rec | null): void {
  const aside: Kind = { ...before, name: `${before.name} before`, indexes: {} };
  refuseUnknown(db, path, before);
  const indexes = db.prepare("select name from sqlite_schema where type = 'index' and tbl_name = ? and sql is not null").all(before.name);
  for (const [index] of indexes) db.exec(`drop index ${sql.quote(index as string)}`);
  db.exec(`alter table ${sql.quote(before.name)} rename to ${sql.quote(aside.name)}`);
  if (after) {
    db.exec(sql.tableText(after));
    for (const index of Object.keys(after.indexes)) db.exec(sql.indexText(after, index));
    copyRecords(db, path, model, aside, before, after, change);
  }
  db.exec(`drop table ${sql.quote(aside.name)}`);
}

function copyRecords(db: Driver, path: string, model: Model, aside: Kind, before: Kind, after: Kind, change: (record: Rec) => Rec | null): void {
  const from = newTable(db, path, aside, model, { writes: 0 }, null);
  const to = newTable(db, path, after, model, { writes: 0 }, null);
  for (let page = listRecords(from, {}, PAGE); page.length > 0; page = listRecords(from, { after: page.at(-1)! }, PAGE)) {
    for (const record of page) {
      const next = change(asBefore(before, record));
      const taken = next && writeRecord(to, next, [], undefined);
      if (taken) throw new PawlError("internal", `The step makes two records of ${after.name} that cannot stand beside each other.`);
    }
  }
}

/** A column that the older format does not declare would be lost on the way. */
function refuseUnknown(db: Driver, path: string, before: Kind): void {
  const known = new Set([...Object.keys(before.fields), sql.EXTRA]);
  const unknown = db.prepare("select name from pragma_table_info(?)").all(before.name).find(([name]) => !known.has(name as string));
  if (unknown) {
    throw new PawlError("unsupported", `${basename(path)} has the column ${before.name}.${String(unknown[0])}, which this version of Pawl does not know. Nothing was changed.`, {
      next: "Update Pawl, or drop the column if you added it.", details: { path },
    });
  }
}

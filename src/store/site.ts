// A place where a state is or may be, as a thing to act on rather than to read and write through: whether something is there,
// opening it whatever its seal says, looking at its files, repairing, copying or removing them. One object for either store.
import { existsSync, rmSync } from "node:fs";
import { extname, resolve } from "node:path";
import { PawlError } from "../base/errors.ts";
import type { Finding } from "../base/finding.ts";
import { backupJson, backupName } from "./json/backup.ts";
import { diagnoseJson } from "./json/doctor.ts";
import { openJson } from "./json/json.ts";
import { repairJson } from "./json/repair.ts";
import { removeDeadLocks } from "./place.ts";
import { backupSqlite } from "./sqlite-backup.ts";
import { diagnoseSqlite, repairSqlite } from "./sqlite-doctor.ts";
import { openSqlite } from "./sqlite.ts";
import type { Model, OpenOptions, Store } from "./store.ts";

export type Site = {
  readonly location: string;
  /** Where the locks of its workers are. */
  readonly lockFolder: string;
  exists(): boolean;
  open(options: { readonly readOnly: boolean }): Promise<Store>;
  /** Removes everything there. */
  discard(): void;
  /** What is wrong with the files. */
  diagnose(options: { readonly deep: boolean }): Finding[];
  /** Repairs the files and says what was done, a sentence each. */
  repair(): Promise<string[]>;
  /** Removes the locks of dead workers, once no record names them any more. */
  tidy(): void;
  /** Copies the state as it is at one moment to `to`, or beside itself; returns where. */
  backup(to?: string): Promise<string>;
};

export function isSqlite(path: string): boolean {
  return [".db", ".sqlite", ".sqlite3"].includes(extname(path).toLowerCase());
}

/** The site at `url`: a path. `:memory:` and URLs are no places on a disk and are refused. */
export function siteOf(url: string, model: Model, options: OpenOptions): Site {
  if (url === ":memory:" || /^[a-z][a-z0-9+.-]+:\/\//i.test(url) || url.trim() === "") {
    throw new PawlError("usage", `"${url}" is no place on a disk.`, { next: "Use a path ending in .json or .db." });
  }
  const location = resolve(url);
  const sqlite = isSqlite(location);
  const beside = sqlite ? ["", "-wal", "-shm", "-journal", "-turn", "-gate", ".pawl"] : ["", ".pawl"];
  const free = (to: string | undefined) => {
    const target = resolve(to ?? backupName(location, options.clock.now()));
    if (isSqlite(target) === sqlite) return target;
    throw new PawlError("usage", `A backup is of the same kind as the state, and ${target} is not.`, { next: `Name a path like ${backupName(location, options.clock.now())}. To change the kind: pawl copy FROM TO.` });
  };
  return {
    location,
    lockFolder: `${location}.pawl/workers`,
    exists: () => ["", ...(sqlite ? ["-wal"] : [".pawl/journal", ".pawl/checkpoint"])].some((suffix) => existsSync(location + suffix)),
    open: ({ readOnly }) => (sqlite ? openSqlite : openJson)(location, model, { ...options, readOnly }),
    discard: () => beside.forEach((suffix) => rmSync(location + suffix, { recursive: true, force: true })),
    diagnose: ({ deep }) => (sqlite ? diagnoseSqlite(location, model, { deep }) : diagnoseJson(location, model, options.clock.now())),
    repair: () => (sqlite ? repairSqlite : repairJson)(location, model, options),
    tidy: () => removeDeadLocks(`${location}.pawl/workers`),
    async backup(to) {
      const target = free(to);
      if (sqlite) backupSqlite(location, target, options);
      else await backupJson(location, target, model, options);
      return target;
    },
  };
}

// A place where a state is or may be, as a thing to act on rather than to read and write through: whether something is there,
// opening it whatever its seal says, looking at its files, repairing, copying or removing them. One object for every store.
import { existsSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import { checkAddress, isPostgresUrl } from "../base/address.ts";
import { PawlError } from "../base/errors.ts";
import { backupJson } from "./json/backup.ts";
import { diagnoseJson } from "./json/doctor.ts";
import { openJson } from "./json/json.ts";
import { repairJson } from "./json/repair.ts";
import { backupName, isSqlite, removeDeadLocks, type Site } from "./place.ts";
import { postgresSite } from "./postgres/site.ts";
import { backupSqlite } from "./sqlite/backup.ts";
import { diagnoseSqlite, repairSqlite } from "./sqlite/doctor.ts";
import { openSqlite } from "./sqlite/sqlite.ts";
import type { Model, OpenOptions } from "./store.ts";

export { isSqlite, type Site } from "./place.ts";

/** The site at `url`: a path, or a URL of Postgres. `:memory:` and other URLs are refused. */
export function siteOf(url: string, model: Model, options: OpenOptions): Site {
  if (isPostgresUrl(url)) return postgresSite(url, model, options);
  checkAddress(url);
  if (url === ":memory:" || url.trim() === "") throw new PawlError("usage", `"${url}" is no place where a state can be.`, { next: "Use a path ending in .json or .db, or postgres://HOST/DATABASE." });
  const location = resolve(url);
  const sqlite = isSqlite(location);
  const beside = sqlite ? ["", "-wal", "-shm", "-journal", "-turn", "-gate", ".pawl"] : ["", ".pawl"];
  const free = (to: string | undefined) => {
    if (to !== undefined) checkAddress(to);
    const target = resolve(to ?? backupName(location, options.clock.now()));
    if (isSqlite(target) === sqlite) return target;
    throw new PawlError("usage", `A backup is of the same kind as the state, and ${target} is not.`, { next: `Name a path like ${backupName(location, options.clock.now())}. To change the kind: pawl copy FROM TO.` });
  };
  return {
    location,
    lockFolder: `${location}.pawl/workers`,
    exists: async () => ["", ...(sqlite ? ["-wal"] : [".pawl/journal", ".pawl/checkpoint"])].some((suffix) => existsSync(location + suffix)),
    open: ({ readOnly }) => (sqlite ? openSqlite : openJson)(location, model, { ...options, readOnly, moment: readOnly }),
    discard: async () => beside.forEach((suffix) => rmSync(location + suffix, { recursive: true, force: true })),
    diagnose: async ({ deep }) => (sqlite ? diagnoseSqlite(location, model, { deep }) : diagnoseJson(location, model, options.clock)),
    repair: () => (sqlite ? repairSqlite : repairJson)(location, model, options),
    tidy: () => removeDeadLocks(`${location}.pawl/workers`),
    backup: async (to) => {
      const target = free(to);
      if (sqlite) backupSqlite(location, target, options);
      else await backupJson(location, target, model, options);
      return target;
    },
  };
}

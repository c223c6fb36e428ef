// A schema of Postgres where a state is or may be, as a thing to act on. The driver is loaded on use. Invariants: nothing here
// names a password; only Pawl's own tables are ever removed, and only those of a copy that was not finished.
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { checkAddress } from "../../base/address.ts";
import { PawlError } from "../../base/errors.ts";
import { sha256 } from "../../base/json.ts";
import { backupName, isSqlite, removeDeadLocks, type Site } from "../place.ts";
import { readPostgresUrl } from "./url.ts";
import type { Model, OpenOptions } from "../store.ts";

/** Where the locks of the workers of this state on this machine are: each state has its own folder. */
export const locksOf = (location: string): string => join(process.env["XDG_RUNTIME_DIR"] || tmpdir(), `pawl-${process.getuid?.() ?? "user"}`, sha256(location, 16));

export function postgresSite(url: string, model: Model, options: OpenOptions): Site {
  const { location, schema } = readPostgresUrl(url);
  const lockFolder = locksOf(location);
  const doctor = () => import("./doctor.ts");
  return {
    location,
    lockFolder,
    exists: async () => (await doctor()).isThere(url, options),
    open: async ({ readOnly }) => {
      const { openMoment, openPostgres } = await import("./postgres.ts");
      return readOnly ? openMoment(url, model, options) : openPostgres(url, model, { ...options, readOnly });
    },
    discard: async () => (await doctor()).discardPostgres(url, model, options),
    diagnose: async ({ deep }) => (await doctor()).diagnosePostgres(url, model, options, { deep, lockFolder }),
    repair: async () => (await doctor()).repairPostgres(url, model, options),
    tidy: () => removeDeadLocks(lockFolder),
    backup: { into: (to) => fileFor(to ?? backupName(resolve(`${schema}.db`), options.clock.now())) },
  };
}

/** A backup is a file that opens by itself. */
function fileFor(to: string): string {
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(to)) throw new PawlError("usage", "A backup is a file.", { next: "Name a path ending in .db or .json. To move the state: pawl copy FROM TO." });
  checkAddress(to);
  const path = resolve(to);
  if (isSqlite(path) || path.endsWith(".json")) return path;
  throw new PawlError("usage", `A backup of a Postgres state is a file ending in .db or .json, and ${path} is not.`, { next: "Name one: pawl backup backup.db" });
}

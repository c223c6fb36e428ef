// From a path or URL to a store: the only file, with testing.ts, that knows that there are several. It hands each of them
// what it needs from the rules: the kinds, the seal of the history, the document people read, the merge of hand edits.
import { userInfo } from "node:os";
import { dirname, resolve } from "node:path";
import { checkAddress, isPostgresUrl } from "../base/address.ts";
import { systemClock, type Clock } from "../base/clock.ts";
import { messageOf, PawlError } from "../base/errors.ts";
import { makeFolders } from "../base/fs.ts";
import { hostName } from "../base/host.ts";
import { systemRandom, type Random } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { IsGone, SealAt } from "../core/copy.ts";
import { seal } from "../core/history.ts";
import { KINDS } from "../core/kinds.ts";
import { reconcile } from "../core/reconcile.ts";
import type { WorkerRecord } from "../core/records.ts";
import { renderView } from "../core/view.ts";
import { openJson } from "../store/json/json.ts";
import { openMemory } from "../store/memory.ts";
import { locksOf } from "../store/postgres/site.ts";
import { withPasswordOf } from "../store/postgres/url.ts";
import { isSqlite, siteOf, type Site } from "../store/site.ts";
import { openSqlite } from "../store/sqlite/sqlite.ts";
import type { Model, OpenOptions, Reads, Store } from "../store/store.ts";
import { hostEvidence, isOver } from "../worker/liveness.ts";

/** What Pawl hands every store: its kinds, the seal of its history, the document people read. */
export const MODEL: Model = { kinds: KINDS, seal, view: renderView, reconcile: (edit, reads, now) => reconcile(edit, reads, now, isDead(reads)) };

/** Whether the owner of a task is known to be dead: what a live one owns, nobody edits. */
function isDead(reads: Reads): (worker: string) => boolean {
  const evidence = hostEvidence(systemClock);
  return (worker) => evidence.ownerState(reads.get("worker", worker) as WorkerRecord | null, worker) === "dead";
}

export type StateOptions = {
  /** Who acts, for the history. Default: $PAWL_ACTOR, $USER, or the name of the account. */
  readonly actor?: string;
  /** Nothing is created, repaired or written. */
  readonly readOnly?: boolean;
  readonly clock?: Clock;
  readonly random?: Random;
  /** One line for people (a long wait for a lock, a repaired tail). Default: stderr. */
  readonly notice?: (line: string) => void;
  /** A state opened to read is damaged: what is before the damage is shown. Default: a notice. */
  readonly damaged?: (error: PawlError) => void;
};

export type Opening = Required<Omit<OpenOptions, "damaged" | "moment">> & Pick<OpenOptions, "damaged">;

export function openOptions(options: StateOptions): Opening {
  const notice = options.notice ?? ((line: string) => void process.stderr.write(`pawl: ${line}\n`));
  return { clock: options.clock ?? systemClock, random: options.random ?? systemRandom, readOnly: options.readOnly ?? false, notice, ...(options.damaged ? { damaged: options.damaged } : {}) };
}

export const defaultActor = (): string => process.env["PAWL_ACTOR"] || process.env["USER"] || accountName();

/** The account this process runs as; containers often have no $USER, and some accounts no name. */
function accountName(): string {
  try {
    return userInfo().username;
  } catch {
    return "unknown";
  }
}

/** The site at `url`, with what Pawl keeps there. */
export const siteAt = (url: string, options: OpenOptions): Site => siteOf(url, MODEL, options);

/** Of a copier on another machine nothing can be seen: it is gone when its last step is long past. One that is not, fails safely. */
export const isGone = (clock: Clock): IsGone => (by, since) => {
  const copier = by as unknown as WorkerRecord;
  return isOver(copier, clock) || (copier.host !== hostName() && clock.now() - Date.parse(since) > LIMITS.copyAwayMs);
};

/** How the seal of another state is found: read only, whatever it says. `known`: URLs at hand, as they were given. */
export const sealAt = (options: OpenOptions, known: readonly string[]): SealAt => async (location) => {
  // What stands in a seal has no password: that of a URL at hand may be the right one.
  const url = known.map((one) => withPasswordOf(one, location)).find((one) => one !== location) ?? location;
  const site = siteAt(url, options);
  if (!(await site.exists())) return undefined;
  const store = await site.open({ readOnly: true }).catch(() => null);
  return store ? store.sealed().finally(() => store.close()) : undefined;
};

/** The folder of a state that is made. */
function makeHome(folder: string): void {
  try {
    makeFolders(folder, 0o700);
  } catch (error) {
    throw new PawlError("storage", `The folder ${folder} cannot be made: ${messageOf(error)}.`, { next: "Check the path and the rights of the folder above it, or name another place: --state PATH.", cause: error });
  }
}

export async function openStore(url: string, model: Model, options: OpenOptions): Promise<{ store: Store; lockFolder: string | null }> {
  if (url === ":memory:") return { store: openMemory(model, options), lockFolder: null };
  if (isPostgresUrl(url)) {
    // Loaded on use: a command on a file does not pay for the driver.
    const { openPostgres } = await import("../store/postgres/postgres.ts");
    const store = await openPostgres(url, model, options);
    return { store, lockFolder: locksOf(store.location) };
  }
  checkAddress(url);
  if (url.trim() === "") throw new PawlError("usage", "The state's path is empty.", { next: "Use a path ending in .json or .db." });
  const path = resolve(url);
  if (!options.readOnly) makeHome(dirname(path));
  const store = isSqlite(path) ? await openSqlite(path, model, options) : await openJson(path, model, options);
  return { store, lockFolder: `${store.location}.pawl/workers` };
}

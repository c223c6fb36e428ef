// What a place is, and what any on a disk is asked, whatever store is in it: who may read it, what kind of disk it is on, which
// workers registered there, how much room is left. Reads only, and opens no lock file but through its own door.
import { rmSync, statfsSync, statSync } from "node:fs";
import { basename, dirname, extname, join } from "node:path";
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { finding, type Finding } from "../base/finding.ts";
import { nodeFs } from "../base/fs.ts";
import { probeLock } from "../base/lock.ts";
import type { Store } from "./store.ts";

export type Site = {
  readonly location: string;
  /** Where the locks of its workers are. */
  readonly lockFolder: string;
  /** Also true when only opening it can tell. */
  exists(): Promise<boolean>;
  /** Read-only, what is read is one moment (but for a SQLite without a safe log). */
  open(options: { readonly readOnly: boolean }): Promise<Store>;
  /** Removes everything there. On Postgres only what an unfinished copy left. */
  discard(): Promise<void>;
  /** What is wrong with the files, or with the server. */
  diagnose(options: { readonly deep: boolean }): Promise<Finding[]>;
  /** Repairs the files and says what was done, a sentence each. */
  repair(): Promise<string[]>;
  /** Removes the locks of dead workers, once no record names them any more. */
  tidy(): void;
  /** How it is backed up: by a copy of its files to `to` or beside itself, whose path is returned; or, read at one moment, into a new state at a path. */
  readonly backup: ((to?: string) => Promise<string>) | { readonly into: (to?: string) => string };
};

export function isSqlite(path: string): boolean {
  return [".db", ".sqlite", ".sqlite3"].includes(extname(path).toLowerCase());
}

/** The name a backup gets when none is given: beside the state, with the time. */
export function backupName(path: string, now: number): string {
  const dot = path.lastIndexOf(".");
  return `${path.slice(0, dot)}.backup-${iso(now).replaceAll(/[:.]/g, "-")}${path.slice(dot)}`;
}

/** Names of folders that a client keeps in step with a server, file by file. */
const SYNCED = ["Dropbox", "OneDrive", "Google Drive", "GoogleDrive", "iCloud Drive", "Mobile Documents", "iCloudDrive", "Nextcloud", "ownCloud", "Syncthing", "Box Sync"];
/** Below this a checkpoint or a backup of a middling state may not fit. */
const LOW_BYTES = 64 << 20;

/** The folder of the state, the files and folders that must belong to its owner alone, and the disk below. */
export function diagnosePlace(file: string, own: readonly string[]): Finding[] {
  const folder = dirname(file);
  const findings: Finding[] = [];
  const synced = folder.split(/[\\/]/).find((part) => SYNCED.some((name) => part === name || part.startsWith(`${name} -`) || part.startsWith(`${name} (`)));
  if (synced) {
    findings.push(finding("synced_folder", folder, `A cloud client keeps "${synced}" in step: it copies the files one by one and may put older ones back, or make conflict copies.`, { next: "Keep the state outside of it: pawl copy FROM TO." }));
  }
  const network = nodeFs.networkName(folder);
  if (network) findings.push(finding("network_disk", folder, `It is on a network file system (${network}), where locks and flushes cannot be relied on.`, { next: "Put the state on a local disk." }));
  const parent = statSync(folder, { throwIfNoEntry: false });
  if (parent && (parent.mode & 0o002) !== 0 && (parent.mode & 0o1000) === 0) {
    findings.push(finding("open_to_others", folder, "Anybody on this machine may rename or replace the state: its folder can be written by all.", { next: `chmod o-w ${folder}` }));
  }
  for (const path of [file, ...own]) findings.push(...diagnoseOwner(path));
  const { bavail, bsize } = statfsSync(folder);
  if (bavail * bsize < LOW_BYTES) findings.push(finding("disk_low", folder, `Only ${Math.floor((bavail * bsize) / (1 << 20))} MiB are free on its disk.`, { next: "Free some space before it runs full." }));
  return findings;
}

function diagnoseOwner(path: string): Finding[] {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat || process.platform === "win32") return [];
  const findings: Finding[] = [];
  const me = process.getuid?.();
  if (me !== undefined && stat.uid !== me) {
    findings.push(finding("other_owner", path, `It belongs to user ${stat.uid}, not to you (${me}): perhaps a command was once run with sudo.`, { next: `chown ${me} ${path}` }));
  }
  const open = stat.mode & 0o077;
  if ((open & 0o022) !== 0) findings.push(finding("open_to_others", path, "Other users may change it.", { next: `chmod go-w ${path}` }));
  else if (open !== 0 && stat.isDirectory()) findings.push(finding("open_to_others", path, "Other users may read what tasks say and what commands wrote.", { next: `chmod go-rwx ${path}` }));
  return findings;
}

/** The lock files of workers, and whether their kernel locks are held: a dead worker's is free. */
export function workerLocks(folder: string): { readonly path: string; readonly alive: boolean | null }[] {
  return (nodeFs.readdir(folder) ?? [])
    .filter((name) => name.endsWith(".lock"))
    .map((name) => join(folder, name))
    .flatMap((path) => {
      const stat = statSync(path, { throwIfNoEntry: false });
      if (!stat) return [];
      const held = probeLock(path, stat);
      return [{ path, alive: held === "unknown" ? null : held === "held" }];
    });
}

export function diagnoseWorkers(folder: string): Finding[] {
  return workerLocks(folder).flatMap(({ path, alive }) => {
    if (alive === true) return [];
    if (alive === null) return [finding("worker_unknown", path, "Whether this worker lives cannot be told, so only its lease counts.")];
    return [finding("worker_dead", path, "This worker died without signing off. The next worker or claim takes over what it held.", { next: "pawl doctor --repair" })];
  });
}

/** Removes the lock files of dead workers. Only when no record names them any more: without its file a worker's death cannot be seen. */
export function removeDeadLocks(folder: string): void {
  for (const { path, alive } of workerLocks(folder)) if (alive === false) rmSync(path, { force: true });
}

/** A repair puts files in the place of others: nobody may be at work on them. */
export function refuseWhileWorking(location: string, folder: string): void {
  const alive = workerLocks(folder).filter((lock) => lock.alive !== false);
  if (alive.length === 0) return;
  throw new PawlError("busy", `${location} is not repaired while ${alive.length === 1 ? "a worker" : `${alive.length} workers`} may be alive: ${alive.map(({ path }) => basename(path, ".lock")).join(", ")}.`, {
    next: "End them (`pawl status` names them), then try again.",
  });
}

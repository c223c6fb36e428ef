// Opening and repairing: where the files are, what may be opened at all, and what is done about a torn tail.
// Invariant: only bytes that cannot be an acknowledged change are ever cut, and never before a copy was kept; whatever
// else does not verify is refused with file and offset and left as it is. Readers repair nothing.
import { basename, dirname, join } from "node:path";
import { PawlError } from "../../base/errors.ts";
import { createFile, type FileSystem, readWhole, removeQuietly, stateFile } from "../../base/fs.ts";
import type { Json } from "../../base/json.ts";
import { formatOf, newerFormat } from "../migrations.ts";
import type { Model } from "../store.ts";
import { checkpointsIn, emptyReplica, loadCheckpoint, rememberHash, rememberView, type Replica } from "./checkpoint.ts";
import { Journal, type Line, NO_HASH, segmentName, segmentsIn } from "./journal.ts";

export type Places = {
  readonly file: string;
  readonly dir: string;
  readonly journal: string;
  readonly checkpoint: string;
  readonly prev: string;
  readonly quarantine: string;
  readonly workers: string;
  readonly lock: string;
  readonly gate: string;
};

/** Temporary files of this age belong to nobody any more. */
const ABANDONED_MS = 600_000;

/** Where a state lives; a symbolic link is followed once, here. Refuses what cannot be a state file. */
export function placesOf(fs: FileSystem, path: string): Places {
  const file = stateFile(fs, path);
  const dir = `${file}.pawl`;
  const inside = (name: string) => join(dir, name);
  return {
    file, dir, journal: inside("journal"), checkpoint: inside("checkpoint"), prev: inside("prev"), quarantine: inside("quarantine"), workers: inside("workers"),
    lock: inside("lock"), gate: inside("gate"),
  };
}

export const hasJournal = (fs: FileSystem, places: Places): boolean => (segmentsIn(fs, places.journal)?.length ?? 0) > 0;

/**
 * For a place without a journal: the bytes of a file that is none of ours, null when there is nothing. A file (or checkpoint)
 * that is ours has lost its truth and is refused.
 */
export function strangerAt(fs: FileSystem, places: Places, model: Model): Buffer | null {
  const bytes = readWhole(fs, places.file);
  const lost = (what: string) => new PawlError("corrupt", `${what}, but its journal ${places.journal} is missing: what is in it cannot be trusted to be all. Nothing was touched.`, {
    next: `Put ${basename(places.dir)} back from a backup, or move both away to begin anew.`,
  });
  if (bytes) {
    const header = headerOf(bytes);
    if (header && header.format > formatOf(model)) throw newerFormat(places.file, header.format, formatOf(model));
    if (header) throw lost(`${places.file} is a Pawl state`);
  }
  if ((fs.readdir(places.checkpoint) ?? []).some((name) => name.endsWith(".jsonl"))) throw lost(`${places.dir} holds checkpoints`);
  return bytes;
}

/** The header of a view; null when the bytes are no view at all. */
export function headerOf(bytes: Buffer): { readonly format: number; readonly revision: number } | null {
  try {
    const header = headerIn(JSON.parse(bytes.toString("utf8")) as Json);
    return header && typeof header.format === "number" ? { format: header.format, revision: header.revision ?? 0 } : null;
  } catch {
    return null;
  }
}

/** The header of a document; null when it has none. A revision that is no number is null. */
export function headerIn(document: Json): { readonly format: number | null; readonly revision: number | null } | null {
  const header = document !== null && typeof document === "object" ? (document as { readonly pawl?: Json }).pawl : undefined;
  if (header === undefined) return null;
  const { format, revision } = (header ?? {}) as { readonly format?: Json; readonly revision?: Json };
  return { format: typeof format === "number" ? format : null, revision: Number.isSafeInteger(revision) ? (revision as number) : null };
}

/** The folders of a state, durable before anything is put into them. */
export function createFolders(fs: FileSystem, places: Places): void {
  const { dir, journal, checkpoint, prev, quarantine, workers } = places;
  const missing = [dir, journal, checkpoint, prev, quarantine, workers].filter((path) => !fs.lstat(path));
  // Whoever made them may have been killed before their names were durable; it makes the journal only afterwards.
  if (missing.length === 0 && hasJournal(fs, places)) return;
  const parent = dirname(places.file);
  const parentIsNew = !fs.lstat(parent);
  for (const path of missing) fs.mkdir(path, 0o700);
  fs.fsyncDir(dir);
  fs.fsyncDir(parent);
  if (parentIsNew) fs.fsyncDir(dirname(parent));
}

/** Locks that other machines do not see, and flushes that only reach another machine's memory, would break every promise. */
export function refuseNetwork(fs: FileSystem, places: Places): void {
  let folder = dirname(places.file);
  while (!fs.lstat(folder) && dirname(folder) !== folder) folder = dirname(folder);
  const name = fs.networkName(folder);
  if (!name) return;
  throw new PawlError("unsupported", `${places.file} is on a network file system (${name}), where locks and flushes cannot be relied on. Nothing was written.`, {
    next: "Put the state on a local disk, or use a Postgres state (postgres://…) to share it between machines.",
  });
}

/** A journal and what it says, read up to the newest usable checkpoint; the rest comes by `Journal.read`. `upTo`: the checkpoint is of that line or before. */
export function startReading(fs: FileSystem, places: Places, model: Model, writable: boolean, notice: (line: string) => void, upTo?: number): { journal: Journal; replica: Replica } {
  const segments = segmentsIn(fs, places.journal) ?? [];
  // The last one may be of a process that was killed before its name was durable.
  if (writable) fs.fsyncDir(places.journal);
  const found = loadCheckpoint(fs, places.checkpoint, places.journal, model, notice, upTo);
  const position = found?.position ?? { segment: 1, start: 0, end: 0, n: 0, hash: NO_HASH };
  const last = segments.at(-1) ?? 0;
  for (let number = position.segment; number <= Math.max(last, position.segment); number++) {
    if (!segments.includes(number)) {
      throw new PawlError("corrupt", `The journal segment ${join(places.journal, segmentName(number))} is missing. Nothing was changed.`, { next: "Put it back from a backup; `pawl doctor` says what is readable." });
    }
  }
  const replica = found?.replica ?? emptyReplica(model);
  return { journal: new Journal(fs, places.journal, position, writable, { now: replica.format, known: formatOf(model) }), replica };
}

/** At open: a journal that ends before a checkpoint of it was made has lost acknowledged changes, whatever state that checkpoint is in. */
export function refuseShortened(fs: FileSystem, places: Places, journal: Journal): void {
  const newest = lastCheckpoint(fs, places);
  if (newest > journal.position.n) throw shortOf(journal, newest);
}

/** The line up to which there is a checkpoint; 0 without one. */
export const lastCheckpoint = (fs: FileSystem, places: Places): number => parseInt(checkpointsIn(fs, places.checkpoint)[0] ?? "0", 10);

export const shortOf = (journal: Journal, checkpoint: number): PawlError => shortened(journal.file, `line ${journal.position.n}, but there is a checkpoint of line ${checkpoint}`);

/** What helps when a view shows tasks that the journal has lost: people's tasks are in it, without their history. */
export const rescue = (view: string): string => `To save the tasks that it shows, as new ones: pawl --state new.json import ${/^[\w./-]+$/.test(view) ? view : `'${view.replaceAll("'", "'\\''")}'`}`;

export function shortened(file: string, where: string): PawlError {
  return new PawlError("corrupt", `The journal ${file} ends at ${where}: changes are missing from it. Nothing was changed.`, { next: "Put the folder back from a backup; `pawl doctor` says what is readable." });
}

/** Takes one verified line of the journal into the replica. */
export function takeLine(replica: Replica, line: Line, bytes: number): void {
  replica.tailBytes += bytes;
  if ("ops" in line) {
    for (const effect of line.ops) replica.tables.replay(effect);
    replica.revision = line.n;
    if (line.edit !== undefined) rememberHash(replica, line.edit);
  } else if ("view" in line) {
    rememberView(replica, line.view);
  } else if ("segment" in line) {
    replica.format = line.segment.format;
  } else if ("checkpoint" in line) {
    replica.checkpoint = line.checkpoint;
    replica.tailBytes = 0;
  } else if ("seal" in line) {
    replica.seal = line.seal;
  } else if ("counters" in line) {
    replica.tables.raise(line.counters);
  }
}

/** Under the lock: keeps the bytes behind the last line aside and cuts them. They were never acknowledged. */
export function repairTail(fs: FileSystem, places: Places, journal: Journal, stamp: string, notice: (line: string) => void): void {
  const rest = journal.rest();
  const copy = join(places.quarantine, `torn-${stamp}-${basename(journal.file)}-${journal.position.end}`);
  createFile(fs, copy, [rest], 0o600);
  fs.fsyncDir(places.quarantine);
  journal.truncate();
  notice(`Removed ${rest.length} bytes of an unfinished change from the end of ${journal.file}; a copy is ${copy}.`);
}

/** Removes what killed processes left half written. Only what is old: other processes may be writing theirs. */
export function removeAbandoned(fs: FileSystem, places: Places, now: number): void {
  for (const dir of [places.dir, places.checkpoint]) {
    for (const name of fs.readdir(dir) ?? []) {
      if (!name.endsWith(".tmp")) continue;
      const path = join(dir, name);
      const stat = fs.lstat(path);
      if (stat && now - stat.mtimeMs > ABANDONED_MS) removeQuietly(fs, path);
    }
  }
}

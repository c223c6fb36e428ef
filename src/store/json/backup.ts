// A backup of a JSON state while others write to it. The journal only grows, so a verified beginning of it is the state as
// it was at that moment: it is copied without the lock, opened, read whole and only then given its name.
// Invariant: nothing that exists is overwritten, and what has the name of a backup was read back and is on the disk.
import { rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { PawlError } from "../../base/errors.ts";
import { copyFile, type FileSystem, nodeFs, unlessMissing } from "../../base/fs.ts";
import type { Model, OpenOptions } from "../store.ts";
import { foldersBeside } from "./beside.ts";
import { openJson } from "./json.ts";
import { type Journal, segmentName, segmentsIn } from "./journal.ts";
import { type Places, placesOf, startReading } from "./recovery.ts";

export type BackupOptions = { readonly clock: Clock; readonly random: OpenOptions["random"] };

/** Copies the state at `path` to `to` (a path such as `backup.json`; its folder is `backup.json.pawl`). Throws `conflict`, `corrupt`, `storage`. */
export async function backupJson(path: string, to: string, model: Model, options: BackupOptions): Promise<void> {
  const fs = nodeFs;
  const from = placesOf(fs, path);
  const target = placesOf(fs, to);
  refuseTaken(fs, target);
  const folder = dirname(target.file);
  fs.mkdir(folder, 0o700);
  const temp = join(folder, `.${basename(target.file)}.${options.random.hex(8)}.tmp`);
  try {
    const built = placesOf(fs, join(temp, basename(target.file)));
    // Before the journal, so that what is deleted meanwhile is there; and after it, so that what is new is.
    copyBeside(fs, from, built, model);
    const { n } = copyJournal(fs, from, built, model);
    copyBeside(fs, from, built, model);
    // Opened for writing once: that makes its view, and it must be there for a restore by copying.
    const store = await openJson(built.file, model, { clock: options.clock, random: options.random });
    await store.close();
    verify(fs, built, model, n);
    refuseTaken(fs, target);
    fs.rename(built.dir, target.dir);
    if (fs.lstat(built.file)) fs.rename(built.file, target.file);
    fs.fsyncDir(folder);
  } finally {
    rmSync(temp, { recursive: true, force: true });
  }
}

export function refuseTaken(fs: FileSystem, target: { readonly file: string; readonly dir: string }): void {
  const taken = [target.file, target.dir].find((path) => fs.lstat(path));
  if (taken) throw new PawlError("conflict", `${taken} exists, and a backup overwrites nothing.`, { next: "Name another path." });
}

/** The journal up to its last whole line, with the checkpoints it has room for. */
function copyJournal(fs: FileSystem, from: Places, to: Places, model: Model): { n: number } {
  const { journal } = startReading(fs, from, model, false, () => undefined);
  try {
    readToEnd(journal);
    const { segment, end, n } = journal.position;
    for (const folder of [to.journal, to.checkpoint]) fs.mkdir(folder, 0o700);
    for (const number of segmentsIn(fs, from.journal) ?? []) {
      if (number <= segment) copyFile(fs, join(from.journal, segmentName(number)), join(to.journal, segmentName(number)), number === segment ? end : undefined);
    }
    for (const name of fs.readdir(from.checkpoint) ?? []) {
      if (/^\d+\.jsonl$/.test(name) && parseInt(name, 10) <= n) unlessMissing(() => copyFile(fs, join(from.checkpoint, name), join(to.checkpoint, name)));
    }
    for (const folder of [to.journal, to.checkpoint, to.dir, dirname(to.dir)]) fs.fsyncDir(folder);
    return { n };
  } finally {
    journal.close();
  }
}

/** The files beside the journal; those that are there already have the same content. */
function copyBeside(fs: FileSystem, from: Places, to: Places, model: Model): void {
  const targets = foldersBeside(model, to.dir);
  foldersBeside(model, from.dir).forEach((folder, i) => {
    const names = (fs.readdir(folder) ?? []).filter((name) => !name.endsWith(".tmp") && !fs.lstat(join(targets[i]!, name)));
    if (names.length === 0) return;
    fs.mkdir(targets[i]!, 0o700);
    for (const name of names) unlessMissing(() => copyFile(fs, join(folder, name), join(targets[i]!, name)));
    for (const path of [targets[i]!, to.dir]) fs.fsyncDir(path);
  });
}

function readToEnd(journal: Journal): void {
  const tail = journal.read(() => undefined);
  if (tail.is === "damaged") throw tail.error;
  if (tail.is === "reload") throw new PawlError("busy", "The journal changed under the backup.", { next: "Try again." });
}

function verify(fs: FileSystem, built: Places, model: Model, n: number): void {
  const { journal } = startReading(fs, built, model, false, (line) => {
    throw new PawlError("corrupt", `The backup does not read back: ${line}`, { next: "Check the disk, then try again." });
  });
  try {
    readToEnd(journal);
    if (journal.position.n < n) throw new PawlError("corrupt", `The backup ends at line ${journal.position.n} instead of ${n}.`, { next: "Check the disk, then try again." });
  } finally {
    journal.close();
  }
}

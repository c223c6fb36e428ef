// Putting a damaged JSON state right: back to the last good state, which is the journal up to the damage or a whole
// checkpoint behind it. Invariants: nothing is changed before a copy of everything is kept and flushed; no worker lives and
// the lock is held meanwhile; a repair that is killed can be begun again; what is lost is said, line by line.
import { rmSync } from "node:fs";
import { basename, join } from "node:path";
import { type Clock, iso } from "../../base/clock.ts";
import { PawlError } from "../../base/errors.ts";
import { codeOf, copyFile, type FileSystem, nodeFs, readRange, readWhole } from "../../base/fs.ts";
import { Turn } from "../../base/lock.ts";
import { formatOf } from "../migrations.ts";
import { refuseWhileWorking } from "../place.ts";
import type { Model, OpenOptions } from "../store.ts";
import type { Effect } from "../tables.ts";
import { compact } from "../table.ts";
import { checkpointsIn, readCheckpoint, type Replica } from "./checkpoint.ts";
import { follow, lineAt, type Reach } from "./doctor.ts";
import { openJson } from "./json.ts";
import { checkedBody, createJournal, inSlices, type Line, type Position, segmentName, segmentsIn } from "./journal.ts";
import { createFolders, headerOf, type Places, placesOf, refuseNetwork, rescue } from "./recovery.ts";

/** Repairs what can be repaired and returns what was done, a sentence each. Throws `busy` while a worker lives, `corrupt` when nothing can be restored. */
export async function repairJson(path: string, model: Model, options: OpenOptions): Promise<string[]> {
  const fs = nodeFs;
  const places = placesOf(fs, path);
  refuseNetwork(fs, places);
  refuseWhileWorking(places.file, places.workers);
  createFolders(fs, places);
  const done: string[] = [];
  const shown = fs.lstat(places.file) !== null;
  const turn = new Turn(places.lock, places.gate, { clock: options.clock, random: options.random, notice: options.notice, what: places.file });
  try {
    await turn.run(() => done.push(...underLock(fs, places, model, options.clock)));
  } finally {
    turn.close();
  }
  // Opened for writing it does the rest itself: a torn tail, temporary files, the view.
  const viewTaken = shown && fs.lstat(places.file) === null;
  const store = await openJson(path, model, { ...options, readOnly: false, viewTaken, notice: (line) => done.push(line) });
  await store.close();
  return done;
}

function underLock(fs: FileSystem, places: Places, model: Model, clock: Clock): string[] {
  const there = (segmentsIn(fs, places.journal) ?? []).length > 0;
  const checkpoints = checkpointsIn(fs, places.checkpoint);
  if (!there && checkpoints.length === 0) return [];
  const reach = there ? follow(fs, places, model, "a checkpoint") : null;
  if (reach?.stop?.code === "newer_format") throw new PawlError("unsupported", reach.stop.why, { next: "Update Pawl." });
  const stamp = iso(clock.now()).replaceAll(/[:.]/g, "");
  const n = reach?.position.n ?? 0;
  const whole = reach !== null && (reach.stop === null || reach.stop.code === "journal_torn");
  const ahead = newestAhead(fs, places, model, n);
  const shown = headerOf(readWhole(fs, places.file) ?? Buffer.alloc(0))?.revision ?? 0;
  if (whole && ahead === null && shown <= n) return dropBad(fs, places, model, stamp);
  if (ahead === null && n === 0) {
    throw new PawlError("corrupt", `Nothing of ${places.file} can be restored: the journal cannot be read from its beginning, and no checkpoint is whole. Nothing was changed.`, { next: "Put it back from a backup." });
  }
  const kept = keepAll(fs, places, stamp);
  const done = [`A copy of everything as it was is kept in ${kept}.`];
  if (ahead) {
    rebuild(fs, places, model, ahead.replica, iso(clock.now()));
    done.push(`The state was restored from the checkpoint of line ${ahead.n}: ${there ? `the journal could be read up to line ${n} only` : "there was no journal"}. Changes after line ${ahead.n}, if there were any, are lost.`);
  } else {
    if (!whole) done.push(...lostAfter(fs, places, model, reach!));
    cutBack(fs, places, reach!.position);
    done.push(`The state is what it was after line ${n}.`);
  }
  removeLater(fs, places, ahead ? 0 : (reach!.replica.view?.revision ?? 0));
  if (shown > (ahead?.n ?? n)) done.push(`${basename(places.file)} showed line ${shown}, later than what could be restored; that file is in the copy, a new one was made. ${rescue(join(kept, basename(places.file)))}`);
  return done;
}

/** Views later than the last that the journal still names, of revision `n`: in the copy they stay, at their place they would be taken for hand edits. */
function removeLater(fs: FileSystem, places: Places, n: number): void {
  for (const path of [places.file, ...(fs.readdir(places.prev) ?? []).map((name) => join(places.prev, name))]) {
    if ((headerOf(readWhole(fs, path) ?? Buffer.alloc(0))?.revision ?? 0) > n) rmSync(path, { force: true });
  }
}

/** A checkpoint that is whole by itself and later than what the journal leads to. */
function newestAhead(fs: FileSystem, places: Places, model: Model, n: number): { n: number; replica: Replica } | null {
  for (const name of checkpointsIn(fs, places.checkpoint)) {
    if (parseInt(name, 10) <= n) return null;
    try {
      const { replica, position } = readCheckpoint(fs, join(places.checkpoint, name), null, model);
      return { n: position.n, replica };
    } catch (error) {
      if (!(error instanceof PawlError) && codeOf(error) !== undefined) throw error;
    }
  }
  return null;
}

/** Checkpoints that cannot be used, while the journal is whole. */
function dropBad(fs: FileSystem, places: Places, model: Model, stamp: string): string[] {
  return checkpointsIn(fs, places.checkpoint).flatMap((name) => {
    const path = join(places.checkpoint, name);
    try {
      readCheckpoint(fs, path, places.journal, model);
      return [];
    } catch (error) {
      if (!(error instanceof PawlError) && codeOf(error) !== undefined) throw error;
      const aside = join(places.quarantine, `checkpoint-${stamp}-${name}`);
      fs.rename(path, aside);
      fs.fsyncDir(places.quarantine);
      return [`The damaged checkpoint ${name} was put aside as ${aside}; nothing is lost, the journal has it all.`];
    }
  });
}

function keepAll(fs: FileSystem, places: Places, stamp: string): string {
  const folder = join(places.quarantine, `repair-${stamp}`);
  for (const part of ["journal", "checkpoint", "prev"] as const) {
    fs.mkdir(join(folder, part), 0o700);
    for (const name of fs.readdir(places[part]) ?? []) copyFile(fs, join(places[part], name), join(folder, part, name));
    fs.fsyncDir(join(folder, part));
  }
  if (fs.lstat(places.file)) copyFile(fs, places.file, join(folder, basename(places.file)));
  fs.fsyncDir(folder);
  fs.fsyncDir(places.quarantine);
  return folder;
}

/** Ends the journal at a place. From the end backwards, so that what is left is damaged at the same place until it is done. */
function cutBack(fs: FileSystem, places: Places, { segment, end, n }: Position): void {
  for (const name of checkpointsIn(fs, places.checkpoint)) if (parseInt(name, 10) > n) fs.unlink(join(places.checkpoint, name));
  const after = (segmentsIn(fs, places.journal) ?? []).filter((number) => number > segment || (number === segment && end === 0));
  for (const number of after.reverse()) fs.unlink(join(places.journal, segmentName(number)));
  if (end > 0) {
    const fd = fs.open(join(places.journal, segmentName(segment)), "append");
    try {
      fs.ftruncate(fd, end);
      fs.fsync(fd);
    } finally {
      fs.close(fd);
    }
  }
  fs.fsyncDir(places.journal);
  fs.fsyncDir(places.checkpoint);
}

/** Puts a new journal with these records in the place of the old one. */
function rebuild(fs: FileSystem, places: Places, model: Model, { tables, seal }: Replica, at: string): void {
  const temp = `${places.journal}.rebuilt`;
  rmSync(temp, { recursive: true, force: true });
  fs.mkdir(temp, 0o700);
  const ops = model.kinds.flatMap((kind) => tables.all(kind.name).map((record) => ({ kind: kind.name, record: compact(kind, record) })));
  createJournal(fs, temp, { id: basename(places.file), at, format: formatOf(model) }, [...inSlices(ops), { counters: tables.highest() }, ...(seal ? [{ seal }] : [])]);
  // The checkpoints go last: without a journal they are what a second try begins with.
  rmSync(places.journal, { recursive: true, force: true });
  fs.rename(temp, places.journal);
  fs.fsyncDir(places.dir);
  for (const name of checkpointsIn(fs, places.checkpoint)) fs.unlink(join(places.checkpoint, name));
  fs.fsyncDir(places.checkpoint);
}

/* ---------- what is lost ---------- */

type Lost = { readonly numbers: number[]; readonly changed: Set<string>; readonly times: string[]; unreadable: number };
/** Records that are named in the account of what is lost. */
const NAMED = 12;

/** Every line behind the last good one: its number when it can still be read, and what it changed. */
function lostAfter(fs: FileSystem, places: Places, model: Model, { position, stop }: Reach): string[] {
  const lost: Lost = { numbers: [], changed: new Set(), times: [], unreadable: 0 };
  for (const number of (segmentsIn(fs, places.journal) ?? []).filter((candidate) => candidate >= position.segment)) {
    readLost(fs, join(places.journal, segmentName(number)), number === position.segment ? position.end : 0, model, lost);
  }
  const { file, offset, why } = stop!;
  const said = [`Damage at ${file}:${offset} (line ${lineAt(fs, file, offset)}): ${why}.`];
  const unreadable = `${lost.unreadable} ${lost.unreadable === 1 ? "line" : "lines"} that cannot be read`;
  if (lost.numbers.length === 0) return [...said, `Lost: ${unreadable}.`];
  const named = [...lost.changed];
  const times = lost.times.length > 0 ? `, written ${lost.times[0]} to ${lost.times.at(-1)}` : "";
  const changed = named.length > 0 ? ` They changed ${named.slice(0, NAMED).join(", ")}${named.length > NAMED ? ` and ${named.length - NAMED} more records` : ""}.` : "";
  return [...said, `Lost: ${unreadable}, and the ${lost.numbers.length} behind, lines ${lost.numbers[0]} to ${lost.numbers.at(-1)}${times}.${changed}`];
}

function readLost(fs: FileSystem, file: string, from: number, model: Model, lost: Lost): void {
  const fd = fs.open(file, "read");
  const bytes = readRange(fs, fd, from, fs.fstat(fd).size);
  fs.close(fd);
  for (let at = 0; at < bytes.length; ) {
    const lf = bytes.indexOf(10, at);
    const end = lf < 0 ? bytes.length : lf;
    const body = checkedBody(bytes.subarray(at, end));
    at = end + 1;
    if (!body) {
      lost.unreadable++;
      continue;
    }
    const line = JSON.parse(body.toString("utf8")) as Line;
    lost.numbers.push(line.n);
    lost.times.push(line.at);
    if ("ops" in line) for (const effect of line.ops) lost.changed.add(nameOf(model, effect));
  }
}

function nameOf(model: Model, effect: Effect): string {
  const key = "record" in effect ? (model.kinds.find(({ name }) => name === effect.kind)?.key ?? []).map((field) => effect.record[field]) : [effect.key].flat();
  return `${effect.kind} ${key.join("/")}`;
}

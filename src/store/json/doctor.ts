// What is wrong with a JSON state on the disk, found by reading all of it: every line of the journal, every checkpoint, the
// view. Invariant: looking changes nothing, and takes no lock, so it may be done while others write: the journal is read after
// what must be in it already.
import { join } from "node:path";
import { type Clock, sleep } from "../../base/clock.ts";
import { isPawlError, messageOf, PawlError } from "../../base/errors.ts";
import { finding, type Finding } from "../../base/finding.ts";
import { codeOf, type FileStat, type FileSystem, nodeFs, readRange, readWhole } from "../../base/fs.ts";
import type { Model } from "../store.ts";
import { formatOf } from "../migrations.ts";
import { diagnosePlace, diagnoseWorkers } from "../place.ts";
import { abandonedBeside, foldersBeside } from "./beside.ts";
import { checkpointsIn, emptyReplica, loadCheckpoint, readCheckpoint, type Replica } from "./checkpoint.ts";
import { hashOf, Journal, NO_HASH, type Position, segmentName, segmentsIn } from "./journal.ts";
import { isKnown, isSame, mending, parseEdit, placeOf, waysToSettle } from "./edits.ts";
import { headerOf, type Places, placesOf, rescue, takeLine } from "./recovery.ts";

/** The journal from some place on: how far it can be read, and what stops it there. */
export type Reach = { readonly replica: Replica; readonly position: Position; readonly stop: Stop | null };
export type Stop = { readonly code: "journal_torn" | "journal_gap" | "journal_damaged" | "newer_format"; readonly file: string; readonly offset: number; readonly why: string };

export async function diagnoseJson(path: string, model: Model, clock: Clock): Promise<Finding[]> {
  const fs = nodeFs;
  const now = clock.now();
  let places: Places;
  try {
    places = placesOf(fs, path);
  } catch (error) {
    return [finding("not_a_file", path, messageOf(error), { next: "Name a file, such as state.json." })];
  }
  const findings: Finding[] = [];
  try {
    findings.push(...diagnosePlace(places.file, [places.dir, places.journal, places.checkpoint, places.quarantine, places.workers]));
    if ((segmentsIn(fs, places.journal) ?? []).length === 0) findings.push(...withoutJournal(fs, places, formatOf(model)));
    else {
      const seen = lookBefore(fs, places);
      const read = await diagnoseJournal(fs, places, model, seen, clock);
      findings.push(...read.findings, ...diagnoseView(fs, places, read.reach, seen), ...(read.findings.length === 0 ? diagnoseBeside(fs, places, model, read.reach, now) : []));
    }
    findings.push(...diagnoseRemains(fs, places, model, now), ...diagnoseWorkers(places.workers));
  } catch (error) {
    findings.push(finding("unreadable", path, `It cannot be read: ${messageOf(error)}.`, { next: "Check who owns it, its permissions, and the health of the disk." }));
  }
  return findings;
}

/* ---------- the journal ---------- */

const START: Position = { segment: 1, start: 0, end: 0, n: 0, hash: NO_HASH };

/** Reads the journal from its beginning, or from the newest checkpoint that can be used, as far as it goes. */
export function follow(fs: FileSystem, places: Places, model: Model, from: "the beginning" | "a checkpoint"): Reach {
  const found = from === "a checkpoint" ? loadCheckpoint(fs, places.checkpoint, places.journal, model, () => undefined) : null;
  const replica = found?.replica ?? emptyReplica(model);
  const position = found?.position ?? START;
  const path = (number: number) => join(places.journal, segmentName(number));
  const numbers = segmentsIn(fs, places.journal) ?? [];
  if (!numbers.includes(position.segment)) return { replica, position, stop: { code: "journal_gap", file: path(position.segment), offset: 0, why: "the segment is missing" } };
  const journal = new Journal(fs, places.journal, position, false, { now: replica.format, known: formatOf(model) });
  try {
    const stop = readOn(journal, replica);
    const next = journal.position.segment + 1;
    const missing = stop === null && (numbers.at(-1) ?? 0) >= next ? { code: "journal_gap" as const, file: path(next), offset: 0, why: "the segment is missing" } : null;
    return { replica, position: journal.position, stop: stop ?? missing };
  } finally {
    journal.close();
  }
}

function readOn(journal: Journal, replica: Replica): Stop | null {
  const at = (): { file: string; offset: number } => ({ file: journal.file, offset: journal.position.end });
  try {
    const tail = journal.read((line, bytes) => takeLine(replica, line, bytes));
    if (tail.is === "damaged") throw tail.error;
    if (tail.is === "torn") return { code: "journal_torn", ...at(), why: `${tail.size - tail.end} bytes of a line that was never finished` };
    return tail.is === "reload" ? { code: "journal_damaged", ...at(), why: "it is shorter than its follower says" } : null;
  } catch (error) {
    if (isPawlError(error, "unsupported")) return { code: "newer_format", ...at(), why: error.message };
    if (!(error instanceof PawlError) && codeOf(error) !== undefined) throw error;
    const { file, offset, why } = (isPawlError(error) ? (error.details ?? {}) : {}) as { file?: string; offset?: number; why?: string };
    return { code: "journal_damaged", file: file ?? journal.file, offset: offset ?? journal.position.end, why: why ?? messageOf(error) };
  }
}

/** A writer may be in the middle of its line: torn is what stays so, in bytes, for so many ms. */
const TORN_MS = 50;

/** The whole journal, and that its torn end, if it has one, is of nobody who is at it now. */
async function followWhole(fs: FileSystem, places: Places, model: Model, clock: Clock): Promise<Reach> {
  for (let was = ""; ; ) {
    const reach = follow(fs, places, model, "the beginning");
    const { stop } = reach;
    const is = stop?.code === "journal_torn" ? `${stop.file} ${stop.offset} ${stop.why}` : "";
    if (is === was) return reach;
    was = is;
    if (is !== "") await sleep(clock, TORN_MS);
  }
}

/** The number of the line that holds a byte of a file, from 1. */
export function lineAt(fs: FileSystem, file: string, offset: number): number {
  if (!fs.lstat(file)) return 1;
  const fd = fs.open(file, "read");
  try {
    const before = readRange(fs, fd, 0, offset);
    let lines = 1;
    for (let at = before.indexOf(10); at >= 0; at = before.indexOf(10, at + 1)) lines++;
    return lines;
  } finally {
    fs.close(fd);
  }
}

/** What stands beside the journal, looked at before it: a line of it is durable before a checkpoint or a view shows it. */
type Seen = { readonly checkpoints: readonly string[]; readonly stat: FileStat | null; readonly view: Buffer | null };

function lookBefore(fs: FileSystem, places: Places): Seen {
  return { checkpoints: checkpointsIn(fs, places.checkpoint), stat: fs.lstat(places.file), view: readWhole(fs, places.file) };
}

async function diagnoseJournal(fs: FileSystem, places: Places, model: Model, { checkpoints }: Seen, clock: Clock): Promise<{ findings: Finding[]; reach: Reach }> {
  const findings: Finding[] = [];
  for (const name of checkpoints) {
    const path = join(places.checkpoint, name);
    try {
      readCheckpoint(fs, path, places.journal, model);
    } catch (error) {
      // Whoever made a newer one has removed it meanwhile.
      if (!fs.lstat(path)) continue;
      findings.push(finding(isPawlError(error, "unsupported") ? "newer_format" : "checkpoint_damaged", path, `It cannot be used (${messageOf(error).replace(/\.$/, "")}); an older one, or the whole journal, is read instead.`, { next: "pawl doctor --repair" }));
    }
  }
  const whole = await followWhole(fs, places, model, clock);
  const reach = whole.stop === null || whole.stop.code === "journal_torn" ? whole : follow(fs, places, model, "a checkpoint");
  if (whole.stop) findings.push(stopped(fs, whole.stop, reach !== whole && (reach.stop === null || reach.stop.code === "journal_torn")));
  if (reach !== whole && reach.stop && reach.stop.file + reach.stop.offset !== whole.stop!.file + whole.stop!.offset) findings.push(stopped(fs, reach.stop, false));
  const [newest] = checkpoints;
  const ends = reach.stop === null || reach.stop.code === "journal_torn";
  if (ends && newest && parseInt(newest, 10) > reach.position.n) {
    findings.push(finding("journal_short", join(places.journal, segmentName(reach.position.segment)), `It ends at line ${reach.position.n}, but there is a checkpoint of line ${parseInt(newest, 10)}: acknowledged changes are missing.`, {
      next: "Put the folder back from a backup; or restore what the checkpoint has: pawl doctor --repair.",
    }));
  }
  return { findings, reach };
}

function stopped(fs: FileSystem, stop: Stop, passedOver: boolean): Finding {
  const where = { line: lineAt(fs, stop.file, stop.offset), offset: stop.offset };
  if (stop.code === "journal_torn") {
    return finding("journal_torn", stop.file, `${stop.why}: a process was killed, or the machine went down, while it was writing. It was never acknowledged; the next command that writes puts it aside.`, { ...where, next: "Nothing need be done; pawl doctor --repair does it now." });
  }
  if (stop.code === "newer_format") return finding("newer_format", stop.file, stop.why, { next: "Update Pawl." });
  if (passedOver) return finding("journal_damaged_before", stop.file, `Damaged (${stop.why}), but a checkpoint behind it is whole, so the state is too. Only this part of the old record is lost.`, { ...where, next: "Put the file back from a backup if you need it." });
  return finding(stop.code, stop.file, `${stop.why}. Nothing is written until this is settled; readers see what is before it.`, { ...where, next: "Put the folder back from a backup; or restore the last good state: pawl doctor --repair." });
}

function withoutJournal(fs: FileSystem, places: Places, known: number): Finding[] {
  const bytes = readWhole(fs, places.file);
  const header = bytes && headerOf(bytes);
  const checkpoints = checkpointsIn(fs, places.checkpoint);
  if (header && header.format > known) return [finding("newer_format", places.file, `It has format ${header.format}; this version of Pawl reads up to ${known}.`, { next: "Update Pawl." })];
  if (bytes && !header && checkpoints.length === 0) return [finding("not_ours", places.file, "It has no \"pawl\" header and no journal beside it.", { next: "Name another path, or let pawl add adopt it." })];
  const what = header ? "the file is a view of it" : "there are checkpoints of it";
  const next = checkpoints.length > 0 ? "Put the folder back from a backup; or restore what the newest checkpoint has: pawl doctor --repair." : `Put ${places.dir} back from a backup, or move the file away to begin anew.`;
  return [finding("journal_missing", places.journal, `The journal is missing, although ${what}: what is left cannot be trusted to be all.`, { next })];
}

/* ---------- the view, and what else lies there ---------- */

function diagnoseView(fs: FileSystem, places: Places, { replica, position, stop }: Reach, { stat, view: bytes }: Seen): Finding[] {
  const now = fs.lstat(places.file);
  // Somebody at work has put another there since, or is about to: what it was says nothing of what it is.
  const moved = stat === null ? now !== null : !isSame(stat, now);
  if (!bytes) return moved ? [] : [finding("view_missing", places.file, "The file for people is not there. The next command that writes makes it again.", { next: "pawl doctor --repair" })];
  const hash = hashOf(bytes);
  if (replica.view?.hash === hash) {
    return replica.view.revision < replica.revision ? [finding("view_old", places.file, `It is ${replica.revision - replica.view.revision} lines of the journal behind; it follows a moment after each change, and at the next open.`)] : [];
  }
  if (isKnown(replica, hash)) return moved ? [] : [finding("view_old", places.file, "It is an earlier one, put back by git or a backup, say, or a hand edit that is settled. The next command that writes makes it anew.")];
  const header = headerOf(bytes);
  if (header && header.format > replica.format) return [finding("newer_format", places.file, `It has format ${header.format}; this version of Pawl reads up to ${replica.format}.`, { next: "Update Pawl." })];
  if (header && header.revision > position.n && (stop === null || stop.code === "journal_torn")) {
    return [finding("journal_short", places.file, `It shows line ${header.revision}, but the journal ends at ${position.n}: acknowledged changes are missing.`, { next: `Put the folder back from a backup; or go on with what the journal has: pawl doctor --repair. ${rescue(places.file)}` })];
  }
  if (moved || (header && header.revision > position.n)) return [];
  const parsed = parseEdit(bytes, places.file);
  if (parsed instanceof PawlError) {
    return [finding("view_broken", places.file, `It was changed by hand. ${parsed.message}`, { line: placeOf(parsed).line ?? 1, next: `Mend the file; or settle it: ${waysToSettle(mending(bytes, places.file))}.` })];
  }
  return [finding("view_edited", places.file, "It was changed by hand, and the change was not taken in yet.", { next: "The next command that writes takes it in." })];
}

function diagnoseBeside(fs: FileSystem, places: Places, model: Model, { replica }: Reach, now: number): Finding[] {
  const [first, ...rest] = abandonedBeside(fs, places.dir, model.kinds, replica.tables, now);
  return first === undefined ? [] : [finding("leftover", first, `${rest.length === 0 ? "No record needs it" : `No record needs it, nor ${rest.length} others there`}: a process was killed in between.`, { next: "The next checkpoint removes them." })];
}

/** Temporary files of this age belong to nobody any more. */
const ABANDONED_MS = 600_000;

function diagnoseRemains(fs: FileSystem, places: Places, model: Model, now: number): Finding[] {
  const findings: Finding[] = [];
  const aside = fs.readdir(places.quarantine) ?? [];
  if (aside.length > 0) findings.push(finding("put_aside", places.quarantine, `${aside.length} put aside: ${aside.slice(0, 5).join(", ")}${aside.length > 5 ? ", …" : ""}.`, { next: "Look at them, then remove what you do not need." }));
  for (const folder of [places.dir, places.journal, places.checkpoint, ...foldersBeside(model, places.dir)]) {
    for (const name of fs.readdir(folder) ?? []) {
      const stat = name.endsWith(".tmp") ? fs.lstat(join(folder, name)) : null;
      if (stat && now - stat.mtimeMs > ABANDONED_MS) findings.push(finding("leftover", join(folder, name), "A killed process left it half written; nothing uses it.", { next: "The next command that writes removes it." }));
    }
  }
  return findings;
}

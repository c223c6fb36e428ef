// How a JSON state comes into being: from nothing, or of another program's file that stands where its view belongs.
// Invariants: the file is understood as a whole before anything is written; its bytes are kept beside it before the journal
// is there; and the journal appears at once with all that was adopted, so a crash leaves the file as it was, or a state.
import { basename, dirname, join } from "node:path";
import { iso } from "../../base/clock.ts";
import { isPawlError, PawlError } from "../../base/errors.ts";
import { createFile, type FileStat, type FileSystem, readWhole } from "../../base/fs.ts";
import { parseStrict, textOf } from "../../base/json-text.ts";
import { LIMITS } from "../../base/limits.ts";
import type { Adoption, Model } from "../store.ts";
import type { Effect } from "../tables.ts";
import { emptyReplica, type Replica } from "./checkpoint.ts";
import { formatOf } from "../migrations.ts";
import { type Body, createJournal, hashOf, inSlices } from "./journal.ts";
import { hasJournal, type Places, strangerAt } from "./recovery.ts";

/** A file of another program, understood: what it becomes, and what it was. */
export type Understood = { readonly bytes: Buffer; readonly stat: FileStat; readonly replica: Replica; readonly ops: readonly Effect[]; readonly notes: readonly string[] };

/** Before anything is locked or made: what would be adopted. Another process may be making the state right now; then it is none of ours to judge. */
export function lookAt(fs: FileSystem, places: Places, model: Model, now: number): Understood | null {
  if (hasJournal(fs, places)) return null;
  try {
    return understand(fs, places, model, now);
  } catch (error) {
    if (hasJournal(fs, places)) return null;
    throw error;
  }
}

/** What stands where a state without a journal would be: null for nothing. Reads only; throws when it cannot become a state. */
function understand(fs: FileSystem, places: Places, model: Model, now: number): Understood | null {
  const stat = fs.lstat(places.file);
  if (stat && stat.size > LIMITS.adoptBytes) throw refused(places, `it has ${stat.size} bytes, and ${LIMITS.adoptBytes} are the most that is adopted`, "Split it into task lists and import them: pawl import FILE.");
  const bytes = strangerAt(fs, places, model);
  if (!bytes || !stat) return null;
  if (bytes.length === 0) {
    throw new PawlError("corrupt", `${places.file} is empty: it may be what a crash left of a state. Nothing was touched.`, { next: "Put it back from a backup, or remove it to begin anew." });
  }
  const { changes, notes } = adoptionOf(bytes, places, model, now);
  const replica = emptyReplica(model);
  const ops: Effect[] = [];
  for (const change of changes) {
    const result = replica.tables.apply(change, now, ops);
    if (!result.ok) throw refused(places, "error" in result ? result.error.message : `two of its records are the same ${result.conflict.kind}`, "Correct the file, then try again.");
  }
  replica.tables.keep();
  return { bytes, stat, replica, ops, notes };
}

function adoptionOf(bytes: Buffer, places: Places, model: Model, now: number): Adoption {
  if (!model.adopt) throw refused(places, "it has no header of ours", "Name another path for the state, or move the file away.");
  const { value, lineOf } = parseDocument(bytes, places);
  try {
    return model.adopt(value, { name: basename(places.file), now, lineOf });
  } catch (error) {
    if (isPawlError(error, "usage") || isPawlError(error, "value_refused")) throw refused(places, error.message.replace(/\.$/, ""), error.next, error);
    throw error;
  }
}

function parseDocument(bytes: Buffer, places: Places): ReturnType<typeof parseStrict> {
  try {
    return parseStrict(textOf(bytes, places.file), places.file);
  } catch (error) {
    if (!isPawlError(error, "corrupt")) throw error;
    throw new PawlError("corrupt", `${error.message} Nothing was touched.`, { ...(error.next ? { next: error.next } : {}), ...(error.details ? { details: error.details } : {}), cause: error });
  }
}

function refused(places: Places, why: string, next?: string, cause?: PawlError): PawlError {
  return new PawlError("unsupported", `${places.file} is no Pawl state and cannot become one: ${why}. Nothing was touched.`, { ...(next ? { next } : {}), ...(cause?.details ? { details: cause.details } : {}), cause });
}

/** Under the lock: makes the journal unless another process was first. The file is read again, because it may have changed. */
export function createState(fs: FileSystem, places: Places, model: Model, id: string, now: number, notice: (line: string) => void): void {
  if (hasJournal(fs, places)) return;
  const found = understand(fs, places, model, now);
  const made = { id, at: iso(now), format: formatOf(model) };
  if (!found) return createJournal(fs, places.journal, made, []);
  const original = keepOriginal(fs, places, found);
  createJournal(fs, places.journal, made, bodiesOf(found));
  notice(`Adopted ${places.file}: ${found.notes.join("; ")}. The original is kept as ${original}.`);
}

function bodiesOf({ ops, bytes, stat }: Understood): Body[] {
  // Known as a view of ours, so that the first real one may replace it; of no revision, so that it does.
  return [...inSlices(ops), { view: { revision: 0, hash: hashOf(bytes), size: stat.size, ino: stat.ino, mtime: stat.mtimeMs } }];
}

/** A copy under a name of its own beside the file; one that an interrupted adoption left behind will do. */
function keepOriginal(fs: FileSystem, places: Places, { bytes, stat }: Understood): string {
  for (let i = 1; ; i++) {
    const path = `${places.file}.original${i === 1 ? "" : `-${i}`}`;
    if (fs.lstat(path)) {
      if (fs.lstat(path)!.isFile() && readWhole(fs, path)?.equals(bytes)) return path;
      continue;
    }
    const temp = join(places.dir, `original.${i}.tmp`);
    if (fs.lstat(temp)) fs.unlink(temp);
    createFile(fs, temp, [bytes], stat.mode & 0o777, stat);
    fs.rename(temp, path);
    fs.fsyncDir(dirname(path));
    return path;
  }
}

// Hand edits: what becomes of a file at the view's path that Pawl did not write. Invariants: what a person wrote is merged
// and noted in one line of the journal, or kept aside with the reason in that same line; what does not parse stays where it
// is; nothing is merged twice, because a file whose hash was noted is known. Everything here runs under the lock.
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { isPawlError, messageOf, PawlError } from "../../base/errors.ts";
import { createFile, type FileStat, type FileSystem, readWhole } from "../../base/fs.ts";
import type { Json } from "../../base/json.ts";
import { repairJson } from "../../base/json-repair.ts";
import { parseStrict, textOf } from "../../base/json-text.ts";
import { LIMITS } from "../../base/limits.ts";
import { formatOf } from "../migrations.ts";
import type { Change, EditDoor, HandEdit, KeptEdit, Model, Outstanding, Rec, Result, Shown } from "../store.ts";
import { Tables } from "../tables.ts";
import { checkpointsIn, type Replica } from "./checkpoint.ts";
import { hashOf, segmentName, segmentsIn } from "./journal.ts";
import { headerIn, type Places, startReading, takeLine } from "./recovery.ts";

/** What edits need of the store. `merge` applies what `decide` asks for and appends it, with the file's hash, as one line. */
export type EditHost = {
  readonly fs: FileSystem;
  readonly places: Places;
  readonly model: Model;
  readonly clock: Clock;
  readonly notice: (line: string) => void;
  replica(): Replica;
  merge(hash: string, decide: (tables: Tables, now: number, apply: (change: Change) => Result) => void): void;
};

/**
 * What stands at the view's path. "older": a view of ours from before the last. "taken": an edit, which is merged now.
 * "settling": it does not parse, but may still be being written. "stays": it is left alone, and so no view is written.
 */
export type Found = "ours" | "missing" | "older" | "taken" | "settling" | "stays";

/** Bytes that do not parse count as broken once they were like this for so long: an editor may be in the middle of saving. */
export const SETTLE_MS = 250;
/** Views whose records this process remembers, so that the base of an edit need not be read from the journal. */
const REMEMBERED = 3;

type Parsed = { readonly value: Json; readonly repairs: readonly string[] };
type Look = { readonly hash: string; readonly since: number };

export class Edits {
  readonly #host: EditHost;
  #bases: { readonly revision: number; readonly all: (kind: string) => readonly Rec[] }[] = [];
  #unparsed: Look | null = null;
  #toldBroken = "";
  /** The file that was found broken: it is not read again until it changes. */
  #stuck: FileStat | null = null;

  constructor(host: EditHost) {
    this.#host = host;
  }

  /** The records of a view of ours, to know what an edit of it was made of. */
  remember(revision: number, all: (kind: string) => readonly Rec[]): void {
    this.#bases = [{ revision, all }, ...this.#bases.filter((base) => base.revision !== revision)].slice(0, REMEMBERED);
  }

  /** True when the view noted last stands there, or what was found not usable, as far as a stat tells. Needs no lock. */
  unchanged(): boolean {
    const stat = this.#host.fs.lstat(this.#host.places.file);
    return isNoted(stat, this.#host.replica()) || isSame(stat, this.#stuck);
  }

  /** Looks at the view's path and takes in what a person put there. `tell`: says once that what is there is broken. */
  look(tell = true): Found {
    const { fs, places, clock } = this.#host;
    const replica = this.#host.replica();
    const stat = fs.lstat(places.file);
    if (!stat) return this.#settled("missing");
    if (isNoted(stat, replica)) return this.#settled("ours");
    if (!stat.isFile() || isSame(stat, this.#stuck)) return "stays";
    this.#stuck = null;
    const bytes = readWhole(fs, places.file);
    if (bytes === null) return "missing";
    const hash = hashOf(bytes);
    if (isKnown(replica, hash)) return this.#settled(replica.views.has(hash) && replica.view?.hash !== hash ? "older" : "ours");
    if (!this.#host.model.reconcile) return "ours";
    // A state that moved elsewhere takes nothing any more; the file is for who finds it.
    if (replica.seal && replica.seal.only === undefined) return "stays";
    const parsed = parseEdit(bytes, places.file);
    if (parsed instanceof PawlError) {
      if (this.#unparsed?.hash !== hash) this.#unparsed = { hash, since: clock.monotonic() };
      if (clock.monotonic() - this.#unparsed.since < SETTLE_MS && clock.now() - stat.mtimeMs < SETTLE_MS) return "settling";
      if (tell) this.#tellBroken(hash, parsed, bytes);
      this.#stuck = stat;
      return "stays";
    }
    if ((headerIn(parsed.value)?.format ?? 0) > formatOf(this.#host.model)) return "stays";
    try {
      this.#take(hash, bytes, parsed, { verdict: "merge", actor: null });
    } catch (error) {
      // The disk's troubles are for the next look. A bug of ours must neither stop the state nor cost the edit.
      if (isPawlError(error) && error.code !== "internal") throw error;
      this.#stuck = stat;
      this.#host.notice(`The hand edit in ${places.file} could not be taken in (${messageOf(error)}); the file stays as it is. This is a bug in Pawl.`);
      return "stays";
    }
    return this.#settled("taken");
  }

  #settled(found: Found): Found {
    this.#unparsed = null;
    return found;
  }

  /** A file that was moved away from the view's path: merged when it parses. `revision`: the view that stood there. */
  lookAside(path: string, revision: number | null): "ours" | "taken" | "unreadable" | "foreign" {
    const { fs, model } = this.#host;
    if (!fs.lstat(path)?.isFile()) return "foreign";
    const bytes = readWhole(fs, path);
    if (bytes === null) return "ours";
    const hash = hashOf(bytes);
    if (isKnown(this.#host.replica(), hash, revision) || wasTakenSince(this.#host.replica(), hash, revision ?? 0)) return "ours";
    if (!model.reconcile) return "foreign";
    const parsed = parseEdit(bytes, path);
    if (parsed instanceof PawlError || (headerIn(parsed.value)?.format ?? 0) > formatOf(model)) return "unreadable";
    this.#take(hash, bytes, parsed, { verdict: "merge", actor: null, revision });
    return "taken";
  }

  #tellBroken(hash: string, error: PawlError, bytes: Buffer): void {
    if (this.#toldBroken === hash) return;
    this.#toldBroken = hash;
    this.#host.notice(`${error.message} It stays as it is, and what runs goes on in the journal; new commands do not write until it is mended, or: ${waysToSettle(mending(bytes, this.#host.places.file))}.`);
  }

  /** The error of a command that would write while the file is broken. */
  refusal(): PawlError {
    const found = outstanding({ ...this.#host, replica: this.#host.replica() });
    return new PawlError("corrupt", `${found?.why ?? `${this.#host.places.file} was edited and is not usable.`} Nothing was changed.`, {
      next: `Mend the file, or settle it: ${waysToSettle(found?.repairs ?? null)}.`,
      details: { file: this.#host.places.file, line: found?.line ?? null, column: found?.column ?? null },
    });
  }

  /** Takes in the file at the view's path, mending what can be mended; throws what cannot. */
  accept(actor: string): void {
    const { places } = this.#host;
    const bytes = this.#unknown();
    const { text, repairs } = repairJson(bytes, places.file);
    const parsed = { value: parseStrict(text, places.file).value, repairs };
    this.#take(hashOf(bytes), bytes, parsed, { verdict: "merge", actor });
  }

  /** Keeps a copy of the file at the view's path; nothing of it is taken over. */
  discard(actor: string): void {
    const bytes = this.#unknown();
    const parsed = parseEdit(bytes, this.#host.places.file);
    const place = parsed instanceof PawlError ? { ...placeOf(parsed), why: parsed.message } : { line: null, column: null, why: "discarded before it was taken in" };
    const value = parsed instanceof PawlError ? null : parsed.value;
    this.#take(hashOf(bytes), bytes, { value, repairs: [] }, { verdict: { discard: place }, actor });
  }

  /** Merges a kept edit once more, by force as `context` says. */
  force(kept: KeptEdit, context: Json, actor: string): void {
    const { fs, places } = this.#host;
    const path = join(places.quarantine, kept.copy);
    const bytes = readWhole(fs, path);
    if (bytes === null) throw new PawlError("not_found", `The copy of this edit, ${path}, is gone.`, { next: "Edit the state file again." });
    const { text, repairs } = repairJson(bytes, path);
    this.#take(kept.hash, bytes, { value: parseStrict(text, path).value, repairs }, { verdict: { force: context }, actor, revision: kept.revision });
  }

  #unknown(): Buffer {
    const { fs, places } = this.#host;
    const bytes = readWhole(fs, places.file);
    if (bytes === null || isKnown(this.#host.replica(), hashOf(bytes))) {
      throw new PawlError("not_found", `${places.file} holds no edit that waits to be settled.`, { next: "See what there is: pawl status." });
    }
    return bytes;
  }

  /** The one place where an edit is taken over: its changes, its record and its hash are one line of the journal. */
  #take(hash: string, bytes: Buffer, parsed: Parsed, how: { readonly verdict: HandEdit["verdict"]; readonly actor: string | null; readonly revision?: number | null }): void {
    const { places, model } = this.#host;
    const replica = this.#host.replica();
    const header = headerIn(parsed.value);
    const revision = header ? header.revision : (how.revision ?? replica.view?.revision ?? null);
    const base = this.#baseOf(revision);
    const edit: HandEdit = { edited: parsed.value, base, revision, headless: header === null, hash, copy: `edit-${hash}.json`, repairs: parsed.repairs, verdict: how.verdict, actor: how.actor };
    let line: string | null = null;
    this.#host.merge(editHash(hash, header ? null : revision), (tables, now, apply) => {
      const { changes, conclude } = model.reconcile!(edit, tables, now);
      const refused = changes.flatMap(({ at, change }) => {
        const result = apply(change);
        return result.ok ? [] : [{ at, reason: "error" in result ? result.error.message : `its ${result.conflict.kind} was changed in the same moment` }];
      });
      const end = conclude(refused);
      if (!end) return;
      // On the disk before the line that names it.
      if (end.keep) this.#keep(edit.copy, bytes);
      const recorded = apply(end.change);
      if (!recorded.ok) throw "error" in recorded ? recorded.error : new PawlError("internal", "The record of a hand edit could not be written.");
      line = `${places.file} was edited by hand: ${end.line}.${end.keep ? ` The edited file is kept as ${join(places.quarantine, edit.copy)}.` : ""}`;
    });
    // What stands there is dealt with, however it was found before.
    this.#stuck = null;
    if (line !== null) this.#host.notice(line);
  }

  #keep(name: string, bytes: Buffer): void {
    const { fs, places } = this.#host;
    const path = join(places.quarantine, name);
    const there = readWhole(fs, path);
    if (there?.equals(bytes)) return;
    // Only half of it is there: this process or another was killed while writing it.
    if (there) fs.unlink(path);
    createFile(fs, path, [bytes], 0o600);
    fs.fsyncDir(places.quarantine);
  }

  #baseOf(revision: number | null): HandEdit["base"] {
    const { model, replica: replicaOf } = this.#host;
    const replica = replicaOf();
    if (revision === null) return { problem: "its pawl.revision is no number, so what it was made of cannot be told" };
    const shown = (all: (kind: string) => Iterable<Rec>) => ({ document: documentOf(model, all, revision) });
    if (replica.view?.revision === revision && replica.revision === revision) return shown((kind) => replica.tables.all(kind));
    const remembered = this.#bases.find((base) => base.revision === revision);
    if (remembered) return shown(remembered.all);
    const tables = tablesAt(this.#host, revision);
    return tables instanceof Tables ? shown((kind) => tables.all(kind)) : { problem: tables };
  }
}

/** What people read: our header first. */
export function shownOf(model: Model, all: (kind: string) => Iterable<Rec>, revision: number): Shown {
  const { pawl = {}, ...rest } = model.view!(all, revision);
  return { pawl: { ...(pawl as { readonly [key: string]: Json }), format: formatOf(model), revision }, ...rest };
}

/** The same with its lists written out. */
function documentOf(model: Model, all: (kind: string) => Iterable<Rec>, revision: number): Json {
  const shown = Object.entries(shownOf(model, all, revision));
  return Object.fromEntries(shown.map(([key, value]) => [key, typeof value === "function" ? [...value()] : value]));
}

/** The records as the view of `revision` showed them, read from the journal; or why that cannot be. */
function tablesAt({ fs, places, model }: EditHost, revision: number): Tables | string {
  const from = checkpointsIn(fs, places.checkpoint).map((name) => parseInt(name, 10)).find((n) => n <= revision) ?? 0;
  const sizes = from > 0 ? [] : (segmentsIn(fs, places.journal) ?? []).map((number) => fs.lstat(join(places.journal, segmentName(number)))?.size ?? 0);
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  if (bytes > LIMITS.editReplayBytes) return `revision ${revision}, which it was made of, is too far back to be rebuilt`;
  const { journal, replica } = startReading(fs, places, model, false, () => undefined, revision);
  try {
    let noted = replica.view?.revision === revision;
    const tail = journal.read((line, size) => {
      if (line.n <= revision) takeLine(replica, line, size);
      if ("view" in line && line.view.revision === revision) noted = true;
    });
    if (tail.is === "damaged") return tail.error.message;
    return noted ? replica.tables : `its revision ${revision} is that of no view of this state`;
  } finally {
    journal.close();
  }
}

/** What stands at the view's path and is not taken in. Reads only. */
export function outstanding({ fs, places, model, replica }: { fs: FileSystem; places: Places; model: Model; replica: Replica }): Outstanding | null {
  if (!model.reconcile || isNoted(fs.lstat(places.file), replica) || !fs.lstat(places.file)?.isFile()) return null;
  const bytes = readWhole(fs, places.file);
  if (bytes === null || isKnown(replica, hashOf(bytes))) return null;
  const parsed = parseEdit(bytes, places.file);
  const place = { path: places.file, hash: hashOf(bytes), revision: null, line: null, column: null, why: null, repairs: null };
  if (!(parsed instanceof PawlError)) {
    const revision = headerIn(parsed.value)?.revision ?? null;
    // Of a later view than was read: put there this moment, or the journal has lost what it shows. Nobody edited it.
    return (revision ?? 0) > replica.revision ? null : { ...place, broken: false, revision };
  }
  return { ...place, broken: true, ...placeOf(parsed), why: parsed.message, repairs: mending(bytes, places.file) };
}

/** The door of a store to its hand edits. `settle` runs one verb under the lock, then brings the view up to date. */
export function doorOf(places: Places, found: () => Outstanding | null, settle: (verb: (edits: Edits) => void) => Promise<void>): EditDoor {
  return {
    outstanding: async () => found(),
    accept: (actor) => settle((edits) => edits.accept(actor)),
    discard: (actor) => settle((edits) => edits.discard(actor)),
    force: (kept, context, actor) => settle((edits) => edits.force(kept, context, actor)),
    pathOf: (copy) => join(places.quarantine, copy),
  };
}

/** What a person saved, or the error that says where it is not JSON. */
export function parseEdit(bytes: Buffer, name: string): Parsed | PawlError {
  try {
    return { value: parseStrict(textOf(bytes, name), name).value, repairs: [] };
  } catch (error) {
    if (isPawlError(error, "corrupt")) return error;
    throw error;
  }
}

/** What taking in a file that is not JSON would mend in it; null when it would not be JSON then either. */
export function mending(bytes: Buffer, name: string): readonly string[] | null {
  try {
    const { text, repairs } = repairJson(bytes, name);
    parseStrict(text, name);
    return repairs;
  } catch (error) {
    if (isPawlError(error, "corrupt")) return null;
    throw error;
  }
}

/** The commands that settle a file that is not JSON. */
export const waysToSettle = (repairs: readonly string[] | null): string => `${repairs === null ? "" : "pawl doctor --accept-edit, "}pawl doctor --discard-edit`;

export function placeOf(error: PawlError): { line: number | null; column: number | null } {
  const { line, column } = error.details ?? {};
  return { line: typeof line === "number" ? line : null, column: typeof column === "number" ? column : null };
}

/** By their stat, the same file with the same content. */
export const isSame = (a: FileStat | null, b: FileStat | null): boolean => a !== null && b !== null && a.ino === b.ino && a.size === b.size && a.mtimeMs === b.mtimeMs;

/** What stands for an edit that was dealt with. The same bytes without a header (`revision`) are another edit once there is another view. */
const editHash = (hash: string, revision: number | null): string => `edit ${hash}${revision === null ? "" : ` of ${revision}`}`;

/** By its content, a view of ours or an edit that was dealt with. */
export function isKnown(replica: Replica, hash: string, revision = replica.view?.revision ?? null): boolean {
  return replica.views.has(hash) || replica.views.has(editHash(hash, null)) || replica.views.has(editHash(hash, revision));
}

/**
 * Whether a file without header was dealt with as an edit of the view `revision` or of a later one. One that was moved aside half
 * saved, and put back, has been saved whole under a newer view.
 */
function wasTakenSince(replica: Replica, hash: string, revision: number): boolean {
  const start = editHash(hash, 0).slice(0, -1);
  return [...replica.views].some((known) => known.startsWith(start) && Number(known.slice(start.length)) >= revision);
}

/** By its stat, the view that was noted last. An edit that keeps inode, size and time to the millisecond shows when it is pruned. */
export function isNoted(stat: FileStat | null, replica: Replica): boolean {
  const view = replica.view;
  return stat !== null && view !== null && stat.ino === view.ino && stat.size === view.size && stat.mtimeMs === view.mtime && stat.isFile();
}

// The view: state.json as people read it, some way behind the journal and exact when idle or closed.
// Invariant: nothing a person put at its path is ever overwritten or lost. A view's hash is in the journal before the view
// is in place; replacing looks at what is there, moves it aside, looks at what was moved, and links the new one where nothing
// may be. What a person put there is for edits.ts to judge.
import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import { iso } from "../../base/clock.ts";
import { messageOf, PawlError } from "../../base/errors.ts";
import { codeOf, createFileInSlices, type FileSystem, readWhole, removeQuietly, unlessMissing } from "../../base/fs.ts";
import type { Json } from "../../base/json.ts";
import type { OpenOptions, Rec, Shown } from "../store.ts";
import type { Replica } from "./checkpoint.ts";
import { type Edits, type Found, isKnown, isNoted, shownOf } from "./edits.ts";
import { EditWatch, type WatchHost } from "./edits-watch.ts";
import { newerFormat } from "../migrations.ts";
import { hashOf, type Journal, type ViewNote } from "./journal.ts";
import { headerOf, lastCheckpoint, type Places, rescue, shortOf } from "./recovery.ts";

/** What the view needs of the store: its replica, a turn under the lock (caught up), and a line in the journal. */
export type Host = WatchHost & {
  readonly random: OpenOptions["random"];
  note(view: ViewNote): void;
};

/** How far a small view may be behind. */
const BEHIND_MS = 100;
/** The time between two views is so many times that of writing one: with what it costs besides, a twentieth is lost to it. */
const SHARE = 69;
/** What a view takes, in ms a byte, before one was written and measured. */
const COST = 15e-6;
/** After a failure (a full disk, say) the next try is not at once. */
const RETRY_MS = 5_000;
/** A replaced view is kept this long: an editor may still write into it. */
const PREV_MS = 60_000;
const PREV_BYTES = 64 << 20;
const PREV_LEAST_MS = 2_000;
const PRUNE_EVERY_MS = 1_000;
/** By so much a file's time may lag behind the clock. */
const UNTOUCHED_MS = 1_000;
const SLICE = 500;

export class View {
  readonly #host: Host;
  readonly #watch: EditWatch;
  #cancel: (() => void) | null = null;
  #writing: Promise<void> | null = null;
  #notBefore = 0;
  #prunedAt = -Infinity;
  #toldFailure = false;
  #closed = false;

  constructor(host: Host) {
    this.#host = host;
    this.#watch = new EditWatch(host, () => this.schedule());
  }

  get edits(): Edits {
    return this.#watch.edits;
  }

  /** At open: takes in what was edited meanwhile and brings the file up to date. False when what stands there is not usable. */
  async start(): Promise<boolean> {
    if (!this.#host.model.view) return true;
    await this.#watch.start();
    const { fs, places, clock } = this.#host;
    this.#notBefore = clock.monotonic() + (fs.lstat(places.file)?.size ?? 0) * COST * SHARE;
    await this.flush();
    return !this.#watch.blocked;
  }

  /** Looks no more, and writes no more. */
  stop(): void {
    this.#closed = true;
    this.#cancel?.();
    this.#cancel = null;
    this.#watch.stop();
  }

  /** Under the lock: looks once more at a file that was not usable. True when it is now. */
  usable(): boolean {
    this.#watch.look(true);
    return !this.#watch.blocked;
  }

  /** Something was committed: a view follows soon, unless one is on its way. */
  schedule(): void {
    if (this.#cancel || this.#writing || this.#closed || this.#watch.blocked || !this.#host.model.view) return;
    const wait = Math.max(BEHIND_MS, this.#notBefore - this.#host.clock.monotonic());
    this.#cancel = this.#host.clock.timer(wait, () => {
      this.#cancel = null;
      void this.#write();
    }, false);
  }

  /** Writes views until the file shows the state as it is, or a write fails. */
  async flush(): Promise<void> {
    if (!this.#host.model.view) return;
    this.#cancel?.();
    this.#cancel = null;
    await this.#writing;
    for (let tries = 0; tries < 5 && !this.#exact(); tries++) if (!(await this.#write()) || this.#watch.blocked) return;
  }

  /** The last view; nothing is written after it. */
  async close(): Promise<void> {
    if (this.#host.model.view && !this.#closed) {
      // What cannot be looked at any more (the folder is gone, say) is looked at by whoever opens the state next.
      await this.#watch.settled().catch(() => undefined);
    }
    await this.flush();
    this.stop();
    await this.#writing;
  }

  #exact(): boolean {
    const { fs, places } = this.#host;
    const replica = this.#host.replica();
    return replica.view?.revision === replica.revision && isNoted(fs.lstat(places.file), replica);
  }

  #write(): Promise<boolean> {
    const host = this.#host;
    const started = host.replica().revision;
    let spent = 0;
    const attempt = async (): Promise<boolean> => {
      try {
        // An edit that comes in between makes a view old before it is in place: then the next is made at once. A script that
        // goes on editing gets an old one in the end: what its file is made of must not stay behind for ever.
        const late = (ms: number) => (spent += ms);
        if ((await replaceView(host, this.#watch, late, false)) === "taken") await replaceView(host, this.#watch, late, true);
        const start = host.clock.monotonic();
        await this.#prune();
        spent += host.clock.monotonic() - start;
        this.#toldFailure = false;
        return true;
      } catch (error) {
        if (!this.#toldFailure) host.notice(`The view ${host.places.file} could not be written: ${messageOf(error)}. The journal is complete; the view follows.`);
        this.#toldFailure = true;
        this.#notBefore = host.clock.monotonic() + RETRY_MS;
        return false;
      }
    };
    const result = attempt().then((ok) => {
      this.#writing = null;
      if (ok) this.#notBefore = host.clock.monotonic() + spent * SHARE;
      if (!ok || host.replica().revision !== started) this.schedule();
      return ok;
    });
    this.#writing = result.then(() => {});
    return result;
  }

  /** Removes views that were moved aside long enough ago, unless somebody wrote into one meanwhile. */
  async #prune(): Promise<void> {
    const { fs, places, clock } = this.#host;
    const now = clock.now();
    if (clock.monotonic() - this.#prunedAt < PRUNE_EVERY_MS) return;
    this.#prunedAt = clock.monotonic();
    const names = (fs.readdir(places.prev) ?? []).sort();
    const stats = names.map((name) => fs.lstat(join(places.prev, name)));
    let bytes = stats.reduce((sum, stat) => sum + (stat?.size ?? 0), 0);
    const written: string[] = [];
    for (const [i, name] of names.entries()) {
      const moved = parseInt(name, 10);
      if (now - moved < PREV_MS && (bytes < PREV_BYTES || now - moved < PREV_LEAST_MS)) continue;
      const path = join(places.prev, name);
      const judged = this.#watch.wasJudged(path);
      if (judged && (stats[i]?.mtimeMs ?? 0) < moved - UNTOUCHED_MS) removeQuietly(fs, path);
      else written.push(name);
      bytes -= stats[i]?.size ?? 0;
    }
    if (written.length === 0) return;
    await this.#host.section(() => {
      for (const name of written) judge(this.#host, this.edits, join(places.prev, name), Number(name.split("-")[1]), "ours: remove");
    });
  }
}

/** Builds the next view outside the lock, then puts it in place under it; also when an edit came in meanwhile, if `anyway`. */
async function replaceView(host: Host, watch: EditWatch, spend: (ms: number) => void, anyway: boolean): Promise<Found> {
  const { fs, places, clock, random } = host;
  const { revision, tables } = host.replica();
  let began = clock.monotonic();
  const shown = new Map<string, readonly Rec[]>();
  const document = shownOf(host.model, (kind) => shown.set(kind, tables.all(kind)).get(kind)!, revision);
  const digest = createHash("sha256");
  function* pieces(): Iterable<Buffer> {
    for (const text of printed(document)) {
      const bytes = Buffer.from(text);
      digest.update(bytes);
      yield bytes;
    }
  }
  const pause = async () => {
    spend(clock.monotonic() - began);
    await new Promise((resolve) => setImmediate(resolve));
    began = clock.monotonic();
  };
  const temp = join(places.dir, `view.${random.hex(8)}.tmp`);
  const old = fs.lstat(places.file);
  const stat = await createFileInSlices(fs, temp, pieces(), old?.isFile() ? old.mode & 0o777 : 0o600, pause, old);
  const note: ViewNote = { revision, hash: digest.digest("hex").slice(0, 16), size: stat.size, ino: stat.ino, mtime: stat.mtimeMs };
  spend(clock.monotonic() - began);
  try {
    return await host.section(() => {
      const start = clock.monotonic();
      const found = watch.look();
      if (found === "ours" || (found === "taken" && anyway)) putInPlace(host, watch, temp, note);
      if (isNoted(fs.lstat(places.file), host.replica())) watch.edits.remember(revision, (kind) => shown.get(kind) ?? []);
      spend(clock.monotonic() - start);
      return found;
    });
  } finally {
    removeQuietly(fs, temp);
  }
}

/** Under the lock and caught up. Each turn of the loop takes one file that somebody put there meanwhile out of the way. */
function putInPlace(host: Host, watch: EditWatch, temp: string, note: ViewNote): void {
  const { fs, places, clock, random } = host;
  const replica = host.replica();
  // Another process was faster with a newer view: mine would take people back in time.
  if (replica.view && replica.view.revision > note.revision) return;
  if (replica.view?.revision === note.revision && isNoted(fs.lstat(places.file), replica)) return;
  const was = replica.view?.revision ?? null;
  host.note(note);
  for (let tries = 0; tries < 5; tries++) {
    const aside = join(places.prev, `${clock.now()}-${was ?? 0}-${random.hex(4)}.json`);
    const found = unlessMissing(() => (fs.rename(places.file, aside), true));
    // As it is before it is read: what is written into it later shows.
    const stat = found ? fs.lstat(aside) : null;
    if (found && judge(host, watch.edits, aside, was, "ours: keep a while") === "unreadable") {
      // It may be half of a save: it goes back, and no view comes until it is clear what it is.
      if (linkNew(fs, aside, places.file)) {
        removeQuietly(fs, aside);
        return void watch.look();
      }
    } else if (linkNew(fs, temp, places.file)) {
      return stat ? watch.movedAside(aside, was, stat) : undefined;
    }
  }
  throw new PawlError("busy", `${places.file} is being rewritten again and again by something else.`, { next: "Stop what writes it." });
}

/** Gives the file its name unless something has that name already. */
function linkNew(fs: FileSystem, temp: string, file: string): boolean {
  try {
    fs.link(temp, file);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    // Some file systems know no hard links; there the window between look and rename stays open.
    if (!["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"].includes(codeOf(error) ?? "") || fs.lstat(file)) throw error;
    fs.rename(temp, file);
    return true;
  }
}

/**
 * The one place that decides what becomes of a file that was moved to `aside`: a view of ours is kept a while or removed, an
 * edit (of the view `revision`, if it does not say) is taken in, anything else goes to quarantine; what does not parse only
 * when it is old.
 */
function judge(host: Host, edits: Edits, aside: string, revision: number | null, ours: "ours: keep a while" | "ours: remove"): "settled" | "unreadable" {
  const { fs, places, clock } = host;
  if (ours === "ours: keep a while" && isNoted(fs.lstat(aside), host.replica())) return "settled";
  const found = edits.lookAside(aside, revision);
  if (found === "unreadable" && ours === "ours: keep a while") return "unreadable";
  if (found === "ours" || found === "taken") {
    if (ours === "ours: remove") removeQuietly(fs, aside);
    return "settled";
  }
  const kept = quarantineName(host, `edited-${iso(clock.now()).replaceAll(":", "")}`);
  if (unlessMissing(() => (fs.rename(aside, kept), true))) {
    host.notice(`${places.file} was changed by hand; Pawl cannot merge that, so the edited file is kept as ${kept} and the view was rebuilt.`);
  }
  return "settled";
}

function quarantineName(host: Host, name: string): string {
  const { fs, places } = host;
  for (let i = 1; ; i++) {
    const path = join(places.quarantine, i === 1 ? `${name}.json` : `${name}-${i}.json`);
    if (!fs.lstat(path)) return path;
  }
}

/** The header of a file at the view's path that is none of the views noted so far; null for anything else. */
function unknownHeader(fs: FileSystem, places: Places, replica: Replica): ReturnType<typeof headerOf> {
  if (isNoted(fs.lstat(places.file), replica)) return null;
  const bytes = readWhole(fs, places.file);
  return bytes && !isKnown(replica, hashOf(bytes)) ? headerOf(bytes) : null;
}

/** At open, under the lock and caught up: refuses a file that only a newer Pawl, or a longer journal, can have written. */
export function refuseImpossibleView(fs: FileSystem, places: Places, replica: Replica, lastLine: number): void {
  const header = unknownHeader(fs, places, replica);
  if (header && header.format > replica.format) throw newerFormat(places.file, header.format, replica.format);
  if (header && header.revision > lastLine) throw laterView(places, header.revision, lastLine);
}

function laterView({ file, dir }: Places, revision: number, lastLine: number): PawlError {
  return new PawlError("corrupt", `${file} shows revision ${revision}, but the journal ends at ${lastLine}: changes are missing from ${basename(dir)}. Nothing was touched.`, {
    next: `Put the folder back from a backup; if the file is the one that is wrong, move it away and it is rebuilt. ${rescue(file)}`,
  });
}

/**
 * At open, without the lock: looks at what stands beside the journal. The answer says what a journal that is read on after that
 * lacks: a line of it is durable before anything shows it.
 */
export function lookBeside(fs: FileSystem, places: Places, replica: Replica): (journal: Journal) => PawlError | null {
  const checkpoint = lastCheckpoint(fs, places);
  const revision = revisionShown(fs, places, replica);
  return (journal) => {
    const { n } = journal.position;
    return checkpoint > n ? shortOf(journal, checkpoint) : revision > n ? laterView(places, revision, n) : null;
  };
}

/** A file that may not be read says nothing against the journal, which is the truth. */
function revisionShown(fs: FileSystem, places: Places, replica: Replica): number {
  try {
    return unknownHeader(fs, places, replica)?.revision ?? 0;
  } catch (error) {
    if (codeOf(error) === undefined) throw error;
    return 0;
  }
}

/** The text of `JSON.stringify(document, null, 2)` and a line end, in pieces that each take little time. */
function* printed(document: Shown): Iterable<string> {
  let separator = "{\n";
  for (const [key, value] of Object.entries(document)) {
    yield `${separator}  ${JSON.stringify(key)}: `;
    separator = ",\n";
    if (typeof value === "function") yield* printedList(value());
    else if (Array.isArray(value)) yield* printedList(value);
    else yield indented(value as Json, "  ");
  }
  yield separator === "{\n" ? "{}\n" : "\n}\n";
}

function* printedList(items: Iterable<Json>): Iterable<string> {
  let texts: string[] = [];
  let open = "[\n    ";
  const piece = () => {
    const text = open + texts.join(",\n    ");
    open = ",\n    ";
    texts = [];
    return text;
  };
  for (const item of items) if (texts.push(indented(item, "    ")) === SLICE) yield piece();
  if (texts.length > 0) yield piece();
  yield open === "[\n    " ? "[]" : "\n  ]";
}

const indented = (value: Json, by: string): string => JSON.stringify(value, null, 2).replaceAll("\n", `\n${by}`);

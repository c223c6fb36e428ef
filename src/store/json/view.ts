// The view: state.json as people read it, some way behind the journal and exact when idle or closed.
// Invariant: nothing a person put at its path is ever overwritten or lost. A view's hash is in the journal before the view
// is in place; replacing moves the old file aside, looks at what was moved, and links the new one where nothing may be.
import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import { type Clock, iso } from "../../base/clock.ts";
import { messageOf, PawlError } from "../../base/errors.ts";
import { codeOf, createFileInSlices, type FileStat, type FileSystem, readWhole, removeQuietly, unlessMissing } from "../../base/fs.ts";
import type { Json } from "../../base/json.ts";
import type { Model, OpenOptions } from "../store.ts";
import type { Replica } from "./checkpoint.ts";
import { FORMAT, hashOf, newerFormat, type ViewNote } from "./journal.ts";
import { headerOf, type Places } from "./recovery.ts";

/** What the view needs of the store: its replica, a turn under the lock (caught up), and a line in the journal. */
export type Host = {
  readonly fs: FileSystem;
  readonly places: Places;
  readonly model: Model;
  readonly clock: Clock;
  readonly random: OpenOptions["random"];
  readonly notice: (line: string) => void;
  replica(): Replica;
  section<T>(fn: () => T): Promise<T>;
  note(view: ViewNote): void;
};

/** How far a small view may be behind. */
const BEHIND_MS = 100;
/** Of the time between two views at most a twentieth goes into writing one. */
const SHARE = 19;
/** After a failure (a full disk, say) the next try is not at once. */
const RETRY_MS = 5_000;
/** A replaced view is kept this long: an editor may still write into it. */
const PREV_MS = 60_000;
const PREV_BYTES = 64 << 20;
const PREV_LEAST_MS = 2_000;
const PRUNE_EVERY_MS = 1_000;
const SLICE = 500;

export class View {
  readonly #host: Host;
  #cancel: (() => void) | null = null;
  #writing: Promise<void> | null = null;
  #notBefore = 0;
  #prunedAt = -Infinity;
  #toldFailure = false;
  #closed = false;

  constructor(host: Host) {
    this.#host = host;
  }

  /** Something was committed: a view follows soon, unless one is on its way. */
  schedule(): void {
    if (this.#cancel || this.#writing || this.#closed || !this.#host.model.view) return;
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
    for (let tries = 0; tries < 5 && !this.#exact(); tries++) if (!(await this.#write())) return;
  }

  /** The last view; nothing is written after it. */
  async close(): Promise<void> {
    await this.flush();
    this.#closed = true;
    this.#cancel?.();
    this.#cancel = null;
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
        await replaceView(host, (ms) => (spent += ms));
        const start = host.clock.monotonic();
        this.#prune();
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
  #prune(): void {
    const { fs, places, clock } = this.#host;
    const now = clock.now();
    if (clock.monotonic() - this.#prunedAt < PRUNE_EVERY_MS) return;
    this.#prunedAt = clock.monotonic();
    const names = (fs.readdir(places.prev) ?? []).sort();
    const sizes = names.map((name) => fs.lstat(join(places.prev, name))?.size ?? 0);
    let bytes = sizes.reduce((sum, size) => sum + size, 0);
    for (const [i, name] of names.entries()) {
      const age = now - parseInt(name, 10);
      if (age < PREV_MS && (bytes < PREV_BYTES || age < PREV_LEAST_MS)) continue;
      judge(this.#host, join(places.prev, name), "ours: remove");
      bytes -= sizes[i]!;
    }
  }
}

/** Builds the next view outside the lock, then puts it in place under it. */
async function replaceView(host: Host, spend: (ms: number) => void): Promise<void> {
  const { fs, places, clock, random } = host;
  const { revision } = host.replica();
  let began = clock.monotonic();
  const document = documentOf(host.model, host.replica(), revision);
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
  const stat = await createFileInSlices(fs, temp, pieces(), old?.isFile() ? old.mode & 0o777 : 0o600, pause);
  const note: ViewNote = { revision, hash: digest.digest("hex").slice(0, 16), size: stat.size, ino: stat.ino, mtime: stat.mtimeMs };
  spend(clock.monotonic() - began);
  try {
    await host.section(() => {
      const start = clock.monotonic();
      putInPlace(host, temp, note);
      spend(clock.monotonic() - start);
    });
  } finally {
    removeQuietly(fs, temp);
  }
}

/** Under the lock and caught up. Each turn of the loop takes one file that somebody put there meanwhile out of the way. */
function putInPlace(host: Host, temp: string, note: ViewNote): void {
  const { fs, places, clock, random } = host;
  const replica = host.replica();
  // Another process was faster with a newer view: mine would take people back in time.
  if (replica.view && replica.view.revision > note.revision) return;
  if (replica.view?.revision === note.revision && isNoted(fs.lstat(places.file), replica)) return;
  host.note(note);
  for (let tries = 0; tries < 5; tries++) {
    const aside = join(places.prev, `${clock.now()}-${note.revision}-${random.hex(4)}.json`);
    const found = unlessMissing(() => (fs.rename(places.file, aside), true));
    if (found) judge(host, aside, "ours: keep a while");
    if (linkNew(fs, temp, places.file)) return;
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
 * The one place that decides what becomes of a file found where a view belongs (it was moved to `aside` already): a view of
 * ours is kept a while or removed, anything else is a person's and goes to quarantine.
 */
function judge(host: Host, aside: string, ours: "ours: keep a while" | "ours: remove"): void {
  const { fs, places, clock } = host;
  const replica = host.replica();
  if (ours === "ours: keep a while" && isNoted(fs.lstat(aside), replica)) return;
  if (isKnown(fs, aside, replica)) {
    if (ours === "ours: remove") removeQuietly(fs, aside);
    return;
  }
  const kept = quarantineName(host, `edited-${iso(clock.now()).replaceAll(":", "")}`);
  if (unlessMissing(() => (fs.rename(aside, kept), true))) {
    host.notice(`${places.file} was changed by hand; Pawl cannot merge that, so the edited file is kept as ${kept} and the view was rebuilt.`);
  }
}

function quarantineName(host: Host, name: string): string {
  const { fs, places } = host;
  for (let i = 1; ; i++) {
    const path = join(places.quarantine, i === 1 ? `${name}.json` : `${name}-${i}.json`);
    if (!fs.lstat(path)) return path;
  }
}

/** By its stat, the view that was noted last. An edit that keeps inode, size and time to the millisecond shows when it is pruned. */
function isNoted(stat: FileStat | null, replica: Replica): boolean {
  const view = replica.view;
  return stat !== null && view !== null && stat.ino === view.ino && stat.size === view.size && stat.mtimeMs === view.mtime && stat.isFile();
}

/** By its content, a view of ours. What is gone or is no file is none of ours. */
function isKnown(fs: FileSystem, path: string, replica: Replica): boolean {
  if (!fs.lstat(path)?.isFile()) return false;
  const bytes = readWhole(fs, path);
  return bytes !== null && replica.views.has(hashOf(bytes));
}

/** At open, under the lock and caught up: refuses a file that only a newer Pawl, or a longer journal, can have written. */
export function refuseImpossibleView(fs: FileSystem, places: Places, replica: Replica, lastLine: number): void {
  if (isNoted(fs.lstat(places.file), replica) || isKnown(fs, places.file, replica)) return;
  const bytes = readWhole(fs, places.file);
  const header = bytes && headerOf(bytes);
  if (!header) return;
  if (header.format > FORMAT) throw newerFormat(places.file, header.format);
  if (header.revision > lastLine) {
    throw new PawlError("corrupt", `${places.file} shows revision ${header.revision}, but the journal ends at ${lastLine}: changes are missing from ${basename(places.dir)}. Nothing was touched.`, {
      next: "Put the folder back from a backup; if the file is the one that is wrong, move it away and it is rebuilt.",
    });
  }
}

function documentOf(model: Model, replica: Replica, revision: number): { readonly [key: string]: Json } {
  const shown = model.view!((kind) => replica.tables.all(kind), revision) as { readonly [key: string]: Json };
  const header = (shown["pawl"] ?? {}) as { readonly [key: string]: Json };
  return { pawl: { ...header, format: FORMAT, revision }, ...Object.fromEntries(Object.entries(shown).filter(([key]) => key !== "pawl")) };
}

/** The text of `JSON.stringify(document, null, 2)` and a line end, in pieces that each take little time. */
function* printed(document: { readonly [key: string]: Json }): Iterable<string> {
  const indented = (value: Json, by: string) => JSON.stringify(value, null, 2).replaceAll("\n", `\n${by}`);
  let separator = "{\n";
  for (const [key, value] of Object.entries(document)) {
    yield `${separator}  ${JSON.stringify(key)}: `;
    separator = ",\n";
    if (!Array.isArray(value) || value.length === 0) {
      yield indented(value, "  ");
      continue;
    }
    for (let i = 0; i < value.length; i += SLICE) {
      yield (i === 0 ? "[\n    " : ",\n    ") + value.slice(i, i + SLICE).map((item: Json) => indented(item, "    ")).join(",\n    ");
    }
    yield "\n  ]";
  }
  yield separator === "{\n" ? "{}\n" : "\n}\n";
}

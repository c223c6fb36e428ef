// Crash states of a recording: what a disk may hold after a power cut at any moment, as exact file contents. Invariant: an
// operation that was flushed before the cut is there whole; every other one may be there, missing or torn, in any mixture.
import { createHash } from "node:crypto";
import { dirname } from "node:path";
import type { Random } from "../../src/base/id.ts";
import type { Event } from "./record.ts";

// - Bytes and size of a file are durable at the next fsync or fdatasync of it. Until then each write may be missing on its
//   own, torn after any byte, or (where the file grows) be zeros instead: the size reached the disk, the data did not.
// - A name is durable at the next fsync of its directory, a rename between two directories at that of both. Until then each
//   change of names may be missing on its own, but is never half done. A flush of a file does not make its name durable.
// - Writes to SQLite's shared memory (-shm) are left out: it is a mapping that SQLite makes anew after a crash.

export type Image = ReadonlyMap<string, Buffer | null>;

type Data = { readonly at: number; readonly bytes: Buffer } | { readonly size: number };
/** One file whatever it is called: its flushed content and what was done to it since. */
type File = { base: Buffer; pending: Data[] };
type Names = { readonly set: readonly (readonly [string, File | "folder" | null])[]; readonly unflushed: Set<string> };
/** How much of an operation is on the disk: all, nothing, the first bytes, or the first bytes and zeros. */
type Part = "all" | "none" | { readonly bytes: number; readonly zeros: boolean };

/** The disk as the recorded processes saw it, with what of it is not flushed yet. Feed it the events in order. */
export class Disk {
  readonly #seen = new Map<string, File | "folder">();
  readonly #inodes = new Map<string, File>();
  readonly #ignored = new Set<string>();
  readonly #base = new Map<string, File | "folder">();
  #pending: Names[] = [];

  apply(event: Event): void {
    switch (event.op) {
      case "create": return this.#create(event.ino, event.path);
      case "write": return this.#data(event.ino, { at: event.at, bytes: event.bytes });
      case "truncate": return this.#data(event.ino, { size: event.size });
      case "flush": return this.#flush(event.ino);
      case "flush names": return this.#flushNames(event.path);
      case "mkdir": return this.#names([[event.path, "folder"]]);
      case "unlink":
      case "rmdir": return this.#names([[event.path, null]]);
      case "link": return this.#names([[event.to, this.#named(event.path)]]);
      case "rename": return this.#rename(event.path, event.to);
      case "acknowledge": return;
    }
  }

  /** Everything that is not flushed, counted: 0 means that there is one possible image. */
  get open(): number {
    return this.#files().reduce((sum, file) => sum + file.pending.length, this.#pending.filter(isOpen).length);
  }

  /** The image with what is not flushed in the parts that `part` names; `last` is the latest write to a file of the image. */
  image(part: (what: { readonly length: number; readonly last: boolean }) => Part): Image {
    const names = new Map(this.#base);
    for (const change of this.#pending) {
      if (isOpen(change) && part({ length: 0, last: false }) === "none") continue;
      for (const [path, what] of change.set) what === null ? names.delete(path) : names.set(path, what);
    }
    const image = new Map<string, Buffer | null>();
    const contents = new Map<File, Buffer>();
    for (const [path, what] of names) {
      if (!hasParents(path, names)) continue;
      if (what === "folder") image.set(path, null);
      else image.set(path, contents.get(what) ?? this.#contentOf(what, part, contents));
    }
    return image;
  }

  #create(ino: string, path: string): void {
    this.#ignored.delete(ino);
    if (path.endsWith("-shm")) return void this.#ignored.add(ino);
    const file: File = { base: Buffer.alloc(0), pending: [] };
    this.#inodes.set(ino, file);
    this.#names([[path, file]]);
  }

  #data(ino: string, data: Data): void {
    if (!this.#ignored.has(ino)) this.#file(ino).pending.push(data);
  }

  #flush(ino: string): void {
    if (this.#ignored.has(ino)) return;
    const file = this.#file(ino);
    file.base = after(file.base, file.pending, () => "all");
    file.pending = [];
  }

  #rename(from: string, to: string): void {
    const what = this.#named(from);
    if (what === "folder") throw new Error(`a folder was renamed, which this model does not know: ${from}`);
    this.#names([[from, null], [to, what]]);
  }

  #names(set: Names["set"]): void {
    // What was left out at its creation has no name either.
    const known = set.filter(([path]) => !path.endsWith("-shm"));
    if (known.length === 0) return;
    for (const [path, what] of known) what === null ? this.#seen.delete(path) : this.#seen.set(path, what);
    this.#pending.push({ set: known, unflushed: new Set(known.map(([path]) => dirname(path))) });
  }

  #flushNames(folder: string): void {
    for (const change of this.#pending) change.unflushed.delete(folder);
    while (this.#pending.length > 0 && !isOpen(this.#pending[0]!)) {
      for (const [path, what] of this.#pending.shift()!.set) what === null ? this.#base.delete(path) : this.#base.set(path, what);
    }
  }

  #named(path: string): File | "folder" {
    const what = this.#seen.get(path);
    if (what === undefined) throw new Error(`the recording knows nothing of ${path}`);
    return what;
  }

  #file(ino: string): File {
    const file = this.#inodes.get(ino);
    if (file === undefined) throw new Error(`the recording knows no file with the inode ${ino}`);
    return file;
  }

  /** Those that any image can show. */
  #files(): File[] {
    const files = new Set<File | "folder" | null>(this.#base.values());
    for (const { set } of this.#pending) for (const [, what] of set) files.add(what);
    return [...files].filter((what): what is File => what !== "folder" && what !== null);
  }

  #contentOf(file: File, part: (what: { readonly length: number; readonly last: boolean }) => Part, contents: Map<File, Buffer>): Buffer {
    const content = after(file.base, file.pending, (data, i) => part({ length: "bytes" in data ? data.bytes.length : 0, last: i === file.pending.length - 1 }));
    contents.set(file, content);
    return content;
  }
}

const isOpen = (change: Names): boolean => change.unflushed.size > 0;

function hasParents(path: string, names: ReadonlyMap<string, unknown>): boolean {
  for (let at = dirname(path); at !== "."; at = dirname(at)) if (!names.has(at)) return false;
  return true;
}

/** The content with these changes made, each in the part that is chosen for it. */
function after(base: Buffer, changes: readonly Data[], choose: (data: Data, i: number) => Part): Buffer {
  if (changes.length === 0) return base;
  const room = Math.max(base.length, ...changes.map((data) => ("size" in data ? data.size : data.at + data.bytes.length)));
  const content = Buffer.alloc(room);
  base.copy(content);
  let size = base.length;
  for (const [i, data] of changes.entries()) {
    const part = choose(data, i);
    if (part === "none") continue;
    if ("size" in data) {
      content.fill(0, data.size);
      size = data.size;
      continue;
    }
    const length = part === "all" ? data.bytes.length : part.bytes;
    data.bytes.copy(content, data.at, 0, length);
    size = Math.max(size, data.at + (part !== "all" && part.zeros ? data.bytes.length : length));
  }
  return content.subarray(0, size);
}

const hashes = new WeakMap<Buffer, string>();

function hashOf(bytes: Buffer): string {
  let found = hashes.get(bytes);
  if (found === undefined) hashes.set(bytes, (found = createHash("sha1").update(bytes).digest("base64")));
  return found;
}

/** Path and hash of everything in an image, to compare two; SQLite's shared memory, which images leave out, is left out here. */
export function digestOf(image: Image): string[] {
  return [...image].filter(([path]) => !path.endsWith("-shm")).map(([path, bytes]) => `${path} ${bytes === null ? "folder" : createHash("sha1").update(bytes).digest("hex")}`).sort();
}

/** The same for images that are the same. */
export function identityOf(image: Image): string {
  const digest = createHash("sha1");
  for (const path of [...image.keys()].sort()) digest.update(`${path}\0`).update(image.get(path) === null ? "folder" : hashOf(image.get(path)!));
  return digest.digest("hex");
}

/** A mixture that the random numbers choose: each operation there, missing or torn, with odds of this image's own. */
export function mixture(random: Random): (what: { readonly length: number; readonly last: boolean }) => Part {
  const missing = [0, 0.1, 0.5, 0.9][Math.floor(random.number() * 4)]!;
  const torn = [0, 0.1, 0.7][Math.floor(random.number() * 3)]!;
  return ({ length, last }) => {
    if (length > 1 && random.number() < (last ? Math.max(torn, 0.4) : torn)) return { bytes: tornAt(length, random), zeros: random.number() < 0.4 };
    return random.number() < missing ? "none" : "all";
  };
}

/** Nothing but zeros, a sector's end, or any byte. */
function tornAt(length: number, random: Random): number {
  const kind = random.number();
  if (kind < 0.1) return 0;
  if (kind < 0.4 && length > 512) return 512 * Math.floor((random.number() * length) / 512);
  return Math.floor(random.number() * length);
}

export type Found = { readonly images: number; readonly distinct: number; readonly moments: number; readonly violations: readonly string[] };

/** Sweeps in a row that may find nothing new: then there is nothing. */
const BARREN = 50;
/** Violations after which nobody needs more. */
const ENOUGH = 20;

/**
 * Looks at crash states of a recording until `wanted` distinct ones were seen (or no new ones come), or `enough` violations.
 * `open` reopens an image, once for each distinct one; `judge` says what is wrong with what it gave, given everything
 * acknowledged before the cut.
 */
export async function explore<Opened>(events: readonly Event[], wanted: number, random: Random, open: (image: Image) => Promise<Opened>, judge: (opened: Opened, acknowledged: readonly Event[], image: Image) => readonly string[], enough = ENOUGH): Promise<Found> {
  const opened = new Map<string, Opened>();
  const violations: string[] = [];
  let images = 0;
  let barren = 0;
  const look = async (image: Image, moment: number, acknowledged: readonly Event[]): Promise<void> => {
    images++;
    const identity = identityOf(image);
    if (!opened.has(identity)) {
      if (opened.size >= wanted) return;
      barren = 0;
      opened.set(identity, await open(image));
    }
    for (const what of judge(opened.get(identity)!, acknowledged, image)) violations.push(`cut after call ${moment} of ${events.length}: ${what}`);
  };
  // The first sweep takes the two plainest images of a moment, the following ones mixtures.
  const moments = events.length;
  for (let sweep = 0; opened.size < wanted && barren++ < BARREN && violations.length < enough; sweep++) {
    const disk = new Disk();
    const acknowledged: Event[] = [];
    // The plain ones may take half of the images wanted.
    const odds = Math.min(1, sweep === 0 ? wanted / (4 * moments) : (1.5 * (wanted - opened.size)) / (4 * moments) + 0.02);
    for (const [i, event] of events.entries()) {
      disk.apply(event);
      if (event.op === "acknowledge") acknowledged.push(event);
      if (violations.length >= enough) break;
      if (random.number() >= odds) continue;
      if (sweep === 0) {
        await look(disk.image(() => "all"), i + 1, acknowledged);
        await look(disk.image(() => "none"), i + 1, acknowledged);
      } else if (disk.open > 0) {
        for (let n = 0; n < 4; n++) await look(disk.image(mixture(random)), i + 1, acknowledged);
      }
    }
  }
  return { images, distinct: opened.size, moments, violations };
}

// The journal: the truth of a JSON state. Segments `000001.jsonl`, each line `crc32 SP body LF` where the body is
// {"n", "prev", "at", …}; n counts up by one and prev is the hash of the body before, over all segments.
// Invariant: one line is one write and one flush, so at most the last line can be torn; nothing is appended behind bytes
// that were not verified, and what `append` returned from is on the disk.
import { hash } from "node:crypto";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { messageOf, PawlError } from "../../base/errors.ts";
import { createFile, type FileSystem, readRange, removeQuietly, writeAll } from "../../base/fs.ts";
import { newerFormat } from "../migrations.ts";
import type { Counters, Seal } from "../store.ts";
import type { Effect } from "../tables.ts";

/** The chain begins with it. */
export const NO_HASH = "0".repeat(16);

/** Where the next line goes, and what it continues. `start` is where the last line began. */
export type Position = { readonly segment: number; readonly start: number; readonly end: number; readonly n: number; readonly hash: string };

/** Opens a segment: where the one before it ended. `superseded`: bytes behind that end are void (a flush failed there). */
export type SegmentNote = { readonly format: number; readonly number: number; readonly state: string; readonly after: number; readonly superseded?: true };
/** A view of this revision (the n of the last line with ops it shows) is about to be put in place. */
export type ViewNote = { readonly revision: number; readonly hash: string; readonly size: number; readonly ino: number; readonly mtime: number };
/** A checkpoint of everything up to line `n` is complete. */
export type CheckpointNote = { readonly n: number; readonly file: string; readonly size: number; readonly hash: string };

/** `edit`: with these writes the hand edit with that hash is dealt with. */
export type Body = { readonly ops: readonly Effect[]; readonly edit?: string } | { readonly segment: SegmentNote } | { readonly view: ViewNote } | { readonly checkpoint: CheckpointNote } | { readonly seal: Seal | null } | { readonly counters: Counters };
export type Line = { readonly n: number; readonly prev: string; readonly at: string } & Body;

/** How reading ended. "torn": bytes from `end` on are no line and no line follows. "reload": what was read before is gone. */
export type Tail = { readonly is: "end" } | { readonly is: "torn"; readonly end: number; readonly size: number } | { readonly is: "reload" } | { readonly is: "damaged"; readonly error: PawlError };

const END: Tail = { is: "end" };
const CHUNK = 4 << 20;
const LF = 10;
const PREFIX = 9;

export const segmentName = (number: number): string => `${String(number).padStart(6, "0")}.jsonl`;

/** The numbers of the segments there, ascending; null when there is no journal directory. */
export function segmentsIn(fs: FileSystem, dir: string): number[] | null {
  const names = fs.readdir(dir);
  if (!names) return null;
  return names.filter((name) => /^\d{6,}\.jsonl$/.test(name)).map((name) => parseInt(name, 10)).sort((a, b) => a - b);
}

/** The hash that the next line carries as `prev`. */
export const hashOf = (body: Uint8Array): string => hash("sha256", body, "hex").slice(0, 16);

/** The bytes of one line, in a buffer that is used again, and the hash of its body. */
export class LineWriter {
  #buffer = Buffer.alloc(0);

  write(body: string): { bytes: Buffer; hash: string } {
    if (this.#buffer.length < body.length * 3 + PREFIX + 1) this.#buffer = Buffer.allocUnsafe(Math.max(body.length * 4, 1 << 10) + PREFIX + 1);
    const end = PREFIX + this.#buffer.write(body, PREFIX, "utf8");
    const inner = this.#buffer.subarray(PREFIX, end);
    this.#buffer.write(crc32(inner).toString(16).padStart(8, "0"), 0, "latin1");
    this.#buffer[PREFIX - 1] = 32;
    this.#buffer[end] = LF;
    return { bytes: this.#buffer.subarray(0, end + 1), hash: hashOf(inner) };
  }
}

/** The body of a line (without its LF) when its checksum is right, else null. */
export function checkedBody(line: Uint8Array): Buffer | null {
  const bytes = Buffer.from(line.buffer, line.byteOffset, line.byteLength);
  if (bytes.length <= PREFIX || bytes[PREFIX - 1] !== 32) return null;
  const body = bytes.subarray(PREFIX);
  return bytes.toString("latin1", 0, PREFIX - 1) === crc32(body).toString(16).padStart(8, "0") ? body : null;
}

/** True when some whole line with a right checksum is in these bytes. */
export function holdsLine(bytes: Buffer): boolean {
  for (let from = 0; ; ) {
    const end = bytes.indexOf(LF, from);
    if (checkedBody(bytes.subarray(from, end < 0 ? bytes.length : end))) return true;
    if (end < 0) return false;
    from = end + 1;
  }
}

export class Journal {
  readonly dir: string;
  readonly #fs: FileSystem;
  readonly #writable: boolean;
  readonly #writer = new LineWriter();
  #fd: number;
  #next: string;
  readonly #known: number;
  #state = "";
  #format: number;
  #position: Position;

  /** Opens the segment of `position`, which names a place already verified, of this format; headers up to format `known` are read. */
  constructor(fs: FileSystem, dir: string, position: Position, writable: boolean, formats: { readonly now: number; readonly known: number }) {
    this.dir = dir;
    this.#fs = fs;
    this.#writable = writable;
    this.#position = position;
    this.#format = formats.now;
    this.#known = formats.known;
    this.#fd = this.#openSegment(position.segment);
    this.#next = join(dir, segmentName(position.segment + 1));
  }

  get position(): Position {
    return this.#position;
  }

  get file(): string {
    return join(this.dir, segmentName(this.#position.segment));
  }

  /** Reads what was appended since the last read, over segments; `visit` gets each verified line. */
  read(visit: (line: Line, bytes: number) => void): Tail {
    const tail = this.#readOn(visit);
    // A segment always comes whole with its first line, so without one this is no new journal but a ruined one.
    return this.#position.n === 0 && (tail.is === "end" || tail.is === "torn") ? this.#damaged(0, "its first line is missing or damaged") : tail;
  }

  #readOn(visit: (line: Line, bytes: number) => void): Tail {
    for (;;) {
      const stat = this.#fs.fstat(this.#fd);
      if (stat.nlink === 0) return { is: "damaged", error: gone(this.file) };
      if (stat.size < this.#position.end) return { is: "reload" };
      const followed = this.#fs.lstat(this.#next) !== null;
      if (!followed && stat.size === this.#position.end) return END;
      const header = followed ? this.#headerOf(this.#position.segment + 1) : null;
      // The segment may have grown between the two looks; its follower says where it ended.
      const limit = header ? header.segment.after : stat.size;
      if (limit < this.#position.end) return { is: "reload" };
      const tail = this.#readTo(limit, visit);
      if (tail.is !== "end" || !header) return tail.is === "torn" && header ? this.#damaged(tail.end, "a line is damaged") : tail;
      if (this.#position.end < limit) return this.#damaged(this.#position.end, "lines are missing");
      if (!header.segment.superseded && this.#fs.fstat(this.#fd).size > limit) return this.#damaged(limit, "there are bytes behind its end");
      // Whoever made it may have been killed before its name was durable.
      if (this.#writable) this.#fs.fsyncDir(this.dir);
      this.#follow();
    }
  }

  /** Appends one line and flushes it. Throws `storage` when nothing was changed, `commit_unknown` when that is not known. */
  append(at: string, body: string): void {
    const { bytes, hash } = this.#writer.write(this.#bodyText(this.#position, at, body));
    const { segment, end, n } = this.#position;
    try {
      writeAll(this.#fs, this.#fd, bytes);
    } catch (error) {
      this.#takeBack();
      throw new PawlError("storage", `The journal ${this.file} could not be written: ${messageOf(error)}. Nothing was changed.`, { next: "Make room on the disk, then try again.", cause: error });
    }
    try {
      this.#fs.fdatasync(this.#fd);
    } catch (error) {
      return this.#rewrite(at, body, error);
    }
    this.#position = { segment, start: end, end: end + bytes.length, n: n + 1, hash };
  }

  /** Starts the next segment. Everything before it is durable already. */
  rotate(at: string): void {
    this.#startSegment(at, false);
    this.#follow();
    // Its first line was just written by this process: read it as any other.
    const tail = this.read(() => {});
    if (tail.is !== "end") throw new PawlError("internal", "A new journal segment does not read back as it was written.");
  }

  /** Cuts the bytes behind the last verified line. Under the lock only, and after they were kept aside. */
  truncate(): void {
    this.#fs.ftruncate(this.#fd, this.#position.end);
    this.#fs.fsync(this.#fd);
  }

  /** The bytes behind the last verified line. */
  rest(): Buffer {
    return readRange(this.#fs, this.#fd, this.#position.end, this.#fs.fstat(this.#fd).size);
  }

  close(): void {
    if (this.#fd >= 0) this.#fs.close(this.#fd);
    this.#fd = -1;
  }

  #bodyText(position: Position, at: string, body: string): string {
    return `{"n":${position.n + 1},"prev":"${position.hash}","at":"${at}",${body}}`;
  }

  #openSegment(number: number): number {
    return this.#fs.open(join(this.dir, segmentName(number)), this.#writable ? "append" : "read");
  }

  #readTo(limit: number, visit: (line: Line, bytes: number) => void): Tail {
    let size = CHUNK;
    while (this.#position.end < limit) {
      const from = this.#position.end;
      const bytes = readRange(this.#fs, this.#fd, from, Math.min(from + size, limit));
      if (bytes.length === 0) return { is: "reload" };
      for (let at = 0; at < bytes.length; ) {
        const lf = bytes.indexOf(LF, at);
        if (lf < 0) break;
        const bad = this.#take(bytes.subarray(at, lf), visit);
        if (bad) return bad;
        at = lf + 1;
      }
      if (this.#position.end > from) size = CHUNK;
      else if (from + size >= limit) return { is: "torn", end: from, size: limit };
      else size *= 2;
    }
    return END;
  }

  /** Verifies one line at the position and moves on; returns what is wrong with it, if anything. */
  #take(bytes: Buffer, visit: (line: Line, bytes: number) => void): Tail | null {
    const { segment, end, n, hash } = this.#position;
    const body = checkedBody(bytes);
    if (!body) {
      const rest = this.rest().subarray(bytes.length + 1);
      return holdsLine(rest) ? this.#damaged(end, "a line is damaged and others follow it") : { is: "torn", end, size: end + bytes.length + 1 + rest.length };
    }
    const line = JSON.parse(body.toString("utf8")) as Line;
    if (line.n !== n + 1 || line.prev !== hash) return this.#damaged(end, `line ${line.n} does not continue line ${n}`);
    if ("segment" in line) this.#checkHeader(line.segment);
    this.#position = { segment, start: end, end: end + bytes.length + 1, n: line.n, hash: hashOf(body) };
    visit(line, bytes.length + 1);
    return null;
  }

  #checkHeader(header: SegmentNote): void {
    if (header.format > this.#known) throw newerFormat(this.file, header.format, this.#known);
    this.#format = header.format;
    this.#state = header.state;
  }

  #headerOf(number: number): { readonly segment: SegmentNote } | null {
    const path = join(this.dir, segmentName(number));
    const fd = this.#fs.open(path, "read");
    try {
      const bytes = readRange(this.#fs, fd, 0, 4096);
      const body = checkedBody(bytes.subarray(0, Math.max(bytes.indexOf(LF), 0)));
      const line = body ? (JSON.parse(body.toString("utf8")) as Line) : null;
      if (!line || !("segment" in line)) throw damage(path, 0, "its first line is damaged");
      return line;
    } finally {
      this.#fs.close(fd);
    }
  }

  #follow(): void {
    const segment = this.#position.segment + 1;
    const fd = this.#openSegment(segment);
    this.close();
    this.#fd = fd;
    this.#next = join(this.dir, segmentName(segment + 1));
    this.#position = { ...this.#position, segment, start: 0, end: 0 };
  }

  #damaged(offset: number, why: string): Tail {
    return { is: "damaged", error: damage(this.file, offset, why) };
  }

  /** After a failed write: back to the last good end. If that fails too, the next writer finds a torn tail and repairs it. */
  #takeBack(): void {
    try {
      this.#fs.ftruncate(this.#fd, this.#position.end);
    } catch {
      // The bytes are an incomplete line, which every reader ignores.
    }
  }

  /**
   * A flush that failed is never tried again: the kernel may have dropped the data and would report success. The line goes
   * into a new segment, whose header voids what the old one has behind its last flushed line.
   */
  #rewrite(at: string, body: string, cause: unknown): void {
    try {
      this.#startSegment(at, true);
      this.#follow();
      if (this.read(() => {}).is !== "end") throw new PawlError("internal", "A new journal segment does not read back as it was written.");
      const { bytes, hash } = this.#writer.write(this.#bodyText(this.#position, at, body));
      const { segment, end, n } = this.#position;
      writeAll(this.#fs, this.#fd, bytes);
      this.#fs.fdatasync(this.#fd);
      this.#position = { segment, start: end, end: end + bytes.length, n: n + 1, hash };
    } catch (error) {
      // Readers would go on seeing the line, and continue a chain that the disk may not have.
      this.#takeBack();
      throw new PawlError("commit_unknown", `The disk failed while flushing ${this.file} (${messageOf(cause)}), and a new file failed too (${messageOf(error)}). The last change may or may not have been kept.`, {
        next: "Check the disk, then open the state again: it shows whether the change was kept.",
        cause,
      });
    }
  }

  #startSegment(at: string, superseded: boolean): void {
    const { segment, end } = this.#position;
    const note: SegmentNote = { format: this.#format, number: segment + 1, state: this.#state, after: end, ...(superseded ? { superseded: true } : {}) };
    createSegment(this.#fs, this.dir, note, linesOf(this.#position, at, [{ segment: note }]));
  }

  /** Starts the next segment in a newer format, with what brings the state to it; it is read as any other's. */
  upgrade(at: string, format: number, bodies: readonly Body[]): void {
    const { segment, end } = this.#position;
    const note: SegmentNote = { format, number: segment + 1, state: this.#state, after: end };
    createSegment(this.#fs, this.dir, note, linesOf(this.#position, at, [{ segment: note }, ...bodies]));
  }
}

/** Puts a new segment in place with its first lines, whole and durable before anything is appended to it. */
export function createSegment(fs: FileSystem, dir: string, note: SegmentNote, lines: Iterable<Buffer>): void {
  const path = join(dir, segmentName(note.number));
  const temp = `${path}.tmp`;
  // Under the lock, so a file of that name is left over from a process that was killed here.
  removeQuietly(fs, temp);
  createFile(fs, temp, lines, 0o600);
  fs.rename(temp, path);
  fs.fsyncDir(dir);
}

/** The first segment of a new state, with what it begins with: all of it is there at once, or no state is. */
export function createJournal(fs: FileSystem, dir: string, made: { readonly id: string; readonly at: string; readonly format: number }, bodies: readonly Body[]): void {
  const note: SegmentNote = { format: made.format, number: 1, state: made.id, after: 0 };
  createSegment(fs, dir, note, linesOf({ n: 0, hash: NO_HASH }, made.at, [{ segment: note }, ...bodies]));
}

/** Writes in one line of a journal that begins with many. */
const SLICE = 500;

/** Many writes as lines of a size that is read without a pause. */
export const inSlices = (ops: readonly Effect[]): Body[] => Array.from({ length: Math.ceil(ops.length / SLICE) }, (_, i) => ({ ops: ops.slice(i * SLICE, (i + 1) * SLICE) }));

/** Lines that continue `from`. Each is in the one buffer of the writer, until the next is asked for. */
function* linesOf(from: Pick<Position, "n" | "hash">, at: string, bodies: readonly Body[]): Iterable<Buffer> {
  const writer = new LineWriter();
  let prev = from.hash;
  for (const [i, body] of bodies.entries()) {
    const { bytes, hash } = writer.write(`{"n":${from.n + 1 + i},"prev":"${prev}","at":"${at}",${JSON.stringify(body).slice(1)}`);
    prev = hash;
    yield bytes;
  }
}

export function damage(file: string, offset: number, why: string): PawlError {
  return new PawlError("corrupt", `The journal is damaged at ${file}:${offset}: ${why}. Nothing was changed.`, {
    next: "Run `pawl doctor` to see what is readable; `pawl doctor --repair` restores the last good state after making a backup.",
    details: { file, offset, why },
  });
}

function gone(file: string): PawlError {
  return new PawlError("corrupt", `The journal ${file} was removed while the state was open.`, { next: "Put the folder back from a backup, then open the state again." });
}

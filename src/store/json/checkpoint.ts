// Checkpoints: everything up to one line of the journal, in a file of its own, so that opening need not read the whole
// journal. Invariant: a checkpoint is used only when all of it verifies and the journal still has the line it stands on;
// else the next older one, or the journal from its beginning, gives the same state.
import { createHash, type Hash } from "node:crypto";
import { basename, join } from "node:path";
import { messageOf, PawlError } from "../../base/errors.ts";
import { createFileInSlices, type FileSystem, readInto, readRange, removeQuietly } from "../../base/fs.ts";
import type { Json } from "../../base/json.ts";
import { formatOf, newerFormat } from "../migrations.ts";
import type { Model, Rec, Seal } from "../store.ts";
import { Tables } from "../tables.ts";
import { checkedBody, type CheckpointNote, hashOf, LineWriter, type Position, segmentName, type ViewNote } from "./journal.ts";

/** A state as it is at one place of its journal: what replaying gives, and what a checkpoint keeps. */
export type Replica = {
  readonly tables: Tables;
  /** In which its records are. */
  format: number;
  /** The number of the last line that changed records. */
  revision: number;
  /** The view noted last, and the hashes of those before it (and of edits dealt with) that are still known, oldest first. */
  view: ViewNote | null;
  readonly views: Set<string>;
  checkpoint: CheckpointNote | null;
  seal: Seal | null;
  /** Bytes of the journal behind the last checkpoint. */
  tailBytes: number;
};

type Header = {
  readonly format: number;
  readonly position: Position;
  readonly revision: number;
  readonly view: ViewNote | null;
  readonly views: readonly string[];
  readonly counters: { readonly [kind: string]: number };
  readonly seal?: Seal | null;
};
/** Records as the values of their fields, an object of unknown fields behind them where there are any: half the bytes, and read in half the time. */
type Records = { readonly kind: string; readonly fields: readonly string[]; readonly rows: readonly (readonly Json[])[] };
type End = { readonly records: number; readonly hash: string };

/** Below this a checkpoint is not worth its file: the journal itself is read in a moment. */
const MIN_TAIL_BYTES = 4 << 20;
/** Records in one line of a checkpoint, and serialised without a pause. */
const SLICE = 200;
/**
 * Hashes of earlier views and edits that are remembered, to know an old view (restored by git, say) from an edit: more than a
 * busy minute makes, which is how long replaced files are kept.
 */
const VIEWS = 5_000;

export function emptyReplica(model: Model): Replica {
  return { tables: new Tables(model), format: formatOf(model), revision: 0, view: null, views: new Set(), checkpoint: null, seal: null, tailBytes: 0 };
}

export function rememberView(replica: Replica, note: ViewNote): void {
  replica.view = note;
  rememberHash(replica, note.hash);
}

/** A file with this hash is known: a view of ours, or an edit that was dealt with. */
export function rememberHash(replica: Replica, hash: string): void {
  replica.views.delete(hash);
  replica.views.add(hash);
  if (replica.views.size > VIEWS) replica.views.delete(replica.views.values().next().value!);
}

/** True when the journal behind the last checkpoint is three times as long as it: the total cost stays linear and small beside the journal's own. */
export function checkpointDue(replica: Replica, leastBytes = MIN_TAIL_BYTES): boolean {
  return replica.tailBytes > Math.max(leastBytes, 3 * (replica.checkpoint?.size ?? 0));
}

const fileOf = (n: number): string => `${String(n).padStart(12, "0")}.jsonl`;

/**
 * Writes the checkpoint of `replica` at `position`. The references to the (immutable) records are copied at once, so it is
 * consistent however long the serialising takes. Two processes may write the same one: same content, last rename wins.
 */
export async function writeCheckpoint(fs: FileSystem, dir: string, model: Model, replica: Replica, position: Position, token: string, pause: () => Promise<void>): Promise<CheckpointNote> {
  const { tables, revision, view, seal } = replica;
  const header: Header = { format: replica.format, position, revision, view, views: [...replica.views], counters: tables.counters(), seal };
  const records = model.kinds.map((kind) => ({ kind, all: tables.all(kind.name) }));
  const digest = createHash("sha256");
  const writer = new LineWriter();
  let size = 0;
  let hash = "";
  const piece = (value: Header | Records | End): Buffer => {
    const { bytes } = writer.write(JSON.stringify(value));
    if (hash === "") digest.update(bytes);
    size += bytes.length;
    return bytes;
  };
  function* pieces(): Iterable<Buffer> {
    yield piece(header);
    let count = 0;
    for (const { kind, all } of records) {
      count += all.length;
      const fields = Object.keys(kind.fields);
      for (let i = 0; i < all.length; i += SLICE) yield piece({ kind: kind.name, fields, rows: all.slice(i, i + SLICE).map((record) => valuesOf(fields, record)) });
    }
    hash = shortHash(digest);
    yield piece({ records: count, hash });
  }
  const file = fileOf(position.n);
  const temp = join(dir, `${file}.${token}.tmp`);
  await createFileInSlices(fs, temp, pieces(), 0o600, pause);
  try {
    fs.rename(temp, join(dir, file));
  } catch (error) {
    removeQuietly(fs, temp);
    throw error;
  }
  fs.fsyncDir(dir);
  return { n: position.n, file, size, hash };
}

/** A record in memory has its declared fields first, in their order. */
function valuesOf(fields: readonly string[], record: Rec): Json[] {
  const values = Object.values(record);
  if (values.length === fields.length) return values;
  const unknown = Object.fromEntries(Object.entries(record).filter(([field]) => !fields.includes(field)));
  return [...fields.map((field) => record[field] ?? null), unknown];
}

export const checkpointsIn = (fs: FileSystem, dir: string): string[] => (fs.readdir(dir) ?? []).filter((name) => /^\d{12,}\.jsonl$/.test(name)).sort().reverse();

/** Removes checkpoints older than the last two: one to use, one in case it is damaged. */
export function pruneCheckpoints(fs: FileSystem, dir: string): void {
  for (const name of checkpointsIn(fs, dir).slice(2)) removeQuietly(fs, join(dir, name));
}

/** The newest checkpoint that verifies (of line `upTo` or before), loaded; null when there is none. */
export function loadCheckpoint(fs: FileSystem, dir: string, journalDir: string, model: Model, notice: (line: string) => void, upTo = Infinity): { replica: Replica; position: Position } | null {
  for (const name of checkpointsIn(fs, dir).filter((name) => parseInt(name, 10) <= upTo)) {
    const path = join(dir, name);
    try {
      return readCheckpoint(fs, path, journalDir, model);
    } catch (error) {
      if (error instanceof PawlError && error.code === "unsupported") throw error;
      notice(`The checkpoint ${path} cannot be used (${messageOf(error)}); the state is read from further back.`);
    }
  }
  return null;
}

/** A checkpoint as far as it verifies by itself and, unless `journalDir` is null, stands on a line of that journal. Throws what is wrong with it. */
export function readCheckpoint(fs: FileSystem, path: string, journalDir: string | null, model: Model): { replica: Replica; position: Position } {
  const replica = emptyReplica(model);
  const digest = createHash("sha256");
  let header: Header | null = null;
  let count = 0;
  let end: End | null = null;
  let size = 0;
  for (const { at, bytes } of linesOf(fs, path)) {
    const body = end ? null : checkedBody(bytes.subarray(0, -1));
    if (!body) throw bad(`damaged at byte ${at}`);
    const line = JSON.parse(body.toString("utf8")) as Header | Records | End;
    size = at + bytes.length;
    if ("hash" in line) {
      end = line;
      continue;
    }
    digest.update(bytes);
    if ("kind" in line) {
      replica.tables.restore(line.kind, line.fields, line.rows);
      count += line.rows.length;
    } else {
      if (line.format > formatOf(model)) throw newerFormat(path, line.format, formatOf(model));
      header = line;
    }
  }
  if (!end || !header || end.records !== count || end.hash !== shortHash(digest)) throw bad("its end does not match its content");
  replica.tables.raiseCounters(header.counters);
  replica.format = header.format;
  replica.revision = header.revision;
  for (const hash of header.views) replica.views.add(hash);
  replica.view = header.view;
  replica.seal = header.seal ?? null;
  replica.checkpoint = { n: header.position.n, file: basename(path), size, hash: end.hash };
  if (journalDir !== null) standsOn(fs, join(journalDir, segmentName(header.position.segment)), header.position);
  return { replica, position: header.position };
}

const shortHash = (digest: Hash): string => digest.digest("hex").slice(0, 16);

/** Bytes read at once: a checkpoint may be larger than the memory one wants to spend on it. */
const CHUNK = 1 << 20;

/** The lines of a file, each with its line end and the place where it begins (a last one may have none). All are in one buffer: each is good until the next is asked for. */
function* linesOf(fs: FileSystem, path: string): Iterable<{ readonly at: number; readonly bytes: Buffer }> {
  const fd = fs.open(path, "read");
  try {
    const { size } = fs.fstat(fd);
    // One byte more than a small file has: a read that does not fill it was the last.
    let buffer = Buffer.allocUnsafe(Math.min(CHUNK, size + 1));
    for (let from = 0; from < size; ) {
      const bytes = readInto(fs, fd, buffer, from);
      let at = 0;
      for (let lf = bytes.indexOf(10); lf >= 0; lf = bytes.indexOf(10, at)) {
        yield { at: from + at, bytes: bytes.subarray(at, lf + 1) };
        at = lf + 1;
      }
      if (at === 0 && bytes.length < buffer.length) return yield { at: from, bytes };
      if (at === 0) buffer = Buffer.allocUnsafe(buffer.length * 2);
      from += at;
    }
  } finally {
    fs.close(fd);
  }
}

/** Throws unless the journal has, where the checkpoint says, the line it was made after. */
function standsOn(fs: FileSystem, segment: string, position: Position): void {
  const fd = fs.open(segment, "read");
  try {
    const body = checkedBody(readRange(fs, fd, position.start, position.end - 1));
    if (!body || hashOf(body) !== position.hash) throw bad(`the journal does not have line ${position.n} where it was`);
  } finally {
    fs.close(fd);
  }
}

const bad = (why: string): PawlError => new PawlError("corrupt", why, { next: "Run `pawl doctor`." });

// Large fields of a JSON state, each in a file of its own: neither the tables in memory nor the journal nor a checkpoint holds
// them. Invariants: a file is on the disk before the record that needs it; a file whose record is gone goes after the record
// did, so what a crash leaves is a file too many, never one too few. Everything that writes is called under the lock.
import { join } from "node:path";
import { createFile, type FileSystem, fromDisk, readWhole, removeQuietly, unlessMissing } from "../../base/fs.ts";
import { sha256 } from "../../base/json.ts";
import { checkFields, keyOf, keyParts, keyText } from "../check.ts";
import type { Change, Claim, Key, Kind, Model, Piece, Put, Rec } from "../store.ts";
import type { Tables } from "../tables.ts";

/** Files without a record, and half-written ones, of this age belong to nobody. */
const ABANDONED_MS = 600_000;

type BesideKind = Kind & { readonly beside: NonNullable<Kind["beside"]> };

const isBeside = (kind: Kind): kind is BesideKind => kind.beside !== undefined;

/** The folders that such fields are kept in. */
export const foldersBeside = (model: Model, dir: string): string[] => [...new Set(model.kinds.filter(isBeside).map(({ beside }) => join(dir, beside.folder)))];

export class Beside {
  readonly #fs: FileSystem;
  readonly #dir: string;
  readonly #token: () => string;
  readonly #kinds: ReadonlyMap<string, BesideKind>;
  readonly #ensured = new Set<string>();
  readonly #touched: { readonly kind: BesideKind; readonly key: Key }[] = [];

  constructor(fs: FileSystem, dir: string, model: Model, token: () => string) {
    this.#fs = fs;
    this.#dir = dir;
    this.#token = token;
    this.#kinds = new Map(model.kinds.filter(isBeside).map((kind) => [kind.name, kind]));
  }

  /** The change without its large fields, which are in their files and durable now. Bad data is left for the tables to refuse. */
  take<W extends Change | Claim>(work: W): W {
    if ("claim" in work || !work.puts.some(({ kind }) => this.#kinds.has(kind))) return work;
    const folders = new Set<string>();
    const puts = work.puts.map((put) => {
      const kind = this.#kinds.get(put.kind);
      return kind ? this.#takePut(kind, put, folders) : put;
    });
    for (const folder of folders) this.#fs.fsyncDir(folder);
    return { ...work, puts };
  }

  #takePut(kind: BesideKind, put: Put, folders: Set<string>): Put {
    if ("delete" in put) this.#touched.push({ kind, key: put.key });
    if (!("record" in put)) return put;
    const { field, folder } = kind.beside;
    const value = put.record[field];
    try {
      checkFields(kind, put.record);
    } catch {
      return put;
    }
    if (typeof value !== "string") return put;
    this.#write(kind, keyOf(kind, put.record as Rec), value);
    folders.add(join(this.#dir, folder));
    return { kind: put.kind, record: { ...put.record, [field]: null } };
  }

  /** Whole records on their way into an empty state. */
  takePiece({ kind: name, records }: Piece): Piece {
    return { kind: name, records: this.take({ puts: records.map((record) => ({ kind: name, record })) }).puts.map((put) => (put as { record: Rec }).record) };
  }

  #write(kind: BesideKind, key: Key, value: string): void {
    const folder = join(this.#dir, kind.beside.folder);
    const path = join(folder, fileName(kind, key));
    const bytes = Buffer.from(value, "utf8");
    this.#touched.push({ kind, key });
    try {
      this.#ensure(folder);
      if (readWhole(this.#fs, path)?.equals(bytes)) return;
      const temp = join(folder, `${fileName(kind, key)}.${this.#token()}.tmp`);
      createFile(this.#fs, temp, [bytes], 0o600);
      this.#fs.rename(temp, path);
    } catch (error) {
      throw fromDisk(error, path);
    }
  }

  /** Whoever made the folder may have been killed before its name was durable. */
  #ensure(folder: string): void {
    if (this.#ensured.has(folder)) return;
    if (!this.#fs.lstat(folder)) this.#fs.mkdir(folder, 0o700);
    this.#fs.fsyncDir(this.#dir);
    this.#ensured.add(folder);
  }

  /** Records with their large fields again; null for one that is gone once `refresh` took in what others did. */
  fill(kind: string, records: (Rec | null)[], refresh: () => Tables): (Rec | null)[] {
    const beside = this.#kinds.get(kind);
    return beside ? records.map((record) => (record ? this.#read(beside, record, refresh) : null)) : records;
  }

  /** The same, without those that are gone. */
  fillAll(kind: string, records: Rec[], refresh: () => Tables): Rec[] {
    return this.#kinds.has(kind) ? this.fill(kind, records, refresh).filter((record) => record !== null) : records;
  }

  #read(kind: BesideKind, record: Rec, refresh: () => Tables): Rec | null {
    const { field, folder } = kind.beside;
    if (record[field] !== null) return record;
    const key = keyOf(kind, record);
    const bytes = readWhole(this.#fs, join(this.#dir, folder, fileName(kind, key)));
    if (bytes) return { ...record, [field]: bytes.toString("utf8") };
    return refresh().get(kind.name, key);
  }

  /** After the journal has it: removes the files of what was deleted, or was not put after all. */
  tidy(tables: Tables): void {
    for (const { kind, key } of this.#touched.splice(0)) {
      if (!tables.get(kind.name, key)) removeQuietly(this.#fs, join(this.#dir, kind.beside.folder, fileName(kind, key)));
    }
  }

  /** Removes what processes that were killed left behind. */
  sweep(tables: Tables, now: number): void {
    for (const path of abandonedBeside(this.#fs, this.#dir, [...this.#kinds.values()], tables, now)) removeQuietly(this.#fs, path);
  }
}

/** Files that no record needs, of an age at which nobody is about to. */
export function abandonedBeside(fs: FileSystem, dir: string, kinds: readonly Kind[], tables: Tables, now: number): string[] {
  return kinds.filter(isBeside).flatMap((kind) => {
    const folder = join(dir, kind.beside.folder);
    const names = fs.readdir(folder) ?? [];
    if (names.length === 0) return [];
    const wanted = new Set(tables.all(kind.name).map((record) => fileName(kind, keyOf(kind, record))));
    return names.filter((name) => !wanted.has(name)).map((name) => join(folder, name)).filter((path) => {
      const stat = unlessMissing(() => fs.lstat(path));
      return stat !== null && now - stat.mtimeMs > ABANDONED_MS;
    });
  });
}

/** A key as the name of a file, the same on every disk. */
function fileName(kind: Kind, key: Key): string {
  const name = keyParts(kind, key).join(".");
  return /^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,200}$/.test(name) ? name : `key-${sha256(keyText(key))}`;
}

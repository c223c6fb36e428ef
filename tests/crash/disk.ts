// A simulated disk: the injected FileSystem in memory, with a log of every mutating call. What is written is seen at once
// by whoever reads; what survives a crash is another matter, and crash-states.ts enumerates it from the log.
// Invariant: bytes in an Image are never modified, so that images can share them.
import type { FileStat, FileSystem } from "../../src/base/fs.ts";

export type FileNode = { readonly bytes: Buffer; readonly mtime: number; readonly mode: number };
/** What is on the disk after a crash: directories by path of inodes. Directories of the map `dirs` hold name → inode. */
export type Image = { readonly dirs: ReadonlyMap<number, ReadonlyMap<string, number>>; readonly files: ReadonlyMap<number, FileNode> };

export const ROOT = 1;
export const EMPTY: Image = { dirs: new Map([[ROOT, new Map()]]), files: new Map() };

/** One name set to an inode, or removed. */
export type Entry = { readonly dir: number; readonly name: string; readonly to: number | null };
export type Write = { readonly op: "write"; readonly file: number; readonly at: number; readonly bytes: Buffer; readonly mtime: number };
export type Truncate = { readonly op: "truncate"; readonly file: number; readonly size: number; readonly mtime: number };
/** All of it or nothing of it, as journalling file systems keep a rename. `makes`: a directory that begins to exist by it. */
export type Names = { readonly op: "names"; readonly entries: readonly Entry[]; readonly makes?: number };
export type Op =
  | Write
  | Truncate
  | Names
  | { readonly op: "sync"; readonly file: number }
  /** A flush that failed: what was unsynced then may be gone for good, whatever later flushes say. */
  | { readonly op: "failed sync"; readonly file: number }
  | { readonly op: "sync names"; readonly dir: number }
  /** Not on the disk: what the world knows from here on. */
  | { readonly op: "mark"; readonly mark: Mark };

/** What was asked for and what was promised: commits by their number, probes of a recovery, the edit of a person. */
export type Mark = { readonly asked?: number; readonly acked?: number; readonly probesAcked?: number; readonly edit?: "asked" | "kept" };

type Live = { bytes: Buffer; size: number; mtime: number; mode: number; links: number };
type Open = { readonly file: number; readonly writes: boolean };

const fail = (code: string, what: string): Error => Object.assign(new Error(`${code}: ${what}`), { code });

export class SimulatedDisk {
  readonly log: Op[] = [];
  readonly fs: FileSystem;
  readonly #dirs = new Map<number, Map<string, number>>();
  readonly #files = new Map<number, Live>();
  readonly #open = new Map<number, Open>();
  readonly #now: () => number;
  #nextInode = ROOT + 1;
  #nextFd = 3;
  #tick = 0;

  /** The disk as it is after a crash left `image`; `now` gives times of modification. */
  constructor(image: Image, now: () => number) {
    this.#now = now;
    for (const [inode, names] of image.dirs) this.#dirs.set(inode, new Map(names));
    for (const [inode, { bytes, mtime, mode }] of image.files) this.#files.set(inode, { bytes, size: bytes.length, mtime, mode, links: 0 });
    for (const names of this.#dirs.values()) for (const inode of names.values()) this.#link(inode, 1);
    this.#nextInode = Math.max(ROOT, ...image.dirs.keys(), ...image.files.keys()) + 1;
    this.fs = this.#calls();
  }

  /** Does what a log says, so that another process can go on where one was killed: nothing is more durable than it was. */
  replay(log: readonly Op[]): void {
    for (const op of log) this.#do(op);
  }

  mark(mark: Mark): void {
    this.log.push({ op: "mark", mark });
  }

  /** A flush that fails: the kernel forgets that the bytes are unsynced, and goes on showing them. */
  failFlush(fd: number): void {
    this.log.push({ op: "failed sync", file: this.#opened(fd).file });
  }

  /** The whole content at a path, null when there is none: how a test looks at the disk. */
  peek(path: string): Buffer | null {
    const inode = this.#find(path);
    const file = inode === null ? undefined : this.#files.get(inode);
    return file ? Buffer.from(file.bytes.subarray(0, file.size)) : null;
  }

  /** Every file by its path. */
  paths(): Map<string, Buffer> {
    const found = new Map<string, Buffer>();
    const walk = (dir: number, prefix: string) => {
      for (const [name, inode] of this.#dirs.get(dir)!) {
        const path = `${prefix}/${name}`;
        if (this.#dirs.has(inode)) walk(inode, path);
        else found.set(path, this.peek(path)!);
      }
    };
    walk(ROOT, "");
    return found;
  }

  /** The disk as a process that was killed leaves it: the kernel writes everything out. */
  image(): Image {
    const files = [...this.#files].filter(([, { links }]) => links > 0).map(([inode, file]) => [inode, { bytes: Buffer.from(file.bytes.subarray(0, file.size)), mtime: file.mtime, mode: file.mode }] as const);
    return { dirs: new Map([...this.#dirs].map(([inode, names]) => [inode, new Map(names)])), files: new Map(files) };
  }

  #calls(): FileSystem {
    return {
      open: (path, how, mode) => this.#openFile(path, how, mode ?? 0o600),
      close: (fd) => void this.#open.delete(fd),
      read: (fd, into, offset, length, position) => {
        const { bytes, size } = this.#fileOf(fd);
        return bytes.copy(into, offset, position, Math.min(position + length, size));
      },
      write: (fd, bytes, offset, length) => this.#write(fd, Buffer.from(bytes.subarray(offset, offset + length))),
      fdatasync: (fd) => void this.log.push({ op: "sync", file: this.#opened(fd).file }),
      fsync: (fd) => void this.log.push({ op: "sync", file: this.#opened(fd).file }),
      ftruncate: (fd, size) => this.#truncate(fd, size),
      fchmod: (fd, mode) => void (this.#fileOf(fd).mode = mode),
      fstat: (fd) => this.#stat(this.#opened(fd).file),
      lstat: (path) => {
        const inode = this.#find(path);
        return inode === null ? null : this.#stat(inode);
      },
      realpath: (path) => path,
      rename: (from, to) => this.#rename(from, to),
      link: (from, to) => {
        const inode = this.#need(from);
        if (this.#find(to) !== null) throw fail("EEXIST", to);
        this.#name([{ ...this.#place(to), to: inode }]);
      },
      unlink: (path) => {
        this.#need(path);
        this.#name([{ ...this.#place(path), to: null }]);
      },
      mkdir: (path) => void this.#mkdir(path),
      readdir: (path) => {
        const inode = this.#find(path);
        return inode === null ? null : [...this.#dirs.get(inode)!.keys()];
      },
      fsyncDir: (path) => void this.log.push({ op: "sync names", dir: this.#need(path) }),
      networkName: () => null,
      watch: () => () => undefined,
    };
  }

  #openFile(path: string, how: "read" | "append" | "create", mode: number): number {
    let inode = this.#find(path);
    if (how === "create") {
      if (inode !== null) throw fail("EEXIST", path);
      inode = this.#nextInode++;
      this.#files.set(inode, { bytes: Buffer.alloc(0), size: 0, mtime: this.#time(), mode, links: 0 });
      this.#name([{ ...this.#place(path), to: inode }]);
    }
    if (inode === null) throw fail("ENOENT", path);
    if (!this.#files.has(inode)) throw fail("EISDIR", path);
    const fd = this.#nextFd++;
    this.#open.set(fd, { file: inode, writes: how !== "read" });
    return fd;
  }

  #write(fd: number, bytes: Buffer): number {
    const { file, writes } = this.#opened(fd);
    if (!writes) throw fail("EBADF", "opened for reading");
    this.#do({ op: "write", file, at: this.#files.get(file)!.size, bytes, mtime: this.#time() });
    return bytes.length;
  }

  #truncate(fd: number, size: number): void {
    this.#do({ op: "truncate", file: this.#opened(fd).file, size, mtime: this.#time() });
  }

  #do(op: Op): void {
    this.log.push(op);
    if (op.op === "names") this.#setNames(op);
    if (op.op !== "write" && op.op !== "truncate") return;
    const live = this.#files.get(op.file)!;
    live.bytes = op.op === "write" ? Buffer.concat([live.bytes.subarray(0, live.size), op.bytes]) : Buffer.from(live.bytes.subarray(0, op.size));
    live.size = live.bytes.length;
    live.mtime = op.mtime;
  }

  #rename(from: string, to: string): void {
    const inode = this.#need(from);
    if (from === to || this.#find(to) === inode) return;
    this.#name([{ ...this.#place(from), to: null }, { ...this.#place(to), to: inode }]);
  }

  #mkdir(path: string): number {
    const there = this.#find(path);
    if (there !== null) return there;
    const cut = path.lastIndexOf("/");
    const dir = cut <= 0 ? ROOT : this.#mkdir(path.slice(0, cut));
    const inode = this.#nextInode++;
    this.#name([{ dir, name: path.slice(cut + 1), to: inode }], inode);
    return inode;
  }

  #name(entries: readonly Entry[], makes?: number): void {
    this.#do({ op: "names", entries, ...(makes === undefined ? {} : { makes }) });
  }

  #setNames({ entries, makes }: Names): void {
    if (makes !== undefined) this.#dirs.set(makes, new Map());
    for (const { dir, name, to } of entries) {
      if (to !== null && !this.#dirs.has(to)) this.#files.set(to, this.#files.get(to) ?? { bytes: Buffer.alloc(0), size: 0, mtime: this.#time(), mode: 0o600, links: 0 });
      this.#nextInode = Math.max(this.#nextInode, (to ?? 0) + 1);
      const names = this.#dirs.get(dir)!;
      this.#link(names.get(name), -1);
      if (to === null) names.delete(name);
      else names.set(name, to);
      this.#link(to ?? undefined, 1);
    }
  }

  #link(inode: number | undefined, by: number): void {
    const file = inode === undefined ? undefined : this.#files.get(inode);
    if (file) file.links += by;
  }

  #time(): number {
    return this.#now() + ++this.#tick / 1000;
  }

  #opened(fd: number): Open {
    const open = this.#open.get(fd);
    if (!open) throw fail("EBADF", String(fd));
    return open;
  }

  #fileOf(fd: number): Live {
    return this.#files.get(this.#opened(fd).file)!;
  }

  #stat(inode: number): FileStat {
    const file = this.#files.get(inode);
    const is = (answer: boolean) => () => answer;
    return {
      dev: 1, ino: inode, size: file?.size ?? 0, mode: file?.mode ?? 0o700, nlink: file?.links ?? 2, mtimeMs: file?.mtime ?? 0,
      isFile: is(file !== undefined), isDirectory: is(file === undefined), isSymbolicLink: is(false),
    };
  }

  #find(path: string): number | null {
    let inode = ROOT;
    for (const name of path.split("/")) {
      if (name === "") continue;
      const next = this.#dirs.get(inode)?.get(name);
      if (next === undefined) return null;
      inode = next;
    }
    return inode;
  }

  #need(path: string): number {
    const inode = this.#find(path);
    if (inode === null) throw fail("ENOENT", path);
    return inode;
  }

  #place(path: string): { dir: number; name: string } {
    const cut = path.lastIndexOf("/");
    const dir = cut <= 0 ? ROOT : this.#need(path.slice(0, cut));
    return { dir, name: path.slice(cut + 1) };
  }
}

// The disk, as something passed in: the few synchronous calls a durable store makes, so that a simulated disk can stand
// behind it. Also the atomic write and the file lock that users get. Invariant: a path shows its old content or the whole
// new one, whatever happens in between, and success means it is on the disk.
import { closeSync, constants, existsSync, fchmodSync, fchownSync, fdatasyncSync, fstatSync, fsyncSync, ftruncateSync, linkSync, lstatSync, mkdirSync, openSync, readdirSync, readSync, realpathSync, renameSync, statfsSync, unlinkSync, watch, writeSync } from "node:fs";
import type { Stats } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { type Clock, systemClock } from "./clock.ts";
import { messageOf, PawlError } from "./errors.ts";
import { type Random, systemRandom } from "./id.ts";
import { openLock, waitFor } from "./lock.ts";

export type FileStat = Pick<Stats, "dev" | "ino" | "size" | "mode" | "nlink" | "mtimeMs" | "isFile" | "isDirectory" | "isSymbolicLink"> & Partial<Pick<Stats, "uid" | "gid">>;

/** "read": what is there; "append": read it and write at its end; "create": new, refused when the name is taken. No links are followed. */
export type OpenHow = "read" | "append" | "create";

export type FileSystem = {
  open(path: string, how: OpenHow, mode?: number): number;
  close(fd: number): void;
  /** May read less than asked; 0 at the end. */
  read(fd: number, into: Uint8Array, offset: number, length: number, position: number): number;
  /** Writes at the end of what was written so far; may write less than asked. */
  write(fd: number, bytes: Uint8Array, offset: number, length: number): number;
  fdatasync(fd: number): void;
  fsync(fd: number): void;
  ftruncate(fd: number, size: number): void;
  fchmod(fd: number, mode: number): void;
  /** Absent where files have no owners. */
  fchown?(fd: number, uid: number, gid: number): void;
  fstat(fd: number): FileStat;
  /** Null when there is nothing of that name. */
  lstat(path: string): FileStat | null;
  realpath(path: string): string;
  rename(from: string, to: string): void;
  link(from: string, to: string): void;
  unlink(path: string): void;
  /** Creates missing parents too; fine when it is there. */
  mkdir(path: string, mode: number): void;
  /** Null when there is no such directory. */
  readdir(path: string): string[] | null;
  /** Makes the names in a directory durable. Does nothing where that is not possible (Windows). */
  fsyncDir(path: string): void;
  /** The name of the network file system a path is on, where locks and flushes cannot be relied on; null on a disk. */
  networkName(path: string): string | null;
  /** Calls back when something in the directory changes, as well as it can. */
  watch(directory: string, listener: () => void): () => void;
};

const HOW: Record<OpenHow, number> = {
  read: constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0),
  append: constants.O_RDWR | constants.O_APPEND | (constants.O_NOFOLLOW ?? 0),
  create: constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | (constants.O_NOFOLLOW ?? 0),
};

/** The numbers by which Linux calls them. */
const NETWORK = new Map([[0x6969, "NFS"], [0x517b, "SMB"], [0xfe534d42, "SMB"], [0xff534d42, "CIFS"], [0x01021997, "9p"], [0x5346414f, "AFS"], [0x564c, "NCP"]]);

export const nodeFs: FileSystem = {
  open: (path, how, mode = 0o600) => openSync(path, HOW[how], mode),
  close: closeSync,
  read: (fd, into, offset, length, position) => readSync(fd, into, offset, length, position),
  write: (fd, bytes, offset, length) => writeSync(fd, bytes, offset, length),
  fdatasync: fdatasyncSync,
  fsync: fsyncSync,
  ftruncate: ftruncateSync,
  fchmod: fchmodSync,
  fchown: fchownSync,
  fstat: (fd) => fstatSync(fd),
  lstat: (path) => lstatSync(path, { throwIfNoEntry: false }) ?? null,
  realpath: (path) => realpathSync(path),
  rename: renameSync,
  link: linkSync,
  unlink: unlinkSync,
  mkdir: (path, mode) => void makeFolders(path, mode),
  readdir: (path) => unlessMissing(() => readdirSync(path)),
  fsyncDir(path) {
    if (process.platform === "win32") return;
    const fd = openSync(path, constants.O_RDONLY);
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  },
  networkName: (path) => NETWORK.get(statfsSync(path).type) ?? null,
  watch(directory, listener) {
    const watcher = watch(directory, { persistent: false }, () => listener());
    watcher.on("error", () => watcher.close());
    return () => watcher.close();
  },
};

/** The code of a system error ("ENOENT"), if it is one. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** Null instead of an error when there is nothing of that name; every other error is thrown: unreadable is not empty. */
export function unlessMissing<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (codeOf(error) === "ENOENT") return null;
    throw error;
  }
}

/** What the disk threw, as an error of ours. */
export function fromDisk(error: unknown, path: string): unknown {
  if (error instanceof PawlError || codeOf(error) === undefined) return error;
  return new PawlError("storage", `${path} cannot be used: ${messageOf(error)}.`, { next: "Check the permissions, the free space and the health of the disk.", cause: error });
}

/**
 * Where a file that is, or is to be, a state really is: absolute, a symbolic link followed. Throws `usage` for what cannot be
 * one. It is asked before anything is opened, because opening a pipe may wait for ever.
 */
export function stateFile(fs: Pick<FileSystem, "lstat" | "realpath">, path: string): string {
  if (path.includes("\0")) throw new PawlError("usage", "The path of the state contains a NUL character.", { next: "Name a file, such as state.json." });
  let file = resolve(path);
  if (fs.lstat(file)?.isSymbolicLink()) file = followLink(fs, file);
  const stat = fs.lstat(file);
  if (!stat || stat.isFile()) return file;
  throw new PawlError("usage", `${path} is ${stat.isDirectory() ? "a directory" : "not a regular file"}, so it cannot be a state.`, { next: "Name a file, such as state.json." });
}

function followLink(fs: Pick<FileSystem, "realpath">, file: string): string {
  try {
    return fs.realpath(file);
  } catch (error) {
    throw new PawlError("usage", `${file} is a symbolic link that leads nowhere: ${messageOf(error)}.`, { next: "Remove the link or create what it names.", cause: error });
  }
}

/** The whole content of a file, null when there is none. */
export function readWhole(fs: FileSystem, path: string): Buffer | null {
  const fd = unlessMissing(() => fs.open(path, "read"));
  if (fd === null) return null;
  try {
    return readRange(fs, fd, 0, fs.fstat(fd).size);
  } finally {
    fs.close(fd);
  }
}

/** The bytes from `start` to `end`, fewer when the file ends before. */
export function readRange(fs: FileSystem, fd: number, start: number, end: number): Buffer {
  return readInto(fs, fd, Buffer.allocUnsafe(Math.max(end - start, 0)), start);
}

/** Fills `bytes` from `start` on; what comes back is shorter when the file ends before. */
export function readInto(fs: FileSystem, fd: number, bytes: Buffer, start: number): Buffer {
  let length = 0;
  while (length < bytes.length) {
    const n = fs.read(fd, bytes, length, bytes.length - length, start + length);
    if (n === 0) break;
    length += n;
  }
  return length === bytes.length ? bytes : bytes.subarray(0, length);
}

/** Writes all bytes, over as many calls as the disk needs. */
export function writeAll(fs: FileSystem, fd: number, bytes: Uint8Array, length = bytes.length): void {
  let done = 0;
  while (done < length) {
    const n = fs.write(fd, bytes, done, length - done);
    if (n <= 0) throw new PawlError("storage", "The disk took no more bytes and gave no reason.", { next: "Check that the disk is healthy and has room." });
    done += n;
  }
}

/**
 * Makes a folder and those above it that are missing; gives the topmost one it made. One by one, because Node's own recursion
 * never ends where a folder is missing and cannot be made (/proc).
 */
export function makeFolders(path: string, mode: number): string | undefined {
  const missing: string[] = [];
  for (let at = path; !existsSync(at); at = dirname(at)) missing.unshift(at);
  for (const folder of missing) {
    try {
      mkdirSync(folder, { mode });
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
    }
  }
  return missing[0];
}

/** A new file with these bytes, flushed and of the size it must have; its stat comes back. Nothing is left behind on failure. */
export function createFile(fs: FileSystem, path: string, pieces: Iterable<Uint8Array>, mode: number, like: FileStat | null = null): FileStat {
  const fd = fs.open(path, "create", mode);
  try {
    let size = 0;
    for (const piece of pieces) {
      writeAll(fs, fd, piece);
      size += piece.length;
    }
    return finishFile(fs, fd, size, mode, like);
  } catch (error) {
    removeQuietly(fs, path);
    throw error;
  } finally {
    fs.close(fd);
  }
}

/** Bytes between two flushes of a large file, so that no single one holds the disk (and this process) for long. */
const SLICE_BYTES = 1 << 20;
/** Bytes between two pauses. */
const PAUSE_BYTES = 1 << 18;

/** As `createFile`, for a large file that nobody waits for: `pause` is awaited between pieces. */
export async function createFileInSlices(fs: FileSystem, path: string, pieces: Iterable<Uint8Array>, mode: number, pause: () => Promise<void>, like: FileStat | null = null): Promise<FileStat> {
  const fd = fs.open(path, "create", mode);
  try {
    let size = 0;
    let flushed = 0;
    let paused = 0;
    for (const piece of pieces) {
      writeAll(fs, fd, piece);
      size += piece.length;
      if (size - paused < PAUSE_BYTES) continue;
      if (size - flushed >= SLICE_BYTES) {
        fs.fdatasync(fd);
        flushed = size;
      }
      paused = size;
      await pause();
    }
    return finishFile(fs, fd, size, mode, like);
  } catch (error) {
    removeQuietly(fs, path);
    throw error;
  } finally {
    fs.close(fd);
  }
}

/** Bytes of a file that is copied, read and written at once. */
const COPY_BYTES = 4 << 20;

/** The first `size` bytes of a file (all, unless told) in a new file of its owner alone, flushed. */
export function copyFile(fs: FileSystem, from: string, to: string, size?: number): void {
  const fd = fs.open(from, "read");
  function* pieces(): Iterable<Buffer> {
    const end = size ?? fs.fstat(fd).size;
    for (let at = 0; at < end; at += COPY_BYTES) yield readRange(fs, fd, at, Math.min(at + COPY_BYTES, end));
  }
  try {
    createFile(fs, to, pieces(), 0o600);
  } finally {
    fs.close(fd);
  }
}

/** The last steps of every new file: the owner of the file it stands for, exact mode whatever the umask, size check, flush. */
export function finishFile(fs: FileSystem, fd: number, size: number, mode: number, like: FileStat | null = null): FileStat {
  if (like) keepOwner(fs, fd, like);
  fs.fchmod(fd, mode);
  const stat = fs.fstat(fd);
  if (stat.size !== size) throw new PawlError("storage", `A new file has ${stat.size} bytes instead of ${size}.`, { next: "Check that the disk is healthy and has room." });
  fs.fsync(fd);
  return stat;
}

/** What root writes for somebody stays readable for them. Others may give nothing away, and then it is theirs. */
function keepOwner(fs: FileSystem, fd: number, { uid, gid }: FileStat): void {
  const now = fs.fstat(fd);
  if (uid === undefined || gid === undefined || (now.uid === uid && now.gid === gid)) return;
  try {
    fs.fchown?.(fd, uid, gid);
  } catch (error) {
    if (codeOf(error) !== "EPERM") throw error;
  }
}

export function removeQuietly(fs: FileSystem, path: string): void {
  try {
    fs.unlink(path);
  } catch {
    // It is gone, or cannot be removed: either way nothing depends on it.
  }
}

export type WriteOptions = { readonly mode?: number; readonly fs?: FileSystem; readonly random?: Random };

/**
 * Replaces the file at `path` by `text`, whole or not at all, durable when it returns. Keeps mode and owner of the file that
 * was there (0600 for a new one unless `mode` says otherwise) and follows a symbolic link to the file it names.
 */
export function writeFileAtomic(path: string, text: string | Uint8Array, options: WriteOptions = {}): void {
  const fs = options.fs ?? nodeFs;
  const target = fs.lstat(path)?.isSymbolicLink() ? fs.realpath(path) : path;
  const before = fs.lstat(target);
  if (before && !before.isFile()) throw new PawlError("usage", `${path} is not a regular file, so it cannot be written.`, { next: "Name another path." });
  const mode = options.mode ?? (before ? before.mode & 0o777 : 0o600);
  const temp = join(dirname(target), `.${basename(target)}.${(options.random ?? systemRandom).hex(8)}.tmp`);
  createFile(fs, temp, [typeof text === "string" ? Buffer.from(text) : text], mode, before);
  try {
    fs.rename(temp, target);
  } catch (error) {
    removeQuietly(fs, temp);
    throw error;
  }
  fs.fsyncDir(dirname(target));
}

export type FileLockOptions = { readonly clock?: Clock; readonly random?: Random; readonly notice?: (line: string) => void };

/**
 * Runs `fn` while no other process (and no other caller in this one) runs under the same path. The lock file is
 * `<path>.lock`; the kernel frees it when the process dies, and it is never deleted. Waits up to LIMITS.lockWaitMs, then `busy`.
 */
export async function withFileLock<T>(path: string, fn: () => T | Promise<T>, options: FileLockOptions = {}): Promise<T> {
  const lock = openLock(`${path}.lock`);
  try {
    await waitFor(() => lock.tryLock(), lock, { clock: options.clock ?? systemClock, random: options.random ?? systemRandom, notice: options.notice, what: path });
    try {
      return await fn();
    } finally {
      lock.unlock();
    }
  } finally {
    lock.close();
  }
}

// Locks that the kernel frees when a process dies, however it dies: `BEGIN EXCLUSIVE` on a small SQLite file.
// Invariant: a lock is never taken by age, and its file is never deleted nor opened by fs (closing it would drop the
// lock). What runs under a Turn is synchronous, so no signal and no other task can come between its lock and its unlock.
import { chmodSync, readFileSync, statSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import { type Clock, sleep } from "./clock.ts";
import { messageOf, PawlError } from "./errors.ts";
import type { Random } from "./id.ts";
import { LIMITS } from "./limits.ts";

export type FileIdentity = { readonly dev: number; readonly ino: number };

export type Lock = {
  /** Takes the lock if it is free. Throws `storage` when the file at its path is no longer the one that was opened. */
  tryLock(): boolean;
  unlock(): void;
  /** Frees the lock and the file handle; the file stays. */
  close(): void;
  readonly path: string;
  readonly identity: FileIdentity;
};

const SQLITE_BUSY = 5;
const SQLITE_NOTADB = 26;

/** Opens (creates) a lock file. The first lock on a new file writes its one page, safely against other processes and crashes. */
export function openLock(path: string): Lock {
  const isNew = identityOf(path) === null;
  const db = openDatabase(path, path);
  // node:sqlite creates files by the umask; a lock file is nobody else's business. One that is there may be another user's.
  if (isNew) chmodSync(path, 0o600);
  const identity = identityOf(path);
  if (!identity) throw replaced(path);
  const begin = db.prepare("BEGIN EXCLUSIVE");
  const end = db.prepare("COMMIT");
  return {
    path,
    identity,
    tryLock() {
      if (!begins(() => begin.run(), path)) return false;
      if (isFile(identityOf(path), identity)) return true;
      end.run();
      throw replaced(path);
    },
    unlock: () => void end.run(),
    close: () => db.close(),
  };
}

/**
 * Whether the lock of another process is still held. "unknown" when the file is missing or is not the one that was
 * recorded: then nothing may be concluded. Creates nothing and keeps nothing.
 */
export function probeLock(path: string, expected: FileIdentity): "held" | "free" | "unknown" {
  const same = () => isFile(identityOf(path), expected);
  if (!same()) return "unknown";
  let db: DatabaseSync | undefined;
  try {
    const url = pathToFileURL(path);
    url.searchParams.set("mode", "rw");
    db = openDatabase(url, path);
    const free = begins(() => db!.exec("BEGIN EXCLUSIVE"), path);
    if (free) db.exec("ROLLBACK");
    return same() ? (free ? "free" : "held") : "unknown";
  } catch {
    return "unknown";
  } finally {
    db?.close();
  }
}

function openDatabase(place: string | URL, path: string): DatabaseSync {
  try {
    return new DatabaseSync(place, { timeout: 0 });
  } catch (error) {
    throw unusable(path, error);
  }
}

/** Runs BEGIN EXCLUSIVE; false when another connection is in. */
function begins(run: () => void, path: string): boolean {
  try {
    run();
    return true;
  } catch (error) {
    const code = (error as { errcode?: number }).errcode ?? 0;
    if ((code & 0xff) === SQLITE_BUSY) return false;
    throw unusable(path, error);
  }
}

/** Which file is at this path now; null when there is none. */
export function identityOf(path: string): FileIdentity | null {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat ? { dev: stat.dev, ino: stat.ino } : null;
}

export const isFile = (now: FileIdentity | null, expected: FileIdentity): boolean => now !== null && now.dev === expected.dev && now.ino === expected.ino;

function replaced(path: string): PawlError {
  return new PawlError("storage", `The lock file ${path} was removed or replaced while it was in use.`, {
    next: "Stop every process that uses this state, then open it again.",
  });
}

function unusable(path: string, error: unknown): PawlError {
  const damaged = (error as { errcode?: number }).errcode === SQLITE_NOTADB;
  return new PawlError("storage", `The lock file ${path} cannot be used: ${messageOf(error)}.`, {
    next: damaged ? "Something wrote into it. Stop every process that uses this state, remove the file, and try again." : "Check the permissions of its folder and that the disk has room.",
    cause: error,
  });
}

export type WaitOptions = { readonly clock: Clock; readonly random: Random; readonly notice?: ((line: string) => void) | undefined; readonly what: string };

/** Tries until it works; names the holder after LIMITS.lockNoticeMs and fails `busy` after LIMITS.lockWaitMs. */
export async function waitFor(attempt: () => boolean, lock: Lock, options: WaitOptions): Promise<void> {
  const { clock, random } = options;
  const start = clock.monotonic();
  let told = false;
  while (!attempt()) {
    const waited = clock.monotonic() - start;
    if (waited >= LIMITS.lockWaitMs) throw busy(lock, options.what);
    if (!told && waited >= LIMITS.lockNoticeMs) {
      told = true;
      options.notice?.(`Waiting for ${options.what}: ${holderOf(lock) ?? "another process"} holds its lock.`);
    }
    // A turn takes well under a millisecond, and whoever waits longer must not ask less often than whoever just came; only
    // a holder that hangs is asked more rarely.
    await sleep(clock, (waited < 1_000 ? 1 : 5) * (0.5 + random.number()));
  }
}

function busy(lock: Lock, what: string): PawlError {
  const holder = holderOf(lock);
  return new PawlError("busy", `${what} has been locked for ${LIMITS.lockWaitMs / 1000} s by ${holder ?? "another process"}.`, {
    next: holder ? "See whether that process hangs or was stopped (Ctrl-Z); end it or let it go on, then try again." : "Find the process that uses this state, end it or let it go on, then try again.",
    details: { holder: holder ?? null },
  });
}

/** Who holds the lock, as the kernel tells it ("process 123 (node worker.ts)"); null where it does not. */
export function holderOf(lock: Pick<Lock, "identity">): string | null {
  try {
    // A line is `1: POSIX ADVISORY WRITE <pid> <dev>:<inode> <from> <to>`; SQLite locks bytes from 2^30 on.
    const lines = readFileSync("/proc/locks", "utf8").split("\n").map((line) => line.trim().split(/\s+/));
    const found = lines.find((parts) => parts[3] === "WRITE" && parts[5]?.endsWith(`:${lock.identity.ino}`) && Number(parts[6]) >= 2 ** 30);
    const pid = Number(found?.[4]);
    if (!(pid > 0)) return null;
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim().slice(0, 120);
    return `process ${pid}${command ? ` (${command})` : ""}`;
  } catch {
    return null;
  }
}

type Waiting = { readonly section: () => unknown; readonly resolve: (value: never) => void; readonly reject: (error: unknown) => void };

/** After this long, or this many turns, without passing the gate a writer passes it again, so that one who waits there gets in. */
const GATE_EVERY_MS = 2;
const GATE_EVERY_TURNS = 50;

/** A writer that has left the lock this long ago may take it, where it is free, without passing the gate: once, so it keeps nobody out. */
const RESTED_MS = 5;

/**
 * Writers' turns at one state. A writer passes the gate, takes the lock, leaves the gate; one that waits for the lock keeps
 * the gate, so that a busy writer cannot get past it again and again.
 */
export class Turn {
  readonly #lock: Lock;
  readonly #gate: Lock;
  readonly #options: WaitOptions;
  readonly #queue: Waiting[] = [];
  #passedAt = -Infinity;
  #leftAt = -Infinity;
  #turns = 0;
  #atGate = false;
  #waiting = false;
  #closed = false;

  constructor(lock: string, gate: string, options: WaitOptions) {
    this.#lock = openLock(lock);
    this.#gate = openLock(gate);
    this.#options = options;
    holdStops(this);
  }

  get identity(): FileIdentity {
    return this.#lock.identity;
  }

  /** Runs a synchronous section under the lock: at once when nobody else is in, else when its turn comes. */
  run<T>(section: () => T): Promise<T> {
    try {
      if (this.#closed) throw new PawlError("closed", "The state is closed.", { next: "Open it again." });
      if (this.#queue.length === 0 && (this.#enterRested() || this.#enter())) return Promise.resolve(this.#inside(section));
    } catch (error) {
      this.leaveGate();
      return Promise.reject(error);
    }
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({ section, resolve: resolve as (value: never) => void, reject });
      if (!this.#waiting) void this.#wait();
    });
  }

  /** Lets go of both files. Sections that still wait are refused. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#lock.close();
    this.#gate.close();
    releaseStops(this);
  }

  /** Lets others pass the gate: called before this process is stopped for who knows how long. */
  leaveGate(): void {
    if (this.#atGate && !this.#closed) this.#gate.unlock();
    this.#atGate = false;
  }

  #inside<T>(section: () => T): T {
    try {
      return section();
    } finally {
      this.#lock.unlock();
      // Not when it came in: a flush may take longer than a rest.
      this.#leftAt = this.#options.clock.monotonic();
    }
  }

  /** Only for who just came: one that has to wait does so at the gate. */
  #enterRested(): boolean {
    const now = this.#options.clock.monotonic();
    return !this.#atGate && now - this.#leftAt >= RESTED_MS && this.#lock.tryLock();
  }

  #enter(): boolean {
    const now = this.#options.clock.monotonic();
    if (!this.#atGate && (now - this.#passedAt > GATE_EVERY_MS || ++this.#turns > GATE_EVERY_TURNS)) {
      if (!this.#gate.tryLock()) return false;
      this.#atGate = true;
    }
    if (!this.#lock.tryLock()) return false;
    if (this.#atGate) {
      this.#gate.unlock();
      this.#atGate = false;
      this.#passedAt = now;
      this.#turns = 0;
    }
    return true;
  }

  /** Waits for the turn, then runs everything that waits here under it. */
  async #wait(): Promise<void> {
    this.#waiting = true;
    while (this.#queue.length > 0) {
      let failure: unknown;
      await waitFor(() => {
        if (this.#closed) throw new PawlError("closed", "The state was closed before this change had its turn.", { next: "Open it again." });
        if (!this.#enter()) return false;
        this.#inside(() => this.#drain());
        return true;
      }, this.#lock, this.#options).catch((error: unknown) => (failure = error));
      if (failure === undefined) continue;
      this.leaveGate();
      for (const { reject } of this.#queue.splice(0)) reject(failure);
    }
    this.#waiting = false;
  }

  #drain(): void {
    for (const { section, resolve, reject } of this.#queue.splice(0)) {
      try {
        resolve(section() as never);
      } catch (error) {
        reject(error);
      }
    }
  }
}

const turns = new Set<Turn>();

/**
 * Ctrl-Z stops a process at once, even in the middle of a write under the lock, and everyone else would wait. With a
 * listener Node delivers it between synchronous sections, where no lock is held; only then the process stops itself.
 */
function holdStops(turn: Turn): void {
  if (turns.size === 0 && process.platform !== "win32") process.on("SIGTSTP", stopNow);
  turns.add(turn);
}

function releaseStops(turn: Turn): void {
  turns.delete(turn);
  if (turns.size === 0) process.removeListener("SIGTSTP", stopNow);
}

function stopNow(): void {
  // A program with a listener of its own decides for itself.
  if (process.listenerCount("SIGTSTP") > 1) return;
  for (const turn of turns) turn.leaveGate();
  process.kill(process.pid, "SIGSTOP");
}

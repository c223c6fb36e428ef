// The SQLite store: one file, real tables, one connection. Everything that touches the database is synchronous and short;
// only waiting for another process is not. Invariant: a promise of `commit` resolves after SQLite flushed the
// transaction, and after a flush that failed nothing more is written, because nobody knows what the file holds.
import { existsSync, type FSWatcher, watch } from "node:fs";
import { basename, dirname } from "node:path";
import { sleep } from "../../base/clock.ts";
import { isPawlError, PawlError } from "../../base/errors.ts";
import { fromDisk, nodeFs, stateFile } from "../../base/fs.ts";
import { LIMITS } from "../../base/limits.ts";
import { Turn } from "../../base/lock.ts";
import { formatOf, olderFormat } from "../migrations.ts";
import { configure, connect, explain, isBusy, type Mode, needsWriting, type Driver, type Probes } from "./driver.ts";
import { beginMoment, newSession, runBatch, runClaim, runUser, sealOf, type Session, snapshot, tableOf } from "./commit.ts";
import { beginLoad, countersOf, loadCounters, loadPiece, setSeal } from "./move.ts";
import { belongsToPawl, bootId, createEmpty, getNote, migrate, presentIn, quickCheck, recognise, refuseNetwork, refuseRemains, schemaOf, wasCutOff } from "./schema.ts";
import { upgrade } from "./upgrade.ts";
import { countRecords, countRecordsBy, getRecord, limitOf, listRecords, type Table } from "./table.ts";
import { indexText, tableText, type Present } from "../sql.ts";
import type { Change, Claim, ClaimOrder, Counters, Decide, Key, Model, OpenOptions, Piece, Query, Rec, Result, Seal, SqliteHandle, Store } from "../store.ts";

/** How long after a change by another process the listeners are told, in ms: a burst of commits is one hint. */
const WATCH_MS = 5;

export async function openSqlite(path: string, model: Model, options: OpenOptions, probes: Probes = {}): Promise<Store> {
  let place = path;
  try {
    place = stateFile(nodeFs, path);
    if (options.readOnly) return await whenFree(() => new SqliteStore(place, options, null, () => openToRead(place, model, probes, options.moment === true)), place, options);
    const session = await openToWrite(place, model, options, probes);
    try {
      return new SqliteStore(place, options, session, null);
    } catch (error) {
      session.db.close();
      throw error;
    }
  } catch (error) {
    throw fromDisk(explain(error, place), place);
  }
}

async function openToWrite(path: string, model: Model, options: OpenOptions, probes: Probes): Promise<Session> {
  const free = <T>(run: () => T) => whenFree(run, path, options);
  refuseNetwork(dirname(path), probes);
  // Looked at first: opening the file recovers and so removes what tells of an unclean stop.
  const cutOff = wasCutOff(path);
  refuseRemains(path);
  createEmpty(path);
  await free(() => recognise(path, formatOf(model)));
  const db = connect(path, "write");
  try {
    await free(() => belongsToPawl(db, path, formatOf(model)));
    await free(() => configure(db, true, probes));
    await free(() => bringUpToDate(db, path, model, options, bootId(probes), cutOff));
    return newSession(db, path, model);
  } catch (error) {
    db.close();
    throw error;
  }
}

function bringUpToDate(db: Driver, path: string, model: Model, options: OpenOptions, boot: string | null, cutOff: boolean): void {
  const ours = belongsToPawl(db, path, formatOf(model)) === "ours";
  const sameBoot = ours && boot !== null && getNote(db, "boot") === boot;
  if (ours && cutOff && !sameBoot) quickCheck(db, path);
  if (ours) upgrade(db, path, model, options);
  if (ours && (sameBoot || boot === null) && getNote(db, "schema") === schemaOf(model)) return;
  db.exec("begin immediate");
  try {
    migrate(db, path, model, boot);
    db.exec("commit");
  } catch (error) {
    if (db.inTransaction) db.exec("rollback");
    throw error;
  }
}

/** Null when there is nothing to read yet. "frozen" tells that the file may change unseen, so it is opened anew for each reading. */
type Reading = { readonly session: Session; readonly frozen: boolean } | null;

function openToRead(path: string, model: Model, probes: Probes, moment: boolean): Reading {
  if (!existsSync(path)) return null;
  refuseNetwork(dirname(path), probes);
  refuseRemains(path);
  const open = (mode: Mode): Reading => {
    const db = connect(path, mode);
    try {
      if (belongsToPawl(db, path, formatOf(model)) === "empty") {
        db.close();
        return null;
      }
      const format = Number(db.value("pragma user_version"));
      if (format < formatOf(model)) throw olderFormat(path, format, formatOf(model));
      configure(db, false, probes);
      const session = sessionOn(db, path, model);
      if (moment && mode === "read") beginMoment(session);
      return { session, frozen: mode === "frozen" };
    } catch (error) {
      db.close();
      throw error;
    }
  };
  try {
    return open("read");
  } catch (error) {
    // A folder that cannot be written has no room for SQLite's shared memory. Without a log nobody is writing either.
    if (!needsWriting(error) || wasCutOff(path)) throw error;
    return open("frozen");
  }
}

/** A session on a file that may be older than the model: what is missing reads as empty, and nothing is added to the file. */
function sessionOn(db: Driver, path: string, model: Model): Session {
  if (getNote(db, "schema") === schemaOf(model)) return newSession(db, path, model);
  const present = new Map<string, Present>();
  for (const kind of model.kinds) {
    const found = presentIn(db, kind);
    if (found) present.set(kind.name, found);
    else for (const text of [tableText(kind), ...Object.keys(kind.indexes).map((name) => indexText(kind, name))]) db.exec(temporary(text));
  }
  return newSession(db, path, model, (kind) => present.get(kind) ?? null);
}

const temporary = (text: string): string => text.replace(/^create table /, "create temp table ").replace(/^(create (?:unique )?index )/, "$1temp.");

/** Tries until no other process is in the way; says so after LIMITS.lockNoticeMs and fails `busy` after LIMITS.lockWaitMs. */
async function whenFree<T>(attempt: () => T | Promise<T>, path: string, { clock, random, notice }: OpenOptions): Promise<T> {
  const start = clock.monotonic();
  let told = false;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!isBusy(error)) throw error;
      const waited = clock.monotonic() - start;
      if (waited >= LIMITS.lockWaitMs) {
        throw new PawlError("busy", `${path} has been locked by another process for ${Math.round(waited / 1000)} s.`, {
          next: "See whether a process that uses it hangs or was stopped (Ctrl-Z); end it or let it go on, then try again.",
          details: { path },
          cause: error,
        });
      }
      if (!told && waited >= LIMITS.lockNoticeMs) {
        told = true;
        notice?.(`Waiting for ${path}: another process is writing to it.`);
      }
      // A commit takes about a millisecond, so the first tries come quickly; a holder that hangs is asked less often.
      await sleep(clock, (waited < 50 ? 0.5 : 5) * (1 + 2 * random.number()));
    }
  }
}

function newTurn(path: string, { clock, random, notice }: OpenOptions): Turn {
  return new Turn(`${path}-turn`, `${path}-gate`, { clock, random, notice, what: path });
}

class SqliteStore implements Store {
  readonly clock: OpenOptions["clock"];
  readonly location: string;
  readonly #options: OpenOptions;
  /** Null in a store that only reads and must open the file for each reading. */
  #session: Session | null;
  readonly #reading: (() => Reading) | null;
  readonly #listeners = new Set<() => void>();
  #watcher: FSWatcher | null = null;
  #version: unknown;
  #hint: (() => void) | null = null;
  /** Writers of all processes take turns. SQLite's own lock alone is safe, but with twenty writers one waited a second. */
  #turn: Turn | null;
  /** The last writer of this process that found the file locked nonetheless; those who come later wait behind it. */
  #last: Promise<unknown> | null = null;
  #broken: PawlError | null = null;
  #closed = false;

  constructor(path: string, options: OpenOptions, session: Session | null, reading: (() => Reading) | null) {
    this.location = path;
    this.clock = options.clock;
    this.#options = options;
    this.#session = session;
    this.#reading = reading;
    this.#turn = reading ? null : newTurn(path, options);
    // A file that is not ours is told at once, not at the first reading.
    if (reading) this.#with(() => undefined);
  }

  get(kind: string, keys: readonly Key[]): Promise<(Rec | null)[]> {
    return this.#read(kind, keys.map(() => null), (table, session) => {
      const records = () => keys.map((key) => getRecord(table, key));
      return keys.length > 1 ? snapshot(session, records) : records();
    });
  }

  list(kind: string, query: Query = {}): Promise<Rec[]> {
    return this.#read(kind, [], (table, session) => {
      const records = () => listRecords(table, query, limitOf(query));
      return query.after ? snapshot(session, records) : records();
    });
  }

  count(kind: string, query?: Query): Promise<number>;
  count(kind: string, query: Query, by: string): Promise<Record<string, number>>;
  count(kind: string, query: Query = {}, by?: string): Promise<number | Record<string, number>> {
    if (by === undefined) return this.#read(kind, 0, (table) => countRecords(table, query));
    return this.#read(kind, {}, (table) => countRecordsBy(table, query, by));
  }

  commit(changes: readonly (Change | Claim)[]): Promise<Result[]> {
    return this.#write((session) => {
      const results = changes.length > 0 ? runBatch(session, changes, this.clock.now()) : [];
      if (results.some((result) => result.ok)) this.#tell();
      return results;
    });
  }

  async transact(body: (sql: SqliteHandle) => Change | Promise<Change>): Promise<Result> {
    const outcome = await this.#write((session) => runUser(session, body, this.clock.now()));
    if ("thrown" in outcome) throw outcome.thrown;
    if (outcome.ok) this.#tell();
    return outcome;
  }

  claim(order: ClaimOrder, decide: Decide): Promise<Result | null> {
    return this.#write((session) => {
      const result = runClaim(session, order, decide, this.clock.now());
      if (result?.ok) this.#tell();
      return result;
    });
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    if (!this.#watcher && !this.#closed) this.#startWatching();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#stopWatching();
    };
  }

  async seal(seal: Seal | null, was?: Seal | null): Promise<void> {
    await this.#write((session) => setSeal(session, seal, was));
    this.#tell();
  }

  sealed(): Promise<Seal | null> {
    return this.#fetch(null, sealOf);
  }

  counters(): Promise<Counters> {
    return this.#fetch({}, countersOf);
  }

  async load(pieces: AsyncIterable<Piece>, counters: Counters): Promise<void> {
    const seal = await this.#write(beginLoad);
    for await (const piece of pieces) await this.#write((session) => loadPiece(session, seal, piece));
    await this.#write((session) => loadCounters(session, seal, counters));
    this.#tell();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#listeners.clear();
    this.#stopWatching();
    this.#turn?.close();
    await this.#last?.catch(() => undefined);
    const db = this.#session?.db;
    this.#session = null;
    if (!db) return;
    try {
      // The last connection does this by itself; with others still open it keeps the log short. No statistics are
      // gathered (`optimize`): every read names its index, so the planner has nothing to learn.
      if (!this.#reading && !this.#broken) db.exec("pragma wal_checkpoint(truncate)");
    } catch {
      // Another process is in the middle of something; the log is checkpointed later.
    }
    db.close();
  }

  /* ---------- reading and writing ---------- */

  /** Runs on the connection, which a store that only reads may have to open first. */
  #with<T>(run: (session: Session | null) => T): T {
    if (this.#closed) throw new PawlError("closed", "The state is closed.", { next: "Open it again." });
    if (this.#session) return run(this.#session);
    const reading = this.#reading!();
    if (!reading?.frozen) {
      this.#session = reading?.session ?? null;
      return run(this.#session);
    }
    try {
      return run(reading.session);
    } finally {
      reading.session.db.close();
    }
  }

  /** The first try is made before anything is awaited; only in the rare case that the file is locked is there something to wait for. */
  #read<T>(kind: string, none: T, read: (table: Table, session: Session) => T): Promise<T> {
    return this.#fetch(none, (session) => read(tableOf(session, kind), session));
  }

  #fetch<T>(none: T, read: (session: Session) => T): Promise<T> {
    const attempt = () => this.#with((session) => (session ? read(session) : none));
    try {
      return Promise.resolve(attempt());
    } catch (error) {
      if (!isBusy(error)) return Promise.reject(this.#explained(error));
      return whenFree(attempt, this.location, this.#options).catch((failure: unknown) => Promise.reject(this.#explained(failure)));
    }
  }

  /** At once when nobody else writes, else when it is this process's turn. */
  #write<T>(write: (session: Session) => T): Promise<T> {
    if (!this.#turn) return Promise.reject(new PawlError("usage", `${this.location} was opened for reading only.`));
    const section = () => {
      if (this.#broken) throw this.#broken;
      return this.#with((session) => write(session!));
    };
    const attempt = () => this.#inTurn(section);
    const first = this.#last ? this.#queue(attempt) : attempt().catch((error: unknown) => (isBusy(error) ? this.#queue(attempt) : Promise.reject(error)));
    return first.catch((error: unknown) => Promise.reject(this.#explained(error)));
  }

  #inTurn<T>(section: () => T): Promise<T> {
    return this.#turn!.run(section).catch((error: unknown) => {
      if (!isPawlError(error, "storage") || this.#closed) throw error;
      // Somebody removed the files of the turns. They only make waiting fair, so new ones will do.
      this.#turn!.close();
      this.#turn = newTurn(this.location, this.#options);
      return this.#turn.run(section);
    });
  }

  /** Waits for a program that writes without taking turns, such as a SQLite shell. */
  #queue<T>(attempt: () => Promise<T>): Promise<T> {
    const turn = (this.#last ?? Promise.resolve()).then(() => whenFree(attempt, this.location, this.#options));
    const done: Promise<unknown> = turn
      .catch(() => undefined)
      .then(() => {
        if (this.#last === done) this.#last = null;
      });
    this.#last = done;
    return turn;
  }

  #explained(error: unknown): unknown {
    const explained = explain(error, this.location);
    if (isPawlError(explained, "commit_unknown")) this.#broken = explained;
    return explained;
  }

  /* ---------- watching ---------- */

  #tell(): void {
    for (const listener of this.#listeners) setImmediate(() => this.#listeners.has(listener) && listener());
  }

  /** Watches the folder: the database's own files must never be opened past SQLite, not even to watch them. */
  #startWatching(): void {
    const name = basename(this.location);
    this.#version = this.#dataVersion();
    try {
      this.#watcher = watch(dirname(this.location), { persistent: false }, (_event, file) => {
        if (file === null || file.startsWith(name)) this.#hint ??= this.clock.timer(WATCH_MS, () => this.#look(), false);
      });
      this.#watcher.on("error", () => this.#stopWatching());
    } catch {
      // Without watching there are no hints from other processes; nothing depends on them.
    }
  }

  #stopWatching(): void {
    this.#watcher?.close();
    this.#watcher = null;
    this.#hint?.();
    this.#hint = null;
  }

  /** Tells the listeners when another connection committed; this store's own commits told them already. */
  #look(): void {
    this.#hint = null;
    const version = this.#dataVersion();
    if (version !== null && version === this.#version) return;
    this.#version = version;
    this.#tell();
  }

  /** Moves when another connection commits; null when it cannot be read. */
  #dataVersion(): unknown {
    try {
      return this.#with((session) => session?.verbs.version.get()?.[0] ?? null);
    } catch {
      return null;
    }
  }
}

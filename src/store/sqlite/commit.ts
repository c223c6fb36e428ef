// Changes applied to a SQLite connection: one transaction a batch, all or nothing a change. Invariant: what a change
// wrote before it failed is taken back before anything is committed.
//
// The fast way takes no savepoints: a change checks before it writes, so one that fails has mostly written nothing. Only
// if one failed after a write is the batch run again, then with a savepoint around every change.
import { iso } from "../../base/clock.ts";
import { messageOf, PawlError } from "../../base/errors.ts";
import { type FileIdentity, identityOf, isFile } from "../../base/lock.ts";
import { refusedBy } from "../check.ts";
import { compareBy } from "../compare.ts";
import { isBadData, isBusy, type Driver, type Statement } from "./driver.ts";
import { checkIs, findUnique, getRecord, listRecords, newTable, type Table, type Tally } from "./table.ts";
import { runUserSql } from "./user.ts";
import { deleteRecord, forget, forgetMuch, forgetRows, type Ids, keepNextId, putRecord, setFields, type Taken } from "./write.ts";
import type { Present } from "../sql.ts";
import type { Addition, Change, Claim, ClaimOrder, Conflict, Decide, Guard, Model, Put, Rec, Result, Seal, SqliteHandle } from "../store.ts";

/** A connection with the tables of the model. */
export type Session = {
  readonly db: Driver;
  readonly path: string;
  /** The file that was opened. */
  readonly identity: FileIdentity | null;
  readonly tables: ReadonlyMap<string, Table>;
  /**
   * The data version of SQLite up to which what is remembered holds: it moves when another connection commits. Set it to
   * null after writing past the tables.
   */
  version: unknown;
  /** The seal as of that version. */
  seal: Seal | null;
  readonly tally: Tally;
  readonly verbs: { readonly [verb in Verb]: Statement };
};
type Verb = "version" | "begin" | "beginRead" | "commit" | "rollback" | "savepoint" | "back" | "release" | "sealed";

export function newSession(db: Driver, path: string, model: Model, presentOf: (kind: string) => Present | null = () => null): Session {
  const tally = { writes: 0 };
  const tables = new Map(model.kinds.map((kind) => [kind.name, newTable(db, path, kind, model, tally, presentOf(kind.name))]));
  const verbs = {
    version: db.prepare("pragma data_version"), begin: db.prepare("begin immediate"), beginRead: db.prepare("begin"), commit: db.prepare("commit"), rollback: db.prepare("rollback"),
    savepoint: db.prepare("savepoint change"), back: db.prepare("rollback to change"), release: db.prepare("release change"),
    sealed: db.prepare("select value from pawl where name = 'seal'"),
  };
  return { db, path, identity: identityOf(path), tables, version: null, seal: null, tally, verbs };
}

export function tableOf(session: Session, kind: string): Table {
  const table = session.tables.get(kind);
  if (!table) throw new PawlError("internal", `There is no kind of record called "${kind}".`);
  return table;
}

/** From now on this connection reads what is there at this moment. Only with a log: else whoever writes would wait for its end. */
export function beginMoment({ db, verbs }: Session): void {
  if (db.value("pragma journal_mode") !== "wal") return;
  verbs.beginRead.run();
  db.value("select count(*) from sqlite_schema");
}

/** Several reads of one and the same state. */
export function snapshot<T>({ db, verbs }: Session, read: () => T): T {
  if (db.inTransaction) return read();
  verbs.beginRead.run();
  try {
    return read();
  } finally {
    if (db.inTransaction) verbs.rollback.run();
  }
}

/** Known within every transaction that writes, so that nothing can be acknowledged behind the seal. */
export function sealOf(session: Session): Seal | null {
  const row = session.verbs.sealed.get();
  return row === undefined ? null : (JSON.parse(row[0] as string) as Seal);
}

export function runBatch(session: Session, changes: readonly (Change | Claim)[], now: number): Result[] {
  return (
    transaction(session, () => {
      const results: Result[] = [];
      for (const change of changes) {
        const before = session.tally.writes;
        const result = refusedBy(session.seal, change, session.path) ?? work(session, change, now, apply);
        if (!result.ok && session.tally.writes !== before) return null;
        results.push(result);
      }
      return results;
    }) ?? transaction(session, () => changes.map((change) => refusedBy(session.seal, change, session.path) ?? work(session, change, now, applyAlone)))!
  );
}

/** A change as it is, or what a claim decides on the records that are due at this point of the batch. */
function work(session: Session, change: Change | Claim, now: number, one: typeof apply): Result {
  if (!("claim" in change)) return one(session, change, now);
  const decided = change.decide(due(session, change.claim), now);
  return decided ? one(session, decided, now) : { ok: true, ids: [] };
}

export function runClaim(session: Session, order: ClaimOrder, decide: Decide, now: number): Result | null {
  const [result = null] = transaction(session, () => {
    const refused = refusedBy(session.seal, { claim: order, decide }, session.path);
    if (refused) return [refused];
    const change = decide(due(session, order), now);
    return change ? [applyAlone(session, change, now)] : [];
  })!;
  return result;
}

/** What `body` does with the database, and the change it gives: both, or with a conflict neither. What it throws comes back as a value. */
export function runUser(session: Session, body: (sql: SqliteHandle) => Change | Promise<Change>, now: number): Result | { readonly thrown: unknown } {
  let outcome: Result | { readonly thrown: unknown } | null = null;
  transaction(session, () => {
    outcome = refusedBy(session.seal, { puts: [] }, session.path);
    if (outcome) return null;
    try {
      outcome = apply(session, runUserSql(session.db.connection, new Set([...session.tables.keys(), ...OWN]), body), now);
    } catch (error) {
      if (isBusy(error)) throw error;
      outcome = { thrown: error };
    }
    // What it wrote past the tables is to be committed too.
    session.tally.writes++;
    session.version = null;
    return "ok" in outcome && outcome.ok ? outcome : null;
  });
  return outcome!;
}

/** Tables that hold no records. */
const OWN = ["pawl", "pawl_ids", "sqlite_sequence"];

/** The records a claim looks at, over all its queries, in its order. */
function due(session: Session, order: ClaimOrder): Rec[] {
  const table = tableOf(session, order.kind);
  const found = order.queries.flatMap((query) => listRecords(table, query, order.limit));
  if (order.queries.length === 1) return found;
  const fields = [...order.order, ...table.kind.key];
  found.sort((a, b) => compareBy(fields, a, b));
  // Several queries may find the same record, which then stands beside itself.
  return found.filter((record, i) => i === 0 || compareBy(fields, record, found[i - 1]!) !== 0).slice(0, order.limit);
}

/** Runs `body` as the only writer and flushes what it wrote; null from `body`, or an error, takes everything back. */
export function transaction<T>(session: Session, body: () => T | null): T | null {
  const { db, verbs, tally } = session;
  requireFile(session);
  verbs.begin.run();
  try {
    tally.writes = 0;
    remember(session);
    const result = body();
    let wrote = false;
    if (result !== null) {
      wrote = tally.writes > 0;
      for (const table of session.tables.values()) wrote = keepNextId(table) || wrote;
    } else forgetAll(session);
    // Without a write there is nothing to flush.
    (wrote ? verbs.commit : verbs.rollback).run();
    return result;
  } catch (error) {
    forgetAll(session);
    // After some errors (a full disk) SQLite has rolled back by itself.
    if (db.inTransaction) verbs.rollback.run();
    throw error;
  }
}

/** What is written into a file that nobody finds any more is lost, and SQLite would not say so. */
function requireFile({ path, identity }: Session): void {
  const now = identityOf(path);
  if (identity && isFile(now, identity)) return;
  throw new PawlError("corrupt", `${path} was ${now ? "replaced" : "removed"} while it was in use. Nothing was changed.`, {
    next: "Stop every process that uses this state, put the file back or restore a backup, then try again.",
    details: { path },
  });
}

/** At the begin of a transaction: what was read before holds unless another connection has committed since. */
function remember(session: Session): void {
  const version = session.verbs.version.get()?.[0];
  if (version === session.version) {
    for (const table of session.tables.values()) forgetMuch(table);
    return;
  }
  forgetAll(session);
  session.seal = sealOf(session);
  session.version = version;
}

function forgetAll(session: Session): void {
  for (const table of session.tables.values()) forget(table);
}

function applyAlone(session: Session, change: Change, now: number): Result {
  const { verbs, tally } = session;
  const before = tally.writes;
  verbs.savepoint.run();
  const result = apply(session, change, now);
  if (!result.ok && tally.writes !== before) {
    verbs.back.run();
    tally.writes = before;
    for (const table of session.tables.values()) forgetRows(table);
  }
  verbs.release.run();
  return result;
}

function apply(session: Session, change: Change, now: number): Result {
  const ids: Ids = [];
  try {
    if (change.op_id !== undefined && getRecord(tableOf(session, "op"), change.op_id)) return { ok: true, ids, repeated: true };
    const conflict = applyAll(session, change, ids);
    if (conflict) return { ok: false, conflict };
    if (change.op_id !== undefined) putRecord(tableOf(session, "op"), { id: change.op_id, at: iso(now) }, -1, []);
    return { ok: true, ids };
  } catch (error) {
    if (error instanceof PawlError && error.code !== "corrupt") return { ok: false, error };
    if (!isBadData(error)) throw error;
    return { ok: false, error: new PawlError("value_refused", `SQLite refused the data of a change: ${messageOf(error)}.`, { next: "Run: pawl doctor", cause: error }) };
  }
}

function applyAll(session: Session, change: Change, ids: Ids): Conflict | null {
  const { guards, puts, additions } = change;
  if (guards) {
    for (let i = 0; i < guards.length; i++) {
      const guard = guards[i]!;
      const failed = check(session, guard);
      if (failed !== "ok") return { on: "guard", index: i, kind: guard.kind, record: failed };
    }
  }
  for (let i = 0; i < puts.length; i++) {
    const put = puts[i]!;
    const taken = write(session, put, i, ids);
    if (taken) return { on: "put", index: i, kind: put.kind, record: taken.record };
  }
  if (additions) {
    for (let i = 0; i < additions.length; i++) {
      const addition = additions[i]!;
      const taken = add(session, addition);
      if (taken) return { on: "addition", index: i, kind: addition.kind, record: taken.record };
    }
  }
  return null;
}

/** "ok", or the record the guard failed on. */
function check(session: Session, guard: Guard): "ok" | Rec | null {
  const table = tableOf(session, guard.kind);
  if ("is" in guard) return checkIs(table, guard.key, guard.is);
  return ("unique" in guard ? findUnique(table, guard.unique, guard.values) : getRecord(table, guard.key)) ?? "ok";
}

function write(session: Session, put: Put, index: number, ids: Ids): Taken | null {
  const table = tableOf(session, put.kind);
  if ("record" in put) return putRecord(table, put.record, index, ids);
  if ("set" in put) return setFields(table, put.key, put.set, ids);
  deleteRecord(table, put.key);
  return null;
}

function add(session: Session, { kind, key, field, n, max }: Addition): Taken | null {
  const table = tableOf(session, kind);
  const record = getRecord(table, key);
  const sum = record ? Number(record[field] ?? 0) + n : NaN;
  if (!record || sum < 0 || sum > (max ?? Infinity)) return { record };
  return setFields(table, key, { [field]: sum }, []);
}


// People's own SQL in the transaction of a change. Invariants: what it wrote and the change are committed together or not at
// all; it neither ends the transaction nor writes to Pawl's tables; the handle is dead once the transaction is over.
import { constants, type DatabaseSync, type SQLInputValue } from "node:sqlite";
import { PawlError } from "../../base/errors.ts";
import { refuseControl, type Change, type SqliteHandle } from "../store.ts";

type Authorizer = (action: number, first: string | null, second: string | null) => number;
/** Not in the oldest Node this runs on; the text of what is run is looked at as well. */
type Guarded = DatabaseSync & { setAuthorizer?(callback: Authorizer | null): void };

/** What changes a table or takes it away. */
const WRITES = new Set(["SQLITE_INSERT", "SQLITE_UPDATE", "SQLITE_DELETE", "SQLITE_DROP_TABLE", "SQLITE_CREATE_TRIGGER", "SQLITE_CREATE_INDEX", "SQLITE_DROP_INDEX", "SQLITE_DROP_TRIGGER"].map(codeOf));
const ALTER = codeOf("SQLITE_ALTER_TABLE");
const FORBIDDEN = new Set(["SQLITE_TRANSACTION", "SQLITE_ATTACH", "SQLITE_DETACH"].map(codeOf));

function codeOf(name: string): number {
  return (constants as { readonly [name: string]: number })[name] ?? -1;
}

/** Runs `body` with a handle on the database. `own` are the tables it must not write to. Throws what it throws, and `usage` when it is asynchronous. */
export function runUserSql(connection: DatabaseSync, own: ReadonlySet<string>, body: (sql: SqliteHandle) => Change | Promise<Change>): Change {
  const db = connection as Guarded;
  const life = { over: false };
  db.setAuthorizer?.((action, first, second) => (isAllowed(own, action, first, second) ? 0 : codeOf("SQLITE_DENY")));
  try {
    const change = body(handleOn(db, life));
    if (!db.isTransaction) throw ended();
    if (!(change instanceof Promise)) return change;
    // It has been refused; nobody waits for what it comes to.
    change.catch(() => undefined);
    throw new PawlError("usage", "A transaction on SQLite must be a plain function: an async one would keep every other writer waiting.", {
      next: "Do what takes time in a step before it, and only the SQL in the transaction, without await.", details: { permanent: true },
    });
  } finally {
    life.over = true;
    db.setAuthorizer?.(null);
  }
}

function isAllowed(own: ReadonlySet<string>, action: number, first: string | null, second: string | null): boolean {
  if (FORBIDDEN.has(action)) return false;
  if (action === ALTER) return !own.has(second ?? "");
  // An index or a trigger is named first, its table second.
  return !WRITES.has(action) || (!own.has(first ?? "") && !own.has(second ?? ""));
}

function handleOn(db: DatabaseSync, life: { readonly over: boolean }): SqliteHandle {
  const check = (text: string) => {
    if (life.over) throw new PawlError("closed", "The transaction is over.", { next: "Use its handle only inside of its function, without await." });
    refuseControl(text);
  };
  const prepared = (text: string) => {
    check(text);
    const statement = db.prepare(text);
    return {
      run: (...values: readonly SQLInputValue[]) => (check(text), statement.run(...values)),
      get: (...values: readonly SQLInputValue[]) => (check(text), statement.get(...values)),
      all: (...values: readonly SQLInputValue[]) => (check(text), statement.all(...values)),
    };
  };
  return {
    exec: (text) => (check(text), db.exec(text)),
    prepare: prepared,
    run: (text, ...values) => prepared(text).run(...values),
    get: (text, ...values) => prepared(text).get(...values),
    all: (text, ...values) => prepared(text).all(...values),
  };
}

function ended(): PawlError {
  return new PawlError("usage", "The SQL of a transaction ended it: what it wrote may have been kept, and its step was not recorded.", { next: "Leave out commit and rollback; throw to take everything back.", details: { permanent: true } });
}

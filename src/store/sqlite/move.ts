// Sealing a SQLite state and filling one with the records of another: a row of the table `pawl` says where they went.
// Invariant: what is loaded keeps its ids, numbers and hashes, and ids go on above the highest ever given.
import { checkLoad, checkSeal } from "../check.ts";
import { isRowid, nextText, quote } from "../sql.ts";
import { sealOf, type Session, tableOf, transaction } from "./commit.ts";
import { countRecords } from "./table.ts";
import { writeRecord } from "./write.ts";
import type { Counters, Piece, Seal } from "../store.ts";

/** Sets or removes the seal if it is what the caller takes it for. */
export function setSeal(session: Session, seal: Seal | null, was: Seal | null | undefined): void {
  transaction(session, () => {
    checkSeal(sealOf(session), was, session.path);
    if (seal) keepNote(session, "seal", JSON.stringify(seal));
    else session.db.exec("delete from pawl where name = 'seal'");
    session.tally.writes++;
    session.version = null;
    return true;
  });
}

/** The highest number each kind that assigns ids ever gave. */
export function countersOf(session: Session): Counters {
  const kinds = [...session.tables.values()].map(({ kind }) => kind).filter(({ assign }) => assign !== undefined);
  return Object.fromEntries(
    kinds.map((kind) => {
      const [stored = null, last = null] = session.db.prepare(nextText(kind)).get() ?? [];
      return [kind.name, Math.max(Number(stored ?? 1) - 1, isRowid(kind) ? Number(last ?? 0) : 0)];
    }),
  );
}

/** The seal under which records may be loaded; throws when there are records. */
export function beginLoad(session: Session): Seal {
  const seal = sealOf(session);
  checkLoad(seal, () => [...session.tables.values()].reduce((sum, table) => sum + countRecords(table, {}), 0), session.path);
  return seal;
}

export function loadPiece(session: Session, seal: Seal, { kind, records }: Piece): void {
  transaction(session, () => {
    checkSeal(sealOf(session), seal, session.path);
    const table = tableOf(session, kind);
    for (const record of records) writeRecord(table, record, [], undefined);
    return true;
  });
}

export function loadCounters(session: Session, seal: Seal, counters: Counters): void {
  transaction(session, () => {
    checkSeal(sealOf(session), seal, session.path);
    const now = countersOf(session);
    for (const [kind, n] of Object.entries(counters)) keepNote(session, `next ${tableOf(session, kind).kind.name}`, String(Math.max(n, now[kind] ?? 0) + 1));
    session.tally.writes++;
    session.version = null;
    return true;
  });
}

function keepNote(session: Session, name: string, value: string): void {
  session.db.prepare(`insert into ${quote("pawl")} values (?, ?) on conflict (name) do update set value = excluded.value`).run(name, value);
}

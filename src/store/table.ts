// The records of one kind in memory: rows by key, and every index in its order.
// Invariant: a row is in an index exactly when its record belongs there, at the place of its fields and key; `writeRow` is
// the only function that changes any of them.
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { keyOf, keyParts, keyText } from "./check.ts";
import { compareBy, compareKeys, compareScalars, type KeyParts, keyPartsOf } from "./compare.ts";
import { Ordered, type Probe } from "./ordered.ts";
import type { Index, Key, Kind, Query, Rec, Scalar } from "./store.ts";

/** A place that outlives the versions of a record, so that an index need not move when none of its fields changed. */
export type Row = KeyParts & { rec: Rec };
export type IndexState = {
  readonly name: string;
  readonly index: Index;
  /** Bit i is set when field i of the table's `indexed` decides whether and where a record is in it. */
  readonly looks: number;
  /** What a record must have to be in it, and must not have null. */
  readonly wants: readonly (readonly [string, Scalar])[];
  readonly notNull: readonly string[];
  readonly order: readonly string[];
  readonly rows: Ordered<Row>;
  readonly unique: Map<string, Row> | null;
};
export type Table = {
  readonly kind: Kind;
  readonly rows: Map<string | number, Row>;
  readonly primary: IndexState;
  readonly indexes: readonly IndexState[];
  /** The fields that some index looks at. */
  readonly indexed: readonly string[];
  readonly heads: Map<Json, Rec>;
  nextId: number;
};

export function newTable(kind: Kind): Table {
  const indexed = [...new Set(Object.values(kind.indexes).flatMap(looked))];
  if (indexed.length > 31) throw new PawlError("internal", `The indexes of ${kind.name} look at more fields than a number has bits.`);
  const state = (name: string, index: Index): IndexState => {
    const order = [...index.fields, ...kind.key.filter((field) => !index.fields.includes(field))];
    const unique = index.unique ? new Map<string, Row>() : null;
    const { fields } = index;
    const compare = name === "" ? (a: Row, b: Row) => compareKeys(a, b) : (a: Row, b: Row) => compareBy(fields, a.rec, b.rec) || compareKeys(a, b);
    // The key of a record never changes.
    const looks = name === "" ? 0 : looked(index).reduce((bits, field) => bits | (1 << indexed.indexOf(field)), 0);
    return { name, index, looks, wants: Object.entries(index.where ?? {}), notNull: index.notNull ?? [], order, rows: new Ordered<Row>(compare), unique };
  };
  const indexes = Object.entries(kind.indexes).map(([name, index]) => state(name, index));
  return { kind, rows: new Map(), primary: state("", { fields: kind.key }), indexes, indexed, heads: new Map(), nextId: 1 };
}

const looked = ({ fields, where = {}, notNull = [] }: Index): string[] => [...fields, ...Object.keys(where), ...notNull];

/** Without its declared null fields, which `emptyOf` brings back: half the bytes of a journal. The record itself when it has none. */
export function compact(kind: Kind, record: Rec): Rec {
  // Most records come without nulls: steps, transitions.
  if (!hasNull(record)) return record;
  const result: { [field: string]: Json } = {};
  for (const field in record) {
    const value = record[field]!;
    if (value !== null || !Object.hasOwn(kind.fields, field)) result[field] = value;
  }
  return result;
}

function hasNull(record: Rec): boolean {
  for (const field in record) if (record[field] === null) return true;
  return false;
}

/** The key of the table's map: the bare value, or one text for a key of several parts. */
export function idOf(kind: Kind, key: Key): string | number {
  const parts = typeof key === "object" || kind.key.length !== 1 ? keyParts(kind, key) : null;
  return parts === null ? (key as string | number) : parts.length === 1 ? parts[0]! : keyText(parts);
}

/** Puts `next` (or nothing) where the row stood, in the table and every index. */
export function writeRow(table: Table, id: string | number, row: Row | undefined, next: Rec | null): void {
  if (!row) {
    if (next) addRow(table, id, next);
  } else if (!next) {
    for (const index of table.indexes) if (belongs(index, row.rec)) leave(index, row);
    table.primary.rows.remove(row);
    table.rows.delete(id);
  } else {
    const changed = changedBits(table, row.rec, next);
    for (const index of table.indexes) if ((index.looks & changed) !== 0 && belongs(index, row.rec)) leave(index, row);
    row.rec = next;
    for (const index of table.indexes) if ((index.looks & changed) !== 0 && belongs(index, next)) enter(index, row);
  }
}

function addRow(table: Table, id: string | number, rec: Rec): void {
  const key = keyOf(table.kind, rec);
  const { k0, k1, k2, more } = keyPartsOf(typeof key === "object" ? key : [key]);
  const row: Row = { rec, k0, k1, k2, more };
  table.rows.set(id, row);
  table.primary.rows.insert(row);
  for (const index of table.indexes) if (belongs(index, rec)) enter(index, row);
}

export function indexOf(table: Table, name: string | undefined): IndexState {
  const state = name === undefined ? table.primary : table.indexes.find((index) => index.name === name);
  if (!state) throw new PawlError("internal", `${table.kind.name} has no index "${name}".`);
  return state;
}

/** Plain loops: every index is asked about every record that is new. */
function belongs({ wants, notNull }: IndexState, rec: Rec): boolean {
  for (let i = 0; i < notNull.length; i++) if ((rec[notNull[i]!] ?? null) === null) return false;
  for (let i = 0; i < wants.length; i++) if ((rec[wants[i]![0]] ?? null) !== wants[i]![1]) return false;
  return true;
}

/** Which of the indexed fields two versions of a record differ in. */
function changedBits({ indexed }: Table, a: Rec, b: Rec): number {
  let bits = 0;
  for (let i = 0; i < indexed.length; i++) if (a[indexed[i]!] !== b[indexed[i]!]) bits |= 1 << i;
  return bits;
}

export const valuesText = (values: readonly Scalar[]) => JSON.stringify(values);
const uniqueText = (state: IndexState, rec: Rec) => valuesText(state.index.fields.map((f) => (rec[f] ?? null) as Scalar));

function enter(state: IndexState, row: Row): void {
  state.rows.insert(row);
  state.unique?.set(uniqueText(state, row.rec), row);
}

function leave(state: IndexState, row: Row): void {
  state.rows.remove(row);
  state.unique?.delete(uniqueText(state, row.rec));
}

/** The other record that already has these values in a unique index, if any. */
export function takenBy(table: Table, next: Rec, id: string | number): Rec | null {
  for (const state of table.indexes) {
    if (!state.unique || !belongs(state, next)) continue;
    const other = state.unique.get(uniqueText(state, next));
    if (other && other !== table.rows.get(id)) return other.rec;
  }
  return null;
}

/** The index a query reads and the bounds of its range, `after` included. */
export function rangeOf(table: Table, query: Query): { state: IndexState; from: Probe<Row>; to: Probe<Row> } {
  const state = indexOf(table, query.index);
  const fields = state.index.fields;
  const prefix = Object.keys(query.equals ?? {}).length;
  for (let i = 0; i < prefix; i++) {
    if (query.equals![fields[i]!] === undefined) throw new PawlError("internal", `equals must name the first fields of index ${query.index ?? "(key)"} of ${table.kind.name}.`);
  }
  const next = fields[prefix];
  const probePrefix: Probe<Row> = (row) => {
    for (let i = 0; i < prefix; i++) {
      const order = compareScalars((row.rec[fields[i]!] ?? null) as Scalar, query.equals![fields[i]!]!);
      if (order !== 0) return order;
    }
    return 0;
  };
  const bound = (value: string | number): Probe<Row> => (row) => probePrefix(row) || compareScalars((row.rec[next!] ?? null) as Scalar, value);
  const first = query.from !== undefined ? bound(query.from) : query.to !== undefined ? afterNull(probePrefix, next!) : probePrefix;
  const last: Probe<Row> = query.to !== undefined ? bound(query.to) : (row) => (probePrefix(row) > 0 ? 1 : -1);
  const cursor = query.after;
  if (!cursor) return { state, from: first, to: last };
  const past: Probe<Row> = (row) => compareBy(state.order, row.rec, cursor);
  return query.reverse ? { state, from: first, to: past } : { state, from: (row) => (first(row) < 0 ? -1 : past(row) > 0 ? 1 : -1), to: last };
}

/** A range with only an upper bound starts after the nulls. */
function afterNull(prefix: Probe<Row>, field: string): Probe<Row> {
  return (row) => prefix(row) || ((row.rec[field] ?? null) === null ? -1 : 1);
}

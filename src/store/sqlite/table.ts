// One kind of records as a table of SQLite: its statements, made once for each shape and kept, how its rows are read, and
// what a guard means on it. Invariant: what is remembered of rows is dropped before it can be out of date (see `forget` in
// write.ts).
import { PawlError } from "../../base/errors.ts";
import type { Json } from "../../base/json.ts";
import { LIMITS } from "../../base/limits.ts";
import { emptyOf, inLastOrder, keyParts } from "../check.ts";
import * as sql from "../sql.ts";
import { corrupt, type Driver, type Row, type Statement, type Value } from "./driver.ts";
import type { FieldType, Key, Kind, Model, Query, Rec, Scalar } from "../store.ts";

type Unique = { readonly name: string; readonly fields: readonly string[]; readonly where: readonly (readonly [string, Scalar])[]; readonly notNull: readonly string[] };

/** A statement for some fields in the order they came in; a tree of them finds it without building a text. */
type Shape = { readonly fields: readonly string[]; readonly next: Map<string, Shape>; readonly plain: boolean; statement: Statement | null };

export type Table = {
  readonly db: Driver;
  readonly path: string;
  readonly kind: Kind;
  readonly seal: Model["seal"];
  /** Null in the normal case: everything declared is there. */
  readonly present: sql.Present | null;
  readonly names: readonly string[];
  readonly types: readonly FieldType[];
  readonly slots: ReadonlyMap<string, number>;
  /** The same, by the place of the field in a record. */
  readonly slotOf: { get(field: string, place: number): number | undefined };
  readonly keySlots: readonly number[];
  readonly uniques: readonly Unique[];
  /** Fields a `set` cannot simply write: they are in the key or decide what a unique index holds. */
  readonly special: ReadonlySet<string>;
  readonly row: Value[];
  readonly statements: Map<string, Statement>;
  /** Statements by the columns that have a value, as the bits of a number. */
  readonly inserts: Map<number, Statement>;
  readonly upserts: Map<number, Statement>;
  sets: Shape;
  guards: Shape;
  /**
   * What this connection has read or written and nobody else has changed since (see `forget`): the next id as it is and as
   * it is stored, the last record of chains, and what a guard read of a record.
   */
  nextId: number | null;
  storedId: number;
  readonly heads: Map<Json, Rec | null>;
  readonly guarded: Map<Key, Guarded>;
  /** Counts the rows written, over all tables of the connection. */
  readonly tally: Tally;
};

export type Tally = { writes: number };
type Guarded = { readonly shape: Shape; readonly row: Row };

/** So that which of them have a value is one number. */
const MOST_FIELDS = 51;
/** More shapes than any program has; beyond it they are made by data, and must not fill the memory. */
const SHAPES = 2000;

export function newTable(db: Driver, path: string, kind: Kind, model: Model, tally: Tally, present: sql.Present | null): Table {
  const names = Object.keys(kind.fields);
  if (names.length > MOST_FIELDS) throw new PawlError("internal", `The kind ${kind.name} has more than ${MOST_FIELDS} fields.`);
  const slots = new Map(names.map((name, i) => [name, i]));
  const uniques = Object.entries(kind.indexes)
    .filter(([, index]) => index.unique)
    .map(([name, index]) => ({ name, fields: index.fields, where: Object.entries(index.where ?? {}), notNull: index.notNull ?? [] }));
  const special = new Set([...kind.key, ...uniques.flatMap((unique) => [...unique.fields, ...unique.where.map(([field]) => field), ...unique.notNull])]);
  return {
    db, path, kind, present, names, slots, slotOf: inLastOrder(slots), uniques, special, seal: model.seal,
    types: names.map((name) => kind.fields[name]!),
    keySlots: kind.key.map((field) => slots.get(field)!),
    row: new Array<Value>(names.length + 1).fill(null),
    statements: new Map(), inserts: new Map(), upserts: new Map(), sets: newShape([], true), guards: newShape([], true),
    nextId: null, storedId: 0, heads: new Map(), guarded: new Map(), tally,
  };
}

/* ---------- statements ---------- */

export const prepared = (table: Table, name: string, text: () => string): Statement => preparedIn(table, table.statements, name, text);

/** The statement that is kept under a key; prepared when there is none. */
export function preparedIn<K>({ db }: Table, statements: Map<K, Statement>, key: K, text: () => string): Statement {
  let statement = statements.get(key);
  if (!statement) {
    if (statements.size > SHAPES) statements.clear();
    statement = db.prepare(text());
    statements.set(key, statement);
  }
  return statement;
}

function newShape(fields: readonly string[], plain: boolean): Shape {
  return { fields, next: new Map(), plain, statement: null };
}

export function nextShape(table: Table, shape: Shape, field: string, refused: (field: string) => boolean): Shape {
  let next = shape.next.get(field);
  if (!next) {
    next = newShape([...shape.fields, field], shape.plain && table.slots.has(field) && !refused(field));
    shape.next.set(field, next);
  }
  return next;
}

/* ---------- values ---------- */

export function encode(type: FieldType, value: Json): Value {
  if (value === null) return null;
  if (type === "json") return JSON.stringify(value);
  return typeof value === "boolean" ? (value ? 1 : 0) : (value as Value);
}

/** A scalar as a parameter of a comparison. */
export const param = (value: Scalar): Value => (typeof value === "boolean" ? Number(value) : value);

/** A row as `recordText` selects it. */
export function decode(table: Table, row: Row): Rec {
  const { names, types } = table;
  const values = parse(table, row[0]!) as Value[];
  const record: { [field: string]: Json } = { ...emptyOf(table.kind) };
  let reals = 0;
  for (let i = 0; i < names.length; i++) {
    const value = types[i] === "real" ? row[++reals]! : values[i]!;
    if (value !== null) record[names[i]!] = typeof value === "number" ? whole(table, types[i]!, value) : types[i] === "json" ? parse(table, value) : value;
  }
  const extra = values[names.length]!;
  return extra === null ? record : { ...(parse(table, extra) as Rec), ...record };
}

function whole(table: Table, type: FieldType, value: number): number | boolean {
  if (type === "boolean") return value === 1;
  if (type === "integer" && !Number.isSafeInteger(value)) throw corrupt(table.path, "it holds an integer beyond 2^53");
  return value;
}

function parse(table: Table, text: Value): Json {
  try {
    return JSON.parse(text as string) as Json;
  } catch (error) {
    throw corrupt(table.path, `a field of ${table.kind.name} is not JSON`, error);
  }
}

/** The key as parameters; null when no record can have it, because a part has another type. (SQL would take "5" for 5.) */
export function keyValues(kind: Kind, key: Key): Value[] | null {
  const parts = keyParts(kind, key);
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i]!;
    const type = kind.fields[kind.key[i]!];
    if (typeof part === "string" ? type !== "text" || !part.isWellFormed() : type !== "integer" || typeof part !== "number") return null;
  }
  return parts as Value[];
}

/* ---------- reading ---------- */

export function getRecord(table: Table, key: Key): Rec | null {
  const values = keyValues(table.kind, key);
  if (!values) return null;
  const row = prepared(table, "get", () => sql.getText(table.kind, table.present)).get(...values);
  return row ? decode(table, row) : null;
}

export function listRecords(table: Table, query: Query, limit: number): Rec[] {
  const { kind, present } = table;
  const index = sql.indexOf(kind, query.index);
  const records: Rec[] = [];
  for (const segment of sql.segmentsOf(kind, index, sql.orderOf(kind, index), query)) {
    if (records.length >= limit) break;
    const statement = prepared(table, sql.shapeOf(query, segment, "records"), () => sql.readText(kind, present, query, segment, "records"));
    for (const row of statement.all(...sql.valuesOf(segment).map(param), limit - records.length)) records.push(decode(table, row));
  }
  return records;
}

export function countRecords(table: Table, query: Query): number {
  return counted(table, query, "count").reduce((sum, row) => sum + Number(row[0]), 0);
}

export function countRecordsBy(table: Table, query: Query, by: string): Record<string, number> {
  const type = table.kind.fields[by];
  const counts: Record<string, number> = {};
  for (const [value, n] of counted(table, sql.indexFor(table.kind, query, by), { by })) {
    const name = type === "boolean" && value !== null ? String(value === 1) : String(value);
    counts[name] = (counts[name] ?? 0) + Number(n);
  }
  return counts;
}

function counted(table: Table, query: Query, wanted: sql.Wanted): Row[] {
  const { kind, present } = table;
  const index = sql.indexOf(kind, query.index);
  return sql.segmentsOf(kind, index, sql.orderOf(kind, index), query).flatMap((segment) => {
    const statement = prepared(table, sql.shapeOf(query, segment, wanted), () => sql.readText(kind, present, query, segment, wanted));
    return statement.all(...sql.valuesOf(segment).map(param));
  });
}

/** The record that has these values in a unique index. */
export function findUnique(table: Table, name: string, values: { readonly [field: string]: unknown }): Rec | null {
  const index = sql.indexOf(table.kind, name);
  const equals: { [field: string]: Scalar } = {};
  for (const field of index.fields) equals[field] = (values[field] ?? null) as Scalar;
  return listRecords(table, { index: name, equals }, 1)[0] ?? null;
}

/** Reads only the fields a guard compares: "ok", or the whole record (null when there is none) it failed on. */
export function checkIs(table: Table, key: Key, is: { readonly [field: string]: Scalar }): "ok" | Rec | null {
  let shape = table.guards;
  for (const field in is) shape = nextShape(table, shape, field, (name) => table.kind.fields[name] === "json");
  if (!shape.plain) return checkWhole(table, key, is);
  const row = guardedRow(table, key, shape);
  if (!row) return null;
  for (let i = 0; i < shape.fields.length; i++) {
    const field = shape.fields[i]!;
    const value = table.kind.fields[field] === "boolean" && row[i] !== null ? row[i] === 1 : row[i];
    if (value !== is[field]) return getRecord(table, key);
  }
  return "ok";
}

/** The steps of a task are guarded one after another by the same fields of a record that does not change in between. */
function guardedRow(table: Table, key: Key, shape: Shape): Row | null {
  const known = table.guarded.get(key);
  if (known?.shape === shape) return known.row;
  const values = keyValues(table.kind, key);
  if (!values) return null;
  shape.statement ??= table.db.prepare(sql.guardText(table.kind, shape.fields));
  const row = shape.statement.get(...values) ?? null;
  if (row && typeof key !== "object") table.guarded.set(key, { shape, row });
  return row;
}

function checkWhole(table: Table, key: Key, is: { readonly [field: string]: Scalar }): "ok" | Rec | null {
  const record = getRecord(table, key);
  if (!record) return null;
  for (const field in is) if ((record[field] ?? null) !== is[field]) return record;
  return "ok";
}

export const limitOf = (query: Query): number => Math.min(query.limit ?? LIMITS.listRecords, LIMITS.listRecords);

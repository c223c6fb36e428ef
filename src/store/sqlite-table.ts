// One kind of records as a table of SQLite: its statements, made once for each shape and kept, and what a put, a guard
// and a read mean on it. Invariant: nothing is written before everything about the put was found good, so a conflict or
// bad data in the first write of a change leaves nothing to take back.
import { PawlError } from "../base/errors.ts";
import { checkText, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { checkField, checkFields, emptyOf, keyParts } from "./check.ts";
import * as sql from "./sql.ts";
import { corrupt, type Driver, type Row, type Statement, type Value } from "./sqlite-driver.ts";
import type { FieldType, Key, Kind, Model, NewId, Query, Rec, Scalar, Fields } from "./store.ts";

/** What put number i was assigned, for `{ $new: i }`. */
export type Ids = (string | number | undefined)[];
/** What stands in the way of a put; null for a record that is not there. */
export type Taken = { readonly record: Rec | null };

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
  readonly keySlots: readonly number[];
  readonly uniques: readonly Unique[];
  /** Fields a `set` cannot simply write: they are in the key or decide what a unique index holds. */
  readonly special: ReadonlySet<string>;
  readonly row: Value[];
  readonly statements: Map<string, Statement>;
  sets: Shape;
  guards: Shape;
  /** Within the transaction: the next id once it was asked for and as it is stored, and the last record of each chain that was. */
  nextId: number | null;
  storedId: number;
  readonly heads: Map<Json, Rec | null>;
  /** Counts the rows written, over all tables of the connection. */
  readonly tally: Tally;
};

export type Tally = { writes: number };

/** More shapes than any program has; beyond it they are made by data, and must not fill the memory. */
const SHAPES = 2000;

export function newTable(db: Driver, path: string, kind: Kind, model: Model, tally: Tally, present: sql.Present | null): Table {
  const names = Object.keys(kind.fields);
  const slots = new Map(names.map((name, i) => [name, i]));
  const uniques = Object.entries(kind.indexes)
    .filter(([, index]) => index.unique)
    .map(([name, index]) => ({ name, fields: index.fields, where: Object.entries(index.where ?? {}), notNull: index.notNull ?? [] }));
  const special = new Set([...kind.key, ...uniques.flatMap((unique) => [...unique.fields, ...unique.where.map(([field]) => field), ...unique.notNull])]);
  return {
    db, path, kind, present, names, slots, uniques, special, seal: model.seal,
    types: names.map((name) => kind.fields[name]!),
    keySlots: kind.key.map((field) => slots.get(field)!),
    row: new Array<Value>(names.length + 1).fill(null),
    statements: new Map(), sets: newShape([], true), guards: newShape([], true),
    nextId: null, storedId: 0, heads: new Map(), tally,
  };
}

/* ---------- statements ---------- */

function prepared(table: Table, name: string, text: () => string): Statement {
  let statement = table.statements.get(name);
  if (!statement) {
    if (table.statements.size > SHAPES) table.statements.clear();
    statement = table.db.prepare(text());
    table.statements.set(name, statement);
  }
  return statement;
}

function newShape(fields: readonly string[], plain: boolean): Shape {
  return { fields, next: new Map(), plain, statement: null };
}

function nextShape(table: Table, shape: Shape, field: string, refused: (field: string) => boolean): Shape {
  let next = shape.next.get(field);
  if (!next) {
    next = newShape([...shape.fields, field], shape.plain && table.slots.has(field) && !refused(field));
    shape.next.set(field, next);
  }
  return next;
}

/* ---------- values ---------- */

function encode(type: FieldType, value: Json): Value {
  if (value === null) return null;
  if (type === "json") return JSON.stringify(value);
  return typeof value === "boolean" ? (value ? 1 : 0) : (value as Value);
}

/** A scalar as a parameter of a comparison. */
const param = (value: Scalar): Value => (typeof value === "boolean" ? Number(value) : value);

function decode(table: Table, row: Row): Rec {
  const { names, types } = table;
  const record: { [field: string]: Json } = { ...emptyOf(table.kind) };
  for (let i = 0; i < names.length; i++) {
    const value = row[i]!;
    if (value !== null) record[names[i]!] = types[i] === "boolean" ? value === 1 : types[i] === "json" ? parse(table, value) : value;
  }
  const extra = row[names.length];
  return extra === null || extra === undefined ? record : { ...(parse(table, extra) as Rec), ...record };
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
  const values = keyValues(table.kind, key);
  if (!values) return null;
  let shape = table.guards;
  for (const field in is) shape = nextShape(table, shape, field, (name) => table.kind.fields[name] === "json");
  if (!shape.plain) return checkWhole(table, key, is);
  shape.statement ??= table.db.prepare(sql.guardText(table.kind, shape.fields));
  const row = shape.statement.get(...values);
  if (!row) return null;
  for (let i = 0; i < shape.fields.length; i++) {
    const field = shape.fields[i]!;
    const value = table.kind.fields[field] === "boolean" && row[i] !== null ? row[i] === 1 : row[i];
    if (value !== is[field]) return getRecord(table, key);
  }
  return "ok";
}

function checkWhole(table: Table, key: Key, is: { readonly [field: string]: Scalar }): "ok" | Rec | null {
  const record = getRecord(table, key);
  if (!record) return null;
  for (const field in is) if ((record[field] ?? null) !== is[field]) return record;
  return "ok";
}

/* ---------- writing ---------- */

/** Inserts or replaces a whole record. `assign` gives the id of a record that comes without one. */
export function putRecord(table: Table, fields: Fields, index: number, ids: Ids): Taken | null {
  const { kind } = table;
  let assigned: string | number | undefined;
  if (kind.assign !== undefined && (fields[kind.key[0]!] ?? null) === null) {
    assigned = kind.assign === "" ? nextId(table) : `${kind.assign}${nextId(table)}`;
    ids[index] = assigned;
  }
  if (kind.chain) {
    const record = resolve(table, fields, ids);
    if (assigned !== undefined) record[kind.key[0]!] = assigned;
    const group = record[kind.chain.group] as Json;
    // A group that was given its id in this very change has no records yet.
    const isNew = typeof fields[kind.chain.group] === "object" && fields[kind.chain.group] !== null;
    const sealed = table.seal(isNew && !table.heads.has(group) ? null : headOf(table, group), record);
    const taken = writeRecord(table, sealed, ids, undefined);
    if (!taken) table.heads.set(group, { ...emptyOf(kind), ...sealed });
    return taken;
  }
  return writeRecord(table, fields, ids, assigned);
}

/** `{ $new: i }` replaced by the id that put i got, `undefined` members dropped. */
function resolve(table: Table, fields: Fields, ids: Ids): { [field: string]: Json } {
  const result: { [field: string]: Json } = {};
  for (const field in fields) {
    const value = fields[field];
    if (value !== undefined) result[field] = resolved(value, ids, table.types[table.slots.get(field) ?? -1]);
  }
  return result;
}

/** In a json field and in one that is not declared, an object that looks like `{ $new: i }` is a value like others. */
function resolved(value: Json | NewId, ids: Ids, type: FieldType | undefined): Json {
  if (type === undefined || type === "json" || typeof value !== "object" || value === null || typeof (value as NewId).$new !== "number") return value as Json;
  const id = ids[(value as NewId).$new];
  if (id === undefined) throw new PawlError("internal", `{ $new: ${(value as NewId).$new} } stands for a put that was assigned no id.`);
  return id;
}

function writeRecord(table: Table, fields: Fields, ids: Ids, assigned: string | number | undefined): Taken | null {
  const { kind, row, slots, types } = table;
  const extraSlot = types.length;
  row.fill(null);
  let extra: { [field: string]: Json } | null = null;
  for (const field in fields) {
    const given = fields[field];
    if (given === undefined) continue;
    const slot = slots.get(field);
    const value = typeof given === "object" ? resolved(given, ids, slot === undefined ? undefined : types[slot]) : given;
    checkField(kind, field, value);
    if (slot === undefined) {
      checkText(field, `the name of a field of ${kind.name}`);
      (extra ??= {})[field] = value;
    }
    else if (value !== null) row[slot] = encode(types[slot]!, value);
  }
  if (assigned !== undefined) row[table.keySlots[0]!] = assigned;
  if (extra) row[extraSlot] = JSON.stringify(extra);
  for (const slot of table.keySlots) if (row[slot] === null) throw keyMissing(kind);
  const taken = table.uniques.length > 0 ? takenBy(table) : null;
  if (taken) return { record: taken };
  if (kind.assign !== undefined) countId(table, row[table.keySlots[0]!]!);
  // An assigned id is new by definition: should a row have it, the counter is wrong and nothing may be replaced.
  const statement = assigned === undefined ? prepared(table, "upsert", () => sql.upsertText(kind)) : prepared(table, "insert", () => sql.insertText(kind));
  statement.run(...row);
  table.tally.writes++;
  return null;
}

function keyMissing(kind: Kind): PawlError {
  return new PawlError("value_refused", `A ${kind.name} needs a value in every field of its key (${kind.key.join(", ")}).`, { details: { kind: kind.name } });
}

/** The next id of the kind. Stored apart from the records, so that a deleted id is not used again; a row put in by hand counts too. */
function nextId(table: Table): number {
  if (table.nextId === null) {
    const [stored = null, last = null] = prepared(table, "next", () => sql.nextText(table.kind)).get() ?? [];
    table.storedId = Number(stored ?? 0);
    table.nextId = Math.max(table.storedId, Number(last ?? 0) + 1);
  }
  return table.nextId;
}

/** Stores the counter if the transaction moved it. True when it did. */
export function keepNextId(table: Table): boolean {
  if (table.nextId === null || table.nextId === table.storedId || (table.nextId === 1 && table.storedId === 0)) return false;
  prepared(table, "keep next", () => sql.keepNextText(table.kind)).run(String(table.nextId));
  table.storedId = table.nextId;
  return true;
}

/** Forgets what is true only within a transaction. */
export function forget(table: Table): void {
  table.nextId = null;
  table.heads.clear();
}

/** Keeps the counter above every id, also those that were given by hand. */
function countId(table: Table, id: Value): void {
  const n = typeof id === "number" ? id : Number(String(id).slice(table.kind.assign!.length));
  if (Number.isSafeInteger(n) && n >= nextId(table)) table.nextId = n + 1;
}

/** The other record that already has the values of `table.row` in a unique index. */
function takenBy(table: Table): Rec | null {
  const { row, slots, kind } = table;
  const at = (field: string) => row[slots.get(field)!] ?? null;
  for (const { name, fields, where, notNull } of table.uniques) {
    if (notNull.some((field) => at(field) === null) || where.some(([field, value]) => at(field) !== param(value))) continue;
    const found = prepared(table, `taken ${name}`, () => sql.takenText(kind, name)).get(...fields.map(at));
    if (found && table.keySlots.some((slot) => found[slot] !== row[slot])) return decode(table, found);
  }
  return null;
}

/** Writes some fields of a record that exists. */
export function setFields(table: Table, key: Key, fields: Fields, ids: Ids): Taken | null {
  const { kind, special } = table;
  const keys = keyValues(kind, key);
  if (!keys) return { record: null };
  const values: Value[] = [];
  let shape = table.sets;
  for (const field in fields) {
    const given = fields[field];
    if (given === undefined) continue;
    shape = nextShape(table, shape, field, (name) => special.has(name));
    if (!shape.plain) return setWhole(table, key, fields, ids);
    const value = typeof given === "object" ? resolved(given, ids, kind.fields[field]) : given;
    if (value !== null) {
      try {
        checkField(kind, field, value);
      } catch (error) {
        if (!getRecord(table, key)) return { record: null };
        throw error;
      }
    }
    values.push(value === null ? null : encode(kind.fields[field]!, value));
  }
  if (values.length === 0) return getRecord(table, key) ? null : { record: null };
  shape.statement ??= table.db.prepare(sql.setText(kind, shape.fields));
  if (shape.statement.run(...values, ...keys).changes === 0) return { record: null };
  table.tally.writes++;
  if (kind.chain) table.heads.clear();
  return null;
}

/** The way of a `set` that needs the whole record: unknown fields, or fields that a unique index looks at. */
function setWhole(table: Table, key: Key, fields: Fields, ids: Ids): Taken | null {
  const before = getRecord(table, key);
  if (!before) return { record: null };
  const set = resolve(table, fields, ids);
  checkFields(table.kind, set);
  for (const field of table.kind.key) {
    if (set[field] !== undefined && set[field] !== before[field]) {
      throw new PawlError("value_refused", `The key of a record cannot be changed: ${table.kind.name}.${field}.`, { details: { kind: table.kind.name, field } });
    }
  }
  const taken = writeRecord(table, { ...before, ...set }, ids, undefined);
  if (!taken && table.kind.chain) table.heads.clear();
  return taken;
}

export function deleteRecord(table: Table, key: Key): void {
  const values = keyValues(table.kind, key);
  if (!values) return;
  const statement = prepared(table, "delete", () => sql.deleteText(table.kind));
  if (Number(statement.run(...values).changes) > 0) table.tally.writes++;
  if (table.kind.chain) table.heads.clear();
}

/** The last record of a chain. */
function headOf(table: Table, group: Json): Rec | null {
  const known = table.heads.get(group);
  if (known !== undefined) return known;
  if (typeof group !== "string" && typeof group !== "number") return null;
  const row = prepared(table, "head", () => sql.headText(table.kind)).get(group);
  const head = row ? decode(table, row) : null;
  table.heads.set(group, head);
  return head;
}

export const limitOf = (query: Query): number => Math.min(query.limit ?? LIMITS.listRecords, LIMITS.listRecords);

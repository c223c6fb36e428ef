// What a put, a set and a delete mean on a table of SQLite, and what its connection remembers of rows in between.
// Invariant: nothing is written before everything about the put was found good, so a conflict or bad data in the first
// write of a change leaves nothing to take back.
import { PawlError } from "../../base/errors.ts";
import type { Json } from "../../base/json.ts";
import { checkFields, checkName, checkTyped } from "../check.ts";
import * as sql from "../sql.ts";
import type { Value } from "./driver.ts";
import { decode, encode, getRecord, keyValues, nextShape, param, prepared, preparedIn, type Table } from "./table.ts";
import type { FieldType, Fields, Key, Kind, NewId, Rec } from "../store.ts";

/** What put number i was assigned, for `{ $new: i }`. */
export type Ids = (string | number | undefined)[];
/** What stands in the way of a put; null for a record that is not there. */
export type Taken = { readonly record: Rec | null };

/** Columns in one half of a shape; no kind has more than two halves. */
const BITS = 31;
/** Chains and guards remembered; many more than are at work at once. */
const KNOWN = 10_000;

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
    if (!taken) table.heads.set(group, sealed);
    return taken;
  }
  return writeRecord(table, fields, ids, assigned);
}

/** `{ $new: i }` replaced by the id that put i got, `undefined` members dropped. */
function resolve(table: Table, fields: Fields, ids: Ids): { [field: string]: Json } {
  const result: { [field: string]: Json } = {};
  for (const field in fields) {
    const value = fields[field];
    if (value === undefined) continue;
    const slot = table.slots.get(field);
    if (slot === undefined) checkName(table.kind, field);
    result[field] = resolved(value, ids, slot === undefined ? undefined : table.types[slot]);
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

export function writeRecord(table: Table, fields: Fields, ids: Ids, assigned: string | number | undefined): Taken | null {
  const { kind, row, slotOf, types } = table;
  const extraSlot = types.length;
  row.fill(null);
  let extra: { [field: string]: Json } | null = null;
  let place = 0;
  for (const field in fields) {
    const given = fields[field];
    if (given === undefined) continue;
    const slot = slotOf.get(field, place++);
    const value = typeof given === "object" ? resolved(given, ids, slot === undefined ? undefined : types[slot]) : given;
    checkTyped(kind, field, slot === undefined ? "json" : types[slot]!, value);
    if (slot === undefined) {
      checkName(kind, field);
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
  insertRow(table, assigned !== undefined);
  if (table.guarded.size > 0) forgetGuarded(table, table.keySlots.map((slot) => row[slot] as string | number));
  table.tally.writes++;
  return null;
}

/** Writes `table.row`. Nulls are not handed over: most of a record's fields are, and each costs as much as a value. */
function insertRow(table: Table, isNew: boolean): void {
  const { row, kind } = table;
  const values: Value[] = [];
  // Which columns have a value, as the bits of a number.
  let low = 0;
  let high = 0;
  for (let slot = 0; slot < row.length; slot++) {
    const value = row[slot]!;
    if (value === null) continue;
    values.push(value);
    if (slot < BITS) low |= 1 << slot;
    else high |= 1 << (slot - BITS);
  }
  const shape = high * 2 ** BITS + low;
  const columns = () => sql.columnsOf(kind).filter((_, slot) => row[slot] !== null);
  // An assigned id is new by definition: should a row have it, the counter is wrong and nothing may be replaced.
  const statement = isNew ? preparedIn(table, table.inserts, shape, () => sql.insertText(kind, columns())) : preparedIn(table, table.upserts, shape, () => sql.upsertText(kind, columns()));
  statement.run(...values);
}

/** Before what a guard read of a record could be out of date. */
function forgetGuarded(table: Table, key: Key): void {
  table.guarded.delete(typeof key === "object" && key.length === 1 ? key[0]! : key);
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

/** Forgets what is true only while no other connection commits and no transaction is taken back. */
export function forget(table: Table): void {
  table.nextId = null;
  forgetRows(table);
}

/** What holds no more when writes were taken back. The ids they were given stay used. */
export function forgetRows(table: Table): void {
  table.heads.clear();
  table.guarded.clear();
}

/** Keeps what is remembered small. */
export function forgetMuch(table: Table): void {
  if (table.heads.size > KNOWN || table.guarded.size > KNOWN) forgetRows(table);
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
    if (!found) continue;
    const record = decode(table, found);
    if (kind.key.some((field) => record[field] !== at(field))) return record;
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
        checkTyped(kind, field, kind.fields[field]!, value);
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
  forgetGuarded(table, key);
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
  forgetGuarded(table, key);
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

// Records in memory with their indexes: what the memory store is, and what the JSON store keeps in front of its journal.
// Invariant: `apply` changes everything a Change says or nothing, and every write since `keep` can be undone, so that a
// journal that could not be written leaves the tables as they were.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { freeze, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { checkFields, keyOf, keyParts, keyText, kindOf, kindsOf, type Kinds } from "./check.ts";
import { compareBy, compareScalars } from "./compare.ts";
import { Ordered, type Probe } from "./ordered.ts";
import type { Addition, Change, ClaimOrder, Conflict, Fields, FieldType, Guard, Index, Key, Kind, Model, NewId, Put, Query, Rec, Result, Scalar } from "./store.ts";

/** One write as it came out: ids assigned, chain sealed. What a journal keeps and `replay` takes back. */
export type Effect =
  | { readonly kind: string; readonly record: Rec }
  | { readonly kind: string; readonly key: Key; readonly set: Rec }
  | { readonly kind: string; readonly key: Key; readonly delete: true };

/** A place that outlives the versions of a record, so that an index need not move when none of its fields changed. */
type Row = { rec: Rec };
type IndexState = { readonly name: string; readonly index: Index; readonly order: readonly string[]; readonly rows: Ordered<Row>; readonly unique: Map<string, Row> | null };
type Table = { readonly kind: Kind; readonly rows: Map<string | number, Row>; readonly primary: IndexState; readonly indexes: readonly IndexState[]; readonly heads: Map<Json, Rec>; nextId: number };
type Undo = { readonly table: Table; readonly id: string | number; readonly before: Rec | null; readonly head: Rec | null; readonly group: Json | undefined };

export class Tables {
  readonly #model: Model;
  readonly #kinds: Kinds;
  readonly #tables: Map<string, Table>;
  #undo: Undo[] = [];

  constructor(model: Model) {
    this.#model = model;
    this.#kinds = kindsOf(model);
    this.#tables = new Map(model.kinds.map((kind) => [kind.name, newTable(kind)]));
  }

  get(kind: string, key: Key): Rec | null {
    const table = this.#table(kind);
    return table.rows.get(idOf(table.kind, key))?.rec ?? null;
  }

  list(kind: string, query: Query = {}): Rec[] {
    const { state, from, to } = rangeOf(this.#table(kind), query);
    const limit = Math.min(query.limit ?? LIMITS.listRecords, LIMITS.listRecords);
    return state.rows.slice(from, to, limit, query.reverse ?? false).map((row) => row.rec);
  }

  count(kind: string, query: Query = {}): number {
    const { state, from, to } = rangeOf(this.#table(kind), query);
    return state.rows.count(from, to);
  }

  countBy(kind: string, query: Query, by: string): Record<string, number> {
    const { state, from, to } = rangeOf(this.#table(kind), query);
    const counts: Record<string, number> = {};
    for (const { rec } of state.rows.slice(from, to, Infinity, false)) {
      const value = String(rec[by]);
      counts[value] = (counts[value] ?? 0) + 1;
    }
    return counts;
  }

  /** The records a claim looks at, over all its queries, in its order. */
  due(order: ClaimOrder): Rec[] {
    const table = this.#table(order.kind);
    const found = order.queries.flatMap((query) => {
      const { state, from, to } = rangeOf(table, query);
      return state.rows.slice(from, to, order.limit, query.reverse ?? false);
    });
    const fields = [...order.order, ...table.kind.key];
    // Several queries may find the same record.
    const rows = order.queries.length > 1 ? [...new Set(found)].sort((a, b) => compareBy(fields, a.rec, b.rec)) : found;
    return rows.slice(0, order.limit).map((row) => row.rec);
  }

  /** All records of a kind in key order. */
  all(kind: string): Rec[] {
    return this.#table(kind).primary.rows.slice(() => 0, () => -1, Infinity, false).map((row) => row.rec);
  }

  /** Applies a change at `now` (ms), pushing what it wrote onto `effects`. Bad data and lost races come back as values. */
  apply(change: Change, now: number, effects: Effect[]): Result {
    const mark = this.#undo.length;
    const start = effects.length;
    const ids: (string | number | undefined)[] = [];
    let failed: Result;
    try {
      if (change.op_id !== undefined && this.get("op", change.op_id)) return { ok: true, ids, repeated: true };
      const conflict = this.#applyAll(change, ids, effects);
      if (!conflict && change.op_id !== undefined) this.#put({ kind: "op", record: { id: change.op_id, at: iso(now) } }, -1, ids, effects);
      if (!conflict) return { ok: true, ids };
      failed = { ok: false, conflict };
    } catch (error) {
      if (!(error instanceof PawlError)) throw error;
      failed = { ok: false, error };
    }
    this.#undoTo(mark);
    effects.length = start;
    return failed;
  }

  /** Writes what a journal kept, as it was kept. */
  replay(effect: Effect): void {
    const table = this.#table(effect.kind);
    if ("delete" in effect) return this.#write(table, idOf(table.kind, effect.key), null, false);
    if ("set" in effect) {
      const id = idOf(table.kind, effect.key);
      const before = table.rows.get(id)?.rec;
      if (!before) throw new PawlError("corrupt", `The journal changes ${effect.kind} ${keyText(effect.key)}, which it never created.`);
      return this.#write(table, id, freeze({ ...before, ...effect.set }), false);
    }
    const record = freeze({ ...emptyOf(table.kind), ...effect.record });
    countId(table, record);
    this.#write(table, idOf(table.kind, keyOf(table.kind, record)), record, false);
  }

  /** Makes all writes since the last `keep` final. */
  keep(): void {
    this.#undo.length = 0;
  }

  /** Takes back all writes since the last `keep`. Ids they were given stay used. */
  undo(): void {
    this.#undoTo(0);
  }

  /** The next id number of each kind that assigns ids. */
  counters(): Record<string, number> {
    const result: Record<string, number> = {};
    for (const [name, table] of this.#tables) if (table.kind.assign !== undefined) result[name] = table.nextId;
    return result;
  }

  /** Raises the counters to at least these numbers. */
  raiseCounters(counters: { readonly [kind: string]: number }): void {
    for (const [name, table] of this.#tables) table.nextId = Math.max(table.nextId, counters[name] ?? 1);
  }

  #table(name: string): Table {
    const table = this.#tables.get(name);
    if (!table) throw kindOf(this.#kinds, name) && new PawlError("internal", `No table for ${name}.`);
    return table;
  }

  /** Puts `next` (or nothing) where the row stood, in the table and every index. */
  #write(table: Table, id: string | number, next: Rec | null, remember: boolean): void {
    const row = table.rows.get(id);
    const group = table.kind.chain && next ? next[table.kind.chain.group] : undefined;
    if (remember) this.#undo.push({ table, id, before: row?.rec ?? null, group, head: group === undefined ? null : (table.heads.get(group) ?? null) });
    if (!row && next) {
      const added: Row = { rec: next };
      table.rows.set(id, added);
      table.primary.rows.insert(added);
      for (const index of table.indexes) if (belongs(index.index, next)) enter(index, added);
    } else if (row && !next) {
      for (const index of table.indexes) if (belongs(index.index, row.rec)) leave(index, row);
      table.primary.rows.remove(row);
      table.rows.delete(id);
    } else if (row && next) {
      const moved = table.indexes.filter((index) => differs(index, row.rec, next));
      for (const index of moved) if (belongs(index.index, row.rec)) leave(index, row);
      row.rec = next;
      for (const index of moved) if (belongs(index.index, next)) enter(index, row);
    }
    if (group !== undefined && next) table.heads.set(group, next);
  }

  #undoTo(mark: number): void {
    while (this.#undo.length > mark) {
      const { table, id, before, head, group } = this.#undo.pop()!;
      this.#write(table, id, before, false);
      if (group === undefined) continue;
      if (head) table.heads.set(group, head);
      else table.heads.delete(group);
    }
  }

  #applyAll(change: Change, ids: (string | number | undefined)[], effects: Effect[]): Conflict | null {
    const guards = change.guards ?? [];
    for (let i = 0; i < guards.length; i++) {
      const conflict = this.#check(guards[i]!, i);
      if (conflict) return conflict;
    }
    for (let i = 0; i < change.puts.length; i++) {
      const conflict = this.#put(change.puts[i]!, i, ids, effects);
      if (conflict) return conflict;
    }
    const additions = change.additions ?? [];
    for (let i = 0; i < additions.length; i++) {
      const conflict = this.#add(additions[i]!, i, effects);
      if (conflict) return conflict;
    }
    return null;
  }

  #check(guard: Guard, index: number): Conflict | null {
    const table = this.#table(guard.kind);
    const failed = (record: Rec | null): Conflict => ({ on: "guard", index, kind: guard.kind, record });
    if ("unique" in guard) {
      const state = indexOf(table, guard.unique);
      const row = state.unique?.get(valuesText(state.index.fields.map((field) => guard.values[field] ?? null)));
      return row ? failed(row.rec) : null;
    }
    const record = table.rows.get(idOf(table.kind, guard.key))?.rec ?? null;
    if ("absent" in guard) return record ? failed(record) : null;
    if (!record) return failed(null);
    for (const field in guard.is) if ((record[field] ?? null) !== guard.is[field]) return failed(record);
    return null;
  }

  #put(put: Put, index: number, ids: (string | number | undefined)[], effects: Effect[]): Conflict | null {
    const table = this.#table(put.kind);
    if ("delete" in put) {
      this.#write(table, idOf(table.kind, put.key), null, true);
      effects.push({ kind: put.kind, key: put.key, delete: true });
      return null;
    }
    if ("set" in put) return this.#set(table, put.key, resolve(table.kind, put.set, ids), index, effects);
    let fields = resolve(table.kind, put.record, ids);
    const id = assignedId(table, fields);
    if (id !== undefined) {
      fields = { ...fields, [table.kind.key[0]!]: id };
      ids[index] = id;
    }
    const { chain } = table.kind;
    if (chain) fields = this.#model.seal(table.heads.get(fields[chain.group]!) ?? null, fields);
    checkFields(table.kind, fields);
    const record = freeze({ ...emptyOf(table.kind), ...fields });
    checkKey(table.kind, record);
    const key = idOf(table.kind, keyOf(table.kind, record));
    const taken = takenBy(table, record, key);
    if (taken) return { on: "put", index, kind: table.kind.name, record: taken };
    countId(table, record);
    this.#write(table, key, record, true);
    effects.push({ kind: table.kind.name, record: compact(table.kind, record) });
    return null;
  }

  #set(table: Table, key: Key, set: Rec, index: number, effects: Effect[]): Conflict | null {
    const id = idOf(table.kind, key);
    const before = table.rows.get(id)?.rec;
    if (!before) return { on: "put", index, kind: table.kind.name, record: null };
    checkFields(table.kind, set);
    const next = freeze({ ...before, ...set });
    if (table.kind.key.some((field) => next[field] !== before[field])) throw new PawlError("value_refused", `A set cannot change the key of ${table.kind.name} ${keyText(key)}.`);
    const taken = takenBy(table, next, id);
    if (taken) return { on: "put", index, kind: table.kind.name, record: taken };
    this.#write(table, id, next, true);
    effects.push({ kind: table.kind.name, key, set });
    return null;
  }

  #add(addition: Addition, index: number, effects: Effect[]): Conflict | null {
    const table = this.#table(addition.kind);
    const record = table.rows.get(idOf(table.kind, addition.key))?.rec ?? null;
    const sum = record ? Number(record[addition.field] ?? 0) + addition.n : NaN;
    if (!record || sum < 0 || sum > (addition.max ?? Infinity)) return { on: "addition", index, kind: addition.kind, record };
    return this.#set(table, addition.key, { [addition.field]: sum }, index, effects);
  }
}

function newTable(kind: Kind): Table {
  const state = (name: string, index: Index): IndexState => {
    const order = [...index.fields, ...kind.key.filter((field) => !index.fields.includes(field))];
    const unique = index.unique ? new Map<string, Row>() : null;
    return { name, index, order, rows: new Ordered<Row>((a, b) => compareBy(order, a.rec, b.rec)), unique };
  };
  const indexes = Object.entries(kind.indexes).map(([name, index]) => state(name, index));
  return { kind, rows: new Map(), primary: state("", { fields: kind.key }), indexes, heads: new Map(), nextId: 1 };
}

const empties = new WeakMap<Kind, Rec>();

/** A record of the kind with every declared field null: what a put leaves out. */
export function emptyOf(kind: Kind): Rec {
  const known = empties.get(kind);
  if (known) return known;
  const empty = Object.fromEntries(Object.keys(kind.fields).map((field) => [field, null]));
  empties.set(kind, empty);
  return empty;
}

/** Without its declared null fields, which `emptyOf` brings back: half the bytes of a journal. */
export function compact(kind: Kind, record: Rec): Rec {
  const result: { [field: string]: Json } = {};
  for (const field in record) if (record[field] !== null || !Object.hasOwn(kind.fields, field)) result[field] = record[field] as Json;
  return result;
}

function idOf(kind: Kind, key: Key): string | number {
  return typeof key === "object" ? keyText(keyParts(kind, key)) : kind.key.length === 1 ? key : keyText(keyParts(kind, key));
}

/** The id the store gives a record that comes without one, when its kind assigns ids. */
function assignedId(table: Table, fields: Rec): string | number | undefined {
  const { assign, key } = table.kind;
  if (assign === undefined || (fields[key[0]!] ?? null) !== null) return undefined;
  return assign === "" ? table.nextId : `${assign}${table.nextId}`;
}

function countId(table: Table, record: Rec): void {
  if (table.kind.assign === undefined) return;
  const id = record[table.kind.key[0]!];
  const n = typeof id === "number" ? id : Number(String(id).slice(table.kind.assign.length));
  if (Number.isSafeInteger(n) && n >= table.nextId) table.nextId = n + 1;
}

/** A record without its whole key could never be found again. */
function checkKey(kind: Kind, record: Rec): void {
  for (const field of kind.key) if ((record[field] ?? null) === null) throw new PawlError("value_refused", `A ${kind.name} needs its key: ${field} is missing.`);
}

/** `{ $new: i }` replaced by the id that put i got, except in json fields, where it is a value; `undefined` members dropped. */
function resolve(kind: Kind, fields: Fields, ids: readonly (string | number | undefined)[]): Rec {
  const result: { [field: string]: Json } = {};
  for (const field in fields) {
    const value = fields[field];
    if (value === undefined) continue;
    result[field] = isNewId(value) && isIdType(kind.fields[field]) ? newId(value, ids) : (value as Json);
  }
  return result;
}

function newId(value: NewId, ids: readonly (string | number | undefined)[]): string | number {
  const id = ids[value.$new];
  if (id === undefined) throw new PawlError("internal", `Put ${value.$new} of this change was assigned no id before it was named by $new.`);
  return id;
}

const isIdType = (type: FieldType | undefined) => type === "text" || type === "integer";
const isNewId = (value: unknown): value is NewId => typeof (value as NewId | null)?.$new === "number";

function indexOf(table: Table, name: string | undefined): IndexState {
  const state = name === undefined ? table.primary : table.indexes.find((index) => index.name === name);
  if (!state) throw new PawlError("internal", `${table.kind.name} has no index "${name}".`);
  return state;
}

function belongs(index: Index, rec: Rec): boolean {
  for (const field in index.where) if ((rec[field] ?? null) !== index.where[field]) return false;
  return !index.notNull?.some((field) => (rec[field] ?? null) === null);
}

function differs(state: IndexState, a: Rec, b: Rec): boolean {
  const { fields, where, notNull } = state.index;
  for (const field of fields) if (a[field] !== b[field]) return true;
  for (const field in where) if (a[field] !== b[field]) return true;
  return notNull?.some((field) => a[field] !== b[field]) ?? false;
}

const valuesText = (values: readonly Scalar[]) => JSON.stringify(values);
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
function takenBy(table: Table, next: Rec, id: string | number): Rec | null {
  for (const state of table.indexes) {
    if (!state.unique || !belongs(state.index, next)) continue;
    const other = state.unique.get(uniqueText(state, next));
    if (other && other !== table.rows.get(id)) return other.rec;
  }
  return null;
}

/** The index a query reads and the bounds of its range, `after` included. */
function rangeOf(table: Table, query: Query): { state: IndexState; from: Probe<Row>; to: Probe<Row> } {
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

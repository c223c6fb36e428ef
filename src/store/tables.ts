// Records in memory with their indexes: what the memory store is, and what the JSON store keeps in front of its journal.
// Invariants: `apply` changes everything a Change says or nothing, and every write since `keep` can be undone, so that a
// journal that could not be written leaves the tables as they were; nobody changes a record that is in them. What is in its fields
// is frozen; the record itself is given out as a copy (but by `all`), for a copy of a frozen object takes V8 ten times as long.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { freeze, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { checkFields, emptyOf, keyOf, keyText, kindOf, kindsOf, type Kinds } from "./check.ts";
import { compareBy } from "./compare.ts";
import type { Addition, Change, Claim, ClaimOrder, Conflict, Counters, Fields, FieldType, Guard, Key, Kind, Model, NewId, Piece, Put, Query, Rec, Result } from "./store.ts";
import { compact, idOf, indexOf, newTable, rangeOf, type Row, type Table, takenBy, valuesText, writeRow } from "./table.ts";

/** One write as it came out: ids assigned, chain sealed. What a journal keeps and `replay` takes back. */
export type Effect =
  | { readonly kind: string; readonly record: Rec }
  | { readonly kind: string; readonly key: Key; readonly set: Rec }
  | { readonly kind: string; readonly key: Key; readonly delete: true };

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
    return copyOf(table.rows.get(idOf(table.kind, key))?.rec ?? null);
  }

  list(kind: string, query: Query = {}): Rec[] {
    const { state, from, to } = rangeOf(this.#table(kind), query);
    const limit = Math.min(query.limit ?? LIMITS.listRecords, LIMITS.listRecords);
    return state.rows.slice(from, to, limit, query.reverse ?? false).map((row) => copyOf(row.rec));
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
    return rows.slice(0, order.limit).map((row) => copyOf(row.rec));
  }

  /** All records of a kind in key order, themselves: to be looked at only. */
  all(kind: string): Rec[] {
    return this.#table(kind).primary.rows.slice(() => 0, () => -1, Infinity, false).map((row) => row.rec);
  }

  /** A change, or a claim: what it decides on the records that are due at this point of the batch. */
  work(work: Change | Claim, now: number, effects: Effect[]): Result {
    if (!("claim" in work)) return this.apply(work, now, effects);
    const change = work.decide(this.due(work.claim), now);
    return change ? this.apply(change, now, effects) : { ok: true, ids: [] };
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
      failed = { ok: false, conflict: { ...conflict, record: copyOf(conflict.record) } };
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
      return this.#write(table, id, recordOf(table.kind, effect.set, before), false);
    }
    const record = recordOf(table.kind, effect.record);
    countId(table, record);
    this.#write(table, idOf(table.kind, keyOf(table.kind, record)), record, false);
  }

  /** Takes in a record as another keeps it, every declared field in it. It is not copied: whoever gives it changes it no more. */
  hold(kind: string, record: Rec): void {
    const table = this.#table(kind);
    countId(table, record);
    for (const field in record) freeze(record[field]);
    this.#write(table, idOf(table.kind, keyOf(table.kind, record)), record, false);
  }

  /** Puts whole records as they are, and gives what a journal keeps of them. */
  load({ kind, records }: Piece): Effect[] {
    const table = this.#table(kind);
    for (const record of records) checkFields(table.kind, record);
    const effects = records.map((record) => ({ kind, record: compact(table.kind, record) }));
    for (const effect of effects) this.replay(effect);
    return effects;
  }

  /** Puts back whole records, given as the values of `fields` and, where a row is longer, an object of unknown ones. */
  restore(kind: string, fields: readonly string[], rows: readonly (readonly Json[])[]): void {
    const table = this.#table(kind);
    for (const row of rows) {
      const record: { [field: string]: Json } = { ...emptyOf(table.kind) };
      for (let i = 0; i < fields.length; i++) if (row[i] !== null) record[fields[i]!] = freeze(row[i]!);
      if (row.length > fields.length) Object.assign(record, freeze(row[fields.length]));
      countId(table, record);
      this.#write(table, idOf(table.kind, keyOf(table.kind, record)), record, false);
    }
  }

  /** How many records there are, of all kinds. */
  size(): number {
    let size = 0;
    for (const table of this.#tables.values()) size += table.rows.size;
    return size;
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

  /** The highest id number each of them ever gave. */
  highest(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.counters()).map(([kind, next]) => [kind, next - 1]));
  }

  /** Goes on above these ids. */
  raise(highest: Counters): void {
    this.raiseCounters(Object.fromEntries(Object.entries(highest).map(([kind, n]) => [kind, n + 1])));
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
    const row: Row | undefined = table.rows.get(id);
    const group = table.kind.chain && next ? next[table.kind.chain.group] : undefined;
    if (remember) this.#undo.push({ table, id, before: row?.rec ?? null, group, head: group === undefined ? null : (table.heads.get(group) ?? null) });
    writeRow(table, id, row, next);
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
      if (i > 0) joinSets(effects);
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
    const record = recordOf(table.kind, fields);
    checkKey(table.kind, record);
    const key = idOf(table.kind, keyOf(table.kind, record));
    const taken = takenBy(table, record, key);
    if (taken) return { on: "put", index, kind: table.kind.name, record: taken };
    countId(table, record);
    this.#write(table, key, record, true);
    effects.push({ kind: table.kind.name, record: compact(table.kind, fields) });
    return null;
  }

  #set(table: Table, key: Key, set: Rec, index: number, effects: Effect[]): Conflict | null {
    const id = idOf(table.kind, key);
    const before = table.rows.get(id)?.rec;
    if (!before) return { on: "put", index, kind: table.kind.name, record: null };
    checkFields(table.kind, set);
    const next = recordOf(table.kind, set, before);
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

/** Several additions to one record in a row are one effect: a journal that names the record for each of them is twice as long. */
function joinSets(effects: Effect[]): void {
  const [before, last] = [effects.at(-2)!, effects.at(-1)!];
  if (!("set" in before) || !("set" in last) || before.kind !== last.kind || JSON.stringify(before.key) !== JSON.stringify(last.key)) return;
  effects.splice(-2, 2, { ...before, set: { ...before.set, ...last.set } });
}

/** A record that may be given out: a change of it changes nothing here. */
function copyOf(record: Rec): Rec;
function copyOf(record: Rec | null): Rec | null;
function copyOf(record: Rec | null): Rec | null {
  return record && { ...record };
}

/** The record that `fields` make of `before` (every declared field null when there is none), with frozen values. */
function recordOf(kind: Kind, fields: Rec, before = emptyOf(kind)): Rec {
  const record: { [field: string]: Json } = { ...before };
  for (const field in fields) {
    const value = fields[field];
    if (value === undefined) continue;
    record[field] = value;
    if (typeof value === "object") freeze(value);
  }
  return record;
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

/** The fields with `{ $new: i }` replaced by the id that put i got (in json fields it is a value); themselves when there is none. */
function resolve(kind: Kind, fields: Fields, ids: readonly (string | number | undefined)[]): Rec {
  let result: { [field: string]: Json } | null = null;
  for (const field in fields) {
    const value = fields[field];
    if (typeof value !== "object" || !isNewId(value) || !isIdType(kind.fields[field])) continue;
    result ??= { ...(fields as Rec) };
    result[field] = newId(value, ids);
  }
  return result ?? (fields as Rec);
}

function newId(value: NewId, ids: readonly (string | number | undefined)[]): string | number {
  const id = ids[value.$new];
  if (id === undefined) throw new PawlError("internal", `Put ${value.$new} of this change was assigned no id before it was named by $new.`);
  return id;
}

const isIdType = (type: FieldType | undefined) => type === "text" || type === "integer";
const isNewId = (value: unknown): value is NewId => typeof (value as NewId | null)?.$new === "number";


// SQL text for Postgres from the declarations of kinds. Pure: no connection and no values, so a text is the same for every
// call of its shape. Invariants: text compares by code point (collation "C"), and a read asks for the order of its index.
//
// `json` keeps the text it was given, so that keys stay in their order and numbers as they were written; jsonb would sort
// the one and change the other. An index has at most 2,704 bytes for an entry, so text is in it by its first characters,
// and a read compares both those and the whole; only unique indexes hold whole text, and refuse what is too long.
import { PawlError } from "../../base/errors.ts";
import { EXTRA, columnsOf, indexOf, orderOf, quote, segmentsOf, type Segment, type Wanted } from "../sql.ts";
import type { FieldType, Index, Kind, Query, Scalar } from "../store.ts";

/** The tables of one schema, and which of their columns an older state has when it is only read. */
export type Names = { readonly schema: string; readonly columns: ReadonlyMap<string, ReadonlySet<string>> | null };

const TYPES: { readonly [type in FieldType]: string } = { text: 'text collate "C"', integer: "bigint", real: "double precision", boolean: "boolean", json: "json" };
/** Of parameters, which have no collation of their own. */
const CASTS: { readonly [type in FieldType]: string } = { ...TYPES, text: "text" };
/** Characters of text in an index, over all its fields: 2,400 bytes at most. */
const INDEXED = 600;

export const columnType = (type: FieldType): string => TYPES[type];
export const table = (names: Names, name: string): string => `${quote(names.schema)}.${quote(name)}`;
export const typeOf = (kind: Kind, column: string): FieldType => kind.fields[column] ?? "json";
const texts = new WeakMap<Names, Map<string, string>>();

/** The text of a shape, made once: a text of hundreds of columns takes longer to put together than its answer to arrive. */
function once(names: Names, shape: string, make: () => string): string {
  let made = texts.get(names);
  if (!made) texts.set(names, (made = new Map()));
  let text = made.get(shape);
  if (text === undefined) made.set(shape, (text = make()));
  return text;
}

const commas = (parts: readonly string[]): string => parts.join(", ");

/** Names of more than 63 bytes would be cut. */
export const indexName = (kind: Kind, index: string): string => `${kind.name}_by_${index}`.slice(0, 60);

export function tableText(names: Names, kind: Kind): string {
  const columns = columnsOf(kind).map((field) => `${quote(field)} ${TYPES[typeOf(kind, field)]}${kind.key.includes(field) ? " not null" : ""}`);
  return `create table ${table(names, kind.name)} (${commas(columns)}, primary key (${commas(kind.key.map(quote))}))`;
}

export function indexText(names: Names, kind: Kind, name: string): string {
  const index = kind.indexes[name]!;
  const terms = termsOf(index, quote);
  const where = terms.length > 0 ? ` where ${terms.join(" and ")}` : "";
  const keys = index.unique ? [] : kind.key.filter((field) => !index.fields.includes(field)).map(quote);
  const parts = [...index.fields.map((field) => `${shortened(kind, index, field, quote(field))} asc nulls first`), ...keys];
  return `create ${index.unique ? "unique " : ""}index ${quote(indexName(kind, name))} on ${table(names, kind.name)} (${commas(parts)})${where}`;
}

/** What an index holds of a field. */
function shortened(kind: Kind, index: Index, field: string, value: string): string {
  return isShortened(kind, index, field) ? `left(${value}, ${lengthIn(kind, index)})` : value;
}

/** How many characters of each text field an index holds. */
const lengthIn = (kind: Kind, index: Index): number => Math.floor(INDEXED / index.fields.filter((name) => kind.fields[name] === "text").length);

const isShortened = (kind: Kind, index: Index, field: string): boolean => kind.fields[field] === "text" && !index.unique && !isKey(kind, index);
const isKey = (kind: Kind, index: Index): boolean => index.fields === kind.key;

export function termsOf(index: Index, column: (name: string) => string): string[] {
  const where = Object.entries(index.where ?? {}).map(([field, value]) => `${column(field)} ${value === null ? "is null" : `= ${literal(value)}`}`);
  return [...where, ...(index.notNull ?? []).map((field) => `${column(field)} is not null`)];
}

function literal(value: string | number | boolean): string {
  return typeof value === "string" ? `'${value.replaceAll("'", "''")}'` : String(value);
}

/** A column of a kind as this state has it; of the alias `t`. */
function column(names: Names, kind: Kind, name: string): string {
  if (kind.fields[name] === undefined && name !== EXTRA) throw new PawlError("internal", `${kind.name} has no field "${name}".`);
  return names.columns && !names.columns.get(kind.name)?.has(name) ? `null::${CASTS[typeOf(kind, name)]}` : `t.${quote(name)}`;
}

/** All columns of a record, in the order of the declaration. */
export const recordText = (names: Names, kind: Kind): string => commas(columnsOf(kind).map((name) => column(names, kind, name)));
const from = (names: Names, kind: Kind): string => `${table(names, kind.name)} as t`;

/* ---------- reading along an index ---------- */

/** A read with its parameters, or null when no record can match. One text for all stretches of the index, so that it sees one moment. */
export function readText(names: Names, kind: Kind, query: Query, wanted: Wanted, limit: number | null): { text: string; values: string[] } | null {
  const index = indexOf(kind, query.index);
  const order = orderOf(kind, index);
  const values: string[] = [];
  const parts: string[] = [];
  for (const segment of segmentsOf(kind, index, order, query)) {
    const where = whereText(names, kind, index, order, segment, values);
    if (where !== null) parts.push(partText(names, kind, query, wanted, { index, order, segment, where }));
  }
  if (parts.length === 0) return null;
  if (wanted !== "records") return { text: parts.map((part) => `(${part})`).join(" union all "), values };
  if (parts.length === 1) return { text: parts[0]! + (limit === null ? "" : ` limit ${limit}`), values };
  // Numbered, for the parts of a union come in no promised order.
  return { text: parts.map((part, i) => `(select ${i}, p.* from (${part} limit ${limit}) as p)`).join(" union all "), values };
}

type Part = { readonly index: Index; readonly order: readonly string[]; readonly segment: Segment; readonly where: string };

function partText(names: Names, kind: Kind, query: Query, wanted: Wanted, { index, order, segment, where }: Part): string {
  if (wanted === "count") return `select count(*) from ${from(names, kind)}${where}`;
  if (typeof wanted === "object") return `select ${column(names, kind, wanted.by)}, count(*) from ${from(names, kind)}${where} group by 1`;
  return `select ${recordText(names, kind)} from ${from(names, kind)}${where} order by ${orderText(names, kind, index, order, segment, query.reverse ?? false)}`;
}

function whereText(names: Names, kind: Kind, index: Index, order: readonly string[], segment: Segment, values: string[]): string | null {
  const col = (name: string) => column(names, kind, name);
  const terms = termsOf(index, col);
  const compare = (field: string, op: string, value: Scalar): boolean => {
    const text = parameter(typeOf(kind, field), value);
    if (text === null || (op === "=" && Number(text) !== value && typeof value === "number")) return false;
    const place = `$${values.push(text)}::${CASTS[typeOf(kind, field)]}`;
    if (!index.fields.includes(field) || !isShortened(kind, index, field)) terms.push(`${col(field)} ${op} ${place}`);
    // What is shorter than the beginning that is in the index compares with it as with the whole.
    else if (text.length < lengthIn(kind, index)) terms.push(`${shortened(kind, index, field, col(field))} ${op} ${place}`);
    else {
      const loose = op === "<" ? "<=" : op === ">" ? ">=" : op;
      terms.push(`${col(field)} ${op} ${place}`, `${shortened(kind, index, field, col(field))} ${loose} ${shortened(kind, index, field, place)}`);
    }
    return true;
  };
  for (const [i, value] of segment.equals.entries()) {
    const field = order[i]!;
    if (value === null) terms.push(`${index.fields.includes(field) ? shortened(kind, index, field, col(field)) : col(field)} is null`);
    else if (!compare(field, "=", value)) return null;
  }
  const field = order[segment.equals.length]!;
  for (const { op, value } of segment.bounds) {
    if (value === undefined) terms.push(`${index.fields.includes(field) ? shortened(kind, index, field, col(field)) : col(field)} ${op}`);
    else if (!compare(field, op, value)) return null;
  }
  return terms.length > 0 ? ` where ${terms.join(" and ")}` : "";
}

/** Every field of the index, also those with one value: Postgres takes `is null` for no reason to leave one out. */
function orderText(names: Names, kind: Kind, index: Index, order: readonly string[], segment: Segment, reverse: boolean): string {
  return commas(order.flatMap((field, i) => {
    const name = column(names, kind, field);
    if (!index.fields.includes(field) || isKey(kind, index)) return [`${name}${reverse ? " desc" : ""}`];
    const direction = reverse ? " desc nulls last" : " asc nulls first";
    if (!isShortened(kind, index, field)) return [`${name}${direction}`];
    const short = `${shortened(kind, index, field, name)}${direction}`;
    return i < segment.equals.length ? [short] : [short, `${name}${direction}`];
  }));
}

/** A value as a parameter; null when no field of the type can be compared with it. A bound on integers may have a fraction. */
export function parameter(type: FieldType, value: Scalar): string | null {
  if (type === "text") return typeof value === "string" && isKeepable(value) ? value : null;
  if (type === "boolean") return typeof value === "boolean" ? String(value) : null;
  if (typeof value !== "number" || Number.isNaN(value)) return null;
  if (type === "real") return String(value);
  return type === "integer" ? BigInt(Math.ceil(Math.max(-FAR, Math.min(FAR, value)))).toString() : null;
}

/** Beyond every integer there can be. */
const FAR = 2 ** 62;

const isKeepable = (text: string): boolean => text.isWellFormed() && !text.includes("\0");

/* ---------- by key, by unique value, the last of a chain ---------- */

const rowsOf = (kind: Kind, fields: readonly string[]): string =>
  `unnest(${commas(fields.map((field, i) => `$${i + 1}::${field === WHOLE ? "boolean" : CASTS[typeOf(kind, field)]}[]`))}) as q(${commas(fields.map(quote))})`;
/** The array, beside those of the keys, that says which records are wanted whole. */
export const WHOLE = "-whole";
const LOCK = " for no key update of t";
const same = (fields: readonly string[]): string => fields.map((field) => `t.${quote(field)} = q.${quote(field)}`).join(" and ");

/**
 * The records with the keys whose parts are in the arrays $1, $2, …; in their order, and locked in it with `lock`. One is looked up after the
 * other: a plan outlives the time when its table was small, and a join would go on reading the whole of it.
 */
export function getText(names: Names, kind: Kind, lock: boolean): string {
  return once(names, `get ${kind.name} ${lock}`, () => lookUpText(names, kind, kind.key, same(kind.key), recordText(names, kind), lock ? LOCK : ""));
}

/** The same, locked; a record that is not wanted whole comes with its key and the fields `compared` alone, the others null. */
export function compareText(names: Names, kind: Kind, compared: readonly string[]): string {
  return once(names, `compare ${kind.name} ${compared.join(" ")}`, () => {
    const shown = new Set([...kind.key, ...compared]);
    const columns = columnsOf(kind).map((name) => (shown.has(name) ? column(names, kind, name) : `case when q.${quote(WHOLE)} then ${column(names, kind, name)} end`));
    return lookUpText(names, kind, [...kind.key, WHOLE], same(kind.key), commas(columns), LOCK);
  });
}

export function uniqueText(names: Names, kind: Kind, name: string): string {
  const index = indexOf(kind, name);
  const terms = [...termsOf(index, (field) => `t.${quote(field)}`), same(index.fields)];
  return once(names, `unique ${kind.name} ${name}`, () => lookUpText(names, kind, index.fields, terms.join(" and "), recordText(names, kind), ""));
}

function lookUpText(names: Names, kind: Kind, fields: readonly string[], where: string, columns: string, lock: string): string {
  const one = `select ${columns} from ${from(names, kind)} where ${where} limit 1${lock}`;
  return `select r.* from ${rowsOf(kind, fields)}, lateral (${one}) as r`;
}

/** The last record of each group in $1. */
export function headText(names: Names, kind: Kind): string {
  return once(names, `head ${kind.name}`, () => lastText(names, kind, kind.chain!));
}

function lastText(names: Names, kind: Kind, { group, order }: NonNullable<Kind["chain"]>): string {
  const last = `select ${recordText(names, kind)} from ${from(names, kind)} where t.${quote(group)} = q.${quote(group)} order by t.${quote(group)} desc, t.${quote(order)} desc limit 1`;
  return `select h.* from ${rowsOf(kind, [group])}, lateral (${last}) as h`;
}

/* ---------- writing ---------- */

/** Inserts the records whose columns are the arrays $1, $2, …; with `replace` those that exist are replaced whole. */
export function insertText(names: Names, kind: Kind, replace: boolean): string {
  return once(names, `insert ${kind.name} ${replace}`, () => putText(names, kind, columnsOf(kind), replace ? columnsOf(kind) : null));
}

/** Sets some columns of records that exist and are locked, or it would insert them. A column without an array becomes null. Looks each up by its key, as `getText` does. */
export function updateText(names: Names, kind: Kind, columns: readonly string[]): string {
  return once(names, `update ${kind.name} ${columns.join(" ")}`, () => putText(names, kind, [...kind.key, ...columns], columns));
}

function putText(names: Names, kind: Kind, columns: readonly string[], replaced: readonly string[] | null): string {
  const set = replaced?.filter((name) => !kind.key.includes(name)).map((name) => `${quote(name)} = excluded.${quote(name)}`);
  const conflict = set ? ` on conflict (${commas(kind.key.map(quote))}) do update set ${commas(set)}` : "";
  return `insert into ${table(names, kind.name)} (${commas(columns.map(quote))}) select ${commas(columns.map((name) => `q.${quote(name)}`))} from ${rowsOf(kind, columns)}${conflict}`;
}

export const deleteText = (names: Names, kind: Kind): string =>
  once(names, `delete ${kind.name}`, () => `delete from ${from(names, kind)} using ${rowsOf(kind, kind.key)} where ${same(kind.key)}`);

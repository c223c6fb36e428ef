// SQL text made from the declarations of kinds: tables, indexes and reads. Pure: no connection and no values, so every
// text can be cached by its shape. Invariant: a read along an index names that index and asks for its order, so that
// the planner has nothing to choose and nothing to sort.
import { PawlError } from "../base/errors.ts";
import { perKind } from "./check.ts";
import { compareScalars } from "./compare.ts";
import type { FieldType, Index, Kind, Query, Scalar } from "./store.ts";

/** The column for fields that are not declared: a JSON object, null when there are none. */
export const EXTRA = "extra";

/** What a table has of what its kind declares: all of it, except in an older file that was opened only to read. */
export type Present = { readonly columns: ReadonlySet<string>; readonly indexes: ReadonlySet<string> };

/** One contiguous stretch of an index. A page after a record is several of them, because null takes part in no comparison of SQL. */
export type Segment = { readonly equals: readonly Scalar[]; readonly bounds: readonly Bound[] };
export type Bound = { readonly op: ">=" | "<" | ">" | "is null" | "is not null"; readonly value?: Scalar };

/** What a read returns: whole records, their number, or their number for each value of a field. */
export type Wanted = "records" | "count" | { readonly by: string };

const COLUMN_TYPES: Record<FieldType, string> = { text: "text", integer: "integer", real: "real", boolean: "integer", json: "text" };

export const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;
const list = (names: readonly string[]): string => names.map(quote).join(", ");

export const columnType = (type: FieldType): string => COLUMN_TYPES[type];

/** All columns of a kind in the order of its declaration, `extra` last. */
export const columnsOf = perKind((kind): readonly string[] => [...Object.keys(kind.fields), EXTRA]);

/** The key is the table's integer rowid: the cheapest there is. */
export const isRowid = (kind: Kind): boolean => kind.key.length === 1 && kind.fields[kind.key[0]!] === "integer";

/**
 * The table itself is a tree in key order. Not where the key has several parts and nothing else is indexed (steps, history):
 * those are appended as they come, their key in an index, for as trees each flush of a hundred tasks wrote twice as many
 * pages. Nor where records have JSON in them (an agent's facts and patches): a tree keeps at most a kilobyte of a record, and
 * gives the rest of each a page of its own.
 */
const inKeyOrder = (kind: Kind): boolean => !isRowid(kind) && (kind.key.length === 1 || (Object.keys(kind.indexes).length > 0 && !Object.values(kind.fields).includes("json")));

export function tableText(kind: Kind): string {
  const rowid = isRowid(kind);
  const suffix = (field: string) => (rowid && field === kind.key[0] ? " primary key" : kind.key.includes(field) ? " not null" : "");
  const columns = Object.entries(kind.fields).map(([field, type]) => `${quote(field)} ${COLUMN_TYPES[type]}${suffix(field)}`);
  columns.push(`${quote(EXTRA)} text`);
  if (!rowid) columns.push(`primary key (${list(kind.key)})`);
  return `create table ${quote(kind.name)} (${columns.join(", ")}) strict${inKeyOrder(kind) ? ", without rowid" : ""}`;
}

export const indexName = (kind: Kind, index: string): string => `${kind.name}_by_${index}`;

export function indexText(kind: Kind, name: string): string {
  const index = kind.indexes[name]!;
  const terms = indexTerms(index);
  const where = terms.length > 0 ? ` where ${terms.join(" and ")}` : "";
  // Every order ends with the key: the indexes of a tree in that order do by themselves, and those of a table of rowids with the rowid.
  const fields = index.unique || isRowid(kind) || inKeyOrder(kind) ? index.fields : orderOf(kind, index);
  return `create ${index.unique ? "unique " : ""}index ${quote(indexName(kind, name))} on ${quote(kind.name)} (${list(fields)})${where}`;
}

/** The conditions of a partial index. A read repeats them word for word, or it could not use the index. */
export function indexTerms(index: Index, column: (name: string) => string = quote): string[] {
  const where = Object.entries(index.where ?? {}).map(([field, value]) => `${column(field)} ${value === null ? "is null" : `= ${literal(value as string)}`}`);
  return [...where, ...(index.notNull ?? []).map((field) => `${column(field)} is not null`)];
}

function literal(value: string | number | boolean): string {
  return typeof value === "string" ? `'${value.replaceAll("'", "''")}'` : String(typeof value === "boolean" ? Number(value) : value);
}

export const keyTerms = (kind: Kind): string => kind.key.map((field) => `${quote(field)} = ?`).join(" and ");

/** Insert, or replace every field when the key exists; what is not among `columns` becomes null. */
export function upsertText(kind: Kind, columns: readonly string[]): string {
  const rest = columnsOf(kind).filter((column) => !kind.key.includes(column));
  return `${insertText(kind, columns)} on conflict (${list(kind.key)}) do update set ${rest.map((column) => `${quote(column)} = excluded.${quote(column)}`).join(", ")}`;
}

export function insertText(kind: Kind, columns: readonly string[]): string {
  return `insert into ${quote(kind.name)} (${list(columns)}) values (${columns.map(() => "?").join(", ")})`;
}

export const getText = (kind: Kind, present: Present | null): string => `select ${recordText(kind, present)} from ${quote(kind.name)} where ${keyTerms(kind)}`;
export const deleteText = (kind: Kind): string => `delete from ${quote(kind.name)} where ${keyTerms(kind)}`;

/** The named fields of one record; whether it exists, when none is named. */
export const guardText = (kind: Kind, fields: readonly string[]): string => `select ${fields.length > 0 ? list(fields) : "1"} from ${quote(kind.name)} where ${keyTerms(kind)}`;

export function setText(kind: Kind, fields: readonly string[]): string {
  return `update ${quote(kind.name)} set ${fields.map((field) => `${quote(field)} = ?`).join(", ")} where ${keyTerms(kind)}`;
}

/** The last record of a chain. */
export function headText(kind: Kind): string {
  const { group, order } = kind.chain!;
  return `select ${recordText(kind, null)} from ${quote(kind.name)}${hintText(kind, null, undefined)} where ${quote(group)} = ? order by ${quote(order)} desc limit 1`;
}

/** The stored counter of a kind, and the highest id there is where that is cheap to know. */
export function nextText(kind: Kind): string {
  const highest = isRowid(kind) ? `(select max(${quote(kind.key[0]!)}) from ${quote(kind.name)})` : "null";
  return `select (select value from pawl where name = ${literal(`next ${kind.name}`)}), ${highest}`;
}

export const keepNextText = (kind: Kind): string => `insert into pawl values (${literal(`next ${kind.name}`)}, ?) on conflict (name) do update set value = excluded.value`;

/** The record with these values in a unique index. */
export function takenText(kind: Kind, name: string): string {
  const index = kind.indexes[name]!;
  const terms = [...indexTerms(index), ...index.fields.map((field) => `${quote(field)} = ?`)];
  return `select ${recordText(kind, null)} from ${quote(kind.name)} indexed by ${quote(indexName(kind, name))} where ${terms.join(" and ")}`;
}

/** The named index, or the primary key as one. */
export function indexOf(kind: Kind, name: string | undefined): Index {
  if (name === undefined) return { fields: kind.key };
  const index = kind.indexes[name];
  if (!index) throw new PawlError("internal", `${kind.name} has no index "${name}".`);
  return index;
}

/** The fields that order the records of an index: its own, then the rest of the key, which tells nothing apart where its own are unique. */
export function orderOf(kind: Kind, { fields, unique, notNull = [] }: Index): readonly string[] {
  if (unique && fields.every((field) => notNull.includes(field) || kind.key.includes(field))) return fields;
  return [...fields, ...kind.key.filter((field) => !fields.includes(field))];
}

export function columnText(kind: Kind, present: Present | null, column: string): string {
  if (kind.fields[column] === undefined && column !== EXTRA) throw new PawlError("internal", `${kind.name} has no field "${column}".`);
  return present && !present.columns.has(column) ? "null" : quote(column);
}

/**
 * A whole record as one JSON array, for handing over one text takes a third of the time of three dozen values; and behind
 * it the real numbers, which SQLite prints with fewer digits than they have.
 */
export function recordText(kind: Kind, present: Present | null): string {
  const isReal = (column: string) => kind.fields[column] === "real";
  const columns = columnsOf(kind);
  const array = columns.map((column) => (isReal(column) ? "null" : columnText(kind, present, column)));
  return [`json_array(${array.join(", ")})`, ...columns.filter(isReal).map((column) => columnText(kind, present, column))].join(", ");
}

/** The stretches of the index that hold what the query asks for, in the order they are to be read. */
export function segmentsOf(kind: Kind, index: Index, order: readonly string[], query: Query): readonly Segment[] {
  const equals: Scalar[] = [];
  for (let i = 0; i < Object.keys(query.equals ?? {}).length; i++) {
    const value = query.equals![index.fields[i]!];
    if (value === undefined) throw new PawlError("internal", `equals must name the first fields of index ${query.index ?? "(key)"} of ${kind.name}.`);
    equals.push(value);
  }
  const bounds: Bound[] = [];
  if (query.from !== undefined) bounds.push({ op: ">=", value: query.from });
  if (query.to !== undefined) bounds.push({ op: "<", value: query.to });
  const { after, reverse = false } = query;
  if (!after) return [{ equals, bounds }];
  const at = order.map((field) => (after[field] ?? null) as Scalar);
  for (let i = 0; i < equals.length; i++) {
    const side = compareScalars(at[i]!, equals[i]!);
    if (side !== 0) return side > 0 === reverse ? [{ equals, bounds }] : [];
  }
  return segmentsAfter(equals, bounds, at, order.map((field) => kind.key.includes(field)), reverse);
}

/** First what agrees with the cursor in all fields but the last and lies beyond it there, then in all but the last two, and so on. */
function segmentsAfter(equals: readonly Scalar[], bounds: readonly Bound[], at: readonly Scalar[], inKey: readonly boolean[], reverse: boolean): Segment[] {
  const segments: Segment[] = [];
  const first = equals.length;
  const inside = bounds.every(({ op, value }) => at[first] !== null && (op === ">=" ? compareScalars(at[first]!, value!) >= 0 : compareScalars(at[first]!, value!) < 0));
  for (let n = at.length - 1; n >= first; n--) {
    if (n > first && !inside) continue;
    const prefix = [...equals, ...at.slice(first, n)];
    const also = n === first ? bounds : [];
    const value = at[n]!;
    if (!reverse) segments.push({ equals: prefix, bounds: [...also, value === null ? { op: "is not null" } : { op: ">", value }] });
    else if (value !== null) {
      segments.push({ equals: prefix, bounds: [...also, { op: "<", value }] });
      if (also.length === 0 && !inKey[n]) segments.push({ equals: prefix, bounds: [{ op: "is null" }] });
    }
  }
  return segments;
}

/** Equal exactly for reads with the same text. */
export function shapeOf(query: Query, segment: Segment, wanted: Wanted): string {
  let shape = `${query.index ?? ""}|${query.reverse ? "r" : ""}|${typeof wanted === "object" ? `by ${wanted.by}` : wanted}|`;
  for (const value of segment.equals) shape += value === null ? "n" : "=";
  for (const bound of segment.bounds) shape += `|${bound.op}`;
  return shape;
}

/** The values of the text's parameters, in order; a read of records takes its limit as one more. */
export function valuesOf(segment: Segment): Scalar[] {
  const values: Scalar[] = segment.equals.filter((value) => value !== null);
  for (const { value } of segment.bounds) if (value !== undefined) values.push(value);
  return values;
}

export function readText(kind: Kind, present: Present | null, query: Query, segment: Segment, wanted: Wanted): string {
  const index = indexOf(kind, query.index);
  const order = orderOf(kind, index);
  const column = (name: string) => columnText(kind, present, name);
  const n = segment.equals.length;
  const terms = indexTerms(index, column);
  segment.equals.forEach((value, i) => terms.push(`${column(order[i]!)} ${value === null ? "is null" : "= ?"}`));
  for (const { op, value } of segment.bounds) terms.push(`${column(order[n]!)} ${op}${value === undefined ? "" : " ?"}`);
  const where = terms.length > 0 ? ` where ${terms.join(" and ")}` : "";
  // A bare count takes the smallest tree there is, which SQLite finds by itself.
  const hint = wanted === "count" && where === "" ? "" : hintText(kind, present, query.index);
  const from = ` from ${quote(kind.name)}${hint}${where}`;
  if (wanted === "count") return `select count(*)${from}`;
  if (typeof wanted === "object") return `select ${column(wanted.by)}, count(*)${from} group by 1`;
  const direction = query.reverse ? " desc" : "";
  const orderBy = order.slice(n).map((field) => `${column(field)}${direction}`).join(", ");
  // Of a bare `limit ?` the planner looks at the value, and so prepares the statement anew for each other one.
  return `select ${recordText(kind, present)}${from}${orderBy === "" ? "" : ` order by ${orderBy}`} limit ? + 0`;
}

/** Names the index. The planner's own choice once was a plain index over a partial one, four thousand times slower. */
function hintText(kind: Kind, present: Present | null, index: string | undefined): string {
  if (index === undefined) return isRowid(kind) ? " not indexed" : ` indexed by ${quote(`sqlite_autoindex_${kind.name}_1`)}`;
  if (present && !present.indexes.has(indexName(kind, index))) return "";
  return ` indexed by ${quote(indexName(kind, index))}`;
}

/** The index to group by `by` along, when the query itself names none: a whole one that begins with it. */
export function indexFor(kind: Kind, query: Query, by: string): Query {
  const bare = query.index === undefined && !query.equals && query.from === undefined && query.to === undefined && !kind.key.includes(by);
  const found = bare ? Object.entries(kind.indexes).find(([, index]) => index.fields[0] === by && !index.where && !index.notNull) : undefined;
  return found ? { ...query, index: found[0] } : query;
}

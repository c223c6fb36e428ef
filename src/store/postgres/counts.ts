// How many records there are for each value of the indexes that are `counted`, kept by the very transactions that change them,
// so that asking reads a few rows however many records there are. Invariant: the sum over all slots is what counting would give.
//
// A transaction adds to the rows of its handle's slot, and last of all: so writers seldom wait for each other here, and never
// in a circle.
import { perKind } from "../check.ts";
import type { Statement, Row } from "./driver.ts";
import { itemOf } from "./records.ts";
import * as sql from "./sql.ts";
import { quote } from "../sql.ts";
import type { FieldType, Index, Kind, Query, Rec } from "../store.ts";

/** Rows that one count is spread over. */
export const SLOTS = 16;
const COUNTS = "pawl_counts";

export const countsTable = (names: sql.Names): string => sql.table(names, COUNTS);
export const countsText = (names: sql.Names): string =>
  `create table if not exists ${countsTable(names)} (kind text collate "C", "index" text collate "C", value text collate "C", slot integer, n bigint not null, primary key (kind, "index", value, slot)) with (fillfactor = 50)`;

/** The counted indexes of a kind, each with the fields that are counted. */
export const countedOf = perKind((kind): readonly Counted[] =>
  Object.entries(kind.indexes).flatMap(([name, index]) => (index.counted === undefined ? [] : [{ name, index, fields: index.fields.slice(0, index.counted) }])),
);

type Counted = { readonly name: string; readonly index: Index; readonly fields: readonly string[] };

/* ---------- keeping them ---------- */

/** By kind, index and value, how many more or fewer there are. */
export type Tally = Map<string, { readonly kind: string; readonly index: string; readonly value: string; n: number }>;

/** Adds what becomes of the counts when one version of a record takes the place of another; null for none. */
export function tally(counts: Tally, kind: Kind, before: Rec | null, after: Rec | null): void {
  for (const { name, index, fields } of countedOf(kind)) {
    const [old, now] = [valueIn(index, fields, before), valueIn(index, fields, after)];
    if (old === now) continue;
    if (old !== null) add(counts, kind.name, name, old, -1);
    if (now !== null) add(counts, kind.name, name, now, 1);
  }
}

function add(counts: Tally, kind: string, index: string, value: string, n: number): void {
  const id = `${kind} ${index} ${value}`;
  const count = counts.get(id);
  if (count) count.n += n;
  else counts.set(id, { kind, index, value, n });
}

/** The value under which a record is counted, written as Postgres would write it; null when it is not in the index. */
function valueIn(index: Index, fields: readonly string[], record: Rec | null): string | null {
  if (!record || (index.notNull ?? []).some((field) => record[field] === null)) return null;
  if (Object.entries(index.where ?? {}).some(([field, value]) => record[field] !== value)) return null;
  return `[${fields.map((field) => JSON.stringify(record[field] ?? null)).join(", ")}]`;
}

/** Adds the tally to the rows of a slot; in the order of their keys, as everybody does. To be the last statement before a commit. */
export function countStatements(names: sql.Names, counts: Tally, slot: number): Statement[] {
  const rows = [...counts].filter(([, { n }]) => n !== 0).sort(([a], [b]) => (a < b ? -1 : 1)).map(([, count]) => count);
  if (rows.length === 0) return [];
  const text = `insert into ${countsTable(names)} as c select q.kind, q."index", q.value, $5::integer, q.n from unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) as q(kind, "index", value, n) on conflict (kind, "index", value, slot) do update set n = c.n + excluded.n`;
  const column = (type: FieldType, of: "kind" | "index" | "value" | "n") => `{${rows.map((row) => itemOf(type, row[of])).join(",")}}`;
  return [{ text, values: [column("text", "kind"), column("text", "index"), column("text", "value"), column("integer", "n"), String(slot)] }];
}

/** Counts everything anew. Nobody may be writing meanwhile. */
export function recount(names: sql.Names, kinds: readonly Kind[]): Statement[] {
  const texts = kinds.flatMap((kind) => countedOf(kind).map(({ name, index, fields }) => `insert into ${countsTable(names)} ${countedText(names, kind, name, index, fields)}`));
  return [`delete from ${countsTable(names)}`, ...texts].map((text) => ({ text }));
}

function countedText(names: sql.Names, kind: Kind, name: string, index: Index, fields: readonly string[]): string {
  const terms = sql.termsOf(index, quote);
  const where = terms.length > 0 ? ` where ${terms.join(" and ")}` : "";
  return `select '${kind.name}', '${name}', json_build_array(${fields.map(quote).join(", ")})::text, 0, count(*) from ${sql.table(names, kind.name)}${where} group by 3`;
}

/** Asks for each count that is not what counting gives: kind, index, value, what is kept, what is there. */
export function wrongCounts(names: sql.Names, kinds: readonly Kind[]): Statement | null {
  const real = kinds.flatMap((kind) => countedOf(kind).map(({ name, index, fields }) => countedText(names, kind, name, index, fields)));
  if (real.length === 0) return null;
  const kept = `select kind, "index", value, sum(n) as n from ${countsTable(names)} group by 1, 2, 3`;
  const text = `with kept as (${kept}), here (kind, "index", value, slot, n) as (${real.join(" union all ")}) select kind, "index", value, coalesce(k.n, 0), coalesce(h.n, 0) from kept k full join here h using (kind, "index", value) where coalesce(k.n, 0) <> coalesce(h.n, 0) order by 1, 2, 3`;
  return { text };
}

/* ---------- asking for them ---------- */

/** What answers a count from the rows kept here; null when it must be counted. `by`: the field it is grouped by. */
export function keptCount(names: sql.Names, kind: Kind, query: Query, by: string | undefined): { readonly statement: Statement; readonly answer: (rows: readonly Row[]) => number | Record<string, number> } | null {
  if (names.columns && !names.columns.has(COUNTS)) return null;
  if (query.from !== undefined || query.to !== undefined || query.after !== undefined || query.limit !== undefined) return null;
  const counted = countedOf(kind).find(({ name, index, fields }) => (query.index === undefined ? isWhole(index) && !query.equals : name === query.index) && answers(fields, query, by));
  if (!counted) return null;
  const { name, fields } = counted;
  const values = fields.slice(0, Object.keys(query.equals ?? {}).length).map((field) => JSON.stringify(query.equals![field]!));
  const begin = `[${values.join(", ")}${values.length === 0 ? "" : values.length === fields.length ? "]" : ", "}`;
  const text = `select value, sum(n) from ${countsTable(names)} where kind = $1 and "index" = $2 and value >= $3 and value < $4 group by value having sum(n) <> 0`;
  const answer = (rows: readonly Row[]) => (by === undefined ? rows.reduce((sum, [, n]) => sum + Number(n), 0) : grouped(rows, fields.indexOf(by)));
  return { statement: { text, values: [kind.name, name, begin, `${begin}\u{10ffff}`] }, answer };
}

/** Every record of the kind is in it. */
const isWhole = ({ where, notNull }: Index): boolean => where === undefined && (notNull ?? []).length === 0;

/** The first of the fields have one value each, and what is grouped by is among them. */
function answers(fields: readonly string[], { equals = {} }: Query, by: string | undefined): boolean {
  const given = Object.keys(equals);
  const values = Object.values(equals);
  return given.length <= fields.length && fields.slice(0, given.length).every((field) => given.includes(field)) && values.every(isPlain) && (by === undefined || fields.includes(by));
}

/** A value that is written in one way only. */
const isPlain = (value: unknown): boolean => (typeof value === "string" && value.isWellFormed() && !value.includes("\0")) || typeof value === "boolean" || value === null || Number.isSafeInteger(value);

function grouped(rows: readonly Row[], at: number): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [value, n] of rows) {
    const shown = String((JSON.parse(value!) as unknown[])[at]);
    counts[shown] = (counts[shown] ?? 0) + Number(n);
  }
  return counts;
}

// The schema of a Postgres state: whether it is ours, made and brought up to date. Invariants: a schema of another program or
// of a newer format is never written to; everything is one transaction under one lock, so that any number of processes may
// open a new state at once; columns and indexes are only added, so that an older process goes on beside a newer one.
import { PawlError } from "../../base/errors.ts";
import { sha256, type Json } from "../../base/json.ts";
import { formatOf, newerFormat } from "../migrations.ts";
import { countedOf, countsText, recount } from "./counts.ts";
import { sqlState, type Answer, type Link, type Row, type Statement } from "./driver.ts";
import { keyRecord, lists, statements } from "./records.ts";
import * as sql from "./sql.ts";
import { EXTRA, quote } from "../sql.ts";
import type { FieldType, Kind, Model, Rec } from "../store.ts";

/** Tables beside those of the kinds. */
export const OWN = ["pawl", "pawl_ids", "pawl_writer", "pawl_counts"];
/** Several processes make the same thing at once, and all but one are told that it is there. */
const THERE_ALREADY = ["42P07", "42P06", "42710", "23505", "XX000", "40P01"];
const TRIES = 20;
const BEGIN: Statement = { text: "begin" };
const COMMIT: Statement = { text: "commit" };

/** What settings of the server take away from what is promised; null for none. */
export async function checkServer(run: (statements: readonly Statement[]) => Promise<Answer[]>, location: string): Promise<string[]> {
  const names = ["server_version_num", "server_encoding", "fsync", "full_page_writes", "standard_conforming_strings"];
  const [{ rows }] = (await run([{ text: `select ${names.map((name) => `current_setting('${name}')`).join(", ")}` }])) as [Answer];
  const [version, encoding, fsync, pages] = rows[0] as string[];
  if (Number(version) < 130_000) throw new PawlError("unsupported", `${location} is Postgres ${Math.floor(Number(version) / 10_000)}; Pawl needs 13 or newer.`, { next: "Update the server." });
  if (encoding !== "UTF8") throw new PawlError("unsupported", `The database of ${location} is in ${encoding}, where not every text can be kept.`, { next: "Create one with: createdb --encoding=UTF8 --template=template0 NAME" });
  return [["fsync", fsync], ["full_page_writes", pages]].filter(([, value]) => value === "off").map(([name]) => `${location} runs with ${name}=off: a power cut there may lose or damage what was acknowledged.`);
}

/** Changes whenever the declarations do. */
export const schemaOf = (names: sql.Names, model: Model): string =>
  sha256(JSON.stringify(model.kinds.flatMap((kind) => [sql.tableText(names, kind), ...Object.keys(kind.indexes).map((name) => sql.indexText(names, kind, name)), ...countedOf(kind).flatMap(({ name, fields }) => [name, ...fields])])), 16);

/** Makes what is missing. A state that is up to date is only read. */
export async function migrate(link: Link, names: sql.Names, model: Model, location: string): Promise<void> {
  for (let i = 1; ; i++) {
    try {
      const notes = await notesOf(link, names);
      if (notes && checkNotes(notes, model, location) && notes.get("schema") === schemaOf(names, model)) return;
      if (await make(link, names, model, location, notes === null)) return;
    } catch (error) {
      await link.run([{ text: "rollback" }]);
      if (i >= TRIES || !THERE_ALREADY.includes(sqlState(error) ?? "")) throw error;
    }
  }
}

/** Null when there is no state. */
async function notesOf(link: Link, names: sql.Names): Promise<Map<string, string> | null> {
  const [{ rows }] = (await link.run([{ text: "select 1 from information_schema.tables where table_schema = $1 and table_name = 'pawl'", values: [names.schema] }])) as [Answer];
  if (rows.length === 0) return null;
  const [answer] = (await link.run([{ text: `select name, value from ${sql.table(names, "pawl")}` }])) as [Answer];
  return new Map(answer.rows as [string, string][]);
}

function checkNotes(notes: ReadonlyMap<string, string>, model: Model, location: string): boolean {
  const format = Number(notes.get("format"));
  const known = formatOf(model);
  if (!Number.isInteger(format)) throw new PawlError("corrupt", `${location} has a table "pawl" that says no format, so it is left as it is.`, { next: "Name another schema: ?schema=NAME", details: { location } });
  if (format > known) throw newerFormat(location, format, known);
  // There has been one format only; whoever makes a second writes the step for Postgres with it.
  if (format < known) throw new PawlError("unsupported", `${location} has format ${format}, and this version of Pawl keeps format ${known}.`, { next: "Copy it into a file with the older Pawl, and from there with this one.", details: { format, known } });
  return true;
}

/** False when somebody made the state meanwhile: it is to be looked at again. */
async function make(link: Link, names: sql.Names, model: Model, location: string, isNew: boolean): Promise<boolean> {
  const note: Statement = { text: `insert into ${sql.table(names, "pawl")} values ('schema', $1) on conflict (name) do update set value = excluded.value`, values: [schemaOf(names, model)] };
  const ids = model.kinds.filter(({ assign }) => assign !== undefined)
    .map(({ name }) => ({ text: `insert into ${sql.table(names, "pawl_ids")} values ($1, 1) on conflict do nothing`, values: [name] }));
  if (isNew) {
    const own = await ownTables(link, names, model, location);
    if (own === null) return false;
    await link.run([BEGIN, ...own, ...model.kinds.flatMap((kind) => kindTexts(names, kind, new Map(), new Map(), location)), ...ids, note, COMMIT]);
    return true;
  }
  // The one lock: whoever writes reads this table first, so nobody is in the middle of a transaction either.
  await link.run([BEGIN, { text: "set local lock_timeout = '60s'" }, { text: `lock table ${sql.table(names, "pawl")} in access exclusive mode` }]);
  const notes = await notesOf(link, names);
  if (notes) checkNotes(notes, model, location);
  if (notes?.get("schema") !== schemaOf(names, model)) {
    const columns = await columnsIn(link, names);
    const indexes = await indexesIn(link, names);
    for (const kind of model.kinds) await link.run(kindTexts(names, kind, columns.get(kind.name) ?? new Map(), indexes, location));
    for (const kind of model.kinds) await adoptExtra(link, names, kind, columns.get(kind.name) ?? new Map());
    await link.run([{ text: countsText(names) }, ...recount(names, model.kinds), ...ids, note]);
  }
  await link.run([COMMIT]);
  return true;
}

/** The schema and Pawl's own tables, unless somebody else's are in it; null when they are there. */
async function ownTables(link: Link, names: sql.Names, model: Model, location: string): Promise<Statement[] | null> {
  const [{ rows: schemas }, { rows: tables }] = (await link.run([
    { text: "select 1 from information_schema.schemata where schema_name = $1", values: [names.schema] },
    { text: "select table_name from information_schema.tables where table_schema = $1", values: [names.schema] },
  ])) as [Answer, Answer];
  if (tables.some(([name]) => name === "pawl")) return null;
  const taken = tables.map(([name]) => name!).find((name) => model.kinds.some((kind) => kind.name === name));
  if (taken !== undefined) {
    throw new PawlError("unsupported", `The schema ${names.schema} of ${location} has a table "${taken}" of another program, so it is left as it is.`, { next: "Name another schema: ?schema=NAME", details: { location, table: taken } });
  }
  return [
    // Asked for only when it is missing, since that takes a right on the whole database.
    ...(schemas.length === 0 ? [{ text: `create schema ${quote(names.schema)}` }] : []),
    { text: `create table ${sql.table(names, "pawl")} (name text primary key, value text not null)` },
    { text: `create table ${sql.table(names, "pawl_ids")} (kind text primary key, next bigint not null)` },
    { text: `create table ${sql.table(names, "pawl_writer")} (id text primary key, commits bigint not null, voided boolean not null, at timestamptz not null)` },
    { text: countsText(names) },
    { text: `insert into ${sql.table(names, "pawl")} values ('format', $1)`, values: [String(formatOf(model))] },
  ];
}

/** What a kind needs that is not there: its table or some columns, and its indexes. */
function kindTexts(names: sql.Names, kind: Kind, columns: ReadonlyMap<string, string>, indexes: ReadonlyMap<string, string | null>, location: string): Statement[] {
  if (OWN.includes(kind.name) || kind.fields[EXTRA] !== undefined) throw new PawlError("internal", `A kind cannot be called ${kind.name}, nor a field ${EXTRA}.`);
  const made = columns.size === 0 ? [sql.tableText(names, kind)] : [];
  for (const [field, type] of columns.size === 0 ? [] : Object.entries(kind.fields)) {
    const wanted = sql.columnType(type).replace(/ collate.*/, "");
    const found = columns.get(field);
    if (found === undefined) made.push(`alter table ${sql.table(names, kind.name)} add column ${quote(field)} ${sql.columnType(type)}`);
    else if (found !== wanted) throw new PawlError("unsupported", `The column ${kind.name}.${field} of ${location} is ${found}, where ${wanted} is needed.`, { next: "Run: pawl doctor", details: { location } });
  }
  for (const name of Object.keys(kind.indexes)) {
    // An index keeps the text it was made of as its comment, for Postgres gives it back in other words.
    const text = sql.indexText(names, kind, name);
    const index = sql.table(names, sql.indexName(kind, name));
    const found = indexes.get(sql.indexName(kind, name));
    if (found === text) continue;
    if (found !== undefined) made.push(`drop index ${index}`);
    made.push(text, `comment on index ${index} is '${text.replaceAll("'", "''")}'`);
  }
  return made.map((text) => ({ text }));
}

export async function indexesIn(link: Pick<Link, "run">, names: sql.Names): Promise<Map<string, string | null>> {
  const text = "select c.relname, obj_description(c.oid, 'pg_class') from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relkind = 'i'";
  const [{ rows }] = (await link.run([{ text, values: [names.schema] }])) as [Answer];
  return new Map(rows as unknown as [string, string | null][]);
}

/** Fields that were not declared until now: their values move from `extra` to the new columns, those that fit their types. */
async function adoptExtra(link: Link, names: sql.Names, kind: Kind, columns: ReadonlyMap<string, string>): Promise<void> {
  for (const [field, type] of columns.size === 0 ? [] : Object.entries(kind.fields)) {
    if (columns.has(field)) continue;
    const [{ rows }] = (await link.run([{ text: `select ${[...kind.key, EXTRA].map(quote).join(", ")} from ${sql.table(names, kind.name)} where ${quote(EXTRA)} is not null` }])) as [Answer];
    const records = rows.map((row) => adopted(kind, row, field, type)).filter((record) => record !== null);
    for (const statement of statements(sql.updateText(names, kind, [field, EXTRA]), lists(kind, [...kind.key, field, EXTRA], records))) await link.run([statement]);
  }
}

function adopted(kind: Kind, row: Row, field: string, type: FieldType): Rec | null {
  const { [field]: value, ...rest } = JSON.parse(row.at(-1)!) as { [field: string]: Json };
  if (value === undefined) return null;
  const fits = value === null || type === "json" || (type === "integer" ? Number.isSafeInteger(value) : typeof value === { text: "string", real: "number", boolean: "boolean" }[type]);
  if (!fits) return null;
  const key = kind.key.map((name, i) => (kind.fields[name] === "integer" ? Number(row[i]) : row[i]!));
  return { ...rest, ...keyRecord(kind, key), [field]: value };
}

/** The columns of every table of the schema, with their types. */
export async function columnsIn(link: Pick<Link, "run">, names: sql.Names): Promise<Map<string, Map<string, string>>> {
  const [{ rows }] = (await link.run([{ text: "select table_name, column_name, data_type from information_schema.columns where table_schema = $1", values: [names.schema] }])) as [Answer];
  const tables = new Map<string, Map<string, string>>();
  for (const [name, column, type] of rows as string[][]) {
    if (!tables.has(name!)) tables.set(name!, new Map());
    tables.get(name!)!.set(column!, type!);
  }
  return tables;
}

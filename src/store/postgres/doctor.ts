// What is wrong with a Postgres state: its server, the rights of the role, its tables, the counts kept beside them. Invariants:
// looking changes nothing; a repair adds what is missing and counts anew, under the lock that keeps writers away; only the
// tables of a copy that was not finished are ever removed.
import { messageOf, PawlError } from "../../base/errors.ts";
import { finding, type Finding } from "../../base/finding.ts";
import { formatOf } from "../migrations.ts";
import { diagnoseWorkers } from "../place.ts";
import { wrongCounts } from "./counts.ts";
import { Connections, explain, TIMES, type Answer, type Link, type Row } from "./driver.ts";
import { sealOf, sealText } from "./move.ts";
import { checkServer, columnsIn, indexesIn, OWN, schemaOf } from "./schema.ts";
import * as sql from "./sql.ts";
import { readPostgresUrl } from "./url.ts";
import { openPostgres } from "./postgres.ts";
import { columnsOf } from "../sql.ts";
import type { Kind, Model, OpenOptions } from "../store.ts";

/** Clocks this far apart are worth knowing, in ms. */
const APART_MS = 5_000;
/** A transaction is long after this, in ms; tests are less patient. */
const LONG_MS = 60_000;
/** Wrong counts, missing tables and the like that are named one by one. */
const SHOWN = 5;

const some = (names: readonly string[]): string => names.slice(0, SHOWN).join(", ") + (names.length > SHOWN ? ` and ${names.length - SHOWN} more` : "");

type Look = { readonly link: Link; readonly names: sql.Names; readonly model: Model; readonly location: string };
export type Looking = { readonly deep: boolean; readonly lockFolder: string; readonly longMs?: number };

async function withLink<T>(url: string, options: OpenOptions, work: (link: Link, names: sql.Names, location: string) => Promise<T>): Promise<T> {
  const { connection, schema, location } = readPostgresUrl(url);
  const connections = new Connections(connection, options, TIMES);
  try {
    const link = await connections.take();
    return await work(link, { schema, columns: null }, location).finally(() => link.release(true));
  } catch (error) {
    throw explain(error, location);
  } finally {
    await connections.close();
  }
}

const noteTable = (names: sql.Names) => ({ text: "select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = 'pawl' and c.relkind = 'r'", values: [names.schema] });

/** Whether there is a state; true when the server cannot be asked, for then opening it says why. */
export async function isThere(url: string, options: OpenOptions): Promise<boolean> {
  try {
    return await withLink(url, options, async (link, names) => (await link.run([noteTable(names)]))[0]!.rows.length > 0);
  } catch {
    return true;
  }
}

/** Removes the tables of a copy that was not finished; the schema stays, with whatever rights it has. */
export async function discardPostgres(url: string, model: Model, options: OpenOptions): Promise<void> {
  await withLink(url, options, async (link, names, location) => {
    if ((await link.run([noteTable(names)]))[0]!.rows.length === 0) return;
    await link.run([{ text: "begin" }, { text: "set local lock_timeout = '10s'" }, { text: `lock table ${sql.table(names, "pawl")} in access exclusive mode` }]);
    const [answer] = await link.run([sealText(names)]);
    if (!sealOf(answer)?.unfinished) throw new PawlError("conflict", `${location} is no unfinished copy, so it is left as it is.`, { next: "See what it is: pawl doctor." });
    const tables = [...model.kinds.map(({ name }) => name), ...OWN].map((name) => sql.table(names, name));
    await link.run([{ text: `drop table if exists ${tables.join(", ")}` }, { text: "commit" }]);
  });
}

/* ---------- looking ---------- */

export async function diagnosePostgres(url: string, model: Model, options: OpenOptions, looking: Looking): Promise<Finding[]> {
  const { location } = readPostgresUrl(url);
  try {
    return await withLink(url, options, async (link, names) => {
      // One moment, in which nothing can be written. Not set for the session: a pooler gives that to others.
      await link.run([{ text: "begin isolation level repeatable read read only" }]);
      const look: Look = { link, names, model, location };
      const settings = await checkServer((asked) => link.run(asked), location);
      return [
        ...settings.map((line) => finding("server_setting", location, line, { next: "Switch it on in postgresql.conf, then restart the server." })),
        ...(await diagnoseServer(look, options.clock.now(), looking.longMs ?? LONG_MS)),
        ...(await diagnoseSchema(look)),
        ...diagnoseWorkers(looking.lockFolder),
      ];
    });
  } catch (error) {
    const code = error instanceof PawlError && error.code === "unsupported" ? "server_unsupported" : "unreadable";
    return [finding(code, location, messageOf(error), error instanceof PawlError && error.next ? { next: error.next } : {})];
  }
}

async function rowsOf({ link }: Look, text: string, ...values: string[]): Promise<readonly Row[]> {
  return ((await link.run([{ text, values }])) as [Answer])[0].rows;
}

async function diagnoseServer(look: Look, now: number, longMs: number): Promise<Finding[]> {
  const { location } = look;
  const findings: Finding[] = [];
  const [state] = await rowsOf(look, "select pg_is_in_recovery(), (select reset_val from pg_settings where name = 'default_transaction_read_only'), extract(epoch from clock_timestamp()) * 1000");
  const [standby, readOnly, time] = state as [string, string, string];
  if (standby === "t") findings.push(finding("server_read_only", location, "This server is a standby: it can be read, and is behind its primary.", { next: "Use the URL of the primary." }));
  else if (readOnly === "on") findings.push(finding("server_read_only", location, "default_transaction_read_only is on for this role, database or server: nothing can be written.", { next: "Switch it off: alter role … reset default_transaction_read_only" }));
  const apart = Number(time) - now;
  if (Math.abs(apart) > APART_MS) findings.push(finding("clock_apart", location, `The server's clock is ${Math.round(Math.abs(apart) / 1000)} s ${apart > 0 ? "ahead of" : "behind"} this machine's. The rules go by the server's.`, { next: "Set one of them; use NTP." }));
  const long = await rowsOf(look,
    "select pid, coalesce(usename, '?'), coalesce(nullif(application_name, ''), '?'), state, round(extract(epoch from clock_timestamp() - xact_start)) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and xact_start < clock_timestamp() - $1::bigint * interval '1 millisecond' order by xact_start limit 5",
    String(longMs));
  for (const [pid, user, program, doing, seconds] of long) {
    findings.push(finding("long_transaction", location, `Process ${pid} (user ${user}, program ${program}, ${doing}) has been in a transaction for ${seconds} s: nothing that was replaced since can be cleaned up, and what it holds is waited for.`, { next: `End it if it hangs: select pg_terminate_backend(${pid})` }));
  }
  return findings;
}

async function diagnoseSchema(look: Look): Promise<Finding[]> {
  const { link, names, model, location } = look;
  const rights = await diagnoseRights(look);
  if (rights.some(({ code }) => code === "unreadable")) return rights;
  const notes = new Map((await rowsOf(look, `select name, value from ${sql.table(names, "pawl")}`)) as unknown as [string, string][]);
  const format = Number(notes.get("format"));
  if (format > formatOf(model)) return [finding("newer_format", location, `It has format ${format}; this version of Pawl knows up to ${formatOf(model)}.`, { next: "Update Pawl." })];
  if (notes.get("schema") !== schemaOf(names, model)) {
    return [...rights, finding("schema_old", location, "Its tables are those of another version of Pawl; the next command that writes brings them up to date, as the owner of the tables.")];
  }
  const missing = await missingParts(look);
  const damage = missing.length === 0 ? [] : [finding("schema_damaged", location, `Missing: ${some(missing)}.`, { next: "Stop the workers, then, as the owner of the tables: pawl doctor --repair. A table that is gone comes back empty: put its rows back from a backup." })];
  if (missing.some((part) => part.startsWith("table ") || part.startsWith("column "))) return [...rights, ...damage];
  const asked = wrongCounts(names, model.kinds);
  const wrong = asked ? ((await link.run([asked])) as [Answer])[0].rows : [];
  const counts = wrong.length === 0 ? [] : [finding("counts_wrong", location, `Counts that do not fit the records: ${some(wrong.map(([kind, index, value, kept, here]) => `${kind} by ${index} ${value}: ${kept} instead of ${here}`))}. A row was changed past Pawl.`, { next: "pawl doctor --repair" })];
  return [...rights, ...damage, ...counts];
}

async function diagnoseRights(look: Look): Promise<Finding[]> {
  const { names, location } = look;
  const wanted = ["SELECT", "INSERT", "UPDATE", "DELETE"];
  const may = wanted.map((right) => `has_table_privilege(c.oid, '${right}')`);
  const tables = await rowsOf(look, `select c.relname, ${may.join(", ")}, exists (select from aclexplode(c.relacl) a where a.grantee = 0) from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relkind = 'r' order by 1`, names.schema);
  const ours = tables.filter(([name]) => OWN.includes(name!) || look.model.kinds.some((kind) => kind.name === name));
  const without = (rights: readonly string[]) => ours.filter((row) => rights.some((right) => row[wanted.indexOf(right) + 1] === "f")).map(([name]) => name!);
  const unread = without(["SELECT"]);
  if (unread.length > 0) return [finding("unreadable", location, `This role may not read ${some(unread)}.`, { next: `grant select on all tables in schema ${names.schema} to ROLE` })];
  const unwritten = without(wanted);
  const findings = unwritten.length === 0 ? [] : [finding("rights_missing", location, `This role may read, and may not write to ${some(unwritten)}.`, { next: `grant select, insert, update, delete on all tables in schema ${names.schema} to ROLE` })];
  const open = ours.filter((row) => row[5] === "t").map(([name]) => name!);
  return open.length === 0 ? findings : [...findings, finding("open_to_others", location, `Every user of the database has rights on ${some(open)}.`, { next: `revoke all on all tables in schema ${names.schema} from public` })];
}

/** Tables, columns, keys and indexes that are declared and not there, or not valid. */
async function missingParts(look: Look): Promise<string[]> {
  const { link, names, model } = look;
  const columns = await columnsIn(link, names);
  const indexes = await indexesIn(link, names);
  const keys = new Set((await rowsOf(look, "select t.relname from pg_index i join pg_class t on t.oid = i.indrelid join pg_namespace n on n.oid = t.relnamespace where n.nspname = $1 and i.indisprimary and i.indisvalid", names.schema)).map(([name]) => name!));
  const invalid = new Set((await rowsOf(look, "select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and not i.indisvalid", names.schema)).map(([name]) => name!));
  const own = OWN.filter((name) => !columns.has(name)).map((name) => `table ${name}`);
  return [...own, ...model.kinds.flatMap((kind) => missingOf(kind, columns.get(kind.name), keys, names, indexes, invalid))];
}

function missingOf(kind: Kind, columns: ReadonlyMap<string, string> | undefined, keys: ReadonlySet<string>, names: sql.Names, indexes: ReadonlyMap<string, string | null>, invalid: ReadonlySet<string>): string[] {
  if (!columns) return [`table ${kind.name}`];
  const gone = Object.keys(kind.indexes).filter((name) => indexes.get(sql.indexName(kind, name)) !== sql.indexText(names, kind, name) || invalid.has(sql.indexName(kind, name)));
  return [
    ...columnsOf(kind).filter((field) => !columns.has(field)).map((field) => `column ${kind.name}.${field}`),
    ...(keys.has(kind.name) ? [] : [`primary key of ${kind.name}`]),
    ...gone.map((name) => `index ${sql.indexName(kind, name)}`),
  ];
}

/* ---------- repair ---------- */

/** Makes what is missing and counts anew, while nobody writes. What it did, a sentence each. */
export async function repairPostgres(url: string, model: Model, options: OpenOptions): Promise<string[]> {
  const found = await diagnosePostgres(url, model, options, { deep: true, lockFolder: "" });
  const done = found.flatMap(({ code, message }) => (code === "schema_damaged" ? [`Made anew what was missing. ${message}`] : code === "counts_wrong" ? ["Counted anew."] : []));
  if (done.length === 0) return [];
  // What is not known to be up to date is looked at and mended by the next open, under its lock.
  await withLink(url, options, (link, names) => link.run([{ text: `update ${sql.table(names, "pawl")} set value = 'to be mended' where name = 'schema'` }]));
  const store = await openPostgres(url, model, options);
  await store.close();
  return done;
}

// What is wrong with a SQLite state on the disk, and getting out of a damaged one what can be read. Invariants: looking
// changes nothing; a repair keeps the damaged file before it touches it, reads into a new file, checks that and only then
// puts it in its place; and it runs only while no worker lives.
import { existsSync, lstatSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { iso } from "../../base/clock.ts";
import { isPawlError, messageOf, PawlError } from "../../base/errors.ts";
import { finding, type Finding } from "../../base/finding.ts";
import { copyFile, makeFolders, nodeFs } from "../../base/fs.ts";
import { Turn } from "../../base/lock.ts";
import { diagnosePlace, diagnoseWorkers, refuseWhileWorking } from "../place.ts";
import { newSession, type Session, tableOf } from "./commit.ts";
import { configure, connect, type Driver, explain, isWalSafe, needsWriting, type Probes } from "./driver.ts";
import { countersOf } from "./move.ts";
import { formatOf } from "../migrations.ts";
import { belongsToPawl, getNote, presentIn, refuseRemains, schemaOf } from "./schema.ts";
import { listRecords, type Table } from "./table.ts";
import { openSqlite } from "./sqlite.ts";
import type { Counters, Kind, Model, OpenOptions, Piece, Rec } from "../store.ts";

/** Beyond this the log costs readers time and the disk room, in bytes. */
const LONG_LOG = 64 << 20;
/** Lines of SQLite's own check that are shown. */
const CHECKED = 20;

export function diagnoseSqlite(path: string, model: Model, options: { readonly deep: boolean; readonly probes?: Probes }): Finding[] {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  const sizeOf = (suffix: string) => statSync(path + suffix, { throwIfNoEntry: false })?.size ?? 0;
  if (!stat) return sizeOf("-wal") > 0 ? [logAlone(path)] : [];
  if (!stat.isFile() && !stat.isSymbolicLink()) return [finding("not_a_file", path, "It is not a regular file, so it cannot be a state.", { next: "Name a file, such as state.db." })];
  const findings = [...diagnosePlace(path, [`${path}.pawl`, `${path}.pawl/workers`]), ...diagnoseWorkers(`${path}.pawl/workers`), ...diagnoseRemains(path)];
  if (sizeOf("-wal") > LONG_LOG) findings.push(finding("sqlite_log", `${path}-wal`, `The log has grown to ${Math.round(sizeOf("-wal") / (1 << 20))} MiB: some reader keeps it from being folded in.`, { next: "Close programs that keep the database open." }));
  if (sizeOf("-journal") > 0) findings.push(finding("sqlite_log", `${path}-journal`, "A change was cut off; the next command that writes rolls it back. Never remove this file.", {}));
  try {
    refuseRemains(path);
    findings.push(...diagnoseFile(path, model, options));
  } catch (error) {
    findings.push(said(path, error, stat.size === 0 && sizeOf("-wal") > 0));
  }
  return findings;
}

const logAlone = (path: string): Finding => finding("sqlite_log_alone", `${path}-wal`, "There is a log without its database: what is in the log cannot be used alone.", { next: "Put the database back beside its log, or both from a backup." });

function said(path: string, error: unknown, onlyLog: boolean): Finding {
  const explained = explain(error, path);
  const message = messageOf(explained);
  if (isPawlError(explained, "unsupported")) return finding(/newer/.test(message) ? "newer_format" : "not_ours", path, message, { next: "Name another file, or update Pawl." });
  if (isPawlError(explained, "corrupt")) return onlyLog ? logAlone(path) : finding("sqlite_damaged", path, message, { next: "Put it back from a backup; or save what can be read: pawl doctor --repair." });
  return finding("unreadable", path, message, { next: "Check who owns it, its permissions, and the health of the disk." });
}

function diagnoseFile(path: string, model: Model, { deep, probes = {} }: { readonly deep: boolean; readonly probes?: Probes }): Finding[] {
  let db: Driver | undefined;
  const findings: Finding[] = [];
  try {
    db = connect(path, "read");
    if (belongsToPawl(db, path, formatOf(model)) === "empty") return [];
    const version = probes.version ?? String(db.value("select sqlite_version()"));
    if (!isWalSafe(version)) findings.push(finding("sqlite_old", path, `SQLite ${version} can damage a database with a write-ahead log, so a rollback journal is used: safe, and slower.`, { next: "Use a Node with SQLite 3.51.3 or newer." }));
    try {
      configure(db, false, probes);
    } catch (error) {
      findings.push(finding("sqlite_setting", path, messageOf(error), { next: "Use the SQLite that comes with Node." }));
    }
    findings.push(...check(db, path, deep));
    if (getNote(db, "schema") !== schemaOf(model)) findings.push(finding("sqlite_schema", path, "Its tables are those of another version of Pawl; the next command that writes brings them up to date.", {}));
  } catch (error) {
    if (!needsWriting(error)) throw error;
    findings.push(finding("sqlite_log", path, "A change was cut off, and only a command that writes can roll it back; it was not looked into.", { next: "Run any command that writes, then pawl doctor again." }));
  } finally {
    db?.close();
  }
  return findings;
}

function check(db: Driver, path: string, deep: boolean): Finding[] {
  const lines = db.prepare(`pragma ${deep ? "integrity_check" : "quick_check"}(${CHECKED})`).all().map(([line]) => String(line));
  if (lines[0] === "ok") return [];
  const more = lines.length > 3 ? ` and ${lines.length - 3} more` : "";
  return [finding("sqlite_damaged", path, `SQLite's ${deep ? "integrity_check" : "quick_check"} says: ${lines.slice(0, 3).join("; ").replaceAll(/\s+/g, " ")}${more}.`, { next: "Put it back from a backup; or save what can be read: pawl doctor --repair." })];
}

function diagnoseRemains(path: string): Finding[] {
  const quarantine = `${path}.pawl/quarantine`;
  const aside = existsSync(quarantine) ? readdirSync(quarantine) : [];
  const temps = readdirSync(dirname(path)).filter((name) => name.startsWith(`.${basename(path)}.`) && name.endsWith(".tmp"));
  return [
    ...(aside.length > 0 ? [finding("put_aside", quarantine, `${aside.length} put aside: ${aside.slice(0, 5).join(", ")}${aside.length > 5 ? ", …" : ""}.`, { next: "Look at them, then remove what you do not need." })] : []),
    ...temps.map((name) => finding("leftover", join(dirname(path), name), "A backup or repair left it unfinished, or is at it now; nothing uses it.", { next: "Remove it when no backup is running." })),
  ];
}

/* ---------- repair ---------- */

/** Saves what can be read of a damaged file into a new one and returns what was done, a sentence each. Throws `busy`, `corrupt`. */
export async function repairSqlite(path: string, model: Model, options: OpenOptions): Promise<string[]> {
  refuseWhileWorking(path, `${path}.pawl/workers`);
  if (!diagnoseSqlite(path, model, { deep: true }).some(({ code }) => code === "sqlite_damaged")) return [];
  const turn = new Turn(`${path}-turn`, `${path}-gate`, { clock: options.clock, random: options.random, notice: options.notice, what: path });
  const kept = join(`${path}.pawl`, "quarantine", `repair-${iso(options.clock.now()).replaceAll(/[:.]/g, "")}`);
  const temp = join(dirname(path), `.${basename(path)}.${options.random.hex(8)}.tmp`);
  try {
    await turn.run(() => keep(path, kept));
    const saved = salvage(path, model);
    const seal = { to: path, at: iso(options.clock.now()), unfinished: true } as const;
    const store = await openSqlite(temp, model, options);
    try {
      await store.seal(seal);
      await store.load(saved.pieces, saved.counters);
      await store.seal(null, seal);
    } finally {
      await store.close();
    }
    if (diagnoseFile(temp, model, { deep: true }).some(({ code }) => code === "sqlite_damaged")) throw new PawlError("corrupt", "What was saved does not read back. Nothing was replaced.", { next: "Check the disk." });
    await turn.run(() => replace(temp, path));
    return [`The damaged file is kept in ${kept}.`, ...saved.said, "What could be read is in a new file in its place."];
  } finally {
    turn.close();
    for (const suffix of ["", "-wal", "-shm", "-turn", "-gate", ".pawl"]) rmSync(temp + suffix, { recursive: true, force: true });
  }
}

function keep(path: string, folder: string): void {
  makeFolders(folder, 0o700);
  // No connection of this process is on the file, so reading it drops nobody's locks.
  for (const suffix of ["", "-wal", "-journal"]) if (existsSync(path + suffix)) copyFile(nodeFs, path + suffix, join(folder, basename(path) + suffix));
  nodeFs.fsyncDir(folder);
  nodeFs.fsyncDir(dirname(folder));
}

/** The old log goes first: SQLite would apply it to the new file. */
function replace(temp: string, path: string): void {
  const fd = nodeFs.open(temp, "append");
  nodeFs.fsync(fd);
  nodeFs.close(fd);
  for (const suffix of ["-wal", "-shm", "-journal"]) rmSync(path + suffix, { force: true });
  renameSync(temp, path);
  nodeFs.fsyncDir(dirname(path));
}

type Saved = { readonly pieces: AsyncIterable<Piece>; readonly counters: Counters; readonly said: readonly string[] };

function salvage(path: string, model: Model): Saved {
  const db = connect(path, "read");
  try {
    const session = newSession(db, path, model, (kind) => presentIn(db, model.kinds.find(({ name }) => name === kind)!));
    const found = new Map<string, { records: Rec[]; broken: boolean }>();
    const ids = new Set<number>();
    for (const kind of model.kinds) {
      const saved = salvageKind(tableOf(session, kind.name), kind, ids);
      found.set(kind.name, saved);
      if (kind.assign === "") for (const record of saved.records) ids.add(record[kind.key[0]!] as number);
    }
    const said = [...found].filter(([, { broken }]) => broken).map(([kind, { records }]) => `Of ${kind}, ${records.length} records could be read; others are lost.`);
    return { pieces: piecesOf(found), counters: countersIf(session), said };
  } catch (error) {
    const why = messageOf(explain(error, path));
    throw new PawlError("corrupt", `Nothing of ${path} can be saved: ${why.replace(/\.$/, "")}.`, { next: "Put it back from a backup.", cause: error });
  } finally {
    db.close();
  }
}

/** Without them ids go on above the highest that was saved. */
function countersIf(session: Session): Counters {
  try {
    return countersOf(session);
  } catch {
    return {};
  }
}

async function* piecesOf(found: ReadonlyMap<string, { records: Rec[] }>): AsyncIterable<Piece> {
  for (const [kind, { records }] of found) for (let i = 0; i < records.length; i += 500) yield { kind, records: records.slice(i, i + 500) };
}

/** From the beginning to the first damage, from the end back to the last, and between them by every id that may be there. */
function salvageKind(table: Table, kind: Kind, ids: ReadonlySet<number>): { records: Rec[]; broken: boolean } {
  const found = new Map<string, Rec>();
  const keep = (records: readonly Rec[]) => {
    for (const record of records) found.set(JSON.stringify(kind.key.map((field) => record[field])), record);
  };
  if (readOn(table, keep, false)) return { records: [...found.values()], broken: false };
  readOn(table, keep, true);
  const first = kind.key[0]!;
  const highest = Math.max(0, ...[...found.values()].map((record) => (typeof record[first] === "number" ? record[first] : 0)));
  const candidates = kind.assign === "" ? Array.from({ length: highest }, (_, i) => i + 1) : kind.fields[first] === "integer" ? [...ids] : [];
  for (const id of candidates) {
    try {
      keep(listRecords(table, { equals: { [first]: id } }, 10_000));
    } catch {
      // On the damaged page: this is what is lost.
    }
  }
  return { records: [...found.values()], broken: true };
}

/** Reads along the key until the end (true) or a record that cannot be read. */
function readOn(table: Table, keep: (records: readonly Rec[]) => void, reverse: boolean): boolean {
  let after: Rec | undefined;
  for (let limit = 200; ; ) {
    try {
      const records = listRecords(table, { reverse, ...(after ? { after } : {}) }, limit);
      keep(records);
      if (records.length === 0) return true;
      after = records.at(-1);
    } catch {
      if (limit === 1) return false;
      limit = 1;
    }
  }
}

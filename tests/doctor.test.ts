// The doctor: every fault of the catalogue that a state at rest can have is made for real and must be named, with its place
// and what helps; a repair restores the last good state, keeps what it replaces, and says what is lost.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test, type TestContext } from "node:test";
import { FINDINGS, type Finding, type FindingCode } from "../src/base/finding.ts";
import { isPawlError } from "../src/base/errors.ts";
import { systemClock } from "../src/base/clock.ts";
import { systemRandom } from "../src/base/id.ts";
import { openState, placeAt } from "../src/state.ts";
import { diagnoseSqlite } from "../src/store/sqlite/doctor.ts";
import { MODEL } from "../src/state/opening.ts";
import { appear } from "../src/worker/liveness.ts";
import { place } from "./pawl.ts";

const quiet = { actor: "ann", notice: () => undefined };

/** A state with thirty tasks, some done with steps; returns its path. */
async function sick(t: TestContext, name: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "pawl-doctor-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, name);
  const state = await openState(path, quiet);
  for (let i = 0; i < 30; i++) await state.tasks.add({ description: `task ${i}`, ...(i > 20 ? { depends_on: [i - 20] } : {}) });
  const worker = state.work({ maxTasks: 5, execute: (task, { step }) => step("s", () => task.id) });
  while (worker.claiming) await worker.nextEvent();
  await worker.stop();
  await state.close();
  return path;
}

const codes = (findings: readonly Finding[]): string[] => findings.map(({ code }) => code);
const doctor = (path: string, deep = false) => placeAt(path, quiet).doctor({ deep });
const journal = (path: string, number = 1) => join(`${path}.pawl`, "journal", `${String(number).padStart(6, "0")}.jsonl`);
const linesOf = (file: string): Buffer[] => readFileSync(file).toString("latin1").split("\n").filter((line) => line !== "").map((line) => Buffer.from(`${line}\n`, "latin1"));
const flip = (file: string, at: number) => {
  const bytes = readFileSync(file);
  bytes[at]! ^= 0x20;
  writeFileSync(file, bytes);
};
const offsetOf = (file: string, line: number) => linesOf(file).slice(0, line - 1).reduce((sum, { length }) => sum + length, 0);
function sql(path: string, ...texts: string[]): void {
  const db = new DatabaseSync(path);
  for (const text of texts) db.exec(text);
  db.close();
}

/** A process that registers as a worker and is killed. */
function dieAsWorker(folder: string): void {
  const code = `
    import { appear } from "./src/worker/liveness.ts"; import { systemClock } from "./src/base/clock.ts"; import { systemRandom } from "./src/base/id.ts";
    const presence = appear(process.argv[1], undefined, systemClock, systemRandom); process.kill(process.pid, "SIGKILL"); presence.leave(true);`;
  const { signal } = spawnSync(process.execPath, ["--input-type=module", "-e", code, folder], { cwd: join(import.meta.dirname, "..") });
  assert.equal(signal, "SIGKILL");
}

type Fault = { readonly row: number; readonly what: string; readonly state: "state.json" | "state.db"; readonly code: FindingCode; readonly make: (path: string) => void | Promise<void> };

/** The rows of the failure catalogue that a state at rest can show. The others are about a moment: a flush, a race, a lease. */
const FAULTS: readonly Fault[] = [
  { row: 4, what: "a torn last line", state: "state.json", code: "journal_torn", make: (path) => appendFileSync(journal(path), "5c1e7b68 {\"n\":99,\"prev\":") },
  { row: 5, what: "a tail of zeros", state: "state.json", code: "journal_torn", make: (path) => appendFileSync(journal(path), Buffer.alloc(512)) },
  { row: 6, what: "damage in the middle", state: "state.json", code: "journal_damaged", make: (path) => flip(journal(path), offsetOf(journal(path), 12) + 40) },
  { row: 7, what: "the last acknowledged line is gone", state: "state.json", code: "journal_short", make: (path) => truncateSync(journal(path), offsetOf(journal(path), linesOf(journal(path)).length - 4)) },
  { row: 14, what: "the lock of a dead worker", state: "state.json", code: "worker_dead", make: (path) => dieAsWorker(`${path}.pawl/workers`) },
  { row: 26, what: "a database copied while it was written", state: "state.db", code: "sqlite_damaged", make: (path) => truncateSync(path, Math.floor(statSync(path).size / 8192) * 4096) },
  { row: 27, what: "a log without its database", state: "state.db", code: "sqlite_log_alone", make: (path) => { writeFileSync(`${path}-wal`, Buffer.alloc(4096, 1)); rmSync(path); } },
  { row: 46, what: "a hand edit that is not JSON", state: "state.json", code: "view_broken", make: (path) => writeFileSync(path, readFileSync(path, "utf8").replace("\"tasks\"", "tasks")) },
  { row: 47, what: "a hand edit not taken in yet", state: "state.json", code: "view_edited", make: (path) => writeFileSync(path, readFileSync(path, "utf8").replace("task 3", "task three")) },
  { row: 48, what: "a status written past Pawl", state: "state.db", code: "status_unexplained", make: (path) => sql(path, "update task set status = 'completed' where id = 12") },
  { row: 52, what: "a folder where the state should be", state: "state.json", code: "not_a_file", make: (path) => { rmSync(path); mkdirSync(path); } },
  { row: 53, what: "others may write", state: "state.json", code: "open_to_others", make: (path) => chmodSync(`${path}.pawl`, 0o777) },
  { row: 53, what: "others may replace it", state: "state.db", code: "open_to_others", make: (path) => chmodSync(dirname(path), 0o777) },
  { row: 54, what: "state.json deleted", state: "state.json", code: "view_missing", make: (path) => rmSync(path) },
  { row: 54, what: "the journal deleted", state: "state.json", code: "journal_missing", make: (path) => rmSync(dirname(journal(path)), { recursive: true }) },
  { row: 55, what: "git put an older state.json back", state: "state.json", code: "view_old", make: async (path) => {
    const before = readFileSync(path);
    const state = await openState(path, quiet);
    await state.tasks.add({ description: "later" });
    await state.close();
    writeFileSync(path, before);
  } },
  { row: 57, what: "a newer format", state: "state.json", code: "newer_format", make: (path) => writeFileSync(path, readFileSync(path, "utf8").replace(/"format": 1/, "\"format\": 99")) },
  { row: 57, what: "a newer format of a database", state: "state.db", code: "newer_format", make: (path) => sql(path, "pragma user_version = 99") },
];

for (const { row, what, state, code, make } of FAULTS) {
  test(`catalogue row ${row}: ${what} is ${code}`, async (t) => {
    const path = await sick(t, state);
    const before = await doctor(path);
    assert.deepEqual([before.healthy, codes(before.findings).filter((found) => FINDINGS[found as FindingCode] !== "note")], [true, []], "healthy at first");
    await make(path);
    const found = (await doctor(path, true)).findings.find((one) => one.code === code);
    assert.ok(found, `${code} is not among ${codes((await doctor(path)).findings).join(", ")}`);
    assert.equal(found.severity, FINDINGS[code]);
    assert.ok(found.place.startsWith(dirname(path)), found.place);
    assert.ok(found.message.length > 20 && (found.severity === "note" || found.next), JSON.stringify(found));
  });
}

test("catalogue row 23: a SQLite whose log is not safe; row 24: a setting that was not taken", async (t) => {
  const path = await sick(t, "state.db");
  assert.deepEqual(codes(diagnoseSqlite(path, MODEL, { deep: false, probes: { version: "3.46.0" } })).filter((code) => code === "sqlite_old"), ["sqlite_old"]);
  assert.ok(codes(diagnoseSqlite(path, MODEL, { deep: false, probes: { readBack: (name, value) => (name === "synchronous" ? 1 : value) } })).includes("sqlite_setting"));
});

test("catalogue row 56: a folder that a cloud client keeps in step", async (t) => {
  const path = await sick(t, "Dropbox/state.json");
  assert.deepEqual(codes((await doctor(path)).findings), ["synced_folder"]);
});

test("damage says file, line, byte; the missing segment and leftovers are named", async (t) => {
  const path = await sick(t, "state.json");
  const file = journal(path);
  const at = offsetOf(file, 12);
  flip(file, at + 40);
  const [found] = (await doctor(path)).findings.filter(({ code }) => code === "journal_damaged");
  assert.deepEqual([found!.place, found!.line, found!.offset], [file, 12, at]);
  flip(file, at + 40);
  assert.equal((await doctor(path)).healthy, true);
  writeFileSync(journal(path, 3), "");
  assert.ok((await doctor(path)).findings.some(({ code, place }) => code === "journal_gap" && place === journal(path, 2)));
  rmSync(journal(path, 3));
  const temp = join(`${path}.pawl`, "view.x.tmp");
  writeFileSync(temp, "");
  utimesSync(temp, 1, 1);
  writeFileSync(join(`${path}.pawl`, "quarantine", "kept"), "x");
  assert.deepEqual(codes((await doctor(path)).findings), ["put_aside", "leftover"]);
});

test("records: each rule is broken by hand and named", async (t) => {
  const path = await sick(t, "state.db");
  const breaks: [string, string, FindingCode][] = [
    ["update transition set actor = 'eve' where task_id = 4 and seq = 1", "update transition set actor = 'ann' where task_id = 4 and seq = 1", "chain_broken"],
    ["update task set status = 'in_progress' where id = 13", "update task set status = 'pending' where id = 13", "held_without_lease"],
    ["update task set ready = 0 where id = 14", "update task set ready = 1 where id = 14", "ready_wrong"],
    ["update task set depends_on = '[4711]' where id = 30", "update task set depends_on = '[9]' where id = 30", "dangling"],
    ["insert into step (task_id, round, key, name, status, started_at) values (4711, 1, 's', 's', 'completed', '2026-01-01T00:00:00.000Z')", "delete from step where task_id = 4711", "dangling"],
    ["update pawl set value = '5' where name = 'next decision'; insert into decision (id, status) values ('d9', 'denied')", "delete from decision", "counter_low"],
  ];
  for (const [wrong, right, code] of breaks) {
    sql(path, wrong);
    const found = (await doctor(path, true)).findings;
    assert.ok(found.some((one) => one.code === code && one.record), `${wrong}: ${code} is not among ${JSON.stringify(found)}`);
    sql(path, right);
  }
  assert.deepEqual((await doctor(path, true)).findings, []);
});

/* ---------- repair ---------- */

test("repair of a damaged middle: the state before it, a copy of all, and what is lost, said", async (t) => {
  const path = await sick(t, "state.json");
  const lines = linesOf(journal(path)).length;
  const before = readFileSync(journal(path));
  flip(journal(path), offsetOf(journal(path), 12) + 40);
  const damaged = readFileSync(journal(path));
  const healed = await placeAt(path, quiet).repair();
  const said = healed.done.join("\n");
  assert.match(said, new RegExp(`000001.jsonl:${offsetOf(journal(path), 12)} \\(line 12\\)`));
  assert.match(said, new RegExp(`Lost: 1 line that cannot be read, and the ${lines - 12} behind, lines 13 to ${lines}`));
  assert.match(said, /task 1/);
  assert.equal(healed.healthy, true, JSON.stringify(healed.findings));
  assert.deepEqual(readFileSync(journal(path)).subarray(0, offsetOf(journal(path), 12)), before.subarray(0, offsetOf(journal(path), 12)));
  const kept = join(`${path}.pawl`, "quarantine", readdirSync(join(`${path}.pawl`, "quarantine")).find((name) => name.startsWith("repair-"))!);
  assert.ok(readFileSync(join(kept, "journal", "000001.jsonl")).equals(damaged), "what was replaced is kept byte for byte");
  assert.ok(existsSync(join(kept, "state.json")));
  const state = await openState(path, quiet);
  assert.ok((await state.tasks.all()).length > 3);
  await state.tasks.add({ description: "goes on" });
  await state.close();
});

test("repair from a whole checkpoint: nothing before it is lost, though the journal is gone or damaged", async (t) => {
  const path = await sick(t, "state.json");
  const state = await openState(path, quiet);
  // Enough for a checkpoint.
  await Promise.all([...Array(30)].map((_, i) => state.tasks.add({ description: "x".repeat(200_000), key: `big${i}` })));
  await state.close();
  const count = 60;
  assert.equal(readdirSync(join(`${path}.pawl`, "checkpoint")).length, 1);
  rmSync(dirname(journal(path)), { recursive: true });
  assert.ok(codes((await doctor(path)).findings).includes("journal_missing"));
  await assert.rejects(openState(path, quiet), { code: "corrupt" });
  const healed = await placeAt(path, quiet).repair();
  assert.equal(healed.healthy, true, JSON.stringify(healed.findings));
  assert.match(healed.done.join(), /restored from the checkpoint/);
  const again = await openState(path, quiet);
  assert.equal((await again.tasks.all()).length, count);
  assert.equal((await again.tasks.add({ description: "next" })).id, count + 1);
  await again.close();
});

test("repair of a torn tail, a bad checkpoint, a missing view, a dead worker", async (t) => {
  const path = await sick(t, "state.json");
  appendFileSync(journal(path), "half a li");
  writeFileSync(join(`${path}.pawl`, "checkpoint", "000000000003.jsonl"), "not a checkpoint");
  dieAsWorker(`${path}.pawl/workers`);
  rmSync(path);
  const sickness = codes((await doctor(path)).findings);
  for (const code of ["journal_torn", "checkpoint_damaged", "view_missing", "worker_dead"]) assert.ok(sickness.includes(code), sickness.join());
  const healed = await placeAt(path, quiet).repair();
  assert.deepEqual(codes(healed.findings), ["put_aside"], healed.done.join("\n"));
  assert.equal((await placeAt(path, quiet).repair()).done.length, 0, "a second time there is nothing to do");
});

test("repair of a database: what can be read is in a new file, the old one is kept", async (t) => {
  const path = await sick(t, "state.db");
  sql(path, "pragma wal_checkpoint(truncate)");
  const db = new DatabaseSync(path);
  const page = db.prepare("select rootpage from sqlite_schema where name = 'tag'").get() as { rootpage: number };
  const leaf = db.prepare("select pageno from dbstat where name = 'transition' and pagetype = 'leaf' order by pageno limit 1 offset 1").get() as { pageno: number };
  const size = (db.prepare("pragma page_size").get() as { page_size: number }).page_size;
  db.close();
  const bytes = readFileSync(path);
  for (const at of [leaf.pageno, page.rootpage]) bytes.fill(0xaa, (at - 1) * size, at * size);
  writeFileSync(path, bytes);
  assert.ok(codes((await doctor(path)).findings).includes("sqlite_damaged"));
  const healed = await placeAt(path, quiet).repair({ deep: true });
  assert.match(healed.done.join("\n"), /kept in .*quarantine.*Of transition, \d+ records could be read/s);
  assert.ok(!codes(healed.findings).includes("sqlite_damaged"), JSON.stringify(healed.findings));
  const kept = join(`${path}.pawl`, "quarantine");
  assert.ok(readFileSync(join(kept, readdirSync(kept)[0]!, "state.db")).equals(bytes));
  const state = await openState(path, quiet);
  assert.equal((await state.tasks.all()).length, 30);
  assert.equal((await state.tasks.add({ description: "next" })).id, 31);
  await state.close();
});

test("a repair never runs while a worker lives, and refuses what it cannot restore", async (t) => {
  for (const name of ["state.json", "state.db"]) {
    const path = await sick(t, name);
    const worker = appear(`${path}.pawl/workers`, undefined, systemClock, systemRandom);
    await assert.rejects(placeAt(path, quiet).repair(), (error) => isPawlError(error, "busy") && error.message.includes(worker.id));
    worker.leave(true);
  }
  const path = await sick(t, "state.json");
  flip(journal(path), 20);
  await assert.rejects(placeAt(path, quiet).repair(), (error) => isPawlError(error, "corrupt") && /backup/.test(error.next ?? ""));
});

test("the command: exit codes, JSON, a repair, a hand edit settled", async (t) => {
  const desk = place(t);
  assert.equal((await desk.pawl(["doctor"])).code, 3);
  await desk.pawl(["add", "one"]);
  assert.deepEqual([(await desk.pawl(["doctor"])).code, (await desk.json<{ healthy: boolean }>(["doctor", "--deep"])).healthy], [0, true]);
  chmodSync(`${desk.state}.pawl`, 0o777);
  assert.equal((await desk.pawl(["doctor"])).code, 1, "warnings alone");
  chmodSync(`${desk.state}.pawl`, 0o700);
  const good = readFileSync(journal(desk.state));
  flip(journal(desk.state), offsetOf(journal(desk.state), 3) + 30);
  const sickness = await desk.pawl(["doctor", "--json"]);
  assert.equal(sickness.code, 7);
  const { data } = JSON.parse(sickness.stdout) as { data: { findings: Finding[] } };
  assert.deepEqual(data.findings.map(({ code, line }) => [code, line]), [["journal_damaged", 3]]);
  assert.match((await desk.pawl(["doctor"])).stdout, /✗ journal_damaged .*:3 \(byte \d+\)\n.*\n {2}next: .*--repair/);
  writeFileSync(journal(desk.state), good);
  writeFileSync(desk.state, readFileSync(desk.state, "utf8").replace("\"tasks\"", "tasks"));
  assert.equal((await desk.pawl(["doctor"])).code, 1);
  const settled = await desk.pawl(["doctor", "--discard-edit"]);
  assert.deepEqual([settled.code, /Done: Hand edit/.test(settled.stdout)], [0, true], settled.stdout + settled.stderr);
  assert.equal((await desk.pawl(["doctor", "--accept-edit"])).code, 3);
});

// What is wrong is refused with what, why and what next, with the documented exit code, and nothing is changed: states that
// cannot be one, unknown names, numbers out of bounds, JSON that does not say one thing, lists that are none. Most cases run
// in this process; what could hang, or needs an executor, runs as a real command.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, chmodSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ERROR_CODES, type ErrorCode, isPawlError } from "../../src/base/errors.ts";
import { nodeFs } from "../../src/base/fs.ts";
import { systemClock } from "../../src/base/clock.ts";
import { systemRandom } from "../../src/base/id.ts";
import { OPERATIONS, type Operation } from "../../src/operations.ts";
import { openState } from "../../src/state.ts";
import { MODEL } from "../../src/state/opening.ts";
import { openJson } from "../../src/store/json/json.ts";
import { openSqlite } from "../../src/store/sqlite/sqlite.ts";
import { main } from "../../src/surface/cli.ts";
import type { Io } from "../../src/surface/io.ts";
import { place } from "../pawl.ts";

const FILES = [".pawl/state.json", "state.db"];
/** What taking a lock or a turn may leave. */
const LOCKS = /(?:-shm|-wal|-turn|-gate|\/lock|\/gate)$/;

/** Every file below a folder with its kind, mode and content. */
function contentOf(folder: string): string[] {
  return (readdirSync(folder, { recursive: true }) as string[]).filter((name) => !LOCKS.test(name)).sort().map((name) => {
    const stat = lstatSync(join(folder, name));
    const content = stat.isFile() ? createHash("sha256").update(readFileSync(join(folder, name))).digest("hex").slice(0, 12) : "";
    return `${name} ${(stat.mode & 0o170777).toString(8)} ${content}`;
  });
}

function desk(t: TestContext, state = ".pawl/state.json") {
  const folder = mkdtempSync(join(tmpdir(), "pawl-bad-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const pawl = async (args: readonly string[], input = "", env: NodeJS.ProcessEnv = {}) => {
    let stdout = "";
    let stderr = "";
    const io: Io = {
      out: (text) => void (stdout += text), err: (text) => void (stderr += text), stdin: async () => Buffer.from(input, "latin1"), tty: false, color: false, errColor: false,
      columns: 100, env: { PAWL_ACTOR: "tester", PAWL_STATE: join(folder, state), ...env }, cwd: folder,
    };
    return { code: await main(args, io), stdout, stderr };
  };
  return { folder, pawl, path: (name: string) => join(folder, name), state: join(folder, state) };
}

/** Refused with this code: the exit code, one error with a next, nothing on stdout, and the folder as it was. */
async function refused(at: ReturnType<typeof desk>, args: readonly string[], code: ErrorCode, says: RegExp, input = "", env: NodeJS.ProcessEnv = {}): Promise<void> {
  const line = `pawl ${args.map((arg) => arg.slice(0, 60)).join(" ")}`;
  const before = contentOf(at.folder);
  const ended = await at.pawl([...args.slice(0, args.includes("--") ? args.indexOf("--") : args.length), "--json", ...(args.includes("--") ? args.slice(args.indexOf("--")) : [])], input, env);
  const document = JSON.parse(ended.stderr.trimEnd().split("\n").at(-1)!) as { kind: string; data: { code: string; message: string; next: string | null } };
  assert.deepEqual([document.kind, document.data.code], ["error", code], `${line}: ${ended.stderr}`);
  assert.deepEqual([ended.code, ended.stdout], [ERROR_CODES[code].exit, ""], line);
  assert.match(document.data.message, says, line);
  assert.ok(document.data.next, `${line}: it does not say what next: ${document.data.message}`);
  assert.deepEqual(contentOf(at.folder), before, `${line}: something was changed`);
}

/* ---------- where the state is ---------- */

type Trouble = readonly [what: string, state: string, make: (at: ReturnType<typeof desk>) => void, code: ErrorCode, says: RegExp];
const nothing = () => undefined;
const TROUBLES: readonly Trouble[] = [
  ["a folder", "s.json", (at) => mkdirSync(at.path("s.json")), "usage", /s\.json is a directory/],
  ["a folder", "s.db", (at) => mkdirSync(at.path("s.db")), "usage", /s\.db is a directory/],
  ["a link to itself", "s.json", (at) => symlinkSync("s.json", at.path("s.json")), "usage", /leads nowhere: ELOOP/],
  ["a link to itself", "s.db", (at) => symlinkSync("s.db", at.path("s.db")), "usage", /leads nowhere: ELOOP/],
  ["a link to nothing", "s.json", (at) => symlinkSync("none", at.path("s.json")), "usage", /leads nowhere: ENOENT/],
  ["a link to nothing", "s.db", (at) => symlinkSync("none", at.path("s.db")), "usage", /leads nowhere: ENOENT/],
  ["a link to a folder", "s.json", (at) => (mkdirSync(at.path("d")), symlinkSync("d", at.path("s.json"))), "usage", /is a directory/],
  ["below a file", "f/s.json", (at) => writeFileSync(at.path("f"), "x"), "storage", /ENOTDIR/],
  ["below a file", "f/s.db", (at) => writeFileSync(at.path("f"), "x"), "storage", /ENOTDIR/],
  ["a name too long", `${"x".repeat(300)}.json`, nothing, "storage", /ENAMETOOLONG/],
  ["a name too long", `${"x".repeat(300)}.db`, nothing, "storage", /ENAMETOOLONG/],
  ["a NUL in its name", "a\0b.json", nothing, "usage", /NUL/],
  ["a NUL in its name", "a\0b.db", nothing, "usage", /NUL/],
  ["an unknown scheme", "foo://bar", nothing, "usage", /cannot be at "foo:\/\/…"/],
  ["an unknown scheme with a password", "http://me:secret@host/x", nothing, "usage", /^(?!.*secret)/],
  ["an empty name", " ", nothing, "usage", /empty/],
  ["an empty file", "s.json", (at) => writeFileSync(at.path("s.json"), ""), "corrupt", /s\.json is empty/],
  ["a file of blanks", "s.json", (at) => writeFileSync(at.path("s.json"), " \n "), "corrupt", /s\.json:2:2: .*the end of the file/],
  ["a binary file", "s.json", (at) => writeFileSync(at.path("s.json"), Buffer.from([0x89, 0x50, 0, 1, 2, 0xff])), "corrupt", /s\.json:1: It is not UTF-8/],
  ["a text", "s.json", (at) => writeFileSync(at.path("s.json"), "hello\n"), "corrupt", /s\.json:1:1: .*hello is not JSON/],
  ["a program's JSON", "s.json", (at) => writeFileSync(at.path("s.json"), '{"name":"x"}'), "unsupported", /no state that Pawl knows/],
  ["a stump", "s.db", (at) => writeFileSync(at.path("s.db"), "x"), "corrupt", /not a SQLite database/],
  ["a binary file", "s.db", (at) => writeFileSync(at.path("s.db"), Buffer.alloc(8_192, 7)), "corrupt", /not a (SQLite )?database/],
  ["a JSON state", "s.db", (at) => writeFileSync(at.path("s.db"), `{"tasks": []}${" ".repeat(1000)}`), "corrupt", /not a (SQLite )?database/],
];

test("a state that cannot be one is refused by readers and writers, and left as it is", async (t) => {
  for (const [what, state, make, code, says] of TROUBLES) {
    const at = desk(t);
    make(at);
    for (const args of [["list"], ["status"], ["add", "x"]]) await refused(at, ["--state", state, ...args], code, says).catch((error: unknown) => assert.fail(`${what}: ${String(error)}`));
  }
});

test("a database of another program is refused and left as it is", async (t) => {
  const at = desk(t);
  const { DatabaseSync } = await import("node:sqlite");
  const db = new DatabaseSync(at.path("s.db"));
  db.exec("create table theirs (x); insert into theirs values (1)");
  db.close();
  for (const args of [["list"], ["add", "x"]]) await refused(at, ["--state", "s.db", ...args], "unsupported", /another application/);
});

const FIFO = spawnSync("mkfifo", ["--version"]).status === 0;

test("a pipe in the place of a state never hangs", { skip: FIFO ? false : "mkfifo is not here" }, async (t) => {
  for (const file of ["s.json", "s.db"]) {
    const at = place(t);
    execFileSync("mkfifo", [at.path(file)]);
    for (const command of [["list"], ["add", "x"]]) {
      const running = at.start(["--state", file, ...command]);
      const stop = setTimeout(() => running.child.kill("SIGKILL"), 20_000);
      const ended = await running.ended;
      clearTimeout(stop);
      assert.equal(ended.code, 2, `${file} ${command[0]}: ${ended.signal} ${ended.stderr}`);
      assert.match(ended.stderr, /not a regular file/);
    }
  }
});

test("a state nobody may read or write is refused", { skip: process.getuid?.() === 0 ? "root may read and write everything" : false }, async (t) => {
  for (const file of FILES) {
    const at = desk(t, file);
    assert.equal((await at.pawl(["add", "x"])).code, 0);
    const journal = `${at.state}.pawl/journal`;
    const target = file.endsWith(".db") ? at.state : join(journal, readdirSync(journal)[0]!);
    chmodSync(target, 0);
    for (const args of [["list"], ["add", "y"]]) assert.equal((await at.pawl(args)).code, 8, file);
    chmodSync(target, 0o600);
    assert.match((await at.pawl(["list"])).stdout, /1 .*x/);
  }
});

/** A small file system of its own, when this account may mount one. */
function mounted(t: TestContext, size: string): string | null {
  const folder = mkdtempSync(join(tmpdir(), "pawl-mount-"));
  const done = process.getuid?.() === 0 && spawnSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", folder]).status === 0;
  t.after(() => {
    if (done) spawnSync("umount", ["-l", folder]);
    rmSync(folder, { recursive: true, force: true });
  });
  return done ? folder : null;
}

test("a full disk: storage, nothing is lost, and with room it goes on", async (t) => {
  const folder = mounted(t, "2m");
  if (folder === null) return t.skip("this account may not mount a small file system");
  for (const file of ["s.json", "s.db"]) {
    const state = join(folder, file);
    const at = desk(t);
    const pawl = (args: readonly string[]) => at.pawl(["--state", state, ...args]);
    assert.equal((await pawl(["add", "first"])).code, 0);
    writeFileSync(join(folder, "ballast"), "");
    try {
      for (;;) writeFileSync(join(folder, "ballast"), Buffer.alloc(4096), { flag: "a" });
    } catch {
      // Now it is full.
    }
    const full = await pawl(["add", "second", "--input", JSON.stringify("x".repeat(20_000))]);
    assert.equal(full.code, ERROR_CODES.storage.exit, full.stderr);
    assert.match(full.stderr, /next: /);
    assert.match((await pawl(["list"])).stdout, /first/, "reading needs no room");
    rmSync(join(folder, "ballast"));
    assert.equal((await pawl(["add", "third"])).code, 0);
    const list = (await pawl(["list"])).stdout;
    assert.ok(/first/.test(list) && /third/.test(list) && !/second/.test(list), list);
  }
});

test("a folder that cannot be made is said, and nothing hangs", { skip: existsSync("/proc/self") ? false : "there is no /proc here" }, async (t) => {
  await refused(desk(t), ["--state", "/proc/nope/s.json", "add", "x"], "storage", /\/proc\/nope cannot be made/);
});

test("a read-only disk: reading works, writing is refused with storage", async (t) => {
  const folder = mounted(t, "4m");
  if (folder === null) return t.skip("this account may not mount a small file system");
  const at = desk(t);
  const states = ["s.json", "s.db"].map((file) => join(folder, file));
  for (const state of states) assert.equal((await at.pawl(["--state", state, "add", "x"])).code, 0);
  if (spawnSync("mount", ["-o", "remount,ro", folder]).status !== 0) return t.skip("it cannot be mounted read-only here");
  for (const state of states) {
    assert.match((await at.pawl(["--state", state, "list"])).stdout, /x/, state);
    const ended = await at.pawl(["--state", state, "add", "y"]);
    assert.deepEqual([ended.code, /next: /.test(ended.stderr)], [ERROR_CODES.storage.exit, true], ended.stderr);
  }
  const fresh = await at.pawl(["--state", join(folder, "new.json"), "add", "x"]);
  assert.equal(fresh.code, ERROR_CODES.storage.exit, fresh.stderr);
});

test("a network file system is refused before anything is written", async (t) => {
  const at = desk(t);
  const options = { clock: systemClock, random: systemRandom };
  const refusal = (error: unknown) => isPawlError(error, "unsupported") && /network file system \((NFS|SMB)/.test(error.message) && error.next !== undefined;
  await assert.rejects(openJson(at.path("s.json"), MODEL, { ...options, fs: { ...nodeFs, networkName: () => "NFS" } }), refusal);
  await assert.rejects(openSqlite(at.path("s.db"), MODEL, options, { fileSystem: () => 0x517b }), refusal);
  assert.deepEqual(readdirSync(at.folder), []);
});

/* ---------- names and numbers ---------- */

for (const file of FILES) {
  test(`${file}: unknown flags, ids, statuses and commands`, async (t) => {
    const at = desk(t, file);
    assert.equal((await at.pawl(["add", "x"])).code, 0);
    const ids = ["999", "abc", "-1", "0", "1.5", "1e3", "99999999999999999999", "__proto__", "constructor", "../1", "\u001b[2J", "a\0b", "d1"];
    for (const id of ids) for (const verb of ["show", "complete", "history", "edit", "cancel", "why", "approve", "batch show"]) await refused(at, [...verb.split(" "), "--", id], "not_found", /not found/);
    const wrong: readonly (readonly [string[], RegExp])[] = [
      [["show", ""], /needs id/], [["show", " "], /needs id/], [["show"], /id/], [["show", "1", "2"], /arguments/], [["bogus"], /bogus/], [["batch", "bogus"], /bogus/], [["lst"], /lst/],
      [["list", "--bogus"], /--bogus/], [["add", "x", "--bogus=1"], /--bogus/], [["list", "--status", "banana"], /banana/], [["list", "--status", ""], /status|choices/i], [["export", "--format", "xml"], /xml/],
      [["fail", "1"], /reason/], [["fail", "1", "--reason", " "], /needs --reason/], [["reopen", "1", "--reason", ""], /needs --reason/], [["reset"], /--all/], [["reset", "1", "--all"], /--all/],
      [["add", ""], /description/], [["add", " \n "], /description/], [["add", "a\0b"], /NUL/], [["add", "x", "--key", " "], /key/], [["add", "x", "--tags", "a,\0"], /NUL/],
      [["add", "x", "--key", "k".repeat(600)], /key.*longer than 512/], [["add", "x".repeat(1_100_000)], /longer than/], [["complete", "1", "--result", "a", "--result-json", "1"], /not both/],
      [["import", "none.txt", "--bogus"], /--bogus/], [["answer", "d1"], /answer/], [["--state", "s.json"], /needs a command/], [["complete", "1", "--token", "nonsense"], /token/],
    ];
    for (const [args, says] of wrong) {
      await refused(at, args, /NUL/.test(says.source) ? "value_refused" : "usage", says);
    }
  });
}

/** For each kind of number, what is never one, and what is too small for most. */
const NEVER = ["abc", "1e3", "99999999999999999999", "NaN", "Infinity", "0x10", "1,5x", "--1", "١"];
/** [command, flag] with what they take of -1, 0 and nothing. */
const TAKES: { readonly [flag: string]: readonly string[] } = {
  "add priority": ["-1", "0"], "edit priority": ["-1", "0"], "schedule add priority": ["-1", "0"], "list after": ["-1", "0"], "event list after": ["-1", "0"], "add delay": ["0"], "edit delay": ["0"],
  "claim wait": ["0"], "event take timeout": ["0"], "copy wait": ["0"], "artifact gc older-than": ["0"], "agent patch revision": ["0"], "agent history after": ["0"], "agent diff from": ["0"],
  "agent diff to": ["0"], "agent messages epoch": ["0"], "agent messages after": ["0"],
};

test("every flag that takes a number: what is none, and zero, negative and nothing", async (t) => {
  const at = desk(t);
  assert.equal((await at.pawl(["add", "x"])).code, 0);
  let flags = 0;
  const needed = (operation: Operation) => Object.entries(operation.params).flatMap(([name, param]) => (param.required ? (param.arg ? ["1"] : [`--${name}`, param.type === "integer" ? "1" : "x"]) : []));
  for (const operation of OPERATIONS) {
    for (const [name, param] of Object.entries(operation.params)) {
      if ((param.type !== "integer" && param.type !== "duration") || param.arg) continue;
      flags++;
      const takes = TAKES[`${operation.command} ${name}`] ?? [];
      for (const value of [...NEVER, "-1", "0", ""].filter((word) => !takes.includes(word))) {
        await refused(at, [...operation.command.split(" "), ...needed(operation), `--${name}=${value}`], "usage", value === "" ? /./ : new RegExp(name.replaceAll("-", "[-_]")));
      }
    }
  }
  assert.ok(flags >= 14, `only ${flags} flags`);
  writeFileSync(at.path("t.txt"), "a\n");
  const list = at.path("t.txt");
  for (const flag of ["concurrency", "max-attempts", "max-tasks", "timeout", "deadline", "backoff"]) {
    for (const value of [...NEVER, "-1", "0", ""]) await refused(at, ["run", list, "--exec", "true", `--${flag}=${value}`], "usage", /./);
  }
});

/* ---------- values ---------- */

// [what, JSON, what the message says]
const BAD_JSON: [string, string, RegExp][] = [
  ["a key twice", '{"a": 1, "a": 2}', /"a" is given twice.*column 10/], ["__proto__", '{"__proto__": {"admin": true}}', /__proto__/], ["an integer beyond 2^53", "9007199254740993", /9007199254740993 is beyond 2\^53/],
  ["a number beyond all", "1e999", /1e999 is beyond/], ["NaN", "NaN", /NaN is not JSON/], ["infinity", "[-Infinity]", /-Infinity is not JSON/], ["300 levels", "[".repeat(300) + "]".repeat(300), /deeper than 256/],
  ["20,000 levels", "[".repeat(20_000), /deeper than 256/], ["a comment", "{} // x", /a comment/], ["a comma too many", "[1,]", /comma/], ["single quotes", "{'a': 1}", /double quotes/], ["nothing", "", /the end of the file/],
  ["half a text", '"a', /not closed/], ["a bare line break", '"a\nb"', /bare line break/], ["an escape", '"\\x41"', /escape/],
];

test("JSON that does not say one thing is refused, as a flag, from stdin and in lists, with its place", async (t) => {
  const at = desk(t);
  assert.equal((await at.pawl(["add", "x"])).code, 0);
  for (const [, json, says] of BAD_JSON) {
    await refused(at, ["add", "y", "--input", json], "usage", says);
    await refused(at, ["complete", "1", "--result-json", "-"], "usage", says, json);
    if (json.includes("\n") || json === "") continue;
    writeFileSync(at.path("l.jsonl"), `"fine"\n${json}\n`);
    await refused(at, ["import", at.path("l.jsonl")], "usage", new RegExp(`l\\.jsonl:2: .*${says.source.split(".*column")[0]}`));
    writeFileSync(at.path("l.json"), `[\n"fine",\n${json}]`);
    await refused(at, ["import", at.path("l.json")], "usage", new RegExp(`l\\.json:[34]: `));
  }
  for (const [json, says] of [['"\\ud800"', /surrogate/], ['"\\u0000"', /NUL/]] as const) await refused(at, ["add", "y", "--input", json], "value_refused", says);
  const odd = '{"constructor": {"prototype": 1}, "toString": null, "hasOwnProperty": "x", "": 0}';
  assert.equal((await at.pawl(["add", "z", "--input", odd])).code, 0);
  const shown = JSON.parse((await at.pawl(["show", "2", "--json"])).stdout) as { data: { task: { input: unknown } } };
  assert.deepEqual(shown.data.task.input, JSON.parse(odd));
  assert.equal(({} as { prototype?: unknown }).prototype, undefined);
});

test("task lists: missing, a folder, binary, UTF-16, bad bytes, no task; and ones that are only odd", async (t) => {
  const at = desk(t);
  assert.equal((await at.pawl(["add", "x"])).code, 0);
  mkdirSync(at.path("folder"));
  const files: [string, string | Uint8Array, ErrorCode, RegExp][] = [
    ["nul.txt", "a\nb\0c\n", "value_refused", /nul\.txt:2: It contains a NUL/], ["bytes.txt", Buffer.from([0x61, 0x0a, 0xff, 0xfe, 0x62]), "value_refused", /bytes\.txt:2: It is not UTF-8/],
    ["wide.txt", Buffer.from("\uFEFFa", "utf16le"), "value_refused", /wide\.txt:1: It is UTF-16/], ["none.txt", "# only a note\n\n", "usage", /none\.txt holds no task/], ["empty.txt", "", "usage", /holds no task/],
    ["proto.json", '[{"description":"a","__proto__":{"x":1}}]', "usage", /proto\.json:1: .*__proto__/], ["status.json", '["a",\n{"description":"b","status":"banana"}]', "usage", /status\.json:2: "banana" is not a status/],
    ["prio.csv", "task,priority\na,1\nb,high\n", "usage", /prio\.csv:3: .*priority/], ["circle.json", '[{"id":1,"task":"a","depends_on":[2]},{"id":2,"task":"b","depends_on":[1]}]', "usage", /circle/],
    ["tasks.json", '{"tasks": {"a": 1}}', "usage", /holds no list/],
  ];
  for (const [name, content, code, says] of files) {
    writeFileSync(at.path(name), content);
    await refused(at, ["import", at.path(name)], code, says);
  }
  await refused(at, ["import", at.path("nowhere.txt")], "not_found", /no file/);
  await refused(at, ["import", at.path("folder")], "usage", /is a folder/);
  await refused(at, ["import", `${at.folder}/folder/../../../nowhere/t.txt`], "not_found", /no file/);
  writeFileSync(at.path("odd.txt"), "\uFEFFfirst\r\n\r\nsecond \u001b[31mred\u001b[0m\r\nconstructor\r\n__proto__\r\n");
  assert.equal((await at.pawl(["import", `${at.folder}/folder/../odd.txt`])).code, 0);
  const tasks = JSON.parse((await at.pawl(["list", "--json"])).stdout) as { data: { description: string }[] };
  assert.deepEqual(tasks.data.map((task) => task.description), ["x", "first", "second \u001b[31mred\u001b[0m", "constructor", "__proto__"]);
});

test("what a task says cannot act on a terminal, in whatever command shows it", async (t) => {
  for (const file of FILES) {
    const at = desk(t, file);
    const evil = "a\u001b[2J\u001b]0;owned\u0007\u009b31mb\u202etxt\u2028\r\u0008c";
    assert.equal((await at.pawl(["add", evil, "--key", `k${evil}`, "--tags", `t${evil}`, "--input", JSON.stringify({ [evil]: evil })])).code, 0);
    assert.equal((await at.pawl(["fail", "1", "--reason", evil])).code, 0);
    const commands = [["list"], ["show", "1"], ["status"], ["history", "1"], ["why", "1"], ["next"], ["inbox"], ["export"], ["export", "--format", "csv"], ["export", "--format", "json"], ["batch", "list"], ["complete", "--", evil]];
    for (const args of commands.flatMap((command) => [command, command.includes("--") ? command : [...command, "--json"]])) {
      const { stdout, stderr } = await at.pawl(args);
      assert.doesNotMatch(`${stdout}${stderr}`.replaceAll("\r\n", "\n"), /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2028\u2029]/, `${file}: ${args.join(" ")}`);
    }
    assert.equal((JSON.parse((await at.pawl(["show", "1", "--json"])).stdout) as { data: { task: { description: string } } }).data.task.description, evil);
  }
});

/* ---------- executors that are none ---------- */

test("a command that does not exist stops the run before anything starts: tasks stay pending, no attempt is counted", async (t) => {
  const at = place(t);
  at.write("list.txt", "a\nb\n");
  at.write("plain.sh", "#!/bin/sh\necho x\n", 0o644);
  mkdirSync(at.path("dir"));
  assert.equal((await at.pawl(["add", "before"])).code, 0);
  const known = contentOf(at.folder);
  for (const command of ["nosuch-program-anywhere", "./none.sh", "./plain.sh", "./dir", "/nowhere/x {description}", ""]) {
    const ended = await at.pawl(["run", "list.txt", "--exec", command]);
    assert.equal(ended.code, 2, `${command}: ${ended.stderr}`);
    assert.match(ended.stderr, /next: /, command);
    assert.deepEqual(contentOf(at.folder), known, command);
  }
  assert.equal((await at.pawl(["worker", "--exec", "nosuch-program-anywhere", "--once"])).code, 2);
  const tasks = await at.json<{ status: string; attempts: number }[]>(["list"]);
  assert.deepEqual(tasks.map((task) => [task.status, task.attempts]), [["pending", 0]]);
  const state = await openState(at.state, { readOnly: true });
  assert.deepEqual(await state.batches.list(), [], "not even the batch was made");
  await state.close();
});

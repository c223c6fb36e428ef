// A file of another program where a state should be: it becomes one at the first write, as a whole, with its bytes kept
// beside it; a crash anywhere on the way leaves the file, or the state; readers write nothing; what is refused is not touched.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { type ErrorCode, isPawlError } from "../../src/base/errors.ts";
import { systemRandom } from "../../src/base/id.ts";
import { adopt } from "../../src/core/adopt.ts";
import { openState, type State } from "../../src/state.ts";
import { MODEL } from "../../src/state/opening.ts";
import { openJson } from "../../src/store/json/json.ts";
import type { Model } from "../../src/store/store.ts";
import { CHANGING, systemError, watchedFs } from "./json-place.ts";

const LAB = JSON.stringify({ tasks: [{ id: 1, description: "a", status: "completed", result: "r" }, { id: 2, description: "b", status: "in_progress", result: null }, { id: 4, description: "c", status: "pending", result: null }], run: 3 }, null, 2);
const ADOPTED = [[1, "completed", "r"], [2, "pending", null], [4, "pending", null]];
const model: Model = { ...MODEL, adopt: (document, from) => adopt(document, { ...from, actor: "ann" }) };
const bare = { clock: systemClock, random: systemRandom };

function desk(t: TestContext, text: string | Uint8Array = LAB) {
  const folder = mkdtempSync(join(tmpdir(), "pawl-adopt-"));
  const file = join(folder, "state.json");
  writeFileSync(file, text);
  const notices: string[] = [];
  const states: State[] = [];
  t.after(async () => {
    for (const state of states) await state.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const open = async (readOnly = false) => {
    const state = await openState(file, { readOnly, actor: "ann", notice: (line) => void notices.push(line) });
    states.push(state);
    return state;
  };
  return { folder, file, original: `${file}.original`, notices, open };
}

const tasksOf = async (state: State) => (await state.tasks.all()).map((task) => [task.id, task.status, task.result]);

test("the first write adopts: tasks, history, the original beside it, mode and owner kept; the second finds a state", async (t) => {
  const at = desk(t);
  chmodSync(at.file, 0o640);
  const root = process.getuid?.() === 0;
  if (root) chownSync(at.file, 12_345, 54_321);
  const state = await at.open();
  assert.deepEqual(await tasksOf(state), ADOPTED);
  assert.equal(readFileSync(at.original, "utf8"), LAB);
  assert.equal(at.notices.length, 1);
  assert.match(at.notices[0]!, /^Adopted .*state\.json: 3 tasks \(2 pending, 1 completed\); .* The original is kept as .*state\.json\.original\.$/);
  assert.equal((await state.tasks.add({ description: "d" })).id, 5);
  for (const id of [1, 2, 4]) assert.deepEqual([(await state.history.of(id)).map((event) => [event.event, event.actor]), await state.history.verify(id)], [[["adopted", "ann"]], null]);
  await state.close();
  for (const path of [at.file, at.original]) {
    const { mode, uid, gid } = statSync(path);
    assert.deepEqual([mode & 0o777, ...(root ? [uid, gid] : [])], [0o640, ...(root ? [12_345, 54_321] : [])], path);
  }
  assert.deepEqual((JSON.parse(readFileSync(at.file, "utf8")) as { tasks: unknown[] }).tasks.length, 4);
  assert.deepEqual(await tasksOf(await at.open()), [...ADOPTED, [5, "pending", null]]);
  assert.equal(at.notices.length, 1, "once");
  assert.deepEqual(readdirSync(join(`${at.file}.pawl`, "quarantine")), [], "the original is no hand edit");
});

test("an adopted batch goes on: next skips what is done, and its tokens count on", async (t) => {
  const at = desk(t, JSON.stringify({ batch_id: "batch-1", features: ["x", "y", "z"], completed: ["x"], failed: ["y"], context_token_estimate: 149_000 }));
  const batch = await (await at.open()).batches.load("batch-1");
  assert.deepEqual([(await batch.next())?.name, await batch.shouldClearContext()], ["z", false]);
  await batch.recordTokens(1_000);
  assert.equal(await batch.shouldClearContext(), true);
  await batch.complete("z", "ok");
  assert.deepEqual((await batch.summary()).completed, 2);
});

test("readers show a foreign file and write nothing; they follow when somebody adopts it", async (t) => {
  const at = desk(t);
  const before = statSync(at.file);
  const reader = await at.open(true);
  assert.deepEqual(await tasksOf(reader), ADOPTED);
  assert.deepEqual([readdirSync(at.folder), statSync(at.file).mtimeMs, statSync(at.file).ino], [["state.json"], before.mtimeMs, before.ino]);
  assert.match(at.notices[0]!, /is shown as Pawl reads it and was not touched .*The first command that changes something adopts it/);
  const writer = await at.open();
  await writer.tasks.complete(2, "two");
  assert.deepEqual(await tasksOf(reader), [[1, "completed", "r"], [2, "completed", "two"], [4, "pending", null]]);
});

test("a symbolic link to the file is followed, and stays one", async (t) => {
  const at = desk(t);
  const link = join(at.folder, "link.json");
  symlinkSync("state.json", link);
  const state = await openState(link, { actor: "ann", notice: () => undefined });
  assert.deepEqual(await tasksOf(state), ADOPTED);
  await state.close();
  assert.ok(existsSync(at.original) && !existsSync(`${link}.original`));
  assert.deepEqual(await tasksOf(await at.open()), ADOPTED);
});

test("a name that is taken is not overwritten", async (t) => {
  const at = desk(t);
  writeFileSync(at.original, "mine");
  await at.open();
  assert.deepEqual([readFileSync(at.original, "utf8"), readFileSync(`${at.original}-2`, "utf8")], ["mine", LAB]);
});

// [what, content, code, what the message says]
const REFUSED: [string, string | Uint8Array, ErrorCode, RegExp][] = [
  ["empty", "", "corrupt", /is empty: it may be what a crash left/],
  ["half written", LAB.slice(0, 60), "corrupt", /state\.json:5:25: It is not usable JSON: the end of the file/],
  ["binary", new Uint8Array([0, 1, 2, 255, 254]), "corrupt", /state\.json:1: It is not UTF-8 text/],
  ["UTF-16", Buffer.from(`\uFEFF${LAB}`, "utf16le"), "corrupt", /It is UTF-16/],
  ["a comment", '{\n // tasks\n "tasks": []}', "corrupt", /state\.json:2:2: .*a comment/],
  ["a trailing comma", '{"tasks": [\n 1,\n]}', "corrupt", /state\.json:2:3: .*a comma with no value behind it/],
  ["a key twice", '{"tasks": [],\n "tasks": []}', "corrupt", /state\.json:2:2: .*"tasks" is given twice/],
  ["__proto__", '{"tasks": [{"description": "a", "__proto__": {}}]}', "corrupt", /state\.json:1:\d+: .*__proto__/],
  ["an integer beyond 2^53", '{"tasks": [{"id": 9007199254740993, "description": "a"}]}', "corrupt", /9007199254740993 is beyond 2\^53/],
  ["NaN", '{"tasks": [{"description": "a", "x": NaN}]}', "corrupt", /NaN is not JSON/],
  ["too deep", `{"tasks": ${"[".repeat(300)}`, "corrupt", /deeper than 256/],
  ["half a surrogate pair", '{"tasks": [{"description": "a\\ud800"}]}', "unsupported", /surrogate/],
  ["an unknown status", '{"tasks": [{"description": "a"},\n{"description": "b", "status": "banana"}]}', "unsupported", /cannot become one: state\.json:2: "banana" is not a status/],
  ["no tasks", '{"name": "my-package", "version": "1.0.0"}', "unsupported", /no state that Pawl knows/],
  ["a newer format of ours", '{"pawl": {"format": 99}, "tasks": []}', "unsupported", /has format 99/],
  ["a state of ours without its journal", '{"pawl": {"format": 1, "revision": 3}, "tasks": []}', "corrupt", /its journal .* is missing/],
];

test("what cannot be adopted is refused with its place, by readers and writers alike, and not touched", async (t) => {
  for (const [what, content, code, says] of REFUSED) {
    const at = desk(t, content);
    const before = statSync(at.file);
    for (const readOnly of [true, false]) {
      await assert.rejects(at.open(readOnly), (error) => {
        assert.ok(isPawlError(error, code), `${what}: ${String(error)}`);
        assert.match(error.message, says, what);
        assert.ok(error.next, what);
        return true;
      });
    }
    assert.deepEqual([readdirSync(at.folder), readFileSync(at.file), statSync(at.file).mtimeMs], [["state.json"], Buffer.from(content as string), before.mtimeMs], what);
  }
});

test("a file with a byte order mark and Windows line ends is adopted", async (t) => {
  assert.deepEqual(await tasksOf(await desk(t, `\uFEFF${LAB.replaceAll("\n", "\r\n")}`).open()), ADOPTED);
});

test("a file that changes before the lock is taken is adopted as it is then", async (t) => {
  const at = desk(t);
  const later = JSON.stringify({ tasks: [{ id: 7, description: "later" }] });
  let changed = false;
  const fs = watchedFs(({ name }) => {
    if (name !== "mkdir" || changed) return;
    changed = true;
    writeFileSync(at.file, later);
  });
  await (await openJson(at.file, model, { ...bare, fs })).close();
  assert.deepEqual(await tasksOf(await at.open()), [[7, "pending", null]]);
  assert.equal(readFileSync(at.original, "utf8"), later);
});

/** After a crash: the original is somewhere, and the next open has every task exactly once. */
async function requireWhole(at: ReturnType<typeof desk>, when: string): Promise<void> {
  const kept = [at.file, at.original].filter((path) => existsSync(path) && readFileSync(path, "utf8") === LAB);
  assert.ok(kept.length > 0, `${when}: the original is gone`);
  const state = await at.open();
  assert.deepEqual(await tasksOf(state), ADOPTED, when);
  for (const id of [1, 2, 4]) assert.equal((await state.history.of(id)).length, 1, when);
  await state.close();
  assert.equal(readFileSync(at.original, "utf8"), LAB, when);
  assert.deepEqual(readdirSync(at.folder).sort(), ["state.json", "state.json.original", "state.json.pawl"], when);
  assert.deepEqual(readdirSync(join(`${at.file}.pawl`, "quarantine")), [], when);
}

test("a disk that fails at any call of the adoption loses nothing, and the next open adopts once", async (t) => {
  let calls = 0;
  for (let last = 0; ; last++) {
    const at = desk(t);
    let left = last;
    const fs = watchedFs(({ name }) => {
      if (CHANGING.has(name) && --left < 0) throw systemError("EIO");
    });
    // A view that cannot be written fails nothing; the journal is the state.
    const store = await openJson(at.file, model, { ...bare, fs }).catch(() => null);
    await store?.close();
    await requireWhole(at, `call ${last}`);
    calls = last;
    if (left >= 0) break;
  }
  assert.ok(calls > 15, `only ${calls} calls`);
});

test("a process killed (SIGKILL) at any of these calls leaves the file or the state", async (t) => {
  const child = join(import.meta.dirname, "json-adoption-child.ts");
  const points = [9, 12, 14, 15, 16, 17, 20, 24];
  let killed = 0;
  const run = async (point: number) => {
    const at = desk(t);
    const process_ = spawn(process.execPath, [child, at.file, String(point)], { stdio: ["ignore", "ignore", "inherit"] });
    const [, signal] = (await once(process_, "close")) as [number | null, string | null];
    if (signal === "SIGKILL") killed++;
    await requireWhole(at, `killed before call ${point}`);
  };
  for (let i = 0; i < points.length; i += 2) await Promise.all(points.slice(i, i + 2).map(run));
  assert.ok(killed > 6, `only ${killed} were killed`);
});

test("processes that open the file at the same time adopt it once", async (t) => {
  const at = desk(t);
  const child = join(import.meta.dirname, "json-adoption-child.ts");
  const children = [1, 2, 3].map(() => spawn(process.execPath, [child, at.file, "100000"], { stdio: ["ignore", "pipe", "inherit"] }));
  const codes = await Promise.all(children.map(async (one) => (await once(one, "close"))[0] as number));
  assert.deepEqual(codes, [0, 0, 0]);
  await requireWhole(at, "three at once");
});

test("a large list is adopted in one piece", { timeout: 60_000 }, async (t) => {
  const tasks = Array.from({ length: 5_000 }, (_, i) => ({ id: i + 1, description: `task ${i}`, status: i % 2 === 0 ? "completed" : "pending", result: null }));
  const at = desk(t, JSON.stringify({ tasks }));
  const state = await at.open();
  assert.deepEqual([(await state.tasks.count()).completed, (await state.tasks.count()).pending], [2_500, 2_500]);
  assert.equal((await state.tasks.next())[0]?.id, 2);
});

test("a file beyond the limit is refused without being read", { skip: spawnSync("truncate", ["--version"]).status === 0 ? false : "truncate(1) is not here" }, async (t) => {
  const at = desk(t);
  spawnSync("truncate", ["-s", "100M", at.file]);
  await assert.rejects(at.open(), (error) => isPawlError(error, "unsupported") && /104857600 bytes/.test(error.message));
  assert.deepEqual(readdirSync(at.folder), ["state.json"]);
});

// Hand edits of a real state.json, on the disk and in the journal: taken in at open and while running, however they are
// saved; once, also over a kill -9; and what cannot be merged is kept, told and settled.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { isPawlError } from "../../src/base/errors.ts";
import { systemRandom } from "../../src/base/id.ts";
import { openState, type State } from "../../src/state.ts";
import { MODEL } from "../../src/state/opening.ts";
import { openJson } from "../../src/store/json/json.ts";
import type { Put } from "../../src/store/store.ts";
import { eventually } from "../pawl.ts";
import { watchedFs } from "./json-place.ts";

type Entry = { [field: string]: unknown };
type Document = { pawl?: { format: number; revision: number }; tasks: Entry[] };

/** A state with three tasks, closed; opened again as often as a test likes. */
async function place(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), "pawl-edit-"));
  const file = join(folder, "state.json");
  const notices: string[] = [];
  const states: State[] = [];
  t.after(async () => {
    for (const state of states) await state.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const open = async (options: { readOnly?: boolean } = {}) => {
    const state = await openState(file, { actor: "ann", notice: (line) => void notices.push(line), ...options });
    states.push(state);
    return state;
  };
  const text = () => readFileSync(file, "utf8");
  const read = () => JSON.parse(text().replace("\ufeff", "")) as Document;
  const first = await open();
  await first.tasks.addAll([{ description: "one" }, { description: "two" }, { description: "three" }]);
  await first.close();
  return {
    folder, file, notices, open, text, read,
    quarantine: () => readdirSync(`${file}.pawl/quarantine`),
    write: (document: unknown) => writeFileSync(file, typeof document === "string" ? document : `${JSON.stringify(document, null, 2)}\n`),
    save: (change: (document: Document) => void) => {
      const document = read();
      change(document);
      writeFileSync(file, JSON.stringify(document));
    },
  };
}

const describe = (id: number, description: string) => (document: Document) => void Object.assign(document.tasks.find((task) => task["id"] === id)!, { description });

test("an edit of a closed state is taken in by the next command that writes, once, with its place in the history", async (t) => {
  const here = await place(t);
  here.save((document) => {
    describe(1, "uno")(document);
    document.tasks[1]!["status"] = "done";
    document.tasks.push({ description: "four" });
  });
  const reader = await here.open({ readOnly: true });
  assert.deepEqual((await reader.edits.list()).map(({ id, status }) => [id, status]), [["file", "new"]]);
  assert.equal((await reader.tasks.get(1)).description, "one", "reading takes nothing in");
  const state = await here.open();
  assert.deepEqual((await state.tasks.all()).map(({ description, status }) => [description, status]), [["uno", "pending"], ["two", "completed"], ["three", "pending"], ["four", "pending"]]);
  assert.deepEqual((await state.history.of(1)).at(-1)!.details, { description: { from: "one", to: "uno" } });
  assert.equal(await state.history.verify(1), null);
  const [edit, ...others] = await state.edits.list();
  assert.deepEqual([edit!.id, edit!.status, edit!.changes, edit!.kept, others.length], ["e1", "merged", 3, null, 0]);
  assert.match(here.notices[0]!, /state\.json was edited by hand: 3 changes taken over/);
  await state.close();
  assert.deepEqual(here.read().tasks.map((task) => task["description"]), ["uno", "two", "three", "four"]);
  const again = await here.open();
  assert.equal((await again.edits.list()).length, 1);
});

const SAVES: { readonly [how: string]: (file: string, text: string) => void } = {
  "in place": (file, text) => writeFileSync(file, text),
  "by a rename": (file, text) => {
    writeFileSync(`${file}.swp`, text);
    renameSync(`${file}.swp`, file);
  },
  "after moving the old one away": (file, text) => {
    renameSync(file, `${file}~`);
    writeFileSync(file, text);
  },
  "with a byte order mark and CRLF": (file, text) => writeFileSync(file, `\ufeff${text.replaceAll("\n", "\r\n")}`),
};

for (const [how, save] of Object.entries(SAVES)) {
  test(`an edit saved ${how} is taken in while the state is open`, async (t) => {
    const here = await place(t);
    const state = await here.open();
    const document = here.read();
    describe(2, how)(document);
    save(here.file, JSON.stringify(document, null, 2));
    await eventually(async () => (await state.tasks.get(2)).description === how, "taken in");
    await eventually(() => here.read().tasks[1]!["description"] === how && here.read().pawl!.revision > document.pawl!.revision, "a view that shows it");
    assert.deepEqual((await state.edits.list()).map(({ status }) => status), ["merged"]);
  });
}

test("the base of an edit is the view it was made of, also when that is long gone", async (t) => {
  const here = await place(t);
  const old = here.read();
  for (const [i, description] of ["1", "2", "3"].entries()) {
    const state = await here.open();
    await state.tasks.edit(i + 1, { description });
    await state.tasks.add({ description: `later ${i}` });
    await state.close();
  }
  describe(1, "mine")(old);
  old.tasks[1]!["priority"] = 1;
  old.tasks.push({ id: 4, description: "added", depends_on: [2] });
  here.write(old);
  const state = await here.open();
  const tasks = await state.tasks.all();
  assert.deepEqual(tasks.map(({ description }) => description), ["1", "2", "3", "later 0", "later 1", "later 2", "added"]);
  assert.deepEqual([tasks[1]!.priority, tasks[6]!.id, tasks[6]!.depends_on], [1, 7, [2]]);
  const [edit] = await state.edits.list();
  assert.deepEqual([edit!.status, edit!.refusals.map(({ task }) => task)], ["partly", [1]]);
  assert.match(edit!.refusals[0]!.reason, /changed since, from "one" to "1"/);
  assert.deepEqual(JSON.parse(readFileSync(edit!.kept!, "utf8")), old, "the file is kept as it was");
});

test("a revision that is no view's, or later than the journal, is not merged and is kept", async (t) => {
  const here = await place(t);
  here.save((document) => {
    document.pawl!.revision -= 1;
    describe(1, "x")(document);
  });
  const state = await here.open();
  const [edit] = await state.edits.list();
  assert.deepEqual([edit!.status, (await state.tasks.get(1)).description], ["refused", "one"]);
  assert.match(edit!.refusals[0]!.reason, /that of no view/);
  here.save((document) => {
    document.pawl!.revision = 999_999;
    describe(1, "y")(document);
  });
  await eventually(async () => (await state.edits.list())[0]!.id === "e2", "the second edit");
  assert.equal((await state.edits.list())[0]!.status, "refused");
  assert.equal((await state.tasks.get(1)).description, "one");
});

test("without its header the file is an edit of the last view; what it does not name is left alone", async (t) => {
  const here = await place(t);
  here.write({ tasks: [{ id: 1, status: "completed", result: "by script" }, { id: 2, description: "two" }, { id: 3 }, { description: "four" }] });
  const state = await here.open();
  assert.deepEqual((await state.tasks.all()).map(({ description, status }) => [description, status]), [["one", "completed"], ["two", "pending"], ["three", "pending"], ["four", "pending"]]);
  await state.tasks.reopen(1, "once more");
  await state.close();
  here.write({ tasks: [{ id: 1, status: "completed", result: "by script" }, { id: 2, description: "two" }, { id: 3 }, { description: "four" }] });
  const again = await here.open();
  assert.equal((await again.tasks.get(1)).status, "completed", "the same bytes are another edit once there is another view");
});

test("a file without header that was dealt with is not dealt with again by another of its names", async (t) => {
  const here = await place(t);
  const first = here.read().pawl!.revision;
  const state = await here.open();
  await state.tasks.add({ description: "four" });
  await state.close();
  here.write({ tasks: [{ id: 1, status: "completed", result: "by script" }, { description: "five" }] });
  const text = here.text();
  const merging = await here.open();
  await merging.tasks.reopen(1, "once more");
  await merging.close();
  // Left by who was killed: what was moved aside half saved as a file of the first view, put back, and saved whole under the second.
  writeFileSync(join(`${here.file}.pawl`, "prev", `${Date.now()}-${first}-0badcafe.json`), text);
  const again = await here.open();
  assert.deepEqual((await again.tasks.all()).map(({ description, status }) => [description, status]), [["one", "pending"], ["two", "pending"], ["three", "pending"], ["four", "pending"], ["five", "pending"]]);
  assert.equal((await again.edits.list()).length, 1);
});

/** Changes task 2 and closes the state, which puts a view in place; no other is written. `arm` is called before that one. */
async function commitAndClose(file: string, fs: ReturnType<typeof watchedFs>, arm: () => void): Promise<void> {
  const store = await openJson(file, MODEL, { clock: { ...systemClock, timer: () => () => {} }, random: systemRandom, fs });
  const put: Put = { kind: "task", key: 2, set: { priority: 1 } };
  await store.commit([{ puts: [put] }]);
  arm();
  await store.close();
}

test("what was moved aside half saved and put back has no second name", async (t) => {
  const here = await place(t);
  let armed = false;
  const fs = watchedFs((call) => {
    if (!armed || call.name !== "rename" || call.args[0] !== here.file) return;
    armed = false;
    here.write(here.text().slice(0, 100));
  });
  await commitAndClose(here.file, fs, () => (armed = true));
  assert.ok(!armed, "it was saved");
  const { ino } = statSync(here.file);
  assert.deepEqual(readdirSync(`${here.file}.pawl/prev`).filter((name) => statSync(join(`${here.file}.pawl/prev`, name)).ino === ino), []);
  assert.equal(here.text().length, 100);
});

test("a kill -9 between the merge and the view neither loses nor repeats the edit", async (t) => {
  const here = await place(t);
  const child = spawn(process.execPath, [join(import.meta.dirname, "..", "edits-crash.ts"), here.file], { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout!, "data");
  here.save((document) => {
    describe(1, "survives")(document);
    document.tasks.push({ description: "added" });
  });
  const written = here.text();
  const [, signal] = (await once(child, "exit")) as [number | null, string | null];
  assert.equal(signal, "SIGKILL");
  assert.equal(here.text(), written, "no view yet");
  const state = await here.open();
  assert.deepEqual((await state.tasks.all()).map(({ description }) => description), ["survives", "two", "three", "added"]);
  assert.equal((await state.edits.list()).length, 1);
  assert.equal((await state.history.of(1)).filter(({ actor }) => actor === "editor").length, 1);
  assert.deepEqual(here.notices, [], "nothing to say: it was a crash, not a person");
});

/** Replacing a view, step by step, with a save right before each of them. */
const STEPS = ["lstat", "rename", "link", "unlink"] as const;

for (const step of STEPS) {
  for (const how of ["in place", "by a rename"]) {
    test(`an edit saved ${how} in the instant before the ${step} of a new view is merged`, async (t) => {
      const here = await place(t);
      let armed = false;
      const document = here.read();
      describe(1, "in the same instant")(document);
      const fs = watchedFs(({ name, args }) => {
        const named = args.some((arg) => arg === here.file) || (name === "unlink" && String(args[0]).includes("/view."));
        if (!armed || name !== step || !named) return;
        armed = false;
        SAVES[how]!(here.file, JSON.stringify(document));
      });
      await commitAndClose(here.file, fs, () => (armed = true));
      assert.ok(!armed, "it was saved");
      const state = await here.open();
      assert.equal((await state.tasks.get(1)).description, "in the same instant");
      assert.equal((await state.tasks.get(2)).priority, 1);
      assert.equal((await state.edits.list()).length, 1);
    });
  }
}

const BROKEN: readonly (readonly [string, string, RegExp])[] = [
  ["a trailing comma", '{"tasks": [{"id": 1},\n]}', /:1:/], ["a comment", "{ // note\n}", /:1:3/], ["a key given twice", '{"tasks": [],\n "tasks": []}', /:2:2/],
  ["an integer that would change", '{"n": 12345678901234567890}', /2\^53/], ["half a file", '{"tasks": [', /:1:/], ["nothing", "", /:1:1/],
];

for (const [what, text, where] of BROKEN) {
  const mendable = ["a trailing comma", "a comment"].includes(what);
  test(`with ${what} a running state goes on, a new one does not write, and mending the file ends it`, async (t) => {
    const here = await place(t);
    const running = await here.open();
    const good = here.read();
    here.write(text);
    await eventually(() => here.notices.some((line) => where.test(line) && line.includes("doctor --discard-edit") && line.includes("doctor --accept-edit") === mendable), "a line that says where, and what can be done");
    await running.tasks.add({ description: "goes on" });
    assert.equal(here.text(), text, "the file stays as it is");
    const next = await here.open();
    assert.equal((await next.tasks.all()).length, 4, "reads work");
    const [broken] = await next.edits.list();
    assert.deepEqual([broken!.id, broken!.status, broken!.line !== null], ["file", "broken", true]);
    await assert.rejects(next.tasks.add({ description: "no" }), (error) => isPawlError(error, "corrupt") && where.test(error.message) && /Nothing was changed/.test(error.message));
    describe(1, "mended")(good);
    here.write(good);
    await next.tasks.add({ description: "yes" });
    assert.deepEqual((await next.tasks.all()).map(({ description }) => description), ["mended", "two", "three", "goes on", "yes"]);
  });
}

test("bytes that do not parse are an editor at work until they stay so", async (t) => {
  const here = await place(t);
  const state = await here.open();
  const document = here.read();
  describe(1, "slowly saved")(document);
  const text = JSON.stringify(document);
  writeFileSync(here.file, text.slice(0, 40));
  await state.tasks.add({ description: "meanwhile" });
  writeFileSync(here.file, text);
  await eventually(async () => (await state.tasks.get(1)).description === "slowly saved", "taken in");
  assert.deepEqual(here.notices.filter((line) => line.includes("doctor")), []);
});

test("a broken file is accepted once it can be mended, and says what was done; else it is refused", async (t) => {
  const here = await place(t);
  const document = here.read();
  describe(1, "with // a comment")(document);
  here.write(JSON.stringify(document, null, 2).replace('"tasks": [', '"tasks": [ // all of them\n').replace(/\}\n\s*\]/, "},\n ]"));
  const state = await here.open();
  const edit = await state.edits.accept("file");
  assert.deepEqual([edit.status, edit.repairs, edit.settled_by], ["accepted", ["1 comment removed", "1 trailing comma removed"], "ann"]);
  assert.equal((await state.tasks.get(1)).description, "with // a comment");
  here.write("{ broken");
  await assert.rejects(state.edits.accept("file"), (error) => isPawlError(error, "corrupt") && /:1:3/.test(error.message));
  const gone = await state.edits.discard("file");
  assert.deepEqual([gone.status, readFileSync(gone.kept!, "utf8")], ["discarded", "{ broken"]);
  assert.equal(here.read().tasks.length, 3, "the view is back");
  await state.tasks.add({ description: "writes again" });
});

test("a refused edit is accepted by force or discarded, once", async (t) => {
  const here = await place(t);
  const owner = await here.open();
  const claim = (await owner.tasks.claim())!;
  await owner.close();
  here.save((document) => void Object.assign(document.tasks[0]!, { status: "completed", result: "mine" }));
  const state = await here.open();
  const [refused] = await state.edits.list();
  assert.match(refused!.refusals[0]!.reason, /worked on by/);
  const accepted = await state.edits.accept(refused!.id);
  assert.deepEqual([accepted.status, accepted.refusals], ["accepted", []]);
  assert.deepEqual([(await state.tasks.get(1)).status, (await state.tasks.get(1)).result], ["completed", "mine"]);
  await assert.rejects(state.tasks.complete(1, "late", { token: claim.token }), (error) => isPawlError(error, "lease_lost"));
  await assert.rejects(state.edits.discard(refused!.id), (error) => isPawlError(error, "illegal_transition"));
  await state.close();
  here.save((document) => void (document.tasks[1]!["attempts"] = 9));
  const next = await here.open();
  const [second] = await next.edits.list();
  assert.equal((await next.edits.discard(second!.id)).status, "discarded");
  assert.ok(existsSync(second!.kept!), "the copy stays");
  await assert.rejects(next.edits.accept("e99"), (error) => isPawlError(error, "not_found"));
});

test("a deleted and an older file are rebuilt while running, with one line that names reset", async (t) => {
  const here = await place(t);
  const old = here.text();
  const state = await here.open();
  await state.tasks.edit(1, { description: "newer" });
  await eventually(() => here.read().tasks[0]!["description"] === "newer", "a view");
  for (const [what, change] of [["deleted", () => unlinkSync(here.file)], ["older", () => writeFileSync(here.file, old)]] as const) {
    change();
    await eventually(() => existsSync(here.file) && here.text() !== "" && here.text() !== old && here.read().tasks[0]!["description"] === "newer", `rebuilt when ${what}`);
    assert.equal(here.notices.filter((line) => line.includes(what) && line.includes("pawl reset --all")).length, 1);
  }
  assert.deepEqual(await state.edits.list(), []);
  assert.deepEqual(here.quarantine(), []);
});

test("without a file to edit there are no edits", async () => {
  const state = await openState(":memory:");
  assert.deepEqual(await state.edits.list(), []);
  await assert.rejects(state.edits.accept("e1"), (error) => isPawlError(error, "usage"));
  await state.close();
});

// Hand edits as people meet them: the command line, and hundreds of random edits beside a worker that is at work.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { editBesideWorker } from "./edits.ts";
import { place } from "./pawl.ts";

type Document = { tasks: { [field: string]: unknown }[] };
type Status = { edits: { id: string; status: string; line: number | null; column: number | null; kept: string; refusals: { task: number; reason: string }[] }[] };

test("300 random edits beside a running worker: each is merged, or refused with its reason and kept", async () => {
  const report = await editBesideWorker({ edits: 300, seed: 11 });
  assert.deepEqual(report.violations, []);
  assert.equal(report.merged + report.refused, 300);
  assert.ok(report.merged > 100 && report.refused > 30, JSON.stringify(report.kinds));
});

test("status tells of a refused edit and of a broken file, where they are and what to do", async (t) => {
  const here = place(t, "state.json");
  await here.pawl(["add", "one"]);
  await here.pawl(["add", "two"]);
  const document = JSON.parse(readFileSync(here.state, "utf8")) as Document;
  Object.assign(document.tasks[0]!, { description: "uno" });
  Object.assign(document.tasks[1]!, { attempts: 5 });
  writeFileSync(here.state, JSON.stringify(document));
  assert.match((await here.pawl(["status"])).stdout, /edited by hand; the next command that writes takes it in/);
  const added = await here.pawl(["add", "three"]);
  assert.match(added.stderr, /edited by hand: 1 change taken over; refused: task 2 \(attempts is bookkeeping/);
  assert.match((await here.pawl(["list"])).stdout, /uno/);
  const [refused] = (await here.json<Status>(["status"])).edits;
  assert.deepEqual([refused!.id, refused!.status, refused!.refusals[0]!.task], ["e1", "partly", 2]);
  assert.deepEqual(JSON.parse(readFileSync(refused!.kept, "utf8")), document);
  const shown = (await here.pawl(["status"])).stdout;
  assert.match(shown, /Hand edit e1[^]*task 2: attempts[^]*pawl doctor --accept-edit e1, or: pawl doctor --discard-edit e1/);

  writeFileSync(here.state, '{\n  "tasks": [,]\n}');
  const broken = await here.pawl(["add", "four"]);
  assert.equal(broken.code, 7);
  assert.match(broken.stderr, /state\.json:2:13: .*Nothing was changed/);
  assert.deepEqual((await here.json<Status>(["status"])).edits.slice(0, 1).map(({ id, status, line, column }) => [id, status, line, column]), [["file", "broken", 2, 13]]);
  assert.match((await here.pawl(["status"])).stdout, /The state file is broken: .*state\.json:2:13/);
  assert.match((await here.pawl(["list"])).stdout, /three/);
  assert.equal(readFileSync(here.state, "utf8"), '{\n  "tasks": [,]\n}', "nothing wrote over it");

  // What cannot be mended by taking comments and commas away is not offered to be accepted.
  for (const [text, offered] of [["{ // by hand\n  \"tasks\": []\n}", true], ["{\n  \"tasks\": [", false]] as const) {
    writeFileSync(here.state, text);
    for (const command of [["add", "four"], ["doctor"], ["status"]]) {
      const { stdout, stderr } = await here.pawl(command);
      assert.match(stdout + stderr, /--discard-edit/);
      assert.equal(/--accept-edit(?! e1)/.test(stdout + stderr), offered, `${command[0]}: ${stdout}${stderr}`);
    }
  }
});

test("row 16: a run takes in what is edited while it goes", async (t) => {
  const here = place(t, "state.json");
  here.write("list.txt", "first\nsecond\nthird\n");
  const edit = here.write("edit.mjs", `import { readFileSync, writeFileSync } from "node:fs";
    const document = JSON.parse(readFileSync(process.argv[2], "utf8"));
    for (const task of document.tasks) if (task.description === "third") Object.assign(task, { status: "completed", result: "by hand" });
    writeFileSync(process.argv[2], JSON.stringify(document));
    await new Promise((resolve) => setTimeout(resolve, 1_500));`);
  const run = await here.pawl(["run", "list.txt", "--exec", `${process.execPath} ${edit} ${here.state}`]);
  assert.equal(run.code, 0, run.stderr);
  assert.match(run.stderr, /edited by hand: 1 change taken over/);
  const tasks = await here.json<{ description: string; result: unknown; attempts: number }[]>(["list"]);
  assert.deepEqual(tasks.map(({ description, attempts }) => [description, attempts]), [["first", 1], ["second", 1], ["third", 0]]);
  assert.equal(tasks[2]!.result, "by hand");
});

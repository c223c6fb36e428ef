// Acceptance: a state file that was cut, emptied or garbled. The start says so, the bad copy is kept byte for byte, the last
// good state comes back with one command, and a deadline or a spent attempt is not forgotten on the way.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { place } from "./pawl.ts";

type Shown = { id: number; status: string; attempts: number; deadline_at: string | null; result: unknown };

const DAMAGES: { readonly [what: string]: (bytes: Buffer) => Buffer } = {
  "cut in half": (bytes) => bytes.subarray(0, bytes.length >> 1),
  emptied: () => Buffer.alloc(0),
  garbled: (bytes) => Buffer.from(bytes.map((byte, i) => (i % 7 === 3 ? byte ^ 0x5a : byte))),
};
const hash = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex");

/** A state with a completed task, one that used up an attempt, and one with a deadline; nothing is left in a log. */
async function used(t: TestContext, file: string) {
  const at = place(t, file);
  await at.pawl(["add", "done"]);
  await at.pawl(["run", "--exec", "echo result"]);
  await at.pawl(["add", "tried", "--max-attempts", "2"]);
  await at.pawl(["run", "--exec", "false", "--backoff", "10m", "--max-tasks", "1"]);
  await at.pawl(["add", "soon", "--deadline", "2h"]);
  return { ...at, tasks: () => at.json<Shown[]>(["list"]) };
}

/** Every file with these bytes in the state's folder. */
const copiesOf = (folder: string, wanted: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => join(folder, name)).filter((path) => statSync(path).isFile() && hash(path) === wanted);

for (const [what, damage] of Object.entries(DAMAGES)) {
  test(`scenario 3, state.json ${what}: work is shown from the journal, nothing writes, one command restores it and keeps the bad copy`, async (t) => {
    const at = await used(t, "state.json");
    const before = await at.tasks();
    assert.deepEqual(before.map((task) => [task.status, task.attempts]), [["completed", 1], ["pending", 1], ["pending", 0]]);
    writeFileSync(at.state, damage(readFileSync(at.state)));
    const bad = hash(at.state);
    const refused = await at.pawl(["add", "x"]);
    assert.deepEqual([refused.code, /state\.json:\d+:\d+/.test(refused.stderr), /next: /.test(refused.stderr)], [7, true, true], refused.stderr);
    assert.equal(hash(at.state), bad, "untouched");
    assert.deepEqual(await at.tasks(), before);
    assert.match((await at.pawl(["status"])).stdout, /broken/);
    assert.notEqual((await at.pawl(["doctor"])).code, 0);
    const settled = await at.pawl(["doctor", "--discard-edit"]);
    assert.equal(settled.code, 0, settled.stdout + settled.stderr);
    assert.ok(copiesOf(at.folder, bad).length >= 1, "the bad copy is kept");
    assert.equal((JSON.parse(readFileSync(at.state, "utf8")) as { tasks: unknown[] }).tasks.length, 3, "the view is back at once");
    assert.deepEqual(await at.tasks(), before);
    assert.equal((await at.pawl(["add", "y"])).code, 0);
    assert.equal((JSON.parse(readFileSync(at.state, "utf8")) as { tasks: unknown[] }).tasks.length, 4);
  });

  test(`scenario 3, state.db ${what}: it is refused untouched, and the backup or what can be read comes back`, async (t) => {
    const at = await used(t, "state.db");
    const before = await at.tasks();
    assert.equal((await at.pawl(["backup", "good.db"])).code, 0);
    const good = hash(at.path("good.db"));
    writeFileSync(at.state, damage(readFileSync(at.state)));
    const bad = hash(at.state);
    const refused = await at.pawl(["list"]);
    assert.ok(refused.code === 7 || refused.code === 8, `${refused.code}: ${refused.stdout}${refused.stderr}`);
    assert.match(refused.stderr, /next: /);
    const repaired = await at.pawl(["doctor", "--repair"]);
    if (repaired.code === 0) {
      const ids = (await at.tasks()).map((task) => task.id);
      assert.ok(ids.every((id) => before.some((task) => task.id === id)), "nothing is invented");
    } else assert.match(repaired.stderr + repaired.stdout, /backup/);
    assert.ok(copiesOf(at.folder, bad).length >= 1, "the bad file is kept");
    // The way back that loses nothing.
    assert.equal(hash(at.path("good.db")), good);
    assert.deepEqual(await at.json<Shown[]>(["--state", at.path("good.db"), "list"]), before);
  });
}

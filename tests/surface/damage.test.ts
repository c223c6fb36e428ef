// A damaged state that is only read: what is before the damage is shown, and nothing takes it for all there is.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { BIN, place } from "../pawl.ts";

/** Flips a bit in the line of the journal that holds `text`. */
function flipBit(state: string, text: string): void {
  const folder = `${state}.pawl/journal`;
  const path = join(folder, readdirSync(folder)[0]!);
  const bytes = readFileSync(path);
  const at = bytes.indexOf(text);
  assert.ok(at > 0);
  bytes[at]! ^= 1;
  writeFileSync(path, bytes);
}

test("reading: what is before the damage, what is wrong and what next on stderr, exit code 7", async (t) => {
  const at = place(t);
  for (const task of ["first", "second", "third"]) await at.pawl(["add", task]);
  flipBit(at.state, "second");
  const list = await at.pawl(["list"]);
  assert.equal(list.code, 7);
  assert.match(list.stdout, /first/);
  assert.doesNotMatch(list.stdout, /second|third/);
  assert.match(list.stderr, /^error: The journal is damaged at .*\.jsonl:\d+: .* What is before it is shown\.\nnext: .*pawl doctor/);
  const json = await at.pawl(["list", "--json"]);
  assert.equal(json.code, 7);
  assert.deepEqual((JSON.parse(json.stdout) as { data: { description: string }[] }).data.map((task) => task.description), ["first"]);
  const { kind, data } = JSON.parse(json.stderr) as { kind: string; data: { code: string; next: string } };
  assert.deepEqual([kind, data.code], ["error", "corrupt"]);
  assert.match(data.next, /doctor/);
  assert.equal((await at.pawl(["run", "--exec", "true", "--dry-run"])).code, 7);
  assert.equal((await at.pawl(["add", "fourth"])).code, 7, "and nothing is written");
});

/** Root reads everything, unless it goes without these rights. */
const AS_A_USER = process.getuid?.() === 0 ? ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"] : [];

test("a state.json that may not be read: the disk refused, not a bug of Pawl, and the journal can still be listed", async (t) => {
  const at = place(t);
  await at.pawl(["add", "first"]);
  // Not as Pawl left it, so that it has to be read.
  writeFileSync(at.state, readFileSync(at.state, "utf8").replace("first", "edited"));
  chmodSync(at.state, 0);
  const run = (...words: string[]) => spawnSync(words[0]!, words.slice(1), { encoding: "utf8", cwd: at.folder, env: { ...process.env, NO_COLOR: "1", PAWL_STATE: at.state } });
  if (run(...AS_A_USER, "cat", at.state).error || run(...AS_A_USER, process.execPath, "-v").status !== 0 || process.platform === "win32") return t.skip("nothing here is refused to this user");
  const listed = run(...AS_A_USER, process.execPath, BIN, "list");
  assert.deepEqual([listed.status, /first/.test(listed.stdout)], [0, true], listed.stderr);
  const status = run(...AS_A_USER, process.execPath, BIN, "status");
  assert.match(status.stderr, /^error: .*state\.json cannot be used: EACCES.*\nnext: Check the permissions.*\n$/);
  assert.equal(status.status, 8);
});

test("a journal that lost its last lines: readers say so, nobody is told of a hand edit, and what state.json shows can be saved", async (t) => {
  const at = place(t);
  for (let i = 1; i <= 5; i++) await at.pawl(["add", `task ${i}`]);
  await at.pawl(["complete", "2", "--result", "done"]);
  const [name] = readdirSync(`${at.state}.pawl/journal`);
  const journal = join(`${at.state}.pawl/journal`, name!);
  const lines = readFileSync(journal, "utf8").split(/(?<=\n)/);
  const view = readFileSync(at.state);
  for (const kept of [lines.length >> 1, (lines.length >> 1) + 1]) {
    writeFileSync(journal, lines.slice(0, kept).join(""));
    writeFileSync(at.state, view);
    for (const command of ["status", "list"]) {
      const read = await at.pawl([command]);
      assert.equal(read.code, 7, command);
      assert.match(read.stderr, new RegExp(`^error: .*shows revision \\d+, but the journal ends at ${kept}: .* What the journal has is shown\\.\\nnext: .* pawl --state new\\.json import ${at.state}\\n$`));
      assert.doesNotMatch(read.stdout, /edited/);
    }
    const said = await at.pawl(["doctor"]);
    assert.deepEqual([said.code, said.stdout.match(/^[✗!] \w+/gm)], [7, ["✗ journal_short"]], said.stdout);
    assert.match(said.stdout, /next: .*doctor --repair.* pawl --state new\.json import /);
    const repaired = await at.pawl(["doctor", "--repair"]);
    assert.equal(repaired.code, 0, repaired.stdout);
    assert.doesNotMatch(repaired.stdout, /edited|deleted|refused/);
    const [, copy] = /showed line \d+, .* pawl --state new\.json import (\S+)$/m.exec(repaired.stdout) ?? [];
    const saved = at.path(`saved-${kept}.json`);
    assert.equal((await at.pawl(["--state", saved, "import", copy!])).code, 0);
    const tasks = JSON.parse((await at.pawl(["--state", saved, "list", "--json"])).stdout) as { data: { description: string; status: string; result: unknown }[] };
    assert.deepEqual(tasks.data.map(({ description, status }) => [description, status]), [1, 2, 3, 4, 5].map((i) => [`task ${i}`, i === 2 ? "completed" : "pending"]));
    const status = await at.pawl(["status"]);
    assert.deepEqual([status.code, status.stderr, /edit/i.test(status.stdout), existsSync(at.state)], [0, "", false, true], status.stdout);
  }
});

// A damaged state that is only read: what is before the damage is shown, and nothing takes it for all there is.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
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

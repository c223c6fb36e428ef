// A damaged state that is only read: what is before the damage is shown, and nothing takes it for all there is.
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { place } from "../pawl.ts";

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

// docs/reference.md is what the table of operations prints; the skill and `pawl prime` name commands and tools that exist and
// stay short enough to be read in every session.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { REFERENCE, referencePage } from "../../scripts/reference.ts";
import { LIMITS } from "../../src/base/limits.ts";
import { OPERATIONS } from "../../src/operations.ts";
import { openState } from "../../src/state.ts";

const SKILL = readFileSync(join(import.meta.dirname, "../../skills/pawl/SKILL.md"), "utf8");

test("docs/reference.md is printed from the table of operations", () => {
  assert.equal(readFileSync(REFERENCE, "utf8"), referencePage(), "an operation changed: node scripts/reference.ts");
});

/** Commands and operations that a text names. */
function unknownIn(text: string): string[] {
  const commands = [...text.matchAll(/`pawl ([a-z]+(?: [a-z]+)?)/g)].map((match) => match[1]!);
  const tools = [...text.matchAll(/\b((?:task|decision|memory|agent)_[a-z]+)\b/g)].map((match) => match[1]!);
  return [
    ...commands.filter((words) => !OPERATIONS.some(({ command }) => command === words || command === words.split(" ")[0])),
    ...tools.filter((name) => !OPERATIONS.some((operation) => operation.name === name)),
  ];
}

test("the skill names commands and tools that exist", () => {
  assert.deepEqual(unknownIn("`pawl bogus` task_bogus `pawl add x`"), ["bogus", "task_bogus"]);
  assert.deepEqual(unknownIn(SKILL), []);
  assert.ok(SKILL.length < 4_000 && /^---\nname: pawl\ndescription: .{50,500}\n---\n/.test(SKILL));
});

test("what a coding agent is told first: never longer than its bound, whatever the state holds", async (t) => {
  const state = await openState(":memory:", { actor: "seed" });
  t.after(() => state.close());
  const told = async () => ((await OPERATIONS.find(({ name }) => name === "prime")!.run(state, {})) as { text: string }).text;
  assert.match(await told(), /No tasks yet/);
  assert.deepEqual(unknownIn(await told()), []);
  const long = `${"a long \u001b[2J text\n".repeat(2_000)}`;
  await state.tasks.addAll(Array.from({ length: 60 }, (_, i) => ({ description: `${i} ${long}` })));
  for (let i = 0; i < 20; i++) await state.tasks.claim({ caller: `agent ${i}` });
  for (let id = 21; id < 41; id++) await state.tasks.fail(id, long);
  for (let i = 0; i < 30; i++) await state.decisions.ask({ question: `${i} ${long}`, task: 50 });
  for (let i = 1; i < 16; i++) await state.as("ada").decisions.settle(`d${i}`, { answer: long, reason: long });
  const text = await told();
  assert.ok(text.length <= LIMITS.primeChars, String(text.length));
  for (const part of ["## Claimed", "## Forbidden", "token 1.1.c-", "60 tasks: 20 pending, 20 in_progress, 20 failed"]) assert.ok(text.includes(part), `${part} in:\n${text}`);
  assert.match(text, /lines left out|and \d+ (more|or more)/);
});

// Every deliberate bug must be noticed by the test that is named with it, and that test must pass without the bug.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { copyCheckout, runTest, tryMutant } from "./mutants/run.ts";
import { RULE_MUTANTS } from "./mutants/rules.ts";
import { STORE_MUTANTS } from "./mutants/store.ts";

const MUTANTS = [...STORE_MUTANTS, ...RULE_MUTANTS];

describe("mutants", { timeout: 600_000 }, () => {
  let copy: ReturnType<typeof copyCheckout>;
  before(() => (copy = copyCheckout()));
  after(() => copy.remove());

  test("there are enough of them, each with a name of its own", () => {
    assert.ok(MUTANTS.length >= 45, `only ${MUTANTS.length}`);
    assert.equal(new Set(MUTANTS.map(({ name }) => name)).size, MUTANTS.length);
  });

  for (const file of new Set(MUTANTS.map(({ test: [file] }) => file))) {
    test(`without a bug the tests pass: ${file}`, async () => {
      const patterns = [...new Set(MUTANTS.filter(({ test: named }) => named[0] === file).map(({ test: [, pattern] }) => pattern))];
      const { passed, output } = await runTest(copy.folder, [file, patterns.join("|")]);
      assert.ok(passed, output.slice(-4_000));
    });
  }

  for (const mutant of MUTANTS) {
    test(`noticed: ${mutant.name}`, async () => assert.equal(await tryMutant(copy.folder, mutant), null));
  }
});

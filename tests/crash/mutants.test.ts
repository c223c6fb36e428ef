// Every deliberate bug must be noticed by the test that is named with it.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { copyCheckout, tryMutant } from "./mutants/run.ts";
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

  test("a bug that no test is there for, and one that cannot be loaded, are not taken for noticed", async () => {
    const mutant = MUTANTS.find(({ name }) => name === "attempts are not counted")!;
    assert.match((await tryMutant(copy.folder, { ...mutant, test: [mutant.test[0], "a name of none"] })) ?? "", /is not there$/);
    assert.match((await tryMutant(copy.folder, { ...mutant, replace: "await (" })) ?? "", /^it cannot be loaded/);
    assert.match((await tryMutant(copy.folder, { ...mutant, replace: mutant.find })) ?? "", /passes on it$/);
    assert.match((await tryMutant(copy.folder, { ...mutant, find: "nowhere" })) ?? "", /^its text is 0 times/);
  });

  for (const mutant of MUTANTS) {
    test(`noticed: ${mutant.name}`, async () => assert.equal(await tryMutant(copy.folder, mutant), null));
  }
});

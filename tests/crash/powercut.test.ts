// Promise 1 at real power cuts of a mounted ext4 and xfs, for both stores. `npm run crash` does 300 of them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { cutPower, whyNoPowerCuts } from "./powercut.ts";

const why = whyNoPowerCuts();
const skip = why === null ? false : `6 power cuts were not made: ${why}`;

test("what was acknowledged before a power cut is there after it", { skip, timeout: 180_000 }, async (t) => {
  const { violations, ...figures } = await cutPower({ cuts: 6, seed: 20260101 });
  t.diagnostic(JSON.stringify(figures));
  assert.deepEqual(violations, []);
  assert.equal(figures.cuts, 6);
  assert.ok(figures.acknowledged > 0, "the cuts must have hit work in progress");
});

test("where flushes are lies, the power cut shows it", { skip, timeout: 180_000 }, async () => {
  const { violations } = await cutPower({ cuts: 2, seed: 1, lying: true });
  assert.ok(violations.length > 0);
});

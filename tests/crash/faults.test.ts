// A fault at calls of a JSON store, spread over all of them and over all kinds; `npm run crash` does every one. What must
// hold afterwards is in faults.ts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { plans, sweepFaults } from "./faults.ts";

test("a fault at any call: what was said is true, and the next open is fine", async (t) => {
  const { plans: all, calls } = await plans();
  const { violations, ...figures } = await sweepFaults(all.filter((_, i) => i % 7 === 0), calls);
  t.diagnostic(JSON.stringify({ ...figures, of: all.length }));
  assert.deepEqual(violations, []);
  assert.ok(figures.runs > 300 && figures.failed > 0 && figures.unknown > 0 && figures.acknowledged > 0);
});

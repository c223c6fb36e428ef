// A fault at calls of a JSON store, spread over all of them and over all kinds; `npm run crash` does every one. What must
// hold afterwards is in faults.ts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { plans, sweepFaults } from "./faults.ts";

for (const { abreast, of, least } of [{ abreast: 1, of: "commits", least: 300 }, { abreast: 4, of: "batches flushed beside the event loop", least: 100 }]) {
  test(`a fault at any call of ${of}: what was said is true, and the next open is fine`, async (t) => {
    const { plans: all, calls } = await plans(abreast);
    const { violations, ...figures } = await sweepFaults(all.filter((_, i) => i % 7 === 0), calls, abreast);
    t.diagnostic(JSON.stringify({ ...figures, of: all.length }));
    assert.deepEqual(violations, []);
    assert.ok(figures.runs > least && figures.failed > 0 && figures.unknown > 0 && figures.acknowledged > 0);
  });
}

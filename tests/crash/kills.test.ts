// Promises 1, 2, 3 and 5 under kill -9: 30 kills a store over four worker processes. `npm run crash` does 300.
import assert from "node:assert/strict";
import { test } from "node:test";
import { killWorkers } from "./kills.ts";

for (const file of ["state.json", "state.db"]) {
  test(`kill -9 at random moments over 4 workers: ${file}`, { timeout: 120_000 }, async (t) => {
    const report = await killWorkers({ file, kills: 30, workers: 4, seed: 20260101 });
    const { violations, ...figures } = report;
    t.diagnostic(JSON.stringify(figures));
    assert.deepEqual(violations, []);
    assert.ok(report.takeovers > 0, "the kills must have hit tasks in progress");
  });
}

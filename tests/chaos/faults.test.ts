// Three worker processes on one Postgres, through one fault after the other: work goes on each time, nothing acknowledged is
// lost and no recorded step runs again. One worker's clock is hours ahead, another's hours behind, all the time.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FAULTS, runFaults } from "./faults.ts";

test("faults of Postgres and of its workers: nothing lost, nothing twice", { timeout: 240_000 }, async (t) => {
  const report = await runFaults(FAULTS, 200_000);
  for (const { fault, ms } of report.recoveries) t.diagnostic(`${fault}: went on after ${ms} ms`);
  t.diagnostic(`${report.tasks} tasks, ${report.effects} effects, ${report.repeated} cut off and run again`);
  assert.deepEqual(report.violations, []);
  assert.ok(report.tasks >= 20 * FAULTS.length);
});

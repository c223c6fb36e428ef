// How far a run is, in numbers and in the words of a run.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import * as progress from "../../src/core/progress.ts";

test("percent rounds down, and 100 means all", () => {
  const table = [[0, 0, 0], [0, 3, 0], [1, 3, 33], [2, 3, 66], [3, 3, 100], [199, 200, 99], [999_999, 1_000_000, 99], [1, -1, 0]] as const;
  for (const [completed, total, expected] of table) assert.equal(progress.percent(completed, total), expected);
  fc.assert(fc.property(fc.nat({ max: 1_000_000 }), fc.integer({ min: 1, max: 1_000_000 }), (completed, total) => {
    assert.equal(progress.percent(Math.min(completed, total), total) === 100, completed >= total);
  }));
});

test("the time left follows the last tasks and the workers", () => {
  const pace = [1_000, 3_000].reduce<progress.Pace>(progress.addPace, []);
  assert.equal(progress.etaMs(pace, 10, 1), 20_000);
  assert.equal(progress.etaMs(pace, 10, 4), 5_000);
  assert.equal(progress.etaMs(pace, 1, 4), 2_000, "one task takes its whole time");
  assert.equal(progress.etaMs(pace, 10, 0), 20_000);
  assert.equal(progress.etaMs(pace, 0, 4), 0);
  assert.equal(progress.etaMs([], 5, 1), null);
  const changed = Array.from({ length: 20 }, () => 10).reduce<progress.Pace>(progress.addPace, pace);
  assert.equal(progress.etaMs(changed, 1, 1), 10, "old tasks are forgotten");
  assert.deepEqual([NaN, -1, Infinity].reduce<progress.Pace>(progress.addPace, pace), pace);
});

test("the lines of a run", () => {
  assert.equal(progress.FRESH_LINE, "No existing state found, starting fresh");
  assert.equal(progress.loadedLine(3, "state.json"), "Loaded 3 tasks from state.json");
  assert.equal(progress.loadedLine(1, "state.json"), "Loaded 1 task from state.json");
  assert.equal(progress.progressLine(1, 3), "Progress: 1/3 completed (33%)");
  assert.equal(progress.progressLine(0, 0), "Progress: 0/0 completed (0%)");
  assert.equal(progress.remainingLine(2), "2 tasks remaining");
  assert.equal(progress.remainingLine(1), "1 task remaining");
  assert.equal(progress.completedLine(2, 3), "  ✓ Completed (2/3)");
  assert.equal(progress.failedLine("boom\n  at x"), "  ✗ Failed: boom");
  assert.equal(progress.failedLine(""), "  ✗ Failed: ");
  assert.equal(progress.ALL_COMPLETED_LINE, "All tasks completed!");
  assert.equal(progress.NOTHING_TO_DO_LINE, "All tasks completed! Nothing to do.");
});

test("the line of a task is cut after 60 characters, never inside one", () => {
  assert.equal(progress.taskLine(2, "Explain recursion"), "[Task 2] Explain recursion");
  assert.equal(progress.taskLine(2, "x".repeat(60)), `[Task 2] ${"x".repeat(60)}`);
  assert.equal(progress.taskLine(2, "x".repeat(61)), `[Task 2] ${"x".repeat(60)}…`);
  assert.equal(progress.taskLine(2, "👨‍👩‍👧".repeat(61)), `[Task 2] ${"👨‍👩‍👧".repeat(60)}…`);
  assert.equal(progress.taskLine(2, " a\n\tb "), "[Task 2] a b");
  assert.equal(progress.taskLine(2, `a${" ".repeat(5_000)}b`), "[Task 2] a…");
});

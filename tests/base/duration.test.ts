// Durations: what people write becomes whole milliseconds or a usage error, and what is printed is short and never "60 s".
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatDuration, parseDuration } from "../../src/base/duration.ts";
import { isPawlError } from "../../src/base/errors.ts";

const good: [string, number][] = [
  ["1500ms", 1_500], ["1ms", 1], ["30s", 30_000], ["5m", 300_000], ["2h", 7_200_000], ["1d", 86_400_000], ["1h30m", 5_400_000],
  ["1h 30m", 5_400_000], ["1.5h", 5_400_000], ["1d2h3m4s5ms", 93_784_005], ["90", 90_000], ["0.5", 500], [" 10s ", 10_000], ["5m30s", 330_000],
  ["2m500ms", 120_500], ["36525d", 36_525 * 86_400_000],
];
for (const [text, ms] of good) test(`${text} is ${ms} ms`, () => assert.equal(parseDuration(text), ms));

const bad = ["", " ", "abc", "s", "1x", "1 hour", "30m1h", "1h1h", "-5s", "-1", "+5", "0", "0s", "0h0m", "0.1ms", "NaN", "Infinity", "1e3", "1,5h", ".5s", "5.s", "1H", "36526d", "9".repeat(400), `1d${" ".repeat(50_000)}x`];
for (const text of bad) {
  test(`${JSON.stringify(text.slice(0, 20))} is refused`, () => {
    assert.throws(() => parseDuration(text, { name: "timeout" }), (error) => isPawlError(error, "usage") && error.message.startsWith("The timeout ") && error.next !== undefined);
  });
}

test("min says what is too short", () => {
  assert.equal(parseDuration("0", { min: 0 }), 0);
  assert.equal(parseDuration("0s", { min: 0 }), 0);
  assert.equal(parseDuration("1s", { min: 1_000 }), 1_000);
  assert.throws(() => parseDuration("999ms", { min: 1_000 }), /at least 1 s/);
  assert.throws(() => parseDuration("-1s", { min: 0 }), /not a duration/);
});

test("whatever the text, a duration is a safe whole number or the error is a usage error", () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9.]{0,9}(ms|[dhms])?[0-9]{0,4}[ms]?$/)), (text) => {
    try {
      const ms = parseDuration(text);
      assert.ok(Number.isSafeInteger(ms) && ms >= 1, `${text} gave ${ms}`);
    } catch (error) {
      assert.ok(isPawlError(error, "usage"), String(error));
    }
  }));
});

const printed: [number, string][] = [
  [0, "0 ms"], [-5, "0 ms"], [0.4, "0 ms"], [850, "850 ms"], [999.6, "1 s"], [1_000, "1 s"], [1_234, "1.2 s"], [9_940, "9.9 s"], [9_960, "10 s"], [42_300, "42 s"],
  [59_499, "59 s"], [59_900, "1 m"], [60_000, "1 m"], [200_000, "3 m 20 s"], [3_599_600, "1 h"], [3_600_000, "1 h"], [7_500_000, "2 h 5 m"],
  [86_399_000, "1 d"], [86_400_000, "1 d"], [273_600_000, "3 d 4 h"], [NaN, "?"], [Infinity, "?"],
];
for (const [ms, text] of printed) test(`${ms} ms reads ${text}`, () => assert.equal(formatDuration(ms), text));

test("what is printed can be typed", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 4_000_000_000 }), (ms) => {
    const again = parseDuration(formatDuration(ms));
    assert.ok(Math.abs(again - ms) <= Math.max(ms * 0.05, 50), `${ms} became ${formatDuration(ms)}`);
  }));
});

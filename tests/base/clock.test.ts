// Time in records: the texts are those of Date, for every instant there is.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { iso, parseIso } from "../../src/base/clock.ts";

/** The last instant there is, in ms since 1970; the first is as far before. */
const END = 8.64e15;

test("iso is what Date says, for any instant and in any order of days", () => {
  const near = fc.integer({ min: -200_000_000_000, max: 4_200_000_000_000 });
  const any = fc.oneof(near, fc.maxSafeInteger().map((n) => n % END), fc.constantFrom(0, -1, 86_399_999, 86_400_000, END, -END));
  fc.assert(
    fc.property(fc.array(any, { minLength: 1, maxLength: 4 }), (instants) => {
      for (const ms of instants) {
        assert.equal(iso(ms), new Date(ms).toISOString());
        assert.equal(parseIso(iso(ms)), ms);
      }
    }),
    { numRuns: 2_000 },
  );
});

test("iso cuts a fraction of a millisecond off, and throws for what is no time", () => {
  assert.equal(iso(1_700_000_000_123.9), "2023-11-14T22:13:20.123Z");
  for (const none of [NaN, Infinity, -Infinity, END + 1, -END - 1]) assert.throws(() => iso(none), RangeError, String(none));
  assert.equal(iso(0), "1970-01-01T00:00:00.000Z", "one that was refused leaves nothing behind");
});

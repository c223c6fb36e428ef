// When to try again: the delays, what ends it at once, and which errors are worth another try, by type and status code.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { manualClock } from "../../src/base/clock.ts";
import { isPawlError, PawlError } from "../../src/base/errors.ts";
import { seededRandom } from "../../src/base/id.ts";
import { backoffMs, failureOf, isPermanent, PermanentError, retry, thrown, wellFormed, type RetryOptions } from "../../src/core/retry.ts";

/** Calls retry on a clock of its own and moves that on until it has ended. */
async function run(failures: unknown[], options: RetryOptions = {}) {
  const clock = manualClock();
  const at: number[] = [];
  let over = false;
  const result = retry((attempt) => {
    at.push(clock.monotonic());
    assert.equal(attempt, at.length);
    if (at.length <= failures.length) throw failures[at.length - 1];
    return "done";
  }, { clock, random: seededRandom(1), jitter: false, ...options }).then((value) => ({ value, error: null }), (error: unknown) => ({ value: null, error })).finally(() => (over = true));
  for (let i = 0; i < 10_000 && !over; i++) await clock.advance(over ? 0 : 100);
  return { ...(await result), at, endedAt: clock.monotonic() };
}

test("delays of 1, 2, 4 s, none after the last try, and the error keeps its cause", async () => {
  const errors = [1, 2, 3, 4].map((n) => new Error(`no ${n}`));
  const { error, at, endedAt } = await run(errors, { tries: 4 });
  assert.deepEqual(at, [0, 1_000, 3_000, 7_000]);
  assert.ok(endedAt <= 7_100, `it waited until ${endedAt}`);
  assert.ok(isPawlError(error, "failed"));
  assert.equal(error.message, "failed after 4 retries: no 4");
  assert.equal(error.cause, errors[3]);
});

test("three tries unless told; what succeeds ends it", async () => {
  assert.deepEqual((await run(Array.from({ length: 9 }, () => new Error("no")))).at.length, 3);
  const { value, at } = await run([new Error("no")], { tries: 5 });
  assert.deepEqual([value, at.length], ["done", 2]);
});

test("a permanent error is thrown as it is, at once", async () => {
  const error = Object.assign(new Error("forbidden"), { status: 403 });
  const got = await run([error, error], { tries: 5 });
  assert.equal(got.error, error);
  assert.equal(got.at.length, 1);
  const own = await run([new Error("mine")], { tries: 5, isPermanent: () => true });
  assert.equal(own.at.length, 1);
});

test("an abort interrupts the sleep, and a signal aborted before begins nothing", async () => {
  const clock = manualClock();
  const aborter = new AbortController();
  let calls = 0;
  const reason = new Error("enough");
  const retrying = retry(() => { calls++; throw new Error("no"); }, { clock, signal: aborter.signal, jitter: false, tries: 9 });
  retrying.catch(() => undefined);
  await clock.advance(500);
  assert.equal(clock.pending, 1);
  aborter.abort(reason);
  await assert.rejects(retrying, (error) => error === reason);
  assert.equal(clock.pending, 0, "no timer is left");
  await assert.rejects(retry(() => ++calls, { signal: aborter.signal }), (error) => error === reason);
  assert.equal(calls, 1);
});

test("an abort while it runs ends it with what was thrown", async () => {
  const aborter = new AbortController();
  const error = new Error("stopped in the middle");
  await assert.rejects(retry(() => { aborter.abort(); throw error; }, { signal: aborter.signal }), (got) => got === error);
});

for (const tries of [0, -1, 1.5, NaN, Infinity, "3" as unknown as number]) {
  test(`${String(tries)} tries are a usage error and call nothing`, async () => {
    await assert.rejects(retry(() => assert.fail("called"), { tries }), { code: "usage" });
  });
}

test("each retry is told, with its delay", async () => {
  const told: unknown[] = [];
  await run([new Error("a"), new Error("b"), new Error("c")], { tries: 3, onRetry: (error, failures, delayMs) => told.push([(error as Error).message, failures, delayMs]) });
  assert.deepEqual(told, [["a", 1, 1_000], ["b", 2, 2_000]]);
});

test("the delay doubles up to its cap; jitter keeps it between half and one and a half of it, and under the cap", () => {
  assert.deepEqual([1, 2, 3, 4, 7, 8, 60, 5_000].map((n) => backoffMs(n, { jitter: false }, 0)), [1_000, 2_000, 4_000, 8_000, 60_000, 60_000, 60_000, 60_000]);
  assert.equal(backoffMs(3, { baseMs: 10, capMs: 25, jitter: false }, 0), 25);
  fc.assert(fc.property(fc.integer({ min: 1, max: 2_000 }), fc.integer({ min: 0, max: 1e6 }), fc.integer({ min: 0, max: 1e7 }), fc.double({ min: 0, max: 0.999999, noNaN: true }), (failures, baseMs, capMs, random) => {
    const plain = backoffMs(failures, { baseMs, capMs, jitter: false }, 0);
    const spread = backoffMs(failures, { baseMs, capMs }, random);
    assert.ok(Number.isFinite(spread) && spread >= Math.floor(plain / 2) && spread <= Math.min(Math.ceil(plain * 1.5), capMs), `${spread} of ${plain}`);
  }));
});

const network = (code: string) => new TypeError("fetch failed", { cause: Object.assign(new Error(`connect ${code}`), { code }) });
const status = (n: number) => Object.assign(new Error(`HTTP ${n}`), { status: n });
const assertion = (message: string) => { try { assert.equal(1, 2, message); return null; } catch (error) { return error; } };

for (const [what, error, permanent] of [
  ["fetch's TypeError over ECONNRESET", network("ECONNRESET"), false],
  ["fetch's TypeError over ECONNREFUSED", network("ECONNREFUSED"), false],
  ["fetch's TypeError over a certificate error", network("CERT_HAS_EXPIRED"), false],
  ["a bare TypeError", new TypeError("x is not a function"), true],
  ["a ReferenceError", new ReferenceError("x is not defined"), true],
  ["a SyntaxError", new SyntaxError("Unexpected token"), true],
  ["a RangeError", new RangeError("Invalid array length"), true],
  ...[400, 401, 403, 404, 405, 410, 413, 422, 451].map((n) => [`status ${n}`, status(n), true] as const),
  ...[408, 409, 425, 429, 500, 502, 503, 504, 529, 599].map((n) => [`status ${n}`, status(n), false] as const),
  ["statusCode 404", Object.assign(new Error("x"), { statusCode: 404 }), true],
  ["a status on a TypeError", Object.assign(new TypeError("x"), { status: 503 }), false],
  ["a status that is no error", Object.assign(new Error("x"), { status: 200 }), false],
  ["ECONNRESET", Object.assign(new Error("x"), { code: "ECONNRESET" }), false],
  ["ETIMEDOUT", Object.assign(new Error("x"), { code: "ETIMEDOUT" }), false],
  ["ENOENT", Object.assign(new Error("x"), { code: "ENOENT" }), true],
  ["EACCES", Object.assign(new Error("x"), { code: "EACCES" }), true],
  ["a plain Error", new Error("permanent failure, do not retry, 404"), false],
  ["PermanentError", new PermanentError("no"), true],
  ["our usage", new PawlError("usage", "no"), true],
  ["our busy", new PawlError("busy", "no"), false],
  ["our timeout", new PawlError("timeout", "no"), false],
  ["ours, marked", new PawlError("failed", "no", { details: { permanent: true } }), true],
  ["a string", "timed out", false],
  ["undefined", undefined, false],
  ["null", null, false],
  ["a number", 404, false],
] as const) {
  test(`${what} is ${permanent ? "permanent" : "worth another try"}`, () => assert.equal(isPermanent(error), permanent));
}

test("errors are told by their type, not by their text", () => {
  for (const make of [assertion, (text: string) => new Error(text), (text: string) => new TypeError(text)]) {
    const [plain, ...others] = ["x", "AssertionError: expected 200, timed out", "ECONNRESET", "rate limit 429", "HTTP 404"].map((text) => isPermanent(make(text)));
    assert.ok(others.every((other) => other === plain));
  }
});

test("a failure keeps message, code and cause of whatever was thrown, in a form every store holds", () => {
  assert.deepEqual(failureOf(new TypeError("fetch failed", { cause: new Error("why") })), { message: "fetch failed", code: "TypeError", cause: "why" });
  assert.deepEqual(failureOf(Object.assign(new Error("x"), { code: "EPIPE" })), { message: "x", code: "EPIPE" });
  assert.deepEqual(failureOf("text"), { message: "text" });
  assert.deepEqual(failureOf(undefined), { message: "undefined" });
  assert.equal(failureOf(new Error("")).message, "Error");
  assert.equal(failureOf(new Error("a\0b\ud800")).message, "a\u2400b\ufffd");
  assert.equal(failureOf(new Error("x".repeat(1e6))).message.length, 10_000);
  assert.equal(wellFormed("fine ✓"), "fine ✓");
});

test("a failure thrown again and kept again says the same", () => {
  for (const error of [new Error("a", { cause: new Error("b") }), status(404), network("ECONNRESET"), new PermanentError("p")]) {
    const once = failureOf(error);
    const twice = failureOf(thrown(once));
    assert.deepEqual([twice.message, twice.cause, twice.permanent], [once.message, once.cause, once.permanent]);
  }
});

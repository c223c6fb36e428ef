// What a command printed as the output of its step: any bytes come back as they were, and text is kept as text.
import assert from "node:assert/strict";
import fc from "fast-check";
import { test } from "node:test";
import { canonical } from "../../src/base/json.ts";
import { bytesOf, outputOf } from "../../src/core/call.ts";

test("any bytes can be kept, and come back the same", () => {
  const bytes = fc.oneof(fc.uint8Array(), fc.string({ unit: "binary" }).map((text) => Buffer.from(text)), fc.string().map((text) => Buffer.from(text)));
  fc.assert(fc.property(bytes, (given) => {
    const kept = canonical(outputOf(Buffer.from(given)), "output");
    assert.ok(bytesOf(kept).equals(Buffer.from(given)));
  }));
});

test("UTF-8 without NUL is kept as text; what else there is, and what others gave, has one form", () => {
  assert.equal(outputOf(Buffer.from("über\n\n")), "über\n\n");
  assert.equal(outputOf(Buffer.alloc(0)), "");
  assert.deepEqual(outputOf(Buffer.from("a\0b")), { base64: "YQBi" });
  assert.deepEqual(outputOf(Buffer.from([0xff])), { base64: "/w==" });
  assert.equal(outputOf(Buffer.from("\ufeffmark")), "\ufeffmark", "a byte order mark is part of the bytes");
  const cases = [[null, ""], [3, "3\n"], [{ a: 1 }, '{"a":1}\n'], [{ base64: "YQ==", more: 1 }, '{"base64":"YQ==","more":1}\n'], [["x"], '["x"]\n']] as const;
  for (const [value, printed] of cases) assert.equal(bytesOf(value).toString(), printed);
});

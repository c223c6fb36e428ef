// Strict reading: exactly what JSON.parse accepts and says, less what it changes silently; and every place is right.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { isPawlError } from "../../src/base/errors.ts";
import type { Json } from "../../src/base/json.ts";
import { parseStrict, placeAt, textOf } from "../../src/base/json-text.ts";

/** Values that survive as they are: integers within 2^53, no key __proto__. */
const key = fc.string().filter((word) => word !== "__proto__");
const number = fc.oneof(fc.maxSafeInteger(), fc.double({ noNaN: true, noDefaultInfinity: true }).filter((n) => !Number.isInteger(n)));
const value = fc.letrec((tie) => ({
  any: fc.oneof({ depthSize: "small" }, fc.constant(null), fc.boolean(), number, fc.string({ unit: "binary" }), fc.array(tie("any"), { maxLength: 4 }), fc.dictionary(key, tie("any"), { maxKeys: 4, noNullPrototype: true })),
})).any;

test("what JSON prints is read as JSON.parse reads it, however it is laid out", () => {
  fc.assert(
    fc.property(value, fc.constantFrom(undefined, 1, "\t", "\r\n "), (any, space) => {
      const text = JSON.stringify(any, null, space);
      assert.deepEqual(parseStrict(text, "x").value, JSON.parse(text));
    }),
    { numRuns: 500 },
  );
});

test("nothing is read that JSON.parse refuses, and only a PawlError is thrown", () => {
  const pieces = fc.constantFrom("{", "}", "[", "]", ",", ":", '"a"', '"b', "1", "-0", "1.", ".5", "1e5", "01", "true", "nul", "NaN", " ", "\n", "\\", "//", "'", "\u0000", "\uFEFF", "9007199254740993");
  let read = 0;
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 8 }), (parts) => {
      const text = parts.join("");
      try {
        assert.deepEqual(parseStrict(text, "x").value, JSON.parse(text) === 0 ? 0 : JSON.parse(text));
        read++;
      } catch (error) {
        assert.ok(isPawlError(error, "corrupt") && error.next, String(error));
      }
    }),
    { numRuns: 3_000 },
  );
  assert.ok(read > 20);
});

test("places: of what is wrong, of objects, arrays and items", () => {
  for (const [text, line, column] of [['{\n  "a": 1,\n  "a": 2\n}', 3, 3], ["[1,\r\n 2,\r\n]", 2, 3], ['["x', 1, 2], ["", 1, 1], ["[1] 2", 1, 5], ['{"ä": tru}', 1, 7]] as const) {
    assert.throws(() => parseStrict(text, "f"), (error) => isPawlError(error, "corrupt") && error.message.startsWith(`f:${line}:${column}: `) && error.details!["column"] === column, text);
  }
  const { value: document, lineOf, lineOfItem } = parseStrict('{"tasks": [\n{"id": 1},\n\n{"id": 2}, "x",\n3]}', "f");
  const tasks = (document as { tasks: Json[] }).tasks;
  assert.deepEqual([lineOf(document), lineOf(tasks), lineOf(tasks[1]!), lineOf("x"), ...tasks.map((_, i) => lineOfItem(tasks, i))], [1, 1, 4, 1, 2, 4, 4, 5]);
  assert.deepEqual([placeAt("ab\ncd", 4), placeAt("", 0)], [{ line: 2, column: 2 }, { line: 1, column: 1 }]);
});

test("bytes: a byte order mark goes, anything but UTF-8 is refused with its line", () => {
  assert.equal(textOf(Buffer.from("\uFEFFä"), "f"), "ä");
  assert.throws(() => textOf(Buffer.from([0x61, 0x0a, 0xc3]), "f"), (error) => isPawlError(error, "corrupt") && /^f:2: It is not UTF-8/.test(error.message));
  assert.throws(() => textOf(Buffer.from("\uFEFFa", "utf16le"), "f", "value_refused"), (error) => isPawlError(error, "value_refused") && /UTF-16/.test(error.message));
});

test("a text of a value does not keep the whole file in memory", () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const kept: string[] = [];
  collect();
  const before = process.memoryUsage().heapUsed;
  for (let i = 0; i < 40; i++) kept.push((parseStrict(`{"a": "a text of more than a few letters ${i}", "b": "${"x".repeat(1 << 20)}"}`, "x").value as { a: string }).a);
  collect();
  const grown = process.memoryUsage().heapUsed - before;
  assert.ok(grown < 10 << 20, `${kept.length} short texts keep ${grown} bytes`);
});

// Stored text on a terminal: nothing in it can act on the terminal, and a line never takes more columns than it may.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import stringWidth from "string-width";
import { escapeText, oneLine } from "../../src/surface/escape.ts";

const code = (n: number) => String.fromCharCode(n);
const escaped = (n: number) => `\\u${n.toString(16).padStart(4, "0")}`;

// [what it is, text, printed]
const table: [string, string, string][] = [
  ["plain text", "hello", "hello"],
  ["nothing", "", ""],
  ["TAB and LF stay", "a\tb\nc", "a\tb\nc"],
  ["umlauts and Han", "Grüße 你好", "Grüße 你好"],
  ["an emoji family", "👨‍👩‍👧", "👨‍👩‍👧"],
  ["an emoji beyond the BMP", "🎉", "🎉"],
  ["Hebrew itself", "שלום", "שלום"],
  ["a backslash", "C:\\u001b", "C:\\u001b"],
  ["a no-break space", "a\u00a0b", "a\u00a0b"],
  ["a colour", "\u001b[31mred\u001b[0m", "\\u001b[31mred\\u001b[0m"],
  ["a cleared screen", "\u001b[2J", "\\u001b[2J"],
  ["a window title", "\u001b]0;x\u0007", "\\u001b]0;x\\u0007"],
  ["a hyperlink", "\u001b]8;;http://x\u001b\\y", "\\u001b]8;;http://x\\u001b\\y"],
  ["a C1 sequence", "\u009b2J", "\\u009b2J"],
  ["an overwritten line", "good\rbad ", "good\\u000dbad "],
  ["CRLF", "a\r\nb", "a\\u000d\nb"],
  ["half an emoji, first", "a\ud83c", "a\\ud83c"],
  ["half an emoji, second", "\udf89a", "\\udf89a"],
  ["halves in the wrong order", "\udf89\ud83c", "\\udf89\\ud83c"],
  ["a reversed file name", "exe.\u202egpj", "exe.\\u202egpj"],
  ...[0x00, 0x07, 0x08, 0x0b, 0x0c, 0x0e, 0x1a, 0x1f, 0x7f, 0x80, 0x85, 0x9f, 0x061c, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202b, 0x202c, 0x202d, 0x2066, 0x2067, 0x2068, 0x2069].map(
    (n): [string, string, string] => [`U+${n.toString(16).padStart(4, "0")}`, `a${code(n)}b`, `a${escaped(n)}b`],
  ),
  ...[0x09, 0x0a, 0x20, 0x7e, 0xa0, 0x200d, 0x2027, 0x2030, 0x2065, 0x206a, 0xd7ff, 0xe000].map((n): [string, string, string] => [`U+${n.toString(16)} as it is`, code(n), code(n)]),
];
for (const [what, text, printed] of table) test(`escapeText: ${what}`, () => assert.equal(escapeText(text), printed));

const lines: [string, string, number, string][] = [
  ["fits", "hello", 10, "hello"],
  ["fits exactly", "hello", 5, "hello"],
  ["cut", "hello world", 8, "hello w…"],
  ["cut at a space", "hello world", 7, "hello…"],
  ["one column", "hello", 1, "…"],
  ["no column", "hello", 0, ""],
  ["negative", "hello", -3, ""],
  ["line ends", "a\nb\r\nc\rd", 20, "a⏎b⏎c⏎d"],
  ["outer blanks", "\n  a\n\n", 20, "a"],
  ["TAB", "a\tb", 20, "a b"],
  ["wide characters count twice", "你好世界", 8, "你好世界"],
  ["wide characters cut whole", "你好世界", 6, "你好…"],
  ["an emoji is not split", "ab👨‍👩‍👧cd", 4, "ab…"],
  ["escapes count as they are printed", "\u001b[31m", 20, "\\u001b[31m"],
  ["escapes are cut too", "\u001b[31m", 5, "\\u00…"],
];
for (const [what, text, width, printed] of lines) test(`oneLine: ${what}`, () => assert.equal(oneLine(text, width), printed));

test("oneLine of a megabyte is quick and cut", () => {
  assert.equal(oneLine("x".repeat(1 << 20), 10), "xxxxxxxxx…");
  assert.equal(oneLine("🎉".repeat(1 << 18), 11), `${"🎉".repeat(5)}…`);
});

test("nothing that acts on a terminal is left, and no line is too wide", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), fc.integer({ min: 1, max: 40 }), (text, width) => {
    const safe = escapeText(text);
    assert.ok(!/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/.test(safe) && safe.isWellFormed());
    assert.equal(escapeText(safe), safe);
    const line = oneLine(text, width);
    assert.ok(!/[\t\n]/.test(line) && stringWidth(line) <= width, JSON.stringify(line));
  }));
});

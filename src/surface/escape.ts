// Stored text made safe for a terminal. Invariant: what these return holds no control character but TAB and LF, nothing
// that reorders the text around it, and no half of a surrogate pair: a task's description cannot move the cursor, hide
// another line or make a command look like another one.
import { createRequire } from "node:module";

// C0 without TAB and LF, DEL and C1, the marks that change the direction of text, line and paragraph separators, and (with
// the u flag) surrogates that stand alone.
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]/gu;

/** The text with everything unsafe written as `\u001b`. */
export function escapeText(text: string): string {
  return text.replace(UNSAFE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

let measure: ((text: string) => number) | null = null;

/** The columns the text takes on a terminal. */
export function columnsOf(text: string): number {
  if (!/[^\x20-\x7e]/.test(text)) return text.length;
  // Loaded when first needed: its tables of emoji take longer to load than a short command to run.
  measure ??= (createRequire(import.meta.url)("string-width") as { default: (text: string) => number }).default;
  return measure(text);
}

/** Code units looked at for each column: a slice first, since the text may be a megabyte; marks beyond it are cut. */
const UNITS_PER_COLUMN = 32;

/** The text on one line of at most `maxWidth` columns: line ends as ⏎, TABs as spaces, unsafe characters escaped, cut with …. */
export function oneLine(text: string, maxWidth: number): string {
  if (maxWidth < 1) return "";
  const units = maxWidth * UNITS_PER_COLUMN;
  const long = text.length > units;
  const head = long ? text.slice(0, units).replace(/[\ud800-\udbff]$/, "") : text;
  const line = escapeText(head.trim().replaceAll(/\r\n|\n|\r/g, "⏎").replaceAll("\t", " "));
  return !long && columnsOf(line) <= maxWidth ? line : cut(line, maxWidth - 1);
}

function cut(line: string, width: number): string {
  if (!/[^\x20-\x7e]/.test(line)) return `${line.slice(0, width).trimEnd()}…`;
  let kept = "";
  let used = 0;
  for (const { segment } of new Intl.Segmenter().segment(line)) {
    used += columnsOf(segment);
    if (used > width) break;
    kept += segment;
  }
  return `${kept.trimEnd()}…`;
}

// Reads JSON that a person or another program wrote: strictly, and with places. Invariant: what comes back is exactly what
// the text says; whatever would be changed silently (a key given twice, an integer beyond 2^53, bytes that are no UTF-8) is
// refused with line and column, and nothing but a PawlError is thrown.
import { PawlError } from "./errors.ts";
import type { Json } from "./json.ts";
import { LIMITS } from "./limits.ts";

/** A place in a text; both count from 1, columns in UTF-16 units. */
export type TextPlace = { readonly line: number; readonly column: number };

export type JsonText = {
  readonly value: Json;
  /** The line in which an object or array of `value` begins; 1 for what is none of it. */
  readonly lineOf: (part: Json) => number;
  /** The line in which an item of an array of `value` begins. */
  readonly lineOfItem: (list: readonly Json[], index: number) => number;
};

/** The text of bytes that must be UTF-8; a byte order mark is dropped. Throws with the line of the first bad byte. */
export function textOf(bytes: Uint8Array, name: string, code: "corrupt" | "value_refused" = "corrupt"): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    const wide = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
    const line = wide ? 1 : badLine(bytes);
    throw new PawlError(code, `${name}:${line}: It is ${wide ? "UTF-16, not UTF-8" : "not UTF-8 text"}.`, { next: "Save it as UTF-8.", details: { file: name, line } });
  }
}

function badLine(bytes: Uint8Array): number {
  for (let line = 1, start = 0; ; line++) {
    const end = bytes.indexOf(0x0a, start);
    try {
      new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(start, end < 0 ? bytes.length : end));
    } catch {
      return line;
    }
    if (end < 0) return line;
    start = end + 1;
  }
}

/** Parses `text`; `name` (a path) stands before the place in what it throws: `corrupt`, with `line` and `column` in its details. */
export function parseStrict(text: string, name: string): JsonText {
  const reader = new Reader(text, name);
  const value = reader.document();
  let lines: number[] | null = null;
  const lineAt = (start: number | undefined) => (start === undefined ? 1 : lastAtMost((lines ??= lineStarts(text)), start) + 1);
  return {
    value,
    lineOf: (part) => lineAt(typeof part === "object" && part !== null ? reader.starts.get(part) : undefined),
    lineOfItem: (list, index) => lineAt(reader.items.get(list)?.[index]),
  };
}

/** Where a character stands in a text. */
export function placeAt(text: string, at: number): TextPlace {
  const lines = lineStarts(text);
  const line = lastAtMost(lines, at);
  return { line: line + 1, column: at - lines[line]! + 1 };
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return starts;
}

function lastAtMost(sorted: readonly number[], value: number): number {
  let from = 0;
  let to = sorted.length;
  while (to - from > 1) {
    const middle = (from + to) >> 1;
    if (sorted[middle]! <= value) from = middle;
    else to = middle;
  }
  return from;
}

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /-?[A-Za-z_$][\w$]*/y;
const WORDS: { readonly [word: string]: Json } = { true: true, false: false, null: null };

class Reader {
  readonly starts = new Map<object, number>();
  readonly items = new Map<object, number[]>();
  readonly #text: string;
  readonly #name: string;
  #at = 0;

  constructor(text: string, name: string) {
    this.#text = text;
    this.#name = name;
  }

  document(): Json {
    const value = this.#value(0);
    this.#blanks();
    if (this.#at < this.#text.length) throw this.#bad(`${this.#shown()} follows the end of the JSON`);
    return value;
  }

  #value(depth: number): Json {
    this.#blanks();
    const char = this.#text[this.#at];
    if (char === "{" || char === "[") {
      if (depth >= LIMITS.valueDepth) throw this.#bad(`it is nested deeper than ${LIMITS.valueDepth} levels`);
      return char === "{" ? this.#object(depth) : this.#array(depth);
    }
    if (char === '"') return this.#string();
    const word = this.#word();
    return word === undefined ? this.#number() : word;
  }

  #object(depth: number): Json {
    const result: { [key: string]: Json } = {};
    this.starts.set(result, this.#at++);
    for (let first = true; !this.#closes("}", first, "a key"); first = false) {
      const start = this.#at;
      if (this.#text[start] !== '"') throw this.#bad(`${this.#shown()} stands where a key in double quotes should`);
      const key = this.#string();
      if (key === "__proto__") throw this.#bad("the key __proto__ is not allowed", start);
      if (Object.hasOwn(result, key)) throw this.#bad(`the key ${JSON.stringify(key)} is given twice in one object`, start);
      this.#blanks();
      if (this.#text[this.#at] !== ":") throw this.#bad(`${this.#shown()} stands where the colon after a key should`);
      this.#at++;
      result[key] = this.#value(depth + 1);
    }
    return result;
  }

  #array(depth: number): Json {
    const result: Json[] = [];
    const starts: number[] = [];
    this.items.set(result, starts);
    this.starts.set(result, this.#at++);
    for (let first = true; !this.#closes("]", first, "a value"); first = false) {
      starts.push(this.#at);
      result.push(this.#value(depth + 1));
    }
    return result;
  }

  /** True at the end of an object or array, which it passes; else stands at the next member, its comma passed. */
  #closes(end: string, first: boolean, what: string): boolean {
    this.#blanks();
    if (this.#text[this.#at] === end) {
      this.#at++;
      return true;
    }
    if (first) return false;
    if (this.#text[this.#at] !== ",") throw this.#bad(`${this.#shown()} stands where a comma or ${end} should`);
    const comma = this.#at++;
    this.#blanks();
    if (this.#text[this.#at] === end) throw this.#bad(`there is a comma with no ${what.slice(2)} behind it`, comma);
    return false;
  }

  #string(): string {
    const start = this.#at++;
    for (; ; this.#at++) {
      const code = this.#text.charCodeAt(this.#at);
      if (Number.isNaN(code)) throw this.#bad("a text is not closed", start);
      if (code < 0x20) throw this.#bad("a text holds a bare line break or control character");
      if (code === 0x5c) this.#at++;
      else if (code === 0x22) break;
    }
    this.#at++;
    try {
      // Parsed, also where nothing is escaped: a slice would keep all of the text in memory for as long as it is kept itself.
      return JSON.parse(this.#text.slice(start, this.#at)) as string;
    } catch {
      throw this.#bad("a text holds an escape that JSON does not know", start);
    }
  }

  #word(): Json | undefined {
    const word = this.#match(WORD);
    if (word === null) return undefined;
    if (!Object.hasOwn(WORDS, word)) throw this.#bad(`${word.slice(0, 40)} is not JSON`);
    this.#at += word.length;
    return WORDS[word];
  }

  #number(): number {
    const digits = this.#match(NUMBER);
    if (digits === null) throw this.#bad(`${this.#shown()} stands where a value should`);
    const value = Number(digits);
    if (!Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value))) {
      throw this.#bad(`the number ${digits.slice(0, 40)} is beyond 2^53 and would change`, this.#at, "Write it as a text, in double quotes.");
    }
    this.#at += digits.length;
    return value === 0 ? 0 : value;
  }

  #match(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    return pattern.exec(this.#text)?.[0] ?? null;
  }

  #blanks(): void {
    for (; ; this.#at++) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
    }
  }

  #shown(): string {
    const char = this.#text.codePointAt(this.#at);
    if (char === undefined) return "the end of the file";
    return char === 0x2f || char === 0x23 ? "a comment" : JSON.stringify(String.fromCodePoint(char));
  }

  #bad(why: string, at = this.#at, next = "Correct it there, then try again."): PawlError {
    const { line, column } = placeAt(this.#text, at);
    return new PawlError("corrupt", `${this.#name}:${line}:${column}: It is not usable JSON: ${why}.`, { next, details: { file: this.#name, line, column, why } });
  }
}

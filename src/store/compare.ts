// The one order of records, the same as a database's: used by the indexes in memory and by the merge of claims.
import type { Rec, Scalar } from "./store.ts";

/** Null first, false before true, numbers by value, text by code point (as UTF-8 bytes compare), not by UTF-16 unit. */
export function compareScalars(a: Scalar, b: Scalar): number {
  if (a === b) return 0;
  if (a === null) return -1;
  if (b === null) return 1;
  if (typeof a === "string" && typeof b === "string") return compareText(a, b);
  return Number(a) - Number(b);
}

function compareText(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    // A surrogate (half of a character beyond U+FFFF) sorts after every other unit.
    const xHigh = x >= 0xd800 && x <= 0xdfff;
    const yHigh = y >= 0xd800 && y <= 0xdfff;
    return xHigh === yHigh ? x - y : xHigh ? 1 : -1;
  }
  return a.length - b.length;
}

/** Compares two records field by field; missing fields count as null. */
export function compareBy(fields: readonly string[], a: Rec, b: Rec): number {
  for (let i = 0; i < fields.length; i++) {
    const field = fields[i]!;
    const x = a[field];
    const y = b[field];
    if (x === y) continue;
    const order = compareScalars((x ?? null) as Scalar, (y ?? null) as Scalar);
    if (order !== 0) return order;
  }
  return 0;
}

/** The parts of a key as fields of one object: a comparison then touches one place in memory, and a search does thousands. */
export type KeyParts = { readonly k0: string | number; readonly k1: string | number; readonly k2: string | number; readonly more: readonly (string | number)[] };

const NO_MORE: readonly (string | number)[] = [];

export function keyPartsOf(key: readonly (string | number)[]): KeyParts {
  return { k0: key[0] ?? 0, k1: key[1] ?? 0, k2: key[2] ?? 0, more: key.length > 3 ? key.slice(3) : NO_MORE };
}

/** Compares two keys of one kind part by part; the parts are numbers or text, never null. */
export function compareKeys(a: KeyParts, b: KeyParts): number {
  if (a.k0 !== b.k0) return compareParts(a.k0, b.k0);
  if (a.k1 !== b.k1) return compareParts(a.k1, b.k1);
  if (a.k2 !== b.k2) return compareParts(a.k2, b.k2);
  for (let i = 0; i < a.more.length; i++) if (a.more[i] !== b.more[i]) return compareParts(a.more[i]!, b.more[i]!);
  return 0;
}

function compareParts(a: string | number, b: string | number): number {
  return typeof a === "number" && typeof b === "number" ? a - b : compareScalars(a, b);
}

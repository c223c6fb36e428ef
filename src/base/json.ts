// JSON values as Pawl keeps them: copied, checked and canonical, so that what the live caller gets is what a replay
// gets, and what one store cannot hold is refused for all of them.
import { hash } from "node:crypto";
import { PawlError, withArticle } from "./errors.ts";
import { LIMITS } from "./limits.ts";

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/**
 * A deep copy of `value` as its JSON text would be parsed: `undefined` members vanish, `toJSON` is honoured (a Date
 * becomes a string), -0 becomes 0. Refused, with the path in the message: NaN and infinities, integers beyond 2^53,
 * BigInt, functions, Maps and Sets, NUL, lone surrogates, the key `__proto__`, cycles and more than 256 levels.
 * `undefined` itself becomes null.
 */
export function canonical(value: unknown, name = "value"): Json {
  return copy(value, name, 0) ?? null;
}

function copy(value: unknown, path: string, depth: number): Json | undefined {
  switch (typeof value) {
    case "string":
      checkText(value, path);
      return value;
    case "number":
      checkNumber(value, path);
      return value === 0 ? 0 : value;
    case "boolean":
      return value;
    case "undefined":
      return undefined;
    case "object":
      return value === null ? null : copyObject(value, path, depth);
    default:
      throw refused(path, `a ${typeof value} is not JSON`);
  }
}

function copyObject(value: object, path: string, depth: number): Json | undefined {
  if (depth >= LIMITS.valueDepth) throw refused(path, `it is nested deeper than ${LIMITS.valueDepth} levels (or refers to itself)`);
  // Not `map`, which would leave the holes of a sparse list where JSON has null.
  if (Array.isArray(value)) return Array.from(value, (item, i) => copy(item, `${path}[${i}]`, depth + 1) ?? null);
  if (typeof (value as { toJSON?: unknown }).toJSON === "function") {
    return copy((value as { toJSON(): unknown }).toJSON(), path, depth + 1);
  }
  if (value instanceof Map || value instanceof Set || ArrayBuffer.isView(value)) {
    throw refused(path, `${withArticle(value.constructor.name)} would lose its content as JSON`);
  }
  const result: { [key: string]: Json } = {};
  for (const key of Object.keys(value)) {
    if (key === "__proto__") throw refused(path, "the key __proto__ is not allowed");
    checkText(key, `${path} (a key)`);
    const item = copy((value as Record<string, unknown>)[key], `${path}.${key}`, depth + 1);
    if (item !== undefined) result[key] = item;
  }
  return result;
}

/**
 * Throws `value_refused` unless every store can hold `value` (what `canonical` returned always passes).
 * Returns roughly how many bytes of text it makes, so that size limits mean the same on every store.
 */
export function checkJson(value: Json, path: string, depth = 0): number {
  if (typeof value === "string") {
    checkText(value, path);
    return value.length + 2;
  }
  if (typeof value === "number") {
    checkNumber(value, path);
    return 8;
  }
  if (value === null || typeof value === "boolean") return 4;
  if (typeof value !== "object") throw refused(path, `${value === undefined ? "undefined" : `a ${typeof value}`} is not JSON`);
  if (depth >= LIMITS.valueDepth) throw refused(path, `it is nested deeper than ${LIMITS.valueDepth} levels`);
  let size = 2;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) size += 1 + checkJson(value[i] as Json, path, depth + 1);
    return size;
  }
  for (const key in value as { [key: string]: Json }) {
    checkText(key, path);
    size += key.length + 4 + checkJson((value as { [key: string]: Json })[key] as Json, path, depth + 1);
  }
  return size;
}

export function checkText(text: string, path: string): void {
  if (text.includes("\0")) throw refused(path, "it contains a NUL character", "Remove the NUL.");
  if (!text.isWellFormed()) throw refused(path, "it contains half of a surrogate pair, which is not Unicode");
}

function checkNumber(value: number, path: string): void {
  if (!Number.isFinite(value)) throw refused(path, `${value} is not JSON`);
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
    throw refused(path, `the integer ${value} is beyond 2^53 and would change`, "Keep it as a string.");
  }
}

function refused(path: string, why: string, next?: string): PawlError {
  return new PawlError("value_refused", `${path} cannot be kept: ${why}.`, { next: next ?? "Convert it to plain JSON first.", details: { path } });
}

/** The JSON text with the keys of every object sorted: equal for equal values, whatever order they were built in. */
export function sortedText(value: Json): string {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((item: Json) => sortedText(item)).join(",")}]`;
  const record = value as { [key: string]: Json };
  return `{${Object.keys(record).sort().map((key) => `${JSON.stringify(key)}:${sortedText(record[key] as Json)}`).join(",")}}`;
}

/** Whether two values are the same, whatever the order of their keys. */
export const sameJson = (a: Json, b: Json): boolean => a === b || sortedText(a) === sortedText(b);

/** SHA-256 of `text` as hex, cut to `length` characters. */
export function sha256(text: string, length = 64): string {
  return hash("sha256", text, "hex").slice(0, length);
}

/** A fingerprint of a JSON value that does not depend on the order of keys. */
export function fingerprint(value: Json): string {
  return sha256(sortedText(value), 32);
}

/** Freezes a JSON value all the way down and returns it. */
export function freeze<T>(value: T): T {
  if (value !== null && typeof value === "object" && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const key in value) freeze(value[key]);
  }
  return value;
}

// The shape of a value that comes from outside, as JSON Schema: the same declaration goes to a model with its tool and
// checks what comes back. Only what Pawl's own shapes need of the standard.
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";

export type Shape = {
  readonly type?: "object" | "array" | "string" | "number" | "integer" | "boolean";
  readonly description?: string;
  readonly properties?: { readonly [name: string]: Shape };
  readonly required?: readonly string[];
  readonly additionalProperties?: false;
  readonly items?: Shape;
  readonly maxItems?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
};

/** An object with these fields and no others. */
export function objectShape(properties: { readonly [name: string]: Shape }, required: readonly string[], description?: string): Shape {
  return { type: "object", properties, required, additionalProperties: false, ...(description === undefined ? {} : { description }) };
}

/** Throws, with the path of the first place that does not fit: `usage` for a wrong shape, `value_refused` for too much. */
export function checkShape(shape: Shape, value: Json, path: string): void {
  if (shape.type !== undefined && !isOf(shape.type, value)) throw wrong(path, `must be ${article(shape.type)} ${shape.type}, not ${shown(value)}`);
  if (typeof value === "string") checkLength(shape, value, path);
  if (typeof value === "number") checkRange(shape, value, path);
  if (Array.isArray(value)) checkItems(shape, value, path);
  else if (typeof value === "object" && value !== null && shape.properties) checkObject(shape, value as { [key: string]: Json }, path);
}

function isOf(type: NonNullable<Shape["type"]>, value: Json): boolean {
  if (type === "array") return Array.isArray(value);
  if (type === "object") return typeof value === "object" && value !== null && !Array.isArray(value);
  return type === "integer" ? Number.isSafeInteger(value) : typeof value === type;
}

function checkObject(shape: Shape, value: { [key: string]: Json }, path: string): void {
  for (const name of Object.keys(value)) {
    if (!Object.hasOwn(shape.properties!, name)) throw wrong(`${path}.${name}`, "is not known", `${path} takes: ${Object.keys(shape.properties!).join(", ")}.`);
    checkShape(shape.properties![name]!, value[name]!, `${path}.${name}`);
  }
  for (const name of shape.required ?? []) if (!Object.hasOwn(value, name)) throw wrong(`${path}.${name}`, "is missing");
}

function checkItems(shape: Shape, value: readonly Json[], path: string): void {
  if (shape.maxItems !== undefined && value.length > shape.maxItems) throw tooMuch(path, `has ${value.length} items; ${shape.maxItems} is the most`);
  if (shape.items) for (const [i, item] of value.entries()) checkShape(shape.items, item, `${path}[${i}]`);
}

function checkLength(shape: Shape, value: string, path: string): void {
  if (shape.minLength !== undefined && value.trim().length < shape.minLength) throw wrong(path, "must not be empty");
  if (shape.maxLength !== undefined && value.length > shape.maxLength) throw tooMuch(path, `has ${value.length} characters; ${shape.maxLength} is the most`);
}

function checkRange(shape: Shape, value: number, path: string): void {
  if (shape.minimum !== undefined && value < shape.minimum) throw wrong(path, `must be at least ${shape.minimum}, not ${value}`);
  if (shape.maximum !== undefined && value > shape.maximum) throw wrong(path, `must be at most ${shape.maximum}, not ${value}`);
}

function wrong(path: string, why: string, next?: string): PawlError {
  return new PawlError("usage", `${path} ${why}.`, { next: next ?? "Correct it there; nothing was changed.", details: { path } });
}

function tooMuch(path: string, why: string): PawlError {
  return new PawlError("value_refused", `${path} ${why}.`, { next: "Make it shorter, or keep it as an artifact; nothing was changed.", details: { path } });
}

const article = (type: string): string => (/^[aio]/.test(type) ? "an" : "a");

function shown(value: Json): string {
  if (Array.isArray(value)) return "a list";
  return value !== null && typeof value === "object" ? "an object" : (JSON.stringify(value).slice(0, 60));
}

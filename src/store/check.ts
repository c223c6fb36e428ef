// What all stores refuse alike, at the border of `commit`: values that one of them could not hold, wrong types, unknown
// kinds. A store calls this once for each put, so that the same change is good or bad everywhere.
import { PawlError } from "../base/errors.ts";
import { checkJson, checkText, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { moved, type Change, type Claim, type FieldType, type Key, type Kind, type Model, type Rec, type Result, type Seal } from "./store.ts";

export type Kinds = ReadonlyMap<string, Kind>;

export function kindsOf(model: Model): Kinds {
  return new Map(model.kinds.map((kind) => [kind.name, kind]));
}

export function kindOf(kinds: Kinds, name: string): Kind {
  const kind = kinds.get(name);
  if (!kind) throw new PawlError("internal", `There is no kind of record called "${name}".`);
  return kind;
}

/** What follows from a kind's declaration, worked out once: it is asked for with each record. */
export function perKind<T>(make: (kind: Kind) => T): (kind: Kind) => T {
  const made = new WeakMap<Kind, { readonly value: T }>();
  return (kind) => {
    let found = made.get(kind);
    if (!found) made.set(kind, (found = { value: make(kind) }));
    return found.value;
  };
}

/** The declared types of a kind's fields. A map, so that an unknown field named "constructor" is unknown. */
const fieldTypes = perKind((kind) => inLastOrder(new Map(Object.entries(kind.fields))));

/**
 * Looks up names that mostly come in the order they came in last, as the fields of one kind's records do: then it compares
 * where a map would hash. `get` takes the place of the name in the record.
 */
export function inLastOrder<V>(map: ReadonlyMap<string, V>): { get(name: string, place: number): V | undefined } {
  const names: string[] = [];
  const values: (V | undefined)[] = [];
  return {
    get(name, place) {
      if (names[place] === name) return values[place];
      names[place] = name;
      return (values[place] = map.get(name));
    },
  };
}

/** Throws `value_refused` when a value does not fit the type of its field ("json" for one that is not declared) or no store could hold it. */
export function checkTyped(kind: Kind, field: string, type: FieldType, value: Json): void {
  if (value === null) return;
  switch (type) {
    case "text":
      if (typeof value !== "string") throw mismatch(kind, field, type, value);
      if (value.length > LIMITS.textBytes) throw tooLong(kind, field, LIMITS.textBytes, "characters");
      // Names are put together only for the message: this runs for every text of every put.
      if (!isKeepable(value)) checkText(value, `${kind.name}.${field}`);
      return;
    case "integer":
      if (!Number.isSafeInteger(value)) throw mismatch(kind, field, type, value);
      return;
    case "real":
      if (typeof value !== "number" || !Number.isFinite(value)) throw mismatch(kind, field, type, value);
      return;
    case "boolean":
      if (typeof value !== "boolean") throw mismatch(kind, field, type, value);
      return;
    case "json":
      if (checkJson(value, `${kind.name}.${field}`) > LIMITS.valueBytes) throw tooLong(kind, field, LIMITS.valueBytes, "bytes");
  }
}

const isKeepable = (text: string): boolean => text.isWellFormed() && !text.includes("\0");

function mismatch(kind: Kind, field: string, type: FieldType, value: Json): PawlError {
  const shown = typeof value === "object" ? (Array.isArray(value) ? "a list" : "an object") : typeof value === "string" ? JSON.stringify(value.slice(0, 60)) : String(value);
  return new PawlError("value_refused", `${kind.name}.${field} must be ${type}, not ${shown}.`, { details: { kind: kind.name, field } });
}

function tooLong(kind: Kind, field: string, max: number, unit: string): PawlError {
  return new PawlError("value_refused", `${kind.name}.${field} is longer than ${max} ${unit}, the most a record may hold.`, {
    next: "Write large values to a file and keep its path.",
    details: { kind: kind.name, field },
  });
}

/** Checks every field of a put; `undefined` members are treated as absent by the stores. */
export function checkFields(kind: Kind, fields: { readonly [field: string]: unknown }): void {
  const types = fieldTypes(kind);
  let place = 0;
  for (const field in fields) {
    const value = fields[field];
    if (value === undefined) continue;
    const type = types.get(field, place++);
    if (type === undefined) checkName(kind, field);
    checkTyped(kind, field, type ?? "json", value as Json);
  }
}

/** Throws `value_refused` for a name that a field which is not declared cannot have: assigned, `__proto__` is no field. */
export function checkName(kind: Kind, field: string): void {
  if (field === "__proto__") throw new PawlError("value_refused", `A ${kind.name} cannot have a field named __proto__.`);
  checkText(field, `the name of a field of ${kind.name}`);
}

/**
 * A record of the kind with every declared field null: what a put leaves out. Parsed, not built field by field: V8 keeps an
 * object that grew by more than a dozen computed names as a hash table, and every copy of it too, which made each write of a
 * task three times as slow.
 */
export const emptyOf = perKind((kind) => JSON.parse(JSON.stringify(Object.fromEntries(Object.keys(kind.fields).map((field) => [field, null])))) as Rec);

/** The key of a record as one string that is equal exactly for equal keys: numbers end in a comma, text begins with its length. */
export function keyText(key: Key): string {
  if (typeof key !== "object") return String(key);
  let text = "";
  for (let i = 0; i < key.length; i++) {
    const part = key[i]!;
    text += typeof part === "number" ? `${part},` : `${part.length}:${part}`;
  }
  return text;
}

/** The key of a record, in the form `get` takes. */
export function keyOf(kind: Kind, record: Rec): Key {
  if (kind.key.length === 1) return record[kind.key[0] as string] as string | number;
  return kind.key.map((field) => record[field] as string | number);
}

/** The key's values as a list, checked against the kind. */
export function keyParts(kind: Kind, key: Key): readonly (string | number)[] {
  const parts = typeof key === "object" ? key : [key];
  if (parts.length !== kind.key.length) {
    throw new PawlError("internal", `A key of ${kind.name} has ${kind.key.length} parts (${kind.key.join(", ")}), not ${parts.length}.`);
  }
  return parts;
}

/** What a sealed place answers to a change or a claim; null when it may go on. */
export function refusedBy(seal: Seal | null, work: Change | Claim, location: string): Result | null {
  return seal === null || (seal.only === "claims" && !("claim" in work)) ? null : { ok: false, error: moved(location, seal) };
}

/** Throws unless the seal is what the caller takes it for: somebody else may be at the same place. */
export function checkSeal(now: Seal | null, was: Seal | null | undefined, location: string): void {
  if (was === undefined || JSON.stringify(now) === JSON.stringify(was)) return;
  throw new PawlError("conflict", now ? moved(location, now).message : `${location} is no longer sealed.`, { next: "Somebody else is copying it: look with `pawl doctor`.", details: { seal: now } });
}

/** Throws unless a place can be loaded: sealed, so that nobody else writes to it, and the first time without a record. */
export function checkLoad(seal: Seal | null, records: () => number, location: string): asserts seal is Seal {
  if (seal === null) throw new PawlError("conflict", `${location} is not sealed, so it cannot be loaded.`);
  if (records() > 0) throw new PawlError("conflict", `${location} is not empty.`, { next: "Name a place where there is no state yet." });
}

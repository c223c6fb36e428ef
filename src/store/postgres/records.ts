// Records on their way to Postgres and back: rows of text as records, records as an array for each column. Invariant: what comes back
// equals what was checked and sent, to the last bit of a number and in the order of its keys.
import { PawlError } from "../../base/errors.ts";
import type { Json } from "../../base/json.ts";
import { emptyOf, keyParts } from "../check.ts";
import type { Row, Statement } from "./driver.ts";
import { parameter } from "./sql.ts";
import { columnsOf, EXTRA } from "../sql.ts";
import type { FieldType, Key, Kind, Rec, Scalar } from "../store.ts";

/** Characters of the parameters of one statement: what is longer goes in several statements, so that no message is held in memory many times over. */
const PARAMETER_BYTES = 4 << 20;

/** A row as `recordText` selects it, from column `first` on. */
export function decode(kind: Kind, row: Row, first = 0): Rec {
  const record: { [field: string]: Json } = { ...emptyOf(kind) };
  const columns = columnsOf(kind);
  for (let i = 0; i < columns.length - 1; i++) {
    const value = row[first + i]!;
    if (value !== null) record[columns[i]!] = parse(kind, kind.fields[columns[i]!]!, value);
  }
  const extra = row[first + columns.length - 1]!;
  return extra === null ? record : { ...(parse(kind, "json", extra) as Rec), ...record };
}

function parse(kind: Kind, type: FieldType, text: string): Json {
  if (type === "text") return text;
  if (type === "json") return JSON.parse(text) as Json;
  if (type === "boolean") return text === "t";
  const value = Number(text);
  if (type === "integer" && !Number.isSafeInteger(value)) throw new PawlError("corrupt", `A ${kind.name} holds the integer ${text}, beyond 2^53.`, { next: "See who wrote it: Pawl never does." });
  return value;
}

/** The values of one statement: an array for each column, or null for one of nothing but nulls. */
type Values = readonly (string | null)[];

/** Some columns of records as what the statements take as $1, $2 and so on, in as many parts as are needed. */
export function lists(kind: Kind, columns: readonly string[], records: readonly Rec[]): Values[] {
  if (records.length === 0) return [];
  const values = columns.map((column) => arrayOf(kind, column, records));
  if (records.length === 1 || values.reduce((sum, array) => sum + (array?.length ?? 0), 0) <= PARAMETER_BYTES) return [values];
  const half = records.length >> 1;
  return [...lists(kind, columns, records.slice(0, half)), ...lists(kind, columns, records.slice(half))];
}

/** `unnest` fills what is shorter with nulls, so a column that has no other value need not be sent. */
function arrayOf(kind: Kind, column: string, records: readonly Rec[]): string | null {
  const type = kind.fields[column] ?? "json";
  let text = "";
  let some = false;
  for (const record of records) {
    const item = itemOf(type, column === EXTRA ? extraOf(kind, record) : record[column]);
    some ||= item !== NULL;
    text += text === "" ? item : `,${item}`;
  }
  return some ? `{${text}}` : null;
}

export const statements = (text: string, parts: readonly Values[]): Statement[] => parts.map((values) => ({ text, values }));

const NULL = "NULL";
/** A value as an element of an array in the notation of Postgres. */
export function itemOf(type: FieldType, value: Json | undefined): string {
  if (value === null || value === undefined) return NULL;
  if (type !== "text" && type !== "json") return String(value);
  const text = type === "text" ? (value as string) : JSON.stringify(value);
  return `"${/["\\]/.test(text) ? text.replace(/["\\]/g, "\\$&") : text}"`;
}

/** The fields that are not declared; null when there are none. */
export function extraOf(kind: Kind, record: Rec): Rec | null {
  let extra: { [field: string]: Json } | null = null;
  for (const field in record) if (!Object.hasOwn(kind.fields, field)) (extra ??= {})[field] = record[field]!;
  return extra;
}

/** Whether a field of the type can have this value, so that the server may be asked for it. */
export function fits(type: FieldType, value: unknown): boolean {
  if (type === "integer") return Number.isSafeInteger(value);
  if (type === "real") return Number.isFinite(value);
  return type !== "json" && parameter(type, value as Scalar) !== null;
}

/** A key as a record of its fields; null when no record can have it, because a part has another type. */
export function keyRecord(kind: Kind, key: Key): Rec | null {
  const parts = keyParts(kind, key);
  const record: { [field: string]: Json } = {};
  for (const [i, field] of kind.key.entries()) {
    const part = parts[i]!;
    if (!fits(kind.fields[field]!, part)) return null;
    record[field] = part;
  }
  return record;
}

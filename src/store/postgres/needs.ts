// What a change must know before it can be decided: the records it names, whoever has the unique values it wants, the last
// records of the chains it adds to, and ids. Pure. Invariant: nothing that the rules of `Tables` look at for this change is
// left out; what cannot exist (a key of the wrong type, an unknown kind) is, for looking finds nothing there either.
import type { Json } from "../../base/json.ts";
import { keyOf, perKind, type Kinds } from "../check.ts";
import { fits, keyRecord } from "./records.ts";
import type { Change, Fields, Key, Kind, Put, Rec, Scalar } from "../store.ts";
import { idOf, valuesText } from "../table.ts";

export type Needs = {
  /** By kind and by the key's text in `Tables`: the key's fields. */
  readonly keys: Map<string, Map<string | number, Rec>>;
  /** By the same: records that are compared with some values and not written. */
  readonly compared: Map<string, Map<string | number, Compared>>;
  /** By kind, index and values: the index's fields. */
  readonly uniques: Map<string, { readonly kind: Kind; readonly index: string; readonly values: Map<string, Rec> }>;
  readonly heads: Map<string, Map<Json, Rec>>;
  /** How many ids a kind is to give, and the least the next may be. */
  readonly ids: Map<string, { count: number; floor: number }>;
};

/** The key's fields, and what guards want of the record. */
export type Compared = { readonly key: Rec; readonly is: { readonly [field: string]: Json } };

export const noNeeds = (): Needs => ({ keys: new Map(), compared: new Map(), uniques: new Map(), heads: new Map(), ids: new Map() });
export const isEmpty = ({ keys, compared, uniques, heads, ids }: Needs): boolean => keys.size + compared.size + uniques.size + heads.size + ids.size === 0;

/** Adds what `change` needs. `recordOf` gives a record that is known already, for sets that change a part of what is unique. */
export function addNeeds(needs: Needs, kinds: Kinds, change: Change, recordOf: (kind: string, key: Key) => Rec | null): void {
  if (change.op_id !== undefined) addKey(needs, kinds.get("op"), change.op_id);
  for (const guard of change.guards ?? []) {
    const kind = kinds.get(guard.kind);
    if ("is" in guard && kind && isComparable(kind, guard.is)) addCompared(needs, kind, guard.key, guard.is);
    else if (!("unique" in guard)) addKey(needs, kind, guard.key);
    else if (kind?.indexes[guard.unique]) addUnique(needs, kind, guard.unique, guard.values);
  }
  const seen = new Map<string, Fields>();
  for (const put of change.puts) addPut(needs, kinds.get(put.kind), put, recordOf, seen);
  for (const { kind, key } of change.additions ?? []) addKey(needs, kinds.get(kind), key);
}

function addPut(needs: Needs, kind: Kind | undefined, put: Put, recordOf: (kind: string, key: Key) => Rec | null, seen: Map<string, Fields>): void {
  if (!kind) return;
  if ("record" in put) return addRecord(needs, kind, put.record);
  addKey(needs, kind, put.key);
  if ("delete" in put) return;
  const uniques = uniquesOf(kind);
  if (uniques.length === 0) return;
  // Several puts of one change may each set a part of what is unique together.
  const id = `${kind.name} ${JSON.stringify(put.key)}`;
  const fields: Fields = { ...(seen.get(id) ?? recordOf(kind.name, put.key)), ...put.set };
  seen.set(id, fields);
  for (const name of uniques) addUnique(needs, kind, name, fields);
}

function addRecord(needs: Needs, kind: Kind, record: Fields): void {
  for (const name of uniquesOf(kind)) addUnique(needs, kind, name, record);
  if (kind.chain) return addHead(needs, kind, record[kind.chain.group]);
  if (kind.assign === undefined) {
    if (!isReplacedUnread(kind) && kind.key.every((field) => isScalar(record[field]))) addKey(needs, kind, keyOf(kind, record as Rec));
    return;
  }
  const id = record[kind.key[0]!] ?? null;
  const ids = entry(needs.ids, kind.name, () => ({ count: 0, floor: 0 }));
  if (id === null) ids.count++;
  else if (isScalar(id)) {
    addKey(needs, kind, id as Key);
    const n = typeof id === "number" ? id : Number(String(id).slice(kind.assign.length));
    if (Number.isSafeInteger(n)) ids.floor = Math.max(ids.floor, n + 1);
  }
}

/** What a whole record takes the place of is nobody's business: no unique value, no count and no chain depends on it. */
export const isReplacedUnread = perKind((kind) => !kind.chain && kind.assign === undefined && Object.values(kind.indexes).every(({ unique, counted }) => !unique && counted === undefined));

/** A chain's last record is kept whole, and fields that are not declared have no column of their own. */
const isComparable = (kind: Kind, is: Compared["is"]): boolean => !kind.chain && Object.keys(is).every((field) => Object.hasOwn(kind.fields, field));

function addCompared(needs: Needs, kind: Kind, key: Key, is: Compared["is"]): void {
  const fields = keyFields(kind, key);
  if (!fields) return;
  const id = idOf(kind, key);
  const records = entry(needs.compared, kind.name, () => new Map<string | number, Compared>());
  const others = records.get(id)?.is ?? {};
  // Not both can hold: one of them will have to be shown what is there.
  if (Object.entries(is).some(([field, value]) => Object.hasOwn(others, field) && others[field] !== value)) addKey(needs, kind, key);
  else records.set(id, { key: fields, is: { ...others, ...is } });
}

const keyFields = (kind: Kind, key: Key): Rec | null => ((typeof key === "object" ? key.length : 1) === kind.key.length ? keyRecord(kind, key) : null);

/** The unique indexes of a kind. */
const uniquesOf = perKind((kind): readonly string[] => Object.keys(kind.indexes).filter((name) => kind.indexes[name]!.unique));

function addKey(needs: Needs, kind: Kind | undefined, key: Key): void {
  if (!kind) return;
  const fields = keyFields(kind, key);
  if (fields) entry(needs.keys, kind.name, () => new Map()).set(idOf(kind, key), fields);
}

function addUnique(needs: Needs, kind: Kind, name: string, fields: Fields): void {
  const index = kind.indexes[name]!;
  const values: { [field: string]: Json } = {};
  for (const field of index.fields) {
    const value = fields[field] ?? null;
    if (!fits(kind.fields[field]!, value)) return;
    values[field] = value as Json;
  }
  const text = valuesText(index.fields.map((field) => values[field] as Scalar));
  entry(needs.uniques, `${kind.name} ${name}`, () => ({ kind, index: name, values: new Map() })).values.set(text, values);
}

/** A group that gets its id in this very change has no records yet. */
function addHead(needs: Needs, kind: Kind, group: unknown): void {
  const { group: field } = kind.chain!;
  if (!fits(kind.fields[field]!, group)) return;
  entry(needs.heads, kind.name, () => new Map()).set(group as Json, { [field]: group as Json });
}

const isScalar = (value: unknown): value is Scalar => value !== undefined && value !== null && typeof value !== "object";

/** What a map has at a key; made when it has nothing there. */
export function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}

/** What of these needs is not met yet; `replaced` is known without having been read. What was compared and is not as wanted is needed whole, to be shown. */
export function without(needs: Needs, met: Needs, replaced: Needs["keys"]): Needs {
  const left = noNeeds();
  for (const [kind, wanted] of needs.compared) {
    for (const [id, { key, is }] of wanted) {
      const known = met.compared.get(kind)?.get(id);
      if (met.keys.get(kind)?.has(id) || (known && Object.entries(is).every(([field, value]) => known.is[field] === value))) continue;
      entry(needs.keys, kind, () => new Map()).set(id, key);
    }
  }
  const rest = <K, V>(wanted: Map<K, V>, known: Map<K, unknown> | undefined) => new Map([...wanted].filter(([key]) => !known?.has(key)));
  for (const [kind, wanted] of needs.keys) keep(left.keys, kind, rest(rest(wanted, met.keys.get(kind)), replaced.get(kind)));
  for (const [kind, wanted] of needs.heads) keep(left.heads, kind, rest(wanted, met.heads.get(kind)));
  for (const [name, { kind, index, values }] of needs.uniques) {
    const open = rest(values, met.uniques.get(name)?.values);
    if (open.size > 0) left.uniques.set(name, { kind, index, values: open });
  }
  return left;
}

function keep<K, V>(map: Map<string, Map<K, V>>, kind: string, values: Map<K, V>): void {
  if (values.size > 0) map.set(kind, values);
}

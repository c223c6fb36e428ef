// The store contract: what durability rests on. A store keeps records of declared kinds and holds no rule about them.

// 1. `commit` is the only write. It takes changes; each applies whole or not at all; all of one call share one flush,
//    and the promise resolves only when that flush is on the disk. A later change sees the earlier ones.
// 2. A lost race is a value (a Conflict that names what failed and shows the current record); a change with data that
//    cannot be kept fails alone, with its error as a value; only broken storage throws.
// 3. Every record read back equals what `canonical` made of it: all declared fields present (null when unset), unknown
//    fields kept. What one store cannot hold is refused by all (see check.ts).
// 4. `claim` reads in a given order, hands the records to a pure function and writes what it returns, as one change
//    that no other writer can come between.
// 5. Ids are assigned by the store, count up and are never used twice, not even after a delete or a crash.
// 6. An unknown kind or index is `internal`: as a value in `commit`, by rejecting elsewhere. A `set` cannot change a key.
//    `$new` counts in text and integer fields only (in json it is a value). A claim gives each record once. `op_id` is
//    looked at before the guards, and a change that failed has not used it up. Another handle on the same place reads
//    what was acknowledged. A model that uses `op_id` has a kind called "op" with id and at.
// 7. The kinds, the seal of chained records and everything else that has meaning is handed over at open, as a Model.
import type { Clock } from "../base/clock.ts";
import type { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";

export type FieldType = "text" | "integer" | "real" | "boolean" | "json";
export type Scalar = string | number | boolean | null;

/** A record: declared fields (null when unset) and any unknown ones. A record a store returns must not be modified. */
export type Rec = { readonly [field: string]: Json };

/** A primary key: the bare value when the kind's key has one field, else the values in the order of `kind.key`. */
export type Key = string | number | readonly (string | number)[];

/**
 * An ordered index. Records are in it when every field of `where` has that value and no field of `notNull` is null.
 * Order: the fields (null first, false before true, numbers by value, text by code point), then the primary key.
 */
export type Index = {
  readonly fields: readonly string[];
  readonly where?: { readonly [field: string]: Scalar };
  readonly notNull?: readonly string[];
  /** At most one record for each combination of the fields' values; such an index needs `notNull` on its fields. */
  readonly unique?: boolean;
};

export type Kind = {
  readonly name: string;
  readonly fields: { readonly [field: string]: FieldType };
  /** The fields of the primary key; "text" or "integer", never null. */
  readonly key: readonly string[];
  /** The store assigns the (single) key field: "" gives 1, 2, 3 …; "d" gives "d1", "d2" … */
  readonly assign?: string;
  readonly indexes: { readonly [name: string]: Index };
  /**
   * A sealed, append-only chain a group: on insert the store finds the last record with the same `group` (by `order`,
   * which is the second key field) and stores what `model.seal(previous, record)` returns. Guards never see `order` or hashes.
   */
  readonly chain?: { readonly group: string; readonly order: string };
};

export type Model = {
  readonly kinds: readonly Kind[];
  /** Pure: completes a chained record from its predecessor (null for the first of its group). */
  readonly seal: (previous: Rec | null, record: Rec) => Rec;
  /** The document people read, for stores that write one. Pure; `all` gives the records of a kind in key order. */
  readonly view?: (all: (kind: string) => Iterable<Rec>, revision: number) => Json;
};

/** Reads along an index (the primary key when none is named). */
export type Query = {
  readonly index?: string;
  /** Values of the first fields of the index, all of them or a prefix. */
  readonly equals?: { readonly [field: string]: Scalar };
  /** Bounds on the field that follows the prefix: `from` inclusive, `to` exclusive. Null values are outside any bound. */
  readonly from?: string | number;
  readonly to?: string | number;
  /** Go on after this record (the last of the previous page), in the direction of the query. */
  readonly after?: Rec;
  readonly reverse?: boolean;
  /** At most LIMITS.listRecords, which is also the default. */
  readonly limit?: number;
};

/** A condition on a record the change may not even write. `is` compares fields; `absent` wants no such record. */
export type Guard =
  | { readonly kind: string; readonly key: Key; readonly is: { readonly [field: string]: Scalar } }
  | { readonly kind: string; readonly key: Key; readonly absent: true }
  /** No record has these values in the unique index `unique`. */
  | { readonly kind: string; readonly unique: string; readonly values: { readonly [field: string]: Scalar }; readonly absent: true };

/** Stands for the id that put number `$new` of the same change was assigned; allowed as the value of a top-level field. */
export type NewId = { readonly $new: number };
export type Fields = { readonly [field: string]: Json | NewId | undefined };

export type Put =
  /** Insert, or replace the whole record with that key. The key is left out when the store assigns it. */
  | { readonly kind: string; readonly record: Fields }
  /** Change some fields; a conflict when there is no such record. */
  | { readonly kind: string; readonly key: Key; readonly set: Fields }
  /** Remove; removing what is not there is fine. */
  | { readonly kind: string; readonly key: Key; readonly delete: true };

/** Adds `n` to a number field (null counts as 0) unless the sum would exceed `max` or fall below zero: then a conflict. */
export type Addition = { readonly kind: string; readonly key: Key; readonly field: string; readonly n: number; readonly max?: number };

export type Change = {
  readonly guards?: readonly Guard[];
  readonly puts: readonly Put[];
  readonly additions?: readonly Addition[];
  /** Applied once for each id: a second commit with the same id is `ok` with `repeated` and writes nothing. */
  readonly op_id?: string;
};

/** `record` is the record as it stands now, null when there is none. `index` counts within guards, puts or additions. */
export type Conflict = { readonly on: "guard" | "put" | "addition"; readonly index: number; readonly kind: string; readonly record: Rec | null };

export type Result =
  /** `ids[i]` is the id assigned to put i; the array is empty when none was assigned. */
  | { readonly ok: true; readonly ids: readonly (string | number | undefined)[]; readonly repeated?: true }
  | { readonly ok: false; readonly conflict: Conflict }
  | { readonly ok: false; readonly error: PawlError };

/** What a claim reads: the first `limit` records over all queries together, by `order` fields then primary key. */
export type ClaimOrder = { readonly kind: string; readonly queries: readonly Query[]; readonly order: readonly string[]; readonly limit: number };

/** Pure, called inside the transaction: the records in order and the store's time in ms, to one change (or null for none). */
export type Decide = (records: readonly Rec[], now: number) => Change | null;

/** A claim as part of a commit: it shares the flush of the changes around it and sees those before it. Without a decision it is `ok`. */
export type Claim = { readonly claim: ClaimOrder; readonly decide: Decide };

export interface Store {
  /** The clock rules go by: the machine's, or the server's. */
  readonly clock: Clock;
  /** Where it is, for people: a path, a URL without its password, or ":memory:". */
  readonly location: string;

  get(kind: string, keys: readonly Key[]): Promise<(Rec | null)[]>;
  list(kind: string, query?: Query): Promise<Rec[]>;
  /** How many records the query matches; with `by`, how many for each value of that (indexed) field. */
  count(kind: string, query?: Query): Promise<number>;
  count(kind: string, query: Query, by: string): Promise<Record<string, number>>;
  commit(changes: readonly (Change | Claim)[]): Promise<Result[]>;
  /** A commit of one claim; null when it decided nothing. */
  claim(order: ClaimOrder, decide: Decide): Promise<Result | null>;
  /** Calls back when something may have changed, by this process or another. A hint: never a promise, never exact. */
  watch(listener: () => void): () => void;
  close(): Promise<void>;
}

/** What every store is opened with besides its place. */
export type OpenOptions = {
  readonly clock: Clock;
  readonly random: { number(): number; hex(bytes: number): string };
  /** Nothing is created, repaired or written. */
  readonly readOnly?: boolean;
  /** One line for people on stderr (a long wait for a lock, a repaired tail). */
  readonly notice?: (line: string) => void;
};

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
// 8. A place that is sealed answers every change and claim with `moved`, as a value, and reads go on. It is looked at inside
//    the transaction, so no acknowledged write can come behind the seal. `load` fills an empty, sealed place.
import type { Clock } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
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
  /** How many there are for each value of its first so many fields is asked for often; short text, booleans, integers. A hint to the store. */
  readonly counted?: number;
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
  /**
   * A large text field that nothing but `get` and `list` of this kind reads, of records that are never changed: putting one
   * again means the same value. A store that holds records in memory may keep it in a file, under `folder`, durable before
   * the record; a file that is lost reads as null. Others take no notice.
   */
  readonly beside?: { readonly field: string; readonly folder: string };
};

export type Model = {
  readonly kinds: readonly Kind[];
  /** Pure: completes a chained record from its predecessor (null for the first of its group), which may lack fields that are null. */
  readonly seal: (previous: Rec | null, record: Rec) => Rec;
  /** The document people read, for stores that write one. Pure; `all` gives the records of a kind in key order. */
  readonly view?: (all: (kind: string) => Iterable<Rec>, revision: number) => Shown;
  /** What a person made of that document, as changes. Pure: under the lock, `reads` shows what is current. */
  readonly reconcile?: (edit: HandEdit, reads: Reads, now: number) => Reconciled;
  /** What a file of another program becomes, for stores that live in a file people read. Pure; throws with reason and place when nothing can. */
  readonly adopt?: (document: Json, from: Foreign) => Adoption;
  /** The steps between the formats there have been, oldest first: the first leads from format 1 to 2. None today. */
  readonly migrations?: readonly Migration[];
};

/** A document for people. A list that may be long is a function that gives its items one by one, so that it is printed in pieces. */
export type Shown = { readonly [key: string]: Json | (() => Iterable<Json>) };

/** One step from a format to the next, when a field is renamed, retyped or removed (a new one needs none). */
export type Migration = {
  /** What is different, for people. */
  readonly why: string;
  /** The kinds whose records change: how the older format declared them, and what a record becomes (null: it goes). Pure; the key stays. */
  readonly kinds: { readonly [kind: string]: { readonly before: Kind; readonly change: (record: Rec) => Rec | null } };
};

/** A file of another program: its name for messages, the store's time in ms, and the line in which a part of it begins. */
export type Foreign = { readonly name: string; readonly now: number; readonly lineOf: (part: Json) => number };

/** Changes for an empty state that need nothing assigned, and what is worth saying of them. */
export type Adoption = { readonly changes: readonly Change[]; readonly notes: readonly string[] };

/** A document that was edited by hand, with the one it was made of. */
export type HandEdit = {
  readonly edited: Json;
  /** The view it was made of, or why there is none: then nothing of the edit can be merged. */
  readonly base: { readonly document: Json } | { readonly problem: string };
  /** The revision of that view; null when it cannot be told. */
  readonly revision: number | null;
  /** The file came without its header: it was taken to be made of the last view. */
  readonly headless: boolean;
  readonly hash: string;
  /** The name under which the file is kept when something of it is refused. */
  readonly copy: string;
  /** What was mended before it could be read. */
  readonly repairs: readonly string[];
  /** "discard": nothing of it is wanted, because it does not parse there. */
  readonly verdict: "merge" | { readonly discard: { readonly line: number | null; readonly column: number | null; readonly why: string } } | { readonly force: Json };
  /** Who settles it, when somebody does. */
  readonly actor: string | null;
};

/** What a pure rule may read of the records as they stand. */
export type Reads = {
  get(kind: string, key: Key): Rec | null;
  list(kind: string, query?: Query): Rec[];
  /** The highest number ever given to an id, for each kind whose ids the store assigns. */
  highest(): Counters;
};

/** A file that stands where the document belongs, is none of ours and is not taken in: edited a moment ago, or broken. */
export type Outstanding = {
  readonly path: string;
  readonly hash: string;
  readonly broken: boolean;
  readonly revision: number | null;
  readonly line: number | null;
  readonly column: number | null;
  readonly why: string | null;
  /** What accepting a broken one would mend; null when that does not help. */
  readonly repairs: readonly string[] | null;
};

/** An edit of which something was refused, by the copy of its file. */
export type KeptEdit = { readonly copy: string; readonly hash: string; readonly revision: number | null };

/** Hand edits, for stores that keep a document people edit. `actor` is who settles them. */
export type EditDoor = {
  /** Reads only. */
  outstanding(): Promise<Outstanding | null>;
  /** Takes in the outstanding file, mending what can be mended. Throws `corrupt` when that is not enough. */
  accept(actor: string): Promise<void>;
  /** Keeps a copy of the outstanding file and puts the document back. */
  discard(actor: string): Promise<void>;
  /** Hands a kept edit to `reconcile` once more, with the verdict `{ force: context }`. */
  force(kept: KeptEdit, context: Json, actor: string): Promise<void>;
  /** Where the copy of an edit is. */
  pathOf(copy: string): string;
};

export type Reconciled = {
  /** Each applies whole or not at all; one that the store refuses is handed to `conclude` with the reason. */
  readonly changes: readonly { readonly at: string; readonly change: Change }[];
  /** What records the edit: null when there is nothing to say of it. `keep`: its copy is needed. `line`: what people are told. */
  conclude(refused: readonly { readonly at: string; readonly reason: string }[]): { readonly change: Change; readonly keep: boolean; readonly line: string } | null;
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

/**
 * Says that a place is not written to, and why: its records went `to` another place, are on their way there, or (`unfinished`)
 * come from there and are not all here. Stores look at `only`; the rest is for those who set it.
 */
export type Seal = {
  readonly to: string;
  readonly at: string;
  /** "claims": only claims are refused, so that work in progress can come to its end. */
  readonly only?: "claims";
  /** Who is at it, in a form that shows whether he lives. Without it the seal is there for good. */
  readonly by?: Json;
  /** The same at both ends of one copy. */
  readonly copy?: string;
  readonly unfinished?: true;
};

/** What a sealed place answers: why nothing is written here, and where to go instead. */
export function moved(location: string, seal: Seal): PawlError {
  const details = { from: location, to: seal.to, at: seal.at };
  if (seal.unfinished) return new PawlError("moved", `${location} is an unfinished copy of ${seal.to}: not everything is here.`, { next: `Use the original: --state ${seal.to}`, details });
  if (seal.by === undefined) return new PawlError("moved", `${location} was moved to ${seal.to} at ${seal.at}.`, { next: `Use it there: --state ${seal.to}`, details });
  const state = seal.only ? ": work in progress may end, and no new work begins" : "";
  return new PawlError("moved", `${location} is being copied to ${seal.to} since ${seal.at}${state}.`, { next: "Wait until the copy has ended, then use the state where it is. `pawl doctor` says whether the copy lives.", details });
}

/** Whole records of one kind, as `list` gives them: with their ids, numbers and hashes. */
export type Piece = { readonly kind: string; readonly records: readonly Rec[] };

/** The highest number ever given to an id, for each kind whose ids the store assigns. */
export type Counters = { readonly [kind: string]: number };

/** What users' own SQL is run with, in the transaction of a change. Values are those of `node:sqlite`; rows are objects by column. */
export type SqliteHandle = {
  exec(text: string): void;
  prepare(text: string): SqliteStatement;
  run(text: string, ...values: readonly SqliteValue[]): SqliteDone;
  get(text: string, ...values: readonly SqliteValue[]): SqliteRow | undefined;
  all(text: string, ...values: readonly SqliteValue[]): readonly SqliteRow[];
};
type SqliteValue = null | number | bigint | string | NodeJS.ArrayBufferView;
type SqliteRow = { readonly [column: string]: unknown };
type SqliteDone = { readonly changes: number | bigint; readonly lastInsertRowid: number | bigint };
export type SqliteStatement = { run(...values: readonly SqliteValue[]): SqliteDone; get(...values: readonly SqliteValue[]): SqliteRow | undefined; all(...values: readonly SqliteValue[]): readonly SqliteRow[] };
/** The same on Postgres, with the values and rows of `pg`. */
export type PostgresHandle = { query<R extends { [column: string]: unknown } = { [column: string]: unknown }>(text: string, values?: readonly unknown[]): Promise<{ readonly rows: R[]; readonly rowCount: number | null }> };
export type SqlHandle = SqliteHandle | PostgresHandle;

/** Throws `usage` when the text would begin or end a transaction that is not its own to end. */
export function refuseControl(text: string): void {
  const word = /^(?:\s|--[^\n]*\n|\/\*[^]*?\*\/)*(begin|start|commit|end|abort|rollback(?!\s+(?:(?:work|transaction)\s+)?to\b)|prepare\s+transaction|attach|detach|vacuum)\b/i.exec(text)?.[1];
  if (word === undefined) return;
  throw new PawlError("usage", `A transaction of a step takes no "${word.toLowerCase()}": it is committed with the record of the step.`, { next: "Leave it out; throw to take everything back.", details: { permanent: true } });
}

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
  /** Sets the seal, or takes it away. With `was`, only if that is the seal now; else `conflict`. Durable when it returns. */
  seal(seal: Seal | null, was?: Seal | null): Promise<void>;
  sealed(): Promise<Seal | null>;
  /** Only where a document for people is kept beside the records. */
  readonly edits?: EditDoor;
  counters(): Promise<Counters>;
  /**
   * Only where a database holds the records. Runs `body` with a handle on it, and commits what it did and the change it gives
   * together, or neither: not when it throws (its error is the rejection), nor when the change conflicts or is refused. It may
   * be run again, from scratch, after a lost connection or a deadlock; of all runs one comes through.
   */
  transact?(body: (sql: SqlHandle) => Change | Promise<Change>): Promise<Result>;
  /**
   * Puts records as they are into a sealed place without any; each piece is durable before the next is asked for. Ids go on
   * above `counters`. Throws `conflict` when there are records, or the seal is missing or changes meanwhile.
   */
  load(pieces: AsyncIterable<Piece>, counters: Counters): Promise<void>;
  /** Somebody waits for the end: from now on a server that is away is waited for only some seconds. */
  hurry?(): void;
  close(): Promise<void>;
}

/** What every store is opened with besides its place. */
export type OpenOptions = {
  readonly clock: Clock;
  readonly random: { number(): number; hex(bytes: number): string };
  /** Nothing is created, repaired or written. */
  readonly readOnly?: boolean;
  /** Opened to read, all that is read is as it was when it was opened. A hint to stores on a disk; a SQLite without a safe log would have to stop writers for it, and does not. */
  readonly moment?: boolean;
  /** One line for people on stderr (a long wait for a lock, a repaired tail). */
  readonly notice?: (line: string) => void;
  /** Opened to read, what is before a damaged place is shown: told once, with the place. Without it, a notice. */
  readonly damaged?: (error: PawlError) => void;
};

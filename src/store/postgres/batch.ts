// A batch of changes in one transaction: what they name is read and locked in one round trip, decided in memory by the very
// rules of the memory and the JSON store (`Tables`), and what came out is written in one more. Invariants: a record is
// written at most once a batch; one that is changed or guarded is locked since before it was read; one that was not there
// is inserted plainly, so that whoever was faster is found out by its key. Only what is replaced whatever it was is not read.
import { PawlError } from "../../base/errors.ts";
import { keyOf, kindOf, kindsOf, refusedBy, type Kinds } from "../check.ts";
import { compareBy } from "../compare.ts";
import { countStatements, tally, type Tally } from "./counts.ts";
import type { Answer, Row, Statement } from "./driver.ts";
import { addNeeds, entry, isEmpty, isReplacedUnread, noNeeds, without, type Compared, type Needs } from "./needs.ts";
import { decode, extraOf, keyRecord, lists, statements } from "./records.ts";
import * as sql from "./sql.ts";
import { reserve, sealIn, type Tx } from "./transaction.ts";
import { EXTRA, columnsOf, orderOf, indexOf } from "../sql.ts";
import type { Change, Claim, ClaimOrder, Key, Kind, Model, Rec, Result } from "../store.ts";
import { idOf } from "../table.ts";
import { Tables, type Effect } from "../tables.ts";

/** `slot`: where what this handle does to the counts is added. */
export type Place = { readonly names: sql.Names; readonly model: Model; readonly location: string; readonly slot: number };
/** One for each change; what a decision or a seal threw stands for its result. */
export type Outcome = Result | { readonly thrown: unknown };

/** Runs the batch in `tx`; gives the results and what is to be written, nothing when no change wrote. */
export async function runBatch(tx: Tx, place: Place, works: readonly (Change | Claim)[]): Promise<{ value: Outcome[]; writes: Statement[] | null }> {
  const working = new Working(tx, place);
  await working.prepare(works);
  const outcomes: Outcome[] = [];
  for (const work of works) outcomes.push(await working.apply(work));
  return { value: outcomes, writes: working.writes() };
}

/** Records of the database in memory, as one transaction sees them and its changes leave them. */
class Working {
  readonly #tx: Tx;
  readonly #place: Place;
  readonly #kinds: Kinds;
  readonly #tables: Tables;
  /** What was looked for; by kind and key, the record that was found. */
  readonly #met: Needs = noNeeds();
  readonly #found = new Map<string, Map<string | number, Rec>>();
  /** What was put in the place of records that nobody looked for. */
  readonly #replaced = new Map<string, Map<string | number, Rec>>();
  readonly #reserved = new Map<string, number>();
  readonly #claims = new Map<ClaimOrder, Candidates>();
  readonly #effects: Effect[] = [];

  constructor(tx: Tx, place: Place) {
    this.#tx = tx;
    this.#place = place;
    this.#kinds = kindsOf(place.model);
    this.#tables = new Tables(place.model);
  }

  /** Everything that can be known to be needed before anything is decided, in one round trip. */
  async prepare(works: readonly (Change | Claim)[]): Promise<void> {
    const needs = noNeeds();
    const round = new Round();
    for (const work of works) if (!("claim" in work)) addNeeds(needs, this.#kinds, work, () => null);
    for (const work of works) if ("claim" in work && this.#kinds.has(work.claim.kind)) this.#askCandidates(round, work.claim, work.claim.limit);
    this.#ask(round, needs);
    await round.run(this.#tx, this.#reservations(needs));
    this.#release();
  }

  async apply(work: Change | Claim): Promise<Outcome> {
    const refused = refusedBy(sealIn(this.#tx), work, this.#place.location);
    if (refused) return refused;
    const decided = "claim" in work ? await this.#decide(work) : { change: work };
    if (!("change" in decided)) return decided;
    if (decided.change === null) return { ok: true, ids: [] };
    await this.#meet(decided.change, "claim" in work);
    const before = this.#effects.length;
    const result = this.#tables.apply(decided.change, this.#tx.now(), this.#effects);
    this.#noteReplaced(this.#effects.slice(before));
    this.#release();
    return result;
  }

  /** What has been written without looking is known from now on, whoever of the batch asks for it. */
  #noteReplaced(effects: readonly Effect[]): void {
    for (const effect of effects) {
      const kind = kindOf(this.#kinds, effect.kind);
      if ("record" in effect && isReplacedUnread(kind)) byId(this.#replaced, kind.name).set(idOf(kind, keyOf(kind, effect.record)), effect.record);
    }
  }

  async #decide({ claim, decide }: Claim): Promise<{ readonly change: Change | null } | Outcome> {
    let records: Rec[];
    try {
      records = await this.#due(claim);
    } catch (error) {
      if (error instanceof PawlError && error.code === "internal") return { ok: false, error };
      throw error;
    }
    try {
      return { change: decide(records, this.#tx.now()) };
    } catch (error) {
      return { thrown: error };
    }
  }

  /* ---------- reading ---------- */

  /** Reads what of the change's needs is not there yet. `ids`: nobody could know before that it would want any. */
  async #meet(change: Change, ids: boolean): Promise<void> {
    const needs = noNeeds();
    addNeeds(needs, this.#kinds, change, (kind, key) => this.#known(kind, key));
    const missing = without(needs, this.#met, this.#replaced);
    if (isEmpty(missing) && !(ids && needs.ids.size > 0)) return;
    const round = new Round();
    if (ids) for (const { statement, take } of this.#reservations(needs)) round.add(statement, take);
    this.#ask(round, missing);
    await round.run(this.#tx);
  }

  #known(kind: string, key: Key): Rec | null {
    try {
      const record = this.#tables.get(kind, key);
      const id = idOf(kindOf(this.#kinds, kind), key);
      return this.#met.compared.get(kind)?.has(id) && !this.#found.get(kind)?.has(id) ? null : record;
    } catch {
      return null;
    }
  }

  #ask(round: Round, needs: Needs): void {
    for (const name of [...new Set([...needs.keys.keys(), ...needs.compared.keys()])].sort()) {
      this.#askKeys(round, kindOf(this.#kinds, name), needs.keys.get(name) ?? new Map(), needs.compared.get(name) ?? new Map());
    }
    for (const [name, { kind, index, values }] of needs.uniques) {
      const fields = indexOf(kind, index).fields;
      for (const wanted of lists(kind, fields, [...values.values()])) {
        round.add({ text: sql.uniqueText(this.#place.names, kind, index), values: wanted }, ({ rows }) => rows.forEach((row) => this.#show(kind, decode(kind, row))));
      }
      const met = this.#met.uniques.get(name);
      if (met) for (const [text, fields] of values) met.values.set(text, fields);
      else this.#met.uniques.set(name, { kind, index, values });
    }
    for (const [name, groups] of needs.heads) {
      const kind = kindOf(this.#kinds, name);
      for (const values of lists(kind, [kind.chain!.group], [...groups.values()])) {
        round.add({ text: sql.headText(this.#place.names, kind), values }, ({ rows }) => rows.forEach((row) => this.#tables.hold(name, decode(kind, row))));
      }
      this.#note(this.#met.heads, name, groups);
    }
  }

  /** Whole records, and of those that are only compared what they are compared by: in one order for everybody, or two transactions could wait for each other. */
  #askKeys(round: Round, kind: Kind, whole: Map<string | number, Rec>, compared: ReadonlyMap<string | number, Compared>): void {
    const { names } = this.#place;
    const parts = [...compared].filter(([id]) => !whole.has(id));
    const fields = [...new Set(parts.flatMap(([, { is }]) => Object.keys(is)))].sort();
    const keys = [...[...whole.values()].map((key) => ({ ...key, [sql.WHOLE]: true })), ...parts.map(([, { key }]) => ({ ...key, [sql.WHOLE]: false }))];
    const [text, columns] = parts.length === 0 ? [sql.getText(names, kind, true), kind.key] : [sql.compareText(names, kind, fields), [...kind.key, sql.WHOLE]];
    for (const values of lists(kind, columns, keys.sort((a, b) => compareBy(kind.key, a, b)))) {
      round.add({ text, values }, ({ rows }) => this.#take(kind, rows, { ids: new Set(parts.map(([id]) => id)), fields }));
    }
    this.#note(this.#met.keys, kind.name, whole);
  }

  #note<K, V>(met: Map<string, Map<K, V>>, name: string, values: Map<K, V>): void {
    const known = met.get(name);
    if (known) for (const [key, value] of values) known.set(key, value);
    else met.set(name, values);
  }

  /** Takes in records that are locked; of some only `fields`. Those that are here already may have been changed since. */
  #take(kind: Kind, rows: readonly Row[], parts: { readonly ids: ReadonlySet<string | number>; readonly fields: readonly string[] } = WHOLE): Rec[] {
    const found = byId(this.#found, kind.name);
    const whole = byId(this.#met.keys, kind.name);
    return rows.map((row) => {
      const record = decode(kind, row);
      const id = idOf(kind, keyOf(kind, record));
      if (found.has(id)) return record;
      this.#tables.hold(kind.name, record);
      if (parts.ids.has(id)) {
        byId(this.#met.compared, kind.name).set(id, { key: record, is: Object.fromEntries(parts.fields.map((field) => [field, record[field]!])) });
        return record;
      }
      found.set(id, record);
      whole.set(id, record);
      if (kind.chain) this.#restoreHead(kind, record);
      return record;
    });
  }

  /** A record that stands in the way: it is looked at, not locked. */
  #show(kind: Kind, record: Rec): void {
    if (!this.#found.get(kind.name)?.has(idOf(kind, keyOf(kind, record)))) this.#tables.replay({ kind: kind.name, record });
  }

  /** The record that was read last is not the last of its chain. */
  #restoreHead(kind: Kind, { [kind.chain!.group]: group }: Rec): void {
    const [head] = this.#tables.list(kind.name, { equals: { [kind.chain!.group]: group as string | number }, reverse: true, limit: 1 });
    if (head) this.#tables.replay({ kind: kind.name, record: head });
  }

  /** Nothing that was applied is ever undone: a change that fails is taken back by `Tables` itself. */
  #release(): void {
    this.#tables.keep();
  }

  #reservations({ ids }: Needs): Request[] {
    return [...ids].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, { count, floor }]) => ({
      statement: reserve(this.#place.names, kindOf(this.#kinds, name), count, floor),
      take: ({ rows }) => {
        const next = Number(rows[0]?.[0]);
        this.#tables.raiseCounters({ [name]: next });
        this.#reserved.set(name, next + count);
      },
    }));
  }

  /* ---------- claims ---------- */

  #askCandidates(round: Round, order: ClaimOrder, limit: number): void {
    const kind = kindOf(this.#kinds, order.kind);
    const candidates: Candidates = { limit, last: [] };
    this.#claims.set(order, candidates);
    for (const query of order.queries) {
      const read = sql.readText(this.#place.names, kind, query, "records", limit);
      if (!read) continue;
      // A record that is named by its key is waited for; of many that are due, those that others hold are theirs.
      const lock = query.index === undefined ? " for no key update of t" : " for no key update of t skip locked";
      round.add({ text: read.text + lock, values: read.values }, ({ rows }) => {
        const records = this.#take(kind, rows);
        const fields = query.index === undefined ? kind.key : orderOf(kind, indexOf(kind, query.index));
        if (rows.length >= limit) candidates.last.push({ fields, reverse: query.reverse ?? false, record: records.at(-1)! });
      });
    }
  }

  /** The first due records as they are at this point of the batch. More are read when changes before it took some away. */
  async #due(order: ClaimOrder): Promise<Rec[]> {
    const records = this.#tables.due(order);
    const candidates = this.#claims.get(order);
    if (!candidates) throw kindOf(this.#kinds, order.kind) && new PawlError("internal", "A claim was not prepared.");
    const beyond = (record: Rec) => candidates.last.some(({ fields, reverse, record: last }) => compareBy(fields, record, last) > 0 !== reverse && compareBy(fields, record, last) !== 0);
    if (candidates.last.length === 0 || (records.length >= order.limit && !records.some(beyond))) return records;
    const round = new Round();
    this.#askCandidates(round, order, candidates.limit * 2 + this.#effects.length);
    await round.run(this.#tx);
    this.#release();
    return this.#due(order);
  }

  /* ---------- writing ---------- */

  /** What the effects come to, each record once: whoever frees a unique value is before whoever takes it. */
  writes(): Statement[] | null {
    if (this.#effects.length === 0) return null;
    const touched = new Map<string, Map<string | number, Key>>();
    for (const effect of this.#effects) {
      const kind = kindOf(this.#kinds, effect.kind);
      const key = "record" in effect ? keyOf(kind, effect.record) : effect.key;
      let keys = touched.get(kind.name);
      if (!keys) touched.set(kind.name, (keys = new Map()));
      keys.set(idOf(kind, key), key);
    }
    const writes = [...touched].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([name, keys]) => this.#writesOf(kindOf(this.#kinds, name), keys));
    for (const [name, next] of Object.entries(this.#tables.counters())) {
      if (next > (this.#reserved.get(name) ?? Infinity)) writes.push(reserve(this.#place.names, kindOf(this.#kinds, name), 0, next));
    }
    const counts: Tally = new Map();
    for (const [name, keys] of touched) for (const [id, key] of keys) tally(counts, kindOf(this.#kinds, name), this.#found.get(name)?.get(id) ?? null, this.#tables.get(name, key));
    return [...writes, ...countStatements(this.#place.names, counts, this.#place.slot)];
  }

  #writesOf(kind: Kind, keys: ReadonlyMap<string | number, Key>): Statement[] {
    const { names } = this.#place;
    const inserts: Rec[] = [];
    const replaces: Rec[] = [];
    const deletes: Rec[] = [];
    const updates = new Map<string, { readonly columns: readonly string[]; readonly records: Rec[] }>();
    for (const [id, key] of keys) {
      const before = this.#found.get(kind.name)?.get(id) ?? null;
      const after = this.#tables.get(kind.name, key);
      if (!after) deletes.push(keyRecord(kind, key) ?? {});
      else if (!before) (kind.chain || kind.assign !== undefined || this.#met.keys.get(kind.name)?.has(id) ? inserts : replaces).push(after);
      else {
        const columns = changed(kind, before, after);
        const shape = columns.join(" ");
        if (columns.length === 0) continue;
        if (!updates.has(shape)) updates.set(shape, { columns, records: [] });
        updates.get(shape)!.records.push(after);
      }
    }
    return [
      ...statements(sql.deleteText(names, kind), lists(kind, kind.key, deletes.filter((key) => Object.keys(key).length > 0))),
      ...this.#freeing(kind, keys),
      ...[...updates.values()].flatMap(({ columns, records }) => statements(sql.updateText(names, kind, columns), lists(kind, [...kind.key, ...columns], records))),
      ...statements(sql.insertText(names, kind, false), lists(kind, columnsOf(kind), inserts)),
      ...statements(sql.insertText(names, kind, true), lists(kind, columnsOf(kind), replaces.sort((a, b) => compareBy(kind.key, a, b)))),
    ];
  }

  /** Unique values that records give up, given up first: within a statement, one record's new value may be another's old one. */
  #freeing(kind: Kind, keys: ReadonlyMap<string | number, Key>): Statement[] {
    return Object.values(kind.indexes).filter(({ unique }) => unique).flatMap(({ fields, notNull = [] }) => {
      const freed = [...keys].flatMap(([id, key]) => {
        const before = this.#found.get(kind.name)?.get(id);
        const after = this.#tables.get(kind.name, key);
        return before && after && fields.some((field) => before[field] !== after[field]) && notNull.every((field) => before[field] !== null) ? [keyRecord(kind, key)!] : [];
      });
      const columns = notNull.slice(0, 1).filter((field) => !kind.key.includes(field));
      return columns.length === 0 ? [] : statements(sql.updateText(this.#place.names, kind, columns), lists(kind, [...kind.key, ...columns], freed));
    });
  }
}

const WHOLE = { ids: new Set<string | number>(), fields: [] };

const byId = <V>(maps: Map<string, Map<string | number, V>>, name: string): Map<string | number, V> => entry(maps, name, () => new Map());

/** What was read for a claim; `last`: where a query stopped because it had enough. */
type Candidates = { readonly limit: number; readonly last: { readonly fields: readonly string[]; readonly reverse: boolean; readonly record: Rec }[] };
type Request = { readonly statement: Statement; readonly take: (answer: Answer) => void };

/** Statements that go out together, each with what is done with its answer. */
class Round {
  readonly #requests: Request[] = [];

  add(statement: Statement, take: (answer: Answer) => void): void {
    this.#requests.push({ statement, take });
  }

  /** `before`: what is done in a transaction of its own, ahead of this one. */
  async run(tx: Tx, before: readonly Request[] = []): Promise<void> {
    const answers = await tx.run(this.#requests.map(({ statement }) => statement), before.map(({ statement }) => statement));
    [...before, ...this.#requests].forEach(({ take }, i) => take(answers[i]!));
  }
}

/** The columns in which two versions of a record differ. */
function changed(kind: Kind, before: Rec, after: Rec): string[] {
  const columns = columnsOf(kind).filter((field) => field !== EXTRA && before[field] !== after[field]);
  // Both have all fields that are declared: with so many keys they have no others.
  const declared = columnsOf(kind).length - 1;
  if (Object.keys(before).length === declared && Object.keys(after).length === declared) return columns;
  return JSON.stringify(extraOf(kind, before)) === JSON.stringify(extraOf(kind, after)) ? columns : [...columns, EXTRA];
}

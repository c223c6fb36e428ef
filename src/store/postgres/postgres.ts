// The Postgres store: reads on any connection, writes one batch after the other in short transactions. Invariants: the rules
// go by the server's clock; every write looks at the seal and the format first; a call that was acknowledged is durable, and
// one that failed wrote nothing, unless it says `commit_unknown`.
import { sleep } from "../../base/clock.ts";
import { PawlError } from "../../base/errors.ts";
import { LIMITS } from "../../base/limits.ts";
import { keyOf, kindOf, kindsOf, type Kinds } from "../check.ts";
import { formatOf } from "../migrations.ts";
import { Absence } from "./absence.ts";
import { runBatch, type Outcome } from "./batch.ts";
import { ServerClock } from "./clock.ts";
import { keptCount } from "./counts.ts";
import { Connections, explain, isAway, isLost, isRefused, sqlState, TIMES, type Answer, type Door, type Statement, type Times } from "./driver.ts";
import { countersOf, countersText, loadPieces, sealOf, sealText, setSeal, type Moving } from "./move.ts";
import { Reads } from "./reads.ts";
import { decode, keyRecord, lists, statements } from "./records.ts";
import { checkServer, columnsIn, migrate } from "./schema.ts";
import { snapshotOf } from "./snapshot.ts";
import * as sql from "./sql.ts";
import { CLOCK, Writer } from "./transaction.ts";
import { readPostgresUrl } from "./url.ts";
import { runUser, UserWriters } from "./user.ts";
import { Watch } from "./watch.ts";
import { columnsOf, indexFor } from "../sql.ts";
import type { Change, Claim, ClaimOrder, Counters, Decide, Key, Kind, Model, OpenOptions, Piece, PostgresHandle, Query, Rec, Result, Seal, Store } from "../store.ts";
import { idOf } from "../table.ts";

type Opened = {
  readonly connections: Door;
  readonly names: sql.Names;
  readonly notify: boolean;
  readonly location: string;
  readonly model: Model;
  readonly options: OpenOptions;
  readonly times: Times;
};

/** A call of `commit`, waiting to be part of a batch. */
type Call = { readonly works: readonly (Change | Claim)[]; readonly resolve: (outcomes: Outcome[]) => void; readonly reject: (error: unknown) => void };

/** Between two reads of one moment, whoever reads may take his time; a connection that is lost cannot be replaced. */
const ONE_MOMENT: Partial<Times> = { idle: LIMITS.postgresMigrateMs, patience: 0 };

/** What is opened to read, as it is at one moment, whatever is written meanwhile. */
export async function openMoment(url: string, model: Model, options: OpenOptions): Promise<Store> {
  return open(url, model, { ...options, readOnly: true }, { ...TIMES, ...ONE_MOMENT }, snapshotOf);
}

/** Opens the state that `url` names and makes it when it is not there. Throws `usage`, `storage`, `busy`, `unsupported`, `corrupt`. */
export async function openPostgres(url: string, model: Model, options: OpenOptions, patience: Partial<Times> = {}): Promise<Store> {
  return open(url, model, options, { ...TIMES, ...patience }, async (connections) => connections);
}

async function open(url: string, model: Model, options: OpenOptions, times: Times, doorOf: (connections: Connections) => Promise<Door>): Promise<Store> {
  const { connection, schema, notify, location, notice } = readPostgresUrl(url);
  if (notice !== null) options.notice?.(notice);
  const connections = new Connections(connection, options, times);
  let door: Door = connections;
  try {
    const notices = await whenLetIn(() => checkServer((asked) => connections.run(asked), location), options, times.wait);
    for (const line of notices) options.notice?.(line);
    door = await doorOf(connections);
    const opened = { connections: door, names: { schema, columns: null }, notify, location, model, options, times };
    const store = options.readOnly ? await openToRead(opened) : await openToWrite(opened);
    connections.nameStatements();
    return store;
  } catch (error) {
    await door.close().catch(() => undefined);
    throw explain(error, location);
  }
}

async function openToWrite(opened: Opened): Promise<Store> {
  const link = await opened.connections.take(LIMITS.postgresMigrateMs);
  let broken = true;
  try {
    await migrate(link, opened.names, opened.model, opened.location);
    broken = false;
  } finally {
    link.release(broken);
  }
  const store = new PostgresStore(opened);
  await store.measure();
  return store;
}

/** What an older state lacks reads as null, and a kind or a whole state that is not there as empty. */
async function openToRead(opened: Opened): Promise<Store> {
  const columns = await columnsIn(opened.connections, opened.names);
  const names = { schema: opened.names.schema, columns: new Map([...columns].map(([name, types]) => [name, new Set(types.keys())])) };
  const store = new PostgresStore({ ...opened, names });
  await store.measure();
  return store;
}

/** Waits for a connection while the server has none free or is starting, or none of several has become the primary yet, as long as for a lock. */
async function whenLetIn<T>(attempt: () => Promise<T>, { clock, random }: OpenOptions, wait: number): Promise<T> {
  const start = clock.monotonic();
  for (let pause = 50; ; pause = Math.min(1_000, pause * 2)) {
    try {
      return await attempt();
    } catch (error) {
      if (!(["53300", "57P03"].includes(sqlState(error) ?? "") || isAway(error)) || clock.monotonic() - start > wait) throw error;
      await sleep(clock, pause * (0.5 + random.number()));
    }
  }
}

class PostgresStore implements Store {
  readonly clock: ServerClock;
  readonly location: string;
  readonly #opened: Opened;
  readonly #kinds: Kinds;
  readonly #writer: Writer | null;
  /** Of users' own transactions. */
  readonly #users: UserWriters;
  readonly #listeners = new Set<() => void>();
  #watch: Watch | null = null;
  #calls: Call[] = [];
  readonly #reads: Reads;
  #working: Promise<void> | null = null;
  /** Calls that are on their way; `close` waits for them. */
  readonly #pending = new Set<Promise<unknown>>();
  #closed: Promise<void> | null = null;
  readonly #absence: Absence;

  constructor(opened: Opened) {
    const { connections, location, model, names, notify, options, times } = opened;
    this.#opened = opened;
    this.location = location;
    this.clock = new ServerClock(options.clock);
    this.#kinds = kindsOf(model);
    const absence = (this.#absence = new Absence(options.clock, times));
    this.#reads = new Reads({ connections, clock: options.clock, random: options.random, times, absence });
    const channel = notify ? channelOf(names.schema) : null;
    const newWriter = () => new Writer({ connections, names, location, clock: options.clock, random: options.random, server: this.clock, times, absence, format: formatOf(model), channel });
    this.#writer = options.readOnly ? null : newWriter();
    this.#users = new UserWriters(newWriter);
  }

  /** Asks for the server's time. */
  async measure(): Promise<void> {
    const sent = this.clock.monotonic();
    const answers = await this.#opened.connections.run([...(this.#writer?.trimming() ?? []), CLOCK]);
    this.clock.measured(Number(answers.at(-1)!.rows[0]![0]), sent, this.clock.monotonic());
  }

  /* ---------- reading ---------- */

  get(name: string, keys: readonly Key[]): Promise<(Rec | null)[]> {
    return this.#call(async () => {
      const kind = kindOf(this.#kinds, name);
      const wanted = keys.map((key) => keyRecord(kind, key));
      const asked = statements(sql.getText(this.#opened.names, kind, false), lists(kind, kind.key, wanted.filter((key) => key !== null)));
      const found = new Map<string | number, Rec>();
      if (asked.length > 0) {
        for (const { rows } of await this.#read(kind, asked)) for (const row of rows) addTo(found, kind, decode(kind, row));
      }
      return keys.map((key, i) => (wanted[i] === null ? null : (found.get(idOf(kind, key)) ?? null)));
    });
  }

  list(name: string, query: Query = {}): Promise<Rec[]> {
    return this.#call(async () => {
      const kind = kindOf(this.#kinds, name);
      const limit = Math.min(query.limit ?? LIMITS.listRecords, LIMITS.listRecords);
      const read = sql.readText(this.#opened.names, kind, query, "records", limit);
      if (!read) return [];
      const [{ rows } = { rows: [] }] = await this.#read(kind, [read]);
      const numbered = rows.length > 0 && rows[0]!.length > columnsOf(kind).length;
      if (!numbered) return rows.map((row) => decode(kind, row));
      return [...rows].sort((a, b) => Number(a[0]) - Number(b[0])).slice(0, limit).map((row) => decode(kind, row, 1));
    });
  }

  count(name: string, query?: Query): Promise<number>;
  count(name: string, query: Query, by: string): Promise<Record<string, number>>;
  count(name: string, query: Query = {}, by?: string): Promise<number | Record<string, number>> {
    return this.#call(async () => {
      const kind = kindOf(this.#kinds, name);
      const kept = keptCount(this.#opened.names, kind, query, by);
      if (kept) return kept.answer((await this.#reads.ask([kept.statement]))[0]!.rows);
      const read = sql.readText(this.#opened.names, kind, by === undefined ? query : indexFor(kind, query, by), by === undefined ? "count" : { by }, null);
      const [{ rows } = { rows: [] }] = read ? await this.#read(kind, [read]) : [];
      if (by === undefined) return rows.reduce((sum, [n]) => sum + Number(n), 0);
      const counts: Record<string, number> = {};
      for (const [value, n] of rows) {
        const shown = value !== null && kind.fields[by] === "boolean" ? String(value === "t") : String(value);
        counts[shown] = (counts[shown] ?? 0) + Number(n);
      }
      return counts;
    });
  }

  /** Nothing is read of a kind that an older or missing state does not have. */
  async #read(kind: Kind, asked: readonly Statement[]): Promise<readonly Answer[]> {
    return this.#has(kind.name) ? this.#reads.ask(asked) : [];
  }

  #has(table: string): boolean {
    return this.#opened.names.columns?.has(table) ?? true;
  }

  /* ---------- writing ---------- */

  async commit(works: readonly (Change | Claim)[]): Promise<Result[]> {
    const outcomes = await this.#call(() => this.#queue(works));
    for (const outcome of outcomes) if ("thrown" in outcome) throw outcome.thrown;
    return outcomes as Result[];
  }

  async claim(order: ClaimOrder, decide: Decide): Promise<Result | null> {
    let decided = false;
    const deciding: Decide = (records, now) => {
      const change = decide(records, now);
      decided = change !== null;
      return change;
    };
    const [result] = await this.commit([{ claim: order, decide: deciding }]);
    if (!result!.ok && "error" in result! && result.error.code === "internal" && !decided) throw result.error;
    return decided || !result!.ok ? result! : null;
  }

  async transact(body: (sql: PostgresHandle) => Change | Promise<Change>): Promise<Result> {
    const { names, model, location, options } = this.#opened;
    if (options.readOnly) throw readOnly(location);
    // Beside the writer of the batches: what users do takes its time, and leases must be renewed meanwhile.
    const outcome = await this.#call(() => this.#users.run((writer) => runUser(writer, { names, model, location, slot: writer.slot }, body)));
    if ("thrown" in outcome) throw outcome.thrown;
    if (outcome.ok) this.#tell();
    return outcome;
  }

  #queue(works: readonly (Change | Claim)[]): Promise<Outcome[]> {
    if (!this.#writer) return Promise.reject(readOnly(this.location));
    if (works.length === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      this.#calls.push({ works, resolve, reject });
      this.#working ??= this.#work().finally(() => (this.#working = null));
    });
  }

  /** One batch after the other, each of all that was called meanwhile. */
  async #work(): Promise<void> {
    // Those who call in the same turn of the event loop share a batch.
    await Promise.resolve();
    while (this.#calls.length > 0) {
      const calls = [this.#calls.shift()!];
      for (let size = calls[0]!.works.length; this.#calls.length > 0; calls.push(this.#calls.shift()!)) {
        size += this.#calls[0]!.works.length;
        if (size > LIMITS.flushChanges) break;
      }
      await this.#answer(calls);
    }
  }

  async #answer(calls: readonly Call[]): Promise<void> {
    try {
      const outcomes = await this.#run(calls.flatMap(({ works }) => works));
      if (outcomes.some((outcome) => "ok" in outcome && outcome.ok)) this.#tell();
      let at = 0;
      for (const { works, resolve } of calls) resolve(outcomes.slice(at, (at += works.length)));
    } catch (error) {
      // A bug in one caller's seal is not the others' fault; a lost server or a stuck lock is nobody's.
      const own = !isLost(error) && sqlState(error) === null && !(error instanceof PawlError);
      if (own && calls.length > 1) for (const call of calls) await this.#answer([call]);
      else for (const { reject } of calls) reject(error);
    }
  }

  /** A batch in one transaction; when Postgres refuses its data, halves of it, until the change is found that fails alone. */
  async #run(works: readonly (Change | Claim)[]): Promise<Outcome[]> {
    const { names, model, location } = this.#opened;
    try {
      return await this.#writer!.transact((tx) => runBatch(tx, { names, model, location, slot: this.#writer!.slot }, works));
    } catch (error) {
      if (!isRefused(error)) throw error;
      const half = works.length >> 1;
      if (half > 0) return [...(await this.#run(works.slice(0, half))), ...(await this.#run(works.slice(half)))];
      return [{ ok: false, error: explain(error, location) as PawlError }];
    }
  }

  /* ---------- moving ---------- */

  async seal(seal: Seal | null, was?: Seal | null): Promise<void> {
    await this.#call(async () => setSeal(this.#moving(), seal, was));
    this.#tell();
  }

  sealed(): Promise<Seal | null> {
    return this.#call(async () => (this.#has("pawl") ? sealOf((await this.#reads.ask([sealText(this.#opened.names)]))[0]) : null));
  }

  counters(): Promise<Counters> {
    return this.#call(async () => (this.#has("pawl_ids") ? countersOf(this.#opened.model, (await this.#reads.ask([countersText(this.#opened.names)]))[0]!.rows) : {}));
  }

  async load(pieces: AsyncIterable<Piece>, counters: Counters): Promise<void> {
    await this.#call(async () => loadPieces(this.#moving(), pieces, counters));
    this.#tell();
  }

  #moving(): Moving {
    const { names, model } = this.#opened;
    return { writer: this.#write(), names, model, kinds: this.#kinds, location: this.location };
  }

  #write(): Writer {
    if (!this.#writer) throw readOnly(this.location);
    return this.#writer;
  }

  /* ---------- watching, closing ---------- */

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    const { connections, names, notify, options, times } = this.#opened;
    if (!this.#closed) {
      this.#watch ??= new Watch({
        connections, names, times, channel: notify ? channelOf(names.schema) : null, own: this.#writer?.id ?? null,
        clock: options.clock, random: options.random, tell: () => this.#tell(),
      });
    }
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size > 0) return;
      this.#watch?.stop();
      this.#watch = null;
    };
  }

  #tell(): void {
    for (const listener of this.#listeners) setImmediate(() => this.#listeners.has(listener) && listener());
  }

  hurry(): void {
    this.#absence.hurry();
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      this.hurry();
      this.#listeners.clear();
      this.#watch?.stop();
      const ended = await Promise.allSettled(this.#pending);
      // A row of a handle that did not get to leave is removed with time.
      const left = await Promise.allSettled([this.#writer?.leave(), this.#users.leave()]);
      if ([...ended, ...left].some((end) => end.status === "rejected" && isLost(end.reason))) this.#opened.options.notice?.(`${this.location} could not be reached while it was closed; nothing is lost that was acknowledged.`);
      await this.#opened.connections.close();
    })();
    return this.#closed;
  }

  async #call<T>(run: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new PawlError("closed", "The state is closed.", { next: "Open it again." });
    const call = run();
    this.#pending.add(call);
    try {
      return await call;
    } catch (error) {
      throw explain(error, this.location);
    } finally {
      this.#pending.delete(call);
    }
  }
}

const channelOf = (schema: string): string => `pawl_${schema}`;
const readOnly = (location: string): PawlError => new PawlError("usage", `${location} was opened for reading only.`);

function addTo(found: Map<string | number, Rec>, kind: Kind, record: Rec): void {
  found.set(idOf(kind, keyOf(kind, record)), record);
}

// The memory store: the contract with nothing behind it. For tests, for simulations and as the reference the others are
// compared with. Its promise of durability is empty by nature; everything else is kept.
import { PawlError } from "../base/errors.ts";
import { checkLoad, checkSeal, refusedBy } from "./check.ts";
import type { Change, Claim, ClaimOrder, Counters, Decide, Key, Model, OpenOptions, Piece, Query, Rec, Result, Seal, Store } from "./store.ts";
import { Tables } from "./tables.ts";

export function openMemory(model: Model, options: OpenOptions): Store {
  return new MemoryStore(model, options);
}

class MemoryStore implements Store {
  readonly clock: OpenOptions["clock"];
  readonly location = ":memory:";
  readonly #tables: Tables;
  readonly #listeners = new Set<() => void>();
  #seal: Seal | null = null;
  #closed = false;

  constructor(model: Model, options: OpenOptions) {
    this.clock = options.clock;
    this.#tables = new Tables(model);
  }

  async get(kind: string, keys: readonly Key[]): Promise<(Rec | null)[]> {
    return keys.map((key) => this.#open().get(kind, key));
  }

  async list(kind: string, query?: Query): Promise<Rec[]> {
    return this.#open().list(kind, query);
  }

  async count(kind: string, query?: Query): Promise<number>;
  async count(kind: string, query: Query, by: string): Promise<Record<string, number>>;
  async count(kind: string, query: Query = {}, by?: string): Promise<number | Record<string, number>> {
    return by === undefined ? this.#open().count(kind, query) : this.#open().countBy(kind, query, by);
  }

  async commit(changes: readonly (Change | Claim)[]): Promise<Result[]> {
    const tables = this.#open();
    return this.#write((now) => changes.map((change) => refusedBy(this.#seal, change, this.location) ?? tables.work(change, now, [])), (results) => results.some(({ ok }) => ok));
  }

  async claim(order: ClaimOrder, decide: Decide): Promise<Result | null> {
    const tables = this.#open();
    return this.#write((now) => {
      const refused = refusedBy(this.#seal, { claim: order, decide }, this.location);
      if (refused) return refused;
      const change = decide(tables.due(order), now);
      return change && tables.apply(change, now, []);
    }, (result) => result !== null && result.ok);
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async seal(seal: Seal | null, was?: Seal | null): Promise<void> {
    this.#open();
    checkSeal(this.#seal, was, this.location);
    this.#seal = seal;
    setImmediate(() => this.#tell());
  }

  async sealed(): Promise<Seal | null> {
    this.#open();
    return this.#seal;
  }

  async counters(): Promise<Counters> {
    return this.#open().highest();
  }

  async load(pieces: AsyncIterable<Piece>, counters: Counters): Promise<void> {
    const tables = this.#open();
    const seal = this.#seal;
    checkLoad(seal, () => tables.size(), this.location);
    for await (const piece of pieces) {
      checkSeal(this.#seal, seal, this.location);
      tables.load(piece);
    }
    tables.raise(counters);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#listeners.clear();
  }

  #open(): Tables {
    if (this.#closed) throw new PawlError("closed", "The state is closed.", { next: "Open it again." });
    return this.#tables;
  }

  /** Runs `work`, whose writes are kept together, or taken back together when it throws; tells of it when it `wrote`. */
  #write<T>(work: (now: number) => T, wrote: (result: T) => boolean): T {
    const tables = this.#open();
    try {
      const result = work(this.clock.now());
      tables.keep();
      if (wrote(result)) setImmediate(() => this.#tell());
      return result;
    } catch (error) {
      tables.undo();
      throw error;
    }
  }

  /** Whoever listens by now: not a listener that left, or a store that closed, since the write. */
  #tell(): void {
    for (const listener of [...this.#listeners]) if (this.#listeners.has(listener)) listener();
  }
}

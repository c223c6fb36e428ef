// The memory store: the contract with nothing behind it. For tests, for simulations and as the reference the others are
// compared with. Its promise of durability is empty by nature; everything else is kept.
import { PawlError } from "../base/errors.ts";
import type { Change, Claim, ClaimOrder, Decide, Key, Model, OpenOptions, Query, Rec, Result, Store } from "./store.ts";
import { Tables } from "./tables.ts";

export function openMemory(model: Model, options: OpenOptions): Store {
  return new MemoryStore(model, options);
}

class MemoryStore implements Store {
  readonly clock: OpenOptions["clock"];
  readonly location = ":memory:";
  readonly #tables: Tables;
  readonly #listeners = new Set<() => void>();
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
    return this.#write((now) => changes.map((change) => tables.work(change, now, [])), (results) => results.some(({ ok }) => ok));
  }

  async claim(order: ClaimOrder, decide: Decide): Promise<Result | null> {
    const tables = this.#open();
    return this.#write((now) => {
      const change = decide(tables.due(order), now);
      return change && tables.apply(change, now, []);
    }, (result) => result !== null && result.ok);
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
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

// The memory store: the contract with nothing behind it. For tests, for simulations and as the reference the others are
// compared with. Its promise of durability is empty by nature; everything else is kept.
import { PawlError } from "../base/errors.ts";
import type { Change, ClaimOrder, Decide, Key, Model, OpenOptions, Query, Rec, Result, Store } from "./store.ts";
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

  async commit(changes: readonly Change[]): Promise<Result[]> {
    const tables = this.#open();
    const now = this.clock.now();
    const results = changes.map((change) => tables.apply(change, now, []));
    tables.keep();
    this.#tell();
    return results;
  }

  async claim(order: ClaimOrder, decide: Decide): Promise<Result | null> {
    const tables = this.#open();
    const now = this.clock.now();
    const change = decide(tables.due(order), now);
    if (!change) return null;
    const result = tables.apply(change, now, []);
    tables.keep();
    this.#tell();
    return result;
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

  #tell(): void {
    for (const listener of this.#listeners) setImmediate(listener);
  }
}

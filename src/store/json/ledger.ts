// The tables and the journal behind them: what others appended is taken in, what is applied here is appended. Invariants: nothing
// is appended behind a line that was not taken in; what could not be written is taken out of the tables again; after damage, or
// an outcome that nobody knows, nothing is written until the state is opened again.
import { type Clock, iso } from "../../base/clock.ts";
import { PawlError } from "../../base/errors.ts";
import { type FileSystem, fromDisk } from "../../base/fs.ts";
import { formatOf, olderFormat } from "../migrations.ts";
import type { Model, OpenOptions } from "../store.ts";
import type { Effect, Tables } from "../tables.ts";
import type { Beside } from "./beside.ts";
import { rememberHash, type Replica } from "./checkpoint.ts";
import type { Body, Journal, Line } from "./journal.ts";
import { hasJournal, type Places, repairTail, shortened, startReading, takeLine } from "./recovery.ts";

type Home = Pick<OpenOptions, "damaged"> & {
  readonly fs: FileSystem;
  readonly places: Places;
  readonly model: Model;
  readonly clock: Clock;
  readonly beside: Beside;
  readonly writable: boolean;
  readonly notice: (line: string) => void;
};

/** Applies changes to the tables at `now` (ms), pushing what they wrote onto `effects`. */
export type Work<T> = (tables: Tables, now: number, effects: Effect[]) => T;

export class Ledger {
  readonly #home: Home;
  readonly #visit = (line: Line, bytes: number) => takeLine(this.#replica, line, bytes);
  #journal: Journal | null = null;
  #replica: Replica;
  #toldDamage = false;
  #broken: unknown = null;

  constructor(home: Home, replica: Replica) {
    this.#home = home;
    this.#replica = replica;
  }

  get replica(): Replica {
    return this.#replica;
  }

  /** Under the lock, when caught up. */
  get journal(): Journal {
    return this.#journal!;
  }

  /** Why nothing may be written any more until the state is opened again; null while it may. */
  get broken(): unknown {
    return this.#broken;
  }

  /** Under the lock. Throws, and goes on throwing, when the journal cannot be trusted. */
  catchUpWriting(refuse: () => void = () => {}): void {
    if (this.#broken) throw this.#broken;
    const { fs, places, clock, notice } = this.#home;
    try {
      for (let reloaded = false; ; reloaded = true) {
        const tail = this.#follow();
        if (tail.is === "end" || tail.is === "torn") refuse();
        if (tail.is === "end") return;
        if (tail.is === "torn") return repairTail(fs, places, this.#journal!, iso(clock.now()).replaceAll(":", ""), notice);
        if (reloaded) throw tail.is === "damaged" ? tail.error : shortened(this.#journal!.file, "a place before one that was read already");
        this.drop();
      }
    } catch (error) {
      if (error instanceof PawlError && (error.code === "corrupt" || error.code === "unsupported")) this.#broken = error;
      throw fromDisk(error, places.file);
    }
  }

  /** Without the lock: takes in whole lines and leaves the rest to writers. Damage ends what is shown, and is told once. */
  catchUpReading(): void {
    const { fs, places, model } = this.#home;
    if (this.#broken || this.#toldDamage || (!this.#journal && !hasJournal(fs, places))) return;
    const last = this.#follow();
    if (this.#replica.format < formatOf(model)) throw olderFormat(places.file, this.#replica.format, formatOf(model));
    if (last.is === "end" || last.is === "torn") return;
    this.drop();
    const tail = this.#follow();
    if (tail.is !== "damaged") return;
    this.#tell(tail.error, "What is before it is shown.");
  }

  /** The same at open. `look` looks at what stands beside the journal; the answer says what the journal, read on after that, lacks. */
  openReading(look: () => (journal: Journal) => PawlError | null): void {
    this.catchUpReading();
    if (!this.#journal) return;
    const lacking = look();
    this.catchUpReading();
    const error = this.#journal && !this.#toldDamage ? lacking(this.#journal) : null;
    if (error) this.#tell(error, "What the journal has is shown.");
  }

  #tell(error: PawlError, shown: string): void {
    const { damaged, notice } = this.#home;
    this.#toldDamage = true;
    const { message, next, details } = error;
    const damage = new PawlError("corrupt", `${message} ${shown}`, { ...(next === undefined ? {} : { next }), ...(details === undefined ? {} : { details }), cause: error });
    if (damaged) damaged(damage);
    else notice(`${damage.message} ${next ?? ""}`.trimEnd());
  }

  #follow(): ReturnType<Journal["read"]> {
    if (!this.#journal) {
      const { fs, places, model, writable, notice } = this.#home;
      const { journal, replica } = startReading(fs, places, model, writable, notice);
      this.#journal = journal;
      this.#replica = replica;
    }
    return this.#journal.read(this.#visit);
  }

  /** Forgets what was read: what is in the journal now is not what it was. */
  drop(): void {
    this.#journal?.close();
    this.#journal = null;
  }

  /* ---------- writing: under the lock, caught up ---------- */

  /** Applies, writes what came of it, flushes and keeps it; takes all back when that fails. `edit`: it is the hand edit with this hash. */
  keep<T>(apply: Work<T>, edit?: string): { readonly result: T; readonly wrote: boolean } {
    const { tables } = this.#replica;
    const now = this.#home.clock.now();
    const effects: Effect[] = [];
    try {
      const result = apply(tables, now, effects);
      const wrote = effects.length > 0 || edit !== undefined;
      if (wrote) this.append(edit === undefined ? { ops: effects } : { ops: effects, edit }, now);
      if (edit !== undefined) rememberHash(this.#replica, edit);
      tables.keep();
      this.#home.beside.tidy(tables);
      return { result, wrote };
    } catch (error) {
      tables.undo();
      throw error;
    }
  }

  /** Appends one line and flushes it. After an outcome that nobody knows nothing more is written. */
  append(body: Body, now = this.#home.clock.now()): void {
    const journal = this.#journal!;
    try {
      journal.append(iso(now), JSON.stringify(body).slice(1, -1));
    } catch (error) {
      if (error instanceof PawlError && error.code === "commit_unknown") this.#broken = error;
      throw error;
    }
    const { start, end, n } = journal.position;
    if (!("ops" in body)) return takeLine(this.#replica, { n, prev: "", at: "", ...body } as Line, end - start);
    this.#replica.revision = n;
    this.#replica.tailBytes += end - start;
  }
}

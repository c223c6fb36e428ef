// The JSON store: records in memory, in front of a journal that is the truth, beside a state.json that people read.
// Invariant: every write happens in one synchronous section under the lock: take in what others appended, apply, append, flush. Only then is
// the caller answered; if anything fails the tables are as they were.
import { type Clock, iso } from "../../base/clock.ts";
import { messageOf, PawlError } from "../../base/errors.ts";
import { type FileSystem, fromDisk, nodeFs } from "../../base/fs.ts";
import { Turn } from "../../base/lock.ts";
import { checkLoad, checkSeal, refusedBy } from "../check.ts";
import type { Change, Claim, ClaimOrder, Counters, Decide, EditDoor, Key, Model, OpenOptions, Piece, Query, Rec, Result, Seal, Store } from "../store.ts";
import type { Tables } from "../tables.ts";
import { createState, lookAt } from "./adoption.ts";
import { Beside } from "./beside.ts";
import { checkpointDue, emptyReplica, pruneCheckpoints, type Replica, writeCheckpoint } from "./checkpoint.ts";
import { doorOf, outstanding } from "./edits.ts";
import type { Body } from "./journal.ts";
import { Ledger, type Work } from "./ledger.ts";
import { createFolders, hasJournal, type Places, placesOf, refuseNetwork, refuseShortened, removeAbandoned } from "./recovery.ts";
import { upgrade } from "./upgrade.ts";
import { lookBeside, refuseImpossibleView, View } from "./view.ts";

export type JsonOptions = OpenOptions & {
  readonly fs?: FileSystem;
  /** Writers' turns, for a disk that no other process sees; a real one is locked by files beside the state. */
  readonly turn?: (places: Places) => Turns;
  /** Bytes of journal that are worth a checkpoint. */
  readonly checkpointBytes?: number;
  /** Who opens it took the view away: that it is not there is no news. */
  readonly viewTaken?: boolean;
};
type Turns = Pick<Turn, "run" | "close">;

/** Opens (creates, unless `readOnly`) the state whose view is the file at `path`. */
export async function openJson(path: string, model: Model, options: JsonOptions): Promise<Store> {
  const fs = options.fs ?? nodeFs;
  try {
    const places = placesOf(fs, path);
    const found = lookAt(fs, places, model, options.clock.now());
    const store = new JsonStore(places, model, options, fs, found?.replica ?? emptyReplica(model));
    if (found && options.readOnly) options.notice?.(`${places.file} is shown as Pawl reads it and was not touched (${found.notes.join("; ")}). The first command that changes something adopts it.`);
    await store.start();
    return store;
  } catch (error) {
    throw fromDisk(error, path);
  }
}

class JsonStore implements Store {
  readonly clock: Clock;
  readonly location: string;
  readonly #fs: FileSystem;
  readonly #places: Places;
  readonly #model: Model;
  readonly #options: JsonOptions;
  readonly #turn: Turns | null;
  readonly #view: View | null;
  readonly #beside: Beside;
  readonly #listeners = new Set<() => void>();
  readonly #ledger: Ledger;
  #checkpointing: Promise<void> | null = null;
  #unwatch: (() => void) | null = null;
  #telling = false;
  /** What stood at the view's path when this was opened was not usable: nothing is written before that is settled. */
  #unusable = false;
  #closed = false;

  constructor(places: Places, model: Model, options: JsonOptions, fs: FileSystem, replica: Replica) {
    this.clock = options.clock;
    this.location = places.file;
    this.#fs = fs;
    this.#places = places;
    this.#model = model;
    this.#options = options;
    this.#beside = new Beside(fs, places.dir, model, () => options.random.hex(8));
    const { damaged } = options;
    this.#ledger = new Ledger({ fs, places, model, clock: options.clock, beside: this.#beside, writable: options.readOnly !== true, notice: this.#notice, ...(damaged ? { damaged } : {}) }, replica);
    if (options.readOnly) {
      this.#turn = this.#view = null;
      return;
    }
    refuseNetwork(fs, places);
    createFolders(fs, places);
    this.#turn = options.turn?.(places) ?? new Turn(places.lock, places.gate, { clock: options.clock, random: options.random, notice: options.notice, what: places.file });
    this.#view = new View({
      fs, places, model, clock: options.clock, random: options.random, notice: this.#notice, viewTaken: options.viewTaken === true,
      replica: () => this.#ledger.replica,
      section: (fn) => this.#locked(fn),
      note: (view) => this.#ledger.append({ view }),
      refresh: () => void this.#reading(),
      merge: (edit, decide) => void this.#keep((tables, now, ops) => decide(tables, now, (change) => tables.apply(change, now, ops)), edit),
    });
  }

  /** Reads what is there; a writer also repairs, creates and brings the view up to date. */
  async start(): Promise<void> {
    if (!this.#turn) return this.#ledger.openReading(() => lookBeside(this.#fs, this.#places, this.#ledger.replica));
    try {
      await this.#turn.run(() => {
        const now = this.clock.now();
        createState(this.#fs, this.#places, this.#model, this.#options.random.hex(8), now, this.#notice);
        removeAbandoned(this.#fs, this.#places, now);
        // Before a tail is cut: what looks torn may be damage to the last acknowledged changes, and must stay to be looked at.
        const ledger = this.#ledger;
        ledger.catchUpWriting(() => {
          refuseShortened(this.#fs, this.#places, ledger.journal);
          refuseImpossibleView(this.#fs, this.#places, ledger.replica, ledger.journal.position.n);
        });
        upgrade({ fs: this.#fs, places: this.#places, model: this.#model, now, notice: this.#notice, replica: () => ledger.replica, journal: () => ledger.journal, catchUp: () => ledger.catchUpWriting() });
      });
      this.#unusable = !(await this.#view!.start());
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  async get(kind: string, keys: readonly Key[]): Promise<(Rec | null)[]> {
    const tables = this.#reading();
    return this.#beside.fill(kind, keys.map((key) => tables.get(kind, key)), () => this.#reading());
  }

  async list(kind: string, query?: Query): Promise<Rec[]> {
    return this.#beside.fillAll(kind, this.#reading().list(kind, query), () => this.#reading());
  }

  async count(kind: string, query?: Query): Promise<number>;
  async count(kind: string, query: Query, by: string): Promise<Record<string, number>>;
  async count(kind: string, query: Query = {}, by?: string): Promise<number | Record<string, number>> {
    const tables = this.#reading();
    return by === undefined ? tables.count(kind, query) : tables.countBy(kind, query, by);
  }

  async commit(works: readonly (Change | Claim)[]): Promise<Result[]> {
    return this.#locked(() => {
      this.#requireUsable();
      const { seal } = this.#ledger.replica;
      return this.#keep((tables, now, effects) => works.map((work) => refusedBy(seal, work, this.location) ?? tables.work(this.#beside.take(work), now, effects)));
    });
  }

  async claim(order: ClaimOrder, decide: Decide): Promise<Result | null> {
    return this.#locked(() => {
      this.#requireUsable();
      const refused = refusedBy(this.#ledger.replica.seal, { claim: order, decide }, this.location);
      if (refused) return refused;
      return this.#keep((tables, now, effects) => {
        const change = decide(tables.due(order), now);
        return change ? tables.apply(change, now, effects) : null;
      });
    });
  }

  watch(listener: () => void): () => void {
    this.#check();
    this.#listeners.add(listener);
    this.#unwatch ??= hasJournal(this.#fs, this.#places) ? this.#fs.watch(this.#places.journal, () => this.#tell()) : null;
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#stopWatching();
    };
  }

  get edits(): EditDoor {
    const found = () => {
      this.#reading();
      return this.#onDisk(() => outstanding({ fs: this.#fs, places: this.#places, model: this.#model, replica: this.#ledger.replica }));
    };
    return doorOf(this.#places, found, async (settle) => {
      await this.#locked(() => settle(this.#view!.edits));
      await this.#view!.flush();
    });
  }

  async seal(seal: Seal | null, was?: Seal | null): Promise<void> {
    await this.#locked(() => {
      checkSeal(this.#ledger.replica.seal, was, this.location);
      this.#ledger.append({ seal });
    });
    this.#tell();
  }

  async sealed(): Promise<Seal | null> {
    this.#reading();
    return this.#ledger.replica.seal;
  }

  async counters(): Promise<Counters> {
    return this.#reading().highest();
  }

  async load(pieces: AsyncIterable<Piece>, counters: Counters): Promise<void> {
    const seal = await this.#locked(() => {
      checkLoad(this.#ledger.replica.seal, () => this.#ledger.replica.tables.size(), this.location);
      return this.#ledger.replica.seal;
    });
    for await (const piece of pieces) await this.#loading(seal, () => ({ ops: this.#ledger.replica.tables.load(this.#beside.takePiece(piece)) }));
    await this.#loading(seal, () => ({ counters }));
    await this.#locked(() => this.#written());
  }

  #loading(seal: Seal | null, apply: () => Body): Promise<void> {
    return this.#locked(() => {
      checkSeal(this.#ledger.replica.seal, seal, this.location);
      try {
        this.#ledger.append(apply());
      } catch (error) {
        // The tables may have what the journal has not: they are read anew.
        this.#ledger.drop();
        throw error;
      }
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    // What still waits for its turn comes first; then the last view. A broken state is left as it is.
    await this.#turn?.run(() => {}).catch(() => {});
    if (this.#closed) return;
    if (!this.#ledger.broken) await this.#view?.close();
    await this.#checkpointing;
    this.#release();
  }

  #release(): void {
    this.#closed = true;
    this.#listeners.clear();
    this.#stopWatching();
    this.#view?.stop();
    this.#turn?.close();
    this.#ledger.drop();
  }

  #stopWatching(): void {
    this.#unwatch?.();
    this.#unwatch = null;
  }

  readonly #notice = (line: string): void => this.#options.notice?.(line);

  #check(): void {
    if (this.#closed) throw new PawlError("closed", "The state is closed.", { next: "Open it again." });
  }

  /** A turn under the lock with everything that others appended taken in. */
  async #locked<T>(section: () => T): Promise<T> {
    this.#check();
    if (!this.#turn) throw new PawlError("usage", `${this.location} was opened read-only.`, { next: "Open it for writing." });
    return this.#turn.run(() => {
      this.#ledger.catchUpWriting();
      return section();
    });
  }

  /** Under the lock: what `apply` makes of the tables, kept. */
  #keep<T>(apply: Work<T>, edit?: string): T {
    const { result, wrote } = this.#ledger.keep(apply, edit);
    if (wrote) this.#written();
    return result;
  }

  /** Under the lock. A new command does not write beside an edit that it cannot read; one that was at work goes on. */
  #requireUsable(): void {
    if (this.#unusable && !this.#view!.usable()) throw this.#view!.edits.refusal();
    this.#unusable = false;
  }

  #written(): void {
    this.#view!.schedule();
    this.#tell();
    if (!this.#checkpointing && checkpointDue(this.#ledger.replica, this.#options.checkpointBytes)) this.#checkpoint();
  }

  #reading(): Tables {
    this.#check();
    if (this.#options.readOnly && this.#options.moment) return this.#ledger.replica.tables;
    this.#onDisk(() => this.#ledger.catchUpReading());
    return this.#ledger.replica.tables;
  }

  /** What the disk refuses is no bug. */
  #onDisk<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw fromDisk(error, this.location);
    }
  }

  #checkpoint(): void {
    const { checkpoint } = this.#places;
    const pause = () => new Promise<void>((resolve) => setImmediate(resolve));
    const run = async () => {
      const position = this.#ledger.journal.position;
      const note = await writeCheckpoint(this.#fs, checkpoint, this.#model, this.#ledger.replica, position, this.#options.random.hex(8), pause);
      await this.#locked(() => {
        // Another process may have been faster.
        if (note.n > (this.#ledger.replica.checkpoint?.n ?? 0)) {
          this.#ledger.append({ checkpoint: note });
          this.#ledger.journal.rotate(iso(this.clock.now()));
        }
        pruneCheckpoints(this.#fs, checkpoint);
        this.#beside.sweep(this.#ledger.replica.tables, this.clock.now());
      });
    };
    const failed = (error: unknown) => {
      // Without a checkpoint the state is as safe as with it; it is tried again after as many bytes.
      this.#ledger.replica.tailBytes = 0;
      this.#notice(`No checkpoint of ${this.location} was written: ${messageOf(error)}`);
    };
    this.#checkpointing = run().catch(failed).finally(() => (this.#checkpointing = null));
  }

  #tell(): void {
    if (this.#telling || this.#listeners.size === 0) return;
    this.#telling = true;
    setImmediate(() => {
      this.#telling = false;
      for (const listener of this.#listeners) listener();
    });
  }
}

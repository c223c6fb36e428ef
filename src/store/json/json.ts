// The JSON store: records in memory, in front of a journal that is the truth, beside a state.json that people read.
// Invariant: every write happens in one synchronous section under the lock: take in what others appended, apply, append,
// flush. Only then is it kept and the caller answered; if anything fails the tables are as they were.
import { type Clock, iso } from "../../base/clock.ts";
import { messageOf, PawlError } from "../../base/errors.ts";
import { type FileSystem, fromDisk, nodeFs } from "../../base/fs.ts";
import { Turn } from "../../base/lock.ts";
import { checkLoad, checkSeal, refusedBy } from "../check.ts";
import type { Change, Claim, ClaimOrder, Counters, Decide, EditDoor, Key, Model, OpenOptions, Piece, Query, Rec, Result, Seal, Store } from "../store.ts";
import { formatOf, olderFormat } from "../migrations.ts";
import { type Effect, Tables } from "../tables.ts";
import { createState, lookAt } from "./adoption.ts";
import { Beside } from "./beside.ts";
import { checkpointDue, emptyReplica, pruneCheckpoints, rememberHash, type Replica, writeCheckpoint } from "./checkpoint.ts";
import { doorOf, outstanding } from "./edits.ts";
import type { Body, Journal, Line } from "./journal.ts";
import { createFolders, hasJournal, type Places, placesOf, refuseNetwork, refuseShortened, removeAbandoned, repairTail, shortened, startReading, takeLine } from "./recovery.ts";
import { upgrade } from "./upgrade.ts";
import { refuseImpossibleView, View } from "./view.ts";

export type JsonOptions = OpenOptions & {
  readonly fs?: FileSystem;
  /** Writers' turns, for a disk that no other process sees; a real one is locked by files beside the state. */
  readonly turn?: (places: Places) => Turns;
  /** Bytes of journal that are worth a checkpoint. */
  readonly checkpointBytes?: number;
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
  readonly #visit = (line: Line, bytes: number) => takeLine(this.#replica, line, bytes);
  #journal: Journal | null = null;
  #replica: Replica;
  #checkpointing: Promise<void> | null = null;
  #unwatch: (() => void) | null = null;
  #telling = false;
  #toldDamage = false;
  /** Why nothing may be written any more until the state is opened again. */
  #broken: unknown = null;
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
    this.#replica = replica;
    this.#beside = new Beside(fs, places.dir, model, () => options.random.hex(8));
    if (options.readOnly) {
      this.#turn = this.#view = null;
      return;
    }
    refuseNetwork(fs, places);
    createFolders(fs, places);
    this.#turn = options.turn?.(places) ?? new Turn(places.lock, places.gate, { clock: options.clock, random: options.random, notice: options.notice, what: places.file });
    this.#view = new View({
      fs, places, model, clock: options.clock, random: options.random, notice: this.#notice,
      replica: () => this.#replica,
      section: (fn) => this.#locked(fn),
      note: (view) => this.#append({ view }),
      refresh: () => void this.#reading(),
      merge: (edit, decide) => {
        const now = this.clock.now();
        const ops: Effect[] = [];
        this.#keeping(now, ops, (tables) => decide(tables, now, (change) => tables.apply(change, now, ops)), edit);
      },
    });
  }

  /** Reads what is there; a writer also repairs, creates and brings the view up to date. */
  async start(): Promise<void> {
    if (!this.#turn) return this.#catchUpReading();
    try {
      await this.#turn.run(() => {
        const now = this.clock.now();
        createState(this.#fs, this.#places, this.#model, this.#options.random.hex(8), now, this.#notice);
        removeAbandoned(this.#fs, this.#places, now);
        // Before a tail is cut: what looks torn may be damage to the last acknowledged changes, and must stay to be looked at.
        this.#catchUpWriting(() => {
          refuseShortened(this.#fs, this.#places, this.#journal!);
          refuseImpossibleView(this.#fs, this.#places, this.#replica, this.#journal!.position.n);
        });
        upgrade({ fs: this.#fs, places: this.#places, model: this.#model, now, notice: this.#notice, replica: () => this.#replica, journal: () => this.#journal!, catchUp: () => this.#catchUpWriting() });
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

  async commit(changes: readonly (Change | Claim)[]): Promise<Result[]> {
    return this.#locked(() => {
      this.#requireUsable();
      const now = this.clock.now();
      const effects: Effect[] = [];
      return this.#keeping(now, effects, (tables) => changes.map((change) => refusedBy(this.#replica.seal, change, this.location) ?? tables.work(this.#beside.take(change), now, effects)));
    });
  }

  async claim(order: ClaimOrder, decide: Decide): Promise<Result | null> {
    return this.#locked(() => {
      this.#requireUsable();
      const now = this.clock.now();
      const refused = refusedBy(this.#replica.seal, { claim: order, decide }, this.location);
      if (refused) return refused;
      const effects: Effect[] = [];
      return this.#keeping(now, effects, (tables) => {
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
    const found = () => (this.#reading(), outstanding({ fs: this.#fs, places: this.#places, model: this.#model, replica: this.#replica }));
    return doorOf(this.#places, found, async (settle) => {
      await this.#locked(() => settle(this.#view!.edits));
      await this.#view!.flush();
    });
  }

  async seal(seal: Seal | null, was?: Seal | null): Promise<void> {
    await this.#locked(() => {
      checkSeal(this.#replica.seal, was, this.location);
      this.#append({ seal });
    });
    this.#tell();
  }

  async sealed(): Promise<Seal | null> {
    this.#reading();
    return this.#replica.seal;
  }

  async counters(): Promise<Counters> {
    return this.#reading().highest();
  }

  async load(pieces: AsyncIterable<Piece>, counters: Counters): Promise<void> {
    const seal = await this.#locked(() => {
      checkLoad(this.#replica.seal, () => this.#replica.tables.size(), this.location);
      return this.#replica.seal;
    });
    for await (const piece of pieces) await this.#loading(seal, () => ({ ops: this.#replica.tables.load(this.#beside.takePiece(piece)) }));
    await this.#loading(seal, () => ({ counters }));
    await this.#locked(() => this.#written());
  }

  #loading(seal: Seal | null, apply: () => Body): Promise<void> {
    return this.#locked(() => {
      checkSeal(this.#replica.seal, seal, this.location);
      try {
        const body = apply();
        this.#append(body);
        if ("ops" in body) this.#replica.revision = this.#journal!.position.n;
      } catch (error) {
        // The tables may have what the journal has not: they are read anew.
        this.#drop();
        throw error;
      }
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    // What still waits for its turn comes first; then the last view. A broken state is left as it is.
    await this.#turn?.run(() => {}).catch(() => {});
    if (this.#closed) return;
    if (!this.#broken) await this.#view?.close();
    await this.#checkpointing;
    this.#release();
  }

  #release(): void {
    this.#closed = true;
    this.#listeners.clear();
    this.#stopWatching();
    this.#view?.stop();
    this.#turn?.close();
    this.#journal?.close();
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
      this.#catchUpWriting();
      return section();
    });
  }

  /** Applies, writes what came of it, and keeps it; takes all back when that fails. */
  #keeping<T>(now: number, effects: Effect[], apply: (tables: Tables) => T, edit?: string): T {
    const { tables } = this.#replica;
    try {
      const result = apply(tables);
      const changed = effects.length > 0 || edit !== undefined;
      if (changed) {
        this.#append({ ops: effects, ...(edit === undefined ? {} : { edit }) }, now);
        this.#replica.revision = this.#journal!.position.n;
        if (edit !== undefined) rememberHash(this.#replica, edit);
      }
      tables.keep();
      this.#beside.tidy(tables);
      if (changed) this.#written();
      return result;
    } catch (error) {
      tables.undo();
      throw error;
    }
  }

  /** Under the lock. A new command does not write beside an edit that it cannot read; one that was at work goes on. */
  #requireUsable(): void {
    if (this.#unusable && !this.#view!.usable()) throw this.#view!.edits.refusal();
    this.#unusable = false;
  }

  #append(body: Body, now = this.clock.now()): void {
    const journal = this.#journal!;
    try {
      journal.append(iso(now), JSON.stringify(body).slice(1, -1));
    } catch (error) {
      if (error instanceof PawlError && error.code === "commit_unknown") this.#broken = error;
      throw error;
    }
    const { start, end } = journal.position;
    if ("ops" in body) this.#replica.tailBytes += end - start;
    else takeLine(this.#replica, { n: journal.position.n, prev: "", at: "", ...body } as Line, end - start);
  }

  #written(): void {
    this.#view!.schedule();
    this.#tell();
    if (checkpointDue(this.#replica, this.#options.checkpointBytes) && !this.#checkpointing) this.#checkpoint();
  }

  /** Under the lock. Throws, and goes on throwing, when the journal cannot be trusted. */
  #catchUpWriting(refuse: () => void = () => {}): void {
    if (this.#broken) throw this.#broken;
    try {
      for (let reloaded = false; ; reloaded = true) {
        const tail = this.#follow();
        if (tail.is === "end" || tail.is === "torn") refuse();
        if (tail.is === "end") return;
        if (tail.is === "torn") return repairTail(this.#fs, this.#places, this.#journal!, iso(this.clock.now()).replaceAll(":", ""), this.#notice);
        if (reloaded) throw tail.is === "damaged" ? tail.error : shortened(this.#journal!.file, "a place before one that was read already");
        this.#drop();
      }
    } catch (error) {
      if (error instanceof PawlError && (error.code === "corrupt" || error.code === "unsupported")) this.#broken = error;
      throw fromDisk(error, this.location);
    }
  }

  /** Without the lock: takes in whole lines and leaves the rest to writers. Damage ends what is shown, and is told once. */
  #catchUpReading(): void {
    if (this.#broken || this.#toldDamage || (!this.#journal && !hasJournal(this.#fs, this.#places))) return;
    const last = this.#follow();
    if (this.#replica.format < formatOf(this.#model)) throw olderFormat(this.location, this.#replica.format, formatOf(this.#model));
    if (last.is === "end" || last.is === "torn") return;
    this.#drop();
    const tail = this.#follow();
    if (tail.is !== "damaged") return;
    this.#toldDamage = true;
    const { message, next, details } = tail.error;
    const damage = new PawlError("corrupt", `${message} What is before it is shown.`, { ...(next === undefined ? {} : { next }), ...(details === undefined ? {} : { details }), cause: tail.error });
    if (this.#options.damaged) this.#options.damaged(damage);
    else this.#notice(`${damage.message} ${next ?? ""}`.trimEnd());
  }

  #follow(): ReturnType<Journal["read"]> {
    if (!this.#journal) {
      const { journal, replica } = startReading(this.#fs, this.#places, this.#model, this.#turn !== null, this.#notice);
      this.#journal = journal;
      this.#replica = replica;
    }
    return this.#journal.read(this.#visit);
  }

  /** Forgets what was read: what is in the journal now is not what it was. */
  #drop(): void {
    this.#journal?.close();
    this.#journal = null;
  }

  #reading(): Tables {
    this.#check();
    try {
      this.#catchUpReading();
    } catch (error) {
      throw fromDisk(error, this.location);
    }
    return this.#replica.tables;
  }

  #checkpoint(): void {
    const { checkpoint } = this.#places;
    const pause = () => new Promise<void>((resolve) => setImmediate(resolve));
    const run = async () => {
      const position = this.#journal!.position;
      const note = await writeCheckpoint(this.#fs, checkpoint, this.#model, this.#replica, position, this.#options.random.hex(8), pause);
      await this.#locked(() => {
        // Another process may have been faster.
        if (note.n > (this.#replica.checkpoint?.n ?? 0)) {
          this.#append({ checkpoint: note });
          this.#journal!.rotate(iso(this.clock.now()));
        }
        pruneCheckpoints(this.#fs, checkpoint);
        this.#beside.sweep(this.#replica.tables, this.clock.now());
      });
    };
    const failed = (error: unknown) => {
      // Without a checkpoint the state is as safe as with it; it is tried again after as many bytes.
      this.#replica.tailBytes = 0;
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

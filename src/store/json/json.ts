// The JSON store: records in memory, in front of a journal that is the truth, beside a state.json that people read.
// Invariant: every write happens in one synchronous section under the lock: take in what others appended, apply, append,
// flush. Only then is it kept and the caller answered; if anything fails the tables are as they were.
import { type Clock, iso } from "../../base/clock.ts";
import { messageOf, PawlError } from "../../base/errors.ts";
import { codeOf, type FileSystem, nodeFs } from "../../base/fs.ts";
import { Turn } from "../../base/lock.ts";
import type { Change, Claim, ClaimOrder, Decide, Key, Model, OpenOptions, Query, Rec, Result, Store } from "../store.ts";
import { type Effect, Tables } from "../tables.ts";
import { checkpointDue, emptyReplica, pruneCheckpoints, type Replica, writeCheckpoint } from "./checkpoint.ts";
import type { Body, Journal, Line } from "./journal.ts";
import { createFolders, createState, hasJournal, type Places, placesOf, refuseNetwork, refuseShortened, refuseStranger, removeAbandoned, repairTail, shortened, startReading, takeLine } from "./recovery.ts";
import { refuseImpossibleView, View } from "./view.ts";

export type JsonOptions = OpenOptions & { readonly fs?: FileSystem };

/** Opens (creates, unless `readOnly`) the state whose view is the file at `path`. */
export async function openJson(path: string, model: Model, options: JsonOptions): Promise<Store> {
  const fs = options.fs ?? nodeFs;
  try {
    const places = placesOf(fs, path);
    if (!hasJournal(fs, places)) refuseStranger(fs, places);
    const store = new JsonStore(places, model, options, fs);
    await store.start();
    return store;
  } catch (error) {
    throw fromDisk(error, path);
  }
}

/** What the disk threw, as an error of ours. */
function fromDisk(error: unknown, path: string): unknown {
  if (error instanceof PawlError || codeOf(error) === undefined) return error;
  return new PawlError("storage", `${path} cannot be used: ${messageOf(error)}.`, { next: "Check the permissions, the free space and the health of the disk.", cause: error });
}

class JsonStore implements Store {
  readonly clock: Clock;
  readonly location: string;
  readonly #fs: FileSystem;
  readonly #places: Places;
  readonly #model: Model;
  readonly #options: JsonOptions;
  readonly #turn: Turn | null;
  readonly #view: View | null;
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
  #closed = false;

  constructor(places: Places, model: Model, options: JsonOptions, fs: FileSystem) {
    this.clock = options.clock;
    this.location = places.file;
    this.#fs = fs;
    this.#places = places;
    this.#model = model;
    this.#options = options;
    this.#replica = emptyReplica(model);
    if (options.readOnly) {
      this.#turn = this.#view = null;
      return;
    }
    refuseNetwork(fs, places);
    createFolders(fs, places);
    this.#turn = new Turn(places.lock, places.gate, { clock: options.clock, random: options.random, notice: options.notice, what: places.file });
    this.#view = new View({
      fs, places, model, clock: options.clock, random: options.random, notice: this.#notice,
      replica: () => this.#replica,
      section: (fn) => this.#locked(fn),
      note: (view) => this.#append({ view }),
    });
  }

  /** Reads what is there; a writer also repairs, creates and brings the view up to date. */
  async start(): Promise<void> {
    if (!this.#turn) return this.#catchUpReading();
    try {
      await this.#turn.run(() => {
        const now = this.clock.now();
        createState(this.#fs, this.#places, this.#options.random.hex(8), iso(now));
        removeAbandoned(this.#fs, this.#places, now);
        this.#catchUpWriting();
        refuseShortened(this.#fs, this.#places, this.#journal!);
        refuseImpossibleView(this.#fs, this.#places, this.#replica, this.#journal!.position.n);
      });
    } catch (error) {
      this.#release();
      throw error;
    }
    await this.#view!.flush();
  }

  async get(kind: string, keys: readonly Key[]): Promise<(Rec | null)[]> {
    const tables = this.#reading();
    return keys.map((key) => tables.get(kind, key));
  }

  async list(kind: string, query?: Query): Promise<Rec[]> {
    return this.#reading().list(kind, query);
  }

  async count(kind: string, query?: Query): Promise<number>;
  async count(kind: string, query: Query, by: string): Promise<Record<string, number>>;
  async count(kind: string, query: Query = {}, by?: string): Promise<number | Record<string, number>> {
    const tables = this.#reading();
    return by === undefined ? tables.count(kind, query) : tables.countBy(kind, query, by);
  }

  async commit(changes: readonly (Change | Claim)[]): Promise<Result[]> {
    return this.#locked(() => {
      const now = this.clock.now();
      const effects: Effect[] = [];
      return this.#keeping(now, effects, (tables) => changes.map((change) => tables.work(change, now, effects)));
    });
  }

  async claim(order: ClaimOrder, decide: Decide): Promise<Result | null> {
    return this.#locked(() => {
      const now = this.clock.now();
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
  #keeping<T>(now: number, effects: Effect[], apply: (tables: Tables) => T): T {
    const { tables } = this.#replica;
    try {
      const result = apply(tables);
      if (effects.length > 0) {
        this.#append({ ops: effects }, now);
        this.#replica.revision = this.#journal!.position.n;
      }
      tables.keep();
      if (effects.length > 0) this.#written();
      return result;
    } catch (error) {
      tables.undo();
      throw error;
    }
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
    if (checkpointDue(this.#replica) && !this.#checkpointing) this.#checkpoint();
  }

  /** Under the lock. Throws, and goes on throwing, when the journal cannot be trusted. */
  #catchUpWriting(): void {
    if (this.#broken) throw this.#broken;
    try {
      for (let reloaded = false; ; reloaded = true) {
        const tail = this.#follow();
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
    if (last.is === "end" || last.is === "torn") return;
    this.#drop();
    const tail = this.#follow();
    if (tail.is !== "damaged") return;
    this.#toldDamage = true;
    this.#notice(`${tail.error.message} What is before it can be read.`);
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

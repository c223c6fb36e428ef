// When to look at the view's path, and what is done about what is found there. Invariants: a save is seen within about a
// second while the state is open, at once when it is opened or closed, and always before a view is put in place; a file that
// is not usable keeps views from being written, and nothing else.
import { dirname, join } from "node:path";
import type { FileStat } from "../../base/fs.ts";
import { type EditHost, Edits, type Found, SETTLE_MS } from "./edits.ts";

export type WatchHost = EditHost & {
  section<T>(fn: () => T): Promise<T>;
  /** That no view is there, or an older one, is known to who opened the state. */
  readonly viewTaken: boolean;
  /** Takes in what others appended, without the lock. */
  refresh(): void;
};

/** How often the file is looked at, should the system say nothing of a save; and how soon after it says something. */
const LOOK_EVERY_MS = 1_000;
const LOOK_SOON_MS = 20;
/** A view that was moved aside is looked at again for so long: an editor may have had it open. */
const RECENT_MS = 5_000;

/** A view that was moved aside: which one, and what the file looked like then. */
type Aside = { readonly path: string; readonly revision: number | null; readonly stat: FileStat; readonly until: number };

export class EditWatch {
  readonly edits: Edits;
  readonly #host: WatchHost;
  /** Called when the view may be, or must be, written anew. */
  readonly #changed: () => void;
  #aside: Aside[] = [];
  /** Views that were moved aside and judged in this life. One of a life that was cut short may never have been judged. */
  readonly #judgedHere = new Set<string>();
  #blocked = false;
  #missingSince: number | null = null;
  #told = "";
  #soon: (() => void) | null = null;
  #later: (() => void) | null = null;
  #unwatch: (() => void) | null = null;
  #closed = false;

  constructor(host: WatchHost, changed: () => void) {
    this.#host = host;
    this.#changed = changed;
    this.edits = new Edits(host);
  }

  /** True while a file that is not usable, or not yet, stands at the path. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /** At open: takes in what was written while nobody looked, and from then on what is written. */
  async start(): Promise<void> {
    await this.#host.section(() => this.#lookAtOpen());
    await this.settled();
    this.#poll();
    try {
      this.#unwatch = this.#host.fs.watch(dirname(this.#host.places.file), () => this.#lookIn(LOOK_SOON_MS));
    } catch {
      // Too many watches, or none on this file system: then the file is looked at once a second.
    }
  }

  stop(): void {
    this.#closed = true;
    this.#unwatch?.();
    this.#soon?.();
    this.#later?.();
  }

  /** Looks until it is clear what stands there. */
  async settled(): Promise<void> {
    const look = () => {
      this.lookAside();
      return this.look(true);
    };
    while ((await this.#host.section(look)) === "settling") {
      await new Promise<void>((resolve) => this.#host.clock.timer(SETTLE_MS, resolve));
    }
  }

  /**
   * Under the lock. `final`: nobody will look again soon, so a missing file is taken to be deleted; and who opens or closes
   * a state hears of a broken file when it writes, not here.
   */
  look(final = false): Found {
    const found = this.#judged(this.edits.look(!final), final);
    this.#blocked = found === "stays" || found === "settling";
    if (found === "settling") this.#lookIn(SETTLE_MS);
    return found;
  }

  /** A view was moved away from the path: what is written into it after `stat` is an edit of `revision`. */
  movedAside(path: string, revision: number | null, stat: FileStat): void {
    this.#aside.push({ path, revision, stat, until: this.#host.clock.monotonic() + RECENT_MS });
    this.#judgedHere.add(path);
  }

  /** True once for a file that was judged when it was moved aside. */
  wasJudged(path: string): boolean {
    return this.#judgedHere.delete(path);
  }

  /** Under the lock: takes in what was written into views after they were moved away. */
  lookAside(): void {
    for (const { path, revision } of this.#written()) this.edits.lookAside(path, revision);
    const now = this.#host.clock.monotonic();
    this.#aside = this.#aside.filter(({ until }) => until > now);
  }

  #written(): Aside[] {
    return this.#aside.filter(({ path, stat }) => {
      const now = this.#host.fs.lstat(path);
      return now !== null && (now.mtimeMs !== stat.mtimeMs || now.size !== stat.size);
    });
  }

  #lookAtOpen(): void {
    const { fs, places } = this.#host;
    const names = (fs.readdir(places.prev) ?? []).sort();
    for (const name of names) {
      const [moved, revision] = name.split("-").map(Number);
      const stat = fs.lstat(join(places.prev, name));
      // The newest may have been moved by who was killed before it could look at it.
      if (stat && (stat.mtimeMs >= moved! || name === names.at(-1))) this.edits.lookAside(join(places.prev, name), revision ?? null);
    }
  }

  /** A deleted or an older file is one that Pawl puts right, with a line that says so once; unless a crash of ours left it so. */
  #judged(found: Found, final: boolean): Found {
    if (found !== "missing") this.#missingSince = null;
    if (found !== "missing" && found !== "older") return found;
    const { fs, places, clock, notice } = this.#host;
    const { view } = this.#host.replica();
    const interrupted = (fs.readdir(places.dir) ?? []).some((name) => /^view\..*\.tmp$/.test(name) && fs.lstat(join(places.dir, name))?.ino === view?.ino);
    if (!view || interrupted || this.#host.viewTaken) return "ours";
    // Some editors move the old file away before they write the new one.
    this.#missingSince ??= clock.monotonic();
    const key = `${found} ${view.hash}`;
    // Said to be rebuilt, it is: at open and at close nobody looks a second time.
    if (found === "missing" && !final && this.#told !== key && clock.monotonic() - this.#missingSince < SETTLE_MS) return "settling";
    if (this.#told !== key) notice(`${places.file} was ${found === "missing" ? "deleted" : "put back to an older one"}; it is rebuilt from its journal. To begin all tasks anew: pawl reset --all.`);
    this.#told = key;
    return "ours";
  }

  #poll(): void {
    if (this.#closed) return;
    this.#later = this.#host.clock.timer(LOOK_EVERY_MS, () => {
      this.#check();
      this.#poll();
    }, false);
  }

  #lookIn(ms: number): void {
    if (this.#soon || this.#closed) return;
    this.#soon = this.#host.clock.timer(ms, () => {
      this.#soon = null;
      this.#check();
    }, false);
  }

  /** Without the lock: is there anything to see? Only then the lock is taken. */
  #check(): void {
    if (this.#closed) return;
    const quiet = () => this.edits.unchanged() && this.#written().length === 0;
    try {
      if (quiet()) return;
      // Another process may have put a newer view there.
      this.#host.refresh();
      if (quiet()) return;
    } catch {
      return;
    }
    const look = () => {
      const blocked = this.#blocked;
      this.lookAside();
      const found = this.look();
      if (found === "taken" || (found === "ours" && (blocked || !this.edits.unchanged()))) this.#changed();
    };
    // What cannot be looked at now (the lock is busy, the disk fails) is looked at again a second later.
    void this.#host.section(look).catch(() => undefined);
  }
}

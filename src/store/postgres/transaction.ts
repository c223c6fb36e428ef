// One transaction at a time on Postgres, whatever happens to the connection. Invariant: what is reported as written was
// committed, what is reported as not written never will be, and only if neither can be found out it is `commit_unknown`.
//
// A handle counts its commits in a row of its own. When the answer to one is lost, a second connection writes its number there
// as void, which waits for a transaction that still runs. If the number was taken, the commit happened; if not, it never
// will: that transaction divides by zero when its number is not above the one in the row.
import { sleep, type Clock } from "../../base/clock.ts";
import { PawlError } from "../../base/errors.ts";
import type { ServerClock } from "./clock.ts";
import { SLOTS } from "./counts.ts";
import type { Absence } from "./absence.ts";
import { isCollision, isLost, sqlState, type Answer, type Door, type Link, type Statement, type Times } from "./driver.ts";
import { table, type Names } from "./sql.ts";
import { quote } from "../sql.ts";
import type { Kind, Seal } from "../store.ts";

/** A transaction that has begun, or begins with its first statements. */
export type Tx = {
  /** Statements in one round trip; those in `before` in a transaction of their own unless this one has begun; their answers come first. */
  run(statements: readonly Statement[], before?: readonly Statement[]): Promise<Answer[]>;
  /** The same as the very first, before anything is read: for a lock that the reading would stand in the way of. */
  exclusively(statements: readonly Statement[]): Promise<Answer[]>;
  /** A statement of somebody else's, once the transaction has begun. */
  query(text: string, values: readonly unknown[]): Promise<unknown>;
  /** The server's time in ms. */
  now(): number;
  notes(): ReadonlyMap<string, string>;
};

export type Body<T> = (tx: Tx) => Promise<{ readonly value: T; readonly writes: readonly Statement[] | null }>;

/** First and longest pause before a lost server is tried again, in ms. */
const PAUSE_MS = 100;
const PAUSE_CAP_MS = 2_000;
/** Somebody else was first with a key, each time somebody who got through; beyond this it is the change that contradicts itself. */
const DUPLICATES = 100;

export function sealIn(tx: Tx): Seal | null {
  const note = tx.notes().get("seal");
  return note === undefined ? null : (JSON.parse(note) as Seal);
}

/** What a transaction needs of its store. */
export type Handle = {
  readonly connections: Door;
  readonly names: Names;
  readonly location: string;
  readonly clock: Clock;
  readonly random: { number(): number; hex(bytes: number): string };
  readonly server: ServerClock;
  readonly times: Times;
  readonly absence: Absence;
  readonly format: number;
  readonly channel: string | null;
};

/**
 * Reads go along an index in its order. A plan outlives the time when its table was nearly empty, and one made then would
 * rather read the whole of it. Where there is no index, `jit` would take what was ruled out for expensive, and compile it.
 */
const ALONG_INDEXES = ["enable_seqscan", "enable_bitmapscan", "enable_sort", "jit"].map((name) => [name, "off"] as const);

/** Statements that every transaction begins with. Set for it alone: a pooler gives the connection to others afterwards. */
export function settings(times: Times): Statement {
  const values = [["statement_timeout", times.statement], ["lock_timeout", times.lock], ["idle_in_transaction_session_timeout", times.idle]] as const;
  const set = [...values, ...ALONG_INDEXES].map(([name, value]) => `set_config('${name}', '${value}', true)`);
  return { text: `select ${set.join(", ")}, set_config('synchronous_commit', case current_setting('synchronous_commit') when 'off' then 'on' else current_setting('synchronous_commit') end, true)` };
}

export const CLOCK: Statement = { text: "select extract(epoch from clock_timestamp()) * 1000" };
const BEGIN: Statement = { text: "begin isolation level read committed" };
const COMMIT: Statement = { text: "commit" };
const ROLLBACK: Statement = { text: "rollback" };
/** A number of ids that is lost in a crash was given to nobody, and whoever flushes a record flushes what came before it. */
const UNFLUSHED: Statement = { text: "set local synchronous_commit = off" };

/** Takes `count` ids of a kind; answers with the first. They are at least `floor`, and above every id there is. */
export function reserve(names: Names, kind: Kind, count: number, floor: number): Statement {
  const key = kind.key[0]!;
  const highest = kind.fields[key] === "integer" ? `, (select coalesce(max(${quote(key)}), 0) + 1 from ${table(names, kind.name)})` : "";
  return { text: `update ${table(names, "pawl_ids")} set next = greatest(next, $2::bigint${highest}) + $3::bigint where kind = $1 returning next - $3::bigint`, values: [kind.name, String(floor), String(count)] };
}

export class Writer {
  readonly #handle: Handle;
  readonly #id: string;
  readonly #slot: number;
  #commits = 0;

  constructor(handle: Handle) {
    this.#handle = handle;
    this.#slot = Math.floor(handle.random.number() * SLOTS);
    this.#id = handle.random.hex(16);
  }

  /** Which rows of the counts it adds to. */
  get slot(): number {
    return this.#slot;
  }

  /** Its name in `pawl_writer` and in notifications. */
  get id(): string {
    return this.#id;
  }

  /** Runs `body` until it got through; it may run several times. Throws `busy`, `storage`, `commit_unknown`, and what the body throws. */
  async transact<T>(body: Body<T>): Promise<T> {
    const patience = new Patience(this.#handle, this.#handle.times.wait);
    for (;;) {
      const attempt = await this.#attempt(body);
      if ("value" in attempt) {
        this.#handle.absence.over();
        return attempt.value as T;
      }
      if (isLost(attempt.error)) await patience.lost(attempt.error);
      else if (isCollision(attempt.error)) await patience.collided(attempt.error);
      else throw attempt.error;
    }
  }

  async #attempt<T>(body: Body<T>): Promise<{ readonly value: T } | { readonly error: unknown }> {
    let link: Link | null = null;
    let committing: { readonly value: T } | null = null;
    try {
      link = await this.#handle.connections.take();
      const { value, writes } = await body(this.#begin(link));
      if (writes) {
        this.#commits++;
        committing = { value };
        await link.run([this.#count(false), ...writes, ...this.#notification(), COMMIT]);
      } else await link.run([ROLLBACK]);
      link.release();
      return { value };
    } catch (error) {
      const lost = isLost(error);
      await this.#end(link, lost);
      return committing && lost && (await this.#settle()) ? committing : { error };
    }
  }

  async #end(link: Link | null, lost: boolean): Promise<void> {
    try {
      if (!lost) await link?.run([ROLLBACK]);
      link?.release(lost);
    } catch {
      link?.release(true);
    }
  }

  #begin(link: Link): Tx {
    const { server, names, times } = this.#handle;
    const notes = new Map<string, string>();
    let begun = false;
    const prelude = [BEGIN, settings(times), { text: `select name, value from ${table(names, "pawl")} where name in ('format', 'seal')` }];
    return {
      now: () => server.now(),
      notes: () => notes,
      query: (text, values) => link.query!(text, values),
      exclusively: (statements) => {
        begun = true;
        return link.run([BEGIN, settings(times), ...statements]).then((answers) => answers.slice(2));
      },
      run: async (statements, before = []) => {
        // Once the transaction has begun, a commit of their own would end it.
        const apart = !begun && before.length > 0;
        const own = apart ? [BEGIN, UNFLUSHED, ...before, COMMIT] : before;
        const opening = begun ? [] : prelude;
        begun = true;
        const sent = server.monotonic();
        const answers = await link.run([...own, ...opening, ...statements, CLOCK]);
        server.measured(Number(answers.at(-1)!.rows[0]![0]), sent, server.monotonic());
        const first = own.length + opening.length;
        if (opening.length > 0) for (const [name, value] of answers[first - 1]!.rows) notes.set(name!, value!);
        this.#checkFormat(notes);
        return [...answers.slice(apart ? 2 : 0, own.length - (apart ? 1 : 0)), ...answers.slice(first, -1)];
      },
    };
  }

  /** A worker of an older version must not write what a newer one would misread. */
  #checkFormat(notes: ReadonlyMap<string, string>): void {
    const format = Number(notes.get("format"));
    if (format <= this.#handle.format) return;
    throw new PawlError("unsupported", `${this.#handle.location} has format ${format} now; this version of Pawl knows up to ${this.#handle.format}.`, { next: "Update Pawl here too.", details: { format, known: this.#handle.format } });
  }

  /** Removes what handles that died left behind: nobody comes back after so long to ask what became of a commit. */
  trimming(): Statement[] {
    return [BEGIN, UNFLUSHED, { text: `delete from ${table(this.#handle.names, "pawl_writer")} where at < clock_timestamp() - interval '30 days'` }, COMMIT];
  }

  /** Leaves: its count is of use only while it lives, or its host is asleep. */
  async leave(): Promise<void> {
    if (this.#commits === 0) return;
    await this.#handle.connections.run([BEGIN, UNFLUSHED, { text: `delete from ${table(this.#handle.names, "pawl_writer")} where id = $1`, values: [this.#id] }, COMMIT]);
  }

  /* ---------- the count of commits ---------- */

  #count(voided: boolean): Statement {
    const writer = table(this.#handle.names, "pawl_writer");
    // Divides by zero unless the number is new.
    const commits = voided ? "excluded.commits" : "excluded.commits / (case when w.commits < excluded.commits then 1 else 0 end)";
    const where = voided ? " where w.commits < excluded.commits" : "";
    return {
      text: `insert into ${writer} as w (id, commits, voided, at) values ($1, $2::bigint, ${voided}, clock_timestamp()) on conflict (id) do update set commits = ${commits}, voided = excluded.voided, at = excluded.at${where}`,
      values: [this.#id, String(this.#commits)],
    };
  }

  #notification(): Statement[] {
    const { channel } = this.#handle;
    return channel === null ? [] : [{ text: "select pg_notify($1, $2)", values: [channel, this.#id] }];
  }

  /** Whether the commit whose answer was lost happened. When it returns false it never will. */
  async #settle(): Promise<boolean> {
    const patience = new Patience(this.#handle, this.#handle.times.patience);
    const read: Statement = { text: `select commits, voided from ${table(this.#handle.names, "pawl_writer")} where id = $1`, values: [this.#id] };
    for (;;) {
      try {
        await this.#handle.connections.run([settings(this.#handle.times), this.#count(true)]);
        const [{ rows }] = (await this.#handle.connections.run([read])) as [Answer];
        return Number(rows[0]?.[0]) === this.#commits && rows[0]?.[1] === "f";
      } catch (error) {
        try {
          if (isLost(error)) await patience.lost(error);
          else if (isCollision(error)) await patience.collided(error);
          else throw error;
        } catch (cause) {
          throw new PawlError("commit_unknown", `The connection to ${this.#handle.location} broke during a commit: what was being written may or may not be there.`, { next: "When the server is back, look at what is there before you repeat it.", cause });
        }
      }
    }
  }
}

/** How long a call goes on trying: pauses that grow while the server is lost, short ones after a collision. Then the error. */
class Patience {
  readonly #handle: Handle;
  readonly #start: number;
  readonly #collisionMs: number;
  #losses = 0;
  #duplicates = 0;

  constructor(handle: Handle, collisionMs: number) {
    this.#handle = handle;
    this.#start = handle.clock.monotonic();
    this.#collisionMs = collisionMs;
  }

  async lost(error: unknown): Promise<void> {
    const { clock, random, absence } = this.#handle;
    if (!absence.triesOn(this.#start)) throw error;
    await sleep(clock, Math.min(PAUSE_CAP_MS, PAUSE_MS * 2 ** this.#losses++) * (0.5 + random.number()));
  }

  async collided(error: unknown): Promise<void> {
    const { clock, random } = this.#handle;
    if (sqlState(error) === "23505" && this.#duplicates++ >= DUPLICATES) throw error;
    if (this.#waited() >= this.#collisionMs) throw error;
    await sleep(clock, 1 + 4 * random.number());
  }

  #waited(): number {
    return this.#handle.clock.monotonic() - this.#start;
  }
}

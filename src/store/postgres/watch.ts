// Hints from other processes: notifications on a connection of its own, and behind them a look at the counts of commits from
// time to time, which also finds out when that connection is dead. Invariant: nothing depends on a hint, and a listener is
// told at least once after every moment in which some could have been missed.
import type { Clock } from "../../base/clock.ts";
import type { Door, Link, Statement, Times } from "./driver.ts";
import { table, type Names } from "./sql.ts";
import { settings } from "./transaction.ts";
import { quote } from "../sql.ts";

type Watched = {
  readonly connections: Door;
  readonly names: Names;
  /** Null: no notifications, only the look. */
  readonly channel: string | null;
  /** The writer whose commits are told without them. */
  readonly own: string | null;
  readonly clock: Clock;
  readonly random: { number(): number };
  readonly times: Times;
  readonly tell: () => void;
};

export class Watch {
  readonly #watched: Watched;
  readonly #marker: Statement;
  #link: Link | null = null;
  #seen: string | null = null;
  #timer: (() => void) | null = null;
  #stopped = false;

  constructor(watched: Watched) {
    this.#watched = watched;
    this.#marker = { text: `select coalesce(sum(commits), 0), count(*), max(at) from ${table(watched.names, "pawl_writer")} where id <> $1`, values: [watched.own ?? ""] };
    void this.#look();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.();
    this.#link?.release();
    this.#link = null;
  }

  /** Looks, connecting first where that is needed, and plans the next look. Errors mean trying again then. */
  async #look(): Promise<void> {
    const { times, random, clock, tell } = this.#watched;
    try {
      const seen = await this.#read();
      if (seen !== this.#seen && !this.#stopped) tell();
      this.#seen = seen;
    } catch {
      this.#link?.release();
      this.#link = null;
      // Whatever happens until it is back is missed.
      this.#seen = null;
    }
    if (!this.#stopped) this.#timer = clock.timer(times.poll * (0.8 + 0.4 * random.number()), () => void this.#look(), false);
  }

  async #read(): Promise<string> {
    const { connections, channel, times } = this.#watched;
    if (channel !== null && !this.#link) await this.#listen(channel);
    const link = this.#link ?? connections;
    const answers = await link.run([settings(times), this.#marker]);
    return answers[1]!.rows[0]!.join(" ");
  }

  async #listen(channel: string): Promise<void> {
    const { connections, own, tell } = this.#watched;
    const told = (payload: string) => void (payload !== own && !this.#stopped && tell());
    const link: Link = await connections.listen(told, () => {
      if (this.#link !== link || this.#stopped) return;
      this.#link = null;
      this.#seen = null;
      this.#timer?.();
      this.#timer = this.#watched.clock.timer(100 + 400 * this.#watched.random.number(), () => void this.#look(), false);
    });
    if (this.#stopped) return link.release();
    this.#link = link;
    await link.run([{ text: `listen ${quote(channel)}` }]);
  }
}

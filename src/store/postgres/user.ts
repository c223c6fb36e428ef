// People's own SQL in the transaction of a change. Invariants: what it wrote and the change are committed together or not at
// all, whatever becomes of the connection; the change is decided last, on records locked then, so that while the SQL runs
// nobody waits for them, and an owner who was replaced meanwhile commits nothing; the handle is dead afterwards.
import { PawlError } from "../../base/errors.ts";
import { LIMITS } from "../../base/limits.ts";
import { runBatch, type Outcome, type Place } from "./batch.ts";
import { isLost, sqlState } from "./driver.ts";
import type { Tx, Writer } from "./transaction.ts";
import { refuseControl, type Change, type PostgresHandle } from "../store.ts";

/** What the body threw. It is not tried again, whatever it looks like. */
class Thrown extends Error {
  override readonly name = "Thrown";
}

/** The same transaction has every chance: it was in the way of another, or the server left it. */
const isAgain = (error: unknown): boolean => isLost(error) || ["40001", "40P01"].includes(sqlState(error) ?? "");
/** Statements are refused since an earlier one failed. */
const isSpoiled = (error: unknown): boolean => sqlState(error) === "25P02";

/** Runs `body` and its change in one transaction, from scratch as often as it takes. What the body throws comes back as a value. */
export async function runUser(writer: Writer, place: Place, body: (sql: PostgresHandle) => Change | Promise<Change>): Promise<Outcome> {
  try {
    return await writer.transact(async (tx) => {
      const mark = { text: "select set_config('pawl.transaction', $1, true)", values: [writer.id] };
      await tx.run([mark]);
      const sql = handleOn(tx);
      try {
        const change = await bodyOf(body, sql);
        await requireSame(tx, writer.id);
        const { value, writes } = await runBatch(tx, { ...place, slot: writer.slot }, [change]);
        const outcome = value[0]!;
        // A change that writes nothing still commits what the body wrote.
        return { value: outcome, writes: "ok" in outcome && outcome.ok ? (writes ?? []) : null };
      } catch (error) {
        // The first statement that failed says why, unless its error was caught and came to nothing else.
        if (isSpoiled(error) && sql.failed !== null) throw isAgain(sql.failed) ? sql.failed : new Thrown("", { cause: sql.failed });
        throw error;
      } finally {
        sql.end();
      }
    });
  } catch (error) {
    if (error instanceof Thrown) return { thrown: error.cause };
    throw error;
  }
}

/** The writers of such transactions: few at once, so that connections are left for everything else. Each counts its own commits. */
export class UserWriters {
  readonly #make: () => Writer;
  readonly #free: Writer[] = [];
  readonly #made: Writer[] = [];
  readonly #waiting: ((writer: Writer) => void)[] = [];

  constructor(make: () => Writer) {
    this.#make = make;
  }

  async run<T>(use: (writer: Writer) => Promise<T>): Promise<T> {
    const writer = this.#free.pop() ?? (this.#made.length < LIMITS.postgresTransactions ? this.#one() : await new Promise<Writer>((resolve) => this.#waiting.push(resolve)));
    try {
      return await use(writer);
    } finally {
      const next = this.#waiting.shift();
      if (next) next(writer);
      else this.#free.push(writer);
    }
  }

  #one(): Writer {
    const writer = this.#make();
    this.#made.push(writer);
    return writer;
  }

  async leave(): Promise<void> {
    await Promise.all(this.#made.map((writer) => writer.leave()));
  }
}

type Handle = PostgresHandle & { readonly failed: unknown; end(): void };

async function bodyOf(body: (sql: PostgresHandle) => Change | Promise<Change>, sql: Handle): Promise<Change> {
  try {
    return await body(sql);
  } catch (error) {
    // Only what the server said of this very transaction is a reason to run it again.
    if (error === sql.failed && (isAgain(error) || isSpoiled(error))) throw error;
    throw new Thrown("", { cause: error });
  }
}

function handleOn(tx: Tx): Handle {
  const life = { over: false, failed: null as unknown };
  return {
    get failed() {
      return life.failed;
    },
    end: () => void (life.over = true),
    query: (async (text: string, values: readonly unknown[] = []) => {
      if (life.over) throw new PawlError("closed", "The transaction is over.", { next: "Await every query inside of its function." });
      refuseControl(text);
      try {
        return await tx.query(text, values);
      } catch (error) {
        life.failed = isSpoiled(error) ? (life.failed ?? error) : error;
        throw life.failed;
      }
    }) as PostgresHandle["query"],
  };
}

async function requireSame(tx: Tx, mark: string): Promise<void> {
  const [answer] = await tx.run([{ text: "select current_setting('pawl.transaction', true)" }]);
  if (answer!.rows[0]![0] === mark) return;
  throw new Thrown("", { cause: new PawlError("usage", "The SQL of a transaction ended it: what it wrote may have been kept, and its step was not recorded.", { next: "Leave out commit and rollback; throw to take everything back.", details: { permanent: true } }) });
}

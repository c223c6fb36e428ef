// The one door to `pg`: connections, several statements in one round trip, and what an error means. Invariants: every
// call ends, with an answer or an error, within the time for an answer; a connection on which one did not is thrown away.
//
// A pipeline is one message of statements and one Sync: Postgres runs them in order and stops at the first that fails, so
// a COMMIT at its end is reached only when everything before it succeeded. Outside a transaction it is one by itself.
import pg from "pg";
import type { Clock } from "../../base/clock.ts";
import { messageOf, PawlError } from "../../base/errors.ts";
import { LIMITS } from "../../base/limits.ts";
import { serversOf } from "./url.ts";

export type Statement = { readonly text: string; readonly values?: readonly (string | null)[] };
/** Values as Postgres writes them. */
export type Row = readonly (string | null)[];
export type Answer = { readonly rows: readonly Row[]; readonly count: number };

/** A connection that somebody has for himself. */
export type Link = {
  run(statements: readonly Statement[]): Promise<Answer[]>;
  /** One statement as users of `pg` know them, with its values and rows; on a connection of its own only. */
  query?(text: string, values: readonly unknown[]): Promise<pg.QueryResult>;
  /** Gives it back; `broken` throws it away. */
  release(broken?: boolean): void;
};

/** What a store needs of its connections. */
export type Door = {
  run(statements: readonly Statement[]): Promise<Answer[]>;
  take(answer?: number): Promise<Link>;
  listen(told: (payload: string) => void, ended: () => void): Promise<Link>;
  close(): Promise<void>;
};

/** How long things may take, in ms; tests have less patience. */
export type Times = { readonly connect: number; readonly answer: number; readonly statement: number; readonly lock: number; readonly idle: number; readonly wait: number; readonly patience: number; readonly close: number; readonly poll: number };

export const TIMES: Times = {
  connect: LIMITS.postgresConnectMs, answer: LIMITS.postgresAnswerMs, statement: LIMITS.postgresStatementMs, lock: LIMITS.postgresLockMs,
  idle: LIMITS.postgresIdleMs, wait: LIMITS.lockWaitMs, patience: LIMITS.postgresPatienceMs, close: LIMITS.postgresCloseMs, poll: LIMITS.postgresPollMs,
};

/** Statements parsed once a connection: more shapes than a program has, or they are made by data. */
const SHAPES = 1_000;

type Wire = {
  readonly stream: { cork(): void; uncork(): void; destroy(): void };
  parse(query: { text: string; name: string }): void;
  bind(config: { statement: string; values: readonly (string | null)[] }): void;
  execute(config: object): void;
  sync(): void;
};
type Names = { readonly known: Map<string, string>; next: number; readonly prefix: string };

/** What `pg` asks of a query: it sends itself and takes the messages of its answer. */
class Pipeline {
  readonly #statements: readonly Statement[];
  readonly #names: Names | null;
  readonly #done: (error: unknown, answers: Answer[]) => void;
  readonly #fresh: string[] = [];
  readonly #answers: Answer[] = [];
  #rows: Row[] = [];

  constructor(statements: readonly Statement[], names: Names | null, done: (error: unknown, answers: Answer[]) => void) {
    this.#statements = statements;
    this.#names = names;
    this.#done = done;
  }

  submit(connection: unknown): void {
    const wire = connection as Wire;
    wire.stream.cork();
    try {
      for (const { text, values = [] } of this.#statements) {
        wire.bind({ statement: this.#nameOf(text, wire), values });
        wire.execute({});
      }
      wire.sync();
    } finally {
      wire.stream.uncork();
    }
  }

  handleDataRow({ fields }: { fields: Row }): void {
    this.#rows.push(fields);
  }

  handleCommandComplete({ text }: { text: string }): void {
    this.#answers.push({ rows: this.#rows, count: Number(/\d+$/.exec(text)?.[0] ?? 0) });
    this.#rows = [];
  }

  handleError(error: unknown): void {
    // Which of them the server parsed before it stopped is not known.
    for (const text of this.#fresh) this.#names?.known.delete(text);
    this.#done(error, this.#answers);
  }

  handleReadyForQuery(): void {
    this.#done(null, this.#answers);
  }

  /** Statements are parsed once a connection. A name is used by one connection only, or a pooler could run another's text under it. */
  #nameOf(text: string, wire: Wire): string {
    const known = this.#names?.known.get(text);
    if (known !== undefined) return known;
    const named = this.#names !== null && this.#names.known.size < SHAPES;
    const name = named ? `${this.#names!.prefix}${this.#names!.next++}` : "";
    wire.parse({ text, name });
    if (named) this.#names!.known.set(text, name);
    this.#fresh.push(text);
    return name;
  }
}

/** Where the server warns that somebody ended a commit's wait for the standby; the text of the warning depends on its language. */
const AWAITING = "SyncRepWaitForLSN";
/** On for a standby, and for a server that is only read for now. */
const READ_ONLY: Statement = { text: "select current_setting('transaction_read_only')" };

/** The connections of one store. Of several servers, those to the one that takes writes; it is looked for when it is lost. */
export class Connections implements Door {
  readonly #pools: readonly pg.Pool[];
  readonly #urls: readonly string[];
  readonly #choose: boolean;
  /** Of which server the last connection was. */
  #server = 0;
  /** Connections to a server that was asked and takes writes. */
  readonly #chosen = new WeakSet<object>();
  /** Connections on which a commit stopped waiting for the standby: it succeeds with a warning, and a failover may undo it. */
  readonly #unawaited = new WeakSet<object>();
  readonly #clock: Clock;
  readonly #hex: (bytes: number) => string;
  readonly #times: Times;
  readonly #names = new WeakMap<object, Names>();
  /** Before the state is open, and where a pooler stands between that knows nothing of named statements. */
  #unnamed = true;

  constructor(connection: string, options: { readonly clock: Clock; readonly random: { hex(bytes: number): string } }, times: Times) {
    this.#clock = options.clock;
    this.#hex = (bytes) => options.random.hex(bytes);
    this.#times = times;
    const { urls, choose } = serversOf(connection);
    this.#urls = urls;
    this.#choose = choose;
    this.#pools = urls.map((url) => new pg.Pool({ ...configOf(url, times), max: LIMITS.postgresConnections, idleTimeoutMillis: LIMITS.postgresUnusedMs, connectionTimeoutMillis: times.connect }));
    for (const pool of this.#pools) {
      // An idle connection that ends is simply gone; one in use tells it to whoever uses it.
      pool.on("error", () => undefined);
      pool.on("connect", (client) => {
        client.on("error", () => undefined);
        client.on("notice", ({ routine }) => void (routine === AWAITING && this.#unawaited.add(client)));
      });
    }
  }

  /** From now on what is asked is asked often, by callers who ask again when a pooler has lost its name. */
  nameStatements(): void {
    this.#unnamed = false;
  }

  /** A connection whose answers may take `answer` ms. */
  async take(answer = this.#times.answer): Promise<Link> {
    const client = await this.#connect();
    let given = false;
    return {
      run: (statements) => this.#run(client, statements, answer),
      query: (text, values) => this.#within(client, answer, client.query(text, [...values])),
      release: (broken = false) => {
        if (given) return;
        given = true;
        client.release(broken);
      },
    };
  }

  #connect(): Promise<pg.PoolClient> {
    return this.#atServer(async (server) => {
      const client = await this.#pools[server]!.connect();
      try {
        if (this.#choose && !this.#chosen.has(client)) await this.#requireWrites(client);
      } catch (error) {
        client.release(true);
        throw error;
      }
      this.#chosen.add(client);
      return client;
    });
  }

  /** What `connect` gives for the first server it succeeds at, from the last one on. Fails with what the first said, or with `ENOPRIMARY`. */
  async #atServer<T>(connect: (server: number) => Promise<T>): Promise<T> {
    const said: string[] = [];
    const from = this.#server;
    for (let i = 0; i < this.#urls.length; i++) {
      const server = (from + i) % this.#urls.length;
      try {
        const connected = await connect(server);
        this.#server = server;
        return connected;
      } catch (error) {
        // What is no matter of this server's being away would be the same at the next, or is for people to see.
        if (this.#urls.length === 1 || !isLost(error) || sqlState(error) === "53300") throw error;
        said.push(`${new URL(this.#urls[server]!).host}: ${messageOf(error)}`);
      }
    }
    throw Object.assign(new Error(`no server takes writes (${said.join("; ")})`), { code: "ENOPRIMARY" });
  }

  async #requireWrites(client: pg.ClientBase): Promise<void> {
    const [{ rows }] = (await this.#run(client, [READ_ONLY], this.#times.answer)) as [Answer];
    if (rows[0]![0] !== "off") throw Object.assign(new Error("it takes no writes"), { code: "ENOPRIMARY" });
  }

  /** Answers to statements that stand for themselves, on any connection. */
  async run(statements: readonly Statement[]): Promise<Answer[]> {
    const link = await this.take();
    let broken = true;
    try {
      const answers = await link.run(statements);
      broken = false;
      return answers;
    } catch (error) {
      broken = isLost(error);
      throw error;
    } finally {
      link.release(broken);
    }
  }

  /** A connection beside the pool that is told of notifications; `ended` is called once when it is gone. */
  async listen(told: (payload: string) => void, ended: () => void): Promise<Link> {
    const client = await this.#atServer((server) => this.#listenAt(server, told));
    client.on("end", ended);
    return { run: (statements) => this.#run(client, statements, this.#times.answer), release: () => void client.end().catch(() => undefined) };
  }

  async #listenAt(server: number, told: (payload: string) => void): Promise<pg.Client> {
    const client = new pg.Client(configOf(this.#urls[server]!, this.#times));
    client.on("error", () => undefined);
    client.on("notification", ({ payload }) => told(payload ?? ""));
    try {
      await client.connect();
      // A standby tells nothing.
      if (this.#choose) await this.#requireWrites(client);
      return client;
    } catch (error) {
      client.end().catch(() => undefined);
      throw error;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#pools.map((pool) => pool.end()));
  }

  #run(client: pg.ClientBase, statements: readonly Statement[], answer: number): Promise<Answer[]> {
    return new Promise((resolve, reject) => {
      const stop = this.#clock.timer(answer, () => (client as unknown as { connection: Wire }).connection.stream.destroy(), false);
      const done = (error: unknown, answers: Answer[]) => {
        stop();
        if (!error && this.#unawaited.has(client)) return reject(new Error("the connection stopped waiting for the standby"));
        if (!error) return resolve(answers);
        if (isUnnamed(error)) this.#unnamed = true;
        reject(error);
      };
      client.query(new Pipeline(statements, this.#unnamed ? null : this.#namesOf(client), done) as unknown as pg.Submittable);
    });
  }

  /** The answer, or an error within its time: then the connection is thrown away. */
  #within<T>(client: pg.ClientBase, answer: number, asked: Promise<T>): Promise<T> {
    const stop = this.#clock.timer(answer, () => (client as unknown as { connection: Wire }).connection.stream.destroy(), false);
    return asked.finally(stop);
  }

  #namesOf(client: object): Names {
    let names = this.#names.get(client);
    if (!names) this.#names.set(client, (names = { known: new Map(), next: 0, prefix: `pawl_${this.#hex(6)}_` }));
    return names;
  }
}

function configOf(connection: string, times: Times): pg.ClientConfig {
  return { connectionString: connection, connectionTimeoutMillis: times.connect, keepAlive: true, keepAliveInitialDelayMillis: 10_000, fallback_application_name: "pawl" };
}

/* ---------- errors ---------- */

/** The five characters by which Postgres names an error; null when it did not come from Postgres. */
export function sqlState(error: unknown): string | null {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) && (error as { severity?: unknown }).severity !== undefined ? code : null;
}

const OUTSIDE = new Set(["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND", "EAI_AGAIN", "ENOENT", "ENOPRIMARY"]);

/** The connection is gone, or there was none to be had: a later one may do. */
export function isLost(error: unknown): boolean {
  const state = sqlState(error);
  // 25006: it has become a standby, or is only read for a moment, as in a planned failover.
  if (state !== null) return /^(08|57P0|53300|25006|25P03|25P04)/.test(state);
  if (!(error instanceof Error) || error instanceof PawlError) return false;
  return OUTSIDE.has((error as { code?: string }).code ?? "") || /connection|timeout|terminated|not queryable/i.test(error.message);
}

/** None of several servers takes writes: one of them soon may. */
export const isAway = (error: unknown): boolean => (error as { code?: unknown } | null)?.code === "ENOPRIMARY";

/** Another transaction was in the way: the same again has every chance. */
export const isCollision = (error: unknown): boolean => ["40001", "40P01", "23505", "55P03"].includes(sqlState(error) ?? "") || isUnnamed(error);

/** The statement of a name is not where it was put, or there already: a pooler shares connections among its clients. */
export const isUnnamed = (error: unknown): boolean => ["26000", "42P05"].includes(sqlState(error) ?? "");

/** The data of a change was refused: too long for an index, out of range. */
export const isRefused = (error: unknown): boolean => /^(22|23|54)/.test(sqlState(error) ?? "");

/** What people are told. Never with the cause of a failed parse of the URL, which would hold a password. */
export function explain(error: unknown, location: string): unknown {
  if (error instanceof PawlError) return error;
  const state = sqlState(error);
  const told = (code: "busy" | "storage" | "unsupported" | "value_refused", message: string, next: string) => new PawlError(code, message, { next, details: { location, ...(state === null ? {} : { sqlstate: state }) }, cause: error });
  const said = messageOf(error) || String((error as { code?: unknown }).code ?? error);
  if (state === "53300") return told("busy", `${location} has no connection free: ${said}.`, "Raise max_connections, or put a pooler such as pgbouncer in front of it.");
  if (state === "55P03") return told("busy", `Another transaction on ${location} holds a lock for too long.`, "See which one: select * from pg_stat_activity where wait_event_type = 'Lock'");
  if (state === "57014") return told("busy", `${location} took too long for a statement.`, "See what keeps the server busy: select * from pg_stat_activity");
  if (state?.startsWith("28")) return told("storage", `${location} does not let this user in: ${said}.`, "Check the user, the password and pg_hba.conf.");
  if (state === "3D000") return told("storage", `There is no such database: ${location}.`, "Create it: createdb NAME");
  if (state === "42501") return told("storage", `The role may not do this on ${location}: ${said}.`, "Grant it what docs/postgres.md lists.");
  if (state === "25006") return told("storage", `${location} takes no writes: ${said}.`, "It is a standby, or set to be read only. Use the URL of the primary, or name all servers: postgres://HOST1,HOST2/DATABASE");
  if (state !== null && isRefused(error)) return told("value_refused", `Postgres refused the data of a change: ${said}.`, "See which field is too large or out of range.");
  if (isLost(error)) return told("storage", `${location} cannot be reached: ${said}.`, "Check that the server runs and that the URL is right.");
  if (state !== null) return told("storage", `${location} answered with an error: ${said}.`, "Run: pawl doctor");
  return error;
}

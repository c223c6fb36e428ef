// A schema of its own on the Postgres of the tests, and handles on it that are closed and removed when the test ends.
import type { TestContext } from "node:test";
import pg from "pg";
import { systemClock } from "../../src/base/clock.ts";
import { systemRandom } from "../../src/base/id.ts";
import { conformanceModel } from "../../src/store/conformance/conformance.ts";
import { openPostgres } from "../../src/store/postgres/postgres.ts";
import type { Times } from "../../src/store/postgres/driver.ts";
import type { Model, OpenOptions, Store } from "../../src/store/store.ts";
import { dropSchema, inSchema, newSchema, postgresUrl, query } from "../postgres.ts";

export type Options = Partial<OpenOptions> & { readonly model?: Model; readonly times?: Partial<Times>; readonly port?: number; readonly parameters?: { readonly [name: string]: string } };

export type Place = {
  readonly schema: string;
  readonly url: string;
  open(options?: Options): Promise<Store>;
  /** Statements by somebody else, in this schema. */
  sql(...texts: string[]): Promise<Record<string, unknown>[]>;
  /** A transaction of somebody who takes his time; it is broken off when the test ends. */
  hold(text: string): Promise<pg.Client>;
};

/** A new place on the server at `server`: that of all tests, when none is named. */
export async function newPlace(t: TestContext, server?: string): Promise<Place> {
  const url = server ?? (await postgresUrl());
  const schema = newSchema();
  const stores: Store[] = [];
  const holders: pg.Client[] = [];
  t.after(async () => {
    // First, for nothing can be dropped while somebody holds it.
    await Promise.all(holders.map((client) => client.end()));
    await Promise.all(stores.map((store) => store.close()));
    if (server === undefined) await dropSchema(url, schema);
  });
  const at = (port: number | undefined, parameters: { readonly [name: string]: string } = {}): string => {
    const target = new URL(inSchema(url, schema, parameters));
    if (port !== undefined) target.port = String(port);
    return target.href;
  };
  return {
    schema,
    url: at(undefined),
    open: async ({ model = conformanceModel, times = {}, port, parameters, ...options } = {}) => {
      const store = await openPostgres(at(port, parameters), model, { clock: systemClock, random: systemRandom, ...options }, times);
      stores.push(store);
      return store;
    },
    hold: async (text) => {
      const client = new pg.Client({ connectionString: url });
      holders.push(client);
      await client.connect();
      for (const statement of [`set search_path to ${schema}`, "begin", text]) await client.query(statement);
      return client;
    },
    sql: (...texts) => query(url, `set search_path to ${schema}`, ...texts),
  };
}

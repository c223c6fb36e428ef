// The Postgres server of the tests: the one that PAWL_TEST_PG_URL names (`npm test` starts one for all files), else one that
// this process starts when it is first asked for. Invariant: every place is a schema of its own; on a server that is not ours it
// is dropped at the end.
import { randomBytes } from "node:crypto";
import pg from "pg";
import { startPostgres } from "../scripts/postgres.ts";

let started: Promise<string> | null = null;

/** The URL of the server, without a schema. Processes that are started afterwards find it in their environment. */
export function postgresUrl(): Promise<string> {
  const given = process.env["PAWL_TEST_PG_URL"];
  if (given !== undefined && given !== "") return Promise.resolve(given);
  started ??= startPostgres().then(({ url }) => (process.env["PAWL_TEST_PG_URL"] = url));
  return started;
}

export const newSchema = (): string => `t_${randomBytes(6).toString("hex")}`;

/** The URL of a schema on the server. */
export function inSchema(url: string, schema: string, more: { readonly [name: string]: string } = {}): string {
  const result = new URL(url);
  for (const [name, value] of Object.entries({ schema, ...more })) result.searchParams.set(name, value);
  return result.href;
}

/** Runs statements on a connection of their own, and gives the rows of the last. */
export async function query(url: string, ...texts: string[]): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    let rows: Record<string, unknown>[] = [];
    for (const text of texts) ({ rows } = await client.query<Record<string, unknown>>(text));
    return rows;
  } finally {
    await client.end();
  }
}

/** Takes a schema away; not on a server that ends with the tests, where it takes a third of a small test's time for nothing. */
export async function dropSchema(url: string, schema: string): Promise<void> {
  if (process.env["PAWL_TEST_PG_OURS"] !== "1") await query(url, `drop schema if exists ${schema} cascade`);
}

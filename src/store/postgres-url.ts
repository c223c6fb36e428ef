// Where a Postgres state is: the URL, read once. Invariant: no password leaves this file but inside `connection`, which
// only the driver sees; messages and locations are made of the parts that may be shown.
import { PawlError } from "../base/errors.ts";

export type PostgresPlace = {
  /** For the driver alone: it may hold a password. */
  readonly connection: string;
  readonly schema: string;
  /** Whether commits tell others by NOTIFY; without it they are found by polling. */
  readonly notify: boolean;
  /** For people: no password. */
  readonly location: string;
};

const DEFAULT_SCHEMA = "pawl";
/** Leaves room for a prefix in the 63 bytes of a name, and needs no quotes. */
const SCHEMA = /^[a-z_][a-z0-9_]{0,56}$/;

export const isPostgresUrl = (url: string): boolean => /^postgres(ql)?:\/\//i.test(url);

/** Reads `postgres://user:password@host:port/database?schema=pawl&notify=off`; other parameters go to the driver. Throws `usage`. */
export function readPostgresUrl(text: string): PostgresPlace {
  const url = parse(text);
  const schema = url.searchParams.get("schema") ?? DEFAULT_SCHEMA;
  if (!SCHEMA.test(schema) || schema.startsWith("pg_")) {
    throw new PawlError("usage", `The schema "${schema}" cannot be used.`, { next: "Name one of small letters, digits and _ that does not begin with pg_: ?schema=pawl" });
  }
  const notify = url.searchParams.get("notify") ?? "on";
  if (notify !== "on" && notify !== "off") throw new PawlError("usage", `notify must be on or off, not "${notify}".`, { next: "Write ?notify=off, or leave it out." });
  url.searchParams.delete("schema");
  url.searchParams.delete("notify");
  return { connection: url.href, schema, notify: notify === "on", location: locationOf(url, schema) };
}

/** Without a cause: the error of the parser holds the whole text. */
function parse(text: string): URL {
  try {
    return new URL(text);
  } catch {
    throw new PawlError("usage", "The Postgres URL cannot be read.", { next: "Write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for an @ in the password." });
  }
}

function locationOf(url: URL, schema: string): string {
  const user = url.username === "" ? "" : `${url.username}@`;
  const socket = url.searchParams.get("host");
  const parameters = [...(socket === null ? [] : [`host=${socket}`]), ...(schema === DEFAULT_SCHEMA ? [] : [`schema=${schema}`])];
  return `postgres://${user}${url.host}${url.pathname}${parameters.length > 0 ? `?${parameters.join("&")}` : ""}`;
}

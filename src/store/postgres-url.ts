// Where a Postgres state is: the URL, read once. Invariant: no password leaves this file but inside `connection`, which
// only the driver sees; messages and locations are made of the parts that may be shown.
import { isPostgresUrl } from "../base/address.ts";
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
/** Parameters that hold a password. */
const SECRET = ["password"];
/** Those that say where it is and how it is reached; what else the driver takes need not be in a note that others follow. */
const SHOWN = ["host", "sslmode"];
/** The one parameter of several servers: what a session is wanted for. Both words of libpq that mean a server that takes writes. */
const SESSION = "target_session_attrs";
const WRITING = ["read-write", "primary"];
/** Parameters of Pawl, and those that pg reads or that libpq has: an address that works for one of them works here. */
const OWN = ["schema", "notify"];
const DRIVER = [
  "host", "port", "user", "password", "database", "db", "encoding", "client_encoding", "application_name", "fallback_application_name", "options", "replication", "binary", SESSION,
  "ssl", "sslmode", "sslcert", "sslkey", "sslrootcert", "sslca", "sslnegotiation", "sslpassword", "sslcrl", "sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version", "uselibpqcompat", "channel_binding", "require_auth", "gssencmode", "krbsrvname",
  "connect_timeout", "statement_timeout", "lock_timeout", "query_timeout", "idle_in_transaction_session_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "load_balance_hosts", "hostaddr", "passfile", "service",
];
/** Up to the servers, the servers, the rest. */
const PARTS = /^(postgres(?:ql)?:\/\/(?:[^/?#]*@)?)([^/?#]*)(.*)$/is;
/** Leaves room for a prefix in the 63 bytes of a name, and needs no quotes. */
const SCHEMA = /^[a-z_][a-z0-9_]{0,56}$/;

/**
 * Reads `postgres://user:password@host:port/database?schema=pawl&notify=off`; other parameters go to the driver. Several
 * servers, as libpq writes them: `host1:port1,host2:port2`. Throws `usage`.
 */
export function readPostgresUrl(text: string): PostgresPlace {
  const { url, servers } = parse(text);
  checkParameters(url);
  const schema = url.searchParams.get("schema") ?? DEFAULT_SCHEMA;
  if (!SCHEMA.test(schema) || schema.startsWith("pg_")) {
    throw new PawlError("usage", `The schema "${schema}" cannot be used.`, { next: "Name one of small letters, digits and _ that does not begin with pg_: ?schema=pawl" });
  }
  const notify = url.searchParams.get("notify") ?? "on";
  if (notify !== "on" && notify !== "off") throw new PawlError("usage", `notify must be on or off, not "${notify}".`, { next: "Write ?notify=off, or leave it out." });
  const session = url.searchParams.get(SESSION) ?? WRITING[0]!;
  if (!WRITING.includes(session)) throw new PawlError("usage", `${SESSION} must be read-write, not "${session}".`, { next: "Leave it out: of several servers the one that takes writes is used, for reads as well." });
  url.searchParams.delete("schema");
  url.searchParams.delete("notify");
  return { connection: withServers(url.href, servers), schema, notify: notify === "on", location: locationOf(url, servers, schema) };
}

/** A misspelled one would be another state, or another way there, without a word. */
function checkParameters(url: URL): void {
  const unknown = [...url.searchParams.keys()].find((name) => !OWN.includes(name) && !DRIVER.includes(name));
  if (unknown === undefined) return;
  // A name that is none may be the rest of a password with a question mark in it.
  const shown = /^\w{1,40}$/.test(unknown) ? `"${unknown}"` : "of that name";
  throw new PawlError("usage", `A Postgres URL has no parameter ${shown}.`, { next: `It has ${OWN.join(" and ")}, and those of the connection: ${DRIVER.join(", ")}.` });
}

/** The servers of a `connection`, a URL for each. `choose`: only one that takes writes will do, so each is asked. */
export function serversOf(connection: string): { readonly urls: readonly string[]; readonly choose: boolean } {
  const { url, servers } = parse(connection);
  const choose = servers.length > 1 || url.searchParams.has(SESSION);
  url.searchParams.delete(SESSION);
  return { urls: servers.map((server) => withServers(url.href, [server])), choose };
}

/** The location of a state, with the password of `url` where both name one user on one server; else the location as it is. */
export function withPasswordOf(url: string, location: string): string {
  if (!isPostgresUrl(url) || !isPostgresUrl(location)) return location;
  const [{ url: known, servers }, { url: wanted, servers: others }] = [parse(url), parse(location)];
  const same = servers.join() === others.join() && known.username === wanted.username && known.searchParams.get("host") === wanted.searchParams.get("host");
  if (!same) return location;
  wanted.password = known.password;
  for (const name of SECRET) if (known.searchParams.has(name)) wanted.searchParams.set(name, known.searchParams.get(name)!);
  return withServers(wanted.href, others);
}

/** The URL with the first of its servers, and all of them. Without a cause: the error of the parser holds the whole text. */
function parse(text: string): { readonly url: URL; readonly servers: readonly string[] } {
  try {
    const servers = (PARTS.exec(text)?.[2] ?? "").split(",");
    const urls = servers.map((server) => new URL(withServers(text, [server])));
    return { url: urls[0]!, servers: urls.map(({ host }) => host) };
  } catch {
    throw new PawlError("usage", "The Postgres URL cannot be read.", { next: "Write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for an @ in the password." });
  }
}

function withServers(text: string, servers: readonly string[]): string {
  return text.replace(PARTS, (_, before: string, __: string, after: string) => `${before}${servers.join(",")}${after}`);
}

function locationOf(url: URL, servers: readonly string[], schema: string): string {
  const user = url.username === "" ? "" : `${url.username}@`;
  const shown = SHOWN.flatMap((name) => (url.searchParams.has(name) ? [`${name}=${url.searchParams.get(name)}`] : []));
  const parameters = [...shown, ...(schema === DEFAULT_SCHEMA ? [] : [`schema=${schema}`])];
  return `postgres://${user}${servers.join(",")}${url.pathname}${parameters.length > 0 ? `?${parameters.join("&")}` : ""}`;
}

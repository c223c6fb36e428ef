// Where a Postgres state is: the URL, read once. Invariant: no password leaves this file but inside `connection`, which
// only the driver sees; messages and locations are made of the parts that may be shown.
import { isPostgresUrl, SECRET_PARAMETERS } from "../../base/address.ts";
import { PawlError } from "../../base/errors.ts";

export type PostgresPlace = {
  /** For the driver alone: it may hold a password. */
  readonly connection: string;
  readonly schema: string;
  /** Whether commits tell others by NOTIFY; without it they are found by polling. */
  readonly notify: boolean;
  /** For people: no password. */
  readonly location: string;
  /** One line for people about parameters that mean nothing here. */
  readonly notice: string | null;
};

const DEFAULT_SCHEMA = "pawl";
/** Those that say where it is and how it is reached; what else the driver takes need not be in a note that others follow. */
const SHOWN = ["host", "sslmode"];
/** The one parameter of several servers: what a session is wanted for. Both words of libpq that mean a server that takes writes. */
const SESSION = "target_session_attrs";
const WRITING = ["read-write", "primary"];
/** Parameters of Pawl, and those that pg reads or that libpq of Postgres 18 has: an address that works for one of them works here. */
const OWN = ["schema", "notify"];
const DRIVER = [
  "host", "port", "user", "password", "database", "db", "encoding", "client_encoding", "application_name", "fallback_application_name", "options", "replication", "binary", SESSION,
  "ssl", "sslmode", "sslcert", "sslkey", "sslcertmode", "sslrootcert", "sslca", "sslnegotiation", "sslpassword", "sslcompression", "sslcrl", "sslcrldir", "sslsni", "sslkeylogfile", "ssl_min_protocol_version", "ssl_max_protocol_version", "uselibpqcompat",
  "channel_binding", "require_auth", "requirepeer", "min_protocol_version", "max_protocol_version", "gssencmode", "gsslib", "gssdelegation", "krbsrvname", "scram_client_key", "scram_server_key", "oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope",
  "connect_timeout", "statement_timeout", "lock_timeout", "query_timeout", "idle_in_transaction_session_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "load_balance_hosts", "hostaddr", "passfile", "service",
];
/** libpq's for what pg reads from the path alone: left out, it would be another database. */
const DATABASE = "dbname";
/** A name this near to one of ours, and with a letter of it, is a misspelling of it. */
const NEAR = 2;
/** Up to the servers, the servers, the rest. */
const PARTS = /^(postgres(?:ql)?:\/\/(?:[^/?#]*@)?)([^/?#]*)(.*)$/is;
/** Leaves room for a prefix in the 63 bytes of a name, and needs no quotes. */
const SCHEMA = /^[a-z_][a-z0-9_]{0,56}$/;

/**
 * Reads `postgres://user:password@host:port/database?schema=pawl&notify=off`; other parameters go to the driver, but for
 * those that are of no use to it. Several
 * servers, as libpq writes them: `host1:port1,host2:port2`. Throws `usage`.
 */
export function readPostgresUrl(text: string): PostgresPlace {
  const { url, servers } = parse(text);
  const unknown = unknownParameters(url);
  const schema = url.searchParams.get("schema") ?? DEFAULT_SCHEMA;
  if (!SCHEMA.test(schema) || schema.startsWith("pg_")) {
    throw new PawlError("usage", `The schema "${schema}" cannot be used.`, { next: "Name one of small letters, digits and _ that does not begin with pg_: ?schema=pawl" });
  }
  const notify = url.searchParams.get("notify") ?? "on";
  if (notify !== "on" && notify !== "off") throw new PawlError("usage", `notify must be on or off, not "${notify}".`, { next: "Write ?notify=off, or leave it out." });
  const session = url.searchParams.get(SESSION) ?? WRITING[0]!;
  if (!WRITING.includes(session)) throw new PawlError("usage", `${SESSION} must be read-write, not "${session}".`, { next: "Leave it out: of several servers the one that takes writes is used, for reads as well." });
  for (const name of [...OWN, ...unknown]) url.searchParams.delete(name);
  return { connection: withServers(url.href, servers), schema, notify: notify === "on", location: locationOf(url, servers, schema), notice: unknown.length === 0 ? null : `These parameters of the Postgres URL mean nothing here: ${unknown.join(", ")}.` };
}

/**
 * Names of parameters for others: a pooler, a framework. A misspelled one of ours would be another state, or another way there,
 * without a word: refused.
 */
function unknownParameters(url: URL): readonly string[] {
  const unknown = [...new Set(url.searchParams.keys())].filter((name) => !OWN.includes(name) && !DRIVER.includes(name));
  // What is no name may be the rest of a password with a question mark in it, and so may be all that stands before its @.
  if (unknown.length > 0 && (url.search.includes("@") || unknown.some((name) => !/^[\w.-]{1,40}$/.test(name)))) refuse("of that name", "Write %3F for a ? in the password, and %40 for an @.");
  if (unknown.includes(DATABASE)) refuse(`"${DATABASE}"`, "Write the database behind the host: postgres://HOST/DATABASE.");
  for (const name of unknown) {
    const meant = [...OWN, ...DRIVER].find((ours) => distance(name.toLowerCase(), ours) <= Math.min(NEAR, ours.length - 1));
    if (meant !== undefined) refuse(`"${name}"`, `Write ${meant}, or leave it out.`);
  }
  return unknown;
}

function refuse(named: string, helps: string): never {
  throw new PawlError("usage", `A Postgres URL has no parameter ${named}.`, { next: `${helps} It has ${OWN.join(" and ")}, and those of the connection: ${DRIVER.join(", ")}.` });
}

/** How many letters must be put in, left out or replaced to make one of the other (Levenshtein). */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, k) => k);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let k = 1; k <= other.length; k++) next.push(Math.min(row[k]! + 1, next[k - 1]! + 1, row[k - 1]! + (one[i - 1] === other[k - 1] ? 0 : 1)));
    row = next;
  }
  return row[other.length]!;
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
  for (const name of SECRET_PARAMETERS) if (known.searchParams.has(name)) wanted.searchParams.set(name, known.searchParams.get(name)!);
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

// What names a place for a state, before anything is opened there: a path, a Postgres URL, `:memory:`. Invariant: what looks like
// an address of something else, or like one with quotes around it, is refused and never made a folder of; no message holds what
// may be a password.
import { PawlError } from "./errors.ts";

const POSTGRES = ["postgres", "postgresql", "pg", "psql"];
const FILES = ["file", "json", "sqlite", "sqlite3"];
/** Said without a slash behind them, they are meant as kinds of stores all the same. */
const KNOWN = [...POSTGRES, ...FILES, "jdbc", "libsql", "mariadb", "mongodb", "mysql", "redis"];

/** Parameters of a Postgres URL that hold a password, or what stands in for one. */
export const SECRET_PARAMETERS = ["password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"];

export const isPostgresUrl = (text: string): boolean => /^postgres(ql)?:\/\//i.test(text);

/** What files of settings, shells and messages leave before an address. */
const BEFORE = /^[\s"'`<\u2018-\u201f]+/;
/** Behind other words: `url = "postgres://…"`, `psql 'postgres://…'`. */
const INSIDE = /[\s"'`<=\u2018-\u201f]postgres(ql)?:\/\//i;

/** Throws `usage` for `word:` with a path behind it. A file of such a name is `./word:…`; a drive of Windows has one letter. */
export function checkAddress(text: string): void {
  if (isPostgresUrl(text)) return;
  const bare = text.replace(BEFORE, "");
  const wrong = addressIn(bare);
  if (INSIDE.test(text) || (bare !== text && (wrong !== null || bare.startsWith(":memory:")))) {
    throw new PawlError("usage", "A state cannot be at an address with other text before it.", { next: "Write it without quotes or blanks around it." });
  }
  if (wrong === null) return;
  const { scheme, rest } = wrong;
  throw new PawlError("usage", `A state cannot be at "${scheme}:${rest.startsWith("//") ? "//" : ""}…".`, { next: spelling(scheme, rest) });
}

/** The address of something else that the text is. */
function addressIn(text: string): { readonly scheme: string; readonly rest: string } | null {
  const [, word, rest = ""] = /^([a-z][a-z0-9+.-]+):(.*)$/is.exec(text) ?? [];
  if (word === undefined || isPostgresUrl(text)) return null;
  const scheme = word.toLowerCase();
  return rest.startsWith("/") || KNOWN.includes(scheme) ? { scheme, rest } : null;
}

function spelling(scheme: string, rest: string): string {
  if (POSTGRES.includes(scheme)) return "Write postgres://USER:PASSWORD@HOST:PORT/DATABASE.";
  const path = rest.replace(/^\/\/(?=\/|[^/])/, "");
  if (FILES.includes(scheme) && /^[^@?#:]+$/.test(path)) return `Write the path alone: ${path}${/\.(json|db|sqlite3?)$/i.test(path) ? "" : " (ending in .json or .db)"}. A file in a folder of that name: ./${scheme}:…`;
  return "Use a path ending in .json or .db, or postgres://HOST/DATABASE. A file whose name has a colon: ./NAME";
}

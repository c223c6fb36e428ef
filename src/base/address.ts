// What names a place for a state, before anything is opened there: a path, a Postgres URL, `:memory:`. Invariant: what looks like
// an address of something else is refused and never made a folder of; no message holds what may be a password.
import { PawlError } from "./errors.ts";

const POSTGRES = ["postgres", "postgresql", "pg", "psql"];
const FILES = ["file", "json", "sqlite", "sqlite3"];
/** Said without a slash behind them, they are meant as kinds of stores all the same. */
const KNOWN = [...POSTGRES, ...FILES, "jdbc", "libsql", "mariadb", "mongodb", "mysql", "redis"];

export const isPostgresUrl = (text: string): boolean => /^postgres(ql)?:\/\//i.test(text);

/** Throws `usage` for `word:` with a path behind it. A file of such a name is `./word:…`; a drive of Windows has one letter. */
export function checkAddress(text: string): void {
  const [, word, rest] = /^([a-z][a-z0-9+.-]+):(.*)$/is.exec(text) ?? [];
  if (word === undefined || isPostgresUrl(text)) return;
  const scheme = word.toLowerCase();
  if (!rest!.startsWith("/") && !KNOWN.includes(scheme)) return;
  throw new PawlError("usage", `A state cannot be at "${scheme}:${rest!.startsWith("//") ? "//" : ""}…".`, { next: spelling(scheme, rest!) });
}

function spelling(scheme: string, rest: string): string {
  if (POSTGRES.includes(scheme)) return "Write postgres://USER:PASSWORD@HOST:PORT/DATABASE.";
  const path = rest.replace(/^\/\/(?=\/|[^/])/, "");
  if (FILES.includes(scheme) && /^[^@?#]+$/.test(path)) return `Write the path alone: ${path}${/\.(json|db|sqlite3?)$/i.test(path) ? "" : " (ending in .json or .db)"}. A file in a folder of that name: ./${scheme}:…`;
  return "Use a path ending in .json or .db, or postgres://HOST/DATABASE. A file whose name has a colon: ./NAME";
}

// Where the state of a command is: named by flag or environment, else the nearest one upward, else where it would be made.
// Invariant: a state that another user left in a folder above is never picked up, because a batch in it may name commands.
import { existsSync, lstatSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { checkAddress, isPostgresUrl, SECRET_PARAMETERS } from "../base/address.ts";
import { PawlError } from "../base/errors.ts";
import type { Io } from "./io.ts";

export type Place = {
  /** An absolute path, or a URL. */
  readonly url: string;
  readonly exists: boolean;
};

const FOLDER = ".pawl";
/** In the order of preference. */
const FILES = ["state.json", "state.db"];

/** The state that `--state` or PAWL_STATE names, else the nearest `.pawl/state.json` or `.pawl/state.db` upward from the caller. */
export function locate(io: Pick<Io, "env" | "cwd">, flag: string | undefined): Place {
  if (flag?.trim() === "") throw new PawlError("usage", "--state is empty.", { next: "Use a path ending in .json or .db." });
  const named = flag ?? (io.env["PAWL_STATE"] || undefined);
  if (named === undefined) return nearest(io.cwd) ?? { url: join(io.cwd, FOLDER, FILES[0]!), exists: false };
  // Whether a database is there, only connecting tells.
  checkAddress(named);
  if (isPostgresUrl(named) || named === ":memory:") return { url: named, exists: true };
  const path = resolve(io.cwd, named);
  return { url: path, exists: isThere(path) };
}

/** True of a URL with a password in it, and of one that cannot be read. */
export function holdsPassword(text: string): boolean {
  if (!isPostgresUrl(text)) return false;
  const url = URL.parse(text);
  return url === null || url.password !== "" || SECRET_PARAMETERS.some((name) => url.searchParams.has(name));
}

/** A URL as it may be printed: without its password. What cannot be read is not shown. */
export function shownUrl(text: string): string {
  if (!/^[a-z][a-z0-9+.-]+:\/\//i.test(text)) return text;
  try {
    const url = new URL(text);
    url.password = "";
    for (const name of SECRET_PARAMETERS) url.searchParams.delete(name);
    return url.href;
  } catch {
    return `${text.slice(0, text.indexOf("://"))}://…`;
  }
}

function nearest(cwd: string): Place | null {
  const file = findUpward(cwd, FILES);
  return file === null ? null : { url: file, exists: true };
}

/** The path of the first of these files in the nearest `.pawl` that has one, upward from `cwd`. Folders of strangers are passed over. */
export function findUpward(cwd: string, names: readonly string[]): string | null {
  for (let folder = cwd; ; folder = dirname(folder)) {
    const file = names.map((name) => join(folder, FOLDER, name)).find(isThere);
    if (file !== undefined && (folder === cwd || isOurs(join(folder, FOLDER), cwd))) return file;
    if (dirname(folder) === folder) return null;
  }
}

/** The journal is the truth: with its view deleted, a JSON state is still there. */
function isThere(path: string): boolean {
  // A link that leads nowhere is there, too: whoever opens it says so.
  return existsSync(path) || isLink(path) || existsSync(join(`${path}.pawl`, "journal"));
}

function isLink(path: string): boolean {
  try {
    return lstatSync(path).isSymbolicLink();
  } catch {
    return false;
  }
}

/** Owned by this user, by root, or by the owner of the folder we stand in (a container's root in a mounted checkout). */
function isOurs(folder: string, cwd: string): boolean {
  const me = process.getuid?.();
  if (me === undefined) return true;
  return [me, 0, statSync(cwd).uid].includes(statSync(folder).uid);
}

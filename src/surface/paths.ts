// Paths that come from outside, kept within one folder: links are followed before it is said where they lead. Invariant: what
// comes back lies in the folder, whatever the text says and whatever stands on the disk.
import { lstatSync, realpathSync } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { PawlError } from "../base/errors.ts";
import { codeOf } from "../base/fs.ts";
import type { Params } from "../base/params.ts";

/** Names that a system takes for a device, wherever they stand. */
const DEVICE = /^(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?:\.|$)/i;

/** The absolute path of `path` in the folder `root`; throws `usage` for one that leaves it, or that no file can have everywhere. */
export function confine(root: string, path: string): string {
  const bad = badPath(path);
  if (bad !== null) throw refused(path, bad);
  const real = realpathSync(root);
  const file = resolve(real, path);
  if (!isIn(real, file) || !isIn(real, realPath(file))) throw refused(path, "it leads out of the folder");
  return file;
}

function badPath(path: string): string | null {
  if (path === "" || path.length > 4096) return "it is empty or too long";
  if (/[\u0000-\u001f\u007f]/.test(path)) return "it holds a control character";
  if (path.includes("\\")) return "it holds a backslash";
  if (path.startsWith("/") || path.startsWith("~") || path.startsWith("-")) return "it does not begin with a name in the folder";
  if (path.includes(":")) return "it holds a colon";
  const parts = path.split("/");
  if (parts.includes("..")) return "it goes upward";
  if (parts.some((part) => DEVICE.test(part))) return "it names a device";
  if (parts.some((part) => part !== "." && /[. ]$/.test(part))) return "a part of it ends in a dot or a space";
  return null;
}

function isIn(root: string, file: string): boolean {
  const way = relative(root, file);
  return way === "" || (!way.startsWith("..") && !way.startsWith(sep) && resolve(root, way) === file);
}

/** Where a path leads with every link followed; what does not exist yet is where its folder is. */
function realPath(file: string): string {
  try {
    return realpathSync(file);
  } catch (error) {
    // A link that leads nowhere would be followed by whoever writes there.
    if (codeOf(error) !== "ENOENT" || lstatSync(file, { throwIfNoEntry: false })) throw refused(file, "it leads nowhere", error);
    return dirname(file) === file ? file : join(realPath(dirname(file)), basename(file));
  }
}

function refused(path: string, why: string, cause?: unknown): PawlError {
  return new PawlError("usage", `The path ${JSON.stringify(path.slice(0, 80))} is not taken: ${why}.`, { next: "Name a file in the folder in which the server was started.", cause });
}

/** The input with every path in it confined to `root`: whoever calls from outside reaches the files of one folder only. */
export function confinePaths(params: Params, input: { readonly [name: string]: unknown }, root: string): { readonly [name: string]: unknown } {
  const paths = Object.keys(params).filter((name) => params[name]!.path && typeof input[name] === "string");
  return paths.length === 0 ? input : { ...input, ...Object.fromEntries(paths.map((name) => [name, confine(root, input[name] as string)])) };
}

// Optional packages, loaded when something first needs them: a state without agents starts as fast as ever. Invariant: one
// that is missing is named, with the command that installs it.
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { PawlError } from "../base/errors.ts";

/** Loads a package from beside Pawl, or from the current folder's project. `usage` when it is in neither. */
export async function loadPeer(name: string, what: string): Promise<{ readonly [name: string]: unknown }> {
  try {
    return (await import(name)) as { [name: string]: unknown };
  } catch (error) {
    if (!isMissing(error, name)) throw error;
  }
  try {
    const path = createRequire(join(process.cwd(), "package.json")).resolve(name);
    return (await import(pathToFileURL(path).href)) as { [name: string]: unknown };
  } catch (error) {
    if (!isMissing(error, name)) throw error;
    throw new PawlError("usage", `${what} needs the package ${name}, which is not installed.`, { next: `npm install ai ${name === "ai" ? "" : name}`.trimEnd() });
  }
}

function isMissing(error: unknown, name: string): boolean {
  const { code, message } = error as { code?: string; message?: string };
  return (code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND") && message !== undefined && message.includes(name);
}

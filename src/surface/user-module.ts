// Modules of the user: what `pawl worker` works with and `pawl run --tools` gives to a model. Invariant: whatever is wrong with
// a module is said with its file and what to do, before anything is claimed.
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { messageOf, PawlError } from "../base/errors.ts";

/** The default export of the module at `path` (resolved from `cwd`); `usage` when it cannot be loaded or has none, with `example` as what one looks like. */
export async function loadDefault(path: string, cwd: string, what: string, example: string): Promise<unknown> {
  const file = resolve(cwd, path);
  let module: { readonly default?: unknown };
  try {
    module = (await import(pathToFileURL(file).href)) as typeof module;
  } catch (error) {
    throw new PawlError("usage", `The ${what} ${file} cannot be loaded: ${messageOf(error)}`, { next: remedy(error, file), cause: error });
  }
  if (module.default === undefined) throw new PawlError("usage", `The ${what} ${file} has no default export.`, { next: example });
  return module.default;
}

function remedy(error: unknown, file: string): string {
  if (/outside a module|Unexpected token 'export'/.test(messageOf(error))) return `It must be an ES module: name it .mts or .mjs, or put "type": "module" into package.json.`;
  // Node keeps the line of a syntax error for its own printing.
  if (error instanceof SyntaxError) return `See the line with: node ${file}`;
  return "Check its path, and what it imports.";
}

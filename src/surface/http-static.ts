// The files of the dashboard, from one folder that is built into the package. Invariant: no path leads out of that folder,
// and only files whose type is known are given.
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { isPawlError } from "../base/errors.ts";
import { codeOf } from "../base/fs.ts";
import { confine } from "./paths.ts";

/** Where the dashboard is built to, seen from the sources and from the package. */
export const WEB_FOLDER = fileURLToPath(new URL("../../dist/web", import.meta.url));

const TYPES: { readonly [extension: string]: string } = {
  ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png",
  ".ico": "image/x-icon", ".woff2": "font/woff2", ".json": "application/json; charset=utf-8", ".webmanifest": "application/manifest+json", ".txt": "text/plain; charset=utf-8",
};

export type Found = { readonly status: 200 | 404; readonly type: string; readonly body: Uint8Array | string; readonly cache: string };

const EMPTY = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Pawl</title>
<h1>Pawl</h1>
<p>The dashboard is not built in this checkout. Build it with <code>npm run build</code> and load this page again.</p>
<p>Everything it shows is at <a href="/api">/api</a> (with the token), and on the command line: <code>pawl status</code>.</p>
</html>
`;

/** What the path of a request gives. A page of the dashboard that has an address of its own is index.html. */
export async function staticFile(folder: string, path: string): Promise<Found> {
  const missing: Found = { status: 404, type: "text/plain; charset=utf-8", body: "There is nothing here.\n", cache: "no-store" };
  let name: string;
  try {
    name = decodeURIComponent(path).replace(/^\//, "");
  } catch {
    return missing;
  }
  const page = name === "" || extname(name) === "";
  const type = TYPES[page ? ".html" : extname(name)];
  if (type === undefined || (page && /[^A-Za-z0-9/_.-]/.test(name))) return missing;
  const body = await read(folder, page ? "index.html" : name);
  if (body === null) return page ? { status: 200, type, body: EMPTY, cache: "no-store" } : missing;
  // Built files have the hash of their content in their names.
  return { status: 200, type, body, cache: name.startsWith("assets/") ? "public, max-age=31536000, immutable" : "no-cache" };
}

async function read(folder: string, name: string): Promise<Uint8Array | null> {
  try {
    return await readFile(confine(folder, name));
  } catch (error) {
    if (isPawlError(error, "usage") || ["ENOENT", "EISDIR", "ENOTDIR"].includes(codeOf(error) ?? "")) return null;
    throw error;
  }
}

// The token without which no local server of Pawl answers: random, kept in a file that only its owner can read, the same at
// every start. Invariant: a token that others could have read or put there is never used.
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { PawlError } from "../base/errors.ts";
import { makeFolders, nodeFs, readWhole } from "../base/fs.ts";

const TOKEN = /^[0-9a-f]{64}$/;

/** Where the token of a state is: beside a file; in a folder of the user for a database elsewhere. */
export function tokenPath(location: string, env: NodeJS.ProcessEnv): string {
  if (!/^[a-z][a-z0-9+.-]+:\/\//i.test(location)) return join(`${location}.pawl`, "token");
  const name = createHash("sha256").update(location).digest("hex").slice(0, 32);
  return join(env["XDG_RUNTIME_DIR"] || tmpdir(), `pawl-${process.getuid?.() ?? "user"}`, "tokens", name);
}

/** The token in the file at `path`, made when there is none. Throws `usage` when it is not the caller's alone. */
export function tokenAt(path: string): string {
  makeFolders(dirname(path), 0o700);
  const stat = nodeFs.lstat(path);
  if (stat === null) return makeToken(path);
  if (!stat.isFile()) throw unsafe(path, "it is not a regular file");
  if (process.getuid && stat.uid !== process.getuid()) throw unsafe(path, "it belongs to another user");
  if (process.platform !== "win32" && (stat.mode & 0o077) !== 0) throw unsafe(path, "others can read it");
  const text = readWhole(nodeFs, path)?.toString("latin1").trim() ?? "";
  if (!TOKEN.test(text)) throw unsafe(path, "it does not hold a token");
  return text;
}

function makeToken(path: string): string {
  const token = randomBytes(32).toString("hex");
  // Written under another name and linked: whoever comes second finds a whole one.
  const temp = `${path}.${randomBytes(6).toString("hex")}`;
  const fd = nodeFs.open(temp, "create", 0o600);
  try {
    nodeFs.write(fd, Buffer.from(`${token}\n`), 0, token.length + 1);
    nodeFs.fsync(fd);
  } finally {
    nodeFs.close(fd);
  }
  try {
    nodeFs.link(temp, path);
    return token;
  } catch (error) {
    if (nodeFs.lstat(path) === null) throw error;
    return tokenAt(path);
  } finally {
    nodeFs.unlink(temp);
  }
}

function unsafe(path: string, why: string): PawlError {
  return new PawlError("usage", `The token file ${path} is not used: ${why}.`, { next: `Remove it (rm ${path}); a new one is made at the next start.` });
}

/** Whether two secrets are the same, in a time that says nothing of where they differ. */
export function sameSecret(given: string, wanted: string): boolean {
  const hash = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(hash(given), hash(wanted));
}

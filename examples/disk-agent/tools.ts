// The tools of the disk agent, on a sandbox of its own: nothing outside the folder `sandbox` is ever read or removed. Deleting is
// declared `once` with a check, so a crash between the deletion and its record is looked into instead of guessed about.
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { z } from "zod";
import type { Tools } from "../../src/index.ts"; // in your project: from "pawl"

const SANDBOX = resolve("sandbox");
const QUOTA = 1_000_000;

/** A disk that is nearly full of old logs; made once. */
export function fillSandbox(): void {
  if (existsSync(SANDBOX)) return;
  mkdirSync(join(SANDBOX, "var/log"), { recursive: true });
  mkdirSync(join(SANDBOX, "home"));
  for (let day = 1; day <= 6; day++) writeFileSync(join(SANDBOX, `var/log/app-2026-01-0${day}.log`), "a line of an old log\n".repeat(6_000));
  writeFileSync(join(SANDBOX, "var/log/app.log"), "a line of today's log\n".repeat(500));
  writeFileSync(join(SANDBOX, "home/thesis.txt"), "years of work\n".repeat(10_000));
}

type Entry = { readonly path: string; readonly bytes: number };

function filesIn(folder: string): Entry[] {
  const names = readdirSync(join(SANDBOX, folder), { recursive: true, encoding: "utf8" }).map((name) => join(folder, name));
  return names.map((path) => ({ path, stat: statSync(join(SANDBOX, path)) })).flatMap(({ path, stat }) => (stat.isFile() ? [{ path, bytes: stat.size }] : []));
}

/** Where a path of the model leads, if it is a log in the sandbox. */
function logAt(path: string): string {
  const file = resolve(SANDBOX, path);
  if (!file.startsWith(join(SANDBOX, "var/log/")) || !file.endsWith(".log")) throw new Error(`${path} is not a log of var/log`);
  return file;
}

const pathsOfLogs = z.object({ paths: z.array(z.string()).min(1).describe("logs to delete, such as var/log/app-2026-01-01.log") });
type Paths = z.infer<typeof pathsOfLogs>;

export const tools: Tools = {
  check_disk: {
    description: "How full the disk is, and which folders use it",
    risk: "read_only",
    execute: () => {
      const used = filesIn(".").reduce((sum, { bytes }) => sum + bytes, 0);
      const folders = ["var/log", "home"].map((folder) => ({ folder, bytes: filesIn(folder).reduce((sum, { bytes }) => sum + bytes, 0) }));
      return { used_percent: Math.round((100 * used) / QUOTA), critical: used > 0.9 * QUOTA, folders };
    },
  },
  list_logs: { description: "The logs, with their sizes", risk: "read_only", execute: () => filesIn("var/log") },
  delete_logs: {
    description: "Deletes logs for good",
    inputSchema: pathsOfLogs,
    risk: "write_local",
    effect: "once",
    check: ({ paths }: Paths) => (paths.some((path) => existsSync(logAt(path))) ? { done: false } : { done: true, output: { deleted: paths } }),
    execute: ({ paths }: Paths) => {
      for (const file of paths.map(logAt)) rmSync(file, { force: true });
      return { deleted: paths };
    },
  },
};

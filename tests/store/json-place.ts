// What the tests of the JSON store stand on: a small model, a folder of its own for each test, a disk that can be made to
// fail or to be interfered with at any call, and child processes.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { type FileSystem, nodeFs } from "../../src/base/fs.ts";
import { systemRandom } from "../../src/base/id.ts";
import { type JsonOptions, openJson } from "../../src/store/json/json.ts";
import type { Change, Model, Put, Rec, Store } from "../../src/store/store.ts";

export const model: Model = {
  kinds: [
    { name: "item", fields: { id: "integer", title: "text", data: "json" }, key: ["id"], assign: "", indexes: { title: { fields: ["title"] } } },
    { name: "counter", fields: { id: "text", n: "integer" }, key: ["id"], indexes: {} },
    { name: "op", fields: { id: "text", at: "text" }, key: ["id"], indexes: {} },
  ],
  seal: (_, record) => record,
};

/** The same, with a document for people. */
export const viewed: Model = { ...model, view: (all) => ({ items: [...all("item")], counters: [...all("counter")] }) };

export type Place = { readonly folder: string; readonly file: string; readonly dir: string; readonly notices: string[]; open(options?: Partial<JsonOptions>, as?: Model): Promise<Store> };

/** A place that is removed after the test; stores opened through it are closed. */
export function placeFor(t: TestContext): Place {
  const folder = mkdtempSync(join(tmpdir(), "pawl-json-"));
  const file = join(folder, "state.json");
  const notices: string[] = [];
  const stores: Store[] = [];
  t.after(async () => {
    for (const store of stores) await store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const open = async (options: Partial<JsonOptions> = {}, as: Model = model) => {
    const store = await openJson(file, as, { clock: systemClock, random: systemRandom, notice: (line) => void notices.push(line), ...options });
    stores.push(store);
    return store;
  };
  return { folder, file, dir: `${file}.pawl`, notices, open };
}

export const add = (title: string, data?: Rec[string]): Change => ({ puts: [{ kind: "item", record: data === undefined ? { title } : { title, data } }] });
export const setCounter = (id: string, n: number): Put => ({ kind: "counter", record: { id, n } });
export const increment = (id: string): Change => ({ puts: [], additions: [{ kind: "counter", key: id, field: "n", n: 1 }] });

/** Of all items, however many: a list gives at most 10,000 at once. */
export async function titles(store: Store): Promise<unknown[]> {
  const found: unknown[] = [];
  for (let page = await store.list("item"); page.length > 0; page = await store.list("item", { after: page.at(-1)! })) for (const record of page) found.push(record["title"]);
  return found;
}

export const segment = (place: Place, number: number): string => join(place.dir, "journal", `${String(number).padStart(6, "0")}.jsonl`);
export const quarantined = (place: Place): string[] => readdirSync(join(place.dir, "quarantine"));
export const document = (place: Place) => JSON.parse(readFileSync(place.file, "utf8")) as { pawl: { format: number; revision: number }; items: Rec[]; counters: Rec[] };

export type Call = { readonly name: keyof FileSystem; readonly path: string; readonly args: readonly unknown[] };

/** The calls after which a disk is another one. */
export const CHANGING: ReadonlySet<string> = new Set(["write", "fdatasync", "fsync", "ftruncate", "fchmod", "fchown", "rename", "link", "unlink", "mkdir", "fsyncDir"]);

/** The real disk, with `before` called first for every call (`path` is that of the descriptor, too); it may throw. */
export function watchedFs(before: (call: Call) => void): FileSystem {
  const paths = new Map<number, string>();
  const wrapped: Record<string, unknown> = {};
  for (const name of Object.keys(nodeFs) as (keyof FileSystem)[]) {
    const real = nodeFs[name] as (...args: unknown[]) => unknown;
    wrapped[name] = (...args: unknown[]) => {
      before({ name, args, path: typeof args[0] === "number" ? (paths.get(args[0]) ?? "") : String(args[0]) });
      const result = real(...args);
      if (name === "open") paths.set(result as number, String(args[0]));
      return result;
    };
  }
  return wrapped as FileSystem;
}

export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: as the test wants it`), { code });
}

export type Child = { readonly process: ChildProcess; readonly lines: string[]; readonly ended: Promise<number | null>; line(text: string): Promise<void> };

/** Starts `json-child.ts ROLE PLACE ARGS…`; what it prints is collected line by line. */
export function child(role: string, place: Place, ...args: (string | number)[]): Child {
  const process_ = spawn(process.execPath, [join(import.meta.dirname, "json-child.ts"), role, place.file, ...args.map(String)], { stdio: ["ignore", "pipe", "inherit"] });
  const lines: string[] = [];
  const waiting: (() => void)[] = [];
  let rest = "";
  process_.stdout!.on("data", (chunk: Buffer) => {
    const parts = (rest + chunk.toString()).split("\n");
    rest = parts.pop()!;
    lines.push(...parts);
    for (const wake of waiting.splice(0)) wake();
  });
  const ended = once(process_, "close").then(([code]) => {
    for (const wake of waiting.splice(0)) wake();
    return code as number | null;
  });
  const line = async (text: string) => {
    while (!lines.some((line) => line.startsWith(text))) {
      if (process_.exitCode !== null || process_.signalCode !== null) throw new Error(`The child ended without "${text}".`);
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
  };
  return { process: process_, lines, ended, line };
}

// The stores the conformance cases run on, and the environment a case gets: a place of its own in a temporary folder,
// handles that are closed at the end, a clock whose time of day stands still, and children that can be killed.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { systemClock } from "../../src/base/clock.ts";
import { systemRandom } from "../../src/base/id.ts";
import { sha256 } from "../../src/base/json.ts";
import { conformanceModel, type ConformanceChild, type ConformanceEnv, type ConformanceNeed } from "../../src/store/conformance/conformance.ts";
import { openJson } from "../../src/store/json/json.ts";
import { openMemory } from "../../src/store/memory.ts";
import { openPostgres } from "../../src/store/postgres/postgres.ts";
import { openSqlite } from "../../src/store/sqlite/sqlite.ts";
import type { OpenOptions, Store } from "../../src/store/store.ts";
import { dropSchema, inSchema, postgresUrl } from "../postgres.ts";

export type StoreKind = { readonly name: string; readonly offers: readonly ConformanceNeed[]; open(place: string, options: Partial<OpenOptions>): Promise<Store>; remove?(place: string): Promise<void> };

const withDefaults = (options: Partial<OpenOptions>): OpenOptions => ({ clock: systemClock, random: systemRandom, ...options });

export const STORES: readonly StoreKind[] = [
  { name: "memory", offers: [], open: async (_, options) => openMemory(conformanceModel, withDefaults(options)) },
  { name: "json", offers: ["durable", "processes"], open: async (place, options) => openJson(join(place, "state.json"), conformanceModel, withDefaults(options)) },
  { name: "sqlite", offers: ["durable", "processes"], open: async (place, options) => openSqlite(join(place, "state.db"), conformanceModel, withDefaults(options)) },
  {
    name: "postgres",
    offers: ["durable", "processes"],
    open: async (place, options) => openPostgres(inSchema(await postgresUrl(), schemaOf(place)), conformanceModel, withDefaults(options)),
    remove: async (place) => dropSchema(await postgresUrl(), schemaOf(place)),
  },
];

/** A schema for each place: a folder that is there for its name alone. */
const schemaOf = (place: string): string => `t_${sha256(place, 16)}`;

/** Runs `run` in an environment of its own and cleans up after it, whether it passed or not. */
export async function inEnv(kind: StoreKind, note: (line: string) => void, run: (env: ConformanceEnv) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), `pawl-${kind.name}-`));
  const stores: Store[] = [];
  const places = new Set<string>();
  const children: ConformanceChild[] = [];
  let shift = Date.UTC(2026, 0, 1);
  const clock = { ...systemClock, now: () => shift, jump: (ms: number) => void (shift += ms) };
  const open = async (place: string, options: Partial<OpenOptions> = {}) => {
    places.add(place);
    const store = await kind.open(place, { ...options, clock });
    stores.push(store);
    return store;
  };
  const env: ConformanceEnv = {
    clock,
    open: (options) => open(folder, options),
    fresh: async (options) => open(await mkdtemp(join(folder, "fresh-")), options),
    note,
    ...(kind.offers.includes("processes") ? { spawn: (role, args) => startChild(kind, folder, role, args, children) } : {}),
  };
  try {
    await run(env);
  } finally {
    for (const child of children) child.kill();
    await Promise.all(children.map((child) => child.exited));
    await Promise.all(stores.map((store) => store.close()));
    for (const place of places) await kind.remove?.(place);
    await rm(folder, { recursive: true, force: true });
  }
}

function startChild(kind: StoreKind, place: string, role: string, args: readonly string[], children: ConformanceChild[]): ConformanceChild {
  const child = spawn(process.execPath, [join(import.meta.dirname, "child.ts"), kind.name, place, role, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const exited = once(child, "close").then(([code]) => code as number | null);
  const result: ConformanceChild = {
    next: async () => {
      const { value, done } = await lines.next();
      return done ? null : value;
    },
    kill: () => void child.kill("SIGKILL"),
    exited,
  };
  children.push(result);
  return result;
}

// What the conformance cases stand on: the shape of a case, a small model of its own that has every feature a kind can
// have (so the suite knows nothing of Pawl's records), and the few words the cases are written in.
import assert from "node:assert/strict";
import { sleep, systemClock, type Clock } from "../../base/clock.ts";
import { isPawlError, type ErrorCode, type PawlError } from "../../base/errors.ts";
import { sha256, type Json } from "../../base/json.ts";
import type { Change, Conflict, Fields, Key, Kind, Model, Put, Rec, Result, Store } from "../store.ts";

/** Another process with a store open on the same place, working at a role of `runConformanceRole`. */
export type ConformanceChild = {
  /** The next line it printed; null when it ended. */
  next(): Promise<string | null>;
  /** Ends it at once, as kill -9 does. */
  kill(): void;
  /** Its exit code; null when it was killed. */
  readonly exited: Promise<number | null>;
};

/** What a case runs in: one place, empty at first. Whoever makes the environment closes what was opened, and removes it. */
export type ConformanceEnv = {
  /** A new handle on the place of this case. */
  open(options?: { readOnly?: boolean }): Promise<Store>;
  /** A handle on another place, new and empty. */
  fresh(options?: { readOnly?: boolean }): Promise<Store>;
  /** The clock the stores were opened with: timers are real, the time of day stands still unless moved. */
  readonly clock: Clock & { jump(ms: number): void };
  /** Starts a process that opens the place of this case and calls `runConformanceRole`. Needed by the cases that need processes. */
  spawn?(role: string, args: readonly string[]): ConformanceChild;
  /** Takes a line worth reading, such as a measured time. */
  note?(line: string): void;
};

/** "durable": the place outlives its handles and has room for several; "processes": that, and `spawn` is there. */
export type ConformanceNeed = "durable" | "processes";
export type ConformanceCase = { readonly name: string; readonly group: string; readonly needs?: ConformanceNeed; run(env: ConformanceEnv): Promise<void> };

type Run = (store: Store, env: ConformanceEnv) => Promise<void>;

/** The cases of a group; each starts with a store open on its empty place. */
export function cases(group: string, table: { readonly [name: string]: Run }, needs?: ConformanceNeed): ConformanceCase[] {
  return Object.entries(table).map(([name, run]) => ({
    name,
    group,
    ...(needs === undefined ? {} : { needs }),
    run: async (env) => run(await env.open(), env),
  }));
}

const item: Kind = {
  name: "item",
  fields: {
    id: "integer", key: "text", title: "text", status: "text", priority: "integer", score: "real", flag: "boolean",
    batch: "text", slot: "integer", owner: "text", run_at: "text", data: "json", revision: "integer",
  },
  key: ["id"],
  assign: "",
  indexes: {
    key: { fields: ["key"], notNull: ["key"], unique: true },
    slot: { fields: ["batch", "slot"], notNull: ["batch", "slot"], unique: true },
    status: { fields: ["status", "priority"], counted: 2 },
    owner: { fields: ["owner", "flag"], notNull: ["owner"], counted: 1 },
    name: { fields: ["title"] },
    score: { fields: ["score"] },
    flag: { fields: ["flag", "score"] },
    due: { fields: ["priority"], where: { status: "pending", flag: true } },
    due_in: { fields: ["batch", "priority"], where: { status: "pending" } },
    free: { fields: ["priority"], where: { owner: null } },
    owned: { fields: ["priority"], notNull: ["owner"] },
    timed: { fields: ["run_at"], where: { status: "waiting" }, notNull: ["run_at"] },
  },
};

const others: Kind[] = [
  { name: "note", fields: { id: "text", item_id: "integer", text: "text" }, key: ["id"], assign: "n", indexes: { item: { fields: ["item_id"] } } },
  // Two kinds with an index of one name, as a database with one namespace for indexes must cope with.
  { name: "part", fields: { item_id: "integer", name: "text", note_id: "text", value: "json", n: "integer" }, key: ["item_id", "name"], indexes: { name: { fields: ["name"] } } },
  // Named after words of SQL.
  { name: "group", fields: { left: "text", right: "text", order: "integer", select: "boolean" }, key: ["left", "right"], indexes: { order: { fields: ["order"] } } },
  {
    name: "event",
    fields: { item_id: "integer", seq: "integer", what: "text", data: "json", hash: "text" },
    key: ["item_id", "seq"],
    indexes: {},
    chain: { group: "item_id", order: "seq" },
  },
  { name: "counter", fields: { id: "text", n: "integer", amount: "real", label: "text", revision: "integer" }, key: ["id"], indexes: { n: { fields: ["n"] } } },
  // A large text, which a store may keep apart.
  { name: "page", fields: { note_id: "text", n: "integer", text: "text" }, key: ["note_id", "n"], indexes: {}, beside: { field: "text", folder: "pages" } },
  // Where a store keeps the operation ids it has seen.
  { name: "op", fields: { id: "text", at: "text" }, key: ["id"], indexes: { at: { fields: ["at"] } } },
];

/** An event whose seal throws, as a bug in the model would. */
export const UNSEALABLE = "unsealable";

export const conformanceModel: Model = {
  kinds: [item, ...others],
  seal(previous, record) {
    if (record["what"] === UNSEALABLE) throw new Error("thrown by seal");
    const seq = Number(previous?.["seq"] ?? 0) + 1;
    return { ...record, seq, hash: chainHash(previous, record) };
  },
  view: (all, revision) => ({ pawl: { format: 1, revision }, items: [...all("item")] }),
};

/** What the chain's hash is made of: the predecessor's, and what happened. */
export function chainHash(previous: Rec | null, record: Rec): string {
  return sha256(`${previous?.["hash"] ?? "-"} ${record["item_id"]} ${record["what"]}`, 16);
}

export const put = (kind: string, record: Fields): Put => ({ kind, record });
export const set = (kind: string, key: Key, fields: Fields): Put => ({ kind, key, set: fields });
export const remove = (kind: string, key: Key): Put => ({ kind, key, delete: true });
export const addItem = (fields: Fields = {}): Put => put("item", fields);
export const addEvent = (item_id: Fields[string], what: string): Put => put("event", { item_id, what });
export const is = (kind: string, key: Key, fields: { readonly [field: string]: string | number | boolean | null }) => ({ kind, key, is: fields });
export const absent = (kind: string, key: Key) => ({ kind, key, absent: true }) as const;

/** Commits one change and returns its result. */
export async function commit(store: Store, change: Change): Promise<Result> {
  const results = await store.commit([change]);
  assert.equal(results.length, 1, "one result for one change");
  return results[0]!;
}

/** Commits puts that must succeed, and returns the ids. */
export async function write(store: Store, ...puts: Put[]): Promise<readonly (string | number | undefined)[]> {
  return succeeded(await commit(store, { puts }));
}

/** Inserts items, one change each in one batch, and returns their ids. */
export async function fill(store: Store, records: readonly Fields[]): Promise<number[]> {
  const results = await store.commit(records.map((record) => ({ puts: [addItem(record)] })));
  return results.map((result) => succeeded(result)[0] as number);
}

export async function read(store: Store, kind: string, key: Key): Promise<Rec | null> {
  const records = await store.get(kind, [key]);
  assert.equal(records.length, 1, "one answer for one key");
  return records[0]!;
}

/** Reads a record that must be there and compares the named fields. */
export async function holds(store: Store, kind: string, key: Key, fields: Fields): Promise<Rec> {
  const record = await read(store, kind, key);
  assert.ok(record, `${kind} ${String(key)} is not there`);
  fits(record, fields);
  return record;
}

/** Compares the named fields by their JSON text: exact, order of keys included. */
export function fits(record: Rec | null, fields: Fields): void {
  assert.ok(record, "a record was expected");
  for (const field in fields) assert.equal(JSON.stringify(record[field]), JSON.stringify(fields[field]), `field ${field}`);
}

export function succeeded(result: Result | null | undefined): readonly (string | number | undefined)[] {
  assert.ok(result, "a result was expected");
  if (!result.ok) assert.fail("error" in result ? `refused: ${result.error.message}` : `conflict: ${JSON.stringify(result.conflict)}`);
  return result.ids;
}

/** The conflict a result must be, with where it must have been found. */
export function conflict(result: Result | null | undefined, on: Conflict["on"], index: number, kind: string): Rec | null {
  assert.ok(result && !result.ok && "conflict" in result, `a conflict was expected, not ${show(result)}`);
  const { record, ...where } = result.conflict;
  assert.deepEqual(where, { on, index, kind });
  return record;
}

/** The error a result must be. */
export function refused(result: Result | null | undefined, code: ErrorCode = "value_refused"): PawlError {
  assert.ok(result && !result.ok && "error" in result, `an error was expected, not ${show(result)}`);
  assert.ok(isPawlError(result.error, code), `a PawlError ${code} was expected, not ${String(result.error)}`);
  return result.error;
}

const show = (result: Result | null | undefined): string => (result && !result.ok && "error" in result ? result.error.message : JSON.stringify(result ?? null));

export async function rejects(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await assert.rejects(promise, (error) => isPawlError(error, code) || assert.fail(`a PawlError ${code} was expected, not ${String(error)}`));
}

export const idsOf = (records: readonly Rec[]): Json[] => records.map((record) => record["id"]!);
export const valuesOf = (records: readonly Rec[], field: string): Json[] => records.map((record) => record[field]!);

/** 0 … n-1. */
export const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Waits until `check` holds, at most `ms` of real time. */
export async function until(check: () => boolean, what: string, ms = 10_000): Promise<void> {
  const end = systemClock.monotonic() + ms;
  while (!check()) {
    if (systemClock.monotonic() > end) assert.fail(`${what}: not within ${ms} ms`);
    await sleep(systemClock, 5);
  }
}

/** The events of an item, whose chain must be whole. */
export async function wholeChain(store: Store, itemId: number): Promise<Rec[]> {
  const events = await store.list("event", { equals: { item_id: itemId } });
  let previous: Rec | null = null;
  for (const [i, event] of events.entries()) {
    assert.equal(event["seq"], i + 1, "no gap in the chain");
    assert.equal(event["hash"], chainHash(previous, event), "each event is sealed with the one before it");
    previous = event;
  }
  return events;
}

// What a JSON store does on the simulated disk before the power goes: commits over several segments and checkpoints,
// views, deletes, a hand edit, closing and opening again. Invariant: each commit is marked in the disk's log when it is
// asked for and when it is acknowledged, and `dumps[n]` is what the memory store holds after n commits.
import { type Clock, manualClock } from "../../src/base/clock.ts";
import type { FileSystem } from "../../src/base/fs.ts";
import { seededRandom } from "../../src/base/id.ts";
import { sha256 } from "../../src/base/json.ts";
import { type JsonOptions, openJson } from "../../src/store/json/json.ts";
import { openMemory } from "../../src/store/memory.ts";
import type { Change, Model, Rec, Store } from "../../src/store/store.ts";
import { EMPTY, type Op, SimulatedDisk } from "./disk.ts";

export const FILE = "/home/state.json";
/** What the person writes into the title of item 1; "one" stands there before. */
export const EDITED = "edited by hand";

export const model: Model = {
  kinds: [
    { name: "item", fields: { id: "integer", title: "text", done: "boolean", data: "json" }, key: ["id"], assign: "", indexes: { title: { fields: ["title"] } } },
    { name: "event", fields: { item_id: "integer", seq: "integer", what: "text", hash: "text" }, key: ["item_id", "seq"], indexes: {}, chain: { group: "item_id", order: "seq" } },
    { name: "op", fields: { id: "text", at: "text" }, key: ["id"], indexes: {} },
    { name: "page", fields: { id: "text", text: "text" }, key: ["id"], indexes: {}, beside: { field: "text", folder: "pages" } },
  ],
  seal: (previous, record) => ({ ...record, seq: Number(previous?.["seq"] ?? 0) + 1, hash: sha256(`${previous?.["hash"] ?? "-"} ${record["what"]}`, 16) }),
  view: (all) => ({ items: [...all("item")] }),
};

export type Step =
  | { readonly commit: readonly Change[] }
  /** Time passes, so that a view is written. */
  | { readonly view: true }
  | { readonly reopen: true }
  /** A person saves the view as editors do: a new file, flushed, renamed over the old one. */
  | { readonly edit: true };

const add = (title: string, data?: string): Change => ({ puts: [{ kind: "item", record: { title, ...(data === undefined ? {} : { data }) } }, { kind: "event", record: { item_id: { $new: 0 }, what: `added ${title}` } }] });
const finish = (id: number): Change => ({ guards: [{ kind: "item", key: id, is: { done: null } }], puts: [{ kind: "item", key: id, set: { done: true } }, { kind: "event", record: { item_id: id, what: "finished" } }] });
const remove = (id: number): Change => ({ puts: [{ kind: "item", key: id, delete: true }, { kind: "event", record: { item_id: id, what: "removed" } }] });
const commit = (...changes: Change[]): Step => ({ commit: changes });

/** Everything the protocol knows, in little time. With `checkpointBytes` of 1500 it has three segments. */
export const JOURNEY: readonly Step[] = [
  commit(add("one")), commit(add("two"), finish(1)), { view: true }, commit(add("three", "x".repeat(400))), commit(remove(3)), { view: true },
  { reopen: true },
  commit(add("four")), { edit: true }, commit(finish(2)), { view: true }, commit(add("five", "y".repeat(900))), commit(finish(4), remove(5)),
  { reopen: true },
  commit(add("six")), { view: true }, commit(finish(6)),
];

/** A journey without views between, over many small segments. */
export const ROTATIONS: readonly Step[] = Array.from({ length: 14 }, (_, i) => commit(add(`r${i}`, "z".repeat(120)), ...(i % 3 === 2 ? [finish(i), remove(i)] : [])));

/** The last thing a state knew: a commit of every kind, then the view. */
export const SHORT: readonly Step[] = [commit(add("one")), commit(finish(1), add("two")), { view: true }, commit(remove(2))];

/** A page's text is the same whenever it is put, as everything that is kept beside the records. */
const page = (id: string): Change => ({ puts: [{ kind: "page", record: { id, text: `page ${id} `.repeat(8) } }, { kind: "item", record: { title: `about ${id}` } }] });
const tear = (...ids: string[]): Change => ({ puts: ids.map((id) => ({ kind: "page", key: id, delete: true })) });

/** Fields in files of their own: put, put again, deleted, put back, in a commit that also deletes it. */
export const PAGES: readonly Step[] = [
  commit(page("a"), add("one")), commit(page("b"), page("a")), commit(tear("a")), { reopen: true }, commit(page("a"), tear("b")), commit(page("c"), tear("c")), commit(tear("a"), page("a")), { view: true },
];

export type Journey = { readonly log: readonly Op[]; readonly dumps: readonly string[]; readonly topIds: readonly number[] };
export type JourneyOptions = { readonly checkpointBytes: number; readonly wrap?: (disk: SimulatedDisk) => FileSystem };

/** A turn on a disk that nobody else sees. */
export const soleTurn: NonNullable<JsonOptions["turn"]> = () => ({ run: async (section) => section(), close: () => undefined });

/** Goes the way once, on a disk that does not fail. */
export async function travel(steps: readonly Step[], { checkpointBytes, wrap }: JourneyOptions): Promise<Journey> {
  const clock = manualClock();
  const disk = new SimulatedDisk(EMPTY, clock.now);
  const random = seededRandom(1);
  const fs = wrap ? wrap(disk) : disk.fs;
  const reference = await expected(steps);
  const open = async () => {
    const opening = openJson(FILE, model, { clock, random, fs, turn: soleTurn, checkpointBytes, notice: () => undefined });
    await clock.advance(0);
    return opening;
  };
  let store = await open();
  let n = 0;
  for (const step of steps) {
    if ("commit" in step) {
      disk.mark({ asked: ++n });
      const results = await store.commit(step.commit);
      const bad = results.find((result) => !result.ok);
      if (bad) throw new Error(`the journey is wrong: ${JSON.stringify(bad)}`);
      disk.mark({ acked: n });
      await clock.advance(0);
    } else if ("view" in step) await clock.advance(5_000);
    else if ("edit" in step) edit(disk);
    else {
      await finished(clock, store.close());
      store = await open();
    }
  }
  await finished(clock, store.close());
  return { log: disk.log, ...reference };
}

async function finished(clock: ReturnType<typeof manualClock>, work: Promise<void>): Promise<void> {
  let done = false;
  void work.finally(() => (done = true));
  while (!done) await clock.advance(100);
  await work;
}

function edit(disk: SimulatedDisk): void {
  const before = disk.peek(FILE)!.toString();
  const text = before.replace(`"title": "one"`, `"title": "${EDITED}"`);
  if (text === before) throw new Error("the journey is wrong: there is nothing to edit");
  disk.mark({ edit: "asked" });
  const fd = disk.fs.open("/home/.state.json.swp", "create", 0o600);
  const bytes = Buffer.from(text);
  disk.fs.write(fd, bytes, 0, bytes.length);
  disk.fs.fsync(fd);
  disk.fs.close(fd);
  disk.fs.rename("/home/.state.json.swp", FILE);
  disk.fs.fsyncDir("/home");
  disk.mark({ edit: "kept" });
}

/** What the memory store holds after each commit, and the highest id it ever gave. */
export async function expected(steps: readonly Step[]): Promise<{ dumps: string[]; topIds: number[] }> {
  const store = openMemory(model, { clock: manualClock(), random: seededRandom(1) });
  const dumps = [(await contents(store)).dump];
  const topIds = [0];
  for (const step of steps) {
    if (!("commit" in step)) continue;
    const results = await store.commit(step.commit);
    const ids = results.flatMap((result) => (result.ok ? result.ids.map(Number) : [])).filter((id) => id > 0);
    dumps.push((await contents(store)).dump);
    topIds.push(Math.max(topIds.at(-1)!, ...ids));
  }
  return { dumps, topIds };
}

export type Contents = { readonly dump: string; readonly items: readonly Rec[]; readonly probes: readonly number[]; readonly edited: boolean };

/** Everything a store holds, comparable; probes of recoveries, and the person's word, apart. */
export async function contents(store: Store): Promise<Contents> {
  const items = await store.list("item");
  const [events, pages] = await Promise.all([store.list("event"), store.list("page")]);
  const probes = items.filter((item) => item["title"] === "probe").map((item) => Number(item["id"]));
  const edited = items.some((item) => item["title"] === EDITED);
  const own = items.filter((item) => item["title"] !== "probe").map((item) => (item["title"] === EDITED ? { ...item, title: "one" } : item));
  return { dump: JSON.stringify([own, events, pages]), items, probes, edited };
}

/** A clock on which whoever waits is next at once: time passes as far as it must. */
export function skippingClock(startMs: number): Clock {
  let now = startMs;
  const waiting: { at: number; fn: () => void }[] = [];
  const next = () => {
    waiting.sort((a, b) => a.at - b.at);
    const timer = waiting.shift();
    if (!timer) return;
    now = Math.max(now, timer.at);
    timer.fn();
  };
  return {
    now: () => now,
    monotonic: () => now - startMs,
    timer(ms, fn, hold = true) {
      const timer = { at: now + Math.max(ms, 0), fn };
      waiting.push(timer);
      const soon = setImmediate(next);
      if (!hold) soon.unref();
      return () => {
        const at = waiting.indexOf(timer);
        if (at >= 0) waiting.splice(at, 1);
      };
    },
  };
}


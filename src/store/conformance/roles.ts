// What the child processes of the conformance cases do. A file that opens a store calls `runConformanceRole` with the
// role and arguments it was started with; each line goes to the parent, and must be out before the call returns.
import { sleep, systemClock } from "../../base/clock.ts";
import { addEvent, addItem, commit, idsOf, is, put, set, succeeded, upTo } from "./model.ts";
import type { Rec, Store } from "../store.ts";

type Print = (line: string) => void;
type Role = (store: Store, print: Print, args: readonly string[]) => Promise<void>;

export async function runConformanceRole(role: string, store: Store, args: readonly string[], print: Print): Promise<void> {
  const run = ROLES[role];
  if (!run) throw new Error(`There is no role "${role}": ${Object.keys(ROLES).join(", ")}.`);
  await run(store, print, args);
}

const ROLES: { readonly [role: string]: Role } = {
  /** Adds one to the counter, so many times; prints its longest wait in ms. */
  async increment(store, print, [times]) {
    let longest = 0;
    for (let i = 0; i < Number(times); i++) {
      const start = systemClock.monotonic();
      succeeded(await commit(store, { puts: [], additions: [{ kind: "counter", key: "c", field: "n", n: 1 }] }));
      longest = Math.max(longest, systemClock.monotonic() - start);
    }
    print(String(Math.round(longest)));
  },

  /** Reads, adds one and writes under a guard, until it has won so many times. */
  async revise(store, print, [times]) {
    let lost = 0;
    for (let won = 0; won < Number(times); ) {
      const [record] = await store.get("counter", ["c"]);
      const { revision, n } = record as { revision: number; n: number };
      const result = await commit(store, { guards: [is("counter", "c", { revision })], puts: [set("counter", "c", { revision: revision + 1, n: n + 1 })] });
      if (result.ok) won++;
      else lost++;
    }
    print(String(lost));
  },

  /** Claims until nothing is due; prints the ids of each claim. */
  async claim(store, print, [owner, limit]) {
    for (;;) {
      let found: readonly Rec[] = [];
      const result = await store.claim({ kind: "item", queries: [{ index: "due" }], order: ["priority"], limit: Number(limit) }, (records) => {
        found = records;
        return records.length === 0 ? null : { puts: records.flatMap(({ id }) => [set("item", id as number, { status: "running", owner: owner! }), addEvent(id!, "claimed")]) };
      });
      if (result === null) return;
      succeeded(result);
      print(JSON.stringify(idsOf(found)));
    }
  },

  /** Inserts items until the place is sealed; prints the id of each that was acknowledged, then what it was told. */
  async until_sealed(store, print) {
    for (;;) {
      const result = await commit(store, { puts: [addItem()] });
      if (!result.ok) return print("error" in result ? result.error.code : "conflict");
      print(String(result.ids[0]));
    }
  },

  /** Inserts so many items in batches of three; prints the ids of each batch. */
  async insert(store, print, [times]) {
    for (let i = 0; i < Number(times); i += 3) {
      const results = await store.commit(upTo(3).map(() => ({ puts: [addItem(), put("note", { item_id: { $new: 0 } })] })));
      print(JSON.stringify(results.map(succeeded)));
    }
  },

  /** Commits for ever in so many loops at once; prints each key when it is acknowledged, with the ids. */
  async "commit-forever"(store, print, [prefix, loops]) {
    const loop = async (name: string) => {
      for (let i = 0; ; i++) {
        const key = `${name}-${i}`;
        const puts = [addItem({ key, data: { text: "x".repeat(i % 700) } }), put("note", { item_id: { $new: 0 }, text: key }), put("note", { item_id: { $new: 0 }, text: key }), addEvent(0, key)];
        const ids = succeeded(await commit(store, { op_id: key, puts, additions: [{ kind: "counter", key: "c", field: "n", n: 1 }] }));
        print(JSON.stringify([key, ids[0]]));
      }
    };
    await Promise.all(upTo(Number(loops)).map((i) => loop(`${prefix}-${i}`)));
  },

  /** Says when it watches, then each time it is told of something. */
  async watch(store, print) {
    store.watch(() => print("told"));
    print("watching");
    await sleep(systemClock, 60_000);
  },
};

// Batches that are flushed beside the event loop: the loop goes on, the next is applied meanwhile and written when the first is
// safe; nobody is answered early, nobody reads what is not written, and whatever fails fails for those it belongs to.
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { test, type TestContext } from "node:test";
import { isPawlError } from "../../src/base/errors.ts";
import { systemClock, sleep } from "../../src/base/clock.ts";
import { type FileSystem, nodeFs } from "../../src/base/fs.ts";
import { Flight } from "../../src/store/json/flight.ts";
import type { Result, Store } from "../../src/store/store.ts";
import { gate, turns } from "../simulation.ts";
import { add, child, document, increment, placeFor, segment, setCounter, systemError, titles, viewed, type Place } from "./json-place.ts";

type Disk = { readonly place: Place; readonly store: Store; flushes: number; hold: ReturnType<typeof gate<void>> | null; fail: ((fd: number) => void) | null; failWrite: (() => void) | null };

/** A store whose batches all go aside, on a real disk whose flushes can be held and made to fail. */
async function held(t: TestContext, as = viewed): Promise<Disk> {
  // Before the place closes its stores: a test that fails must not wait for ever.
  t.after(() => disk.hold?.open());
  const place = placeFor(t);
  const disk: { -readonly [K in keyof Disk]: Disk[K] } = { place, store: null as unknown as Store, flushes: 0, hold: null, fail: null, failWrite: null };
  const fs: FileSystem = {
    ...nodeFs,
    write: (fd, bytes, offset, length) => (disk.failWrite?.(), nodeFs.write(fd, bytes, offset, length)),
    flush: async (fd) => {
      disk.flushes++;
      await disk.hold?.promise;
      disk.fail?.(fd);
      return nodeFs.flush(fd);
    },
  };
  disk.store = await place.open({ fs, aside: 1 }, as);
  return disk;
}

/** Whether a promise is settled now. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let over = false;
  promise.then(() => (over = true), () => (over = true));
  await turns(5);
  return over;
}

const bytes = (place: Place) => statSync(segment(place, 1)).size;
const fails = (code: string) => (error: unknown) => isPawlError(error, code as never);

test("while a batch is flushed the event loop goes on, and nobody is answered", async (t) => {
  const disk = await held(t);
  disk.hold = gate();
  const first = disk.store.commit([add("a")]);
  assert.equal(await settled(first), false);
  assert.equal(disk.flushes, 1);
  disk.hold.open();
  assert.deepEqual(await first, [{ ok: true, ids: [1] }]);
  assert.deepEqual(await titles(await disk.place.open()), ["a"]);
});

test("the next batch is applied meanwhile, written when the first is safe, and read by nobody before", async (t) => {
  const disk = await held(t);
  const first = (disk.hold = gate());
  const a = disk.store.commit([add("a")]);
  const size = bytes(disk.place);
  const b = disk.store.commit([add("b")]);
  const read = titles(disk.store);
  assert.equal(await settled(read), false, "it waits for what is applied and not written");
  assert.equal(bytes(disk.place), size, "one line at most is not flushed");
  const second = (disk.hold = gate());
  first.open();
  assert.deepEqual(await a, [{ ok: true, ids: [1] }]);
  assert.deepEqual(await read, ["a", "b"]);
  assert.equal(await settled(b), false, "its own line is not flushed yet");
  assert.ok(bytes(disk.place) > size);
  second.open();
  assert.deepEqual(await b, [{ ok: true, ids: [2] }]);
});

test("what comes while two are under way waits for its turn, in its order", async (t) => {
  const disk = await held(t);
  disk.hold = gate();
  const commits = ["a", "b", "c", "d"].map((title) => disk.store.commit([add(title)]));
  const sealed = disk.store.seal({ to: "elsewhere", at: "now" });
  const late = disk.store.commit([add("e")]);
  await turns(3);
  disk.hold.open();
  assert.deepEqual((await Promise.all(commits)).map(([result]) => result), [1, 2, 3, 4].map((id) => ({ ok: true, ids: [id] })));
  await sealed;
  const [refused] = await late;
  assert.ok(!refused!.ok && "error" in refused && isPawlError(refused.error, "moved"));
});

test("a batch that cannot be written fails alone, and what it applied is taken back", async (t) => {
  const disk = await held(t);
  disk.hold = gate();
  const a = disk.store.commit([add("a")]);
  const b = disk.store.commit([add("b"), { puts: [setCounter("c", 1)] }]);
  b.catch(() => undefined);
  disk.failWrite = () => {
    throw systemError("ENOSPC");
  };
  disk.hold.open();
  assert.equal((await a)[0]!.ok, true);
  await assert.rejects(b, fails("storage"));
  disk.failWrite = null;
  assert.deepEqual([await titles(disk.store), await disk.store.count("counter")], [["a"], 0]);
  assert.equal((await disk.store.commit([add("c")]))[0]!.ok, true);
  assert.deepEqual(await titles(await disk.place.open()), ["a", "c"]);
});

test("a flush that fails is not tried again: the line goes into a new segment, and the next goes on behind it", async (t) => {
  const disk = await held(t);
  disk.hold = gate();
  const a = disk.store.commit([add("a")]);
  const b = disk.store.commit([add("b")]);
  disk.fail = () => {
    disk.fail = null;
    throw systemError("EIO");
  };
  disk.hold.open();
  assert.deepEqual([(await a)[0]!.ok, (await b)[0]!.ok], [true, true]);
  assert.ok(statSync(segment(disk.place, 2)).size > 0);
  await disk.store.close();
  assert.deepEqual(await titles(await disk.place.open()), ["a", "b"]);
});

test("when the new segment fails too, the outcome of both is unknown and neither is shown", async (t) => {
  const disk = await held(t);
  assert.equal((await disk.store.commit([add("before")]))[0]!.ok, true);
  await turns(2);
  disk.hold = gate();
  const both = [disk.store.commit([add("a")]), disk.store.commit([add("b")])];
  disk.failWrite = disk.fail = () => {
    throw systemError("EIO");
  };
  disk.hold.open();
  for (const each of await Promise.allSettled(both)) assert.ok(each.status === "rejected" && isPawlError(each.reason, "commit_unknown"), JSON.stringify(each));
  assert.deepEqual(await titles(disk.store), ["before"]);
  disk.failWrite = disk.fail = null;
  await assert.rejects(disk.store.commit([add("c")]), fails("commit_unknown"));
  await disk.store.close();
  const again = await disk.place.open();
  assert.equal((await titles(again))[0], "before");
  assert.equal((await again.commit([add("d")]))[0]!.ok, true);
});

test("a batch whose rule throws fails alone", async (t) => {
  const disk = await held(t);
  disk.hold = gate();
  const a = disk.store.commit([add("a")]);
  const b = disk.store.commit([add("b"), { claim: { kind: "item", queries: [{}], order: [], limit: 1 }, decide: () => { throw new Error("a bug"); } }]);
  await assert.rejects(b, /a bug/);
  disk.hold.open();
  await a;
  assert.deepEqual(await titles(disk.store), ["a"]);
});

test("closing waits for what is under way; the view shows all of it", async (t) => {
  const disk = await held(t);
  disk.hold = gate();
  const commits = [disk.store.commit([add("a")]), disk.store.commit([add("b")])];
  const closing = disk.store.close();
  assert.equal(await settled(closing), false);
  disk.hold.open();
  await Promise.all([...commits, closing]);
  assert.deepEqual(document(disk.place).items.map(({ title }) => title), ["a", "b"]);
});

test("a view that is due while a batch is applied and not written shows what is written", async (t) => {
  const disk = await held(t);
  await disk.store.commit([add("a")]);
  const first = (disk.hold = gate());
  const b = disk.store.commit([add("b")]);
  const c = disk.store.commit([add("c")]);
  await sleep(systemClock, 250);
  first.open();
  await Promise.all([b, c]);
  await disk.store.close();
  assert.deepEqual(document(disk.place).items.map(({ title }) => title), ["a", "b", "c"]);
  assert.deepEqual(disk.place.notices, []);
});

test("beside a writer that is never idle another has its turn soon", async (t) => {
  const disk = await held(t);
  let over = false;
  const busy = [0, 1].map(async (lane) => {
    for (let i = 0; !over; i++) await disk.store.commit([{ puts: [setCounter(`${lane}`, i)] }]);
  });
  const neighbour = await disk.place.open();
  let longest = 0;
  for (let i = 0; i < 50; i++) {
    const begun = performance.now();
    await neighbour.commit([add(`n${i}`)]);
    longest = Math.max(longest, performance.now() - begun);
  }
  const other = child("once", disk.place, "from outside");
  assert.equal(await other.ended, 0);
  over = true;
  await Promise.all(busy);
  t.diagnostic(`longest wait ${longest.toFixed(1)} ms`);
  assert.ok(longest < 2_000, `${longest} ms`);
  assert.equal((await titles(disk.store)).length, 51);
});

test("two that increment beside one another lose nothing", async (t) => {
  const disk = await held(t);
  await disk.store.commit([{ puts: [setCounter("c", 0)] }]);
  const neighbour = await disk.place.open({ aside: 1 }, viewed);
  await Promise.all([disk.store, disk.store, neighbour, neighbour].map(async (store) => {
    for (let i = 0; i < 100; i++) assert.equal((await store.commit([increment("c")]))[0]!.ok, true);
  }));
  assert.equal((await neighbour.get("counter", ["c"]))[0]!["n"], 400);
});

/* ---------- how many at once ---------- */

test("two batches are worth having under way while a flush takes less than there is to do for both; then one, until it does again", async () => {
  let now = 0;
  const times = { apply: 2, flush: 1 };
  const flight = new Flight<{ result: Result[] }, object>({
    apply: () => ((now += times.apply), { result: [] }),
    write: () => ({}),
    flush: async () => void (now += times.flush),
    wanted: () => false,
    monotonic: () => now,
  });
  const many = async () => {
    for (let i = 0; i < 100; i++) await new Promise<Result[]>((resolve, reject) => void flight.fly([], resolve, reject));
  };
  await many();
  assert.equal(flight.lanes, 2);
  times.flush = 8;
  await many();
  assert.equal(flight.lanes, 1, "a slow disk");
  times.flush = 4;
  await many();
  assert.equal(flight.lanes, 1, "not yet quicker than what there is to do for one");
  times.flush = 1;
  await many();
  assert.equal(flight.lanes, 2);
});

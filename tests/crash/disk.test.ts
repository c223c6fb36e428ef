// The JSON store on a simulated disk, crashed everywhere: after every operation, with every mixture of what may survive,
// and again inside the recovery. `npm run crash` does two million states; what is checked is in disk-check.ts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { apart } from "./apart.ts";
import { Interner, NOTHING_KNOWN, visitCrashStates } from "./crash-states.ts";
import { type Image, EMPTY, SimulatedDisk } from "./disk.ts";
import type { SweepReport } from "./disk-check.ts";
import type * as runs from "./disk-runs.ts";

const CHECKPOINT_BYTES = 1_500;
const RUNS = import.meta.resolve("./disk-runs.ts");
const swept = (...args: Parameters<typeof runs.sweepWay>) => apart<typeof runs.sweepWay>(RUNS, "sweepWay", ...args);
const killed = (...args: Parameters<typeof runs.sweepKillsOf>) => apart<typeof runs.sweepKillsOf>(RUNS, "sweepKillsOf", ...args);

/** Passes when nothing is wrong and there was enough to be wrong. */
function clean({ violations, ...figures }: SweepReport, least: number, note: (line: string) => void): void {
  note(JSON.stringify(figures));
  assert.deepEqual(violations, []);
  assert.ok(figures.states + figures.secondStates >= least, `only ${figures.states + figures.secondStates} states`);
}

test("a power cut at any moment of a short life: acknowledged stays, unasked never comes", async (t) => {
  clean(await swept("SHORT", { checkpointBytes: CHECKPOINT_BYTES, names: 8, most: 1_000 }), 3_000, (line) => t.diagnostic(line));
});

test("a power cut at any moment, over segments and checkpoints", async (t) => {
  clean(await swept("ROTATIONS", { checkpointBytes: CHECKPOINT_BYTES, names: 8, most: 1_000 }), 2_000, (line) => t.diagnostic(line));
});

test("a power cut at any moment, with views, a hand edit and reopening, and again inside the recovery", { timeout: 300_000 }, async (t) => {
  clean(await swept("JOURNEY", { checkpointBytes: CHECKPOINT_BYTES, names: 8, second: 12_000 }), 35_000, (line) => t.diagnostic(line));
});

test("a power cut at any moment, with fields in files of their own: what a record needs is there", async (t) => {
  const options = { checkpointBytes: CHECKPOINT_BYTES, names: 8, most: 400 };
  clean(await swept("PAGES", options), 3_000, (line) => t.diagnostic(line));
});

test("killed at any moment, with fields in files of their own, then the power goes", async (t) => {
  const options = { checkpointBytes: CHECKPOINT_BYTES, names: 4, every: 6, most: 6 };
  clean(await killed("PAGES", options), 2_000, (line) => t.diagnostic(line));
});

test("killed at any moment of a short life, another goes on with what was not durable, then the power goes", async (t) => {
  clean(await killed("SHORT", { checkpointBytes: CHECKPOINT_BYTES, names: 4, every: 1, most: 60 }), 10_000, (line) => t.diagnostic(line));
});

test("killed at any moment, another goes on with what was not durable, then the power goes", async (t) => {
  const options = { checkpointBytes: CHECKPOINT_BYTES, names: 4, every: 1, most: 34 };
  clean(await killed("ROTATIONS", options), 64_000, (line) => t.diagnostic(line));
});

test("killed at any moment of a life with views and an edit, then the power goes", { timeout: 300_000 }, async (t) => {
  const options = { checkpointBytes: CHECKPOINT_BYTES, names: 4, every: 2, most: 12 };
  clean(await killed("JOURNEY", options), 25_000, (line) => t.diagnostic(line));
});

/* ---------- the disk itself ---------- */

/** What `path` may hold after a crash at the end of these calls: null for nothing. */
function survivors(calls: (disk: SimulatedDisk) => void, path: string): Set<string | null> {
  const disk = new SimulatedDisk(EMPTY, () => 0);
  calls(disk);
  const found = new Set<string | null>();
  visitCrashStates(EMPTY, disk.log, { names: 8 }, new Interner(), NOTHING_KNOWN, (_, image: () => Image, { at }) => {
    if (at === disk.log.length) found.add(new SimulatedDisk(image(), () => 0).peek(path)?.toString() ?? null);
  });
  return found;
}

const create = (disk: SimulatedDisk, path: string, text: string, sync: boolean): number => {
  const fd = disk.fs.open(path, "create");
  disk.fs.write(fd, Buffer.from(text), 0, text.length);
  if (sync) disk.fs.fsync(fd);
  return fd;
};

test("the disk keeps what was synced, and of the rest whatever it likes", () => {
  const whole = survivors((disk) => {
    create(disk, "/a", "text", true);
    disk.fs.fsyncDir("/");
  }, "/a");
  assert.deepEqual(whole, new Set(["text"]));
  const nameless = survivors((disk) => void create(disk, "/a", "text", true), "/a");
  assert.deepEqual(nameless, new Set([null, "text"]));
  const unsynced = survivors((disk) => {
    create(disk, "/a", "text", false);
    disk.fs.fsyncDir("/");
  }, "/a");
  for (const form of ["", "t", "te", "tex", "text", "\0\0\0\0", "te\0\0", "\0\0xt"]) assert.ok(unsynced.has(form), JSON.stringify(form));
});

test("the disk renames whole or not at all, and keeps the order of what one name was", () => {
  const renamed = (disk: SimulatedDisk) => {
    create(disk, "/a", "old", true);
    create(disk, "/b", "new", true);
    disk.fs.fsyncDir("/");
    disk.fs.rename("/b", "/a");
  };
  assert.deepEqual(survivors(renamed, "/a"), new Set(["old", "new"]));
  assert.deepEqual(survivors(renamed, "/b"), new Set(["new", null]));
  const twice = survivors((disk) => {
    renamed(disk);
    disk.fs.unlink("/a");
    create(disk, "/a", "third", true);
  }, "/a");
  assert.deepEqual(twice, new Set(["old", "new", null, "third"]));
});

test("on the disk a flush that failed leaves its bytes in doubt, whatever later flushes say", () => {
  const found = survivors((disk) => {
    const fd = create(disk, "/a", "1", true);
    disk.fs.fsyncDir("/");
    disk.fs.write(fd, Buffer.from("2"), 0, 1);
    disk.failFlush(fd);
    disk.fs.write(fd, Buffer.from("3"), 0, 1);
    disk.fs.fsync(fd);
  }, "/a");
  // Kept, dropped, or what lay there before.
  assert.deepEqual(found, new Set(["123", "1\x003", "1g3"]));
});

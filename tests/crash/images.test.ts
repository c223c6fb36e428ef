// Promises 1 and 2 at a power cut between any two system calls: the real command line is recorded, then 2,000 distinct crash
// states of each store are rebuilt and reopened by the real code. `npm run crash` does 50,000 of each.
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { test } from "node:test";
import { seededRandom } from "../../src/base/id.ts";
import { exploreRecorded, factsOf, recordPawl, scratch, withoutFlushes } from "./images-pawl.ts";
import { digestOf, Disk, explore } from "./images.ts";
import { whyNotRecorded, type Event } from "./record.ts";

const skip = whyNotRecorded() ?? false;

const STORES = [
  { file: "state.json", flushes: [/journal\/0/, /^\.$/, /view\./] },
  { file: "state.db", flushes: [/-wal$/, /\.db$/, /^\.$/] },
];

for (const { file, flushes } of STORES) {
  test(`crash states of recorded system calls open and keep what was acknowledged: ${file}`, { skip, timeout: 300_000 }, async (t) => {
    const base = scratch();
    t.after(() => rmSync(base, { recursive: true, force: true }));
    const recorded = await recordPawl(base, file);
    const disk = new Disk();
    for (const event of recorded.events) disk.apply(event);
    assert.deepEqual(digestOf(disk.image(() => "all")), digestOf(recorded.real), "the recording is complete");
    assert.ok(factsOf(recorded.events).length > 20, "the work acknowledged something");

    const { violations, ...figures } = await exploreRecorded(base, recorded, 2_000, 20260101);
    t.diagnostic(JSON.stringify(figures));
    assert.deepEqual(violations, []);
    assert.equal(figures.distinct, 2_000);

    // The making of the files, where little is there yet and everything can be torn.
    const making = await exploreRecorded(base, { ...recorded, events: recorded.events.slice(0, 50) }, 300, 2);
    assert.deepEqual(making.violations, []);

    // The same search finds what a missing flush would do.
    for (const which of flushes) {
      const broken = await exploreRecorded(base, withoutFlushes(recorded, which), 500, 1, 1);
      assert.ok(broken.violations.length > 0, `without the flush of ${which} nothing was lost`);
    }
  });
}

/* ---------- the model of a disk ---------- */

const bytes = (text: string) => Buffer.from(text);

/** All images of the events, as texts. */
async function imagesOf(events: readonly Event[], wanted = 10_000): Promise<Set<string>> {
  const seen = new Set<string>();
  await explore(events, wanted, seededRandom(1), async (image) => void seen.add([...image].map(([path, content]) => `${path}=${content}`).sort().join(" ")), () => []);
  return seen;
}

test("what was flushed is in every image, the rest in any mixture", async () => {
  const create: Event[] = [{ op: "create", ino: "1", path: "a" }, { op: "write", ino: "1", at: 0, bytes: bytes("old") }, { op: "flush", ino: "1" }, { op: "flush names", path: "." }];
  const before = await imagesOf(create);
  assert.deepEqual([...before].sort(), ["", "a=", "a=\0\0\0", "a=o", "a=o\0\0", "a=ol", "a=ol\0", "a=old"]);
  const rename: Event[] = [{ op: "create", ino: "2", path: "b" }, { op: "write", ino: "2", at: 0, bytes: bytes("n") }, { op: "rename", path: "b", to: "a" }, { op: "flush names", path: "." }];
  const after = await imagesOf([...create, ...rename]);
  for (const image of ["a=", "a=n", "a=old", "a=old b=", "a=old b=n"]) assert.ok(after.has(image), `"${image}" of ${[...after].join(", ")}`);
  assert.ok(![...after].some((image) => image.includes("b=old")), "an atomic rename is never half done");
});

test("a flush of a file does not make its name durable, and a name in a folder needs the folder", async () => {
  const images = await imagesOf([{ op: "mkdir", path: "d" }, { op: "create", ino: "1", path: "d/a" }, { op: "flush", ino: "1" }, { op: "flush names", path: "d" }, { op: "flush names", path: "." }]);
  assert.deepEqual([...images].sort(), ["", "d/a= d=null", "d=null"]);
});

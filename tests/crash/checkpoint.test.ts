// What a checkpoint must prove before it is used, each against a checkpoint that is made to lie; and what the chain of lines
// is for. On the simulated disk, whose files are changed between two lives.
import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import { seededRandom } from "../../src/base/id.ts";
import { isPawlError } from "../../src/base/errors.ts";
import { openJson } from "../../src/store/json/json.ts";
import type { Store } from "../../src/store/store.ts";
import { EMPTY, type Image, SimulatedDisk } from "./disk.ts";
import { contents, FILE, model, skippingClock, soleTurn } from "./disk-workload.ts";

const JOURNAL = `${FILE}.pawl/journal`;
const CHECKPOINTS = `${FILE}.pawl/checkpoint`;
const plain = { ...model, view: () => ({}) };

type Life = { readonly disk: SimulatedDisk; open(checkpointBytes?: number): Promise<Store>; readonly notices: string[] };

function life(image: Image, seed = 1): Life {
  const clock = skippingClock(Date.UTC(2026, 0, 5));
  const disk = new SimulatedDisk(image, clock.now);
  const notices: string[] = [];
  return { disk, notices, open: (checkpointBytes = 1 << 30) => openJson(FILE, plain, { clock, random: seededRandom(seed), fs: disk.fs, turn: soleTurn, checkpointBytes, notice: (line) => void notices.push(line) }) };
}

const add = (title: string) => ({ puts: [{ kind: "item", record: { title } }] });

/** A closed state with two checkpoints at least, whose highest id was removed before the last of them. */
async function checkpointed(word = "a", seed = 1): Promise<Image> {
  const { disk, open } = life(EMPTY, seed);
  const store = await open(500);
  for (let i = 0; i < 6; i++) await store.commit([add(`${word}${i}`)]);
  await store.commit([{ puts: [{ kind: "item", key: 6, delete: true }] }]);
  await store.close();
  // The pieces come one after the other, so that each checkpoint is done before the next line.
  const more = await open(50);
  await more.commit([{ puts: [{ kind: "item", key: 1, set: { done: true, data: "y".repeat(6_000) } }] }]);
  await more.close();
  assert.ok(disk.fs.readdir(CHECKPOINTS)!.length >= 2);
  return disk.image();
}

/** The same disk with files replaced by what `change` makes of them; null leaves one as it is. */
function changed(image: Image, change: (path: string, bytes: Buffer) => Buffer | null): Image {
  const disk = new SimulatedDisk(image, () => 0);
  const files = new Map(image.files);
  for (const [path, bytes] of disk.paths()) {
    const next = change(path, bytes);
    if (next) files.set(disk.fs.lstat(path)!.ino, { ...files.get(disk.fs.lstat(path)!.ino)!, bytes: next });
  }
  return { dirs: image.dirs, files };
}

const dumpOf = async (image: Image) => {
  const store = await life(image).open();
  return (await contents(store)).dump;
};

test("a damaged checkpoint is passed over, and said", async () => {
  const image = await checkpointed();
  const { open, notices } = life(changed(image, (path, bytes) => (path.startsWith(CHECKPOINTS) ? Buffer.from(bytes.toString("latin1").replaceAll(/"a(\d)"/g, '"b$1"'), "latin1") : null)));
  assert.equal((await contents(await open())).dump, await dumpOf(image));
  assert.match(notices.join(), /cannot be used/);
});

test("a checkpoint of another journal is passed over, and said", async () => {
  const [one, other] = [await checkpointed("a", 1), await checkpointed("b", 2)];
  const theirs = new SimulatedDisk(other, () => 0).paths();
  const { open, notices } = life(changed(one, (path) => (path.startsWith(CHECKPOINTS) ? (theirs.get(path) ?? null) : null)));
  assert.equal((await contents(await open())).dump, await dumpOf(one));
  assert.match(notices.join(), /cannot be used/);
});

test("after a checkpoint in which the last id was removed, the next id is a new one", async () => {
  const { open } = life(await checkpointed());
  const store = await open();
  assert.deepEqual(await store.commit([add("next")]), [{ ok: true, ids: [7] }]);
});

test("a line of another history is refused, however well it is numbered", async () => {
  const { disk, open } = life(EMPTY);
  const store = await open();
  for (const title of ["one", "two", "three"]) await store.commit([add(title)]);
  await store.close();
  const image = changed(disk.image(), (path, bytes) => {
    if (!path.startsWith(JOURNAL)) return null;
    const lines = bytes.toString().split("\n");
    const at = lines.findIndex((line) => line.includes("two"));
    const body = lines[at]!.slice(9).replace("two", "owt");
    lines[at] = `${crc32(body).toString(16).padStart(8, "0")} ${body}`;
    return Buffer.from(lines.join("\n"));
  });
  await assert.rejects(life(image).open(), (error) => isPawlError(error, "corrupt"));
});

// The recorder's own test: whatever a program does to its files, the folder rebuilt from the recording equals the real one.
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratch } from "./images-pawl.ts";
import { digestOf, Disk } from "./images.ts";
import { contentOf, newRecorder, restore, whyNotRecorded, type Event } from "./record.ts";

const skip = whyNotRecorded() ?? false;

/** Every way in which Node, SQLite and a shell change files, from several threads at once. */
const PROGRAM = `
import fs from "node:fs";
import { DatabaseSync } from "node:sqlite";
process.chdir(process.argv[1]);
fs.mkdirSync("deep/er", { recursive: true });
fs.writeFileSync("deep/er/a", "hello");
fs.appendFileSync("deep/er/a", " world");
const fd = fs.openSync("b", "w+");
fs.writevSync(fd, [Buffer.from("one"), Buffer.from("two")]);
fs.writevSync(fd, [Buffer.from("XY"), Buffer.from("Z")], 1);
fs.writeSync(fd, "far", 1000);
fs.ftruncateSync(fd, 1001);
fs.fdatasyncSync(fd);
fs.linkSync("b", "c");
fs.writeSync(fd, "through another name", 0);
fs.renameSync("deep/er/a", "moved");
fs.renameSync("moved", "c");
fs.rmSync("deep", { recursive: true });
fs.writeFileSync("cut", "to be cut");
fs.writeFileSync("cut", "short");
await Promise.all(Array.from({ length: 20 }, async (_, i) => {
  const file = await fs.promises.open("many-" + i, "wx");
  for (let n = 0; n < 20; n++) await file.write("line " + n + "\\n");
  await file.sync();
  await file.close();
  if (i % 2) await fs.promises.unlink("many-" + i);
}));
const stream = fs.createWriteStream("stream");
for (let n = 0; n < 50; n++) stream.write("x".repeat(5000));
await new Promise((done) => stream.end(done));
for (const mode of ["wal", "delete", "truncate"]) {
  const db = new DatabaseSync(mode + ".db");
  db.exec("pragma journal_mode = " + mode + "; create table t (a); insert into t values (randomblob(20000)); update t set a = randomblob(10000)");
  if (mode !== "wal") db.close(); // The log of the first one stays.
}
`;

function rebuilt(events: readonly Event[]): string[] {
  const disk = new Disk();
  for (const event of events) disk.apply(event);
  return digestOf(disk.image(() => "all"));
}

test("the recorder sees every call that changes a file: the rebuilt folder equals the real one", { skip }, async (t) => {
  const base = scratch();
  t.after(() => rmSync(base, { recursive: true, force: true }));
  const recorder = newRecorder(base);
  const node = await recorder.run(process.execPath, ["--input-type=module", "-e", PROGRAM, recorder.root]);
  assert.equal(node.code, 0, node.stderr);
  const shell = await recorder.run("sh", ["-c", 'cd "$1"; echo one > s; echo two >> s; mkdir d; mv s d/s; ln d/s t; echo said; rm -r d', "sh", recorder.root]);
  assert.deepEqual([shell.code, shell.stdout], [0, "said\n"], shell.stderr);
  const events = recorder.events();
  const real = digestOf(contentOf(recorder.root));
  assert.ok(real.length > 15 && events.length > 500, `${real.length} files, ${events.length} calls`);
  assert.deepEqual(rebuilt(events), real);
  assert.equal(events.filter((event) => event.op === "acknowledge").map(({ text }) => text).join(""), "said\n");
  // And the comparison can fail: any change left out shows.
  const without = (op: Event["op"]) => rebuilt(events.filter((event, i) => event.op !== op || i !== events.findLastIndex((last) => last.op === op)));
  for (const op of ["write", "link"] as const) assert.notDeepEqual(without(op), real, op);
});

test("an image is put on the disk as it is", async (t) => {
  const base = scratch();
  t.after(() => rmSync(base, { recursive: true, force: true }));
  const content = new Map<string, Buffer | null>([["a", null], ["a/b", Buffer.from("b")], ["c", Buffer.alloc(0)]]);
  restore(join(base, "image"), new Map([["old", Buffer.from("gone")]]));
  restore(join(base, "image"), content);
  assert.deepEqual(contentOf(join(base, "image")), content);
});

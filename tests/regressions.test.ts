// Complaints about other tools, as tests on JSON and SQLite, each named after its row in the list they come from: a cut
// store is never empty, writers lose nothing, damage stays readable, cost is linear, and history tells of tampering.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import { isPawlError, PawlError } from "../src/base/errors.ts";
import { openState, type State } from "../src/state.ts";
import { hashOf, LineWriter, NO_HASH } from "../src/store/json/journal.ts";

const quiet = { actor: "ann", notice: () => undefined };
const STORES = ["s.json", "s.db"];

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "pawl-row-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A closed state with three tasks, the first completed. */
async function three(folder: string, file: string): Promise<string> {
  const state = await openState(join(folder, file), quiet);
  for (const description of ["a", "b", "c"]) await state.tasks.add({ description });
  await state.tasks.complete(1, "done");
  await state.close();
  return join(folder, file);
}

const journalOf = (path: string): string => join(`${path}.pawl`, "journal", "000001.jsonl");
const truthOf = (path: string): string => (path.endsWith(".json") ? journalOf(path) : path);
const descriptions = async (state: State) => (await state.tasks.all()).map((task) => task.description);

/** Opens, looks and closes; the error when it is one of ours. */
async function look(path: string, readOnly: boolean): Promise<string[] | PawlError> {
  let state: State | null = null;
  try {
    state = await openState(path, { ...quiet, readOnly });
    return await descriptions(state);
  } catch (error) {
    if (error instanceof PawlError) return error;
    throw error;
  } finally {
    await state?.close().catch(() => undefined);
  }
}

for (const file of STORES) {
  test(`row 9, ${file}: cut at any place, it opens as a last good state or is refused; never empty, never overwritten`, { timeout: 120_000 }, async (t) => {
    const folder = folderFor(t);
    const path = await three(folder, file);
    const copies = folderFor(t);
    const whole = readFileSync(truthOf(path));
    const step = Math.ceil(whole.length / 60);
    const offsets = [0, 1, 99, 100, 511, 512, 4_095, 4_096, whole.length - 1, ...Array.from({ length: 60 }, (_, i) => i * step)].filter((size) => size < whole.length);
    let refused = 0;
    for (const size of new Set(offsets)) {
      const place = join(copies, String(size));
      cpSync(folder, place, { recursive: true });
      const copy = join(place, file);
      truncateSync(truthOf(copy), size);
      for (const readOnly of [true, false]) {
        const bytes = readFileSync(truthOf(copy));
        const found = await look(copy, readOnly);
        if (found instanceof PawlError) {
          refused++;
          assert.ok(["corrupt", "unsupported"].includes(found.code) && found.next, `${size}: ${String(found)}`);
          assert.deepEqual(readFileSync(truthOf(copy)), bytes, `${size}: refused, and changed`);
        } else {
          // A reader of a JSON state shows the lines that are whole; a writer only what cannot have been acknowledged may miss.
          assert.deepEqual(found, ["a", "b", "c"].slice(0, found.length), `${size}`);
          if (!readOnly || file.endsWith(".db")) assert.equal(found.length, 3, `${size}: a cut store was taken for a smaller one`);
        }
      }
      rmSync(place, { recursive: true });
    }
    assert.ok(refused > 20, `only ${refused} were refused`);
  });

  test(`row 10, ${file}: several processes write: no update is lost, none is read half, and nothing piles up`, { timeout: 120_000 }, async (t) => {
    const path = join(folderFor(t), file);
    const setup = await openState(path, quiet);
    const script = `import { openState } from ${JSON.stringify(join(import.meta.dirname, "..", "src", "state.ts"))};
      const state = await openState(process.argv[1], { actor: process.argv[2], notice: () => undefined });
      for (let i = 0; i < 30; i++) { await state.tasks.add({ description: process.argv[2] + "-" + i }); await state.tasks.all(); }
      await state.close();`;
    const children = ["w", "x", "y", "z"].map((name) => spawn(process.execPath, ["--input-type=module", "-e", script, path, name], { stdio: "inherit" }));
    const codes = await Promise.all(children.map(async (child) => (await once(child, "close"))[0] as number));
    assert.deepEqual(codes, [0, 0, 0, 0]);
    const found = await setup.tasks.all();
    assert.deepEqual(found.map((task) => task.id), Array.from({ length: 120 }, (_, i) => i + 1));
    assert.equal(new Set(found.map((task) => task.description)).size, 120);
    await setup.close();
    const beside = readdirSync(join(path, "..")).sort();
    assert.ok(beside.length <= 5, beside.join(" "));
    if (file.endsWith(".json")) assert.ok(readdirSync(`${path}.pawl`).length <= 9, readdirSync(`${path}.pawl`).join(" "));
  });

  test(`row 19, ${file}: damaged, it is still read or refused with its place; a newer format is refused; neither is written to`, async (t) => {
    const folder = folderFor(t);
    const path = await three(folder, file);
    const bytes = readFileSync(truthOf(path));
    const damaged = Buffer.from(bytes);
    if (file.endsWith(".db")) damaged.fill(0x7a, 100, 4_000);
    else damaged.fill(0x7a, Math.floor(bytes.length * 0.6), Math.floor(bytes.length * 0.6) + 20);
    writeFileSync(truthOf(path), damaged);
    const read = await look(path, true);
    if (file.endsWith(".json")) assert.ok(!(read instanceof PawlError) && read.length >= 1, String(read));
    else assert.ok(isPawlError(read, "corrupt"), String(read));
    const written = await look(path, false);
    assert.ok(isPawlError(written, "corrupt") && written.next, String(written));
    assert.deepEqual(readFileSync(truthOf(path)), damaged);
  });

  test(`row 20, ${file}: the hundredth hundred steps cost as many bytes as the first`, { timeout: 120_000 }, async (t) => {
    const path = join(folderFor(t), file);
    const state = await openState(path, quiet);
    await state.tasks.add({ description: "long" });
    const sizes: number[] = [];
    const output = "x".repeat(400);
    const size = () => (file.endsWith(".json") ? statSync(journalOf(path)).size : Number(new DatabaseSync(path, { readOnly: true }).prepare("pragma page_count").get()!["page_count"]) * 4096);
    const worker = state.work({
      execute: async (_, { step }) => {
        for (let i = 0; i < 600; i++) {
          await step(`s${i}`, () => output);
          if (i % 200 === 199) sizes.push(size());
        }
      },
    });
    await worker.idle();
    await state.close();
    assert.equal(sizes.length, 3);
    const [second, third] = [sizes[1]! - sizes[0]!, sizes[2]! - sizes[1]!];
    // The view's hashes in a JSON journal come by time, not by step.
    assert.ok(third < second * 1.3 + 20_000, `the last 200 steps took ${third} bytes, those before ${second}`);
  });

  test(`row 21, ${file}: what is completed stays, with its result and history, however much comes after it`, { timeout: 120_000 }, async (t) => {
    const path = await three(folderFor(t), file);
    const state = await openState(path, quiet);
    for (let round = 0; round < 5; round++) {
      const added = await state.tasks.addAll(Array.from({ length: 20 }, (_, i) => ({ description: `${round}-${i}`, input: "x".repeat(60_000) })));
      for (const task of added) await state.tasks.complete(task.id, "y");
      for (const task of added.slice(0, 10)) await state.tasks.remove(task.id);
    }
    await state.close();
    if (file.endsWith(".json")) assert.ok(readdirSync(join(`${path}.pawl`, "checkpoint")).length > 0, "enough was written for a checkpoint");
    const again = await openState(path, quiet);
    assert.deepEqual([(await again.tasks.get(1)).result, (await again.history.of(1)).length, await again.history.verify(1)], ["done", 2, null]);
    assert.equal((await again.tasks.count()).completed, 51);
    assert.equal((await again.history.of(4)).at(-1)!.event, "removed", "a removed task has its history still");
    await again.close();
  });
}

test("row 25: loops in one folder, each with a state of its own, never see each other's", async (t) => {
  const folder = folderFor(t);
  const states = await Promise.all(["a.json", "b.json", "c.db", "d.db"].map((file) => openState(join(folder, file), quiet)));
  const done: string[] = [];
  await Promise.all(states.map((state, i) => state.tasks.addAll(Array.from({ length: 10 }, (_, n) => ({ description: `${i}:${n}`, key: `k${n}` })))));
  const workers = states.map((state, i) => state.work({ execute: (task) => void done.push(`${i} did ${task.description}`) }));
  await Promise.all(workers.map((worker) => worker.idle()));
  assert.deepEqual(done.sort(), states.flatMap((_, i) => Array.from({ length: 10 }, (_, n) => `${i} did ${i}:${n}`)).sort());
  for (const [i, state] of states.entries()) assert.ok((await descriptions(state)).every((description) => description.startsWith(`${i}:`)));
  await Promise.all(states.map((state) => state.close()));
});

/** The journal with `edit` made of its text, all checksums and hashes right again: what a careful forger would write. */
function forge(path: string, edit: (body: string) => string): void {
  const writer = new LineWriter();
  let prev = NO_HASH;
  const lines = readFileSync(journalOf(path), "utf8").trimEnd().split("\n").map((line) => {
    const body = edit(line.slice(9)).replace(/"prev":"[0-9a-f]{16}"/, `"prev":"${prev}"`);
    prev = hashOf(Buffer.from(body));
    return Buffer.from(writer.write(body).bytes);
  });
  writeFileSync(journalOf(path), Buffer.concat(lines));
}

for (const file of STORES) {
  test(`row 29, ${file}: a changed entry of a history is named, even when every checksum of the store was made right`, async (t) => {
    const path = join(folderFor(t), file);
    const state = await openState(path, quiet);
    const { id } = await state.tasks.add({ description: "a" });
    await state.tasks.fail(id, "the true reason");
    await state.tasks.retry(id);
    await state.tasks.complete(id, "ok");
    assert.equal(await state.history.verify(id), null);
    await state.close();
    if (file.endsWith(".json")) forge(path, (body) => body.replaceAll("the true reason", "a nicer one"));
    else {
      const db = new DatabaseSync(path);
      db.exec("update transition set reason = 'a nicer one' where reason = 'the true reason'");
      db.close();
    }
    const again = await openState(path, { ...quiet, readOnly: true });
    assert.deepEqual([(await again.history.of(id))[1]!.reason, await again.history.verify(id)], ["a nicer one", 2]);
    await again.close();
  });
}

test("row 29, s.json: whole lines cut from the end of the journal are missed, because the view shows a later one", async (t) => {
  const path = await three(folderFor(t), "s.json");
  const lines = readFileSync(journalOf(path), "utf8").trimEnd().split("\n");
  const cut = Buffer.from(`${lines.slice(0, 4).join("\n")}\n`);
  writeFileSync(journalOf(path), cut);
  const found = await look(path, false);
  assert.ok(isPawlError(found, "corrupt") && /missing/.test(found.message), String(found));
  assert.deepEqual(readFileSync(journalOf(path)), cut);
});

for (const file of STORES) {
  test(`row 30, ${file}: a state of an older version opens with what it had; one of a newer version is refused and left alone`, async (t) => {
    const path = await three(folderFor(t), file);
    if (file.endsWith(".json")) forge(path, (body) => body.replaceAll('"takeovers":0,', "").replaceAll('"reviews":0,', ""));
    else {
      const db = new DatabaseSync(path);
      db.exec("alter table task drop column takeovers; alter table task drop column feedback; update pawl set value = 'older' where name = 'schema'");
      db.close();
    }
    for (const readOnly of [true, false]) assert.deepEqual(await look(path, readOnly), ["a", "b", "c"], `readOnly ${readOnly}`);
    if (file.endsWith(".json")) forge(path, (body) => body.replace('"format":1', '"format":9'));
    else {
      const db = new DatabaseSync(path);
      db.exec("pragma user_version = 9");
      db.close();
    }
    const bytes = readFileSync(truthOf(path));
    for (const readOnly of [true, false]) {
      const found = await look(path, readOnly);
      assert.ok(isPawlError(found, "unsupported") && /format 9/.test(found.message) && /Update Pawl|newer Pawl/.test(found.next ?? ""), String(found));
    }
    assert.deepEqual(readFileSync(truthOf(path)), bytes);
    assert.ok(existsSync(path));
  });
}

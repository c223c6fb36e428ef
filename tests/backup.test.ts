// A backup is taken while others write, holds everything acknowledged before it began, opens by itself, goes back by copying,
// and never takes the place of anything.
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { test } from "node:test";
import { contentHash } from "../src/core/copy.ts";
import { openState, placeAt } from "../src/state.ts";
import { place } from "./pawl.ts";

const quiet = { actor: "ann", notice: () => undefined };

for (const name of ["state.json", "state.db"]) {
  test(`${name}: taken while a worker runs, whole, read back, put back by copying`, async (t) => {
    const desk = place(t, name);
    const state = await openState(desk.state, quiet);
    await state.tasks.addAll([...Array(300)].map((_, i) => ({ description: `task ${i}` })));
    const worker = state.work({ concurrency: 4, execute: (task, { step }) => step("s", () => ({ id: task.id, text: "x".repeat(500) })) });
    const hashes: string[] = [];
    for (let i = 0; i < 3; i++) {
      const done = (await state.tasks.count()).completed;
      const to = await placeAt(desk.state, quiet).backup(desk.path(`copy/${i}-${name}`));
      const copy = await openState(to, { ...quiet, readOnly: true });
      const there = await copy.tasks.all();
      assert.ok(there.filter(({ status }) => status === "completed").length >= done, "what was acknowledged before it began is in it");
      for (const { id } of there.slice(0, 20)) assert.equal(await copy.history.verify(id), null);
      await copy.close();
      assert.equal((await placeAt(to, quiet).doctor({ deep: true })).findings.filter(({ severity }) => severity === "error").length, 0);
      assert.equal(statSync(to).mode & 0o077, 0);
    }
    await worker.idle();
    await state.close();
    const to = await placeAt(desk.state, quiet).backup();
    assert.equal(dirname(to), desk.folder);
    for (const path of [desk.state, to]) {
      const opened = await openState(path, { ...quiet, readOnly: true });
      hashes.push((await contentHash(opened.committer.store)).hash);
      await opened.close();
    }
    assert.equal(hashes[0], hashes[1]);
    for (const suffix of ["", "-wal", "-shm", ".pawl"]) {
      rmSync(desk.state + suffix, { recursive: true, force: true });
      if (existsSync(to + suffix)) cpSync(to + suffix, desk.state + suffix, { recursive: true, preserveTimestamps: true });
    }
    const back = await openState(desk.state, quiet);
    assert.equal((await contentHash(back.committer.store)).hash, hashes[0]);
    assert.equal((await back.tasks.add({ description: "goes on" })).id, 301);
    await back.close();
    assert.deepEqual(readdirSync(desk.folder).filter((left) => left.endsWith(".tmp")), []);
  });

  test(`${name}: a backup replaces nothing, and one that fails leaves nothing`, async (t) => {
    const desk = place(t, name);
    assert.equal((await desk.pawl(["backup"])).code, 3);
    assert.deepEqual(readdirSync(desk.folder), []);
    await desk.pawl(["add", "one"]);
    writeFileSync(desk.path(`taken-${name}`), "mine");
    const refused = await desk.pawl(["backup", `taken-${name}`]);
    assert.deepEqual([refused.code, /exists/.test(refused.stderr)], [4, true], refused.stderr);
    assert.equal((await desk.pawl(["backup", name === "state.db" ? "other.json" : "other.db"])).code, 2, "of the same kind only");
    mkdirSync(desk.path("dir"));
    writeFileSync(desk.path("dir/file"), "");
    assert.notEqual((await desk.pawl(["backup", `dir/file/${name}`])).code, 0);
    assert.deepEqual(readdirSync(desk.path("dir")), ["file"]);
    const made = await desk.pawl(["backup", `good/${name}`]);
    assert.equal(made.code, 0, made.stderr);
    assert.match(made.stdout, /read back and whole[^]*To put it back/);
    assert.equal((await desk.json<unknown[]>(["list", "--state", `good/${name}`])).length, 1);
    assert.deepEqual(readdirSync(desk.folder).filter((left) => left.endsWith(".tmp")), []);
  });
}

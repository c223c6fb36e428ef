// The doctor beside workers: what it reads is one moment, so that work in progress is never taken for damage.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { statSync } from "node:fs";
import { test, type TestContext } from "node:test";
import { systemClock } from "../src/base/clock.ts";
import { type Finding, finding } from "../src/base/finding.ts";
import { type FileSystem, nodeFs } from "../src/base/fs.ts";
import { systemRandom } from "../src/base/id.ts";
import { examine, type Examined, lookTwice } from "../src/core/doctor.ts";
import { openState, placeAt } from "../src/state.ts";
import { siteAt } from "../src/state/opening.ts";
import type { Store } from "../src/store/store.ts";
import { BIN, place } from "./pawl.ts";

const quiet = { actor: "ann", notice: () => undefined };
const STATES = [".pawl/state.json", ".pawl/state.db"] as const;
const bad = (findings: readonly Finding[]): string[] => findings.filter(({ severity }) => severity !== "note").map(({ code, record, place: where, message }) => `${code} ${record ?? where}: ${message}`);

for (const name of STATES) {
  test(`${name}: beside a worker that completes task after task nothing is wrong`, async (t) => {
    const at = place(t, name);
    at.write("tasks.txt", [...Array(80).keys()].map((i) => `task ${i}\n`).join(""));
    const run = at.start(["run", "tasks.txt", "--exec", "true"]);
    await run.until(/\d/);
    let ended = false;
    void run.ended.finally(() => (ended = true));
    let looks = 0;
    for (; !ended; looks++) {
      assert.deepEqual(bad((await placeAt(at.state, quiet).doctor()).findings), []);
      const reader = await openState(at.state, { ...quiet, readOnly: true, damaged: (error) => assert.fail(error) });
      assert.deepEqual((await reader.status()).edits, []);
      await reader.close();
    }
    assert.ok(looks > 3, `${looks} looks`);
    assert.equal((await run.ended).code, 0);
  });

  test(`${name}: what is written while the records are read is not seen`, async (t) => {
    const at = place(t, name);
    const state = await openState(at.state, quiet);
    t.after(() => state.close());
    for (let i = 0; i < 5; i++) await state.tasks.add({ description: `task ${i}` });
    const store = await siteAt(at.state, { clock: systemClock, random: systemRandom }).open({ readOnly: true });
    t.after(() => store.close());
    let written = false;
    // Between the tasks and their histories.
    const list: Store["list"] = async (kind, query) => {
      if (kind === "transition" && !written) for (const id of [1, 5]) await state.tasks.cancel(id);
      written ||= kind === "transition";
      return store.list(kind, query);
    };
    const between = new Proxy(store, { get: (target, field) => (field === "list" ? list : ((value) => (typeof value === "function" ? value.bind(target) : value))(Reflect.get(target, field) as unknown)) });
    assert.deepEqual((await examine(between, { deep: true, now: systemClock.now() })).findings, []);
    assert.ok(written);
    assert.equal((await state.tasks.get(5)).status, "cancelled");
  });
}

/** Runs `once` when the doctor is about to open a file that `matches`, the first time. */
function before(t: TestContext, matches: (path: string) => boolean, once: () => void): void {
  const fs = nodeFs as { open: FileSystem["open"] };
  const { open } = fs;
  let done = false;
  fs.open = (path, mode) => {
    if (!done && matches(path)) {
      done = true;
      once();
    }
    return open(path, mode);
  };
  t.after(() => {
    fs.open = open;
    assert.ok(done, "the file was opened");
  });
}

for (const [what, matches] of [["view", (path: string) => path.endsWith("state.json")], ["journal", (path: string) => path.endsWith("000001.jsonl")]] as const) {
  test(`a task that another process adds before the ${what} is read makes neither short nor edited what is not`, async (t) => {
    const at = place(t);
    await at.pawl(["add", "one"]);
    const old = statSync(at.state).ino;
    before(t, matches, () => void spawnSync(process.execPath, [BIN, "add", "two"], { cwd: at.folder, env: { ...process.env, PAWL_STATE: at.state } }));
    assert.deepEqual((await placeAt(at.state, quiet).doctor()).findings, []);
    assert.notEqual(statSync(at.state).ino, old, "there is a new view");
  });
}

test("a finding is reported when it is there at two moments", async () => {
  const untold = (id: number, message = "told not") => finding("untold", "", message, { record: `task ${id}` });
  const more = (n: number) => finding("untold", "", `${n} more like these.`);
  const looks: Finding[][] = [[untold(1), untold(2), untold(3), more(5)], [untold(2), untold(3, "another"), untold(4), more(4)]];
  const look = async (): Promise<Examined> => ({ findings: looks.shift()!, records: {}, chains: 0 });
  assert.deepEqual((await lookTwice(look)).findings, [untold(2), more(4)]);
});

// The real command line on a real disk whose system calls fail or never return, by strace: what it says is true, and the
// next command is fine. The JSON store's every call is swept on the simulated disk (faults.test.ts); this shows that what
// is simulated there happens, and does the same for SQLite.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { BIN, place } from "../pawl.ts";

const works = process.platform === "linux" && spawnSync("strace", ["-e", "trace=none", "true"]).status === 0;

const FAULTS: { readonly [file: string]: readonly string[] } = {
  "state.json": ["fdatasync:error=EIO:when=1+", "fsync:error=EIO:when=1+", "rename:error=EACCES:when=1+", "fdatasync:signal=SIGKILL:when=1"],
  "state.db": ["fsync:error=EIO:when=1+", "pwrite64:error=ENOSPC:when=1+", "pwrite64:signal=SIGKILL:when=2"],
};

for (const [file, faults] of Object.entries(FAULTS)) {
  test(`system calls that fail: ${file}`, { skip: works ? false : "strace is not there or may not trace", timeout: 180_000 }, async (t) => {
    for (const fault of faults) {
      const { pawl, json, folder, path, state } = place(t, file);
      assert.equal((await pawl(["add", "before"])).code, 0);
      const log = path("strace.log");
      const ended = spawnSync("strace", ["-f", "-o", log, "-e", `trace=${fault.split(":")[0]}`, "-e", `inject=${fault}`, process.execPath, BIN, "add", "victim", "--json"], { cwd: folder, env: { ...process.env, PAWL_STATE: state, PAWL_ACTOR: "tester" }, encoding: "utf8" });
      const said = ended.status === 0 ? "acknowledged" : ended.signal !== null || ended.stderr === "" ? "killed" : (JSON.parse(ended.stderr.trim().split("\n").at(-1)!) as { data: { code: string } }).data.code;
      assert.equal((await pawl(["add", "after"])).code, 0, `${fault}: the next command`);
      const there = (await json<{ description: string }[]>(["list"])).map(({ description }) => description);
      t.diagnostic(`${fault}: ${said}, struck ${readFileSync(log, "utf8").split("INJECTED").length - 1} times`);
      assert.ok(there.includes("before") && there.includes("after"), `${fault}: ${there.join()}`);
      if (said === "acknowledged") assert.ok(there.includes("victim"), `${fault}: acknowledged and gone`);
      else if (said === "storage") assert.ok(!there.includes("victim"), `${fault}: said to have failed and there`);
      else assert.ok(["commit_unknown", "killed"].includes(said), `${fault}: ${said} ${ended.stderr}`);
    }
  });
}

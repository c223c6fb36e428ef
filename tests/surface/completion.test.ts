// What TAB offers, and what a line that was mistyped is told: commands, flags, values, files; the help that fits.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { test } from "node:test";
import { BIN, place } from "../pawl.ts";

test("files, agents and verifiers are offered where they belong", async (t) => {
  const at = place(t);
  at.write("tasks.txt", "");
  mkdirSync(at.path("lists"));
  const offered = async (...words: string[]) => (await at.pawl(["completion", "complete", "--", ...words])).stdout.split("\n").filter((line) => line.includes("\t")).map((line) => line.split("\t")[0]);
  assert.deepEqual((await offered("run", "")).sort(), ["lists/", "tasks.txt"]);
  assert.deepEqual(await offered("import", "ta"), ["tasks.txt"]);
  assert.deepEqual(await offered("run", "--with", ""), ["claude"]);
  assert.deepEqual(await offered("list", "--status", "comp"), ["completed"]);
});

test("the bash script works without the package bash-completion", (t) => {
  const at = place(t);
  at.write("tasks.txt", "");
  const script = `pawl() { "${process.execPath}" "${BIN}" "$@"; }
compopt() { :; }
eval "$(pawl completion bash)"
COMP_WORDS=(pawl run ta) COMP_CWORD=2
__pawl_complete
echo "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = spawnSync("bash", ["--norc", "-c", script], { cwd: at.folder, encoding: "utf8" });
  assert.deepEqual([stdout.trim(), stderr], ["tasks.txt", ""]);
});

test("a mistake is answered with the help of the command that was meant", async (t) => {
  const at = place(t);
  const cases = [
    [["--sate", "x", "list"], "Did you mean --state? See pawl --help."], [["--nonsense"], "See pawl --help."], [["batch", "shw"], "Did you mean show? See pawl batch --help."],
    [["ls", "--nope"], "See pawl list --help."], [["run", "--nope"], "Did you mean --once? See pawl run --help."], [["batch", "show"], "See pawl batch show --help."],
  ] as const;
  for (const [args, next] of cases) assert.match((await at.pawl(args)).stderr, new RegExp(`next: ${next.replaceAll(/[.?]/g, "\\$&")}\n`), args.join(" "));
});

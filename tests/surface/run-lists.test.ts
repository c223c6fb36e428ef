// What `pawl run` is about: a list from standard input, variables that the batch remembers, a dry run as a document, and a
// run without a list that counts and works only what belongs to no batch. The real command line.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { place } from "../pawl.ts";

type Task = { id: number; status: string; description: string; batch_id: string | null };

test("a list from standard input is read once: worked, as a format, and in a dry run", async (t) => {
  const at = place(t);
  const dry = await at.pawl(["run", "-", "--exec", "echo {description}", "--dry-run", "--json"], { input: "one\ntwo\n" });
  assert.equal(dry.code, 0, dry.stderr);
  const { kind, data } = JSON.parse(dry.stdout) as { kind: string; data: object };
  assert.equal(kind, "run-plan");
  assert.deepEqual(data, { batch: null, executor: "command: echo '{description}'", verifier: null, add: ["one", "two"], run: [] });
  const run = await at.pawl(["run", "-", "--format", "text", "--exec", "echo {description}"], { input: "one\ntwo\n" });
  assert.equal(run.code, 0, run.stdout + run.stderr);
  assert.deepEqual((await at.json<Task[]>(["list"])).map((task) => [task.description, task.status]), [["one", "completed"], ["two", "completed"]]);
  const empty = await at.pawl(["run", "-", "--exec", "true"], { input: "" });
  assert.match(empty.stderr, /Standard input holds no task/);
});

test("variables of a list are remembered; one without a value is refused with its line before anything changes", async (t) => {
  const at = place(t);
  at.write("l.csv", "description\nhello {{WHO}}\nkeep \\{{WHO}}\n");
  const unfilled = await at.pawl(["run", "l.csv", "--exec", "echo {description}"]);
  assert.equal(unfilled.code, 2);
  assert.match(unfilled.stderr, /l\.csv:2: \{\{WHO\}\} has no value\.\nnext: .*--var WHO=VALUE/);
  assert.match((await at.pawl(["list"])).stderr, /no state here/);
  assert.equal((await at.pawl(["run", "l.csv", "--var", "WHO=me", "--exec", "echo {description}"])).code, 0);
  const again = await at.pawl(["run", "l.csv"]);
  assert.match(again.stdout, /2\/2 completed \(100%\)\nAll tasks completed! Nothing to do\./);
  assert.match((await at.pawl(["import", "l.csv"])).stdout, /0 added, 2 known already/);
  const other = await at.pawl(["run", "l.csv", "--var", "WHO=you"]);
  assert.match(other.stdout, /Imported 1 new task from l\.csv\n1 task is no longer in l\.csv; it stays\./, "a flag overrides");
  assert.deepEqual((await at.json<Task[]>(["list"])).map((task) => task.description), ["hello me", "keep {{WHO}}", "hello you"]);
  assert.equal((await at.pawl(["run", "l.csv"])).code, 0, "and is remembered in its turn");
  assert.equal((await at.json<Task[]>(["list"])).length, 3);
});

test("a run without a list works and counts what belongs to no batch, in its queue", async (t) => {
  const at = place(t);
  at.write("stuck.txt", "a\nb\n");
  assert.equal((await at.pawl(["run", "stuck.txt", "--exec", "false", "--max-attempts", "1", "--backoff", "off"])).code, 1);
  at.write("waiting.txt", "c\n");
  await at.pawl(["import", "waiting.txt"]);
  await at.pawl(["add", "mine"]);
  await at.pawl(["add", "other", "--queue", "mail"]);
  const run = await at.pawl(["run", "--exec", "echo {description}"]);
  assert.equal(run.code, 0, run.stdout + run.stderr);
  assert.match(run.stdout, /Progress: 0\/1 completed \(0%\)\n1 task remaining\n\[Task 4\] mine\n  ✓ Completed \(1\/1\)\nAll tasks completed!/);
  const statuses = (await at.json<Task[]>(["list"])).map((task) => [task.description, task.status]);
  assert.deepEqual(statuses, [["a", "failed"], ["b", "failed"], ["c", "pending"], ["mine", "completed"], ["other", "pending"]]);
  const retried = await at.pawl(["run", "--exec", "true", "--retry-failed"]);
  assert.doesNotMatch(retried.stdout, /Trying/, "the failed tasks of a batch are not its own");
});

test("a report can be imported again, also when it speaks of braces", async (t) => {
  const at = place(t);
  await at.pawl(["add", "fill {{NAME}} and {{}}"]);
  for (const format of ["json", "csv", "markdown"]) {
    const report = await at.pawl(["export", "--format", format]);
    if (format === "json") assert.equal((JSON.parse(report.stdout) as { tasks: Task[] }).tasks[0]!.description, "fill {{NAME}} and {{}}");
    const imported = await at.pawl(["import", "-", "--format", format, "--json"], { input: report.stdout });
    assert.equal(imported.code, 0, imported.stderr);
  }
  for (const { description } of await at.json<Task[]>(["list"])) assert.match(description, /^fill {{NAME}} and {{}}/);
});

test("--depends-on takes ids and keys; one that is not there is named", async (t) => {
  const at = place(t);
  await at.pawl(["add", "first", "--key", "one"]);
  await at.pawl(["add", "second"]);
  assert.deepEqual((await at.json<{ depends_on: number[] }>(["add", "third", "--depends-on", "one,2"])).depends_on, [1, 2]);
  assert.deepEqual((await at.json<{ depends_on: number[] }>(["edit", "3", "--depends-on", "one"])).depends_on, [1]);
  const missing = await at.pawl(["add", "x", "--depends-on", "nobody"]);
  assert.equal(missing.code, 3);
  assert.match(missing.stderr, /task not found: nobody/);
});

test("what a batch remembers, changed by hand before a run, is what that run goes by", async (t) => {
  const at = place(t);
  at.write("a.txt", "one\n");
  assert.equal((await at.pawl(["run", "a.txt", "--exec", "echo old", "--max-attempts", "2"])).code, 0);
  const file = at.path(".pawl/state.json");
  const view = JSON.parse(readFileSync(file, "utf8")) as { batches: { executor: { command: string[] }; limits: Record<string, unknown> }[] };
  view.batches[0]!.executor.command = ["echo", "new"];
  view.batches[0]!.limits = { max_attempts: 5 };
  writeFileSync(file, JSON.stringify(view, null, 2));
  at.write("a.txt", "one\ntwo\n");
  const run = await at.pawl(["run", "a.txt"]);
  assert.match(run.stderr, /edited by hand: 1 change/);
  const two = (await at.json<{ description: string; result: string; max_attempts: number }[]>(["list"]))[1]!;
  assert.deepEqual([two.result, two.max_attempts], ["new", 5]);
  const [batch] = (JSON.parse(readFileSync(file, "utf8")) as typeof view).batches;
  assert.deepEqual([batch!.executor.command, batch!.limits["max_attempts"]], [["echo", "new"], 5]);
});

test("a list of the same name from a folder that comes and goes is a new one", async (t) => {
  const at = place(t);
  for (const word of ["first", "second"]) {
    const elsewhere = mkdtempSync(join(tmpdir(), "pawl-list-"));
    writeFileSync(join(elsewhere, "a.txt"), "one\n");
    assert.equal((await at.pawl(["run", join(elsewhere, "a.txt"), "--exec", `echo ${word}`])).code, 0);
    rmSync(elsewhere, { recursive: true });
  }
  assert.deepEqual((await at.json<{ result: string }[]>(["list"])).map(({ result }) => result), ["first", "second"]);
});

test("a list that was moved with its folder is not worked again as if it were new", async (t) => {
  const at = place(t);
  mkdirSync(at.path("here"));
  at.write("here/a.txt", "one\n");
  assert.equal((await at.pawl(["run", "here/a.txt", "--exec", "echo done"])).code, 0);
  renameSync(at.path("here"), at.path("there"));
  const moved = await at.pawl(["run", "there/a.txt", "--exec", "echo again"]);
  assert.equal(moved.code, 4, moved.stderr);
  const [, batch] = /^error: (\S+) was made from .*here\/a\.txt, which is gone: there\/a\.txt may be that list, moved\.$/m.exec(moved.stderr)!;
  assert.match(moved.stderr, new RegExp(`next: Go on with it: pawl run --resume ${batch}\\. If this is another list: pawl run there/a\\.txt --new\\.`));
  assert.match((await at.pawl(["run", "--resume", batch!])).stdout, /Nothing to do/);
  assert.equal((await at.pawl(["run", "there/a.txt", "--exec", "echo again", "--new"])).code, 0);
  assert.deepEqual((await at.json<{ result: string }[]>(["list"])).map(({ result }) => result), ["done", "again"]);
});

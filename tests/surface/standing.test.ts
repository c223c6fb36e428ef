// Where things stand, as it is told: workers that are dead, work that is due elsewhere, reviews that are somebody's turn,
// attempts that failed. The real command line, with real kills.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { test } from "node:test";
import { summarize } from "../../src/core/batch.ts";
import { summaryLines } from "../../src/surface/run-loop.ts";
import { eventually, place } from "../pawl.ts";

type Task = { id: number; status: string };

/** A run killed with its tasks in progress. */
async function killed(at: ReturnType<typeof place>, count: number): Promise<void> {
  at.write("work.sh", "#!/bin/sh\ntouch started.$PAWL_TASK_ID\nwhile [ ! -e stop ]; do sleep 0.1; done\n", 0o755);
  const run = at.start(["run", "--exec", "./work.sh", "--concurrency", String(count)]);
  for (let id = 1; id <= count; id++) await eventually(() => existsSync(at.path(`started.${id}`)), `task ${id} runs`);
  run.child.kill("SIGKILL");
  at.write("stop", "");
  await run.ended;
}

test("a dead worker is spoken of as dead, by commands that write nothing; complete, fail and rm take over first", async (t) => {
  const at = place(t);
  for (const task of ["a", "b", "c", "d"]) await at.pawl(["add", task]);
  await killed(at, 4);
  const why = await at.pawl(["why", "1"]);
  assert.match(why.stdout, /was working on it, attempt 1 of 3\. Its process is gone: the next command or worker takes it over\./);
  assert.match(why.stdout, /Next: pawl run --exec/);
  assert.match((await at.pawl(["status"])).stdout, /Workers:\n .* is gone; the next command or worker takes over what it left/);
  assert.equal((await at.json<{ workers: { dead: boolean }[] }>(["status"])).workers[0]!.dead, true);
  assert.ok((await at.json<Task[]>(["list"])).every((task) => task.status === "in_progress"), "they only read");
  assert.match((await at.pawl(["complete", "1", "--result", "by me"])).stdout, /task 1 completed/);
  assert.deepEqual((await at.json<Task[]>(["list"])).map((task) => task.status), ["completed", "pending", "pending", "pending"]);
  assert.match((await at.pawl(["history", "1"])).stdout, /owner_lost/);
  await at.pawl(["reset", "--all"]);
});

test("a living worker keeps its task, and is spoken of as alive", async (t) => {
  const at = place(t);
  await at.pawl(["add", "a"]);
  at.write("work.sh", "#!/bin/sh\ntouch started\nwhile [ ! -e stop ]; do sleep 0.1; done\n", 0o755);
  const run = at.start(["run", "--exec", "./work.sh"]);
  await eventually(() => existsSync(at.path("started")), "it runs");
  assert.match((await at.pawl(["why", "1"])).stdout, /is working on it, attempt 1 of 3\.[^]*Next: pawl release 1 --force/);
  for (const args of [["complete", "1"], ["fail", "1", "--reason", "x"], ["rm", "1"]]) assert.equal((await at.pawl(args)).code, 4, args[0]);
  at.write("stop", "");
  assert.equal((await run.ended).code, 0);
});

test("run, next and claim say what is due in other queues", async (t) => {
  const at = place(t);
  for (const queue of ["mail", "mail", "print jobs"]) await at.pawl(["add", "x", "--queue", queue]);
  assert.equal((await at.pawl(["next"])).stderr, "pawl: 2 are due in queue mail: pawl next --queue mail; 1 is due in queue print jobs: pawl next --queue 'print jobs'\n");
  const nothing = await at.pawl(["run", "--exec", "echo"]);
  assert.match(nothing.stderr, /Nothing is due in queue default\. 2 are due in queue mail: pawl run --queue mail; 1 is due in queue print jobs: pawl run --queue 'print jobs'/);
  const mail = await at.pawl(["run", "--exec", "echo", "--queue", "mail"]);
  assert.deepEqual([mail.code, mail.stderr], [0, ""]);
});

test("next and claim say what is due in batches; the data is the same", async (t) => {
  const at = place(t);
  at.write("tasks.txt", "one\ntwo\n");
  const { batch } = await at.json<{ batch: { id: string } }>(["import", "tasks.txt"]);
  const next = await at.pawl(["next"]);
  assert.equal(next.stdout, "No tasks.\n");
  assert.equal(next.stderr, `pawl: 2 are due in ${batch.id}: pawl next --batch ${batch.id}\n`);
  const claim = await at.pawl(["claim", "--json"]);
  assert.equal((JSON.parse(claim.stdout) as { data: unknown }).data, null);
  assert.match(claim.stderr, new RegExp(`2 are due in ${batch.id}: pawl claim --batch ${batch.id}`));
  assert.equal((await at.pawl(["claim", "--batch", batch.id])).stderr, "");
});

test("the inbox is named only when it holds something about these tasks", async (t) => {
  const judged = summarize({ completed: 1, review: 1 });
  assert.deepEqual(summaryLines(judged, 0, "pawl run"), ["1/2 completed, 1 in review", "Whose turn a review is: pawl why ID"]);
  assert.deepEqual(summaryLines(judged, 1, "pawl run"), ["1/2 completed, 1 in review", "Waiting for you: pawl inbox"]);
  const at = place(t);
  at.write("more.txt", "two\n");
  const asked = await at.pawl(["run", "more.txt", "--exec", "echo x", "--verify", "ask"]);
  assert.equal(asked.code, 1);
  assert.match(asked.stderr, /^A person must judge the result of task 1, and there is no terminal to ask at\. See it with pawl show 1, then settle it: pawl inbox\.$/m);
  assert.match(asked.stdout, /1 in review\nWaiting for you: pawl inbox/);
});

test("a failed attempt is told also without a back-off", async (t) => {
  const at = place(t);
  await at.pawl(["add", "a"]);
  const run = await at.pawl(["run", "--exec", "sh -c 'echo no route >&2; exit 1'", "--backoff", "off", "--max-attempts", "2"]);
  assert.match(run.stdout, /\[Task 1\] a\n  ↻ Attempt 1 failed: command exited with code 1: no route\n\[Task 1\] a \(attempt 2 of 3\)\n/);
});

test("a usage limit is said with its end, shown by status, and kept by the next process of the batch", async (t) => {
  const at = place(t);
  at.write("two.md", "- [ ] one\n- [ ] two\n");
  const until = Math.floor(Date.now() / 1000) + 3_600;
  const PATH = [join(import.meta.dirname, "../fixtures"), dirname(process.execPath), process.env["PATH"]].join(delimiter);
  const end = new Date(until * 1000).toISOString();
  const limited = at.start(["run", "two.md", "--with", "claude"], { env: { PATH, CLAUDE_ANSWER: `Claude AI usage limit reached|${until}`, CLAUDE_EXIT: "1" } });
  await limited.until(/usage limit until/);
  limited.child.kill("SIGINT");
  assert.equal((await limited.ended).code, 130);
  assert.match(limited.errors(), new RegExp(`: usage limit until ${end}; nothing is started before, no attempt was counted`));
  assert.match((await at.pawl(["status"])).stdout, new RegExp(`usage limit until ${end}; nothing is started before`));
  const next = at.start(["run", "two.md", "--with", "claude"], { env: { PATH } });
  await next.until(new RegExp(`Still a usage limit until ${end}`));
  await eventually(async () => (await at.json<{ workers: object[] }>(["status"])).workers.length === 1, "its worker is there");
  next.child.kill("SIGINT");
  assert.equal((await next.ended).code, 130);
  assert.doesNotMatch(next.output(), /\[Task/);
  assert.deepEqual((await at.json<{ attempts: number; status: string }[]>(["list"])).map(({ status, attempts }) => [status, attempts]), [["pending", 1], ["pending", 0]]);
  const ignored = await at.pawl(["run", "two.md", "--ignore-limit", "--max-tasks", "1"], { env: { PATH } });
  assert.match(ignored.stdout, /\[Task 1\] one\n.*Completed \(1\/2\)/, "the task that met it comes first");
  assert.doesNotMatch((await at.pawl(["status"])).stdout, /usage limit/);
});

test("a usage limit holds for the program that met it only", async (t) => {
  const at = place(t);
  at.write("two.md", "- [ ] one\n- [ ] two\n");
  const until = Math.floor(Date.now() / 1000) + 3_600;
  const PATH = [join(import.meta.dirname, "../fixtures"), dirname(process.execPath), process.env["PATH"]].join(delimiter);
  const limited = at.start(["run", "two.md", "--with", "claude"], { env: { PATH, CLAUDE_ANSWER: `Claude AI usage limit reached|${until}`, CLAUDE_EXIT: "1" } });
  await limited.until(/usage limit until/);
  limited.child.kill("SIGINT");
  await limited.ended;
  const other = await at.pawl(["run", "two.md", "--exec", "echo done"]);
  assert.deepEqual([other.code, /usage limit/.test(other.stdout + other.stderr)], [0, false], other.stdout + other.stderr);
});

// Schedules and concurrency keys through the command line, and the example of a worker with both, as its readers run it.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { test } from "node:test";
import type { Schedule } from "../../src/core/schedule.ts";
import type { Task } from "../../src/core/records.ts";
import { eventually, place } from "../pawl.ts";

const EXAMPLES = join(import.meta.dirname, "..", "..", "examples");

test("a schedule from its first command to its last", async (t) => {
  const at = place(t);
  const added = await at.pawl(["schedule", "add", "nightly", "--cron", "0 3 * * *", "--time-zone", "Europe/Berlin", "--missed", "skip", "--queue", "q", "--deadline", "1h", "--", "clean", "up"]);
  assert.equal(added.code, 0, added.stderr);
  assert.match(added.stdout, /^schedule nightly\n +when +0 3 \* \* \* Europe\/Berlin\n +next +\d{4}-.*T0[12]:00:00\.000Z\n/);
  const [schedule] = await at.json<Schedule[]>(["schedule", "list"]);
  assert.deepEqual([schedule!.missed, schedule!.task], ["skip", { deadline_ms: 3_600_000, description: "clean up", queue: "q" }]);
  assert.match((await at.pawl(["schedule", "list"])).stdout, /^name +when +next +last +task\nnightly +0 3 \* \* \* Europe\/Berlin +\d{4}\S+ +clean up\n$/);
  const task = await at.json<Task>(["schedule", "run", "nightly"]);
  assert.deepEqual([task.queue, task.description, task.deadline_at !== null], ["q", "clean up", true]);
  assert.match((await at.pawl(["why", String(task.id)])).stdout, /Schedule "nightly" added it/);
  assert.match((await at.pawl(["schedule", "pause", "nightly"])).stdout, /next +paused/);
  assert.match((await at.pawl(["schedule", "resume", "nightly"])).stdout, /next +\d{4}/);
  assert.equal((await at.pawl(["schedule", "rm", "nightly"])).code, 0);
  assert.equal((await at.pawl(["schedule", "list"])).stdout, "No schedules.\n");
});

test("wrong schedules and keys are refused with what helps", async (t) => {
  const at = place(t);
  await at.pawl(["schedule", "add", "x", "--every", "1h", "--", "look"]);
  const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
    [["schedule", "add", "y", "--", "look"], 2, /cron expression or an interval/],
    [["schedule", "add", "y", "--every", "10ms", "--", "look"], 2, /at least 1000/],
    [["schedule", "add", "y", "--cron", "99 * * * *", "--", "look"], 2, /minute: 99/],
    [["schedule", "add", "y", "--cron", "* * * * *", "--missed", "some", "--", "look"], 2, /missed/],
    [["schedule", "add", "x", "--every", "2h", "--", "look"], 4, /says something else/],
    [["schedule", "show", "none"], 3, /schedule not found: none/],
    [["add", "--concurrency-key", " ", "x"], 2, /concurrency_key/],
    [["add", "--concurrency-key", "k", "--concurrency-limit", "1001", "x"], 2, /concurrency_limit is not usable: it must be a whole number from 1 to 1000/],
  ];
  const ended = await Promise.all(cases.map(([args]) => at.pawl(args)));
  for (const [i, [args, code, message]] of cases.entries()) assert.deepEqual([ended[i]!.code, message.test(ended[i]!.stderr)], [code, true], `${args.join(" ")}: ${ended[i]!.stderr}`);
  assert.deepEqual(await at.json<Task[]>(["list"]), []);
});

test("the example of a worker with two queues, as its page says", async (t) => {
  const at = place(t);
  const page = readFileSync(join(EXAMPLES, "worker", "README.md"), "utf8");
  const worker = at.start(["worker", join(EXAMPLES, "worker", "queues.ts"), "--health", "0"]);
  t.after(() => worker.child.kill("SIGKILL"));
  await worker.until(/Worker \S+ works reports/);
  const commands = /```sh\n(pawl add[^]*?)```/.exec(page)![1]!.split("\n").filter((line) => line.startsWith("pawl"));
  assert.equal(commands.length, 5, commands.join("\n"));
  const said = spawnSync("sh", ["-ec", commands.join("\n")], { cwd: at.folder, encoding: "utf8", env: { ...process.env, NO_COLOR: "1", PAWL_STATE: at.state, PATH: `${join(EXAMPLES, "bin")}${delimiter}${process.env["PATH"]}` } });
  assert.equal(said.status, 0, said.stderr);
  const tasks = () => at.json<Task[]>(["list"]);
  await eventually(async () => (await tasks()).every(({ status }) => status === "completed"), "all to be completed");
  assert.deepEqual((await tasks()).map(({ queue, concurrency_key, verifier }) => [queue, concurrency_key, verifier]), [["mail", "example.org", "function"], ["mail", "example.org", "function"], ["reports", null, null]]);
  worker.child.kill("SIGTERM");
  assert.equal((await worker.ended).code, 143);
});

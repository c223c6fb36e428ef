// `pawl run` as its users run it: the lines of Lab 02, resume after Ctrl-C and kill -9, verifiers with feedback, halts,
// signals, batches that stay apart. Real processes on real files, JSON and SQLite.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { eventually, place } from "../pawl.ts";

const LIST = "Write a haiku about persistence\nExplain why state machines are useful\nGive a fun fact about JSON\n";
type Task = { id: number; status: string; attempts: number; result: unknown; error: { message: string } | null; feedback: string | null; description: string };

for (const file of [".pawl/state.json", "state.db"]) {
  test(`${file}: the lines of a fresh run, of a finished one, and nothing twice`, async (t) => {
    const at = place(t, file);
    at.write("tasks.txt", LIST);
    const first = await at.pawl(["run", "tasks.txt", "--exec", "echo did {description}"]);
    assert.equal(first.code, 0, first.stderr);
    assert.deepEqual(first.stdout.split("\n").slice(0, 9), [
      "No existing state found, starting fresh", "Progress: 0/3 completed (0%)", "3 tasks remaining", "[Task 1] Write a haiku about persistence", "  ✓ Completed (1/3)",
      "[Task 2] Explain why state machines are useful", "  ✓ Completed (2/3)", "[Task 3] Give a fun fact about JSON", "  ✓ Completed (3/3)",
    ]);
    assert.match(first.stdout, /^All tasks completed!$/m);
    const again = await at.pawl(["run", "tasks.txt"]);
    assert.equal(again.code, 0);
    assert.match(again.stdout, /Loaded 3 tasks from .*\nProgress: 3\/3 completed \(100%\)\nAll tasks completed! Nothing to do\./);
    const tasks = await at.json<Task[]>(["list"]);
    assert.deepEqual(tasks.map((task) => [task.id, task.status, task.attempts, task.result]), [
      [1, "completed", 1, "did Write a haiku about persistence"], [2, "completed", 1, "did Explain why state machines are useful"], [3, "completed", 1, "did Give a fun fact about JSON"],
    ]);
  });

  test(`${file}: Ctrl-C after task 1, start again: it goes on at task 2; killed during task 2, the next start takes task 2`, async (t) => {
    const at = place(t, file);
    at.write("tasks.txt", LIST);
    at.write("work.sh", `#!/bin/sh\necho "$PAWL_TASK_ID" >> effects.log\nsleep 0.4\necho done $PAWL_TASK_ID\n`, 0o755);
    const first = at.start(["run", "tasks.txt", "--exec", "./work.sh"]);
    await first.until(/\[Task 1\]/);
    first.child.kill("SIGINT");
    const stopped = await first.ended;
    assert.equal(stopped.code, 130);
    assert.match(stopped.stdout, /✓ Completed \(1\/3\)/);
    assert.doesNotMatch(stopped.stdout, /All tasks completed|Task 2/);
    const second = at.start(["run", "tasks.txt"]);
    await second.until(/\[Task 2\]/);
    second.child.kill("SIGKILL");
    await second.ended;
    const third = await at.pawl(["run", "tasks.txt"]);
    assert.equal(third.code, 0, third.stdout + third.stderr);
    assert.match(third.stdout, /Progress: 1\/3 completed \(33%\)\n2 tasks remaining\n\[Task 2\]/);
    const effects = readFileSync(at.path("effects.log"), "utf8").trim().split("\n");
    assert.equal(effects.filter((id) => id === "1").length, 1, "the completed task never ran again");
    assert.equal(effects.filter((id) => id === "3").length, 1);
    assert.match((await at.pawl(["history", "2"])).stdout, /owner_lost/);
  });

  test(`${file}: hazard 12: killing only the worker leaves no child running after the takeover`, async (t) => {
    const at = place(t, file);
    at.write("tasks.txt", "long one\n");
    at.write("work.sh", `#!/bin/sh\nif [ -e second ]; then echo taken; exit 0; fi\ntouch second\nwhile true; do date +%s%N > beat; sleep 0.05; done\n`, 0o755);
    const first = at.start(["run", "tasks.txt", "--exec", "./work.sh"]);
    await eventually(() => existsSync(at.path("beat")), "the child beats");
    first.child.kill("SIGKILL");
    await first.ended;
    const beat = () => readFileSync(at.path("beat"), "utf8");
    const before = beat();
    await eventually(() => beat() !== before, "kill -9 of the worker alone leaves its child running");
    const second = await at.pawl(["run", "tasks.txt"]);
    assert.equal(second.code, 0, second.stdout + second.stderr);
    const after = beat();
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal(beat(), after, "the child of the dead worker was ended");
  });

  test(`${file}: a verifier's feedback reaches the next attempt; three rejections fail the task; retry shows every hop`, async (t) => {
    const at = place(t, file);
    at.write("tasks.txt", "good after feedback\nnever good\n");
    at.write("check.sh", `#!/bin/sh\ncase "$PAWL_RESULT" in *better*) exit 0;; *) echo "make it better"; exit 1;; esac\n`, 0o755);
    const exec = `sh -c 'if [ "$PAWL_TASK_ID" = 1 ]; then echo "$PAWL_FEEDBACK"; else echo no; fi'`;
    const run = await at.pawl(["run", "tasks.txt", "--exec", exec, "--verify", "./check.sh"]);
    assert.equal(run.code, 1);
    const [one, two] = await at.json<Task[]>(["list"]);
    assert.deepEqual([one!.status, one!.attempts, one!.result, one!.feedback], ["completed", 2, "make it better", "make it better"]);
    assert.deepEqual([two!.status, two!.attempts], ["failed", 3]);
    assert.match(two!.error!.message, /rejected after 3 of 3 attempts: make it better/);
    assert.match(run.stdout, /1\/2 completed, 1 failed/);
    assert.equal((await at.pawl(["retry", "2"])).code, 0);
    const history = (await at.json<{ event: string; at: string }[]>(["history", "2"])).map((event) => event.event);
    assert.deepEqual(history, ["created", "claimed", "submitted", "rejected", "claimed", "submitted", "rejected", "claimed", "submitted", "failed", "retried"]);
  });

  test(`${file}: a batch of ten, items 3 and 7 fail: the others run, the summary is exact, resume offers the failed ones`, async (t) => {
    const at = place(t, file);
    at.write("tasks.txt", Array.from({ length: 10 }, (_, i) => `item ${i + 1}`).join("\n"));
    const exec = `sh -c '[ -e fixed ] || case "$PAWL_TASK_ID" in 3|7) exit 4;; esac; echo ok'`;
    const run = await at.pawl(["run", "tasks.txt", "--exec", exec, "--backoff", "off", "--concurrency", "3"]);
    assert.equal(run.code, 1);
    assert.match(run.stdout, /8\/10 completed, 2 failed\nTry the failed ones again: .*--retry-failed/);
    assert.doesNotMatch(run.stdout, /All tasks completed/);
    at.write("fixed", "");
    const retried = await at.pawl(["run", "tasks.txt", "--retry-failed"]);
    assert.equal(retried.code, 0, retried.stdout);
    assert.match(retried.stdout, /Trying 2 failed tasks again[\s\S]*All tasks completed!/);
  });
}

test("a second list beside an unfinished batch is refused unless --new; both resume by id; imports are idempotent", async (t) => {
  const at = place(t);
  at.write("a.txt", "one\ntwo\n");
  at.write("b.txt", "three\n");
  const fail = ["--exec", "false", "--backoff", "off", "--max-tasks", "1", "--max-attempts", "9"];
  await at.pawl(["run", "a.txt", ...fail]);
  const refused = await at.pawl(["run", "b.txt", "--exec", "true"]);
  assert.equal(refused.code, 4);
  assert.match(refused.stderr, /is not finished[\s\S]*--resume batch-[\s\S]*--new/);
  const beside = await at.pawl(["run", "b.txt", "--new", "--exec", "echo b"]);
  assert.equal(beside.code, 0, beside.stderr);
  const batches = await at.json<{ id: string; source: string }[]>(["batch", "list"]);
  const first = batches.find((batch) => batch.source.endsWith("a.txt"))!;
  at.write("a.txt", "one\ntwo\nfour\n");
  const resumed = await at.pawl(["run", "--resume", first.id, "--exec", "echo a"]);
  assert.equal(resumed.code, 0, resumed.stdout + resumed.stderr);
  const again = await at.pawl(["run", "a.txt"]);
  assert.match(again.stdout, /Imported 1 new task from a\.txt/);
  assert.deepEqual((await at.json<Task[]>(["list"])).map((task) => task.description), ["one", "two", "three", "four"]);
});

test("SIGTERM drains; the second signal stops the children, tasks go back to pending and no attempt is counted", async (t) => {
  const at = place(t);
  at.write("tasks.txt", "a\nb\nc\n");
  const run = at.start(["run", "tasks.txt", "--exec", "sh -c 'echo $$ >> pids; sleep 30'", "--concurrency", "2"]);
  await eventually(() => existsSync(at.path("pids")) && readFileSync(at.path("pids"), "utf8").trim().split("\n").length === 2, "two children");
  run.child.kill("SIGTERM");
  await run.until(/no new tasks/);
  run.child.kill("SIGHUP");
  const ended = await run.ended;
  assert.equal(ended.code, 143);
  const tasks = await at.json<Task[]>(["list"]);
  assert.deepEqual(tasks.map((task) => task.status), ["pending", "pending", "pending"]);
  for (const pid of readFileSync(at.path("pids"), "utf8").trim().split("\n")) assert.throws(() => process.kill(Number(pid), 0), "the children are gone");
  const next = await at.pawl(["run", "tasks.txt", "--exec", "echo ok"]);
  assert.equal(next.code, 0);
  assert.deepEqual((await at.json<Task[]>(["list"])).map((task) => task.attempts), [1, 1, 1]);
});

test("without an executor nothing changes; with a program that does not exist the run stops early and burns no attempt", async (t) => {
  const at = place(t);
  at.write("tasks.txt", "a\n");
  const none = await at.pawl(["run", "tasks.txt"]);
  assert.equal(none.code, 2);
  assert.match(none.stderr, /--exec[\s\S]*--with claude/);
  assert.equal(existsSync(at.path(".pawl")), false);
  const missing = await at.pawl(["run", "tasks.txt", "--exec", "no-such-program-at-all {description}"]);
  assert.equal(missing.code, 2);
  assert.match(missing.stderr, /no-such-program-at-all/);
  assert.equal(existsSync(at.path(".pawl")), false);
  assert.equal((await at.pawl(["run", "missing.txt", "--exec", "true"])).code, 3);
  for (const bad of [["--concurrency", "0"], ["--max-attempts", "-1"], ["--timeout", "soon"], ["--halt", "later"], ["--exec", "true", "--with", "claude"], ["--backoff", "x"], ["--check", "true"]]) {
    const ended = await at.pawl(["run", "tasks.txt", ...bad]);
    assert.equal(ended.code, 2, bad.join(" "));
  }
  assert.equal(existsSync(at.path(".pawl")), false);
});

test("--once: an effect whose outcome is unknown is checked, or asked about, never repeated blindly", async (t) => {
  const at = place(t);
  at.write("tasks.txt", "send the mail\n");
  at.write("send.sh", "#!/bin/sh\necho sent >> mails\nexit 1\n", 0o755);
  const run = await at.pawl(["run", "tasks.txt", "--once", "--exec", "./send.sh"]);
  assert.equal(run.code, 1);
  assert.match(run.stdout, /1 waiting[\s\S]*pawl inbox/);
  assert.match((await at.pawl(["why", "1"])).stdout, /waits for you/);
  const [decision] = await at.json<{ id: string; kind: string }[]>(["inbox"]);
  assert.equal(decision!.kind, "unknown_effect");
  assert.equal((await at.pawl(["answer", decision!.id, "done", "--value", '"it was sent"'])).code, 0);
  const resumed = await at.pawl(["run", "tasks.txt"]);
  assert.equal(resumed.code, 0, resumed.stdout + resumed.stderr);
  assert.equal(readFileSync(at.path("mails"), "utf8"), "sent\n");
  assert.equal((await at.json<Task[]>(["list"]))[0]!.result, "it was sent");
});

test("pawl step: a script resumes after kill -9, its done steps are not run again", async (t) => {
  const at = place(t);
  at.write("tasks.txt", "deploy\n");
  const pawl = `${process.execPath} ${(await import("../pawl.ts")).BIN}`;
  at.write("deploy.sh", `#!/bin/sh\nset -e\ntag=$(${pawl} step build -- sh -c 'echo build >> effects; echo v1')\n${pawl} step test -- sh -c 'echo test >> effects'\nif [ ! -e once ]; then touch once; sleep 30; fi\n${pawl} step push -- sh -c 'echo push >> effects'\necho "pushed $tag"\n`, 0o755);
  const first = at.start(["run", "tasks.txt", "--exec", "./deploy.sh"]);
  await eventually(() => existsSync(at.path("once")), "the script is between two steps", 20_000);
  first.child.kill("SIGKILL");
  await first.ended;
  const second = await at.pawl(["run", "tasks.txt"]);
  assert.equal(second.code, 0, second.stdout + second.stderr);
  assert.deepEqual(readFileSync(at.path("effects"), "utf8").trim().split("\n"), ["build", "test", "push"]);
  assert.equal((await at.json<Task[]>(["list"]))[0]!.result, "pushed v1");
});

test("--max-tasks, --halt, --dry-run, --json and .pawl/config.json", async (t) => {
  const at = place(t);
  at.write("tasks.txt", "a\nb\nc\nd\n");
  const dry = await at.pawl(["run", "tasks.txt", "--exec", "true", "--dry-run"]);
  assert.match(dry.stdout, /Would add: a[\s\S]*Nothing was changed/);
  assert.equal(existsSync(at.path(".pawl")), false);
  const one = await at.pawl(["run", "tasks.txt", "--exec", "true", "--max-tasks", "1"]);
  assert.match(one.stdout, /1\/4 completed, 3 pending/);
  const halted = await at.pawl(["run", "tasks.txt", "--exec", "false", "--max-attempts", "1", "--halt", "soon,fail=1", "--backoff", "off"]);
  assert.equal(halted.code, 1);
  at.write(".pawl/config.json", JSON.stringify({ exec: "echo configured", backoff: "off" }));
  const data = JSON.parse((await at.pawl(["run", "tasks.txt", "--retry-failed", "--json"])).stdout) as { kind: string; data: { completed: number; total: number } };
  assert.deepEqual([data.kind, data.data.completed, data.data.total], ["run", 4, 4]);
});

test("--verify judges tasks outside batches too; --once holds for a task when a later run leaves it out", async (t) => {
  const at = place(t);
  await at.pawl(["add", "loose"]);
  const judged = await at.pawl(["run", "--exec", "echo ok", "--verify", "false", "--max-attempts", "3", "--backoff", "off"]);
  assert.equal(judged.code, 1);
  const [task] = await at.json<Task[]>(["list"]);
  assert.deepEqual([task!.status, task!.attempts], ["failed", 3]);
  await at.pawl(["add", "send the mail"]);
  at.write("send.sh", "#!/bin/sh\necho sent >> mails\nexit 1\n", 0o755);
  await at.pawl(["run", "--once", "--exec", "./send.sh"]);
  const [decision] = await at.json<{ id: string }[]>(["inbox"]);
  assert.equal((await at.pawl(["answer", decision!.id, "done", "--value", '"yes"'])).code, 0);
  await at.pawl(["run", "--exec", "./send.sh"]);
  assert.equal(readFileSync(at.path("mails"), "utf8"), "sent\n");
  assert.deepEqual((await at.json<Task[]>(["list"]))[1]!.result, "yes");
});

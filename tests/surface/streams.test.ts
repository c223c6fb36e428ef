// Output that goes nowhere: a full disk, a reader that has gone, a terminal that hangs up. A run must not lose work over it,
// and what could not be printed must not pass for printed.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, openSync } from "node:fs";
import { test } from "node:test";
import { BIN, eventually, place } from "../pawl.ts";

const NO_FULL = existsSync("/dev/full") ? false : "there is no /dev/full here";
const NO_PTY = spawnSync("python3", ["-c", "import pty"]).status === 0 ? false : "python3 makes the terminal, and is not here";

/** Runs pawl in a terminal and hangs up once the file `started` is there. Prints how pawl ended. */
const HANG_UP = `
import os, pty, select, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
while not os.path.exists("started"):
    if select.select([terminal], [], [], 0.05)[0]:
        os.read(terminal, 65536)
os.close(terminal)
open("hung-up", "w").close()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;

test("a terminal that hangs up: the running task ends, nothing new is begun, exit code 129", { skip: NO_PTY }, async (t) => {
  const at = place(t);
  at.write("tasks.txt", "one\ntwo\n");
  at.write("hang-up.py", HANG_UP);
  at.write("work.sh", "#!/bin/sh\ntouch started\nfor i in $(seq 100); do [ -e go ] && break; sleep 0.1; echo working >&2; done\necho done $PAWL_TASK_ID\n", 0o755);
  const env = { ...process.env, NO_COLOR: "1", PAWL_STATE: at.state };
  const child = spawn("python3", ["hang-up.py", process.execPath, BIN, "run", "tasks.txt", "--exec", "./work.sh"], { cwd: at.folder, env, stdio: ["ignore", "pipe", "inherit"] });
  let printed = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (printed += text));
  await eventually(() => existsSync(at.path("hung-up")), "the terminal is gone", 30_000);
  assert.equal((await at.json<{ status: string }[]>(["list"]))[0]!.status, "in_progress", "the task goes on");
  at.write("go", "");
  await once(child, "close");
  assert.equal(printed.trim(), "129");
  const tasks = await at.json<{ status: string; result: unknown; attempts: number }[]>(["list"]);
  assert.deepEqual(tasks.map(({ status, result, attempts }) => [status, result, attempts]), [["completed", "done 1", 1], ["pending", null, 0]]);
});

test("what cannot be printed is a storage error, not a stack and not a success", { skip: NO_FULL }, async (t) => {
  const at = place(t);
  await at.pawl(["add", "one"]);
  const onto = (args: readonly string[], stdio: [number | "pipe", number | "pipe"]) =>
    spawnSync(process.execPath, [BIN, ...args], { cwd: at.folder, env: { ...process.env, NO_COLOR: "1", PAWL_STATE: at.state }, encoding: "utf8", stdio: ["ignore", ...stdio] });
  const full = openSync("/dev/full", "w");
  for (const args of [["list"], ["--help"], ["run", "--exec", "true"]]) {
    const { status, stderr } = onto(args, [full, "pipe"]);
    assert.equal(status, 8, stderr);
    assert.match(stderr, /^error: The output could not be written \(ENOSPC\)\.\nnext: .*\n$/);
  }
  assert.equal(onto(["show", "9"], ["pipe", full]).status, 8);
  assert.equal((await at.json<{ status: string }[]>(["list"]))[0]!.status, "completed", "the run did its work all the same");
});

test("a run nobody reads any more says so, and lets its task end", async (t) => {
  const at = place(t);
  at.write("tasks.txt", "one\ntwo\nthree\n");
  at.write("work.sh", "#!/bin/sh\nwhile [ ! -e go ]; do sleep 0.05; done\necho did $PAWL_TASK_ID\n", 0o755);
  const run = at.start(["run", "tasks.txt", "--exec", "./work.sh"]);
  await run.until(/\[Task 1\]/);
  run.child.stdout!.destroy();
  at.write("go", "");
  const ended = await run.ended;
  assert.equal(ended.code, 141, ended.stderr);
  // The line that finds nobody is the one after the first task; by then the second may have begun.
  assert.match(ended.stderr, /^Nobody reads the output any more: no new tasks(\.|; waiting for the task in progress\.)\n$/);
  const [one, two, three] = (await at.json<{ status: string }[]>(["list"])).map((task) => task.status);
  assert.deepEqual([one, three], ["completed", "pending"]);
  assert.notEqual(two, "in_progress");
});

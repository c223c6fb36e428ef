// Scripts whose steps ask a person: what the answer "give up" does to the task and what `retry` does then, and that a task
// waits for its open questions whatever a shell made of the exit codes. The real command line, real shells, a real kill -9.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test, type TestContext } from "node:test";
import { openState, type State } from "../../src/state.ts";
import { BIN, eventually, place } from "../pawl.ts";

const PAWL = `"${process.execPath}" "${BIN}"`;
const SEND = "#!/bin/sh\necho x >> sent\n[ -e go ] || sleep 60\necho it was sent\n";

/** A task whose work is `script`, in a folder with `send.sh`, which hangs until there is a file `go`. */
async function working(t: TestContext, script: string, flags: readonly string[] = []) {
  const at = place(t);
  at.write("send.sh", SEND, 0o755);
  at.write("work.sh", `#!/bin/sh\npawl() { ${PAWL} "$@"; }\n${script}`, 0o755);
  at.write("t.txt", "mail to Ann\n");
  // Looked at in this process: a command of its own for each look would take most of the time.
  const look = async <T>(read: (state: State) => Promise<T>): Promise<T> => {
    const state = await openState(at.path(".pawl/state.json"), { readOnly: true });
    return read(state).finally(() => state.close());
  };
  const args = ["run", "t.txt", "--exec", "./work.sh", "--backoff", "off", ...flags];
  return {
    at,
    run: (...more: string[]) => at.pawl([...args, ...more]),
    task: () => look((state) => state.tasks.get(1)),
    open: () => look((state) => state.decisions.inbox()),
    sent: () => (existsSync(at.path("sent")) ? readFileSync(at.path("sent"), "utf8").length / 2 : 0),
    /** Begins the run and kills it while `send.sh` runs. */
    async killed() {
      const first = at.start(args);
      await eventually(() => existsSync(at.path("sent")), "the effect has begun");
      first.child.kill("SIGKILL");
      await first.ended;
      at.write("go", "");
    },
  };
}

for (const [what, script, flags] of [
  ["a step of a script behind xargs", `echo one | xargs -I{} ${PAWL} step send --key {} --once -- ./send.sh\n`, []],
  ["the command itself", "exec ./send.sh\n", ["--once"]],
] as const) {
  test(`${what}: given up is final, the effect is not run again by a later attempt, and a retry asks anew`, async (t) => {
    const { run, at, task, open, sent, killed } = await working(t, script, flags);
    await killed();
    await run();
    assert.deepEqual([(await task()).status, (await open()).map(({ id }) => id)], ["waiting", ["d1"]]);
    assert.equal((await at.pawl(["answer", "d1", "fail"])).code, 0);
    const after = await run();
    const failed = await task();
    assert.deepEqual([failed.status, failed.attempts, failed.error?.message, failed.error?.permanent, sent()], ["failed", 1, "decision d1: given up", true, 1], after.stdout);
    assert.match(after.stdout, /✗ Failed: decision d1: given up/);
    // A person tries again. Still nobody knows whether it was sent.
    for (const [retry, id] of [[["--retry-failed"], "d2"], [[], "d3"]] as const) {
      if (retry.length === 0) assert.equal((await at.pawl(["retry", "1", "--fresh"])).code, 0);
      await run(...retry);
      assert.deepEqual([(await task()).status, (await open()).map((decision) => decision.id), sent()], ["waiting", [id], 1]);
      if (id === "d3") break;
      await at.pawl(["answer", id, "fail", "--reason", "not today"]);
      await run();
      assert.deepEqual([(await task()).status, (await task()).error?.message, sent()], ["failed", `decision ${id}: not today`, 1]);
    }
    await at.pawl(["answer", "d3", "again"]);
    await run();
    assert.deepEqual([(await task()).status, sent()], ["completed", 2]);
  });
}

/** Fails until there is a file `ok`, and says each time that it ran. */
const TRY = "#!/bin/sh\necho x >> tries\n[ -e ok ] && echo fine $1\n";

for (const [what, script, result] of [
  ["a pipe", "set -e\npawl step a --once -- ./try.sh | cat\necho went on\n", "fine\nwent on"],
  ["if and &&", "if pawl step a --once -- ./try.sh && true; then echo yes; else echo no; fi\n", "fine\nyes"],
  ["another exit code", "pawl step a --once -- ./try.sh || exit 127\n", "fine"],
] as const) {
  test(`a task waits for the question of its step behind ${what}, and its answer counts`, async (t) => {
    const { run, at, task, open } = await working(t, script);
    at.write("try.sh", TRY, 0o755);
    const first = await run();
    assert.deepEqual([(await task()).status, (await open()).map(({ id }) => id)], ["waiting", ["d1"]], first.stdout);
    at.write("ok", "");
    await at.pawl(["answer", "d1", "again"]);
    await run();
    const { status, attempts, result: printed } = await task();
    assert.deepEqual([status, attempts, printed, readFileSync(at.path("tries"), "utf8")], ["completed", 1, result, "x\nx\n"]);
  });
}

test("questions of steps behind xargs cost no attempt: the task waits as long as one of them is open", async (t) => {
  const { run, at, task, open } = await working(t, `printf 'p\\nq\\nr\\n' | xargs -P 3 -I{} ${PAWL} step a --key {} --once -- ./try.sh {}\n`);
  at.write("try.sh", TRY, 0o755);
  await run();
  assert.deepEqual([(await task()).status, (await open()).map(({ id }) => id)], ["waiting", ["d1", "d2", "d3"]]);
  at.write("ok", "");
  for (const id of ["d2", "d1"]) {
    await at.pawl(["answer", id, "again"]);
    await run();
    assert.equal((await task()).status, "waiting", "the others are open still, though nothing of them was written anew");
  }
  await at.pawl(["answer", "d3", "again"]);
  await run();
  const { status, attempts, result } = await task();
  assert.deepEqual([status, attempts, String(result).split("\n").sort()], ["completed", 1, ["fine p", "fine q", "fine r"]]);
});

test("a task waits for the event of a `pawl wait` behind a pipe", async (t) => {
  const { run, at, task } = await working(t, "pawl wait paid | cat\n");
  await run();
  assert.equal((await task()).status, "waiting");
  await at.pawl(["event", "emit", "paid", "--value", "42"]);
  await run();
  assert.deepEqual([(await task()).status, (await task()).result], ["completed", "42"]);
});

for (const [end, what] of [["exit 0", "well"], ["exit 3", "badly"]] as const) {
  test(`an answer that comes before the script ends ${what} is neither lost nor an attempt`, async (t) => {
    const { at, task } = await working(t, `[ -e asked ] && { pawl step a --once -- ./try.sh; exit; }\npawl step a --once -- ./try.sh | cat\ntouch asked\nwhile [ ! -e answered ]; do sleep 0.1; done\n${end}\n`);
    at.write("try.sh", TRY, 0o755);
    const running = at.start(["run", "t.txt", "--exec", "./work.sh", "--backoff", "off"]);
    await eventually(() => existsSync(at.path("asked")), "the step has asked");
    at.write("ok", "");
    assert.equal((await at.pawl(["answer", "d1", "again"])).code, 0);
    at.write("answered", "");
    const { code, stdout } = await running.ended;
    const { status, attempts, result } = await task();
    assert.deepEqual([code, status, attempts, result], [0, "completed", 1, "fine"], stdout);
  });
}

test("a script that waits by itself until its step goes on is not run again", async (t) => {
  const { at, task } = await working(t, "until pawl step a --key k --once -- ./try.sh; do touch asked; sleep 0.2; done\necho y >> ran\n");
  at.write("try.sh", TRY, 0o755);
  const running = at.start(["run", "t.txt", "--exec", "./work.sh"]);
  await eventually(() => existsSync(at.path("asked")), "the step has asked");
  at.write("ok", "");
  await at.pawl(["answer", "d1", "again"]);
  assert.equal((await running.ended).code, 0);
  assert.deepEqual([(await task()).status, readFileSync(at.path("ran"), "utf8")], ["completed", "y\n"]);
});

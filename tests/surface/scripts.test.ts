// Scripts that a run starts and that call `pawl` themselves: settling their own task, steps with their exit codes and their
// bytes as they are. The real command line in real shells.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test, type TestContext } from "node:test";
import { BIN, eventually, place, type Ended } from "../pawl.ts";

type Task = { id: number; status: string; result: unknown; error: { message: string } | null };
const PAWL = `"${process.execPath}" "${BIN}"`;

test("a script settles its own task under its run's claim, and the run reports it", async (t) => {
  const at = place(t);
  at.write("tasks.txt", "first\nsecond\nthird\n");
  at.write("work.sh", `#!/bin/sh
case $PAWL_TASK_ID in
  1) ${PAWL} complete 1 --result "by itself" ;;
  2) ${PAWL} fail 2 --reason "hopeless"; exit 1 ;;
  3) ${PAWL} complete 1; echo "another's: $?"; ${PAWL} add another --key x; ${PAWL} claim >claim; ${PAWL} complete x; echo "held by another: $?" ;;
esac
`, 0o755);
  const run = await at.pawl(["run", "tasks.txt", "--exec", "./work.sh"]);
  assert.equal(run.code, 1, run.stdout + run.stderr);
  assert.match(run.stdout, /\[Task 1\] first\n  ✓ Completed \(1\/3\)\n\[Task 2\] second\n  ✗ Failed: hopeless\n\[Task 3\] third\n  ✓ Completed \(2\/3\)\n/);
  const [first, second, third] = await at.json<Task[]>(["list"]);
  assert.deepEqual([first!.status, first!.result], ["completed", "by itself"]);
  assert.deepEqual([second!.status, second!.error?.message], ["failed", "hopeless"]);
  assert.match(String(third!.result), /another's: 4\n[^]*held by another: 4$/, "its token is for its own task only");
  assert.match(readFileSync(at.path("claim"), "utf8"), /token/);
});

/** Runs a script as the only task's work; returns what it wrote into `log`. */
async function scripted(t: TestContext, script: string, args: readonly string[] = []): Promise<{ at: ReturnType<typeof place>; run: Ended; log: string }> {
  const at = place(t);
  at.write("work.sh", `#!/bin/sh\npawl() { ${PAWL} "$@"; }\n${script}`, 0o755);
  at.write("log", "");
  await at.pawl(["add", "the work"]);
  const run = await at.pawl(["run", "--exec", "./work.sh", "--backoff", "off", ...args]);
  return { at, run, log: readFileSync(at.path("log"), "utf8") };
}

test("a step passes bytes through and replays the same ones", async (t) => {
  const { at, run } = await scripted(t, `
echo x >> tries
for name in binary text bare; do
  case $name in
    binary) set -- head -c 3000 random ;;
    text) set -- echo "über" ;;
    bare) set -- printf 'no line end' ;;
  esac
  [ -e random ] || head -c 3000 /dev/urandom > random
  pawl step $name -- "$@" > $name.$(wc -l < tries) || exit 1
  "$@" > $name.real
done
[ $(wc -l < tries) = 2 ]
`);
  assert.equal(run.code, 0, run.stdout + run.stderr);
  for (const name of ["binary", "text", "bare"]) {
    const real = readFileSync(at.path(`${name}.real`));
    assert.ok(real.equals(readFileSync(at.path(`${name}.1`))), `${name} live`);
    assert.ok(real.equals(readFileSync(at.path(`${name}.2`))), `${name} replayed`);
  }
  const { steps } = await at.json<{ steps: { key: string; output: unknown }[] }>(["show", "1"]);
  assert.deepEqual(steps.find(({ key }) => key === "binary@1")!.output, { base64: readFileSync(at.path("random")).toString("base64") });
  assert.equal(steps.find(({ key }) => key === "text@1")!.output, "über\n");
});

test("a step ends with its command's exit code, as a shell says it", async (t) => {
  const { log, run } = await scripted(t, `
pawl step seven -- sh -c 'exit 7'; echo seven $? >> log
pawl step killed -- sh -c 'kill -9 $$'; echo killed $? >> log
pawl step missing -- no-such-program-here; echo missing $? >> log
pawl step none -- ./log; echo none $? >> log
pawl step slow --timeout 100ms -- sleep 30; echo slow $? >> log
pawl step seven --key k -- sh -c 'exit 7'; pawl step seven --key k -- sh -c 'exit 7'; echo replayed $? >> log
`);
  assert.equal(run.code, 0, run.stderr);
  assert.deepEqual(log.trim().split("\n"), ["seven 7", "killed 137", "missing 127", "none 126", "slow 10", "replayed 7"]);
});

test("a failed step of pawl is told by its error, not by the advice below it, and the advice names the task", async (t) => {
  const { at, run } = await scripted(t, "pawl step a/b -- true\n", ["--max-attempts", "1"]);
  assert.match(run.stdout, /Failed: command exited with code 2: error: A step's name must be .*"a\/b"/);
  assert.match((await at.pawl(["why", "1"])).stdout, /error: A step's name must be/);
  const asked = await scripted(t, "pawl step a --once -- false\n");
  await asked.at.pawl(["answer", "d1", "fail"]);
  await asked.at.pawl(["run", "--exec", "./work.sh"]);
  assert.match((await asked.at.pawl(["show", "1", "--output"])).stdout, /error: decision d1: given up\n *next: See why: pawl why 1\./);
});

test("under a claim by hand: ambiguous_step says how to begin anew, and that way works", async (t) => {
  const at = place(t);
  await at.pawl(["add", "by hand"]);
  const claim = async () => (await at.json<{ token: string }>(["claim"])).token;
  const step = (token: string) => at.pawl(["step", "one", "--token", token, "--", "echo", "done"]);
  const first = await claim();
  const killed = at.start(["step", "two", "--token", first, "--", "sh", "-c", "touch started; while [ ! -e stop ]; do sleep 0.1; done"]);
  assert.equal((await step(first)).code, 0);
  await eventually(() => existsSync(at.path("started")), "the second step runs");
  killed.child.kill("SIGKILL");
  at.write("stop", "");
  await killed.ended;
  const again = await step(first);
  assert.equal(again.code, 9, again.stderr);
  assert.match(again.stderr, /next: .*needs a new claim: pawl release 1 --token …, then pawl claim\./);
  assert.equal((await at.pawl(["release", "1", "--token", first])).code, 0);
  const second = await claim();
  assert.deepEqual((await step(second)).stdout, "done\n");
  const { steps } = await at.json<{ steps: { key: string }[] }>(["show", "1"]);
  assert.deepEqual(steps.map(({ key }) => key), ["one@1"], "it was replayed, not run as another");
});

test("without a claim a step says which variable is missing", async (t) => {
  const at = place(t);
  await at.pawl(["add", "x"]);
  const none = { PAWL_TASK_ID: undefined, PAWL_TOKEN: undefined };
  assert.match((await at.pawl(["step", "a", "--", "true"], { env: none })).stderr, /PAWL_TASK_ID and PAWL_TOKEN are not set/);
  assert.match((await at.pawl(["step", "a", "--", "true"], { env: { ...none, PAWL_TASK_ID: "1" } })).stderr, /and PAWL_TOKEN is not set/);
});

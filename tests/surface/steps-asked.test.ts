// Scripts whose steps ask a person: what the answer "give up" does to the task and what `retry` does then, and that a task
// waits for its open questions whatever a shell made of the exit codes. The real command line, real shells, a real kill -9.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test, type TestContext } from "node:test";
import { BIN, eventually, place } from "../pawl.ts";

type Task = { id: number; status: string; attempts: number; result: unknown; error: { message: string; code?: string; permanent?: boolean; cause?: string } | null };
type Decision = { id: string; status: string; question: string };
const PAWL = `"${process.execPath}" "${BIN}"`;
const SEND = "#!/bin/sh\necho x >> sent\n[ -e go ] || sleep 60\necho it was sent\n";

/** A task whose work is `script`, in a folder with `send.sh`, which hangs until there is a file `go`. */
async function working(t: TestContext, script: string, flags: readonly string[] = []) {
  const at = place(t);
  at.write("send.sh", SEND, 0o755);
  at.write("work.sh", `#!/bin/sh\npawl() { ${PAWL} "$@"; }\n${script}`, 0o755);
  at.write("t.txt", "mail to Ann\n");
  const args = ["run", "t.txt", "--exec", "./work.sh", "--backoff", "off", ...flags];
  return {
    at,
    run: (...more: string[]) => at.pawl([...args, ...more]),
    task: async () => (await at.json<Task[]>(["list"]))[0]!,
    open: () => at.json<Decision[]>(["inbox"]),
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
  ["a step of a script", "pawl step send --once -- ./send.sh\n", []],
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

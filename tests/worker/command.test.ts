// Commands as executors and verifiers, with real processes: what they are given, what becomes of their output, and that
// nothing of them is left running, also when the worker itself is killed with -9.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { isPawlError, type PawlError } from "../../src/base/errors.ts";
import { endGroup, groupAlive, processStart, type ProcessGroup } from "../../src/base/host.ts";
import { LIMITS } from "../../src/base/limits.ts";
import { isPermanent } from "../../src/core/retry.ts";
import { commandExecutor, commandVerifier, runCommand, WORD_BYTES, type CommandOptions } from "../../src/worker/command.ts";
import { task, testAttempt } from "./attempt-stub.ts";

const cwd = mkdtempSync(join(tmpdir(), "pawl-command-"));
const sh = (script: string) => ["sh", "-c", script];
const execute = (command: CommandOptions["command"], more: Partial<CommandOptions> = {}, fields = {}, attempt = testAttempt()) => commandExecutor({ command, cwd, ...more }).run(task(fields), attempt);
const verify = (script: string, attempt = testAttempt()) => commandVerifier({ command: sh(script), cwd }).run(task({ result: "old" }), "the result", attempt);

/** Resolves once `look` holds; a test that waits in vain fails by its own assertion. */
async function until(look: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !look(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
}

async function failureOf(promise: Promise<unknown>): Promise<PawlError> {
  return promise.then((value) => assert.fail(`it succeeded with ${JSON.stringify(value)}`), (error) => error as PawlError);
}

test("the reason of a failure is its last line; of what pawl says, the error and not the advice", async () => {
  const reason = async (stderr: string) => (await failureOf(execute(sh(`printf '${stderr}' >&2; exit 3`)))).message.replace("command exited with code 3: ", "");
  assert.equal(await reason("first\\nlast\\n"), "last");
  assert.equal(await reason("before\\nerror: no such thing\\nnext: Look for it.\\n"), "error: no such thing");
  assert.equal(await reason("\\033[31merror:\\033[39m no such thing\\n\\033[2mnext:\\033[22m Look:\\n  here\\n"), "error: no such thing");
  assert.equal(await reason("error: no such thing\\n  --> a.rs\\n"), "--> a.rs", "another program's");
  assert.equal(await reason("loading\\nnext: step 2\\n"), "next: step 2", "another program's");
  assert.equal(await reason("next: step 2\\n"), "next: step 2");
});

describe("input", () => {
  test("the task is on stdin as one JSON document, and in the environment", async () => {
    assert.deepEqual(JSON.parse((await execute("cat")) as string), JSON.parse(JSON.stringify(task())));
    const names = ["TASK_ID", "DESCRIPTION", "FEEDBACK", "ATTEMPT", "IDEMPOTENCY_KEY", "STATE", "RESULT"];
    const printed = await execute(sh(names.map((name) => `printf '%s|' "\${PAWL_${name}-unset}"`).join(";")), { state: "/s/state.json", env: { PAWL_RESULT: "inherited" } }, { feedback: "more\nlines", attempts: 2 });
    assert.equal(printed, "7|say hello|more\nlines|2|task-7-round-1|/s/state.json|unset|");
  });

  test("variables are added to ours and taken away", async () => {
    assert.equal(await execute(sh('echo "$A-${HOME-none}-${PATH:+path}"'), { env: { A: "1", HOME: undefined } }), "1-none-path");
  });

  test("placeholders fill words, and a shell's script by reference", async () => {
    const description = `'; touch owned; echo "$(touch owned)`;
    assert.equal(await execute("printf '%s\\n' {description} {input.file} {foo}", {}, { description }), `${description}\na.txt\n{foo}`);
    assert.equal(await execute(`sh -c 'printf %s "{description}"'`, {}, { description }), description);
    assert.equal(existsSync(join(cwd, "owned")), false);
    assert.ok(isPermanent(await failureOf(execute("echo {input.nope}"))));
  });

  test("a prompt template fills {prompt}, or else is stdin", async () => {
    const prompt = "Do {description} with {input.file}. {prompt}";
    assert.equal(await execute(["printf", "%s", "{prompt}"], { prompt }), "Do say hello with a.txt. {prompt}");
    assert.equal(await execute("cat", { prompt }), "Do say hello with a.txt. {prompt}");
    assert.equal(await execute(sh("cat; printf %s {prompt}"), { prompt }), `${JSON.stringify(task())}\nDo say hello with a.txt. {prompt}`);
  });

  test("texts too long for the system: a variable is left out, a word is refused before anything runs", async () => {
    const description = "é".repeat(WORD_BYTES / 2);
    assert.equal(await execute(sh('echo "${PAWL_DESCRIPTION-unset}"; wc -c | tr -d " "'), {}, { description }), `unset\n${Buffer.byteLength(JSON.stringify(task({ description }))) + 1}`);
    for (const command of [["echo", "{description}"], sh("echo {description}")]) {
      const attempt = testAttempt();
      const error = await failureOf(execute(command, {}, { description }, attempt));
      assert.ok(isPawlError(error, "usage") && /stdin/.test(error.next!));
      assert.equal(attempt.seen.recorded.length, 0);
    }
  });

  test("a command that does not read a long stdin is no error, and a slow one gets all of it", async () => {
    const description = "x".repeat(900_000);
    assert.equal(await execute("true", {}, { description }), "");
    assert.equal(await execute(sh("sleep 0.2; cat | wc -c | tr -d ' '"), {}, { description }), String(JSON.stringify(task({ description })).length + 1));
  });

  test("the standard streams can be opened by their names", async () => {
    const attempt = testAttempt();
    assert.equal(await execute(sh("echo noise > /dev/stderr; cat /dev/stdin > /dev/null; echo more | tee /dev/stderr; echo end > /dev/stdout"), {}, {}, attempt), "more\nend");
    assert.equal(attempt.seen.outputs[0]!.stderr, "noise\nmore\n");
  });

  test("nothing of ours is left open in the command, and it leads a group of its own", { skip: process.platform === "linux" ? false : "reads /proc" }, async () => {
    const script = "console.log(require('fs').readFileSync('/proc/self/stat', 'utf8').split(' ')[4] === String(process.pid))";
    // Those from 10 on may come from whoever started the tests.
    assert.equal(await execute(sh("for n in 0 1 2 3 4 5 6 7 8 9; do if [ -e /proc/$$/fd/$n ]; then echo $n; fi; done")), "0\n1\n2");
    assert.equal(await execute([process.execPath, "-e", script]), "true");
  });
});

describe("output", () => {
  test("stdout without its line ends is the result; stderr and the end are kept", async () => {
    const attempt = testAttempt();
    assert.equal(await execute(sh("printf ' a\\nb \\n\\n'; echo err >&2"), {}, {}, attempt), " a\nb ");
    const [kept] = attempt.seen.outputs;
    assert.deepEqual({ ...kept, command: "" }, { part: "execute", command: "", stderr: "err\n", stdout: null, exit_code: 0, signal: null, details: {} });
    assert.match(kept!.command!, /^sh -c '/);
    assert.equal(await execute("true"), "");
  });

  test("an exit code is an error that says the last words", async () => {
    const attempt = testAttempt();
    const error = await failureOf(execute(sh("echo out; echo first >&2; echo 'last line' >&2; exit 3"), {}, {}, attempt));
    assert.ok(isPawlError(error, "failed"));
    assert.equal(error.message, "command exited with code 3: last line");
    assert.deepEqual(error.details, { exit_code: 3, stderr_tail: "first\nlast line\n" });
    assert.equal(isPermanent(error), false);
    assert.deepEqual([attempt.seen.outputs[0]!.exit_code, attempt.seen.outputs[0]!.stdout], [3, "out\n"]);
    assert.equal((await failureOf(execute("false"))).message, "command exited with code 1");
    assert.equal((await failureOf(execute(sh("echo only out; exit 2")))).message, "command exited with code 2: only out");
  });

  test("a signal is named", async () => {
    const attempt = testAttempt();
    const error = await failureOf(execute(sh("kill -9 $$"), {}, {}, attempt));
    assert.equal(error.message, "command was ended by SIGKILL");
    assert.equal(error.details!["signal"], "SIGKILL");
    assert.deepEqual([attempt.seen.outputs[0]!.exit_code, attempt.seen.outputs[0]!.signal], [null, "SIGKILL"]);
  });

  test("126 and 127 are permanent", async () => {
    writeFileSync(join(cwd, "plain"), "x", { mode: 0o644 });
    for (const [command, code] of [["no-such-program-here", 127], ["./plain", 126], [sh("exec no-such-program-here"), 127]] as const) {
      const error = await failureOf(execute(command));
      assert.equal(error.details?.["exit_code"], code);
      assert.ok(isPermanent(error), String(command));
    }
  });

  test("a result beyond the limit is a permanent error that says so; the limit itself is fine", async () => {
    const write = (bytes: number) => [process.execPath, "-e", `process.stdout.write("x".repeat(${bytes}))`];
    assert.equal(((await execute(write(LIMITS.resultBytes))) as string).length, LIMITS.resultBytes);
    const error = await failureOf(execute(write(3 * LIMITS.resultBytes)));
    assert.match(error.message, new RegExp(`${3 * LIMITS.resultBytes} bytes.*${LIMITS.resultBytes}`));
    assert.ok(isPermanent(error) && error.next);
  });

  test("only the end of a long stderr is kept, cut between characters", async () => {
    const attempt = testAttempt();
    await execute([process.execPath, "-e", `for (let i = 0; i < 40; i++) process.stderr.write("aé".repeat(5000)); process.stderr.write("END!")`], {}, {}, attempt);
    const { stderr } = attempt.seen.outputs[0]!;
    assert.ok(stderr!.endsWith("aéEND!") && !stderr!.includes("\ufffd"));
    assert.ok(Buffer.byteLength(stderr!) <= LIMITS.outputBytes && Buffer.byteLength(stderr!) > LIMITS.outputBytes - 4);
  });

  test("bytes that are no text are no result: they are refused, not mended; what is kept of them says that it was", async () => {
    for (const bytes of ["a\\377b", "a\\000b"]) {
      await assert.rejects(execute(sh(`printf '${bytes}'`)), (error) => isPawlError(error, "failed") && error.details?.["permanent"] === true && /3 bytes .* no UTF-8 text/.test(error.message) && /a file/.test(error.next!));
    }
    const attempt = testAttempt();
    await assert.rejects(execute(sh("printf 'a\\377b\\000c\\n'; printf 'e\\376\\000' >&2"), {}, {}, attempt));
    assert.deepEqual(attempt.seen.outputs[0]!.details, { stdout_repaired: true });
    assert.equal(attempt.seen.outputs[0]!.stderr, "e\ufffd\u2400");
  });

  test("stderr is passed on line by line while the command runs", async () => {
    const lines: string[] = [];
    let early = 0;
    const running = execute(sh("printf 'one\\ntw' >&2; sleep 0.3; printf 'o\\r\\nthree' >&2; sleep 0.3"), { onOutput: (line, { id }) => lines.push(`${id} ${line}`) });
    await until(() => lines.length > 0);
    early = lines.length;
    await running;
    assert.equal(early, 1);
    assert.deepEqual(lines, ["7 one", "7 two", "7 three"]);
  });

  test("runCommand tells how it ended and judges nothing", async () => {
    const ended = await runCommand({ command: sh("echo o; echo e >&2; exit 4"), cwd }, task(), testAttempt(), "check");
    assert.deepEqual([ended.stdout, ended.stderr, ended.exitCode, ended.signal], ["o\n", "e\n", 4, null]);
  });
});

describe("before a run", () => {
  const prepare = (command: CommandOptions["command"], more: Partial<CommandOptions> = {}) => commandExecutor({ command, cwd, ...more }).prepare!();

  test("a program that cannot be run is said, with what to do", async () => {
    writeFileSync(join(cwd, "not-executable"), "#!/bin/sh\n", { mode: 0o644 });
    writeFileSync(join(cwd, "runs"), "#!/bin/sh\necho ran\n", { mode: 0o755 });
    const cases: [Promise<void>, RegExp][] = [
      [prepare("no-such-program-here x"), /not on the PATH/],
      [prepare("./no-such-file"), /does not exist in/],
      [prepare("./not-executable"), /not executable/],
      [prepare("runs"), /not on the PATH/],
      [prepare("echo", { env: { PATH: "/nowhere" } }), /not on the PATH/],
      [prepare("echo", { cwd: "/no/such/folder" }), /folder \/no\/such\/folder does not exist/],
      [prepare(tmpdir()), /does not exist|not on the PATH/],
    ];
    for (const [promise, message] of cases) {
      const error = await failureOf(promise);
      assert.ok(isPawlError(error, "usage") && error.next, String(error));
      assert.match(error.message, message);
    }
    await prepare("./runs");
    await prepare("runs", { env: { PATH: `:${process.env["PATH"]}` } });
    await prepare("{input.tool} x");
    assert.equal(await execute("./runs"), "ran");
    assert.ok(isPawlError(await failureOf(execute("echo", { cwd: "/no/such/folder" })), "usage"));
  });

  test("a line that only a shell understands is refused, with the line that works", () => {
    for (const line of ["npm test && npm run lint", "a | b", "a > out", "", "   ", "-x", "'a"]) {
      assert.throws(() => commandExecutor({ command: line, cwd }), (error: PawlError) => isPawlError(error, "usage") && error.next !== undefined, line);
    }
    assert.throws(() => commandExecutor({ command: "a && b", cwd }), (error: PawlError) => error.next!.includes("sh -c 'a && b'"));
    commandExecutor({ command: ["a", "&&", "b"], cwd });
  });

  test("name and recipe", () => {
    const executor = commandExecutor({ command: "npm run 'my test'", cwd, once: true, check: "x", timeoutMs: 5, env: { SECRET: "s" } });
    assert.equal(executor.name, "command: npm run 'my test'");
    assert.deepEqual(executor.recipe, { kind: "command", command: ["npm", "run", "my test"], timeout_ms: 5, once: true, check: "x" });
  });
});

describe("verifier", () => {
  test("the exit code judges, and what was written is the feedback", async () => {
    assert.deepEqual(await verify("exit 0"), { passed: true });
    assert.deepEqual(await verify("echo out; echo err >&2; exit 1"), { passed: false, feedback: "out\nerr" });
    assert.match((await verify("exit 9")).feedback!, /exit code 9/);
    assert.equal((await verify('jq -r .result 2>/dev/null || grep -o "the result"; printf "%s" "$PAWL_RESULT"; exit 1')).feedback, "the result\nthe result");
    const long = await verify("head -c 300000 /dev/zero | tr '\\0' x; echo the end; exit 1");
    assert.ok(long.feedback!.endsWith("the end") && long.feedback!.length <= LIMITS.outputBytes);
  });

  test("not to have judged is an error, not a rejection", async () => {
    for (const script of ["exit 127", "exit 126", "kill -TERM $$", "no-such-program-here"]) {
      const error = await failureOf(verify(script));
      assert.ok(isPawlError(error, "failed") && /did not judge/.test(error.message), script);
    }
  });

  test("its output is kept as part verify", async () => {
    const attempt = testAttempt();
    await verify("echo seen", attempt);
    assert.deepEqual([attempt.seen.outputs[0]!.part, attempt.seen.outputs[0]!.stdout], ["verify", "seen\n"]);
  });
});

describe("processes", () => {
  test("a group is recorded before its command begins, and forgotten after it is gone", async () => {
    const mark = join(cwd, "began");
    let seen: ProcessGroup | undefined;
    const attempt = testAttempt({
      async recordProcess(group) {
        seen = group;
        assert.equal(groupAlive(group.pid), true);
        assert.equal(processStart(group.pid), group.startTime);
        await new Promise((resolve) => setTimeout(resolve, 150));
        assert.equal(existsSync(mark), false, "it began before it was recorded");
      },
    });
    assert.equal(await execute(sh(`touch ${mark}; echo $$`), {}, {}, attempt), String(seen!.pid), "the recorded process is the command itself");
    assert.deepEqual(attempt.seen.forgotten, [seen!.pid]);
    assert.equal(groupAlive(seen!.pid), false);
  });

  test("when it cannot be recorded, nothing runs", async () => {
    const mark = join(cwd, "unrecorded");
    let pid = 0;
    const attempt = testAttempt({
      recordProcess: (group) => {
        pid = group.pid;
        return Promise.reject(new Error("lease lost"));
      },
    });
    assert.equal((await failureOf(execute(["touch", mark], {}, {}, attempt))).message, "lease lost");
    assert.equal(existsSync(mark), false);
    assert.equal(groupAlive(pid), false);
  });

  test("an abort before it begins runs nothing, an abort before that starts no process", async () => {
    const mark = join(cwd, "aborted");
    const stop = new AbortController();
    const attempt = testAttempt({ signal: stop.signal, recordProcess: async () => stop.abort(new Error("stop")) });
    for (let i = 0; i < 2; i++) assert.equal((await failureOf(execute(["touch", mark], {}, {}, attempt))).message, "stop");
    assert.equal(existsSync(mark), false);
    assert.equal(attempt.seen.forgotten.length, 1);
  });

  test("an abort ends the whole group, also grandchildren that ignore SIGTERM, and throws its reason", async () => {
    const stop = new AbortController();
    const attempt = testAttempt({ signal: stop.signal });
    const ready = join(cwd, "grandchild");
    const running = execute(sh(`sh -c "trap '' TERM; touch ${ready}; while :; do sleep 1; done" & echo working >&2; wait`), { graceMs: 200 }, {}, attempt);
    await until(() => existsSync(ready));
    const [group] = attempt.seen.recorded;
    stop.abort(new Error("cancelled by ann"));
    assert.equal((await failureOf(running)).message, "cancelled by ann");
    assert.equal(groupAlive(group!.pid), false);
    assert.deepEqual(attempt.seen.forgotten, [group!.pid]);
    assert.equal(attempt.seen.outputs[0]!.stderr, "working\n", "what it said until then is kept");
  });

  test("its own time-out ends it", async () => {
    const error = await failureOf(execute("sleep 60", { timeoutMs: 100 }));
    assert.ok(isPawlError(error, "timeout"));
  });

  test("who lost the task stops all the same, though the state takes nothing from it any more", async () => {
    const stop = new AbortController();
    const refused = () => Promise.reject(new Error("fence"));
    const attempt = testAttempt({ signal: stop.signal, keepOutput: refused, forgetProcess: refused });
    const running = execute("sleep 60", {}, {}, attempt);
    await until(() => attempt.seen.recorded.length > 0);
    stop.abort(new Error("lease lost"));
    assert.equal((await failureOf(running)).message, "lease lost");
    assert.equal(groupAlive(attempt.seen.recorded[0]!.pid), false);
  });

  test("stragglers are ended after a success; one that is about to finish may", async () => {
    const attempt = testAttempt();
    assert.equal(await execute(sh("sleep 60 & sleep 60 >/dev/null 2>&1 & echo done"), {}, {}, attempt), "done");
    assert.equal(groupAlive(attempt.seen.recorded[0]!.pid), false);
    assert.equal(await execute(sh("(sleep 0.2; echo late) & echo done")), "done\nlate");
  });

  test("a daemon that left the group and holds the pipes does not hold the task", async () => {
    const daemon = `require("child_process").spawn("sleep", ["20"], { detached: true, stdio: "inherit" }).unref(); console.log("up")`;
    const before = performance.now();
    assert.equal(await execute([process.execPath, "-e", daemon]), "up");
    assert.ok(performance.now() - before < 10_000);
  });

  test("many at once, each with its own", async (t) => {
    // A temporary folder of its own: other tests leave pipes behind on purpose, by killing workers.
    const folder = mkdtempSync(join(tmpdir(), "pawl-pipes-"));
    const before = process.env["TMPDIR"];
    process.env["TMPDIR"] = folder;
    t.after(() => {
      if (before === undefined) delete process.env["TMPDIR"];
      else process.env["TMPDIR"] = before;
    });
    const results = await Promise.all(Array.from({ length: 30 }, (_, id) => execute(sh("cat >/dev/null; echo $PAWL_TASK_ID"), {}, { id })));
    assert.deepEqual(results, Array.from({ length: 30 }, (_, id) => String(id)));
    assert.deepEqual(readdirSync(folder), [], "pipes were left behind");
  });
});

describe("kill -9 of the worker alone", () => {
  /** A worker in a process of its own; resolves when it has recorded its command's group. */
  async function worker(name: string, script: string, env = {}): Promise<{ kill(): Promise<void>; group: ProcessGroup }> {
    const file = join(cwd, `${name}.json`);
    const child = spawn(process.execPath, [join(import.meta.dirname, "../fixtures/command-worker.ts"), ...sh(script)], { cwd, env: { ...process.env, GROUP_FILE: file, ...env }, stdio: "inherit" });
    await until(() => existsSync(file) && readFileSync(file, "utf8").endsWith("}"));
    const kill = async () => {
      child.kill("SIGKILL");
      await once(child, "exit");
    };
    return { kill, group: JSON.parse(readFileSync(file, "utf8")) as ProcessGroup };
  }

  test("leaves its command running, and the record is enough to end it and its children", async () => {
    const beat = join(cwd, "beat");
    const { kill, group } = await worker("orphan", `sh -c "trap '' TERM; while :; do echo x >> ${beat}; sleep 0.02; done" & wait`);
    await until(() => existsSync(beat));
    await kill();
    const length = () => readFileSync(beat, "utf8").length;
    const before = length();
    await until(() => length() > before);
    assert.ok(length() > before, "the orphan does not go on: nothing to end");
    assert.equal(await endGroup({ ...group, startTime: "1" }, { clock: systemClock }), "gone", "a record of another process ends nothing");
    assert.equal(groupAlive(group.pid), true);
    assert.equal(await endGroup(group, { clock: systemClock, graceMs: 200 }), "ended");
    const after = length();
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert.equal(length(), after);
  });

  test("the record ends what is left when the command itself is gone as well", async () => {
    const beat = join(cwd, "beat2");
    const { kill, group } = await worker("orphan2", `(while :; do echo x >> ${beat}; sleep 0.02; done) & sleep 60`);
    await until(() => existsSync(beat));
    await kill();
    process.kill(group.pid, "SIGKILL");
    await until(() => processStart(group.pid) === null);
    assert.equal(groupAlive(group.pid), true);
    assert.equal(await endGroup(group, { clock: systemClock }), "ended");
    assert.equal(groupAlive(group.pid), false);
  });

  test("before the command is recorded, it never begins", async () => {
    const mark = join(cwd, "never");
    const { kill, group } = await worker("gate", `touch ${mark}; sleep 60`, { HOLD_GATE: "1" });
    assert.equal(groupAlive(group.pid), true, "the gate waits");
    await kill();
    await until(() => !groupAlive(group.pid));
    assert.equal(groupAlive(group.pid), false, "the gate did not leave");
    assert.equal(existsSync(mark), false);
  });
});

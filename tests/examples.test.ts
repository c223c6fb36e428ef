// The examples as their readers run them, each in a temporary folder; those about crashes are really killed with kill -9.
// Invariant: what an example's README says of its outcome is checked here.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { eventually } from "./pawl.ts";

const EXAMPLES = join(import.meta.dirname, "..", "examples");
const NEEDS_SHELL = { skip: process.platform === "win32" && "the example is a shell script" };

type Ended = { readonly code: number | null; readonly out: string };

/** A copy of an example's files in a folder of its own; TypeScript runs where it stands, with that folder as the current one. */
function example(t: TestContext, name: string) {
  const folder = mkdtempSync(join(tmpdir(), "pawl-example-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(join(EXAMPLES, name), folder, { recursive: true });
  const path = [folder, join(EXAMPLES, "bin"), dirname(process.execPath), process.env["PATH"]].join(delimiter);
  const env = { ...process.env, PATH: path, PAWL_ACTOR: "reader", PAWL_STATE: "", NO_COLOR: "1" };
  const start = (command: string, args: readonly string[]) => {
    const child = spawn(command, args, { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (out += text));
    const ended = new Promise<Ended>((resolve) => child.on("close", (code) => resolve({ code, out })));
    return { kill: () => child.kill("SIGKILL"), ended, seen: () => out };
  };
  const read = (file: string) => (existsSync(join(folder, file)) ? readFileSync(join(folder, file), "utf8") : "");
  return {
    start,
    run: (command: string, ...args: string[]) => start(command, args).ended,
    node: (file: string, ...args: string[]) => start(process.execPath, [join(EXAMPLES, name, file), ...args]),
    read,
    lines: (file: string) => read(file).trim().split("\n"),
  };
}

test("loop: short answers are sent back with feedback, the checked box is done already, a second run does nothing", NEEDS_SHELL, async (t) => {
  const at = example(t, "loop");
  const first = await at.run("pawl", "run", "tasks.md", "--with", "claude", "--verify", "./check.sh");
  assert.equal(first.code, 0, first.out);
  assert.match(first.out, /Progress: 1\/3 completed/);
  assert.equal(first.out.match(/↺ Rejected: Too short/g)?.length, 2, first.out);
  assert.match(first.out, /All tasks completed!/);
  assert.match((await at.run("pawl", "history", "2")).out, /rejected .*Too short. Write a whole sentence./);
  assert.match((await at.run("pawl", "show", "2", "--output")).out, /cost_usd/);
  assert.match((await at.run("pawl", "run", "tasks.md")).out, /All tasks completed! Nothing to do\./);
});

test("batch: killed in the middle, it goes on by its id; one feature fails, the context is cleared once", async (t) => {
  const at = example(t, "batch");
  const first = at.node("batch.ts");
  await eventually(() => first.seen().includes("Building search"), "it builds search");
  first.kill();
  const id = /batch-[\d-]+/.exec((await first.ended).out)![0];
  const second = await at.node("batch.ts", id).ended;
  assert.equal(second.code, 0, second.out);
  assert.match(second.out, /4 of 5 completed, 1 failed/);
  assert.equal(second.out.match(/Context cleared/g)?.length, 1, second.out);
  const built = at.lines("built.log");
  assert.deepEqual(built, ["login", "search", "search", "export", "billing", "help"]);
  assert.doesNotMatch((await at.node("batch.ts", id).ended).out, /Building/);
});

test("crash-recovery: killed in a repeatable step and right after the effect of a once step, which happens once", async (t) => {
  const at = example(t, "crash-recovery");
  for (const [step, times] of [["write", 1], ["send", 1]] as const) {
    const run = at.node("report.ts");
    await eventually(() => at.read("effects.log").split("\n").filter((line) => line === step).length === times, `it is in ${step}`);
    run.kill();
    await run.ended;
  }
  const last = await at.node("report.ts").ended;
  assert.equal(last.code, 0, last.out);
  assert.match(last.out, /completed: Total: 49 \(takeovers: 2\)/);
  assert.deepEqual(at.lines("effects.log"), ["collect", "write", "write", "send"]);
  assert.equal(at.read("sent.txt"), "Total: 49");
});

test("shell-steps: killed while it builds, the done step is not run again and publishing happens once", NEEDS_SHELL, async (t) => {
  const at = example(t, "shell-steps");
  const first = at.start("pawl", ["run", "tasks.txt", "--exec", "./deploy.sh"]);
  await eventually(() => at.read("effects.log").includes("build site"), "it builds");
  first.kill();
  await first.ended;
  const second = await at.run("pawl", "run", "tasks.txt");
  assert.equal(second.code, 0, second.out);
  assert.match(second.out, /All tasks completed!/);
  const effects = at.lines("effects.log");
  const times = (line: string) => effects.filter((effect) => effect === line).length;
  assert.deepEqual(["fetch site", "publish site", "fetch docs", "build docs", "publish docs"].map(times), [1, 1, 1, 1, 1]);
  // The script outlives its worker for a moment: on a slow machine its build is done and recorded before the takeover ends it.
  assert.ok(times("build site") <= 2, `${times("build site")} builds`);
});

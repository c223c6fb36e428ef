// The agents among the examples as their readers run them, killed with kill -9 on the way: the disk agent against a scripted
// server over HTTP and with its stand-in, the batch of features with its two context clears.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { say } from "../../examples/disk-agent/stand-in.ts";
import { openState } from "../../src/state.ts";
import { eventually } from "../pawl.ts";
import { modelServer } from "./server.ts";

const EXAMPLES = join(import.meta.dirname, "../../examples");

function example(t: TestContext, name: string, env: { readonly [name: string]: string } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "pawl-example-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(join(EXAMPLES, name), folder, { recursive: true });
  const start = (file: string, ...args: string[]) => {
    const child = spawn(process.execPath, [join(EXAMPLES, name, file), ...args], { cwd: folder, env: { ...process.env, PAWL_ACTOR: "reader", ...env }, stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (out += text));
    const ended = new Promise<string>((resolve) => child.on("close", () => resolve(out)));
    return { kill: () => child.kill("SIGKILL"), ended, seen: () => out };
  };
  return { folder, start, path: (file: string) => join(folder, file), lines: (file: string) => (existsSync(join(folder, file)) ? readFileSync(join(folder, file), "utf8").trim().split("\n") : []) };
}

test("disk-agent: killed while it asks the model, it repeats no call, waits for leave to delete, and finishes", async (t) => {
  const never = new Promise<never>(() => undefined);
  const server = await modelServer(t, (_, turn, times) => {
    const { text, calls } = say(turn);
    // In its second turn the model is slow, the first time: there the agent is killed.
    return { text, calls: calls.map(([name, args]) => ({ name, args })), ...(turn === 1 && times === 1 ? { before: never } : {}) };
  });
  const at = example(t, "disk-agent", { ...server.env(), MODEL: "compatible/scripted" });
  const first = at.start("agent.ts");
  await eventually(() => server.asked.length === 2, "the model is asked for the second time");
  first.kill();
  await first.ended;
  const second = await at.start("agent.ts").ended;
  assert.match(second, /waiting: [^]*May task 1 call delete_logs \(write_local\)\?[^]*app-2026-01-06\.log[^]*pawl approve d1/);
  assert.equal(readdirSync(at.path("sandbox/var/log")).length, 7, "nothing is deleted before it is approved");
  const state = await openState(at.path("state.json"), { actor: "ann", notice: () => undefined });
  await state.decisions.settle("d1", { answer: "approve" });
  const steps = await state.tasks.steps(1);
  assert.equal(steps.filter(({ name }) => name === "check_disk").length, 1);
  await state.close();
  const third = await at.start("agent.ts").ended;
  assert.match(third, /completed: The disk was full of old logs/);
  assert.match(third, /5 model calls, 5 tool calls, \d+ tokens, [1-9]\d* in doubt/);
  assert.deepEqual(readdirSync(at.path("sandbox/var/log")), ["app.log"]);
  assert.equal(server.asked.length, 6, "five turns, and one asked again because its answer was lost");
});

test("features-batch: killed in the middle it goes on in order, and the context is cleared twice", async (t) => {
  const at = example(t, "features-batch");
  const first = at.start("batch.ts");
  await eventually(() => first.seen().includes("export: completed"), "three features are built");
  first.kill();
  const id = /batch-[\d-]+/.exec(await first.ended)![0];
  const second = await at.start("batch.ts", id).ended;
  assert.match(second, /10 of 10 completed, context cleared 2 times/);
  const asked = at.lines("asked.log");
  const features = ["login", "search", "export", "billing", "help", "profile", "alerts", "audit", "import", "themes"];
  assert.deepEqual([...new Set(asked.map((line) => line.split(" ")[0]))], features, "in order");
  assert.ok(asked.length <= 21, `only the question in flight was asked again: ${asked.join(", ")}`);
  assert.match(asked.at(-1)!, /^themes 2 \d$/);
  assert.deepEqual(readdirSync(at.path("features")).sort(), features.map((name) => `${name}.md`).sort());
});

// `pawl run --model` through the real command line against a local server: tools from a module, a model as judge, resume without
// flags, and what is said when a package, a key or a server is missing.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { modelOf } from "../../src/agent/model.ts";
import { loadPeer } from "../../src/agent/peer.ts";
import type { Batch } from "../../src/core/records.ts";
import { readRunFlags, type RawRunFlags } from "../../src/surface/run-flags.ts";
import { place } from "../pawl.ts";
import { results, texts } from "./agents.ts";
import { modelServer } from "./server.ts";

const TOOLS = `import { appendFileSync } from "node:fs";
export default {
  tools: { shout: { description: "shouts", risk: "read_only", inputSchema: { type: "object", properties: { text: { type: "string" } }, required: ["text"] }, execute: ({ text }) => { appendFileSync("shouts.log", text + "\\n"); return text.toUpperCase(); } } },
  instructions: "You shout.",
};
`;

test("a list is worked by a model with tools, judged by a model, and resumes as it was started", async (t) => {
  const server = await modelServer(t, (asked, turn) => {
    const system = String(asked.messages[0]!.content);
    if (system.startsWith("You judge")) return { text: `{"passed": ${!JSON.stringify(asked.messages).includes("BAD")}, "confidence": 1, "feedback": "not this"}` };
    const task = texts(asked.messages, "user")[0]!;
    return turn === 0 ? { calls: [{ name: "shout", args: { text: task } }] } : { text: results(asked.messages)[0]! };
  });
  const at = place(t);
  at.write("tasks.txt", "hello\n");
  at.write("tools.ts", TOOLS);
  const env = server.env();
  const first = await at.pawl(["run", "tasks.txt", "--model", "compatible/m", "--tools", "tools.ts", "--judge", "compatible/m"], { env });
  assert.equal(first.code, 0, first.stderr + first.stdout);
  const [hello] = await at.json<{ id: number; result: string }[]>(["list"]);
  assert.equal(hello!.result, "HELLO");
  assert.match(String(server.asked[0]!.messages[0]!.content), /^You shout\./);
  at.write("tasks.txt", "hello\nbad\n");
  const second = await at.pawl(["run", "tasks.txt", "--max-attempts", "1"], { env });
  assert.equal(second.code, 1, second.stderr);
  const [batch] = await at.json<Batch[]>(["batch", "list"]);
  assert.deepEqual((batch!.executor as { model: string }).model, "compatible/m");
  assert.match((await at.pawl(["show", "2"])).stdout, /not this/);
});

test("what is missing is said before anything is created", async (t) => {
  const cases: [raw: RawRunFlags, says: RegExp][] = [
    [{ model: "compatible/m", exec: "true" }, /one of --exec, --with and --model/],
    [{ tools: "x.ts", exec: "true" }, /--tools are for a model/],
    [{ exec: "true", verify: "true", judge: "compatible/m" }, /--verify or --judge/],
  ];
  for (const [raw, says] of cases) assert.throws(() => readRunFlags(raw, []), says);
  for (const [name, says] of [["compatible/m", /OPENAI_BASE_URL/], ["openai/gpt-5", /OPENAI_API_KEY is not set/], ["anthropic/claude-sonnet-4-5", /ANTHROPIC_API_KEY is not set/], ["gpt-5", /no model "gpt-5".*openai, anthropic, compatible/]] as const) {
    await assert.rejects(modelOf(name, {}), says);
  }
  for (const [name, key] of [["openai/gpt-5", "OPENAI_API_KEY"], ["anthropic/claude-sonnet-4-5", "ANTHROPIC_API_KEY"]] as const) assert.equal((await modelOf(name, { [key]: "k" })).modelId, name.split("/")[1]);
  const at = place(t);
  at.write("tasks.txt", "hello\n");
  const lost = await at.pawl(["run", "tasks.txt", "--model", "compatible/m", "--tools", "nowhere.ts"], { env: { OPENAI_BASE_URL: "http://127.0.0.1:9" } });
  assert.equal(lost.code, 2);
  assert.match(lost.stderr, /The tools module .*nowhere\.ts cannot be loaded/);
  at.write("package.json", '{"type":"commonjs"}');
  at.write("tools.ts", 'import "node:fs";\nexport default {};\n');
  const wrong = await at.pawl(["run", "tasks.txt", "--model", "compatible/m", "--tools", "tools.ts"], { env: { OPENAI_BASE_URL: "http://127.0.0.1:9" } });
  assert.match(wrong.stderr, /next: It must be an ES module: name it \.mts/);
  assert.equal(existsSync(at.state), false, "nothing was created");
});

test("a package that is not installed is named, with the command that installs it", async () => {
  await assert.rejects(loadPeer("@ai-sdk/not-there", "The model x/y"), (error: Error & { next: string; code: string }) => {
    assert.equal(error.code, "usage");
    assert.match(error.message, /The model x\/y needs the package @ai-sdk\/not-there/);
    assert.equal(error.next, "npm install ai @ai-sdk/not-there");
    return true;
  });
});

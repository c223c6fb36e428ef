// What goes into a model's context: large and wild outputs of tools as artifacts, reading them in pieces, and clearing the
// conversation with a carry-over, also across a crash between its two halves.
import assert from "node:assert/strict";
import { test } from "node:test";
import { memoryTools } from "../../src/agent/memory-tools.ts";
import type { AgentTool } from "../../src/agent/tool.ts";
import { LIMITS } from "../../src/base/limits.ts";
import { ALL_STORES } from "../stores.ts";
import { atWork, results, texts } from "./agents.ts";

const LOG = Array.from({ length: 60_000 }, (_, i) => `line ${i} of a log that is long, with ü and 🙂`).join("\n");

for (const store of ALL_STORES) {
  test(`scenario 17, ${store.name}: five megabytes of output are an artifact with an excerpt, read in pieces`, async (t) => {
    const { state, server, run } = await atWork(t, (asked, turn) => {
      const id = /sha256-[0-9a-f]{32}/.exec(results(asked.messages).join())?.[0];
      if (turn === 0) return { calls: [{ name: "log" }] };
      if (turn === 1) return { calls: [{ name: "artifact_read", args: { artifact_id: id, from_line: 30_001, to_line: 30_002 } }, { name: "artifact_read", args: { artifact_id: id, from: 0, to: 6 } }, { name: "artifact_read", args: { artifact_id: "sha256-00" } }] };
      return { text: results(asked.messages).slice(1).join("|") };
    }, { store, tools: { log: { risk: "read_only", execute: () => LOG + LOG } as AgentTool } });
    const task = await run();
    assert.equal(task.status, "completed", JSON.stringify(task.error));
    assert.match(String(task.result), /line 30000 of a log.*\nline 30001 of[^]*\|.*bytes 0 to 6 of sha256[^]*line 0/);
    assert.match(String(task.result), /artifact_read failed: artifact not found/);
    for (const { messages } of server.asked) assert.ok(JSON.stringify(messages).length < 30_000);
    const [artifact] = (await state.agents.show(task.id)).state.artifacts;
    assert.equal(artifact!.bytes, Buffer.byteLength(LOG + LOG));
    assert.equal(artifact!.type, "tool_result.log");
    assert.equal((await state.artifacts.read(artifact!.artifact_id)).text, LOG + LOG);
  });
}

test("what no store can hold is made text that it can: NUL, half a character, bytes that are no text, cycles", async (t) => {
  const cycle: { [name: string]: unknown } = {};
  cycle["self"] = cycle;
  const outputs: unknown[] = ["a\0b", "half \ud83d", Buffer.from([0xff, 0xfe, 0x41]), undefined, { date: new Date(0), big: undefined }, cycle, 12n, Buffer.alloc(100_000, 0xff)];
  const { server, run } = await atWork(t, (_, turn) => (turn === 0 ? { calls: outputs.map((_, i) => ({ name: "get", args: { i } })) } : { text: "done \0 \ud83d" }), {
    tools: { get: { risk: "read_only", execute: (({ i }: { i: number }) => outputs[i]) as never } },
  });
  const task = await run();
  assert.equal(task.status, "completed", JSON.stringify(task.error));
  assert.equal(task.result, "done \u2400 \ufffd");
  const told = results(server.asked[1]!.messages);
  assert.deepEqual(told.slice(0, 7), ["a\u2400b", "half \ufffd", "\ufffd\ufffdA", "(no output)", '{"date":"1970-01-01T00:00:00.000Z"}', "[object Object]", "12"]);
  assert.match(told[7]!, /sha256-[0-9a-f]{32}: 100000 bytes/);
});

test("row 23: at its threshold the conversation is cleared; the carry-over opens the next, and the originals stay", async (t) => {
  const look: AgentTool = { risk: "read_only", execute: () => "seen" };
  const work = await atWork(t, (asked) => {
    const last = texts(asked.messages, "user").at(-1)!;
    if (/cleared now/.test(last)) return { text: '{"done": ["looked twice"], "next": ["say so"], "decisions": ["no deletion"], "do_not_repeat": ["delete"]}' };
    if (asked.messages.some(({ content }) => String(content).includes("looked twice"))) return { text: "finished" };
    return { calls: [{ name: "look", args: { n: asked.messages.length } }], usage: { input: 40 * asked.messages.length, output: 10 } };
  }, { tools: { look }, contextTokens: 150, onEvent: () => undefined });
  const task = await work.run();
  assert.equal(task.result, "finished");
  const opening = texts(work.server.asked.at(-1)!.messages, "user");
  assert.equal(opening.length, 1);
  assert.match(opening[0]!, /conversation so far was cleared[^]*The task was: do it[^]*looked twice[^]*say so[^]*no deletion[^]*look \{"n":2\} \(ran\)[^]*- delete/);
  const { agent } = await work.state.agents.show(task.id);
  assert.equal(agent.epoch, 1);
  const all = await work.state.agents.messages(task.id, { epoch: "all" });
  assert.deepEqual(all.map(({ epoch, role }) => `${epoch} ${role}`), ["0 user", "0 assistant", "0 tool", "0 assistant", "0 tool", "1 carry_over", "1 assistant"]);
  assert.ok((await work.state.history.of(task.id)).some(({ event }) => event === "context_cleared"));
});

test("a model that writes no carry-over loses the conversation, not what is recorded", async (t) => {
  const work = await atWork(t, (asked) => {
    const last = texts(asked.messages, "user").at(-1)!;
    if (/cleared now/.test(last)) return { text: "I do not do JSON" };
    if (/was cleared to make room/.test(last)) return { text: "finished" };
    return { calls: [{ name: "agent_patch", args: { append_known_facts: [{ key: `k${asked.messages.length}`, value: 1, source: "model" }] } }], usage: { input: 60 * asked.messages.length, output: 1 } };
  }, { contextTokens: 150 });
  assert.equal((await work.run()).result, "finished");
  const last = work.server.asked.at(-1)!.messages;
  assert.match(String(last[0]!.content), /"k2"[^]*"k4"/);
  assert.match(texts(last, "user")[0]!, /I do not do JSON/);
});

for (const store of ALL_STORES) test(`scenario 13, ${store.name}: a batch counts the tokens of its agents, tells each of the items before, and is cleared at the threshold, in order`, async (t) => {
  const work = await atWork(t, (asked) => ({ text: `built ${texts(asked.messages, "user")[0]!.split("\n")[0]}`, usage: { input: 45_000, output: 0 } }), { store, batchContext: true });
  const batch = await work.state.batches.create(Array.from({ length: 10 }, (_, i) => `feature ${i + 1}`));
  await work.goOn(1, { batch: batch.id });
  const openings = work.server.asked.map(({ messages }) => texts(messages, "user")[0]!);
  assert.deepEqual(openings.map((text) => text.split("\n")[0]), Array.from({ length: 10 }, (_, i) => `feature ${i + 1}`), "in order");
  assert.match(openings[3]!, /Done in this batch since:\n- feature 1: built feature 1\n- feature 2: built feature 2\n- feature 3: built feature 3$/);
  assert.match(openings[4]!, /^feature 5\n\n4 items of this batch were done before; do not do them again\.$/);
  assert.match(openings[5]!, /4 items .*\nDone in this batch since:\n- feature 5/);
  const after = await work.state.batches.get(batch.id);
  assert.equal((after.context_clears as unknown[]).length, 2);
  assert.equal(after.tokens, 2 * 45_000);
});

test("a memory that fails is told to the model, and the agent goes on", async (t) => {
  const out = () => Promise.reject(new Error("the memory is out of reach"));
  const work = await atWork(t, (asked, turn) => (turn === 0 ? { calls: [{ name: "memory_recall", args: { entity: "user" } }, { name: "memory_search", args: { query: "x" } }] } : { text: results(asked.messages).join(" ") }), {
    tools: memoryTools({ store: out, recall: out, search: out } as never), policy: {},
  });
  const task = await work.run();
  assert.equal(task.status, "completed");
  assert.match(String(task.result), /out of reach Go on without it.*out of reach Go on without it/);
});

test("limits of the context are below the least anybody has", () => {
  assert.ok(LIMITS.excerptBytes < LIMITS.toolOutputBytes);
  assert.ok(LIMITS.artifactReadBytes <= 8_000, "one read fits into the contract's max_artifact_bytes_in_context");
});

// What a model is shown, as a pure function: its limits hold for any history, calls and results stay together, and what is left
// out is said.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { AgentState } from "../../src/core/agent.ts";
import { newBudget, spendOf, type Budget, type Spend } from "../../src/core/budget.ts";
import type { Message } from "../../src/core/message.ts";
import type { Part, PromptMessage } from "../../src/agent/model.ts";
import { render, tokensOf, type Shown } from "../../src/agent/render.ts";
import { cutBytes, excerptOf } from "../../src/agent/tool.ts";

const STATE: AgentState = { goal: "g", constraints: {}, budget: {}, plan: [], known_facts: [], open_questions: [], artifacts: [], risk_flags: [] };
const spend = (used = 0): Spend => spendOf({ ...newBudget(1, { max_steps: 10 }, null, 0), used_steps: used } as unknown as Budget);
const shown = (state: Partial<AgentState> = {}, used = 0): Shown => ({ instructions: "Be good.", state: { ...STATE, ...state }, spend: spend(used) });

let seq = 0;
const message = (role: Message["role"], content: unknown): Message => ({ task_id: 1, seq: ++seq, epoch: 0, role, content: content as never, round: 1, step_key: null, tokens: null, created_at: "2026-01-01T00:00:00.000Z" });

type Result = { readonly text: string; readonly artifact: boolean };
const result = fc.record({ text: fc.oneof(fc.string({ unit: "grapheme", maxLength: 3_000 }), fc.nat(6_000).map((n) => "é".repeat(n))), artifact: fc.boolean() });
const turn = fc.oneof(
  fc.string({ maxLength: 400 }).map((text) => ({ user: text })),
  fc.record({ text: fc.string({ maxLength: 200 }), results: fc.array(fc.option(result, { freq: 5 }), { maxLength: 4 }) }),
);

function history(turns: readonly ({ user: string } | { text: string; results: readonly (Result | null)[] })[]): Message[] {
  seq = 0;
  return [message("user", [{ type: "text", text: "the task" }]), ...turns.flatMap((one) => {
    if ("user" in one) return [message("user", [{ type: "text", text: one.user }])];
    const calls = one.results.map((_, i) => ({ type: "tool-call", toolCallId: `c${i}`, toolName: "t", input: {} }));
    const said = message("assistant", [{ type: "text", text: one.text }, ...calls]);
    const base = seq;
    const results = one.results.flatMap((each, i) => {
      if (each === null) return [];
      const part = { type: "tool-result", toolCallId: `c${i}`, toolName: "t", output: { type: "text", value: each.text }, ...(each.artifact ? { artifact: { artifact_id: `sha256-${"0".repeat(32)}`, bytes: 99_999 } } : {}) };
      return [{ ...message("tool", [part]), seq: base + 1 + i }];
    });
    seq = base + calls.length;
    return [said, ...results];
  })];
}

const idsOf = (content: readonly Part[], type: string) => content.filter((part) => part.type === type).map((part) => part["toolCallId"]);

function check(prompt: readonly PromptMessage[]): void {
  assert.equal(prompt[0]!.role, "system");
  for (const [i, one] of prompt.entries()) {
    if (one.role === "assistant") {
      const calls = idsOf(one.content, "tool-call");
      const next = prompt[i + 1];
      assert.deepEqual(next?.role === "tool" ? idsOf(next.content, "tool-result") : [], calls, "every call has its result right behind it, in order");
    }
    if (one.role === "tool") assert.equal(prompt[i - 1]!.role, "assistant", "no result without its call");
  }
}

test("scenario 17, property: on any history the limits hold, calls keep their results, and the same goes in as came out", () => {
  fc.assert(
    fc.property(fc.array(turn, { maxLength: 14 }), fc.nat(8_000), fc.option(fc.integer({ min: 500, max: 4_000 })), (turns, most, tokens) => {
      const messages = history(turns);
      const limits = { max_artifact_bytes_in_context: most, ...(tokens === null ? {} : { max_prompt_tokens: tokens }) };
      const out = render(shown(), messages, limits);
      check(out.prompt);
      assert.ok(out.artifact_bytes <= most, `${out.artifact_bytes} bytes of artifacts, ${most} allowed`);
      const contents = out.prompt.flatMap((one) => (one.role === "tool" ? one.content : [])).map((part) => (part["output"] as { value: string }).value).filter((text) => text.startsWith("[sha256-"));
      const really = contents.reduce((sum, text) => sum + (text.includes("\n") ? Buffer.byteLength(text.slice(text.indexOf("\n") + 1)) : 0), 0);
      assert.ok(really <= most, `${really} bytes of artifacts are in the prompt, ${most} allowed`);
      assert.deepEqual(render(shown(), messages, limits), out, "deterministic");
      if (tokens !== null && out.prompt.length > 4) assert.ok(out.left_out.length > 0 || out.tokens <= tokens + 100);
      const left = /(\d+) earlier turns? /.exec(out.left_out.join())?.[1];
      if (tokens !== null && left !== undefined && out.tokens > tokens) assert.ok(out.prompt.length <= 5, "only the task and the newest turn are left");
      if (out.left_out.length > 0) assert.match(out.prompt[0]!.content as string, /Left out here: /);
    }),
    { numRuns: 150 },
  );
});

test("the newest artifacts come first; one that does not fit is cut, and older ones are only named", () => {
  const results = (n: number) => ({ text: "", results: [{ text: `${n}`.repeat(1_000), artifact: true }] });
  const { prompt, left_out, artifact_bytes } = render(shown(), history([results(1), results(2), results(3)]), { max_artifact_bytes_in_context: 1_500 });
  const texts = prompt.filter((one) => one.role === "tool").map((one) => ((one.content as Part[])[0]!["output"] as { value: string }).value);
  assert.match(texts[0]!, /not shown any more/);
  assert.equal(texts[1]!.match(/2/g)!.length - texts[1]!.slice(0, texts[1]!.indexOf("\n")).split("2").length + 1, 500);
  assert.ok(texts[2]!.endsWith("3".repeat(1_000)));
  assert.equal(artifact_bytes, 1_500);
  assert.match(left_out.join(), /2 artifacts or parts of them/);
});

test("thousands of facts do not fill the prompt; the newest stay, and how many are missing is said", () => {
  const known_facts = Array.from({ length: 5_000 }, (_, i) => ({ key: `fact ${i}`, value: "x".repeat(50), source: "tool" }));
  const { prompt, left_out } = render(shown({ known_facts }), history([]));
  const system = prompt[0]!.content as string;
  assert.ok(system.length < 60_000);
  assert.match(system, /fact 4999/);
  assert.doesNotMatch(system, /"fact 0"/);
  assert.match(left_out.join(), /of 5000 known facts/);
});

test("a budget under pressure is told with what is left of it", () => {
  assert.match(render(shown({}, 9), history([])).prompt[0]!.content as string, /budget runs low \(used steps: 9 of 10\)/);
  assert.doesNotMatch(render(shown({}, 2), history([])).prompt[0]!.content as string, /budget runs low/);
});

test("property: a text is cut between characters, never beyond its bytes", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", maxLength: 300 }), fc.nat(600), (text, bytes) => {
      const cut = cutBytes(text, bytes);
      assert.ok(Buffer.byteLength(cut) <= bytes);
      assert.ok(text.startsWith(cut));
      assert.ok(cut === text || Buffer.byteLength(cut) > bytes - 4);
    }),
  );
  assert.match(excerptOf("ü".repeat(5_000)), /^ü+\n… \(\d+ bytes left out\) …\nü+$/);
  assert.equal(tokensOf("abc"), 1);
});

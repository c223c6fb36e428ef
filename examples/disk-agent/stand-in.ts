// A stand-in for a model, so that the example runs without a key: it looks at what the conversation holds and says the next thing
// of a fixed script. It is no intelligence; with MODEL set, a real one works instead.
import type { LanguageModel } from "../../src/index.ts"; // in your project: from "pawl"

type Said = { readonly role: string; readonly content: unknown };

const LOGS = [1, 2, 3, 4, 5, 6].map((day) => `var/log/app-2026-01-0${day}.log`);
const SCRIPT = [
  { text: "Let me look at the disk first.", calls: [["check_disk", {}], ["list_logs", {}]] },
  { text: "", calls: [["agent_patch", { append_known_facts: [{ key: "disk.cause", value: "old logs in var/log", source: "tool" }], replace_plan: ["delete the old logs", "check the disk again"] }]] },
  { text: "The old logs fill the disk. I want to delete them.", calls: [["delete_logs", { paths: LOGS }]] },
  { text: "", calls: [["check_disk", {}]] },
  { text: "The disk was full of old logs. I deleted six of them; today's log and everything in home are untouched.", calls: [] },
] as const;

/** What the model says in the given turn. */
export function say(turn: number): (typeof SCRIPT)[number] {
  return SCRIPT[Math.min(turn, SCRIPT.length - 1)]!;
}

export const standIn: LanguageModel = {
  specificationVersion: "v4",
  provider: "stand-in",
  modelId: "script",
  doGenerate: async ({ prompt }: { prompt: readonly Said[] }) => {
    await new Promise((resolve) => setTimeout(resolve, 500));
    const turn = prompt.filter(({ role }) => role === "assistant").length;
    const { text, calls } = say(turn);
    const parts = calls.map(([toolName, input], i) => ({ type: "tool-call", toolCallId: `call-${turn}-${i}`, toolName, input: JSON.stringify(input) }));
    return { content: [...(text === "" ? [] : [{ type: "text", text }]), ...parts], finishReason: { unified: "stop" }, usage: { inputTokens: { total: 500 }, outputTokens: { total: 60 } } };
  },
  doStream: () => Promise.reject(new Error("the stand-in does not stream")),
};

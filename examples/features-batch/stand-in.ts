// A stand-in for a model, so that the example runs without a key: it writes one file for each feature and says so, and its
// conversations are as large as real ones. With MODEL set, a real model works instead.
import { appendFileSync } from "node:fs";
import type { LanguageModel } from "../../src/index.ts"; // in your project: from "pawl"

type Said = { readonly role: string; readonly content: string | readonly { readonly text?: string }[] };

export const standIn: LanguageModel = {
  specificationVersion: "v4",
  provider: "stand-in",
  modelId: "script",
  doGenerate: async ({ prompt }: { prompt: readonly Said[] }) => {
    await new Promise((resolve) => setTimeout(resolve, 60));
    const first = prompt.find(({ role }) => role === "user")!.content as readonly { readonly text: string }[];
    const feature = first[0]!.text.split("\n")[0]!;
    const again = prompt.some(({ role }) => role === "assistant");
    appendFileSync("asked.log", `${feature} ${again ? 2 : 1} ${/(\d+) items? of this batch/.exec(first[0]!.text)?.[1] ?? 0}\n`);
    const call = { type: "tool-call", toolCallId: "call-1", toolName: "write_file", input: JSON.stringify({ name: `${feature}.md`, text: `# ${feature}\n` }) };
    return { content: again ? [{ type: "text", text: `Built ${feature}.` }] : [call], finishReason: { unified: "stop" }, usage: { inputTokens: { total: again ? 44_900 : 44_000 }, outputTokens: { total: 100 } } };
  },
  doStream: () => Promise.reject(new Error("the stand-in does not stream")),
};

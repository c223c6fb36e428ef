// Tools by which a model remembers: store, recall and search, over the memory of a state. Invariant: a memory that fails is
// said to the model and never ends its task; what a model stores never supersedes the word of a person.
import { messageOf } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import type { memoryVerbs } from "../core/memories.ts";
import type { Recalled } from "../core/memory.ts";
import type { AgentTool, Tools } from "./tool.ts";

/** What of a state's memory the tools use: `state.memory`. */
export type ToolMemory = Pick<ReturnType<typeof memoryVerbs>, "store" | "recall" | "search">;

/** What a model is shown of a memory: short, with how sure it is now. */
const shown = ({ id, entity, attribute, value, source, effective_confidence, verified_at, conflicts }: Recalled): Json => ({
  id, entity, attribute, value, source, confidence: Math.round(effective_confidence * 100) / 100, verified_at, ...(conflicts.length > 0 ? { contradicted_by: conflicts } : {}),
});

const text = (description: string) => ({ type: "string", minLength: 1, description });
const limit = { type: "integer", minimum: 1, maximum: 50, description: "at most so many (default 10)" };
const object = (properties: { readonly [name: string]: Json }, required: readonly string[]) => ({ type: "object", properties, required, additionalProperties: false });

/** The tools `memory_store`, `memory_recall` and `memory_search`. `source` is whose word it is when the model stores. */
export function memoryTools(memory: ToolMemory, { source = "agent" }: { readonly source?: string } = {}): Tools {
  return {
    memory_store: tool("Remembers one fact for later tasks: an entity, an attribute of it, its value. A new value takes the place of what you stored before. No secrets.",
      object({ entity: text("what it is about, such as user or service:billing"), attribute: text("such as language"), value: { description: "text, number or JSON" }, confidence: { type: "number", minimum: 0, maximum: 1 } }, ["entity", "attribute", "value"]),
      async (input: { entity: string; attribute: string; value: Json; confidence?: number }) => {
        const stored = await memory.store({ ...input, source });
        return { stored: shown(stored.memory), supersedes: [...stored.supersedes] };
      }),
    memory_recall: tool("What is remembered of an entity, newest first.",
      object({ entity: text("such as user"), attribute: text("only this"), limit }, ["entity"]),
      async (input: { entity: string; attribute?: string; limit?: number }) => (await memory.recall({ limit: 10, ...input })).map(shown)),
    memory_search: tool("Finds memories by words, best first.", object({ query: text("a few words"), limit }, ["query"]),
      async ({ query, limit: most = 10 }: { query: string; limit?: number }) => (await memory.search(query, { limit: most })).map(shown)),
  };
}

/** It stays within the state, so it needs nobody's leave. */
function tool<I>(description: string, inputSchema: Json, run: (input: I) => Promise<Json>): AgentTool {
  const execute = async (input: I): Promise<Json> => {
    try {
      return await run(input);
    } catch (error) {
      return { error: `Memory cannot be used: ${messageOf(error)} Go on without it.` };
    }
  };
  return { description, inputSchema: inputSchema as AgentTool["inputSchema"] & object, risk: "read_only", effect: "repeat", execute: execute as unknown as NonNullable<AgentTool["execute"]> };
}

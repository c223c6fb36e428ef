// What the model is shown: instructions, the agent's state, and its conversation. Pure and deterministic. Invariants: bytes of
// artifacts never exceed the limit; a tool call and its result are shown together or not at all; every call has a
// result; and what is left out is said, to the model as well.
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { AgentState, Fact } from "../core/agent.ts";
import type { Spend } from "../core/budget.ts";
import type { CarryOver, Message } from "../core/message.ts";
import type { Part, PromptMessage, ToolCallPart } from "./model.ts";
import { cutBytes } from "./tool.ts";

/** A result of which only a piece is in the conversation. `from` and `to` (bytes) are set when it is a range that was read. */
export type ArtifactMark = { readonly artifact_id: string; readonly bytes: number; readonly from?: number; readonly to?: number };

/** The agent as it is shown. `spend` is only looked at for what runs low. */
export type Shown = { readonly instructions: string; readonly state: AgentState; readonly spend: Spend };

export type ContextLimits = {
  /** Bytes of artifacts' contents in one prompt; those of the newest messages come first. */
  readonly max_artifact_bytes_in_context?: number | undefined;
  /** Tokens of the whole prompt, estimated: older turns are left out first. The first message and the newest turn stay. */
  readonly max_prompt_tokens?: number | undefined;
};

export type Rendered = {
  readonly prompt: readonly PromptMessage[];
  /** One line for each kind of thing that is not in the prompt. */
  readonly left_out: readonly string[];
  readonly artifact_bytes: number;
  /** An estimate, on the high side. */
  readonly tokens: number;
};

/** The prompt for the next call of the model. `messages` are those of the agent's epoch, oldest first. */
export function render(agent: Shown, messages: readonly Message[], limits: ContextLimits = {}): Rendered {
  const leftOut: string[] = [];
  const { turns, orphans } = turnsOf(messages);
  if (orphans > 0) leftOut.push(`${orphans} tool ${orphans === 1 ? "result" : "results"} without a call`);
  const shown = withArtifacts(turns, limits.max_artifact_bytes_in_context ?? Infinity);
  if (shown.cut > 0) leftOut.push(`the content of ${shown.cut} ${shown.cut === 1 ? "artifact or a part of it" : "artifacts or parts of them"}; read what you need with artifact_read`);
  const facts = factsThatFit(agent.state.known_facts);
  if (facts.length < agent.state.known_facts.length) leftOut.push(`${agent.state.known_facts.length - facts.length} of ${agent.state.known_facts.length} known facts, the oldest`);
  const kept = turnsThatFit(shown.turns, tokensOf(systemText(agent, facts, leftOut)) + 100, limits.max_prompt_tokens ?? Infinity);
  if (kept.left > 0) leftOut.push(`${kept.left} earlier ${kept.left === 1 ? "turn" : "turns"} of this conversation`);
  const system: PromptMessage = { role: "system", content: systemText(agent, facts, leftOut) };
  const prompt = [system, ...kept.turns.flatMap((turn) => turn.messages)];
  const artifactBytes = kept.turns.reduce((sum, turn) => sum + turn.artifactBytes, 0);
  return { prompt, left_out: leftOut, artifact_bytes: artifactBytes, tokens: prompt.reduce((sum, message) => sum + tokensOf(message.content), 0) };
}

/** Tokens of a value as text, estimated on the high side: no tokeniser in use makes more of ordinary text than one of three bytes. */
export function tokensOf(value: unknown): number {
  return Math.ceil(Buffer.byteLength(typeof value === "string" ? value : JSON.stringify(value)) / 3);
}

/* ---------- the conversation ---------- */

type Turn = { readonly messages: PromptMessage[]; readonly artifactBytes: number };

/** Messages that belong together: one of the user, or one of the model with the results of its calls in the order of the calls. */
function turnsOf(messages: readonly Message[]): { turns: PromptMessage[][]; orphans: number } {
  const results = new Map<string, Part>();
  // A call's id may come again in a later turn, so a result belongs to the nearest call before it.
  const nameOf = (assistant: number, id: unknown) => `${assistant}/${String(id)}`;
  let assistant = 0;
  for (const message of messages) {
    if (message.role === "assistant") assistant = message.seq;
    if (message.role === "tool") for (const part of partsOf(message)) results.set(nameOf(assistant, part["toolCallId"]), part);
  }
  const turns: PromptMessage[][] = [];
  let used = 0;
  for (const message of messages) {
    if (message.role === "tool") continue;
    const turn: PromptMessage[] = [promptMessage(message)];
    if (message.role === "assistant") {
      const answers = callsOf(message).map((call) => {
        const found = results.get(nameOf(message.seq, call.toolCallId));
        if (found) used++;
        return found ?? resultPart(call, { type: "error-text", value: "This call has no recorded result." });
      });
      if (answers.length > 0) turn.push({ role: "tool", content: answers });
    }
    turns.push(turn);
  }
  return { turns, orphans: results.size - used };
}

export function resultPart(call: Pick<ToolCallPart, "toolCallId" | "toolName">, output: Json, artifact?: ArtifactMark): Part {
  return { type: "tool-result", toolCallId: call.toolCallId, toolName: call.toolName, output, ...(artifact ? { artifact } : {}) };
}

export function partsOf(message: Pick<Message, "content">): readonly Part[] {
  return Array.isArray(message.content) ? (message.content as unknown as readonly Part[]) : [];
}

/** The calls of tools in an answer, in their order. */
export function callsOf(message: Pick<Message, "content">): ToolCallPart[] {
  return partsOf(message).filter((part): part is ToolCallPart => part.type === "tool-call");
}

function promptMessage(message: Message): PromptMessage {
  if (message.role === "carry_over") return { role: "user", content: [{ type: "text", text: carryOverText(message.content as unknown as CarryOver) }] };
  if (message.role === "assistant") {
    const content = partsOf(message).flatMap(({ invalid: _, ...part }) => (part.type === "finish" ? [] : [part as Part]));
    // Providers refuse a message with nothing in it.
    return { role: "assistant", content: content.length > 0 ? content : [{ type: "text", text: "(empty)" }] };
  }
  return { role: "user", content: typeof message.content === "string" ? [{ type: "text", text: message.content }] : partsOf(message) };
}

/** What the new conversation opens with after the old one was cleared. */
export function carryOverText(carryOver: CarryOver): string {
  const list = (title: string, lines: readonly string[]) => (lines.length === 0 ? [] : [`${title}:`, ...lines.map((line) => `- ${line}`), ""]);
  return [
    "The conversation so far was cleared to make room. What it came to:", "",
    ...list("Done", carryOver.done), ...list("Next", carryOver.next), ...list("Decisions", carryOver.decisions), ...list("Do not do again", carryOver.do_not_repeat),
    "Go on from here.",
  ].join("\n");
}

/* ---------- artifacts ---------- */

/** Gives the newest results their content first; one that does not fit is cut, or only named. */
function withArtifacts(turns: readonly PromptMessage[][], limit: number): { turns: Turn[]; cut: number } {
  let [left, cut] = [limit, 0];
  const shown: Turn[] = [];
  for (let i = turns.length - 1; i >= 0; i--) {
    const before = left;
    const messages = turns[i]!.map((message) => {
      if (message.role !== "tool") return message;
      const content = message.content.map((part) => {
        const fit = fitPart(part, left);
        left -= fit.bytes;
        if (fit.cut) cut++;
        return fit.part;
      });
      return { role: "tool" as const, content };
    });
    shown.unshift({ messages, artifactBytes: limit === Infinity ? 0 : before - left });
  }
  return { turns: shown, cut };
}

/** Less than this of an artifact tells nothing. */
const LEAST_BYTES = 200;

function fitPart(part: Part, left: number): { part: Part; bytes: number; cut: boolean } {
  const { artifact, ...plain } = part as Part & { readonly artifact?: ArtifactMark };
  if (artifact === undefined) return { part, bytes: 0, cut: false };
  const value = (part["output"] as { readonly value: string }).value;
  const bytes = Buffer.byteLength(value);
  const fits = bytes <= left;
  const content = fits ? value : left < LEAST_BYTES ? "" : cutBytes(value, left);
  const text = `${artifactLine(artifact, content !== "")}${content === "" ? "" : `\n${content}`}`;
  return { part: { ...(plain as Part), output: { type: "text", value: text } }, bytes: Buffer.byteLength(content), cut: !fits };
}

function artifactLine({ artifact_id, bytes, from, to }: ArtifactMark, shown: boolean): string {
  const what = from === undefined ? `[${artifact_id}: ${bytes} bytes` : `[bytes ${from} to ${to} of ${artifact_id}, which has ${bytes}`;
  return `${what}; ${shown ? "an excerpt or all of it follows" : "not shown any more"}; read more with artifact_read]`;
}

/* ---------- what fits ---------- */

/** The first turn (the task) and as many of the newest as fit. */
function turnsThatFit(turns: readonly Turn[], spent: number, limit: number): { turns: readonly Turn[]; left: number } {
  if (limit === Infinity || turns.length <= 2) return { turns, left: 0 };
  const cost = (turn: Turn) => turn.messages.reduce((sum, message) => sum + tokensOf(message.content), 0);
  let room = limit - spent - cost(turns[0]!);
  let first = turns.length - 1;
  room -= cost(turns[first]!);
  while (first > 1 && cost(turns[first - 1]!) <= room) room -= cost(turns[--first]!);
  return { turns: [turns[0]!, ...turns.slice(first)], left: first - 1 };
}

/** The newest facts, in their order: a state of thousands must not fill the prompt. */
function factsThatFit(facts: readonly Fact[]): readonly Fact[] {
  let [room, first] = [LIMITS.stateBytesInContext as number, facts.length];
  while (first > 0) {
    room -= Buffer.byteLength(JSON.stringify(facts[first - 1]));
    if (room < 0) break;
    first--;
  }
  return facts.slice(first);
}

/* ---------- the first message ---------- */

function systemText({ instructions, state, spend }: Shown, facts: readonly Fact[], leftOut: readonly string[]): string {
  const { goal, constraints, plan, open_questions, artifacts, risk_flags } = state;
  const record = { goal, constraints, plan, known_facts: facts, open_questions, artifacts: artifacts.slice(-LIMITS.artifactsInContext), risk_flags };
  const low = spend.pressure.map((resource) => `${resource}: ${spend[resource].limit! - (spend[resource].left ?? 0)} of ${spend[resource].limit}`);
  return [
    instructions,
    `Your state, as it is recorded:\n${JSON.stringify(record, null, 1)}`,
    ...(low.length === 0 ? [] : [`The budget runs low (used ${low.join(", ")}). Come to a result with what is left.`]),
    ...(leftOut.length === 0 ? [] : [`Left out here: ${leftOut.join("; ")}.`]),
  ].filter((text) => text !== "").join("\n\n");
}

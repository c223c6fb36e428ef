// Clearing the context: when the conversation has grown too large, the model writes down what must not be lost, and the next
// epoch begins with that. Invariant: the carry-over is recorded before the conversation is cleared, and clearing is one
// change, so a crash between the halves goes on in the right one; the originals stay in the state.
import { canonical, type Json } from "../base/json.ts";
import { checkShape, objectShape, type Shape } from "../core/shape.ts";
import type { CarryOver, Message } from "../core/message.ts";
import { wellFormed } from "../core/retry.ts";
import { ask } from "./answer.ts";
import { jsonIn, textIn, type ModelAnswer, type PromptMessage } from "./model.ts";
import { ASK_PERSON } from "./own-tools.ts";
import { callsOf, partsOf, render } from "./render.ts";
import type { Session } from "./session.ts";
import { cutBytes } from "./tool.ts";

/** Fewer messages than this are no conversation: clearing them would clear again and again. */
const LEAST_MESSAGES = 4;

const LISTS = ["done", "next", "decisions", "do_not_repeat"] as const;
const line: Shape = { type: "string" };
const SHAPE = objectShape(Object.fromEntries(LISTS.map((name) => [name, { type: "array", items: line, description: name.replaceAll("_", " ") } as Shape])), [], "What the next conversation must know.");

const ASK = `The conversation grows too large and will be cleared now. Your recorded state stays; the conversation does not. Write down what you need to go on, as JSON and nothing else: ${JSON.stringify({ done: ["what is done, with results"], next: ["what comes next"], decisions: ["what was decided, and why"], do_not_repeat: ["what must not be done again"] })}`;

/** Clears the context when it is at its threshold. True when it did. */
export async function clearWhenFull(session: Session): Promise<boolean> {
  const { view, setup, messages } = session;
  const { epoch, context_tokens } = view.agent;
  if (context_tokens < setup.contextTokens || messages.length < LEAST_MESSAGES) return false;
  const known = factual(messages, new Set([...setup.tools.values()].filter(({ own }) => own).map(({ name }) => name)));
  const shown = render({ instructions: setup.instructions ?? "", state: view.state, spend: view.spend }, messages, { max_artifact_bytes_in_context: 0 });
  const prompt: PromptMessage[] = [...shown.prompt, { role: "user", content: [{ type: "text", text: ASK }] }];
  const carryOver = await ask(session, {
    scope: `clear-${epoch}`, prompt, tools: undefined, responseFormat: { type: "json" }, streamed: false,
    record: (said) => ({ output: canonical(joined(readCarryOver(said), known)), extra: {} }),
  });
  await session.clear(carryOver as unknown as CarryOver);
  return true;
}

/** What the model wrote, or nothing when it is not what was asked for: what is known without it must do. */
function readCarryOver(said: ModelAnswer): CarryOver {
  const text = textIn(said.content);
  try {
    const value = canonical(JSON.parse(jsonIn(text)));
    checkShape(SHAPE, value, "carry-over");
    const lists = value as unknown as Partial<CarryOver>;
    return { done: lists.done ?? [], next: lists.next ?? [], decisions: lists.decisions ?? [], do_not_repeat: lists.do_not_repeat ?? [] };
  } catch {
    return { done: text.trim() === "" ? [] : [cutBytes(wellFormed(text.trim()), 4_000)], next: [], decisions: [], do_not_repeat: [] };
  }
}

type Output = { readonly type?: string; readonly reason?: string; readonly value?: Json };

/**
 * What the messages say by themselves: which tools ran, what a person refused and answered. Models forget; records do not.
 * What an agent's `own` tools did is in its state: a plan it gave up must not come back as something that ran.
 */
function factual(messages: readonly Message[], own: ReadonlySet<string>): CarryOver {
  const results = new Map(messages.filter(({ role }) => role === "tool").map((message) => [message.seq, partsOf(message)[0]?.["output"] as Output | undefined]));
  const before = messages.filter(({ role }) => role === "carry_over").map((message) => message.content as unknown as CarryOver);
  const calls = messages.filter(({ role }) => role === "assistant").flatMap((message) => callsOf(message).map((call, i) => ({ call, text: `${call.toolName} ${cutBytes(JSON.stringify(call.input), 300)}`, result: results.get(message.seq + 1 + i) })));
  const answered = calls.filter(({ call, result }) => call.toolName === ASK_PERSON && own.has(ASK_PERSON) && result?.type === "text");
  const ran = calls.filter(({ call, result }) => !own.has(call.toolName) && (result?.type === "text" || result?.type === "json"));
  const denied = calls.filter(({ result }) => result?.type === "execution-denied");
  const task = messages.find(({ role }) => role === "user");
  return {
    done: [...before.flatMap(({ done }) => done), ...(before.length === 0 && task ? [`The task was: ${cutBytes(textIn(partsOf(task)), 4_000)}`] : [])],
    next: [],
    decisions: [...before.flatMap(({ decisions }) => decisions), ...denied.map(({ text, result }) => `${text}: ${result!.reason ?? "denied"}`), ...answered.map(({ call, result }) => `${questionOf(call.input)} A person answered: ${cutBytes(String(result!.value), 4_000)}`)],
    do_not_repeat: [...before.flatMap(({ do_not_repeat }) => do_not_repeat), ...ran.map(({ text }) => `${text} (ran)`)].slice(-100),
  };
}

const questionOf = (input: Json): string => cutBytes(String((input as { question?: Json } | null)?.question ?? ""), 1_000);

function joined(said: CarryOver, known: CarryOver): Json {
  const all = Object.fromEntries(LISTS.map((name) => [name, [...new Set([...known[name], ...said[name]])]]));
  return all as unknown as Json;
}

// The agent's loop as a machine over its conversation: what comes next follows from the messages alone, so a process that
// takes over goes on at the very step where another died. Invariant: an answer of the model and each result of a tool are
// recorded once, and nothing that is recorded is asked or called again.

//   no message ─ the task is put ─▶ the model's turn ─ answer with calls ─▶ the tools' turn ─ every call has its result ─▶ the model's turn
//                                       │  ▲                                                    (the context may be cleared in between)
//                                       │  └─ empty, cut off, not what was asked for: it is told so
//                                       └─ answer without calls ─▶ the result            rejected: the feedback is the next message
import { isPawlError, messageOf, PawlError } from "../base/errors.ts";
import { canonical, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Message } from "../core/message.ts";
import type { Task } from "../core/records.ts";
import { PermanentError, wellFormed } from "../core/retry.ts";
import { ask, contextTokensOf } from "./answer.ts";
import { batchContext } from "./batch-context.ts";
import { runCalls } from "./calls.ts";
import { clearWhenFull } from "./clearing.ts";
import { jsonIn, textIn, type ModelAnswer, type Part, type ToolCallPart } from "./model.ts";
import { callsOf, partsOf, render } from "./render.ts";
import type { Session } from "./session.ts";
import { BRIEF_BYTES, cutBytes } from "./tool.ts";

/** What comes next in a conversation. */
export type Next =
  | { readonly do: "open" }
  | { readonly do: "answer" }
  /** The calls of this message that have no result yet, by their place in it. */
  | { readonly do: "calls"; readonly message: Message; readonly missing: readonly number[] }
  /** The model said nothing, or was cut off. */
  | { readonly do: "say"; readonly text: string }
  | { readonly do: "end"; readonly text: string };

/** Works until the model gives its result. Returns it. */
export async function runLoop(session: Session): Promise<Json> {
  for (;;) {
    session.attempt.signal.throwIfAborted();
    const next = nextOf(session.messages);
    if (next.do === "open") await session.append([{ role: "user", content: userText(await promptOf(session)) }]);
    else if (next.do !== "calls" && session.task.feedback !== null && session.view.agent.round < session.task.round) await takeInFeedback(session);
    else if (next.do === "say") await session.append([{ role: "user", content: userText(next.text) }]);
    else if (next.do === "calls") await runCalls(session, next.message, next.missing);
    else if (next.do === "answer") await answer(session);
    else {
      const checked = await checkOutput(session, next.text);
      if (checked.ok) return checked.value;
      await session.append([{ role: "user", content: userText(checked.say) }]);
    }
  }
}

/** Decides from the messages of an epoch, oldest first. Throws when the model says nothing again and again. */
export function nextOf(messages: readonly Message[]): Next {
  const last = messages.at(-1);
  if (last === undefined) return { do: "open" };
  const said = messages.findLast((message) => message.role === "assistant");
  if (said) {
    const calls = callsOf(said);
    const answered = new Set(messages.filter(({ role, seq }) => role === "tool" && seq > said.seq).map(({ seq }) => seq));
    const missing = calls.map((_, i) => i).filter((i) => !answered.has(said.seq + 1 + i));
    if (missing.length > 0) return { do: "calls", message: said, missing };
  }
  if (last.role !== "assistant") return { do: "answer" };
  const finish = finishOf(last);
  const text = textOf(last);
  if (finish === "length") return { do: "say", text: "Your answer was cut off where it grew too long. Go on exactly where it stopped, or use fewer words." };
  if (text.trim() !== "") return { do: "end", text: wholeText(messages) };
  if (finish === "content-filter") throw new PermanentError("the model's provider refused to answer (content filter)");
  if (emptyInARow(messages) >= LIMITS.emptyAnswers) throw new PawlError("failed", `the model gave ${LIMITS.emptyAnswers} empty answers in a row`, { next: "Try another model, or say more in the task." });
  return { do: "say", text: "Your answer was empty. Go on with the task; when it is done, say what the result is." };
}

function textOf(message: Message): string {
  return textIn(partsOf(message));
}

/** Kept only when it is not the usual one. */
function finishOf(message: Message): string {
  return (partsOf(message).find((part) => part.type === "finish")?.["finish"] as string | undefined) ?? "stop";
}

/** The last answer, with those before it that were cut off. */
function wholeText(messages: readonly Message[]): string {
  const said = messages.filter(({ role }) => role === "assistant");
  let text = textOf(said.at(-1)!);
  for (let i = said.length - 2; i >= 0 && finishOf(said[i]!) === "length" && callsOf(said[i]!).length === 0; i--) text = textOf(said[i]!) + text;
  return text;
}

function emptyInARow(messages: readonly Message[]): number {
  let n = 0;
  for (const message of messages.filter(({ role }) => role === "assistant").reverse()) {
    if (textOf(message).trim() !== "" || callsOf(message).length > 0) break;
    n++;
  }
  return n;
}

/**
 * A rejection, or a person who reopened the task, asked for more: the agent goes on in the same conversation. The message that
 * tells it so and the round it has taken in are one change, so it is told once.
 */
async function takeInFeedback(session: Session): Promise<void> {
  const { task } = session;
  const text = `Your last result was not accepted: ${task.feedback}\nGo on, and give a result that is.`;
  await session.append([{ role: "user", content: userText(text) }], [{ kind: "agent", key: task.id, set: { round: task.round } }]);
  await session.refresh();
}

export function userText(text: string): Json {
  return [{ type: "text", text: wellFormed(text) }];
}

async function promptOf(session: Session): Promise<string> {
  const { task, setup } = session;
  const earlier = setup.batchContext ? await batchContext(session) : "";
  return [setup.prompt ? setup.prompt(task) : defaultPrompt(task), earlier].filter((text) => text !== "").join("\n\n");
}

function defaultPrompt(task: Task): string {
  const feedback = task.feedback === null ? [] : [`An earlier result was not accepted: ${task.feedback}`];
  return [task.description, ...(task.input === null ? [] : [`Input:\n${JSON.stringify(task.input, null, 1)}`]), ...feedback].join("\n\n");
}

/** The model's turn. */
async function answer(session: Session): Promise<void> {
  await session.refresh();
  if (await clearWhenFull(session)) return;
  const { setup, view } = session;
  if (view.spend.pressure.length > 0) session.tell({ type: "pressure", resources: view.spend.pressure });
  const shown = render(
    { instructions: setup.instructions ?? "", state: view.state, spend: view.spend },
    session.messages,
    { max_artifact_bytes_in_context: view.state.budget.max_artifact_bytes_in_context, max_prompt_tokens: setup.maxPromptTokens },
  );
  const tools = [...setup.tools.values()].map(({ name, description, schema }) => ({ type: "function" as const, name, description, inputSchema: schema.json }));
  await ask(session, { scope: `t${session.peekSeq()}`, prompt: shown.prompt, tools, streamed: true, record: (said) => recordAnswer(session, said, contextTokensOf(said, shown.prompt)) });
}

function recordAnswer(session: Session, said: ModelAnswer, contextTokens: number) {
  const content = withIds(said);
  const calls = content.filter((part): part is ToolCallPart => part.type === "tool-call");
  const seq = session.nextSeq(calls.length);
  const { put, remember } = session.message({ seq, role: "assistant", content: content as unknown as Json, tokens: said.usage.output_tokens ?? undefined });
  const text = textIn(content);
  const batch = session.task.batch_id === null ? [] : [{ kind: "batch", key: session.task.batch_id, field: "tokens", n: Math.max(0, contextTokens - session.view.agent.context_tokens) }];
  return {
    output: canonical({ message: seq, ...(text === "" ? {} : { text: cutBytes(text, BRIEF_BYTES) }), ...(calls.length === 0 ? {} : { calls: calls.map((call) => call.toolName) }) }),
    extra: { puts: [put, { kind: "agent", key: session.task.id, set: { context_tokens: contextTokens } }], additions: batch },
    after: () => {
      remember();
      session.tell({ type: "answer", seq, text, calls: calls.map((call) => ({ tool: call.toolName, input: call.input })), usage: said.usage });
    },
  };
}

/** The answer with an id of its own for each call, whatever the model called them, and how it ended. */
function withIds({ content, finish }: ModelAnswer): Part[] {
  const used = new Set<string>();
  const parts = content.map((part): Part => {
    if (part.type !== "tool-call") return part;
    let id = /^[A-Za-z0-9_.:-]{1,100}$/.test(String(part["toolCallId"])) ? String(part["toolCallId"]) : "";
    if (id === "" || used.has(id)) id = `call-${used.size + 1}`;
    while (used.has(id)) id += "-";
    used.add(id);
    return { ...part, toolCallId: id };
  });
  return finish === "length" || finish === "content-filter" ? [...parts, { type: "finish", finish }] : parts;
}

/** The final answer as the task's result. */
async function checkOutput({ setup }: Session, text: string): Promise<{ ok: true; value: Json } | { ok: false; say: string }> {
  if (setup.output === null) return { ok: true, value: text };
  try {
    const checked = await setup.output.check(canonical(JSON.parse(jsonIn(text)), "the answer"));
    if (checked.ok) return { ok: true, value: canonical(checked.value, "the answer") };
    return { ok: false, say: `Your answer is not what was asked for: ${checked.why}. Answer with nothing but JSON of this schema: ${JSON.stringify(setup.output.json)}` };
  } catch (error) {
    if (isPawlError(error, "internal")) throw error;
    return { ok: false, say: `Your answer must be nothing but JSON (${messageOf(error)}) of this schema: ${JSON.stringify(setup.output.json)}` };
  }
}

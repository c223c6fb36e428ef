// The tools' turn: each call of an answer is a step in a scope of its own, side by side with the others. Invariants: what runs is
// what the schema accepted and, where the policy wants it, what a person approved; each call gets one result, and what
// goes wrong with it (no such tool, arguments that do not fit, a no, an error) is a result as well.
import { isPawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { askForAction, needsApproval, outcomeOf, type Action } from "../core/approval.ts";
import { usePut } from "../core/artifact.ts";
import { putArtifact } from "../core/artifacts.ts";
import { settleExtra, type Reservation } from "../core/budget.ts";
import type { Message } from "../core/message.ts";
import type { Failure } from "../core/records.ts";
import { wellFormed } from "../core/retry.ts";
import type { Extra } from "../core/step.ts";
import type { StepContext, StepScope } from "../worker/context.ts";
import { lose, merge, release } from "./answer.ts";
import type { ToolCallPart } from "./model.ts";
import { isMade, type Made, type OwnTool } from "./own-tools.ts";
import { callsOf, resultPart } from "./render.ts";
import type { Session } from "./session.ts";
import { BRIEF_BYTES, cutBytes, outputOf, type ToolContext } from "./tool.ts";

/** Runs the calls of a message that have no result yet, at once. Those that wait for a person hold the others up only at the end. */
export function runCalls(session: Session, message: Message, missing: readonly number[]): Promise<void> {
  const calls = callsOf(message);
  return session.scope.scope(`c${message.seq}`, async (scope) => {
    await Promise.all(
      missing.map((i) => {
        const call: Call = { session, part: calls[i]!, seq: message.seq + 1 + i };
        return i < LIMITS.callsAtOnce ? scope.scope(call.part.toolCallId, (own) => runCall(call, own)) : say(call, error(`Too many calls at once: the first ${LIMITS.callsAtOnce} were run. Call the others again.`));
      }),
    );
  });
}

/** One call, and the number its result has in the conversation. */
type Call = { readonly session: Session; readonly part: ToolCallPart; readonly seq: number };

const error = (text: string): Json => ({ type: "error-text", value: wellFormed(text) });

async function runCall(call: Call, scope: StepScope): Promise<void> {
  const { session, part } = call;
  const tool = session.setup.tools.get(part.toolName);
  if (!tool) return say(call, error(`There is no tool called ${JSON.stringify(part.toolName)}. There are: ${[...session.setup.tools.keys()].join(", ")}.`));
  if (part["invalid"] !== undefined) return say(call, error(`The arguments are not JSON: ${String(part["invalid"])}`));
  const checked = await session.attempt.busy(() => tool.schema.check(part.input));
  if (!checked.ok) return say(call, error(`The arguments do not fit the schema of ${tool.name}: ${checked.why}`));
  const approved = await approvedInput(call, scope, tool);
  if (!approved.ok) return say(call, approved.output);
  if (tool.answer) return say(call, await tool.answer(approved.value, session, scope));
  await runTool(call, scope, tool, approved);
}

type Approved = { readonly ok: true; readonly input: Json; readonly value: unknown } | { readonly ok: false; readonly output: Json };

/** What may run: the arguments as they are, as a person approved or edited them, or a result that says why nothing may. */
async function approvedInput({ session, part }: Call, scope: StepScope, tool: OwnTool): Promise<Approved> {
  const action: Action = { tool: tool.name, arguments: part.input, risk: tool.risk, call_id: part.toolCallId };
  const wanted = tool.own !== true && (needsApproval(action, session.setup.policy, session.setup.rule) || (await session.attempt.busy(() => tool.needsApproval(part.input, { toolCallId: part.toolCallId }))));
  let input = part.input;
  if (wanted) {
    const outcome = outcomeOf(await scope.decide("approve", askForAction(action, session.task.id, session.setup.policy)))!;
    if (outcome.outcome === "denied") return { ok: false, output: { type: "execution-denied", reason: `A person denied this call: ${outcome.reason}` } };
    if (outcome.outcome === "expired") return { ok: false, output: { type: "execution-denied", reason: "Nobody answered whether this call may run, so it did not. This is not a no." } };
    if (!("arguments" in outcome)) return { ok: false, output: { type: "execution-denied", reason: "The question whether this call may run was withdrawn, so it did not run." } };
    input = outcome.arguments;
  }
  const checked = await session.attempt.busy(() => tool.schema.check(input));
  if (!checked.ok) return { ok: false, output: error(`The arguments, as a person edited them, do not fit the schema of ${tool.name}: ${checked.why}`) };
  return { ok: true, input, value: checked.value };
}

/** Runs the tool as a step. Its result is recorded with the step, whether it succeeded or failed. */
async function runTool(call: Call, scope: StepScope, tool: OwnTool, approved: { readonly input: Json; readonly value: unknown }): Promise<void> {
  const { session, part, seq } = call;
  const { input, value } = approved;
  const { reservation, limit } = await session.reserve(scope, `c/${seq}`, { tool_calls: 1 });
  session.tell({ type: "call", tool: tool.name, call_id: part.toolCallId, input });
  let ran = false;
  let made = null as Made | null;
  let message = null as ReturnType<Session["message"]> | null;
  const also = (outcome: { readonly output: Json } | { readonly error: Failure }): Extra => {
    const result = "error" in outcome ? { output: error(`${tool.name} failed: ${outcome.error.message}`) } : (made ?? plainResult(outcome.output));
    return merge(settled(session, reservation), recorded(result));
  };
  const recorded = (result: Made): Extra => {
    message = session.message({ seq, role: "tool", content: [resultPart(part, result.output, result.artifact)] as unknown as Json });
    return { puts: [message.put, ...(result.artifact ? [usePut(result.artifact.artifact_id, session.now())] : [])] };
  };
  const options = {
    effect: tool.effect, timeoutMs: tool.timeoutMs, input, also,
    ...(tool.retry ? { retry: tool.retry } : {}),
    ...(tool.check ? { check: (context: StepContext) => tool.check!(value, contextOf(part, context)) } : {}),
  };
  try {
    await scope.step(tool.name, options, async (context) => {
      ran = true;
      const output = await limit.run(context.signal, (abortSignal) => tool.execute(value, { ...contextOf(part, context), abortSignal }, session, keyOf(call)));
      made = await keepLarge(call, tool, output);
      return { message: seq, output: briefOf(made.output) };
    });
  } catch (failure) {
    if (failure === limit.up) {
      // Cut off: the same call runs again when there is more time.
      await lose(session, reservation, limit);
      return runTool(call, scope, tool, approved);
    }
    // Its own failure is a result, and is recorded. Anything else (the lease is lost, the run is stopped) is not.
    if (message === null || session.attempt.signal.aborted || isPawlError(failure, "lease_lost")) throw failure;
  } finally {
    if (message === null && !ran) await release(session, reservation);
  }
  message?.remember();
  session.tell({ type: "result", tool: tool.name, call_id: part.toolCallId, ok: message !== null && made !== null });
  if (made !== null && session.setup.observe && tool.own !== true) await observe(call, scope, tool, input, made);
}

const contextOf = (part: ToolCallPart, context: StepContext): ToolContext => ({
  toolCallId: part.toolCallId, idempotencyKey: context.idempotencyKey, abortSignal: context.signal, messages: [], start: context.start,
});

/** Names a call over all turns. */
const keyOf = ({ seq, part }: Pick<Call, "seq" | "part">): string => `call ${seq}/${part.toolCallId}`;

function settled(session: Session, reservation: Reservation): Extra {
  return settleExtra(reservation, { tool_calls: 1, wall_time_ms: session.takeTime() });
}

/** A result that came from no run of the tool here: its check, or a person, said what it is. */
function plainResult(output: Json): Made {
  return { output: outputOf(output).output };
}

/** A large output as an artifact of which the conversation has an excerpt. It is durable before anything names it. */
async function keepLarge({ session, part, seq }: Call, tool: OwnTool, output: unknown): Promise<Made> {
  if (isMade(output)) return output;
  const { output: shown, large } = outputOf(output);
  if (!large) return { output: shown };
  const type = `tool_result.${tool.name}`;
  const { id, bytes } = await putArtifact(session.committer, large.content, { type, summary: `${tool.name} ${cutBytes(JSON.stringify(part.input), 200)}` }, session.attempt.actor);
  await session.patch({ add_artifacts: [{ artifact_id: id, type, summary: `${large.type} output of ${tool.name}`, bytes }] }, `${keyOf({ seq, part })}/artifact`);
  return { output: { type: "text", value: large.excerpt }, artifact: { artifact_id: id, bytes } };
}

/** What a step shows of a result to people; the message has all of it. */
function briefOf(output: Json): string {
  const { value } = output as { readonly value?: Json };
  return cutBytes(typeof value === "string" ? value : JSON.stringify(value ?? output), BRIEF_BYTES);
}

/** Facts from a result, by the user's own function: a step, so that a crash between result and facts loses none. */
async function observe({ session, part, seq }: Call, scope: StepScope, tool: OwnTool, input: Json, made: Made): Promise<void> {
  await scope.step("observe", async () => {
    const patch = await session.setup.observe!({ tool: tool.name, input, output: plainOutput(made.output), artifact_id: made.artifact?.artifact_id ?? null });
    return patch ? { revision: await session.patch(patch, `${keyOf({ seq, part })}/observe`) } : null;
  });
}

function plainOutput(output: Json): Json {
  return (output as { readonly value?: Json }).value ?? output;
}

/** A result without a run of the tool. */
async function say({ session, part, seq }: Call, output: Json | Made): Promise<void> {
  const made = isMade(output) ? output : { output };
  const { put, remember } = session.message({ seq, role: "tool", content: [resultPart(part, made.output, made.artifact)] as unknown as Json });
  await session.commit([put]);
  remember();
  session.tell({ type: "result", tool: part.toolName, call_id: part.toolCallId, ok: false });
}

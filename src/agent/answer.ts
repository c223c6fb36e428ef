// One answer of the model: shown what it must know, paid for, asked, asked again when its provider has a bad moment, and
// recorded. Invariant: the tokens of a call are taken out of the budget before it is made; its answer, what it used and
// what it said go into the state in one commit; a call whose answer was lost counts as spent in doubt.
import { sleep } from "../base/clock.ts";
import { isPawlError, messageOf, PawlError } from "../base/errors.ts";
import { systemRandom } from "../base/id.ts";
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { costOf, lostExtra, settleExtra, timeExtra, type Amounts, type Reservation } from "../core/budget.ts";
import type { Failure } from "../core/records.ts";
import { backoffMs, failureOf } from "../core/retry.ts";
import type { Extra } from "../core/step.ts";
import type { StepScope } from "../worker/context.ts";
import { UsageLimitError, type Attempt } from "../worker/executor.ts";
import { callModel, type ModelAnswer, type ModelCall, type PromptMessage } from "./model.ts";
import { tokensOf } from "./render.ts";
import type { Session } from "./session.ts";
import type { TimeLimit } from "./time.ts";

/** What to ask, and what to do with the answer. */
export type Question = {
  /** The scope in which its tries are steps; no other has its name. */
  readonly scope: string;
  readonly prompt: readonly PromptMessage[];
  readonly tools: ModelCall["tools"];
  readonly responseFormat?: ModelCall["responseFormat"];
  readonly streamed: boolean;
  /** What is recorded of the answer, in the commit that settles its cost. `output` is the step's output: keep it small. */
  readonly record: (answer: ModelAnswer) => { readonly output: Json; readonly extra: Extra; readonly after?: () => void };
};

/** Asks until there is an answer. Throws what no further try of this attempt can mend. Returns the step's output. */
export function ask(session: Session, question: Question): Promise<Json> {
  return session.scope.scope(question.scope, async (scope) => {
    for (let tries = 1; ; ) {
      const wanted = amountsFor(session, question);
      const { reservation, limit } = await session.reserve(scope, `${question.scope}/model#${tries}`, wanted.amounts);
      try {
        return await askOnce(session, scope, question, reservation, limit, wanted.maxOutputTokens);
      } catch (error) {
        // Cut off, it is no failure of the provider: there is more time, or the next reservation asks for it.
        if (error === limit.up) await lose(session, reservation, limit);
        else await waitAfter(session, reservation, error, tries++);
      }
    }
  });
}

async function askOnce(session: Session, scope: StepScope, question: Question, reservation: Reservation, limit: TimeLimit, maxOutputTokens: number): Promise<Json> {
  const { setup } = session;
  let recorded = null as ReturnType<Question["record"]> | null;
  let answer = null as ModelAnswer | null;
  // Without a word of the provider's, as after a time-out, it may have been.
  let billed = true;
  const also = (outcome: { readonly output: Json } | { readonly error: Failure }): Extra => {
    if ("error" in outcome) return merge(billed ? lostExtra(reservation) : settleExtra(reservation, {}), timeExtra(reservation, session.takeTime()));
    return merge(settleExtra(reservation, usageOf(session, answer!, question)), recorded!.extra);
  };
  let ran = false;
  const step = scope.step("model", { also, timeoutMs: setup.timeoutMs ?? LIMITS.modelMs }, async ({ signal }) => {
    ran = true;
    const call: Omit<ModelCall, "abortSignal"> = {
      prompt: question.prompt, maxOutputTokens, ...(question.tools ? { tools: question.tools } : {}),
      ...(question.responseFormat ? { responseFormat: question.responseFormat } : {}), ...(setup.temperature === undefined ? {} : { temperature: setup.temperature }),
      ...(setup.providerOptions === undefined ? {} : { providerOptions: setup.providerOptions }),
    };
    const onText = question.streamed && setup.onEvent ? (delta: string) => session.tell({ type: "text", delta }) : undefined;
    answer = await limit.run(signal, (abortSignal) =>
      callModel(setup.model, { ...call, abortSignal }, onText).catch((error: unknown) => {
        billed = wasBilled(error);
        throw abortSignal.aborted ? error : providerError(error, session.now());
      }),
    );
    signal.throwIfAborted();
    recorded = question.record(answer);
    return recorded.output;
  });
  try {
    const output = await step;
    recorded?.after?.();
    return output;
  } finally {
    // Replayed from its record, it cost nothing now.
    if (!ran) await release(session, reservation);
  }
}

/** Gives back what was reserved for a call that was not made. */
export async function release(session: Session, reservation: Reservation): Promise<void> {
  await settle(session, settleExtra(reservation, {}));
}

/** Counts a call that its time limit cut off as spent in doubt, for its answer may have been billed; one that was never begun is given back. */
export async function lose(session: Session, reservation: Reservation, { begun }: TimeLimit): Promise<void> {
  await (begun ? settle(session, lostExtra(reservation)) : release(session, reservation));
}

async function settle(session: Session, { puts = [], ...extra }: Extra): Promise<void> {
  await session.commit(puts, extra);
}

/** What a call may use at most: its prompt, and the longest answer that is left in the budget. */
function amountsFor(session: Session, question: Question): { amounts: Amounts; maxOutputTokens: number } {
  const { setup, view } = session;
  const input = tokensOf(question.prompt) + tokensOf(question.tools ?? "");
  const wanted = setup.maxOutputTokens ?? LIMITS.answerTokens;
  const left = view.spend.llm_tokens.left ?? Infinity;
  // A shorter answer is better than none, as long as it can say anything.
  const maxOutputTokens = left - input >= LEAST_ANSWER ? Math.min(wanted, left - input) : wanted;
  const cost = costOf(setup.prices, setup.modelName, { input_tokens: input, output_tokens: maxOutputTokens });
  return { amounts: { steps: 1, llm_tokens: input + maxOutputTokens, ...(cost === null ? {} : { cost_micros: cost }) }, maxOutputTokens };
}

/** Tokens below which no answer is worth asking for. */
const LEAST_ANSWER = 256;

/** What the call used: as the provider counted; estimated only where it did not. */
function usageOf(session: Session, answer: ModelAnswer, question: Question) {
  const { prices, modelName } = session.setup;
  const used = spendFor(session.attempt, answer, () => tokensOf(question.prompt) + tokensOf(question.tools ?? ""), (tokens) => costOf(prices, modelName, tokens));
  return { ...used, steps: 1, wall_time_ms: session.takeTime() };
}

export type Tokens = { readonly input_tokens: number; readonly output_tokens: number };

/** Tells the attempt what an answer used, and gives it as a budget counts it. `asked` estimates the input. */
export function spendFor(attempt: Pick<Attempt, "spend">, { usage, content }: ModelAnswer, asked: () => number, costs: (tokens: Tokens) => number | null) {
  const [input_tokens, output_tokens] = [usage.input_tokens ?? asked(), usage.output_tokens ?? tokensOf(content)];
  const [tokens, cost] = [input_tokens + output_tokens, costs({ input_tokens, output_tokens })];
  attempt.spend({ tokens, ...(cost === null ? {} : { cost: cost / 1_000_000 }) });
  return { llm_tokens: tokens, input_tokens, output_tokens, ...(cost === null ? { unpriced: true } : { cost_micros: cost }) };
}

/** Tokens of the conversation with this answer in it. */
export function contextTokensOf(answer: ModelAnswer, prompt: readonly PromptMessage[]): number {
  return (answer.usage.input_tokens ?? tokensOf(prompt)) + (answer.usage.output_tokens ?? tokensOf(answer.content));
}

export function merge(...extras: readonly Extra[]): Extra {
  return { guards: extras.flatMap(({ guards = [] }) => guards), puts: extras.flatMap(({ puts = [] }) => puts), additions: extras.flatMap(({ additions = [] }) => additions) };
}

/* ---------- when it does not answer ---------- */

/** Statuses by which a provider says that it cannot now, and can later: too many requests, overloaded. */
const LATER = new Set([429, 503, 529]);

/** A provider's error as it is recorded. One that says when to come back, and not soon, is no failure of the task. */
function providerError(error: unknown, now: number): Error {
  const { statusCode, responseHeaders } = (error ?? {}) as { statusCode?: number; responseHeaders?: { [name: string]: string } };
  const message = `the model's provider failed: ${messageOf(error)}`;
  // An answer with a good status that cannot be read was given all the same.
  const status = statusCode !== undefined && statusCode >= 400 ? statusCode : null;
  const again = status !== null && LATER.has(status) ? retryAfter(responseHeaders ?? {}, now) : null;
  if (again !== null && again > LIMITS.retryAfterMs) return new UsageLimitError(`The model's provider asks to wait (HTTP ${status}).`, now + again);
  const permanent = (status !== null && failureOf(Object.assign(new Error(), { statusCode: status })).permanent === true) || isSetting(error);
  return new PawlError("failed", message, { details: { status, retry_after_ms: again, ...(permanent ? { permanent: true } : {}) }, cause: error });
}

/** The SDK says by these that a key or a setting is missing: nothing was asked. */
function isSetting(error: unknown): boolean {
  return error instanceof Error && (error.name === "AI_LoadAPIKeyError" || error.name === "AI_LoadSettingError");
}

/** Milliseconds to wait, from `retry-after-ms` or `retry-after` (seconds or a date); null when neither says. */
export function retryAfter(headers: { readonly [name: string]: string | undefined }, now: number): number | null {
  const ms = Number(headers["retry-after-ms"] ?? NaN);
  if (Number.isFinite(ms) && ms >= 0) return ms;
  const value = headers["retry-after"];
  if (value === undefined) return null;
  if (/^\d+(\.\d+)?$/.test(value.trim())) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}

/**
 * Whether a call of a model that failed may have cost something, by what the SDK threw. The status of an error, or a setting that is
 * missing, says that nothing was done for us; whatever else went wrong may have been billed.
 */
export function wasBilled(error: unknown): boolean {
  return !(((error as { statusCode?: number } | null)?.statusCode ?? 0) >= 400 || isSetting(error));
}

/** Waits before the next try, or throws: the attempt is over, or the task is given back until the provider can again. */
async function waitAfter(session: Session, reservation: Reservation, error: unknown, tries: number): Promise<void> {
  const { signal } = session.attempt;
  const { retry = {} } = session.setup;
  if (error instanceof UsageLimitError) {
    // Not recorded by the step; nothing was done for this call.
    await release(session, reservation);
    throw error;
  }
  if (signal.aborted || !isPawlError(error) || error.code === "lease_lost") throw error;
  const details = error.details ?? {};
  if (details["permanent"] === true || !("status" in details || details["code"] === "timeout")) throw error;
  const status = details["status"] as number | null | undefined;
  const delayMs = (details["retry_after_ms"] as number | null | undefined) ?? backoffMs(tries, retry, systemRandom.number());
  if (tries >= (retry.tries ?? LIMITS.modelTries)) {
    // A provider that is overloaded is no fault of the task: it loses no attempt by it.
    if (status != null && LATER.has(status)) throw new UsageLimitError(`The model's provider is overloaded (HTTP ${status}).`, session.now() + LIMITS.backoffCapMs);
    throw error;
  }
  session.tell({ type: "retry", why: error.message, delay_ms: delayMs });
  await sleep(session.committer.store.clock, delayMs, signal);
}

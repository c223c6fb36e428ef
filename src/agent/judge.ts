// A model as verifier: it sees the task and its result and says whether that will do. Invariant: an answer that is no verdict is an
// error of the verifier, never a rejection and never a pass. What it uses counts in the budget of the task's agent.
import { isPawlError, PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { costOf, lostExtra, settleExtra, type Prices, type Reservation } from "../core/budget.ts";
import { reserveBeyond, settleReservation } from "../core/budgets.ts";
import type { Task } from "../core/records.ts";
import type { Extra } from "../core/step.ts";
import { checkShape, objectShape } from "../core/shape.ts";
import type { Attempt, Verdict, Verifier } from "../worker/executor.ts";
import { spendFor, wasBilled, type Tokens } from "./answer.ts";
import { callModel, jsonIn, modelOf, textIn, type LanguageModel, type ModelAnswer, type PromptMessage } from "./model.ts";
import { tokensOf } from "./render.ts";
import { nameOf } from "./setup.ts";
import { cutBytes } from "./tool.ts";

export type JudgeOptions = {
  readonly model: LanguageModel | string;
  /** What makes a result good, beyond what the task says. */
  readonly instructions?: string;
  /** A pass with less confidence than this (0 to 1) is a rejection. Default 0.5. */
  readonly confidence?: number;
  /** What a million tokens cost, by the model's name; without it the cost is unknown, which is not zero. */
  readonly prices?: Prices;
  /** For one call, in ms. Default `LIMITS.modelMs`. */
  readonly timeoutMs?: number;
};

const VERDICT = objectShape(
  {
    passed: { type: "boolean", description: "the result does all that the task asks" },
    confidence: { type: "number", minimum: 0, maximum: 1, description: "how sure you are of that" },
    feedback: { type: "string", maxLength: 20_000, description: "what is missing or wrong, so that it can be mended" },
  },
  ["passed", "confidence", "feedback"],
  "The verdict.",
);

type Said = { readonly passed: boolean; readonly confidence: number; readonly feedback: string };

/** Makes a verifier of a model: `state.work({ execute, verify: judge({ model }) })`. */
export function judge(options: JudgeOptions): Verifier {
  return {
    name: `model: ${nameOf(options.model)}`,
    recipe: null,
    prepare: async () => void (await modelOf(options.model)),
    run: async (task, result, attempt) => verdictOf(await said(options, task, result, attempt), options.confidence ?? 0.5),
  };
}

function verdictOf({ passed, confidence, feedback }: Said, least: number): Verdict {
  if (passed && confidence >= least) return { passed: true, feedback };
  const unsure = passed ? `It may be right, but the judge is not sure (${confidence} of 1). ` : "";
  return { passed: false, feedback: `${unsure}${feedback}`.trim() || "The judge did not accept it and gave no reason." };
}

/** Asks until it is a verdict. Each review asks anew: a failed one must not be replayed to the next. */
async function said(options: JudgeOptions, task: Task, result: Json, attempt: Attempt): Promise<Said> {
  const model = await modelOf(options.model);
  const prompt: PromptMessage[] = [
    { role: "system", content: `You judge whether the result of a task is what the task asks for. Be strict: what you pass is not looked at again. Answer with nothing but JSON of this schema: ${JSON.stringify(VERDICT)}${options.instructions ? `\n\n${options.instructions}` : ""}` },
    { role: "user", content: [{ type: "text", text: `The task:\n${task.description}${task.input === null ? "" : `\n\nIts input:\n${JSON.stringify(task.input)}`}\n\nIts result:\n${shownResult(result)}` }] },
  ];
  return (await attempt.context.step(`judge-${task.reviews}`, { timeoutMs: options.timeoutMs ?? LIMITS.modelMs }, async ({ signal }) => {
    const messages = [...prompt];
    for (let tries = 1; ; tries++) {
      const call = () => callModel(model, { prompt: messages, abortSignal: signal, maxOutputTokens: LIMITS.answerTokens, responseFormat: { type: "json", schema: VERDICT as unknown as Json } });
      const answer = await paid(options, task, attempt, messages, `judge/${task.fence}/${tries}`, call);
      const text = textIn(answer.content);
      try {
        return readVerdict(text);
      } catch (error) {
        if (tries >= LIMITS.modelTries) throw new PawlError("failed", `The judge gave no verdict but: ${cutBytes(text, 200)}`, { cause: error });
        messages.push({ role: "assistant", content: [{ type: "text", text: text || "(empty)" }] }, { role: "user", content: [{ type: "text", text: `That is no verdict (${(error as Error).message}). Answer with nothing but the JSON.` }] });
      }
    }
  })) as Said;
}

/** Makes the call and counts it, in the budget of the task's agent too when there is one. */
async function paid({ model, prices }: JudgeOptions, task: Task, attempt: Attempt, prompt: readonly PromptMessage[], key: string, call: () => Promise<ModelAnswer>): Promise<ModelAnswer> {
  const { committer } = attempt;
  const costs = (tokens: Tokens) => costOf(prices, nameOf(model), tokens);
  const most: Tokens = { input_tokens: tokensOf(prompt), output_tokens: LIMITS.answerTokens };
  const reservation = await reserveBeyond(committer, task, key, { llm_tokens: most.input_tokens + most.output_tokens, cost_micros: costs(most) ?? 0 });
  const settle = async (extra: (reservation: Reservation) => Extra) => void (reservation && (await settleReservation(committer, task, extra(reservation))));
  let answer: ModelAnswer;
  try {
    answer = await call();
  } catch (error) {
    await settle((made) => (wasBilled(error) ? lostExtra(made) : settleExtra(made, {})));
    throw error;
  }
  const used = spendFor(attempt, answer, () => most.input_tokens, costs);
  await settle((made) => settleExtra(made, used));
  return answer;
}

function readVerdict(text: string): Said {
  const value = JSON.parse(jsonIn(text)) as Json;
  try {
    checkShape(VERDICT, value, "verdict");
  } catch (error) {
    throw isPawlError(error) ? new Error(error.message) : error;
  }
  return value as unknown as Said;
}

/** The whole result, as far as a judge can read it. */
function shownResult(result: Json): string {
  const text = typeof result === "string" ? result : JSON.stringify(result, null, 1);
  const shown = cutBytes(text, LIMITS.judgedBytes);
  return shown.length < text.length ? `${shown}\n… (cut: ${Buffer.byteLength(text)} bytes in all)` : shown;
}

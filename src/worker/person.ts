// A person as verifier (`--verify ask`). Invariant: one question at a time, whatever runs beside it; stored text is shown
// with its control characters made visible; and nobody's silence is ever taken for a yes.
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import type { Task } from "../core/records.ts";
import type { Verdict, Verifier } from "./executor.ts";

/** Shows the question and returns the line that was typed. Rejects when the signal is aborted or the input ends. */
export type Ask = (question: string, signal: AbortSignal) => Promise<string>;

/** Enough to judge by; the whole result is in `pawl show`. */
const SHOWN_CHARS = 4_000;

/** Without `ask` (no terminal) the task waits for a decision instead. */
export function personVerifier(options: { ask?: Ask | undefined }): Verifier {
  const { ask } = options;
  let turn: Promise<unknown> = Promise.resolve();
  return {
    name: "person",
    recipe: { kind: "person" },
    run(task, result, { signal }) {
      if (!ask) return Promise.reject(mustWait(task));
      const mine = turn.then(() => judge(ask, task, result, signal));
      turn = mine.catch(() => {});
      return mine;
    },
  };
}

async function judge(ask: Ask, task: Task, result: Json, signal: AbortSignal): Promise<Verdict> {
  signal.throwIfAborted();
  const text = typeof result === "string" ? result : JSON.stringify(result, null, 2);
  const shown = text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}\n… (${text.length - SHOWN_CHARS} more characters: pawl show ${task.id})` : text;
  let question = `\nTask ${task.id}: ${visible(task.description)}\n\n${visible(shown)}\n\nIs this done? [y/n] `;
  for (;;) {
    const answer = (await ask(question, signal)).trim().toLowerCase();
    if (answer === "y" || answer === "yes") return { passed: true };
    if (answer === "n" || answer === "no") {
      const feedback = (await ask("What is missing? ", signal)).trim();
      return { passed: false, feedback: feedback || "The reviewer did not accept it and gave no reason." };
    }
    question = "Please answer y or n: ";
  }
}

function mustWait(task: Task): PawlError {
  return new PawlError("waiting", `A person must judge the result of task ${task.id}, and there is no terminal to ask at.`, {
    next: `See it with pawl show ${task.id}, then settle it: pawl inbox.`,
    details: { id: task.id },
  });
}

/** Text as a terminal may show it: control characters and reversals of direction as escapes, line ends and tabs as they are. */
export function visible(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

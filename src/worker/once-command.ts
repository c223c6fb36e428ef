// A command whose effect must not be repeated (`--once`): run as a step with effect "once", so that its intent is durable
// before it begins and a crash, a failure or a time-out leaves a question: for the check command, else for a person.
import type { Json } from "../base/json.ts";
import { shellQuote } from "../core/words.ts";
import { commandWords, prepareCommand, resultOf, runCommand, type CommandOptions } from "./command.ts";
import type { CheckAnswer } from "./context.ts";
import type { Executor } from "./executor.ts";

/** The step a `--once` command is run as. */
const STEP = "command";

/**
 * A command that may be repeated, but not where an earlier run of the task said `--once`: what that left open is settled
 * first, so that leaving out the flag the second time does not repeat the effect.
 */
export function rememberingOnce(options: CommandOptions, plain: Executor): Executor {
  const once = onceExecutor(options, plain);
  return { ...plain, run: (task, attempt) => (attempt.context.recorded(STEP) ? once.run(task, attempt) : plain.run(task, attempt)) };
}

/** `check`: exit code 0 means it happened (stdout is the result), 1 that it did not; anything else that it cannot tell. */
export function onceExecutor(options: CommandOptions, plain: Executor): Executor {
  const command = { ...options, command: commandWords(options.command) };
  const check = options.check === undefined ? undefined : { ...options, command: commandWords(options.check) };
  return {
    name: `once: ${command.command.map(shellQuote).join(" ")}`.slice(0, 200).toWellFormed(),
    recipe: plain.recipe,
    process: true,
    async prepare() {
      await plain.prepare?.();
      if (check) await prepareCommand(check.command, check);
    },
    run: (task, attempt) =>
      attempt.context.step(STEP, {
        effect: "once",
        ...(check === undefined ? {} : {
          check: async (): Promise<CheckAnswer> => {
            const ended = await runCommand(check, task, attempt, "check");
            if (ended.exitCode === 0) return { done: true, output: ended.stdout.replace(/[\r\n]+$/, "") };
            return ended.exitCode === 1 ? { done: false } : undefined;
          },
        }),
      }, async (): Promise<Json> => resultOf(await runCommand(command, task, attempt, "execute"))),
  };
}

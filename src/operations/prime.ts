// What a program that has forgotten everything is told first.
import { primeText } from "../core/prime.ts";
import { operation, type Operation } from "./operation.ts";

export const primeOperations: readonly Operation[] = [
  operation({
    name: "prime", command: "prime", summary: "Say what a coding agent must know to go on here", effect: "read", output: "prime",
    params: { caller: { type: "text", summary: "only claims of this caller are shown (default: all that are held by a token)" }, hook: { type: "boolean", summary: "as the JSON that a session-start hook prints", cliOnly: true } },
    run: async (state, input) => {
      const text = await primeText(state.committer, { location: state.location, held: await state.tasks.claims(input.caller) });
      return { text, hook: input.hook === true ? { hookSpecificOutput: { hookEventName: "SessionStart", additionalContext: text } } : null };
    },
  }),
];

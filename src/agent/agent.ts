// An agent as an executor: a language model in a loop with tools, on one task, whose every call is a step. Invariant: what it
// holds in memory can be thrown away at any moment; the state has all it needs to go on at the very step.
import type { Executor } from "../worker/executor.ts";
import { runLoop } from "./loop.ts";
import { Session } from "./session.ts";
import { nameOf, setUp, type AgentOptions, type Setup } from "./setup.ts";

/**
 * Makes an executor of a model and tools.
 *
 * ```ts
 * const worker = state.work({ execute: agent({ model: "anthropic/claude-sonnet-4-5", tools, instructions: "You are a DevOps agent." }) });
 * ```
 */
export function agent(options: AgentOptions): Executor {
  let setup: Promise<Setup> | null = null;
  const ready = () => (setup ??= setUp(options));
  return {
    name: `model: ${nameOf(options.model)}`,
    recipe: null,
    prepare: async () => void (await ready()),
    run: async (task, attempt) => runLoop(await Session.open(task, attempt, await ready())),
  };
}

export type { AgentEvent, AgentOptions, Observation } from "./setup.ts";

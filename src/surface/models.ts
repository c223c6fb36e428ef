// Models for `pawl run`: agents and judges from what their flags or a batch say. Invariant: nothing of the agent's room is loaded
// unless a model works or judges.
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { fillPlaceholders } from "../core/words.ts";
import type { AgentOptions } from "../agent/agent.ts";
import type { Executor, Verifier } from "../worker/executor.ts";
import type { Kitchen, ModelRecipe } from "../worker/recipes.ts";
import { loadDefault } from "./user-module.ts";

/** What an agent may be told besides its model: a default export with other names is a set of tools. */
const NAMES = ["tools", "instructions", "prompt", "budget", "prices", "policy", "rule", "constraints", "observe", "output", "onEvent", "contextTokens", "batchContext", "maxPromptTokens", "maxOutputTokens", "temperature", "providerOptions", "timeoutMs", "retry"];

export const MODELS: NonNullable<Kitchen["models"]> = {
  executor: (recipe) => {
    let made: Promise<Executor> | null = null;
    const agent = () => (made ??= makeAgent(recipe));
    return {
      name: `model: ${recipe.model}`,
      recipe: recipe as unknown as Json,
      prepare: async () => (await agent()).prepare?.(),
      run: async (task, attempt) => (await agent()).run(task, attempt),
    };
  },
  verifier: (recipe) => {
    let made: Promise<Verifier> | null = null;
    const judge = () => (made ??= import("../agent/judge.ts").then((room) => room.judge({ model: recipe.model })));
    return {
      name: `model: ${recipe.model}`,
      recipe: recipe as unknown as Json,
      prepare: async () => (await judge()).prepare?.(),
      run: async (task, result, attempt) => (await judge()).run(task, result, attempt),
    };
  },
};

async function makeAgent({ model, prompt, tools }: ModelRecipe): Promise<Executor> {
  const [{ agent }, options] = await Promise.all([import("../agent/agent.ts"), tools === undefined ? {} : readTools(tools)]);
  return agent({ ...options, model, ...(prompt === undefined ? {} : { prompt: (task) => fillPlaceholders(prompt, task) }) });
}

async function readTools(path: string): Promise<Partial<AgentOptions>> {
  const example = "export default { tools: { … }, instructions: \"…\" }";
  const made = await loadDefault(path, process.cwd(), "tools module", example);
  if (typeof made !== "object" || made === null) throw new PawlError("usage", `The default export of ${path} holds no tools.`, { next: example });
  const named = Object.keys(made);
  const isOptions = "tools" in made && named.every((name) => NAMES.includes(name));
  return isOptions ? (made as Partial<AgentOptions>) : { tools: made as NonNullable<AgentOptions["tools"]> };
}

// Models for `pawl run`: agents and judges from what their flags or a batch say. Invariant: nothing of the agent's room is loaded
// unless a model works or judges.
import { isAbsolute, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { messageOf, PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { fillPlaceholders } from "../core/words.ts";
import type { AgentOptions } from "../agent/agent.ts";
import type { Executor, Verifier } from "../worker/executor.ts";
import type { Kitchen, ModelRecipe } from "../worker/recipes.ts";

/** Tools, or everything an agent may be told besides its model. */
type ToolsModule = { readonly default?: unknown };

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
  const file = isAbsolute(path) ? path : resolve(path);
  let module: ToolsModule;
  try {
    module = (await import(pathToFileURL(file).href)) as ToolsModule;
  } catch (error) {
    throw new PawlError("usage", `The tools in ${file} cannot be loaded: ${messageOf(error)}.`, { next: /outside a module|Unexpected token 'export'/.test(messageOf(error)) ? `It must be an ES module: name it .mts or .mjs, or put "type": "module" into package.json.` : "Mend the module, or name another.", cause: error });
  }
  const made = module.default;
  if (typeof made !== "object" || made === null) throw new PawlError("usage", `${file} has no default export with tools.`, { next: "export default { tools: { … }, instructions: \"…\" }" });
  // Options have known names; anything else is a set of tools.
  const named = Object.keys(made);
  const isOptions = "tools" in made && named.every((name) => NAMES.includes(name));
  return isOptions ? (made as Partial<AgentOptions>) : { tools: made as NonNullable<AgentOptions["tools"]> };
}

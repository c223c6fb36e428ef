// From what a batch remembers to an executor or verifier again: the recipe is plain JSON, so `pawl run FILE` resumes without
// its flags. What only a program can make (a function) has no recipe.
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { commandExecutor, commandVerifier, type CommandOptions } from "./command.ts";
import type { Executor, Verifier } from "./executor.ts";
import { onceExecutor, rememberingOnce } from "./once-command.ts";
import { personVerifier, type Ask } from "./person.ts";
import { presetExecutor } from "./presets.ts";

/** Where recipes are made real: folder, state and terminal of this process. */
export type Kitchen = Pick<CommandOptions, "cwd" | "state" | "onOutput" | "clock"> & {
  readonly ask?: Ask | undefined;
  /** Makes agents and judges of models. They are built on top of this room, so whoever knows both hands them in. */
  readonly models?: { executor(recipe: ModelRecipe): Executor; verifier(recipe: ModelRecipe): Verifier } | undefined;
};

/** A model that works, or judges. `tools` is a module: of tools, or of an agent's options. */
export type ModelRecipe = { readonly kind: "model"; readonly model: string; readonly prompt?: string; readonly tools?: string };

export type Recipe =
  | { readonly kind: "command"; readonly command: string | readonly string[]; readonly once?: boolean; readonly check?: string; readonly prompt?: string; readonly timeout_ms?: number }
  | { readonly kind: "preset"; readonly preset: string; readonly args?: readonly string[]; readonly prompt?: string; readonly timeout_ms?: number }
  | ModelRecipe
  | { readonly kind: "person" };

export function executorOf(recipe: Recipe, kitchen: Kitchen): Executor {
  const { ask: _, models, ...common } = kitchen;
  if (recipe.kind === "model" && models) return models.executor(recipe);
  const prompt = promptOf(recipe);
  if (recipe.kind === "command") {
    const options: CommandOptions = { ...common, ...prompt, command: recipe.command, ...(recipe.once ? { once: true } : {}), ...(recipe.check === undefined ? {} : { check: recipe.check }) };
    const plain = commandExecutor(options);
    return recipe.once ? onceExecutor(options, plain) : rememberingOnce(options, plain);
  }
  if (recipe.kind === "preset") return presetExecutor(recipe.preset, { ...common, ...prompt, args: recipe.args ?? [] });
  throw new PawlError("usage", `A ${recipe.kind} cannot be the executor here.`, { next: "Use --exec or --with." });
}

export function verifierOf(recipe: Recipe, kitchen: Kitchen): Verifier {
  const { ask, models, ...common } = kitchen;
  if (recipe.kind === "model" && models) return models.verifier(recipe);
  if (recipe.kind === "person") return personVerifier({ ask });
  if (recipe.kind === "command") return commandVerifier({ ...common, ...promptOf(recipe), command: recipe.command });
  throw new PawlError("usage", `${recipe.kind === "preset" ? recipe.preset : "A model"} cannot be a verifier here.`, { next: "Use --verify COMMAND or --verify ask." });
}

function promptOf(recipe: Recipe): Pick<CommandOptions, "prompt" | "timeoutMs"> {
  if (recipe.kind === "person" || recipe.kind === "model") return {};
  return { ...(recipe.prompt === undefined ? {} : { prompt: recipe.prompt }), ...(recipe.timeout_ms === undefined ? {} : { timeoutMs: recipe.timeout_ms }) };
}

/** A stored recipe, as far as this version knows it. */
export function asRecipe(stored: Json): Recipe | null {
  return stored !== null && typeof stored === "object" && "kind" in stored ? (stored as unknown as Recipe) : null;
}

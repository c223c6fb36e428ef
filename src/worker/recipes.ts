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
export type Kitchen = Pick<CommandOptions, "cwd" | "state" | "onOutput" | "clock"> & { readonly ask?: Ask | undefined };

export type Recipe =
  | { readonly kind: "command"; readonly command: string | readonly string[]; readonly once?: boolean; readonly check?: string; readonly prompt?: string; readonly timeout_ms?: number }
  | { readonly kind: "preset"; readonly preset: string; readonly args?: readonly string[]; readonly prompt?: string; readonly timeout_ms?: number }
  | { readonly kind: "person" };

export function executorOf(recipe: Recipe, kitchen: Kitchen): Executor {
  const { ask: _, ...common } = kitchen;
  const prompt = promptOf(recipe);
  if (recipe.kind === "command") {
    const options: CommandOptions = { ...common, ...prompt, command: recipe.command, ...(recipe.once ? { once: true } : {}), ...(recipe.check === undefined ? {} : { check: recipe.check }) };
    const plain = commandExecutor(options);
    return recipe.once ? onceExecutor(options, plain) : rememberingOnce(options, plain);
  }
  if (recipe.kind === "preset") return presetExecutor(recipe.preset, { ...common, ...prompt, args: recipe.args ?? [] });
  throw new PawlError("usage", "A person cannot be the executor of a run.", { next: "Use --exec or --with." });
}

export function verifierOf(recipe: Recipe, kitchen: Kitchen): Verifier {
  const { ask, ...common } = kitchen;
  if (recipe.kind === "person") return personVerifier({ ask });
  if (recipe.kind === "command") return commandVerifier({ ...common, ...promptOf(recipe), command: recipe.command });
  throw new PawlError("usage", `${recipe.preset} cannot be a verifier.`, { next: "Use --verify COMMAND or --verify ask." });
}

function promptOf(recipe: Recipe): Pick<CommandOptions, "prompt" | "timeoutMs"> {
  if (recipe.kind === "person") return {};
  return { ...(recipe.prompt === undefined ? {} : { prompt: recipe.prompt }), ...(recipe.timeout_ms === undefined ? {} : { timeoutMs: recipe.timeout_ms }) };
}

/** A stored recipe, as far as this version knows it. */
export function asRecipe(stored: Json): Recipe | null {
  return stored !== null && typeof stored === "object" && "kind" in stored ? (stored as unknown as Recipe) : null;
}

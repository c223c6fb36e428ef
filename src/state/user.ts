// Where a person's own state is, whatever the project: their preferences and what is remembered of them. It is a state like
// every other, in the user's config folder.
import { homedir } from "node:os";
import { join } from "node:path";

/** `pawl/memory.json` in $XDG_CONFIG_HOME, else in ~/.config. */
export function userStatePath(env: NodeJS.ProcessEnv = process.env): string {
  const config = env["XDG_CONFIG_HOME"];
  // The specification says that a relative path is to be ignored.
  return join(config?.startsWith("/") ? config : join(homedir(), ".config"), "pawl", "memory.json");
}

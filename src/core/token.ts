// The token of a claim by a command that does not stay: it names the task, the ownership and the random id of the
// claimer, so that only who holds it can write, and only while the ownership lasts.
import { PawlError } from "../base/errors.ts";
import type { Task } from "./records.ts";

export type Token = { readonly id: number; readonly fence: number; readonly worker: string };

/**
 * Who claims without staying: its tasks are held by time alone, for no process stands behind the name. With `caller`, the
 * name under which it finds its claims again, say after it has forgotten its token.
 */
export const holderName = (random: { hex(bytes: number): string }, caller?: string): string => `c-${random.hex(16)}${caller === undefined ? "" : `-${callerName(caller)}`}`;
export const isHolder = (worker: string): boolean => worker.startsWith("c-");

/** The caller in the name of a holder, as `callerName` writes it; null when it claimed without one. */
export const callerOf = (worker: string): string | null => /^c-[0-9a-f]{32}-(.+)$/.exec(worker)?.[1] ?? null;

/** A caller's name as it stands in tokens. Throws `usage` when it is empty or too long. */
export function callerName(caller: string): string {
  if (!/^.{1,64}$/su.test(caller.trim())) throw new PawlError("usage", "The name of a caller has 1 to 64 characters.", { next: "Use a short name that you will use again, such as the one of the branch." });
  return caller.trim().replaceAll(/[^A-Za-z0-9_-]/gu, "_");
}

export function formatToken(task: Task): string {
  return `${task.id}.${task.fence}.${task.worker}`;
}

/** Reads a token; `usage` when it is not one, or not one of task `id`. */
export function parseToken(text: string, id?: number): Token {
  const match = /^([0-9]{1,15})\.([0-9]{1,15})\.([A-Za-z0-9_-]+)$/.exec(text.trim());
  if (!match) throw new PawlError("usage", "That is not the token of a claim.", { next: "Pass the token that `pawl claim --json` printed." });
  const token = { id: Number(match[1]), fence: Number(match[2]), worker: match[3]! };
  if (id !== undefined && token.id !== id) throw new PawlError("usage", `That token is for task ${token.id}, not for task ${id}.`, { next: `Pass the token of task ${id}, or name task ${token.id}.` });
  return token;
}

/** The claim under which a script works, from the environment that a run gave it; null outside of one. */
export function ownToken(env: { readonly [name: string]: string | undefined }): { readonly id: number; readonly text: string } | null {
  const { PAWL_TASK_ID: id, PAWL_TOKEN: text } = env;
  return id && text && /^[0-9]{1,15}$/.test(id) ? { id: Number(id), text } : null;
}

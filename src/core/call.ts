// Steps of a shell script: each `pawl step` is a process of its own, so how often a name came and whether two ran side by
// side is kept in the state, for one ownership of the task. The same rule as in a scope: once two steps of a script have
// been in flight together, a name cannot come twice without a key, because a replay could swap their results.
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import type { Put } from "../store/store.ts";
import { ofRound, TRIES, type Committer } from "./committer.ts";
import type { Task, Wait } from "./records.ts";
import { fenceGuard } from "./step.ts";
import { isHolder } from "./token.ts";
import { opening, waitKey } from "./wait.ts";

type Call = { readonly started: number; readonly ended: number; readonly overlapped: boolean | null };

/** The name under which all steps of the script are counted. */
const ALL = "*";

/** The ordinal of this call among those of its name. `leaveCall` must follow when the step has ended. */
export async function enterCall(committer: Committer, task: Task, name: string): Promise<number> {
  for (let i = 0; i < TRIES; i++) {
    const [all, own] = (await committer.store.get("call", [[task.id, task.fence, ALL], [task.id, task.fence, name]])) as unknown as (Call | null)[];
    const overlapped = all?.overlapped === true || (all?.started ?? 0) > (all?.ended ?? 0);
    const seen = own?.started ?? 0;
    if (seen > 0 && overlapped) throw ambiguous(name, task);
    const result = await committer.commit({
      guards: [fenceGuard(task), guardOf(task, ALL, all ?? null), guardOf(task, name, own ?? null)],
      puts: [put(task, ALL, { started: (all?.started ?? 0) + 1, ended: all?.ended ?? 0, overlapped }), put(task, name, { started: seen + 1, ended: own?.ended ?? 0, overlapped: null })],
    });
    if (result.ok) return seen + 1;
    if ("error" in result) throw result.error;
    if (result.conflict.index === 0) throw new PawlError("lease_lost", `Task ${task.id} is no longer worked on by this script's worker.`, { next: `See what happened: pawl history ${task.id}.` });
  }
  throw new PawlError("conflict", "Too many steps of this task start at once.", { next: "Try again." });
}

export async function leaveCall(committer: Committer, task: Task): Promise<void> {
  await committer.commit({ puts: [], additions: [{ kind: "call", key: [task.id, task.fence, ALL], field: "ended", n: 1 }] });
}

/**
 * A step of the script ends in these waits: its exit code says so, but a pipe or `xargs` may swallow that, so it is kept with
 * them. The task's revision rises, so that whoever is ending the task looks.
 */
export async function endIn(committer: Committer, task: Task, waits: readonly Wait[]): Promise<void> {
  await committer.commit({ guards: [fenceGuard(task)], puts: waits.map((wait) => mark(wait, task.fence)), additions: [opening(task)] });
}

/** A step goes on that had ended in this wait before, under the same ownership: the script does not wait for it any more. */
export async function goOn(committer: Committer, task: Task, wait: Wait): Promise<void> {
  await committer.commit({ guards: [fenceGuard(task)], puts: [mark(wait, null)] });
}

const mark = (wait: Wait, fence: number | null): Put => ({ kind: "wait", key: waitKey(wait), set: { fence } });

/** The waits that steps of the script ended in under this ownership. */
export async function endedIn(committer: Committer, task: Task): Promise<Wait[]> {
  return (await ofRound(committer, "wait", task)).filter((wait) => wait.fence === task.fence);
}

function guardOf(task: Task, name: string, call: Call | null) {
  const key = [task.id, task.fence, name];
  return call ? ({ kind: "call", key, is: { started: call.started, ended: call.ended } } as const) : ({ kind: "call", key, absent: true } as const);
}

function put(task: Task, name: string, call: Call) {
  return { kind: "call", record: { task_id: task.id, fence: task.fence, name, ...call } } as const;
}

function ambiguous(name: string, task: Task): PawlError {
  const key = `Give it a key of its own: pawl step ${name} --key … -- COMMAND`;
  // Under a claim held by time nothing tells a script that was started again from steps that run side by side.
  const again = `If it is the script that was started again, it needs a new claim: pawl release ${task.id} --token …, then pawl claim.`;
  return new PawlError("ambiguous_step", `The step "${name}" comes a second time in a script whose steps ran side by side: on a replay the two could swap results.`, {
    next: task.worker !== null && isHolder(task.worker) ? `${again} Otherwise: ${key}` : key,
    details: { name },
  });
}

/* ---------- output ---------- */

/** What a command printed, as its step keeps it: text as it stands when it is UTF-8 without NUL, else `{"base64": "…"}`. */
export function outputOf(bytes: Buffer): Json {
  const text = bytes.toString("utf8");
  return !text.includes("\0") && Buffer.from(text).equals(bytes) ? text : { base64: bytes.toString("base64") };
}

/** What a replay prints: the same bytes. A value that a person or a program gave is printed on a line of its own. */
export function bytesOf(output: Json): Buffer {
  if (typeof output === "string") return Buffer.from(output);
  const { base64, ...rest } = (output ?? {}) as { base64?: Json };
  if (typeof base64 === "string" && Object.keys(rest).length === 0) return Buffer.from(base64, "base64");
  return Buffer.from(output === null ? "" : `${JSON.stringify(output)}\n`);
}

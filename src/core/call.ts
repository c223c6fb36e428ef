// Steps of a shell script: each `pawl step` is a process of its own, so how often a name came and whether two ran side by
// side is kept in the state, for one ownership of the task. The same rule as in a scope: once two steps of a script have
// been in flight together, a name cannot come twice without a key, because a replay could swap their results.
import { PawlError } from "../base/errors.ts";
import type { Committer } from "./committer.ts";
import type { Task } from "./records.ts";
import { fenceGuard } from "./step.ts";

type Call = { readonly started: number; readonly ended: number; readonly overlapped: boolean | null };

/** The name under which all steps of the script are counted. */
const ALL = "*";

/** The ordinal of this call among those of its name. `leaveCall` must follow when the step has ended. */
export async function enterCall(committer: Committer, task: Task, name: string): Promise<number> {
  for (let i = 0; i < 100; i++) {
    const [all, own] = (await committer.store.get("call", [[task.id, task.fence, ALL], [task.id, task.fence, name]])) as unknown as (Call | null)[];
    const overlapped = all?.overlapped === true || (all?.started ?? 0) > (all?.ended ?? 0);
    const seen = own?.started ?? 0;
    if (seen > 0 && overlapped) throw ambiguous(name);
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

function guardOf(task: Task, name: string, call: Call | null) {
  const key = [task.id, task.fence, name];
  return call ? ({ kind: "call", key, is: { started: call.started, ended: call.ended } } as const) : ({ kind: "call", key, absent: true } as const);
}

function put(task: Task, name: string, call: Call) {
  return { kind: "call", record: { task_id: task.id, fence: task.fence, name, ...call } } as const;
}

function ambiguous(name: string): PawlError {
  return new PawlError("ambiguous_step", `The step "${name}" comes a second time in a script whose steps ran side by side: on a replay the two could swap results.`, {
    next: `Give it a key of its own: pawl step ${name} --key … -- COMMAND`,
    details: { name },
  });
}

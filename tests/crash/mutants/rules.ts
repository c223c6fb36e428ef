// Deliberate bugs in the rules and the worker, each with the test that must notice.
import type { Mutant } from "./run.ts";

const TASK = "src/core/task.ts";
const STEP = "src/core/step.ts";
const HISTORY = "src/core/history.ts";
const DECISION = "src/core/decision.ts";
const core = (file: string, name: string) => [`tests/core/${file}.test.ts`, name] as const;

export const RULE_MUTANTS: readonly Mutant[] = [
  { name: "callers are answered before the flush", file: "src/core/committer.ts", find: "const results = await this.store.commit(", replace: "for (const { resolve } of batch) resolve({ ok: true, ids: [] });\n      const results = await this.store.commit(", test: core("committer", "broken storage rejects") },
  { name: "a step is recorded without the fence", file: STEP, find: "is: { fence: task.fence } };", replace: "is: {} };", test: ["tests/worker/steps.test.ts", "work left behind by an aborted attempt"] },
  { name: "a result is written without the fence", file: "src/core/committer.ts", find: "if (options.fence !== undefined && (now === null || now.fence !== options.fence || now.worker === null)) throw leaseLost(task.id, now);", replace: "", test: core("committer", "settle: only another fence") },
  { name: "a takeover does not raise the fence", file: TASK, find: "takeovers, fence: task.fence + 1 };", replace: "takeovers, fence: task.fence };", test: core("task", "after any sequence of rules|whoever but the owner") },
  { name: "a heartbeat is not fenced", file: TASK, find: "const is = { fence, worker,", replace: "const is = { worker,", test: core("task", "a heartbeat is for the task") },
  { name: "a heartbeat is not for its owner", file: TASK, find: "const is = { fence, worker,", replace: "const is = { fence,", test: core("task", "a heartbeat is for the task") },
  { name: "a change leaves no history", file: TASK, find: "set: fields as Fields }, transition, ...puts,", replace: "set: fields as Fields }, ...(event === \"claimed\" ? [] : [transition]), ...puts,", test: ["tests/hazards.test.ts", "hazard 3, memory"] },
  { name: "a release counts an attempt", file: TASK, find: "{ ...DUE, continues: true, ready: !waiting,", replace: "{ ...DUE, continues: false, ready: !waiting,", test: core("task", "attempts are counted at the claim") },
  { name: "attempts are not counted", file: TASK, find: "task.continues ? task.attempts : task.attempts + 1", replace: "task.continues ? task.attempts : Math.max(task.attempts, 1)", test: core("task", "attempts are counted at the claim") },
  { name: "parking does not look whether the answer came", file: TASK, find: `is: { status: "open" } })),\n  });`, replace: "is: {} })),\n  });", test: core("decision", "hazard 6a: an answer before the parking") },
  { name: "a once effect runs again unasked", file: STEP, find: `if (step.status === "started") return { do: "unknown", step };`, replace: `if (step.status === "started") return { do: "run" };`, test: ["tests/worker/once-effects.test.ts", "memory: after a crash in a once effect"] },
  { name: "a done step runs again", file: STEP, find: `if (step.status === "completed") return { do: "output", step };`, replace: `if (step.status === "completed") return { do: "run" };`, test: ["tests/worker/steps.test.ts", "memory: a completed step is not run again"] },
  { name: "the seal does not chain", file: HISTORY, find: `sealed.hash = hashOf((previous?.["hash"] as string | undefined) ?? "", sealed)`, replace: `sealed.hash = hashOf("", sealed)`, test: core("history", "a sealed chain verifies") },
  { name: "a chain is verified by its numbers only", file: HISTORY, find: "|| transition.hash !== hashOf(previous, transition as unknown as Rec)", replace: "", test: core("history", "an altered entry is found") },
  { name: "a decision is settled twice", file: DECISION, find: `if (decision.status !== "open") {`, replace: `if (decision.status === "withdrawn") {`, test: core("decision", "a decision is settled once") },
  { name: "readiness is counted, not derived", file: "src/core/dependency.ts", find: "const ready = task.run_at === null && dependencies.length === task.depends_on.length && allCompleted(dependencies);", replace: "const ready = task.run_at === null && dependencies.some(({ status }) => status === \"completed\");", test: core("dependency", "memory: a task behind fifty|hazard 9: one dependency") },
  { name: "readiness is not guarded by what it was derived from", file: "src/core/dependency.ts", find: "} }, ...guards], puts:", replace: "} }], puts:", test: core("dependency", "hazard 9: one dependency") },
  { name: "what a dead worker left running is not ended", file: "src/core/sweep.ts", find: "if (!(await evidence.endProcesses(processes))) return null;", replace: "", test: core("sweep", "hazard 12: while what a dead owner") },
  { name: "an owner that lives loses its silent task", file: "src/core/sweep.ts", find: `!== "alive" || overdue(`, replace: `!== "nobody" || overdue(`, test: core("sweep", "hazard 14: an owner that lives") },
];

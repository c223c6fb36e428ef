// A step is one memoized effect inside a task: recorded when done, never run again in its round. This file holds how steps
// are named, and what to do about one that has a record already; the running is in worker/context.ts.

//   (none) ── repeat: run, record ──────────────────────────▶ completed | failed
//   (none) ── once: record the start, run, record ──────────▶ completed | failed (only by NotDone: the effect did not happen)
//   started, no live run: outcome unknown ── check / a person ─▶ completed | started again | failed: given up
//
// Invariants: two steps that could be mistaken for one another on a replay are refused on the first run (ambiguous_step),
// never swapped silently; a failure is replayed within its attempt, a completion within its round (and beyond, when kept).
// Given up is final within its round, and says nothing of the effect: a new round, and a person's `retry`, ask anew.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { fingerprint, sha256, type Json } from "../base/json.ts";
import type { Addition, Change, Guard, Put } from "../store/store.ts";
import type { Effect, Failure, Step, Task } from "./records.ts";

/** Throw this from a step with `effect: "once"` when its effect certainly did not happen: it may then be tried again. */
export class NotDone extends Error {
  override readonly name = "NotDone";
}

/** Names the steps of one scope. In flight together once, no name may come twice without a key: their order is luck. */
export class Scope {
  readonly path: string;
  readonly #used: Map<string, number> = new Map();
  readonly #open: Set<string> = new Set();
  #inFlight = 0;
  #overlapped = false;

  constructor(path = "") {
    this.path = path;
  }

  /** The key of the next step called `name`; `leave` must be called when it has settled. */
  enter(name: string): string {
    const seen = this.#used.get(name) ?? 0;
    this.#overlap();
    if (seen > 0 && this.#overlapped) throw ambiguous(this.path, name);
    this.#used.set(name, seen + 1);
    this.#inFlight++;
    return `${this.path}${name}${seen === 0 ? "" : `#${seen + 1}`}`;
  }

  /** A step with a key of its own needs no name from here, but whatever runs beside it runs side by side. */
  enterKeyed(): void {
    this.#overlap();
    this.#inFlight++;
  }

  leave(): void {
    this.#inFlight--;
  }

  #overlap(): void {
    if (this.#inFlight > 0) this.#overlapped = true;
  }

  /** A scope inside this one. A second of the same name is its next ordinal once the first is closed, and an error before. */
  child(name: string): Scope {
    if (this.#open.has(name)) {
      throw new PawlError("ambiguous_step", `Two scopes called "${name}" are open at once in ${this.path || "the task"}: their steps could not be told apart.`, {
        next: `Give each branch its own name, such as scope(\`${name}-\${i}\`).`,
      });
    }
    const seen = this.#used.get(`${name}/`) ?? 0;
    this.#overlap();
    if (seen > 0 && this.#overlapped) {
      throw new PawlError("ambiguous_step", `The scope "${name}" comes a second time in ${this.path || "the task"}, whose steps ran side by side: on a replay the two could swap results.`, {
        next: `Give each its own name, such as scope(\`${name}-\${i}\`), or run each round of a loop in a scope of its own.`,
        details: { name, path: this.path },
      });
    }
    this.#open.add(name);
    this.#used.set(`${name}/`, seen + 1);
    this.#inFlight++; // an open scope runs beside whatever else this one starts
    return new Scope(`${this.path}${name}${seen === 0 ? "" : `#${seen + 1}`}/`);
  }

  close(name: string): void {
    this.#open.delete(name);
    this.#inFlight--;
  }
}

function ambiguous(path: string, name: string): PawlError {
  return new PawlError("ambiguous_step", `The step "${name}" comes a second time in ${path ? `the scope ${path}` : "a scope"} whose steps ran side by side: on a replay the two could swap results.`, {
    next: `Give it a key of its own: step("${name}", { key: … }, fn), or run each branch in its own scope.`,
    details: { name, path },
  });
}

/** The key a step names itself; it replaces scope and ordinal. */
export function explicitKey(name: string, key: string): string {
  return `${name}@${key}`;
}

export function checkStepName(name: unknown): void {
  if (typeof name !== "string" || name === "" || name.length > 200 || /[\u0000-\u001f/#@]/.test(name)) {
    throw new PawlError("usage", `A step's name must be 1 to 200 characters without / # @ and control characters, not ${JSON.stringify(name)}.`);
  }
}

/**
 * Stable for every attempt of a round, different between rounds, steps, tasks and states. When the task was made is part of it:
 * in a state that was put back from a backup an id may be given again, to a task that has nothing to do with the first.
 */
export function idempotencyKey(stateId: string, { id, created_at, round }: Pick<Task, "id" | "created_at" | "round">, key: string): string {
  return `pawl-${sha256(`${stateId}/${id}/${created_at}/${round}/${key}`, 32)}`;
}

/** The record that counts for a step now: of this round, or the newest kept one of an earlier round. */
export function recordOf(steps: readonly Step[], round: number, key: string): Step | null {
  let found: Step | null = null;
  for (const step of steps) {
    if (step.key !== key || step.round > round) continue;
    if (step.round !== round && !step.kept) continue;
    if (!found || step.round > found.round) found = step;
  }
  return found;
}

/** What a replay does about a step. */
export type Replay =
  | { readonly do: "run" }
  | { readonly do: "output"; readonly step: Step }
  | { readonly do: "throw"; readonly error: Failure }
  /** The declared input is not the one its record was made with. */
  | { readonly do: "changed"; readonly step: Step }
  /** It was started and nothing was recorded: it may or may not have happened. */
  | { readonly do: "unknown"; readonly step: Step };

/** Decides from the record of a step. `inputHash` is null when the step declares no input. */
export function replay(step: Step | null, task: Task, inputHash: string | null): Replay {
  if (!step) return { do: "run" };
  if (inputHash !== null && step.input_hash !== null && step.input_hash !== inputHash && step.status === "completed") return { do: "changed", step };
  if (step.status === "completed") return { do: "output", step };
  if (step.status === "started") return { do: "unknown", step };
  if (isGivenUp(step.error)) return step.round === task.round ? { do: "throw", error: step.error } : { do: "unknown", step };
  return step.round === task.round && step.attempt === task.attempts && step.error ? { do: "throw", error: step.error } : { do: "run" };
}

/** True of the failure that a person's "give up" is. */
export function isGivenUp(error: Failure | null): error is Failure {
  return error?.code === GIVEN_UP && error.permanent === true;
}

/** The code of that failure. */
export const GIVEN_UP = "given_up";

/** The failure of a step that a person gave up, if there is one among these. */
export function givenUp(steps: readonly Step[]): Failure | null {
  return steps.find((step) => step.status === "failed" && isGivenUp(step.error))?.error ?? null;
}

export type StepPlan = { readonly key: string; readonly name: string; readonly effect: Effect; readonly kept: boolean; readonly input: Json; readonly inputHash: string | null };

/** Its input as it is fingerprinted; null when none is declared. */
export function hashInput(input: Json | undefined): string | null {
  return input === undefined ? null : fingerprint(input);
}

/** Every write of a step carries the fence: a worker that lost the task cannot record anything. */
export function fenceGuard(task: Task): Guard {
  return { kind: "task", key: task.id, is: { fence: task.fence } };
}

/** Writes that go along with others in one change. */
export type Extra = { readonly guards?: readonly Guard[]; readonly puts?: readonly Put[]; readonly additions?: readonly Addition[] };

/** The change with what goes along with it. The guards of the change come first: what they say of the owner counts before all. */
export function withExtra(change: Change, extra: Extra | undefined): Change {
  if (extra === undefined) return change;
  return {
    ...change, guards: [...(change.guards ?? []), ...(extra.guards ?? [])], puts: [...change.puts, ...(extra.puts ?? [])],
    additions: [...(change.additions ?? []), ...(extra.additions ?? [])],
  };
}

/** The intent of a `once` step, durable before the effect starts. */
export function startStep(task: Task, plan: StepPlan, start: number, now: number, settled: readonly Put[] = []): Change {
  return { guards: [fenceGuard(task)], puts: [{ kind: "step", record: { ...base(task, plan, start, now), status: "started" } }, ...settled] };
}

/** The outcome of a step, in one write. Of a large output, `artifact` is what holds it. */
export function endStep(task: Task, plan: StepPlan, start: number, startedAt: number, outcome: { output: Json; artifact?: string | undefined } | { error: Failure }, now: number, settled: readonly Put[] = []): Change {
  const record = base(task, plan, start, startedAt);
  if ("error" in outcome) record["error"] = outcome.error as unknown as Json;
  else if (outcome.artifact === undefined) record["output"] = outcome.output;
  else record["output_artifact"] = outcome.artifact;
  record["status"] = "error" in outcome ? "failed" : "completed";
  record["ended_at"] = iso(now);
  return { guards: [fenceGuard(task)], puts: [{ kind: "step", record }, ...settled] };
}

function base(task: Task, plan: StepPlan, start: number, startedAt: number): { [field: string]: Json } {
  const fields: { [field: string]: Json } = {
    task_id: task.id, round: task.round, key: plan.key, name: plan.name, effect: plan.effect, attempt: task.attempts, fence: task.fence, start, kept: plan.kept, started_at: iso(startedAt),
  };
  if (plan.inputHash !== null) {
    fields["input_hash"] = plan.inputHash;
    fields["input"] = plan.input;
  }
  return fields;
}

// The steps of a task along the time: how long each took, how often it was started, and which have an unknown outcome.
import type { Step, Task } from "../src/core/records.ts";
import { Value } from "./parts.tsx";
import { duration, local } from "./time.ts";

/** A step as task_show gives it. */
export type ShownStep = Pick<Step, "key" | "status" | "effect" | "round" | "attempt" | "start" | "output" | "error" | "started_at" | "ended_at">;

/** Started, not ended, and nobody is at it: whether it happened nobody knows. */
const isUnknown = (step: ShownStep, task: Task): boolean => step.status === "started" && (task.status !== "in_progress" || step.attempt < task.attempts);

export function Timeline({ task, steps }: { task: Task; steps: readonly ShownStep[] }) {
  if (steps.length === 0) return <p class="none">No step is recorded. Steps appear here when the task's code uses <code>step</code>, or its script <code>pawl step</code>.</p>;
  const begin = Math.min(...steps.map((step) => Date.parse(step.started_at)));
  const end = Math.max(...steps.map((step) => Date.parse(step.ended_at ?? task.updated_at)), begin + 1);
  return (
    <ol class="timeline">
      {steps.map((step) => <Bar key={`${step.round}/${step.key}`} step={step} unknown={isUnknown(step, task)} begin={begin} end={end} now={task} />)}
    </ol>
  );
}

function Bar({ step, unknown, begin, end, now }: { step: ShownStep; unknown: boolean; begin: number; end: number; now: Task }) {
  const from = Date.parse(step.started_at);
  const to = Date.parse(step.ended_at ?? now.updated_at);
  const percent = (ms: number) => `${((ms / (end - begin)) * 100).toFixed(2)}%`;
  const state = unknown ? "unknown" : step.status;
  const notes = [
    step.round < now.round ? `round ${step.round}` : "", step.start > 1 ? `started ${step.start} times` : "", step.effect === "once" ? "once" : "",
    step.ended_at === null ? "" : duration(to - from),
  ].filter((note) => note !== "");
  return (
    <li class={`step is-${state}`}>
      <details>
        <summary>
          <span class="step-name">{step.key}</span>
          <span class="step-state">{unknown ? "outcome unknown" : step.status}</span>
          <span class="step-note">{notes.join(" · ")}</span>
          <span class="step-track" aria-hidden="true"><span style={{ left: `min(${percent(from - begin)}, calc(100% - 3px))`, width: percent(Math.max(to - from, 0)) }} /></span>
        </summary>
        <p>Started {local(step.started_at)}{step.ended_at === null ? "" : `, ended ${local(step.ended_at)}`}, in attempt {step.attempt}.</p>
        {step.error !== null && <><h4>Error</h4><Value value={step.error.message} /></>}
        {step.status === "completed" && <><h4>Output</h4><Value value={step.output} /></>}
      </details>
    </li>
  );
}

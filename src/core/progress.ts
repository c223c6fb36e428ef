// How far a run is: percent, the time it will still take, and the lines that say so. Invariants: 100 % is said only when
// all are completed; the lines are the words of a run and do no escaping (the surface does, before it prints).

import { iso } from "../base/clock.ts";

/** Whole percent, rounded down. 0 of 0 is 0 %. */
export function percent(completed: number, total: number): number {
  return total <= 0 ? 0 : Math.floor((completed * 100) / total);
}

/** How long the last tasks took, in ms, newest last. */
export type Pace = readonly number[];

/** Tasks that count for the pace: enough to even out one slow task, few enough to follow a change. */
const PACE_TASKS = 20;

/** The pace after one more task took `ms`. */
export function addPace(pace: Pace, ms: number): Pace {
  return Number.isFinite(ms) && ms >= 0 ? [...pace, ms].slice(-PACE_TASKS) : pace;
}

/** Milliseconds until `remaining` tasks are done by `concurrency` at a time; null while no task has shown the pace. */
export function etaMs(pace: Pace, remaining: number, concurrency: number): number | null {
  if (remaining <= 0) return 0;
  if (pace.length === 0) return null;
  const average = pace.reduce((sum, ms) => sum + ms, 0) / pace.length;
  // The last task takes its whole time, however many workers look on.
  return Math.round(average * Math.max(remaining / Math.max(concurrency, 1), 1));
}

/* ---------- the lines of a run ---------- */

export const FRESH_LINE = "No existing state found, starting fresh";
export const ALL_COMPLETED_LINE = "All tasks completed!";
export const NOTHING_TO_DO_LINE = "All tasks completed! Nothing to do.";

/** Characters of a description in the line of a task: what fits beside its number on a terminal. */
const DESCRIPTION_CHARS = 60;

export function loadedLine(tasks: number, path: string): string {
  return `Loaded ${counted(tasks)} from ${path}`;
}

export function progressLine(completed: number, total: number): string {
  return `Progress: ${completed}/${total} completed (${percent(completed, total)}%)`;
}

export function remainingLine(tasks: number): string {
  return `${counted(tasks)} remaining`;
}

export function taskLine(id: number, description: string): string {
  return `[Task ${id}] ${cut(description, DESCRIPTION_CHARS)}`;
}

export function completedLine(completed: number, total: number): string {
  return `  ✓ Completed (${completed}/${total})`;
}

/** The first line of the reason; the rest stays with the task. */
export function failedLine(reason: string): string {
  return `  ✗ Failed: ${reason.trim().split(/\r?\n|\r/, 1)[0]}`;
}

/** A usage limit that ends at `until` (ms), as it is met or remembered. */
export function limitLine(until: number): string {
  return `usage limit until ${iso(until)}; nothing is started before, no attempt was counted`;
}

function counted(tasks: number): string {
  return `${tasks} ${tasks === 1 ? "task" : "tasks"}`;
}

/** At most `chars` characters as people count them, on one line. */
function cut(text: string, chars: number): string {
  // A slice first: the description may be a megabyte, and no character people write takes 30 code units.
  const head = text.slice(0, chars * 30).trim().replaceAll(/\s+/g, " ");
  const graphemes = Array.from(new Intl.Segmenter().segment(head), ({ segment }) => segment);
  if (graphemes.length <= chars && text.length <= chars * 30) return head;
  return `${graphemes.slice(0, chars).join("").trimEnd()}…`;
}

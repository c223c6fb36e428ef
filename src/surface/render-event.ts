// Events as text: which are kept, which wait received one. And the children of a task, for the page that shows it.
import type { ShownChildren } from "../core/children.ts";
import type { PawlEvent } from "../core/event.ts";
import { STATUSES } from "../core/records.ts";
import { oneLine } from "./escape.ts";
import type { Page } from "./page.ts";
import { table } from "./table.ts";

export function eventBlock(event: PawlEvent): string {
  const value = event.value === null ? "" : `: ${oneLine(JSON.stringify(event.value), 200)}`;
  return `Event ${event.id} ${oneLine(event.name, 100)} ${stateOf(event)}${value}\n`;
}

function stateOf(event: PawlEvent): string {
  if (event.status === "kept") return "kept for the next task that waits for it";
  if (event.status === "dropped") return `dropped by ${oneLine(event.settled_by ?? "", 40)}`;
  return event.task_id === null ? `received by ${oneLine(event.settled_by ?? "", 40)}` : `received by task ${event.task_id}`;
}

export function eventList(events: readonly PawlEvent[], page: Page): string {
  if (events.length === 0) return "No events.\n";
  return table(page.io, ["id", "name", "at", "status", "value"], events.map((event) => [String(event.id), event.name, event.created_at, event.task_id === null ? event.status : `task ${event.task_id}`, event.value === null ? "" : JSON.stringify(event.value)]));
}

/** The children of a task: how many there are in each status, and the first of them. */
export function childLines({ counts, first }: ShownChildren): string[] {
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
  if (total === 0) return [];
  const named = STATUSES.filter((status) => (counts[status] ?? 0) > 0).map((status) => `${counts[status]} ${status}`);
  const more = total > first.length ? [`    and ${total - first.length} more`] : [];
  return [`  children: ${named.join(", ")}`, ...first.map((child) => `    task ${child.id} ${child.status}: ${oneLine(child.description, 80)}`), ...more];
}

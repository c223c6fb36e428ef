// `pawl export`: all tasks as a Markdown report, as CSV or as JSON; each can be imported again. What a terminal would act
// on is escaped; in JSON that reads the same, so JSON loses nothing.
import { STATUSES, type Task } from "../core/records.ts";
import { escapeText, oneLine } from "./escape.ts";

export function renderReport({ format, tasks }: { format: string; tasks: readonly Task[] }): string {
  // Braces that a task speaks of must not be taken for a variable when the report is imported.
  if (format === "json") return `${escapeText(JSON.stringify({ tasks }, null, 2)).replaceAll("{{", "{\\u007b")}\n`;
  return (format === "csv" ? csv(tasks) : markdown(tasks)).replaceAll(/\{\{(?=\s*[A-Za-z_])/g, "\\{{");
}

function markdown(tasks: readonly Task[]): string {
  const groups = STATUSES.map((status) => ({ status, members: tasks.filter((task) => task.status === status) })).filter(({ members }) => members.length > 0);
  const sections = groups.map(({ status, members }) => `\n## ${status} (${members.length})\n\n${members.map(item).join("\n")}\n`);
  const counts = groups.map(({ status, members }) => `${members.length} ${status}`).join(", ");
  return `# Tasks\n\n${tasks.length} ${tasks.length === 1 ? "task" : "tasks"}${counts ? `: ${counts}` : ""}.\n${sections.join("")}`;
}

function item(task: Task): string {
  const lines = [`- [${task.status === "completed" ? "x" : " "}] ${oneLine(task.description, Infinity)} (task ${task.id})`];
  if (task.result !== null) lines.push("", indented(typeof task.result === "string" ? task.result : JSON.stringify(task.result, null, 2)), "");
  if (task.error && task.status === "failed") lines.push("", indented(`Failed: ${task.error.message}`), "");
  return lines.join("\n").replace(/\n+$/, "\n");
}

function indented(text: string): string {
  return escapeText(text.trimEnd()).replaceAll(/^(?=.)/gm, "  ");
}

const COLUMNS = ["id", "key", "status", "description", "input", "result", "error", "attempts", "priority", "tags", "created_at", "started_at", "completed_at"] as const;

function csv(tasks: readonly Task[]): string {
  const rows = tasks.map((task) => COLUMNS.map((column) => cell(column === "error" ? task.error?.message : column === "tags" ? task.tags.join(";") : task[column])).join(","));
  return `${[COLUMNS.join(","), ...rows].join("\r\n")}\r\n`;
}

function cell(value: unknown): string {
  const text = value === null || value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value);
  const safe = escapeText(text.replaceAll("\r\n", "\n"));
  return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

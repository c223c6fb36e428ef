// `pawl export`: all tasks as a Markdown report, CSV or JSON.
import type { Task } from "../core/records.ts";
import { escapeText, oneLine } from "./escape.ts";

export function renderReport({ format, tasks }: { format: string; tasks: readonly Task[] }): string {
  if (format === "json") return `${JSON.stringify({ tasks }, null, 2)}\n`;
  if (format === "csv") return csv(tasks);
  const groups = Map.groupBy(tasks, (task) => task.status);
  const sections = [...groups].map(([status, members]) => `## ${status} (${members.length})\n\n${members.map(item).join("\n")}\n`);
  return `# Tasks\n\n${tasks.length} tasks: ${[...groups].map(([status, members]) => `${members.length} ${status}`).join(", ") || "none"}\n\n${sections.join("\n")}`;
}

function item(task: Task): string {
  const result = task.result === null ? "" : `\n\n  ${escapeText(typeof task.result === "string" ? task.result : JSON.stringify(task.result)).replaceAll("\n", "\n  ")}\n`;
  const error = task.error && task.status === "failed" ? `\n\n  Failed: ${escapeText(task.error.message)}\n` : "";
  return `- [${task.status === "completed" ? "x" : " "}] ${task.id}. ${oneLine(task.description, Infinity)}${result}${error}`;
}

const COLUMNS = ["id", "key", "status", "description", "result", "error", "attempts", "priority", "created_at", "started_at", "completed_at"] as const;

function csv(tasks: readonly Task[]): string {
  const cell = (value: unknown) => {
    const text = value === null || value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const rows = tasks.map((task) => COLUMNS.map((column) => cell(column === "error" ? task.error?.message : task[column])).join(","));
  return `${[COLUMNS.join(","), ...rows].join("\r\n")}\r\n`;
}

// Schedules as text: one line each in a list, every field that says something in a block.
import { formatDuration } from "../base/duration.ts";
import type { Schedule } from "../core/schedule.ts";
import { escapeText } from "./escape.ts";
import type { Page } from "./page.ts";
import { table } from "./table.ts";

export function scheduleList(schedules: readonly Schedule[], page: Page): string {
  if (schedules.length === 0) return "No schedules.\n";
  const rows = schedules.map((schedule) => [schedule.id, timesOf(schedule), nextOf(schedule), schedule.last_task_id === null ? "" : `task ${schedule.last_task_id}`, schedule.task.description]);
  return table(page.io, ["name", "when", "next", "last", "task"], rows);
}

export function scheduleBlock(schedule: Schedule): string {
  const { description, ...task } = schedule.task;
  const rows: [string, string | null][] = [
    ["when", timesOf(schedule)], ["next", nextOf(schedule)], ["last", schedule.last_at === null ? null : `${schedule.last_at}, task ${schedule.last_task_id}`],
    ["missed", schedule.missed], ["overlap", schedule.overlap], ["note", schedule.note], ["task", description], ["with", Object.keys(task).length === 0 ? null : JSON.stringify(task)],
  ];
  return `schedule ${escapeText(schedule.id)}\n${rows.filter(([, value]) => value !== null).map(([name, value]) => `  ${name.padEnd(8)} ${escapeText(value!).replaceAll("\n", "\n           ")}\n`).join("")}`;
}

const timesOf = (schedule: Schedule): string => (schedule.cron === null ? `every ${formatDuration(schedule.every_ms!)}` : `${schedule.cron} ${schedule.time_zone}`);
const nextOf = (schedule: Schedule): string => (schedule.paused ? "paused" : (schedule.next_at ?? "over"));

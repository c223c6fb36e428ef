// What a worker says while it works: lines for people, or one JSON object a line for a log collector. Invariant: neither holds
// a task's input, result or description's tail, and what looks like a secret in an error is masked.
import { iso } from "../base/clock.ts";
import { redactText } from "../base/redact.ts";
import type { Task } from "../core/records.ts";
import { escapeText, oneLine } from "./escape.ts";
import type { Io } from "./io.ts";
import { lineOf } from "./shell.ts";

export type WorkerLog = {
  /** A worker of a queue begins. */
  up(queue: string, worker: string, more: { readonly state: string; readonly concurrency: number }): void;
  claimed(queue: string, worker: string, task: Task): void;
  ended(queue: string, worker: string, task: Task): void;
  notice(queue: string, worker: string, line: string): void;
  draining(signal: string, running: number, again: boolean): void;
  down(why: string): void;
  listening(where: string): void;
};

const ERROR_CHARS = 200;
const errorOf = (task: Task): string | null => (task.error === null || task.status === "completed" ? null : redactText(task.error.message).slice(0, ERROR_CHARS));

/** Lines for people: tasks on stdout, all else on stderr. */
export function textLog(io: Pick<Io, "out" | "err">): WorkerLog {
  const err = (line: string) => io.err(`${escapeText(line)}\n`);
  return {
    up: (queue, worker, { state }) => err(`Worker ${worker} works ${queue} of ${state}; Ctrl-C stops it.`),
    claimed: (_, __, task) => io.out(`[Task ${task.id}] ${oneLine(task.description, 60)}\n`),
    ended: (_, __, task) => io.out(`[Task ${task.id}] ${task.status}${errorOf(task) === null ? "" : `: ${escapeText(errorOf(task)!)}`}\n`),
    notice: (_, __, line) => err(redactText(line)),
    draining: (signal, running, again) => err(again ? `${signal} again: stopping ${running} now.` : running === 0 ? `${signal}: no new tasks.` : `${signal}: no new tasks; waiting for ${running} in progress. Once more stops them now.`),
    down: () => undefined,
    listening: (where) => err(`Health: ${where}`),
  };
}

/** One JSON object a line on stdout: `at`, `level`, `event`, and what the event is about. */
export function jsonLog(io: Pick<Io, "out">, now: () => number): WorkerLog {
  const started = new Map<string, number>();
  const say = (level: "info" | "warn" | "error", event: string, more: object) => io.out(lineOf({ at: iso(now()), level, event, ...more } as never));
  const about = (queue: string, worker: string, task: Task) => ({ queue, worker, task_id: task.id, ...(task.key === null ? {} : { key: task.key }), ...(task.batch_id === null ? {} : { batch_id: task.batch_id }), attempt: task.attempts });
  return {
    up: (queue, worker, more) => say("info", "started", { queue, worker, pid: process.pid, ...more }),
    claimed: (queue, worker, task) => {
      started.set(`${worker} ${task.id}`, now());
      say("info", "claimed", about(queue, worker, task));
    },
    ended: (queue, worker, task) => {
      const began = started.get(`${worker} ${task.id}`);
      started.delete(`${worker} ${task.id}`);
      const error = errorOf(task);
      const level = task.status === "failed" ? "error" : error === null ? "info" : "warn";
      say(level, "ended", { ...about(queue, worker, task), status: task.status, ...(began === undefined ? {} : { ms: Math.max(0, now() - began) }), ...(error === null ? {} : { error, code: task.error!.code ?? null }), ...(task.run_at === null ? {} : { run_at: task.run_at }) });
    },
    notice: (queue, worker, line) => say("warn", "notice", { queue, worker, message: redactText(line) }),
    draining: (signal, running, again) => say("info", again ? "aborting" : "draining", { signal, running }),
    down: (why) => say(why === "stopped" ? "info" : "error", "stopped", why === "stopped" ? {} : { error: redactText(why).slice(0, ERROR_CHARS) }),
    listening: (where) => say("info", "listening", { health: where }),
  };
}

// What an operation gave, as text for people: one function for each output kind. Stored text is escaped before it is
// printed; nothing here is meant to be parsed (that is what --json is for).
import { parseIso } from "../base/clock.ts";
import { formatDuration } from "../base/duration.ts";
import type { Json } from "../base/json.ts";
import type { BatchSummary } from "../core/batch.ts";
import { progressLine } from "../core/progress.ts";
import type { Batch, Decision, Output, Step, Task, Transition } from "../core/records.ts";
import type { StatusReport } from "../core/status.ts";
import type { Why } from "../core/why.ts";
import { escapeText, oneLine } from "./escape.ts";
import type { Io } from "./io.ts";
import { renderReport } from "./report.ts";
import { table } from "./table.ts";

export type Page = { readonly io: Pick<Io, "tty" | "color" | "columns">; readonly now: number };

export const GLYPHS: { readonly [status: string]: string } = { pending: "○", in_progress: "◐", waiting: "⏸", review: "◑", completed: "✓", failed: "✗", cancelled: "⊘" };

const RENDERERS: { readonly [output: string]: (data: never, page: Page) => string } = {
  task: (task: Task & { reset?: number }) => (task.reset === undefined ? `${taskLine(task)}\n` : `${task.reset} tasks reset\n`),
  "task-list": taskList,
  "task-detail": taskDetail,
  status,
  history,
  why,
  decision: (decision: Decision) => `Decision ${decision.id}: ${decision.status}${decision.answer && decision.status === "answered" ? ` (${escapeText(decision.answer)})` : ""}\n`,
  "decision-list": decisionList,
  claim: (claim: { task: Task; token: string } | null) => (claim ? `${taskLine(claim.task)}\ntoken: ${claim.token}\nGive it back with: pawl complete ${claim.task.id} --token ${claim.token} --result …\n` : "Nothing is due.\n"),
  batch: batchDetail,
  "batch-list": (batches: Batch[], page: Page) => (batches.length === 0 ? "No batches.\n" : table(page.io, ["id", "list", "made"], batches.map((b) => [b.id, b.source ?? "", b.created_at]))),
  import: ({ batch, report }: { batch: Batch; report: { added: number; known: number; gone: number } }) =>
    `${batch.id}: ${report.added} added, ${report.known} known already${report.gone > 0 ? `, ${report.gone} no longer in the list` : ""}\n`,
  report: renderReport,
};

/** The text of `data`, an output of the kind `output`, with a line end. */
export function render(output: string, data: unknown, page: Page): string {
  const renderer = RENDERERS[output];
  return renderer ? renderer(data as never, page) : `${escapeText(JSON.stringify(data, null, 2))}\n`;
}

function taskLine(task: Task): string {
  return `${GLYPHS[task.status]} task ${task.id} ${task.status}: ${oneLine(task.description, 100)}`;
}

function taskList(tasks: readonly Task[], { io }: Page): string {
  if (tasks.length === 0) return "No tasks.\n";
  const priorities = tasks.some((task) => task.priority !== 5);
  const rows = tasks.map((task) => [String(task.id), `${GLYPHS[task.status]} ${task.status}${task.status === "pending" && !task.ready ? (task.run_at ? " (later)" : " (blocked)") : ""}`, `${task.attempts}/${task.max_attempts}`, ...(priorities ? [String(task.priority)] : []), task.description]);
  const text = table(io, ["id", "status", "tries", ...(priorities ? ["prio"] : []), "task"], rows);
  return tasks.length % 100 === 0 ? `${text}${tasks.length} shown; more may follow: pawl list --after ${tasks.at(-1)!.id}\n` : text;
}

function value(json: Json): string {
  return escapeText(typeof json === "string" ? json : JSON.stringify(json));
}

function taskDetail({ task, steps, outputs }: { task: Task; steps: readonly Step[]; outputs?: readonly Output[] }, page: Page): string {
  const lines = [taskLine(task)];
  const hidden = new Set(["id", "description", "status", "ready", "continues", "has_dependents", "revision", "fence"]);
  const defaults: { [field: string]: Json } = { queue: "default", priority: 5, takeovers: 0, reviews: 0, round: 1 };
  for (const [field, stored] of Object.entries(task) as [string, Json][]) {
    if (hidden.has(field) || stored === null || stored === defaults[field] || (Array.isArray(stored) && stored.length === 0)) continue;
    lines.push(`  ${field}: ${field === "error" ? value((stored as { message: string }).message) : indented(value(stored))}`);
  }
  if (steps.length > 0) {
    lines.push("  steps:");
    for (const step of steps) lines.push(`    ${step.status === "completed" ? "✓" : step.status === "failed" ? "✗" : "?"} ${escapeText(step.key)}${step.round > 1 ? ` (round ${step.round})` : ""} ${took(step)} ${step.error ? value(step.error.message) : oneLine(JSON.stringify(step.output), Math.max(page.io.columns - 40, 20))}`);
  }
  for (const output of outputs ?? []) lines.push(...outputLines(output));
  return `${lines.join("\n")}\n`;
}

function took(step: Step): string {
  return step.ended_at === null ? "" : formatDuration(parseIso(step.ended_at) - parseIso(step.started_at));
}

function indented(text: string): string {
  return text.includes("\n") ? `\n${text.split("\n").map((line) => `    ${line}`).join("\n")}` : text;
}

function outputLines(output: Output): string[] {
  const how = output.exit_code === null ? `ended by ${output.signal}` : `exit code ${output.exit_code}`;
  const parts = [output.stderr && `stderr:${indented(`\n${output.stderr.trimEnd()}`)}`, output.stdout && `stdout:${indented(`\n${output.stdout.trimEnd()}`)}`, output.details && `details: ${JSON.stringify(output.details)}`];
  return [`  ${output.part} at ${output.at}: ${escapeText(output.command)} (${how})`, ...parts.filter((part): part is string => typeof part === "string" && part !== "").map((part) => `    ${escapeText(part)}`)];
}

function counts(summary: BatchSummary): string {
  const shown = (["pending", "in_progress", "waiting", "review", "completed", "failed", "cancelled"] as const).filter((status) => summary[status] > 0);
  return shown.map((status) => `${GLYPHS[status]} ${summary[status]} ${status}`).join("  ");
}

function status(report: StatusReport): string {
  const { tasks } = report;
  const lines = [escapeText(report.state), progressLine(tasks.completed, tasks.total)];
  if (tasks.total > 0) lines.push(counts(tasks));
  if (tasks.blocked > 0) lines.push(`${tasks.blocked} of the pending are blocked by others`);
  for (const batch of report.batches) lines.push(`${batch.id}${batch.source ? ` (${escapeText(batch.source)})` : ""}: ${progressLine(batch.summary.completed, batch.summary.total).replace("Progress: ", "")}; go on: pawl run --resume ${batch.id}`);
  if (report.decisions > 0) lines.push(`${report.decisions} ${report.decisions === 1 ? "decision waits" : "decisions wait"} for you: pawl inbox`);
  for (const worker of report.workers) lines.push(`worker ${escapeText(worker.label)} (pid ${worker.pid}) since ${worker.started_at}`);
  return `${lines.join("\n")}\n`;
}

function history({ transitions, broken_at }: { transitions: readonly Transition[]; broken_at: number | null }, { io }: Page): string {
  const rows = transitions.map((t) => [t.at, t.actor, t.event, t.from_status === t.to_status ? (t.to_status ?? "") : `${t.from_status ?? "·"} → ${t.to_status ?? "·"}`, t.reason ?? ""]);
  return `${table(io, ["at", "actor", "event", "status", "reason"], rows)}${broken_at === null ? "" : `The chain is broken at entry ${broken_at}: it or one before it was altered.\n`}`;
}

function why(why: Why, { now }: Page): string {
  const lines = [`Task ${why.id} is ${why.status} since ${why.since} (${formatDuration(Math.max(now - parseIso(why.since), 0))}): ${oneLine(why.description, 80)}`, escapeText(why.summary)];
  lines.push(`Attempts: ${why.attempts.made} of ${why.attempts.max}${why.attempts.round > 1 ? `, round ${why.attempts.round}` : ""}`);
  for (const end of why.tries) lines.push(`  ${end.at} ${end.event}${end.reason ? `: ${oneLine(end.reason, 120)}` : ""}`);
  if (why.feedback) lines.push(`Feedback: ${escapeText(why.feedback)}`);
  for (const blocker of why.blockers) lines.push(`Blocked by task ${blocker.id} (${blocker.status})`);
  const { skip, check, redo } = why.resume;
  if (skip.length > 0) lines.push(`A resume skips: ${skip.map(escapeText).join(", ")}`);
  if (check.length > 0) lines.push(`A resume checks or asks about: ${check.map(escapeText).join(", ")}`);
  if (redo.length > 0) lines.push(`A resume runs again: ${redo.map(escapeText).join(", ")}`);
  return `${lines.join("\n")}\nNext: ${escapeText(why.next)}\n`;
}

function decisionList(decisions: readonly Decision[]): string {
  if (decisions.length === 0) return "Nothing waits for you.\n";
  return decisions
    .map((decision) => {
      const options = Object.entries((decision.options ?? {}) as { [answer: string]: string });
      const how = decision.kind === "approval" || decision.kind === "review" ? `pawl approve ${decision.id} | pawl deny ${decision.id} --reason "…"` : `pawl answer ${decision.id} ${options.length > 0 ? options.map(([name]) => name).join("|") : '"…"'}`;
      const details = decision.details === null ? "" : `\n  ${value(decision.details)}`;
      return `${decision.id}  ${escapeText(decision.question)}${details}${options.map(([name, does]) => `\n  ${name}: ${does}`).join("")}\n  since ${decision.created_at}; ${how}\n`;
    })
    .join("\n");
}

function batchDetail({ batch, summary, items }: { batch: Batch; summary: BatchSummary; items: readonly { position: number; name: string; task_id: number; status: string }[] }, page: Page): string {
  const remembered = (["executor", "verifier", "limits"] as const).filter((field) => batch[field] !== null).map((field) => `${field}: ${value(batch[field])}`);
  return `${batch.id}${batch.source ? ` from ${escapeText(batch.source)}` : ""}, made ${batch.created_at}\n${progressLine(summary.completed, summary.total)}\n${counts(summary)}\n${remembered.map((line) => `${line}\n`).join("")}${table(page.io, ["no", "task", "status", "item"], items.map((item) => [String(item.position), String(item.task_id), `${GLYPHS[item.status]} ${item.status}`, item.name]))}`;
}

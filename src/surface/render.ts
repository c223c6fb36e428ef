// What an operation gave, as text for people: one function for each output kind. Stored text is escaped before it is
// printed; nothing here is meant to be parsed (that is what --json is for).
import { createColors } from "picocolors";
import { parseIso } from "../base/clock.ts";
import { formatDuration } from "../base/duration.ts";
import type { Json } from "../base/json.ts";
import type { BatchSummary } from "../core/batch.ts";
import { progressLine } from "../core/progress.ts";
import { STATUSES, type Batch, type Decision, type Output, type Status, type Step, type Task, type Transition } from "../core/records.ts";
import type { Edit } from "../core/edit.ts";
import { standsLine } from "../core/breaker.ts";
import type { ShownChildren } from "../core/children.ts";
import type { PawlEvent } from "../core/event.ts";
import type { StatusReport } from "../core/status.ts";
import type { Claim } from "../state.ts";
import type { Why } from "../core/why.ts";
import { shellQuote } from "../core/words.ts";
import { escapeText, oneLine } from "./escape.ts";
import { renderBackup, renderCopy, renderHealth } from "./health.ts";
import type { Page } from "./page.ts";
import { agentDiff, agentList, agentPage, agentStatePage, budgetPage, messageList, patchLine, patchList } from "./render-agent.ts";
import { breakerGone, breakerList, breakerPage } from "./render-breaker.ts";
import { childLines, eventBlock, eventList } from "./render-event.ts";
import { renderPrime } from "./render-prime.ts";
import { artifactBlock, artifactContent, artifactList, artifactsCollected, memoriesForgotten, memoryBlock, memoryConflictList, memoryList, memoryStored, relationLine, relationList } from "./render-memory.ts";
import { renderReport } from "./report.ts";
import { scheduleBlock, scheduleList } from "./render-schedule.ts";
import { table, type Cell } from "./table.ts";

const GLYPHS: { readonly [status in Status]: string } = { pending: "○", in_progress: "◐", waiting: "◇", review: "◑", completed: "✓", failed: "✗", cancelled: "–" };
const COLORS = { pending: null, in_progress: "cyan", waiting: "yellow", review: "magenta", completed: "green", failed: "red", cancelled: "dim" } as const satisfies { [status in Status]: string | null };

const RENDERERS: { readonly [output: string]: (data: never, page: Page) => string } = {
  schedule: scheduleBlock,
  "schedule-list": scheduleList,
  task: taskBlock,
  "task-gone": ({ id, description }: Task) => `Task ${id} removed: ${oneLine(description, 200)}\n`,
  reset: ({ reset, task }: { reset: number; task: Task | null }, page: Page) => (task ? taskBlock(task, page) : `${counted(reset, "task")} reset\n`),
  "task-list": taskList,
  "task-detail": taskDetail,
  status: statusPage,
  history,
  why: whyPage,
  decision: decisionLine,
  "decision-list": decisionList,
  claim: claimed,
  prime: renderPrime,
  batch: batchPage,
  "batch-list": batchList,
  import: imported,
  agent: agentPage,
  "agent-list": agentList,
  "agent-state": agentStatePage,
  "agent-diff": agentDiff,
  patch: patchLine,
  "patch-list": patchList,
  "message-list": messageList,
  budget: budgetPage,
  breaker: breakerPage,
  "breaker-list": breakerList,
  "breaker-gone": breakerGone,
  event: eventBlock,
  "event-taken": (event: PawlEvent | null) => (event ? eventBlock(event) : "No event came.\n"),
  "event-list": eventList,
  artifact: artifactBlock,
  "artifact-list": artifactList,
  "artifact-content": artifactContent,
  "artifact-gc": artifactsCollected,
  memory: memoryBlock,
  "memory-stored": memoryStored,
  "memory-list": memoryList,
  "memory-forgotten": memoriesForgotten,
  "memory-conflicts": memoryConflictList,
  relation: relationLine,
  "relation-list": relationList,
  report: renderReport,
  doctor: renderHealth,
  backup: renderBackup,
  copy: renderCopy,
};

/** The text of `data`, an output of the kind `output`, with a line end. */
export function render(output: string, data: unknown, page: Page): string {
  const renderer = RENDERERS[output];
  return renderer ? renderer(data as never, page) : `${escapeText(JSON.stringify(data, null, 2))}\n`;
}

/* ---------- small parts ---------- */

function counted(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

function painted({ io }: Page, status: Status): (text: string) => string {
  const color = COLORS[status];
  return color === null ? (text) => text : createColors(io.color)[color];
}

function dim({ io }: Page): (text: string) => string {
  return createColors(io.color).dim;
}

/** A time; on a terminal with how long ago it was, or how long it will be. */
function when(at: string, { io, now }: Page): string {
  if (!io.tty) return at;
  const ms = now - parseIso(at);
  return `${at} (${ms >= 0 ? `${formatDuration(ms)} ago` : `in ${formatDuration(-ms)}`})`;
}

/** A stored value: a text as it stands, anything else as JSON; further lines under the first. */
function valueOf(json: Json, indent: string): string {
  const text = escapeText(typeof json === "string" ? json : JSON.stringify(json, null, 2)).trimEnd();
  return text.includes("\n") ? `\n${text.replaceAll(/^/gm, indent)}` : ` ${text}`;
}

/* ---------- tasks ---------- */

function taskLine(task: Task, page: Page): string {
  const paint = painted(page, task.status);
  return `${paint(GLYPHS[task.status])} task ${task.id} ${paint(stateOf(task))}: ${oneLine(task.description, page.io.tty ? Math.max(page.io.columns - 30, 40) : 500)}\n`;
}

/** Its status and, for what is not due, why not. */
function stateOf(task: Task): string {
  return task.status === "pending" && !task.ready ? `pending (${task.run_at ? "later" : task.line ? "in line" : "blocked"})` : task.status;
}

/** A task something was just done to: the line, and what a person would ask next. */
function taskBlock(task: Task, page: Page): string {
  const error = task.error && (task.status === "failed" || task.status === "pending") ? `  error:${valueOf(task.error.message, "    ")}\n` : "";
  const later = task.run_at && task.status === "pending" ? `  runs at: ${when(task.run_at, page)}\n` : "";
  return `${taskLine(task, page)}${error}${later}`;
}

function claimed(claim: Claim | null, page: Page): string {
  if (!claim) return "Nothing is due.\n";
  const { task, token, again, answers } = claim;
  const told = (answers ?? []).map(({ id, question, answer, reason }) => `\n  ${id} ${oneLine(question, 200)}: ${oneLine(answer ?? "", 200)}${reason ? ` (${oneLine(reason, 200)})` : ""}`).join("");
  const until = task.lease_expires_at ? `\n  held until: ${when(task.lease_expires_at, page)}` : "";
  return `${taskLine(task, page)}${again ? "  it was yours already\n" : ""}  token: ${token}${until}${told}\n  next: pawl complete ${task.id} --token ${token} --result "…"\n`;
}

function taskList(tasks: readonly Task[], page: Page): string {
  if (tasks.length === 0) return "No tasks.\n";
  const priorities = tasks.some((task) => task.priority !== 5);
  const rows = tasks.map((task): (Cell | string)[] => [
    String(task.id), { text: `${GLYPHS[task.status]} ${stateOf(task)}`, paint: painted(page, task.status) }, `${task.attempts}/${task.max_attempts}`,
    ...(priorities ? [String(task.priority)] : []), task.description,
  ]);
  const text = table(page.io, ["id", "status", "tries", ...(priorities ? ["priority"] : []), "task"], rows);
  if (!page.limit || tasks.length < page.limit) return text;
  return `${text}These are ${tasks.length}; there may be more: add --after ${tasks.at(-1)!.id}, or --limit ${page.limit * 10}.\n`;
}

/** Fields of every task that say nothing about this one. */
const HIDDEN = new Set(["id", "description", "status", "ready", "continues", "has_dependents", "has_children", "children_due", "revision", "fence", "max_attempts", "slot", "line"]);
const DEFAULTS: { readonly [field: string]: Json } = { queue: "default", priority: 5, takeovers: 0, reviews: 0, round: 1 };

function taskDetail({ task, steps, children, agent, outputs }: { task: Task; steps: readonly Step[]; children?: ShownChildren; agent?: { readonly revision: number }; outputs?: readonly Output[] }, page: Page): string {
  const lines = [`${painted(page, task.status)(GLYPHS[task.status])} task ${task.id} ${painted(page, task.status)(stateOf(task))}`, `  description:${valueOf(task.description, "    ")}`];
  for (const [field, value] of Object.entries(task) as [string, Json][]) {
    if (HIDDEN.has(field) || value === null || value === DEFAULTS[field] || (Array.isArray(value) && value.length === 0)) continue;
    lines.push(`  ${escapeText(field)}:${shownField(field, value, task, page)}`);
  }
  if (steps.length > 0) lines.push("  steps:", ...steps.map((step) => `    ${stepLine(step, task, page)}`));
  if (children) lines.push(...childLines(children));
  if (agent) lines.push(`  agent: revision ${agent.revision} (pawl agent show ${task.id})`);
  for (const output of outputs ?? []) lines.push(...outputLines(output, page));
  if (outputs?.length === 0) lines.push("  no command has written anything");
  return `${lines.join("\n")}\n`;
}

function shownField(field: string, value: Json, task: Task, page: Page): string {
  if (field === "attempts") return ` ${task.attempts} of ${task.max_attempts}`;
  if (field === "error") return valueOf(task.error!.message, "    ");
  if (field === "timeout_ms") return ` ${formatDuration(value as number)}`;
  if (Array.isArray(value) && value.every((item) => typeof item !== "object")) return ` ${escapeText(value.join(", "))}`;
  if (field.endsWith("_at") && typeof value === "string") return ` ${when(escapeText(value), page)}`;
  return valueOf(value, "    ");
}

const STEP_GLYPHS = { completed: "✓", failed: "✗", started: "?" } as const;

function stepLine(step: Step, task: Task, page: Page): string {
  const took = step.ended_at === null ? "started, outcome not recorded" : formatDuration(Math.max(parseIso(step.ended_at) - parseIso(step.started_at), 0));
  const told = step.error ? step.error.message : step.output_artifact ? `in artifact ${step.output_artifact}` : step.output === null ? "" : typeof step.output === "string" ? step.output : JSON.stringify(step.output);
  const round = step.round === task.round ? "" : ` round ${step.round}`;
  const head = `${STEP_GLYPHS[step.status]} ${oneLine(step.key, 60)}${round} (${took})`;
  return told === "" ? head : `${head}: ${oneLine(told, Math.max(page.io.columns - head.length - 6, 40))}`;
}

function outputLines(output: Output, page: Page): string[] {
  const how = output.exit_code === null ? `ended by ${output.signal ?? "a signal"}` : `exit code ${output.exit_code}`;
  const parts: [string, Json][] = [["stderr", output.stderr], ["stdout", output.stdout], ["details", output.details]];
  return [`  ${output.part} ${when(output.at, page)}: ${oneLine(output.command, 200)} (${how})`, ...parts.filter(([, value]) => value !== null && value !== "").map(([name, value]) => `    ${name}:${valueOf(value, "      ")}`)];
}

/* ---------- where everything stands ---------- */

function countsOf(summary: BatchSummary, page: Page): string {
  return STATUSES.filter((status) => summary[status] > 0).map((status) => painted(page, status)(`${GLYPHS[status]} ${summary[status]} ${status}`)).join("  ");
}

function statusPage(report: StatusReport, page: Page): string {
  const { tasks } = report;
  const lines = [`State: ${escapeText(report.state)}`, progressLine(tasks.completed, tasks.total)];
  if (tasks.total > 0) lines.push(countsOf(tasks, page));
  if (tasks.blocked > 0) lines.push(`${tasks.blocked} of the pending ${tasks.blocked === 1 ? "is" : "are"} blocked by others`);
  for (const { id, source, summary, paused_until } of report.batches) {
    lines.push("", `${id}${source ? ` (${escapeText(source)})` : ""}: ${summary.completed}/${summary.total} completed (${summary.progress_percent}%)`, `  ${countsOf(summary, page)}`, ...(paused_until === null ? [] : [`  usage limit until ${when(paused_until, page)}; nothing is started before`]), `  next: pawl run --resume ${id}`);
  }
  for (const breaker of report.breakers) lines.push("", oneLine(standsLine(breaker, page.now) ?? "", 1_000));
  if (report.decisions > 0) lines.push("", `${counted(report.decisions, "decision")} ${report.decisions === 1 ? "waits" : "wait"} for you: pawl inbox`);
  for (const edit of report.edits) lines.push("", ...editLines(edit, page));
  if (report.workers.length > 0) lines.push("", "Workers:", ...report.workers.map((worker) => `  ${oneLine(worker.label, 40)} (pid ${worker.pid} on ${oneLine(worker.host, 40)}) ${worker.dead ? "is gone; the next command or worker takes over what it left" : `since ${when(worker.started_at, page)}`}`));
  return `${lines.join("\n")}\n`;
}

/** A hand edit that waits for a person: what is wrong with it, where it is, what to do. */
function editLines(edit: Edit, page: Page): string[] {
  if (edit.status === "new") return ["The state file was edited by hand; the next command that writes takes it in."];
  const settle = (id: string) => `  next: pawl doctor --accept-edit ${id}, or: pawl doctor --discard-edit ${id}`;
  if (edit.status === "broken") {
    return [`The state file is broken: ${oneLine(edit.reason ?? "", 500)}`, "  It stays as it is, and no new command writes until it is mended or settled.", edit.repairs === null ? `  next: mend it, or: pawl doctor --discard-edit ${edit.id}` : settle(edit.id)];
  }
  const refusals = edit.refusals.slice(0, 5).map(({ at, task, reason }) => `  ${task === null ? oneLine(at, 60) : `task ${task}`}: ${oneLine(reason, 300)}`);
  const more = edit.refusals.length > 5 ? [`  and ${edit.refusals.length - 5} more`] : [];
  return [`Hand edit ${edit.id} of ${when(edit.at, page)}: ${counted(edit.changes, "change")} taken over, ${counted(edit.refusals.length, "refusal")}`, ...refusals, ...more, `  the edited file: ${escapeText(edit.kept ?? "")}`, settle(edit.id)];
}

function history({ transitions, broken_at }: { transitions: readonly Transition[]; broken_at: number | null }, page: Page): string {
  const rows = transitions.map((t) => [String(t.seq), when(t.at, page), t.actor, t.event, t.from_status === t.to_status ? (t.to_status ?? "") : `${t.from_status ?? "·"} → ${t.to_status ?? "·"}`, t.reason ?? ""]);
  const text = table(page.io, ["no", "at", "actor", "event", "status", "reason"], rows);
  return broken_at === null ? text : `${text}${createColors(page.io.color).red(`The chain is broken at entry ${broken_at}: it, or what stood before it, is not what was recorded.`)}\n`;
}

function whyPage(why: Why, page: Page): string {
  const { attempts, resume } = why;
  const lines = [`${painted(page, why.status as Status)(GLYPHS[why.status as Status])} task ${why.id}: ${oneLine(why.description, 80)}`, oneLine(why.summary, 2_000)];
  lines.push(`Since: ${when(why.since, page)}`);
  lines.push(`Attempts: ${attempts.made} of ${attempts.max}${attempts.round > 1 ? `, round ${attempts.round}` : ""}${attempts.takeovers > 0 ? `, ${counted(attempts.takeovers, "takeover")}` : ""}`);
  for (const end of why.tries) lines.push(`  ${when(end.at, page)} ${end.event}${end.reason ? `: ${oneLine(end.reason, 200)}` : ""}`);
  if (why.feedback) lines.push(`Feedback:${valueOf(why.feedback, "  ")}`);
  for (const blocker of why.blockers) lines.push(`Blocked by task ${blocker.id} (${blocker.status})`);
  for (const decision of why.decisions) lines.push(`Decision ${decision.id} since ${when(decision.since, page)}: ${oneLine(decision.question, 200)}`);
  if (why.owner) lines.push(`Owner: ${oneLine(why.owner.label ?? why.owner.worker, 60)}${why.owner.pid === null ? "" : ` (pid ${why.owner.pid})`}${why.owner.lease_expires_at ? `, lease until ${when(why.owner.lease_expires_at, page)}` : ""}`);
  const plan: [string, readonly string[]][] = [["skips", resume.skip], ["checks or asks about", resume.check], ["runs again", resume.redo]];
  for (const [does, keys] of plan) if (keys.length > 0) lines.push(`A resume ${does}: ${escapeText(keys.join(", "))}`);
  return `${lines.join("\n")}\nNext: ${escapeText(why.next)}\n`;
}

/* ---------- decisions ---------- */

function decisionLine(decision: Decision): string {
  const answer = decision.status === "answered" && decision.answer !== null ? `: ${oneLine(decision.answer, 200)}` : "";
  return `Decision ${decision.id} ${decision.status}${answer}${decision.task_id === null ? "" : `; see: pawl why ${decision.task_id}`}\n`;
}

/** Everything a person needs to decide: the question, exactly what it is about, what each answer does. */
function decisionList(decisions: readonly Decision[], page: Page): string {
  if (decisions.length === 0) return "Nothing waits for you.\n";
  return decisions.map((decision) => decisionBlock(decision, page)).join("\n");
}

function decisionBlock(decision: Decision, page: Page): string {
  const options = Object.entries((decision.options ?? {}) as { [answer: string]: string });
  const yesNo = ["approval", "review", "action"].includes(decision.kind);
  const lines = [`${createColors(page.io.color).yellow(decision.id)}  ${escapeText(decision.question)}`];
  lines.push(`  ${decision.kind} by ${escapeText(decision.asked_by)}${decision.task_id === null ? "" : ` for task ${decision.task_id}`}, since ${when(decision.created_at, page)}${decision.expires_at ? `, ${decision.on_expiry === "wait" ? "wanted by" : decision.escalated_at ? "was due" : "expires"} ${when(decision.expires_at, page)}` : ""}`);
  if (decision.details !== null) lines.push(`  details:${valueOf(decision.details, "    ")}`);
  if (decision.kind === "budget") lines.push(`  pawl agent budget ${budgetTask(decision)} --add NAME=NUMBER   go on with so much more`, `  pawl deny ${decision.id} --reason "…"${does(options, "deny")}`);
  else if (yesNo) lines.push(`  pawl approve ${decision.id}${does(options, "approve")}`, ...(decision.kind === "action" ? [`  pawl approve ${decision.id} --edit 'ARGUMENTS AS JSON'`] : []), `  pawl deny ${decision.id} --reason "…"${does(options, "deny")}`);
  else if (options.length === 0) lines.push(`  pawl answer ${decision.id} "…"`);
  else for (const [name] of options) lines.push(`  pawl answer ${decision.id} ${escapeText(name)}${does(options, name)}`);
  return `${lines.join("\n")}\n`;
}

/** The task whose budget it is, which may be above the one that asks. */
function budgetTask(decision: Decision): number | null {
  return (decision.details as { budget_id?: number } | null)?.budget_id ?? decision.task_id;
}

function does(options: readonly (readonly [string, string])[], name: string): string {
  const text = options.find(([option]) => option === name)?.[1];
  return text ? `   ${escapeText(text)}` : "";
}

/* ---------- batches ---------- */

function batchList(batches: readonly Batch[], page: Page): string {
  if (batches.length === 0) return "No batches.\n";
  return table(page.io, ["id", "made", "list"], batches.map((batch) => [batch.id, when(batch.created_at, page), batch.source ?? ""]));
}

type Item = { readonly position: number; readonly name: string; readonly task_id: number; readonly status: Status };

function batchPage({ batch, summary, items }: { batch: Batch; summary: BatchSummary; items: readonly Item[] }, page: Page): string {
  const lines = [`${batch.id}${batch.source ? ` from ${escapeText(batch.source)}` : ""}, made ${when(batch.created_at, page)}`, progressLine(summary.completed, summary.total)];
  if (summary.total > 0) lines.push(countsOf(summary, page));
  for (const field of ["executor", "verifier", "limits"] as const) if (batch[field] !== null) lines.push(`${dim(page)(`${field}:`)} ${escapeText(JSON.stringify(batch[field]))}`);
  const rows = items.map((item): (Cell | string)[] => [String(item.position), String(item.task_id), { text: `${GLYPHS[item.status]} ${item.status}`, paint: painted(page, item.status) }, item.name]);
  return `${lines.join("\n")}\n${rows.length === 0 ? "" : table(page.io, ["no", "task", "status", "item"], rows)}`;
}

function imported({ batch, report, created }: { batch: Batch; report: { added: number; known: number; gone: number; back: number }; created: boolean }): string {
  const parts = [`${report.added} added`, `${report.known} known already`];
  if (report.gone > 0) parts.push(`${report.gone} no longer in the list (kept)`);
  if (report.back > 0) parts.push(`${report.back} in the list again`);
  return `${batch.id}${created ? " made" : ""}: ${parts.join(", ")}\n  next: pawl run ${batch.source ? escapeText(shellQuote(batch.source)) : `--resume ${batch.id}`} --exec "…"\n`;
}

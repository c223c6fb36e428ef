// Agents as text: what one knows and plans, how that changed, what it has said and spent.
import { formatDuration } from "../base/duration.ts";
import { factOf, type Agent, type AgentDiff, type AgentState, type AgentView, type Entry, type Fact } from "../core/agent.ts";
import { RESOURCES, type Resource, type Spend, type Spent } from "../core/budget.ts";
import type { BudgetView } from "../core/budgets.ts";
import type { Message } from "../core/message.ts";
import type { PatchRecord } from "../core/patch.ts";
import { escapeText, oneLine } from "./escape.ts";
import { textOf, type Page } from "./page.ts";
import { table } from "./table.ts";

export function agentList(agents: readonly Agent[], page: Page): string {
  if (agents.length === 0) return "No agents.\n";
  return table(page.io, ["task", "revision", "changed", "goal"], agents.map((agent) => [String(agent.task_id), String(agent.revision), agent.updated_at, agent.goal]));
}

export function agentPage({ agent, state, spend }: AgentView): string {
  const model = agent.model === null ? "" : `, model ${oneLine(agent.model, 80)}`;
  return `Agent of task ${agent.task_id} at revision ${agent.revision}${model}\n${stateLines(state).join("\n")}\n${budgetLines(spend).join("\n")}\n`;
}

export function agentStatePage(state: AgentState): string {
  return `${stateLines(state).join("\n")}\n`;
}

function stateLines(state: AgentState): string[] {
  return [
    `Goal: ${oneLine(state.goal, 1_000)}`,
    ...section("Plan", state.plan.map((line, i) => `${i + 1}. ${oneLine(line, 500)}`)),
    ...section("Known", state.known_facts.map(factLine)),
    ...section("Open questions", state.open_questions.map((question) => oneLine(question, 500))),
    ...section("Artifacts", state.artifacts.map((note) => oneLine(`${note.artifact_id} (${note.type}, ${note.bytes} bytes): ${note.summary}`, 500))),
    ...section("Risk flags", state.risk_flags.map((flag) => oneLine(flag, 200))),
  ];
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [`${title}:`, ...lines.map((line) => `  ${line}`)];
}

function factLine({ key, value, source, confidence, artifact_id }: Fact): string {
  const sure = confidence === undefined ? "" : `, confidence ${confidence}`;
  const from = artifact_id === undefined ? "" : `, from ${artifact_id}`;
  return oneLine(`${key}: ${textOf(value)} (${source}${sure}${from})`, 500);
}


/* ---------- patches ---------- */

export function patchLine(patch: PatchRecord): string {
  return `Agent of task ${patch.task_id} is at revision ${patch.revision}: ${summaryOf(patch)}\n`;
}

export function patchList(patches: readonly PatchRecord[], page: Page): string {
  if (patches.length === 0) return "No patches.\n";
  return table(page.io, ["revision", "at", "by", "what"], patches.map((patch) => [String(patch.revision), patch.at, patch.author, `${summaryOf(patch)}${patch.reason === null ? "" : `: ${patch.reason}`}`]));
}

/** `append_known_facts 2, replace_plan 4` */
function summaryOf({ delta }: PatchRecord): string {
  const parts = Object.entries(delta).map(([field, value]) => (Array.isArray(value) ? `${field} ${value.length}` : field));
  return oneLine(parts.join(", "), 300);
}

export function agentDiff({ from, to, added, ended }: AgentDiff): string {
  if (added.length + ended.length === 0) return `Nothing differs between revision ${from} and ${to}.\n`;
  const lines = [...ended.map((entry) => `- ${entryLine(entry)}${entry.ended_as === null || from > to ? "" : ` [${entry.ended_as}${entry.note === null ? "" : `: ${oneLine(entry.note, 200)}`}]`}`), ...added.map((entry) => `+ ${entryLine(entry)}`)];
  return `Revision ${from} to ${to}\n${lines.join("\n")}\n`;
}

function entryLine(entry: Entry): string {
  if (entry.part === "fact") return `fact ${factLine(factOf(entry))}`;
  if (entry.part === "plan") return oneLine(`plan ${(entry.value as string[]).join("; ")}`, 1_000);
  if (entry.part === "question") return oneLine(`question ${textOf(entry.value)}`, 500);
  return oneLine(`${entry.part} ${entry.key}`, 500);
}

/* ---------- messages ---------- */

export function messageList(messages: readonly Message[]): string {
  if (messages.length === 0) return "No messages.\n";
  return messages.map((message) => `${message.seq} ${escapeText(message.role)}${message.tokens === null ? "" : ` (${message.tokens} tokens)`}, ${message.created_at}\n${indented(textOf(message.content))}\n`).join("");
}

function indented(text: string): string {
  return escapeText(text.length > 4_000 ? `${text.slice(0, 4_000)}… (${text.length} characters; all of it: --json)` : text).split("\n").map((line) => `  ${line}`).join("\n");
}

/* ---------- budgets ---------- */

export function budgetPage({ task_id, parent_id, spend, reservations }: BudgetView): string {
  const lines = [`Budget of task ${task_id}${parent_id === null ? "" : `; what it spends counts for task ${parent_id} too`}`, ...budgetLines(spend)];
  for (const { key, at } of reservations) lines.push(`  open since ${at}: ${oneLine(key, 200)}`);
  return `${lines.join("\n")}\n`;
}

function budgetLines(spend: Spend): string[] {
  const lines = RESOURCES.filter((resource) => isUsed(spend[resource])).map((resource) => `  ${resource}: ${spentText(resource, spend[resource])}${spend.pressure.includes(resource) ? " (runs low)" : ""}`);
  const cost = spend.cost === "unknown" ? [`  cost: unknown for ${spend.unpriced_calls} ${spend.unpriced_calls === 1 ? "call" : "calls"} to a model without a price`] : [];
  return lines.length + cost.length === 0 ? ["Spent: nothing yet"] : ["Spent:", ...lines, ...cost];
}

const isUsed = ({ limit, spent, reserved, in_doubt }: Spent): boolean => limit !== null || spent + reserved + in_doubt > 0;

function spentText(resource: Resource, { limit, spent, reserved, in_doubt }: Spent): string {
  const shown = (n: number) => (resource === "wall_time_ms" ? formatDuration(n) : String(n));
  const apart = [...(reserved > 0 ? [`${shown(reserved)} reserved`] : []), ...(in_doubt > 0 ? [`${shown(in_doubt)} in doubt`] : [])];
  return `${shown(spent)}${limit === null ? "" : ` of ${shown(limit)}`}${apart.length === 0 ? "" : `, and ${apart.join(", ")}`}`;
}

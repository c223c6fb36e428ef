// Circuit breakers as text: where each stands, what it has counted of its limits, and what happened to it.
import { formatDuration } from "../base/duration.ts";
import { limitsText, standsLine, type Breaker } from "../core/breaker.ts";
import { escapeText, oneLine } from "./escape.ts";
import type { Page } from "./page.ts";
import { table } from "./table.ts";

const WORDS = { closed: "closed", open: "open", half_open: "half open" } as const;

export function breakerList(breakers: readonly Breaker[], page: Page): string {
  if (breakers.length === 0) return "No breakers.\n";
  return table(page.io, ["id", "status", "failures", "limits", "reason"], breakers.map((breaker) => [breaker.id, WORDS[breaker.status], String(breaker.failures), limitsText(breaker.limits), breaker.reason ?? ""]));
}

export function breakerPage(breaker: Breaker, { now }: Page): string {
  const { id, status, limits, log } = breaker;
  const lines = [`breaker ${escapeText(id)} ${WORDS[status]}`];
  const stands = standsLine(breaker, now);
  if (stands !== null) lines.push(`  ${oneLine(stands, 1_000)}`);
  const counts = [`${of(breaker.failures, limits.failures)} failures in a row`, `${of(breaker.iterations, limits.iterations)} iterations`, `${of(breaker.tokens, limits.tokens)} tokens`, `${of(Number(breaker.cost.toFixed(6)), limits.cost)} cost`];
  lines.push(`  counted: ${counts.join(", ")}`);
  if (limits.wall_ms !== undefined) lines.push(`  time: ${breaker.started_at === null ? "not started" : `since ${breaker.started_at}`}, of ${formatDuration(limits.wall_ms)}`);
  lines.push(`  limits: ${limitsText(limits) || "none; opened by hand"}`);
  for (const event of log) lines.push(`  ${event.at} ${oneLine(event.actor, 40)} ${WORDS[event.status]}: ${oneLine(event.reason, 300)}`);
  return `${lines.join("\n")}\n`;
}

export function breakerGone({ id }: Breaker): string {
  return `Breaker ${escapeText(id)} removed\n`;
}

function of(count: number, limit: number | undefined): string {
  return limit === undefined ? String(count) : `${count} of ${limit}`;
}

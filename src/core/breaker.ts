// A circuit breaker over a queue or a batch: what it counts, when it opens, and whom it lets through; pure. It is a record,
// so its state, its counts and its reason outlive every process. Invariants: a count that reaches its limit and the opening
// are one change; while it is open no claim comes through; half open, one task does at a time.

//              a limit is reached, or a person opens it          its cool-down is over: a claim takes one task, the probe
//   closed ──────────────────────────────────────────────▶ open ─────────────────────────────────────────▶ half_open
//     ▲ ▲                                                   │ ▲                                              │  │  ▲
//     │ └────────────────── a person resets it ─────────────┘ └────── the probe failed: a longer cool-down ──┘  │  └ the probe was
//     └──────────────────────────────────────── the probe completed ────────────────────────────────────────────┘    lost: another
import { iso, parseIso } from "../base/clock.ts";
import { formatDuration, parseDuration } from "../base/duration.ts";
import { PawlError } from "../base/errors.ts";
import { LIMITS } from "../base/limits.ts";
import type { Addition, Fields, Guard, Kind, Put } from "../store/store.ts";
import type { Task } from "./records.ts";
import type { Outcome } from "./task.ts";

export type BreakerStatus = "closed" | "open" | "half_open";

/** What opens it; each may be left out. `cooldown_ms` is how long it stays open after failures before it lets a probe through. */
export type BreakerLimits = {
  /** Failed executions in a row. */
  readonly failures?: number;
  /** Executions altogether, since it was set up or reset. */
  readonly iterations?: number;
  /** Time since its first claim, in ms, whether or not a process ran. */
  readonly wall_ms?: number;
  /** As executors report them. */
  readonly tokens?: number;
  /** In dollars, or whatever executors report. */
  readonly cost?: number;
  readonly cooldown_ms?: number;
};

/** One entry of its log: the newest LIMITS.breakerLog are kept. */
export type BreakerEvent = { readonly at: string; readonly actor: string; readonly status: BreakerStatus; readonly reason: string };

export type Breaker = {
  /** `queue:NAME` or `batch:ID`. */
  readonly id: string;
  readonly status: BreakerStatus;
  readonly limits: BreakerLimits;
  /** Failures in a row. Counted while there is a limit for them. */
  readonly failures: number;
  readonly iterations: number;
  readonly tokens: number;
  readonly cost: number;
  /** Its first claim since it was set up or reset. */
  readonly started_at: string | null;
  /** Why it is not closed, and since when. */
  readonly reason: string | null;
  readonly opened_at: string | null;
  /** When a probe may run; null: only a person closes it. */
  readonly retry_at: string | null;
  /** Openings in a row; each doubles the cool-down. */
  readonly opens: number;
  readonly probe_task: number | null;
  readonly probe_fence: number | null;
  readonly log: readonly BreakerEvent[];
  readonly created_at: string;
  readonly updated_at: string;
  /** Raised by everything but the counts. */
  readonly revision: number;
};

export const BREAKER_KIND: Kind = {
  name: "breaker",
  fields: {
    id: "text", status: "text", limits: "json", failures: "integer", iterations: "integer", tokens: "integer", cost: "real", started_at: "text", reason: "text", opened_at: "text",
    retry_at: "text", opens: "integer", probe_task: "integer", probe_fence: "integer", log: "json", created_at: "text", updated_at: "text", revision: "integer",
  },
  key: ["id"],
  indexes: { status: { fields: ["status"] } },
};

/** Who changes it, and when (ms). */
type By = { readonly actor: string; readonly now: number };
/** What goes into the change that claims or ends a task. */
export type Part = { readonly guards: readonly Guard[]; readonly puts: readonly Put[]; readonly additions: readonly Addition[] };
/** What an execution used, as its executor reports it. */
export type Usage = { readonly tokens?: number; readonly cost?: number };

/** The breakers over the tasks of a queue and, when they are in one, of a batch. */
export function breakerIds({ queue, batch_id }: { readonly queue: string; readonly batch_id: string | null }): string[] {
  return batch_id === null ? [`queue:${queue}`] : [`queue:${queue}`, `batch:${batch_id}`];
}

export function checkBreakerId(id: string): void {
  if (/^(queue|batch):./.test(id) && id.length <= LIMITS.nameChars) return;
  throw new PawlError("usage", `"${id.slice(0, 80)}" names no breaker.`, { next: "A breaker is named queue:NAME or batch:ID; see: pawl breaker list." });
}

/* ---------- limits ---------- */

const WORDS: { readonly [word: string]: { readonly field: keyof BreakerLimits; readonly read: (text: string, word: string) => number } } = {
  failures: { field: "failures", read: whole },
  iterations: { field: "iterations", read: whole },
  time: { field: "wall_ms", read: (text) => parseDuration(text, { min: 1, name: "time of --breaker" }) },
  tokens: { field: "tokens", read: whole },
  cost: { field: "cost", read: amount },
  cooldown: { field: "cooldown_ms", read: (text) => parseDuration(text, { min: 1, name: "cooldown of --breaker" }) },
};

/** Limits as people write them: `failures=5,cooldown=1m,iterations=100,time=2h,tokens=1000000,cost=5`. Throws `usage`. */
export function parseBreaker(text: string): BreakerLimits {
  const limits: { [field: string]: number } = {};
  for (const part of text.split(",")) {
    const [word = "", value] = part.split("=", 2).map((side) => side.trim());
    const known = Object.hasOwn(WORDS, word) ? WORDS[word]! : undefined;
    if (!known || !value) throw badLimit(`"${part.trim().slice(0, 40)}" is no limit of a breaker.`);
    if (Object.hasOwn(limits, known.field)) throw badLimit(`A breaker has one limit of ${word}, not two.`);
    limits[known.field] = known.read(value, word);
  }
  checkLimits(limits);
  return limits;
}

function whole(text: string, word: string): number {
  if (!/^[0-9]{1,15}$/.test(text) || Number(text) < 1) throw badLimit(`${word} takes a whole number of at least 1, not "${text.slice(0, 40)}".`);
  return Number(text);
}

function amount(text: string, word: string): number {
  if (!/^[0-9]{1,9}(\.[0-9]{1,9})?$/.test(text) || Number(text) === 0) throw badLimit(`${word} takes an amount such as 5 or 0.50, not "${text.slice(0, 40)}".`);
  return Number(text);
}

function badLimit(message: string): PawlError {
  return new PawlError("usage", message, { next: "Write limits with commas between them: failures=5,cooldown=1m,iterations=100,time=2h,tokens=1000000,cost=5." });
}

/** Throws `usage` unless there is something that can open it, and each limit is a number above zero. */
export function checkLimits(limits: { readonly [field: string]: unknown }): asserts limits is BreakerLimits {
  const fields = Object.values(WORDS).map(({ field }) => field);
  for (const [field, value] of Object.entries(limits)) {
    if (value === undefined) continue;
    if (!fields.includes(field as keyof BreakerLimits)) throw badLimit(`A breaker has no limit "${field.slice(0, 40)}".`);
    const fits = field === "cost" ? Number.isFinite(value) : Number.isSafeInteger(value);
    if (!fits || (value as number) <= 0) throw badLimit(`The limit ${field} of a breaker must be a ${field === "cost" ? "" : "whole "}number above zero, not ${String(value).slice(0, 40)}.`);
  }
  if (fields.every((field) => field === "cooldown_ms" || limits[field] === undefined)) throw badLimit("A breaker needs a limit that opens it: failures, iterations, time, tokens or cost.");
}

/** The limits as people write them; the inverse of `parseBreaker`. */
export function limitsText(limits: BreakerLimits): string {
  const shown = (field: keyof BreakerLimits, n: number) => (field.endsWith("_ms") ? exact(n) : String(n));
  return Object.entries(WORDS).flatMap(([word, { field }]) => (limits[field] === undefined ? [] : [`${word}=${shown(field, limits[field])}`])).join(",");
}

/** A duration in the largest unit that loses nothing. */
function exact(ms: number): string {
  const [unit, size] = ([["h", 3_600_000], ["m", 60_000], ["s", 1_000], ["ms", 1]] as const).find(([, each]) => ms % each === 0)!;
  return `${ms / size}${unit}`;
}

/* ---------- who comes through ---------- */

export type Standing =
  /** `room`: how many executions are left. */
  | { readonly allow: "all"; readonly room: number }
  | { readonly allow: "probe" }
  | { readonly allow: "none" }
  /** Closed, and over a limit by the time that has passed or because the limit was lowered: to be opened. */
  | { readonly allow: "none"; readonly over: Over };

/** Why it must be open; `forGood`: what is used up comes back by no waiting. */
export type Over = { readonly reason: string; readonly forGood: boolean };

/** Whom it lets through now. `probe` is the task `probe_task` names, as it stands. */
export function standing(breaker: Breaker, probe: Task | null, now: number): Standing {
  if (breaker.status === "closed") {
    const over = overLimit(breaker, now);
    return over === null ? { allow: "all", room: (breaker.limits.iterations ?? Infinity) - breaker.iterations } : { allow: "none", over };
  }
  const due = breaker.status === "open" ? breaker.retry_at !== null && parseIso(breaker.retry_at) <= now : !isProbing(breaker, probe);
  return due ? { allow: "probe" } : { allow: "none" };
}

/** The probe runs as long as the ownership it was claimed in. A fence never comes back, so once lost it stays lost. */
function isProbing(breaker: Breaker, probe: Task | null): boolean {
  return probe !== null && probe.fence === breaker.probe_fence && probe.worker !== null;
}

/** Which limit is reached; null when none is. */
function overLimit(breaker: Breaker, now: number): Over | null {
  const { limits, failures, iterations, started_at } = breaker;
  const used = usedUp(breaker);
  if (used !== null) return { reason: used, forGood: true };
  if (limits.iterations !== undefined && iterations >= limits.iterations) return { reason: `${iterations} of ${limits.iterations} iterations are used up`, forGood: true };
  const ran = started_at === null ? 0 : now - parseIso(started_at);
  if (limits.wall_ms !== undefined && ran >= limits.wall_ms) return { reason: `it has been running for ${formatDuration(ran)} of ${formatDuration(limits.wall_ms)}`, forGood: true };
  if (limits.failures !== undefined && failures >= limits.failures) return { reason: `${failures} failures in a row`, forGood: false };
  return null;
}

function usedUp({ limits, tokens, cost }: Pick<Breaker, "limits" | "tokens" | "cost">): string | null {
  if (limits.tokens !== undefined && tokens >= limits.tokens) return `${tokens} of ${limits.tokens} tokens are used up`;
  if (limits.cost !== undefined && cost >= limits.cost) return `${shownCost(cost)} of ${shownCost(limits.cost)} are spent`;
  return null;
}

const shownCost = (cost: number): string => `$${Number(cost.toFixed(6))}`;

/** What a claim of these tasks writes about the breaker: guarded on nobody having changed it since it was read. */
export function admit(breaker: Breaker, claimed: readonly Outcome[], by: By): Part {
  const guards = [unchanged(breaker)];
  const probe = claimed[0]?.task;
  if (!probe) return { guards, puts: [], additions: [] };
  if (breaker.status !== "closed") {
    const set = { status: "half_open", probe_task: probe.id, probe_fence: probe.fence, retry_at: null } as const;
    return { guards, puts: [put(breaker, by, set, breaker.status === "open" ? `task ${probe.id} runs as its probe` : `its probe was lost; task ${probe.id} runs instead`)], additions: [] };
  }
  // What goes on with an attempt that a wait or a drain interrupted, or judges its result, is no new execution.
  const n = breaker.limits.iterations === undefined ? 0 : claimed.filter(({ change }) => startsAttempt(change.puts)).length;
  const additions = n === 0 ? [] : [{ kind: "breaker", key: breaker.id, field: "iterations", n, max: breaker.limits.iterations! }];
  const puts = breaker.started_at === null ? [put(breaker, by, { started_at: iso(by.now) })] : [];
  return { guards, puts, additions };
}

function startsAttempt(puts: readonly Put[]): boolean {
  return puts.some((one) => one.kind === "task" && "set" in one && one.set["attempts"] !== undefined);
}

/* ---------- what an end counts for ---------- */

/** How an execution ended: only these say something about what it runs against. A usage limit, a drain or a wait says nothing. */
const VERDICTS: { readonly [event: string]: "success" | "failure" } = { completed: "success", failed: "failure", attempt_failed: "failure", rejected: "failure" };

/** What the end of an execution writes about a breaker over its task, in the task's own change; null when nothing. */
export function tally(breaker: Breaker, before: Task, outcome: Outcome, usage: Usage, by: By): Part | null {
  const verdict = VERDICTS[eventOf(outcome) ?? ""] ?? null;
  const used = [...(usage.tokens ? [{ field: "tokens", n: usage.tokens } as const] : []), ...(usage.cost ? [{ field: "cost", n: usage.cost } as const] : [])];
  const unbounded = used.map(({ field, n }): Addition => ({ kind: "breaker", key: breaker.id, field, n }));
  if (breaker.status === "half_open" && breaker.probe_task === before.id && breaker.probe_fence === before.fence && verdict !== null) {
    const probe = `its probe, task ${before.id},`;
    const change = verdict === "success" ? put(breaker, by, CLOSED, `${probe} completed`) : put(breaker, by, opening(breaker, by.now, false), `${probe} failed: ${whyOf(outcome)}`);
    return { guards: [unchanged(breaker)], puts: [change], additions: unbounded };
  }
  if (breaker.status !== "closed") return used.length === 0 ? null : { guards: [unchanged(breaker)], puts: [], additions: unbounded };
  const { limits, failures } = breaker;
  const next = { limits, tokens: breaker.tokens + (usage.tokens ?? 0), cost: breaker.cost + (usage.cost ?? 0) };
  const failed = verdict === "failure" && limits.failures !== undefined;
  const spent = used.length === 0 ? null : usedUp(next);
  if (spent !== null || (failed && failures + 1 >= limits.failures)) {
    const reason = spent ?? `${failures + 1} failures in a row, the last of task ${before.id}: ${whyOf(outcome)}`;
    const counts = { tokens: next.tokens, cost: next.cost, failures: failed ? failures + 1 : failures };
    return { guards: [exactly(breaker)], puts: [put(breaker, by, { ...opening(breaker, by.now, spent !== null), ...counts }, reason)], additions: [] };
  }
  const puts: Put[] = verdict === "success" && failures > 0 ? [{ kind: "breaker", key: breaker.id, set: { failures: 0 } }] : [];
  const counts: readonly { readonly field: "tokens" | "cost" | "failures"; readonly n: number }[] = failed ? [...used, { field: "failures", n: 1 }] : used;
  if (puts.length + counts.length === 0) return null;
  // Bounded below the limit: whoever would reach it finds a conflict, reads again, and opens it instead.
  const additions = counts.map(({ field, n }): Addition => ({ kind: "breaker", key: breaker.id, field, n, ...(limits[field] === undefined ? {} : { max: below(limits[field]) }) }));
  return { guards: [unchanged(breaker)], puts, additions };
}

/** The greatest number below a limit. */
function below(limit: number): number {
  return limit * (1 - Number.EPSILON);
}

function eventOf({ change }: Outcome): string | null {
  const transition = change.puts.find((one) => one.kind === "transition" && "record" in one) as { record: Fields } | undefined;
  return (transition?.record["event"] as string | undefined) ?? null;
}

function whyOf(outcome: Outcome): string {
  return (outcome.task.error?.message ?? outcome.task.feedback ?? "no reason was given").slice(0, 300).toWellFormed();
}

/** Throws `usage` unless these are amounts that can be counted. */
export function checkUsage({ tokens = 0, cost = 0 }: Usage): void {
  if (Number.isSafeInteger(tokens) && tokens >= 0 && Number.isFinite(cost) && cost >= 0) return;
  throw new PawlError("usage", `What an execution used must be a whole number of tokens and a cost, none below zero, not ${tokens} and ${cost}.`);
}

/* ---------- what changes it ---------- */

const CLOSED = { status: "closed", failures: 0, opens: 0, reason: null, opened_at: null, retry_at: null, probe_task: null, probe_fence: null } as const;

/** The fields of one that opens. A total that is used up comes back by no waiting: then only a person closes it. */
function opening({ limits, opens }: Breaker, now: number, forGood: boolean): Partial<Breaker> {
  const cooldown = limits.cooldown_ms ?? LIMITS.breakerCooldownMs;
  const delay = Math.min(cooldown * 2 ** opens, Math.max(cooldown, LIMITS.breakerCooldownCapMs));
  return { status: "open", opened_at: iso(now), retry_at: forGood ? null : iso(now + delay), opens: opens + 1, probe_task: null, probe_fence: null };
}

/** Opens one that is over a limit without an execution that ended so. */
export function openOver(breaker: Breaker, over: Over, by: By): Part {
  return { guards: [exactly(breaker)], puts: [put(breaker, by, opening(breaker, by.now, over.forGood), over.reason)], additions: [] };
}

/** A person opens it: until they close it, or for `forMs`. */
export function openBreaker(breaker: Breaker, reason: string, forMs: number | null, by: By): Part {
  const retry_at = forMs === null ? null : iso(by.now + forMs);
  return { guards: [unchanged(breaker)], puts: [put(breaker, by, { ...opening(breaker, by.now, true), retry_at }, reason)], additions: [] };
}

/** A person closes it, and every count starts anew. */
export function resetBreaker(breaker: Breaker, reason: string, by: By): Part {
  return { guards: [unchanged(breaker)], puts: [put(breaker, by, { ...CLOSED, iterations: 0, tokens: 0, cost: 0, started_at: null }, reason)], additions: [] };
}

/** Other limits; what is counted stays, and so does an open breaker. Null when they are the same. */
export function changeLimits(breaker: Breaker, limits: BreakerLimits, by: By): Part | null {
  if (limitsText(breaker.limits) === limitsText(limits)) return null;
  return { guards: [unchanged(breaker)], puts: [put(breaker, by, { limits }, `limits: ${limitsText(limits)}`)], additions: [] };
}

/** A new one, closed. */
export function newBreaker(id: string, limits: BreakerLimits, now: number): Breaker {
  const at = iso(now);
  return { id, ...CLOSED, limits, iterations: 0, tokens: 0, cost: 0, started_at: null, log: [], created_at: at, updated_at: at, revision: 1 };
}

const unchanged = ({ id, revision }: Breaker): Guard => ({ kind: "breaker", key: id, is: { revision } });

function exactly({ id, revision, failures, iterations, tokens, cost }: Breaker): Guard {
  return { kind: "breaker", key: id, is: { revision, failures, iterations, tokens, cost } };
}

/** Sets fields and raises the revision; with a reason it is an event of its log, and what it says while it is not closed. */
function put(breaker: Breaker, { actor, now }: By, set: Partial<Breaker>, reason?: string): Put {
  const status = set.status ?? breaker.status;
  const told = reason === undefined ? {} : { log: [...breaker.log, { at: iso(now), actor, status, reason }].slice(-LIMITS.breakerLog), ...(set.status === "open" ? { reason } : {}) };
  return { kind: "breaker", key: breaker.id, set: { ...set, ...told, updated_at: iso(now), revision: breaker.revision + 1 } as unknown as Fields };
}

/* ---------- for people ---------- */

/** One sentence: that it lets nothing through, why, and what changes that. Null when it is closed. */
export function standsLine(breaker: Breaker, now: number): string | null {
  const { id, status, reason, opened_at, retry_at, probe_task } = breaker;
  if (status === "closed") {
    const over = overLimit(breaker, now);
    return over === null ? null : `The breaker ${id} lets nothing start: ${over.reason}. See: pawl breaker show ${id}`;
  }
  const since = `The breaker ${id} is open since ${opened_at}: ${reason}.`;
  if (status === "half_open") return `${since} Task ${probe_task} runs as its probe; when it completes, the others go on.`;
  if (retry_at === null) return `${since} It stays so until: pawl breaker reset ${id}`;
  return `${since} ${parseIso(retry_at) <= now ? "The next claim takes one task as a probe." : `One task is tried at ${retry_at}; at once with: pawl breaker reset ${id}`}`;
}

/** True when only a person lets anything through again. */
export function isStuck(breaker: Breaker, now: number): boolean {
  return (breaker.status === "open" && breaker.retry_at === null) || (breaker.status === "closed" && overLimit(breaker, now)?.forGood === true);
}


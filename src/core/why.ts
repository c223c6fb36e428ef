// Why a task stands where it stands: what it waits for and since when, what was tried, what a resume will skip, check, redo
// or ask, and the command that moves it. Reads only.
import { parseIso } from "../base/clock.ts";
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { breakerIds, standsLine, type Breaker } from "./breaker.ts";
import { getBreakers } from "./breakers.ts";
import { dueBefore } from "./claim.ts";
import { OPEN, SHOWN_CHILDREN, shownChildren, type ShownChildren } from "./children.ts";
import type { Committer } from "./committer.ts";
import { blockersOf } from "./dependency.ts";
import { DEFAULT_QUEUE } from "./new-task.ts";
import { TERMINAL, type Decision, type Output, type Step, type Task, type Transition, type WorkerRecord } from "./records.ts";
import { isGivenUp, recordOf } from "./step.ts";
import { scheduleOf } from "./schedule.ts";
import type { Slot } from "./slot.ts";
import { slotsOf } from "./slots.ts";
import type { Evidence } from "./sweep.ts";
import { shellQuote } from "./words.ts";

export type Why = {
  readonly id: number;
  readonly description: string;
  readonly status: string;
  /** Since when it is in this status. */
  readonly since: string;
  /** One sentence: where it stands and what it waits for. */
  readonly summary: string;
  /** The schedule that added it. */
  readonly schedule: string | null;
  readonly attempts: { readonly made: number; readonly max: number; readonly round: number; readonly takeovers: number };
  /** How each attempt ended, oldest first. */
  readonly tries: readonly { readonly at: string; readonly event: string; readonly reason: string | null }[];
  readonly error: Json;
  readonly feedback: string | null;
  readonly blockers: readonly { readonly id: number; readonly status: string }[];
  /** How many due tasks its queue gives out before it, counted up to 100; null when it is not due. */
  readonly ahead: number | null;
  /** The open children it waits for, the first of them. */
  readonly children: readonly { readonly id: number; readonly status: string }[];
  readonly decisions: readonly { readonly id: string; readonly question: string; readonly since: string }[];
  readonly owner: { readonly worker: string; readonly label: string | null; readonly pid: number | null; readonly lease_expires_at: string | null; readonly silent_ms: number; readonly dead: boolean } | null;
  /** The breakers that hold it back. */
  readonly breakers: readonly { readonly id: string; readonly reason: string | null; readonly retry_at: string | null }[];
  /** What the next execution does about the steps that have a record. */
  readonly resume: { readonly skip: readonly string[]; readonly check: readonly string[]; readonly redo: readonly string[] };
  /** The command that moves it. */
  readonly next: string;
};

/** Further than this nobody needs to count. */
const MOST_AHEAD = 100;
/** How an attempt can end. */
const ENDS = new Set(["attempt_failed", "failed", "rejected", "owner_lost", "released", "review_error", "completed", "parked"]);

/** `ownerState` says what is known of its worker's process; without it only the lease counts. */
export async function explain(committer: Committer, task: Task, ownerState: Evidence["ownerState"] = () => "unknown"): Promise<Why> {
  const { store } = committer;
  const [history, steps, decisions, blockers, owner, output, breakers, slots, children, queue] = await Promise.all([
    store.list("transition", { equals: { task_id: task.id } }) as Promise<unknown> as Promise<Transition[]>,
    store.list("step", { equals: { task_id: task.id } }) as Promise<unknown> as Promise<Step[]>,
    store.list("decision", { index: "task", equals: { task_id: task.id } }) as Promise<unknown> as Promise<Decision[]>,
    task.status === "pending" && !task.ready ? blockersOf(committer, task) : Promise.resolve([]),
    task.worker === null ? Promise.resolve(null) : store.get("worker", [task.worker]).then(([worker]) => (worker ?? null) as WorkerRecord | null),
    store.list("output", { equals: { task_id: task.id }, reverse: true, limit: 1 }) as Promise<unknown> as Promise<Output[]>,
    task.ready ? getBreakers(committer, breakerIds(task)) : Promise.resolve([]),
    task.line ? slotsOf(committer, task.line) : Promise.resolve([]),
    parkedOn(task).some(({ kind }) => kind === "child" || kind === "children") ? shownChildren(committer, task.id, OPEN).then(({ first }) => first) : Promise.resolve([]),
    task.status === "pending" && task.ready ? queueBefore(committer, task) : null,
  ]);
  const held = breakers.filter((breaker) => breaker !== null && standsLine(breaker, store.clock.now()) !== null) as Breaker[];
  const open = decisions.filter((decision) => decision.status === "open");
  const dead = task.worker !== null && ownerState(owner, task.worker) === "dead";
  const schedule = scheduleOf(history[0]?.reason ?? null);
  const facts = { task, blockers, queue, held, slots, open, children, owner, dead, now: store.clock.now(), lastOutput: output[0] ?? null };
  return {
    id: task.id,
    description: task.description,
    status: task.status,
    since: sinceOf(history, task),
    summary: `${summaryOf(facts)}${schedule === null ? "" : ` Schedule "${schedule}" added it.`}`,
    schedule,
    attempts: { made: task.attempts, max: task.max_attempts, round: task.round, takeovers: task.takeovers },
    tries: history.filter((t) => ENDS.has(t.event)).map((t) => ({ at: t.at, event: t.event, reason: t.reason })),
    error: task.error as unknown as Json,
    feedback: task.feedback,
    blockers,
    ahead: queue?.ahead ?? null,
    children: children.map(({ id, status }) => ({ id, status })),
    decisions: open.map((decision) => ({ id: decision.id, question: decision.question, since: decision.created_at })),
    owner: task.worker === null ? null : { worker: task.worker, label: owner?.label ?? null, pid: owner?.pid ?? null, lease_expires_at: task.lease_expires_at, silent_ms: silentMs(task, facts.now), dead },
    breakers: held.map(({ id, reason, retry_at }) => ({ id, reason, retry_at })),
    resume: TERMINAL.has(task.status) && task.status !== "failed" ? { skip: [], check: [], redo: [] } : resumeOf(task, steps),
    next: nextOf(facts),
  };
}

function sinceOf(history: readonly Transition[], task: Task): string {
  for (let i = history.length - 1; i >= 0; i--) if (history[i]!.from_status !== history[i]!.to_status) return history[i]!.at;
  return task.created_at;
}

/** How long past its lease the owner has said nothing; 0 while the lease holds. */
function silentMs(task: Task, now: number): number {
  return task.lease_expires_at === null ? 0 : Math.max(0, now - parseIso(task.lease_expires_at));
}

type Before = { readonly ahead: number; readonly working: readonly number[] };
type Facts = { readonly task: Task; readonly blockers: readonly { id: number; status: string }[]; readonly queue: Before | null; readonly held: readonly Breaker[]; readonly slots: readonly Slot[]; readonly open: readonly Decision[]; readonly children: ShownChildren["first"]; readonly owner: WorkerRecord | null; readonly dead: boolean; readonly now: number; readonly lastOutput: Output | null };

/** What a due task stands behind in its queue: those that come first, and those that are worked on now. */
async function queueBefore(committer: Committer, task: Task): Promise<Before> {
  const [before, working] = await Promise.all([
    dueBefore(committer, task, MOST_AHEAD),
    committer.store.list("task", { index: "status", equals: { status: "in_progress" }, limit: LIMITS.listRecords }) as Promise<unknown> as Promise<Task[]>,
  ]);
  return { ahead: before.length, working: working.filter((other) => other.queue === task.queue && other.batch_id === task.batch_id).map(({ id }) => id) };
}

function dueSummary({ ahead, working }: Before): string {
  if (ahead === 0 && working.length === 0) return "It is due: the next worker of its queue takes it.";
  const first = ahead === 0 ? "It is due and next in its queue." : `It is due, behind ${ahead === MOST_AHEAD ? `${MOST_AHEAD} or more` : ahead} ${ahead === 1 ? "task" : "tasks"} of its queue.`;
  const [shown, more] = [working.slice(0, 5).join(", "), working.length - 5];
  return working.length === 0 ? first : `${first} Worked on now: task ${shown}${more > 0 ? ` and ${more} more` : ""}.`;
}

function summaryOf({ task, blockers, queue, held, slots, open, children, owner, dead, now }: Facts): string {
  const names = blockers.map((blocker) => `task ${blocker.id} (${blocker.status})`).join(", ");
  switch (task.status) {
    case "pending":
      if (blockers.length > 0) return `It is blocked by ${names}.`;
      if (task.line) return `It stands in line for a slot of its concurrency key "${task.line}" (${task.concurrency_limit ?? 1} at a time; now task ${slots.map((slot) => slot.task_id).join(", ") || "nobody"}).`;
      if (task.run_at !== null) return `It runs again at ${task.run_at}${task.error ? `, after: ${task.error.message}` : ""}.`;
      if (held.length > 0) return `It is due, and held back. ${standsLine(held[0]!, now)}`;
      if (queue === null) return "Nothing holds it any more: the next look of a worker makes it due.";
      return dueSummary(queue);
    case "in_progress": {
      const who = owner ? `${owner.label} (pid ${owner.pid})` : task.worker;
      const silent = silentMs(task, now);
      if (dead) return `${who} was working on it, attempt ${task.attempts} of ${task.max_attempts}. Its process is gone: the next command or worker takes it over.`;
      return silent > 0 ? `${who} owns it and has been silent for ${Math.round(silent / 1000)} s past its lease; if it is dead, the next worker takes over.` : `${who} is working on it, attempt ${task.attempts} of ${task.max_attempts}.`;
    }
    case "waiting":
      return open.length > 0 ? `It waits for you: ${open[0]!.question}` : `It waits ${waitsFor(task, children)}.`;
    case "review":
      if (open.length > 0) return `Its verifier could not judge it; it waits for you: ${open[0]!.question}`;
      if (dead) return `Its result was being judged by "${task.verifier}", whose process is gone: the next run with that verifier judges it again.`;
      if (task.worker !== null) return `Its result is being judged by "${task.verifier}".`;
      return task.run_at === null ? `Its result waits for its verifier "${task.verifier}"; a run with that verifier judges it.` : `Its verifier failed (${task.error?.message}); it is asked again at ${task.run_at}.`;
    case "completed":
      return `It was completed ${task.completed_at}.`;
    case "failed":
      return `It failed: ${(task.error?.message ?? "no reason was kept").replace(/\.$/, "")}.`;
    case "cancelled":
      return `It was cancelled ${task.completed_at}.`;
  }
}

type Parked = { readonly kind: string; readonly due_at?: string; readonly event?: string };

const parkedOn = (task: Task): readonly Parked[] => (task.waiting_for ?? []) as readonly Parked[];

/** What a parked task waits for when it is no person: the first to come wakes it. */
function waitsFor(task: Task, children: ShownChildren["first"]): string {
  const parked = parkedOn(task);
  const events = [...new Set(parked.flatMap((wait) => (wait.event === undefined ? [] : [`the event "${wait.event}"`])))];
  const named = children.slice(0, 5).map((child) => `task ${child.id} (${child.status})`).join(", ");
  const rest = children.length > 5 ? ` and ${children.length === SHOWN_CHILDREN ? "more" : children.length - 5} others` : "";
  const things = [...events, ...(children.length > 0 ? [`its ${children.length === 1 ? "child" : "children"} ${named}${rest}`] : [])];
  const until = parked.flatMap((wait) => wait.due_at ?? []).sort()[0];
  if (things.length === 0) return `until ${until ?? "something it waits for comes"}`;
  return `for ${things.join(" and ")}${until === undefined ? "" : `, or until ${until}`}`;
}

function resumeOf(task: Task, steps: readonly Step[]): Why["resume"] {
  const keys = [...new Set(steps.map((step) => step.key))];
  const current = keys.flatMap((key) => recordOf(steps, task.round, key) ?? []);
  return {
    skip: current.filter((step) => step.status === "completed").map((step) => step.key),
    check: current.filter((step) => step.status === "started" || isGivenUp(step.error)).map((step) => step.key),
    redo: current.filter((step) => step.status === "failed" && !isGivenUp(step.error)).map((step) => step.key),
  };
}

function nextOf({ task, blockers, held, open, children, dead, lastOutput }: Facts): string {
  const decision = open[0];
  if (decision?.kind === "budget") return `pawl agent budget ${(decision.details as { budget_id?: number }).budget_id ?? task.id} --add NAME=NUMBER   (or: pawl deny ${decision.id} --reason "…")`;
  if (decision) return ["approval", "review", "action"].includes(decision.kind) ? `pawl approve ${decision.id}   (or: pawl deny ${decision.id} --reason "…")` : `pawl answer ${decision.id} …   (see: pawl inbox)`;
  const stuck = blockers.find((blocker) => blocker.status === "failed" || blocker.status === "cancelled");
  if (stuck) return stuck.status === "failed" ? `pawl retry ${stuck.id}` : `pawl reopen ${stuck.id} --reason "…"`;
  if (held.length > 0) return `pawl breaker reset ${held[0]!.id}   (see: pawl breaker show ${held[0]!.id})`;
  switch (task.status) {
    case "failed":
      return `pawl retry ${task.id}${lastOutput ? `   (its output: pawl show ${task.id} --output)` : ""}`;
    case "completed":
    case "cancelled":
      return `pawl reopen ${task.id} --reason "…"`;
    case "in_progress":
      return dead ? runOf(task) : `pawl release ${task.id} --force   (takes it from its worker)`;
    case "waiting": {
      const event = parkedOn(task).find((wait) => wait.event !== undefined)?.event;
      if (event !== undefined) return `pawl event emit ${shellQuote(event)} --value …`;
      return children.length > 0 ? `pawl why ${children[0]!.id}` : runOf(task);
    }
    default:
      return runOf(task);
  }
}

function runOf(task: Task): string {
  if (task.batch_id !== null) return `pawl run --resume ${task.batch_id}`;
  // A run without a list works the default queue only.
  return task.queue === DEFAULT_QUEUE ? "pawl run --exec …" : `pawl worker --exec … --queue ${shellQuote(task.queue)}`;
}

// The verbs of an event: emitted, listed, taken by a program, dropped; and what a task's code does to wait for one. Each reads,
// lets the rules of event.ts decide, commits, and decides again when somebody else was faster.
import { iso } from "../base/clock.ts";
import { formatDuration } from "../base/duration.ts";
import { PawlError } from "../base/errors.ts";
import { canonical } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Conflict, Query, Rec, Result } from "../store/store.ts";
import { commitOrThrow, nextHint, TRIES, type Committer } from "./committer.ts";
import { followChange } from "./follow.ts";
import { checkEventName, emit, EVENT_STATUSES, expect, pass, settleKept, take, type Channel, type PawlEvent } from "./event.ts";
import { TERMINAL, type Task, type Wait } from "./records.ts";

export type EventFilter = {
  readonly name?: string;
  /** Delivered and dropped ones too, not only those that are kept. */
  readonly all?: boolean;
  /** At most LIMITS.listRecords, which is also the default. */
  readonly limit?: number;
  /** Only those after this id. */
  readonly after?: number;
};

/**
 * Emits an event: delivered to the oldest wait for its name, or kept for the next. With a `key` that an event of this name has,
 * it is that event, which is returned as it is. Throws `usage`, `value_refused`, and `conflict` when too many are kept.
 */
export async function emitEvent(committer: Committer, name: string, value: unknown, options: { readonly key?: string | null; readonly actor: string }): Promise<PawlEvent> {
  checkEventName(name);
  const key = options.key ?? null;
  if (key !== null) checkEventName(key, "key");
  const emission = { name, key, value: canonical(value ?? null, "value") };
  for (let i = 0; i < TRIES; i++) {
    const waiting = await oldestWait(committer, name);
    if (waiting && isOver(waiting)) {
      await committer.commit({ guards: [waitOpen(waiting.wait)], puts: [{ kind: "wait", key: keyOf(waiting.wait), set: { status: "withdrawn" } }] });
      continue;
    }
    const channel = await channelOf(committer, name);
    const by = { actor: options.actor, now: committer.store.clock.now() };
    const change = emit(emission, channel, waiting, by);
    const result = await committer.commit(change);
    if (result.ok) {
      if (waiting?.task) await followWoken(committer, waiting.task, options.actor);
      return getEvent(committer, result.ids[0] as number);
    }
    const same = refused(result, name, key);
    if (same) return same;
  }
  throw restless(name);
}

/** The event that has the key already; null when it is to be decided again. */
function refused(result: Exclude<Result, { ok: true }>, name: string, key: string | null): PawlEvent | null {
  if ("error" in result) throw result.error;
  const { on, kind, record } = result.conflict;
  if (key !== null && on === "guard" && kind === "event" && record) return record as unknown as PawlEvent;
  if (on === "addition" && isFull(result.conflict)) {
    throw new PawlError("conflict", `${LIMITS.keptEvents} events "${name}" are kept already, and no task waits for them.`, { next: `See them: pawl event list --name ${name}. Take one back: pawl event drop ID.`, details: { name } });
  }
  return null;
}

const isFull = (conflict: Conflict): boolean => conflict.kind === "channel" && ((conflict.record?.["kept"] as number | null) ?? 0) >= LIMITS.keptEvents;

function restless(name: string): PawlError {
  return new PawlError("busy", `Others emit and wait for "${name}" faster than this could be decided.`, { next: "Try again." });
}

async function channelOf(committer: Committer, name: string): Promise<Channel | null> {
  return ((await committer.store.get("channel", [name]))[0] ?? null) as Channel | null;
}

async function oldestWait(committer: Committer, name: string): Promise<{ wait: Wait; task: Task | null } | null> {
  const [wait] = (await committer.store.list("wait", { index: "event", equals: { event: name }, limit: 1 })) as unknown as Wait[];
  if (!wait) return null;
  return { wait, task: ((await committer.store.get("task", [wait.task_id]))[0] ?? null) as Task | null };
}

async function oldestKept(committer: Committer, name: string): Promise<PawlEvent | null> {
  return ((await committer.store.list("event", { index: "status", equals: { status: "kept", name }, limit: 1 }))[0] ?? null) as PawlEvent | null;
}

const keyOf = (wait: Wait) => [wait.task_id, wait.round, wait.key] as const;
const waitOpen = (wait: Wait) => ({ kind: "wait", key: keyOf(wait), is: { status: "open" } }) as const;

/** Nobody reads what this wait is given: its task is gone, has ended or is in another round. Somebody wrote past Pawl. */
const isOver = ({ wait, task }: { wait: Wait; task: Task | null }): boolean => task === null || TERMINAL.has(task.status) || task.round !== wait.round;

/** A task that was woken may depend on others, which may have changed meanwhile. */
async function followWoken(committer: Committer, before: Task, actor: string): Promise<void> {
  if (before.depends_on.length === 0) return;
  const [after] = (await committer.store.get("task", [before.id])) as unknown as (Task | null)[];
  if (after) await followChange(committer, before, after, actor);
}

/** Throws `not_found` when there is none. */
export async function getEvent(committer: Committer, id: number): Promise<PawlEvent> {
  const [event] = (await committer.store.get("event", [id])) as unknown as (PawlEvent | null)[];
  if (!event) throw new PawlError("not_found", `event not found: ${id}`, { next: "See what is kept: pawl event list.", details: { id } });
  return event;
}

/** The kept events by name, the oldest of each first; with `all` those of every status by id. */
export async function listEvents(committer: Committer, filter: EventFilter = {}): Promise<PawlEvent[]> {
  const { store } = committer;
  const limit = filter.limit ?? LIMITS.listRecords;
  const last = filter.after === undefined ? {} : { after: (await getEvent(committer, filter.after)) as unknown as Rec };
  const name: { readonly [field: string]: string } = filter.name === undefined ? {} : { name: filter.name };
  const page = (query: Query) => store.list("event", { ...query, ...last, limit }) as Promise<unknown> as Promise<PawlEvent[]>;
  if (!filter.all) return page({ index: "status", equals: { status: "kept", ...name } });
  if (filter.name === undefined) return page({});
  const pages = EVENT_STATUSES.map((status) => store.list("event", { index: "status", equals: { status, ...name }, limit, ...("after" in last ? { after: { ...last.after, status } } : {}) }));
  return ((await Promise.all(pages)).flat() as unknown as PawlEvent[]).sort((a, b) => a.id - b.id).slice(0, limit);
}

/** Takes a kept event back: no wait gets it. `illegal_transition` when it is not kept any more. */
export async function dropEvent(committer: Committer, id: number, options: { readonly actor: string }): Promise<PawlEvent> {
  const event = await getEvent(committer, id);
  const at = iso(committer.store.clock.now());
  const notKept = (status: string) => new PawlError("illegal_transition", `Event ${id} was ${status} already.`, { next: "See what is kept: pawl event list.", details: { id, status } });
  if (event.status !== "kept") throw notKept(event.status);
  await commitOrThrow(committer, settleKept(event, "dropped", { settled_by: options.actor, settled_at: at }), (conflict) => notKept((conflict.record?.["status"] as string | undefined) ?? "removed"));
  return getEvent(committer, id);
}

export type TakeOptions = { readonly actor: string; readonly timeoutMs?: number; readonly signal?: AbortSignal };

/** Takes the oldest kept event of this name for a caller that is no task; null when none is kept within `timeoutMs` (default 0). */
export async function takeEvent(committer: Committer, name: string, options: TakeOptions): Promise<PawlEvent | null> {
  checkEventName(name);
  const { timeoutMs = 0 } = options;
  if (!(timeoutMs >= 0 && timeoutMs <= LIMITS.eventPollMs)) throw new PawlError("usage", `One call waits for an event at most ${formatDuration(LIMITS.eventPollMs)}.`, { next: "Call again for more, or let a task wait: waitFor." });
  const { clock } = committer.store;
  const end = clock.monotonic() + timeoutMs;
  for (;;) {
    const event = await takeKept(committer, name, options);
    const left = end - clock.monotonic();
    if (event || left <= 0 || options.signal?.aborted) return event;
    // Looked for again when something changed, and now and then all the same: the hint is no promise.
    await nextHint(committer, Math.min(left, POLL_MS), options.signal);
  }
}

const POLL_MS = 1_000;

async function takeKept(committer: Committer, name: string, options: { readonly actor: string }): Promise<PawlEvent | null> {
  for (let i = 0; i < TRIES; i++) {
    const event = await oldestKept(committer, name);
    if (!event) return null;
    const at = iso(committer.store.clock.now());
    const result = await committer.commit(settleKept(event, "delivered", { settled_by: options.actor, settled_at: at }));
    if (result.ok) return getEvent(committer, event.id);
    if ("error" in result) throw result.error;
  }
  throw restless(name);
}

/**
 * What the code of an owned task does to wait: the oldest kept event; "open" once its wait is; null when none is kept and none
 * is waited for (a time-out of 0). `commit` writes under the task's fence: true when it was written, false when it is to be
 * decided again.
 */
export async function receive(
  committer: Committer,
  task: Task,
  wait: { readonly key: string; readonly event: string; readonly timeoutMs: number | null },
  commit: (change: Parameters<Committer["commit"]>[0]) => Promise<boolean>,
): Promise<PawlEvent | "open" | null> {
  for (let i = 0; i < TRIES; i++) {
    const event = await oldestKept(committer, wait.event);
    const now = committer.store.clock.now();
    const dueAt = wait.timeoutMs === null ? null : now + wait.timeoutMs;
    if (event === null && wait.timeoutMs === 0) {
      await commit(pass(task, wait.key, wait.event, now));
      return null;
    }
    const change = event ? take(task, wait.key, event, dueAt, now) : expect(task, wait.key, wait.event, await channelOf(committer, wait.event), dueAt, now);
    if (await commit(change)) return event ?? "open";
  }
  throw restless(wait.event);
}

/** The handle `state.events`. */
export function eventVerbs(home: { readonly committer: Committer; readonly actor: string }) {
  return {
    /** Emits an event: for the oldest wait for its name, or kept for the next. With a `key` that an event of this name has, it is that event. */
    emit: (name: string, value?: unknown, options: { key?: string; actor?: string } = {}): Promise<PawlEvent> => emitEvent(home.committer, name, value, { actor: home.actor, ...options }),
    /** Those that are kept, by name, oldest first; with `all`, delivered and dropped ones too. */
    list: (filter?: EventFilter): Promise<PawlEvent[]> => listEvents(home.committer, filter),
    get: (id: number): Promise<PawlEvent> => getEvent(home.committer, id),
    /** Takes the oldest kept event for a program that is no task; null when none is kept within `timeoutMs`. What it does with it is not recorded. */
    take: (name: string, options: { timeoutMs?: number; signal?: AbortSignal; actor?: string } = {}): Promise<PawlEvent | null> => takeEvent(home.committer, name, { actor: home.actor, ...options }),
    /** Takes a kept event back: no wait gets it. */
    drop: (id: number): Promise<PawlEvent> => dropEvent(home.committer, id, { actor: home.actor }),
  };
}

// An event: a named value that tasks wait for. It is kept if it comes early. Here are its records and the rules, pure.

//   emitted ── a task waits for its name ──▶ delivered (to that wait, for ever)
//      └── nobody waits ──▶ kept ── a task waits for it ──▶ delivered
//                             └── a person takes it back ──▶ dropped

// Invariants: an event is delivered to one wait, in the change that settles the wait; the oldest event and the oldest wait
// come first; of one name there are never kept events and open waits at once. For the last, each name has a channel: whoever
// keeps an event raises `emitted` and is guarded on `waited`, whoever opens a wait raises `waited` and is guarded on
// `emitted`. So of an emit and a wait that did not see each other one decides again, while emits (and waits) do not disturb
// one another.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { checkText, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Addition, Change, Guard, Kind, Put } from "../store/store.ts";
import type { Task, Wait } from "./records.ts";
import { fenceGuard } from "./step.ts";
import type { By } from "./task.ts";
import { opening, openWait, settleWait } from "./wait.ts";

export const EVENT_STATUSES = ["kept", "delivered", "dropped"] as const;
export type EventStatus = (typeof EVENT_STATUSES)[number];

export type PawlEvent = {
  readonly id: number;
  readonly name: string;
  /** Emitted again with the same key it is the same event. */
  readonly key: string | null;
  readonly value: Json;
  readonly status: EventStatus;
  readonly emitted_by: string;
  readonly created_at: string;
  /** The wait it was delivered to. A script outside of a task leaves these null. */
  readonly task_id: number | null;
  readonly round: number | null;
  readonly step_key: string | null;
  readonly settled_by: string | null;
  readonly settled_at: string | null;
};

/** What is counted of one name. Only `kept` may fall. */
export type Channel = { readonly name: string; readonly emitted: number; readonly waited: number; readonly kept: number };

export const EVENT_KIND: Kind = {
  name: "event",
  fields: {
    id: "integer", name: "text", key: "text", value: "json", status: "text", emitted_by: "text", created_at: "text", task_id: "integer", round: "integer",
    step_key: "text", settled_by: "text", settled_at: "text",
  },
  key: ["id"],
  assign: "",
  indexes: {
    // Ids count up with the commits, so the oldest of a name comes first.
    status: { fields: ["status", "name"] },
    key: { fields: ["name", "key"], unique: true, notNull: ["key"] },
  },
};

export const CHANNEL_KIND: Kind = { name: "channel", fields: { name: "text", emitted: "integer", waited: "integer", kept: "integer" }, key: ["name"], indexes: {} };

export type Emission = { readonly name: string; readonly value: Json; readonly key: string | null };

/** Throws `usage` unless it is a name (or key) an event can have. */
export function checkEventName(name: unknown, what = "name"): asserts name is string {
  const why = typeof name !== "string" || name.trim() === "" ? "it must be a text that is not empty" : name.length > LIMITS.nameChars ? `it is longer than ${LIMITS.nameChars} characters` : null;
  if (why !== null) throw new PawlError("usage", `The event's ${what} is not usable: ${why}.`);
  checkText(name as string, `the event's ${what}`);
}

/** What emitting does. Put 0 is the event; guard 0 says that its key is free, when it has one. */
export function emit(emission: Emission, channel: Channel | null, waiting: { readonly wait: Wait; readonly task: Task | null } | null, by: By): Change {
  const event = { name: emission.name, key: emission.key, value: emission.value, emitted_by: by.actor, created_at: iso(by.now) };
  const free: Guard[] = emission.key === null ? [] : [{ kind: "event", unique: "key", values: { name: emission.name, key: emission.key }, absent: true }];
  if (waiting) {
    const { wait, task } = waiting;
    const given: Put = { kind: "event", record: { ...event, status: "delivered", ...receiver(wait, by.now) } };
    const settled = settleWait(wait, task, by, `event ${emission.name}`, { event_id: { $new: 0 } }, [given]);
    return { ...settled, guards: [...free, ...settled.guards!] };
  }
  const counted = count(emission.name, channel, "emitted", "waited", { kept: 1 });
  return { guards: [...free, ...counted.guards], puts: [{ kind: "event", record: { ...event, status: "kept" } }, ...counted.puts], additions: counted.additions };
}

/** What waiting does when an event of that name is kept: it is delivered to this wait, which is settled at once. */
export function take(task: Task, key: string, event: PawlEvent, dueAt: number | null, now: number): Change {
  const wait = { task_id: task.id, round: task.round, key };
  const fields = { event: event.name, event_id: event.id, status: "settled", settled_at: iso(now), due_at: dueAt === null ? null : iso(dueAt) };
  const taken = settleKept(event, "delivered", receiver(wait, now));
  return { ...taken, guards: [fenceGuard(task), ...taken.guards!], puts: [...taken.puts, openWait(task, key, "event", fields, now)] };
}

/** What asking does when none is kept and there is no time to wait: the wait is over, and a replay is told the same. */
export function pass(task: Task, key: string, name: string, now: number): Change {
  return { guards: [fenceGuard(task)], puts: [openWait(task, key, "event", { event: name, status: "settled", due_at: iso(now), settled_at: iso(now) }, now)] };
}

/** What waiting does when none is kept: the wait is open until one comes, or its time. */
export function expect(task: Task, key: string, name: string, channel: Channel | null, dueAt: number | null, now: number): Change {
  const counted = count(name, channel, "waited", "emitted", {});
  return {
    guards: [fenceGuard(task), ...counted.guards],
    puts: [openWait(task, key, "event", { event: name, due_at: dueAt === null ? null : iso(dueAt) }, now), ...counted.puts],
    additions: [opening(task), ...counted.additions],
  };
}

/** A kept event that is kept no longer: `set` says where it went. Guard 0 says that it still was. */
export function settleKept(event: PawlEvent, status: EventStatus, set: { readonly [field: string]: Json }): Change {
  return {
    guards: [{ kind: "event", key: event.id, is: { status: "kept" } }],
    puts: [{ kind: "event", key: event.id, set: { status, ...set } }],
    additions: [{ kind: "channel", key: event.name, field: "kept", n: -1 }],
  };
}

function receiver(wait: Pick<Wait, "task_id" | "round" | "key">, now: number): { readonly [field: string]: Json } {
  return { task_id: wait.task_id, round: wait.round, step_key: wait.key, settled_at: iso(now) };
}

/** Raises one count of a channel, guarded on the other being as it was read; `more` is added as well, up to its limit. */
function count(name: string, channel: Channel | null, raised: "emitted" | "waited", still: "emitted" | "waited", more: { readonly kept?: number }): { guards: Guard[]; puts: Put[]; additions: Addition[] } {
  const kept = more.kept ?? 0;
  if (channel === null) return { guards: [{ kind: "channel", key: name, absent: true }], puts: [{ kind: "channel", record: { name, emitted: 0, waited: 0, kept, [raised]: 1 } }], additions: [] };
  const additions: Addition[] = [{ kind: "channel", key: name, field: raised, n: 1 }];
  if (kept > 0) additions.push({ kind: "channel", key: name, field: "kept", n: kept, max: LIMITS.keptEvents });
  return { guards: [{ kind: "channel", key: name, is: { [still]: channel[still] } }], puts: [], additions };
}

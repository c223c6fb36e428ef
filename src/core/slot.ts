// Concurrency keys: of all tasks with one key, in every process, at most `concurrency_limit` are in work at a time. A task is
// due (`ready`) only with a slot; one that would be due and has none stands in the line of its key, out of sight of claims, so
// that a hundred thousand in line cost a claim nothing. Pure.

//   would be due ──▶ in line ──slot given──▶ due, with slot ──claim──▶ in work, with slot
//                       ▲                        │ displaced by a better one     │ ended, parked, delayed: the slot is free
//                       └────────────────────────┘                               ▼
// Invariants: a slot is a record KEY#N with N below the limit of whoever took it, made and removed in the very change that
// gives it to its task or takes it away; so a slot is held twice by nobody, and none is left behind. Every change that frees
// a slot or lengthens a line leaves a `vacancy`, which stays until somebody has looked: a crash between loses nothing.
import { iso } from "../base/clock.ts";
import { finding, type Finding } from "../base/finding.ts";
import type { Change, Guard, Kind, Put } from "../store/store.ts";
import { vacancy } from "./line.ts";
import type { Task } from "./records.ts";
import { move, type Outcome } from "./task.ts";

export type Slot = { readonly id: string; readonly concurrency_key: string; readonly task_id: number; readonly at: string };
/** Somebody must look at the line of this key: since this change of this task. */
export type Vacancy = { readonly concurrency_key: string; readonly task_id: number; readonly revision: number };

export const SLOT_KINDS: readonly Kind[] = [
  { name: "slot", fields: { id: "text", concurrency_key: "text", task_id: "integer", at: "text" }, key: ["id"], indexes: { key: { fields: ["concurrency_key"] } } },
  { name: "vacancy", fields: { concurrency_key: "text", task_id: "integer", revision: "integer" }, key: ["concurrency_key"], indexes: {} },
];

/** How many tasks of its key may be in work while this one is. */
export const limitOf = (task: Pick<Task, "concurrency_limit">): number => task.concurrency_limit ?? 1;

/** A task of a line, and the slot it is given. */
export type Gift = { readonly task: Task; readonly slot: string };

/** Who of the line of a key gets which slot: its tasks in order, and the slots that are taken. Nobody is given one before the first. */
export function giftsOf(key: string, slots: readonly Slot[], line: readonly Task[]): Gift[] {
  const taken = new Set(slots.map((slot) => slot.id));
  const given: Gift[] = [];
  for (const task of line) {
    if (taken.size >= limitOf(task)) break;
    const slot = freeSlot(key, taken);
    taken.add(slot);
    given.push({ task, slot });
  }
  return given;
}

/** The holder that gives way to the first of the line: nobody has claimed it yet, and its priority is the worst and worse. */
export function worstOf(holders: readonly Task[], first: Task): Task | null {
  if (!mayDisplace(holders, first)) return null;
  return holders.filter((task) => isUnclaimed(task) && task.priority > first.priority).sort((a, b) => b.priority - a.priority || b.id - a.id)[0] ?? null;
}

function freeSlot(key: string, taken: ReadonlySet<string>): string {
  let n = 0;
  while (taken.has(`${key}#${n}`)) n++;
  return `${key}#${n}`;
}

/** One for another keeps to the limit of the one that comes, which may be lower. */
export const mayDisplace = (holders: readonly Task[], task: Task): boolean => holders.length <= limitOf(task);

/** It has a slot and is due, and nobody works on it. */
export const isUnclaimed = (task: Task): boolean => task.slot != null && task.ready && task.worker === null;

/** A task of the line gets a slot that nobody has. */
export function giveSlot(task: Task, slot: string, by: { actor: string; now: number }): Outcome {
  return move(task, by, {
    event: "slot_given", set: { ready: true, line: null, slot }, details: { slot },
    puts: [slotPut(task, slot, by.now)], guards: [{ kind: "slot", key: slot, absent: true }],
  });
}

/** A task of the line gets the slot of one that nobody works on; that one goes back into the line. */
export function displace(task: Task, instead: Task, by: { actor: string; now: number }): Change {
  const slot = instead.slot!;
  const back = move(instead, by, { event: "slot_lost", set: { ready: false, line: instead.concurrency_key!, slot: null }, details: { slot, to: task.id } });
  const gift = move(task, by, { event: "slot_given", set: { ready: true, line: null, slot }, details: { slot, from: instead.id }, puts: [slotPut(task, slot, by.now)] });
  return { guards: [...gift.change.guards!, ...back.change.guards!], puts: [...back.change.puts, ...gift.change.puts] };
}

const slotPut = (task: Task, id: string, now: number): Put => ({ kind: "slot", record: { id, concurrency_key: task.concurrency_key!, task_id: task.id, at: iso(now) } });

/** A slot that its task does not have: nobody would ever free it. */
export function slotFindings(slot: Slot, holding: ReadonlyMap<string, number>): Finding[] {
  if (holding.get(slot.id) === slot.task_id) return [];
  return [finding("dangling", "", `It is said to be with task ${slot.task_id}, which does not have it. The next sweep frees it.`, { record: `slot ${slot.id}`, next: "pawl doctor --repair" })];
}

/** The change that frees a slot which its task, as it was read, does not have. */
export function freed(slot: Slot, task: Task | null): Change {
  const holder: Guard = task === null ? { kind: "task", key: slot.task_id, absent: true } : { kind: "task", key: slot.task_id, is: { revision: task.revision } };
  return { guards: [{ kind: "slot", key: slot.id, is: { task_id: slot.task_id } }, holder], puts: [{ kind: "slot", key: slot.id, delete: true }, vacancy(slot.concurrency_key, slot.task_id, task?.revision ?? 0)] };
}

/** The line was looked at: the vacancy goes, unless another came since or one of the slots was not given after all. */
export function lookedAt(vacancy: Vacancy, given: readonly Gift[]): Change {
  const { concurrency_key, task_id, revision } = vacancy;
  const guards: Guard[] = [{ kind: "vacancy", key: concurrency_key, is: { task_id, revision } }, ...given.map(({ task, slot }): Guard => ({ kind: "slot", key: slot, is: { task_id: task.id } }))];
  return { guards, puts: [{ kind: "vacancy", key: concurrency_key, delete: true }] };
}

// The verbs of slots: lines are looked at after every change that frees a slot or lengthens one, by whoever made it, and again
// by sweeps, which also find what a crash left. Whoever is slower than another looks again.
import { parseIso } from "../base/clock.ts";
import { LIMITS } from "../base/limits.ts";
import { listAll, type Committer } from "./committer.ts";
import { linesOf } from "./line.ts";
import type { Task } from "./records.ts";
import { displace, freed, giftsOf, giveSlot, isUnclaimed, lookedAt, mayDisplace, worstOf, type Slot, type Vacancy } from "./slot.ts";

/** Tasks of one line that are given slots at once, and lines one sweep looks at. */
const PAGE = 100;
/** How often others may be faster before a line is left to the next sweep. */
const TRIES = 20;

/** After a change of a task: the lines it concerns move up. */
export async function followLines(committer: Committer, before: Task | null, after: Task, actor: string): Promise<void> {
  for (const key of linesOf(before, after)) await fillLine(committer, key, actor);
}

/** The lines of many tasks that have just come into being. Returns how many tasks got a slot. */
export async function fillLines(committer: Committer, tasks: readonly Pick<Task, "line">[], actor: string): Promise<number> {
  const keys = new Set(tasks.flatMap((task) => task.line ?? []));
  const given = await Promise.all([...keys].map((key) => fillLine(committer, key, actor)));
  return given.reduce((sum, n) => sum + n, 0);
}

/** Every line that somebody must look at. Returns how many tasks got a slot. */
export async function fillVacancies(committer: Committer, actor: string): Promise<number> {
  const vacancies = (await committer.store.list("vacancy", { limit: PAGE })) as unknown as Vacancy[];
  const given = await Promise.all(vacancies.map((vacancy) => fillLine(committer, vacancy.concurrency_key, actor)));
  return given.reduce((sum, n) => sum + n, 0);
}

/** Gives the free slots of a key to the first of its line. Returns how many got one. */
async function fillLine(committer: Committer, key: string, actor: string): Promise<number> {
  const { store } = committer;
  let moved = 0;
  for (let i = 0; i < TRIES; i++) {
    // The vacancy first: one that comes after this is another, and stays.
    const [vacancy] = (await store.get("vacancy", [key])) as unknown as (Vacancy | null)[];
    if (!vacancy) return moved;
    const [slots, line] = await Promise.all([slotsOf(committer, key), store.list("task", { index: "line", equals: { line: key }, limit: PAGE }) as Promise<unknown> as Promise<Task[]>]);
    const given = giftsOf(key, slots, line);
    const instead = given.length > 0 || line.length === 0 ? null : worstOf(await holdersOf(committer, slots), line[0]!);
    const by = { actor, now: store.clock.now() };
    const changes = instead ? [displace(line[0]!, instead, by)] : given.map(({ task, slot }) => giveSlot(task, slot, by).change);
    // Looked at to the end: no more of the line can have one now.
    const all = given.length === PAGE || instead ? changes : [...changes, lookedAt(vacancy, given)];
    const results = await Promise.all(all.map((change) => committer.commit(change)));
    for (const result of results) if (!result.ok && "error" in result) throw result.error;
    moved += results.slice(0, changes.length).filter((result) => result.ok).length;
    if (results.length > changes.length && results.at(-1)!.ok) return moved;
  }
  return moved;
}

/** Frees the slots that their tasks do not have. No change leaves one; what a repair by hand or a lost record leaves, this finds. */
export async function repairSlots(committer: Committer, actor: string): Promise<number> {
  const slots = (await listAll(committer, "slot", {})) as unknown as Slot[];
  if (slots.length === 0) return 0;
  const tasks = (await committer.store.get("task", slots.map((slot) => slot.task_id))) as unknown as (Task | null)[];
  const lost = slots.filter((slot, i) => tasks[i]?.slot !== slot.id);
  await Promise.all(lost.map((slot) => committer.commit(freed(slot, tasks[slots.indexOf(slot)] ?? null))));
  return lost.length === 0 ? 0 : fillVacancies(committer, actor);
}

/** The slots of a key that are taken. */
export async function slotsOf(committer: Committer, key: string): Promise<Slot[]> {
  return (await committer.store.list("slot", { index: "key", equals: { concurrency_key: key } })) as unknown as Slot[];
}

async function holdersOf(committer: Committer, slots: readonly Slot[]): Promise<Task[]> {
  if (slots.length === 0) return [];
  const found = (await committer.store.get("task", slots.map((slot) => slot.task_id))) as unknown as (Task | null)[];
  return found.filter((task) => task !== null);
}

/**
 * For a worker with nothing to do: slots given to tasks that nobody has claimed for a while (their queue or batch has no
 * worker) go on to those that stand in line in its own lanes. Returns how many got one.
 */
export async function takeIdleSlots(committer: Committer, lanes: readonly Pick<Task, "queue" | "batch_id">[], actor: string): Promise<number> {
  const { store } = committer;
  let moved = 0;
  for (const { queue, batch_id } of lanes) {
    const line = (await store.list("task", { index: "in_line", equals: { queue, batch_id }, limit: PAGE })) as unknown as Task[];
    for (const task of firstOfEach(line)) {
      const idle = store.clock.now() - LIMITS.slotIdleMs;
      const holders = await holdersOf(committer, await slotsOf(committer, task.line!));
      if (!mayDisplace(holders, task)) continue;
      const instead = holders.find((holder) => isUnclaimed(holder) && parseIso(holder.updated_at) <= idle);
      if (!instead) continue;
      const result = await committer.commit(displace(task, instead, { actor, now: store.clock.now() }));
      if (!result.ok && "error" in result) throw result.error;
      if (result.ok) moved++;
    }
  }
  return moved;
}

/** The first task of each key. */
function firstOfEach(line: readonly Task[]): Task[] {
  const keys = new Set<string>();
  return line.filter((task) => !keys.has(task.line!) && keys.add(task.line!));
}

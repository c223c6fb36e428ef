// The verbs of a breaker, and what a process knows of the breakers over its lanes. Invariant: every claim is guarded on the
// breakers over it still being as they were read, so what a process remembers may be old, and never lets a task through
// that an open breaker holds back; two processes never both take the probe.
import { PawlError } from "../base/errors.ts";
import type { Change, Conflict, Fields, Guard, Result } from "../store/store.ts";
import {
  admit, breakerIds, changeLimits, checkBreakerId, checkLimits, isStuck, newBreaker, openBreaker, openOver, resetBreaker, standing, tally, type Breaker, type BreakerLimits, type Part, type Usage,
} from "./breaker.ts";
import { TRIES, type Committer } from "./committer.ts";
import type { Task } from "./records.ts";
import { withExtra } from "./step.ts";
import type { Outcome } from "./task.ts";

/** A queue, or a batch of it. */
type Lane = { readonly queue: string; readonly batch_id: string | null };

/* ---------- claims ---------- */

/** Lanes that are claimed from together: how many tasks at most, and what such a claim writes about their breakers. */
export type Passage<L extends Lane> = { readonly lanes: readonly L[]; readonly limit: number; readonly admit: (claimed: readonly Outcome[], now: number) => Part };

export class KnownBreakers {
  /** By id; null: there was none. */
  readonly #known = new Map<string, Breaker | null>();
  /** Those that were there when they were read last. */
  readonly #there = new Set<string>();
  /** The lanes that were asked for last, when nothing was over them: the same are asked for again and again. */
  #bare: { readonly lanes: readonly Lane[]; readonly part: Part } | null = null;

  /** The breakers over a task that were there when it was claimed. */
  over(task: Task): string[] {
    return this.#there.size === 0 ? [] : breakerIds(task).filter((id) => this.#there.has(id));
  }

  /** Read them again: a claim found that one has changed. */
  forget(): void {
    this.#known.clear();
    this.#bare = null;
  }

  /** The lanes that let something through now. Opens a breaker that is over its limit when it holds something back. */
  async passages<L extends Lane>(committer: Committer, lanes: readonly L[], actor: string): Promise<Passage<L>[]> {
    if (this.#bare && isSame(this.#bare.lanes, lanes)) return [unhindered(lanes, this.#bare.part)];
    await this.#read(committer, lanes);
    const ids = idsOf(lanes);
    if (ids.length > 0 && ids.every((id) => !this.#known.get(id))) {
      this.#bare = { lanes: [...lanes], part: { guards: ids.map(absent), puts: [], additions: [] } };
      return [unhindered(lanes, this.#bare.part)];
    }
    const now = committer.store.clock.now();
    const free: L[] = [];
    const narrow: Passage<L>[] = [];
    for (const lane of lanes) {
      const breakers = breakerIds(lane).flatMap((id) => this.#known.get(id) ?? []);
      let limit = Infinity;
      for (const breaker of breakers) limit = Math.min(limit, await this.#room(committer, breaker, lane, { actor, now }));
      if (limit === Infinity) free.push(lane);
      else if (limit > 0) narrow.push({ lanes: [lane], limit, admit: this.#admit([lane], actor) });
    }
    return free.length === 0 ? narrow : [...narrow, { lanes: free, limit: Infinity, admit: this.#admit(free, actor) }];
  }

  /** Only a closed breaker, or none, is remembered: nobody waits for such a one to change. */
  async #read(committer: Committer, lanes: readonly Lane[]): Promise<void> {
    const wanted = idsOf(lanes).filter((id) => {
      const known = this.#known.get(id);
      return known === undefined || (known !== null && known.status !== "closed");
    });
    if (wanted.length === 0) return;
    const found = await getBreakers(committer, wanted);
    wanted.forEach((id, i) => {
      this.#known.set(id, found[i]!);
      if (found[i]) this.#there.add(id);
      else this.#there.delete(id);
    });
  }

  /** How many tasks a breaker lets out of a lane now. */
  async #room(committer: Committer, breaker: Breaker, lane: Lane, by: { actor: string; now: number }): Promise<number> {
    const [probe] = breaker.probe_task === null ? [] : ((await committer.store.get("task", [breaker.probe_task])) as unknown as (Task | null)[]);
    const stands = standing(breaker, probe ?? null, by.now);
    if (stands.allow === "all") return stands.room;
    if (stands.allow === "probe") return 1;
    if ("over" in stands && (await isDue(committer, lane))) {
      this.#known.delete(breaker.id);
      await commitPart(committer, openOver(breaker, stands.over, by));
    }
    return 0;
  }

  #admit(lanes: readonly Lane[], actor: string): Passage<Lane>["admit"] {
    const ids = idsOf(lanes);
    return (claimed, now) =>
      joined(ids.map((id) => {
        const breaker = this.#known.get(id);
        if (!breaker) return { guards: [absent(id)], puts: [], additions: [] };
        const part = admit(breaker, claimed.filter(({ task }) => breakerIds(task).includes(id)), { actor, now });
        // What the claim writes, this process has not seen yet.
        if (part.puts.length + part.additions.length > 0) this.#known.delete(id);
        return part;
      }));
  }
}

const idsOf = (lanes: readonly Lane[]): string[] => [...new Set(lanes.flatMap(breakerIds))];

const absent = (id: string): Guard => ({ kind: "breaker", key: id, absent: true });

const isSame = (a: readonly Lane[], b: readonly Lane[]): boolean => a.length === b.length && a.every(({ queue, batch_id }, i) => queue === b[i]!.queue && batch_id === b[i]!.batch_id);

const unhindered = <L extends Lane>(lanes: readonly L[], part: Part): Passage<L> => ({ lanes, limit: Infinity, admit: () => part });

async function isDue(committer: Committer, { queue, batch_id }: Lane): Promise<boolean> {
  return (await committer.store.list("task", { index: "due", equals: { queue, batch_id }, limit: 1 })).length > 0;
}

/* ---------- ends ---------- */

/** The rule of an execution's end, with what it counts for in the breakers `ids`: counted in the task's own change. */
export function counting<R extends (task: Task, now: number) => Outcome | Promise<Outcome>>(committer: Committer, ids: readonly string[], usage: Usage, actor: string, rule: R): R | ((task: Task, now: number) => Promise<Outcome>) {
  if (ids.length === 0) return rule;
  return async (task, now) => {
    const outcome = await rule(task, now);
    const parts = (await getBreakers(committer, ids)).flatMap((breaker) => (breaker ? (tally(breaker, task, outcome, usage, { actor, now }) ?? []) : []));
    if (parts.length === 0) return outcome;
    return { task: outcome.task, change: withExtra(outcome.change, joined(parts)) };
  };
}

/** The count or the state of a breaker moved meanwhile: the same end is counted again. */
export const isRecount = (conflict: Conflict): boolean => conflict.kind === "breaker";

/** Commits a change that ends no task, and counts what was used in the breaker `id`, if it is there. Gives the change's own result. */
export async function commitUsage(committer: Committer, id: string, usage: Usage, actor: string, own: Change): Promise<Result> {
  const nothing = { task: {} as Task, change: own };
  for (let i = 0; ; i++) {
    const counted = await counting(committer, [id], usage, actor, () => nothing)(nothing.task, committer.store.clock.now());
    const result = await committer.commit(counted.change);
    if (result.ok || "error" in result || !isRecount(result.conflict) || i === TRIES) return result;
  }
}

/* ---------- verbs ---------- */

export async function getBreakers(committer: Committer, ids: readonly string[]): Promise<(Breaker | null)[]> {
  return (await committer.store.get("breaker", ids)) as unknown as (Breaker | null)[];
}

/** Throws `not_found` when nobody has set it up. */
export async function getBreaker(committer: Committer, id: string): Promise<Breaker> {
  checkBreakerId(id);
  const [breaker] = await getBreakers(committer, [id]);
  if (!breaker) throw new PawlError("not_found", `breaker not found: ${id}`, { next: `See what there is: pawl breaker list. To set one up: pawl breaker set ${id} failures=5,cooldown=1m.`, details: { id } });
  return breaker;
}

export async function listBreakers(committer: Committer): Promise<Breaker[]> {
  return (await committer.store.list("breaker")) as unknown as Breaker[];
}

/** Those that hold something back. */
export async function openBreakers(committer: Committer): Promise<Breaker[]> {
  const pages = await Promise.all((["open", "half_open"] as const).map((status) => committer.store.list("breaker", { index: "status", equals: { status } })));
  return pages.flat() as unknown as Breaker[];
}

/** The breakers over a lane that only a person closes. */
export async function stuckOver(committer: Committer, lane: Lane): Promise<Breaker[]> {
  const now = committer.store.clock.now();
  return (await getBreakers(committer, breakerIds(lane))).filter((breaker) => breaker !== null && isStuck(breaker, now)) as Breaker[];
}

/** Sets it up, or gives it other limits; what it has counted stays. */
export async function setBreaker(committer: Committer, id: string, limits: BreakerLimits, actor: string): Promise<Breaker> {
  checkLimits(limits);
  await requirePlace(committer, id);
  return change(committer, id, (breaker, now) => (breaker ? changeLimits(breaker, limits, { actor, now }) : newBreaker(id, limits, now))) as Promise<Breaker>;
}

/** The same of the batch of each lane, or of its queue when it has none. */
export async function setBreakersOver(committer: Committer, lanes: readonly Lane[], limits: BreakerLimits, actor: string): Promise<void> {
  for (const lane of lanes) await setBreaker(committer, breakerIds(lane).at(-1)!, limits, actor);
}

/** Opens it: nothing starts until it is reset or, with `forMs`, until a probe has completed after that time. One that was not set up is, without limits. */
export async function tripBreaker(committer: Committer, id: string, options: { actor: string; reason?: string; forMs?: number }): Promise<Breaker> {
  await requirePlace(committer, id);
  const by = (now: number) => ({ actor: options.actor, now });
  const reason = options.reason ?? "opened by hand";
  await change(committer, id, (breaker, now) => (breaker ? null : newBreaker(id, {}, now)));
  return change(committer, id, (breaker, now) => (breaker ? openBreaker(breaker, reason, options.forMs ?? null, by(now)) : null)) as Promise<Breaker>;
}

/** Closes it, and counts anew. Its limits stay. */
export async function closeBreaker(committer: Committer, id: string, options: { actor: string; reason?: string }): Promise<Breaker> {
  await getBreaker(committer, id);
  return change(committer, id, (breaker, now) => (breaker ? resetBreaker(breaker, options.reason ?? "reset", { actor: options.actor, now }) : null)) as Promise<Breaker>;
}

/** Takes it away with its counts. */
export async function removeBreaker(committer: Committer, id: string): Promise<Breaker> {
  const breaker = await getBreaker(committer, id);
  const result = await committer.commit({ puts: [{ kind: "breaker", key: id, delete: true }] });
  if (!result.ok && "error" in result) throw result.error;
  return breaker;
}

async function requirePlace(committer: Committer, id: string): Promise<void> {
  checkBreakerId(id);
  const batch = /^batch:(.*)$/.exec(id)?.[1];
  if (batch === undefined || (await committer.store.get("batch", [batch]))[0]) return;
  throw new PawlError("not_found", `batch not found: ${batch}`, { next: "See what there is: pawl batch list." });
}

/** Commits what the rule makes of the breaker: a new one, a part, or nothing. Decided again when it moved meanwhile. Gives it as it is then. */
async function change(committer: Committer, id: string, rule: (breaker: Breaker | null, now: number) => Breaker | Part | null): Promise<Breaker | null> {
  for (let i = 0; i < TRIES; i++) {
    const [breaker = null] = await getBreakers(committer, [id]);
    const made = rule(breaker, committer.store.clock.now());
    if (made === null) return breaker;
    const part = "id" in made ? { guards: [absent(id)], puts: [{ kind: "breaker", record: made as unknown as Fields }], additions: [] } : made;
    if (await commitPart(committer, part)) return (await getBreakers(committer, [id]))[0] ?? null;
  }
  throw new PawlError("conflict", `The breaker ${id} changes faster than this command can decide about it.`, { next: "Try again." });
}

/** False when it moved meanwhile. */
async function commitPart(committer: Committer, part: Part): Promise<boolean> {
  const result = await committer.commit(part);
  if (!result.ok && "error" in result) throw result.error;
  return result.ok;
}

function joined(parts: readonly Part[]): Part {
  return { guards: parts.flatMap(({ guards }) => guards), puts: parts.flatMap(({ puts }) => puts), additions: parts.flatMap(({ additions }) => additions) };
}

/** A breaker as a handle on State works it. */
export function breakerVerbs(committer: Committer, actor: string) {
  return {
    list: (): Promise<Breaker[]> => listBreakers(committer),
    /** By id: `queue:NAME` or `batch:ID`. */
    get: (id: string): Promise<Breaker> => getBreaker(committer, id),
    set: (id: string, limits: BreakerLimits): Promise<Breaker> => setBreaker(committer, id, limits, actor),
    open: (id: string, options: { reason?: string; forMs?: number } = {}): Promise<Breaker> => tripBreaker(committer, id, { actor, ...options }),
    reset: (id: string, options: { reason?: string } = {}): Promise<Breaker> => closeBreaker(committer, id, { actor, ...options }),
    remove: (id: string): Promise<Breaker> => removeBreaker(committer, id),
  };
}


// The durable waits of a task's code: a timer, a person's decision, an event, and those of children.ts. Each is a record under the key of its step, so that
// whoever settles it needs no live process here. Invariant: a wait that is settled is passed, one that is open is stayed in,
// and only one that is missing or withdrawn is written.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { canonical } from "../base/json.ts";
import { askAbout, askTimer, type Ask } from "../core/decision.ts";
import { checkEventName, type PawlEvent } from "../core/event.ts";
import { getEvent, receive } from "../core/events.ts";
import type { Decision, DecisionKind, Wait } from "../core/records.ts";
import { hashInput, type Scope } from "../core/step.ts";
import type { Change } from "../store/store.ts";
import type { Branches } from "./branches.ts";
import type { Arrival, EventWait } from "./context.ts";

export class Waits {
  readonly #branches: Branches;
  readonly #recorded: Map<string, Wait>;
  /** Of earlier rounds, those that were given an event, and the last in which a person was asked. */
  readonly #earlier = new Map<string, Wait>();
  readonly #before = new Map<string, Wait>();

  /** `recorded` are the waits of earlier ownerships, by round. */
  constructor(branches: Branches, recorded: readonly Wait[]) {
    this.#branches = branches;
    this.#recorded = new Map(recorded.filter((wait) => wait.round === branches.task.round).map((wait) => [wait.key, wait]));
    for (const wait of recorded) {
      if (wait.round >= branches.task.round) continue;
      if (wait.event_id !== null) this.#earlier.set(wait.key, wait);
      if (wait.decision_id !== null && (this.#before.get(wait.key)?.round ?? 0) < wait.round) this.#before.set(wait.key, wait);
    }
  }

  /** True when some of them may still be open. */
  get open(): boolean {
    return this.#branches.waiting || [...this.#recorded.values()].some((wait) => wait.status === "open");
  }

  async sleep(scope: Scope, name: string, ms: number): Promise<void> {
    if (!Number.isFinite(ms) || ms < 0) throw new PawlError("usage", `sleep needs a number of milliseconds of at least 0, not ${ms}.`);
    await this.as(scope, name, async (key) => {
      const wait = this.#recorded.get(key);
      if (wait?.status === "settled") return;
      const { task } = this.#branches;
      const now = this.#branches.now();
      await (wait?.status === "open" ? this.#branches.stay(wait) : this.write(key, askTimer(task, { key }, now + ms, now)));
    });
  }

  /** Asks a person; resolves with the settled decision. */
  decide(scope: Scope, name: string, kind: DecisionKind, question: string, details: unknown): Promise<Decision> {
    return this.ask(scope, name, { kind, question, details });
  }

  /** The same with all a decision can have. */
  async ask(scope: Scope, name: string, { kind, question, details, expires_in_ms, on_expiry }: Ask): Promise<Decision> {
    return this.as(scope, name, async (key) => {
      const shown = details === undefined ? null : canonical(details, "details");
      const decision = await this.answerFor(key, 1, kind);
      // A decision is for exactly the arguments shown: with others it must be taken again.
      if (decision && hashInput(decision.details) === hashInput(shown) && decision.question === question) return decision;
      const { task, options } = this.#branches;
      const now = this.#branches.now();
      const expiry = expires_in_ms === undefined ? {} : { expires_at: iso(now + expires_in_ms), on_expiry: on_expiry ?? "deny" };
      return this.write(key, askAbout(task, { key }, 1, { kind, question, details: shown, ...expiry }, options.actor, now));
    });
  }

  /** The wait of this key that a step has ended in under this ownership. */
  endedIn(key: string): Wait | null {
    const wait = this.#recorded.get(key);
    return wait?.fence === this.#branches.task.fence ? wait : null;
  }

  /** The last wait in which a person was asked about the step with this key: of this round, or, with `before`, of an earlier one. */
  asked(key: string, before: boolean): Wait | null {
    const wait = this.#recorded.get(key) ?? (before ? this.#before.get(key) : undefined);
    return wait?.decision_id ? wait : null;
  }

  /** The settled decision of this kind about exactly this start of the step, if there is one. */
  async answerFor(key: string, start: number, kind: DecisionKind): Promise<Decision | null> {
    const wait = this.#recorded.get(key);
    if (!wait?.decision_id || wait.status === "withdrawn") return null;
    const decision = ((await this.#branches.options.committer.store.get("decision", [wait.decision_id]))[0] ?? null) as Decision | null;
    if (!decision || decision.step_start !== start || decision.kind !== kind) return null;
    if (decision.status !== "open") return decision;
    return this.#branches.stay(wait);
  }

  /** Writes a wait and stays in it. */
  async write(key: string, change: Change): Promise<never> {
    await this.#branches.commit(change);
    return this.stayIn(key);
  }

  /** Stays in a wait that was written a moment ago. */
  async stayIn(key: string): Promise<never> {
    const { task, options } = this.#branches;
    const [wait] = await options.committer.store.get("wait", [[task.id, task.round, key]]);
    return this.#branches.stay(wait as unknown as Wait);
  }

  /** The event this wait was or is given, or that none came in time. */
  async event<T>(scope: Scope, name: string, options: EventWait = {}): Promise<Arrival<T>> {
    const { timeoutMs = null, event = name } = options;
    checkEventName(event);
    if (timeoutMs !== null && !(Number.isFinite(timeoutMs) && timeoutMs >= 0)) throw new PawlError("usage", `waitFor needs a time-out of at least 0 milliseconds, not ${timeoutMs}.`);
    return this.as(scope, name, async (key) => {
      const { task, options: { committer } } = this.#branches;
      const wait = this.#recorded.get(key);
      const given = wait?.status === "settled" ? wait : options.keep ? this.#earlier.get(key) : undefined;
      if (given) return given.event_id === null ? { arrived: false } : arrival<T>(await getEvent(committer, given.event_id));
      if (wait?.status === "open") return this.#branches.stay(wait);
      const taken = await receive(committer, task, { key, event, timeoutMs }, (change) => this.#branches.tryCommit(change));
      return taken === null ? { arrived: false } : taken === "open" ? this.stayIn(key) : arrival<T>(taken);
    }, options.key);
  }

  /** Passes the wait with this key when it is settled, stays in it while it is open; else `open` writes it, and says whether it settled at once. */
  async pass(key: string, open: () => Promise<boolean>): Promise<void> {
    const wait = this.#recorded.get(key);
    if (wait?.status === "settled") return;
    if (wait?.status === "open") return this.#branches.stay(wait);
    if (!(await open())) await this.stayIn(key);
  }

  settled(key: string): boolean {
    return this.#recorded.get(key)?.status === "settled";
  }

  /** Runs `wait` as a branch of this name. */
  async as<T>(scope: Scope, name: string, wait: (key: string) => Promise<T>, given?: string): Promise<T> {
    if (this.#branches.ended) return this.#branches.gone();
    const key = this.#branches.enter(scope, name, given);
    try {
      return await wait(key);
    } finally {
      this.#branches.leave(scope);
    }
  }
}

function arrival<T>(event: PawlEvent): Arrival<T> {
  return { arrived: true, event_id: event.id, value: event.value as T };
}

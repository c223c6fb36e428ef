// A budget is what an agent may use: steps, time, model tokens, tool calls, money. It is reserved before a call and settled
// after it, in the commit of the step's record. Invariants: `used` counts everything (spent, reserved, in doubt) and is only
// ever added to, so that many spenders never overwrite one another; a reservation is settled once; nothing resets a budget.

//   reserve n:   used + n (refused beyond the limit), reserved + n, a reservation
//   settle a:    used + a - n, reserved - n, the reservation is gone      (a call may have used more than was reserved)
//   lost:        reserved - n, in_doubt + n, the reservation is gone      (its answer never came, or its worker died)
//   spent = used - reserved - in_doubt
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { LIMITS } from "../base/limits.ts";
import type { Addition, Change, Fields, Guard, Kind } from "../store/store.ts";
import { record } from "./history.ts";
import type { Extra } from "./step.ts";

/** What can run out. Money is in millionths of the currency of your price table. */
export const RESOURCES = ["steps", "wall_time_ms", "llm_tokens", "tool_calls", "cost_micros"] as const;
export type Resource = (typeof RESOURCES)[number];
export type Amounts = { readonly [resource in Resource]?: number };

/** Limits as they are set; one that is left out is not there. The last bounds one rendering of the context, not a sum. */
export type BudgetLimits = { readonly [limit in `max_${Resource}`]?: number } & { readonly max_artifact_bytes_in_context?: number };
export const LIMIT_NAMES = [...RESOURCES.map((resource) => `max_${resource}` as const), "max_artifact_bytes_in_context"] as const;

/** What an agent gets when its loop names no limits: those of the contract. */
export const DEFAULT_LIMITS: BudgetLimits = { max_steps: 20, max_wall_time_ms: 300_000, max_llm_tokens: 200_000, max_artifact_bytes_in_context: 8_000 };

type Counted<Prefix extends string> = { readonly [field in `${Prefix}_${Resource}`]: number | null };
export type Budget = Counted<"max"> & Counted<"used"> & Counted<"reserved"> & Counted<"in_doubt"> & {
  /** The task of the agent it was made for. */
  readonly id: number;
  /** The budget of the agent that started this one: every use counts there as well. */
  readonly parent_id: number | null;
  readonly max_artifact_bytes_in_context: number | null;
  /** The parts of the settled tokens, as providers tell them. */
  readonly input_tokens: number | null;
  readonly output_tokens: number | null;
  /** Settled calls to models that have no price: what they cost is unknown, which is not nothing. */
  readonly unpriced_calls: number | null;
  readonly created_at: string;
};

/** What one call may use, taken out of the budget before it is made. */
export type Reservation = {
  readonly task_id: number;
  /** Names the call: the key of its step. */
  readonly key: string;
  readonly fence: number;
  /** The budgets it is taken from, its own first. */
  readonly budgets: readonly number[];
  readonly amounts: Amounts;
  readonly at: string;
};

/** What a call really used. `input_tokens` and `output_tokens` are parts of `llm_tokens`; `unpriced` when its price is unknown. */
export type Usage = Amounts & { readonly input_tokens?: number; readonly output_tokens?: number; readonly unpriced?: boolean };

const fieldsFor = (prefix: string) => Object.fromEntries(RESOURCES.map((resource) => [`${prefix}_${resource}`, "integer"])) as { [field: string]: "integer" };

export const BUDGET_KIND: Kind = {
  name: "budget",
  fields: {
    id: "integer", parent_id: "integer", ...fieldsFor("max"), max_artifact_bytes_in_context: "integer", ...fieldsFor("used"), ...fieldsFor("reserved"),
    ...fieldsFor("in_doubt"), input_tokens: "integer", output_tokens: "integer", unpriced_calls: "integer", created_at: "text",
  },
  key: ["id"],
  indexes: { parent: { fields: ["parent_id"], notNull: ["parent_id"] } },
};

export const RESERVATION_KIND: Kind = {
  name: "reservation",
  fields: { task_id: "integer", key: "text", fence: "integer", budgets: "json", amounts: "json", at: "text" },
  key: ["task_id", "key"],
  indexes: {},
};

/** Limits as they are given: null takes a default away. */
export type GivenLimits = { readonly [limit in keyof BudgetLimits]?: number | null };

/** A budget with the default limits changed by `given`, nothing used. Throws `usage` for a limit that is none. */
export function newBudget(id: number, given: GivenLimits, parentId: number | null, now: number): Fields {
  const limits = Object.fromEntries(Object.entries({ ...DEFAULT_LIMITS, ...given }).filter(([, value]) => value !== null && value !== undefined));
  checkLimits(limits);
  return { id, parent_id: parentId, ...limits, created_at: iso(now) } as Fields;
}

/** Throws `usage` unless every field is a limit and a whole number of at least 0. */
export function checkLimits(limits: { readonly [name: string]: unknown }, what = "budget"): void {
  for (const [name, value] of Object.entries(limits)) {
    if (!(LIMIT_NAMES as readonly string[]).includes(name)) throw new PawlError("usage", `There is no limit called ${name}.`, { next: `There are: ${LIMIT_NAMES.join(", ")}.`, details: { path: `${what}.${name}` } });
    if (!Number.isSafeInteger(value) || (value as number) < 0) throw new PawlError("usage", `${what}.${name} must be a whole number of at least 0, not ${JSON.stringify(value)}.`, { details: { path: `${what}.${name}` } });
  }
}

export function limitsOf(budget: Budget): BudgetLimits {
  return Object.fromEntries(LIMIT_NAMES.flatMap((name) => (budget[name] === null ? [] : [[name, budget[name]]]))) as BudgetLimits;
}

/** What stands in the way of using `amounts`: each limit that would be passed, with what is left of it. */
export type Over = { readonly budget_id: number; readonly resource: Resource; readonly limit: number; readonly used: number; readonly wanted: number };

/** A limit that time has passed refuses whatever is wanted: nobody can reserve time, it runs. */
export function overOf(budgets: readonly Budget[], amounts: Amounts): Over[] {
  return budgets.flatMap((budget) =>
    RESOURCES.flatMap((resource) => {
      const limit = budget[`max_${resource}`];
      const used = budget[`used_${resource}`] ?? 0;
      const wanted = amounts[resource] ?? 0;
      const over = limit !== null && (resource === "wall_time_ms" ? used + wanted >= limit : wanted > 0 && used + wanted > limit);
      return over ? [{ budget_id: budget.id, resource, limit, used, wanted }] : [];
    }),
  );
}

/** Takes `amounts` out of all these budgets, or out of none. `guards` tie it to the one who spends; `beyond` takes them whatever the limits. */
export function reserveChange(reservation: Reservation, budgets: readonly Budget[], guards: readonly Guard[], beyond = false): Change {
  const additions = budgets.flatMap((budget) =>
    used(reservation.amounts).flatMap(([resource, n]): Addition[] => {
      const limit = budget[`max_${resource}`];
      return [
        { kind: "budget", key: budget.id, field: `used_${resource}`, n, ...(limit === null || beyond ? {} : { max: limit }) },
        { kind: "budget", key: budget.id, field: `reserved_${resource}`, n },
      ];
    }),
  );
  const absent: Guard = { kind: "reservation", key: [reservation.task_id, reservation.key], absent: true };
  return { guards: [...guards, absent], puts: [{ kind: "reservation", record: reservation as unknown as Fields }], additions };
}

/** Gives back what was reserved and counts what was used instead. Goes along with the record of the step. */
export function settleExtra(reservation: Reservation, usage: Usage): Extra {
  checkUsage(usage);
  const additions = reservation.budgets.flatMap((id): Addition[] => [
    ...RESOURCES.flatMap((resource): Addition[] => {
      const reserved = reservation.amounts[resource] ?? 0;
      const difference = (usage[resource] ?? 0) - reserved;
      return [...addition(id, `used_${resource}`, difference), ...addition(id, `reserved_${resource}`, -reserved)];
    }),
    ...addition(id, "input_tokens", usage.input_tokens ?? 0), ...addition(id, "output_tokens", usage.output_tokens ?? 0), ...addition(id, "unpriced_calls", usage.unpriced ? 1 : 0),
  ]);
  return { ...gone(reservation), additions };
}

/** The answer of the call never came: what was reserved counts, and is shown apart. */
export function lostExtra(reservation: Reservation): Extra {
  const additions = reservation.budgets.flatMap((id) =>
    used(reservation.amounts).flatMap(([resource, n]) => [...addition(id, `reserved_${resource}`, -n), ...addition(id, `in_doubt_${resource}`, n)]),
  );
  return { ...gone(reservation), additions };
}

/** Time that a call took counts, however it ended: nobody can reserve time, it runs. */
export function timeExtra(reservation: Reservation, ms: number): Extra {
  return { additions: reservation.budgets.flatMap((id) => addition(id, "used_wall_time_ms", ms)) };
}

/** The least working time that is left in one of these budgets, in ms; Infinity when none has a limit. */
export function timeLeftIn(budgets: readonly Budget[]): number {
  return Math.min(...budgets.map((budget) => (budget.max_wall_time_ms === null ? Infinity : budget.max_wall_time_ms - (budget.used_wall_time_ms ?? 0))));
}

/** The reservation is settled by one: whoever comes second finds it gone, or made again by another owner. */
function gone({ task_id, key, fence }: Reservation): Extra {
  return { guards: [{ kind: "reservation", key: [task_id, key], is: { fence } }], puts: [{ kind: "reservation", key: [task_id, key], delete: true }] };
}

function addition(id: number, field: string, n: number): Addition[] {
  return n === 0 ? [] : [{ kind: "budget", key: id, field, n }];
}

function used(amounts: Amounts): [Resource, number][] {
  return RESOURCES.flatMap((resource) => ((amounts[resource] ?? 0) > 0 ? [[resource, amounts[resource]!] as [Resource, number]] : []));
}

/** Throws `usage` unless every amount is a whole number of at least 0. */
export function checkUsage(usage: { readonly [name: string]: unknown }): void {
  for (const [name, value] of Object.entries(usage)) {
    if (name === "unpriced" || value === undefined) continue;
    if (!(RESOURCES as readonly string[]).includes(name) && name !== "input_tokens" && name !== "output_tokens") throw new PawlError("usage", `A budget does not count ${name}.`, { next: `It counts: ${RESOURCES.join(", ")}.` });
    if (!Number.isSafeInteger(value) || (value as number) < 0) throw new PawlError("usage", `${name} must be a whole number of at least 0, not ${JSON.stringify(value)}.`);
  }
}

/** Raises limits that are set. Throws `usage` for one that is none, or that is not set: there it would be a new limit. */
export function addToLimits(budget: Budget, add: BudgetLimits, by: { actor: string; reason?: string | undefined; now: number }): Extra {
  checkLimits(add, "add");
  const names = Object.keys(add) as (keyof BudgetLimits)[];
  if (names.length === 0) throw new PawlError("usage", "Nothing is added to the budget.", { next: `Name a limit: ${LIMIT_NAMES.join(", ")}.` });
  const unset = names.find((name) => budget[name] === null);
  if (unset !== undefined) throw new PawlError("usage", `The budget of task ${budget.id} has no limit ${unset}, so nothing can be added to it.`, { next: `Its limits: ${Object.keys(limitsOf(budget)).join(", ") || "none"}.` });
  const event = { task_id: budget.id, event: "budget_added", actor: by.actor, from: null, to: null, reason: by.reason, details: { ...add } };
  return { puts: [record(event, by.now)], additions: names.map((name) => ({ kind: "budget", key: budget.id, field: name, n: add[name]! })) };
}

/** One resource of a budget, for people and programs. `left` is null without a limit. */
export type Spent = { readonly limit: number | null; readonly spent: number; readonly reserved: number; readonly in_doubt: number; readonly left: number | null };
export type Spend = { readonly [resource in Resource]: Spent } & {
  readonly input_tokens: number;
  readonly output_tokens: number;
  /** "unknown": some calls went to models without a price; their cost is not in `cost_micros`. */
  readonly cost: "known" | "unknown";
  readonly unpriced_calls: number;
  /** Resources of which `LIMITS.budgetPressure` and more is used. */
  readonly pressure: readonly Resource[];
};

export function spendOf(budget: Budget): Spend {
  const spent = Object.fromEntries(RESOURCES.map((resource) => [resource, spentOf(budget, resource)])) as { [resource in Resource]: Spent };
  const unpriced = budget.unpriced_calls ?? 0;
  return { ...spent, input_tokens: budget.input_tokens ?? 0, output_tokens: budget.output_tokens ?? 0, cost: unpriced > 0 ? "unknown" : "known", unpriced_calls: unpriced, pressure: pressureOf(budget) };
}

function spentOf(budget: Budget, resource: Resource): Spent {
  const [limit, all, reserved, in_doubt] = [budget[`max_${resource}`], budget[`used_${resource}`] ?? 0, budget[`reserved_${resource}`] ?? 0, budget[`in_doubt_${resource}`] ?? 0];
  return { limit, spent: all - reserved - in_doubt, reserved, in_doubt, left: limit === null ? null : Math.max(0, limit - all) };
}

/** The resources that run low. */
export function pressureOf(budget: Budget): Resource[] {
  return RESOURCES.filter((resource) => budget[`max_${resource}`] !== null && (budget[`used_${resource}`] ?? 0) >= budget[`max_${resource}`]! * LIMITS.budgetPressure);
}

export function isUnderPressure(budget: Budget): boolean {
  return pressureOf(budget).length > 0;
}

/* ---------- money ---------- */

/** What a million tokens cost, in the currency of the table. */
export type Price = { readonly input: number; readonly output: number };
export type Prices = { readonly [model: string]: Price };

/** What a call cost, in millionths, rounded up; null when the table has no price for the model. */
export function costOf(prices: Prices | undefined, model: string, tokens: { readonly input_tokens: number; readonly output_tokens: number }): number | null {
  const price = prices && Object.hasOwn(prices, model) ? prices[model]! : null;
  return price === null ? null : Math.ceil(tokens.input_tokens * price.input + tokens.output_tokens * price.output);
}

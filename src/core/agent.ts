// An agent is the saved state of one model-driven loop on one task: goal, constraints, budget, plan, facts, questions,
// artifacts, risk flags. Its record holds what is counted; everything that is added is an entry of its own, which holds from
// one revision until another. So nothing is written twice, storage is linear in what was added, and the state at any
// revision is a filter. Only a patch (patch.ts) changes it, and it raises `revision` by one.

//   (none) ── opened by the loop, under the fence of its task ──▶ revision 0, epoch 0
//   revision n ── patch ──▶ n + 1            epoch n ── context cleared, with a carry-over ──▶ n + 1
//   task reset: a patch ends every entry; the next epoch begins without a carry-over; the budget stays spent
import type { Json } from "../base/json.ts";
import type { Kind } from "../store/store.ts";
import { isUnderPressure, limitsOf, spendOf, type Budget, type BudgetLimits, type Spend } from "./budget.ts";
import type { ActionPolicy } from "./approval.ts";

/** The part of an agent's state an entry belongs to. */
export type Part = "plan" | "fact" | "question" | "artifact" | "risk_flag";

/** What a model, a tool or a person holds to be so. `source` says who: `user`, `tool`, `model`, or a name of your own. */
export type Fact = {
  readonly key: string;
  readonly value: Json;
  readonly source: string;
  readonly artifact_id?: string;
  /** 0 to 1. */
  readonly confidence?: number;
};

/** A large value kept out of the record and out of the model's context. */
export type ArtifactNote = { readonly artifact_id: string; readonly type: string; readonly summary: string; readonly bytes: number };

/** What a run must keep to. Fields of your own are kept and shown to the model. */
export type Constraints = { readonly human_in_the_loop?: ActionPolicy } & { readonly [name: string]: Json | ActionPolicy | undefined };

/** The contract: the state as models, people and `--json` see it. */
export type AgentState = {
  readonly goal: string;
  readonly constraints: Constraints;
  /** Limits that are set; what is spent of them is apart. */
  readonly budget: BudgetLimits;
  readonly plan: readonly string[];
  readonly known_facts: readonly Fact[];
  readonly open_questions: readonly string[];
  readonly artifacts: readonly ArtifactNote[];
  /** `budget_pressure` comes and goes with the budget; the others are added and cleared by patches. */
  readonly risk_flags: readonly string[];
};

/** The record of an agent: one for a task. */
export type Agent = {
  readonly task_id: number;
  readonly goal: string;
  readonly constraints: Constraints;
  /** The budget it spends from: its own, named by its task. */
  readonly budget_id: number;
  /** How many patches were applied. */
  readonly revision: number;
  /** The number of the last entry. */
  readonly entries: number;
  /** The round of the task that it has taken in. */
  readonly round: number;
  /** Counts conversations: messages of earlier epochs are kept, and no longer shown to the model. */
  readonly epoch: number;
  /** The number of the last message before this epoch. */
  readonly epoch_after: number;
  /** Tokens of the conversation of this epoch, as the provider counted last. */
  readonly context_tokens: number;
  readonly model: string | null;
  readonly created_at: string;
  readonly updated_at: string;
};

/** One thing that was added to an agent's state. It holds from revision `since`; from revision `until` on it does not. */
export type Entry = {
  readonly task_id: number;
  readonly id: number;
  readonly part: Part;
  /** What makes two entries of a part the same thing: a fact's key, an artifact's id, a flag's name, the mark of a question. */
  readonly key: string;
  /** A fact's value, a question's text, the list of a plan, an artifact without its id. */
  readonly value: Json;
  readonly source: string | null;
  readonly artifact_id: string | null;
  readonly confidence: number | null;
  readonly since: number;
  readonly until: number | null;
  readonly current: boolean;
  readonly ended_as: "superseded" | "retracted" | "resolved" | "replaced" | "cleared" | null;
  /** Why it ended, or the answer of a question. */
  readonly note: string | null;
};

export const AGENT_KIND: Kind = {
  name: "agent",
  fields: {
    task_id: "integer", goal: "text", constraints: "json", budget_id: "integer", revision: "integer", entries: "integer", round: "integer", epoch: "integer",
    epoch_after: "integer", context_tokens: "integer", model: "text", created_at: "text", updated_at: "text",
  },
  key: ["task_id"],
  indexes: { updated: { fields: ["updated_at"] } },
};

export const ENTRY_KIND: Kind = {
  name: "entry",
  fields: {
    task_id: "integer", id: "integer", part: "text", key: "text", value: "json", source: "text", artifact_id: "text", confidence: "real", since: "integer",
    until: "integer", current: "boolean", ended_as: "text", note: "text",
  },
  key: ["task_id", "id"],
  indexes: {
    current: { fields: ["task_id", "part", "key"], where: { current: true } },
    since: { fields: ["task_id", "since"] },
    until: { fields: ["task_id", "until"], notNull: ["until"] },
  },
};

/** True when the entry holds at that revision. */
export function holdsAt(entry: Entry, revision: number): boolean {
  return entry.since <= revision && (entry.until === null || entry.until > revision);
}

/** The state that entries make, in the order in which they were added. `entries` are those that hold. */
export function stateOf(agent: Pick<Agent, "goal" | "constraints">, entries: readonly Entry[], budget: Budget): AgentState {
  const inOrder = [...entries].sort((a, b) => a.id - b.id);
  const of = (part: Part) => inOrder.filter((entry) => entry.part === part);
  const flags = of("risk_flag").map((entry) => entry.key);
  return {
    goal: agent.goal,
    constraints: agent.constraints,
    budget: limitsOf(budget),
    plan: (of("plan").at(-1)?.value ?? []) as string[],
    known_facts: of("fact").map(factOf),
    open_questions: of("question").map((entry) => entry.value as string),
    artifacts: of("artifact").map((entry) => ({ artifact_id: entry.key, ...(entry.value as Omit<ArtifactNote, "artifact_id">) })),
    risk_flags: isUnderPressure(budget) && !flags.includes("budget_pressure") ? [...flags, "budget_pressure"] : flags,
  };
}

export function factOf(entry: Entry): Fact {
  return {
    key: entry.key, value: entry.value, source: entry.source ?? "", ...(entry.artifact_id === null ? {} : { artifact_id: entry.artifact_id }),
    ...(entry.confidence === null ? {} : { confidence: entry.confidence }),
  };
}

/** An agent as it is looked at: its record, the contract, and what was spent. */
export type AgentView = { readonly agent: Agent; readonly state: AgentState; readonly spend: Spend };

export function viewOf(agent: Agent, entries: readonly Entry[], budget: Budget): AgentView {
  return { agent, state: stateOf(agent, entries, budget), spend: spendOf(budget) };
}

/** What is different at revision `to` from revision `from`: entries that came, and entries that went. */
export type AgentDiff = { readonly from: number; readonly to: number; readonly added: readonly Entry[]; readonly ended: readonly Entry[] };

export function diffOf(entries: readonly Entry[], from: number, to: number): AgentDiff {
  const added = entries.filter((entry) => !holdsAt(entry, from) && holdsAt(entry, to));
  const ended = entries.filter((entry) => holdsAt(entry, from) && !holdsAt(entry, to));
  return { from, to, added, ended };
}

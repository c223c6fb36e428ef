// The saved states of model-driven loops: looked at, patched, compared, and given more to spend.
import { PawlError } from "../base/errors.ts";
import type { BudgetLimits } from "../core/budget.ts";
import type { Patch } from "../core/patch.ts";
import { ID, operation, REASON, reasonOf, type Operation } from "./operation.ts";

const AGENT = { ...ID, summary: "id or key of the agent's task" } as const;
const LIMIT = { type: "integer", summary: "at most so many (default: 100)", min: 1 } as const;

/** `max_steps=10` as a limit to raise. What it may be is the budget's to say. */
function added(texts: readonly string[]): BudgetLimits {
  return Object.fromEntries(
    texts.map((text) => {
      const [, name, value] = /^([^=]+)=(\d{1,15})$/.exec(text) ?? [];
      if (name === undefined) throw new PawlError("usage", `"${text}" does not say what to add.`, { next: "Write NAME=NUMBER, such as max_llm_tokens=50000." });
      return [name, Number(value)];
    }),
  );
}

export const agentOperations: readonly Operation[] = [
  operation({ name: "agent_list", command: "agent list", summary: "List agents, the one that changed last first", effect: "read", output: "agent-list", params: { limit: LIMIT }, run: (state, input) => state.agents.list(input.limit ?? 100) }),
  operation({ name: "agent_show", command: "agent show", summary: "Show an agent: goal, plan, facts, questions, and what it has spent", effect: "read", output: "agent", params: { id: AGENT }, run: (state, input) => state.agents.show(input.id) }),
  operation({
    name: "agent_patch", command: "agent patch", summary: "Change what an agent knows and plans; all of it or nothing", effect: "write", output: "patch",
    params: {
      id: AGENT, patch: { type: "json", summary: "the patch, as JSON", required: true, arg: true, stdin: true },
      revision: { type: "integer", summary: "refuse it unless the agent is at this revision", min: 0 }, reason: REASON,
    },
    run: async (state, input) => (await state.agents.patch(input.id, input.patch as Patch, { ...reasonOf(input), ...(input.revision === undefined ? {} : { revision: input.revision }) })).patch,
  }),
  operation({
    name: "agent_history", command: "agent history", summary: "List the patches of an agent, oldest first", effect: "read", output: "patch-list",
    params: { id: AGENT, after: { type: "integer", summary: "only those after this revision", min: 0 }, limit: LIMIT },
    run: (state, input) => state.agents.history(input.id, { limit: input.limit ?? 100, ...(input.after === undefined ? {} : { after: input.after }) }),
  }),
  operation({
    name: "agent_diff", command: "agent diff", summary: "Show what changed in an agent between two revisions", effect: "read", output: "agent-diff",
    params: { id: AGENT, from: { type: "integer", summary: "revision to compare with", required: true, min: 0 }, to: { type: "integer", summary: "revision that is compared (default: the present one)", min: 0 } },
    run: (state, input) => state.agents.diff(input.id, input.from, input.to),
  }),
  operation({
    name: "agent_at", command: "agent at", summary: "Show the state of an agent as it was at a revision", effect: "read", output: "agent-state",
    params: { id: AGENT, revision: { type: "integer", summary: "the revision", required: true, arg: true, min: 0 } },
    run: (state, input) => state.agents.at(input.id, input.revision),
  }),
  operation({
    name: "agent_messages", command: "agent messages", summary: "Show the conversation of an agent", effect: "read", output: "message-list",
    params: { id: AGENT, epoch: { type: "integer", summary: "conversation number (default: the present one)", min: 0 }, all: { type: "boolean", summary: "all conversations, also cleared ones" }, after: { type: "integer", summary: "only messages after this number", min: 0 }, limit: LIMIT },
    run: (state, input) => state.agents.messages(input.id, { limit: input.limit ?? 100, ...(input.all ? { epoch: "all" as const } : input.epoch === undefined ? {} : { epoch: input.epoch }), ...(input.after === undefined ? {} : { after: input.after }) }),
  }),
  operation({
    name: "agent_budget", command: "agent budget", summary: "Show what an agent has spent, or raise its limits", effect: "write", settles: true, output: "budget",
    params: { id: AGENT, add: { type: "texts", summary: "NAME=NUMBER to add to a limit, such as max_llm_tokens=50000; a decision about it is approved" }, reason: REASON },
    run: async (state, input) => (input.add === undefined ? state.agents.budget(input.id) : (await state.agents.addToBudget(input.id, added(input.add), reasonOf(input))).budget),
  }),
];

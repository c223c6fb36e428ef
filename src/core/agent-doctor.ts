// What is wrong with the agents of a state: patches that were altered or are missing, and a state that is not what its
// patches make. Invariant: looking writes nothing.
import { finding, type Finding } from "../base/finding.ts";
import { fingerprint, sameJson, type Json } from "../base/json.ts";
import type { Rec, Store } from "../store/store.ts";
import type { Agent, Entry } from "./agent.ts";
import { RESOURCES, type Budget } from "./budget.ts";
import { applyPatch, touchedBy, type PatchRecord } from "./patch.ts";

const NEXT = "Restore the state from a backup, or let the task begin again: pawl reset ID.";
const PAGE = 500;

/** Folds the patches of an agent anew and compares. The first thing that is wrong is said. */
export async function agentFindings(store: Store, agent: Agent): Promise<Finding[]> {
  const record = `agent of task ${agent.task_id}`;
  const damaged = (why: string) => [finding("agent_damaged", "", why, { record, next: NEXT })];
  const patches = (await all(store, "patch", agent.task_id)) as unknown as PatchRecord[];
  const fold = new Map<number, Entry>();
  let last = 0;
  for (const [i, patch] of patches.entries()) {
    // A patch that came after the agent was read is the next look's.
    if (patch.revision > agent.revision) break;
    if (patch.revision !== i + 1) return damaged(`The patch to revision ${i + 1} is missing.`);
    if (fingerprint(patch.delta as unknown as Json) !== patch.hash) return damaged(`The patch to revision ${patch.revision} is not what was applied: its hash differs.`);
    last = apply(agent, patch, last, fold);
  }
  if (patches.length < agent.revision) return damaged(`It is at revision ${agent.revision}, and ${patches.length} patches are there.`);
  for (const entry of (await all(store, "entry", agent.task_id)) as unknown as Entry[]) {
    if (entry.since > agent.revision) continue;
    if (!sameEntry(entry, fold.get(entry.id), agent.revision)) return damaged(`Its ${entry.part} "${entry.key}" is not what its patches make of it.`);
    fold.delete(entry.id);
  }
  return fold.size === 0 ? [] : damaged(`${fold.size} of its entries are missing.`);
}

function apply(agent: Agent, patch: PatchRecord, last: number, fold: Map<number, Entry>): number {
  const touched = new Set(touchedBy(patch.delta).map(({ part, key }) => `${part} ${key}`));
  const current = [...fold.values()].filter((entry) => entry.current && (patch.delta.begin_again || touched.has(`${entry.part} ${entry.key}`)));
  const { added, ended, entries } = applyPatch({ task_id: agent.task_id, revision: patch.revision - 1, entries: last }, current, patch.delta);
  for (const entry of [...added, ...ended]) fold.set(entry.id, entry);
  return entries;
}

/** What ended after the revision that was read still held then. */
function sameEntry(entry: Entry, folded: Entry | undefined, revision: number): boolean {
  if (!folded) return false;
  const until = entry.until !== null && entry.until > revision ? null : entry.until;
  return until === folded.until && entry.since === folded.since && entry.part === folded.part && entry.key === folded.key && entry.source === folded.source && sameJson(entry.value, folded.value);
}

/** A budget whose parts are more than the whole. */
export function budgetFindings(record: Rec): Finding[] {
  const budget = record as unknown as Budget;
  const bad = RESOURCES.find((resource) => {
    const [used, reserved, in_doubt] = [budget[`used_${resource}`] ?? 0, budget[`reserved_${resource}`] ?? 0, budget[`in_doubt_${resource}`] ?? 0];
    return Math.min(used, reserved, in_doubt) < 0 || used < reserved + in_doubt;
  });
  return bad === undefined ? [] : [finding("agent_damaged", "", `Of ${bad} more is reserved and in doubt than was used.`, { record: `budget of task ${budget.id}`, next: NEXT })];
}

async function all(store: Store, kind: string, task_id: number): Promise<Rec[]> {
  const found: Rec[] = [];
  for (let after: Rec | undefined; ; after = found.at(-1)) {
    const page = await store.list(kind, { equals: { task_id }, limit: PAGE, ...(after ? { after } : {}) });
    found.push(...page);
    if (page.length < PAGE) return found;
  }
}

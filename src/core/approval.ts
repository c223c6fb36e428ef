// An action (a call of a tool) that a person must approve before it is done: by the risk level of the tool, or by a rule of
// one's own. The decision shows tool, arguments, their hash and the risk. Invariants: what runs is what was approved,
// edited or not; other arguments need another decision; approved, edited, denied, expired and cancelled stay apart.
import { fingerprint, type Json } from "../base/json.ts";
import type { Ask } from "./decision.ts";
import type { Decision, ExpiryPolicy } from "./records.ts";

/** What a tool may do to the world. */
export const RISK_LEVELS = ["read_only", "write_local", "external_action"] as const;
export type RiskLevel = (typeof RISK_LEVELS)[number];

/** Part of an agent's constraints: `human_in_the_loop`. */
export type ActionPolicy = {
  readonly required_for_risk_levels?: readonly RiskLevel[];
  /** Tools that need a person whatever their level, and tools that never do. A tool in both needs one. */
  readonly required_for_tools?: readonly string[];
  readonly never_for_tools?: readonly string[];
  /** How long a decision is open before `on_expiry` applies; without it, for good. */
  readonly expires_in_ms?: number;
  readonly on_expiry?: ExpiryPolicy;
};

/** The policy of the contract: whatever changes something outside the conversation is a person's to approve. */
export const DEFAULT_POLICY: ActionPolicy = { required_for_risk_levels: ["write_local", "external_action"] };

export type Action = { readonly tool: string; readonly arguments: Json; readonly risk: RiskLevel; readonly call_id?: string };

/** A rule of one's own beside the levels: `true` asks, `false` does not, undefined leaves it to the policy. */
export type ActionRule = (action: Action) => boolean | undefined;

/** Whether a person must approve the action. A rule that throws asks: a policy that fails must not open the door. */
export function needsApproval(action: Action, policy: ActionPolicy = DEFAULT_POLICY, rule?: ActionRule): boolean {
  if (policy.required_for_tools?.includes(action.tool)) return true;
  try {
    const said = rule?.(action);
    if (said !== undefined) return said;
  } catch {
    return true;
  }
  if (policy.never_for_tools?.includes(action.tool)) return false;
  return (policy.required_for_risk_levels ?? DEFAULT_POLICY.required_for_risk_levels!).includes(action.risk);
}

/** What the decision shows, and what it is about: exactly these arguments. */
export type ActionDetails = { readonly tool: string; readonly arguments: Json; readonly arguments_hash: string; readonly risk: RiskLevel; readonly call_id: string | null };

/** The decision to ask for before the action is done. */
export function askForAction(action: Action, taskId: number, policy: ActionPolicy = DEFAULT_POLICY): Ask {
  const details: ActionDetails = { tool: action.tool, arguments: action.arguments, arguments_hash: fingerprint(action.arguments), risk: action.risk, call_id: action.call_id ?? null };
  return {
    kind: "action", question: `May task ${taskId} call ${action.tool} (${action.risk})?`, details,
    ...(policy.expires_in_ms === undefined ? {} : { expires_in_ms: policy.expires_in_ms, on_expiry: policy.on_expiry ?? "wait" }),
  };
}

/** What became of an action. Only of approved and edited ones there are arguments: those that may run. */
export type ActionOutcome =
  | { readonly outcome: "approved" | "edited"; readonly arguments: Json; readonly arguments_hash: string; readonly by: string | null; readonly reason: string | null }
  | { readonly outcome: "denied"; readonly reason: string; readonly by: string | null }
  | { readonly outcome: "expired" | "cancelled"; readonly reason: string };

/** Reads a settled decision about an action; null while it is open. */
export function outcomeOf(decision: Decision): ActionOutcome | null {
  const details = decision.details as unknown as ActionDetails;
  const by = decision.settled_by;
  switch (decision.status) {
    case "approved":
      return { outcome: "approved", arguments: details.arguments, arguments_hash: details.arguments_hash, by, reason: decision.reason };
    case "edited":
      return { outcome: "edited", arguments: decision.value, arguments_hash: fingerprint(decision.value), by, reason: decision.reason };
    case "denied":
      return { outcome: "denied", reason: decision.reason ?? "denied without a reason", by };
    case "expired":
      return { outcome: "expired", reason: `nobody answered decision ${decision.id} before ${decision.expires_at ?? "its time ran out"}` };
    case "withdrawn":
      return { outcome: "cancelled", reason: `decision ${decision.id} was withdrawn` };
    default:
      return null;
  }
}

// Actions that a person approves: which need one, what the decision shows, and that what runs is what was approved. Approved,
// edited, denied, expired and cancelled stay apart, over restarts; other arguments are another decision.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fingerprint, type Json } from "../../src/base/json.ts";
import { askForAction, needsApproval, outcomeOf, type Action, type ActionOutcome, type ActionPolicy } from "../../src/core/approval.ts";
import type { TaskContext } from "../../src/worker/context.ts";
import { simulate, type Simulation } from "../simulation.ts";
import { STORES } from "../stores.ts";

const HOUR = 3_600_000;
const rm = (path: string): Action => ({ tool: "rm", arguments: { path }, risk: "write_local" });

/** A task whose code asks for an action and returns what became of it. Any of the workers may run it: the policy is its input. */
async function acting(sim: Simulation, policy: ActionPolicy = {}, action: () => Action = () => rm("/var/log")): Promise<number> {
  const { id } = await sim.state.tasks.add({ description: "x", input: policy as Json });
  sim.start((async (task: { id: number; input: Json }, { decide }: TaskContext) => outcomeOf(await decide("act", askForAction(action(), task.id, task.input as ActionPolicy)))) as never);
  await sim.until(id, "waiting");
  return id;
}

const resultOf = async (sim: Simulation, id: number) => (await sim.until(id)).result as unknown as ActionOutcome;

for (const store of STORES) {
  test(`row 5, ${store.name}: approved, edited, denied: each is what it is, and runs with what was approved`, async (t) => {
    const sim = await simulate(t, store);
    const rows: [{ answer: string; edit?: Json; reason?: string }, string, object][] = [
      [{ answer: "approve" }, "approved", { outcome: "approved", arguments: { path: "/var/log" }, by: "bob", reason: null }],
      [{ answer: "approve", edit: { path: "/var/log/old" }, reason: "the old ones" }, "edited", { outcome: "edited", arguments: { path: "/var/log/old" }, by: "bob", reason: "the old ones" }],
      [{ answer: "approve", edit: { path: "/var/log" } }, "approved", { outcome: "approved", arguments: { path: "/var/log" }, by: "bob", reason: null }],
      [{ answer: "deny", reason: "not on a Friday" }, "denied", { outcome: "denied", reason: "not on a Friday", by: "bob" }],
    ];
    for (const [settlement, status, outcome] of rows) {
      const id = await acting(sim);
      const [decision] = await sim.state.decisions.inbox();
      assert.deepEqual([decision!.kind, decision!.details], ["action", { tool: "rm", arguments: { path: "/var/log" }, arguments_hash: fingerprint({ path: "/var/log" }), risk: "write_local", call_id: null }]);
      const settled = await sim.state.decisions.settle(decision!.id, { ...settlement, actor: "bob" });
      assert.equal(settled.status, status);
      assert.deepEqual((settled.details as { arguments: Json }).arguments, { path: "/var/log" }, "what was asked for is kept beside it");
      const { arguments_hash, ...became } = (await resultOf(sim, id)) as { arguments_hash?: string };
      assert.deepEqual(became, outcome);
      if ("arguments" in became) assert.equal(arguments_hash, fingerprint(became.arguments as Json));
      await assert.rejects(sim.state.decisions.settle(decision!.id, { answer: "deny", actor: "eve" }), { code: "illegal_transition" });
    }
  });

  test(`row 6, ${store.name}: nobody answers: by policy it waits on, expires, or is asked again`, async (t) => {
    const sim = await simulate(t, store);
    const [waits, expires, escalates] = [await acting(sim, { expires_in_ms: HOUR }), await acting(sim, { expires_in_ms: HOUR, on_expiry: "deny" }), await acting(sim, { expires_in_ms: HOUR, on_expiry: "escalate" })];
    sim.clock.jump(HOUR);
    assert.deepEqual(await resultOf(sim, expires), { outcome: "expired", reason: `nobody answered decision d2 before ${(await sim.state.decisions.get("d2")).expires_at}` });
    const [first, third] = [await sim.state.decisions.get("d1"), await sim.state.decisions.get("d3")];
    assert.deepEqual([first.status, first.escalated_at, third.status, typeof third.escalated_at], ["open", null, "open", "string"]);
    assert.deepEqual((await sim.state.decisions.inbox()).map(({ id }) => id), ["d1", "d3"]);
    for (const id of ["d1", "d3"]) await sim.state.decisions.settle(id, { answer: "approve", actor: "bob" });
    for (const id of [waits, escalates]) assert.equal((await resultOf(sim, id)).outcome, "approved");
  });
}

test("row 5: other arguments are another decision, and the first is no answer to it", async (t) => {
  const sim = await simulate(t);
  let path = "/var/log";
  const id = await acting(sim, {}, () => rm(path));
  path = "/etc";
  await sim.state.decisions.settle("d1", { answer: "approve", actor: "bob" });
  await sim.untilTrue(async () => (await sim.state.decisions.inbox()).length === 1);
  const [second] = await sim.state.decisions.inbox();
  assert.deepEqual([second!.id, (second!.details as { arguments: Json }).arguments], ["d2", { path: "/etc" }]);
  await sim.state.decisions.settle("d2", { answer: "deny", reason: "no", actor: "bob" });
  assert.equal((await resultOf(sim, id)).outcome, "denied");
});

test("a cancelled task's decision is withdrawn; whoever asked cannot settle; only actions are edited", async (t) => {
  const sim = await simulate(t);
  const id = await acting(sim);
  const { asked_by } = await sim.state.decisions.get("d1");
  await assert.rejects(sim.state.decisions.settle("d1", { answer: "approve", actor: asked_by }), { code: "illegal_transition" });
  await assert.rejects(sim.state.decisions.settle("d1", { answer: "deny", edit: {}, actor: "bob" }), { code: "usage" });
  await sim.state.tasks.cancel(id);
  const withdrawn = await sim.state.decisions.get("d1");
  assert.deepEqual([withdrawn.status, outcomeOf(withdrawn)!.outcome], ["withdrawn", "cancelled"]);
  const plain = await simulate(t);
  const other = await plain.state.tasks.add({ description: "y" });
  plain.start(async (_, { approve }) => approve("go", "Go?"));
  await plain.until(other.id, "waiting");
  await assert.rejects(plain.state.decisions.settle("d1", { answer: "approve", edit: {}, actor: "bob" }), { code: "usage", message: /no arguments to edit: it is about approval/ });
});

test("which actions need a person", () => {
  const of = (risk: Action["risk"], tool = "t"): Action => ({ tool, risk, arguments: {} });
  const rows: [Action, ActionPolicy | undefined, boolean][] = [
    [of("read_only"), undefined, false], [of("write_local"), undefined, true], [of("external_action"), undefined, true],
    [of("write_local"), { required_for_risk_levels: ["external_action"] }, false], [of("external_action"), { required_for_risk_levels: [] }, false], [of("read_only"), { required_for_risk_levels: ["read_only"] }, true],
    [of("read_only", "peek"), { required_for_tools: ["peek"] }, true], [of("external_action", "ping"), { never_for_tools: ["ping"] }, false],
    [of("external_action", "ping"), { never_for_tools: ["ping"], required_for_tools: ["ping"] }, true], [of("write_local"), { on_expiry: "deny" }, true],
  ];
  for (const [action, policy, needed] of rows) assert.equal(needsApproval(action, policy), needed, JSON.stringify([action, policy]));
  assert.equal(needsApproval(of("read_only"), {}, () => true), true);
  assert.equal(needsApproval(of("external_action"), {}, () => false), false);
  assert.equal(needsApproval(of("external_action"), {}, () => undefined), true);
  assert.equal(needsApproval(of("read_only"), {}, () => { throw new Error("policy server is down"); }), true, "a rule that fails does not open the door");
  assert.equal(needsApproval(of("external_action", "pay"), { required_for_tools: ["pay"] }, () => false), true);
});

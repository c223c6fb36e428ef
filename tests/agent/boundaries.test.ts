// An agent that dies at every one of its writes, before and after each, in simulated processes: what is recorded happens
// once, what is unknown is checked or asked about, and no token that was billed is missing.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Step } from "../../src/core/records.ts";
import { LEASE_MS, simulate, type Death } from "../simulation.ts";
import { answerFor, scenarioAgent, turnModel, violations, type World } from "./scenario.ts";

type Run = { readonly found: string[]; readonly died: boolean; readonly asked: boolean };

async function runOnce(t: Parameters<typeof simulate>[0], death: Death | undefined): Promise<Run> {
  const sim = await simulate(t);
  const lines: string[] = [];
  const world: World = { append: (line) => void lines.push(line), lines: () => lines };
  const billed = { input: 0, output: 0, calls: 0 };
  const make = () => scenarioAgent(turnModel(billed), world);
  const { id } = await sim.state.tasks.add({ description: "follow the plan" });
  const first = sim.start(make() as never, death ? { death } : {});
  await sim.untilTrue(async () => first.dead || (await sim.state.tasks.get(id)).status !== "pending");
  await sim.untilTrue(async () => first.dead || ["completed", "waiting"].includes((await sim.state.tasks.get(id)).status));
  const before = (await sim.state.tasks.steps(id)) as readonly Step[];
  let asked = false;
  if (first.dead) {
    await sim.clock.advance(LEASE_MS + 1_000);
    sim.start(make() as never);
    for (let status = ""; status !== "completed"; ) {
      status = (await sim.until(id, "completed", "waiting", "failed", "cancelled")).status;
      if (status !== "waiting") break;
      asked = true;
      const [decision] = await sim.state.decisions.inbox();
      await sim.state.decisions.settle(decision!.id, { ...answerFor(world, decision!), actor: "bea" });
    }
  }
  const task = await sim.state.tasks.get(id);
  if (task.status !== "completed") return { found: [`it ended ${task.status}: ${JSON.stringify(task.error)}`], died: first.dead, asked };
  return { found: violations({ result: task.result, world, before, view: await sim.state.agents.show(id), billed, deaths: first.dead ? 1 : 0 }), died: first.dead, asked };
}

test("row 1: an agent that dies before or after any of its writes ends as if it had not, and says what it cannot know", async (t) => {
  let asked = 0;
  let writes = 0;
  for (let write = 1; ; write++) {
    const ends = [await runOnce(t, { write, when: "before" }), await runOnce(t, { write, when: "after" })];
    for (const [i, { found }] of ends.entries()) assert.deepEqual(found, [], `death ${i === 0 ? "before" : "after"} write ${write}`);
    asked += ends.filter((end) => end.asked).length;
    if (ends.every(({ died }) => !died)) break;
    writes = write;
  }
  t.diagnostic(`${writes} writes; asked about an unknown effect ${asked} times`);
  assert.ok(writes > 20, `only ${writes} writes`);
  assert.ok(asked > 0, "some death must leave the payment in question");
});

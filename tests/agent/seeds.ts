// Agents of random shape that die at random moments, up to twice: between an effect and its record, before and after any write.
// Invariant: what started and was not recorded is said to be unknown, exactly that and nothing else; no effect that must
// not be repeated happens twice, and every token is accounted for.
import type { TestContext } from "node:test";
import fc from "fast-check";
import { sleep } from "../../src/base/clock.ts";
import { seededRandom } from "../../src/base/id.ts";
import type { LanguageModel } from "../../src/agent/model.ts";
import type { Step } from "../../src/core/records.ts";
import { ENDED, LEASE_MS, simulate, type Death, type Simulation, type Started } from "../simulation.ts";
import { answerFor, scenarioAgent, turnModel, violations, type World } from "./scenario.ts";
import type { Answer } from "./server.ts";

/** When a life ends: at its n-th write, or at the n-th moment just before or after an effect. */
type Fate = { readonly at: "before" | "after" | "effect"; readonly part: number };
type Plan = { readonly tools: readonly (readonly string[])[]; readonly fates: readonly Fate[]; readonly pace: number };

const PLAN: fc.Arbitrary<Plan> = fc.record({
  tools: fc.array(fc.array(fc.constantFrom("read", "write", "pay"), { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 4 }),
  fates: fc.array(fc.record({ at: fc.constantFrom("before" as const, "after" as const, "effect" as const), part: fc.double({ min: 0, max: 0.999, noNaN: true }) }), { minLength: 1, maxLength: 2 }),
  pace: fc.nat(),
});

const NEVER = new Promise<never>(() => undefined);

function turnsOf({ tools }: Plan): Answer[] {
  return [...tools.map((names, turn) => ({ calls: names.map((name, i) => ({ name, args: { name: `${turn}-${i}` } })) })), { text: "All done." }];
}

/** About as many writes as a whole life has. */
const writesOf = ({ tools }: Plan) => 6 + tools.length * 3 + tools.flat().length * 3;

type Tally = { readonly billed: { input: number; output: number; calls: number }; readonly world: World; readonly turns: readonly Answer[] };

/** Starts a process that works the plan and meets its fate. What a dead process would still do reaches nobody. */
function live(sim: Simulation, plan: Plan, { billed, world, turns }: Tally, fate: Fate | undefined, pace: () => number): Started {
  const own = { one: null as Started | null, moments: 0 };
  const dead = () => own.one?.dead === true;
  const last = fate?.at === "effect" ? 1 + Math.floor(fate.part * 2 * plan.tools.flat().length) : 0;
  const moment = async () => {
    const ms = Math.floor(pace() * 4) * 60;
    if (ms > 0) await sleep(sim.clock, ms);
    if (++own.moments === last) own.one!.die();
    if (dead()) await NEVER;
  };
  const model = turnModel(billed, turns) as Extract<LanguageModel, object>;
  const mortal: LanguageModel = { ...model, doGenerate: async (options: never) => (dead() ? NEVER : model.doGenerate(options)) } as never;
  const death: Death | undefined = fate && fate.at !== "effect" ? { write: 1 + Math.floor(fate.part * writesOf(plan)), when: fate.at } : undefined;
  own.one = sim.start(scenarioAgent(mortal, { append: (line) => void (dead() || world.append(line)), lines: world.lines }, moment) as never, death ? { death } : {});
  return own.one;
}

const named = (steps: readonly Step[]) => steps.filter(({ name, status }) => name === "pay" && status === "started").map(({ key, start }) => `${key} ${start}`);

type Run = { readonly found: string[]; readonly deaths: number; readonly asked: number };

async function runPlan(t: Pick<TestContext, "after">, plan: Plan): Promise<Run> {
  const sim = await simulate(t as TestContext);
  const lines: string[] = [];
  const tally: Tally = { billed: { input: 0, output: 0, calls: 0 }, world: { append: (line) => void lines.push(line), lines: () => lines }, turns: turnsOf(plan) };
  const random = seededRandom(plan.pace);
  const { id } = await sim.state.tasks.add({ description: "follow the plan" });
  const [unknown, asked] = [new Set<string>(), new Set<string>()];
  let before: readonly Step[] = [];
  let deaths = 0;
  let one = live(sim, plan, tally, plan.fates[0], random.number);
  for (;;) {
    await sim.untilTrue(async () => one.dead || [...ENDED, "waiting"].includes((await sim.state.tasks.get(id)).status));
    if (one.dead) {
      await sim.clock.advance(LEASE_MS + 1_000);
      before = await sim.state.tasks.steps(id);
      for (const step of named(before)) unknown.add(step);
      one = live(sim, plan, tally, plan.fates[++deaths], random.number);
    } else if ((await sim.state.tasks.get(id)).status !== "waiting") break;
    for (const decision of await sim.state.decisions.inbox()) {
      const { step, start } = decision.details as { step: string; start: number };
      asked.add(decision.kind === "unknown_effect" ? `${step} ${start}` : `${decision.kind}: ${decision.question}`);
      await sim.state.decisions.settle(decision.id, { ...answerFor(tally.world, decision), actor: "bea" });
    }
  }
  const task = await sim.state.tasks.get(id);
  const found = violations({ result: task.result, world: tally.world, before, view: await sim.state.agents.show(id), billed: tally.billed, deaths, turns: tally.turns });
  for (const step of unknown) if (!asked.has(step)) found.push(`nobody was told that ${step} is unknown`);
  for (const step of asked) if (!unknown.has(step)) found.push(`somebody was asked about ${step}, which is known`);
  if (task.status !== "completed") found.push(`it ended ${task.status}: ${JSON.stringify(task.error)}`);
  return { found, deaths, asked: asked.size };
}

export type SeedReport = { readonly seeds: number; readonly deaths: number; readonly asked: number; readonly violations: string[] };

/** Runs so many of them. The first that breaks a promise is made as small as it goes and shown, with the seed that makes it again. */
export async function agentsOfSeeds(seeds: number): Promise<SeedReport> {
  const totals = { seeds: 0, deaths: 0, asked: 0 };
  const checked = await fc.check(
    fc.asyncProperty(PLAN, async (plan) => {
      const after: (() => unknown)[] = [];
      try {
        const { found, deaths, asked } = await runPlan({ after: (end: unknown) => void after.unshift(end as () => void) }, plan);
        totals.seeds++;
        totals.deaths += deaths;
        totals.asked += asked;
        if (found.length > 0) throw new Error(found.join("\n"));
      } finally {
        for (const end of after) await end();
      }
    }),
    { numRuns: seeds },
  );
  return { ...totals, violations: checked.failed ? [fc.defaultReportMessage(checked)!] : [] };
}

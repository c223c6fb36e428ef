// The parts of `npm run crash`: each a name, what it does, how often, and a run that returns figures and violations.
// Invariant: a part that found nothing wrong has an empty list of violations, and one that did nothing has one.
import { bytesOf, cuts, filesOf, flips, sweepDamage, wholeState } from "./damage.ts";
import { sweep, sweepKills } from "./disk-check.ts";
import { JOURNEY, ROTATIONS, SHORT, travel } from "./disk-workload.ts";
import { plans, sweepFaults } from "./faults.ts";
import { fillDisk, whyNoFullDisk } from "./fulldisk.ts";
import { crashImages } from "./images-pawl.ts";
import { killWorkers } from "./kills.ts";
import { copyCheckout, tryMutant } from "./mutants/run.ts";
import { RULE_MUTANTS } from "./mutants/rules.ts";
import { STORE_MUTANTS } from "./mutants/store.ts";
import { cutPower, whyNoPowerCuts } from "./powercut.ts";
import { whyNotRecorded } from "./record.ts";
import { killAgents, momentsOf, type AgentKills } from "../agent/kills.ts";
import { agentsOfSeeds, type SeedReport } from "../agent/seeds.ts";

export type PartReport = { readonly figures: { readonly [name: string]: unknown }; readonly violations: readonly string[] };
export type Part = { readonly name: string; readonly what: string; readonly count: number; run(count: number): Promise<PartReport> };

const CHECKPOINT_BYTES = 1_500;

/** Adds up the figures of several runs that are numbers. */
function total(reports: readonly { readonly violations: readonly string[] }[]): PartReport {
  const figures: { [name: string]: number } = {};
  for (const report of reports) for (const [name, value] of Object.entries(report)) if (typeof value === "number") figures[name] = (figures[name] ?? 0) + value;
  return { figures, violations: reports.flatMap(({ violations }) => violations) };
}

async function disk(count: number): Promise<PartReport> {
  const reports = [];
  let left = count;
  for (const steps of [SHORT, ROTATIONS, JOURNEY]) {
    const journey = await travel(steps, { checkpointBytes: CHECKPOINT_BYTES });
    const kills = await sweepKills(journey, { checkpointBytes: CHECKPOINT_BYTES, names: 6, every: 1, most: 24 });
    // What is left is crashed inside recoveries, most of it on the way that knows most.
    const share = steps === JOURNEY ? 1 : 0.25;
    const swept = await sweep(journey, { checkpointBytes: CHECKPOINT_BYTES, names: 11, second: Math.max(left * share, 1) });
    left -= kills.states + swept.states + swept.secondStates;
    reports.push(kills, swept);
  }
  return total(reports);
}

async function damage(count: number): Promise<PartReport> {
  const reports = [];
  for (const whole of [await wholeState(), await wholeState(CHECKPOINT_BYTES)]) {
    for (const path of filesOf(whole).filter((path) => !path.includes("/prev/"))) {
      const bytes = bytesOf(whole, path);
      reports.push(await sweepDamage(whole, path, cuts(bytes)), await sweepDamage(whole, path, flips(bytes, Math.max(1, Math.round((bytes.length * 8 * 10) / count)))));
    }
  }
  return total(reports);
}

async function faults(count: number): Promise<PartReport> {
  const { plans: all, calls } = await plans();
  const { violations, ...figures } = await sweepFaults(all.filter((_, i) => i % Math.max(1, Math.floor(all.length / count)) === 0), calls);
  return { figures, violations };
}

async function kills(count: number): Promise<PartReport> {
  const reports = [];
  for (const file of ["state.json", "state.db"]) {
    for (let left = count, seed = 7; left > 0; left -= 100, seed++) reports.push(await killWorkers({ file, kills: Math.min(100, left), workers: 4, seed }));
  }
  return total(reports);
}

async function agents(count: number): Promise<PartReport> {
  const reports: (AgentKills | SeedReport)[] = [await agentsOfSeeds(count)];
  for (const store of ["json", "sqlite", "postgres"]) reports.push(await killAgents({ store, at: await momentsOf(store, count) }));
  return total(reports);
}

async function mutants(count: number): Promise<PartReport> {
  const copy = copyCheckout();
  const violations: string[] = [];
  const all = [...STORE_MUTANTS, ...RULE_MUTANTS].slice(0, count);
  try {
    for (const mutant of all) {
      const wrong = await tryMutant(copy.folder, mutant);
      if (wrong !== null) violations.push(`${mutant.name}: ${wrong}`);
    }
  } finally {
    copy.remove();
  }
  return { figures: { mutants: all.length, noticed: all.length - violations.length }, violations };
}

const notDone = (why: string): PartReport => ({ figures: {}, violations: [`nothing was done: ${why}`] });

async function images(count: number): Promise<PartReport> {
  const why = whyNotRecorded();
  if (why !== null) return notDone(why);
  const reports = [];
  for (const file of ["state.json", "state.db"]) reports.push(await crashImages({ file, wanted: count, seed: 7 }));
  return total(reports);
}

async function powercuts(count: number): Promise<PartReport> {
  const why = whyNoPowerCuts();
  if (why !== null) return notDone(why);
  const { violations, kinds, missing, ...figures } = await cutPower({ cuts: count, seed: 7 });
  return { figures: { ...figures, ...kinds }, violations: [...violations, ...missing] };
}

async function fulldisk(): Promise<PartReport> {
  const why = whyNoFullDisk();
  if (why !== null) return notDone(why);
  const reports = [];
  for (const file of ["state.json", "state.db"]) {
    const { code, said, acknowledged, violations } = await fillDisk({ file });
    reports.push({ acknowledged, violations: code === 8 ? violations : [...violations, `${file}: a run on a full disk ended with ${code}: ${said}`] });
  }
  return total(reports);
}

export const PARTS: readonly Part[] = [
  { name: "disk", what: "power cuts of the JSON store on a simulated disk, at every operation and inside recoveries", count: 2_000_000, run: disk },
  { name: "faults", what: "a fault at every mutating call of the JSON store", count: 2_100, run: faults },
  { name: "damage", what: "every cut of every file of a JSON state, and its bits flipped", count: 1_000_000, run: damage },
  { name: "mutants", what: "deliberate bugs that a named test must notice", count: 1_000, run: mutants },
  { name: "kills", what: "kill -9 of four workers, JSON and SQLite", count: 500, run: kills },
  { name: "agents", what: "kill -9 of an agent of thirteen steps at each moment of its life, JSON, SQLite and Postgres; so many agents of random shape that die in memory", count: 1_000, run: agents },
  { name: "images", what: "crash states rebuilt from recorded system calls of the command line, JSON and SQLite, so many distinct ones of each", count: 50_000, run: images },
  { name: "powercuts", what: "real power cuts of ext4 and xfs under two processes, JSON and SQLite", count: 300, run: powercuts },
  { name: "fulldisk", what: "a run on a disk that fills up, JSON and SQLite", count: 2, run: fulldisk },
];

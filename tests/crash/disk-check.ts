// Reopens what a power cut left with the real JSON store, and says what is wrong with it: every acknowledged commit must be
// there, nothing that was not asked for, each whole; ids count on; nobody's edit is invented and none is lost.
// Invariant: a disk is opened once, whatever number of crashes leads to it; it must satisfy what each of them knows.
import type { Clock } from "../../src/base/clock.ts";
import { seededRandom } from "../../src/base/id.ts";
import { messageOf } from "../../src/base/errors.ts";
import { openJson } from "../../src/store/json/json.ts";
import { Interner, type Known, NOTHING_KNOWN, visitCrashStates } from "./crash-states.ts";
import { EMPTY, type Image, type Op, SimulatedDisk } from "./disk.ts";
import { contents, EDITED, FILE, type Journey, model, skippingClock, soleTurn } from "./disk-workload.ts";

export type SweepOptions = {
  readonly checkpointBytes: number;
  /** Changes of names of which every subset is tried. */
  readonly names: number;
  /** About so many states more come from crashing again inside recoveries; 0 without it. */
  readonly second?: number;
  /** At one moment at most about so many states are tried, evenly taken from all. */
  readonly most?: number;
};
/** `states`: crashes; `disks`: what differed of what they left, each opened once. */
export type SweepReport = { readonly states: number; readonly disks: number; readonly secondStates: number; readonly secondDisks: number; readonly violations: readonly string[] };

type Seen = { readonly image: Image; acked: Known; asked: Known; probes: number; edit: Known["edit"]; invented: boolean };

const START_MS = Date.UTC(2026, 0, 2);
/** After so many violations the rest would say the same. */
const ENOUGH = 3;
const SECOND_NAMES = 4;
/** More than a moment ever has while every file is flushed before it is named: a bound for when it is not. */
const MOST = 2_000;
/** Crashed disks are taken in strides, so that a part of them is a fair sample. */
const STRIDE = 7919;

/** Crashes everywhere on the way, reopens each distinct disk, and crashes some again inside the recovery. */
export async function sweep(journey: Journey, options: SweepOptions): Promise<SweepReport> {
  const interner = new Interner();
  const first = new Map<string, Seen>();
  const states = visitCrashStates(EMPTY, journey.log, { names: options.names, most: options.most ?? MOST }, interner, NOTHING_KNOWN, (key, image, known) => remember(first, key, image, known));
  const violations: string[] = [];
  for (const seen of first.values()) {
    violations.push(...violationsOf(seen, await reopen(seen.image, journey, options, 1)));
    if (violations.length >= ENOUGH) break;
  }
  const report = { states, disks: first.size, secondStates: 0, secondDisks: 0, violations };
  return violations.length > 0 || !options.second ? report : { ...report, ...(await sweepRecoveries(journey, options, [...first.values()], interner)) };
}

async function sweepRecoveries(journey: Journey, options: SweepOptions, disks: readonly Seen[], interner: Interner): Promise<Pick<SweepReport, "secondStates" | "secondDisks" | "violations">> {
  const known = new Map<string, Omit<Found, "log">>();
  const violations: string[] = [];
  let secondStates = 0;
  for (let i = 0; i < disks.length && secondStates < options.second! && violations.length < ENOUGH; i++) {
    const seen = disks[(i * STRIDE) % disks.length]!;
    const { log } = await reopen(seen.image, journey, options, 1);
    const start: Known = { asked: seen.asked.asked, acked: seen.acked.acked, probesAcked: seen.probes, edit: seen.edit, at: 0 };
    const again = new Map<string, Seen>();
    secondStates += visitCrashStates(seen.image, log, { names: SECOND_NAMES, most: options.most ?? MOST }, interner, start, (key, image, known) => remember(again, key, image, known));
    for (const [key, twice] of again) {
      if (violations.length >= ENOUGH) break;
      const { log: _, ...found } = known.has(key) ? { ...known.get(key)!, log: null } : await reopen(twice.image, journey, options, 2);
      known.set(key, found);
      violations.push(...violationsOf(twice, found).map((line) => `${line}, inside the recovery of a power cut after operation ${seen.acked.at}`));
    }
  }
  return { secondStates, secondDisks: known.size, violations };
}

/**
 * Kills the process after every so manieth operation; another goes on with what the kernel still has, durable or not, and
 * then the power goes, at any moment of that.
 */
export async function sweepKills(journey: Journey, options: SweepOptions & { readonly every: number }): Promise<SweepReport> {
  const violations: string[] = [];
  const interner = new Interner();
  const known = new Map<string, Omit<Found, "log">>();
  let states = 0;
  for (let killed = 0; killed <= journey.log.length && violations.length < ENOUGH; killed += options.every) {
    const clock = skippingClock(START_MS + 3_600_000);
    const disk = new SimulatedDisk(EMPTY, clock.now);
    disk.replay(journey.log.slice(0, killed));
    const found = await goOn(disk, clock, journey, options, 1);
    if (found.problem !== null) violations.push(`killed after operation ${killed}: ${found.problem}`);
    const disks = new Map<string, Seen>();
    states += visitCrashStates(EMPTY, disk.log, { names: options.names, most: options.most ?? MOST, from: killed }, interner, NOTHING_KNOWN, (key, image, at) => remember(disks, key, image, at));
    for (const [key, seen] of disks) {
      if (violations.length >= ENOUGH) break;
      const { log: _, ...again } = known.has(key) ? { ...known.get(key)!, log: null } : await reopen(seen.image, journey, options, 2);
      known.set(key, again);
      violations.push(...violationsOf(seen, again).map((line) => `killed after operation ${killed}, ${line}`));
    }
  }
  return { states, disks: known.size, secondStates: 0, secondDisks: 0, violations };
}

function remember(all: Map<string, Seen>, key: string, image: () => Image, known: Known): void {
  const seen = all.get(key);
  if (!seen) return void all.set(key, { image: image(), acked: known, asked: known, probes: known.probesAcked, edit: known.edit, invented: known.edit === "none" });
  if (known.acked > seen.acked.acked) seen.acked = known;
  if (known.asked < seen.asked.asked) seen.asked = known;
  seen.probes = Math.max(seen.probes, known.probesAcked);
  if (known.edit === "kept") seen.edit = "kept";
  if (known.edit === "none") seen.invented = true;
}

type Found = { readonly problem: string | null; readonly n: number; readonly probes: number; readonly edited: boolean; readonly toldEdit: boolean; readonly log: readonly Op[] };

function violationsOf(seen: Seen, found: Omit<Found, "log">): string[] {
  const at = `power cut after operation ${seen.acked.at}`;
  if (found.problem !== null) return [`${at}: ${found.problem}`];
  const lines: string[] = [];
  if (found.n < seen.acked.acked) lines.push(`${at}: commit ${seen.acked.acked} was acknowledged, only ${found.n} are there`);
  if (found.n > seen.asked.asked) lines.push(`power cut after operation ${seen.asked.at}: commit ${found.n} is there and was never asked for`);
  if (found.probes < seen.probes) lines.push(`${at}: a commit of the recovered state is gone`);
  if (seen.edit === "kept" && !found.edited) lines.push(`${at}: the person's edit is lost`);
  if (seen.invented && found.toldEdit) lines.push(`${at}: a hand edit was told and there was none`);
  return lines;
}

/** One life after a crash: open, look, commit, close, look again. */
export function reopen(image: Image, journey: Pick<Journey, "dumps" | "topIds">, options: { readonly checkpointBytes: number }, life: number): Promise<Found> {
  const clock = skippingClock(START_MS + life * 3_600_000);
  return goOn(new SimulatedDisk(image, clock.now), clock, journey, options, life);
}

async function goOn(disk: SimulatedDisk, clock: Clock, journey: Pick<Journey, "dumps" | "topIds">, options: { readonly checkpointBytes: number }, life: number): Promise<Found> {
  const notices: string[] = [];
  const open = (readOnly: boolean) => openJson(FILE, model, { clock, random: seededRandom(life + 1), fs: disk.fs, turn: soleTurn, checkpointBytes: options.checkpointBytes, readOnly, notice: (line) => void notices.push(line) });
  const result = { n: -1, probes: 0, edited: false, toldEdit: false, log: disk.log };
  try {
    const store = await open(false);
    const before = await contents(store);
    const n = journey.dumps.indexOf(before.dump);
    if (n < 0) return { ...result, problem: `it opens with records that no number of commits gives: ${before.dump}` };
    // A checkpoint gets its name only when it is whole on the disk, so no power cut leaves one that is not.
    const useless = notices.find((line) => line.includes("cannot be used"));
    if (useless) return { ...result, problem: useless };
    disk.mark({ acked: n, asked: n, probesAcked: before.probes.length });
    const [probed] = await store.commit([{ puts: [{ kind: "item", record: { title: "probe" } }] }]);
    const id = probed?.ok ? Number(probed.ids[0]) : 0;
    if (!(id > Math.max(journey.topIds[n]!, ...before.probes))) return { ...result, problem: `the next id is ${id}, and ${journey.topIds[n]} was given before` };
    disk.mark({ probesAcked: before.probes.length + 1 });
    await store.close();
    const problem = await closedWell(disk, await open(true), before.dump);
    const edited = [...disk.paths().values()].some((bytes) => bytes.includes(EDITED));
    const toldEdit = notices.some((line) => /by hand|edit/i.test(line)) || (disk.fs.readdir(`${FILE}.pawl/quarantine`) ?? []).some((name) => !name.startsWith("torn-"));
    return { n, probes: before.probes.length + 1, edited, toldEdit, log: disk.log, problem };
  } catch (error) {
    return { ...result, problem: `it does not open or go on: ${messageOf(error)}` };
  }
}

/** After closing: the view shows what the store holds, and a reader sees the same. */
async function closedWell(disk: SimulatedDisk, reader: Awaited<ReturnType<typeof openJson>>, dump: string): Promise<string | null> {
  const { items, dump: read } = await contents(reader);
  await reader.close();
  if (read !== dump) return `after closing a reader finds ${read} instead of ${dump}`;
  const view = disk.peek(FILE);
  if (!view) return "after closing there is no view";
  const shown = JSON.stringify((JSON.parse(view.toString()) as { items: unknown }).items);
  return shown === JSON.stringify(items) ? null : `after closing the view shows ${shown} instead of ${JSON.stringify(items)}`;
}

// The sweeps over the simulated disk by the name of their way, so that a thread can be told which to do.
import { sweep, sweepKills, type SweepOptions, type SweepReport } from "./disk-check.ts";
import { JOURNEY, PAGES, ROTATIONS, SHORT, travel } from "./disk-workload.ts";

const WAYS = { SHORT, ROTATIONS, JOURNEY, PAGES };
export type Way = keyof typeof WAYS;

export async function sweepWay(way: Way, options: SweepOptions): Promise<SweepReport> {
  return sweep(await travel(WAYS[way], options), options);
}

export async function sweepKillsOf(way: Way, options: SweepOptions & { readonly every: number }): Promise<SweepReport> {
  return sweepKills(await travel(WAYS[way], options), options);
}

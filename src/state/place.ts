// A place where a state is or may be: what is done to a state as a whole, whether it opens or not.
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { backupState } from "../core/backup.ts";
import type { Committer } from "../core/committer.ts";
import { copyState, type CopyReport } from "../core/copy.ts";
import { healthOf, type Health } from "../core/doctor.ts";
import { sweep } from "../core/sweep.ts";
import { appear, hostEvidence } from "../worker/liveness.ts";
import { defaultActor, isGone, openOptions, sealAt, siteAt, type StateOptions } from "./opening.ts";

/** A place on a disk where a state is or may be: what is done to a state as a whole. */
export type Place = {
  readonly location: string;
  /** Also true of a Postgres server that cannot be asked. */
  exists(): Promise<boolean>;
  /** Moves the state to `to`, where there must be none. `waitMs`: how long tasks in progress are waited for (default a minute). */
  copyTo(to: string, options?: { readonly keepOpen?: boolean; readonly force?: boolean; readonly waitMs?: number }): Promise<CopyReport>;
  /** Copies the state as it is at one moment, while others work on; gives the path of the copy. */
  backup(to?: string): Promise<string>;
  /** What is wrong with it. Changes nothing. `deep` reads all of it: every page, every history. */
  doctor(options?: { readonly deep?: boolean }): Promise<Health>;
  /** Mends what can be mended and says what was done. Throws `busy` while a worker lives, `corrupt` when nothing can be restored. */
  repair(options?: { readonly deep?: boolean }): Promise<Health & { readonly done: readonly string[] }>;
};

/** What a repair needs of the state it mended. */
type Mended = { readonly committer: Committer; readonly actor: string; close(): Promise<void> };

/** The place at `url`; nothing is opened or created. `openHere` opens the state there. */
export function placeOf(url: string, options: StateOptions, openHere: () => Promise<Mended>): Place {
  const open = openOptions(options);
  const site = siteAt(url, open);
  const looking = (...more: string[]) => ({ isGone: isGone(open.clock), sealAt: sealAt(open, [url, ...more]) });
  const asCopier = async <T>(work: (me: Json) => Promise<T>): Promise<T> => {
    const me = appear(site.lockFolder, "copy", open.clock, open.random);
    return work(me.registered as Json).finally(() => me.leave(true));
  };
  const doctor = ({ deep = false } = {}) => healthOf(site, { deep, ...looking() });
  return {
    location: site.location,
    exists: () => site.exists(),
    backup: async (to) => {
      if (!(await site.exists())) throw noState(site.location);
      const { backup } = site;
      if (typeof backup === "function") return backup(to);
      const target = backup.into(to);
      await asCopier((me) => backupState(site, siteAt(target, open), { ...open, ...looking(), me }));
      return target;
    },
    doctor,
    async copyTo(to, { waitMs = LIMITS.copyWaitMs, ...how } = {}) {
      if (!(await site.exists())) throw noState(site.location);
      return asCopier((me) => copyState(site, siteAt(to, open), { ...open, ...looking(to), ...how, waitMs, actor: options.actor ?? defaultActor(), me, evidence: hostEvidence(open.clock) }));
    },
    async repair(deep) {
      if (!(await site.exists())) throw noState(site.location);
      const done = await site.repair();
      const state = await openHere();
      try {
        const moved = await sweep(state.committer, hostEvidence(open.clock), state.actor, true);
        if (moved > 0) done.push(`The sweep moved ${moved} ${moved === 1 ? "task" : "tasks"} on.`);
        if ((await state.committer.store.count("worker")) === 0) site.tidy();
      } finally {
        await state.close();
      }
      return { ...(await doctor(deep)), done };
    },
  };
}

/** Where a state was looked for and none is. */
export const noState = (location: string): PawlError => new PawlError("not_found", `There is no state here (${location}).`, { next: "Name another: --state PATH, PAWL_STATE.", details: { state: location } });

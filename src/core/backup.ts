// A backup of a state whose files cannot be copied: what is read at one moment goes into a new state, in a file that opens by
// itself. Invariants: nothing that exists is overwritten; what is not proven equal is no state; the source is only read.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { clearTarget, fill, type CopyOptions, type Site } from "./copy.ts";
import { KINDS } from "./kinds.ts";

export type BackupOptions = Pick<CopyOptions, "clock" | "random" | "notice" | "me" | "isGone" | "sealAt">;

/** Copies the state at `from` as it is at one moment to `to`. `from.open` for reading must give one moment. Throws `not_found`, `conflict`, `storage`. */
export async function backupState(from: Site, to: Site, options: BackupOptions): Promise<void> {
  await clearTarget(to, options);
  const source = await from.open({ readOnly: true });
  try {
    const seal = await source.sealed();
    if (seal?.unfinished) throw new PawlError("moved", `${from.location} is an unfinished copy of ${seal.to}: there is nothing whole to back up.`, { next: `Back up the original: pawl --state ${seal.to} backup` });
    const mark = { to: from.location, at: iso(options.clock.now()), by: options.me, copy: options.random.hex(8), unfinished: true } as const;
    // Workers and leases too: put back, it is as after a crash.
    await fill(source, to, mark, KINDS, { handOver: () => Promise.resolve(), last: null, notice: options.notice });
  } finally {
    await source.close();
  }
}

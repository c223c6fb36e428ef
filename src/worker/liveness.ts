// How workers of one host know of each other: each holds a kernel lock on a file of its own for its life. Dead means: same
// boot, the file is the one recorded, and its lock can be taken. A missing or replaced file, another boot or another host
// proves nothing: then only the lease counts. The worker's id is random per start; a name given by the user is a label.
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { iso } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import { makeFolders } from "../base/fs.ts";
import { bootId, endGroup, hostName, processStart } from "../base/host.ts";
import type { Random } from "../base/id.ts";
import { openLock, probeLock, type Lock } from "../base/lock.ts";
import type { Fields, Put } from "../store/store.ts";
import type { Committer } from "../core/committer.ts";
import type { ProcessRecord, WorkerRecord } from "../core/records.ts";
import type { Evidence } from "../core/sweep.ts";

/** Workers of this very process, which need no lock to be known alive. */
const OURS = new Set<string>();

export type Presence = {
  readonly id: string;
  readonly label: string;
  /** What is registered of it. */
  readonly registered: WorkerRecord;
  /** Registers the worker; part of its first commit. */
  readonly put: Put;
  /** Leaves. Where its record could not be deleted its lock stays: it is free, which says that the worker is gone. */
  leave(signedOff: boolean): void;
};

/** Takes the lock that says this worker lives. `folder` is null for stores no other process can see. */
export function appear(folder: string | null, label: string | undefined, clock: Clock, random: Random): Presence {
  const id = `w-${random.hex(8)}`;
  let lock: Lock | null = null;
  const path = folder === null ? null : join(folder, `${id}.lock`);
  if (path !== null) {
    makeFolders(folder!, 0o700);
    lock = openLock(path);
    lock.tryLock();
  }
  OURS.add(id);
  const now = iso(clock.now());
  const record: Fields = {
    id, label: label ?? `${hostName()}:${process.pid}`, host: hostName(), boot_id: bootId(), pid: process.pid,
    lock_path: path, lock_dev: lock?.identity.dev ?? null, lock_ino: lock?.identity.ino ?? null, started_at: now, seen_at: now,
  };
  return {
    id,
    label: record["label"] as string,
    registered: record as unknown as WorkerRecord,
    put: { kind: "worker", record },
    leave(signedOff) {
      if (!OURS.delete(id)) return;
      lock?.close();
      if (path !== null && signedOff) rmSync(path, { force: true });
    },
  };
}

/** Deletes a worker's record, which says that it owns nothing any more. */
export async function signOff(committer: Committer, id: string, notice: (line: string) => void): Promise<boolean> {
  try {
    return (await committer.commit({ puts: [{ kind: "worker", key: id, delete: true }] })).ok;
  } catch (error) {
    notice(`The worker could not sign off: ${messageOf(error)}`);
    return false;
  }
}

/** What this host can tell of workers. `trustLocks: false` leaves only the lease (for tests of it). */
export function hostEvidence(clock: Clock, trustLocks = true): Evidence {
  return {
    ownerState(worker, id) {
      if (!trustLocks) return "unknown";
      if (OURS.has(id)) return "alive";
      if (!worker || worker.lock_path === null || worker.boot_id !== bootId()) return "unknown";
      const held = probeLock(worker.lock_path, { dev: worker.lock_dev!, ino: worker.lock_ino! });
      return held === "held" ? "alive" : held === "free" ? "dead" : "unknown";
    },
    async endProcesses(processes) {
      const ends = await Promise.all(processes.map((p) => endGroup(groupOf(p), { clock })));
      return ends.every((end) => end !== "alive");
    },
    forget(worker) {
      if (worker.lock_path !== null && worker.boot_id === bootId()) rmSync(worker.lock_path, { force: true });
    },
  };
}

/** True when the process that registered itself so is certainly over: its lock is free, its machine was started again, or its number is nobody's. */
export function isOver(registered: WorkerRecord, clock: Clock): boolean {
  const state = hostEvidence(clock).ownerState(registered, registered.id);
  if (state !== "unknown" || registered.host !== hostName()) return state === "dead";
  return registered.boot_id !== bootId() || processStart(registered.pid) === null;
}

function groupOf(p: ProcessRecord): { pid: number; startTime: string; bootId: string } {
  return { pid: p.pid, startTime: p.start_time, bootId: p.boot_id };
}

/** True for a worker record of this host and boot: the only ones whose death can be seen at once. */
export function isLocal(worker: WorkerRecord): boolean {
  return worker.boot_id === bootId();
}

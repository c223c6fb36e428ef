// Moving a state to another place: claims end, then the source is sealed, its records go over as they are, and a hash over
// both proves it. Invariant: at every moment at most one of the two can be written to, a half copy is never taken for a
// whole one, and the one step that decides which of them is the state is the last seal of the source.
//
//   source:  open ──▶ no new claims ──▶ sealed ──▶ sealed for good (moved)       any failure: open again
//   target:  (nothing) ───────────────▶ unfinished ─────────────────▶ open      any failure: nothing, or unfinished
import { createHash } from "node:crypto";
import { type Clock, iso, sleep } from "../base/clock.ts";
import { isPawlError, messageOf, PawlError } from "../base/errors.ts";
import { finding, type Finding } from "../base/finding.ts";
import type { Random } from "../base/id.ts";
import type { Json } from "../base/json.ts";
import { moved, type Counters, type Kind, type Piece, type Rec, type Seal, type Store } from "../store/store.ts";
import { Committer, listAll } from "./committer.ts";
import { KINDS } from "./kinds.ts";
import { asTask, type Task, type WorkerRecord } from "./records.ts";
import { sweep, type Evidence } from "./sweep.ts";
import { releaseTask } from "./tasks.ts";

/** Where a state is or may be, as a thing to act on: nothing here looks at what the state's seal says. */
export type Site = {
  readonly location: string;
  exists(): Promise<boolean>;
  open(options: { readonly readOnly: boolean }): Promise<Store>;
  /** Removes everything that is there. Only ever called on what a copy made. */
  discard(): Promise<void>;
};

export type CopyOptions = {
  /** The source can be written to again afterwards: there are two states then, which go their own ways. */
  readonly keepOpen?: boolean;
  /** How long tasks in progress are waited for, in ms. */
  readonly waitMs: number;
  /** Takes what is still in progress then away from its owners, instead of giving up. */
  readonly force?: boolean;
  readonly actor: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly notice: (line: string) => void;
  /** This copier, as it stands in the seals, and whether one that stands there is gone. */
  readonly me: Json;
  readonly isGone: IsGone;
  readonly sealAt: SealAt;
  readonly evidence: Evidence;
};

/** Whether the copier `by` is gone, whose last step was at `since`. */
export type IsGone = (by: Json, since: string) => boolean;

/** The seal of another place: null when it has none, undefined when no state can be read there. */
export type SealAt = (location: string) => Promise<Seal | null | undefined>;

export type CopyReport = {
  readonly from: string;
  readonly to: string;
  readonly records: { readonly [kind: string]: number };
  readonly hash: string;
  /** Tasks that were taken from their owners. */
  readonly released: readonly number[];
  readonly kept_open: boolean;
};

/** Processes on this machine that belong to the old place; no lease of theirs is left when a state is copied. */
const STAY: ReadonlySet<string> = new Set(["worker", "process"]);
const MOVED: readonly Kind[] = KINDS.filter(({ name }) => !STAY.has(name));
/** Records in one piece: bounds memory, and the time one flush takes. */
const PIECE = 500;
/** The same of records that hold large texts. */
const LARGE_PIECE = 10;
const LOOK_MS = 50;
/** How long idle workers get to sign off, in ms: they look several times a second. */
const LEAVE_MS = 2_000;

/** Copies the state at `from` to `to`, where there must be none. Throws `usage`, `not_found`, `conflict`, `busy`, `moved`. */
export async function copyState(from: Site, to: Site, options: CopyOptions): Promise<CopyReport> {
  if (from.location === to.location) throw new PawlError("usage", "A state cannot be copied to where it is.", { next: "Name another path." });
  if (!(await from.exists())) throw new PawlError("not_found", `There is no state at ${from.location}.`, { next: "Name the state to copy." });
  const source = await from.open({ readOnly: false });
  try {
    await passSeal(source, { readOnly: false, isGone: options.isGone, sealAt: options.sealAt, notice: options.notice });
    await clearTarget(to, options);
    const seal: Seal = { to: to.location, at: iso(options.clock.now()), by: options.me, copy: options.random.hex(8) };
    return await sealedCopy(source, from, to, seal, options);
  } finally {
    await source.close();
  }
}

async function sealedCopy(source: Store, from: Site, to: Site, seal: Seal, options: CopyOptions): Promise<CopyReport> {
  let now: Seal = { ...seal, only: "claims" };
  await source.seal(now, null);
  const step = async (next: Seal) => {
    await source.seal(next, now);
    now = next;
  };
  try {
    const released = await drain(source, options);
    await step({ ...seal, at: iso(options.clock.now()) });
    const mark: Seal = { ...now, to: from.location, unfinished: true };
    const handOver = () => (options.keepOpen ? Promise.resolve() : step({ to: seal.to, at: iso(options.clock.now()), copy: seal.copy! }));
    const filled = await fill(source, to, mark, MOVED, { handOver, last: null, notice: options.notice });
    if (options.keepOpen) await source.seal(null, now);
    return { from: from.location, to: to.location, released, kept_open: options.keepOpen === true, ...filled };
  } catch (error) {
    // Once it is sealed for good the copy is whole, and the target opens by itself.
    if (now.by !== undefined) await source.seal(null, now).catch((failure: unknown) => options.notice(`${from.location} is still sealed (${messageOf(failure)}); the next command opens it again.`));
    throw error;
  }
}

type Filling = { readonly handOver: () => Promise<void>; readonly last: Seal | null; readonly notice: (line: string) => void };

/** Fills the target under the mark and proves it equal; then `handOver`, and `last` takes the place of the mark. What is left of one that failed before that is removed. */
export async function fill(source: Store, to: Site, mark: Seal, kinds: readonly Kind[], { handOver, last, notice }: Filling): Promise<{ records: { [kind: string]: number }; hash: string }> {
  const target = await to.open({ readOnly: false });
  // Until it is proven. Then it may be the state, even if the next answer is lost, and nothing is removed.
  let ours = true;
  try {
    const wanted = await load(source, target, mark, kinds, to.location);
    ours = false;
    await handOver();
    await target.seal(last, mark);
    return wanted;
  } catch (error) {
    if (ours && isPawlError(error, "conflict")) {
      // Somebody else was faster here, with another copy or with work of his own: that stays.
      ours = false;
      await target.seal(null, mark).catch(() => undefined);
    }
    throw error;
  } finally {
    await target.close().catch(() => undefined);
    if (ours) await to.discard().catch((failure: unknown) => notice(`What was copied to ${to.location} so far is still there (${messageOf(failure)}); copying again replaces it.`));
  }
}

async function load(source: Store, target: Store, mark: Seal, kinds: readonly Kind[], location: string): Promise<{ records: { [kind: string]: number }; hash: string }> {
  await target.seal(mark, null);
  const read = digest();
  // Read once: a write that is refused may still use up ids, which nobody ever sees.
  const counters = await source.counters();
  await target.load(counted(piecesOf(source, kinds), read), counters);
  const wanted = read.end(counters);
  const there = await contentHash(target, kinds);
  if (there.hash === wanted.hash) return wanted;
  throw new PawlError("corrupt", `The copy at ${location} is not what was copied: ${difference(wanted.records, there.records)}.`, { next: "Check the disk, then copy again. The original is as it was." });
}

/* ---------- before ---------- */

/** What is at the target is only taken away when it is a copy that was never finished. */
export async function clearTarget(to: Site, options: Pick<CopyOptions, "isGone" | "sealAt">): Promise<void> {
  if (!(await to.exists())) return;
  const there = await to.open({ readOnly: true });
  let seal: Seal | null;
  try {
    seal = await there.sealed();
  } finally {
    await there.close();
  }
  if (seal?.unfinished && !(await isWhole(seal, options))) {
    const source = seal.by !== undefined && options.isGone(seal.by, seal.at) ? await options.sealAt(seal.to) : undefined;
    if (source === undefined) throw moved(to.location, seal);
    return to.discard();
  }
  const why = seal && !seal.unfinished ? `, which was moved to ${seal.to}` : "";
  throw new PawlError("conflict", `There is a state at ${to.location} already${why}. Nothing was copied.`, { next: "Name another place, or move that one away." });
}

/** Waits until nobody owns a task any more; claims are refused already. Returns the tasks that were taken away by force. */
async function drain(source: Store, options: CopyOptions): Promise<number[]> {
  const { clock, actor, evidence } = options;
  const committer = new Committer(source);
  const start = clock.monotonic();
  const released: number[] = [];
  for (let told = false; ; ) {
    await sweep(committer, evidence, actor, true);
    const held = (await listAll(committer, "task", { index: "lease" })).map(asTask);
    const waited = clock.monotonic() - start;
    if (held.length === 0 && (waited > Math.min(LEAVE_MS, options.waitMs) || (await allLeft(committer, evidence)))) return released;
    if (held.length > 0 && waited >= options.waitMs) {
      if (!options.force) throw inProgress(held);
      for (const task of held) {
        await releaseTask(committer, task.id, { actor, force: true, reason: "the state was copied" }).then(() => released.push(task.id), ignoreEnded);
      }
      continue;
    }
    if (!told && held.length > 0) options.notice(`Waiting for ${named(held)} in progress; no new work begins.`);
    told = held.length > 0;
    await sleep(clock, LOOK_MS);
  }
}

async function allLeft(committer: Committer, evidence: Evidence): Promise<boolean> {
  const workers = (await listAll(committer, "worker", {})) as unknown as WorkerRecord[];
  return workers.every((worker) => evidence.ownerState(worker, worker.id) !== "alive");
}

function inProgress(held: readonly Task[]): PawlError {
  const owners = held.slice(0, 5).map((task) => `task ${task.id} (held by ${task.worker} until ${task.lease_expires_at})`);
  return new PawlError("busy", `Still in progress: ${owners.join(", ")}${held.length > 5 ? ` and ${held.length - 5} more` : ""}. Nothing was copied.`, {
    next: "Wait longer: --wait 1h. Or take them from their owners: --force.",
    details: { tasks: held.map((task) => task.id) },
  });
}

/** Its owner was faster. */
function ignoreEnded(error: unknown): void {
  if (!isPawlError(error, "illegal_transition") && !isPawlError(error, "not_found")) throw error;
}

const named = (held: readonly Task[]): string => (held.length === 1 ? `task ${held[0]!.id}` : `${held.length} tasks`);

/* ---------- content ---------- */

/** Every record of these kinds, kind by kind, in the order of keys. */
async function* piecesOf(store: Store, kinds: readonly Kind[]): AsyncIterable<Piece> {
  for (const { name, beside } of kinds) {
    const limit = beside ? LARGE_PIECE : PIECE;
    for (let after: Rec | undefined; ; ) {
      const records = await store.list(name, { limit, ...(after ? { after } : {}) });
      if (records.length > 0) yield { kind: name, records };
      // A store on this disk never waits for long: without a pause nothing else in this process would have its turn.
      await new Promise((resolve) => setImmediate(resolve));
      if (records.length < limit) break;
      after = records.at(-1);
    }
  }
}

async function* counted(pieces: AsyncIterable<Piece>, read: Digest): AsyncIterable<Piece> {
  for await (const piece of pieces) {
    read.add(piece);
    yield piece;
  }
}

/** What a state holds, as one hash that is the same on every store. Leases are left out: they belong to the place. */
export async function contentHash(store: Store, kinds: readonly Kind[] = MOVED): Promise<{ hash: string; records: { [kind: string]: number } }> {
  const read = digest();
  for await (const piece of piecesOf(store, kinds)) read.add(piece);
  return read.end(await store.counters());
}

type Digest = { add(piece: Piece): void; end(counters: Counters): { hash: string; records: { [kind: string]: number } } };

function digest(): Digest {
  const hash = createHash("sha256");
  const records: { [kind: string]: number } = {};
  const kinds = new Map(KINDS.map((kind) => [kind.name, kind]));
  return {
    add(piece) {
      const kind = kinds.get(piece.kind)!;
      records[kind.name] = (records[kind.name] ?? 0) + piece.records.length;
      for (const record of piece.records) hash.update(`${kind.name} ${textOf(kind, record)}\n`);
    },
    end(counters) {
      for (const kind of Object.keys(counters).sort()) hash.update(`${kind} ids up to ${counters[kind]}\n`);
      return { hash: hash.digest("hex"), records };
    },
  };
}

/** A record as text that does not depend on the order of its fields. */
function textOf(kind: Kind, record: Rec): string {
  const declared = Object.keys(kind.fields).map((field) => record[field] ?? null);
  const others = Object.keys(record).filter((field) => !Object.hasOwn(kind.fields, field)).sort();
  return JSON.stringify([...declared, ...others.map((field) => [field, record[field]])]);
}

function difference(a: { readonly [kind: string]: number }, b: { readonly [kind: string]: number }): string {
  const kind = [...new Set([...Object.keys(a), ...Object.keys(b)])].find((name) => (a[name] ?? 0) !== (b[name] ?? 0));
  return kind === undefined ? "as many records, but not the same" : `${a[kind] ?? 0} of ${kind} were read, ${b[kind] ?? 0} are there`;
}

/* ---------- afterwards ---------- */

export type Passing = {
  readonly readOnly: boolean;
  readonly isGone: IsGone;
  readonly sealAt: SealAt;
  readonly notice: (line: string) => void;
};

/**
 * At open: lets a state pass that may be used, takes away what a copier that died left behind, and throws `moved` for one
 * that is elsewhere. While a copy lives the state opens: reads go on, and the store itself answers every write.
 */
export async function passSeal(store: Store, { readOnly, isGone, sealAt, notice }: Passing): Promise<void> {
  const seal = await store.sealed();
  if (seal === null) return;
  const gone = seal.by !== undefined && isGone(seal.by, seal.at);
  if (seal.unfinished) {
    if (!(await isWhole(seal, { isGone, sealAt }))) throw moved(store.location, seal);
    return readOnly ? undefined : store.seal(null, seal);
  }
  if (seal.by === undefined) throw moved(store.location, seal);
  if (!gone || readOnly) return;
  await store.seal(null, seal);
  notice(`A copy of ${store.location} to ${seal.to} was interrupted; the state goes on here.`);
}

/** The source was sealed for good, so this copy had been proven; only its own seal was not taken off any more. */
async function isWhole(seal: Seal, { isGone, sealAt }: Pick<Passing, "isGone" | "sealAt">): Promise<boolean> {
  if (seal.by === undefined || !isGone(seal.by, seal.at)) return false;
  const source = await sealAt(seal.to);
  return !!source && source.by === undefined && source.copy === seal.copy;
}

/** What a seal means for whoever looks. */
export async function sealFindings(store: Store, options: Pick<Passing, "isGone" | "sealAt">): Promise<Finding[]> {
  const seal = await store.sealed();
  if (seal === null) return [];
  const gone = seal.by !== undefined && options.isGone(seal.by, seal.at);
  const { message, next } = moved(store.location, seal);
  if (!seal.unfinished && gone) return [finding("copy_interrupted", store.location, `Its copy to ${seal.to} was interrupted. The next command that writes opens it again.`, { next: "pawl doctor --repair" })];
  if (!seal.unfinished) return [finding("sealed", store.location, message, { next: next! })];
  if (await isWhole(seal, options)) return [finding("copy_interrupted", store.location, "The copy is whole, and was interrupted at its very end. The next command that writes opens it.", { next: "pawl doctor --repair" })];
  return [finding("unfinished_copy", store.location, message, { next: `Copy or back up again, from ${seal.to} to ${store.location}: that replaces what is here.` })];
}

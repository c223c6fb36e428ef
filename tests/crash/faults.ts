// A disk that fails at one call, for every mutating call a JSON store makes: refused in several ways, cut short, slow, or
// the last thing the process ever did. Invariant checked: what was acknowledged is there afterwards, what was said to have
// failed is not, only what was said to be unknown may be either; and the next open is fine, after a power cut too.
import { type ManualClock, manualClock } from "../../src/base/clock.ts";
import { messageOf, PawlError } from "../../src/base/errors.ts";
import type { FileSystem } from "../../src/base/fs.ts";
import { seededRandom } from "../../src/base/id.ts";
import { openJson } from "../../src/store/json/json.ts";
import type { Store } from "../../src/store/store.ts";
import { Interner, visitLastStates } from "./crash-states.ts";
import { EMPTY, type Image, SimulatedDisk } from "./disk.ts";
import { FILE, model, skippingClock, soleTurn } from "./disk-workload.ts";

export const FAULTS = ["EIO", "ENOSPC", "EACCES", "EROFS", "EINTR", "EMFILE", "short write", "short write, then ENOSPC", "delay", "SIGKILL"] as const;
export type Fault = (typeof FAULTS)[number];
/** `call`: which mutating call, from 0; `lasting`: every later call of that name fails as well. */
export type Plan = { readonly call: number; readonly fault: Fault; readonly lasting: boolean };
export type FaultReport = { readonly runs: number; readonly calls: number; readonly disks: number; readonly acknowledged: number; readonly failed: number; readonly unknown: number; readonly violations: readonly string[] };

const MUTATING: readonly (keyof FileSystem)[] = ["open", "write", "fdatasync", "fsync", "ftruncate", "fchmod", "rename", "link", "unlink", "mkdir", "fsyncDir"];
const COMMITS = 8;
const CHECKPOINT_BYTES = 700;
/** After so many violations the rest would say the same. */
const ENOUGH = 6;
/** Power cuts right after a life with a fault, evenly taken from all there are. */
const POWER_CUTS = 30;
const DELAY_MS = 600_000;

class Killed extends Error {}

/** Whether a fault makes sense at a call: only opening runs out of descriptors, only a write can be short. */
function fits(fault: Fault, name: keyof FileSystem): boolean {
  if (fault === "EMFILE") return name === "open";
  return fault.startsWith("short") ? name === "write" : true;
}

type Faulty = { readonly fs: FileSystem; readonly calls: (keyof FileSystem)[]; heal(): void; readonly dead: boolean };

/** The disk with a plan; calls are counted and named whether it strikes or not. */
function faulty(disk: SimulatedDisk, plan: Plan | null, clock: ManualClock): Faulty {
  const calls: (keyof FileSystem)[] = [];
  const state = { dead: false, healed: false, struck: null as keyof FileSystem | null };
  const strikes = (name: keyof FileSystem): boolean => {
    calls.push(name);
    if (!plan || state.healed) return false;
    if (calls.length - 1 === plan.call) state.struck = name;
    return calls.length - 1 === plan.call || (state.struck === name && (plan.lasting || plan.fault === "short write, then ENOSPC"));
  };
  const wrapped: Record<string, unknown> = { ...disk.fs };
  for (const name of Object.keys(disk.fs) as (keyof FileSystem)[]) {
    const real = disk.fs[name] as (...args: unknown[]) => unknown;
    wrapped[name] = (...args: unknown[]) => {
      if (state.dead) throw new Killed();
      if (!MUTATING.includes(name) || !strikes(name)) return real(...args);
      const first = calls.length - 1 === plan!.call;
      if (plan!.fault === "delay") clock.jump(DELAY_MS);
      else if (plan!.fault === "SIGKILL") {
        state.dead = true;
        throw new Killed();
      } else if (plan!.fault.startsWith("short") && (first || plan!.fault === "short write")) args[3] = Math.ceil(Number(args[3]) / 2);
      else {
        if (name === "fsync" || name === "fdatasync") disk.failFlush(Number(args[0]));
        const code = plan!.fault.startsWith("short") ? "ENOSPC" : plan!.fault;
        throw Object.assign(new Error(`${code}: as the test wants it`), { code });
      }
      return real(...args);
    };
  }
  return { fs: wrapped as FileSystem, calls, heal: () => (state.healed = true), get dead() { return state.dead; } };
}

type Said = "acknowledged" | "failed" | "unknown";

/** Eight commits, each of two records, with views and checkpoints between; what was said about each. */
async function live(plan: Plan | null): Promise<{ disk: SimulatedDisk; said: Said[]; calls: readonly (keyof FileSystem)[]; odd: string[] }> {
  const clock = manualClock();
  const disk = new SimulatedDisk(EMPTY, clock.now);
  const faults = faulty(disk, plan, clock);
  const random = seededRandom(5);
  const said: Said[] = [];
  const odd: string[] = [];
  const blame = (error: unknown, where: string) => {
    if (!faults.dead && !(error instanceof PawlError)) odd.push(`${where} threw what is no error of ours: ${messageOf(error)}`);
  };
  const open = async (): Promise<Store | null> => {
    const opened = openJson(FILE, model, { clock, random, fs: faults.fs, turn: soleTurn, checkpointBytes: CHECKPOINT_BYTES, notice: () => undefined }).catch((error: unknown) => (blame(error, "opening"), null));
    await clock.advance(0);
    return opened;
  };
  let store = await open();
  for (let n = 0; n < COMMITS && !faults.dead; n++) {
    store ??= await open();
    if (!store) faults.heal();
    store ??= await open();
    if (!store) break;
    said[n] = await store.commit([{ puts: [record(n, "a"), record(n, "b")] }]).then(() => "acknowledged", (error: unknown) => {
      blame(error, `commit ${n}`);
      return !faults.dead && error instanceof PawlError && error.code !== "commit_unknown" ? "failed" : "unknown";
    });
    if (n % 3 === 2) await clock.advance(20_000);
    if (said[n] !== "unknown" && n !== 4) continue;
    await closed(store, clock).catch((error: unknown) => blame(error, "closing"));
    store = null;
  }
  if (store) await closed(store, clock).catch((error: unknown) => blame(error, "closing"));
  return { disk, said, calls: faults.calls, odd };
}

const record = (n: number, part: string) => ({ kind: "item", record: { title: `c${n}${part}`, data: "x".repeat(60) } });

async function closed(store: Store, clock: ManualClock): Promise<void> {
  let done = false;
  const closing = store.close().finally(() => (done = true));
  closing.catch(() => undefined);
  while (!done) await clock.advance(1_000);
  await closing;
}

/** What is wrong with a disk after the fault. */
async function wrongWith(image: Image, said: readonly Said[]): Promise<string[]> {
  const clock = skippingClock(Date.UTC(2026, 0, 3));
  const disk = new SimulatedDisk(image, clock.now);
  try {
    const store = await openJson(FILE, model, { clock, random: seededRandom(6), fs: disk.fs, turn: soleTurn, checkpointBytes: CHECKPOINT_BYTES, notice: () => undefined });
    const titles = new Set((await store.list("item")).map((item) => item["title"]));
    const [more] = await store.commit([{ puts: [{ kind: "item", record: { title: "more" } }] }]);
    await store.close();
    const wrong = more?.ok ? [] : ["it does not go on"];
    for (let n = 0; n < said.length; n++) {
      const parts = Number(titles.has(`c${n}a`)) + Number(titles.has(`c${n}b`));
      if (parts === 1) wrong.push(`half of commit ${n} is there`);
      if (said[n] === "acknowledged" && parts !== 2) wrong.push(`commit ${n} was acknowledged and is not there`);
      if (said[n] === "failed" && parts !== 0) wrong.push(`commit ${n} was said to have failed and is there`);
    }
    const shown = JSON.parse(disk.peek(FILE)?.toString() ?? "null") as { items?: unknown[] } | null;
    if (shown?.items?.length !== titles.size + 1 - Number(titles.has("more"))) wrong.push("the view does not show what is there");
    return wrong;
  } catch (error) {
    return [`the next open fails: ${messageOf(error)}`];
  }
}

/** Every plan there is: each call of a life without faults, times what can go wrong at it, once and lasting. */
export async function plans(): Promise<{ plans: Plan[]; calls: number }> {
  const { calls } = await live(null);
  const all = calls.flatMap((name, call) => FAULTS.filter((fault) => fits(fault, name)).flatMap((fault) => [false, true].map((lasting) => ({ call, fault, lasting }))));
  // Being killed is final, and a short write followed by a full disk lasts already.
  return { plans: all.filter(({ fault, lasting }) => !(lasting && (fault === "SIGKILL" || fault === "short write, then ENOSPC"))), calls: calls.length };
}

/** Runs these plans. After each the state is opened as the process left it, and as power cuts right then would leave it. */
export async function sweepFaults(chosen: readonly Plan[], calls: number): Promise<FaultReport> {
  const report = { runs: 0, calls, disks: 0, acknowledged: 0, failed: 0, unknown: 0 };
  const violations: string[] = [];
  for (const plan of chosen) {
    const { disk, said, odd } = await live(plan);
    report.runs++;
    for (const word of said) report[word]++;
    const images = new Map<string, Image>([["left by the process", disk.image()]]);
    visitLastStates(EMPTY, disk.log, { names: 3, most: POWER_CUTS }, new Interner(), (key, image) => images.has(key) || images.set(key, image()));
    const wrong = [...odd];
    for (const [key, image] of images) {
      report.disks++;
      wrong.push(...(await wrongWith(image, said)).map((line) => (key === "left by the process" ? line : `${line} (after a power cut)`)));
    }
    if (wrong.length > 0) violations.push(`${plan.fault} at call ${plan.call}${plan.lasting ? " and after" : ""}: ${[...new Set(wrong)].slice(0, 3).join("; ")}`);
    if (violations.length >= ENOUGH) break;
  }
  return { ...report, violations };
}

// Real power cuts: a file system in an image file is shut down by the kernel while Pawl works on it, then mounted again, which
// replays its journal as after an outage. Invariant: the processes are stopped before the cut, so that every
// acknowledgement that counts was given before it. Run as a program, in a mount namespace of its own: nothing stays mounted.
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { seededRandom, type Random } from "../../src/base/id.ts";
import { messageOf } from "../../src/base/errors.ts";
import { openState } from "../../src/state.ts";
import { factsIn, integrityOf, scratch } from "./images-pawl.ts";
import { compile } from "./record.ts";

export type Kind = { readonly name: string; readonly make: readonly string[]; readonly size: number; readonly options: string };

export const KINDS: readonly Kind[] = [
  { name: "ext4", make: ["mkfs.ext4", "-qF"], size: 64 << 20, options: "loop" },
  { name: "ext4 data=writeback,noauto_da_alloc", make: ["mkfs.ext4", "-qF"], size: 64 << 20, options: "loop,data=writeback,noauto_da_alloc" },
  { name: "xfs", make: ["mkfs.xfs", "-qf"], size: 320 << 20, options: "loop" },
];

/** `lying`: flushes do nothing, so that something must be lost. */
export type CutOptions = { readonly cuts: number; readonly seed: number; readonly lying?: boolean };
export type CutReport = { readonly cuts: number; readonly kinds: Readonly<Record<string, number>>; readonly missing: readonly string[]; readonly acknowledged: number; readonly violations: readonly string[]; readonly seconds: number };

/** Outages before a state is begun anew; until then it recovers from recovered ones. */
const LIFE = 10;
const PROCESSES = 2;

const IN_NAMESPACE = ["-m", "--propagation", "private"];

/** Why power cannot be cut here, or null. */
export function whyNoPowerCuts(): string | null {
  if (process.platform !== "linux") return "power cuts need Linux (FS_IOC_SHUTDOWN)";
  if (process.getuid?.() !== 0) return "power cuts need root (loop mounts)";
  for (const [program, flag] of [["gcc", "--version"], ["unshare", "--version"], ["mkfs.ext4", "-V"]] as const) if (spawnSync(program, [flag]).error) return `power cuts need ${program}`;
  const base = scratch();
  try {
    const script = 'truncate -s 8M "$0/disk" && mkfs.ext4 -qF "$0/disk" && mkdir "$0/m" && mount -o loop "$0/disk" "$0/m" && umount "$0/m"';
    const tried = spawnSync("unshare", [...IN_NAMESPACE, "sh", "-c", script, base], { encoding: "utf8" });
    return tried.status === 0 ? null : `a loop mount does not work here: ${tried.stderr.trim()}`;
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}

/** Runs the cuts in a process with mounts of its own. */
export async function cutPower(options: CutOptions): Promise<CutReport> {
  return inNamespace(import.meta.filename, options);
}

/** Runs a script of this folder with mounts that nobody else sees and that end with it; its standard output is JSON. */
export async function inNamespace<T>(script: string, options: unknown): Promise<T> {
  const child = spawn("unshare", [...IN_NAMESPACE, process.execPath, script, JSON.stringify(options)], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => (text += part));
  const code = await new Promise<number | null>((resolve, reject) => child.on("error", reject).on("close", resolve));
  if (code !== 0) throw new Error(`${script} ended with ${code}: ${text}`);
  return JSON.parse(text) as T;
}

export function sh(command: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error?.message ?? stderr}`);
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

async function until(check: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 20_000;
  while (!check()) {
    if (Date.now() > end) throw new Error(`it never came to this: ${what}`);
    await pause(2);
  }
}

/** Stopped in all its threads: none is in the kernel any more, so no flush can race the cut. */
async function stop(child: ChildProcess): Promise<void> {
  child.kill("SIGSTOP");
  const tasks = `/proc/${child.pid}/task`;
  const states = () => readdirSync(tasks).map((id) => readFileSync(join(tasks, id, "stat"), "utf8").split(") ").at(-1)![0]);
  await until(() => states().every((state) => state === "T"), `process ${child.pid} stopped`);
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => (child.exitCode !== null || child.signalCode !== null ? resolve() : child.once("exit", () => resolve())));
}

export type Disk = { readonly folder: string; mount(): void; unmount(): void; cut(): void; clear(): void };

export function makeDisk(base: string, kind: Kind): Disk {
  const image = join(base, "disk.img");
  const folder = join(base, "mounted");
  const cutter = compile("powercut.c", base);
  rmSync(image, { force: true });
  writeFileSync(image, "");
  truncateSync(image, kind.size);
  sh(kind.make[0]!, ...kind.make.slice(1), image);
  mkdirSync(folder, { recursive: true });
  return {
    folder,
    mount: () => sh("mount", "-o", kind.options, image, folder),
    unmount: () => sh("umount", folder),
    cut: () => sh(cutter, folder),
    clear: () => readdirSync(folder).forEach((name) => rmSync(join(folder, name), { recursive: true, force: true })),
  };
}

/** Starts `children`, lets them work for a while, freezes them, cuts the power, and mounts what is left. */
export async function outage(disk: Disk, start: () => readonly ChildProcess[], log: string, random: Random): Promise<void> {
  const size = () => (existsSync(log) ? statSync(log).size : 0);
  const before = size();
  const children = start();
  try {
    const failed = () => children.some((child) => child.exitCode !== null);
    await until(() => size() > before || failed(), "something is acknowledged");
    await pause(random.number() * 150);
    if (failed()) throw new Error("a process ended by itself");
    await Promise.all(children.map(stop));
    disk.cut();
  } finally {
    for (const child of children) child.kill("SIGKILL");
    await Promise.all(children.map(ended));
    disk.unmount();
    disk.mount();
  }
}

async function violationsAfter(location: string, log: string): Promise<string[]> {
  try {
    const state = await openState(location, { actor: "after the outage", notice: () => undefined });
    const facts = await factsIn(state).finally(() => state.close());
    const missing = readFileSync(log, "utf8").split("\n").filter((fact) => fact !== "" && !facts.has(fact));
    return [...missing.map((fact) => `acknowledged and gone: ${fact}`), ...(location.endsWith(".db") ? integrityOf(location) : [])];
  } catch (error) {
    return [`it does not open: ${messageOf(error)}`];
  }
}

async function cutsOf(base: string, kind: Kind, file: string, cuts: number, random: Random, env: NodeJS.ProcessEnv): Promise<{ acknowledged: number; violations: string[] }> {
  const disk = makeDisk(base, kind);
  const location = join(disk.folder, file);
  const log = join(base, "acknowledged");
  const violations: string[] = [];
  let acknowledged = 0;
  disk.mount();
  try {
    for (let cut = 0; cut < cuts; cut++) {
      if (cut % LIFE === 0) {
        acknowledged += linesOf(log);
        disk.clear();
        rmSync(log, { force: true });
      }
      const start = () => Array.from({ length: PROCESSES }, (_, i) => spawn(process.execPath, [join(import.meta.dirname, "powercut-child.ts"), location, log, `cut ${cut} process ${i}`], { env, stdio: ["ignore", "ignore", "inherit"] }));
      await outage(disk, start, log, random);
      violations.push(...(await violationsAfter(location, log)).map((what) => `${kind.name}, ${file}, cut ${cut + 1}: ${what}`));
      if (violations.length > 0) break;
    }
    return { acknowledged: acknowledged + linesOf(log), violations };
  } finally {
    disk.unmount();
    rmSync(log, { force: true });
  }
}

const linesOf = (log: string): number => (existsSync(log) ? readFileSync(log, "utf8").split("\n").length - 1 : 0);

async function run({ cuts, seed, lying = false }: CutOptions): Promise<CutReport> {
  const started = Date.now();
  const random = seededRandom(seed);
  const usable = KINDS.filter(({ make }) => !spawnSync(make[0]!, ["-V"]).error);
  const missing = KINDS.filter((kind) => !usable.includes(kind)).map(({ name, make }) => `${name}: there is no ${make[0]}`);
  const parts = usable.flatMap((kind) => ["state.json", "state.db"].map((file) => ({ kind, file })));
  const report = { cuts: 0, kinds: {} as Record<string, number>, missing, acknowledged: 0, violations: [] as string[] };
  const base = scratch();
  try {
    const env = lying ? { ...process.env, LD_PRELOAD: compile("powercut-nosync.c", base, ["-shared", "-fPIC"]) } : process.env;
    for (const [i, { kind, file }] of parts.entries()) {
      const share = Math.floor(cuts / parts.length) + (i < cuts % parts.length ? 1 : 0);
      const { acknowledged, violations } = await cutsOf(base, kind, file, share, random, env);
      report.cuts += share;
      report.kinds[kind.name] = (report.kinds[kind.name] ?? 0) + share;
      report.acknowledged += acknowledged;
      report.violations.push(...violations);
    }
    return { ...report, seconds: (Date.now() - started) / 1000 };
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}

if (process.argv[1] === import.meta.filename) process.stdout.write(JSON.stringify(await run(JSON.parse(process.argv[2]!) as CutOptions)));

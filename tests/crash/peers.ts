// `npm run peers`: what Pawl is put through, done to well-known packages in their default settings, as a table and as JSON.
// Invariant: every peer does the same work under the same harness; exact versions, installed in a folder that goes afterwards.
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { seededRandom } from "../../src/base/id.ts";
import { openState } from "../../src/state.ts";
import { scratch } from "./images-pawl.ts";
import { explore } from "./images.ts";
import { KINDS, makeDisk, outage, sh, whyNoPowerCuts } from "./powercut.ts";
import { newRecorder, restore, whyNotRecorded } from "./record.ts";

const PACKAGES = { "write-file-atomic": "8.0.0", atomically: "2.1.1", steno: "4.0.2", lowdb: "7.0.1", conf: "16.0.0", "proper-lockfile": "4.1.2", "better-sqlite3": "13.2.0" } as const;

type Peer = { readonly name: string; readonly shown: string; readonly file: string };
type Row = { peer: string; images: string; cuts: string; full: string; kills: string; together: string };

const PEERS: readonly Peer[] = [
  ...Object.entries(PACKAGES).map(([name, version]) => ({ name, shown: `${name} ${version}${name === "proper-lockfile" ? " around write-file-atomic" : ""}`, file: name === "better-sqlite3" ? "peer.db" : "peer.json" })),
  { name: "pawl (JSON)", shown: "Pawl, JSON", file: "state.json" },
  { name: "pawl (SQLite)", shown: "Pawl, SQLite", file: "state.db" },
];
const UPDATES = 10;
const CUTS = 5;
const KILLS = 20;
const TOGETHER = 100;
const IMAGES = 400;

const say = (line: string): void => void process.stderr.write(`${line}\n`);
const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

function install(): { home: string; peers: readonly Peer[]; notes: string[] } {
  const home = mkdtempSync(join(tmpdir(), "pawl-peers-"));
  writeFileSync(join(home, "package.json"), '{"private":true}');
  const names = Object.entries(PACKAGES).map(([name, version]) => `${name}@${version}`);
  sh("npm", "install", "--prefix", home, "--no-audit", "--no-fund", "--ignore-scripts", ...names);
  copyFileSync(join(import.meta.dirname, "peers-child.mjs"), join(home, "peers-child.mjs"));
  const rebuilt = spawnSync("npm", ["rebuild", "--prefix", home, "better-sqlite3"], { encoding: "utf8" });
  const loads = spawnSync(process.execPath, ["-e", 'new (require("better-sqlite3"))(":memory:")'], { cwd: home }).status === 0;
  if (rebuilt.status === 0 && loads) return { home, peers: PEERS, notes: [] };
  const peers = PEERS.map((peer) => (peer.name === "better-sqlite3" ? { ...peer, name: "node:sqlite as better-sqlite3", shown: "better-sqlite3 defaults (under node:sqlite)" } : peer));
  return { home, peers, notes: ["better-sqlite3 did not install here: its default settings (WAL, synchronous NORMAL) were tried under node:sqlite."] };
}

/** The counter as it is found afterwards; throws when it cannot be read. */
async function found(peer: Peer, folder: string): Promise<number> {
  const path = join(folder, peer.file);
  if (peer.file === "peer.json") return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as { n: number }).n : 0;
  if (peer.file === "peer.db") {
    const db = new DatabaseSync(path);
    try {
      const { integrity_check: integrity } = db.prepare("pragma integrity_check").get() as { integrity_check: string };
      if (integrity !== "ok") throw new Error(integrity);
      if (db.prepare("select 1 from sqlite_schema where name = 't'").get() === undefined) return 0;
      return (db.prepare("select n from t").get() as { n: number } | undefined)?.n ?? 0;
    } finally {
      db.close();
    }
  }
  const state = await openState(path, { actor: "reader", notice: () => undefined });
  try {
    return Object.values(await state.tasks.count()).reduce((sum, n) => sum + n, 0);
  } finally {
    await state.close();
  }
}

const acknowledged = (text: string): number => Math.max(0, ...[...text.matchAll(/^n (\d+)$/gm)].map((match) => Number(match[1])));
const acknowledgedIn = (log: string): number => (existsSync(log) ? acknowledged(readFileSync(log, "utf8")) : 0);

/** "lost", "unreadable", or null when all is well. */
async function wrong(peer: Peer, folder: string, atLeast: number): Promise<"lost" | "unreadable" | null> {
  try {
    return (await found(peer, folder)) < atLeast ? "lost" : null;
  } catch {
    return "unreadable";
  }
}

const SOURCE = join(import.meta.dirname, "../../src/state.ts");

class Lab {
  readonly #home: string;
  readonly #base = scratch();

  constructor(home: string) {
    this.#home = home;
  }

  start(peer: Peer, folder: string, log: string, times: number, mode = "", env: NodeJS.ProcessEnv = process.env): ChildProcess {
    return spawn(process.execPath, [join(this.#home, "peers-child.mjs"), peer.name, folder, log, String(times), mode], { env: { ...env, PAWL_SOURCE: SOURCE }, stdio: "ignore" });
  }

  folder(name: string): string {
    const folder = join(this.#base, name);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    return folder;
  }

  close(): void {
    rmSync(this.#base, { recursive: true, force: true });
  }

  /** Crash states of its recorded system calls. */
  async images(peer: Peer): Promise<string> {
    if (whyNotRecorded() !== null) return "not tried";
    const base = this.folder("recorded");
    const recorder = newRecorder(base);
    const code = await ended(this.start(peer, recorder.root, recorder.ack, UPDATES, "", recorder.env));
    if (code !== 0) return `not tried (it ended with ${code})`;
    const image = join(base, "image");
    const counts = { lost: 0, unreadable: 0 };
    const open = async (content: Parameters<typeof restore>[1]) => {
      restore(image, content);
      return found(peer, image).catch(() => "unreadable" as const);
    };
    const seen = await explore(recorder.events(), IMAGES, seededRandom(1), open, (n, events) => {
      if (n === "unreadable") counts.unreadable++;
      else if (n < acknowledged(events.map((event) => (event.op === "acknowledge" ? event.text : "")).join(""))) counts.lost++;
      return [];
    });
    return `${counts.lost + counts.unreadable} of ${seen.images} bad${counts.unreadable > 0 ? ` (${counts.unreadable} unreadable)` : ""}`;
  }

  /** Real power cuts. */
  async cuts(peer: Peer): Promise<string> {
    if (whyNoPowerCuts() !== null) return "not tried";
    const results: string[] = [];
    for (const kind of KINDS.filter(({ make }) => !spawnSync(make[0]!, ["-V"]).error)) {
      const base = this.folder("disk");
      const disk = makeDisk(base, kind);
      const log = join(base, "log");
      const random = seededRandom(1);
      let bad = 0;
      disk.mount();
      for (let i = 0; i < CUTS; i++) {
        disk.clear();
        sh("sync", "-f", disk.folder);
        rmSync(log, { force: true });
        await outage(disk, () => [this.start(peer, disk.folder, log, 1_000_000)], log, random);
        if ((await wrong(peer, disk.folder, acknowledgedIn(log))) !== null) bad++;
      }
      disk.unmount();
      results.push(`${bad}/${CUTS} ${kind.name.split(" ")[0]}${kind.name.includes("writeback") ? " writeback" : ""}`);
    }
    return results.join(", ");
  }

  /** A disk with too little room for the next value. */
  async full(peer: Peer): Promise<string> {
    if (whyNoPowerCuts() !== null) return "not tried";
    const [folder, base] = [this.folder("small"), this.folder("full")];
    // Pawl has more files than one; each gets room for its start and too little for what comes.
    sh("mount", "-t", "tmpfs", "-o", `size=${peer.file.startsWith("state") ? "640k" : "256k"}`, "small", folder);
    try {
      const log = join(base, "log");
      await ended(this.start(peer, folder, join(base, "first"), 1));
      await ended(this.start(peer, folder, log, 1, "big"));
      const said = existsSync(log) ? readFileSync(log, "utf8") : "crash";
      const after = await wrong(peer, folder, said === "success" ? 2 : 1);
      if (after !== null) return `says ${said.split(" ")[0]}, file ${after === "lost" ? "without the value" : "unreadable"}`;
      return said === "success" ? "fits" : "error, old value kept";
    } finally {
      sh("umount", folder);
    }
  }

  /** kill -9 at random moments, and how long the next process takes until it may write. */
  async kills(peer: Peer): Promise<string> {
    const [folder, base] = [this.folder("killed"), this.folder("kills")];
    const log = join(base, "log");
    const random = seededRandom(1);
    let bad = 0;
    let longest = 0;
    for (let i = 0; i < KILLS; i++) {
      const size = existsSync(log) ? statSync(log).size : 0;
      const started = performance.now();
      const child = this.start(peer, folder, log, 1_000_000);
      while ((existsSync(log) ? statSync(log).size : 0) === size && child.exitCode === null) await pause(2);
      longest = Math.max(longest, performance.now() - started);
      await pause(random.number() * 60);
      child.kill("SIGKILL");
      await ended(child);
      if ((await wrong(peer, folder, acknowledgedIn(log))) !== null) bad++;
    }
    return `${bad} of ${KILLS} bad${longest > 5_000 ? `, next writer waits ${(longest / 1000).toFixed(0)} s` : ""}`;
  }

  /** Two processes that both add. */
  async together(peer: Peer): Promise<string> {
    const [folder, base] = [this.folder("shared"), this.folder("together")];
    const codes = await Promise.all([0, 1].map((i) => ended(this.start(peer, folder, join(base, `log ${i}`), TOGETHER))));
    const failed = codes.filter((code) => code !== 0).length;
    const n = await found(peer, folder).catch(() => null);
    return n === null ? "unreadable" : `${2 * TOGETHER - n} of ${2 * TOGETHER} lost${failed > 0 ? `, ${failed} of 2 ended with an error` : ""}`;
  }
}

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => (child.exitCode !== null || child.signalCode !== null ? resolve(child.exitCode) : child.once("exit", (code) => resolve(code))));
}

async function run(): Promise<void> {
  say("installing the peers");
  const { home, peers, notes } = install();
  const lab = new Lab(home);
  const rows: Row[] = [];
  try {
    for (const peer of peers.filter(({ name }) => process.argv.length < 4 || process.argv.slice(3).includes(name))) {
      say(`trying ${peer.shown}`);
      rows.push({ peer: peer.shown, images: await lab.images(peer), cuts: await lab.cuts(peer), full: await lab.full(peer), kills: await lab.kills(peer), together: await lab.together(peer) });
      say(JSON.stringify(rows.at(-1)));
    }
  } finally {
    lab.close();
    rmSync(home, { recursive: true, force: true });
  }
  const cells = (row: readonly string[]) => `| ${row.join(" | ")} |`;
  const head = ["package", "crash states of recorded calls", "real power cuts", "full disk", "kill -9", "two processes, 200 increments"];
  console.log([cells(head), cells(head.map(() => "---")), ...rows.map((row) => cells(Object.values(row))), "", ...notes].join("\n"));
  const sqlite = new DatabaseSync(":memory:").prepare("select sqlite_version() as v").get() as { v: string };
  console.log(JSON.stringify({ date: new Date().toISOString().slice(0, 10), node: process.version, sqlite: sqlite.v, notes, rows }, null, 2));
}

// Mounts are made in a namespace of its own, so that none is left whatever happens.
if (process.argv[2] === "inside" || whyNoPowerCuts() !== null) await run();
else process.exitCode = spawnSync("unshare", ["-m", "--propagation", "private", process.execPath, import.meta.filename, "inside", ...process.argv.slice(2)], { stdio: "inherit" }).status ?? 1;

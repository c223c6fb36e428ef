// Records the real system calls of real processes, by the preloaded shim of record.c, and reads its log. Invariant: what the
// log describes is all that happened to the recorded folder; `replayed` makes a folder of it, so that both can be compared.
//
//   C ino path · W ino offset length + bytes · T ino size · S ino · D path · M path · R from to · L from to · U path · V path
//   A pid length + bytes (an acknowledgement) · X text (a call that the shim cannot describe)
import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export type Event =
  | { readonly op: "create"; readonly ino: string; readonly path: string }
  | { readonly op: "write"; readonly ino: string; readonly at: number; readonly bytes: Buffer }
  | { readonly op: "truncate"; readonly ino: string; readonly size: number }
  | { readonly op: "flush"; readonly ino: string }
  | { readonly op: "flush names" | "mkdir" | "unlink" | "rmdir"; readonly path: string }
  | { readonly op: "rename" | "link"; readonly path: string; readonly to: string }
  | { readonly op: "acknowledge"; readonly pid: number; readonly text: string };

export type Recorder = {
  /** The recorded folder. */
  readonly root: string;
  /** What is written to this file, by any recorded process, is an acknowledgement. Standard output goes to it. */
  readonly ack: string;
  readonly env: NodeJS.ProcessEnv;
  /** Runs a program to its end, recorded; its exit code and what it wrote to stderr. */
  run(command: string, args: readonly string[], env?: NodeJS.ProcessEnv): Promise<{ readonly code: number | null; readonly stderr: string; readonly stdout: string }>;
  events(): Event[];
};

/** Why nothing can be recorded here, or null. */
export function whyNotRecorded(): string | null {
  if (process.platform !== "linux") return "the recorder needs Linux (LD_PRELOAD)";
  if (spawnSync("gcc", ["--version"]).status !== 0) return "the recorder needs gcc";
  return null;
}

/** Compiles a C file beside this one; the program's path. */
export function compile(source: string, into: string, flags: readonly string[] = []): string {
  const out = join(into, source.replace(/\.c$/, flags.includes("-shared") ? ".so" : ""));
  const gcc = spawnSync("gcc", ["-O2", "-Wall", ...flags, "-o", out, join(import.meta.dirname, source), "-lpthread"], { encoding: "utf8" });
  if (gcc.status !== 0) throw new Error(`gcc ${source}: ${gcc.stderr}`);
  return out;
}

/** A recorder of `<base>/root`, which is made. */
export function newRecorder(base: string): Recorder {
  const shim = compile("record.c", base, ["-shared", "-fPIC"]);
  mkdirSync(join(base, "root"));
  const [root, ack, log] = [realpathSync(join(base, "root")), join(realpathSync(base), "ack"), join(base, "calls.log")];
  writeFileSync(ack, "");
  writeFileSync(log, "");
  // Through io_uring a write would pass the shim unseen; it is off by default in Node 24, and here for certain.
  const env = { ...process.env, LD_PRELOAD: shim, REC_ROOT: root, REC_ACK: ack, REC_LOG: log, UV_USE_IO_URING: "0", NO_COLOR: "1" };
  return {
    root, ack, env,
    async run(command, args, more = {}) {
      const from = statSync(ack).size;
      const stdout = openSync(ack, "a");
      const child = spawn(command, args, { env: { ...env, ...more }, stdio: ["ignore", stdout, "pipe"] });
      closeSync(stdout);
      let stderr = "";
      child.stderr!.setEncoding("utf8").on("data", (text: string) => (stderr += text));
      const code = await new Promise<number | null>((resolve, reject) => child.on("error", reject).on("close", resolve));
      return { code, stderr, stdout: readFileSync(ack).toString("utf8", from) };
    },
    events: () => parse(readFileSync(log)),
  };
}

export function parse(log: Buffer): Event[] {
  const events: Event[] = [];
  for (let at = 0; at < log.length; ) {
    const lf = log.indexOf(10, at);
    const [op, a = "", b = "", c = ""] = log.toString("utf8", at, lf).split("\t");
    at = lf + 1;
    const data = (length: string): Buffer => {
      const bytes = log.subarray(at, at + Number(length));
      at += Number(length) + 1;
      return bytes;
    };
    events.push(eventOf(op!, a, b, c, data));
  }
  return events;
}

function eventOf(op: string, a: string, b: string, c: string, data: (length: string) => Buffer): Event {
  switch (op) {
    case "C": return { op: "create", ino: a, path: b };
    case "W": return { op: "write", ino: a, at: Number(b), bytes: data(c) };
    case "T": return { op: "truncate", ino: a, size: Number(b) };
    case "S": return { op: "flush", ino: a };
    case "D": return { op: "flush names", path: a };
    case "M": return { op: "mkdir", path: a };
    case "U": return { op: "unlink", path: a };
    case "V": return { op: "rmdir", path: a };
    case "R": return { op: "rename", path: a, to: b };
    case "L": return { op: "link", path: a, to: b };
    case "A": return { op: "acknowledge", pid: Number(a), text: data(b).toString("utf8") };
    default: throw new Error(`the recorder saw a call that it cannot describe: ${op} ${a} ${b} ${c}`);
  }
}

/** Every file of a folder with its bytes, every folder with null. */
export function contentOf(folder: string): Map<string, Buffer | null> {
  const found = new Map<string, Buffer | null>();
  for (const name of existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: "utf8" }) : []) {
    const path = join(folder, name);
    found.set(name, statSync(path).isDirectory() ? null : readFileSync(path));
  }
  return found;
}

/** Makes `folder` hold exactly this. */
export function restore(folder: string, content: ReadonlyMap<string, Buffer | null>): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const path of [...content.keys()].sort()) {
    const bytes = content.get(path)!;
    if (bytes === null) mkdirSync(join(folder, path), { recursive: true });
    else writeFileSync(join(folder, path), bytes, { mode: 0o600 });
  }
}

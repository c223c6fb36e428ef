// Starts a command in a process group of its own, behind a gate: a tiny shell that waits for one line, which we write only
// once the group is recorded. Invariant: no command ever runs that a takeover does not know of. When we are killed before
// the line, the gate reads an end of file and leaves without having run anything; and when a command is over, nothing of
// its group is left.
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { closeSync, constants, openSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { promisify } from "node:util";
import { sleep, type Clock } from "../base/clock.ts";
import { bootId, endGroup, groupAlive, markOf, PROCESS_MARK, processStart, type ProcessGroup } from "../base/host.ts";

// The words of the command are parameters of the gate, so no shell reads them. The line it waits for is the group's mark;
// a line cut short fails `read`. 125 is its own way of saying "never begun".
const GATE = `read -r ${PROCESS_MARK} <&3 || exit 125; export ${PROCESS_MARK}; exec 3<&-; exec "$@"`;

/** How long processes that outlive their leader may take to end by themselves (a `tee` that still writes), in ms. */
const LINGER_MS = 500;
/** How long we read on after the group is gone, in ms: a daemon that left the group may hold our pipe open for ever. */
const DRAIN_MS = 1_000;

export type Launch = {
  readonly words: readonly string[];
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** What the command reads from stdin. */
  readonly stdin: string;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** Between SIGTERM and SIGKILL when the signal is aborted, in ms. */
  readonly graceMs: number;
  record(group: ProcessGroup): Promise<void>;
  forget(pid: number): Promise<void>;
  onStdout(chunk: Buffer): void;
  onStderr(chunk: Buffer): void;
};

/** How it ended. `aborted`: by the signal, whatever the exit code says. */
export type Ending = { readonly exitCode: number | null; readonly signal: string | null; readonly aborted: boolean };

/** Runs the command to its end. Throws only when it could not begin; then nothing of it ran. */
export async function launch(options: Launch): Promise<Ending> {
  options.signal.throwIfAborted();
  const pipes = await openPipes(options.stdin);
  const child = start(options, pipes);
  const exited = ending(child);
  const outputs = [pipes?.stdout ?? child.stdout!, pipes?.stderr ?? child.stderr!] as const;
  const closed = Promise.all([collect(outputs[0], options.onStdout), collect(outputs[1], options.onStderr)]);
  const gate = child.stdio[3] as Writable;
  gate.on("error", () => {}); // the gate is gone already; its exit says why
  try {
    const group = await recorded(child, exited, options);
    if (options.signal.aborted) {
      gate.destroy();
      await exited;
      await options.forget(group.pid).catch(() => {});
      throw options.signal.reason;
    }
    if (!pipes) feed(child.stdin!, options.stdin);
    gate.end(`${markOf(group)}\n`);
    return await untilGone(group, exited, closed, options);
  } finally {
    gate.destroy();
    for (const stream of outputs) stream.destroy();
  }
}

/** Waits for the end of the leader or for the abort, then sees to it that nobody of the group is left. */
async function untilGone(group: ProcessGroup, exited: Promise<Exit>, closed: Promise<unknown>, options: Launch): Promise<Ending> {
  const { signal, clock, graceMs } = options;
  let stopping: Promise<"alive" | "stopped"> | undefined;
  let stop = () => {};
  const aborted = new Promise<"alive" | "stopped">((resolve, reject) => {
    stop = () => {
      stopping ??= endGroup(group, { clock, graceMs, mine: true }).then((end) => (end === "alive" ? "alive" : "stopped"));
      stopping.then(resolve, reject);
    };
  });
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    // Only a process that even SIGKILL does not end is given up on; its record stays, so that no successor starts beside it.
    const first = await Promise.race([exited, aborted.then((end) => (end === "alive" ? null : exited))]);
    if (first === null) return { exitCode: null, signal: null, aborted: true };
    // An abort that comes later than the end of the command takes nothing from it.
    signal.removeEventListener("abort", stop);
    const left = stopping ? await stopping : await endStragglers(group, options);
    await drain(clock, closed);
    // A record that could not be removed names a group that is gone: harmless.
    if (left !== "alive") await options.forget(group.pid).catch(() => {});
    return { exitCode: first.code, signal: first.signal, aborted: stopping !== undefined };
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

async function endStragglers(group: ProcessGroup, { clock, graceMs }: Launch): Promise<string> {
  const end = clock.monotonic() + LINGER_MS;
  while (groupAlive(group.pid)) {
    if (clock.monotonic() >= end) return endGroup(group, { clock, graceMs, mine: true });
    await sleep(clock, 10);
  }
  return "gone";
}

/**
 * Waits until both pipes are closed, or DRAIN_MS. Then it takes what they still hold: when something kept this process
 * busy, the timer comes before the reading of what was written long ago. A pipe holds no more than some turns read.
 */
async function drain(clock: Clock, closed: Promise<unknown>): Promise<void> {
  let open = true;
  await new Promise<void>((resolve) => {
    const cancel = clock.timer(DRAIN_MS, resolve);
    void closed.finally(() => {
      open = false;
      cancel();
      resolve();
    });
  });
  for (let turn = 0; open && turn < 32; turn++) await new Promise((resolve) => setImmediate(resolve));
}

async function recorded(child: ChildProcess, exited: Promise<Exit>, options: Launch): Promise<ProcessGroup> {
  const pid = child.pid;
  const startTime = pid === undefined ? null : processStart(pid);
  if (pid === undefined || startTime === null) {
    await exited; // throws why it could not be started
    throw new Error("the process ended before it was begun");
  }
  const group = { pid, startTime, bootId: bootId() };
  try {
    await options.record(group);
  } catch (error) {
    (child.stdio[3] as Writable).destroy();
    await exited;
    throw error;
  }
  return group;
}

type Exit = { readonly code: number | null; readonly signal: string | null };

function ending(child: ChildProcess): Promise<Exit> {
  const promise = new Promise<Exit>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => resolve({ code, signal }));
  });
  promise.catch(() => {}); // it is awaited later
  return promise;
}

function collect(stream: Readable, take: (chunk: Buffer) => void): Promise<void> {
  return new Promise((resolve) => {
    stream.on("data", take);
    stream.once("error", () => resolve());
    stream.once("close", () => resolve());
  });
}

function feed(stream: Writable, text: string): void {
  stream.on("error", () => {}); // a command need not read its stdin
  stream.end(text);
}

/* ---------- pipes ---------- */

// What Node calls a pipe is a socket, and Linux does not open a socket a second time: `cat /dev/stdin` and
// `echo x > /dev/stderr` fail on one. So there, commands get named pipes and a file for stdin, removed at once.
type Pipes = { readonly stdin: number; readonly out: number; readonly err: number; readonly stdout: Readable; readonly stderr: Readable };

async function openPipes(stdin: string): Promise<Pipes | null> {
  if (process.platform !== "linux") return null;
  let folder: string | undefined;
  const open: number[] = [];
  const keep = (path: string, flags: number) => {
    const fd = openSync(path, flags);
    open.push(fd);
    return fd;
  };
  try {
    folder = await mkdtemp(join(tmpdir(), "pawl-"));
    const [input, out, err] = [join(folder, "in"), join(folder, "out"), join(folder, "err")];
    await Promise.all([writeFile(input, stdin, { mode: 0o600 }), promisify(execFile)("mkfifo", ["-m", "600", out, err])]);
    // The reading end first: without a reader the writing end would wait.
    const [outRead, errRead] = [keep(out, constants.O_RDONLY | constants.O_NONBLOCK), keep(err, constants.O_RDONLY | constants.O_NONBLOCK)];
    const ends = { stdin: keep(input, constants.O_RDONLY), out: keep(out, constants.O_WRONLY), err: keep(err, constants.O_WRONLY) };
    const stream = (fd: number) => new Socket({ fd, readable: true, writable: false });
    return { ...ends, stdout: stream(outRead), stderr: stream(errRead) };
  } catch {
    // No room or no mkfifo: Node's own pipes serve all but those two idioms.
    for (const fd of open) closeSync(fd);
    return null;
  } finally {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true }).catch(() => {});
  }
}

function start(options: Launch, pipes: Pipes | null): ChildProcess {
  try {
    return spawn("/bin/sh", ["-c", GATE, "pawl", ...options.words], {
      cwd: options.cwd,
      env: options.env,
      detached: true,
      stdio: pipes ? [pipes.stdin, pipes.out, pipes.err, "pipe"] : ["pipe", "pipe", "pipe", "pipe"],
    });
  } catch (error) {
    pipes?.stdout.destroy();
    pipes?.stderr.destroy();
    throw error;
  } finally {
    // The child has its own; ours would keep the pipes open after it.
    if (pipes) for (const fd of [pipes.stdin, pipes.out, pipes.err]) closeSync(fd);
  }
}

// The real command line in a child process, for tests: run to its end, or started and talked to while it goes.
import { spawn, type ChildProcess } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

export const BIN = join(import.meta.dirname, "..", "src", "surface", "bin.ts");

export type Ended = { readonly code: number | null; readonly signal: NodeJS.Signals | null; readonly stdout: string; readonly stderr: string };
export type Options = { readonly env?: { readonly [name: string]: string | undefined }; readonly input?: string };

/** A folder of its own that goes with the test, and `pawl` in it, on the state of that name or at that URL. */
export function place(t: TestContext, stateFile = ".pawl/state.json") {
  const folder = mkdtempSync(join(tmpdir(), "pawl-test-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const state = /^[a-z]+:\/\//.test(stateFile) ? stateFile : join(folder, stateFile);
  const environment = (options: Options): NodeJS.ProcessEnv => ({ ...process.env, NO_COLOR: "1", PAWL_ACTOR: "tester", PAWL_STATE: state, ...options.env });
  const start = (args: readonly string[], options: Options = {}): Running => running(spawn(process.execPath, [BIN, ...args], { cwd: folder, env: environment(options), stdio: ["pipe", "pipe", "pipe"] }), options.input);
  return {
    folder,
    state,
    path: (name: string) => join(folder, name),
    write(name: string, text: string, mode?: number): string {
      writeFileSync(join(folder, name), text);
      if (mode !== undefined) chmodSync(join(folder, name), mode);
      return join(folder, name);
    },
    start,
    pawl: (args: readonly string[], options: Options = {}): Promise<Ended> => start(args, options).ended,
    async json<T = unknown>(args: readonly string[]): Promise<T> {
      const ended = await start([...args, "--json"]).ended;
      if (ended.code !== 0) throw new Error(`pawl ${args.join(" ")} ended with ${ended.code}: ${ended.stderr}`);
      return (JSON.parse(ended.stdout) as { data: T }).data;
    },
  };
}

export type Running = { readonly child: ChildProcess; readonly ended: Promise<Ended>; output(): string; errors(): string; until(pattern: RegExp): Promise<string> };

function running(child: ChildProcess, input: string | undefined): Running {
  let stdout = "";
  let stderr = "";
  const waiters: { pattern: RegExp; resolve: (text: string) => void }[] = [];
  const look = () => {
    for (const waiter of waiters.splice(0)) waiter.pattern.test(stdout + stderr) ? waiter.resolve(stdout) : waiters.push(waiter);
  };
  child.stdout!.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    look();
  });
  child.stderr!.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    look();
  });
  child.stdin!.on("error", () => undefined).end(input ?? "");
  const ended = new Promise<Ended>((resolve) => child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr })));
  return {
    child,
    ended,
    output: () => stdout,
    errors: () => stderr,
    until: (pattern) =>
      Promise.race([
        new Promise<string>((resolve) => {
          waiters.push({ pattern, resolve });
          look();
        }),
        ended.then((end) => {
          throw new Error(`it ended with ${end.code ?? end.signal} before ${pattern}: ${end.stdout}\n${end.stderr}`);
        }),
      ]),
  };
}

/** Waits until `check` is true, looking every few ms; fails after `withinMs`. */
export async function eventually(check: () => boolean | Promise<boolean>, what: string, withinMs = 10_000): Promise<void> {
  const end = Date.now() + withinMs;
  while (!(await check())) {
    if (Date.now() > end) throw new Error(`it never came to this: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

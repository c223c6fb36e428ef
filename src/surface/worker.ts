// `pawl worker`: a process that works a queue until it is stopped, with a command or with the functions of a module.
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { Command } from "commander";
import { PawlError } from "../base/errors.ts";
import { functionExecutor, functionVerifier, type Execute, type Verify } from "../worker/function.ts";
import type { Executor, Verifier } from "../worker/executor.ts";
import { executorOf, verifierOf } from "../worker/recipes.ts";
import { escapeText } from "./escape.ts";
import { addExecutorFlags, readBackoff, readRunFlags, withConfig, type RawRunFlags } from "./run-flags.ts";
import type { Shell } from "./shell.ts";
import { exitCodeOf, onSignals } from "./signals.ts";

type RawFlags = RawRunFlags & { readonly label?: string };

/** What a module may export as default: the function that does a task, or an object with it. */
type Module = Execute | { readonly execute: Execute; readonly verify?: Verify };

export function addWorkerCommand(program: Command, shell: Shell): void {
  addExecutorFlags(program.command("worker [module] [args...]").description("Work a queue until stopped, by a command or a module's functions"))
    .option("--queue <name>", "the queue to work (default: default)")
    .option("--label <name>", "a name for people")
    .addHelpText("after", "\nExamples:\n  pawl worker ./work.ts --concurrency 4      export default async (task, { step }) => …\n  pawl worker --exec './work.sh' --queue mail")
    .action(async (module: string | undefined, args: string[], raw: RawFlags) => {
      shell.exit(await work(shell, module, args, raw));
    });
}

async function work(shell: Shell, module: string | undefined, args: readonly string[], raw: RawFlags): Promise<number> {
  const { io } = shell;
  const flags = readRunFlags(withConfig(raw, io.cwd), args);
  const kitchen = { cwd: io.cwd, state: shell.location(), ...(shell.ask ? { ask: shell.ask } : {}) };
  const made = module === undefined ? null : await load(resolve(io.cwd, module));
  const executor: Executor | null = made?.executor ?? (flags.executor ? executorOf(flags.executor, kitchen) : null);
  if (!executor) throw new PawlError("usage", "A worker needs a module or an executor.", { next: "pawl worker ./work.ts, or: pawl worker --exec './work.sh'" });
  const verifier = made?.verifier ?? (flags.verifier ? verifierOf(flags.verifier, kitchen) : null);
  const state = await shell.open({ create: true });
  const worker = state.startWorker({
    executor, verifier, concurrency: flags.limits.concurrency ?? 1, queues: [raw.queue ?? "default"],
    ...(flags.limits.backoff === undefined ? {} : { backoff: readBackoff(flags.limits.backoff) }), ...(raw.label === undefined ? {} : { label: raw.label }),
    notice: (line) => io.err(`${escapeText(line)}\n`),
    onStart: (task) => io.out(`[Task ${task.id}] ${escapeText(task.description.slice(0, 60))}\n`),
    onEnd: (task) => io.out(`[Task ${task.id}] ${task.status}${task.error ? `: ${escapeText(task.error.message.slice(0, 200))}` : ""}\n`),
  });
  const stopped = new Promise<void>((done) => {
    const signals = onSignals(io, (_, n) => void (n > 1 ? worker.abort() : worker.stop()).catch(() => undefined).then(() => {
      received = signals.received;
      signals.off();
      done();
    }));
  });
  let received: NodeJS.Signals | null = null;
  io.err(`Worker ${worker.id} works ${raw.queue ?? "default"} of ${shell.location()}; Ctrl-C stops it.\n`);
  try {
    // It ends by a signal, or because the state can no longer be used.
    await Promise.race([stopped, worker.failed]);
    return received ? exitCodeOf(received) : 0;
  } finally {
    await state.close();
  }
}

async function load(path: string): Promise<{ executor: Executor; verifier: Verifier | null }> {
  let loaded: { default?: Module };
  try {
    loaded = (await import(pathToFileURL(path).href)) as typeof loaded;
  } catch (error) {
    throw new PawlError("usage", `The module ${path} cannot be loaded: ${(error as Error).message}`, { next: "Check its path, and what it imports.", cause: error });
  }
  const module = loaded.default;
  const execute = typeof module === "function" ? module : module?.execute;
  if (typeof execute !== "function") throw new PawlError("usage", `${path} has no default export that does a task.`, { next: "export default async (task, { step, signal }) => { … }" });
  const verify = typeof module === "object" ? module.verify : undefined;
  return { executor: functionExecutor(execute), verifier: verify ? functionVerifier(verify) : null };
}

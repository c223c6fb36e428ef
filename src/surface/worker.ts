// `pawl worker`: a process that works queues until it is stopped, with a command or with the functions of a module. Each queue
// has a worker of its own. Invariant: everything that can be wrong with flags or module is said before anything is claimed.
import type { Command } from "commander";
import { messageOf, PawlError } from "../base/errors.ts";
import type { State } from "../state.ts";
import { handlersOf, type Handler } from "../worker/module.ts";
import { watchDecisions } from "../worker/notify.ts";
import { executorOf, verifierOf } from "../worker/recipes.ts";
import { addExecutorFlags, readBackoff, readBreaker, readHook, readRunFlags, withConfig, type RawRunFlags, type RunFlags } from "./run-flags.ts";
import type { Shell } from "./shell.ts";
import { exitCodeOf, onSignals } from "./signals.ts";
import { jsonLog, textLog, type WorkerLog } from "./worker-log.ts";
import { loadDefault } from "./user-module.ts";
import type { Watched } from "./worker-health.ts";

type RawFlags = RawRunFlags & { readonly label?: string; readonly health?: string; readonly log?: string };

export function addWorkerCommand(program: Command, shell: Shell): void {
  addExecutorFlags(program.command("worker [module] [args...]").description("Work queues until stopped, by a command or a module's functions"))
    .option("--queue <names>", "the queues to work, separated by commas (default: those of the module, or default)")
    .option("--label <name>", "a name for people")
    .option("--health <address>", "answer health checks at this port, HOST:PORT or socket path (loopback unless a host is given)")
    .option("--log <format>", "text, or json: one object a line on stdout", "text")
    .addHelpText("after", "\nExamples:\n  pawl worker ./work.ts --concurrency 4      export default async (task, { step }) => …\n  pawl worker ./queues.ts --health 8787 --log json\n  pawl worker --exec './work.sh' --queue mail")
    .action(async (module: string | undefined, args: string[], raw: RawFlags) => {
      shell.exit(await work(shell, module, args, raw));
    });
}

async function work(shell: Shell, module: string | undefined, args: readonly string[], raw: RawFlags): Promise<number> {
  const { io } = shell;
  const flags = readRunFlags(withConfig(raw, io.cwd), args);
  if (raw.log !== undefined && raw.log !== "text" && raw.log !== "json") throw new PawlError("usage", `--log takes text or json, not "${raw.log}".`);
  const health = raw.health === undefined ? null : await import("./worker-health.ts");
  const address = health?.readAddress(raw.health!) ?? null;
  if (module !== undefined && (raw.exec ?? raw.with ?? raw.model) !== undefined) {
    throw new PawlError("usage", `A worker takes a module or an executor, not both: ${module} says itself what does a task.`, { next: "Leave out the module, or --exec, --with and --model." });
  }
  const handlers = await handlersFor(shell, module, flags, namesOf(raw.queue));
  const state = await shell.open({ create: true });
  const log = raw.log === "json" ? jsonLog(io, () => state.clock.now()) : textLog(io);
  try {
    const watched: Watched[] = [];
    const hook = readHook(flags.limits.notify, io.cwd);
    const server = health && address ? await health.serveHealth(address, () => health.healthOf(state, watched)) : null;
    const watch = hook ? watchDecisions(state, hook, (line) => io.err(`pawl: ${line}\n`)) : null;
    try {
      if (server) log.listening(server.where);
      startAll(state, handlers, flags, raw.label, log, watched);
      const received = await untilStopped(shell, state, watched, log);
      log.down("stopped");
      return received ? exitCodeOf(received) : 0;
    } finally {
      await watch?.stop();
      await server?.close();
    }
  } catch (error) {
    log.down(messageOf(error));
    throw error;
  } finally {
    await state.close();
  }
}

function namesOf(queue: string | undefined): string[] | null {
  if (queue === undefined) return null;
  const names = [...new Set(queue.split(",").map((name) => name.trim()).filter((name) => name !== ""))];
  if (names.length === 0) throw new PawlError("usage", "--queue needs the name of a queue.", { next: "As in: --queue mail, or --queue mail,reports." });
  return names;
}

async function handlersFor(shell: Shell, module: string | undefined, flags: RunFlags, queues: readonly string[] | null): Promise<Map<string, Handler>> {
  const kitchen = { cwd: shell.io.cwd, state: shell.url(), ...(shell.ask ? { ask: shell.ask } : {}) };
  const given = flags.verifier ? verifierOf(flags.verifier, kitchen) : null;
  if (module !== undefined) {
    const handlers = handlersOf(await loadDefault(module, shell.io.cwd, "module", "export default async (task, { step, signal }) => { … }"), queues, module);
    return new Map([...handlers].map(([queue, handler]) => [queue, { ...handler, verifier: handler.verifier ?? given }]));
  }
  if (!flags.executor) throw new PawlError("usage", "A worker needs a module or an executor.", { next: "pawl worker ./work.ts, or: pawl worker --exec './work.sh'" });
  const executor = executorOf(flags.executor, kitchen);
  return new Map((queues ?? ["default"]).map((queue) => [queue, { executor, verifier: given }]));
}

function startAll(state: State, handlers: ReadonlyMap<string, Handler>, { limits }: RunFlags, label: string | undefined, log: WorkerLog, watched: Watched[]): void {
  const breaker = readBreaker(limits.breaker);
  for (const [queue, handler] of handlers) {
    // Workers that share a process are told apart by their queues.
    const name = handlers.size > 1 ? [label, queue].filter((word) => word !== undefined).join(" ") : label;
    const concurrency = handler.concurrency ?? limits.concurrency ?? 1;
    const backoff = handler.backoff ?? (limits.backoff === undefined ? undefined : readBackoff(limits.backoff));
    const limit = handler.breaker ?? breaker ?? undefined;
    const worker = state.startWorker({
      executor: handler.executor, verifier: handler.verifier, concurrency, queues: [queue],
      ...(backoff === undefined ? {} : { backoff }), ...(limit === undefined ? {} : { breaker: limit }), ...(name === undefined ? {} : { label: name }),
      notice: (line) => log.notice(queue, worker.id, line),
      onStart: (task) => {
        one.lastClaimAt = state.clock.now();
        log.claimed(queue, worker.id, task);
      },
      onEnd: (task) => log.ended(queue, worker.id, task),
    });
    const one: Watched = { queue, worker, concurrency, lastClaimAt: null };
    watched.push(one);
    log.up(queue, worker.id, { state: state.location, concurrency });
  }
}

/** Resolves with the signal when all have stopped; rejects when the state can no longer be used. */
async function untilStopped(shell: Shell, { committer }: State, watched: readonly Watched[], log: WorkerLog): Promise<NodeJS.Signals | null> {
  const workers = watched.map(({ worker }) => worker);
  let stopping: Promise<unknown> | null = null;
  const stopped = Promise.withResolvers<void>();
  const signals = onSignals(shell.io, (signal, n) => {
    log.draining(signal, workers.reduce((sum, worker) => sum + worker.active.length, 0), n > 1);
    if (n > 1) committer.store.hurry?.();
    const all = Promise.allSettled(workers.map((worker) => (n > 1 ? worker.abort(`stopped by ${signal}`) : worker.stop())));
    stopping ??= all.then(() => stopped.resolve());
  });
  try {
    await Promise.race([stopped.promise, ...workers.map((worker) => worker.failed)]);
    return signals.received;
  } finally {
    signals.off();
  }
}

// `pawl wait NAME`: the task in PAWL_TASK_ID waits for an event. Is it there, its value is printed; else the wait is in the
// state and the exit code says so: a script that ends with it is run again when the event has come, and gets it here.
import type { Command } from "commander";
import { parseDuration } from "../base/duration.ts";
import { ERROR_CODES } from "../base/errors.ts";
import { endIn, enterCall, goOn, leaveCall } from "../core/call.ts";
import { stateIdOf } from "../core/identity.ts";
import type { Task } from "../core/records.ts";
import type { State } from "../state.ts";
import { Execution } from "../worker/execution.ts";
import type { Shell } from "./shell.ts";
import { about, ownedTask } from "./step.ts";

type Flags = { readonly event?: string; readonly timeout?: string; readonly key?: string; readonly keep?: boolean; readonly token?: string };

export function addWaitCommand(program: Command, shell: Shell): void {
  program
    .command("wait <name>")
    .description("Wait for an event, as the task in PAWL_TASK_ID")
    .option("--event <event>", "the event's name, when it is not that of the wait")
    .option("--timeout <duration>", "how long it is waited for, such as 2h; then the exit code is 10")
    .option("--key <key>", "tells this wait from others of its name that run side by side")
    .option("--keep", "an event it was given holds when a rejected result begins a new round")
    .option("--token <token>", "the token of the claim (default: PAWL_TOKEN)")
    .addHelpText("after", "\nExample (a script that resumes):\n  pawl step order -- ./order.sh\n  paid=$(pawl wait payment --event payment-42 --timeout 2d) || exit $?\n  pawl step ship -- ./ship.sh \"$paid\"")
    .action(async (name: string, flags: Flags) => {
      const state = await shell.open({});
      try {
        const task = await ownedTask(state, shell.io.env, flags.token);
        const ordinal = flags.key === undefined ? await enterCall(state.committer, task, name) : 0;
        try {
          shell.exit(await about(task, () => wait(shell, state, task, name, flags, ordinal)));
        } finally {
          if (ordinal > 0) await leaveCall(state.committer, task);
        }
      } finally {
        await state.close();
      }
    });
}

async function wait(shell: Shell, state: State, task: Task, name: string, flags: Flags, ordinal: number): Promise<number> {
  const lost = new AbortController();
  const execution = await Execution.open(task, {
    committer: state.committer, random: state.random, stateId: await stateIdOf(state.committer, state.random), actor: task.worker!,
    signal: lost.signal, onLost: (error) => lost.abort(error), revalidate: () => null, always: true,
  });
  const key = flags.key ?? String(ordinal);
  const before = execution.endedIn(name, key);
  const arriving = execution.context.waitFor(name, {
    key, event: flags.event ?? name, ...(flags.keep ? { keep: true } : {}),
    ...(flags.timeout === undefined ? {} : { timeoutMs: parseDuration(flags.timeout, { min: 0, name: "--timeout" }) }),
  });
  const first = await Promise.race([arriving, execution.parked.then((waits) => ({ waits }))]);
  if ("waits" in first) {
    await endIn(state.committer, task, first.waits);
    shell.io.err(`wait ${name} waits for the event ${flags.event ?? name}\n`);
    return ERROR_CODES.waiting.exit;
  }
  if (before) await goOn(state.committer, task, before);
  if (!first.arrived) {
    shell.io.err(`wait ${name}: no event ${flags.event ?? name} came in time\n`);
    return ERROR_CODES.timeout.exit;
  }
  shell.io.out(typeof first.value === "string" ? `${first.value}\n` : `${JSON.stringify(first.value)}\n`);
  return 0;
}

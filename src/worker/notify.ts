// Tells people of decisions that wait for them, by a command or a webhook. Invariants: of one decision people are told once,
// and once more when it is escalated, however many processes watch; a hook that fails is recorded with the decision and never
// stops anything. It gets the decision as JSON, on standard input or as a body: stored text never becomes a command line.
import { execFile } from "node:child_process";
import { iso, type Clock } from "../base/clock.ts";
import { isPawlError, messageOf, PawlError } from "../base/errors.ts";
import { LIMITS } from "../base/limits.ts";
import { listAll, type Committer } from "../core/committer.ts";
import type { Decision } from "../core/records.ts";
import { splitWords } from "../core/words.ts";

/** Tells somebody. What it throws is kept as the decision's `notify_error`. */
export type DecisionHook = (decision: Decision) => Promise<void> | void;

/** An `http://` or `https://` address is posted to; anything else is a command line, run without a shell. Throws `usage`. */
export function hookOf(text: string, cwd?: string): DecisionHook {
  if (/^https?:\/\//i.test(text)) return webhook(new URL(text));
  const [program, ...args] = splitWords(text);
  if (program === undefined) throw new PawlError("usage", "--notify needs a command or an address.", { next: "As in: --notify ./tell-me.sh, or --notify https://example.com/hook" });
  return (decision) => runHook(program, args, decision, cwd);
}

function webhook(url: URL): DecisionHook {
  return async (decision) => {
    const answer = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(decision), redirect: "error", signal: AbortSignal.timeout(LIMITS.notifyMs) });
    if (!answer.ok) throw new Error(`${url.origin} answered ${answer.status}`);
  };
}

function runHook(program: string, args: readonly string[], decision: Decision, cwd: string | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = execFile(program, args, { timeout: LIMITS.notifyMs, killSignal: "SIGKILL", env: { ...process.env, PAWL_DECISION_ID: decision.id }, ...(cwd === undefined ? {} : { cwd }) }, (error, _, stderr) => (error ? reject(new Error(`${error.message.split("\n")[0]}${stderr.trim() === "" ? "" : `: ${stderr.trim().slice(0, 500)}`}`)) : resolve()));
    // A hook need not read what it is given.
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(JSON.stringify(decision));
  });
}

export type Watch = {
  /** Tells of what is there still, and ends. */
  stop(): Promise<void>;
};

/** Watches for decisions until it is stopped. `notice` is told of hooks that fail. */
export function watchDecisions(home: { readonly committer: Committer; readonly clock: Clock }, hook: DecisionHook, notice: (line: string) => void = () => undefined): Watch {
  let stopped = false;
  let running: Promise<void> = Promise.resolve();
  let cancel = () => undefined as void;
  const look = () => (running = running.then(() => tellAll(home.committer, hook, notice)).catch((error: unknown) => void (isPawlError(error, "closed") || notice(`Decisions cannot be watched: ${messageOf(error)}`))));
  const later = () => (cancel = home.clock.timer(LIMITS.notifyEveryMs, () => void (stopped || look().then(() => void (stopped || later())))));
  void look();
  later();
  return {
    async stop() {
      stopped = true;
      cancel();
      await look();
    },
  };
}

async function tellAll(committer: Committer, hook: DecisionHook, notice: (line: string) => void): Promise<void> {
  const open = (await listAll(committer, "decision", { index: "status", equals: { status: "open" } })) as unknown as Decision[];
  for (const decision of open.filter(isUntold)) await tell(committer, decision, hook, notice);
}

function isUntold({ notified_at, escalated_at }: Decision): boolean {
  return !notified_at || (!!escalated_at && escalated_at > notified_at);
}

/** Takes the telling upon itself, so that nobody else does, and tells. */
async function tell(committer: Committer, decision: Decision, hook: DecisionHook, notice: (line: string) => void): Promise<void> {
  const notified_at = iso(committer.store.clock.now());
  const taken = await committer.commit({ guards: [{ kind: "decision", key: decision.id, is: { status: "open", notified_at: decision.notified_at ?? null } }], puts: [{ kind: "decision", key: decision.id, set: { notified_at, notify_error: null } }] });
  if (!taken.ok) {
    if ("error" in taken) throw taken.error;
    return;
  }
  try {
    await hook({ ...decision, notified_at });
  } catch (error) {
    const notify_error = messageOf(error).slice(0, 1_000).replaceAll("\0", "").toWellFormed();
    notice(`Nobody could be told of decision ${decision.id}: ${notify_error}`);
    await committer.commit({ puts: [{ kind: "decision", key: decision.id, set: { notify_error } }] });
  }
}

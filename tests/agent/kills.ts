// kill -9 of an agent at the work of thirteen steps, on a real store, against a model server over HTTP: at moments of its
// life, or at every one. After each, this process takes over; the log of effects, the bill and the state must agree.
import { spawn } from "node:child_process";
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { openState } from "../../src/state.ts";
import { dropSchema, inSchema, newSchema, postgresUrl } from "../postgres.ts";
import { answerFor, scenarioAgent, TURNS, violations, type World } from "./scenario.ts";
import { modelServer } from "./server.ts";

export type AgentKills = { readonly kills: number; readonly asked: number; readonly violations: string[] };

const CHILD = join(import.meta.dirname, "kill-child.ts");

/** Kills it at each of these moments, one life each. */
export async function killAgents({ store, at }: { readonly store: string; readonly at: readonly number[] }): Promise<AgentKills> {
  const report = { kills: 0, asked: 0, violations: [] as string[] };
  for (const moment of at) {
    const run = await once(store, moment);
    if (run.killed) report.kills++;
    if (run.asked) report.asked++;
    report.violations.push(...run.violations.map((line) => `${store}, killed at moment ${moment}: ${line}`));
  }
  return report;
}

/** `count` moments spread over all there are. */
export async function momentsOf(store: string, count: number): Promise<number[]> {
  const all = (await once(store, 0)).moments!;
  const step = Math.max(1, all / count);
  return [...new Set(Array.from({ length: Math.min(count, all) }, (_, i) => 1 + Math.floor(i * step)))];
}

type Once = { readonly moments: number | null; readonly killed: boolean; readonly asked: boolean; readonly violations: string[] };

async function once(store: string, at: number): Promise<Once> {
  const after: (() => unknown)[] = [];
  try {
    const folder = mkdtempSync(join(tmpdir(), "pawl-agent-kill-"));
    after.push(() => rmSync(folder, { recursive: true, force: true }));
    const url = await urlOf(store, folder, after);
    const server = await modelServer({ after: (fn: unknown) => void after.unshift(fn as () => void) } as never, (_, turn) => TURNS[turn]!);
    const log = join(folder, "effects.log");
    const first = await openState(url, { actor: "ann", notice: () => undefined });
    const { id } = await first.tasks.add({ description: "follow the plan" });
    await first.close();
    const child = await ended(url, server.url, log, at);
    return await takeOver(url, id, server, log, child);
  } finally {
    for (const end of after) await end();
  }
}

async function urlOf(store: string, folder: string, after: (() => unknown)[]): Promise<string> {
  if (store !== "postgres") return join(folder, store === "json" ? "state.json" : "state.db");
  const [server, schema] = [await postgresUrl(), newSchema()];
  after.push(() => dropSchema(server, schema));
  return inSchema(server, schema);
}

type Child = { readonly killed: boolean; readonly output: string };

function ended(url: string, server: string, log: string, at: number): Promise<Child> {
  const child = spawn(process.execPath, [CHILD, url, server, log, String(at)], { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  return new Promise((resolve) => child.on("close", (_, signal) => resolve({ killed: signal === "SIGKILL", output })));
}

async function takeOver(url: string, id: number, server: Awaited<ReturnType<typeof modelServer>>, log: string, child: Child): Promise<Once> {
  const world: World = { append: (line) => appendFileSync(log, `${line}\n`), lines: () => (existsSync(log) ? readFileSync(log, "utf8").split("\n") : []) };
  const state = await openState(url, { actor: "ann", notice: () => undefined });
  try {
    const before = await state.tasks.steps(id);
    const model = createOpenAICompatible({ name: "test", baseURL: server.url })("m");
    const worker = state.work({ execute: scenarioAgent(model, world), leaseMs: 1_000, backoff: { baseMs: 1 } });
    let asked = false;
    let task = await state.tasks.get(id);
    for (let i = 0; i < 20 && !["completed", "failed", "cancelled"].includes(task.status); i++) {
      await worker.idle();
      task = await state.tasks.get(id);
      const [decision] = await state.decisions.inbox();
      if (decision) {
        asked = true;
        await state.decisions.settle(decision.id, { ...answerFor(world, decision), actor: "bea" });
      } else if (task.status === "in_progress") await worker.nextEvent();
    }
    const found = violations({ result: task.result, world, before, view: await state.agents.show(id), billed: server.billed, deaths: child.killed ? 1 : 0 });
    if ((await state.history.verify(id)) !== null) found.push("the chain of its history is broken");
    return { moments: child.killed ? null : Number(child.output), killed: child.killed, asked, violations: found };
  } finally {
    await state.close();
  }
}

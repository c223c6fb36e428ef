// An agent at work in a test: a state, the model server, and a worker that runs until nothing is due.
import type { TestContext } from "node:test";
import { agent, type AgentOptions } from "../../src/agent/agent.ts";
import type { NewTask } from "../../src/core/new-task.ts";
import type { Task } from "../../src/core/records.ts";
import type { State, WorkOptions } from "../../src/state.ts";
import { MEMORY, type TestStore } from "../stores.ts";
import { modelServer, type ModelServer, type Said, type Script } from "./server.ts";

/** No call needs a person. */
export const OPEN = { required_for_risk_levels: [] };

export type AtWork = {
  readonly state: State;
  readonly server: ModelServer;
  /** Adds a task and works until nothing is due; resolves with the task as it stands then. */
  run(task?: Partial<NewTask>): Promise<Task>;
  /** Works on until nothing is due. */
  goOn(id: number, options?: { readonly batch?: string }): Promise<Task>;
};

export type AtWorkOptions = Partial<AgentOptions> & { readonly store?: TestStore; readonly work?: Partial<WorkOptions>; readonly max_attempts?: number };

export async function atWork(t: TestContext, script: Script, { store = MEMORY, work = {}, ...options }: AtWorkOptions = {}): Promise<AtWork> {
  const server = await modelServer(t, script);
  const state = await store.open(t);
  const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
  const model = createOpenAICompatible({ name: "test", baseURL: server.url, includeUsage: true })("m-1");
  const execute = agent({ model, policy: OPEN, retry: { baseMs: 1, jitter: false }, ...options });
  let worker: ReturnType<State["work"]> | null = null;
  const goOn: AtWork["goOn"] = async (id, options) => {
    worker ??= state.work({ execute, backoff: { baseMs: 1, jitter: false }, leaseMs: 5_000, ...work, ...options });
    for (;;) {
      await worker.idle();
      const task = await state.tasks.get(id);
      // Between two attempts a task is delayed for a moment, and the worker idle. One that is parked waits for longer.
      const soon = task.ready || (task.run_at !== null && Date.parse(task.run_at) < Date.now() + 1_000);
      if (task.status !== "pending" || !soon) return task;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  };
  return { state, server, goOn, run: async (task = {}) => goOn((await state.tasks.add({ description: "do it", ...task })).id) };
}

/** What the model was told by tools in a request. */
export function results(messages: readonly Said[]): string[] {
  return messages.filter(({ role }) => role === "tool").map(({ content }) => String(content));
}

export function texts(messages: readonly Said[], role: string): string[] {
  return messages.filter((message) => message.role === role).map(({ content }) => (typeof content === "string" ? content : JSON.stringify(content)));
}

// A task and an attempt for tests of executors: what the executor asks of the worker is written down in `seen`.
import type { Usage } from "../../src/core/breaker.ts";
import type { Output, Task } from "../../src/core/records.ts";
import type { Attempt } from "../../src/worker/executor.ts";

export type Seen = { recorded: { pid: number; startTime: string; bootId: string }[]; forgotten: number[]; outputs: (Partial<Output> & { part: string })[]; spent: Usage[] };
export type TestAttempt = Attempt & { readonly seen: Seen };

export function task(fields: Partial<Task> = {}): Task {
  return {
    id: 7, key: null, queue: "default", description: "say hello", input: { file: "a.txt", deep: { n: 3, list: ["x", "y"] } }, status: "in_progress", result: null, error: null,
    feedback: null, attempts: 1, max_attempts: 3, takeovers: 0, reviews: 0, has_dependents: false, round: 1, priority: 0, depends_on: [], parent_id: null, batch_id: null, tags: [],
    verifier: null, run_at: null, deadline_at: null, timeout_ms: null, waiting_for: null, ready: false, continues: false, fence: 1, worker: "w-1",
    lease_expires_at: "2026-01-01T00:00:30.000Z", created_at: "2026-01-01T00:00:00.000Z", started_at: "2026-01-01T00:00:00.000Z", completed_at: null,
    updated_at: "2026-01-01T00:00:00.000Z", revision: 2,
    ...fields,
  };
}

export function testAttempt(overrides: Partial<Attempt> = {}): TestAttempt {
  const seen: Seen = { recorded: [], forgotten: [], outputs: [], spent: [] };
  return {
    seen,
    signal: new AbortController().signal,
    idempotencyKey: "task-7-round-1",
    context: undefined as never,
    committer: undefined as never,
    busy: (work) => work(),
    actor: "w-1",
    spend: (usage) => void seen.spent.push(usage),
    recordProcess: async (group) => void seen.recorded.push(group),
    forgetProcess: async (pid) => void seen.forgotten.push(pid),
    keepOutput: async (part, output) => void seen.outputs.push({ ...output, part }),
    ...overrides,
  };
}

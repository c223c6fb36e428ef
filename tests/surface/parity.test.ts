// Every operation through every door, on equal states: library, command line, HTTP and MCP give the same answer and leave the
// same state behind. Invariant: an operation without a case here fails, and so does an answer that its schema does not allow.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { z } from "zod";
import { seededRandom } from "../../src/base/id.ts";
import type { Params } from "../../src/base/params.ts";
import { openAgent } from "../../src/core/agents.ts";
import { OPERATIONS, type Operation } from "../../src/operations.ts";
import { OUTPUTS } from "../../src/operations/outputs.ts";
import { openState } from "../../src/state.ts";
import type { Document } from "../../src/surface/document.ts";
import { toolWords } from "../../src/surface/door-words.ts";
import { modelText } from "../../src/surface/mcp-shape.ts";
import { DOORS, inCopy, operationNamed, type Input } from "./doors.ts";

/* ---------- the state they all begin with ---------- */

let folder = "";
let seed: { token: string; parked: string; artifact: string; memory: string } = { token: "", parked: "", artifact: "", memory: "" };

before(async () => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "pawl-parity-")));
  const state = await openState(join(folder, "state.json"), { actor: "seed", random: seededRandom(7), notice: () => undefined });
  await state.tasks.addAll(["due", "done", "failed", "held", "cancelled", "asked", "agent"].map((description, i) => ({ description, key: `k-${i + 1}`, ...(description === "due" ? { tags: ["x"] } : {}), priority: description === "held" ? 1 : 5 })));
  await state.tasks.complete(2, { n: [1] });
  await state.tasks.fail(3, "no pen");
  await state.tasks.cancel(5);
  const held = (await state.tasks.claim({ caller: "seed" }))!;
  await state.decisions.ask({ question: "Red or blue?", task: 6 });
  const worker = state.startWorker({ executor: { execute: (_: unknown, context: { approve(name: string, question: string): Promise<unknown> }) => context.approve("ship", "Ship it?") } as never, only: 6 } as never);
  await worker.idle();
  await openAgent(state.committer, await state.tasks.get(7), { goal: "free some space", actor: "seed" } as never);
  await state.agents.patch(7, { append_known_facts: [{ key: "disk", value: "full", source: "user" }] });
  await state.agents.patch(7, { replace_plan: ["look", "delete"] });
  await state.batches.create(["one", "two"], {});
  await state.events.emit("early", { n: 1 });
  await state.breakers.set("queue:mail", { failures: 5 } as never);
  await state.schedules.add({ id: "nightly", cron: "0 3 * * *", task: { description: "sweep" } } as never);
  const artifact = await state.artifacts.put("line 1\nline 2\n", { type: "text/plain" });
  const memory = await state.memory.store({ entity: "user", attribute: "colour", value: "blue" } as never);
  await state.memory.relate({ from: "user", type: "works_on", to: "pawl" } as never);
  seed = { token: held.token, parked: "d2", artifact: artifact.id, memory: (memory as unknown as { memory: { id: string } }).memory.id };
  await state.close();
  writeFileSync(join(folder, "tasks.txt"), "three\nfour\n");
});

after(async () => {
  for (const { close } of open.values()) await close();
  rmSync(folder, { recursive: true, force: true });
});

/** One or more inputs for each operation, in the names that JSON has. */
const CASES: { readonly [operation: string]: () => readonly Input[] } = {
  task_add: () => [{ description: "new", key: "n", priority: 2, tags: ["a", "b"], depends_on: [1, "k-3"], max_attempts: 5, timeout_ms: 60_000, input: { a: [1, null] } }, { description: "" }, { description: "x", depends_on: [99] }],
  task_edit: () => [{ id: 1, description: "other" }, { id: "k-1", priority: 7 }, { id: 1 }],
  task_claim: () => [{}, { caller: "seed" }, { queue: "none", wait_ms: 10 }, { wait_ms: 60_000 }],
  task_renew: () => [{ token: seed.token }, { token: "no" }],
  task_complete: () => [{ id: 4, token: seed.token, result: { ok: [true, 1.5, "x"] } }, { id: 4, result: "mine" }, { id: 1, result: "text" }, { id: 99 }],
  task_fail: () => [{ id: 4, token: seed.token, reason: "later", retry: true }, { id: 1, reason: "no" }, { id: 1 }],
  task_release: () => [{ id: 4, token: seed.token }, { id: 4, force: true, reason: "it hangs" }, { id: 1 }],
  task_retry: () => [{ id: 3, fresh: true, reason: "again" }, { id: 1 }],
  task_reset: () => [{ id: 2 }, { all: true }, {}],
  task_reopen: () => [{ id: 2, reason: "more" }, { id: 1, reason: "?" }],
  task_cancel: () => [{ id: 1, reason: "no" }, { id: 2 }],
  task_remove: () => [{ id: 3 }, { id: 4 }],
  task_list: () => [{}, { status: "pending", limit: 2 }, { tag: "x" }, { after: 3 }, { status: "nope" }],
  task_show: () => [{ id: 2 }, { id: 7 }, { id: "k-6", output: true }, { id: "nobody" }],
  task_next: () => [{}, { queue: "none" }],
  status: () => [{}],
  history: () => [{ id: 3 }, { id: 99 }],
  why: () => [{ id: 6 }, { id: 4 }, { id: 99 }],
  prime: () => [{}, { caller: "seed" }],
  decision_inbox: () => [{}],
  decision_ask: () => [{ question: "What now?", task: 1, details: { a: 1 } }, { question: "And?", task: 4, token: seed.token }, { question: "?", token: seed.token }],
  decision_approve: () => [{ id: seed.parked }, { id: "d1" }, { id: "d9" }],
  decision_deny: () => [{ id: seed.parked, reason: "not today" }, { id: seed.parked }],
  decision_answer: () => [{ id: "d1", answer: "blue" }, { id: seed.parked, answer: "maybe" }],
  event_emit: () => [{ name: "done", value: { a: 1 }, key: "e" }],
  event_list: () => [{}, { name: "none" }],
  event_take: () => [{ name: "early" }, { name: "none" }],
  event_drop: () => [{ id: 1 }, { id: 9 }],
  agent_list: () => [{}],
  agent_show: () => [{ id: 7 }, { id: 1 }],
  agent_patch: () => [{ id: 7, patch: { add_risk_flags: ["disk"] }, revision: 2, reason: "seen" }, { id: 7, patch: { nope: 1 } }, { id: 7, patch: {}, revision: 0 }],
  agent_history: () => [{ id: 7 }, { id: 7, after: 1 }],
  agent_diff: () => [{ id: 7, from: 0 }, { id: 7, from: 9 }],
  agent_at: () => [{ id: 7, revision: 1 }],
  agent_messages: () => [{ id: 7 }, { id: 1 }],
  agent_budget: () => [{ id: 7 }, { id: 7, add: ["max_steps=5"] }],
  batch_list: () => [{}],
  batch_show: () => [{ id: batchId() }, { id: "none" }],
  import: () => [{ file: "tasks.txt" }, { file: "missing.txt" }],
  export: () => [{}, { status: "completed", format: "json" }],
  breaker_list: () => [{}],
  breaker_show: () => [{ id: "queue:mail" }, { id: "queue:none" }],
  breaker_set: () => [{ id: "queue:new", limits: "failures=3,cooldown=1m" }, { id: "queue:new", limits: "x" }],
  breaker_open: () => [{ id: "queue:mail", reason: "moving" }],
  breaker_reset: () => [{ id: "queue:mail" }],
  breaker_rm: () => [{ id: "queue:mail" }],
  schedule_add: () => [{ name: "hourly", every_ms: 3_600_000, description: "look" }, { name: "bad", cron: "x", description: "y" }],
  schedule_list: () => [{}],
  schedule_show: () => [{ name: "nightly" }, { name: "none" }],
  schedule_pause: () => [{ name: "nightly" }],
  schedule_resume: () => [{ name: "nightly" }],
  schedule_run: () => [{ name: "nightly" }],
  schedule_remove: () => [{ name: "nightly" }],
  artifact_list: () => [{}],
  artifact_show: () => [{ id: seed.artifact }, { id: "sha256-0000" }],
  artifact_get: () => [{ id: seed.artifact }, { id: seed.artifact, lines: "2-2" }],
  artifact_put: () => [{ file: "tasks.txt" }, { content: "abc", summary: "letters" }],
  artifact_gc: () => [{ dry_run: true }],
  memory_store: () => [{ entity: "user", attribute: "size", value: "large" }, { entity: "user", attribute: "colour", value: "red", confidence: 0.5 }],
  memory_recall: () => [{ entity: "user" }],
  memory_search: () => [{ query: "blue" }],
  memory_list: () => [{ all: true }],
  memory_verify: () => [{ id: seed.memory }, { id: "m99" }],
  memory_forget: () => [{ id: seed.memory, reason: "wrong" }],
  memory_conflicts: () => [{}],
  memory_relate: () => [{ from: "pawl", type: "is_a", to: "library" }],
  memory_relations: () => [{ entity: "user" }],
  doctor: () => [{}, { deep: true }],
  backup: () => [{ to: "copy.json" }],
  copy: () => [{ from: "state.json", to: "moved.db", wait_ms: 0, force: true }, { from: "state.json", to: "tasks.txt" }],
};

function batchId(): string {
  return (JSON.parse(readFileSync(join(folder, "state.json"), "utf8")) as { batches: { id: string }[] }).batches[0]!.id;
}

/** What differs between two equal calls: times, folders, random names, how long things took. */
function plain(text: string, at: string): string {
  return text
    .replaceAll(/"(\w*confidence|rank|score)":[\d.eE+-]+/g, '"$1":0').replaceAll(at, "FOLDER").replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, "TIME").replaceAll(/\bc-[0-9a-f]{32}[\w-]*/g, "c-HOLDER").replaceAll(/question-[0-9a-f]{12}/g, "question-ID")
    .replaceAll(/batch-\d{8}-\d{6}(-\w+)?/g, "BATCH").replaceAll(/\b[0-9a-f]{16,64}\b/g, "HASH").replaceAll(/"silent_ms":\d+/g, '"silent_ms":0').replaceAll(/state-\d{8}T?-?\d+\w*/g, "STAMP");
}

type Answered = { readonly at: string; readonly answer: Document | string };

/** A door on a copy of its own. */
async function writes(door: string, at: string, operation: Operation, input: Input): Promise<Answered> {
  const { call, close } = await DOORS[door]!(at);
  return { at, answer: await call(operation, placed(door, operation.params, input, at)).finally(close) };
}

/** A door on the seed itself, opened once for all that only read. */
const open = new Map<string, Awaited<ReturnType<(typeof DOORS)[string]>>>();

async function reads(door: string, operation: Operation, input: Input): Promise<Answered> {
  if (!open.has(door)) open.set(door, await DOORS[door]!(folder));
  return { at: folder, answer: await open.get(door)!.call(operation, input) };
}

const anyOrder = (text: string): unknown => JSON.parse(text);

for (const { name } of OPERATIONS) {
  test(`${name}: the same through every door`, async () => {
    const cases = CASES[name];
    assert.ok(cases, `${name} has no case in this file: give it at least one input`);
    const operation = operationNamed(name);
    for (const input of cases()) {
      const answers = new Map<string, string>();
      for (const door of Object.keys(DOORS)) {
        const { at, answer } = operation.effect === "read" ? await reads(door, operation, input) : await inCopy(folder, (at) => writes(door, at, operation, input));
        if (door === "library") {
          conforms(operation.output, answer as Document);
          answers.set("library, as a model reads it", plain((answer as Document).kind === "error" ? JSON.stringify(answer) : modelText(answer as Document, toolWords(OPERATIONS)), at));
        }
        answers.set(door, plain(typeof answer === "string" ? answer : JSON.stringify(answer), at));
      }
      const shown = `${name} ${JSON.stringify(input)}`;
      const [library, line, http, mcp, model] = ["library", "command line", "HTTP", "MCP", "library, as a model reads it"].map((door) => answers.get(door)!) as [string, string, string, string, string];
      assert.deepEqual(said(anyOrder(http)), said(anyOrder(library)), `${shown}: HTTP and the library`);
      assert.deepEqual(said(anyOrder(line)), said(anyOrder(library)), `${shown}: the command line and the library`);
      assert.deepEqual(said(anyOrder(mcp)), said(anyOrder(model)), `${shown}: MCP and the library`);
    }
  });
}

test("no case is left of an operation that is gone", () => {
  assert.deepEqual(Object.keys(CASES).filter((name) => !OPERATIONS.some((operation) => operation.name === name)), []);
});

/** Of an error its code counts: the words around a path or a flag are each door's own. */
function said(document: unknown): unknown {
  const { kind, data } = document as Document;
  return kind === "error" ? { error: (data as { code: string }).code } : document;
}

/** Programs and the command line say where, in this process whose folder is another; the other doors stand in theirs. */
function placed(door: string, params: Params, input: Input, at: string): Input {
  if (door !== "library" && door !== "command line") return input;
  return Object.fromEntries(Object.entries(input).map(([name, value]) => [name, params[name]?.path && typeof value === "string" ? join(at, value) : value]));
}

/** The data is what the schema of its kind allows, strictly enough that a wrong type or a missing field is seen. */
function conforms(output: string, document: Document): void {
  if (document.kind === "error") return;
  assert.ok(OUTPUTS[output], `${output} has no schema in operations/outputs.ts`);
  const result = z.fromJSONSchema(OUTPUTS[output] as never).safeParse(JSON.parse(JSON.stringify(document.data)));
  assert.ok(result.success, `${output}: ${result.error?.message.slice(0, 1500)}`);
}

// What each kind of output looks like, as JSON Schema: what `data` holds in `--json`, over HTTP and over MCP. Records come
// from their declarations, so a new field is in the schema by itself; every operation's output is checked against it in tests.
import type { JsonSchema } from "../base/params-schema.ts";
import { KINDS } from "../core/kinds.ts";
import type { FieldType } from "../store/store.ts";

const TEXT: JsonSchema = { type: "string" };
const NUMBER: JsonSchema = { type: "number" };
const INTEGER: JsonSchema = { type: "integer" };
const BOOLEAN: JsonSchema = { type: "boolean" };
const ANY: JsonSchema = {};
const COUNTS: JsonSchema = { type: "object", additionalProperties: INTEGER };

const orNull = (schema: JsonSchema): JsonSchema => (typeof schema["type"] === "string" ? { ...schema, type: [schema["type"], "null"] } : { anyOf: [schema, { type: "null" }] });
const list = (items: JsonSchema): JsonSchema => ({ type: "array", items });

/** An object with these properties; more may come in later versions. Those whose name ends in "?" may be missing. */
function object(properties: { readonly [name: string]: JsonSchema }): JsonSchema {
  const names = Object.keys(properties);
  const required = names.filter((name) => !name.endsWith("?"));
  return { type: "object", properties: Object.fromEntries(names.map((name) => [name.replace(/\?$/, ""), properties[name]!])), required };
}

const FIELDS: { readonly [type in FieldType]: JsonSchema } = { text: TEXT, integer: INTEGER, real: NUMBER, boolean: BOOLEAN, json: ANY };

/** A record of a kind: its key is set, everything else may be null; fields that Pawl does not know are kept. */
export function record(kind: string): JsonSchema {
  const { fields, key } = KINDS.find(({ name }) => name === kind)!;
  return object(Object.fromEntries(Object.entries(fields).map(([name, type]) => [name, key.includes(name) || type === "json" ? FIELDS[type] : orNull(FIELDS[type])])));
}

/** Records of a kind as they are shown: some of their fields, or some beside them. */
function shown(kind: string, fields: readonly string[]): JsonSchema {
  const { properties } = record(kind) as { properties: { readonly [name: string]: JsonSchema } };
  return object(Object.fromEntries(fields.map((name) => [name, properties[name]!])));
}

const SUMMARY = object(Object.fromEntries(["total", "completed", "failed", "waiting", "blocked", "cancelled", "pending", "in_progress", "review", "progress_percent"].map((name) => [name, INTEGER])));

const FINDING = object({ code: TEXT, severity: { enum: ["error", "warning", "note"] }, place: TEXT, message: TEXT, "line?": INTEGER, "offset?": INTEGER, "record?": TEXT, "next?": TEXT });

const WHY = object({
  id: INTEGER, description: TEXT, status: TEXT, since: TEXT, summary: TEXT, attempts: object({ made: INTEGER, max: INTEGER, round: INTEGER, takeovers: INTEGER }),
  tries: list(object({ at: TEXT, event: TEXT, reason: orNull(TEXT) })), error: ANY, feedback: orNull(TEXT), blockers: list(object({ id: INTEGER, status: TEXT })), ahead: orNull(INTEGER), children: list(object({ id: INTEGER, status: TEXT })),
  decisions: list(object({ id: TEXT, question: TEXT, since: TEXT })), owner: orNull(object({ worker: TEXT, label: orNull(TEXT), pid: orNull(INTEGER), lease_expires_at: orNull(TEXT), silent_ms: NUMBER, dead: BOOLEAN })),
  resume: object({ skip: list(TEXT), check: list(TEXT), redo: list(TEXT) }), next: TEXT,
});

const STATUS = object({
  state: TEXT, tasks: SUMMARY, batches: list(object({ id: TEXT, source: orNull(TEXT), summary: SUMMARY, paused_until: orNull(TEXT) })), decisions: INTEGER, edits: list(ANY),
  workers: list(object({ id: TEXT, label: TEXT, pid: INTEGER, host: TEXT, started_at: TEXT, dead: BOOLEAN })),
});

const STEP = shown("step", ["key", "status", "effect", "round", "attempt", "start", "output", "output_artifact", "error", "started_at", "ended_at"]);

const MEMORY: JsonSchema = { ...record("memory"), properties: { ...(record("memory") as { properties: object }).properties, effective_confidence: NUMBER, conflicts: list(TEXT) } };

const AGENT_STATE = object({
  goal: TEXT, constraints: { type: "object" }, budget: { type: "object" }, plan: list(TEXT), known_facts: list({ type: "object" }), open_questions: list(TEXT), artifacts: list({ type: "object" }),
  risk_flags: list(TEXT),
});

/** By `output` of the operation. */
export const OUTPUTS: { readonly [output: string]: JsonSchema } = {
  task: record("task"),
  "task-gone": record("task"),
  "task-list": list(record("task")),
  "task-detail": object({ task: record("task"), steps: list(STEP), "children?": object({ counts: COUNTS, first: list(object({ id: INTEGER, status: TEXT, description: TEXT })) }), "agent?": object({ revision: INTEGER, model: orNull(TEXT), updated_at: TEXT }), "outputs?": list(record("output")) }),
  reset: object({ reset: INTEGER, task: orNull(record("task")) }),
  claim: orNull(object({ task: record("task"), token: TEXT, "again?": BOOLEAN, "answers?": list(object({ id: TEXT, question: TEXT, answer: orNull(TEXT), value: ANY, reason: orNull(TEXT) })) })),
  history: list(record("transition")),
  why: WHY,
  status: STATUS,
  decision: record("decision"),
  "decision-list": list(record("decision")),
  batch: object({ batch: record("batch"), summary: SUMMARY, items: list(object({ position: INTEGER, name: TEXT, task_id: INTEGER, status: TEXT })) }),
  "batch-list": list(record("batch")),
  import: object({ batch: record("batch"), report: object({ added: INTEGER, known: INTEGER, gone: INTEGER, back: INTEGER }), created: BOOLEAN }),
  report: object({ format: TEXT, tasks: list(record("task")) }),
  prime: object({ text: TEXT, hook: orNull({ type: "object" }) }),
  event: record("event"),
  "event-list": list(record("event")),
  "event-taken": orNull(record("event")),
  agent: object({ agent: record("agent"), state: AGENT_STATE, spend: { type: "object" } }),
  "agent-list": list(record("agent")),
  "agent-state": AGENT_STATE,
  "agent-diff": object({ from: INTEGER, to: INTEGER, added: list(record("entry")), ended: list(record("entry")) }),
  patch: record("patch"),
  "patch-list": list(record("patch")),
  "message-list": list(record("message")),
  budget: object({ task_id: INTEGER, parent_id: orNull(INTEGER), limits: { type: "object" }, spend: { type: "object" }, reservations: list(record("reservation")) }),
  breaker: record("breaker"),
  "breaker-list": list(record("breaker")),
  "breaker-gone": record("breaker"),
  schedule: record("schedule"),
  "schedule-list": list(record("schedule")),
  artifact: record("artifact"),
  "artifact-list": list(record("artifact")),
  "artifact-content": object({ artifact_id: TEXT, type: TEXT, bytes: INTEGER, from: INTEGER, to: INTEGER, truncated: BOOLEAN, encoding: { enum: ["utf-8", "base64"] }, content: TEXT }),
  "artifact-gc": object({ dry_run: BOOLEAN, removed: list(object({ id: TEXT, bytes: INTEGER, type: TEXT, created_at: TEXT })), bytes: INTEGER, kept: INTEGER }),
  memory: MEMORY,
  "memory-stored": object({ memory: MEMORY, supersedes: list(TEXT), known: BOOLEAN }),
  "memory-list": list(MEMORY),
  "memory-forgotten": list(record("memory")),
  "memory-conflicts": list(object({ entity: TEXT, attribute: TEXT, memories: list(MEMORY) })),
  relation: record("relation"),
  "relation-list": list(record("relation")),
  doctor: object({ state: TEXT, healthy: BOOLEAN, findings: list(FINDING), records: COUNTS, chains: INTEGER, done: list(TEXT) }),
  backup: object({ from: TEXT, to: TEXT }),
  copy: object({ from: TEXT, to: TEXT, records: COUNTS, hash: TEXT, released: list(INTEGER), kept_open: BOOLEAN }),
};

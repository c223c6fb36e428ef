// The records of tasks and of those who work them: fields and indexes, declared once. With the kinds of the other nouns
// (kinds.ts joins them) this is the file format, the SQL schema and the JSON people read. Adding a field is safe (old
// records read it as null); renaming or removing one needs a migration.

//   task ─┬─ step        one memoized effect of a round        task ─── dependency, tag   (arrays that are queried)
//         ├─ wait        what a parked task waits for          batch ── item              (one line of a task list)
//         ├─ child       a task its code started               event ── channel           (what of one name waits)
//         ├─ transition  its history, hash-chained             worker ─ process           (a child's process group)
//         ├─ output      what its commands wrote to stderr     decision, edit, meta, op
import type { Json } from "../base/json.ts";
import type { Kind, Rec } from "../store/store.ts";

export const STATUSES = ["pending", "in_progress", "waiting", "review", "completed", "failed", "cancelled"] as const;
export type Status = (typeof STATUSES)[number];
export const TERMINAL: ReadonlySet<Status> = new Set(["completed", "failed", "cancelled"]);
/** Statuses in which a worker owns the task, when it has one. */
export const HELD: ReadonlySet<Status> = new Set(["in_progress", "review"]);

/** Why something failed, as it is kept: `code` is ours or the error's own, `cause` the message behind it. */
export type Failure = { readonly message: string; readonly code?: string; readonly cause?: string; readonly permanent?: boolean; readonly details?: Json };

export type Task = {
  readonly id: number;
  readonly key: string | null;
  readonly queue: string;
  readonly description: string;
  readonly input: Json;
  readonly status: Status;
  readonly result: Json;
  readonly error: Failure | null;
  /** What the last review asked for; the next attempt reads it. */
  readonly feedback: string | null;
  /** Started executions, counted at the claim. */
  readonly attempts: number;
  readonly max_attempts: number;
  /** How often it was taken from a dead worker; bounds a task that kills its workers, also one that records a step each time. */
  readonly takeovers: number;
  /** Reviews of this round that ended without a verdict. */
  readonly reviews: number;
  /** Steps belong to a round; a rejection, reset, reopen or fresh retry begins the next. */
  readonly round: number;
  /** Lower runs first. */
  readonly priority: number;
  readonly depends_on: readonly number[];
  readonly parent_id: number | null;
  readonly batch_id: string | null;
  readonly tags: readonly string[];
  /** Who judges the result; null: it is completed as it comes. */
  readonly verifier: string | null;
  /** Not before this time; null once it has passed. */
  readonly run_at: string | null;
  readonly deadline_at: string | null;
  /** For one attempt; stands still while waiting. */
  readonly timeout_ms: number | null;
  readonly waiting_for: Json;
  /** Of all tasks with this key at most `concurrency_limit` (null: one) are in work at a time. */
  readonly concurrency_key?: string | null;
  readonly concurrency_limit?: number | null;
  /** The slot it has while it is due or in work, and the line it stands in for one: see slot.ts. */
  readonly slot?: string | null;
  readonly line?: string | null;
  /** Derived: a worker may claim it now. Pending with its time come and all dependencies completed, or in review without an owner. */
  readonly ready: boolean;
  /** Some task depends on it: whoever completes it looks for them. Set by whoever adds the first; never taken back. */
  readonly has_dependents: boolean;
  /** Some task is its child. Set by whoever adds the first; never taken back. */
  readonly has_children?: boolean | null;
  /** What happened to it that must reach its children: set in the same change, taken back when it has reached them. */
  readonly children_due?: "close" | "revive" | null;
  /** The next claim goes on with the attempt that a wait or a drain interrupted, and does not count. */
  readonly continues: boolean;
  /** Counts ownerships; every write of a worker carries it, so one that lost the task cannot write. */
  readonly fence: number;
  readonly worker: string | null;
  readonly lease_expires_at: string | null;
  readonly created_at: string;
  readonly started_at: string | null;
  readonly completed_at: string | null;
  readonly updated_at: string;
  readonly revision: number;
};

export type StepStatus = "started" | "completed" | "failed";
export type Effect = "repeat" | "once";

export type Step = {
  readonly task_id: number;
  readonly round: number;
  /** Scope path, name and ordinal, or the explicit key. */
  readonly key: string;
  readonly name: string;
  readonly status: StepStatus;
  readonly effect: Effect;
  readonly output: Json;
  /** The artifact that holds the output, when it is too large for a record; `output` is null then. */
  readonly output_artifact?: string | null;
  readonly error: Failure | null;
  /** The attempt and the ownership it was recorded in: a failure is replayed within its attempt only. */
  readonly attempt: number;
  readonly fence: number;
  /** How often it was started; an answer about an unknown effect is valid for one start only. */
  readonly start: number;
  readonly input_hash: string | null;
  readonly input: Json;
  /** Survives a new round: declared `keep`, or `once` and not `redo`. */
  readonly kept: boolean;
  readonly started_at: string;
  readonly ended_at: string | null;
};

export type WaitKind = "decision" | "timer" | "event" | "child" | "children";
export type Wait = {
  readonly task_id: number;
  readonly round: number;
  /** The step that waits. */
  readonly key: string;
  readonly kind: WaitKind;
  readonly status: "open" | "settled" | "withdrawn";
  readonly due_at: string | null;
  readonly decision_id: string | null;
  /** The name of the event it waits for, and the event it was given. */
  readonly event: string | null;
  readonly event_id: number | null;
  /** The first child it waits for that had not ended when it was last looked at, and the key of that child. */
  readonly child_id: number | null;
  readonly child_key: string | null;
  /** One child that does not complete ends the wait for all. */
  readonly fail_fast: boolean | null;
  /** The ownership under which a step of a script ended in it: what the script waits for, whatever its own exit code is. */
  readonly fence?: number | null;
  readonly created_at: string;
  readonly settled_at: string | null;
};

export type DecisionKind = "unknown_effect" | "step_changed" | "review" | "approval" | "action" | "budget" | "question";
export type DecisionStatus = "open" | "approved" | "edited" | "denied" | "answered" | "expired" | "withdrawn";
/** What happens to a decision that nobody settles before `expires_at`: it waits on, it ends as expired, or people are told again. */
export type ExpiryPolicy = "wait" | "deny" | "escalate";
export type Decision = {
  readonly id: string;
  readonly task_id: number | null;
  readonly kind: DecisionKind;
  readonly status: DecisionStatus;
  /** What is asked, in one sentence. */
  readonly question: string;
  /** The answers that make sense, each with what it does. */
  readonly options: Json;
  /** Exactly what the decision is about: arguments, outputs, the difference of inputs. */
  readonly details: Json;
  readonly round: number | null;
  readonly step_key: string | null;
  /** The start of the step it is valid for. */
  readonly step_start: number | null;
  readonly answer: string | null;
  readonly value: Json;
  readonly reason: string | null;
  readonly asked_by: string;
  readonly settled_by: string | null;
  readonly created_at: string;
  readonly settled_at: string | null;
  readonly expires_at: string | null;
  /** Null is "deny". */
  readonly on_expiry?: ExpiryPolicy | null;
  readonly escalated_at?: string | null;
  /** When people were told of it by a command or webhook, and how that failed. */
  readonly notified_at?: string | null;
  readonly notify_error?: string | null;
};

export type Transition = {
  readonly task_id: number;
  readonly seq: number;
  readonly at: string;
  readonly actor: string;
  readonly event: string;
  readonly from_status: Status | null;
  readonly to_status: Status | null;
  readonly reason: string | null;
  readonly details: Json;
  readonly hash: string;
};

export type Batch = {
  readonly id: string;
  /** The real path of the list it was made from; null when made by a program. */
  readonly source: string | null;
  readonly queue: string;
  readonly executor: Json;
  readonly verifier: Json;
  readonly limits: Json;
  /** The worker that runs it now, or ran it last. */
  readonly worker: string | null;
  readonly tokens: number;
  readonly context_clears: Json;
  readonly created_at: string;
  readonly updated_at: string;
};

/** One line of a batch's list: what makes an import happen once, however often it is repeated. */
export type Item = { readonly batch_id: string; readonly key: string; readonly name: string; readonly task_id: number; readonly position: number; readonly removed: boolean };

export type WorkerRecord = {
  readonly id: string;
  readonly label: string;
  readonly host: string;
  readonly boot_id: string;
  readonly pid: number;
  readonly lock_path: string | null;
  readonly lock_dev: number | null;
  readonly lock_ino: number | null;
  readonly started_at: string;
  readonly seen_at: string;
};

/** A process group a worker started, recorded before its command begins, so that a takeover can end it. */
export type ProcessRecord = {
  readonly worker: string;
  readonly pid: number;
  readonly task_id: number;
  readonly fence: number;
  readonly boot_id: string;
  /** Clock ticks after boot (field 22 of /proc/PID/stat): tells the process from a later one with its number. */
  readonly start_time: string;
  readonly started_at: string;
};

/** What a command wrote to stderr, and how it ended. */
export type Output = {
  readonly task_id: number;
  readonly fence: number;
  readonly part: string;
  readonly command: string;
  readonly stderr: string;
  readonly stdout: string | null;
  readonly exit_code: number | null;
  readonly signal: string | null;
  readonly details: Json;
  readonly at: string;
};

const TASK: Kind = {
  name: "task",
  fields: {
    id: "integer", key: "text", queue: "text", description: "text", input: "json", status: "text", result: "json", error: "json",
    feedback: "text", attempts: "integer", max_attempts: "integer", takeovers: "integer", reviews: "integer", round: "integer",
    priority: "integer", concurrency_key: "text", concurrency_limit: "integer", slot: "text", line: "text", depends_on: "json", parent_id: "integer", batch_id: "text", tags: "json", verifier: "text", run_at: "text",
    deadline_at: "text", timeout_ms: "integer", waiting_for: "json", ready: "boolean", has_dependents: "boolean", has_children: "boolean", children_due: "text", continues: "boolean", fence: "integer",
    worker: "text", lease_expires_at: "text", created_at: "text", started_at: "text", completed_at: "text", updated_at: "text", revision: "integer",
  },
  key: ["id"],
  assign: "",
  indexes: {
    key: { fields: ["key"], unique: true, notNull: ["key"] },
    status: { fields: ["status"], counted: 1 },
    batch: { fields: ["batch_id", "status"], notNull: ["batch_id"], counted: 2 },
    // What a worker may take, in the order it takes it. Reviews apart: a worker without their verifier leaves them.
    due: { fields: ["queue", "batch_id", "priority"], where: { ready: true, status: "pending" } },
    review: { fields: ["queue", "batch_id", "verifier", "priority"], where: { ready: true, status: "review" } },
    // What the sweep looks at. Each holds only the few tasks it may concern.
    delayed: { fields: ["run_at"], notNull: ["run_at"] },
    blocked: { fields: ["run_at"], where: { status: "pending", ready: false, line: null } },
    // Those that are due but for a slot: by key, and by where workers look.
    line: { fields: ["line", "priority"], notNull: ["line"] },
    in_line: { fields: ["queue", "batch_id", "priority"], notNull: ["line"] },
    deadline: { fields: ["status", "deadline_at"], notNull: ["deadline_at"] },
    // Every owned task: as many as there are hands at work, so whoever looks for one worker's filters these.
    lease: { fields: ["lease_expires_at"], notNull: ["lease_expires_at"] },
    children: { fields: ["parent_id", "status"], notNull: ["parent_id"] },
    // Whose children have not been told yet.
    children_due: { fields: ["children_due"], notNull: ["children_due"] },
  },
};

/** The fields of a task that Pawl knows. */
export const TASK_FIELDS = TASK.fields;

export const TASK_KINDS: readonly Kind[] = [
  TASK,
  { name: "dependency", fields: { task_id: "integer", depends_on_id: "integer" }, key: ["task_id", "depends_on_id"], indexes: { dependents: { fields: ["depends_on_id"] } } },
  { name: "tag", fields: { tag: "text", task_id: "integer" }, key: ["tag", "task_id"], indexes: {} },
  {
    name: "step",
    fields: {
      task_id: "integer", round: "integer", key: "text", name: "text", status: "text", effect: "text", output: "json", output_artifact: "text", error: "json", attempt: "integer",
      fence: "integer", start: "integer", input_hash: "text", input: "json", kept: "boolean", started_at: "text", ended_at: "text",
    },
    key: ["task_id", "round", "key"],
    indexes: {},
  },
  {
    name: "wait",
    fields: {
      task_id: "integer", round: "integer", key: "text", kind: "text", status: "text", due_at: "text", decision_id: "text", event: "text", event_id: "integer",
      child_id: "integer", child_key: "text", fail_fast: "boolean", fence: "integer", created_at: "text", settled_at: "text",
    },
    key: ["task_id", "round", "key"],
    indexes: {
      due: { fields: ["due_at"], where: { status: "open" }, notNull: ["due_at"] },
      decision: { fields: ["decision_id"], notNull: ["decision_id"] },
      event: { fields: ["event", "created_at"], where: { status: "open" }, notNull: ["event"] },
      child: { fields: ["child_id"], where: { status: "open" }, notNull: ["child_id"] },
    },
  },
  {
    name: "decision",
    fields: {
      id: "text", task_id: "integer", kind: "text", status: "text", question: "text", options: "json", details: "json", round: "integer", step_key: "text",
      step_start: "integer", answer: "text", value: "json", reason: "text", asked_by: "text", settled_by: "text", created_at: "text", settled_at: "text", expires_at: "text",
      on_expiry: "text", escalated_at: "text", notified_at: "text", notify_error: "text",
    },
    key: ["id"],
    assign: "d",
    indexes: {
      status: { fields: ["status", "created_at"] },
      task: { fields: ["task_id", "created_at"], notNull: ["task_id"] },
      expires: { fields: ["expires_at"], where: { status: "open" }, notNull: ["expires_at"] },
    },
  },
  {
    name: "transition",
    fields: { task_id: "integer", seq: "integer", at: "text", actor: "text", event: "text", from_status: "text", to_status: "text", reason: "text", details: "json", hash: "text" },
    key: ["task_id", "seq"],
    indexes: {},
    chain: { group: "task_id", order: "seq" },
  },
  {
    name: "batch",
    fields: {
      id: "text", source: "text", queue: "text", executor: "json", verifier: "json", limits: "json", worker: "text", tokens: "integer",
      context_clears: "json", created_at: "text", updated_at: "text",
    },
    key: ["id"],
    indexes: { source: { fields: ["source", "created_at"], notNull: ["source"] }, created: { fields: ["created_at"] } },
  },
  {
    name: "item",
    fields: { batch_id: "text", key: "text", name: "text", task_id: "integer", position: "integer", removed: "boolean" },
    key: ["batch_id", "key"],
    indexes: { position: { fields: ["batch_id", "position"] }, task: { fields: ["task_id"] } },
  },
  {
    name: "worker",
    fields: {
      id: "text", label: "text", host: "text", boot_id: "text", pid: "integer", lock_path: "text", lock_dev: "integer", lock_ino: "integer",
      started_at: "text", seen_at: "text",
    },
    key: ["id"],
    indexes: {},
  },
  {
    name: "process",
    fields: { worker: "text", pid: "integer", task_id: "integer", fence: "integer", boot_id: "text", start_time: "text", started_at: "text" },
    key: ["worker", "pid"],
    indexes: { task: { fields: ["task_id"] } },
  },
  {
    name: "output",
    fields: { task_id: "integer", fence: "integer", part: "text", command: "text", stderr: "text", stdout: "text", exit_code: "integer", signal: "text", details: "json", at: "text" },
    key: ["task_id", "fence", "part"],
    indexes: {},
  },
  {
    // Steps of a shell script are separate processes: their count and overlap are kept here, for one ownership.
    name: "call",
    fields: { task_id: "integer", fence: "integer", name: "text", started: "integer", ended: "integer", overlapped: "boolean" },
    key: ["task_id", "fence", "name"],
    indexes: {},
  },
  {
    // A hand edit of the state file: what became of it.
    name: "edit",
    fields: {
      id: "text", status: "text", at: "text", base_revision: "integer", hash: "text", kept: "text", changes: "integer", refusals: "json", said: "json", line: "integer",
      column: "integer", reason: "text", repairs: "json", settled_at: "text", settled_by: "text",
    },
    key: ["id"],
    assign: "e",
    indexes: { status: { fields: ["status", "at"] }, at: { fields: ["at"] }, base: { fields: ["base_revision"], notNull: ["base_revision"] } },
  },
  { name: "meta", fields: { name: "text", value: "json" }, key: ["name"], indexes: {} },
  { name: "op", fields: { id: "text", at: "text" }, key: ["id"], indexes: { at: { fields: ["at"] } } },
];

/** Reads a stored record as its noun. The store checked every field when it was written. */
export function asTask(record: Rec): Task {
  return record as unknown as Task;
}

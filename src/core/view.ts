// The document people read and edit: tasks, batches and open decisions in a stable order, each task with the fields that say
// something. Steps, history and bookkeeping stay in the journal.
import type { Json } from "../base/json.ts";
import type { Rec, Shown } from "../store/store.ts";
import { TASK_FIELDS } from "./records.ts";

/** The format of state.json; raised only with a migration. */
export const FORMAT = 1;

/** The fields of a task in the order they are shown. `id` to `attempts` are always there. */
const ALWAYS = ["id", "description", "status", "result", "attempts"];
const WHEN_SET = [
  "key", "input", "error", "feedback", "waiting_for", "depends_on", "tags", "batch_id", "parent_id", "verifier", "run_at", "deadline_at", "timeout_ms", "concurrency_key", "concurrency_limit",
  "worker", "lease_expires_at", "created_at", "started_at", "completed_at", "updated_at",
];
/** Fields that are left out when they have this value. */
export const UNLESS_DEFAULT: { readonly [field: string]: Json } = { queue: "default", priority: 5, max_attempts: 3, round: 1 };

export function renderView(all: (kind: string) => Iterable<Rec>, revision: number): Shown {
  const tasks = all("task");
  const batches = [...all("batch")].map(withoutNulls);
  const decisions = [...all("decision")].filter((d) => d["status"] === "open").map(withoutNulls);
  return {
    pawl: { format: FORMAT, revision },
    *tasks() {
      for (const task of tasks) yield shownTask(task);
    },
    ...(batches.length > 0 ? { batches } : {}),
    ...(decisions.length > 0 ? { decisions } : {}),
  };
}

function shownTask(task: Rec): Json {
  const shown: { [field: string]: Json } = {};
  for (const field of ALWAYS) shown[field] = task[field] ?? null;
  for (const field in UNLESS_DEFAULT) if (task[field] !== UNLESS_DEFAULT[field]) shown[field] = task[field]!;
  for (const field of WHEN_SET) {
    const value = task[field] ?? null;
    if (value !== null && !(Array.isArray(value) && value.length === 0)) shown[field] = value;
  }
  // What is not declared was put there by a person or a program: it is shown, so that it can be seen and edited.
  for (const field in task) if (!Object.hasOwn(TASK_FIELDS, field) && task[field] !== null) shown[field] = task[field]!;
  return shown;
}

function withoutNulls(record: Rec): Json {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== null));
}

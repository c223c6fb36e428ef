// What the state files of other programs become: every form, what is kept of each field, and what is refused at which line.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isPawlError } from "../../src/base/errors.ts";
import { parseStrict } from "../../src/base/json-text.ts";
import { adopt } from "../../src/core/adopt.ts";
import { KINDS } from "../../src/core/kinds.ts";
import { STATUSES, type Batch, type Item, type Task, type Transition } from "../../src/core/records.ts";
import { seal, verifyChain } from "../../src/core/history.ts";
import type { Adoption, Rec } from "../../src/store/store.ts";
import { Tables } from "../../src/store/tables.ts";
import { AT, NOW, requireSound } from "./samples.ts";

type Made = { readonly tasks: Task[]; readonly batches: Batch[]; readonly items: Item[]; readonly notes: string; readonly all: (kind: string) => Rec[] };

/** The records that a document becomes, applied as a store applies them. */
function made(document: unknown): Made {
  const { value, lineOf } = parseStrict(typeof document === "string" ? document : JSON.stringify(document, null, 1), "s.json");
  const adoption: Adoption = adopt(value, { name: "s.json", now: NOW, lineOf, actor: "ann" });
  const tables = new Tables({ kinds: KINDS, seal });
  for (const change of adoption.changes) assert.deepEqual(tables.apply(change, NOW, []).ok, true);
  const all = (kind: string) => tables.all(kind);
  return { tasks: all("task") as unknown as Task[], batches: all("batch") as unknown as Batch[], items: all("item") as unknown as Item[], notes: adoption.notes.join("; "), all };
}

const brief = ({ tasks }: Made) => tasks.map((task) => [task.id, task.key, task.description, task.status, task.result]);

test("a list of tasks keeps ids, statuses and results; what was in progress is pending again", () => {
  const list = made({
    tasks: [
      { id: 1, description: "a", status: "completed", result: "done" },
      { id: 5, description: "b", status: "in_progress", result: null },
      { id: 3, description: "c", status: "pending", result: null },
    ],
  });
  assert.deepEqual(brief(list), [[1, null, "a", "completed", "done"], [3, null, "c", "pending", null], [5, null, "b", "pending", null]]);
  assert.match(list.notes, /^3 tasks \(2 pending, 1 completed\); 1 task \(in_progress there\) is pending again/);
  assert.deepEqual(list.tasks.map((task) => task.ready), [false, true, true]);
  const [transition] = list.all("transition").filter((record) => record["task_id"] === 5) as unknown as Transition[];
  assert.deepEqual([transition!.event, transition!.actor, transition!.reason, transition!.to_status, transition!.details], ["adopted", "ann", "from s.json", "pending", { status: "in_progress" }]);
});

test("times, attempts, errors and a list's own fields are kept", () => {
  const { tasks, notes, all } = made({
    version: "1.1.0", owner: { team: "x" },
    tasks: [
      { id: 1, description: "a", status: "completed", result: { n: 1 }, attempts: 7, created_at: "2026-01-19T10:29:58.114Z", started_at: "2026-01-19T10:30:00Z", completed_at: "2026-01-19T11:30:05+01:00", colour: "red" },
      { id: 2, description: "b", status: "failed", error: "no network", failure_reason: "x", updated_at: "2026-01-19 10:00:00.123456" },
      { id: 3, description: "c", status: "failed", failure_reason: "bad" },
      { id: 4, description: "d", status: "pending", attempts: 3, max_attempts: 3, last_feedback: "again", history: [{ to: "pending" }], created_at: "long ago" },
      { id: 6, description: "e", done: true },
      { id: 8, user_input: "f" },
    ],
  });
  assert.deepEqual([tasks[0]!.started_at, tasks[0]!.completed_at, tasks[0]!.attempts, tasks[0]!.input], ["2026-01-19T10:30:00.000Z", "2026-01-19T10:30:05.000Z", 7, { colour: "red" }]);
  assert.deepEqual([tasks[1]!.error, tasks[1]!.completed_at], [{ message: "no network", code: "adopted" }, "2026-01-19T10:00:00.123Z"]);
  assert.equal(tasks[2]!.error!.message, "bad");
  assert.deepEqual([tasks[3]!.attempts, tasks[3]!.feedback, tasks[3]!.created_at], [0, "again", AT]);
  assert.deepEqual([tasks[4]!.status, tasks[5]!.status], ["completed", "pending"]);
  const left = all("transition").filter((record) => record["task_id"] === 4)[0]!["details"];
  assert.deepEqual(left, { left: { attempts: 3, history: [{ to: "pending" }], created_at: "long ago" } });
  assert.deepEqual((all("meta")[0]!["value"] as { fields: unknown }).fields, { version: "1.1.0", owner: { team: "x" } });
  assert.match(notes, /its other fields \(version, owner\) are kept/);
});

test("a map of tasks: text ids are keys, in the order in which the tasks were made", () => {
  const map = made({
    "task-2": { id: "task-2", user_input: "second", state: "running", created_at: "2026-01-19T10:30:00.5Z", updated_at: "0001-01-01T00:00:00Z" },
    "task-1": { id: "task-1", user_input: "first", state: "completed", result: "r", created_at: "2026-01-19T10:29:00.123456789+02:00" },
    "task-3": { user_input: "third", state: "failed", error: "e", created_at: "2026-01-20T00:00:00Z" },
  });
  assert.deepEqual(brief(map), [[1, "task-1", "first", "completed", "r"], [2, "task-2", "second", "pending", null], [3, "task-3", "third", "failed", null]]);
  assert.deepEqual([map.tasks[0]!.created_at, map.tasks[1]!.updated_at], ["2026-01-19T08:29:00.123Z", AT]);
  assert.deepEqual(brief(made({ tasks: { 7: { description: "x" } } })), [[7, null, "x", "pending", null]], "a map under tasks, and a number as text");
});

test("ids that are taken, zero or negative are given anew and told; dependencies follow", () => {
  const { tasks, notes } = made({ tasks: [{ id: 2, description: "a" }, { id: 2, description: "b" }, { id: 0, description: "c", depends_on: [9] }, { id: "9", description: "d", status: "completed" }, { id: -4, description: "e", depends_on: [0] }] });
  assert.deepEqual(tasks.map((task) => [task.id, task.description]), [[2, "a"], [9, "d"], [10, "b"], [11, "c"], [12, "e"]]);
  assert.match(notes, /2 → 10, 0 → 11, -4 → 12/);
  assert.deepEqual(tasks.map((task) => [task.depends_on, task.ready, task.has_dependents]), [[[], true, false], [[], false, true], [[], true, false], [[9], true, true], [[11], false, false]]);
});

const features = ["login", "search", "export", "search"];

test("a batch by names: completed, failed and the rest, with its tokens and cleared contexts", () => {
  const batch = made({
    batch_id: "batch-20251116-123456", features, current_index: 3, completed: ["search", "login"], failed: ["export"], created_at: "2025-11-16T12:34:56.123456", last_updated: "2025-11-16T13:00:00",
    context_token_estimate: 90_000, auto_clear_events: [{ feature_index: 1, context_tokens_before_clear: 151_000, timestamp: "2025-11-16T12:50:00" }], workflow_mode: "quick",
  });
  assert.deepEqual(brief(batch), [[1, null, "login", "completed", null], [2, null, "search", "completed", null], [3, null, "export", "failed", null], [4, null, "search", "pending", null]]);
  const [record] = batch.batches as [Batch];
  assert.deepEqual([record.id, record.tokens, record.created_at, record.updated_at], ["batch-20251116-123456", 90_000, "2025-11-16T12:34:56.123Z", "2025-11-16T13:00:00.000Z"]);
  assert.deepEqual(record.context_clears, [{ at: "2025-11-16T12:50:00.000Z", tokens_before: 151_000, item: "search" }]);
  assert.deepEqual(batch.items.map((item) => [item.name, item.task_id, item.position]).sort((a, b) => Number(a[2]) - Number(b[2])), [["login", 1, 1], ["search", 2, 2], ["export", 3, 3], ["search", 4, 4]]);
  assert.ok(batch.tasks.every((task) => task.batch_id === record.id));
});

test("a batch by indices: a cursor proves nothing, an error is kept, completed counts before failed", () => {
  const batch = made({
    features, current_index: 4, completed_features: [2], failed_features: [{ feature_index: 0, error_message: "no", timestamp: "2025-11-16T12:00:00" }, { feature_index: 2, error_message: "x" }],
    skipped_features: [{ feature_index: 1, feature_name: "search", reason: "later" }],
  });
  assert.deepEqual(batch.tasks.map((task) => task.status), ["failed", "cancelled", "completed", "pending"]);
  assert.deepEqual([batch.tasks[0]!.error, batch.tasks[0]!.completed_at], [{ message: "no", code: "adopted" }, "2025-11-16T12:00:00.000Z"]);
  assert.match(batch.notes, /1 item is in several of its lists/);
  assert.match(batch.batches[0]!.id, /^batch-20260101-000000$/);
  assert.deepEqual(made({ items: [{ name: "x", path: "p" }, "y"], completed: ["x"], failed: null }).tasks.map((task) => [task.description, task.status, task.input]), [["x", "completed", { path: "p" }], ["y", "pending", null]]);
});

test("empty ones are adopted as empty", () => {
  for (const document of [{}, { tasks: [] }, { tasks: {} }, { features: [], completed: [] }]) assert.deepEqual(made(document).tasks, []);
});

// [what, document, what the message says]
const bad: [string, string, RegExp][] = [
  ["an array", "[1]", /s\.json:1: It is no state that Pawl knows/],
  ["a text", '"x"', /no state that Pawl knows/],
  ["something else", '{"name": "x", "version": 1}', /no state that Pawl knows/],
  ["a task that is none", '{\n"tasks": [\n{"description": "a"},\n7]}', /s\.json:2: An entry is a text or an object/],
  ["no description", '{"tasks": [\n{"description": "a"},\n{"id": 2}]}', /s\.json:3: It does not say what is to be done/],
  ["an unknown status", '{"tasks": [\n\n{"description": "a", "status": "banana"}]}', /s\.json:3: "banana" is not a status/],
  ["a status that is no text", '{"tasks": [{"description": "a", "status": 3}]}', /s\.json:1: 3 is not a status/],
  ["a broken id", '{"tasks": [{"id": 1.5, "description": "a"}]}', /s\.json:1: Its id must be a whole number or a text/],
  ["a key twice", '{"tasks": [{"id": "k", "description": "a"},\n{"id": "k", "description": "b"}]}', /s\.json:2: The key "k" is already used in line 1/],
  ["a dependency outside", '{"tasks": [{"id": 1, "description": "a", "depends_on": [4]}]}', /s\.json:1: It depends on 4, which is no task of this file/],
  ["a circle", '{"tasks": [{"id": 1, "description": "a", "depends_on": [2]},\n{"id": 2, "description": "b", "depends_on": [1]}]}', /in a circle: s\.json:1 → s\.json:2 → s\.json:1/],
  ["a dependency on a number used twice", '{"tasks": [{"id": 1, "description": "a"},{"id": 1, "description": "b"},{"id": 2, "description": "c", "depends_on": [1]}]}', /several entries have this id/],
  ["a map that disagrees", '{"a": {"id": "b", "user_input": "x"}}', /s\.json:1: The task "a" says that its id is "b"/],
  ["an index outside", '{"features": ["a"],\n"completed": [1]}', /s\.json:2: completed names 1, which is not among the features/],
  ["a name outside", '{"features": ["a"],\n"failed": ["z"]}', /failed names "z"/],
  ["a mark that is no list", '{"features": ["a"], "completed": 1}', /completed must be a list/],
  ["an empty feature", '{"features": [" "], "completed": []}', /s\.json:1: The task's description/],
  ["negative attempts allowed", '{"tasks": [{"description": "a", "max_attempts": 0}]}', /s\.json:1: The task's max_attempts/],
];

test("what is not understood is refused with its line", () => {
  for (const [what, document, says] of bad) {
    assert.throws(() => made(document), (error) => (isPawlError(error, "usage") || isPawlError(error, "value_refused")) && says.test(error.message) && error.next !== undefined, what);
  }
});

test("whatever a task of a list says, it becomes a sound task with a whole history, or is refused", () => {
  const rarely = <A, B>(often: fc.Arbitrary<A>, odd: fc.Arbitrary<B>) => fc.oneof({ weight: 30, arbitrary: often }, { weight: 1, arbitrary: odd });
  const value = fc.oneof(fc.string(), fc.integer(), fc.constant(null), fc.array(fc.boolean()), fc.dictionary(fc.string({ minLength: 1 }), fc.string()));
  const task = fc.record(
    {
      id: rarely(fc.oneof(fc.integer(), fc.uuid()), fc.oneof(fc.string(), fc.double())), description: fc.string().map((text) => `t${text}`), status: rarely(fc.constantFrom(...STATUSES, "running", "done", "Completed"), fc.string()),
      attempts: fc.oneof(fc.integer(), value), error: value, result: value, completed_at: fc.oneof(fc.string(), fc.constant("2026-01-01T00:00:00")),
      depends_on: rarely(fc.constant([]), fc.constant([1])), done: fc.boolean(), feedback: fc.string(),
    },
    { requiredKeys: ["description"] },
  );
  let adopted = 0;
  fc.assert(
    fc.property(fc.array(task, { maxLength: 4 }), (tasks) => {
      let result: Made;
      try {
        result = made({ tasks });
      } catch (error) {
        assert.ok(isPawlError(error), String(error));
        return;
      }
      adopted += result.tasks.length;
      assert.equal(result.tasks.length, tasks.length);
      for (const one of result.tasks) {
        if (one.depends_on.length === 0) requireSound(one);
        assert.equal(verifyChain(result.all("transition").filter((record) => record["task_id"] === one.id) as unknown as Transition[]), null);
      }
    }),
    { numRuns: 300 },
  );
  assert.ok(adopted > 200, `only ${adopted} tasks were adopted`);
});

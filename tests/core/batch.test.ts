// The rules of a batch: an import adds each line once whatever interrupts it, dependencies inside a list are told from those
// outside, counts add up, and the context count starts anew when it is cleared.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isPawlError } from "../../src/base/errors.ts";
import type { Json } from "../../src/base/json.ts";
import * as rules from "../../src/core/batch.ts";
import type { Item } from "../../src/core/records.ts";
import { itemKey, listEntries, parseTaskList } from "../../src/core/task-list.ts";

const at = Date.UTC(2025, 10, 16, 12, 34, 56, 789);
const batch = { id: "batch-1" };
const entriesOf = (...lines: string[]) => parseTaskList(lines.join("\n"), "text", "tasks.txt").entries;

/** Does what a plan says, or only the first `steps` of it: each addition and each changed item is a change of its own. */
function carryOut(items: readonly Item[], plan: rules.ImportPlan, steps = Infinity): Item[] {
  const result = new Map(items.map((item) => [item.key, item]));
  const changes: Item[] = [...plan.add.map(({ item }, i) => ({ ...item, task_id: items.length + i + 1 })), ...plan.gone, ...plan.back, ...plan.moved];
  for (const item of changes.slice(0, steps)) result.set(item.key, item);
  return [...result.values()];
}

const isEmpty = (plan: rules.ImportPlan) => plan.add.length + plan.gone.length + plan.back.length + plan.moved.length === 0;

test("the id of a batch is its time in UTC, with a number behind it when taken", () => {
  const taken = new Set<string>();
  const next = () => {
    const id = rules.newBatchId(at, (candidate) => taken.has(candidate));
    taken.add(id);
    return id;
  };
  assert.deepEqual([next(), next(), next()], ["batch-20251116-123456", "batch-20251116-123456-2", "batch-20251116-123456-3"]);
});

test("an import adds what is missing, marks what vanished, and brings back what returned", () => {
  const first = rules.planImport(batch, [], entriesOf("a", "b", "a"));
  assert.deepEqual(first.add.map(({ item, entry }) => [item.name, item.position, item.removed, item.batch_id, entry.line]), [["a", 1, false, "batch-1", 1], ["b", 2, false, "batch-1", 2], ["a", 3, false, "batch-1", 3]]);
  assert.equal(new Set(first.add.map(({ item }) => item.key)).size, 3, "equal lines are distinct");
  const items = carryOut([], first);
  assert.ok(isEmpty(rules.planImport(batch, items, entriesOf("a", "b", "a"))));

  const second = rules.planImport(batch, items, entriesOf("c", "a", "a"));
  assert.deepEqual(second.add.map(({ item }) => [item.name, item.position]), [["c", 1]]);
  assert.deepEqual(second.gone.map((item) => [item.name, item.removed, item.task_id]), [["b", true, 2]]);
  assert.deepEqual(second.moved.map((item) => [item.name, item.position]), [["a", 2]]);

  const without = carryOut(items, second);
  const third = rules.planImport(batch, without, entriesOf("a", "b", "a", "c"));
  assert.deepEqual(third.add, []);
  assert.deepEqual(third.back.map((item) => [item.name, item.removed, item.position, item.task_id]), [["b", false, 2, 2]]);
  assert.ok(isEmpty(rules.planImport(batch, carryOut(without, third), entriesOf("a", "b", "a", "c"))));
});

test("checking a box, or writing a result into the list, makes no new item", () => {
  const items = carryOut([], rules.planImport(batch, [], parseTaskList("- [ ] a\n- [ ] b", "markdown", "x").entries));
  assert.ok(isEmpty(rules.planImport(batch, items, parseTaskList("* [x] a\n2. [X]  b", "markdown", "x").entries)));
  const rows = carryOut([], rules.planImport(batch, [], listEntries([{ description: "a", n: 1 }])));
  assert.ok(isEmpty(rules.planImport(batch, rows, listEntries([{ n: 1, status: "completed", description: "a", result: "r" }]))));
  assert.equal(rules.planImport(batch, rows, listEntries([{ description: "a", n: 2 }])).add.length, 1);
});

test("whatever the lists and wherever an import breaks off, the next adds exactly what is missing, each once", () => {
  const list = fc.array(fc.constantFrom("a", "b", "c", "d", "[DONE] a", "# x", ""), { maxLength: 12 });
  fc.assert(fc.property(fc.array(fc.tuple(list, fc.nat({ max: 15 })), { minLength: 1, maxLength: 5 }), (runs) => {
    let items: Item[] = [];
    const everAdded = new Set<string>();
    for (const [lines, steps] of runs) {
      const entries = entriesOf(...lines);
      const broken = carryOut(items, rules.planImport(batch, items, entries), steps);
      const resumed = rules.planImport(batch, broken, entries);
      const before = new Set(broken.map((item) => item.key));
      for (const { item } of resumed.add) assert.ok(!before.has(item.key));
      items = carryOut(broken, resumed);
      for (const entry of entries) everAdded.add(itemKey(entry));
      assert.ok(isEmpty(rules.planImport(batch, items, entries)), "importing again changes nothing");
      const listed = items.filter((item) => !item.removed).sort((a, b) => a.position - b.position);
      assert.deepEqual(listed.map((item) => item.key), entries.map(itemKey), "the items are the list");
      for (const key of before) assert.ok(items.some((item) => item.key === key), "no item is ever dropped");
    }
    assert.ok(items.every((item) => everAdded.has(item.key)));
  }));
});

test("two entries of one key are refused even when a program made them", () => {
  const [entry] = listEntries([{ description: "a", key: "k" }]);
  assert.throws(() => rules.planImport(batch, [], [entry!, entry!]), (error) => isPawlError(error, "usage"));
});

test("the name of an item is its key or its description, cut to what a name may be", () => {
  const plan = rules.planImport(batch, [], listEntries([{ description: "a", key: "k" }, `${"x".repeat(511)}🎉`]));
  assert.deepEqual(plan.add.map(({ item }) => item.name), ["k", "x".repeat(511)]);
});

test("depends_on names entries of the list first, then tasks of the state", () => {
  const entries = listEntries([
    { id: 7, description: "a", depends_on: [9, "late", "elsewhere", 12] },
    { id: 9, description: "b" },
    { key: "late", description: "c", depends_on: ["9"] },
  ]);
  const { links, order } = rules.linkDependencies(entries, "x.json");
  assert.deepEqual(links, [[{ entry: 1 }, { entry: 2 }, { key: "elsewhere" }, { id: 12 }], [], [{ entry: 1 }]]);
  assert.deepEqual(order, [1, 2, 0]);
  assert.deepEqual(rules.linkDependencies(listEntries(["a", "b", "c"]), "x").order, [0, 1, 2]);
});

test("circles and ids that name several entries are refused with their lines", () => {
  const circle = parseTaskList('{"id":1,"description":"a","depends_on":[3]}\n\n{"id":2,"description":"b"}\n{"id":3,"description":"c","depends_on":[2,1]}', "jsonl", "x.jsonl").entries;
  assert.throws(() => rules.linkDependencies(circle, "x.jsonl"), (error) => isPawlError(error, "usage") && error.message.includes("x.jsonl:1 → x.jsonl:4 → x.jsonl:1"));
  assert.throws(() => rules.linkDependencies(listEntries([{ id: 1, description: "a", depends_on: [1] }]), "x"), /circle: x:1 → x:1/);
  const twice = listEntries([{ id: 3, description: "a" }, { id: 3, description: "b" }, { id: 4, description: "c", depends_on: [3] }]);
  assert.throws(() => rules.linkDependencies(twice, "-"), /stdin:3: It depends on 3, and several entries have this id \(lines 1, 2\)/);
});

test("a chain of a hundred thousand is put in order", () => {
  const n = 100_000;
  const entries = listEntries(Array.from({ length: n }, (_, i) => ({ id: i, description: "x", ...(i + 1 < n ? { depends_on: [i + 1] } : {}) })));
  const { order } = rules.linkDependencies(entries, "x");
  assert.deepEqual([order.length, order[0], order.at(-1)], [n, n - 1, 0]);
});

test("a summary counts every status, and 100 % is only all", () => {
  assert.deepEqual(rules.summarize({}), { total: 0, completed: 0, failed: 0, waiting: 0, blocked: 0, cancelled: 0, pending: 0, in_progress: 0, review: 0, progress_percent: 0 });
  const summary = rules.summarize({ completed: 199, failed: 1, pending: 0 });
  assert.deepEqual([summary.total, summary.progress_percent, rules.allCompleted(summary)], [200, 99, false]);
  const mixed = rules.summarize({ pending: 3, in_progress: 1, waiting: 1, review: 1, completed: 2, failed: 1, cancelled: 1 }, 2);
  assert.deepEqual([mixed.total, mixed.blocked, mixed.pending, mixed.progress_percent], [10, 2, 3, 20]);
  assert.ok(rules.allCompleted(rules.summarize({ completed: 3 })));
});

test("ten items with two clears: the count starts anew each time and every clearing is kept", () => {
  let record: { tokens: number; context_clears: Json } = { tokens: 0, context_clears: null };
  for (let item = 1; item <= 10; item++) {
    record = { ...record, tokens: record.tokens + 35_000 };
    if (rules.shouldClearContext(record.tokens)) record = { ...record, ...rules.recordContextClear(record, at, `item ${item}`) };
  }
  const clear = { at: "2025-11-16T12:34:56.789Z", tokens_before: 175_000 };
  assert.deepEqual(record, { tokens: 0, context_clears: [{ ...clear, item: "item 5" }, { ...clear, item: "item 10" }], updated_at: clear.at });
  assert.deepEqual(rules.recordContextClear({ tokens: 5, context_clears: [] }, at).context_clears, [{ at: clear.at, tokens_before: 5 }]);
});

test("the context is cleared at its threshold, which must be a sensible number", () => {
  assert.deepEqual([149_999, 150_000, 150_001].map((n) => rules.shouldClearContext(n)), [false, true, true]);
  assert.deepEqual([9, 10].map((n) => rules.shouldClearContext(n, 10)), [false, true]);
  for (const threshold of [0, -1, 1.5, NaN]) assert.throws(() => rules.shouldClearContext(1, threshold), (error) => isPawlError(error, "usage"));
});

// How a task comes into being: what is refused (with the field's name, and nothing written), what is filled in, what makes
// adding it again harmless.
import assert from "node:assert/strict";
import { test } from "node:test";
import { isPawlError } from "../../src/base/errors.ts";
import { LIMITS } from "../../src/base/limits.ts";
import type { NewTask } from "../../src/core/new-task.ts";
import { simulate } from "../simulation.ts";
import { MEMORY, STORES } from "../stores.ts";
import { requireSound } from "./samples.ts";

const BAD: readonly (readonly [what: string, fields: { readonly [field: string]: unknown }, field: string])[] = [
  ["no description", { description: undefined }, "description"],
  ["an empty description", { description: "" }, "description"],
  ["a blank description", { description: " \n\t" }, "description"],
  ["a number as description", { description: 5 }, "description"],
  ["null as description", { description: null }, "description"],
  ["a description that is too long", { description: "x".repeat(LIMITS.textBytes + 1) }, "description"],
  ["NUL in the description", { description: "a\0b" }, "description"],
  ["half a surrogate pair", { description: "a\ud800" }, "description"],
  ["an empty key", { key: "" }, "key"],
  ["a blank key", { key: "  " }, "key"],
  ["a key that is a number", { key: 5 }, "key"],
  ["a key that is too long", { key: "k".repeat(LIMITS.nameChars + 1) }, "key"],
  ["an empty queue", { queue: "" }, "queue"],
  ["an empty verifier", { verifier: "" }, "verifier"],
  ["an empty tag", { tags: ["a", ""] }, "tags"],
  ["tags that are a text", { tags: "abc" }, "tags"],
  ["a tag that is no text", { tags: [1] }, "tags"],
  ["priority 1.5", { priority: 1.5 }, "priority"],
  ["priority NaN", { priority: NaN }, "priority"],
  ["priority as text", { priority: "1" }, "priority"],
  ["priority beyond all bounds", { priority: 1e12 }, "priority"],
  ["no attempts", { max_attempts: 0 }, "max_attempts"],
  ["negative attempts", { max_attempts: -1 }, "max_attempts"],
  ["half an attempt", { max_attempts: 0.5 }, "max_attempts"],
  ["endless attempts", { max_attempts: Infinity }, "max_attempts"],
  ["a time-out of nothing", { timeout_ms: 0 }, "timeout_ms"],
  ["a time-out longer than timers run", { timeout_ms: 2 ** 31 }, "timeout_ms"],
  ["a dependency that is no number", { depends_on: ["1"] }, "depends_on"],
  ["dependency 0", { depends_on: [0] }, "depends_on"],
  ["a dependency outside a list", { depends_on: 1 }, "depends_on"],
  ["a start that is no time", { run_at: "tomorrow" }, "run_at"],
  ["a start without milliseconds", { run_at: "2026-01-31T09:00:00Z" }, "run_at"],
  ["a start in another zone", { run_at: "2026-01-31T09:00:00.000+01:00" }, "run_at"],
  ["a day that does not exist", { run_at: "2026-02-30T09:00:00.000Z" }, "run_at"],
  ["a deadline that is a number", { deadline_at: 1_700_000_000_000 }, "deadline_at"],
  ["an unknown status", { status: "done" }, "status"],
  ["a status of the prototype", { status: "constructor" }, "status"],
  ["status in_progress", { status: "in_progress" }, "status"],
  ["status waiting", { status: "waiting" }, "status"],
  ["status review", { status: "review" }, "status"],
];

for (const [what, fields, field] of BAD) {
  test(`${what} is refused, and nothing of the list is written`, async (t) => {
    const state = await MEMORY.open(t);
    const list = [{ description: "fine" }, { description: "x", ...fields } as unknown as NewTask];
    await assert.rejects(state.tasks.addAll(list), (error) => isPawlError(error) && ["usage", "value_refused"].includes(error.code) && error.message.includes(field));
    assert.deepEqual([await state.tasks.list(), await state.committer.store.list("transition")], [[], []]);
  });
}

for (const [what, input] of [["NaN", { a: NaN }], ["a function", () => 1], ["a circle", (() => { const o: { o?: unknown } = {}; o.o = o; return o; })()], ["NUL", ["\0"]], ["a BigInt", 1n]] as const) {
  test(`an input or result that is ${what} is refused with its path`, async (t) => {
    const state = await MEMORY.open(t);
    await assert.rejects(state.tasks.add({ description: "x", input }), { code: "value_refused", message: /^input/ });
    await assert.rejects(state.tasks.add({ description: "x", status: "completed", result: input }), { code: "value_refused", message: /^result/ });
    assert.deepEqual(await state.tasks.list(), []);
  });
}

for (const store of STORES) {
  test(`${store.name}: the defaults, and a task as it was given`, async (t) => {
    const sim = await simulate(t, store);
    const at = new Date(sim.clock.now()).toISOString();
    const plain = await sim.state.tasks.add({ description: "Write a haiku about loops" });
    assert.deepEqual(plain, await sim.state.tasks.get(1));
    requireSound(plain);
    assert.deepEqual(plain, {
      id: 1, key: null, queue: "default", description: "Write a haiku about loops", input: null, status: "pending", result: null, error: null, feedback: null, attempts: 0,
      max_attempts: 3, takeovers: 0, reviews: 0, round: 1, priority: 5, depends_on: [], parent_id: null, batch_id: null, tags: [], verifier: null, run_at: null, deadline_at: null,
      timeout_ms: null, waiting_for: null, ready: true, concurrency_key: null, concurrency_limit: null, slot: null, line: null, has_dependents: false, has_children: null, children_due: null, continues: false, fence: 0, worker: null, lease_expires_at: null, created_at: at, started_at: null,
      completed_at: null, updated_at: at, revision: 1,
    });
    const given = {
      description: "ünïcödé ✓ 🎈", input: { a: [1, { b: null }], "": "empty key" }, key: "k", queue: "q", priority: -2, tags: ["x", "y"], depends_on: [1], verifier: "v", max_attempts: 1, timeout_ms: 1,
      run_at: new Date(sim.clock.now() + 1).toISOString(), deadline_at: new Date(sim.clock.now() + 2).toISOString(),
    };
    const full = await sim.state.tasks.add({ ...given, tags: ["x", "y", "x"], depends_on: [1, 1] });
    for (const [field, value] of Object.entries(given)) assert.deepEqual(full[field as keyof typeof full], value, field);
    assert.deepEqual(full, await sim.state.tasks.get("k"));
    assert.deepEqual((await sim.state.tasks.list({ tag: "y" })).map(({ id }) => id), [2]);
  });

  test(`${store.name}: a key makes adding idempotent, also a hundred times at once; its task is told apart from another's`, async (t) => {
    const state = await store.open(t);
    const added = await Promise.all(Array.from({ length: 100 }, () => state.tasks.add({ description: "deploy v3", key: "deploy-v3" })));
    assert.deepEqual([...new Set(added.map(({ id }) => id))], [1]);
    const twice = await state.tasks.addAll([{ description: "a", key: "k" }, { description: "b" }, { description: "a", key: "k" }]);
    assert.equal(twice[0]!.id, twice[2]!.id);
    await state.tasks.complete(1, "done");
    assert.equal((await state.tasks.add({ description: "deploy v3", key: "deploy-v3" })).status, "completed", "what is done is not begun again");
    await assert.rejects(state.tasks.add({ description: "something else", key: "deploy-v3" }), { code: "conflict", message: /belongs to task 1 \("deploy v3"\)/ });
    assert.equal((await state.tasks.list()).length, 3);
  });

  test(`${store.name}: ids follow the order of the list and are never used twice`, async (t) => {
    const state = await store.open(t);
    const first = await state.tasks.addAll(Array.from({ length: 30 }, (_, i) => ({ description: `t${i}` })));
    assert.deepEqual(first.map(({ id, description }) => `${id}:${description}`), Array.from({ length: 30 }, (_, i) => `${i + 1}:t${i}`));
    await state.tasks.remove(30);
    await state.tasks.remove(7);
    assert.deepEqual((await state.tasks.addAll([{ description: "a" }, { description: "b" }])).map(({ id }) => id), [31, 32]);
  });
}

test("tasks may come with a past: completed, failed, cancelled", async (t) => {
  const state = await MEMORY.open(t);
  const [done, failed, cancelled] = await state.tasks.addAll([{ description: "a", status: "completed", result: { n: 1 } }, { description: "b", status: "failed" }, { description: "c", status: "cancelled" }]);
  for (const task of [done!, failed!, cancelled!]) requireSound(task);
  assert.deepEqual([done!.result, failed!.error], [{ n: 1 }, { message: "failed before it was imported", code: "imported" }]);
  assert.equal((await state.tasks.retry(failed!.id)).ready, true);
});

test("a start in the past is no start; a future one delays", async (t) => {
  const sim = await simulate(t);
  const at = (ms: number) => new Date(sim.clock.now() + ms).toISOString();
  const [past, now, future] = await sim.state.tasks.addAll([{ description: "a", run_at: at(-1) }, { description: "b", run_at: at(0) }, { description: "c", run_at: at(1) }]);
  assert.deepEqual([past, now, future].map((task) => [task!.ready, task!.run_at]), [[true, null], [true, null], [false, at(1)]]);
});

test("the list that was handed in may be changed afterwards", async (t) => {
  const state = await MEMORY.open(t);
  const input = { n: [1] };
  const adding = state.tasks.add({ description: "x", input });
  input.n.push(2);
  await adding;
  input.n.push(3);
  assert.deepEqual(((await state.tasks.get(1)).input as { n: number[] }).n.length < 3, true);
});

test("what is no task at all is refused in a sentence, and every refusal says what next", async (t) => {
  const { state } = await simulate(t);
  for (const [given, said] of [[null, "not null"], [undefined, "not undefined"], ["text", "not a string"], [[], "not a list"]] as const) {
    await assert.rejects(state.tasks.add(given as never), (error) => isPawlError(error, "usage") && error.message.includes(said) && error.next.includes("description"));
  }
  for (const fields of [{ description: "" }, { description: "x", priority: 1.5 }, { description: "x", max_attempts: 0 }]) {
    await assert.rejects(state.tasks.add(fields), (error) => isPawlError(error, "usage") && error.next.length > 5);
  }
});

test("unknown fields come back from add and get; known ones that are not a caller's do not", async (t) => {
  const { state } = await simulate(t);
  const added = await state.tasks.add({ description: "x", nope: { a: [1] }, attempts: 7, fence: 9 } as NewTask);
  assert.deepEqual([(added as unknown as { nope: unknown }).nope, added.attempts, added.fence], [{ a: [1] }, 0, 0]);
  assert.deepEqual(await state.tasks.get(added.id), added);
  await assert.rejects(state.tasks.add({ description: "y", nope: NaN } as unknown as NewTask), (error) => isPawlError(error, "value_refused"));
});

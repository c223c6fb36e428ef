// Why a due task does not run yet: how many its queue gives out before it, and what is worked on now.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ALL_STORES } from "../stores.ts";

for (const store of ALL_STORES) {
  test(`${store.name}: why says how many tasks of its queue come before a due one`, async (t) => {
    const state = await store.open(t);
    const [first, second] = await state.tasks.addAll([{ description: "first" }, { description: "second" }]);
    assert.deepEqual([(await state.why(first!.id)).ahead, (await state.why(first!.id)).summary], [0, "It is due: the next worker of its queue takes it."]);
    assert.deepEqual([(await state.why(second!.id)).ahead, (await state.why(second!.id)).summary], [1, "It is due, behind 1 task of its queue."]);

    await state.tasks.addAll([{ description: "elsewhere", queue: "other" }, { description: "urgent", priority: 1 }, { description: "later", run_at: "2999-01-01T00:00:00.000Z" }]);
    assert.equal((await state.why(second!.id)).summary, "It is due, behind 2 tasks of its queue.");

    const claimed = await state.tasks.claim();
    assert.equal(claimed!.task.description, "urgent");
    assert.equal((await state.why(first!.id)).summary, `It is due and next in its queue. Worked on now: task ${claimed!.task.id}.`);
    assert.equal((await state.why(claimed!.task.id)).ahead, null);
  });
}

test("further than a hundred is not counted", async (t) => {
  const state = await ALL_STORES[0]!.open(t);
  const tasks = await state.tasks.addAll(Array.from({ length: 130 }, (_, i) => ({ description: `t${i}` })));
  assert.match((await state.why(tasks[99]!.id)).summary, /behind 99 tasks/);
  assert.match((await state.why(tasks.at(-1)!.id)).summary, /behind 100 or more tasks/);
});

test("why of a task whose dependency has ended, and whose process died before it made it due", async (t) => {
  const state = await ALL_STORES[0]!.open(t);
  const { id } = await state.tasks.add({ description: "first" });
  const second = await state.tasks.add({ description: "second", depends_on: [id] });
  await state.committer.commit({ puts: [{ kind: "task", key: id, set: { status: "completed" } }] });
  assert.equal((await state.why(second.id)).summary, "Nothing holds it any more: the next look of a worker makes it due.");
});

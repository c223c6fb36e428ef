// Idle is said of what was looked at: a look that began with no hand free knows nothing of what is due, however free the hands
// are when it is over. On a store that takes its time to answer this is every other run.
import assert from "node:assert/strict";
import { test } from "node:test";
import { sleep, systemClock } from "../../src/base/clock.ts";
import { gate, simulate, turns } from "../simulation.ts";
import { MEMORY } from "../stores.ts";

test("a look at the neighbours during which the last task ends does not say that nothing is due", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.addAll([{ description: "ends during the look" }, { description: "due behind it" }]);
  const first = gate();
  let said = false;
  let early: boolean | null = null;
  const second = async () => {
    await turns(20);
    early = said;
  };
  const worker = sim.state.work({ concurrency: 1, execute: (task) => (task.id === 1 ? first.promise : second()) });
  await sim.untilTrue(() => worker.active.length === 1);
  const { store } = sim.state.committer;
  const sealed = store.sealed.bind(store);
  store.sealed = async () => {
    store.sealed = sealed;
    first.open();
    while (worker.active.length > 0) await turns(1);
    return sealed();
  };
  await sim.finish(worker.idle().then(() => (said = true)));
  await sim.untilTrue(() => early !== null);
  assert.equal(early, false, "idle was said while a task was due");
  assert.deepEqual((await sim.state.tasks.list()).map(({ status }) => status), ["completed", "completed"]);
});

test("a chain of dependents is worked to its end before idle is said, however slow the store is", async (t) => {
  for (const concurrency of [1, 3]) {
    const state = await MEMORY.open(t);
    const { store } = state.committer;
    const [list, commit, sealed] = [store.list.bind(store), store.commit.bind(store), store.sealed.bind(store)];
    const slow = () => sleep(systemClock, 2);
    store.list = async (kind, query) => (await slow(), list(kind, query));
    store.commit = async (changes) => (await slow(), commit(changes));
    store.sealed = async () => (await slow(), sealed());
    const { id } = await state.tasks.add({ description: "first" });
    const second = await state.tasks.add({ description: "second", depends_on: [id] });
    await state.tasks.add({ description: "third", depends_on: [second.id] });
    // As long as it takes until the next sweep is due: then a look goes on while the task ends.
    const worker = state.work({ concurrency, execute: () => sleep(systemClock, 120) });
    await worker.idle();
    assert.deepEqual((await state.tasks.list()).map(({ status }) => status), ["completed", "completed", "completed"], `${concurrency} at once`);
  }
});

test("what comes after a task's end is over before the next task is claimed", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.addAll([{ description: "one" }, { description: "two" }, { description: "three" }]);
  const seen: string[] = [];
  const worker = sim.state.work({
    execute: ({ id }) => void seen.push(`runs ${id}`),
    onEnd: async ({ id }) => {
      if (id === 1) await sim.state.tasks.executeOnce(2, () => void seen.push("2 by the hook"));
      seen.push(`after ${id}`);
      if (id === 1) worker.halt();
    },
  });
  await sim.untilTrue(() => seen.includes("after 1"));
  await sim.finish(worker.stop());
  assert.deepEqual(seen, ["runs 1", "2 by the hook", "after 1"]);
  assert.deepEqual((await sim.state.tasks.list()).map(({ status }) => status), ["completed", "completed", "pending"]);
});

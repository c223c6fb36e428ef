// Idle is said of what was looked at: a look that began with no hand free knows nothing of what is due, however free the hands
// are when it is over. On a store that takes its time to answer this is every other run.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gate, simulate, turns } from "../simulation.ts";

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

// Events and children on the command line: what is kept, who waits, a script that waits without a process, a child by hand.
import assert from "node:assert/strict";
import { test } from "node:test";
import { BIN, eventually, place } from "../pawl.ts";

test("events are emitted, listed, taken and dropped; what is wrong is said", async (t) => {
  const at = place(t);
  await at.pawl(["add", "x"]);
  const first = await at.pawl(["event", "emit", "paid", "--value", '{"eur":5}', "--key", "evt_1"]);
  assert.equal(first.stdout, 'Event 1 paid kept for the next task that waits for it: {"eur":5}\n');
  assert.equal((await at.json<{ id: number }>(["event", "emit", "paid", "--key", "evt_1"])).id, 1);
  await at.pawl(["event", "emit", "deployed"]);
  const list = await at.pawl(["event", "list"]);
  assert.match(list.stdout, /^id +name +at +status +value\n2 +deployed .* kept\n1 +paid .* kept +\{"eur":5\}\n$/);
  assert.equal((await at.json<{ value: unknown }>(["event", "take", "paid"])).value !== null, true);
  const none = await at.pawl(["event", "take", "paid", "--timeout", "10ms"]);
  assert.deepEqual([none.code, none.stdout], [10, "No event came.\n"]);
  const taking = at.start(["event", "take", "paid", "--timeout", "30s"]);
  await at.pawl(["event", "emit", "paid", "--value", "6"]);
  assert.match((await taking.ended).stdout, /^Event 3 paid received by tester: 6\n$/);
  assert.match((await at.pawl(["event", "drop", "2"])).stdout, /dropped by tester/);
  const twice = await at.pawl(["event", "drop", "2"]);
  assert.deepEqual([twice.code, /was dropped already/.test(twice.stderr)], [4, true]);
  assert.equal((await at.pawl(["event", "list"])).stdout, "No events.\n");
  assert.equal((await at.pawl(["event", "take", "paid", "--timeout", "1h"])).code, 2, "longer than one call may wait");
});

test("a script waits for an event: it ends, its task waits, and the next run of it gets the value", async (t) => {
  const at = place(t);
  const script = at.write("order.sh", `#!/bin/sh
pawl() { "${process.execPath}" "${BIN}" "$@"; }
pawl step order -- sh -c 'echo ordered >> log' || exit $?
paid=$(pawl wait payment --event payment-42) || exit $?
again=$(pawl wait payment --event payment-42 --timeout 0s)
echo "paid $paid, then $?"
`, 0o755);
  await at.pawl(["add", "order it"]);
  const running = at.start(["run", "--exec", script]);
  await eventually(async () => (await at.json<{ status: string }[]>(["list"]))[0]!.status === "waiting", "the task waits", 30_000);
  await running.ended;
  const why = await at.pawl(["why", "1"]);
  assert.match(why.stdout, /It waits for the event "payment-42"\.[^]*Next: pawl event emit payment-42 --value …\n$/);
  assert.match((await at.pawl(["event", "emit", "payment-42", "--value", "5"])).stdout, /received by task 1/);
  const run = await at.pawl(["run", "--exec", script]);
  assert.equal(run.code, 0, run.stderr);
  const { task } = await at.json<{ task: { result: string; attempts: number } }>(["show", "1"]);
  assert.deepEqual([task.result, task.attempts], ["paid 5, then 10", 1]);
  const none = { PAWL_TASK_ID: undefined, PAWL_TOKEN: undefined };
  assert.equal((await at.pawl(["wait", "x"], { env: none })).code, 2);
});

test("a child by hand is shown with its parent and cancelled with it", async (t) => {
  const at = place(t);
  await at.pawl(["add", "move house", "--key", "move"]);
  for (const what of ["pack", "paint"]) await at.pawl(["add", what, "--parent", "move"]);
  assert.match((await at.pawl(["show", "1"])).stdout, /\n {2}children: 2 pending\n {4}task 2 pending: pack\n {4}task 3 pending: paint\n/);
  await at.pawl(["complete", "2"]);
  await at.pawl(["cancel", "1"]);
  assert.deepEqual((await at.json<{ status: string }[]>(["list"])).map(({ status }) => status), ["cancelled", "completed", "cancelled"]);
  const late = await at.pawl(["add", "paint", "--parent", "move"]);
  assert.deepEqual([late.code, /Task 1 is cancelled and gets no more children/.test(late.stderr)], [4, true]);
  assert.equal((await at.pawl(["add", "x", "--parent", "99"])).code, 3);
});

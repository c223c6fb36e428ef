// Claims by callers that do not stay: given back under their name, renewed by what the caller does, waited for; and questions
// to a person that set the task aside. On every store.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LIMITS } from "../../src/base/limits.ts";
import { manualClock } from "../../src/base/clock.ts";
import { callerName, callerOf } from "../../src/core/token.ts";
import type { PawlError } from "../../src/base/errors.ts";
import { ALL_STORES, MEMORY } from "../stores.ts";
import { eventually } from "../pawl.ts";

const code = (wanted: string) => (error: PawlError) => error.code === wanted;

for (const store of ALL_STORES) {
  test(`${store.name}: a caller gets its own claim back, with its token; another caller gets another task`, async (t) => {
    const state = await store.open(t);
    await state.tasks.addAll([{ description: "a" }, { description: "b" }, { description: "c", queue: "mail" }]);
    const first = (await state.tasks.claim({ caller: "claude code/1" }))!;
    const other = (await state.tasks.claim({ caller: "claude code/2" }))!;
    assert.deepEqual([first.task.id, first.again, other.task.id], [1, undefined, 2]);
    const again = (await state.tasks.claim({ caller: "claude code/1" }))!;
    assert.deepEqual([again.task.id, again.token, again.again, again.task.attempts], [1, first.token, true, 1]);
    assert.equal((await state.tasks.claim({ caller: "claude code/1", queue: "mail" }))!.task.id, 3, "a claim in another queue is another claim");
    assert.equal(await state.tasks.claim(), null, "without a name nothing is given back");
    assert.deepEqual((await state.tasks.claims("claude code/1")).map(({ task, token, caller }) => [task.id, token === first.token, caller]), [[1, true, "claude_code_1"], [3, false, "claude_code_1"]]);
    await state.tasks.complete(1, "done", { token: first.token });
    await state.tasks.release(2, { token: other.token });
    assert.equal((await state.tasks.claim({ caller: "claude code/1" }))!.task.id, 3, "asked without a queue, whatever it holds is given back");
    assert.equal((await state.tasks.claim({ caller: "claude code/1", queue: "default" }))!.task.id, 2, "what is finished is not given back; what was given back is anybody's");
  });

  test(`${store.name}: a claim that waits gets what becomes due meanwhile, and nothing when nothing does`, async (t) => {
    const state = await store.open(t);
    const waiting = state.tasks.claim({ waitMs: 30_000 });
    await state.tasks.add({ description: "late" });
    assert.equal((await waiting)!.task.id, 1);
    assert.equal(await state.tasks.claim({ waitMs: 30 }), null);
    const stop = new AbortController();
    const stopped = state.tasks.claim({ waitMs: 50_000, signal: stop.signal });
    stop.abort();
    assert.equal(await stopped, null);
    await assert.rejects(state.tasks.claim({ waitMs: LIMITS.claimWaitMs + 1 }), code("usage"));
  });

  test(`${store.name}: a question sets its task aside; the answer makes it due, and whoever claims it is told`, async (t) => {
    const state = await store.open(t);
    await state.tasks.addAll([{ description: "a" }, { description: "b" }]);
    const claim = (await state.tasks.claim({ caller: "me" }))!;
    const asked = await state.as("program").decisions.ask({ question: "Red or blue?", task: 1, details: { shades: 2 } }, claim.token);
    assert.deepEqual([asked.kind, asked.status, asked.task_id, asked.asked_by, asked.details], ["question", "open", 1, "program", { shades: 2 }]);
    const parked = await state.tasks.get(1);
    assert.deepEqual([parked.status, parked.worker, (parked.waiting_for as { decision_id: string }[])[0]!.decision_id], ["waiting", null, asked.id]);
    await assert.rejects(state.tasks.complete(1, "x", { token: claim.token }), code("lease_lost"));
    assert.equal((await state.tasks.claim({ caller: "me" }))!.task.id, 2, "while it waits the caller takes the next");
    await assert.rejects(state.as("program").decisions.settle(asked.id, { answer: "red" }), code("illegal_transition"));
    await state.as("ada").decisions.settle(asked.id, { answer: "blue", reason: "calmer" });
    const told = (await state.tasks.claim())!;
    assert.deepEqual([told.task.id, told.task.attempts, told.answers], [1, 1, [{ id: asked.id, question: "Red or blue?", answer: "blue", value: null, reason: "calmer" }]]);
    const loose = await state.decisions.ask({ question: "Anything else?" });
    assert.deepEqual([loose.task_id, loose.status], [null, "open"]);
    await assert.rejects(state.decisions.ask({ question: " " }), code("usage"));
    await assert.rejects(state.decisions.ask({ question: "?", task: 1 }, claim.token), code("lease_lost"));
  });
}

test("whatever its caller does holds a claim; left alone it ends after its hour, and its caller begins anew", async (t) => {
  const clock = manualClock();
  const state = await MEMORY.open(t, { clock });
  await state.tasks.add({ description: "a" });
  const claim = (await state.tasks.claim({ caller: "me" }))!;
  clock.jump(LIMITS.heldLeaseMs - 1000);
  assert.equal(Date.parse((await state.tasks.renew(claim.token)).lease_expires_at!) - clock.now(), LIMITS.heldLeaseMs);
  clock.jump(LIMITS.heldLeaseMs - 1000);
  assert.equal((await state.tasks.claim({ caller: "me" }))!.again, true, "to ask for it again renews it as well");
  clock.jump(LIMITS.heldLeaseMs + 1000);
  assert.deepEqual(await state.tasks.claims(), []);
  const anew = (await state.tasks.claim({ caller: "me" }))!;
  assert.deepEqual([anew.again, anew.task.id, anew.task.fence > claim.task.fence], [undefined, 1, true]);
  await assert.rejects(state.tasks.renew(claim.token), code("lease_lost"));
});

test("an answer that comes while the task is being set aside is not lost", async (t) => {
  for (let i = 0; i < 20; i++) {
    const state = await MEMORY.open(t);
    await state.tasks.add({ description: "a" });
    const claim = (await state.tasks.claim())!;
    const asking = state.as("program").decisions.ask({ question: "?", task: 1 }, claim.token);
    await eventually(async () => (await state.decisions.inbox()).length > 0 || (await state.tasks.get(1)).status === "waiting", "it is asked");
    await state.decisions.settle("d1", { answer: "yes" });
    const decision = await asking;
    const task = await state.tasks.get(1);
    assert.ok(task.status === "pending" || task.status === "in_progress", `task ${task.status}, decision ${decision.status}: nobody would wake it`);
  }
});

test("the name of a caller in a token", () => {
  assert.equal(callerName(" Ada's box "), "Ada_s_box");
  assert.equal(callerOf(`c-${"0".repeat(32)}-a-b`), "a-b");
  for (const none of [`c-${"0".repeat(32)}`, "w-1", "c-1-x"]) assert.equal(callerOf(none), null);
  for (const bad of ["", " ", "x".repeat(65)]) assert.throws(() => callerName(bad), code("usage"));
});

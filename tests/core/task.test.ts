// The life of a task, rule by rule: from which statuses an event is legal, what it leaves, and what holds after any
// sequence of them. The same verbs through a state: an illegal one writes nothing, a late writer overwrites nothing.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isPawlError } from "../../src/base/errors.ts";
import { LIMITS } from "../../src/base/limits.ts";
import { settle } from "../../src/core/committer.ts";
import { STATUSES, TERMINAL, type Status, type Task } from "../../src/core/records.ts";
import {
  cancel, claim, claimReview, complete, expire, fail, failAttempt, heartbeat, park, pastDeadline, reject, release, reopen, reset, retryTask, reviewError, submit, takeOver, wake,
  type By, type Outcome,
} from "../../src/core/task.ts";
import { parseToken } from "../../src/core/token.ts";
import type { State } from "../../src/state.ts";
import { STORES } from "../stores.ts";
import { simulate } from "../simulation.ts";
import { NOW, PERSON, requireSound, sample } from "./samples.ts";

const ERROR = { message: "no" };
const STEADY = { jitter: false } as const;
const owner = (task: Task, now = NOW): By => ({ actor: task.worker ?? "w", now, fence: task.fence });

/** Every event, with the statuses it is legal from. */
const RULES: { readonly [event: string]: { readonly from: readonly Status[]; readonly apply: (task: Task, now?: number) => Outcome } } = {
  claim: { from: ["pending"], apply: (task, now = NOW) => claim(task, "w", 30_000, { actor: "w", now }) },
  claimReview: { from: ["review"], apply: (task, now = NOW) => claimReview(task, "w", 30_000, { actor: "w", now }) },
  submit: { from: ["in_progress"], apply: (task, now) => submit(task, "made", owner(task, now)) },
  complete: { from: ["pending", "in_progress", "waiting", "review", "failed"], apply: (task, now = NOW) => complete(task, "made", { ...PERSON, now }) },
  reject: { from: ["review"], apply: (task, now) => reject(task, "shorter", owner(task, now)) },
  reviewError: { from: ["review"], apply: (task, now) => reviewError(task, ERROR, STEADY, 0.5, owner(task, now)) },
  failAttempt: { from: ["in_progress"], apply: (task, now) => failAttempt(task, ERROR, STEADY, 0.5, owner(task, now)) },
  fail: { from: ["pending", "in_progress", "waiting", "review"], apply: (task, now = NOW) => fail(task, ERROR, { ...PERSON, now }) },
  expire: { from: ["pending", "in_progress", "waiting", "review"], apply: (task, now = NOW) => expire(task, { ...PERSON, now }, []) },
  release: { from: ["in_progress", "review"], apply: (task, now) => release(task, owner(task, now), "drained") },
  park: { from: ["in_progress"], apply: (task, now) => park(task, [], owner(task, now)) },
  wake: { from: ["waiting"], apply: (task, now = NOW) => wake(task, { ...PERSON, now }, "answered") },
  takeOver: { from: ["in_progress", "review"], apply: (task, now = NOW) => takeOver(task, false, { ...PERSON, now }, "it died") },
  cancel: { from: ["pending", "in_progress", "waiting", "review"], apply: (task, now = NOW) => cancel(task, { ...PERSON, now }, null, []) },
  retry: { from: ["failed"], apply: (task, now = NOW) => retryTask(task, { ...PERSON, now }, { ready: true, closing: [] }) },
  reopen: { from: ["completed", "cancelled"], apply: (task, now = NOW) => reopen(task, { ...PERSON, now }, true, "better") },
  reset: { from: STATUSES, apply: (task, now = NOW) => reset(task, { ...PERSON, now }, true, [], null) },
};

for (const [event, { from, apply }] of Object.entries(RULES)) {
  test(`${event} is legal from ${from.join(", ")} and from nowhere else`, () => {
    for (const status of STATUSES) {
      const task = sample(status);
      requireSound(task);
      if (!from.includes(status)) {
        assert.throws(() => apply(task), (error) => isPawlError(error, "illegal_transition") && error.message.includes(`Task 1 is ${status}`) && error.next !== undefined, `${event} from ${status}`);
        continue;
      }
      const { task: after, change } = apply(task);
      requireSound(after);
      assert.equal(after.revision, task.revision + 1);
      const { is } = change.guards![0] as unknown as { is: { revision: number; fence?: number } };
      assert.deepEqual([is.revision, is.fence ?? task.fence], [1, task.fence]);
      if (["submit", "reject", "reviewError", "failAttempt", "release", "park"].includes(event)) assert.equal(is.fence, task.fence, "an owner writes under its fence");
      assert.equal(change.puts.filter((put) => put.kind === "transition").length, 1, "one entry of history");
      const set = (change.puts[0] as { set: Partial<Task> }).set;
      assert.deepEqual({ ...task, ...set }, after, "what is written is what was decided");
    }
  });
}

test("the status an event leads to", () => {
  const to = (event: string, task: Task) => RULES[event]!.apply(task).task.status;
  assert.equal(to("claim", sample("pending")), "in_progress");
  assert.equal(to("submit", sample("in_progress")), "review");
  assert.equal(submit(sample("in_progress", { verifier: null }), 1, owner(sample("in_progress"))).task.status, "completed");
  assert.equal(to("reject", sample("review")), "pending");
  assert.equal(to("reject", sample("review", { attempts: 3 })), "failed");
  assert.equal(to("failAttempt", sample("in_progress")), "pending");
  assert.equal(to("failAttempt", sample("in_progress", { attempts: 3 })), "failed");
  assert.equal(failAttempt(sample("in_progress"), { ...ERROR, permanent: true }, STEADY, 0.5, PERSON).task.status, "failed");
  assert.equal(to("release", sample("in_progress")), "pending");
  assert.equal(to("release", sample("review")), "review");
  assert.equal(to("park", sample("in_progress")), "waiting");
  assert.equal(to("wake", sample("waiting")), "pending");
  assert.equal(to("takeOver", sample("in_progress")), "pending");
  assert.equal(to("takeOver", sample("in_progress", { attempts: 3 })), "failed");
  assert.equal(to("takeOver", sample("review")), "review");
});

test("attempts are counted at the claim; waits, drains and takeovers after a recorded step go on with the one that was begun", () => {
  const claimed = claim(sample("pending"), "w", 1, PERSON).task;
  assert.equal(claimed.attempts, 1);
  const again = (task: Task) => claim(task, "w2", 1, PERSON).task.attempts;
  const parked = park(claimed, [], owner(claimed)).task;
  assert.equal(again(wake(parked, PERSON, "answered").task), 1);
  assert.equal(again(release(claimed, owner(claimed), "drained").task), 1);
  assert.equal(again(takeOver(claimed, true, PERSON, "died").task), 1);
  assert.equal(again(takeOver(claimed, false, PERSON, "died").task), 2);
  const later = failAttempt(claimed, ERROR, STEADY, 0.5, owner(claimed)).task;
  assert.deepEqual([later.ready, later.run_at], [false, new Date(NOW + 1_000).toISOString()]);
  assert.equal(again(later), 2);
  const twice = claim(release(claim(wake(parked, PERSON, "x").task, "w", 1, PERSON).task, PERSON, "drained").task, "w", 1, PERSON).task;
  assert.equal(twice.attempts, 1);
  assert.equal(again(failAttempt(twice, ERROR, { baseMs: 0 }, 0.5, owner(twice)).task), 2, "an error ends the attempt that a wait had interrupted");
});

test("the last attempt may be taken over after a recorded step, and never without", () => {
  const last = sample("in_progress", { attempts: 3 });
  assert.equal(takeOver(last, true, PERSON, "died").task.status, "pending");
  assert.deepEqual(takeOver(last, false, PERSON, "died").task.error!.code, "owner_lost");
});

test("max_takeovers ends a task that kills its workers, steps or not", () => {
  for (const status of ["in_progress", "review"] as const) {
    const { task } = takeOver(sample(status, { takeovers: LIMITS.takeovers - 1 }), true, PERSON, "died");
    assert.deepEqual([task.status, task.error!.code, task.takeovers], ["failed", "owner_lost", LIMITS.takeovers]);
    assert.notEqual(takeOver(sample(status, { takeovers: LIMITS.takeovers - 2 }), true, PERSON, "died").task.status, "failed");
  }
});

test("a rejection: feedback, next round, no result; at the last attempt failed with the reason", () => {
  const { task } = reject(sample("review"), "too long", owner(sample("review")));
  assert.deepEqual([task.status, task.feedback, task.round, task.result, task.ready, task.continues, task.reviews], ["pending", "too long", 2, null, true, false, 0]);
  const last = reject(sample("review", { attempts: 3 }), "too long", PERSON).task;
  assert.deepEqual([last.status, last.feedback, last.error], ["failed", "too long", { code: "rejected", message: "rejected after 3 of 3 attempts: too long" }]);
  assert.equal(reject(sample("review"), "", PERSON).task.feedback, "rejected without feedback");
});

test("review errors have a limit of their own and then a decision; they touch neither attempts nor rounds", () => {
  let task = sample("review");
  for (let i = 1; i < LIMITS.reviews; i++) {
    task = reviewError(task, ERROR, STEADY, 0.5, owner(task)).task;
    assert.deepEqual([task.status, task.reviews, task.attempts, task.round, task.ready, task.run_at], ["review", i, 1, 1, false, new Date(NOW + 1_000 * 2 ** (i - 1)).toISOString()]);
    task = claimReview({ ...task, run_at: null, ready: true }, "w", 1, PERSON).task;
  }
  const { task: stuck, change } = reviewError(task, ERROR, STEADY, 0.5, owner(task));
  assert.deepEqual([stuck.status, stuck.ready, stuck.run_at, stuck.waiting_for], ["review", false, null, [{ kind: "decision" }]]);
  assert.equal(change.puts.filter((put) => put.kind === "decision").length, 1);
});

test("deadlines: passed exactly at their instant, never for what has ended", () => {
  const deadline_at = new Date(NOW).toISOString();
  for (const status of STATUSES) {
    assert.equal(pastDeadline(sample(status, { deadline_at }), NOW - 1), false);
    assert.equal(pastDeadline(sample(status, { deadline_at }), NOW), !TERMINAL.has(status));
    assert.equal(pastDeadline(sample(status), NOW), false);
  }
});

test("retry past the deadline needs a new one, which may not be past either; the count begins anew", () => {
  const late = sample("failed", { deadline_at: new Date(NOW).toISOString(), attempts: 3, takeovers: 2, reviews: 1 });
  const options = { ready: true, closing: [] };
  assert.throws(() => retryTask(late, PERSON, options), { code: "deadline" });
  assert.throws(() => retryTask(late, PERSON, { ...options, deadline_at: new Date(NOW - 1).toISOString() }), { code: "deadline" });
  const next = new Date(NOW + 1).toISOString();
  const { task } = retryTask(late, PERSON, { ...options, deadline_at: next });
  assert.deepEqual([task.status, task.deadline_at, task.attempts, task.takeovers, task.reviews, task.error, task.round, task.completed_at], ["pending", next, 0, 0, 0, null, 1, null]);
  assert.equal(retryTask(late, PERSON, { ...options, deadline_at: null, fresh: true }).task.round, 2);
});

test("reset clears what a run left and fences its owner off; reopen hands the reason on", () => {
  const run = sample("in_progress", { result: 1, error: ERROR, feedback: "f", takeovers: 1 });
  const { task } = reset(run, PERSON, true, [], null);
  assert.deepEqual([task.status, task.result, task.error, task.feedback, task.attempts, task.takeovers, task.started_at, task.round, task.fence], ["pending", null, null, null, 0, 0, null, 2, 2]);
  const reopened = reopen(sample("completed"), PERSON, true, "wrong colour").task;
  assert.deepEqual([reopened.status, reopened.feedback, reopened.result, reopened.round, reopened.attempts], ["pending", "wrong colour", null, 2, 0]);
  assert.throws(() => reopen(sample("completed"), PERSON, true, "  "), { code: "usage" });
});

test("whoever but the owner takes a task away raises its fence", () => {
  const held = sample("in_progress");
  for (const event of ["complete", "fail", "expire", "cancel", "takeOver", "reset"]) assert.equal(RULES[event]!.apply(held).task.fence, held.fence + 1, event);
  assert.equal(release(held, PERSON, "by force").task.fence, held.fence + 1);
  for (const event of ["release", "park", "failAttempt"]) assert.equal(RULES[event]!.apply(held).task.fence, held.fence, event);
});

test("a heartbeat is for the task as its worker owns it, not for the fence alone", () => {
  assert.deepEqual(heartbeat({ id: 1, fence: 3, worker: "w" }, 1_000, NOW).guards, [{ kind: "task", key: 1, is: { fence: 3, worker: "w" } }]);
});

test("after any sequence of rules the task is sound, its revision and fence only rise, and what has ended ends once", () => {
  const events = fc.array(fc.tuple(fc.constantFrom(...Object.keys(RULES)), fc.integer({ min: 0, max: 3 })), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(events, (sequence) => {
      let task = sample("pending", { verifier: "v" });
      let now = NOW;
      for (const [event, seconds] of sequence) {
        now += seconds * 1_000;
        // The sweep starts delayed tasks; only what is ready is claimed.
        if (task.run_at !== null && Date.parse(task.run_at) <= now) task = { ...task, run_at: null, ready: true };
        if ((event === "claim" || event === "claimReview") && !task.ready) continue;
        if (event !== "claimReview" && ["reject", "reviewError", "release", "takeOver", "park", "failAttempt", "submit"].includes(event) && task.worker === null) continue;
        let after: Task;
        try {
          after = RULES[event]!.apply(task, now).task;
        } catch (error) {
          assert.ok(isPawlError(error, "illegal_transition"), String(error));
          assert.ok(!RULES[event]!.from.includes(task.status));
          continue;
        }
        requireSound(after);
        assert.equal(after.revision, task.revision + 1);
        assert.ok(after.fence >= task.fence && after.round >= task.round);
        if (event === "claim" || event === "claimReview") assert.equal(after.fence, task.fence + 1, "every ownership has its own fence");
        if (TERMINAL.has(task.status)) assert.ok(["retry", "reopen", "reset", "complete"].includes(event));
        task = after;
      }
    }),
    { numRuns: 2_000 },
  );
});

/** Brings a task of the state into a status. */
async function bring(state: State, status: Status): Promise<number> {
  const { id } = await state.tasks.add({ description: status, queue: status, verifier: status === "review" ? "v" : null });
  if (["in_progress", "waiting", "review"].includes(status)) {
    const { task, token } = (await state.tasks.claim({ queue: status }))!;
    if (status === "review") await state.tasks.complete(id, 1, { token: parseToken(token) });
    if (status === "waiting") await settle(state.committer, task, (current, now) => park(current, [], { actor: "w", now, fence: current.fence }));
  }
  if (status === "completed") await state.tasks.complete(id, 1);
  if (status === "failed") await state.tasks.fail(id, "no");
  if (status === "cancelled") await state.tasks.cancel(id);
  assert.equal((await state.tasks.get(id)).status, status);
  return id;
}

for (const store of STORES) {
  test(`${store.name}: an illegal verb is refused with a typed error and writes nothing`, async (t) => {
    const { state } = await simulate(t, store);
    const verbs: { readonly [verb: string]: [(id: number) => Promise<unknown>, readonly Status[]] } = {
      complete: [(id) => state.tasks.complete(id, 2), ["completed", "cancelled"]],
      fail: [(id) => state.tasks.fail(id, "no"), ["completed", "failed", "cancelled"]],
      release: [(id) => state.tasks.release(id, { force: true }), ["pending", "waiting", "review", "completed", "failed", "cancelled"]],
      retry: [(id) => state.tasks.retry(id), ["pending", "in_progress", "waiting", "review", "completed", "cancelled"]],
      reopen: [(id) => state.tasks.reopen(id, "why not"), ["pending", "in_progress", "waiting", "review", "failed"]],
      cancel: [(id) => state.tasks.cancel(id), ["completed", "failed", "cancelled"]],
    };
    for (const status of STATUSES) {
      const id = await bring(state, status);
      const [before, history] = [await state.tasks.get(id), await state.history.of(id)];
      for (const [verb, [call, illegal]] of Object.entries(verbs)) {
        if (!illegal.includes(status)) continue;
        await assert.rejects(call(id), { code: "illegal_transition" }, `${verb} from ${status}`);
        assert.deepEqual([await state.tasks.get(id), await state.history.of(id)], [before, history], `${verb} from ${status} wrote something`);
      }
    }
  });
}

test("a late writer with an old fence overwrites nothing, whatever happened since", async (t) => {
  const { state } = await simulate(t);
  const action = fc.constantFrom("claim", "complete", "fail", "release", "force", "cancel", "reset", "reopen", "retry", "own-complete", "own-fail");
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 2, maxLength: 14 }), async (actions) => {
      const queue = `q${(await state.tasks.count()).pending ?? 0}-${actions.length}-${Math.round(state.random.number() * 1e9)}`;
      const { id } = await state.tasks.add({ description: "x", queue, max_attempts: 100 });
      const claims: { task: Task; token: string }[] = [];
      const own = () => ({ token: parseToken(claims.at(-1)!.token) });
      for (const what of actions) {
        const current = await state.tasks.get(id);
        const calls: { readonly [name: string]: () => Promise<unknown> } = {
          claim: async () => { const got = await state.tasks.claim({ queue }); if (got) claims.push(got); },
          complete: () => state.tasks.complete(id, "person"), fail: () => state.tasks.fail(id, "person"), release: () => state.tasks.release(id, own()), force: () => state.tasks.release(id, { force: true }),
          cancel: () => state.tasks.cancel(id), reset: () => state.tasks.reset(id), reopen: () => state.tasks.reopen(id, "more"), retry: () => state.tasks.retry(id),
          "own-complete": () => state.tasks.complete(id, "owner", own()), "own-fail": () => state.tasks.fail(id, "owner", { ...own(), permanent: false }),
        };
        if (claims.length === 0 && /own|release/.test(what)) continue;
        await calls[what]!().catch((error: unknown) => assert.ok(isPawlError(error) && ["illegal_transition", "lease_lost", "conflict"].includes(error.code), String(error)));
        const now = await state.tasks.get(id);
        requireSound(now);
        assert.ok(now.revision >= current.revision && now.fence >= current.fence);
        for (const { task: old, token } of claims) {
          if (now.worker === old.worker && now.fence === old.fence) continue; // still its owner
          const late = [
            settle(state.committer, old, (t, at) => complete(t, "late", { actor: "w", now: at, fence: old.fence }), { fence: old.fence }),
            state.tasks.complete(id, "late", { token: parseToken(token) }), state.tasks.fail(id, "late", { token: parseToken(token) }), state.tasks.release(id, { token: parseToken(token) }),
          ];
          for (const writer of await Promise.allSettled(late)) assert.ok(writer.status === "rejected" && isPawlError(writer.reason) && ["lease_lost", "illegal_transition"].includes(writer.reason.code), JSON.stringify(writer));
        }
      }
      assert.equal(await state.history.verify(id), null);
    }),
    { numRuns: 150 },
  );
});

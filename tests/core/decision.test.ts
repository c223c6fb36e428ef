// Decisions: settled once, with an answer that fits, by somebody else than who asked; in one change with the wait and the
// task, so that an answer is neither lost nor wakes a task twice. Expired is not denied. (Steps that ask: worker/waits.)
import assert from "node:assert/strict";
import { test } from "node:test";
import { iso } from "../../src/base/clock.ts";
import { claimDue } from "../../src/core/claim.ts";
import { settle } from "../../src/core/committer.ts";
import { ANSWERS, askAbout, verdictOf } from "../../src/core/decision.ts";
import type { Decision, DecisionKind, Wait } from "../../src/core/records.ts";
import { sweep } from "../../src/core/sweep.ts";
import { park } from "../../src/core/task.ts";
import { simulate, type Simulation } from "../simulation.ts";
import { STORES } from "../stores.ts";
import { NO_EVIDENCE } from "./samples.ts";

/** A task, claimed by "w", that asks; parked unless told. Returns the decision. */
async function asking(sim: Simulation, kind: DecisionKind = "approval", options: { parked?: boolean; expires_at?: string } = {}): Promise<Decision> {
  const { id } = await sim.state.tasks.add({ description: "x" });
  const [task] = await claimDue(sim.state.committer, { lanes: [], only: id, verifier: null, limit: 1, worker: "w", leaseMs: 3_600_000 });
  const ask = { kind, question: "Go?", details: { to: "mars" }, ...(options.expires_at ? { expires_at: options.expires_at } : {}) };
  assert.ok((await sim.state.committer.commit(askAbout(task!, { key: "go" }, 1, ask, "w", sim.clock.now()))).ok);
  if (options.parked !== false) await settle(sim.state.committer, task!, async (current, now) => park(current, await waits(sim, id), { actor: "w", now, fence: current.fence }));
  return (await sim.state.decisions.inbox()).at(-1)!;
}

const waits = async (sim: Simulation, id: number) => (await sim.state.committer.store.list("wait", { equals: { task_id: id } })) as unknown as Wait[];

for (const store of STORES) {
  test(`${store.name}: an answer settles decision and wait and wakes the task, in one change`, async (t) => {
    const sim = await simulate(t, store);
    const decision = await asking(sim);
    const { store: kept } = sim.state.committer;
    const commits: number[] = [];
    const commit = kept.commit.bind(kept);
    kept.commit = (changes) => (commits.push(changes.length), commit(changes));
    const settled = await sim.state.decisions.settle(decision.id, { answer: "approve", reason: "looks right", value: { seats: 2 }, actor: "bob" });
    assert.deepEqual(commits, [1]);
    assert.deepEqual(settled, await sim.state.decisions.get(decision.id));
    assert.deepEqual([settled.status, settled.answer, settled.value, settled.reason, settled.settled_by, settled.settled_at], ["approved", "approve", { seats: 2 }, "looks right", "bob", iso(sim.clock.now())]);
    const task = await sim.state.tasks.get(1);
    assert.deepEqual([task.status, task.ready, task.waiting_for, task.continues], ["pending", true, null, true]);
    assert.deepEqual((await waits(sim, 1)).map(({ status }) => status), ["settled"]);
    const woken = (await sim.state.history.of(1)).at(-1)!;
    assert.deepEqual([woken.event, woken.actor, woken.reason], ["woken", "bob", "decision d1: approve"]);
    assert.deepEqual(await sim.state.decisions.inbox(), []);
  });

  test(`${store.name}: ten answers at once: one counts, nine are told, the task is woken once`, async (t) => {
    const sim = await simulate(t, store);
    const decision = await asking(sim);
    const answers = await Promise.allSettled(Array.from({ length: 10 }, (_, i) => sim.state.decisions.settle(decision.id, { answer: i % 2 ? "approve" : "deny", actor: `p${i}` })));
    assert.equal(answers.filter(({ status }) => status === "fulfilled").length, 1);
    for (const answer of answers) if (answer.status === "rejected") assert.equal((answer.reason as { code: string }).code, "illegal_transition");
    assert.deepEqual((await sim.events(1)).filter((event) => event === "woken"), ["woken"]);
  });
}

test("the answers of each kind, and what becomes of the decision", async (t) => {
  const sim = await simulate(t);
  // One about a budget takes what is added to it: budget.test.ts.
  const fits: { readonly [kind in Exclude<DecisionKind, "budget">]: { readonly [answer: string]: string } } = {
    unknown_effect: { done: "answered", again: "answered", fail: "answered" },
    step_changed: { keep: "answered", again: "answered", fail: "answered" },
    review: { approve: "approved", deny: "denied" },
    approval: { approve: "approved", deny: "denied" },
    action: { approve: "approved", deny: "denied" },
    question: { blue: "answered", "": "answered", "ja, bitte": "answered" },
  };
  const all = [...new Set(Object.values(fits).flatMap((answers) => Object.keys(answers)))];
  for (const [kind, answers] of Object.entries(fits) as [DecisionKind, { [answer: string]: string }][]) {
    assert.deepEqual(Object.keys(ANSWERS[kind]), kind === "question" ? [] : Object.keys(answers));
    for (const answer of all) {
      const decision = await asking(sim, kind);
      const settling = sim.state.decisions.settle(decision.id, { answer, actor: "bob" });
      const ok = kind === "question" ? answer !== "approve" && answer !== "deny" : answer in answers;
      if (!ok) {
        await assert.rejects(settling, { code: "usage" }, `${kind}: ${answer}`);
        assert.equal((await sim.state.decisions.get(decision.id)).status, "open");
        await sim.state.tasks.cancel(decision.task_id!);
      } else assert.equal((await settling).status, answers[answer] ?? "answered", `${kind}: ${answer}`);
    }
  }
  const decision = await asking(sim);
  for (const answer of ["toString", "constructor", "__proto__", "hasOwnProperty"]) {
    await assert.rejects(sim.state.decisions.settle(decision.id, { answer, actor: "bob" }), { code: "usage" }, answer);
  }
});

test("a decision is settled once", async (t) => {
  const sim = await simulate(t);
  await asking(sim);
  await sim.state.decisions.settle("d1", { answer: "deny", actor: "bob" });
  await assert.rejects(sim.state.decisions.settle("d1", { answer: "approve", actor: "eve" }), { code: "illegal_transition", message: /d1 was denied 2026-.* already/ });
  assert.equal((await sim.state.decisions.get("d1")).settled_by, "bob");
});

test("nobody settles what they asked themselves", async (t) => {
  const sim = await simulate(t);
  await asking(sim);
  await assert.rejects(sim.state.decisions.settle("d1", { answer: "approve", actor: "w" }), { code: "illegal_transition", message: /w asked decision d1/ });
});

test("a decision is found by its number, and named when there is none", async (t) => {
  const sim = await simulate(t);
  await asking(sim);
  assert.equal((await sim.state.decisions.get("1")).id, "d1");
  for (const id of ["d2", "2", "x", ""]) await assert.rejects(sim.state.decisions.get(id), { code: "not_found" });
});

test("a value no store can hold is refused and settles nothing", async (t) => {
  const sim = await simulate(t);
  await asking(sim);
  await assert.rejects(sim.state.decisions.settle("d1", { answer: "approve", value: NaN, actor: "bob" }), { code: "value_refused" });
  assert.equal((await sim.state.decisions.get("d1")).status, "open");
});

test("hazard 6a: an answer before the parking keeps the task from being parked", async (t) => {
  const sim = await simulate(t);
  await asking(sim, "approval", { parked: false });
  const open = await waits(sim, 1);
  const task = await sim.state.tasks.get(1);
  await sim.state.decisions.settle("d1", { answer: "approve", actor: "bob" });
  assert.equal((await sim.state.tasks.get(1)).status, "in_progress", "its worker is told by the wait");
  await assert.rejects(settle(sim.state.committer, task, (current, now) => park(current, open, { actor: "w", now, fence: task.fence }), { fence: task.fence, onConflict: ({ kind }) => new Error(`conflict on the ${kind}`) }), /conflict on the wait/);
  assert.equal((await sim.state.tasks.get(1)).status, "in_progress");
});

test("hazard 6a: answer and parking at the same moment: whichever comes first, the task does not sleep for ever", async (t) => {
  const sim = await simulate(t);
  for (const first of ["answer", "park"]) {
    const decision = await asking(sim, "approval", { parked: false });
    const id = decision.task_id!;
    const open = await waits(sim, id);
    const task = await sim.state.tasks.get(id);
    const parking = () => settle(sim.state.committer, task, (current, now) => park(current, open, { actor: "w", now, fence: task.fence }), { fence: task.fence, onConflict: () => new Error("answered") });
    const answering = () => sim.state.decisions.settle(decision.id, { answer: "approve", actor: "bob" });
    await Promise.allSettled(first === "answer" ? [answering(), parking()] : [parking(), answering()]);
    const after = await sim.state.tasks.get(id);
    assert.ok(after.status === "pending" && after.ready || after.status === "in_progress", after.status);
    assert.equal((await sim.state.decisions.get(decision.id)).status, "approved");
  }
});

test("expired: the wait is over, the task wakes, the decision says expired and takes no answer", async (t) => {
  const sim = await simulate(t);
  await asking(sim, "approval", { expires_at: iso(sim.clock.now() + 5_000) });
  await sim.clock.advance(5_000);
  await sweep(sim.state.committer, NO_EVIDENCE, "sweeper", false);
  const decision = await sim.state.decisions.get("d1");
  assert.deepEqual([decision.status, decision.answer], ["expired", null]);
  assert.equal((await sim.state.tasks.get(1)).status, "pending");
  assert.match((await sim.state.history.of(1)).at(-1)!.reason!, /d1 expired/);
  await assert.rejects(sim.state.decisions.settle("d1", { answer: "approve", actor: "bob" }), { code: "illegal_transition" });
  const verdict = verdictOf({ ...decision, kind: "unknown_effect" });
  assert.ok(verdict.do === "fail" && verdict.error.code === "expired" && verdict.error.permanent === true);
});

test("an answer at the instant of expiry: one of the two counts, and the task wakes once", async (t) => {
  const sim = await simulate(t);
  await asking(sim, "approval", { expires_at: iso(sim.clock.now() + 5_000) });
  await sim.clock.advance(5_000);
  await Promise.allSettled([sweep(sim.state.committer, NO_EVIDENCE, "sweeper", false), sim.state.decisions.settle("d1", { answer: "approve", actor: "bob" })]);
  assert.ok(["approved", "expired"].includes((await sim.state.decisions.get("d1")).status));
  assert.deepEqual((await sim.events(1)).filter((event) => event === "woken"), ["woken"]);
});

test("what a verdict about an effect says", () => {
  const decision = { id: "d1", kind: "unknown_effect", status: "answered", value: { a: 1 }, reason: "because" } as unknown as Decision;
  assert.deepEqual(verdictOf({ ...decision, answer: "done" }), { do: "done", output: { a: 1 } });
  assert.deepEqual(verdictOf({ ...decision, answer: "again" }), { do: "again" });
  assert.deepEqual(verdictOf({ ...decision, answer: "fail" }), { do: "fail", error: { message: "decision d1: because", code: "given_up", permanent: true } });
});

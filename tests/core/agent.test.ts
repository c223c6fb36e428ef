// The agent of a task: opened once under its fence, patched whole or not at all, its history never rewritten; the store gives
// back any revision as it was. Messages are cleared by one change; a reset begins again and keeps what was spent.
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { test, type TestContext } from "node:test";
import fc from "fast-check";
import { isPawlError } from "../../src/base/errors.ts";
import { fingerprint, type Json } from "../../src/base/json.ts";
import type { AgentState } from "../../src/core/agent.ts";
import { openAgent, patchAgent } from "../../src/core/agents.ts";
import { examine } from "../../src/core/doctor.ts";
import { contextTokensPut, messagePut, type CarryOver } from "../../src/core/message.ts";
import { clearContext } from "../../src/core/messages.ts";
import type { Task } from "../../src/core/records.ts";
import { endStep, fenceGuard } from "../../src/core/step.ts";
import type { State } from "../../src/state.ts";
import { statePlace } from "../places.ts";
import { patches } from "./patch-samples.ts";

const NAMES = (process.env["PAWL_TEST_STORES"] ?? "memory,json,sqlite,postgres").split(",");

async function opened(t: TestContext, name = "memory"): Promise<{ state: State; task: Task; again: () => Promise<State> }> {
  const place = await statePlace(t, name);
  const state = await place.open();
  const { id } = await state.tasks.add({ description: "Free some disk space" });
  const { task } = (await state.tasks.claim())!;
  assert.equal(task.id, id);
  await openAgent(state.committer, task, { actor: "w-1", model: "m-1" });
  return { state, task, again: () => (name === "memory" ? Promise.resolve(state) : place.open()) };
}

const fact = (key: string, value: Json, source = "tool") => ({ append_known_facts: [{ key, value, source }] });

for (const name of NAMES) {
  test(`scenario 15, ${name}: a patch is applied with its line in the history, and a stale one is refused with both revisions`, async (t) => {
    const { state, task, again } = await opened(t, name);
    const { patch } = await patchAgent(state.committer, task.id, { ...fact("disk", "95%"), replace_plan: ["measure"] }, { actor: "w-1", fence: task.fence, revision: 0, reason: "df", step_key: "t1" });
    assert.deepEqual([patch.revision, patch.author, patch.reason, patch.step_key], [1, "w-1", "df", "t1"]);
    await state.agents.patch(task.id, fact("disk", "80%", "user"), { revision: 1 });
    await assert.rejects(state.agents.patch(task.id, fact("disk", "70%"), { revision: 1 }), (error) => isPawlError(error, "conflict") && error.details?.["expected"] === 1 && error.details["current"] === 2 && /revision 1 .* at 2 now/.test(error.message));
    await assert.rejects(state.agents.patch(task.id, { known_facts: [] } as object), (error) => isPawlError(error, "usage"));
    const other = await again();
    const shown = await other.agents.show(task.id);
    assert.deepEqual(shown.state.known_facts, [{ key: "disk", value: "95%", source: "tool" }, { key: "disk", value: "80%", source: "user" }]);
    assert.deepEqual([shown.state.plan, shown.state.open_questions.length, shown.agent.revision], [["measure"], 1, 2]);
    assert.deepEqual((await other.agents.at(task.id, 1)).known_facts, [{ key: "disk", value: "95%", source: "tool" }]);
    assert.deepEqual((await other.agents.diff(task.id, 1)).added.map(({ part, value }) => [part, value])[0], ["fact", "80%"]);
    const history = (await other.history.of(task.id)).filter(({ event }) => event === "agent_patched");
    assert.deepEqual(history.map(({ actor, details }) => [actor, details]), (await other.agents.history(task.id)).map(({ author, revision, hash }) => [author, { revision, hash }]));
    assert.equal(patch.hash, fingerprint(patch.delta as Json));
    assert.equal(await other.history.verify(task.id), null);
    assert.equal((await other.tasks.get(task.id)).revision, task.revision, "a patch is no change of the task");
  });

  test(`${name}: twenty patches at once are all applied, each against what is there`, async (t) => {
    const { state, task, again } = await opened(t, name);
    const other = await again();
    await Promise.all(Array.from({ length: 20 }, (_, i) => (i % 2 ? state : other).agents.patch(task.id, fact(`k${i % 4}`, i))));
    const { agent, state: now } = await state.agents.show(task.id);
    assert.deepEqual([agent.revision, now.known_facts.length, now.open_questions.length], [20, 20, 4]);
    assert.deepEqual((await state.agents.history(task.id)).map(({ revision }) => revision), Array.from({ length: 20 }, (_, i) => i + 1));
  });

  test(`${name}: any patches: what the store shows at every revision is what it showed then`, async (t) => {
    await fc.assert(
      fc.asyncProperty(fc.array(patches, { maxLength: 8 }), async (list) => {
        const { state, task } = await opened(t, name);
        const then: AgentState[] = [(await state.agents.show(task.id)).state];
        for (const patch of list) {
          try {
            await state.agents.patch(task.id, patch);
            then.push((await state.agents.show(task.id)).state);
          } catch (error) {
            if (!isPawlError(error, "usage")) throw error;
            assert.deepEqual((await state.agents.show(task.id)).state, then.at(-1));
          }
        }
        for (const [revision, shown] of then.entries()) assert.deepEqual(await state.agents.at(task.id, revision), shown);
        assert.deepEqual((await examine(state.committer.store, { deep: true, now: state.clock.now() })).findings.filter(({ code }) => code === "agent_damaged"), []);
        await state.close();
      }),
      { numRuns: Number(process.env["PAWL_TEST_RUNS"] ?? (name === "postgres" ? 3 : 10)) },
    );
  });

  test(`${name}: the context is cleared once, whoever repeats it; the messages of before stay`, async (t) => {
    const { state, task, again } = await opened(t, name);
    const { committer } = state;
    const { agent } = await state.agents.show(task.id);
    const now = committer.store.clock.now();
    const plan = { key: "t1", name: "t1", effect: "repeat", kept: false, input: null, inputHash: null } as const;
    await committer.commit(endStep(task, plan, 1, now, { output: { content: "from the step" } }, now, [messagePut(agent, { seq: 1, role: "user", content: "go" }, now), messagePut(agent, { seq: 2, role: "assistant", step: { round: 1, key: "t1" } }, now), contextTokensPut(agent, 150_000)]));
    assert.deepEqual((await state.agents.messages(task.id)).map(({ content }) => content), ["go", { content: "from the step" }]);
    const carry: CarryOver = { done: ["measured"], next: ["delete"], decisions: ["only logs"], do_not_repeat: ["df"] };
    const other = await again();
    const cleared = await Promise.all([clearContext(committer, task, 0, carry, "w-1"), clearContext(other.committer, task, 0, carry, "w-1")]);
    assert.deepEqual(cleared.map(({ epoch }) => epoch), [1, 1]);
    assert.deepEqual((await other.agents.messages(task.id)).map(({ seq, role, content }) => [seq, role, content]), [[3, "carry_over", carry]]);
    assert.deepEqual((await other.agents.messages(task.id, { epoch: 0 })).map(({ seq }) => seq), [1, 2]);
    assert.deepEqual((await other.agents.messages(task.id, { epoch: "all", after: 1, limit: 1 })).map(({ seq }) => seq), [2]);
    assert.equal((await other.agents.show(task.id)).agent.context_tokens, 0);
    assert.deepEqual((await other.history.of(task.id)).filter(({ event }) => event === "context_cleared").map(({ details }) => details), [{ epoch: 1, messages: 2, tokens: 150_000 }]);
  });
}

test("an agent is opened once; a worker that lost the task can neither open nor patch nor clear", async (t) => {
  const { state, task } = await opened(t);
  const first = await openAgent(state.committer, task, { actor: "w-1", budget: { max_steps: 99 } });
  assert.equal(first.state.budget.max_steps, 20, "its budget is the one it was made with");
  assert.deepEqual(first.state.constraints, { human_in_the_loop: { required_for_risk_levels: ["write_local", "external_action"] } });
  await state.tasks.release(task.id, { force: true });
  const { task: taken } = (await state.tasks.claim())!;
  const writes = [() => patchAgent(state.committer, task.id, { replace_plan: ["x"] }, { actor: "w-1", fence: task.fence }), () => clearContext(state.committer, task, 0, null, "w-1"), () => openAgent(state.committer, task, { actor: "w-1", model: "m-2" })];
  for (const write of writes) await assert.rejects(write, (error) => isPawlError(error, "lease_lost"));
  assert.equal((await openAgent(state.committer, taken, { actor: "w-2", model: "m-2" })).agent.model, "m-2");
  assert.deepEqual([(await state.agents.show(task.id)).state.plan, (await state.agents.show(task.id)).agent.epoch], [[], 0]);
});

test("the same patch of a repeated step is applied once", async (t) => {
  const { state, task } = await opened(t);
  const twice = () => patchAgent(state.committer, task.id, fact("k", 1), { actor: "w-1", fence: task.fence, revision: 0, op_id: "pawl-abc" });
  const [a, b] = [await twice(), await twice()];
  assert.deepEqual(b.patch, a.patch);
  assert.equal(b.agent.revision, 1);
});

test("a rejected result keeps what is known; a reset begins again, and nothing that was spent comes back", async (t) => {
  const { state, task } = await opened(t);
  await state.agents.patch(task.id, { ...fact("disk", "95%"), replace_plan: ["a"], add_risk_flags: ["slow"] });
  await state.committer.commit({ guards: [fenceGuard(task)], puts: [messagePut({ task_id: task.id, epoch: 0, round: 1 }, { seq: 1, role: "user", content: "go" }, 0)], additions: [{ kind: "budget", key: task.id, field: "used_steps", n: 7 }] });
  await state.tasks.cancel(task.id);
  await state.tasks.reopen(task.id, "not good enough");
  const round2 = await openAgent(state.committer, (await state.tasks.claim())!.task, { actor: "w-2" });
  assert.deepEqual([round2.state.plan, round2.agent.epoch, round2.agent.round], [["a"], 0, 1], "the loop takes the round in with its feedback");
  await state.tasks.reset(task.id);
  const round3 = await openAgent(state.committer, (await state.tasks.claim())!.task, { actor: "w-3" });
  assert.deepEqual([round3.state.plan, round3.state.known_facts, round3.state.risk_flags, round3.agent.epoch, round3.agent.round], [[], [], [], 1, 3]);
  assert.equal(round3.spend.steps.spent, 7);
  assert.deepEqual(await state.agents.messages(task.id), []);
  assert.deepEqual((await state.agents.at(task.id, 1)).plan, ["a"]);
  assert.deepEqual((await state.agents.history(task.id)).map(({ delta }) => Object.keys(delta)), [["append_known_facts", "replace_plan", "add_risk_flags"], ["begin_again"]]);
});

test("sqlite: facts and patches take little more than they are; a file of an earlier version, where they were trees, is used as it is", async (t) => {
  const place = await statePlace(t, "sqlite");
  const state = await place.open();
  const { id } = await state.tasks.add({ description: "remember" });
  await openAgent(state.committer, (await state.tasks.claim())!.task, { actor: "w" });
  for (let i = 0; i < 100; i++) await state.agents.patch(id, fact(`k${i}`, "v".repeat(1_000)));
  await state.close();
  const db = new DatabaseSync(place.url);
  const pages = db.prepare("select sum(pgsize) as bytes from dbstat where name in ('entry', 'patch')").get()!["bytes"] as number;
  assert.ok(pages < 2 * 2 * 100_000, `${pages} bytes for 100 kB of facts, each of them in a patch as well`);
  const tables = db.prepare("select name, sql from sqlite_schema where name in ('entry', 'patch')").all() as { name: string; sql: string }[];
  for (const { name, sql } of tables) {
    assert.doesNotMatch(sql, /without rowid/i);
    db.exec(`alter table ${name} rename to was; ${sql}, without rowid; insert into ${name} select * from was; drop table was`);
  }
  db.exec("create index entry_by_since on entry (task_id, since); delete from pawl where name = 'schema'");
  db.close();
  const again = await place.open();
  await again.agents.patch(id, fact("k100", "new"));
  const { agent, state: shown } = await again.agents.show(id);
  assert.deepEqual([agent.revision, shown.known_facts.map(({ key }) => key)], [101, Array.from({ length: 101 }, (_, i) => `k${i}`)]);
  assert.deepEqual([(await again.agents.at(id, 7)).known_facts.length, (await again.agents.history(id)).length, await again.history.verify(id)], [7, 101, null]);
});

test("without an agent there is nothing to show, and it says so", async (t) => {
  const { state, task } = await opened(t);
  await state.tasks.add({ description: "plain" });
  for (const look of [() => state.agents.show(2), () => state.agents.patch(2, { replace_plan: [] }), () => state.agents.history(2), () => state.agents.budget(2), () => state.agents.show(9)]) await assert.rejects(look, (error) => isPawlError(error, "not_found"));
  for (const look of [() => state.agents.at(task.id, 1), () => state.agents.diff(task.id, 2), () => state.agents.at(task.id, -1)]) await assert.rejects(look, (error) => isPawlError(error, "usage"));
  assert.deepEqual((await state.agents.list()).map(({ task_id, goal }) => [task_id, goal]), [[1, "Free some disk space"]]);
});

test("the doctor finds a patch that was altered, one that is gone, and a state that is not what the patches make", async (t) => {
  const damages: [string, object, RegExp][] = [
    ["patch", { key: [1, 2], set: { delta: { replace_plan: ["steal"] } } }, /revision 2 is not what was applied/],
    ["patch", { key: [1, 1], delete: true }, /patch to revision 1 is missing/],
    ["patch", { key: [1, 3], delete: true }, /at revision 3, and 2 patches/],
    ["entry", { key: [1, 1], set: { value: "1%" } }, /fact "disk" is not what its patches make/],
    ["entry", { key: [1, 1], delete: true }, /1 of its entries are missing/],
    ["budget", { key: 1, set: { in_doubt_steps: 9 } }, /Of steps more is reserved/],
  ];
  for (const [kind, put, message] of damages) {
    const { state } = await opened(t);
    for (const patch of [fact("disk", "95%"), fact("disk", "90%", "user"), { replace_plan: ["a"] }]) await state.agents.patch(1, patch);
    const look = async () => (await examine(state.committer.store, { deep: true, now: state.clock.now() })).findings.filter(({ code }) => code === "agent_damaged").map(({ message: said }) => said);
    assert.deepEqual(await look(), []);
    assert.ok((await state.committer.commit({ puts: [{ kind, ...put } as never] })).ok);
    const [found] = await look();
    assert.match(found ?? "", message);
  }
});

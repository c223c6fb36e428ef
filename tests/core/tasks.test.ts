// The verbs of a task, as people, programs and holders of a token use them: who may write when, what an edit may touch,
// what is listed and found.
import assert from "node:assert/strict";
import { test } from "node:test";
import { iso } from "../../src/base/clock.ts";
import { LIMITS } from "../../src/base/limits.ts";
import { createBatch, importEntries } from "../../src/core/batches.ts";
import { renewClaim, type TaskEdit } from "../../src/core/tasks.ts";
import { formatToken, parseToken } from "../../src/core/token.ts";
import type { State } from "../../src/state.ts";
import { simulate } from "../simulation.ts";
import { MEMORY, STORES } from "../stores.ts";
import { requireSound } from "./samples.ts";

async function claimed(state: State, fields: { verifier?: string; max_attempts?: number; depends_on?: number[] } = {}) {
  await state.tasks.add({ description: "x", ...fields });
  const claim = (await state.tasks.claim())!;
  return { id: claim.task.id, task: claim.task, token: parseToken(claim.token) };
}

for (const store of STORES) {
  test(`${store.name}: claims come in order, each to one caller, and null when nothing is due`, async (t) => {
    const state = await store.open(t);
    await state.tasks.addAll([5, 1, 3].map((priority) => ({ description: "x", priority })));
    const claims = await Promise.all([1, 2, 3, 4].map(() => state.tasks.claim()));
    assert.deepEqual(claims.map((claim) => claim?.task.id ?? null).sort(), [1, 2, 3, null]);
    assert.equal(new Set(claims.flatMap((claim) => claim?.token ?? [])).size, 3);
    assert.deepEqual([claims[0]!.task.id, claims[1]!.task.id, claims[2]!.task.id], [2, 3, 1]);
    for (const claim of claims) if (claim) assert.deepEqual(await state.tasks.get(claim.task.id), claim.task);
  });

  test(`${store.name}: the holder of the token completes, fails or releases; afterwards the token is worth nothing`, async (t) => {
    const state = await store.open(t);
    for (const [verb, status] of [["complete", "completed"], ["fail", "failed"], ["release", "pending"]] as const) {
      const { id, token } = await claimed(state);
      const call = () => (verb === "complete" ? state.tasks.complete(id, { n: 1 }, { token }) : verb === "fail" ? state.tasks.fail(id, "broken", { token }) : state.tasks.release(id, { token }));
      const after = await call();
      assert.deepEqual(after, await state.tasks.get(id));
      assert.equal(after.status, status);
      requireSound(after);
      await assert.rejects(call(), (error: { code: string }) => ["lease_lost", "illegal_transition"].includes(error.code));
      if (status === "pending") await state.tasks.cancel(id);
    }
  });

  test(`${store.name}: two calls with one token at once: one counts`, async (t) => {
    const state = await store.open(t);
    const { id, token } = await claimed(state);
    const both = await Promise.allSettled([state.tasks.complete(id, 1, { token }), state.tasks.fail(id, "no", { token })]);
    assert.deepEqual(both.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
    assert.equal((await state.history.of(id)).length, 3);
  });
}

test("without the token nobody writes into what is worked on; with a wrong one neither", async (t) => {
  const state = await MEMORY.open(t);
  const { id, task, token } = await claimed(state);
  for (const call of [() => state.tasks.complete(id, 1), () => state.tasks.fail(id, "no"), () => state.tasks.release(id), () => state.tasks.remove(id)]) {
    await assert.rejects(call(), { code: "conflict", message: /being worked on by c-/ });
  }
  for (const wrong of [{ ...token, worker: "c-0" }, { ...token, fence: token.fence + 1 }, { ...token, fence: 0 }]) {
    for (const call of [() => state.tasks.complete(id, 1, { token: wrong }), () => state.tasks.fail(id, "no", { token: wrong }), () => state.tasks.release(id, { token: wrong }), () => renewClaim(state.committer, wrong, 1_000)]) {
      await assert.rejects(call(), { code: "lease_lost" });
    }
  }
  assert.deepEqual(await state.tasks.get(id), task);
});

test("a token names its task, its ownership and its holder, and is read strictly", async (t) => {
  const state = await MEMORY.open(t);
  const { id, task, token } = await claimed(state);
  assert.deepEqual(parseToken(` ${formatToken(task)}\n`, id), token);
  assert.throws(() => parseToken(formatToken(task), id + 1), { code: "usage", message: /token is for task 1, not for task 2/ });
  for (const text of ["", "x", "1", "1.2", "1.2.", "1.2.a b", "1.2.a.b", "-1.2.a", "1e3.2.a", "9".repeat(16) + ".1.a"]) assert.throws(() => parseToken(text), { code: "usage" }, text);
});

test("a claim by token holds for its lease, is renewed by a call, and is taken over after it", async (t) => {
  const sim = await simulate(t);
  const { id, token } = await claimed(sim.state);
  assert.equal(Date.parse((await sim.state.tasks.get(id)).lease_expires_at!) - sim.clock.now(), LIMITS.heldLeaseMs);
  await sim.clock.advance(1_000);
  await renewClaim(sim.state.committer, token, 5_000);
  assert.equal(Date.parse((await sim.state.tasks.get(id)).lease_expires_at!) - sim.clock.now(), 5_000);
  sim.start(() => "by a worker");
  await sim.until(id);
  await assert.rejects(sim.state.tasks.complete(id, 1, { token }), { code: "lease_lost" });
  await assert.rejects(renewClaim(sim.state.committer, token, 5_000), { code: "lease_lost" });
  assert.equal((await sim.state.tasks.get(id)).result, "by a worker");
});

test("an owner's result goes to the verifier, a person's word is final", async (t) => {
  const state = await MEMORY.open(t);
  const { id, token } = await claimed(state, { verifier: "v" });
  const review = await state.tasks.complete(id, "made", { token });
  assert.deepEqual([review.status, review.result, review.ready, review.worker], ["review", "made", true, null]);
  requireSound(review);
  assert.deepEqual((await state.history.of(id)).map(({ event }) => event), ["created", "claimed", "submitted", "released"]);
  assert.equal(await state.history.verify(id), null);
  assert.deepEqual([(await state.tasks.complete(id, "by hand")).status, (await state.tasks.get(id)).result], ["completed", "by hand"]);
});

test("fail: a person's is final; an owner may say that more attempts are worth it", async (t) => {
  const state = await MEMORY.open(t);
  const first = await claimed(state, { max_attempts: 2 });
  const again = await state.tasks.fail(first.id, "flaky", { token: first.token, permanent: false });
  assert.deepEqual([again.status, again.ready, again.error!.message, Date.parse(again.run_at!) > state.clock.now()], ["pending", false, "flaky", true]);
  const failed = await state.tasks.fail(first.id, "given up");
  assert.deepEqual([failed.status, failed.error], ["failed", { message: "given up", code: "reported", permanent: true }]);
  const second = await claimed(state, { max_attempts: 2 });
  assert.equal((await state.tasks.fail(second.id, "broken", { token: second.token })).status, "failed");
});

test("release by force fences the owner off", async (t) => {
  const state = await MEMORY.open(t);
  const { id, token } = await claimed(state);
  const released = await state.tasks.release(id, { force: true, reason: "it hangs" });
  assert.deepEqual([released.status, released.ready, released.fence, released.continues], ["pending", true, 2, true]);
  await assert.rejects(state.tasks.complete(id, 1, { token }), { code: "lease_lost" });
  assert.equal((await state.history.of(id)).at(-1)!.reason, "it hangs");
});

test("completing frees what depends on it, by token and by hand", async (t) => {
  const state = await MEMORY.open(t);
  const { id, token } = await claimed(state);
  const next = await state.tasks.add({ description: "next", depends_on: [id] });
  await state.tasks.complete(id, 1, { token });
  assert.equal((await state.tasks.get(next.id)).ready, true);
});

test("an edit changes what a task says and tells from what to what", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.add({ description: "a", tags: ["x", "y"], input: { n: 1 }, key: "k" });
  const edit: TaskEdit = { description: "b", tags: ["y", "z"], input: { n: 2 }, key: null, priority: 1, queue: "q", verifier: "v", max_attempts: 9, timeout_ms: 5, deadline_at: iso(sim.clock.now() + 1), run_at: iso(sim.clock.now() + 9) };
  const after = await sim.state.tasks.edit("k", edit);
  for (const [field, value] of Object.entries(edit)) assert.deepEqual(after[field as keyof typeof after], value, field);
  assert.deepEqual([after.ready, after.revision], [false, 2]);
  const { details, event } = (await sim.state.history.of(1)).at(-1)!;
  assert.equal(event, "edited");
  assert.deepEqual((details as { tags: unknown }).tags, { from: ["x", "y"], to: ["y", "z"] });
  assert.deepEqual(Object.keys(details as object).sort(), Object.keys(edit).sort());
  assert.deepEqual([await sim.state.tasks.list({ tag: "x" }), (await sim.state.tasks.list({ tag: "z" })).map(({ id }) => id), await sim.state.tasks.find("k")], [[], [1], null]);
  assert.equal((await sim.state.tasks.edit(1, { run_at: null })).ready, true);
});

test("an edit that changes nothing, or what may not be changed or emptied, or is no value, is refused and writes nothing", async (t) => {
  const state = await MEMORY.open(t);
  const before = await state.tasks.add({ description: "a", key: "k" });
  await state.tasks.add({ description: "b", key: "taken" });
  const bad: readonly { readonly [field: string]: unknown }[] = [
    {}, { description: "a" }, { status: "completed" }, { result: 1 }, { fence: 9 }, { worker: null }, { attempts: 0 }, { ready: true }, { id: 5 }, { unknown: 1 }, { description: "" }, { description: null }, { queue: null },
    { priority: null }, { tags: null }, { depends_on: null }, { max_attempts: null }, { max_attempts: 0 }, { priority: 0.5 }, { tags: "x" }, { depends_on: 1 }, { run_at: "soon" }, { key: "" }, { timeout_ms: -1 }, { input: NaN },
  ];
  for (const edit of bad) await assert.rejects(state.tasks.edit(1, edit as TaskEdit), (error: { code: string }) => ["usage", "value_refused"].includes(error.code), JSON.stringify(edit));
  await assert.rejects(state.tasks.edit(1, { key: "taken" }), { code: "conflict", message: /"taken" belongs to another task/ });
  assert.deepEqual(await state.tasks.get(1), before);
  assert.equal((await state.history.of(1)).length, 1);
});

test("retry refuses a deadline that is no time", async (t) => {
  const state = await MEMORY.open(t);
  await state.tasks.add({ description: "a", status: "failed" });
  await assert.rejects(state.tasks.retry(1, { deadline_at: "soon" }), { code: "usage" });
  assert.equal((await state.tasks.get(1)).status, "failed");
});

test("a task is found by id, digits or key; an id goes before a key that looks like one", async (t) => {
  const state = await MEMORY.open(t);
  await state.tasks.addAll([{ description: "a", key: "2" }, { description: "b", key: "seven" }, { description: "c", key: "99" }]);
  assert.equal((await state.tasks.get(1)).description, "a");
  assert.equal((await state.tasks.get("1")).description, "a");
  assert.equal((await state.tasks.get("2")).description, "b");
  assert.equal((await state.tasks.get("seven")).description, "b");
  assert.equal((await state.tasks.get("99")).description, "c");
  for (const ref of [99, "98", "eight", ""]) {
    assert.equal(await state.tasks.find(ref), null);
    await assert.rejects(state.tasks.get(ref), { code: "not_found" });
  }
});

test("the number of a task that is gone names no other; a link of a list names a key by its text", async (t) => {
  for (const kind of STORES) {
    const state = await kind.open(t);
    await state.tasks.addAll([{ description: "a" }, { description: "b" }, { description: "c", key: "2" }]);
    await state.tasks.remove(2);
    assert.equal(await state.tasks.find("2"), null, "not c");
    await assert.rejects(state.tasks.remove("2"), { code: "not_found" });
    const batch = await createBatch(state.committer, {});
    await importEntries(state.committer, batch, [{ description: "after c", depends_on: ["2"], line: 1, text: "after c", occurrence: 1 }], "list.json", {}, "tester");
    assert.deepEqual((await state.tasks.get(4)).depends_on, [3]);
  }
});

test("lists: by status and tag, page by page", async (t) => {
  const state = await MEMORY.open(t);
  await state.tasks.addAll(Array.from({ length: 25 }, (_, i) => ({ description: `t${i}`, tags: i % 2 ? ["odd"] : ["even"], ...(i % 5 === 0 ? { status: "completed" as const } : {}) })));
  for (const filter of [{}, { status: "completed" as const }, { status: "pending" as const, tag: "odd" }, { tag: "even" }]) {
    const all = (await state.tasks.list(filter)).map(({ id }) => id);
    const paged: number[] = [];
    for (let page = await state.tasks.list({ ...filter, limit: 4 }); page.length > 0; page = await state.tasks.list({ ...filter, limit: 4, after: page.at(-1)!.id })) paged.push(...page.map(({ id }) => id));
    assert.deepEqual(paged, all, JSON.stringify(filter));
    assert.ok(all.length > 0 && all.every((id, i) => i === 0 || id > all[i - 1]!));
  }
});

test("reset of everything counts every task once and keeps all histories", async (t) => {
  const state = await MEMORY.open(t);
  await state.tasks.addAll(Array.from({ length: 1_203 }, (_, i) => ({ description: `t${i}`, status: "completed" as const, result: i })));
  assert.equal(await state.tasks.resetAll({ reason: "once more" }), 1_203);
  assert.equal((await state.tasks.count()).pending, 1_203);
  assert.deepEqual((await state.history.of(1_203)).map(({ event, reason }) => [event, reason]), [["created", null], ["reset", "once more"]]);
});

test("a removed task is gone, its history is not, and nothing of it is left to find", async (t) => {
  const state = await MEMORY.open(t);
  const a = await state.tasks.add({ description: "a" });
  await state.tasks.add({ description: "b", key: "k", tags: ["x"], depends_on: [a.id] });
  await state.tasks.remove("k", { reason: "a mistake" });
  assert.deepEqual([await state.tasks.find("k"), await state.tasks.list({ tag: "x" }), await state.committer.store.list("dependency")], [null, [], []]);
  assert.deepEqual((await state.history.of(2)).map(({ event, reason }) => [event, reason]), [["created", null], ["removed", "a mistake"]]);
  await assert.rejects(state.tasks.remove("k"), { code: "not_found" });
});

// What parents and children promise: each child once, its end told to the parent once, what happens to the parent told to its
// children; no wait left open and nothing stuck, also when any process dies between any two writes.
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { LIMITS } from "../../src/base/limits.ts";
import { checkParent, covers, inherited, memberKey, membersOf, orphaned, type Child } from "../../src/core/child.ts";
import { examine } from "../../src/core/doctor.ts";
import type { NewTask } from "../../src/core/new-task.ts";
import type { Task } from "../../src/core/records.ts";
import { cancel, expire, fail, reset, retryTask } from "../../src/core/task.ts";
import { cancelTask, resetTask, retryFailed } from "../../src/core/tasks.ts";
import type { ChildEnd, TaskContext } from "../../src/worker/context.ts";
import { LASTING, statePlace } from "../places.ts";
import { eventually } from "../pawl.ts";
import { gate, mortalHome, simulate, type Death, type Simulation } from "../simulation.ts";
import { STORES } from "../stores.ts";
import { NOW, PERSON, sample } from "./samples.ts";

const AT = (ms: number) => new Date(NOW + ms).toISOString();
const HANG = new Promise<never>(() => undefined);
const by = (sim: Simulation) => async (status: string) => (await sim.state.tasks.list()).filter((task) => task.status === status).map(({ id }) => id);

/* ---------- the rules ---------- */

test("a child gets its parent's queue, batch and deadline; its own deadline only when it is earlier, another queue without the batch", () => {
  const parent = sample("in_progress", { id: 5, queue: "q", batch_id: "b", deadline_at: AT(1_000) });
  const of = (fields: Partial<NewTask>) => { const { queue, batch_id, deadline_at, parent_id } = inherited({ description: "x", ...fields }, parent); return [parent_id, queue, batch_id, deadline_at]; };
  assert.deepEqual(of({}), [5, "q", "b", AT(1_000)]);
  assert.deepEqual(of({ deadline_at: AT(500) }), [5, "q", "b", AT(500)]);
  assert.deepEqual(of({ deadline_at: AT(2_000) }), [5, "q", "b", AT(1_000)]);
  assert.deepEqual(of({ queue: "other" }), [5, "other", null, AT(1_000)]);
  assert.deepEqual(inherited({ description: "x", deadline_at: AT(9) }, sample("in_progress")).deadline_at, AT(9));
});

test("keys of a group go in the order of the list and hold no key of another", () => {
  const keys = Array.from({ length: LIMITS.children }, (_, i) => memberKey("a", i));
  assert.deepEqual([...keys].sort(), keys);
  const { from, to } = membersOf("a");
  for (const [key, within] of [[keys[0]!, true], [keys.at(-1)!, true], ["a", false], ["a#2", false], ["a@k", false], ["a/b", false], ["ab", false], [memberKey("a/b", 0), false], [memberKey("a#2", 0), false]] as const) {
    assert.equal(key >= from && key < to, within, key);
    assert.equal(covers({ kind: "children", key: "a", round: 1 }, { key, round: 1 }), within, key);
  }
  assert.ok(covers({ kind: "child", key: "a", round: 1 }, { key: "a", round: 1 }) && !covers({ kind: "child", key: "a", round: 2 }, { key: "a", round: 1 }));
});

test("which children end with what happened to their parent", () => {
  const child = { round: 1 } as Child;
  const table: [Task | null, Child | null, RegExp | null][] = [
    [null, child, /was removed/], [sample("cancelled"), child, /was cancelled/], [sample("failed", { error: { message: "deadline exceeded", code: "deadline" } }), child, /deadline .* passed/],
    [sample("failed"), child, null], [sample("completed"), child, null], [sample("waiting"), child, null], [sample("pending", { round: 2 }), child, /new round/], [sample("pending", { round: 2 }), null, null],
  ];
  for (const [parent, of, why] of table) why === null ? assert.equal(orphaned({ parent_id: 1 }, parent, of), null) : assert.match(orphaned({ parent_id: 1 }, parent, of)!, why);
});

test("what must reach children is written with the parent's own change, and only when it has children", () => {
  const due = (task: Task) => task.children_due ?? null;
  const moves = (has_children: boolean) => {
    const open = sample("waiting", { has_children });
    const failed = sample("failed", { has_children });
    return [
      cancel(open, PERSON, null, []), expire(open, PERSON, []), reset(open, PERSON, true, [], null), retryTask(failed, PERSON, { ready: true, closing: [] }), retryTask(failed, PERSON, { fresh: true, ready: true, closing: [] }),
      fail(open, { message: "no" }, PERSON),
    ].map(({ task }) => due(task));
  };
  assert.deepEqual(moves(true), ["close", "close", "close", "revive", "close", null]);
  assert.deepEqual(moves(false), [null, null, null, null, null, null]);
});

test("an ended task gets no children, nor one that is too deep", () => {
  for (const status of ["completed", "failed", "cancelled"] as const) assert.throws(() => checkParent(sample(status), 0), { code: "illegal_transition" });
  checkParent(sample("pending"), LIMITS.childDepth - 1);
  assert.throws(() => checkParent(sample("pending"), LIMITS.childDepth), { code: "usage", message: /16 deep at most/ });
});

/* ---------- on every store ---------- */

/** A tree: the input is how deep it goes on. Every task says who it is. */
const tree = async (task: Task, { all, step }: TaskContext): Promise<unknown> => {
  const depth = task.input as number;
  await step("begin", () => 1);
  if (depth === 0) return task.id;
  const list = await step("list", () => [1, 2].map((n) => ({ description: `${task.description}.${n}`, input: depth - 1 })));
  return all("branches", list);
};

for (const store of STORES) {
  test(`${store.name}: one worker with one hand works a tree: parents wait without holding it, results come up in order`, async (t) => {
    const sim = await simulate(t, store);
    const root = await sim.state.tasks.add({ description: "r", input: 2, queue: "default" });
    sim.start(tree, { concurrency: 1 });
    const done = await sim.until(root.id);
    assert.deepEqual(done.result, [[4, 5], [6, 7]]);
    const tasks = await sim.state.tasks.list();
    assert.deepEqual(tasks.map(({ description, parent_id, attempts, status }) => [description, parent_id, attempts, status]), [
      ["r", null, 1, "completed"], ["r.1", 1, 1, "completed"], ["r.2", 1, 1, "completed"],
      ...[["r.1.1", 2], ["r.1.2", 2], ["r.2.1", 3], ["r.2.2", 3]].map((row) => [...row, 1, "completed"]),
    ]);
    assert.deepEqual((await sim.events(1)).filter((event) => event === "woken").length, 1, "a group wakes its parent once");
    await requireQuiet(sim);
  });

  test(`${store.name}: a child's failure is thrown in the parent with its own as cause; settled children are told apart`, async (t) => {
    const sim = await simulate(t, store);
    const root = await sim.state.tasks.add({ description: "root" });
    sim.start(async (task, { spawn, all }) => {
      if (task.description === "bad") throw Object.assign(new TypeError("no such tag"), { cause: new Error("404") });
      if (task.description !== "root") return task.description;
      const one = await spawn<string>("one", { description: "good" });
      const two = await spawn("two", { description: "bad" });
      const error = await two.result().catch((thrown: { code: string; message: string; cause: Error; details: object }) => thrown);
      const settled = await all("three", [{ description: "bad" }, { description: "fine" }], { settle: true });
      return [await one.result(), error, settled.map((end: ChildEnd) => end.status), await two.settled(), await all("none", [])];
    });
    const { result } = await sim.until(root.id);
    const [good, error, statuses, settled, none] = result as [string, { code: string; details: object }, string[], object, unknown[]];
    assert.deepEqual([good, statuses, none], ["good", ["failed", "completed"], []]);
    assert.deepEqual(settled, { id: 3, status: "failed", error: { code: "TypeError", message: "no such tag", cause: "404" } });
    assert.deepEqual([error.code, error.details], ["failed", { id: 3, status: "failed", code: "TypeError", permanent: true }]);
    await requireQuiet(sim);
  });

  test(`${store.name}: cancel goes down to children of children, and stops what runs`, async (t) => {
    const sim = await simulate(t, store);
    const root = await sim.state.tasks.add({ description: "0" });
    const stopped: string[] = [];
    sim.start(async (task, { spawn, signal }) => {
      const level = Number(task.description);
      if (level < 2) return (await spawn("next", { description: String(level + 1) })).result();
      signal.addEventListener("abort", () => stopped.push(task.description));
      return Promise.race([HANG, new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))]);
    });
    await sim.untilTrue(async () => (await by(sim)("in_progress")).length === 1 && (await by(sim)("waiting")).length === 2);
    const why = await sim.state.why(root.id);
    assert.deepEqual([why.summary, why.next, why.children], ["It waits for its child task 2 (waiting).", "pawl why 2", [{ id: 2, status: "waiting" }]]);
    await sim.state.tasks.cancel(root.id, { reason: "enough" });
    assert.deepEqual(await by(sim)("cancelled"), [1, 2, 3]);
    assert.equal((await sim.state.history.of(3)).at(-1)!.reason, "task 2, its parent, was cancelled");
    await sim.untilTrue(() => stopped.length === 1);
    await requireQuiet(sim);
  });

  test(`${store.name}: a parent tried again tries again what failed below it, and keeps what was done`, async (t) => {
    const sim = await simulate(t, store);
    const root = await sim.state.tasks.add({ description: "root" });
    const runs: string[] = [];
    let broken = true;
    sim.start(async (task, { all, step }) => {
      if (task.description === "root") return all("parts", ["a", "b", "c"].map((description) => ({ description, max_attempts: 1 })));
      await step("prepare", () => void runs.push(`${task.description} prepares`));
      if (task.description === "b" && broken) throw new Error("down");
      runs.push(task.description);
      return task.description;
    });
    const failed = await sim.until(root.id);
    assert.deepEqual([failed.status, failed.attempts, failed.error!.message, failed.error!.cause], ["failed", 1, "task 3, a child, failed: down", "down"]);
    await sim.untilTrue(async () => (await sim.state.tasks.get(4)).status === "completed");
    broken = false;
    await sim.state.tasks.retry(root.id);
    const done = await sim.until(root.id);
    assert.deepEqual([done.result, runs.sort()], [["a", "b", "c"], ["a", "a prepares", "b", "b prepares", "c", "c prepares"]]);
    assert.equal((await sim.state.history.of(3)).find(({ event }) => event === "retried")!.reason, "task 1, its parent, is tried again");
    await requireQuiet(sim);
  });

  test(`${store.name}: reset gives the parent a new round with new children; the open ones of the old round are cancelled`, async (t) => {
    const sim = await simulate(t, store);
    const root = await sim.state.tasks.add({ description: "root" });
    const opened = gate();
    const first = sim.start(async (task, { spawn }) => (task.description === "root" ? (await spawn("one", { description: "child" })).result() : HANG));
    await sim.untilTrue(async () => (await by(sim)("in_progress")).join() === "2");
    await sim.state.tasks.reset(root.id);
    assert.equal((await sim.state.tasks.get(2)).status, "cancelled");
    first.die();
    opened.open();
    sim.start(async (task, { spawn }) => (task.description === "root" ? (await spawn("one", { description: "child" })).result() : task.id));
    assert.deepEqual((await sim.until(root.id)).result, 3);
    await requireQuiet(sim);
  });
}

/* ---------- one by one ---------- */

test("the first failure wakes the parent while the others go on; a caught one leaves them to it", async (t) => {
  const sim = await simulate(t);
  const root = await sim.state.tasks.add({ description: "root" });
  const slow = gate();
  sim.start(async (task, { all }) => {
    if (task.description === "root") return all("parts", [{ description: "slow" }, { description: "slow" }, { description: "bad", max_attempts: 1 }]).catch((error: Error) => error.message);
    if (task.description === "bad") throw new Error("no");
    return slow.promise;
  }, { concurrency: 4 });
  assert.equal((await sim.until(root.id)).result, "task 4, a child, failed: no");
  assert.deepEqual(await by(sim)("in_progress"), [2, 3]);
  slow.open();
  await sim.until(2);
  await sim.until(3);
  await requireQuiet(sim);
});

test("a failed child that a person tries again while its parent still waits for the others is told as it ends then", async (t) => {
  const sim = await simulate(t);
  const root = await sim.state.tasks.add({ description: "root" });
  const slow = gate();
  let broken = true;
  sim.start(async (task, { all }) => {
    if (task.description === "root") return (await all("parts", [{ description: "bad", max_attempts: 1 }, { description: "slow" }], { settle: true })).map(({ status }) => status);
    if (task.description === "bad" && broken) throw new Error("no");
    if (task.description === "slow") await slow.promise;
  }, { concurrency: 4 });
  await sim.untilTrue(async () => (await by(sim)("failed")).join() === "2");
  broken = false;
  await sim.state.tasks.retry(2);
  await sim.until(2, "completed");
  slow.open();
  assert.deepEqual((await sim.until(root.id)).result, ["completed", "completed"]);
});

test("a removed child, and one cancelled by itself, are told as such; a task with open children is not removed", async (t) => {
  const sim = await simulate(t);
  const root = await sim.state.tasks.add({ description: "root" });
  sim.start(async (task, { all }) => (task.description === "root" ? (await all("parts", [{ description: "a", queue: "nobody" }, { description: "b", queue: "nobody" }], { settle: true })).map((end) => [end.status, end.status === "completed" ? "" : end.error.message]) : null));
  await sim.until(root.id, "waiting");
  await assert.rejects(sim.state.tasks.remove(root.id), { code: "conflict", message: /its child, task 2, is pending/ });
  await sim.state.tasks.remove(2);
  await sim.state.tasks.cancel(3);
  assert.deepEqual((await sim.until(root.id)).result, [["removed", "task 2 was removed"], ["cancelled", "task 3 was cancelled"]]);
  await sim.state.tasks.remove(root.id);
});

test("the parent's deadline is the children's, and ends them with it", async (t) => {
  const sim = await simulate(t);
  const deadline_at = new Date(sim.clock.now() + 5_000).toISOString();
  const root = await sim.state.tasks.add({ description: "root", deadline_at });
  sim.start(async (task, { spawn }) => (task.description === "root" ? (await spawn("one", { description: "child", queue: "nobody" })).result() : null));
  await sim.until(root.id, "waiting");
  await sim.state.tasks.edit(2, { deadline_at: null });
  await sim.until(root.id, "failed");
  await sim.until(2, "cancelled");
  assert.equal((await sim.state.history.of(2)).at(-1)!.reason, "the deadline of task 1, its parent, passed");
});

test("what would wait in a circle, go too deep or name its own key is refused", async (t) => {
  const sim = await simulate(t);
  const root = await sim.state.tasks.add({ description: "root" });
  const after = await sim.state.tasks.add({ description: "after", depends_on: [root.id], queue: "nobody" });
  const refused: unknown[] = [];
  sim.start(async (task, { spawn, all }) => {
    const no = async (name: string, fields: object) => void refused.push(await spawn(name, { description: "x", queue: "nobody", ...fields }).then(() => "spawned", (error: { code: string }) => error.code));
    await no("a", { depends_on: [task.id] });
    await no("b", { depends_on: [after.id] });
    await no("c", { key: "mine" });
    await no("d", { parent_id: 7 });
    await no("e", { depends_on: [999] });
    await no("f", { description: "" });
    await all("g", Array.from({ length: LIMITS.children + 1 }, () => ({ description: "x" }))).catch((error: { code: string }) => refused.push(error.code));
    const good = await spawn("h", { description: "x", queue: "nobody" });
    await (await spawn("i", { description: "y", queue: "nobody", depends_on: [good.id] })).result();
  });
  await sim.until(root.id, "waiting");
  assert.deepEqual(refused, ["usage", "usage", "usage", "usage", "not_found", "usage", "usage"]);
  await assert.rejects(sim.state.tasks.edit(3, { depends_on: [root.id] }), { code: "usage", message: /circle/ });
  const deep = await sim.state.tasks.add({ description: "deep", queue: "deep" });
  let last = deep.id;
  for (let i = 0; i < LIMITS.childDepth; i++) last = (await sim.state.tasks.add({ description: "deeper", queue: "nobody", parent_id: last })).id;
  await assert.rejects(sim.state.tasks.add({ description: "too deep", parent_id: last }), { code: "usage", message: /deep/ });
  await assert.rejects(sim.state.tasks.add({ description: "x", parent_id: 9_999 }), { code: "not_found" });
  await sim.state.tasks.cancel(deep.id);
  await assert.rejects(sim.state.tasks.add({ description: "x", parent_id: deep.id }), { code: "illegal_transition" });
  assert.equal((await sim.state.tasks.get(last)).status, "cancelled", "children by hand are cancelled as well");
});

test("a field that a child's task does not have is refused, and said so", async (t) => {
  const sim = await simulate(t);
  const said: string[] = [];
  await sim.state.tasks.add({ description: "root", max_attempts: 1 });
  sim.start(async (_, { all, spawn }) => {
    await spawn("one", { description: "x", max_attempt: 1 } as never).catch((error: { code: string; message: string; next: string }) => said.push(`${error.code} ${error.message} ${error.next}`));
    await all("many", [{ description: "x" }, { description: "y", tag: "z" } as never]);
  });
  await sim.until(1, "failed");
  assert.match(said[0]!, /^usage A child's task has no "max_attempt"\. It has: description, .*max_attempts/);
  assert.match((await sim.state.tasks.get(1)).error!.message, /no "tag"/);
});

test("a list that has another length on a replay is refused, not matched by luck", async (t) => {
  const sim = await simulate(t);
  const root = await sim.state.tasks.add({ description: "root" });
  let size = 2;
  sim.start(async (task, { all }) => (task.description === "root" ? all("parts", Array.from({ length: size }, () => ({ description: "x", queue: "nobody" }))) : null));
  await sim.until(root.id, "waiting");
  size = 1;
  for (const id of [2, 3]) await sim.state.tasks.complete(id, null);
  assert.deepEqual((await sim.until(root.id)).error!.code, "ambiguous_step");
});

/* ---------- crashes ---------- */

/** No wait is open, nothing is still to be told, every history is whole. */
async function requireQuiet(sim: Simulation): Promise<void> {
  const { store } = sim.state.committer;
  assert.deepEqual((await store.list("wait")).filter((wait) => wait["status"] === "open"), []);
  for (const task of await sim.state.tasks.list()) {
    assert.equal(task.children_due ?? null, null, `task ${task.id} still has something to tell its children`);
    assert.equal(await sim.state.history.verify(task.id), null);
  }
}

const deathsUpTo = (writes: number): Death[] => Array.from({ length: writes }, (_, i) => [{ write: i + 1, when: "before" as const }, { write: i + 1, when: "after" as const }]).flat();

test("a worker killed before or after any of its writes: each task of the tree is there once and ends once", async (t) => {
  let deaths = 0;
  for (const death of deathsUpTo(24)) {
    const sim = await simulate(t);
    const root = await sim.state.tasks.add({ description: "r", input: 2 });
    const first = sim.start(tree, { death, concurrency: 2 });
    await sim.untilTrue(async () => first.dead || (await sim.state.tasks.get(root.id)).status === "completed");
    if (first.dead) deaths++;
    sim.start(tree, { concurrency: 2 });
    assert.deepEqual((await sim.until(root.id)).status, "completed", `died ${death.when} write ${death.write}`);
    const tasks = await sim.state.tasks.list();
    assert.deepEqual(tasks.map(({ description }) => description).sort(), ["r", "r.1", "r.1.1", "r.1.2", "r.2", "r.2.1", "r.2.2"]);
    await requireQuiet(sim);
  }
  assert.ok(deaths >= 40, `only ${deaths} deaths`);
});

for (const [what, act, expected] of [
  ["cancels", (home: ReturnType<typeof mortalHome>) => cancelTask(home.home.committer, 1, { actor: "ann" }), "cancelled"],
  ["resets", (home: ReturnType<typeof mortalHome>) => resetTask(home.home.committer, 1, { actor: "ann" }), "completed"],
] as const) {
  test(`who ${what} a parent killed before or after any write: its children hear of it all the same`, async (t) => {
    let deaths = 0;
    for (const death of deathsUpTo(6)) {
      const sim = await simulate(t);
      const root = await sim.state.tasks.add({ description: "0" });
      let go = false;
      const program = async (task: Task, { all }: TaskContext): Promise<unknown> => (Number(task.description) < 2 ? all("next", [1, 2].map(() => ({ description: String(Number(task.description) + 1) }))) : go ? task.id : HANG);
      const first = sim.start(program, { concurrency: 10 });
      await sim.untilTrue(async () => (await by(sim)("in_progress")).length === 4);
      first.die();
      go = true;
      const person = mortalHome(sim.state, sim.clock, death);
      act(person).catch(() => undefined);
      await sim.clock.advance(10);
      if (person.dead) deaths++;
      else if (death.when === "before") break;
      person.die();
      if (!(await sim.events(1)).some((event) => event === "cancelled" || event === "reset")) {
        // It died before its word was kept: a person says it again.
        await (expected === "cancelled" ? sim.state.tasks.cancel(1) : sim.state.tasks.reset(1));
      }
      sim.start(program, { concurrency: 10 });
      assert.equal((await sim.until(root.id)).status, expected);
      await sim.untilTrue(async () => (await sim.state.tasks.list()).every(({ status }) => status === "completed" || status === "cancelled"));
      assert.equal((await by(sim)("cancelled")).length, expected === "cancelled" ? 7 : 6, `died ${death.when} write ${death.write}`);
      await requireQuiet(sim);
    }
    assert.ok(deaths >= 5, `only ${deaths} deaths`);
  });
}

test("who retries a parent killed before or after any write: what failed below it is tried again once", async (t) => {
  let deaths = 0;
  for (const death of deathsUpTo(6)) {
    const sim = await simulate(t);
    const root = await sim.state.tasks.add({ description: "root" });
    let broken = true;
    const runs: string[] = [];
    const program = async (task: Task, { all }: TaskContext): Promise<unknown> => {
      if (task.description === "root") return all("parts", ["a", "b"].map((description) => ({ description, max_attempts: 1 })));
      if (task.description === "b" && broken) throw new Error("down");
      runs.push(task.description);
      return task.description;
    };
    const first = sim.start(program);
    await sim.until(root.id, "failed");
    first.die();
    broken = false;
    const person = mortalHome(sim.state, sim.clock, death);
    retryFailed(person.home.committer, 1, { actor: "ann" }).catch(() => undefined);
    await sim.clock.advance(10);
    if (person.dead) deaths++;
    person.die();
    if ((await sim.state.tasks.get(1)).status === "failed") await sim.state.tasks.retry(1);
    sim.start(program);
    assert.deepEqual((await sim.until(root.id)).result, ["a", "b"], `died ${death.when} write ${death.write}`);
    assert.deepEqual(runs, ["a", "b"]);
    await requireQuiet(sim);
  }
  assert.ok(deaths >= 4, `only ${deaths} deaths`);
});

test("a worker that claims a retried parent before anybody brought that to its children brings it to them first", async (t) => {
  const sim = await simulate(t);
  const root = await sim.state.tasks.add({ description: "root" });
  let broken = true;
  sim.start(async (task, { spawn }) => {
    if (task.description === "root") return (await spawn("one", { description: "child", max_attempts: 1 })).result();
    if (broken) throw new Error("down");
    return "up";
  });
  await sim.until(root.id, "failed");
  broken = false;
  const person = mortalHome(sim.state, sim.clock, { write: 1, when: "after" });
  retryFailed(person.home.committer, 1, { actor: "ann" }).catch(() => undefined);
  await sim.untilTrue(async () => (await sim.events(1)).includes("retried"));
  assert.ok(person.dead);
  assert.equal((await sim.until(root.id)).result, "up");
});

for (const name of LASTING) {
  test(`${name}: a tree worked by processes that are killed again and again: each task once, the parent told once`, { timeout: 60_000 }, async (t) => {
    const at = await statePlace(t, name);
    const state = await at.open();
    const root = await state.tasks.add({ description: "r", input: 2, max_attempts: 50 });
    const children = new Set<ChildProcess>();
    t.after(() => children.forEach((child) => child.kill("SIGKILL")));
    const start = () => {
      t.signal.throwIfAborted();
      const child = spawn(process.execPath, [join(import.meta.dirname, "event-child.ts"), at.url, "tree"], { stdio: ["ignore", "pipe", "inherit"] });
      children.add(child);
      return child;
    };
    // Killed after its first words, then a few tasks later each time: somewhere between a spawn, an end and a wake-up.
    for (let lines = 2; lines <= 4; lines++) {
      const child = start();
      let said = 0;
      child.stdout.on("data", (text: Buffer) => (said += text.toString().split("\n").length - 1));
      await eventually(async () => said >= lines || (await state.tasks.get(root.id)).status === "completed", `${lines} lines`, 20_000);
      child.kill("SIGKILL");
      await once(child, "close");
    }
    const last = start();
    await eventually(async () => (await state.tasks.get(root.id)).status === "completed", "the tree is done", 45_000);
    const leaves = [0, 1, 2].flatMap((i) => [0, 1, 2].map((k) => `r.${i}.${k}`));
    assert.deepEqual((await state.tasks.get(root.id)).result, leaves);
    const tasks = await state.tasks.list();
    assert.deepEqual(tasks.map(({ description, status }) => [description, status]).sort(), ["r", "r.0", "r.1", "r.2", ...leaves].sort().map((one) => [one, "completed"]));
    for (const { id } of tasks) assert.equal((await state.history.of(id)).filter(({ event }) => event === "completed").length, 1);
    assert.deepEqual((await state.committer.store.list("wait")).filter((wait) => wait["status"] === "open"), []);
    last.kill("SIGKILL");
    await once(last, "close");
  });
}

test("the doctor names a parent that was not told, and children that were not", async (t) => {
  const sim = await simulate(t);
  await sim.state.tasks.add({ description: "root" });
  const first = sim.start(async (task, { spawn, waitFor }) => (task.description === "root" ? Promise.race([(await spawn("one", { description: "child", queue: "nobody" })).result(), waitFor("go")]) : null));
  await sim.until(1, "waiting");
  first.die();
  const { committer } = sim.state;
  const untold = async () => (await examine(committer.store, { deep: true, now: sim.clock.now() })).findings.filter(({ code }) => code === "untold").map(({ record, message }) => `${record}: ${message.slice(0, 30)}`);
  assert.deepEqual(await untold(), []);
  await committer.commit({ puts: [{ kind: "task", key: 2, set: { status: "cancelled" } }, { kind: "task", key: 1, set: { children_due: "close" } }, { kind: "event", record: { name: "go", status: "kept", emitted_by: "ann", created_at: "2026-01-01T00:00:00.000Z" } }] });
  assert.deepEqual((await untold()).sort(), ["task 1: It is waiting, and its childre", "wait go of task 1: It waits for the event \"go\", a", "wait one of task 1: It waits for task 2, a child t"]);
});

for (const name of LASTING) {
  test(`${name}: by the real clock: results and failures come up, cancel and another try go down`, async (t) => {
    const at = await statePlace(t, name);
    const [state, person] = [await at.open(), await at.open()];
    let broken = true;
    state.work({
      concurrency: 4,
      execute: async (task, { all, signal }) => {
        if (task.description === "root") return all("parts", ["a", "b", "inner"].map((description) => ({ description, max_attempts: 1 })));
        if (task.description === "inner") return all("parts", ["c", "d"].map((description) => ({ description })));
        if (task.description === "stuck") return all("parts", [{ description: "hang" }, { description: "later", queue: "nobody" }]);
        if (task.description === "hang") return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
        if (task.description === "b" && broken) throw new Error("down");
        return task.description;
      },
    });
    const is = (id: number, status: string) => eventually(async () => (await person.tasks.find(id))?.status === status, `task ${id} is ${status}`, 20_000);
    const root = await person.tasks.add({ description: "root" });
    await is(root.id, "failed");
    broken = false;
    await person.tasks.retry(root.id);
    await is(root.id, "completed");
    assert.deepEqual((await person.tasks.get(root.id)).result, ["a", "b", ["c", "d"]]);
    const stuck = await person.tasks.add({ description: "stuck" });
    await eventually(async () => (await person.tasks.list({ status: "in_progress" })).some(({ description }) => description === "hang"), "it hangs", 20_000);
    await person.tasks.cancel(stuck.id);
    assert.deepEqual((await person.tasks.list()).filter(({ parent_id, id }) => id === stuck.id || parent_id === stuck.id).map(({ status }) => status), ["cancelled", "cancelled", "cancelled"]);
    assert.deepEqual((await state.committer.store.list("wait")).filter((wait) => wait["status"] === "open"), []);
  });
}

// Random trees of children, whose tasks fail, wait for events and sleep, whose workers die at random writes: every task of the
// tree is there once and ends as the tree says, and no wait is left open. With a person who cancels somewhere, all of it ends.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PermanentError } from "../../src/core/retry.ts";
import type { Task } from "../../src/core/records.ts";
import type { ChildEnd, TaskContext } from "../../src/worker/context.ts";
import { simulate, type Death } from "../simulation.ts";

/** How a task starts and waits for its children, and how it fares itself. */
type Node = {
  readonly how: "all" | "settle" | "handles" | "sequence";
  /** So often an attempt fails before one does not; then for good, when it is doomed. */
  readonly fails: number;
  readonly doomed: boolean;
  readonly waits: "sleep" | "event" | "none";
  readonly children: readonly Node[];
};

const node = fc.letrec<{ node: Node }>((tie) => ({
  node: fc.record({
    how: fc.constantFrom("all" as const, "settle" as const, "handles" as const, "sequence" as const),
    fails: fc.nat({ max: 2 }),
    doomed: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    waits: fc.constantFrom("sleep" as const, "event" as const, "none" as const, "none" as const),
    children: fc.oneof({ maxDepth: 3, depthSize: "small", withCrossShrink: true }, fc.constant([] as readonly Node[]), fc.array(tie("node"), { maxLength: 3 })),
  }),
})).node;

const death = fc.record({ write: fc.integer({ min: 1, max: 40 }), when: fc.constantFrom("before" as const, "after" as const) });

/** Whether a task completes: its own doom, and that of the children it insists on. */
const completes = (one: Node): boolean => !one.doomed && (one.how === "settle" || one.children.every(completes));

/** The paths of the tasks that are started: in sequence none after one that did not complete. */
function pathsOf(one: Node, path: string): string[] {
  const first = one.how === "sequence" ? one.children.findIndex((child) => !completes(child)) : -1;
  const started = first === -1 ? one.children : one.children.slice(0, first + 1);
  return [path, ...started.flatMap((child, i) => pathsOf(child, `${path}.${i}`))];
}

function program(failed: Map<string, number>) {
  return async (task: Task, context: TaskContext): Promise<unknown> => {
    const one = task.input as unknown as Node;
    const path = task.description;
    await context.step("begin", () => path);
    if (one.waits === "sleep") await context.sleep("nap", 700);
    if (one.waits === "event") assert.ok((await context.waitFor("go")).arrived);
    const ends = await run(one, path, context);
    await context.step("finish", () => path);
    const times = failed.get(path) ?? 0;
    failed.set(path, times + 1);
    if (times < one.fails) throw new Error(`failure ${times + 1} of ${path}`);
    if (one.doomed) throw new PermanentError(`${path} is doomed`);
    return [path, ends];
  };
}

async function run(one: Node, path: string, { all, spawn, scope }: TaskContext): Promise<unknown> {
  const tasks = one.children.map((child, i) => ({ description: `${path}.${i}`, input: child, max_attempts: 100 }));
  switch (one.how) {
    case "all":
      return all("children", tasks);
    case "settle":
      return (await all("children", tasks, { settle: true })).map((end: ChildEnd) => (end.status === "completed" ? end.result : end.status));
    case "handles": {
      const handles = await Promise.all(tasks.map((task, i) => spawn(`child${i}`, task)));
      return Promise.all(handles.map((handle) => handle.result()));
    }
    case "sequence": {
      const results: unknown[] = [];
      for (const [i, task] of tasks.entries()) results.push(await scope(`turn${i}`, async (s) => (await s.spawn("child", task)).result()));
      return results;
    }
  }
}

/** What a task that completes gives. */
const resultOf = (one: Node, path: string): unknown => [path, one.children.map((child, i) => (completes(child) ? resultOf(child, `${path}.${i}`) : "failed"))];

const RUNS = Number(process.env["PAWL_TEST_RUNS"] ?? 60);
const OVER = new Set(["completed", "failed", "cancelled"]);

/** Works the tree with one worker after another, the last of which lives; `meanwhile` is called at every turn. */
async function work(t: Parameters<typeof simulate>[0], root: Node, deaths: readonly Death[], meanwhile: (turn: number, state: Awaited<ReturnType<typeof simulate>>["state"]) => unknown) {
  const sim = await simulate(t);
  const { state } = sim;
  const task = await state.tasks.add({ description: "r", input: root, max_attempts: 100 });
  const failed = new Map<string, number>();
  const left = [...deaths];
  let worker = sim.start(program(failed), { concurrency: 3, ...(left.length > 0 ? { death: left.shift()! } : {}) });
  let turn = 0;
  await sim.untilTrue(async () => {
    if (worker.dead) worker = sim.start(program(failed), { concurrency: 3, ...(left.length > 0 ? { death: left.shift()! } : {}) });
    await meanwhile(turn++, state);
    const waiting = (await state.committer.store.list("wait", { index: "event", equals: { event: "go" } })).length;
    if (waiting > 0 && turn % 3 === 0) await state.events.emit("go", turn);
    return (await state.tasks.list()).every(({ status }) => OVER.has(status));
  }, "the end of the tree");
  await sim.clock.advance(3_000);
  return { sim, state, id: task.id };
}

async function requireQuiet(state: Awaited<ReturnType<typeof simulate>>["state"]): Promise<void> {
  assert.deepEqual((await state.committer.store.list("wait")).filter((wait) => wait["status"] === "open"), []);
  for (const task of await state.tasks.list()) {
    assert.equal(task.children_due ?? null, null);
    assert.equal(await state.history.verify(task.id), null);
  }
  assert.deepEqual(await state.events.list(), [], "no event was emitted that nobody waited for");
}

test("a random tree ends as it must, whatever dies on the way", async (t) => {
  await fc.assert(
    fc.asyncProperty(node, fc.array(death, { maxLength: 4 }), async (root, deaths) => {
      const { state, id } = await work(t, root, deaths, () => undefined);
      const ended = await state.tasks.get(id);
      assert.deepEqual([ended.status, ended.result], completes(root) ? ["completed", resultOf(root, "r")] : ["failed", null]);
      const tasks = await state.tasks.list();
      assert.deepEqual(tasks.map(({ description }) => description).sort(), pathsOf(root, "r").sort(), "each is there once");
      for (const task of tasks) assert.equal(task.status, completes(task.input as unknown as Node) ? "completed" : "failed", task.description);
      await requireQuiet(state);
    }),
    { numRuns: RUNS },
  );
});

test("a random tree that somebody cancels somewhere ends everywhere below", async (t) => {
  await fc.assert(
    fc.asyncProperty(node, fc.array(death, { maxLength: 3 }), fc.nat({ max: 12 }), fc.nat({ max: 20 }), async (root, deaths, at, which) => {
      let cancelled = 0;
      const { state } = await work(t, root, deaths, async (turn, of) => {
        if (turn !== at) return;
        const tasks = await of.tasks.list();
        const target = tasks[which % tasks.length]!;
        if (!OVER.has(target.status)) cancelled = (await of.tasks.cancel(target.id)).id;
      });
      const tasks = await state.tasks.list();
      const below = (id: number): number[] => tasks.filter((task) => task.parent_id === id).flatMap((task) => [task.id, ...below(task.id)]);
      if (cancelled > 0) for (const id of below(cancelled)) assert.ok(OVER.has(tasks.find((task) => task.id === id)!.status));
      assert.equal(new Set(tasks.map(({ description }) => description)).size, tasks.length, "each is there once");
      assert.deepEqual((await state.committer.store.list("wait")).filter((wait) => wait["status"] === "open"), []);
    }),
    { numRuns: Math.ceil(RUNS / 2) },
  );
});

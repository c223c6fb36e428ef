// Every row of docs/coming-from.md, run against a real JSON state. Invariant: a row's code stands word for word in its test,
// a row without a test fails, and so does a test without a row.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { isPawlError, openState, retry, withFileLock, writeFileAtomic, type State, type Task } from "../../src/index.ts";
import { place } from "../pawl.ts";

const PAGE = readFileSync(join(import.meta.dirname, "../../docs/coming-from.md"), "utf8");

type Row = { readonly section: string; readonly name: string; readonly code: string | null };

/** The rows of all tables: the first cell names it, the second holds our code. */
function rowsOf(page: string): Row[] {
  let section = "";
  return page.split("\n").flatMap((line) => {
    if (line.startsWith("## ")) section = line.slice(3);
    const cells = /^\| (.*) \|$/.exec(line)?.[1]?.split(" | ");
    if (!cells || cells[0] === "theirs" || cells[0]!.startsWith("---")) return [];
    return [{ section, name: `${section}: ${cells[0]!.replaceAll("`", "")}`, code: /^`(.*)`$/.exec(cells[1]!)?.[1] ?? null }];
  });
}

type Check = (state: State, task: Task) => Promise<unknown>;
const LAB = "The StateManager of Lab 02";
const MACHINE = "The state machine loop";
const COURSE = "executeTask, executeWithRetry, resumeTask";
const BATCH = "The BatchStateManager";
const same = (actual: unknown, expected: unknown): void => assert.deepEqual(actual, expected);
const statusOf = async (state: State, id: number | string) => (await state.tasks.get(id)).status;

/** What another process sees: a second handle, opened to read. */
async function seenElsewhere<T>(state: State, look: (other: State) => Promise<T>): Promise<T> {
  const other = await openState(state.location, { readOnly: true });
  return look(other).finally(() => other.close());
}

/** Runs one task to its end with a function of its own. */
async function within(state: State, run: Parameters<State["work"]>[0]["execute"]): Promise<void> {
  const worker = state.work({ execute: run, backoff: { baseMs: 1 } });
  await worker.idle();
  await worker.stop();
}

// The task "Explain recursion" (1) is there, and the folder is the current one.
const checks: { readonly [name: string]: Check } = {
  [`${LAB}: StateManager("state.json")`]: async (given) => {
    const state = await openState("state.json");
    same([state.location, existsSync("state.json")], [given.location, true]);
    await state.close();
  },
  [`${LAB}: state.tasks`]: async (state) => same((await state.tasks.list()).map((task) => task.id), [1]),
  [`${LAB}: save()`]: async (state) => {
    const added = await state.tasks.add({ description: "seen at once" });
    same(await seenElsewhere(state, async (other) => (await other.tasks.get(added.id)).description), "seen at once");
  },
  [`${LAB}: add_task(description)`]: async (state) => {
    const description = "Write a haiku";
    const task = await state.tasks.add({ description });
    same([task.id, task.status, task.result], [2, "pending", null]);
  },
  [`${LAB}: load_from_file("tasks.txt")`]: async (state) => {
    writeFileSync("tasks.txt", "one\n\n  two  \n");
    const { batch } = await state.batches.import("tasks.txt");
    same((await state.tasks.list({ batch_id: batch.id })).map((task) => task.description), ["one", "two"]);
    writeFileSync("tasks.txt", "one\n\n  two  \nthree\n");
    same((await state.batches.import("tasks.txt")).report, { added: 1, known: 2, gone: 0, back: 0 });
  },
  [`${LAB}: get_pending()`]: async (state) => {
    await state.tasks.add({ description: "two" });
    await state.tasks.complete(1, "done");
    const pending = await state.tasks.list({ status: "pending" });
    same(pending.map((task) => task.description), ["two"]);
  },
  [`${LAB}: get_next()`]: async (state) => {
    const [next] = await state.tasks.next();
    same([next?.id, await statusOf(state, 1)], [1, "pending"]);
    const batch = await state.batches.create(["x"]);
    same((await state.tasks.next("default", batch.id))[0]?.description, "x");
  },
  [`${LAB}: has_pending()`]: async (state) => {
    assert.ok(((await state.tasks.count()).pending ?? 0) > 0);
    await state.tasks.complete(1, null);
    assert.ok(!(((await state.tasks.count()).pending ?? 0) > 0));
  },
  [`${LAB}: mark_in_progress(task_id)`]: async (state) => {
    const claim = await state.tasks.claim();
    same([claim?.task.id, await statusOf(state, 1), await state.tasks.claim()], [1, "in_progress", null]);
  },
  [`${LAB}: mark_complete(task_id, result)`]: async (state) => {
    const claim = (await state.tasks.claim())!;
    const result = "a function that calls itself";
    await assert.rejects(state.tasks.complete(1, result), (error) => isPawlError(error, "conflict"));
    await state.tasks.complete(claim.task.id, result, { token: claim.token });
    same([(await state.tasks.get(1)).status, (await state.tasks.get(1)).result], ["completed", result]);
    await state.tasks.reset(1);
    await assert.rejects(state.tasks.complete(1, result, { token: claim.token }), (error) => isPawlError(error, "lease_lost"));
  },
  [`${LAB}: get_stats()`]: async (state) => {
    await state.tasks.addAll([{ description: "two" }, { description: "three" }]);
    await state.tasks.complete(1, "done");
    const { total, completed, pending, in_progress, progress_percent } = (await state.status()).tasks;
    same({ total, completed, pending, in_progress, progress_percent }, { total: 3, completed: 1, pending: 2, in_progress: 0, progress_percent: 33 });
  },
  [`${LAB}: reset_all()`]: async (state) => {
    await state.tasks.complete(1, "done");
    same(await state.tasks.resetAll(), 1);
    same([await statusOf(state, 1), (await state.tasks.get(1)).result, (await state.history.of(1)).map((t) => t.event)], ["pending", null, ["created", "completed", "reset"]]);
  },
  [`${LAB}: jq '.tasks[1].status = "pending"'`]: async (state) => {
    await state.tasks.add({ description: "stuck" });
    await state.tasks.fail(2, "it hung");
    await state.tasks.reset(2);
    same([await statusOf(state, 2), (await state.tasks.get(2)).error], ["pending", null]);
  },
  [`${LAB}: started_at and completed_at`]: async (state, task) => {
    await within(state, () => "done");
    const { started_at, completed_at } = await state.tasks.get(task.id);
    for (const at of [started_at, completed_at]) assert.match(at!, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  },
  [`${LAB}: while state.has_pending(): …`]: async (state) => {
    await state.tasks.addAll([{ description: "two" }, { description: "three" }]);
    const complete_task = (description: string) => `about ${description}`;
    const worker = state.work({ execute: (task) => complete_task(task.description) });
    await worker.idle();
    same((await state.tasks.list()).map((task) => task.result), ["about Explain recursion", "about two", "about three"]);
  },
  [`${MACHINE}: has_work(task_store)`]: async (state) => {
    assert.ok((await state.tasks.next()).length > 0);
    await state.tasks.cancel(1);
    assert.ok(!((await state.tasks.next()).length > 0));
  },
  [`${MACHINE}: get_next_task(task_store)`]: async (state) => {
    const [task] = await state.tasks.next();
    same(task?.id, 1);
  },
  [`${MACHINE}: start_task(task)`]: async (state) => {
    const claim = await state.tasks.claim();
    same([claim?.task.status, claim?.task.attempts], ["in_progress", 1]);
  },
  [`${MACHINE}: a handler for each state`]: async (state) => {
    const task = await state.tasks.add({ description: "judged", verifier: "function" });
    await state.tasks.cancel(1);
    const seen: string[] = [];
    const execute = (given: Task) => (seen.push(given.status), "good");
    const verify = (given: Task) => (seen.push(given.status), true);
    const worker = state.work({ execute, verify });
    await worker.idle();
    same([seen, await statusOf(state, task.id)], [["in_progress", "review"], "completed"]);
  },
  [`${MACHINE}: verify(task.result) says no`]: async (state) => {
    await state.tasks.cancel(1);
    const better = await state.tasks.add({ description: "gets better", verifier: "function" });
    const never = await state.tasks.add({ description: "never", verifier: "function", max_attempts: 2 });
    const verify = (_: Task, result: unknown) => ({ passed: result === "good", feedback: "make it good" });
    const worker = state.work({ execute: (task) => (task.id === better.id && task.feedback === "make it good" ? "good" : "bad"), verify });
    await worker.idle();
    same([await statusOf(state, better.id), (await state.tasks.get(better.id)).attempts], ["completed", 2]);
    same([await statusOf(state, never.id), (await state.tasks.get(never.id)).attempts], ["failed", 2]);
  },
  [`${MACHINE}: FAILED → PENDING (retry)`]: async (state, task) => {
    await state.tasks.fail(1, "no luck");
    await state.tasks.retry(task.id);
    same([await statusOf(state, 1), (await state.tasks.get(1)).attempts], ["pending", 0]);
  },
  [`${MACHINE}: save_task(task)`]: async (state) => {
    await state.tasks.edit(1, { priority: 1 });
    same(await seenElsewhere(state, async (other) => (await other.tasks.get(1)).priority), 1);
  },
  [`${MACHINE}: save_state / load_state`]: async () => {
    const state = await openState("tasks.json");
    await state.tasks.add({ description: "kept" });
    await state.close();
    const again = await openState("tasks.json");
    same((await again.tasks.list()).map((task) => task.description), ["kept"]);
    await again.close();
  },
  [`${MACHINE}: an audit trail`]: async (state, task) => {
    await state.tasks.cancel(1, { reason: "no longer wanted" });
    const history = await state.history.of(task.id);
    same(history.map((t) => [t.event, t.from_status, t.to_status, t.actor, t.reason]), [["created", null, "pending", "tester", null], ["cancelled", "pending", "cancelled", "tester", "no longer wanted"]]);
    same(await state.history.verify(1), null);
  },
  [`${MACHINE}: summarize(task_store)`]: async (state) => {
    await state.tasks.complete(1, "done");
    const { completed, failed, waiting } = (await state.status()).tasks;
    same([completed, failed, waiting], [1, 0, 0]);
  },
  [`${COURSE}: saveTask(task)`]: async (state) => {
    const first = await state.tasks.add({ key: "task-1", description: "Fix the disk" });
    same((await state.tasks.add({ key: "task-1", description: "Fix the disk" })).id, first.id);
  },
  [`${COURSE}: getTask(id)`]: async (state) => {
    same(await state.tasks.find("task-1"), null);
    await state.tasks.add({ key: "task-1", description: "Fix the disk" });
    same((await state.tasks.find("task-1"))?.description, "Fix the disk");
  },
  [`${COURSE}: task not found: ID`]: async (state) => {
    const missing = async () => await state.tasks.get("task-9");
    await assert.rejects(missing, (error) => isPawlError(error, "not_found") && error.message === "task not found: task-9");
  },
  [`${COURSE}: executeTask(id)`]: async (state) => {
    await state.tasks.add({ key: "task-1", description: "charge" });
    let effects = 0;
    const doWork = async () => ({ receipt: ++effects });
    const once = async () => await state.tasks.executeOnce("task-1", doWork);
    same([...(await Promise.all([once(), once()])), await once()], [{ receipt: 1 }, { receipt: 1 }, { receipt: 1 }]);
  },
  [`${COURSE}: executeWithRetry(fn, 3)`]: async () => {
    let calls = 0;
    const fn = () => (calls++, "done");
    same([await retry(fn, { tries: 3 }), calls], ["done", 1]);
    const delays: number[] = [];
    const clock = { now: () => 0, monotonic: () => 0, timer: (ms: number, fire: () => void) => (setImmediate(fire), () => void ms) };
    await assert.rejects(retry(() => Promise.reject(new Error("down")), { tries: 4, jitter: false, clock, onRetry: (_, __, ms) => delays.push(ms) }));
    same(delays, [1_000, 2_000, 4_000]);
  },
  [`${COURSE}: failed after N retries: …`]: async () => {
    const last = new Error("no route");
    const fn = () => Promise.reject(last);
    const failing = async () => await retry(fn, { tries: 2, baseMs: 1 });
    await assert.rejects(failing, (error) => isPawlError(error, "failed") && error.message === "failed after 2 retries: no route" && error.cause === last);
  },
  [`${COURSE}: executeToolWithRetry(toolCall)`]: async (state) => {
    let calls = 0;
    const toolCall = "check_disk";
    const executeTool = (call: string) => (++calls < 2 ? Promise.reject(new Error("busy")) : Promise.resolve(`${call}: 95%`));
    await within(state, async (_, { step }) => await step("check_disk", { retry: { tries: 3 } }, () => executeTool(toolCall)));
    same([(await state.tasks.get(1)).result, (await state.tasks.get(1)).attempts, calls], ["check_disk: 95%", 1, 2]);
  },
  [`${COURSE}: runAgentWithDeadline(ctx, …)`]: async (state) => {
    await state.tasks.cancel(1);
    const deadline_at = new Date(Date.now() + 200).toISOString();
    const task = await state.tasks.add({ description: "Deploy", deadline_at });
    await within(state, (_, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error))));
    same([await statusOf(state, task.id), (await state.tasks.get(task.id)).error?.message], ["failed", "deadline exceeded"]);
  },
  [`${COURSE}: a deadline for each step`]: async (state) => {
    await state.tasks.edit(1, { max_attempts: 1 });
    const call = (signal: AbortSignal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
    await within(state, async (_, { step }) => await step("call", { timeoutMs: 30 }, ({ signal }) => call(signal)));
    assert.match((await state.tasks.get(1)).error!.message, /"call" took longer than 30 ms/);
  },
  [`${COURSE}: resumeTask(taskID)`]: async (state) => {
    await state.tasks.add({ key: "task-1", description: "Fix the disk" });
    await state.tasks.fail("task-1", "rebooted");
    if ((await state.tasks.get("task-1")).status === "failed") await state.tasks.retry("task-1");
    same(await state.tasks.executeOnce("task-1", () => "fixed"), "fixed");
    same(await state.tasks.executeOnce("task-1", () => "again"), "fixed");
  },
  [`${COURSE}: "state": "running", user_input`]: async (state) => {
    writeFileSync("tasks.json", JSON.stringify([{ id: "task-1", user_input: "Fix it", state: "running", created_at: "x" }, { id: "task-2", user_input: "Deploy", state: "completed", result: "ok" }]));
    await state.batches.import("tasks.json");
    const [first, second] = [await state.tasks.get("task-1"), await state.tasks.get("task-2")];
    same([first.description, first.status, second.status, second.result], ["Fix it", "pending", "completed", "ok"]);
  },
  [`${BATCH}: BatchStateManager.create([…])`]: async (state) => {
    const batch = await state.batches.create(["feat1", "feat2", "feat3"]);
    same((await batch.summary()).total, 3);
  },
  [`${BATCH}: manager.batch_id`]: async (state) => {
    const batch = await state.batches.create(["feat1"]);
    assert.match(batch.id, /^batch-\d{8}-\d{6}$/);
  },
  [`${BATCH}: BatchStateManager.load(batch_id)`]: async (state) => {
    const { id } = await state.batches.create(["feat1"]);
    const batch = await state.batches.load(id);
    same(batch.id, id);
    await assert.rejects(state.batches.load("batch-none"), (error) => isPawlError(error, "not_found"));
  },
  [`${BATCH}: manager.features`]: async (state) => {
    const batch = await state.batches.create(["feat1", "feat2"]);
    const features = (await batch.items()).map((item) => item.name);
    same(features, ["feat1", "feat2"]);
  },
  [`${BATCH}: get_next_feature()`]: async (state) => {
    const batch = await state.batches.create(["feat1", "feat2", "feat3", "feat4"]);
    await Promise.all([batch.complete("feat1"), batch.fail("feat2", "no"), batch.skip("feat3", "no")]);
    const next = await batch.next();
    same(next?.name, "feat4");
    await batch.complete("feat4");
    same(await batch.next(), null);
  },
  [`${BATCH}: mark_completed(feature)`]: async (state) => {
    const batch = await state.batches.create(["feat1"]);
    const task = await batch.complete("feat1", { files: 3 });
    same([task.status, task.result], ["completed", { files: 3 }]);
  },
  [`${BATCH}: mark_failed(feature, error)`]: async (state) => {
    const batch = await state.batches.create(["feat1", "feat2"]);
    const task = await batch.fail("feat2", "the tests fail");
    same([task.status, task.error?.message], ["failed", "the tests fail"]);
    same((await state.tasks.retry(task.id)).status, "pending");
  },
  [`${BATCH}: skipped features`]: async (state) => {
    const batch = await state.batches.create(["feat3"]);
    same((await batch.skip("feat3", "not this week")).status, "cancelled");
  },
  [`${BATCH}: context_token_estimate`]: async (state) => {
    const batch = await state.batches.create(["feat1"]);
    await batch.recordTokens(90_000);
    await batch.recordTokens(1);
    same((await state.batches.get(batch.id)).tokens, 90_001);
  },
  [`${BATCH}: should_clear_context()`]: async (state) => {
    const batch = await state.batches.create(["feat1"]);
    await batch.recordTokens(149_999);
    same(await batch.shouldClearContext(), false);
    await batch.recordTokens(1);
    same(await batch.shouldClearContext(), true);
  },
  [`${BATCH}: record_context_clear()`]: async (state) => {
    const batch = await state.batches.create(["feat1"]);
    await batch.recordTokens(150_000);
    await batch.recordContextClear();
    const { tokens, context_clears } = await state.batches.get(batch.id);
    same([tokens, (context_clears as { tokens_before: number }[]).map((clear) => clear.tokens_before)], [0, [150_000]]);
  },
  [`${BATCH}: save()`]: async (state) => {
    const batch = await state.batches.create(["feat1"]);
    await batch.complete("feat1");
    same(await seenElsewhere(state, async (other) => (await (await other.batches.load(batch.id)).summary()).completed), 1);
  },
  [`${BATCH}: generate_completion_summary`]: async (state) => {
    const batch = await state.batches.create(["feat1", "feat2", "feat3"]);
    await Promise.all([batch.complete("feat1"), batch.fail("feat2", "no"), batch.skip("feat3", "no")]);
    const { total, completed, failed, cancelled } = await batch.summary();
    same([total, completed, failed, cancelled], [3, 1, 1, 1]);
  },
  [`${BATCH}: save_state_atomic(state, path)`]: async () => {
    const notes = { done: 3 };
    writeFileAtomic("notes.json", JSON.stringify(notes));
    same(JSON.parse(readFileSync("notes.json", "utf8")), notes);
  },
  [`${BATCH}: file_lock(path)`]: async () => {
    writeFileAtomic("notes.json", "0");
    const update = async () => {
      const n = Number(readFileSync("notes.json", "utf8"));
      await new Promise((resolve) => setTimeout(resolve, 2));
      writeFileAtomic("notes.json", String(n + 1));
    };
    await Promise.all(Array.from({ length: 10 }, async () => await withFileLock("notes.json", update)));
    same(readFileSync("notes.json", "utf8"), "10");
  },
  [`${BATCH}: migrate_state(state)`]: async (state) => {
    await state.close();
    const view = JSON.parse(readFileSync("state.json", "utf8")) as { pawl: { format: number } };
    same(view.pawl.format, 1);
    writeFileSync("newer.json", JSON.stringify({ pawl: { format: 2, revision: 1 }, tasks: [] }));
    await assert.rejects(openState("newer.json"), (error) => isPawlError(error, "unsupported"));
  },
};

/** Rows whose code is a command line: run as one. */
const commands: { readonly [name: string]: (run: (line: string) => Promise<string>) => Promise<unknown> } = {
  [`${BATCH}: --resume`]: async (run) => {
    writeFileSync("tasks.txt", "one\ntwo\n");
    await run("pawl run tasks.txt --exec true --max-tasks 1");
    assert.match(await run("pawl run --resume"), /Progress: 1\/2[^]*\[Task 2\] two[^]*All tasks completed!/);
  },
};

const plain = (text: string) => text.replaceAll(/\s+/g, "");
const rows = rowsOf(PAGE);

test("every row has one test, and every test a row", () => {
  same(rows.map((row) => row.name).sort(), [...Object.keys(checks), ...Object.keys(commands)].sort());
  assert.ok(rows.length > 40);
});

for (const row of rows) {
  test(row.name, async (t) => {
    const before = process.cwd();
    const folder = mkdtempSync(join(tmpdir(), "pawl-rows-"));
    process.chdir(folder);
    t.after(() => {
      process.chdir(before);
      rmSync(folder, { recursive: true, force: true });
    });
    const [check, command] = [checks[row.name], commands[row.name]];
    assert.ok(check ?? command, "the row has no test");
    const text = plain(String(check ?? command));
    // Types are gone from a running function, so they must not stand in a row either.
    if (row.code !== null) assert.ok(text.includes(plain(row.code)), `the test of this row does not run its code: ${row.code}`);
    if (command) {
      const at = place(t);
      process.chdir(at.folder);
      await command(async (line) => (await at.pawl(line.split(" ").slice(1))).stdout);
      return;
    }
    const state = await openState("state.json", { actor: "tester", notice: () => undefined });
    t.after(() => state.close());
    await check!(state, await state.tasks.add({ description: "Explain recursion" }));
  });
}

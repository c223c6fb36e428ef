// What people read: one text for each kind of output, escaped, cut and coloured only where a terminal is.
import assert from "node:assert/strict";
import { test } from "node:test";
import { OPERATIONS } from "../../src/operations.ts";
import { openState, type State } from "../../src/state.ts";
import { manualClock } from "../../src/base/clock.ts";
import { seededRandom } from "../../src/base/id.ts";
import { parseTaskList } from "../../src/core/task-list.ts";
import type { Page } from "../../src/surface/page.ts";
import { render } from "../../src/surface/render.ts";
import { colored } from "../../src/surface/io.ts";

const PIPE: Page = { io: { tty: false, color: false, columns: 120 }, now: Date.UTC(2026, 0, 1, 0, 3) };
const TERMINAL: Page = { ...PIPE, io: { tty: true, color: true, columns: 60 } };

/** A state that stands at the first minute of 2026, and an operation on it rendered. */
async function desk(run: (state: State, shown: (name: string, input?: { [name: string]: unknown }, page?: Page) => Promise<string>) => Promise<void>): Promise<void> {
  const state = await openState(":memory:", { clock: manualClock(Date.UTC(2026, 0, 1)), random: seededRandom(1), actor: "ada" });
  const shown = async (name: string, input: { [name: string]: unknown } = {}, page = PIPE) => {
    const operation = OPERATIONS.find((candidate) => candidate.name === name)!;
    return render(operation.output, await operation.run(state, input), page);
  };
  await run(state, shown).finally(() => state.close());
}

test("a task, in one line", () => desk(async (_, shown) => {
  assert.equal(await shown("task_add", { description: "Write a haiku" }), "○ task 1 pending: Write a haiku\n");
  assert.equal(await shown("task_add", { description: "later", delay: 60_000 }), "○ task 2 pending (later): later\n  runs at: 2026-01-01T00:01:00.000Z\n");
  assert.equal(await shown("task_add", { description: "behind", "depends-on": [1] }), "○ task 3 pending (blocked): behind\n");
  assert.equal(await shown("task_fail", { id: "1", reason: "no\npen" }), "✗ task 1 failed: Write a haiku\n  error:\n    no\n    pen\n");
  assert.equal(await shown("task_reset", { id: "1" }), "○ task 1 pending: Write a haiku\n");
  assert.equal(await shown("task_reset", { all: true }), "3 tasks reset\n");
}));

test("a list: aligned, a priority only when one differs, nothing cut in a pipe", () => desk(async (_, shown) => {
  assert.equal(await shown("task_list"), "No tasks.\n");
  const long = "x".repeat(200);
  await shown("task_add", { description: long });
  await shown("task_add", { description: "two\nlines" });
  assert.equal(await shown("task_list"), `id  status     tries  task\n1   ○ pending  0/3    ${long}\n2   ○ pending  0/3    two⏎lines\n`);
  await shown("task_add", { description: "你好", priority: 1 });
  assert.match(await shown("task_list"), /^id {2}status {5}tries {2}priority {2}task\n1 {3}○ pending {2}0\/3 {4}5 {9}x+\n2 [^\n]*\n3 {3}○ pending {2}0\/3 {4}1 {9}你好\n$/);
  const cut = await shown("task_list", { limit: 1 }, { ...TERMINAL, limit: 1 });
  assert.ok(cut.split("\n").every((line) => line.length <= 70) && cut.includes("…"), cut);
  assert.match(cut, /These are 1; there may be more: add --after 1/);
}));

test("on a terminal the status is coloured and times say how long ago", () => desk(async (_, shown) => {
  await shown("task_add", { description: "a" });
  await shown("task_complete", { id: "1", result: "done" });
  assert.ok((await shown("task_list", {}, TERMINAL)).includes("\u001b[32m✓ completed\u001b[39m"));
  assert.match(await shown("task_show", { id: "1" }, TERMINAL), /completed_at: 2026-01-01T00:00:00.000Z \(3 m ago\)/);
  assert.doesNotMatch(await shown("task_show", { id: "1" }), /\u001b|ago/);
}));

test("a task with its fields, steps and outputs", () => desk(async (state, shown) => {
  await state.tasks.add({ description: "deploy", input: { tag: "v3" }, tags: ["x", "y"], timeout_ms: 90_000, key: "d" });
  const worker = state.work({ execute: async (_, { step }) => ({ built: await step("build", () => "v3"), twice: await step("push", () => null) }) });
  await worker.idle();
  const text = await shown("task_show", { id: "d", output: true });
  assert.match(text, /^✓ task 1 completed\n {2}description: deploy\n/);
  for (const line of ["  key: d", '  input:\n    {\n      "tag": "v3"\n    }', "  tags: x, y", "  timeout_ms: 1 m 30 s", "  attempts: 1 of 3", "  steps:\n    ✓ build (0 ms): v3\n    ✓ push (0 ms)\n", "no command has written anything"]) assert.ok(text.includes(line), `${line} in:\n${text}`);
  assert.doesNotMatch(text, /queue|revision|verifier|deadline/);
}));

test("history, and where its chain is broken", () => desk(async (state, shown) => {
  await shown("task_add", { description: "a" });
  await shown("task_cancel", { id: "1", reason: "not\nwanted" });
  const text = await shown("history", { id: "1" });
  assert.match(text, /^no {2}at +actor +event +status +reason\n1 {3}2026-01-01T00:00:00.000Z {2}ada {4}created {4}· → pending\n2 {3}.*ada {4}cancelled {2}pending → cancelled {2}not⏎wanted\n$/);
  const [first, second] = await state.history.of(1);
  assert.match(render("history", { transitions: [first, { ...second!, reason: "forged" }], broken_at: 2 }, PIPE), /broken at entry 2/);
}));

test("why: the summary first, what was tried, the next command last", () => desk(async (_, shown) => {
  await shown("task_add", { description: "a" });
  await shown("task_add", { description: "b", "depends-on": [1] });
  await shown("task_add", { description: "c", queue: "mail" });
  assert.match(await shown("why", { id: "3" }), /Next: pawl worker --exec … --queue mail\n$/, "a run without a list would not take it");
  await shown("task_fail", { id: "1", reason: "no pen" });
  assert.equal(await shown("why", { id: "1" }), "✗ task 1: a\nIt failed: no pen.\nSince: 2026-01-01T00:00:00.000Z\nAttempts: 0 of 3\n  2026-01-01T00:00:00.000Z failed: no pen\nNext: pawl retry 1\n");
  assert.match(await shown("why", { id: "2" }), /blocked by task 1 \(failed\)[\s\S]*Next: pawl retry 1\n$/);
}));

test("status: counts, unfinished batches with the command that goes on, decisions, workers", () => desk(async (state, shown) => {
  await state.batches.create(["a", "b"]);
  await shown("task_complete", { id: "1" });
  const text = await shown("status");
  assert.match(text, /^State: :memory:\nProgress: 1\/2 completed \(50%\)\n○ 1 pending {2}✓ 1 completed\n\nbatch-20260101-000000: 1\/2 completed \(50%\)\n.*\n {2}next: pawl run --resume batch-20260101-000000\n$/);
  assert.match(render("status", { ...(await state.status()), decisions: 1, workers: [{ id: "w", label: "w1", pid: 7, host: "h", started_at: "2026-01-01T00:00:00.000Z", dead: false }] }, PIPE), /1 decision waits for you: pawl inbox\n\nWorkers:\n {2}w1 \(pid 7 on h\) since 2026/);
}));

test("a decision: the question, exactly what it is about, what each answer does and how to give it", () => {
  const base = { id: "d1", task_id: 3, status: "open", asked_by: "w-1", created_at: "2026-01-01T00:00:00.000Z", expires_at: null, details: { step: "push", input: { tag: "v3" } } };
  const effect = render("decision-list", [{ ...base, kind: "unknown_effect", question: "Did it happen?", options: { done: "it happened", again: "run it again", fail: "give up" } }], PIPE);
  assert.match(effect, /^d1 {2}Did it happen\?\n {2}unknown_effect by w-1 for task 3, since 2026.*\n {2}details:\n {4}\{\n {6}"step": "push"/);
  for (const line of ["pawl answer d1 done   it happened", "pawl answer d1 again   run it again", "pawl answer d1 fail   give up"]) assert.ok(effect.includes(line), effect);
  const approval = render("decision-list", [{ ...base, kind: "approval", question: "Deploy?", options: { approve: "go on", deny: "do not" } }], PIPE);
  assert.match(approval, /pawl approve d1 {3}go on\n {2}pawl deny d1 --reason "…" {3}do not/);
  assert.equal(render("decision-list", [], PIPE), "Nothing waits for you.\n");
  assert.equal(render("decision", { ...base, status: "answered", answer: "again" }, PIPE), "Decision d1 answered: again; see: pawl why 3\n");
});

test("claims, batches and imports", () => desk(async (state, shown) => {
  assert.equal(await shown("task_claim"), "Nothing is due.\n");
  await shown("task_add", { description: "a" });
  assert.match(await shown("task_claim"), /^◐ task 1 in_progress: a\n {2}token: (1\.1\.\S+)\n {2}held until: 2026-01-01T01:00:00.000Z\n {2}next: pawl complete 1 --token \1 --result "…"\n$/);
  assert.equal(await shown("batch_list"), "No batches.\n");
  const batch = await state.batches.create(["a", "b"]);
  assert.match(await shown("batch_list"), /^id +made +list\nbatch-20260101-000000 {2}2026/);
  assert.match(await shown("batch_show", { id: batch.id }), /\nno {2}task {2}status {5}item\n1 {3}2 {5}○ pending {2}a\n2 {3}3/);
  const report = { added: 3, known: 2, gone: 1, back: 0 };
  assert.equal(render("import", { batch: { id: "b1", source: "/my tasks.txt" }, report, created: true }, PIPE), "b1 made: 3 added, 2 known already, 1 no longer in the list (kept)\n  next: pawl run '/my tasks.txt' --exec \"…\"\n");
}));

test("a report in each format can be read again", () => desk(async (_, shown) => {
  await shown("task_add", { description: 'one, "two"' });
  await shown("task_add", { description: "three" });
  await shown("task_complete", { id: "2", result: "line 1\nline 2" });
  assert.match(await shown("export"), /^# Tasks\n\n2 tasks: 1 pending, 1 completed\.\n\n## pending \(1\)\n\n- \[ \] one, "two" \(task 1\)\n\n## completed \(1\)\n\n- \[x\] three \(task 2\)\n\n {2}line 1\n {2}line 2\n/);
  const csv = parseTaskList(await shown("export", { format: "csv" }), "csv", "report.csv");
  assert.deepEqual(csv.entries.map((entry) => [entry.description, entry.done ?? entry.status]), [['one, "two"', "pending"], ["three", true]]);
  const json = parseTaskList(await shown("export", { format: "json" }), "json", "report.json");
  assert.deepEqual(json.entries.map((entry) => entry.result ?? null), [null, "line 1\nline 2"]);
}));

test("stored text cannot act on the terminal, wherever it is shown", () => desk(async (state, shown) => {
  const evil = "a\u001b[2Jb\u009b31mc\u202ed\r";
  await state.tasks.add({ description: evil, key: evil, input: { [evil]: evil }, tags: [evil] });
  await state.tasks.fail(1, evil, { actor: evil });
  await state.batches.create([evil], { source: evil });
  for (const name of ["task_list", "task_show", "history", "why", "status", "batch_list", "export"]) {
    for (const input of name === "export" ? [{}, { format: "csv" }, { format: "json" }] : [["task_show", "history", "why"].includes(name) ? { id: "1" } : {}]) {
      const text = await shown(name, input);
      assert.doesNotMatch(text.replaceAll("\r\n", "\n"), /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202e]/, name);
      assert.ok(text.includes("\\u001b[2J") || name === "status", `${name} shows it: ${text}`);
    }
  }
}));

test("NO_COLOR wins over FORCE_COLOR, both over the terminal", () => {
  const cases: [{ [name: string]: string }, boolean, boolean][] = [
    [{}, true, true], [{}, false, false], [{ NO_COLOR: "1" }, true, false], [{ NO_COLOR: "" }, true, true], [{ FORCE_COLOR: "1" }, false, true],
    [{ FORCE_COLOR: "0" }, true, false], [{ NO_COLOR: "1", FORCE_COLOR: "1" }, true, false], [{ TERM: "dumb" }, true, false],
  ];
  for (const [env, tty, color] of cases) assert.equal(colored(env, tty), color, JSON.stringify([env, tty]));
});

test("an output nobody drew is still printed, as JSON", () => {
  assert.equal(render("something-new", { a: "\u009b" }, PIPE), '{\n  "a": "\\u009b"\n}\n');
});

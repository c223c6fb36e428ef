// The acceptance scenarios and complaints that need several processes or times of their own, on Postgres: there no test moves
// the clock, so these use short real times and wait for what they want to see.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { LIMITS } from "../src/base/limits.ts";
import { openState } from "../src/state.ts";
import { eventually, place } from "./pawl.ts";
import { LASTING, statePlace } from "./places.ts";
import { Proxy } from "./store/postgres-proxy.ts";

type Shown = { readonly id: number; readonly status: string; readonly attempts: number; readonly takeovers: number };
const STATE = JSON.stringify(join(import.meta.dirname, "..", "src", "state.ts"));

/** Runs a module in a process of its own and gives the lines it printed. */
async function inProcess(source: string, ...args: string[]): Promise<string[]> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", source, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (more: string) => (text += more));
  const [code] = (await once(child, "close")) as [number];
  assert.equal(code, 0);
  return text.split("\n").filter((line) => line !== "");
}

test("scenario 5, row 14: four processes over one queue: each task once, and one task is claimed by one", async (t) => {
  const desk = await statePlace(t, "postgres");
  const state = await desk.open();
  await state.tasks.addAll(Array.from({ length: 60 }, (_, i) => ({ description: `task ${i}`, priority: i % 3 })));
  const work = `import { openState } from ${STATE};
    const state = await openState(process.argv[1], { actor: "w", notice: () => undefined });
    const worker = state.work({ concurrency: 2, execute: async (task) => { console.log(task.id); await new Promise((resolve) => setTimeout(resolve, 5)); } });
    await worker.idle(); await state.close();`;
  const ran = (await Promise.all(Array.from({ length: 4 }, () => inProcess(work, desk.url)))).flat().map(Number);
  assert.deepEqual(ran.sort((a, b) => a - b), Array.from({ length: 60 }, (_, i) => i + 1));
  assert.equal((await state.tasks.count()).completed, 60);
  assert.equal(await state.tasks.claim(), null, "an empty queue gives nothing");

  await state.tasks.addAll([2, 0, 1, 0].map((priority) => ({ description: `p${priority}`, priority })));
  const order: (number | undefined)[] = [];
  for (let i = 0; i < 4; i++) order.push((await state.tasks.claim())?.task.id);
  assert.deepEqual(order, [62, 64, 63, 61], "by priority, then by id");
  await state.tasks.add({ description: "one" });
  const handles = await Promise.all(Array.from({ length: 6 }, () => desk.open()));
  const claims = await Promise.all(handles.map((handle) => handle.tasks.claim()));
  assert.equal(claims.filter((claim) => claim !== null).length, 1);
});

test("scenario 9: retries wait twice as long each time, none comes after the last, and a permanent error is not retried", async (t) => {
  const state = await (await statePlace(t, "postgres")).open();
  const [flaky, bad] = await state.tasks.addAll([{ description: "flaky", max_attempts: 3 }, { description: "bad", max_attempts: 3 }]);
  const worker = state.work({
    backoff: { baseMs: 40, jitter: false },
    execute: (task) => {
      throw task.id === bad!.id ? new TypeError("wrong for good") : new Error("not yet");
    },
  });
  const ended = async () => (await state.tasks.get(flaky!.id)).status === "failed" && (await state.tasks.get(bad!.id)).status === "failed";
  await eventually(ended, "both have failed");
  await worker.stop();
  const events = (await state.history.of(flaky!.id)).map(({ event, at }) => ({ event, at: Date.parse(at) }));
  const claims = events.filter(({ event }) => event === "claimed").map(({ at }) => at);
  const failures = events.filter(({ event }) => event !== "claimed" && event !== "created").map(({ at }) => at);
  assert.equal(claims.length, 3);
  assert.ok(claims[1]! - failures[0]! >= 40 && claims[2]! - failures[1]! >= 80, JSON.stringify(events));
  assert.equal((await state.tasks.get(bad!.id)).attempts, 1);
  assert.equal((await state.tasks.get(flaky!.id)).error?.message, "not yet");
});

test("a second signal does not wait for a server that is away as long as its calls do", async (t) => {
  const { url } = await statePlace(t, "postgres");
  for (const words of [["run", "tasks.txt"], ["worker"]]) {
    const proxy = await Proxy.start(Number(new URL(url).port));
    const through = new URL(url);
    through.port = String(proxy.port);
    const desk = place(t, through.href);
    desk.write("tasks.txt", "a\n");
    if (words[0] === "worker") await desk.pawl(["add", "b"]);
    const run = desk.start([...words, "--exec", "sh -c 'echo x >> begun; sleep 600'"]);
    await eventually(() => existsSync(desk.path("begun")), "it has begun");
    await proxy.stop();
    const asked = performance.now();
    run.child.kill("SIGTERM");
    await run.until(/no new|draining|waiting for 1/i);
    run.child.kill("SIGTERM");
    const ended = await run.ended;
    const seconds = (performance.now() - asked) / 1_000;
    t.diagnostic(`${words[0]}: ended after ${seconds.toFixed(1)} s, exit code ${ended.code}`);
    assert.ok(seconds * 1_000 < LIMITS.postgresPatienceMs, `${words[0]} took ${seconds} s`);
    assert.match(ended.stderr, /could not be reached/);
  }
});

test("scenario 23: SIGTERM drains: nothing new is claimed, nothing is held, nobody is registered", async (t) => {
  const { url } = await statePlace(t, "postgres");
  const desk = place(t, url);
  desk.write("tasks.txt", "a\nb\nc\n");
  const run = desk.start(["run", "tasks.txt", "--exec", "sh -c 'echo x >> begun; until [ -e go ]; do sleep 0.02; done'", "--concurrency", "2"]);
  await eventually(() => existsSync(desk.path("begun")) && readFileSync(desk.path("begun"), "utf8").length === 4, "two have begun");
  run.child.kill("SIGTERM");
  await run.until(/no new tasks/);
  desk.write("go", "");
  assert.equal((await run.ended).code, 143);
  const tasks = await desk.json<Shown[]>(["list"]);
  assert.deepEqual(tasks.map(({ status, attempts }) => [status, attempts]), [["completed", 1], ["completed", 1], ["pending", 0]]);
  assert.equal((await desk.json<{ workers: unknown[] }>(["status"])).workers.length, 0);
});

for (const name of LASTING) {
  test(`rows 13 and 15, ${name}: a killed owner is taken over at once, a living one keeps its task; task and history agree`, async (t) => {
    const { url } = await statePlace(t, name);
    const desk = place(t, url.startsWith("/") ? "unused" : url);
    const at = ["--state", url];
    await desk.pawl(["add", "long", ...at]);
    const first = desk.start(["worker", "--exec", "sh -c 'echo x >> begun; until [ -e go ]; do sleep 0.05; done'", ...at]);
    await eventually(() => existsSync(desk.path("begun")), "it has begun");
    const state = await openState(url, { actor: "ann", notice: () => undefined });
    t.after(() => state.close());
    assert.equal(await state.tasks.claim(), null, "its owner lives");
    const before = await state.tasks.get(1);
    first.child.kill("SIGKILL");
    await first.ended;
    await eventually(async () => (await state.tasks.claim()) !== null, "it is due again");
    const history = await state.history.of(1);
    assert.ok(Date.parse(history.at(-1)!.at) < Date.parse(before.lease_expires_at!), "long before its lease ended");
    assert.deepEqual(history.map(({ event }) => event), ["created", "claimed", "owner_lost", "claimed"]);
    const task = await state.tasks.get(1);
    assert.deepEqual([task.status, task.attempts, task.takeovers, task.fence], ["in_progress", 2, 1, before.fence + 2]);
    assert.equal(await state.history.verify(1), null);
    desk.write("go", "");
  });
}

test("row 3: three questions at once are three, answered in any order, in part and twice, by other processes", async (t) => {
  const desk = await statePlace(t, "postgres");
  const work = async () => {
    const state = await desk.open();
    const worker = state.work({ execute: (_, { scope, step }) => Promise.all(["a", "b", "c"].map((name) => scope(name, async ({ ask }) => `${name}: ${String(await ask("which", `${name}?`))}`))).then((said) => step("say", () => said)) });
    await worker.idle();
    await state.close();
  };
  const asked = await desk.open();
  await asked.tasks.add({ description: "asks" });
  await work();
  const open = await asked.decisions.inbox();
  assert.equal(new Set(open.map(({ id }) => id)).size, 3);
  const of = (question: string) => open.find((decision) => decision.question.includes(question))!.id;
  await asked.decisions.settle(of("c?"), { answer: "C", actor: "bob" });
  await work();
  assert.equal((await asked.decisions.inbox()).length, 2, "a part of the answers asks nothing anew");
  const twice = await Promise.allSettled(["A", "other"].map((answer) => asked.decisions.settle(of("a?"), { answer, actor: "bob" })));
  assert.equal(twice.filter(({ status }) => status === "fulfilled").length, 1);
  await asked.decisions.settle(of("b?"), { answer: "B", actor: "bob" });
  await work();
  const task = await asked.tasks.get(1);
  assert.deepEqual([task.status, task.attempts], ["completed", 1]);
  assert.deepEqual((task.result as string[]).map((line) => line[0]), ["a", "b", "c"]);
  assert.deepEqual([(task.result as string[])[1], (task.result as string[])[2]], ["b: B", "c: C"]);
});

test("row 11: whoever reads while others write never fails, never sees half a change, and never goes back", async (t) => {
  const desk = await statePlace(t, "postgres");
  const writer = await desk.open();
  const reader = await desk.open({ readOnly: true });
  await writer.tasks.addAll(Array.from({ length: 150 }, (_, i) => ({ description: `task ${i}` })));
  const worker = writer.work({ concurrency: 4, execute: (task, { step }) => step("s", () => task.id) });
  const idle = worker.idle();
  let done = 0;
  for (let over = false; !over; ) {
    const [counts, status] = await Promise.all([reader.tasks.count(), reader.status()]);
    assert.equal(Object.values(counts).reduce((sum, n) => sum + n, 0), 150);
    assert.equal(status.tasks.total, 150);
    assert.ok(counts.completed >= done);
    done = counts.completed;
    over = done === 150;
  }
  await idle;
});

test("scenario 24: an open breaker outlives its process; one task tries after the cool-down, and its success closes it", async (t) => {
  const desk = await statePlace(t, "postgres");
  const first = await desk.open();
  await first.tasks.addAll(Array.from({ length: 6 }, (_, i) => ({ description: `task ${i}`, max_attempts: 1 })));
  await first.breakers.set("queue:default", { failures: 3, cooldown_ms: 400 });
  for (let i = 0; i < 3; i++) {
    const { task, token } = (await first.tasks.claim())!;
    await first.tasks.fail(task.id, "no route to host", { token, permanent: true });
  }
  await first.close();
  const second = await desk.open();
  assert.equal((await second.breakers.get("queue:default")).status, "open");
  assert.equal(await second.tasks.claim(), null);
  let probe: Awaited<ReturnType<typeof second.tasks.claim>> = null;
  await eventually(async () => (probe = await second.tasks.claim()) !== null, "the cool-down is over");
  assert.equal(await second.tasks.claim(), null, "one tries, the others wait");
  await second.tasks.complete(probe!.task.id, "OK", { token: probe!.token });
  assert.equal((await second.breakers.get("queue:default")).status, "closed");
  for (let i = 0; i < 2; i++) {
    const { task, token } = (await second.tasks.claim())!;
    await second.tasks.complete(task.id, "OK", { token });
  }
  assert.equal((await second.breakers.get("queue:default")).status, "closed", "equal short answers trip nothing");
});

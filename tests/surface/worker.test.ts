// `pawl worker` as a process: the queues of a module, its log lines, its health page, its end; and what is refused before
// anything is claimed.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import type { Task } from "../../src/core/records.ts";
import { eventually, place, type Running } from "../pawl.ts";

const ROOT = join(import.meta.dirname, "..", "..");

/** Tasks of "hold" run until the file "go" is there or they are aborted; "bad" fails with a password in its error. */
const MODULE = `
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
export default {
  queues: {
    mail: { concurrency: 2, verify: (task, result) => result.sent === true, execute: async (task) => {
      if (task.description === "bad") throw Object.assign(new Error("refused by https://bob:hunter2@mail.test/"), { code: "EREFUSED" });
      return { sent: true, text: "the result" };
    } },
    hold: async (task, { signal }) => {
      while (!existsSync("go")) await sleep(10, undefined, { signal });
    },
  },
};
`;

type Line = { readonly event: string; readonly level: string; readonly queue?: string; readonly task_id?: number; readonly status?: string; readonly error?: string; readonly health?: string; readonly running?: number };
const linesOf = (running: Running): Line[] => running.output().split("\n").slice(0, -1).map((line) => JSON.parse(line) as Line);

/** A GET at an address of a health page: http://…, or a socket. */
function get(where: string, path: string): Promise<{ status: number; body: { [field: string]: unknown } }> {
  return new Promise((resolve, reject) => {
    const to = where.startsWith("http") ? { ...Object.fromEntries(["hostname", "port"].map((part) => [part, new URL(where)[part as "port"]])), path } : { socketPath: where, path };
    request(to, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (piece: string) => (text += piece)).on("end", () => resolve({ status: response.statusCode!, body: JSON.parse(text) as never }));
    }).on("error", reject).end();
  });
}

test("a module's queues are worked with its handlers; log lines say what happens and hold no results or secrets", async (t) => {
  const at = place(t);
  at.write("w.ts", MODULE);
  for (const args of [["a"], ["b"], ["bad", "--max-attempts", "1"]]) await at.pawl(["add", "--queue", "mail", "--input", '{"to":"carol"}', ...args]);
  await at.pawl(["add", "--queue", "hold", "held"]);
  const worker = at.start(["worker", "w.ts", "--log", "json", "--health", "0"]);
  t.after(() => worker.child.kill("SIGKILL"));
  await worker.until(/"listening"/);
  await eventually(async () => /^ {2}hold \(pid/m.test((await at.pawl(["status"])).stdout), "the status to name the queue's worker");
  const where = linesOf(worker).find((line) => line.event === "listening")!.health!;
  assert.match(where, /^http:\/\/127\.0\.0\.1:\d+\/$/, "loopback unless told otherwise");
  await eventually(() => linesOf(worker).filter((line) => line.event === "ended").length === 3, "the queue mail to be done");
  await eventually(async () => (await get(where, "/ready")).body["running"] === 1, "the held task to run");
  const { status, body } = await get(where, "/");
  assert.deepEqual([status, body["ready"], body["draining"], body["store"], body["lag_ms"]], [200, true, false, "ok", 0]);
  assert.deepEqual((body["queues"] as { [queue: string]: object })["mail"], { running: 0, concurrency: 2, last_claim_at: (body["queues"] as never)["mail"]["last_claim_at"], lag_ms: 0 });
  assert.deepEqual([(await get(where, "/live")).status, (await get(where, "/other")).status], [200, 404]);

  worker.child.kill("SIGTERM");
  await worker.until(/"draining"/);
  await eventually(async () => (await get(where, "/ready")).status === 503, "it to be draining");
  assert.equal((await get(where, "/live")).status, 200);
  assert.equal((await at.pawl(["add", "--queue", "mail", "late"])).code, 0);
  writeFileSync(at.path("go"), "");
  const ended = await worker.ended;
  assert.equal(ended.code, 143);
  const tasks = await at.json<Task[]>(["list"]);
  assert.deepEqual(tasks.map(({ status: end, attempts }) => `${end} ${attempts}`), ["completed 1", "completed 1", "failed 1", "completed 1", "pending 0"]);
  assert.doesNotMatch(ended.stdout + ended.stderr, /hunter2|the result|carol/);
  const lines = linesOf(worker);
  assert.deepEqual(lines.filter((line) => line.task_id === 3).map((line) => [line.event, line.level, line.status, line.error]), [["claimed", "info", undefined, undefined], ["ended", "error", "failed", "refused by https://bob:[redacted]@mail.test/"]]);
  assert.deepEqual(lines.filter(({ event }) => ["started", "draining", "stopped"].includes(event)).map(({ event, queue, running }) => [event, queue ?? running ?? null]), [["started", "mail"], ["started", "hold"], ["draining", 1], ["stopped", null]]);
});

test("a second signal gives the tasks back; a socket serves the health page, and a stale one is replaced", async (t) => {
  const at = place(t, "state.db");
  at.write("w.ts", MODULE);
  await at.pawl(["add", "--queue", "hold", "held"]);
  const socket = at.path("health.sock");
  const first = at.start(["worker", "w.ts", "--queue", "hold", "--health", socket]);
  await first.until(/Task 1\] held/);
  assert.deepEqual([(await get(socket, "/")).body["running"], statSync(socket).mode & 0o777], [1, 0o600]);
  const taken = await at.pawl(["worker", "w.ts", "--health", socket]);
  assert.deepEqual([taken.code, /Another process listens/.test(taken.stderr)], [2, true]);
  first.child.kill("SIGKILL");
  await first.ended;
  const second = at.start(["worker", "w.ts", "--queue", "hold,mail", "--health", socket]);
  t.after(() => second.child.kill("SIGKILL"));
  await second.until(/Task 1\] held/);
  assert.equal((await get(socket, "/")).status, 200);
  second.child.kill("SIGTERM");
  await second.until(/waiting for 1 in progress/);
  second.child.kill("SIGTERM");
  const ended = await second.ended;
  assert.equal(ended.code, 143, ended.stderr);
  assert.deepEqual([(await at.json<Task[]>(["list"]))[0]!.status, statSync(socket, { throwIfNoEntry: false })], ["pending", undefined]);
});

test("a state that goes elsewhere ends the worker, with the reason as its last line", async (t) => {
  const at = place(t);
  at.write("w.ts", "export default async () => 1;");
  const worker = at.start(["worker", "w.ts", "--log", "json"]);
  await worker.until(/"started"/);
  const other = at.path("elsewhere.json");
  assert.equal((await at.pawl(["copy", at.state, other])).code, 0);
  const ended = await worker.ended;
  assert.equal(ended.code, 13, "the state was moved");
  const last = JSON.parse(ended.stdout.trimEnd().split("\n").at(-1)!) as Line;
  assert.deepEqual([last.event, last.level], ["stopped", "error"]);
  assert.match(last.error!, /is being copied to|was moved to/);
});

const BAD: readonly (readonly [string | null, readonly string[], RegExp])[] = [
  [null, [], /cannot be loaded/],
  ["export const x = 1;", [], /no default export/],
  ["export default { queues: { mail() {} } };", ["--queue", "mail,pdf"], /no handler for the queue "pdf"/],
  ["export default () => 1;", ["--queue", " , "], /needs the name of a queue/],
  ["export default () => 1;", ["--log", "xml"], /--log takes text or json/],
  ["export default () => 1;", ["--health", "x:y"], /--health takes a port/],
  ["export default () => 1;", ["--exec", "true"], /a module or an executor, not both/],
  ["export default (", [], /cannot be loaded/],
];

test("a module or a flag that is wrong is refused with its place, and no state is made", async (t) => {
  const at = place(t);
  await Promise.all(
    BAD.map(async ([text, flags, message], i) => {
      if (text !== null) at.write(`m${i}.mjs`, text);
      const { code, stderr } = await at.pawl(["worker", `m${i}.mjs`, ...flags]);
      assert.equal(code, 2, stderr);
      assert.match(stderr, message);
      assert.match(stderr, /^next: /m);
    }),
  );
  assert.equal(statSync(at.state, { throwIfNoEntry: false }), undefined);
});

test("the example service is one that systemd takes", (t) => {
  const found = spawnSync("systemd-analyze", ["--version"], { encoding: "utf8" });
  if (found.error) return t.skip("there is no systemd-analyze here");
  const at = place(t);
  // Its program is not installed here.
  const unit = readFileSync(join(ROOT, "examples", "systemd", "pawl-worker.service"), "utf8").replace(/^ExecStart=\S+/m, "ExecStart=/bin/true");
  const checked = spawnSync("systemd-analyze", ["verify", at.write("pawl-worker.service", unit)], { encoding: "utf8" });
  assert.deepEqual([checked.status, checked.stderr.split("\n").filter((line) => line.includes("pawl-worker"))], [0, []]);
});

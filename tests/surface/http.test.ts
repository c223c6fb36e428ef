// `pawl ui` as a process: its address and token, operations, live changes with resume, what it says of failures, its end.
import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync } from "node:fs";
import { test, type TestContext } from "node:test";
import { eventually, place, type Running } from "../pawl.ts";

type Served = { url: string; token: string; running: Running };
type Event = { id: string; event: string; data: { tasks: { [status: string]: number }; decisions: number } };

async function serve(t: TestContext, at: ReturnType<typeof place>, ...flags: string[]): Promise<Served> {
  const running = at.start(["--json", "ui", "--port", "0", ...flags]);
  t.after(() => running.child.kill("SIGKILL"));
  const { url, token_file } = (JSON.parse(await running.until(/\n/)) as { data: { url: string; token_file: string } }).data;
  return { url, token: readFileSync(token_file, "utf8").trim(), running };
}

const ask = (served: Served, path: string, init: RequestInit = {}) => fetch(new URL(path, served.url), { ...init, headers: { authorization: `Bearer ${served.token}`, ...(init.headers as object) } });
const post = async <T = any>(served: Served, name: string, input: object): Promise<{ status: number; kind: string; data: T }> => {
  const response = await ask(served, `/api/${name}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(input) });
  return { status: response.status, ...((await response.json()) as { kind: string; data: T }) };
};

/** Reads events until `enough`, then leaves. */
async function events(served: Served, lastId: string | null, enough: (seen: readonly Event[]) => boolean, meanwhile: () => Promise<unknown> = async () => undefined): Promise<Event[]> {
  const stop = new AbortController();
  const response = await ask(served, "/api/events", { signal: stop.signal, headers: lastId === null ? {} : { "last-event-id": lastId } });
  assert.deepEqual([response.status, response.headers.get("content-type")], [200, "text/event-stream; charset=utf-8"]);
  const seen: Event[] = [];
  let rest = "";
  let begun = false;
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + chunk).split("\n\n");
    rest = blocks.pop()!;
    for (const block of blocks) {
      const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1];
      if (field("event")) seen.push({ id: field("id")!, event: field("event")!, data: JSON.parse(field("data")!) as Event["data"] });
    }
    if (!begun) {
      begun = true;
      await meanwhile();
    }
    if (enough(seen)) break;
  }
  stop.abort();
  return seen;
}

test("a task's way over HTTP, seen by the command line and the other way round", async (t) => {
  const at = place(t);
  await at.pawl(["add", "first"]);
  const served = await serve(t, at);
  assert.equal(new URL(served.url).hostname, "127.0.0.1");
  assert.equal(statSync(`${at.state}.pawl/token`).mode & 0o777, 0o600);
  const added = await post(served, "task_add", { description: "second", depends_on: [1], max_attempts: 2 });
  assert.deepEqual([added.status, added.kind, added.data.id, added.data.max_attempts], [200, "task", 2, 2]);
  assert.match((await post(served, "task_add", { descriptoin: "typo" })).data.next, /depends_on.*max_attempts.*timeout_ms/, "names as JSON has them");
  const claim = (await post(served, "task_claim", { caller: "web" })).data;
  assert.equal((await at.pawl(["complete", "1", "--result", "mine"])).code, 4, "the command line does not own it");
  assert.equal((await post(served, "task_complete", { id: 1, result: { ok: true }, token: claim.token })).data.status, "completed");
  assert.deepEqual((await at.json<{ task: { result: unknown } }>(["show", "1"])).task.result, { ok: true });
  const listed = (await (await ask(served, "/api/task_list?status=pending&limit=1")).json()) as { data: { id: number }[]; after: number };
  assert.deepEqual([listed.data.map((task) => task.id), listed.after], [[2], 2]);
  const history = (await (await ask(served, "/api/history?id=1")).json()) as { data: { actor: string }[]; broken_at: unknown };
  assert.deepEqual([new Set(history.data.map((event) => event.actor)), history.broken_at], [new Set(["tester"]), null]);
  const refusals: [string, object, number, string][] = [["task_show", { id: 99 }, 404, "not_found"], ["task_retry", { id: 2 }, 409, "illegal_transition"], ["task_add", {}, 400, "usage"], ["task_complete", { id: 2, token: "2.9.c-x" }, 409, "lease_lost"], ["nope", {}, 404, "not_found"]];
  for (const [name, input, status, code] of refusals) {
    const refused = await post(served, name, input);
    assert.deepEqual([refused.status, refused.kind, refused.data.code, typeof refused.data.next], [status, "error", code, "string"], name);
  }
  const index = (await (await ask(served, "/api")).json()) as { data: { name: string; input: { properties: object }; output: { kind: string; schema: object } }[] };
  const add = index.data.find((operation) => operation.name === "task_add")!;
  assert.ok("timeout_ms" in add.input.properties && "depends_on" in add.input.properties && add.output.kind === "task");
  served.running.child.kill("SIGTERM");
  assert.equal((await served.running.ended).code, 0);
  const again = await serve(t, at);
  assert.equal(again.token, served.token, "the token is kept across starts");
});

for (const file of [".pawl/state.json", "state.db"]) {
  test(`${file}: changes come live, also those of other processes; a reader that comes back is told what it missed`, async (t) => {
    const at = place(t, file);
    await at.pawl(["add", "first"]);
    const served = await serve(t, at);
    const first = await events(served, null, (seen) => seen.some((event) => event.data.tasks["pending"] === 2), () => at.pawl(["add", "second"]));
    assert.deepEqual([first[0]!.event, first[0]!.data], ["change", { ...first[0]!.data, tasks: { pending: 1 }, decisions: 0 }]);
    const number = (event: Event) => Number(event.id.split("-")[1]);
    assert.ok(first.every((event, i) => i === 0 || number(event) > number(first[i - 1]!)), "ids count up");
    await at.pawl(["cancel", "1"]);
    const missed = await events(served, first.at(-1)!.id, (seen) => seen.length > 0);
    assert.deepEqual([missed[0]!.event, missed[0]!.data.tasks, number(missed[0]!) > number(first.at(-1)!)], ["change", { pending: 1, cancelled: 1 }, true]);
    const stranger = await events(served, "00000000-7", (seen) => seen.length > 0);
    assert.equal(stranger[0]!.event, "reload", "an id that this process never gave");
  });
}

test("without a state it shows nothing, creates nothing, and goes on once there is one", async (t) => {
  const at = place(t);
  const served = await serve(t, at);
  assert.deepEqual((await post(served, "task_list", {})).data, []);
  assert.equal((await post(served, "task_cancel", { id: 1 })).status, 404);
  assert.equal(existsSync(at.state), false);
  await at.pawl(["add", "first"]);
  await eventually(async () => (await post(served, "task_list", {})).data.length === 1, "it is seen");
  assert.equal((await post(served, "task_add", { description: "second" })).data.id, 2);
});

test("a claim that waits over HTTP ends with its request", async (t) => {
  const at = place(t);
  const served = await serve(t, at);
  await at.pawl(["add", "held"]);
  await at.pawl(["claim"]);
  const stop = new AbortController();
  const waiting = ask(served, "/api/task_claim", { method: "POST", headers: { "content-type": "application/json" }, body: '{"wait_ms":50000}', signal: stop.signal });
  await post(served, "status", {});
  stop.abort();
  await assert.rejects(waiting);
  await at.pawl(["add", "free"]);
  assert.equal((await post(served, "task_claim", { wait_ms: 20_000 })).data.task.id, 2, "whoever still waits gets it");
  served.running.child.kill("SIGINT");
  assert.equal((await served.running.ended).code, 0);
});

test("flags: what cannot be listened on is said", async (t) => {
  const at = place(t);
  const served = await serve(t, at);
  const { port } = new URL(served.url);
  for (const [flags, said] of [[["--port", port], /the port is taken[\s\S]*--port 0/], [["--port", "99999"], /must be a number from 0 to 65535/], [["--port", "x"], /must be a number/], [["--port", "0", "--host", "192.0.2.1"], /no such address/]] as const) {
    const ended = await at.pawl(["ui", ...flags]);
    assert.equal(ended.code, 2, ended.stderr);
    assert.match(ended.stderr, said);
  }
  const text = at.start(["ui", "--port", "0", "--host", "127.0.0.1", "--read-only"]);
  assert.match(await text.until(/#token=[0-9a-f]{64}/), /^Dashboard of .*: http:\/\/127\.0\.0\.1:\d+\/#token=/);
  text.child.kill("SIGTERM");
  assert.equal((await text.ended).code, 0);
});

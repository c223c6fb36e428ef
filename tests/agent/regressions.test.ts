// What users of other agent frameworks complain of, as tests of whole agents on every store that outlives a process. Each life
// opens the state anew and closes it, so what one asked, another settles and a third goes on with. The rows are those
// of the catalogue; others are in time, people and context, and those of tasks in tests/regressions and tests/acceptance.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test, type TestContext } from "node:test";
import { agent, type AgentOptions } from "../../src/agent/agent.ts";
import type { AgentTool } from "../../src/agent/tool.ts";
import { isPawlError } from "../../src/base/errors.ts";
import { fingerprint, type Json } from "../../src/base/json.ts";
import type { Decision, Task } from "../../src/core/records.ts";
import { openState, placeAt, type State, type WorkOptions } from "../../src/state.ts";
import { BIN, place } from "../pawl.ts";
import { LASTING, statePlace } from "../places.ts";
import { query } from "../postgres.ts";
import { OPEN, results, texts } from "./agents.ts";
import { modelServer, type Script } from "./server.ts";

const RISKY = { required_for_risk_levels: ["write_local", "external_action"] as const };
const NAMED = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };

/** A tool that keeps what it was called with. */
function noting(seen: unknown[], options: Partial<AgentTool> = {}): AgentTool {
  return { inputSchema: NAMED, risk: "write_local", execute: ((input: { name: string }) => `did ${(seen.push(input.name), input.name)}`) as never, ...options };
}

type Options = Partial<AgentOptions> & { readonly work?: Partial<WorkOptions> };

/** A state and a model; `live` is the life of one process, `cold` a look of another. */
async function lives(t: TestContext, store: string, script: Script, options: Options = {}) {
  const server = await modelServer(t, script);
  const desk = await statePlace(t, store);
  const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
  const cold = async <T>(use: (state: State) => Promise<T>, actor = "ann"): Promise<T> => {
    const state = await desk.open({ actor });
    try {
      return await use(state);
    } finally {
      await state.close();
    }
  };
  const live = ({ work = {}, ...more }: Options = options) =>
    cold(async (state) => {
      const model = createOpenAICompatible({ name: "test", baseURL: server.url, includeUsage: true })("m-1");
      const worker = state.work({ execute: agent({ model, policy: OPEN, retry: { baseMs: 1, jitter: false }, ...options, ...more }), backoff: { baseMs: 1, jitter: false }, ...work });
      await worker.idle();
      return state.tasks.get(1);
    });
  const until = async (...statuses: Task["status"][]): Promise<Task> => {
    for (let i = 0; i < 100; i++) {
      const task = await live();
      if (statuses.includes(task.status)) return task;
    }
    return assert.fail(`task 1 did not come to be ${statuses.join(" or ")}`);
  };
  const inbox = () => cold((state) => state.decisions.inbox());
  const settle = (decision: Pick<Decision, "id">, answer: { answer: string; reason?: string; edit?: Json }) => cold((state) => state.decisions.settle(decision.id, { ...answer, actor: "bea" }));
  await cold((state) => state.tasks.add({ description: "do it" }));
  return { server, url: desk.url, cold, live, until, inbox, settle };
}

const nameIn = ({ details }: Decision) => (details as { arguments: { name: string } }).arguments.name;

for (const store of LASTING) {
  test(`row 3, scenario 16, ${store}: three actions at once are three decisions, over restarts; each is settled once, and what only reads is not asked about`, async (t) => {
    const [did, read]: [unknown[], unknown[]] = [[], []];
    const script: Script = (asked, turn) => (turn === 0 ? { calls: [...["a", "b", "c"].map((name) => ({ name: "write", args: { name } })), { name: "read", args: { name: "x" } }] } : { text: results(asked.messages).join(" | ") });
    const at = await lives(t, store, script, { tools: { write: noting(did), read: noting(read, { risk: "read_only" }) }, policy: RISKY });
    assert.equal((await at.live()).status, "waiting");
    const open = await at.inbox();
    assert.deepEqual([new Set(open.map(({ id }) => id)).size, open.map(nameIn).sort()], [3, ["a", "b", "c"]]);
    const of = (name: string) => open.find((decision) => nameIn(decision) === name)!;
    await at.settle(of("c"), { answer: "approve", edit: { name: "C" } });
    assert.equal((await at.live()).status, "waiting");
    assert.deepEqual((await at.inbox()).map(({ id }) => id).sort(), [of("a").id, of("b").id].sort(), "nothing is asked anew");
    const twice = await Promise.allSettled([at.settle(of("a"), { answer: "deny", reason: "not that" }), at.settle(of("a"), { answer: "approve" })]);
    assert.equal(twice.filter(({ status }) => status === "fulfilled").length, 1);
    const denied = (await at.cold((state) => state.decisions.get(of("a").id))).status === "denied";
    await at.settle(of("b"), { answer: "approve" });
    const task = await at.live();
    assert.equal(task.result, `${denied ? "A person denied this call: not that" : "did a"} | did b | did C | did x`);
    assert.deepEqual([did, read, at.server.asked.length], [denied ? ["C", "b"] : ["C", "a", "b"], ["x"], 2]);
    assert.equal(task.attempts, 1);
  });

  test(`row 4, ${store}: leave for an action of five megabytes is given by a cold process the moment it is asked for`, { timeout: 60_000 }, async (t) => {
    const text = "a line of the log that is kept\n".repeat(170_000);
    const did: unknown[] = [];
    const save = noting(did);
    const at = await lives(t, store, (asked, turn) => (turn === 0 ? { calls: [{ name: "save", args: { name: text } }, { name: "read", args: { name: "x" } }], usage: { input: 1_000, output: 1_000 } } : { text: results(asked.messages)[0]! }), {
      tools: { save: { ...save, execute: ((input: { name: string }) => `saved ${did.push(input.name)}`) as never }, read: noting([], { risk: "read_only", execute: () => text }) }, policy: RISKY, budget: { max_llm_tokens: null },
    });
    assert.equal((await at.live()).status, "waiting");
    const approved = await place(t).pawl(["approve", "d1", "--state", at.url]);
    assert.equal(approved.code, 0, approved.stderr.slice(0, 500));
    assert.ok(approved.stdout.length < 20_000, `${approved.stdout.length} characters for a person`);
    const task = await at.live();
    assert.equal(task.result, "saved 1", JSON.stringify(task.error)?.slice(0, 500));
    assert.ok(did.length === 1 && did[0] === text, "what was approved is what ran");
    const decision = await at.cold((state) => state.decisions.get("d1"));
    assert.equal((decision.details as { arguments_hash: string }).arguments_hash, fingerprint({ name: text }));
  });

  test(`row 5, ${store}: an approval is used once, a denial stays one: over failures, restarts and new conversations; other arguments are asked about anew`, async (t) => {
    const did: unknown[] = [];
    let broken = true;
    let name = "a";
    const at = await lives(t, store, (asked, turn) => {
      if (turn === 0) return { calls: [{ id: "one", name: "write", args: { name } }, { id: "two", name: "write", args: { name: "no" } }] };
      return broken ? { status: 400, text: "bad" } : { text: results(asked.messages).join(" | ") };
    }, { tools: { write: noting(did) }, policy: RISKY });
    await at.live();
    const [yes, no] = (await at.inbox()).sort((a, b) => nameIn(a).localeCompare(nameIn(b))) as [Decision, Decision];
    await at.settle(yes, { answer: "approve" });
    await at.settle(no, { answer: "deny", reason: "never" });
    assert.equal((await at.live()).status, "failed", "after the action was done, the provider refused");
    for (const [decision, answer] of [[yes, "deny"], [no, "approve"]] as const) await assert.rejects(at.settle(decision, { answer }), (error) => isPawlError(error, "illegal_transition"));
    broken = false;
    await at.cold((state) => state.tasks.retry(1));
    assert.equal((await at.live()).result, "did a | A person denied this call: never");
    assert.deepEqual([did, await at.inbox()], [["a"], []], "replayed: not run again, not asked again");

    await at.cold((state) => state.tasks.reset(1));
    name = "b";
    assert.equal((await at.live()).status, "waiting");
    const again = await at.inbox();
    assert.deepEqual(again.map(nameIn).sort(), ["b", "no"], "what was approved then is no leave for what is wanted now");
    assert.ok(!again.some(({ id }) => id === yes.id || id === no.id));
    assert.deepEqual(did, ["a"]);
    const tabs = await Promise.allSettled(Array.from({ length: 4 }, (_, i) => at.settle(again.find((one) => nameIn(one) === "b")!, { answer: i % 2 ? "approve" : "deny" })));
    assert.equal(tabs.filter(({ status }) => status === "fulfilled").length, 1, "of tabs that answer at once, one counts");
    assert.deepEqual((await at.cold((state) => Promise.all([yes, no].map(({ id }) => state.decisions.get(id))))).map(({ status }) => status), ["approved", "denied"]);
  });

  test(`row 6, ${store}: nobody answered is not a no: the decision says expired, and so is the model told`, async (t) => {
    const did: unknown[] = [];
    const at = await lives(t, store, (asked, turn) => (turn === 0 ? { calls: [{ name: "write", args: { name: "a" } }] } : { text: results(asked.messages).join() }), { tools: { write: noting(did) }, policy: { ...RISKY, expires_in_ms: 1, on_expiry: "deny" } });
    const task = await at.until("completed");
    assert.match(String(task.result), /^Nobody answered whether this call may run.*This is not a no/);
    const decision = await at.cold((state) => state.decisions.get("d1"));
    assert.deepEqual([decision.status, decision.settled_by === "bea", did], ["expired", false, []]);
    await assert.rejects(at.settle(decision, { answer: "approve" }), (error) => isPawlError(error, "illegal_transition"));
  });

  test(`row 7, ${store}: what was used is the same after a restart, after a copy into another store and back, to the token; it goes on from there`, async (t) => {
    const script: Script = (_, turn, times) => (turn === 0 && times === 1 ? { hang: true } : turn < 2 ? { calls: [{ name: "agent_patch", args: { add_risk_flags: [`f${turn}`] } }] } : { text: "done" });
    const at = await lives(t, store, script, { timeoutMs: 300, budget: { max_steps: 3, max_llm_tokens: 1_000_000 }, prices: { "test/m-1": { input: 3, output: 15 } } });
    assert.equal((await at.until("waiting")).status, "waiting", "one in doubt and two that were answered are three");
    const usedAt = (url: string) => cold(url, async (state) => ({ ...(await state.agents.budget(1)).spend }));
    const used = await usedAt(at.url);
    assert.deepEqual([used.steps.spent, used.steps.in_doubt, used.llm_tokens.spent + used.llm_tokens.in_doubt >= at.server.billed.input + at.server.billed.output], [2, 1, true]);
    assert.ok(used.cost_micros.spent > 0 && used.cost_micros.in_doubt > 0);
    const other = await statePlace(t, store === "json" ? "sqlite" : "json");
    await placeAt(at.url, QUIET).copyTo(other.url, { keepOpen: true });
    assert.deepEqual([await usedAt(at.url), await usedAt(other.url)], [used, used]);
    await at.cold((state) => state.agents.addToBudget(1, { max_steps: 5 }, { actor: "bea" }));
    assert.equal((await at.live()).result, "done");
    const after = await usedAt(at.url);
    assert.deepEqual([after.steps.spent, after.steps.in_doubt, after.llm_tokens.in_doubt], [3, 1, used.llm_tokens.in_doubt]);
    assert.ok(after.llm_tokens.spent > used.llm_tokens.spent);
    assert.deepEqual(await usedAt(other.url), used, "what the one spends, its copy does not");
  });

  test(`row 20, ${store}: the last turns of a conversation cost as many bytes as those before`, { timeout: 60_000 }, async (t) => {
    const sizes: number[] = [];
    const at = await lives(t, store, (_, turn) => (turn < 45 ? { text: "what I see is worth a note. ".repeat(20), calls: [{ name: "look", args: { name: "x" } }], usage: { input: 10, output: 10 } } : { text: "done" }), {
      tools: { look: noting([], { risk: "read_only", execute: (async () => (++looked % 15 === 0 && sizes.push(await bytesAt(store, at.url)), "seen ".repeat(40))) as never }) }, budget: { max_steps: null, max_llm_tokens: null },
    });
    let looked = 0;
    assert.equal((await at.live()).result, "done");
    const [second, third] = [sizes[1]! - sizes[0]!, sizes[2]! - sizes[1]!];
    assert.ok(third < second * 1.3 + 20_000, `the last 15 turns took ${third} bytes, those before ${second}`);
  });

  test(`row 22, ${store}: another session, in another folder, under another name, finds the same run and goes on in the same conversation`, async (t) => {
    const at = await lives(t, store, (asked, turn) => (turn === 0 ? { calls: [{ name: "ask_person", args: { question: "Which namespace?" } }] } : { text: `into ${results(asked.messages)[0]}` }));
    await at.live();
    const desk = place(t);
    const below = desk.path("repository/src/deep");
    mkdirSync(below, { recursive: true });
    // A file is found upward from where one stands; a server is named by the environment, wherever that is.
    const file = join(desk.folder, "repository/.pawl", store === "json" ? "state.json" : "state.db");
    if (store !== "postgres") await placeAt(at.url, QUIET).copyTo(file);
    const url = store === "postgres" ? at.url : file;
    await cold(url, (state) => state.decisions.settle("d1", { answer: "staging", actor: "bea" }));
    const env = { ...process.env, ...at.server.env(), PAWL_STATE: store === "postgres" ? url : "", PAWL_ACTOR: "session-2", NO_COLOR: "1" };
    const child = spawn(process.execPath, [BIN, "run", "--model", "compatible/m"], { cwd: below, env, stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (said += text));
    assert.equal(await new Promise((resolve) => child.on("close", resolve)), 0, said);
    const { task, epoch } = await cold(url, async (state) => ({ task: await state.tasks.get(1), epoch: (await state.agents.show(1)).agent.epoch }));
    assert.deepEqual([task.result, task.attempts, epoch, at.server.asked.length], ["into staging", 1, 0, 2]);
    assert.deepEqual(at.server.asked[1]!.messages.slice(1, 3).map(({ role }) => role), ["user", "assistant"]);
  });

  test(`row 23, ${store}: after the context is cleared, in a cold process: done work is not done again, a plan given up is not offered, decisions are known`, async (t) => {
    const did: unknown[] = [];
    let refuse = true;
    const at = await lives(t, store, (asked, turn) => {
      const said = texts(asked.messages, "user");
      if (/cleared now/.test(said.at(-1)!)) return { text: "I do not write JSON" };
      if (/was cleared to make room/.test(said[0]!)) return refuse ? { status: 400, text: "not now" } : { text: "finished" };
      if (turn === 0) return { calls: [{ name: "agent_patch", args: { replace_plan: ["delete the logs"] } }, { name: "write", args: { name: "inventory" } }, { name: "ask_person", args: { question: "Which way?" } }] };
      return { calls: [{ name: "agent_patch", args: { replace_plan: ["compress the logs"] } }, { name: "remove", args: { name: "old" } }], usage: { input: 5_000, output: 10 } };
    }, { tools: { write: noting(did), remove: noting(did) }, policy: { required_for_risk_levels: [], required_for_tools: ["remove"] }, contextTokens: 4_000 });
    await at.live();
    await at.settle({ id: "d1" }, { answer: "compress them" });
    await at.live();
    await at.settle({ id: "d2" }, { answer: "deny", reason: "it is evidence" });
    assert.equal((await at.live()).status, "failed", "cleared, and then the provider refused");
    refuse = false;
    await at.cold((state) => state.tasks.retry(1));
    assert.equal((await at.live()).result, "finished");
    const [system, opening, ...more] = at.server.asked.at(-1)!.messages;
    assert.deepEqual([more.length, did], [0, ["inventory"]]);
    assert.match(String(system!.content), /"plan": \[\n\s+"compress the logs"\n/);
    for (const known of [/- Which way\? A person answered: compress them\n/, /- remove \{"name":"old"\}: .*it is evidence\n/, /- write \{"name":"inventory"\} \(ran\)/]) assert.match(String(opening!.content), known);
    assert.doesNotMatch(JSON.stringify(at.server.asked.at(-1)!.messages), /delete the logs/);
  });

  test(`row 24, ${store}: a breaker counts what its tasks come to: progress closes it, a usage limit is a pause, and a crashed run's late word is nothing`, async (t) => {
    const queue = "queue:default";
    const at = await lives(t, store, (asked) => (texts(asked.messages, "user")[0]!.startsWith("do it") ? { text: "OK" } : { status: 429, headers: { "retry-after": "3600" } }));
    await at.cold(async (state) => {
      await state.breakers.set(queue, { failures: 2 });
      await state.tasks.addAll(Array.from({ length: 5 }, (_, i) => ({ description: `do it again, ${i}` })));
    });
    await at.live();
    const stands = () => at.cold(async (state) => [(await state.breakers.get(queue)).status, (await state.breakers.get(queue)).failures, (await state.tasks.count()).completed]);
    assert.deepEqual(await stands(), ["closed", 0, 6], "six equal short answers are six tasks done");
    const limited = await at.cold((state) => state.tasks.add({ description: "limited" }));
    for (let life = 0; life < 3; life++) await at.live();
    const paused = await at.cold((state) => state.tasks.get(limited.id));
    assert.deepEqual([paused.status, paused.continues, Date.parse(paused.run_at!) > Date.now() + 3_000_000], ["pending", true, true]);
    assert.deepEqual(await stands(), ["closed", 0, 6]);
    await at.cold(async (state) => {
      await state.tasks.add({ description: "lost" });
      for (let run = 0; run < 3; run++) {
        const { task, token } = (await state.tasks.claim())!;
        await state.tasks.release(task.id, { force: true });
        await assert.rejects(state.tasks.fail(task.id, "a word of the dead", { token }), (error) => isPawlError(error, "lease_lost"));
      }
    });
    assert.deepEqual(await stands(), ["closed", 0, 6]);
  });
}

/** What the store has written so far, without what it only does now and then. */
async function bytesAt(store: string, url: string): Promise<number> {
  if (store === "json") return statSync(join(`${url}.pawl`, "journal/000001.jsonl")).size;
  if (store === "sqlite") {
    const db = new DatabaseSync(url, { readOnly: true });
    const { page_count } = db.prepare("pragma page_count").get() as { page_count: number };
    db.close();
    return page_count * 4096;
  }
  const [row] = await query(url, `select sum(pg_total_relation_size(c.oid))::float8 as bytes from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and n.nspname = '${new URL(url).searchParams.get("schema")}'`);
  return Number(row!["bytes"]);
}

const QUIET = { actor: "ann", notice: () => undefined };

async function cold<T>(url: string, use: (state: State) => Promise<T>): Promise<T> {
  const state = await openState(url, QUIET);
  try {
    return await use(state);
  } finally {
    await state.close();
  }
}

// `pawl mcp` with the official clients: both eras of the protocol and the older library, over standard input and output and
// HTTP. A whole task each, what is refused, questions, claims across restarts, changes, and how much a model has to read.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { test, type TestContext } from "node:test";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Client as OldClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as OldStdio } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport as OldHttp } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { openState, type State } from "../../src/state.ts";
import { main } from "../../src/surface/cli.ts";
import { BIN, eventually, place } from "../pawl.ts";
import { handlesIn, ioIn, mcpClient } from "./doors.ts";

type Place = ReturnType<typeof place>;
type Answer = { readonly error: boolean; readonly text: string; readonly data: any };
/** What the tests need of any client. */
type Session = {
  readonly version: string | undefined;
  call(name: string, input?: object): Promise<Answer>;
  read(uri: string): Promise<any>;
  tools(): Promise<{ name: string }[]>;
  client: Client;
  close(): Promise<void>;
};
type Kind = "2026" | "2025" | "sdk 1";
type Options = { readonly flags?: readonly string[]; readonly answer?: () => { action: "accept" | "decline" | "cancel"; content?: { answer: string } }; readonly name?: string; readonly old?: boolean };

const KINDS: readonly Kind[] = ["2026", "2025", "sdk 1"];

function clientOf(kind: Kind, { answer, name = "tester" }: Options): Client {
  const capabilities = answer ? { elicitation: { form: {} } } : {};
  const client = kind === "sdk 1" ? (new OldClient({ name, version: "1" }, { capabilities }) as unknown as Client) : new Client({ name, version: "1" }, { capabilities, ...(kind === "2026" ? { versionNegotiation: { mode: "auto" } } : {}) });
  if (answer && kind !== "sdk 1") client.setRequestHandler("elicitation/create", async () => answer());
  return client;
}

async function session(t: TestContext, client: Client, transport: object): Promise<Session> {
  await client.connect(transport as never);
  t.after(() => client.close());
  return wrapped(client);
}

function wrapped(client: Client): Session {
  return {
    client,
    version: client.getNegotiatedProtocolVersion?.(),
    async call(name, input = {}) {
      const result = (await client.callTool({ name, arguments: { ...input } })) as { isError?: boolean; content: { text: string }[] };
      const text = result.content[0]!.text;
      return { error: result.isError === true, text, data: (JSON.parse(text) as { data: unknown }).data };
    },
    read: async (uri) => JSON.parse((((await client.readResource({ uri })) as { contents: { text: string }[] }).contents[0]!).text),
    tools: async () => (await client.listTools()).tools,
    close: () => client.close(),
  };
}

/** A client with a server of its own. */
function overStdio(t: TestContext, at: Place, kind: Kind, options: Options = {}): Promise<Session> {
  const server = { command: process.execPath, args: [BIN, "mcp", ...(options.flags ?? [])], cwd: at.folder, env: { ...(process.env as { [name: string]: string }), PAWL_STATE: at.state }, stderr: "ignore" as const };
  return session(t, clientOf(kind, options), kind === "sdk 1" ? new OldStdio(server) : new StdioClientTransport(server));
}

async function httpServer(t: TestContext, at: Place, ...flags: string[]): Promise<{ url: string; token: string }> {
  const running = at.start(["--json", "mcp", "--http", "--port", "0", ...flags]);
  t.after(() => running.child.kill("SIGKILL"));
  const { url, token_file } = (JSON.parse(await running.until(/\n/)) as { data: { url: string; token_file: string } }).data;
  return { url, token: readFileSync(token_file, "utf8").trim() };
}

function overHttp(t: TestContext, { url, token }: { url: string; token: string }, kind: Kind, options: Options = {}): Promise<Session> {
  const requestInit = { headers: { authorization: `Bearer ${token}` } };
  return session(t, clientOf(kind, options), kind === "sdk 1" ? new OldHttp(new URL(url), { requestInit }) : new StreamableHTTPClientTransport(new URL(url), { requestInit }));
}

/** What another process does with the state meanwhile: this one. */
async function there<T>(at: Place, act: (state: State) => Promise<T>): Promise<T> {
  const state = await openState(at.state, { actor: "seed", notice: () => undefined });
  return act(state).finally(() => state.close());
}

const seed = (at: Place, ...descriptions: string[]) => there(at, (state) => state.tasks.addAll(descriptions.map((description) => ({ description }))));

/** A command line in this process. */
async function pawl(at: Place, ...line: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  let [stdout, stderr] = ["", ""];
  const code = await main(line, ioIn(at.folder, { out: (text) => void (stdout += String(text)), err: (text) => void (stderr += text), env: { PAWL_STATE: at.state } }));
  return { code, stdout, stderr };
}

const json = async (at: Place, ...line: string[]) => (JSON.parse((await pawl(at, ...line, "--json")).stdout) as { data: any }).data;

/** A client and its server in this process, as `pawl mcp` starts it with these flags. */
async function inProcess(t: TestContext, at: Place, options: Parameters<typeof mcpClient>[2] = {}): Promise<Session> {
  const handles = handlesIn(at.folder, { env: { PAWL_STATE: at.state } });
  const { client, close } = await mcpClient(handles, at.folder, { all: false, allowDecisions: false, allowDestructive: false, actor: null, ...options });
  t.after(async () => {
    await close();
    await handles.close();
  });
  return wrapped(client);
}

/* ---------- a whole task ---------- */

async function wholeTask(at: Place, mcp: Session, n: number, actor = "mcp:tester"): Promise<void> {
  const added = await mcp.call("task_add", { description: `task ${n}`, max_attempts: 5, tags: ["x"] });
  assert.deepEqual([added.error, added.data.status, added.data.max_attempts], [false, "pending", 5]);
  const { id } = added.data as { id: number };
  const claim = (await mcp.call("task_claim", { caller: `caller-${n}` })).data;
  assert.deepEqual([claim.task.id, claim.task.status], [id, "in_progress"]);
  assert.deepEqual((await mcp.read("task://current")).tasks, [{ id, description: `task ${n}`, status: "in_progress", attempts: 1 }]);
  assert.equal((await mcp.call("task_claim", { caller: `caller-${n}` })).data.token, claim.token, "given back");
  const stolen = await mcp.call("task_complete", { id, result: "mine" });
  assert.deepEqual([stolen.error, stolen.data.code, typeof stolen.data.next], [true, "conflict", "string"], "the same rules as at every door");
  assert.equal((await mcp.call("task_complete", { id, result: { n }, token: claim.token })).data.status, "completed");
  const twice = await mcp.call("task_complete", { id, result: 1, token: claim.token });
  assert.deepEqual([twice.error, ["lease_lost", "illegal_transition"].includes(twice.data.code)], [true, true]);
  await there(at, async (state) => {
    assert.deepEqual((await state.tasks.get(id)).result, { n });
    assert.deepEqual((await state.history.of(id)).map((entry) => [entry.event, entry.actor]), [["created", actor], ["claimed", actor], ["completed", actor]]);
  });
  await assert.rejects(mcp.read("task://nothing"), /no resource task:\/\/nothing/);
  for (const [name, input, code] of [["task_show", { id: 99 }, "not_found"], ["task_add", { description: "x", no_such: 1 }, "usage"], ["no_such_tool", {}, "not_found"], ["task_reset", { all: true }, "usage"], ["doctor", { repair: true }, "usage"]] as const) {
    const refused = await mcp.call(name, input);
    assert.deepEqual([refused.error, refused.data.code], [true, code], `${name}: ${refused.text}`);
  }
}

for (const [file, kinds] of [[".pawl/state.json", KINDS], ["state.db", ["2026"]]] as const) {
  test(`${file}: a whole task over standard input and output, by ${kinds.length === 1 ? "a client" : "clients of each era"}`, async (t) => {
    const at = place(t, file);
    for (const [i, kind] of kinds.entries()) {
      const mcp = await overStdio(t, at, kind);
      if (kind !== "sdk 1") assert.equal(mcp.version!.slice(0, 4), kind);
      await wholeTask(at, mcp, i);
      await mcp.close();
    }
  });
}

test("the resources say what the command line says", async (t) => {
  const at = place(t);
  await seed(at, "a", "b", "c", "d");
  await there(at, async (state) => {
    await state.tasks.complete(1, "done");
    await state.tasks.fail(2, "no");
    await state.tasks.claim();
  });
  const mcp = await inProcess(t, at);
  const brief = (tasks: readonly { id: number; description: string; status: string; attempts: number }[]) => tasks.map(({ id, description, status, attempts }) => ({ id, description, status, attempts }));
  for (const [uri, command] of [["task://queue", ["list"]], ["task://current", ["list", "--status", "in_progress"]], ["task://completed", ["list", "--status", "completed"]], ["task://pending", ["list", "--status", "pending"]], ["task://filter/failed", ["list", "--status", "failed"]]] as const) {
    assert.deepEqual(brief((await mcp.read(uri)).tasks), brief(await json(at, ...command)), uri);
  }
  assert.deepEqual(await mcp.read("task://stats"), (await json(at, "status")).tasks);
});

test("a whole task over HTTP, by clients of each era; none without the token", async (t) => {
  const at = place(t);
  const server = await httpServer(t, at);
  for (const [i, kind] of KINDS.entries()) await wholeTask(at, await overHttp(t, server, kind), i, kind === "2026" ? "mcp:tester" : "mcp:client");
  for (const headers of [{}, { authorization: "Bearer x" }, { authorization: `Bearer ${server.token}`, origin: "http://evil.example" }] as { [name: string]: string }[]) {
    const response = await fetch(server.url, { method: "POST", headers: { "content-type": "application/json", accept: "application/json, text/event-stream", ...headers }, body: '{"jsonrpc":"2.0","id":1,"method":"tools/list"}' });
    assert.ok(response.status === 401 || response.status === 403, String(response.status));
    assert.doesNotMatch(await response.text(), /task_add/);
  }
  await assert.rejects(overHttp(t, { ...server, token: "x" }, "2026"));
});

/* ---------- claims ---------- */

test("claims: one process is one caller; a name is found again after a restart; another is not", async (t) => {
  const at = place(t);
  await seed(at, "a", "b", "c");
  const first = await overStdio(t, at, "2026");
  const claim = (await first.call("task_claim")).data;
  assert.equal((await first.call("task_claim")).data.token, claim.token, "its context was cleared: it gets its task back");
  assert.match((await first.call("prime")).data.text, new RegExp(claim.token));
  const second = await overStdio(t, at, "2025");
  assert.equal((await second.call("task_claim")).data.task.id, 2, "another process is another caller, though of the same name");
  const named = (await second.call("task_claim", { caller: "branch x" })).data;
  assert.equal(named.task.id, 3);
  await second.close();
  const third = await overStdio(t, at, "2026", { flags: ["--caller", "branch x"] });
  assert.equal((await third.call("task_claim")).data.token, named.token);
  assert.equal((await third.call("task_release", { id: 3, token: named.token })).data.status, "pending");
  const wait = await third.call("task_claim", { queue: "none", wait_ms: 20 });
  assert.deepEqual([wait.error, wait.data], [false, null]);
});

test("whatever a caller does renews what it holds", async (t) => {
  const at = place(t);
  await seed(at, "a");
  const mcp = await inProcess(t, at, { callerOf: () => "me" });
  await there(at, (state) => state.tasks.claim({ caller: "me", leaseMs: 300_000 }));
  const until = () => there(at, async (state) => (await state.tasks.get(1)).lease_expires_at!);
  const before = await until();
  await mcp.call("task_list");
  assert.ok(Date.parse(await until()) > Date.parse(before) + 50 * 60_000, "a call that only reads holds it, too");
});

/* ---------- decisions ---------- */

test("a question is asked where the person is; what they do not answer goes into the inbox, and the task aside", async (t) => {
  const at = place(t);
  await seed(at, "a", "b");
  for (const kind of ["2026", "2025"] as const) {
    const answers = [{ action: "accept" as const, content: { answer: " blue " } }, { action: "decline" as const }];
    const mcp = await overStdio(t, at, kind, { answer: () => answers.shift()! });
    const claim = (await mcp.call("task_claim")).data;
    const answered = await mcp.call("decision_ask", { question: "Which?", task: claim.task.id, token: claim.token });
    assert.deepEqual([answered.data.status, answered.data.answer, answered.data.asked_by, answered.data.settled_by], ["answered", "blue", "mcp:tester", "person at tester"], kind);
    assert.equal((await mcp.call("task_show", { id: claim.task.id })).data.task.status, "in_progress", "its claim goes on");
    const open = await mcp.call("decision_ask", { question: "Really?", task: claim.task.id, token: claim.token });
    assert.equal(open.data.status, "open");
    assert.equal((await mcp.call("task_show", { id: claim.task.id })).data.task.status, "waiting");
    await mcp.close();
  }
  assert.deepEqual((await there(at, (state) => state.decisions.inbox())).map((decision) => decision.question), ["Really?", "Really?"]);
});

test("a model cannot settle its own decision, nor anybody's, in any way it is offered", async (t) => {
  const at = place(t);
  await seed(at, "a");
  const mcp = await inProcess(t, at);
  const claim = (await mcp.call("task_claim")).data;
  const { id } = (await mcp.call("decision_ask", { question: "May I?", task: 1, token: claim.token })).data;
  const attempts: [string, object][] = [["decision_approve", { id }], ["decision_answer", { id, answer: "yes" }], ["decision_deny", { id, reason: "x" }], ["agent_budget", { id: 1, add: ["max_steps=9"] }], ["decision_ask", { question: "May I?", task: 1, answer: "yes" }], ["decision_ask", { question: "May I?", inputResponses: { answer: { action: "accept", content: { answer: "yes" } } } }]];
  for (const [name, input] of attempts) assert.equal((await mcp.call(name, input)).error, true, name);
  assert.equal((await mcp.tools()).some(({ name }) => /decision_(approve|deny|answer)/.test(name)), false);
  assert.deepEqual((await there(at, (state) => state.decisions.inbox())).map(({ status }) => status), ["open"]);
  const allowed = await inProcess(t, at, { allowDecisions: true });
  assert.ok((await allowed.tools()).some(({ name }) => name === "decision_answer"));
  const own = await allowed.call("decision_answer", { id, answer: "yes" });
  assert.deepEqual([own.error, own.data.code], [true, "illegal_transition"], "nobody settles what they asked themselves");
  const other = await inProcess(t, at, { allowDecisions: true, name: "reviewer" });
  assert.equal((await other.call("decision_answer", { id, answer: "yes" })).data.settled_by, "mcp:reviewer");
});

/* ---------- what a model reads ---------- */

test("on 10,000 tasks every list stays under 8 KB and can be read to its end; the schemas stay under 2,500 tokens", async (t) => {
  const at = place(t, "state.db");
  const state = await openState(at.state, { actor: "seed" });
  for (let i = 0; i < 10; i++) await state.tasks.addAll(Array.from({ length: 1000 }, (_, j) => ({ description: `task ${i * 1000 + j} ${"with a longer description ".repeat(8)}`, input: { payload: "x".repeat(200) } })));
  for (let id = 1; id <= 300; id++) await state.tasks.complete(id, { text: "done ".repeat(100) });
  await state.close();
  const mcp = await inProcess(t, at, { all: true });
  for (const [name, input] of [["task_list", {}], ["task_list", { limit: 10_000 }], ["task_list", { status: "completed" }], ["task_next", {}], ["prime", {}], ["status", {}], ["decision_inbox", {}], ["batch_list", {}]] as const) {
    const answer = await mcp.call(name, input);
    assert.ok(Buffer.byteLength(answer.text) < 8192, `${name}: ${Buffer.byteLength(answer.text)} bytes`);
  }
  const seen: number[] = [];
  for (let after: number | undefined = 9_800; ; ) {
    const page = JSON.parse((await mcp.call("task_list", { after, limit: 500 })).text) as { data: { id: number }[]; after?: number };
    seen.push(...page.data.map((task) => task.id));
    if (page.after === undefined) break;
    after = page.after;
  }
  assert.deepEqual(seen, Array.from({ length: 200 }, (_, i) => 9_801 + i), "each once, in order");
  for (const uri of ["task://queue", "task://pending", "task://completed", "task://stats"]) {
    const read = await mcp.read(uri);
    assert.ok(Buffer.byteLength(JSON.stringify(read)) < 8192, uri);
    if (uri === "task://queue") assert.ok(read.left_out && read.tasks[0].id === 301, "what has not ended comes first");
    if (read.next) assert.equal((await mcp.read(read.next)).tasks[0].id, read.tasks.at(-1).id + 1);
  }
  const all = await mcp.tools();
  const few = await (await inProcess(t, at)).tools();
  // A character in four is a token in English and JSON; rounded up, as the smallest honest estimate without a tokenizer.
  assert.ok(few.length <= 12 && Math.ceil(JSON.stringify(few).length / 4) < 2_500, `${few.length} tools, ${Math.ceil(JSON.stringify(few).length / 4)} tokens`);
  assert.ok(all.length > 40 && !all.some(({ name }) => ["task_reset", "task_remove", "copy", "doctor"].includes(name)));
  assert.deepEqual(await mcp.tools(), all, "in a fixed order");
});

test("an artifact is read whole and in parts", async (t) => {
  const at = place(t);
  const state = await openState(at.state, { actor: "seed" });
  const { id } = await state.artifacts.put("one\ntwo\nthree\n", { type: "text/plain" });
  await state.close();
  const mcp = await inProcess(t, at);
  const text = async (uri: string) => ((await mcp.client.readResource({ uri })).contents[0] as { text: string }).text;
  assert.equal(await text(`artifact://${id}`), "one\ntwo\nthree\n");
  assert.match(await text(`artifact://${id}?lines=2-2`), /^two\n?$/);
  assert.equal(await text(`artifact://${id}?bytes=0-2`), "one");
  await assert.rejects(text("artifact://sha256-0000"));
});

test("who subscribes is told of changes, also by other processes, over both transports", async (t) => {
  const at = place(t);
  await seed(at, "a");
  const server = await httpServer(t, at);
  const sessions = [await overStdio(t, at, "2026"), await overStdio(t, at, "2025"), await overHttp(t, server, "2026")];
  const told: Set<string>[] = [];
  for (const [i, mcp] of sessions.entries()) {
    told[i] = new Set();
    mcp.client.setNotificationHandler("notifications/resources/updated", (notification) => void told[i]!.add(notification.params.uri));
    if (mcp.version!.startsWith("2026")) await mcp.client.listen({ resourceSubscriptions: ["task://queue"] });
    else await mcp.client.subscribeResource({ uri: "task://queue" });
  }
  let n = 0;
  await eventually(async () => {
    await seed(at, `b${n++}`);
    return told.every((uris) => uris.size > 0);
  }, "all three are told", 20_000);
  for (const uris of told) assert.deepEqual([...uris], ["task://queue"], "of what they asked for, and of nothing else");
});

/* ---------- configuration ---------- */

test("install claude: shown first, written once, and what stood there stays", async (t) => {
  const at = place(t);
  mkdirSync(at.path(".claude"));
  writeFileSync(at.path(".mcp.json"), '{"mcpServers":{"other":{"command":"x"}},"kept":1}');
  writeFileSync(at.path(".claude/settings.json"), '{"hooks":{"SessionStart":[{"hooks":[{"type":"command","command":"mine"}]}],"Stop":[]},"model":"m","env":{"OTHER":"1"}}');
  const before = readFileSync(at.path(".mcp.json"), "utf8");
  for (const line of [["mcp", "install", "claude"], ["mcp", "install", "claude", "--dry-run"]]) {
    const shown = await pawl(at, ...line);
    assert.match(shown.stdout, /\.mcp\.json[\s\S]*"mcp"[\s\S]*settings\.json[\s\S]*SessionStart[\s\S]*SKILL\.md/);
    assert.equal(readFileSync(at.path(".mcp.json"), "utf8"), before);
    assert.equal(existsSync(at.path(".claude/skills")), false);
  }
  assert.equal((await pawl(at, "mcp", "install", "claude", "--yes")).code, 0);
  const config = JSON.parse(readFileSync(at.path(".mcp.json"), "utf8")) as { kept: number; mcpServers: { [name: string]: { command: string; args: string[] } } };
  assert.deepEqual([config.kept, config.mcpServers["other"]], [1, { command: "x" }]);
  const settings = JSON.parse(readFileSync(at.path(".claude/settings.json"), "utf8")) as { model: string; hooks: { SessionStart: { hooks: { command: string }[] }[]; Stop: [] } };
  assert.deepEqual((settings as unknown as { env: object }).env, { OTHER: "1", PAWL_ACTOR: "claude" });
  assert.deepEqual([settings.model, settings.hooks.Stop, settings.hooks.SessionStart.length, settings.hooks.SessionStart[0]!.hooks[0]!.command], ["m", [], 2, "mine"]);
  assert.match((await pawl(at, "mcp", "install", "claude", "--yes")).stdout, /there already/);
  const { command, args } = config.mcpServers["pawl"]!;
  const mcp = await session(t, clientOf("2026", {}), new StdioClientTransport({ command, args, cwd: at.folder, env: process.env as { [name: string]: string }, stderr: "ignore" }));
  const { data } = await mcp.call("task_add", { description: "x" });
  assert.equal((await json(at, "history", String(data.id)))[0].actor, "mcp:tester", "what was written starts, and its client is named");
  writeFileSync(at.path(".mcp.json"), "{broken");
  const broken = await pawl(at, "mcp", "install", "claude", "--yes");
  assert.deepEqual([broken.code, readFileSync(at.path(".mcp.json"), "utf8")], [2, "{broken"]);
  assert.match(broken.stderr, /\.mcp\.json:1:2[\s\S]*left as it is|Mend the file/);
  for (const [flags, said] of [[["install", "emacs"], /no installer for "emacs"/], [["--port", "1"], /are for --http/], [["--tools", "some"], /default or all/]] as const) {
    const refused = await pawl(at, "mcp", ...flags);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, said);
  }
});

test("install claude: a password is written nowhere, an actor of the project stays, PAWL_STATE is spoken of", async (t) => {
  const at = place(t);
  for (const url of ["postgres://ann:s3cret@db.example/app", "postgres://ann@db.example/app?password=s3cret", "postgres://ann:s3cret@a,b:x/app"]) {
    const refused = await pawl(at, "--state", url, "mcp", "install", "claude", "--yes");
    assert.deepEqual([refused.code, refused.stdout, existsSync(at.path(".mcp.json"))], [2, "", false], url);
    assert.match(refused.stderr, /Set PAWL_STATE to the URL in the environment/);
    assert.doesNotMatch(refused.stderr, /s3cret/);
  }
  mkdirSync(at.path(".claude"));
  writeFileSync(at.path(".claude/settings.json"), '{"env":{"PAWL_ACTOR":"robot"}}');
  const written = await pawl(at, "mcp", "install", "claude", "--yes");
  assert.match(written.stdout, /PAWL_STATE was not written/);
  assert.deepEqual((JSON.parse(readFileSync(at.path(".claude/settings.json"), "utf8")) as { env: object }).env, { PAWL_ACTOR: "robot" });
  assert.equal((await pawl(at, "--state", "postgres://ann@db.example/app?options=-c%20x", "mcp", "install", "claude", "--yes")).code, 0, "one without a password may be shared");
  assert.match(readFileSync(at.path(".mcp.json"), "utf8"), /"postgres:\/\/ann@db\.example\/app\?options=-c%20x"/);
});

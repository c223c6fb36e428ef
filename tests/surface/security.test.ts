// Who may ask, what may be named, what is shown: tables of hostile hosts, origins, paths, keys, escapes and secrets, through the
// doors themselves. Invariant: each refusal changes nothing, and says no more than that it is one.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { manualClock, systemClock } from "../../src/base/clock.ts";
import { LIMITS } from "../../src/base/limits.ts";
import { redact, redactText, REDACTED } from "../../src/base/redact.ts";
import { openState } from "../../src/state.ts";
import type { Handles } from "../../src/surface/handles.ts";
import { httpApp, type AppOptions } from "../../src/surface/http-app.ts";
import { checkSender, checkToken, makeGauge, type Names } from "../../src/surface/http-guard.ts";
import { makeLive } from "../../src/surface/http-live.ts";
import { staticFile } from "../../src/surface/http-static.ts";
import { sameSecret, tokenAt, tokenPath } from "../../src/surface/http-token.ts";
import { modelText } from "../../src/surface/mcp-shape.ts";
import { confine } from "../../src/surface/paths.ts";
import { DOORS, handlesIn, operationNamed, TOKEN } from "./doors.ts";

let folder = "";
let handles: Handles;

before(async () => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "pawl-security-")));
  const state = await openState(join(folder, "state.json"), { actor: "seed", notice: () => undefined });
  await state.tasks.add({ description: "one" });
  await state.close();
  handles = handlesIn(folder);
});

after(async () => {
  await handles.close();
  rmSync(folder, { recursive: true, force: true });
});

const NAMES: Names = { port: 7295, hosts: ["box.example"], open: false };

function appWith(options: Partial<AppOptions> = {}) {
  const app = httpApp({ handles, live: makeLive(handles, systemClock, "0000"), clock: systemClock, token: TOKEN, names: { ...NAMES, port: 80 }, readOnly: false, root: folder, web: null, ...options });
  const ask = (path: string, init: { method?: string; headers?: { [name: string]: string }; body?: string | Uint8Array } = {}) => app.request(`http://localhost${path}`, { ...init, headers: { host: "localhost", authorization: `Bearer ${TOKEN}`, ...init.headers } } as RequestInit);
  const post = (name: string, body: string, headers: { [name: string]: string } = {}) => ask(`/api/${name}`, { method: "POST", headers: { "content-type": "application/json", ...headers }, body });
  return { ask, post };
}

const history = async () => JSON.stringify(await (await handles.reading()).tasks.all());

/* ---------- hosts and origins ---------- */

/** Host, Origin, Sec-Fetch-Site, and whether it is let in. */
const SENDERS: readonly [host: string | null, origin: string | null, site: string | null, lets: boolean][] = [
  ["localhost:7295", null, null, true],
  ["127.0.0.1:7295", null, null, true],
  ["[::1]:7295", null, null, true],
  ["LOCALHOST:7295", null, null, true],
  ["box.example:7295", null, null, true],
  ["localhost:7295", "http://localhost:7295", "same-origin", true],
  ["localhost:7295", "http://127.0.0.1:7295", "none", true],
  [null, null, null, false],
  ["", null, null, false],
  ["localhost", null, null, false],
  ["localhost:7296", null, null, false],
  ["evil.example:7295", null, null, false],
  ["localhost.evil.example:7295", null, null, false],
  ["evil.localhost:7295", null, null, false],
  ["127.0.0.1.evil.example:7295", null, null, false],
  ["10.0.0.7:7295", null, null, false],
  ["0.0.0.0:7295", null, null, false],
  ["localhost:7295@evil.example", null, null, false],
  ["localhost:7295, evil.example", null, null, false],
  ["localhost:07295x", null, null, false],
  ["localhost:7295", "null", null, false],
  ["localhost:7295", "http://evil.example", null, false],
  ["localhost:7295", "http://evil.example:7295", null, false],
  ["localhost:7295", "https://localhost:7295", null, false],
  ["localhost:7295", "http://localhost:3000", null, false],
  ["localhost:7295", "http://localhost:7295.evil.example", null, false],
  ["localhost:7295", "file://", null, false],
  ["localhost:7295", "http://localhost:7295", "cross-site", false],
  ["localhost:7295", null, "same-site", false],
  ["localhost:7295", "", null, false],
];

test("hosts and origins: only the server's own names, and only its own pages", async () => {
  assert.ok(SENDERS.length >= 25);
  for (const [host, origin, site, lets] of SENDERS) {
    const headers = { get: (name: string) => ({ host, origin, "sec-fetch-site": site })[name] ?? null };
    assert.equal(checkSender(NAMES, headers) === null, lets, JSON.stringify([host, origin, site]));
  }
  const open: Names = { port: 7295, hosts: ["laptop"], open: true };
  for (const [host, lets] of [["10.0.0.7:7295", true], ["[fe80::1]:7295", true], ["laptop:7295", true], ["evil.example:7295", false], ["10.0.0.7.evil.example:7295", false]] as const) {
    assert.equal(checkSender(open, { get: (name) => (name === "host" ? host : null) }) === null, lets, host);
  }
  const { ask } = appWith();
  for (const path of ["/", "/api", "/api/status", "/api/events", "/assets/x.js"]) {
    const refused = await ask(path, { headers: { host: "evil.example" } });
    assert.equal(refused.status, 403, path);
    assert.equal(refused.headers.get("access-control-allow-origin"), null);
  }
});

/* ---------- the token ---------- */

test("no operation without the token, and no change without it", async () => {
  const before = await history();
  const { ask, post } = appWith();
  const wrong: { [name: string]: string }[] = [{ authorization: "" }, { authorization: "Bearer " }, { authorization: `Bearer ${"0".repeat(64)}` }, { authorization: TOKEN }, { authorization: `Basic ${TOKEN}` }, { authorization: `Bearer ${TOKEN}0` }, { authorization: `Bearer ${TOKEN.slice(1)}` }, { authorization: "", cookie: `token=${TOKEN}` }];
  for (const headers of wrong) {
    assert.equal((await post("task_add", '{"description":"x"}', headers)).status, 401, JSON.stringify(headers));
    assert.equal((await ask("/api/events", { headers })).status, 401);
  }
  assert.equal((await ask(`/api/status?token=${TOKEN}`, { headers: { authorization: "" } })).status, 401, "in an address it counts for nothing");
  let guessed = 401;
  for (let i = 0; i < 1_000 && guessed === 401; i++) guessed = (await ask("/api/status", { headers: { authorization: "Bearer guess" } })).status;
  assert.equal(guessed, 429, "guessing is slowed down");
  assert.equal((await ask("/api/status")).status, 200, "who has it is not locked out by who guesses");
  for (const name of ["task_add", "task_cancel", "decision_approve"]) assert.equal((await ask(`/api/${name}?description=x&id=1`)).status, 405, "a GET changes nothing");
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json; charset=latin1", ""]) {
    assert.equal((await post("task_add", '{"description":"x"}', { "content-type": type })).status, 415, type);
  }
  assert.equal((await appWith({ readOnly: true }).post("task_add", '{"description":"x"}')).status, 403);
  assert.equal((await ask("/api/task_list", { method: "OPTIONS", headers: { origin: "http://localhost", "access-control-request-method": "POST" } })).status, 405);
  assert.equal(await history(), before);
});

test("the token file: private, kept, and not used when it is not", () => {
  const path = join(folder, "tokens", "state.json.pawl", "token");
  const token = tokenAt(path);
  assert.match(token, /^[0-9a-f]{64}$/);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(tokenAt(path), token, "the same at the next start");
  assert.ok(sameSecret(token, token) && !sameSecret(token, "") && !sameSecret(token, `${token}x`));
  assert.equal(checkToken(token, `bearer ${token}`), null);
  writeFileSync(`${path}-bad`, "short\n", { mode: 0o600 });
  assert.throws(() => tokenAt(`${path}-bad`), /does not hold a token/);
  symlinkSync(path, `${path}-link`);
  assert.throws(() => tokenAt(`${path}-link`), /not a regular file/);
  writeFileSync(`${path}-open`, `${token}\n`, { mode: 0o644 });
  assert.throws(() => tokenAt(`${path}-open`), /others can read it/);
  const remote = tokenPath("postgres://db.example/x", { XDG_RUNTIME_DIR: "/run/user/1" });
  assert.match(remote, /^\/run\/user\/1\/pawl-[^/]+\/tokens\/[0-9a-f]{32}$/);
  assert.notEqual(remote, tokenPath("postgres://db.example/y", { XDG_RUNTIME_DIR: "/run/user/1" }));
});

test("sizes and numbers are bounded", async () => {
  const { ask, post } = appWith();
  assert.equal((await post("task_add", JSON.stringify({ description: "x".repeat(LIMITS.requestBytes) }))).status, 413);
  assert.equal((await post("task_add", "{}", { "content-length": "999999999" })).status, 413);
  for (const [body, status] of [["[1]", 400], ["{", 400], ['"x"', 400], ['{"description":"x"} x', 400], ['{"a":1,"a":2}', 400], ["\ufeff", 400], [`${"[".repeat(400)}`, 400]] as const) assert.equal((await post("task_add", body)).status, status, body);
  assert.equal((await ask("/api/task_add", { method: "POST", headers: { "content-type": "application/json" }, body: Uint8Array.of(0x7b, 0xff, 0x7d) })).status, 422);
  const clock = manualClock();
  const gauge = makeGauge(clock, 2, 4);
  assert.deepEqual(Array.from({ length: 6 }, gauge), [true, true, true, true, false, false]);
  clock.jump(60_000);
  assert.equal(gauge(), false, "a jump of the clock gives nothing");
  await clock.advance(1_000);
  assert.deepEqual(Array.from({ length: 3 }, gauge), [true, true, false]);
  const still = appWith({ clock: manualClock() });
  let last = 200;
  for (let i = 0; i <= LIMITS.requestsPerSecond * 2; i++) last = (await still.ask("/api/nope")).status;
  assert.equal(last, 429);
});

test("every answer carries the headers that keep a page to itself", async () => {
  for (const [path, headers] of [["/", {}], ["/api", {}], ["/api/status", { authorization: "" }], ["/nothing.js", {}]] as const) {
    const answer = await appWith({ web: folder }).ask(path, { headers });
    assert.match(answer.headers.get("content-security-policy")!, /default-src 'none'; script-src 'self';.*frame-ancestors 'none'/, path);
    assert.deepEqual(["x-content-type-options", "x-frame-options", "referrer-policy", "access-control-allow-origin", "set-cookie"].map((name) => answer.headers.get(name)), ["nosniff", "DENY", "no-referrer", null, null], path);
  }
});

/* ---------- paths ---------- */

const BAD_PATHS: readonly string[] = [
  "", "/", "/etc/passwd", "//etc/passwd", "..", "../x", "a/../../x", "a/..", "./../x", "../../../../etc/passwd", "~", "~/x", "~root/x", "-", "-rf", "--help", "a\0b", "\0", "a\nb", "a\u001b[2Jb", "a\u007f", "C:\\x", "C:/x", "c:x",
  "\\\\host\\share", "a\\b", "..\\x", "file:///etc/passwd", "http://evil.example/x", "postgres://u:p@h/d", "state.json:stream", "x:$DATA", "con", "CON", "con.txt", "aux", "a/nul", "NUL.json", "com1", "COM9.x", "lpt1", "LPT3.log", "prn", "conin$", "CONOUT$",
  "COM¹", "a.", "a..", "a ", "dir./x", "dir /x", "...", "a/...", "x".repeat(5000), "out", "out/secret", "loop", "loop/x", "gone", "up/secret", "deep/up2/secret", "deep/../../x",
];

test("paths from outside stay in their folder", () => {
  assert.ok(BAD_PATHS.length >= 60, String(BAD_PATHS.length));
  const root = join(folder, "root");
  const outside = join(folder, "outside");
  for (const made of [join(root, "deep"), outside]) mkdirSync(made, { recursive: true });
  writeFileSync(join(outside, "secret"), "s");
  symlinkSync(outside, join(root, "out"));
  symlinkSync(join(outside, "nothing"), join(root, "gone"));
  symlinkSync("loop", join(root, "loop"));
  symlinkSync("..", join(root, "up"));
  symlinkSync("../..", join(root, "deep", "up2"));
  for (const path of BAD_PATHS) assert.throws(() => confine(root, path), /is not taken/, JSON.stringify(path.slice(0, 60)));
  symlinkSync("deep", join(root, "inner"));
  for (const path of ["a", "a.txt", "./a", "deep/b.json", "inner/b", ".hidden", "a..b", "conf.txt", "日本.txt", "a b", "new/folder/file"]) assert.ok(confine(root, path).startsWith(`${root}/`), path);
  assert.ok(confine(folder, "root/a").startsWith(folder), "also where the root is a link");
});

test("paths in a call over HTTP and MCP are held to the folder, and nothing is read or written elsewhere", async () => {
  for (const door of ["HTTP", "MCP"]) {
    const { call, close } = await DOORS[door]!(folder);
    for (const [name, input] of [["import", { file: "../outside.txt" }], ["import", { file: "-" }], ["import", { file: "/etc/hostname" }], ["backup", { to: "/tmp/pawl-stolen.json" }], ["copy", { from: "state.json", to: "postgres://h/d" }], ["copy", { from: "/etc/passwd", to: "x.db" }], ["artifact_put", { file: "/etc/hostname" }]] as const) {
      const answer = JSON.stringify(await call(operationNamed(name), input));
      assert.match(answer, /is not taken/, `${door} ${name} ${JSON.stringify(input)}: ${answer}`);
    }
    await close();
  }
});

test("files of the dashboard: only those of its folder", async () => {
  const web = join(folder, "web");
  mkdirSync(join(web, "assets"), { recursive: true });
  writeFileSync(join(web, "index.html"), "<!doctype html>page");
  writeFileSync(join(web, "assets", "app-1.js"), "1");
  writeFileSync(join(folder, "secret.js"), "secret");
  symlinkSync(join(folder, "secret.js"), join(web, "link.js"));
  const given = async (path: string) => staticFile(web, path);
  assert.deepEqual([(await given("/")).status, (await given("/tasks/3")).type], [200, "text/html; charset=utf-8"]);
  assert.match((await given("/assets/app-1.js")).cache, /immutable/);
  for (const path of ["/../secret.js", "/%2e%2e/secret.js", "/..%2fsecret.js", "/assets/../../secret.js", "/%252e%252e/secret.js", "/link.js", "/%00.js", "/index.html%00.js", "/%ff.js", "/a.php", "/.env", "/assets/", "//etc/passwd", "/assets/app-1.js/x.js", "/C:/x.js", "/state.json"]) {
    const found = await given(path);
    assert.ok(found.status === 404 || found.type.startsWith("text/html"), path);
    assert.doesNotMatch(String(found.body), /secret$|root:/, path);
  }
  assert.match(String((await staticFile(join(folder, "unbuilt"), "/")).body), /not built/);
});

/* ---------- keys that mean something to the language ---------- */

const KEYS = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "valueOf", "__defineGetter__", "isPrototypeOf", "then", "toJSON"];

test("keys that mean something to the language are data or refused, and pollute nothing", async () => {
  const { ask, post } = appWith();
  const before = Object.getOwnPropertyNames(Object.prototype).sort();
  let cases = 0;
  for (const key of KEYS) {
    const bodies = [`{"${key}":{"polluted":true},"description":"x"}`, `{"description":"x","input":{"${key}":{"polluted":true}}}`, `{"description":"x","input":[{"a":{"${key}":"polluted"}}]}`];
    for (const body of bodies) {
      cases++;
      const answer = await post("task_add", body);
      const document = (await answer.json()) as { data: { id?: number; input?: unknown; code?: string } };
      assert.ok(answer.status === 200 || answer.status === 400 || answer.status === 422, `${body}: ${answer.status}`);
      if (answer.status === 200) assert.equal(JSON.stringify(document.data.input), JSON.stringify((JSON.parse(body) as { input: unknown }).input), "it is kept as it is");
      if (answer.status !== 200) assert.ok(["usage", "value_refused"].includes(document.data.code!), JSON.stringify(document));
    }
    assert.ok([400, 404, 405].includes((await ask(`/api/${key}`)).status), `GET /api/${key}`);
    assert.equal((await ask(`/api/task_list?${key}=x`)).status, 400, `?${key}`);
    assert.equal((await post(key, "{}")).status, 404);
  }
  assert.ok(cases >= 30);
  assert.deepEqual(Object.getOwnPropertyNames(Object.prototype).sort(), before);
  assert.equal(({} as { polluted?: unknown }).polluted, undefined);
});

/* ---------- terminals ---------- */

const ESCAPES: readonly string[] = [
  ..."\u0000\u0001\u0007\u0008\u000b\u000c\u000e\u000f\u001a\u001b\u001f\u007f\u0080\u0084\u0085\u008d\u0090\u009b\u009c\u009d\u009f\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
  "\u001b[2J", "\u001b]0;title\u0007", "\u001b]8;;http://evil.example\u0007click\u001b]8;;\u0007", "\u001bP$q\u001b\\", "\u001b[6n", "\u009b31m", "\u001b]52;c;ZXZpbA==\u0007", "\r\u001b[Kfake", "\u001b(0",
];

test("what is stored cannot act on a terminal, through any command that shows it", async () => {
  assert.ok(ESCAPES.length >= 40, String(ESCAPES.length));
  const place = join(folder, "escapes");
  mkdirSync(place);
  const state = await openState(join(place, "state.json"), { actor: "seed", notice: () => undefined });
  for (const escape of ESCAPES.filter((text) => !text.includes("\0"))) await state.tasks.add({ description: `a${escape}b`, tags: ["t"], input: { [`k${escape}`]: escape } });
  await state.close();
  const { main } = await import("../../src/surface/cli.ts");
  const { ioIn } = await import("./doors.ts");
  for (const line of [["list"], ["list", "--json"], ["show", "5"], ["show", "7", "--json"], ["status"], ["prime"], ["prime", "--hook"], ["export"], ["why", "3"], ["history", "4"], ["show", "\u001b[2J"]]) {
    let shown = "";
    await main(line, ioIn(place, { out: (text) => void (shown += String(text)), err: (text) => void (shown += text) }));
    assert.doesNotMatch(shown.replaceAll("\r\n", "\n"), /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/, line.join(" "));
    assert.ok(shown.length > 0);
  }
});

/* ---------- secrets ---------- */

const SECRETS: readonly string[] = [
  `sk-proj-${"a1B2".repeat(8)}`, `sk-ant-${"x9".repeat(20)}`, `ghp_${"A1".repeat(18)}`, `gho_${"b2".repeat(18)}`, `github_pat_${"c3".repeat(20)}`, `glpat-${"d4".repeat(10)}`, "xoxb-1234567890-abcdefghij", `npm_${"e5".repeat(18)}`, "AKIAIOSFODNN7EXAMPLE",
  `AIza${"f".repeat(35)}`, `hf_${"g6".repeat(16)}`, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghij", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\nMIIE",
];
const IN_TEXT: readonly [text: string, secret: string][] = [
  ["postgres://ann:hunter2secret@db.example/pawl", "hunter2secret"], ["https://user:p%40ss@example.com/x", "p%40ss"], ["Authorization: Bearer abcdefghijklmnop0123", "abcdefghijklmnop0123"], ["PGPASSWORD=hunter2 psql", "hunter2"],
  ["export OPENAI_API_KEY='abc def'", "abc def"], ["AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI"], ["curl --password hunter2 x", "hunter2"], ["cannot connect: host=db user=ann password=hunter2", "hunter2"], ["https://x.example/?api_key=zzz123&b=1", "zzz123"], ["GITHUB_TOKEN=abc123", "abc123"],
];
const NAMED = ["password", "PASSWORD", "db_password", "api_key", "apiKey", "api-key", "client_secret", "access_token", "refresh_token", "authorization", "Cookie", "set-cookie", "private_key", "secret", "credentials"];

test("secrets in known shapes and under telling names do not leave the machine", async () => {
  assert.ok(SECRETS.length + IN_TEXT.length + NAMED.length >= 20);
  for (const secret of SECRETS) assert.ok(!redactText(`before ${secret} after`).includes(secret.slice(8, 24)) && redactText(`before ${secret} after`).startsWith("before "), secret);
  for (const [text, secret] of IN_TEXT) assert.ok(!redactText(text).includes(secret) && redactText(text).includes(REDACTED), `${text} → ${redactText(text)}`);
  for (const name of NAMED) assert.deepEqual(redact({ [name]: "x", deep: [{ [name]: 1234 }] }), { [name]: REDACTED, deep: [{ [name]: REDACTED }] }, name);
  for (const fine of ["a token of 3 characters", "ask-me-anything", "task-list", "https://example.com/a:b", "sk-short", "the password is long", "key=value", "2026-11-21T10:00:00.000Z", "1.1.c-a0cc65632b0f390c6f5bd28295baa8a0-tester", "sha256-ab12", "max_llm_tokens=50000"]) assert.equal(redactText(fine), fine);
  assert.deepEqual(redact({ token: "1.2.c-x", llm_tokens: 5, author: "ann", secretary: "bob", password: null }), { token: "1.2.c-x", llm_tokens: 5, author: "ann", secretary: "bob", password: null });
  const started = process.hrtime.bigint();
  for (const nasty of ["a".repeat(200_000), "sk-".repeat(60_000), "A_".repeat(100_000), "eyJ".repeat(60_000), "http://".repeat(30_000), "-----BEGIN ".repeat(20_000)]) redactText(nasty);
  assert.ok(Number(process.hrtime.bigint() - started) < 20e9, "no text makes it slow");
  const { call, close } = await DOORS["MCP"]!(folder);
  const answer = await call(operationNamed("task_add"), { description: `deploy with ${SECRETS[2]}`, input: { password: "hunter2", ok: 1 } });
  await close();
  assert.ok(!String(answer).includes(SECRETS[2]!) && !String(answer).includes("hunter2") && String(answer).includes('"ok":1'), String(answer));
  assert.ok(readFileSync(join(folder, "state.json"), "utf8").includes(SECRETS[2]!), "what is stored is what was given");
});

test("a model is shown what is there, cut where it says so", () => {
  const task = { id: 1, description: "x".repeat(500), status: "pending", result: { hash: "kept", list: [], none: null }, hash: "gone", tags: [], queue: "default", fence: 3 };
  assert.deepEqual(JSON.parse(modelText({ schema_version: 1, kind: "task", data: task })), { kind: "task", data: { id: 1, description: "x".repeat(500), status: "pending", result: { hash: "kept", list: [], none: null } } });
  const many = JSON.parse(modelText({ schema_version: 1, kind: "task-list", data: Array.from({ length: 1000 }, (_, i) => ({ ...task, id: i + 1 })), after: 1000 })) as { data: { description: string }[]; left_out: number; after: number };
  assert.ok(many.data[0]!.description.endsWith("[300 more characters]") && many.left_out === 1000 - many.data.length && many.after === many.data.length);
});

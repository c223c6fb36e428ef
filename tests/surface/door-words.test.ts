// What an error says to do next, through each door: a model is told a tool it has, a program over HTTP a route, and what a door
// does not have stays a command that says so. What a user wrote is read as no command.
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import ts from "typescript";
import { LIMITS } from "../../src/base/limits.ts";
import { OPERATIONS } from "../../src/operations.ts";
import { errorInWords, inWords, routeWords, toolWords } from "../../src/surface/door-words.ts";
import { PawlError } from "../../src/index.ts";
import { EXAMPLES } from "../../src/surface/examples.ts";
import { modelText } from "../../src/surface/mcp-shape.ts";
import { offered } from "../../src/surface/mcp-tools.ts";
import { place } from "../pawl.ts";
import { DOORS, handlesIn, mcpClient, operationNamed } from "./doors.ts";

const ALL = toolWords(OPERATIONS);
const FEW = toolWords(offered({ all: false, allowDecisions: false, allowDestructive: false }));

test("a command in a sentence becomes the tool or the route of its operation", () => {
  for (const [said, tool, route] of [
    ["See what there is: pawl list.", "See what there is: task_list.", "See what there is: GET /api/task_list."],
    ["See how it stands now (pawl status), then try again.", "See how it stands now (status), then try again.", "See how it stands now (GET /api/status), then try again."],
    ["Pass the token, or take it away first: pawl release 3 --force.", 'Pass the token, or take it away first: task_release {"id":3,"force":true}.', 'Pass the token, or take it away first: POST /api/task_release {"id":3,"force":true}.'],
    ["See why: pawl why 7. Then: pawl retry 7 --deadline 1h.", 'See why: why {"id":7}. Then: task_retry {"id":7,"deadline":"1h"}.', 'See why: GET /api/why?id=7. Then: POST /api/task_retry {"id":7,"deadline":"1h"}.'],
    ['pawl approve d3   (or: pawl deny d3 --reason "no. Never")', 'decision_approve {"id":"d3"}   (or: decision_deny {"id":"d3","reason":"no. Never"})', 'POST /api/decision_approve {"id":"d3"}   (or: POST /api/decision_deny {"id":"d3","reason":"no. Never"})'],
    ["pawl edit 3 --depends-on with the ones that are there", 'task_edit {"id":3,"depends_on":"…"} with the ones that are there', 'POST /api/task_edit {"id":3,"depends_on":"…"} with the ones that are there'],
    ["See which: pawl list --status failed --batch b-1.", 'See which: task_list {"status":"failed","batch":"b-1"}.', "See which: GET /api/task_list?status=failed&batch=b-1."],
    ["pawl list --status failed shows them; pawl add --queue mail --tags slow", 'task_list {"status":"failed"} shows them; task_add {"queue":"mail","tags":"slow"}', 'GET /api/task_list?status=failed shows them; POST /api/task_add {"queue":"mail","tags":"slow"}'],
    ["pawl event emit deploy --value 3", 'event_emit {"name":"deploy","value":"3"}', 'POST /api/event_emit {"name":"deploy","value":"3"}'],
    ["pawl doctor --accept-edit or --discard-edit", 'doctor {"accept_edit":""} or --discard-edit', 'POST /api/doctor {"accept_edit":""} or --discard-edit'],
    ["`pawl doctor` says what is readable; `pawl doctor --repair` mends it.", 'doctor says what is readable; doctor {"repair":true} mends it.', 'POST /api/doctor says what is readable; POST /api/doctor {"repair":true} mends it.'],
    ['pawl ask "…" --task 3 --token TOKEN', 'decision_ask {"question":"…","task":3,"token":"TOKEN"}', 'POST /api/decision_ask {"question":"…","task":3,"token":"TOKEN"}'],
    ["See: pawl add --help", "See: the schema of task_add", "See: the schema of task_add"],
    ["Pass the token that `pawl claim --json` printed.", "Pass the token that task_claim printed.", "Pass the token that POST /api/task_claim printed."],
    ["pawl worker --exec … --queue 'a b'", "task_claim {\"queue\":\"a b\"}, or `pawl worker --exec … --queue 'a b'` on the command line", "POST /api/task_claim {\"queue\":\"a b\"}, or `pawl worker --exec … --queue 'a b'` on the command line"],
    ["Go on: pawl run --resume b.", 'Go on: task_claim {"batch":"b"}, or `pawl run --resume b` on the command line.', 'Go on: POST /api/task_claim {"batch":"b"}, or `pawl run --resume b` on the command line.'],
    ["Start it: pawl run x.txt --new. Or: pawl --state x backup", "Start it: `pawl run x.txt --new` on the command line. Or: `pawl --state x backup` on the command line", null],
    ["A path like /a/pawl list.json, or spawl list", "A path like /a/pawl list.json, or spawl list", null],
  ] as const) {
    assert.equal(inWords(said, ALL), tool);
    assert.equal(inWords(said, routeWords), route ?? tool);
  }
});

test("a tool that is not offered stays a command", () => {
  assert.equal(inWords("Settle it: pawl inbox. See it: pawl show 3.", FEW), 'Settle it: `pawl inbox` on the command line. See it: task_show {"id":3}.');
  assert.equal(inWords("pawl history 3, pawl status", FEW), 'why {"id":3}, prime', "a look that shows the same");
});

test("every operation is found by its own examples, with an input that it takes", () => {
  for (const { name, command, params } of OPERATIONS) {
    for (const line of EXAMPLES[command]!.filter((example) => /^pawl [^|<>&]*$/.test(example))) {
      const said = inWords(line, ALL);
      assert.equal(said.split(" ")[0], name, line);
      const input = JSON.parse(/\{.*\}$/.exec(said)?.[0] ?? "{}") as object;
      for (const field of Object.keys(input)) assert.ok(Object.keys(params).some((param) => field.startsWith(param.replaceAll("-", "_"))), `${line}: ${field}`);
    }
  }
});

/** Texts of the program that a door may pass on, each `${…}` filled in as a number and as a word. The command line's own stay there. */
function texts(): ReadonlySet<string> {
  const found = new Set<string>();
  const root = join(import.meta.dirname, "../../src");
  const read = (node: ts.Node): void => {
    if (ts.isStringLiteralLike(node)) found.add(node.text);
    if (ts.isTemplateExpression(node)) for (const filling of ["7", "mail"]) found.add(node.head.text + node.templateSpans.map(({ literal }) => filling + literal.text).join(""));
    ts.forEachChild(node, read);
  };
  for (const path of globSync("**/*.ts", { cwd: root }).filter((path) => !/^surface[\\/](?!mcp|http)/.test(path))) {
    read(ts.createSourceFile(path, readFileSync(join(root, path), "utf8"), ts.ScriptTarget.ESNext));
  }
  return found;
}

/** With a flag that is built of two words, and with one whose values the sentence tells. */
const APART = [/--(7|mail)-edit/, /--depends-on with the ones that are there/];

test("every text of the program that names a command is put in other words whole", () => {
  const words = [...new Set(OPERATIONS.flatMap(({ command, aliases }) => [command.split(" ")[0]!, ...(aliases ?? [])])), "run", "worker", "step", "wait", "ui", "mcp"].join("|");
  const named = new RegExp(`(?:^|[\\s(:\`])pawl (?:${words})(?![\\w-])`);
  const checked = [...texts()].filter((text) => named.test(text) && !text.includes("\n") && !APART.some((pattern) => pattern.test(text)));
  assert.ok(checked.length > 150, `${checked.length} texts`);
  for (const text of checked) {
    for (const door of [ALL, routeWords]) {
      const said = inWords(text, door);
      const plain = said.replaceAll(/`pawl [^`]*` on the command line/g, "");
      assert.doesNotMatch(plain, /(^|\s)--[a-z]/, text);
      assert.doesNotMatch(plain, named, text);
      assert.equal(decodeURIComponent(said.replaceAll(/%(?![0-9A-F]{2})/g, "%25")).split("…").length, text.split("…").length, `${text}\n${said}`);
    }
  }
});

test("what a user wrote is shown as it was written", () => {
  const release = operationNamed("task_release");
  for (const message of ['There is no task "pawl retry 3 --fresh".', "task not found: pawl retry 3 --fresh", "It failed: command not found: pawl add 'x'", 'release takes no "pawl list --force".', "Run `pawl reset --all` first --force"]) {
    assert.equal(errorInWords(new PawlError("usage", message), ALL, release).message.replace(/^task_release/, "release"), message);
    assert.equal(errorInWords(new PawlError("not_found", message), routeWords, release).message, message);
  }
  assert.equal(errorInWords(new PawlError("failed", "release needs --force"), ALL, release).message, "release needs --force");
  const finding = { code: "dangling", message: 'The task "pawl reset --all" is not there.', next: "pawl doctor --repair" };
  const { findings } = (JSON.parse(modelText({ schema_version: 1, kind: "doctor", data: { summary: "pawl list", findings: [finding] } }, ALL)) as { data: { findings: object[] } }).data;
  assert.deepEqual(findings, [{ ...finding, next: 'doctor {"repair":true}' }]);
});

test("checks of an operation name it and its fields as the door does", () => {
  const said = errorInWords(new PawlError("usage", "release needs id: its id.", { next: "Use --force, or: pawl release 3 --force" }), ALL, operationNamed("task_release"));
  assert.deepEqual([said.message, said.next], ["task_release needs id: its id.", 'Use force, or: task_release {"id":3,"force":true}']);
  const other = errorInWords(new PawlError("usage", "Nothing.", { next: "Start it without --read-only." }), ALL, operationNamed("task_release"));
  assert.equal(other.next, "Start it without --read-only.");
});

test("a long text without an end is read in one go", () => {
  const long = `pawl add "${"pawl list 'x ".repeat(LIMITS.modelChars / 20)}`;
  assert.ok(inWords(long, ALL).length > 0);
});

test("MCP names tools that are offered, HTTP routes, the command line commands", async (t) => {
  const at = place(t);
  const handles = handlesIn(at.folder);
  const { client, close } = await mcpClient(handles, at.folder, { all: false, allowDecisions: false, allowDestructive: false });
  const model = async (name: string, input: object) => JSON.parse(((await client.callTool({ name, arguments: { ...input } })).content as { text: string }[])[0]!.text).data as { message: string; next: string };
  await model("task_add", { description: "x" });
  assert.equal((await model("task_show", { id: 9 })).next, "See what there is: task_list.");
  assert.match((await model("task_add", {})).message, /^task_add needs description/);
  assert.equal((await model("task_add", {})).next, "See: the schema of task_add");
  assert.equal((await model("task_add", { description: "x", priority: "high" })).next, "See the schema of task_add.");
  assert.match((await model("why", { id: 1 })).next, /^task_claim, or `pawl run --exec …` on the command line$/);
  await model("task_claim", {});
  assert.equal((await model("task_release", { id: 1, token: "1.9.c-x" })).next, 'See what happened: why {"id":1}.');
  assert.match((await model("task_complete", { id: 1 })).next, /task_release \{"id":1,"force":true\}/);
  assert.equal((await model("decision_approve", { id: "d1" })).next, "Leave it to a person: `pawl inbox` on the command line.");
  const question = "Shall I run `pawl reset --all` on prod?";
  await model("task_add", { description: "y" });
  const { token } = (await model("task_claim", {})) as unknown as { token: string };
  await model("decision_ask", { question, task: 2, token });
  const waits = (await model("why", { id: 2 })) as unknown as { summary: string; next: string };
  assert.equal(waits.summary, `It waits for you: ${question}`);
  assert.match(waits.next, /on the command line/);
  assert.match((await model("task_show", { id: "pawl retry 3 --fresh" })).message, /pawl retry 3 --fresh/);
  await close();
  await handles.close();
  const http = await DOORS["HTTP"]!(at.folder);
  const refused = async (name: string, input: object) => ((await http.call(operationNamed(name), input as never)) as unknown as { data: { next: string } }).data.next;
  assert.equal(await refused("task_show", { id: 9 }), "See what there is: GET /api/task_list.");
  assert.match(await refused("task_complete", { id: 1 }), /POST \/api\/task_release \{"id":1,"force":true\}/);
  await http.close();
  assert.match((await at.pawl(["show", "9"], { env: { PAWL_STATE: at.path("state.json") } })).stderr, /pawl list/);
});

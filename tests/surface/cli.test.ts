// Every operation through the real command line, in child processes, on a JSON and on a SQLite state: what it prints, its
// JSON, its exit codes. What needs no process of its own (help, refusals, completion) calls main() with an Io of its own.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ERROR_CODES, type ErrorCode } from "../../src/base/errors.ts";
import { OPERATIONS } from "../../src/operations.ts";
import { openState } from "../../src/state.ts";
import { main } from "../../src/surface/cli.ts";
import { EXAMPLES } from "../../src/surface/examples.ts";
import type { Io } from "../../src/surface/io.ts";
import { place } from "../pawl.ts";

type Document = { schema_version: number; kind: string; data: never };
type Task = { id: number; status: string; description: string; result: unknown; tags: string[]; priority: number; depends_on: number[]; error: { message: string } | null };

/** main() in this process, in a folder of its own. */
function desk(t: { after(fn: () => void): void }) {
  const folder = mkdtempSync(join(tmpdir(), "pawl-cli-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const pawl = async (args: readonly string[], options: { input?: string; io?: Partial<Io> } = {}) => {
    let stdout = "";
    let stderr = "";
    const io: Io = {
      out: (text) => void (stdout += text), err: (text) => void (stderr += text), stdin: async () => Buffer.from(options.input ?? ""),
      tty: false, color: false, errColor: false, columns: 100, env: { PAWL_ACTOR: "tester" }, cwd: folder, ...options.io,
    };
    return { code: await main(args, io), stdout, stderr };
  };
  const data = async <T>(args: readonly string[], input?: string): Promise<T> => {
    const { code, stdout, stderr } = await pawl([...args, "--json"], input === undefined ? {} : { input });
    assert.equal(code, 0, `pawl ${args.join(" ")}: ${stderr}`);
    return (JSON.parse(stdout) as { data: T }).data;
  };
  return { folder, pawl, data, path: (name: string) => join(folder, name) };
}

/** One document on stdout, nothing on stderr. */
function documentOf(ended: { stdout: string; stderr: string }, kind: string): never {
  assert.equal(ended.stderr, "");
  assert.equal(ended.stdout.trimEnd().split("\n").length, 1, "one line");
  const document = JSON.parse(ended.stdout) as Document;
  assert.deepEqual([document.schema_version, document.kind], [1, kind]);
  return document.data;
}

for (const file of [".pawl/state.json", "state.db"]) {
  test(`${file}: a task's way through the verbs, in processes of its own`, async (t) => {
    const at = place(t, file);
    const json = async (...args: string[]) => {
      const ended = await at.pawl([...args, "--json"]);
      assert.equal(ended.code, 0, `pawl ${args.join(" ")}: ${ended.stderr}`);
      return JSON.parse(ended.stdout) as { kind: string; data: any; broken_at?: number | null };
    };
    const added = await at.pawl(["add", "write", "a", "haiku", "--tags", "a,b", "--tags", "c", "--priority", "1"]);
    assert.deepEqual([added.code, added.stdout, added.stderr], [0, "○ task 1 pending: write a haiku\n", ""]);
    const second = await at.pawl(["add", "-", "--json", "--depends-on", "1", "--key", "second"], { input: "two\nlines\n" });
    const task = documentOf(second, "task") as Task;
    assert.deepEqual([task.id, task.description, task.depends_on], [2, "two\nlines", [1]]);
    const { task: claimed, token } = (await json("claim")).data;
    assert.deepEqual([claimed.id, claimed.tags], [1, ["a", "b", "c"]]);
    const refused = await at.pawl(["complete", "1", "--result", "mine", "--json"]);
    assert.deepEqual([refused.code, refused.stdout, (JSON.parse(refused.stderr) as any).data.code], [ERROR_CODES.conflict.exit, "", "conflict"]);
    const done = await at.pawl(["done", "1", "--result", "-", "--token", token], { input: "42\n" });
    assert.deepEqual([done.code, done.stdout], [0, "✓ task 1 completed: write a haiku\n"], done.stderr);
    assert.equal((await json("show", "1")).data.task.result, "42", "a result is text");
    assert.deepEqual((await json("list")).data.map((t: Task) => [t.id, t.status]), [[1, "completed"], [2, "pending"]]);
    assert.equal((await json("fail", "second", "--reason", "no")).data.error.message, "no");
    assert.equal((await json("retry", "2")).data.status, "pending");
    assert.equal((await json("status")).data.tasks.progress_percent, 50);
    const history = await json("history", "2");
    assert.deepEqual([history.kind, history.data.map((event: { event: string }) => event.event), history.broken_at], ["history", ["created", "unblocked", "failed", "retried"], null]);
    assert.match((await at.pawl(["why", "second"])).stdout, /It is due/);
  });
}

test("every other operation: what it gives, in JSON and as text", async (t) => {
  const at = desk(t);
  for (const description of ["a", "b", "c"]) await at.pawl(["add", description]);
  assert.deepEqual((await at.data<Task[]>(["next"])).map((task) => task.id), [1]);
  assert.equal((await at.data<Task>(["edit", "1", "--description", "-", "--priority", "9"], "new text\n")).description, "new text");
  assert.deepEqual((await at.data<Task>(["complete", "1", "--result-json", '{"n":[1]}'])).result, { n: [1] });
  assert.equal((await at.data<Task>(["reopen", "1", "--reason", "more"])).status, "pending");
  assert.equal((await at.data<Task>(["cancel", "1"])).status, "cancelled");
  assert.equal((await at.data<{ task: Task }>(["reset", "1"])).task.status, "pending");
  assert.deepEqual(await at.data(["reset", "--all"]), { reset: 3, task: null });
  assert.equal((await at.pawl(["rm", "3"])).stdout, "Task 3 removed: c\n");
  const claim = await at.data<{ token: string }>(["claim", "--lease", "10m"]);
  assert.equal((await at.data<Task>(["release", "2", "--token", claim.token])).status, "pending");
  assert.match((await at.pawl(["ls", "--status", "pending"])).stdout, /1 .*new text/);
  assert.equal((await at.data<Task[]>(["list", "--limit", "1"])).length, 1);
  assert.equal((JSON.parse((await at.pawl(["list", "--limit", "1", "--json"])).stdout) as { after: number }).after, 1, "a cut list says where it goes on");
  writeFileSync(at.path("tasks.txt"), "one\n{{x}}\n");
  const relative = process.cwd();
  process.chdir(at.folder);
  t.after(() => process.chdir(relative));
  const imported = await at.data<{ batch: { id: string }; report: object }>(["import", "tasks.txt", "--var", "x=1,2"]);
  assert.deepEqual(imported.report, { added: 2, known: 0, gone: 0, back: 0 });
  writeFileSync(at.path("tasks.txt"), "zero\none\n{{x}}\n");
  assert.match((await at.pawl(["import", "tasks.txt", "--var", "x=1,2"])).stdout, /: 1 added, 2 known already\n/);
  assert.deepEqual((await at.data<{ tasks: Task[] }>(["export", "--batch", imported.batch.id])).tasks.map((task) => task.description), ["one", "1,2", "zero"], "each once");
  assert.deepEqual((await at.data<{ id: string }[]>(["batch", "list"])).map((batch) => batch.id), [imported.batch.id]);
  assert.deepEqual((await at.data<{ items: { name: string }[] }>(["batch", "show", imported.batch.id])).items.map((item) => item.name), ["zero", "one", "1,2"]);
  assert.match((await at.pawl(["export"])).stdout, /^# Tasks\n\n5 tasks: 5 pending\./);
  assert.equal((await at.pawl(["show", "1", "--output"])).code, 0);
  assert.deepEqual(await at.data(["inbox"]), []);
  assert.match((await at.pawl(["log", "3"])).stdout, /removed/, "a removed task has a history still");
});

test("decisions: seen, answered, approved and denied", async (t) => {
  const at = desk(t);
  const state = await openState(at.path(".pawl/state.json"), { actor: "program" });
  for (const description of ["a", "b", "c"]) await state.tasks.add({ description });
  const worker = state.work({ execute: (task, { step }) => step("send", { effect: "once" }, () => { throw new Error(`${task.id}`); }) });
  await worker.idle();
  await state.close();
  assert.deepEqual((await at.data<{ id: string }[]>(["inbox"])).map((decision) => decision.id), ["d1", "d2", "d3"]);
  assert.match((await at.pawl(["inbox"])).stdout, /Did the step "send" of task 1 happen\?[\s\S]*pawl answer d1 done/);
  assert.match((await at.pawl(["answer", "d1", "done", "--value", '{"sent":true}'])).stdout, /Decision d1 answered: done; see: pawl why 1/);
  const twice = await at.pawl(["answer", "d1", "again"]);
  assert.equal(twice.code, ERROR_CODES.illegal_transition.exit);
  assert.match((await at.pawl(["approve", "d2"])).stderr, /"approve" does not answer decision d2[\s\S]*next: One of: pawl answer d2 done; pawl answer d2 again; pawl answer d2 fail\./, "none is advised");
  assert.equal((await at.pawl(["deny", "d2", "--reason", "no"])).code, 2);
  assert.match((await at.pawl(["answer", "d3", "use", "the", "blue", "one"])).stderr, /"use the blue one" does not answer/, "the words are one answer");
  assert.equal((await at.pawl(["why", "2"])).stdout.includes("Decision d2 since"), true);
});

/** Lines that are refused, the code of the refusal and what must be said. */
const REFUSALS: readonly [line: string[], code: ErrorCode, said: RegExp][] = [
  [["nope"], "usage", /Unknown command 'nope'/],
  [["lst"], "usage", /Did you mean one of list, ls\? See pawl --help/],
  [["batch"], "usage", /needs one of its commands: list, show/],
  [["batch", "lis"], "usage", /Did you mean list/],
  [["list", "--statsu", "x"], "usage", /Unknown option '--statsu'[\s\S]*Did you mean/],
  [["add", "fix", "the", "--jsn", "flag"], "usage", /go behind --: pawl add -- …/],
  [["show"], "usage", /Missing required argument 'id'/],
  [["show", "1", "2"], "usage", /Too many arguments/],
  [["fail", "1"], "usage", /fail needs --reason/],
  [["list", "--status", "done"], "usage", /Allowed choices are pending/],
  [["list", "--limit", "many"], "usage", /error: --limit must be a whole number/],
  [["add", "x", "--timeout", "soon"], "usage", /error: The --timeout "soon" is not a duration/],
  [["claim", "--lease", "0s"], "usage", /error: The --lease "0s" must be at least/],
  [["run", "--exec", "true", "--timeout", "soon"], "usage", /The --timeout "soon"/],
  [["run", "--exec", "true", "--backoff", "soon"], "usage", /The --backoff "soon"/],
  [["memory", "recall", "x", "--half-life", "x"], "usage", /error: --half-life must be a number/],
  [["add", "x", "--input", "{"], "usage", /--input is not JSON/],
  [["add", "x", "--priority"], "usage", /argument missing/],
  [["add", ""], "usage", /description/],
  [["reset"], "usage", /--all/],
  [["complete", "1", "--token", "x"], "usage", /not the token of a claim/],
  [["complete", "1", "--result", "a", "--result-json", "1"], "usage", /not both/],
  [["edit", "1", "--description", "-", "--input", "-"], "usage", /one value only/],
  [["list", "--state", ""], "usage", /--state is empty/],
  [["show", "99"], "not_found", /task not found: 99/],
  [["why", "nobody"], "not_found", /task not found: nobody/],
  [["history", "99"], "not_found", /99/],
  [["approve", "d9"], "not_found", /decision not found/],
  [["batch", "show", "b"], "not_found", /batch not found/],
  [["import", "missing.txt"], "not_found", /There is no file/],
  [["retry", "1"], "illegal_transition", /1/],
  [["release", "1"], "illegal_transition", /nobody holds it/],
  [["complete", "1", "--token", "1.1.c-x"], "lease_lost", /no longer/],
  [["add", "other", "--key", "k"], "conflict", /belongs to task 1/],
  [["completion", "tcsh"], "usage", /no completion for tcsh/],
];

test("what is refused says what and what next, with the exit code of the table", async (t) => {
  const at = desk(t);
  await at.pawl(["add", "one", "--key", "k"]);
  const before = await at.data(["history", "1"]);
  for (const [line, code, said] of REFUSALS) {
    const ended = await at.pawl(line, { input: "x" });
    assert.deepEqual([line, ended.code, ended.stdout], [line, ERROR_CODES[code].exit, ""], ended.stderr);
    assert.match(ended.stderr, /^error: /);
    assert.match(ended.stderr, said, line.join(" "));
    const json = await at.pawl([...line, "--json"], { input: "x" });
    // A flag without its value takes the next word for it, as everywhere.
    if (line.at(-1)!.startsWith("--")) continue;
    assert.deepEqual([json.code, json.stdout], [ERROR_CODES[code].exit, ""], line.join(" "));
    const document = JSON.parse(json.stderr) as { schema_version: number; kind: string; data: { code: string } };
    assert.deepEqual([document.schema_version, document.kind, document.data.code, Object.keys(document.data)], [1, "error", code, ["code", "message", "next", "details"]]);
  }
  assert.deepEqual(await at.data(["history", "1"]), before, "nothing was changed");
  assert.equal((await at.data<unknown[]>(["list"])).length, 1);
  const colored = await at.pawl(["nope"], { io: { errColor: true } });
  assert.match(colored.stderr, /^\u001b\[31merror:\u001b\[39m/);
});

test("reading creates nothing; what needs a state says so", async (t) => {
  const at = desk(t);
  for (const operation of OPERATIONS) {
    const ids = Object.values(operation.params).filter((param) => param.arg && param.required).map(() => (operation.command.startsWith("breaker") ? "queue:default" : "1"));
    const required = Object.entries(operation.params).flatMap(([name, param]) => (param.required && !param.arg ? [`--${name}`, param.type === "integer" ? "1" : "x"] : []));
    if (operation.creates) continue;
    const line = [...operation.command.split(" "), ...ids, ...(operation.name === "task_reset" ? ["--all"] : []), ...required];
    const ended = await at.pawl(line);
    assert.deepEqual(readdirSync(at.folder), [], `pawl ${line.join(" ")} created something`);
    assert.match(ended.stderr, /There is no state here/, line.join(" "));
    // What it takes is an id, but for these: words to look for, which may find nothing.
    const names = ids.length > 0 && !["memory search", "memory relations"].includes(operation.command);
    const reads = operation.effect === "read" && !names;
    assert.equal(ended.code, reads ? 0 : ERROR_CODES.not_found.exit, `${line.join(" ")}: ${ended.stderr}`);
  }
  const json = await at.pawl(["list", "--json"]);
  assert.deepEqual([(JSON.parse(json.stdout) as Document).data, (JSON.parse(json.stderr) as Document).kind], [[], "notice"]);
  await at.pawl(["add", "x", "--state", "deep/er/s.db"]);
  assert.deepEqual([existsSync(at.path("deep/er/s.db")), existsSync(at.path(".pawl"))], [true, false]);
});

test("the help of each command names its flags, its arguments and an example", async (t) => {
  const at = desk(t);
  for (const operation of OPERATIONS) {
    const { code, stdout, stderr } = await at.pawl([...operation.command.split(" "), "--help"]);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.ok(stdout.includes(operation.summary), operation.command);
    for (const [name, param] of Object.entries(operation.params)) assert.ok(stdout.includes(param.arg ? name : `--${name}`), `${operation.command} --help says nothing of ${name}`);
    for (const global of ["--state", "--json", "--actor"]) assert.ok(stdout.includes(global), operation.command);
    assert.ok(EXAMPLES[operation.command]?.length, `${operation.command} has no example`);
    for (const example of EXAMPLES[operation.command]!) assert.ok(stdout.includes(example), operation.command);
  }
  assert.deepEqual(Object.keys(EXAMPLES).filter((command) => !OPERATIONS.some((operation) => operation.command === command)), []);
  const help = await at.pawl(["--help"]);
  for (const operation of OPERATIONS) assert.ok(help.stdout.includes(operation.command.split(" ")[0]!), operation.command);
  assert.match(help.stdout, /About an event: /);
  assert.doesNotMatch(help.stdout, /About a [aeiou]/);
  assert.deepEqual((await at.pawl(["help", "add"])).stdout, (await at.pawl(["add", "-h"])).stdout);
});

test("who acts: --actor, else PAWL_ACTOR", async (t) => {
  const at = desk(t);
  await at.pawl(["add", "a"]);
  await at.pawl(["cancel", "1", "--actor", "ada"]);
  assert.deepEqual((await at.data<{ actor: string }[]>(["history", "1"])).map((event) => event.actor), ["tester", "ada"]);
});

test("words of a description are taken as they stand, and can do nothing to the terminal", async (t) => {
  const at = desk(t);
  assert.equal((await at.pawl(["add", "--", "--json", "is", "broken"])).stdout, "○ task 1 pending: --json is broken\n");
  assert.equal((await at.data<Task>(["add", "-"], "a\u001b[2J\u009b1m\r\nb\n\n")).description, "a\u001b[2J\u009b1m\r\nb");
  const [, text, json] = [await at.pawl(["show", "2"]), (await at.pawl(["list"])).stdout, (await at.pawl(["list", "--json"])).stdout];
  for (const shown of [text, json]) assert.doesNotMatch(shown!, /[\u001b\u009b]/);
  assert.ok(text!.includes("a\\u001b[2J\\u009b1m⏎b"), text);
  assert.equal((JSON.parse(json!) as { data: Task[] }).data[1]!.description, "a\u001b[2J\u009b1m\r\nb", "the JSON still says it");
  assert.match((await at.pawl(["show", "x\u001b[2J"])).stderr, /^error: task not found: x\\u001b\[2J\n/);
  const bad = await at.pawl(["add", "-"], { io: { stdin: async () => Uint8Array.of(0xff, 0x41) } });
  assert.deepEqual([bad.code, /UTF-8/.test(bad.stderr)], [2, true]);
});

test("completion: a script for each shell, commands, flags and choices", async (t) => {
  const at = desk(t);
  for (const shell of ["bash", "zsh", "fish"]) assert.match((await at.pawl(["completion", shell])).stdout, /pawl completion complete --/);
  const offered = async (...words: string[]) => (await at.pawl(["completion", "complete", "--", ...words])).stdout.split("\n").map((line) => line.split("\t")[0]);
  for (const word of ["run", "add", "batch", "inbox"]) assert.ok((await offered("")).includes(word), word);
  assert.deepEqual((await offered("batch", "")).slice(0, 2), ["list", "show"]);
  assert.ok((await offered("list", "--st")).includes("--status"));
  assert.deepEqual((await offered("list", "--status", "pe")).slice(0, 1), ["pending"]);
  assert.ok((await offered("run", "--ex")).includes("--exec"));
});

// Task lists in every format: what is read, what a line's identity is, and what is refused with which file and line.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isPawlError } from "../../src/base/errors.ts";
import { LIMITS } from "../../src/base/limits.ts";
import { BOOKKEEPING, isKnown } from "../../src/core/list-entry.ts";
import { TASK_FIELDS } from "../../src/core/records.ts";
import { applyVars, decodeText, itemKey, LIST_FORMATS, listEntries, parseTaskList, type ListEntry, type ListFormat } from "../../src/core/task-list.ts";

/** Entries without what every entry has, and with the line only where it is asked for. */
function brief(entries: readonly ListEntry[]): object[] {
  return entries.map(({ line, text, occurrence, ...rest }) => rest);
}

const d = (...descriptions: string[]) => descriptions.map((description) => ({ description }));
const done = (description: string) => ({ description, done: true });

// [what it shows, format or undefined, file name, text, entries]
const good: [string, ListFormat | undefined, string, string, object[]][] = [
  ["one task a line, trimmed", undefined, "tasks.txt", "  a \n\n# note\n  # note\nb\r\n\tc", d("a", "b", "c")],
  ["done lines", undefined, "tasks.txt", "[DONE] a\nb\n[DONE]\n[DONE]x\n[done] y", [done("a"), ...d("b", "[DONE]x", "[done] y")]],
  ["an empty text", undefined, "tasks.txt", "", []],
  ["only line ends", undefined, "tasks.txt", "\r\n\n\r", []],
  ["a byte order mark", undefined, "tasks.txt", "\uFEFFa", d("a")],
  ["terminal escapes are data", "text", "-", "\u001b[31mred", d("\u001b[31mred")],
  ["checkboxes", undefined, "x.md", "# T\n- [ ] a\n* [x] b\n+ [X] c\n1. [ ] d\n2) [ ] e\ntext\n- no", [...d("a"), done("b"), done("c"), ...d("d", "e")]],
  ["nested checkboxes are tasks of their own", undefined, "x.MARKDOWN", "- [ ] a\n  - [x] b\n\t- [ ] c", [...d("a"), done("b"), ...d("c")]],
  ["empty and strange boxes", undefined, "x.md", "- [ ]\n- [ ] \n- [-] a\n- [ ]b\n- [ ] c", d("c")],
  ["no task inside code, comments and front matter", undefined, "x.md", "---\ntags:\n- x\n---\n```md\n- [ ] a\n~~~\n```\n<!--\n- [ ] b\n-->\n<!-- c -->\n- [ ] d", d("d")],
  ["boxes only in code are no boxes", undefined, "x.md", "~~~\n- [ ] a\n~~~\n- b", d("b")],
  ["plain items when there is no box", undefined, "x.md", "# T\n- a\n* b\n3. c\n---\n* * *\ntext\n  - d", d("a", "b", "c", "d")],
  ["Markdown without any item", undefined, "x.md", "# T\n\ntext", []],
  ["JSONL of objects and texts", undefined, "x.jsonl", '{"description":"a","priority":1}\n\n"b"\r\n', [{ description: "a", priority: 1 }, ...d("b")]],
  ["names used elsewhere", undefined, "x.ndjson", '{"id":"t1","user_input":"a","state":"running"}\n{"name":"b","status":"done","result":"r"}\n{"task":"c","state":"FAILED"}\n{"title":"t"}', [
    { description: "a", key: "t1", status: "in_progress" }, { description: "b", status: "completed", done: true, result: "r" }, { description: "c", status: "failed" }, ...d("t"),
  ]],
  ["all fields", "jsonl", "-", '{"id":3,"key":"k","description":"a","queue":"q","priority":-1,"tags":["x","y","x"],"depends_on":[1,"z"],"max_attempts":5,"timeout":"1m30s","verifier":"v","run_at":"2026-01-31T09:00+01:00","deadline":"2h","input":{"n":1}}', [{
    description: "a", ref: 3, key: "k", queue: "q", priority: -1, tags: ["x", "y"], depends_on: [1, "z"], max_attempts: 5, timeout_ms: 90_000, verifier: "v", run_at: "2026-01-31T08:00:00.000Z", deadline_ms: 7_200_000, input: { n: 1 },
  }]],
  ["times and numbers", "jsonl", "-", '{"description":"a","timeout":30,"deadline":"2026-01-31 09:00Z"}\n{"description":"b","timeout_ms":5,"deadline_at":"2026-01-31T09:00:00.5+0530"}', [
    { description: "a", timeout_ms: 30_000, deadline_at: "2026-01-31T09:00:00.000Z" }, { description: "b", timeout_ms: 5, deadline_at: "2026-01-31T03:30:00.500Z" },
  ]],
  ["other fields are input, and input wins", "jsonl", "-", '{"description":"a","title":"t","n":1,"reviews":[2],"input":{"n":2}}', [{ description: "a", input: { title: "t", n: 2, reviews: [2] } }]],
  ["the bookkeeping of an exported task starts anew", "jsonl", "-", '{"id":1,"description":"a","status":"failed","attempts":3,"error":{"message":"x"},"created_at":"2026"}', [{ description: "a", ref: 1, status: "failed" }]],
  ["nulls are as if not there", "jsonl", "-", '{"description":"a","key":null,"input":null,"deadline":null,"result":null,"status":null,"id":null,"tags":null}', d("a")],
  ["flags of other programs", "jsonl", "-", '{"title":"a","done":true}\n{"title":"b","completed":false}\n{"title":"c","done":true,"status":"pending"}', [done("a"), ...d("b"), { description: "c", status: "pending" }]],
  ["one tag, one dependency", "jsonl", "-", '{"description":"a","tags":"x","depends_on":"k"}', [{ description: "a", tags: ["x"], depends_on: ["k"] }]],
  ["a JSON array", undefined, "x.json", '["a", {"description": "b"}]', d("a", "b")],
  ["a JSON state", undefined, "x.json", '{"metadata":{"tasks":["no"]},"tasks":[{"id":1,"description":"a","status":"completed","result":"r"}]}', [{ description: "a", ref: 1, status: "completed", done: true, result: "r" }]],
  ["what --json prints", undefined, "x.json", '{"schema_version":1,"kind":"task","data":[{"id":2,"description":"a","status":"pending"}]}', [{ description: "a", ref: 2, status: "pending" }]],
  ["an empty JSON file", undefined, "x.json", " \n", []],
  ["CSV", undefined, "x.csv", 'id,Description,Priority,Tags,depends_on,Max Attempts,Company,done\r\n1,"a, ""b""\nc",2,x; y,,4,ACME,yes\r\nt2,d,,,1;k,,,no\r\n', [
    { description: 'a, "b"\nc', ref: 1, priority: 2, tags: ["x", "y"], max_attempts: 4, done: true, input: { Company: "ACME" } },
    { description: "d", key: "t2", depends_on: [1, "k"], input: { Company: "" } },
  ]],
  ["CSV with input as JSON, blank rows and columns without a name", undefined, "x.csv", 'title,input,\n\na,"{""n"":1}",\n,,\nb,text,', [{ description: "a", input: { n: 1 } }, { description: "b", input: "text" }]],
  ["CSV of one column", undefined, "x.csv", "task\na\n\"\"\"b\"\"\"", d("a", '"b"')],
  ["CSV with a header only", undefined, "x.csv", "task,x", []],
  ["the format given wins over the extension", "text", "x.json", '["a"]', d('["a"]')],
];
for (const [what, format, file, text, entries] of good) test(`reads ${what}`, () => assert.deepEqual(brief(parseTaskList(text, format, file).entries), entries));

test("stdin and unknown extensions are told by their content", () => {
  const table: [string, ListFormat][] = [
    ["a\nb", "text"], ["[DONE] a", "text"], ["[ ] a", "text"], ["", "text"], ["a, b\nc", "text"], ["- a\n- b", "text"], ["x\n  - [ ] a", "markdown"], ["1. [x] a", "markdown"],
    ['["a"]', "json"], ['[\n {"description":"a"}]', "json"], ["[]", "json"], ['{"tasks":[]}', "json"], ['{\n"tasks":[]}', "json"], ['{"description":"a"}', "jsonl"],
    ['\n{"description":"a"}\n{"description":"b"}', "jsonl"], ["id,task\n1,a", "csv"], ["Title , x\na,b", "csv"],
  ];
  for (const [text, format] of table) for (const file of ["-", "list", "list.todo"]) assert.equal(parseTaskList(text, undefined, file).format, format, text);
});

// [what it shows, format, text, line, part of the message]
const bad: [string, ListFormat, string, number, RegExp][] = [
  ["NUL", "text", "a\nb\0c", 2, /NUL/],
  ["half a surrogate", "text", "a\n\ud800", 2, /surrogate/],
  ["a line that is too long", "text", `a\n${"x".repeat(LIMITS.textBytes + 1)}`, 2, /longer than 1048576 bytes/],
  ["a line whose bytes are too many", "markdown", `- [ ] ${"ü".repeat(LIMITS.textBytes / 2)}`, 1, /longer than 1048576 bytes/],
  ["a JSON line that is cut", "jsonl", '"a"\n{"description":', 2, /not JSON: the end of the file stands where a value should/],
  ["a JSON line with more", "jsonl", '"a" "b"', 1, /not JSON/],
  ["a number as a task", "jsonl", '"a"\n7', 2, /not 7/],
  ["an array as a task", "jsonl", '["a"]', 1, /not \["a"\]/],
  ["null as a task", "json", '["a",\nnull]', 2, /not null/],
  ["no description", "jsonl", '{"key":"a"}', 1, /what is to be done/],
  ["an empty description", "jsonl", '{"description":" "}', 1, /description/],
  ["an empty text", "json", '["a",\n\n""]', 3, /description/],
  ["a description that is no text", "jsonl", '{"title":{}}', 1, /title must be a text/],
  ["a description that is too long", "json", JSON.stringify(["x".repeat(LIMITS.textBytes + 1)]), 1, /longer than/],
  ["an unknown status", "jsonl", '{"description":"a","status":"banana"}', 1, /"banana" is not a status/],
  ["a status from the prototype", "jsonl", '{"description":"a","status":"constructor"}', 1, /not a status/],
  ["a status that is no text", "jsonl", '{"description":"a","state":1}', 1, /1 is not a status/],
  ["a flag that is none", "jsonl", '{"description":"a","done":"maybe"}', 1, /true or false/],
  ["a priority in words", "jsonl", '{"description":"a","priority":"high"}', 1, /priority/],
  ["a priority in parts", "jsonl", '{"description":"a","priority":1.5}', 1, /priority/],
  ["no attempts", "jsonl", '{"description":"a","max_attempts":0}', 1, /max_attempts/],
  ["tags that are no texts", "jsonl", '{"description":"a","tags":[1]}', 1, /tags/],
  ["a long key", "jsonl", JSON.stringify({ description: "a", key: "k".repeat(LIMITS.nameChars + 1) }), 1, /key/],
  ["an empty id", "jsonl", '{"description":"a","id":""}', 1, /key/],
  ["an id that is neither", "jsonl", '{"description":"a","id":1.5}', 1, /id must be/],
  ["a dependency that is neither", "jsonl", '{"description":"a","depends_on":[{}]}', 1, /depends_on/],
  ["a timeout of zero", "jsonl", '{"description":"a","timeout":0}', 1, /timeout "0" must be longer/],
  ["a timeout that is none", "jsonl", '{"description":"a","timeout":[]}', 1, /timeout must be a duration/],
  ["a time without a zone", "jsonl", '{"description":"a","deadline":"2026-01-31T09:00"}', 1, /not a time with its zone/],
  ["a day that is none", "jsonl", '{"description":"a","run_at":"2026-02-30T09:00Z"}', 1, /not a time/],
  ["a date alone", "jsonl", '{"description":"a","deadline_at":"2026-01-31"}', 1, /not a time/],
  ["a number that would change", "jsonl", '{"description":"a","n":12345678901234567890}', 1, /2\^53/],
  ["a key that is no key", "jsonl", '{"description":"a","__proto__":{}}', 1, /__proto__/],
  ["NUL behind an escape", "jsonl", '{"description":"a\\u0000"}', 1, /NUL/],
  ["deep nesting", "jsonl", `{"description":"a","n":${"[".repeat(300)}${"]".repeat(300)}}`, 1, /nested deeper/],
  ["fields that fit into no input", "jsonl", '{"description":"a","n":1,"input":"x"}', 1, /so n cannot be added/],
  ["a key used twice", "jsonl", '{"description":"a","key":"k"}\n\n{"description":"b","id":"k"}', 3, /"k" is already used in line 1/],
  ["JSON that is cut", "json", '["a",\n"b"', 2, /not JSON/],
  ["JSON with a bare word", "json", '["a",\n{"b":"]",\n"c": yes}]', 3, /not JSON: yes is not JSON \(column 6\)/],
  ["JSON with a comma too many", "json", '["a",\n"b",\n]', 2, /not JSON/],
  ["JSON with a comment", "json", '[\n// note\n"a"]', 2, /not JSON/],
  ["JSON with a broken word", "json", '{"tasks":[\ntru\n]}', 2, /tru is not JSON/],
  ["JSON with no list", "json", '{"tasks":{"a":1}}', 1, /no list of tasks/],
  ["a JSON text", "json", '"a"', 1, /no list of tasks/],
  ["an entry deep in a state", "json", '{"a":[1,\n2],"tasks":[{"description":"a,[",\n"x":[1,2]},\n\n{"x":1}],"b":[\n3]}', 5, /what is to be done/],
  ["CSV without a column for the task", "csv", "id;task\n1;a", 1, /columns are id;task/],
  ["a CSV column that is there twice", "csv", "task,x,x\na,b,c", 1, /"x" is there twice/],
  ["a CSV row that is too long", "csv", "task,x\na,b\na,b,c", 3, /3 cells, the header 2/],
  ["a CSV row that is too short", "csv", "task,x\n\"a\nb\",c\na", 4, /1 cells, the header 2/],
  ["a CSV cell without a column name", "csv", "task,\na,b", 2, /Column 2 has no name/],
  ["a quote that is not closed", "csv", 'task\na\n"b\nc', 3, /never closed/],
  ["a quote in a bare cell", "csv", 'task,x\na,5" pipe', 2, /not quoted/],
  ["text behind a closing quote", "csv", 'task\n"a"b', 2, /follows a closing quote/],
  ["a CSV row without a task", "csv", "task,x\n,b", 2, /what is to be done/],
  ["CSV input that is no JSON", "csv", "task,input\na,{n", 2, /none/],
  ["a CSV priority in words", "csv", "task,priority\na,high", 2, /priority/],
];
for (const [what, format, text, line, message] of bad) {
  test(`refuses ${what}`, () => {
    assert.throws(() => parseTaskList(text, format, "list.x"), (error) => {
      assert.ok(isPawlError(error) && ["usage", "value_refused"].includes(error.code), String(error));
      assert.ok(error.message.startsWith(`list.x:${line}: `), error.message);
      assert.match(error.message, message);
      assert.ok(error.next !== undefined && error.details?.["line"] === line && error.details["file"] === "list.x");
      return true;
    });
  });
}

test("a format nobody knows is refused, and stdin is called so", () => {
  assert.throws(() => parseTaskList("a", "yaml" as ListFormat, "-"), (error) => isPawlError(error, "usage"));
  assert.throws(() => parseTaskList("\0", undefined, "-"), /^PawlError: stdin:1: /);
});

test("a list is at most a million tasks", () => {
  assert.throws(() => parseTaskList("a\n".repeat(LIMITS.listEntries + 1), "text", "-"), /stdin:1000001: The list has more than 1000000 tasks/);
});

test("lines are those of the file", () => {
  const lines = (text: string, format: ListFormat) => parseTaskList(text, format, "x").entries.map((entry) => entry.line);
  assert.deepEqual(lines("\r\na\r\n#\nb\rc", "text"), [2, 4, 5]);
  assert.deepEqual(lines('task\n"a\n\nb"\nc', "csv"), [2, 5]);
  assert.deepEqual(lines('{"x":["no",\n"no"],"tasks":\n[ "a", "b",\n\n {"description":\n"c","n":[1,\n2]}, "d\\"]" ]}', "json"), [3, 3, 5, 7]);
});

test("an identity is the text and which of the equal ones it is, or the key", () => {
  const keys = (text: string, format: ListFormat) => parseTaskList(text, format, "x").entries.map(itemKey);
  const [a1, b1, a2] = keys("a\nb\n a ", "text");
  assert.match(a1!, /^[0-9a-f]{32}#1$/);
  assert.equal(a2, a1!.replace("#1", "#2"));
  assert.notEqual(a1, b1);
  assert.deepEqual(keys("[DONE] a\nb", "text"), [a1, b1], "done or not");
  assert.deepEqual(keys("- [x] a\n* [ ] b", "markdown"), [a1, b1], "whatever the format");
  assert.deepEqual(keys('{"description":"a","key":"k"}', "jsonl"), ["k"]);
  assert.deepEqual(keys('{"description":"a","n":{"x":1,"y":2}}', "jsonl"), keys('{"n":{"y":2,"x":1},"result":5,"description":"a","state":"done"}', "jsonl"));
  assert.notDeepEqual(keys('{"description":"a","n":1}', "jsonl"), keys('{"description":"a","n":2}', "jsonl"));
});

test("entries come from values of a program too", () => {
  assert.deepEqual(brief(listEntries(["feat1", { description: "feat2", input: { when: new Date(0) } }])), [...d("feat1"), { description: "feat2", input: { when: "1970-01-01T00:00:00.000Z" } }]);
  assert.throws(() => listEntries(["a", 7], "features"), /features:2: /);
});

test("bytes are UTF-8 or refused with the line", () => {
  const bytes = (...parts: (string | number)[]) => Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : Buffer.from([part]))));
  assert.equal(decodeText(bytes(0xef, 0xbb, 0xbf, "ä\n"), "x"), "ä\n");
  assert.equal(decodeText(bytes(), "x"), "");
  assert.throws(() => decodeText(bytes("a\nb\n", 0xff, "\nc"), "x.txt"), /x\.txt:3: It is not UTF-8 text/);
  assert.throws(() => decodeText(bytes("a\n", 0xc3), "-"), /stdin:2: /);
  assert.throws(() => decodeText(Buffer.from("\uFEFFab", "utf16le"), "x"), (error) => isPawlError(error, "value_refused") && /x:1: It is UTF-16/.test(error.message));
  assert.throws(() => parseTaskList(decodeText(Buffer.from("ab", "utf16le"), "x"), "text", "x"), /x:1: It contains a NUL/);
});

test("variables are put in once, and a missing one is named with its line", () => {
  assert.equal(applyVars("Hi {{name}}, {{ a.b-c }}!", { name: "$& {{x}}", "a.b-c": "" }, "x"), "Hi $& {{x}}, !");
  assert.equal(applyVars("\\{{name}} {name} {{}} {{ 1 }}", {}, "x"), "{{name}} {name} {{}} {{ 1 }}");
  for (const name of ["missing", "constructor", "__proto__"]) {
    assert.throws(() => applyVars(`\n\na {{${name}}}`, { name: "x" }, "tasks.txt"), (error) => isPawlError(error, "usage") && error.message === `tasks.txt:3: {{${name}}} has no value.` && error.details?.["variable"] === name);
  }
});

test("whatever the text, reading gives entries or a PawlError", () => {
  const piece = fc.constantFrom('"', ",", "\n", "\r", "[", "]", "{", "}", ":", "- [ ] ", "- [x]", "[DONE] ", "task", '"description"', '"tasks"', "1", "true", "nul", "\\", "\\u0000", "```", "<!--", "-->", "---", "\0", "ü", "\ud800", " ");
  const text = fc.oneof(fc.string({ unit: "binary" }), fc.array(piece, { maxLength: 30 }).map((pieces) => pieces.join("")), fc.json(), fc.array(fc.json()).map((lines) => lines.join("\n")));
  const entry = fc.record({ description: fc.oneof(fc.string(), fc.jsonValue()), status: fc.jsonValue(), timeout: fc.jsonValue(), deadline: fc.jsonValue(), tags: fc.jsonValue(), input: fc.jsonValue(), id: fc.jsonValue(), depends_on: fc.jsonValue() }, { requiredKeys: [] }).map((value) => JSON.stringify([value]));
  fc.assert(fc.property(fc.oneof(text, entry), fc.constantFrom(undefined, ...LIST_FORMATS), (content, format) => {
    try {
      const { entries } = parseTaskList(content, format, "-");
      assert.equal(new Set(entries.map(itemKey)).size, entries.length);
      for (const { description, line } of entries) assert.ok(description.trim() !== "" && line >= 1 && line <= content.split(/\r\n|\n|\r/).length);
      assert.deepEqual(parseTaskList(content, format, "-").entries, entries);
    } catch (error) {
      assert.ok(isPawlError(error), String((error as Error).stack));
    }
  }), { numRuns: 2_000 });
});

test("every field of an exported task is one of an entry, or bookkeeping that starts anew: none becomes input", () => {
  const unknown = Object.keys(TASK_FIELDS).filter((field) => !isKnown(field) && !BOOKKEEPING.has(field));
  assert.deepEqual(unknown, []);
});

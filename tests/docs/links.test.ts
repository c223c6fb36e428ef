// What the pages point at exists: every relative link and its heading, every `pawl …` command and its flags, every test that
// the README names, every export, error code and limit. Invariant: a page cannot speak of what is not there.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";
import type { Command } from "commander";
import * as library from "../../src/index.ts";
import * as testing from "../../src/testing.ts";
import { build } from "../../src/surface/cli.ts";
import { splitWords } from "../../src/core/words.ts";

const ROOT = join(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

const PAGES = (() => {
  const git = spawnSync("git", ["ls-files", "-z", "-co", "--exclude-standard", "*.md"], { cwd: ROOT, encoding: "utf8" });
  assert.equal(git.status, 0, git.stderr);
  return [...new Set(git.stdout.split("\0"))].filter((path) => path !== "" && existsSync(join(ROOT, path)));
})();

/** Fenced blocks (their language and first line) and the text outside of them. */
function parts(page: string): { prose: string; blocks: { language: string; text: string }[] } {
  const blocks: { language: string; text: string }[] = [];
  const prose = page.replaceAll(/^```(\w*)\n([^]*?)^```$/gm, (_, language: string, text: string) => {
    blocks.push({ language, text });
    return "";
  });
  return { prose, blocks };
}

/** Headings as the anchors that hosting sites make of them. */
function anchorsOf(page: string): string[] {
  return [...parts(page).prose.matchAll(/^#{1,6} (.*)$/gm)].map((match) => match[1]!.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-"));
}

function brokenLinks(path: string, page: string): string[] {
  return [...parts(page).prose.matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target]) => {
    if (/^[a-z]+:/.test(target!)) return [];
    const [file, anchor] = target!.split("#") as [string, string?];
    const there = file === "" ? path : relative(ROOT, resolve(ROOT, dirname(path), file));
    if (!existsSync(join(ROOT, there))) return [`${path}: ${target} leads nowhere`];
    if (anchor !== undefined && !anchorsOf(there === path ? page : read(there)).includes(anchor)) return [`${path}: ${target}: there is no such heading`];
    return [];
  });
}

test("every relative link of every page resolves, headings included", () => {
  assert.deepEqual(brokenLinks("docs/task.md", "[a](nowhere.md) [b](#no-heading) ```x```"), ["docs/task.md: nowhere.md leads nowhere", "docs/task.md: #no-heading: there is no such heading"]);
  assert.ok(PAGES.length > 25, PAGES.join(" "));
  assert.deepEqual(PAGES.flatMap((path) => brokenLinks(path, read(path))), []);
});

/* ---------- commands ---------- */

const io = { out() {}, err() {}, stdin: async () => new Uint8Array(), tty: false, color: false, errColor: false, columns: 100, env: {}, cwd: ROOT };
const program: Command = await build([], io, () => undefined);

/** The simple commands of a line of shell: cut at operators outside quotes, comments dropped. */
function simpleCommands(line: string): string[] {
  const found: string[] = [];
  let current = "";
  let quote = "";
  for (let i = 0; i < line.length; i++) {
    const char = line[i]!;
    if (char === "\\" && quote !== "'") current += char + (line[++i] ?? "");
    else if (quote !== "") {
      current += char;
      if (char === quote) quote = "";
    } else if (char === "#" && (i === 0 || /\s/.test(line[i - 1]!))) break;
    else if (/[|;&()<>]/.test(char)) {
      found.push(current);
      current = "";
    } else {
      current += char;
      if (char === "'" || char === '"') quote = char;
    }
  }
  return [...found, current].map((command) => command.replace(/^.*\$$/, "").trim().replace(/^\$ /, ""));
}

function wrongCommand(text: string): string | null {
  const words = splitWords(text);
  const named = words.findIndex((word) => word === "pawl");
  // pawl, npx pawl, npm run -s pawl --, nothing else before it but NAME=value
  if (named < 0 || !words.slice(0, named).every((word) => /^(?:npx|npm|run|-s|\w+=.*|then|do|-I\{\}|-P|\d+|xargs)$/.test(word))) return null;
  let rest = words.slice(named + 1);
  if (words.includes("npm") && rest[0] === "--") rest = rest.slice(1);
  rest = rest.slice(0, rest.indexOf("--") < 0 ? rest.length : rest.indexOf("--"));
  let command: Command = program;
  for (let i = 0; i < rest.length; i++) {
    const word = rest[i]!;
    const option = [...command.options, ...program.options].find((candidate) => candidate.long === word || candidate.short === word);
    if (word.startsWith("-") && word !== "-" && !option && word !== "--help" && word !== "-h") return `${text}: ${command.name()} takes no ${word}`;
    if (option?.required) i++;
    if (word.startsWith("-") || option) continue;
    const child = command.commands.find((candidate) => candidate.name() === word || candidate.aliases().includes(word));
    if (child) command = child;
    else if (command === program && /^[a-z]+$/.test(word)) return `${text}: there is no command ${word}`;
    else if (command.commands.length > 0 && command !== program) return `${text}: ${command.name()} has no ${word}`;
  }
  return null;
}

function wrongCommands(path: string, page: string): string[] {
  const { prose, blocks } = parts(page);
  const lines = blocks.filter(({ language }) => ["sh", "console", "bash"].includes(language)).flatMap(({ text }) => text.replaceAll("\\\n", " ").split("\n"));
  const spans = [...prose.matchAll(/`(pawl [^`]*)`/g)].map((match) => match[1]!).filter((span) => !span.includes("…"));
  return [...lines, ...spans].flatMap(simpleCommands).filter((text) => /\bpawl\b/.test(text)).flatMap((text) => {
    const wrong = wrongCommand(text);
    return wrong === null ? [] : [`${path}: ${wrong}`];
  });
}

test("every pawl command on a page names a command and flags that exist", () => {
  const bad = "```sh\npawl bogus\npawl add x --no-such\nX=1 pawl batch bogus | cat\n```\n`pawl list --colour`\n";
  assert.equal(wrongCommands("x.md", bad).length, 4, wrongCommands("x.md", bad).join("\n"));
  const good = "```sh\nclaim=$(pawl claim --json) # pawl bogus\npawl run t --with claude -- --model x && pawl --state a.db list --status failed\necho pawl bogus\n```\n";
  assert.deepEqual(wrongCommands("x.md", good), []);
  assert.deepEqual(PAGES.flatMap((path) => wrongCommands(path, read(path))), []);
});

test("docs/doctor.md has every code of a finding with its severity", () => {
  const page = read("docs/doctor.md");
  for (const [code, severity] of Object.entries(library.FINDINGS)) assert.ok(page.includes(`| \`${code}\` | ${severity} |`), `${code}, ${severity}`);
  assert.equal([...page.matchAll(/^\| `(\w+)` \| (?:error|warning|note) \|/gm)].length, Object.keys(library.FINDINGS).length, "a code that does not exist any more");
});

test("docs/cli.md names every command and every flag of the operations", () => {
  const page = read("docs/cli.md");
  const leaves = program.commands.flatMap((command) => (command.commands.length > 0 ? command.commands.map((child) => ({ path: `${command.name()} ${child.name()}`, options: child.options })) : [{ path: command.name(), options: command.options }]));
  const elsewhere = ["run", "worker", "step", "wait", "completion", "help"];
  for (const { path, options } of leaves.filter((leaf) => leaf.path !== "help")) {
    assert.ok(page.includes(`pawl ${path}`), `docs/cli.md does not name pawl ${path}`);
    for (const option of elsewhere.includes(path) ? [] : options) assert.ok(page.includes(option.long!), `docs/cli.md does not name ${option.long} of ${path}`);
  }
  const run = program.commands.find((command) => command.name() === "run")!;
  for (const option of run.options) assert.ok(read("docs/run.md").includes(option.long!), `docs/run.md does not name ${option.long}`);
  const step = program.commands.find((command) => command.name() === "step")!;
  for (const option of step.options) assert.ok(read("docs/shell-steps.md").includes(option.long!), `docs/shell-steps.md does not name ${option.long}`);
});

/* ---------- tables that repeat the code ---------- */

test("docs/errors.md has every code with its exit code, docs/limits.md every limit", () => {
  const errors = read("docs/errors.md");
  for (const [code, { exit }] of Object.entries(library.ERROR_CODES)) assert.ok(errors.includes(`| \`${code}\` | ${exit} |`), `${code} with exit code ${exit}`);
  const limits = read("docs/limits.md");
  for (const name of Object.keys(library.LIMITS)) assert.ok(limits.includes(`| \`${name}\` |`), name);
  assert.equal([...limits.matchAll(/^\| `(\w+)` \|/gm)].length, Object.keys(library.LIMITS).length, "a limit that does not exist any more");
});

test("docs/library.md names every export, and imports on pages exist", () => {
  const page = read("docs/library.md");
  const types = [...read("src/index.ts").matchAll(/export (?:type )?\{([^}]*)\}/g)].flatMap((match) => match[1]!.split(",")).map((name) => name.trim().replace(/^type /, "")).filter((name) => name !== "");
  const names = new Set([...Object.keys(library), ...types]);
  for (const name of names) assert.match(page, new RegExp(`\\b${name}\\b`), `docs/library.md does not name ${name}`);
  for (const name of Object.keys(testing)) assert.match(page, new RegExp(`\\b${name}\\b`), `docs/library.md does not name ${name} of pawl/testing`);
  for (const path of PAGES) {
    for (const [, list, from] of read(path).matchAll(/import (?:type )?\{ ([^}]*) \} from "(pawl(?:\/testing)?)"/g)) {
      for (const name of list!.split(", ")) assert.ok(from === "pawl" ? names.has(name) : name in testing, `${path} imports ${name} from ${from}`);
    }
  }
});

test("docs/decision.md has every kind with its answers, docs/task.md every field and status", () => {
  const decision = read("docs/decision.md");
  for (const [kind, answers] of Object.entries(library.ANSWERS)) {
    const row = decision.split("\n").find((line) => line.startsWith(`| \`${kind}\` |`)) ?? assert.fail(`docs/decision.md has no ${kind}`);
    for (const answer of Object.keys(answers)) assert.ok(row.includes(`\`${answer}\``), `${kind} takes ${answer}`);
  }
  const task = read("docs/task.md");
  const fields = Object.keys(testing.MODEL.kinds.find((kind) => kind.name === "task")!.fields);
  for (const name of fields.concat(library.STATUSES)) assert.ok(task.includes(`\`${name}\``), `docs/task.md does not name ${name}`);
});

test("every test that the README's promises name exists", () => {
  const named = [...read("README.md").matchAll(/`([^`]+)` \((tests\/[\w./-]+)\)/g)];
  assert.ok(named.length >= 8);
  for (const [, name, file] of named) assert.ok(read(file!).includes(name!), `${file} has no test "${name}"`);
  for (const [file] of read("README.md").matchAll(/tests\/[\w./-]+\.ts/g)) assert.ok(existsSync(join(ROOT, file)), file);
});

// Splitting, quoting and filling of command words. The table is checked against /bin/sh itself wherever a shell would not
// expand anything; injections are run for real.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { isPawlError, PawlError } from "../../src/base/errors.ts";
import { fillPlaceholders, fillWords, shellOperator, shellQuote, splitWords } from "../../src/core/words.ts";
import { task } from "../worker/attempt-stub.ts";

/** [line, words]; the third says that a shell would do more than split, so it is not asked. */
const TABLE: [line: string, words: string[], expands?: "expands"][] = [
  ["", []],
  ["   \t \n ", []],
  ["a", ["a"]],
  ["a b  c", ["a", "b", "c"]],
  ["  a\tb\nc ", ["a", "b", "c"], "expands"],
  ["'a b' c", ["a b", "c"]],
  [`"a b" c`, ["a b", "c"]],
  [`a'b'"c"d`, ["abcd"]],
  [`''`, [""]],
  [`a '' "" b`, ["a", "", "", "b"]],
  [`''a''`, ["a"]],
  [`'it'\\''s'`, ["it's"]],
  [`"it's"`, ["it's"]],
  [`'say "x"'`, [`say "x"`]],
  [`"say \\"x\\""`, [`say "x"`]],
  [`'a\\b'`, ["a\\b"]],
  [`"a\\b"`, ["a\\b"]],
  [`"a\\\\b"`, ["a\\b"]],
  [`"\\$x \\\`y\\\`"`, ["$x `y`"]],
  [`a\\ b`, ["a b"]],
  [`a\\\\b`, ["a\\b"]],
  [`\\'`, ["'"]],
  [`\\"`, [`"`]],
  [`\\a`, ["a"]],
  ["a\\\nb", ["ab"]],
  ["a \\\n b", ["a", "b"]],
  [`"a\\\nb"`, ["ab"]],
  [`'a\\\nb'`, ["a\\\nb"]],
  [`"a\nb"`, ["a\nb"]],
  ["a\\", ["a\\"], "expands"],
  ["\\", ["\\"], "expands"],
  ["$HOME", ["$HOME"], "expands"],
  [`"$HOME"`, ["$HOME"], "expands"],
  ["'$HOME'", ["$HOME"]],
  ["$(touch x)", ["$(touch", "x)"], "expands"],
  ["`touch x`", ["`touch", "x`"], "expands"],
  ["a; rm -rf b", ["a;", "rm", "-rf", "b"], "expands"],
  ["a && b || c | d & e", ["a", "&&", "b", "||", "c", "|", "d", "&", "e"], "expands"],
  ["a > b < c", ["a", ">", "b", "<", "c"], "expands"],
  ["*.ts ?", ["*.ts", "?"], "expands"],
  ["~ ~root", ["~", "~root"], "expands"],
  ["a # b", ["a", "#", "b"], "expands"],
  ["{a,b}", ["{a,b}"]],
  ["x=1 y", ["x=1", "y"]],
  ["(a) !b", ["(a)", "!b"], "expands"],
  ["größe 日本 🙂", ["größe", "日本", "🙂"]],
  ["'日 本' \"🙂 x\"", ["日 本", "🙂 x"]],
  ["a\u00a0b", ["a\u00a0b"]],
  ["a\rb", ["a\rb"]],
  ["--flag=value -x", ["--flag=value", "-x"]],
];

/** The words a real shell makes of a line. */
function shellWords(line: string): string[] {
  const ran = spawnSync("/bin/sh", ["-c", `set -f; for word in ${line}\ndo printf '%s\\0' "$word"; done`], { encoding: "utf8" });
  assert.equal(ran.status, 0, ran.stderr);
  return ran.stdout.split("\0").slice(0, -1);
}

describe("splitWords", () => {
  for (const [line, words, expands] of TABLE) {
    test(JSON.stringify(line), () => {
      assert.deepEqual(splitWords(line), words);
      if (!expands && line.trim() !== "") assert.deepEqual(shellWords(line), words, "a shell splits it otherwise");
    });
  }

  for (const line of ["'a", `"a`, `a 'b c`, `"a\\"`, `'a'"`, `it's`]) {
    test(`refuses the unclosed quote in ${line}`, () => {
      assert.throws(() => splitWords(line), (error: PawlError) => isPawlError(error, "usage") && /not closed/.test(error.message) && error.next !== undefined);
    });
  }

  test("refuses NUL", () => {
    assert.throws(() => splitWords("a\0b"), (error) => isPawlError(error, "usage"));
    assert.throws(() => shellQuote("a\0b"), (error) => isPawlError(error, "usage"));
  });

  test("undoes shellQuote, as a shell does, whatever the words hold", () => {
    const word = fc.string({ unit: fc.constantFrom(..."ab'\"\\ $`;|&<>(){}*?~#=!-%\n\t🙂é".split("")) });
    fc.assert(fc.property(fc.array(word), (words) => assert.deepEqual(splitWords(words.map(shellQuote).join(" ")), words)), { numRuns: 2_000 });
    const samples = fc.sample(word, { numRuns: 300, seed: 7 }).filter((text) => text.isWellFormed());
    assert.deepEqual(shellWords(samples.map(shellQuote).join(" ")), samples);
  });
});

test("shellQuote leaves plain words plain", () => {
  for (const word of ["npm", "./a/b.ts", "-x", "--flag=value", "a@b", "1.5"]) assert.equal(shellQuote(word), word);
  for (const word of ["", "a b", "A=b", "~", "*", "$x", "a;b", "größe"]) assert.equal(shellQuote(word), `'${word}'`);
});

test("shellOperator finds what only a shell would understand", () => {
  const operators = { "npm test && npm run x": "&&", "a | b": "|", "a > out": ">", "a >out": ">out", "a 2>&1": "2>&1", "a; b": "a;", "a &": "&", "a < in": "<", "a <<EOF": "<<EOF" };
  for (const [line, operator] of Object.entries(operators)) assert.equal(shellOperator(line), operator);
  for (const line of ["a '&&' b", `find . -exec x {} \\;`, "sh -c 'a && b > c; d'", "a <name>", "a --x=>y", "a -gt 5", "x '>' y"]) assert.equal(shellOperator(line), null, line);
});

describe("fillPlaceholders", () => {
  test("knows its names and leaves every other brace", () => {
    const values = task({ description: "D", feedback: "F", attempts: 2 });
    const cases: [string, string][] = [
      ["{description}|{id}|{attempt}|{feedback}", "D|7|2|F"],
      ["{input.file} {input.deep.n} {input.deep.list.1} {input.deep.list}", `a.txt 3 y ["x","y"]`],
      ["{foo} {} {{ }} {ID} { id } {input} {input.} {description", "{foo} {} {{ }} {ID} { id } {input} {input.} {description"],
      ["{{id}}", "{7}"],
      ["{prompt}", "{prompt}"],
    ];
    for (const [template, filled] of cases) assert.equal(fillPlaceholders(template, values), filled);
    assert.equal(fillPlaceholders("{prompt}", { ...values, prompt: "P" }), "P");
    assert.equal(fillPlaceholders("[{feedback}]", task()), "[]");
    assert.equal(fillPlaceholders("[{input.a}]", task({ input: { a: null } })), "[]");
  });

  test("does not look through what it inserted, nor at patterns of replace", () => {
    assert.equal(fillPlaceholders("{description}", task({ description: "{id} {input.nope} $& $1 $$" })), "{id} {input.nope} $& $1 $$");
  });

  test("names a missing input field and what there is", () => {
    for (const template of ["{input.nope}", "{input.deep.nope}", "{input.file.length}", "{input.__proto__}", "{input.constructor}", "{input.deep.list.9}"]) {
      const name = template.slice(1, -1);
      assert.throws(() => fillPlaceholders(template, task()), (error: PawlError) => isPawlError(error, "usage") && error.message.includes(name) && error.next!.includes("file, deep"));
    }
  });

  test("refuses NUL in a value", () => {
    assert.throws(() => fillPlaceholders("{description}", task({ description: "a\0b" })), (error) => isPawlError(error, "usage"));
  });
});

describe("fillWords", () => {
  const EVIL = ["; touch owned", "$(touch owned)", "`touch owned`", "' ; touch owned ; '", `" ; touch owned ; "`, "\ntouch owned\n", "| touch owned", "&& touch owned", "\\", "'", `"`, "'\"'\"$(touch owned)", "*", "--help", "", "a  b", "日本 🙂", "$HOME", "{id}"];

  test("one word stays one word", () => {
    for (const description of EVIL) {
      assert.deepEqual(fillWords(["echo", "{description}", "x{description}y"], task({ description })).words, ["echo", description, `x${description}y`]);
    }
  });

  const SCRIPTS = ["printf %s {description}", `printf %s "{description}"`, "printf %s '{description}'", "# don't\nprintf %s {description}", "printf %s \\'{description} | sed \"s/^'//\"", "x=$(printf %s. {description}); printf %s \"${x%.}\""];
  const SHELLS = [["sh", "-c"], ["bash", "-c"], ["bash", "-euo", "pipefail", "-c"], ["bash", "-ec"], ["/bin/sh", "-e", "-c"], ["env", "A=1", "sh", "-c"], ["timeout", "9", "bash", "-c"], ["bash", "-c", "-e"]];

  for (const shell of SHELLS) {
    test(`no text becomes code in ${shell.join(" ")}, and it arrives whole`, () => {
      const folder = mkdtempSync(join(tmpdir(), "pawl-words-"));
      for (const script of SCRIPTS) {
        for (const description of EVIL) {
          const { words, env } = fillWords([...shell, script, "name", "arg {description}"], task({ description }));
          assert.equal(words.at(-1), `arg ${description}`, "a parameter of the script is a plain word");
          const ran = spawnSync(words[0]!, words.slice(1), { cwd: folder, env: { ...process.env, ...env }, encoding: "utf8" });
          assert.equal(ran.stdout, description, `${script} with ${JSON.stringify(description)}: ${ran.stderr}`);
        }
      }
      assert.equal(existsSync(join(folder, "owned")), false, "the text of a task was run");
    });
  }

  test("places where quoting is hard to see stay harmless", () => {
    const folder = mkdtempSync(join(tmpdir(), "pawl-words-"));
    const scripts = [`echo "$(echo {description})"`, `echo "$(echo "{description}")"`, "echo `echo {description}`", "cat <<EOF\n{description}\nEOF", "cat <<'EOF'\n{description}\nEOF", `echo $'it\\'s {description}'`, `echo "\${x:-{description}}"`, "# it's\necho '{description}'", `echo $((1 + 1)) # {description}`];
    for (const script of scripts) {
      for (const description of EVIL) {
        const { words, env } = fillWords(["bash", "-c", script], task({ description }));
        spawnSync(words[0]!, words.slice(1), { cwd: folder, env: { ...process.env, ...env } });
        assert.equal(existsSync(join(folder, "owned")), false, `${script} ran ${JSON.stringify(description)}`);
      }
    }
  });

  test("a shell without -c, and options of others, are not scripts", () => {
    for (const words of [["sh", "script.sh", "{description}"], ["grep", "-c", "{description}"], ["bash", "--", "{description}"], ["bash", "-x", "run.sh", "-c", "{description}"]]) {
      assert.equal(fillWords(words, task({ description: "a b" })).words.at(-1), "a b");
    }
  });
});

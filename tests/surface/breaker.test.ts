// Breakers as a person meets them: flags of run, what the run, `status` and `why` say, exit codes, a process killed and
// started again. The rules are tested in core/breaker.test.ts.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Breaker } from "../../src/core/breaker.ts";
import { splitWords } from "../../src/core/words.ts";
import { place } from "../pawl.ts";

const LIST = Array.from({ length: 6 }, (_, i) => `item ${i + 1}`).join("\n");

for (const file of ["state.json", "state.db"]) {
  test(`${file}: a run that was killed while its breaker was open stays held back, then goes on`, async (t) => {
    const at = place(t, file);
    at.write("list.txt", LIST);
    at.write("broken", "");
    const args = ["run", "list.txt", "--exec", "test ! -e broken", "--max-attempts", "1", "--breaker", "failures=2,cooldown=1h"];
    const run = at.start(args);
    await run.until(/The breaker batch:\S+ is open since .*: 2 failures in a row, the last of task 2: .*\. One task is tried at/);
    run.child.kill("SIGKILL");
    await run.ended;
    const [breaker] = await at.json<Breaker[]>(["breaker", "list"]);
    assert.deepEqual([breaker!.status, breaker!.failures], ["open", 2]);
    assert.match((await at.pawl(["status"])).stdout, /The breaker batch:\S+ is open since/);
    const why = await at.pawl(["why", "3"]);
    assert.match(why.stdout, /It is due, and held back\. The breaker batch:\S+ is open/);
    assert.match(why.stdout, new RegExp(`Next: pawl breaker reset ${breaker!.id}`));

    const again = at.start(["run", "list.txt", "--exec", "true"]);
    await again.until(/is open since/);
    assert.doesNotMatch(again.output(), /Completed/);
    assert.equal((await at.pawl(["breaker", "reset", breaker!.id, "--reason", "mended"])).code, 0);
    const ended = await again.ended;
    assert.equal(ended.code, 1, "two had failed");
    assert.match(ended.stdout, /4\/6 completed, 2 failed/);
    assert.match((await at.pawl(["breaker", "show", breaker!.id])).stdout, /tester closed: mended/);
  });
}

test("what is used up ends the run with 12, and every later one, until it is reset", async (t) => {
  const at = place(t);
  at.write("list.txt", LIST);
  const first = await at.pawl(["run", "list.txt", "--exec", "true", "--concurrency", "3", "--breaker", "iterations=4"]);
  assert.equal(first.code, 12, first.stderr);
  assert.match(first.stdout, /4\/6 completed, 2 pending/);
  assert.match(first.stdout, /Held back by its breaker; close it first: pawl breaker reset batch:/);
  const later = await at.pawl(["run", "list.txt", "--json"]);
  assert.equal(later.code, 12);
  const { breaker, completed } = (JSON.parse(later.stdout) as { data: { breaker: string; completed: number } }).data;
  assert.equal(completed, 4);
  await at.pawl(["breaker", "reset", breaker]);
  assert.equal((await at.pawl(["run", "list.txt"])).code, 0, "the batch remembers its limits, and two are within them");
  assert.equal((await at.pawl(["run", "list.txt", "--breaker", "off"])).code, 0);
  assert.deepEqual(await at.json(["breaker", "list"]), []);
});

test("a queue is closed by hand, for people who claim too", async (t) => {
  const at = place(t);
  await at.pawl(["add", "mail", "--queue", "mail"]);
  assert.match((await at.pawl(["breaker", "open", "queue:mail", "--reason", "moving", "--for", "1h"])).stdout, /is open since .*: moving\. One task is tried at/);
  assert.match((await at.pawl(["claim", "--queue", "mail"])).stdout, /Nothing is due/);
  await at.pawl(["breaker", "reset", "queue:mail"]);
  assert.match((await at.pawl(["claim", "--queue", "mail"])).stdout, /in_progress/);
  assert.match((await at.pawl(["breaker", "rm", "queue:mail"])).stdout, /removed/);
  assert.equal((await at.pawl(["breaker", "show", "queue:mail"])).code, 3);
});

test("a preset's tokens and cost are counted", async (t) => {
  const at = place(t);
  at.write("claude", `#!/bin/sh\necho '{"type":"result","subtype":"success","is_error":false,"result":"done","total_cost_usd":0.6,"usage":{"input_tokens":10,"output_tokens":5,"cache_read_input_tokens":9000}}'\n`, 0o755);
  at.write("list.txt", LIST);
  const ended = await at.pawl(["run", "list.txt", "--with", "claude", "--breaker", "cost=1"], { env: { PATH: `${at.folder}:${process.env["PATH"]}` } });
  assert.equal(ended.code, 12, ended.stderr);
  assert.match(ended.stderr, /\$1\.2 of \$1 are spent/);
  const [breaker] = await at.json<Breaker[]>(["breaker", "list"]);
  assert.deepEqual([breaker!.tokens, breaker!.cost], [30, 1.2]);
});

test("the commands on the page of breakers do what it says", async (t) => {
  const at = place(t);
  at.write("claude", `#!/bin/sh\necho '{"type":"result","subtype":"success","is_error":false,"result":"done"}'\n`, 0o755);
  at.write("tasks.txt", LIST);
  const page = readFileSync(join(import.meta.dirname, "..", "..", "docs", "breaker.md"), "utf8");
  const commands = /```sh\n([^]*?)```/.exec(page)![1]!.trim().split("\n");
  assert.equal(commands.length, 6);
  for (const command of commands) {
    const ended = await at.pawl(splitWords(command).slice(1), { env: { PATH: `${at.folder}:${process.env["PATH"]}` } });
    assert.equal(ended.code, 0, `${command}: ${ended.stderr}`);
  }
  const breakers = await at.json<Breaker[]>(["breaker", "list"]);
  assert.deepEqual(breakers.map(({ status, limits }) => [status, limits]), [["closed", { failures: 5, cooldown_ms: 60_000, cost: 20 }], ["closed", { failures: 5, cooldown_ms: 60_000 }]]);
});

const BAD: readonly (readonly [readonly string[], RegExp])[] = [
  [["run", "list.txt", "--exec", "true", "--breaker", "nope"], /"nope" is no limit of a breaker/],
  [["run", "list.txt", "--exec", "true", "--breaker", ""], /is no limit of a breaker/],
  [["run", "list.txt", "--exec", "true", "--breaker", "failures=0"], /failures takes a whole number of at least 1/],
  [["run", "list.txt", "--exec", "true", "--breaker", "cooldown=1m"], /needs a limit that opens it/],
  [["run", "list.txt", "--exec", "true", "--breaker", "failures=2,time=soon"], /is not a duration/],
  [["worker", "--exec", "true", "--breaker", "cost=free"], /cost takes an amount/],
  [["breaker", "set", "mail", "failures=2"], /"mail" names no breaker/],
  [["breaker", "set", "queue:mail", "failures=two"], /failures takes a whole number/],
  [["breaker", "set", "queue:mail"], /required argument .limits/],
  [["breaker", "open", "queue:"], /"queue:" names no breaker/],
  [["breaker", "open", "queue:mail", "--for", "0s"], /longer than zero/],
];

test("bad input is refused with 2, says how to write it, and changes nothing", async (t) => {
  const at = place(t);
  at.write("list.txt", LIST);
  await at.pawl(["add", "there is a state"]);
  const before = await at.json(["list"]);
  await Promise.all(BAD.map(async ([args, wanted]) => {
    const ended = await at.pawl(args);
    assert.equal(ended.code, 2, `${args.join(" ")}: ${ended.stdout}${ended.stderr}`);
    assert.match(ended.stderr, wanted);
    assert.match(ended.stderr, /next: /);
  }));
  assert.deepEqual(await at.json(["list"]), before);
  assert.deepEqual(await at.json(["breaker", "list"]), []);
  assert.deepEqual(await at.json(["batch", "list"]), []);
});

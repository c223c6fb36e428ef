// Presets against a stand-in for the real program that checks how it is called; the notices of usage limits, as the real
// one words them; and a person as verifier.
import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { describe, test } from "node:test";
import { manualClock } from "../../src/base/clock.ts";
import { isPawlError, type PawlError } from "../../src/base/errors.ts";
import { isPermanent } from "../../src/core/retry.ts";
import { UsageLimitError } from "../../src/worker/executor.ts";
import { personVerifier, visible } from "../../src/worker/person.ts";
import { presetExecutor, type PresetOptions } from "../../src/worker/presets.ts";
import { readLimit } from "../../src/worker/usage.ts";
import { task, testAttempt } from "./attempt-stub.ts";

const cwd = mkdtempSync(join(tmpdir(), "pawl-presets-"));
const fixtures = join(import.meta.dirname, "../fixtures");
// The stand-in finds the Node that runs the tests.
const PATH = [fixtures, join(process.execPath, ".."), process.env["PATH"]].join(delimiter);

const NOW = Date.UTC(2026, 0, 15, 12, 0);
const HOUR = 3_600_000;

async function claude(options: Partial<PresetOptions> = {}, fields = {}, env: { [name: string]: string } = {}) {
  const attempt = testAttempt();
  const executor = presetExecutor("claude", { cwd, clock: manualClock(NOW), ...options, env: { PATH, ...env } });
  const outcome = await executor.run(task(fields), attempt).then((value) => ({ value: value as string }), (error: unknown) => ({ error: error as PawlError & UsageLimitError }));
  return { ...outcome, details: attempt.seen.outputs[0]?.details } as { value?: string; error?: PawlError & UsageLimitError; details?: { [name: string]: unknown } };
}

/** What the stand-in was asked. */
async function asked(options: Partial<PresetOptions> = {}, fields = {}): Promise<{ prompt: string; args: string[] }> {
  const { value, error } = await claude(options, fields);
  assert.ifError(error);
  return JSON.parse(value!);
}

const answering = (answer: object | string, exit = 0) => claude({}, {}, { CLAUDE_ANSWER: typeof answer === "string" ? answer : JSON.stringify(answer), CLAUDE_EXIT: String(exit) });

describe("--with claude", () => {
  test("asks with the description, passes the arguments on, and keeps what it cost", async () => {
    const { value, details } = await claude({ args: ["--model", "opus", "--allowedTools", "Bash(git log:*) Read"] });
    assert.deepEqual(JSON.parse(value!), { prompt: "say hello", args: ["--model", "opus", "--allowedTools", "Bash(git log:*) Read"] });
    assert.deepEqual(details, { session_id: "s-1", input_tokens: 12, output_tokens: 56, cache_creation_input_tokens: 3, cache_read_input_tokens: 4, cost_usd: 0.25, turns: 2 });
  });

  test("a template takes the place of the description; feedback follows under its heading, unless the template has it", async () => {
    assert.equal((await asked({ prompt: "Please {description} in {input.file}" })).prompt, "Please say hello in a.txt");
    const { prompt } = await asked({}, { feedback: "tests fail" });
    assert.match(prompt, /^say hello\n\n## Feedback on your last attempt\n[^]*tests fail$/);
    assert.match((await asked({ prompt: "T {id}" }, { feedback: "tests fail" })).prompt, /^T 7\n\n## Feedback[^]*tests fail$/);
    assert.equal((await asked({ prompt: "T: {feedback}" }, { feedback: "tests fail" })).prompt, "T: tests fail");
  });

  test("no text turns into an option, a placeholder or code, and a long one goes by stdin", async () => {
    for (const description of ["$(touch owned) `x` 'y' \"z\" ; rm", "{id} {prompt} {input.nope}", "a\nb"]) assert.equal((await asked({}, { description })).prompt, description);
    assert.equal((await asked({}, { description: "--version" })).prompt, "\n--version");
    const description = "é".repeat(300_000);
    assert.equal((await asked({}, { description: description })).prompt, description);
  });

  test("other errors are errors with their reason; the hopeless ones are permanent", async () => {
    const api = { type: "result", subtype: "success", is_error: true, session_id: "s-2" };
    const overloaded = await answering({ ...api, api_error_status: 529, result: "Overloaded" }, 1);
    assert.equal(overloaded.error!.message, "claude failed (HTTP 529): Overloaded");
    assert.equal(overloaded.details!["session_id"], "s-2");
    assert.equal(isPermanent(overloaded.error), false);
    const login = await answering({ ...api, api_error_status: 401, result: "Invalid API key · Please run /login" }, 1);
    assert.ok(isPawlError(login.error, "failed") && isPermanent(login.error));
    assert.match((await answering({ ...api, is_error: false, subtype: "error_max_turns" })).error!.message, /error max turns/);
    assert.match((await answering({ ...api, is_error: true })).error!.message, /no reason given/);
    assert.match((await answering("", 3)).error!.message, /exited with code 3/);
  });

  test("reads a list of messages, streamed lines, and plain text when the arguments asked for it", async () => {
    const answer = { type: "result", subtype: "success", is_error: false, result: "R", session_id: "s-3" };
    assert.equal((await answering([{ type: "system" }, answer] as object)).value, "R");
    const streamed = await answering(`{"type":"system"}\n${JSON.stringify(answer)}`);
    assert.deepEqual([streamed.value, streamed.details!["session_id"]], ["R", "s-3"]);
    assert.equal((await claude({ args: ["--output-format", "text"] }, {}, { CLAUDE_ANSWER: "just text" })).value, "just text");
    for (const [printed, told] of [["Please log in.\n", "Please log in."], ["null", "null"], ["", "nothing"]] as const) {
      assert.equal((await answering(printed)).error?.message, `claude printed no JSON answer, but: ${told}`, "exit code 0 makes it no result");
    }
    assert.equal((await answering({ ...answer, result: "a\u0000b\ud800" })).value, "a\u2400b\ufffd");
  });

  test("is not called at all when it is missing, and an unknown preset names the known ones", async () => {
    const missing = presetExecutor("claude", { cwd, env: { PATH: "/nowhere" } });
    await assert.rejects(missing.prepare!(), (error: PawlError) => isPawlError(error, "usage") && /claude/.test(error.message) && /Install/.test(error.next!));
    await presetExecutor("claude", { cwd, env: { PATH } }).prepare!();
    for (const name of ["nope", "toString", "__proto__"]) assert.throws(() => presetExecutor(name, { cwd }), (error: PawlError) => isPawlError(error, "usage") && error.next!.includes("claude"));
  });

  test("its recipe makes it again", () => {
    const executor = presetExecutor("claude", { cwd, args: ["--model", "x"], prompt: "P", env: { SECRET: "s" } });
    assert.deepEqual([executor.name, executor.recipe], ["preset: claude", { kind: "preset", preset: "claude", args: ["--model", "x"], prompt: "P" }]);
  });
});

describe("usage limits", () => {
  const error = { type: "result", subtype: "success", is_error: true };

  test("by the status, whatever the words; fifteen minutes when no time is said", async () => {
    const limited = await answering({ ...error, api_error_status: 429, result: "try later", session_id: "s-4" }, 1);
    assert.ok(limited.error instanceof UsageLimitError);
    assert.equal(limited.error.resumeAt, NOW + 15 * 60_000);
    assert.equal(limited.error.message, "try later");
    assert.equal(limited.details!["session_id"], "s-4");
  });

  test("by the notice, also where the tool reports a success or prints no JSON", async () => {
    const at = NOW / 1000 + 777;
    for (const answer of [{ ...error, result: `Claude AI usage limit reached|${at}` }, { ...error, is_error: false, result: `Claude AI usage limit reached|${at}` }, `Claude AI usage limit reached|${at}`]) {
      const limited = await answering(answer);
      assert.ok(limited.error instanceof UsageLimitError, JSON.stringify(answer));
      assert.equal(limited.error.resumeAt, at * 1000);
    }
    assert.ok((await answering({ ...error, result: "You've hit your session limit · resets 3pm (UTC)" }, 1)).error instanceof UsageLimitError);
  });

  test("an answer that speaks of limits is an answer", async () => {
    for (const result of ["I found the text 'Claude AI usage limit reached|1' in the log.", "5-hour limit reached ∙ resets 3pm\nis what the log says", "The session limit reached its maximum."]) {
      assert.equal((await answering({ ...error, is_error: false, result })).value, result);
    }
  });

  const utc = (text: string) => Date.parse(text);
  const FORMS: [text: string, resumeAt: number | null][] = [
    [`Claude AI usage limit reached|${NOW / 1000 + 60}`, NOW + 60_000],
    [`Claude AI usage limit reached|${NOW + 60_000}`, NOW + 60_000],
    ["Claude usage limit reached. Your limit will reset at 5pm (Europe/Warsaw).", utc("2026-01-15T16:00:00Z")],
    ["You've hit your limit · resets 3pm (UTC)", utc("2026-01-15T15:00:00Z")],
    ["You’ve hit your limit · resets 3:30am (Europe/Moscow)", utc("2026-01-16T00:30:00Z")],
    ["You've hit your session limit · resets 12am (America/Los_Angeles)", utc("2026-01-16T08:00:00Z")],
    ["You've hit your session limit · resets 12pm (America/Los_Angeles)", utc("2026-01-15T20:00:00Z")],
    ["5-hour limit reached ∙ resets 3pm (Asia/Kathmandu)", utc("2026-01-16T09:15:00Z")],
    ["Session limit reached ∙ resets 5:00 PM (UTC)", utc("2026-01-15T17:00:00Z")],
    ["Weekly limit reached ∙ resets Jan 19, 5pm (UTC)", utc("2026-01-19T17:00:00Z")],
    ["You've hit your weekly limit · resets Feb 3 at 10am (America/New_York)", utc("2026-02-03T15:00:00Z")],
    ["You've hit your Opus weekly limit · resets Jan 2, 5pm (UTC)", utc("2027-01-02T17:00:00Z")],
    ["You've hit your limit · resets 11:30am (UTC)", NOW + 60_000],
    ["You've hit your limit · resets 15:00 (UTC)", utc("2026-01-15T15:00:00Z")],
    ["You have reached your specified API usage limits. You will regain access on 2026-04-01 at 00:00 UTC.", utc("2026-04-01T00:00:00Z")],
    ["You've hit your limit", null],
    ["Weekly limit reached", null],
    ["You've hit your limit · resets 99pm (UTC)", null],
    ["API Error\n  You've hit your limit · resets 3pm (UTC)\nbye", utc("2026-01-15T15:00:00Z")],
  ];
  for (const [text, resumeAt] of FORMS) {
    test(text.replaceAll("\n", " / "), () => assert.equal(readLimit(text, NOW)?.resumeAt, resumeAt));
  }

  test("without a zone, or with one nobody knows, it is the local clock", () => {
    for (const text of ["5-hour limit reached ∙ resets 3pm", "You've hit your limit · resets 3pm (Middle/Earth)"]) {
      const { resumeAt } = readLimit(text, NOW)!;
      const local = new Date(resumeAt!);
      assert.deepEqual([local.getHours(), local.getMinutes(), local.getSeconds()], [15, 0, 0]);
      assert.ok(resumeAt! > NOW && resumeAt! <= NOW + 25 * HOUR);
    }
  });

  test("the clock change of a zone is taken in", () => {
    const before = utc("2026-03-28T22:00:00Z"); // Berlin goes from +1 to +2 in this night
    assert.equal(readLimit("You've hit your limit · resets 9am (Europe/Berlin)", before)?.resumeAt, utc("2026-03-29T07:00:00Z"));
  });

  test("other texts are none", () => {
    for (const text of ["", "Overloaded", "Error: max turns reached", "the rate limiter in worker.js is wrong", "Credit balance is too low"]) assert.equal(readLimit(text, NOW), null);
  });
});

describe("a person", () => {
  const judge = (answers: string[], shown: string[] = [], result: unknown = "done") =>
    personVerifier({
      ask: async (question) => {
        shown.push(question);
        return answers.shift() ?? assert.fail("asked once too often");
      },
    }).run(task(), result as never, testAttempt());

  test("says yes, or no and why; everything else is asked again", async () => {
    const shown: string[] = [];
    assert.deepEqual(await judge([" Y "], shown), { passed: true });
    assert.match(shown[0]!, /Task 7: say hello\n\ndone\n\nIs this done\? \[y\/n\] $/);
    assert.deepEqual(await judge(["", "maybe", "no", " add tests "]), { passed: false, feedback: "add tests" });
    assert.match((await judge(["n", ""])).feedback!, /no reason/);
    await assert.rejects(personVerifier({ ask: () => Promise.reject(new Error("input ended")) }).run(task(), null, testAttempt()), /input ended/);
  });

  test("sees a result as it is, with nothing that moves the terminal, and not for ever", async () => {
    const shown: string[] = [];
    await judge(["y"], shown, "a\u001b[2Jb\rc\u009bd\u202ee\n\tf");
    assert.match(shown[0]!, /a\\u001b\[2Jb\\u000dc\\u009bd\\u202ee\n\tf/);
    await judge(["y"], shown, { a: [1] });
    assert.match(shown[1]!, /"a": \[/);
    await judge(["y"], shown, "x".repeat(100_000));
    assert.match(shown[2]!, /96000 more characters: pawl show 7/);
    assert.equal(visible("größe 日本 🙂"), "größe 日本 🙂");
  });

  test("is asked one thing at a time, and not any more when the task is lost", async () => {
    let [open, most] = [0, 0];
    const verifier = personVerifier({
      ask: async () => {
        most = Math.max(most, ++open);
        await new Promise((resolve) => setTimeout(resolve, 5));
        open--;
        return "y";
      },
    });
    const stopped = AbortSignal.abort(new Error("lost"));
    const [first, lost, last] = await Promise.allSettled([verifier.run(task(), 1, testAttempt()), verifier.run(task(), 1, testAttempt({ signal: stopped })), verifier.run(task(), 1, testAttempt())]);
    assert.deepEqual([most, first.status, lost.status, last.status], [1, "fulfilled", "rejected", "fulfilled"]);
  });

  test("without a terminal must decide elsewhere", async () => {
    await assert.rejects(personVerifier({}).run(task(), null, testAttempt()), (error: PawlError) => isPawlError(error, "waiting") && error.next !== undefined);
  });
});

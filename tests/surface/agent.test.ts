// An agent and its decisions through the real command line: looked at, patched, compared, given more to spend, its actions
// approved with other arguments; what is wrong is said with its place and exit code, and changes nothing.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { askForAction, outcomeOf } from "../../src/core/approval.ts";
import { openAgent } from "../../src/core/agents.ts";
import { reserve } from "../../src/core/budgets.ts";
import { openState } from "../../src/state.ts";
import { main } from "../../src/surface/cli.ts";
import { place } from "../pawl.ts";

/** main() in this process, on this state. */
async function pawlOn(file: string, args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  let [stdout, stderr] = ["", ""];
  const io = { out: (text: string) => void (stdout += text), err: (text: string) => void (stderr += text), stdin: async () => Buffer.alloc(0), tty: false, color: false, errColor: false, columns: 100, env: { PAWL_ACTOR: "tester", PAWL_STATE: file }, cwd: "/" };
  return { code: await main(args, io), stdout, stderr };
}

test("an agent is shown, patched, compared and read at a revision", async (t) => {
  const file = place(t).path("state.json");
  const state = await openState(file, { actor: "ann" });
  await state.tasks.add({ description: "Free some disk space" });
  const { task } = (await state.tasks.claim())!;
  await openAgent(state.committer, task, { actor: "w", budget: { max_steps: 1 } });
  await reserve(state.committer, task, "t1", { steps: 1, llm_tokens: 500 });
  await state.close();
  const pawl = (...args: string[]) => pawlOn(file, args);
  const data = async (...args: string[]) => (JSON.parse((await pawl(...args, "--json")).stdout) as { data: Record<string, unknown> }).data;

  assert.match((await pawl("agent", "patch", "1", '{"append_known_facts":[{"key":"disk","value":"95%","source":"tool"}],"replace_plan":["measure"]}', "--revision", "0", "--reason", "df")).stdout, /^Agent of task 1 is at revision 1: append_known_facts 1, replace_plan 1/);
  assert.match((await pawl("agent", "patch", "1", '{"append_known_facts":[{"key":"disk","value":"\\u001b[31m9","source":"user"}]}')).stdout, /revision 2/);
  const shown = (await pawl("agent", "show", "1")).stdout;
  assert.match(shown, /Goal: Free some disk space\nPlan:\n {2}1\. measure\nKnown:\n {2}disk: 95% \(tool\)\n/);
  assert.match(shown, /Open questions:\n {2}Which value of "disk" holds/);
  assert.match(shown, /steps: 0 of 1, and 1 reserved \(runs low\)/);
  assert.ok(!shown.includes("\u001b[31m"), "stored text is escaped");
  const { state: contract } = await data("agent", "show", "1");
  assert.deepEqual(Object.keys(contract as object), ["goal", "constraints", "budget", "plan", "known_facts", "open_questions", "artifacts", "risk_flags"]);
  assert.deepEqual(((await data("agent", "at", "1", "1")) as { known_facts: unknown[] }).known_facts, [{ key: "disk", value: "95%", source: "tool" }]);
  assert.match((await pawl("agent", "diff", "1", "--from", "1")).stdout, /^Revision 1 to 2\n\+ fact disk: .*\n\+ question Which/);
  assert.match((await pawl("agent", "history", "1")).stdout, /1 +\S+ +\S+ +append_known_facts 1, replace_plan 1: df/);
  assert.match((await pawl("history", "1")).stdout, /agent_patched/);
  assert.match((await pawl("agent", "list")).stdout, /1 +2 +\S+ +Free some disk space/);
  assert.equal((await pawl("agent", "messages", "1")).stdout, "No messages.\n");

  const bad: [string[], number, RegExp][] = [
    [["agent", "patch", "1", '{"append_known_facts":[{"key":"a","value":1}]}'], 2, /patch\.append_known_facts\[0\]\.source is missing/],
    [["agent", "patch", "1", "{nonsense"], 2, /patch/], [["agent", "patch", "1", '{"replace_plan":[]}', "--revision", "1"], 4, /made for revision 1 .* it is at 2 now[\s\S]*pawl agent diff 1 --from 1/],
    [["agent", "at", "1", "9"], 2, /no revision 9 .* it is at 2/], [["agent", "show", "7"], 3, /task not found: 7/], [["agent", "budget", "1", "--add", "max_steps"], 2, /does not say what to add/],
    [["agent", "budget", "1", "--add", "max_step=3"], 2, /no limit called max_step/], [["agent", "budget", "1", "--add", "max_cost_micros=3"], 2, /has no limit max_cost_micros/],
  ];
  for (const [args, code, message] of bad) {
    const ended = await pawl(...args);
    assert.equal(ended.code, code, `${args.join(" ")}: ${ended.stderr}`);
    assert.match(ended.stderr, message);
  }
  assert.match((await pawl("agent", "budget", "1", "--add", "max_steps=4,max_llm_tokens=1000")).stdout, /steps: 0 of 5, and 1 reserved\n/);
  assert.match((await pawl("history", "1")).stdout, /budget_added/);
  assert.match((await pawlOn(file, ["show", "1"])).stdout, /agent: revision 2 \(pawl agent show 1\)/);
  assert.equal(((await data("agent", "show", "1")) as { agent: { revision: number } }).agent.revision, 2);
});

test("a task without an agent has none of what an agent has", async (t) => {
  const file = place(t).path("state.db");
  const state = await openState(file, { actor: "ann" });
  await state.tasks.add({ description: "by hand" });
  for (const line of [["show", "1"], ["messages", "1"], ["messages", "1", "--all"], ["history", "1"], ["budget", "1"]]) {
    const ended = await pawlOn(file, ["agent", ...line]);
    assert.deepEqual([ended.code, /Task 1 has no (agent|budget)/.test(ended.stderr)], [3, true], `${line.join(" ")}: ${ended.stderr}`);
  }
  await state.close();
});

test("an action waits in the inbox with its exact arguments, and runs with the edited ones", async (t) => {
  const file = place(t).path("state.db");
  const state = await openState(file, { actor: "ann" });
  const ran: unknown[] = [];
  const { id } = await state.tasks.add({ description: "clean" });
  const worker = state.work({
    execute: async (task, { decide }) => {
      const became = outcomeOf(await decide("rm", askForAction({ tool: "rm", arguments: { path: "/var/log" }, risk: "write_local" }, task.id)));
      if (became && "arguments" in became) ran.push(became.arguments);
      return became?.outcome ?? null;
    },
  });
  await worker.idle();
  const inbox = (await pawlOn(file, ["inbox"])).stdout;
  assert.match(inbox, /May task 1 call rm \(write_local\)\?[\s\S]*\/var\/log[\s\S]*pawl approve d1[\s\S]*pawl approve d1 --edit[\s\S]*pawl deny d1/);
  assert.match((await pawlOn(file, ["why", "1"])).stdout, /Next: pawl approve d1/);
  const refused = await pawlOn(file, ["approve", "d1", "--edit", "{oops"]);
  assert.deepEqual([refused.code, ran], [2, []]);
  assert.match((await pawlOn(file, ["approve", "d1", "--edit", '{"path":"/var/log/old"}'])).stdout, /Decision d1 edited/);
  while ((await state.tasks.get(id)).status !== "completed") await worker.nextEvent();
  assert.deepEqual([ran, (await state.tasks.get(id)).result], [[{ path: "/var/log/old" }], "edited"]);
  await worker.stop();
  await state.close();
});

test("a run tells of a decision by a command before it ends, and a hook that fails does not fail it", async (t) => {
  const at = place(t);
  at.write("tell.mjs", 'import { appendFileSync, readFileSync } from "node:fs"; appendFileSync("told", JSON.parse(readFileSync(0, "utf8")).question + "\\n");');
  at.write("tasks.txt", "write a haiku\n");
  const ended = await at.pawl(["run", "tasks.txt", "--exec", "echo seventeen", "--verify", "ask", "--notify", `${process.execPath} tell.mjs`]);
  assert.match(ended.stdout, /Waiting for you: pawl inbox/, ended.stderr);
  assert.equal(readFileSync(at.path("told"), "utf8"), "Is the result of task 1 good? write a haiku\n");
  const again = await at.pawl(["run", "tasks.txt"]);
  assert.equal(readFileSync(at.path("told"), "utf8"), "Is the result of task 1 good? write a haiku\n", `told once: ${again.stderr}`);
  at.write("more.txt", "write a sonnet\n");
  const failing = await at.pawl(["run", "more.txt", "--new", "--exec", "echo fourteen", "--verify", "ask", "--notify", "./no-such-hook"]);
  assert.deepEqual([failing.code, /Nobody could be told of decision d2: .*ENOENT/.test(failing.stderr)], [ended.code, true], failing.stderr);
});

// "I'm out of disk space. Fix it.": an agent with real tools on a sandbox folder. Kill it with kill -9 wherever you like and start it
// again: no model call and no deletion is repeated. It deletes nothing before you approve exactly that.
import { agent, openState } from "../../src/index.ts"; // in your project: from "pawl"
import { standIn } from "./stand-in.ts";
import { fillSandbox, tools } from "./tools.ts";

fillSandbox();
const state = await openState("state.json");
const task = await state.tasks.add({ key: "disk", description: "I'm out of disk space. Fix it.", max_attempts: 5 });
const worker = state.work({
  execute: agent({
    model: process.env["MODEL"] ?? standIn,
    tools,
    instructions: "You are an autonomous DevOps agent. Find out what fills the disk, make room, and check that it helped. Never touch home.",
    policy: { required_for_risk_levels: ["write_local", "external_action"] },
    budget: { max_steps: 20, max_llm_tokens: 200_000 },
  }),
  onStart: (started) => console.log(`Starting the agent (task ${started.id}, attempt ${started.attempts})`),
});
await worker.idle();

const { status, result, error } = await state.tasks.get(task.id);
console.log(`${status}: ${error ? error.message : String(result ?? "")}`);
for (const decision of await state.decisions.inbox()) console.log(`${decision.question}\n  ${JSON.stringify(decision.details)}\n  pawl approve ${decision.id} --state state.json`);
const { spend } = await state.agents.show(task.id);
console.log(`${spend.steps.spent} model calls, ${spend.tool_calls.spent} tool calls, ${spend.llm_tokens.spent} tokens, ${spend.llm_tokens.in_doubt} in doubt`);
await state.close();

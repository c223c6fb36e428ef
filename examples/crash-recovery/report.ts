// One task with three steps. Kill this program with kill -9 wherever you like and start it again: done steps are not run
// again, and the mail goes out once, because a check is asked when nobody knows whether it did.
import { appendFileSync, existsSync, writeFileSync } from "node:fs";
import { openState } from "../../src/index.ts"; // in your project: from "pawl"

const state = await openState("state.json");
// The key makes adding safe to repeat: the second start finds the task of the first.
await state.tasks.add({ key: "report-2026-01", description: "Send the report of January" });

const worker = state.work({
  execute: async (_, { step }) => {
    const rows = await step("collect", async () => {
      await work("collect");
      return [12, 30, 7];
    });
    const text = await step("write", async () => {
      await work("write");
      return `Total: ${rows.reduce((sum, n) => sum + n, 0)}`;
    });
    await step("send", { effect: "once", check: () => ({ done: existsSync("sent.txt") }) }, async () => {
      writeFileSync("sent.txt", text);
      await work("send");
    });
    return text;
  },
});

await worker.idle();
const task = await state.tasks.get("report-2026-01");
console.log(`${task.status}: ${String(task.result)} (takeovers: ${task.takeovers})`);
await state.close();

async function work(name: string): Promise<void> {
  console.log(name);
  appendFileSync("effects.log", `${name}\n`);
  await new Promise((resolve) => setTimeout(resolve, 500));
}

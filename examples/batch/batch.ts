// A batch of features, one after the other, that goes on where it stopped: `node batch.ts` begins, `node batch.ts ID` resumes.
// One feature that fails does not stop the others, and the context is cleared when it is full.
import { appendFileSync } from "node:fs";
import { openState } from "../../src/index.ts"; // in your project: from "pawl"

const state = await openState("state.json");
const id = process.argv[2];
const batch = id === undefined ? await state.batches.create(["login", "search", "export", "billing", "help"]) : await state.batches.load(id);
console.log(`Batch ${batch.id}`);

for (let item = await batch.next(); item !== null; item = await batch.next()) {
  if (await batch.shouldClearContext()) {
    console.log("Context cleared");
    await batch.recordContextClear(item.name);
  }
  try {
    console.log(`Building ${item.name}`);
    const { files, tokens } = await build(item.name);
    await batch.recordTokens(tokens);
    await batch.complete(item.task.id, { files });
  } catch (error) {
    await batch.fail(item.task.id, (error as Error).message);
  }
}

const { completed, failed, total } = await batch.summary();
console.log(`${completed} of ${total} completed, ${failed} failed`);
await state.close();

/** Your agent would be here. */
async function build(feature: string): Promise<{ files: number; tokens: number }> {
  appendFileSync("built.log", `${feature}\n`);
  await new Promise((resolve) => setTimeout(resolve, 200));
  if (feature === "export") throw new Error("the tests of export fail");
  return { files: feature.length, tokens: 60_000 };
}

// Ten features built by an agent, one after the other: `node batch.ts` begins, `node batch.ts ID` resumes. Each agent begins with what
// those before it came to, until the batch has 150,000 tokens: then the context is cleared, twice in this batch.
import { mkdirSync, writeFileSync } from "node:fs";
import { z } from "zod";
import { agent, openState, type Tools } from "../../src/index.ts"; // in your project: from "pawl"
import { standIn } from "./stand-in.ts";

const FEATURES = ["login", "search", "export", "billing", "help", "profile", "alerts", "audit", "import", "themes"];

const file = z.object({ name: z.string().regex(/^[a-z]+\.md$/), text: z.string() });
const tools: Tools = {
  write_file: {
    description: "Writes a file of the feature",
    inputSchema: file,
    risk: "write_local",
    execute: ({ name, text }: z.infer<typeof file>) => {
      mkdirSync("features", { recursive: true });
      writeFileSync(`features/${name}`, text);
      return `wrote ${name}`;
    },
  },
};

const state = await openState("state.json");
const id = process.argv[2];
const batch = id === undefined ? await state.batches.create(FEATURES) : await state.batches.load(id);
console.log(`Batch ${batch.id}`);

const worker = state.work({
  batch: batch.id,
  execute: agent({
    model: process.env["MODEL"] ?? standIn,
    tools,
    instructions: "You build one feature at a time: write its file, then say in one sentence what you built.",
    policy: { required_for_risk_levels: ["external_action"] }, // writing into features/ needs nobody
    batchContext: true,
  }),
  onEnd: (task) => console.log(`${task.description}: ${task.status}`),
});
await worker.idle();

const { completed, total } = await batch.summary();
const { context_clears } = await state.batches.get(batch.id);
console.log(`${completed} of ${total} completed, context cleared ${(context_clears as unknown[] | null)?.length ?? 0} times`);
await state.close();

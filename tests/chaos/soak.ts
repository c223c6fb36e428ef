// `npm run chaos [N]`: N concurrent histories a store (500 unless told otherwise), in rounds on new states, on JSON, SQLite
// and Postgres; then the faults of Postgres, the slow one too. Prints a line a round with its seed, the sum, and how long after
// each fault work went on; exits 1 when a history cannot have happened, or something was lost or done twice.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dropSchema, inSchema, newSchema, postgresUrl } from "../postgres.ts";
import { FAULTS, HALF_OPEN, runFaults } from "./faults.ts";
import { runHistories } from "./histories.ts";

const ROUND = 50;
const wanted = Number(process.argv[2] ?? 500);
const first = Number(process.argv[3] ?? 1);
if (!Number.isInteger(wanted) || wanted < 1 || !Number.isInteger(first)) {
  console.error("usage: npm run chaos [HISTORIES A STORE] [SEED]");
  process.exit(2);
}

const sum = { histories: 0, operations: 0, unanswered: 0, refused: 0, takeovers: 0, completed: 0, stops: 0, seconds: 0 };
let violations = 0;
for (let left = wanted, seed = first; left > 0; left -= ROUND, seed++) {
  const folder = mkdtempSync(join(tmpdir(), "pawl-chaos-"));
  const [server, schema] = [await postgresUrl(), newSchema()];
  const stores = [{ name: "json", url: join(folder, "state.json") }, { name: "sqlite", url: join(folder, "state.db") }, { name: "postgres", url: inSchema(server, schema) }];
  const report = await runHistories(stores, Math.min(left, ROUND), seed, 300_000);
  for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += report[key];
  violations += report.violations.length;
  console.log(`seed ${seed}: ${report.histories} histories, ${report.operations} operations, ${report.takeovers} takeovers, ${report.violations.length} violations (${report.seconds} s)`);
  for (const violation of report.violations) console.log(violation);
  await dropSchema(server, schema);
  rmSync(folder, { recursive: true, force: true });
}
console.log(`${Object.entries(sum).map(([name, n]) => `${name} ${Math.round(n)}`).join(", ")}, violations ${violations}`);
const faults = await runFaults([...FAULTS, HALF_OPEN], 300_000);
for (const { fault, ms } of faults.recoveries) console.log(`${fault}: went on after ${ms} ms`);
for (const violation of faults.violations) console.log(violation);
console.log(`${faults.tasks} tasks, ${faults.effects} effects, ${faults.repeated} cut off and run again, violations ${faults.violations.length}`);
violations += faults.violations.length;
process.exit(violations === 0 ? 0 : 1);

// `npm run crash [-- PART [COUNT]]`: the long crash runs, all parts or one of them. Writes what was done, how often, on what
// and when to crash-report/ (JSON, and Markdown for people). Exits 1 when any part found a violation.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { PARTS, type PartReport } from "./parts.ts";

type Row = PartReport & { readonly part: string; readonly what: string; readonly seconds: number };

const ROOT = join(import.meta.dirname, "..", "..");
const FOLDER = join(ROOT, "crash-report");

const [wanted, count] = process.argv.slice(2);
const chosen = PARTS.filter(({ name }) => wanted === undefined || name === wanted);
if (chosen.length === 0 || (count !== undefined && !(Number(count) > 0))) {
  console.error(`usage: npm run crash [-- PART [COUNT]], where PART is one of: ${PARTS.map(({ name, count }) => `${name} (${count})`).join(", ")}`);
  process.exit(2);
}

const rows: Row[] = [];
for (const { name, what, count: usual, run } of chosen) {
  const started = performance.now();
  const report = await run(count === undefined ? usual : Number(count)).catch((error: unknown): PartReport => ({ figures: {}, violations: [`the part itself failed: ${String(error)}`] }));
  rows.push({ part: name, what, ...report, seconds: Math.round((performance.now() - started) / 100) / 10 });
  console.log(`${name}: ${JSON.stringify(report.figures)}, ${report.violations.length} violations (${rows.at(-1)!.seconds} s)`);
  for (const violation of report.violations) console.log(`  ${violation}`);
}
writeReport(rows);
const bad = rows.reduce((sum, { violations }) => sum + violations.length, 0);
console.log(bad === 0 ? "no violations" : `${bad} violations`);
process.exitCode = bad === 0 ? 0 : 1;

function writeReport(rows: readonly Row[]): void {
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
  const on = { pawl: version, node: process.versions.node, sqlite: process.versions["sqlite"], system: `${process.platform} ${release()} ${process.arch}`, date: new Date().toISOString() };
  const figures = (row: Row) => Object.entries(row.figures).map(([name, value]) => `${name} ${String(value)}`).join(", ");
  const lines = rows.map((row) => `| ${row.part} | ${row.what} | ${figures(row)} | ${row.violations.length} | ${row.seconds} |`);
  const head = `# Crash report\n\nPawl ${on.pawl}, Node ${on.node}, SQLite ${on.sqlite}, ${on.system}, ${on.date}. Again: \`npm run crash\`.\n\n| part | what | figures | violations | seconds |\n|---|---|---|---|---|\n`;
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(join(FOLDER, "report.json"), `${JSON.stringify({ ...on, parts: rows }, null, 2)}\n`);
  writeFileSync(join(FOLDER, "report.md"), `${head}${lines.join("\n")}\n${rows.flatMap(({ part, violations }) => violations.map((line) => `\n- ${part}: ${line}`)).join("")}\n`);
}

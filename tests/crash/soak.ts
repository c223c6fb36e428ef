// `npm run crash`: the long crash runs, with their figures. Exits 1 at the first violation.
import { killWorkers } from "./kills.ts";

const kills = Number(process.argv[2] ?? 300);
let bad = 0;
for (const file of ["state.json", "state.db"]) {
  for (let round = 0; round < Math.ceil(kills / 100); round++) {
    const report = await killWorkers({ file, kills: Math.min(100, kills), workers: 4, seed: 7 + round });
    console.log(`${file} round ${round + 1}: ${JSON.stringify(report)}`);
    bad += report.violations.length;
  }
}
console.log(bad === 0 ? "no violations" : `${bad} violations`);
process.exitCode = bad === 0 ? 0 : 1;

// `npm run edits -- 10000`: that many random hand edits beside a running worker, with the figures. Exits 1 when one is lost.
import { editBesideWorker } from "./edits.ts";

const [edits, seed] = [Number(process.argv[2] ?? 1_000), Number(process.argv[3] ?? 7)];
const report = await editBesideWorker({ edits, seed });
console.log(JSON.stringify(report, null, 2));
process.exitCode = report.violations.length === 0 ? 0 : 1;

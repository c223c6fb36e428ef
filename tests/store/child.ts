// A process of the conformance cases: opens the store named by its arguments and plays one role on it.
// `child.ts STORE PLACE ROLE ARGS…`; a line is written before the call returns, so that it is out even when a kill follows.
import { writeSync } from "node:fs";
import { runConformanceRole } from "../../src/store/conformance/conformance.ts";
import { STORES } from "./stores.ts";

const [name = "", place = "", role = "", ...args] = process.argv.slice(2);
const kind = STORES.find((store) => store.name === name);
if (!kind) throw new Error(`There is no store "${name}".`);
const store = await kind.open(place, {});
await runConformanceRole(role, store, args, (line) => writeSync(1, `${line}\n`));
await store.close();

// Opens a state and dies in the middle: `json-adoption-child.ts FILE N` kills itself (SIGKILL) before the Nth call that
// changes the disk, and says "survived" when there were fewer.
import { writeSync } from "node:fs";
import { systemClock } from "../../src/base/clock.ts";
import { systemRandom } from "../../src/base/id.ts";
import { adopt } from "../../src/core/adopt.ts";
import { MODEL } from "../../src/state/opening.ts";
import { openJson } from "../../src/store/json/json.ts";
import type { Model } from "../../src/store/store.ts";
import { CHANGING, watchedFs } from "./json-place.ts";

const [file = "", last = ""] = process.argv.slice(2);
let left = Number(last);
const fs = watchedFs(({ name }) => {
  if (CHANGING.has(name) && --left < 0) process.kill(process.pid, "SIGKILL");
});
const model: Model = { ...MODEL, adopt: (document, from) => adopt(document, { ...from, actor: "ann" }) };
const store = await openJson(file, model, { clock: systemClock, random: systemRandom, fs });
await store.close();
writeSync(1, "survived\n");

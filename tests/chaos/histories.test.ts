// Concurrent histories of zombie workers on three stores at once are linearizable, and would not be without fences: the same
// run on a copy of Pawl that leaves them out must find what cannot have happened. `npm run chaos` runs many more.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { copyCheckout, tryMutant, type Mutant } from "../crash/mutants/run.ts";
import { LASTING, statePlace } from "../places.ts";
import { runHistories } from "./histories.ts";
import { linearize, type Op } from "./linear.ts";

const claim = (fence: number, from: number, to: number): Op => ({ op: "claim", fence, from, to });
const write = (fence: number, from: number, to: number, name = "one"): Op => ({ op: "write", fence, name, value: `${name} ${fence}`, from, to });
const replay = (fence: number, from: number, to: number): Op => ({ op: "replay", name: "one", value: `one ${fence}`, from, to });
const complete = (fence: number, from: number, to: number): Op => ({ op: "complete", fence, value: String(fence), from, to });
const refused = (fence: number, from: number, to: number): Op => ({ op: "refused", fence, from, to });
const final = (by: number | null, steps: { readonly [name: string]: string }): Op => ({ op: "final", value: by === null ? null : String(by), steps, from: 99, to: 99 });

const POSSIBLE: { readonly [what: string]: readonly Op[] } = {
  "one owner": [claim(1, 0, 1), write(1, 2, 3), complete(1, 4, 5), final(1, { one: "one 1" })],
  "a write that overlaps the claim after it": [claim(1, 0, 1), write(1, 2, 9), claim(3, 3, 5), replay(1, 6, 7), complete(3, 8, 9), final(3, { one: "one 1" })],
  "a write without an answer that was kept": [claim(1, 0, 1), write(1, 2, Infinity), claim(3, 3, 5), replay(1, 6, 7), final(null, { one: "one 1" })],
  "a write without an answer that was not": [claim(1, 0, 1), write(1, 2, Infinity), claim(3, 3, 5), write(3, 6, 7), final(null, { one: "one 3" })],
  "a refusal after the claim of another": [claim(1, 0, 1), claim(3, 2, 3), refused(1, 4, 5), complete(3, 4, 5), final(3, {})],
};
const IMPOSSIBLE: { readonly [what: string]: readonly Op[] } = {
  "a write after the claim of another": [claim(1, 0, 1), claim(3, 2, 3), write(1, 4, 5), final(null, { one: "one 1" })],
  "a write after a refusal": [claim(1, 0, 1), refused(1, 2, 3), write(1, 4, 5), final(null, { one: "one 1" })],
  "one step recorded twice": [claim(1, 0, 1), write(1, 2, 3), claim(3, 4, 5), write(3, 6, 7), final(null, { one: "one 3" })],
  "a replay of what nobody recorded": [claim(1, 0, 1), replay(1, 2, 3), final(null, {})],
  "two results": [claim(1, 0, 1), complete(1, 2, 3), claim(3, 4, 5), complete(3, 6, 7), final(3, {})],
  "a claim after the end": [claim(1, 0, 1), complete(1, 2, 3), claim(3, 4, 5), final(1, {})],
  "a fence given twice": [claim(1, 0, 1), claim(1, 2, 3), final(null, {})],
  "an acknowledged step that is gone": [claim(1, 0, 1), write(1, 2, 3), final(null, {})],
  "an acknowledged result that is gone": [claim(1, 0, 1), complete(1, 2, 3), final(null, {})],
};

describe("the checker", () => {
  for (const [what, ops] of Object.entries(POSSIBLE)) test(`possible: ${what}`, () => assert.notEqual(linearize(ops), null));
  for (const [what, ops] of Object.entries(IMPOSSIBLE)) test(`impossible: ${what}`, () => assert.equal(linearize(ops), null));

  test("whatever happened in an order is found possible with any spans around it, and not without one of its writes", () => {
    const owners = fc.array(fc.record({ steps: fc.integer({ min: 0, max: 2 }), before: fc.nat(9), after: fc.nat(9) }), { minLength: 1, maxLength: 6 });
    fc.assert(fc.property(owners, (list) => {
      const steps: { [name: string]: string } = {};
      const ops: Op[] = [];
      const at = () => 10 * ops.length + 10;
      list.forEach(({ steps: n, before, after }, i) => {
        const fence = 2 * i + 1;
        const around = () => [at() - before, at() + after] as const;
        ops.push(claim(fence, ...around()));
        for (let step = 0; step < n; step++) {
          const name = `step ${i} ${step}`;
          steps[name] = `${name} ${fence}`;
          ops.push(write(fence, ...around(), name));
        }
      });
      const end = { ...final(null, steps), from: at() + 10, to: at() + 10 };
      assert.notEqual(linearize([...ops, end]), null);
      const lost = ops.findIndex(({ op }) => op === "write");
      if (lost !== -1) assert.equal(linearize([...ops.filter((_, i) => i !== lost), end]), null);
    }), { numRuns: 200 });
  });
});

test("histories of zombie workers on JSON, SQLite and Postgres are linearizable", { timeout: 120_000 }, async (t) => {
  const stores = await Promise.all(LASTING.map(async (name) => ({ name, url: (await statePlace(t, name)).url })));
  const report = await runHistories(stores, 34, 1, 90_000);
  assert.deepEqual(report.violations, []);
  // Without zombies the run would show nothing.
  assert.ok(report.takeovers > 0 && report.unanswered > 0 && report.refused > 0, JSON.stringify(report));
  t.diagnostic(`${report.histories} histories, ${report.operations} operations, ${report.takeovers} takeovers, ${report.unanswered} writes without an answer, in ${report.seconds} s`);
});

const HISTORIES = ["tests/chaos/histories.test.ts", "histories of zombie workers"] as const;
const UNFENCED: readonly Mutant[] = [
  { name: "steps are recorded without the fence", file: "src/core/step.ts", find: "return { kind: \"task\", key: task.id, is: { fence: task.fence } };", replace: "return { kind: \"task\", key: task.id, is: {} };", test: HISTORIES },
];

test("without fences the same histories are not", { timeout: 240_000 }, async () => {
  const copy = copyCheckout();
  try {
    for (const mutant of UNFENCED) assert.equal(await tryMutant(copy.folder, mutant), null);
  } finally {
    copy.remove();
  }
});

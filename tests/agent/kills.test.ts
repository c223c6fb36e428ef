// An agent killed with kill -9 on each store that outlives a process, at a few moments of its life. `npm run crash -- agents`
// kills it at every one of them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { killAgents } from "./kills.ts";

/** Of about 72: while the first answer is worked on, between a result and its record, in the middle of a payment. */
const MOMENTS = { json: [14, 47], sqlite: [33, 47], postgres: [14, 47] };

for (const [store, at] of Object.entries(MOMENTS)) {
  test(`row 1, ${store}: an agent killed with kill -9 goes on at the very step`, { timeout: 120_000 }, async (t) => {
    const { violations, ...figures } = await killAgents({ store, at });
    t.diagnostic(JSON.stringify(figures));
    assert.deepEqual(violations, []);
    assert.equal(figures.kills, at.length, "it must have been killed each time");
  });
}

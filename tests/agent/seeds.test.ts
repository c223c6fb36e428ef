// Agents of random shape, each of which dies once or twice at random moments. `npm run crash -- agents` runs a thousand of them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { agentsOfSeeds } from "./seeds.ts";

const SEEDS = 120;

test("row 1: an agent of any shape that dies at any moment: an effect without its record is unknown, and none is done twice", { timeout: 300_000 }, async (t) => {
  const { violations, ...figures } = await agentsOfSeeds(SEEDS);
  t.diagnostic(JSON.stringify(figures));
  assert.deepEqual(violations, []);
  assert.ok(figures.deaths > SEEDS / 2, "most of them must die");
  assert.ok(figures.asked > 0, "some death must leave a payment in question");
});

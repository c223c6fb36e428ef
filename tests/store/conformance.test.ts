// The store contract on every store: each case of src/store/conformance/conformance.ts, one test each.
import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceCases } from "../../src/store/conformance/conformance.ts";
import { inEnv, STORES } from "./stores.ts";

for (const store of STORES) {
  const applicable = conformanceCases.filter(({ needs }) => needs === undefined || store.offers.includes(needs));

  test(`${store.name} runs at least 150 cases`, () => {
    assert.ok(applicable.length >= 150, `only ${applicable.length}`);
  });

  for (const entry of conformanceCases) {
    const skip = applicable.includes(entry) ? false : `the ${store.name} store has nothing that outlives its handle, which this case needs (${entry.needs})`;
    test(`${store.name}: ${entry.group}: ${entry.name}`, { skip, timeout: 60_000 }, (t) => inEnv(store, (line) => t.diagnostic(line), entry.run));
  }
}

test("no two cases have the same name", () => {
  const names = conformanceCases.map(({ group, name }) => `${group}: ${name}`);
  assert.deepEqual(names.filter((name, i) => names.indexOf(name) !== i), []);
});

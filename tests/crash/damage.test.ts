// Damage to files of a closed state: every cut, and flipped bits, in each of its files. Noticed or harmless, never another
// state without a word. `npm run crash` flips every bit.
import assert from "node:assert/strict";
import { test } from "node:test";
import { bytesOf, cuts, filesOf, flips, sweepDamage, wholeState } from "./damage.ts";

for (const [name, checkpointBytes] of [["one segment", undefined], ["segments and checkpoints", 1_500]] as const) {
  test(`files of a state cut at every byte, and bits of them flipped: ${name}`, { timeout: 120_000 }, async (t) => {
    const whole = await wholeState(checkpointBytes);
    const paths = filesOf(whole).filter((path) => !path.includes("/prev/"));
    assert.equal(paths.length > 2, checkpointBytes !== undefined);
    for (const path of paths) {
      const bytes = bytesOf(whole, path);
      for (const ways of [cuts(bytes), flips(bytes, 7)]) {
        const { violations, ...figures } = await sweepDamage(whole, path, ways);
        t.diagnostic(`${path} ${JSON.stringify(figures)}`);
        assert.deepEqual(violations, []);
      }
    }
  });
}

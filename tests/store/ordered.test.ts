// The sorted list in memory against a plain sorted array: any inserts and removals, few
// items and ones that fill many chunks, in any order.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Ordered } from "../../src/store/ordered.ts";

type Item = { readonly group: number; readonly n: number };
const compare = (a: Item, b: Item) => a.group - b.group || a.n - b.n;
const everything = (list: Ordered<Item>, reverse = false) => list.slice(() => 0, () => -1, Infinity, reverse);

/** Does the same to both and compares them as it goes. */
function play(steps: readonly (readonly [boolean, number, number])[], every: number): void {
  const list = new Ordered<Item>(compare);
  const there = new Map<string, Item>();
  steps.forEach(([adds, group, n], i) => {
    const known = there.get(`${group}/${n}`);
    if (adds && !known) {
      const item = { group, n };
      there.set(`${group}/${n}`, item);
      list.insert(item);
    } else if (!adds && known) {
      there.delete(`${group}/${n}`);
      list.remove(known);
    }
    if (i % every !== every - 1 && i !== steps.length - 1) return;
    const expected = [...there.values()].sort(compare);
    assert.deepEqual(everything(list), expected);
    const inGroup = expected.filter((item) => item.group === group);
    assert.deepEqual(list.slice((item) => item.group - group, (item) => (item.group > group ? 1 : -1), Infinity, false), inGroup);
    assert.equal(list.count((item) => item.group - group, (item) => (item.group > group ? 1 : -1)), inGroup.length);
  });
  assert.deepEqual(everything(list, true), [...there.values()].sort(compare).reverse());
}

test("any inserts and removals", () => {
  const step = fc.tuple(fc.oneof({ weight: 2, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }), fc.integer({ min: 0, max: 12 }), fc.integer({ min: 0, max: 60 }));
  fc.assert(fc.property(fc.array(step, { maxLength: 400, size: "max" }), (steps) => play(steps, 1)), { numRuns: 60 });
});

test("ranges that outgrow a chunk, shrink to nothing and grow again, with small ones between", () => {
  // A fixed sequence that looks random: large enough for chunks to be split many times.
  let seed = 7;
  const random = (below: number) => (seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648) % below;
  const steps: [boolean, number, number][] = [];
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 5_000; i++) steps.push([true, random(3) * 10, random(3_000)]);
    for (let i = 0; i < 600; i++) steps.push([random(3) > 0, random(31), random(40)]);
    for (let n = 0; n < 3_000; n++) steps.push([false, random(3) * 10, n]);
    if (round === 2) for (const group of [0, 10, 20]) for (let n = 0; n < 3_000; n++) steps.push([false, group, n]);
  }
  play(steps, 997);
});

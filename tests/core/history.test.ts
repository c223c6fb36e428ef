// The chain of a task's history: whole on every store, and broken by any entry that is altered, removed or reordered.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { record, seal, verifyChain } from "../../src/core/history.ts";
import { STATUSES, type Transition } from "../../src/core/records.ts";
import type { Rec } from "../../src/store/store.ts";
import { STORES } from "../stores.ts";

const status = fc.option(fc.constantFrom(...STATUSES), { nil: null });
const event = fc.record({
  event: fc.string({ minLength: 1, maxLength: 8 }), actor: fc.string({ maxLength: 8 }), from: status, to: status, reason: fc.option(fc.string({ maxLength: 8 }), { nil: null }),
  details: fc.option(fc.jsonValue({ maxDepth: 2 }), { nil: null }).map((value) => JSON.parse(JSON.stringify(value))), at: fc.integer({ min: 0, max: 1e12 }),
});

function chainOf(events: readonly { readonly at: number; readonly event: string; readonly actor: string }[], id = 7): Transition[] {
  const chain: Rec[] = [];
  for (const { at, ...fields } of events) {
    const put = record({ task_id: id, ...fields } as Parameters<typeof record>[0], at) as { record: Rec };
    chain.push(seal(chain.at(-1) ?? null, put.record));
  }
  return chain as unknown as Transition[];
}

test("a sealed chain verifies, its numbers count from 1", () => {
  fc.assert(fc.property(fc.array(event, { maxLength: 12 }), (events) => {
    const chain = chainOf(events);
    assert.equal(verifyChain(chain), null);
    assert.deepEqual(chain.map(({ seq }) => seq), chain.map((_, i) => i + 1));
  }));
});

test("an altered entry is found, whatever was altered, also with a hash made to fit", () => {
  const fields = ["task_id", "seq", "at", "actor", "event", "from_status", "to_status", "reason", "details", "hash"] as const;
  fc.assert(fc.property(fc.array(event, { minLength: 2, maxLength: 8 }), fc.nat(), fc.constantFrom(...fields), fc.boolean(), (events, at, field, resealed) => {
    const chain = chainOf(events);
    const i = at % (resealed ? chain.length - 1 : chain.length);
    const old = chain[i]![field];
    const altered = { ...chain[i]!, [field]: typeof old === "number" ? (old === 9 ? 8 : 9) : old === null ? "completed" : typeof old === "string" ? `${old}x` : { ...(old as object), more: 1 } } as Transition;
    // Whoever seals the altered entry again breaks the one after it.
    chain[i] = resealed && field !== "hash" && field !== "seq" ? (seal((chain[i - 1] ?? null) as Rec | null, altered as unknown as Rec) as unknown as Transition) : altered;
    const found = verifyChain(chain);
    assert.ok(found === i + 1 || (resealed && found === i + 2), `altered ${field} of ${i + 1}, found ${found}`);
  }), { numRuns: 500 });
});

test("a removed, repeated or reordered entry is found", () => {
  fc.assert(fc.property(fc.array(event, { minLength: 3, maxLength: 10 }), fc.nat(), fc.nat(), fc.constantFrom("remove", "repeat", "swap"), (events, a, b, how) => {
    const chain = chainOf(events);
    if (how === "remove") chain.splice(a % (chain.length - 1), 1); // all but the last: a cut end leaves a chain
    if (how === "repeat") chain.splice(b % (chain.length + 1), 0, chain[a % chain.length]!);
    const [i, j] = [a % chain.length, b % chain.length];
    if (how === "swap") [chain[i], chain[j]] = [chain[j]!, chain[i]!];
    assert.equal(verifyChain(chain) === null, how === "swap" && i === j);
  }), { numRuns: 500 });
});

test("an entry of another task's chain is found", () => {
  const events = [1, 2, 3].map((at) => ({ at, event: "e", actor: "a", from: null, to: null }));
  const chain = chainOf(events);
  chain[1] = chainOf(events, 8)[1]!;
  assert.equal(verifyChain(chain), 2);
});

for (const store of STORES) {
  test(`${store.name}: every change of a task is in its history, sealed in the order it was made, and stays after its removal`, async (t) => {
    const state = await store.open(t);
    const tasks = await state.tasks.addAll(Array.from({ length: 20 }, (_, i) => ({ description: `t${i}` })));
    await Promise.all(tasks.flatMap(({ id }) => [state.tasks.edit(id, { priority: 1 }), state.tasks.edit(id, { tags: ["a"] }), state.tasks.cancel(id, { reason: "done with it" })]));
    await Promise.all(tasks.map(({ id }) => state.tasks.remove(id)));
    for (const { id } of tasks) {
      const chain = await state.history.of(id);
      assert.deepEqual([chain.length, chain[0]!.event, chain.at(-1)!.event], [5, "created", "removed"]);
      assert.equal(await state.history.verify(id), null);
      assert.deepEqual(chain.map(({ actor }) => actor), chain.map(() => "ann"));
      const cancelled = chain.find((one) => one.event === "cancelled")!;
      assert.deepEqual([cancelled.reason, cancelled.from_status, cancelled.to_status], ["done with it", "pending", "cancelled"]);
    }
  });
}

// Patches of a small world, in which keys, values and questions meet often: good ones, and ones that name what is not there.
import fc from "fast-check";
import type { Patch } from "../../src/core/patch.ts";

const key = fc.constantFrom("a", "b");
const value = fc.constantFrom<string | number | null>("x", "y", 1, null);
const text = fc.constantFrom("why?", "who?", "when?");
const optional = { requiredKeys: [] as [] };

export const patches: fc.Arbitrary<Patch> = fc.record(
  {
    append_known_facts: fc.array(fc.record({ key, value, source: fc.constantFrom("user", "tool", "model"), supersedes: fc.boolean() }), { maxLength: 3 }),
    retract_facts: fc.array(fc.record({ key, value }, { requiredKeys: ["key"] }), { maxLength: 1 }),
    replace_plan: fc.array(text, { maxLength: 3 }),
    add_open_questions: fc.array(text, { maxLength: 2 }),
    resolve_questions: fc.array(fc.record({ question: text, answer: text }, { requiredKeys: ["question"] }), { maxLength: 1 }),
    add_artifacts: fc.array(fc.record({ artifact_id: key, type: fc.constant("t"), summary: text, bytes: fc.nat(3) }), { maxLength: 2 }),
    add_risk_flags: fc.array(key, { maxLength: 2 }),
    clear_risk_flags: fc.array(key, { maxLength: 1 }),
  },
  optional,
);

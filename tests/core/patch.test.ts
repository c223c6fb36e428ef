// The rules of a patch: checked whole before anything is written, with the place of what is wrong; two values of a fact are
// an open question until one goes; the state at any revision is what the patches up to it made.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isPawlError } from "../../src/base/errors.ts";
import { LIMITS } from "../../src/base/limits.ts";
import { diffOf, holdsAt, stateOf, type AgentState, type Entry } from "../../src/core/agent.ts";
import { newBudget, type Budget } from "../../src/core/budget.ts";
import { applyPatch, checkPatch, touchedBy, type Patch } from "../../src/core/patch.ts";
import { patches } from "./patch-samples.ts";

const BUDGET = newBudget(1, {}, null, 0) as unknown as Budget;

/** An agent folded from its patches, in memory: every entry there ever was, and the state after each patch. */
class Fold {
  revision = 0;
  last = 0;
  all: Entry[] = [];
  readonly states: AgentState[] = [this.state()];

  state(revision = this.revision): AgentState {
    return stateOf({ goal: "g", constraints: {} }, this.all.filter((entry) => holdsAt(entry, revision)), BUDGET);
  }

  apply(raw: Patch, only = false): this {
    const patch = checkPatch(raw);
    const touched = new Set(touchedBy(patch).map(({ part, key }) => `${part} ${key}`));
    const current = this.all.filter((entry) => entry.current && (!only || touched.has(`${entry.part} ${entry.key}`)));
    const { revision, entries, added, ended } = applyPatch({ task_id: 1, revision: this.revision, entries: this.last }, current, patch);
    const gone = new Map(ended.map((entry) => [entry.id, entry]));
    this.all = [...this.all.map((entry) => gone.get(entry.id) ?? entry), ...added];
    this.revision = revision;
    this.last = entries;
    this.states.push(this.state());
    return this;
  }
}

const fact = (value: unknown, source = "tool", more: object = {}) => ({ key: "disk", value: value as string, source, ...more });
const facts = (fold: Fold) => fold.state().known_facts.map(({ value, source }) => `${value as string} ${source}`);

test("row 28: a second value that supersedes nothing makes an open question; the question goes with the value that goes", () => {
  const fold = new Fold().apply({ append_known_facts: [fact("95%")] });
  assert.deepEqual(fold.state().open_questions, []);
  fold.apply({ append_known_facts: [fact("80%", "model")] });
  assert.deepEqual(facts(fold), ["95% tool", "80% model"]);
  assert.deepEqual(fold.state().open_questions, ['Which value of "disk" holds: "95%" (tool) or "80%" (model)?']);
  fold.apply({ append_known_facts: [fact("70%", "scan")] });
  assert.deepEqual(fold.state().open_questions, ['Which value of "disk" holds: "95%" (tool) or "80%" (model) or "70%" (scan)?']);
  fold.apply({ retract_facts: [{ key: "disk", value: "80%", reason: "guessed" }] });
  assert.deepEqual(fold.state().open_questions, ['Which value of "disk" holds: "95%" (tool) or "70%" (scan)?']);
  fold.apply({ append_known_facts: [fact("60%", "tool", { supersedes: true })] });
  assert.deepEqual([facts(fold), fold.state().open_questions], [["60% tool"], []]);
  const question = fold.all.findLast((entry) => entry.part === "question")!;
  assert.deepEqual([question.ended_as, question.note], ["resolved", '"60%"']);
  const guess = fold.all.find((entry) => entry.value === "80%")!;
  assert.deepEqual([guess.ended_as, guess.note, guess.since, guess.until], ["retracted", "guessed", 2, 4]);
});

test("the same value from another source is no conflict; from the same source it is not kept twice", () => {
  const fold = new Fold().apply({ append_known_facts: [fact("95%"), fact("95%"), fact("95%", "user")] });
  assert.deepEqual([facts(fold), fold.state().open_questions], [["95% tool", "95% user"], []]);
  assert.equal(fold.apply({ append_known_facts: [fact("95%")] }).all.length, 2);
});

test("what the user said is superseded by the user only", () => {
  const fold = new Fold().apply({ append_known_facts: [fact("staging", "user")] }).apply({ append_known_facts: [fact("production", "model", { supersedes: true })] });
  assert.deepEqual(facts(fold), ["staging user", "production model"]);
  assert.equal(fold.state().open_questions.length, 1);
  fold.apply({ append_known_facts: [fact("production", "user", { supersedes: true })] });
  assert.deepEqual([facts(fold), fold.state().open_questions], [["production model", "production user"], []]);
});

test("scenario 15: plan, questions, artifacts and flags", () => {
  const note = { artifact_id: "log_123", type: "tool_result.logs", summary: "nginx error log", bytes: 48231 };
  const fold = new Fold().apply({ replace_plan: ["a", "b"], add_open_questions: ["Which namespace?", "Which namespace?"], add_artifacts: [note], add_risk_flags: ["slow", "slow"] });
  assert.deepEqual(fold.state(), { ...fold.states[0]!, plan: ["a", "b"], open_questions: ["Which namespace?"], artifacts: [note], risk_flags: ["slow"] });
  fold.apply({ replace_plan: ["c"], resolve_questions: [{ question: "Which namespace?", answer: "prod" }], add_artifacts: [{ ...note, bytes: 5 }], clear_risk_flags: ["slow", "was never there"] });
  assert.deepEqual(fold.state(), { ...fold.states[0]!, plan: ["c"], artifacts: [{ ...note, bytes: 5 }] });
  fold.apply({ replace_plan: [] });
  assert.deepEqual(fold.state(), { ...fold.states[0]!, artifacts: [{ ...note, bytes: 5 }] });
});

test("what one patch both adds and takes back leaves nothing behind", () => {
  const fold = new Fold().apply({ append_known_facts: [fact("1"), fact("2"), fact("3", "tool", { supersedes: true })] });
  assert.deepEqual([facts(fold), fold.state().open_questions, fold.all.length], [["3 tool"], [], 1]);
});

test("scenario 15: a bad patch says where, and how it is bad", () => {
  const long = "x".repeat(LIMITS.agentTextChars + 1);
  const rows: [unknown, string, RegExp][] = [
    [null, "usage", /^patch must be an object, not null/], [[], "usage", /^patch must be an object, not a list/], ["x", "usage", /^patch must be an object/], [{}, "usage", /The patch is empty/],
    [{ facts: [] }, "usage", /^patch\.facts is not known/], [{ __proto__: null, constructor: [] }, "usage", /^patch\.constructor is not known/],
    [{ append_known_facts: {} }, "usage", /^patch\.append_known_facts must be an array, not an object/],
    [{ append_known_facts: [fact("ok"), { key: "k", value: 1 }] }, "usage", /^patch\.append_known_facts\[1\]\.source is missing/],
    [{ append_known_facts: [{ value: 1, source: "s" }] }, "usage", /^patch\.append_known_facts\[0\]\.key is missing/],
    [{ append_known_facts: [{ key: "k", source: "s" }] }, "usage", /^patch\.append_known_facts\[0\]\.value is missing/],
    [{ append_known_facts: [fact("v", "s", { sorce: 1 })] }, "usage", /^patch\.append_known_facts\[0\]\.sorce is not known/],
    [{ append_known_facts: [fact("v", " ")] }, "usage", /^patch\.append_known_facts\[0\]\.source must not be empty/],
    [{ append_known_facts: [fact("v", "s", { confidence: 1.1 })] }, "usage", /\.confidence must be at most 1, not 1\.1/],
    [{ append_known_facts: [fact("v", "s", { confidence: "high" })] }, "usage", /\.confidence must be a number, not "high"/],
    [{ append_known_facts: [fact("v", "s", { supersedes: "yes" })] }, "usage", /\.supersedes must be a boolean/],
    [{ append_known_facts: [{ ...fact("v"), key: "k".repeat(LIMITS.nameChars) }] }, "value_refused", /\.key has 512 characters/],
    [{ append_known_facts: [fact("v".repeat(LIMITS.factBytes))] }, "value_refused", /^patch\.append_known_facts\[0\]\.value has 16386 bytes/],
    [{ append_known_facts: [fact(Number.NaN)] }, "value_refused", /NaN is not JSON/], [{ append_known_facts: [fact("a\0b")] }, "value_refused", /NUL/], [{ append_known_facts: [fact("\ud800")] }, "value_refused", /surrogate/],
    [{ replace_plan: "one" }, "usage", /^patch\.replace_plan must be an array/], [{ replace_plan: ["a", 2] }, "usage", /^patch\.replace_plan\[1\] must be a string, not 2/],
    [{ replace_plan: [long] }, "value_refused", /^patch\.replace_plan\[0\] has 4001 characters/], [{ replace_plan: Array(LIMITS.patchItems + 1).fill("a") }, "value_refused", /^patch\.replace_plan has 501 items/],
    [{ add_open_questions: [""] }, "usage", /^patch\.add_open_questions\[0\] must not be empty/], [{ resolve_questions: ["x"] }, "usage", /^patch\.resolve_questions\[0\] must be an object/],
    [{ add_artifacts: [{ artifact_id: "a", type: "t", summary: "s", bytes: -1 }] }, "usage", /\.bytes must be at least 0/], [{ add_artifacts: [{ artifact_id: "a", type: "t", summary: "s", bytes: 1.5 }] }, "usage", /\.bytes must be an integer/],
    [{ add_artifacts: [{ artifact_id: "a", type: "t", bytes: 1 }] }, "usage", /\.summary is missing/], [{ add_risk_flags: [null] }, "usage", /^patch\.add_risk_flags\[0\] must be a string, not null/],
    [{ begin_again: true }, "usage", /^patch\.begin_again is not known/],
    [{ replace_plan: Array(LIMITS.patchItems).fill("x".repeat(600)) }, "value_refused", /^patch has \d+ bytes/],
  ];
  for (const [patch, code, message] of rows) {
    assert.throws(() => checkPatch(patch), (error) => isPawlError(error, code as "usage") && message.test(error.message) && error.next.length > 0, JSON.stringify(patch)?.slice(0, 100));
  }
  const fold = new Fold().apply({ append_known_facts: [fact("95%")] });
  for (const [patch, path] of [[{ retract_facts: [{ key: "cpu" }] }, "retract_facts[0]"], [{ retract_facts: [{ key: "disk", value: "9%" }] }, "retract_facts[0]"], [{ resolve_questions: [{ question: "Why?" }] }, "resolve_questions[0]"]] as const) {
    assert.throws(() => fold.apply(patch), (error) => isPawlError(error, "usage") && error.details?.["path"] === `patch.${path}`);
  }
});

test("any sequence of patches keeps the record valid, and every revision is what it was", () => {
  fc.assert(
    fc.property(fc.array(patches, { maxLength: 25 }), (list) => {
      const fold = new Fold();
      for (const patch of list) {
        const before = JSON.stringify([fold.revision, fold.last, fold.all]);
        try {
          // With only the entries a patch touches it does the same as with all of them.
          const other = Object.assign(Object.create(Fold.prototype) as Fold, fold, { states: [] });
          fold.apply(patch);
          other.apply(patch, true);
          assert.deepEqual(other.all, fold.all);
        } catch (error) {
          if (!isPawlError(error)) throw error;
          assert.equal(JSON.stringify([fold.revision, fold.last, fold.all]), before);
        }
      }
      checkValid(fold);
      for (const [revision, state] of fold.states.entries()) assert.deepEqual(fold.state(revision), state);
      for (let from = 0; from <= fold.revision; from += 3) checkDiff(fold, from, fold.revision - from);
    }),
    { numRuns: Number(process.env["PAWL_TEST_RUNS"] ?? 150) },
  );
});

function checkValid(fold: Fold): void {
  const current = fold.all.filter((entry) => entry.current);
  const single = current.filter(({ part }) => part !== "fact").map(({ part, key }) => `${part} ${key}`);
  assert.equal(new Set(single).size, single.length, "a thing that there is once is there once");
  assert.deepEqual(fold.all.map(({ id }) => id), [...new Set(fold.all.map(({ id }) => id))].sort((a, b) => a - b));
  for (const entry of fold.all) assert.ok(entry.current === (entry.until === null) && (entry.until ?? Infinity) > entry.since && (entry.ended_as === null) === entry.current);
  for (const key of ["a", "b"]) {
    const values = new Set(current.filter((entry) => entry.part === "fact" && entry.key === key).map(({ value }) => JSON.stringify(value)));
    const asked = current.filter((entry) => entry.part === "question" && entry.key === `conflict:${key}`);
    assert.equal(asked.length, values.size > 1 ? 1 : 0, "two values are a question, one is none");
  }
}

function checkDiff(fold: Fold, from: number, to: number): void {
  const { added, ended } = diffOf(fold.all, from, to);
  const ids = (revision: number) => fold.all.filter((entry) => holdsAt(entry, revision)).map(({ id }) => id);
  const after = [...ids(from).filter((id) => !ended.some((entry) => entry.id === id)), ...added.map(({ id }) => id)].sort((a, b) => a - b);
  assert.deepEqual(after, ids(to));
}

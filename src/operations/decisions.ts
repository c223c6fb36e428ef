// What a person must settle.
import { operation, REASON, reasonOf, type Operation } from "./operation.ts";

const DECISION = { type: "text", summary: "id of the decision, such as d3", required: true, arg: true } as const;

export const decisionOperations: readonly Operation[] = [
  operation({ name: "decision_inbox", command: "inbox", summary: "List what waits for a person", effect: "read", output: "decision-list", params: {}, run: (state) => state.decisions.inbox() }),
  operation({
    name: "decision_approve", command: "approve", summary: "Say yes to a decision", effect: "write", output: "decision", params: { id: DECISION, reason: REASON },
    run: (state, input) => state.decisions.settle(input.id, { answer: "approve", ...reasonOf(input) }),
  }),
  operation({
    name: "decision_deny", command: "deny", summary: "Say no to a decision", effect: "write", output: "decision", params: { id: DECISION, reason: { ...REASON, required: true } },
    run: (state, input) => state.decisions.settle(input.id, { answer: "deny", ...reasonOf(input) }),
  }),
  operation({
    name: "decision_answer", command: "answer", summary: "Answer a decision", effect: "write", output: "decision",
    params: {
      id: DECISION, answer: { type: "text", summary: "the answer; for an unknown effect: done, again or fail; for a changed step: keep, again or fail", required: true, arg: true, words: true },
      value: { type: "json", summary: "with done: the output, as JSON", stdin: true }, reason: REASON,
    },
    run: (state, input) => state.decisions.settle(input.id, { answer: input.answer, ...(input.value === undefined ? {} : { value: input.value }), ...reasonOf(input) }),
  }),
];

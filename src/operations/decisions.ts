// What a person must settle.
import { PawlError } from "../base/errors.ts";
import { operation, REASON, reasonOf, TOKEN, type Operation } from "./operation.ts";

const DECISION = { type: "text", summary: "id of the decision, such as d3", required: true, arg: true } as const;

export const decisionOperations: readonly Operation[] = [
  operation({ name: "decision_inbox", command: "inbox", summary: "List what waits for a person", effect: "read", output: "decision-list", params: {}, run: (state) => state.decisions.inbox() }),
  operation({
    name: "decision_ask", command: "ask", summary: "Ask a person; with a token its task is set aside until the answer is there", effect: "write", output: "decision",
    params: {
      question: { type: "text", summary: "what a person should say, in one sentence", required: true, arg: true, words: true },
      task: { type: "ref", summary: "id or key of the task it is about" }, token: TOKEN, details: { type: "json", summary: "what the person must see, as JSON", stdin: true },
    },
    run: (state, input) => {
      if (input.token !== undefined && input.task === undefined) throw new PawlError("usage", "A token needs the task it is for.", { next: 'pawl ask "…" --task 3 --token TOKEN' });
      return state.decisions.ask({ question: input.question, ...(input.task === undefined ? {} : { task: input.task }), ...(input.details === undefined ? {} : { details: input.details }) }, input.token);
    },
  }),
  operation({
    name: "decision_approve", command: "approve", summary: "Say yes to a decision", effect: "write", settles: true, output: "decision",
    params: { id: DECISION, edit: { type: "json", summary: "for an action: the arguments it is approved with instead, as JSON", stdin: true }, reason: REASON },
    run: (state, input) => state.decisions.settle(input.id, { answer: "approve", ...(input.edit === undefined ? {} : { edit: input.edit }), ...reasonOf(input) }),
  }),
  operation({
    name: "decision_deny", command: "deny", summary: "Say no to a decision", effect: "write", settles: true, output: "decision", params: { id: DECISION, reason: { ...REASON, required: true } },
    run: (state, input) => state.decisions.settle(input.id, { answer: "deny", ...reasonOf(input) }),
  }),
  operation({
    name: "decision_answer", command: "answer", summary: "Answer a decision", effect: "write", settles: true, output: "decision",
    params: {
      id: DECISION, answer: { type: "text", summary: "the answer; for an unknown effect: done, again or fail; for a changed step: keep, again or fail", required: true, arg: true, words: true },
      value: { type: "json", summary: "with done: the output, as JSON", stdin: true }, reason: REASON,
    },
    run: (state, input) => state.decisions.settle(input.id, { answer: input.answer, ...(input.value === undefined ? {} : { value: input.value }), ...reasonOf(input) }),
  }),
];

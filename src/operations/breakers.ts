// Circuit breakers: looked at, set up, opened and reset.
import { parseBreaker } from "../core/breaker.ts";
import { operation, REASON, reasonOf, type Operation } from "./operation.ts";

const ID = { type: "text", summary: "the breaker: queue:NAME or batch:ID", required: true, arg: true } as const;

export const breakerOperations: readonly Operation[] = [
  operation({ name: "breaker_list", command: "breaker list", summary: "List circuit breakers", effect: "read", output: "breaker-list", params: {}, run: (state) => state.breakers.list() }),
  operation({ name: "breaker_show", command: "breaker show", summary: "Show a breaker: its limits, what it has counted, and what happened to it", effect: "read", output: "breaker", params: { id: ID }, run: (state, input) => state.breakers.get(input.id) }),
  operation({
    name: "breaker_set", command: "breaker set", summary: "Set up a breaker, or give it other limits", effect: "write", settles: true, output: "breaker",
    params: { id: ID, limits: { type: "text", summary: "such as failures=5,cooldown=1m,iterations=100,time=2h,tokens=1000000,cost=5", required: true, arg: true } },
    run: (state, input) => state.breakers.set(input.id, parseBreaker(input.limits)),
  }),
  operation({
    name: "breaker_open", command: "breaker open", summary: "Open a breaker: nothing of its queue or batch is started", effect: "write", output: "breaker",
    params: { id: ID, reason: REASON, for: { type: "duration", summary: "after this time one task is tried; without it, only a reset closes it", min: 1 } },
    run: (state, input) => state.breakers.open(input.id, { ...reasonOf(input), ...(input.for === undefined ? {} : { forMs: input.for }) }),
  }),
  operation({ name: "breaker_reset", command: "breaker reset", summary: "Close a breaker, and count anew", effect: "write", settles: true, output: "breaker", params: { id: ID, reason: REASON }, run: (state, input) => state.breakers.reset(input.id, reasonOf(input)) }),
  operation({ name: "breaker_rm", command: "breaker rm", summary: "Remove a breaker with its counts", effect: "destructive", output: "breaker-gone", params: { id: ID }, run: (state, input) => state.breakers.remove(input.id) }),
];

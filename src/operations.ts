// Everything a person or a program can do with a state, once: name, summary, what it takes, what it does to the state, and
// how it runs. Command line, MCP and HTTP are loops over this table; none of them decides anything.
import { batchOperations } from "./operations/batches.ts";
import { decisionOperations } from "./operations/decisions.ts";
import { lookOperations } from "./operations/looks.ts";
import type { Operation } from "./operations/operation.ts";
import { placeOperations } from "./operations/places.ts";
import { taskOperations } from "./operations/tasks.ts";

export type { Operation } from "./operations/operation.ts";

export const OPERATIONS: readonly Operation[] = [
  ...taskOperations,
  ...lookOperations,
  ...decisionOperations,
  ...batchOperations,
  ...placeOperations,
];

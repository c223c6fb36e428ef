// Everything a person or a program can do with a state, once: name, summary, what it takes, what it does to the state, and
// how it runs. Command line, MCP and HTTP are loops over this table; none of them decides anything.
import { agentOperations } from "./operations/agents.ts";
import { artifactOperations } from "./operations/artifacts.ts";
import { batchOperations } from "./operations/batches.ts";
import { breakerOperations } from "./operations/breakers.ts";
import { decisionOperations } from "./operations/decisions.ts";
import { eventOperations } from "./operations/events.ts";
import { lookOperations } from "./operations/looks.ts";
import { memoryOperations } from "./operations/memory.ts";
import type { Operation } from "./operations/operation.ts";
import { placeOperations } from "./operations/places.ts";
import { primeOperations } from "./operations/prime.ts";
import { scheduleOperations } from "./operations/schedules.ts";
import { taskOperations } from "./operations/tasks.ts";

export type { Call, Operation } from "./operations/operation.ts";

export const OPERATIONS: readonly Operation[] = [
  ...taskOperations,
  ...lookOperations,
  ...primeOperations,
  ...decisionOperations,
  ...eventOperations,
  ...agentOperations,
  ...batchOperations,
  ...breakerOperations,
  ...scheduleOperations,
  ...artifactOperations,
  ...memoryOperations,
  ...placeOperations,
];

/** The operation of that name, as doors call it. */
export const operationOfName = (name: string | undefined): Operation | undefined => OPERATIONS.find((operation) => operation.name === name);

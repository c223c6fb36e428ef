// The store contract as tests, for every store, also for one that others write. Runner-free: each case is an async
// function that throws when the store breaks its word. A case with `needs` runs only where that is there: "durable", a
// place that outlives its handles; "processes", that and an `env.spawn` whose children call `runConformanceRole`.
import { claimCases } from "./conformance-claim.ts";
import { commitCases } from "./conformance-commit.ts";
import { durableCases } from "./conformance-durable.ts";
import { idCases } from "./conformance-ids.ts";
import type { ConformanceCase } from "./conformance-model.ts";
import { moveCases } from "./conformance-move.ts";
import { raceCases } from "./conformance-race.ts";
import { readCases } from "./conformance-read.ts";
import { userCases } from "./conformance-user.ts";
import { valueCases } from "./conformance-values.ts";

export { conformanceModel, type ConformanceCase, type ConformanceChild, type ConformanceEnv, type ConformanceNeed } from "./conformance-model.ts";
export { runConformanceRole } from "./conformance-roles.ts";

export const conformanceCases: readonly ConformanceCase[] = [...commitCases, ...raceCases, ...idCases, ...valueCases, ...readCases, ...claimCases, ...durableCases, ...moveCases, ...userCases];

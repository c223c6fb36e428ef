// The store contract as tests, for every store, also for one that others write. Runner-free: each case is an async
// function that throws when the store breaks its word. A case with `needs` runs only where that is there: "durable", a
// place that outlives its handles; "processes", that and an `env.spawn` whose children call `runConformanceRole`.
import { claimCases } from "./claim.ts";
import { commitCases } from "./commit.ts";
import { durableCases } from "./durable.ts";
import { idCases } from "./ids.ts";
import type { ConformanceCase } from "./model.ts";
import { moveCases } from "./move.ts";
import { raceCases } from "./race.ts";
import { readCases } from "./read.ts";
import { userCases } from "./user.ts";
import { valueCases } from "./values.ts";

export { conformanceModel, type ConformanceCase, type ConformanceChild, type ConformanceEnv, type ConformanceNeed } from "./model.ts";
export { runConformanceRole } from "./roles.ts";

export const conformanceCases: readonly ConformanceCase[] = [...commitCases, ...raceCases, ...idCases, ...valueCases, ...readCases, ...claimCases, ...durableCases, ...moveCases, ...userCases];

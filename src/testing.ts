// For tests: of programs built on Pawl (a state in memory, a clock moved by hand, the same random numbers every time) and of
// stores written for it (the conformance suite that Pawl's own stores pass).

export { openMemory } from "./store/memory.ts";
export { MODEL } from "./state/opening.ts";
export { manualClock, systemClock, type Clock, type ManualClock } from "./base/clock.ts";
export { seededRandom, systemRandom, type Random } from "./base/id.ts";
export {
  conformanceCases, conformanceModel, runConformanceRole,
  type ConformanceCase, type ConformanceChild, type ConformanceEnv, type ConformanceNeed,
} from "./store/conformance/conformance.ts";
export type { Change, ClaimOrder, Conflict, Counters, Guard, Key, Kind, Model, OpenOptions, Piece, Put, Query, Rec, Result, Seal, Store } from "./store/store.ts";

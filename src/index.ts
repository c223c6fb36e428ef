// What users of the package import. Only re-exports: start at openState.

export { openState, placeAt, State, type Here, type Place, type Claim, type SettleOptions, type StateOptions, type WorkOptions } from "./state.ts";

export type { CopyReport } from "./core/copy.ts";
export type { Health } from "./core/doctor.ts";
export { FINDINGS, type Finding, type FindingCode } from "./base/finding.ts";

// Errors: one class, a closed list of codes.
export { ERROR_CODES, isPawlError, PawlError, type ErrorCode } from "./base/errors.ts";
export { LIMITS } from "./base/limits.ts";
export type { Json } from "./base/json.ts";

// The records, as they stand in the state.
export {
  STATUSES, TERMINAL,
  type Batch, type Decision, type DecisionKind, type DecisionStatus, type Effect, type Failure, type Item, type Output, type Status, type Step, type StepStatus, type Task,
  type Transition, type Wait, type WaitKind, type WorkerRecord,
} from "./core/records.ts";
export type { NewTask } from "./core/new-task.ts";
export type { TaskEdit, TaskFilter } from "./core/tasks.ts";
export type { BatchSummary } from "./core/batch.ts";
export type { BatchHandle, BatchItem, ImportReport, NewBatch } from "./core/batches.ts";
export { ANSWERS, type Settlement } from "./core/decision.ts";
export type { StatusReport } from "./core/status.ts";
export { explain, type Why } from "./core/why.ts";
export { parseTaskList, type ListEntry, type ListFormat } from "./core/task-list.ts";
export type { ImportedList, ImportOptions } from "./worker/import.ts";

// Work: what a task's function is handed, and what may be thrown in it.
export type { WorkerOptions, Worker } from "./worker/worker.ts";
export type { Execute, Verify } from "./worker/function.ts";
export type { Attempt, Executor, Verdict, Verifier } from "./worker/executor.ts";
export type { CheckAnswer, StepContext, StepFunction, StepOptions, StepScope, TaskContext } from "./worker/context.ts";
export { functionExecutor, functionVerifier } from "./worker/function.ts";
export { UsageLimitError } from "./worker/executor.ts";
export { commandExecutor, commandVerifier, type CommandOptions } from "./worker/command.ts";
export { presetExecutor, type PresetOptions } from "./worker/presets.ts";
export { personVerifier, type Ask } from "./worker/person.ts";
export { NotDone } from "./core/step.ts";

// By themselves: retry, and files that are written whole and by one at a time.
export { backoffMs, isPermanent, PermanentError, retry, type Backoff, type RetryOptions } from "./core/retry.ts";
export { withFileLock, writeFileAtomic, type FileLockOptions, type WriteOptions } from "./base/fs.ts";
export { formatDuration, parseDuration } from "./base/duration.ts";

// For those who write a door of their own: every operation, its input and what it does.
export { OPERATIONS, type Operation } from "./operations.ts";

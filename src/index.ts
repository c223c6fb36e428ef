// What users of the package import. Only re-exports: start at openState.

export { openState, placeAt, State, type Here, type Place, type Claim, type ClaimOptions, type HeldClaim, type Question, type SettleOptions, type StateOptions, type WorkOptions } from "./state.ts";

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
export type { EventStatus, PawlEvent } from "./core/event.ts";
export type { EventFilter } from "./core/events.ts";
export { ANSWERS, type Settlement } from "./core/decision.ts";
export type { NewSchedule, Schedule, ScheduledTask } from "./core/schedule.ts";
export type { StatusReport } from "./core/status.ts";
export { explain, type Why } from "./core/why.ts";
export { parseTaskList, type ListEntry, type ListFormat } from "./core/task-list.ts";
export type { ImportedList, ImportOptions } from "./worker/import.ts";

// Large values, and what is remembered.
export type { Artifact, ArtifactFields, ArtifactRange, Content } from "./core/artifact.ts";
export type { ArtifactPart, Collected } from "./core/artifacts.ts";
export type { Memory, MemoryStatus, NewMemory, Recalled, Relation } from "./core/memory.ts";
export type { FoundMemory, MemoryConflict, Stored } from "./core/memories.ts";
export { memoryTools } from "./agent/memory-tools.ts";

// Agents: a model in a loop with tools, a model as judge, and a durable model for a loop of one's own.
export { agent, type AgentEvent, type AgentOptions, type Observation } from "./agent/agent.ts";
export { durable, type DurableOptions } from "./agent/durable.ts";
export { judge, type JudgeOptions } from "./agent/judge.ts";
export type { LanguageModel } from "./agent/model.ts";
export { render, type ContextLimits, type Rendered } from "./agent/render.ts";
export type { AgentTool, ToolContext, Tools } from "./agent/tool.ts";
export { userStatePath } from "./state/user.ts";

// Work: what a task's function is handed, and what may be thrown in it.
export type { WorkerOptions, Worker } from "./worker/worker.ts";
export type { Execute, Verify } from "./worker/function.ts";
export type { Attempt, Executor, Verdict, Verifier } from "./worker/executor.ts";
export type { Arrival, CheckAnswer, ChildEnd, ChildHandle, ChildTask, EventWait, StepContext, StepFunction, StepOptions, StepScope, TaskContext, TransactionOptions } from "./worker/context.ts";
export { functionExecutor, functionVerifier } from "./worker/function.ts";
export { defineWorker, type QueueHandler, type WorkerModule } from "./worker/module.ts";
export { UsageLimitError } from "./worker/executor.ts";
export { commandExecutor, commandVerifier, type CommandOptions } from "./worker/command.ts";
export { presetExecutor, type PresetOptions } from "./worker/presets.ts";
export { personVerifier, type Ask } from "./worker/person.ts";
export type { Breaker, BreakerEvent, BreakerLimits, BreakerStatus, Usage } from "./core/breaker.ts";
export type { PostgresHandle, SqliteHandle, SqlHandle } from "./store/store.ts";
export { NotDone } from "./core/step.ts";

// Agents: what they know and may spend, and what a person approves.
export type { Agent, AgentDiff, AgentState, AgentView, ArtifactNote, Constraints, Entry, Fact } from "./core/agent.ts";
export type { AgentVerbs, Patched, PatchOptions } from "./core/agents.ts";
export { PATCH_SHAPE, type NewFact, type Patch, type PatchRecord } from "./core/patch.ts";
export { costOf, RESOURCES, type Amounts, type BudgetLimits, type Price, type Prices, type Resource, type Spend } from "./core/budget.ts";
export type { BudgetView } from "./core/budgets.ts";
export type { CarryOver, Message } from "./core/message.ts";
export { askForAction, needsApproval, outcomeOf, RISK_LEVELS, type Action, type ActionOutcome, type ActionPolicy, type ActionRule, type RiskLevel } from "./core/approval.ts";
export { hookOf, watchDecisions, type DecisionHook, type Watch } from "./worker/notify.ts";

// By themselves: retry, and files that are written whole and by one at a time.
export { backoffMs, isPermanent, PermanentError, retry, type Backoff, type RetryOptions } from "./core/retry.ts";
export { withFileLock, writeFileAtomic, type FileLockOptions, type WriteOptions } from "./base/fs.ts";
export { formatDuration, parseDuration } from "./base/duration.ts";

// For those who write a door of their own: every operation, its input and what it does.
export { OPERATIONS, type Operation } from "./operations.ts";

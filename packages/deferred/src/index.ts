/**
 * Everything in `@outlive/deferred`, one namespace a module. Each is also an entry of its own: `@outlive/deferred/Capabilities`.
 *
 * Written by `node scripts/boundaries.mjs --write`.
 *
 * @since 0.1.0
 */
export * as Capabilities from "./Capabilities.ts"
export * as DeadLetterFilter from "./DeadLetterFilter.ts"
export * as DeadLetters from "./DeadLetters.ts"
export * as DeferOptions from "./DeferOptions.ts"
export * as Explanation from "./Explanation.ts"
export * as Outcome from "./Outcome.ts"
export * as PayloadStore from "./PayloadStore.ts"
export * as PullQueue from "./PullQueue.ts"
export * as QueueConfig from "./QueueConfig.ts"
export * as QueueDefaults from "./QueueDefaults.ts"
export * as QueueLimits from "./QueueLimits.ts"
export * as QueueStatistics from "./QueueStatistics.ts"
export * as RetryPolicy from "./RetryPolicy.ts"
export * as Task from "./Task.ts"
export * as TaskAttempt from "./TaskAttempt.ts"
export * as TaskContext from "./TaskContext.ts"
export * as TaskEvent from "./TaskEvent.ts"
export * as TaskFailure from "./TaskFailure.ts"
export * as TaskGroup from "./TaskGroup.ts"
export * as TaskHandler from "./TaskHandler.ts"
export * as TaskId from "./TaskId.ts"
export * as TaskLease from "./TaskLease.ts"
export * as TaskQueue from "./TaskQueue.ts"
export * as TaskQueueMemory from "./TaskQueueMemory.ts"
export * as TaskRecord from "./TaskRecord.ts"
export * as TaskRef from "./TaskRef.ts"
export * as TaskThread from "./TaskThread.ts"
export * as TaskVersions from "./TaskVersions.ts"
export * as TokenBucket from "./TokenBucket.ts"
export * as Worker from "./Worker.ts"
export * as WorkerInfo from "./WorkerInfo.ts"

/**
 * A handle on one task record: what became of it, typed.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { Explanation } from "./Explanation.ts"
import type { Progress } from "./TaskContext.ts"
import { TaskId } from "./TaskId.ts"
import type { CancelOutcome, TaskQueueError } from "./TaskQueue.ts"
import type { Attempt, AttemptFailure, TaskRecord, TaskState } from "./TaskRecord.ts"

/**
 * A record of a task with success `A` and error `E`. It can be read any number of times, by any number of fibers, in the
 * process that deferred the task or in another one (`Task.ref`).
 *
 * @since 0.1.0
 */
export interface TaskRef<out A, out E, out R = never> {
  readonly id: TaskId
  /** The task's name. */
  readonly task: string
  /**
   * Waits for the end: the success value, or the task's own typed error when it is dead because of that error. Dead of
   * anything else (a defect, a permanent failure, too many crashes ...) it fails with `TaskDead`, cancelled with
   * `TaskCancelled`, not (or no longer) stored with `TaskNotFound`. Interrupting the waiting does nothing to the record.
   */
  readonly await: Effect.Effect<A, E | TaskDead | TaskCancelled | TaskNotFound | TaskQueueError | Schema.SchemaError, R>
  readonly state: Effect.Effect<TaskState, TaskNotFound | TaskQueueError>
  /** The stored record. */
  readonly record: Effect.Effect<TaskRecord, TaskNotFound | TaskQueueError>
  /** Why it is not running, or not any more. */
  readonly explain: Effect.Effect<Explanation, TaskNotFound | TaskQueueError>
  /**
   * How its attempts ended, the oldest first, the newest fifty at the least: those before a redrive too, and those that
   * were given back. What runs now is in `record`.
   */
  readonly attempts: Effect.Effect<ReadonlyArray<EndedAttempt>, TaskNotFound | TaskQueueError>
  /**
   * What the handler says of its progress: the last word now, then each new one that is noticed (not every one), until
   * the record has ended. A new attempt begins anew.
   */
  readonly progress: Stream.Stream<Progress, TaskNotFound | TaskQueueError>
  /**
   * A waiting record never runs (`Cancelled`); a running one is interrupted where it runs, finalizers first
   * (`Requested`: `await` tells when); an ended one stays as it is (`TooLate`).
   */
  readonly cancel: (options?: { readonly reason?: string | undefined }) => Effect.Effect<CancelOutcome, TaskQueueError>
}

/** An attempt in the ledger, with its failure if it had one. @since 0.1.0 */
export interface EndedAttempt extends Omit<Attempt, "failure"> {
  readonly failure: AttemptFailure | undefined
}

/**
 * The record is a dead letter for another reason than a typed error of its task.
 *
 * @since 0.1.0
 */
export class TaskDead extends Schema.TaggedError<TaskDead>()("TaskDead", {
  id: TaskId,
  task: Schema.String,
  reason: Schema.String,
  /** The last attempt's failure or defect, for people. */
  detail: Schema.String,
}) {
  override get message() {
    return `task ${this.task} ${this.id} is dead (${this.reason}): ${this.detail}`
  }
}

/** The record was cancelled. @since 0.1.0 */
export class TaskCancelled extends Schema.TaggedError<TaskCancelled>()("TaskCancelled", {
  id: TaskId,
  task: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `task ${this.task} ${this.id} was cancelled: ${this.reason}`
  }
}

/** The queue has no such record: it never had, or it was pruned, removed or purged. @since 0.1.0 */
export class TaskNotFound extends Schema.TaggedError<TaskNotFound>()("TaskNotFound", {
  id: TaskId,
  task: Schema.String,
}) {
  override get message() {
    return `the queue has no record ${this.id} of task ${this.task}`
  }
}

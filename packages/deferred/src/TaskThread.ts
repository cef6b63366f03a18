/**
 * A task that runs as a background thread: the handle that `Task.background` gives. It is between `run` and `defer`: it
 * outlives the request as a deferred task does, and is lost with its process as a call of the handler is.
 *
 * @since 0.1.0
 */
import type * as BackgroundThread from "@outlive/core/BackgroundThread"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { Progress } from "./TaskContext.ts"
import type { TaskId } from "./TaskId.ts"
import type { CancelOutcome } from "./TaskQueue.ts"
import type { TaskState } from "./TaskRecord.ts"
import type { TaskCancelled, TaskDead } from "./TaskRef.ts"

/**
 * How its thread is started, see `BackgroundThread.Options`. The name is by default the task's. There is no `restart`:
 * the task's own retry policy decides.
 *
 * @since 0.1.0
 */
export type Options = Omit<BackgroundThread.Options, "restart">

/**
 * A task under way in a thread. What it has in common with `TaskRef` means the same and has the same types, fewer errors
 * aside: there is no queue that could fail, and nothing that could be gone.
 *
 * @since 0.1.0
 */
export interface TaskThread<out A, out E> {
  /** The same in every attempt: `TaskContext.id`. */
  readonly id: TaskId
  /** The task's name. */
  readonly task: string
  /** The thread: `interrupt` stops it as `cancel` does, and waits. */
  readonly thread: BackgroundThread.BackgroundThread<A, E | TaskDead | TaskCancelled>
  /**
   * Waits for the end: the success value, or the task's own typed error when its retries are exhausted, `TaskDead` when
   * it is dead of anything else, `TaskCancelled` when it was cancelled, or interrupted by a shutdown. Repeatable;
   * interrupting the waiting does nothing to the task.
   */
  readonly await: Effect.Effect<A, E | TaskDead | TaskCancelled>
  /** `scheduled`: it waits for its next attempt. */
  readonly state: Effect.Effect<TaskState>
  /** What the handler says of its progress: the last word now, then new ones, until the end. A new attempt begins anew. */
  readonly progress: Stream.Stream<Progress>
  /**
   * Between two attempts it is over at once (`Cancelled`); a running attempt is interrupted, finalizers first
   * (`Requested`: `await` tells when); an ended task stays as it is (`TooLate`).
   */
  readonly cancel: (options?: { readonly reason?: string | undefined }) => Effect.Effect<CancelOutcome>
}

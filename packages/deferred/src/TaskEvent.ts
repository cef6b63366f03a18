/**
 * What happens to tasks in this process, as a stream of events (`TaskQueue.events`) and as metrics, from one place.
 *
 * The metrics follow OpenTelemetry's conventions for messaging where those have a name; their attributes are
 * `messaging.system` (`outlive`), `messaging.destination.name` (the queue) and `outlive.task.name`, and those said below.
 * Payloads are in neither events nor metrics.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as TaskMetrics from "./internal/taskMetrics.ts"
import type { TaskId } from "./TaskId.ts"
import type { Attempt, AttemptFailure, DeadReason, TaskRecord } from "./TaskRecord.ts"

/** @since 0.1.0 */
export type TaskEvent =
  /** `defer` had its answer; `id` is the record that has the name or the key, where the record itself was not stored. */
  | {
      readonly _tag: "Deferred"
      readonly id: TaskId
      readonly task: string
      readonly queue: string
      readonly outcome: "Inserted" | "Existing" | "Replaced" | "Duplicate" | "Tombstoned"
    }
  /** A handler begins; `waited` since the record was due. */
  | {
      readonly _tag: "Started"
      readonly id: TaskId
      readonly task: string
      readonly queue: string
      readonly worker: string
      readonly attempt: number
      readonly waited: Duration.Duration
    }
  /**
   * An attempt has ended, finalizers run; its settlement is on the way to the queue. `Abandoned`: the lease was lost, and
   * nothing is written.
   */
  | {
      readonly _tag: "Ended"
      readonly id: TaskId
      readonly task: string
      readonly queue: string
      readonly worker: string
      readonly attempt: number
      readonly outcome: Exclude<Attempt["outcome"], "Crash"> | "Abandoned"
      readonly took: Duration.Duration
      /** Of `Bury`. */
      readonly reason: DeadReason | undefined
      /** Of `Retry` and `Bury`. */
      readonly failure: AttemptFailure | undefined
    }

/**
 * Where events come from and go to.
 *
 * @since 0.1.0
 */
export interface TaskEvents {
  /** The events from the moment on that this effect returned. Who is behind by more than 1,024 loses the oldest. */
  readonly subscribe: Effect.Effect<Stream.Stream<TaskEvent>, never, Scope.Scope>
  /** For whoever defers ... */
  readonly deferred: (
    record: Pick<TaskRecord, "id" | "task" | "queue">,
    outcome: { readonly _tag: Extract<TaskEvent, { readonly _tag: "Deferred" }>["outcome"]; readonly id?: TaskId },
  ) => void
  /** ... and for whoever runs records. */
  readonly started: (record: TaskRecord, worker: string, now: number) => void
  /** Without a settlement it was abandoned. */
  readonly ended: (record: TaskRecord, worker: string, settlement: Settled | undefined, millis: number) => void
}

/** What is told of a settlement. @since 0.1.0 */
export interface Settled {
  readonly _tag: Exclude<Attempt["outcome"], "Crash">
  readonly reason?: DeadReason
  /** JSON text of `AttemptFailure`. */
  readonly failure?: string | undefined
}

/** Records given to the queue, by `outlive.outcome`. @since 0.1.0 */
export const sent: Metric.Counter<number> = TaskMetrics.sent()

/**
 * Seconds that attempts took, by `outlive.outcome`, and `error.type` of those that failed. Its count is that of the
 * attempts.
 *
 * @since 0.1.0
 */
export const processDuration: Metric.Histogram<number> = TaskMetrics.processDuration()

/** Seconds from the time at which records were due until their attempt began. @since 0.1.0 */
export const waitDuration: Metric.Histogram<number> = TaskMetrics.waitDuration()

/** Dead letters made, by `outlive.reason` and `error.type`. @since 0.1.0 */
export const deadLetters: Metric.Counter<number> = TaskMetrics.deadLetters()

/** Attempts under way in this process. @since 0.1.0 */
export const active: Metric.Gauge<number> = TaskMetrics.active()

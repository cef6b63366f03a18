/**
 * A lease on a task record, held by a program that leased it itself (`PullQueue`): to settle the record, give it back,
 * or hold it for longer.
 *
 * All times are by the caller's `Clock`. Nothing extends a lease but its holder: one that expires counts as a crash,
 * and above the task's `maxCrashes` the record is dead `Crashed`.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Task from "./Task.ts"
import type { TaskFailure } from "./TaskFailure.ts"
import { TaskId } from "./TaskId.ts"
import type { ClaimedRecord, TaskQueueError } from "./TaskQueue.ts"
import type { DeadReason } from "./TaskRecord.ts"

/**
 * A bound of Q9, or a name, is not kept: `field` is the option. Nothing was leased or changed.
 *
 * @since 0.1.0
 */
export class InvalidLease extends Schema.TaggedError<InvalidLease>()("InvalidLease", {
  queue: Schema.String,
  field: Schema.Literals(["queue", "tasks", "max", "duration"]),
  reason: Schema.String,
}) {
  override get message() {
    return `lease from queue ${JSON.stringify(this.queue)}: ${this.field} ${this.reason}`
  }
}

/**
 * The lease is over: it was given back or settled, or it expired and somebody else has the record (Q64). Nothing was
 * changed. Whatever was done with the record may be done again by another.
 *
 * @since 0.1.0
 */
export class LeaseExpired extends Schema.TaggedError<LeaseExpired>()("LeaseExpired", {
  id: TaskId,
  queue: Schema.String,
  task: Schema.String,
}) {
  override get message() {
    return (
      `the lease on task ${this.task} ${this.id} of queue ${this.queue} is over, and nothing was changed: it has ` +
      "ended, or it expired and the record is somebody else's; a longer duration, or an extension in time, prevents that"
    )
  }
}

/**
 * A leased record of one task, typed. It ends by exactly one of `succeed`, `fail` and `release`, or by the lease's end;
 * after that everything fails with `LeaseExpired`. While nobody else took the record, what comes after the lease's end
 * still counts: the work was done.
 *
 * Interrupting one of its effects leaves it done or not done.
 *
 * @since 0.1.0
 */
export interface LeasedTask<out Name extends string, out Payload, in Success, in Error, out SuccessR, out ErrorR> {
  readonly id: TaskId
  readonly queue: string
  /** The task's own name, also when the record has an alias of it. */
  readonly task: Name
  readonly payload: Payload
  /** When the lease ends unless it is extended. */
  readonly until: DateTime.Utc
  /** All that the queue knows of the record: attempt, headers, target, ... */
  readonly record: ClaimedRecord
  /**
   * Moves the end of the lease to so long from now, which may also be earlier: 0 to 7 days, and 0 is `release` (Q64).
   * Also while the queue is paused.
   */
  readonly extend: (duration: Duration.Input) => Effect.Effect<Extended, InvalidLease | LeaseExpired | TaskQueueError>
  /** Gives the record back, ready at once, the attempt not counted; cancelled when somebody asked for that. */
  readonly release: Effect.Effect<void, LeaseExpired | TaskQueueError>
  /**
   * The work is done (App Engine's `delete_tasks`, Q60): the record has succeeded with this value, which is kept as the
   * result for the task's `keep`. A value that the task's schema refuses fails with `SchemaError` and changes nothing.
   */
  readonly succeed: (
    value: Success,
  ) => Effect.Effect<void, LeaseExpired | Schema.SchemaError | TaskQueueError, SuccessR>
  /**
   * The work failed so: what becomes of the record is decided as for a handler (DESIGN 4.3), by the error's retry rule
   * and the retry policy, and logged as there. `Snooze`, `Throttled`, `PermanentTaskFailure` and
   * `SingularTaskFailure` mean what they mean in a handler.
   */
  readonly fail: (error: Error | TaskFailure) => Effect.Effect<Ending, LeaseExpired | TaskQueueError, ErrorR>
}

/** @since 0.1.0 */
export interface Extended {
  readonly until: DateTime.Utc
  /** Somebody wants the record cancelled: stop, and `release` it. */
  readonly cancelRequested: boolean
}

/** What a failure made of a record that nobody asked to cancel. @since 0.1.0 */
export type Ending =
  | { readonly _tag: "Retry"; readonly at: DateTime.Utc }
  | { readonly _tag: "Snooze"; readonly at: DateTime.Utc }
  | { readonly _tag: "Bury"; readonly reason: DeadReason }

/** A lease on a record of one of these tasks: `task` tells which. @since 0.1.0 */
export type TaskLease<Tasks extends Task.Any> = Tasks extends Task.Any
  ? LeasedTask<
      Tasks["taskName"],
      Tasks["payload"]["Type"],
      Tasks["success"]["Type"],
      Tasks["error"]["Type"],
      Tasks["success"]["EncodingServices"],
      Tasks["error"]["EncodingServices"]
    >
  : never

/**
 * What a handler can fail with to say what becomes of its record, beside the task's own errors.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

/**
 * Trying again is useless: the record becomes a dead letter `PermanentFailure` at once (D32, but never dropped). Logged
 * as an error, once.
 *
 * @since 0.1.0
 */
export class PermanentTaskFailure extends Schema.TaggedError<PermanentTaskFailure>()("PermanentTaskFailure", {
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

/**
 * An expected failure: tried again by the retry policy, logged at debug only (D31).
 *
 * @since 0.1.0
 */
export class SingularTaskFailure extends Schema.TaggedError<SingularTaskFailure>()("SingularTaskFailure", {
  message: Schema.String,
}) {}

/**
 * Not now: the record is scheduled again and the attempt is given back, so a record can be snoozed for ever without
 * coming nearer to the end of its retries (River's `JobSnooze`).
 *
 * @example
 * ```ts
 * import { Snooze } from "@outlive/deferred/TaskFailure"
 *
 * const busy = Snooze.for("30 seconds")
 * ```
 *
 * @since 0.1.0
 */
export class Snooze extends Schema.TaggedError<Snooze>()("Snooze", {
  /** For so long from now, by the worker's clock ... */
  delay: Schema.optionalKey(Schema.Duration),
  /** ... or until then. A time in the past means now. */
  until: Schema.optionalKey(Schema.DateTimeUtc),
}) {
  static for(delay: Duration.Input): Snooze {
    return new Snooze({ delay: Duration.fromInputUnsafe(delay) })
  }
  static until(until: DateTime.Utc): Snooze {
    return new Snooze({ until })
  }
}

/**
 * An attempt took longer than the task's `timeout` and was interrupted. A typed failure like any other: tried again by
 * the retry policy.
 *
 * @since 0.1.0
 */
export class TaskTimeout extends Schema.TaggedError<TaskTimeout>()("TaskTimeout", {
  /** Milliseconds. */
  timeout: Schema.Finite,
}) {
  override get message() {
    return `the attempt was stopped after ${this.timeout} ms`
  }
}

/** All that a handler can fail with beside its task's errors. @since 0.1.0 */
export type TaskFailure = PermanentTaskFailure | SingularTaskFailure | Snooze

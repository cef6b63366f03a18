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
 * Not now, and nothing else of its key either: as `Snooze`, and the record's key, or its queue, starts nothing before then. For
 * whoever is told to slow down: one answer `429` holds back all that would get the same, over all workers.
 *
 * The pause begins when the queue has the outcome. What was started before runs; records of the same that this worker has
 * claimed ahead go back. A pause that is there already is never made shorter; `QueueConfig.pauseUntil` ends one.
 *
 * In the background (`Task.background`) and where somebody else's queue is served (Cloud Tasks) there is nothing to pause: it
 * is as `Snooze`.
 *
 * @example
 * ```ts
 * import * as Task from "@outlive/deferred/Task"
 * import { Throttled } from "@outlive/deferred/TaskFailure"
 * import { Schema } from "effect"
 *
 * class TooManyCalls extends Schema.TaggedError<TooManyCalls>()("TooManyCalls", { retryAfter: Schema.Finite }) {}
 *
 * const Sync = Task.make("Sync", {
 *   payload: { tenant: Schema.String },
 *   error: TooManyCalls,
 *   key: ({ tenant }) => tenant,
 *   retry: { TooManyCalls: ({ retryAfter }) => Throttled.for(`${retryAfter} seconds`) },
 * })
 * ```
 *
 * @since 0.1.0
 */
export class Throttled extends Schema.TaggedError<Throttled>()("Throttled", {
  /** For so long from now, by the worker's clock ... */
  delay: Schema.optionalKey(Schema.Duration),
  /** ... or until then. A time in the past means now. */
  until: Schema.optionalKey(Schema.DateTimeUtc),
  /** What is paused. Default: the record's key, or if it has none its queue. */
  of: Schema.optionalKey(Schema.Literals(["key", "queue"])),
}) {
  static for(delay: Duration.Input, options?: { readonly of?: "key" | "queue" | undefined }): Throttled {
    return new Throttled({ delay: Duration.fromInputUnsafe(delay), ...named(options?.of) })
  }
  static until(until: DateTime.Utc, options?: { readonly of?: "key" | "queue" | undefined }): Throttled {
    return new Throttled({ until, ...named(options?.of) })
  }
}

const named = (of: "key" | "queue" | undefined) => (of === undefined ? {} : { of })

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
export type TaskFailure = PermanentTaskFailure | SingularTaskFailure | Snooze | Throttled

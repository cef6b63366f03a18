/**
 * Which dead letters are meant: by queue, task, reason, error tag and time.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import type * as Task from "./Task.ts"
import type { DeadReason } from "./TaskRecord.ts"

/**
 * A point in time: a `DateTime`, or a time ago (`"2 days"` is the moment two days before the call, by the caller's
 * `Clock`). A bare number is neither: nobody who reads it can tell an age from a date.
 *
 * @since 0.1.0
 */
export type Moment = DateTime.DateTime | Exclude<Duration.Input, number | bigint>

/**
 * Dead letters to which everything that is said applies; what is left out does not matter.
 *
 * @since 0.1.0
 */
export interface DeadLetterFilter {
  readonly queue?: string | undefined
  /** A definition, then with its aliases; or one name, just as the records have it. */
  readonly task?: string | Task.Any | undefined
  readonly reason?: DeadReason | undefined
  /** The error tag of the last failure, `MailRejected` say (`AttemptFailure.tag`). */
  readonly tag?: string | undefined
  /** Dead since then or later: `endedAfter: "1 hour"` died in the last hour. */
  readonly endedAfter?: Moment | undefined
  /** Dead since before then: `endedBefore: "30 days"` has been dead for more than 30 days. */
  readonly endedBefore?: Moment | undefined
}

/**
 * Something that dead letters were asked for by is out of its bounds: `field` is its name. Nothing was changed.
 *
 * @since 0.1.0
 */
export class InvalidDeadLetterFilter extends Schema.TaggedError<InvalidDeadLetterFilter>()("InvalidDeadLetterFilter", {
  field: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `dead letters: ${this.field} ${this.reason}`
  }
}

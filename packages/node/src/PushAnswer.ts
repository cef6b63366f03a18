/**
 * The answer to a delivery: the outcome of its attempt as an HTTP status, which any sender understands (D30-D41), and as a
 * JSON body, with which a `PushDispatcher` settles the record as if its own worker had run it.
 *
 * @since 0.1.0
 */
import * as Outcome from "@outlive/deferred/Outcome"
import type { DeadReason } from "@outlive/deferred/TaskRecord"
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** Says that the body is an answer of this form, and which. @since 0.1.0 */
export const outcomeHeader = "x-outlive-outcome"

/**
 * - `Succeeded`, `Dead`: the record has ended
 * - `Retry`: it failed, to be tried again by the sender's policy
 * - `Snoozed`: not now, the attempt does not count; with `pause`, nothing else of its key or queue either (`Throttled`)
 * - `Released`: the receiver stopped before the attempt ended, which does not count
 * - `Refused`: the receiver had no room, or was stopping: the attempt never began
 *
 * @since 0.1.0
 */
export const Answer = Schema.Struct({
  outcome: Schema.Literals(["Succeeded", "Retry", "Snoozed", "Dead", "Released", "Refused"]),
  /** The encoded exit of the handler: JSON text, as a queue keeps it. */
  result: Schema.optionalKey(Schema.String),
  /** Why it is dead. */
  reason: Schema.optionalKey(
    Schema.Literals([
      "PermanentFailure",
      "RetriesExhausted",
      "Undecodable",
      "UnknownTask",
      "Expired",
      "Crashed",
      "PayloadMissing",
    ] satisfies ReadonlyArray<DeadReason>),
  ),
  /** Of `Snoozed`: what starts nothing before then either. */
  pause: Schema.optionalKey(Schema.Literals(["key", "queue"])),
  /** How it failed, for people and for rules by error tag. */
  failure: Schema.optionalKey(
    Schema.Struct({
      kind: Schema.Literals(["failure", "defect", "timeout"]),
      tag: Schema.String,
      message: Schema.String,
    }),
  ),
  /** The handler's last word on its progress: JSON text. */
  progress: Schema.optionalKey(Schema.String),
})

/** @since 0.1.0 */
export type Answer = typeof Answer.Type

const read = Schema.decodeUnknownOption(Schema.fromJsonString(Answer))

/** An answer, if the text is one. @since 0.1.0 */
export const parse = (text: string): Answer | undefined => Option.getOrUndefined(read(text))

/** A status, and in how many milliseconds to come again. @since 0.1.0 */
export interface Status {
  readonly status: number
  readonly retryAfter: number | undefined
}

/**
 * The table of DESIGN 4.8, over the outcome that `Outcome.fromExit` gives a worker, too:
 *
 * | outcome | status |
 * | --- | --- |
 * | succeeded | 200 (D30) |
 * | `SingularTaskFailure`, or a tag mapped to `"quiet"` | 408 (D31) |
 * | failed otherwise, by an error, a defect or its timeout | 500 (D34), with `Retry-After` when the error says when |
 * | snoozed, throttled | 429 with `Retry-After` |
 * | a dead letter | 200 (D32, D33; and kept) |
 * | stopped by shutdown | 503 with `Retry-After` |
 * | cancelled, or abandoned because the sender hung up | 503 that nobody reads |
 *
 * @since 0.1.0
 */
export const statusOf = (outcome: Outcome.Outcome, now: number): Status => {
  switch (outcome._tag) {
    case "Succeeded":
    case "Dead":
      return { status: 200, retryAfter: undefined }
    case "Retry":
      return { status: outcome.quiet ? 408 : 500, retryAfter: outcome.atLeast }
    case "Snoozed":
      return { status: 429, retryAfter: Outcome.snoozedUntil(outcome.snooze, now) - now }
    case "Released":
    case "Cancelled":
    case "Abandoned":
      return { status: 503, retryAfter: 1_000 }
  }
}

/** The value of `Retry-After`: whole seconds, at least one, so that nobody comes again too early. @since 0.1.0 */
export const retryAfterHeader = (millis: number): string =>
  `${Math.min(9_999_999_999, Math.max(1, Math.ceil(millis / 1_000)))}`

/**
 * What a `Retry-After` asks for in milliseconds from now: seconds or an HTTP date (RFC 9110). `undefined` when it is
 * neither.
 *
 * @since 0.1.0
 */
export const parseRetryAfter = (value: string | undefined, now: number): number | undefined => {
  if (value === undefined) return undefined
  if (/^[0-9]{1,10}$/.test(value)) return Number(value) * 1_000
  if (!/^[A-Z][a-z]{2},? /.test(value)) return undefined
  return Option.match(DateTime.make(value), {
    onNone: () => undefined,
    onSome: (at) => Math.max(0, at.epochMilliseconds - now),
  })
}

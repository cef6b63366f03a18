/**
 * What becomes of a record when an attempt has ended: one total function from the handler's exit, the same for every
 * way of running a handler (DESIGN 4.3, rows D30-D34).
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import type * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type { RetryPolicy } from "./RetryPolicy.ts"
import { PermanentTaskFailure, SingularTaskFailure, Snooze, TaskTimeout, Throttled } from "./TaskFailure.ts"
import type { AttemptFailure, DeadReason } from "./TaskRecord.ts"

/**
 * Why somebody other than the handler ended the attempt.
 *
 * @since 0.1.0
 */
export type Stop = "shutdown" | "cancel" | "leaseLost"

/**
 * What one error tag of a task means, when it is not just tried again by the task's policy:
 *
 * - `"never"`: a dead letter at once
 * - `"quiet"`: tried again by the task's policy, logged at debug only
 * - a policy: tried again by this one
 * - a function of the error: snoozed, or throttled
 *
 * @since 0.1.0
 */
export type RetryRule<E> = "never" | "quiet" | RetryPolicy | ((error: E) => Snooze | Throttled)

/** Rules by error tag. @since 0.1.0 */
export type RetryRules = Readonly<Record<string, RetryRule<never> | undefined>>

/**
 * - `Succeeded`: keep the value
 * - `Retry`: try again by `policy` (`undefined`: the record's own, else the task's); when that gives up, a dead letter
 *   `RetriesExhausted`
 * - `Snoozed`: schedule for then, give the attempt back; and pause its key or queue until then (`pauseOf`)
 * - `Dead`: a dead letter at once
 * - `Released`: ready at once, the attempt given back
 * - `Cancelled`: cancelled
 * - `Abandoned`: write nothing, another worker owns the record
 *
 * @since 0.1.0
 */
export type Outcome =
  | { readonly _tag: "Succeeded"; readonly value: unknown }
  | {
      readonly _tag: "Retry"
      readonly quiet: boolean
      readonly policy: RetryPolicy | undefined
      readonly error: unknown
      readonly kind: Exclude<AttemptFailure["kind"], "crash">
      /** Milliseconds: the error asks for so long a pause at the least (`retryAfter`). */
      readonly atLeast: number | undefined
    }
  | { readonly _tag: "Snoozed"; readonly snooze: Snooze | Throttled }
  | { readonly _tag: "Dead"; readonly reason: DeadReason; readonly error: unknown }
  | { readonly _tag: "Released" }
  | { readonly _tag: "Cancelled" }
  | { readonly _tag: "Abandoned" }

/**
 * The payload did not decode. The worker fails an attempt with it before the handler is called.
 *
 * @since 0.1.0
 */
export class Undecodable extends Schema.TaggedError<Undecodable>()("Undecodable", { message: Schema.String }) {}

/**
 * The payload was stored apart and is not there. The worker fails an attempt with it before the handler is called.
 *
 * @since 0.1.0
 */
export class PayloadMissing extends Schema.TaggedError<PayloadMissing>()("PayloadMissing", { ref: Schema.String }) {
  override get message() {
    return `the payload store has no ${this.ref}`
  }
}

/**
 * A delivered record names a task that the receiver does not know. Who receives it fails the attempt with it.
 *
 * @since 0.1.0
 */
export class UnknownTask extends Schema.TaggedError<UnknownTask>()("UnknownTask", { task: Schema.String }) {
  override get message() {
    return `nobody here handles the task ${JSON.stringify(this.task)}`
  }
}

/**
 * Somebody else ran the record and found it dead: who only passed it on fails the attempt with it. It has the tag and the
 * message of the error over there.
 *
 * @since 0.1.0
 */
export class DeadElsewhere extends Error {
  readonly _tag: string
  readonly reason: DeadReason
  constructor(options: { readonly reason: DeadReason; readonly tag: string; readonly message: string }) {
    super(options.message)
    this._tag = options.tag
    this.reason = options.reason
  }
}

/**
 * An error that has this property, with milliseconds in it, asks for a pause: its record is tried again by its policy, and
 * not before then. For errors that stand for somebody's `Retry-After`.
 *
 * @example
 * ```ts
 * import * as Outcome from "@outlive/deferred/Outcome"
 * import { Schema } from "effect"
 *
 * class TooManyCalls extends Schema.TaggedError<TooManyCalls>()("TooManyCalls", { seconds: Schema.Int }) {
 *   get [Outcome.retryAfter]() {
 *     return this.seconds * 1_000
 *   }
 * }
 * ```
 *
 * @since 0.1.0
 */
export const retryAfter: unique symbol = Symbol.for("outlive/deferred/Outcome/retryAfter")

/**
 * The outcome of an exit. Of several reasons in one cause, the one that says most decides:
 *
 * 1. A lost lease: nothing may be written, whatever the handler did.
 * 2. Success counts even if somebody wanted to stop it: the work is done.
 * 3. An interruption asked for by shutdown or cancel, also when finalizers then failed: not the handler's fault.
 * 4. A permanent failure, then a defect, then a typed failure.
 * 5. An interruption nobody asked for: the handler interrupted itself, which is a defect.
 *
 * @since 0.1.0
 */
export const fromExit = (
  exit: Exit.Exit<unknown, unknown>,
  options: { readonly stop: Stop | undefined; readonly rules: RetryRules },
): Outcome => {
  if (options.stop === "leaseLost") return { _tag: "Abandoned" }
  if (exit._tag === "Success") return { _tag: "Succeeded", value: exit.value }
  const cause = exit.cause
  if (options.stop !== undefined && Cause.hasInterrupts(cause)) {
    return options.stop === "shutdown" ? { _tag: "Released" } : { _tag: "Cancelled" }
  }
  const failures = cause.reasons.filter(Cause.isFailReason)
  for (const { error } of failures) {
    if (error instanceof PermanentTaskFailure) return { _tag: "Dead", reason: "PermanentFailure", error }
    if (error instanceof Undecodable) return { _tag: "Dead", reason: "Undecodable", error }
    if (error instanceof UnknownTask) return { _tag: "Dead", reason: "UnknownTask", error }
    if (error instanceof DeadElsewhere) return { _tag: "Dead", reason: error.reason, error }
    if (error instanceof PayloadMissing) return { _tag: "Dead", reason: "PayloadMissing", error }
  }
  const defect = cause.reasons.find(Cause.isDieReason)
  if (defect !== undefined) return retry("defect", defect.defect)
  const failure = failures[0]
  if (failure === undefined) return retry("defect", new Error("the handler was interrupted, and not by its worker"))
  return fromError(failure.error, options.rules)
}

const fromError = (error: unknown, rules: RetryRules): Outcome => {
  if (error instanceof Snooze || error instanceof Throttled) return { _tag: "Snoozed", snooze: error }
  if (error instanceof SingularTaskFailure) return { ...retry("failure", error), quiet: true }
  if (error instanceof TaskTimeout) return retry("timeout", error)
  const rule = Object.hasOwn(rules, tagOf(error)) ? rules[tagOf(error)] : rules._
  if (rule === undefined) return retry("failure", error)
  if (rule === "never") return { _tag: "Dead", reason: "PermanentFailure", error }
  if (rule === "quiet") return { ...retry("failure", error), quiet: true }
  if (typeof rule !== "function") return { ...retry("failure", error), policy: rule }
  try {
    return { _tag: "Snoozed", snooze: rule(error as never) }
  } catch (defect) {
    // The application's rule threw: its failure must not take the worker with it.
    return retry("defect", defect)
  }
}

const retry = (kind: "failure" | "defect" | "timeout", error: unknown): Extract<Outcome, { _tag: "Retry" }> => ({
  _tag: "Retry",
  quiet: false,
  policy: undefined,
  error,
  kind,
  atLeast: atLeastOf(error),
})

const thirtyDays = 2_592_000_000

const atLeastOf = (error: unknown): number | undefined => {
  if (typeof error !== "object" || error === null || !(retryAfter in error)) return undefined
  try {
    const millis = error[retryAfter]
    // One that asks for no time at all, or for longer than anything may be delayed (Q10), is as good as none: a record
    // must not be lost in the distance.
    return typeof millis === "number" && millis > 0 && millis <= thirtyDays ? millis : undefined
  } catch {
    // A getter of the application that throws: the failure itself is what counts.
    return undefined
  }
}

/**
 * When a snooze ends, in epoch milliseconds. An endless one ends with JavaScript's calendar, so that it can be stored.
 *
 * @since 0.1.0
 */
export const snoozedUntil = (snooze: Snooze | Throttled, now: number): number => {
  if (snooze.until !== undefined) return Math.max(now, snooze.until.epochMilliseconds)
  return Math.min(8.64e15, now + (snooze.delay === undefined ? 0 : Duration.toMillis(snooze.delay)))
}

/**
 * What a snooze pauses besides its own record; `undefined`: nothing. A record without a key pauses its queue.
 *
 * @since 0.1.0
 */
export const pauseOf = (snooze: Snooze | Throttled): "key" | "queue" | undefined =>
  snooze instanceof Throttled ? (snooze.of ?? "key") : undefined

/**
 * The tag of an error as queues, logs and rules know it: its `_tag`, else its `name`, else its type.
 *
 * @since 0.1.0
 */
export const tagOf = (error: unknown): string => {
  if (typeof error !== "object" || error === null) return typeof error
  if ("_tag" in error && typeof error._tag === "string") return error._tag
  return "name" in error && typeof error.name === "string" ? error.name : "object"
}

/**
 * The message of an error, for people.
 *
 * @since 0.1.0
 */
export const messageOf = (error: unknown): string => {
  if (typeof error === "object" && error !== null && "message" in error && typeof error.message === "string") {
    return error.message
  }
  return String(error)
}

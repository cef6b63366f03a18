/**
 * What can be said about one deferral, with App Engine's meaning and limits, and what can be wrong with it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import type { RetryPolicyData } from "./RetryPolicy.ts"
import type { DeferLatest } from "./TaskLatest.ts"

/**
 * The options of `defer`. Every duration is checked when the task is deferred; what is wrong fails there with
 * `InvalidTaskOptions`.
 *
 * @since 0.1.0
 */
export type DeferOptions = When &
  Exclusive & {
    /** `[a-zA-Z0-9_-]{1,500}` (Q2), unique within the queue while the record lives and for `tombstone` after. */
    readonly name?: string | undefined
    /**
     * When the name is taken: `"fail"` (default) fails with `TaskAlreadyExists` or `TombstonedTask`; `"ignore"` gives the
     * record that has it; `"replace"` gives a waiting one the new content, and else takes the name over.
     */
    readonly onDuplicate?: "fail" | "ignore" | "replace" | undefined
    /** How long the name stays taken after the record ended: 0 to 30 days, default 9 days (Q14). */
    readonly tombstone?: Duration.Input | undefined
    /** Default: the task's queue. `[a-zA-Z0-9._-]{1,100}` */
    readonly queue?: string | undefined
    /** Higher first; any finite number, default the task's. */
    readonly priority?: number | undefined
    /** Carried to the handler; text values, at most 65,536 characters in all. Names that start with `outlive-`, `x-appengine-` or `x-cloudtasks-` are reserved. */
    readonly headers?: Readonly<Record<string, string>> | undefined
    /**
     * Whom the work is for, in 1 to 255 characters: what limits by key and turns go by (`docs/keys.md`). `false`: nobody's.
     * Default: what the task's `key` gives.
     */
    readonly key?: string | false | undefined
    /** Only workers that carry this target run it. */
    readonly target?: string | undefined
    /** Replaces the task's policy whole (Q88). */
    readonly retry?: RetryPolicyData | undefined
    /** Replaces the task's timeout. */
    readonly timeout?: Duration.Input | undefined
    /** Not started within this time: a dead letter `Expired`. */
    readonly expires?: Duration.Input | undefined
    /**
     * Fails with `NotInTransaction` where the record would not be stored in a transaction of the application (Q45). Without
     * it, a deferral joins one if there is one.
     */
    readonly requireTransaction?: boolean | undefined
  }

/**
 * A key that at most one record of a task holds, whichever queues they are in.
 *
 * @since 0.1.0
 */
export interface UniqueKey {
  /** 1 to 1,000 characters. */
  readonly key: string
  /** See `UniqueStates`. */
  readonly while?: UniqueStates | undefined
}

/**
 * The states in which a record holds its key. A record that comes into another state has given it up, also when it is
 * tried again; a dead letter that is redriven takes it again if it is free.
 *
 * - `["scheduled", "ready"]`: until it starts, so that what comes while it runs is run after it
 * - `["scheduled", "ready", "running"]`: until its end (default)
 * - with `"succeeded"`, `"cancelled"`, `"dead"`: as long as the ended record is kept, too
 *
 * `scheduled` and `ready` go together: a queue does not write down which of the two a record is.
 *
 * @since 0.1.0
 */
export type UniqueStates = readonly [
  "scheduled",
  "ready",
  ...ReadonlyArray<"running" | "succeeded" | "cancelled" | "dead">,
]

/** What a deferral does where another record has its unique key: one of the two at the most. */
type Exclusive =
  | {
      /**
       * Another unique key than the task's, or none, and then no `latest` either. While a record of the task holds it, `defer`
       * gives that record (its outcome is `Existing`) and stores nothing.
       */
      readonly unique?: UniqueKey | false | undefined
      readonly latest?: false | undefined
    }
  | {
      /**
       * Takes the place of what waits with the key (its outcome is `Replaced`), instead of the task's `unique` or otherwise
       * than its `latest`; `false`: not this one.
       */
      readonly latest?: DeferLatest | false | undefined
      readonly unique?: undefined
    }

/** App Engine's countdown or eta, not both (Q28), and neither with a debounce. Neither, or a time in the past: now. */
type When =
  | { readonly delay?: Duration.Input | undefined; readonly eta?: undefined }
  | { readonly eta?: DateTime.DateTime | undefined; readonly delay?: undefined }

/** Which errors the given options add to those of every deferral. @since 0.1.0 */
export type OptionErrors<Name, OnDuplicate, RequireTransaction> =
  | NameErrors<Name, OnDuplicate>
  | ([RequireTransaction] extends [false | undefined] ? never : NotInTransaction)

/** Which errors of a name the given options leave possible. @since 0.1.0 */
export type NameErrors<Name, OnDuplicate> = [Name] extends [undefined]
  ? never
  : [OnDuplicate] extends ["ignore" | "replace"]
    ? never
    : TaskAlreadyExists | TombstonedTask

/**
 * An option is out of its bounds: `field` is its name. Nothing was stored.
 *
 * @since 0.1.0
 */
export class InvalidTaskOptions extends Schema.TaggedError<InvalidTaskOptions>()("InvalidTaskOptions", {
  task: Schema.String,
  field: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `task ${this.task}: option ${this.field} ${this.reason}`
  }
}

/**
 * A deferral that asked for a transaction was made outside of one, or on a queue that cannot join one. Nothing was stored.
 *
 * @since 0.1.0
 */
export class NotInTransaction extends Schema.TaggedError<NotInTransaction>()("NotInTransaction", {
  task: Schema.String,
  /** The driver's name. */
  driver: Schema.String,
}) {
  override get message() {
    return `task ${this.task} is to be deferred in a transaction, and there is none that the ${this.driver} queue could join here`
  }
}

/**
 * The name belongs to a record of this queue that has not ended (Q47).
 *
 * @since 0.1.0
 */
export class TaskAlreadyExists extends Schema.TaggedError<TaskAlreadyExists>()("TaskAlreadyExists", {
  queue: Schema.String,
  name: Schema.String,
  /** The record that has it. */
  id: Schema.String,
}) {
  override get message() {
    return `queue ${this.queue} has a task named ${this.name} already: ${this.id}`
  }
}

/**
 * The name belonged to a record that has ended; it is free again at `until` (Q48).
 *
 * @since 0.1.0
 */
export class TombstonedTask extends Schema.TaggedError<TombstonedTask>()("TombstonedTask", {
  queue: Schema.String,
  name: Schema.String,
  /** Epoch milliseconds. */
  until: Schema.Finite,
}) {
  override get message() {
    return `the name ${this.name} was used in queue ${this.queue}; it is free again in the millisecond ${this.until}`
  }
}

/**
 * The encoded payload is larger than what can be stored: in a record (`DeferLimits.payloadLimit`) where there is no
 * `PayloadStore`, else in that. Nothing was stored.
 *
 * @since 0.1.0
 */
export class PayloadTooLarge extends Schema.TaggedError<PayloadTooLarge>()("PayloadTooLarge", {
  task: Schema.String,
  /** Bytes of the encoded payload in UTF-8. */
  size: Schema.Finite,
  /** Bytes. */
  limit: Schema.Finite,
}) {
  override get message() {
    return `task ${this.task}: the encoded payload has ${this.size} bytes, more than the limit of ${this.limit}`
  }
}

/**
 * Bounds on what may be deferred, for the whole program: provide another value where the default does not fit.
 *
 * @since 0.1.0
 */
export const DeferLimits = Context.Reference<{
  /** How far ahead `delay` and `eta` may reach. Default 30 days (Q10). */
  readonly maxDelay: Duration.Duration
  /** Bytes of an encoded payload above which it is stored apart, in the `PayloadStore`. Default 102,400 (Q3). */
  readonly payloadLimit: number
}>("outlive/deferred/DeferLimits", {
  defaultValue: () => ({ maxDelay: Duration.days(30), payloadLimit: 102_400 }),
})

/** App Engine's rule for task names (Q2). @since 0.1.0 */
export const namePattern = /^[a-zA-Z0-9_-]{1,500}$/

/** The rule for queue names: App Engine's (Q1), and dots and underscores. @since 0.1.0 */
export const queuePattern = /^[a-zA-Z0-9._-]{1,100}$/

/**
 * What a handler knows about the attempt it runs: given as its second argument and as a service.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Undecodable } from "./Outcome.ts"
import type { TaskId } from "./TaskId.ts"
import type { TaskQueueError } from "./TaskQueue.ts"
import type { AttemptFailure } from "./TaskRecord.ts"

/**
 * How far an attempt has come.
 *
 * @since 0.1.0
 */
export interface Progress {
  /** In units of the handler's choice. */
  readonly done: number
  /** How many there are, when that is known. */
  readonly total?: number | undefined
  /** For people. */
  readonly message?: string | undefined
}

/**
 * What attempts of a record have written down, as JSON values by key: see `TaskNotes`.
 *
 * @since 0.1.0
 */
export interface Notes {
  /**
   * `undefined`: there is none. Fails with `Undecodable` when what is kept cannot be read by the queue's `PayloadCodec`, and
   * with `TaskQueueError` when the queue has to be asked (after a transaction, or a write that failed) and does not answer.
   */
  readonly get: (key: string) => Effect.Effect<unknown, Undecodable | TaskQueueError>
  /** Kept with the record when it returns. An attempt that has lost its lease is interrupted instead. */
  readonly set: (key: string, value: unknown) => Effect.Effect<void, TaskQueueError>
  /** Characters of all others as JSON, as they are kept. */
  readonly sizeBeside: (key: string) => Effect.Effect<number>
  /**
   * Runs an effect in a transaction of the application's database, in which its note is kept, too, unless it has none. An
   * attempt that has lost its lease is interrupted instead, and the transaction rolled back.
   */
  readonly once: <A, E, R>(
    key: string,
    effect: Effect.Effect<{ readonly value: A; readonly note?: { readonly json: unknown } }, E, R>,
  ) => Effect.Effect<A, E | NotTransactional | TaskQueueError, R>
}

/**
 * A step that is to happen exactly once (`TaskNotes.once`) has no transaction in which it could, and nothing of it ran.
 *
 * - `NoTransactions`: the queue is in no database of the application, or there is no queue (`Task.run`, a background thread, a
 *   push endpoint)
 * - `OwnTransaction`: it is in a transaction that the handler began itself, of whose end the queue is not told: begin the step
 *   outside of it, and the transaction within the step, if it is needed at all
 *
 * @since 0.1.0
 */
export class NotTransactional extends Schema.TaggedError<NotTransactional>()("NotTransactional", {
  note: Schema.String,
  /** The driver's name; `none` without a queue. */
  driver: Schema.String,
  reason: Schema.Literals(["NoTransactions", "OwnTransaction"]),
}) {
  override get message() {
    const why =
      this.reason === "OwnTransaction"
        ? "is in a transaction that the handler began itself: begin the step outside of it"
        : this.driver === "none"
          ? "has no queue to be written down in"
          : `has no transaction to happen in: the ${this.driver} queue is in no database of the application`
    return `the ${this.note} is to be done exactly once, and ${why}`
  }
}

/**
 * How those have ended that a record waits for (`TaskFanOut`), so far.
 *
 * @since 0.1.0
 */
export interface FanOutSummary {
  readonly total: number
  readonly succeeded: number
  /** Those that were removed or purged before their end too. */
  readonly cancelled: number
  readonly dead: number
}

/**
 * The attempt at hand.
 *
 * @since 0.1.0
 */
export class TaskContext extends Context.Service<
  TaskContext,
  {
    /** The record's id: the same in every attempt, so it serves as an idempotency key. */
    readonly id: TaskId
    /** The task's name. */
    readonly task: string
    readonly queue: string
    /** The record's name, when it was deferred with one. */
    readonly name: Option.Option<string>
    /** Counted from 1. Attempts that were interrupted or snoozed do not count. */
    readonly attempt: number
    /** How often a worker died with this record. */
    readonly crashes: number
    readonly eta: DateTime.Utc
    readonly enqueuedAt: DateTime.Utc
    readonly firstAttemptAt: DateTime.Utc
    readonly headers: Readonly<Record<string, string>>
    /** When the task's timeout stops this attempt. */
    readonly deadline: Option.Option<DateTime.Utc>
    /** How the attempt before failed. */
    readonly previousFailure: Option.Option<AttemptFailure>
    /** How those ended that this record waited for (`TaskFanOut`); none at a push endpoint. */
    readonly members: Option.Option<FanOutSummary>
    /**
     * Makes the lease last at least so long from now, for a handler that will block the event loop longer than its
     * worker's heartbeats can stand. Heartbeats extend leases anyway. `false`: the lease is lost, the attempt is about
     * to be interrupted. A queue that does not answer for as long as a lease is a `TaskQueueError`.
     */
    readonly extend: (duration: Duration.Input) => Effect.Effect<boolean, TaskQueueError>
    /**
     * Says how far the attempt has come, for `ref.progress`. It never waits for the queue: the worker writes the last
     * word of all its attempts down together, four times a second at the most, and with the attempt's outcome.
     */
    readonly progress: (progress: Progress) => Effect.Effect<void>
    /** What attempts of this record leave to the next: for `TaskNotes`, which makes steps and checkpoints of it. */
    readonly notes: Notes
  }
>()("outlive/deferred/TaskContext") {}

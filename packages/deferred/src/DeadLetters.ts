/**
 * Dead letters: to find what will not run again by itself, to see why, and to redrive, remove or prune it. App Engine
 * deleted a task that had used up its retries with a line in a log (Q113); here it stays until somebody decides.
 *
 * All of it works on the `TaskQueue` of the program, whatever its driver, and by the caller's `Clock`.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { DeadLetterFilter, InvalidDeadLetterFilter } from "./DeadLetterFilter.ts"
import { failureOf, sentenceOf } from "./internal/deadLetter.ts"
import { bulk, redriveSome, removeSome, type Selection } from "./internal/deadLetterBulk.ts"
import { batch, filtersOf, finite, invalid, pageOf, pinned } from "./internal/deadLetters.ts"
import type { PayloadMissing, Undecodable } from "./Outcome.ts"
import type * as Task from "./Task.ts"
import type { TaskId } from "./TaskId.ts"
import { TaskQueue, type TaskQueueError } from "./TaskQueue.ts"
import type { AttemptFailure, DeadReason, TaskRecord } from "./TaskRecord.ts"

/**
 * A dead letter as data.
 *
 * @since 0.1.0
 */
export interface DeadLetter {
  readonly id: TaskId
  readonly queue: string
  /** The name that the record has: the task's, or one of its aliases. */
  readonly task: string
  readonly reason: DeadReason
  /** When it died, by the clock of who buried it. */
  readonly endedAt: DateTime.Utc
  /** How the last attempt that failed did so; none when no attempt did (it expired, say). */
  readonly failure: Option.Option<AttemptFailure>
  /** Which record is dead since when and why, in one sentence for people. */
  readonly sentence: string
  /** All that its queue knows of it. */
  readonly record: TaskRecord
}

/**
 * A dead letter of a known task, with its payload brought up to the newest version; or why there is none to be had.
 *
 * @since 0.1.0
 */
export interface DeadLetterOf<out Payload> extends DeadLetter {
  readonly payload: Result.Result<Payload, Undecodable | PayloadMissing>
}

/** @since 0.1.0 */
export interface FindOptions extends DeadLetterFilter {
  /** Where the page before ended. It means something only together with the same filter. */
  readonly cursor?: string | undefined
  /** How many at the most: 1 to 1,000, default 100. */
  readonly limit?: number | undefined
}

/** @since 0.1.0 */
export interface Page<out Letter> {
  readonly letters: ReadonlyArray<Letter>
  /** `undefined`: this was the last page. */
  readonly cursor: string | undefined
}

/**
 * One page of dead letters, in the order in which they were deferred: not that of their deaths, and not the newest
 * first, which queues cannot give cheaply. For the newest, narrow `endedAfter`. Of a task with aliases its own name
 * comes first, then each alias.
 *
 * Fails with `InvalidDeadLetterFilter` when `limit`, `cursor` or a time is out of its bounds, and with
 * `TaskQueueError`.
 *
 * @example
 * ```ts
 * import * as DeadLetters from "@outlive/deferred/DeadLetters"
 * import { Console, Effect } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const page = yield* DeadLetters.find({ queue: "mail", tag: "MailBusy", endedAfter: "1 hour" })
 *   for (const letter of page.letters) yield* Console.log(letter.sentence)
 *   yield* DeadLetters.redrive({ queue: "mail", tag: "MailBusy", endedAfter: "1 hour" })
 * })
 * ```
 *
 * @since 0.1.0
 */
export const find = (
  options: FindOptions = {},
): Effect.Effect<Page<DeadLetter>, InvalidDeadLetterFilter | TaskQueueError, TaskQueue> =>
  Effect.map(records(options), ({ cursor, records }) => ({ letters: records.map(letterOf), cursor }))

/**
 * All dead letters that match, page by page as they are read, in the order of `find`. What dies or is redriven while
 * the stream runs may or may not be in it; nothing is in it twice.
 *
 * @since 0.1.0
 */
export const stream = (
  filter: DeadLetterFilter = {},
): Stream.Stream<DeadLetter, InvalidDeadLetterFilter | TaskQueueError, TaskQueue> => paged(find, filter)

/**
 * As `find`, of one task and its aliases, with typed payloads. A payload that does not decode, or is gone, is told in
 * its own letter and stops none of the others.
 *
 * @example
 * ```ts
 * import * as DeadLetters from "@outlive/deferred/DeadLetters"
 * import * as Task from "@outlive/deferred/Task"
 * import { Effect, Result, Schema } from "effect"
 *
 * const Welcome = Task.make("Welcome", { payload: { userId: Schema.String } })
 *
 * // Who never got their mail?
 * const userIds = Effect.map(DeadLetters.of(Welcome, { reason: "RetriesExhausted" }), ({ letters }) =>
 *   letters.flatMap(({ payload }) => (Result.isSuccess(payload) ? [payload.success.userId] : [])),
 * )
 * ```
 *
 * @since 0.1.0
 */
export const of = <
  Name extends string,
  Payload extends Schema.Top,
  Success extends Schema.Top,
  Error extends Schema.Top,
>(
  task: Task.Task<Name, Payload, Success, Error>,
  options: Omit<FindOptions, "task"> = {},
): Effect.Effect<
  Page<DeadLetterOf<Payload["Type"]>>,
  InvalidDeadLetterFilter | TaskQueueError,
  TaskQueue | Payload["DecodingServices"]
> =>
  Effect.gen(function* () {
    const page = yield* records({ ...options, task })
    const letters = yield* Effect.forEach(page.records, (record) =>
      task.loadPayload(record).pipe(
        Effect.map((payload) => Result.succeed(payload)),
        Effect.catchTag(["Undecodable", "PayloadMissing"], (error) => Effect.succeed(Result.fail(error))),
        Effect.map((payload): DeadLetterOf<Payload["Type"]> => ({ ...letterOf(record), payload })),
      ),
    )
    return { letters, cursor: page.cursor }
  })

/** As `stream`, of one task and its aliases, with typed payloads as `of` gives them. @since 0.1.0 */
export const streamOf = <
  Name extends string,
  Payload extends Schema.Top,
  Success extends Schema.Top,
  Error extends Schema.Top,
>(
  task: Task.Task<Name, Payload, Success, Error>,
  filter: Omit<DeadLetterFilter, "task"> = {},
): Stream.Stream<
  DeadLetterOf<Payload["Type"]>,
  InvalidDeadLetterFilter | TaskQueueError,
  TaskQueue | Payload["DecodingServices"]
> => paged((options) => of(task, options), filter)

/**
 * How many dead letters have this queue, task, reason and error tag. It is a filter, too: `redrive(count)` redrives
 * them. (As a filter, a count without a tag also means those that have one.)
 *
 * @since 0.1.0
 */
export interface Count {
  readonly queue: string
  readonly task: string
  readonly reason: DeadReason
  /** `undefined`: no attempt failed. */
  readonly tag: string | undefined
  readonly count: number
}

/**
 * Counts by queue, task, reason and error tag, the largest first: where to begin.
 *
 * @since 0.1.0
 */
export const counts = Effect.fnUntraced(function* (
  filter: DeadLetterFilter = {},
): Effect.fn.Return<ReadonlyArray<Count>, InvalidDeadLetterFilter | TaskQueueError, TaskQueue> {
  const queue = yield* TaskQueue
  const now = yield* Clock.currentTimeMillis
  const found = yield* Effect.forEach(yield* filtersOf(filter, now), (one) => queue.counts({ ...one, now }))
  return found
    .flat()
    .map(
      ({ count, queue, reason, tag, task }): Count => ({
        queue,
        task,
        reason: reason ?? "PermanentFailure",
        tag,
        count,
      }),
    )
    .sort((left, right) => right.count - left.count || (keyOf(left) < keyOf(right) ? -1 : 1))
})

/** What `redrive` did. @since 0.1.0 */
export interface Redriven {
  /** How many are ready again. */
  readonly redriven: number
  /** Waiting, running, succeeded or cancelled: left as they are. */
  readonly notDead: ReadonlyArray<TaskId>
  readonly notFound: ReadonlyArray<TaskId>
}

/** What `remove` did. @since 0.1.0 */
export interface Removed {
  /** How many are gone. */
  readonly removed: number
  /** Waiting, running, succeeded or cancelled: left as they are. */
  readonly notDead: ReadonlyArray<TaskId>
  readonly notFound: ReadonlyArray<TaskId>
}

/** @since 0.1.0 */
export interface BulkOptions {
  /** How many at the most, the first deferred first: to try a few before all. At least 1; default: no limit. */
  readonly limit?: number | undefined
}

/**
 * Makes dead letters ready again: attempts, crashes and expiry start anew, the ledger and the last failure stay.
 *
 * - by id, one or many: what is not dead and what is not there is told apart, and is no error
 * - by filter, in batches of 500: what was dead when it began, each record once. What dies again meanwhile stays dead,
 *   so a cause that nobody has mended costs each record one more round of attempts, and no circle.
 * - `"all"`. A filter that says nothing is refused with `InvalidDeadLetterFilter`: it is more often a variable that was
 *   not set than a wish.
 *
 * When the queue fails with `TaskQueueError`, or the caller is interrupted, the batches before stay redriven; to ask
 * again is safe. What "was dead when it began" is told by the clocks of those who buried the records.
 *
 * @since 0.1.0
 */
export function redrive(ids: TaskId | Iterable<TaskId>): Effect.Effect<Redriven, TaskQueueError, TaskQueue>
export function redrive(
  filter: DeadLetterFilter | "all",
  options?: BulkOptions,
): Effect.Effect<Redriven, InvalidDeadLetterFilter | TaskQueueError, TaskQueue>
export function redrive(selection: Selection, options?: BulkOptions) {
  return Effect.map(
    bulk(selection, options, redriveSome),
    ({ done, notDead, notFound }): Redriven => ({ redriven: done, notDead, notFound }),
  )
}

/**
 * Deletes dead letters, with their ledgers: nothing of them is left. Ids, filters, batches, failure and interruption
 * are as with `redrive`. A name stays taken until the end of its tombstone.
 *
 * Not promised: whether a record is dead is looked up first, and then it is deleted. One that somebody redrives just in
 * between is deleted while it waits.
 *
 * @since 0.1.0
 */
export function remove(ids: TaskId | Iterable<TaskId>): Effect.Effect<Removed, TaskQueueError, TaskQueue>
export function remove(
  filter: DeadLetterFilter | "all",
  options?: BulkOptions,
): Effect.Effect<Removed, InvalidDeadLetterFilter | TaskQueueError, TaskQueue>
export function remove(selection: Selection, options?: BulkOptions) {
  return Effect.map(
    bulk(selection, options, removeSome),
    ({ done, notDead, notFound }): Removed => ({ removed: done, notDead, notFound }),
  )
}

/**
 * Deletes what has been dead for longer than this, and says how many dead letters that were. A worker does it regularly
 * with its option `keepDead`. Unlike `remove` it cannot take one that somebody has just redriven. On the way it deletes
 * everything else that need not be kept any longer, which is not counted.
 *
 * Fails with `InvalidDeadLetterFilter` when `olderThan` is negative or not finite.
 *
 * @since 0.1.0
 */
export const prune = Effect.fnUntraced(function* (options: {
  readonly olderThan: Duration.Input
}): Effect.fn.Return<number, InvalidDeadLetterFilter | TaskQueueError, TaskQueue> {
  const age = yield* finite("olderThan", options.olderThan)
  if (age < 0) return yield* invalid("olderThan", `must not be negative, and is ${age} ms`)
  const queue = yield* TaskQueue
  const now = yield* Clock.currentTimeMillis
  const exhaust = Effect.fnUntraced(function* (deadBefore: number) {
    let pruned = 0
    while (true) {
      const some = yield* queue.prune({ now, deadBefore, limit: batch })
      if (some === 0) return pruned
      pruned += some
    }
  })
  // What is past its keep goes first and alone, so that what goes then are dead letters.
  yield* exhaust(Number.NEGATIVE_INFINITY)
  return yield* exhaust(Math.ceil(now - age))
})

const records = Effect.fnUntraced(function* ({ cursor, limit = 100, ...filter }: FindOptions) {
  if (!(Number.isInteger(limit) && limit >= 1 && limit <= 1000)) {
    return yield* invalid("limit", `must be a whole number from 1 to 1,000, and is ${limit}`)
  }
  const queue = yield* TaskQueue
  const now = yield* Clock.currentTimeMillis
  return yield* pageOf(queue, { filters: yield* filtersOf(filter, now), cursor, limit, now })
})

/** What is dead has a reason and an end. */
const letterOf = (record: TaskRecord): DeadLetter => ({
  id: record.id,
  queue: record.queue,
  task: record.task,
  reason: record.reason!,
  endedAt: DateTime.makeUnsafe(record.endedAt!),
  failure: failureOf(record),
  sentence: sentenceOf(record),
  record,
})

const paged = <Letter, E, R>(
  page: (options: FindOptions) => Effect.Effect<Page<Letter>, E, R>,
  filter: DeadLetterFilter,
): Stream.Stream<Letter, E | InvalidDeadLetterFilter, R> =>
  Stream.unwrap(
    Effect.map(pinned(filter), (filter) =>
      Stream.paginate<string | undefined, Letter, E, R>(undefined, (cursor) =>
        Effect.map(
          page({ ...filter, cursor }),
          ({ cursor, letters }) => [letters, cursor === undefined ? Option.none() : Option.some(cursor)] as const,
        ),
      ),
    ),
  )

const keyOf = ({ queue, reason, tag, task }: Count): string => JSON.stringify([queue, task, reason, tag])

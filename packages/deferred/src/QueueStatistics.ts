/**
 * How queues stand (App Engine's `QueueStatistics`, Q66): for people, for health checks, for whoever scales workers.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { KeyOverride } from "./KeyLimits.ts"
import { TaskQueue, type TaskQueueError } from "./TaskQueue.ts"

/**
 * A queue at a glance.
 *
 * @since 0.1.0
 */
export interface Statistics {
  readonly queue: string
  /** Records that wait: scheduled and ready (App Engine's `tasks`, less those in flight). */
  readonly waiting: number
  /** Those of them that are due. */
  readonly ready: number
  /** The earliest eta of what waits; none: nothing does. Long past, it says how far behind the queue is. */
  readonly oldestEta: Option.Option<DateTime.Utc>
  /** Records that are running or leased, also those whose lease has expired and that nobody has taken back yet. */
  readonly inFlight: number
  /** Attempts that ended in the last 60 seconds, whole seconds taken together; what was released does not count. */
  readonly executedLastMinute: number
  /** How many attempts may start in a second, as the queue is configured; none: as many as can. */
  readonly enforcedRate: Option.Option<number>
  /** Nothing starts, whatever the rate. */
  readonly paused: boolean
  /** Nor does anything before then (`QueueConfig.pauseUntil`, `Throttled`); none: it is not paused so now. */
  readonly pausedUntil: Option.Option<DateTime.Utc>
}

/**
 * A key of a queue at a glance.
 *
 * @since 0.1.0
 */
export interface OfKey extends Pick<Statistics, "queue" | "waiting" | "ready" | "inFlight" | "pausedUntil"> {
  readonly key: string
  /** What was said for this key alone; what is not said is as `limits.byKey` of the queue has it. */
  readonly override: KeyOverride
}

/**
 * The statistics of a queue, by the caller's `Clock`. A queue comes into being by being used: one that nobody has used
 * has nothing and no limits, and is no error. Fails with `TaskQueueError` only.
 *
 * Numbers and limits are read one after the other: a queue that is configured just then may be told of half before and
 * half after.
 *
 * @example
 * ```ts
 * import * as QueueStatistics from "@outlive/deferred/QueueStatistics"
 * import { Console, DateTime, Effect, Option } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const { inFlight, oldestEta, waiting } = yield* QueueStatistics.statistics("mail")
 *   const since = Option.getOrElse(Option.map(oldestEta, DateTime.formatIso), () => "never")
 *   yield* Console.log(`${waiting} mails wait, the oldest since ${since}; ${inFlight} are on their way`)
 * })
 * ```
 *
 * @since 0.1.0
 */
export const statistics = Effect.fnUntraced(function* (
  queue: string,
): Effect.fn.Return<Statistics, TaskQueueError, TaskQueue> {
  const driver = yield* TaskQueue
  const now = yield* Clock.currentTimeMillis
  const found = yield* driver.statistics({ queue, now })
  const { paused, rate } = yield* driver.limits({ queue })
  return {
    queue,
    waiting: found.waiting,
    ready: found.ready,
    oldestEta: timeOf(found.oldestEta),
    inFlight: found.inFlight,
    executedLastMinute: found.executedLastMinute,
    enforcedRate: Option.fromUndefinedOr(rate),
    paused,
    pausedUntil: timeOf(found.pausedUntil),
  }
})

/**
 * The statistics of a key of a queue, by the caller's `Clock`. A key that no record has has nothing, and is no error. Fails
 * with `TaskQueueError` only.
 *
 * @since 0.1.0
 */
export const statisticsOfKey = Effect.fnUntraced(function* (
  queue: string,
  key: string,
): Effect.fn.Return<OfKey, TaskQueueError, TaskQueue> {
  const driver = yield* TaskQueue
  const found = yield* driver.keyStatistics({ queue, key, now: yield* Clock.currentTimeMillis })
  const { inFlight, override, pausedUntil, ready, waiting } = found
  return { queue, key, waiting, ready, inFlight, pausedUntil: timeOf(pausedUntil), override }
})

const timeOf = (millis: number | undefined): Option.Option<DateTime.Utc> =>
  Option.map(Option.fromUndefinedOr(millis), (at) => DateTime.makeUnsafe(at))

/** The statistics of each of these queues, in their order; of none, none (Q66). @since 0.1.0 */
export const statisticsAll = (
  queues: Iterable<string>,
): Effect.Effect<ReadonlyArray<Statistics>, TaskQueueError, TaskQueue> =>
  Effect.forEach(queues, (queue) => statistics(queue))

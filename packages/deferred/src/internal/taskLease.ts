/**
 * The handle on a leased record, over a queue and a task's codec.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Schema from "effect/Schema"
import { PayloadTooLarge } from "../DeferOptions.ts"
import type * as Task from "../Task.ts"
import { type Ending, InvalidLease, type LeasedTask, LeaseExpired } from "../TaskLease.ts"
import { type ClaimedRecord, type Settlement, type TaskQueue, TaskQueueError } from "../TaskQueue.ts"
import { successOf } from "./handOver.ts"
import { toMillis } from "./millis.ts"
import { storeResult } from "./storedText.ts"
import { type Settling, settlementOf } from "./worker/attempt.ts"

/** A handle whose types are those of its task, which are not known here. */
export interface AnyLease extends LeasedTask<string, unknown, unknown, unknown, unknown, unknown> {
  /** It has been settled, or was found to be lost. */
  readonly isOver: () => boolean
  /** To give it back, with others in one call. */
  readonly releasing: Settlement
  /** It was given back so. */
  readonly released: (now: number) => void
}

const sevenDays = 604_800_000

/** The milliseconds of a lease, whole (Q9). */
export const checkedDuration = (queue: string, input: Duration.Input): Effect.Effect<number, InvalidLease> => {
  const millis = toMillis(input)
  return millis >= 0 && millis <= sevenDays
    ? Effect.succeed(Math.ceil(millis))
    : Effect.fail(
        new InvalidLease({ queue, field: "duration", reason: `must be 0 to 7 days (Q9), and is ${String(input)}` }),
      )
}

export const makeLease = (
  queue: TaskQueue["Service"],
  task: Task.Any,
  record: ClaimedRecord,
  payload: unknown,
): AnyLease => {
  const { codec, keep } = task.settings
  const held = { id: record.id, token: record.token }
  const about = { id: record.id, queue: record.queue, task: task.taskName }
  const releasing: Settlement = { ...held, _tag: "Release" }
  const storedExit = (exit: Exit.Exit<unknown, unknown>) =>
    Effect.flatMap(codec.encodeExit(exit), (text) => storeResult(queue.codec, text, record))
  let over = false

  const end = (settlement: Settlement | undefined, now: number) => {
    if (!over) tellEnded(queue, record, settlement, now)
    over = true
  }
  const lost = (now: number) => {
    end(undefined, now)
    return Effect.fail(new LeaseExpired(about))
  }

  const settle = Effect.fnUntraced(function* (settlement: Settlement) {
    const now = yield* Clock.currentTimeMillis
    const [outcome] = yield* queue.settle({ settlements: [settlement], now })
    if (outcome === "LeaseLost") return yield* lost(now)
    end(settlement, now)
  })
  const release = settle(releasing)

  return {
    ...about,
    payload,
    record,
    until: DateTime.makeUnsafe(record.leaseUntil),
    release,
    releasing,
    released: (now) => end(releasing, now),
    isOver: () => over,
    extend: Effect.fnUntraced(function* (duration) {
      const millis = yield* checkedDuration(record.queue, duration)
      const now = yield* Clock.currentTimeMillis
      const until = DateTime.makeUnsafe(now + millis)
      if (millis === 0) {
        yield* release
        return { until, cancelRequested: false }
      }
      const [outcome] = yield* queue.extend({ leases: [held], until: now + millis, now })
      if (outcome === "LeaseLost") return yield* lost(now)
      return { until, cancelRequested: outcome === "CancelRequested" }
    }),
    succeed: Effect.fnUntraced(function* (value) {
      const success = successOf(record, keep, () => storedExit(Exit.succeed(value)), queue)
      const ends = yield* Effect.catchIf(
        success,
        (error) => error instanceof PayloadTooLarge,
        ({ message }) =>
          Effect.fail(new TaskQueueError({ operation: "settle", message, isRetryable: false, reason: "TooLarge" })),
      )
      yield* settle({ ...held, _tag: "Succeed", ...ends })
    }),
    fail: Effect.fnUntraced(function* (error) {
      const settlement = yield* settlementOfFailure(queue, task, record, error)
      yield* settle(settlement)
      return endingOf(settlement)
    }),
  }
}

/** What a failure means for a record: the same as if a handler had failed so. */
export const settlementOfFailure = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  task: Task.Any,
  record: ClaimedRecord,
  error: unknown,
) {
  const { codec } = task.settings
  const services = yield* Effect.context<unknown>()
  const settling: Settling = {
    record,
    stop: undefined,
    known: {
      task,
      handler: {
        encodeExit: (exit, of, stored) =>
          Effect.flatMap(
            Effect.provideContext(codec.encodeExit(exit), services) as Effect.Effect<string, Schema.SchemaError>,
            (text) => storeResult(stored, text, of),
          ),
      },
      codec: queue.codec,
    },
  }
  const settlement = yield* Effect.annotateLogs(settlementOf(settling, Exit.fail(error)), {
    task: record.task,
    taskId: record.id,
    attempt: record.attempt,
  })
  if (settlement === undefined) return yield* Effect.die(new Error("a failure that nobody stopped has no settlement"))
  return settlement
})

/** Both at the end: a lease that its holder forgets must not count as active for ever. */
export const tellEnded = (
  queue: TaskQueue["Service"],
  record: ClaimedRecord,
  settlement: Settlement | undefined,
  now: number,
): void => {
  queue.events.started(record, record.worker, record.startedAt)
  queue.events.ended(record, record.worker, settlement, Math.max(0, now - record.startedAt))
}

const endingOf = (settlement: Settlement): Ending => {
  switch (settlement._tag) {
    case "Retry":
    case "Snooze":
      return { _tag: settlement._tag, at: DateTime.makeUnsafe(settlement.eta) }
    case "Bury":
      return { _tag: "Bury", reason: settlement.reason }
    default:
      throw new Error(`a failure is not settled by ${settlement._tag}`)
  }
}

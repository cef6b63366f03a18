/**
 * A driver call that must happen: tried again until the driver answers, said once when it begins to fail and once when
 * it works again. A call that is not answered at all (a connection that was cut without a word) counts as failed, and
 * may have been done all the same: what comes late is fenced.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { TaskQueueError } from "../../TaskQueue.ts"
import { type Alarm, makeAlarm } from "./alarm.ts"

const backOff = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("10 seconds")]).pipe(
  Schedule.jittered,
)

export interface Answers {
  readonly untilAnswered: (
    what: string,
    options: { readonly withinMillis: number },
  ) => <A>(call: Effect.Effect<A, TaskQueueError>) => Effect.Effect<A>
  /** Since when calls have been failing, if some are. */
  readonly failingSince: () => number | undefined
}

export const makeAnswers = Effect.fnUntraced(function* (): Effect.fn.Return<Answers, never, Scope.Scope> {
  /** When each of the calls that are failing began to. */
  const failing = new Set<{ readonly since: number }>()
  const within = yield* makeWithin

  const untilAnswered: Answers["untilAnswered"] = (what, { withinMillis }) => {
    const late = () =>
      new TaskQueueError({ operation: what, message: `no answer within ${withinMillis} ms`, isRetryable: true })
    return (call) => {
      const answered = within(call, withinMillis, late)
      return Effect.catch(answered, (error) =>
        Effect.flatMap(Clock.currentTimeMillis, (since) => {
          const failed = { since }
          failing.add(failed)
          let failures = 0
          // The first is known, so that the pause comes before the second.
          return Effect.suspend(() => (failures++ === 0 ? Effect.fail(error) : answered)).pipe(
            Effect.retry(backOff),
            // The schedule has no end, so a typed failure cannot come out.
            Effect.orDie,
            Effect.tap(() => Effect.logInfo(`the task queue could ${what} again after ${failures - 1} failures`)),
            Effect.ensuring(Effect.sync(() => failing.delete(failed))),
            (again) =>
              Effect.andThen(
                Effect.logWarning(`the task queue failed to ${what}, trying again: ${error.message}`),
                again,
              ),
          )
        }),
      )
    }
  }
  return {
    untilAnswered,
    failingSince: () => {
      let first: number | undefined
      for (const { since } of failing) first = Math.min(first ?? since, since)
      return first
    },
  }
})

/** As `Effect.timeoutOrElse`, with one timer for all calls: nearly all are answered long before. */
const makeWithin = Effect.gen(function* () {
  interface Pending {
    readonly until: number
    readonly fiber: Fiber.Fiber<unknown, unknown>
    isLate: boolean
  }
  const pending = new Set<Pending>()
  const stopLate: Effect.Effect<void> = Effect.flatMap(Clock.currentTimeMillis, (now) => {
    let next = Number.POSITIVE_INFINITY
    for (const call of pending) {
      if (call.until > now) next = Math.min(next, call.until)
      else if (!call.isLate) {
        call.isLate = true
        call.fiber.interruptUnsafe()
      }
    }
    return next < Number.POSITIVE_INFINITY ? alarm.by(next) : Effect.void
  })
  const alarm: Alarm = yield* makeAlarm(stopLate)

  return <A, E>(effect: Effect.Effect<A, E>, millis: number, late: () => E): Effect.Effect<A, E> =>
    Effect.flatMap(Effect.forkChild(effect, { startImmediately: true }), (fiber) => {
      if (fiber.pollUnsafe() !== undefined) return Fiber.join(fiber)
      return Effect.flatMap(Clock.currentTimeMillis, (now) => {
        const call: Pending = { until: now + millis, fiber, isLate: false }
        pending.add(call)
        return Effect.andThen(alarm.by(call.until), Fiber.await(fiber)).pipe(
          Effect.onInterrupt(() => Fiber.interrupt(fiber)),
          Effect.ensuring(Effect.sync(() => pending.delete(call))),
          Effect.flatMap(
            (exit): Exit.Exit<A, E> => (call.isLate && exit._tag === "Failure" ? Exit.fail(late()) : exit),
          ),
        )
      })
    })
})

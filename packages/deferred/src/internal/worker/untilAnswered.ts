/**
 * A driver call that must happen: tried again until the driver answers, said once when it begins to fail and once when
 * it works again. A call that is not answered at all (a connection that was cut without a word) counts as failed, and
 * may have been done all the same: what comes late is fenced.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { TaskQueueError } from "../../TaskQueue.ts"

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

export const makeAnswers = (): Answers => {
  /** When each of the calls that are failing began to. */
  const failing = new Set<{ readonly since: number }>()
  const untilAnswered: Answers["untilAnswered"] = (what, options) => (call) =>
    Effect.clockWith((clock) => {
      let failures = 0
      let failed: { readonly since: number } | undefined
      const answered = Effect.timeoutOrElse(call, {
        duration: options.withinMillis,
        orElse: () =>
          Effect.fail(
            new TaskQueueError({
              operation: what,
              message: `no answer within ${options.withinMillis} ms`,
              isRetryable: true,
            }),
          ),
      })
      return answered.pipe(
        Effect.tapError((error) => {
          if (++failures > 1) return Effect.void
          failed = { since: clock.currentTimeMillisUnsafe() }
          failing.add(failed)
          return Effect.logWarning(`the task queue failed to ${what}, trying again: ${error.message}`)
        }),
        Effect.retry(backOff),
        // The schedule has no end, so a typed failure cannot come out.
        Effect.orDie,
        Effect.tap(() =>
          failures > 0 ? Effect.logInfo(`the task queue could ${what} again after ${failures} failures`) : Effect.void,
        ),
        Effect.ensuring(Effect.sync(() => failed !== undefined && failing.delete(failed))),
      )
    })
  return {
    untilAnswered,
    failingSince: () => {
      let first: number | undefined
      for (const { since } of failing) first = Math.min(first ?? since, since)
      return first
    },
  }
}

/**
 * How time passes while the testing kit waits: not at all, or as fast as whoever sleeps wants it to.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import * as Latch from "effect/Latch"
import type { TestClock } from "effect/testing/TestClock"

export interface Pace {
  /** The clock that attempts and driver calls see. */
  readonly clock: Clock.Clock
  /** A call of the driver. */
  readonly call: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>
  /** Waits for an attempt. */
  readonly await: (fiber: Fiber.Fiber<unknown>) => Effect.Effect<unknown>
}

/** Whoever sleeps sleeps until the test moves the clock. */
export const still = (clock: Clock.Clock): Pace => ({ clock, call: identity, await: Fiber.await })

/**
 * A driver that was made slow is waited for by moving the clock, and a sleeping attempt too if `withinAttempts`: to the
 * very time at which the next sleeper wakes, when everybody else has come to rest.
 */
export const advancing = (clock: TestClock, options: { readonly withinAttempts: boolean }): Pace => {
  const sleepers = new Set<{ readonly until: number }>()
  const asleep = Latch.makeUnsafe(false)
  const watched: TestClock = {
    ...clock,
    sleep: (duration) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          const sleeper = { until: clock.currentTimeMillisUnsafe() + Duration.toMillis(duration) }
          sleepers.add(sleeper)
          asleep.openUnsafe()
          return sleeper
        }),
        () => clock.sleep(duration),
        (sleeper) =>
          Effect.sync(() => {
            sleepers.delete(sleeper)
            if (sleepers.size === 0) asleep.closeUnsafe()
          }),
      ),
  }
  const wakeUntil = Effect.fnUntraced(function* (fiber: Fiber.Fiber<unknown, unknown>) {
    const isDone = () => fiber.pollUnsafe() !== undefined
    while (!isDone()) {
      // Promises that are settled already take some turns too.
      for (let turn = 0; turn < 50 && !isDone(); turn++) yield* Effect.yieldNow
      if (isDone()) break
      if (sleepers.size === 0) yield* Effect.raceFirst(Fiber.await(fiber), asleep.await)
      else yield* clock.setTime(Math.min(...[...sleepers].map(({ until }) => until)))
    }
  })
  return {
    clock: watched,
    call: (effect) =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(Effect.provideService(effect, Clock.Clock, watched), {
          startImmediately: true,
        })
        yield* wakeUntil(fiber)
        return yield* Fiber.join(fiber)
      }),
    await: (fiber) => (options.withinAttempts ? wakeUntil(fiber) : Fiber.await(fiber)),
  }
}

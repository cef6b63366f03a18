/**
 * One sleeping fiber for all the times at which something is to be looked at, most of which have no meaning any more when
 * they come: a fiber and a timer for each of them, started and stopped again, cost more than what they would watch over.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

export interface Alarm {
  /** Has it ring at that time (milliseconds), or before: whoever hears it looks what it is for, and sets it again. */
  readonly by: (at: number) => Effect.Effect<void>
}

/** Rings until the scope ends: not before what was put into the scope later, a drain for one, is done. */
export const makeAlarm = Effect.fnUntraced(function* (
  ring: Effect.Effect<void>,
): Effect.fn.Return<Alarm, never, Scope.Scope> {
  let set: { readonly at: number; fiber: Fiber.Fiber<void> | undefined } | undefined
  let isOver = false
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isOver = true
      set?.fiber?.interruptUnsafe()
    }),
  )

  const start = (at: number) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      set?.fiber?.interruptUnsafe()
      const mine: typeof set = { at, fiber: undefined }
      set = mine
      // Whole milliseconds: a clock that stands at a fraction of one would be a hair before that time for ever.
      const wait = Effect.andThen(
        Effect.sleep(Math.ceil(at - now)),
        Effect.suspend(() => {
          set = undefined
          return ring
        }),
      )
      return Effect.map(Effect.forkDetach(wait, { startImmediately: true }), (fiber) => {
        mine.fiber = fiber
      })
    })

  return { by: (at) => Effect.suspend(() => (isOver || (set !== undefined && set.at <= at) ? Effect.void : start(at))) }
})

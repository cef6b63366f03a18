/**
 * Steps that are taken on the spot when what they wait for is there already, as it is for most schemas: a turn of a fiber
 * costs several times what they do.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

/** As `Exit.isExit`, in one step: that is made of functions that take their arguments in any order, each with memory of its own. */
const isExit = <A, E, R>(effect: Effect.Effect<A, E, R>): effect is Exit.Exit<A, E> => exitId in effect
const exitId: keyof Exit.Exit<unknown> = "~effect/Exit"

/** As `Effect.flatMap`. */
export const flatMapAtOnce = <A, E, R, B, E2, R2>(
  effect: Effect.Effect<A, E, R>,
  next: (value: A) => Effect.Effect<B, E2, R2>,
): Effect.Effect<B, E | E2, R | R2> => {
  if (!isExit(effect)) return Effect.flatMap(effect, next)
  const exit = effect as Exit.Exit<A, E>
  if (exit._tag === "Failure") return exit as Exit.Exit<never, E>
  try {
    return next(exit.value)
  } catch (defect) {
    return Exit.die(defect)
  }
}

/** As `Effect.map`. */
export const mapAtOnce = <A, E, R, B>(
  effect: Effect.Effect<A, E, R>,
  next: (value: A) => B,
): Effect.Effect<B, E, R> => {
  const known = successAtOnce(effect)
  if (known === undefined) return Effect.map(effect, next)
  try {
    return Exit.succeed(next(known.value))
  } catch (defect) {
    return Exit.die(defect)
  }
}

/** As `Effect.mapError`. */
export const mapErrorAtOnce = <A, E, R, E2>(
  effect: Effect.Effect<A, E, R>,
  next: (error: E) => E2,
): Effect.Effect<A, E2, R> =>
  isExit(effect) && effect._tag === "Success" ? (effect as Exit.Exit<A>) : Effect.mapError(effect, next)

/** What an effect gives that has nothing to do any more. */
export const successAtOnce = <A, E, R>(effect: Effect.Effect<A, E, R>): { readonly value: A } | undefined =>
  isExit(effect) && effect._tag === "Success" ? (effect as Exit.Success<A>) : undefined

/**
 * Steps that are taken on the spot when what they wait for is there already, as it is for most schemas: a turn of a fiber
 * costs several times what they do.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

/** As `Effect.flatMap`. */
export const flatMapAtOnce = <A, E, R, B, E2, R2>(
  effect: Effect.Effect<A, E, R>,
  next: (value: A) => Effect.Effect<B, E2, R2>,
): Effect.Effect<B, E | E2, R | R2> => {
  if (!Exit.isExit(effect)) return Effect.flatMap(effect, next)
  const exit = effect as Exit.Exit<A, E>
  if (exit._tag === "Failure") return exit as Exit.Exit<never, E>
  try {
    return next(exit.value)
  } catch (defect) {
    return Exit.die(defect)
  }
}

/** As `Effect.map`. */
export const mapAtOnce = <A, E, R, B>(effect: Effect.Effect<A, E, R>, next: (value: A) => B): Effect.Effect<B, E, R> =>
  flatMapAtOnce(effect, (value) => Exit.succeed(next(value)))

/** As `Effect.mapError`. */
export const mapErrorAtOnce = <A, E, R, E2>(
  effect: Effect.Effect<A, E, R>,
  next: (error: E) => E2,
): Effect.Effect<A, E2, R> =>
  Exit.isExit(effect) && effect._tag === "Success" ? (effect as Exit.Exit<A>) : Effect.mapError(effect, next)

/** What an effect gives that has nothing to do any more. */
export const successAtOnce = <A, E, R>(effect: Effect.Effect<A, E, R>): { readonly value: A } | undefined =>
  Exit.isExit(effect) && effect._tag === "Success" ? (effect as Exit.Success<A>) : undefined

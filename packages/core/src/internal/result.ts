/**
 * Reading the result of a running computation: the one implementation behind `BackgroundCall` and the items of a
 * `CallQueue`.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { NotDone, ResultTimeout } from "../BackgroundCall.ts"

/** A computation that may have ended. */
export interface Pending<A, E> {
  readonly poll: () => Exit.Exit<A, E> | undefined
  readonly await: Effect.Effect<Exit.Exit<A, E>>
}

export interface Options {
  readonly wait?: boolean | undefined
  readonly timeout?: Duration.Input | undefined
  readonly orElse?: (() => unknown) | undefined
  readonly whileWaiting?: Effect.Effect<unknown, unknown, unknown> | undefined
}

export interface Failures {
  readonly notDone: () => NotDone
  readonly timedOut: (timeout: number) => ResultTimeout
}

export const readResult = <A, E>(
  pending: Pending<A, E>,
  options: Options | undefined,
  failures: Failures,
): Effect.Effect<unknown, unknown, unknown> => {
  if (options === undefined) return Effect.flatten(pending.await)
  const { orElse, whileWaiting } = options
  const timeout =
    options.timeout === undefined ? undefined : Duration.toMillis(Duration.fromInputUnsafe(options.timeout))
  const ended = (exit: Exit.Exit<A, E>): Effect.Effect<unknown, unknown> =>
    Exit.isFailure(exit) && orElse !== undefined ? Effect.sync(orElse) : exit
  const late = (failure: () => NotDone | ResultTimeout): Effect.Effect<unknown, unknown> =>
    orElse === undefined ? Effect.suspend(() => Effect.fail(failure())) : Effect.sync(orElse)
  return Effect.suspend(() => {
    const exit = pending.poll()
    if (exit !== undefined) return ended(exit)
    if (options.wait === false) return late(failures.notDone)
    if (timeout !== undefined && timeout <= 0) return late(() => failures.timedOut(0))
    const waited = whileWaiting === undefined ? waitFor(pending, timeout) : pump(pending, timeout, whileWaiting)
    return Effect.flatMap(waited, (found) =>
      Option.isSome(found) ? ended(found.value) : late(() => failures.timedOut(timeout ?? 0)),
    )
  })
}

export type Status = "running" | "succeeded" | "failed" | "interrupted"

export const statusOf = (exit: Exit.Exit<unknown, unknown> | undefined): Status => {
  if (exit === undefined) return "running"
  if (exit._tag === "Success") return "succeeded"
  return Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : "failed"
}

export const exceptionOf = <E>(exit: Exit.Exit<unknown, E> | undefined): Option.Option<Cause.Cause<E>> =>
  exit !== undefined && Exit.isFailure(exit) ? Option.some(exit.cause) : Option.none()

const waitFor = <A, E>(pending: Pending<A, E>, timeout: number | undefined) =>
  timeout === undefined ? Effect.asSome(pending.await) : Effect.timeoutOption(pending.await, timeout)

/** Runs `turn` between looks: after 1 ms, then twice as long each time up to 50 ms, never past the time left (R4). */
const pump = Effect.fnUntraced(function* <A, E>(
  pending: Pending<A, E>,
  timeout: number | undefined,
  turn: Effect.Effect<unknown, unknown, unknown>,
) {
  const end = timeout === undefined ? Number.POSITIVE_INFINITY : (yield* Clock.currentTimeMillis) + timeout
  let pause = 1
  while (true) {
    yield* turn
    const left = end - (yield* Clock.currentTimeMillis)
    if (left <= 0) return Option.fromUndefinedOr(pending.poll())
    const exit = yield* Effect.timeoutOption(pending.await, Math.min(pause, left))
    if (Option.isSome(exit)) return exit
    pause = Math.min(50, pause * 2)
  }
})

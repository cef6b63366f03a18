/**
 * A call: a handle on one running computation, to be asked whether it is done, what it gave, how it failed. The
 * `BackgroundCall` recipe (R1-R13) with its accidents repaired: results and failures can be read any number of times
 * (R9), a timeout of zero is a look and not for ever (R6), and asking too early has its own error (R5).
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as BackgroundThread from "./BackgroundThread.ts"
import { exceptionOf, type Options as ReadOptions, readResult, type Status, statusOf } from "./internal/result.ts"

/**
 * The call has not ended, and its result was asked for without waiting.
 *
 * @since 0.1.0
 */
export class NotDone extends Schema.TaggedError<NotDone>()("NotDone", { call: Schema.String }) {
  override get message() {
    return `call ${this.call} has not ended yet`
  }
}

/**
 * The call has not ended in the time given. It goes on.
 *
 * @since 0.1.0
 */
export class ResultTimeout extends Schema.TaggedError<ResultTimeout>()("ResultTimeout", {
  call: Schema.String,
  /** Milliseconds. */
  timeout: Schema.Finite,
}) {
  override get message() {
    return `call ${this.call} has not ended within ${this.timeout} ms; it goes on`
  }
}

/**
 * Reading a result. It never touches the call, and can be done any number of times by any number of fibers.
 *
 * - nothing: waits for the end; the value, or the call's own failure
 * - `wait: false`: `NotDone` while it runs (R5)
 * - `timeout`: `ResultTimeout` when it has not ended by then; zero or less is a look (R6)
 * - `orElse`: its value instead of `NotDone`, `ResultTimeout` and of the call's failure, its defects and interruption
 *   included (`alt_return`, R7, R8)
 * - `whileWaiting`: is run between looks, the first at once, then after pauses of 1 ms doubling to 50 ms (R4): for who
 *   must keep something else going in the same fiber. Its failure ends the waiting.
 *
 * @since 0.1.0
 */
export interface Result<out A, out E> {
  (): Effect.Effect<A, E>
  <B, E2 = never, R2 = never>(options: {
    readonly wait?: boolean | undefined
    readonly timeout?: Duration.Input | undefined
    readonly orElse: () => B
    readonly whileWaiting?: Effect.Effect<unknown, E2, R2> | undefined
  }): Effect.Effect<A | B, E2, R2>
  (options: { readonly wait: false }): Effect.Effect<A, E | NotDone>
  <E2 = never, R2 = never>(options: {
    readonly timeout: Duration.Input
    readonly whileWaiting?: Effect.Effect<unknown, E2, R2> | undefined
  }): Effect.Effect<A, E | ResultTimeout | E2, R2>
  <E2, R2>(options: { readonly whileWaiting: Effect.Effect<unknown, E2, R2> }): Effect.Effect<A, E | E2, R2>
}

/** @since 0.1.0 */
export interface BackgroundCall<out A, out E> {
  readonly name: string
  readonly isDone: Effect.Effect<boolean>
  readonly status: Effect.Effect<Status>
  readonly result: Result<A, E>
  /** How it failed, defects and interruption included; none while it runs and when it succeeded (R10). */
  readonly exception: Effect.Effect<Option.Option<Cause.Cause<E>>>
  /** Interrupts it and waits for its end, finalizers included (what R12 had not). */
  readonly interrupt: Effect.Effect<Exit.Exit<A, E>>
}

/**
 * Starts an effect as a background thread, under the instance's limit, and gives the handle on its result.
 *
 * Fails as `BackgroundThread.start` does. A failure is the caller's to read: it is not reported as unhandled.
 *
 * @example
 * ```ts
 * import * as BackgroundCall from "@outlive/core/BackgroundCall"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const call = yield* BackgroundCall.make(Effect.delay(Effect.succeed(42), "1 second"))
 *   const early = yield* call.result({ timeout: "10 millis", orElse: () => "not yet" }) // "not yet"
 *   const value = yield* call.result() // 42
 *   return [early, value]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* <A, E, R>(
  effect: Effect.Effect<A, E, R> & BackgroundThread.OutlivesRequest<R>,
  options?: BackgroundThread.Options<E>,
): Effect.fn.Return<
  BackgroundCall<A, E>,
  BackgroundThread.Refusal,
  BackgroundThread.BackgroundThreads | Exclude<R, Scope.Scope>
> {
  const thread = yield* BackgroundThread.start(effect, options)
  let exit: Exit.Exit<A, E> | undefined
  thread.onEnd((ended) => {
    exit = ended
  })
  const pending = { poll: () => exit, await: thread.await }
  const failures = {
    notDone: () => new NotDone({ call: thread.name }),
    timedOut: (timeout: number) => new ResultTimeout({ call: thread.name, timeout }),
  }
  return {
    name: thread.name,
    isDone: Effect.sync(() => exit !== undefined),
    status: Effect.sync(() => statusOf(exit)),
    // Its overloads are one function of its options.
    result: ((given?: ReadOptions) => readResult(pending, given, failures)) as Result<A, E>,
    exception: Effect.sync(() => exceptionOf(exit)),
    interrupt: thread.interrupt,
  }
})

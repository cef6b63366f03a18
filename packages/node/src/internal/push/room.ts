/**
 * How many attempts an endpoint has under way, and their end when the instance shuts down.
 */
import * as Instance from "@outlive/core/Instance"
import type { Ended, Running } from "@outlive/deferred/TaskAttempt"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import { type Refused, refusedUntil } from "./receive.ts"

export interface Room {
  /** Runs with a place; fails at once when there is none, or when no more are given. */
  readonly within: <A, E, R>(work: Effect.Effect<A, E, R>) => Effect.Effect<A, E | Refused, R>
  /**
   * Begins an attempt and waits for its end. Shutdown may stop it; the loss of who waits for it does, and `until`, when
   * that one waits no longer.
   */
  readonly run: (begin: () => Running, until: number) => Effect.Effect<Ended, Refused>
}

/** So long a sender waits that found no place: another instance may have one, or this one soon. */
const pause = 1_000

export const makeRoom = Effect.fnUntraced(function* (options: {
  readonly name: string
  readonly concurrency: number
  /** Milliseconds. */
  readonly drainTimeout: number
}): Effect.fn.Return<Room, never, Instance.Instance | Scope.Scope> {
  const instance = yield* Instance.Instance
  const running = new Set<Running>()
  /** Nobody has a place; no attempt is under way: between the two, a body is read or an answer is written. */
  const empty = yield* Latch.make(true)
  const idle = yield* Latch.make(true)
  let taken = 0
  let state: "open" | "closing" | "closed" = "open"

  const drain = Effect.gen(function* () {
    if (state === "open") state = "closing"
    yield* Effect.timeoutOption(empty.await, options.drainTimeout)
    state = "closed"
    if (running.size > 0) {
      yield* Effect.logInfo(`${options.name}: ${running.size} attempts were interrupted and given back to their sender`)
    }
    for (const each of running) each.stop("shutdown")
    yield* idle.await
  })
  yield* Effect.addFinalizer(() => drain)
  yield* instance.onShutdown(options.name, drain)

  const enter = Effect.gen(function* () {
    if (state !== "open" || (yield* instance.isShuttingDown) || taken >= options.concurrency) {
      return yield* Effect.fail(refusedUntil(pause))
    }
    taken++
    empty.closeUnsafe()
  })
  const leave = Effect.sync(() => {
    if (--taken === 0) empty.openUnsafe()
  })
  return {
    within: (work) =>
      Effect.acquireUseRelease(
        enter,
        () => work,
        () => leave,
      ),
    run: (begin, until) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.clockWith((clock): Effect.Effect<Ended, Refused> => {
          // Its body came when there was no time left to run it.
          if (state === "closed") return Effect.fail(refusedUntil(pause))
          const each = begin()
          running.add(each)
          idle.closeUnsafe()
          // The sender hung up: it has given the attempt up, and may already be making the next.
          const abandon = Effect.suspend(() => {
            each.stop(state === "open" ? "leaseLost" : "shutdown")
            return each.ended
          })
          const duration = Math.max(0, until - clock.currentTimeMillisUnsafe())
          return restore(Effect.timeoutOrElse(each.ended, { duration, orElse: () => abandon })).pipe(
            Effect.onInterrupt(() => abandon),
            Effect.ensuring(
              Effect.sync(() => {
                running.delete(each)
                if (running.size === 0) idle.openUnsafe()
              }),
            ),
          )
        }),
      ),
  }
})

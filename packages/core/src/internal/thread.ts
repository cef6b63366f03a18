/**
 * The handle on a thread. Its members are made when they are asked for: a hundred thousand idle threads hold only what
 * they need to end.
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { AnyThread, BackgroundThread } from "../BackgroundThread.ts"

/** The key of `BackgroundThread.current`. */
export const Current = Context.Reference<Option.Option<AnyThread>>("outlive/core/BackgroundThread/Current", {
  defaultValue: () => Option.none(),
})

export class Thread<A, E> implements BackgroundThread<A, E> {
  /** Somebody waits, or has waited, for the end: a failure is theirs. */
  observed = false
  failure: Cause.Cause<E> | undefined
  private fiber: Fiber.Fiber<A, E> | undefined
  private callbacks: Set<(exit: Exit.Exit<A, E>) => void> | undefined
  readonly id: number
  readonly name: string
  readonly daemon: boolean
  readonly begun: number

  constructor(id: number, name: string, daemon: boolean, begun: number) {
    this.id = id
    this.name = name
    this.daemon = daemon
    this.begun = begun
  }

  runsIn(fiber: Fiber.Fiber<A, E>): void {
    this.fiber = fiber
  }

  notify(exit: Exit.Exit<A, E>): void {
    for (const callback of this.callbacks ?? []) {
      this.callbacks?.delete(callback)
      callback(exit)
    }
  }

  get isAlive(): Effect.Effect<boolean> {
    return Effect.sync(() => this.poll() === undefined)
  }

  get exit(): Effect.Effect<Option.Option<Exit.Exit<A, E>>> {
    return Effect.sync(() => Option.fromUndefinedOr(this.poll()))
  }

  get await(): Effect.Effect<Exit.Exit<A, E>> {
    return Effect.flatMap(this.running, (fiber) => Fiber.await(fiber))
  }

  get interrupt(): Effect.Effect<Exit.Exit<A, E>> {
    return Effect.flatMap(this.running, (fiber) => Effect.andThen(Fiber.interrupt(fiber), Fiber.await(fiber)))
  }

  get lastFailure(): Effect.Effect<Option.Option<Cause.Cause<E>>> {
    return Effect.sync(() => {
      const exit = this.poll()
      return Option.fromUndefinedOr(this.failure ?? (exit?._tag === "Failure" ? exit.cause : undefined))
    })
  }

  get join(): BackgroundThread<A, E>["join"] {
    const join = (waiting?: { readonly timeout: Duration.Input }): Effect.Effect<A | Option.Option<A>, E> => {
      if (waiting === undefined) return this.joined
      return Effect.suspend((): Effect.Effect<Option.Option<A>, E> => {
        if (this.poll() !== undefined) return Effect.asSome(this.joined)
        const timeout = Duration.fromInputUnsafe(waiting.timeout)
        if (Duration.toMillis(timeout) <= 0) return Effect.succeedNone
        return Effect.timeoutOption(this.joined, timeout)
      })
    }
    // One function has both signatures.
    return join as BackgroundThread<A, E>["join"]
  }

  get onEnd(): BackgroundThread<A, E>["onEnd"] {
    return (callback) => {
      this.observed = true
      this.callbacks ??= new Set()
      this.callbacks.add(callback)
      const exit = this.poll()
      if (exit !== undefined) this.notify(exit)
      return () => this.callbacks?.delete(callback)
    }
  }

  private poll(): Exit.Exit<A, E> | undefined {
    return this.fiber?.pollUnsafe()
  }

  private get joined(): Effect.Effect<A, E> {
    return Effect.flatMap(Current, (self) =>
      Option.isSome(self) && self.value === this
        ? Effect.die(new Error(`thread ${this.name} joins itself, which would never end`))
        : Effect.flatMap(this.running, Fiber.join),
    )
  }

  /** Only the thread's own first steps, which run before its fiber is known, can come too early. */
  private get running(): Effect.Effect<Fiber.Fiber<A, E>> {
    return Effect.suspend(() => {
      this.observed = true
      return this.fiber === undefined ? Effect.andThen(Effect.yieldNow, this.running) : Effect.succeed(this.fiber)
    })
  }
}

/**
 * Background threads: detached fibers that are started under an instance's limit, outlive their creator and inherit
 * nothing of its request.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as Tracer from "effect/Tracer"
import { type FrontendsNotSupported, Instance, type ShuttingDown } from "./Instance.ts"
import { Current } from "./internal/thread.ts"
import { makeThreads } from "./internal/threads.ts"
import type { ThreadEvent } from "./ThreadEvent.ts"

/**
 * All permits are taken: `limit` threads are alive (B8). Nothing was started; it may be tried again.
 *
 * @since 0.1.0
 */
export class LimitReached extends Schema.TaggedError<LimitReached>()("LimitReached", {
  limit: Schema.Finite,
  active: Schema.Finite,
}) {
  override get message() {
    return this.limit === 0
      ? "this instance may have no background threads: its threadLimit is 0"
      : `${this.active} of ${this.limit} background threads are alive; start with whenFull: "wait", or raise threadLimit`
  }
}

/**
 * A thread starts at most once (B33, P3).
 *
 * @since 0.1.0
 */
export class AlreadyStarted extends Schema.TaggedError<AlreadyStarted>()("AlreadyStarted", {
  thread: Schema.String,
}) {
  override get message() {
    return `thread ${this.thread} was started already; make a new one to run its effect again`
  }
}

/** Why a thread was not started. @since 0.1.0 */
export type Refusal = FrontendsNotSupported | LimitReached | ShuttingDown

/** @since 0.1.0 */
export interface Options<E = never> {
  /** For people; need not be unique. Default `thread-N` with the thread's id (P4). */
  readonly name?: string | undefined
  /** Shutdown interrupts daemons at once and waits for the others. Default `false`. */
  readonly daemon?: boolean | undefined
  /** With all permits taken: `"fail"` (default) with `LimitReached`, or `"wait"` for one, first come first served. */
  readonly whenFull?: "fail" | "wait" | undefined
  /**
   * Runs the effect again when it failed or died, for as long as the schedule, which gets the cause, goes on. It keeps
   * its permit meanwhile. An interrupted thread is not run again. Default: once.
   */
  readonly restart?: Schedule.Schedule<unknown, Cause.Cause<E>> | undefined
}

/**
 * The handle on a started thread.
 *
 * @since 0.1.0
 */
export interface BackgroundThread<out A, out E> {
  /** Counted from 1 within its `BackgroundThreads`; never used again (unlike P5). */
  readonly id: number
  readonly name: string
  readonly daemon: boolean
  readonly isAlive: Effect.Effect<boolean>
  /**
   * Waits for the end: the value, or the thread's failure. Repeatable. With a timeout: none when it has not ended by
   * then; zero or less is a look (P1). Neither the timeout nor an interruption of the waiter touches the thread. A thread
   * that joins itself dies (P2).
   */
  readonly join: {
    (): Effect.Effect<A, E>
    (options: { readonly timeout: Duration.Input }): Effect.Effect<Option.Option<A>, E>
  }
  /** How it ended; none while it is alive. */
  readonly exit: Effect.Effect<Option.Option<Exit.Exit<A, E>>>
  /** Waits for the end and gives it as data. */
  readonly await: Effect.Effect<Exit.Exit<A, E>>
  /** Interrupts the thread and waits for its end, finalizers included. */
  readonly interrupt: Effect.Effect<Exit.Exit<A, E>>
  /** How its effect failed last, when it was restarted or has failed. */
  readonly lastFailure: Effect.Effect<Option.Option<Cause.Cause<E>>>
  /** Calls back once with the end, at once when it has ended. Gives what takes the callback back. */
  readonly onEnd: (callback: (exit: Exit.Exit<A, E>) => void) => () => void
}

/** A thread of any types, to list. @since 0.1.0 */
export type AnyThread = BackgroundThread<unknown, unknown>

/** A thread that was made and not yet started (B30-B34). @since 0.1.0 */
export interface Unstarted<out A, out E, out R> {
  readonly name: string | undefined
  /** Starts it: at most once, but a refused start may be tried again (B34). */
  readonly start: Effect.Effect<BackgroundThread<A, E>, Refusal | AlreadyStarted, R>
}

/**
 * Services that belong to a request and are over when it is: an effect that needs one cannot become a thread. Known by
 * their shape where this package does not know their module.
 *
 * @since 0.1.0
 */
export type RequestScoped =
  | Tracer.ParentSpan
  | Effect.Transaction
  | { readonly "~effect/http/HttpServerRequest": unknown }
  | { readonly key: "effect/http/HttpRouter/RouteContext" }

/** Nothing, or what makes an effect that needs its request not compile. @since 0.1.0 */
export type OutlivesRequest<R> = [Extract<R, RequestScoped>] extends [never]
  ? unknown
  : { readonly "the request is over when the thread runs: take what you need out of it first": never }

/**
 * The threads of an instance: their limit, their list, and the application's context that they start from.
 *
 * @since 0.1.0
 */
export class BackgroundThreads extends Context.Service<
  BackgroundThreads,
  {
    /** The instance's `threadLimit`. */
    readonly limit: number
    /** How many more may be started now. */
    readonly available: Effect.Effect<number>
    /** The threads alive, in the order they were started (B39). */
    readonly threads: Effect.Effect<ReadonlyArray<AnyThread>>
    /** Waits until none is alive. */
    readonly awaitEmpty: Effect.Effect<void>
    /**
     * Subscribes: the stream has what happens from the moment on that this effect returned. A slow reader loses the
     * oldest events and never slows a thread.
     */
    readonly events: Effect.Effect<Stream.Stream<ThreadEvent>, never, Scope.Scope>
    /** See `BackgroundThread.start`. */
    readonly start: <A, E, R>(
      effect: Effect.Effect<A, E, R> & OutlivesRequest<R>,
      options?: Options<E>,
    ) => Effect.Effect<BackgroundThread<A, E>, Refusal, Exclude<R, Scope.Scope>>
  }
>()("outlive/core/BackgroundThreads") {
  /**
   * Put it where the application is put together: threads take their clock, logger, tracer and configuration from here.
   * On the instance's shutdown, daemons are interrupted, the other threads are waited for until nine tenths of the
   * grace period are gone, then interrupted, finalizers included. Closing the layer waits for a shutdown that has
   * begun, and interrupts all that are left.
   */
  static readonly layer: Layer.Layer<BackgroundThreads, never, Instance> = Layer.effect(
    BackgroundThreads,
    Effect.flatMap(Instance, (instance) =>
      makeThreads(instance, (limit, active) => new LimitReached({ limit, active })),
    ),
  )
}

/**
 * Starts an effect as a thread, which runs on when its creator ends, fails or is interrupted.
 *
 * It starts from the application's context (where `BackgroundThreads.layer` was built): clock, logger, tracer,
 * configuration. The creator's services go along, since the effect may name them; its request does not: not its span
 * (which is linked), its log annotations, its `Scope` (the thread has one of its own), an open SQL transaction, the HTTP
 * request, or its being uninterruptible (B10).
 *
 * Fails with `FrontendsNotSupported` on a frontend, `LimitReached` when all permits are taken, `ShuttingDown` once the
 * instance ends; then no permit is taken. The permit comes back on every end, also when the thread is interrupted before
 * its first step. Interrupting the creator while it starts leaves a running thread or nothing.
 *
 * A thread that fails while nobody waits for it is reported once, as an error with its cause (B13, B35).
 *
 * @example
 * ```ts
 * import * as BackgroundThread from "@outlive/core/BackgroundThread"
 * import { Effect } from "effect"
 *
 * const answer = Effect.gen(function* () {
 *   const thread = yield* BackgroundThread.start(Effect.sleep("1 minute"), { name: "send-mails" })
 *   return `accepted, ${thread.name} goes on`
 * })
 * ```
 *
 * @since 0.1.0
 */
export const start = <A, E, R>(
  effect: Effect.Effect<A, E, R> & OutlivesRequest<R>,
  options?: Options<E>,
): Effect.Effect<BackgroundThread<A, E>, Refusal, BackgroundThreads | Exclude<R, Scope.Scope>> =>
  Effect.flatMap(BackgroundThreads, (threads) => threads.start(effect, options))

/**
 * Makes a thread without starting it.
 *
 * @since 0.1.0
 */
export const make = <A, E, R>(
  effect: Effect.Effect<A, E, R> & OutlivesRequest<R>,
  options?: Options<E>,
): Effect.Effect<Unstarted<A, E, BackgroundThreads | Exclude<R, Scope.Scope>>> =>
  Effect.sync(() => {
    let started = false
    return {
      name: options?.name,
      start: Effect.suspend(
        (): Effect.Effect<
          BackgroundThread<A, E>,
          Refusal | AlreadyStarted,
          BackgroundThreads | Exclude<R, Scope.Scope>
        > => {
          if (started) return Effect.fail(new AlreadyStarted({ thread: options?.name ?? "without a name" }))
          started = true
          return Effect.onError(start(effect, options), () =>
            Effect.sync(() => {
              started = false
            }),
          )
        },
      ),
    }
  })

/**
 * Inside a thread: its own handle; none elsewhere.
 *
 * @since 0.1.0
 */
export const current: Effect.Effect<Option.Option<AnyThread>> = Current

/** Waits for all of them; fails with the first failure found in their order. @since 0.1.0 */
export const joinAll = <A, E>(threads: Iterable<BackgroundThread<A, E>>): Effect.Effect<ReadonlyArray<A>, E> =>
  Effect.forEach(threads, (thread) => thread.join())

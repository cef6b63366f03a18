/**
 * A call queue: effects posted by many fibers, run by one receiver or a few consumers, each result going back to its
 * caller. For what only one fiber may touch: a connection, a file, a model in memory. The `CallQueue` recipe (R20-R38),
 * repaired: nothing polls (R37), a call that nobody waits for any more is withdrawn (R26), a closed queue lets nobody
 * wait (R36), a fallback is given for failures too (R30).
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { NotDone, Result, ResultTimeout } from "./BackgroundCall.ts"
import { makeCallQueue } from "./internal/callQueue.ts"

/**
 * As many calls wait as the queue may hold (R25). Nothing was posted.
 *
 * @since 0.1.0
 */
export class CallQueueFull extends Schema.TaggedError<CallQueueFull>()("CallQueueFull", { capacity: Schema.Finite }) {
  override get message() {
    return `the call queue is full: ${this.capacity} calls wait already`
  }
}

/**
 * The queue was closed before the call was run (R24, R36).
 *
 * @since 0.1.0
 */
export class CallQueueClosed extends Schema.TaggedError<CallQueueClosed>()("CallQueueClosed", {}) {
  override get message() {
    return "the call queue is closed: the call was not run"
  }
}

/**
 * A received call failed, and its caller wanted the receiver to know (`failIn`, R28).
 *
 * @since 0.1.0
 */
export class CallFailed extends Schema.TaggedError<CallFailed>()("CallFailed", { cause: Schema.Defect() }) {
  override get message() {
    return "a call failed in its receiver, as its caller wished"
  }
}

/** @since 0.1.0 */
export interface Options {
  /** Calls that may wait. Default: no limit. */
  readonly capacity?: number | undefined
  /** Fibers of the queue's own that run calls. Default 0: only `receive` and `receiveOne` run any. */
  readonly consumers?: number | undefined
}

/** @since 0.1.0 */
export interface PostOptions {
  /** With the queue full: `"fail"` (default) with `CallQueueFull`, or `"wait"` for room, first come first served. */
  readonly whenFull?: "fail" | "wait" | undefined
  /**
   * Who sees a failure of the call (R27): its `"caller"` (default), the `"receiver"` (as `CallFailed`, which ends that
   * `receive`; a consumer is replaced), `"both"` or `"neither"`. A caller that does not see it gets its `orElse`.
   */
  readonly failIn?: "caller" | "receiver" | "both" | "neither" | undefined
}

/** A posted call. @since 0.1.0 */
export interface CallItem<out A, out E> {
  readonly isDone: Effect.Effect<boolean>
  readonly status: Effect.Effect<"queued" | "running" | "succeeded" | "failed" | "interrupted" | "withdrawn">
  /** As for a `BackgroundCall`; a call of a queue that was closed fails with `CallQueueClosed`. */
  readonly result: Result<A, E | CallQueueClosed>
  readonly exception: Effect.Effect<Option.Option<Cause.Cause<E | CallQueueClosed>>>
  /** Takes back a call that has not begun; whether it did. Who waits for it is interrupted. */
  readonly withdraw: Effect.Effect<boolean>
}

/**
 * @since 0.1.0
 */
export interface CallQueue {
  /**
   * Posts a call and waits for its value. The effect runs in the receiver's fiber, with the caller's services. A call
   * whose caller is interrupted, or whose timeout passes, before it began is withdrawn; one that has begun goes on.
   */
  readonly call: {
    <A, E, R, B>(
      effect: Effect.Effect<A, E, R>,
      options: PostOptions & { readonly timeout?: Duration.Input | undefined; readonly orElse: () => B },
    ): Effect.Effect<A | B, CallQueueFull | CallQueueClosed, R>
    <A, E, R>(
      effect: Effect.Effect<A, E, R>,
      options?: Omit<PostOptions, "failIn"> & { readonly failIn?: "caller" | "both" | undefined },
    ): Effect.Effect<A, E | CallQueueFull | CallQueueClosed, R>
    <A, E, R>(
      effect: Effect.Effect<A, E, R>,
      options: Omit<PostOptions, "failIn"> & {
        readonly failIn?: "caller" | "both" | undefined
        readonly timeout: Duration.Input
      },
    ): Effect.Effect<A, E | CallQueueFull | CallQueueClosed | ResultTimeout, R>
  }
  /** Posts a call and gives a handle on it at once. */
  readonly send: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    options?: PostOptions,
  ) => Effect.Effect<CallItem<A, E>, CallQueueFull | CallQueueClosed, R>
  /** Posts a call to be harvested by `nextCollected` (R32). */
  readonly collect: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    options?: PostOptions,
  ) => Effect.Effect<CallItem<A, E>, CallQueueFull | CallQueueClosed, R>
  /** Removes and gives the collected calls that have ended, in the order they were posted. Never waits (R32). */
  readonly nextCollected: Effect.Effect<ReadonlyArray<CallItem<unknown, unknown>>>
  /** Runs what is queued, in this fiber, and gives how many; does not wait for more (R34). */
  readonly receive: Effect.Effect<number, CallFailed>
  /** Waits for one call and runs it in this fiber. */
  readonly receiveOne: Effect.Effect<void, CallFailed | CallQueueClosed>
  /** Calls not yet begun (R35). */
  readonly size: Effect.Effect<number>
  /** Nothing queued, nothing running, nothing collected and not harvested (R33, repaired: what runs counts). */
  readonly isIdle: Effect.Effect<boolean>
  /** Refuses new calls and fails those that have not begun with `CallQueueClosed` (R36). What runs goes on. */
  readonly close: Effect.Effect<void>
  /** Refuses new calls and runs those that are queued, in this fiber (R35). */
  readonly closeAndReceive: Effect.Effect<number, CallFailed>
}

/**
 * Makes a queue, and its consumers, for as long as the scope: its end closes the queue and interrupts the consumers.
 *
 * With one consumer, calls run one after the other in the order they were posted; with several their order of beginning
 * is kept, not that of their ends (R38). Ten thousand waiting callers cost ten thousand suspended fibers and nothing else.
 *
 * @example
 * ```ts
 * import * as CallQueue from "@outlive/core/CallQueue"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const owner = yield* CallQueue.make({ consumers: 1 })
 *   let balance = 10
 *   const withdraw = (n: number) =>
 *     owner.call(Effect.suspend(() => (balance < n ? Effect.fail("too little") : Effect.succeed((balance -= n)))))
 *   return yield* withdraw(7) // 3
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const make = (options?: Options): Effect.Effect<CallQueue, never, Scope.Scope> =>
  makeCallQueue(options, {
    full: (capacity) => new CallQueueFull({ capacity }),
    closed: () => new CallQueueClosed(),
    failed: (cause) => new CallFailed({ cause }),
  })

/** What reading an item's result without waiting can fail with. @since 0.1.0 */
export type { NotDone, ResultTimeout }

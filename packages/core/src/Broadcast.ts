/**
 * Messages to any number of subscribers, told synchronously, that never slow who tells them: each subscriber has a
 * bounded buffer of its own and loses the oldest when it is behind. (`PubSub.publishUnsafe` of a full sliding `PubSub`
 * would lose the newest.)
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/**
 * @since 0.1.0
 */
export interface Broadcast<A> {
  /** Tells a message; makes it only when there is somebody to tell. */
  readonly tell: (make: () => A) => void
  /** The messages from the moment on that this effect returned, for as long as the scope. */
  readonly subscribe: Effect.Effect<Stream.Stream<A>, never, Scope.Scope>
  /** How many subscribers there are now. */
  readonly subscribers: () => number
}

/**
 * @since 0.1.0
 */
export const make = <A>(options?: {
  /** Messages that a subscriber may be behind. Default 1024. */
  readonly capacity?: number | undefined
}): Broadcast<A> => {
  const buffers = new Set<Queue.Queue<A>>()
  return {
    tell: (make) => {
      if (buffers.size === 0) return
      const message = make()
      for (const buffer of buffers) Queue.offerUnsafe(buffer, message)
    },
    subscribe: Effect.map(
      Effect.acquireRelease(
        Effect.tap(Queue.sliding<A>(options?.capacity ?? 1024), (buffer) => Effect.sync(() => buffers.add(buffer))),
        (buffer) =>
          Effect.suspend(() => {
            buffers.delete(buffer)
            return Queue.shutdown(buffer)
          }),
      ),
      (buffer) => Stream.fromQueue(buffer),
    ),
    subscribers: () => buffers.size,
  }
}

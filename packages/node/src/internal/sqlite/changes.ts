/**
 * Telling of changes: those of this process when they are committed, those of others by looking at the file's version.
 */
import type { Change } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as PubSub from "effect/PubSub"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

export interface Changes {
  readonly publish: (changes: ReadonlyArray<Change>) => void
  readonly subscribe: Effect.Effect<Stream.Stream<Change>, never, Scope.Scope>
}

/** How late another process's change is noticed at the most. One look costs a few microseconds and reads no page. */
const lookEvery = "20 millis"

/** How many hints a slow reader may lag behind before it loses the oldest. */
const capacity = 1024

/** `version` gives a number that changes when another connection has committed. */
export const makeChanges = Effect.fnUntraced(function* (
  version: () => number | undefined,
): Effect.fn.Return<Changes, never, Scope.Scope> {
  const hub = yield* Effect.acquireRelease(PubSub.sliding<Change>({ capacity }), PubSub.shutdown)
  const watched = yield* Latch.make(false)
  let subscribers = 0
  let seen: number | undefined

  const look = () => {
    const now = version()
    if (now === undefined || now === seen) return
    seen = now
    PubSub.publishUnsafe(hub, { _tag: "Elsewhere" })
  }
  yield* Effect.forkScoped(
    Effect.gen(function* () {
      while (true) {
        yield* watched.await
        yield* Effect.sleep(lookEvery)
        look()
      }
    }),
  )
  const watch = Effect.acquireRelease(
    Effect.sync(() => {
      // What was committed before nobody watched for is no news to the first subscriber.
      if (subscribers++ === 0) seen = version() ?? seen
      watched.openUnsafe()
    }),
    () =>
      Effect.sync(() => {
        if (--subscribers === 0) watched.closeUnsafe()
      }),
  )
  return {
    publish: (changes) => {
      for (const change of changes) PubSub.publishUnsafe(hub, change)
    },
    subscribe: Effect.andThen(watch, Effect.map(PubSub.subscribe(hub), Stream.fromSubscription)),
  }
})

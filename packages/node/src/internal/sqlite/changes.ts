/**
 * Telling of changes: those of this process when they are committed, those of others by looking at the file's version.
 */
import * as Broadcast from "@outlive/core/Broadcast"
import type { Change } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"

export interface Changes {
  readonly publish: (changes: ReadonlyArray<Change>) => void
  readonly subscribe: Effect.Effect<Stream.Stream<Change>, never, Scope.Scope>
}

/** How late another process's change is noticed at the most. One look costs a few microseconds and reads no page. */
const lookEvery = "20 millis"
/** And for a second after one, when more are to be expected: an idle process should not be woken as often. */
const lookAgain = { every: "5 millis", times: 200 } as const

/** `version` gives a number that changes when another connection has committed. */
export const makeChanges = Effect.fnUntraced(function* (
  version: () => number | undefined,
): Effect.fn.Return<Changes, never, Scope.Scope> {
  const hub = Broadcast.make<Change>()
  const watched = yield* Latch.make(false)
  let subscribers = 0
  let seen: number | undefined
  let again = 0

  const look = () => {
    const now = version()
    if (now === undefined || now === seen) {
      again = Math.max(0, again - 1)
      return
    }
    seen = now
    again = lookAgain.times
    hub.tell(() => ({ _tag: "Elsewhere" }))
  }
  yield* Effect.forkScoped(
    Effect.gen(function* () {
      while (true) {
        yield* watched.await
        yield* Effect.sleep(again > 0 ? lookAgain.every : lookEvery)
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
      for (const change of changes) hub.tell(() => change)
    },
    subscribe: Effect.andThen(watch, hub.subscribe),
  }
})

/**
 * Telling of changes: those of this process when they are committed, those of others by looking at the file's version.
 *
 * That is looked at when the system says that the log was written to, and every few milliseconds: the system may not tell,
 * and tells of a commit at its first write, which may be too early.
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

/**
 * While changes come one upon the other, looking every few milliseconds is enough, and being told of each write would cost
 * who writes and who is told: the system tells of so many between two looks, and again after so many that found nothing.
 */
const told = { atMost: 3, afterEmpty: 2 } as const

export const makeChanges = Effect.fnUntraced(function* (options: {
  /** Gives a number that changes when another connection has committed. */
  readonly version: () => number | undefined
  /** Calls back when some connection has written, until it is told to stop. */
  readonly whenWritten: (written: () => void) => () => void
  /** Whether this process is about to look for work by itself: what is written meanwhile is its own, or can wait for the clock. */
  readonly isLooking: () => boolean
}): Effect.fn.Return<Changes, never, Scope.Scope> {
  const { isLooking, version, whenWritten } = options
  const hub = Broadcast.make<Change>()
  const watched = yield* Latch.make(false)
  let subscribers = 0
  let seen: number | undefined
  let again = 0
  let unwatch: (() => void) | undefined
  /** Changes since the last look by the clock. */
  let found = 0

  const look = () => {
    const now = version()
    if (now === undefined || now === seen) return
    seen = now
    again = lookAgain.times
    if (++found === told.atMost) stopTelling()
    hub.tell(() => ({ _tag: "Elsewhere" }))
  }
  const letTell = () => {
    unwatch ??= whenWritten(() => isLooking() || look())
  }
  const stopTelling = () => {
    unwatch?.()
    unwatch = undefined
  }
  const lookByClock = () => {
    look()
    if (found === 0) {
      again = Math.max(0, again - 1)
      if (subscribers > 0 && again <= lookAgain.times - told.afterEmpty) letTell()
    }
    found = 0
  }
  yield* Effect.forkScoped(
    Effect.gen(function* () {
      while (true) {
        yield* watched.await
        yield* Effect.sleep(again > 0 ? lookAgain.every : lookEvery)
        lookByClock()
      }
    }),
  )
  const watch = Effect.acquireRelease(
    Effect.sync(() => {
      // What was committed before nobody watched for is no news to the first subscriber.
      if (subscribers++ === 0) {
        seen = version() ?? seen
        letTell()
      }
      watched.openUnsafe()
    }),
    () =>
      Effect.sync(() => {
        if (--subscribers > 0) return
        watched.closeUnsafe()
        stopTelling()
      }),
  )
  return {
    publish: (changes) => {
      for (const change of changes) hub.tell(() => change)
    },
    subscribe: Effect.andThen(watch, hub.subscribe),
  }
})

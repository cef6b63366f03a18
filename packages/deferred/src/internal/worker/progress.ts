/**
 * Progress on its way to the queue: of all attempts together, the last word of each, and not too often.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type { TaskQueue } from "../../TaskQueue.ts"
import type { Speaking } from "./attemptContext.ts"

const every = "250 millis"

/** Gives what an attempt calls when it said something. */
export const makeProgress = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
): Effect.fn.Return<(slot: Speaking) => void, never, Scope.Scope> {
  let spoken = new Set<Speaking>()
  const some = yield* Latch.make(false)

  const note = Effect.fnUntraced(function* () {
    const slots = [...spoken].filter((slot) => slot.progress !== undefined)
    spoken = new Set()
    const updates = slots.map(({ progress, record }) => ({
      id: record.id,
      token: record.token,
      progress: progress ?? "",
    }))
    // Taken, so that the settlement does not bring it once more.
    for (const slot of slots) slot.progress = undefined
    if (updates.length === 0) return
    const now = yield* Clock.currentTimeMillis
    yield* Effect.catch(queue.progress({ updates, now }), (error) => {
      // The next word, or the settlement, brings it; who claims tells of a queue that fails.
      slots.forEach((slot, index) => {
        slot.progress ??= updates[index]?.progress
      })
      return Effect.logDebug(`progress was not noted: ${error.message}`)
    })
  })

  yield* Effect.gen(function* () {
    while (true) {
      yield* some.await
      // An open latch resumes who waits on the stack of who opened it: that handler goes on first.
      yield* Effect.yieldNow
      some.closeUnsafe()
      yield* note()
      yield* Effect.sleep(every)
    }
  }).pipe(Effect.forkScoped)

  return (slot) => {
    spoken.add(slot)
    some.openUnsafe()
  }
})

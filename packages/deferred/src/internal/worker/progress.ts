/**
 * Progress on its way to the queue: of all attempts together, the last word of each, and not too often.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type { ProgressUpdate, TaskQueue } from "../../TaskQueue.ts"
import type { Page } from "../notes.ts"
import type { Speaking } from "./attemptContext.ts"

const every = "250 millis"

/** Gives what an attempt calls when it said something. */
export const makeProgress = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
): Effect.fn.Return<(slot: Speaking) => void, never, Scope.Scope> {
  let spoken = new Set<Speaking>()
  const some = yield* Latch.make(false)

  const note = Effect.fnUntraced(function* () {
    const told = Latch.makeUnsafe(false)
    const pages: Array<Page> = []
    const updates: Array<ProgressUpdate> = []
    for (const { page, record } of spoken) {
      if (page?.isReady !== true) continue
      pages.push(page)
      page.telling = told
      // Taken, so that the settlement does not bring it once more.
      updates.push({ id: record.id, token: record.token, progress: page.take() })
    }
    spoken = new Set()
    if (updates.length === 0) return
    const now = yield* Clock.currentTimeMillis
    yield* queue.progress({ updates, now }).pipe(
      Effect.onExit(() =>
        Effect.sync(() => {
          for (const page of pages) page.telling = undefined
          told.openUnsafe()
        }),
      ),
      Effect.catch((error) => {
        // The next word, or the settlement, brings it; who claims tells of a queue that fails.
        for (const page of pages) page.isUnsaid = true
        return Effect.logDebug(`progress was not noted: ${error.message}`)
      }),
    )
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

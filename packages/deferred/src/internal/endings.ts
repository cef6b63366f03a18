/**
 * Waiting for records to end, for any number of waiters, over any driver: one subscription to `changes` and one batched
 * look for all of them. The hints make it quick; the look every second makes it true when a hint was lost.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { TaskId } from "../TaskId.ts"
import type { Change, Driver, TaskQueueError } from "../TaskQueue.ts"
import type { TaskRecord } from "../TaskRecord.ts"

export interface Endings {
  readonly await: (id: TaskId) => Effect.Effect<TaskRecord | undefined, TaskQueueError>
}

type Waiter = Deferred.Deferred<TaskRecord | undefined, TaskQueueError>

/** How many ids one look asks for: keeps a driver's call short when thousands wait. */
const batch = 500
const lookEvery = "1 second"

export const makeEndings = Effect.fnUntraced(function* (driver: Driver): Effect.fn.Return<Endings, never, Scope.Scope> {
  const waiters = new Map<TaskId, Set<Waiter>>()
  /** Ids to look at in the next round: those just added and those that a hint named. */
  const due = new Set<TaskId>()
  const dueLatch = yield* Latch.make(false)
  const waiting = yield* Latch.make(false)

  const lookAll = () => {
    for (const id of waiters.keys()) due.add(id)
    dueLatch.openUnsafe()
  }
  const noticed = (change: Change) => {
    if (change._tag === "Elsewhere") lookAll()
    else if (change._tag === "Ended") {
      for (const id of change.ids) if (waiters.has(id)) due.add(id)
      if (due.size > 0) dueLatch.openUnsafe()
    }
  }
  const finish = (id: TaskId, exit: Exit.Exit<TaskRecord | undefined, TaskQueueError>) => {
    const set = waiters.get(id)
    if (set === undefined) return
    waiters.delete(id)
    for (const waiter of set) Deferred.doneUnsafe(waiter, exit)
  }
  const look = Effect.fnUntraced(function* (ids: ReadonlyArray<TaskId>) {
    const now = yield* Clock.currentTimeMillis
    const found = yield* Effect.exit(driver.get({ ids, now }))
    if (Exit.isSuccess(found)) {
      ids.forEach((id, index) => {
        const record = found.value[index]
        if (record === undefined || record.endedAt !== undefined) finish(id, Exit.succeed(record))
      })
    } else {
      // A waiter would rather know now than hang: it may wait again.
      for (const id of ids) finish(id, Exit.failCause(found.cause))
    }
  })

  const rounds = Effect.gen(function* () {
    while (true) {
      yield* dueLatch.await
      dueLatch.closeUnsafe()
      const ids = [...due].filter((id) => waiters.has(id))
      due.clear()
      for (let start = 0; start < ids.length; start += batch) yield* look(ids.slice(start, start + batch))
    }
  })
  // Ends when nobody has waited at a tick, so that an idle program neither polls nor subscribes.
  const ticks = Effect.gen(function* () {
    do {
      yield* Effect.sleep(lookEvery)
      lookAll()
    } while (waiters.size > 0)
    waiting.closeUnsafe()
  })
  const watch = Effect.scoped(
    Effect.gen(function* () {
      // Subscribed before the first look: an end in between is either seen by the look or told by the hint.
      const changes = yield* driver.changes
      lookAll()
      const hints = Stream.runForEach(changes, (change) => Effect.sync(() => noticed(change)))
      yield* Effect.raceFirst(ticks, Effect.all([hints, rounds], { concurrency: "unbounded", discard: true }))
    }),
  )
  yield* Effect.forkScoped(
    Effect.gen(function* () {
      while (true) {
        yield* waiting.await
        yield* watch
      }
    }),
  )

  return {
    await: (id) =>
      Effect.suspend(() => {
        const waiter: Waiter = Deferred.makeUnsafe()
        const set = waiters.get(id)
        if (set === undefined) waiters.set(id, new Set([waiter]))
        else set.add(waiter)
        due.add(id)
        dueLatch.openUnsafe()
        waiting.openUnsafe()
        return Effect.onInterrupt(Deferred.await(waiter), () =>
          Effect.sync(() => {
            const rest = waiters.get(id)
            if (rest?.delete(waiter) && rest.size === 0) waiters.delete(id)
          }),
        )
      }),
  }
})

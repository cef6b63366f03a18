/**
 * Settlements on their way to the queue: whatever ended while one call was under way goes with the next, so a busy worker
 * settles in large batches and an idle one at once.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type { Settlement, TaskQueue } from "../../TaskQueue.ts"
import type { Answers } from "./untilAnswered.ts"

export interface Settlements {
  readonly push: (settlement: Settlement) => void
  /** Waits until everything pushed before is settled. */
  readonly flushed: Effect.Effect<void>
  /** How many are not settled yet. */
  readonly pending: () => number
}

/** Bounds how long one call may hold a driver. */
const batch = 1_000

export const makeSettlements = Effect.fnUntraced(function* (
  queue: TaskQueue["Service"],
  options: { readonly withinMillis: number; readonly answers: Answers },
): Effect.fn.Return<Settlements, never, Scope.Scope> {
  let pending: Array<Settlement> = []
  let underWay = 0
  const some = yield* Latch.make(false)
  const none = yield* Latch.make(true)

  const settle = Effect.fnUntraced(function* (settlements: ReadonlyArray<Settlement>) {
    const outcomes = yield* options.answers.untilAnswered(
      "settle",
      options,
    )(Effect.flatMap(Clock.currentTimeMillis, (now) => queue.settle({ settlements, now })))
    const lost = settlements.filter((_, index) => outcomes[index] === "LeaseLost")
    if (lost.length === 0) return
    yield* Effect.logWarning(
      `${lost.length} attempts ended after their lease was lost; another worker owns the records`,
    ).pipe(Effect.annotateLogs({ taskIds: lost.slice(0, 10).map((settlement) => settlement.id) }))
  })

  yield* Effect.gen(function* () {
    while (true) {
      yield* some.await
      // An open latch resumes who waits at once, on the stack of who opened it: the rest of that turn goes along.
      yield* Effect.yieldNow
      const taken = pending.length <= batch ? pending : pending.slice(0, batch)
      pending = taken === pending ? [] : pending.slice(batch)
      if (pending.length === 0) some.closeUnsafe()
      underWay = taken.length
      yield* settle(taken)
      underWay = 0
      if (pending.length === 0) none.openUnsafe()
    }
  }).pipe(Effect.forkScoped)

  return {
    push: (settlement) => {
      pending.push(settlement)
      none.closeUnsafe()
      some.openUnsafe()
    },
    flushed: none.await,
    pending: () => pending.length + underWay,
  }
})

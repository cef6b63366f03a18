/**
 * Heartbeats: one fiber that extends all leases of a worker, and tells the attempts whose lease is lost or whose record
 * is to be cancelled. It says so when it could not: when the event loop, or the machine, stood still.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { TaskId } from "../../TaskId.ts"
import type { ClaimedRecord, TaskQueue } from "../../TaskQueue.ts"
import type { Answers } from "./untilAnswered.ts"

export interface Heartbeats {
  readonly run: Effect.Effect<never>
  /** Looks now at those of these records that are held, without waiting for the next beat. */
  readonly look: (ids: ReadonlyArray<TaskId>) => Effect.Effect<void>
}

export const makeHeartbeats = (options: {
  readonly queue: TaskQueue["Service"]
  readonly answers: Answers
  /** The worker's lease in milliseconds; records may have their own. */
  readonly lease: number
  readonly held: () => ReadonlyArray<ClaimedRecord>
  readonly lost: (record: ClaimedRecord) => void
  readonly cancel: (record: ClaimedRecord) => void
  /** The shortest lease of any task, which sets the pace. */
  readonly shortest: number
}): Heartbeats => {
  const every = options.shortest / 3
  const extend = Effect.fnUntraced(function* (lease: number, records: ReadonlyArray<ClaimedRecord>) {
    const outcomes = yield* options.answers.untilAnswered("extend leases", { withinMillis: every })(
      // Asked again, it extends from then on: not from a time that has passed meanwhile.
      Effect.clockWith((clock) => {
        const now = clock.currentTimeMillisUnsafe()
        const leases = records.map(({ id, token }) => ({ id, token }))
        return options.queue.extend({ leases, until: now + lease, now })
      }),
    )
    records.forEach((record, index) => {
      if (outcomes[index] === "LeaseLost") options.lost(record)
      else if (outcomes[index] === "CancelRequested") options.cancel(record)
    })
  })
  const extendAll = Effect.fnUntraced(function* (held: ReadonlyArray<ClaimedRecord>) {
    const byLease = new Map<number, Array<ClaimedRecord>>()
    for (const record of held) {
      const lease = record.lease ?? options.lease
      const same = byLease.get(lease)
      if (same === undefined) byLease.set(lease, [record])
      else same.push(record)
    }
    for (const [lease, records] of byLease) yield* extend(lease, records)
  })
  const warn = (late: number, held: ReadonlyArray<ClaimedRecord>) =>
    Effect.logWarning(
      `nothing of this process ran for ${Math.round(late)} ms: leases of ${options.shortest} ms end when it is that long. Either the ` +
        "machine stood still, or a handler computes without a pause: it should yield now and then (Effect.yieldNow), " +
        "say beforehand how long it takes (TaskContext.extend), or have a longer lease",
    ).pipe(Effect.annotateLogs({ tasks: [...new Set(held.map(({ task }) => task))] }))
  return {
    run: Effect.gen(function* () {
      while (true) {
        // Three chances before a lease ends.
        const due = (yield* Clock.currentTimeMillis) + every
        yield* Effect.sleep(every)
        const late = (yield* Clock.currentTimeMillis) - due
        if (late >= every) yield* warn(late, options.held())
        yield* extendAll(options.held())
      }
    }),
    look: Effect.fnUntraced(function* (ids) {
      const named = new Set(ids)
      const records = options.held().filter(({ id }) => named.has(id))
      if (records.length > 0) yield* extendAll(records)
    }),
  }
}

/**
 * Settlements of which nobody knows whether they happened: the connection broke before the answer. Asked for again, one
 * that did happen finds its lease gone, which is then no loss.
 */
import type { Lease, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import type { Calls } from "./calls.ts"
import { uuids } from "./row.ts"

/** Leases remembered at the most; whoever does not ask again is forgotten by and by. */
const most = 10_000

const keyOf = ({ id, token }: Lease): string => `${id}${token}`

export interface Uncertain {
  /** Remembers these leases when the effect fails so that what was asked may have happened. */
  readonly noting: <A>(
    leases: ReadonlyArray<Lease>,
    settling: Effect.Effect<A, TaskQueueError>,
  ) => Effect.Effect<A, TaskQueueError>
  /** Which of the lost ones were settled by an earlier call, whose answer was lost. What was asked is certain from now on. */
  readonly settled: <Item extends Lease>(
    asked: ReadonlyArray<Item>,
    isLost: (item: Item) => boolean,
  ) => Effect.Effect<ReadonlyArray<Item>, TaskQueueError>
}

export const makeUncertain = (calls: Calls): Uncertain => {
  const leases = new Set<string>()
  // Out of `running`, with the token still that of the lease, a record comes by its settlement or by a crash.
  const text = `SELECT id, token, state = 1 OR (state <> 2 AND ledger->-1->>4 = 'Crash')
    FROM ${calls.schema}.records WHERE id = ANY ($1)`
  return {
    noting: (asked, settling) =>
      Effect.tapError(settling, (error) =>
        Effect.sync(() => {
          if (!error.isRetryable) return
          for (const lease of asked) leases.add(keyOf(lease))
          for (const key of leases) {
            if (leases.size <= most) break
            leases.delete(key)
          }
        }),
      ),
    settled: Effect.fnUntraced(function* (asked, isLost) {
      if (leases.size === 0) return []
      const lost = asked.filter((lease) => leases.delete(keyOf(lease))).filter(isLost)
      if (lost.length === 0) return []
      const rows = yield* Effect.tapError(calls.run("settle", text, [uuids(lost.map(({ id }) => id))]), () =>
        Effect.sync(() => {
          for (const lease of lost) leases.add(keyOf(lease))
        }),
      )
      const found = new Map(rows.map(([id, token, isLost]) => [id, { token, isLost }]))
      return lost.filter(({ id, token }) => {
        const record = found.get(id)
        // One that is not kept has gone with its settlement.
        return record === undefined || (record.token === token && record.isLost !== true)
      })
    }),
  }
}

/**
 * Records that wait for others, for the chapters on joins.
 */
import * as Effect from "effect/Effect"
import { TaskQueue } from "../../TaskQueue.ts"
import type { Join, JoinTally, NewRecord } from "../../TaskRecord.ts"
import { idsOf, record } from "./records.ts"

/** Enqueues a record that waits for so many others, and for `more`; the members come first. */
export const joined = Effect.fnUntraced(function* (
  count: number,
  given: Join,
  fields?: {
    readonly join?: Partial<NewRecord>
    readonly member?: Partial<NewRecord>
    readonly more?: ReadonlyArray<Partial<NewRecord>>
  },
) {
  const queue = yield* TaskQueue
  const join = yield* record({ ...fields?.join, join: given })
  const members = yield* Effect.forEach(
    [...Array.from({ length: count }, () => fields?.member ?? {}), ...(fields?.more ?? [])],
    (each) => record({ ...each, memberOf: join.id }),
  )
  const outcomes = yield* queue.enqueue({ records: [...members, join], now: 0 })
  return { join: join.id, members: idsOf(members), outcomes }
})

export const tallyOf = (join: Join, succeeded: number, cancelled = 0, dead = 0): JoinTally => ({
  ...join,
  succeeded,
  cancelled,
  dead,
})

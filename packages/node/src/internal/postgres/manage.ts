/**
 * What people, and the clock, do to records: cancelling, redriving, and deleting.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type { CancelOutcome, Driver, RedriveOutcome, RemoveOutcome } from "@outlive/deferred/TaskQueue"
import * as Effect from "effect/Effect"
import { type Calls, changesOf } from "./calls.ts"
import { uuids } from "./row.ts"

/** How many of anything one statement of `prune` deletes: locks are held for a moment only. */
const stride = 1000

export const makeManage = (
  calls: Calls,
  by: string,
): Pick<Driver, "cancel" | "redrive" | "remove" | "purge" | "prune"> => {
  const { schema } = calls
  return {
    cancel: Effect.fnUntraced(function* ({ ids, now, reason }) {
      if (ids.length === 0) return []
      const [outcomes, ended, cancelling] = yield* calls.one(
        "cancel",
        `SELECT outcomes, ended, cancelling FROM ${schema}.cancel($1, $2, $3, $4)`,
        // A text of Postgres has no NUL.
        [uuids(ids), PgTypes.text(reason.replaceAll("\0", "\ufffd")), PgTypes.float8(now), by],
      )
      yield* calls.publish(changesOf({ ended, cancelling }))
      return outcomes as ReadonlyArray<CancelOutcome>
    }),
    redrive: Effect.fnUntraced(function* ({ ids, now }) {
      if (ids.length === 0) return []
      const [outcomes, waiting] = yield* calls.one(
        "redrive",
        `SELECT outcomes, waiting FROM ${schema}.redrive($1, $2, $3)`,
        [uuids(ids), PgTypes.float8(now), by],
      )
      yield* calls.publish(changesOf({ waiting }))
      return outcomes as ReadonlyArray<RedriveOutcome>
    }),
    remove: Effect.fnUntraced(function* ({ ids, only }) {
      if (ids.length === 0) return []
      const [outcomes] = yield* calls.one("remove", `SELECT ${schema}.remove($1, $2)`, [uuids(ids), only === "dead"])
      return outcomes as ReadonlyArray<RemoveOutcome>
    }),
    purge: ({ queue }) =>
      Effect.map(calls.one("purge", `SELECT ${schema}.purge($1)`, [queue]), ([count]) => Number(count)),
    prune: Effect.fnUntraced(function* ({ deadBefore, limit, now }) {
      let count = 0
      for (let left = limit; left > 0; left -= stride) {
        const [pruned, isMore] = yield* calls.one("prune", `SELECT pruned, is_more FROM ${schema}.prune($1, $2, $3)`, [
          PgTypes.float8(now),
          PgTypes.float8(deadBefore),
          PgTypes.int8(BigInt(Math.min(stride, left))),
        ])
        count += Number(pruned)
        if (isMore !== true) break
      }
      return count
    }),
  }
}

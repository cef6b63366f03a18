/**
 * What people, and the clock, do to records: cancelling, redriving, and deleting.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type { CancelOutcome, Driver, RedriveOutcome, RemoveOutcome } from "@outlive/deferred/TaskQueue"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { type Calls, changesOf, endNames, endsOf } from "./calls.ts"
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
      const [outcomes, ...ends] = yield* calls.one(
        "cancel",
        `SELECT outcomes, ${endNames("e")} FROM ${schema}.cancel($1, $2, $3, $4)`,
        // A text of Postgres has no NUL.
        [uuids(ids), PgTypes.text(reason.replaceAll("\0", "\ufffd")), PgTypes.float8(now), by],
      )
      yield* calls.publish(changesOf(endsOf(ends)))
      return outcomes as ReadonlyArray<CancelOutcome>
    }),
    redrive: Effect.fnUntraced(function* ({ ids, now }) {
      if (ids.length === 0) return []
      const [outcomes, ...ends] = yield* calls.one(
        "redrive",
        `SELECT outcomes, ${endNames("e")} FROM ${schema}.redrive($1, $2, $3)`,
        [uuids(ids), PgTypes.float8(now), by],
      )
      yield* calls.publish(changesOf(endsOf(ends)))
      return outcomes as ReadonlyArray<RedriveOutcome>
    }),
    // What removing means for records that wait for others happens now, by the clock: it has no time of its own.
    remove: Effect.fnUntraced(function* ({ ids, only }) {
      if (ids.length === 0) return []
      const [outcomes, ...ends] = yield* calls.one(
        "remove",
        `SELECT outcomes, ${endNames("e")} FROM ${schema}.remove($1, $2, $3, $4)`,
        [uuids(ids), only === "dead", PgTypes.float8(yield* Clock.currentTimeMillis), by],
      )
      yield* calls.publish(changesOf(endsOf(ends)))
      return outcomes as ReadonlyArray<RemoveOutcome>
    }),
    purge: Effect.fnUntraced(function* ({ queue }) {
      const [count, ...ends] = yield* calls.one(
        "purge",
        `SELECT purged, ${endNames("e")} FROM ${schema}.purge($1, $2, $3)`,
        [queue, PgTypes.float8(yield* Clock.currentTimeMillis), by],
      )
      yield* calls.publish(changesOf(endsOf(ends)))
      return Number(count)
    }),
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

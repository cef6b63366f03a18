/**
 * What single keys may do, how they are, and pauses.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type { KeyOverride } from "@outlive/deferred/KeyLimits"
import type { Driver } from "@outlive/deferred/TaskQueue"
import * as TokenBucket from "@outlive/deferred/TokenBucket"
import * as Effect from "effect/Effect"
import { type Calls, changesOf } from "./calls.ts"
import type { Row } from "./row.ts"

const float = (value: number | undefined) => PgTypes.float8(value ?? null)
const orUndefined = (value: unknown): number | undefined => (value === null ? undefined : (value as number))

export const makeKeys = (calls: Calls, by: string): Pick<Driver, "configureKey" | "keyStatistics" | "pauseUntil"> => {
  const { schema } = calls
  return {
    configureKey: Effect.fnUntraced(function* ({ key, now, override, queue }) {
      yield* calls.run("configureKey", `SELECT ${schema}.configure_key($1, $2, $3, $4, $5, $6, $7, $8)`, [
        queue,
        key,
        float(override.maxConcurrent),
        float(override.rate),
        float(override.burst),
        float(override.weight),
        float(now),
        by,
      ])
      yield* calls.publish(changesOf({ waiting: [queue] }))
    }),
    pauseUntil: Effect.fnUntraced(function* ({ key, now, queue, until }) {
      yield* calls.run(
        "pauseUntil",
        `SELECT ${schema}.pause_until($1, $2, $3, false, $4), ${schema}.tell($5, ARRAY[$1::text], NULL, NULL, NULL)`,
        [queue, PgTypes.text(key ?? null), float(until), float(now), by],
      )
      yield* calls.publish(changesOf({ waiting: [queue] }))
    }),
    keyStatistics: Effect.fnUntraced(function* ({ key, now, queue }) {
      const row = yield* calls.one(
        "keyStatistics",
        `SELECT w.waiting, w.ready, r.running, k.paused_until, k.max_concurrent, k.rate, k.burst, k.weight,
           k.tokens, k.tokens_at, q.key_rate, q.key_burst
         FROM (SELECT count(*) AS waiting, count(*) FILTER (WHERE eta <= $3) AS ready
             FROM ${schema}.records WHERE state = 0 AND key IS NOT NULL AND queue = $1 AND key = $2) w
           CROSS JOIN (SELECT count(*) AS running
             FROM ${schema}.records WHERE state = 1 AND key IS NOT NULL AND queue = $1 AND key = $2) r
           LEFT JOIN ${schema}.keys k ON k.queue = $1 AND k.key = $2
           LEFT JOIN ${schema}.queues q ON q.queue = $1`,
        [queue, key, float(now)],
      )
      const [waiting, ready, inFlight, pausedUntil, maxConcurrent, rate, burst, weight] = row
      const said = Object.entries({ maxConcurrent, rate, burst, weight }).filter(([, value]) => value !== null)
      return {
        waiting: Number(waiting),
        ready: Number(ready),
        inFlight: Number(inFlight),
        pausedUntil: pausedUntil !== null && (pausedUntil as number) > now ? (pausedUntil as number) : undefined,
        nextTokenAt: nextTokenAt(row, now),
        override: Object.fromEntries(said) as KeyOverride,
      }
    }),
  }
}

/** A key of which no bucket is known has a full one. */
const nextTokenAt = (row: Row, now: number): number | undefined => {
  const [ownRate, ownBurst, , tokens, at, keyRate, keyBurst] = row.slice(5)
  const rate = orUndefined(ownRate) ?? orUndefined(keyRate)
  if (rate === undefined || rate === 0 || rate === Number.POSITIVE_INFINITY) return undefined
  const limit = { rate, burst: orUndefined(ownBurst) ?? orUndefined(keyBurst) ?? 5 }
  const bucket =
    tokens === null
      ? TokenBucket.full(limit, now)
      : TokenBucket.refill({ tokens: tokens as number, at: at as number }, limit, now)
  const next = TokenBucket.nextAt(bucket, limit)
  return next === undefined ? undefined : Math.max(now, next)
}

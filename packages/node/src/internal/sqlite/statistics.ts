/**
 * A queue and a key at a glance. Looks at every index entry of what waits and runs in it, and at no record.
 */
import type { DatabaseSync } from "node:sqlite"
import type { KeyStatistics } from "@outlive/deferred/KeyLimits"
import type { QueueStatistics } from "@outlive/deferred/QueueLimits"
import * as TokenBucket from "@outlive/deferred/TokenBucket"
import type { Executed } from "./executed.ts"
import { type KeyRows, keyBucketOf, keyRateOf, overrideOf } from "./keyLimits.ts"
import type { Limits } from "./limits.ts"
import { ofTurn } from "./schema.ts"

interface WaitingRow {
  readonly waiting: number
  readonly ready: number
  /** `null` when none is known: what is held back has none. */
  readonly oldest: number | null
}

const ahead = (time: number | null | undefined, now: number): number | undefined =>
  time !== null && time !== undefined && time > now ? time : undefined

export const makeStatistics = (
  db: DatabaseSync,
  limits: Limits,
  executed: Executed,
): ((queue: string, now: number) => QueueStatistics) => {
  const sums = `count(*) AS waiting, coalesce(sum(eta <= ?), 0) AS ready, min(eta) FILTER (WHERE eta < 9e999) AS oldest`
  const countPlain = db.prepare(
    `SELECT ${sums} FROM outlive_records INDEXED BY outlive_waiting WHERE state = 0 AND turn = 0 AND queue = ?`,
  )
  const countKeyed = db.prepare(
    `SELECT ${sums} FROM outlive_lanes
     CROSS JOIN outlive_turns INDEXED BY outlive_turn_order ON outlive_turns.lane = outlive_lanes.lane
     CROSS JOIN outlive_records INDEXED BY outlive_keyed
       ON ${ofTurn("outlive_turns.turn")} 0
     WHERE outlive_lanes.queue = ?`,
  )
  return (queue, now) => {
    const plain = countPlain.get(now, queue) as unknown as WaitingRow
    const keyed = countKeyed.get(now, queue) as unknown as WaitingRow
    const oldest = Math.min(plain.oldest ?? Number.POSITIVE_INFINITY, keyed.oldest ?? Number.POSITIVE_INFINITY)
    return {
      waiting: plain.waiting + keyed.waiting,
      ready: plain.ready + keyed.ready,
      oldestEta: oldest === Number.POSITIVE_INFINITY ? undefined : oldest,
      inFlight: limits.running(queue),
      executedLastMinute: executed.lastMinute(queue, now),
      nextTokenAt: limits.nextTokenAt(queue, now),
      pausedUntil: ahead(limits.pausedUntil(queue), now),
    }
  }
}

interface KeyCountRow {
  readonly waiting: number
  readonly ready: number
  readonly running: number
}

export const makeKeyStatistics = (
  db: DatabaseSync,
  limits: Limits,
  keyRows: KeyRows,
): ((queue: string, key: string, now: number) => KeyStatistics) => {
  const inState = `FROM outlive_records INDEXED BY outlive_keyed WHERE ${ofTurn("outlive_turns.turn")}`
  const count = db.prepare(
    `SELECT coalesce(sum(waiting), 0) AS waiting, coalesce(sum(ready), 0) AS ready, coalesce(sum(running), 0) AS running
     FROM (SELECT
       (SELECT count(*) ${inState} 0) AS waiting,
       (SELECT sum(eta <= ?1) ${inState} 0) AS ready,
       (SELECT count(*) ${inState} 1) AS running
       FROM outlive_turns WHERE queue = ?2 AND key = ?3)`,
  )
  const tokenAt = (bucket: TokenBucket.TokenBucket, rate: TokenBucket.Rate, now: number): number | undefined => {
    const at = rate.rate === 0 ? undefined : TokenBucket.nextAt(bucket, rate)
    return at === undefined ? undefined : Math.max(now, at)
  }
  return (queue, key, now) => {
    const { ready, running, waiting } = count.get(now, queue, key) as unknown as KeyCountRow
    const known = keyRows.get(queue, key)
    const rate = keyRateOf(limits.byKey(queue), known)
    return {
      waiting,
      ready,
      inFlight: running,
      pausedUntil: ahead(known.paused_until, now),
      nextTokenAt: rate && tokenAt(keyBucketOf(known, rate, now), rate, now),
      override: overrideOf(known),
    }
  }
}

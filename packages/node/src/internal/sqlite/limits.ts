/**
 * The limits of queues and the state of their token buckets: one row for every queue that was ever configured.
 */
import type { DatabaseSync } from "node:sqlite"
import { type KeyLimits, unlimited as keysUnlimited } from "@outlive/deferred/KeyLimits"
import { type QueueLimits, unlimited } from "@outlive/deferred/QueueLimits"
import * as TokenBucket from "@outlive/deferred/TokenBucket"
import type { Touched } from "./touched.ts"

interface QueueRow {
  readonly paused: number
  readonly rate: number | null
  readonly burst: number
  readonly max_concurrent: number | null
  readonly tokens: number
  readonly tokens_at: number
  readonly ageing: number | null
  readonly paused_until: number | null
  /** `null`: no record of the queue ever had a key. */
  readonly fair_time: number | null
  readonly plain_place: number
  readonly key_max_concurrent: number | null
  readonly key_rate: number | null
  readonly key_burst: number
  readonly key_ordered: number
}

/** Where the turns of a queue's keys stand. */
export interface Fair {
  readonly time: number
  /** Of the records without a key. */
  readonly plainPlace: number
  readonly byKey: KeyLimits
}

/** What a claim has to keep to. */
export interface Allowance {
  /** How many attempts may start now. */
  readonly count: number
  /** Whether a `maxConcurrent` slot is free. */
  readonly hasSlot: boolean
  /** When the next rate token is there, or -Infinity without a rate; `undefined`: nothing starts by itself. */
  readonly tokenAt: number | undefined
  /** As `QueueLimits.ageing`: the order of claims. */
  readonly ageing: number | undefined
  /** `undefined`: its records never had keys. */
  readonly fair: Fair | undefined
}

export interface Limits {
  readonly get: (queue: string) => QueueLimits
  readonly configure: (queue: string, limits: Partial<QueueLimits>, now: number) => void
  /** Whether the queue has records with keys, or had. */
  readonly isKeyed: (queue: string) => boolean
  /** What may start of the queue now. `undefined`: it has no limits. */
  readonly allowance: (queue: string, now: number) => Allowance | undefined
  /** Counts started attempts against the rate, and says what is allowed then. */
  readonly started: (queue: string, count: number, now: number) => Allowance
  /** The turns went on. */
  readonly moved: (queue: string, fair: Fair) => void
  /** A record of the queue has a key. */
  readonly keyed: (queue: string) => void
  readonly byKey: (queue: string) => KeyLimits
  /** Its virtual time, 0 at first. */
  readonly time: (queue: string) => number
  readonly pause: (queue: string, until: number) => void
  /** The same, but never shorter than it was. */
  readonly pauseLonger: (queue: string, until: number) => void
  readonly pausedUntil: (queue: string) => number | undefined
  /** When the rate next allows a start: now or later, `undefined` without a rate or when it is 0. */
  readonly nextTokenAt: (queue: string, now: number) => number | undefined
  /** How many of the queue's records are running. */
  readonly running: (queue: string) => number
  /** Whether the queue has a `maxConcurrent`, so that an end makes room for another start. */
  readonly hasSlots: (queue: string) => boolean
}

const toByKey = (row: QueueRow): KeyLimits => ({
  maxConcurrent: row.key_max_concurrent ?? undefined,
  rate: row.key_rate ?? undefined,
  burst: row.key_burst,
  ordered: row.key_ordered === 1,
})

const rateOf = (row: { readonly rate: number | null | undefined; readonly burst: number }) =>
  row.rate === null || row.rate === undefined ? undefined : { rate: row.rate, burst: row.burst }

export const makeLimits = (db: DatabaseSync, touched: Touched): Limits => {
  const find = db.prepare(
    `SELECT paused, rate, burst, max_concurrent, tokens, tokens_at, ageing, paused_until, fair_time, plain_place,
       key_max_concurrent, key_rate, key_burst, key_ordered FROM outlive_queues WHERE queue = ?`,
  )
  // A queue of which only this is known has no other limits.
  const add = db.prepare(
    `INSERT INTO outlive_queues (queue, paused, burst, tokens, tokens_at) VALUES (?, 0, ${unlimited.burst}, 0, 0)
     ON CONFLICT DO NOTHING`,
  )
  const written = [
    "paused",
    "rate",
    "burst",
    "max_concurrent",
    "tokens",
    "tokens_at",
    "ageing",
    "key_max_concurrent",
    "key_rate",
    "key_burst",
    "key_ordered",
  ]
  const write = db.prepare(
    `UPDATE outlive_queues SET ${written.map((column) => `${column} = ?`).join(", ")} WHERE queue = ?`,
  )
  const isKeyed = db.prepare("SELECT 1 FROM outlive_queues WHERE queue = ? AND fair_time IS NOT NULL")
  const setKeyed = db.prepare("UPDATE outlive_queues SET fair_time = 0 WHERE queue = ? AND fair_time IS NULL")
  const move = db.prepare("UPDATE outlive_queues SET fair_time = ?, plain_place = ? WHERE queue = ?")
  const pause = db.prepare("UPDATE outlive_queues SET paused_until = ? WHERE queue = ?")
  const spend = db.prepare("UPDATE outlive_queues SET tokens = ?, tokens_at = ? WHERE queue = ?")
  const countRunning = db.prepare("SELECT count(*) AS running FROM outlive_records WHERE state = 1 AND queue = ?")
  const maxConcurrent = db.prepare("SELECT 1 FROM outlive_queues WHERE queue = ? AND max_concurrent IS NOT NULL")

  const rowOf = (queue: string) => find.get(queue) as QueueRow | undefined
  const bucketOf = (row: QueueRow) => ({ tokens: row.tokens, at: row.tokens_at })
  const toLimits = (row: QueueRow | undefined): QueueLimits =>
    row === undefined
      ? unlimited
      : {
          paused: row.paused === 1,
          rate: row.rate ?? undefined,
          burst: row.burst,
          maxConcurrent: row.max_concurrent ?? undefined,
          ageing: row.ageing ?? undefined,
          byKey: toByKey(row),
        }
  const fairOf = (row: QueueRow): Fair | undefined =>
    row.fair_time === null ? undefined : { time: row.fair_time, plainPlace: row.plain_place, byKey: toByKey(row) }
  const running = (queue: string): number => (countRunning.get(queue) as { readonly running: number }).running
  const allow = (queue: string, row: QueueRow, bucket: TokenBucket.TokenBucket, now: number): Allowance => {
    const ageing = row.ageing ?? undefined
    const fair = fairOf(row)
    if (row.paused === 1 || row.rate === 0) return { count: 0, hasSlot: false, tokenAt: undefined, ageing, fair }
    const rate = rateOf(row)
    const tokens = rate === undefined ? Number.POSITIVE_INFINITY : TokenBucket.available(bucket)
    const slots = row.max_concurrent === null ? Number.POSITIVE_INFINITY : row.max_concurrent - running(queue)
    const tokenAt = rate === undefined ? Number.NEGATIVE_INFINITY : TokenBucket.nextAt(bucket, rate)
    const hasSlot = slots > 0
    if (row.paused_until !== null && now < row.paused_until) {
      const at = tokenAt === undefined ? undefined : Math.max(tokenAt, row.paused_until)
      return { count: 0, hasSlot, tokenAt: at, ageing, fair }
    }
    return { count: Math.max(0, Math.floor(Math.min(tokens, slots))), hasSlot, tokenAt, ageing, fair }
  }
  const refilled = (row: QueueRow, now: number): TokenBucket.TokenBucket => {
    const rate = rateOf(row)
    return rate === undefined ? bucketOf(row) : TokenBucket.refill(bucketOf(row), rate, now)
  }

  return {
    get: (queue) => toLimits(rowOf(queue)),
    configure: (queue, changes, now) => {
      const row = rowOf(queue)
      const limits = { ...toLimits(row), ...changes }
      const before = row === undefined ? undefined : rateOf(row)
      const after = rateOf({ rate: limits.rate, burst: limits.burst })
      // A first rate starts with a full bucket; a changed one keeps what was gathered under the old.
      const bucket =
        row !== undefined && before !== undefined
          ? TokenBucket.refill(bucketOf(row), before, now)
          : after === undefined
            ? { tokens: 0, at: now }
            : TokenBucket.full(after, now)
      const { byKey } = limits
      add.run(queue)
      write.run(
        limits.paused ? 1 : 0,
        limits.rate ?? null,
        limits.burst,
        limits.maxConcurrent ?? null,
        bucket.tokens,
        bucket.at,
        limits.ageing ?? null,
        byKey.maxConcurrent ?? null,
        byKey.rate ?? null,
        byKey.burst,
        byKey.ordered ? 1 : 0,
        queue,
      )
      touched.waiting(queue)
    },
    isKeyed: (queue) => isKeyed.get(queue) !== undefined,
    allowance: (queue, now) => {
      const row = rowOf(queue)
      return row === undefined ? undefined : allow(queue, row, refilled(row, now), now)
    },
    started: (queue, count, now) => {
      const row = rowOf(queue)!
      const bucket = refilled(row, now)
      const left = { ...bucket, tokens: bucket.tokens - count }
      if (row.rate !== null) spend.run(left.tokens, left.at, queue)
      return allow(queue, row, left, now)
    },
    moved: (queue, { plainPlace, time }) => {
      move.run(time, plainPlace, queue)
    },
    keyed: (queue) => {
      if (isKeyed.get(queue) !== undefined) return
      add.run(queue)
      setKeyed.run(queue)
    },
    byKey: (queue) => {
      const row = rowOf(queue)
      return row === undefined ? keysUnlimited : toByKey(row)
    },
    time: (queue) => rowOf(queue)?.fair_time ?? 0,
    pause: (queue, until) => {
      add.run(queue)
      pause.run(until, queue)
    },
    pauseLonger: (queue, until) => {
      add.run(queue)
      pause.run(Math.max(until, rowOf(queue)?.paused_until ?? until), queue)
    },
    pausedUntil: (queue) => rowOf(queue)?.paused_until ?? undefined,
    nextTokenAt: (queue, now) => {
      const row = rowOf(queue)
      const rate = row === undefined ? undefined : rateOf(row)
      if (row === undefined || rate === undefined || rate.rate === 0) return undefined
      const at = TokenBucket.nextAt(refilled(row, now), rate)
      return at === undefined ? undefined : Math.max(now, at)
    },
    running,
    hasSlots: (queue) => maxConcurrent.get(queue) !== undefined,
  }
}

/**
 * The limits of queues and the state of their token buckets: one row for every queue that was ever configured.
 */
import type { DatabaseSync } from "node:sqlite"
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
}

export interface Limits {
  readonly get: (queue: string) => QueueLimits
  readonly configure: (queue: string, limits: Partial<QueueLimits>, now: number) => void
  /** What may start of the queue now. `undefined`: it has no limits. */
  readonly allowance: (queue: string, now: number) => Allowance | undefined
  /** Counts started attempts against the rate, and says what is allowed then. */
  readonly started: (queue: string, count: number, now: number) => Allowance
  /** When the rate next allows a start: now or later, `undefined` without a rate or when it is 0. */
  readonly nextTokenAt: (queue: string, now: number) => number | undefined
  /** How many of the queue's records are running. */
  readonly running: (queue: string) => number
  /** Whether the queue has a `maxConcurrent`, so that an end makes room for another start. */
  readonly hasSlots: (queue: string) => boolean
}

const rateOf = (row: { readonly rate: number | null | undefined; readonly burst: number }) =>
  row.rate === null || row.rate === undefined ? undefined : { rate: row.rate, burst: row.burst }

export const makeLimits = (db: DatabaseSync, touched: Touched): Limits => {
  const find = db.prepare(
    "SELECT paused, rate, burst, max_concurrent, tokens, tokens_at, ageing FROM outlive_queues WHERE queue = ?",
  )
  const write = db.prepare(
    `INSERT OR REPLACE INTO outlive_queues (queue, paused, rate, burst, max_concurrent, tokens, tokens_at, ageing)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
  )
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
        }
  const running = (queue: string): number => (countRunning.get(queue) as { readonly running: number }).running
  const allow = (queue: string, row: QueueRow, bucket: TokenBucket.TokenBucket): Allowance => {
    const ageing = row.ageing ?? undefined
    if (row.paused === 1 || row.rate === 0) return { count: 0, hasSlot: false, tokenAt: undefined, ageing }
    const rate = rateOf(row)
    const tokens = rate === undefined ? Number.POSITIVE_INFINITY : TokenBucket.available(bucket)
    const slots = row.max_concurrent === null ? Number.POSITIVE_INFINITY : row.max_concurrent - running(queue)
    return {
      count: Math.max(0, Math.floor(Math.min(tokens, slots))),
      hasSlot: slots > 0,
      tokenAt: rate === undefined ? Number.NEGATIVE_INFINITY : TokenBucket.nextAt(bucket, rate),
      ageing,
    }
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
      write.run(
        queue,
        limits.paused ? 1 : 0,
        limits.rate ?? null,
        limits.burst,
        limits.maxConcurrent ?? null,
        bucket.tokens,
        bucket.at,
        limits.ageing ?? null,
      )
      touched.waiting(queue)
    },
    allowance: (queue, now) => {
      const row = rowOf(queue)
      return row === undefined ? undefined : allow(queue, row, refilled(row, now))
    },
    started: (queue, count, now) => {
      const row = rowOf(queue)!
      const bucket = refilled(row, now)
      const left = { ...bucket, tokens: bucket.tokens - count }
      if (row.rate !== null) spend.run(left.tokens, left.at, queue)
      return allow(queue, row, left)
    },
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

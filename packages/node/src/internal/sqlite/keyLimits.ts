/**
 * What is known of single keys: what was said for one alone, a pause, and what its rate has left. A key of which nothing is
 * known has no row.
 */
import type { DatabaseSync } from "node:sqlite"
import type { KeyLimits, KeyOverride } from "@outlive/deferred/KeyLimits"
import * as TokenBucket from "@outlive/deferred/TokenBucket"
import type { Steps } from "./groupCommit.ts"
import { limitTo } from "./limitTo.ts"

/** A row of `knownColumns`; all `null` of a key without one. */
export interface Known {
  readonly max_concurrent: number | null
  readonly rate: number | null
  readonly burst: number | null
  readonly weight: number | null
  readonly paused_until: number | null
  readonly tokens: number | null
  readonly tokens_at: number | null
}

export const knownColumns = [
  "max_concurrent",
  "rate",
  "burst",
  "weight",
  "paused_until",
  "tokens",
  "tokens_at",
] as const satisfies ReadonlyArray<keyof Known>

export const nothingKnown: Known = {
  max_concurrent: null,
  rate: null,
  burst: null,
  weight: null,
  paused_until: null,
  tokens: null,
  tokens_at: null,
}

const finite = (limit: number | undefined): number | undefined =>
  limit === Number.POSITIVE_INFINITY ? undefined : limit

/** What holds for a key in a queue with these limits. */
export const maxConcurrentOf = (byKey: KeyLimits, known: Known): number =>
  known.max_concurrent ?? byKey.maxConcurrent ?? Number.POSITIVE_INFINITY

/** A rate of 0 has no tokens, ever. */
export const keyRateOf = (byKey: KeyLimits, known: Known): TokenBucket.Rate | undefined => {
  const rate = finite(known.rate ?? byKey.rate)
  return rate === undefined ? undefined : { rate, burst: known.burst ?? byKey.burst }
}

/** A bucket of which nothing is known is full. */
export const keyBucketOf = (known: Known, rate: TokenBucket.Rate, now: number): TokenBucket.TokenBucket =>
  known.tokens === null
    ? TokenBucket.full(rate, now)
    : TokenBucket.refill({ tokens: known.tokens, at: known.tokens_at! }, rate, now)

/** Rows that one step changes. */
const stride = 50

export interface KeyRows {
  readonly get: (queue: string, key: string) => Known
  /** Whether anything is known of any key of the queue. */
  readonly hasAny: (queue: string) => boolean
  /** Instead of what was said for it before. */
  readonly override: (queue: string, key: string, override: KeyOverride) => void
  readonly pause: (queue: string, key: string, until: number) => void
  /** The same, but never shorter than it was. */
  readonly pauseLonger: (queue: string, key: string, until: number) => void
  /** What a rate has left after a start. */
  readonly spend: (queue: string, key: string, bucket: TokenBucket.TokenBucket, rate: TokenBucket.Rate) => void
  /** The limits of a queue's keys are others: what is known of them is over at other times. */
  readonly lookAgain: (queue: string) => Steps<void>
  /** Keys of which it is time to see whether nothing is known any more, at most so many. */
  readonly due: (now: number, most: number) => ReadonlyArray<KeyRow>
  /** Nothing is known of it. */
  readonly forget: (row: KeyRow) => void
  /** Something is: not to be looked at before a time, or before something is changed. */
  readonly lookAt: (row: KeyRow, until: number | null) => void
}

export interface KeyRow extends Known {
  readonly queue: string
  readonly key: string
}

export const hasOverride = ({ burst, max_concurrent, rate, weight }: Known): boolean =>
  burst !== null || max_concurrent !== null || rate !== null || weight !== null

export const overrideOf = ({ burst, max_concurrent, rate, weight }: Known): KeyOverride => ({
  ...(max_concurrent === null ? {} : { maxConcurrent: max_concurrent }),
  ...(rate === null ? {} : { rate }),
  ...(burst === null ? {} : { burst }),
  ...(weight === null ? {} : { weight }),
})

export const makeKeyRows = (db: DatabaseSync): KeyRows => {
  const get = db.prepare(`SELECT ${knownColumns.join(", ")} FROM outlive_keys WHERE queue = ? AND key = ?`)
  const hasAny = db.prepare("SELECT 1 FROM outlive_keys WHERE queue = ? LIMIT 1")
  const override = db.prepare(
    `INSERT INTO outlive_keys (queue, key, max_concurrent, rate, burst, weight, until) VALUES (?, ?, ?, ?, ?, ?, 0)
     ON CONFLICT (queue, key) DO UPDATE SET max_concurrent = excluded.max_concurrent, rate = excluded.rate,
       burst = excluded.burst, weight = excluded.weight, until = 0`,
  )
  const pause = db.prepare(
    `INSERT INTO outlive_keys (queue, key, paused_until, until) VALUES (?1, ?2, ?3, ?3)
     ON CONFLICT (queue, key) DO UPDATE SET paused_until = excluded.paused_until, until = excluded.until`,
  )
  const pauseLonger = db.prepare(
    `INSERT INTO outlive_keys (queue, key, paused_until, until) VALUES (?1, ?2, ?3, ?3)
     ON CONFLICT (queue, key) DO UPDATE SET paused_until = excluded.paused_until
       WHERE paused_until IS NULL OR paused_until < excluded.paused_until`,
  )
  const spend = db.prepare(
    `INSERT INTO outlive_keys (queue, key, tokens, tokens_at, until) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (queue, key) DO UPDATE SET tokens = excluded.tokens, tokens_at = excluded.tokens_at, until = excluded.until`,
  )
  const nextKeys = db.prepare(`SELECT key FROM outlive_keys WHERE queue = ? AND key > ? ORDER BY key LIMIT ${stride}`)
  const lookAgain = db.prepare("UPDATE outlive_keys SET until = 0 WHERE queue = ? AND key > ? AND key <= ?")
  const due = db.prepare(
    `SELECT queue, key, ${knownColumns.join(", ")} FROM outlive_keys WHERE until <= ? ORDER BY until ${limitTo()}`,
  )
  const forget = db.prepare("DELETE FROM outlive_keys WHERE queue = ? AND key = ?")
  const lookAt = db.prepare("UPDATE outlive_keys SET until = ? WHERE queue = ? AND key = ?")
  return {
    get: (queue, key) => (get.get(queue, key) as Known | undefined) ?? nothingKnown,
    hasAny: (queue) => hasAny.get(queue) !== undefined,
    override: (queue, key, { burst, maxConcurrent, rate, weight }) => {
      override.run(queue, key, maxConcurrent ?? null, rate ?? null, burst ?? null, weight ?? null)
    },
    pause: (queue, key, until) => {
      pause.run(queue, key, until)
    },
    pauseLonger: (queue, key, until) => {
      pauseLonger.run(queue, key, until)
    },
    spend: (queue, key, { at, tokens }, { burst, rate }) => {
      spend.run(queue, key, tokens, at, rate > 0 ? at + ((burst - tokens) * 1000) / rate : null)
    },
    lookAgain: function* (queue) {
      let after = ""
      while (true) {
        const keys = nextKeys.all(queue, after) as unknown as ReadonlyArray<{ readonly key: string }>
        const last = keys.at(-1)
        if (last === undefined) return
        lookAgain.run(queue, after, last.key)
        if (keys.length < stride) return
        after = last.key
        yield
      }
    },
    due: (now, most) => due.all(now, most) as unknown as ReadonlyArray<KeyRow>,
    forget: ({ key, queue }) => {
      forget.run(queue, key)
    },
    lookAt: ({ key, queue }, until) => {
      lookAt.run(until, queue, key)
    },
  }
}

/**
 * The token bucket behind a queue's rate: it holds at most `burst` tokens, gains `rate` of them a second, and every
 * started attempt costs one (App Engine's `rate` and `bucket_size`, Q130-Q137). Pure functions of the time given, for
 * drivers: a bucket is two numbers that can be stored.
 *
 * @since 0.1.0
 */

/** @since 0.1.0 */
export interface TokenBucket {
  readonly tokens: number
  /** When `tokens` was true, in milliseconds. */
  readonly at: number
}

/** @since 0.1.0 */
export interface Rate {
  /** Tokens per second. */
  readonly rate: number
  readonly burst: number
}

/** @since 0.1.0 */
export const full = (rate: Rate, now: number): TokenBucket => ({ tokens: rate.burst, at: now })

/** The bucket at a later time. A clock that moved back gains nothing and loses nothing. @since 0.1.0 */
export const refill = (bucket: TokenBucket, { burst, rate }: Rate, now: number): TokenBucket =>
  now <= bucket.at
    ? { tokens: Math.min(burst, bucket.tokens), at: bucket.at }
    : { tokens: Math.min(burst, bucket.tokens + ((now - bucket.at) * rate) / 1000), at: now }

/** Whole tokens; a hair below one is one, so that `nextAt` is a time at which there is one. @since 0.1.0 */
export const available = (bucket: TokenBucket): number => Math.max(0, Math.floor(bucket.tokens + 1e-9))

/** @since 0.1.0 */
export const take = (bucket: TokenBucket, count: number): TokenBucket => ({ ...bucket, tokens: bucket.tokens - count })

/** When there will be a token: `-Infinity` when there is one, `undefined` when never. @since 0.1.0 */
export const nextAt = (bucket: TokenBucket, { rate }: Rate): number | undefined => {
  // Not `bucket.at`: who looks may have a clock that is behind the one that filled it.
  if (available(bucket) >= 1) return Number.NEGATIVE_INFINITY
  return rate > 0 ? Math.ceil(bucket.at + ((1 - bucket.tokens) * 1000) / rate) : undefined
}

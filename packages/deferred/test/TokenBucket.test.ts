import { assert, describe, it } from "@effect/vitest"
import * as TokenBucket from "@outlive/deferred/TokenBucket"
import { Effect, Schema } from "effect"

const Positive = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 50 }))
const Moment = Schema.Struct({
  after: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5000 })),
  wanted: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60 })),
})

describe("TokenBucket", () => {
  it.effect.prop(
    "never lets more start in any stretch of time than its burst and what the rate brings meanwhile",
    { rate: Positive, burst: Positive, moments: Schema.Array(Moment) },
    ({ burst, moments, rate }) =>
      Effect.sync(() => {
        const limits = { rate, burst }
        let now = 0
        let bucket = TokenBucket.full(limits, now)
        const starts: Array<{ readonly at: number; readonly count: number }> = []
        for (const { after, wanted } of moments) {
          now += after
          bucket = TokenBucket.refill(bucket, limits, now)
          const count = Math.min(wanted, TokenBucket.available(bucket))
          bucket = TokenBucket.take(bucket, count)
          starts.push({ at: now, count })
        }
        starts.forEach((from, begin) => {
          let total = 0
          for (const { at, count } of starts.slice(begin)) {
            total += count
            assert.isAtMost(total, burst + ((at - from.at) * rate) / 1000 + 1e-6)
          }
        })
      }),
  )

  it.effect.prop(
    "has a token at the time it names, and none a millisecond before",
    { rate: Positive, taken: Positive },
    ({ rate, taken }) =>
      Effect.sync(() => {
        const limits = { rate, burst: taken }
        const empty = TokenBucket.take(TokenBucket.full(limits, 0), taken)
        const at = TokenBucket.nextAt(empty, limits)
        assert.isDefined(at)
        assert.strictEqual(TokenBucket.available(TokenBucket.refill(empty, limits, at!)), 1)
        assert.strictEqual(TokenBucket.available(TokenBucket.refill(empty, limits, at! - 1)), 0)
      }),
  )

  it("is never filled at a rate of zero, and loses nothing when the clock moves back", () => {
    const empty = TokenBucket.take(TokenBucket.full({ rate: 0, burst: 1 }, 0), 1)
    assert.isUndefined(TokenBucket.nextAt(empty, { rate: 0, burst: 1 }))
    const half = { tokens: 0.5, at: 1000 }
    assert.deepStrictEqual(TokenBucket.refill(half, { rate: 1, burst: 1 }, 500), half)
    // A token that is there is there for every clock.
    assert.strictEqual(TokenBucket.nextAt({ tokens: 1, at: 1000 }, { rate: 1, burst: 1 }), Number.NEGATIVE_INFINITY)
  })
})

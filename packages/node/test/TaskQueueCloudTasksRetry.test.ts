import { assert, describe, it } from "@effect/vitest"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import { retryConfig } from "@outlive/node/TaskQueueCloudTasks"
import { Effect, Result, Schema } from "effect"

const of = (policy: RetryPolicy.RetryPolicyData) => Result.getOrThrow(retryConfig(policy))
const problem = (policy: RetryPolicy.RetryPolicyData) => {
  const result = retryConfig(policy)
  return Result.isFailure(result) ? result.failure : undefined
}
const { appEngine, exponential, fixed } = RetryPolicy

describe("retryConfig", () => {
  const cases: ReadonlyArray<[string, RetryPolicy.RetryPolicyData, Partial<ReturnType<typeof of>>]> = [
    ["App Engine's defaults, for ever (Q81)", appEngine(), { maxAttempts: -1, maxRetryDuration: 0, maxBackoff: 3600 }],
    ["no retry is one attempt (Q87)", appEngine({ retryLimit: 0 }), { maxAttempts: 1, maxRetryDuration: 0 }],
    ["five retries are six attempts (Q87)", appEngine({ retryLimit: 5 }), { maxAttempts: 6, maxRetryDuration: 0 }],
    ["attempts are attempts", appEngine({ maxAttempts: 6 }), { maxAttempts: 6, maxRetryDuration: 0 }],
    ["the lower of two limits of attempts", appEngine({ maxAttempts: 3, retryLimit: 9 }), { maxAttempts: 3 }],
    ["the lower of two, the other way", appEngine({ maxAttempts: 30, retryLimit: 9 }), { maxAttempts: 10 }],
    ["an age alone", appEngine({ ageLimit: "2 hours" }), { maxAttempts: 1, maxRetryDuration: 7200 }],
    ["a greatest age alone", fixed("1 second", { maxAge: "2 hours" }), { maxAttempts: 1, maxRetryDuration: 7200 }],
    [
      "both limits, which stop together (Q86, C4)",
      appEngine({ retryLimit: 3, ageLimit: "1 day" }),
      { maxAttempts: 4, maxRetryDuration: 86_400 },
    ],
    [
      "both limits, and attempts that come before",
      appEngine({ retryLimit: 3, ageLimit: "1 day", maxAttempts: 2 }),
      { maxAttempts: 2, maxRetryDuration: 0 },
    ],
    [
      "both limits, and as many attempts",
      appEngine({ retryLimit: 3, ageLimit: "1 day", maxAttempts: 4 }),
      { maxAttempts: 4, maxRetryDuration: 0 },
    ],
    [
      "both limits, and an age that comes before",
      appEngine({ retryLimit: 3, ageLimit: "1 day", maxAge: "1 hour" }),
      { maxAttempts: 1, maxRetryDuration: 3600 },
    ],
    ["a fixed pause", fixed("90 seconds"), { minBackoff: 90, maxBackoff: 90, maxDoublings: 0 }],
    [
      "what doubles",
      exponential({ base: "1 second", max: "1 minute" }),
      { minBackoff: 1, maxBackoff: 60, maxDoublings: 6 },
    ],
    ["what does not grow", exponential({ base: "5 seconds", factor: 1 }), { minBackoff: 5, maxBackoff: 5 }],
    ["parts of seconds, rounded up (C4)", fixed(1_001), { minBackoff: 2, maxBackoff: 2 }],
    ["parts of a second never to none", appEngine({ minBackoff: 100 }), { minBackoff: 1 }],
    ["an age in parts of seconds, rounded up (Q80)", appEngine({ ageLimit: 1_500 }), { maxRetryDuration: 2 }],
    ["no pause at all", fixed(0), { minBackoff: 0, maxBackoff: 0 }],
    ["what tasks have that say nothing", RetryPolicy.defaultPolicy, { maxAttempts: 25, maxDoublings: 16 }],
  ]
  it.each(cases)("says %s", (_, policy, expected) => {
    assert.deepInclude(of(policy), expected)
  })

  const refused: ReadonlyArray<[string, RetryPolicy.RetryPolicyData, string]> = [
    ["attempts and an age that stop on their own", fixed(1, { maxAttempts: 3, maxAge: "1 hour" }), "maxAge"],
    ["attempts beside an age limit", appEngine({ maxAttempts: 3, ageLimit: "1 hour" }), "ageLimit"],
    ["retries beside a greatest age", appEngine({ retryLimit: 3, maxAge: "1 hour" }), "maxAge"],
    [
      "both limits, and attempts that may come between",
      appEngine({ retryLimit: 3, ageLimit: "1 day", maxAttempts: 9 }),
      "maxAttempts",
    ],
    [
      "both limits, and an age that may come after",
      appEngine({ retryLimit: 3, ageLimit: "1 hour", maxAge: "1 day" }),
      "maxAge",
    ],
    [
      "both limits, and one attempt more than the retries",
      appEngine({ retryLimit: 3, ageLimit: "1 day", maxAttempts: 5 }),
      "maxAttempts",
    ],
    ["another factor", exponential({ factor: 1.5 }), "factor"],
    ["more doublings than there are", exponential({ base: 1, max: "1 hour" }), "max"],
  ]
  it.each(refused)("has no word for %s", (_, policy, field) => {
    assert.strictEqual(problem(policy)?.field, field)
  })

  const whole = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 600 }))
  const few = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 16 }))
  it.effect.prop(
    "pauses as the policy does, for policies of whole seconds",
    { min: whole, more: whole, doublings: few, retry: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 60 })) },
    ({ doublings, min, more, retry }) =>
      Effect.sync(() => {
        const policies = [
          appEngine({ minBackoff: min * 1000, maxBackoff: (min + more) * 1000, maxDoublings: doublings }),
          exponential({ base: min * 1000, max: (min + more) * 1000 }),
          fixed(min * 1000),
        ]
        for (const policy of policies) {
          const config = of(policy)
          // Cloud Tasks' own words: doubles `maxDoublings` times, then linearly, then `maxBackoff`.
          let pause = config.minBackoff
          for (let n = 2; n <= retry; n++) {
            pause += n - 1 <= config.maxDoublings ? pause : config.minBackoff * 2 ** config.maxDoublings
          }
          assert.strictEqual(Math.min(pause, config.maxBackoff) * 1000, RetryPolicy.backoff(policy, retry))
        }
      }),
  )

  it.effect.prop(
    "gives up when the policy does, whatever limits it has",
    {
      retryLimit: Schema.UndefinedOr(few),
      ageLimit: Schema.UndefinedOr(whole),
      maxAttempts: Schema.UndefinedOr(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 16 }))),
      maxAge: Schema.UndefinedOr(whole),
      attempt: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 20 })),
      age: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 700 })),
    },
    ({ age, ageLimit, attempt, maxAge, maxAttempts, retryLimit }) =>
      Effect.gen(function* () {
        const policy = appEngine({
          retryLimit,
          ageLimit: ageLimit === undefined ? undefined : ageLimit * 1000,
          maxAttempts,
          maxAge: maxAge === undefined ? undefined : maxAge * 1000,
        })
        const result = retryConfig(policy)
        // What has no word is refused; the cases above say what that is.
        if (Result.isFailure(result)) return
        const config = result.success
        // At the very second of a limit the two differ: App Engine's is inclusive (Q86).
        if (age === config.maxRetryDuration && age > 0) return
        const stops =
          config.maxAttempts !== -1 &&
          attempt >= config.maxAttempts &&
          (config.maxRetryDuration === 0 || age >= config.maxRetryDuration)
        const delay = yield* RetryPolicy.decide(policy, { attempt, age: age * 1000, error: undefined, random: 0 })
        assert.strictEqual(stops, delay === undefined)
      }),
    { arbitrary: { runs: 500 } },
  )
})

import { assert, describe, it } from "@effect/vitest"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import { Duration, Effect, Schedule, Schema } from "effect"

const millisOf = (policy: RetryPolicy.RetryPolicy, n: number) =>
  Effect.map(RetryPolicy.delays(policy, n), (found) => found.map(Duration.toMillis))
const failed = (attempt: number, age = 0): RetryPolicy.Failed => ({ attempt, age, error: undefined, random: 0.5 })

describe("RetryPolicy.appEngine", () => {
  it.effect.each([
    {
      row: "Q83: min 10 s, max 300 s, 3 doublings",
      options: { minBackoff: "10 seconds", maxBackoff: "300 seconds", maxDoublings: 3 },
      expected: [10_000, 20_000, 40_000, 80_000, 160_000, 240_000, 300_000, 300_000],
    },
    {
      row: "Q83: no doublings grow linearly",
      options: { minBackoff: "10 seconds", maxBackoff: "300 seconds", maxDoublings: 0 },
      expected: [10_000, 20_000, 30_000, 40_000],
    },
    {
      row: "100 ms and 3 doublings",
      options: { minBackoff: "100 millis", maxDoublings: 3 },
      expected: [100, 200, 400, 800, 1600, 2400, 3200],
    },
  ] as const)("gives the delays of $row", ({ expected, options }) =>
    Effect.gen(function* () {
      const delays = yield* millisOf(RetryPolicy.appEngine(options), expected.length)
      assert.deepStrictEqual(delays, [...expected])
    }),
  )

  it.effect("doubles sixteen times from 100 ms and stops growing at an hour by default (Q81, Q83)", () =>
    Effect.gen(function* () {
      const delays = yield* millisOf(RetryPolicy.appEngine(), 19)
      assert.deepStrictEqual(delays.slice(0, 3), [100, 200, 400])
      assert.deepStrictEqual(delays.slice(15), [3_276_800, 3_600_000, 3_600_000, 3_600_000])
    }),
  )

  it("lets the other bound follow when only one is given and crosses its default (Q89)", () => {
    assert.strictEqual(RetryPolicy.appEngine({ minBackoff: "2 hours" }).maxBackoff, 7_200_000)
    assert.strictEqual(RetryPolicy.appEngine({ maxBackoff: "50 millis" }).minBackoff, 50)
  })

  it.effect("makes one attempt with a retry limit of 0 (Q87)", () =>
    Effect.gen(function* () {
      const decided = yield* RetryPolicy.decide(RetryPolicy.appEngine({ retryLimit: 0 }), failed(1))
      assert.strictEqual(decided, undefined)
    }),
  )

  it.effect.each([
    { limits: { retryLimit: 2 }, attempt: 2, age: 1e9, again: true },
    { limits: { retryLimit: 2 }, attempt: 3, age: 0, again: false },
    { limits: { ageLimit: "1 second" }, attempt: 99, age: 1000, again: true },
    { limits: { ageLimit: "1 second" }, attempt: 1, age: 1001, again: false },
    { limits: { retryLimit: 2, ageLimit: "1 second" }, attempt: 9, age: 1000, again: true },
    { limits: { retryLimit: 2, ageLimit: "1 second" }, attempt: 2, age: 9999, again: true },
    { limits: { retryLimit: 2, ageLimit: "1 second" }, attempt: 3, age: 1001, again: false },
    { limits: {}, attempt: 1_000_000, age: 1e12, again: true },
  ] as const)(
    "gives up only when every limit that is set is exceeded (Q86): $limits at attempt $attempt, age $age",
    (row) =>
      Effect.gen(function* () {
        const decided = yield* RetryPolicy.decide(RetryPolicy.appEngine(row.limits), failed(row.attempt, row.age))
        assert.strictEqual(decided !== undefined, row.again)
      }),
  )

  it.effect.prop(
    "never delays less than the minimum, more than the maximum, or less than the retry before",
    {
      min: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 10_000 })),
      spread: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10_000_000 })),
      doublings: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 40 })),
    },
    ({ doublings, min, spread }) =>
      Effect.gen(function* () {
        const policy = RetryPolicy.appEngine({ minBackoff: min, maxBackoff: min + spread, maxDoublings: doublings })
        const delays = yield* millisOf(policy, 60)
        delays.forEach((delay, index) => {
          assert.isAtLeast(delay, min)
          assert.isAtMost(delay, min + spread)
          assert.isAtLeast(delay, delays[index - 1] ?? 0)
        })
      }),
  )
})

describe("RetryPolicy", () => {
  it.effect("counts the first attempt in maxAttempts", () =>
    Effect.gen(function* () {
      const policy = RetryPolicy.exponential({ base: "1 second", jitter: "none", maxAttempts: 3 })
      assert.deepStrictEqual(yield* millisOf(policy, 10), [1000, 2000])
      assert.strictEqual(yield* RetryPolicy.decide(policy, failed(3)), undefined)
    }),
  )

  it.effect("looks at maxAge when an attempt has failed", () =>
    Effect.gen(function* () {
      const policy = RetryPolicy.fixed("1 second", { maxAge: "1 minute" })
      assert.strictEqual(yield* RetryPolicy.decide(policy, failed(7, 60_000)), 1000)
      assert.strictEqual(yield* RetryPolicy.decide(policy, failed(7, 60_001)), undefined)
    }),
  )

  it.effect("spreads a delay by the jitter asked for", () =>
    Effect.gen(function* () {
      const at = (jitter: RetryPolicy.Jitter, random: number) =>
        RetryPolicy.decide(RetryPolicy.fixed(1000, { jitter }), { ...failed(1), random })
      assert.strictEqual(yield* at("none", 0.9), 1000)
      assert.strictEqual(yield* at("full", 0), 0)
      assert.strictEqual(yield* at("full", 0.25), 250)
      assert.strictEqual(yield* at("equal", 0), 500)
      assert.strictEqual(yield* at("equal", 0.5), 750)
    }),
  )

  it.effect("replays any schedule to the attempt at hand and gives up when it is done", () =>
    Effect.gen(function* () {
      const schedule = Schedule.max([Schedule.exponential("1 second"), Schedule.recurs(3)])
      const policy = RetryPolicy.fromSchedule(schedule)
      assert.deepStrictEqual(yield* millisOf(policy, 10), [1000, 2000, 4000])
      assert.strictEqual(yield* RetryPolicy.decide(policy, failed(3)), 4000)
      assert.strictEqual(yield* RetryPolicy.decide(policy, failed(4)), undefined)
    }),
  )

  it.effect("shows a schedule the typed error", () =>
    Effect.gen(function* () {
      const schedule = Schedule.spaced("1 second").pipe(
        Schedule.setInputType<{ readonly fatal: boolean }>(),
        Schedule.while(({ input }) => !input.fatal),
      )
      const policy = RetryPolicy.fromSchedule(schedule)
      assert.strictEqual(yield* RetryPolicy.decide(policy, { ...failed(1), error: { fatal: false } }), 1000)
      assert.strictEqual(yield* RetryPolicy.decide(policy, { ...failed(1), error: { fatal: true } }), undefined)
    }),
  )

  it.effect.each([
    RetryPolicy.defaultPolicy,
    RetryPolicy.appEngine({ retryLimit: 3, ageLimit: "1 day" }),
    RetryPolicy.exponential({ maxAge: "1 hour" }),
    RetryPolicy.never,
  ])("comes back from its JSON text as it was", (policy) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* RetryPolicy.fromJson(RetryPolicy.toJson(policy)), policy)
    }),
  )
})

describe("RetryPolicy.problem", () => {
  const { appEngine, exponential, fixed, fromSchedule } = RetryPolicy
  const forever = Schedule.forever

  it.each<{ readonly policy: RetryPolicy.RetryPolicy; readonly field: string; readonly says: string }>([
    { policy: appEngine({ minBackoff: -1 }), field: "minBackoff", says: "-1 ms" },
    { policy: { ...appEngine(), minBackoff: Number.NaN }, field: "minBackoff", says: "NaN" },
    { policy: appEngine({ minBackoff: "Infinity" }), field: "minBackoff", says: "Infinity" },
    { policy: { ...appEngine(), maxBackoff: -1 }, field: "maxBackoff", says: "-1 ms" },
    { policy: appEngine({ maxBackoff: "Infinity" }), field: "maxBackoff", says: "Infinity" },
    { policy: appEngine({ minBackoff: 200, maxBackoff: 100 }), field: "maxBackoff", says: "less than minBackoff" },
    { policy: appEngine({ maxDoublings: -1 }), field: "maxDoublings", says: "-1" },
    { policy: appEngine({ maxDoublings: 1.5 }), field: "maxDoublings", says: "whole" },
    { policy: appEngine({ maxDoublings: Number.POSITIVE_INFINITY }), field: "maxDoublings", says: "whole" },
    { policy: appEngine({ retryLimit: -1 }), field: "retryLimit", says: "at least 0" },
    { policy: appEngine({ retryLimit: 2.5 }), field: "retryLimit", says: "2.5" },
    { policy: appEngine({ retryLimit: Number.NaN }), field: "retryLimit", says: "NaN" },
    { policy: appEngine({ ageLimit: 0 }), field: "ageLimit", says: "above 0" },
    { policy: appEngine({ ageLimit: -5 }), field: "ageLimit", says: "-5 ms" },
    { policy: appEngine({ ageLimit: "Infinity" }), field: "ageLimit", says: "Infinity" },
    { policy: exponential({ base: -1 }), field: "base", says: "-1 ms" },
    { policy: exponential({ base: 0 }), field: "base", says: "above 0" },
    { policy: exponential({ max: "Infinity" }), field: "max", says: "Infinity" },
    { policy: exponential({ base: "2 hours" }), field: "max", says: "less than base" },
    { policy: exponential({ factor: 0.99 }), field: "factor", says: "0.99" },
    { policy: exponential({ factor: Number.NaN }), field: "factor", says: "NaN" },
    { policy: exponential({ factor: Number.POSITIVE_INFINITY }), field: "factor", says: "finite" },
    { policy: fixed(-1), field: "delay", says: "-1 ms" },
    { policy: fixed("Infinity"), field: "delay", says: "Infinity" },
    { policy: fixed(8.64e15), field: "delay", says: "0 to 43" },
    { policy: fixed(0, { maxAttempts: 0 }), field: "maxAttempts", says: "at least 1" },
    { policy: fixed(0, { maxAttempts: 2.5 }), field: "maxAttempts", says: "2.5" },
    { policy: fromSchedule(forever, { maxAttempts: Number.POSITIVE_INFINITY }), field: "maxAttempts", says: "whole" },
    { policy: fromSchedule(forever, { maxAge: 0 }), field: "maxAge", says: "above 0" },
    { policy: exponential({ maxAge: -1 }), field: "maxAge", says: "-1 ms" },
    { policy: appEngine({ maxAge: "Infinity" }), field: "maxAge", says: "Infinity" },
    { policy: { ...fixed(0), jitter: "some" as RetryPolicy.Jitter }, field: "jitter", says: "some" },
  ])("names $field where it $says (Q80, Q134)", ({ field, policy, says }) => {
    const found = RetryPolicy.problem(policy)
    assert.strictEqual(found?.field, field)
    assert.include(found?.reason, says)
  })

  it.each<RetryPolicy.RetryPolicy>([
    RetryPolicy.defaultPolicy,
    RetryPolicy.never,
    appEngine({ minBackoff: 0, maxBackoff: 0, maxDoublings: 0, retryLimit: 0, ageLimit: 1 }),
    // Q89: the bound that is not given follows.
    appEngine({ minBackoff: "2 hours" }),
    appEngine({ maxBackoff: "50 millis" }),
    exponential({ factor: 1, base: 1, max: 1, maxAttempts: 1, maxAge: 1 }),
    fixed(4.32e15),
    fromSchedule(forever),
  ])("finds nothing wrong with what is within the bounds: $_tag", (policy) => {
    assert.isUndefined(RetryPolicy.problem(policy))
  })

  const amount = Schema.Union([
    Schema.Literals([0, 1, 2.5, 100, 3_600_000, 1e15, 1e308, 5e-324]),
    Schema.Number,
    Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10_000 })),
  ])
  const limit = Schema.UndefinedOr(amount)
  const limits = { maxAttempts: limit, maxAge: limit }

  let accepted = 0
  it.effect.prop(
    "gives finite delays that are not negative, however many, for every policy without a problem",
    {
      policy: Schema.Union([
        Schema.TaggedStruct("AppEngine", {
          minBackoff: amount,
          maxBackoff: amount,
          maxDoublings: amount,
          retryLimit: limit,
          ageLimit: limit,
          ...limits,
        }),
        Schema.TaggedStruct("Exponential", { base: amount, factor: amount, max: amount, ...limits }),
        Schema.TaggedStruct("Fixed", { delay: amount, ...limits }),
      ]),
    },
    ({ policy: fields }) =>
      Effect.gen(function* () {
        const { delay: _, ...brand } = RetryPolicy.never
        const policy: RetryPolicy.RetryPolicyData = { ...brand, ...fields }
        if (RetryPolicy.problem(policy) !== undefined) return
        accepted++
        // Without the limits, which would hide the later delays.
        const endless = { ...policy, retryLimit: undefined, ageLimit: undefined, maxAttempts: undefined }
        for (const delay of yield* millisOf(endless, 1500)) {
          assert.isTrue(Number.isFinite(delay) && delay >= 0, `a delay of ${delay} ms`)
        }
        // As text, which knows no -0.
        const written = RetryPolicy.toJson(policy)
        assert.strictEqual(RetryPolicy.toJson(yield* RetryPolicy.fromJson(written)), written)
      }),
    { arbitrary: { runs: 500 } },
  )
  it("has let through enough policies for that to say something", () => {
    assert.isAbove(accepted, 20)
  })
})

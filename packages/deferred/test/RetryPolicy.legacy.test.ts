/** App Engine's retry parameters, row by row of `docs/legacy.md`, to the figure. */
import { assert, describe, it } from "@effect/vitest"
import { InvalidTaskOptions } from "@outlive/deferred/DeferOptions"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { Snooze } from "@outlive/deferred/TaskFailure"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TestTasks from "@outlive/deferred/testing/TestTasks"
import { Duration, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"

const { appEngine } = RetryPolicy
const seconds = (policy: RetryPolicy.RetryPolicy, n: number) =>
  Effect.map(RetryPolicy.delays(policy, n), (delays) => delays.map(Duration.toSeconds))
const decide = (policy: RetryPolicy.RetryPolicy, attempt: number, age: number, random = 0.5) =>
  RetryPolicy.decide(policy, { attempt, age, error: undefined, random })

/** A task that always dies, by its own policy or by that of a deferral. */
const Dies = Task.make("Dies", { retry: RetryPolicy.fixed("1 second", { maxAttempts: 2 }) })
const App = TestTasks.layer({ tasks: [Dies] }).pipe(
  Layer.provide(Dies.toLayer(() => Effect.die("always"))),
  Layer.provideMerge(TestTasks.layerQueue),
)
/** When its attempts start, in seconds after it was deferred. */
const starts = (retry: RetryPolicy.RetryPolicyData, options?: { readonly delay: Duration.Input }) =>
  Effect.gen(function* () {
    yield* TestClock.setTime(1_000_000)
    yield* Dies.defer(undefined, { retry, ...options })
    const { ran } = yield* TestTasks.drain({ advance: true })
    return ran.map(({ record }) => (record.startedAt - record.enqueuedAt) / 1000)
  }).pipe(Effect.provide(App))

describe("retries as App Engine has them", () => {
  it.effect("have its defaults: 0.1 s, an hour, 16 doublings, no limits (Q81)", () =>
    Effect.gen(function* () {
      assert.deepInclude(appEngine(), {
        minBackoff: 100,
        maxBackoff: 3_600_000,
        maxDoublings: 16,
        retryLimit: undefined,
        ageLimit: undefined,
        jitter: "none",
      })
      assert.strictEqual(yield* decide(appEngine(), 1_000_000, 1e12), 3_600_000)
    }),
  )

  it.effect.each([
    {
      row: "from 100 ms with 3 doublings",
      options: { minBackoff: "100 millis", maxDoublings: 3 },
      expected: [0.1, 0.2, 0.4, 0.8, 1.6, 2.4, 3.2],
    },
    {
      row: "from 10 s to 300 s with 3 doublings",
      options: { minBackoff: "10 seconds", maxBackoff: "300 seconds", maxDoublings: 3 },
      expected: [10, 20, 40, 80, 160, 240, 300, 300],
    },
    {
      row: "from 10 s without doublings",
      options: { minBackoff: "10 seconds", maxDoublings: 0 },
      expected: [10, 20, 30, 40, 50],
    },
    {
      row: "by default",
      options: {},
      expected: [
        0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6, 819.2, 1638.4, 3276.8, 3600, 3600,
      ],
    },
  ] as const)("double and then grow linearly, $row (Q82, Q83)", ({ expected, options }) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* seconds(appEngine(options), expected.length), [...expected])
    }),
  )

  it("go on growing after the doublings, where the original's handbook says they stay (Q84)", () => {
    const policy = appEngine({ minBackoff: 100, maxDoublings: 3 })
    assert.strictEqual(RetryPolicy.backoff(policy, 6) - RetryPolicy.backoff(policy, 5), 800)
  })

  it("do not overflow, however often and however far they double (Q85)", () => {
    const policy = appEngine({ minBackoff: "1 hour", maxBackoff: "2 days", maxDoublings: 5000 })
    for (const retry of [7, 31, 32, 63, 64, 1024, 1025, 5001, 1_000_000]) {
      assert.strictEqual(RetryPolicy.backoff(policy, retry), 172_800_000, `retry ${retry}`)
    }
  })

  it.effect(
    "run at 0, 0.1, 0.3, 0.7 and 1.5 s with an age limit of 1 s: one planned within it may start after (Q86)",
    () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* starts(appEngine({ ageLimit: "1 second" })), [0, 0.1, 0.3, 0.7, 1.5])
      }),
  )

  it.effect.each([
    { limits: { retryLimit: 2 }, runs: 3 },
    { limits: { retryLimit: 2, ageLimit: "1 second" }, runs: 5 },
    { limits: { retryLimit: 6, ageLimit: "1 second" }, runs: 7 },
    // At 0.7 s to the millisecond it still holds: the limit is inclusive.
    { limits: { ageLimit: "700 millis" }, runs: 5 },
    { limits: { ageLimit: "699 millis" }, runs: 4 },
  ] as const)("end only when both limits are exceeded: $limits runs $runs times (Q86)", ({ limits, runs }) =>
    Effect.gen(function* () {
      assert.strictEqual((yield* starts(appEngine(limits))).length, runs)
    }),
  )

  it.effect("are one fewer than attempts: retryLimit n is maxAttempts n + 1, and 0 is one attempt (Q87)", () =>
    Effect.gen(function* () {
      for (const retryLimit of [0, 1, 4]) {
        assert.strictEqual((yield* starts(appEngine({ retryLimit }))).length, retryLimit + 1)
        assert.strictEqual((yield* starts(appEngine({ maxAttempts: retryLimit + 1 }))).length, retryLimit + 1)
      }
    }),
  )

  it.effect("follow a deferral's policy whole: nothing of the task's is merged into it (Q88)", () =>
    Effect.gen(function* () {
      // The task's `maxAttempts: 2` and its delay of a second are gone.
      assert.deepStrictEqual(yield* starts(appEngine({ minBackoff: "5 seconds", retryLimit: 3 })), [0, 5, 15, 35])
    }),
  )

  it("let the other bound follow where one is given and crosses its default (Q89)", () => {
    assert.deepInclude(appEngine({ minBackoff: "2 hours" }), { minBackoff: 7_200_000, maxBackoff: 7_200_000 })
    assert.deepInclude(appEngine({ maxBackoff: "50 millis" }), { minBackoff: 50, maxBackoff: 50 })
    assert.deepInclude(appEngine({ minBackoff: "1 hour" }), { minBackoff: 3_600_000, maxBackoff: 3_600_000 })
    assert.deepInclude(appEngine({ maxBackoff: "100 millis" }), { minBackoff: 100, maxBackoff: 100 })
    // Both given and crossed is a mistake, which is told where the policy is used.
    assert.strictEqual(RetryPolicy.problem(appEngine({ minBackoff: 2, maxBackoff: 1 }))?.field, "maxBackoff")
  })

  it.effect("count age from the first attempt, not from when the record was deferred (Q90)", () =>
    Effect.gen(function* () {
      const late = yield* starts(appEngine({ ageLimit: "1 second" }), { delay: "10 seconds" })
      assert.deepStrictEqual(late, [10, 10.1, 10.3, 10.7, 11.5])
    }),
  )

  it.effect("count age through snoozes, and anew after a redrive (Q90)", () => {
    const Waits = Task.make("Waits", { retry: appEngine({ ageLimit: "1 second" }) })
    let calls = 0
    const layer = TestTasks.layer({ tasks: [Waits] }).pipe(
      Layer.provide(Waits.toLayer(() => (++calls === 1 ? Effect.fail(Snooze.for("1 minute")) : Effect.die("always")))),
    )
    return Effect.gen(function* () {
      const { id } = yield* Waits.defer()
      assert.deepStrictEqual((yield* TestTasks.drain({ advance: true })).counts, { Snooze: 1, Bury: 1 })
      const queue = yield* TaskQueue
      yield* queue.redrive({ ids: [id], now: 60_000 })
      assert.deepStrictEqual((yield* TestTasks.drain({ advance: true })).counts, { Retry: 4, Bury: 1 })
    }).pipe(Effect.provide(layer))
  })

  it.effect("are not spread, whatever chance says, unless asked to (Q91)", () =>
    Effect.gen(function* () {
      for (const random of [0, 0.3, 0.999]) {
        assert.strictEqual(yield* decide(appEngine(), 3, 0, random), 400)
        assert.strictEqual(yield* decide(appEngine({ jitter: "full" }), 3, 0, random), 400 * random)
      }
      // What a task has that says nothing is spread, and ends.
      assert.deepInclude(RetryPolicy.defaultPolicy, { ...appEngine(), jitter: "full", maxAttempts: 25 })
    }),
  )

  it.effect.each([
    ["minBackoff", appEngine({ minBackoff: -1 })],
    ["maxBackoff", appEngine({ minBackoff: 10, maxBackoff: 9 })],
    ["maxDoublings", appEngine({ maxDoublings: -1 })],
    ["retryLimit", appEngine({ retryLimit: -1 })],
    ["ageLimit", appEngine({ ageLimit: -1 })],
  ] as const)("are refused with an invalid %s, by defer and where a task is made (Q80)", ([field, retry]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Dies.defer(undefined, { retry }))
      assert.instanceOf(error, InvalidTaskOptions)
      assert.strictEqual(error.field, `retry.${field}`)
      assert.throws(() => Task.make("T", { retry }), InvalidTaskOptions, `retry.${field}`)
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )
})

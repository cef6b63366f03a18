import { assert, describe, it } from "@effect/vitest"
import { BackgroundThreads } from "@outlive/core/BackgroundThread"
import * as Instance from "@outlive/core/Instance"
import * as PullQueue from "@outlive/deferred/PullQueue"
import * as QueueConfig from "@outlive/deferred/QueueConfig"
import * as QueueStatistics from "@outlive/deferred/QueueStatistics"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { Throttled } from "@outlive/deferred/TaskFailure"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { DateTime, type Duration, Effect, Layer, Option, Schema } from "effect"
import { TestClock } from "effect/testing"

class TooManyCalls extends Schema.TaggedError<TooManyCalls>()("TooManyCalls", { retryAfter: Schema.Finite }) {}

const Call = Task.make("Call", {
  payload: { tenant: Schema.String, n: Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(0))) },
  success: Schema.Int,
  error: TooManyCalls,
  key: ({ tenant }) => tenant,
  retry: {
    TooManyCalls: ({ retryAfter }) => Throttled.for(`${retryAfter} seconds`),
    _: RetryPolicy.fixed("1 second", { maxAttempts: 3 }),
  },
})
type Handle = Parameters<typeof Call.toLayer<never>>[0]

const working = (handle: Handle, options?: Partial<Worker.Options<readonly [typeof Call]>>) =>
  Worker.layer({ tasks: [Call], id: "w1", ...options }).pipe(
    Layer.provide(Call.toLayer(handle)),
    Layer.provideMerge(Layer.fresh(TaskQueueMemory.layer)),
    Layer.provide(Instance.layerBackend()),
  )
const rest = Effect.repeat(Effect.yieldNow, { times: 100 })
const pass = (duration: Duration.Input) => rest.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(rest))
const pausedUntil = (key: string) =>
  Effect.map(QueueStatistics.statisticsOfKey("default", key), (found) =>
    Option.getOrUndefined(Option.map(found.pausedUntil, DateTime.toEpochMillis)),
  )

describe("Throttled", () => {
  it.effect("holds back all of its key until then, and nothing of others", () => {
    const started: Array<string> = []
    let isBusy = true
    const handle: Handle = ({ n, tenant }) =>
      Effect.suspend(() => {
        started.push(`${tenant}${n}`)
        return isBusy && tenant === "a" ? Effect.fail(Throttled.for("30 seconds")) : Effect.succeed(n)
      })
    return Effect.gen(function* () {
      yield* Call.defer({ tenant: "a", n: 1 })
      yield* rest
      yield* Call.deferAll([
        { tenant: "a", n: 2 },
        { tenant: "b", n: 1 },
      ])
      yield* pass("29 seconds")
      assert.deepStrictEqual(started, ["a1", "b1"])
      assert.strictEqual(yield* pausedUntil("a"), 30_000)
      isBusy = false
      yield* pass("1 second")
      assert.deepStrictEqual(started, ["a1", "b1", "a2", "a1"])
    }).pipe(Effect.provide(working(handle)))
  })

  it.effect("gives the attempt back, however often it comes", () => {
    let attempts = 0
    const handle: Handle = (_, { attempt }) =>
      ++attempts <= 20 ? Effect.fail(Throttled.for("1 second")) : Effect.succeed(attempt)
    return Effect.gen(function* () {
      const ref = yield* Call.defer({ tenant: "a" })
      for (let second = 0; second < 20; second++) yield* pass("1 second")
      assert.strictEqual(yield* ref.await, 1)
      assert.lengthOf(yield* ref.attempts, 21)
    }).pipe(Effect.provide(working(handle)))
  })

  it.effect.prop(
    "never raises the count of attempts, whatever else happens in between",
    { ways: Schema.Array(Schema.Literals(["throttled", "throttled", "of the queue", "fails"])) },
    ({ ways }) => {
      let at = 0
      const handle: Handle = (_, { attempt }) =>
        Effect.suspend((): Effect.Effect<number, TooManyCalls | Throttled> => {
          const way = ways[at++]
          if (way === undefined) return Effect.succeed(attempt)
          if (way === "fails") return Effect.die(new Error("no"))
          return Effect.fail(
            way === "throttled" ? new TooManyCalls({ retryAfter: 1 }) : Throttled.for("1 second", { of: "queue" }),
          )
        })
      const failures = ways.filter((way) => way === "fails").length
      return Effect.gen(function* () {
        const ref = yield* Call.defer({ tenant: "a" }, { retry: RetryPolicy.fixed("1 second") })
        for (let second = 0; second <= ways.length; second++) yield* pass("1 second")
        assert.strictEqual(yield* ref.await, failures + 1)
        assert.strictEqual((yield* ref.record).attempt, failures + 1)
      }).pipe(Effect.provide(working(handle)))
    },
    { arbitrary: { runs: 20 } },
  )

  it.effect("is what a rule makes of a typed error", () => {
    const handle: Handle = (_, { eta }) =>
      eta.epochMilliseconds < 60_000 ? Effect.fail(new TooManyCalls({ retryAfter: 60 })) : Effect.succeed(1)
    return Effect.gen(function* () {
      const ref = yield* Call.defer({ tenant: "a" })
      yield* rest
      assert.strictEqual(yield* pausedUntil("a"), 60_000)
      assert.deepInclude(yield* ref.record, { state: "scheduled", eta: 60_000, attempt: 0 })
      yield* pass("1 minute")
      assert.strictEqual(yield* ref.await, 1)
    }).pipe(Effect.provide(working(handle)))
  })

  it.effect.each([
    { says: "of a record without a key", throttled: Throttled.for("30 seconds"), key: false },
    { says: "of the queue", throttled: Throttled.for("30 seconds", { of: "queue" }), key: "a" },
    { says: "until a time", throttled: Throttled.until(DateTime.makeUnsafe(30_000), { of: "queue" }), key: "a" },
  ] as const)("holds back the queue: $says", ({ key, throttled }) => {
    const started: Array<number> = []
    const handle: Handle = ({ n }) =>
      Effect.suspend(() => {
        started.push(n)
        return started.length === 1 ? Effect.fail(throttled) : Effect.succeed(n)
      })
    return Effect.gen(function* () {
      yield* Call.defer({ tenant: "a", n: 1 }, { key })
      yield* rest
      yield* Call.defer({ tenant: "b", n: 2 })
      const statistics = yield* QueueStatistics.statistics("default")
      assert.deepStrictEqual(statistics.pausedUntil, Option.some(DateTime.makeUnsafe(30_000)))
      yield* pass("29 seconds")
      assert.deepStrictEqual(started, [1])
      yield* pass("1 second")
      assert.sameMembers(started, [1, 1, 2])
    }).pipe(Effect.provide(working(handle)))
  })

  it.effect("never makes a pause shorter, which ends when somebody says so", () => {
    // Both are under way before one of them fails.
    const handle: Handle = ({ n }) =>
      n === 0 ? Effect.succeed(0) : Effect.andThen(Effect.yieldNow, Effect.fail(Throttled.for(`${n} seconds`)))
    return Effect.gen(function* () {
      yield* Call.deferAll([
        { tenant: "a", n: 50 },
        { tenant: "a", n: 10 },
      ])
      yield* rest
      assert.strictEqual(yield* pausedUntil("a"), 50_000)
      yield* QueueConfig.pauseUntil("default", DateTime.makeUnsafe(0), { key: "a" })
      const ref = yield* Call.defer({ tenant: "a" })
      assert.strictEqual(yield* ref.await, 0)
    }).pipe(Effect.provide(working(handle)))
  })

  it.effect("gives back what its worker claimed ahead for the same key", () => {
    const started: Array<string> = []
    let isBusy = false
    const handle: Handle = ({ n, tenant }) =>
      Effect.suspend(() => {
        if (n >= 0) started.push(`${tenant}${n}`)
        return isBusy && tenant === "a" ? Effect.fail(Throttled.for("1 minute")) : Effect.succeed(n)
      })
    return Effect.gen(function* () {
      const queue = yield* TaskQueue
      // Fast ones first: from them the worker learns to claim ahead.
      yield* Call.deferAll(Array.from({ length: 100 }, () => ({ tenant: "c", n: -1 })))
      yield* rest
      isBusy = true
      yield* Call.deferAll(Array.from({ length: 20 }, (_, n) => ({ tenant: n % 2 === 0 ? "a" : "b", n })))
      yield* rest
      assert.deepStrictEqual(
        started.filter((each) => each.startsWith("b")),
        Array.from({ length: 10 }, (_, n) => `b${2 * n + 1}`),
      )
      assert.isAtMost(started.filter((each) => each.startsWith("a")).length, 2)
      const { inFlight, waiting } = yield* queue.statistics({ queue: "default", now: 0 })
      assert.deepStrictEqual([inFlight, waiting], [0, 10])
      isBusy = false
      yield* pass("1 minute")
      assert.strictEqual((yield* queue.statistics({ queue: "default", now: 60_000 })).waiting, 0)
      const { records } = yield* queue.find({ limit: 1000, now: 60_000 })
      assert.isTrue(records.every(({ attempt, state }) => state === "succeeded" && attempt === 1))
    }).pipe(Effect.provide(working(handle, { concurrency: 1, prefetch: 50 })))
  })

  it.effect("is a snooze where there is no queue", () => {
    let attempts = 0
    const handle: Handle = (_, { attempt }) =>
      ++attempts === 1 ? Effect.fail(Throttled.for("1 minute")) : Effect.succeed(attempt)
    const app = Call.toLayer(handle).pipe(
      Layer.provideMerge(BackgroundThreads.layer),
      Layer.provide(Instance.layerBackend()),
    )
    return Effect.gen(function* () {
      const error = yield* Effect.flip(Call.run({ tenant: "a" }))
      assert.strictEqual(error._tag, "Throttled")
      attempts = 0
      const thread = yield* Call.background({ tenant: "a" })
      yield* pass("59 seconds")
      assert.strictEqual(yield* thread.state, "scheduled")
      yield* pass("1 second")
      assert.strictEqual(yield* thread.await, 1)
    }).pipe(Effect.provide(app))
  })

  it.effect("means the same of a lease", () =>
    Effect.gen(function* () {
      const leases = yield* PullQueue.lease({ queue: "default", tasks: [Call], duration: "1 minute", max: 10 })
      assert.lengthOf(leases.leases, 0)
      yield* Call.deferAll([{ tenant: "a" }, { tenant: "a" }, { tenant: "b" }])
      const lease = PullQueue.lease({ queue: "default", tasks: [Call], duration: "1 minute" })
      const [first] = (yield* lease).leases
      const ending = yield* first!.fail(Throttled.for("30 seconds"))
      assert.deepStrictEqual(ending, { _tag: "Snooze", at: DateTime.makeUnsafe(30_000) })
      assert.strictEqual((yield* lease).leases[0]?.payload.tenant, "b")
      const { leases: none, nextAt } = yield* lease
      assert.lengthOf(none, 0)
      assert.deepStrictEqual(nextAt, Option.some(DateTime.makeUnsafe(30_000)))
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual((yield* lease).leases[0]?.record.attempt, 1)
    }).pipe(Effect.provide(Layer.fresh(TaskQueueMemory.layer))),
  )
})

import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as QueueConfig from "@outlive/deferred/QueueConfig"
import * as QueueStatistics from "@outlive/deferred/QueueStatistics"
import * as Task from "@outlive/deferred/Task"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Clock, DateTime, type Duration, Effect, Latch, Layer, Option, Schema } from "effect"
import { TestClock } from "effect/testing"

const Sync = Task.make("Sync", {
  payload: {
    tenant: Schema.String,
    region: Schema.String.pipe(Schema.withConstructorDefault(Effect.succeed("eu"))),
    since: Schema.optionalKey(Schema.DateTimeUtcFromString),
  },
  key: ({ region, tenant }) => `${region}-${tenant}`,
})
const Plain = Task.make("Plain")
const memory = Layer.fresh(TaskQueueMemory.layer)

describe("a record's key", () => {
  it.effect("is made of the payload as it was checked, with its defaults", () =>
    Effect.gen(function* () {
      const since = DateTime.makeUnsafe(0)
      const ref = yield* Sync.defer({ tenant: "acme", since })
      assert.strictEqual((yield* ref.record).key, "eu-acme")
      const Dated = Task.make("Dated", {
        payload: { at: Schema.DateTimeUtcFromString },
        key: ({ at }) => `${DateTime.toEpochMillis(at)}`,
      })
      const dated = yield* Dated.defer({ at: since })
      assert.strictEqual((yield* dated.record).key, "0")
    }).pipe(Effect.provide(memory)),
  )

  it.effect("is nobody's where the task has none, and what a deferral says before that", () =>
    Effect.gen(function* () {
      const keys = yield* Effect.forEach(
        [Plain.defer(), Plain.defer(undefined, { key: "a" }), Sync.defer({ tenant: "acme" }, { key: "b" })],
        Effect.flatMap(({ record }) => Effect.map(record, ({ key }) => key)),
      )
      assert.deepStrictEqual(keys, [undefined, "a", "b"])
      const none = yield* Sync.defer({ tenant: "acme" }, { key: false })
      assert.isUndefined((yield* none.record).key)
    }).pipe(Effect.provide(memory)),
  )

  it.effect("is each item's own in bulk", () =>
    Effect.gen(function* () {
      const items = yield* Sync.deferAll([{ tenant: "a" }, { tenant: "b" }], (_, index) =>
        index === 0 ? {} : { key: "other" },
      )
      const keys = yield* Effect.forEach(items, (item) =>
        item._tag === "Deferred" ? Effect.map(item.ref.record, ({ key }) => key) : Effect.undefined,
      )
      assert.deepStrictEqual(keys, ["eu-a", "other"])
    }).pipe(Effect.provide(memory)),
  )

  const longest = "k".repeat(255)
  it.effect.each([
    { what: "empty", key: "", says: "1 to 255 characters" },
    { what: "too long", key: `${longest}k`, says: "1 to 255 characters" },
    { what: "no text", key: 7 as never, says: "1 to 255 characters" },
    { what: "with the character 0", key: "a\0b", says: "without the character 0" },
    { what: "no Unicode", key: "a\ud800", says: "must be Unicode text" },
  ])("is refused when it is $what", ({ key, says }) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Plain.defer(undefined, { key }))
      assert.deepInclude(error, { _tag: "InvalidTaskOptions", field: "key" })
      assert.include(error.message, says)
      assert.deepStrictEqual(yield* TaskQueue.use((queue) => queue.counts({ now: 0 })), [])
    }).pipe(Effect.provide(memory)),
  )

  it.effect("may have 255 characters of any kind", () =>
    Effect.gen(function* () {
      for (const key of [longest, "\n", "ä💥"]) {
        const ref = yield* Plain.defer(undefined, { key })
        assert.strictEqual((yield* ref.record).key, key)
      }
    }).pipe(Effect.provide(memory)),
  )

  it.effect("is refused when its function throws", () =>
    Effect.gen(function* () {
      const Broken = Task.make("Broken", {
        key: () => {
          throw new Error("no tenant")
        },
      })
      const error = yield* Effect.flip(Broken.defer())
      assert.deepInclude(error, { _tag: "InvalidTaskOptions", field: "key" })
      assert.include(error.message, "no tenant")
    }).pipe(Effect.provide(memory)),
  )
})

const rest = Effect.repeat(Effect.yieldNow, { times: 100 })
const pass = (duration: Duration.Input) => rest.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(rest))
const until = (millis: number) => DateTime.makeUnsafe(millis)

describe("ref.explain of a record with a key", () => {
  const working = (gate: Latch.Latch) =>
    Worker.layer({ tasks: [Sync], id: "w1", concurrency: 10 }).pipe(
      Layer.provide(Sync.toLayer(() => gate.await)),
      Layer.provideMerge(memory),
      Layer.provide(Instance.layerBackend()),
    )
  const configured = (options: QueueConfig.QueueOptions) =>
    Effect.flatMap(QueueConfig.make({ default: options }), (config) => QueueConfig.apply(config))
  const of = (tenant: string) => Sync.defer({ tenant })
  const first = (ref: Effect.Success<ReturnType<typeof of>>) =>
    Effect.map(ref.explain, ({ reasons, sentence }) => ({ reason: reasons[0], sentence }))

  const check = (test: Effect.Effect<void, unknown, TaskQueue>) =>
    Effect.flatMap(Latch.make(), (gate) => Effect.provide(Effect.ensuring(test, gate.open), working(gate)))

  it.effect("says that its key runs as many as it may", () =>
    check(
      Effect.gen(function* () {
        yield* configured({ byKey: { maxConcurrent: 2 }, keys: { "eu-big": { maxConcurrent: "unlimited" } } })
        yield* Sync.deferAll([{ tenant: "acme" }, { tenant: "acme" }])
        const ref = yield* of("acme")
        yield* rest
        const { reason, sentence } = yield* first(ref)
        const expected = {
          _tag: "Concurrency",
          queue: "default",
          key: "eu-acme",
          running: 2,
          maxConcurrent: 2,
        } as const
        assert.deepStrictEqual(reason, expected)
        assert.include(sentence, "key eu-acme of queue default runs 2 at once, and may run 2")
        yield* Sync.deferAll([{ tenant: "big" }, { tenant: "big" }])
        const big = yield* of("big")
        yield* rest
        assert.strictEqual((yield* first(big)).reason?._tag, "Running")
      }),
    ),
  )

  it.effect("says when its key's rate allows the next", () =>
    check(
      Effect.gen(function* () {
        yield* configured({ byKey: { rate: "6/m", burst: 1 }, keys: { "eu-none": { rate: 0 } } })
        yield* of("acme")
        const ref = yield* of("acme")
        yield* rest
        const { reason, sentence } = yield* first(ref)
        assert.deepStrictEqual(reason, { _tag: "Rate", queue: "default", key: "eu-acme", rate: 0.1, until: 10_000 })
        assert.include(sentence, "key eu-acme of queue default starts 0.1 a second, the next in 10 s")
        const none = yield* of("none")
        yield* rest
        const never = { _tag: "Rate", queue: "default", key: "eu-none", rate: 0, until: undefined } as const
        assert.deepStrictEqual((yield* first(none)).reason, never)
      }),
    ),
  )

  it.effect("says until when its key, or its queue, is paused", () =>
    check(
      Effect.gen(function* () {
        yield* QueueConfig.pauseUntil("default", until(60_000), { key: "eu-acme" })
        const ref = yield* of("acme")
        yield* rest
        const { reason, sentence } = yield* first(ref)
        assert.deepStrictEqual(reason, { _tag: "PausedUntil", queue: "default", key: "eu-acme", until: 60_000 })
        assert.include(sentence, "key eu-acme of queue default is paused until 1970-01-01T00:01:00.000Z (for 60 s)")
        yield* QueueConfig.pauseUntil("default", until(30_000))
        const both = yield* ref.explain
        assert.deepStrictEqual(
          both.reasons.map(({ _tag }) => _tag),
          ["PausedUntil", "PausedUntil"],
        )
        const other = yield* of("other")
        yield* rest
        assert.deepStrictEqual((yield* first(other)).reason, {
          _tag: "PausedUntil",
          queue: "default",
          until: 30_000,
        })
        yield* pass("30 seconds")
        assert.strictEqual((yield* first(other)).reason?._tag, "Running")
        yield* QueueConfig.pauseUntil("default", until(0), { key: "eu-acme" })
        yield* rest
        assert.strictEqual((yield* first(ref)).reason?._tag, "Running")
      }),
    ),
  )

  it.effect("says that its key's records run one after the other", () =>
    check(
      Effect.gen(function* () {
        yield* configured({ byKey: { ordered: true } })
        yield* Sync.deferAll([{ tenant: "acme" }, { tenant: "acme" }])
        const ref = yield* of("acme")
        yield* rest
        const { reason, sentence } = yield* first(ref)
        assert.deepStrictEqual(reason, { _tag: "InOrder", queue: "default", key: "eu-acme", running: 1, waiting: 2 })
        assert.include(sentence, "one after the other: 1 running, 2 waiting")
      }),
    ),
  )
})

describe("QueueStatistics", () => {
  it.effect("tells how a key stands, and until when it or its queue is paused", () =>
    Effect.gen(function* () {
      yield* Sync.deferAll([{ tenant: "acme" }, { tenant: "acme" }, { tenant: "other" }])
      yield* Sync.defer({ tenant: "acme" }, { delay: "1 hour" })
      yield* QueueConfig.overrideKey("default", "eu-acme", { weight: 3 })
      yield* QueueConfig.pauseUntil("default", until(5_000), { key: "eu-acme" })
      assert.deepStrictEqual(yield* QueueStatistics.statisticsOfKey("default", "eu-acme"), {
        queue: "default",
        key: "eu-acme",
        waiting: 3,
        ready: 2,
        inFlight: 0,
        pausedUntil: Option.some(until(5_000)),
        override: { weight: 3 },
      })
      yield* QueueConfig.pauseUntil("default", until(7_000))
      const { pausedUntil } = yield* QueueStatistics.statistics("default")
      assert.deepStrictEqual(pausedUntil, Option.some(until(7_000)))
      yield* TestClock.setTime(7_000)
      assert.strictEqual(yield* Clock.currentTimeMillis, 7_000)
      assert.deepStrictEqual((yield* QueueStatistics.statistics("default")).pausedUntil, Option.none())
      const nothing = yield* QueueStatistics.statisticsOfKey("default", "nobody")
      assert.deepInclude(nothing, { waiting: 0, inFlight: 0, override: {} })
    }).pipe(Effect.provide(memory)),
  )
})

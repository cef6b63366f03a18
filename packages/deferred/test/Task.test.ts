import { assert, describe, it } from "@effect/vitest"
import { DeferLimits, InvalidTaskOptions } from "@outlive/deferred/DeferOptions"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { TaskContext } from "@outlive/deferred/TaskContext"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import { DateTime, Duration, Effect, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"

class Resize extends Task.make("Resize", {
  payload: { path: Schema.NonEmptyString, at: Schema.DateTimeUtc },
  success: Schema.Int,
  queue: "images",
}) {}
const memory = Layer.fresh(TaskQueueMemory.layer)
const payload = { path: "cat.png", at: DateTime.makeUnsafe(0) }

describe("Task.defer", () => {
  it.effect("stores the payload as the JSON of its schema, under the task's name and queue", () =>
    Effect.gen(function* () {
      const ref = yield* Resize.defer(payload)
      const record = yield* ref.record
      assert.strictEqual(record.payload, `{"path":"cat.png","at":"1970-01-01T00:00:00.000Z"}`)
      assert.deepInclude(record, { task: "Resize", queue: "images", version: 1, state: "ready", attempt: 0 })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("refuses a payload that its schema does not accept, and stores nothing", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Resize.defer({ ...payload, path: "" }))
      assert.strictEqual(error._tag, "SchemaError")
      const queue = yield* TaskQueue
      assert.deepStrictEqual(yield* queue.counts({ now: 0 }), [])
    }).pipe(Effect.provide(memory)),
  )

  it.effect("counts a delay from now, rounds nothing down, and takes the past for now (Q10)", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(10_000)
      const delayed = yield* Resize.defer(payload, { delay: "1 minute" })
      assert.strictEqual((yield* delayed.record).eta, 70_000)
      const past = yield* Resize.defer(payload, { eta: DateTime.makeUnsafe(5) })
      assert.strictEqual((yield* past.record).eta, 10_000)
      assert.strictEqual(yield* past.state, "ready")
    }).pipe(Effect.provide(memory)),
  )

  it.effect.each([
    ["queue", { queue: "no spaces" }],
    ["queue", { queue: "" }],
    ["name", { name: "" }],
    ["name", { name: "with space" }],
    ["name", { name: "trailing\n" }],
    ["name", { name: "x".repeat(501) }],
    ["priority", { priority: Number.NaN }],
    ["priority", { priority: Number.POSITIVE_INFINITY }],
    ["delay", { delay: "31 days" }],
    ["delay", { delay: Duration.infinity }],
    ["eta", { eta: DateTime.makeUnsafe(31 * 86_400_000) }],
    ["timeout", { timeout: 0 }],
    ["timeout", { timeout: Duration.infinity }],
    ["expires", { expires: 0 }],
    ["tombstone", { name: "x", tombstone: "31 days" }],
    ["headers", { headers: { "X-AppEngine-TaskName": "x" } }],
    ["headers", { headers: { "outlive-attempt": "1" } }],
    ["headers", { headers: { n: 1 as never } }],
    ["delay", { delay: 1, eta: DateTime.makeUnsafe(0) } as never],
  ] as const)("refuses an invalid %s: %o", ([field, options]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Resize.defer(payload, options))
      assert.instanceOf(error, InvalidTaskOptions)
      assert.strictEqual((error as InvalidTaskOptions).field, field)
      assert.include(error.message, "Resize")
    }).pipe(Effect.provide(memory)),
  )

  it.effect("accepts exactly 30 days, and what DeferLimits allows (Q10)", () =>
    Effect.gen(function* () {
      yield* Resize.defer(payload, { delay: "30 days" })
      const far = Resize.defer(payload, { delay: "60 days" })
      yield* Effect.provideService(far, DeferLimits, { maxDelay: Duration.days(90), maxPayload: 100 })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("refuses a payload above the limit, with its size", () =>
    Effect.gen(function* () {
      const limits = { maxDelay: Duration.days(30), maxPayload: 49 }
      const error = yield* Effect.flip(Effect.provideService(Resize.defer(payload), DeferLimits, limits))
      assert.deepInclude(error, { _tag: "PayloadTooLarge", task: "Resize", size: 50, limit: 49 })
    }).pipe(Effect.provide(memory)),
  )

  it.effect("fails on a name that is taken, tells what has it, and on a tombstone until when", () =>
    Effect.gen(function* () {
      const first = yield* Resize.defer(payload, { name: "once", tombstone: "1 day" })
      const taken = yield* Effect.flip(Resize.defer(payload, { name: "once" }))
      assert.deepInclude(taken, { _tag: "TaskAlreadyExists", id: first.id })
      yield* first.cancel()
      const tombstoned = yield* Effect.flip(Resize.defer(payload, { name: "once" }))
      assert.deepInclude(tombstoned, { _tag: "TombstonedTask", until: 86_400_000 })
      yield* TestClock.adjust("1 day")
      assert.strictEqual((yield* Resize.defer(payload, { name: "once" })).outcome, "Inserted")
    }).pipe(Effect.provide(memory)),
  )

  it.effect("gives the record that has the name when duplicates are ignored", () =>
    Effect.gen(function* () {
      const first = yield* Resize.defer(payload, { name: "once" })
      const second = yield* Resize.defer(payload, { name: "once", onDuplicate: "ignore" })
      assert.deepStrictEqual([second.id, second.outcome], [first.id, "Existing"])
    }).pipe(Effect.provide(memory)),
  )

  it.effect("carries headers and the policy to the record", () =>
    Effect.gen(function* () {
      const ref = yield* Resize.defer(payload, { headers: { tenant: "acme" }, retry: RetryPolicy.never })
      const record = yield* ref.record
      assert.deepStrictEqual(record.headers, { tenant: "acme" })
      assert.deepStrictEqual(yield* RetryPolicy.fromJson(record.retry ?? ""), RetryPolicy.never)
    }).pipe(Effect.provide(memory)),
  )
})

describe("Task.deferAll", () => {
  it.effect("keeps the order, and a taken name concerns only its own item (Q49)", () =>
    Effect.gen(function* () {
      yield* Resize.defer(payload, { name: "b" })
      const outcomes = yield* Resize.deferAll(
        ["a", "b", "c"].map((path) => ({ ...payload, path })),
        ({ path }) => ({ name: path }),
      )
      assert.deepStrictEqual(
        outcomes.map((outcome) => (outcome._tag === "Deferred" ? outcome.ref.outcome : outcome.error._tag)),
        ["Inserted", "TaskAlreadyExists", "Inserted"],
      )
    }).pipe(Effect.provide(memory)),
  )

  it.effect("stores nothing when one payload is invalid (Q50)", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Resize.deferAll([payload, { ...payload, path: "" }]))
      assert.strictEqual(error._tag, "SchemaError")
      const queue = yield* TaskQueue
      assert.deepStrictEqual(yield* queue.counts({ now: 0 }), [])
    }).pipe(Effect.provide(memory)),
  )

  it.effect("takes an empty list for nothing to do (Q40)", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* Resize.deferAll([]), [])
    }).pipe(Effect.provide(memory)),
  )
})

describe("Task.run", () => {
  it.effect("runs the handler here and now, without a queue", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* Resize.run(payload), 107)
      assert.strictEqual((yield* Effect.flip(Resize.run({ ...payload, path: "" })))._tag, "SchemaError")
    }).pipe(
      Effect.provide(
        Resize.toLayer(({ path }) => Effect.map(TaskContext, ({ attempt }) => path.length + 100 * attempt)),
      ),
    ),
  )
})

describe("Task.versions", () => {
  const Renamed = Task.make("Renamed", {
    payload: Task.versions({ user: Schema.String })
      .to({ userId: Schema.String }, (old) => ({ userId: old.user }))
      .to({ userId: Schema.NonEmptyString, lang: Schema.String }, (old) => ({ ...old, lang: "en" })),
  })
  const decode = (version: number, payload: string) => Renamed.payloadOf({ version, payload })

  it.effect("brings payloads of every older version up to the newest", () =>
    Effect.gen(function* () {
      const expected = { userId: "ada", lang: "en" }
      assert.deepStrictEqual(yield* decode(1, `{"user":"ada"}`), expected)
      assert.deepStrictEqual(yield* decode(2, `{"userId":"ada"}`), expected)
      assert.deepStrictEqual(yield* decode(3, `{"userId":"ada","lang":"en"}`), expected)
    }),
  )

  it.effect("does not decode a version it does not know, what is no JSON, or what a step made invalid", () =>
    Effect.gen(function* () {
      for (const [version, text] of [
        [4, `{"userId":"ada","lang":"en"}`],
        [0, `{"user":"ada"}`],
        [3, `{"userId"`],
        [1, `{"user":""}`],
      ] as const) {
        assert.strictEqual((yield* Effect.flip(decode(version, text)))._tag, "Undecodable")
      }
    }),
  )

  it.effect("writes the newest version", () =>
    Effect.gen(function* () {
      const ref = yield* Renamed.defer({ userId: "ada", lang: "no" })
      assert.strictEqual((yield* ref.record).version, 3)
    }).pipe(Effect.provide(memory)),
  )
})

import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import { DeferLimits, InvalidTaskOptions } from "@outlive/deferred/DeferOptions"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { TaskContext } from "@outlive/deferred/TaskContext"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { DateTime, Duration, Effect, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"

class Resize extends Task.make("Resize", {
  payload: { path: Schema.NonEmptyString, at: Schema.DateTimeUtc },
  success: Schema.Int,
  queue: "images",
}) {}
class Gone extends Schema.TaggedError<Gone>()("Gone", {}) {}
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
    ["delay", { delay: Number.NaN }],
    ["delay", { delay: "NaN seconds" as never }],
    ["tombstone", { name: "x", tombstone: Number.NaN }],
    ["expires", { expires: Number.NaN }],
    ["timeout", { timeout: 0 }],
    ["timeout", { timeout: Duration.infinity }],
    ["expires", { expires: 0 }],
    ["tombstone", { name: "x", tombstone: "31 days" }],
    ["unique", { unique: { key: "" } }],
    ["unique", { unique: { key: "x".repeat(1001) } }],
    ["retry.maxBackoff", { retry: RetryPolicy.appEngine({ minBackoff: 10, maxBackoff: 5 }) }],
    ["retry.maxAttempts", { retry: RetryPolicy.fixed(1, { maxAttempts: 0 }) }],
    ["headers", { headers: { "X-AppEngine-TaskName": "x" } }],
    ["headers", { headers: { "outlive-attempt": "1" } }],
    ["headers", { headers: { n: 1 as never } }],
    ["headers", { headers: { n: "x".repeat(65_537) } }],
    ["retry.minBackoff", { retry: RetryPolicy.appEngine({ minBackoff: Number.NaN }) }],
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
      yield* Effect.provideService(far, DeferLimits, { maxDelay: Duration.days(90), payloadLimit: 100 })
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

describe("Task.make", () => {
  it.effect.each([
    ["name", () => Task.make("")],
    ["queue", () => Task.make("T", { queue: "no spaces" })],
    ["priority", () => Task.make("T", { priority: Number.NaN })],
    ["timeout", () => Task.make("T", { timeout: 0 })],
    ["lease", () => Task.make("T", { lease: Duration.infinity })],
    ["keep", () => Task.make("T", { keep: Number.NaN })],
    ["maxCrashes", () => Task.make("T", { maxCrashes: -1 })],
    ["retry.delay", () => Task.make("T", { retry: RetryPolicy.fixed(Duration.infinity) })],
    ["retry.Gone.maxAge", () => Task.make("T", { error: Gone, retry: { Gone: RetryPolicy.fixed(1, { maxAge: 0 }) } })],
  ] as const)("throws for an invalid %s, where the task is defined", ([field, make]) =>
    Effect.sync(() => {
      try {
        make()
      } catch (error) {
        assert.instanceOf(error, InvalidTaskOptions)
        assert.strictEqual(error.field, field)
        return
      }
      assert.fail("it did not throw")
    }),
  )
})

describe("unique", () => {
  const Sync = Task.make("Sync", { payload: { user: Schema.String }, unique: { key: ({ user }) => user } })
  const Reindex = Task.make("Reindex", {
    payload: { shard: Schema.Int },
    unique: { key: ({ shard }) => `${shard}`, while: ["scheduled", "ready"] },
  })
  const start = Effect.flatMap(TaskQueue, (queue) =>
    queue.claim({
      queues: [{ name: "default", limit: 1 }],
      tasks: [Sync, Reindex].map(({ taskName }) => ({ name: taskName, maxVersion: 1 })),
      targets: [],
      lease: 1000,
      worker: "w",
      now: 0,
    }),
  )

  it.effect("gives the record that holds the key of the payload, until its end", () =>
    Effect.gen(function* () {
      const first = yield* Sync.defer({ user: "ada" })
      const second = yield* Sync.defer({ user: "ada" })
      assert.deepStrictEqual([first.outcome, second.outcome, second.id], ["Inserted", "Existing", first.id])
      assert.strictEqual((yield* Sync.defer({ user: "bob" })).outcome, "Inserted")
      yield* start
      assert.strictEqual((yield* Sync.defer({ user: "ada" })).outcome, "Existing")
    }).pipe(Effect.provide(memory)),
  )

  it.effect("until its start: what comes while it runs is run after it", () =>
    Effect.gen(function* () {
      const first = yield* Reindex.defer({ shard: 1 })
      assert.strictEqual((yield* Reindex.defer({ shard: 1 })).id, first.id)
      yield* start
      assert.strictEqual((yield* Reindex.defer({ shard: 1 })).outcome, "Inserted")
    }).pipe(Effect.provide(memory)),
  )

  it.effect("holds in bulk, and says so for each item", () =>
    Effect.gen(function* () {
      const outcomes = yield* Sync.deferAll([{ user: "a" }, { user: "b" }, { user: "a" }])
      const refs = outcomes.map((outcome) => (outcome._tag === "Deferred" ? outcome.ref : undefined))
      assert.deepStrictEqual(
        refs.map((ref) => ref?.outcome),
        ["Inserted", "Inserted", "Existing"],
      )
      assert.strictEqual(refs[2]?.id, refs[0]?.id)
    }).pipe(Effect.provide(memory)),
  )

  it.effect("takes another key, or none, for one deferral", () =>
    Effect.gen(function* () {
      yield* Sync.defer({ user: "ada" })
      assert.strictEqual((yield* Sync.defer({ user: "ada" }, { unique: false })).outcome, "Inserted")
      assert.strictEqual((yield* Sync.defer({ user: "ada" }, { unique: { key: "ada 2" } })).outcome, "Inserted")
      assert.strictEqual((yield* Sync.defer({ user: "x" }, { unique: { key: "ada" } })).outcome, "Existing")
    }).pipe(Effect.provide(memory)),
  )

  it.effect("fails with InvalidTaskOptions when the key's function throws", () =>
    Effect.gen(function* () {
      const Broken = Task.make("Broken", {
        unique: {
          key: () => {
            throw new Error("no key")
          },
        },
      })
      const error = yield* Effect.flip(Broken.defer())
      assert.deepInclude(error, { _tag: "InvalidTaskOptions", field: "unique" })
      assert.include(error.message, "no key")
    }).pipe(Effect.provide(memory)),
  )
})

describe("Task.group", () => {
  const Hello = Task.make("Hello", { payload: { name: Schema.String }, success: Schema.String })
  const Bye = Task.make("Bye", { error: Gone, retry: { Gone: "never" }, aliases: ["Farewell"] })
  const Greetings = Task.group(Hello, Bye)

  it.effect("takes the handlers of all its tasks and is worked as one", () =>
    Effect.gen(function* () {
      const hello = yield* Hello.defer({ name: "ada" })
      const bye = yield* Bye.defer()
      assert.strictEqual(yield* hello.await, "hello ada")
      assert.strictEqual((yield* Effect.flip(bye.await))._tag, "Gone")
      assert.strictEqual(yield* Resize.run(payload), 1)
    }).pipe(
      Effect.provide(
        Worker.layer({ tasks: [Greetings, Resize] }).pipe(
          Layer.provideMerge(
            Greetings.toLayer({
              Hello: ({ name }) => Effect.succeed(`hello ${name}`),
              Bye: () => Effect.fail(new Gone()),
            }),
          ),
          Layer.provideMerge(Resize.toLayer(() => Effect.succeed(1))),
          Layer.provideMerge(memory),
          Layer.provide(Instance.layerBackend()),
        ),
      ),
    ),
  )

  it.effect("refuses two tasks with one name", () =>
    Effect.sync(() => {
      assert.throws(() => Task.group(Hello, Task.make("Hello")), /twice: Hello/)
      assert.throws(() => Task.group(Bye, Task.make("Farewell")), /twice: Farewell/)
    }),
  )
})

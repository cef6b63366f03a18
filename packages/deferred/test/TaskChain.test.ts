import { randomBytes } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as DeadLetters from "@outlive/deferred/DeadLetters"
import * as PayloadCodec from "@outlive/deferred/PayloadCodec"
import * as PullQueue from "@outlive/deferred/PullQueue"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import * as TaskChain from "@outlive/deferred/TaskChain"
import type { TaskContext } from "@outlive/deferred/TaskContext"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { DateTime, type Duration, Effect, Latch, Layer, Option, Redacted, References, Schema } from "effect"
import { TestClock } from "effect/testing"

class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}
const retry = RetryPolicy.fixed("1 second", { maxAttempts: 2 })
const file = Schema.Struct({ path: Schema.String, at: Schema.DateTimeUtcFromString })

const Download = Task.make("Download", { payload: { url: Schema.String }, success: file, error: Refused, retry })
const Resize = Task.make("Resize", { payload: file, success: Schema.String, error: Refused, retry, queue: "images" })
const Publish = Task.make("Publish", { payload: Schema.NonEmptyString, success: Schema.Int, error: Refused, retry })
const Thumbnail = TaskChain.make(Download).to(Resize).to(Publish)

type Downloading = Parameters<typeof Download.toLayer<TaskContext>>[0]
type Resizing = Parameters<typeof Resize.toLayer<TaskContext>>[0]

const at = DateTime.makeUnsafe(1000)
const download: Downloading = ({ url }) => Effect.succeed({ path: `/tmp/${url}`, at })
const resize: Resizing = ({ at, path }) => Effect.succeed(`${path} of ${DateTime.toEpochMillis(at)}`)
const cat = { url: "cat" }
/** What Publish makes of it: how long the text is. */
const expected = "/tmp/cat of 1000".length

const Memory = Layer.fresh(TaskQueueMemory.layer)

const app = (
  options: {
    readonly download?: Downloading
    readonly resize?: Resizing
    readonly queue?: Layer.Layer<TaskQueue, unknown>
  } = {},
) =>
  Worker.layer({ tasks: [Download, Resize, Publish], lease: "1 minute" }).pipe(
    Layer.provide(Download.toLayer(options.download ?? download)),
    Layer.provide(Resize.toLayer(options.resize ?? resize)),
    Layer.provide(Publish.toLayer((text) => Effect.succeed(text.length))),
    Layer.provideMerge(options.queue ?? Memory),
    Layer.provide(Instance.layerBackend()),
    Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "None")),
    Layer.orDie,
  )
const rest = Effect.repeat(Effect.yieldNow, { times: 300 })
const pass = (duration: Duration.Input) => rest.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(rest))
const states = (links: ReadonlyArray<{ readonly state: Effect.Effect<string, unknown> }>) =>
  Effect.forEach(links, ({ state }) => state)

describe("TaskChain", () => {
  it.effect("hands what each task gives to the next one, and gives what the last one gave", () =>
    Effect.gen(function* () {
      const chain = yield* Thumbnail.defer(cat)
      const length: number = yield* chain.await
      assert.strictEqual(length, expected)
      const [first, second, third] = chain.links
      assert.strictEqual(third.id, chain.id)
      assert.deepStrictEqual((yield* first.await).path, "/tmp/cat")
      assert.strictEqual(yield* second.await, "/tmp/cat of 1000")
      assert.strictEqual((yield* second.record).queue, "images")
    }).pipe(Effect.provide(app())),
  )

  it.effect("stores all links in one call, and starts none before the one before it has succeeded", () => {
    const gate = Latch.makeUnsafe(false)
    return Effect.gen(function* () {
      const chain = yield* Thumbnail.defer(cat, { delay: "1 second" })
      assert.deepStrictEqual(yield* states(chain.links), ["scheduled", "scheduled", "scheduled"])
      yield* pass("1 second")
      assert.deepStrictEqual(yield* states(chain.links), ["running", "scheduled", "scheduled"])
      yield* gate.open
      yield* rest
      assert.deepStrictEqual(yield* states(chain.links), ["succeeded", "succeeded", "succeeded"])
    }).pipe(Effect.provide(app({ download: (...args) => Effect.andThen(gate.await, download(...args)) })))
  })

  it.effect("waits for the retries of a link, and hands over what the last attempt gave", () =>
    Effect.gen(function* () {
      const chain = yield* Thumbnail.defer(cat)
      yield* pass("0 seconds")
      assert.deepStrictEqual(yield* states(chain.links), ["scheduled", "scheduled", "scheduled"])
      yield* pass("1 second")
      assert.strictEqual(yield* chain.await, "/tmp/2 of 1000".length)
    }).pipe(
      Effect.provide(
        app({
          download: (_, { attempt }) =>
            attempt === 1 ? Effect.fail(new Refused()) : Effect.succeed({ path: `/tmp/${attempt}`, at }),
        }),
      ),
    ),
  )

  it.effect("cancels what comes after a link that did not succeed; redriven, that runs alone", () =>
    Effect.gen(function* () {
      const chain = yield* Thumbnail.defer(cat)
      yield* pass("1 second")
      const error = yield* Effect.flip(chain.await)
      assert.deepInclude(error, { _tag: "TaskCancelled", reason: "a task before it did not succeed" })
      assert.strictEqual((yield* Effect.flip(chain.links[1].await))._tag, "Refused")
      assert.deepStrictEqual(yield* states(chain.links), ["succeeded", "dead", "cancelled"])
      yield* DeadLetters.redrive([chain.links[1].id])
      yield* rest
      assert.deepStrictEqual(yield* states(chain.links), ["succeeded", "succeeded", "cancelled"])
    }).pipe(
      Effect.provide(
        app({
          resize: (payload, context) =>
            Option.isNone(context.previousFailure) || context.attempt === 2
              ? Effect.fail(new Refused())
              : resize(payload, context),
        }),
      ),
    ),
  )

  it.effect("cancels all that has not ended", () =>
    Effect.gen(function* () {
      const chain = yield* Thumbnail.defer(cat)
      yield* rest
      assert.deepStrictEqual(yield* states(chain.links), ["succeeded", "running", "scheduled"])
      assert.strictEqual(yield* chain.cancel({ reason: "enough" }), "Requested")
      yield* rest
      assert.deepStrictEqual(yield* states(chain.links), ["succeeded", "cancelled", "cancelled"])
      const enough = { _tag: "TaskCancelled", reason: "enough" } as const
      assert.deepInclude(yield* Effect.flip(chain.links[1].await), enough)
      assert.deepInclude(yield* Effect.flip(chain.await), enough)
      assert.strictEqual(yield* chain.cancel(), "TooLate")
      const waiting = yield* Thumbnail.defer(cat, { delay: "1 hour" })
      assert.strictEqual(yield* waiting.cancel(), "Cancelled")
      assert.deepStrictEqual(yield* states(waiting.links), ["cancelled", "cancelled", "cancelled"])
    }).pipe(Effect.provide(app({ resize: () => Effect.never }))),
  )

  it.effect("hands over what is encrypted, each payload for its own record", () => {
    const Codec = PayloadCodec.layer([
      PayloadCodec.compression({ above: 0 }),
      PayloadCodec.encryption({ keys: [{ id: "k", key: Redacted.make(randomBytes(32)) }], required: true }),
    ])
    return Effect.gen(function* () {
      const chain = yield* Thumbnail.defer(cat)
      // Cryptography takes real time.
      yield* TestClock.withLive(Effect.sleep("100 millis"))
      yield* pass("1 second")
      assert.strictEqual(yield* TestClock.withLive(chain.await), expected)
      for (const link of chain.links) {
        const { payload, result } = yield* link.record
        assert.include(payload, "aes-256-gcm")
        assert.notInclude(`${payload}${result}`, "cat")
      }
    }).pipe(Effect.provide(app({ queue: Memory.pipe(Layer.provide(Codec)) })))
  })

  it.effect("hands over what is not kept as a result, and what comes with an unkept record", () => {
    const Brief = Task.make("Download", { payload: { url: Schema.String }, success: file, keep: "none" })
    const Middle = Task.make("Resize", { payload: file, success: Schema.String, keep: "none" })
    const chain = TaskChain.make(Brief).to(Middle).to(Publish)
    const Workers = Worker.layer({ tasks: [Brief, Middle, Publish] }).pipe(
      Layer.provide(Brief.toLayer((payload, context) => Effect.orDie(download(payload, context)))),
      Layer.provide(Middle.toLayer((payload, context) => Effect.orDie(resize(payload, context)))),
      Layer.provide(Publish.toLayer((text) => Effect.succeed(text.length))),
      Layer.provideMerge(Memory),
      Layer.provide(Instance.layerBackend()),
    )
    return Effect.gen(function* () {
      const ref = yield* chain.defer(cat)
      assert.strictEqual(yield* ref.await, expected)
      assert.strictEqual((yield* Effect.flip(ref.links[0].state))._tag, "TaskNotFound")
    }).pipe(Effect.provide(Workers))
  })

  it.effect("is handed over by whoever settles a link: a puller, too", () =>
    Effect.gen(function* () {
      const chain = yield* Thumbnail.defer(cat)
      const leased = yield* PullQueue.lease({ queue: "default", tasks: [Download], max: 1, duration: "1 minute" })
      yield* leased.leases[0]!.succeed({ path: "/tmp/pulled", at })
      const [record] = yield* Effect.flatMap(TaskQueue, (queue) => queue.get({ ids: [chain.links[1].id], now: 0 }))
      assert.deepStrictEqual(JSON.parse(record!.payload), { path: "/tmp/pulled", at: "1970-01-01T00:00:01.000Z" })
      assert.strictEqual(record!.state, "ready")
    }).pipe(Effect.provide(Memory)),
  )

  it.effect("is dead when it gives more than may be deferred, with a sentence that says so", () =>
    Effect.gen(function* () {
      const chain = yield* Thumbnail.defer(cat)
      yield* rest
      assert.deepInclude(yield* Effect.flip(Effect.asVoid(chain.links[0].await)), {
        _tag: "TaskDead",
        reason: "PermanentFailure",
        detail:
          "the success cannot be handed over: task Resize: the encoded payload has 110043 bytes, more than the limit of 102400",
      })
      assert.deepStrictEqual(yield* states(chain.links), ["dead", "cancelled", "cancelled"])
    }).pipe(Effect.provide(app({ queue: Bounded, download: () => Effect.succeed({ path: "x".repeat(110_000), at }) }))),
  )

  it.effect("keeps a link without its hand-over from running on nothing", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const chain = yield* Thumbnail.defer(cat)
      // As by a program that knows nothing of chains.
      const { records } = yield* queue.claim({
        queues: [{ name: "default", limit: 1 }],
        tasks: [{ name: "Download", maxVersion: 1 }],
        targets: [],
        lease: 1000,
        worker: "old",
        now: 0,
      })
      const { id, token } = records[0]!
      yield* queue.settle({ settlements: [{ id, token, _tag: "Succeed", result: undefined }], now: 0 })
      yield* Effect.gen(function* () {
        yield* rest
        assert.deepInclude(yield* Effect.flip(chain.links[1].await), { _tag: "TaskDead", reason: "Undecodable" })
      }).pipe(Effect.provide(app({ queue: Layer.succeed(TaskQueue, queue) })))
    }).pipe(Effect.provide(Memory)),
  )

  it.effect("has the key of its first link in all of them, unless a link has its own", () => {
    const Keyed = Task.make("Download", { payload: { url: Schema.String }, success: file, key: ({ url }) => url })
    const Later = Task.make("Resize", { payload: file, success: Schema.String, key: ({ path }) => path })
    return Effect.gen(function* () {
      const chain = yield* TaskChain.make(Keyed).to(Later).to(Publish, { key: "own" }).defer(cat)
      const keys = yield* Effect.forEach(chain.links, ({ record }) => Effect.map(record, ({ key }) => key))
      assert.deepStrictEqual(keys, ["cat", "cat", "own"])
      const none = yield* TaskChain.make(Keyed).to(Later, { key: false }).defer(cat, { key: "mine" })
      assert.strictEqual((yield* none.links[0].record).key, "mine")
      assert.isUndefined((yield* none.links[1].record).key)
    }).pipe(Effect.provide(Memory))
  })

  it.effect("refuses a link with a name or a unique key, and a payload that is none, and stores nothing", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const Unique = Task.make("Unique", { payload: file, unique: { key: () => "one" } })
      assert.deepInclude(yield* Effect.flip(TaskChain.make(Download).to(Unique).defer(cat)), {
        _tag: "InvalidTaskOptions",
        task: "Unique",
        field: "unique",
      })
      assert.deepInclude(yield* Effect.flip(Thumbnail.defer({ url: 1 as never })), { _tag: "SchemaError" })
      const error = yield* Effect.flip(Thumbnail.defer(cat, { requireTransaction: true }))
      assert.strictEqual(error._tag, "NotInTransaction")
      assert.deepStrictEqual(yield* queue.counts({ now: 0 }), [])
      yield* TaskChain.make(Download).to(Unique, { unique: false }).defer(cat)
    }).pipe(Effect.provide(Memory)),
  )

  it("does not compile when a task does not take what the one before gives", () => {
    const Number = Task.make("Number", {
      payload: Schema.Int,
      success: Schema.Struct({ a: Schema.Int, b: Schema.Int }),
    })
    const Less = Task.make("Less", { payload: { a: Schema.Int } })
    const More = Task.make("More", { payload: { a: Schema.Int, c: Schema.Int } })
    const Nothing = Task.make("Nothing")
    // What is left over is left out, and what may be lacking may.
    TaskChain.make(Publish).to(Number).to(Less)
    TaskChain.make(Nothing).to(Nothing)
    // @ts-expect-error: a number is no text
    TaskChain.make(Publish).to(Publish)
    // @ts-expect-error: c is lacking
    TaskChain.make(Number).to(More)
    // @ts-expect-error: nothing is no file
    TaskChain.make(Nothing).to(Resize)
    const Waited = Task.make("Waited", { success: Schema.Duration })
    const Wait = Task.make("Wait", { payload: Schema.DurationFromMillis })
    // @ts-expect-error: milliseconds are not the JSON of a duration
    TaskChain.make(Waited).to(Wait)
  })
})

/** A queue that stores nothing apart. */
const Bounded = Layer.effect(
  TaskQueue,
  Effect.map(TaskQueue, (queue) => TaskQueue.of({ ...queue, payloads: undefined })),
).pipe(Layer.provide(Memory))

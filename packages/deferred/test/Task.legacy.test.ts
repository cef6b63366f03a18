/** Deferral as App Engine has it, row by row of `docs/legacy.md`, where no other test says it. */
import { assert, describe, it } from "@effect/vitest"
import { DeferLimits, type DeferOptions } from "@outlive/deferred/DeferOptions"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { PermanentTaskFailure, SingularTaskFailure } from "@outlive/deferred/TaskFailure"
import type { TaskId } from "@outlive/deferred/TaskId"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TestTasks from "@outlive/deferred/testing/TestTasks"
import { DateTime, Duration, Effect, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"

const day = 86_400_000

class Refused extends Schema.TaggedError<Refused>()("Refused", { code: Schema.Int }) {}
const Note = Task.make("Note", {
  payload: { text: Schema.String },
  success: Schema.String,
  error: Refused,
  retry: RetryPolicy.appEngine({ retryLimit: 1 }),
})
type Handler = Parameters<typeof Note.toLayer<never>>[0]

const noting = (handler: Handler) => TestTasks.layer({ tasks: [Note] }).pipe(Layer.provide(Note.toLayer(handler)))
const echo: Handler = ({ text }) => Effect.succeed(text)
const hi = { text: "hi" }
const accepted = (options: DeferOptions) => Effect.flatMap(Note.defer(hi, options), (ref) => ref.record)
const refused = (options: DeferOptions) => Effect.flip(Note.defer(hi, options))
/** What waits, in the order in which it was deferred. */
const stored = Effect.map(TestTasks.deferred(Note), (records) => records.map(({ payload }) => payload.text))

describe("what defer says and takes", () => {
  it.effect("goes to the queue default, at once, without a name, when nothing is said (D2, D4)", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(5000)
      const record = yield* accepted({})
      assert.deepInclude(record, { queue: "default", eta: 5000, name: undefined, target: undefined, retry: undefined })
      assert.deepStrictEqual(record.headers, {})
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("carries headers, and none when they are undefined (D6)", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* accepted({ headers: { "Content-Language": "no" } })).headers, {
        "Content-Language": "no",
      })
      assert.deepStrictEqual((yield* accepted({ headers: undefined })).headers, {})
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect.each(["X-AppEngine-QueueName", "x-appengine-x", "X-CloudTasks-TaskETA", "outlive-attempt", "Outlive-X"])(
    "refuses the reserved header %s, where the original dropped it in silence (Q32)",
    ([...letters]) =>
      Effect.gen(function* () {
        const name = letters.join("")
        const error = yield* refused({ headers: { name: "fine", [name]: "1" } })
        assert.deepInclude(error, { _tag: "InvalidTaskOptions", field: "headers" })
        assert.include(error.message, name)
        assert.deepStrictEqual(yield* stored, [])
      }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("adds the trace of the span it is in, and nothing else, and not over the caller's own (Q31)", () =>
    Effect.gen(function* () {
      const headersOf = (options: DeferOptions) => Effect.map(accepted(options), ({ headers }) => headers)
      const traceparent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
      assert.deepStrictEqual(yield* headersOf({}), {})
      const inSpan = Effect.withSpan("caller")
      const [headers, { spanId, traceId }] = yield* headersOf({ headers: { tenant: "acme" } }).pipe(
        Effect.zip(Effect.currentSpan),
        inSpan,
      )
      assert.deepStrictEqual(headers, { tenant: "acme", traceparent: `00-${traceId}-${spanId}-01` })
      assert.deepStrictEqual(yield* headersOf({ headers: { traceparent } }).pipe(inSpan), { traceparent })
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("keeps options and payload apart, so that a payload may have fields of any name (D7, D8)", () => {
    const Any = Task.make("Any", { payload: { name: Schema.String, queue: Schema.String, delay: Schema.Int } })
    return Effect.gen(function* () {
      const payload = { name: "no name at all", queue: "nor queue", delay: -1 }
      const ref = yield* Any.defer(payload, { name: "n", queue: "q" })
      assert.deepInclude(yield* ref.record, { name: "n", queue: "q", eta: 0, payload: JSON.stringify(payload) })
    }).pipe(Effect.provide(TestTasks.layerQueue))
  })

  it.effect("takes the payload as it is when it is deferred: what changes later is not seen (D15)", () =>
    Effect.gen(function* () {
      const payload = { text: "before" }
      const ref = yield* Note.defer(payload)
      payload.text = "after"
      assert.deepStrictEqual(yield* Effect.flatMap(ref.record, Note.loadPayload), { text: "before" })
      yield* TestTasks.drain()
      assert.strictEqual(yield* ref.await, "before")
    }).pipe(Effect.provide(noting(echo))),
  )

  it.effect("keeps what is empty, undefined or a list, where the original's parameters lost it (Q25, Q26)", () => {
    const Lists = Task.make("Lists", {
      payload: {
        none: Schema.Array(Schema.String),
        text: Schema.String,
        nothing: Schema.NullOr(Schema.String),
        maybe: Schema.optional(Schema.String),
        bytes: Schema.Uint8Array,
        at: Schema.Date,
      },
    })
    return Effect.gen(function* () {
      const payload = { none: [], text: "", nothing: null, bytes: new Uint8Array([0, 255]), at: new Date(0) }
      const ref = yield* Lists.defer(payload)
      assert.deepStrictEqual(yield* Effect.flatMap(ref.record, Lists.loadPayload), payload)
    }).pipe(Effect.provide(TestTasks.layerQueue))
  })

  it.effect("bounds names and queues to the letter, without a line feed at the end (Q1, Q2)", () =>
    Effect.gen(function* () {
      for (const name of ["a", "A-Z_09", "x".repeat(500)]) yield* accepted({ name })
      for (const name of ["", "x".repeat(501), "a.b", "a b", "ä", "a\n"]) {
        assert.deepInclude(yield* refused({ name }), { _tag: "InvalidTaskOptions", field: "name" })
      }
      for (const queue of ["a", "A-Z09", "a.b_c", "x".repeat(100)]) yield* accepted({ queue })
      for (const queue of ["", "x".repeat(101), "a/b", "a b", "ä", "a\n"]) {
        assert.deepInclude(yield* refused({ queue }), { _tag: "InvalidTaskOptions", field: "queue" })
      }
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("reaches 30 days ahead to the millisecond, by delay and by eta, and takes the past for now (Q10)", () =>
    Effect.gen(function* () {
      const now = 1_000
      yield* TestClock.setTime(now)
      const ahead = 30 * day
      const at = (millis: number) => ({ eta: DateTime.makeUnsafe(millis) })
      for (const options of [{ delay: ahead }, at(now + ahead)]) {
        assert.strictEqual((yield* accepted(options)).eta, now + ahead)
      }
      assert.deepInclude(yield* refused({ delay: ahead + 1 }), { _tag: "InvalidTaskOptions", field: "delay" })
      assert.deepInclude(yield* refused(at(now + ahead + 1)), { _tag: "InvalidTaskOptions", field: "eta" })
      assert.strictEqual((yield* accepted(at(now - 1))).eta, now)
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("takes delay or eta, not both, no negative delay, and an eta that knows its zone (Q28)", () =>
    Effect.gen(function* () {
      const both = { delay: 1, eta: DateTime.makeUnsafe(0) } as never
      assert.deepInclude(yield* refused(both), { _tag: "InvalidTaskOptions", field: "delay" })
      assert.deepInclude(yield* refused({ delay: -1 }), { _tag: "InvalidTaskOptions", field: "delay" })
      const noonInTokyo = DateTime.makeZonedUnsafe("1970-01-01T12:00:00", {
        timeZone: "Asia/Tokyo",
        adjustForTimeZone: true,
      })
      assert.strictEqual((yield* accepted({ eta: noonInTokyo })).eta, Duration.toMillis("3 hours"))
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("goes to the workers of a target only when it says so (Q30)", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      yield* accepted({ target: "v2" })
      const claim = (targets: ReadonlyArray<string>) =>
        queue.claim({
          queues: [{ name: "default", limit: 1 }],
          tasks: [{ name: "Note", maxVersion: 1 }],
          targets,
          lease: 1,
          worker: "w",
          now: 0,
        })
      assert.deepStrictEqual((yield* claim(["v1"])).records, [])
      assert.strictEqual((yield* claim(["v1", "v2"])).records.length, 1)
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("stores payloads apart above 102,400 bytes, as they are encoded (D20, D21, Q3, Q4)", () =>
    Effect.gen(function* () {
      // {"text":"..."} has 11 bytes around the text.
      for (const [length, apart] of [
        [102_389, false],
        [102_390, true],
      ] as const) {
        const ref = yield* Note.defer({ text: "x".repeat(length) }, { headers: { long: "y".repeat(1000) } })
        assert.strictEqual((yield* ref.record).payloadRef !== undefined, apart, `${length}`)
      }
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )
})

describe("names", () => {
  it.effect("stay taken for nine days after the end, however it came, and are free at once when said (Q14)", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(7)
      yield* Note.defer(hi, { name: "usual" })
      yield* Note.defer(hi, { name: "short", tombstone: 0 })
      yield* TestTasks.drain()
      yield* Note.defer(hi, { name: "short" })
      const again = Effect.flip(Note.defer(hi, { name: "usual" }))
      assert.deepInclude(yield* again, { _tag: "TombstonedTask", until: 7 + 9 * day })
      yield* TestClock.adjust(9 * day - 1)
      assert.deepInclude(yield* again, { _tag: "TombstonedTask" })
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Note.defer(hi, { name: "usual" })).outcome, "Inserted")
    }).pipe(Effect.provide(noting(echo))),
  )

  it.effect("tell a record that is there from one that was, in typed errors (Q47, Q48)", () =>
    Effect.gen(function* () {
      const first = yield* Note.defer(hi, { name: "n" })
      const answer = Note.defer(hi, { name: "n" }).pipe(
        Effect.as("stored"),
        Effect.catchTag("TaskAlreadyExists", ({ id }) => Effect.succeed(`there: ${id}`)),
        Effect.catchTag("TombstonedTask", ({ until }) => Effect.succeed(`until ${until}`)),
      )
      assert.strictEqual(yield* answer, `there: ${first.id}`)
      yield* TestTasks.drain()
      assert.strictEqual(yield* answer, `until ${9 * day}`)
      // Somewhere else it is another name.
      assert.strictEqual((yield* Note.defer(hi, { name: "n", queue: "other" })).outcome, "Inserted")
    }).pipe(Effect.provide(noting(echo))),
  )

  it.effect("are not made up: what has none is known by its id (Q51)", () =>
    Effect.gen(function* () {
      const [first, second] = [yield* Note.defer(hi), yield* Note.defer(hi)]
      assert.notStrictEqual(first.id, second.id)
      assert.isUndefined((yield* first.record).name)
      const ref = yield* Note.ref(first.id)
      assert.deepStrictEqual(yield* ref.record, yield* first.record)
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )
})

describe("many at once", () => {
  const texts = (n: number) => Array.from({ length: n }, (_, index) => ({ text: `${index}` }))
  const tagsOf = (outcomes: Effect.Success<ReturnType<typeof Note.deferAll>>) =>
    outcomes.map((outcome) => (outcome._tag === "Deferred" ? outcome.ref.outcome : outcome.error._tag))

  it.effect("gives an outcome for each, in order, of a list, a generator or nothing (Q40)", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* Note.deferAll([]), [])
      const outcomes = yield* Note.deferAll(new Set(texts(3)))
      assert.deepStrictEqual(tagsOf(outcomes), ["Inserted", "Inserted", "Inserted"])
      assert.deepStrictEqual(yield* stored, ["0", "1", "2"])
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("has no bound of 100, and is one call of the queue (Q42)", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      let calls = 0
      const enqueue: TaskQueue["Service"]["enqueue"] = (params) => {
        calls++
        return queue.enqueue(params)
      }
      const outcomes = yield* Effect.provideService(Note.deferAll(texts(1000)), TaskQueue, { ...queue, enqueue })
      assert.strictEqual(outcomes.length, 1000)
      assert.strictEqual(calls, 1)
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("goes to several queues and workers in one call (Q41)", () =>
    Effect.gen(function* () {
      yield* Note.deferAll(texts(2), ({ text }) => ({ queue: `q${text}` }))
      const queue = yield* TaskQueue
      const counts = yield* queue.counts({ now: 0 })
      assert.deepStrictEqual(counts.map(({ count, queue }) => [queue, count]).sort(), [
        ["q0", 1],
        ["q1", 1],
      ])
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("refuses the second of a name within one call, and stores the others (Q43, Q49)", () =>
    Effect.gen(function* () {
      const outcomes = yield* Note.deferAll(texts(4), (_, index) => ({ name: ["a", "b", "a", undefined][index] }))
      assert.deepStrictEqual(tagsOf(outcomes), ["Inserted", "Inserted", "TaskAlreadyExists", "Inserted"])
      assert.deepStrictEqual(yield* stored, ["0", "1", "3"])
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("tells each of what was there, what was and what is new (Q49)", () =>
    Effect.gen(function* () {
      yield* Note.defer(hi, { name: "was" })
      yield* TestTasks.drain()
      yield* Note.defer(hi, { name: "is" })
      const outcomes = yield* Note.deferAll(texts(3), (_, index) => ({ name: ["was", "is", "new"][index] }))
      assert.deepStrictEqual(tagsOf(outcomes), ["TombstonedTask", "TaskAlreadyExists", "Inserted"])
    }).pipe(Effect.provide(noting(echo))),
  )

  it.effect("stores nothing when an option of one is wrong (Q50)", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        Note.deferAll(texts(3), (_, index) => ({ priority: index === 2 ? Number.NaN : 0 })),
      )
      assert.deepInclude(error, { _tag: "InvalidTaskOptions", field: "priority" })
      assert.deepStrictEqual(yield* stored, [])
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("defers again what is run again: a deferral is a description, not a task that is used up (Q44)", () =>
    Effect.gen(function* () {
      const deferral = Note.defer(hi)
      assert.notStrictEqual((yield* deferral).id, (yield* deferral).id)
      const named = Note.defer(hi, { name: "once", onDuplicate: "ignore" })
      const [first, second] = [yield* named, yield* named]
      assert.deepStrictEqual([second.id, second.outcome], [first.id, "Existing"])
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )
})

describe("what becomes of it", () => {
  it.effect("keeps what the handler returns or fails with, to be read as often as wanted (D28, D42)", () =>
    Effect.gen(function* () {
      const good = yield* Note.defer(hi)
      const bad = yield* Note.defer({ text: "no" }, { retry: RetryPolicy.never })
      yield* TestTasks.drain()
      for (let times = 0; times < 2; times++) {
        assert.strictEqual(yield* good.await, "hi")
        assert.deepStrictEqual(yield* Effect.flip(bad.await), new Refused({ code: 7 }))
      }
    }).pipe(
      Effect.provide(
        noting(({ text }) => (text === "no" ? Effect.fail(new Refused({ code: 7 })) : Effect.succeed(text))),
      ),
    ),
  )

  it.effect.each([
    { row: "D30", handler: Effect.succeed(""), runs: 1, state: "succeeded", reason: undefined },
    {
      row: "D31",
      handler: Effect.fail(new SingularTaskFailure({ message: "" })),
      runs: 2,
      state: "dead",
      reason: "RetriesExhausted",
    },
    {
      row: "D32",
      handler: Effect.fail(new PermanentTaskFailure({ message: "" })),
      runs: 1,
      state: "dead",
      reason: "PermanentFailure",
    },
    {
      row: "D34, typed",
      handler: Effect.fail(new Refused({ code: 1 })),
      runs: 2,
      state: "dead",
      reason: "RetriesExhausted",
    },
    { row: "D34", handler: Effect.die(new Error("")), runs: 2, state: "dead", reason: "RetriesExhausted" },
  ] as const)("ends $state after $runs of two attempts: nothing is dropped in silence ($row)", (row) =>
    Effect.gen(function* () {
      const ref = yield* Note.defer(hi)
      const { ran } = yield* TestTasks.drain({ advance: true })
      assert.strictEqual(ran.length, row.runs)
      assert.deepInclude(yield* ref.record, { state: row.state, reason: row.reason })
    }).pipe(Effect.provide(noting(() => row.handler))),
  )

  it.effect("waits for who knows its name, and runs under an older one (D17, D55, D58)", () => {
    const Renamed = Task.make("Memo", { payload: { text: Schema.String }, aliases: ["Note"] })
    const Other = Task.make("Other")
    const others = TestTasks.layer({ tasks: [Other] }).pipe(Layer.provide(Other.toLayer(() => Effect.void)))
    const renamed = TestTasks.layer({ tasks: [Renamed] }).pipe(Layer.provide(Renamed.toLayer(() => Effect.void)))
    return Effect.gen(function* () {
      const ref = yield* Note.defer(hi)
      assert.deepStrictEqual((yield* Effect.provide(TestTasks.drain(), others)).counts, {})
      assert.strictEqual(yield* ref.state, "ready")
      assert.deepStrictEqual((yield* Effect.provide(TestTasks.drain(), renamed)).counts, { Succeed: 1 })
      assert.strictEqual(yield* ref.state, "succeeded")
    }).pipe(Effect.provide(TestTasks.layerQueue))
  })

  it.effect("keeps a payload that was stored apart for every attempt, and for who redrives (D24, D25)", () => {
    const limits = { maxDelay: Duration.days(1), payloadLimit: 10 }
    let calls = 0
    return Effect.gen(function* () {
      const text = "x".repeat(100)
      const ref = yield* Effect.provideService(Note.defer({ text }), DeferLimits, limits)
      assert.isDefined((yield* ref.record).payloadRef)
      yield* TestTasks.drain({ advance: true })
      assert.strictEqual(yield* ref.state, "dead")
      const queue = yield* TaskQueue
      yield* queue.redrive({ ids: [ref.id], now: 0 })
      yield* TestTasks.drain({ advance: true })
      assert.strictEqual(yield* ref.await, text)
      assert.strictEqual(calls, 3)
    }).pipe(Effect.provide(noting(({ text }) => (++calls < 3 ? Effect.die("no") : Effect.succeed(text)))))
  })

  it.effect("is removed by id, each with its own answer, and none is an error (Q60)", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const { id } = yield* Note.defer(hi, { name: "n" })
      const unknown = id.replace(/^./, "f") as TaskId
      assert.deepStrictEqual(yield* queue.remove({ ids: [id, id, unknown] }), ["Removed", "NotFound", "NotFound"])
      // Removed before its end, it leaves no tombstone.
      assert.strictEqual((yield* Note.defer(hi, { name: "n" })).outcome, "Inserted")
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )

  it.effect("is purged at once with its queue, and a queue that never was is empty (Q15, Q65)", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      yield* Note.deferAll([hi, hi], { name: undefined })
      assert.strictEqual(yield* queue.purge({ queue: "never heard of" }), 0)
      assert.strictEqual(yield* queue.purge({ queue: "default" }), 2)
      yield* Note.defer({ text: "after" })
      assert.deepStrictEqual(yield* stored, ["after"])
    }).pipe(Effect.provide(TestTasks.layerQueue)),
  )
})

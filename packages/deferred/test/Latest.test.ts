import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import type { DeferOptions } from "@outlive/deferred/DeferOptions"
import * as PayloadCodec from "@outlive/deferred/PayloadCodec"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { Snooze } from "@outlive/deferred/TaskFailure"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Clock, type Duration, Effect, Latch, Layer, Redacted, Schema } from "effect"
import { TestClock } from "effect/testing"

const payload = { doc: Schema.String, text: Schema.String }
const key = ({ doc }: { readonly doc: string }) => doc
const retry = RetryPolicy.fixed("10 seconds", { maxAttempts: 3 })
const Index = Task.make("Index", { payload, latest: { key }, retry })
const Save = Task.make("Save", { payload, latest: { key, debounce: { within: "5 seconds", maxWait: "12 seconds" } } })
const Notify = Task.make("Notify", { payload, latest: { key, throttle: { within: "1 minute" } } })
const Add = Task.make("Add", {
  payload: { doc: Schema.String, tags: Schema.Array(Schema.String) },
  latest: {
    key,
    merge: (waiting, given) => ({ doc: given.doc, tags: [...new Set([...waiting.tags, ...given.tags])] }),
  },
})

/** What ran, and when: seconds. */
const makeLog = () => {
  const lines: Array<string> = []
  const note = (text: string) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      lines.push(`${now / 1000}: ${text}`)
    })
  return { lines, note }
}
type Log = ReturnType<typeof makeLog>

const memory = Layer.fresh(TaskQueueMemory.layer)
const working = ({ note }: Log, gate: Effect.Effect<void, Snooze> = Effect.void, queue = memory) =>
  Worker.layer({ tasks: [Index, Save, Notify, Add] }).pipe(
    Layer.provide([
      Index.toLayer(({ text }) => Effect.andThen(note(text), gate)),
      Save.toLayer(({ text }) => note(text)),
      Notify.toLayer(({ text }) => note(text)),
      Add.toLayer(({ tags }) => note(tags.join(" "))),
    ]),
    Layer.provideMerge(queue),
    Layer.provide(Instance.layerBackend()),
  )
const rest = Effect.repeat(Effect.yieldNow, { times: 100 })
const pass = (duration: Duration.Input) => rest.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(rest))

describe("the latest of a key", () => {
  it.effect("takes the place of what waits, and keeps its id", () =>
    Effect.gen(function* () {
      const first = yield* Index.defer({ doc: "a", text: "1" }, { delay: "1 hour", priority: 5 })
      const second = yield* Index.defer({ doc: "a", text: "2" })
      assert.deepStrictEqual([second.outcome, second.id], ["Replaced", first.id])
      const record = yield* second.record
      assert.deepStrictEqual(yield* Index.payloadOf(record), { doc: "a", text: "2" })
      assert.deepInclude(record, { state: "ready", priority: 0 })
      assert.strictEqual((yield* Index.defer({ doc: "b", text: "1" })).outcome, "Inserted")
      const items = yield* Index.deferAll([
        { doc: "c", text: "1" },
        { doc: "c", text: "2" },
      ])
      assert.deepStrictEqual(
        items.map((item) => item._tag === "Deferred" && item.ref.outcome),
        ["Inserted", "Replaced"],
      )
    }).pipe(Effect.provide(memory)),
  )

  it.effect("runs after what runs already, once, with the last state", () => {
    const log = makeLog()
    return Effect.gen(function* () {
      const gate = yield* Latch.make()
      yield* Effect.gen(function* () {
        const first = yield* Index.defer({ doc: "a", text: "1" })
        yield* rest
        const second = yield* Index.defer({ doc: "a", text: "2" })
        assert.strictEqual(second.outcome, "Inserted")
        assert.strictEqual((yield* second.explain).reasons[0]?._tag, "Latest")
        const third = yield* Index.defer({ doc: "a", text: "3" })
        assert.deepStrictEqual([third.outcome, third.id], ["Replaced", second.id])
        yield* pass("1 second")
        assert.deepStrictEqual(log.lines, ["0: 1"])
        yield* gate.open
        yield* rest
        assert.deepStrictEqual(log.lines, ["0: 1", "1: 3"])
        assert.strictEqual(yield* first.state, "succeeded")
        yield* third.await
        // Nothing runs any more, so nothing is followed.
        assert.strictEqual((yield* Index.defer({ doc: "a", text: "4" })).outcome, "Inserted")
      }).pipe(Effect.provide(working(log, gate.await)), Effect.ensuring(gate.open))
    })
  })

  it.effect("cancels what would be tried again, since it is out of date", () => {
    const log = makeLog()
    return Effect.gen(function* () {
      const gate = yield* Latch.make()
      let isFirst = true
      const handle = Effect.andThen(
        gate.await,
        Effect.suspend(() => {
          if (!isFirst) return Effect.void
          isFirst = false
          return Effect.fail(Snooze.for("1 minute"))
        }),
      )
      yield* Effect.gen(function* () {
        const first = yield* Index.defer({ doc: "a", text: "1" })
        yield* rest
        const second = yield* Index.defer({ doc: "a", text: "2" })
        yield* gate.open
        const error = yield* Effect.flip(first.await)
        assert.deepInclude(error, { _tag: "TaskCancelled", reason: "superseded" })
        yield* second.await
        assert.deepStrictEqual(log.lines, ["0: 1", "0: 2"])
      }).pipe(Effect.provide(working(log, handle)), Effect.ensuring(gate.open))
    })
  })
})

describe("a debounce", () => {
  it.effect("waits for a pause, and for no longer than it may", () => {
    const log = makeLog()
    return Effect.gen(function* () {
      const save = (text: string) => Save.defer({ doc: "a", text })
      yield* save("1")
      yield* pass("4 seconds")
      yield* save("2")
      yield* pass("5 seconds")
      assert.deepStrictEqual(log.lines, ["9: 2"])
      // Ever new ones: the last that came before the end of the wait.
      for (let second = 0; second < 14; second++) {
        yield* save(`${second}`)
        yield* pass("1 second")
      }
      yield* pass("10 seconds")
      assert.deepStrictEqual(log.lines, ["9: 2", "21: 11", "27: 13"])
    }).pipe(Effect.provide(working(log)))
  })
})

describe("a throttle", () => {
  it.effect("runs the first at once, keeps a distance, and always runs the last state", () => {
    const log = makeLog()
    return Effect.gen(function* () {
      const notify = (text: string) => Notify.defer({ doc: "a", text })
      yield* notify("1")
      yield* pass("10 seconds")
      assert.strictEqual((yield* notify("2")).outcome, "Inserted")
      yield* pass("10 seconds")
      assert.strictEqual((yield* notify("3")).outcome, "Replaced")
      yield* Notify.defer({ doc: "b", text: "other" })
      yield* pass("40 seconds")
      yield* pass("2 minutes")
      yield* notify("4")
      yield* pass("5 minutes")
      assert.deepStrictEqual(log.lines, ["0: 1", "20: other", "60: 3", "180: 4"])
    }).pipe(Effect.provide(working(log)))
  })
})

describe("what is merged", () => {
  /** Every call lets others go first, so that many deferrals are under way together. */
  const slow = TaskQueue.layer(
    Effect.map(TaskQueueMemory.make, (driver) => ({
      ...driver,
      enqueue: (params) => Effect.andThen(Effect.yieldNow, driver.enqueue(params)),
      get: (params) => Effect.andThen(Effect.yieldNow, driver.get(params)),
    })),
  )
  const tags = Array.from({ length: 30 }, (_, n) => `t${n}`)

  it.effect("loses nothing, however many come at once", () => {
    const log = makeLog()
    return Effect.gen(function* () {
      const add = (tag: string) => Add.defer({ doc: "a", tags: [tag] }, { delay: "1 second" })
      const refs = yield* Effect.forEach(tags, add, { concurrency: "unbounded" })
      assert.strictEqual(new Set(refs.map(({ id }) => id)).size, 1)
      assert.strictEqual(refs.filter(({ outcome }) => outcome === "Replaced").length, tags.length - 1)
      const items = yield* Add.deferAll(
        tags.map((tag) => ({ doc: "b", tags: [tag] })),
        { delay: "2 seconds" },
      )
      assert.strictEqual(items.filter((item) => item._tag === "Deferred" && item.ref.outcome === "Replaced").length, 29)
      yield* pass("1 second")
      yield* pass("1 second")
      const [first, second] = log.lines
      assert.sameMembers((first ?? "").slice(3).split(" "), tags)
      assert.strictEqual(second, `2: ${tags.join(" ")}`)
      assert.lengthOf(log.lines, 2)
    }).pipe(Effect.provide(working(log, Effect.void, slow)))
  })

  it.effect("is not stored where its name stands against its key", () =>
    Effect.gen(function* () {
      const add = (doc: string, options?: DeferOptions) => Add.defer({ doc, tags: ["x"] }, options ?? {})
      yield* add("a", { name: "n" })
      const other = yield* add("b")
      const both = yield* add("b", { name: "n", onDuplicate: "replace" })
      assert.deepStrictEqual([both.outcome, both.id], ["Existing", other.id])
      const same = yield* add("a", { name: "n", onDuplicate: "ignore" })
      assert.strictEqual(same.outcome, "Existing")
    }).pipe(Effect.provide(memory)),
  )

  it.effect("has all of them, while some are run already", () => {
    const log = makeLog()
    return Effect.gen(function* () {
      const add = (tag: string) => Add.defer({ doc: "a", tags: [tag] })
      yield* Effect.forEach(tags, add, { concurrency: 7 })
      yield* rest
      assert.sameMembers([...new Set(log.lines.flatMap((line) => line.slice(3).split(" ")))], tags)
    }).pipe(Effect.provide(working(log, Effect.void, slow)))
  })
})

describe("the latest of a key, encrypted", () => {
  const encrypted = PayloadCodec.layer([
    PayloadCodec.encryption({ keys: [{ id: "k1", key: Redacted.make(new Uint8Array(32).fill(7)) }] }),
  ])
  const queue = Layer.fresh(TaskQueueMemory.layer).pipe(Layer.provide(encrypted), Layer.orDie)

  it.effect("is read under the id of whose place it took, and merged", () => {
    const log = makeLog()
    return Effect.gen(function* () {
      const first = yield* Index.defer({ doc: "a", text: "1" }, { delay: "1 second" })
      const second = yield* Index.defer({ doc: "a", text: "2" }, { delay: "1 second" })
      assert.strictEqual(second.id, first.id)
      const record = yield* second.record
      assert.match(record.payload, /aes-256-gcm/)
      assert.deepStrictEqual(yield* Index.payloadOf(record), { doc: "a", text: "2" })
      // It is bound to its key.
      const moved = { ...record, headers: { ...record.headers, "outlive-deferred-as": "latest b" } }
      assert.include((yield* Effect.flip(Index.payloadOf(moved))).message, "does not open with the key k1")
      yield* Add.defer({ doc: "a", tags: ["x"] }, { delay: "1 second" })
      yield* Add.defer({ doc: "a", tags: ["y"] }, { delay: "1 second" })
      // With a name, too, which comes first.
      yield* Index.defer({ doc: "n", text: "3" }, { name: "n", delay: "1 second" })
      yield* Index.defer({ doc: "n", text: "4" }, { delay: "1 second" })
      yield* pass("1 second")
      // What is encrypted is opened on another thread.
      yield* Effect.repeat(Effect.yieldNow, { until: () => log.lines.length === 3 })
      assert.sameMembers(log.lines, ["1: 2", "1: x y", "1: 4"])
    }).pipe(Effect.provide(working(log, Effect.void, queue)))
  })
})

import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import { DeferLimits } from "@outlive/deferred/DeferOptions"
import * as PayloadStore from "@outlive/deferred/PayloadStore"
import * as Task from "@outlive/deferred/Task"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Duration, Effect, Layer, Ref, Schema } from "effect"
import { TestClock } from "effect/testing"

const Import = Task.make("Import", { payload: { text: Schema.String }, success: Schema.Int })
const memory = Layer.fresh(TaskQueueMemory.layer)
const withLimit = Effect.provideService(DeferLimits, { maxDelay: Duration.days(1), payloadLimit: 100 })
const large = { text: "x".repeat(200) }

/** A store whose bodies and answers the test holds. */
const watched = (
  change: (store: PayloadStore.PayloadStore["Service"]) => Partial<PayloadStore.PayloadStore["Service"]>,
) => {
  const store = PayloadStore.makeMemory()
  return Layer.succeed(PayloadStore.PayloadStore, { ...store, ...change(store) })
}
const working = (store?: Layer.Layer<PayloadStore.PayloadStore>) =>
  Worker.layer({ tasks: [Import] }).pipe(
    Layer.provide(Import.toLayer(({ text }) => Effect.succeed(text.length))),
    Layer.provideMerge(store === undefined ? memory : Layer.provideMerge(memory, store)),
    Layer.provide(Instance.layerBackend()),
  )
const refsOf = Effect.gen(function* () {
  const { payloads } = yield* TaskQueue
  const page = yield* payloads!.list({ before: Number.POSITIVE_INFINITY, limit: 100 })
  return page.refs
})

describe("PayloadStore", () => {
  it.effect("takes what is larger than a record may be, and the handler gets it as ever", () =>
    Effect.gen(function* () {
      const ref = yield* withLimit(Import.defer(large))
      const record = yield* ref.record
      assert.deepInclude(record, { payload: "", payloadRef: ref.id })
      assert.deepStrictEqual(yield* Import.loadPayload(record), large)
      assert.strictEqual(yield* ref.await, 200)
    }).pipe(Effect.provide(working())),
  )

  it.effect("counts bytes, not characters, and takes only what is above the limit", () =>
    Effect.gen(function* () {
      // {"text":"..."} has 11 bytes around the text.
      for (const [text, apart] of [
        ["x".repeat(89), false],
        ["x".repeat(90), true],
        ["é".repeat(44), false],
        ["é".repeat(45), true],
        ["€".repeat(29), false],
        ["€".repeat(30), true],
        ["😀".repeat(22), false],
        ["😀".repeat(23), true],
      ] as const) {
        const { payloadRef } = yield* Effect.flatMap(withLimit(Import.defer({ text })), (ref) => ref.record)
        assert.strictEqual(payloadRef !== undefined, apart, text)
      }
    }).pipe(Effect.provide(memory)),
  )

  it.effect("refuses what is larger than the store takes, with its size", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(withLimit(Import.defer(large)))
      assert.deepInclude(error, { _tag: "PayloadTooLarge", task: "Import", size: 211, limit: 150 })
      assert.deepStrictEqual(yield* refsOf, [])
    }).pipe(Effect.provide(Layer.provide(memory, PayloadStore.layerMemory({ limit: 150 })))),
  )

  it.effect("puts nothing for a call that is refused for another of its payloads", () =>
    Effect.gen(function* () {
      const tooLarge = { text: "x".repeat(1000) }
      const error = yield* Effect.flip(withLimit(Import.deferAll([large, tooLarge])))
      assert.strictEqual(error._tag, "PayloadTooLarge")
      assert.deepStrictEqual(yield* refsOf, [])
    }).pipe(Effect.provide(Layer.provide(memory, PayloadStore.layerMemory({ limit: 500 })))),
  )

  it.effect("keeps no body of a record that the queue did not take", () =>
    Effect.gen(function* () {
      const { id } = yield* withLimit(Import.defer(large, { name: "once" }))
      yield* Effect.flip(withLimit(Import.defer(large, { name: "once" })))
      yield* withLimit(Import.defer(large, { name: "once", onDuplicate: "ignore" }))
      yield* withLimit(Import.deferAll([large, large], { name: "once" }))
      assert.deepStrictEqual(yield* refsOf, [id])
    }).pipe(Effect.provide(memory)),
  )

  it.effect("gives a record that is replaced the new body", () =>
    Effect.gen(function* () {
      const first = yield* withLimit(Import.defer(large, { name: "once" }))
      const second = yield* withLimit(Import.defer({ text: "y".repeat(300) }, { name: "once", onDuplicate: "replace" }))
      assert.strictEqual(second.id, first.id)
      const payload = yield* Effect.flatMap(second.record, Import.loadPayload)
      assert.strictEqual(payload.text.length, 300)
    }).pipe(Effect.provide(memory)),
  )

  it.effect("makes a dead letter of a record whose body is gone, which can be redriven (D26)", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const ref = yield* withLimit(Import.defer(large, { delay: "1 minute" }))
      yield* queue.payloads!.remove({ refs: [ref.id] })
      yield* TestClock.adjust("1 minute")
      const error = yield* Effect.flip(ref.await)
      assert.deepInclude(error, { _tag: "TaskDead", reason: "PayloadMissing" })
      yield* queue.payloads!.put({ ref: ref.id, body: JSON.stringify(large), now: 0 })
      yield* queue.redrive({ ids: [ref.id], now: 60_000 })
      assert.strictEqual(yield* ref.await, 200)
    }).pipe(Effect.provide(working())),
  )

  it.effect("fails to defer when the store fails, and stores no record", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(withLimit(Import.defer(large)))
      assert.deepInclude(error, { _tag: "TaskQueueError", operation: "payloads.put", isRetryable: true })
      const queue = yield* TaskQueue
      assert.deepStrictEqual(yield* queue.counts({ now: 0 }), [])
    }).pipe(
      Effect.provide(
        Layer.provide(
          memory,
          watched(() => ({
            put: () =>
              Effect.fail(
                new PayloadStore.PayloadStoreError({ operation: "put", message: "no answer", isRetryable: true }),
              ),
          })),
        ),
      ),
    ),
  )

  it.effect("gives the attempt back while a store does not answer, and goes on when it does", () =>
    Effect.gen(function* () {
      const failures = yield* Ref.make(2)
      const store = watched(({ get }) => ({
        get: (params) =>
          Effect.flatMap(
            Ref.getAndUpdate(failures, (left) => left - 1),
            (left) =>
              left > 0
                ? Effect.fail(
                    new PayloadStore.PayloadStoreError({ operation: "get", message: "no answer", isRetryable: true }),
                  )
                : get(params),
          ),
      }))
      yield* Effect.gen(function* () {
        const ref = yield* withLimit(Import.defer(large))
        const rest = Effect.repeat(Effect.yieldNow, { times: 100 })
        for (let left = 0; left < 2; left++) yield* rest.pipe(Effect.andThen(TestClock.adjust("10 seconds")))
        assert.strictEqual(yield* ref.await, 200)
        assert.strictEqual((yield* ref.record).attempt, 1)
      }).pipe(Effect.provide(working(store)))
    }),
  )

  it.effect("is swept of what no record refers to any more, after an hour, and of nothing else", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const [gone, kept] = [
        yield* withLimit(Import.defer(large)),
        yield* withLimit(Import.defer(large, { delay: "1 day" })),
      ]
      yield* gone.await
      yield* queue.remove({ ids: [gone.id] })
      yield* queue.payloads!.put({ ref: "left by a crash", body: "", now: 0 })
      assert.deepStrictEqual([...(yield* refsOf)].sort(), [gone.id, kept.id, "left by a crash"].sort())
      for (let minute = 0; minute < 90; minute++) yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* refsOf, [kept.id])
    }).pipe(Effect.provide(working())),
  )

  it.effect("lists in pages", () =>
    Effect.gen(function* () {
      const store = PayloadStore.makeMemory()
      for (const [ref, now] of [
        ["a", 1],
        ["b", 5],
        ["c", 2],
        ["d", 3],
      ] as const) {
        yield* store.put({ ref, body: ref, now })
      }
      const first = yield* store.list({ before: 5, limit: 2 })
      const second = yield* store.list({ before: 5, limit: 2, cursor: first.cursor })
      assert.deepStrictEqual([...first.refs, ...second.refs], ["a", "c", "d"])
      assert.isUndefined(second.cursor)
    }),
  )
})

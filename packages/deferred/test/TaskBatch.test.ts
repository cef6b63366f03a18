import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import { InvalidTaskOptions } from "@outlive/deferred/DeferOptions"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import * as TaskBatch from "@outlive/deferred/TaskBatch"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { type Duration, Effect, Exit, Latch, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"

class Odd extends Schema.TaggedError<Odd>()("Odd", { n: Schema.Int }) {}
const Double = Task.make("Double", {
  payload: { n: Schema.Int },
  success: Schema.Int,
  error: Odd,
  retry: RetryPolicy.fixed("1 second", { maxAttempts: 2 }),
})
type Handle = Parameters<
  typeof TaskBatch.toLayer<"Double", typeof Double.payload, typeof Schema.Int, typeof Odd, never>
>[1]

const app = (handle: Handle, options?: TaskBatch.Options & { readonly concurrency?: number }) =>
  Worker.layer({ tasks: [Double], concurrency: options?.concurrency ?? 100 }).pipe(
    Layer.provideMerge(TaskBatch.toLayer(Double, handle, options)),
    Layer.provideMerge(Layer.fresh(TaskQueueMemory.layer)),
    Layer.provide(Instance.layerBackend()),
  )
const rest = Effect.repeat(Effect.yieldNow, { times: 100 })
const pass = (duration: Duration.Input) => rest.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(rest))
const deferred = (count: number) =>
  Effect.map(Double.deferAll(Array.from({ length: count }, (_, n) => ({ n }))), (outcomes) =>
    outcomes.flatMap((outcome) => (outcome._tag === "Deferred" ? [outcome.ref] : [])),
  )
/** Doubles, and keeps the sizes of its batches. */
const doubling = () => {
  const sizes: Array<number> = []
  const handle: Handle = (items) =>
    Effect.sync(() => {
      sizes.push(items.length)
      return items.map(({ payload }) => Exit.succeed(payload.n * 2))
    })
  return { sizes, handle }
}

describe("TaskBatch", () => {
  it.effect("takes what one claim gave as batches of at most so many, and gives each record its own result", () => {
    const { handle, sizes } = doubling()
    return Effect.gen(function* () {
      const refs = yield* deferred(25)
      const results = yield* Effect.forEach(refs, (ref) => ref.await)
      assert.deepStrictEqual(
        results,
        refs.map((_, n) => n * 2),
      )
      assert.deepStrictEqual(sizes, [10, 10, 5])
    }).pipe(Effect.provide(app(handle, { max: 10 })))
  })

  it.effect("waits for more for so long, by the clock, and not for what fills it", () => {
    const { handle, sizes } = doubling()
    return Effect.gen(function* () {
      yield* deferred(2)
      yield* pass("30 millis")
      yield* deferred(1)
      yield* pass("19 millis")
      assert.deepStrictEqual(sizes, [])
      yield* pass("1 millis")
      assert.deepStrictEqual(sizes, [3])
      yield* deferred(5)
      yield* rest
      assert.deepStrictEqual(sizes, [3, 4])
      yield* pass("50 millis")
      assert.deepStrictEqual(sizes, [3, 4, 1])
    }).pipe(Effect.provide(app(handle, { max: 4, within: "50 millis" })))
  })

  it.effect("retries those that failed, and only those", () => {
    const batches: Array<ReadonlyArray<string>> = []
    const handle: Handle = (items) =>
      Effect.sync(() => {
        batches.push(items.map(({ context, payload }) => `${payload.n}.${context.attempt}`))
        return items.map(({ context, payload }) =>
          payload.n % 2 === 1 && context.attempt === 1 ? Exit.fail(new Odd(payload)) : Exit.succeed(payload.n),
        )
      })
    return Effect.gen(function* () {
      const refs = yield* deferred(4)
      yield* pass("1 second")
      assert.deepStrictEqual(yield* Effect.forEach(refs, (ref) => ref.await), [0, 1, 2, 3])
      assert.deepStrictEqual(batches, [
        ["0.1", "1.1", "2.1", "3.1"],
        ["1.2", "3.2"],
      ])
    }).pipe(Effect.provide(app(handle)))
  })

  it.effect("fails all of a batch with what the whole fails with", () =>
    Effect.gen(function* () {
      const refs = yield* deferred(3)
      yield* pass("1 second")
      for (const ref of refs) assert.deepStrictEqual(yield* Effect.flip(ref.await), new Odd({ n: 7 }))
    }).pipe(Effect.provide(app(() => Effect.fail(new Odd({ n: 7 }))))),
  )

  it.effect("takes a wrong number of exits for a defect of the handler", () =>
    Effect.gen(function* () {
      const [ref] = yield* deferred(3)
      yield* pass("1 second")
      const error = yield* Effect.flip(ref!.await)
      assert.include(error.message, "gave 1 exits for 3 items")
    }).pipe(Effect.provide(app(() => Effect.succeed([Exit.succeed(1)])))),
  )

  it.effect("leaves out who is cancelled before the batch begins", () => {
    const { handle, sizes } = doubling()
    return Effect.gen(function* () {
      const refs = yield* deferred(3)
      yield* rest
      yield* refs[1]!.cancel()
      yield* pass("1 second")
      assert.strictEqual(yield* refs[1]!.state, "cancelled")
      assert.deepStrictEqual(sizes, [2])
    }).pipe(Effect.provide(app(handle, { within: "1 second" })))
  })

  it.effect("goes on for the others when one is cancelled, and stops when all are", () => {
    const gate = Latch.makeUnsafe()
    let interrupted = 0
    const handle: Handle = (items) =>
      Effect.onInterrupt(
        Effect.as(
          gate.await,
          items.map(({ payload }) => Exit.succeed(payload.n)),
        ),
        () => Effect.sync(() => interrupted++),
      )
    return Effect.gen(function* () {
      const refs = yield* deferred(3)
      yield* rest
      yield* refs[0]!.cancel()
      yield* rest
      assert.strictEqual(yield* refs[0]!.state, "cancelled")
      assert.strictEqual(interrupted, 0)
      yield* gate.open
      assert.strictEqual(yield* refs[2]!.await, 2)
      yield* gate.close
      const others = yield* deferred(2)
      yield* rest
      for (const ref of others) yield* ref.cancel()
      yield* rest
      assert.strictEqual(interrupted, 1)
      assert.strictEqual(yield* others[0]!.state, "cancelled")
    }).pipe(Effect.provide(app(handle)))
  })

  it.effect("closes the scope of a batch at its end, and runs without a queue as a batch of one", () => {
    let closed = 0
    const handle = (items: ReadonlyArray<TaskBatch.Item<{ readonly n: number }>>) =>
      Effect.as(
        Effect.addFinalizer(() => Effect.sync(() => closed++)),
        items.map(({ payload }) => Exit.succeed(payload.n)),
      )
    return Effect.gen(function* () {
      assert.strictEqual(yield* Double.run({ n: 3 }), 3)
      assert.strictEqual(closed, 1)
    }).pipe(Effect.provide(TaskBatch.toLayer(Double, handle)))
  })

  it("refuses bounds that cannot be", () => {
    const make = (options: TaskBatch.Options) => () => TaskBatch.toLayer(Double, () => Effect.succeed([]), options)
    assert.throws(make({ max: 0 }), InvalidTaskOptions)
    assert.throws(make({ max: 1.5 }), InvalidTaskOptions)
    assert.throws(make({ within: Number.NaN }), InvalidTaskOptions)
  })
})

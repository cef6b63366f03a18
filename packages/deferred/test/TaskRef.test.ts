import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { Snooze } from "@outlive/deferred/TaskFailure"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { type Duration, Effect, Fiber, Latch, Layer, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"

class Refused extends Schema.TaggedError<Refused>()("Refused", { message: Schema.String }) {}
const Load = Task.make("Load", {
  success: Schema.Int,
  error: Refused,
  retry: RetryPolicy.fixed("10 seconds", { maxAttempts: 2 }),
})
type Handle = Parameters<typeof Load.toLayer<never>>[0]

const memory = Layer.fresh(TaskQueueMemory.layer)
const working = (handle: Handle, options?: Partial<Worker.Options<readonly [typeof Load]>>) =>
  Worker.layer({ tasks: [Load], id: "w1", ...options }).pipe(
    Layer.provide(Load.toLayer(handle)),
    Layer.provideMerge(memory),
    Layer.provide(Instance.layerBackend()),
  )
const rest = Effect.repeat(Effect.yieldNow, { times: 100 })
const pass = (duration: Duration.Input) => rest.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(rest))

describe("ref.attempts", () => {
  it.effect("is the ledger: who tried, when, how it ended and why", () =>
    Effect.gen(function* () {
      const ref = yield* Load.defer()
      assert.deepStrictEqual(yield* ref.attempts, [])
      yield* pass("5 seconds")
      yield* pass("10 seconds")
      assert.strictEqual(yield* ref.await, 2)
      const attempts = yield* ref.attempts
      assert.deepStrictEqual(
        attempts.map(({ attempt, endedAt, outcome, startedAt, worker }) => [
          worker,
          attempt,
          outcome,
          startedAt,
          endedAt,
        ]),
        [
          ["w1", 1, "Snooze", 0, 0],
          ["w1", 1, "Retry", 5000, 5000],
          ["w1", 2, "Succeed", 15_000, 15_000],
        ],
      )
      assert.deepInclude(attempts[1]?.failure, { tag: "Refused", kind: "failure", message: "no" })
    }).pipe(
      Effect.provide(
        working((_, { attempt, previousFailure, eta, enqueuedAt }) =>
          eta.epochMilliseconds === enqueuedAt.epochMilliseconds
            ? Effect.fail(Snooze.for("5 seconds"))
            : previousFailure._tag === "None"
              ? Effect.fail(new Refused({ message: "no" }))
              : Effect.succeed(attempt),
        ),
      ),
    ),
  )

  it.effect("fails for a record that is not there", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const ref = yield* Load.ref(queue.nextId(0, () => 0))
      assert.strictEqual((yield* Effect.flip(ref.attempts))._tag, "TaskNotFound")
      assert.strictEqual((yield* Effect.flip(ref.explain))._tag, "TaskNotFound")
      assert.strictEqual((yield* Effect.flip(Stream.runDrain(ref.progress)))._tag, "TaskNotFound")
    }).pipe(Effect.provide(memory)),
  )
})

describe("ref.progress", () => {
  it.effect("gives what the handler says, the last word at once, and ends with the record", () =>
    Effect.gen(function* () {
      const [halfway, finish] = [yield* Latch.make(), yield* Latch.make()]
      const handle: Handle = (_, { progress }) =>
        Effect.gen(function* () {
          yield* progress({ done: 1, total: 3, message: "read" })
          yield* halfway.await
          yield* progress({ done: 2, total: 3 })
          yield* finish.await
          yield* progress({ done: 3, total: 3 })
          return 3
        })
      yield* Effect.gen(function* () {
        const ref = yield* Load.defer()
        yield* pass("1 second")
        const seen = yield* Effect.forkChild(Stream.runCollect(ref.progress))
        yield* rest
        yield* halfway.open
        yield* pass("1 second")
        assert.strictEqual((yield* ref.record).progress, JSON.stringify({ done: 2, total: 3 }))
        yield* finish.open
        const all = yield* Fiber.join(seen)
        // The last word came with the outcome.
        assert.deepStrictEqual(all, [
          { done: 1, total: 3, message: "read" },
          { done: 2, total: 3 },
          { done: 3, total: 3 },
        ])
        assert.strictEqual(yield* ref.await, 3)
      }).pipe(Effect.provide(working(handle)))
    }),
  )

  it.effect("costs a call now and then, however often the handler speaks", () =>
    Effect.gen(function* () {
      let calls = 0
      const counting = Layer.effect(
        TaskQueue,
        Effect.map(TaskQueue, (queue) =>
          TaskQueue.of({
            ...queue,
            progress: (params) => {
              calls++
              return queue.progress(params)
            },
          }),
        ),
      ).pipe(Layer.provide(memory))
      const App = Worker.layer({ tasks: [Load] }).pipe(
        Layer.provide(
          Load.toLayer((_, { progress }) =>
            Effect.gen(function* () {
              for (let done = 0; done < 1000; done++) {
                yield* progress({ done })
                yield* Effect.sleep("1 millis")
              }
              return 1000
            }),
          ),
        ),
        Layer.provideMerge(counting),
        Layer.provide(Instance.layerBackend()),
      )
      yield* Effect.gen(function* () {
        const ref = yield* Load.defer()
        for (let at = 0; at < 1000; at += 50) yield* pass("50 millis")
        assert.strictEqual(yield* ref.await, 1000)
        assert.isAtLeast(calls, 3)
        assert.isAtMost(calls, 5)
        assert.strictEqual((yield* ref.record).progress, JSON.stringify({ done: 999 }))
      }).pipe(Effect.provide(App))
    }),
  )
})

describe("ref.explain", () => {
  it.effect("says why it does not run yet, runs, has died", () =>
    Effect.gen(function* () {
      const gate = yield* Latch.make()
      const handle: Handle = () => Effect.andThen(gate.await, Effect.fail(new Refused({ message: "no" })))
      yield* Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* rest
        const tags = (ref: {
          readonly explain: Effect.Effect<{ reasons: ReadonlyArray<{ _tag: string }> }, unknown>
        }) => Effect.map(ref.explain, ({ reasons }) => reasons.map(({ _tag }) => _tag))
        const later = yield* Load.defer(undefined, { delay: "1 hour" })
        assert.deepStrictEqual(yield* tags(later), ["Scheduled"])
        const elsewhere = yield* Load.defer(undefined, { target: "gpu" })
        assert.deepStrictEqual(yield* tags(elsewhere), ["NoWorker"])
        assert.include((yield* elsewhere.explain).sentence, "has the target gpu")
        yield* queue.configure({ queue: "default", limits: { paused: true }, now: 0 })
        const ref = yield* Load.defer()
        assert.deepStrictEqual(yield* tags(ref), ["Paused"])
        yield* queue.configure({ queue: "default", limits: { paused: false }, now: 0 })
        yield* rest
        assert.deepStrictEqual(yield* tags(ref), ["Running"])
        assert.include((yield* ref.explain).sentence, "worker w1 has run it for 0 ms")
        const second = yield* Load.defer()
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(yield* tags(second), ["Busy", "Behind"])
        yield* gate.open
        yield* pass("10 seconds")
        assert.deepStrictEqual(yield* tags(ref), ["Dead"])
        assert.include((yield* ref.explain).sentence, "RetriesExhausted")
        assert.include((yield* ref.explain).sentence, "Refused: no")
      }).pipe(Effect.provide(working(handle, { concurrency: 1 })))
    }),
  )
})

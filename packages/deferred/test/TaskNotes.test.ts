import { assert, describe, it } from "@effect/vitest"
import { BackgroundThreads } from "@outlive/core/BackgroundThread"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import type { TaskContext } from "@outlive/deferred/TaskContext"
import { Snooze } from "@outlive/deferred/TaskFailure"
import * as TaskNotes from "@outlive/deferred/TaskNotes"
import { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { type Duration, Effect, Fiber, Latch, Layer, Option, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"

class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}
const Order = Task.make("Order", {
  payload: { id: Schema.Int },
  success: Schema.String,
  error: Refused,
  retry: RetryPolicy.fixed("1 second", { maxAttempts: 5 }),
})
type Handle = Parameters<typeof Order.toLayer<TaskContext>>[0]

const app = (handle: Handle, queue: Layer.Layer<TaskQueue> = Layer.fresh(TaskQueueMemory.layer)) =>
  Worker.layer({ tasks: [Order], lease: "1 minute" }).pipe(
    Layer.provideMerge(Order.toLayer(handle)),
    Layer.provideMerge(queue),
    Layer.provideMerge(Instance.layerBackend()),
  )
const rest = Effect.repeat(Effect.yieldNow, { times: 100 })
const pass = (duration: Duration.Input) => rest.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(rest))
const noted = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.catchTag(effect as Effect.Effect<A, E | TaskQueueError, R>, "TaskQueueError", Effect.die) as Effect.Effect<
    A,
    Refused,
    R
  >

describe("TaskNotes.step", () => {
  it.effect("runs once for a record, and gives its typed value in later attempts", () => {
    const runs: Array<string> = []
    const handle: Handle = ({ id }, { attempt }) =>
      noted(
        Effect.gen(function* () {
          const at = yield* TaskNotes.step(
            "charge",
            Schema.DateTimeUtc,
            Effect.clockWith((clock) => {
              runs.push(`charge in ${attempt}`)
              return Effect.succeed(new Date(clock.currentTimeMillisUnsafe())).pipe(
                Effect.flatMap((date) => Schema.decodeUnknownEffect(Schema.DateTimeUtcFromDate)(date)),
                Effect.orDie,
              )
            }),
          )
          const shipped = TaskNotes.step(
            "ship",
            Schema.String,
            Effect.suspend(() => {
              runs.push(`ship in ${attempt}`)
              return attempt < 3 ? Effect.fail(new Refused()) : Effect.succeed("shipped")
            }),
          )
          return `${id} ${yield* shipped} at ${at.epochMilliseconds}`
        }),
      )
    return Effect.gen(function* () {
      yield* TestClock.setTime(5000)
      const ref = yield* Order.defer({ id: 7 })
      yield* pass("1 second")
      yield* pass("1 second")
      assert.strictEqual(yield* ref.await, "7 shipped at 5000")
      assert.deepStrictEqual(runs, ["charge in 1", "ship in 1", "ship in 2", "ship in 3"])
    }).pipe(Effect.provide(app(handle)))
  })

  it.effect("keeps what was done when the attempt is snoozed, or its worker dies", () => {
    let charged = 0
    const charge = TaskNotes.step(
      "charge",
      Schema.Int,
      Effect.sync(() => ++charged),
    )
    const handle: Handle = (_, { crashes, eta, enqueuedAt }) =>
      noted(
        Effect.gen(function* () {
          yield* charge
          if (eta.epochMilliseconds === enqueuedAt.epochMilliseconds) return yield* Effect.fail(Snooze.for("1 second"))
          if (crashes === 0) return yield* Effect.never
          return `${charged}`
        }),
      )
    return Effect.gen(function* () {
      const queue = yield* TaskQueue
      const ref = yield* Order.defer({ id: 1 })
      yield* pass("1 second")
      const record = yield* ref.record
      assert.strictEqual(record.state, "running")
      // As when its lease expired: another claim takes it back.
      yield* queue.claim({ queues: [], tasks: [], targets: [], lease: 1, worker: "other", now: 10_000_000 })
      yield* pass("10 hours")
      assert.strictEqual(yield* ref.await, "1")
    }).pipe(Effect.provide(app(handle)))
  })

  it.effect("tells its notes to nobody who watches the progress", () => {
    const handle: Handle = (_, { progress }) =>
      noted(
        Effect.gen(function* () {
          yield* progress({ done: 1, total: 2 })
          yield* TaskNotes.step("a", Schema.String, Effect.succeed("secret"))
          yield* Effect.sleep("1 second")
          yield* progress({ done: 2, total: 2 })
          yield* Effect.sleep("1 second")
          return "done"
        }),
      )
    return Effect.gen(function* () {
      const ref = yield* Order.defer({ id: 1 })
      const seen = yield* Effect.forkChild(Stream.runCollect(ref.progress))
      yield* pass("1 second")
      yield* pass("1 second")
      assert.deepStrictEqual(yield* Fiber.join(seen), [
        { done: 1, total: 2 },
        { done: 2, total: 2 },
      ])
      assert.include((yield* ref.record).progress ?? "", "secret")
    }).pipe(Effect.provide(app(handle)))
  })

  it.effect("interrupts an attempt that has lost its lease, and its handler goes no further", () => {
    let after = 0
    const handle: Handle = () =>
      noted(
        Effect.gen(function* () {
          yield* Effect.sleep("1 second")
          yield* TaskNotes.step("late", Schema.String, Effect.succeed("late"))
          after++
          return "done"
        }),
      )
    return Effect.gen(function* () {
      const queue = yield* TaskQueue
      const ref = yield* Order.defer({ id: 1 })
      yield* rest
      yield* queue.configure({ queue: "default", limits: { paused: true }, now: 0 })
      yield* queue.claim({ queues: [], tasks: [], targets: [], lease: 1, worker: "other", now: 10_000_000 })
      yield* pass("1 second")
      assert.strictEqual(after, 0)
      assert.isUndefined((yield* ref.record).progress)
    }).pipe(Effect.provide(app(handle)))
  })

  it.effect("fails with the queue's error when it cannot be written, and is run again by the next attempt", () => {
    let broken = true
    let runs = 0
    const queue = Layer.effect(
      TaskQueue,
      Effect.map(TaskQueue, (queue) =>
        TaskQueue.of({
          ...queue,
          progress: (params) =>
            broken
              ? Effect.fail(new TaskQueueError({ operation: "progress", message: "no disk", isRetryable: true }))
              : queue.progress(params),
        }),
      ),
    ).pipe(Layer.provide(Layer.fresh(TaskQueueMemory.layer)))
    const handle: Handle = () =>
      noted(
        TaskNotes.step(
          "a",
          Schema.String,
          Effect.sync(() => `run ${++runs}`),
        ),
      )
    return Effect.gen(function* () {
      const ref = yield* Order.defer({ id: 1 })
      yield* rest
      broken = false
      yield* pass("1 second")
      assert.strictEqual(yield* ref.await, "run 2")
    }).pipe(Effect.provide(app(handle, queue)))
  })

  it.effect("is not taken back by a word of progress that could not be told when it should have been", () => {
    const gate = Latch.makeUnsafe(false)
    let calls = 0
    let runs = 0
    const queue = Layer.effect(
      TaskQueue,
      Effect.map(TaskQueue, (queue) =>
        TaskQueue.of({
          ...queue,
          progress: (params) => {
            if (calls++ > 0) return queue.progress(params)
            const cut = new TaskQueueError({ operation: "progress", message: "cut", isRetryable: true })
            return Effect.andThen(gate.await, Effect.fail(cut))
          },
        }),
      ),
    ).pipe(Layer.provide(Layer.fresh(TaskQueueMemory.layer)))
    const handle: Handle = (_, { attempt, progress }) =>
      noted(
        Effect.gen(function* () {
          yield* progress({ done: 1 })
          yield* Effect.sleep("1 second")
          // The word is on its way, with what was known before this.
          const step = TaskNotes.step(
            "a",
            Schema.String,
            Effect.sync(() => `run ${++runs}`),
          )
          const value = yield* step
          yield* gate.open
          yield* Effect.sleep("1 second")
          return attempt === 1 ? yield* Effect.fail(new Refused()) : value
        }),
      )
    return Effect.gen(function* () {
      const ref = yield* Order.defer({ id: 1 })
      for (let second = 0; second < 6; second++) yield* pass("1 second")
      assert.strictEqual(yield* ref.await, "run 1")
      assert.isAtLeast(calls, 2)
    }).pipe(Effect.provide(app(handle, queue)))
  })

  it.effect("refuses a note that is too large", () =>
    Effect.gen(function* () {
      const large = TaskNotes.step("large", Schema.String, Effect.succeed("x".repeat(70_000)))
      const told: Array<unknown> = []
      const handler = Order.toLayer(() =>
        Effect.matchEffect(large, {
          onFailure: (error) => Effect.sync(() => `${told.push(error)}`),
          onSuccess: Effect.succeed,
        }),
      )
      yield* Effect.provide(Order.run({ id: 1 }), handler)
      assert.deepInclude(told[0], { _tag: "NoteTooLarge", note: "step large", size: 70_002, limit: 65_536 })
    }),
  )

  it.effect("refuses a note for which there is no room beside the others, and lets one take its own place", () =>
    Effect.gen(function* () {
      const cursor = TaskNotes.checkpoint(Schema.String)
      const half = "x".repeat(40_000)
      const handler = Order.toLayer(() =>
        noted(
          Effect.gen(function* () {
            yield* cursor.set(half)
            yield* cursor.set(half)
            const refused = yield* Effect.flip(TaskNotes.step("also", Schema.String, Effect.succeed(half)))
            assert.strictEqual(Option.getOrUndefined(yield* cursor.get), half)
            return refused.message
          }),
        ),
      )
      assert.strictEqual(
        yield* Effect.provide(Order.run({ id: 1 }), handler),
        "with the note step also the notes of the record have 80004 characters, more than the limit of 65536",
      )
    }),
  )

  it.effect("runs without a queue, and in the background over all attempts of a thread", () => {
    let runs = 0
    const handle: Handle = (_, { attempt }) =>
      noted(
        Effect.gen(function* () {
          const value = yield* TaskNotes.step(
            "once",
            Schema.Int,
            Effect.sync(() => ++runs),
          )
          return attempt < 3 ? yield* Effect.fail(new Refused()) : `${value}`
        }),
      )
    return Effect.gen(function* () {
      yield* Effect.flip(Order.run({ id: 1 }))
      assert.strictEqual(runs, 1)
      runs = 0
      const thread = yield* Order.background({ id: 1 })
      yield* pass("1 second")
      yield* pass("1 second")
      assert.strictEqual(yield* thread.await, "1")
      assert.strictEqual(runs, 1)
    }).pipe(Effect.provide(BackgroundThreads.layer.pipe(Layer.provideMerge(app(handle)))))
  })
})

describe("TaskNotes.once", () => {
  let runs = 0
  const once = TaskNotes.once(
    "book",
    Schema.Int,
    Effect.sync(() => ++runs),
  )
  const refused = Effect.matchEffect(once, {
    onSuccess: (value) => Effect.succeed(`ran ${value}`),
    onFailure: (error) =>
      Effect.succeed(
        error._tag === "NotTransactional" ? `${error.driver} ${error.reason}: ${error.message}` : error._tag,
      ),
  })

  it.effect("is refused where there are no transactions, and nothing runs", () =>
    Effect.gen(function* () {
      runs = 0
      const ref = yield* Order.defer({ id: 1 })
      assert.strictEqual(
        yield* ref.await,
        "memory NoTransactions: the step book is to be done exactly once, and has no transaction to happen in: the memory queue is in no database of the application",
      )
      const none =
        "none NoTransactions: the step book is to be done exactly once, and has no queue to be written down in"
      assert.strictEqual(yield* Order.run({ id: 1 }), none)
      const thread = yield* Order.background({ id: 1 })
      assert.strictEqual(yield* thread.await, none)
      assert.strictEqual(runs, 0)
    }).pipe(Effect.provide(BackgroundThreads.layer.pipe(Layer.provideMerge(app(() => refused))))),
  )

  it.effect("gives what a step of its name has kept, also where there are no transactions", () => {
    const handle: Handle = () =>
      noted(
        Effect.gen(function* () {
          yield* TaskNotes.step("book", Schema.Int, Effect.succeed(7))
          return `${yield* Effect.catchTag(once, "NotTransactional", Effect.die)}`
        }),
      )
    return Effect.gen(function* () {
      const ref = yield* Order.defer({ id: 1 })
      assert.strictEqual(yield* ref.await, "7")
    }).pipe(Effect.provide(app(handle)))
  })
})

describe("TaskNotes.checkpoint", () => {
  it.effect("gives the next attempt where the last one was", () => {
    const worked: Array<number> = []
    const handle: Handle = (_, { attempt }) =>
      noted(
        Effect.gen(function* () {
          const cursor = TaskNotes.checkpoint(Schema.Struct({ row: Schema.Int }))
          const { row } = Option.getOrElse(yield* cursor.get, () => ({ row: 0 }))
          for (let at = row; at < 6; at++) {
            worked.push(at)
            yield* cursor.set({ row: at + 1 })
            if (at === 2 && attempt === 1) return yield* Effect.fail(new Refused())
          }
          return "all rows"
        }),
      )
    return Effect.gen(function* () {
      const ref = yield* Order.defer({ id: 1 })
      yield* pass("1 second")
      assert.strictEqual(yield* ref.await, "all rows")
      assert.deepStrictEqual(worked, [0, 1, 2, 3, 4, 5])
    }).pipe(Effect.provide(app(handle)))
  })

  it.effect("is none when what is there does not decode any more", () => {
    let found: unknown
    const handle: Handle = (_, { attempt }) =>
      noted(
        Effect.gen(function* () {
          if (attempt === 1) {
            yield* TaskNotes.checkpoint(Schema.String).set("old")
            return yield* Effect.fail(new Refused())
          }
          found = yield* TaskNotes.checkpoint(Schema.Int).get
          return "done"
        }),
      )
    return Effect.gen(function* () {
      const ref = yield* Order.defer({ id: 1 })
      yield* pass("1 second")
      yield* ref.await
      assert.deepStrictEqual(found, Option.none())
    }).pipe(Effect.provide(app(handle)))
  })

  it.effect("begins anew when a dead letter is redriven", () => {
    const found: Array<Option.Option<number>> = []
    const handle: Handle = () =>
      noted(
        Effect.gen(function* () {
          const cursor = TaskNotes.checkpoint(Schema.Int)
          found.push(yield* cursor.get)
          yield* cursor.set(1)
          return yield* Effect.fail(new Refused())
        }),
      )
    return Effect.gen(function* () {
      const queue = yield* TaskQueue
      const ref = yield* Order.defer({ id: 1 }, { retry: RetryPolicy.never })
      yield* Effect.flip(ref.await)
      yield* queue.redrive({ ids: [ref.id], now: 0 })
      yield* Effect.flip(ref.await)
      assert.deepStrictEqual(found, [Option.none(), Option.none()])
    }).pipe(Effect.provide(app(handle)))
  })
})

import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import type { TaskContext } from "@outlive/deferred/TaskContext"
import * as TaskFanOut from "@outlive/deferred/TaskFanOut"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { type Duration, Effect, Exit, Fiber, Latch, Layer, Option, References, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"

class Refused extends Schema.TaggedError<Refused>()("Refused", { n: Schema.Int }) {}

const Double = Task.make("Double", {
  payload: { n: Schema.Int },
  success: Schema.Int,
  error: Refused,
  retry: RetryPolicy.never,
})
const Greet = Task.make("Greet", { payload: { name: Schema.String }, success: Schema.String, queue: "greetings" })
const Report = Task.make("Report", { payload: { of: Schema.String }, success: Schema.String })
const Single = Task.make("Single", { payload: { n: Schema.Int }, unique: { key: () => "one" } })

type Doubling = Parameters<typeof Double.toLayer<TaskContext>>[0]
type Reporting = Parameters<typeof Report.toLayer<TaskContext | TaskQueue>>[0]

/** 3 is refused, and what is above 100 waits until it is cancelled. */
const doubling: Doubling = ({ n }) =>
  n === 3 ? Effect.fail(new Refused({ n })) : n > 100 ? Effect.never : Effect.succeed(n * 2)
const reporting: Reporting = (_, { members }) => Effect.succeed(JSON.stringify(Option.getOrUndefined(members)))

const app = (options: { readonly double?: Doubling; readonly report?: Reporting } = {}) =>
  Worker.layer({ tasks: [Double, Greet, Report], lease: "1 minute" }).pipe(
    Layer.provide(Double.toLayer(options.double ?? doubling)),
    Layer.provide(Greet.toLayer(({ name }) => Effect.succeed(`hello ${name}`))),
    Layer.provide(Report.toLayer(options.report ?? reporting)),
    Layer.provideMerge(Layer.fresh(TaskQueueMemory.layer)),
    Layer.provide(Instance.layerBackend()),
    Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "None")),
  )
const rest = Effect.repeat(Effect.yieldNow, { times: 200 })
const pass = (duration: Duration.Input) => rest.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(rest))
const numbers = (...all: ReadonlyArray<number>) => all.map((n) => ({ n }))
const collect = <A, E, R>(stream: Stream.Stream<A, E, R>) => Stream.runCollect(stream)

describe("TaskFanOut.all", () => {
  it.effect("waits for all of them, and tells how they ended", () =>
    Effect.gen(function* () {
      const group = yield* TaskFanOut.all(Double, numbers(1, 2, 3))
      assert.strictEqual(group.total, 3)
      assert.deepStrictEqual(yield* group.await, { total: 3, succeeded: 2, cancelled: 0, dead: 1 })
      const queue = yield* TaskQueue
      const [record] = yield* queue.get({ ids: [group.id], now: 0 })
      assert.deepInclude(record, { state: "succeeded", task: "outlive/all", attempt: 0, queue: "default" })
    }).pipe(Effect.provide(app())),
  )

  it.effect("gives each result typed and in its place, of several tasks too", () =>
    Effect.gen(function* () {
      const group = yield* TaskFanOut.all([
        TaskFanOut.item(Double, { n: 3 }),
        TaskFanOut.item(Greet, { name: "Ada" }, { delay: "1 minute" }),
        TaskFanOut.item(Double, { n: 4 }),
      ])
      const ends = yield* Effect.forkChild(collect(group.results))
      yield* pass("1 minute")
      const told = (yield* Fiber.join(ends)).map((end) => {
        const typed: string | number | undefined =
          end.task === "Double"
            ? Exit.isSuccess(end.exit)
              ? end.exit.value + 1
              : Option.getOrUndefined(Exit.findErrorOption(end.exit))?._tag
            : Exit.isSuccess(end.exit)
              ? end.exit.value.toUpperCase()
              : undefined
        return [end.index, end.task, typed]
      })
      assert.deepStrictEqual(told, [
        [0, "Double", "Refused"],
        [1, "Greet", "HELLO ADA"],
        [2, "Double", 9],
      ])
    }).pipe(Effect.provide(app())),
  )

  it.effect("runs onDone once when the last has ended, with what is known of them", () => {
    const reports: Array<string> = []
    const report: Reporting = ({ of }, { members }) =>
      Effect.gen(function* () {
        const ends = yield* collect(TaskFanOut.resultsOf(Double))
        const sum = ends.reduce((all, { exit }) => all + (Exit.isSuccess(exit) ? exit.value : 0), 0)
        reports.push(of)
        return `${sum} of ${JSON.stringify(Option.getOrUndefined(members))}`
      }).pipe(Effect.orDie)
    return Effect.gen(function* () {
      const group = yield* TaskFanOut.all(Double, numbers(1, 3, 5), {
        onDone: TaskFanOut.item(Report, { of: "June" }),
      })
      assert.strictEqual(group.id, group.done.id)
      assert.deepStrictEqual(yield* group.await, { total: 3, succeeded: 2, cancelled: 0, dead: 1 })
      const said: string = yield* group.done.await
      assert.strictEqual(said, '12 of {"total":3,"succeeded":2,"cancelled":0,"dead":1}')
      assert.deepStrictEqual(reports, ["June"])
    }).pipe(Effect.provide(app({ report })))
  })

  it.effect("does not run onDone while a member waits for its next attempt, and counts a delay from the deferral", () =>
    Effect.gen(function* () {
      const group = yield* TaskFanOut.all(Double, numbers(1), {
        each: ({ n }, index) => ({ delay: `${n + index} minutes` }),
        onDone: TaskFanOut.item(Report, { of: "" }, { delay: "90 seconds" }),
      })
      yield* pass("59 seconds")
      assert.strictEqual(yield* group.done.state, "scheduled")
      yield* pass("1 second")
      assert.deepStrictEqual(yield* group.await, { total: 1, succeeded: 1, cancelled: 0, dead: 0 })
      assert.strictEqual(yield* group.done.state, "scheduled")
      yield* pass("30 seconds")
      assert.strictEqual(yield* group.done.state, "succeeded")
    }).pipe(Effect.provide(app())),
  )

  it.effect("cancels the others when one does not succeed, if it is to, and is done when they have ended", () =>
    Effect.gen(function* () {
      const group = yield* TaskFanOut.all(Double, numbers(101, 3, 5), {
        onFailure: "cancelSiblings",
        each: ({ n }) => ({ delay: n === 5 ? "1 hour" : n === 3 ? "1 second" : 0 }),
      })
      yield* pass("1 second")
      assert.deepStrictEqual(yield* group.await, { total: 3, succeeded: 0, cancelled: 2, dead: 1 })
      const tags = (yield* collect(group.results)).map(({ exit }) =>
        Option.match(Exit.findErrorOption(exit), {
          onNone: () => "",
          onSome: (error) => (error._tag === "TaskCancelled" ? error.reason : error._tag),
        }),
      )
      const why = "another of the group did not succeed"
      assert.deepStrictEqual(tags, [why, "Refused", why])
    }).pipe(Effect.provide(app())),
  )

  it.effect("tells how far it is: now, when that is noticed, and at the end", () => {
    const gate = Latch.makeUnsafe(false)
    return Effect.gen(function* () {
      const group = yield* TaskFanOut.all(Double, numbers(1, 2), {
        each: (_, index) => ({ delay: index === 0 ? 0 : "1 second" }),
      })
      const seen = yield* Effect.forkChild(collect(group.progress), { startImmediately: true })
      yield* rest
      yield* gate.open
      yield* pass("1 second")
      assert.deepStrictEqual(
        (yield* Fiber.join(seen)).map(({ succeeded }) => succeeded),
        [0, 1, 2],
      )
    }).pipe(
      Effect.provide(app({ double: ({ n }) => Effect.andThen(n === 1 ? gate.await : Effect.void, Effect.succeed(n)) })),
    )
  })

  it.effect("cancels what has not ended, and then nobody waits for it any longer", () =>
    Effect.gen(function* () {
      const group = yield* TaskFanOut.all(Double, numbers(1, 101, 102), {
        each: ({ n }) => ({ delay: n === 102 ? "1 hour" : 0 }),
        onDone: TaskFanOut.item(Report, { of: "" }),
      })
      yield* rest
      assert.strictEqual(yield* group.cancel({ reason: "enough" }), "Cancelled")
      assert.deepInclude(yield* Effect.flip(group.await), { _tag: "TaskCancelled", reason: "enough" })
      assert.deepInclude(yield* Effect.flip(group.done.await), { _tag: "TaskCancelled", reason: "enough" })
      const exits = (yield* collect(group.results)).map(({ exit }) => exit._tag)
      assert.deepStrictEqual(exits, ["Success", "Failure", "Failure"])
      assert.strictEqual(yield* group.cancel(), "TooLate")
    }).pipe(Effect.provide(app())),
  )

  it.effect("is done at once without members: onDone runs, and without one nothing is stored", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const nothing = yield* TaskFanOut.all(Double, [])
      const none = { total: 0, succeeded: 0, cancelled: 0, dead: 0 }
      assert.deepStrictEqual(yield* nothing.await, none)
      assert.deepStrictEqual(yield* collect(nothing.progress), [none])
      assert.deepStrictEqual(yield* queue.counts({ now: 0 }), [])
      const done = yield* TaskFanOut.all(Double, [], { onDone: TaskFanOut.item(Report, { of: "" }) })
      assert.strictEqual(yield* done.done.await, JSON.stringify(none))
      assert.deepStrictEqual(yield* (yield* TaskFanOut.ref(done.id, Double)).await, none)
    }).pipe(Effect.provide(app())),
  )

  it.effect("can be found again by its id", () =>
    Effect.gen(function* () {
      const { id } = yield* TaskFanOut.all(Double, numbers(1, 2))
      const group = yield* TaskFanOut.ref(id, Double)
      assert.strictEqual(group.total, 2)
      assert.deepInclude(yield* group.await, { succeeded: 2 })
      assert.deepStrictEqual(
        (yield* collect(group.results)).map(({ index }) => index),
        [0, 1],
      )
      const other = yield* Double.defer({ n: 1 })
      assert.strictEqual((yield* Effect.flip(TaskFanOut.ref(other.id, Double)))._tag, "TaskNotFound")
    }).pipe(Effect.provide(app())),
  )

  it.effect("leaves out results that are not kept, and counts their members all the same", () => {
    const Gone = Task.make("Double", { payload: { n: Schema.Int }, success: Schema.Int, error: Refused, keep: "none" })
    return Effect.gen(function* () {
      const queue = yield* TaskQueue
      const group = yield* TaskFanOut.all(Gone, numbers(1, 2, 4), {
        each: (_, index) => ({ delay: index === 2 ? "1 hour" : 0 }),
      })
      const all = yield* queue.find({ memberOf: group.id, limit: 10, now: 0 })
      // What is removed before its end counts as cancelled.
      yield* queue.remove({ ids: [all.records[2]!.id] })
      assert.deepStrictEqual(yield* group.await, { total: 3, succeeded: 2, cancelled: 1, dead: 0 })
      assert.deepStrictEqual(yield* collect(group.results), [])
    }).pipe(Effect.provide(app()))
  })

  it.effect("stores any number of members in one call, and reads them in pages", () => {
    const calls: Array<number> = []
    const Counting = Layer.effect(
      TaskQueue,
      Effect.map(TaskQueue, (queue) =>
        TaskQueue.of({
          ...queue,
          enqueue: (params) => {
            calls.push(params.records.length)
            return queue.enqueue(params)
          },
        }),
      ),
    ).pipe(Layer.provide(Layer.fresh(TaskQueueMemory.layer)))
    return Effect.gen(function* () {
      const many = Array.from({ length: 2_500 }, (_, n) => ({ n: n + 1000 }))
      const group = yield* TaskFanOut.all(Double, many, { onDone: TaskFanOut.item(Report, { of: "" }) })
      assert.deepStrictEqual(calls, [2_501])
      yield* group.cancel()
      const ends = yield* collect(group.results)
      assert.deepStrictEqual(
        ends.map(({ index }) => index),
        many.map((_, index) => index),
      )
    }).pipe(Effect.provide(Counting))
  })

  it.effect("refuses a member with a name or a unique key, and stores nothing", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const refused = (all: Effect.Effect<unknown, unknown, TaskQueue>) => Effect.flip(all)
      assert.deepInclude(yield* refused(TaskFanOut.all(Single, numbers(1, 2))), {
        _tag: "InvalidTaskOptions",
        field: "unique",
      })
      const named = { name: "n" } as unknown as TaskFanOut.ItemOptions
      assert.deepInclude(yield* refused(TaskFanOut.all(Double, numbers(1), { each: named })), { field: "name" })
      const keyed = { unique: { key: "k" } } as unknown as TaskFanOut.ItemOptions
      assert.deepInclude(yield* refused(TaskFanOut.all([TaskFanOut.item(Double, { n: 1 }, keyed)])), {
        field: "unique",
      })
      const wrong = [TaskFanOut.item(Double, { n: 1 }), TaskFanOut.item(Double, { n: 0.5 })]
      assert.deepInclude(yield* refused(TaskFanOut.all(wrong)), { _tag: "SchemaError" })
      assert.deepInclude(yield* refused(TaskFanOut.all(Double, numbers(1), { queue: "no queue" })), { field: "queue" })
      assert.deepInclude(yield* refused(TaskFanOut.all(Double, numbers(1), { requireTransaction: true })), {
        _tag: "NotInTransaction",
        driver: "memory",
      })
      assert.deepStrictEqual(yield* queue.counts({ now: 0 }), [])
      const free = yield* TaskFanOut.all(Single, numbers(1, 2), { each: { unique: false } })
      assert.strictEqual(free.total, 2)
    }).pipe(Effect.provide(Layer.fresh(TaskQueueMemory.layer))),
  )

  it.effect("is typed: an item takes its task's payload, and done is there with onDone only", () =>
    Effect.gen(function* () {
      // @ts-expect-error: not a payload of this task
      const bad = TaskFanOut.item(Double, { name: "x" })
      // @ts-expect-error: nor this
      const worse = TaskFanOut.all(Double, [{ name: "x" }])
      const group = yield* TaskFanOut.all(Double, numbers(1))
      // @ts-expect-error: nothing runs when it is done
      assert.isUndefined(group.done)
      assert.isDefined([bad, worse])
    }).pipe(Effect.provide(app())),
  )
})

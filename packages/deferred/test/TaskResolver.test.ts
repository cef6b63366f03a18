import { assert, describe, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as TaskResolver from "@outlive/deferred/TaskResolver"
import * as Worker from "@outlive/deferred/Worker"
import { Effect, Exit, Fiber, Layer, Schema } from "effect"

class NoSuch extends Schema.TaggedError<NoSuch>()("NoSuch", { id: Schema.Int }) {}
const Load = Task.make("Load", {
  payload: { id: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)) },
  success: Schema.String,
  error: NoSuch,
  retry: { NoSuch: "never" },
  unique: { key: ({ id }) => `${id}` },
})
const load = TaskResolver.make(Load)

/** How many records each call of `enqueue` had. */
const app = (calls: Array<number>) =>
  Worker.layer({ tasks: [Load] }).pipe(
    Layer.provide(
      Load.toLayer(({ id }) => (id === 13 ? Effect.fail(new NoSuch({ id })) : Effect.succeed(`user ${id}`))),
    ),
    Layer.provideMerge(
      Layer.effect(
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
      ).pipe(Layer.provide(Layer.fresh(TaskQueueMemory.layer))),
    ),
    Layer.provide(Instance.layerBackend()),
  )

describe("TaskResolver", () => {
  it.effect("defers what is asked in one turn in one call, and gives everybody his own result", () => {
    const calls: Array<number> = []
    return Effect.gen(function* () {
      const all = yield* Effect.forEach([1, 2, 3], (id) => load({ id }), { concurrency: "unbounded" })
      assert.deepStrictEqual(all, ["user 1", "user 2", "user 3"])
      assert.strictEqual(yield* load({ id: 4 }), "user 4")
      assert.deepStrictEqual(calls, [3, 1])
    }).pipe(Effect.provide(app(calls)))
  })

  it.effect("fails who asked for what fails, with the task's own error, and nobody else", () =>
    Effect.gen(function* () {
      const exits = yield* Effect.forEach([1, 13], (id) => Effect.exit(load({ id })), { concurrency: "unbounded" })
      assert.deepStrictEqual(exits, [Exit.succeed("user 1"), Exit.fail(new NoSuch({ id: 13 }))])
    }).pipe(Effect.provide(app([]))),
  )

  it.effect("fails who asked for what cannot be deferred, and nobody else", () =>
    Effect.gen(function* () {
      const tags = yield* Effect.forEach(
        [1, -1, 2],
        (id) => Effect.match(load({ id }), { onSuccess: (value) => value, onFailure: (error) => error._tag }),
        { concurrency: "unbounded" },
      )
      assert.deepStrictEqual(tags, ["user 1", "SchemaError", "user 2"])
    }).pipe(Effect.provide(app([]))),
  )

  it.effect("waits for the record that has the key, when there is one", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      const all = yield* Effect.forEach([5, 5, 5], (id) => load({ id }), { concurrency: "unbounded" })
      assert.deepStrictEqual(all, ["user 5", "user 5", "user 5"])
      const { records } = yield* queue.find({ limit: 10, now: 0 })
      assert.lengthOf(records, 1)
    }).pipe(Effect.provide(app([]))),
  )

  it.effect("leaves the record alone when who asked is interrupted", () =>
    Effect.gen(function* () {
      const queue = yield* TaskQueue
      yield* queue.configure({ queue: "default", limits: { paused: true }, now: 0 })
      const asked = yield* Effect.forkChild(load({ id: 6 }))
      yield* Effect.repeat(Effect.yieldNow, { times: 100 })
      yield* Fiber.interrupt(asked)
      const { records } = yield* queue.find({ limit: 10, now: 0 })
      assert.deepStrictEqual(
        records.map(({ state }) => state),
        ["ready"],
      )
    }).pipe(Effect.provide(app([]))),
  )
})

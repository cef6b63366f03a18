import { assert, describe, it } from "@effect/vitest"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as TaskQueueModel from "@outlive/deferred/testing/TaskQueueModel"
import * as TaskQueueTest from "@outlive/deferred/testing/TaskQueueTest"
import { Context, Effect, Layer } from "effect"

TaskQueueTest.suite("memory", TaskQueueMemory.layer)
TaskQueueModel.suite("memory", TaskQueueMemory.layer)

/** Pauses a queue through one build of the layer, and looks at it through another. */
const isPausedThrough = (other: Layer.Layer<TaskQueue>) =>
  Effect.gen(function* () {
    const memo = yield* Layer.makeMemoMap
    const scope = yield* Effect.scope
    const first = Context.get(yield* Layer.buildWithMemoMap(TaskQueueMemory.layer, memo, scope), TaskQueue)
    const second = Context.get(yield* Layer.buildWithMemoMap(other, memo, scope), TaskQueue)
    yield* first.configure({ queue: "default", limits: { paused: true }, now: 0 })
    return (yield* second.limits({ queue: "default" })).paused
  })

describe("TaskQueueMemory", () => {
  it.effect("has one set of queues in a program, and others where the layer is fresh", () =>
    Effect.gen(function* () {
      assert.isTrue(yield* isPausedThrough(TaskQueueMemory.layer))
      assert.isFalse(yield* isPausedThrough(Layer.fresh(TaskQueueMemory.layer)))
    }),
  )
})

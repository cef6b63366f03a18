import { assert, it } from "@effect/vitest"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as Worker from "@outlive/deferred/Worker"
import { Effect, Layer } from "effect"

const Greet = Task.make("Greet")

const delivering = Layer.effect(
  TaskQueue.TaskQueue,
  Effect.map(TaskQueue.TaskQueue, (queue) => ({
    ...queue,
    name: "postman",
    capabilities: { ...queue.capabilities, claims: false },
  })),
).pipe(Layer.provide(TaskQueueMemory.layer))

it.effect("refuses to start over a queue that delivers by itself, and says what to do instead", () =>
  Effect.gen(function* () {
    const refused = yield* Effect.flip(
      Worker.make({ tasks: [Greet] }).pipe(
        Effect.provide([delivering, Instance.layerBackend(), Greet.toLayer(() => Effect.void)]),
      ),
    )
    assert(refused._tag === "TaskQueueError")
    assert.strictEqual(refused.reason, "NotSupported")
    assert.isFalse(refused.isRetryable)
    assert.include(refused.message, "postman")
    assert.include(refused.message, "PushHandler")
  }),
)

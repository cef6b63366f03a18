import { assert, it } from "@effect/vitest"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueueCloudTasks from "@outlive/node/TaskQueueCloudTasks"
import { Effect, Layer, Schema } from "effect"
import { CloudTasksServer, location, project, layer as Server } from "./cloudTasks/server.ts"

const Greet = Task.make("Greet", { payload: { who: Schema.String } })

const Queue = Layer.unwrap(
  Effect.map(CloudTasksServer, ({ client }) =>
    TaskQueueCloudTasks.layer({
      client,
      project,
      location,
      queues: { default: "tasks" },
      url: "http://127.0.0.1:1/_ah/queue/deferred",
      serviceAccount: "invoker@test-project.iam.gserviceaccount.com",
    }),
  ),
).pipe(Layer.provideMerge(Server))

it.effect("smoke", () =>
  Effect.gen(function* () {
    const server = yield* CloudTasksServer
    yield* server.createQueue("tasks")
    const ref = yield* Greet.defer({ who: "you" })
    assert.strictEqual(ref.outcome, "Inserted")
  }).pipe(Effect.provide(Queue)),
)

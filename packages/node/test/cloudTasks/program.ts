/** What the tests of Cloud Tasks have in common: a server, a queue over its client, and tasks. */
import * as Task from "@outlive/deferred/Task"
import * as TaskQueueCloudTasks from "@outlive/node/TaskQueueCloudTasks"
import { Effect, Layer, Schema } from "effect"
import { CloudTasksServer, location, project, layer as Server } from "./server.ts"

export class Greet extends Task.make("Greet", { payload: { who: Schema.String } }) {}
export class Mail extends Task.make("Mail", { payload: { to: Schema.String }, queue: "mail" }) {}

export const account = "invoker@test-project.iam.gserviceaccount.com"
export const queues = { default: "tasks", mail: "tasks-mail" }

export const options = {
  project,
  location,
  queues,
  // A port on which nobody listens.
  url: "http://127.0.0.1:1/_ah/queue/deferred",
  serviceAccount: account,
} satisfies TaskQueueCloudTasks.Options

/** A server with the queues of `options`, and the task queue over it. */
export const queueLayer = (more?: Partial<TaskQueueCloudTasks.Options>) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const { client, createQueue } = yield* CloudTasksServer
      for (const id of Object.values(queues)) yield* createQueue(id)
      return TaskQueueCloudTasks.layer({ ...options, client, ...more })
    }),
  ).pipe(Layer.provideMerge(Server))

/** The tasks that a Cloud Tasks queue holds. */
export const held = (queue: string) =>
  Effect.map(CloudTasksServer, ({ state }) => [
    ...state.queue(`projects/${project}/locations/${location}/queues/${queue}`).tasks.values(),
  ])

/**
 * A process with a durable engine of workflows and a task queue, both in one SQLite file. The first one starts an order and
 * has no workers; the second one has, and only looks at what becomes of the order.
 *
 *     node workflow.ts <file> first | second
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import * as TaskQueue from "@outlive/deferred/TaskQueue"
import * as Worker from "@outlive/deferred/Worker"
import * as SqliteClient from "@outlive/node/SqliteClient"
import * as TaskActivity from "@outlive/node/TaskActivity"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Console, Effect, Layer, Option, References, Schedule, Schema } from "effect"
import { ClusterWorkflowEngine, SingleRunner } from "effect/cluster"
import { Workflow } from "effect/workflow"

const [filename = "", part = ""] = process.argv.slice(2)

class Declined extends Schema.TaggedError<Declined>()("Declined", { cents: Schema.Int }) {}
const Charge = Task.make("Charge", { payload: { cents: Schema.Int }, error: Declined, retry: { Declined: "never" } })
const charge = TaskActivity.make(Charge)
const Order = Workflow.make("Order", {
  payload: { id: Schema.String },
  success: Schema.String,
  idempotencyKey: ({ id }) => id,
})
const OrderLayer = Order.toLayer(() =>
  charge({ cents: 42 }).pipe(
    Effect.as("paid"),
    Effect.catchTag("Declined", ({ cents }) => Effect.succeed(`declined ${cents}`)),
    Effect.orDie,
  ),
)
const Workers = Worker.layer({ tasks: [Charge] }).pipe(
  Layer.provide(Charge.toLayer(({ cents }) => Effect.fail(new Declined({ cents })))),
  Layer.provide(Instance.layerBackend()),
)
const Engine = OrderLayer.pipe(
  Layer.provideMerge(ClusterWorkflowEngine.layer),
  Layer.provide(
    SingleRunner.layer({ runnerStorage: "memory", shardingConfig: { entityMessagePollInterval: "100 millis" } }),
  ),
  Layer.provide(NodeCrypto.layerDigest),
)
const App = (part === "first" ? Engine : Layer.merge(Engine, Workers)).pipe(
  Layer.provideMerge(TaskQueueSqlite.layerClient),
  Layer.provideMerge(SqliteClient.layer({ filename })),
  Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Fatal")),
)

const records = Effect.flatMap(TaskQueue.TaskQueue, (queue) => queue.find({ limit: 10, now: 0 }))
const often = { schedule: Schedule.spaced("20 millis") }

const first = Effect.gen(function* () {
  yield* Order.execute({ id: "a" }, { discard: true })
  yield* Effect.repeat(records, { ...often, until: ({ records }) => records.length === 1 })
  yield* Console.log("deferred")
  return yield* Effect.never
})

const second = Effect.gen(function* () {
  const result = yield* Effect.repeat(Order.poll(yield* Order.executionId({ id: "a" })), {
    ...often,
    until: Option.isSome,
  })
  if (Option.isSome(result) && result.value._tag === "Complete") yield* Console.log(yield* result.value.exit)
  yield* Console.log(`${(yield* records).records.length} record`)
})

await Effect.runPromise(Effect.provide(part === "first" ? first : second, App))
process.exit(0)

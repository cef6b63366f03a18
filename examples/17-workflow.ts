/**
 * Tasks inside a workflow of Effect: orders wait for their charges, and go on with the typed end of each. The process that
 * took the orders is killed while it waits; the next one waits for the very same records. One file has the workflows and the
 * tasks.
 */
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import { PermanentTaskFailure } from "@outlive/deferred/TaskFailure"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as Worker from "@outlive/deferred/Worker"
import * as SqliteClient from "@outlive/node/SqliteClient"
import * as TaskActivity from "@outlive/node/TaskActivity"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Console, Effect, Layer, References, Schedule, Schema } from "effect"
import { ClusterWorkflowEngine, SingleRunner } from "effect/cluster"
import { Workflow } from "effect/workflow"

class Declined extends Schema.TaggedError<Declined>()("Declined", { attempt: Schema.Int }) {}

const Charge = Task.make("Charge", {
  payload: { cents: Schema.Int },
  success: Schema.Struct({ receipt: Schema.String }),
  error: Declined,
  retry: RetryPolicy.fixed("50 millis", { maxAttempts: 2 }),
})
const charge = TaskActivity.make(Charge)

const Order = Workflow.make("Order", {
  payload: { id: Schema.String, cents: Schema.Int },
  success: Schema.String,
  idempotencyKey: ({ id }) => id,
})

const OrderLayer = Order.toLayer(({ cents }) =>
  charge({ cents }).pipe(
    Effect.map(({ receipt }) => receipt),
    Effect.catchTags({
      // Its retries are exhausted: the task's own error.
      Declined: ({ attempt }) => Effect.succeed(`declined in attempt ${attempt}`),
      // Anything else that it died of.
      TaskDead: ({ reason }) => Effect.succeed(`gave up: ${reason}`),
    }),
    Effect.orDie,
  ),
)

const ChargeHandler = Charge.toLayer(({ cents }, { attempt }) => {
  if (cents === 13) return Effect.fail(new Declined({ attempt }))
  if (cents === 0) return Effect.fail(new PermanentTaskFailure({ message: "nothing to charge" }))
  return Effect.succeed({ receipt: `paid ${cents}` })
})

const Workers = Worker.layer({ tasks: [Charge] }).pipe(Layer.provide([ChargeHandler, Instance.layerBackend()]))

/** A durable engine in one process, and the task queue, over one SQLite file. */
const engineIn = (filename: string) =>
  OrderLayer.pipe(
    Layer.provideMerge(ClusterWorkflowEngine.layer),
    Layer.provide(
      SingleRunner.layer({ runnerStorage: "memory", shardingConfig: { entityMessagePollInterval: "100 millis" } }),
    ),
    Layer.provide(NodeCrypto.layerDigest),
    Layer.provideMerge(TaskQueueSqlite.layerClient),
    Layer.provideMerge(SqliteClient.layer({ filename })),
    // This program prints what became of each; an application wants the log.
    Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "None")),
  )

const orders = [
  { id: "a", cents: 4200 },
  { id: "b", cents: 13 },
  { id: "c", cents: 0 },
]
const charges = Effect.flatMap(TaskQueue, (queue) => queue.find({ task: "Charge", limit: 100, now: 0 }))

/** The process that takes the orders. It has no workers: the charges wait, and the orders for them. */
const takeOrders = Effect.gen(function* () {
  for (const order of orders) yield* Order.execute(order, { discard: true })
  yield* Effect.repeat(charges, {
    schedule: Schedule.spaced("10 millis"),
    until: ({ records }) => records.length === orders.length,
  })
  yield* Console.log("all orders wait for their charges")
  return yield* Effect.never
})

const killedAfterwards = (filename: string) =>
  Effect.callback<void>((resume) => {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), filename], {
      stdio: ["ignore", "pipe", "inherit"],
    })
    let said = ""
    child.stdout.once("data", (line: Buffer) => {
      said = line.toString().trim()
      child.kill("SIGKILL")
    })
    child.once("exit", (_, signal) => resume(Console.log(`${said}: ${signal}`)))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

const program = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-example-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true })),
  )
  const filename = join(folder, "shop.db")
  yield* killedAfterwards(filename)
  yield* Effect.gen(function* () {
    // The same executions, which go on from where they were.
    const ends = yield* Effect.forEach(orders, (order) => Order.execute(order), { concurrency: "unbounded" })
    yield* Effect.forEach(ends, (end, n) => Console.log(`order ${orders[n]?.id}: ${end}`))
    const { records } = yield* charges
    yield* Console.log(`${orders.length} orders, ${records.length} charges`)
  }).pipe(Effect.provide(Layer.provideMerge(Workers, engineIn(filename))))
}).pipe(Effect.scoped)

const [filename] = process.argv.slice(2)
if (import.meta.main)
  await Effect.runPromise(filename === undefined ? program : Effect.provide(takeOrders, engineIn(filename)))

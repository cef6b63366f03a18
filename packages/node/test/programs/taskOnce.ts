/**
 * A process that books one order exactly once, for TaskOnce.test.ts: `sqlite <file>` or `postgres <url> <schema>`, then where
 * it is to stop and say so, to be killed there: `inside` the step, when its row is written; `noted`, before the commit; `after`
 * it; or `never`: then it says how the order ended.
 */
import { writeSync } from "node:fs"
import { PgClient } from "@effect/sql-pg"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import * as TaskNotes from "@outlive/deferred/TaskNotes"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as Worker from "@outlive/deferred/Worker"
import * as SqliteClient from "@outlive/node/SqliteClient"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Layer, Redacted, References, Schema } from "effect"
import { SqlClient } from "effect/sql"

const [kind, address = "", ...rest] = process.argv.slice(2)
const [stop, schema] = [...rest].reverse()
const bookings = schema === undefined ? "bookings" : `${schema}.bookings`
const print = (line: string) => Effect.sync(() => writeSync(1, `${line}\n`))
const reach = (place: string) => (place === stop ? Effect.andThen(print(place), Effect.never) : Effect.void)

const Order = Task.make("Order", { payload: {}, success: Schema.String })

const OrderHandler = Order.toLayer((_, { attempt }) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const book = Effect.gen(function* () {
      yield* sql.unsafe(`INSERT INTO ${bookings} (attempt) VALUES (${attempt})`)
      yield* reach("inside")
      return attempt
    })
    const booked = yield* TaskNotes.once("book", Schema.Int, book)
    yield* reach("after")
    return `booked in ${booked}, ended in ${attempt}`
  }).pipe(Effect.orDie),
)

const Queue =
  kind === "postgres"
    ? TaskQueuePostgres.layer({ schema: schema ?? "outlive" }).pipe(
        Layer.provideMerge(PgClient.layer({ url: Redacted.make(address) })),
      )
    : TaskQueueSqlite.layerClient.pipe(Layer.provideMerge(SqliteClient.layer({ filename: address })))

/** Stops when all is written and nothing committed. */
const Stopping = Layer.effect(
  TaskQueue,
  Effect.map(TaskQueue, (queue) =>
    TaskQueue.of({ ...queue, transaction: (effect) => queue.transaction!(Effect.tap(effect, reach("noted"))) }),
  ),
)

const program = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql.unsafe(`CREATE TABLE IF NOT EXISTS ${bookings} (attempt INTEGER)`)
  const ref = yield* Order.defer({}, { name: "order", onDuplicate: "ignore" })
  yield* print(yield* ref.await)
})

const Workers = Worker.layer({ tasks: [Order], lease: "500 millis", pollInterval: "50 millis" }).pipe(
  Layer.provide(OrderHandler),
  Layer.provide(Instance.layerBackend()),
  Layer.provideMerge(Stopping),
  Layer.provideMerge(Queue),
)
await Effect.runPromise(
  program.pipe(Effect.provide(Workers), Effect.provideService(References.MinimumLogLevel, "Error")),
)

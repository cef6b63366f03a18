/**
 * A task in the application's own transaction: the order and its receipt are there together or not at all, and what the
 * handler writes happens once, with its success.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Instance from "@outlive/core/Instance"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import * as Task from "@outlive/deferred/Task"
import * as Worker from "@outlive/deferred/Worker"
import * as SqliteClient from "@outlive/node/SqliteClient"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Console, Effect, Layer, References, Schema } from "effect"
import { SqlClient } from "effect/sql"

class PrinterJam extends Schema.TaggedError<PrinterJam>()("PrinterJam", {}) {}

const PrintReceipt = Task.make("PrintReceipt", {
  payload: { order: Schema.Int },
  error: PrinterJam,
  commit: "withHandler",
  retry: RetryPolicy.fixed("10 millis", { maxAttempts: 3 }),
})

const placeOrder = (order: number, paid: boolean) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    return yield* sql.withTransaction(
      Effect.gen(function* () {
        yield* sql`INSERT INTO orders (id) VALUES (${order})`
        const receipt = yield* PrintReceipt.defer({ order }, { requireTransaction: true })
        return paid ? receipt : yield* Effect.fail("the card was declined")
      }),
    )
  })

const Workers = Worker.layer({ tasks: [PrintReceipt] }).pipe(
  Layer.provide(
    PrintReceipt.toLayer(({ order }, { attempt }) =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* Effect.orDie(sql`INSERT INTO receipts (number) VALUES (${order})`)
        // The first attempt fails after it has written: the receipt is gone with it.
        if (attempt === 1) return yield* Effect.fail(new PrinterJam())
      }),
    ),
  ),
)

const program = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE orders (id INTEGER PRIMARY KEY)`
  yield* sql`CREATE TABLE receipts (number INTEGER)`
  const declined = yield* Effect.flip(placeOrder(1, false))
  yield* Console.log(`order 1: ${declined}`)
  const receipt = yield* placeOrder(2, true)
  yield* receipt.await
  const orders = yield* sql<{ id: number }>`SELECT id FROM orders`
  const receipts = yield* sql<{ number: number }>`SELECT number FROM receipts`
  yield* Console.log(`orders: ${orders.map(({ id }) => id)}`)
  yield* Console.log(`receipts: ${receipts.map(({ number }) => number)}`)
  yield* Console.log(`attempts: ${(yield* receipt.attempts).map(({ outcome }) => outcome)}`)
})

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-example-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true })),
)
const Database = Layer.unwrap(Effect.map(folder, (path) => SqliteClient.layer({ filename: join(path, "shop.db") })))
const App = Workers.pipe(
  Layer.provideMerge(TaskQueueSqlite.layerClient),
  Layer.provideMerge(Database),
  Layer.provide(Instance.layerBackend()),
)

if (import.meta.main) {
  await Effect.runPromise(program.pipe(Effect.provide(App), Effect.provideService(References.MinimumLogLevel, "Error")))
}

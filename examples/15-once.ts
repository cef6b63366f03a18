/**
 * Exactly once, whatever dies: an order is booked in the application's own database by a process that is killed in the middle
 * of it, then by one that is killed just after it, and shipped by a third.
 */
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import * as TaskNotes from "@outlive/deferred/TaskNotes"
import * as Worker from "@outlive/deferred/Worker"
import * as SqliteClient from "@outlive/node/SqliteClient"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Console, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"

const Order = Task.make("Order", { payload: { number: Schema.Int }, success: Schema.String })

/** As if it were slow, in an attempt: to be killed there. */
const stopIn = (attempt: number, at: number) =>
  attempt === at ? Effect.andThen(Console.log(`attempt ${attempt}`), Effect.never) : Effect.void

const OrderHandler = Order.toLayer(({ number }, { attempt }) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const book = Effect.gen(function* () {
      yield* sql`INSERT INTO bookings (number, attempt) VALUES (${number}, ${attempt})`
      yield* stopIn(attempt, 1)
      return attempt
    })
    // The row and the note that it is there are one transaction.
    const booked = yield* TaskNotes.once("book", Schema.Int, book)
    yield* stopIn(attempt, 2)
    return `booked in attempt ${booked}, shipped in attempt ${attempt}`
  }).pipe(Effect.orDie),
)

const queueIn = (filename: string) =>
  TaskQueueSqlite.layerClient.pipe(Layer.provideMerge(SqliteClient.layer({ filename })))
const Workers = Worker.layer({ tasks: [Order], lease: "300 millis" }).pipe(
  Layer.provide([OrderHandler, Instance.layerBackend()]),
)

/** In a process of its own, which is killed when it says where it is. */
const killedAt = (filename: string) =>
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

const bookings = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ attempt: number }>`SELECT attempt FROM bookings`
  yield* Console.log(`bookings: ${rows.length === 0 ? "none" : rows.map(({ attempt }) => `of attempt ${attempt}`)}`)
})

const program = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-example-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true })),
  )
  const filename = join(folder, "shop.db")
  yield* Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`CREATE TABLE bookings (number INTEGER, attempt INTEGER)`
    const order = yield* Order.defer({ number: 7 })
    yield* killedAt(filename)
    yield* bookings
    yield* killedAt(filename)
    yield* bookings
    yield* Console.log(yield* Effect.provide(order.await, Workers))
    yield* bookings
  }).pipe(Effect.provide(queueIn(filename)))
}).pipe(Effect.scoped)

const [filename] = process.argv.slice(2)
const work = (file: string) =>
  Effect.scoped(Effect.andThen(Layer.build(Workers), Effect.never)).pipe(Effect.provide(queueIn(file)))
if (import.meta.main) await Effect.runPromise(filename === undefined ? program : work(filename))

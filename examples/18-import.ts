/**
 * Moving in: letters that wait in a `PersistedQueue` of Effect become tasks, by a typed mapping. The import may be run again at
 * any time, by several processes too: nothing is moved twice, and what cannot be moved stays where it is.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Instance from "@outlive/core/Instance"
import * as Task from "@outlive/deferred/Task"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as Worker from "@outlive/deferred/Worker"
import * as Import from "@outlive/node/Import"
import * as ImportPersistedQueue from "@outlive/node/ImportPersistedQueue"
import * as SqliteClient from "@outlive/node/SqliteClient"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Console, Effect, Layer, References, Schema } from "effect"
import { PersistedQueue } from "effect/persistence"

// What there is: a queue, and a table that an application has filled for years.
const Letter = Schema.Struct({ address: Schema.String, subject: Schema.String })
const letters = PersistedQueue.make({ name: "letters", schema: Letter })

// What it becomes.
const SendMail = Task.make("SendMail", {
  payload: { to: Schema.String.check(Schema.isPattern(/@/)), subject: Schema.String },
  success: Schema.String,
  queue: "mail",
})
const toSendMail = Import.to(SendMail, {
  from: Letter,
  payload: ({ address, subject }) => ({ to: address.toLowerCase(), subject }),
  options: (_, { attempts }) => ({ headers: { "failed-before": String(attempts) } }),
})
const move = ImportPersistedQueue.run({ name: "letters", to: toSendMail, idle: "1 second" })

const told = (report: Import.Report) =>
  Effect.gen(function* () {
    yield* Console.log(`moved ${report.moved}, known already ${report.already}`)
    for (const { count, name, why } of report.left) yield* Console.log(`left in ${name}: ${count}, ${why}`)
  })

const mails = Effect.flatMap(TaskQueue, (queue) => queue.find({ queue: "mail", limit: 100, now: 0 }))

/** Both queues in one SQLite file. */
const queuesIn = (filename: string) =>
  Layer.mergeAll(
    PersistedQueue.layer.pipe(Layer.provideMerge(PersistedQueue.layerStoreSql({ pollInterval: "20 millis" }))),
    TaskQueueSqlite.layerClient,
  ).pipe(Layer.provide(SqliteClient.layer({ filename })))

const Workers = Worker.layer({ tasks: [SendMail] }).pipe(
  Layer.provide(SendMail.toLayer(({ subject, to }) => Effect.succeed(`${subject} to ${to}`))),
  Layer.provide(Instance.layerBackend()),
)

const program = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-example-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true })),
  )
  yield* Effect.gen(function* () {
    const old = yield* letters
    for (const address of ["Ada@example.com", "Bob@example.com", "nowhere"])
      yield* old.offer({ address, subject: "Welcome" }, { id: `letter for ${address}` })
    yield* told(yield* move)

    // The old application still runs: it offers one that it has offered before, and a new one.
    for (const address of ["Ada@example.com", "Cyd@example.com"])
      yield* old.offer({ address, subject: "Welcome" }, { id: `letter for ${address}` })
    yield* told(yield* move)

    const { records } = yield* mails
    const ends = Effect.forEach(records, ({ id }) => Effect.flatMap(SendMail.ref(id), (ref) => ref.await))
    for (const line of yield* Effect.provide(ends, Workers)) yield* Console.log(line)
  }).pipe(Effect.provide(queuesIn(join(folder, "app.db"))))
}).pipe(
  Effect.scoped,
  // This program prints what became of each; an application wants the log.
  Effect.provideService(References.MinimumLogLevel, "None"),
)

if (import.meta.main) await Effect.runPromise(program)

/**
 * A process that imports, to be killed: `pgboss <url> <pg-boss's schema> <our schema>`, or `persisted <file> <name>` from and into
 * one SQLite file. It prints a line when it has begun, and one when it is done.
 */
import { PgClient } from "@effect/sql-pg"
import * as Task from "@outlive/deferred/Task"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as Import from "@outlive/node/Import"
import * as ImportPersistedQueue from "@outlive/node/ImportPersistedQueue"
import * as ImportPgBoss from "@outlive/node/ImportPgBoss"
import * as SqliteClient from "@outlive/node/SqliteClient"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Console, Effect, Layer, Redacted, Schema } from "effect"
import { PersistedQueue } from "effect/persistence"
import { SqlClient } from "effect/sql"

const [what, where = "", name = "", ours = ""] = process.argv.slice(2)
const Mail = Task.make("Mail", { payload: { to: Schema.String }, queue: "mail" })
const to = Import.to(Mail)

/** Something was stored: now it is worth killing it. */
const begun = Effect.gen(function* () {
  const queue = yield* TaskQueue
  const before = (yield* queue.counts({ now: 0 })).reduce((sum, { count }) => sum + count, 0)
  yield* Effect.repeat(queue.counts({ now: 0 }), {
    until: (counts) => counts.reduce((sum, { count }) => sum + count, 0) > before,
  })
  yield* Console.log("begun")
})

const program: Effect.Effect<unknown, unknown> =
  what === "pgboss"
    ? ImportPgBoss.run({ jobs: { mail: to }, schema: name, batch: 10 }).pipe(
        Effect.provide(Layer.effect(SqlClient.SqlClient, PgClient.PgClient)),
        (imported) => Effect.raceFirst(imported, Effect.andThen(begun, Effect.never)),
        Effect.provide(
          TaskQueuePostgres.layer({ schema: ours, listen: false }).pipe(
            Layer.provideMerge(PgClient.layer({ url: Redacted.make(where) })),
          ),
        ),
      )
    : ImportPersistedQueue.run({ name, to, idle: "2 seconds" }).pipe(
        (imported) => Effect.raceFirst(imported, Effect.andThen(begun, Effect.never)),
        Effect.provide(
          PersistedQueue.layerStoreSql({ pollInterval: "20 millis", lockExpiration: "1 second" }).pipe(
            Layer.provideMerge(TaskQueueSqlite.layerClient),
            Layer.provideMerge(SqliteClient.layer({ filename: where, synchronous: "normal" })),
          ),
        ),
      )

await Effect.runPromise(Effect.andThen(program, Console.log("done")))
process.exit(0)

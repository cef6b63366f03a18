/** The contract of task queues, as every driver keeps it, on a real Postgres: one schema, emptied for each test. */
import { PgClient } from "@effect/sql-pg"
import { afterAll, beforeAll, describe } from "@effect/vitest"
import * as TaskQueueModel from "@outlive/deferred/testing/TaskQueueModel"
import * as TaskQueueTest from "@outlive/deferred/testing/TaskQueueTest"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import { Effect, Layer, ManagedRuntime } from "effect"
import { isMissing, useDatabase } from "./postgres/database.ts"
import { newSchema } from "./postgres/records.ts"

const schema = newSchema()
const { client } = useDatabase()
// One pool of connections for the file: the tests build only the driver anew.
const runtime = ManagedRuntime.make(client)
beforeAll(async () => {
  if (!isMissing) await runtime.runPromise(TaskQueuePostgres.migrate({ schema }))
})
afterAll(async () => {
  await runtime.dispose()
})

/** Much faster than TRUNCATE for tables that are nearly empty. */
const empty = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const tables = [
    ...["records", "names", "queues", "executed", "workers", "payloads"],
    ...["keys", "lanes", "turns", "arrivals", "joins", "spacings"],
  ]
  for (const table of tables) yield* sql.unsafe(`DELETE FROM ${schema}.${table}`)
})

const onPostgres = Layer.unwrap(Effect.as(empty, TaskQueuePostgres.layer({ schema }))).pipe(
  Layer.provide(Layer.effectContext(runtime.contextEffect)),
)

describe.skipIf(isMissing)("on a real server", () => {
  TaskQueueTest.suite("postgres", onPostgres)
  TaskQueueModel.suite("postgres", onPostgres, { runs: 40 })
})

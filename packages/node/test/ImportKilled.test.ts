/** Imports in processes of their own, which are killed, and run again until one comes to its end. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as SqliteClient from "@outlive/node/SqliteClient"
import * as TaskQueuePostgres from "@outlive/node/TaskQueuePostgres"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Layer, Schema } from "effect"
import { PersistedQueue } from "effect/persistence"
import { SqlClient } from "effect/sql"
import { isMissing, useSqlDatabase } from "./import/database.ts"
import { newSchema } from "./postgres/records.ts"
import { newFile } from "./records.ts"

const program = fileURLToPath(new URL("programs/import.ts", import.meta.url))

/** Kills the first ones when they have begun, and gives how many it took. */
const runKilled = Effect.fnUntraced(function* (args: ReadonlyArray<string>, kills: number) {
  for (let runs = 1; ; runs++) {
    const last = yield* Effect.promise(async () => {
      const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "inherit"] })
      const ended = once(child, "exit")
      let said = ""
      for await (const line of createInterface({ input: child.stdout })) {
        said = line
        if (line === "begun" && runs <= kills) child.kill("SIGKILL")
      }
      await ended
      return said
    })
    if (last === "done") return runs
    assert.isAtMost(runs, kills, `ended with ${JSON.stringify(last)}`)
  }
})

const payloads = Effect.flatMap(TaskQueue, (queue) =>
  Effect.map(queue.find({ limit: 10_000, now: 0 }), ({ records }) => records.map(({ payload }) => payload)),
)
const numbers = (count: number) => Array.from({ length: count }, (_, index) => index + 1)
const mails = (count: number) => numbers(count).map((to) => `{"to":"${to}"}`)

const { client, url } = useSqlDatabase()

describe("an import that is killed and run again", () => {
  it.live.skipIf(isMissing)(
    "moves each job of pg-boss once",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const [theirs, ours] = [newSchema(), newSchema()]
        yield* sql`CREATE SCHEMA ${sql(theirs)}`
        const job = sql(`${theirs}.job`)
        yield* sql`
          CREATE TABLE ${job} (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text DEFAULT 'mail', priority int DEFAULT 0, data jsonb,
            state text DEFAULT 'created', retry_count int DEFAULT 0, start_after timestamptz DEFAULT now(),
            created_on timestamptz DEFAULT clock_timestamp()
          )`
        yield* sql`INSERT INTO ${job} (data) SELECT jsonb_build_object('to', n::text) FROM generate_series(1, 1000) n`
        const queue = TaskQueuePostgres.layer({ schema: ours, listen: false })
        const runs = yield* runKilled(["pgboss", url(), theirs, ours], 3)
        assert.isAbove(runs, 1)
        assert.deepStrictEqual(yield* Effect.provide(payloads, queue), mails(1000))
        assert.deepStrictEqual(yield* sql`SELECT id FROM ${job}`, [])
      }).pipe(Effect.provide(Layer.fresh(client))),
    60_000,
  )

  it.live(
    "moves each element of a PersistedQueue once",
    () =>
      Effect.gen(function* () {
        const filename = yield* newFile
        const app = PersistedQueue.layer.pipe(
          Layer.provideMerge(PersistedQueue.layerStoreSql()),
          Layer.provideMerge(TaskQueueSqlite.layerClient),
          Layer.provideMerge(SqliteClient.layer({ filename, synchronous: "normal" })),
          Layer.orDie,
        )
        yield* Effect.gen(function* () {
          const queue = yield* PersistedQueue.make({ name: "mails", schema: Schema.Struct({ to: Schema.String }) })
          yield* Effect.forEach(numbers(200), (to) => queue.offer({ to: String(to) }, { id: `mail-${to}` }))
        }).pipe(Effect.provide(Layer.fresh(app)))
        const runs = yield* runKilled(["persisted", filename, "mails"], 2)
        assert.isAbove(runs, 1)
        const found = yield* Effect.provide(payloads, Layer.fresh(app))
        assert.deepStrictEqual([...found].sort(), mails(200).sort())
      }),
    60_000,
  )
})
